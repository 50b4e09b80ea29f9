//! Sessions: which there are, what the ledger and the journal say of one, whether it verifies, and who answers for it.

use crate::answer::{Problem, id};
use crate::archive::Opened;
use crate::caller::Caller;
use crate::rights;
use crate::server::{Api, blocking, entries};
use crate::{used, verify};
use axum::Json;
use axum::extract::{Path, Query, State as Of};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::{IntoResponse, Response};
use onus_core::accountability::findings::{Case, findings};
use onus_core::event::{Entry, Event, Grant, Session};
use onus_core::ids::SessionId;
use onus_gateway::registry::Counters;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

type Answer = Result<Json<Value>, Problem>;

/// Most bytes of journal records in one answer; the next ones are asked for by `?from=`.
const JOURNAL_BYTES: usize = 32 << 20;

#[derive(Deserialize)]
pub(crate) struct Which {
    #[serde(default)]
    all: Option<String>,
}

pub(crate) async fn list(Of(api): Of<Arc<Api>>, caller: Caller, Query(which): Query<Which>) -> Answer {
    // The live ones first: one that ends while the ledger is read is then in both, and not in neither.
    let live: Vec<(SessionId, Value)> = {
        let shared = api.gateway.shared();
        let state = shared.state();
        let live = shared.registry.live();
        let mut rows = Vec::new();
        for session in state.sessions.values() {
            let grant = state.grants.get(&session.grant);
            if rights::may_see_session(&state, &caller.subject, session, grant) {
                let mut row = plain(session, grant);
                row["watchers"] = json!(state.watches.get(&session.id));
                row["frozen"] = json!(state.needs_watch(&session.id) && !state.is_watched(&session.id));
                row["totals"] = json!(live.get(&session.id).map(|live| counted(&live.counters)));
                rows.push((session.id.clone(), row));
            }
        }
        rows
    };
    let mut shown: Vec<Value> = Vec::new();
    let mut over: BTreeSet<SessionId> = BTreeSet::new();
    if which.all.is_some_and(|all| all != "false" && all != "0") {
        let entries = entries(&api.gateway).await?;
        let state = api.gateway.shared().state();
        let mut grants: BTreeMap<_, Grant> = BTreeMap::new();
        let mut sessions: BTreeMap<SessionId, Session> = BTreeMap::new();
        for entry in entries {
            match entry.event {
                Event::GrantIssued { grant } => drop(grants.insert(grant.id.clone(), grant)),
                Event::SessionOpened { session } => drop(sessions.insert(session.id.clone(), session)),
                Event::SessionClosed { session, reason, totals } => {
                    let Some(session) = sessions.remove(&session) else { continue };
                    let grant = grants.get(&session.grant);
                    if rights::may_see_session(&state, &caller.subject, &session, grant) {
                        let mut ended = plain(&session, grant);
                        ended["closed"] = json!({"at": entry.at, "why": reason.to_string(), "reason": reason});
                        ended["totals"] = json!(totals);
                        shown.push(ended);
                        over.insert(session.id.clone());
                    }
                }
                _ => {}
            }
        }
    }
    shown.extend(live.into_iter().filter(|(id, _)| !over.contains(id)).map(|(_, row)| row));
    Ok(Json(json!({"sessions": shown})))
}

fn plain(session: &Session, grant: Option<&Grant>) -> Value {
    json!({
        "session": session.id, "subject": session.subject, "resource": session.resource, "role": session.role,
        "database": session.database, "source": session.source, "gateway": session.gateway, "tier": session.tier,
        "opened": session.opened, "grant": session.grant,
        "purpose": grant.map(|grant| &grant.purpose), "deadline": grant.map(|grant| grant.deadline),
    })
}

fn counted(counters: &Counters) -> Value {
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    json!({"permitted": of(&counters.permitted), "refused": of(&counters.refused), "rows": of(&counters.rows),
           "bytes_out": of(&counters.bytes_out), "bytes_in": of(&counters.bytes_in)})
}

/// The whole ledger, after asking whether the caller may see this session. To whoever may not, it does not exist.
async fn seen(api: &Api, caller: &Caller, session: &str) -> Result<(SessionId, Vec<Entry>), Problem> {
    let wanted: SessionId = id(session)?;
    let entries = entries(&api.gateway).await?;
    let mut opened = None;
    let mut grants: BTreeMap<_, &Grant> = BTreeMap::new();
    for entry in &entries {
        match &entry.event {
            Event::GrantIssued { grant } => drop(grants.insert(&grant.id, grant)),
            Event::SessionOpened { session } if session.id == wanted => opened = Some(session),
            _ => {}
        }
    }
    let allowed = opened.is_some_and(|session| {
        let state = api.gateway.shared().state();
        rights::may_see_session(&state, &caller.subject, session, grants.get(&session.grant).copied())
    });
    if !allowed {
        return Err(Problem::missing(format!("there is no session `{wanted}` that `{}` may see", caller.subject))
            .next("`onus session list --all` shows those that you may"));
    }
    Ok((wanted, entries))
}

