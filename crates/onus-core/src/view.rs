//! The view: all that a decision about one session may depend on, frozen.
//!
//! State gives each session one view; whatever changes it makes a new one with a higher `epoch`, and the session is
//! judged again. A decision that was cached under one epoch is never used under another: so it cannot outlive its
//! reasons. Nothing here reads a clock: moments are compared with a `now` that is handed in.

use crate::ids::{GrantId, ResourceId, RoleId, ServiceId, SessionId, SubjectId, TeamId};
use crate::operation::{Access, Class, Operation};
use crate::path::lies_within;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What kind of subject acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubjectKind {
    /// A person.
    Human,
    /// A service, job or pipeline.
    Workload,
    /// An AI system, on its own or for a delegator.
    Agent,
}

impl SubjectKind {
    /// The word used in policies and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Workload => "workload",
            Self::Agent => "agent",
        }
    }
}

/// How far control reaches in a session; recorded, so that nobody mistakes watching for control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Recorded, can't be prevented.
    Observed,
    /// Each operation parsed and decided by the gateway.
    Mediated,
    /// Also enforced by the host's kernel or the database.
    Sealed,
}

impl Tier {
    /// The word used in policies and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Mediated => "mediated",
            Self::Sealed => "sealed",
        }
    }
}

/// What a grant reaches. An empty set means *no limit of this sort beyond the role's own*.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Databases by name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub databases: BTreeSet<String>,
    /// Schemas by name. System catalogues can always be read: the server itself shows them to everyone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub schemas: BTreeSet<String>,
    /// Relations by qualified name, `public.orders`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub relations: BTreeSet<String>,
    /// Classes of operation.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub classes: BTreeSet<Class>,
    /// Files and directories, each with everything below it: `/var/log`, `~` for the account's home.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub paths: BTreeSet<String>,
    /// Programs by the name that operations state: `systemctl`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub programs: BTreeSet<String>,
}

/// Schemas that every PostgreSQL role can read and that hold no data of the resource's owner.
const SYSTEM_SCHEMAS: [&str; 2] = ["pg_catalog", "information_schema"];

impl Scope {
    /// Says what in `operation` lies outside this scope; `None` if all of it lies inside.
    ///
    /// An opaque operation has no known objects, so a scope that limits schemas, relations, paths or programs never
    /// covers it. A path that does not say where it lies is outside.
    pub fn outside(&self, operation: &Operation) -> Option<String> {
        if !self.classes.is_empty() && operation.class != Class::Session && !self.classes.contains(&operation.class) {
            return Some(format!("operations of class `{}`", operation.class));
        }
        let tabled = !self.schemas.is_empty() || !self.relations.is_empty();
        let filed = !self.paths.is_empty() || !self.programs.is_empty();
        if (tabled || filed) && operation.class == Class::Opaque {
            return Some("operations whose objects cannot be known".to_owned());
        }
        (if tabled { self.table_outside(operation) } else { None }).or_else(|| self.file_outside(operation))
    }

    fn file_outside(&self, operation: &Operation) -> Option<String> {
        operation.objects.iter().find_map(|object| {
            let covered = match object.kind.as_str() {
                "path" if !self.paths.is_empty() => {
                    !operation.has("dotdot") && self.paths.iter().any(|directory| lies_within(&object.name, directory))
                }
                "program" if !self.programs.is_empty() => self.programs.contains(&object.name),
                _ => true,
            };
            (!covered).then(|| format!("{} `{}`", object.kind, object.name))
        })
    }

    fn table_outside(&self, operation: &Operation) -> Option<String> {
        for object in operation.objects.iter().filter(|o| o.kind == "relation" || o.kind == "schema") {
            let (schema, qualified) = match object.kind.as_str() {
                "schema" => (object.name.as_str(), false),
                _ => (object.name.split_once('.').map_or("", |(schema, _)| schema), true),
            };
            if object.access == Access::Read && SYSTEM_SCHEMAS.contains(&schema) {
                continue;
            }
            let covered = self.schemas.contains(schema) || (qualified && self.relations.contains(&object.name));
            if !covered {
                return Some(format!("{} `{}`", object.kind, object.name));
            }
        }
        None
    }

    /// Whether everything that `inner` reaches is reached by `self` too.
    pub fn contains(&self, inner: &Self) -> bool {
        fn within<T: Ord>(outer: &BTreeSet<T>, inner: &BTreeSet<T>) -> bool {
            outer.is_empty() || (!inner.is_empty() && inner.is_subset(outer))
        }
        within(&self.databases, &inner.databases)
            && within(&self.classes, &inner.classes)
            && (within(&self.schemas, &inner.schemas)
                || (!inner.relations.is_empty()
                    && inner.schemas.is_subset(&self.schemas)
                    && inner
                        .relations
                        .iter()
                        .all(|r| r.split_once('.').is_some_and(|(s, _)| self.schemas.contains(s)))))
            && within(&self.programs, &inner.programs)
            && (self.paths.is_empty()
                || (!inner.paths.is_empty()
                    && inner.paths.iter().all(|path| self.paths.iter().any(|outer| lies_within(path, outer)))))
            && (self.relations.is_empty()
                || (!inner.relations.is_empty() && inner.relations.is_subset(&self.relations)))
    }
}

