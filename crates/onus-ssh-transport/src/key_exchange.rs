//! From public values to keys: both methods' shared secrets, the exchange hash and the derivation of keys.
//!
//! `curve25519-sha256` is RFC 8731. `mlkem768x25519-sha256` is draft-ietf-sshm-mlkem-hybrid-kex: the client sends an
//! ML-KEM-768 encapsulation key followed by an X25519 public key, the server a ciphertext followed by its X25519
//! public key, and the secret is SHA-256 over both secrets, in that order, encoded as a `string`. Signatures are made
//! and checked elsewhere.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::algorithm::Kex;
use crate::error::TransportError;

/// The length of an X25519 public value.
const X25519_LENGTH: usize = 32;
/// The length of an ML-KEM-768 encapsulation key (FIPS 203).
const ENCAPSULATION_KEY_LENGTH: usize = 1184;
/// The length of an ML-KEM-768 ciphertext (FIPS 203).
const CIPHERTEXT_LENGTH: usize = 1088;

/// An exchange hash: SHA-256 with every method there is.
pub type Hash = [u8; 32];

/// The shared secret as it goes into hashes: an encoded `mpint` or `string`, depending on the method.
pub type Secret = Zeroizing<Vec<u8>>;

/// What the client keeps to itself until the server's answer.
pub struct ClientHalf {
    curve: PrivateKey,
    kem: Option<DecapsulationKey>,
}

/// Makes the client's half: what it keeps, and the public value it sends.
pub fn client_half(kex: Kex) -> Result<(ClientHalf, Vec<u8>), TransportError> {
    let curve = PrivateKey::generate(&X25519).map_err(|_| TransportError::Crypto)?;
    let mut public = Vec::with_capacity(ENCAPSULATION_KEY_LENGTH + X25519_LENGTH);
    let kem = match kex {
        Kex::MlKem768X25519 => {
            let kem = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| TransportError::Crypto)?;
            let key = kem.encapsulation_key().map_err(|_| TransportError::Crypto)?;
            public.extend_from_slice(key.key_bytes().map_err(|_| TransportError::Crypto)?.as_ref());
            Some(kem)
        }
        Kex::Curve25519 | Kex::Curve25519Libssh => None,
    };
    public.extend_from_slice(curve.compute_public_key().map_err(|_| TransportError::Crypto)?.as_ref());
    Ok((ClientHalf { curve, kem }, public))
}

/// Answers a client's public value: the server's own, and the secret.
pub fn server_answer(kex: Kex, client: &[u8]) -> Result<(Vec<u8>, Secret), TransportError> {
    let curve = PrivateKey::generate(&X25519).map_err(|_| TransportError::Crypto)?;
    let curve_public = curve.compute_public_key().map_err(|_| TransportError::Crypto)?;
    match kex {
        Kex::MlKem768X25519 => {
            if client.len() != ENCAPSULATION_KEY_LENGTH + X25519_LENGTH {
                return Err(TransportError::BadExchangeValue);
            }
            let (key, client_curve) = client.split_at(ENCAPSULATION_KEY_LENGTH);
            let key = EncapsulationKey::new(&ML_KEM_768, key).map_err(|_| TransportError::BadExchangeValue)?;
            let (ciphertext, kem_secret) = key.encapsulate().map_err(|_| TransportError::BadExchangeValue)?;
            let secret = agree(&curve, client_curve, |shared| hybrid(kem_secret.as_ref(), shared))?;
            Ok(([ciphertext.as_ref(), curve_public.as_ref()].concat(), secret))
        }
        Kex::Curve25519 | Kex::Curve25519Libssh => Ok((curve_public.as_ref().to_vec(), agree(&curve, client, mpint)?)),
    }
}

impl ClientHalf {
    /// The secret, from the server's public value.
    pub fn finish(self, server: &[u8]) -> Result<Secret, TransportError> {
        match self.kem {
            Some(kem) => {
                if server.len() != CIPHERTEXT_LENGTH + X25519_LENGTH {
                    return Err(TransportError::BadExchangeValue);
                }
                let (ciphertext, server_curve) = server.split_at(CIPHERTEXT_LENGTH);
                let kem_secret =
                    kem.decapsulate(Ciphertext::from(ciphertext)).map_err(|_| TransportError::BadExchangeValue)?;
                agree(&self.curve, server_curve, |shared| hybrid(kem_secret.as_ref(), shared))
            }
            None => agree(&self.curve, server, mpint),
        }
    }
}

