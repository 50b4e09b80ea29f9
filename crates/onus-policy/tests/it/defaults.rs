//! The default set: its cases, and every answer it gives as a table that is reviewed as a diff.

use crate::{EVERYTHING, GUARDS, ROLES, actions, load};
use onus_core::decision::{Decide, Effect};
use onus_core::ids::{GrantId, ResourceId, RoleId, ServiceId, SessionId, SubjectId};
use onus_core::operation::{Access, Class, Object, Operation};
use onus_core::time::Timestamp;
use onus_core::view::{Scope, SubjectKind, Tier, View};
use onus_policy::cases::USUAL_MOMENT;
use onus_policy::{CasesError, PolicySet, run_cases};
use std::collections::BTreeSet;
use std::fmt::Write as _;

const CASES: &str = include_str!("../../../../policies/cases.json");

fn operation(action: &str, facts: &[&str]) -> Operation {
    let class = actions().into_iter().find(|(name, _)| *name == action).unwrap().1;
    let mut operation = Operation::new(action, class);
    operation.facts = facts.iter().map(|f| f.to_string()).collect();
    if class == Class::Opaque {
        operation.opaque.insert("for the test".into());
    }
    operation
}

/// What the classifier makes of the texts in the cases. The real one checks them again through `onus policy test`.
fn classify(sql: &str) -> Vec<Operation> {
    let orders = |mut o: Operation, access| {
        let parts = BTreeSet::new();
        o.objects.insert(Object { access, kind: "relation".into(), name: "public.orders".into(), parts });
        o
    };
    let read = || orders(operation("sql.select", &["where"]), Access::Read);
    let write = |action: &str, facts: &[&str]| orders(operation(action, facts), Access::Write);
    match sql {
        "BEGIN" => vec![operation("sql.transaction", &[])],
        "SELECT id, total FROM public.orders WHERE id = 7" => vec![read()],
        "INSERT INTO public.orders (id) VALUES (1)" => vec![write("sql.insert", &[])],
        "UPDATE public.orders SET total = 0 WHERE id = 7" => vec![write("sql.update", &["where"])],
        "UPDATE public.orders SET total = 0" => vec![write("sql.update", &["no-where"])],
        "DELETE FROM public.orders" | "DELETE FROM public.orders WHERE 1 = 1" => {
            vec![write("sql.delete", &["no-where"])]
        }
        "WITH gone AS (DELETE FROM public.orders WHERE id = 7 RETURNING id) SELECT * FROM gone" => {
            vec![read(), write("sql.delete", &["where", "returning"])]
        }
        "TRUNCATE public.orders" => vec![write("sql.truncate", &[])],
        "CREATE TABLE public.copy (id int)" => vec![operation("sql.create", &["object:table"])],
        "DROP TABLE public.orders" => vec![orders(operation("sql.drop", &["object:table"]), Access::Define)],
        "SELECT rolpassword FROM pg_authid" => {
            vec![operation("sql.select", &["system-catalogue", "sensitive-catalogue"])]
        }
        "DO $$ BEGIN DELETE FROM orders; END $$" => vec![operation("sql.opaque", &[])],
        "COPY public.orders TO PROGRAM 'curl example.org'" => vec![read(), operation("sql.copy_program", &[])],
        "SELECT pg_read_file('/etc/passwd')" => vec![operation("sql.select", &[]), operation("sql.server_file", &[])],
        "GRANT ALL ON public.orders TO public" => vec![operation("sql.grant", &[])],
        "SET ROLE postgres" => vec![operation("sql.set_role", &[])],
        "BEGIN; DELETE FROM public.orders; COPY public.orders TO PROGRAM 'sh'; COMMIT" => vec![
            operation("sql.transaction", &[]),
            write("sql.delete", &["no-where"]),
            read(),
            operation("sql.copy_program", &[]),
        ],
        other => panic!("say what `{other}` does"),
    }
}

#[test]
fn the_default_set_passes_its_cases() {
    let results = run_cases(&load(&[ROLES, GUARDS]), CASES, &classify).unwrap();
    let failed: String = results.iter().filter(|r| !r.passed()).map(|r| format!("{r}\n")).collect();
    assert!(failed.is_empty(), "{failed}");
    assert!(results.len() >= 40);
}

#[test]
fn the_cases_notice_each_guard_that_is_missing() {
    // A set of cases that passes without a guard doesn't test it.
    for id in load(&[GUARDS]).policies().map(|p| p.id.to_string()) {
        let start = GUARDS.1.find(&format!("@id(\"{id}\")")).unwrap();
        let end = start + GUARDS.1[start..].find("};").unwrap() + 2;
        let without = format!("{}{}", &GUARDS.1[..start], &GUARDS.1[end..]);
        let results = run_cases(&load(&[ROLES, ("guards.cedar", &without)]), CASES, &classify).unwrap();
        assert!(results.iter().any(|r| !r.passed()), "no case notices that `{id}` is gone");
    }
}

