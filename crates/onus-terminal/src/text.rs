//! The plain text of terminal output, for search.
//!
//! Escape sequences are dropped; backspace, carriage return and the simplest cursor and erase sequences are applied
//! within the line, so that a typed and corrected command reads as it looked. It keeps no screen: of full-screen
//! programs it gives the text in the order drawn, which is good enough to find words in.

use crate::escape::{Scanner, Token};

/// The longest line, in characters; a longer one is cut into several.
pub const LINE_BOUND: usize = 4096;

/// Turns output into lines of text, incrementally and with bounded memory.
#[derive(Debug, Clone, Default)]
pub struct PlainText {
    scanner: Scanner,
    line: Line,
}

impl PlainText {
    /// An empty text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes output and appends the lines it completes, without their ends. Trailing blanks are trimmed.
    pub fn feed(&mut self, bytes: &[u8], lines: &mut Vec<String>) {
        let Self { scanner, line } = self;
        scanner.scan(bytes, |token| line.take(token, lines));
    }

    /// Ends the text: the last line, if it isn't empty.
    pub fn finish(&mut self) -> Option<String> {
        let mut lines = Vec::new();
        self.line.end_unless_empty(&mut lines);
        lines.pop()
    }
}

#[derive(Debug, Clone, Default)]
struct Line {
    chars: Vec<char>,
    column: usize,
}

impl Line {
    fn take(&mut self, token: Token<'_>, lines: &mut Vec<String>) {
        match token {
            Token::Text(c) if c.is_control() => {}
            Token::Text(c) => self.put(c, lines),
            Token::Control(b'\t') => self.put(' ', lines),
            Token::Control(b'\r') => self.column = 0,
            Token::Control(0x08) => self.column = self.column.saturating_sub(1),
            Token::Control(0x0a..=0x0c) => self.end(lines),
            Token::Escape { intermediates: b"", last: b'D' | b'E' | b'c' } => self.end_unless_empty(lines),
            Token::Csi { body, last } => match (body, last) {
                (b"" | b"0", b'K') => self.chars.truncate(self.column),
                (b"1", b'K') => {
                    let end = self.column.min(self.chars.len());
                    self.chars[..end].fill(' ');
                }
                (b"2", b'K') => self.chars.clear(),
                (_, b'D') => self.column = self.column.saturating_sub(count(body)),
                (_, b'C') => self.column = self.column.saturating_add(count(body)).min(LINE_BOUND - 1),
                (_, b'G' | b'`') => self.column = (count(body) - 1).min(LINE_BOUND - 1),
                (_, b'P') => {
                    let start = self.column.min(self.chars.len());
                    let end = start.saturating_add(count(body)).min(self.chars.len());
                    self.chars.drain(start..end);
                }
                // The cursor goes elsewhere: what follows is no continuation of this line.
                (_, b'A' | b'B' | b'E' | b'F' | b'H' | b'J' | b'd' | b'f') => self.end_unless_empty(lines),
                _ => {}
            },
            Token::Control(_) | Token::Escape { .. } | Token::Dropped => {}
        }
    }

    fn put(&mut self, c: char, lines: &mut Vec<String>) {
        if self.column >= LINE_BOUND {
            self.end(lines);
        }
        if self.chars.len() < self.column {
            self.chars.resize(self.column, ' ');
        }
        match self.chars.get_mut(self.column) {
            Some(cell) => *cell = c,
            None => self.chars.push(c),
        }
        self.column += 1;
    }

    fn end(&mut self, lines: &mut Vec<String>) {
        let text: String = self.chars.drain(..).collect();
        lines.push(text.trim_end().to_owned());
        self.column = 0;
    }

    fn end_unless_empty(&mut self, lines: &mut Vec<String>) {
        if self.chars.iter().any(|c| !c.is_whitespace()) {
            self.end(lines);
        } else {
            self.chars.clear();
            self.column = 0;
        }
    }
}

/// The first parameter as a count: one when absent or zero.
fn count(body: &[u8]) -> usize {
    let digits = body.split(|byte| !byte.is_ascii_digit()).next().unwrap_or_default();
    let number = digits.iter().take(6).fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    number.max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: &[u8]) -> Vec<String> {
        let mut plain = PlainText::new();
        let mut lines = Vec::new();
        plain.feed(bytes, &mut lines);
        lines.extend(plain.finish());
        lines
    }

    #[test]
    fn text_reads_as_it_looked() {
        let cases: &[(&[u8], &[&str])] = &[
            (b"a\r\nb\r\n", &["a", "b"]),
            (b"\x1b]0;t\x07\x1b[32m$\x1b[0m lx\x08 \x08s\r\n", &["$ ls"]),
            (b"10%\r100%\r\n", &["100%"]),
            (b"long text\rshort\x1b[K\r\n", &["short"]),
            (b"\x1b[2J\x1b[1;1Hone\x1b[2;1Htwo", &["one", "two"]),
            (b"abc\x1b[2DX\r\n", &["aXc"]),
            (b"abcd\x1b[4D\x1b[2P\r\n", &["cd"]),
            (b"\n\n", &["", ""]),
            (b"a\tb", &["a b"]),
            (b"\x1b[999999999999C.", &[&format!("{}.", " ".repeat(LINE_BOUND - 1))]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(text(bytes), *expected, "{bytes:?}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut plain = PlainText::new();
        let mut lines = Vec::new();
        plain.feed(&vec![b'x'; 1 << 20], &mut lines);
        assert_eq!(lines.len(), (1 << 20) / LINE_BOUND - 1);
        assert!(plain.line.chars.capacity() <= 2 * LINE_BOUND);
    }

    proptest! {
        #[test]
        fn never_panics_and_chunks_dont_matter(bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), Just(0x1b), Just(b'['), Just(b'K'), Just(b'C'), Just(b'9'), Just(b'P')], 0..80))
        {
            let mut plain = PlainText::new();
            let mut lines = Vec::new();
            bytes.chunks(1).for_each(|chunk| plain.feed(chunk, &mut lines));
            lines.extend(plain.finish());
            prop_assert!(lines.iter().all(|line| !line.chars().any(char::is_control)));
            prop_assert_eq!(lines, text(&bytes));
        }
    }
}
