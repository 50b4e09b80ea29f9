//! The PostgreSQL door: from an accepted socket to a session task, and back to nothing.
//!
//! TLS first, then who it is (client certificate), then what it wants (start-up message), then whether that may exist
//! (`OpenSession`), then a credential for it, then the machine. What fails on the way is told to the client in its own
//! protocol and leaves an event.

use crate::begun::{Begun, NotOpened, Retire};
use crate::control::{now, view_json};
use crate::door::ClientCertificate;
use crate::gateway::Gateway;
use crate::ids;
use crate::registry::ToSession;
use crate::session::{self, Ended, Parts, Stop};
use crate::upstream::{Admin, CredentialKind, Target, Upstream, UpstreamError, stored_credential};
use base64::Engine;
use bytes::{Bytes, BytesMut};
use onus_authn::verify::VerifiedSubject;
use onus_core::command::{Command, OpenSession};
use onus_core::event::{EndReason, SessionTotals};
use onus_core::ids::{CredentialId, ResourceId, RoleId, SubjectId};
use onus_core::refusal::Refusal;
use onus_core::view::Tier;
use onus_issue::{Issued, Issuer, Order, RoleName};
use onus_pep::{Limits, Machine};
use onus_pg::PgProtocol;
use onus_pg::classifier::SqlClassifier;
use onus_pg::classify::{Catalogue, Environment};
use onus_pg::message::{self, Diagnostic, Severity};
use onus_pg::proxy::Options;
use onus_pg::startup::{First, Parsed, Startup, first};
use onus_pg::upstream_login::{LoggedIn, Login, UpstreamLogin};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Bytes of parsed texts that are kept for all sessions together.
pub const TEXT_CACHE_BYTES: usize = 64 << 20;

/// How long a client may take from connecting to its start-up message.
const START_UP: Duration = Duration::from_secs(15);

/// How long logging in to a resource may take.
const LOG_IN: Duration = Duration::from_secs(10);

/// Sockets that are not yet sessions, at one time.
const KNOCKING: usize = 1024;

/// Seeds the hashing of texts, so that nobody can choose texts that collide.
pub fn hash_seed() -> u64 {
    let mut seed = [0u8; 8];
    getrandom::fill(&mut seed).expect("the operating system gives randomness");
    u64::from_ne_bytes(seed)
}

/// Cancel keys that clients were given, and what they stand for upstream.
#[derive(Default)]
pub struct CancelKeys {
    keys: Mutex<HashMap<i32, CancelKey>>,
    /// Requests in the running second, against guessing.
    recent: Mutex<(u64, u32)>,
}

#[derive(Clone)]
struct CancelKey {
    key: Vec<u8>,
    subject: SubjectId,
    peer: IpAddr,
    target: Target,
    upstream_pid: i32,
    upstream_key: Bytes,
}

impl CancelKeys {
    fn keys(&self) -> MutexGuard<'_, HashMap<i32, CancelKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At most 100 a second: a client sends one when a person presses Ctrl-C; a guesser needs billions.
    fn admit(&self, second: u64) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.0 != second {
            *recent = (second, 0);
        }
        recent.1 += 1;
        recent.1 <= 100
    }
}

/// Why a client is turned away before it has a session.
struct TurnedAway {
    code: &'static str,
    message: String,
    hint: Option<String>,
}

impl TurnedAway {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    fn to_bytes(&self) -> Bytes {
        Diagnostic {
            severity: Severity::Fatal,
            code: self.code,
            message: &format!("onus: {}", self.message),
            detail: None,
            hint: self.hint.as_deref(),
        }
        .to_bytes()
    }
}

impl From<Refusal> for TurnedAway {
    fn from(refusal: Refusal) -> Self {
        Self::new("28000", refusal.to_string())
    }
}

impl From<NotOpened> for TurnedAway {
    fn from(why: NotOpened) -> Self {
        match why {
            NotOpened::Refused(refusal) => refusal.into(),
            NotOpened::Unavailable(text) => Self::new("57P03", text),
        }
    }
}

