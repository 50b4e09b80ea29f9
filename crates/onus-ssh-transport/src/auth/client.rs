//! The client's side of user authentication (RFC 4252): one credential, one attempt. It never falls back to another
//! method, and it says what the server offers instead, never what it sent.

use super::key::Algorithm;
use super::sign::sign;
use super::wire::{Malformed, Reader, SERVICE_CONNECTION, SERVICE_USERAUTH, number, put_string};
use ssh_key::private::KeypairData;
use ssh_key::{Certificate, PrivateKey};
use std::fmt;
use zeroize::Zeroizing;

/// The longest banner that is passed on, in bytes; longer ones are cut.
const MAX_BANNER_BYTES: usize = 8192;
/// Banners that are taken before the connection counts as abused.
const MAX_BANNERS: u32 = 16;
/// Method names that are repeated in an error.
const MAX_METHODS: usize = 16;

/// What proves us to a server. Absent from `Debug`.
pub enum Credential {
    /// A key with a certificate over it.
    Certificate {
        /// The key.
        key: PrivateKey,
        /// The certificate; it must be over this key.
        certificate: Box<Certificate>,
    },
    /// A bare key.
    Key(PrivateKey),
    /// A password. Sent only inside the encrypted transport, to a server whose host key has been verified.
    Password(Zeroizing<String>),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate { .. } => "Certificate(…)",
            Self::Key(_) => "Key(…)",
            Self::Password(_) => "Password(…)",
        })
    }
}

/// Why a credential cannot be used at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialUnusable {
    /// The key needs a passphrase.
    #[error("the private key is encrypted")]
    Encrypted,
    /// DSA, a security key or something unknown: this side can't sign with it.
    #[error("private keys of this kind cannot be used")]
    Kind,
    /// The certificate is over another key.
    #[error("the certificate does not belong to the key")]
    Mismatch,
    /// The certificate can't be encoded.
    #[error("the certificate cannot be used")]
    Certificate,
}

/// Why the server did not let us in, or why we stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientAuthError {
    /// The server refused the credential.
    #[error("the server refused the {method} for `{user}`; it offers {}", listed(.offers))]
    Refused {
        /// Whom we asked for.
        user: String,
        /// What was tried: `certificate`, `key` or `password`.
        method: &'static str,
        /// The methods that the server would go on with, at most 16.
        offers: Vec<String>,
    },
    /// The server accepted the credential but wants another one as well.
    #[error("the server accepted the {method} for `{user}` but wants more; it offers {}", listed(.offers))]
    MoreWanted {
        /// Whom we asked for.
        user: String,
        /// What was tried.
        method: &'static str,
        /// The methods that the server would go on with, at most 16.
        offers: Vec<String>,
    },
    /// The password has expired; it must be changed elsewhere.
    #[error("the server wants the password for `{user}` to be changed")]
    PasswordExpired {
        /// Whose.
        user: String,
    },
    /// The key is RSA and the server takes neither SHA-512 nor SHA-256 with it.
    #[error("the server takes no rsa signature better than sha-1")]
    OnlySha1,
    /// The key could not sign.
    #[error("the private key could not sign")]
    Sign,
    /// The server does not have the service `ssh-userauth`.
    #[error("the server accepted another service")]
    Service,
    /// A message that doesn't have its own form.
    #[error("the server sent a malformed authentication message")]
    Malformed,
    /// A message that has no place here.
    #[error("the server sent message {0}, which is not expected during authentication")]
    Unexpected(u8),
    /// More banners than anybody reads.
    #[error("the server sent more than {MAX_BANNERS} banners")]
    Banners,
    /// A message after success or after one of the errors above.
    #[error("authentication is already over")]
    Over,
}

fn listed(methods: &[String]) -> String {
    if methods.is_empty() { "nothing".to_owned() } else { methods.join(", ") }
}

/// What one message led to.
#[derive(Default)]
pub struct ClientStep {
    /// Message payloads to send, in this order. One of them may hold the password.
    pub send: Vec<Zeroizing<Vec<u8>>>,
    /// What the server wants its user to read; control characters other than line ends and tabs are replaced.
    pub banner: Option<String>,
    /// We are in.
    pub done: bool,
}

impl fmt::Debug for ClientStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStep")
            .field("send", &self.send.len())
            .field("banner", &self.banner)
            .field("done", &self.done)
            .finish()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Service,
    Query,
    Result,
    Over,
}

