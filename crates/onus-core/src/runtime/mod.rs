//! The runtime plane: sessions, what they may still do, and operations that wait.

mod judge;

mod watch;

pub(crate) use watch::{begin_watch, end_watch, note_host_key};

pub use judge::{Standing, judge_session, touched_by};

use crate::accountability;
use crate::command::OpenSession;
use crate::estate::{Plane, Terminal};
use crate::event::{Actor, EndReason, Event, Grant, Hold, Session, SessionTotals};
use crate::ids::{CredentialId, HoldId, SessionId, SubjectId};
use crate::issuance::{may_govern, standing};
use crate::refusal::Refusal;
use crate::state::State;
use crate::time::Timestamp;
use crate::view::Tier;

/// Whether a session may exist: a live grant, an enrolled key, an owner on every plane.
pub(crate) fn open(state: &State, open: OpenSession, now: Timestamp) -> Result<Vec<Event>, Refusal> {
    standing(state, &open.subject)?;
    // A clock set back must not revive what the ledger has seen the end of.
    let now = now.max(state.last_at);
    if state.policy.is_none() {
        return Err(Refusal::NoPolicy);
    }
    if !state.standing.get(&open.subject).is_some_and(|standing| standing.keys.contains(&open.key)) {
        return Err(Refusal::KeyNotEnrolled(open.subject));
    }
    if !state.estate.resources.contains_key(&open.resource) {
        return Err(Refusal::UnknownResource(open.resource));
    }
    let fits: Vec<&Grant> = state
        .grants_of(&open.subject, &open.resource)
        .filter(|grant| open.role.as_ref().is_none_or(|role| grant.role == *role))
        .collect();
    let live: Vec<&Grant> = fits.iter().copied().filter(|grant| now < grant.deadline).collect();
    let grant = match (live.as_slice(), fits.as_slice()) {
        ([], []) => {
            let role = open.role.map_or_else(|| "ROLE".to_owned(), |role| role.to_string());
            return Err(Refusal::NoGrant { resource: open.resource, role });
        }
        ([], [ended, ..]) => {
            return Err(Refusal::GrantEnded { grant: ended.id.clone(), deadline: ended.deadline });
        }
        // Of several for one role the one that lasts longest; of several roles none, rather than guess.
        ([first, rest @ ..], _) => {
            if rest.iter().any(|grant| grant.role != first.role) {
                let mut roles: Vec<_> = live.iter().map(|grant| grant.role.to_string()).collect();
                roles.dedup();
                return Err(Refusal::GrantNotChosen { resource: open.resource, roles });
            }
            live.iter().copied().max_by_key(|grant| grant.deadline).unwrap_or(first)
        }
    };
    if !grant.scope.databases.is_empty() && !grant.scope.databases.contains(&open.database) {
        let allowed = grant.scope.databases.iter().cloned().collect::<Vec<_>>().join(", ");
        return Err(Refusal::DatabaseOutOfScope { database: open.database, allowed });
    }
    let accountable = accountability::resolve(state, &open.subject, &open.resource, &grant.role)
        .map_err(|gaps| Refusal::OwnersMissing { gaps: gaps.iter().map(ToString::to_string).collect() })?;
    // Whatever else the gateway does there: what is typed into the host's own shell it can't prevent.
    let raw = state.estate.roles.get(&grant.role).is_some_and(|role| role.shell == Terminal::Raw);
    let tier = if raw { open.tier.min(Tier::Observed) } else { open.tier };
    Ok(vec![Event::SessionOpened {
        session: Session {
            id: open.id,
            grant: grant.id.clone(),
            subject: open.subject,
            resource: open.resource,
            role: grant.role.clone(),
            database: open.database,
            key: open.key,
            source: open.source,
            gateway: open.gateway,
            tier,
            opened: now,
            accountable,
        },
    }])
}

/// Notes a session's end, and the end of what still waited in it.
pub(crate) fn close(
    state: &State,
    session: SessionId,
    reason: EndReason,
    totals: SessionTotals,
) -> Result<Vec<Event>, Refusal> {
    if !state.sessions.contains_key(&session) {
        return Err(Refusal::UnknownSession(session));
    }
    let mut events: Vec<Event> = state
        .holds
        .values()
        .filter(|hold| hold.session == session)
        .map(|hold| Event::HoldLapsed { hold: hold.id.clone(), reason: "the session ended".to_owned() })
        .collect();
    events.push(Event::SessionClosed { session, reason, totals });
    Ok(events)
}

