//! Properties of proofs: every good one holds, no spoilt one does.

use onus_ledger::{Hash, Tree, leaf_hash, verify_consistency, verify_inclusion};
use proptest::prelude::*;

fn tree(size: u64) -> Tree {
    let mut tree = Tree::new();
    for index in 0..size {
        tree.append(&index.to_be_bytes());
    }
    tree
}

fn flip(hash: &Hash) -> Hash {
    let mut hash = *hash;
    hash.0[31] ^= 1;
    hash
}

/// The same path with one hash flipped, one missing, or one too many at either end.
fn spoilt(path: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = Vec::new();
    for at in 0..path.len() {
        let mut flipped = path.to_vec();
        flipped[at] = flip(&path[at]);
        all.push(flipped);
        let mut shorter = path.to_vec();
        shorter.remove(at);
        all.push(shorter);
    }
    let extra = leaf_hash(b"extra");
    all.push([&[extra], path].concat());
    all.push([path, &[extra]].concat());
    all
}

#[test]
fn inclusion_for_every_size_and_index() {
    let tree = tree(71);
    for size in 1..=70 {
        let root = tree.root_at(size).unwrap();
        for index in 0..size {
            let leaf = tree.leaf_hashes()[index as usize];
            let path = tree.inclusion_proof(index, size).unwrap();
            let holds = |index, size, leaf: &Hash, path: &[Hash], root: &Hash| {
                verify_inclusion(index, size, leaf, path, root).is_ok()
            };
            assert!(holds(index, size, &leaf, &path, &root));
            assert!(!holds(index, size, &flip(&leaf), &path, &root));
            assert!(!holds(index, size, &leaf, &path, &flip(&root)));
            for other in (0..=size).filter(|other| *other != index) {
                assert!(!holds(other, size, &leaf, &path, &root), "{index} {size} {other}");
            }
            for path in spoilt(&path) {
                assert!(!holds(index, size, &leaf, &path, &root));
            }
            // The same path may well fit another size's shape, but never with that size's root.
            for other in (1..=71).filter(|other| *other != size) {
                let other_root = tree.root_at(other).unwrap();
                assert!(!holds(index, other, &leaf, &path, &other_root), "{index} {size} {other}");
            }
        }
    }
}

#[test]
fn consistency_for_every_pair_of_sizes() {
    let tree = tree(70);
    let root = |size| tree.root_at(size).unwrap();
    for new in 0..=70 {
        for old in 0..=new {
            let path = tree.consistency_proof(old, new).unwrap();
            let holds = |old, new, path: &[Hash], old_root: &Hash, new_root: &Hash| {
                verify_consistency(old, new, path, old_root, new_root).is_ok()
            };
            assert!(holds(old, new, &path, &root(old), &root(new)), "{old} {new}");
            assert!(!holds(old, new, &path, &flip(&root(old)), &root(new)));
            if old > 0 {
                assert!(!holds(old, new, &path, &root(old), &flip(&root(new))));
            }
            for path in spoilt(&path) {
                assert!(!holds(old, new, &path, &root(old), &root(new)), "{old} {new}");
            }
            if old != new {
                assert!(!holds(new, old, &path, &root(new), &root(old)));
                if old > 0 {
                    assert!(!holds(old, new, &path, &root(new), &root(old)));
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_proofs_neither_hold_nor_panic(
        a in any::<u64>(),
        b in any::<u64>(),
        path in prop::collection::vec(any::<[u8; 32]>().prop_map(Hash), 0..70),
    ) {
        let (leaf, root) = (leaf_hash(b"leaf"), leaf_hash(b"root"));
        prop_assert!(verify_inclusion(a, b, &leaf, &path, &root).is_err());
        prop_assert!(verify_consistency(a, b, &path, &leaf, &root).is_err());
    }

    #[test]
    fn a_tree_rebuilt_from_its_tiles_is_the_same(size in 0_u64..1300) {
        let tree = tree(size);
        let rebuilt = Tree::from_tiles(size, |tile| tree.tile(tile)).unwrap();
        prop_assert_eq!(rebuilt, tree);
    }
}
