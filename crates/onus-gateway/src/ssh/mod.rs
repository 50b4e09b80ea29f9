//! The SSH door: from an accepted socket to a session task, and back to nothing.
//!
//! The gateway ends SSH on both sides. A client proves itself with a certificate of the login authority and says as its
//! user name who it is and what it wants, `SUBJECT%RESOURCE` or `SUBJECT:ROLE%RESOURCE`. Then comes whether that may
//! exist (`OpenSession`), a credential for it, the connection to the host, and the machine. Only when all of that is done
//! is the client told that it is in; what fails before is told to it in words.

pub mod keys;
pub mod packets;
pub mod target;

use crate::begun::{Begun, NotOpened, Retire};
use crate::control::{now, view_json};
use crate::gateway::Gateway;
use crate::ids;
use crate::session::{self, Ended, Parting, Parts, Stop};
use crate::upstream::UpstreamError;
use bytes::Bytes;
use onus_authn::verify::VerifiedSubject;
use onus_core::command::{Command, OpenSession};
use onus_core::estate::Terminal;
use onus_core::event::{EndReason, SessionTotals};
use onus_core::ids::{CredentialId, ResourceId, RoleId, SessionId, SubjectId};
use onus_core::refusal::Refusal;
use onus_core::time::Millis;
use onus_core::view::Tier;
use onus_issue::ssh_certificate::{Permit, SessionCertificate, SshOrder};
use onus_pep::{Limits, Machine};
use onus_ssh::SshProtocol;
use onus_ssh::message;
use onus_ssh::proxy::{Options, Process, signal_line};
use onus_ssh_transport::auth::{
    Answer, AuthStep, Authenticate, ClientAuth, ClientAuthError, Credential, OfferedKey, ServerAuth,
};
use onus_ssh_transport::{ClientConfig, Event, Transport, TransportError};
use packets::Packets;
use ssh_key::PublicKey;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use target::{Sources, SshCredential, SshTarget};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use zeroize::Zeroizing;

/// How long a client may take to prove itself.
const GRACE: Duration = Duration::from_secs(30);

/// How long a host may take to answer and to let the gateway in.
const LOG_IN: Duration = Duration::from_secs(15);

/// Sockets that are not yet sessions, at one time.
const KNOCKING: usize = 256;

/// How long a session's certificate is good for: long enough to connect.
const CERTIFICATE: Millis = Millis(60_000);

/// Bytes of the client's that may wait for a decision, over all channels of a session.
const WAITING: usize = 4 * 1024 * 1024;

/// What a client asks for by its user name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    subject: SubjectId,
    role: Option<RoleId>,
    resource: ResourceId,
}

impl Wanted {
    /// Reads `SUBJECT%RESOURCE` or `SUBJECT:ROLE%RESOURCE`. A `+` does as well as `%`, which some clients' files
    /// would expand.
    fn parse(user: &str) -> Option<Self> {
        let (who, resource) = user.split_once(['%', '+'])?;
        let (subject, role) = match who.split_once(':') {
            Some((subject, role)) => (subject, Some(RoleId::parse(role).ok()?)),
            None => (who, None),
        };
        Some(Self { subject: SubjectId::parse(subject).ok()?, role, resource: ResourceId::parse(resource).ok()? })
    }
}

/// Who may try to log in: whoever has a certificate of the login authority that is theirs.
struct Door<'a> {
    authority: &'a onus_authn::ssh::SshCa,
    proven: Option<(Wanted, VerifiedSubject)>,
}

