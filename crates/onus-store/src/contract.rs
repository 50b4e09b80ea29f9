//! What every store must do, as tests that a store crate's own tests call.
//!
//! A suite takes `fresh`: each call makes an empty store and gives a way to open handles on it.
//! The first handle makes the store, later ones find it, so the same closure serves for two
//! handles at once and for reopening. Panics, with the reason, where a store breaks the contract.
//!
//! Does not test how a store behaves when its disk fills or its server dies: that takes real
//! faults, which differ from store to store and belong in its crate.
//!
//! ```
//! use onus_store::{MemoryStore, contract};
//!
//! contract::ledger_store(|| {
//!     let store = MemoryStore::new();
//!     move || store.clone()
//! });
//! ```

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;

use crate::failing::{FailPlan, Failing, Failure, Step};
use crate::fault::{AppendError, StoreFault};
use crate::ledger::{Entry, LedgerStore, SignedCheckpoint, append_again};
use crate::vault::{Swap, VaultStore};

/// The suite for a [`LedgerStore`].
pub fn ledger_store<S, O>(fresh: impl Fn() -> O)
where
    S: LedgerStore,
    O: Fn() -> S,
{
    starts_empty(&mut fresh()());
    reads_what_was_appended_in_order(&mut fresh()());
    takes_the_largest_and_the_empty_entry(&mut fresh()());
    conflict_leaves_nothing(&mut fresh()());
    empty_append_still_compares(&mut fresh()());
    refused_checkpoint_takes_its_entries_along(&mut fresh()());
    checkpoints_never_go_back(&mut fresh()());
    snapshots_newest_two(&mut fresh()());
    blobs_never_change(&mut fresh()());
    handles_see_each_other(&fresh());
    concurrent_appenders_share_one_order(&fresh());
    ledger_survives_reopening(&fresh());
    lost_appends_converge(&fresh);
    lost_ledger_writes_can_be_repeated(&fresh);
}

/// The suite for a [`VaultStore`].
pub fn vault_store<S, O>(fresh: impl Fn() -> O)
where
    S: VaultStore,
    O: Fn() -> S,
{
    keeps_replaces_and_removes(&mut fresh()());
    tells_kinds_and_names_apart(&mut fresh()());
    takes_once(&mut fresh()());
    compares_before_it_swaps(&mut fresh()());
    one_of_many_takes(&fresh());
    concurrent_swaps_lose_no_update(&fresh());
    vault_survives_reopening(&fresh());
    lost_vault_writes_converge(&fresh);
}

// The ledger: one handle.

fn starts_empty(store: &mut impl LedgerStore) {
    assert_eq!(size(store), 0);
    assert_eq!(read(store, 0, 10), []);
    assert_eq!(checkpoints(store, 0), []);
    assert_eq!(latest(store), None);
    assert_eq!(store.blob([0; 32]).expect("read a blob"), None);
}

fn reads_what_was_appended_in_order(store: &mut impl LedgerStore) {
    let written = entries("e", 7);
    assert_eq!(append(store, 0, &written[..3]), 3);
    assert_eq!(append(store, 3, &written[3..4]), 4);
    assert_eq!(append(store, 4, &written[4..]), 7);
    assert_eq!(size(store), 7);
    for from in 0..9_usize {
        for max in [0, 1, 2, 7, 100, usize::MAX] {
            let start = from.min(7);
            let end = start + max.min(7 - start);
            let expected = &written[start..end];
            assert_eq!(read(store, from as u64, max), expected, "from {from}");
        }
    }
    // Far past the end, where a number might wrap round.
    for from in [i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX - 1, u64::MAX] {
        assert_eq!(read(store, from, usize::MAX), [], "from {from}");
    }
}

fn takes_the_largest_and_the_empty_entry(store: &mut impl LedgerStore) {
    let every_byte: Vec<u8> = (0..=255).cycle().take(65_535).collect();
    let written = [
        Entry { bytes: every_byte, leaf_hash: [0xff; 32] },
        Entry { bytes: vec![0; 65_535], leaf_hash: [0; 32] },
        Entry { bytes: Vec::new(), leaf_hash: [1; 32] },
    ];
    append(store, 0, &written);
    assert_eq!(read(store, 0, 3), written);
}

