//! The server's side of start-up: what a client says before it is known, and what of it may go on.
//!
//! It parses and refuses; it answers nothing by itself and keeps no state. Everything here is read from peers that
//! have not authenticated.

use crate::frame::Body;
use crate::message::{Diagnostic, Severity};
use bytes::Bytes;

/// The longest start-up packet, as in PostgreSQL itself.
pub const MAX_STARTUP: usize = 10_000;

/// Why a client is turned away at start-up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The packet is not one.
    #[error("the start-up packet is malformed")]
    Malformed,
    /// A length outside 8 to [`MAX_STARTUP`].
    #[error("the start-up packet states an impossible length")]
    Length,
    /// A major version other than 3.
    #[error("protocol version {0}.{1} is not spoken here; use 3.0 or 3.2")]
    Version(u16, u16),
    /// No `user`.
    #[error("no user name was given")]
    NoUser,
    /// `replication` was asked for.
    #[error("replication is not let through")]
    Replication,
    /// A setting that may not be made at start-up.
    #[error("the setting `{0}` may not be made at start-up through onus; leave it out of the connection's options")]
    Setting(String),
    /// An encoding other than UTF-8.
    #[error("the client encoding `{0}` can't be used through onus; use UTF8")]
    Encoding(String),
    /// `options` that are not a list of `-c name=value`.
    #[error("the connection's options `{0}` can't be used through onus; use -c name=value")]
    Options(String),
}

impl StartupError {
    /// The SQLSTATE.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed | Self::Length => "08P01",
            Self::Version(..) | Self::Replication => "0A000",
            Self::NoUser => "28000",
            Self::Setting(_) | Self::Options(_) => "42501",
            Self::Encoding(_) => "22023",
        }
    }
    /// The FATAL ErrorResponse.
    pub fn to_bytes(&self) -> Bytes {
        Diagnostic {
            severity: Severity::Fatal,
            code: self.code(),
            message: &self.to_string(),
            detail: None,
            hint: None,
        }
        .to_bytes()
    }
}

/// What a client begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// Not enough bytes yet.
    More,
    /// A TLS ClientHello (direct TLS): consume nothing, hand the stream to TLS, and demand ALPN `postgresql`.
    DirectTls,
    /// SSLRequest: answer `S` or `N`. Bytes beyond it are an attack (CVE-2021-23214): see [`Parsed::leftover`].
    Ssl,
    /// GSSENCRequest: answer `N`.
    GssEnc,
    /// CancelRequest: no answer, close.
    Cancel {
        /// The process number, as given to the client.
        pid: i32,
        /// The key, as given to the client: secret.
        key: Vec<u8>,
    },
    /// StartupMessage.
    Startup(Startup),
}

/// A packet, and how long it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// What it is.
    pub first: First,
    /// Its length: the caller takes so many bytes away.
    pub consumed: usize,
    /// Bytes that came after it. After [`First::Ssl`] there must be none, or the connection is to be closed.
    pub leftover: usize,
}

/// A StartupMessage whose every wish may be granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// The minor version to speak: 0 or 2.
    pub minor: u16,
    /// Whether [`Startup::negotiation`] has something to say.
    pub negotiate: bool,
    /// `_pq_.` options that are not known here.
    pub unknown: Vec<String>,
    /// `user`.
    pub user: String,
    /// `database`; the user's name if none was given.
    pub database: String,
    /// `application_name`.
    pub application_name: Option<String>,
    /// Harmless settings for the upstream, in the client's order, names in lower case.
    pub settings: Vec<(String, String)>,
}

impl Startup {
    /// NegotiateProtocolVersion, to be sent before anything else, where the client asked for more than is spoken.
    pub fn negotiation(&self) -> Option<Bytes> {
        let version = (3 << 16) | i32::from(self.minor);
        self.negotiate.then(|| crate::message::negotiate_protocol_version(version, &self.unknown))
    }
    /// How long a cancel key this client can take, in bytes.
    pub fn key_bytes(&self) -> usize {
        if self.minor >= 2 { 32 } else { 4 }
    }
}

