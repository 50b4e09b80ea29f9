//! End to end: real clients through the real binary to a real server, on loopback.
//!
//! What a unit test of one crate can show is shown there. Here stands what only the whole can: that a person's day goes
//! as the documentation says, that each way of ending a session ends it, that drivers notice nothing, and that what
//! breaks underneath breaks closed. Tests share one Onus ([`scene::rig`]), each with people of its own, except those that
//! break it ([`faults`]).

mod raw;
mod scene;
mod ssh_scene;

mod badinput;
mod drivers;
mod ends;
mod faults;
mod journey;
mod regress;
mod ssh_bypass;
mod ssh_clients;
mod ssh_ends;
mod ssh_faults;
mod ssh_shell;
mod ssh_ways;
