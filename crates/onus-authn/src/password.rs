//! Passwords: one policy, one hash (Argon2id), one comparison. It keeps no list of leaked passwords and no history.

use crate::random::{self, NoRandomness};
use argon2::{Algorithm, Argon2, Params, PasswordHash as Phc, PasswordHasher, PasswordVerifier, Version};
use std::fmt;
use zeroize::Zeroizing;

/// The fewest characters a new password may have.
pub const MIN_PASSWORD_CHARS: usize = 12;
/// The most bytes a password may have: bounds what an unauthenticated caller can make us hash.
pub const MAX_PASSWORD_BYTES: usize = 1024;

// OWASP Password Storage Cheat Sheet, 2024: Argon2id with m = 19 MiB, t = 2, p = 1.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
// A stored hash may be stronger than today's, but not so strong that checking it stops the gateway.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 4;

/// Why a text is refused as a new password. Holds nothing of the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordRefused {
    /// Fewer than [`MIN_PASSWORD_CHARS`] characters.
    #[error("the password has {0} characters; use at least {MIN_PASSWORD_CHARS}")]
    TooShort(usize),
    /// More than [`MAX_PASSWORD_BYTES`] bytes.
    #[error("the password is longer than {MAX_PASSWORD_BYTES} bytes")]
    TooLong,
    /// A control character, which a prompt or a file would lose.
    #[error("the password holds a control character")]
    ControlCharacter,
}

/// A stored text is not a hash that this crate would check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoredHashError {
    /// Not a PHC string of Argon2 version 19 with salt and hash.
    #[error("the stored password hash is not an argon2id string")]
    Malformed,
    /// Weaker than today's parameters: someone may have swapped it for one that is cheap to guess.
    #[error("the stored password hash is weaker than the minimum; set the password again")]
    TooWeak,
    /// So expensive that checking it would be an attack on the gateway.
    #[error("the stored password hash is too expensive to check")]
    TooExpensive,
}

/// Hashing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashFault {
    /// No salt could be drawn.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The hash function refused, in practice for want of memory.
    #[error("the password could not be hashed")]
    Hash,
}

/// A password that meets the policy; wiped when dropped.
pub struct NewPassword(Zeroizing<String>);

impl NewPassword {
    /// Puts a text to the policy: length only, as NIST SP 800-63B advises against composition rules.
    pub fn parse(text: Zeroizing<String>) -> Result<Self, PasswordRefused> {
        if text.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordRefused::TooLong);
        }
        let chars = text.chars().count();
        if chars < MIN_PASSWORD_CHARS {
            return Err(PasswordRefused::TooShort(chars));
        }
        if text.chars().any(char::is_control) {
            return Err(PasswordRefused::ControlCharacter);
        }
        Ok(Self(text))
    }

    /// Hashes the password under a fresh salt. Takes tens of milliseconds and 19 MiB: keep it off an async thread.
    pub fn hash(&self) -> Result<PasswordHash, HashFault> {
        let salt: [u8; 16] = random::bytes()?;
        let phc: Phc = argon2id().hash_password_with_salt(self.0.as_bytes(), &salt).map_err(|_| HashFault::Hash)?;
        Ok(PasswordHash(phc.to_string()))
    }
}

impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewPassword(…)")
    }
}

/// A password's hash as a PHC string (`$argon2id$v=19$m=19456,t=2,p=1$salt$hash`), checked when it is read.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Reads a stored hash; refuses other functions, and parameters below today's or absurdly above.
    pub fn parse(text: &str) -> Result<Self, StoredHashError> {
        let phc = Phc::new(text).map_err(|_| StoredHashError::Malformed)?;
        let salted = phc.salt.as_ref().is_some_and(|salt| salt.len() >= 16);
        let full = phc.hash.as_ref().is_some_and(|hash| hash.len() >= 32);
        if phc.algorithm.as_str() != "argon2id" || phc.version != Some(0x13) || !salted || !full {
            return Err(StoredHashError::Malformed);
        }
        let params = Params::try_from(&phc).map_err(|_| StoredHashError::Malformed)?;
        if params.m_cost() < MEMORY_KIB || params.t_cost() < PASSES {
            return Err(StoredHashError::TooWeak);
        }
        if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES || params.p_cost() > MAX_LANES {
            return Err(StoredHashError::TooExpensive);
        }
        Ok(Self(text.to_owned()))
    }

    /// The PHC string, for storing. Never show it: it can be guessed against offline.
    pub fn as_phc(&self) -> &str {
        &self.0
    }

    /// Whether `presented` is the password. Takes as long as hashing; the comparison takes constant time.
    pub fn verify(&self, presented: &str) -> PasswordCheck {
        // Longer than any password that can be set; refusing early tells nothing about this subject.
        if presented.len() > MAX_PASSWORD_BYTES {
            return PasswordCheck::Wrong;
        }
        let Ok(phc) = Phc::new(&self.0) else { return PasswordCheck::Wrong };
        match argon2id().verify_password(presented.as_bytes(), &phc) {
            Ok(()) => PasswordCheck::Right,
            Err(_) => PasswordCheck::Wrong,
        }
    }
}

