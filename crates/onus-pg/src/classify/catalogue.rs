//! What the gateway knows of one database's definitions, read from the upstream when a session opens.
//!
//! It does no I/O: [`CATALOGUE_QUERIES`] are for the gateway to run, and [`Catalogue::from_rows`] takes what they
//! return. It is as old as its last reading; what the session itself defines since is kept in the environment.

use std::collections::{BTreeMap, BTreeSet};

/// A query that fills one part of the catalogue. All its columns are text and never null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogueQuery {
    /// Which part it fills.
    pub part: &'static str,
    /// The text to run, as a role that may read pg_catalog.
    pub sql: &'static str,
    /// How many columns each row has.
    pub columns: usize,
}

/// The queries, in the order in which [`Catalogue::from_rows`] takes their rows.
pub const CATALOGUE_QUERIES: [CatalogueQuery; 5] = [
    CatalogueQuery {
        part: "relations",
        sql: "SELECT n.nspname::text, c.relname::text, c.relkind::text FROM pg_catalog.pg_class c \
              JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
              WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v,m,S,f,p,c,i,I}'::pg_catalog.\"char\"[]) \
              AND n.nspname::text OPERATOR(pg_catalog.!~) '^pg_(toast|temp)'",
        columns: 3,
    },
    CatalogueQuery {
        part: "functions",
        sql: "SELECT n.nspname::text, p.proname::text, p.provolatile::text, l.lanname::text, p.prokind::text, \
              (p.pronargs OPERATOR(pg_catalog.>=) 1 \
               AND (p.pronargs::int4 OPERATOR(pg_catalog.-) p.pronargdefaults::int4) OPERATOR(pg_catalog.<=) 1 \
               AND (SELECT t.typtype OPERATOR(pg_catalog.=) ANY ('{c,p,d}'::pg_catalog.\"char\"[]) \
                    FROM pg_catalog.pg_type t WHERE t.oid OPERATOR(pg_catalog.=) p.proargtypes[0]))::text \
              FROM pg_catalog.pg_proc p \
              JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
              JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
              WHERE p.oid OPERATOR(pg_catalog.>=) 16384 \
              OR n.nspname OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.name",
        columns: 6,
    },
    CatalogueQuery {
        part: "operators",
        sql: "SELECT n.nspname::text, o.oprname::text FROM pg_catalog.pg_operator o \
              JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) o.oprnamespace \
              WHERE o.oid OPERATOR(pg_catalog.>=) 16384",
        columns: 2,
    },
    CatalogueQuery {
        part: "casts",
        sql: "SELECT DISTINCT t.typname::text FROM pg_catalog.pg_cast c \
              JOIN pg_catalog.pg_type t \
                ON t.oid OPERATOR(pg_catalog.=) c.castsource OR t.oid OPERATOR(pg_catalog.=) c.casttarget \
              JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) c.castfunc \
              JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
              WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.name",
        columns: 1,
    },
    CatalogueQuery { part: "schemas", sql: "SELECT n.nspname::text FROM pg_catalog.pg_namespace n", columns: 1 },
];

/// What a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RelationKind {
    /// A table, partitioned or not.
    Table,
    /// A view: reading it runs what its owner wrote.
    View,
    /// A materialised view.
    MaterialisedView,
    /// A sequence.
    Sequence,
    /// A foreign table: reading it reaches another server.
    ForeignTable,
    /// An index or a composite type, which share the relations' names.
    Other,
}

/// What a function of a name does, declared by the resource's owner or known from its making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FunctionEffect {
    /// It only reads.
    Read,
    /// It changes data.
    Write,
    /// It changes nothing but the session.
    Session,
    /// It can't be known.
    Opaque,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Function {
    schema: String,
    effect: FunctionEffect,
    takes_a_row: bool,
}

/// Why rows are not a catalogue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// A row had another number of columns than its query has.
    #[error("a row of the catalogue's {part} has {found} columns instead of {expected}")]
    Columns {
        /// Which query.
        part: &'static str,
        /// How many columns came.
        found: usize,
        /// How many were asked for.
        expected: usize,
    },
    /// A declared effect is none of the words.
    #[error("`{word}` is not what the function `{function}` can do; write `read`, `write` or `session`")]
    Effect {
        /// The function's qualified name.
        function: String,
        /// The word that was found.
        word: String,
    },
}

/// Definitions of one database. See the module for how it is filled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    relations: BTreeMap<String, Vec<(String, RelationKind)>>,
    functions: BTreeMap<String, Vec<Function>>,
    operators: BTreeMap<String, Vec<String>>,
    casts: BTreeSet<String>,
    schemas: BTreeSet<String>,
    declared: BTreeMap<String, FunctionEffect>,
    complete: bool,
}

