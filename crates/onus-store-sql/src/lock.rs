//! One server per data directory.
//!
//! SQLite would let two servers share a file correctly; two gateways that each believe they own
//! the directory (journals, sockets, leases) would still be wrong. So `serve` takes this lock
//! first. Not a defence against a hostile process: the lock is advisory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file that is locked, in the data directory.
const FILE: &str = "onus.lock";

/// The exclusive right to a data directory, held until dropped or until the process ends,
/// however it ends.
///
/// The lock is on the open file, so the lock file stays behind; deleting it by hand while it is
/// held would let a second server in.
#[derive(Debug)]
#[must_use = "the directory is unlocked when this is dropped"]
pub struct DataLock {
    file: File,
}

/// A data directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockFault {
    /// Another server has it.
    #[error("`{}` is in use by {}; stop that one first", .dir.display(), process(.holder))]
    Held {
        /// The data directory.
        dir: PathBuf,
        /// The process that has it, as it wrote itself; none if it has not yet.
        holder: Option<u32>,
    },
    /// What bears the lock file's name is no file.
    #[error("`{}` is not a regular file", .path.display())]
    NotAFile {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file could not be created or opened.
    #[error("could not open the lock file `{}`", .path.display())]
    Open {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The operating system could not lock the file.
    #[error("could not lock `{}`", .path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The lock is free, but this process could not write who it is.
    #[error("could not write the lock file `{}`", .path.display())]
    Write {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl DataLock {
    /// Locks a data directory, which must exist, and writes this process's id into the lock file.
    /// Does not wait.
    pub fn acquire(dir: &Path) -> Result<Self, LockFault> {
        let path = dir.join(FILE);
        // A link could make this truncate a file elsewhere.
        if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(LockFault::NotAFile { path });
        }
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = match opened {
            Ok(file) => file,
            Err(source) => return Err(LockFault::Open { path, source }),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let (dir, holder) = (dir.to_owned(), holder(&mut file));
                return Err(LockFault::Held { dir, holder });
            }
            Err(TryLockError::Error(source)) => return Err(LockFault::Lock { path, source }),
        }
        match inscribe(&mut file) {
            Ok(()) => Ok(Self { file }),
            Err(source) => Err(LockFault::Write { path, source }),
        }
    }
}

/// Leaves no id behind that another process may bear tomorrow.
impl Drop for DataLock {
    fn drop(&mut self) {
        // Best effort: the next holder truncates it as well.
        let _ = self.file.set_len(0);
    }
}

fn inscribe(file: &mut File) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}

/// The process id in the lock file. Only a hint for people: it is read without the lock.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.strip_suffix('\n')?.parse().ok()
}

fn process(holder: &Option<u32>) -> String {
    match holder {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = DataLock::acquire(dir.path()).expect("nobody has it");
        let mode = fs::metadata(dir.path().join(FILE)).expect("made").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);

        let fault = DataLock::acquire(dir.path()).expect_err("held");
        let me = std::process::id();
        assert!(matches!(fault, LockFault::Held { holder: Some(pid), .. } if pid == me), "{fault:?}");
        let text = fault.to_string();
        assert!(text.contains(&format!("in use by process {me};")), "{text}");

        drop(first);
        let again = DataLock::acquire(dir.path()).expect("given back");
        drop(again);
        let left = fs::read(dir.path().join(FILE)).expect("it stays");
        assert_eq!(left, b"", "no stale id");
    }

    #[test]
    fn what_a_dead_server_left_behind_does_not_lock() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(FILE), "4294967295\nand more\n").expect("write");
        let lock = DataLock::acquire(dir.path()).expect("nobody has it");
        let text = fs::read_to_string(dir.path().join(FILE)).expect("read");
        assert_eq!(text, format!("{}\n", std::process::id()));
        drop(lock);
    }

    #[test]
    fn nonsense_in_the_lock_file_names_nobody() {
        let dir = tempfile::tempdir().expect("a directory");
        let _lock = DataLock::acquire(dir.path()).expect("nobody has it");
        for nonsense in ["", "12", "-1\n", "99999999999\n", "\u{1b}[31m\n"] {
            fs::write(dir.path().join(FILE), nonsense).expect("write");
            let fault = DataLock::acquire(dir.path()).expect_err("held");
            assert!(matches!(fault, LockFault::Held { holder: None, .. }), "{nonsense:?}: {fault:?}");
        }
    }

    #[test]
    fn a_link_or_a_missing_directory_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").expect("write");
        std::os::unix::fs::symlink(&victim, dir.path().join(FILE)).expect("link");
        let fault = DataLock::acquire(dir.path()).expect_err("a link");
        assert!(matches!(fault, LockFault::NotAFile { .. }), "{fault:?}");
        assert_eq!(fs::read(&victim).expect("read"), b"precious");

        let fault = DataLock::acquire(&dir.path().join("none")).expect_err("missing");
        assert!(matches!(fault, LockFault::Open { .. }), "{fault:?}");
    }
}
