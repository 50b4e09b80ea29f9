//! The gateway's SSH authority: one ed25519 key that signs subjects' short-lived user certificates and the gateway's host
//! certificates. There is no revocation list: user certificates are short, and standing is asked for at each use.

use super::{ENROLLED_KEY, HOST_KEY_ID, SUBJECT_KEY_ID, SshCertificateRefused, SshSerial, verify_user};
use crate::ca::BACKDATED_MS;
use crate::fingerprint::KeyFingerprint;
use crate::random::{self, NoRandomness};
use crate::subject::SubjectName;
use crate::verify::VerifiedSubject;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Certificate, LineEnding, PrivateKey, PublicKey};
use std::fmt;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// What a subject may do with a session, as far as a certificate says it. The gateway decides again at each use.
const USER_EXTENSIONS: [&str; 3] = ["permit-agent-forwarding", "permit-port-forwarding", "permit-pty"];
const MIN_RSA_BITS: usize = 2048;

/// Why the SSH authority could not be made, read, or did not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SshCaFault {
    /// Nothing random could be drawn.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The authority's key is not an unencrypted ed25519 key in OpenSSH's format.
    #[error("the ssh authority's key is not an unencrypted ed25519 key in openssh's format")]
    KeyUnreadable,
    /// The key to be certified is of a kind that is not certified, or too short.
    #[error("only ed25519, ecdsa, security keys and rsa keys of at least {MIN_RSA_BITS} bits are certified")]
    KeyKind,
    /// A host certificate needs at least one name, and each must be a DNS name or an address.
    #[error("a host's names are DNS names or addresses, and there is at least one")]
    HostNames,
    /// The lifetime ends before the certificate would begin.
    #[error("the certificate would already have expired")]
    NoLifetime,
    /// The signature library failed.
    #[error("the certificate could not be signed")]
    Sign,
}

/// The authority. Its key is wiped when dropped and never printed.
pub struct SshCa {
    key: PrivateKey,
}

impl fmt::Debug for SshCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshCa").field("public", &self.public_line()).finish_non_exhaustive()
    }
}

impl SshCa {
    /// Makes a new authority.
    pub fn generate() -> Result<Self, SshCaFault> {
        let seed = Zeroizing::new(random::bytes::<32>()?);
        Ok(Self { key: PrivateKey::from(Ed25519Keypair::from_seed(&seed)) })
    }

    /// Takes up an authority that [`SshCa::to_pem`] wrote, or `ssh-keygen -t ed25519 -N ''`.
    pub fn from_pem(pem: &Zeroizing<String>) -> Result<Self, SshCaFault> {
        let key = PrivateKey::from_openssh(pem.as_bytes()).map_err(|_| SshCaFault::KeyUnreadable)?;
        if key.is_encrypted() || key.algorithm() != Algorithm::Ed25519 {
            return Err(SshCaFault::KeyUnreadable);
        }
        Ok(Self { key })
    }