/// Settings that a client may make at start-up. None of them changes what a text means or who runs it.
const HARMLESS: [&str; 12] = [
    "bytea_output",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "geqo",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "statement_timeout",
    "tcp_user_timeout",
    "timezone",
];

/// Reads what a client begins with. After TLS, call it again: a further request for encryption is for the caller to
/// refuse.
pub fn first(bytes: &[u8]) -> Result<Parsed, StartupError> {
    let found = |first, consumed| Ok(Parsed { first, consumed, leftover: bytes.len() - consumed });
    if bytes.first() == Some(&0x16) {
        return found(First::DirectTls, 0);
    }
    let Some(length) = bytes.first_chunk::<4>() else { return found(First::More, 0) };
    let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| StartupError::Length)?;
    // Judged from the first four bytes: nobody is waited for who announces megabytes.
    if !(8..=MAX_STARTUP).contains(&length) {
        return Err(StartupError::Length);
    }
    let Some(packet) = bytes.get(..length) else { return found(First::More, 0) };
    let mut body = Body::new(&packet[4..]);
    let code = body.int32().map_err(|_| StartupError::Malformed)?;
    let (major, minor) = ((code >> 16) as u16, code as u16);
    match code {
        80_877_103 if length == 8 => found(First::Ssl, length),
        80_877_104 if length == 8 => found(First::GssEnc, length),
        80_877_102 => {
            let pid = body.int32().map_err(|_| StartupError::Malformed)?;
            let key = body.rest();
            if !(4..=256).contains(&key.len()) {
                return Err(StartupError::Malformed);
            }
            found(First::Cancel { pid, key: key.to_vec() }, length)
        }
        _ if major == 3 => found(First::Startup(startup(minor, body)?), length),
        _ if major == 1234 => Err(StartupError::Malformed),
        _ => Err(StartupError::Version(major, minor)),
    }
}

fn startup(asked: u16, mut body: Body<'_>) -> Result<Startup, StartupError> {
    let malformed = |_| StartupError::Malformed;
    let minor = if asked >= 2 { 2 } else { 0 };
    let (mut user, mut database, mut application_name) = (None, None, None);
    let (mut settings, mut unknown) = (Vec::new(), Vec::new());
    loop {
        let name = body.text().map_err(malformed)?;
        if name.is_empty() {
            break;
        }
        let value = body.text().map_err(malformed)?;
        match name {
            "user" => user = Some(value.to_owned()),
            "database" => database = Some(value.to_owned()),
            "replication" => {
                if !matches!(value.to_ascii_lowercase().as_str(), "false" | "off" | "no" | "0") {
                    return Err(StartupError::Replication);
                }
            }
            "options" => {
                for (name, value) in options(value)? {
                    setting(&name, value, &mut application_name, &mut settings)?;
                }
            }
            _ if name.starts_with("_pq_.") => unknown.push(name.to_owned()),
            _ => setting(name, value.to_owned(), &mut application_name, &mut settings)?,
        }
    }
    body.end().map_err(malformed)?;
    let user = user.filter(|u| !u.is_empty()).ok_or(StartupError::NoUser)?;
    let database = database.filter(|d| !d.is_empty()).unwrap_or_else(|| user.clone());
    let negotiate = asked != minor || !unknown.is_empty();
    Ok(Startup { minor, negotiate, unknown, user, database, application_name, settings })
}

fn setting(
    name: &str,
    value: String,
    application_name: &mut Option<String>,
    settings: &mut Vec<(String, String)>,
) -> Result<(), StartupError> {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "application_name" => *application_name = Some(value),
        // Pinned upstream. A client in the C locale says SQL_ASCII and means that it doesn't care.
        "client_encoding" => {
            let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
            if !matches!(plain.to_ascii_uppercase().as_str(), "UTF8" | "UNICODE" | "SQLASCII") {
                return Err(StartupError::Encoding(shown(&value)));
            }
        }
        "standard_conforming_strings" if value == "on" => {}
        harmless if HARMLESS.contains(&harmless) => settings.push((name, value)),
        _ => return Err(StartupError::Setting(shown(&name))),
    }
    Ok(())
}

