//! What was transferred: the account of one file, in one direction, as it goes by.

use sha2::{Digest, Sha256};

/// Which way a file's bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the upstream to the client.
    Read,
    /// From the client to the upstream.
    Write,
}

impl Direction {
    /// The word used in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// Whether the bytes of files are hashed as they pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hashing {
    /// SHA-256 of what is read or written in order from the file's start: one pass over the bytes.
    Sequential,
    /// No hashes.
    Off,
}

/// What was transferred of one file while it was open, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The file, named as in the operation that opened it.
    pub path: String,
    /// Which way.
    pub direction: Direction,
    /// How many bytes of content went that way, repeated ones counted again.
    pub bytes: u64,
    /// SHA-256 of those bytes; only where they went in order and without a gap from offset 0 (and not appended), and
    /// no part of it failed. For a write it is the hash of what was written, which is the file's only if it was
    /// truncated and nobody else writes it.
    pub sha256: Option<[u8; 32]>,
    /// Written: every byte was acknowledged and the file closed without an error. Read: in order up to the end of the
    /// file. As the upstream says; it is not verified.
    pub complete: bool,
    /// Whether the upstream also copied content between this and another open file, which no byte of shows here.
    pub copied: bool,
}

/// A transfer that goes on.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    bytes: u64,
    next: u64,
    in_order: bool,
    hash: Option<Sha256>,
    pub(crate) failed: bool,
}

impl Running {
    pub(crate) fn new(hashing: Hashing) -> Self {
        let hash = (hashing == Hashing::Sequential).then(Sha256::new);
        Self { bytes: 0, next: 0, in_order: true, hash, failed: false }
    }

    /// Content follows that belongs at this offset.
    pub(crate) fn at(&mut self, offset: u64) {
        if offset != self.next {
            self.disorder();
            self.next = offset;
        }
    }

    /// The content is not a sequence from the start.
    pub(crate) fn disorder(&mut self) {
        self.in_order = false;
        self.hash = None;
    }

    /// Content goes by.
    pub(crate) fn feed(&mut self, content: &[u8]) {
        let length = content.len() as u64;
        self.bytes = self.bytes.saturating_add(length);
        self.next = self.next.saturating_add(length);
        if let Some(hash) = &mut self.hash {
            hash.update(content);
        }
    }

    /// Whether everything before this offset went by in order.
    pub(crate) fn reached(&self, offset: u64) -> bool {
        self.in_order && self.next == offset
    }

    pub(crate) fn is_untouched(&self) -> bool {
        self.bytes == 0
    }

    pub(crate) fn finish(self, path: String, direction: Direction, complete: bool, copied: bool) -> Transfer {
        let sha256 = self.hash.filter(|_| !self.failed).map(|hash| hash.finalize().into());
        Transfer { path, direction, bytes: self.bytes, sha256, complete: complete && !self.failed, copied }
    }
}
