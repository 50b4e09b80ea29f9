//! The legacy copy protocol of `scp -t` and `scp -f`, between a client and an upstream.
//!
//! [`parse_command`] reads the exec line's words. [`Sink`] is the channel of an upload: each file and directory that the
//! client announces is an operation before the upstream hears of it. [`Source`] is the channel of a download, which was
//! decided with its command; here the client only says "go on", and what comes is accounted for.
//!
//! The protocol has no lengths around its lines and no ids, so both sides must agree at every byte about what comes
//! next. Therefore everything goes in lockstep: no line of the client's is looked at before the upstream has answered
//! the one before, and only lines that were read and written anew go on. Otherwise a client could announce a file that
//! the upstream cannot open, and send as its "content" lines that nobody decided about.
//!
//! Globs, environment and the shell that runs `scp` are not the business of this module.

mod command;
mod fuzz;
mod line;
mod sink;
mod source;
#[cfg(test)]
mod tests;

pub(crate) use command::is_other_home;
pub use command::{Role, ScpCommand, parse_command};
pub use fuzz::fuzz;
pub use line::{ScpViolation, fatal};
pub use sink::{Sink, SinkPiece, SinkRequest};
pub use source::Source;
