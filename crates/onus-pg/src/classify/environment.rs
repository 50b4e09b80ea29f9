//! What the gateway knows of a session when it must say what a name means.
//!
//! It is told of effects twice. [`Environment::apply`], when a statement was relayed: from then on everything that it
//! *may* have changed is possible, beside what was before (a statement can fail, or be rolled back). And
//! [`Environment::confirm`], when the upstream said that it succeeded: only then is anything forgotten. So an
//! environment errs towards knowing too little, and what it doesn't know is opaque.
//!
//! A function, trigger or view that the resource's own people wrote can change the session behind the gateway's back
//! (`set_config` in a trigger). That is a limit: the database's own code is trusted as far as permitted statements
//! reach it.

use super::Parsed;
use super::catalogue::{Catalogue, RelationKind};
use super::functions::is_system_relation;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// More statements under one name than this, and the name is unknown.
const MAX_PER_NAME: usize = 8;
/// More possible search paths than this, and the path is unknown.
const MAX_PATHS: usize = 4;

/// What a statement does to the session that bears on how later statements are read.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionEffect {
    /// The search path becomes this; `None` when it can't be told what.
    SetsSearchPath(Option<Vec<String>>),
    /// The same, but it may end with the transaction.
    SetsSearchPathForNow(Option<Vec<String>>),
    /// All settings return to what the session began with.
    ResetsAll,
    /// How text is lexed may change.
    SetsLexing,
    /// Who the session acts as may change.
    SetsRole,
    /// A temporary relation may exist from now on.
    CreatesTemp(String),
    /// A relation of that schema and name may exist or not from now on.
    ChangesRelation(String, String),
    /// Relations of that schema may exist or not from now on.
    ChangesSchema(String),
    /// A function of that name may exist from now on.
    CreatesFunction(String),
    /// An operator of that name may exist from now on.
    CreatesOperator(String),
    /// Casts, types or other code may have been defined.
    ChangesCode,
    /// A statement may be prepared under the name.
    Prepares {
        /// Its name.
        name: String,
        /// What it is.
        parsed: Arc<Parsed>,
    },
    /// The prepared statement, or all of them, is forgotten.
    Deallocates(Option<String>),
    /// The prepared statement runs.
    Executes(String),
    /// A transaction begins.
    Begins,
    /// A transaction commits.
    Commits,
    /// A transaction, or part of it, is rolled back.
    RollsBack,
    /// Everything of the session is forgotten.
    DiscardsAll,
    /// Temporary relations are dropped.
    DiscardsTemp,
    /// Something opaque ran: anything may have changed.
    Unknown,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Environment {
    catalogue: Arc<Catalogue>,
    initial_path: Arc<[String]>,
    /// Possible paths, the latest last; empty means unknown.
    paths: Vec<Arc<[String]>>,
    session_role: Option<String>,
    role_known: bool,
    lexing_pinned: bool,
    temp_names: BTreeSet<String>,
    /// Relations that may or may not exist.
    uncertain: BTreeSet<(String, String)>,
    uncertain_schemas: BTreeSet<String>,
    made_functions: BTreeSet<String>,
    made_operators: BTreeSet<String>,
    code_known: bool,
    prepared: BTreeMap<String, Vec<Arc<Parsed>>>,
    crowded_names: BTreeSet<String>,
    generation: u64,
}

impl Environment {
    /// A session that has just begun: lexing pinned (`standard_conforming_strings=on`, `client_encoding=UTF8`, a
    /// UTF-8 database), with this search path, acting as this role.
    pub fn new(catalogue: Arc<Catalogue>, search_path: Vec<String>, session_role: Option<String>) -> Self {
        let initial_path: Arc<[String]> = search_path.into();
        Self {
            catalogue,
            paths: vec![initial_path.clone()],
            initial_path,
            session_role,
            role_known: true,
            lexing_pinned: true,
            temp_names: BTreeSet::new(),
            uncertain: BTreeSet::new(),
            uncertain_schemas: BTreeSet::new(),
            made_functions: BTreeSet::new(),
            made_operators: BTreeSet::new(),
            code_known: true,
            prepared: BTreeMap::new(),
            crowded_names: BTreeSet::new(),
            generation: 0,
        }
    }

    /// For explaining texts offline: nothing known, search path `"$user", public`.
    pub fn assumed() -> Self {
        Self::new(Arc::new(Catalogue::assumed()), vec!["$user".to_owned(), "public".to_owned()], None)
    }

    /// Changes with every change that may change what a text means; results may be kept as long as it stays.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether quotes and backslashes are known to be read as the classifier reads them.
    pub fn lexing_is_pinned(&self) -> bool {
        self.lexing_pinned
    }

