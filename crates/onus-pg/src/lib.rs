//! PostgreSQL without I/O: wire protocol, classifier by the server's own grammar, fixtures.

pub mod classifier;
pub mod classify;
pub mod frame;
pub mod message;
pub mod proxy;
pub mod scram;
pub mod startup;
pub mod upstream_login;

pub use frame::fuzz_frames;
pub use proxy::{Classify, PgProtocol, StatementInfo};
