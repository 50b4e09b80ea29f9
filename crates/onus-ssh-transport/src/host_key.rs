//! The server's proof: signing an exchange hash, and checking such a signature.
//!
//! Whether a key is the *right* one is not decided here: a client's verifier does that, and is only asked once the
//! signature has been found good. A certificate's own signature, validity and names are the verifier's to check too.

use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, Ed25519KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};
use ssh_key::public::{EcdsaPublicKey, KeyData};
use ssh_key::{Certificate, PublicKey};

use crate::algorithm::HostKeyAlgorithm;
use crate::error::TransportError;
use crate::wire::{Reader, Short, put_string};

/// What a server proved to hold, for a verifier to accept or refuse.
#[derive(Debug, Clone)]
pub struct HostKeyOffer {
    /// The negotiated algorithm.
    pub algorithm: HostKeyAlgorithm,
    /// The key, or the certificate over it.
    pub key: OfferedHostKey,
}

/// A plain key or a certificate.
#[derive(Debug, Clone)]
pub enum OfferedHostKey {
    /// A plain key.
    Plain(Box<PublicKey>),
    /// A certificate. Nothing of it was checked but that the server holds the key it certifies: its type, signature,
    /// validity, options and names remain to be checked.
    Certificate(Box<Certificate>),
}

impl HostKeyOffer {
    /// The key that the server holds, whether plain or certified.
    pub fn key_data(&self) -> &KeyData {
        match &self.key {
            OfferedHostKey::Plain(key) => key.key_data(),
            OfferedHostKey::Certificate(certificate) => certificate.public_key(),
        }
    }
}

/// A verifier's no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server's host key is refused: {reason}")]
pub struct HostKeyRefused {
    /// Why, in words for people.
    pub reason: String,
}

/// Signs an exchange hash: `string "ssh-ed25519" || string signature` (RFC 8709 §6).
pub fn sign(key: &Ed25519KeyPair, hash: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + 11 + 4 + 64);
    put_string(&mut out, HostKeyAlgorithm::Ed25519.name().as_bytes());
    put_string(&mut out, key.sign(hash).as_ref());
    out
}

/// Reads the server's key and checks its signature over `hash`.
pub fn verify(
    algorithm: HostKeyAlgorithm,
    blob: &[u8],
    signature: &[u8],
    hash: &[u8],
) -> Result<HostKeyOffer, TransportError> {
    let offer = read(algorithm, blob)?;
    let (name, signature) = read_signature(signature).map_err(|Short| TransportError::SignatureInvalid)?;
    // Exactly the negotiated one: a server may not sign with another hash than was agreed on.
    if name != algorithm.signature_algorithm().name().as_bytes() {
        return Err(TransportError::SignatureInvalid);
    }
    check(algorithm.signature_algorithm(), offer.key_data(), signature, hash)?;
    Ok(offer)
}

fn read(algorithm: HostKeyAlgorithm, blob: &[u8]) -> Result<HostKeyOffer, TransportError> {
    let malformed = |_| TransportError::HostKeyMalformed;
    let blob_type = Reader::new(blob).string().map_err(|Short| TransportError::HostKeyMalformed)?;
    if blob_type != algorithm.blob_type().as_bytes() {
        return Err(TransportError::HostKeyMalformed);
    }
    let key = if algorithm.is_certificate() {
        OfferedHostKey::Certificate(Box::new(Certificate::from_bytes(blob).map_err(malformed)?))
    } else {
        OfferedHostKey::Plain(Box::new(PublicKey::from_bytes(blob).map_err(malformed)?))
    };
    Ok(HostKeyOffer { algorithm, key })
}

fn read_signature(signature: &[u8]) -> Result<(&[u8], &[u8]), Short> {
    let mut reader = Reader::new(signature);
    let (name, value) = (reader.string()?, reader.string()?);
    reader.end()?;
    Ok((name, value))
}

fn check(algorithm: HostKeyAlgorithm, key: &KeyData, signature: &[u8], message: &[u8]) -> Result<(), TransportError> {
    let plain = |verifier: &'static dyn VerificationAlgorithm, key: &[u8], signature: &[u8]| {
        UnparsedPublicKey::new(verifier, key).verify(message, signature).map_err(|_| TransportError::SignatureInvalid)
    };
    match (algorithm, key) {
        (HostKeyAlgorithm::Ed25519, KeyData::Ed25519(key)) => plain(&signature::ED25519, key.as_ref(), signature),
        (HostKeyAlgorithm::EcdsaP256, KeyData::Ecdsa(EcdsaPublicKey::NistP256(point))) => {
            plain(&ECDSA_P256_SHA256_FIXED, point.as_bytes(), &fixed::<32>(signature)?)
        }
        (HostKeyAlgorithm::EcdsaP384, KeyData::Ecdsa(EcdsaPublicKey::NistP384(point))) => {
            plain(&ECDSA_P384_SHA384_FIXED, point.as_bytes(), &fixed::<48>(signature)?)
        }
        (HostKeyAlgorithm::EcdsaP521, KeyData::Ecdsa(EcdsaPublicKey::NistP521(point))) => {
            plain(&ECDSA_P521_SHA512_FIXED, point.as_bytes(), &fixed::<66>(signature)?)
        }
        (HostKeyAlgorithm::RsaSha512 | HostKeyAlgorithm::RsaSha256, KeyData::Rsa(key)) => {
            let verifier = if algorithm == HostKeyAlgorithm::RsaSha512 {
                &RSA_PKCS1_2048_8192_SHA512
            } else {
                &RSA_PKCS1_2048_8192_SHA256
            };
            let number =
                |n: &ssh_key::Mpint| n.as_positive_bytes().map(<[u8]>::to_vec).ok_or(TransportError::HostKeyMalformed);
            RsaPublicKeyComponents { n: number(key.n())?, e: number(key.e())? }
                .verify(verifier, message, signature)
                .map_err(|_| TransportError::SignatureInvalid)
        }
        _ => Err(TransportError::HostKeyMalformed),
    }
}

