//! A gateway's data directory, read beside a running gateway or from a copy. Never written.
//!
//! ```text
//! onus.db                              ledger, blobs, vault
//! keys/ledger.vkey  keys/journal.key   the ledger's public key; the journals' master key, hex
//! journals/<session>/<NNNNNN>.onusj    a journal's segments
//! ```

use onus_core::ids::SessionId;
use onus_ledger::VerifierKey;
use onus_store::{Entry, LedgerStore};
use onus_store_sql::SqliteStore;
use std::error::Error;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Entries read at a time.
const PAGE: usize = 4096;

/// The ledger's store, for reading only.
///
/// # Errors
/// In words, with the place.
pub fn open_store(data: &Path) -> Result<SqliteStore, String> {
    SqliteStore::open_read_only(data.join("onus.db")).map_err(|fault| chain(&fault))
}

/// An error with all its causes.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The stored entries from `from` on, at most `max`, read until the end as it was when reading began.
///
/// # Errors
/// When the store can't be read.
pub fn entries(store: &dyn LedgerStore, from: u64, max: u64) -> Result<Vec<Entry>, String> {
    let size = store.size().map_err(|fault| chain(&fault))?;
    let end = size.min(from.saturating_add(max));
    let mut all = Vec::new();
    let mut at = from;
    while at < end {
        let page = store.read(at, PAGE.min((end - at) as usize)).map_err(|fault| chain(&fault))?;
        if page.is_empty() {
            return Err(format!("entry {at} of {size} is missing from the store"));
        }
        at += page.len() as u64;
        all.extend(page);
    }
    Ok(all)
}

/// The ledger's public key, from text or a file.
///
/// # Errors
/// In words.
pub fn verifier_key(text: Option<&str>, file: Option<&Path>) -> Result<VerifierKey, String> {
    let (text, place) = match (text, file) {
        (Some(text), _) => (text.to_owned(), "--key".to_owned()),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file).map_err(|e| format!("{}: cannot be read: {e}", file.display()))?;
            (text, file.display().to_string())
        }
        (None, None) => return Err("name the ledger's key with --key VKEY or --key-file FILE".to_owned()),
    };
    VerifierKey::parse(text.trim()).map_err(|e| format!("{place}: {e}"))
}

/// The journals' master key.
///
/// # Errors
/// In words, without the key.
pub fn journal_key(data: &Path) -> Result<Zeroizing<[u8; 32]>, String> {
    let file = data.join("keys").join("journal.key");
    let text =
        Zeroizing::new(std::fs::read_to_string(&file).map_err(|e| format!("{}: cannot be read: {e}", file.display()))?);
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), &mut *key)
        .map_err(|_| format!("{}: is not a key of 64 hex digits", file.display()))?;
    Ok(key)
}

/// A journal's segments, in order.
///
/// # Errors
/// When they can't be read, or there is none.
pub fn segments(data: &Path, session: &SessionId) -> Result<Vec<Vec<u8>>, String> {
    // An id may hold `/` and `..`; as a path it must name one directory below `journals`.
    let name = session.as_str();
    if name.contains('/') || name == "." || name == ".." {
        return Err(format!("`{name}` is not the name of a session's journal"));
    }
    let dir = data.join("journals").join(name);
    let failed = |e: std::io::Error| format!("{}: cannot be read: {e}", dir.display());
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|ending| ending == "onusj") {
            files.push(path);
        }
    }
    // By number, not by text: there may be more than six digits hold.
    let number = |path: &PathBuf| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
    files.sort_by_key(|path| (number(path), path.clone()));
    if files.is_empty() {
        return Err(format!("{}: holds no segment", dir.display()));
    }
    files
        .iter()
        .map(|path| std::fs::read(path).map_err(|e| format!("{}: cannot be read: {e}", path.display())))
        .collect()
}
