//! From a path to an open store: the file's mode, SQLite's settings, the schema's version.
//!
//! When adding a migration: a numbered file in `migrations/sqlite/` and a line in `MIGRATIONS`;
//! one that has been released is never edited. There is no way back: an older program refuses a
//! newer file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use onus_store::{Part, StoreFault};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::fault::{Attempt, corrupt};
use super::{Access, SqliteStore, file_id, place};

/// "Onus", in the file's header.
const APPLICATION_ID: i32 = 0x4f6e_7573;

/// The schema, in steps; the version of a file is the number of steps taken.
const MIGRATIONS: &[&str] = &[include_str!("../../migrations/sqlite/0001_first.sql")];

const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Held while a store is opened for writing.
///
/// A POSIX lock goes when the process closes *any* descriptor of the file. Creating the file
/// closes one, so no other thread may have SQLite holding locks on it by then. For the same
/// reason nothing here ever opens a file that exists, other than through SQLite.
static OPENING: Mutex<()> = Mutex::new(());

/// What the file's header says that it is.
enum Header {
    /// Nothing yet.
    Empty,
    /// A store of this version.
    Onus { version: i64 },
}

pub(super) fn create_or_open(path: &Path) -> Result<SqliteStore, StoreFault> {
    let _one_at_a_time = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = absolute(path)?;
    create_file(&path)?;
    read_write(path)
}

pub(super) fn existing(path: &Path) -> Result<SqliteStore, StoreFault> {
    let _one_at_a_time = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = absolute(path)?;
    must_exist(&path)?;
    read_write(path)
}

pub(super) fn read_only(path: &Path) -> Result<SqliteStore, StoreFault> {
    let path = absolute(path)?;
    must_exist(&path)?;
    must_be_a_file(&path)?;
    let store = connect(path, Access::ReadOnly)?;
    let place = place(&store.path);
    let set = store.conn.pragma_update(None, "query_only", true);
    set.opening(&place)?;
    match header(&store.conn, &place)? {
        Header::Empty => Err(StoreFault::Missing { place }),
        Header::Onus { version } if version != supported() => {
            Err(StoreFault::Version { place, found: version, supported: supported() })
        }
        Header::Onus { .. } => Ok(store),
    }
}

fn read_write(path: PathBuf) -> Result<SqliteStore, StoreFault> {
    must_be_a_file(&path)?;
    must_have_its_log(&path)?;
    // The log and the index hold the same content as the file.
    for suffix in ["", "-wal", "-shm"] {
        narrow_mode(&beside(&path, suffix))?;
    }
    let mut store = connect(path, Access::ReadWrite)?;
    let place = place(&store.path);
    // Before anything is written: another program's file must stay as it is.
    header(&store.conn, &place)?;
    settle(&store.conn, &place)?;
    migrate(&mut store.conn, &place)?;
    Ok(store)
}

/// Opens the connection with the settings that serve reading and writing alike.
fn connect(path: PathBuf, access: Access) -> Result<SqliteStore, StoreFault> {
    let at = place(&path);
    // No URI: a path is a path. No CREATE: the file is there, with its mode.
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX
        | match access {
            Access::ReadWrite => OpenFlags::SQLITE_OPEN_READ_WRITE,
            Access::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
        };
    let conn = Connection::open_with_flags(&path, flags).opening(&at)?;
    conn.busy_timeout(BUSY_TIMEOUT).opening(&at)?;
    // A file from elsewhere may bring a schema with ideas of its own.
    for (config, on) in [(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true), (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)]
    {
        conn.set_db_config(config, on).opening(&at)?;
    }
    let check = conn.pragma_update(None, "cell_size_check", true);
    check.opening(&at)?;
    let file = file_id(&path).map_err(|source| failed(&path, source))?;
    Ok(SqliteStore { conn, path, access, file })
}

/// The settings for writing.
fn settle(conn: &Connection, place: &str) -> Result<(), StoreFault> {
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).opening(place)?;
    if mode != "wal" {
        // Where memory can't be shared, as on some network file systems.
        return Err(StoreFault::Open {
            place: place.to_owned(),
            source: format!("the file system allows no write-ahead log, only `{mode}`").into(),
        });
    }
    for (pragma, value) in [
        ("synchronous", "full"),
        ("foreign_keys", "on"),
        // So that REPLACE fires the triggers that forbid deleting.
        ("recursive_triggers", "on"),
        // What was removed from the vault does not linger in free pages.
        ("secure_delete", "on"),
    ] {
        conn.pragma_update(None, pragma, value).opening(place)?;
    }
    Ok(())
}

