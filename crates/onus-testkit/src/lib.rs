//! Real servers for tests: private PostgreSQL clusters, certificates, drivers. Never shipped.
//!
//! Blocking on purpose: a test that wants async puts a call on a blocking thread. Nothing here is mocked, and only
//! [`gateway`] knows Onus, by its command line; the rest gives tests something real to talk to.
//!
//! | module | gives |
//! | --- | --- |
//! | [`pg`] | a private cluster that ends with the test, however the test ends |
//! | [`tls`] | a throw-away authority and a server certificate |
//! | [`tools`] | the programs that tests need, installed if that is possible |
//! | [`drivers`] | third-party PostgreSQL drivers (psycopg, asyncpg, node-postgres) |
//! | [`regress`] | PostgreSQL's own regression suite |
//! | [`proc`] | children with captured output, and what a process costs |
//! | [`gateway`] | a whole Onus with people who have enrolled |
//! | [`sshd`], [`ssh_client`], [`ssh_keys`] | a private OpenSSH server, its real clients, and keys for both |
//! | [`ssh_tools`] | the SSH programs, and which packages hold them |
//! | [`pty`] | a program on a terminal, driven as a person would |
//! | [`tree`] | what a server costs that forks for each connection |
//! | [`port`], [`wait`] | a free port, and waiting for something |

pub mod drivers;
mod fault;
pub mod gateway;
pub mod pg;
pub mod port;
pub mod proc;
pub mod pty;
pub mod regress;
pub mod run;
pub mod ssh_client;
pub mod ssh_keys;
pub mod ssh_tools;
pub mod sshd;
pub mod tls;
pub mod tools;
pub mod tree;
pub mod wait;

pub use fault::KitError;
pub use gateway::{Rig, RigOptions};
pub use pg::{Cluster, Options};
