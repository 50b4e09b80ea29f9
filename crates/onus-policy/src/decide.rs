//! The decision: evaluates the slice that can apply, and makes one effect of what was satisfied.
//!
//! ```text
//! any evaluation error           deny, naming the policy (invariant 7: Cedar itself would skip it, forbids included)
//! terminate forbids satisfied    terminate, permitted or not
//! deny forbids satisfied         deny
//! no permit satisfied            deny: nothing permits it
//! hold forbids satisfied         hold, for somebody whom all of them name; deny if there is nobody
//! otherwise                      permit
//! ```
//! Terminate beats an error's deny. It does not look at scope and deadline: `onus_core::decision::judge` does, first.

use crate::annotations::{Policy, PolicyEffect};
use crate::request;
use crate::set::{PolicySet, own_id};
use crate::slice::Slice;
use cedar_policy::{Entities, Request};
use onus_core::decision::{Confirmation, Decide, Decision, Determining, Effect};
use onus_core::operation::{Class, Operation};
use onus_core::time::Timestamp;
use onus_core::view::View;
use std::collections::BTreeSet;

impl Decide for PolicySet {
    fn decide(&self, view: &View, operation: &Operation, now: Timestamp) -> Decision {
        self.answer(view, operation, now).unwrap_or_else(Decision::deny)
    }
}

/// What evaluation found.
#[derive(Default)]
struct Found<'a> {
    satisfied: Vec<&'a Policy>,
    errors: BTreeSet<String>,
}

impl PolicySet {
    /// The decision, or why there can be none, which is a denial.
    fn answer(&self, view: &View, operation: &Operation, now: Timestamp) -> Result<Decision, String> {
        let name = operation.action.as_str();
        let (Some(action), Some(statics)) = (self.schema.action(name), self.slices.get(name)) else {
            return Err(format!("the action `{name}` is not one that policies know"));
        };
        // Policies are written about classes; a classifier that disagrees with the table must not choose between them.
        if action.class != operation.class {
            let (table, claimed) = (action.class, operation.class);
            return Err(format!("the action `{name}` is of class `{table}`, but the operation claims `{claimed}`"));
        }
        if operation.class != Class::Opaque && !operation.opaque.is_empty() {
            return Err(format!("the operation `{name}` has parts that cannot be known, but does not say so"));
        }
        let linked = self.links.of(view, || self.link(view))?;
        let none = BTreeSet::new();
        let unlocks = self.roles.get(&view.role).map_or(&none, |role| &role.unlocks);
        let uses = statics.uses.and(linked.uses);
        let (request, entities) = request::request(&self.schema, action, view, operation, now, unlocks, uses)?;
        let mut found = Found::default();
        for Slice { permits, forbids, .. } in [&**statics, &*linked] {
            self.evaluate(&request, &entities, forbids, &mut found);
            self.evaluate(&request, &entities, permits, &mut found);
        }
        let mut decision = resolve(found, || match self.roles.get(&view.role) {
            Some(templates) => {
                // Where nothing speaks for it there is no determining policy to name; the role's own are who to ask.
                let mut asked: Vec<String> = Vec::new();
                for place in &templates.places {
                    let about = &self.policies[*place].about;
                    asked.push(format!("`{}`, owned by {}", about.id, about.owner));
                }
                format!(
                    "no policy permits `{name}` for role `{}`; what it may do is in {}",
                    view.role,
                    asked.join(", ")
                )
            }
            None => format!("no policy permits `{name}`, and no role `{}` is defined", view.role),
        });
        // The slice's policies, not just the satisfied ones: one that looks at the clock may apply a minute later.
        decision.valid_until = uses.moment().then(|| next_minute(now));
        Ok(decision)
    }

    fn evaluate<'a>(
        &'a self,
        request: &Request,
        entities: &Entities,
        set: &cedar_policy::PolicySet,
        found: &mut Found<'a>,
    ) {
        if set.is_empty() {
            return;
        }
        let response = self.authorizer.is_authorized(request, set, entities);
        for id in response.diagnostics().reason() {
            match self.by_id.get(own_id(id)) {
                Some(place) => found.satisfied.push(&self.policies[*place].about),
                None => {
                    found.errors.insert(format!("the evaluation names an unknown policy `{id}`"));
                }
            }
        }
        for error in response.diagnostics().errors() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
            found.errors.insert(format!(
                "policy `{}` could not be evaluated: {}",
                own_id(error.policy_id()),
                error.inner()
            ));
        }
    }
}

/// The first moment of the next minute.
fn next_minute(now: Timestamp) -> Timestamp {
    Timestamp((now.0 / 60_000).saturating_add(1).saturating_mul(60_000))
}

fn resolve(found: Found<'_>, unpermitted: impl FnOnce() -> String) -> Decision {
    let Found { satisfied, errors } = found;
    let of = |effect: Effect| satisfied.iter().filter(move |p| p.effect.effect() == effect).copied();
    let determined = |effect: Effect| {
        let mut all: Vec<_> = of(effect)
            .map(|p| Determining { policy: p.id.clone(), owner: p.owner.clone(), why: p.why.clone() })
            .collect();
        all.sort();
        all
    };
    let mut decision = Decision {
        effect: Effect::Deny,
        determining: Vec::new(),
        reasons: errors.into_iter().collect(),
        confirmation: None,
        valid_until: None,
    };
    if of(Effect::Terminate).next().is_some() {
        decision.effect = Effect::Terminate;
        decision.determining = determined(Effect::Terminate);
    } else if of(Effect::Deny).next().is_some() {
        decision.determining = determined(Effect::Deny);
        // Whoever is refused should not take a guard for the only obstacle.
        if decision.reasons.is_empty() && of(Effect::Permit).next().is_none() {
            decision.reasons.push(unpermitted());
        }
    } else if !decision.reasons.is_empty() {
        // Denied for the errors alone; what else was satisfied may be half the truth.
    } else if of(Effect::Permit).next().is_none() {
        decision.reasons.push(unpermitted());
    } else if of(Effect::Hold).next().is_some() {
        decision.determining = determined(Effect::Hold);
        let terms = satisfied.iter().filter_map(|p| match &p.effect {
            PolicyEffect::Hold(terms) => Some(terms.clone()),
            PolicyEffect::Permit | PolicyEffect::Deny | PolicyEffect::Terminate => None,
        });
        let all = terms.reduce(|a, b| Confirmation {
            by: a.by.intersection(&b.by).cloned().collect(),
            within: a.within.min(b.within),
        });
        match all {
            Some(terms) if !terms.by.is_empty() => {
                decision.effect = Effect::Hold;
                decision.confirmation = Some(terms);
            }
            _ => {
                decision.reasons.push("it would be held, but nobody is named by every policy that holds it".to_owned())
            }
        }
    } else {
        decision.effect = Effect::Permit;
        decision.determining = determined(Effect::Permit);
    }
    decision
}

#[cfg(test)]
pub(crate) mod tests;
