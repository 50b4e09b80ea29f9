//! The control loop against stores that fail, in both ways, at each step that it takes.

use crate::control::{Control, ControlError, StartError, fold};
use onus_core::command::Command;
use onus_core::estate::{Declared, Estate, Party, Plane, PlaneOwner, Subject};
use onus_core::event::{Actor, Event};
use onus_core::refusal::Refusal;
use onus_core::view::SubjectKind;
use onus_ledger::{KeyName, SigningKey};
use onus_store::{Entry, FailPlan, Failing, Failure, LedgerStore, MemoryStore, SignedCheckpoint, Step};
use std::time::Duration;

fn key() -> SigningKey {
    SigningKey::from_seed(KeyName::new("onus.test/ledger").expect("a key's name"), &[7; 32])
}

fn estate() -> Estate {
    let mut estate = Estate::default();
    let dana = "dana".parse().expect("an id");
    estate.declare(Declared::Party { id: dana, is: Party { name: "Dana".into(), contact: None, active: true } });
    for plane in Plane::ALL {
        let is = PlaneOwner { accountable: "dana".parse().expect("an id"), responsible: Default::default() };
        estate.declare(Declared::Plane { id: plane, is });
    }
    let is = Subject {
        kind: SubjectKind::Human,
        owner: "dana".parse().expect("an id"),
        party: Some("dana".parse().expect("an id")),
        administrator: true,
    };
    estate.declare(Declared::Subject { id: "root".parse().expect("an id"), is });
    estate
}

fn apply() -> Command {
    Command::ApplyEstate { wanted: Box::new(estate()) }
}

fn risk(band: u8) -> Command {
    Command::SetRisk { subject: "root".parse().expect("an id"), band, why: "a test".into() }
}

fn root() -> Actor {
    Actor::Subject("root".parse().expect("an id"))
}

fn start(store: impl LedgerStore + 'static) -> Control {
    Control::start(Box::new(store), key()).expect("it starts").0
}

#[tokio::test]
async fn what_was_answered_is_in_the_store_and_in_the_state() {
    let store = MemoryStore::default();
    let control = start(store.clone());
    let appended = control.give(vec![apply()], Actor::Operator).await.expect("in order");
    assert_eq!(store.size().expect("there"), appended.len() as u64);
    assert_eq!(control.shared().state().estate, estate());
    let (folded, tree) = fold(&store).expect("it folds");
    assert_eq!(folded.snapshot(), control.shared().state().snapshot(), "state is the fold");
    assert_eq!(tree.root(), control.shared().tree().root());
}

#[tokio::test]
async fn a_refused_command_leaves_no_trace() {
    let store = MemoryStore::default();
    let control = start(store.clone());
    let refused = control.give(vec![apply()], root()).await;
    assert!(matches!(refused, Err(ControlError::Refused(Refusal::NotAllowed { .. }))));
    assert_eq!(store.size().expect("there"), 0);
}

#[tokio::test]
async fn an_append_that_failed_did_not_happen_and_one_that_was_only_not_acknowledged_did() {
    let plan = FailPlan::default();
    let store = Failing::new(MemoryStore::default(), plan.clone());
    let control = start(store);
    control.give(vec![apply()], Actor::Operator).await.expect("in order");
    let before = control.shared().state().as_of;

    plan.fail_until_healed(Step::Append, Failure::NotPersisted);
    let lost = control.give(vec![risk(2)], root()).await;
    assert!(matches!(lost, Err(ControlError::Unavailable(_))), "{lost:?}");
    assert_eq!(control.shared().state().as_of, before);
    plan.heal();
    control.give(vec![risk(3)], root()).await.expect("the ledger is back");
    assert_eq!(control.shared().state().as_of, before + 1);

    plan.fail_next(Step::Append, Failure::Unacknowledged);
    control.give(vec![risk(4)], root()).await.expect("it was asked again, and had landed");
    assert_eq!(control.shared().state().as_of, before + 2, "once");
}

#[tokio::test]
async fn while_the_ledger_is_away_the_lease_is_not_renewed() {
    let plan = FailPlan::default();
    let control = start(Failing::new(MemoryStore::default(), plan.clone()));
    control.give(vec![apply()], Actor::Operator).await.expect("in order");
    for step in [Step::Append, Step::Size, Step::Read] {
        plan.fail_until_healed(step, Failure::NotPersisted);
    }
    // Whatever was renewed before the failure was noticed.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let lease = control.shared().lease_until();
    tokio::time::sleep(Duration::from_millis(2300)).await;
    assert_eq!(control.shared().lease_until(), lease);
    plan.heal();
    tokio::time::sleep(Duration::from_millis(2300)).await;
    assert!(control.shared().lease_until() > lease, "and it is renewed when the ledger is back");
}

#[tokio::test]
async fn somebody_elses_append_is_seen_and_not_overwritten() {
    let store = MemoryStore::default();
    let control = start(store.clone());
    control.give(vec![apply()], Actor::Operator).await.expect("in order");
    let size = store.size().expect("there");
    // Another writer, with the same key, adds an entry of its own.
    let entry = onus_core::event::Entry {
        at: onus_core::time::Timestamp(1),
        by: Actor::Gateway("other".into()),
        event: Event::GatewayStarted { gateway: "other".into(), version: "0".into() },
    };
    let bytes = onus_core::codec::encode(&entry).expect("it fits");
    let leaf_hash = onus_ledger::leaf_hash(&bytes).0;
    let mut tree = fold(&store).expect("it folds").1;
    tree.append(&bytes);
    let signed = onus_ledger::Checkpoint::new(key().verifier().name().clone(), tree.size(), tree.root());
    let note = signed.sign(&key()).expect("own name").to_string();
    let signed = SignedCheckpoint { size: tree.size(), note };
    let mut other = store.clone();
    other.append(size, &[Entry { bytes, leaf_hash }], Some(&signed)).expect("it was first");
    let outrun = control.give(vec![risk(1)], root()).await;
    assert!(matches!(outrun, Err(ControlError::Unavailable(_))), "{outrun:?}");
    control.give(vec![risk(1)], root()).await.expect("after folding anew");
    assert_eq!(control.shared().state().as_of, size + 2);
}

#[tokio::test]
async fn a_ledger_that_does_not_match_its_checkpoint_is_not_started_on() {
    let store = MemoryStore::default();
    {
        let control = start(store.clone());
        control.give(vec![apply()], Actor::Operator).await.expect("in order");
    }
    let mut copy = MemoryStore::default();
    let mut entries = store.read(0, 100).expect("there");
    entries.swap(0, 1);
    let newest = store.checkpoints(0).expect("there").pop().expect("one");
    copy.append(0, &entries, Some(&newest)).expect("a store checks no hashes");
    assert!(matches!(Control::start(Box::new(copy), key()), Err(StartError::Tampered { .. })));
    let other = SigningKey::from_seed(KeyName::new("onus.test/ledger").expect("a key's name"), &[8; 32]);
    assert!(matches!(Control::start(Box::new(store), other), Err(StartError::Tampered { .. })), "another key");
}
