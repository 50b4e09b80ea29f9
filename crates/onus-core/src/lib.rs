//! The pure control plane: commands, events, state, decisions and accountability.
//!
//! `handle(command) → events`, `apply(event) → state`, `judge_session(state) → view or end`. No I/O, clock, randomness,
//! environment, async or iteration over hash maps: the same ledger prefix gives the same state, byte for byte.

pub mod ids;
pub mod time;

pub mod decision;
pub mod operation;
pub mod path;
pub mod view;

pub mod codec;
pub mod command;
pub mod estate;
pub mod event;
pub mod refusal;
pub mod state;

pub mod accountability;
pub mod change;
pub mod elevation;
pub mod issuance;
pub mod response;
pub mod runtime;

#[cfg(test)]
mod stories;