impl Authenticate for Door<'_> {
    fn offered(&mut self, user: &str, key: &OfferedKey) -> Answer {
        self.proven = None;
        let refused = |text: String| Answer::Refused { banner: Some(format!("onus: {text}\n")) };
        let Some(wanted) = Wanted::parse(user) else {
            return refused("connect as SUBJECT%RESOURCE, such as alice%web-1, or use `onus ssh-config`".to_owned());
        };
        let Some(certificate) = key.certificate() else {
            // A client offers its other keys too; there is nothing to say about each.
            return Answer::Refused { banner: None };
        };
        match self.authority.verify_user(certificate, now().0) {
            Ok(verified) if verified.subject().as_str() == wanted.subject.as_str() => {
                self.proven = Some((wanted, verified));
                Answer::Acceptable
            }
            Ok(verified) => {
                let whose = verified.subject();
                refused(format!("the certificate is `{whose}`'s, and the connection asks for `{}`", wanted.subject))
            }
            Err(why) => refused(why.to_string()),
        }
    }
}

/// Why a client is turned away, in words for it.
struct TurnedAway(String);

impl From<UpstreamError> for TurnedAway {
    fn from(error: UpstreamError) -> Self {
        Self(format!("the resource cannot be reached: {error}"))
    }
}

impl From<NotOpened> for TurnedAway {
    fn from(why: NotOpened) -> Self {
        match why {
            NotOpened::Refused(refusal) => Self(refusal.to_string()),
            NotOpened::Unavailable(text) => Self(text),
        }
    }
}

impl From<TransportError> for TurnedAway {
    fn from(error: TransportError) -> Self {
        Self(format!("the host's part of the connection failed: {error}"))
    }
}

/// A connection while it is not yet a stream of packets.
struct Raw {
    socket: TcpStream,
    transport: Transport,
}

impl Raw {
    /// The next thing that the other side said; `None` at its end.
    async fn next(&mut self) -> Result<Option<Event>, TransportError> {
        loop {
            let event = self.transport.next();
            self.flush().await;
            if let Some(event) = event? {
                return Ok(Some(event));
            }
            let input = self.transport.input();
            input.reserve(4096);
            match self.socket.read_buf(input).await {
                Ok(n) if n > 0 => {}
                _ => return Ok(None),
            }
        }
    }

    /// Writes what is to be said. A peer that is gone shows at the next reading.
    async fn flush(&mut self) {
        let output = self.transport.output();
        if !output.is_empty() {
            let bytes = output.split();
            let _ = self.socket.write_all(&bytes).await;
        }
    }

    async fn send(&mut self, payloads: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<(), TransportError> {
        for payload in payloads {
            self.transport.send(&[payload.as_ref()])?;
        }
        self.flush().await;
        Ok(())
    }

    /// Says why, and hangs up.
    async fn bye(&mut self, reason: u32, text: &str) {
        self.transport.disconnect(reason, text);
        self.flush().await;
        let _ = self.socket.shutdown().await;
    }
}

impl Gateway {
    /// Takes in SSH clients until `stop` turns true.
    pub async fn serve_ssh(self: Arc<Self>, listener: TcpListener, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let knocking = Arc::new(tokio::sync::Semaphore::new(KNOCKING));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a client could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            // Beyond the bound the socket is closed at once, rather than kept waiting with those who only knock.
            let Ok(permit) = Arc::clone(&knocking).try_acquire_owned() else { continue };
            let gateway = Arc::clone(&self);
            tokio::spawn(async move {
                let admitted = tokio::time::timeout(GRACE, Box::pin(gateway.admit_ssh(socket))).await;
                if let Ok(Some((client, wanted, verified, welcome))) = admitted {
                    // Boxed: what opening needs is large, and must not stay with the session for its whole life.
                    Box::pin(gateway.open_ssh(client, peer, wanted, verified, welcome, permit)).await;
                }
            });
        }
    }

