//! Replay: a proposed set over what was recorded, so that every decision that would change is seen before it bites.
//!
//! Both sets judge anew; what was decided at the time is not looked at, so a recording made under a third set serves
//! as well. It reads no journal: the caller brings the records.

use crate::set::PolicySet;
use onus_core::decision::{Decision, Effect, judge};
use onus_core::ids::SubjectId;
use onus_core::operation::Operation;
use onus_core::time::Timestamp;
use onus_core::view::View;
use std::collections::BTreeMap;
use std::fmt;

/// One recorded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The view that it was decided under.
    pub view: View,
    /// Its operations.
    pub operations: Vec<Operation>,
    /// When it was decided.
    pub at: Timestamp,
    /// What people know it by: session and frame, or its text.
    pub label: String,
}

/// One decision that would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The record's label.
    pub label: String,
    /// For whom.
    pub subject: SubjectId,
    /// What the old set answers.
    pub before: Effect,
    /// What the new set answers. The same as `before` where only the terms of a hold change.
    pub after: Effect,
    /// What determines the new answer, for people; where nothing does, what determined the old one.
    pub because: Vec<String>,
}

/// What a replay found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    /// Records judged.
    pub judged: u64,
    /// Those whose decision would change, in the order of the records.
    pub changes: Vec<Change>,
}

/// Judges every record by both sets and tells the differences: of effect, and of who confirms a hold, and how fast.
pub fn replay(old: &PolicySet, new: &PolicySet, recorded: impl Iterator<Item = Recorded>) -> Replay {
    let mut found = Replay::default();
    for record in recorded {
        found.judged += 1;
        let before = judge(old, &record.view, &record.operations, record.at);
        let after = judge(new, &record.view, &record.operations, record.at);
        if before.effect != after.effect || before.confirmation != after.confirmation {
            found.changes.push(Change {
                label: record.label,
                subject: record.view.subject,
                before: before.effect,
                after: after.effect,
                because: because(&before, &after),
            });
        }
    }
    found
}

fn because(before: &Decision, after: &Decision) -> Vec<String> {
    let mut lines: Vec<String> =
        after.determining.iter().map(|d| format!("`{}` of {}: {}", d.policy, d.owner, d.why)).collect();
    lines.extend(after.reasons.iter().cloned());
    if after.effect < before.effect {
        lines.extend(before.determining.iter().map(|d| format!("no longer `{}` of {}: {}", d.policy, d.owner, d.why)));
        lines.extend(before.reasons.iter().map(|reason| format!("no longer: {reason}")));
    }
    if before.effect == after.effect {
        let terms = |d: &Decision| {
            d.confirmation.as_ref().map_or_else(String::new, |c| {
                format!("{} within {}", c.by.iter().cloned().collect::<Vec<_>>().join(" or "), c.within)
            })
        };
        lines.push(format!("confirmed by {} instead of {}", terms(after), terms(before)));
    }
    lines
}

impl fmt::Display for Replay {
    /// A summary for people: the count, then the changes, the subjects with most of them first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return writeln!(f, "none of {} decisions would change", self.judged);
        }
        writeln!(f, "{} of {} decisions would change", self.changes.len(), self.judged)?;
        let mut by_subject: BTreeMap<&SubjectId, Vec<&Change>> = BTreeMap::new();
        for change in &self.changes {
            by_subject.entry(&change.subject).or_default().push(change);
        }
        let mut subjects: Vec<_> = by_subject.into_iter().collect();
        subjects.sort_by_key(|(subject, changes)| (std::cmp::Reverse(changes.len()), *subject));
        for (subject, changes) in subjects {
            writeln!(f, "\n{subject}: {}", changes.len())?;
            for change in changes {
                writeln!(f, "  {} → {}  {}", change.before.as_str(), change.after.as_str(), change.label)?;
                for line in &change.because {
                    writeln!(f, "      {line}")?;
                }
            }
        }
        Ok(())
    }
}
