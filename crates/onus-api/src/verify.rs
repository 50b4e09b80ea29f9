//! Verifying one session: does its journal fit the ledger, and does every recorded decision come out the same again?
//!
//! A pure function over the ledger's entries, the opened journal and the policy texts; the chain and the anchors were
//! checked where the journal was opened. What it does not do: parse the statements again (the operations are taken as
//! recorded), and check the ledger itself (`onus ledger verify` does).

use crate::archive::Opened;
use onus_core::decision::{Decision, Effect, judge};
use onus_core::event::{Entry, Event, Session};
use onus_core::ids::SessionId;
use onus_core::operation::Operation;
use onus_core::runtime::{Standing, judge_session};
use onus_core::state::State;
use onus_core::time::Timestamp;
use onus_core::view::View;
use onus_gateway::policy::PolicyTexts;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The most differences that a report lists.
pub const LISTED: usize = 50;

/// What verification came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The session.
    pub session: String,
    /// Whether everything holds.
    pub ok: bool,
    /// Records that the chain vouches for.
    pub records: u64,
    /// Anchors in the ledger that the journal was held against.
    pub anchors: u64,
    /// The last anchored record.
    pub anchored: u64,
    /// Whether the last anchor says that the journal is complete.
    pub closed: bool,
    /// Whether the journal ends within a record, as after a crash. Not a sign of tampering.
    pub torn: bool,
    /// Views that were folded again from the ledger.
    pub views: u64,
    /// Decisions that were asked for again.
    pub decisions: u64,
    /// Frames recorded.
    pub operations: u64,
    /// What does not hold, in words: the first [`LISTED`].
    pub differences: Vec<String>,
    /// How many differences there are.
    pub differing: u64,
}

impl Report {
    fn differs(&mut self, what: String) {
        self.differing += 1;
        if self.differences.len() < LISTED {
            self.differences.push(what);
        }
    }
}

/// The anchors of a session's journal, as pairs of records and head, hex.
pub fn anchors_of(session: &SessionId, entries: &[Entry]) -> Vec<(u64, String)> {
    entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::JournalAnchored { session: of, records, head, .. } if of == session => {
                Some((*records, head.clone()))
            }
            _ => None,
        })
        .collect()
}

/// The digests of the blobs that hold every policy set that was ever in force, hex.
pub fn policy_blobs(entries: &[Entry]) -> BTreeSet<String> {
    entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::PolicyActivated { blob, .. } => Some(blob.clone()),
            _ => None,
        })
        .collect()
}

/// Verifies a session. `entries` is the whole ledger from its beginning; `blob` gives a blob's bytes by its digest
/// (hex), checked here again.
pub fn verify_session(
    session: &SessionId,
    entries: &[Entry],
    journal: &Opened,
    blob: &dyn Fn(&str) -> Option<Vec<u8>>,
) -> Report {
    let mut report = Report {
        session: session.to_string(),
        records: journal.records.len() as u64,
        torn: journal.torn,
        ..Report::default()
    };
    for finding in &journal.findings {
        report.differs(format!("journal: {finding}"));
    }
    for entry in entries {
        if let Event::JournalAnchored { session: of, records, closed, .. } = &entry.event
            && of == session
        {
            report.anchors += 1;
            report.anchored = report.anchored.max(*records);
            report.closed |= closed;
        }
    }
    if report.closed && journal.last > report.anchored {
        let more = journal.last - report.anchored;
        report.differs(format!("journal: {more} records follow the last anchor, which says that none do"));
    }
    let views = views_of(&journal.records, &mut report);
    let sets = fold(session, entries, &views, blob, &mut report);
    let uncompared = (views.len() as u64).saturating_sub(report.views);
    if uncompared > 0 {
        report.differs(format!("{uncompared} recorded views name no position that the ledger could be folded to"));
    }
    decide_again(&journal.records, &views, &sets, &mut report);
    report.ok = report.differing == 0;
    report
}

fn number(record: &Value, name: &str) -> u64 {
    record[name].as_u64().unwrap_or(u64::MAX)
}

