//! The fingerprint of a public key: what is enrolled, compared and recorded instead of the key itself.

use sha2::{Digest, Sha256};
use std::fmt;

/// SHA-256 over the key's SubjectPublicKeyInfo in DER (RFC 5280, section 4.1.2.7), as 64 lower-case hex digits.
///
/// It names the key, not a certificate: a renewed certificate over the same key has the same fingerprint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyFingerprint(String);

/// The text is not 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key fingerprint is 64 lower-case hex digits")]
pub struct FingerprintError;

impl KeyFingerprint {
    /// The fingerprint of a SubjectPublicKeyInfo in DER.
    pub fn of_spki(der: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(der)))
    }
    /// Reads a fingerprint in its one spelling, so that text comparison is key comparison.
    pub fn parse(text: &str) -> Result<Self, FingerprintError> {
        let digits = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if digits { Ok(Self(text.to_owned())) } else { Err(FingerprintError) }
    }
    /// The fingerprint as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KeyFingerprint {
    type Error = FingerprintError;
    fn try_from(text: String) -> Result<Self, FingerprintError> {
        Self::parse(&text)
    }
}

impl From<KeyFingerprint> for String {
    fn from(fingerprint: KeyFingerprint) -> String {
        fingerprint.0
    }
}

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_has_one_spelling() {
        let known = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(KeyFingerprint::of_spki(b"").as_str(), known);
        assert!(KeyFingerprint::parse(known).is_ok());
        assert_eq!(KeyFingerprint::parse(&known.to_uppercase()), Err(FingerprintError));
        assert_eq!(KeyFingerprint::parse(&known[1..]), Err(FingerprintError));
    }
}
