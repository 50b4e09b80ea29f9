//! One connection's transport: bytes in, packets out, and the other way round, in either role.
//!
//! It holds no socket and no clock. Whoever drives it appends what the socket gives to [`Transport::input`], calls
//! [`Transport::next`] until that wants more, and writes out [`Transport::output`]. It grants no windows and knows no
//! channel: it carries packets, and how many are under way is for both of its ends to say.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand;
use bytes::{Bytes, BytesMut};

use crate::algorithm::{Cipher, Negotiated};
use crate::config::{ClientConfig, RekeyAfter, ServerConfig};
use crate::error::TransportError;
use crate::host_key;
use crate::kex_init::{self, Agreed, EXT_INFO_CLIENT, Offer, STRICT_CLIENT, STRICT_SERVER};
use crate::key_exchange::{self, ClientHalf, Derivation, Hash, Secret, Transcript};
use crate::message;
use crate::seal::{Direction, MAX_FIRST_PACKET, MAX_PACKET, MAX_PAYLOAD, Opener, Padding, Sealer};
use crate::version::{self, IDENTIFICATION};
use crate::wire::{Reader, Short, names, put_string};

/// What a server accepts as signatures from users (RFC 8308 §3.1); nothing with SHA-1 is among it.
pub const SERVER_SIG_ALGS: &str = "ssh-ed25519,sk-ssh-ed25519@openssh.com,sk-ecdsa-sha2-nistp256@openssh.com,\
                                   ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,\
                                   rsa-sha2-256";

/// Lines that a server may say before its identification.
const PRECEDING_LINES: usize = 20;
/// Packets in a first key exchange: three are needed, and without strict key exchange a few more are harmless.
const MAX_FIRST_PACKETS: u64 = 64;
/// Output that may lie unread while the peer asks for replies that it could count on our memory for.
const MAX_UNREAD: usize = 4 << 20;
/// Extensions in one EXT_INFO.
const MAX_EXTENSIONS: u32 = 256;
/// Names in `server-sig-algs`.
const MAX_SIG_ALGS: usize = 256;
/// Sequence numbers have 32 bits, so that no more packets than this go under one key, whatever is configured.
const MAX_PACKETS: u64 = 1 << 31;
/// How many packets a peer may still send after a key exchange is due.
const MAX_PACKETS_OVERDUE: u64 = MAX_PACKETS + (1 << 30);

/// What came out of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first key exchange is over in both directions. Comes exactly once, before any packet.
    Ready,
    /// The payload of a packet, opened in place in the input's buffer. Never empty. It is a message of a service,
    /// of authentication or of the connection protocol; the transport's own never come out.
    Packet(Bytes),
    /// The peer has ended the connection. Nothing comes after it.
    Disconnected {
        /// RFC 4250 §4.2.2
        reason: u32,
        /// What it said, with anything but printable characters replaced.
        text: String,
    },
}

enum Role {
    Server(Arc<ServerConfig>),
    Client(Box<ClientConfig>),
}

/// Where the key exchange stands.
enum Exchange {
    /// None is running (or the identification lines aren't exchanged yet).
    Idle,
    /// Our KEXINIT, of this payload, is sent.
    Begun(Vec<u8>),
    /// Both KEXINITs are there, and the other side's public value is due.
    Agreed(Box<Pending>),
    /// All is sent, and the peer's NEWKEYS is due: from there on this opens its packets.
    NewKeys(Box<Opener>),
}

struct Pending {
    agreed: Agreed,
    client_kex_init: Vec<u8>,
    server_kex_init: Vec<u8>,
    /// The next packet of the exchange is a wrong guess, to be ignored.
    skip: bool,
    /// The peer takes EXT_INFO.
    wants_extensions: bool,
    /// What the client has kept to itself, and has sent.
    client: Option<(ClientHalf, Vec<u8>)>,
}

/// What went one way under the present keys.
#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    bytes: u64,
    packets: u64,
}