fn conflict_leaves_nothing(store: &mut impl LedgerStore) {
    let first = entries("first", 2);
    append(store, 0, &first);
    // Behind, ahead, and where a number might wrap round.
    for wrong in [0, 1, 3, 1000, i64::MAX as u64 + 1, u64::MAX] {
        let late = checkpoint(2, "late");
        let result = store.append(wrong, &entries("late", 2), Some(&late));
        assert_conflict(result, wrong, 2);
    }
    assert_eq!(read(store, 0, 10), first);
    assert_eq!(checkpoints(store, 0), []);
    assert_eq!(append(store, 2, &entries("next", 1)), 3);
}

fn empty_append_still_compares(store: &mut impl LedgerStore) {
    assert_eq!(append(store, 0, &[]), 0);
    append(store, 0, &entries("e", 1));
    assert_conflict(store.append(0, &[], None), 0, 1);
    assert_eq!(append(store, 1, &[]), 1);

    let published = checkpoint(1, "without entries");
    let result = store.append(1, &[], Some(&published));
    assert_eq!(result.expect("append a checkpoint alone"), 1);
    assert_eq!(checkpoints(store, 0), [published]);
}

fn refused_checkpoint_takes_its_entries_along(store: &mut impl LedgerStore) {
    let kept = entries("kept", 3);
    let published = checkpoint(3, "published");
    let result = store.append(0, &kept, Some(&published));
    assert_eq!(result.expect("append with a checkpoint"), 3);

    let behind = store.append(3, &entries("dropped", 2), Some(&checkpoint(2, "behind")));
    assert!(
        matches!(behind, Err(AppendError::Fault(StoreFault::CheckpointBehind { offered: 2, newest: 3 }))),
        "{behind:?}"
    );
    let ahead = store.append(3, &entries("dropped", 2), Some(&checkpoint(6, "ahead")));
    assert!(
        matches!(ahead, Err(AppendError::Fault(StoreFault::AheadOfLedger { offered: 6, size: 5, .. }))),
        "{ahead:?}"
    );
    assert_eq!(size(store), 3, "all or nothing");
    assert_eq!(read(store, 0, 10), kept, "all or nothing");
    assert_eq!(checkpoints(store, 0), [published], "all or nothing");
}

fn checkpoints_never_go_back(store: &mut impl LedgerStore) {
    append(store, 0, &entries("e", 10));
    let two = checkpoint(2, "two\n\n\u{2014} signer AAAA\n");
    let five = checkpoint(5, "five");
    let cosigned = checkpoint(5, "five, cosigned");
    for published in [&two, &five, &cosigned, &cosigned] {
        let result = store.put_checkpoint(published);
        result.expect("publish a checkpoint");
    }
    let behind = store.put_checkpoint(&checkpoint(4, "four"));
    assert!(matches!(behind, Err(StoreFault::CheckpointBehind { offered: 4, newest: 5 })), "{behind:?}");
    store.put_checkpoint(&two).expect_err("a former checkpoint is still behind");
    for offered in [11, i64::MAX as u64 + 1, u64::MAX] {
        let ahead = store.put_checkpoint(&checkpoint(offered, "ahead"));
        assert!(
            matches!(
                ahead,
                Err(StoreFault::AheadOfLedger { offered: o, size: 10, .. }) if o == offered
            ),
            "{ahead:?}"
        );
    }
    let all = [two, five, cosigned];
    assert_eq!(checkpoints(store, 0), all);
    assert_eq!(checkpoints(store, 2), all);
    assert_eq!(checkpoints(store, 3), all[1..]);
    assert_eq!(checkpoints(store, 6), []);
    assert_eq!(checkpoints(store, u64::MAX), []);
}

