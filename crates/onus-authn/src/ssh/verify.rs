//! From an SSH user certificate to the subject that it stands for.
//!
//! CONTRACT: unlike its TLS counterpart this verifies the authority's signature itself. What it can't see is whether the
//! peer holds the certified key: the authentication protocol must have verified a signature by that key over the
//! connection's session id, and for a security key that somebody was present (and, with `verify-required`, known). It does
//! not ask whether the subject is in good standing either.

use super::{ENROLLED_KEY, SUBJECT_KEY_ID, SshSerial};
use crate::fingerprint::KeyFingerprint;
use crate::subject::SubjectName;
use crate::verify::VerifiedSubject;
use ssh_key::certificate::CertType;
use ssh_key::public::KeyData;
use ssh_key::{Certificate, PublicKey};

/// The one critical option that may stand in a user certificate: the authentication protocol enforces it. All others
/// (`force-command`, `source-address`) would have to be enforced by somebody who doesn't.
const VERIFY_REQUIRED: &str = "verify-required";

/// Why an SSH certificate stands for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SshCertificateRefused {
    /// Another authority signed it, or nobody did.
    #[error("the ssh certificate was not issued by this gateway; run `onus login`")]
    Authority,
    /// A host's certificate, or of no known type.
    #[error("the ssh certificate is not a user's")]
    Purpose,
    /// Its time has not come.
    #[error("the ssh certificate is not valid yet; check this machine's clock")]
    NotYetValid,
    /// Its time is over.
    #[error("the ssh certificate has expired; run `onus login`")]
    Expired,
    /// Not exactly one subject, or not the same in both places.
    #[error("the ssh certificate names no subject")]
    Subject,
    /// It restricts its use in a way that is not enforced here.
    #[error("the ssh certificate has a restriction that this gateway cannot enforce")]
    CriticalOption,
    /// It does not say which enrolled key vouched for it.
    #[error("the ssh certificate names no enrolled key; run `onus login`")]
    Voucher,
    /// It has no serial.
    #[error("the ssh certificate has no serial")]
    Serial,
}

/// Who a user certificate stands for; see the contract above. `authority` is the gateway's own, an ed25519 key.
pub fn verify_user(
    authority: &PublicKey,
    certificate: &Certificate,
    now_ms: u64,
) -> Result<VerifiedSubject, SshCertificateRefused> {
    VerifiedSubject::from_ssh_certificate(authority, certificate, now_ms)
}

/// What a certificate says, after all of it has been checked.
pub(crate) struct Read {
    pub(crate) subject: SubjectName,
    pub(crate) fingerprint: KeyFingerprint,
    pub(crate) not_after_ms: u64,
    pub(crate) serial: SshSerial,
}

pub(crate) fn read(
    authority: &PublicKey,
    certificate: &Certificate,
    now_ms: u64,
) -> Result<Read, SshCertificateRefused> {
    use SshCertificateRefused as Refused;
    let ours =
        matches!(authority.key_data(), KeyData::Ed25519(_)) && certificate.signature_key() == authority.key_data();
    // Signature first: nothing that an authority didn't say is looked at.
    if !ours || certificate.verify_signature().is_err() {
        return Err(Refused::Authority);
    }
    if certificate.cert_type() != CertType::User {
        return Err(Refused::Purpose);
    }
    if now_ms < certificate.valid_after().saturating_mul(1000) {
        return Err(Refused::NotYetValid);
    }
    let not_after_ms = certificate.valid_before().saturating_mul(1000);
    if now_ms >= not_after_ms {
        return Err(Refused::Expired);
    }
    if certificate.critical_options().keys().any(|name| name != VERIFY_REQUIRED) {
        return Err(Refused::CriticalOption);
    }
    let [principal] = certificate.valid_principals() else { return Err(Refused::Subject) };
    let subject = SubjectName::parse(principal).map_err(|_| Refused::Subject)?;
    if certificate.key_id().strip_prefix(SUBJECT_KEY_ID) != Some(subject.as_str()) {
        return Err(Refused::Subject);
    }
    // Who vouched for the key, which may be another key: it is the enrolled one that counts.
    let voucher = certificate.extensions().get(ENROLLED_KEY).ok_or(Refused::Voucher)?;
    let fingerprint = KeyFingerprint::parse(voucher).map_err(|_| Refused::Voucher)?;
    Ok(Read {
        subject,
        fingerprint,
        not_after_ms,
        serial: SshSerial::new(certificate.serial()).ok_or(Refused::Serial)?,
    })
}
