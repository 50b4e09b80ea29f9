//! Watching a session as it goes, and what a gateway saw of a host: who may, and what is noted of it.
//!
//! Whether a watcher counts (a role may demand one) is [`State::is_watched`]'s to say, at every moment anew; freezing
//! and thawing is the gateway's.

use crate::estate::Plane;
use crate::event::{Actor, Event, Session};
use crate::ids::{ResourceId, SessionId, SubjectId};
use crate::issuance::{may_govern, standing};
use crate::refusal::Refusal;
use crate::state::State;

/// Whether the subject answers for what the session touches or let it happen: who approved its grant, and who owns the
/// resource or its service, then or now.
fn answers_for(state: &State, subject: &SubjectId, session: &Session) -> bool {
    let approved =
        state.grants.get(&session.grant).is_some_and(|grant| grant.approvals.iter().any(|a| a.by == *subject));
    let owns = state.party_of(subject).filter(|party| state.estate.is_active(party)).is_some_and(|party| {
        session.accountable.of(Plane::Service).is_some_and(|owner| owner.party == *party)
            || state.estate.resources.get(&session.resource).is_some_and(|resource| {
                resource.owner.as_ref() == Some(party)
                    || state.estate.services.get(&resource.service).is_some_and(|service| service.owner == *party)
            })
    });
    approved || owns
}

/// Begins a watch. INVARIANT 6: never of one's own session, nor by somebody whose key the session's person let in.
pub(crate) fn begin_watch(state: &State, id: SessionId, by: &Actor) -> Result<Vec<Event>, Refusal> {
    let Actor::Subject(subject) = by else {
        let who = "a subject who logged in".to_owned();
        return Err(Refusal::NotAllowed { subject: by.to_string(), what: "watch a session", who });
    };
    standing(state, subject)?;
    let session = state.sessions.get(&id).ok_or_else(|| Refusal::UnknownSession(id.clone()))?;
    let watchers = state.estate.roles.get(&session.role).map(|role| role.watchers.clone()).unwrap_or_default();
    let names = watchers.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if state.same_person(subject, &session.subject) {
        let by = if names.is_empty() { String::new() } else { format!("; it needs one of: {names}") };
        return Err(Refusal::SelfWatch { by });
    }
    if state.vouched_for(subject, &session.subject) {
        return Err(Refusal::NotIndependent { answerer: subject.clone(), asker: session.subject.clone() });
    }
    let party = state.party_of(subject);
    let named = party.is_some_and(|party| state.estate.is_named(party, &watchers));
    let allowed = named
        || answers_for(state, subject, session)
        || may_govern(state, by, &[Plane::Runtime, Plane::Response], "watch a session").is_ok();
    if !allowed {
        let by = if names.is_empty() { "the runtime and response planes' owners".to_owned() } else { names };
        return Err(Refusal::NotAWatcher { subject: subject.clone(), session: id, by });
    }
    if state.watches.get(&id).is_some_and(|watching| watching.contains(subject)) {
        return Err(Refusal::NothingToDo);
    }
    Ok(vec![Event::WatchBegan { session: id, subject: subject.clone(), party: party.cloned() }])
}

/// Ends a watch: one's own, or by the gateway one that it no longer hears of.
pub(crate) fn end_watch(
    state: &State,
    session: SessionId,
    subject: SubjectId,
    reason: String,
    by: &Actor,
) -> Result<Vec<Event>, Refusal> {
    match by {
        Actor::Gateway(_) => {}
        Actor::Subject(own) if *own == subject => {}
        _ => {
            let who = "who watches, or the gateway".to_owned();
            return Err(Refusal::NotAllowed { subject: by.to_string(), what: "end another's watch", who });
        }
    }
    if !state.watches.get(&session).is_some_and(|watching| watching.contains(&subject)) {
        return Err(Refusal::NothingToDo);
    }
    if reason.trim().is_empty() {
        return Err(Refusal::ReasonMissing);
    }
    Ok(vec![Event::WatchEnded { session, subject, reason }])
}

/// Notes that a host showed another key: a signal, and nobody's to give but a gateway's.
pub(crate) fn note_host_key(
    state: &State,
    resource: ResourceId,
    session: Option<SessionId>,
    expected: Vec<String>,
    seen: String,
    by: &Actor,
) -> Result<Vec<Event>, Refusal> {
    if !matches!(by, Actor::Gateway(_)) {
        let who = "a gateway".to_owned();
        return Err(Refusal::NotAllowed { subject: by.to_string(), what: "say what key a host showed", who });
    }
    if !state.estate.resources.contains_key(&resource) {
        return Err(Refusal::UnknownResource(resource));
    }
    Ok(vec![Event::HostKeyChanged { resource, session, expected, seen }])
}
