//! Logging in to the upstream with the gateway's own credential, sans I/O.
//!
//! The client never takes part in it: what its start-up message may ask for was settled by [`crate::startup`].
//! TLS is the caller's, before the first byte.

use crate::frame::{Body, head};
use crate::message::{ErrorFields, error_fields, put_message};
use crate::scram::{Binding, Client, ScramError};
use bytes::{BufMut, Bytes, BytesMut};
use onus_pep::Violation;
use std::fmt;

/// Messages before ReadyForQuery that are longer than this are not what they say.
const MAX_LOGIN_MESSAGE: usize = 64 * 1024;

/// What to log in with.
#[derive(Clone)]
pub struct Login {
    /// The upstream role.
    pub user: String,
    /// Its password.
    pub password: Vec<u8>,
    /// The database.
    pub database: String,
    /// `application_name`.
    pub application_name: String,
    /// `search_path`, pinned; `None` leaves the role's own.
    pub search_path: Option<String>,
    /// The client's harmless settings.
    pub settings: Vec<(String, String)>,
    /// Whether the connection is TLS: only then may a server ask for the password itself.
    pub tls: bool,
    /// The hash of the server's certificate, for channel binding; `None` if there is none to bind to.
    pub certificate_hash: Option<Vec<u8>>,
    /// A fresh nonce: at least 18 random bytes in base64.
    pub nonce: String,
    /// The fewest SCRAM iterations that are accepted.
    pub min_iterations: u32,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).field("database", &self.database).finish_non_exhaustive()
    }
}

/// Why logging in failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The server broke the protocol.
    #[error("the upstream broke the protocol while logging in: {0}")]
    Violation(Violation),
    /// The server refused.
    #[error("the upstream refused the log-in: {code} {message}")]
    Refused {
        /// SQLSTATE.
        code: String,
        /// The server's message.
        message: String,
    },
    /// A method that would give the credential away, or that isn't spoken.
    #[error("the upstream asks for authentication by {0}, which is not used; use scram-sha-256")]
    Method(&'static str),
    /// SCRAM failed.
    #[error(transparent)]
    Scram(ScramError),
    /// The server let us in without having proved that it knows the credential.
    #[error("the upstream ended authentication before proving itself")]
    Unproved,
    /// The server reports a setting other than the pinned one.
    #[error("the upstream doesn't keep `{0}` as pinned")]
    Pinned(&'static str),
}

impl From<Violation> for LoginError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// A connection that is ready.
#[derive(Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// The server's ParameterStatus reports, for the client.
    pub parameters: Vec<(String, String)>,
    /// Its process number, for cancelling.
    pub pid: i32,
    /// Its cancel key: secret.
    pub key: Bytes,
    /// The transaction status.
    pub status: u8,
}

impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggedIn").field("pid", &self.pid).finish_non_exhaustive()
    }
}

enum State {
    /// Nothing was asked yet.
    Fresh,
    Scram(Client),
    /// The proof is out; the server's is awaited.
    Proving(Client),
    /// Nothing is left to prove: only AuthenticationOk may come.
    Proved,
    Authenticated,
}

/// The client's side of one log-in.
pub struct UpstreamLogin {
    login: Login,
    state: State,
    parameters: Vec<(String, String)>,
    key: Option<(i32, Bytes)>,
}

impl UpstreamLogin {
    /// Begins; returns the StartupMessage (protocol 3.0) to send.
    pub fn new(login: Login) -> (Self, Bytes) {
        let mut body = BytesMut::new();
        body.put_i32(196_608);
        let mut pair = |name: &str, value: &str| {
            for part in [name, value] {
                body.extend(part.bytes().filter(|b| *b != 0));
                body.put_u8(0);
            }
        };
        pair("user", &login.user);
        pair("database", &login.database);
        pair("application_name", &login.application_name);
        for (name, value) in &login.settings {
            pair(name, value);
        }
        // After the client's, so that nothing of the client's could stand in their place.
        if let Some(path) = &login.search_path {
            pair("search_path", path);
        }
        pair("client_encoding", "UTF8");
        pair("standard_conforming_strings", "on");
        body.put_u8(0);
        let mut packet = BytesMut::with_capacity(body.len() + 4);
        packet.put_i32(i32::try_from(body.len() + 4).unwrap_or(i32::MAX));
        packet.put_slice(&body);
        let login = Self { login, state: State::Fresh, parameters: Vec::new(), key: None };
        (login, packet.freeze())
    }