fn snapshots_newest_two(store: &mut impl LedgerStore) {
    append(store, 0, &entries("e", 40));
    let put = |store: &mut _, size: u64, bytes: &[u8]| {
        LedgerStore::put_snapshot(store, size, bytes).expect("put a snapshot");
    };
    put(store, 10, b"ten");
    assert_eq!(latest(store), Some((10, b"ten".to_vec())));
    put(store, 30, b"thirty");
    put(store, 20, b"twenty, late");
    assert_eq!(latest(store), Some((30, b"thirty".to_vec())), "by size");
    put(store, 30, b"");
    assert_eq!(latest(store), Some((30, Vec::new())), "replaced");
    put(store, 5, b"older than both");

    for size in [41, i64::MAX as u64 + 1, u64::MAX] {
        let ahead = store.put_snapshot(size, b"ahead");
        assert!(
            matches!(ahead, Err(StoreFault::AheadOfLedger { offered, size: 40, .. }) if offered == size),
            "{ahead:?}"
        );
    }

    let discard = |store: &mut _, size| LedgerStore::discard_snapshot(store, size).expect("discard");
    assert!(!discard(store, u64::MAX));
    assert!(discard(store, 30));
    assert!(!discard(store, 30));
    assert_eq!(latest(store), Some((20, b"twenty, late".to_vec())));
    assert!(discard(store, 20));
    assert_eq!(latest(store), None, "only the newest two are kept");
}

fn blobs_never_change(store: &mut impl LedgerStore) {
    let large = vec![7; 1_000_000];
    let put = |store: &mut _, digest, bytes: &[u8]| LedgerStore::put_blob(store, digest, bytes);
    put(store, [1; 32], &large).expect("put a blob");
    put(store, [1; 32], &large).expect("repeat a blob");
    put(store, [2; 32], b"").expect("put an empty blob");
    let differs = put(store, [1; 32], b"other");
    assert!(matches!(differs, Err(StoreFault::BlobDiffers { digest }) if digest == [1; 32]), "{differs:?}");
    put(store, [2; 32], b"no longer empty").expect_err("a blob changed");
    assert!(store.blob([1; 32]).expect("read a blob") == Some(large));
    let empty = store.blob([2; 32]).expect("read a blob");
    assert_eq!(empty, Some(Vec::new()));
    assert_eq!(store.blob([3; 32]).expect("read a blob"), None);
}

// The ledger: several handles.

fn handles_see_each_other<S: LedgerStore>(open: &impl Fn() -> S) {
    let (mut one, mut two) = (open(), open());
    let written = entries("e", 4);
    append(&mut one, 0, &written[..2]);
    assert_eq!(size(&two), 2);
    assert_conflict(two.append(0, &written[2..], None), 0, 2);
    append(&mut two, 2, &written[2..]);
    assert_eq!(read(&one, 0, 9), written);

    two.put_checkpoint(&checkpoint(4, "four")).expect("publish a checkpoint");
    one.put_checkpoint(&checkpoint(3, "three")).expect_err("behind the other handle's checkpoint");
    two.put_snapshot(4, b"s").expect("put a snapshot");
    assert_eq!(latest(&one), Some((4, b"s".to_vec())));
    two.put_blob([9; 32], b"b").expect("put a blob");
    one.put_blob([9; 32], b"c").expect_err("the other handle's blob changed");
}

fn concurrent_appenders_share_one_order<S: LedgerStore>(open: &impl Fn() -> S) {
    const APPENDERS: usize = 2;
    const BATCHES: usize = 60;
    let start = Barrier::new(APPENDERS);
    let handles: Vec<S> = (0..APPENDERS).map(|_| open()).collect();
    let appended: Vec<BTreeMap<u64, Entry>> = thread::scope(|scope| {
        let start = &start;
        let appenders: Vec<_> = handles
            .into_iter()
            .enumerate()
            .map(|(appender, mut store)| {
                scope.spawn(move || {
                    start.wait();
                    let mut won = BTreeMap::new();
                    for batch in 0..BATCHES {
                        let mine = entries(&format!("{appender}/{batch}"), 1 + batch % 3);
                        let at = append_until_won(&mut store, &mine);
                        won.extend((at..).zip(mine));
                    }
                    won
                })
            })
            .collect();
        let joined = appenders.into_iter().map(|appender| appender.join());
        joined.map(|won| won.expect("an appender panicked")).collect()
    });
    let total: usize = appended.iter().map(BTreeMap::len).sum();
    // Had two won one position, the union would be smaller than the sum.
    let order: BTreeMap<u64, Entry> = appended.into_iter().flatten().collect();
    assert_eq!(order.len(), total, "a position was given out twice");

    let store = open();
    assert_eq!(size(&store), total as u64, "an entry was lost or doubled");
    let stored = read(&store, 0, usize::MAX);
    assert!(stored.iter().eq(order.values()), "an entry is out of place");
}

