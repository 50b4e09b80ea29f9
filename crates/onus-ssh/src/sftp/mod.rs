//! The SFTP subsystem, version 3 as OpenSSH speaks it, between a client and an upstream.
//!
//! [`Sftp`] is one channel: it cuts the client's bytes into requests, says what each one does as an
//! [`Operation`](onus_core::operation::Operation), knows which handle came from which open, follows the upstream's
//! replies, answers what is refused, and tells what was transferred. It decides nothing, records nothing, and knows
//! neither packets of SSH nor sockets. The bytes of files pass through it without being copied or waited for.
//!
//! Only version 3 is spoken: the client's greeting is replaced by one that offers version 3, since later versions give
//! the same numbers other meanings.

pub mod actions;
mod channel;
mod fuzz;
mod packet;
pub mod path;
mod request;
#[cfg(test)]
mod tests;
mod transfer;

pub use actions::ACTIONS;
pub use channel::{Piece, Reply, Request, Sftp, SftpViolation};
pub use fuzz::fuzz;
pub use request::{Forbidden, Kind, Status};
pub use transfer::{Direction, Hashing, Transfer};

pub(crate) use transfer::Running;
