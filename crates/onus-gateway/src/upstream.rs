//! The other side of a session: where a PostgreSQL resource is, how it is reached, and who administers it.
//!
//! A resource's settings are parsed here once, and unknown ones refused. Per resource there is one administrative
//! connection and one task that cancels and revokes in batches, so that a thousand sessions can end in one breath.

use crate::vault::{Vault, VaultError};
use onus_core::estate::Resource;
use onus_core::ids::ResourceId;
use onus_core::operation::Durability;
use onus_issue::stored::StoredCredential;
use onus_issue::{IssueFault, PgAdmin, PgAdminConfig, RoleName, UpstreamSecret};
use onus_pg::classify::{CATALOGUE_QUERIES, Catalogue};
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

/// No call to an upstream's administration takes longer.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a database's catalogue may be used before it is read again.
const CATALOGUE_FRESH: Duration = Duration::from_secs(15);

/// How long connecting to an upstream may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of a PostgreSQL resource. When adding one, add it to `docs/estate.md`.
const SETTINGS: [&str; 10] = [
    "address",
    "database",
    "databases",
    "tls",
    "tls_ca",
    "credential",
    "admin",
    "search_path",
    "known_functions",
    "durability",
];

/// Why a resource can't be reached.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Its settings are wrong.
    #[error("resource `{resource}`, setting `{setting}`: {text}")]
    Setting {
        /// Which resource.
        resource: ResourceId,
        /// Which setting.
        setting: String,
        /// What is wrong, and what to do.
        text: String,
    },
    /// A secret that it needs is not there.
    #[error("the secret `{0}` is not in the vault; put it there with `onus secret set {0} --user NAME`")]
    SecretMissing(String),
    /// A secret can't be read.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// What is stored is not a secret of this kind.
    #[error("the secret `{0}` is not a user name and password; set it again with `onus secret set {0} --user NAME`")]
    SecretMalformed(String),
    /// Its administration failed.
    #[error(transparent)]
    Issue(#[from] IssueFault),
    /// No connection.
    #[error("cannot connect to `{address}`: {source}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// What it says of its catalogue makes no sense.
    #[error("the catalogue of `{0}` cannot be read: {1}")]
    Catalogue(String, String),
}

/// How a session's credential comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// A role of its own for each session.
    SessionRole,
    /// One standing credential.
    Stored,
}

/// Where a resource is and how it is reached.
#[derive(Clone)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The database used when the client names none.
    pub database: String,
    /// Other databases that may be named.
    pub databases: Vec<String>,
    /// The authority to verify its certificate with; `None` for a connection without TLS.
    pub tls_ca: Option<String>,
    /// How a session's credential comes about.
    pub credential: CredentialKind,
    /// The vault's name for the administrative or standing credential.
    pub secret: String,
    /// Pinned for each session.
    pub search_path: Vec<String>,
    /// Functions whose effect somebody answers for.
    pub known_functions: Vec<(String, String)>,
    /// The least that a journal record must reach before what it records is relayed.
    pub durability: Durability,
}