    /// Takes a newer reading of the definitions. Call it only when nothing is in flight and no transaction is open:
    /// what this session had defined since the last reading is forgotten, because the new one has it.
    pub fn renew(&mut self, catalogue: Arc<Catalogue>) {
        self.catalogue = catalogue;
        self.uncertain.clear();
        self.uncertain_schemas.clear();
        self.made_functions.clear();
        self.made_operators.clear();
        self.code_known = true;
        self.generation += 1;
    }

    /// Notes a statement that the client named at protocol level: `EXECUTE` can run it.
    pub fn note_named(&mut self, name: &str, parsed: Arc<Parsed>) {
        let known = self.prepared.entry(name.to_owned()).or_default();
        if known.iter().any(|p| Arc::ptr_eq(p, &parsed) || p.drafts() == parsed.drafts() && p.error() == parsed.error())
        {
            return;
        }
        if known.len() == MAX_PER_NAME {
            self.crowded_names.insert(name.to_owned());
        } else {
            known.push(parsed);
        }
        self.generation += 1;
    }

    /// Every statement that may be prepared under the name; `None` when that is unknown.
    pub fn prepared(&self, name: &str) -> Option<&[Arc<Parsed>]> {
        if self.crowded_names.contains(name) {
            return None;
        }
        self.prepared.get(name).map(Vec::as_slice).filter(|known| !known.is_empty())
    }

    /// Takes in what a relayed statement may have changed. Never forgets anything.
    pub fn apply(&mut self, effects: &[SessionEffect]) {
        for effect in effects {
            self.apply_one(effect);
        }
    }

    fn apply_one(&mut self, effect: &SessionEffect) {
        let changed = match effect {
            SessionEffect::SetsSearchPath(Some(path)) | SessionEffect::SetsSearchPathForNow(Some(path)) => {
                // A path that names the temporary schema reorders what shadows what; that is not modelled.
                if path.iter().any(|schema| schema.starts_with("pg_temp")) {
                    !std::mem::take(&mut self.paths).is_empty()
                } else {
                    self.add_path(path.as_slice().into())
                }
            }
            SessionEffect::SetsSearchPath(None) | SessionEffect::SetsSearchPathForNow(None) => {
                !std::mem::take(&mut self.paths).is_empty()
            }
            SessionEffect::ResetsAll | SessionEffect::DiscardsAll => self.add_path(self.initial_path.clone()),
            SessionEffect::SetsLexing => std::mem::replace(&mut self.lexing_pinned, false),
            SessionEffect::SetsRole => std::mem::replace(&mut self.role_known, false),
            SessionEffect::CreatesTemp(name) => self.temp_names.insert(name.clone()),
            SessionEffect::ChangesRelation(schema, name) => self.uncertain.insert((schema.clone(), name.clone())),
            SessionEffect::ChangesSchema(schema) => self.uncertain_schemas.insert(schema.clone()),
            SessionEffect::CreatesFunction(name) => self.made_functions.insert(name.clone()),
            SessionEffect::CreatesOperator(name) => self.made_operators.insert(name.clone()),
            SessionEffect::ChangesCode => std::mem::replace(&mut self.code_known, false),
            SessionEffect::Prepares { name, parsed } => {
                self.note_named(name, parsed.clone());
                false
            }
            SessionEffect::Unknown => {
                let paths = !std::mem::take(&mut self.paths).is_empty();
                let lexing = std::mem::replace(&mut self.lexing_pinned, false);
                let role = std::mem::replace(&mut self.role_known, false);
                std::mem::replace(&mut self.code_known, false) || paths || lexing || role
            }
            SessionEffect::Deallocates(_)
            | SessionEffect::Executes(_)
            | SessionEffect::Begins
            | SessionEffect::Commits
            | SessionEffect::RollsBack
            | SessionEffect::DiscardsTemp => false,
        };
        if changed {
            self.generation += 1;
        }
    }

    fn add_path(&mut self, path: Arc<[String]>) -> bool {
        if self.paths.is_empty() || self.paths.last() == Some(&path) {
            return false;
        }
        self.paths.retain(|known| *known != path);
        self.paths.push(path);
        if self.paths.len() > MAX_PATHS {
            self.paths.clear();
        }
        true
    }

