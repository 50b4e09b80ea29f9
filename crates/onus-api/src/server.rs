//! The server: routes, limits, and TLS connections whose client certificate is asked for and may be missing.

use crate::answer::Problem;
use crate::archive::Archive;
use crate::caller::Peer;
use crate::watch::{self as watching, Watches};
use crate::{access, change, enrolment, ledger, listing, search, sessions, ssh};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use onus_authn::throttle::{Limits, Throttle};
use onus_authn::verify::VerifiedSubject;
use onus_core::event::Entry;
use onus_gateway::door::ClientCertificate;
use onus_gateway::{Appended, Gateway, now};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::watch::Receiver;
use tokio_rustls::TlsAcceptor;

/// The largest request body.
const BODY: usize = 8 << 20;
/// Connections at once; more wait.
const CONNECTIONS: usize = 512;
/// How long a handshake may take, and how long a connection may be silent before its headers.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long one request may take, the reading of its body included.
const REQUEST: Duration = Duration::from_secs(60);
/// Password hashes at once: each takes 19 MiB and a core.
const HASHES: usize = 4;
/// Entries read at once.
const PAGE: usize = 4096;

/// What the routes share.
pub struct Api {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// What opens journals and names tiles.
    pub archive: Box<dyn Archive>,
    /// Where clients reach PostgreSQL resources, `host:port`.
    pub postgres: String,
    /// Where clients reach SSH resources, `host:port`; `None` without that door.
    pub ssh: Option<String>,
    pub(crate) watches: Watches,
    pub(crate) searches: Semaphore,
    throttle: Mutex<Throttle>,
    hashes: Semaphore,
}

impl Api {
    /// The API of a gateway that clients reach for PostgreSQL at `postgres`.
    pub fn new(gateway: Arc<Gateway>, archive: Box<dyn Archive>, postgres: String) -> Self {
        let throttle = Mutex::new(Throttle::new(Limits::default()));
        Self {
            gateway,
            archive,
            postgres,
            ssh: None,
            watches: Watches::default(),
            searches: search::turns(),
            throttle,
            hashes: Semaphore::new(HASHES),
        }
    }

    /// Says where clients reach SSH resources.
    #[must_use]
    pub fn with_ssh(mut self, address: String) -> Self {
        self.ssh = Some(address);
        self
    }

    pub(crate) fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs something that hashes a password away from the async threads, a few at a time.
    pub(crate) async fn hashing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let _turn =
            self.hashes.acquire().await.map_err(|fault| Problem::unavailable("the gateway is stopping", &fault))?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|fault| Problem::unavailable("the password could not be checked", &fault))
    }
}

/// Every route. When adding one: its handler takes a [`Caller`](crate::caller::Caller) unless a stranger may call it,
/// and then say here why.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        // For strangers: what makes a stranger a subject, and what proves the ledger to anybody.
        .route("/v1/ca", get(enrolment::ca))
        .route("/v1/enroll", post(enrolment::enrol))
        .route("/v1/login", post(enrolment::login))
        .route("/ledger/checkpoint", get(ledger::checkpoint))
        .route("/ledger/tile/{*rest}", get(ledger::tile))
        // For subjects.
        .route("/v1/status", get(listing::status))
        .route("/v1/whoami", get(listing::whoami))
        .route("/v1/invite", post(enrolment::invite))
        .route("/v1/estate", get(change::estate).post(change::apply_estate))
        .route("/v1/policy", post(change::policy))
        .route("/v1/party/{id}/left", post(change::party_left))
        .route("/v1/subject/{id}/{verb}", post(change::subject))
        .route("/v1/secret/{resource}/{name}", put(change::secret))
        .route("/v1/request", post(access::ask))
        .route("/v1/request/{id}", get(access::request))
        .route("/v1/request/{id}/{verb}", post(access::answer_request))
        .route("/v1/grant/{id}/revoke", post(access::revoke))
        .route("/v1/hold/{id}/{verb}", post(access::answer_hold))
        .route("/v1/kill", post(access::kill))
        .route("/v1/requests", get(listing::requests))
        .route("/v1/grants", get(listing::grants))
        .route("/v1/holds", get(listing::holds))
        .route("/v1/resources", get(listing::resources))
        .route("/v1/subjects", get(listing::subjects))
        .route("/v1/events", get(listing::events))
        .route("/v1/sessions", get(sessions::list))
        .route("/v1/session/{id}", get(sessions::show))
        .route("/v1/session/{id}/journal", get(sessions::journal))
        .route("/v1/session/{id}/verify", get(sessions::check))
        .route("/v1/session/{id}/tape", get(watching::tape))
        .route("/v1/session/{id}/unwatch", post(watching::unwatch))
        .route("/v1/search", get(search::search))
        .route("/v1/ssh", get(ssh::authorities))
        .route("/v1/ssh/certificate", post(ssh::certificate))
        .route("/v1/who/{id}", get(sessions::who))
        .fallback(|| async { Problem::missing("there is no such route") })
        .layer(DefaultBodyLimit::max(BODY))
        .layer(from_fn(limit))
        .with_state(api)
}

