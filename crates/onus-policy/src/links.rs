//! The bounded cache of linked role templates: one entry per role, subject and resource in recent use.
//!
//! An entry is a function of its key and the policy set, which never changes; so the cache changes no answer, only
//! how fast it comes. It holds at most [`SHARDS`] × 2 × [`GENERATION`] entries however many subjects there are.

use crate::slice::Slice;
use onus_core::ids::{ResourceId, RoleId, SubjectId};
use onus_core::view::View;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Locks, so that sessions seldom wait for one another.
const SHARDS: usize = 8;
/// Entries after which a shard's older half is dropped.
const GENERATION: usize = 256;

type Key = (SubjectId, ResourceId, RoleId);

/// The cache.
#[derive(Debug)]
pub(crate) struct Links {
    shards: [Mutex<Shard>; SHARDS],
    generation: usize,
}

/// Two generations: what is used moves to the young one, and when that is full the old one is dropped.
#[derive(Debug, Default)]
struct Shard {
    young: BTreeMap<Key, Arc<Slice>>,
    old: BTreeMap<Key, Arc<Slice>>,
}

impl Links {
    /// An empty one of the usual size.
    pub fn new() -> Self {
        Self::sized(GENERATION)
    }

    /// An empty one that keeps up to `generation` × 2 entries a shard; 0 keeps nothing.
    pub fn sized(generation: usize) -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), generation }
    }

    /// The entry for this view's role, subject and resource; made if it isn't there.
    pub fn of(&self, view: &View, make: impl FnOnce() -> Result<Slice, String>) -> Result<Arc<Slice>, String> {
        let key = (view.subject.clone(), view.resource.clone(), view.role.clone());
        // A thread that panicked inside left a map that is whole: the lock is only held over map operations.
        let shard = &self.shards[place(&key)];
        {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = shard.young.get(&key) {
                return Ok(Arc::clone(found));
            }
            if let Some(found) = shard.old.remove(&key) {
                shard.put(key, Arc::clone(&found), self.generation);
                return Ok(found);
            }
        }
        let made = Arc::new(make()?);
        shard.lock().unwrap_or_else(PoisonError::into_inner).put(key, Arc::clone(&made), self.generation);
        Ok(made)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().map_or(0, |s| s.young.len() + s.old.len())).sum()
    }
}

impl Shard {
    fn put(&mut self, key: Key, slice: Arc<Slice>, generation: usize) {
        if generation == 0 {
            return;
        }
        if self.young.len() >= generation {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, slice);
    }
}

/// FNV-1a over the subject: spreads, and need not resist anybody, since a full shard only costs time.
fn place(key: &Key) -> usize {
    let hash = key
        .0
        .as_str()
        .bytes()
        .chain(key.1.as_str().bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 32) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::view;

    #[test]
    fn a_hundred_thousand_subjects_fill_a_bounded_cache() {
        let links = Links::new();
        let mut v = view("reader");
        for number in 0..100_000 {
            v.subject = SubjectId::parse(&format!("s{number}")).unwrap();
            links.of(&v, || Ok(Slice::default())).unwrap();
        }
        assert!(links.len() <= SHARDS * 2 * GENERATION, "{}", links.len());
        assert!(links.len() >= SHARDS * GENERATION, "the shards fill evenly: {}", links.len());
    }

    #[test]
    fn what_is_in_use_stays() {
        let links = Links::sized(4);
        let busy = view("reader");
        let first = links.of(&busy, || Ok(Slice::default())).unwrap();
        let mut other = view("reader");
        for number in 0..500 {
            other.subject = SubjectId::parse(&format!("s{number}")).unwrap();
            links.of(&other, || Ok(Slice::default())).unwrap();
            let again = links.of(&busy, || Err("made again".into())).unwrap();
            assert!(Arc::ptr_eq(&first, &again));
        }
    }

    #[test]
    fn one_subjects_link_is_never_anothers() {
        let links = Links::new();
        let a = links.of(&view("reader"), || Ok(Slice::default())).unwrap();
        for change in [
            |v: &mut View| v.subject = SubjectId::parse("mallory").unwrap(),
            |v: &mut View| {
                v.resource = ResourceId::parse("other-db").unwrap();
            },
        ] {
            let mut v = view("reader");
            change(&mut v);
            assert!(!Arc::ptr_eq(&a, &links.of(&v, || Ok(Slice::default())).unwrap()));
        }
        assert!(!Arc::ptr_eq(&a, &links.of(&view("writer"), || Ok(Slice::default())).unwrap()));
    }
}