impl Traffic {
    fn add(&mut self, payload: usize) {
        self.bytes += payload as u64;
        self.packets += 1;
    }

    fn due(self, after: RekeyAfter) -> bool {
        self.bytes >= after.bytes || self.packets >= after.packets.min(MAX_PACKETS)
    }
}

/// The transport of one connection.
///
/// Every error of [`next`](Self::next) is final: it has put a DISCONNECT into the output, and from then on everything
/// fails with [`TransportError::Closed`]. Whoever drives it should write out what is in the output and hang up.
///
/// The output is not bounded here, since only [`send`](Self::send) fills it in bulk: don't send, and don't feed input,
/// while more lies in it than you want to hold.
pub struct Transport {
    role: Role,
    input: BytesMut,
    output: BytesMut,
    peer_version: Option<String>,
    preceding: usize,
    sealer: Sealer,
    opener: Opener,
    sequence_out: u32,
    sequence_in: u32,
    /// The sequence number of the packet that came out last.
    last_in: u32,
    traffic_out: Traffic,
    traffic_in: Traffic,
    padding: Padding,
    exchange: Exchange,
    /// From our KEXINIT until our NEWKEYS only messages of the exchange may be sent (RFC 4253 §7.1).
    holding: bool,
    queue: VecDeque<Vec<u8>>,
    queued: usize,
    ready: bool,
    key_exchanges: u64,
    over: bool,
    strict: bool,
    session_id: Option<Hash>,
    negotiated: Option<Negotiated>,
    host_key: Option<Vec<u8>>,
    server_sig_algs: Option<Vec<String>>,
}

impl Transport {
    /// The server's end of a connection. Its identification line is in the output.
    pub fn server(config: Arc<ServerConfig>) -> Self {
        Self::new(Role::Server(config), 0)
    }

    /// The client's end of a connection. Its identification line is in the output.
    pub fn client(config: ClientConfig) -> Self {
        Self::new(Role::Client(Box::new(config)), PRECEDING_LINES)
    }

    fn new(role: Role, preceding: usize) -> Self {
        let mut output = BytesMut::with_capacity(4096);
        output.extend_from_slice(IDENTIFICATION.as_bytes());
        output.extend_from_slice(b"\r\n");
        Self {
            role,
            input: BytesMut::new(),
            output,
            peer_version: None,
            preceding,
            sealer: Sealer::plain(),
            opener: Opener::plain(),
            sequence_out: 0,
            sequence_in: 0,
            last_in: 0,
            traffic_out: Traffic::default(),
            traffic_in: Traffic::default(),
            padding: Padding::new(),
            exchange: Exchange::Idle,
            holding: true,
            queue: VecDeque::new(),
            queued: 0,
            ready: false,
            key_exchanges: 0,
            over: false,
            strict: false,
            session_id: None,
            negotiated: None,
            host_key: None,
            server_sig_algs: None,
        }
    }

    /// Where to append what the socket gives. Only append: what is in it belongs to the transport.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// What to write to the socket. Take from its front whatever has been written.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// The next event of the input; `None` if more input is needed. Handles all of the transport's own messages, so
    /// that it may fill the output whatever it returns.
    #[allow(clippy::should_implement_trait, reason = "fallible, and ends are not final: more input brings more")]
    pub fn next(&mut self) -> Result<Option<Event>, TransportError> {
        if self.over {
            return Err(TransportError::Closed);
        }
        self.step().inspect_err(|error| match error {
            // What a key was compared with is no business of a server that isn't the right one.
            TransportError::HostKeyRefused(_) => self.disconnect(error.reason(), "the host key is refused"),
            _ => self.disconnect(error.reason(), &error.to_string()),
        })
    }

