//! The offline verifier: do these entries, and these checkpoints, tell one unbroken story?
//!
//! It trusts the log's public key and, if given, one checkpoint that the caller remembers. It finds
//! what was done to a copy or a live store, and names the entry where the copy's own leaf hashes or
//! checkpoints allow that. What it can't find: entries rewritten, and everything signed again, by
//! whoever holds the log's key, when nobody remembers or witnessed an earlier checkpoint. That is
//! what `remembered` and cosignatures are for.

use std::collections::BTreeMap;
use std::fmt;

use crate::align::{self, Step};
use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::hash::{EMPTY_ROOT, Hash, leaf_hash, node_hash};
use crate::note::VerifierKey;
use crate::tile::{TileError, decode_bundle};
use crate::tree::Tree;

/// How many findings a report lists before it only counts them.
pub const MAX_FINDINGS: usize = 1000;

/// The largest stretch between two checkpoints that is searched for one swapped pair, in entries.
const SWAP_SEARCH: u64 = 64;

/// A ledger as found: in a store, or in a copy of a log's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerCopy {
    /// The stored entries, in order.
    pub entries: Vec<Vec<u8>>,
    /// The leaf hashes stored beside them (the tiles of level 0), if there are any. They are not
    /// trusted; they help to name the entry only when they lead to a signed root.
    pub stored_leaf_hashes: Option<Vec<Hash>>,
    /// The signed checkpoints, in the order in which they were published.
    pub checkpoints: Vec<String>,
}

impl LedgerCopy {
    /// Reads a copy of a log's files: the entry bundles and the hash tiles of level 0, each in the
    /// order of their index and in their widest form, and the checkpoints.
    ///
    /// # Errors
    /// [`CopyError`]: a file that is malformed was damaged or tampered with.
    pub fn from_tiles<B: AsRef<[u8]>, T: AsRef<[u8]>>(
        bundles: impl IntoIterator<Item = B>,
        leaf_tiles: impl IntoIterator<Item = T>,
        checkpoints: Vec<String>,
    ) -> Result<Self, CopyError> {
        let mut entries = Vec::new();
        for (bundle, bytes) in bundles.into_iter().enumerate() {
            let decoded = decode_bundle(bytes.as_ref()).map_err(|source| CopyError::Bundle { bundle, source })?;
            entries.extend(decoded.into_iter().map(<[u8]>::to_vec));
        }
        let mut hashes = Vec::new();
        for (tile, bytes) in leaf_tiles.into_iter().enumerate() {
            let (chunks, rest) = bytes.as_ref().as_chunks::<32>();
            if !rest.is_empty() {
                return Err(CopyError::LeafTile { tile });
            }
            hashes.extend(chunks.iter().copied().map(Hash));
        }
        Ok(Self { entries, stored_leaf_hashes: Some(hashes).filter(|hashes| !hashes.is_empty()), checkpoints })
    }
}

/// Why a copy of files cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// An entry bundle is malformed.
    #[error("entry bundle {bundle} is damaged")]
    Bundle {
        /// The number of the bundle.
        bundle: usize,
        /// What is wrong with it.
        source: TileError,
    },
    /// A tile of leaf hashes does not consist of hashes.
    #[error("leaf tile {tile} is damaged")]
    LeafTile {
        /// The number of the tile.
        tile: usize,
    },
}