    /// Forgets what a relayed string of statements is known to have ended. Call it only when the upstream reported
    /// success for the whole string, nothing else is in flight, and the session is idle outside a transaction
    /// (`ReadyForQuery` says `I`).
    pub fn confirm(&mut self, effects: &[SessionEffect]) {
        let undone = |e: &SessionEffect| {
            matches!(e, SessionEffect::RollsBack | SessionEffect::Unknown | SessionEffect::SetsSearchPathForNow(_))
        };
        if effects.iter().any(undone) {
            return;
        }
        for effect in effects {
            match effect {
                SessionEffect::SetsSearchPath(Some(path)) if !path.iter().any(|s| s.starts_with("pg_temp")) => {
                    self.paths = vec![path.as_slice().into()];
                }
                SessionEffect::ResetsAll => self.paths = vec![self.initial_path.clone()],
                SessionEffect::Deallocates(Some(name)) => {
                    self.prepared.remove(name);
                    self.crowded_names.remove(name);
                }
                SessionEffect::Deallocates(None) => {
                    self.prepared.clear();
                    self.crowded_names.clear();
                }
                SessionEffect::DiscardsTemp => self.temp_names.clear(),
                SessionEffect::DiscardsAll => {
                    self.paths = vec![self.initial_path.clone()];
                    self.role_known = true;
                    self.lexing_pinned = true;
                    self.prepared.clear();
                    self.crowded_names.clear();
                    self.temp_names.clear();
                }
                _ => continue,
            }
            self.generation += 1;
        }
    }

    /// The schema in which an unqualified new relation would be made; one for each possible path.
    pub(super) fn creation_schemas(&self) -> Vec<String> {
        let mut schemas = Vec::new();
        for path in &self.paths {
            let first = path.iter().find_map(|schema| self.expand(schema).filter(|s| self.may_have_schema(s)));
            if let Some(schema) = first
                && !schemas.iter().any(|s| s == schema)
            {
                schemas.push(schema.to_owned());
            }
        }
        schemas
    }

    pub(super) fn path_is_known(&self) -> bool {
        !self.paths.is_empty() && (self.role_known || !self.paths.iter().any(|path| path.iter().any(|s| s == "$user")))
    }

    pub(super) fn code_is_known(&self) -> bool {
        self.code_known
    }

    pub(super) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    pub(super) fn made_function(&self, name: &str) -> bool {
        self.made_functions.contains(name)
    }

    pub(super) fn made_operator(&self, name: &str) -> bool {
        self.made_operators.contains(name)
    }

    /// Whether the schema is in any possible path.
    pub(super) fn in_path(&self, schema: &str) -> bool {
        self.paths.iter().any(|path| path.iter().any(|s| self.expand(s) == Some(schema)))
    }

    fn expand<'a>(&'a self, schema: &'a str) -> Option<&'a str> {
        if schema == "$user" { self.session_role.as_deref() } else { Some(schema) }
    }

    fn may_have_schema(&self, schema: &str) -> bool {
        !self.catalogue.is_complete()
            || self.catalogue.has_schema(schema)
            || self.uncertain_schemas.contains(schema)
            || schema == "pg_catalog"
    }

    /// What a qualified relation is, where known.
    pub(super) fn relation_kind(&self, schema: &str, name: &str) -> Option<RelationKind> {
        self.catalogue.relation(schema, name)
    }

    /// Every relation that an unqualified name may mean. The second value says whether one of them is sure to exist.
    /// Call it only when the path is known.
    pub(super) fn relations_named(&self, name: &str) -> (Vec<String>, bool) {
        let mut found: Vec<String> = Vec::new();
        let mut add = |schema: &str| {
            if !found.iter().any(|s| s == schema) {
                found.push(schema.to_owned());
            }
        };
        if self.temp_names.contains(name) {
            add("pg_temp");
        }
        let mut sure = true;
        // Without a catalogue only the latest path counts: it is a guess either way.
        let paths = if self.catalogue.is_complete() { &self.paths[..] } else { &self.paths[self.paths.len() - 1..] };
        for path in paths {
            let implicit = (!path.iter().any(|s| s == "pg_catalog")).then_some("pg_catalog");
            let mut schemas = implicit.into_iter().chain(path.iter().filter_map(|s| self.expand(s)));
            let mut guess = None;
            let found_sure = schemas.any(|schema| {
                let uncertain = self.uncertain.iter().any(|(s, n)| s == schema && n == name);
                let known = self.catalogue.relation(schema, name).is_some()
                    || (schema == "pg_catalog" && is_system_relation(name));
                if known || uncertain {
                    add(schema);
                }
                if schema != "pg_catalog" && !schema.starts_with('$') && guess.is_none() {
                    guess = Some(schema.to_owned());
                }
                known && !uncertain && !self.uncertain_schemas.contains(schema)
            });
            if !found_sure {
                if self.catalogue.is_complete() {
                    sure = false;
                } else if let Some(schema) = guess {
                    add(&schema);
                } else {
                    sure = false;
                }
            }
        }
        (found, sure)
    }
}
