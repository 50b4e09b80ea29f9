//! Playing a recording in one's own terminal: the clock, the keys and the screen around `onus-terminal`'s player.
//!
//! What was recorded was written by whoever is recorded, so only what draws reaches this terminal (the player sees to
//! it), and the terminal is put in order afterwards.

use crate::show::{Failure, Outcome};
use crate::tape::Recording;
use onus_core::time::Timestamp;
use onus_terminal::Player;
use onus_terminal::player::Options;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What a player leaves behind: no colours, the main screen, a cursor, wrapping lines.
const ORDER: &[u8] = b"\x1b[0m\x1b[?1049l\x1b[?25h\x1b[?7h\x1b[r\x1b(B";
/// How far an arrow key goes.
const LEAP_US: u64 = 5_000_000;

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// At the beginning.
    Start,
    /// At a moment of the day, UTC.
    Moment(Timestamp),
    /// This long after the beginning, in microseconds.
    After(u64),
    /// At an operation.
    Operation(u64),
}

impl From {
    /// Reads `+12.5` (seconds after the beginning) or a moment such as `2026-11-18T12:00:00Z`.
    ///
    /// # Errors
    /// In words, for clap.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(seconds) = text.strip_prefix('+') {
            return micros(seconds).map(Self::After);
        }
        let wrong = || format!("`{text}` is neither +SECONDS nor a moment such as 2026-11-18T12:00:00Z");
        Timestamp::parse_rfc3339(text).map(Self::Moment).ok_or_else(wrong)
    }
}

/// Reads seconds, `0.5`, as microseconds.
///
/// # Errors
/// In words, for clap.
pub fn micros(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..1e9).contains(&seconds) => Ok((seconds * 1e6) as u64),
        _ => Err(format!("`{text}` is no number of seconds, such as 2 or 0.5")),
    }
}

/// Reads a speed, `2` or `0.5`, as percent.
///
/// # Errors
/// In words, for clap.
pub fn speed(text: &str) -> Result<NonZeroU32, String> {
    let percent = text.parse::<f64>().ok().filter(|speed| (0.01..=1000.0).contains(speed));
    percent
        .and_then(|speed| NonZeroU32::new((speed * 100.0).round() as u32))
        .ok_or_else(|| format!("`{text}` is no speed; write such as 2 or 0.5"))
}

/// The terminal of standard input with keys as they are typed; put back when this goes.
struct Keys {
    before: Termios,
}

impl Keys {
    fn take() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        // Not signals: Ctrl-C is read as a key, so that the terminal is put in order first.
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// What was asked for by a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Quit,
    Pause,
    Back,
    Forth,
    Nothing,
}

fn wish(typed: &[u8]) -> Wish {
    match typed {
        [] => Wish::Quit,
        [b'q' | b'Q' | 3 | 4, ..] => Wish::Quit,
        [b' ', ..] => Wish::Pause,
        [0x1b, b'[' | b'O', b'D', ..] => Wish::Back,
        [0x1b, b'[' | b'O', b'C', ..] => Wish::Forth,
        _ => Wish::Nothing,
    }
}

/// Waits for a key; `None` when the time is over first. A terminal that is gone counts as a wish to quit.
fn key(wait: Option<Duration>, interactive: bool) -> Option<Wish> {
    if !interactive {
        std::thread::sleep(wait.unwrap_or(Duration::ZERO));
        return None;
    }
    let stdin = io::stdin();
    let mut watched = [PollFd::new(&stdin, PollFlags::IN)];
    let timeout = wait.map(|wait| Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(wait.subsec_nanos()),
    });
    match poll(&mut watched, timeout.as_ref()) {
        Ok(0) => None,
        Ok(_) => {
            let mut typed = [0; 16];
            // Standard library's buffer would keep what poll can't see; a terminal gives what there is.
            let read = rustix::io::read(&stdin, &mut typed).unwrap_or(0);
            Some(wish(&typed[..read]))
        }
        Err(rustix::io::Errno::INTR) => Some(Wish::Nothing),
        Err(_) => Some(Wish::Quit),
    }
}

