//! The identification lines with which both sides begin (RFC 4253 §4.2).
//!
//! A server may say other lines before its own; a client may not. Both kinds are bounded.

use bytes::{Buf, BytesMut};

use crate::error::TransportError;

/// What this transport calls itself.
pub const IDENTIFICATION: &str = "SSH-2.0-Onus_0.1";

/// The longest identification line, with its line end (RFC 4253 §4.2).
const MAX_LINE: usize = 255;

/// Takes the peer's identification line, without its line end, off the front of `input`; `None` while it is not yet
/// there. `preceding` is how many more other lines may come first: none from a client.
pub fn take(input: &mut BytesMut, preceding: &mut usize) -> Result<Option<String>, TransportError> {
    loop {
        let window = &input[..input.len().min(MAX_LINE)];
        let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
            // A first line that can't become an identification is refused at once where none other may precede it:
            // nobody needs to send 255 bytes to learn that this isn't HTTP.
            let begun = &window[..window.len().min(4)];
            return if *preceding == 0 && !b"SSH-".starts_with(begun) {
                Err(TransportError::NotSsh)
            } else if window.len() == MAX_LINE {
                Err(TransportError::VersionTooLong)
            } else {
                Ok(None)
            };
        };
        let line = window[..end].strip_suffix(b"\r").unwrap_or(&window[..end]);
        if line.starts_with(b"SSH-") {
            let version = match std::str::from_utf8(line) {
                Ok(text) if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => text.to_owned(),
                _ => return Err(TransportError::NotSsh),
            };
            input.advance(end + 1);
            // 1.99 is a server of version 2 that also has, or had, version 1 (RFC 4253 §5.1).
            return if version.starts_with("SSH-2.0-") || version.starts_with("SSH-1.99-") {
                Ok(Some(version))
            } else {
                Err(TransportError::VersionUnsupported { version })
            };
        }
        if *preceding == 0 {
            return Err(TransportError::NotSsh);
        }
        *preceding -= 1;
        input.advance(end + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bytes: &[u8], mut preceding: usize) -> Result<Option<String>, TransportError> {
        take(&mut BytesMut::from(bytes), &mut preceding)
    }

    #[test]
    fn lines_are_taken_or_refused() {
        let version = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(taken(b"SSH-2.0-x\r\nrest", 0), version("SSH-2.0-x"));
        assert_eq!(taken(b"SSH-2.0-x y\n", 0), version("SSH-2.0-x y"));
        assert_eq!(taken(b"SSH-1.99-x\n", 0), version("SSH-1.99-x"));
        assert_eq!(taken(b"SSH-2.0-x", 0), Ok(None));
        assert_eq!(taken(b"", 0), Ok(None));
        assert_eq!(taken(b"GET / HTTP/1.1\r\n", 0), Err(TransportError::NotSsh));
        assert_eq!(taken(b"GE", 0), Err(TransportError::NotSsh));
        assert_eq!(taken(b"SSH-2.0-\x1b[2J\r\n", 0), Err(TransportError::NotSsh));
        assert!(matches!(taken(b"SSH-1.5-x\n", 0), Err(TransportError::VersionUnsupported { .. })));
        assert_eq!(taken(&[b"SSH-2.0-".as_slice(), &[b'a'; 250]].concat(), 0), Err(TransportError::VersionTooLong));
    }

    #[test]
    fn only_a_server_may_say_something_before() {
        let motd = b"hello\r\nworld\r\nSSH-2.0-x\r\n";
        assert_eq!(taken(motd, 20), Ok(Some("SSH-2.0-x".to_owned())));
        assert_eq!(taken(motd, 0), Err(TransportError::NotSsh));
        let many = [b"x\n".repeat(21).as_slice(), b"SSH-2.0-x\r\n"].concat();
        assert_eq!(taken(&many, 20), Err(TransportError::NotSsh));
    }

    #[test]
    fn twenty_lines_and_partial_lines_are_fine() {
        let many = [b"x\n".repeat(20).as_slice(), b"SSH-2.0-x\r\n"].concat();
        assert!(matches!(taken(&many, 20), Ok(Some(_))));
        assert_eq!(taken(b"x\nSSH-2.0", 20), Ok(None));
    }
}