    /// Sends a packet of this payload, given in parts that are joined on the way. Nothing is copied but into the
    /// packet. Before the first and during any later key exchange it waits, in order, for the exchange to finish.
    ///
    /// [`TransportError::QueueFull`] and [`TransportError::PayloadLength`] mean that this payload was not taken, and
    /// nothing else; any other error is final.
    pub fn send(&mut self, parts: &[&[u8]]) -> Result<(), TransportError> {
        if self.over {
            return Err(TransportError::Closed);
        }
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length == 0 || length > MAX_PAYLOAD {
            return Err(TransportError::PayloadLength { length });
        }
        if !self.holding {
            // The due exchange begins behind the packet that made it due.
            return self.seal(parts).and_then(|()| self.rekey_if_due()).inspect_err(|_| self.over = true);
        }
        let limit = match &self.role {
            Role::Server(config) => config.max_queue,
            Role::Client(config) => config.max_queue,
        };
        // Each waiting payload counts a little more than its bytes, so that a flood of tiny ones is bounded too.
        let cost = length + QUEUED_COST;
        if self.queued + cost > limit {
            return Err(TransportError::QueueFull { limit });
        }
        self.queued += cost;
        self.queue.push_back(parts.concat());
        Ok(())
    }

    /// Bytes that wait for a key exchange to finish. Whoever sees this grow should stop reading from where they come.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Answers the packet that came out last with UNIMPLEMENTED (RFC 4253 §11.4): for messages that no one knows.
    pub fn unimplemented(&mut self) -> Result<(), TransportError> {
        let sequence = self.last_in.to_be_bytes();
        self.send(&[&[message::UNIMPLEMENTED], &sequence])
    }

    /// Renews the keys now, unless that is under way. Does nothing before [`Event::Ready`].
    pub fn rekey(&mut self) -> Result<(), TransportError> {
        if self.over {
            return Err(TransportError::Closed);
        }
        if self.ready && matches!(self.exchange, Exchange::Idle) { self.begin() } else { Ok(()) }
    }

    /// The identifier that signatures of authentication are bound to: the first exchange's hash.
    pub fn session_id(&self) -> Option<&[u8]> {
        self.session_id.as_ref().map(|id| id.as_slice())
    }

