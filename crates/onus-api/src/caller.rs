//! Who calls: the subject that the connection's client certificate proves, asked about again at every request.
//!
//! A connection may outlive a certificate, a key's enrolment or a subject's standing; a request may not.

use crate::answer::Problem;
use crate::server::Api;
use axum::extract::FromRequestParts;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use onus_authn::verify::VerifiedSubject;
use onus_core::event::Actor;
use onus_core::ids::SubjectId;
use onus_core::state::State;
use std::net::IpAddr;
use std::sync::Arc;

/// What the transport knows about a connection; put into every request's extensions by the server.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it comes from, as the socket says.
    pub source: IpAddr,
    /// Who it is, if it showed a certificate of ours.
    pub subject: Option<Arc<VerifiedSubject>>,
}

/// A subject who proved to be it, in good standing, with a key that is enrolled at this moment.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub subject: SubjectId,
    /// The key, SHA-256 hex.
    pub key: String,
    /// The certificate ends here, in milliseconds since the epoch.
    pub not_after_ms: u64,
}

impl Caller {
    /// As the one who causes an event.
    pub fn actor(&self) -> Actor {
        Actor::Subject(self.subject.clone())
    }
}

/// Asks whether a proof still counts.
///
/// # Errors
/// 401 for anything that does not; a stranger is told no more than to log in.
pub fn still_good(state: &State, proven: &VerifiedSubject, now_ms: u64) -> Result<Caller, Problem> {
    if now_ms >= proven.not_after_ms() {
        return Err(Problem::unproven("the client certificate has expired"));
    }
    let subject = SubjectId::parse(proven.subject().as_str())
        .map_err(|_| Problem::unproven("the client certificate names no subject"))?;
    let key = proven.fingerprint().as_str();
    let enrolled = state.standing.get(&subject).is_some_and(|standing| standing.keys.contains(key));
    if !state.in_good_standing(&subject) || !enrolled {
        return Err(Problem::unproven(format!(
            "`{subject}` is not in good standing, or this machine's key is no longer enrolled"
        ))
        .next("ask a lifecycle owner for a new code (`onus invite`), then `onus enroll`"));
    }
    Ok(Caller { subject, key: key.to_owned(), not_after_ms: proven.not_after_ms() })
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        // A browser that holds the certificate must not be led to post a form: it can't send this type unasked.
        let json = parts.headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/json"));
        if parts.method != Method::GET && !json {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send `content-type: application/json`"));
        }
        let proven = parts.extensions.get::<Peer>().and_then(|peer| peer.subject.clone());
        let proven = proven.ok_or_else(|| Problem::unproven("no client certificate was shown"))?;
        still_good(&api.gateway.shared().state(), &proven, onus_gateway::now().0)
    }
}

impl FromRequestParts<Arc<Api>> for Peer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the connection is not known"))
    }
}
