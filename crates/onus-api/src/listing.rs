//! Lists: what there is, cut down to what the caller may see.

use crate::answer::Problem;
use crate::caller::Caller;
use crate::rights;
use crate::server::{Api, page};
use axum::Json;
use axum::extract::{Query, State as Of};
use onus_core::estate::Plane;
use onus_gateway::now;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

type Answer = Result<Json<Value>, Problem>;

/// Most events in one answer.
const EVENTS: usize = 1000;

pub(crate) async fn status(Of(api): Of<Arc<Api>>, _: Caller) -> Answer {
    let shared = api.gateway.shared();
    let state = shared.state();
    Ok(Json(json!({
        "gateway": api.gateway.settings.name,
        "version": env!("CARGO_PKG_VERSION"),
        "now": now(),
        "as_of": state.as_of,
        "policy": state.policy.as_ref().map(|p| json!({"version": p.version, "digest": p.digest})),
        "lease_until": shared.lease_until(),
        "sessions": state.sessions.len(),
        "here": shared.registry.live().len(),
        "credentials": state.credentials.len(),
        "postgres": api.postgres,
        "ssh": api.ssh,
        "ledger": api.gateway.ledger_key(),
    })))
}

pub(crate) async fn whoami(Of(api): Of<Arc<Api>>, caller: Caller) -> Answer {
    let state = api.gateway.shared().state();
    let declared = state.estate.subjects.get(&caller.subject);
    let party = state.party_of(&caller.subject);
    let planes: Vec<Plane> =
        Plane::ALL.into_iter().filter(|plane| party.is_some_and(|p| state.estate.acts_for(p, *plane))).collect();
    Ok(Json(json!({
        "subject": caller.subject,
        "kind": declared.map(|subject| subject.kind),
        "party": party,
        "owner": declared.map(|subject| &subject.owner),
        "administrator": declared.is_some_and(|subject| subject.administrator),
        "teams": party.map(|party| state.estate.teams_of(party)).unwrap_or_default(),
        "planes": planes,
        "risk": state.standing.get(&caller.subject).map_or(0, |standing| standing.risk),
        "key": caller.key,
        "not_after": caller.not_after_ms,
    })))
}

pub(crate) async fn requests(Of(api): Of<Arc<Api>>, caller: Caller) -> Answer {
    let state = api.gateway.shared().state();
    let seen = state.requests.values().filter(|request| rights::may_see_request(&state, &caller.subject, request));
    let seen: Vec<Value> = seen
        .map(|request| {
            let mut shown = json!(request);
            let role = state.estate.roles.get(&request.role);
            shown["approvers"] = json!(role.map(|role| &role.approvers));
            shown["needs"] = json!(role.map(|role| role.approvals));
            shown
        })
        .collect();
    Ok(Json(json!({"requests": seen})))
}

pub(crate) async fn grants(Of(api): Of<Arc<Api>>, caller: Caller) -> Answer {
    let state = api.gateway.shared().state();
    let now = now();
    let seen = state.grants.values().filter(|grant| grant.deadline > now);
    let seen: Vec<_> = seen.filter(|grant| rights::may_see_grant(&state, &caller.subject, grant)).collect();
    Ok(Json(json!({"grants": seen})))
}

/// Pending holds with their text, for those who may see it.
pub(crate) async fn holds(Of(api): Of<Arc<Api>>, caller: Caller) -> Answer {
    let shared = api.gateway.shared();
    let state = shared.state();
    let waiting = shared.registry.waiting();
    let seen = state.holds.values().filter(|hold| rights::may_see_hold(&state, &caller.subject, hold));
    let seen: Vec<Value> = seen
        .map(|hold| {
            let mut shown = json!(hold);
            if let Some(waiting) = waiting.get(&hold.id) {
                shown["text"] = json!(waiting.text);
                shown["operations"] = json!(waiting.operations);
                shown["why"] = json!(waiting.why);
            }
            if let Some(session) = state.sessions.get(&hold.session) {
                shown["resource"] = json!(session.resource);
                shown["role"] = json!(session.role);
                shown["database"] = json!(session.database);
                shown["purpose"] = json!(state.grants.get(&session.grant).map(|grant| &grant.purpose));
            }
            shown
        })
        .collect();
    Ok(Json(json!({"holds": seen})))
}

/// Every resource with the roles that can be asked for. Where it is reached is shown to those who govern only.
pub(crate) async fn resources(Of(api): Of<Arc<Api>>, caller: Caller) -> Answer {
    let state = api.gateway.shared().state();
    let governs = rights::governs(&state, &caller.subject);
    let now = now();
    let shown: Vec<Value> = state
        .estate
        .resources
        .iter()
        .map(|(id, resource)| {
            let roles: Vec<Value> = state
                .estate
                .roles
                .iter()
                .filter(|(_, role)| role.resources.contains(id))
                .map(|(name, role)| {
                    let held = state.grants_of(&caller.subject, id).find(|g| g.role == *name && g.deadline > now);
                    json!({"role": name, "why": role.why, "max_for": role.max_for, "approvers": role.approvers,
                           "approvals": role.approvals, "scope": role.scope,
                           "login": role.login, "shell": role.shell, "watchers": role.watchers,
                           "granted_until": held.map(|grant| grant.deadline)})
                })
                .collect();
            let owner = resource
                .owner
                .as_ref()
                .or_else(|| state.estate.services.get(&resource.service).map(|service| &service.owner));
            let mut shown = json!({"resource": id, "service": resource.service, "protocol": resource.protocol,
                                   "labels": resource.labels, "owner": owner, "roles": roles});
            if governs {
                shown["settings"] = json!(resource.settings);
            }
            shown
        })
        .collect();
    Ok(Json(json!({"resources": shown})))
}

/// Subjects: all of them for those who govern, and for anybody else themself.
pub(crate) async fn subjects(Of(api): Of<Arc<Api>>, caller: Caller) -> Answer {
    let state = api.gateway.shared().state();
    let governs = rights::governs(&state, &caller.subject);
    let shown: Vec<Value> = state
        .estate
        .subjects
        .iter()
        .filter(|(id, _)| governs || **id == caller.subject)
        .map(|(id, subject)| {
            let standing = state.standing.get(id);
            json!({"subject": id, "kind": subject.kind, "owner": subject.owner, "party": subject.party,
                   "administrator": subject.administrator,
                   "disabled": standing.and_then(|standing| standing.disabled.as_ref()),
                   "keys": standing.map_or(0, |standing| standing.keys.len()),
                   "risk": standing.map_or(0, |standing| standing.risk)})
        })
        .collect();
    Ok(Json(json!({"subjects": shown})))
}

#[derive(Deserialize)]
pub(crate) struct Window {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    max: Option<usize>,
}

/// Ledger entries. They are facts that people are held to, and hold no statements: any subject may read them.
pub(crate) async fn events(Of(api): Of<Arc<Api>>, _: Caller, Query(Window { from, max }): Query<Window>) -> Answer {
    let size = api.gateway.shared().state().as_of;
    let entries = page(&api.gateway, from, max.unwrap_or(100).clamp(1, EVENTS)).await?;
    let shown: Vec<Value> = entries
        .into_iter()
        .filter(|(position, _)| *position < size)
        .map(|(position, entry)| json!({"position": position, "at": entry.at, "by": entry.by.to_string(), "what": entry.event}))
        .collect();
    Ok(Json(json!({"size": size, "events": shown})))
}
