//! Writes asciicast v3: intervals, exit codes, comments.
//!
//! Pure: each call gives the text to append to the file. It doesn't seal or hash; comments may carry digests.

use std::collections::BTreeMap;

use serde::Serialize;

use super::event::{Event, EventKind, Header, Theme, json_string, spelled_out};
use crate::utf8::Utf8Decoder;

/// The first line of a v3 file, with its newline.
pub fn header(header: &Header) -> String {
    #[derive(Serialize)]
    struct Term<'a> {
        cols: u16,
        rows: u16,
        #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
        kind: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        theme: Option<&'a Theme>,
    }
    #[derive(Serialize)]
    struct Line<'a> {
        version: u8,
        term: Term<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        timestamp: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        idle_time_limit: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        command: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        env: &'a BTreeMap<String, String>,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        tags: &'a [String],
    }
    let line = Line {
        version: 3,
        term: Term {
            cols: header.cols,
            rows: header.rows,
            kind: header.term_type.as_deref(),
            theme: header.theme.as_ref(),
        },
        timestamp: header.timestamp_s,
        idle_time_limit: header.idle_time_limit_s,
        command: header.command.as_deref(),
        title: header.title.as_deref(),
        env: &header.env,
        tags: &header.tags,
    };
    let json = serde_json::to_string(&line).expect("a struct of numbers, strings and string maps serialises");
    spelled_out(&json) + "\n"
}

/// A comment line; what would end the line is spelled out. Readers skip it.
pub fn comment(text: &str) -> String {
    format!("# {}\n", crate::visible::visible(text))
}

/// Writes events one after the other.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    quantiser: Quantiser,
    output: Utf8Decoder,
    input: Utf8Decoder,
    last_us: u64,
}

impl Writer {
    /// A writer at the start of a recording.
    pub fn new() -> Self {
        Self::default()
    }

    /// The line of `event` with its newline; empty when it only held the start of a torn character.
    ///
    /// An event earlier than the one before it is written at the same moment.
    pub fn event(&mut self, event: &Event) -> String {
        self.last_us = self.last_us.max(event.at_us);
        let (code, data) = match &event.kind {
            EventKind::Output(bytes) => match decoded(&mut self.output, bytes) {
                Some(text) => ('o', text),
                None => return String::new(),
            },
            EventKind::Input(bytes) => match decoded(&mut self.input, bytes) {
                Some(text) => ('i', text),
                None => return String::new(),
            },
            EventKind::Resize(cols, rows) => ('r', format!("{cols}x{rows}")),
            EventKind::Marker(label) => ('m', label.clone()),
            EventKind::Exit(code) => ('x', code.to_string()),
        };
        self.line(code, &data)
    }

    /// What is still held when the recording ends: torn characters, as U+FFFD.
    pub fn finish(&mut self) -> String {
        let mut lines = String::new();
        for code in ['o', 'i'] {
            let mut text = String::new();
            if code == 'o' { &mut self.output } else { &mut self.input }.finish(&mut text);
            if !text.is_empty() {
                lines.push_str(&self.line(code, &text));
            }
        }
        lines
    }

    fn line(&mut self, code: char, data: &str) -> String {
        let interval_ms = self.quantiser.interval_ms(self.last_us);
        format!("[{}.{:03}, \"{code}\", {}]\n", interval_ms / 1000, interval_ms % 1000, json_string(data))
    }
}

/// Cuts moments into intervals of whole milliseconds, carrying the rounding error so that sums don't drift.
#[derive(Debug, Clone, Default)]
struct Quantiser {
    written_ms: u64,
}

impl Quantiser {
    fn interval_ms(&mut self, at_us: u64) -> u64 {
        let at_ms = at_us / 1000 + u64::from(at_us % 1000 >= 500);
        let interval = at_ms.saturating_sub(self.written_ms);
        self.written_ms += interval;
        interval
    }
}

/// The text that `bytes` complete; `None` when they only begin a character.
pub(super) fn decoded(decoder: &mut Utf8Decoder, bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    decoder.decode(bytes, &mut text);
    (!text.is_empty() || bytes.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(at_us: u64, kind: EventKind) -> Event {
        Event { at_us, kind }
    }

    #[test]
    fn the_vector_of_the_format_page() {
        let mut text = header(&Header {
            cols: 80,
            rows: 24,
            term_type: Some("xterm-256color".to_owned()),
            timestamp_s: Some(1_767_225_600),
            title: Some("s_01".to_owned()),
            ..Header::default()
        });
        let mut writer = Writer::new();
        for (at_us, kind) in [
            (250_000, EventKind::Output(b"$ ".to_vec())),
            (1_250_000, EventKind::Input(b"i".to_vec())),
            (1_300_000, EventKind::Output(b"i".to_vec())),
            (2_000_000, EventKind::Resize(100, 30)),
        ] {
            text += &writer.event(&event(at_us, kind));
        }
        text += &comment("seg 1 sha256 ...");
        text += &writer.event(&event(2_100_000, EventKind::Exit(0)));
        assert_eq!(
            text,
            r#"{"version":3,"term":{"cols":80,"rows":24,"type":"xterm-256color"},"timestamp":1767225600,"title":"s_01"}
[0.250, "o", "$ "]
[1.000, "i", "i"]
[0.050, "o", "i"]
[0.700, "r", "100x30"]
# seg 1 sha256 ...
[0.100, "x", "0"]
"#
        );
    }

    #[test]
    fn torn_characters_are_held_and_hidden_ones_spelled_out() {
        let mut writer = Writer::new();
        assert_eq!(writer.event(&event(0, EventKind::Output(b"\xe2\x82".to_vec()))), "");
        assert_eq!(
            writer.event(&event(1_000, EventKind::Output(b"\xac\x00\x1b\x7f\"".to_vec()))),
            "[0.001, \"o\", \"\u{20ac}\\u0000\\u001b\\u007f\\\"\"]\n"
        );
        assert_eq!(
            writer.event(&event(0, EventKind::Marker("\u{9b}\u{202e}\u{e0041}".to_owned()))),
            "[0.000, \"m\", \"\\u009b\\u202e\\udb40\\udc41\"]\n",
        );
        assert_eq!(writer.event(&event(0, EventKind::Input(b"\xf0".to_vec()))), "");
        assert_eq!(writer.finish(), "[0.000, \"i\", \"\u{fffd}\"]\n");
        assert_eq!(writer.finish(), "");
    }

    #[test]
    fn a_comment_stays_one_line() {
        assert_eq!(comment("a\n[0, \"o\", \"forged\"]"), "# a\\x0a[0, \"o\", \"forged\"]\n");
    }

    proptest! {
        #[test]
        fn sums_dont_drift(gaps in prop::collection::vec(0u64..5_000, 1..200)) {
            let (mut quantiser, mut at_us, mut sum_ms) = (Quantiser::default(), 0, 0);
            for gap in gaps {
                at_us += gap;
                sum_ms += quantiser.interval_ms(at_us);
                prop_assert!((sum_ms * 1000).abs_diff(at_us) <= 500);
            }
        }
    }
}
