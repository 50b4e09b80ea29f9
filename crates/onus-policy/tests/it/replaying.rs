//! Replay: a proposed set shows what it would change, for whom and why, and nothing else.

use crate::{GUARDS, ROLES, actions, load};
use onus_core::decision::Effect;
use onus_core::ids::{GrantId, ResourceId, RoleId, ServiceId, SessionId, SubjectId};
use onus_core::operation::Operation;
use onus_core::time::Timestamp;
use onus_core::view::{Scope, SubjectKind, Tier, View};
use onus_policy::{Recorded, replay};
use std::collections::BTreeSet;

fn record(subject: &str, role: &str, action: &str, fact: &str) -> Recorded {
    let class = actions().into_iter().find(|(name, _)| *name == action).unwrap().1;
    let mut operation = Operation::new(action, class);
    operation.facts.insert(fact.to_owned());
    Recorded {
        view: View {
            session: SessionId::parse("s").unwrap(),
            epoch: 1,
            as_of: 1,
            subject: SubjectId::parse(subject).unwrap(),
            subject_kind: SubjectKind::Human,
            teams: BTreeSet::new(),
            resource: ResourceId::parse("orders-db").unwrap(),
            service: ServiceId::parse("orders").unwrap(),
            labels: BTreeSet::new(),
            database: "orders".into(),
            role: RoleId::parse(role).unwrap(),
            grant: GrantId::parse("g").unwrap(),
            purpose: String::new(),
            scope: Scope::default(),
            opened: Timestamp(0),
            deadline: Timestamp(u64::MAX),
            risk: 0,
            tier: Tier::Mediated,
            policy_version: 1,
            policy_digest: String::new(),
        },
        operations: vec![operation],
        at: Timestamp::parse_rfc3339("2026-11-18T12:00:00Z").unwrap(),
        label: format!("{action} of {subject}"),
    }
}

fn records() -> Vec<Recorded> {
    vec![
        record("alice", "writer", "sql.delete", "no-where"),
        record("alice", "writer", "sql.select", "where"),
        record("carol", "writer", "sql.update", "where"),
        record("bob", "writer", "sql.delete", "no-where"),
        record("bob", "writer", "sql.update", "no-where"),
    ]
}

#[test]
fn the_same_set_changes_nothing() {
    let found = replay(&load(&[ROLES, GUARDS]), &load(&[GUARDS, ROLES]), records().into_iter());
    assert_eq!((found.judged, found.changes.len()), (5, 0));
    assert_eq!(found.to_string(), "none of 5 decisions would change\n");
}

#[test]
fn a_dropped_guard_shows_whom_it_would_let_through() {
    let found = replay(&load(&[ROLES, GUARDS]), &load(&[ROLES]), records().into_iter());
    let changed: Vec<_> = found.changes.iter().map(|c| (c.subject.as_str(), c.before, c.after)).collect();
    let through = |who| (who, Effect::Hold, Effect::Permit);
    assert_eq!(changed, [through("alice"), through("bob"), through("bob")]);
    let told = found.to_string();
    assert!(
        told.starts_with("3 of 5 decisions would change\n\nbob: 2\n  hold → permit  sql.delete of bob\n"),
        "{told}"
    );
    assert!(told.contains("no longer `writes-without-where` of petra: "), "{told}");
}

#[test]
fn other_terms_of_a_hold_are_a_change_too() {
    let slower = GUARDS.1.replace("@within(\"5m\")", "@within(\"1h\")");
    let found = replay(&load(&[ROLES, GUARDS]), &load(&[ROLES, ("guards.cedar", &slower)]), records().into_iter());
    assert_eq!(found.changes.len(), 3);
    let last = found.changes[0].because.last().unwrap();
    assert_eq!(last, "confirmed by data-platform within 1h instead of data-platform within 5m");
}