    /// From a socket to a subject that proved itself and was not yet told so. `None`: it was answered and is closed.
    async fn admit_ssh(&self, socket: TcpStream) -> Option<(Raw, Wanted, VerifiedSubject, AuthStep)> {
        socket.set_nodelay(true).ok()?;
        crate::door::keep_alive(&socket).ok()?;
        let mut client = Raw { socket, transport: Transport::server(Arc::clone(&self.ssh.server)) };
        let mut auth = None;
        let mut door = Door { authority: &self.ssh.login, proven: None };
        loop {
            match client.next().await {
                Ok(Some(Event::Ready)) => auth = client.transport.session_id().map(ServerAuth::new),
                Ok(Some(Event::Packet(payload))) => {
                    let step = match auth.as_mut()?.packet(&payload, &mut door) {
                        Ok(step) => step,
                        Err(error) => {
                            client.bye(error.disconnect_reason(), &error.to_string()).await;
                            return None;
                        }
                    };
                    if step.done.is_some() {
                        let (wanted, verified) = door.proven.take()?;
                        return Some((client, wanted, verified, step));
                    }
                    client.send(&step.replies).await.ok()?;
                }
                // The transport has said what was wrong, if there was anybody to hear it.
                _ => return None,
            }
        }
    }

    /// From a known subject to a session, and through it.
    async fn open_ssh(
        self: Arc<Self>,
        mut client: Raw,
        peer: SocketAddr,
        wanted: Wanted,
        verified: VerifiedSubject,
        welcome: AuthStep,
        permit: tokio::sync::OwnedSemaphorePermit,
    ) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            client.bye(12, "onus: the gateway has as many sessions as it may have; try again later").await;
            return;
        };
        let prepared = self.prepare_ssh(peer, &wanted, &verified).await;
        drop(permit);
        match prepared {
            Ok(prepared) => self.live_ssh(client, prepared, welcome).await,
            Err(TurnedAway(text)) => client.bye(11, &format!("onus: {text}")).await,
        }
        drop(slot);
    }

    /// Opens the session in the ledger, makes its credential, and logs in upstream.
    async fn prepare_ssh(
        self: &Arc<Self>,
        peer: SocketAddr,
        wanted: &Wanted,
        verified: &VerifiedSubject,
    ) -> Result<Prepared, TurnedAway> {
        let resource = wanted.resource.clone();
        let target = {
            let state = self.shared().state();
            let declared = state.estate.resources.get(&resource).filter(|declared| declared.protocol == "ssh");
            let Some(declared) = declared else {
                return Err(TurnedAway(Refusal::UnknownResource(resource).to_string()));
            };
            SshTarget::parse(&resource, declared)?
        };
        let id = ids::session();
        let open = OpenSession {
            id: id.clone(),
            subject: wanted.subject.clone(),
            resource,
            role: wanted.role.clone(),
            database: String::new(),
            key: verified.fingerprint().as_str().to_owned(),
            source: peer.to_string(),
            gateway: self.settings.name.clone(),
            tier: Tier::Mediated,
        };
        let (mut with, mut own) = (Vec::new(), None);
        if target.credential == SshCredential::SessionCertificate {
            let credential = CredentialId::parse(&format!("C-{id}")).map_err(|error| TurnedAway(error.to_string()))?;
            let expires = now().plus(CERTIFICATE);
            with.push(Command::NoteCredential {
                credential: credential.clone(),
                session: id.clone(),
                issuer: "ssh-certificate".to_owned(),
                // The certificate's key id names the session; so does the host's own log.
                name: id.to_string(),
                expires,
            });
            own = Some((credential, Retire::Certificate { expires }));
        }
        let (mut begun, mailbox) = Begun::open(self, open, with, own).await?;
        match self.enter_ssh(&begun, &target).await {
            Ok((upstream, login, raw_shell)) => Ok(Prepared { begun, target, upstream, login, raw_shell, mailbox }),
            Err(away) => {
                let what = away.0.clone();
                tokio::spawn(async move {
                    begun.end(EndReason::Fault { what }, SessionTotals::default(), None, None).await;
                });
                Err(away)
            }
        }
    }

    /// Credential, connection and log-in.
    async fn enter_ssh(self: &Arc<Self>, begun: &Begun, target: &SshTarget) -> Result<(Raw, String, bool), TurnedAway> {
        if !begun.take_view() {
            return Err(TurnedAway("what the session needs was withdrawn a moment ago".to_owned()));
        }
        let session = &begun.session;
        let (login, raw_shell) = {
            let state = self.shared().state();
            let role = state.estate.roles.get(&session.role);
            let login = role.and_then(|role| role.login.clone()).or_else(|| target.login.clone());
            (login, role.is_some_and(|role| role.shell == Terminal::Raw))
        };
        let login = login.ok_or_else(|| {
            let (role, resource) = (&session.role, &session.resource);
            TurnedAway(format!(
                "neither the role `{role}` nor the resource `{resource}` names an account; set `login` in the estate"
            ))
        })?;
        let connecting = self.connect_ssh(begun, target, &login);
        match tokio::time::timeout(LOG_IN, connecting).await {
            Ok(upstream) => Ok((upstream?, login, raw_shell)),
            Err(_) => Err(TurnedAway(format!("`{}` did not answer in time", target.address()))),
        }
    }

    async fn ssh_credential(
        self: &Arc<Self>,
        begun: &Begun,
        target: &SshTarget,
        login: &str,
        from: IpAddr,
    ) -> Result<Credential, TurnedAway> {
        let session = &begun.session;
        if target.credential == SshCredential::SessionCertificate {
            let order = SshOrder {
                session: session.id.clone(),
                subject: session.subject.clone(),
                grant: session.grant.clone(),
                principals: vec![login.to_owned()],
                sources: match &target.sources {
                    Sources::Own => Some(vec![from]),
                    Sources::These(addresses) => Some(addresses.clone()),
                    Sources::Any => None,
                },
                permits: [Permit::Pty, Permit::PortForwarding, Permit::AgentForwarding, Permit::DisplayForwarding]
                    .into(),
                now: now(),
                lifetime: CERTIFICATE,
            };
            let issued = SessionCertificate::issue(&self.ssh.session, &order)
                .map_err(|error| TurnedAway(format!("no certificate could be made: {error}")))?;
            let (key, certificate) = issued.into_parts();
            return Ok(Credential::Certificate { key, certificate: Box::new(certificate) });
        }
        let (gateway, name) = (Arc::clone(self), target.secret.clone());
        let secret = tokio::task::spawn_blocking(move || crate::upstream::stored_secret(&gateway.vault, &name))
            .await
            .map_err(|error| TurnedAway(error.to_string()))??;
        match target.credential {
            SshCredential::StoredPassword => Ok(Credential::Password(secret)),
            _ => keys::private_key(secret.as_bytes())
                .map(Credential::Key)
                .ok_or_else(|| TurnedAway(format!("the secret `{}` is not an unencrypted private key", target.secret))),
        }
    }

    async fn connect_ssh(self: &Arc<Self>, begun: &Begun, target: &SshTarget, login: &str) -> Result<Raw, TurnedAway> {
        let address = target.address();
        let failed = |source: io::Error| UpstreamError::Connect { address: address.clone(), source };
        let socket = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        crate::door::keep_alive(&socket).map_err(failed)?;
        // A v4 address that came mapped into v6 is one that the host sees as v4.
        let from = socket.local_addr().map_err(failed)?.ip().to_canonical();
        let credential = self.ssh_credential(begun, target, login, from).await?;
        let (pinned, host) = (target.host_keys.clone(), target.host.clone());
        let seen: Arc<OnceLock<String>> = Arc::default();
        let note = Arc::clone(&seen);
        let config = ClientConfig::new(Box::new(move |offer| {
            pinned.verify(&host, offer, now().0).inspect_err(|_| {
                let key = PublicKey::from(offer.key_data().clone());
                let _ = note.set(key.fingerprint(ssh_key::HashAlg::Sha256).to_string());
            })
        }));
        let mut upstream = Raw { socket, transport: Transport::client(config) };
        let mut auth: Option<ClientAuth> = None;
        let mut credential = Some(credential);
        loop {
            let event = match upstream.next().await {
                Ok(event) => event,
                Err(TransportError::HostKeyRefused(why)) => {
                    let seen = seen.get().cloned().unwrap_or_default();
                    self.host_key_changed(begun, target, &seen).await;
                    return Err(TurnedAway(format!(
                        "the host key of `{}` is not the one expected: {why}. Nothing was sent to it. If the host was \
                         rebuilt, its owner pins the new key in the estate",
                        begun.session.resource
                    )));
                }
                Err(error) => return Err(error.into()),
            };
            match event {
                Some(Event::Ready) => {
                    let (Some(id), Some(credential)) = (upstream.transport.session_id(), credential.take()) else {
                        return Err(TurnedAway("the host began twice".to_owned()));
                    };
                    let begin =
                        ClientAuth::new(id, login, credential).map_err(|error| TurnedAway(error.to_string()))?;
                    let start = begin.start();
                    auth = Some(begin);
                    upstream.send([start]).await?;
                }
                Some(Event::Packet(payload)) => {
                    let Some(auth) = &mut auth else { return Err(TurnedAway("the host spoke too early".to_owned())) };
                    if let Some(names) = upstream.transport.server_sig_algs() {
                        auth.server_sig_algs(names);
                    }
                    let step = auth.packet(&payload).map_err(|error| TurnedAway(refused_by_host(&error, target)))?;
                    upstream.send(&step.send).await?;
                    if step.done {
                        return Ok(upstream);
                    }
                }
                Some(Event::Disconnected { text, .. }) => {
                    return Err(TurnedAway(format!("the host hung up: {}", onus_terminal::visible(&text))));
                }
                None => return Err(TurnedAway("the host closed the connection during log-in".to_owned())),
            }
        }
    }

    /// A host that shows another key than expected is a signal, and in the ledger.
    async fn host_key_changed(self: &Arc<Self>, begun: &Begun, target: &SshTarget, seen: &str) {
        tracing::warn!(resource = %begun.session.resource, %seen, "a host showed another key than the one expected");
        let note = Command::NoteHostKey {
            resource: begun.session.resource.clone(),
            session: Some(begun.session.id.clone()),
            expected: target.host_keys.expected(),
            seen: seen.to_owned(),
        };
        if let Err(error) = self.give(note, self.actor()).await {
            tracing::warn!(%error, "a changed host key could not be noted");
        }
    }

    /// A session's life, from the word that it is in to the last event.
    async fn live_ssh(self: &Arc<Self>, mut client: Raw, prepared: Prepared, welcome: AuthStep) {
        let Prepared { mut begun, target, upstream, login, raw_shell, mailbox } = prepared;
        let id = begun.session.id.clone();
        self.say_frozen(&mut client, &begun).await;
        let ended = match self.ssh_parts(&begun, &target, login, raw_shell) {
            Ok((machine, journal, policy, counters, stop)) => match client.send(&welcome.replies).await {
                Ok(()) => {
                    let parts = Parts {
                        id: id.clone(),
                        machine,
                        client: Packets::new(client.socket, client.transport),
                        upstream: Packets::new(upstream.socket, upstream.transport),
                        mailbox,
                        journal,
                        policy,
                        shelf: Arc::clone(&self.shelf),
                        control: self.control.clone(),
                        counters,
                        gateway: self.settings.name.clone(),
                        stop,
                        renew: Box::new(|_| {}),
                    };
                    Ok(session::run(parts).await)
                }
                Err(_) => Err(EndReason::ClientClosed),
            },
            Err(reason) => {
                client.bye(11, &format!("onus: {reason}")).await;
                Err(reason)
            }
        };
        match ended {
            Ok(ended) => {
                let Ended { reason, totals, anchor, .. } = &ended;
                let (reason, totals, anchor) = (reason.clone(), totals.clone(), anchor.clone());
                begun.end(reason, totals, Some(anchor), Some(&ended)).await;
            }
            Err(reason) => begun.end(reason, SessionTotals::default(), None, None).await,
        }
        tracing::debug!(session = %id, "session over");
    }

    /// Tells a client whose session begins frozen why nothing will happen, in the one place where clients show it then.
    async fn say_frozen(&self, client: &mut Raw, begun: &Begun) {
        const BANNER: u8 = 53;
        let watchers = {
            let state = self.shared().state();
            let frozen = state.needs_watch(&begun.session.id) && !state.is_watched(&begun.session.id);
            let role = state.estate.roles.get(&begun.session.role).filter(|_| frozen);
            role.map(|role| role.watchers.iter().cloned().collect::<Vec<_>>().join(", "))
        };
        let Some(watchers) = watchers else { return };
        let text = format!(
            "onus: this session is frozen until one of {watchers} watches it: onus session watch {}\r\n",
            begun.session.id
        );
        let banner = message::Packet::new(BANNER).string(text).string("").done();
        // Who is gone will be found out by what comes next.
        let _ = client.send([&banner[message::PREFIX..]]).await;
    }

    #[expect(clippy::type_complexity, reason = "the parts of one session, taken apart at once")]
    fn ssh_parts(
        self: &Arc<Self>,
        begun: &Begun,
        target: &SshTarget,
        login: String,
        raw_shell: bool,
    ) -> Result<
        (
            Machine<SshProtocol>,
            crate::journal::FileJournal,
            Arc<onus_policy::PolicySet>,
            Arc<crate::registry::Counters>,
            SshStop,
        ),
        EndReason,
    > {
        let id: &SessionId = &begun.session.id;
        let (view, counters, sender) = {
            let live = self.shared().registry.live();
            let live = live.get(id).ok_or(EndReason::GatewayStopped)?;
            let view = live.view.clone().ok_or(EndReason::GatewayStopped)?;
            (view, Arc::clone(&live.counters), live.mailbox.clone())
        };
        let policy = self
            .shelf
            .by_digest(&view.policy_digest)
            .ok_or_else(|| EndReason::Withdrawn { what: "the policy set".to_owned() })?;
        let journal = self
            .journals
            .begin(id, sender, Arc::clone(&counters), target.durability)
            .map_err(|error| EndReason::RecordingFailed { what: error.to_string() })?;
        let options = Options {
            subject: begun.session.subject.to_string(),
            resource: begun.session.resource.to_string(),
            login,
            raw_shell,
            record_output: target.record_output,
            record_input: target.record_input,
            marker: marker(),
            seed: crate::pg::hash_seed(),
        };
        let protocol = SshProtocol::new(Arc::clone(&self.shell), options);
        let json = view_json(&view);
        let limits = Limits { waiting: WAITING, ..Limits::default() };
        let machine = Machine::new(protocol, view, json, limits);
        Ok((machine, journal, policy, counters, SshStop::default()))
    }
}