/// Reads, verifies and opens a session's journal, away from the async threads.
async fn opened(api: &Arc<Api>, session: &SessionId, entries: &[Entry]) -> Result<Opened, Problem> {
    // Anchors first: a live journal only grows, so what is read afterwards reaches at least this far.
    let anchors = verify::anchors_of(session, entries);
    let (archive, session) = (Arc::clone(api), session.clone());
    blocking(&api.gateway, move |gateway| archive.archive.open(gateway, &session, &anchors))
        .await?
        .map_err(|fault| Problem::unavailable("the journal could not be read", &fault))
}

/// What the ledger says of one session.
pub(crate) async fn show(Of(api): Of<Arc<Api>>, caller: Caller, Path(session): Path<String>) -> Answer {
    let (wanted, entries) = seen(&api, &caller, &session).await?;
    let mut shown = json!({"session": wanted, "anchors": [], "credentials": [], "holds": [], "kills": [],
                           "watches": [], "host_keys": []});
    let push = |shown: &mut Value, list: &str, item: Value| {
        if let Some(items) = shown[list].as_array_mut() {
            items.push(item);
        }
    };
    let mut grants: BTreeMap<_, (u64, Grant)> = BTreeMap::new();
    let mut credentials = BTreeSet::new();
    let mut holds = BTreeSet::new();
    for (position, entry) in (0u64..).zip(entries) {
        let (at, by) = (entry.at, entry.by.to_string());
        match entry.event {
            Event::GrantIssued { grant } => drop(grants.insert(grant.id.clone(), (position, grant))),
            Event::SessionOpened { session } if session.id == wanted => {
                shown["opened"] = json!({"position": position, "at": at, "session": session});
                shown["grant"] =
                    json!(grants.get(&session.grant).map(|(at, grant)| json!({"position": at, "grant": grant})));
            }
            Event::SessionClosed { session, reason, totals } if session == wanted => {
                shown["closed"] = json!({"position": position, "at": at, "why": reason.to_string(), "reason": reason, "totals": totals});
            }
            Event::JournalAnchored { session, records, head, closed } if session == wanted => {
                push(
                    &mut shown,
                    "anchors",
                    json!({"position": position, "at": at, "records": records, "head": head, "closed": closed}),
                );
            }
            Event::CredentialIssued { credential, session, issuer, name, expires, .. } if session == wanted => {
                credentials.insert(credential.clone());
                push(
                    &mut shown,
                    "credentials",
                    json!({"position": position, "at": at, "credential": credential, "issuer": issuer, "name": name, "expires": expires}),
                );
            }
            Event::CredentialRevoked { credential, proven, attempts, note } if credentials.contains(&credential) => {
                push(
                    &mut shown,
                    "credentials",
                    json!({"position": position, "at": at, "credential": credential, "gone": true, "proven": proven, "attempts": attempts, "note": note}),
                );
            }
            Event::HoldOpened { hold } if hold.session == wanted => {
                holds.insert(hold.id.clone());
                push(
                    &mut shown,
                    "holds",
                    json!({"position": position, "at": at, "hold": hold.id, "what": "opened", "policies": hold.policies, "by": hold.by}),
                );
            }
            Event::HoldConfirmed { hold, by, .. } if holds.contains(&hold) => {
                push(
                    &mut shown,
                    "holds",
                    json!({"position": position, "at": at, "hold": hold, "what": "confirmed", "by": by}),
                );
            }
            Event::HoldRefused { hold, by, reason } if holds.contains(&hold) => {
                push(
                    &mut shown,
                    "holds",
                    json!({"position": position, "at": at, "hold": hold, "what": "refused", "by": by, "reason": reason}),
                );
            }
            Event::HoldLapsed { hold, reason } if holds.contains(&hold) => {
                push(
                    &mut shown,
                    "holds",
                    json!({"position": position, "at": at, "hold": hold, "what": "lapsed", "reason": reason}),
                );
            }
            Event::KillOrdered { target, reason, sessions } if sessions.contains(&wanted) => {
                push(
                    &mut shown,
                    "kills",
                    json!({"position": position, "at": at, "by": by, "target": target.to_string(), "reason": reason}),
                );
            }
            Event::WatchBegan { session, subject, party } if session == wanted => {
                let began = json!({"position": position, "at": at, "subject": subject, "party": party, "began": true});
                push(&mut shown, "watches", began);
            }
            Event::WatchEnded { session, subject, reason } if session == wanted => {
                let ended = json!({"position": position, "at": at, "subject": subject, "ended": reason});
                push(&mut shown, "watches", ended);
            }
            Event::HostKeyChanged { session: Some(session), expected, seen, .. } if session == wanted => {
                push(
                    &mut shown,
                    "host_keys",
                    json!({"position": position, "at": at, "expected": expected, "seen": seen}),
                );
            }
            Event::KillCompleted { session, ordered, times } if session == wanted => {
                push(&mut shown, "kills", json!({"position": position, "at": at, "ordered": ordered, "times": times}));
            }
            _ => {}
        }
    }
    if let Some(live) = api.gateway.shared().registry.live().get(&wanted) {
        shown["live"] = counted(&live.counters);
    }
    Ok(Json(shown))
}

