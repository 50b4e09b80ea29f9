//! The hash of the tree and its three constructions (RFC 9162, section 2.1.1).
//!
//! Deliberately not here: any other hash function, and any hashing of files or notes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// A SHA-256 value: a leaf, an inner node or a root.
///
/// `Display` and `Debug` show lower-case hex; the wire forms of the C2SP formats use base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

/// The hash of a leaf: `SHA256(0x00 || entry)`.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0x00]).chain_update(entry).finalize().into())
}

/// The hash of an inner node: `SHA256(0x01 || left || right)`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    // One buffer and one update: this is the hot loop of a rebuild.
    let mut bytes = [0x01_u8; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Hash(Sha256::digest(bytes).into())
}

/// The root of a tree without entries: `SHA256("")`.
pub const EMPTY_ROOT: Hash = Hash([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// Why a text is not a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashParseError {
    /// The text is not canonical base64 (with padding), or not lower- or upper-case hex.
    #[error("not a canonical encoding")]
    Encoding,
    /// The decoded value does not have 32 bytes.
    #[error("a hash has 32 bytes, this has {0}")]
    Length(usize),
}

impl Hash {
    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Standard base64 with padding, as checkpoints and proofs carry it.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Reads standard base64 with padding. Non-canonical spellings are refused, so that one hash
    /// has one text.
    ///
    /// # Errors
    /// [`HashParseError`] for anything other than 32 encoded bytes.
    pub fn from_base64(text: &str) -> Result<Self, HashParseError> {
        Self::from_slice(&STANDARD.decode(text).map_err(|_| HashParseError::Encoding)?)
    }

    /// Lower-case hex.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads 64 hex digits.
    ///
    /// # Errors
    /// [`HashParseError`] for anything other than 32 encoded bytes.
    pub fn from_hex(text: &str) -> Result<Self, HashParseError> {
        Self::from_slice(&hex::decode(text).map_err(|_| HashParseError::Encoding)?)
    }

    /// Takes exactly 32 bytes.
    ///
    /// # Errors
    /// [`HashParseError::Length`] for any other number of bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, HashParseError> {
        <[u8; 32]>::try_from(bytes).map(Self).map_err(|_| HashParseError::Length(bytes.len()))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_root_is_the_hash_of_nothing() {
        assert_eq!(EMPTY_ROOT.0, <[u8; 32]>::from(Sha256::digest(b"")));
    }

    #[test]
    fn one_hash_has_one_base64_text() {
        let text = EMPTY_ROOT.to_base64();
        assert_eq!(Hash::from_base64(&text), Ok(EMPTY_ROOT));
        // The last character carries two unused bits: setting one must not be another spelling.
        assert!(text.ends_with("U="));
        let sloppy = text.replace("U=", "V=");
        assert_eq!(Hash::from_base64(&sloppy), Err(HashParseError::Encoding));
        assert_eq!(Hash::from_base64(text.trim_end_matches('=')), Err(HashParseError::Encoding));
        assert_eq!(Hash::from_base64("AAAA"), Err(HashParseError::Length(3)));
    }

    #[test]
    fn a_leaf_is_not_a_node() {
        // Domain separation: an entry made of two hashes must not collide with their parent.
        let (a, b) = (leaf_hash(b"a"), leaf_hash(b"b"));
        let joined = [a.0, b.0].concat();
        assert_ne!(leaf_hash(&joined), node_hash(&a, &b));
    }
}
