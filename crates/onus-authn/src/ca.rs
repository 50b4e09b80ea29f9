//! The gateway's own certificate authority: one self-signed ECDSA P-256 key that signs the gateway's server certificates
//! and subjects' short-lived client certificates. No intermediate, no revocation list: client certificates are short,
//! and a subject's standing is asked for at each use. Where the key is kept is the caller's business.

use crate::fingerprint::KeyFingerprint;
use crate::login::LoginPassed;
use crate::random::NoRandomness;
use crate::serial::Serial;
use crate::subject::SubjectName;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use zeroize::Zeroizing;

/// Clocks differ: certificates count from this long before they were issued.
pub const BACKDATED_MS: u64 = 60_000;
/// How long a new authority lasts: ten years.
pub const AUTHORITY_LIFETIME_MS: u64 = 10 * 365 * 86_400_000;
// 9999-12-31T23:59:59Z, the last moment that X.509 can write (RFC 5280, section 4.1.2.5).
const LAST_MS: u64 = 253_402_300_799_000;

/// Why the authority could not be made, read, or did not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CaFault {
    /// No key could be generated.
    #[error("no key could be generated")]
    Generate,
    /// No serial could be drawn.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The authority's key is not a P-256 private key in PEM.
    #[error("the authority's key is not a P-256 private key in PEM")]
    KeyUnreadable,
    /// The authority's certificate is not one certificate in PEM.
    #[error("the authority's certificate is not a certificate in PEM")]
    CertificateUnreadable,
    /// The certificate does not allow signing certificates.
    #[error("the authority's certificate is not an authority's")]
    NotAnAuthority,
    /// Key and certificate belong to different authorities.
    #[error("the authority's key and certificate do not belong together")]
    KeyMismatch,
    /// The authority's own name is empty, too long or not printable ASCII.
    #[error("the authority's name has 1 to 64 printable ASCII characters")]
    Name,
    /// A server certificate needs at least one name, and each must be a DNS name or an address.
    #[error("a server's names are DNS names or addresses, and there is at least one")]
    ServerNames,
    /// The lifetime is zero, or the authority ends before the certificate would begin.
    #[error("the certificate would already have expired")]
    NoLifetime,
    /// The signature library failed.
    #[error("the certificate could not be signed")]
    Sign,
}

/// The authority: its key, wiped from our copies and never printed, and its certificate.
///
/// The signature library keeps the key in memory of its own for as long as the authority lives.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    key_pem: Zeroizing<String>,
    cert_der: CertificateDer<'static>,
    not_after_ms: u64,
}

/// A subject's client certificate. Holds nothing secret: the key stays with the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate in PEM.
    pub cert_pem: String,
    /// The certificate in DER.
    pub cert_der: Vec<u8>,
    /// Whose it is.
    pub subject: SubjectName,
    /// The certified key.
    pub fingerprint: KeyFingerprint,
    /// Its serial.
    pub serial: Serial,
    /// Valid up to here, in milliseconds since the epoch.
    pub not_after_ms: u64,
}

/// A server certificate with its key.
pub struct ServerCertificate {
    /// The certificate in PEM.
    pub cert_pem: String,
    /// The certificate in DER.
    pub cert_der: Vec<u8>,
    /// The private key in PEM (PKCS #8).
    pub key_pem: Zeroizing<String>,
    /// Valid up to here, in milliseconds since the epoch.
    pub not_after_ms: u64,
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("not_after_ms", &self.not_after_ms).finish_non_exhaustive()
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority").field("not_after_ms", &self.not_after_ms).finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// Makes a new authority called `name`, valid for ten years from a minute before `now_ms`.
    pub fn generate(name: &str, now_ms: u64) -> Result<Self, CaFault> {
        let printable = name.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if name.is_empty() || name.len() > 64 || !printable {
            return Err(CaFault::Name);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| CaFault::Generate)?;
        let mut params = params(name, now_ms, now_ms.saturating_add(AUTHORITY_LIFETIME_MS), Serial::random()?);
        // It signs end entities only: a stolen client key can never become an authority below it.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = false;
        let certificate = params.self_signed(&key).map_err(|_| CaFault::Sign)?;
        // Read back what was written, so that a new authority and a loaded one are made by the same code.
        Self::from_pem(&Zeroizing::new(key.serialize_pem()), &certificate.pem())
    }

