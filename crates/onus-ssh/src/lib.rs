//! The SSH connection protocol without I/O: channels, file transfers, the governed shell.
//!
//! [`SshProtocol`] is what the enforcement machine drives: packets of RFC 4254 in, frames and replies out. It does no
//! cryptography, knows no policy, and opens no socket.

pub mod actions;
pub mod message;
pub mod proxy;
pub mod scp;
pub mod sftp;
pub mod transfer_commands;

pub use proxy::SshProtocol;

/// The actions of file transfers.
pub(crate) fn file_actions() -> &'static [(&'static str, onus_core::operation::Class)] {
    sftp::ACTIONS
}
