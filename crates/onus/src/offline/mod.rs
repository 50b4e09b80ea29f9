//! What the command line does without a server: reading, explaining, testing, verifying.
//!
//! Nothing here opens a socket or writes into a data directory. Whatever is read (files, journals, copies of a ledger)
//! was made by others: it is parsed, and escaped before a terminal sees it.

pub mod estate_diff;
pub mod estate_file;

pub mod explain;
pub mod explain_shell;
pub mod policy;

pub mod ledger;
pub mod replay;
pub mod verify;

pub mod shown;

mod data_dir;
mod policy_dir;

use std::io;
use std::process::ExitCode;

/// Something was refused or found wrong, or could not be done.
pub(crate) const FAILED: u8 = 1;
/// The command line asks for something that makes no sense.
pub(crate) const USAGE: u8 = 2;

/// The exit status of a command that writes: a reader that went away (`| head`) is no failure of ours.
pub(crate) fn finish(outcome: io::Result<u8>) -> ExitCode {
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("onus: cannot write the answer: {error}");
            ExitCode::from(FAILED)
        }
    }
}