impl TryFrom<String> for PasswordHash {
    type Error = StoredHashError;
    fn try_from(text: String) -> Result<Self, StoredHashError> {
        Self::parse(&text)
    }
}

impl From<PasswordHash> for String {
    fn from(hash: PasswordHash) -> String {
        hash.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// What comparing a password found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum PasswordCheck {
    /// It is the password.
    Right,
    /// It is not, or could not be checked.
    Wrong,
}

/// Spends the time of a real check, for a subject that has no password or doesn't exist, so that the answer's time
/// does not tell which subjects exist. Always [`PasswordCheck::Wrong`].
///
/// Constant-ish: the same function with the same parameters, but caches and load still vary.
pub fn verify_nothing(presented: &str) -> PasswordCheck {
    if presented.len() > MAX_PASSWORD_BYTES {
        return PasswordCheck::Wrong;
    }
    // Checked against a made-up hash: a 32-byte output that no known input has.
    let mut output = Zeroizing::new([0u8; 32]);
    let spent = argon2id().hash_password_into(presented.as_bytes(), &[0x5a; 16], output.as_mut());
    let _ = std::hint::black_box((spent.is_ok(), &output));
    PasswordCheck::Wrong
}

fn argon2id() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32)).expect("the constants above are in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn new(text: &str) -> Result<NewPassword, PasswordRefused> {
        NewPassword::parse(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn a_hash_knows_its_password_and_no_other() {
        let hash = new("correct horse battery").unwrap().hash().unwrap();
        assert!(hash.as_phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_phc());
        let stored = PasswordHash::parse(hash.as_phc()).unwrap();
        assert_eq!(stored.verify("correct horse battery"), PasswordCheck::Right);
        for wrong in ["correct horse batterz", "", "correct horse battery ", &"x".repeat(5000)] {
            assert_eq!(stored.verify(wrong), PasswordCheck::Wrong);
        }
        assert_ne!(new("correct horse battery").unwrap().hash().unwrap(), hash, "each hash has its own salt");
        assert!(!format!("{hash:?}").contains("argon2"));
    }

    #[test]
    fn the_policy_is_length() {
        assert_eq!(new("elevenchars").unwrap_err(), PasswordRefused::TooShort(11));
        assert_eq!(new("ääääääääääää").map(|_| ()), Ok(()), "characters count, not bytes");
        assert_eq!(new("äääääääääää").unwrap_err(), PasswordRefused::TooShort(11));
        assert_eq!(new(&"x".repeat(1025)).unwrap_err(), PasswordRefused::TooLong);
        assert_eq!(new("twelve chars\n").unwrap_err(), PasswordRefused::ControlCharacter);
        assert!(!PasswordRefused::TooShort(3).to_string().is_empty());
        assert_eq!(format!("{:?}", new("correct horse battery").unwrap()), "NewPassword(…)");
    }

    #[test]
    fn a_stored_hash_that_was_weakened_or_swapped_is_refused() {
        let good = new("correct horse battery").unwrap().hash().unwrap();
        let with = |from: &str, to: &str| PasswordHash::parse(&good.as_phc().replace(from, to));
        assert_eq!(with("m=19456", "m=8"), Err(StoredHashError::TooWeak));
        assert_eq!(with("t=2", "t=1"), Err(StoredHashError::TooWeak));
        assert_eq!(with("m=19456", "m=4000000"), Err(StoredHashError::TooExpensive));
        assert_eq!(with("t=2", "t=99999"), Err(StoredHashError::TooExpensive));
        assert_eq!(with("argon2id", "argon2i"), Err(StoredHashError::Malformed));
        assert_eq!(with("$v=19", "$v=16"), Err(StoredHashError::Malformed));
        for wrong in ["", "plain", "$argon2id$v=19$m=19456,t=2,p=1", "$2b$12$abc"] {
            assert_eq!(PasswordHash::parse(wrong), Err(StoredHashError::Malformed), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_subject_costs_as_much_as_a_known_one() {
        let hash = new("correct horse battery").unwrap().hash().unwrap();
        // The least of several, because other work on the machine only ever adds.
        let least = |check: &dyn Fn() -> PasswordCheck| {
            (0..5)
                .map(|_| {
                    let start = Instant::now();
                    assert_eq!(check(), PasswordCheck::Wrong);
                    start.elapsed()
                })
                .min()
                .unwrap()
        };
        let known = least(&|| hash.verify("some wrong password"));
        let unknown = least(&|| verify_nothing("some wrong password"));
        assert!(unknown * 3 > known && known * 3 > unknown, "known {known:?}, unknown {unknown:?}");
    }
}