/// One thing that is wrong. `Display` is a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Another entry stands in place of the signed one.
    Changed {
        /// The entry.
        index: u64,
    },
    /// A signed entry is missing, while later ones are there.
    Removed {
        /// The entry.
        index: u64,
    },
    /// An entry that was never signed stands among signed ones.
    Inserted {
        /// Where it stands now.
        position: u64,
    },
    /// Two signed entries changed places.
    Swapped {
        /// The earlier entry.
        a: u64,
        /// The later entry.
        b: u64,
    },
    /// A signed entry stands further on.
    Moved {
        /// The entry.
        index: u64,
        /// Where it stands now.
        position: u64,
    },
    /// Something in this stretch was changed, removed or moved; nothing at hand can say which
    /// entry. `from` entries agree with a checkpoint (or are none), `to` entries do not.
    Altered {
        /// The first entry of the stretch.
        from: u64,
        /// The entry after its last.
        to: u64,
    },
    /// The log told two stories: a signed or remembered root for this size contradicts another
    /// signed one.
    Forked {
        /// The size at which they contradict each other.
        size: u64,
    },
    /// The ledger was larger once: a later checkpoint, or what is there, ends earlier.
    RolledBack {
        /// The size once signed or remembered.
        from: u64,
        /// The size found.
        to: u64,
    },
    /// A checkpoint is malformed, of another log or not signed by the log's key.
    BadSignature {
        /// Its position in the list of checkpoints, from 0.
        checkpoint: usize,
        /// What is wrong with it.
        reason: CheckpointError,
    },
    /// A stored leaf hash is wrong, while the entry agrees with the signed root.
    LeafHashChanged {
        /// The entry.
        index: u64,
    },
    /// Entries are stored without a leaf hash, or leaf hashes without an entry.
    LeafHashesIncomplete {
        /// How many leaf hashes are stored.
        stored: u64,
        /// How many entries the signed tree has.
        signed: u64,
    },
    /// There is no valid checkpoint, so nothing is verified.
    NoCheckpoint,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { index } => {
                write!(f, "entry {index} was changed after it was signed")
            }
            Self::Removed { index } => write!(f, "entry {index} was removed"),
            Self::Inserted { position } => {
                write!(f, "an entry that was never signed was inserted at {position}")
            }
            Self::Swapped { a, b } => write!(f, "entries {a} and {b} were swapped"),
            Self::Moved { index, position } => {
                write!(f, "entry {index} was moved to position {position}")
            }
            Self::Altered { from, to } => write!(
                f,
                "entries {from} to {} do not give the root signed for {to} entries: at least one \
                 was changed, removed or moved",
                to - 1
            ),
            Self::Forked { size } => write!(f, "the log forked: two trees were signed for its first {size} entries"),
            Self::RolledBack { from, to } => write!(
                f,
                "the ledger was rolled back from {from} entries to {to}, which leaves entry {to} \
                 and later ones without proof"
            ),
            Self::BadSignature { checkpoint, reason } => {
                write!(f, "checkpoint {checkpoint} is not genuine: {reason}")
            }
            Self::LeafHashChanged { index } => {
                write!(f, "the stored leaf hash of entry {index} was changed; the entry itself is as signed")
            }
            Self::LeafHashesIncomplete { stored, signed } => {
                write!(f, "{stored} leaf hashes are stored for {signed} signed entries")
            }
            Self::NoCheckpoint => f.write_str("no genuine checkpoint: nothing is verified"),
        }
    }
}

/// What the verifier found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Up to where a signed root vouches for the ledger: the size of the largest checkpoint that
    /// the entries, or failing them their stored leaf hashes, lead to. Entries beyond it prove
    /// nothing.
    pub size: u64,
    /// The root of that checkpoint.
    pub root: Hash,
    /// How many entries there are beyond `size`, appended but not yet signed. Not a finding, since
    /// entries are written before their checkpoint, but not verified either.
    pub unsigned: u64,
    /// What is wrong, at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many further findings are not listed.
    pub omitted: u64,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, finding: Finding) {
        if self.findings.len() >= MAX_FINDINGS {
            self.omitted += 1;
        } else if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}

/// Verifies a copy of a ledger. See [`verify_leaf_hashes`], which this calls.
#[must_use]
pub fn verify(copy: &LedgerCopy, key: &VerifierKey, remembered: Option<&Checkpoint>) -> Report {
    let leaves = copy.entries.iter().map(|entry| leaf_hash(entry));
    let stored = copy.stored_leaf_hashes.as_deref();
    verify_leaf_hashes(leaves, stored, &copy.checkpoints, key, remembered)
}