/// X25519. A public value of small order, whose result is all zeros, is refused (RFC 8731 §3).
fn agree(ours: &PrivateKey, theirs: &[u8], encode: impl FnOnce(&[u8]) -> Secret) -> Result<Secret, TransportError> {
    if theirs.len() != X25519_LENGTH {
        return Err(TransportError::BadExchangeValue);
    }
    let theirs = UnparsedPublicKey::new(&X25519, theirs);
    agreement::agree(ours, theirs, TransportError::BadExchangeValue, |shared| {
        if bool::from(shared.ct_eq(&[0; X25519_LENGTH])) {
            return Err(TransportError::BadExchangeValue);
        }
        Ok(encode(shared))
    })
}

fn hybrid(kem: &[u8], curve: &[u8]) -> Secret {
    let mut context = digest::Context::new(&SHA256);
    context.update(kem);
    context.update(curve);
    let hash = context.finish();
    let mut out = Zeroizing::new(Vec::with_capacity(4 + 32));
    out.extend_from_slice(&32_u32.to_be_bytes());
    out.extend_from_slice(hash.as_ref());
    out
}

fn mpint(shared: &[u8]) -> Secret {
    let zeros = shared.iter().take_while(|byte| **byte == 0).count();
    let magnitude = &shared[zeros..];
    let sign = usize::from(magnitude.first().is_some_and(|first| first & 0x80 != 0));
    let mut out = Zeroizing::new(Vec::with_capacity(4 + 1 + shared.len()));
    out.extend_from_slice(&((magnitude.len() + sign) as u32).to_be_bytes());
    out.extend_from_slice(&[0][..sign]);
    out.extend_from_slice(magnitude);
    out
}

/// Everything both sides have seen, in the order in which it is hashed (RFC 5656 §4).
pub struct Transcript<'a> {
    /// The client's identification line.
    pub client_version: &'a str,
    /// The server's identification line.
    pub server_version: &'a str,
    /// The client's KEXINIT payload.
    pub client_kex_init: &'a [u8],
    /// The server's KEXINIT payload.
    pub server_kex_init: &'a [u8],
    /// The server's key or certificate.
    pub host_key: &'a [u8],
    /// The client's public value.
    pub client_public: &'a [u8],
    /// The server's public value.
    pub server_public: &'a [u8],
}

impl Transcript<'_> {
    /// The exchange hash, which the server signs.
    pub fn hash(&self, secret: &Secret) -> Hash {
        let mut context = digest::Context::new(&SHA256);
        for part in [
            self.client_version.as_bytes(),
            self.server_version.as_bytes(),
            self.client_kex_init,
            self.server_kex_init,
            self.host_key,
            self.client_public,
            self.server_public,
        ] {
            context.update(&(part.len() as u32).to_be_bytes());
            context.update(part);
        }
        context.update(secret);
        array(context.finish())
    }
}

/// Derives keys (RFC 4253 §7.2).
pub struct Derivation<'a> {
    /// The shared secret of this exchange.
    pub secret: &'a Secret,
    /// The hash of this exchange.
    pub hash: &'a Hash,
    /// The hash of the connection's first exchange.
    pub session_id: &'a Hash,
}

impl Derivation<'_> {
    /// Fills `out` with the key of this letter.
    pub fn fill(&self, letter: u8, out: &mut [u8]) {
        let mut filled = 0;
        while filled < out.len() {
            let mut context = digest::Context::new(&SHA256);
            context.update(self.secret);
            context.update(self.hash);
            if filled == 0 {
                context.update(&[letter]);
                context.update(self.session_id);
            } else {
                context.update(&out[..filled]);
            }
            let block = Zeroizing::new(array(context.finish()));
            let n = block.len().min(out.len() - filled);
            out[filled..filled + n].copy_from_slice(&block[..n]);
            filled += n;
        }
    }
}

