//! What a protocol must be able to do for the machine. It knows its bytes and nothing of policy, journals or clocks.

use crate::frame::{Digest, Frame, OpNo};
use crate::machine::EndCause;
use crate::record::Done;
use bytes::{Bytes, BytesMut};
use onus_core::decision::Decision;
use onus_core::view::View;

/// What the client's bytes hold next.
#[derive(Debug)]
pub enum Next<K> {
    /// A frame, cut off the front of the buffer.
    Frame(Frame<K>),
    /// The protocol answers by itself: bytes for the client, and nothing goes upstream for it. Also a place to say
    /// what an earlier step left to be said.
    Say(Bytes),
    /// Something for the recording.
    Tape(Tape),
    /// What came of a frame that the other side had no part in.
    Done(Done),
    /// Whoever asked takes back what is held in this lane.
    Withdraw(u32),
    /// Not enough bytes yet.
    More,
    /// The next frame can't be understood before the upstream has answered what was relayed; ask again after
    /// the next upstream bytes.
    Wait,
}

/// The client or the upstream broke the protocol; the session ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Violation {
    /// The protocol's code for it (an SQLSTATE).
    pub code: &'static str,
    /// What was wrong, for people; never holds the peer's data.
    pub message: String,
}

impl Violation {
    /// A violation with this code and message.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Why a frame is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusalKind {
    /// Policy, scope or the protocol denied it.
    Denied {
        /// The protocol's own code where it was the protocol that refused.
        code: Option<&'static str>,
    },
    /// It was held, and nobody confirmed in time.
    Expired,
    /// It was held, and somebody said no.
    Declined {
        /// Who.
        by: String,
        /// Their reason.
        reason: String,
    },
    /// It was held, and when it was confirmed the policy or the decision was no longer the one that held it.
    Overtaken,
}

/// All that a protocol needs to spell a refusal.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    /// What kind.
    pub kind: &'a RefusalKind,
    /// The decision: which policies, whose, and why.
    pub decision: &'a Decision,
    /// The view under which it was made.
    pub view: &'a View,
}

/// How a refusal is carried out.
#[derive(Debug, Clone)]
pub struct Replacement {
    /// What is sent upstream in the frame's place; empty to send nothing. `'static`, so that nothing of the
    /// client's can be in it.
    pub upstream: &'static [u8],
    /// What the client is told, when its turn comes.
    pub answer: Bytes,
}

/// What the upstream's bytes amount to, in order.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Bytes for the client.
    ToClient(Bytes),
    /// Something for the recording. It is appended before any later reply goes to the client, so what a terminal
    /// showed is recorded before it is shown (invariant 4).
    Tape(Tape),
    /// A relayed frame was answered.
    Done(Done),
}

/// A piece of the recording of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tape {
    /// Which stream of the session: its lane.
    pub lane: u32,
    /// What kind of piece.
    pub track: Track,
    /// The bytes.
    pub bytes: Bytes,
}

/// What a piece of a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// What the other side showed.
    Output,
    /// What it wrote to its error stream, where that is apart.
    Error,
    /// What was typed and echoed.
    Input,
    /// The terminal's size, `80x24`.
    Resize,
    /// How it exited, a decimal number.
    Exit,
    /// A remark of the gateway's.
    Marker,
}

impl Track {
    /// The letter used in the journal; those of asciicast v3, and `e`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Output => "o",
            Self::Error => "e",
            Self::Input => "i",
            Self::Resize => "r",
            Self::Exit => "x",
            Self::Marker => "m",
        }
    }
}

/// A protocol, sans I/O. All methods are called by the machine only, and in the order of the bytes.
pub trait Protocol {
    /// The protocol's own note about a frame.
    type Kind;

    /// Whether frames may overtake a held one of another lane. If not, the client is not read while one is held.
    const LANES: bool = false;

    /// Cuts the next frame off the client's bytes, without copying them.
    fn client(&mut self, buffer: &mut BytesMut) -> Result<Next<Self::Kind>, Violation>;

    /// Reads what the upstream sent and pushes what it amounts to; leaves only what is incomplete in the buffer.
    fn upstream(&mut self, buffer: &mut BytesMut, micros: u64, replies: &mut Vec<Reply>) -> Result<(), Violation>;

    /// The frame will be refused, for good. Called in the order of the client's frames, before the refusal is
    /// released with [`Protocol::replaced`]. May not depend on anything but the frame and the refusal.
    fn refuse(&mut self, frame: &Frame<Self::Kind>, refusal: &Refusal<'_>) -> Replacement;

    /// The frame's bytes go upstream now. Returns bytes of the protocol's own that must follow them.
    fn relayed(&mut self, frame: &Frame<Self::Kind>, op: OpNo, micros: u64) -> Option<&'static [u8]>;

    /// The replacement of a refused frame goes upstream now. Returns what to tell the client at once, if its turn
    /// does not wait for the upstream.
    fn replaced(&mut self, frame: &Frame<Self::Kind>, replacement: Replacement, op: OpNo, micros: u64)
    -> Option<Bytes>;

    /// A word to the client that changes nothing (a statement waits); `None` if this is not the place in its bytes,
    /// in which case the protocol sends it later by itself.
    fn notice(&mut self, text: &str) -> Option<Bytes>;

    /// The last word to the client before both sides are closed; `None` in the middle of another message.
    /// `code` is the protocol's own code where somebody gave one; otherwise it follows from the cause.
    fn fatal(&self, cause: EndCause, code: Option<&str>, text: &str) -> Option<Bytes>;

    /// What a confirmation of this frame binds to: SHA-256 over text, parameters, session and policy.
    fn digest(&self, frame: &Frame<Self::Kind>, view: &View) -> Digest;

    /// Whether the upstream is at work on something that was relayed.
    fn busy(&self) -> bool;
}
