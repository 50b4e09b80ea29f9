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

/// The newest records of a session's journal.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    /// As in [`Opened`], in order.
    pub records: Vec<serde_json::Value>,
    /// The number of the last record in it, or of the one asked after.
    pub last: u64,
}

/// A place where a text was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// When, in milliseconds since the epoch.
    pub at: u64,
    /// `command` for what was asked, `output` or `input` for what a terminal showed.
    pub kind: &'static str,
    /// The operation, for a command.
    pub op: Option<u64>,
    /// The stream, for what a terminal showed.
    pub channel: Option<u64>,
    /// The line that holds it. Written by whoever is recorded: escape it before a terminal sees it.
    pub text: String,
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

    /// The records after `after`, as far as they are whole, and at most about `most` bytes of them. For a journal that
    /// is being written; what it is held against is its own chain only. Blocks on the disk.
    ///
    /// # Errors
    /// When there is no journal, or it can't be read.
    fn tail(&self, gateway: &Gateway, session: &SessionId, after: u64, most: usize) -> io::Result<Tail>;

    /// The journal's size in bytes: it grows with every record. Blocks on the disk.
    ///
    /// # Errors
    /// When there is no journal.
    fn size(&self, gateway: &Gateway, session: &SessionId) -> io::Result<u64>;

    /// Where a text stands in commands and plain terminal text, without regard to case; at most so many places.
    fn search(&self, records: &[serde_json::Value], text: &str, most: usize) -> Vec<Hit>;

    /// What the path (`tile/0/000.p/5`, C2SP tlog-tiles) names in the ledger of `size` entries; `None` if nothing.
    fn tile(&self, shared: &Shared, size: u64, path: &str) -> Option<TileAnswer>;
}
