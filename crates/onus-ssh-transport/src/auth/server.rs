//! The server's side of user authentication (RFC 4252): a key or a certificate, a signature over this very connection,
//! and nothing else. It does not decide who may log in, and it does not say which of the reasons a refusal had.

use super::key::{Algorithm, OfferedKey};
use super::signature::{self, SecurityKeyUse};
use super::wire::{Malformed, Reader, SERVICE_CONNECTION, SERVICE_USERAUTH, number, put_string};

/// Refused attempts after which the connection ends.
pub const MAX_FAILURES: u32 = 6;
/// Requests of any kind after which the connection ends: accepted queries are no failures, but must not go on forever.
pub const MAX_REQUESTS: u32 = 64;
/// The longest user name, in bytes.
pub const MAX_USER_BYTES: usize = 1024;
/// The longest banner, in bytes; longer ones are cut.
const MAX_BANNER_BYTES: usize = 4096;
/// What a failure offers to go on with.
const METHODS: &str = "publickey";

/// Who may try to log in with what. Asked before any signature is verified, so a yes proves nothing yet: whoever asks may
/// only know somebody's public key.
pub trait Authenticate {
    /// Whether `key` may be used to log in as `user`. For a certificate, everything about it must be checked here: its
    /// authority, type, time, names and options. Called for each query and again for each signed request.
    ///
    /// `user` is what the client typed: any UTF-8 of 1 to [`MAX_USER_BYTES`] bytes without control characters.
    fn offered(&mut self, user: &str, key: &OfferedKey) -> Answer;
}

/// Whether an offered key may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It may, if the client can sign with it.
    Acceptable,
    /// It may not.
    Refused {
        /// What the user is told before the failure: why, and what to do next. Whoever holds a public key can read it.
        banner: Option<String>,
    },
}

/// What one message led to.
#[derive(Debug, Default)]
pub struct AuthStep {
    /// Message payloads to send, in this order.
    pub replies: Vec<Vec<u8>>,
    /// Set once: the client has proven itself. The success message is the last of `replies`.
    pub done: Option<Authenticated>,
}

/// The proof that a client holds a key that was acceptable for a user. Only a verified signature over this connection's
/// session id makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    user: String,
    key: OfferedKey,
    security_key: Option<SecurityKeyUse>,
}

impl Authenticated {
    /// The user name that the client asked for.
    pub fn user(&self) -> &str {
        &self.user
    }
    /// The key or certificate that it proved to hold.
    pub fn key(&self) -> &OfferedKey {
        &self.key
    }
    /// What the security key said, if it was one.
    pub fn security_key(&self) -> Option<SecurityKeyUse> {
        self.security_key
    }
    /// User and key.
    pub fn into_parts(self) -> (String, OfferedKey) {
        (self.user, self.key)
    }
}

/// Why the connection must end. [`AuthError::disconnect_reason`] and the text go into the disconnect message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// A message that doesn't have its own form.
    #[error("malformed authentication message")]
    Malformed,
    /// A message that has no place here.
    #[error("message {0} is not expected during authentication")]
    Unexpected(u8),
    /// Another service than `ssh-userauth`, or than `ssh-connection` after it.
    #[error("this service is not available")]
    Service,
    /// [`MAX_FAILURES`] or [`MAX_REQUESTS`] was reached.
    #[error("too many authentication attempts")]
    TooMany,
    /// A message after one of the errors above.
    #[error("authentication has already failed")]
    Over,
}

