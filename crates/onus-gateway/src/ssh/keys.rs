//! The gateway's SSH keys: three authorities and a host key, made at the first start and sealed in the vault.
//!
//! They are apart on purpose. Hosts trust only the *session* authority, whose certificates never leave the gateway: a
//! login certificate, which people hold, opens nothing but the gateway's own door.

use crate::control::now;
use crate::gateway::Gateway;
use crate::vault::{Vault, VaultError};
use onus_authn::fingerprint::KeyFingerprint;
use onus_authn::ssh::{SshCa, SshCaFault, SshSerial};
use onus_authn::subject::SubjectName;
use onus_issue::ssh_certificate::{SshIssueFault, TargetAuthority};
use onus_ssh_transport::{HostKeyUnusable, ServerConfig};
use ssh_key::{PrivateKey, PublicKey};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The vault's kind.
const KIND: &str = "ssh-authority";

/// How long the host certificate lasts: ten years. It is made anew with each start.
const HOST_LIFETIME_MS: u64 = 10 * 365 * 86_400_000;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum SshKeysError {
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// An authority.
    #[error(transparent)]
    Authority(#[from] SshCaFault),
    /// The authority that hosts trust.
    #[error(transparent)]
    Target(#[from] SshIssueFault),
    /// What is in the vault is no key.
    #[error("the vault's `{0}` is not an ssh key")]
    Malformed(&'static str),
    /// The host key.
    #[error(transparent)]
    Host(#[from] HostKeyUnusable),
    /// The key to be certified.
    #[error("this is not an OpenSSH public key")]
    PublicKey,
    /// The name to be certified.
    #[error("this subject has no name that a certificate can carry")]
    Subject,
}

/// The keys.
pub struct SshKeys {
    /// Certifies people's keys, for the gateway's own door.
    pub login: SshCa,
    /// Certifies the gateway's host key.
    pub host: SshCa,
    /// Certifies sessions' keys, for the hosts.
    pub session: TargetAuthority,
    /// The door's side of every connection.
    pub server: Arc<ServerConfig>,
}

impl SshKeys {
    /// Takes them from the vault, making what isn't there. Blocks on the store.
    ///
    /// # Errors
    /// When the vault can't be read or written, or holds something else.
    pub fn open(vault: &Vault, names: &[String]) -> Result<Self, SshKeysError> {
        let key = host_key(vault)?;
        let host = authority(vault, "host")?;
        // A certificate needs a name that clients can compare; without one the bare key is shown.
        let certificate = host.issue_host(key.public_key(), names, now().0, HOST_LIFETIME_MS);
        if let Err(fault) = &certificate {
            tracing::warn!(%fault, "the gateway's SSH door has no host certificate");
        }
        let server = ServerConfig::new(&key, certificate.ok().as_ref())?;
        Ok(Self {
            login: authority(vault, "login")?,
            host,
            session: session_authority(vault)?,
            server: Arc::new(server),
        })
    }
}

fn stored(vault: &Vault, name: &'static str) -> Result<Option<Zeroizing<String>>, SshKeysError> {
    let Some(bytes) = vault.fetch(KIND, name)? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).map_err(|_| SshKeysError::Malformed(name))?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}

fn authority(vault: &Vault, name: &'static str) -> Result<SshCa, SshKeysError> {
    if let Some(pem) = stored(vault, name)? {
        return Ok(SshCa::from_pem(&pem)?);
    }
    let made = SshCa::generate()?;
    vault.put(KIND, name, made.to_pem()?.as_bytes())?;
    Ok(made)
}

fn session_authority(vault: &Vault) -> Result<TargetAuthority, SshKeysError> {
    const NAME: &str = "session";
    if let Some(pem) = stored(vault, NAME)? {
        return Ok(TargetAuthority::from_pem(&pem)?);
    }
    let made = TargetAuthority::generate()?;
    vault.put(KIND, NAME, made.to_pem()?.as_bytes())?;
    Ok(made)
}

fn host_key(vault: &Vault) -> Result<PrivateKey, SshKeysError> {
    const NAME: &str = "host-key";
    // An authority's key is an ed25519 key like any other; it certifies nothing here.
    let pem = match stored(vault, NAME)? {
        Some(pem) => pem,
        None => {
            let pem = SshCa::generate()?.to_pem()?;
            vault.put(KIND, NAME, pem.as_bytes())?;
            pem
        }
    };
    PrivateKey::from_openssh(pem.as_bytes()).map_err(|_| SshKeysError::Malformed(NAME))
}

impl Gateway {
    /// Certifies a public key for the gateway's SSH door, on the word of an enrolled key: the certificate names it, and
    /// is worth nothing once that key is no longer enrolled. It lasts no longer than the login on whose word it is.
    ///
    /// # Errors
    /// When the key is no OpenSSH public key of a kind that is taken, or can't be certified.
    pub fn ssh_login_certificate(
        &self,
        subject: &SubjectName,
        public_key: &str,
        voucher: &KeyFingerprint,
        until_ms: u64,
    ) -> Result<String, SshKeysError> {
        let key = PublicKey::from_openssh(public_key).map_err(|_| SshKeysError::PublicKey)?;
        let serial = SshSerial::random().map_err(SshCaFault::from)?;
        let lifetime = self.settings.certificate_lifetime.0.min(until_ms.saturating_sub(now().0));
        let certificate = self.ssh.login.issue_user(subject, &key, voucher, now().0, lifetime, serial)?;
        certificate.to_openssh().map_err(|_| SshKeysError::PublicKey)
    }

    /// The public line of the authority that certifies the gateway's host key.
    pub fn ssh_host_ca_line(&self) -> String {
        self.ssh.host.public_line()
    }

    /// The public line of the authority that hosts are to trust (`TrustedUserCAKeys`).
    pub fn ssh_session_ca_line(&self) -> String {
        self.ssh.session.public_line()
    }
}

/// A standing private key as the vault keeps it.
pub(crate) fn private_key(text: &[u8]) -> Option<PrivateKey> {
    PrivateKey::from_openssh(text).ok().filter(|key| !key.is_encrypted())
}
