//! Where an SSH resource is, how its key is known, and how the gateway proves itself there. Settings are parsed once, and
//! unknown ones refused.

use crate::upstream::UpstreamError;
use onus_core::estate::Resource;
use onus_core::ids::ResourceId;
use onus_core::operation::Durability;
use onus_ssh_transport::{HostKeyOffer, HostKeyRefused, OfferedHostKey};
use ssh_key::certificate::CertType;
use ssh_key::{Certificate, Fingerprint, HashAlg, PublicKey};
use std::net::IpAddr;

/// Settings of an SSH resource. When adding one, add it to `docs/estate.md`.
const SETTINGS: [&str; 10] = [
    "address",
    "host_keys",
    "host_ca",
    "credential",
    "secret",
    "login",
    "source_address",
    "record_output",
    "record_input",
    "durability",
];

/// Bytes that are recorded of a command's output where it is no terminal's.
const RECORD_OUTPUT: u64 = 256 * 1024;

/// How the gateway proves itself to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshCredential {
    /// A certificate made for the session.
    SessionCertificate,
    /// A standing private key, sealed in the vault.
    StoredKey,
    /// A standing password, sealed in the vault.
    StoredPassword,
}

/// How a host's key is known.
#[derive(Debug, Clone)]
pub enum HostKeys {
    /// These, by fingerprint.
    Pinned(Vec<Fingerprint>),
    /// Whatever this authority certifies for the host's name.
    Authority(PublicKey),
}

/// Where a session's certificate may be used from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sources {
    /// The address that the gateway itself connects from.
    Own,
    /// These: what a host sees where there is address translation in between.
    These(Vec<IpAddr>),
    /// Anywhere.
    Any,
}

/// An SSH resource.
#[derive(Debug, Clone)]
pub struct SshTarget {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How its key is known.
    pub host_keys: HostKeys,
    /// How the gateway proves itself.
    pub credential: SshCredential,
    /// The vault's name for a standing credential.
    pub secret: String,
    /// The account where the role names none.
    pub login: Option<String>,
    /// The addresses that a session's certificate may be used from.
    pub sources: Sources,
    /// Bytes recorded of a command's output where it is no terminal's.
    pub record_output: u64,
    /// Whether echoed input is recorded.
    pub record_input: bool,
    /// The least that a journal record must reach before what it records is relayed.
    pub durability: Durability,
}

