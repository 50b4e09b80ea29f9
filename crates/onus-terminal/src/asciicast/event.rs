//! What all versions of the format have in common: events, the header, and strings that are safe to print.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::visible::is_hidden;

/// Something that happened at a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Microseconds since the recording's start, from a monotonic clock.
    pub at_us: u64,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// The terminal was sent these bytes; a character may be torn between two events.
    Output(Vec<u8>),
    /// These bytes were typed.
    Input(Vec<u8>),
    /// The terminal's size changed: columns, rows.
    Resize(u16, u16),
    /// A label for this moment. Facts of a decision are compact JSON, `{"onus":"deny","rule":"p-77","op":14}`.
    Marker(String),
    /// The program ended with this status; 128+n for signal n.
    Exit(i32),
}

/// What a recording says about itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Header {
    /// Columns at the start.
    pub cols: u16,
    /// Rows at the start.
    pub rows: u16,
    /// The terminal's type, as in `TERM`. Version 3 only; version 2 carries it in `env`.
    pub term_type: Option<String>,
    /// Wall clock at the start, Unix seconds.
    pub timestamp_s: Option<u64>,
    /// Seconds to which a player shortens pauses.
    pub idle_time_limit_s: Option<f64>,
    /// The command that was recorded.
    pub command: Option<String>,
    /// A title.
    pub title: Option<String>,
    /// Environment that matters for the look.
    pub env: BTreeMap<String, String>,
    /// Colours.
    pub theme: Option<Theme>,
    /// Tags. Version 3 only.
    pub tags: Vec<String>,
}

/// A terminal's colours, `#rrggbb`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Theme {
    /// Foreground.
    pub fg: String,
    /// Background.
    pub bg: String,
    /// 8 or 16 colours joined by `:`.
    pub palette: String,
}

/// A JSON string in which each hidden character is spelled out as `\uXXXX`, so that the file itself can be shown.
pub(super) fn json_string(text: &str) -> String {
    // Serialising a string to memory can't fail.
    spelled_out(&serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned()))
}

/// Serialised JSON with its hidden characters spelled out. They only occur within strings.
pub(super) fn spelled_out(json: &str) -> String {
    use std::fmt::Write as _;

    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}
