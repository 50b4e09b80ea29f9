//! The fingerprint of a public key: what is enrolled, compared and recorded instead of the key itself.

use sha2::{Digest, Sha256};
use ssh_key::HashAlg;
use ssh_key::public::KeyData;
use std::fmt;

/// What an SSH key's fingerprint begins with; what OpenSSH prints follows.
const SSH: &str = "ssh:";

/// A key's fingerprint, in one of two spellings that no key has both of:
///
/// - of a TLS key, SHA-256 over its SubjectPublicKeyInfo in DER (RFC 5280, section 4.1.2.7), as 64 lower-case hex digits;
/// - of an SSH key, `ssh:` and what `ssh-keygen -l` prints: `ssh:SHA256:` and the unpadded base64 of SHA-256 over the public
///   key blob (RFC 4253, section 6.6). For a security key that includes its application.
///
/// A key that is used in both ways has two fingerprints, and enrolling one does not enrol the other. It names the key, not
/// a certificate: a renewed certificate over the same key has the same fingerprint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyFingerprint(String);

/// The text is in neither spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key fingerprint is 64 lower-case hex digits, or `ssh:SHA256:` and 43 characters")]
pub struct FingerprintError;

impl KeyFingerprint {
    /// The fingerprint of a SubjectPublicKeyInfo in DER.
    pub fn of_spki(der: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(der)))
    }
    /// The fingerprint of an SSH key; of a certificate's key, the same as of the key without it.
    pub fn of_ssh(key: &KeyData) -> Self {
        let key = key.certificate().map_or(key, |certificate| certificate.public_key());
        Self(format!("{SSH}{}", key.fingerprint(HashAlg::Sha256)))
    }
    /// Reads a fingerprint in its key's one spelling, so that text comparison is key comparison.
    pub fn parse(text: &str) -> Result<Self, FingerprintError> {
        if let Some(openssh) = text.strip_prefix(SSH) {
            let read: ssh_key::Fingerprint = openssh.parse().map_err(|_| FingerprintError)?;
            let same = read.algorithm() == HashAlg::Sha256 && read.to_string() == openssh;
            return if same { Ok(Self(text.to_owned())) } else { Err(FingerprintError) };
        }
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

    #[test]
    fn an_ssh_keys_fingerprint_is_the_one_that_openssh_prints() {
        let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";
        let key = ssh_key::PublicKey::from_openssh(line).unwrap();
        let known = KeyFingerprint::of_ssh(key.key_data());
        assert_eq!(known.as_str(), "ssh:SHA256:RXm/ruZ0eTzRXKwi1AQEDynB0VgHQ2ac9KPSFdf/YnA");
        assert_eq!(KeyFingerprint::parse(known.as_str()).as_ref(), Ok(&known));
        let bare = &known.as_str()[4..];
        let padded = format!("{known}=");
        // The last character carries two bits that mean nothing; only zeros are a spelling.
        let other = format!("{}{}", &known.as_str()[..known.as_str().len() - 1], "B");
        let long = format!("ssh:SHA512:{}", "A".repeat(86));
        for wrong in [bare, padded.as_str(), other.as_str(), long.as_str(), "ssh:", "ssh:SHA256:", "ssh:MD5:00"] {
            assert_eq!(KeyFingerprint::parse(wrong), Err(FingerprintError), "{wrong}");
        }
    }
}
