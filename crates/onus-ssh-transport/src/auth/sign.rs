//! Signs with a private key, in the form that SSH sends.

use super::key::Algorithm;
use super::wire::put_string;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPairComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
    RsaPublicKeyComponents,
};
use ssh_key::encoding::Uint;
use ssh_key::private::{EcdsaKeypair, KeypairData, RsaKeypair};
use ssh_key::{Mpint, PrivateKey};
use zeroize::Zeroizing;

/// The key is inconsistent, or of a kind that can't sign this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CannotSign;

/// Gives `string algorithm, string signature`.
pub(super) fn sign(key: &PrivateKey, algorithm: &Algorithm, message: &[u8]) -> Result<Vec<u8>, CannotSign> {
    let bytes = match (key.key_data(), algorithm.signature) {
        (KeypairData::Ed25519(key), "ssh-ed25519") => {
            let seed: &[u8; 32] = key.private.as_ref();
            let pair = Ed25519KeyPair::from_seed_and_public_key(seed, key.public.as_ref()).map_err(|_| CannotSign)?;
            pair.sign(message).as_ref().to_vec()
        }
        (KeypairData::Ecdsa(key), name) if name.strip_prefix("ecdsa-sha2-") == Some(key.curve().as_str()) => {
            match key {
                EcdsaKeypair::NistP256 { public, private } => {
                    ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, public.as_bytes(), private.as_ref(), message)?
                }
                EcdsaKeypair::NistP384 { public, private } => {
                    ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, public.as_bytes(), private.as_ref(), message)?
                }
                EcdsaKeypair::NistP521 { public, private } => {
                    ecdsa(&ECDSA_P521_SHA512_FIXED_SIGNING, public.as_bytes(), private.as_ref(), message)?
                }
            }
        }
        (KeypairData::Rsa(key), "rsa-sha2-512") => rsa(key, &RSA_PKCS1_SHA512, message)?,
        (KeypairData::Rsa(key), "rsa-sha2-256") => rsa(key, &RSA_PKCS1_SHA256, message)?,
        _ => return Err(CannotSign),
    };
    let mut out = Vec::new();
    put_string(&mut out, algorithm.signature.as_bytes());
    put_string(&mut out, &bytes);
    Ok(out)
}

/// `mpint r, mpint s` (RFC 5656, section 3.1.2).
fn ecdsa(
    algorithm: &'static EcdsaSigningAlgorithm,
    public: &[u8],
    private: &[u8],
    message: &[u8],
) -> Result<Vec<u8>, CannotSign> {
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, private, public).map_err(|_| CannotSign)?;
    let fixed = pair.sign(&SystemRandom::new(), message).map_err(|_| CannotSign)?;
    let (r, s) = fixed.as_ref().split_at(fixed.as_ref().len() / 2);
    let mut out = Vec::new();
    put_positive(&mut out, r);
    put_positive(&mut out, s);
    Ok(out)
}

/// A number of fixed length as an `mpint`.
pub(super) fn put_positive(out: &mut Vec<u8>, bytes: &[u8]) {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let mut number = bytes[zeros..].to_vec();
    if number.first().is_some_and(|first| first & 0x80 != 0) {
        number.insert(0, 0);
    }
    put_string(out, &number);
}

fn rsa(key: &RsaKeypair, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Result<Vec<u8>, CannotSign> {
    let (public, private) = (key.public(), key.private());
    let components = KeyPairComponents::<&[u8], &[u8]> {
        public_key: RsaPublicKeyComponents { n: positive(public.n())?, e: positive(public.e())? },
        d: positive(private.d())?,
        p: positive(private.p())?,
        q: positive(private.q())?,
        // SSH's key format leaves these two out.
        dP: &exponent(private.d(), private.p())?,
        dQ: &exponent(private.d(), private.q())?,
        qInv: positive(private.iqmp())?,
    };
    let pair = RsaKeyPair::from_components(&components).map_err(|_| CannotSign)?;
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), message, &mut signature).map_err(|_| CannotSign)?;
    Ok(signature)
}

fn positive(number: &Mpint) -> Result<&[u8], CannotSign> {
    number.as_positive_bytes().ok_or(CannotSign)
}

/// `d mod (prime - 1)`, in constant time. That the prime is one is checked where the key is put together.
fn exponent(d: &Mpint, prime: &Mpint) -> Result<Zeroizing<Vec<u8>>, CannotSign> {
    let mut below = Zeroizing::new(positive(prime)?.to_vec());
    *below.last_mut().ok_or(CannotSign)? &= 0xfe; // a prime of this size is odd
    let below = Zeroizing::new(Uint::from_be_slice_vartime(&below));
    let d = Zeroizing::new(Uint::from_be_slice_vartime(positive(d)?));
    let rest = Zeroizing::new(d.rem(below.as_nz_vartime().ok_or(CannotSign)?));
    Ok(Zeroizing::new(rest.to_be_bytes().into_vec()))
}
