//! Cuts typed input into keys.
//!
//! Sequences torn between reads are held; unknown ones become [`Key::Other`] and never text. A lone escape key is held
//! until the next byte, since without a clock it can't be told from the start of a sequence.

use crate::utf8::Utf8Decoder;

/// The most bytes of a key's sequence that are kept.
const SEQUENCE_BOUND: usize = 16;

/// One key, or what a terminal sends in place of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A character; C1 controls never, invalid bytes as U+FFFD.
    Char(char),
    /// A C0 control character or DEL.
    Control(u8),
    /// A character with alt (escape before it); DEL is alt-backspace.
    Alt(char),
    /// Cursor up.
    Up,
    /// Cursor down.
    Down,
    /// Cursor left.
    Left,
    /// Cursor right.
    Right,
    /// Cursor left with control or alt.
    WordLeft,
    /// Cursor right with control or alt.
    WordRight,
    /// Home.
    Home,
    /// End.
    End,
    /// Delete.
    Delete,
    /// A paste begins (`ESC [ 200 ~`).
    PasteStart,
    /// A paste ends (`ESC [ 201 ~`).
    PasteEnd,
    /// A key or a report of the terminal that isn't one of these.
    Other,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    Csi,
    /// `ESC O` or `ESC [ [`: one more byte.
    Single,
}

/// An incremental key parser.
#[derive(Debug, Clone, Default)]
pub struct KeyParser {
    state: State,
    decoder: Utf8Decoder,
    body: Vec<u8>,
    text: String,
}

impl KeyParser {
    /// A parser at the start of the input.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one byte and appends the keys it completes, two at most (a torn character, then what cut it short).
    pub fn feed(&mut self, byte: u8, out: &mut Vec<Key>) {
        // Controls act wherever they come, so that an interrupt is never swallowed by half a sequence.
        if byte < 0x20 || byte == 0x7f && self.state != State::Escape {
            self.flush(out);
            if self.state != State::Ground && byte == 0x1b {
                out.push(Key::Other);
            }
            self.state = if byte == 0x1b { State::Escape } else { State::Ground };
            if byte != 0x1b {
                out.push(Key::Control(byte));
            }
            return;
        }
        match self.state {
            State::Ground => {
                self.decoder.decode(&[byte], &mut self.text);
                self.drain(out);
            }
            State::Escape => match byte {
                b'[' => {
                    self.state = State::Csi;
                    self.body.clear();
                }
                b'O' => self.state = State::Single,
                0x80.. => {
                    self.state = State::Ground;
                    self.feed(byte, out);
                }
                _ => {
                    self.state = State::Ground;
                    out.push(Key::Alt(char::from(byte)));
                }
            },
            State::Csi => match byte {
                b'[' if self.body.is_empty() => self.state = State::Single,
                // One byte over the bound is kept so that a sequence cut short can't be taken for a known one.
                0x20..=0x3f => {
                    if self.body.len() <= SEQUENCE_BOUND {
                        self.body.push(byte);
                    }
                }
                _ => {
                    self.state = State::Ground;
                    out.push(if byte < 0x80 { named(&self.body, byte) } else { Key::Other });
                }
            },
            State::Single => {
                self.state = State::Ground;
                out.push(match byte {
                    b'A' => Key::Up,
                    b'B' => Key::Down,
                    b'C' => Key::Right,
                    b'D' => Key::Left,
                    b'H' => Key::Home,
                    b'F' => Key::End,
                    b'M' => Key::Control(b'\r'),
                    _ => Key::Other,
                });
            }
        }
    }

    fn flush(&mut self, out: &mut Vec<Key>) {
        self.decoder.finish(&mut self.text);
        self.drain(out);
    }

    fn drain(&mut self, out: &mut Vec<Key>) {
        out.extend(self.text.drain(..).map(|c| if c.is_control() { Key::Other } else { Key::Char(c) }));
    }
}

fn named(body: &[u8], last: u8) -> Key {
    match (body, last) {
        (b"" | b"1", b'A') => Key::Up,
        (b"" | b"1", b'B') => Key::Down,
        (b"" | b"1", b'C') => Key::Right,
        (b"" | b"1", b'D') => Key::Left,
        (b"" | b"1", b'H') | (b"1" | b"7", b'~') => Key::Home,
        (b"" | b"1", b'F') | (b"4" | b"8", b'~') => Key::End,
        (b"3", b'~') => Key::Delete,
        (b"1;5" | b"1;3" | b"5", b'C') => Key::WordRight,
        (b"1;5" | b"1;3" | b"5", b'D') => Key::WordLeft,
        (b"200", b'~') => Key::PasteStart,
        (b"201", b'~') => Key::PasteEnd,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut parser = KeyParser::new();
        let mut out = Vec::new();
        bytes.iter().for_each(|&byte| parser.feed(byte, &mut out));
        out
    }

    #[test]
    fn keys_are_recognised() {
        use Key::*;
        let cases: &[(&[u8], &[Key])] = &[
            (b"ab", &[Char('a'), Char('b')]),
            ("ż".as_bytes(), &[Char('ż')]),
            (b"\x1b[A\x1bOA", &[Up, Up]),
            (b"\x1b[1;5D\x1b[3~", &[WordLeft, Delete]),
            (b"\x1bb\x1b\x7f", &[Alt('b'), Alt('\x7f')]),
            (b"\x1b[200~x\x1b[201~", &[PasteStart, Char('x'), PasteEnd]),
            (b"\x1b[99;99;99Xa", &[Other, Char('a')]),
            (b"\x1b[[Aq", &[Up, Char('q')]),
            (b"\x1b[12\x03", &[Control(3)]),
            (b"\xe2\x82\r", &[Char('\u{fffd}'), Control(b'\r')]),
            (b"\xc2\x9b", &[Other]),
            (b"\x1b[20000000000000000000000000000000000~z", &[Other, Char('z')]),
            (b"\x1b\x1b[A", &[Other, Up]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(keys(bytes), *expected, "{bytes:?}");
        }
    }
}
