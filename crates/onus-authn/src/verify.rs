//! From a client certificate to the subject that it stands for.
//!
//! CONTRACT for TLS (SSH's is in [`crate::ssh`]): this reads a certificate; it does not verify its signature or chain. The TLS layer must have done that, with
//! the gateway's own authority as the only trusted root, and must have seen the handshake signature by the
//! certificate's key. That is why the constructor is called [`VerifiedSubject::from_tls_verified`]. It does not
//! ask whether the subject is in good standing either.

use crate::fingerprint::KeyFingerprint;
use crate::serial::Serial;
use crate::ssh::{self, SshCertificateRefused};
use crate::subject::{SUBJECT_URI, SubjectName};
use ssh_key::{Certificate, PublicKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// Why a certificate, though verified by TLS, stands for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefused {
    /// Not one X.509 certificate.
    #[error("the client certificate cannot be read")]
    Malformed,
    /// Its time has not come.
    #[error("the client certificate is not valid yet; check this machine's clock")]
    NotYetValid,
    /// Its time is over.
    #[error("the client certificate has expired; log in again")]
    Expired,
    /// Made for something other than a client, or for more than that.
    #[error("the certificate is not a client's")]
    Purpose,
    /// Not exactly one subject, or not the same in both places.
    #[error("the client certificate names no subject")]
    Subject,
    /// Not a serial that this authority gives.
    #[error("the client certificate's serial is not one of ours")]
    Serial,
}

/// Who is at the other end of a TLS or SSH connection, as its client certificate proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSubject {
    subject: SubjectName,
    fingerprint: KeyFingerprint,
    not_after_ms: u64,
    serial: Serial,
}

impl VerifiedSubject {
    /// Reads the end-entity certificate (DER) of a client that the TLS layer has already verified against the gateway's
    /// authority; see the contract above. Checks purpose, time and name again: whatever else that root may have
    /// signed, only a client certificate of ours gets through.
    pub fn from_tls_verified(der: &[u8], now_ms: u64) -> Result<Self, CertificateRefused> {
        use CertificateRefused as Refused;
        let (rest, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| Refused::Malformed)?;
        if !rest.is_empty() {
            return Err(Refused::Malformed);
        }
        let eku = certificate.extended_key_usage().map_err(|_| Refused::Malformed)?.ok_or(Refused::Purpose)?.value;
        let more = eku.any
            || eku.server_auth
            || eku.code_signing
            || eku.email_protection
            || eku.time_stamping
            || eku.ocsp_signing
            || !eku.other.is_empty();
        if !eku.client_auth || more || certificate.is_ca() {
            return Err(Refused::Purpose);
        }
        let validity = certificate.validity();
        let not_before_ms = millis(validity.not_before.timestamp());
        let not_after_ms = millis(validity.not_after.timestamp());
        if now_ms < not_before_ms {
            return Err(Refused::NotYetValid);
        }
        if now_ms >= not_after_ms {
            return Err(Refused::Expired);
        }
        Ok(Self {
            subject: subject(&certificate).ok_or(Refused::Subject)?,
            fingerprint: KeyFingerprint::of_spki(certificate.public_key().raw),
            not_after_ms,
            serial: Serial::from_certificate(certificate.raw_serial()).ok_or(Refused::Serial)?,
        })
    }

    /// Checks an SSH user certificate: signed by `authority` (the gateway's SSH authority, ed25519), of type user, valid at
    /// `now_ms`, with exactly one principal that is a subject's name and the key id that goes with it, and with no critical
    /// option but `verify-required`.
    ///
    /// The peer must have proven to hold the certified key, by SSH's authentication protocol; that is not visible here.
    /// The fingerprint is [`KeyFingerprint::of_ssh`], the serial [`ssh::SshSerial::as_serial`].
    pub fn from_ssh_certificate(
        authority: &PublicKey,
        certificate: &Certificate,
        now_ms: u64,
    ) -> Result<Self, SshCertificateRefused> {
        let ssh::Read { subject, fingerprint, not_after_ms, serial } = ssh::read(authority, certificate, now_ms)?;
        Ok(Self { subject, fingerprint, not_after_ms, serial: serial.as_serial() })
    }

    /// The subject.
    pub fn subject(&self) -> &SubjectName {
        &self.subject
    }
    /// The fingerprint of the key that the client proved to hold.
    pub fn fingerprint(&self) -> &KeyFingerprint {
        &self.fingerprint
    }
    /// The proof ends here, in milliseconds since the epoch; a session must not go on beyond it unrenewed.
    pub fn not_after_ms(&self) -> u64 {
        self.not_after_ms
    }
    /// The certificate's serial.
    pub fn serial(&self) -> Serial {
        self.serial
    }
}

