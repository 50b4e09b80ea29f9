//! The events' versioned wire form: what a ledger leaf is the hash of.
//!
//! One JSON object a leaf: `{"v":1,"at":…,"by":…,"what":{"event":"grant_issued",…}}`. Leaf hashes are over these stored bytes,
//! so an old entry is never written anew: it is read by its version and, one day, upcast after reading.

use crate::event::{Actor, Entry, Event};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The version written today. When raising it, keep reading the older ones in [`decode`].
pub const VERSION: u32 = 1;

/// The longest entry, in bytes: what an entry bundle of C2SP tlog-tiles can hold.
pub const MAX_ENTRY_BYTES: usize = 65_535;

/// Why bytes are not an entry, or an entry can't be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not JSON, or not an entry's JSON.
    #[error("the entry cannot be read: {0}")]
    Malformed(String),
    /// Written by a newer Onus.
    #[error("the entry has version {0}; this program reads up to {VERSION}: use a newer one")]
    Version(u32),
    /// Longer than [`MAX_ENTRY_BYTES`].
    #[error("the entry is {0} bytes long; at most {MAX_ENTRY_BYTES} fit into the ledger")]
    TooLong(usize),
}

#[derive(Serialize)]
struct Out<'a> {
    v: u32,
    at: Timestamp,
    by: &'a Actor,
    what: &'a Event,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// The bytes of an entry; the same entry always gives the same bytes.
pub fn encode(entry: &Entry) -> Result<Vec<u8>, CodecError> {
    let bytes = serde_json::to_vec(&Out { v: VERSION, at: entry.at, by: &entry.by, what: &entry.event })
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if bytes.len() > MAX_ENTRY_BYTES { Err(CodecError::TooLong(bytes.len())) } else { Ok(bytes) }
}

/// The entry in the bytes.
pub fn decode(bytes: &[u8]) -> Result<Entry, CodecError> {
    let malformed = |error: serde_json::Error| CodecError::Malformed(error.to_string());
    let Version { v } = serde_json::from_slice(bytes).map_err(malformed)?;
    match v {
        1 => serde_json::from_slice(bytes).map_err(malformed),
        newer => Err(CodecError::Version(newer)),
    }
}
