//! SSH's data types (RFC 4251 §5): reading them from a message and writing them into one.
//!
//! Knows no message. Every read is bounded by the bytes given and fails with [`Short`] instead of panicking.

/// A message ended before what it should hold, or held a value its type forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message is cut short or malformed")]
pub struct Short;

/// Reads a message from front to back.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins at the first of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// `byte`
    pub fn byte(&mut self) -> Result<u8, Short> {
        let (byte, rest) = self.rest.split_first().ok_or(Short)?;
        self.rest = rest;
        Ok(*byte)
    }

    /// `boolean`: anything but zero is true.
    pub fn boolean(&mut self) -> Result<bool, Short> {
        Ok(self.byte()? != 0)
    }

    /// `uint32`
    pub fn uint32(&mut self) -> Result<u32, Short> {
        let (number, rest) = self.rest.split_first_chunk::<4>().ok_or(Short)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*number))
    }

    /// `string`: a `uint32` length and that many bytes.
    pub fn string(&mut self) -> Result<&'a [u8], Short> {
        let length = self.uint32()?;
        self.take(usize::try_from(length).map_err(|_| Short)?)
    }

    /// `name-list`, read as [`names`] does.
    pub fn name_list(&mut self, most: usize) -> Result<Vec<&'a str>, Short> {
        names(self.string()?, most)
    }

    /// A non-negative `mpint` as big-endian bytes without leading zeros.
    pub fn magnitude(&mut self) -> Result<&'a [u8], Short> {
        let bytes = self.string()?;
        if bytes.first().is_some_and(|first| first & 0x80 != 0) {
            return Err(Short);
        }
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Ok(&bytes[zeros..])
    }

    /// Fails if something is left.
    pub fn end(self) -> Result<(), Short> {
        if self.rest.is_empty() { Ok(()) } else { Err(Short) }
    }
}

/// The names of a `name-list`'s bytes: printable US-ASCII, separated by commas, at most `most` of them, none empty.
pub fn names(list: &[u8], most: usize) -> Result<Vec<&str>, Short> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let list = std::str::from_utf8(list).map_err(|_| Short)?;
    let mut names = Vec::new();
    for name in list.split(',') {
        if name.is_empty() || names.len() == most || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Short);
        }
        names.push(name);
    }
    Ok(names)
}

/// Appends a `string`.
pub fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    // INVARIANT: everything written here was bounded by a packet's length or is our own, so the length fits.
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a `name-list`.
pub fn put_name_list<'a>(out: &mut Vec<u8>, names: impl IntoIterator<Item = &'a str>) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    for (index, name) in names.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name.as_bytes());
    }
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_longer_than_its_message_is_short() {
        assert_eq!(Reader::new(&[0, 0, 0, 2, 1]).string(), Err(Short));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 1]).string(), Err(Short));
        assert_eq!(Reader::new(&[0, 0, 0, 1, 1]).string(), Ok(&[1][..]));
    }

    #[test]
    fn name_lists_are_bounded_and_clean() {
        let list = |names: &str, most| {
            let mut bytes = Vec::new();
            put_string(&mut bytes, names.as_bytes());
            Reader::new(&bytes).name_list(most).map(|names| names.len())
        };
        assert_eq!(list("", 1), Ok(0));
        assert_eq!(list("a,b", 2), Ok(2));
        assert_eq!(list("a,b,c", 2), Err(Short));
        assert_eq!(list("a,,b", 9), Err(Short));
        assert_eq!(list("a,b c", 9), Err(Short));
        assert_eq!(list("a\0", 9), Err(Short));
    }

    #[test]
    fn a_negative_number_is_no_magnitude() {
        assert_eq!(Reader::new(&[0, 0, 0, 1, 0x80]).magnitude(), Err(Short));
        assert_eq!(Reader::new(&[0, 0, 0, 2, 0, 0x80]).magnitude(), Ok(&[0x80][..]));
        assert_eq!(Reader::new(&[0, 0, 0, 0]).magnitude(), Ok(&[][..]));
    }
}
