//! The pure enforcement machine: bytes, acknowledgements, step-ups and kill become outputs.
//!
//! A [`Machine`] stands between one client and one upstream. A [`Protocol`] cuts the client's bytes into frames and
//! says which operations each carries; the machine puts them to policy, has them recorded, and only then releases
//! them, wrapped in [`Permitted`], which nothing else can build. It holds no socket, clock, key or file: whatever it
//! needs is handed in with each step, and whatever it wants done comes out as an [`Output`].

pub mod frame;
pub mod journal;
pub mod machine;
pub mod protocol;
pub mod record;

pub use frame::{Digest, Forbidden, Frame, OpNo, Param, Stage, Statement, StatementId};
pub use journal::{Appended, Journal, RecordNo};
pub use machine::{End, EndCause, Input, KillReason, Limits, Machine, Moment, Output, Permitted, Ticket};
pub use protocol::{Next, Protocol, Refusal, RefusalKind, Replacement, Reply, Tape, Track, Violation};
pub use record::{Done, Failure, Record};
