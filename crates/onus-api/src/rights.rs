//! The right of access: who may see what, as pure questions to state.
//!
//! Doing is refused by the control plane (`onus-core`); this is about seeing only. What somebody typed is personal:
//! it is shown to themself, to those who answer for what they touched, and to those who watch and respond. To have
//! a client certificate is never enough.

use onus_core::estate::Plane;
use onus_core::event::{Grant, Hold, Request, Session};
use onus_core::ids::SubjectId;
use onus_core::state::State;

/// Whether the subject is an administrator in good standing.
pub fn is_administrator(state: &State, subject: &SubjectId) -> bool {
    state.in_good_standing(subject) && state.estate.subjects.get(subject).is_some_and(|s| s.administrator)
}

/// Whether the subject acts for one of the planes.
pub fn acts_for(state: &State, subject: &SubjectId, planes: &[Plane]) -> bool {
    state.in_good_standing(subject)
        && state.party_of(subject).is_some_and(|party| planes.iter().any(|plane| state.estate.acts_for(party, *plane)))
}

/// Administrators and those who watch and respond: they see every session.
pub fn oversees(state: &State, subject: &SubjectId) -> bool {
    is_administrator(state, subject) || acts_for(state, subject, &[Plane::Runtime, Plane::Response])
}

/// Administrators and whoever owns any plane: they see the estate, every subject, request and grant.
pub fn governs(state: &State, subject: &SubjectId) -> bool {
    is_administrator(state, subject) || acts_for(state, subject, &Plane::ALL)
}

/// Whether the subject may see what was done in a session: its own, one on what it owns, one whose grant it approved,
/// one whose role names it as a watcher, or any if it oversees.
pub fn may_see_session(state: &State, subject: &SubjectId, session: &Session, grant: Option<&Grant>) -> bool {
    if !state.in_good_standing(subject) {
        return false;
    }
    if session.subject == *subject || oversees(state, subject) {
        return true;
    }
    if grant.is_some_and(|grant| grant.id == session.grant && grant.approvals.iter().any(|a| a.by == *subject)) {
        return true;
    }
    let Some(party) = state.party_of(subject).filter(|party| state.estate.is_active(party)) else {
        return false;
    };
    // Who is to watch it must see it, and must be able to look back at what they watched.
    if state.estate.roles.get(&session.role).is_some_and(|role| state.estate.is_named(party, &role.watchers)) {
        return true;
    }
    // Who owned it when the session opened, and who owns it now and must answer for it.
    let then = session.accountable.of(Plane::Service).is_some_and(|owner| owner.party == *party);
    let now = state.estate.resources.get(&session.resource).is_some_and(|resource| {
        resource.owner.as_ref() == Some(party)
            || state.estate.services.get(&resource.service).is_some_and(|service| service.owner == *party)
    });
    then || now
}

/// Whether the subject may see a request: its own, one that it may answer, or any if it governs.
pub fn may_see_request(state: &State, subject: &SubjectId, request: &Request) -> bool {
    state.in_good_standing(subject)
        && (request.subject == *subject
            || governs(state, subject)
            || state.party_of(subject).is_some_and(|party| {
                let role = state.estate.roles.get(&request.role);
                role.is_some_and(|role| state.estate.is_named(party, &role.approvers))
            }))
}

/// Whether the subject may see a grant: its own, one that it approved, or any if it governs.
pub fn may_see_grant(state: &State, subject: &SubjectId, grant: &Grant) -> bool {
    state.in_good_standing(subject)
        && (grant.subject == *subject
            || governs(state, subject)
            || grant.approvals.iter().any(|approval| approval.by == *subject))
}

/// Whether the subject may see the text of a held operation: its own, one that it may confirm, or any if it oversees.
pub fn may_see_hold(state: &State, subject: &SubjectId, hold: &Hold) -> bool {
    state.in_good_standing(subject)
        && (hold.subject == *subject
            || oversees(state, subject)
            || state.party_of(subject).is_some_and(|party| state.estate.is_named(party, &hold.by)))
}

