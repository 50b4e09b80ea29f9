//! The HTTP API between the command line and the gateway: JSON over TLS, one route a thing that somebody may do or see.
//!
//! It proves who calls ([`caller`]), asks whether they may see what they ask for ([`rights`]), and passes commands on:
//! whether somebody may *do* something is decided by the control plane and not here. Deliberately absent: SQL, policy
//! evaluation, Merkle arithmetic and journal formats. What needs the last two comes in through [`Archive`], so that
//! this crate stands beside the ledger and journal crates and not on top of them.

pub mod answer;
pub mod archive;
pub mod caller;
pub mod rights;
pub mod server;
pub mod used;
pub mod verify;

pub mod enrolment;
pub mod watch;

mod access;
mod change;
mod ledger;
mod listing;
mod search;
mod sessions;
mod ssh;

pub use archive::{Archive, Hit, Opened, Tail, TileAnswer};
pub use server::{Api, router, serve};