/// The client's side of one connection's authentication.
pub struct ClientAuth {
    session_id: Vec<u8>,
    user: String,
    credential: Credential,
    /// The key blob or certificate as it is sent; empty for a password.
    blob: Vec<u8>,
    /// What the server said in `server-sig-algs`: rsa with SHA-512, rsa with SHA-256. Nothing said: try the better one.
    rsa: Option<(bool, bool)>,
    ask_first: bool,
    banners: u32,
    phase: Phase,
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuth")
            .field("user", &self.user)
            .field("credential", &self.credential)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl ClientAuth {
    /// Begins. `session_id` is the exchange hash of the connection's *first* key exchange.
    ///
    /// # Errors
    /// The credential could never work.
    pub fn new(session_id: &[u8], user: &str, credential: Credential) -> Result<Self, CredentialUnusable> {
        let blob = match &credential {
            Credential::Certificate { key, certificate } => {
                usable(key)?;
                if certificate.public_key() != key.public_key().key_data() {
                    return Err(CredentialUnusable::Mismatch);
                }
                certificate.to_bytes().map_err(|_| CredentialUnusable::Certificate)?
            }
            Credential::Key(key) => {
                usable(key)?;
                key.public_key().to_bytes().map_err(|_| CredentialUnusable::Kind)?
            }
            Credential::Password(_) => Vec::new(),
        };
        Ok(Self {
            session_id: session_id.to_vec(),
            user: user.to_owned(),
            credential,
            blob,
            rsa: None,
            ask_first: false,
            banners: 0,
            phase: Phase::Service,
        })
    }

    /// Asks the server whether it would take the key before signing with it: one round trip more, and no signature for a
    /// server that does not want it.
    #[must_use]
    pub fn ask_first(mut self) -> Self {
        self.ask_first = true;
        self
    }

    /// Notes the server's `server-sig-algs` (RFC 8308), as soon as it is known; it decides how an RSA key signs. Without
    /// it, `rsa-sha2-512` is tried. SHA-1 never is.
    pub fn server_sig_algs<S: AsRef<str>>(&mut self, names: impl IntoIterator<Item = S>) {
        let (mut sha512, mut sha256) = (false, false);
        for name in names {
            sha512 |= name.as_ref() == "rsa-sha2-512";
            sha256 |= name.as_ref() == "rsa-sha2-256";
        }
        self.rsa = Some((sha512, sha256));
    }

    /// The first message payload to send, after the transport is ready: the request for `ssh-userauth`.
    pub fn start(&self) -> Vec<u8> {
        let mut out = vec![number::SERVICE_REQUEST];
        put_string(&mut out, SERVICE_USERAUTH.as_bytes());
        out
    }

    /// Takes one message from the server.
    ///
    /// # Errors
    /// Authentication has failed; nothing is accepted from then on.
    pub fn packet(&mut self, payload: &[u8]) -> Result<ClientStep, ClientAuthError> {
        let step = self.step(payload);
        match &step {
            Ok(step) if !step.done => (),
            _ => self.phase = Phase::Over,
        }
        step
    }

    fn step(&mut self, payload: &[u8]) -> Result<ClientStep, ClientAuthError> {
        let first = *payload.first().ok_or(ClientAuthError::Malformed)?;
        let mut reader = Reader::new(&payload[1..]);
        match (self.phase, first) {
            (Phase::Over, _) => Err(ClientAuthError::Over),
            (_, number::USERAUTH_BANNER) => {
                self.banners += 1;
                if self.banners > MAX_BANNERS {
                    return Err(ClientAuthError::Banners);
                }
                // The language tag behind it is left out by some servers, and means nothing to us.
                let text = shown(&String::from_utf8_lossy(reader.string()?), MAX_BANNER_BYTES);
                Ok(ClientStep { banner: Some(text), ..ClientStep::default() })
            }
            (Phase::Service, number::SERVICE_ACCEPT) => {
                // Old servers send no name.
                if reader.left() > 0 && reader.string()? != SERVICE_USERAUTH.as_bytes() {
                    return Err(ClientAuthError::Service);
                }
                let request = if self.ask_first && !matches!(self.credential, Credential::Password(_)) {
                    self.phase = Phase::Query;
                    self.query()?
                } else {
                    self.phase = Phase::Result;
                    self.proof()?
                };
                Ok(ClientStep { send: vec![request], ..ClientStep::default() })
            }
            (Phase::Query, number::USERAUTH_PK_OK) => {
                let same = reader.string()? == self.algorithm()?.name.as_bytes() && reader.string()? == self.blob;
                reader.end()?;
                if !same {
                    return Err(ClientAuthError::Unexpected(first));
                }
                self.phase = Phase::Result;
                Ok(ClientStep { send: vec![self.proof()?], ..ClientStep::default() })
            }
            (Phase::Result, number::USERAUTH_PK_OK) if matches!(self.credential, Credential::Password(_)) => {
                Err(ClientAuthError::PasswordExpired { user: self.user.clone() })
            }
            (Phase::Query | Phase::Result, number::USERAUTH_FAILURE) => {
                let offers = methods(reader.string()?);
                let partial = reader.boolean()?;
                let (user, method) = (self.user.clone(), self.method());
                Err(if partial {
                    ClientAuthError::MoreWanted { user, method, offers }
                } else {
                    ClientAuthError::Refused { user, method, offers }
                })
            }
            // Success for a mere query is no success: such a server checks nothing.
            (Phase::Result, number::USERAUTH_SUCCESS) => {
                reader.end()?;
                Ok(ClientStep { done: true, ..ClientStep::default() })
            }
            (_, other) => Err(ClientAuthError::Unexpected(other)),
        }
    }

    fn method(&self) -> &'static str {
        match self.credential {
            Credential::Certificate { .. } => "certificate",
            Credential::Key(_) => "key",
            Credential::Password(_) => "password",
        }
    }

