//! State: the fold of the ledger and nothing else.
//!
//! [`State::apply`] never fails and never refuses: what is in the ledger has happened. Refusing is `handle`'s, before.
//! Only what is live is held (open requests, live grants, live sessions, unproven credentials); the past is read from
//! the ledger. Sorted maps throughout, so that the same prefix gives the same bytes ([`State::snapshot`]).

use crate::estate::{Declared, Estate};
use crate::event::{Actor, Entry, Event, Grant, Hold, Request, Session};
use crate::ids::{CredentialId, GrantId, HoldId, PartyId, PolicyId, RequestId, ResourceId, SessionId, SubjectId};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How a subject stands, apart from what is declared of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Why it may do nothing; `None` when it is in good standing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<String>,
    /// SHA-256 of its enrolled public keys, hex.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub keys: BTreeSet<String>,
    /// Subjects on whose invitation those keys were enrolled.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub invited_by: BTreeSet<SubjectId>,
    /// The risk band, 0 to 4.
    #[serde(default)]
    pub risk: u8,
}

/// The policy set in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyInForce {
    /// Counts up from 1.
    pub version: u64,
    /// SHA-256 of the canonical text, hex.
    pub digest: String,
    /// SHA-256 of the blob that holds the texts, hex.
    pub blob: String,
    /// Who answers for each policy.
    pub owners: BTreeMap<PolicyId, PartyId>,
}

/// An upstream credential that may still be live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveCredential {
    /// For which session.
    pub session: SessionId,
    /// Where.
    pub resource: ResourceId,
    /// Which issuer made it.
    pub issuer: String,
    /// Its public name on the other side.
    pub name: String,
}

/// The control state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Number of entries folded.
    pub as_of: u64,
    /// The moment of the last one; a clock set back never makes an entry earlier than this.
    pub last_at: Timestamp,
    /// What is declared.
    pub estate: Estate,
    /// How subjects stand.
    pub standing: BTreeMap<SubjectId, Standing>,
    /// The policy set in force.
    pub policy: Option<PolicyInForce>,
    /// Requests that wait for an answer.
    pub requests: BTreeMap<RequestId, Request>,
    /// Grants that were neither revoked nor seen to expire.
    pub grants: BTreeMap<GrantId, Grant>,
    /// Live sessions.
    pub sessions: BTreeMap<SessionId, Session>,
    /// Operations that wait.
    pub holds: BTreeMap<HoldId, Hold>,
    /// Who watches which live session. Whether they count is asked anew each time ([`State::is_watched`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub watches: BTreeMap<SessionId, BTreeSet<SubjectId>>,
    /// Upstream credentials not yet proven to be gone.
    pub credentials: BTreeMap<CredentialId, LiveCredential>,
    /// Index, rebuilt by folding: live grants by holder and resource.
    #[serde(skip)]
    held: BTreeMap<(SubjectId, ResourceId), BTreeSet<GrantId>>,
}

impl State {
    /// Folds one more entry.
    pub fn apply(&mut self, entry: &Entry) {
        self.as_of += 1;
        self.last_at = self.last_at.max(entry.at);
        match &entry.event {
            Event::EstateDeclared { declared } => {
                if let Declared::Subject { id, .. } = declared {
                    self.standing.entry(id.clone()).or_default();
                }
                self.estate.declare(declared.clone());
            }
            Event::EstateWithdrawn { declared } => {
                if let Declared::Subject { id, .. } = declared {
                    self.standing.remove(id);
                }
                self.estate.withdraw(declared);
            }
            Event::PartyLeft { party, .. } => {
                if let Some(party) = self.estate.parties.get_mut(party) {
                    party.active = false;
                }
            }
            Event::PolicyActivated { version, digest, blob, policies } => {
                self.policy = Some(PolicyInForce {
                    version: *version,
                    digest: digest.clone(),
                    blob: blob.clone(),
                    owners: policies.clone(),
                });
            }
            Event::KeyEnrolled { subject, key } => {
                let standing = self.standing.entry(subject.clone()).or_default();
                standing.keys.insert(key.clone());
                if let Actor::Subject(inviter) = &entry.by {
                    standing.invited_by.insert(inviter.clone());
                }
            }
            Event::SubjectDisabled { subject, reason } => {
                let standing = self.standing.entry(subject.clone()).or_default();
                standing.disabled = Some(reason.clone());
                standing.keys.clear();
                standing.invited_by.clear();
            }
            Event::SubjectEnabled { subject, .. } => {
                self.standing.entry(subject.clone()).or_default().disabled = None;
            }
            Event::AccessRequested { request } => {
                self.requests.insert(request.id.clone(), request.clone());
            }
            Event::RequestApproved { request, approval } => {
                if let Some(request) = self.requests.get_mut(request) {
                    request.approvals.push(approval.clone());
                }
            }
            Event::RequestRefused { request, .. } => {
                self.requests.remove(request);
            }
            Event::GrantIssued { grant } => {
                self.requests.remove(&grant.request);
                self.index(grant.clone());
                self.grants.insert(grant.id.clone(), grant.clone());
            }
            Event::GrantRevoked { grant, .. } | Event::GrantExpired { grant } => {
                if let Some(gone) = self.grants.remove(grant) {
                    let key = (gone.subject, gone.resource);
                    if let Some(held) = self.held.get_mut(&key) {
                        held.remove(grant);
                        if held.is_empty() {
                            self.held.remove(&key);
                        }
                    }
                }
            }
            Event::SessionOpened { session } => {
                self.sessions.insert(session.id.clone(), session.clone());
            }
            Event::SessionClosed { session, .. } => {
                self.sessions.remove(session);
                self.watches.remove(session);
            }
            Event::CredentialIssued { credential, session, resource, issuer, name, .. } => {
                self.credentials.insert(
                    credential.clone(),
                    LiveCredential {
                        session: session.clone(),
                        resource: resource.clone(),
                        issuer: issuer.clone(),
                        name: name.clone(),
                    },
                );
            }
            Event::CredentialRevoked { credential, .. } => {
                self.credentials.remove(credential);
            }
            Event::HoldOpened { hold } => {
                self.holds.insert(hold.id.clone(), hold.clone());
            }
            Event::HoldConfirmed { hold, .. } | Event::HoldRefused { hold, .. } | Event::HoldLapsed { hold, .. } => {
                self.holds.remove(hold);
            }
            Event::RiskChanged { subject, band, .. } => {
                self.standing.entry(subject.clone()).or_default().risk = *band;
            }
            // A word that came too late must not outlive its session.
            Event::WatchBegan { session, subject, .. } if self.sessions.contains_key(session) => {
                self.watches.entry(session.clone()).or_default().insert(subject.clone());
            }
            Event::WatchEnded { session, subject, .. } => {
                if let Some(watching) = self.watches.get_mut(session) {
                    watching.remove(subject);
                    if watching.is_empty() {
                        self.watches.remove(session);
                    }
                }
            }
            Event::WatchBegan { .. }
            | Event::HostKeyChanged { .. }
            | Event::SessionRefused { .. }
            | Event::KillOrdered { .. }
            | Event::KillCompleted { .. }
            | Event::JournalAnchored { .. }
            | Event::GatewayStarted { .. } => {}
        }
    }

