//! Turns a view, an operation and a moment into what Cedar evaluates: request, context and entities.
//!
//! The context's shape stands here once, as a table, from which both the schema and every request are made; so the
//! requests need no validation of their own at run time.

use crate::schema::{Action, Schema};
use crate::uses::Uses;
use cedar_policy::{Context, Entities, Entity, Request, RestrictedExpression as Value};
use onus_core::operation::{Access, Class, Operation};
use onus_core::path::{self, Reach};
use onus_core::time::{Civil, Timestamp};
use onus_core::view::View;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Where an attribute of the context comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The view and the operation.
    Asked,
    /// The moment: a decision that looks at it holds only until the minute is over.
    Moment,
}

/// One attribute of the context.
pub(crate) struct Attribute {
    /// Its name in policies.
    pub name: &'static str,
    /// Its Cedar type.
    pub cedar: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// How it is made.
    pub make: fn(&Asked<'_>) -> Value,
}

/// What the context is made of.
pub(crate) struct Asked<'a> {
    view: &'a View,
    operation: &'a Operation,
    civil: Civil,
    unlocks: &'a BTreeSet<String>,
}

const fn asked(name: &'static str, cedar: &'static str, make: fn(&Asked<'_>) -> Value) -> Attribute {
    Attribute { name, cedar, source: Source::Asked, make }
}

const fn moment(name: &'static str, make: fn(&Asked<'_>) -> Value) -> Attribute {
    Attribute { name, cedar: "Long", source: Source::Moment, make }
}

const SET: &str = "Set<String>";

/// The context. When adding one, describe it in `docs/policy.md`; a moment's may not be finer than a minute, because
/// decisions about it are reused for that long.
pub(crate) const CONTEXT: &[Attribute] = &[
    asked("administers", SET, |a| a.names(Access::Administer)),
    asked("columns", SET, |a| set(a.columns())),
    asked("columns_known", "Bool", |a| Value::new_bool(a.columns_known())),
    asked("command", "String", |a| text(a.command())),
    asked("database", "String", |a| text(&a.view.database)),
    asked("defines", SET, |a| a.names(Access::Define)),
    asked("executes", SET, |a| a.names(Access::Execute)),
    asked("facts", SET, |a| set(a.operation.facts.iter())),
    asked("functions", SET, |a| a.of_kind("function")),
    asked("grant", "String", |a| text(a.view.grant.as_str())),
    asked("hosts", SET, |a| set(a.kinds(&["endpoint", "host"]))),
    moment("hour", |a| Value::new_long(i64::from(a.civil.hour))),
    moment("minute", |a| Value::new_long(i64::from(a.civil.minute))),
    asked("no_where", "Bool", |a| Value::new_bool(a.operation.has("no-where"))),
    asked("opaque", SET, |a| set(a.operation.opaque.iter())),
    asked("paths", SET, |a| a.of_kind("path")),
    asked("programs", SET, |a| a.of_kind("program")),
    asked("purpose", "String", |a| text(&a.view.purpose)),
    asked("reads", SET, |a| a.names(Access::Read)),
    asked("reads_some", SET, |a| set(a.some(READS, Reach::Itself))),
    asked("reads_within", SET, |a| set(a.within(READS))),
    asked("relations", SET, |a| a.of_kind("relation")),
    asked("risk", "Long", |a| Value::new_long(i64::from(a.view.risk))),
    asked("role", "String", |a| text(a.view.role.as_str())),
    asked("schemas", SET, |a| set(a.schemas())),
    asked("tier", "String", |a| text(a.view.tier.as_str())),
    asked("unlocks", SET, |a| set(a.unlocks.iter())),
    moment("weekday", |a| Value::new_long(i64::from(a.civil.weekday))),
    asked("writes", SET, |a| a.names(Access::Write)),
    asked("writes_some", SET, |a| set(a.some(WRITES, Reach::Into))),
    asked("writes_within", SET, |a| set(a.within(WRITES))),
];

/// What counts as reading a path: to run it is to read it.
const READS: &[Access] = &[Access::Read, Access::Execute];
/// What counts as writing a path: to change its owner or rights, too.
const WRITES: &[Access] = &[Access::Write, Access::Define, Access::Administer];

fn text(text: &str) -> Value {
    Value::new_string(text.to_owned())
}

fn set(items: impl IntoIterator<Item = impl AsRef<str>>) -> Value {
    Value::new_set(items.into_iter().map(|item| text(item.as_ref())))
}