/// The one subject that the certificate names: one URI, and the common name says the same.
fn subject(certificate: &X509Certificate<'_>) -> Option<SubjectName> {
    let names = certificate.subject_alternative_name().ok()??;
    let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else { return None };
    let subject = SubjectName::parse(uri.strip_prefix(SUBJECT_URI)?).ok()?;
    let mut common_names = certificate.subject().iter_common_name();
    let common_name = common_names.next()?.as_str().ok()?;
    (common_names.next().is_none() && common_name == subject.as_str()).then_some(subject)
}

fn millis(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::CertificateAuthority;
    use crate::ca::tests::{NOW, passed};
    use crate::csr::ClientKey;
    use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose as Eku, KeyPair, SanType};

    #[test]
    fn a_certificate_says_who_with_which_key_until_when() {
        let ca = CertificateAuthority::generate("Onus", NOW).unwrap();
        let key = ClientKey::generate().unwrap();
        let serial = Serial::random().unwrap();
        let issued = ca.issue_client(passed("team/alice", &key), NOW, 600_000, serial).unwrap();
        let verified = VerifiedSubject::from_tls_verified(&issued.cert_der, NOW).unwrap();
        assert_eq!(verified.subject().as_str(), "team/alice");
        assert_eq!(verified.fingerprint(), &key.fingerprint());
        assert_eq!((verified.not_after_ms(), verified.serial()), (NOW + 600_000, serial));
        let at = |now| VerifiedSubject::from_tls_verified(&issued.cert_der, now).map(|_| ());
        assert_eq!(at(NOW - 60_001), Err(CertificateRefused::NotYetValid));
        assert_eq!(at(NOW - 60_000), Ok(()));
        assert_eq!(at(NOW + 599_999), Ok(()));
        assert_eq!(at(NOW + 600_000), Err(CertificateRefused::Expired));
    }

    #[test]
    fn the_gateways_own_certificates_are_nobodys() {
        let ca = CertificateAuthority::generate("Onus", NOW).unwrap();
        let server = ca.issue_server(&["gw.example".to_owned()], NOW, 600_000).unwrap();
        let read = |der: &[u8]| VerifiedSubject::from_tls_verified(der, NOW);
        assert_eq!(read(&server.cert_der), Err(CertificateRefused::Purpose));
        assert_eq!(read(ca.cert_der()), Err(CertificateRefused::Purpose));
        assert_eq!(read(b""), Err(CertificateRefused::Malformed));
    }

    #[test]
    fn what_the_same_root_might_have_signed_otherwise_is_refused() {
        type Change = fn(&mut CertificateParams);
        let made = |change: Change| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "alice");
            params.subject_alt_names = vec![uri("onus://subject/alice")];
            params.extended_key_usages = vec![Eku::ClientAuth];
            params.serial_number = Some(Serial::from_random([9; 16]).as_bytes().to_vec().into());
            change(&mut params);
            let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
            VerifiedSubject::from_tls_verified(&der, NOW).map(|v| v.subject().to_string())
        };
        assert_eq!(made(|_| ()).as_deref(), Ok("alice"), "the unchanged one is good");
        let cases: [(Change, CertificateRefused); 9] = [
            (|p| p.extended_key_usages = vec![], CertificateRefused::Purpose),
            (|p| p.extended_key_usages = vec![Eku::Any], CertificateRefused::Purpose),
            (|p| p.extended_key_usages.push(Eku::ServerAuth), CertificateRefused::Purpose),
            (|p| p.subject_alt_names = vec![], CertificateRefused::Subject),
            (|p| p.subject_alt_names.push(uri("onus://subject/bob")), CertificateRefused::Subject),
            (|p| p.subject_alt_names = vec![uri("onus://subject/bob")], CertificateRefused::Subject),
            (|p| p.subject_alt_names = vec![uri("spiffe://x/alice")], CertificateRefused::Subject),
            (
                |p| p.subject_alt_names = vec![SanType::DnsName("alice".try_into().unwrap())],
                CertificateRefused::Subject,
            ),
            (|p| p.serial_number = Some(vec![1].into()), CertificateRefused::Serial),
        ];
        for (at, (change, refused)) in cases.into_iter().enumerate() {
            assert_eq!(made(change), Err(refused), "case {at}");
        }
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }
}