/// Whether `by` may give out an enrolment code for `subject`. Whoever holds a code can become its subject, so only an
/// administrator may make one for an administrator.
pub fn may_invite(state: &State, by: &SubjectId, subject: &SubjectId) -> bool {
    let for_administrator = state.estate.subjects.get(subject).is_some_and(|s| s.administrator);
    is_administrator(state, by) || (!for_administrator && acts_for(state, by, &[Plane::Lifecycle]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use onus_core::estate::{Declared, Estate};
    use onus_core::event::{Actor, Entry, Event};
    use onus_core::time::Timestamp;
    use std::collections::BTreeSet;

    fn state() -> State {
        let party = |name: &str| serde_json::json!({"name": name});
        let human = |party: &str, administrator: bool| serde_json::json!({"kind": "human", "owner": "dana", "party": party, "administrator": administrator});
        let estate: Estate = serde_json::from_value(serde_json::json!({
            "parties": {"dana": party("Dana"), "rita": party("Rita"), "bob": party("Bob"), "alice": party("Alice"),
                        "chris": party("Chris"), "eve": party("Eve"), "olga": party("Olga")},
            "teams": {"data-platform": {"lead": "bob"}},
            "planes": {"lifecycle": {"accountable": "dana"}, "runtime": {"accountable": "rita"}},
            "subjects": {"dana": human("dana", false), "rita": human("rita", false), "bob": human("bob", false),
                         "alice": human("alice", false), "root-admin": human("chris", true),
                         "eve": human("eve", false), "olga": human("olga", false)},
            "services": {}, "resources": {}, "roles": {}
        }))
        .expect("an estate");
        let mut state = State::default();
        for declared in estate.declared() {
            let event = Event::EstateDeclared { declared };
            state.apply(&Entry { at: Timestamp(1), by: Actor::Operator, event });
        }
        state
    }

    fn id(name: &str) -> SubjectId {
        SubjectId::parse(name).unwrap()
    }

    fn hold() -> Hold {
        Hold {
            id: "H-1".parse().unwrap(),
            session: "S-1".parse().unwrap(),
            subject: id("alice"),
            digest: String::new(),
            policy_digest: String::new(),
            policies: Vec::new(),
            by: BTreeSet::from(["data-platform".to_owned()]),
            at: Timestamp(1),
            expires: Timestamp(2),
        }
    }

    #[test]
    fn a_held_statement_is_seen_by_its_author_its_confirmers_and_those_who_watch() {
        let state = state();
        let seen: Vec<_> = ["alice", "bob", "rita", "root-admin", "dana", "eve", "olga", "nobody"]
            .into_iter()
            .filter(|who| may_see_hold(&state, &id(who), &hold()))
            .collect();
        assert_eq!(seen, ["alice", "bob", "rita", "root-admin"]);
    }

    #[test]
    fn a_disabled_subject_sees_nothing_not_even_its_own() {
        let mut state = state();
        let event = Event::SubjectDisabled { subject: id("alice"), reason: "left".into() };
        state.apply(&Entry { at: Timestamp(2), by: Actor::Operator, event });
        assert!(!may_see_hold(&state, &id("alice"), &hold()));
    }

    #[test]
    fn only_an_administrator_gives_out_an_administrators_code() {
        let state = state();
        assert!(may_invite(&state, &id("dana"), &id("alice")));
        assert!(!may_invite(&state, &id("dana"), &id("root-admin")), "it would make dana an administrator");
        assert!(may_invite(&state, &id("root-admin"), &id("root-admin")));
        assert!(!may_invite(&state, &id("alice"), &id("alice")));
        assert!(!may_invite(&state, &id("rita"), &id("alice")), "another plane's owner");
    }

    #[test]
    fn a_party_who_left_no_longer_sees() {
        let mut state = state();
        let event = Event::PartyLeft { party: "bob".parse().unwrap(), reason: "left".into() };
        state.apply(&Entry { at: Timestamp(2), by: Actor::Operator, event });
        assert!(!may_see_hold(&state, &id("bob"), &hold()));
    }

    #[test]
    fn declaring_is_not_governing() {
        let state = state();
        let all: Vec<Declared> = state.estate.declared();
        assert!(!all.is_empty());
        assert!(!governs(&state, &id("alice")) && governs(&state, &id("dana")) && !oversees(&state, &id("dana")));
    }
}
