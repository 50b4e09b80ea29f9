//! Keys and certificates as they are offered in authentication, and the names of their algorithms.
//!
//! Reading a certificate proves nothing: whoever accepts it must check its authority, its time and its names.

use super::wire::{Malformed, Reader};
use ssh_key::public::KeyData;
use ssh_key::{Certificate, PublicKey};

/// The longest key or certificate that is read, in bytes. A certificate over an RSA key of 8192 bits, signed by another,
/// has about 4 KiB.
pub const MAX_KEY_BLOB_BYTES: usize = 16 * 1024;
/// Below this, an RSA key counts as broken; the same bound as the cryptographic library's.
const MIN_RSA_BITS: usize = 2048;
const MAX_RSA_BITS: usize = 8192;

/// Why an offered key is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// Not one key or certificate in its one encoding.
    #[error("the key cannot be read")]
    Malformed,
    /// Longer than [`MAX_KEY_BLOB_BYTES`].
    #[error("the key is longer than {MAX_KEY_BLOB_BYTES} bytes")]
    TooLong,
    /// Of a kind that is not accepted here, or certified by such a key.
    #[error("keys of this kind are not accepted")]
    Kind,
    /// An RSA key that is too short to be safe, or too long to be sensible.
    #[error("an rsa key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")]
    Size,
}

/// What a client offers to prove itself with: a key, or a certificate over a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfferedKey {
    /// A bare key. Whether it is enrolled is not known here.
    Plain(PublicKey),
    /// A certificate. **Neither its signature nor its validity, type or names have been checked.**
    Certificate(Box<Certificate>),
}

impl OfferedKey {
    /// Reads the key blob of an authentication request (RFC 4253, section 6.6; OpenSSH's PROTOCOL.certkeys).
    ///
    /// Only ed25519, ECDSA, RSA of 2048 to 8192 bits and the security keys `sk-ssh-ed25519` and `sk-ecdsa-p256`, and only
    /// the encoding that would be written again, so that equal keys have equal blobs.
    pub fn parse(blob: &[u8]) -> Result<Self, KeyRefused> {
        if blob.len() > MAX_KEY_BLOB_BYTES {
            return Err(KeyRefused::TooLong);
        }
        let kind = Reader::new(blob).text().map_err(|Malformed| KeyRefused::Malformed)?;
        let algorithm = Algorithm::of_blob(kind).ok_or(KeyRefused::Kind)?;
        let (offered, again) = if algorithm.certificate {
            walk_certificate(blob)?;
            let certificate = Certificate::from_bytes(blob).map_err(|_| KeyRefused::Malformed)?;
            let again = certificate.to_bytes();
            (Self::Certificate(Box::new(certificate)), again)
        } else {
            let key = PublicKey::from_bytes(blob).map_err(|_| KeyRefused::Malformed)?;
            let again = key.to_bytes();
            (Self::Plain(key), again)
        };
        if again.map_err(|_| KeyRefused::Malformed)? != blob {
            return Err(KeyRefused::Malformed);
        }
        check(offered.key_data())?;
        Ok(offered)
    }

    /// The key that signs: of a certificate, the certified one.
    pub fn key_data(&self) -> &KeyData {
        match self {
            Self::Plain(key) => key.key_data(),
            Self::Certificate(certificate) => certificate.public_key(),
        }
    }

    /// The certificate, if that is what was offered.
    pub fn certificate(&self) -> Option<&Certificate> {
        match self {
            Self::Plain(_) => None,
            Self::Certificate(certificate) => Some(certificate),
        }
    }
}

/// One public key algorithm of authentication. When adding one: signature.rs must be able to verify it, and the transport
/// must name it in `server-sig-algs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Algorithm {
    /// Its name in a request.
    pub(super) name: &'static str,
    /// The name that the key blob begins with.
    pub(super) blob: &'static str,
    /// The name that the signature begins with.
    pub(super) signature: &'static str,
    pub(super) certificate: bool,
}

const fn plain(name: &'static str, blob: &'static str) -> Algorithm {
    Algorithm { name, blob, signature: name, certificate: false }
}

const fn certified(name: &'static str, blob: &'static str, signature: &'static str) -> Algorithm {
    Algorithm { name, blob, signature, certificate: true }
}

