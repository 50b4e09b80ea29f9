//! Cuts terminal output into text, control characters and escape sequences.
//!
//! Memory is bounded whatever comes: sequences longer than [`SEQUENCE_BOUND`] are recognised and forgotten, and the
//! content of operating system and device commands is never kept. (An unterminated title sequence is a cheap way to
//! fill the memory of a parser that keeps it.) What a sequence means is the caller's matter.

use crate::utf8::Utf8Decoder;

/// The most bytes of one control sequence that are kept.
const SEQUENCE_BOUND: usize = 64;

/// A piece of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A character to show; C1 characters come as text too, the caller decides.
    Text(char),
    /// A C0 control character or DEL.
    Control(u8),
    /// `ESC`, intermediate bytes, a final byte.
    Escape { intermediates: &'a [u8], last: u8 },
    /// `ESC [`, parameter and intermediate bytes, a final byte.
    Csi { body: &'a [u8], last: u8 },
    /// A sequence whose content isn't kept: commands to the operating system or device, or one that is too long.
    Dropped,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    Csi,
    /// Inside a string that `ESC \` ends, and `BEL` too where `bell_ends`.
    Text {
        bell_ends: bool,
    },
}

/// An incremental scanner; sequences torn between chunks are held.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scanner {
    state: State,
    decoder: Utf8Decoder,
    body: Vec<u8>,
    too_long: bool,
}

impl Scanner {
    /// Scans `bytes`, handing each token to `each`.
    pub(crate) fn scan(&mut self, bytes: &[u8], mut each: impl FnMut(Token<'_>)) {
        let mut text = String::new();
        for &byte in bytes {
            match self.state {
                State::Ground => {
                    if byte < 0x20 || byte == 0x7f {
                        self.decoder.finish(&mut text);
                        text.drain(..).for_each(|c| each(Token::Text(c)));
                        self.control(byte, &mut each);
                    } else {
                        self.decoder.decode(&[byte], &mut text);
                        text.drain(..).for_each(|c| each(Token::Text(c)));
                    }
                }
                State::Escape => match byte {
                    b'[' if self.body.is_empty() => self.state = State::Csi,
                    b']' if self.body.is_empty() => self.state = State::Text { bell_ends: true },
                    b'P' | b'X' | b'^' | b'_' if self.body.is_empty() => self.state = State::Text { bell_ends: false },
                    0x20..=0x2f => self.keep(byte),
                    0x30..=0x7e => {
                        self.state = State::Ground;
                        each(if self.too_long {
                            Token::Dropped
                        } else {
                            Token::Escape { intermediates: &self.body, last: byte }
                        });
                    }
                    0x7f => {}
                    0x80.. => self.state = State::Ground,
                    _ => self.control(byte, &mut each),
                },
                State::Csi => match byte {
                    0x20..=0x3f => self.keep(byte),
                    0x40..=0x7e => {
                        self.state = State::Ground;
                        each(if self.too_long { Token::Dropped } else { Token::Csi { body: &self.body, last: byte } });
                    }
                    0x7f => {}
                    0x80.. => self.state = State::Ground,
                    _ => self.control(byte, &mut each),
                },
                State::Text { bell_ends } => match byte {
                    0x1b => {
                        each(Token::Dropped);
                        self.begin();
                    }
                    0x18 | 0x1a => self.state = State::Ground,
                    0x07 if bell_ends => {
                        self.state = State::Ground;
                        each(Token::Dropped);
                    }
                    _ => {}
                },
            }
        }
    }

    /// A control character acts even inside a sequence; `ESC` begins a new one, `CAN` and `SUB` end it.
    fn control(&mut self, byte: u8, each: &mut impl FnMut(Token<'_>)) {
        match byte {
            0x1b => self.begin(),
            0x18 | 0x1a => self.state = State::Ground,
            _ => each(Token::Control(byte)),
        }
    }

    fn begin(&mut self) {
        self.state = State::Escape;
        self.body.clear();
        self.too_long = false;
    }

    fn keep(&mut self, byte: u8) {
        if self.body.len() < SEQUENCE_BOUND {
            self.body.push(byte);
        } else {
            self.too_long = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(chunks: &[&[u8]]) -> Vec<String> {
        let mut scanner = Scanner::default();
        let mut seen = Vec::new();
        for chunk in chunks {
            scanner.scan(chunk, |token| {
                seen.push(match token {
                    Token::Text(c) => c.to_string(),
                    Token::Control(byte) => format!("<{byte:02x}>"),
                    Token::Escape { intermediates, last } => {
                        format!("<esc {}{}>", String::from_utf8_lossy(intermediates), last as char)
                    }
                    Token::Csi { body, last } => format!("<csi {}{}>", String::from_utf8_lossy(body), last as char),
                    Token::Dropped => "<dropped>".to_owned(),
                });
            });
        }
        seen
    }

    #[test]
    fn tokens_are_the_same_however_cut() {
        let bytes = "a\u{1b}[1;31mż\u{1b}(B\u{1b}]0;title\u{7}\u{1b}Pdcs\u{7}\u{1b}\\\r\n\u{1b}[?25\u{8}hz".as_bytes();
        let whole = scan(&[bytes]);
        let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(whole, scan(&pieces));
        assert_eq!(
            whole,
            [
                "a",
                "<csi 1;31m>",
                "ż",
                "<esc (B>",
                "<dropped>",
                "<dropped>",
                "<esc \\>",
                "<0d>",
                "<0a>",
                "<08>",
                "<csi ?25h>",
                "z"
            ]
        );
    }

    #[test]
    fn endless_sequences_hold_no_memory() {
        let mut scanner = Scanner::default();
        scanner.scan(b"\x1b]0;", |_| {});
        for _ in 0..100 {
            scanner.scan(&[b'x'; 10_000], |_| panic!("no token inside a title"));
        }
        assert!(scanner.body.capacity() <= SEQUENCE_BOUND * 2);
        let mut seen = 0;
        scanner.scan(b"\x1b[", |_| {});
        scanner.scan(&[b'1'; 10_000], |_| panic!("no token inside a sequence"));
        scanner.scan(b"mok", |token| {
            assert_ne!(token, Token::Csi { body: &[], last: b'm' });
            seen += 1;
        });
        assert_eq!(seen, 3);
        assert!(scanner.body.capacity() <= SEQUENCE_BOUND * 2);
    }
}
