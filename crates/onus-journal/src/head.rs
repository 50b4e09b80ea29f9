//! The head of a journal's hash chain: 32 bytes that stand for everything before.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A value of the chain. Whoever has it can tell any change to what came before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Head(pub [u8; 32]);

/// A head kept outside of the journal: after record `seq`, the head was `head`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The number of the last record before it, 0 before the first.
    pub seq: u64,
    /// The head at that moment.
    pub head: Head,
}

impl Head {
    /// The head before the first segment: `SHA256("onus/journal/v1\0" || session_id)`.
    #[must_use]
    pub fn genesis(session_id: &str) -> Self {
        let hash = Sha256::new().chain_update(b"onus/journal/v1\0").chain_update(session_id);
        Self(hash.finalize().into())
    }

    pub(crate) fn after_header(self, header: &[u8]) -> Self {
        self.after(0x01, header)
    }

    pub(crate) fn after_record(self, record: &[u8]) -> Self {
        self.after(0x02, record)
    }

    fn after(self, kind: u8, bytes: &[u8]) -> Self {
        let hash = Sha256::new().chain_update([kind]).chain_update(self.0).chain_update(bytes);
        Self(hash.finalize().into())
    }

    /// The first bytes, as the wire form carries them.
    pub(crate) fn check(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        [a, b, c, d, e, f, g, h]
    }

    /// Lower-case hex.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads 64 hex digits; `None` for anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut head = [0; 32];
        hex::decode_to_slice(text, &mut head).ok()?;
        Some(Self(head))
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}
