//! The pure transparency log: Merkle tree, signed checkpoints, proofs and verifier. Knows no domain.
//!
//! Entries are opaque bytes here. The crate implements RFC 9162 trees and proofs and the C2SP
//! formats signed-note, tlog-checkpoint, tlog-tiles, tlog-cosignature (Ed25519) and tlog-proof.
//! It deliberately does no I/O, reads no clock and draws no randomness: a key comes from a seed, a
//! time from the caller, and where tiles live is the caller's business. It does not implement the
//! ML-DSA cosignature, the witness HTTP protocol or the trust policy file.

#![warn(clippy::all)]

pub mod hash;
pub mod tree;

pub mod proof;

pub mod note;

pub mod checkpoint;

pub mod cosign;

pub mod tile;

pub mod tlog_proof;

pub mod verify;

mod align;

pub use checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
pub use hash::{Hash, leaf_hash};
pub use note::{KeyName, Note, SigningKey, VerifierKey};
pub use proof::{ProofError, verify_consistency, verify_inclusion};
pub use tile::Tile;
pub use tlog_proof::TlogProof;
pub use tree::{Tree, TreeError};
pub use verify::{Finding, LedgerCopy, Report, verify};
