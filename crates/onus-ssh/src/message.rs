//! Messages of the SSH connection protocol (RFC 4254), read and written.
//!
//! A message travels between the transport and the machine as a packet: its length in four bytes, and its payload. Here
//! is structure only: nothing is decided, and nothing is kept.

use bytes::{BufMut, Bytes, BytesMut};

/// Message numbers (RFC 4250, section 4.1.2).
pub mod number {
    #![allow(missing_docs, reason = "the names are the standard's own")]
    pub const DISCONNECT: u8 = 1;
    pub const UNIMPLEMENTED: u8 = 3;
    pub const GLOBAL_REQUEST: u8 = 80;
    pub const REQUEST_SUCCESS: u8 = 81;
    pub const REQUEST_FAILURE: u8 = 82;
    pub const CHANNEL_OPEN: u8 = 90;
    pub const CHANNEL_OPEN_CONFIRMATION: u8 = 91;
    pub const CHANNEL_OPEN_FAILURE: u8 = 92;
    pub const CHANNEL_WINDOW_ADJUST: u8 = 93;
    pub const CHANNEL_DATA: u8 = 94;
    pub const CHANNEL_EXTENDED_DATA: u8 = 95;
    pub const CHANNEL_EOF: u8 = 96;
    pub const CHANNEL_CLOSE: u8 = 97;
    pub const CHANNEL_REQUEST: u8 = 98;
    pub const CHANNEL_SUCCESS: u8 = 99;
    pub const CHANNEL_FAILURE: u8 = 100;
}

/// Bytes of a packet before its payload.
pub const PREFIX: usize = 4;

/// The largest payload that is taken in: RFC 4253 asks for 35,000 bytes, OpenSSH sends up to 256 KiB.
pub const MAX_PAYLOAD: usize = 512 * 1024;

/// Fields of a payload, read one after the other. `None` where the payload ends too early.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A truth value: anything but zero is true (RFC 4251, section 5).
    pub fn flag(&mut self) -> Option<bool> {
        self.byte().map(|byte| byte != 0)
    }

    /// A number.
    pub fn number(&mut self) -> Option<u32> {
        let (four, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*four))
    }

    /// A string of bytes.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number()? as usize;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    /// A string that must be text.
    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }
}

/// A packet being written.
pub struct Packet(BytesMut);

impl Packet {
    /// A packet with this message number.
    pub fn new(number: u8) -> Self {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_u32(0);
        bytes.put_u8(number);
        Self(bytes)
    }

    /// A message about a channel: the number and the recipient's name for the channel.
    pub fn of(number: u8, recipient: u32) -> Self {
        Self::new(number).number(recipient)
    }

    /// Appends a number.
    #[must_use]
    pub fn number(mut self, number: u32) -> Self {
        self.0.put_u32(number);
        self
    }

    /// Appends a truth value.
    #[must_use]
    pub fn flag(mut self, flag: bool) -> Self {
        self.0.put_u8(u8::from(flag));
        self
    }

    /// Appends a string.
    #[must_use]
    pub fn string(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.put_u32(bytes.len() as u32);
        self.0.put_slice(bytes);
        self
    }

    /// Appends bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.put_slice(bytes);
        self
    }

    /// The packet, whole.
    pub fn done(mut self) -> Bytes {
        let length = (self.0.len() - PREFIX) as u32;
        self.0[..PREFIX].copy_from_slice(&length.to_be_bytes());
        self.0.freeze()
    }
}

/// Data for a channel, cut into packets that the other side takes.
pub fn data(recipient: u32, bytes: &[u8], largest: u32) -> Bytes {
    pieces(bytes, largest, |piece| Packet::of(number::CHANNEL_DATA, recipient).string(piece))
}

/// Data for a channel's error stream.
pub fn error_data(recipient: u32, bytes: &[u8], largest: u32) -> Bytes {
    pieces(bytes, largest, |piece| Packet::of(number::CHANNEL_EXTENDED_DATA, recipient).number(1).string(piece))
}

fn pieces(bytes: &[u8], largest: u32, packet: impl Fn(&[u8]) -> Packet) -> Bytes {
    let largest = (largest as usize).clamp(1, 32 * 1024);
    if bytes.len() <= largest {
        return packet(bytes).done();
    }
    let mut all = BytesMut::with_capacity(bytes.len() + 16 * (bytes.len() / largest + 1));
    for piece in bytes.chunks(largest) {
        all.extend_from_slice(&packet(piece).done());
    }
    all.freeze()
}

/// A request about a channel, up to its own fields.
pub fn request(recipient: u32, kind: &str, want_reply: bool) -> Packet {
    Packet::of(number::CHANNEL_REQUEST, recipient).string(kind).flag(want_reply)
}

/// The exit of a process.
pub fn exit_status(recipient: u32, code: u32) -> Bytes {
    request(recipient, "exit-status", false).number(code).done()
}

/// A message that is nothing but its number and the channel.
pub fn bare(number: u8, recipient: u32) -> Bytes {
    Packet::of(number, recipient).done()
}

/// Goodbye, with the reason code "by application" (RFC 4253, section 11.1).
pub fn disconnect(text: &str) -> Bytes {
    Packet::new(number::DISCONNECT).number(11).string(text).string("").done()
}

/// Several packets as one run of bytes.
pub fn joined(packets: impl IntoIterator<Item = Bytes>) -> Bytes {
    let mut all = BytesMut::new();
    for packet in packets {
        all.extend_from_slice(&packet);
    }
    all.freeze()
}

/// The next whole packet's length with its prefix: `None` if it is not all there.
///
/// # Errors
/// When it is longer than [`MAX_PAYLOAD`] or has no message number.
pub fn next(buffer: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some(prefix) = buffer.first_chunk::<PREFIX>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length == 0 {
        return Err("an empty packet");
    }
    if length > MAX_PAYLOAD {
        return Err("a packet that is too long");
    }
    Ok((buffer.len() >= PREFIX + length).then_some(PREFIX + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let bytes = request(7, "exec", true).string("ls").done();
        assert_eq!(next(&bytes), Ok(Some(bytes.len())));
        let mut fields = Fields(&bytes[PREFIX..]);
        assert_eq!(fields.byte(), Some(number::CHANNEL_REQUEST));
        assert_eq!(fields.number(), Some(7));
        assert_eq!(fields.text(), Some("exec"));
        assert_eq!(fields.flag(), Some(true));
        assert_eq!(fields.string(), Some(&b"ls"[..]));
        assert_eq!(fields.byte(), None);
    }

    #[test]
    fn a_string_that_claims_more_than_there_is_reads_as_nothing() {
        assert_eq!(Fields(&[0xff, 0xff, 0xff, 0xff, 1]).string(), None);
        assert_eq!(Fields(&[0, 0]).number(), None);
    }

    #[test]
    fn long_data_is_cut_to_what_the_other_side_takes() {
        let all = data(1, &[7; 100], 40);
        let (mut at, mut sizes) = (0, Vec::new());
        while let Ok(Some(length)) = next(&all[at..]) {
            sizes.push(length - PREFIX - 9);
            at += length;
        }
        assert_eq!(sizes, [40, 40, 20]);
    }
}
