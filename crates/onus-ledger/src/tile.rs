//! Tiles and entry bundles: how a log is laid out as files (C2SP tlog-tiles).
//!
//! Names, widths, contents and which of them a size needs. Deliberately not here: where the files
//! are, and in which order they are written (entries, tiles, then the checkpoint).

use std::ops::Range;

/// The longest entry a bundle can carry, in bytes. Store something longer by its digest.
pub const MAX_ENTRY_BYTES: usize = u16::MAX as usize;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of complete subtrees of `256^level` leaves each; `level` is at most 63.
    Hashes {
        /// 0 for leaf hashes.
        level: u8,
    },
    /// Up to 256 entries, each behind its length.
    Entries,
}

/// The name of one tile: kind, position and width.
///
/// ```text
/// tile/0/x001/x234/067        a full tile of leaf hashes, number 1234067
/// tile/0/x001/x234/067.p/5    the same while it has 5 hashes
/// tile/entries/000.p/7        the first bundle with 7 entries
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    kind: TileKind,
    index: u64,
    width: u16,
}

/// Why a name or a bundle is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// Levels go from 0 to 63.
    #[error("a tile's level is at most 63, not {0}")]
    Level(u8),
    /// Widths go from 1 to 256.
    #[error("a tile has 1 to 256 items, not {0}")]
    Width(u16),
    /// The path does not follow the layout, or is not the only spelling of its tile.
    #[error("not the path of a tile")]
    Path,
    /// An entry is longer than a bundle can say.
    #[error("entry {position} of the bundle has {bytes} bytes; at most {MAX_ENTRY_BYTES} fit")]
    EntryTooLong {
        /// Its position in the bundle.
        position: usize,
        /// Its length.
        bytes: usize,
    },
    /// A bundle ends within an entry.
    #[error("the bundle ends within entry {position}")]
    BundleCut {
        /// The position of the incomplete entry.
        position: usize,
    },
}

impl Tile {
    /// Names a tile.
    ///
    /// # Errors
    /// [`TileError::Level`] or [`TileError::Width`].
    pub fn new(kind: TileKind, index: u64, width: u16) -> Result<Self, TileError> {
        if let TileKind::Hashes { level: level @ 64.. } = kind {
            return Err(TileError::Level(level));
        }
        if width == 0 || width > 256 {
            return Err(TileError::Width(width));
        }
        Ok(Self { kind, index, width })
    }

    /// What it holds.
    #[must_use]
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// Its number on its level.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many items it has: 1 to 256, and 256 when full.
    #[must_use]
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether it will still grow.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.width < 256
    }

    /// The full tile in the same place.
    #[must_use]
    pub fn full(&self) -> Self {
        Self { width: 256, ..*self }
    }

    /// Which items of its level it holds; for leaf hashes and bundles these are entry indexes.
    #[must_use]
    pub fn items(&self) -> Range<u64> {
        let start = self.index.saturating_mul(256);
        start..start.saturating_add(u64::from(self.width))
    }

    /// Its path below the log's prefix.
    #[must_use]
    pub fn path(&self) -> String {
        let level = match self.kind {
            TileKind::Hashes { level } => level.to_string(),
            TileKind::Entries => "entries".to_owned(),
        };
        let mut groups = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups = format!("x{:03}/{groups}", rest % 1000);
            rest /= 1000;
        }
        if self.is_partial() {
            groups = format!("{groups}.p/{}", self.width);
        }
        format!("tile/{level}/{groups}")
    }

    /// Reads a path as [`Tile::path`] writes it; no other spelling is accepted.
    ///
    /// # Errors
    /// [`TileError::Path`].
    pub fn parse(path: &str) -> Result<Self, TileError> {
        let rest = path.strip_prefix("tile/").ok_or(TileError::Path)?;
        let (level, rest) = rest.split_once('/').ok_or(TileError::Path)?;
        let kind = if level == "entries" {
            TileKind::Entries
        } else {
            TileKind::Hashes { level: level.parse().map_err(|_| TileError::Path)? }
        };
        let (groups, width) = match rest.split_once(".p/") {
            Some((groups, width)) => (groups, width.parse().map_err(|_| TileError::Path)?),
            None => (rest, 256),
        };
        let mut index = 0_u64;
        for group in groups.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            let digits: u64 = digits.parse().map_err(|_| TileError::Path)?;
            index = index.checked_mul(1000).and_then(|index| index.checked_add(digits)).ok_or(TileError::Path)?;
        }
        let tile = Self::new(kind, index, width).map_err(|_| TileError::Path)?;
        // Writing it again rejects leading zeros, signs, missing or surplus `x`, `.p/256` and
        // anything else that would be a second name for the same tile.
        if tile.path() != path {
            return Err(TileError::Path);
        }
        Ok(tile)
    }
}

/// The hash tiles that a tree of `size` entries consists of, level by level, in order.
#[must_use]
pub fn tiles_for_size(size: u64) -> Vec<Tile> {
    new_tiles(0, size)
}

/// The hash tiles that a tree of `new` entries has and the tree of `old` entries had not: those to
/// write before the checkpoint for `new` is published.
#[must_use]
pub fn new_tiles(old: u64, new: u64) -> Vec<Tile> {
    let mut tiles = Vec::new();
    for level in 0..8_u8 {
        let shift = u32::from(level) * 8;
        let kind = TileKind::Hashes { level };
        grown(kind, old >> shift, new >> shift, &mut tiles);
    }
    tiles
}