fn header(conn: &Connection, place: &str) -> Result<Header, StoreFault> {
    let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
    let application = number("PRAGMA application_id").opening(place)?;
    let version = number("PRAGMA user_version").opening(place)?;
    let tables = number("SELECT count(*) FROM sqlite_schema").opening(place)?;
    match (application, version, tables) {
        (0, 0, 0) => Ok(Header::Empty),
        (id, version, _) if id == i64::from(APPLICATION_ID) => Ok(Header::Onus { version }),
        _ => Err(StoreFault::Foreign { place: place.to_owned() }),
    }
}

/// Takes the steps that the file has not taken, all or none.
fn migrate(conn: &mut Connection, place: &str) -> Result<(), StoreFault> {
    let step = conn.transaction_with_behavior(TransactionBehavior::Immediate);
    let step = step.opening(place)?;
    // Asked again under the write lock: another process may have been faster.
    let found = match header(&step, place)? {
        Header::Empty => 0,
        Header::Onus { version } => version,
    };
    let taken = usize::try_from(found).ok();
    let Some(left) = taken.and_then(|taken| MIGRATIONS.get(taken..)) else {
        return Err(StoreFault::Version { place: place.to_owned(), found, supported: supported() });
    };
    if left.is_empty() {
        return Ok(());
    }
    for migration in left {
        step.execute_batch(migration).writing(Part::Schema)?;
    }
    for (pragma, value) in [("application_id", i64::from(APPLICATION_ID)), ("user_version", supported())] {
        step.pragma_update(None, pragma, value).writing(Part::Schema)?;
    }
    step.commit().writing(Part::Schema)
}

fn supported() -> i64 {
    MIGRATIONS.len() as i64
}

// The file.

/// An absolute path is never one of SQLite's special names (`:memory:`, none at all), and stays
/// what it is when the process changes its directory.
fn absolute(path: &Path) -> Result<PathBuf, StoreFault> {
    std::path::absolute(path).map_err(|source| failed(path, source))
}

/// Creates the file if it is missing, and makes its name durable.
pub(super) fn create_file(path: &Path) -> Result<(), StoreFault> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match created {
        Ok(file) => {
            drop(file);
            let dir = path.parent().unwrap_or(Path::new("/"));
            let synced = File::open(dir).and_then(|dir| dir.sync_all());
            synced.map_err(|source| failed(path, source))
        }
        Err(exists) if exists.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(failed(path, source)),
    }
}

fn must_exist(path: &Path) -> Result<(), StoreFault> {
    match fs::symlink_metadata(path) {
        // Empty is as good as missing: it would become a new ledger.
        Ok(found) if found.is_file() && found.len() == 0 => {}
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {}
        Ok(_) => return Ok(()),
        Err(source) => return Err(failed(path, source)),
    }
    let place = place(path);
    Err(StoreFault::Missing { place })
}

fn must_be_a_file(path: &Path) -> Result<(), StoreFault> {
    let found = fs::symlink_metadata(path).map_err(|source| failed(path, source))?;
    if found.is_file() {
        return Ok(());
    }
    Err(StoreFault::Open { place: place(path), source: "not a regular file; a link is not followed".into() })
}

/// SQLite deletes a write-ahead log that it finds beside an empty file; but such a log is all
/// that is left of a store.
fn must_have_its_log(path: &Path) -> Result<(), StoreFault> {
    let len = |path: &Path| fs::symlink_metadata(path).map_or(0, |found| found.len());
    if len(path) == 0 && len(&beside(path, "-wal")) > 0 {
        let found = "a write-ahead log without its store: the file was lost or emptied";
        return Err(corrupt(Part::Schema, found));
    }
    Ok(())
}

/// Takes the group's and everybody's rights away, where the file exists.
fn narrow_mode(path: &Path) -> Result<(), StoreFault> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            let owner_only = fs::Permissions::from_mode(0o600);
            fs::set_permissions(path, owner_only).map_err(|source| failed(path, source))
        }
        _ => Ok(()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn failed(path: &Path, source: io::Error) -> StoreFault {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let part = Part::Schema;
            StoreFault::Full { part }
        }
        _ => StoreFault::Open { place: place(path), source: source.into() },
    }
}
