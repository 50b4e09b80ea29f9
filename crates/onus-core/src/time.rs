//! Time as a value: pure code is handed it, and never asks a clock.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A moment, in milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// A length of time in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Millis(pub u64);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration; write a number and s, m, h or d, such as 30m")]
pub struct DurationError(String);

impl Timestamp {
    /// The moment that lies `span` later; stays at the largest value instead of wrapping.
    pub fn plus(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }
    /// How long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
    /// Year, month, day, hour, minute, second, weekday (1 = Monday … 7 = Sunday), in UTC (proleptic Gregorian).
    pub fn civil(self) -> Civil {
        let seconds = self.0 / 1000;
        let days = (seconds / 86_400) as i64;
        let of_day = seconds % 86_400;
        // Days to civil date after Howard Hinnant's public-domain derivation: eras of 400 years from 0000-03-01.
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + i64::from(month <= 2);
        Civil {
            year,
            month: month as u8,
            day: (doy - (153 * mp + 2) / 5 + 1) as u8,
            hour: (of_day / 3600) as u8,
            minute: (of_day % 3600 / 60) as u8,
            second: (of_day % 60) as u8,
            weekday: ((days + 3).rem_euclid(7) + 1) as u8,
        }
    }
    /// Reads `2026-11-22T09:03:00Z`, with optional seconds and milliseconds; only UTC.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let body = text.strip_suffix('Z')?;
        let (date, time) = body.split_once('T')?;
        let mut date = date.split('-');
        let (year, month, day) = (field(date.next()?, 4)?, field(date.next()?, 2)?, field(date.next()?, 2)?);
        if date.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
            return None;
        }
        let (clock, millis) = match time.split_once('.') {
            Some((clock, fraction)) => (clock, field(fraction, 3)?),
            None => (time, 0),
        };
        let mut clock = clock.split(':');
        let (hour, minute) = (field(clock.next()?, 2)?, field(clock.next()?, 2)?);
        let second = clock.next().map_or(Some(0), |s| field(s, 2))?;
        if clock.next().is_some() || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let (y, m, d) = (year as i64 - i64::from(month <= 2), month as i64, day as i64);
        let era = y.div_euclid(400);
        let yoe = y.rem_euclid(400);
        let doy = (153 * (if m > 2 { m - 3 } else { m + 9 }) + 2) / 5 + d - 1;
        let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
        let days = era * 146_097 + doe - 719_468;
        let parsed = Self(((days as u64 * 86_400) + hour * 3600 + minute * 60 + second) * 1000 + millis);
        // 31 February and the like come back as another date.
        let civil = parsed.civil();
        (u64::from(civil.month) == month && u64::from(civil.day) == day).then_some(parsed)
    }
}

fn field(text: &str, digits: usize) -> Option<u64> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// A moment taken apart, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// Year, Gregorian.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 1 = Monday to 7 = Sunday (ISO 8601).
    pub weekday: u8,
}

impl fmt::Display for Timestamp {
    /// RFC 3339, UTC, with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.civil();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            c.year,
            c.month,
            c.day,
            c.hour,
            c.minute,
            c.second,
            self.0 % 1000
        )
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Millis {
    /// Reads `30s`, `30m`, `8h`, `7d` or a bare number of milliseconds with `ms`.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let wrong = || DurationError(text.chars().take(40).collect());
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(split);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let factor = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 86_400_000 && n % 86_400_000 == 0 => write!(f, "{}d", n / 86_400_000),
            n if n >= 3_600_000 && n % 3_600_000 == 0 => write!(f, "{}h", n / 3_600_000),
            n if n >= 60_000 && n % 60_000 == 0 => write!(f, "{}m", n / 60_000),
            n if n >= 1000 && n % 1000 == 0 => write!(f, "{}s", n / 1000),
            n if n >= 60_000 => write!(f, "{}m{}s", n / 60_000, n % 60_000 / 1000),
            n => write!(f, "{n}ms"),
        }
    }
}

impl fmt::Debug for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_and_prints_as_rfc_3339() {
        for text in ["1970-01-01T00:00:00.000Z", "2026-11-22T09:03:00.250Z", "2028-02-29T23:59:59.999Z"] {
            assert_eq!(Timestamp::parse_rfc3339(text).map(|t| t.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Timestamp::parse_rfc3339("2026-11-22T09:03:00Z").map(|t| t.civil().weekday), Some(7), "a Sunday");
        for wrong in
            ["2026-02-31T00:00:00Z", "2026-11-22 09:03:00Z", "2026-11-22T25:00:00Z", "2026-11-22T09:03:00+01:00", ""]
        {
            assert_eq!(Timestamp::parse_rfc3339(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(Millis::parse("30m"), Ok(Millis(1_800_000)));
        assert_eq!(Millis::parse("30m").map(|m| m.to_string()).as_deref(), Ok("30m"));
        for wrong in ["30", "m", "", "-1s", "1y", "99999999999999999999h"] {
            assert!(Millis::parse(wrong).is_err(), "{wrong}");
        }
    }
}
