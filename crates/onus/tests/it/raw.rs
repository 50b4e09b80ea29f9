//! A client that may do what no driver would: the protocol by hand, over TLS with a person's certificate.

use onus_testkit::Rig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection after TLS.
pub struct Raw {
    /// The stream.
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    /// Process number and key for cancel requests, once it is in.
    pub key: (i32, Vec<u8>),
}

/// A message: its type and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub kind: u8,
    /// What it says.
    pub body: Vec<u8>,
}

impl Message {
    /// A field of an ErrorResponse or NoticeResponse.
    pub fn field(&self, code: u8) -> String {
        let fields = self.body.split(|byte| *byte == 0);
        let found = fields.filter_map(|field| field.split_first()).find(|(first, _)| **first == code);
        found.map(|(_, text)| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    }
}

/// What a client of this person's trusts and shows.
pub fn tls(rig: &Rig, who: &str) -> Arc<ClientConfig> {
    let home = rig.home(who);
    let certificates = |name: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(home.join(name)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates("ca.pem"));
    let key = PrivateKeyDer::from_pem_file(home.join("client.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates("client.pem"), key)
        .unwrap();
    Arc::new(config)
}

/// A plain connection to the PostgreSQL door.
pub fn plain(rig: &Rig) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", rig.pg_port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A start-up message of a version with these pairs.
pub fn startup(version: i32, pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in pairs {
        for text in [name, value] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    let mut packet = (body.len() as i32 + 4).to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

/// Everything until the other side closes. A reset counts as closed: bytes of ours may have been unread.
pub fn rest(stream: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("the gateway neither answered nor closed; until then: {:?}", String::from_utf8_lossy(&all))
            }
            Err(_) => return all,
        }
    }
}

impl Raw {
    /// Encrypted, and nothing said yet.
    pub fn knock(rig: &Rig, who: &str) -> Self {
        let mut socket = plain(rig);
        socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
        let mut answer = [0];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *b"S");
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(tls(rig, who), name).unwrap();
        Self { stream: StreamOwned::new(connection, socket), key: (0, Vec::new()) }
    }

    /// In, on `orders-db`, and ready.
    pub fn open(rig: &Rig, who: &str) -> Self {
        let mut raw = Self::knock(rig, who);
        raw.stream.write_all(&startup(3 << 16, &[("user", who), ("database", "orders-db")])).unwrap();
        raw.until_ready();
        raw
    }

    /// Sends a message.
    pub fn send(&mut self, kind: u8, body: &[u8]) {
        let mut message = vec![kind];
        message.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
        message.extend_from_slice(body);
        // One that the gateway hangs up on is judged by its answer.
        let _ = self.stream.write_all(&message).and_then(|()| self.stream.flush());
    }

    /// Sends a simple query.
    pub fn query(&mut self, sql: &[u8]) {
        let mut body = sql.to_vec();
        body.push(0);
        self.send(b'Q', &body);
    }

    /// The next message; `None` when the gateway has closed.
    pub fn next(&mut self) -> Option<Message> {
        let mut head = [0; 5];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("the gateway neither answered nor closed")
            }
            Err(_) => return None,
        }
        let length = i32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).ok()?;
        Some(Message { kind: head[0], body })
    }

    /// Everything up to ReadyForQuery, or to the end.
    pub fn until_ready(&mut self) -> Vec<Message> {
        let mut all = Vec::new();
        while let Some(message) = self.next() {
            if message.kind == b'K' {
                let (pid, key) = message.body.split_first_chunk::<4>().unwrap();
                self.key = (i32::from_be_bytes(*pid), key.to_vec());
            }
            let ready = message.kind == b'Z';
            all.push(message);
            if ready {
                break;
            }
        }
        all
    }

    /// Runs a simple query; its messages.
    pub fn run(&mut self, sql: &str) -> Vec<Message> {
        self.query(sql.as_bytes());
        self.until_ready()
    }
}

/// The first error in an answer.
pub fn error(messages: &[Message]) -> &Message {
    messages.iter().find(|message| message.kind == b'E').unwrap_or_else(|| panic!("no error in {messages:?}"))
}

/// Whether an answer ends with ReadyForQuery in this state.
pub fn ready(messages: &[Message], state: u8) -> bool {
    messages.last().is_some_and(|message| message.kind == b'Z' && message.body == [state])
}
