//! What a session's journal says was used, in the form that the accountability rules ask for.

use onus_core::accountability::findings::Used;
use onus_core::decision::{Decision, Effect};
use onus_core::event::{Entry, Event};
use onus_core::ids::{HoldId, SessionId};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Counts the journal's frames by decision; who confirmed comes from the ledger. A held frame counts as held only if
/// it was confirmed, and as refused otherwise.
pub fn used(session: &SessionId, records: &[Value], entries: &[Entry]) -> Used {
    let mut decisions: BTreeMap<u64, Decision> = BTreeMap::new();
    // The last record of a frame counts: it may have been judged again before its release.
    let mut frames: BTreeMap<u64, u64> = BTreeMap::new();
    let mut confirmed: BTreeSet<u64> = BTreeSet::new();
    for record in records {
        let number = |name: &str| record[name].as_u64();
        match (record["k"].as_str(), number("def"), number("op")) {
            (Some("def"), Some(def), _) => {
                if let Ok(decision) = Decision::deserialize(&record["decision"]) {
                    decisions.insert(def, decision);
                }
            }
            (Some("op"), Some(def), Some(op)) => drop(frames.insert(op, def)),
            (Some("confirmed"), _, Some(op)) => drop(confirmed.insert(op)),
            _ => {}
        }
    }
    let mut used = Used::default();
    for (op, def) in frames {
        let Some(decision) = decisions.get(&def) else { continue };
        let effect = match decision.effect {
            Effect::Hold if !confirmed.contains(&op) => Effect::Deny,
            effect => effect,
        };
        *used.operations.entry(effect).or_default() += 1;
        for determining in &decision.determining {
            *used.determined.entry((effect, determining.policy.clone())).or_default() += 1;
        }
    }
    let mut holds: BTreeSet<&HoldId> = BTreeSet::new();
    for entry in entries {
        match &entry.event {
            Event::HoldOpened { hold } if hold.session == *session => drop(holds.insert(&hold.id)),
            Event::HoldConfirmed { hold, by, .. } if holds.contains(hold) => {
                used.confirmed_by.insert(by.to_string());
            }
            _ => {}
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_hold_that_nobody_confirmed_was_not_used() {
        let decision = |effect: &str, policy: &str| json!({"effect": effect, "reasons": [], "determining": [{"policy": policy, "owner": "petra", "why": "w"}]});
        let records = [
            json!({"k": "def", "def": 1, "decision": decision("permit", "role-writer")}),
            json!({"k": "def", "def": 2, "decision": decision("hold", "writes-without-where")}),
            json!({"k": "op", "op": 1, "def": 1}),
            json!({"k": "op", "op": 2, "def": 1}),
            json!({"k": "op", "op": 3, "def": 2}),
            json!({"k": "op", "op": 4, "def": 2}),
            json!({"k": "confirmed", "op": 4, "by": "bob"}),
        ];
        let found = used(&"S-1".parse().unwrap(), &records, &[]);
        let counts: Vec<_> = found.operations.into_iter().collect();
        assert_eq!(counts, [(Effect::Permit, 2), (Effect::Hold, 1), (Effect::Deny, 1)]);
        assert_eq!(found.determined[&(Effect::Permit, "role-writer".parse().unwrap())], 2);
    }
}