/// Plays a recording on standard output.
///
/// # Errors
/// When there is no such place to begin at, or the terminal can't be written.
pub fn play(recording: Recording, from: &From, options: Options) -> Outcome {
    let began_ms = recording.began_ms;
    let mut player = Player::new((recording.header.cols, recording.header.rows), recording.events, options);
    match from {
        From::Start => {}
        From::After(us) => player.seek(*us),
        From::Moment(at) => player.seek(at.0.saturating_sub(began_ms).saturating_mul(1000)),
        From::Operation(op) if !player.seek_operation(*op) => {
            return Err(Failure::new(format!("the recording has no operation {op}"))
                .next("`onus session replay ID --print` lists them"));
        }
        From::Operation(_) => {}
    }
    let keys = if io::stdin().is_terminal() { Keys::take() } else { None };
    let mut out = io::stdout().lock();
    let played = run(&mut player, keys.is_some(), &mut out);
    let ordered = out.write_all(ORDER).and_then(|()| out.write_all(b"\r\n")).and_then(|()| out.flush());
    drop(keys);
    played.and(ordered).map_err(|fault| Failure::caused("cannot write to the terminal", &fault))?;
    Ok(ExitCode::SUCCESS)
}

fn run(player: &mut Player, interactive: bool, out: &mut impl Write) -> io::Result<()> {
    loop {
        let Some(step) = player.next() else {
            match player.is_paused().then(|| key(None, interactive)).flatten() {
                Some(wish) if obeyed(player, wish) => continue,
                _ => return Ok(()),
            }
        };
        if !waited(player, Duration::from_micros(step.delay_us), interactive) {
            return Ok(());
        }
        out.write_all(&step.bytes)?;
        out.flush()?;
    }
}

/// Waits until a step is to be shown; false to stop. A leap shows it at once: the player counts it as shown.
fn waited(player: &mut Player, delay: Duration, interactive: bool) -> bool {
    let due = Instant::now() + delay;
    while !delay.is_zero() {
        let wait = (!player.is_paused()).then(|| due.saturating_duration_since(Instant::now()));
        match key(wait, interactive) {
            None => return true,
            Some(wish @ (Wish::Back | Wish::Forth)) => return obeyed(player, wish),
            Some(wish) if !obeyed(player, wish) => return false,
            Some(_) => {}
        }
    }
    true
}

/// Does what a key asks; false to stop.
fn obeyed(player: &mut Player, wish: Wish) -> bool {
    match wish {
        Wish::Quit => return false,
        Wish::Pause if player.is_paused() => player.resume(),
        Wish::Pause => player.pause(),
        Wish::Back | Wish::Forth => leap(player, wish),
        Wish::Nothing => {}
    }
    true
}

fn leap(player: &mut Player, wish: Wish) {
    let at = player.position_us();
    player.seek(if wish == Wish::Back { at.saturating_sub(LEAP_US) } else { at.saturating_add(LEAP_US) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use onus_terminal::{Event, EventKind};

    #[test]
    fn places_and_speeds_are_read_or_refused() {
        assert_eq!(From::parse("+1.5"), Ok(From::After(1_500_000)));
        assert_eq!(From::parse("1970-01-01T00:00:01Z"), Ok(From::Moment(Timestamp(1000))));
        for wrong in ["", "1.5", "+x", "+-1", "noon", "+1e99"] {
            assert!(From::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(speed("2").map(NonZeroU32::get), Ok(200));
        assert_eq!(speed("0.5").map(NonZeroU32::get), Ok(50));
        for wrong in ["0", "-1", "x", "1e9", "nan"] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_mean_what_the_help_says() {
        assert_eq!((wish(b" "), wish(b"q"), wish(&[3]), wish(b"")), (Wish::Pause, Wish::Quit, Wish::Quit, Wish::Quit));
        assert_eq!((wish(b"\x1b[C"), wish(b"\x1b[D"), wish(b"x")), (Wish::Forth, Wish::Back, Wish::Nothing));
    }

    #[test]
    fn without_a_keyboard_a_recording_plays_to_its_end() {
        let output = |at_us, text: &str| Event { at_us, kind: EventKind::Output(text.into()) };
        let options = Options { speed_percent: NonZeroU32::new(100_000).unwrap(), ..Options::default() };
        let mut player = Player::new((80, 24), vec![output(1_000, "a"), output(900_000, "b\x1b[6n")], options);
        let mut out = Vec::new();
        run(&mut player, false, &mut out).unwrap();
        assert_eq!(out, b"ab");
    }
}