/// The entry bundles that a log of `new` entries has and the log of `old` entries had not.
#[must_use]
pub fn new_bundles(old: u64, new: u64) -> Vec<Tile> {
    let mut tiles = Vec::new();
    grown(TileKind::Entries, old, new, &mut tiles);
    tiles
}

fn grown(kind: TileKind, old: u64, new: u64, tiles: &mut Vec<Tile>) {
    if new <= old {
        return;
    }
    for index in old / 256..new / 256 {
        tiles.push(Tile { kind, index, width: 256 });
    }
    let width = (new % 256) as u16;
    if width > 0 {
        tiles.push(Tile { kind, index: new / 256, width });
    }
}

/// Writes entries as a bundle: `uint16 length (big endian) || bytes`, again and again.
///
/// # Errors
/// [`TileError::EntryTooLong`].
pub fn encode_bundle<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, TileError> {
    let mut bundle = Vec::new();
    for (position, entry) in entries.iter().enumerate() {
        let entry = entry.as_ref();
        let length =
            u16::try_from(entry.len()).map_err(|_| TileError::EntryTooLong { position, bytes: entry.len() })?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Ok(bundle)
}

/// Reads the entries of a bundle.
///
/// # Errors
/// [`TileError::BundleCut`].
pub fn decode_bundle(bundle: &[u8]) -> Result<Vec<&[u8]>, TileError> {
    let mut entries = Vec::new();
    let mut rest = bundle;
    while !rest.is_empty() {
        let cut = TileError::BundleCut { position: entries.len() };
        let (length, after) = rest.split_first_chunk::<2>().ok_or(cut)?;
        let (entry, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(cut)?;
        entries.push(entry);
        rest = after;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree_of;
    use crate::tree::{Tree, TreeError};
    use std::collections::BTreeMap;

    #[test]
    fn paths_have_one_spelling() {
        for path in [
            "tile/0/000",
            "tile/0/x001/000",
            "tile/0/x001/x234/067.p/5",
            "tile/63/999.p/255",
            "tile/entries/x001/x234/067",
        ] {
            assert_eq!(Tile::parse(path).unwrap().path(), path);
        }
        for path in [
            "",
            "tile/0",
            "tile/64/000",
            "tile/00/000",
            "tile/+0/000",
            "tile/0/0",
            "tile/0/1000",
            "tile/0/x000/001",
            "tile/0/001/000",
            "tile/0/x001",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/05",
            "tile/0/000.p/5/",
            "tile/0/000/",
            "tile/0/../000",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "/tile/0/000",
        ] {
            assert_eq!(Tile::parse(path), Err(TileError::Path), "{path}");
        }
        let last = Tile::new(TileKind::Entries, u64::MAX, 256).unwrap();
        assert_eq!(Tile::parse(&last.path()), Ok(last));
    }

    #[test]
    fn growing_writes_exactly_the_tiles_that_are_missing() {
        let tree = tree_of(1500);
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut old = 0;
        for new in [1, 255, 256, 257, 257, 700, 1500] {
            for tile in new_tiles(old, new) {
                let bytes = tree.tile(&tile).unwrap();
                assert!(files.insert(tile.path(), bytes).is_none(), "{tile:?}");
            }
            let rebuilt = Tree::from_tiles(new, |tile| files.get(&tile.path()).cloned()).unwrap();
            assert_eq!(rebuilt.root(), tree.root_at(new).unwrap());
            old = new;
        }
    }

    #[test]
    fn a_pruned_partial_tile_falls_back_to_the_full_one() {
        let tree = tree_of(300);
        let rebuilt = Tree::from_tiles(200, |tile| (!tile.is_partial()).then(|| tree.tile(tile)).flatten()).unwrap();
        assert_eq!(rebuilt.root(), tree.root_at(200).unwrap());
        assert_eq!(rebuilt.size(), 200);
    }

    #[test]
    fn tiles_that_do_not_fit_are_refused() {
        let tree = tree_of(300);
        let missing = Tree::from_tiles(300, |_| None);
        assert!(matches!(missing, Err(TreeError::TileMissing { .. })));
        let short = Tree::from_tiles(300, |tile| tree.tile(tile).map(|bytes| bytes[1..].to_vec()));
        assert!(matches!(short, Err(TreeError::TileLength { .. })));
        // A leaf changed in a full tile no longer agrees with the tile above.
        let changed = Tree::from_tiles(300, |tile| {
            let mut bytes = tree.tile(tile)?;
            if tile.path() == "tile/0/000" {
                bytes[99] ^= 1;
            }
            Some(bytes)
        });
        assert_eq!(changed, Err(TreeError::TileMismatch { path: "tile/1/000.p/1".to_owned() }));
    }

    #[test]
    fn bundles_round_trip_and_cut_ones_are_refused() {
        let entries: [&[u8]; 3] = [b"one", b"", &[7; MAX_ENTRY_BYTES]];
        let bundle = encode_bundle(&entries).unwrap();
        assert_eq!(decode_bundle(&bundle).unwrap(), entries);
        for (cut, position) in [(1, 0), (4, 0), (6, 1), (8, 2), (bundle.len() - 1, 2)] {
            assert_eq!(decode_bundle(&bundle[..cut]), Err(TileError::BundleCut { position }), "{cut}");
        }
        assert!(encode_bundle(&[vec![0; MAX_ENTRY_BYTES + 1]]).is_err());
        assert_eq!(decode_bundle(&[]).unwrap(), Vec::<&[u8]>::new());
    }
}