/// Appends wherever the end turns out to be; gives the position.
fn append_until_won(store: &mut impl LedgerStore, mine: &[Entry]) -> u64 {
    let mut expected = 0;
    // So many tries, because another appender may be faster many times; not for ever, because a
    // store that never lets one win is broken.
    for _ in 0..100_000 {
        match store.append(expected, mine, None) {
            Ok(size) => {
                assert_eq!(size, expected + mine.len() as u64);
                return expected;
            }
            Err(AppendError::Conflict { actual, .. }) => expected = actual,
            Err(AppendError::Fault(StoreFault::Locked { .. })) => {}
            Err(fault) => panic!("a concurrent append failed: {fault:?}"),
        }
    }
    panic!("an appender never won a position")
}

fn ledger_survives_reopening<S: LedgerStore>(open: &impl Fn() -> S) {
    let written = entries("e", 5);
    let published = checkpoint(3, "three");
    let mut store = open();
    let result = store.append(0, &written[..3], Some(&published));
    result.expect("append with a checkpoint");
    // Forgotten, not closed: what was acknowledged must not wait for an orderly end.
    std::mem::forget(store);

    let mut store = open();
    append(&mut store, 3, &written[3..]);
    store.put_snapshot(5, b"s").expect("put a snapshot");
    store.put_blob([4; 32], b"b").expect("put a blob");
    drop(store);

    let mut store = open();
    assert_eq!(read(&store, 0, 9), written);
    assert_eq!(checkpoints(&store, 0), [published]);
    assert_eq!(latest(&store), Some((5, b"s".to_vec())));
    let blob = store.blob([4; 32]).expect("read a blob");
    assert_eq!(blob, Some(b"b".to_vec()));
    assert_conflict(store.append(3, &entries("fork", 1), None), 3, 5);
    store.put_checkpoint(&checkpoint(2, "two")).expect_err("behind a checkpoint from before reopening");
}

// The ledger: steps that fail.

const BOTH: [Failure; 2] = [Failure::NotPersisted, Failure::Unacknowledged];

fn lost_appends_converge<S, O>(fresh: &impl Fn() -> O)
where
    S: LedgerStore,
    O: Fn() -> S,
{
    for failure in BOTH {
        let open = fresh();
        let plan = FailPlan::new();
        let mut store = Failing::new(open(), plan.clone());
        append(&mut store, 0, &entries("before", 2));

        let mine = entries("mine", 3);
        let published = checkpoint(5, "five");
        plan.fail_next(Step::Append, failure);
        let lost = store.append(2, &mine, Some(&published));
        assert!(matches!(lost, Err(AppendError::Fault(_))), "{lost:?}");

        if failure == Failure::Unacknowledged {
            // By hand, as the contract has it: a conflict, and the entries are found there.
            assert_conflict(store.append(2, &mine, Some(&published)), 2, 5);
            assert_eq!(read(&store, 2, mine.len()), mine);
        }
        // The repetition may fail as well, in either way, before it gets through.
        for again in BOTH {
            plan.fail_next(Step::Append, again);
            let lost = append_again(&mut store, 2, &mine, Some(&published));
            assert!(matches!(&lost, Err(AppendError::Fault(_)) | Ok(5)), "{lost:?}");
        }
        plan.heal();
        let settled = append_again(&mut store, 2, &mine, Some(&published));
        assert_eq!(settled.expect("settle the append"), 5, "{failure:?}");
        assert_eq!(read(&store, 2, 9), mine, "once and only once: {failure:?}");
        assert_eq!(checkpoints(&store, 0), [published], "{failure:?}");
        assert_eq!(append(&mut store, 5, &entries("after", 1)), 6);
        let settled = append_again(&mut store, 2, &mine, None);
        assert_eq!(settled.expect("settle it late"), 5, "the ledger has grown");

        // Lost to another appender: that is said, and nothing of it is in the ledger.
        plan.fail_next(Step::Append, Failure::NotPersisted);
        let lost = entries("lost", 2);
        store.append(6, &lost, None).expect_err("planned");
        append(&mut open(), 6, &entries("theirs", 1));
        assert_conflict(append_again(&mut store, 6, &lost, None), 6, 7);
        // As much as the other wrote, and a part of what the other wrote, are not it either.
        assert_conflict(append_again(&mut store, 6, &lost[..1], None), 6, 7);
        let more = [&entries("theirs", 1)[..], &lost[..1]].concat();
        assert_conflict(append_again(&mut store, 6, &more, None), 6, 7);
        assert_conflict(append_again(&mut store, 6, &[], None), 6, 7);
    }
}

