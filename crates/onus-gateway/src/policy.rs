//! The shelf of policy sets: those in force and those that live sessions were last judged under, by digest.
//!
//! A session takes its policy decision point from here by the digest in its view, so that the two can't drift apart.

use onus_core::ids::{PartyId, PolicyId};
use onus_core::operation::Class;
use onus_core::state::State;
use onus_policy::PolicySet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A policy set's files as they were given, with the names that they were validated against: the blob that an
/// activation points to. All that is needed to load exactly this set again, whoever left since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTexts {
    /// File names and texts, by name.
    pub files: BTreeMap<String, String>,
    /// The parties that were active when it was activated.
    #[serde(default)]
    pub parties: BTreeSet<String>,
    /// The teams that there were.
    #[serde(default)]
    pub teams: BTreeSet<String>,
}

impl PolicyTexts {
    /// The blob's bytes; the same files always give the same ones.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text can be written as JSON")
    }

    /// SHA-256 of [`PolicyTexts::to_bytes`].
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }

    /// Notes whom `state` knows, so that the set is validated against them now and whenever it is loaded again.
    pub fn known_to(mut self, state: &State) -> Self {
        self.parties = state.estate.parties.iter().filter(|(_, p)| p.active).map(|(id, _)| id.to_string()).collect();
        self.teams = state.estate.teams.keys().map(ToString::to_string).collect();
        self
    }

    /// Parses and validates the set.
    ///
    /// # Errors
    /// Every problem found, with file and line.
    pub fn load(&self) -> Result<PolicySet, Vec<onus_policy::PolicyProblem>> {
        let files: Vec<(&String, &String)> = self.files.iter().collect();
        let known = onus_policy::KnownParties { parties: self.parties.clone(), teams: self.teams.clone() };
        PolicySet::load(&files, &actions(), &known)
    }
}

/// Every action of every protocol: what policies can be written about.
pub fn actions() -> Vec<(&'static str, Class)> {
    let mut all = onus_pg::classify::ACTIONS.to_vec();
    all.extend(onus_ssh::actions::all());
    all
}

/// The owner of each policy, for the ledger.
pub fn owners(set: &PolicySet) -> BTreeMap<PolicyId, PartyId> {
    set.policies().map(|policy| (policy.id.clone(), policy.owner.clone())).collect()
}

/// Loaded policy sets by digest.
#[derive(Default)]
pub struct Shelf(Mutex<BTreeMap<String, Arc<PolicySet>>>);

impl Shelf {
    /// Puts a set on the shelf.
    pub fn put(&self, set: Arc<PolicySet>) {
        self.sets().insert(set.digest().to_owned(), set);
    }

    /// Keeps the set in force and those that sessions still hold, and no other.
    pub fn tidy(&self, in_force: &str) {
        self.sets().retain(|digest, set| digest == in_force || Arc::strong_count(set) > 1);
    }

    /// The set with this digest.
    pub fn by_digest(&self, digest: &str) -> Option<Arc<PolicySet>> {
        self.sets().get(digest).cloned()
    }

    fn sets(&self) -> MutexGuard<'_, BTreeMap<String, Arc<PolicySet>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
