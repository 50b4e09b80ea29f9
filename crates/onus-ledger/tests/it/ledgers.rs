//! The verifier against what an attacker with the files, and later with the key, would try.

use onus_ledger::{Checkpoint, Finding, Hash, KeyName, LedgerCopy, SigningKey, Tree, VerifierKey, leaf_hash, verify};
use proptest::prelude::*;

fn key() -> SigningKey {
    SigningKey::from_seed(KeyName::new("log.example").unwrap(), &[7; 32])
}

fn vkey() -> VerifierKey {
    key().verifier().clone()
}

fn entries(size: u64) -> Vec<Vec<u8>> {
    (0..size).map(|index| format!("entry {index}").into_bytes()).collect()
}

fn checkpoint(entries: &[Vec<u8>]) -> Checkpoint {
    let tree = Tree::from_leaf_hashes(entries.iter().map(|entry| leaf_hash(entry)));
    Checkpoint::new(KeyName::new("log.example").unwrap(), tree.size(), tree.root())
}

fn sign(entries: &[Vec<u8>]) -> String {
    checkpoint(entries).sign(&key()).unwrap().to_string()
}

/// A ledger with checkpoints at the given sizes, the last of which is its own size.
fn ledger(sizes: &[u64]) -> LedgerCopy {
    let entries = entries(*sizes.last().unwrap());
    LedgerCopy {
        stored_leaf_hashes: Some(entries.iter().map(|entry| leaf_hash(entry)).collect()),
        checkpoints: sizes.iter().map(|size| sign(&entries[..*size as usize])).collect(),
        entries,
    }
}

fn findings(copy: &LedgerCopy) -> Vec<Finding> {
    verify(copy, &vkey(), None).findings
}

/// What someone does to the entries behind the log's back.
#[derive(Debug, Clone)]
enum Tampering {
    Change(usize),
    Remove(usize),
    Swap(usize, usize),
    Insert(usize),
    Cut(usize),
}

fn tampering(size: usize) -> impl Strategy<Value = Tampering> {
    prop_oneof![
        (0..size).prop_map(Tampering::Change),
        (0..size).prop_map(Tampering::Remove),
        (0..size, 0..size)
            .prop_filter("two entries", |(a, b)| a != b)
            .prop_map(|(a, b)| Tampering::Swap(a.min(b), a.max(b))),
        (0..size).prop_map(Tampering::Insert),
        (0..size).prop_map(Tampering::Cut),
    ]
}

fn apply(tampering: &Tampering, entries: &mut Vec<Vec<u8>>) -> Finding {
    let signed = entries.len() as u64;
    match *tampering {
        Tampering::Change(index) => {
            entries[index].push(b'!');
            Finding::Changed { index: index as u64 }
        }
        Tampering::Remove(index) => {
            entries.remove(index);
            if index == entries.len() {
                return Finding::RolledBack { from: signed, to: index as u64 };
            }
            Finding::Removed { index: index as u64 }
        }
        Tampering::Swap(a, b) => {
            entries.swap(a, b);
            Finding::Swapped { a: a as u64, b: b as u64 }
        }
        Tampering::Insert(position) => {
            entries.insert(position, b"forged".to_vec());
            Finding::Inserted { position: position as u64 }
        }
        Tampering::Cut(size) => {
            entries.truncate(size);
            Finding::RolledBack { from: signed, to: size as u64 }
        }
    }
}

