//! Resolution: for each control plane the one active party who answers for a session, or the gap.
//!
//! It does not guess. A plane whose owner left is a gap, and the gap names who could close it.

use crate::estate::Plane;
use crate::ids::{PartyId, ResourceId, RoleId, SubjectId};
use crate::state::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A party and the rule that makes it accountable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Who.
    pub party: PartyId,
    /// Why it is this one: `owner of role reader`.
    pub because: String,
}

/// Proof that every control plane of a session resolved to an active owner.
///
/// Its field is private and only [`resolve`] makes one; a session cannot be built without it. (Reading one back from
/// the ledger is reading history: it was resolved when it was written.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Accountable(BTreeMap<Plane, Owner>);

impl Accountable {
    /// The owners, in the order of the planes.
    pub fn owners(&self) -> impl Iterator<Item = (Plane, &Owner)> {
        self.0.iter().map(|(plane, owner)| (*plane, owner))
    }

    /// The owner of one plane.
    pub fn of(&self, plane: Plane) -> Option<&Owner> {
        self.0.get(&plane)
    }
}

/// A plane without an active owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The plane.
    pub plane: Plane,
    /// What has no owner, and who last had it.
    pub missing: String,
    /// What to do, and who can.
    pub fix: String,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.plane, self.missing, self.fix)
    }
}

/// Finds who answers for `subject` using `role` on `resource`, on every plane.
///
/// # Errors
/// All gaps at once, so that they can be closed at once. Brief S0-13, S2-02, S2-13.
pub fn resolve(
    state: &State,
    subject: &SubjectId,
    resource: &ResourceId,
    role: &RoleId,
) -> Result<Accountable, Vec<Gap>> {
    let estate = &state.estate;
    let mut owners = BTreeMap::new();
    let mut gaps = Vec::new();
    let closer = |plane: Plane| match estate.planes.get(&plane).map(|o| &o.accountable) {
        Some(party) if estate.is_active(party) => format!("`{party}`, who owns the {plane} plane, can name one"),
        _ => "an administrator can name one and `onus apply` it".to_owned(),
    };
    let mut settle = |plane: Plane, party: Option<&PartyId>, because: String, what: String| match party {
        Some(party) if estate.is_active(party) => {
            owners.insert(plane, Owner { party: party.clone(), because });
        }
        Some(left) => {
            gaps.push(Gap { plane, missing: format!("{what} has no active owner: `{left}` left"), fix: closer(plane) })
        }
        None => gaps.push(Gap { plane, missing: format!("{what} has no owner"), fix: closer(plane) }),
    };

    let declared = estate.subjects.get(subject);
    settle(
        Plane::Lifecycle,
        declared.map(|s| &s.owner),
        format!("owner of subject {subject}"),
        format!("subject `{subject}`"),
    );
    settle(
        Plane::Elevation,
        estate.roles.get(role).map(|r| &r.owner),
        format!("owner of role {role}"),
        format!("role `{role}`"),
    );
    let reached = estate.resources.get(resource);
    let service = reached.map(|r| &r.service);
    match reached.and_then(|r| r.owner.as_ref()) {
        Some(own) => {
            settle(Plane::Service, Some(own), format!("owner of resource {resource}"), format!("resource `{resource}`"))
        }
        None => settle(
            Plane::Service,
            service.and_then(|s| estate.services.get(s)).map(|s| &s.owner),
            service.map_or_else(String::new, |s| format!("owner of service {s}")),
            format!("the service of resource `{resource}`"),
        ),
    }
    for plane in [Plane::Issuance, Plane::Runtime, Plane::Response, Plane::Change] {
        settle(
            plane,
            estate.planes.get(&plane).map(|o| &o.accountable),
            format!("owner of the {plane} plane"),
            format!("the {plane} plane"),
        );
    }
    // A policy decides about every operation of the session; one that nobody answers for decides nothing.
    if let Some(policy) = &state.policy {
        for (id, party) in policy.owners.iter().filter(|(_, party)| !estate.is_active(party)) {
            gaps.push(Gap {
                plane: Plane::Elevation,
                missing: format!("policy `{id}` has no active owner: `{party}` left"),
                fix: closer(Plane::Elevation),
            });
        }
    }
    if gaps.is_empty() { Ok(Accountable(owners)) } else { Err(gaps) }
}
