//! The change plane: putting an estate and a policy set in force.

use crate::estate::{Difference, Estate, Plane};
use crate::event::{Actor, Event};
use crate::ids::{PartyId, PolicyId};
use crate::refusal::Refusal;
use crate::state::State;
use std::collections::BTreeMap;

/// Whether `by` may change what is declared: an administrator in good standing, or the operator while the ledger is
/// still empty.
fn may_change(state: &State, by: &Actor, what: &'static str) -> Result<(), Refusal> {
    let allowed = match by {
        Actor::Operator => state.policy.is_none() || state.estate.subjects.is_empty(),
        Actor::Subject(id) => {
            state.in_good_standing(id) && state.estate.subjects.get(id).is_some_and(|subject| subject.administrator)
        }
        Actor::Gateway(_) => false,
    };
    if allowed {
        return Ok(());
    }
    let administrators: Vec<_> =
        state.estate.subjects.iter().filter(|(_, s)| s.administrator).map(|(id, _)| format!("`{id}`")).collect();
    Err(Refusal::NotAllowed { subject: by.to_string(), what, who: administrators.join(", ") })
}

/// Events that bring the estate to `wanted`. The whole difference or nothing.
pub(crate) fn apply_estate(state: &State, wanted: &Estate, by: &Actor) -> Result<Vec<Event>, Refusal> {
    may_change(state, by, "apply an estate")?;
    let problems = wanted.problems();
    if !problems.is_empty() {
        return Err(Refusal::EstateProblems(problems.iter().map(ToString::to_string).collect()));
    }
    if !wanted.subjects.values().any(|subject| subject.administrator) {
        let text = "no subject is an administrator, so nobody could change the estate again".to_owned();
        return Err(Refusal::EstateProblems(vec![text]));
    }
    let steps = state.estate.difference(wanted);
    if steps.is_empty() {
        return Err(Refusal::NothingToDo);
    }
    Ok(steps
        .into_iter()
        .map(|step| match step {
            Difference::Add(declared) => Event::EstateDeclared { declared },
            Difference::Change { to, .. } => Event::EstateDeclared { declared: *to },
            Difference::Remove(declared) => Event::EstateWithdrawn { declared },
        })
        .collect())
}

/// Notes that a party left. Sessions that need it as an owner end by being judged again.
pub(crate) fn record_leaver(state: &State, party: PartyId, reason: String, by: &Actor) -> Result<Vec<Event>, Refusal> {
    let lifecycle = match by {
        Actor::Subject(id) => state.party_of(id).is_some_and(|p| state.estate.acts_for(p, Plane::Lifecycle)),
        _ => false,
    };
    if !lifecycle {
        may_change(state, by, "record a leaver")?;
    }
    if reason.trim().is_empty() {
        return Err(Refusal::ReasonMissing);
    }
    if !state.estate.is_active(&party) {
        return Err(Refusal::UnknownParty(party));
    }
    Ok(vec![Event::PartyLeft { party, reason }])
}

/// Puts a policy set in force.
pub(crate) fn activate_policy(
    state: &State,
    digest: String,
    blob: String,
    policies: BTreeMap<PolicyId, PartyId>,
    by: &Actor,
) -> Result<Vec<Event>, Refusal> {
    may_change(state, by, "activate a policy set")?;
    if state.policy.as_ref().is_some_and(|policy| policy.digest == digest) {
        return Err(Refusal::NothingToDo);
    }
    if let Some(party) = policies.values().find(|party| !state.estate.is_active(party)) {
        return Err(Refusal::UnknownParty(party.clone()));
    }
    let version = state.policy.as_ref().map_or(1, |policy| policy.version + 1);
    Ok(vec![Event::PolicyActivated { version, digest, blob, policies }])
}