impl Target {
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
            return Err(wrong(unknown, format!("not a setting of postgresql; there is {}", SETTINGS.join(", "))));
        }
        let many = |name: &str| resource.settings.get(name).cloned().unwrap_or_default();
        let one = |name: &str| match many(name).as_slice() {
            [] => Ok(None),
            [value] => Ok(Some(value.clone())),
            _ => Err(wrong(name, "give one value".to_owned())),
        };
        let address = one("address")?.ok_or_else(|| wrong("address", "missing; write host:port".to_owned()))?;
        let (host, port) = address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host.trim_matches(['[', ']']).to_owned(), port.parse::<u16>().ok()?)))
            .ok_or_else(|| wrong("address", format!("`{address}` is not host:port")))?;
        let database = one("database")?.ok_or_else(|| wrong("database", "missing".to_owned()))?;
        let tls_ca = match one("tls")?.as_deref() {
            Some("verify-full") => {
                let path =
                    one("tls_ca")?.ok_or_else(|| wrong("tls_ca", "missing; name the CA's PEM file".to_owned()))?;
                Some(std::fs::read_to_string(&path).map_err(|error| wrong("tls_ca", format!("`{path}`: {error}")))?)
            }
            Some("disable") | None => None,
            Some(other) => return Err(wrong("tls", format!("`{other}` is not verify-full or disable"))),
        };
        let credential = match one("credential")?.as_deref() {
            Some("session-role") | None => CredentialKind::SessionRole,
            Some("stored") => CredentialKind::Stored,
            Some(other) => return Err(wrong("credential", format!("`{other}` is not session-role or stored"))),
        };
        let durability = match one("durability")?.as_deref() {
            Some("by-class") | None => Durability::HandedOver,
            Some("synced") => Durability::Synced,
            Some(other) => return Err(wrong("durability", format!("`{other}` is not by-class or synced"))),
        };
        let mut search_path = many("search_path");
        if search_path.is_empty() {
            search_path.push("public".to_owned());
        }
        let known_functions = many("known_functions")
            .into_iter()
            .map(|text| match text.split_once('=') {
                Some((name, effect)) => Ok((name.trim().to_owned(), effect.trim().to_owned())),
                None => Err(wrong("known_functions", format!("`{text}` is not schema.name=effect"))),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            host,
            port,
            database,
            databases: many("databases"),
            tls_ca,
            credential,
            secret: one("admin")?.unwrap_or_else(|| format!("{id}/admin")),
            search_path,
            known_functions,
            durability,
        })
    }

    /// Opens a connection, with TLS where the settings say so; also the hash of the server's certificate.
    ///
    /// # Errors
    /// When nobody listens or the certificate does not verify. There is no way back to plain text.
    pub async fn connect(&self) -> Result<(Upstream, Option<Vec<u8>>), UpstreamError> {
        let failed =
            |source: io::Error| UpstreamError::Connect { address: format!("{}:{}", self.host, self.port), source };
        let connecting = async {
            let mut tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
            tcp.set_nodelay(true)?;
            crate::door::keep_alive(&tcp)?;
            let Some(ca) = &self.tls_ca else {
                return Ok((Upstream::Plain(tcp), None));
            };
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            tcp.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
            let mut answer = [0u8; 1];
            tcp.read_exact(&mut answer).await?;
            if answer != *b"S" {
                return Err(io::Error::other("it does not offer TLS, and the resource's settings demand it"));
            }
            let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
            let config = crate::door::upstream_tls(ca).map_err(io::Error::other)?;
            let tls = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await?;
            Ok((Upstream::Tls(Box::new(tls)), None))
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(result) => result.map_err(failed),
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// A connection to a resource.
pub enum Upstream {
    /// Without TLS.
    Plain(TcpStream),
    /// With.
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl AsyncRead for Upstream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Upstream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A user name and password as they lie in the vault, sealed.
#[derive(Serialize, Deserialize)]
pub struct LoginSecret {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Drop for LoginSecret {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.password);
    }
}

/// The vault's kind of upstream credentials.
pub const VAULT_KIND: &str = "upstream";

/// What came of ending a credential.
#[derive(Debug, Clone)]
pub struct Retired {
    /// Whether the other side was seen to be without it.
    pub proven: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was proven or given up.
    pub at: Instant,
    /// What is left to say.
    pub note: Option<String>,
}

enum Job {
    Cancel(RoleName, Arc<OnceLock<Instant>>),
    Retire(RoleName, oneshot::Sender<Retired>),
}

/// One resource's administration.
pub struct Admin {
    /// Makes, ends and finds credentials.
    pub pg: PgAdmin,
    jobs: mpsc::UnboundedSender<Job>,
    catalogues: Mutex<BTreeMap<String, (Instant, Arc<Catalogue>)>>,
}

impl Admin {
    fn start(pg: PgAdmin) -> Arc<Self> {
        let (jobs, mut inbox) = mpsc::unbounded_channel();
        let admin = Arc::new(Self { pg, jobs, catalogues: Mutex::default() });
        let weak = Arc::downgrade(&admin);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while inbox.recv_many(&mut batch, 1024).await > 0 {
                let Some(admin) = weak.upgrade() else { break };
                admin.work(&mut batch).await;
            }
        });
        admin
    }

    async fn work(self: &Arc<Self>, batch: &mut Vec<Job>) {
        let mut cancels = Vec::new();
        let mut retires = Vec::new();
        for job in batch.drain(..) {
            match job {
                Job::Cancel(role, done) => cancels.push((role, done)),
                Job::Retire(role, done) => retires.push((role, done)),
            }
        }
        if !cancels.is_empty() {
            let roles: Vec<RoleName> = cancels.iter().map(|(role, _)| role.clone()).collect();
            match self.pg.cancel_backends(&roles).await {
                Ok(_) => {
                    let at = Instant::now();
                    for (_, done) in cancels {
                        // The first moment counts.
                        let _ = done.set(at);
                    }
                }
                Err(error) => tracing::warn!(%error, "running statements could not be cancelled"),
            }
        }
        if retires.is_empty() {
            return;
        }
        let roles: Vec<RoleName> = retires.iter().map(|(role, _)| role.clone()).collect();
        let mut results = self.pg.revoke_many(&roles).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "credentials could not be revoked at once; trying again");
            BTreeMap::new()
        });
        let at = Instant::now();
        for (role, done) in retires {
            match results.remove(&role) {
                Some(Ok(revoked)) if revoked.proven => {
                    let note = (!revoked.reassigned_in.is_empty())
                        .then(|| format!("it owned things in {}", revoked.reassigned_in.join(", ")));
                    let _ = done.send(Retired { proven: true, attempts: 1, at, note });
                }
                _ => {
                    let admin = Arc::clone(self);
                    tokio::spawn(async move { admin.insist(role, done).await });
                }
            }
        }
    }

    /// Tries until it is proven.
    async fn insist(&self, role: RoleName, done: oneshot::Sender<Retired>) {
        let mut attempts = 1;
        let mut wait = Duration::from_millis(50);
        loop {
            tokio::time::sleep(wait).await;
            attempts += 1;
            match self.pg.revoke(&role).await {
                Ok(revoked) if revoked.proven => {
                    let _ = done.send(Retired { proven: true, attempts, at: Instant::now(), note: None });
                    return;
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, role = role.as_str(), attempts, "a credential is not revoked yet"),
            }
            wait = (wait * 2).min(Duration::from_secs(30));
        }
    }

    /// Cancels what a role has running; `done` says when the server was told.
    pub fn cancel(&self, role: RoleName, done: Arc<OnceLock<Instant>>) {
        // The task lives as long as this value.
        let _ = self.jobs.send(Job::Cancel(role, done));
    }

    /// Ends a role, and answers only when that is proven.
    pub fn retire(&self, role: RoleName) -> oneshot::Receiver<Retired> {
        let (done, retired) = oneshot::channel();
        let _ = self.jobs.send(Job::Retire(role, done));
        retired
    }

    /// What a database holds, at most a few seconds old.
    ///
    /// # Errors
    /// When it can't be read; then nothing in it can be known, and no session should begin.
    pub async fn catalogue(&self, target: &Target, database: &str) -> Result<Arc<Catalogue>, UpstreamError> {
        let lock = || self.catalogues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, catalogue)) = lock().get(database)
            && read.elapsed() < CATALOGUE_FRESH
        {
            return Ok(Arc::clone(catalogue));
        }
        let mut answers: Vec<Vec<Vec<String>>> = Vec::with_capacity(CATALOGUE_QUERIES.len());
        for query in &CATALOGUE_QUERIES {
            let rows = self.pg.rows(database, query.sql).await?;
            answers
                .push(rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect());
        }
        let broken = |what: String| UpstreamError::Catalogue(database.to_owned(), what);
        let answers: [Vec<Vec<String>>; 5] =
            answers.try_into().map_err(|_| broken("another number of answers".to_owned()))?;
        let known = target.known_functions.iter().map(|(name, effect)| (name.as_str(), effect.as_str()));
        let catalogue = Catalogue::from_rows(&answers)
            .and_then(|catalogue| catalogue.declare(known))
            .map_err(|error| broken(error.to_string()))?;
        let mut kept = lock();
        // One that says the same stays the same value, so that sessions need not look anything up again.
        let catalogue = match kept.get(database) {
            Some((_, before)) if **before == catalogue => Arc::clone(before),
            _ => Arc::new(catalogue),
        };
        kept.insert(database.to_owned(), (Instant::now(), Arc::clone(&catalogue)));
        Ok(catalogue)
    }
}

