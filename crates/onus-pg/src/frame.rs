//! Framing: where a message begins and ends, and how to read one's body. It copies nothing and knows no meaning.
//!
//! After start-up a message is `Byte1 type | Int32 length | body`, where the length counts itself but not the type.

use onus_pep::Violation;

/// The SQLSTATE for a broken protocol.
pub const PROTOCOL_VIOLATION: &str = "08P01";

/// The longest client message that is taken in unless configured otherwise: 64 MiB.
pub const MAX_CLIENT_MESSAGE: usize = 64 << 20;

/// The type and whole size (type byte included) of the message that `bytes` begin with; `None` if fewer than its
/// five header bytes are there. A length below 4 or above 2³¹-1 is a violation.
pub fn head(bytes: &[u8]) -> Result<Option<(u8, usize)>, Violation> {
    let [kind, a, b, c, d, ..] = *bytes else { return Ok(None) };
    match i32::from_be_bytes([a, b, c, d]) {
        length @ 4.. => Ok(Some((kind, length as usize + 1))),
        _ => Err(Violation::new(PROTOCOL_VIOLATION, "a message states an impossible length")),
    }
}

/// A run of messages of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Run {
    /// Bytes of the run that are here.
    pub here: usize,
    /// Bytes of its last message that are still to come.
    pub missing: usize,
    /// Messages that begin in it.
    pub messages: u64,
}

/// How far messages of type `kind` go on from the beginning of `bytes`. The last one may be incomplete, as long as its
/// header is here.
pub fn run(bytes: &[u8], kind: u8) -> Result<Run, Violation> {
    let mut run = Run::default();
    while let Some((found, size)) = head(&bytes[run.here..])? {
        if found != kind {
            break;
        }
        run.messages += 1;
        let left = bytes.len() - run.here;
        if size > left {
            run.here = bytes.len();
            run.missing = size - left;
            break;
        }
        run.here += size;
    }
    Ok(run)
}

/// Reads a message's body from front to back. Every read fails with a violation when the body is too short.
#[derive(Debug, Clone, Copy)]
pub struct Body<'a> {
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    /// The body of a whole message.
    pub fn of_message(message: &'a [u8]) -> Self {
        Self { rest: message.get(5..).unwrap_or(&[]) }
    }
    /// A body, or what is left of one.
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }
    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Violation> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or_else(short)?;
        self.rest = rest;
        Ok(taken)
    }
    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Violation> {
        Ok(self.take(1)?[0])
    }
    /// Int16.
    pub fn int16(&mut self) -> Result<i16, Violation> {
        let b = self.take(2)?;
        Ok(i16::from_be_bytes([b[0], b[1]]))
    }
    /// Int32.
    pub fn int32(&mut self) -> Result<i32, Violation> {
        let b = self.take(4)?;
        Ok(i32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }
    /// A string up to its zero byte, which is taken too.
    pub fn cstr(&mut self) -> Result<&'a [u8], Violation> {
        let end = self.rest.iter().position(|b| *b == 0).ok_or_else(short)?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }
    /// A string that must be UTF-8, as pinned at start-up.
    pub fn text(&mut self) -> Result<&'a str, Violation> {
        std::str::from_utf8(self.cstr()?).map_err(|_| Violation::new("22021", "a name in a message is not valid UTF-8"))
    }
    /// An Int16 count of things.
    pub fn count(&mut self) -> Result<usize, Violation> {
        // The field is unsigned in practice: 65535 parameters are allowed.
        Ok(usize::from(self.int16()? as u16))
    }
    /// Nothing may be left.
    pub fn end(self) -> Result<(), Violation> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Violation::new(PROTOCOL_VIOLATION, "a message is longer than its contents"))
        }
    }
}

fn short() -> Violation {
    Violation::new(PROTOCOL_VIOLATION, "a message is shorter than its contents")
}

/// Entry point for a fuzzer: whatever the bytes, framing and every parser of untrusted bytes in this crate must
/// return.
pub fn fuzz_frames(data: &[u8]) {
    let _ = run(data, b'd');
    let _ = crate::startup::first(data);
    let mut rest = data;
    while let Ok(Some((_, size))) = head(rest) {
        let Some((message, after)) = rest.split_at_checked(size) else { break };
        let _ = crate::message::error_fields(message);
        rest = after;
    }
    crate::proxy::fuzz_proxy(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_with_another_type_or_inside_its_last_message() {
        let bytes = b"d\0\0\0\x05ad\0\0\0\x06bcX\0\0\0\x04";
        assert_eq!(run(bytes, b'd'), Ok(Run { here: 13, missing: 0, messages: 2 }));
        assert_eq!(run(&bytes[..12], b'd'), Ok(Run { here: 12, missing: 1, messages: 2 }));
        assert_eq!(run(&bytes[..10], b'd'), Ok(Run { here: 6, missing: 0, messages: 1 }));
    }

    #[test]
    fn an_impossible_length_is_a_violation() {
        for length in [[0, 0, 0, 3], [0xff, 0xff, 0xff, 0xff], [0x80, 0, 0, 0]] {
            assert!(head(&[&[b'Q'][..], &length].concat()).is_err());
        }
        assert_eq!(head(b"Q\0\0\0"), Ok(None));
    }

    #[test]
    fn a_body_is_read_to_its_end_and_no_further() {
        let mut body = Body::new(b"ab\0\0\x01x");
        assert_eq!(body.cstr(), Ok(&b"ab"[..]));
        assert_eq!(body.int16(), Ok(1));
        assert!(body.end().is_err() && body.int32().is_err());
        assert!(Body::new(b"no end").cstr().is_err());
    }
}