/// Takes `options` apart as the server does: words are parted by white space, and a backslash keeps the next
/// character.
fn options(text: &str) -> Result<Vec<(String, String)>, StartupError> {
    let wrong = || StartupError::Options(shown(text));
    let mut words = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => words.last_mut().ok_or_else(wrong)?.push(chars.next().ok_or_else(wrong)?),
            c if c.is_ascii_whitespace() => words.push(String::new()),
            c => words.last_mut().ok_or_else(wrong)?.push(c),
        }
    }
    let mut words = words.into_iter().filter(|w| !w.is_empty());
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next().ok_or_else(wrong)?
        } else if let Some(long) = word.strip_prefix("--") {
            long.to_owned()
        } else {
            word.strip_prefix("-c").ok_or_else(wrong)?.to_owned()
        };
        let (name, value) = assignment.split_once('=').ok_or_else(wrong)?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(63).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: i32, body: &[u8]) -> Vec<u8> {
        [&((body.len() + 8) as i32).to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    }

    fn start(pairs: &str) -> Result<Startup, StartupError> {
        let body = format!("{}\0", pairs.replace('|', "\0"));
        match first(&packet(196_608, body.as_bytes()))?.first {
            First::Startup(startup) => Ok(startup),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_first_packet_is_told_apart() {
        assert_eq!(first(b"\x16\x03\x01").unwrap().first, First::DirectTls);
        assert_eq!(first(&packet(80_877_104, b"")).unwrap().first, First::GssEnc);
        let key = vec![7; 32];
        let cancel = packet(80_877_102, &[&5i32.to_be_bytes()[..], &key].concat());
        assert_eq!(first(&cancel).unwrap().first, First::Cancel { pid: 5, key });
        for n in 0..cancel.len() {
            assert_eq!(first(&cancel[..n]).unwrap().first, First::More);
        }
    }

    #[test]
    fn bytes_stuffed_behind_an_ssl_request_are_seen() {
        let stuffed = [packet(80_877_103, b""), b"Q".to_vec()].concat();
        let parsed = first(&stuffed).unwrap();
        assert_eq!((parsed.first, parsed.consumed, parsed.leftover), (First::Ssl, 8, 1));
    }

    #[test]
    fn a_long_packet_is_refused_by_its_announcement() {
        assert_eq!(first(&10_001i32.to_be_bytes()), Err(StartupError::Length));
        assert_eq!(first(&7i32.to_be_bytes()), Err(StartupError::Length));
        assert_eq!(first(&(-1i32).to_be_bytes()), Err(StartupError::Length));
    }

    #[test]
    fn harmless_settings_go_on_and_others_are_refused() {
        let s = start("user|alice|DateStyle|ISO|options|-c statement_timeout=5s --lock-timeout=1\\ s|").unwrap();
        assert_eq!((s.user.as_str(), s.database.as_str(), s.minor, s.negotiate), ("alice", "alice", 0, false));
        let expected = [("datestyle", "ISO"), ("statement_timeout", "5s"), ("lock_timeout", "1 s")];
        assert_eq!(s.settings, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        for wrong in [
            "user|a|search_path|evil|",
            "user|a|options|-c search_path=evil|",
            "user|a|options|-crole=postgres|",
            "user|a|options|--session_preload_libraries=x|",
            "user|a|options|-c Role=postgres|",
            "user|a|options|-c sea\\rch_path=evil|",
            "user|a|standard_conforming_strings|off|",
            "user|a|options|-e|",
            "user|a|client_encoding|BIG5|",
            "user|a|replication|database|",
            "user|a|replication|true|",
            "database|x|",
        ] {
            assert!(start(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_newer_client_is_told_what_is_spoken() {
        let body = b"user\0a\0_pq_.foo\0x\0\0";
        let First::Startup(s) = first(&packet(196_608 + 9, body)).unwrap().first else { panic!() };
        assert_eq!((s.minor, s.key_bytes()), (2, 32));
        assert!(s.negotiation().unwrap().windows(8).any(|w| w == b"_pq_.foo"));
        let First::Startup(s) = first(&packet(196_610, b"user\0a\0\0")).unwrap().first else { panic!() };
        assert_eq!(s.negotiation(), None);
        assert!(matches!(first(&packet(131_072, b"user\0a\0\0")), Err(StartupError::Version(2, 0))));
    }
}
