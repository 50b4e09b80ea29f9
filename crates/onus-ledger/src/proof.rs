//! The verifiers of inclusion and consistency proofs (RFC 9162, sections 2.1.3.2 and 2.1.4.2).
//!
//! They trust nothing but the roots and the leaf they are given. Making proofs is
//! [`Tree`](crate::Tree)'s part.

use crate::hash::{Hash, node_hash};

/// Why a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The entry is outside of the tree.
    #[error("entry {index} is outside of a tree of {size} entries")]
    IndexBeyondSize {
        /// The claimed index.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The later tree is smaller than the earlier one.
    #[error("a tree of {new} entries cannot continue one of {old}")]
    SizesReversed {
        /// The earlier size.
        old: u64,
        /// The later size.
        new: u64,
    },
    /// The proof has fewer or more hashes than the sizes ask for.
    #[error("the proof has the wrong number of hashes")]
    Length,
    /// The proof leads to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// Verifies that the leaf hash `leaf` is entry `index` of the tree of `size` entries with `root`.
///
/// # Errors
/// [`ProofError`]; there is no partial success.
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, path: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::IndexBeyondSize { index, size });
    }
    let (mut fnode, mut snode) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if snode == 0 {
            return Err(ProofError::Length);
        }
        if fnode & 1 == 1 || fnode == snode {
            hash = node_hash(sibling, &hash);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    if snode != 0 {
        return Err(ProofError::Length);
    }
    if hash != *root {
        return Err(ProofError::Root);
    }
    Ok(())
}

/// Verifies that the tree of `new` entries with `new_root` begins with the tree of `old` entries
/// with `old_root`.
///
/// From size 0 everything follows, with an empty path; the old root must then be the empty one.
///
/// # Errors
/// [`ProofError`]; there is no partial success.
pub fn verify_consistency(
    old: u64,
    new: u64,
    path: &[Hash],
    old_root: &Hash,
    new_root: &Hash,
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::SizesReversed { old, new });
    }
    if old == 0 || old == new {
        if !path.is_empty() {
            return Err(ProofError::Length);
        }
        let expected = if old == new { new_root } else { &crate::hash::EMPTY_ROOT };
        return if old_root == expected { Ok(()) } else { Err(ProofError::Root) };
    }
    // A complete old tree is itself a node of the new one, so the proof leaves it out.
    let (first, rest) =
        if old.is_power_of_two() { (old_root, path) } else { path.split_first().ok_or(ProofError::Length)? };
    if path.is_empty() {
        return Err(ProofError::Length);
    }
    let (mut fnode, mut snode) = (old - 1, new - 1);
    while fnode & 1 == 1 {
        fnode >>= 1;
        snode >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if snode == 0 {
            return Err(ProofError::Length);
        }
        if fnode & 1 == 1 || fnode == snode {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    if snode != 0 {
        return Err(ProofError::Length);
    }
    if old_hash != *old_root || new_hash != *new_root {
        return Err(ProofError::Root);
    }
    Ok(())
}
