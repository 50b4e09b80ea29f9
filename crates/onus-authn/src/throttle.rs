//! Slowing down guesses. A pure value: the caller holds it, tells it the time, and asks before each attempt.
//!
//! Per gateway, not shared: with many gateways an attacker gets as many times the tries. It never locks a subject out
//! for everyone, because then anyone could lock anyone out: what waits is a source, and a subject from one source.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// How hard a [`Throttle`] brakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attempts for one subject from one source that cost no wait.
    pub free_per_subject: u32,
    /// Attempts from one source, over all subjects, that cost no wait. Higher, since sources can be shared.
    pub free_per_source: u32,
    /// The first wait; each further attempt doubles it.
    pub first_wait_ms: u64,
    /// No wait is longer.
    pub longest_wait_ms: u64,
    /// An entry without an attempt for this long is forgotten.
    pub forget_after_ms: u64,
    /// The most entries kept, of about 60 bytes each. When full, the entry that brakes least gives way.
    pub capacity: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            free_per_subject: 5,
            free_per_source: 50,
            first_wait_ms: 1000,
            longest_wait_ms: 15 * 60_000,
            forget_after_ms: 60 * 60_000,
            capacity: 20_000,
        }
    }
}

/// Too many attempts; try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts; wait {} s", .retry_after_ms.div_ceil(1000))]
pub struct MustWait {
    /// How long until an attempt is admitted again.
    pub retry_after_ms: u64,
}

/// Counts attempts and says who has to wait. Memory is bounded by [`Limits::capacity`].
#[derive(Debug, Clone)]
pub struct Throttle {
    limits: Limits,
    entries: BTreeMap<[u8; 32], Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    attempts: u32,
    last_ms: u64,
    /// Until when the next attempt waits.
    wait_until_ms: u64,
}

impl Throttle {
    /// An empty throttle.
    pub fn new(limits: Limits) -> Self {
        Self { limits, entries: BTreeMap::new() }
    }

    /// Admits one attempt and counts it at once as failed, so that many attempts at the same moment count too. Call
    /// [`Throttle::passed`] when it succeeds. A refused attempt is not counted and must not be checked.
    ///
    /// `source` is what the transport knows (an address without its port), never what the client says.
    pub fn admit(&mut self, subject: &str, source: &str, now_ms: u64) -> Result<(), MustWait> {
        let keys = [
            (key(Some(subject), source), self.limits.free_per_subject),
            (key(None, source), self.limits.free_per_source),
        ];
        let wait_until = keys.iter().filter_map(|(k, _)| self.entries.get(k)).map(|e| e.wait_until_ms).max();
        if let Some(wait_until) = wait_until.filter(|until| *until > now_ms) {
            return Err(MustWait { retry_after_ms: wait_until - now_ms });
        }
        for (key, free) in keys {
            self.count(key, free, now_ms);
        }
        Ok(())
    }

    /// The attempt succeeded: forgets the failures of this subject from this source. The source's own count only loses
    /// this attempt, or one valid account would let its holder guess at all others.
    pub fn passed(&mut self, subject: &str, source: &str) {
        self.entries.remove(&key(Some(subject), source));
        if let Some(entry) = self.entries.get_mut(&key(None, source)) {
            entry.attempts = entry.attempts.saturating_sub(1);
            if entry.attempts < self.limits.free_per_source {
                entry.wait_until_ms = 0;
            }
        }
    }

    /// How many entries are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn count(&mut self, key: [u8; 32], free: u32, now_ms: u64) {
        let limits = self.limits;
        let stale = |e: &Entry| now_ms.saturating_sub(e.last_ms) >= limits.forget_after_ms;
        if !self.entries.contains_key(&key) && self.entries.len() >= limits.capacity {
            self.entries.retain(|_, e| !stale(e));
            // Still full: a flood of names must not wash out those that are being guessed at.
            if self.entries.len() >= limits.capacity {
                let least = self.entries.iter().min_by_key(|(_, e)| (e.attempts, e.last_ms)).map(|(k, _)| *k);
                if let Some(least) = least {
                    self.entries.remove(&least);
                }
            }
        }
        let entry = self.entries.entry(key).or_insert(Entry { attempts: 0, last_ms: now_ms, wait_until_ms: 0 });
        if stale(entry) {
            entry.attempts = 0;
        }
        entry.attempts = entry.attempts.saturating_add(1);
        entry.last_ms = now_ms;
        // The attempt that uses up the last free one makes the next wait.
        let over = entry.attempts.saturating_add(1).saturating_sub(free);
        entry.wait_until_ms = match over {
            0 => 0,
            n => now_ms
                .saturating_add(limits.first_wait_ms.saturating_mul(1 << (n - 1).min(40)).min(limits.longest_wait_ms)),
        };
    }
}

