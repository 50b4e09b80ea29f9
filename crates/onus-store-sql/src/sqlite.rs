//! The store in one SQLite file: opening it, its transactions, its faults.
//!
//! The ports are implemented in `ledger` and `vault`, one statement or one transaction a call.
//! Does not keep a second server out; that is [`DataLock`](crate::DataLock)'s.

mod fault;
mod ledger;
mod open;
mod vault;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use onus_store::{Part, StoreFault};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use fault::Attempt;

/// A handle on a ledger and vault in an SQLite file.
///
/// Every write is durable when the call returns (write-ahead log, `synchronous=FULL`). A call
/// waits 2 s for another handle's write before it gives [`StoreFault::Locked`]; reading never
/// waits for writing.
///
/// To copy the file while a server runs, copy it by `VACUUM INTO` or SQLite's backup, not by
/// itself: the newest entries may still be in the `-wal` file beside it.
pub struct SqliteStore {
    conn: Connection,
    path: PathBuf,
    access: Access,
    /// Which file it is, whatever its name comes to mean.
    file: FileId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    ReadWrite,
    ReadOnly,
}

/// Device and inode.
type FileId = (u64, u64);

impl SqliteStore {
    /// Opens the store, creating or migrating it where needed. The directory must exist.
    ///
    /// The file is made with mode 0600, and one found with more is brought back to it. Since this
    /// takes a file that is missing for one to be created, a server that has run before should
    /// use [`open_existing`](Self::open_existing), lest a lost ledger become an empty one.
    ///
    /// # Errors
    /// [`StoreFault::Foreign`] for another program's file, [`StoreFault::Version`] for one of a
    /// newer version, [`StoreFault::Corrupt`] for damage, [`StoreFault::Open`] for the rest.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreFault> {
        open::create_or_open(path.as_ref())
    }

    /// Opens a store that must be there already; migrates it where needed.
    ///
    /// # Errors
    /// [`StoreFault::Missing`] if there is no file or an empty one; else as [`open`](Self::open).
    pub fn open_existing(path: impl AsRef<Path>) -> Result<Self, StoreFault> {
        open::existing(path.as_ref())
    }

    /// Opens a store for reading only: to verify a copy, or beside a running server. Changes and
    /// migrates nothing; every writing call gives [`StoreFault::ReadOnly`].
    ///
    /// SQLite wants to keep its `-shm` file beside the store, so the directory must be writable
    /// unless a server has it open. The file is not trusted: what comes out of it is what a
    /// verifier is to verify.
    ///
    /// # Errors
    /// As [`open_existing`](Self::open_existing), and [`StoreFault::Version`] for an older
    /// version too.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, StoreFault> {
        open::read_only(path.as_ref())
    }

    /// Sets how long a call waits for another handle's write, instead of 2 s.
    pub fn set_busy_timeout(&self, timeout: Duration) -> Result<(), StoreFault> {
        self.conn.busy_timeout(timeout).reading(Part::Schema)
    }

    /// A transaction that holds the write lock from the start, so that what it reads first still
    /// holds when it writes. Rolls back unless committed.
    fn begin(&mut self, part: Part) -> Result<Transaction<'_>, StoreFault> {
        if self.access == Access::ReadOnly {
            return Err(StoreFault::ReadOnly { part });
        }
        // SQLite would go on writing into a file that has no name any more, and call it durable.
        if file_id(&self.path).ok() != Some(self.file) {
            let place = place(&self.path);
            return Err(StoreFault::Moved { place });
        }
        self.conn.transaction_with_behavior(TransactionBehavior::Immediate).writing(part)
    }
}

/// Shows where it is, never what is in it.
impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, access) = (&self.path, self.access);
        write!(f, "SqliteStore({}, {access:?})", path.display())
    }
}

fn file_id(path: &Path) -> std::io::Result<FileId> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

fn place(path: &Path) -> String {
    path.display().to_string()
}