    /// What the latest finished negotiation came to.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref()
    }

    /// As a client: the signature algorithms that the server accepts from users, once it has said so (RFC 8308).
    pub fn server_sig_algs(&self) -> Option<&[String]> {
        self.server_sig_algs.as_deref()
    }

    /// How many key exchanges are finished in both directions.
    pub fn key_exchanges(&self) -> u64 {
        self.key_exchanges
    }

    /// Whether the connection is over for this transport.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Ends the connection: puts a DISCONNECT with this reason (RFC 4250 §4.2.2) and text into the output. What waits
    /// for a key exchange is dropped.
    pub fn disconnect(&mut self, reason: u32, text: &str) {
        if self.over {
            return;
        }
        self.over = true;
        self.queue.clear();
        self.queued = 0;
        // Who hasn't said that it speaks SSH gets no packet.
        if self.peer_version.is_none() {
            return;
        }
        let mut text = text.as_bytes();
        text = &text[..text.len().min(1024)];
        let length = (text.len() as u32).to_be_bytes();
        let reason = reason.to_be_bytes();
        // A failure to seal the farewell changes nothing: the connection is over.
        let _ = self.seal(&[&[message::DISCONNECT], &reason, &length, text, &[0; 4]]);
    }

    fn is_client(&self) -> bool {
        matches!(self.role, Role::Client(_))
    }

    fn rekey_after(&self) -> RekeyAfter {
        match &self.role {
            Role::Server(config) => config.rekey_after,
            Role::Client(config) => config.rekey_after,
        }
    }

    fn step(&mut self) -> Result<Option<Event>, TransportError> {
        if self.peer_version.is_none() {
            let Some(version) = version::take(&mut self.input, &mut self.preceding)? else { return Ok(None) };
            self.peer_version = Some(version);
            self.begin()?;
        }
        loop {
            let limit = if self.ready { MAX_PACKET } else { MAX_FIRST_PACKET };
            let Some(payload) = self.opener.open(&mut self.input, self.sequence_in, limit)? else { return Ok(None) };
            self.last_in = self.sequence_in;
            self.sequence_in = self.sequence_in.wrapping_add(1);
            self.traffic_in.add(payload.len());
            if self.traffic_in.packets > MAX_PACKETS_OVERDUE {
                return Err(TransportError::RekeyOverdue);
            }
            if let Some(event) = self.receive(payload)? {
                return Ok(Some(event));
            }
        }
    }

    fn receive(&mut self, payload: Bytes) -> Result<Option<Event>, TransportError> {
        let kind = *payload.first().ok_or(TransportError::PacketMalformed)?;
        if kind == message::DISCONNECT {
            let (reason, text) =
                read_disconnect(&payload).map_err(|Short| TransportError::MessageMalformed { message: kind })?;
            self.over = true;
            return Ok(Some(Event::Disconnected { reason, text }));
        }
        if !self.ready {
            self.receive_first(kind)?;
        }
        match kind {
            // In a strict first exchange these don't get here.
            message::IGNORE | message::DEBUG | message::UNIMPLEMENTED => Ok(None),
            message::KEXINIT => self.receive_kex_init(payload).map(|()| None),
            _ => match &self.exchange {
                Exchange::Idle | Exchange::Begun(_) if self.ready => self.receive_settled(kind, payload),
                Exchange::Agreed(_) => self.receive_public(kind, &payload).map(|()| None),
                Exchange::NewKeys(_) => self.receive_new_keys(&payload),
                Exchange::Idle | Exchange::Begun(_) => {
                    Err(TransportError::MessageUnexpected { message: kind, during: BEFORE_KEYS })
                }
            },
        }
    }

    /// What is special about the first exchange: until it is over anybody on the way can insert packets.
    fn receive_first(&mut self, kind: u8) -> Result<(), TransportError> {
        if self.strict && matches!(kind, message::IGNORE | message::DEBUG | message::UNIMPLEMENTED) {
            return Err(TransportError::MessageUnexpected { message: kind, during: "in a strict key exchange" });
        }
        if self.traffic_in.packets > MAX_FIRST_PACKETS {
            return Err(TransportError::MessageUnexpected { message: kind, during: BEFORE_KEYS });
        }
        Ok(())
    }

    /// A message while no exchange has come so far as to exclude it.
    fn receive_settled(&mut self, kind: u8, payload: Bytes) -> Result<Option<Event>, TransportError> {
        match kind {
            message::EXT_INFO => {
                self.read_extensions(&payload).map_err(|Short| TransportError::MessageMalformed { message: kind })?;
                Ok(None)
            }
            message::PING => {
                let mut reader = Reader::new(&payload[1..]);
                reader
                    .string()
                    .and_then(|_| reader.end())
                    .map_err(|Short| TransportError::MessageMalformed { message: kind })?;
                self.reply(&[&[message::PONG], &payload[1..]])?;
                self.rekey_if_due()?;
                Ok(None)
            }
            // We never ask.
            message::PONG => Ok(None),
            message::SERVICE_REQUEST | message::SERVICE_ACCEPT => self.packet(payload),
            message::KEXINIT..=message::LAST_OF_TRANSPORT => {
                Err(TransportError::MessageUnexpected { message: kind, during: "outside a key exchange" })
            }
            0..message::KEXINIT => {
                let sequence = self.last_in.to_be_bytes();
                self.reply(&[&[message::UNIMPLEMENTED], &sequence])?;
                Ok(None)
            }
            _ => self.packet(payload),
        }
    }

    fn packet(&mut self, payload: Bytes) -> Result<Option<Event>, TransportError> {
        self.rekey_if_due()?;
        Ok(Some(Event::Packet(payload)))
    }

    fn receive_kex_init(&mut self, payload: Bytes) -> Result<(), TransportError> {
        let unexpected = TransportError::MessageUnexpected { message: message::KEXINIT, during: "in a key exchange" };
        if matches!(self.exchange, Exchange::Idle) {
            self.check_unread()?;
            self.begin()?;
        }
        let ours = match std::mem::replace(&mut self.exchange, Exchange::Idle) {
            Exchange::Begun(ours) => ours,
            _ => return Err(unexpected),
        };
        let malformed = |Short| TransportError::MessageMalformed { message: message::KEXINIT };
        let our_offer = Offer::parse(&ours).map_err(malformed)?;
        let their_offer = Offer::parse(&payload).map_err(malformed)?;
        let client = self.is_client();
        let mut wants_extensions = false;
        if !self.ready {
            // The markers count in the first exchange only.
            self.strict = their_offer.has(if client { STRICT_SERVER } else { STRICT_CLIENT });
            if self.strict && self.sequence_in != 1 {
                return Err(TransportError::KexInitNotFirst);
            }
            wants_extensions = !client && their_offer.has(EXT_INFO_CLIENT);
        }
        let agreed = kex_init::agree(&our_offer, &their_offer, client)?;
        if !self.strict && agreed.ciphers.contains(&Cipher::ChaCha20Poly1305) {
            return Err(TransportError::StrictRequired);
        }
        let theirs = payload.to_vec();
        let (client_kex_init, server_kex_init) = if client { (ours, theirs) } else { (theirs, ours) };
        let mut pending = Pending {
            agreed,
            client_kex_init,
            server_kex_init,
            skip: agreed.wrong_guess,
            wants_extensions,
            client: None,
        };
        if client {
            let (half, public) = key_exchange::client_half(agreed.kex)?;
            let length = (public.len() as u32).to_be_bytes();
            self.seal(&[&[message::KEX_INIT], &length, &public])?;
            pending.client = Some((half, public));
        }
        self.exchange = Exchange::Agreed(Box::new(pending));
        Ok(())
    }

    /// The other side's public value.
    fn receive_public(&mut self, kind: u8, payload: &[u8]) -> Result<(), TransportError> {
        let unexpected = TransportError::MessageUnexpected { message: kind, during: "in a key exchange" };
        let Exchange::Agreed(pending) = &mut self.exchange else { return Err(unexpected) };
        if pending.skip && (message::KEX_INIT..=message::LAST_OF_TRANSPORT).contains(&kind) {
            pending.skip = false;
            return Ok(());
        }
        let due = if pending.client.is_some() { message::KEX_REPLY } else { message::KEX_INIT };
        if kind != due {
            return Err(unexpected);
        }
        let Exchange::Agreed(pending) = std::mem::replace(&mut self.exchange, Exchange::Idle) else {
            return Err(unexpected);
        };
        let mut reader = Reader::new(&payload[1..]);
        let malformed = |Short| TransportError::MessageMalformed { message: kind };
        let Pending { agreed, client_kex_init, server_kex_init, wants_extensions, client, .. } = *pending;
        let peer_version = self.peer_version.clone().unwrap_or_default();
        let (secret, hash) = match (&mut self.role, client) {
            (Role::Client(config), Some((half, client_public))) => {
                let (blob, server_public, signature) = (
                    reader.string().map_err(malformed)?,
                    reader.string().map_err(malformed)?,
                    reader.string().map_err(malformed)?,
                );
                reader.end().map_err(malformed)?;
                let secret = half.finish(server_public)?;
                let hash = Transcript {
                    client_version: IDENTIFICATION,
                    server_version: &peer_version,
                    client_kex_init: &client_kex_init,
                    server_kex_init: &server_kex_init,
                    host_key: blob,
                    client_public: &client_public,
                    server_public,
                }
                .hash(&secret);
                let offer = host_key::verify(agreed.host_key, blob, signature, &hash)?;
                match &self.host_key {
                    // The verifier has judged this very key; a certificate that lapses meanwhile ends no connection.
                    Some(first) if first == blob => {}
                    Some(_) => return Err(TransportError::HostKeyChanged),
                    None => {
                        (config.verify)(&offer)?;
                        self.host_key = Some(blob.to_vec());
                    }
                }
                (secret, hash)
            }
            (Role::Server(config), None) => {
                let client_public = reader.string().map_err(malformed)?;
                reader.end().map_err(malformed)?;
                let (server_public, secret) = key_exchange::server_answer(agreed.kex, client_public)?;
                let blob = match &config.certificate_blob {
                    Some(certificate) if agreed.host_key.is_certificate() => certificate,
                    _ => &config.key_blob,
                };
                let hash = Transcript {
                    client_version: &peer_version,
                    server_version: IDENTIFICATION,
                    client_kex_init: &client_kex_init,
                    server_kex_init: &server_kex_init,
                    host_key: blob,
                    client_public,
                    server_public: &server_public,
                }
                .hash(&secret);
                let signature = host_key::sign(&config.key, &hash);
                let mut reply = Vec::with_capacity(2048);
                reply.push(message::KEX_REPLY);
                for part in [blob, &server_public, &signature] {
                    put_string(&mut reply, part);
                }
                self.seal(&[&reply])?;
                (secret, hash)
            }
            _ => return Err(unexpected),
        };
        self.take_keys(agreed, &secret, hash, peer_version, wants_extensions)
    }

    /// Says NEWKEYS, seals with the new keys from here on, and has those for opening ready.
    fn take_keys(
        &mut self,
        agreed: Agreed,
        secret: &Secret,
        hash: Hash,
        peer_version: String,
        wants_extensions: bool,
    ) -> Result<(), TransportError> {
        let session_id = *self.session_id.get_or_insert(hash);
        let derivation = Derivation { secret, hash: &hash, session_id: &session_id };
        let [to_server, to_client] = agreed.ciphers;
        let up = (to_server, Direction::ClientToServer);
        let down = (to_client, Direction::ServerToClient);
        let ((out_cipher, out), (in_cipher, inwards)) = if self.is_client() { (up, down) } else { (down, up) };
        let sealer = Sealer::new(out_cipher, &derivation, out)?;
        let opener = Opener::new(in_cipher, &derivation, inwards)?;
        self.seal(&[&[message::NEWKEYS]])?;
        self.sealer = sealer;
        self.traffic_out = Traffic::default();
        if self.strict {
            self.sequence_out = 0;
        }
        self.exchange = Exchange::NewKeys(Box::new(opener));
        self.negotiated = Some(Negotiated {
            kex: agreed.kex,
            host_key: agreed.host_key,
            client_to_server: to_server,
            server_to_client: to_client,
            strict: self.strict,
            peer_version,
        });
        // It has to be the very next packet (RFC 8308 §2.4).
        if wants_extensions {
            self.seal(&[&extensions()])?;
        }
        self.holding = false;
        while let Some(payload) = self.queue.pop_front() {
            self.queued -= payload.len() + QUEUED_COST;
            self.seal(&[&payload])?;
        }
        Ok(())
    }

    fn receive_new_keys(&mut self, payload: &[u8]) -> Result<Option<Event>, TransportError> {
        let kind = payload.first().copied().unwrap_or_default();
        if kind != message::NEWKEYS {
            return Err(TransportError::MessageUnexpected { message: kind, during: "in a key exchange" });
        }
        if payload.len() != 1 {
            return Err(TransportError::MessageMalformed { message: kind });
        }
        let Exchange::NewKeys(opener) = std::mem::replace(&mut self.exchange, Exchange::Idle) else {
            return Err(TransportError::MessageUnexpected { message: kind, during: "outside a key exchange" });
        };
        self.opener = *opener;
        self.traffic_in = Traffic::default();
        self.key_exchanges += 1;
        if self.strict {
            self.sequence_in = 0;
        }
        if self.ready {
            return Ok(None);
        }
        self.ready = true;
        Ok(Some(Event::Ready))
    }

    /// Sends our KEXINIT; from here on nothing else goes out until NEWKEYS.
    fn begin(&mut self) -> Result<(), TransportError> {
        let mut cookie = [0; 16];
        rand::fill(&mut cookie).map_err(|_| TransportError::Crypto)?;
        let ours = match &self.role {
            Role::Server(config) => {
                let markers: &[&str] = if self.ready { &[] } else { &[STRICT_SERVER] };
                kex_init::write(cookie, &config.algorithms, config.host_key_algorithms(), markers)
            }
            Role::Client(config) => {
                let markers: &[&str] = if self.ready { &[] } else { &[EXT_INFO_CLIENT, STRICT_CLIENT] };
                kex_init::write(cookie, &config.algorithms, config.host_key_algorithms(), markers)
            }
        };
        self.seal(&[&ours])?;
        self.holding = true;
        self.exchange = Exchange::Begun(ours);
        Ok(())
    }

    fn rekey_if_due(&mut self) -> Result<(), TransportError> {
        let after = self.rekey_after();
        if self.traffic_out.due(after) || self.traffic_in.due(after) { self.rekey() } else { Ok(()) }
    }

    /// A reply that the peer has asked for, which it must also read.
    fn reply(&mut self, parts: &[&[u8]]) -> Result<(), TransportError> {
        self.check_unread()?;
        match self.send(parts) {
            Err(TransportError::QueueFull { .. }) => Err(TransportError::RepliesUnread),
            other => other,
        }
    }

    fn check_unread(&self) -> Result<(), TransportError> {
        if self.output.len() > MAX_UNREAD { Err(TransportError::RepliesUnread) } else { Ok(()) }
    }

    fn seal(&mut self, parts: &[&[u8]]) -> Result<(), TransportError> {
        let before = self.output.len();
        self.sealer.seal(&mut self.output, parts, self.sequence_out, &mut self.padding)?;
        self.sequence_out = self.sequence_out.wrapping_add(1);
        self.traffic_out.add(self.output.len() - before);
        Ok(())
    }

    fn read_extensions(&mut self, payload: &[u8]) -> Result<(), Short> {
        let mut reader = Reader::new(&payload[1..]);
        let count = reader.uint32()?;
        if count > MAX_EXTENSIONS {
            return Err(Short);
        }
        for _extension in 0..count {
            let (name, value) = (reader.string()?, reader.string()?);
            if name == b"server-sig-algs" && self.is_client() {
                self.server_sig_algs = Some(names(value, MAX_SIG_ALGS)?.into_iter().map(str::to_owned).collect());
            }
        }
        reader.end()
    }
}