impl From<UpstreamError> for TurnedAway {
    fn from(error: UpstreamError) -> Self {
        let mut away = Self::new("08001", format!("the resource cannot be reached: {error}"));
        away.hint = Some("ask the resource's owner; the gateway's log has more".to_owned());
        away
    }
}

impl Gateway {
    /// Takes in PostgreSQL clients until `stop` turns true.
    pub async fn serve_pg(self: Arc<Self>, listener: TcpListener, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let tls = self.server_tls(&[b"postgresql"], ClientCertificate::Demanded).map_err(io::Error::other)?;
        let acceptor = TlsAcceptor::from(tls);
        let knocking = Arc::new(tokio::sync::Semaphore::new(KNOCKING));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: others must end before there is room.
                    tracing::warn!(%error, "a client could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&knocking).acquire_owned().await else {
                return Ok(());
            };
            let (gateway, acceptor) = (Arc::clone(&self), acceptor.clone());
            tokio::spawn(async move {
                let admitted = tokio::time::timeout(START_UP, gateway.admit(socket, peer, acceptor)).await;
                drop(permit);
                if let Ok(Some((client, verified, startup))) = admitted {
                    // Boxed: what opening needs is large, and must not stay with the session for its whole life.
                    Box::pin(gateway.open(client, peer, verified, startup)).await;
                }
            });
        }
    }

    /// From a socket to a known subject with a start-up message. `None`: it was answered and is closed.
    async fn admit(
        &self,
        mut socket: TcpStream,
        peer: SocketAddr,
        acceptor: TlsAcceptor,
    ) -> Option<(TlsStream<TcpStream>, VerifiedSubject, Startup)> {
        socket.set_nodelay(true).ok()?;
        crate::door::keep_alive(&socket).ok()?;
        let direct = loop {
            let mut byte = [0u8; 1];
            if socket.peek(&mut byte).await.ok()? == 0 {
                return None;
            }
            if byte[0] == 0x16 {
                break true;
            }
            match packet(&mut socket).await {
                Ok(First::Ssl) => {
                    socket.write_all(b"S").await.ok()?;
                    break false;
                }
                Ok(First::GssEnc) => socket.write_all(b"N").await.ok()?,
                Ok(First::Cancel { pid, key }) => {
                    self.cancel(pid, &key, peer.ip(), None).await;
                    return None;
                }
                Ok(_) => {
                    let mut away = TurnedAway::new("28000", "this gateway speaks only TLS");
                    away.hint = Some("connect with sslmode=verify-full, or use `onus connect`".to_owned());
                    let _ = socket.write_all(&away.to_bytes()).await;
                    return None;
                }
                Err(bytes) => {
                    let _ = socket.write_all(&bytes).await;
                    return None;
                }
            }
        };
        // Whatever was stuffed behind the request is read as TLS and fails as such (CVE-2021-23214).
        let mut client = acceptor.accept(socket).await.ok()?;
        let verified = {
            let (_, connection) = client.get_ref();
            // PostgreSQL demands the protocol's name where TLS comes first; elsewhere it may be absent.
            let named = connection.alpn_protocol() == Some(b"postgresql");
            if direct && !named {
                return None;
            }
            let certificate = connection.peer_certificates().and_then(<[_]>::first)?;
            VerifiedSubject::from_tls_verified(certificate, now().0)
        };
        let verified = match verified {
            Ok(verified) => verified,
            Err(refused) => {
                let mut away = TurnedAway::new("28000", refused.to_string());
                away.hint = Some("run `onus login` for a new certificate".to_owned());
                say(&mut client, away.to_bytes()).await;
                return None;
            }
        };
        match packet(&mut client).await {
            Ok(First::Startup(startup)) => Some((client, verified, startup)),
            Ok(First::Cancel { pid, key }) => {
                let subject = SubjectId::parse(verified.subject().as_str()).ok();
                self.cancel(pid, &key, peer.ip(), subject).await;
                // libpq waits for TLS to be closed, and takes a connection that just ends for a failed cancel.
                let _ = client.shutdown().await;
                None
            }
            Ok(_) => None,
            Err(bytes) => {
                say(&mut client, bytes).await;
                None
            }
        }
    }

    /// Passes a cancel request on, if it comes from where its session is: over TLS from the same subject, else from
    /// the same address. Never answers, as PostgreSQL doesn't.
    async fn cancel(&self, pid: i32, key: &[u8], peer: IpAddr, subject: Option<SubjectId>) {
        if !self.cancel_keys.admit(now().0 / 1000) {
            return;
        }
        let Some(known) = self.cancel_keys.keys().get(&pid).cloned() else { return };
        let same_key = known.key.len() == key.len() && {
            // Every byte is looked at, whether or not an earlier one differed.
            known.key.iter().zip(key).fold(0u8, |differs, (a, b)| differs | (a ^ b)) == 0
        };
        let same_place = match subject {
            Some(subject) => subject == known.subject,
            None => peer == known.peer,
        };
        if !same_key || !same_place {
            tracing::warn!(%peer, "a cancel request was not from its session's own subject");
            return;
        }
        send_cancel(&known.target, known.upstream_pid, &known.upstream_key).await;
    }

    /// From a known subject to a session, and through it.
    async fn open(
        self: Arc<Self>,
        mut client: TlsStream<TcpStream>,
        peer: SocketAddr,
        verified: VerifiedSubject,
        startup: Startup,
    ) {
        if let Some(negotiation) = startup.negotiation()
            && client.write_all(&negotiation).await.is_err()
        {
            return;
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            let mut away = TurnedAway::new("53300", "the gateway has as many sessions as it may have");
            away.hint = Some("try again later; an administrator can raise `--max-sessions`".to_owned());
            say(&mut client, away.to_bytes()).await;
            return;
        };
        match self.prepare(peer, &verified, &startup).await {
            Ok(prepared) => self.live(client, peer, &startup, prepared).await,
            Err(away) => say(&mut client, away.to_bytes()).await,
        }
        drop(slot);
    }

    /// Opens the session in the ledger, makes its credential, and logs in upstream.
    async fn prepare(
        self: &Arc<Self>,
        peer: SocketAddr,
        verified: &VerifiedSubject,
        startup: &Startup,
    ) -> Result<Prepared, TurnedAway> {
        let subject = SubjectId::parse(verified.subject().as_str())
            .map_err(|error| TurnedAway::new("28000", error.to_string()))?;
        let (user, role) = match startup.user.split_once(':') {
            Some((user, role)) => {
                let role = RoleId::parse(role).map_err(|error| TurnedAway::new("28000", error.to_string()))?;
                (user, Some(role))
            }
            None => (startup.user.as_str(), None),
        };
        if user != subject.as_str() {
            let text = format!("the certificate is `{subject}`'s, and the connection asks for user `{user}`");
            let mut away = TurnedAway::new("28000", text);
            away.hint = Some(format!("connect as user={subject}, or user={subject}:ROLE to choose a role"));
            return Err(away);
        }
        let (name, database) = match startup.database.split_once('/') {
            Some((name, database)) => (name, Some(database.to_owned())),
            None => (startup.database.as_str(), None),
        };
        let resource = ResourceId::parse(name).map_err(|error| TurnedAway::new("3D000", error.to_string()))?;
        let (target, members) = {
            let state = self.shared().state();
            let declared = state.estate.resources.get(&resource).filter(|declared| declared.protocol == "postgresql");
            let Some(declared) = declared else {
                return Err(TurnedAway::new("3D000", Refusal::UnknownResource(resource).to_string()));
            };
            let members: HashMap<RoleId, Vec<String>> = state
                .estate
                .roles
                .iter()
                .filter(|(_, role)| role.resources.contains(&resource))
                .map(|(id, role)| (id.clone(), role.member_of.iter().cloned().collect()))
                .collect();
            (Target::parse(&resource, declared)?, members)
        };
        let database = database.unwrap_or_else(|| target.database.clone());
        if database != target.database && !target.databases.contains(&database) {
            let text = format!("resource `{resource}` has no database `{database}`");
            let mut away = TurnedAway::new("3D000", text);
            away.hint = Some(format!("connect to dbname={resource} or one of its declared databases"));
            return Err(away);
        }
        let id = ids::session();
        let tier = match target.credential {
            CredentialKind::SessionRole => Tier::Sealed,
            CredentialKind::Stored => Tier::Mediated,
        };
        let open = OpenSession {
            id: id.clone(),
            subject: subject.clone(),
            resource: resource.clone(),
            role,
            database: database.clone(),
            key: verified.fingerprint().as_str().to_owned(),
            source: peer.to_string(),
            gateway: self.settings.name.clone(),
            tier,
        };
        let role_name = RoleName::of_session(&id).map_err(|error| TurnedAway::new("28000", error.to_string()))?;
        let credential =
            CredentialId::parse(&format!("C-{id}")).map_err(|error| TurnedAway::new("28000", error.to_string()))?;
        let (mut with, mut own) = (Vec::new(), None);
        if target.credential == CredentialKind::SessionRole {
            // In the ledger before it is on the server: after a crash there is none that nobody knows of.
            with.push(Command::NoteCredential {
                credential: credential.clone(),
                session: id.clone(),
                issuer: "session-role".to_owned(),
                name: role_name.as_str().to_owned(),
                expires: now().plus(onus_core::time::Millis(86_400_000)),
            });
            own = Some((credential, Retire::Role { admin: None, role: role_name }));
        }
        let (mut begun, mailbox) = Begun::open(self, open, with, own).await?;
        let session = begun.session.clone();
        let member_of = members.get(&session.role).cloned().unwrap_or_default();
        match self.enter(&mut begun, &target, &database, member_of, startup).await {
            Ok((admin, upstream, logged_in, classifier)) => {
                Ok(Prepared { begun, target, admin, upstream, logged_in, classifier, mailbox, subject })
            }
            Err(away) => {
                let what = away.message.clone();
                // Beside: a resource that is away keeps its credential until it is back, and the client must hear why now.
                tokio::spawn(async move {
                    begun.end(EndReason::Fault { what }, SessionTotals::default(), None, None).await;
                });
                Err(away)
            }
        }
    }

    /// Credential, catalogue and log-in.
    async fn enter(
        self: &Arc<Self>,
        begun: &mut Begun,
        target: &Target,
        database: &str,
        member_of: Vec<String>,
        startup: &Startup,
    ) -> Result<(Arc<Admin>, Upstream, LoggedIn, SqlClassifier), TurnedAway> {
        let session = begun.session.clone();
        if !begun.take_view() {
            return Err(TurnedAway::new("28000", "what the session needs was withdrawn a moment ago"));
        }
        let deadline = self.shared().state().grants.get(&session.grant).map(|grant| grant.deadline);
        let deadline = deadline
            .ok_or_else(|| TurnedAway::new("28000", Refusal::UnknownGrant(session.grant.clone()).to_string()))?;
        let resource = session.resource.clone();
        let (gateway, wanted) = (Arc::clone(self), target.clone());
        let admin = tokio::task::spawn_blocking(move || gateway.admins.of(&resource, &wanted, &gateway.vault))
            .await
            .map_err(|error| TurnedAway::new("XX000", error.to_string()))??;
        if let Some((_, Retire::Role { admin: slot, .. })) = &mut begun.credential {
            *slot = Some(Arc::clone(&admin));
        }
        let catalogue = admin.catalogue(target, database).await?;
        let order = Order {
            session: session.id.clone(),
            member_of,
            valid_until: deadline,
            database: database.to_owned(),
            search_path: Vec::new(),
            statement_timeout: None,
        };
        let issued: Issued = match target.credential {
            CredentialKind::SessionRole => admin.pg.issue(&order).await.map_err(UpstreamError::from)?,
            CredentialKind::Stored => {
                let (gateway, wanted) = (Arc::clone(self), target.clone());
                let stored = tokio::task::spawn_blocking(move || stored_credential(&gateway.vault, &wanted))
                    .await
                    .map_err(|error| TurnedAway::new("XX000", error.to_string()))??;
                stored.issue(&order).await.map_err(UpstreamError::from)?
            }
        };
        let (mut upstream, certificate_hash) = target.connect().await?;
        let password =
            issued.password().ok_or_else(|| TurnedAway::new("08001", "the resource's credential is not a password"))?;
        let search_path =
            target.search_path.iter().map(|schema| format!("\"{}\"", schema.replace('"', "\"\""))).collect::<Vec<_>>();
        let login = Login {
            user: issued.role_name.clone(),
            password: password.as_bytes().to_vec(),
            database: database.to_owned(),
            application_name: startup.application_name.clone().unwrap_or_else(|| "onus".to_owned()),
            search_path: Some(search_path.join(", ")),
            settings: startup.settings.clone(),
            tls: target.tls_ca.is_some(),
            certificate_hash,
            nonce: nonce(),
            // The session's own password is 256 random bits: stretching it would cost time and add nothing.
            min_iterations: if target.credential == CredentialKind::SessionRole { 1 } else { 4096 },
        };
        let logged_in = match tokio::time::timeout(LOG_IN, log_in(&mut upstream, login)).await {
            Ok(result) => result?,
            Err(_) => return Err(TurnedAway::new("08001", "the resource did not answer the log-in in time")),
        };
        let environment = Environment::new(catalogue, target.search_path.clone(), Some(issued.role_name.clone()));
        let classifier = SqlClassifier::new(Arc::clone(&self.texts), environment);
        Ok((admin, upstream, logged_in, classifier))
    }

    /// A session's life, from the first byte to the last event.
    async fn live(
        self: &Arc<Self>,
        mut client: TlsStream<TcpStream>,
        peer: SocketAddr,
        startup: &Startup,
        prepared: Prepared,
    ) {
        let Prepared { mut begun, target, admin, upstream, logged_in, classifier, mailbox, subject } = prepared;
        let session = begun.session.id.clone();
        let (pid, key) = self.give_cancel_key(startup, peer, subject, &target, &logged_in);
        let welcome = welcome(&logged_in, pid, &key);
        let ended = match self.task(&begun, (&target, admin), upstream, &logged_in, classifier, mailbox) {
            Ok(make) => match client.write_all(&welcome).await {
                Ok(()) => Ok(session::run(make(client)).await),
                Err(_) => Err((EndReason::ClientClosed, None)),
            },
            Err(reason) => {
                let away = TurnedAway::new("58030", reason.to_string());
                Err((reason, Some((client, away))))
            }
        };
        self.cancel_keys.keys().remove(&pid);
        match ended {
            Ok(ended) => {
                let Ended { reason, totals, anchor, .. } = &ended;
                let (reason, totals, anchor) = (reason.clone(), totals.clone(), anchor.clone());
                begun.end(reason, totals, Some(anchor), Some(&ended)).await;
            }
            Err((reason, said)) => {
                if let Some((mut client, away)) = said {
                    say(&mut client, away.to_bytes()).await;
                }
                begun.end(reason, SessionTotals::default(), None, None).await;
            }
        }
        tracing::debug!(%session, "session over");
    }

    #[expect(clippy::type_complexity, reason = "a closure that waits for the client's side only")]
    fn task(
        self: &Arc<Self>,
        begun: &Begun,
        (target, admin): (&Target, Arc<Admin>),
        upstream: Upstream,
        logged_in: &LoggedIn,
        classifier: SqlClassifier,
        mailbox: mpsc::UnboundedReceiver<ToSession>,
    ) -> Result<
        impl FnOnce(TlsStream<TcpStream>) -> Parts<PgProtocol<SqlClassifier>, TlsStream<TcpStream>, Upstream, PgStop>,
        EndReason,
    > {
        let id = begun.session.id.clone();
        let (view, counters, sender) = {
            let live = self.shared().registry.live();
            let live = live.get(&id).ok_or(EndReason::GatewayStopped)?;
            let view = live.view.clone().ok_or(EndReason::GatewayStopped)?;
            (view, Arc::clone(&live.counters), live.mailbox.clone())
        };
        let policy = self
            .shelf
            .by_digest(&view.policy_digest)
            .ok_or_else(|| EndReason::Withdrawn { what: "the policy set".to_owned() })?;
        let journal = self
            .journals
            .begin(&id, sender, Arc::clone(&counters), target.durability)
            .map_err(|error| EndReason::RecordingFailed { what: error.to_string() })?;
        let protocol = PgProtocol::new(classifier, logged_in.status, Options::default());
        let json = view_json(&view);
        let machine = Machine::new(protocol, view, json, Limits::default());
        let stop = PgStop {
            target: target.clone(),
            admin: Some(Arc::clone(&admin)),
            role: match &begun.credential {
                Some((_, Retire::Role { role, .. })) => Some(role.clone()),
                _ => None,
            },
            upstream: (logged_in.pid, logged_in.key.clone()),
            cancelled: Arc::new(OnceLock::new()),
        };
        let (shelf, control, gateway) = (Arc::clone(&self.shelf), self.control.clone(), self.settings.name.clone());
        let renew = renewal(Some(admin), target.clone(), begun.session.database.clone());
        Ok(move |client| Parts {
            id,
            machine,
            client,
            upstream,
            mailbox,
            journal,
            policy,
            shelf,
            control,
            counters,
            gateway,
            stop,
            renew,
        })
    }

    fn give_cancel_key(
        &self,
        startup: &Startup,
        peer: SocketAddr,
        subject: SubjectId,
        target: &Target,
        logged_in: &LoggedIn,
    ) -> (i32, Vec<u8>) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let pid = (NEXT.fetch_add(1, Ordering::Relaxed) % 0x7fff_ffff) as i32;
        let mut key = vec![0u8; startup.key_bytes()];
        getrandom::fill(&mut key).expect("the operating system gives randomness");
        let known = CancelKey {
            key: key.clone(),
            subject,
            peer: peer.ip(),
            target: target.clone(),
            upstream_pid: logged_in.pid,
            upstream_key: logged_in.key.clone(),
        };
        self.cancel_keys.keys().insert(pid, known);
        (pid, key)
    }
}