#[derive(Deserialize)]
pub(crate) struct From {
    /// The first record, from 0.
    #[serde(default)]
    from: usize,
}

/// The journal's records as JSON lines. Header `onus-next` names the record to go on from, where there are more.
pub(crate) async fn journal(
    Of(api): Of<Arc<Api>>,
    caller: Caller,
    Path(session): Path<String>,
    Query(From { from }): Query<From>,
) -> Result<Response, Problem> {
    let (wanted, entries) = seen(&api, &caller, &session).await?;
    let journal = opened(&api, &wanted, &entries).await?;
    tracing::info!(session = %wanted, by = %caller.subject, "a session's journal was read");
    let mut lines = String::new();
    let mut next = from;
    for record in journal.records.iter().skip(from) {
        if lines.len() >= JOURNAL_BYTES {
            break;
        }
        lines.push_str(&record.to_string());
        lines.push('\n');
        next += 1;
    }
    let more = if next < journal.records.len() { next.to_string() } else { String::new() };
    let findings = journal.findings.len().to_string();
    let headers = [
        (CONTENT_TYPE, "application/jsonl".to_owned()),
        (HeaderName::from_static("onus-next"), more),
        (HeaderName::from_static("onus-findings"), findings),
    ];
    Ok((headers, lines).into_response())
}

/// Does the work of `onus verify --session`, on the gateway's own copy.
pub(crate) async fn check(Of(api): Of<Arc<Api>>, caller: Caller, Path(session): Path<String>) -> Answer {
    let (wanted, entries) = seen(&api, &caller, &session).await?;
    let journal = opened(&api, &wanted, &entries).await?;
    let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for digest in verify::policy_blobs(&entries) {
        let Some(key) = digest_bytes(&digest) else { continue };
        let found = blocking(&api.gateway, move |gateway| gateway.blob(key)).await?;
        if let Some(bytes) =
            found.map_err(|fault| Problem::unavailable("the policy texts could not be read", &fault))?
        {
            blobs.insert(digest, bytes);
        }
    }
    let report = blocking(&api.gateway, move |_| {
        verify::verify_session(&wanted, &entries, &journal, &|digest| blobs.get(digest).cloned())
    })
    .await?;
    Ok(Json(json!(report)))
}

fn digest_bytes(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
    }
    Some(digest)
}

/// Who is accountable for a session, with the ledger entries that prove it and their inclusion proofs.
pub(crate) async fn who(Of(api): Of<Arc<Api>>, caller: Caller, Path(session): Path<String>) -> Answer {
    let (wanted, entries) = seen(&api, &caller, &session).await?;
    // Without its journal the ledger still says who owned what; what was used is then not known, and said so.
    let (journal, unread) = match opened(&api, &wanted, &entries).await {
        Ok(journal) => (journal, None),
        Err(problem) => (Opened::default(), Some(problem.error)),
    };
    let used = used::used(&wanted, &journal.records, &entries);
    let case = Case::of(&wanted, &entries, used)
        .ok_or_else(|| Problem::missing(format!("there is no session `{wanted}` in the ledger")))?;
    let found = findings(&case);
    let positions: BTreeSet<u64> = found.iter().flat_map(|finding| finding.evidence.iter().copied()).collect();
    let shared = api.gateway.shared();
    let checkpoint = shared.checkpoint();
    let mut proofs = Vec::new();
    for position in positions {
        let stored = blocking(&api.gateway, move |gateway| gateway.stored(position, 1)).await?;
        let stored = stored.map_err(|fault| Problem::unavailable("the ledger could not be read", &fault))?;
        let Some((stored, checkpoint)) = stored.first().zip(checkpoint.as_ref()) else { continue };
        let tree = shared.tree();
        // An entry that is newer than the checkpoint is proven by the next one.
        let Ok(hashes) = tree.inclusion_proof(position, checkpoint.size) else { continue };
        let hashes: Vec<String> = hashes.iter().map(|hash| hash.to_base64()).collect();
        let text = String::from_utf8_lossy(&stored.bytes).into_owned();
        proofs.push(json!({"index": position, "size": checkpoint.size, "entry": text, "hashes": hashes}));
    }
    Ok(Json(json!({
        "session": wanted, "findings": found, "proofs": proofs,
        "checkpoint": checkpoint.map(|checkpoint| checkpoint.note),
        "journal": {"records": journal.records.len(), "findings": journal.findings, "unread": unread},
    })))
}

#[cfg(test)]
mod tests {
    use super::digest_bytes;

    #[test]
    fn a_digest_is_64_hex_digits_and_nothing_else() {
        assert_eq!(digest_bytes(&"0f".repeat(32)), Some([15; 32]));
        for wrong in ["", "0f", &"zz".repeat(32), &"é".repeat(32), &"+1".repeat(32)] {
            assert_eq!(digest_bytes(wrong), None, "{wrong}");
        }
    }
}
