//! Writes asciicast v2, for players that know no newer one.
//!
//! The exit code, which v2 lacks, becomes a marker `exit N`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::event::{Event, EventKind, Header, Theme, json_string, spelled_out};
use super::v3::decoded;
use crate::utf8::Utf8Decoder;

/// The first line of a v2 file, with its newline. The terminal's type goes into `env` unless `TERM` is there; tags are
/// left out.
pub fn header(header: &Header) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        version: u8,
        width: u16,
        height: u16,
        #[serde(skip_serializing_if = "Option::is_none")]
        timestamp: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        idle_time_limit: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        command: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<&'a str, &'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        theme: Option<&'a Theme>,
    }
    let mut env: BTreeMap<&str, &str> =
        header.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    if let Some(kind) = &header.term_type {
        env.entry("TERM").or_insert(kind);
    }
    let line = Line {
        version: 2,
        width: header.cols,
        height: header.rows,
        timestamp: header.timestamp_s,
        idle_time_limit: header.idle_time_limit_s,
        command: header.command.as_deref(),
        title: header.title.as_deref(),
        env,
        theme: header.theme.as_ref(),
    };
    let json = serde_json::to_string(&line).expect("a struct of numbers, strings and string maps serialises");
    spelled_out(&json) + "\n"
}

/// Writes events one after the other.
#[derive(Debug, Clone, Default)]
pub struct Writer {
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
            EventKind::Exit(code) => ('m', format!("exit {code}")),
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

    fn line(&self, code: char, data: &str) -> String {
        let (seconds, micros) = (self.last_us / 1_000_000, self.last_us % 1_000_000);
        format!("[{seconds}.{micros:06}, \"{code}\", {}]\n", json_string(data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_and_the_exit_a_marker() {
        let mut writer = Writer::new();
        let mut text = header(&Header {
            cols: 80,
            rows: 24,
            term_type: Some("xterm".to_owned()),
            tags: vec!["t".to_owned()],
            ..Header::default()
        });
        for (at_us, kind) in [
            (250_000, EventKind::Output(b"$ ".to_vec())),
            (1_250_001, EventKind::Input(b"i".to_vec())),
            (1_250_000, EventKind::Resize(100, 30)),
            (2_100_000, EventKind::Exit(3)),
        ] {
            text += &writer.event(&Event { at_us, kind });
        }
        assert_eq!(
            text,
            r#"{"version":2,"width":80,"height":24,"env":{"TERM":"xterm"}}
[0.250000, "o", "$ "]
[1.250001, "i", "i"]
[1.250001, "r", "100x30"]
[2.100000, "m", "exit 3"]
"#
        );
    }
}
