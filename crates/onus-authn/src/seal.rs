//! Sealing secrets at rest under one master key. It stores nothing, and does not rotate the master key: to do that, open
//! with the old [`Sealer`] and seal with the new.

use crate::random::{self, NoRandomness};
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use std::fmt;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// Seals and opens with AES-256-GCM (NIST SP 800-38D) and random nonces.
///
/// What a value is for (`kind`) and whose it is (`name`) are bound into the seal: a value moved to another name or kind
/// does not open. Random 96-bit nonces bound one master key to 2^32 seals.
///
/// ```text
/// sealed = version (1 byte, 1) || nonce (12 bytes) || ciphertext || tag (16 bytes)
/// ```
pub struct Sealer(Aes256Gcm);

/// A value could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealFault {
    /// No nonce could be drawn.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// Longer than AES-GCM takes (64 GiB).
    #[error("the value is too long to be sealed")]
    TooLong,
}

/// A value does not open: altered, cut, moved from another kind or name, or sealed under another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed value does not open: it was altered or moved, or the master key is another one")]
pub struct DoesNotOpen;

impl Sealer {
    /// Takes the master key: 32 random bytes. The caller's copy is wiped when it is dropped.
    pub fn new(master_key: &Zeroizing<[u8; 32]>) -> Self {
        Self(Aes256Gcm::new((&**master_key).into()))
    }

    /// Seals `plaintext` for `kind` and `name`.
    pub fn seal(&self, kind: &str, name: &str, plaintext: &[u8]) -> Result<Vec<u8>, SealFault> {
        let nonce: [u8; NONCE_BYTES] = random::bytes()?;
        let aad = bound_to(kind, name);
        let sealed = self
            .0
            .encrypt(&Nonce::from(nonce), Payload { msg: plaintext, aad: &aad })
            .map_err(|_| SealFault::TooLong)?;
        let mut out = Vec::with_capacity(1 + NONCE_BYTES + sealed.len());
        out.push(VERSION);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Opens what [`Sealer::seal`] made for the same `kind` and `name`.
    pub fn open(&self, kind: &str, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
        let (version, rest) = sealed.split_first().ok_or(DoesNotOpen)?;
        if *version != VERSION || rest.len() < NONCE_BYTES + TAG_BYTES {
            return Err(DoesNotOpen);
        }
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(DoesNotOpen)?;
        let aad = bound_to(kind, name);
        self.0
            .decrypt(&Nonce::from(*nonce), Payload { msg: ciphertext, aad: &aad })
            .map(Zeroizing::new)
            .map_err(|_| DoesNotOpen)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

/// The associated data. The kind's length stands in front, so that no two pairs spell the same bytes.
fn bound_to(kind: &str, name: &str) -> Vec<u8> {
    let mut aad = b"onus seal v1\0".to_vec();
    aad.extend_from_slice(&(kind.len() as u64).to_be_bytes());
    aad.extend_from_slice(kind.as_bytes());
    aad.extend_from_slice(name.as_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(fill: u8) -> Sealer {
        Sealer::new(&Zeroizing::new([fill; 32]))
    }

    #[test]
    fn what_was_sealed_opens_and_shows_nothing() {
        let sealed = sealer(7).seal("upstream-password", "orders-db", b"hunter2hunter2").unwrap();
        assert_eq!(**sealer(7).open("upstream-password", "orders-db", &sealed).unwrap(), *b"hunter2hunter2");
        assert!(!sealed.windows(7).any(|w| w == b"hunter2"));
        let again = sealer(7).seal("upstream-password", "orders-db", b"hunter2hunter2").unwrap();
        assert_ne!(sealed, again, "each seal has its own nonce");
        let empty = sealer(7).seal("k", "n", b"").unwrap();
        assert_eq!(**sealer(7).open("k", "n", &empty).unwrap(), *b"");
    }

    #[test]
    fn swapped_flipped_cut_and_foreign_values_do_not_open() {
        let s = sealer(7);
        let sealed = s.seal("ab", "c", b"secret").unwrap();
        for (kind, name) in [("ab", "d"), ("x", "c"), ("a", "bc"), ("abc", ""), ("c", "ab")] {
            assert_eq!(s.open(kind, name, &sealed), Err(DoesNotOpen), "{kind} {name}");
        }
        assert_eq!(sealer(8).open("ab", "c", &sealed), Err(DoesNotOpen));
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(s.open("ab", "c", &flipped), Err(DoesNotOpen), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(s.open("ab", "c", &sealed[..length]), Err(DoesNotOpen), "first {length} bytes");
        }
        assert_eq!(format!("{s:?}"), "Sealer(…)");
    }
}
