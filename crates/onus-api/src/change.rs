//! Changing what is declared: estate, policy, leavers, subjects' standing and risk, upstream secrets.

use crate::answer::{Body, Problem, id};
use crate::caller::Caller;
use crate::rights;
use crate::server::{Api, appended, blocking};
use axum::Json;
use axum::extract::{Path, State as Of};
use axum::http::StatusCode;
use onus_core::command::{Command, handle};
use onus_core::estate::{Difference, Estate};
use onus_core::ids::ResourceId;
use onus_gateway::ActivateError;
use onus_gateway::policy::{PolicyTexts, owners};
use onus_gateway::upstream::{LoginSecret, VAULT_KIND};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

fn governs(api: &Api, caller: &Caller) -> Result<(), Problem> {
    if rights::governs(&api.gateway.shared().state(), &caller.subject) {
        return Ok(());
    }
    Err(Problem::forbidden(format!("`{}` owns no plane and is no administrator", caller.subject)))
}

pub(crate) async fn estate(Of(api): Of<Arc<Api>>, caller: Caller) -> Result<Json<Value>, Problem> {
    governs(&api, &caller)?;
    let state = api.gateway.shared().state();
    Ok(Json(json!({"as_of": state.as_of, "estate": state.estate})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Apply {
    #[serde(default)]
    dry_run: bool,
    estate: Estate,
}

pub(crate) async fn apply_estate(
    Of(api): Of<Arc<Api>>,
    caller: Caller,
    Body(Apply { dry_run, estate }): Body<Apply>,
) -> Result<Json<Value>, Problem> {
    governs(&api, &caller)?;
    let command = Command::ApplyEstate { wanted: Box::new(estate.clone()) };
    let changes: Vec<Value> = {
        let state = api.gateway.shared().state();
        if dry_run {
            match handle(&state, command.clone(), &caller.actor(), onus_gateway::now()) {
                Ok(_) | Err(onus_core::refusal::Refusal::NothingToDo) => {}
                Err(refusal) => return Err((&refusal).into()),
            }
        }
        state.estate.difference(&estate).iter().map(change).collect()
    };
    if dry_run {
        return Ok(Json(json!({"applied": false, "changes": changes})));
    }
    let done = api.gateway.give(command, caller.actor()).await?;
    Ok(Json(json!({"applied": true, "changes": changes, "events": appended(&done)})))
}

fn change(step: &Difference) -> Value {
    let (what, declared) = match step {
        Difference::Add(declared) => ("add", declared),
        Difference::Change { to, .. } => ("change", &**to),
        Difference::Remove(declared) => ("remove", declared),
    };
    let (kind, name) = declared.key();
    json!({"change": what, "kind": kind, "name": name})
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    #[serde(default)]
    dry_run: bool,
    files: std::collections::BTreeMap<String, String>,
}

fn problems<P: std::fmt::Display>(found: &[P]) -> Problem {
    Problem::several(
        "the policy set has problems and was not activated",
        found.iter().map(ToString::to_string).collect(),
    )
}

pub(crate) async fn policy(
    Of(api): Of<Arc<Api>>,
    caller: Caller,
    Body(Policy { dry_run, files }): Body<Policy>,
) -> Result<Json<Value>, Problem> {
    governs(&api, &caller)?;
    let texts = PolicyTexts { files, ..PolicyTexts::default() };
    if dry_run {
        let set = api.gateway.check_policy(texts).map_err(|found| problems(&found))?;
        let state = api.gateway.shared().state();
        let changes = state.policy.as_ref().is_none_or(|policy| policy.digest != set.digest());
        return Ok(Json(
            json!({"applied": false, "changes": changes, "digest": set.digest(), "policies": owners(&set)}),
        ));
    }
    match api.gateway.activate_policy(texts, caller.actor()).await {
        Ok(done) => Ok(Json(json!({"applied": true, "events": appended(&done)}))),
        Err(ActivateError::Problems(found)) => Err(problems(&found)),
        Err(ActivateError::Control(error)) => Err(error.into()),
        Err(ActivateError::Store(fault)) => Err(Problem::unavailable("the policy texts could not be kept", &fault)),
    }
}

#[derive(Deserialize)]
pub(crate) struct Why {
    #[serde(default)]
    pub reason: String,
}

pub(crate) async fn party_left(
    Of(api): Of<Arc<Api>>,
    caller: Caller,
    Path(party): Path<String>,
    Body(Why { reason }): Body<Why>,
) -> Result<Json<Value>, Problem> {
    let command = Command::RecordLeaver { party: id(&party)?, reason };
    Ok(Json(json!({"events": appended(&api.gateway.give(command, caller.actor()).await?)})))
}

#[derive(Deserialize)]
pub(crate) struct Standing {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    band: Option<u8>,
}

pub(crate) async fn subject(
    Of(api): Of<Arc<Api>>,
    caller: Caller,
    Path((subject, verb)): Path<(String, String)>,
    Body(Standing { reason, band }): Body<Standing>,
) -> Result<Json<Value>, Problem> {
    let subject = id(&subject)?;
    let command = match (verb.as_str(), band) {
        ("disable", _) => Command::DisableSubject { subject, reason },
        ("enable", _) => Command::EnableSubject { subject, reason },
        ("risk", Some(band @ 0..=4)) => Command::SetRisk { subject, band, why: reason },
        ("risk", _) => {
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "a risk band is 0 (none) to 4 (act now)"));
        }
        _ => return Err(Problem::missing("a subject can be disabled, enabled, or given a risk band")),
    };
    Ok(Json(json!({"events": appended(&api.gateway.give(command, caller.actor()).await?)})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    user: String,
    password: String,
}

/// Keeps an upstream's administrative or standing credential, sealed. It can't be read back through this API.
pub(crate) async fn secret(
    Of(api): Of<Arc<Api>>,
    caller: Caller,
    Path((resource, name)): Path<(String, String)>,
    Body(Login { user, password }): Body<Login>,
) -> Result<Json<Value>, Problem> {
    let resource: ResourceId = id(&resource)?;
    let _: ResourceId = id(&name)?;
    {
        let state = api.gateway.shared().state();
        if !rights::is_administrator(&state, &caller.subject) {
            return Err(Problem::forbidden(format!("`{}` is no administrator", caller.subject)));
        }
        if !state.estate.resources.contains_key(&resource) {
            return Err(Problem::missing(format!("there is no resource `{resource}`"))
                .next("declare it first (`onus apply`), so that the secret has an owner"));
        }
    }
    if user.is_empty() || password.is_empty() {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "give a user and a password"));
    }
    let place = format!("{resource}/{name}");
    let secret =
        serde_json::to_vec(&LoginSecret { user: user.clone(), password }).expect("text can be written as JSON");
    let name = place.clone();
    blocking(&api.gateway, move |gateway| gateway.vault.put(VAULT_KIND, &name, &secret))
        .await?
        .map_err(|fault| Problem::unavailable("the vault is not available", &fault))?;
    tracing::info!(secret = %place, by = %caller.subject, "an upstream secret was set");
    Ok(Json(json!({"secret": place, "user": user})))
}