    /// Reads what the server sent, appends what to send to `out`, and says when the connection is ready. What comes
    /// after that stays in `buffer`.
    pub fn receive(&mut self, buffer: &mut BytesMut, out: &mut BytesMut) -> Result<Option<LoggedIn>, LoginError> {
        loop {
            let Some((kind, size)) = head(buffer)? else { return Ok(None) };
            if size > MAX_LOGIN_MESSAGE {
                return Err(broken("a message is too long"));
            }
            if buffer.len() < size {
                return Ok(None);
            }
            let message = buffer.split_to(size).freeze();
            let mut body = Body::of_message(&message);
            let authenticated = matches!(self.state, State::Authenticated);
            match kind {
                b'R' if !authenticated => self.authenticate(body, out)?,
                b'E' => {
                    let ErrorFields { code, message, .. } = error_fields(&message)?;
                    return Err(LoginError::Refused { code, message });
                }
                // Before authentication nobody is there to be told (CVE-2024-10977).
                b'N' | b'v' => {}
                b'S' if authenticated => {
                    let (name, value) = (body.text()?, body.text()?);
                    match name {
                        "client_encoding" if !value.eq_ignore_ascii_case("UTF8") => {
                            return Err(LoginError::Pinned("client_encoding"));
                        }
                        "standard_conforming_strings" if value != "on" => {
                            return Err(LoginError::Pinned("standard_conforming_strings"));
                        }
                        _ => self.parameters.push((name.to_owned(), value.to_owned())),
                    }
                }
                b'K' if authenticated => {
                    let pid = body.int32()?;
                    if !(4..=256).contains(&body.rest().len()) {
                        return Err(broken("the cancel key has an impossible length"));
                    }
                    self.key = Some((pid, Bytes::copy_from_slice(body.rest())));
                }
                b'Z' if authenticated => {
                    let status = body.byte()?;
                    let (pid, key) = self.key.take().unwrap_or_default();
                    let parameters = std::mem::take(&mut self.parameters);
                    return Ok(Some(LoggedIn { parameters, pid, key, status }));
                }
                _ => return Err(broken("a message came out of order")),
            }
        }
    }

    fn authenticate(&mut self, mut body: Body<'_>, out: &mut BytesMut) -> Result<(), LoginError> {
        let method = body.int32()?;
        match (method, std::mem::replace(&mut self.state, State::Fresh)) {
            // With a certificate or by trust there is nothing to prove; in the middle of SCRAM there is.
            (0, State::Fresh | State::Proved) => self.state = State::Authenticated,
            (0, _) => return Err(LoginError::Unproved),
            (3, State::Fresh) if self.login.tls => {
                put_message(out, b'p', &[&self.login.password[..], b"\0"].concat());
                self.state = State::Proved;
            }
            (3, State::Fresh) => return Err(LoginError::Method("a password in clear")),
            (5, _) => return Err(LoginError::Method("md5")),
            (7..=9, _) => return Err(LoginError::Method("gss")),
            (10, State::Fresh) => {
                let (mut scram, mut plus) = (false, false);
                loop {
                    match body.cstr()? {
                        b"" => break,
                        b"SCRAM-SHA-256" => scram = true,
                        b"SCRAM-SHA-256-PLUS" => plus = true,
                        _ => {}
                    }
                }
                let binding = match (&self.login.certificate_hash, plus) {
                    (Some(hash), true) => Binding::ServerEndPoint(hash.clone()),
                    (Some(_), false) => Binding::NotOffered,
                    (None, _) => Binding::None,
                };
                if !scram && !matches!(binding, Binding::ServerEndPoint(_)) {
                    return Err(LoginError::Method("an unknown mechanism"));
                }
                let client = Client::new(binding, self.login.nonce.clone(), self.login.min_iterations);
                let (mechanism, first) = client.first();
                let mut reply = BytesMut::new();
                reply.put_slice(mechanism.as_bytes());
                reply.put_u8(0);
                reply.put_i32(i32::try_from(first.len()).unwrap_or(i32::MAX));
                reply.put_slice(first.as_bytes());
                put_message(out, b'p', &reply);
                self.state = State::Scram(client);
            }
            (11, State::Scram(mut client)) => {
                let last = client.answer(&self.login.password, body.rest()).map_err(LoginError::Scram)?;
                put_message(out, b'p', last.as_bytes());
                self.state = State::Proving(client);
            }
            (12, State::Proving(mut client)) => {
                client.finish(body.rest()).map_err(LoginError::Scram)?;
                self.state = State::Proved;
            }
            _ => return Err(broken("an authentication request came out of order")),
        }
        Ok(())
    }
}