/// The administrations of all resources, started when they are first needed.
#[derive(Default)]
pub struct Admins(Mutex<HashMap<ResourceId, (String, Arc<Admin>)>>);

impl Admins {
    /// The administration of a resource. Blocks on the vault.
    ///
    /// # Errors
    /// When its credential is missing or unusable.
    pub fn of(&self, id: &ResourceId, target: &Target, vault: &Vault) -> Result<Arc<Admin>, UpstreamError> {
        let secret = login_secret(vault, &target.secret)?;
        // Another address or another credential makes another administration.
        let mark = format!(
            "{}:{} {} {} {}",
            target.host,
            target.port,
            target.database,
            secret.user,
            hex::encode(sha2::Digest::finalize(sha2::Digest::chain_update(
                <sha2::Sha256 as sha2::Digest>::new(),
                secret.password.as_bytes()
            )))
        );
        let mut admins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((as_marked, admin)) = admins.get(id)
            && *as_marked == mark
        {
            return Ok(Arc::clone(admin));
        }
        let pg = PgAdmin::new(&PgAdminConfig {
            address: onus_issue::postgres_role::PgAddress::Tcp(target.host.clone()),
            port: target.port,
            user: secret.user.clone(),
            password: Some(Zeroizing::new(secret.password.clone())),
            database: target.database.clone(),
            tls: match &target.tls_ca {
                Some(ca) => onus_issue::postgres_role::PgTlsPolicy::RequireCa(ca.clone()),
                None => onus_issue::postgres_role::PgTlsPolicy::Disable,
            },
            connections: 4,
            timeout: ADMIN_TIMEOUT,
            leftovers_to: None,
            connection_limit: Some(1),
        })?;
        let admin = Admin::start(pg);
        admins.insert(id.clone(), (mark, Arc::clone(&admin)));
        Ok(admin)
    }
}

/// A user name and password out of the vault. Blocks on it.
///
/// # Errors
/// When it is missing or is something else.
pub fn login_secret(vault: &Vault, name: &str) -> Result<LoginSecret, UpstreamError> {
    let bytes = vault.fetch(VAULT_KIND, name)?.ok_or_else(|| UpstreamError::SecretMissing(name.to_owned()))?;
    serde_json::from_slice(&bytes).map_err(|_| UpstreamError::SecretMalformed(name.to_owned()))
}

/// A standing secret without its user name: a password, or a private key as its file had it. Blocks on the vault.
///
/// # Errors
/// When it is missing or is something else.
pub fn stored_secret(vault: &Vault, name: &str) -> Result<Zeroizing<String>, UpstreamError> {
    Ok(Zeroizing::new(login_secret(vault, name)?.password.clone()))
}

/// The standing credential of a resource that has one.
///
/// # Errors
/// When it is missing or is something else.
pub fn stored_credential(vault: &Vault, target: &Target) -> Result<StoredCredential, UpstreamError> {
    let secret = login_secret(vault, &target.secret)?;
    let password = UpstreamSecret::Password(Zeroizing::new(secret.password.clone()));
    Ok(StoredCredential::new(secret.user.clone(), password))
}