proptest! {
    #[test]
    fn an_untouched_ledger_is_found_whole(
        sizes in prop::collection::btree_set(1_u64..200, 1..6),
        unsigned in 0_u64..5,
    ) {
        let sizes: Vec<u64> = sizes.into_iter().collect();
        let mut copy = ledger(&sizes);
        copy.entries.extend(entries(unsigned));
        copy.stored_leaf_hashes = None;
        let remembered = checkpoint(&copy.entries[..sizes[0] as usize]);
        let report = verify(&copy, &vkey(), Some(&remembered));
        prop_assert!(report.ok(), "{:?}", report);
        prop_assert_eq!(report.size, *sizes.last().unwrap());
        prop_assert_eq!(report.unsigned, unsigned);
    }

    #[test]
    fn tampering_is_caught_and_named(
        (size, tampering) in (2_u64..120).prop_flat_map(|size| (Just(size), tampering(size as usize)))
    ) {
        let mut copy = ledger(&[1, size]);
        let expected = apply(&tampering, &mut copy.entries);
        let report = verify(&copy, &vkey(), None);
        prop_assert_eq!(&report.findings, &vec![expected]);
        // Without the stored hashes it can't always be named, but it is always caught.
        copy.stored_leaf_hashes = None;
        prop_assert!(!verify(&copy, &vkey(), None).ok());
        // Nor does it help to make the stored hashes fit.
        copy.stored_leaf_hashes = Some(copy.entries.iter().map(|entry| leaf_hash(entry)).collect());
        prop_assert!(!verify(&copy, &vkey(), None).ok());
        // Nor to sign it all anew, if someone remembers. An addition at the end is a log's life.
        let remembered = checkpoint(&entries(size));
        copy.checkpoints = vec![sign(&copy.entries)];
        prop_assert!(!verify(&copy, &vkey(), Some(&remembered)).ok());
    }
}

#[test]
fn a_change_between_close_checkpoints_is_named_without_stored_hashes() {
    let mut copy = ledger(&[1, 2, 3, 4, 5, 6]);
    copy.stored_leaf_hashes = None;
    copy.entries[3] = b"forged".to_vec();
    assert_eq!(findings(&copy), [Finding::Changed { index: 3 }]);
}

#[test]
fn a_swap_is_found_without_stored_hashes_by_trying() {
    let mut copy = ledger(&[10, 40]);
    copy.stored_leaf_hashes = None;
    copy.entries.swap(17, 31);
    assert_eq!(findings(&copy), [Finding::Swapped { a: 17, b: 31 }]);
    copy.entries[20] = b"forged".to_vec();
    assert_eq!(findings(&copy), [Finding::Altered { from: 10, to: 40 }]);
}

#[test]
fn a_fork_is_two_signed_stories() {
    // Same size, two roots.
    let mut copy = ledger(&[3, 8]);
    let mut other = copy.entries.clone();
    other[5] = b"for other eyes".to_vec();
    copy.checkpoints.push(sign(&other));
    assert_eq!(findings(&copy), [Finding::Forked { size: 8 }]);

    // An earlier checkpoint over another tree than the one that went on.
    let mut copy = ledger(&[3, 8]);
    copy.checkpoints.insert(1, sign(&other[..6]));
    assert_eq!(findings(&copy), [Finding::Forked { size: 6 }]);

    // The one that went on is not the one I remember.
    let remembered = checkpoint(&other[..7]);
    let report = verify(&ledger(&[3, 8]), &vkey(), Some(&remembered));
    assert_eq!(report.findings, [Finding::Forked { size: 7 }]);
}

#[test]
fn an_older_copy_is_a_roll_back_to_whoever_remembers() {
    let remembered = checkpoint(&entries(9));
    let report = verify(&ledger(&[3, 8]), &vkey(), Some(&remembered));
    assert_eq!(report.findings, [Finding::RolledBack { from: 9, to: 8 }]);

    // The same when the entries are still there and only the checkpoint went back.
    let mut copy = ledger(&[3, 8]);
    copy.entries = entries(9);
    copy.stored_leaf_hashes = None;
    let report = verify(&copy, &vkey(), Some(&remembered));
    assert_eq!(report.findings, [Finding::RolledBack { from: 9, to: 8 }]);

    let mut copy = ledger(&[3, 8]);
    copy.checkpoints.swap(0, 1);
    assert_eq!(findings(&copy), [Finding::RolledBack { from: 8, to: 3 }]);
}

