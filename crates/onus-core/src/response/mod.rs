//! The response plane: ending sessions at once (brief S4-09: without waiting for approval).

use crate::estate::Plane;
use crate::event::{Actor, Event, KillTarget};
use crate::ids::SessionId;
use crate::issuance::may_govern;
use crate::refusal::Refusal;
use crate::state::State;

/// Orders sessions to end. A subject may always end its own; the resource's owner those on it.
pub(crate) fn kill(state: &State, target: KillTarget, reason: String, by: &Actor) -> Result<Vec<Event>, Refusal> {
    if reason.trim().is_empty() {
        return Err(Refusal::ReasonMissing);
    }
    let sessions: Vec<_> = state
        .sessions
        .values()
        .filter(|session| match &target {
            KillTarget::Session(id) => session.id == *id,
            KillTarget::Subject(id) => session.subject == *id,
            KillTarget::Resource(id) => session.resource == *id,
        })
        .collect();
    match &target {
        KillTarget::Session(id) if sessions.is_empty() => return Err(Refusal::UnknownSession(id.clone())),
        KillTarget::Subject(id) if !state.estate.subjects.contains_key(id) => {
            return Err(Refusal::UnknownSubject(id.clone()));
        }
        KillTarget::Resource(id) if !state.estate.resources.contains_key(id) => {
            return Err(Refusal::UnknownResource(id.clone()));
        }
        _ => {}
    }
    let own = matches!(by, Actor::Subject(id) if sessions.iter().all(|session| session.subject == *id));
    let owned = match by {
        Actor::Subject(id) => state.party_of(id).is_some_and(|party| {
            sessions.iter().all(|session| session.accountable.of(Plane::Service).is_some_and(|o| o.party == *party))
        }),
        _ => false,
    };
    if sessions.is_empty() || !(own || owned) {
        may_govern(state, by, &[Plane::Response, Plane::Runtime], "kill these sessions")?;
    }
    // An entry has a largest size; the sessions of a large kill follow from the target and the ledger.
    let sessions: Vec<SessionId> = sessions.into_iter().take(1_000).map(|session| session.id.clone()).collect();
    Ok(vec![Event::KillOrdered { target, reason, sessions }])
}
