//! A certificate's serial number. Drawn by the caller, so that it can be recorded before the certificate exists.

use crate::random::{self, NoRandomness};
use std::fmt;

/// A serial of 128 bits, positive and of full length (RFC 5280, section 4.1.2.2): 126 of them random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; 16]);

impl Serial {
    /// Draws a fresh serial.
    pub fn random() -> Result<Self, NoRandomness> {
        Ok(Self::from_random(random::bytes()?))
    }
    /// Makes a serial of random bytes: the first bit is cleared (positive), the second set (never shortened).
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[0] = bytes[0] & 0x7f | 0x40;
        Self(bytes)
    }
    /// The serial, big-endian.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
    /// Reads back what a certificate carries; `None` for anything that [`Serial::from_random`] doesn't make.
    pub(crate) fn from_certificate(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 16] = bytes.try_into().ok()?;
        (bytes == Self::from_random(bytes).0).then_some(Self(bytes))
    }
}

impl fmt::Display for Serial {
    /// 32 lower-case hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
