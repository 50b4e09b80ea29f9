//! What can go wrong in a store, told apart as far as a person would act differently.
//!
//! Carries no value that was stored and no vault name: a fault may be logged as it is.

use std::error::Error;
use std::fmt;

/// The cause under a fault: the error of whatever library or system call the store stands on.
pub type FaultSource = Box<dyn Error + Send + Sync + 'static>;

/// The part of a store that a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The ledger's entries.
    Entries,
    /// The ledger's checkpoints.
    Checkpoints,
    /// The snapshots of derived state.
    Snapshots,
    /// The content-addressed blobs.
    Blobs,
    /// The vault's sealed values.
    Vault,
    /// The store's own layout and version.
    Schema,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entries => "ledger entries",
            Self::Checkpoints => "checkpoints",
            Self::Snapshots => "snapshots",
            Self::Blobs => "blobs",
            Self::Vault => "vault values",
            Self::Schema => "the store's schema",
        })
    }
}

/// A store could not do what it was asked.
///
/// After a fault of a writing call the caller does not know whether the write is durable: it may
/// have been, with only the acknowledgement lost. [`append_again`](crate::append_again) settles
/// that for entries; every other writing call except [`take`](crate::VaultStore::take) and
/// [`compare_and_swap`](crate::VaultStore::compare_and_swap) can simply be repeated.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// The store could not be opened or created.
    #[error("could not open the store at `{place}`")]
    Open {
        /// Where it was looked for; never with credentials in it.
        place: String,
        /// The cause.
        #[source]
        source: FaultSource,
    },
    /// There is no store here, and the caller asked for one that exists.
    #[error("there is no store at `{place}`")]
    Missing {
        /// Where it was looked for.
        place: String,
    },
    /// Something is there that another program made.
    #[error("`{place}` is not an Onus store")]
    Foreign {
        /// Where it was found.
        place: String,
    },
    /// The store was written by another version than this one can use.
    #[error("the store at `{place}` has schema version {found}; this program needs {supported}")]
    Version {
        /// Where it was found.
        place: String,
        /// The version found.
        found: i64,
        /// The version that this program reads and writes.
        supported: i64,
    },
    /// The store went away, or another took its place, while it was open.
    #[error("the store at `{place}` was moved, deleted or replaced while in use")]
    Moved {
        /// Where it was opened.
        place: String,
    },
    /// Reading failed.
    #[error("could not read {part}")]
    Read {
        /// What was to be read.
        part: Part,
        /// The cause.
        #[source]
        source: FaultSource,
    },
    /// Writing failed, or its outcome is unknown.
    #[error("could not write {part}")]
    Write {
        /// What was to be written.
        part: Part,
        /// The cause.
        #[source]
        source: FaultSource,
    },
    /// Another process or handle held the store for longer than this one waits.
    #[error("{part} are locked by another process or connection")]
    Locked {
        /// What was to be read or written.
        part: Part,
    },
    /// No space is left.
    #[error("no space is left for {part}; free disk space or raise the quota")]
    Full {
        /// What was to be written.
        part: Part,
    },
    /// The store contradicts its own format.
    #[error("{part} are damaged")]
    Corrupt {
        /// Where the damage showed.
        part: Part,
        /// What was found.
        #[source]
        source: FaultSource,
    },
    /// The store, or this handle on it, is for reading only.
    #[error("{part} can't be written: the store is read-only")]
    ReadOnly {
        /// What was to be written.
        part: Part,
    },
    /// The number is larger than the store can hold.
    #[error("the size {size} is beyond what a store can hold")]
    TooLarge {
        /// The size offered.
        size: u64,
    },
    /// A checkpoint or snapshot speaks of entries that the store doesn't have.
    #[error("{part} of size {offered} refused: the ledger has {size} entries")]
    AheadOfLedger {
        /// What was offered.
        part: Part,
        /// Its size.
        offered: u64,
        /// The ledger's size.
        size: u64,
    },
    /// A checkpoint is smaller than one already published.
    #[error("checkpoint of size {offered} refused: one of size {newest} has been published")]
    CheckpointBehind {
        /// The size offered.
        offered: u64,
        /// The size of the newest one.
        newest: u64,
    },
    /// A blob with this digest exists with other content, so one of the two was not hashed.
    #[error("blob {} refused: its digest is taken by other content", Hex(.digest))]
    BlobDiffers {
        /// The digest.
        digest: [u8; 32],
    },
}

/// Why an append did not happen, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Someone else appended first. Nothing was written.
    #[error("expected a ledger of {expected} entries, found {actual}")]
    Conflict {
        /// The size that the caller built upon.
        expected: u64,
        /// The size that the store has.
        actual: u64,
    },
    /// The store failed; the outcome is unknown unless the fault says so.
    #[error(transparent)]
    Fault(#[from] StoreFault),
}

/// Lower-case hexadecimal.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_as_a_sentence_and_keeps_its_cause_apart() {
        let fault = StoreFault::Write { part: Part::Entries, source: "the cable was pulled".into() };
        assert_eq!(fault.to_string(), "could not write ledger entries");
        let cause = fault.source().expect("given above").to_string();
        assert_eq!(cause, "the cable was pulled");
        let mut digest = [0; 32];
        digest[0] = 0xa5;
        let text = StoreFault::BlobDiffers { digest }.to_string();
        assert!(text.starts_with("blob a500"), "{text}");
    }
}
