//! The tokio shell: transports, session tasks, the control loop, anchoring, and reactions.
//!
//! Everything that decides lives in the pure crates; what lives here is what moves: sockets, files, threads, clocks.
//! One [`Gateway`] value holds what the API and the listeners share. No module here knows policy, SQL or Merkle trees.

pub mod control;
pub mod ids;
pub mod registry;

pub mod journal;
pub mod policy;
pub mod vault;

pub mod door;
pub mod pg;
pub mod session;
pub mod ssh;
pub mod upstream;

mod begun;
mod gateway;
mod recovery;

pub use control::{Appended, Control, ControlError, StartError, now};
pub use gateway::{ActivateError, Gateway, GatewayError, Keys, Settings, Stores};

#[cfg(test)]
mod control_tests;
