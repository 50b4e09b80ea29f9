//! What a decision must hold whatever the policies say; above all that slicing and caching change no answer.

use super::*;
use crate::annotations::KnownParties;
use crate::links::Links;
use crate::schema::tests::actions;
use crate::set::Body;
use crate::uses::Uses;
use cedar_policy::{Authorizer, SlotId};
use onus_core::ids::{GrantId, ResourceId, RoleId, ServiceId, SessionId, SubjectId, TeamId};
use onus_core::operation::{Access, Object};
use onus_core::view::{Scope, SubjectKind, Tier};
use proptest::prelude::*;
use std::collections::HashMap;

pub(crate) fn object(access: Access, kind: &str, name: &str, parts: &[&str]) -> Object {
    let parts = parts.iter().map(|p| p.to_string()).collect();
    Object { access, kind: kind.into(), name: name.into(), parts }
}

pub(crate) fn view(role: &str) -> View {
    View {
        session: SessionId::parse("s1").unwrap(),
        epoch: 1,
        as_of: 1,
        subject: SubjectId::parse("alice").unwrap(),
        subject_kind: SubjectKind::Human,
        teams: [TeamId::parse("data-platform").unwrap()].into(),
        resource: ResourceId::parse("orders-db").unwrap(),
        service: ServiceId::parse("orders").unwrap(),
        labels: ["production".to_owned()].into(),
        database: "orders".into(),
        role: RoleId::parse(role).unwrap(),
        grant: GrantId::parse("g1").unwrap(),
        purpose: "to see".into(),
        scope: Scope::default(),
        opened: Timestamp(0),
        deadline: Timestamp(u64::MAX),
        risk: 0,
        tier: Tier::Mediated,
        policy_version: 1,
        policy_digest: String::new(),
    }
}

fn known() -> KnownParties {
    KnownParties {
        parties: ["petra".to_owned(), "bob".to_owned(), "olga".to_owned()].into(),
        teams: ["data-platform".to_owned()].into(),
    }
}

/// A set of policies given as (id, more annotations, policy).
pub(crate) fn set(policies: &[(&str, &str, &str)]) -> PolicySet {
    let text: String = policies
        .iter()
        .map(|(id, more, body)| {
            format!("@id(\"{id}\") @owner(\"petra\") @plane(\"elevation\") @why(\"why {id}\") {more}\n{body};\n")
        })
        .collect();
    PolicySet::load(&[("test.cedar", text)], &actions(), &known()).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(|p| format!("{p}\n")).collect::<String>());
    })
}

const READER: (&str, &str, &str) = (
    "reader",
    "@role(\"reader\")",
    "permit(principal == ?principal, action in [Action::\"read\", Action::\"session\"], resource == ?resource)",
);
const HOLD: &str = "@effect(\"hold\") @confirm(\"bob, data-platform\") @within(\"5m\")";

fn select() -> Operation {
    Operation::new("sql.select", Class::Read)
}

const NOON: Timestamp = Timestamp(1_000_000_000_000);

fn ids(decision: &Decision) -> Vec<&str> {
    decision.determining.iter().map(|d| d.policy.as_str()).collect()
}

#[test]
fn a_role_permits_what_its_template_says_and_no_more() {
    let set = set(&[READER]);
    let permitted = set.decide(&view("reader"), &select(), NOON);
    assert_eq!((permitted.effect, ids(&permitted)), (Effect::Permit, vec!["reader"]));
    assert_eq!(permitted.determining[0].owner.as_str(), "petra");
    let denied = set.decide(&view("reader"), &Operation::new("sql.drop", Class::Define), NOON);
    assert_eq!(
        denied,
        Decision::deny("no policy permits `sql.drop` for role `reader`; what it may do is in `reader`, owned by petra")
    );
    let other = set.decide(&view("writer"), &select(), NOON);
    assert_eq!(other, Decision::deny("no policy permits `sql.select`, and no role `writer` is defined"));
}

