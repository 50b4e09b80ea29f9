//! The data types of RFC 4251, section 5, as far as authentication needs them. Reading checks every length against what
//! is there and allocates nothing.

/// The message is cut short, has something behind its end, or holds a value that its type does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads from the front of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
    /// How much is left, in bytes.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }
    pub(super) fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.take(count).map(|_| ())
    }
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }
    /// Only 0 and 1: what is signed must have one spelling.
    pub(super) fn boolean(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }
    pub(super) fn uint32(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
    pub(super) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.uint32()?;
        self.take(usize::try_from(length).map_err(|_| Malformed)?)
    }
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.string()?).map_err(|_| Malformed)
    }
    /// A non-negative `mpint` in its shortest form, without the leading zero byte.
    pub(super) fn positive(&mut self) -> Result<&'a [u8], Malformed> {
        match self.string()? {
            [0, rest @ ..] => match rest.first() {
                Some(first) if first & 0x80 != 0 => Ok(rest),
                _ => Err(Malformed),
            },
            bytes if bytes.first().is_some_and(|first| first & 0x80 == 0) => Ok(bytes),
            _ => Err(Malformed),
        }
    }
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// Appends a `string`. What we send is far below 4 GiB; a longer one would be cut rather than written wrong.
pub(super) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&bytes[..usize::try_from(length).unwrap_or(bytes.len())]);
}

/// Message numbers (RFC 4253, section 12; RFC 4252, section 6).
pub(super) mod number {
    pub const SERVICE_REQUEST: u8 = 5;
    pub const SERVICE_ACCEPT: u8 = 6;
    pub const USERAUTH_REQUEST: u8 = 50;
    pub const USERAUTH_FAILURE: u8 = 51;
    pub const USERAUTH_SUCCESS: u8 = 52;
    pub const USERAUTH_BANNER: u8 = 53;
    /// For `publickey` the answer to a query; for `password` the demand to change it.
    pub const USERAUTH_PK_OK: u8 = 60;
}

pub(super) const SERVICE_USERAUTH: &str = "ssh-userauth";
pub(super) const SERVICE_CONNECTION: &str = "ssh-connection";