impl Asked<'_> {
    fn names(&self, access: Access) -> Value {
        // A whole command is `command`; here it would be a program's name by another.
        set(self.operation.objects.iter().filter(|o| o.access == access && o.kind != "command").map(|o| &o.name))
    }

    fn of_kind(&self, kind: &str) -> Value {
        set(self.kinds(&[kind]))
    }

    fn kinds<'a>(&'a self, kinds: &'a [&str]) -> impl Iterator<Item = &'a String> {
        self.operation.objects.iter().filter(|o| kinds.contains(&o.kind.as_str())).map(|o| &o.name)
    }

    /// The one command; nothing where there is none, and of several none rather than one of them.
    fn command(&self) -> &str {
        let mut found = self.kinds(&["command"]);
        match (found.next(), found.next()) {
            (Some(one), None) => one,
            _ => "",
        }
    }

    fn paths<'a>(&'a self, accesses: &'a [Access]) -> impl Iterator<Item = &'a str> {
        let paths = self.operation.objects.iter().filter(|o| o.kind == "path" && accesses.contains(&o.access));
        paths.map(|o| o.name.as_str())
    }

    /// The places that all of these paths lie in: what one of them lies in alone is not among them, and nothing is
    /// where one of them does not say where it lies.
    fn within(&self, accesses: &[Access]) -> BTreeSet<String> {
        if self.operation.has("dotdot") {
            return BTreeSet::new();
        }
        let all = self.paths(accesses).map(path::ancestors);
        all.reduce(|all, one| all.intersection(&one).cloned().collect()).unwrap_or_default()
    }

    /// The places that any of these paths may touch.
    fn some(&self, accesses: &[Access], reach: Reach) -> BTreeSet<String> {
        let reach = if self.operation.has("recursive") { Reach::Deep } else { reach };
        let mut places: BTreeSet<String> = self.paths(accesses).flat_map(|name| path::places(name, reach)).collect();
        if self.operation.has("dotdot") && !places.is_empty() {
            places.insert(path::ANYWHERE.to_owned());
        }
        places
    }

    /// Schemas named, and those that qualify a name. A quoted name may hold dots, so every part that could be the
    /// schema counts: too many rather than too few, so that no forbid misses its schema.
    fn schemas(&self) -> BTreeSet<&str> {
        let mut schemas = BTreeSet::new();
        for object in &self.operation.objects {
            match object.kind.as_str() {
                "schema" => {
                    schemas.insert(object.name.as_str());
                }
                "relation" | "function" => {
                    schemas.extend(object.name.match_indices('.').map(|(dot, _)| &object.name[..dot]))
                }
                _ => {}
            }
        }
        schemas
    }

    fn columns(&self) -> BTreeSet<String> {
        self.relations().flat_map(|o| o.parts.iter().map(move |part| format!("{}.{part}", o.name))).collect()
    }

    /// Whether `columns` is the whole truth: every relation lists its columns, and none says `*`.
    fn columns_known(&self) -> bool {
        self.operation.class != Class::Opaque && self.relations().all(|o| !o.parts.is_empty() && !o.parts.contains("*"))
    }

    fn relations(&self) -> impl Iterator<Item = &onus_core::operation::Object> {
        self.operation.objects.iter().filter(|o| o.kind == "relation")
    }
}

