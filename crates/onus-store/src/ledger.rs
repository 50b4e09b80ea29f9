//! The port for the ledger and what is derived from it.
//!
//! Deliberately without an update, a delete or a transaction that the caller holds open: one
//! append, compare-and-swap on the size, is the only way in. Deliberately without hashing: leaf
//! hashes, digests and signatures are the caller's, before writing and after reading.

use std::fmt;

use crate::fault::{AppendError, Hex, StoreFault};

/// One ledger entry as stored.
///
/// The store keeps `leaf_hash` beside the bytes so that proofs need not read them; it does not
/// check that one belongs to the other.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The entry exactly as it was hashed. At most 65,535 bytes in a C2SP tlog-tiles ledger,
    /// which every store takes; the limit is the ledger's and no store enforces it.
    pub bytes: Vec<u8>,
    /// The Merkle leaf hash over `bytes` (RFC 6962, section 2.1).
    pub leaf_hash: [u8; 32],
}

/// Shows the size and the hash, never the content.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, hash) = (self.bytes.len(), Hex(&self.leaf_hash));
        write!(f, "Entry({len} bytes, leaf {hash})")
    }
}

/// A signed checkpoint (C2SP tlog-checkpoint) and the size that it speaks for.
///
/// The store does not parse the note: that `size` is the note's own is the caller's affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// The number of entries under the signed root.
    pub size: u64,
    /// The signed note, byte for byte.
    pub note: String,
}

/// A place that keeps the ledger.
///
/// A position in the ledger is the number of entries before it. Several handles, in one process
/// or in many, may be open on one store; all see one order. A call blocks until what it did is
/// durable, and a reading call sees everything that was acknowledged before it began, through
/// whichever handle. Sizes reach to `i64::MAX`.
pub trait LedgerStore: Send {
    /// Appends `entries` at `expected`, if that is the ledger's size; gives the new size.
    ///
    /// The one way in. All entries and the checkpoint become durable, or none of them. An empty
    /// append still compares. The checkpoint follows the rules of
    /// [`put_checkpoint`](Self::put_checkpoint), against the size after this append.
    ///
    /// # Errors
    /// [`AppendError::Conflict`]: someone else was first; nothing was written.
    /// [`AppendError::Fault`]: unknown whether it was written; see [`append_again`].
    fn append(
        &mut self,
        expected: u64,
        entries: &[Entry],
        checkpoint: Option<&SignedCheckpoint>,
    ) -> Result<u64, AppendError>;

    /// The number of entries.
    fn size(&self) -> Result<u64, StoreFault>;

    /// At most `max` entries from position `from` on, in order and without gaps; none past the
    /// end.
    fn read(&self, from: u64, max: usize) -> Result<Vec<Entry>, StoreFault>;

    /// The checkpoints whose size is at least `from_size`, in the order they were published.
    fn checkpoints(&self, from_size: u64) -> Result<Vec<SignedCheckpoint>, StoreFault>;

    /// Publishes a checkpoint.
    ///
    /// Repeating the newest one changes nothing, so a publication whose outcome is unknown can be
    /// repeated. One of the same size with another note is kept beside it (more cosignatures);
    /// whether the two contradict each other is for the ledger's verifier to say.
    ///
    /// # Errors
    /// [`StoreFault::CheckpointBehind`] if a larger one has been published;
    /// [`StoreFault::AheadOfLedger`] if it covers entries that the store doesn't have.
    fn put_checkpoint(&mut self, checkpoint: &SignedCheckpoint) -> Result<(), StoreFault>;

    /// Keeps a snapshot of derived state after `size` entries; only the two of the largest sizes
    /// stay. One of the same size replaces the former.
    ///
    /// A snapshot is a cache: the caller must be able to do without it and must not trust it more
    /// than the entries.
    ///
    /// # Errors
    /// [`StoreFault::AheadOfLedger`] if the ledger is shorter than `size`.
    fn put_snapshot(&mut self, size: u64, bytes: &[u8]) -> Result<(), StoreFault>;

    /// The snapshot of the largest size, with that size.
    fn latest_snapshot(&self) -> Result<Option<(u64, Vec<u8>)>, StoreFault>;

    /// Forgets the snapshot of `size`, so that the one before it is the latest; says whether
    /// there was one. For a snapshot that turned out unreadable or wrong.
    fn discard_snapshot(&mut self, size: u64) -> Result<bool, StoreFault>;

    /// Keeps a blob under its digest. Repeating it changes nothing.
    ///
    /// For texts that entries refer to by digest and that may be larger than an entry. The store
    /// does not compute the digest (SHA-256): the caller does, here and again after reading.
    ///
    /// # Errors
    /// [`StoreFault::BlobDiffers`] if the digest is taken by other bytes, which stay.
    fn put_blob(&mut self, digest: [u8; 32], bytes: &[u8]) -> Result<(), StoreFault>;

    /// The blob kept under a digest. Check the digest before use.
    fn blob(&self, digest: [u8; 32]) -> Result<Option<Vec<u8>>, StoreFault>;
}

/// Repeats an append that ended in a fault, so that its outcome becomes known.
///
/// Appends again at the same position. A conflict can then mean that the first attempt was
/// durable after all; if exactly these entries stand at `expected`, that is what happened and the
/// answer is the size after them (the ledger may have grown further since). Reading without
/// appending again would not do: on a server the first attempt may still be about to commit.
///
/// Entries must tell one attempt from another appender's (an id, a nonce), or another's equal
/// entries would be taken for these. Call with the same arguments as the first time; an attempt
/// without entries can't be recognised and stays a conflict.
///
/// # Errors
/// [`AppendError::Conflict`]: these entries are not in the ledger and now never will be.
/// [`AppendError::Fault`]: still unknown; call again.
pub fn append_again(
    store: &mut (impl LedgerStore + ?Sized),
    expected: u64,
    entries: &[Entry],
    checkpoint: Option<&SignedCheckpoint>,
) -> Result<u64, AppendError> {
    match store.append(expected, entries, checkpoint) {
        Err(conflict @ AppendError::Conflict { .. }) => {
            let landed = !entries.is_empty() && store.read(expected, entries.len())?.as_slice() == entries;
            if landed { Ok(expected + entries.len() as u64) } else { Err(conflict) }
        }
        settled => settled,
    }
}
