//! Credentials for SSH targets: per session a new key and a certificate over it that opens one login for a moment.
//!
//! There is nothing to revoke and nothing to discover: the certificate ends by itself, seconds after the gateway has
//! connected. It does not end a session that it opened (sshd checks it at login only); the gateway does that.
//!
//! The authority here is what target hosts name in `TrustedUserCAKeys`. It is not the one that subjects' certificates for
//! the gateway come from, and must not become it: then a subject could log in to a target without the gateway.

use onus_core::ids::{GrantId, SessionId, SubjectId};
use onus_core::time::{Millis, Timestamp};
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;
use ssh_key::{Algorithm, Certificate, LineEnding, PrivateKey};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// How long a certificate usually lasts: it is only needed to connect.
pub const DEFAULT_LIFETIME: Millis = Millis(60_000);
/// The longest that one may last. Who needs more than this to connect has another problem.
pub const MAX_LIFETIME: Millis = Millis(600_000);
/// Clocks differ: certificates count from this long before they were issued.
const BACKDATED: Millis = Millis(60_000);
const MAX_PRINCIPALS: usize = 16;
const MAX_PRINCIPAL_BYTES: usize = 255;
const MAX_SOURCES: usize = 16;

/// Why no certificate was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SshIssueFault {
    /// The authority's key is not an unencrypted ed25519 key in OpenSSH's format.
    #[error("the target authority's key is not an unencrypted ed25519 key in openssh's format")]
    AuthorityUnreadable,
    /// A principal that could be read as something else than one name.
    #[error("`{0}` cannot be a principal; use letters, digits and . _ - @ / : + $, not beginning with -")]
    Principal(String),
    /// None, or more than 16. A certificate without principals would be for everybody.
    #[error("a certificate has 1 to {MAX_PRINCIPALS} principals")]
    Principals,
    /// An empty list of addresses to connect from, or more than 16.
    #[error("a certificate is used from 1 to {MAX_SOURCES} addresses, or from anywhere")]
    Sources,
    /// Over before it begins, or longer than [`MAX_LIFETIME`].
    #[error("a session's certificate lasts from one second to ten minutes")]
    Lifetime,
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
    /// The signature library failed.
    #[error("the certificate could not be signed")]
    Sign,
}

/// The authority that target hosts trust: one ed25519 key, wiped when dropped and never printed.
pub struct TargetAuthority {
    key: PrivateKey,
}

impl fmt::Debug for TargetAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetAuthority").field("public", &self.public_line()).finish_non_exhaustive()
    }
}

impl TargetAuthority {
    /// Makes a new authority.
    pub fn generate() -> Result<Self, SshIssueFault> {
        Ok(Self { key: new_key()? })
    }

    /// Takes up an authority that [`TargetAuthority::to_pem`] wrote, or `ssh-keygen -t ed25519 -N ''`.
    pub fn from_pem(pem: &Zeroizing<String>) -> Result<Self, SshIssueFault> {
        let key = PrivateKey::from_openssh(pem.as_bytes()).map_err(|_| SshIssueFault::AuthorityUnreadable)?;
        if key.is_encrypted() || key.algorithm() != Algorithm::Ed25519 {
            return Err(SshIssueFault::AuthorityUnreadable);
        }
        Ok(Self { key })
    }

    /// The private key in OpenSSH's format, for sealing and storing.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, SshIssueFault> {
        self.key.to_openssh(LineEnding::LF).map_err(|_| SshIssueFault::AuthorityUnreadable)
    }

    /// `ssh-ed25519 AAAA… onus-targets`: the line for target hosts' `TrustedUserCAKeys`.
    pub fn public_line(&self) -> String {
        let mut public = self.key.public_key().clone();
        public.set_comment("onus-targets");
        // An ed25519 key always has an encoding.
        public.to_openssh().unwrap_or_default()
    }
}

/// What a certificate lets its session ask of the target. The gateway decides each request again; this is what is left
/// where it errs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permit {
    /// A terminal.
    Pty,
    /// Forwarded ports, both ways.
    PortForwarding,
    /// A forwarded agent.
    AgentForwarding,
    /// A forwarded display.
    DisplayForwarding,
}

impl Permit {
    fn extension(self) -> &'static str {
        match self {
            Self::Pty => "permit-pty",
            Self::PortForwarding => "permit-port-forwarding",
            Self::AgentForwarding => "permit-agent-forwarding",
            Self::DisplayForwarding => "permit-X11-forwarding",
        }
    }
}

