//! Where two lists of leaf hashes part: which entry was changed, removed, inserted, moved, swapped.
//!
//! One list is known to be true (its root is signed), the other is what is there. Every difference
//! gives at least one step; that they are the fewest possible steps is deliberately not promised.

use std::collections::BTreeSet;

use crate::hash::Hash;

/// One difference. Indexes are those of the true list, positions those of the list that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Another entry stands in place of this one.
    Changed { index: u64 },
    /// The entry is nowhere.
    Removed { index: u64 },
    /// An entry that was never there stands at this position.
    Inserted { position: u64 },
    /// Two entries changed places.
    Swapped { a: u64, b: u64 },
    /// The entry stands further on.
    Moved { index: u64, position: u64 },
    /// What is there ends before this entry.
    Ends { index: u64 },
}

/// The positions of hashes in a list, sorted for look-up.
struct Places(Vec<(Hash, usize)>);

impl Places {
    fn of(hashes: &[Hash], offset: usize) -> Self {
        let mut places: Vec<_> = hashes.iter().copied().zip(offset..).collect();
        places.sort_unstable();
        Self(places)
    }

    /// The first position from `from` on that has `hash` and is not used yet.
    fn find(&self, hash: &Hash, from: usize, used: &BTreeSet<usize>) -> Option<usize> {
        let first = self.0.partition_point(|place| *place < (*hash, from));
        self.0[first..]
            .iter()
            .take_while(|(other, _)| other == hash)
            .map(|(_, position)| *position)
            .find(|position| !used.contains(position))
    }
}

/// Compares what is there with the truth and hands each difference to `report`.
///
/// What is there may go on after the last true entry; that part is not looked at.
pub(crate) fn differences(truth: &[Hash], there: &[Hash], mut report: impl FnMut(Step)) {
    let same = truth.iter().zip(there).take_while(|(a, b)| a == b).count();
    if same == truth.len() {
        return;
    }
    let in_truth = Places::of(&truth[same..], same);
    let in_there = Places::of(&there[same..], same);
    // Places that a swap or a move has already accounted for.
    let (mut truth_used, mut there_used) = (BTreeSet::new(), BTreeSet::new());
    let (mut i, mut j) = (same, same);
    while i < truth.len() {
        if truth_used.contains(&i) {
            i += 1;
        } else if there_used.contains(&j) {
            j += 1;
        } else if j >= there.len() {
            // Not a tail if an entry after this one was found elsewhere.
            if truth_used.range(i..).next().is_none() {
                report(Step::Ends { index: i as u64 });
                return;
            }
            report(Step::Removed { index: i as u64 });
            i += 1;
        } else if truth[i] == there[j] {
            i += 1;
            j += 1;
        } else {
            let later = in_there.find(&truth[i], j + 1, &there_used);
            let earlier = in_truth.find(&there[j], i + 1, &truth_used);
            match (later, earlier) {
                (None, None) => {
                    report(Step::Changed { index: i as u64 });
                    i += 1;
                    j += 1;
                }
                (None, Some(_)) => {
                    report(Step::Removed { index: i as u64 });
                    i += 1;
                }
                (Some(_), None) => {
                    report(Step::Inserted { position: j as u64 });
                    j += 1;
                }
                (Some(position), Some(index)) if position - j == index - i => {
                    report(Step::Swapped { a: i as u64, b: index as u64 });
                    truth_used.insert(index);
                    there_used.insert(position);
                    i += 1;
                    j += 1;
                }
                (Some(position), Some(_)) => {
                    report(Step::Moved { index: i as u64, position: position as u64 });
                    there_used.insert(position);
                    i += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::leaf_hash;

    fn steps(truth: &str, there: &str) -> Vec<Step> {
        let hashes = |text: &str| -> Vec<Hash> { text.bytes().map(|byte| leaf_hash(&[byte])).collect() };
        let mut steps = Vec::new();
        differences(&hashes(truth), &hashes(there), |step| steps.push(step));
        steps
    }

    #[test]
    fn each_difference_is_named() {
        use Step::*;
        assert_eq!(steps("abcde", "abcde"), []);
        assert_eq!(steps("abcde", "abcdeXY"), [], "an unsigned tail is not looked at");
        assert_eq!(steps("abcde", "abXde"), [Changed { index: 2 }]);
        assert_eq!(steps("abcde", "XbXde"), [Changed { index: 0 }, Changed { index: 2 }]);
        assert_eq!(steps("abcde", "abde"), [Removed { index: 2 }]);
        assert_eq!(steps("abcde", "abdeX"), [Removed { index: 2 }]);
        assert_eq!(steps("abcde", "bde"), [Removed { index: 0 }, Removed { index: 2 }]);
        assert_eq!(steps("abcde", "abXcde"), [Inserted { position: 2 }]);
        assert_eq!(steps("abcde", "adcbe"), [Swapped { a: 1, b: 3 }]);
        assert_eq!(steps("abcde", "bacde"), [Swapped { a: 0, b: 1 }]);
        assert_eq!(steps("abcde", "abc"), [Ends { index: 3 }]);
        assert_eq!(steps("abcde", ""), [Ends { index: 0 }]);
        assert_eq!(steps("abcde", "bcade"), [Moved { index: 0, position: 2 }]);
        assert_eq!(steps("abcde", "eXcda"), [Swapped { a: 0, b: 4 }, Changed { index: 1 }]);
    }

    #[test]
    fn equal_entries_do_not_confuse_it() {
        use Step::*;
        assert_eq!(steps("aaab", "aab"), [Removed { index: 2 }]);
        assert_eq!(steps("aaab", "aaac"), [Changed { index: 3 }]);
        assert_eq!(steps("aaab", "aaa"), [Ends { index: 3 }]);
        assert_eq!(steps("abab", "abaa"), [Changed { index: 3 }]);
    }
}