#[test]
fn checkpoints_that_are_not_the_logs_prove_nothing() {
    let mut copy = ledger(&[3, 8]);
    let stranger = SigningKey::from_seed(KeyName::new("log.example").unwrap(), &[8; 32]);
    copy.entries[0] = b"forged".to_vec();
    copy.stored_leaf_hashes = None;
    copy.checkpoints = vec![checkpoint(&copy.entries).sign(&stranger).unwrap().to_string()];
    let found = findings(&copy);
    assert!(matches!(found[0], Finding::BadSignature { checkpoint: 0, .. }), "{found:?}");
    assert_eq!(found[1], Finding::NoCheckpoint);

    copy.checkpoints.clear();
    assert_eq!(findings(&copy), [Finding::NoCheckpoint]);
    assert_eq!(findings(&LedgerCopy::default()), [Finding::NoCheckpoint]);
}

#[test]
fn a_signature_over_another_size_is_caught() {
    let mut copy = ledger(&[3, 8]);
    copy.checkpoints[1] = copy.checkpoints[1].replace("\n8\n", "\n7\n");
    let found = findings(&copy);
    assert!(matches!(found[0], Finding::BadSignature { checkpoint: 1, .. }), "{found:?}");
}

#[test]
fn stored_hashes_are_not_trusted_but_checked() {
    let mut copy = ledger(&[3, 8]);
    let hashes = copy.stored_leaf_hashes.as_mut().unwrap();
    hashes[4] = Hash([0; 32]);
    assert_eq!(findings(&copy), [Finding::LeafHashChanged { index: 4 }]);

    copy.stored_leaf_hashes.as_mut().unwrap().truncate(4);
    assert_eq!(findings(&copy), [Finding::LeafHashesIncomplete { stored: 4, signed: 8 }]);
}

#[test]
fn several_acts_are_each_named() {
    let mut copy = ledger(&[20]);
    copy.entries[2] = b"forged".to_vec();
    copy.entries.swap(5, 9);
    copy.entries.remove(12);
    copy.entries.truncate(17);
    assert_eq!(
        findings(&copy),
        [
            Finding::Changed { index: 2 },
            Finding::Swapped { a: 5, b: 9 },
            Finding::Removed { index: 12 },
            Finding::RolledBack { from: 20, to: 18 },
        ]
    );
}

#[test]
fn sentences_name_the_entry() {
    for (finding, words) in [
        (Finding::Changed { index: 41 }, "entry 41 was changed"),
        (Finding::Removed { index: 41 }, "entry 41 was removed"),
        (Finding::Swapped { a: 41, b: 42 }, "entries 41 and 42 were swapped"),
        (Finding::Altered { from: 3, to: 8 }, "entries 3 to 7 "),
    ] {
        assert!(finding.to_string().contains(words), "{finding}");
    }
}

#[test]
fn a_copy_of_files_reads_like_the_store() {
    use onus_ledger::tile::{TileKind, encode_bundle, new_bundles, tiles_for_size};
    let copy = ledger(&[300]);
    let mut tree = Tree::new();
    for entry in &copy.entries {
        tree.append(entry);
    }
    let bundles: Vec<Vec<u8>> = new_bundles(0, 300)
        .iter()
        .map(|tile| {
            let items = tile.items();
            encode_bundle(&copy.entries[items.start as usize..items.end as usize]).unwrap()
        })
        .collect();
    let tiles = tiles_for_size(300);
    let leaf_tiles = tiles.iter().filter(|tile| tile.kind() == TileKind::Hashes { level: 0 });
    let leaf_tiles = leaf_tiles.map(|tile| tree.tile(tile).unwrap());
    let read = LedgerCopy::from_tiles(&bundles, leaf_tiles, copy.checkpoints.clone()).unwrap();
    assert_eq!(read, copy);
    assert!(verify(&read, &vkey(), None).ok());

    let cut = &bundles[1][..bundles[1].len() - 1];
    assert!(LedgerCopy::from_tiles([&bundles[0][..], cut], [[0; 32]], Vec::new()).is_err());
}