/// What a waiting payload counts besides its bytes.
const QUEUED_COST: usize = 64;

const BEFORE_KEYS: &str = "before the first keys";

/// Our EXT_INFO as a server. `ping@openssh.com` lets clients hide the rhythm of their keystrokes in chaff.
fn extensions() -> Vec<u8> {
    let mut out = vec![message::EXT_INFO, 0, 0, 0, 2];
    for (name, value) in [("server-sig-algs", SERVER_SIG_ALGS), ("ping@openssh.com", "0")] {
        put_string(&mut out, name.as_bytes());
        put_string(&mut out, value.as_bytes());
    }
    out
}

fn read_disconnect(payload: &[u8]) -> Result<(u32, String), Short> {
    let mut reader = Reader::new(&payload[1..]);
    let reason = reader.uint32()?;
    let text = reader.string()?;
    let text = String::from_utf8_lossy(&text[..text.len().min(1024)]);
    // It ends up on someone's terminal or in a log.
    let text = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    Ok((reason, text))
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("role", &if self.is_client() { "client" } else { "server" })
            .field("ready", &self.ready)
            .field("over", &self.over)
            .field("negotiated", &self.negotiated)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ssh_key::PrivateKey;
    use ssh_key::private::{Ed25519Keypair, KeypairData};

    use super::*;

    fn server_config(seed: u8) -> Arc<ServerConfig> {
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32]));
        Arc::new(ServerConfig::new(&PrivateKey::new(pair, "").unwrap(), None).unwrap())
    }

    fn pump(client: &mut Transport, server: &mut Transport) -> Result<(), TransportError> {
        while !client.output.is_empty() || !server.output.is_empty() {
            let bytes = client.output.split();
            server.input.extend_from_slice(&bytes);
            while server.next()?.is_some() {}
            let bytes = server.output.split();
            client.input.extend_from_slice(&bytes);
            while client.next()?.is_some() {}
        }
        Ok(())
    }

    fn pair() -> (Transport, Transport) {
        let mut client = Transport::client(ClientConfig::new(Box::new(|_| Ok(()))));
        let mut server = Transport::server(server_config(1));
        pump(&mut client, &mut server).unwrap();
        assert!(client.ready && server.ready);
        (client, server)
    }

    #[test]
    fn another_host_key_in_a_later_exchange_is_refused() {
        let (mut client, mut server) = pair();
        client.rekey().unwrap();
        pump(&mut client, &mut server).unwrap();
        assert_eq!(client.key_exchanges(), 2);
        server.role = Role::Server(server_config(2));
        client.rekey().unwrap();
        assert_eq!(pump(&mut client, &mut server), Err(TransportError::HostKeyChanged));
    }

    #[test]
    fn strict_exchanges_reset_the_sequence_numbers_each_time() {
        let (mut client, mut server) = pair();
        for _ in 0..3 {
            for _ in 0..10 {
                client.send(&[&[94]]).unwrap();
            }
            server.rekey().unwrap();
            pump(&mut client, &mut server).unwrap();
            assert_eq!((client.sequence_in, client.sequence_out), (server.sequence_out, server.sequence_in));
            assert!(client.sequence_out < 10, "{}", client.sequence_out);
        }
    }

    #[test]
    fn a_peer_that_never_answers_a_due_exchange_is_cut_off() {
        let (mut client, mut server) = pair();
        server.traffic_in.packets = MAX_PACKETS_OVERDUE;
        client.send(&[&[94]]).unwrap();
        assert_eq!(pump(&mut client, &mut server), Err(TransportError::RekeyOverdue));
    }

    #[test]
    fn a_peer_that_asks_without_reading_is_cut_off() {
        let (mut client, mut server) = pair();
        let mut ping = vec![message::PING];
        put_string(&mut ping, &[7; 32768]);
        let error = loop {
            client.send(&[&ping]).unwrap();
            let bytes = client.output.split();
            server.input.extend_from_slice(&bytes);
            if let Err(error) = server.next() {
                break error;
            }
            assert!(server.output.len() < 2 * MAX_UNREAD);
        };
        assert_eq!(error, TransportError::RepliesUnread);
    }

    #[test]
    fn the_key_exchange_messages_have_no_place_outside_it() {
        for kind in [message::NEWKEYS, message::KEX_INIT, message::KEX_REPLY, 40] {
            let (mut client, mut server) = pair();
            client.send(&[&[kind]]).unwrap();
            assert!(
                matches!(pump(&mut client, &mut server), Err(TransportError::MessageUnexpected { message, .. }) if message == kind)
            );
        }
    }

    #[test]
    fn services_may_not_speak_between_kexinit_and_newkeys() {
        let (mut client, mut server) = pair();
        client.rekey().unwrap();
        // What a client that doesn't keep to RFC 4253 §7.1 would do.
        client.seal(&[&[94, 1]]).unwrap();
        assert_eq!(
            pump(&mut client, &mut server),
            Err(TransportError::MessageUnexpected { message: 94, during: "in a key exchange" })
        );
    }
}