/// Verifies a ledger of which the caller streams the leaf hashes, computed from the entries now.
///
/// - `stored` are the leaf hashes found stored beside the entries, for naming what was altered.
/// - `checkpoints` are notes in the order of their publication.
/// - `key` is the log's key, from a source other than the ledger.
/// - `remembered` is a checkpoint the caller verified earlier: the ledger must continue it. It is
///   trusted as it is.
///
/// Without a genuine checkpoint nothing is verified, and that is a finding, also for an empty log.
#[must_use]
pub fn verify_leaf_hashes(
    leaves: impl IntoIterator<Item = Hash>,
    stored: Option<&[Hash]>,
    checkpoints: &[String],
    key: &VerifierKey,
    remembered: Option<&Checkpoint>,
) -> Report {
    let there = Tree::from_leaf_hashes(leaves);
    let mut report = Report { size: 0, root: EMPTY_ROOT, unsigned: 0, findings: Vec::new(), omitted: 0 };
    let claims = claims(checkpoints, key, remembered, &mut report);
    let Some(claimed) = claims.largest_signed() else {
        report.add(Finding::NoCheckpoint);
        if let Some(remembered) = remembered.filter(|old| old.size > there.size()) {
            report.add(Finding::RolledBack { from: remembered.size, to: there.size() });
        }
        report.unsigned = there.size();
        return report;
    };

    // Of what is there and what the stored hashes say, believe the one that more signatures bear
    // out. Ties go to the entries: if they are as signed, nothing was done to them.
    let stored_tree = stored.map(|hashes| Tree::from_leaf_hashes(hashes.iter().copied()));
    let there_size = claims.borne_out(&there);
    let stored_size = stored_tree.as_ref().and_then(|tree| claims.borne_out(tree));
    let (truth, proven) = match (&stored_tree, there_size, stored_size) {
        (Some(tree), there_size, Some(size)) if there_size.is_none_or(|other| other < size) => (tree, size),
        (_, Some(size), _) => (&there, size),
        (_, None, _) => (&there, 0),
    };
    report.size = proven;
    report.root = truth.root_at(proven).unwrap_or(EMPTY_ROOT);
    report.unsigned = there.size().saturating_sub(claimed.max(proven));

    for (size, root) in claims.iter().filter(|(size, _)| *size <= proven) {
        // SHA-256 resists collisions, so the root signed for `proven` fixes every earlier root: one that
        // differs was signed over another tree.
        if truth.root_at(size) != Ok(root) {
            report.add(Finding::Forked { size });
        }
    }

    let signed = &truth.leaf_hashes()[..proven as usize];
    align::differences(signed, there.leaf_hashes(), |step| {
        report.add(match step {
            Step::Changed { index } => Finding::Changed { index },
            Step::Removed { index } => Finding::Removed { index },
            Step::Inserted { position } => Finding::Inserted { position },
            Step::Swapped { a, b } => Finding::Swapped { a, b },
            Step::Moved { index, position } => Finding::Moved { index, position },
            Step::Ends { index } => Finding::RolledBack { from: proven, to: index },
        });
    });

    let largest = claims.largest();
    if proven < largest {
        unproven_part(&claims, &there, proven, largest, &mut report);
    }
    if let Some(stored) = stored {
        stored_hashes(stored, &there, there_size == Some(proven), proven, &mut report);
    }
    report
}

/// The roots that were signed or are remembered, by size.
struct Claims {
    by_size: BTreeMap<u64, Vec<Hash>>,
    signed: Option<u64>,
}

impl Claims {
    fn iter(&self) -> impl Iterator<Item = (u64, Hash)> + '_ {
        let pairs = |(size, roots): (&u64, &Vec<Hash>)| {
            let size = *size;
            roots.clone().into_iter().map(move |root| (size, root))
        };
        self.by_size.iter().flat_map(pairs)
    }

    fn largest_signed(&self) -> Option<u64> {
        self.signed
    }

    fn largest(&self) -> u64 {
        self.by_size.keys().next_back().copied().unwrap_or(0)
    }

    /// The largest size for which the tree has a claimed root.
    fn borne_out(&self, tree: &Tree) -> Option<u64> {
        self.by_size
            .iter()
            .rev()
            .find(|(size, roots)| tree.root_at(**size).is_ok_and(|root| roots.contains(&root)))
            .map(|(size, _)| *size)
    }
}