/// What a session's certificate shall say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshOrder {
    /// The session that it is for.
    pub session: SessionId,
    /// Who acts in it.
    pub subject: SubjectId,
    /// The grant that it uses.
    pub grant: GrantId,
    /// The names that it may log in as, as the target knows them (login names, or lines of `AuthorizedPrincipalsFile`).
    pub principals: Vec<String>,
    /// The addresses that the target sees the gateway come from; `None` lets it be used from anywhere.
    pub sources: Option<Vec<IpAddr>>,
    /// What the session may ask for.
    pub permits: BTreeSet<Permit>,
    /// Now.
    pub now: Timestamp,
    /// For how long it may be used to connect, in whole seconds; usually [`DEFAULT_LIFETIME`].
    pub lifetime: Millis,
}

/// A key that exists for one session, and the certificate over it. For the gateway's own connection to the target; never
/// to be given to a client. The key is wiped when dropped and never printed.
pub struct SessionCertificate {
    key: PrivateKey,
    certificate: Certificate,
}

impl fmt::Debug for SessionCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCertificate")
            .field("key_id", &self.certificate.key_id())
            .field("serial", &self.certificate.serial())
            .field("principals", &self.certificate.valid_principals())
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}

impl SessionCertificate {
    /// Makes a key and certifies it.
    ///
    /// Key id `onus session=<session> subject=<subject> grant=<grant>`, which the target's log repeats; a random serial;
    /// valid from a minute before `now` for `lifetime`, rounded down to seconds; `source-address` where sources are
    /// given; and no extension that was not asked for.
    pub fn issue(authority: &TargetAuthority, order: &SshOrder) -> Result<Self, SshIssueFault> {
        if order.principals.is_empty() || order.principals.len() > MAX_PRINCIPALS {
            return Err(SshIssueFault::Principals);
        }
        if let Some(wrong) = order.principals.iter().find(|name| !is_principal(name)) {
            return Err(SshIssueFault::Principal(wrong.escape_debug().take(40).collect()));
        }
        let after = order.now.0.saturating_sub(BACKDATED.0) / 1000;
        let before = order.now.0.saturating_add(order.lifetime.0) / 1000;
        if order.lifetime > MAX_LIFETIME || before.saturating_mul(1000) <= order.now.0 {
            return Err(SshIssueFault::Lifetime);
        }
        let key = new_key()?;
        let mut builder = Builder::new(random::<32>()?.to_vec(), key.public_key(), after, before)
            .map_err(|_| SshIssueFault::Lifetime)?;
        // Zero would mean "not numbered".
        let serial = u64::from_be_bytes(*random::<8>()?).max(1);
        let SshOrder { session, subject, grant, .. } = order;
        let filled = builder
            .cert_type(CertType::User)
            .and_then(|b| b.serial(serial))
            .and_then(|b| b.key_id(format!("onus session={session} subject={subject} grant={grant}")))
            .and_then(|b| order.principals.iter().try_fold(b, |b, name| b.valid_principal(name)))
            .and_then(|b| order.permits.iter().try_fold(b, |b, permit| b.extension(permit.extension(), "")));
        filled.map_err(|_| SshIssueFault::Sign)?;
        if let Some(sources) = &order.sources {
            builder.critical_option("source-address", source_address(sources)?).map_err(|_| SshIssueFault::Sign)?;
        }
        let certificate = builder.sign(&authority.key).map_err(|_| SshIssueFault::Sign)?;
        Ok(Self { key, certificate })
    }

    /// The certificate; nothing secret.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
    /// From here on it opens nothing.
    pub fn not_after(&self) -> Timestamp {
        Timestamp(self.certificate.valid_before().saturating_mul(1000))
    }
    /// Key and certificate, for the one connection that they are for.
    pub fn into_parts(self) -> (PrivateKey, Certificate) {
        (self.key, self.certificate)
    }
}

/// One name and nothing but: some versions of sshd have read a comma as the start of another principal.
fn is_principal(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-@/:+$".contains(&b);
    !name.is_empty() && name.len() <= MAX_PRINCIPAL_BYTES && !name.starts_with('-') && name.bytes().all(allowed)
}

/// `10.0.0.1/32,2001:db8::1/128`. An IPv4 address written as IPv6 is what sshd compares as IPv4.
fn source_address(sources: &[IpAddr]) -> Result<String, SshIssueFault> {
    if sources.is_empty() || sources.len() > MAX_SOURCES {
        return Err(SshIssueFault::Sources);
    }
    let one = |address: &IpAddr| match address.to_canonical() {
        IpAddr::V4(address) => format!("{address}/32"),
        IpAddr::V6(address) => format!("{address}/128"),
    };
    Ok(sources.iter().map(one).collect::<Vec<_>>().join(","))
}

fn new_key() -> Result<PrivateKey, SshIssueFault> {
    Ok(PrivateKey::from(Ed25519Keypair::from_seed(&*random::<32>()?)))
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, SshIssueFault> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(|_| SshIssueFault::NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