/// Gives a session's classifier a newer catalogue when there is one. The reading goes on beside the session: it takes
/// what the last look brought, and sets the next one off.
fn renewal(admin: Option<Arc<Admin>>, target: Target, database: String) -> session::Renew<PgProtocol<SqlClassifier>> {
    let newest: Arc<Mutex<Option<Arc<Catalogue>>>> = Arc::default();
    let mut known: Option<Arc<Catalogue>> = None;
    Box::new(move |protocol| {
        let Some(admin) = admin.clone() else { return };
        let found = newest.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(found) = found
            && known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &found))
        {
            protocol.classifier_mut().environment_mut().renew(Arc::clone(&found));
            known = Some(found);
        }
        let (target, database, newest) = (target.clone(), database.clone(), Arc::clone(&newest));
        tokio::spawn(async move {
            match admin.catalogue(&target, &database).await {
                Ok(catalogue) => *newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(catalogue),
                Err(error) => tracing::warn!(%error, "a catalogue could not be read again"),
            }
        });
    })
}

struct Prepared {
    begun: Begun,
    target: Target,
    admin: Arc<Admin>,
    upstream: Upstream,
    logged_in: LoggedIn,
    classifier: SqlClassifier,
    mailbox: mpsc::UnboundedReceiver<ToSession>,
    subject: SubjectId,
}

