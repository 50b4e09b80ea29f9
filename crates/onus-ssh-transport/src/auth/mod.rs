//! SSH user authentication (RFC 4252) without I/O, both roles: message payloads in, message payloads out. The transport
//! underneath encrypts them and knows the session id.
//!
//! The server takes public keys and certificates and nothing else, and verifies the signature here. It does not decide
//! who may log in ([`Authenticate`] does) and it does not judge who signed a certificate: that needs the authority's key
//! and a clock. The client proves itself with one credential, once, and does not try another.

mod client;
mod key;
#[cfg(test)]
mod openssh_tests;
mod server;
mod sign;
mod signature;
#[cfg(test)]
mod tests;
mod wire;

pub use client::{ClientAuth, ClientAuthError, ClientStep, Credential, CredentialUnusable};
pub use key::{KeyRefused, MAX_KEY_BLOB_BYTES, OfferedKey};
pub use server::{
    Answer, AuthError, AuthStep, Authenticate, Authenticated, MAX_FAILURES, MAX_REQUESTS, MAX_USER_BYTES, ServerAuth,
};
pub use signature::SecurityKeyUse;
