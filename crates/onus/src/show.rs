//! What people see: failures, tables, moments. Text from elsewhere is escaped before a terminal gets it.

use crate::offline::shown::{brief, one_line};
use anstream::{eprintln, println};
use onus_core::time::{Millis, Timestamp};
use serde_json::Value;
use std::fmt;
use std::process::ExitCode;

/// Why a command was not done: what is wrong, what to do, and several things at once where there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong.
    pub what: String,
    /// What to do next.
    pub next: Option<String>,
    /// Several problems.
    pub problems: Vec<String>,
    /// The exit status: 1, or 2 for a command line that makes no sense.
    pub status: u8,
}

/// What a command comes to.
pub type Outcome = Result<ExitCode, Failure>;

impl Failure {
    /// A failure in words.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), next: None, problems: Vec::new(), status: 1 }
    }

    /// A command line that makes no sense.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { status: 2, ..Self::new(what) }
    }

    /// A failure with all its causes.
    pub fn caused(doing: impl fmt::Display, fault: &dyn std::error::Error) -> Self {
        let mut text = format!("{doing}: {fault}");
        let mut source = fault.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Transparent errors repeat themselves.
            if !text.ends_with(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Self::new(text)
    }

    /// Says what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// The exit status of an outcome; a failure is told on standard error.
pub fn exit(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            let (red, plain) = ("\u{1b}[31m", "\u{1b}[0m");
            eprintln!("{red}onus:{plain} {}", lines(&failure.what));
            for problem in &failure.problems {
                eprintln!("  {}", lines(problem));
            }
            if let Some(next) = &failure.next {
                eprintln!("  next: {}", lines(next));
            }
            ExitCode::from(failure.status)
        }
    }
}

fn lines(text: &str) -> String {
    text.lines().map(crate::offline::shown::plain).collect::<Vec<_>>().join("\n  ")
}

/// JSON for scripts, one value.
pub fn json(value: &Value) -> ExitCode {
    println!("{value:#}");
    ExitCode::SUCCESS
}

/// A field as one line of text, safe for a terminal.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => one_line(text),
        Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn text_of(value: &Value) -> String {
    text(value)
}

/// A longer text, cut to fit.
pub fn short(value: &Value, max: usize) -> String {
    value.as_str().map_or_else(|| text(value), |text| brief(text, max))
}

/// A moment in milliseconds as people read it.
pub fn moment(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), |ms| Timestamp(ms).to_string())
}

/// How far a moment lies ahead, in whole minutes (the nearest: what was granted for 30m reads so) or seconds.
pub fn ahead(value: &Value) -> String {
    let Some(ms) = value.as_u64() else { return "-".to_owned() };
    let left = Timestamp(ms).since(onus_gateway::now()).0;
    match left {
        0 => "over".to_owned(),
        ms if ms >= 60_000 => match (ms + 30_000) / 60_000 {
            minutes if minutes >= 60 => format!("{}h{:02}m", minutes / 60, minutes % 60),
            minutes => format!("{minutes}m"),
        },
        ms => format!("{}s", ms.div_ceil(1000)),
    }
}

/// A span in milliseconds.
pub fn span(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), |ms| Millis(ms).to_string())
}

/// A table; says so when it is empty.
pub fn table(head: &[&str], rows: &[Vec<String>], empty: &str) {
    if rows.is_empty() {
        println!("{empty}");
        return;
    }
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for (cell, width) in cells.zip(&widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 2));
        }
        out.trim_end().to_owned()
    };
    println!("\u{1b}[1m{}\u{1b}[0m", line(&mut head.iter().copied()));
    for row in rows {
        println!("{}", line(&mut row.iter().map(String::as_str)));
    }
}

/// The items of a list in an answer.
pub fn items<'a>(answer: &'a Value, list: &str) -> &'a [Value] {
    answer[list].as_array().map_or(&[], Vec::as_slice)
}
