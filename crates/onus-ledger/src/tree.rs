//! An append-only Merkle tree that answers for every size it ever had (RFC 9162, section 2.1).
//!
//! It holds the hashes of all complete subtrees, 64 bytes a leaf, and no entries. It deliberately
//! cannot remove or replace a leaf.

use crate::hash::{EMPTY_ROOT, Hash, leaf_hash, node_hash};
use crate::tile::{Tile, TileKind, tiles_for_size};

/// An append-only Merkle tree over leaf hashes.
///
/// `levels[l][i]` is the hash of the complete subtree over leaves `i·2^l .. (i+1)·2^l`; incomplete
/// subtrees are never stored, so nothing stored ever changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    levels: Vec<Vec<Hash>>,
}

/// Why a tree cannot answer or cannot be rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The question is about a size the tree has not reached.
    #[error("the tree has {tree} entries, not {asked}")]
    SizeBeyondTree {
        /// The size asked for.
        asked: u64,
        /// The size of the tree.
        tree: u64,
    },
    /// The entry is outside of the tree of that size.
    #[error("entry {index} is outside of a tree of {size} entries")]
    IndexBeyondSize {
        /// The entry asked for.
        index: u64,
        /// The size asked for.
        size: u64,
    },
    /// A consistency proof was asked from a larger to a smaller tree.
    #[error("no consistency proof leads from size {old} back to size {new}")]
    SizesReversed {
        /// The size to start from.
        old: u64,
        /// The size to arrive at.
        new: u64,
    },
    /// A tile that the size needs is not there, neither partial nor full.
    #[error("tile `{path}` is missing")]
    TileMissing {
        /// The path of the tile.
        path: String,
    },
    /// A tile has the wrong number of bytes.
    #[error("tile `{path}` has {bytes} bytes")]
    TileLength {
        /// The path of the tile.
        path: String,
        /// How many bytes it has.
        bytes: usize,
    },
    /// A tile above the leaves does not follow from the leaves.
    #[error("tile `{path}` does not follow from the tiles below it")]
    TileMismatch {
        /// The path of the tile.
        path: String,
    },
}

impl Tree {
    /// A tree without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Rebuilds a tree from its leaf hashes, in order.
    pub fn from_leaf_hashes(leaves: impl IntoIterator<Item = Hash>) -> Self {
        let mut tree = Self::new();
        for leaf in leaves {
            tree.append_hash(leaf);
        }
        tree
    }

    /// Rebuilds a tree of `size` entries from its tiles.
    ///
    /// `fetch` returns the bytes of a hash tile or `None`. Where a partial tile is absent, the full
    /// one is asked for, since a log may prune the former once it has the latter. Tiles above the
    /// leaves must be present too and are compared, so a tree that comes back stands behind every
    /// tile read.
    ///
    /// # Errors
    /// A `Tile…` variant of [`TreeError`] naming the first tile at fault.
    pub fn from_tiles(size: u64, mut fetch: impl FnMut(&Tile) -> Option<Vec<u8>>) -> Result<Self, TreeError> {
        let mut tree = Self::new();
        for tile in tiles_for_size(size) {
            let mut bytes = match fetch(&tile) {
                Some(bytes) => exact(&tile, bytes)?,
                None if tile.is_partial() => {
                    let full = tile.full();
                    exact(&full, fetch(&full).ok_or_else(|| missing(&tile))?)?
                }
                None => return Err(missing(&tile)),
            };
            bytes.truncate(usize::from(tile.width()) * 32);
            // Tiles come in order of their level, so the leaves are complete before the first
            // tile above them is compared.
            if tile.kind() == (TileKind::Hashes { level: 0 }) {
                for hash in bytes.as_chunks::<32>().0 {
                    tree.append_hash(Hash(*hash));
                }
            } else if tree.tile(&tile).as_deref() != Some(&bytes[..]) {
                return Err(TreeError::TileMismatch { path: tile.path() });
            }
        }
        Ok(tree)
    }

    /// How many entries there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Appends an entry and returns its index. Amortised one node hash.
    pub fn append(&mut self, entry: &[u8]) -> u64 {
        self.append_hash(leaf_hash(entry))
    }

    /// Appends an entry by its leaf hash and returns its index.
    pub fn append_hash(&mut self, leaf: Hash) -> u64 {
        let index = self.size();
        let mut hash = leaf;
        let mut level = 0;
        loop {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(hash);
            let [.., left, right] = self.levels[level].as_slice() else {
                return index;
            };
            if !self.levels[level].len().is_multiple_of(2) {
                return index;
            }
            hash = node_hash(left, right);
            level += 1;
        }
    }

    /// The leaf hashes, in order.
    #[must_use]
    pub fn leaf_hashes(&self) -> &[Hash] {
        self.levels.first().map_or(&[], Vec::as_slice)
    }

