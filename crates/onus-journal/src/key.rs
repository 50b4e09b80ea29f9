//! The key of one session's journal and the keys of its segments.
//!
//! Deliberately not here: where keys are kept, and how the master key comes to be.

use std::fmt;

use aes_gcm::{Aes256Gcm, KeyInit as _};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::head::Head;
use crate::hmac::{expand, extract};

/// The secret that opens one session's journal: 32 bytes, wiped when dropped, never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// Takes a key as it is. It must be uniformly random and belong to one session only.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Derives a session's key from a master key: HKDF-SHA256 with the session's id as info.
    #[must_use]
    pub fn derive(master: &[u8; 32], session_id: &str) -> Self {
        let key = extract(b"onus/journal/key/v1", master);
        Self(*expand(&key, &[session_id.as_bytes()]))
    }

    /// The 32 bytes, for storing the key sealed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The cipher of one segment and the check that tells whether the key is the right one.
    pub(crate) fn segment(&self, segment: u32, created_ms: u64, previous: &Head) -> SegmentKey {
        let (number, created) = (segment.to_le_bytes(), created_ms.to_le_bytes());
        // Every part has a fixed length, so that no two segments share an info.
        let info = |label: &'static [u8]| [label, &number[..], &created[..], &previous.0[..]];
        let key = expand(&self.0, &info(b"onus/journal/segment/v1\0"));
        let check = expand(&self.0, &info(b"onus/journal/check/v1\0"));
        let [a, b, c, d, e, f, g, h, ..] = *check;
        SegmentKey { cipher: Aes256Gcm::new((&*key).into()), check: [a, b, c, d, e, f, g, h] }
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

pub(crate) struct SegmentKey {
    pub(crate) cipher: Aes256Gcm,
    pub(crate) check: [u8; 8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_show() {
        assert_eq!(format!("{:?}", SessionKey::from_bytes([7; 32])), "SessionKey(…)");
    }

    #[test]
    fn sessions_and_masters_have_keys_of_their_own() {
        let key = |master: u8, id: &str| *SessionKey::derive(&[master; 32], id).as_bytes();
        assert_eq!(key(1, "s1"), key(1, "s1"));
        assert_ne!(key(1, "s1"), key(1, "s2"));
        assert_ne!(key(1, "s1"), key(2, "s1"));
    }

    #[test]
    fn a_segment_number_given_again_has_another_key() {
        let key = SessionKey::from_bytes([7; 32]);
        let check = |segment, created, head| key.segment(segment, created, &Head(head)).check;
        let one = check(3, 1000, [0; 32]);
        assert_ne!(one, check(4, 1000, [0; 32]));
        assert_ne!(one, check(3, 1001, [0; 32]));
        assert_ne!(one, check(3, 1000, [1; 32]));
    }
}