    /// The private key in OpenSSH's format, for sealing and storing.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, SshCaFault> {
        self.key.to_openssh(LineEnding::LF).map_err(|_| SshCaFault::KeyUnreadable)
    }

    /// The public key, without a comment.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from(self.key.public_key().key_data().clone())
    }

    /// `ssh-ed25519 AAAA… onus`: what clients put behind `@cert-authority *` in `known_hosts`. Not for a target host's
    /// `TrustedUserCAKeys`; see the module.
    pub fn public_line(&self) -> String {
        // An ed25519 key always has an encoding.
        self.public_key().to_openssh().map(|line| format!("{line} onus")).unwrap_or_default()
    }

    /// Certifies a subject's key, valid from a minute before `now_ms` for `lifetime_ms`, rounded down to seconds.
    ///
    /// Key id `onus:subject=<name>`, the name as the only principal, no critical options, and the extensions to have a
    /// terminal and to forward ports and agents. Security keys get nothing more: somebody must touch them.
    ///
    /// `voucher` is the enrolled key on whose word it is issued; often the certified key itself in its TLS spelling. It
    /// stands in the extension `enrolled-key@onus`, and is what the certificate's bearer is known by: once that key is
    /// no longer enrolled, the certificate opens nothing.
    ///
    /// That the subject may have a certificate is for the caller to know.
    pub fn issue_user(
        &self,
        subject: &SubjectName,
        public_key: &PublicKey,
        voucher: &KeyFingerprint,
        now_ms: u64,
        lifetime_ms: u64,
        serial: SshSerial,
    ) -> Result<Certificate, SshCaFault> {
        let mut builder = builder(public_key, now_ms, lifetime_ms)?;
        let filled = builder
            .cert_type(CertType::User)
            .and_then(|b| b.serial(serial.number()))
            .and_then(|b| b.key_id(format!("{SUBJECT_KEY_ID}{subject}")))
            .and_then(|b| b.valid_principal(subject.as_str()))
            .and_then(|b| b.extension(ENROLLED_KEY, voucher.as_str()))
            .and_then(|b| USER_EXTENSIONS.iter().try_fold(b, |b, name| b.extension(*name, "")));
        filled.map_err(|_| SshCaFault::Sign)?;
        builder.sign(&self.key).map_err(|_| SshCaFault::Sign)
    }

    /// Certifies a host key of the gateway for its DNS names and addresses, in lower case as clients compare them.
    /// The serial is random. Key id `onus:host=<first name>`.
    pub fn issue_host(
        &self,
        public_key: &PublicKey,
        names: &[String],
        now_ms: u64,
        lifetime_ms: u64,
    ) -> Result<Certificate, SshCaFault> {
        let names = names.iter().map(|name| host_name(name)).collect::<Result<Vec<_>, _>>()?;
        let first = names.first().ok_or(SshCaFault::HostNames)?;
        let mut builder = builder(public_key, now_ms, lifetime_ms)?;
        let filled = builder
            .cert_type(CertType::Host)
            .and_then(|b| b.key_id(format!("{HOST_KEY_ID}{first}")))
            .and_then(|b| names.iter().try_fold(b, |b, name| b.valid_principal(name)));
        filled.map_err(|_| SshCaFault::Sign)?;
        builder.serial(SshSerial::random()?.number()).map_err(|_| SshCaFault::Sign)?;
        builder.sign(&self.key).map_err(|_| SshCaFault::Sign)
    }

    /// Who a user certificate of this authority stands for; see [`verify_user`].
    pub fn verify_user(
        &self,
        certificate: &Certificate,
        now_ms: u64,
    ) -> Result<VerifiedSubject, SshCertificateRefused> {
        verify_user(&self.public_key(), certificate, now_ms)
    }
}

fn builder(public_key: &PublicKey, now_ms: u64, lifetime_ms: u64) -> Result<Builder, SshCaFault> {
    check(public_key.key_data())?;
    let after = now_ms.saturating_sub(BACKDATED_MS) / 1000;
    let before = now_ms.saturating_add(lifetime_ms) / 1000;
    if before.saturating_mul(1000) <= now_ms {
        return Err(SshCaFault::NoLifetime);
    }
    let nonce = random::bytes::<32>()?;
    Builder::new(nonce, public_key.key_data().clone(), after, before).map_err(|_| SshCaFault::NoLifetime)
}

fn check(key: &KeyData) -> Result<(), SshCaFault> {
    match key {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => Ok(()),
        KeyData::Rsa(rsa) => {
            let bytes = rsa.n().as_positive_bytes().unwrap_or_default();
            let unused = bytes.first().map_or(0, |first| first.leading_zeros() as usize);
            if bytes.len() * 8 - unused >= MIN_RSA_BITS { Ok(()) } else { Err(SshCaFault::KeyKind) }
        }
        _ => Err(SshCaFault::KeyKind),
    }
}

/// A name that stands for one host: no pattern, no address range.
fn host_name(name: &str) -> Result<String, SshCaFault> {
    let lower = name.to_ascii_lowercase();
    let known = lower.parse::<IpAddr>().is_ok() || rustls_pki_types::DnsName::try_from(lower.as_str()).is_ok();
    if known { Ok(lower) } else { Err(SshCaFault::HostNames) }
}