#[test]
fn severity_decides_whatever_the_order() {
    let forbid = "forbid(principal, action, resource)";
    let (hold, deny, end) = (("hold", HOLD, forbid), ("deny", "", forbid), ("end", "@effect(\"terminate\")", forbid));
    for (policies, expected, named) in [
        (vec![READER, hold], Effect::Hold, "hold"),
        (vec![READER, hold, deny], Effect::Deny, "deny"),
        (vec![READER, deny, end, hold], Effect::Terminate, "end"),
        (vec![end], Effect::Terminate, "end"),
        (vec![deny], Effect::Deny, "deny"),
    ] {
        let decision = set(&policies).decide(&view("reader"), &select(), NOON);
        assert_eq!((decision.effect, ids(&decision)), (expected, vec![named]));
        assert_eq!(decision.confirmation.is_some(), expected == Effect::Hold);
    }
}

#[test]
fn what_nothing_permits_is_not_held() {
    let decision = set(&[("hold", HOLD, "forbid(principal, action, resource)")]).decide(&view("x"), &select(), NOON);
    assert_eq!((decision.effect, decision.determining.len(), decision.confirmation), (Effect::Deny, 0, None));
    assert!(decision.reasons[0].starts_with("no policy permits"), "{:?}", decision.reasons);
}

#[test]
fn two_holds_are_confirmed_by_somebody_both_name_within_the_shorter_time() {
    let forbid = "forbid(principal, action, resource)";
    let second = "@effect(\"hold\") @confirm(\"bob, olga\") @within(\"30s\")";
    let decision = set(&[READER, ("a", HOLD, forbid), ("b", second, forbid)]).decide(&view("reader"), &select(), NOON);
    let terms = decision.confirmation.clone().unwrap();
    assert_eq!((terms.by, terms.within.0), (["bob".to_owned()].into(), 30_000));
    let third = "@effect(\"hold\") @confirm(\"olga\") @within(\"30s\")";
    let decision = set(&[READER, ("a", HOLD, forbid), ("b", third, forbid)]).decide(&view("reader"), &select(), NOON);
    assert_eq!((decision.effect, decision.confirmation), (Effect::Deny, None));
}

#[test]
fn an_evaluation_error_denies_and_names_the_policy() {
    let overflow = "when { context.risk * 9223372036854775807 > 5 }";
    let mut risky = view("reader");
    risky.risk = 2;
    for (broken, effect) in
        [("forbid(principal, action, resource)", Effect::Deny), ("permit(principal, action, resource)", Effect::Deny)]
    {
        let policies = [READER, ("broken", "", &format!("{broken} {overflow}"))];
        let set = set(&policies);
        let decision = set.decide(&risky, &select(), NOON);
        assert_eq!(decision.effect, effect);
        assert!(decision.reasons[0].starts_with("policy `broken` could not be evaluated: "), "{:?}", decision.reasons);
        risky.risk = 0;
        assert_eq!(set.decide(&risky, &select(), NOON).effect, Effect::Permit, "it is the evaluation that fails");
        risky.risk = 2;
    }
    // In a role's template too, and a hold does not soften it; a terminate is not softened by it.
    let template = format!("permit(principal == ?principal, action, resource == ?resource) {overflow}");
    let all = "forbid(principal, action, resource)";
    for (effect, more) in [(Effect::Deny, HOLD), (Effect::Terminate, "@effect(\"terminate\")")] {
        let set = set(&[READER, ("broken", "@role(\"reader\")", &template), ("f", more, all)]);
        let decision = set.decide(&risky, &select(), NOON);
        assert_eq!(decision.effect, effect);
        assert!(decision.reasons[0].contains("`broken`"));
    }
}

#[test]
fn an_answer_that_depends_on_the_clock_lapses_with_the_minute() {
    let timed = ("night", "", "forbid(principal, action == Action::\"sql.drop\", resource) when { context.hour < 6 }");
    let set = set(&[READER, timed]);
    let drop = Operation::new("sql.drop", Class::Define);
    // 00:00:59.999
    assert_eq!(set.decide(&view("reader"), &drop, Timestamp(59_999)).valid_until, Some(Timestamp(60_000)));
    assert_eq!(set.decide(&view("reader"), &drop, Timestamp(60_000)).valid_until, Some(Timestamp(120_000)));
    // Also when it does not apply at the moment, but not for actions that it cannot reach.
    let noon = Timestamp(12 * 3_600_000);
    assert_eq!(set.decide(&view("reader"), &drop, noon).valid_until, Some(Timestamp(noon.0 + 60_000)));
    assert_eq!(set.decide(&view("reader"), &select(), noon).valid_until, None);
}