impl SshTarget {
    /// Reads a resource's settings.
    ///
    /// # Errors
    /// The first setting that is unknown, missing or wrong.
    pub fn parse(id: &ResourceId, resource: &Resource) -> Result<Self, UpstreamError> {
        let wrong = |setting: &str, text: String| UpstreamError::Setting {
            resource: id.clone(),
            setting: setting.to_owned(),
            text,
        };
        if let Some(unknown) = resource.settings.keys().find(|key| !SETTINGS.contains(&key.as_str())) {
            return Err(wrong(unknown, format!("not a setting of ssh; there is {}", SETTINGS.join(", "))));
        }
        let many = |name: &str| resource.settings.get(name).cloned().unwrap_or_default();
        let one = |name: &str| match many(name).as_slice() {
            [] => Ok(None),
            [value] => Ok(Some(value.clone())),
            _ => Err(wrong(name, "give one value".to_owned())),
        };
        let address = one("address")?.ok_or_else(|| wrong("address", "missing; write host:port".to_owned()))?;
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) => (host.trim_matches(['[', ']']).to_owned(), port.parse::<u16>().ok()),
            None => (address.clone(), Some(22)),
        };
        let port = port.ok_or_else(|| wrong("address", format!("`{address}` is not host:port")))?;
        let host_keys = match (many("host_keys"), one("host_ca")?) {
            (keys, None) if !keys.is_empty() => {
                let read = |text: &String| {
                    let key = || PublicKey::from_openssh(text).map(|key| key.fingerprint(HashAlg::Sha256)).ok();
                    let pinned = text.parse::<Fingerprint>().ok().or_else(key);
                    pinned.ok_or_else(|| wrong("host_keys", format!("`{text}` is no public key and no SHA256:…")))
                };
                HostKeys::Pinned(keys.iter().map(read).collect::<Result<_, _>>()?)
            }
            (keys, Some(ca)) if keys.is_empty() => {
                let key = PublicKey::from_openssh(&ca);
                HostKeys::Authority(key.map_err(|error| wrong("host_ca", format!("`{ca}`: {error}")))?)
            }
            (_, None) => {
                let text = format!("missing; pin the host's key: ssh-keyscan -p {port} {host}");
                return Err(wrong("host_keys", text));
            }
            _ => return Err(wrong("host_ca", "give host_keys or host_ca, not both".to_owned())),
        };
        let credential = match one("credential")?.as_deref() {
            Some("session-certificate") | None => SshCredential::SessionCertificate,
            Some("stored-key") => SshCredential::StoredKey,
            Some("stored-password") => SshCredential::StoredPassword,
            Some(other) => {
                let text = format!("`{other}` is not session-certificate, stored-key or stored-password");
                return Err(wrong("credential", text));
            }
        };
        let record_output = match one("record_output")?.as_deref() {
            None => RECORD_OUTPUT,
            Some("all") => u64::MAX,
            Some(text) => text
                .parse()
                .map_err(|_| wrong("record_output", format!("`{text}` is not `all` or a number of bytes")))?,
        };
        let address = |text: &String| {
            text.parse().map_err(|_| wrong("source_address", format!("`{text}` is not `any` and no address")))
        };
        let sources = match many("source_address").as_slice() {
            [] => Sources::Own,
            [any] if any == "any" => Sources::Any,
            texts => Sources::These(texts.iter().map(address).collect::<Result<_, _>>()?),
        };
        let record_input = match one("record_input")?.as_deref() {
            None | Some("echoed") => true,
            Some("none") => false,
            Some(other) => return Err(wrong("record_input", format!("`{other}` is not echoed or none"))),
        };
        let durability = match one("durability")?.as_deref() {
            Some("by-class") | None => Durability::HandedOver,
            Some("synced") => Durability::Synced,
            Some(other) => return Err(wrong("durability", format!("`{other}` is not by-class or synced"))),
        };
        Ok(Self {
            host,
            port,
            host_keys,
            credential,
            secret: one("secret")?.unwrap_or_else(|| format!("{id}/ssh")),
            login: one("login")?,
            sources,
            record_output,
            record_input,
            durability,
        })
    }

    /// Where it is, for people.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl HostKeys {
    /// What is expected, for people.
    pub fn expected(&self) -> Vec<String> {
        match self {
            Self::Pinned(pinned) => pinned.iter().map(ToString::to_string).collect(),
            Self::Authority(key) => vec![format!("a certificate by {}", key.fingerprint(HashAlg::Sha256))],
        }
    }

    /// Whether a key that the host proved to hold is the one expected.
    ///
    /// # Errors
    /// When it is not, with the key that was seen.
    pub fn verify(&self, host: &str, offer: &HostKeyOffer, now_ms: u64) -> Result<(), HostKeyRefused> {
        let seen = offer.key_data().fingerprint(HashAlg::Sha256);
        let refused = |reason: String| Err(HostKeyRefused { reason });
        match (self, &offer.key) {
            (Self::Pinned(pinned), _) if pinned.contains(&seen) => Ok(()),
            (Self::Pinned(_), _) => refused(format!("{seen} is not the pinned one")),
            (Self::Authority(authority), OfferedHostKey::Certificate(certificate)) => {
                match certified(authority, certificate, host, now_ms) {
                    Ok(()) => Ok(()),
                    Err(why) => refused(format!("the certificate of {seen} {why}")),
                }
            }
            (Self::Authority(_), OfferedHostKey::Plain(_)) => refused(format!("{seen} has no certificate")),
        }
    }
}

/// Whether an authority says of this host that the key is its own.
fn certified(authority: &PublicKey, certificate: &Certificate, host: &str, now_ms: u64) -> Result<(), &'static str> {
    if certificate.signature_key() != authority.key_data() || certificate.verify_signature().is_err() {
        return Err("is by another authority");
    }
    if certificate.cert_type() != CertType::Host {
        return Err("is not a host's");
    }
    let now = now_ms / 1000;
    if now < certificate.valid_after() || now >= certificate.valid_before() {
        return Err("is not valid now");
    }
    // No options of host certificates are defined, so whatever is demanded can't be met.
    if certificate.critical_options().keys().next().is_some() {
        return Err("demands what is not known");
    }
    let named = certificate.valid_principals().iter().any(|name| name.eq_ignore_ascii_case(host));
    if named { Ok(()) } else { Err("is for another host") }
}
