//! The transport as a whole: against itself, against OpenSSH, and under attack.

mod attack;
mod openssh;
mod pair;
mod speed;
