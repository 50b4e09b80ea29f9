//! The closed lists of algorithms: what can be agreed on, by which name. Nothing weak is in them, so nothing weak can
//! be configured.
//!
//! When adding one: its name here, its work in `key_exchange.rs`, `seal.rs` or `host_key.rs`, and a line in the tests
//! against OpenSSH.

/// A key exchange method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kex {
    /// `mlkem768x25519-sha256`: ML-KEM-768 and X25519, secure if either is (draft-ietf-sshm-mlkem-hybrid-kex).
    MlKem768X25519,
    /// `curve25519-sha256` (RFC 8731).
    Curve25519,
    /// `curve25519-sha256@libssh.org`: the same by its older name.
    Curve25519Libssh,
}

impl Kex {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::MlKem768X25519, Self::Curve25519, Self::Curve25519Libssh];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::MlKem768X25519 => "mlkem768x25519-sha256",
            Self::Curve25519 => "curve25519-sha256",
            Self::Curve25519Libssh => "curve25519-sha256@libssh.org",
        }
    }
}

/// A cipher; all of them are AEADs, so that there is never a separate MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// `aes128-gcm@openssh.com` (RFC 5647 as OpenSSH negotiates it).
    Aes128Gcm,
    /// `aes256-gcm@openssh.com`
    Aes256Gcm,
    /// `chacha20-poly1305@openssh.com`; only with strict key exchange.
    ChaCha20Poly1305,
}

impl Cipher {
    /// All of them, the fastest on today's servers first.
    pub const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes128-gcm@openssh.com",
            Self::Aes256Gcm => "aes256-gcm@openssh.com",
            Self::ChaCha20Poly1305 => "chacha20-poly1305@openssh.com",
        }
    }
}

/// How a server proves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKeyAlgorithm {
    /// `ssh-ed25519-cert-v01@openssh.com`
    Ed25519Certificate,
    /// `ecdsa-sha2-nistp256-cert-v01@openssh.com`
    EcdsaP256Certificate,
    /// `ecdsa-sha2-nistp384-cert-v01@openssh.com`
    EcdsaP384Certificate,
    /// `ecdsa-sha2-nistp521-cert-v01@openssh.com`
    EcdsaP521Certificate,
    /// `rsa-sha2-512-cert-v01@openssh.com`
    RsaSha512Certificate,
    /// `rsa-sha2-256-cert-v01@openssh.com`
    RsaSha256Certificate,
    /// `ssh-ed25519`
    Ed25519,
    /// `ecdsa-sha2-nistp256`
    EcdsaP256,
    /// `ecdsa-sha2-nistp384`
    EcdsaP384,
    /// `ecdsa-sha2-nistp521`
    EcdsaP521,
    /// `rsa-sha2-512`
    RsaSha512,
    /// `rsa-sha2-256`
    RsaSha256,
}

impl HostKeyAlgorithm {
    /// All of them in a client's order: certificates first, as OpenSSH does.
    pub const ALL: [Self; 12] = [
        Self::Ed25519Certificate,
        Self::EcdsaP256Certificate,
        Self::EcdsaP384Certificate,
        Self::EcdsaP521Certificate,
        Self::RsaSha512Certificate,
        Self::RsaSha256Certificate,
        Self::Ed25519,
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::EcdsaP521,
        Self::RsaSha512,
        Self::RsaSha256,
    ];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519Certificate => "ssh-ed25519-cert-v01@openssh.com",
            Self::EcdsaP256Certificate => "ecdsa-sha2-nistp256-cert-v01@openssh.com",
            Self::EcdsaP384Certificate => "ecdsa-sha2-nistp384-cert-v01@openssh.com",
            Self::EcdsaP521Certificate => "ecdsa-sha2-nistp521-cert-v01@openssh.com",
            Self::RsaSha512Certificate => "rsa-sha2-512-cert-v01@openssh.com",
            Self::RsaSha256Certificate => "rsa-sha2-256-cert-v01@openssh.com",
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::EcdsaP521 => "ecdsa-sha2-nistp521",
            Self::RsaSha512 => "rsa-sha2-512",
            Self::RsaSha256 => "rsa-sha2-256",
        }
    }

    /// Whether the server presents a certificate with it.
    pub fn is_certificate(self) -> bool {
        self.signature_algorithm() != self
    }

    /// The plain algorithm whose name its signatures carry.
    pub fn signature_algorithm(self) -> Self {
        match self {
            Self::Ed25519Certificate | Self::Ed25519 => Self::Ed25519,
            Self::EcdsaP256Certificate | Self::EcdsaP256 => Self::EcdsaP256,
            Self::EcdsaP384Certificate | Self::EcdsaP384 => Self::EcdsaP384,
            Self::EcdsaP521Certificate | Self::EcdsaP521 => Self::EcdsaP521,
            Self::RsaSha512Certificate | Self::RsaSha512 => Self::RsaSha512,
            Self::RsaSha256Certificate | Self::RsaSha256 => Self::RsaSha256,
        }
    }

    /// The type that stands in the key's or certificate's own blob: it differs for RSA, where one key signs with
    /// either hash.
    pub fn blob_type(self) -> &'static str {
        match self {
            Self::RsaSha512 | Self::RsaSha256 => "ssh-rsa",
            Self::RsaSha512Certificate | Self::RsaSha256Certificate => "ssh-rsa-cert-v01@openssh.com",
            other => other.name(),
        }
    }
}

/// Which methods and ciphers a side offers, in its order of preference. The client's order decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithms {
    /// Key exchange methods.
    pub kex: Vec<Kex>,
    /// Ciphers, for both directions.
    pub ciphers: Vec<Cipher>,
}

impl Default for Algorithms {
    fn default() -> Self {
        Self { kex: Kex::ALL.to_vec(), ciphers: Cipher::ALL.to_vec() }
    }
}

/// The outcome of the latest negotiation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The key exchange method.
    pub kex: Kex,
    /// How the server proved itself.
    pub host_key: HostKeyAlgorithm,
    /// The cipher from client to server.
    pub client_to_server: Cipher,
    /// The cipher from server to client.
    pub server_to_client: Cipher,
    /// Whether key exchange is strict (OpenSSH PROTOCOL §1.9).
    pub strict: bool,
    /// The peer's identification line, without its line end.
    pub peer_version: String,
}
