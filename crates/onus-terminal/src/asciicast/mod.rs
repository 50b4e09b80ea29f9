//! Recordings of terminals in the asciicast formats.
//!
//! [`v3`] is what we write, [`v2`] what older players need, [`read()`] takes both and v1. The formats hold text, so
//! bytes that are no UTF-8 are replaced: a cast is a view for people, the evidence is the journal.

mod event;
pub mod read;
pub mod v2;
pub mod v3;

pub use event::{Event, EventKind, Header, Theme};
pub use read::{ReadError, Recording, read};
