//! Verifies the signature of an authentication request, for every kind of key that [`super::key`] reads.
//!
//! It says yes or why not; it does not know what was signed.

use super::key::Algorithm;
use super::wire::{Malformed, Reader};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
};
use ssh_key::EcdsaCurve;
use ssh_key::public::KeyData;

const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;

/// Why a signature does not count. The client hears none of this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureRefused {
    /// Not a signature in its one encoding.
    Malformed,
    /// Of another algorithm than the request announced.
    Algorithm,
    /// Not made by this key over this message.
    Wrong,
    /// Made by a security key that nobody touched.
    NobodyPresent,
}

impl From<Malformed> for SignatureRefused {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// What a security key said while it signed (OpenSSH's PROTOCOL.u2f). That somebody touched it is always required, so it
/// is not said again here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecurityKeyUse {
    /// The authenticator checked a PIN or a finger: it knows *who* was present.
    pub user_verified: bool,
    /// The authenticator's count of signatures; 0 where it keeps none.
    pub counter: u32,
}

/// Verifies a signature as it stands in the request: `string algorithm, string signature`, for security keys followed by
/// `byte flags, uint32 counter`.
pub(super) fn verify(
    algorithm: &Algorithm,
    key: &KeyData,
    message: &[u8],
    signature: &[u8],
) -> Result<Option<SecurityKeyUse>, SignatureRefused> {
    let mut reader = Reader::new(signature);
    if reader.text()? != algorithm.signature {
        return Err(SignatureRefused::Algorithm);
    }
    let bytes = reader.string()?;
    let device = if algorithm.is_security_key() { Some((reader.byte()?, reader.uint32()?)) } else { None };
    reader.end()?;
    let Some((flags, counter)) = device else {
        return plain(algorithm, key, message, bytes).map(|()| None);
    };
    match key {
        KeyData::SkEd25519(key) => {
            let signed = signed_by_device(key.application(), flags, counter, message);
            ed25519(key.public_key().as_ref(), &signed, bytes)?;
        }
        KeyData::SkEcdsaSha2NistP256(key) => {
            let signed = signed_by_device(key.application(), flags, counter, message);
            ecdsa(EcdsaCurve::NistP256, key.ec_point().as_bytes(), &signed, bytes)?;
        }
        _ => return Err(SignatureRefused::Algorithm),
    }
    // Asked only now: before, the flags are just what somebody wrote.
    if flags & USER_PRESENT == 0 {
        return Err(SignatureRefused::NobodyPresent);
    }
    Ok(Some(SecurityKeyUse { user_verified: flags & USER_VERIFIED != 0, counter }))
}

fn plain(algorithm: &Algorithm, key: &KeyData, message: &[u8], bytes: &[u8]) -> Result<(), SignatureRefused> {
    match (key, algorithm.signature) {
        (KeyData::Ed25519(key), "ssh-ed25519") => ed25519(key.as_ref(), message, bytes),
        (KeyData::Ecdsa(key), name) if name.strip_prefix("ecdsa-sha2-") == Some(key.curve().as_str()) => {
            ecdsa(key.curve(), key.as_sec1_bytes(), message, bytes)
        }
        (KeyData::Rsa(key), name @ ("rsa-sha2-512" | "rsa-sha2-256")) => {
            let n = key.n().as_positive_bytes().ok_or(SignatureRefused::Malformed)?;
            let e = key.e().as_positive_bytes().ok_or(SignatureRefused::Malformed)?;
            // Some clients drop leading zero bytes (RFC 4253 let them); the library wants the modulus's length.
            let mut padded = vec![0; n.len().saturating_sub(bytes.len())];
            padded.extend_from_slice(bytes);
            let parameters =
                if name == "rsa-sha2-512" { &RSA_PKCS1_2048_8192_SHA512 } else { &RSA_PKCS1_2048_8192_SHA256 };
            let components = RsaPublicKeyComponents { n, e };
            components.verify(parameters, message, &padded).map_err(|_| SignatureRefused::Wrong)
        }
        _ => Err(SignatureRefused::Algorithm),
    }
}

fn ed25519(key: &[u8], message: &[u8], bytes: &[u8]) -> Result<(), SignatureRefused> {
    UnparsedPublicKey::new(&ED25519, key).verify(message, bytes).map_err(|_| SignatureRefused::Wrong)
}

/// RFC 5656, section 3.1.2: `mpint r, mpint s`; the library takes both at full length.
fn ecdsa(curve: EcdsaCurve, point: &[u8], message: &[u8], bytes: &[u8]) -> Result<(), SignatureRefused> {
    let (algorithm, size) = match curve {
        EcdsaCurve::NistP256 => (&ECDSA_P256_SHA256_FIXED, 32),
        EcdsaCurve::NistP384 => (&ECDSA_P384_SHA384_FIXED, 48),
        EcdsaCurve::NistP521 => (&ECDSA_P521_SHA512_FIXED, 66),
    };
    let mut reader = Reader::new(bytes);
    let mut fixed = Vec::with_capacity(2 * size);
    for _ in 0..2 {
        let number = reader.positive()?;
        let zeros = size.checked_sub(number.len()).ok_or(SignatureRefused::Malformed)?;
        fixed.resize(fixed.len() + zeros, 0);
        fixed.extend_from_slice(number);
    }
    reader.end()?;
    UnparsedPublicKey::new(algorithm, point).verify(message, &fixed).map_err(|_| SignatureRefused::Wrong)
}

/// `SHA256(application) || flags || counter || SHA256(message)`.
fn signed_by_device(application: &str, flags: u8, counter: u32, message: &[u8]) -> Vec<u8> {
    let mut signed = digest(&SHA256, application.as_bytes()).as_ref().to_vec();
    signed.push(flags);
    signed.extend_from_slice(&counter.to_be_bytes());
    signed.extend_from_slice(digest(&SHA256, message).as_ref());
    signed
}