/// Opens the checkpoints, and finds what they contradict by themselves.
fn claims(checkpoints: &[String], key: &VerifierKey, remembered: Option<&Checkpoint>, report: &mut Report) -> Claims {
    let mut by_size: BTreeMap<u64, Vec<Hash>> = BTreeMap::new();
    let mut claim = |size: u64, root: Hash, report: &mut Report| {
        let roots = by_size.entry(size).or_default();
        if !roots.contains(&root) {
            roots.push(root);
        }
        if roots.len() > 1 || (size == 0 && root != EMPTY_ROOT) {
            report.add(Finding::Forked { size });
        }
    };
    let (mut signed, mut latest) = (None, None);
    for (position, note) in checkpoints.iter().enumerate() {
        let checkpoint = match SignedCheckpoint::open(note, key) {
            Ok(checkpoint) => checkpoint.into_checkpoint(),
            Err(reason) => {
                report.add(Finding::BadSignature { checkpoint: position, reason });
                continue;
            }
        };
        let size = checkpoint.size;
        claim(size, checkpoint.root, report);
        if let Some(from) = signed.filter(|from| *from > size) {
            report.add(Finding::RolledBack { from, to: size });
        }
        signed = signed.max(Some(size));
        latest = Some(size);
    }
    if let Some(remembered) = remembered {
        claim(remembered.size, remembered.root, report);
        if let Some(to) = latest.filter(|to| *to < remembered.size) {
            report.add(Finding::RolledBack { from: remembered.size, to });
        }
    }
    Claims { by_size, signed }
}

/// What can be said of entries that no root bears out, between `proven` and the largest claim.
fn unproven_part(claims: &Claims, there: &Tree, proven: u64, largest: u64, report: &mut Report) {
    let (from, size) = (proven, there.size());
    let next = claims.by_size.range(from + 1..).next();
    if let Some((to, roots)) = next.filter(|(to, _)| **to <= size) {
        let to = *to;
        report.add(if to - from == 1 {
            Finding::Changed { index: from }
        } else if let Some((a, b)) = swapped_pair(there, from, to, roots) {
            Finding::Swapped { a, b }
        } else {
            Finding::Altered { from, to }
        });
    }
    if size < largest {
        report.add(Finding::RolledBack { from: largest, to: size });
    }
}

/// The two entries in `from..to` that give one of the roots when they change places.
fn swapped_pair(there: &Tree, from: u64, to: u64, roots: &[Hash]) -> Option<(u64, u64)> {
    if to - from > SWAP_SEARCH {
        return None;
    }
    let peaks = there.peaks(from);
    let mut leaves = there.leaf_hashes()[from as usize..to as usize].to_vec();
    for a in 0..leaves.len() {
        for b in a + 1..leaves.len() {
            leaves.swap(a, b);
            let root = root_over(peaks.clone(), &leaves);
            leaves.swap(a, b);
            if roots.contains(&root) {
                return Some((from + a as u64, from + b as u64));
            }
        }
    }
    None
}

/// The root over complete subtrees, from left to right, and the leaves after them.
fn root_over(mut peaks: Vec<(u32, Hash)>, leaves: &[Hash]) -> Hash {
    for leaf in leaves {
        let mut peak = (0, *leaf);
        while let Some((_, left)) = peaks.pop_if(|(level, _)| *level == peak.0) {
            peak = (peak.0 + 1, node_hash(&left, &peak.1));
        }
        peaks.push(peak);
    }
    // From the right: the rightmost subtrees are the smallest.
    peaks.into_iter().rev().map(|(_, hash)| hash).reduce(|right, left| node_hash(&left, &right)).unwrap_or(EMPTY_ROOT)
}

/// Whether the stored leaf hashes are those of entries that are themselves as signed.
fn stored_hashes(stored: &[Hash], there: &Tree, entries_are_signed: bool, proven: u64, report: &mut Report) {
    if (stored.len() as u64) < proven {
        report.add(Finding::LeafHashesIncomplete { stored: stored.len() as u64, signed: proven });
    }
    if !entries_are_signed {
        return;
    }
    let pairs = stored.iter().zip(there.leaf_hashes()).zip(0_u64..proven);
    for ((stored, entry), index) in pairs {
        if stored != entry {
            report.add(Finding::LeafHashChanged { index });
        }
    }
}