#[test]
fn what_policies_do_not_know_or_the_classifier_contradicts_is_denied() {
    let all = ("all", "", "permit(principal, action, resource)");
    let set = set(&[all]);
    let refused = |operation: &Operation| {
        let decision = set.decide(&view("x"), operation, NOON);
        (decision.effect == Effect::Deny && decision.determining.is_empty()).then_some(decision.reasons.concat())
    };
    assert_eq!(refused(&select()), None);
    assert!(refused(&Operation::new("sql.teleport", Class::Read)).is_some());
    assert!(refused(&Operation::new("read", Class::Read)).is_some(), "a group is no action");
    assert!(refused(&Operation::new("sql.drop", Class::Read)).is_some_and(|why| why.contains("claims `read`")));
    let mut half = select();
    half.opaque.insert("function `f` has no known effect".into());
    assert!(refused(&half).is_some());
}

#[test]
fn a_template_links_to_this_subject_and_resource_only() {
    let own = (
        "own",
        "@role(\"reader\")",
        "permit(principal == ?principal, action, resource) when { resource.service == \"orders\" }",
    );
    let fixed = ("fixed", "", "forbid(principal == Subject::\"mallory\", action, resource in Resource::\"hr-db\")");
    let set = set(&[own, fixed]);
    let mut v = view("reader");
    assert_eq!(set.decide(&v, &select(), NOON).effect, Effect::Permit);
    v.subject = SubjectId::parse("mallory").unwrap();
    assert_eq!(set.decide(&v, &select(), NOON).effect, Effect::Permit);
    v.resource = ResourceId::parse("hr-db").unwrap();
    assert_eq!(set.decide(&v, &select(), NOON).effect, Effect::Deny);
    // The same subject, role and resource with another service: nothing of the first answer is kept.
    v.resource = ResourceId::parse("orders-db").unwrap();
    v.service = ServiceId::parse("hr").unwrap();
    assert_eq!(set.decide(&v, &select(), NOON).effect, Effect::Deny);
}

#[test]
fn teams_role_and_kind_can_be_asked_about() {
    for (condition, effect) in [
        ("principal in Team::\"data-platform\"", Effect::Permit),
        ("principal in Team::\"iam\"", Effect::Deny),
        ("principal in Role::\"reader\"", Effect::Permit),
        ("principal.teams.contains(\"data-platform\") && principal.kind == \"human\"", Effect::Permit),
        ("principal.kind == \"agent\"", Effect::Deny),
        ("resource.labels.contains(\"production\")", Effect::Permit),
        ("action in Action::\"read\"", Effect::Permit),
        ("action in Action::\"write\"", Effect::Deny),
    ] {
        let set = set(&[("p", "", &format!("permit(principal, action, resource) when {{ {condition} }}"))]);
        assert_eq!(set.decide(&view("reader"), &select(), NOON).effect, effect, "{condition}");
    }
}

/// The decision by the slow, obvious way: every policy alone, unsliced, with the whole context.
fn plainly(set: &PolicySet, view: &View, operation: &Operation, now: Timestamp) -> (Effect, BTreeSet<String>) {
    let action = set.schema.action(&operation.action).unwrap();
    let none = BTreeSet::new();
    let unlocks = set.roles.get(&view.role).map_or(&none, |r| &r.unlocks);
    let (request, entities) = request::request(&set.schema, action, view, operation, now, unlocks, Uses::ALL).unwrap();
    let (mut applied, mut erred) = (Vec::new(), false);
    for policy in &set.policies {
        let mut alone = cedar_policy::PolicySet::new();
        match &policy.body {
            Body::Static(p) => alone.add(p.clone()).unwrap(),
            Body::Template(_) if policy.about.role.as_ref() != Some(&view.role) => continue,
            Body::Template(t) => {
                let all = HashMap::from([
                    (SlotId::principal(), set.schema.subject(view.subject.as_str())),
                    (SlotId::resource(), set.schema.resource(view.resource.as_str())),
                ]);
                let slots = t.slots().map(|s| (s.clone(), all[s].clone())).collect();
                alone.add_template(t.clone()).unwrap();
                alone.link(t.id().clone(), cedar_policy::PolicyId::new("alone"), slots).unwrap();
            }
        }
        let response = Authorizer::new().is_authorized(&request, &alone, &entities);
        erred |= response.diagnostics().errors().next().is_some();
        if response.diagnostics().reason().next().is_some() {
            applied.push(&policy.about);
        }
    }
    let by = |effect: Effect| -> BTreeSet<String> {
        applied.iter().filter(|p| p.effect.effect() == effect).map(|p| p.id.to_string()).collect()
    };
    let [permits, holds, denies, ends] = [Effect::Permit, Effect::Hold, Effect::Deny, Effect::Terminate].map(by);
    if !ends.is_empty() {
        (Effect::Terminate, ends)
    } else if !denies.is_empty() {
        (Effect::Deny, denies)
    } else if erred || permits.is_empty() {
        (Effect::Deny, BTreeSet::new())
    } else if !holds.is_empty() {
        (Effect::Hold, holds)
    } else {
        (Effect::Permit, permits)
    }
}

