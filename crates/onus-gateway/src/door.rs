//! TLS: what the gateway shows to clients, and what it demands of them and of resources.
//!
//! One crypto provider (aws-lc-rs) and no way back to plain text. A client certificate proves a subject only because
//! the TLS layer verified it against the gateway's own authority first.

use onus_authn::ca::CertificateAuthority;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsError(String);

fn failed(error: impl std::fmt::Display) -> TlsError {
    TlsError(error.to_string())
}

/// Notices a peer that vanished without a word within about two minutes: a session must not outlive its client.
///
/// # Errors
/// When the socket does not take the options.
pub fn keep_alive(socket: &tokio::net::TcpStream) -> std::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(socket, 4)?;
    Ok(())
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// The handshake fails without one: the doors of protocols.
    Demanded,
    /// It may come without; only enrolment and public parts of the ledger are open then.
    Offered,
}

/// What the gateway shows at one of its doors.
///
/// # Errors
/// When the certificate can't be made or used.
pub fn server_tls(
    ca: &CertificateAuthority,
    names: &[String],
    now_ms: u64,
    lifetime_ms: u64,
    alpn: &[&[u8]],
    client: ClientCertificate,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let shown = ca.issue_server(names, now_ms, lifetime_ms).map_err(failed)?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.cert_der().to_vec())).map_err(failed)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = match client {
        ClientCertificate::Demanded => verifier,
        ClientCertificate::Offered => verifier.allow_unauthenticated(),
    };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(shown.cert_pem.as_bytes()).collect::<Result<_, _>>().map_err(failed)?;
    let key = PrivateKeyDer::from_pem_slice(shown.key_pem.as_bytes()).map_err(failed)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_client_cert_verifier(verifier.build().map_err(failed)?)
        .with_single_cert(chain, key)
        .map_err(failed)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // A resumed session would skip the client's proof of its key, and tickets cost memory and a signature each.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// What the gateway demands of a resource whose authority is `ca_pem`. Kept per authority: building it costs.
///
/// # Errors
/// When the authority's PEM can't be read.
pub fn upstream_tls(ca_pem: &str) -> Result<Arc<ClientConfig>, TlsError> {
    static KEPT: Mutex<Option<HashMap<String, Arc<ClientConfig>>>> = Mutex::new(None);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = kept.get_or_insert_with(HashMap::new);
    if let Some(config) = kept.get(ca_pem) {
        return Ok(Arc::clone(config));
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.map_err(failed)?).map_err(failed)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    if kept.len() > 64 {
        kept.clear();
    }
    kept.insert(ca_pem.to_owned(), Arc::clone(&config));
    Ok(config)
}