#[test]
fn a_case_fails_for_what_it_names() {
    let set = load(&[ROLES, GUARDS]);
    let run = |case: &str| run_cases(&set, &format!("[{case}]"), &classify).map(|all| all[0].problem.clone());
    let good = r#"{"name": "n", "role": "reader", "sql": "BEGIN", "expect": "permit", "policies": ["role-reader"]}"#;
    assert_eq!(run(good), Ok(None));
    for (from, to, problem) in [
        ("permit", "deny", "expected deny, got permit by `role-reader`"),
        ("role-reader", "other", "permit as expected, but by `role-reader` instead of `other`"),
        ("\"reader\"", "\"raeder\"", "no template has @role(\"raeder\")"),
        ("\"sql\": \"BEGIN\"", "\"at\": \"noon\", \"sql\": \"BEGIN\"", "`noon` is no moment"),
        ("\"sql\": \"BEGIN\",", "", "either `operation` or `sql`"),
        ("\"sql\": \"BEGIN\"", "\"operation\": {\"action\": \"sql.begin\"}", "no action `sql.begin`"),
    ] {
        let found = run(&good.replacen(from, to, 1)).unwrap().unwrap();
        assert!(found.contains(problem), "{found}");
    }
    assert!(matches!(run(&good.replace("expect", "expects")), Err(CasesError::Form { .. })));
    assert_eq!(run_cases(&set, "[]", &classify), Err(CasesError::None));
}

fn view(role: &str, risk: u8) -> View {
    View {
        session: SessionId::parse("s").unwrap(),
        epoch: 1,
        as_of: 1,
        subject: SubjectId::parse("alice").unwrap(),
        subject_kind: SubjectKind::Human,
        teams: BTreeSet::new(),
        resource: ResourceId::parse("orders-db").unwrap(),
        service: ServiceId::parse("orders").unwrap(),
        labels: BTreeSet::new(),
        database: "orders".into(),
        role: RoleId::parse(role).unwrap(),
        grant: GrantId::parse("g").unwrap(),
        purpose: String::new(),
        scope: Scope::default(),
        opened: Timestamp(0),
        deadline: Timestamp(u64::MAX),
        risk,
        tier: Tier::Mediated,
        policy_version: 1,
        policy_digest: String::new(),
    }
}

fn row(set: &PolicySet, table: &mut String, operation: &Operation, label: &str, at: &str) {
    let at = Timestamp::parse_rfc3339(at).unwrap();
    let _ = write!(table, "{:<11}{label:<36}", operation.class.as_str());
    for role in ["reader", "writer", "schema-changer", "everything", "nobody"] {
        let cell: String = (0..=4)
            .map(|risk| match set.decide(&view(role, risk), operation, at).effect {
                Effect::Permit => 'p',
                Effect::Hold => 'H',
                Effect::Deny => '-',
                Effect::Terminate => 'X',
            })
            .collect();
        let _ = write!(table, " {cell:<14}");
    }
    table.truncate(table.trim_end().len());
    table.push('\n');
}

/// The golden matrix. `ONUS_BLESS=1 cargo test -p onus-policy` writes it anew; the diff is the review.
#[test]
fn the_matrix_of_all_answers_is_the_reviewed_one() {
    let set = load(&[ROLES, GUARDS, EVERYTHING]);
    let mut table = String::from(
        "The default set's answer to each operation, by role, at risk 0 1 2 3 4.\n\
         p permit   H hold   - deny   X terminate   (\"nobody\" is a role without a template)\n\n",
    );
    let _ = writeln!(
        table,
        "{:<11}{:<36} reader         writer         schema-changer everything     nobody",
        "class", "operation"
    );
    for (action, _) in actions() {
        row(&set, &mut table, &operation(action, &[]), action, USUAL_MOMENT);
    }
    for (action, fact) in [
        ("sql.update", "no-where"),
        ("sql.delete", "no-where"),
        ("sql.select", "sensitive-catalogue"),
        ("sql.copy_out", "sensitive-catalogue"),
        ("sql.update", "sensitive-catalogue"),
    ] {
        row(&set, &mut table, &operation(action, &[fact]), &format!("{action} {fact}"), USUAL_MOMENT);
    }
    for action in ["sql.create", "sql.alter", "sql.drop", "sql.truncate", "sql.select"] {
        row(&set, &mut table, &operation(action, &[]), &format!("{action}, on a Sunday"), "2026-11-22T12:00:00Z");
        row(&set, &mut table, &operation(action, &[]), &format!("{action}, at 20:00"), "2026-11-18T20:00:00Z");
    }
    if std::env::var_os("ONUS_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/matrix.txt"), &table).unwrap();
    }
    let reviewed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/matrix.txt")).unwrap();
    assert!(table == reviewed, "the answers changed; now they are\n{table}");
}

#[test]
fn only_the_change_window_depends_on_the_clock() {
    let set = load(&[ROLES, GUARDS]);
    let at = Timestamp::parse_rfc3339("2026-11-18T12:00:30Z").unwrap();
    for (action, class) in actions() {
        let timed = set.decide(&view("writer", 0), &operation(action, &[]), at).valid_until.is_some();
        assert_eq!(timed, class == Class::Define, "{action}");
    }
}
