//! Shell lines without I/O: grammar, command schemas, and the canonical text that is sent.
//!
//! A line that somebody typed is parsed, expanded as far as that is sound without the remote host, and held against
//! schemas that say what each program's arguments mean. What comes out are operations for the policy and a script
//! made only of quoted literals. The typed text itself is never sent anywhere.

pub mod actions;
mod classify;
pub mod environment;
mod expand;
mod parse;
pub mod reading;
pub mod schemas;
mod script;
pub mod word;

pub use actions::ACTIONS;
pub use environment::{Scene, envelope};
pub use reading::{Effects, Reading, Shell, Simple};
pub use schemas::{SchemaError, Schemas};
pub use word::Arg;