/// A fixed-size key, however long the name is that someone sends.
fn key(subject: Option<&str>, source: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((source.len() as u64).to_be_bytes());
    hash.update(source);
    if let Some(subject) = subject {
        hash.update([1]);
        hash.update(subject);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        free_per_subject: 3,
        free_per_source: 10,
        first_wait_ms: 1000,
        longest_wait_ms: 8000,
        forget_after_ms: 60_000,
        capacity: 100,
    };

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut t = Throttle::new(LIMITS);
        let mut now = 0;
        let mut waits = vec![];
        for _ in 0..9 {
            match t.admit("alice", "10.0.0.1", now) {
                Ok(()) => waits.push(0),
                Err(wait) => {
                    waits.push(wait.retry_after_ms);
                    assert!(t.admit("alice", "10.0.0.1", now + wait.retry_after_ms - 1).is_err());
                    now += wait.retry_after_ms;
                    t.admit("alice", "10.0.0.1", now).unwrap();
                }
            }
        }
        assert_eq!(waits, [0, 0, 0, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert!(t.admit("alice", "10.0.0.2", now).is_ok(), "another source is not locked out");
        assert!(t.admit("bob", "10.0.0.1", now).is_ok());
    }

    #[test]
    fn attempts_at_the_same_moment_all_count() {
        let mut t = Throttle::new(LIMITS);
        let admitted = (0..50).filter(|_| t.admit("alice", "a", 5).is_ok()).count();
        assert_eq!(admitted, 3);
    }

    #[test]
    fn one_guess_each_at_many_subjects_is_braked_by_source() {
        let mut t = Throttle::new(LIMITS);
        let admitted = (0..50).filter(|n| t.admit(&format!("s{n}"), "a", 5).is_ok()).count();
        assert_eq!(admitted, 10);
    }

    #[test]
    fn a_success_clears_the_subject_but_not_the_source() {
        let mut t = Throttle::new(LIMITS);
        for _ in 0..3 {
            t.admit("alice", "a", 0).unwrap();
        }
        t.passed("alice", "a");
        assert!(t.admit("alice", "a", 0).is_ok());
        // Own logins in between buy no further guesses at others.
        let mut guesses = 0;
        for n in 0..100 {
            if t.admit("mallory", "b", 0).is_ok() {
                t.passed("mallory", "b");
            }
            guesses += u32::from(t.admit(&format!("s{n}"), "b", 0).is_ok());
        }
        assert!(guesses <= 10, "{guesses}");
    }

    #[test]
    fn memory_is_bounded_and_a_flood_frees_nobody() {
        let mut t = Throttle::new(LIMITS);
        for _ in 0..3 {
            t.admit("alice", "a", 0).unwrap();
        }
        for n in 0..10_000 {
            let _ = t.admit("x".repeat(n % 50).as_str(), &format!("source {n}"), 1);
        }
        assert!(t.len() <= LIMITS.capacity);
        assert!(t.admit("alice", "a", 1).is_err(), "washed out by a flood");
    }

    #[test]
    fn after_a_quiet_hour_all_is_forgotten() {
        let mut t = Throttle::new(LIMITS);
        for _ in 0..3 {
            t.admit("alice", "a", 0).unwrap();
        }
        for _ in 0..3 {
            t.admit("alice", "a", 60_000).unwrap();
        }
        assert!(t.admit("alice", "a", 60_000).is_err());
    }
}
