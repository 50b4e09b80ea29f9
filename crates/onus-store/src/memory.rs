//! Both ports in memory: for tests, simulation and trying Onus out.
//!
//! Keeps nothing beyond the process. Never fails by itself; wrap it in
//! [`Failing`](crate::Failing) to make it fail.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fault::{AppendError, Part, StoreFault};
use crate::ledger::{Entry, LedgerStore, SignedCheckpoint};
use crate::vault::{Swap, VaultStore};

/// A ledger and a vault in memory. A clone is another handle on the same store.
#[derive(Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Mutex<Content>>,
}

#[derive(Default)]
struct Content {
    entries: Vec<Entry>,
    checkpoints: Vec<SignedCheckpoint>,
    snapshots: BTreeMap<u64, Vec<u8>>,
    blobs: BTreeMap<[u8; 32], Vec<u8>>,
    vault: BTreeMap<(String, String), Vec<u8>>,
}

/// Snapshots kept.
const SNAPSHOTS: usize = 2;

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // Every change below is checked first and then made without anything that could panic
        // between its steps, so the content is whole even if a holder panicked.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows how much there is, never what.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = self.content();
        f.debug_struct("MemoryStore")
            .field("entries", &content.entries.len())
            .field("vault", &content.vault.len())
            .finish_non_exhaustive()
    }
}

impl Content {
    fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Whether the checkpoint is to be added, against a ledger of `size` entries.
    fn admits(&self, size: u64, checkpoint: &SignedCheckpoint) -> Result<bool, StoreFault> {
        let offered = checkpoint.size;
        if offered > size {
            let part = Part::Checkpoints;
            return Err(StoreFault::AheadOfLedger { part, offered, size });
        }
        match self.checkpoints.last() {
            Some(newest) if newest == checkpoint => Ok(false),
            Some(newest) if newest.size > offered => Err(StoreFault::CheckpointBehind { offered, newest: newest.size }),
            _ => Ok(true),
        }
    }
}

impl LedgerStore for MemoryStore {
    fn append(
        &mut self,
        expected: u64,
        entries: &[Entry],
        checkpoint: Option<&SignedCheckpoint>,
    ) -> Result<u64, AppendError> {
        let mut content = self.content();
        let actual = content.size();
        if expected != actual {
            return Err(AppendError::Conflict { expected, actual });
        }
        let size = actual + entries.len() as u64;
        let publish = match checkpoint {
            Some(offered) if content.admits(size, offered)? => Some(offered.clone()),
            _ => None,
        };
        content.entries.extend_from_slice(entries);
        content.checkpoints.extend(publish);
        Ok(size)
    }

    fn size(&self) -> Result<u64, StoreFault> {
        Ok(self.content().size())
    }

    fn read(&self, from: u64, max: usize) -> Result<Vec<Entry>, StoreFault> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let content = self.content();
        Ok(content.entries.iter().skip(from).take(max).cloned().collect())
    }

    fn checkpoints(&self, from_size: u64) -> Result<Vec<SignedCheckpoint>, StoreFault> {
        let content = self.content();
        let wanted = content.checkpoints.iter().filter(|c| c.size >= from_size);
        Ok(wanted.cloned().collect())
    }

    fn put_checkpoint(&mut self, checkpoint: &SignedCheckpoint) -> Result<(), StoreFault> {
        let mut content = self.content();
        if content.admits(content.size(), checkpoint)? {
            content.checkpoints.push(checkpoint.clone());
        }
        Ok(())
    }

    fn put_snapshot(&mut self, size: u64, bytes: &[u8]) -> Result<(), StoreFault> {
        let mut content = self.content();
        if size > content.size() {
            return Err(StoreFault::AheadOfLedger { part: Part::Snapshots, offered: size, size: content.size() });
        }
        content.snapshots.insert(size, bytes.to_vec());
        while content.snapshots.len() > SNAPSHOTS {
            content.snapshots.pop_first();
        }
        Ok(())
    }

    fn latest_snapshot(&self) -> Result<Option<(u64, Vec<u8>)>, StoreFault> {
        let content = self.content();
        let latest = content.snapshots.last_key_value();
        Ok(latest.map(|(size, bytes)| (*size, bytes.clone())))
    }

    fn discard_snapshot(&mut self, size: u64) -> Result<bool, StoreFault> {
        Ok(self.content().snapshots.remove(&size).is_some())
    }

    fn put_blob(&mut self, digest: [u8; 32], bytes: &[u8]) -> Result<(), StoreFault> {
        let mut content = self.content();
        match content.blobs.get(&digest) {
            Some(kept) if kept == bytes => Ok(()),
            Some(_) => Err(StoreFault::BlobDiffers { digest }),
            None => {
                content.blobs.insert(digest, bytes.to_vec());
                Ok(())
            }
        }
    }

    fn blob(&self, digest: [u8; 32]) -> Result<Option<Vec<u8>>, StoreFault> {
        Ok(self.content().blobs.get(&digest).cloned())
    }
}

impl VaultStore for MemoryStore {
    fn put(&mut self, kind: &str, name: &str, value: &[u8]) -> Result<(), StoreFault> {
        let mut content = self.content();
        content.vault.insert(key(kind, name), value.to_vec());
        Ok(())
    }

    fn fetch(&self, kind: &str, name: &str) -> Result<Option<Vec<u8>>, StoreFault> {
        Ok(self.content().vault.get(&key(kind, name)).cloned())
    }

    fn remove(&mut self, kind: &str, name: &str) -> Result<bool, StoreFault> {
        Ok(self.content().vault.remove(&key(kind, name)).is_some())
    }

    fn names(&self, kind: &str) -> Result<Vec<String>, StoreFault> {
        let content = self.content();
        let of_kind = content.vault.keys().filter(|(k, _)| k == kind);
        Ok(of_kind.map(|(_, name)| name.clone()).collect())
    }

    fn take(&mut self, kind: &str, name: &str) -> Result<Option<Vec<u8>>, StoreFault> {
        Ok(self.content().vault.remove(&key(kind, name)))
    }

    fn compare_and_swap(
        &mut self,
        kind: &str,
        name: &str,
        expected: Option<&[u8]>,
        new: &[u8],
    ) -> Result<Swap, StoreFault> {
        let mut content = self.content();
        let key = key(kind, name);
        if content.vault.get(&key).map(Vec::as_slice) != expected {
            return Ok(Swap::Differs);
        }
        content.vault.insert(key, new.to_vec());
        Ok(Swap::Swapped)
    }
}

fn key(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    /// An empty store, as a way to open handles on it.
    fn fresh() -> impl Fn() -> MemoryStore {
        let store = MemoryStore::new();
        move || store.clone()
    }

    #[test]
    fn keeps_the_ledger_contract() {
        contract::ledger_store(fresh);
    }

    #[test]
    fn keeps_the_vault_contract() {
        contract::vault_store(fresh);
    }

    #[test]
    fn debug_shows_no_content() {
        let mut store = MemoryStore::new();
        store.put("k", "n", b"sealed-bytes").expect("memory");
        let shown = format!("{store:?}");
        assert_eq!(shown, "MemoryStore { entries: 0, vault: 1, .. }");
    }
}
