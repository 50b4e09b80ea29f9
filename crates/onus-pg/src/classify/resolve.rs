//! Stage 2: a draft's names looked up in an environment, statement by statement.

use super::Classified;
use super::Parsed;
use super::Statement;
use super::actions::operation;
use super::catalogue::{FunctionEffect, RelationKind};
use super::draft::{Call, Draft, DraftEffect, DraftObject, Name, Subject};
use super::environment::{Environment, SessionEffect};
use super::functions::{Builtin, is_sensitive_relation, is_system_type};
use super::settings::{Setting, setting};
use super::statements::opaque_draft;
use super::walk::{set_config_effects, written};
use onus_core::operation::{Access, Class, Object, Operation};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// How far prepared statements that run prepared statements are followed.
const MAX_EXECUTE_DEPTH: usize = 4;

/// Looks the names of a text up in an environment, which evolves within the text. See [`super::parse`].
pub fn resolve(parsed: &Parsed, env: &Environment) -> Classified {
    if let Some(error) = parsed.error() {
        return Classified::of(vec![one(
            &opaque_draft(format!("the statement could not be parsed: {error}")),
            env,
            false,
        )]);
    }
    if !env.lexing_is_pinned() && !parsed.is_plain() {
        let why = "it holds a backslash or a character outside ASCII, and how the server reads those was changed";
        return Classified::of(vec![one(&opaque_draft(why.to_owned()), env, false)]);
    }
    let drafts = parsed.drafts();
    if drafts.is_empty() {
        let empty = Statement { kind: "empty", operations: vec![operation("sql.empty")], effects: Vec::new() };
        return Classified::of(vec![empty]);
    }
    let several = drafts.len() > 1;
    let mut env = Cow::Borrowed(env);
    let mut statements = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate() {
        let statement = one(draft, &env, several);
        if index + 1 < drafts.len() && !statement.effects.is_empty() {
            env.to_mut().apply(&statement.effects);
        }
        statements.push(statement);
    }
    Classified::of(statements)
}

fn one(draft: &Draft, env: &Environment, several: bool) -> Statement {
    let mut statement = without_executed(draft, env, several);
    executed(draft, env, &mut statement, 0);
    statement
}

/// Adds what the prepared statements that it runs may do.
fn executed(draft: &Draft, env: &Environment, statement: &mut Statement, depth: usize) {
    for name in &draft.executes {
        let known = if depth < MAX_EXECUTE_DEPTH { env.prepared(name) } else { None };
        let Some(known) = known else {
            let why = format!("`EXECUTE {name}`: no such prepared statement was seen");
            statement.add(Operation::opaque("sql.opaque", why));
            statement.effects.push(SessionEffect::Unknown);
            continue;
        };
        for parsed in known {
            let unreadable = parsed.error().is_some() || (!env.lexing_is_pinned() && !parsed.is_plain());
            if unreadable {
                let why = format!("`EXECUTE {name}`: the prepared statement could not be parsed");
                statement.add(Operation::opaque("sql.opaque", why));
                statement.effects.push(SessionEffect::Unknown);
            }
            for inner in parsed.drafts() {
                let mut resolved = without_executed(inner, env, false);
                executed(inner, env, &mut resolved, depth + 1);
                resolved.operations.into_iter().for_each(|operation| statement.add(operation));
                statement.effects.extend(resolved.effects);
            }
        }
    }
}

/// A statement's own operations, without those of the prepared statements that it runs.
fn without_executed(draft: &Draft, env: &Environment, several: bool) -> Statement {
    let mut resolving = Resolving {
        env,
        operations: draft.ops.iter().map(|op| operation(op.action)).collect(),
        opaque: BTreeSet::new(),
        facts: draft.facts.clone(),
        effects: Vec::new(),
        runs_code: draft.opaque.iter().any(|reason| reason.runs_code),
        reads: draft.reads,
    };
    if several {
        resolving.facts.insert("multi-statement".to_owned());
    }
    resolving.draft(draft);
    resolving.finish(draft)
}

