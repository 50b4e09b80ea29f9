//! Full-text search over what was done in sessions: commands, and what terminals showed as plain text.
//!
//! It reads the journals of the sessions that the caller may see, newest first, and no index: an index of what people
//! typed would be one more place to keep safe. So it does a bounded amount of work, and says when it stopped early.

use crate::answer::{Problem, id};
use crate::caller::Caller;
use crate::rights;
use crate::server::{Api, blocking, entries};
use crate::verify;
use axum::Json;
use axum::extract::{Query, State as Of};
use axum::http::StatusCode;
use onus_core::event::{Event, Grant, Session};
use onus_core::ids::{ResourceId, SessionId, SubjectId};
use onus_core::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The shortest and the longest text that is searched for, in characters.
const LENGTHS: std::ops::RangeInclusive<usize> = 2..=200;
/// Most sessions read for one answer.
const SESSIONS: usize = 500;
/// Most bytes of journals read for one answer.
const BYTES: u64 = 512 << 20;
/// The longest time that one answer takes.
const TIME: Duration = Duration::from_secs(20);
/// Most hits in one answer, and in one session.
const HITS: usize = 200;
const HITS_EACH: usize = 20;
/// Searches at one time: each reads a lot.
const AT_ONCE: usize = 2;

/// Turns for searching.
pub(crate) fn turns() -> tokio::sync::Semaphore {
    tokio::sync::Semaphore::new(AT_ONCE)
}

#[derive(Deserialize)]
pub(crate) struct Asked {
    text: String,
    /// Milliseconds since the epoch: sessions that were open then or later.
    #[serde(default)]
    since: u64,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    resource: Option<String>,
}

/// `{"hits": [{"session", "subject", "resource", "at", "kind", "op" | "channel", "text"}], "searched": N, "stopped": null |
/// "why"}`
pub(crate) async fn search(
    Of(api): Of<Arc<Api>>,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Problem> {
    let wanted = asked.text.trim().to_owned();
    if !LENGTHS.contains(&wanted.chars().count()) {
        let text = format!("search for {} to {} characters", LENGTHS.start(), LENGTHS.end());
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text));
    }
    let subject: Option<SubjectId> = asked.subject.as_deref().map(id).transpose()?;
    let resource: Option<ResourceId> = asked.resource.as_deref().map(id).transpose()?;
    let _turn =
        api.searches.acquire().await.map_err(|fault| Problem::unavailable("the gateway is stopping", &fault))?;
    let begun = Instant::now();
    let entries = entries(&api.gateway).await?;
    let mut grants: BTreeMap<_, &Grant> = BTreeMap::new();
    let mut sessions: BTreeMap<SessionId, (&Session, Option<Timestamp>)> = BTreeMap::new();
    let mut order: Vec<&Session> = Vec::new();
    for entry in &entries {
        match &entry.event {
            Event::GrantIssued { grant } => drop(grants.insert(&grant.id, grant)),
            Event::SessionOpened { session } => {
                sessions.insert(session.id.clone(), (session, None));
                order.push(session);
            }
            Event::SessionClosed { session, .. } => {
                if let Some((_, closed)) = sessions.get_mut(session) {
                    *closed = Some(entry.at);
                }
            }
            _ => {}
        }
    }
    let fits = |session: &Session| {
        let closed = sessions.get(&session.id).and_then(|(_, closed)| *closed);
        closed.is_none_or(|closed| closed.0 >= asked.since)
            && subject.as_ref().is_none_or(|subject| session.subject == *subject)
            && resource.as_ref().is_none_or(|resource| session.resource == *resource)
    };
    let readable: Vec<&Session> = {
        let state = api.gateway.shared().state();
        let may = |session: &Session| {
            rights::may_see_session(&state, &caller.subject, session, grants.get(&session.grant).copied())
        };
        order.into_iter().rev().filter(|session| fits(session) && may(session)).collect()
    };
    tracing::info!(by = %caller.subject, sessions = readable.len(), "sessions are searched");
    let (mut hits, mut searched, mut bytes, mut unread) = (Vec::new(), 0, 0, 0_u64);
    let mut stopped = None;
    for session in &readable {
        stopped = match () {
            () if searched == SESSIONS => Some(format!("after {SESSIONS} sessions")),
            () if bytes >= BYTES => Some(format!("after {} MiB of journals", BYTES >> 20)),
            () if begun.elapsed() >= TIME => Some(format!("after {} s", TIME.as_secs())),
            () if hits.len() >= HITS => Some(format!("after {HITS} hits")),
            () => None,
        };
        if stopped.is_some() {
            break;
        }
        searched += 1;
        let anchors = verify::anchors_of(&session.id, &entries);
        let recorded = anchors.iter().any(|(records, _)| *records > 0);
        let (archive, of, text) = (Arc::clone(&api), session.id.clone(), wanted.clone());
        let found = blocking(&api.gateway, move |gateway| {
            let size = archive.archive.size(gateway, &of)?;
            let opened = archive.archive.open(gateway, &of, &anchors)?;
            Ok::<_, std::io::Error>((size, archive.archive.search(&opened.records, &text, HITS_EACH)))
        })
        .await?;
        match found {
            Ok((size, found)) => {
                bytes += size;
                hits.extend(found.into_iter().take(HITS - hits.len()).map(|hit| {
                    json!({"session": session.id, "subject": session.subject, "resource": session.resource,
                           "at": hit.at, "kind": hit.kind, "op": hit.op, "channel": hit.channel, "text": hit.text})
                }));
            }
            // One that ended before it recorded anything has no journal.
            Err(fault) if fault.kind() == std::io::ErrorKind::NotFound && !recorded => {}
            // A journal that is gone or can't be read is said to be, and hides no other.
            Err(_) => unread += 1,
        }
    }
    Ok(Json(json!({
        "hits": hits, "searched": searched, "sessions": readable.len(), "unread": unread, "stopped": stopped,
        "most_each": HITS_EACH,
    })))
}