    /// How our key signs, and under which name it is offered.
    fn algorithm(&self) -> Result<&'static Algorithm, ClientAuthError> {
        let (key, certificate) = match &self.credential {
            Credential::Certificate { key, .. } => (key, true),
            Credential::Key(key) => (key, false),
            Credential::Password(_) => return Err(ClientAuthError::Sign),
        };
        let algorithm = key.algorithm();
        let name = match (key.key_data(), self.rsa) {
            (KeypairData::Rsa(_), None | Some((true, _))) => "rsa-sha2-512",
            (KeypairData::Rsa(_), Some((false, true))) => "rsa-sha2-256",
            (KeypairData::Rsa(_), Some((false, false))) => return Err(ClientAuthError::OnlySha1),
            _ => algorithm.as_str(),
        };
        Algorithm::signing(name, certificate).ok_or(ClientAuthError::Sign)
    }

    fn query(&self) -> Result<Zeroizing<Vec<u8>>, ClientAuthError> {
        let mut out = Vec::new();
        self.put_public_key(&mut out, self.algorithm()?, 0);
        Ok(Zeroizing::new(out))
    }

    /// The request that carries the proof.
    fn proof(&self) -> Result<Zeroizing<Vec<u8>>, ClientAuthError> {
        let key = match &self.credential {
            Credential::Password(password) => return Ok(self.password(password)),
            Credential::Certificate { key, .. } | Credential::Key(key) => key,
        };
        let algorithm = self.algorithm()?;
        let mut signed = Vec::new();
        put_string(&mut signed, &self.session_id);
        let before = signed.len();
        self.put_public_key(&mut signed, algorithm, 1);
        let signature = sign(key, algorithm, &signed).map_err(|_| ClientAuthError::Sign)?;
        let mut out = signed.split_off(before);
        put_string(&mut out, &signature);
        Ok(Zeroizing::new(out))
    }

    fn put_head(&self, out: &mut Vec<u8>, method: &str) {
        out.push(number::USERAUTH_REQUEST);
        put_string(out, self.user.as_bytes());
        put_string(out, SERVICE_CONNECTION.as_bytes());
        put_string(out, method.as_bytes());
    }

    fn put_public_key(&self, out: &mut Vec<u8>, algorithm: &Algorithm, signed: u8) {
        self.put_head(out, "publickey");
        out.push(signed);
        put_string(out, algorithm.name.as_bytes());
        put_string(out, &self.blob);
    }

    fn password(&self, password: &str) -> Zeroizing<Vec<u8>> {
        // Room for all of it at once: a buffer that grows leaves copies behind.
        let mut out = Zeroizing::new(Vec::with_capacity(64 + self.user.len() + password.len()));
        self.put_head(&mut out, "password");
        out.push(0);
        put_string(&mut out, password.as_bytes());
        out
    }
}

impl From<Malformed> for ClientAuthError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

fn usable(key: &PrivateKey) -> Result<(), CredentialUnusable> {
    match key.key_data() {
        KeypairData::Ed25519(_) | KeypairData::Ecdsa(_) | KeypairData::Rsa(_) => Ok(()),
        KeypairData::Encrypted(_) => Err(CredentialUnusable::Encrypted),
        _ => Err(CredentialUnusable::Kind),
    }
}

/// The method names in a failure, fit to be shown.
fn methods(list: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(list)
        .split(',')
        .filter(|name| !name.is_empty())
        .take(MAX_METHODS)
        .map(|name| name.chars().take(64).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect())
        .collect()
}

fn shown(text: &str, max_bytes: usize) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if shown.len() >= max_bytes {
            break;
        }
        match c {
            '\n' | '\t' => shown.push(c),
            '\r' => (),
            c if c.is_control() => shown.push('?'),
            c => shown.push(c),
        }
    }
    shown
}