impl AuthError {
    /// The reason code of `SSH_MSG_DISCONNECT` (RFC 4253, section 11.1).
    pub fn disconnect_reason(self) -> u32 {
        match self {
            Self::Malformed | Self::Unexpected(_) | Self::Over => 2,
            Self::Service => 7,
            Self::TooMany => 14,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Service,
    Requests,
    Done,
    Over,
}

/// The server's side of one connection's authentication.
#[derive(Debug)]
pub struct ServerAuth {
    session_id: Vec<u8>,
    phase: Phase,
    user: Option<String>,
    failures: u32,
    requests: u32,
    /// Said before the next reply to a request.
    banner: Option<String>,
    /// What this user has been told last: a client that offers five keys needs to read why only once.
    told: Option<String>,
}

impl ServerAuth {
    /// Begins. `session_id` is the exchange hash of the connection's *first* key exchange.
    pub fn new(session_id: &[u8]) -> Self {
        Self {
            session_id: session_id.to_vec(),
            phase: Phase::Service,
            user: None,
            failures: 0,
            requests: 0,
            banner: None,
            told: None,
        }
    }

    /// Queues a text that the client shows to its user before the next reply to a request; replaces one that still waits.
    /// Control characters are replaced, lines are ended as the protocol wants them.
    pub fn banner(&mut self, text: &str) {
        self.banner = Some(text.to_owned());
    }

    /// Takes one message: `SERVICE_REQUEST`, and afterwards `USERAUTH_REQUEST`s. After success, further requests are
    /// ignored (RFC 4252, section 5.3) and anything else is unexpected.
    ///
    /// # Errors
    /// The connection must be disconnected; nothing is accepted from then on.
    pub fn packet(&mut self, payload: &[u8], check: &mut dyn Authenticate) -> Result<AuthStep, AuthError> {
        let step = self.step(payload, check);
        if step.is_err() {
            self.phase = Phase::Over;
        }
        step
    }

    fn step(&mut self, payload: &[u8], check: &mut dyn Authenticate) -> Result<AuthStep, AuthError> {
        let first = *payload.first().ok_or(AuthError::Malformed)?;
        match (self.phase, first) {
            (Phase::Over, _) => Err(AuthError::Over),
            (Phase::Service, number::SERVICE_REQUEST) => {
                let mut reader = Reader::new(&payload[1..]);
                let name = reader.string()?;
                reader.end()?;
                if name != SERVICE_USERAUTH.as_bytes() {
                    return Err(AuthError::Service);
                }
                self.phase = Phase::Requests;
                let mut accept = vec![number::SERVICE_ACCEPT];
                put_string(&mut accept, name);
                Ok(AuthStep { replies: vec![accept], done: None })
            }
            (Phase::Requests, number::USERAUTH_REQUEST) => self.request(payload, check),
            (Phase::Done, number::USERAUTH_REQUEST) => Ok(AuthStep::default()),
            (_, other) => Err(AuthError::Unexpected(other)),
        }
    }

    fn request(&mut self, payload: &[u8], check: &mut dyn Authenticate) -> Result<AuthStep, AuthError> {
        self.requests += 1;
        if self.requests > MAX_REQUESTS {
            return Err(AuthError::TooMany);
        }
        let mut reader = Reader::new(&payload[1..]);
        let user = reader.text()?;
        if user.is_empty() || user.len() > MAX_USER_BYTES || user.chars().any(char::is_control) {
            return Err(AuthError::Malformed);
        }
        if reader.string()? != SERVICE_CONNECTION.as_bytes() {
            return Err(AuthError::Service);
        }
        if self.user.as_deref() != Some(user) {
            // RFC 4252, section 5: all state goes. The failures stay, or changing names would buy endless attempts.
            self.user = Some(user.to_owned());
            self.told = None;
        }
        match reader.string()? {
            // How clients ask what there is. The first time it is no attempt at anything.
            b"none" => {
                reader.end()?;
                self.failure(if self.requests == 1 { Counts::No } else { Counts::Yes })
            }
            b"publickey" => self.public_key(payload, user, reader, check),
            // Passwords and everything else: not even looked at.
            _ => self.failure(Counts::Yes),
        }
    }

    fn public_key(
        &mut self,
        payload: &[u8],
        user: &str,
        mut reader: Reader<'_>,
        check: &mut dyn Authenticate,
    ) -> Result<AuthStep, AuthError> {
        let signed = reader.boolean()?;
        let name = reader.text()?;
        let blob = reader.string()?;
        // Everything up to here is signed, exactly as it was sent.
        let request = &payload[..payload.len() - reader.left()];
        let signature = if signed { Some(reader.string()?) } else { None };
        reader.end()?;

        let Some(algorithm) = Algorithm::named(name) else { return self.failure(Counts::Yes) };
        if Reader::new(blob).string() != Ok(algorithm.blob.as_bytes()) {
            return self.failure(Counts::Yes);
        }
        let Ok(key) = OfferedKey::parse(blob) else { return self.failure(Counts::Yes) };
        if let Answer::Refused { banner } = check.offered(user, &key) {
            if let Some(banner) = banner {
                self.banner = Some(banner);
            }
            return self.failure(Counts::Yes);
        }
        let Some(signature) = signature else {
            let mut reply = vec![number::USERAUTH_PK_OK];
            put_string(&mut reply, name.as_bytes());
            put_string(&mut reply, blob);
            return Ok(AuthStep { replies: self.with_banner(reply), done: None });
        };
        let mut message = Vec::with_capacity(4 + self.session_id.len() + request.len());
        put_string(&mut message, &self.session_id);
        message.extend_from_slice(request);
        let Ok(security_key) = signature::verify(algorithm, key.key_data(), &message, signature) else {
            return self.failure(Counts::Yes);
        };
        let pin_needed = key.certificate().is_some_and(|it| it.critical_options().contains_key("verify-required"));
        if pin_needed && !security_key.is_some_and(|it| it.user_verified) {
            return self.failure(Counts::Yes);
        }
        self.phase = Phase::Done;
        let replies = self.with_banner(vec![number::USERAUTH_SUCCESS]);
        Ok(AuthStep { replies, done: Some(Authenticated { user: user.to_owned(), key, security_key }) })
    }

    fn failure(&mut self, counts: Counts) -> Result<AuthStep, AuthError> {
        if counts == Counts::Yes {
            self.failures += 1;
        }
        if self.failures >= MAX_FAILURES {
            return Err(AuthError::TooMany);
        }
        let mut reply = vec![number::USERAUTH_FAILURE];
        put_string(&mut reply, METHODS.as_bytes());
        reply.push(0); // no partial success: there is only one step
        Ok(AuthStep { replies: self.with_banner(reply), done: None })
    }

    fn with_banner(&mut self, reply: Vec<u8>) -> Vec<Vec<u8>> {
        match self.banner.take() {
            Some(text) if self.told.as_ref() != Some(&text) => {
                let banner = banner(&text);
                self.told = Some(text);
                vec![banner, reply]
            }
            _ => vec![reply],
        }
    }
}

impl From<Malformed> for AuthError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    Yes,
    No,
}

/// RFC 4252, section 5.4. The text may repeat what somebody typed, and it is shown in a terminal.
fn banner(text: &str) -> Vec<u8> {
    let mut shown = String::new();
    for c in text.trim_end().chars() {
        if shown.len() >= MAX_BANNER_BYTES {
            break;
        }
        match c {
            '\n' => shown.push_str("\r\n"),
            '\r' => (),
            c if c.is_control() => shown.push('?'),
            c => shown.push(c),
        }
    }
    shown.push_str("\r\n");
    let mut out = vec![number::USERAUTH_BANNER];
    put_string(&mut out, shown.as_bytes());
    put_string(&mut out, b"");
    out
}
