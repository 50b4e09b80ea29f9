//! SSH certificates: who may log in to the gateway over SSH, and which host keys are the gateway's.
//!
//! The authority here is believed by the gateway only. It must never stand in a target host's `TrustedUserCAKeys`: whoever
//! holds a certificate of it could then log in to that host without the gateway. Certificates for targets are made with
//! another key, and elsewhere.

mod ca;
mod serial;
#[cfg(test)]
mod tests;
mod verify;

pub use ca::{SshCa, SshCaFault};
pub use serial::SshSerial;
pub use verify::{SshCertificateRefused, verify_user};

pub(crate) use verify::{Read, read};

/// What a user certificate's key id begins with; the subject's name follows.
const SUBJECT_KEY_ID: &str = "onus:subject=";
/// What a host certificate's key id begins with; its first name follows.
const HOST_KEY_ID: &str = "onus:host=";
/// The extension that names the enrolled key on whose word a user certificate was issued.
const ENROLLED_KEY: &str = "enrolled-key@onus";
