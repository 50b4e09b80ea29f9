//! Cases as data: what a policy set is expected to answer, checked by `onus policy test`.
//!
//! ```json
//! [{"name": "a writer's stray DELETE waits", "role": "writer", "sql": "DELETE FROM orders",
//!   "expect": "hold", "policies": ["writes-without-where"]},
//!  {"name": "a reader reads", "role": "reader",
//!   "operation": {"action": "sql.select", "objects": [{"access": "read", "name": "public.orders"}], "facts": ["where"]},
//!   "at": "2026-11-18T12:00:00Z", "risk": 1, "expect": "permit"}]
//! ```
//! Texts are turned into operations by the caller's classifier; this file knows no protocol. It judges as sessions are
//! judged, but under a grant without limits of its own: scope and deadline are not what a policy's author tests.

use crate::set::PolicySet;
use onus_core::decision::{Decision, Effect, judge};
use onus_core::ids::{GrantId, IdError, ResourceId, RoleId, ServiceId, SessionId, SubjectId, TeamId};
use onus_core::operation::{Access, Object, Operation};
use onus_core::time::Timestamp;
use onus_core::view::{Scope, SubjectKind, Tier, View};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt;

/// The moment of a case that names none: a Wednesday, 12:00 UTC.
pub const USUAL_MOMENT: &str = "2026-11-18T12:00:00Z";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    role: String,
    #[serde(default = "alice")]
    subject: String,
    #[serde(default = "human")]
    subject_kind: SubjectKind,
    #[serde(default)]
    teams: BTreeSet<String>,
    #[serde(default = "orders_db")]
    resource: String,
    #[serde(default = "orders")]
    service: String,
    #[serde(default)]
    labels: BTreeSet<String>,
    #[serde(default = "orders")]
    database: String,
    #[serde(default)]
    purpose: String,
    #[serde(default = "mediated")]
    tier: Tier,
    #[serde(default)]
    risk: u8,
    at: Option<String>,
    operation: Option<Told>,
    sql: Option<String>,
    expect: Effect,
    policies: Option<BTreeSet<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    action: String,
    #[serde(default)]
    objects: Vec<ToldObject>,
    #[serde(default)]
    facts: BTreeSet<String>,
    #[serde(default)]
    opaque: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToldObject {
    access: Access,
    #[serde(default = "relation")]
    kind: String,
    name: String,
    #[serde(default)]
    parts: BTreeSet<String>,
}

fn alice() -> String {
    "alice".to_owned()
}
fn orders() -> String {
    "orders".to_owned()
}
fn orders_db() -> String {
    "orders-db".to_owned()
}
fn relation() -> String {
    "relation".to_owned()
}
fn human() -> SubjectKind {
    SubjectKind::Human
}
fn mediated() -> Tier {
    Tier::Mediated
}

/// Why a text holds no cases.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CasesError {
    /// Not the JSON described at the top of this file.
    #[error("the cases cannot be read: {what} (line {line}, column {column})")]
    Form {
        /// What is wrong.
        what: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// A list without a case, which would pass whatever the policies say.
    #[error("there is no case in the list")]
    None,
}

/// How one case came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    /// The case's name.
    pub name: String,
    /// The effect that it expects.
    pub expected: Effect,
    /// The decision; `None` where the case could not be put.
    pub decision: Option<Decision>,
    /// What is wrong; `None` when the case passed.
    pub problem: Option<String>,
}

impl CaseResult {
    /// Whether everything came out as expected.
    pub fn passed(&self) -> bool {
        self.problem.is_none()
    }
}

impl fmt::Display for CaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            None => write!(f, "ok      {} ({})", self.name, self.expected.as_str()),
            Some(problem) => write!(f, "FAILED  {}: {problem}", self.name),
        }
    }
}

