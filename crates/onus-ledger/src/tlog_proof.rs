//! The `.tlog-proof` file: everything needed to prove one entry offline (C2SP tlog-proof).
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64>            (optional)
//! index <n>
//! <base64 hash>             (one a line, sibling of the leaf first)
//!
//! <signed checkpoint>
//! ```
//!
//! The entry itself travels beside the file.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::cosign::{self, Cosignature};
use crate::hash::{Hash, leaf_hash};
use crate::note::{MAX_NOTE_BYTES, NoteError, VerifierKey};
use crate::proof::{ProofError, verify_inclusion};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// An inclusion proof with the checkpoint it leads to: well-formed, not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Bytes for the application, not covered by any signature.
    pub extra: Option<Vec<u8>>,
    /// The entry's index.
    pub index: u64,
    /// The inclusion proof.
    pub path: Vec<Hash>,
    /// The signed checkpoint, verbatim.
    pub checkpoint: String,
}

/// What a verified proof establishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenEntry {
    /// The entry's index.
    pub index: u64,
    /// The checkpoint that commits to it.
    pub checkpoint: SignedCheckpoint,
    /// The witnesses that saw that checkpoint.
    pub cosignatures: Vec<Cosignature>,
}

/// Why a proof file is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// The file is longer than any proof.
    #[error("the proof file is too long")]
    TooLong,
    /// A line does not follow the format.
    #[error("line {0} of the proof file is malformed")]
    Line(usize),
    /// The checkpoint is malformed or not signed by the log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A trusted witness's signature is wrong.
    #[error(transparent)]
    Witness(#[from] NoteError),
    /// Not enough trusted witnesses cosigned.
    #[error("{found} of {quorum} required witnesses cosigned")]
    Quorum {
        /// How many did.
        found: usize,
        /// How many must.
        quorum: usize,
    },
    /// The entry is not where the proof says.
    #[error(transparent)]
    Inclusion(#[from] ProofError),
}

impl TlogProof {
    /// Reads a proof file.
    ///
    /// # Errors
    /// [`TlogProofError::Line`] or [`TlogProofError::TooLong`].
    pub fn parse(file: &str) -> Result<Self, TlogProofError> {
        if file.len() > 2 * MAX_NOTE_BYTES {
            return Err(TlogProofError::TooLong);
        }
        let (head, checkpoint) = file.split_once("\n\n").ok_or(TlogProofError::Line(1))?;
        let mut lines = head.split('\n').zip(1..).peekable();
        if lines.next() != Some((HEADER, 1)) {
            return Err(TlogProofError::Line(1));
        }
        let mut extra = None;
        if let Some((line, number)) = lines.peek()
            && let Some(text) = line.strip_prefix("extra ")
        {
            let bytes = STANDARD.decode(text).map_err(|_| TlogProofError::Line(*number))?;
            extra = Some(bytes);
            lines.next();
        }
        let (line, number) = lines.next().ok_or(TlogProofError::Line(2))?;
        let index = line
            .strip_prefix("index ")
            .and_then(|digits| {
                let index: u64 = digits.parse().ok()?;
                (index.to_string() == digits).then_some(index)
            })
            .ok_or(TlogProofError::Line(number))?;
        let path = lines
            .map(|(line, number)| {
                // A tree of u64 entries is at most 64 levels high.
                let hash = Hash::from_base64(line).ok().filter(|_| number <= 3 + 64);
                hash.ok_or(TlogProofError::Line(number))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { extra, index, path, checkpoint: checkpoint.to_owned() })
    }

    /// Verifies that `entry` is in the log: the log signed the checkpoint, at least `quorum` of
    /// `witnesses` cosigned it, and the path leads from the entry to its root.
    ///
    /// # Errors
    /// [`TlogProofError`].
    pub fn verify(
        &self,
        entry: &[u8],
        log: &VerifierKey,
        witnesses: &[VerifierKey],
        quorum: usize,
    ) -> Result<ProvenEntry, TlogProofError> {
        self.verify_leaf(&leaf_hash(entry), log, witnesses, quorum)
    }

    /// The same for an entry of which only the leaf hash is at hand.
    ///
    /// # Errors
    /// [`TlogProofError`].
    pub fn verify_leaf(
        &self,
        leaf: &Hash,
        log: &VerifierKey,
        witnesses: &[VerifierKey],
        quorum: usize,
    ) -> Result<ProvenEntry, TlogProofError> {
        let checkpoint = SignedCheckpoint::open(&self.checkpoint, log)?;
        let cosignatures = cosign::cosignatures(&checkpoint, witnesses)?;
        if cosignatures.len() < quorum {
            return Err(TlogProofError::Quorum { found: cosignatures.len(), quorum });
        }
        let tree = checkpoint.checkpoint();
        verify_inclusion(self.index, tree.size, leaf, &self.path, &tree.root)?;
        Ok(ProvenEntry { index: self.index, checkpoint, cosignatures })
    }
}

impl fmt::Display for TlogProof {
    /// The file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{}", hash.to_base64())?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}