/// The recorded views by epoch.
fn views_of(records: &[Value], report: &mut Report) -> BTreeMap<u64, View> {
    let mut views = BTreeMap::new();
    for record in records.iter().filter(|record| record["k"] == "view") {
        match View::deserialize(&record["view"]) {
            Ok(view) if view.epoch == number(record, "epoch") && view.session.as_str() == report.session => {
                // A second one could stand in for the first in the comparison, and the first in the decisions.
                if let Some(first) = views.insert(view.epoch, view) {
                    report.differs(format!("two views of epoch {} are recorded", first.epoch));
                }
            }
            Ok(view) => {
                report.differs(format!("a recorded view belongs to session {} epoch {}", view.session, view.epoch))
            }
            Err(error) => report.differs(format!("a recorded view can't be read: {error}")),
        }
    }
    views
}

type Sets = BTreeMap<String, Box<dyn onus_core::decision::Decide>>;

/// Folds the ledger up to every view, compares, and loads the policy sets that the views name.
fn fold(
    session: &SessionId,
    entries: &[Entry],
    views: &BTreeMap<u64, View>,
    blob: &dyn Fn(&str) -> Option<Vec<u8>>,
    report: &mut Report,
) -> Sets {
    let wanted: BTreeSet<&str> = views.values().map(|view| view.policy_digest.as_str()).collect();
    let mut sets = Sets::new();
    let mut opened: Option<Session> = None;
    let mut state = State::default();
    for entry in entries {
        if let Event::PolicyActivated { version, digest, blob: at, .. } = &entry.event
            && wanted.contains(digest.as_str())
            && !sets.contains_key(digest)
        {
            match load(digest, at, blob) {
                Ok(set) => drop(sets.insert(digest.clone(), set)),
                Err(why) => report.differs(format!("policy version {version}: {why}")),
            }
        }
        if let Event::SessionOpened { session: this } = &entry.event
            && this.id == *session
        {
            opened = Some(this.clone());
        }
        state.apply(entry);
        for view in views.values().filter(|view| view.as_of == state.as_of) {
            let Some(opened) = &opened else {
                report.differs(format!("the view of epoch {} is older than the session", view.epoch));
                continue;
            };
            report.views += 1;
            match judge_session(&state, opened) {
                Standing::Live(folded) if *folded == *view => {}
                Standing::Live(_) => report.differs(format!(
                    "the recorded view of epoch {} is not what the ledger's first {} entries give",
                    view.epoch, view.as_of
                )),
                Standing::Ended(why) => report.differs(format!(
                    "after {} ledger entries the session should have ended ({why}), but its journal goes on",
                    view.as_of
                )),
            }
        }
    }
    if opened.is_none() {
        report.differs("the ledger knows no such session".to_owned());
    }
    for view in views.values().filter(|view| view.as_of > state.as_of) {
        report.differs(format!(
            "the view of epoch {} claims {} ledger entries; there are {}",
            view.epoch, view.as_of, state.as_of
        ));
    }
    sets
}

fn load(
    digest: &str,
    at: &str,
    blob: &dyn Fn(&str) -> Option<Vec<u8>>,
) -> Result<Box<dyn onus_core::decision::Decide>, String> {
    let bytes = blob(at).ok_or_else(|| format!("its texts (blob {at}) are missing"))?;
    let texts: PolicyTexts =
        serde_json::from_slice(&bytes).map_err(|error| format!("its texts can't be read: {error}"))?;
    // Canonical writing, so this digest is the stored bytes' digest as well.
    let found: String = texts.digest().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != at || texts.to_bytes() != bytes {
        return Err("its texts are not those that were activated".to_owned());
    }
    let set = texts.load().map_err(|problems| {
        let first = problems.first().map(ToString::to_string).unwrap_or_default();
        format!("its texts no longer load ({} problems; first: {first})", problems.len())
    })?;
    if set.digest() != digest {
        return Err("its texts give another set than the one that was activated".to_owned());
    }
    Ok(Box::new(set))
}