/// Puts every case to the set. `classify` turns a statement's text into its operations.
///
/// A case fails where the effect differs, where `policies` is given and is not exactly what determined the decision,
/// and where it could not be put at all (an action or a role that the set doesn't have: a misspelt one would else pass
/// every case that expects a denial).
pub fn run_cases(
    set: &PolicySet,
    cases: &str,
    classify: &dyn Fn(&str) -> Vec<Operation>,
) -> Result<Vec<CaseResult>, CasesError> {
    let cases: Vec<Case> = serde_json::from_str(cases).map_err(|e| CasesError::Form {
        what: e.to_string(),
        line: e.line(),
        column: e.column(),
    })?;
    if cases.is_empty() {
        return Err(CasesError::None);
    }
    Ok(cases
        .into_iter()
        .map(|case| {
            let (decision, problem) = match put(set, &case, classify) {
                Ok(decision) => {
                    let problem = differs(&case, &decision);
                    (Some(decision), problem)
                }
                Err(problem) => (None, Some(problem)),
            };
            CaseResult { name: case.name, expected: case.expect, decision, problem }
        })
        .collect())
}

fn put(set: &PolicySet, case: &Case, classify: &dyn Fn(&str) -> Vec<Operation>) -> Result<Decision, String> {
    let operations = match (&case.operation, &case.sql) {
        (Some(told), None) => vec![operation(set, told)?],
        (None, Some(sql)) => classify(sql),
        _ => return Err("give it either `operation` or `sql`".to_owned()),
    };
    let at = case.at.as_deref().unwrap_or(USUAL_MOMENT);
    let at = Timestamp::parse_rfc3339(at).ok_or_else(|| format!("`{at}` is no moment such as {USUAL_MOMENT}"))?;
    let view = view(set, case).map_err(|e| e.to_string())?;
    if !set.roles().any(|role| *role.id == view.role) {
        return Err(format!("no template has @role(\"{}\")", view.role));
    }
    Ok(judge(set, &view, &operations, at))
}

fn operation(set: &PolicySet, told: &Told) -> Result<Operation, String> {
    let class =
        set.schema().class(&told.action).ok_or_else(|| format!("the schema has no action `{}`", told.action))?;
    let mut operation = Operation::new(told.action.as_str(), class);
    operation.objects = told
        .objects
        .iter()
        .map(|o| Object { access: o.access, kind: o.kind.clone(), name: o.name.clone(), parts: o.parts.clone() })
        .collect();
    operation.facts.clone_from(&told.facts);
    operation.opaque.clone_from(&told.opaque);
    Ok(operation)
}

fn view(set: &PolicySet, case: &Case) -> Result<View, IdError> {
    Ok(View {
        session: SessionId::parse("case")?,
        epoch: 1,
        as_of: 0,
        subject: SubjectId::parse(&case.subject)?,
        subject_kind: case.subject_kind,
        teams: case.teams.iter().map(|t| TeamId::parse(t)).collect::<Result<_, _>>()?,
        resource: ResourceId::parse(&case.resource)?,
        service: ServiceId::parse(&case.service)?,
        labels: case.labels.clone(),
        database: case.database.clone(),
        role: RoleId::parse(&case.role)?,
        grant: GrantId::parse("case")?,
        purpose: case.purpose.clone(),
        scope: Scope::default(),
        opened: Timestamp(0),
        deadline: Timestamp(u64::MAX),
        risk: case.risk,
        tier: case.tier,
        policy_version: 0,
        policy_digest: set.digest().to_owned(),
    })
}

fn differs(case: &Case, decision: &Decision) -> Option<String> {
    let named: BTreeSet<String> = decision.determining.iter().map(|d| d.policy.to_string()).collect();
    let list = |ids: &BTreeSet<String>| match ids.is_empty() {
        true => "no policy".to_owned(),
        false => ids.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", "),
    };
    if decision.effect != case.expect {
        let mut by = list(&named);
        if !decision.reasons.is_empty() {
            by = format!("{by}: {}", decision.reasons.join("; "));
        }
        return Some(format!("expected {}, got {} by {by}", case.expect.as_str(), decision.effect.as_str()));
    }
    let expected = case.policies.as_ref()?;
    (*expected != named)
        .then(|| format!("{} as expected, but by {} instead of {}", case.expect.as_str(), list(&named), list(expected)))
}