    /// The live grants that `subject` holds on `resource`.
    pub fn grants_of<'a>(&'a self, subject: &SubjectId, resource: &ResourceId) -> impl Iterator<Item = &'a Grant> {
        self.held.get(&(subject.clone(), resource.clone())).into_iter().flatten().filter_map(|id| self.grants.get(id))
    }

    /// Whether the subject is declared and in good standing.
    pub fn in_good_standing(&self, subject: &SubjectId) -> bool {
        self.estate.subjects.contains_key(subject)
            && self.standing.get(subject).is_none_or(|standing| standing.disabled.is_none())
    }

    /// Whether a key of `answerer` was enrolled on the invitation of `asker` or of the same person: who holds another's
    /// enrolment code may hold the other's key, and must not answer their own requests with it (invariant 6).
    pub fn vouched_for(&self, answerer: &SubjectId, asker: &SubjectId) -> bool {
        let person = self.party_of(asker);
        self.standing.get(answerer).is_some_and(|standing| {
            standing
                .invited_by
                .iter()
                .any(|inviter| inviter == asker || (person.is_some() && self.party_of(inviter) == person))
        })
    }

    /// Whether `one` is the person who acts as `other`, or who answers for it where it is no person.
    pub fn same_person(&self, one: &SubjectId, other: &SubjectId) -> bool {
        let acting = self.estate.subjects.get(other);
        one == other
            || self.party_of(one).is_some_and(|party| {
                acting.is_some_and(|acting| {
                    acting.party.as_ref() == Some(party) || (acting.party.is_none() && acting.owner == *party)
                })
            })
    }

    /// Whether the session's role demands that somebody watches. Such a session is to be frozen for as long as it is
    /// not [watched](Self::is_watched).
    pub fn needs_watch(&self, session: &SessionId) -> bool {
        let role = self.sessions.get(session).and_then(|session| self.estate.roles.get(&session.role));
        role.is_some_and(|role| !role.watchers.is_empty())
    }

    /// Whether somebody who counts watches the session now: in good standing, not its own person nor one that this
    /// person vouched for, and, where the role names watchers, one of them.
    pub fn is_watched(&self, session: &SessionId) -> bool {
        let Some(watched) = self.sessions.get(session) else { return false };
        let named = self.estate.roles.get(&watched.role).map(|role| &role.watchers).filter(|named| !named.is_empty());
        self.watches.get(session).into_iter().flatten().any(|watcher| {
            self.in_good_standing(watcher)
                && !self.same_person(watcher, &watched.subject)
                && !self.vouched_for(watcher, &watched.subject)
                && named
                    .is_none_or(|named| self.party_of(watcher).is_some_and(|party| self.estate.is_named(party, named)))
        })
    }

    /// The party that a subject is.
    pub fn party_of(&self, subject: &SubjectId) -> Option<&PartyId> {
        self.estate.subjects.get(subject)?.party.as_ref()
    }

    /// The state as bytes: the same ledger prefix always gives the same ones.
    ///
    /// # Panics
    /// Never: every map in here has text for a key.
    pub fn snapshot(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data with text keys can always be written as JSON")
    }

    /// The state in a snapshot's bytes.
    ///
    /// # Errors
    /// When the bytes are not a snapshot of this version; fold the ledger from its beginning instead.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut state: Self = serde_json::from_slice(bytes)?;
        let grants: Vec<Grant> = state.grants.values().cloned().collect();
        grants.into_iter().for_each(|grant| state.index(grant));
        Ok(state)
    }

    fn index(&mut self, grant: Grant) {
        self.held.entry((grant.subject, grant.resource)).or_default().insert(grant.id);
    }
}
