//! The operation: one parsed unit of use, in a small fixed vocabulary that every protocol shares.
//!
//! A protocol's classifier makes it from bytes and a policy decides about it; neither knows the other. There is
//! no enum of protocols here: a new protocol brings new action names and new fact words, and no change to this
//! file. The statement's text is not part of it, so that one classification serves every text that differs only
//! in its constants; the text travels beside it, in the frame and in the journal.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// What an operation does to the other side, the coarsest thing that policy can be written about.
///
/// The order is that of severity: a frame's durability follows its most severe operation. When adding one, add it
/// to [`Class::ALL`], to the Cedar schema's action groups, and to `docs/policy.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Changes nothing but the session itself: transaction control, harmless settings, cursors.
    Session,
    /// Reads data.
    Read,
    /// Changes data.
    Write,
    /// Changes definitions (DDL).
    Define,
    /// Changes privileges, roles, or the server itself.
    Administer,
    /// Runs code, or reaches files, programs or other servers from the other side.
    Execute,
    /// Cannot be known; needs its own permission (invariant 8).
    Opaque,
}

impl Class {
    /// Every class, mildest first.
    pub const ALL: [Self; 7] =
        [Self::Session, Self::Read, Self::Write, Self::Define, Self::Administer, Self::Execute, Self::Opaque];

    /// The word used in policies, journals and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Read => "read",
            Self::Write => "write",
            Self::Define => "define",
            Self::Administer => "administer",
            Self::Execute => "execute",
            Self::Opaque => "opaque",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }

    /// When the journal may acknowledge an operation of this class.
    ///
    /// Reads are acknowledged when the record was handed to the operating system: it survives the gateway's own
    /// death. Everything else waits until the record was synced: it survives the machine's.
    pub fn durability(self) -> Durability {
        match self {
            Self::Session | Self::Read => Durability::HandedOver,
            Self::Write | Self::Define | Self::Administer | Self::Execute | Self::Opaque => Durability::Synced,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a journal record must have come before what it records may be relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Written to the operating system; survives a kill of the gateway.
    HandedOver,
    /// Synced to stable storage; survives a crash of the machine.
    Synced,
}

/// How an operation touches an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Its data is read.
    Read,
    /// Its data is changed.
    Write,
    /// Its definition is made, changed or removed.
    Define,
    /// It is run.
    Execute,
    /// Its privileges or ownership change.
    Administer,
}

impl Access {
    /// The word used in policies and journals.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Define => "define",
            Self::Execute => "execute",
            Self::Administer => "administer",
        }
    }
}

/// One thing that an operation touches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Object {
    /// How it is touched.
    pub access: Access,
    /// What kind of thing, in the protocol's own word: `relation`, `function`, `schema`, `role`, `path` …
    pub kind: String,
    /// The name, as far qualified as the classifier could resolve it: `public.orders`.
    pub name: String,
    /// Parts of it, where they can be known (columns). Empty means *not known*, never *none*.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub parts: BTreeSet<String>,
}

/// One parsed unit of use. Its [`Operation::action`] is the Cedar action.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Operation {
    /// The Cedar action: protocol and verb, `sql.update`. An opaque operation's is `<protocol>.opaque`.
    pub action: String,
    /// What it does, coarsely. Every action belongs to exactly one class.
    pub class: Class,
    /// What it touches, sorted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub objects: BTreeSet<Object>,
    /// Words that policy may ask about: `no-where`, `program`, `cascade`, `setting:work_mem` …
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub facts: BTreeSet<String>,
    /// Why it is opaque; empty unless `class` is [`Class::Opaque`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub opaque: BTreeSet<String>,
}

impl Operation {
    /// An operation that touches nothing yet.
    pub fn new(action: impl Into<String>, class: Class) -> Self {
        Self { action: action.into(), class, objects: BTreeSet::new(), facts: BTreeSet::new(), opaque: BTreeSet::new() }
    }

    /// An operation that cannot be known, and why.
    pub fn opaque(action: impl Into<String>, why: impl Into<String>) -> Self {
        let mut operation = Self::new(action, Class::Opaque);
        operation.opaque.insert(why.into());
        operation
    }

    /// Whether the fact is stated.
    pub fn has(&self, fact: &str) -> bool {
        self.facts.contains(fact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_nothing_may_skip_the_sync() {
        let lazy: Vec<_> = Class::ALL.into_iter().filter(|c| c.durability() == Durability::HandedOver).collect();
        assert_eq!(lazy, [Class::Session, Class::Read]);
    }

    #[test]
    fn every_class_reads_back_from_its_word() {
        for class in Class::ALL {
            assert_eq!(Class::parse(class.as_str()), Some(class));
        }
        assert_eq!(Class::parse("anything"), None);
    }
}