/// Stops what a session runs: through the administration where there is a role of its own, else by a cancel request.
struct PgStop {
    target: Target,
    admin: Option<Arc<Admin>>,
    role: Option<RoleName>,
    upstream: (i32, Bytes),
    cancelled: Arc<OnceLock<Instant>>,
}

impl Stop<PgProtocol<SqlClassifier>> for PgStop {
    fn cancel(&mut self, _protocol: &PgProtocol<SqlClassifier>) {
        if let (Some(admin), Some(role)) = (&self.admin, &self.role) {
            admin.cancel(role.clone(), Arc::clone(&self.cancelled));
            return;
        }
        let (target, (pid, key)) = (self.target.clone(), self.upstream.clone());
        let cancelled = Arc::clone(&self.cancelled);
        tokio::spawn(async move {
            send_cancel(&target, pid, &key).await;
            let _ = cancelled.set(Instant::now());
        });
    }

    fn cancelled(&self) -> Arc<OnceLock<Instant>> {
        Arc::clone(&self.cancelled)
    }
}

async fn send_cancel(target: &Target, pid: i32, key: &[u8]) {
    let Ok((mut upstream, _)) = target.connect().await else { return };
    let mut packet = BytesMut::new();
    bytes::BufMut::put_i32(&mut packet, 12 + key.len() as i32);
    bytes::BufMut::put_i32(&mut packet, 80_877_102);
    bytes::BufMut::put_i32(&mut packet, pid);
    packet.extend_from_slice(key);
    if upstream.write_all(&packet).await.is_ok() && upstream.flush().await.is_ok() {
        // The server closes when it has done it.
        let mut end = [0u8; 1];
        let _ = tokio::time::timeout(Duration::from_secs(2), upstream.read(&mut end)).await;
    }
}

