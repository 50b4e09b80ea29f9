//! A certificate request (PKCS #10, RFC 2986), at both ends: the client makes a key that never leaves it, the gateway
//! takes from the request the public key and nothing else. Names and extensions that a request asks for are ignored.

use crate::fingerprint::KeyFingerprint;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKey,
    PublicKeyData, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

/// The longest request that is read, in bytes. One of ours has about 250.
const MAX_REQUEST_BYTES: usize = 16 * 1024;

/// Why a key could not be made or read on the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientKeyFault {
    /// The signature library could not make a key.
    #[error("no key could be generated")]
    Generate,
    /// The key file is not a P-256 private key in PEM.
    #[error("the key is not a P-256 private key in PEM")]
    Unreadable,
    /// The request could not be signed.
    #[error("the certificate request could not be signed")]
    Sign,
}

/// Why a request proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CsrRefused {
    /// Not one certificate request, in PEM or DER.
    #[error("this is not a certificate request")]
    Malformed,
    /// Longer than a request can be.
    #[error("the certificate request is longer than {MAX_REQUEST_BYTES} bytes")]
    TooLong,
    /// Not signed by the key that it is about: whoever sent it need not hold that key.
    #[error("the certificate request is not signed by its own key")]
    NotSigned,
    /// Another kind of key.
    #[error("the certificate request's key is not a P-256 key")]
    KeyKind,
}

/// A client's private key, ECDSA P-256. The key stays on the client; only [`ClientKey::csr_pem`] is sent.
pub struct ClientKey(KeyPair);

impl ClientKey {
    /// Generates a key.
    pub fn generate() -> Result<Self, ClientKeyFault> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(|_| ClientKeyFault::Generate)
    }

    /// Reads a key that [`ClientKey::key_pem`] wrote.
    pub fn from_pem(key_pem: &Zeroizing<String>) -> Result<Self, ClientKeyFault> {
        KeyPair::from_pkcs8_pem_and_sign_algo(key_pem, &PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(|_| ClientKeyFault::Unreadable)
    }

    /// The private key in PEM (PKCS #8), to be kept in a file that only its owner can read.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// A request over this key, in PEM. It names nobody: the gateway decides whose key it is.
    pub fn csr_pem(&self) -> Result<String, ClientKeyFault> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "onus");
        params.serialize_request(&self.0).and_then(|csr| csr.pem()).map_err(|_| ClientKeyFault::Sign)
    }

    /// The public key's fingerprint.
    pub fn fingerprint(&self) -> KeyFingerprint {
        KeyFingerprint::of_spki(&self.0.subject_public_key_info())
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientKey({}, …)", self.fingerprint())
    }
}

/// A public key whose holder signed a request: proof of possession, and of nothing else. A request can be replayed, so
/// it proves that the key's holder once made it; the certificate that comes of it is of use only to that holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCsr {
    public_key: PublicKey,
    fingerprint: KeyFingerprint,
}

impl VerifiedCsr {
    /// Reads a request in PEM and verifies its signature.
    pub fn from_pem(pem: &str) -> Result<Self, CsrRefused> {
        if pem.len() > MAX_REQUEST_BYTES {
            return Err(CsrRefused::TooLong);
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| CsrRefused::Malformed)?;
        Self::from_der(&der)
    }

    /// Reads a request in DER and verifies its signature.
    pub fn from_der(der: &[u8]) -> Result<Self, CsrRefused> {
        if der.len() > MAX_REQUEST_BYTES {
            return Err(CsrRefused::TooLong);
        }
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| CsrRefused::Malformed)?;
        if !rest.is_empty() {
            return Err(CsrRefused::Malformed);
        }
        // The kind of key is read from the key itself: the signature's algorithm says only how the request was signed,
        // and a P-384 point labelled P-256 must not be certified.
        let spki = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
            .map_err(|_| CsrRefused::KeyKind)?;
        let uncompressed_point = spki.der_bytes().len() == 65 && spki.der_bytes()[0] == 4;
        if *PublicKeyData::algorithm(&spki) != PKCS_ECDSA_P256_SHA256 || !uncompressed_point {
            return Err(CsrRefused::KeyKind);
        }
        let verified = CertificateSigningRequestParams::from_der(&der.into()).map_err(|error| match error {
            rcgen::Error::InvalidCertificationRequestSignature => CsrRefused::NotSigned,
            _ => CsrRefused::Malformed,
        })?;
        let public_key = verified.public_key;
        if *PublicKey::algorithm(&public_key) != PKCS_ECDSA_P256_SHA256 || public_key.der_bytes() != spki.der_bytes() {
            return Err(CsrRefused::KeyKind);
        }
        let fingerprint = KeyFingerprint::of_spki(&public_key.subject_public_key_info());
        Ok(Self { public_key, fingerprint })
    }

    /// The key's fingerprint.
    pub fn fingerprint(&self) -> &KeyFingerprint {
        &self.fingerprint
    }

    pub(crate) fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_carries_the_clients_key_and_proves_its_possession() {
        let key = ClientKey::generate().unwrap();
        let csr = VerifiedCsr::from_pem(&key.csr_pem().unwrap()).unwrap();
        assert_eq!(*csr.fingerprint(), key.fingerprint());
        let read_back = ClientKey::from_pem(&key.key_pem()).unwrap();
        assert_eq!(read_back.fingerprint(), key.fingerprint());
        assert!(!key.csr_pem().unwrap().contains("PRIVATE"));
        let secret = key.key_pem();
        assert!(!format!("{key:?}").contains(secret.lines().nth(1).unwrap()));
    }

    #[test]
    fn a_request_for_someone_elses_key_is_refused() {
        let pem = ClientKey::generate().unwrap().csr_pem().unwrap();
        let mine = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
        let theirs = ClientKey::generate().unwrap().0;
        // Their public key put into my request, my signature left on it.
        let point = KeyPair::public_key_raw(&theirs).to_vec();
        let at = mine.windows(2).position(|w| w == [0, 4]).map(|at| at + 1).unwrap();
        let mut forged = mine.clone();
        forged[at..at + 65].copy_from_slice(&point);
        assert_eq!(VerifiedCsr::from_der(&forged), Err(CsrRefused::NotSigned));
        let own = VerifiedCsr::from_der(&mine).unwrap().fingerprint().clone();
        for byte in 0..mine.len() {
            let mut flipped = mine.clone();
            flipped[byte] ^= 1;
            // Outside the signed part a reader may be lenient; no change may ever yield another key.
            let read = VerifiedCsr::from_der(&flipped).map(|csr| csr.fingerprint().clone());
            assert!(read.is_err() || read == Ok(own.clone()), "byte {byte}");
            assert!(read.is_err() || byte >= at + 65, "byte {byte} is signed");
        }
        let mut longer = mine.clone();
        longer.push(0);
        assert_eq!(VerifiedCsr::from_der(&longer), Err(CsrRefused::Malformed));
    }

    #[test]
    fn other_keys_and_other_texts_are_refused() {
        for kind in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let key = KeyPair::generate_for(kind).unwrap();
            let csr = CertificateParams::default().serialize_request(&key).unwrap();
            assert_eq!(VerifiedCsr::from_der(csr.der()), Err(CsrRefused::KeyKind));
        }
        let key = ClientKey::generate().unwrap();
        assert_eq!(VerifiedCsr::from_pem(""), Err(CsrRefused::Malformed));
        assert_eq!(VerifiedCsr::from_pem(&key.key_pem()), Err(CsrRefused::Malformed));
        assert_eq!(VerifiedCsr::from_pem(&"x".repeat(20_000)), Err(CsrRefused::TooLong));
    }
}