pub(crate) fn note_credential(
    state: &State,
    credential: CredentialId,
    session: SessionId,
    issuer: String,
    name: String,
    expires: Timestamp,
) -> Result<Vec<Event>, Refusal> {
    let live = state.sessions.get(&session).ok_or_else(|| Refusal::UnknownSession(session.clone()))?;
    let resource = live.resource.clone();
    // Whoever makes it gives it the grant's deadline, if that comes first.
    let deadline = state.grants.get(&live.grant).map(|grant| grant.deadline);
    let expires = deadline.map_or(expires, |deadline| expires.min(deadline));
    Ok(vec![Event::CredentialIssued { credential, session, resource, issuer, name, expires }])
}

pub(crate) fn open_hold(state: &State, hold: Hold) -> Result<Vec<Event>, Refusal> {
    if !state.sessions.contains_key(&hold.session) {
        return Err(Refusal::UnknownSession(hold.session));
    }
    Ok(vec![Event::HoldOpened { hold }])
}

/// Who may answer a hold: somebody named by the policy, and never the person who asked.
fn may_answer<'a>(state: &'a State, id: &HoldId, by: &Actor) -> Result<(&'a Hold, SubjectId), Refusal> {
    let Actor::Subject(subject) = by else {
        let who = "a subject who logged in".to_owned();
        return Err(Refusal::NotAllowed { subject: by.to_string(), what: "answer a hold", who });
    };
    standing(state, subject)?;
    let hold = state.holds.get(id).ok_or_else(|| Refusal::UnknownHold(id.clone()))?;
    let names = hold.by.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let party = state.party_of(subject);
    if state.same_person(subject, &hold.subject) {
        return Err(Refusal::SelfConfirmation { by: names });
    }
    if state.vouched_for(subject, &hold.subject) {
        return Err(Refusal::NotIndependent { answerer: subject.clone(), asker: hold.subject.clone() });
    }
    if !party.is_some_and(|party| state.estate.is_named(party, &hold.by)) {
        return Err(Refusal::NotAConfirmer { subject: subject.clone(), hold: id.clone(), by: names });
    }
    Ok((hold, subject.clone()))
}

pub(crate) fn confirm_hold(state: &State, id: HoldId, by: &Actor, now: Timestamp) -> Result<Vec<Event>, Refusal> {
    let (hold, subject) = may_answer(state, &id, by)?;
    let in_force = state.policy.as_ref().is_some_and(|policy| policy.digest == hold.policy_digest);
    if now >= hold.expires || !in_force || !state.sessions.contains_key(&hold.session) {
        return Err(Refusal::HoldOver(id));
    }
    let party = state.party_of(&subject).cloned().ok_or_else(|| Refusal::UnknownSubject(subject.clone()))?;
    Ok(vec![Event::HoldConfirmed { hold: id, by: subject, party }])
}

pub(crate) fn refuse_hold(state: &State, id: HoldId, reason: String, by: &Actor) -> Result<Vec<Event>, Refusal> {
    let (_, subject) = may_answer(state, &id, by)?;
    if reason.trim().is_empty() {
        return Err(Refusal::ReasonMissing);
    }
    Ok(vec![Event::HoldRefused { hold: id, by: subject, reason }])
}

pub(crate) fn lapse_hold(state: &State, id: HoldId, reason: String) -> Result<Vec<Event>, Refusal> {
    if !state.holds.contains_key(&id) {
        return Err(Refusal::UnknownHold(id));
    }
    Ok(vec![Event::HoldLapsed { hold: id, reason }])
}

pub(crate) fn set_risk(
    state: &State,
    subject: SubjectId,
    band: u8,
    why: String,
    by: &Actor,
) -> Result<Vec<Event>, Refusal> {
    may_govern(state, by, &[Plane::Runtime, Plane::Response], "set a risk band")?;
    standing(state, &subject)?;
    if why.trim().is_empty() {
        return Err(Refusal::ReasonMissing);
    }
    Ok(vec![Event::RiskChanged { subject, band: band.min(4), why }])
}
