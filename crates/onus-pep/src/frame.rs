//! What a protocol makes of the client's bytes: frames, the statements that they carry, and their parameters.
//!
//! Nothing here knows a protocol or decides anything.

use bytes::Bytes;
use onus_core::operation::{Durability, Operation};
use std::fmt;
use std::sync::Arc;

/// The number of a decided frame within its session, from 1. Zero stands for a frame that carries no operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OpNo(pub u64);

/// What makes two statements the same for a cached decision: equal identities must mean equal operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatementId(pub u64);

/// SHA-256 over what a confirmation binds to: text, parameters, session and policy.
pub type Digest = [u8; 32];

/// A classified statement: what it does, without its text (many texts may share one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    id: StatementId,
    operations: Box<[Operation]>,
    durability: Durability,
}

impl Statement {
    /// A statement with these operations; its durability is that of its most severe one.
    pub fn new(id: StatementId, operations: Vec<Operation>) -> Self {
        let durability = operations.iter().map(|o| o.class.durability()).max().unwrap_or(Durability::HandedOver);
        Self { id, operations: operations.into_boxed_slice(), durability }
    }
    /// Its identity.
    pub fn id(&self) -> StatementId {
        self.id
    }
    /// What it does; empty for an empty statement.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }
    /// How far its record must have come before it may be relayed.
    pub fn durability(&self) -> Durability {
        self.durability
    }
}

/// What relaying the frame sets in motion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The other side takes the statement in but does not run it; each run comes as a frame of its own and is
    /// decided again. A hold therefore does not stop this stage (it stops the run); a refusal does.
    Prepare,
    /// The other side runs it.
    Run,
}

impl Stage {
    /// The word used in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Run => "run",
        }
    }
}

/// A parameter as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Param {
    /// SQL NULL, or the protocol's like.
    Null,
    /// Text, perhaps cut; `bytes` is the whole length.
    Text {
        /// The text, or its beginning (valid UTF-8 up to a cut character).
        shown: Bytes,
        /// The length of the whole, in bytes.
        bytes: usize,
    },
    /// Not text: recorded in hex, perhaps cut.
    Binary {
        /// The bytes, or the first of them.
        shown: Bytes,
        /// The length of the whole, in bytes.
        bytes: usize,
    },
}

/// A frame that the protocol itself refuses, whatever policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    /// The protocol's code for it (an SQLSTATE).
    pub code: &'static str,
    /// Why, for the person who is refused.
    pub why: String,
}

/// A piece of the client's bytes that is relayed or refused as a whole. `K` is the protocol's own note about it.
#[derive(Clone)]
pub struct Frame<K> {
    /// Exactly the client's bytes.
    pub bytes: Bytes,
    /// What it carries; `None` when it carries no operation and needs only its place in the order.
    pub statement: Option<Arc<Statement>>,
    /// What relaying it sets in motion.
    pub stage: Stage,
    /// The text for the record, as sent; may be invalid UTF-8 only when `forbidden`.
    pub text: Bytes,
    /// The parameters for the record.
    pub params: Vec<Param>,
    /// Set when the protocol refuses it, whatever policy says.
    pub forbidden: Option<Forbidden>,
    /// Whether the client says goodbye with it: once relayed, the session ends.
    pub farewell: bool,
    /// Which of several independent streams in one session it belongs to (an SSH channel). Order is kept within a
    /// lane, and a frame that waits holds up only its own. A protocol without such streams has lane 0 only.
    pub lane: u32,
    /// The protocol's own note.
    pub kind: K,
}

impl<K> Frame<K> {
    /// A frame that carries no operation.
    pub fn plain(bytes: Bytes, kind: K) -> Self {
        Self {
            bytes,
            statement: None,
            stage: Stage::Run,
            text: Bytes::new(),
            params: Vec::new(),
            forbidden: None,
            farewell: false,
            lane: 0,
            kind,
        }
    }
}

impl<K> fmt::Debug for Frame<K> {
    /// Lengths only: the bytes may hold what must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("bytes", &self.bytes.len())
            .field("statement", &self.statement.as_ref().map(|s| s.id()))
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}