    /// Takes up an authority from its key and certificate; refuses two that don't belong together.
    pub fn from_pem(key_pem: &Zeroizing<String>, cert_pem: &str) -> Result<Self, CaFault> {
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(key_pem, &PKCS_ECDSA_P256_SHA256)
            .map_err(|_| CaFault::KeyUnreadable)?;
        let cert_der =
            CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(|_| CaFault::CertificateUnreadable)?;
        let (rest, parsed) =
            x509_parser::parse_x509_certificate(&cert_der).map_err(|_| CaFault::CertificateUnreadable)?;
        if !rest.is_empty() {
            return Err(CaFault::CertificateUnreadable);
        }
        let may_sign = parsed.key_usage().ok().flatten().is_some_and(|usage| usage.value.key_cert_sign());
        if !parsed.is_ca() || !may_sign {
            return Err(CaFault::NotAnAuthority);
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(CaFault::KeyMismatch);
        }
        let not_after_ms = millis(parsed.validity().not_after.timestamp());
        let issuer = Issuer::from_ca_cert_der(&cert_der, key).map_err(|_| CaFault::CertificateUnreadable)?;
        Ok(Self { issuer, key_pem: key_pem.clone(), cert_der, not_after_ms })
    }

    /// The private key in PEM (PKCS #8), for sealing and storing.
    pub fn key_pem(&self) -> &Zeroizing<String> {
        &self.key_pem
    }

    /// The certificate in PEM: what clients trust.
    pub fn cert_pem(&self) -> String {
        pem(&self.cert_der)
    }

    /// The certificate in DER.
    pub fn cert_der(&self) -> &[u8] {
        &self.cert_der
    }

    /// The authority ends here, in milliseconds since the epoch.
    pub fn not_after_ms(&self) -> u64 {
        self.not_after_ms
    }

    /// Issues a certificate (EKU serverAuth only) with a new key for a listener's DNS names and addresses.
    pub fn issue_server(&self, names: &[String], now_ms: u64, lifetime_ms: u64) -> Result<ServerCertificate, CaFault> {
        let not_after_ms = self.end(now_ms, lifetime_ms)?;
        let sans = names.iter().map(|name| server_name(name)).collect::<Result<Vec<_>, _>>()?;
        let first = names.first().ok_or(CaFault::ServerNames)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| CaFault::Generate)?;
        // A common name holds 64 bytes; who checks names reads the alternative names anyway (RFC 6125).
        let common_name = if first.len() <= 64 { first } else { "onus" };
        let mut params = params(common_name, now_ms, not_after_ms, Serial::random()?);
        params.subject_alt_names = sans;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(|_| CaFault::Sign)?;
        Ok(ServerCertificate {
            cert_pem: certificate.pem(),
            cert_der: certificate.der().to_vec(),
            key_pem: Zeroizing::new(key.serialize_pem()),
            not_after_ms,
        })
    }

    /// Issues the client certificate that a login earned, and consumes the proof.
    ///
    /// Common name = subject, one alternative name `onus://subject/<subject>`, EKU clientAuth only, valid from a minute
    /// before `now_ms` for `lifetime_ms`, but never beyond the authority. Of the request, only the key is taken.
    pub fn issue_client(
        &self,
        passed: LoginPassed,
        now_ms: u64,
        lifetime_ms: u64,
        serial: Serial,
    ) -> Result<ClientCertificate, CaFault> {
        let not_after_ms = self.end(now_ms, lifetime_ms)?;
        let (subject, csr) = passed.into_parts();
        let mut params = params(subject.as_str(), now_ms, not_after_ms, serial);
        let uri = subject.uri().try_into().map_err(|_| CaFault::Sign)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(csr.public_key(), &self.issuer).map_err(|_| CaFault::Sign)?;
        Ok(ClientCertificate {
            cert_pem: certificate.pem(),
            cert_der: certificate.der().to_vec(),
            subject,
            fingerprint: csr.fingerprint().clone(),
            serial,
            not_after_ms,
        })
    }

    /// The end of a certificate that begins now: whole seconds, never beyond the authority's own.
    fn end(&self, now_ms: u64, lifetime_ms: u64) -> Result<u64, CaFault> {
        let end = now_ms.saturating_add(lifetime_ms).min(self.not_after_ms);
        let end = end - end % 1000;
        if end > now_ms { Ok(end) } else { Err(CaFault::NoLifetime) }
    }
}

fn params(common_name: &str, now_ms: u64, not_after_ms: u64, serial: Serial) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let moment = |ms: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(ms.min(LAST_MS) / 1000);
    params.not_before = moment(now_ms.saturating_sub(BACKDATED_MS));
    params.not_after = moment(not_after_ms);
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.use_authority_key_identifier_extension = true;
    params
}

fn server_name(name: &str) -> Result<SanType, CaFault> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    match rustls_pki_types::DnsName::try_from(name) {
        Ok(_) => Ok(SanType::DnsName(name.try_into().map_err(|_| CaFault::ServerNames)?)),
        Err(_) => Err(CaFault::ServerNames),
    }
}

