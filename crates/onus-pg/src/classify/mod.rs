//! The classifier: SQL text to operations, by the server's own grammar and never by matching text.
//!
//! Two stages, so that the expensive one can be cached by text: [`parse`] tells what a text does as far as the text
//! alone can tell; [`resolve`] looks its names up in what is known of the session and the database. What can't be
//! known is opaque, and an operation that says so comes in addition to those that are known. Both stages are pure.
//!
//! The limits, plainly. A grammar newer than the server's reads the text. Views, triggers, column defaults, rules,
//! row policies, domains and implicit casts that the database's own people made run when a permitted statement reaches
//! them, and are not looked into. A cast to a type from outside pg_catalog is the fact `user-type` and not opaque
//! unless a cast function is known. Trees deeper than about fifty expressions are opaque, because the decoder of the
//! grammar's messages goes no deeper. The database must be in UTF-8.

mod actions;
mod catalogue;
mod draft;
mod environment;
mod explain;
mod functions;
mod parse;
mod resolve;
mod settings;
mod statements;
mod template;
mod tree;
mod walk;

pub use actions::{ACTIONS, class_of};
pub use catalogue::{CATALOGUE_QUERIES, Catalogue, CatalogueError, CatalogueQuery, FunctionEffect, RelationKind};
pub use environment::{Environment, SessionEffect};
pub use explain::explain;
pub use parse::{MAX_TEXT_BYTES, Parsed, parse};
pub use resolve::resolve;
pub use settings::parse_search_path;
pub use template::template_key;

use onus_core::operation::{Class, Operation};

/// What one statement of a text does.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// A word for its kind: `select`, `insert`, `set`, `create` …; `unparsed` when it could not be read.
    pub kind: &'static str,
    /// What it does; each must be permitted. Never empty.
    pub operations: Vec<Operation>,
    /// What it does to the session, in order.
    pub effects: Vec<SessionEffect>,
}

/// What a text does: at least one statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Classified {
    /// Its statements, in order.
    pub statements: Vec<Statement>,
    /// The effects of all of them, in order.
    pub effects: Vec<SessionEffect>,
}

impl Classified {
    fn of(statements: Vec<Statement>) -> Self {
        let effects = statements.iter().flat_map(|statement| statement.effects.iter().cloned()).collect();
        Self { statements, effects }
    }

    /// Every operation once, in order.
    pub fn operations(&self) -> Vec<Operation> {
        let mut all: Vec<Operation> = Vec::new();
        for operation in self.statements.iter().flat_map(|statement| &statement.operations) {
            if !all.contains(operation) {
                all.push(operation.clone());
            }
        }
        all
    }

    /// The most severe class.
    pub fn class(&self) -> Class {
        self.statements.iter().map(Statement::class).max().unwrap_or(Class::Opaque)
    }
}
