//! Lines accepted before, newest last. In memory only and bounded; it isn't the record of anything.

use std::collections::VecDeque;

/// The most lines kept.
const LINES_BOUND: usize = 1000;
/// The most bytes kept in all.
const BYTES_BOUND: usize = 256 * 1024;

/// Bounded history and the place in it.
#[derive(Clone, Default)]
pub(super) struct History {
    lines: VecDeque<String>,
    bytes: usize,
    /// The line being shown, while going through; the draft that was left for it.
    at: Option<(usize, String)>,
}

impl History {
    /// Keeps `line` unless it is blank, begins with a space, or repeats the newest. Whether it was kept.
    pub(super) fn push(&mut self, line: &str) -> bool {
        self.at = None;
        if line.trim().is_empty() || line.starts_with(' ') || self.lines.back().is_some_and(|last| last == line) {
            return false;
        }
        self.bytes += line.len();
        self.lines.push_back(line.to_owned());
        while self.lines.len() > LINES_BOUND || self.bytes > BYTES_BOUND {
            self.bytes -= self.lines.pop_front().map_or(0, |oldest| oldest.len());
        }
        true
    }

    /// Takes the newest line back.
    pub(super) fn forget_newest(&mut self) {
        self.bytes -= self.lines.pop_back().map_or(0, |newest| newest.len());
    }

    /// Stops going through.
    pub(super) fn leave(&mut self) {
        self.at = None;
    }

    /// The line before the one shown; `current` is kept as the draft when going starts.
    pub(super) fn older(&mut self, current: &str) -> Option<String> {
        let index = self.at.as_ref().map_or(self.lines.len(), |(index, _)| *index).checked_sub(1)?;
        let draft = self.at.take().map_or_else(|| current.to_owned(), |(_, draft)| draft);
        self.at = Some((index, draft));
        self.lines.get(index).cloned()
    }

    /// The line after the one shown; after the newest, the draft.
    pub(super) fn newer(&mut self) -> Option<String> {
        let (index, draft) = self.at.take()?;
        match self.lines.get(index + 1) {
            Some(line) => {
                self.at = Some((index + 1, draft));
                Some(line.clone())
            }
            None => Some(draft),
        }
    }

    /// The newest line older than `before` that contains `query`: its number and where.
    pub(super) fn find(&self, query: &str, before: usize) -> Option<(usize, usize)> {
        let before = before.min(self.lines.len());
        (0..before).rev().find_map(|index| Some((index, self.lines[index].find(query)?)))
    }

    pub(super) fn line(&self, index: usize) -> &str {
        self.lines.get(index).map_or("", String::as_str)
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