impl Catalogue {
    /// Nothing is known: an unqualified relation is taken to be in the first schema of the path, and a function that
    /// is not built in is opaque. For explaining texts offline; never for deciding about a live session.
    pub fn assumed() -> Self {
        Self::default()
    }

    /// A complete catalogue from what [`CATALOGUE_QUERIES`] returned, in their order.
    pub fn from_rows(rows: &[Vec<Vec<String>>; 5]) -> Result<Self, CatalogueError> {
        for (query, rows) in CATALOGUE_QUERIES.iter().zip(rows) {
            if let Some(row) = rows.iter().find(|row| row.len() != query.columns) {
                return Err(CatalogueError::Columns { part: query.part, found: row.len(), expected: query.columns });
            }
        }
        let [relations, functions, operators, casts, schemas] = rows;
        let mut catalogue = Self { complete: true, ..Self::default() };
        for row in relations {
            let kind = match row[2].as_str() {
                "r" | "p" => RelationKind::Table,
                "v" => RelationKind::View,
                "m" => RelationKind::MaterialisedView,
                "S" => RelationKind::Sequence,
                "f" => RelationKind::ForeignTable,
                _ => RelationKind::Other,
            };
            catalogue.relations.entry(row[1].clone()).or_default().push((row[0].clone(), kind));
        }
        for row in functions {
            // C and internal functions were made by a superuser; of those the immutable and stable ones only read.
            let trusted = matches!(row[3].as_str(), "c" | "internal") && matches!(row[2].as_str(), "i" | "s");
            let effect = if trusted && row[4] != "p" { FunctionEffect::Read } else { FunctionEffect::Opaque };
            let function = Function { schema: row[0].clone(), effect, takes_a_row: row[5] == "true" || row[5] == "t" };
            catalogue.functions.entry(row[1].clone()).or_default().push(function);
        }
        for row in operators {
            catalogue.operators.entry(row[1].clone()).or_default().push(row[0].clone());
        }
        catalogue.casts = casts.iter().map(|row| row[0].clone()).collect();
        catalogue.schemas = schemas.iter().map(|row| row[0].clone()).collect();
        Ok(catalogue)
    }

    /// Declares what functions do, by qualified name (`public.total`): `read`, `write` or `session`. It answers for
    /// every overload of the name.
    pub fn declare<'a>(mut self, known: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, CatalogueError> {
        for (function, word) in known {
            let effect = match word {
                "read" => FunctionEffect::Read,
                "write" => FunctionEffect::Write,
                "session" => FunctionEffect::Session,
                _ => return Err(CatalogueError::Effect { function: function.to_owned(), word: word.to_owned() }),
            };
            self.declared.insert(function.to_owned(), effect);
        }
        Ok(self)
    }

    /// Whether every definition is known, so that what is not in it does not exist.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn has_schema(&self, schema: &str) -> bool {
        self.schemas.contains(schema)
    }

    pub(super) fn relation(&self, schema: &str, name: &str) -> Option<RelationKind> {
        self.relations.get(name)?.iter().find(|(s, _)| s == schema).map(|(_, kind)| *kind)
    }

    /// The worst that any function of that qualified name does; `None` when there is none.
    pub(super) fn function(&self, schema: &str, name: &str) -> Option<FunctionEffect> {
        if !self.declared.is_empty()
            && let Some(effect) = self.declared.get(&format!("{schema}.{name}"))
        {
            return Some(*effect);
        }
        self.functions.get(name)?.iter().filter(|f| f.schema == schema).map(|f| f.effect).max()
    }

    /// The schemas outside pg_catalog that have a function of that name.
    pub(super) fn schemas_with_function<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let mut found: Vec<&str> = self.functions.get(name).into_iter().flatten().map(|f| f.schema.as_str()).collect();
        let suffix = self.declared.keys().filter_map(|key| key.rsplit_once('.'));
        found.extend(suffix.filter(|(_, n)| *n == name).map(|(schema, _)| schema));
        found.retain(|schema| *schema != "pg_catalog");
        found.sort_unstable();
        found.dedup();
        found.into_iter()
    }

    /// The schemas with a function of that name that `row.name` would call.
    pub(super) fn schemas_with_row_function<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let all = self.functions.get(name).into_iter().flatten();
        all.filter(|f| f.takes_a_row && f.schema != "pg_catalog").map(|f| f.schema.as_str())
    }

    /// The schemas outside pg_catalog that have an operator of that name.
    pub(super) fn schemas_with_operator(&self, name: &str) -> &[String] {
        self.operators.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a cast from or to the type of that name calls a function from outside pg_catalog.
    pub(super) fn cast_calls_code(&self, type_name: &str) -> bool {
        self.casts.contains(type_name)
    }
}
