//! Single-use enrolment codes: read out to a person once, stored only as a digest.
//!
//! It can't enforce single use by itself: [`EnrolmentCode::redeem`] consumes the record in memory, and the caller
//! deletes the stored one in the same transaction that enrols the key.

use crate::random::{self, NoRandomness};
use crate::subject::SubjectName;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Crockford's base 32: no I, L, O or U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 128 bits in digits of 5 bits, the last two bits zero.
const DIGITS: usize = 26;

/// Why a presented code opens nothing. Deliberately coarse: the record is found by subject, so a stranger learns
/// nothing from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeRefused {
    /// Not 26 digits of Crockford's base 32.
    #[error("this is not an enrolment code; it looks like XXXX-XXXX-XXXX-XXXX-XXXX-XXXX-XX")]
    Malformed,
    /// Another code than the one that was given out.
    #[error("this is not the enrolment code that was given out")]
    Wrong,
    /// Too late.
    #[error("the enrolment code has expired; ask for a new one")]
    Expired,
}

/// What is stored of a code: whom it enrols, its digest and its end. Nothing in it opens anything.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EnrolmentCode {
    /// The subject whose key the code enrols.
    pub subject: SubjectName,
    /// SHA-256 over a label and the code's 16 bytes. Plain, because a code has 128 random bits and can't be guessed.
    pub digest: CodeDigest,
    /// From this moment on the code is worthless, in milliseconds since the epoch.
    pub expires_ms: u64,
}

/// A code's digest; as text 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CodeDigest([u8; 32]);

/// The text is not a code's digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a code's digest is 64 hex digits")]
pub struct CodeDigestError;

/// A code as it is shown, once. Wiped when dropped, absent from `Debug`.
pub struct PrintedCode(Zeroizing<String>);

/// Proof that a code was presented in time; what enrolling a key demands. It can't be copied.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Redeemed {
    subject: SubjectName,
}

impl Redeemed {
    /// The subject whose key may now be enrolled.
    pub fn subject(&self) -> &SubjectName {
        &self.subject
    }
}

impl EnrolmentCode {
    /// Makes a code for `subject`: what to store, and what to show.
    pub fn mint(subject: SubjectName, expires_ms: u64) -> Result<(Self, PrintedCode), NoRandomness> {
        let secret = Zeroizing::new(random::bytes::<16>()?);
        let stored = Self { subject, digest: CodeDigest::of(&secret), expires_ms };
        Ok((stored, PrintedCode(print(&secret))))
    }

    /// Redeems the code, consuming the record. Spaces, hyphens and case don't matter; I and L read as 1, O as 0.
    pub fn redeem(self, presented: &str, now_ms: u64) -> Result<Redeemed, CodeRefused> {
        let secret = read(presented).ok_or(CodeRefused::Malformed)?;
        let same: bool = CodeDigest::of(&secret).0.ct_eq(&self.digest.0).into();
        if !same {
            return Err(CodeRefused::Wrong);
        }
        if now_ms >= self.expires_ms {
            return Err(CodeRefused::Expired);
        }
        Ok(Redeemed { subject: self.subject })
    }
}

impl PrintedCode {
    /// The code, to be shown to exactly one person.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrintedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrintedCode(…)")
    }
}

impl CodeDigest {
    fn of(secret: &[u8; 16]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"onus enrolment code v1\0");
        hash.update(secret);
        Self(hash.finalize().into())
    }
}

impl TryFrom<String> for CodeDigest {
    type Error = CodeDigestError;
    fn try_from(text: String) -> Result<Self, CodeDigestError> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).map_err(|_| CodeDigestError)?;
        Ok(Self(digest))
    }
}

impl From<CodeDigest> for String {
    fn from(digest: CodeDigest) -> String {
        hex::encode(digest.0)
    }
}

impl fmt::Debug for CodeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