fn millis(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

/// RFC 7468, lines of 64.
fn pem(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let at = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
            let bits = at(0) << 16 | at(1) << 8 | at(2);
            for place in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
                out.push(if place <= three.len() { char::from(digit) } else { '=' });
            }
        }
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::csr::{ClientKey, VerifiedCsr};
    use crate::login::{SecondProof, Standing, StoredLogin, login};
    use std::collections::BTreeSet;

    pub(crate) const NOW: u64 = 1_790_000_000_000;

    pub(crate) fn passed(subject: &str, key: &ClientKey) -> LoginPassed {
        let stored = StoredLogin {
            subject: SubjectName::parse(subject).unwrap(),
            second: SecondProof::KeyAlone,
            enrolled_keys: BTreeSet::from([key.fingerprint()]),
            standing: Standing::Active,
        };
        login(Some(&stored), None, VerifiedCsr::from_pem(&key.csr_pem().unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn an_authority_survives_its_storage() {
        let ca = CertificateAuthority::generate("Onus gateway", NOW).unwrap();
        let again = CertificateAuthority::from_pem(ca.key_pem(), &ca.cert_pem()).unwrap();
        assert_eq!(again.cert_der(), ca.cert_der());
        assert_eq!(again.not_after_ms(), NOW + AUTHORITY_LIFETIME_MS);
        let issued =
            again.issue_client(passed("alice", &ClientKey::generate().unwrap()), NOW, 1000, Serial::random().unwrap());
        assert!(issued.is_ok());
    }

    #[test]
    fn key_and_certificate_must_belong_together_and_be_an_authoritys() {
        let (ca, other) =
            (CertificateAuthority::generate("a", NOW).unwrap(), CertificateAuthority::generate("a", NOW).unwrap());
        let read = |key: &Zeroizing<String>, cert: &str| CertificateAuthority::from_pem(key, cert).map(|_| ());
        assert_eq!(read(other.key_pem(), &ca.cert_pem()), Err(CaFault::KeyMismatch));
        assert_eq!(read(&Zeroizing::new(ca.cert_pem()), &ca.cert_pem()), Err(CaFault::KeyUnreadable));
        assert_eq!(read(ca.key_pem(), ca.key_pem()), Err(CaFault::CertificateUnreadable));
        let server = ca.issue_server(&["gw.example".to_owned()], NOW, 1_000_000).unwrap();
        assert_eq!(read(&server.key_pem, &server.cert_pem), Err(CaFault::NotAnAuthority));
        let secret = ca.key_pem().lines().nth(1).unwrap();
        assert!(!format!("{ca:?} {server:?}").contains(secret));
    }

    #[test]
    fn certificates_are_signed_by_the_authority() {
        let ca = CertificateAuthority::generate("Onus", NOW).unwrap();
        let names = ["gw.example".to_owned(), "10.0.0.1".to_owned()];
        let server = ca.issue_server(&names, NOW, 3_600_000).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&server.cert_der).unwrap();
        let (_, root) = x509_parser::parse_x509_certificate(ca.cert_der()).unwrap();
        assert_eq!(parsed.issuer(), root.subject());
        assert!(parsed.verify_signature(Some(root.public_key())).is_ok());
        let eku = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(eku.server_auth && !eku.client_auth && !eku.any);
        assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2);
        assert_eq!(millis(parsed.validity().not_before.timestamp()), NOW - BACKDATED_MS);
        assert_eq!(millis(parsed.validity().not_after.timestamp()), NOW + 3_600_000);
    }

    #[test]
    fn no_certificate_outlives_the_authority() {
        let ca = CertificateAuthority::generate("Onus", NOW).unwrap();
        let key = ClientKey::generate().unwrap();
        let serial = Serial::random().unwrap();
        let issue = |now, lifetime| ca.issue_client(passed("alice", &key), now, lifetime, serial);
        assert_eq!(issue(NOW, u64::MAX).unwrap().not_after_ms, ca.not_after_ms());
        assert_eq!(issue(ca.not_after_ms(), 1000).unwrap_err(), CaFault::NoLifetime);
        assert_eq!(issue(NOW, 0).unwrap_err(), CaFault::NoLifetime);
        assert!(CertificateAuthority::generate("Onus", u64::MAX).is_ok(), "no moment makes it panic");
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let ca = CertificateAuthority::generate("Onus", NOW).unwrap();
        for names in [vec![], vec!["".to_owned()], vec!["a b".to_owned()], vec!["ok".to_owned(), "x\0y".to_owned()]] {
            assert_eq!(ca.issue_server(&names, NOW, 1000).map(|_| ()), Err(CaFault::ServerNames), "{names:?}");
        }
        assert_eq!(CertificateAuthority::generate("a\nb", NOW).map(|_| ()), Err(CaFault::Name));
    }
}
