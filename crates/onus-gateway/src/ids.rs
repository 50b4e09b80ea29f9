//! Making up ids: the one place where the gateway draws them.

use onus_core::ids::{GrantId, HoldId, RequestId, SessionId};

/// Crockford's base 32 without the letters that are mistaken for digits, lower case: good in role names too.
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// `prefix` and `letters` random ones of five bits each.
///
/// # Panics
/// When the operating system has no randomness to give; nothing can be done safely then.
pub fn random(prefix: &str, letters: usize) -> String {
    let mut bytes = vec![0u8; letters];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    prefix.chars().chain(bytes.iter().map(|b| char::from(LETTERS[usize::from(b & 31)]))).collect()
}

macro_rules! fresh {
    ($(#[$doc:meta])* $name:ident, $type:ty, $prefix:literal, $letters:literal) => {
        $(#[$doc])*
        pub fn $name() -> $type {
            random($prefix, $letters).parse().expect("letters and digits are an id")
        }
    };
}

fresh!(/** A request's number. */ request, RequestId, "R-", 8);
fresh!(/** A grant's number. */ grant, GrantId, "G-", 8);
fresh!(/** A session's number: long enough that none comes twice in the life of a ledger. */ session, SessionId, "S-", 12);
fresh!(/** A hold's number: short, because people type it. */ hold, HoldId, "H-", 6);
