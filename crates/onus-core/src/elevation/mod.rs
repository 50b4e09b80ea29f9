//! The elevation plane: request, approval, grant, revocation.
//!
//! The rules that no policy can change stand here: nobody approves their own (invariant 6), and a grant without a
//! purpose, a deadline or an owner on every plane does not come into being.

use crate::accountability;
use crate::estate::{Plane, Role};
use crate::event::{Actor, Approval, Event, Grant, Request};
use crate::ids::{GrantId, RequestId, ResourceId, RoleId, SubjectId};
use crate::issuance::{may_govern, standing};
use crate::refusal::Refusal;
use crate::state::State;
use crate::time::{Millis, Timestamp};
use crate::view::Scope;

/// The shortest purpose, in characters: enough for a ticket number.
const MIN_PURPOSE: usize = 5;

/// What a requester says.
pub(crate) struct Asked {
    pub id: RequestId,
    pub resource: ResourceId,
    pub role: RoleId,
    pub purpose: String,
    pub scope: Scope,
    pub lasts: Millis,
}

fn subject_of(by: &Actor, what: &'static str) -> Result<SubjectId, Refusal> {
    match by {
        Actor::Subject(id) => Ok(id.clone()),
        other => {
            Err(Refusal::NotAllowed { subject: other.to_string(), what, who: "a subject who logged in".to_owned() })
        }
    }
}

fn list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

pub(crate) fn request(state: &State, asked: Asked, by: &Actor, now: Timestamp) -> Result<Vec<Event>, Refusal> {
    let subject = subject_of(by, "request a role")?;
    standing(state, &subject)?;
    let estate = &state.estate;
    if !estate.resources.contains_key(&asked.resource) {
        return Err(Refusal::UnknownResource(asked.resource));
    }
    let offered = || -> Vec<RoleId> {
        estate.roles.iter().filter(|(_, r)| r.resources.contains(&asked.resource)).map(|(id, _)| id.clone()).collect()
    };
    let Some(role) = estate.roles.get(&asked.role) else {
        return Err(Refusal::UnknownRole { role: asked.role.clone(), roles: offered() });
    };
    if !role.resources.contains(&asked.resource) {
        let roles = offered();
        return Err(Refusal::RoleNotOffered { role: asked.role, resource: asked.resource, roles });
    }
    let purpose = asked.purpose.trim().to_owned();
    if purpose.chars().count() < MIN_PURPOSE {
        return Err(Refusal::PurposeMissing(MIN_PURPOSE));
    }
    if asked.lasts.0 == 0 {
        return Err(Refusal::DurationMissing);
    }
    if asked.lasts > role.max_for {
        return Err(Refusal::TooLong { role: asked.role, most: role.max_for });
    }
    let scope = narrowed(role, &asked.scope).ok_or_else(|| Refusal::ScopeTooWide(asked.role.clone()))?;
    owners(state, &subject, &asked.resource, &asked.role)?;
    Ok(vec![Event::AccessRequested {
        request: Request {
            id: asked.id,
            subject,
            resource: asked.resource,
            role: asked.role,
            purpose,
            scope,
            lasts: asked.lasts,
            at: now,
            approvals: Vec::new(),
        },
    }])
}

/// The scope asked for, with the role's own limit where nothing was asked; `None` if it asks for more.
fn narrowed(role: &Role, asked: &Scope) -> Option<Scope> {
    let mut scope = asked.clone();
    if scope.databases.is_empty() {
        scope.databases.clone_from(&role.scope.databases);
    }
    if scope.classes.is_empty() {
        scope.classes.clone_from(&role.scope.classes);
    }
    if scope.schemas.is_empty() && scope.relations.is_empty() {
        scope.schemas.clone_from(&role.scope.schemas);
        scope.relations.clone_from(&role.scope.relations);
    }
    if scope.paths.is_empty() {
        scope.paths.clone_from(&role.scope.paths);
    }
    if scope.programs.is_empty() {
        scope.programs.clone_from(&role.scope.programs);
    }
    role.scope.contains(&scope).then_some(scope)
}

fn owners(state: &State, subject: &SubjectId, resource: &ResourceId, role: &RoleId) -> Result<(), Refusal> {
    accountability::resolve(state, subject, resource, role)
        .map(drop)
        .map_err(|gaps| Refusal::OwnersMissing { gaps: gaps.iter().map(ToString::to_string).collect() })
}