/// What the host's no means, and what may be behind it.
fn refused_by_host(error: &ClientAuthError, target: &SshTarget) -> String {
    let hint = match (error, target.credential, &target.sources) {
        (ClientAuthError::Refused { .. }, SshCredential::SessionCertificate, Sources::Own) => {
            ". It must trust the gateway's session authority (`onus resource bootstrap`), and see the address that the \
             gateway connects from; behind address translation, set `source_address`"
        }
        (ClientAuthError::Refused { .. }, SshCredential::SessionCertificate, _) => {
            ". It must trust the gateway's session authority: `onus resource bootstrap`"
        }
        _ => "",
    };
    format!("{error}{hint}")
}

/// A word that no program can guess.
fn marker() -> String {
    let mut bytes = Zeroizing::new([0u8; 16]);
    getrandom::fill(bytes.as_mut()).expect("the operating system gives randomness");
    hex::encode(*bytes)
}

struct Prepared {
    begun: Begun,
    target: SshTarget,
    upstream: Raw,
    login: String,
    raw_shell: bool,
    mailbox: mpsc::UnboundedReceiver<crate::registry::ToSession>,
}

/// Ends what runs on the host: every command's processes are killed, and it is waited a moment for the host's word that
/// they are gone. What put itself out of its command's process group may live on, and so may what runs in a raw shell and
/// ignores that its terminal went away; where the host says nothing, the ledger shows no time.
#[derive(Default)]
struct SshStop {
    running: Vec<Process>,
    /// Whether a stop was asked for, and whether the order is under way on a channel of its own.
    asked: bool,
    ordered: bool,
    cancelled: Arc<OnceLock<Instant>>,
}

