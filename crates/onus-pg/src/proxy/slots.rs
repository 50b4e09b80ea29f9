//! Names on the server as far as they can be known from outside: prepared statements and portals.
//!
//! The client may use a name before the server has said whether it took it. Within one group (up to a Sync) the
//! latest change is what counts: had it failed, the server would pass over everything up to the Sync. A change of
//! an earlier group that is not answered yet leaves two possibilities, and then the answer must be waited for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A statement's or portal's name; the unnamed one is `None`.
pub(super) type Name = Option<Arc<str>>;

struct Slot<T> {
    settled: Option<T>,
    pending: VecDeque<Pending<T>>,
}

struct Pending<T> {
    change: u64,
    group: u64,
    value: Option<T>,
}

/// What a name stands for.
pub(super) enum Found<'a, T> {
    /// This.
    Known(&'a T),
    /// Nothing that was seen.
    Missing,
    /// One of several: wait for the server.
    Unsettled,
}

/// All names of one kind.
pub(super) struct Slots<T> {
    unnamed: Slot<T>,
    named: HashMap<Arc<str>, Slot<T>>,
    last_change: u64,
}

impl<T> Slot<T> {
    fn new() -> Self {
        Self { settled: None, pending: VecDeque::new() }
    }
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self { unnamed: Slot::new(), named: HashMap::new(), last_change: 0 }
    }

    /// How many names are known.
    pub(super) fn len(&self) -> usize {
        self.named.len()
    }

    /// The name as a key, shared with the map if it is there.
    pub(super) fn name(&self, text: &str) -> Name {
        if text.is_empty() {
            return None;
        }
        Some(self.named.get_key_value(text).map_or_else(|| Arc::from(text), |(key, _)| key.clone()))
    }

    fn slot(&mut self, name: &Name) -> Option<&mut Slot<T>> {
        match name {
            None => Some(&mut self.unnamed),
            Some(name) => self.named.get_mut(name),
        }
    }

    /// The client asks for a change: a value, or with `None` its removal. Returns the change's number.
    pub(super) fn propose(&mut self, name: &Name, group: u64, value: Option<T>) -> u64 {
        self.last_change += 1;
        let change = self.last_change;
        let slot = match name {
            None => &mut self.unnamed,
            Some(name) => self.named.entry(name.clone()).or_insert_with(Slot::new),
        };
        slot.pending.push_back(Pending { change, group, value });
        change
    }

    /// The server has answered the change: made, or not.
    pub(super) fn settle(&mut self, name: &Name, change: u64, made: bool) {
        let Some(slot) = self.slot(name) else { return };
        if let Some(at) = slot.pending.iter().position(|p| p.change == change)
            && let Some(pending) = slot.pending.remove(at)
            && made
        {
            slot.settled = pending.value;
        }
        let gone = slot.settled.is_none() && slot.pending.is_empty();
        if let (true, Some(name)) = (gone, name) {
            self.named.remove(name);
        }
    }

    pub(super) fn find(&self, name: &str, group: u64) -> Found<'_, T> {
        let slot = if name.is_empty() { Some(&self.unnamed) } else { self.named.get(name) };
        let Some(slot) = slot else { return Found::Missing };
        match slot.pending.back() {
            Some(latest) if latest.group == group => latest.value.as_ref().map_or(Found::Missing, Found::Known),
            Some(_) => Found::Unsettled,
            None => slot.settled.as_ref().map_or(Found::Missing, Found::Known),
        }
    }

    /// Forgets what is settled: the transaction that it lived in is over.
    pub(super) fn forget_settled(&mut self) {
        self.unnamed.settled = None;
        // The order in which a hash map is walked changes nothing here.
        self.named.retain(|_, slot| {
            slot.settled = None;
            !slot.pending.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(slots: &Slots<u8>, name: &str, group: u64) -> Option<u8> {
        match slots.find(name, group) {
            Found::Known(v) => Some(*v),
            _ => None,
        }
    }

    #[test]
    fn a_failed_change_leaves_what_was_there() {
        let mut slots = Slots::new();
        let name = slots.name("s");
        let first = slots.propose(&name, 1, Some(1));
        assert_eq!(known(&slots, "s", 1), Some(1), "within its own group it counts");
        slots.settle(&name, first, true);
        let second = slots.propose(&name, 2, Some(2));
        assert!(matches!(slots.find("s", 3), Found::Unsettled), "another group must wait");
        slots.settle(&name, second, false);
        assert_eq!(known(&slots, "s", 3), Some(1));
    }

    #[test]
    fn a_removed_name_is_missing_and_takes_no_room() {
        let mut slots = Slots::new();
        let name = slots.name("s");
        let made = slots.propose(&name, 1, Some(1));
        slots.settle(&name, made, true);
        let removed = slots.propose(&name, 1, None);
        assert!(matches!(slots.find("s", 1), Found::Missing));
        slots.settle(&name, removed, true);
        assert_eq!(slots.len(), 0);
    }
}
