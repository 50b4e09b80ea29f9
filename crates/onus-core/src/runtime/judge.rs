//! Judging a session again: is what made it legitimate still true, and what may it be decided by now?
//!
//! Revocation is nothing else. Whatever event changes what a session depends on makes [`judge_session`] be asked
//! again; the answer is a fresh view or the reason why the session ends.

use crate::accountability;
use crate::event::{EndReason, Event, KillTarget, Session};
use crate::ids::SessionId;
use crate::state::State;
use crate::view::View;

/// How a session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It may go on, and decisions depend on this. `epoch` and `as_of` are the state's position.
    Live(Box<View>),
    /// It must end.
    Ended(EndReason),
}

/// Looks at everything a session depends on. Never at the clock: the deadline is in the view, and every decision
/// compares it.
pub fn judge_session(state: &State, session: &Session) -> Standing {
    let estate = &state.estate;
    let Some(subject) = estate.subjects.get(&session.subject) else {
        return Standing::Ended(EndReason::SubjectDisabled);
    };
    let standing = state.standing.get(&session.subject);
    if !state.in_good_standing(&session.subject) {
        return Standing::Ended(EndReason::SubjectDisabled);
    }
    if !standing.is_some_and(|standing| standing.keys.contains(&session.key)) {
        return Standing::Ended(EndReason::Withdrawn { what: "the enrolled key".to_owned() });
    }
    let Some(grant) = state.grants.get(&session.grant) else {
        return Standing::Ended(EndReason::GrantRevoked);
    };
    let Some(resource) = estate.resources.get(&session.resource) else {
        return Standing::Ended(EndReason::Withdrawn { what: format!("resource `{}`", session.resource) });
    };
    let Some(role) = estate.roles.get(&session.role).filter(|role| role.resources.contains(&session.resource)) else {
        let what = format!("role `{}` on `{}`", session.role, session.resource);
        return Standing::Ended(EndReason::Withdrawn { what });
    };
    if !role.scope.contains(&grant.scope) {
        let what = format!("the scope that role `{}` had", session.role);
        return Standing::Ended(EndReason::Withdrawn { what });
    }
    let Some(policy) = &state.policy else {
        return Standing::Ended(EndReason::Withdrawn { what: "the policy set".to_owned() });
    };
    if let Err(gaps) = accountability::resolve(state, &session.subject, &session.resource, &session.role) {
        return Standing::Ended(EndReason::OwnerMissing { gaps: gaps.iter().map(ToString::to_string).collect() });
    }
    Standing::Live(Box::new(View {
        session: session.id.clone(),
        epoch: state.as_of,
        as_of: state.as_of,
        subject: session.subject.clone(),
        subject_kind: subject.kind,
        teams: subject.party.as_ref().map(|party| estate.teams_of(party)).unwrap_or_default(),
        resource: session.resource.clone(),
        service: resource.service.clone(),
        labels: resource.labels.clone(),
        database: session.database.clone(),
        role: session.role.clone(),
        grant: grant.id.clone(),
        purpose: grant.purpose.clone(),
        scope: grant.scope.clone(),
        opened: session.opened,
        deadline: grant.deadline,
        risk: standing.map_or(0, |standing| standing.risk),
        tier: session.tier,
        policy_version: policy.version,
        policy_digest: policy.digest.clone(),
    }))
}

/// The live sessions that an event may touch, to be judged again. Over-approximate rather than miss one.
///
/// When adding an event that decisions depend on, add it here; the match has no wildcard so that the compiler asks.
pub fn touched_by(state: &State, event: &Event) -> Vec<SessionId> {
    let select = |keep: &dyn Fn(&Session) -> bool| -> Vec<SessionId> {
        state.sessions.values().filter(|session| keep(session)).map(|session| session.id.clone()).collect()
    };
    match event {
        Event::EstateDeclared { .. }
        | Event::EstateWithdrawn { .. }
        | Event::PartyLeft { .. }
        | Event::PolicyActivated { .. } => select(&|_| true),
        // A watcher who may do nothing no longer counts as one.
        Event::SubjectDisabled { subject, .. } => select(&|session| {
            session.subject == *subject || state.watches.get(&session.id).is_some_and(|by| by.contains(subject))
        }),
        Event::WatchBegan { session, .. } | Event::WatchEnded { session, .. } => select(&|live| live.id == *session),
        Event::SubjectEnabled { subject, .. }
        | Event::KeyEnrolled { subject, .. }
        | Event::RiskChanged { subject, .. } => select(&|session| session.subject == *subject),
        Event::GrantRevoked { grant, .. } | Event::GrantExpired { grant } => select(&|session| session.grant == *grant),
        Event::KillOrdered { target, .. } => match target {
            KillTarget::Session(id) => select(&|session| session.id == *id),
            KillTarget::Subject(id) => select(&|session| session.subject == *id),
            KillTarget::Resource(id) => select(&|session| session.resource == *id),
        },
        Event::AccessRequested { .. }
        | Event::RequestApproved { .. }
        | Event::RequestRefused { .. }
        | Event::GrantIssued { .. }
        | Event::SessionRefused { .. }
        | Event::SessionOpened { .. }
        | Event::SessionClosed { .. }
        | Event::CredentialIssued { .. }
        | Event::CredentialRevoked { .. }
        | Event::HoldOpened { .. }
        | Event::HoldConfirmed { .. }
        | Event::HoldRefused { .. }
        | Event::HoldLapsed { .. }
        | Event::KillCompleted { .. }
        | Event::JournalAnchored { .. }
        | Event::HostKeyChanged { .. }
        | Event::GatewayStarted { .. } => Vec::new(),
    }
}