fn broken(why: &str) -> LoginError {
    LoginError::Violation(Violation::new(crate::frame::PROTOCOL_VIOLATION, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{backend_key_data, message, parameter_status, ready_for_query};

    fn login(tls: bool) -> Login {
        Login {
            user: "onus_1".into(),
            password: b"pencil".to_vec(),
            database: "orders".into(),
            application_name: "onus".into(),
            search_path: Some("public".into()),
            settings: vec![("timezone".into(), "UTC".into())],
            tls,
            certificate_hash: None,
            nonce: "rOprNGfwEbeRWgbNEkqO".into(),
            min_iterations: 1,
        }
    }

    fn asks(method: i32, rest: &[u8]) -> Bytes {
        message(b'R', &[&method.to_be_bytes()[..], rest].concat())
    }

    fn run(tls: bool, server: &[Bytes]) -> (Result<Option<LoggedIn>, LoginError>, BytesMut) {
        let (mut machine, _) = UpstreamLogin::new(login(tls));
        let (mut buffer, mut out) = (BytesMut::from(&server.concat()[..]), BytesMut::new());
        (machine.receive(&mut buffer, &mut out), out)
    }

    #[test]
    fn what_is_pinned_comes_last() {
        let (_, packet) = UpstreamLogin::new(login(false));
        let text = String::from_utf8_lossy(&packet[8..]).replace('\0', "|");
        assert!(
            text.ends_with("timezone|UTC|search_path|public|client_encoding|UTF8|standard_conforming_strings|on||"),
            "{text}"
        );
    }

    #[test]
    fn a_trusting_server_ends_in_a_ready_connection() {
        let server = [
            asks(0, b""),
            parameter_status("server_version", "15"),
            backend_key_data(7, &[1, 2, 3, 4]),
            ready_for_query(b'I'),
        ];
        let ready = run(false, &server).0.unwrap().unwrap();
        assert_eq!((ready.pid, ready.status, ready.parameters.len()), (7, b'I', 1));
    }

    #[test]
    fn a_server_that_skips_its_proof_is_not_believed() {
        let sasl = asks(10, b"SCRAM-SHA-256\0\0");
        let first = asks(11, b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=1");
        assert_eq!(run(true, &[sasl.clone(), asks(0, b"")]).0, Err(LoginError::Unproved));
        assert_eq!(run(true, &[sasl.clone(), first.clone(), asks(0, b"")]).0, Err(LoginError::Unproved));
        let impostor = run(true, &[sasl, first, asks(12, b"v=AAAA")]).0;
        assert_eq!(impostor, Err(LoginError::Scram(ScramError::Impostor)));
    }

    #[test]
    fn the_password_is_not_given_away() {
        let (result, out) = run(false, &[asks(3, b"")]);
        assert!(matches!(result, Err(LoginError::Method(_))) && out.is_empty());
        let (result, out) = run(true, &[asks(5, b"salt")]);
        assert!(matches!(result, Err(LoginError::Method(_))) && out.is_empty());
    }

    #[test]
    fn a_setting_that_is_not_kept_ends_it() {
        let server = [asks(0, b""), parameter_status("standard_conforming_strings", "off")];
        assert_eq!(run(false, &server).0, Err(LoginError::Pinned("standard_conforming_strings")));
    }
}