fn array(digest: digest::Digest) -> Hash {
    digest.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_come_to_the_same_secret() {
        for kex in Kex::ALL {
            let (half, public) = client_half(kex).unwrap();
            let (answer, server_secret) = server_answer(kex, &public).unwrap();
            assert_eq!(*half.finish(&answer).unwrap(), *server_secret);
        }
    }

    #[test]
    fn a_changed_ciphertext_gives_another_secret() {
        let (half, public) = client_half(Kex::MlKem768X25519).unwrap();
        let (mut answer, server_secret) = server_answer(Kex::MlKem768X25519, &public).unwrap();
        answer[100] ^= 1;
        assert_ne!(*half.finish(&answer).unwrap(), *server_secret);
    }

    #[test]
    fn values_of_small_order_or_wrong_length_are_refused() {
        let mut one = [0; 32];
        one[0] = 1;
        for point in [[0; 32], one] {
            assert_eq!(server_answer(Kex::Curve25519, &point).err(), Some(TransportError::BadExchangeValue));
            let (half, _) = client_half(Kex::Curve25519).unwrap();
            assert_eq!(half.finish(&point).err(), Some(TransportError::BadExchangeValue));
            let (_, mut public) = client_half(Kex::MlKem768X25519).unwrap();
            public[ENCAPSULATION_KEY_LENGTH..].copy_from_slice(&point);
            assert_eq!(server_answer(Kex::MlKem768X25519, &public).err(), Some(TransportError::BadExchangeValue));
        }
        for kex in Kex::ALL {
            for length in [0, 31, 33, 1215, 1217] {
                assert_eq!(server_answer(kex, &vec![9; length]).err(), Some(TransportError::BadExchangeValue));
                let (half, _) = client_half(kex).unwrap();
                assert_eq!(half.finish(&vec![9; length]).err(), Some(TransportError::BadExchangeValue));
            }
        }
    }

    #[test]
    fn an_encapsulation_key_out_of_range_is_refused() {
        // Coefficients of 4095 exceed q = 3329 (FIPS 203 §7.2's modulus check).
        let (_, mut public) = client_half(Kex::MlKem768X25519).unwrap();
        public[..3].copy_from_slice(&[0xff; 3]);
        assert_eq!(server_answer(Kex::MlKem768X25519, &public).err(), Some(TransportError::BadExchangeValue));
    }

    #[test]
    fn numbers_are_encoded_as_numbers() {
        assert_eq!(*mpint(&[0, 0, 1]), [0, 0, 0, 1, 1]);
        assert_eq!(*mpint(&[0x80, 1]), [0, 0, 0, 3, 0, 0x80, 1]);
    }

    #[test]
    fn the_hybrid_secret_is_a_string_of_both_hashed_the_kem_first() {
        // SHA-256 of 32 bytes of 1 and 32 bytes of 2, computed elsewhere.
        let expected = [
            0xf8, 0x18, 0xaf, 0xd3, 0x7a, 0x6d, 0xc3, 0xbc, 0x92, 0xfb, 0x44, 0x73, 0x10, 0x11, 0x27, 0x70, 0x06, 0xdb,
            0x4e, 0xfa, 0x6e, 0x90, 0x23, 0xcd, 0x74, 0x68, 0xc0, 0x23, 0x35, 0xd2, 0x2a, 0x4d,
        ];
        assert_eq!(*hybrid(&[1; 32], &[2; 32]), [&[0, 0, 0, 32][..], &expected].concat());
    }

    #[test]
    fn longer_keys_begin_with_the_shorter_ones() {
        let secret = Zeroizing::new(vec![1; 36]);
        let derivation = Derivation { secret: &secret, hash: &[2; 32], session_id: &[3; 32] };
        let (mut short, mut long) = ([0; 16], [0; 64]);
        derivation.fill(b'C', &mut short);
        derivation.fill(b'C', &mut long);
        assert_eq!(short, long[..16]);
        assert_ne!(long[..32], long[32..]);
    }
}