fn lost_ledger_writes_can_be_repeated<S, O>(fresh: &impl Fn() -> O)
where
    S: LedgerStore,
    O: Fn() -> S,
{
    for failure in BOTH {
        // Kept to the end: it may own the place where the store is.
        let open = fresh();
        let plan = FailPlan::new();
        let mut store = Failing::new(open(), plan.clone());
        append(&mut store, 0, &entries("e", 4));
        let published = checkpoint(4, "four");

        plan.fail_next(Step::PutCheckpoint, failure);
        store.put_checkpoint(&published).expect_err("planned");
        store.put_checkpoint(&published).expect("repeat");
        assert_eq!(checkpoints(&store, 0), [published], "{failure:?}");

        plan.fail_next(Step::PutSnapshot, failure);
        store.put_snapshot(4, b"s").expect_err("planned");
        store.put_snapshot(4, b"s").expect("repeat");
        assert_eq!(latest(&store), Some((4, b"s".to_vec())));

        plan.fail_next(Step::PutBlob, failure);
        store.put_blob([5; 32], b"b").expect_err("planned");
        store.put_blob([5; 32], b"b").expect("repeat");
        let blob = store.blob([5; 32]).expect("read a blob");
        assert_eq!(blob, Some(b"b".to_vec()));

        plan.fail_next(Step::DiscardSnapshot, failure);
        store.discard_snapshot(4).expect_err("planned");
        let there = store.discard_snapshot(4).expect("repeat");
        assert_eq!(there, failure == Failure::NotPersisted);
        assert_eq!(latest(&store), None);

        for step in [Step::Size, Step::Read, Step::Checkpoints, Step::LatestSnapshot, Step::Blob] {
            plan.fail_next(step, failure);
        }
        store.size().expect_err("planned");
        store.read(0, 1).expect_err("planned");
        store.checkpoints(0).expect_err("planned");
        store.latest_snapshot().expect_err("planned");
        store.blob([5; 32]).expect_err("planned");
        assert_eq!(plan.pending(), 0);
        assert_eq!(size(&store), 4, "a failed reading changes nothing");
    }
}

// The vault.

fn keeps_replaces_and_removes(store: &mut impl VaultStore) {
    assert_eq!(fetch(store, "password", "ada"), None);
    assert!(!store.remove("password", "ada").expect("remove"));
    store.put("password", "ada", b"one").expect("put");
    assert_eq!(fetch(store, "password", "ada"), Some(b"one".to_vec()));
    let large: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    store.put("password", "ada", &large).expect("replace");
    assert!(fetch(store, "password", "ada") == Some(large));
    store.put("password", "ada", b"").expect("replace");
    assert_eq!(fetch(store, "password", "ada"), Some(Vec::new()));
    assert!(store.remove("password", "ada").expect("remove"));
    assert_eq!(fetch(store, "password", "ada"), None);
    assert_eq!(store.names("password").expect("names"), [""; 0]);
}

fn tells_kinds_and_names_apart(store: &mut impl VaultStore) {
    // Case, trailing space, normalisation, numbers, wildcards, quotes, a zero byte, nothing at
    // all: whatever a collation or a careless query might take for equal.
    let names = [
        "",
        " ",
        "%",
        "'; --",
        "01",
        "1",
        "1.0",
        "A",
        "a",
        "a ",
        "a\0",
        "a\0b",
        "a/b",
        "e\u{301}",
        "\u{e9}",
        "\u{1f511}",
    ];
    for kind in names {
        for name in names {
            let value = format!("{kind}\u{1}{name}");
            store.put(kind, name, value.as_bytes()).expect("put");
        }
    }
    let mut in_order = names.map(str::to_owned);
    in_order.sort();
    for kind in names {
        assert_eq!(store.names(kind).expect("names"), in_order, "{kind:?}");
        for name in names {
            let value = format!("{kind}\u{1}{name}").into_bytes();
            assert_eq!(fetch(store, kind, name), Some(value), "{kind:?} {name:?}");
        }
    }
    assert!(store.remove("a", "a").expect("remove"));
    assert_eq!(store.names("a").expect("names").len(), names.len() - 1);
    assert_eq!(store.names("A").expect("names"), in_order);
}

