//! The SSH transport and authentication protocols without I/O, both roles.
//!
//! A [`Transport`] is one end of one connection: version and key exchange, sealing and opening of packets, rekeying
//! (RFC 4253, 8308, 8709, 8731, strict key exchange). What it carries comes out as whole payloads, decrypted where
//! they lie, and nothing is granted or answered on the way: a gateway between two transports can pass on the very
//! packets of the connection protocol, windows included.
//!
//! Deliberately absent: sockets, clocks, channels, every algorithm that is not an AEAD, SHA-1, compression.

pub mod algorithm;
pub mod auth;
pub mod config;
pub mod error;
pub mod host_key;
mod kex_init;
mod key_exchange;
pub mod message;
mod seal;
pub mod transport;
mod version;
pub mod wire;

pub use algorithm::{Algorithms, Cipher, HostKeyAlgorithm, Kex, Negotiated};
pub use config::{ClientConfig, HostKeyUnusable, RekeyAfter, ServerConfig, Verify};
pub use error::TransportError;
pub use host_key::{HostKeyOffer, HostKeyRefused, OfferedHostKey};
pub use seal::MAX_PAYLOAD;
pub use transport::{Event, SERVER_SIG_ALGS, Transport};
pub use version::IDENTIFICATION;
