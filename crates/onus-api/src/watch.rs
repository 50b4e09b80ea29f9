//! Following a session as it goes: its newest records, and the watch that this is.
//!
//! Whoever follows is a watcher in the ledger's sense, for as long as they keep asking: each call is a sign of life,
//! and who gives none for [`SILENCE`] no longer watches. Whether they count is the control plane's to say, and freezing
//! the gateway's session task's.

use crate::answer::{Body, Problem, id};
use crate::caller::Caller;
use crate::rights;
use crate::server::{Api, blocking};
use axum::Json;
use axum::extract::{Path, Query, State as Of};
use onus_core::command::Command;
use onus_core::ids::{SessionId, SubjectId};
use onus_core::refusal::Refusal;
use onus_gateway::ControlError;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

type Answer = Result<Json<Value>, Problem>;

/// A watcher who is not heard of for this long is gone.
pub const SILENCE: Duration = Duration::from_secs(6);
/// How long a call waits for something new.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks, at most.
const LOOK: Duration = Duration::from_millis(60);
/// Most bytes of records in one answer.
const PIECE: usize = 4 << 20;

/// Who watches what, and when they were last heard of.
#[derive(Default)]
pub struct Watches(Mutex<BTreeMap<(SessionId, SubjectId), Instant>>);

impl Watches {
    fn held(&self) -> MutexGuard<'_, BTreeMap<(SessionId, SubjectId), Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a sign of life; true if it is the first.
    fn heard(&self, key: &(SessionId, SubjectId)) -> bool {
        self.held().insert(key.clone(), Instant::now()).is_none()
    }

    fn forget(&self, key: &(SessionId, SubjectId)) {
        self.held().remove(key);
    }

    /// How long ago somebody was heard of; `None` if they no longer watch.
    fn silent_for(&self, key: &(SessionId, SubjectId)) -> Option<Duration> {
        self.held().get(key).map(Instant::elapsed)
    }
}

#[derive(Deserialize)]
pub(crate) struct After {
    /// The last record that is known already.
    #[serde(default)]
    after: u64,
}

/// The records after one, or what follows within two seconds; with it, how the session stands.
///
/// `{"records": […], "last": N, "live": true, "frozen": false, "watchers": ["bob"]}`
pub(crate) async fn tape(
    Of(api): Of<Arc<Api>>,
    caller: Caller,
    Path(session): Path<String>,
    Query(After { after }): Query<After>,
) -> Answer {
    let session: SessionId = id(&session)?;
    {
        let state = api.gateway.shared().state();
        let Some(live) = state.sessions.get(&session) else {
            return Err(Problem::missing(format!(
                "there is no live session `{session}` that `{}` may watch",
                caller.subject
            ))
            .next("`onus session replay` shows one that ended"));
        };
        if !rights::may_see_session(&state, &caller.subject, live, state.grants.get(&live.grant)) {
            return Err(Problem::missing(format!(
                "there is no live session `{session}` that `{}` may watch",
                caller.subject
            )));
        }
    }
    begin(&api, &caller, &session).await?;
    let until = Instant::now() + PATIENCE;
    let mut known = None;
    let tail = loop {
        let (archive, of) = (Arc::clone(&api), session.clone());
        let size = blocking(&api.gateway, move |gateway| archive.archive.size(gateway, &of)).await?;
        let size = size.map_err(|fault| Problem::unavailable("the journal could not be read", &fault))?;
        let mut pause = LOOK;
        if known != Some(size) {
            known = Some(size);
            let begun = Instant::now();
            let (archive, of) = (Arc::clone(&api), session.clone());
            let tail = blocking(&api.gateway, move |gateway| archive.archive.tail(gateway, &of, after, PIECE)).await?;
            let tail = tail.map_err(|fault| Problem::unavailable("the journal could not be read", &fault))?;
            if !tail.records.is_empty() || Instant::now() >= until {
                break tail;
            }
            // A long journal takes a while to read: looking must not become all that this machine does.
            pause = pause.max(begun.elapsed() * 4);
        } else if Instant::now() >= until {
            break crate::archive::Tail { records: Vec::new(), last: after };
        }
        tokio::time::sleep(pause.min(until.saturating_duration_since(Instant::now()).max(LOOK))).await;
    };
    let state = api.gateway.shared().state();
    let live = state.sessions.contains_key(&session);
    Ok(Json(json!({
        "records": tail.records, "last": tail.last, "live": live,
        "frozen": live && state.needs_watch(&session) && !state.is_watched(&session),
        "counts": live && state.is_watched(&session),
        "watchers": state.watches.get(&session),
    })))
}

/// Notes a sign of life; the first one begins the watch.
async fn begin(api: &Arc<Api>, caller: &Caller, session: &SessionId) -> Result<(), Problem> {
    let key = (session.clone(), caller.subject.clone());
    let first = api.watches.heard(&key);
    let noted = api.gateway.shared().state().watches.get(session).is_some_and(|by| by.contains(&caller.subject));
    if !noted {
        match api.gateway.give(Command::BeginWatch { session: session.clone() }, caller.actor()).await {
            Ok(_) | Err(ControlError::Refused(Refusal::NothingToDo)) => {
                tracing::info!(%session, by = %caller.subject, "a session is watched");
            }
            Err(refused) => {
                if first {
                    api.watches.forget(&key);
                }
                return Err(refused.into());
            }
        }
    }
    if first {
        tokio::spawn(mind(Arc::clone(api), key));
    }
    Ok(())
}

/// Waits until a watcher is no longer heard of, and says so.
async fn mind(api: Arc<Api>, key: (SessionId, SubjectId)) {
    while let Some(silent) = api.watches.silent_for(&key) {
        match SILENCE.checked_sub(silent).filter(|left| !left.is_zero()) {
            Some(left) => tokio::time::sleep(left).await,
            None => {
                api.watches.forget(&key);
                let reason = format!("not heard of for {} s", SILENCE.as_secs());
                end(&api, &key, reason, api.gateway.actor()).await;
            }
        }
    }
}

async fn end(api: &Api, (session, subject): &(SessionId, SubjectId), reason: String, by: onus_core::event::Actor) {
    let command = Command::EndWatch { session: session.clone(), subject: subject.clone(), reason };
    match api.gateway.give(command, by).await {
        // The session may be over, and the watch with it.
        Ok(_) | Err(ControlError::Refused(Refusal::NothingToDo)) => {}
        Err(fault) => tracing::error!(%session, %subject, %fault, "the end of a watch could not be noted"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unwatch {}

/// Ends one's own watch in order.
pub(crate) async fn unwatch(
    Of(api): Of<Arc<Api>>,
    caller: Caller,
    Path(session): Path<String>,
    Body(Unwatch {}): Body<Unwatch>,
) -> Answer {
    let key = (id(&session)?, caller.subject.clone());
    api.watches.forget(&key);
    end(&api, &key, "went away".to_owned(), caller.actor()).await;
    Ok(Json(json!({})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sign_of_life_begins_and_a_forgotten_watcher_begins_anew() {
        let watches = Watches::default();
        let key: (SessionId, SubjectId) = ("S-1".parse().unwrap(), "bob".parse().unwrap());
        assert_eq!(watches.silent_for(&key), None);
        assert!(watches.heard(&key) && !watches.heard(&key));
        assert!(watches.silent_for(&key).is_some_and(|silent| silent < SILENCE));
        watches.forget(&key);
        assert!(watches.silent_for(&key).is_none() && watches.heard(&key));
    }
}