/// All that a decision about one session may depend on, besides the operation and the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The session.
    pub session: SessionId,
    /// Rises with every change of this view; caches are keyed by it.
    pub epoch: u64,
    /// Number of ledger entries that this view is the fold of.
    pub as_of: u64,
    /// Who acts.
    pub subject: SubjectId,
    /// What kind of subject.
    pub subject_kind: SubjectKind,
    /// Teams of the subject, nested ones included.
    pub teams: BTreeSet<TeamId>,
    /// What is reached.
    pub resource: ResourceId,
    /// The service that it belongs to.
    pub service: ServiceId,
    /// The resource's own labels, such as `production`.
    pub labels: BTreeSet<String>,
    /// The database that the session is connected to, or what the protocol has in its place.
    pub database: String,
    /// The role that the grant gives.
    pub role: RoleId,
    /// The grant that this session uses.
    pub grant: GrantId,
    /// Why the grant was asked for, in the requester's words.
    pub purpose: String,
    /// What the grant reaches.
    pub scope: Scope,
    /// When the session opened.
    pub opened: Timestamp,
    /// When the grant ends, and the session with it.
    pub deadline: Timestamp,
    /// The risk band, 0 (none) to 4 (act now).
    pub risk: u8,
    /// How far control reaches.
    pub tier: Tier,
    /// The policy set in force: its version number.
    pub policy_version: u64,
    /// The same set by SHA-256 of its canonical text, hex.
    pub policy_digest: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Object;

    fn read(relation: &str) -> Operation {
        let mut op = Operation::new("sql.select", Class::Read);
        op.objects.insert(Object {
            access: Access::Read,
            kind: "relation".into(),
            name: relation.into(),
            parts: BTreeSet::new(),
        });
        op
    }

    #[test]
    fn a_scope_covers_what_it_names_and_the_catalogue_and_nothing_opaque() {
        let scope = Scope { relations: ["public.orders".to_owned()].into(), ..Scope::default() };
        assert_eq!(scope.outside(&read("public.orders")), None);
        assert_eq!(scope.outside(&read("pg_catalog.pg_class")), None);
        assert!(scope.outside(&read("public.cards")).is_some_and(|why| why.contains("public.cards")));
        assert!(scope.outside(&Operation::opaque("sql.opaque", "DO block")).is_some());
        assert_eq!(Scope::default().outside(&Operation::opaque("sql.opaque", "DO block")), None, "left to policy");
    }

    #[test]
    fn writing_to_the_catalogue_is_outside() {
        let scope = Scope { schemas: ["public".to_owned()].into(), ..Scope::default() };
        let mut op = read("pg_catalog.pg_authid");
        op.objects = op.objects.into_iter().map(|o| Object { access: Access::Write, ..o }).collect();
        assert!(scope.outside(&op).is_some());
    }

    fn touching(kind: &str, name: &str) -> Operation {
        let mut op = Operation::new("shell.read", Class::Read);
        op.objects.insert(Object {
            access: Access::Read,
            kind: kind.into(),
            name: name.into(),
            parts: BTreeSet::new(),
        });
        op
    }

    #[test]
    fn a_scope_of_paths_covers_what_lies_below_and_nothing_that_may_climb_out() {
        let scope = Scope { paths: ["/var/log".to_owned(), "~".to_owned()].into(), ..Scope::default() };
        for inside in ["/var/log/syslog", "/var/log/*.gz", "~/notes"] {
            assert_eq!(scope.outside(&touching("path", inside)), None, "{inside}");
        }
        for outside in ["/var/logs/x", "/etc/shadow", "/var/log/../x", "relative", "/home/deploy/x", "/var/*/x"] {
            assert!(scope.outside(&touching("path", outside)).is_some_and(|why| why.contains(outside)), "{outside}");
        }
        let mut climbing = touching("path", "/var/log/x");
        climbing.facts.insert("dotdot".into());
        assert!(scope.outside(&climbing).is_some());
        assert!(scope.outside(&Operation::opaque("shell.opaque", "eval")).is_some());
        assert_eq!(scope.outside(&touching("program", "cat")), None, "programs are not limited");
        let cat = Scope { programs: ["cat".to_owned()].into(), ..Scope::default() };
        assert!(
            cat.outside(&touching("program", "cat")).is_none() && cat.outside(&touching("program", "vi")).is_some()
        );
        assert!(cat.outside(&Operation::opaque("shell.opaque", "eval")).is_some());
    }

    #[test]
    fn a_scope_of_paths_contains_what_lies_below_and_not_the_whole() {
        let logs = Scope { paths: ["/var/log".to_owned()].into(), ..Scope::default() };
        let of = |path: &str| Scope { paths: [path.to_owned()].into(), ..Scope::default() };
        assert!(logs.contains(&of("/var/log/nginx")) && logs.contains(&logs) && Scope::default().contains(&logs));
        for wider in ["/var", "/var/log/../x", "/var/log*", "x"] {
            assert!(!logs.contains(&of(wider)), "{wider}");
        }
        assert!(!logs.contains(&Scope::default()));
        let cat = Scope { programs: ["cat".to_owned()].into(), ..Scope::default() };
        assert!(cat.contains(&cat) && !cat.contains(&Scope::default()) && !cat.contains(&logs));
    }

    #[test]
    fn a_narrower_scope_is_contained_and_a_wider_one_is_not() {
        let role = Scope { schemas: ["public".to_owned()].into(), ..Scope::default() };
        let orders = Scope { relations: ["public.orders".to_owned()].into(), ..Scope::default() };
        let secret = Scope { relations: ["hr.pay".to_owned()].into(), ..Scope::default() };
        assert!(role.contains(&orders) && role.contains(&role));
        assert!(!role.contains(&secret) && !role.contains(&Scope::default()) && !orders.contains(&role));
    }
}
