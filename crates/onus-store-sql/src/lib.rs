//! The SQL stores: SQLite today, for a gateway on one machine.
//!
//! - [`SqliteStore`]: ledger and vault in one file.
//! - [`DataLock`]: one server per data directory.
//!
//! Holds no rule of the domain and checks no hash; see `onus-store` for the contract, whose suite
//! runs against everything here.

mod lock;
mod sqlite;

pub use lock::{DataLock, LockFault};
pub use sqlite::SqliteStore;