fn takes_once(store: &mut impl VaultStore) {
    store.put("code", "x", b"sealed").expect("put");
    let taken = store.take("code", "x").expect("take");
    assert_eq!(taken, Some(b"sealed".to_vec()));
    assert_eq!(store.take("code", "x").expect("take"), None);
    assert_eq!(fetch(store, "code", "x"), None);
}

fn compares_before_it_swaps(store: &mut impl VaultStore) {
    let swap = |store: &mut _, expected, new: &[u8]| {
        VaultStore::compare_and_swap(store, "k", "n", expected, new).expect("compare and swap")
    };
    assert_eq!(swap(store, Some(b""), b"1"), Swap::Differs);
    assert_eq!(fetch(store, "k", "n"), None);
    assert_eq!(swap(store, None, b""), Swap::Swapped);
    // An empty value is a value.
    assert_eq!(swap(store, None, b"1"), Swap::Differs);
    assert_eq!(swap(store, Some(b""), b"1"), Swap::Swapped);
    assert_eq!(swap(store, Some(b"2"), b"3"), Swap::Differs);
    assert_eq!(fetch(store, "k", "n"), Some(b"1".to_vec()));
    assert_eq!(swap(store, Some(b"1"), b"1"), Swap::Swapped);
    assert_eq!(swap(store, Some(b"1"), b"2"), Swap::Swapped);
    assert_eq!(fetch(store, "k", "n"), Some(b"2".to_vec()));
}

fn one_of_many_takes<S: VaultStore>(open: &impl Fn() -> S) {
    const TAKERS: usize = 2;
    const CODES: usize = 40;
    let mut store = open();
    for code in 0..CODES {
        store.put("code", &code.to_string(), b"c").expect("put");
    }
    let start = Barrier::new(TAKERS);
    let handles: Vec<S> = (0..TAKERS).map(|_| open()).collect();
    let taken: usize = thread::scope(|scope| {
        let start = &start;
        let takers: Vec<_> = handles
            .into_iter()
            .map(|mut store| {
                scope.spawn(move || {
                    start.wait();
                    let codes = (0..CODES).map(|code| code.to_string());
                    codes.filter(|code| retried(|| store.take("code", code)).is_some()).count()
                })
            })
            .collect();
        let joined = takers.into_iter().map(|taker| taker.join());
        joined.map(|taken| taken.expect("a taker panicked")).sum()
    });
    assert_eq!(taken, CODES, "each code is taken once");
}

fn concurrent_swaps_lose_no_update<S: VaultStore>(open: &impl Fn() -> S) {
    const SWAPPERS: usize = 2;
    const SWAPS: usize = 30;
    let handles: Vec<S> = (0..SWAPPERS).map(|_| open()).collect();
    thread::scope(|scope| {
        for mut store in handles {
            scope.spawn(move || {
                let mut swapped = 0;
                while swapped < SWAPS {
                    let old = retried(|| store.fetch("k", "counter"));
                    let new = [old.as_deref().unwrap_or_default(), b"."].concat();
                    let outcome = retried(|| store.compare_and_swap("k", "counter", old.as_deref(), &new));
                    swapped += usize::from(outcome == Swap::Swapped);
                }
            });
        }
    });
    let count = fetch(&open(), "k", "counter").map(|value| value.len());
    assert_eq!(count, Some(SWAPPERS * SWAPS), "an update was lost");
}

fn vault_survives_reopening<S: VaultStore>(open: &impl Fn() -> S) {
    let mut store = open();
    store.put("k", "kept", b"1").expect("put");
    store.put("k", "taken", b"2").expect("put");
    store.put("k", "removed", b"3").expect("put");
    store.take("k", "taken").expect("take");
    store.remove("k", "removed").expect("remove");
    std::mem::forget(store);

    let store = open();
    assert_eq!(store.names("k").expect("names"), ["kept"]);
    assert_eq!(fetch(&store, "k", "kept"), Some(b"1".to_vec()));
}

