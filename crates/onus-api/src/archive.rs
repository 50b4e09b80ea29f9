//! The port for what needs journal and tile formats: opening a session's journal and naming tiles.
//!
//! The binary, which names every crate, implements it. Nothing in this crate knows either format.

use onus_core::ids::SessionId;
use onus_gateway::Gateway;
use onus_gateway::control::Shared;
use std::io;

/// A session's journal, opened.
#[derive(Debug, Clone, Default)]
pub struct Opened {
    /// The records that chain and seal vouch for, in order, each one JSON object as `onus-pep` writes it.
    pub records: Vec<serde_json::Value>,
    /// What is wrong with the journal, in words; a torn tail is not in here.
    pub findings: Vec<String>,
    /// Whether it ends within a record, as after a crash.
    pub torn: bool,
    /// The number of the last verified record.
    pub last: u64,
    /// The head after it, hex.
    pub head: String,
}

/// What a tile's path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TileAnswer {
    /// A hash tile's bytes.
    Hashes(Vec<u8>),
    /// A bundle: these entries, to be read from the store.
    Entries {
        /// The first one.
        from: u64,
        /// How many.
        count: usize,
    },
}

/// Opens journals and names tiles.
pub trait Archive: Send + Sync {
    /// Reads, verifies and opens a session's journal. `anchors` are the records and heads (hex) that the ledger holds.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// When there is no journal, or it can't be read.
    fn open(&self, gateway: &Gateway, session: &SessionId, anchors: &[(u64, String)]) -> io::Result<Opened>;

    /// What the path (`tile/0/000.p/5`, C2SP tlog-tiles) names in the ledger of `size` entries; `None` if nothing.
    fn tile(&self, shared: &Shared, size: u64, path: &str) -> Option<TileAnswer>;
}
