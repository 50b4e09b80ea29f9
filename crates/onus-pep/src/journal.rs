//! The port through which the machine records: one call for each record, in order.
//!
//! It is a trait object handed into each step, not an output, so that a record that is acknowledged at once costs no
//! round trip through the shell.

use crate::record::Record;
use onus_core::operation::Durability;

/// The number of a record within its session, from 1, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RecordNo(pub u64);

/// What came of appending one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// The record has the durability that was asked for; if that was [`Durability::Synced`], all before it do too.
    Acknowledged,
    /// Not yet: [`crate::Input::Recorded`] with this number or a higher one will say so. It speaks for all records
    /// up to its number, each with the durability asked for it.
    Pending,
    /// It can't be recorded. The session ends and nothing more is relayed (invariant 4).
    Failed,
}

/// Where a session is recorded.
pub trait Journal {
    /// Appends one record (see [`Record::encode`] for its bytes). `no` rises by one with each call.
    fn append(&mut self, no: RecordNo, record: &Record<'_>, durability: Durability) -> Appended;
}