    /// The root over all entries.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.range_hash(0, self.size())
    }

    /// The root the tree had when it had `size` entries.
    ///
    /// # Errors
    /// [`TreeError::SizeBeyondTree`].
    pub fn root_at(&self, size: u64) -> Result<Hash, TreeError> {
        self.reached(size)?;
        Ok(self.range_hash(0, size))
    }

    /// The inclusion proof of entry `index` in the tree of `size` entries, sibling of the leaf
    /// first (RFC 9162, section 2.1.3.1).
    ///
    /// # Errors
    /// [`TreeError::SizeBeyondTree`] or [`TreeError::IndexBeyondSize`].
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, TreeError> {
        self.reached(size)?;
        if index >= size {
            return Err(TreeError::IndexBeyondSize { index, size });
        }
        let mut path = Vec::new();
        let (mut start, mut end) = (0, size);
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                path.push(self.range_hash(middle, end));
                end = middle;
            } else {
                path.push(self.range_hash(start, middle));
                start = middle;
            }
        }
        path.reverse();
        Ok(path)
    }

    /// The proof that the tree of `new` entries begins with the tree of `old` entries (RFC 9162,
    /// section 2.1.4.1). Empty from size 0 and between equal sizes.
    ///
    /// # Errors
    /// [`TreeError::SizeBeyondTree`] or [`TreeError::SizesReversed`].
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, TreeError> {
        self.reached(new)?;
        if old > new {
            return Err(TreeError::SizesReversed { old, new });
        }
        let mut path = Vec::new();
        if old == 0 || old == new {
            return Ok(path);
        }
        let (mut start, mut end) = (0, new);
        // The verifier knows the old root, so the subtree that is exactly the old tree is left out.
        let mut whole = true;
        while end != old {
            let middle = start + split(end - start);
            if old <= middle {
                path.push(self.range_hash(middle, end));
                end = middle;
            } else {
                path.push(self.range_hash(start, middle));
                start = middle;
                whole = false;
            }
        }
        if !whole {
            path.push(self.range_hash(start, end));
        }
        path.reverse();
        Ok(path)
    }

    /// The bytes of a hash tile, or `None` if the tree has not reached it or it holds entries.
    #[must_use]
    pub fn tile(&self, tile: &Tile) -> Option<Vec<u8>> {
        let TileKind::Hashes { level } = tile.kind() else {
            return None;
        };
        let hashes = self.levels.get(usize::from(level) * 8)?;
        let start = usize::try_from(tile.index().checked_mul(256)?).ok()?;
        let end = start.checked_add(usize::from(tile.width()))?;
        let hashes = hashes.get(start..end)?;
        Some(hashes.iter().flat_map(|hash| hash.0).collect())
    }

    /// The complete subtrees that make up the first `size` leaves, from left to right, each with
    /// the level it stands on.
    pub(crate) fn peaks(&self, size: u64) -> Vec<(u32, Hash)> {
        let mut peaks = Vec::new();
        let mut start = 0;
        for level in (0..u64::BITS).rev() {
            if size >> level & 1 == 1 {
                peaks.push((level, self.complete(level, start)));
                start += 1 << level;
            }
        }
        peaks
    }

    fn reached(&self, asked: u64) -> Result<(), TreeError> {
        let tree = self.size();
        if asked > tree {
            return Err(TreeError::SizeBeyondTree { asked, tree });
        }
        Ok(())
    }

    /// `MTH(D[start:end])`.
    ///
    /// INVARIANT: `end` is within the tree, and `start` is a multiple of the smallest power of two
    /// that is not below `end - start`, as it is for every range that proofs and roots ask for.
    fn range_hash(&self, start: u64, end: u64) -> Hash {
        let size = end - start;
        if size == 0 {
            return EMPTY_ROOT;
        }
        if size.is_power_of_two() {
            return self.complete(size.trailing_zeros(), start);
        }
        let middle = start + split(size);
        let left = self.complete((middle - start).trailing_zeros(), start);
        node_hash(&left, &self.range_hash(middle, end))
    }

    fn complete(&self, level: u32, start: u64) -> Hash {
        self.levels[level as usize][(start >> level) as usize]
    }
}

/// The largest power of two strictly below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (u64::BITS - 1 - (size - 1).leading_zeros())
}

fn exact(tile: &Tile, bytes: Vec<u8>) -> Result<Vec<u8>, TreeError> {
    if bytes.len() == usize::from(tile.width()) * 32 {
        return Ok(bytes);
    }
    Err(TreeError::TileLength { path: tile.path(), bytes: bytes.len() })
}

fn missing(tile: &Tile) -> TreeError {
    TreeError::TileMissing { path: tile.path() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The definition of RFC 9162 spelled out: the slow, obvious model.
    pub(crate) fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => EMPTY_ROOT,
            [leaf] => *leaf,
            _ => {
                let mut k = 1;
                while k * 2 < leaves.len() {
                    k *= 2;
                }
                node_hash(&mth(&leaves[..k]), &mth(&leaves[k..]))
            }
        }
    }

    pub(crate) fn tree_of(size: u64) -> Tree {
        let mut tree = Tree::new();
        for index in 0..size {
            tree.append(format!("entry {index}").as_bytes());
        }
        tree
    }

    #[test]
    fn every_earlier_root_is_the_root_by_definition() {
        let tree = tree_of(300);
        for size in 0..=300 {
            assert_eq!(tree.root_at(size).unwrap(), mth(&tree.leaf_hashes()[..size as usize]), "size {size}");
        }
        assert_eq!(tree.root(), tree.root_at(300).unwrap());
    }

    #[test]
    fn questions_beyond_the_tree_are_refused() {
        let tree = tree_of(5);
        assert!(tree.root_at(6).is_err());
        assert!(tree.inclusion_proof(0, 6).is_err());
        assert!(tree.inclusion_proof(5, 5).is_err());
        assert!(tree.inclusion_proof(0, 0).is_err());
        assert!(tree.consistency_proof(2, 6).is_err());
        assert_eq!(tree.consistency_proof(3, 2), Err(TreeError::SizesReversed { old: 3, new: 2 }));
        assert!(Tree::new().root_at(0).is_ok());
    }

    #[test]
    fn peaks_are_the_binary_digits_of_the_size() {
        let tree = tree_of(7);
        let levels: Vec<u32> = tree.peaks(7).iter().map(|(level, _)| *level).collect();
        assert_eq!(levels, [2, 1, 0]);
        assert_eq!(tree.peaks(4)[0].1, tree.root_at(4).unwrap());
        assert!(tree.peaks(0).is_empty());
    }
}