fn print(secret: &[u8; 16]) -> Zeroizing<String> {
    let value = u128::from_be_bytes(*secret);
    let mut text = Zeroizing::new(String::with_capacity(DIGITS + DIGITS / 4));
    for place in 0..DIGITS {
        if place > 0 && place % 4 == 0 {
            text.push('-');
        }
        // Digits from the left: the last one holds the lowest three bits, shifted up by two.
        let shift = 123 - 5 * place as i32;
        let digit = if shift >= 0 { value >> shift } else { value << -shift };
        text.push(char::from(ALPHABET[(digit & 31) as usize]));
    }
    text
}

fn read(text: &str) -> Option<Zeroizing<[u8; 16]>> {
    let mut value = Zeroizing::new(0u128);
    let mut places = 0;
    for byte in text.bytes() {
        let digit = match byte.to_ascii_uppercase() {
            b'-' | b' ' => continue,
            b'I' | b'L' => 1,
            b'O' => 0,
            other => ALPHABET.iter().position(|a| *a == other)? as u128,
        };
        match places {
            0..25 => *value = *value << 5 | digit,
            25 if digit & 3 == 0 => *value = *value << 3 | digit >> 2,
            _ => return None,
        }
        places += 1;
    }
    (places == DIGITS).then(|| Zeroizing::new(value.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mint() -> (EnrolmentCode, PrintedCode) {
        EnrolmentCode::mint(SubjectName::parse("alice").unwrap(), 1000).unwrap()
    }

    #[test]
    fn a_code_opens_once_in_time_and_in_any_spelling() {
        let (stored, code) = mint();
        assert_eq!(code.reveal().len(), 26 + 6, "{}", code.reveal());
        let spellings = [
            code.reveal().to_owned(),
            code.reveal().to_lowercase(),
            code.reveal().replace('-', " "),
            code.reveal().replace('-', "").replace('0', "o").replace('1', "l"),
        ];
        for spelling in spellings {
            assert_eq!(stored.clone().redeem(&spelling, 999).unwrap().subject().as_str(), "alice", "{spelling}");
        }
        assert_eq!(stored.redeem(code.reveal(), 1000), Err(CodeRefused::Expired));
    }

    #[test]
    fn nothing_else_opens() {
        let (stored, code) = mint();
        let (_, other) = mint();
        let refused = |text: &str| stored.clone().redeem(text, 0).unwrap_err();
        assert_eq!(refused(other.reveal()), CodeRefused::Wrong);
        assert_eq!(refused(&hex::encode(stored.digest.0)), CodeRefused::Malformed, "the digest is no code");
        assert_eq!(refused(""), CodeRefused::Malformed);
        assert_eq!(refused(&code.reveal()[1..]), CodeRefused::Malformed);
        assert_eq!(refused(&format!("{}0", code.reveal())), CodeRefused::Malformed);
        assert_eq!(refused("UUUU-UUUU-UUUU-UUUU-UUUU-UUUU-UU"), CodeRefused::Malformed);
        // Each single digit matters, the last one included; and no other text spells the same bytes.
        for place in (0..code.reveal().len()).filter(|i| code.reveal().as_bytes()[*i] != b'-') {
            for digit in ALPHABET {
                let mut changed = code.reveal().as_bytes().to_vec();
                if changed[place] != *digit {
                    changed[place] = *digit;
                    assert!(stored.clone().redeem(std::str::from_utf8(&changed).unwrap(), 0).is_err());
                }
            }
        }
    }

    #[test]
    fn neither_the_record_nor_debug_holds_the_code() {
        let (stored, code) = mint();
        let secret = read(code.reveal()).unwrap();
        let shown = format!("{stored:?} {code:?}");
        assert!(!shown.contains(code.reveal()) && !shown.contains(&hex::encode(*secret)));
        assert_eq!(CodeDigest::try_from(String::from(stored.digest)), Ok(stored.digest));
        assert_eq!(print(&[0xff; 16]).as_str(), "ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZW");
    }
}
