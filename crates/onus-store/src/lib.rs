//! The store ports: what Onus needs of a place that keeps its ledger and its sealed secrets.
//!
//! Knows no domain: an entry is bytes and a hash that the caller computed. Hashes nothing, signs
//! nothing, verifies nothing: that a store is honest is proven by the Merkle tree above it, never
//! assumed. Nothing here is async: a store is called from one dedicated thread.
//!
//! - [`LedgerStore`]: the append-only entries, their checkpoints, and what is derived from them.
//! - [`VaultStore`]: small mutable values that the caller has sealed.
//! - [`MemoryStore`]: both, in memory.
//! - [`Failing`]: any store, made to fail on purpose.
//! - [`contract`]: the suite that every store passes.

pub mod contract;
mod failing;
mod fault;
mod ledger;
mod memory;
mod vault;

pub use failing::{FailPlan, Failing, Failure, Step};
pub use fault::{AppendError, FaultSource, Part, StoreFault};
pub use ledger::{Entry, LedgerStore, SignedCheckpoint, append_again};
pub use memory::MemoryStore;
pub use vault::{Swap, VaultStore};
