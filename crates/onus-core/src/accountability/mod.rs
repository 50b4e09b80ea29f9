//! Who answers for what: ownership now, and findings afterwards.
//!
//! [`resolve`] is asked before a session may exist (invariant 1); [`findings`] after something happened.

pub mod findings;
mod resolve;

pub use resolve::{Accountable, Gap, Owner, resolve};