fn any_policy() -> impl Strategy<Value = (String, String)> {
    let action = prop_oneof![
        Just("action".to_owned()),
        prop::sample::select(vec!["sql.select", "sql.update", "sql.drop", "sql.opaque"])
            .prop_map(|a| format!("action == Action::\"{a}\"")),
        prop::sample::select(vec!["read", "write", "define", "opaque", "sql.select"])
            .prop_map(|a| format!("action in Action::\"{a}\"")),
        prop::sample::subsequence(vec!["read", "write", "sql.drop", "sql.update", "opaque", "session"], 1..4).prop_map(
            |all| format!(
                "action in [{}]",
                all.iter().map(|a| format!("Action::\"{a}\"")).collect::<Vec<_>>().join(", ")
            )
        ),
    ];
    let condition = prop::sample::select(vec![
        "",
        "when { context.risk > 1 }",
        "unless { context.risk > 2 }",
        "when { context.risk * 9223372036854775807 > 0 }",
        "when { action in [Action::\"write\", Action::\"sql.select\"] }",
        "when { context.no_where }",
        "when { context.hour < 12 }",
        "unless { context.unlocks.contains(\"a\") }",
        "when { context.role == \"r1\" && principal in Role::\"r1\" }",
        "when { context.relations.contains(\"public.orders\") || context.schemas.contains(\"hr\") }",
        "unless { context.columns_known }",
        "when { principal.kind == \"human\" && context has purpose }",
    ]);
    let head = prop::sample::select(vec![
        ("permit", ""),
        ("permit", ""),
        ("forbid", ""),
        ("forbid", "@effect(\"deny\")"),
        ("forbid", HOLD),
        ("forbid", "@effect(\"terminate\")"),
    ]);
    let role = prop::sample::select(vec!["", "", "@role(\"r1\")", "@role(\"r1\") @unlocks(\"a\")", "@role(\"r2\")"]);
    (head, role, action, condition).prop_map(|((word, more), role, action, condition)| {
        let scope = match role {
            "" => format!("principal, {action}, resource"),
            _ => format!("principal == ?principal, {action}, resource == ?resource"),
        };
        (format!("{more} {role}"), format!("{word}({scope}) {condition}"))
    })
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let action = prop::sample::select(vec![
        ("sql.select", Class::Read),
        ("sql.update", Class::Write),
        ("sql.insert", Class::Write),
        ("sql.drop", Class::Define),
        ("sql.show", Class::Session),
        ("sql.opaque", Class::Opaque),
    ]);
    let relation = prop::option::of(prop::sample::select(vec!["public.orders", "hr.pay"]));
    (action, relation, any::<bool>(), any::<bool>()).prop_map(|((action, class), relation, no_where, parts)| {
        let mut operation = Operation::new(action, class);
        if let Some(name) = relation {
            operation.objects.insert(object(Access::Read, "relation", name, if parts { &["id"] } else { &[] }));
        }
        if no_where {
            operation.facts.insert("no-where".into());
        }
        operation
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// The sliced, cached answer is the plain one, whatever the policies.
    #[test]
    fn slicing_and_caching_change_no_answer(
        policies in prop::collection::vec(any_policy(), 1..12),
        operations in prop::collection::vec((any_operation(), 0_u8..5, prop::sample::select(vec!["r1", "r2", "r3"]), 0_u64..86_400_000), 1..12),
    ) {
        let ids: Vec<String> = (0..policies.len()).map(|n| format!("p{n}")).collect();
        let listed: Vec<_> = ids.iter().zip(&policies).map(|(id, (more, body))| (id.as_str(), more.as_str(), body.as_str())).collect();
        // Combinations that can never apply are refused at loading; they are not what is tested here.
        let mut kept = Vec::new();
        for one in listed {
            let text = format!("@id(\"{}\") @owner(\"petra\") @plane(\"elevation\") @why(\"w\") {}\n{};", one.0, one.1, one.2);
            if PolicySet::load(&[("one", text)], &actions(), &known()).is_ok() {
                kept.push(one);
            }
        }
        let set = set(&kept);
        let mut uncached = self::set(&kept);
        uncached.links = Links::sized(0);
        for (operation, risk, role, now) in operations {
            let mut v = view(role);
            v.risk = risk;
            let (effect, determining) = plainly(&set, &v, &operation, Timestamp(now));
            let decision = set.decide(&v, &operation, Timestamp(now));
            prop_assert_eq!(decision.effect, effect);
            prop_assert_eq!(decision.determining.iter().map(|d| d.policy.to_string()).collect::<BTreeSet<_>>(), determining);
            prop_assert_eq!(&decision, &set.decide(&v, &operation, Timestamp(now)), "the same from the cache");
            prop_assert_eq!(&decision, &uncached.decide(&v, &operation, Timestamp(now)), "the same without it");
            if decision.valid_until.is_none() {
                let later = set.decide(&v, &operation, Timestamp(now + 7 * 3_600_000));
                prop_assert_eq!(&decision, &later, "what names no end has none");
            }
        }
    }
}

/// Not a test: prints what a decision takes. `cargo test --release -p onus-policy -- --ignored --nocapture timing`
#[test]
#[ignore = "prints timings; run it in a release build"]
fn timing() {
    use std::time::Instant;
    let percentiles = |mut took: Vec<u128>| {
        took.sort_unstable();
        let at = |share: usize| took[took.len() * share / 1000 - 1] as f64 / 1000.0;
        (at(500), at(990), at(999))
    };
    for count in [10, 50, 100] {
        for (reach, name) in [(false, "spread over actions"), (true, "all reach the action")] {
            let bodies: Vec<_> = (0..count)
                .map(|n| {
                    let action = match (reach, n % 5) {
                        (true, _) => "action",
                        (_, 0) => "action in Action::\"read\"",
                        (_, 1) => "action in Action::\"write\"",
                        (_, 2) => "action == Action::\"sql.drop\"",
                        (_, 3) => "action in [Action::\"define\", Action::\"execute\"]",
                        _ => "action",
                    };
                    format!("forbid(principal, {action}, resource) when {{ context.risk >= 3 && context.facts.contains(\"fact-{n}\") }} unless {{ context.unlocks.contains(\"u{n}\") || principal.teams.contains(\"t{n}\") }}")
                })
                .collect();
            let ids: Vec<_> = (0..count).map(|n| format!("guard-{n}")).collect();
            let mut all: Vec<_> = ids.iter().zip(&bodies).map(|(id, body)| (id.as_str(), "", body.as_str())).collect();
            all.push(READER);
            let mut set = set(&all);
            let mut operation = select();
            operation.objects.insert(object(Access::Read, "relation", "public.orders", &["id", "card", "total"]));
            operation.facts.extend(["where".to_owned(), "limit".to_owned()]);
            let views: Vec<_> = (0..1000)
                .map(|n| {
                    let mut v = view("reader");
                    v.risk = 3;
                    v.subject = SubjectId::parse(&format!("subject-{n}")).unwrap();
                    v
                })
                .collect();
            let run = |set: &PolicySet| {
                let took = views.iter().map(|v| {
                    let start = Instant::now();
                    let decision = set.decide(v, &operation, NOON);
                    let took = start.elapsed().as_nanos();
                    assert_eq!(decision.effect, Effect::Permit);
                    took
                });
                percentiles(took.collect())
            };
            run(&set);
            set.links = Links::new();
            let cold = run(&set);
            let warm = run(&set);
            println!(
                "{count} static policies, {name}: cold p50 {:.1} p99 {:.1} p99.9 {:.1} µs; role linked p50 {:.1} p99 {:.1} p99.9 {:.1} µs",
                cold.0, cold.1, cold.2, warm.0, warm.1, warm.2
            );
        }
    }
}