async fn limit(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response(),
    }
}

/// Serves until `stop` turns true; requests that are being answered then are finished.
///
/// # Errors
/// When the gateway can't make its own certificate.
pub async fn serve(
    api: Arc<Api>,
    listener: TcpListener,
    mut stop: Receiver<bool>,
) -> Result<(), onus_gateway::door::TlsError> {
    let tls = api.gateway.server_tls(&[b"http/1.1"], ClientCertificate::Offered)?;
    let acceptor = TlsAcceptor::from(tls);
    let router = router(Arc::clone(&api));
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = listener.accept() => accepted,
        };
        while tasks.try_join_next().is_some() {}
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(fault) => {
                // Out of descriptors, most likely: a pause lets connections end.
                tracing::warn!(%fault, "a connection to the API could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, router, stop) = (acceptor.clone(), router.clone(), stop.clone());
        tasks.spawn(async move {
            connection(acceptor, router, stream, from, stop).await;
            drop(slot);
        });
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

async fn connection(
    acceptor: TlsAcceptor,
    router: Router,
    stream: TcpStream,
    from: SocketAddr,
    mut stop: Receiver<bool>,
) {
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(fault)) => return tracing::debug!(%from, %fault, "no TLS connection came about"),
        Err(_) => return tracing::debug!(%from, "the TLS handshake took too long"),
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let subject = match shown.map(|der| VerifiedSubject::from_tls_verified(der, now().0)) {
        None => None,
        Some(Ok(subject)) => Some(Arc::new(subject)),
        Some(Err(refused)) => {
            // As good as none: the routes that need one say so.
            tracing::info!(%from, %refused, "a client certificate stands for nobody");
            None
        }
    };
    let peer = Peer { source: from.ip(), subject };
    let service = tower_layer(router, peer);
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HANDSHAKE).max_buf_size(64 << 10);
    let serving = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopped(&mut stop) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(fault) = ended {
        tracing::debug!(%from, %fault, "an API connection ended early");
    }
}

/// Waits until the gateway is to stop; whoever could say so being gone means the same.
async fn stopped(stop: &mut Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Tells every request of a connection who is at its other end.
fn tower_layer(router: Router, peer: Peer) -> Router {
    router.layer(axum::Extension(peer))
}

/// Events as a command's answer shows them.
pub(crate) fn appended(done: &[Appended]) -> Value {
    let shown = done.iter().map(|one| json!({"position": one.position, "at": one.entry.at, "what": one.entry.event}));
    Value::Array(shown.collect())
}

/// Does what blocks on the store or the disk away from the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    gateway: &Arc<Gateway>,
    work: impl FnOnce(&Gateway) -> T + Send + 'static,
) -> Result<T, Problem> {
    let gateway = Arc::clone(gateway);
    tokio::task::spawn_blocking(move || work(&gateway))
        .await
        .map_err(|fault| Problem::unavailable("the gateway failed over this request", &fault))
}

/// Some entries of the ledger.
pub(crate) async fn page(gateway: &Arc<Gateway>, from: u64, max: usize) -> Result<Vec<(u64, Entry)>, Problem> {
    let page = blocking(gateway, move |gateway| gateway.entries(from, max)).await?;
    page.map_err(|fault| Problem::unavailable("the ledger could not be read", &fault))
}

/// The whole ledger, as far as it went when asked.
pub(crate) async fn entries(gateway: &Arc<Gateway>) -> Result<Vec<Entry>, Problem> {
    let size = gateway.shared().state().as_of;
    let mut all: Vec<Entry> = Vec::new();
    while (all.len() as u64) < size {
        let from = all.len() as u64;
        let page = page(gateway, from, PAGE).await?;
        if page.is_empty() {
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("ledger entry {from} could not be read"),
            ));
        }
        all.extend(page.into_iter().map(|(_, entry)| entry));
    }
    all.truncate(size as usize);
    Ok(all)
}
