//! Output of someone else's session, made safe to replay on one's own terminal.
//!
//! A recording is written by the party it watches. Sequences that make a terminal answer (and so type into whatever
//! reads next), write the clipboard, print, change keys or the title are dropped: only what draws is let through, by a
//! list of what is known to be harmless. It doesn't judge the text that is shown.

use crate::escape::{Scanner, Token};

/// A filter for one stream of output.
#[derive(Debug, Clone, Default)]
pub struct Harmless {
    scanner: Scanner,
}

impl Harmless {
    /// A filter at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends to `out` what of `bytes` only draws; torn sequences are held.
    pub fn filter(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.scanner.scan(bytes, |token| match token {
            // Some terminals obey C1 characters in UTF-8 too.
            Token::Text(c) if c.is_control() => {}
            Token::Text(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Token::Control(byte @ 0x07..=0x0f) => out.push(byte),
            Token::Control(_) | Token::Dropped => {}
            Token::Escape { intermediates, last } => {
                let draws = match intermediates {
                    b"" => matches!(last, b'7' | b'8' | b'D' | b'E' | b'H' | b'M' | b'c' | b'=' | b'>'),
                    b"(" | b")" => matches!(last, b'0' | b'A' | b'B'),
                    b"#" => last == b'8',
                    _ => false,
                };
                if draws {
                    out.push(0x1b);
                    out.extend_from_slice(intermediates);
                    out.push(last);
                }
            }
            Token::Csi { body, last } => {
                if csi_draws(body, last) {
                    out.extend_from_slice(b"\x1b[");
                    out.extend_from_slice(body);
                    out.push(last);
                }
            }
        });
    }
}

fn csi_draws(body: &[u8], last: u8) -> bool {
    match body.split_first() {
        Some((b'?', modes)) => match last {
            b'h' | b'l' => modes.split(|&byte| byte == b';').all(|mode| {
                matches!(
                    mode,
                    b"1" | b"5" | b"6" | b"7" | b"12" | b"25" | b"47" | b"1047" | b"1048" | b"1049" | b"2026"
                )
            }),
            b'J' | b'K' => modes.iter().all(u8::is_ascii_digit),
            _ => false,
        },
        Some((b'!', b"")) => last == b'p',
        _ if body.ends_with(b" ") => last == b'q' && body[..body.len() - 1].iter().all(u8::is_ascii_digit),
        _ => {
            body.iter().all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':'))
                && matches!(
                    last,
                    b'@' | b'A'..=b'M' | b'P' | b'S' | b'T' | b'X' | b'Z' | b'`' | b'a' | b'b' | b'd'..=b'h' | b'l'
                        | b'm' | b'r' | b's' | b'u'
                )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut filter = Harmless::new();
        bytes.chunks(1).for_each(|chunk| filter.filter(chunk, &mut out));
        out
    }

    #[test]
    fn drawing_passes_unchanged() {
        for bytes in [
            "\u{1b}[1;31mż\u{1b}[0m\r\n".as_bytes(),
            b"\x1b[?1049h\x1b[2J\x1b[H\x1b[4;5Hx\x1b[?25l",
            b"\x1b(0lqk\x1b(B",
            b"\x1b[38:2::1:2:3mx\x1b[2 q",
        ] {
            assert_eq!(filter(bytes), bytes);
        }
    }

    #[test]
    fn what_answers_or_acts_is_dropped() {
        for bytes in [
            b"\x1b[c".as_slice(),
            b"\x1b[>c",
            b"\x1b[6n",
            b"\x1b[?6n",
            b"\x1b[21t",
            b"\x1b[5i",
            b"\x1b[>0q",
            b"\x1b[?2026$p",
            b"\x1b[1;1;1;1;1;1*y",
            b"\x1b[>4;2m",
            b"\x1b[?1000h",
            b"\x1b[?25;1003h",
            b"\x1b[?u",
            b"\x1b]52;c;cm0gLXJm\x07",
            b"\x1b]0;title\x1b\\",
            b"\x1bP$qm\x1b\\",
            b"\x1b_G\x1b\\",
            b"\x1bZ",
            b"\x05",
            "\u{9b}".as_bytes(),
        ] {
            assert_eq!(filter(bytes), b"", "{bytes:?}");
        }
    }
}