/// Reads one start-up packet, not a byte more. The error is what to answer.
async fn packet<S: AsyncRead + Unpin>(side: &mut S) -> Result<First, Bytes> {
    let gone = |_| Bytes::new();
    let mut bytes = vec![0u8; 4];
    side.read_exact(&mut bytes).await.map_err(gone)?;
    // The length is judged before so much is read.
    match first(&bytes) {
        Ok(_) => {}
        Err(error) => return Err(error.to_bytes()),
    }
    let length = i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    bytes.resize(length, 0);
    side.read_exact(&mut bytes[4..]).await.map_err(gone)?;
    match first(&bytes) {
        Ok(Parsed { first, .. }) => Ok(first),
        Err(error) => Err(error.to_bytes()),
    }
}

async fn say<S: AsyncWrite + Unpin>(side: &mut S, bytes: Bytes) {
    let saying = async {
        side.write_all(&bytes).await?;
        side.shutdown().await
    };
    // The client may be gone already, and need not hear it then.
    let _ = tokio::time::timeout(Duration::from_secs(2), saying).await;
}

async fn log_in(upstream: &mut Upstream, login: Login) -> Result<LoggedIn, TurnedAway> {
    let failed = |error: io::Error| TurnedAway::new("08006", format!("the resource closed during log-in: {error}"));
    let (mut machine, hello) = UpstreamLogin::new(login);
    upstream.write_all(&hello).await.map_err(failed)?;
    upstream.flush().await.map_err(failed)?;
    let (mut buffer, mut out) = (BytesMut::with_capacity(1024), BytesMut::new());
    loop {
        match machine.receive(&mut buffer, &mut out) {
            Ok(Some(logged_in)) => return Ok(logged_in),
            Ok(None) => {}
            Err(error) => return Err(TurnedAway::new("08001", format!("the resource refused the log-in: {error}"))),
        }
        if !out.is_empty() {
            upstream.write_all(&out.split()).await.map_err(failed)?;
            upstream.flush().await.map_err(failed)?;
        }
        if upstream.read_buf(&mut buffer).await.map_err(failed)? == 0 {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

fn welcome(logged_in: &LoggedIn, pid: i32, key: &[u8]) -> Bytes {
    let mut all = BytesMut::new();
    all.extend_from_slice(&message::authentication_ok());
    for (name, value) in &logged_in.parameters {
        all.extend_from_slice(&message::parameter_status(name, value));
    }
    all.extend_from_slice(&message::backend_key_data(pid, key));
    all.extend_from_slice(&message::ready_for_query(logged_in.status));
    all.freeze()
}

fn nonce() -> String {
    let mut bytes = [0u8; 18];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
