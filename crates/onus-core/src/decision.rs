//! The decision: what the policy decision point answers, and how several answers become one.
//!
//! Pure, and the same for every protocol. It never says *how* a refusal is spelled: that is the protocol's affair.

use crate::ids::{PartyId, PolicyId};
use crate::operation::Operation;
use crate::time::{Millis, Timestamp};
use crate::view::View;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What is to happen with an operation, mildest first: the order is that of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It may go on.
    Permit,
    /// It waits until somebody named confirms exactly this operation.
    Hold,
    /// It is refused; the session goes on.
    Deny,
    /// It is refused and the session ends.
    Terminate,
}

impl Effect {
    /// The word used in policies, journals and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Hold => "hold",
            Self::Deny => "deny",
            Self::Terminate => "terminate",
        }
    }
}

/// A policy that determined a decision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Determining {
    /// Its `@id`; for a role's template, the template's.
    pub policy: PolicyId,
    /// Its `@owner`: who answers for it.
    pub owner: PartyId,
    /// Its `@why`, in words for the person who is refused.
    pub why: String,
}

/// Who must confirm a held operation, and how fast.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Confirmation {
    /// Parties or teams, one of whom must confirm. Never the session's own subject (invariant 6).
    pub by: BTreeSet<String>,
    /// How long the operation waits before the hold expires and it is refused.
    pub within: Millis,
}

/// The answer of the policy decision point to one access request or, combined, to all of a frame's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What is to happen.
    pub effect: Effect,
    /// The policies that determined it, sorted. Empty when nothing permitted it.
    pub determining: Vec<Determining>,
    /// Why, for people, where it was not a policy that decided (scope, deadline, evaluation error, no permit).
    pub reasons: Vec<String>,
    /// For a hold: who confirms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Confirmation>,
    /// The last moment at which this answer may be reused for the same operation under the same view; `None` when
    /// it depends on no moment. Exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
}

impl Decision {
    /// A refusal for a reason that no policy wrote.
    pub fn deny(reason: impl Into<String>) -> Self {
        Self {
            effect: Effect::Deny,
            determining: Vec::new(),
            reasons: vec![reason.into()],
            confirmation: None,
            valid_until: None,
        }
    }

    /// Two answers as one: the more severe wins, and of two equally severe both speak.
    ///
    /// Two holds need one confirmation by somebody whom both name; if nobody is named by both, nobody can confirm,
    /// and the operation is refused.
    pub fn combine(self, other: Self) -> Self {
        let valid_until = match (self.valid_until, other.valid_until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, None) | (None, one) => one,
        };
        let mut kept = match self.effect.cmp(&other.effect) {
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Equal => {
                let mut both = self;
                both.determining.extend(other.determining);
                both.determining.sort();
                both.determining.dedup();
                for reason in other.reasons {
                    if !both.reasons.contains(&reason) {
                        both.reasons.push(reason);
                    }
                }
                both.confirmation = match (both.confirmation, other.confirmation) {
                    (Some(a), Some(b)) => Some(Confirmation {
                        by: a.by.intersection(&b.by).cloned().collect(),
                        within: a.within.min(b.within),
                    }),
                    (one, None) | (None, one) => one,
                };
                both
            }
        };
        kept.valid_until = valid_until;
        if kept.effect == Effect::Hold && kept.confirmation.as_ref().is_none_or(|c| c.by.is_empty()) {
            kept.effect = Effect::Deny;
            kept.reasons.push("it would be held, but nobody is named who could confirm it".to_owned());
            kept.confirmation = None;
        }
        kept
    }
}

/// The policy decision point: synchronous, in memory, and pure (same view, operation and moment, same answer).
pub trait Decide {
    /// Answers one access request. An evaluation that fails is a [`Effect::Deny`] (invariant 7), never an error.
    fn decide(&self, view: &View, operation: &Operation, now: Timestamp) -> Decision;
}

/// Decides about all operations of one frame: deadline and scope first, which no policy can widen, then policy for
/// each; the most severe answer wins. A frame without operations (an empty statement) is permitted.
pub fn judge(pdp: &dyn Decide, view: &View, operations: &[Operation], now: Timestamp) -> Decision {
    if now >= view.deadline {
        let mut ended = Decision::deny(format!("the grant `{}` ended at {}", view.grant, view.deadline));
        ended.effect = Effect::Terminate;
        return ended;
    }
    if !view.scope.databases.is_empty() && !view.scope.databases.contains(&view.database) {
        return Decision::deny(format!("the grant's scope does not reach database `{}`", view.database));
    }
    operations
        .iter()
        .map(|operation| match view.scope.outside(operation) {
            Some(what) => Decision::deny(format!("the grant's scope does not reach {what}")),
            None => explained(pdp.decide(view, operation, now), operation),
        })
        .reduce(Decision::combine)
        .unwrap_or(Decision {
            effect: Effect::Permit,
            determining: Vec::new(),
            reasons: Vec::new(),
            confirmation: None,
            valid_until: None,
        })
}

/// Says of a refused operation what about it could not be known, before anything else: it is what the person who is
/// refused can do something about.
fn explained(mut decision: Decision, operation: &Operation) -> Decision {
    if decision.effect > Effect::Hold {
        let unknown = operation.opaque.iter().map(|why| format!("it cannot be known what this does: {why}"));
        decision.reasons.splice(0..0, unknown);
    }
    decision
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(by: &[&str]) -> Decision {
        Decision {
            effect: Effect::Hold,
            determining: Vec::new(),
            reasons: Vec::new(),
            confirmation: Some(Confirmation { by: by.iter().map(|b| b.to_string()).collect(), within: Millis(1000) }),
            valid_until: None,
        }
    }

    #[test]
    fn the_more_severe_answer_wins_in_either_order() {
        let deny = Decision::deny("no");
        assert_eq!(hold(&["bob"]).combine(deny.clone()).effect, Effect::Deny);
        assert_eq!(deny.combine(hold(&["bob"])).effect, Effect::Deny);
    }

    #[test]
    fn two_holds_need_somebody_whom_both_name() {
        let both = hold(&["bob", "carol"]).combine(hold(&["carol"]));
        assert_eq!(both.confirmation.map(|c| c.by), Some(["carol".to_owned()].into()));
        assert_eq!(hold(&["bob"]).combine(hold(&["carol"])).effect, Effect::Deny);
    }

    #[test]
    fn a_combined_answer_lapses_with_the_first_of_its_parts() {
        let mut early = hold(&["bob"]);
        early.valid_until = Some(Timestamp(5));
        let deny = Decision::deny("no");
        assert_eq!(deny.combine(early).valid_until, Some(Timestamp(5)));
    }
}
