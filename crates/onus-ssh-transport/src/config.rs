//! What each role needs to know before it begins.
//!
//! A configuration that exists is usable: keys are checked when it is made.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use ssh_key::certificate::CertType;
use ssh_key::private::KeypairData;
use ssh_key::{Certificate, PrivateKey};

use crate::algorithm::{Algorithms, HostKeyAlgorithm};
use crate::host_key::{HostKeyOffer, HostKeyRefused};

/// When keys are renewed, for each direction by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RekeyAfter {
    /// Bytes of payload.
    pub bytes: u64,
    /// Packets; at most 2³¹ is kept to, as the sequence number has 32 bits.
    pub packets: u64,
}

impl Default for RekeyAfter {
    /// 1 GiB (RFC 4253 §9) or 2³¹ packets (RFC 4344 §3.1).
    fn default() -> Self {
        Self { bytes: 1 << 30, packets: 1 << 31 }
    }
}

/// Bytes that may wait for a key exchange to finish, unless configured otherwise: 4 MiB.
pub const MAX_QUEUE: usize = 4 << 20;

/// Why a host key or its certificate can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostKeyUnusable {
    /// Encrypted, or of another algorithm.
    #[error("the host key must be an unencrypted ed25519 key")]
    NotEd25519,
    /// Private and public half don't belong together.
    #[error("the host key's halves do not match")]
    Inconsistent,
    /// Not of type host.
    #[error("the host certificate is not of type host")]
    NotHostCertificate,
    /// Certifies another key.
    #[error("the host certificate is for another key")]
    OtherKey,
    /// Can't be put into bytes.
    #[error("the host key or certificate cannot be encoded")]
    Unencodable,
}

/// A server's side, shared by its connections.
pub struct ServerConfig {
    pub(crate) key: Ed25519KeyPair,
    pub(crate) key_blob: Vec<u8>,
    pub(crate) certificate_blob: Option<Vec<u8>>,
    /// What is offered.
    pub algorithms: Algorithms,
    /// When keys are renewed.
    pub rekey_after: RekeyAfter,
    /// Bytes that may wait for a key exchange.
    pub max_queue: usize,
}

impl ServerConfig {
    /// A server that holds this key, and presents this certificate to clients that take certificates.
    pub fn new(host_key: &PrivateKey, host_certificate: Option<&Certificate>) -> Result<Self, HostKeyUnusable> {
        let KeypairData::Ed25519(pair) = host_key.key_data() else { return Err(HostKeyUnusable::NotEd25519) };
        let key = Ed25519KeyPair::from_seed_and_public_key(pair.private.as_ref(), pair.public.as_ref())
            .map_err(|_| HostKeyUnusable::Inconsistent)?;
        debug_assert_eq!(key.public_key().as_ref(), pair.public.as_ref());
        let key_blob = host_key.public_key().to_bytes().map_err(|_| HostKeyUnusable::Unencodable)?;
        let certificate_blob = match host_certificate {
            Some(certificate) => {
                if certificate.cert_type() != CertType::Host {
                    return Err(HostKeyUnusable::NotHostCertificate);
                }
                if certificate.public_key() != host_key.public_key().key_data() {
                    return Err(HostKeyUnusable::OtherKey);
                }
                Some(certificate.to_bytes().map_err(|_| HostKeyUnusable::Unencodable)?)
            }
            None => None,
        };
        Ok(Self {
            key,
            key_blob,
            certificate_blob,
            algorithms: Algorithms::default(),
            rekey_after: RekeyAfter::default(),
            max_queue: MAX_QUEUE,
        })
    }

    pub(crate) fn host_key_algorithms(&self) -> impl Iterator<Item = HostKeyAlgorithm> {
        let certificate = self.certificate_blob.as_ref().map(|_| HostKeyAlgorithm::Ed25519Certificate);
        certificate.into_iter().chain([HostKeyAlgorithm::Ed25519])
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("certificate", &self.certificate_blob.is_some())
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

/// Decides whether a proven host key is the right one; see [`ClientConfig::new`].
pub type Verify = Box<dyn FnMut(&HostKeyOffer) -> Result<(), HostKeyRefused> + Send>;

/// A client's side of one connection.
pub struct ClientConfig {
    pub(crate) verify: Verify,
    /// Host key algorithms to ask for first: those of the pinned key, so that a server with several presents that
    /// one. The others follow.
    pub prefer_host_key_algs: Vec<HostKeyAlgorithm>,
    /// What is offered.
    pub algorithms: Algorithms,
    /// When keys are renewed.
    pub rekey_after: RekeyAfter,
    /// Bytes that may wait for a key exchange.
    pub max_queue: usize,
}

impl ClientConfig {
    /// A client that asks `verify` about the server's key. It is asked in the first key exchange, after the server
    /// has proven to hold that key; later exchanges must use the very same one. There is no default: a client that
    /// checks nothing has to say so.
    pub fn new(verify: Verify) -> Self {
        Self {
            verify,
            prefer_host_key_algs: Vec::new(),
            algorithms: Algorithms::default(),
            rekey_after: RekeyAfter::default(),
            max_queue: MAX_QUEUE,
        }
    }

    pub(crate) fn host_key_algorithms(&self) -> impl Iterator<Item = HostKeyAlgorithm> {
        let others = HostKeyAlgorithm::ALL.into_iter().filter(|it| !self.prefer_host_key_algs.contains(it));
        self.prefer_host_key_algs.iter().copied().chain(others)
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("prefer_host_key_algs", &self.prefer_host_key_algs)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}