fn lost_vault_writes_converge<S, O>(fresh: &impl Fn() -> O)
where
    S: VaultStore,
    O: Fn() -> S,
{
    for failure in BOTH {
        let happened = failure == Failure::Unacknowledged;
        // Kept to the end: it may own the place where the store is.
        let open = fresh();
        let plan = FailPlan::new();
        let mut store = Failing::new(open(), plan.clone());

        plan.fail_next(Step::VaultPut, failure);
        store.put("k", "n", b"1").expect_err("planned");
        assert_eq!(fetch(&store, "k", "n").is_some(), happened);
        store.put("k", "n", b"1").expect("repeat");
        assert_eq!(fetch(&store, "k", "n"), Some(b"1".to_vec()));

        plan.fail_next(Step::VaultCompareAndSwap, failure);
        store.compare_and_swap("k", "n", Some(b"1"), b"2").expect_err("planned");
        let value = fetch(&store, "k", "n").expect("there since before");
        assert_eq!(value == b"2", happened, "fetching says which it was");

        plan.fail_next(Step::VaultTake, failure);
        store.take("k", "n").expect_err("planned");
        let again = store.take("k", "n").expect("repeat");
        assert_eq!(again.is_none(), happened, "never handed out twice");
        assert_eq!(fetch(&store, "k", "n"), None);

        store.put("k", "n", b"3").expect("put");
        plan.fail_next(Step::VaultRemove, failure);
        store.remove("k", "n").expect_err("planned");
        store.remove("k", "n").expect("repeat");

        plan.fail_next(Step::VaultFetch, failure);
        plan.fail_next(Step::VaultNames, failure);
        store.fetch("k", "n").expect_err("planned");
        store.names("k").expect_err("planned");
        assert_eq!(plan.pending(), 0);
        assert_eq!(fetch(&store, "k", "n"), None);
    }
}

// Shorthand: what fails here is the store's fault.

/// Entries that differ from each other and, by the label, from all others.
fn entries(label: &str, count: usize) -> Vec<Entry> {
    let entry = |i: usize| {
        let bytes = format!("{label}#{i}").into_bytes();
        let mut leaf_hash = [0; 32];
        for (at, byte) in bytes.iter().enumerate() {
            leaf_hash[at % 32] ^= byte.rotate_left(at as u32 / 32);
        }
        Entry { bytes, leaf_hash }
    };
    (0..count).map(entry).collect()
}

fn checkpoint(size: u64, note: &str) -> SignedCheckpoint {
    let note = note.to_owned();
    SignedCheckpoint { size, note }
}

fn append(store: &mut impl LedgerStore, expected: u64, entries: &[Entry]) -> u64 {
    store.append(expected, entries, None).expect("append")
}

fn size(store: &impl LedgerStore) -> u64 {
    store.size().expect("read the size")
}

fn read(store: &impl LedgerStore, from: u64, max: usize) -> Vec<Entry> {
    store.read(from, max).expect("read entries")
}

fn checkpoints(store: &impl LedgerStore, from_size: u64) -> Vec<SignedCheckpoint> {
    store.checkpoints(from_size).expect("read checkpoints")
}

fn latest(store: &impl LedgerStore) -> Option<(u64, Vec<u8>)> {
    store.latest_snapshot().expect("read the latest snapshot")
}

fn fetch(store: &impl VaultStore, kind: &str, name: &str) -> Option<Vec<u8>> {
    store.fetch(kind, name).expect("fetch")
}

fn assert_conflict(result: Result<u64, AppendError>, expected: u64, actual: u64) {
    assert!(
        matches!(
            result,
            Err(AppendError::Conflict { expected: e, actual: a }) if (e, a) == (expected, actual)
        ),
        "expected a conflict of {expected} with {actual}, got {result:?}"
    );
}

/// Calls until the store is not locked by the other handle.
fn retried<T>(mut call: impl FnMut() -> Result<T, StoreFault>) -> T {
    for _ in 0..100_000 {
        match call() {
            Err(StoreFault::Locked { .. }) => {}
            result => return result.expect("a concurrent call"),
        }
    }
    panic!("a store stayed locked")
}