/// Builds the request, with as much of the context as is used.
///
/// An error names what could not be built; the caller denies.
pub(crate) fn request(
    schema: &Schema,
    action: &Action,
    view: &View,
    operation: &Operation,
    now: Timestamp,
    unlocks: &BTreeSet<String>,
    uses: Uses,
) -> Result<(Request, Entities), String> {
    let asked = Asked { view, operation, civil: now.civil(), unlocks };
    let wanted = CONTEXT.iter().enumerate().filter(|(place, _)| uses.wants(*place));
    let context = Context::from_pairs(wanted.map(|(_, a)| (a.name.to_owned(), (a.make)(&asked))))
        .map_err(|e| format!("the context could not be built: {e}"))?;

    let principal = schema.subject(view.subject.as_str());
    let resource = schema.resource(view.resource.as_str());
    let mut groups: HashSet<_> = view.teams.iter().map(|team| schema.team(team.as_str())).collect();
    groups.insert(schema.role(view.role.as_str()));
    let subject = Entity::new(
        principal.clone(),
        HashMap::from([
            ("kind".to_owned(), text(view.subject_kind.as_str())),
            ("teams".to_owned(), set(view.teams.iter().map(|t| t.as_str()))),
        ]),
        groups,
    );
    let reached = Entity::new(
        resource.clone(),
        HashMap::from([
            ("service".to_owned(), text(view.service.as_str())),
            ("labels".to_owned(), set(view.labels.iter())),
        ]),
        HashSet::new(),
    );
    let wrong = |e| format!("the subject or resource could not be built: {e}");
    let entities = [subject.map_err(wrong)?, reached.map_err(wrong)?, action.entity.clone()];
    let entities =
        Entities::from_entities(entities, None).map_err(|e| format!("the entities could not be built: {e}"))?;
    let request = Request::new(principal, action.uid.clone(), resource, context, None)
        .map_err(|e| format!("the request could not be built: {e}"))?;
    Ok((request, entities))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::{object, view};

    #[test]
    fn unknown_columns_are_never_taken_for_none() {
        let known = |parts: &[&str]| {
            let mut operation = Operation::new("sql.select", Class::Read);
            operation.objects.insert(object(Access::Read, "relation", "public.orders", parts));
            let (v, none) = (view("reader"), BTreeSet::new());
            Asked { view: &v, operation: &operation, civil: Timestamp(0).civil(), unlocks: &none }.columns_known()
        };
        assert!(known(&["id", "card"]));
        assert!(!known(&[]) && !known(&["*"]) && !known(&["id", "*"]));
    }

    fn with<T>(objects: &[(Access, &str, &str)], facts: &[&str], look: impl FnOnce(&Asked<'_>) -> T) -> T {
        let mut operation = Operation::new("shell.read", Class::Read);
        operation.objects = objects.iter().map(|(access, kind, name)| object(*access, kind, name, &[])).collect();
        operation.facts = facts.iter().map(|fact| (*fact).to_owned()).collect();
        let (v, none) = (view("reader"), BTreeSet::new());
        look(&Asked { view: &v, operation: &operation, civil: Timestamp(0).civil(), unlocks: &none })
    }

    #[test]
    fn reads_lie_within_what_all_of_them_lie_in() {
        let within = |paths: &[&str], facts: &[&str]| {
            let objects: Vec<_> = paths.iter().map(|path| (Access::Read, "path", *path)).collect();
            with(&objects, facts, |a| a.within(READS).into_iter().collect::<Vec<_>>().join(" "))
        };
        assert_eq!(within(&["/var/log/syslog"], &[]), "/ /var /var/log /var/log/syslog");
        assert_eq!(within(&["/var/log/syslog", "/var/log/nginx/x"], &[]), "/ /var /var/log");
        assert_eq!(within(&["/var/log/syslog", "/etc/shadow"], &[]), "/");
        assert_eq!(within(&["/var/log/*"], &[]), "/ /var /var/log");
        assert_eq!(within(&["/var/log/x", "~/x"], &[]), "");
        for unsure in [&["/var/log/../x"][..], &["/var/log/x", "relative"], &["/var/log/x", "~bob/x"]] {
            assert_eq!(within(unsure, &[]), "", "{unsure:?}");
        }
        assert_eq!((within(&["/var/log/x"], &["dotdot"]), within(&[], &[])), (String::new(), String::new()));
        // What is run from a path reads it, and what is written does not.
        let mixed = [(Access::Execute, "path", "/opt/x"), (Access::Write, "path", "/tmp/y")];
        assert!(with(&mixed, &[], |a| a.within(READS).contains("/opt") && a.within(WRITES).contains("/tmp")));
        assert!(with(&[(Access::Read, "relation", "/var/log")], &[], |a| a.within(READS).is_empty()));
    }

    #[test]
    fn a_forbid_sees_each_path_and_where_it_may_lead() {
        let of =
            |name: &str, facts: &[&str]| with(&[(Access::Write, "path", name)], facts, |a| a.some(WRITES, Reach::Into));
        assert!(of("~/.ssh/authorized_keys", &[]).is_superset(&["~/.ssh", "~/.*"].map(str::to_owned).into()));
        assert!(of("/etc", &[]).contains("/etc/*") && of("/etc", &["recursive"]).contains("/etc/**"));
        assert!(of("/srv/x", &["dotdot"]).contains("..") && !of("/srv/x", &[]).contains(".."));
        assert!(with(&[(Access::Read, "path", "/etc/shadow")], &[], |a| a.some(WRITES, Reach::Into).is_empty()));
    }

    #[test]
    fn a_command_is_one_or_none_and_no_programs_name() {
        let one = [(Access::Execute, "program", "systemctl"), (Access::Execute, "command", "systemctl restart nginx")];
        assert_eq!(with(&one, &[], |a| a.command().to_owned()), "systemctl restart nginx");
        assert!(with(&one, &[], |a| format!("{:?}", a.names(Access::Execute)) == format!("{:?}", set(["systemctl"]))));
        let two = [(Access::Execute, "command", "true"), (Access::Execute, "command", "rm -r /")];
        assert_eq!(with(&two, &[], |a| a.command().to_owned()), "");
        let hosts = [(Access::Execute, "endpoint", "db:5432"), (Access::Read, "host", "db")];
        assert!(with(&hosts, &[], |a| a.kinds(&["endpoint", "host"]).count() == 2));
    }

    #[test]
    fn a_dot_inside_a_quoted_name_hides_no_schema() {
        let mut operation = Operation::new("sql.select", Class::Read);
        operation.objects.insert(object(Access::Read, "relation", "hr.private.pay", &[]));
        let (v, none) = (view("reader"), BTreeSet::new());
        let asked = Asked { view: &v, operation: &operation, civil: Timestamp(0).civil(), unlocks: &none };
        assert_eq!(asked.schemas(), BTreeSet::from(["hr", "hr.private"]));
    }
}
