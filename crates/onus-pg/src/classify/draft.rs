//! A statement as its text alone tells it: names as written, nothing looked up yet.
//!
//! Stage 1 (`walk`, `statements`) writes drafts; stage 2 (`resolve`) reads them against an environment.

use super::environment::SessionEffect;
use super::functions::Builtin;
use onus_core::operation::Access;
use std::collections::BTreeSet;

/// A name as written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub schema: Option<String>,
    pub name: String,
}

/// What an object's name means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Subject {
    /// An existing relation, to be looked up.
    Relation(Name),
    /// A relation that may be absent (`IF EXISTS`).
    MaybeRelation(Name),
    /// A relation that this statement makes.
    NewRelation { name: Name, temporary: bool },
    /// Anything else, by its name as written.
    Plain(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct DraftObject {
    /// Index of its operation.
    pub op: usize,
    pub access: Access,
    pub kind: &'static str,
    pub subject: Subject,
    pub parts: BTreeSet<String>,
    /// Some of its columns could not be told: then none are claimed.
    pub parts_unknown: bool,
    /// Left out unless a column was referenced (what an UPDATE reads of its own target).
    pub only_if_referenced: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct DraftOp {
    pub action: &'static str,
    pub facts: BTreeSet<String>,
    /// Left out when nothing hangs on it (reads beside another operation).
    pub only_with_objects: bool,
}

/// A function that is called by name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub name: Name,
    /// What the built-in function of that name does, if there is one.
    pub builtin: Option<Builtin>,
    pub arguments: usize,
    /// For `set_config`: the setting and value when both are constants.
    pub setting: Option<(String, Option<String>)>,
    /// `CALL name(…)`, not an expression.
    pub procedure: bool,
}

/// Why something is opaque, and whether it may run arbitrary code if it is relayed all the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reason {
    pub text: String,
    pub runs_code: bool,
}

/// A change to definitions that bears on later statements of the session.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum DraftEffect {
    Session(SessionEffect),
    NewRelation {
        name: Name,
        temporary: bool,
    },
    ChangesRelation(Name),
    /// `to` now names what `from` named.
    Renames {
        from: Name,
        to: String,
    },
    MovesTo {
        from: Name,
        schema: String,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    pub kind: &'static str,
    pub ops: Vec<DraftOp>,
    pub objects: Vec<DraftObject>,
    pub calls: Vec<Call>,
    pub operators: Vec<Name>,
    pub types: Vec<Name>,
    /// Last names of column references, any of which may call a function on a row.
    pub attributes: BTreeSet<String>,
    /// Functions that the newer grammar spells as syntax and an older server would call by name.
    pub keywords: BTreeSet<&'static str>,
    pub opaque: BTreeSet<Reason>,
    pub effects: Vec<DraftEffect>,
    /// Prepared statements that it runs.
    pub executes: Vec<String>,
    /// Said of every operation.
    pub facts: BTreeSet<String>,
    /// The operation that gathers what is read.
    pub reads: Option<usize>,
}