/// Our number of the channel that the order goes out on: no client's channel ever has it.
const ORDER: u32 = u32::MAX - 1;

impl Stop<SshProtocol> for SshStop {
    fn cancel(&mut self, protocol: &SshProtocol) {
        self.asked = true;
        self.running = protocol.running();
    }

    fn cancelled(&self) -> Arc<OnceLock<Instant>> {
        Arc::clone(&self.cancelled)
    }

    fn last_words(&mut self) -> Option<Bytes> {
        let signal = |process: &Process| {
            // TERM would be kinder and could be ignored; whoever kills a session has decided that.
            message::request(process.upstream, "signal", false).string("KILL").done()
        };
        let (known, unknown): (Vec<_>, Vec<_>) = self.running.iter().partition(|process| process.group.is_some());
        let mut words: Vec<Bytes> = unknown.into_iter().map(signal).collect();
        if !known.is_empty() {
            let open = message::Packet::new(message::number::CHANNEL_OPEN).string("session").number(ORDER);
            words.push(open.number(1 << 16).number(1 << 15).done());
        }
        self.asked.then(|| message::joined(words))
    }

    fn answered(&mut self, bytes: &[u8]) -> Parting {
        use message::number::{CHANNEL_CLOSE, CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE, CHANNEL_REQUEST};
        let mut at = 0;
        let mut order = None;
        while let Ok(Some(length)) = message::next(&bytes[at..]) {
            let mut fields = message::Fields(&bytes[at + message::PREFIX..at + length]);
            at += length;
            let (number, id) = (fields.byte(), fields.number());
            let ended = match number {
                Some(CHANNEL_CLOSE) => true,
                Some(CHANNEL_REQUEST) => fields.text().is_some_and(|kind| kind.starts_with("exit-")),
                Some(CHANNEL_OPEN_CONFIRMATION) if id == Some(ORDER) && !self.ordered => {
                    order = fields.number();
                    false
                }
                // As many channels as the host allows: the signal request is what is left.
                Some(CHANNEL_OPEN_FAILURE) if id == Some(ORDER) && !self.ordered => {
                    self.ordered = true;
                    let signal = |p: &Process| message::request(p.upstream, "signal", false).string("KILL").done();
                    return Parting::Say(message::joined(self.running.iter().map(signal)));
                }
                _ => false,
            };
            if ended {
                self.running.retain(|process| Some(process.channel) != id);
            }
        }
        if self.running.is_empty() {
            let _ = self.cancelled.set(Instant::now());
            return Parting::Done;
        }
        match order {
            Some(upstream) => {
                self.ordered = true;
                let line = signal_line("KILL", self.running.iter().filter_map(|process| process.group));
                Parting::Say(message::request(upstream, "exec", false).string(line).done())
            }
            None => Parting::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_says_who_and_what() {
        let wanted = |user: &str| {
            Wanted::parse(user).map(|w| (w.subject.to_string(), w.role.map(|r| r.to_string()), w.resource.to_string()))
        };
        assert_eq!(wanted("alice%web-1"), Some(("alice".into(), None, "web-1".into())));
        assert_eq!(wanted("alice:ops+web-1"), Some(("alice".into(), Some("ops".into()), "web-1".into())));
        for wrong in ["alice", "%web-1", "alice%", "alice:%web-1", "a b%web-1", "alice%web 1", ""] {
            assert_eq!(wanted(wrong), None, "{wrong}");
        }
    }
}
