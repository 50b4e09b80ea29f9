//! Exec lines of programs that copy files in a protocol of their own: rsync and git.
//!
//! Their command line says which way and where, and that is what is decided; what they then say to each other is passed
//! on unread, so which files go under the named path is not known here. The lines of `scp`, whose protocol is read, are
//! in [`crate::scp`].

pub mod git;
pub mod rsync;
