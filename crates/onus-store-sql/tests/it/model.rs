//! Any sequence of calls gives the same answers from SQLite as from the in-memory store.

use onus_store::{Entry, LedgerStore, MemoryStore, SignedCheckpoint, VaultStore};
use onus_store_sql::SqliteStore;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Call {
    Append(u64, Vec<Entry>, Option<SignedCheckpoint>),
    Read(u64, usize),
    Checkpoints(u64),
    PutCheckpoint(SignedCheckpoint),
    PutSnapshot(u64, Vec<u8>),
    DiscardSnapshot(u64),
    LatestSnapshot,
    PutBlob(u8, Vec<u8>),
    Blob(u8),
    Put(String, String, Vec<u8>),
    Fetch(String, String),
    Remove(String, String),
    Names(String),
    Take(String, String),
    CompareAndSwap(String, String, Option<Vec<u8>>, Vec<u8>),
    Reopen,
}

/// The answer, faults included, as text: the two stores must say the same.
fn answer(store: &mut (impl LedgerStore + VaultStore), call: &Call) -> String {
    match call {
        Call::Append(at, entries, checkpoint) => {
            // Mostly near the end, where something happens.
            let size = store.size().expect("size");
            let expected = size.wrapping_add(*at);
            let checkpoint = checkpoint.as_ref();
            format!("{:?}", store.append(expected, entries, checkpoint))
        }
        Call::Read(from, max) => format!("{:?}", store.read(*from, *max)),
        Call::Checkpoints(from) => format!("{:?}", store.checkpoints(*from)),
        Call::PutCheckpoint(checkpoint) => format!("{:?}", store.put_checkpoint(checkpoint)),
        Call::PutSnapshot(size, bytes) => format!("{:?}", store.put_snapshot(*size, bytes)),
        Call::DiscardSnapshot(size) => format!("{:?}", store.discard_snapshot(*size)),
        Call::LatestSnapshot => format!("{:?}", store.latest_snapshot()),
        Call::PutBlob(digest, bytes) => format!("{:?}", store.put_blob([*digest; 32], bytes)),
        Call::Blob(digest) => format!("{:?}", store.blob([*digest; 32])),
        Call::Put(kind, name, value) => format!("{:?}", store.put(kind, name, value)),
        Call::Fetch(kind, name) => format!("{:?}", store.fetch(kind, name)),
        Call::Remove(kind, name) => format!("{:?}", store.remove(kind, name)),
        Call::Names(kind) => format!("{:?}", store.names(kind)),
        Call::Take(kind, name) => format!("{:?}", store.take(kind, name)),
        Call::CompareAndSwap(kind, name, old, new) => {
            let swapped = store.compare_and_swap(kind, name, old.as_deref(), new);
            format!("{swapped:?}")
        }
        Call::Reopen => String::new(),
    }
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0..12_u64, 1 => any::<u64>(), 1 => Just(i64::MAX as u64)]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0..3_u8, 0..3)
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[aA]?", 1 => any::<String>()]
}

fn checkpoint() -> impl Strategy<Value = SignedCheckpoint> {
    (size(), word()).prop_map(|(size, note)| SignedCheckpoint { size, note })
}

fn entry() -> impl Strategy<Value = Entry> {
    let parts = (bytes(), any::<[u8; 32]>());
    parts.prop_map(|(bytes, leaf_hash)| Entry { bytes, leaf_hash })
}

fn call() -> impl Strategy<Value = Call> {
    let at = prop_oneof![8 => Just(0), 1 => Just(u64::MAX), 1 => size()];
    let entries = prop::collection::vec(entry(), 0..4);
    let key = || (word(), word());
    prop_oneof![
        4 => (at, entries, prop::option::of(checkpoint()))
            .prop_map(|(at, entries, checkpoint)| Call::Append(at, entries, checkpoint)),
        2 => (size(), 0..9_usize).prop_map(|(from, max)| Call::Read(from, max)),
        1 => size().prop_map(Call::Checkpoints),
        2 => checkpoint().prop_map(Call::PutCheckpoint),
        2 => (size(), bytes()).prop_map(|(size, bytes)| Call::PutSnapshot(size, bytes)),
        1 => size().prop_map(Call::DiscardSnapshot),
        1 => Just(Call::LatestSnapshot),
        1 => (0..3_u8, bytes()).prop_map(|(digest, bytes)| Call::PutBlob(digest, bytes)),
        1 => (0..3_u8).prop_map(Call::Blob),
        2 => (key(), bytes()).prop_map(|((kind, name), value)| Call::Put(kind, name, value)),
        1 => key().prop_map(|(kind, name)| Call::Fetch(kind, name)),
        1 => key().prop_map(|(kind, name)| Call::Remove(kind, name)),
        1 => word().prop_map(Call::Names),
        1 => key().prop_map(|(kind, name)| Call::Take(kind, name)),
        2 => (key(), prop::option::of(bytes()), bytes())
            .prop_map(|((kind, name), old, new)| Call::CompareAndSwap(kind, name, old, new)),
        1 => Just(Call::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn sqlite_answers_as_memory_does(calls in prop::collection::vec(call(), 1..40)) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("onus.db");
        let mut sqlite = SqliteStore::open(&path).expect("open");
        let mut model = MemoryStore::new();
        for call in &calls {
            if let Call::Reopen = call {
                drop(sqlite);
                sqlite = SqliteStore::open_existing(&path).expect("open again");
            }
            prop_assert_eq!(answer(&mut sqlite, call), answer(&mut model, call), "{:?}", call);
        }
        let everything = Call::Read(0, usize::MAX);
        prop_assert_eq!(answer(&mut sqlite, &everything), answer(&mut model, &everything));
    }
}