/// ECDSA's `mpint r || mpint s` (RFC 5656 §3.1.2) as two numbers of `N` bytes.
fn fixed<const N: usize>(signature: &[u8]) -> Result<Vec<u8>, TransportError> {
    let mut reader = Reader::new(signature);
    let mut read = || -> Result<Vec<u8>, Short> {
        let mut out = Vec::with_capacity(2 * N);
        for _number in 0..2 {
            let magnitude = reader.magnitude()?;
            let zeros = N.checked_sub(magnitude.len()).ok_or(Short)?;
            out.extend(std::iter::repeat_n(0, zeros));
            out.extend_from_slice(magnitude);
        }
        reader.end()?;
        Ok(out)
    };
    read().map_err(|Short| TransportError::SignatureInvalid)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

    use super::*;

    const HASH: [u8; 32] = [5; 32];

    fn strings(parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in parts {
            put_string(&mut out, part);
        }
        out
    }

    fn ed25519() -> (Ed25519KeyPair, Vec<u8>) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap();
        let blob = strings(&[b"ssh-ed25519", pair.public_key().as_ref()]);
        (pair, blob)
    }

    fn outcome(algorithm: HostKeyAlgorithm, blob: &[u8], signature: &[u8], hash: &[u8]) -> Result<(), TransportError> {
        verify(algorithm, blob, signature, hash).map(|_| ())
    }

    #[test]
    fn only_this_keys_signature_over_this_hash_by_this_name_counts() {
        let (pair, blob) = ed25519();
        let algorithm = HostKeyAlgorithm::Ed25519;
        let good = sign(&pair, &HASH);
        assert_eq!(outcome(algorithm, &blob, &good, &HASH), Ok(()));
        let invalid = Err(TransportError::SignatureInvalid);
        assert_eq!(outcome(algorithm, &blob, &good, &[6; 32]), invalid);
        let other = sign(&Ed25519KeyPair::from_seed_unchecked(&[4; 32]).unwrap(), &HASH);
        assert_eq!(outcome(algorithm, &blob, &other, &HASH), invalid);
        let renamed = strings(&[b"ssh-ed25518", pair.sign(&HASH).as_ref()]);
        assert_eq!(outcome(algorithm, &blob, &renamed, &HASH), invalid);
        assert_eq!(outcome(algorithm, &blob, &[good.as_slice(), &[0]].concat(), &HASH), invalid);
        for end in 0..good.len() {
            assert_eq!(outcome(algorithm, &blob, &good[..end], &HASH), invalid);
        }
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 1;
            assert_eq!(outcome(algorithm, &blob, &flipped, &HASH), invalid, "{at}");
        }
    }

    #[test]
    fn a_key_of_another_type_or_with_something_behind_it_is_malformed() {
        let (pair, blob) = ed25519();
        let good = sign(&pair, &HASH);
        let malformed = Err(TransportError::HostKeyMalformed);
        for algorithm in HostKeyAlgorithm::ALL {
            if algorithm != HostKeyAlgorithm::Ed25519 {
                assert_eq!(outcome(algorithm, &blob, &good, &HASH), malformed, "{algorithm:?}");
            }
        }
        assert_eq!(outcome(HostKeyAlgorithm::Ed25519, &[blob.as_slice(), &[0]].concat(), &good, &HASH), malformed);
        for end in 0..blob.len() {
            assert_eq!(outcome(HostKeyAlgorithm::Ed25519, &blob[..end], &good, &HASH), malformed);
        }
    }

    #[test]
    fn ecdsa_numbers_are_padded_and_bounded() {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let blob = strings(&[b"ecdsa-sha2-nistp256", b"nistp256", pair.public_key().as_ref()]);
        let number = |bytes: &[u8]| {
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let sign: &[u8] = if bytes.get(zeros).is_some_and(|byte| byte & 0x80 != 0) { &[0] } else { &[] };
            strings(&[&[sign, &bytes[zeros..]].concat()])
        };
        let named = |numbers: &[u8]| strings(&[b"ecdsa-sha2-nistp256", numbers]);
        let algorithm = HostKeyAlgorithm::EcdsaP256;
        // Enough to meet numbers that are shorter than 32 bytes.
        for _ in 0..600 {
            let signature = pair.sign(&random, &HASH).unwrap();
            let (r, s) = signature.as_ref().split_at(32);
            let good = named(&[number(r), number(s)].concat());
            assert_eq!(outcome(algorithm, &blob, &good, &HASH), Ok(()));
        }
        let invalid = Err(TransportError::SignatureInvalid);
        let zero = named(&strings(&[&[], &[]]));
        assert_eq!(outcome(algorithm, &blob, &zero, &HASH), invalid);
        let long = named(&strings(&[&[1; 33], &[1; 32]]));
        assert_eq!(outcome(algorithm, &blob, &long, &HASH), invalid);
        let negative = named(&strings(&[&[0x80; 32], &[1; 32]]));
        assert_eq!(outcome(algorithm, &blob, &negative, &HASH), invalid);
    }
}