// No `ssh-rsa` and no `ssh-rsa-cert-v01@openssh.com` as a request's algorithm: they mean SHA-1 (RFC 8332).
const ALGORITHMS: [Algorithm; 16] = [
    plain("ssh-ed25519", "ssh-ed25519"),
    plain("sk-ssh-ed25519@openssh.com", "sk-ssh-ed25519@openssh.com"),
    plain("sk-ecdsa-sha2-nistp256@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"),
    plain("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
    plain("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"),
    plain("ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521"),
    plain("rsa-sha2-512", "ssh-rsa"),
    plain("rsa-sha2-256", "ssh-rsa"),
    certified("ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519"),
    certified(
        "sk-ssh-ed25519-cert-v01@openssh.com",
        "sk-ssh-ed25519-cert-v01@openssh.com",
        "sk-ssh-ed25519@openssh.com",
    ),
    certified(
        "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    ),
    certified(
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "ecdsa-sha2-nistp256",
    ),
    certified(
        "ecdsa-sha2-nistp384-cert-v01@openssh.com",
        "ecdsa-sha2-nistp384-cert-v01@openssh.com",
        "ecdsa-sha2-nistp384",
    ),
    certified(
        "ecdsa-sha2-nistp521-cert-v01@openssh.com",
        "ecdsa-sha2-nistp521-cert-v01@openssh.com",
        "ecdsa-sha2-nistp521",
    ),
    certified("rsa-sha2-512-cert-v01@openssh.com", "ssh-rsa-cert-v01@openssh.com", "rsa-sha2-512"),
    certified("rsa-sha2-256-cert-v01@openssh.com", "ssh-rsa-cert-v01@openssh.com", "rsa-sha2-256"),
];

impl Algorithm {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        ALGORITHMS.iter().find(|algorithm| algorithm.name == name)
    }
    /// Any one that goes with a blob beginning with this name.
    pub(super) fn of_blob(kind: &str) -> Option<&'static Self> {
        ALGORITHMS.iter().find(|algorithm| algorithm.blob == kind)
    }
    /// The one for a key, given the name that its signature shall have.
    pub(super) fn signing(signature: &str, certificate: bool) -> Option<&'static Self> {
        ALGORITHMS.iter().find(|algorithm| algorithm.signature == signature && algorithm.certificate == certificate)
    }
    /// Whether such signatures come from a FIDO authenticator.
    pub(super) fn is_security_key(&self) -> bool {
        self.signature.starts_with("sk-")
    }
}

/// Walks over a certificate before the parser sees it. A certificate's authority must be a plain key; the parser would
/// follow a certificate inside a certificate, one call deeper each time, as far as the bytes go.
fn walk_certificate(blob: &[u8]) -> Result<(), KeyRefused> {
    let mut reader = Reader::new(blob);
    let authority = certificate_authority(&mut reader).map_err(|Malformed| KeyRefused::Malformed)?;
    reader.end().map_err(|Malformed| KeyRefused::Malformed)?;
    let kind = Reader::new(authority).text().map_err(|Malformed| KeyRefused::Malformed)?;
    match Algorithm::of_blob(kind) {
        Some(algorithm) if !algorithm.certificate => Ok(()),
        _ => Err(KeyRefused::Kind),
    }
}

fn certificate_authority<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let kind = reader.text()?;
    reader.string()?; // nonce
    let key_fields = match kind {
        "ssh-ed25519-cert-v01@openssh.com" => 1,
        "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com" => 3,
        _ => 2,
    };
    for _ in 0..key_fields {
        reader.string()?;
    }
    reader.skip(8 + 4)?; // serial, type
    reader.string()?; // key id
    reader.string()?; // principals
    reader.skip(8 + 8)?; // validity
    reader.string()?; // critical options
    reader.string()?; // extensions
    reader.string()?; // reserved
    let authority = reader.string()?;
    reader.string()?; // signature
    Ok(authority)
}

fn check(key: &KeyData) -> Result<(), KeyRefused> {
    let application = match key {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) => return Ok(()),
        KeyData::Rsa(rsa) => {
            let bytes = rsa.n().as_positive_bytes().ok_or(KeyRefused::Malformed)?;
            let unused = bytes.first().map_or(0, |first| first.leading_zeros() as usize);
            let bits = bytes.len() * 8 - unused;
            return if (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) { Ok(()) } else { Err(KeyRefused::Size) };
        }
        KeyData::SkEd25519(key) => key.application(),
        KeyData::SkEcdsaSha2NistP256(key) => key.application(),
        _ => return Err(KeyRefused::Kind),
    };
    // An authenticator also signs for web sites. Their applications are origins; SSH's begin like this (PROTOCOL.u2f).
    if application.starts_with("ssh:") { Ok(()) } else { Err(KeyRefused::Kind) }
}