/// Asks for every recorded decision again.
fn decide_again(records: &[Value], views: &BTreeMap<u64, View>, sets: &Sets, report: &mut Report) {
    let mut effects: BTreeMap<u64, Effect> = BTreeMap::new();
    let mut of_op: BTreeMap<u64, u64> = BTreeMap::new();
    let mut confirmed: BTreeSet<u64> = BTreeSet::new();
    for record in records {
        match record["k"].as_str() {
            Some("def") => {
                report.decisions += 1;
                let def = number(record, "def");
                match again(record, views, sets) {
                    Ok(effect) => drop(effects.insert(def, effect)),
                    Err(why) => report.differs(format!("decision {def}: {why}")),
                }
            }
            Some("op") => {
                report.operations += 1;
                let (op, def) = (number(record, "op"), number(record, "def"));
                of_op.insert(op, def);
                // Preparing a statement that would be held when run is relayed; running it is what waits.
                if record["stage"] == "prepare" {
                    confirmed.insert(op);
                }
            }
            Some("confirmed") => drop(confirmed.insert(number(record, "op"))),
            // What came back proves that it was sent: only what was permitted, or held and confirmed, may have been.
            Some("done") if record["skipped"] != true => {
                let op = number(record, "op");
                match of_op.get(&op).and_then(|def| effects.get(def)) {
                    Some(Effect::Permit) => {}
                    Some(Effect::Hold) if confirmed.contains(&op) => {}
                    Some(effect) => {
                        report.differs(format!(
                            "operation {op} was relayed although the decision was {}",
                            effect.as_str()
                        ));
                    }
                    // A decision that could not be asked for again is listed already.
                    None if of_op.contains_key(&op) => {}
                    None => report.differs(format!("operation {op} was relayed without a record of it")),
                }
            }
            _ => {}
        }
    }
}

fn again(record: &Value, views: &BTreeMap<u64, View>, sets: &Sets) -> Result<Effect, String> {
    let epoch = number(record, "epoch");
    let view = views.get(&epoch).ok_or_else(|| format!("no view of epoch {epoch} is recorded"))?;
    let operations = Vec::<Operation>::deserialize(&record["operations"])
        .map_err(|error| format!("its operations can't be read: {error}"))?;
    let was = Decision::deserialize(&record["decision"]).map_err(|error| format!("it can't be read: {error}"))?;
    // The protocol itself refused: no policy was asked then, so none is asked now. It can only ever have been a denial.
    if record["forbidden"].is_string() {
        return match was.effect {
            Effect::Deny if was.determining.is_empty() => Ok(Effect::Deny),
            other => Err(format!("the protocol is said to have refused it, and the decision was {}", other.as_str())),
        };
    }
    let set = sets.get(&view.policy_digest).ok_or("its policy set can't be had")?;
    let is = judge(set.as_ref(), view, &operations, Timestamp(number(record, "at")));
    let ids =
        |decision: &Decision| -> Vec<String> { decision.determining.iter().map(|d| d.policy.to_string()).collect() };
    if is.effect != was.effect {
        return Err(format!(
            "it was {}, and comes out as {} ({})",
            was.effect.as_str(),
            is.effect.as_str(),
            ids(&is).join(", ")
        ));
    }
    if ids(&is) != ids(&was) {
        return Err(format!("it was determined by {}, and now by {}", ids(&was).join(", "), ids(&is).join(", ")));
    }
    Ok(was.effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(records: &[Value], effects: &[(u64, Effect)]) -> Report {
        // The relay rule alone: decisions that were asked for again are given.
        let mut report = Report::default();
        let mut with_defs = Vec::new();
        for (def, _) in effects {
            with_defs.push(serde_json::json!({"k": "def", "def": def}));
        }
        with_defs.extend(records.iter().cloned());
        decide_again(&with_defs, &BTreeMap::new(), &Sets::new(), &mut report);
        report
    }

    #[test]
    fn a_decision_without_its_view_is_a_difference_and_never_a_pass() {
        let found = report(&[], &[(1, Effect::Permit)]);
        assert_eq!((found.decisions, found.differing), (1, 1));
        assert!(found.differences[0].contains("epoch"), "{:?}", found.differences);
    }

    #[test]
    fn what_was_relayed_must_have_been_recorded() {
        let done = serde_json::json!({"k": "done", "op": 7, "rows": 1});
        let found = report(&[done], &[]);
        assert_eq!(found.differences, ["operation 7 was relayed without a record of it"]);
        let skipped = serde_json::json!({"k": "done", "op": 7, "rows": 0, "skipped": true});
        assert_eq!(report(&[skipped], &[]).differing, 0);
    }

    #[test]
    fn a_session_that_the_ledger_does_not_know_is_not_verified() {
        let found = verify_session(&"S-1".parse().unwrap(), &[], &Opened::default(), &|_| None);
        assert!(!found.ok && found.differences == ["the ledger knows no such session"]);
    }
}