struct Resolving<'a> {
    env: &'a Environment,
    operations: Vec<Operation>,
    opaque: BTreeSet<String>,
    /// Said of every operation of the statement.
    facts: BTreeSet<String>,
    effects: Vec<SessionEffect>,
    runs_code: bool,
    reads: Option<usize>,
}

impl Resolving<'_> {
    fn draft(&mut self, draft: &Draft) {
        for reason in &draft.opaque {
            self.opaque.insert(reason.text.clone());
        }
        for (operation, op) in self.operations.iter_mut().zip(&draft.ops) {
            operation.facts.clone_from(&op.facts);
        }
        draft.objects.iter().for_each(|object| self.object(object));
        draft.calls.iter().for_each(|call| self.call(call));
        draft.operators.iter().for_each(|name| self.operator(name));
        draft.types.iter().for_each(|name| self.type_name(name));
        draft.attributes.iter().for_each(|name| self.attribute(name));
        draft.keywords.iter().for_each(|name| self.keyword(name));
        draft.effects.iter().for_each(|effect| self.effect(effect));
    }

    fn finish(mut self, draft: &Draft) -> Statement {
        let reads = self.reads;
        let mut kept: Vec<Operation> = Vec::with_capacity(self.operations.len() + 1);
        let mut spare = None;
        for (index, operation) in self.operations.into_iter().enumerate() {
            let dispensable = draft.ops.get(index).is_some_and(|op| op.only_with_objects);
            if dispensable && operation.objects.is_empty() {
                if Some(index) == reads {
                    spare = Some(operation);
                }
            } else if !kept.contains(&operation) {
                kept.push(operation);
            }
        }
        if kept.is_empty() && self.opaque.is_empty() {
            kept.extend(spare);
        }
        if kept.is_empty() && self.opaque.is_empty() && draft.executes.is_empty() {
            self.opaque.insert("nothing is known of what it does".to_owned());
            self.runs_code = true;
        }
        if !self.opaque.is_empty() {
            let mut opaque = operation("sql.opaque");
            opaque.opaque = self.opaque;
            kept.push(opaque);
        }
        for operation in &mut kept {
            operation.facts.extend(self.facts.iter().cloned());
        }
        if self.runs_code && !self.effects.contains(&SessionEffect::Unknown) {
            self.effects.push(SessionEffect::Unknown);
        }
        Statement { kind: draft.kind, operations: kept, effects: self.effects }
    }

    // ---- objects

    fn object(&mut self, object: &DraftObject) {
        if object.only_if_referenced && object.parts.is_empty() && !object.parts_unknown {
            return;
        }
        match &object.subject {
            Subject::Plain(name) => self.add(object, name.clone()),
            Subject::Relation(name) => self.relation(object, name, false),
            Subject::MaybeRelation(name) => self.relation(object, name, true),
            Subject::NewRelation { name, temporary } => self.new_relation(object, name, *temporary),
        }
    }

    fn add(&mut self, object: &DraftObject, name: String) {
        let parts = if object.parts_unknown { BTreeSet::new() } else { object.parts.clone() };
        let operation = &mut self.operations[object.op];
        // The same object twice: what is known of both, or nothing.
        let twin = operation
            .objects
            .iter()
            .find(|o| o.access == object.access && o.kind == object.kind && o.name == name)
            .cloned();
        let parts = match twin {
            Some(twin) => {
                operation.objects.remove(&twin);
                if twin.parts.is_empty() || parts.is_empty() { BTreeSet::new() } else { &twin.parts | &parts }
            }
            None => parts,
        };
        operation.objects.insert(Object { access: object.access, kind: object.kind.to_owned(), name, parts });
    }

    fn add_relation(&mut self, object: &DraftObject, schema: &str, name: &str) {
        let operation = &mut self.operations[object.op];
        if schema == "pg_catalog" || schema == "information_schema" || schema.starts_with("pg_toast") {
            operation.facts.insert("system-catalogue".to_owned());
        }
        if is_sensitive_relation(schema, name) {
            operation.facts.insert("sensitive-catalogue".to_owned());
        }
        match self.env.relation_kind(schema, name) {
            Some(RelationKind::View) => {
                operation.facts.insert("view".to_owned());
            }
            Some(RelationKind::ForeignTable) => {
                operation.facts.insert("foreign-table".to_owned());
            }
            _ => {}
        }
        self.add(object, format!("{schema}.{name}"));
    }

    fn relation(&mut self, object: &DraftObject, name: &Name, may_be_absent: bool) {
        if let Some(schema) = &name.schema {
            // Every session's temporary schema has a number; its own goes by `pg_temp`.
            self.add_relation(object, schema, &name.name);
            return;
        }
        if !self.env.path_is_known() {
            self.opaque.insert(format!("`{}` is not qualified and the search_path was changed", name.name));
            self.add(object, name.name.clone());
            return;
        }
        let (schemas, sure) = self.env.relations_named(&name.name);
        for schema in &schemas {
            self.add_relation(object, schema, &name.name);
        }
        if schemas.len() > 1 {
            let choices: Vec<String> = schemas.iter().map(|schema| format!("`{schema}.{}`", name.name)).collect();
            self.opaque.insert(format!("`{}` may be {}", name.name, choices.join(" or ")));
        } else if schemas.is_empty() {
            self.add(object, name.name.clone());
            if !sure && !may_be_absent {
                self.opaque.insert(format!("relation `{}` is not known", name.name));
            }
        }
    }

    fn new_relation(&mut self, object: &DraftObject, name: &Name, temporary: bool) {
        if temporary {
            return self.add(object, format!("pg_temp.{}", name.name));
        }
        if let Some(schema) = &name.schema {
            return self.add_relation(object, schema, &name.name);
        }
        let schemas = if self.env.path_is_known() { self.env.creation_schemas() } else { Vec::new() };
        match schemas.as_slice() {
            [schema] => self.add_relation(object, schema, &name.name),
            [] => {
                self.opaque.insert(format!("`{}` is not qualified and the search_path was changed", name.name));
                self.add(object, name.name.clone());
            }
            several => {
                for schema in several {
                    self.add_relation(object, schema, &name.name);
                }
                self.opaque.insert(format!("`{}` may be made in {}", name.name, several.join(" or ")));
            }
        }
    }

    // ---- functions

    fn extra(&mut self, action: &'static str) -> &mut Operation {
        let at = match self.operations.iter().position(|operation| operation.action == action) {
            Some(at) => at,
            None => {
                self.operations.push(operation(action));
                self.operations.len() - 1
            }
        };
        &mut self.operations[at]
    }

    fn runs(&mut self, action: &'static str, function: String) {
        let object =
            Object { access: Access::Execute, kind: "function".to_owned(), name: function, parts: BTreeSet::new() };
        self.extra(action).objects.insert(object);
    }

    fn unknown_function(&mut self, function: &str) {
        self.opaque.insert(format!("function `{function}` has no known effect"));
        self.runs_code = true;
    }

    fn call(&mut self, call: &Call) {
        let name = &call.name;
        if let Some(builtin) = call.builtin {
            self.builtin(call, builtin);
        }
        match name.schema.as_deref() {
            Some("information_schema") => {}
            Some("pg_catalog") => {
                if call.builtin.is_none() {
                    self.newer_builtin(name);
                }
            }
            Some(schema) => match self.env.catalogue().function(schema, &name.name) {
                Some(effect) if !self.env.made_function(&name.name) && self.env.code_is_known() => {
                    self.user_function(format!("{schema}.{}", name.name), effect, call.procedure);
                }
                _ => self.unknown_function(&written(name)),
            },
            None => self.unqualified_call(call),
        }
        if name.name.starts_with("dblink") {
            self.runs("sql.remote", written(name));
        }
    }

    fn unqualified_call(&mut self, call: &Call) {
        let name = &call.name.name;
        if !self.env.path_is_known() || !self.env.code_is_known() {
            self.opaque.insert(format!("function `{name}` is not qualified and the search_path was changed"));
            self.runs_code = true;
            return;
        }
        if self.env.made_function(name) {
            self.unknown_function(name);
            return;
        }
        let catalogue = self.env.catalogue();
        let found: Vec<(String, FunctionEffect)> = catalogue
            .schemas_with_function(name)
            .filter(|schema| self.env.in_path(schema))
            .filter_map(|schema| catalogue.function(schema, name).map(|effect| (format!("{schema}.{name}"), effect)))
            .collect();
        if found.is_empty() && call.builtin.is_none() {
            self.newer_builtin(&call.name);
            return;
        }
        for (function, effect) in found {
            self.user_function(function, effect, call.procedure);
        }
    }

    /// A function of pg_catalog that is newer than the table, if the catalogue knows it to read only.
    fn newer_builtin(&mut self, name: &Name) {
        if self.env.catalogue().function("pg_catalog", &name.name) != Some(FunctionEffect::Read) {
            self.unknown_function(&written(name));
        }
    }

    fn user_function(&mut self, function: String, effect: FunctionEffect, procedure: bool) {
        match effect {
            FunctionEffect::Opaque => self.unknown_function(&function),
            _ if procedure => self.runs("sql.call", function),
            FunctionEffect::Write => self.runs("sql.call_write", function),
            FunctionEffect::Read | FunctionEffect::Session => self.runs("sql.select", function),
        }
    }

    fn builtin(&mut self, call: &Call, builtin: Builtin) {
        let function = || format!("pg_catalog.{}", call.name.name);
        match builtin {
            Builtin::Read => {}
            Builtin::Fact(fact) => {
                self.facts.insert(fact.to_owned());
            }
            Builtin::Write => self.runs("sql.call_write", function()),
            Builtin::Notify => self.runs("sql.notify", function()),
            Builtin::Signal => self.runs("sql.signal", function()),
            Builtin::File => self.runs("sql.server_file", function()),
            Builtin::System => self.runs("sql.system", function()),
            Builtin::Maintain => self.runs("sql.maintain", function()),
            Builtin::Remote => self.runs("sql.remote", function()),
            Builtin::TsRewrite if call.arguments != 2 => {}
            Builtin::Dynamic | Builtin::TsRewrite => {
                self.opaque.insert(format!("function `{}` reads or runs what its arguments name", call.name.name));
                self.runs_code = true;
            }
            Builtin::Opaque => self.unknown_function(&call.name.name),
            Builtin::SetConfig => self.set_config(call),
        }
    }

    fn set_config(&mut self, call: &Call) {
        match &call.setting {
            Some((name, value)) if !name.is_empty() => {
                let name = name.to_ascii_lowercase();
                let action = match setting(&name) {
                    Setting::Harmless => "sql.set",
                    Setting::Role => "sql.set_role",
                    _ => "sql.set_sensitive",
                };
                self.extra(action).facts.insert(format!("setting:{name}"));
                self.effects.extend(set_config_effects(&name, value.as_deref()));
            }
            // The setting is computed: it may be any.
            _ => {
                self.extra("sql.set_sensitive").facts.insert("setting:unknown".to_owned());
                self.effects.push(SessionEffect::Unknown);
            }
        }
    }

    fn operator(&mut self, name: &Name) {
        let found = match name.schema.as_deref() {
            Some("pg_catalog") => return,
            Some(schema) => Some(format!("{schema}.{}", name.name)),
            None if !self.env.path_is_known() || !self.env.code_is_known() => {
                self.opaque
                    .insert(format!("operator `{}` is not qualified and the search_path was changed", name.name));
                self.runs_code = true;
                return;
            }
            None if self.env.made_operator(&name.name) => Some(name.name.clone()),
            None => self
                .env
                .catalogue()
                .schemas_with_operator(&name.name)
                .iter()
                .find(|schema| self.env.in_path(schema))
                .map(|schema| format!("{schema}.{}", name.name)),
        };
        if let Some(operator) = found {
            self.opaque.insert(format!("operator `{operator}` has no known effect"));
            self.runs_code = true;
        }
    }

    fn type_name(&mut self, name: &Name) {
        let built_in = match name.schema.as_deref() {
            Some(schema) => schema == "pg_catalog",
            None => is_system_type(&name.name),
        };
        if !built_in {
            self.facts.insert("user-type".to_owned());
        }
        if self.env.catalogue().cast_calls_code(&name.name) || (!built_in && !self.env.code_is_known()) {
            self.opaque.insert(format!("a cast of type `{}` may call a function", written(name)));
            self.runs_code = true;
        }
    }

    /// `row.name` calls the function `name` when the row has no such column.
    fn attribute(&mut self, name: &str) {
        if self.env.made_function(name) {
            self.unknown_function(name);
            return;
        }
        let catalogue = self.env.catalogue();
        let known = self.env.path_is_known();
        let found: Vec<String> = catalogue
            .schemas_with_row_function(name)
            .filter(|schema| !known || self.env.in_path(schema))
            .map(str::to_owned)
            .collect();
        for schema in found {
            let effect = catalogue.function(&schema, name).unwrap_or(FunctionEffect::Opaque);
            self.user_function(format!("{schema}.{name}"), effect, false);
        }
    }

    fn keyword(&mut self, name: &str) {
        let user = self.env.catalogue().schemas_with_function(name).any(|schema| self.env.in_path(schema));
        if user || self.env.made_function(name) || !self.env.path_is_known() {
            self.unknown_function(name);
        }
    }

    // ---- effects

    fn effect(&mut self, effect: &DraftEffect) {
        match effect {
            DraftEffect::Session(effect) => self.effects.push(effect.clone()),
            DraftEffect::NewRelation { name, temporary: true } => {
                self.effects.push(SessionEffect::CreatesTemp(name.name.clone()));
            }
            DraftEffect::NewRelation { name, temporary: false } => {
                for schema in self.schemas_for(name, true) {
                    self.effects.push(SessionEffect::ChangesRelation(schema, name.name.clone()));
                }
            }
            DraftEffect::ChangesRelation(name) => {
                for schema in self.schemas_for(name, false) {
                    self.effects.push(SessionEffect::ChangesRelation(schema, name.name.clone()));
                }
            }
            DraftEffect::Renames { from, to } => {
                for schema in self.schemas_for(from, false) {
                    if schema.starts_with("pg_temp") {
                        self.effects.push(SessionEffect::CreatesTemp(to.clone()));
                    }
                    self.effects.push(SessionEffect::ChangesRelation(schema.clone(), from.name.clone()));
                    self.effects.push(SessionEffect::ChangesRelation(schema, to.clone()));
                }
            }
            DraftEffect::MovesTo { from, schema } => {
                for old in self.schemas_for(from, false) {
                    self.effects.push(SessionEffect::ChangesRelation(old, from.name.clone()));
                }
                self.effects.push(SessionEffect::ChangesRelation(schema.clone(), from.name.clone()));
            }
        }
    }

    fn schemas_for(&self, name: &Name, new: bool) -> Vec<String> {
        match &name.schema {
            Some(schema) => vec![schema.clone()],
            None if !self.env.path_is_known() => Vec::new(),
            None if new => self.env.creation_schemas(),
            None => self.env.relations_named(&name.name).0,
        }
    }
}

impl Statement {
    fn add(&mut self, operation: Operation) {
        if !self.operations.contains(&operation) {
            self.operations.push(operation);
        }
    }

    /// The most severe class of its operations.
    pub fn class(&self) -> Class {
        self.operations.iter().map(|operation| operation.class).max().unwrap_or(Class::Opaque)
    }
}
