//! Asking for access, answering, ending it: requests, grants, holds, kills.

use crate::answer::{Body, Problem, id};
use crate::caller::Caller;
use crate::change::Why;
use crate::rights;
use crate::server::{Api, appended, entries};
use axum::Json;
use axum::extract::{Path, State as Of};
use axum::http::StatusCode;
use onus_core::command::Command;
use onus_core::event::{Event, KillTarget};
use onus_core::ids::{RequestId, ResourceId, RoleId};
use onus_core::time::Millis;
use onus_core::view::Scope;
use onus_gateway::ids;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

type Answer = Result<Json<Value>, Problem>;

async fn give(api: &Api, caller: &Caller, command: Command) -> Answer {
    Ok(Json(json!({"events": appended(&api.gateway.give(command, caller.actor()).await?)})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    resource: ResourceId,
    role: RoleId,
    purpose: String,
    /// Milliseconds.
    lasts: Millis,
    #[serde(default)]
    scope: Scope,
}

pub(crate) async fn ask(Of(api): Of<Arc<Api>>, caller: Caller, Body(ask): Body<Ask>) -> Answer {
    let Ask { resource, role, purpose, lasts, scope } = ask;
    let request = ids::request();
    let command = Command::RequestAccess { id: request.clone(), resource, role: role.clone(), purpose, scope, lasts };
    let done = api.gateway.give(command, caller.actor()).await?;
    let state = api.gateway.shared().state();
    let role = state.estate.roles.get(&role);
    Ok(Json(json!({
        "request": request,
        "approvers": role.map(|role| &role.approvers),
        "approvals": role.map(|role| role.approvals),
        "events": appended(&done),
    })))
}

pub(crate) async fn request(Of(api): Of<Arc<Api>>, caller: Caller, Path(request): Path<String>) -> Answer {
    let wanted: RequestId = id(&request)?;
    let unknown = || Problem::missing(format!("there is no request `{wanted}` of yours, or for you to answer"));
    {
        let state = api.gateway.shared().state();
        if let Some(request) = state.requests.get(&wanted) {
            if !rights::may_see_request(&state, &caller.subject, request) {
                return Err(unknown());
            }
            return Ok(Json(json!({"state": "waiting", "request": request})));
        }
    }
    let mut asked = None;
    let mut answer = json!({"state": "unknown"});
    for entry in entries(&api.gateway).await? {
        match entry.event {
            Event::AccessRequested { request } if request.id == wanted => asked = Some(request),
            Event::RequestRefused { request, reason } if request == wanted => {
                answer = json!({"state": "refused", "by": entry.by.to_string(), "reason": reason});
            }
            Event::GrantIssued { grant } if grant.request == wanted => {
                answer = json!({"state": "granted", "grant": grant});
            }
            _ => {}
        }
    }
    let state = api.gateway.shared().state();
    match asked {
        Some(request) if rights::may_see_request(&state, &caller.subject, &request) => {
            answer["request"] = json!(request);
            Ok(Json(answer))
        }
        _ => Err(unknown()),
    }
}

pub(crate) async fn answer_request(
    Of(api): Of<Arc<Api>>,
    caller: Caller,
    Path((request, verb)): Path<(String, String)>,
    Body(Why { reason }): Body<Why>,
) -> Answer {
    let request = id(&request)?;
    match verb.as_str() {
        "approve" => give(&api, &caller, Command::ApproveRequest { request, grant: ids::grant() }).await,
        "refuse" => give(&api, &caller, Command::RefuseRequest { request, reason }).await,
        _ => Err(Problem::missing("a request can be approved or refused")),
    }
}

pub(crate) async fn answer_hold(
    Of(api): Of<Arc<Api>>,
    caller: Caller,
    Path((hold, verb)): Path<(String, String)>,
    Body(Why { reason }): Body<Why>,
) -> Answer {
    let hold = id(&hold)?;
    match verb.as_str() {
        "confirm" => give(&api, &caller, Command::ConfirmHold { hold }).await,
        "refuse" => give(&api, &caller, Command::RefuseHold { hold, reason }).await,
        _ => Err(Problem::missing("a hold can be confirmed or refused")),
    }
}

pub(crate) async fn revoke(
    Of(api): Of<Arc<Api>>,
    caller: Caller,
    Path(grant): Path<String>,
    Body(Why { reason }): Body<Why>,
) -> Answer {
    give(&api, &caller, Command::RevokeGrant { grant: id(&grant)?, reason }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kill {
    /// `session`, `subject`, `resource`; without it, whichever one thing bears the name.
    #[serde(default)]
    kind: Option<String>,
    id: String,
    reason: String,
}

pub(crate) async fn kill(Of(api): Of<Arc<Api>>, caller: Caller, Body(kill): Body<Kill>) -> Answer {
    let target = aim(&api, kill.kind.as_deref(), &kill.id)?;
    let shown = target.to_string();
    let done = api.gateway.give(Command::Kill { target, reason: kill.reason }, caller.actor()).await?;
    let sessions: Vec<_> = done
        .iter()
        .filter_map(|appended| match &appended.entry.event {
            Event::KillOrdered { sessions, .. } => Some(sessions.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    Ok(Json(json!({"target": shown, "sessions": sessions, "events": appended(&done)})))
}

fn aim(api: &Api, kind: Option<&str>, name: &str) -> Result<KillTarget, Problem> {
    let state = api.gateway.shared().state();
    match kind {
        Some("session") => return Ok(KillTarget::Session(id(name)?)),
        Some("subject") => return Ok(KillTarget::Subject(id(name)?)),
        Some("resource") => return Ok(KillTarget::Resource(id(name)?)),
        Some(_) => {
            let text = "a kill is aimed at a session, a subject or a resource";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text));
        }
        None => {}
    }
    let (session, subject, resource) = (id(name)?, id(name)?, id(name)?);
    let mut fits = Vec::new();
    if state.sessions.contains_key(&session) {
        fits.push(KillTarget::Session(session));
    }
    if state.estate.subjects.contains_key(&subject) {
        fits.push(KillTarget::Subject(subject));
    }
    if state.estate.resources.contains_key(&resource) {
        fits.push(KillTarget::Resource(resource));
    }
    match fits.len() {
        1 => Ok(fits.remove(0)),
        0 => Err(Problem::missing(format!("no live session, subject or resource is called `{name}`"))
            .next("`onus session list` shows what is live")),
        // Ending the wrong sessions is worse than asking again.
        _ => Err(Problem::new(StatusCode::CONFLICT, format!("`{name}` names more than one thing"))
            .next("add --session, --subject or --resource")),
    }
}
