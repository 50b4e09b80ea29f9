//! Slicing: which policies can apply to an action at all, judged by their scope alone.
//!
//! A policy is left out only if its scope names actions and none of them is this action or the group of its class.
//! Its conditions are never looked at, so nothing that could apply is dropped.

use crate::schema::Action;
use crate::uses::Uses;
use cedar_policy::ActionConstraint;

/// Whether a policy with this action constraint can apply to the action.
pub(crate) fn reaches(constraint: &ActionConstraint, action: &Action) -> bool {
    match constraint {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => *uid == action.uid,
        ActionConstraint::In(uids) => uids.iter().any(|uid| *uid == action.uid || *uid == action.group),
    }
}

/// Policies ready for evaluation: permits and forbids apart, because Cedar names a satisfied permit only where no
/// forbid is satisfied, and a hold needs to know both.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// The permits.
    pub permits: cedar_policy::PolicySet,
    /// The forbids.
    pub forbids: cedar_policy::PolicySet,
    /// What of the context they may look at.
    pub uses: Uses,
}
