//! The serial of an SSH certificate, and how it is written where serials of X.509 certificates are.

use crate::random::{self, NoRandomness};
use crate::serial::Serial;
use std::fmt;
use std::num::NonZeroU64;

/// An X.509 serial that stands for an SSH certificate's: these eight bytes, then the SSH serial. One of 2^62 random X.509
/// serials looks like that, so the two are never mixed up.
const SSH_SERIAL: [u8; 8] = *b"@ssh\0\0\0\0";

/// The serial of an SSH certificate: 64 bits, not zero (zero means "not numbered"). Drawn by the caller, so that it can
/// be recorded before the certificate exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SshSerial(NonZeroU64);

impl SshSerial {
    /// Draws a fresh serial.
    pub fn random() -> Result<Self, NoRandomness> {
        let drawn = u64::from_be_bytes(random::bytes()?);
        // Once in 2^64 draws there is a zero; one is as good.
        Ok(Self(NonZeroU64::new(drawn).unwrap_or(NonZeroU64::MIN)))
    }
    /// The serial that a certificate carries; `None` for zero.
    pub fn new(serial: u64) -> Option<Self> {
        NonZeroU64::new(serial).map(Self)
    }
    /// The number, as `ssh-keygen -L` shows it.
    pub fn number(self) -> u64 {
        self.0.get()
    }
    /// The same serial in the form that X.509 certificates have theirs: `@ssh`, four zero bytes and the number.
    pub fn as_serial(self) -> Serial {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&SSH_SERIAL);
        bytes[8..].copy_from_slice(&self.number().to_be_bytes());
        Serial::from_random(bytes)
    }
    /// Reads [`SshSerial::as_serial`] back; `None` for an X.509 certificate's serial.
    pub fn from_serial(serial: Serial) -> Option<Self> {
        let number = serial.as_bytes().strip_prefix(&SSH_SERIAL)?;
        Self::new(u64::from_be_bytes(number.try_into().ok()?))
    }
}

impl fmt::Display for SshSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for SshSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_survives_being_written_as_the_other_kind() {
        for number in [1, 0x0102_0304_0506_0708, u64::MAX] {
            let serial = SshSerial::new(number).unwrap();
            assert_eq!(SshSerial::from_serial(serial.as_serial()), Some(serial));
        }
        assert_eq!(SshSerial::new(258).unwrap().as_serial().to_string(), "40737368000000000000000000000102");
        assert_eq!(SshSerial::from_serial(Serial::from_random([0x41; 16])), None);
        assert_eq!(SshSerial::new(0), None);
        assert_ne!(SshSerial::random().unwrap(), SshSerial::random().unwrap());
    }
}