pub(crate) fn approve(
    state: &State,
    id: &RequestId,
    grant: GrantId,
    by: &Actor,
    now: Timestamp,
) -> Result<Vec<Event>, Refusal> {
    let approver = subject_of(by, "approve a request")?;
    standing(state, &approver)?;
    let request = state.requests.get(id).ok_or_else(|| Refusal::UnknownRequest(id.clone()))?;
    standing(state, &request.subject)?;
    let estate = &state.estate;
    let role = estate
        .roles
        .get(&request.role)
        .ok_or_else(|| Refusal::UnknownRole { role: request.role.clone(), roles: Vec::new() })?;
    let approvers = list(&role.approvers);
    // INVARIANT 6: nobody approves their own request, administrators included; nor does a second subject of the same
    // person, nor the person who answers for a workload or agent on its behalf.
    let party = state.party_of(&approver);
    if state.same_person(&approver, &request.subject) {
        return Err(Refusal::SelfApproval { approvers });
    }
    if state.vouched_for(&approver, &request.subject) {
        return Err(Refusal::NotIndependent { answerer: approver, asker: request.subject.clone() });
    }
    let Some(party) = party.filter(|party| estate.is_named(party, &role.approvers)) else {
        return Err(Refusal::NotAnApprover { subject: approver, request: id.clone(), approvers });
    };
    if request.approvals.iter().any(|approval| approval.party == *party) {
        return Err(Refusal::ApprovedTwice(party.clone()));
    }
    if request.lasts > role.max_for {
        return Err(Refusal::TooLong { role: request.role.clone(), most: role.max_for });
    }
    // The role may have been narrowed since the request was made.
    if !role.scope.contains(&request.scope) {
        return Err(Refusal::ScopeTooWide(request.role.clone()));
    }
    owners(state, &request.subject, &request.resource, &request.role)?;
    let approval = Approval { by: approver, party: party.clone(), at: now };
    let mut approvals = request.approvals.clone();
    approvals.push(approval.clone());
    let mut events = vec![Event::RequestApproved { request: id.clone(), approval }];
    if approvals.len() >= usize::from(role.approvals) {
        events.push(Event::GrantIssued {
            grant: Grant {
                id: grant,
                request: id.clone(),
                subject: request.subject.clone(),
                resource: request.resource.clone(),
                role: request.role.clone(),
                purpose: request.purpose.clone(),
                scope: request.scope.clone(),
                from: now,
                deadline: now.plus(request.lasts),
                approvals,
            },
        });
    }
    Ok(events)
}

pub(crate) fn refuse(state: &State, id: RequestId, reason: String, by: &Actor) -> Result<Vec<Event>, Refusal> {
    let subject = subject_of(by, "refuse a request")?;
    let request = state.requests.get(&id).ok_or_else(|| Refusal::UnknownRequest(id.clone()))?;
    let approvers = state.estate.roles.get(&request.role).map(|role| role.approvers.clone()).unwrap_or_default();
    let named = state.party_of(&subject).is_some_and(|party| state.estate.is_named(party, &approvers));
    if subject != request.subject && !named {
        let approvers = list(&approvers);
        return Err(Refusal::NotAnApprover { subject, request: id, approvers });
    }
    if reason.trim().is_empty() {
        return Err(Refusal::ReasonMissing);
    }
    Ok(vec![Event::RequestRefused { request: id, reason }])
}

pub(crate) fn revoke(state: &State, id: GrantId, reason: String, by: &Actor) -> Result<Vec<Event>, Refusal> {
    let grant = state.grants.get(&id).ok_or_else(|| Refusal::UnknownGrant(id.clone()))?;
    let holder_or_approver = match by {
        Actor::Subject(subject) => {
            grant.subject == *subject || grant.approvals.iter().any(|approval| approval.by == *subject)
        }
        _ => false,
    };
    if !holder_or_approver {
        may_govern(state, by, &[Plane::Elevation, Plane::Response], "revoke this grant")?;
    }
    if reason.trim().is_empty() {
        return Err(Refusal::ReasonMissing);
    }
    Ok(vec![Event::GrantRevoked { grant: id, reason }])
}

pub(crate) fn expire(state: &State, id: GrantId, now: Timestamp) -> Result<Vec<Event>, Refusal> {
    match state.grants.get(&id) {
        Some(grant) if grant.deadline <= now => Ok(vec![Event::GrantExpired { grant: id }]),
        Some(_) => Err(Refusal::NothingToDo),
        None => Err(Refusal::UnknownGrant(id)),
    }
}
