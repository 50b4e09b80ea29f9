//! PostgreSQL's own regression suite through the gateway: under a policy that permits everything, what comes back is
//! what the server alone would have said. It takes minutes, so it runs only when asked: `ONUS_REGRESS=1`.
//!
//! It tests transparency, not decisions. What differs all the same is listed in [`DIFFER`], with the reason, and told in
//! `docs/postgres-regress.md`; the list is held to from both sides.

use crate::scene::{ask, guest_as, json};
use onus_testkit::gateway::{ESTATE, Rig, RigOptions};
use onus_testkit::regress::{self, Outcome, RegressResult, RegressSuite, Target};
use onus_testkit::{Cluster, wait};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A test whose output differs through the gateway, by a decision of ours.
struct Differs {
    test: &'static str,
    /// What explains it. Each such line is counted, so that a further difference in the same test is not overlooked.
    line: &'static str,
    times: usize,
}

/// WHEN ADDING ONE: the reason must be a decision of ours, not a bug; say it in `docs/postgres-regress.md` too.
const DIFFER: &[Differs] = &[
    // psql's \lo_import, \lo_export and \lo_unlink call functions by number, over the fast path, which is refused.
    Differs { test: "largeobject", line: "ERROR:  refused by onus: the fast-path function call names", times: 5 },
];

/// The resource has the name that the suite's database has: psql compares qualified names with the name that it
/// connected to.
const RESOURCE: &str = "regression";

const POLICY: &str = include_str!("../../../../policies/testing/permit-all.cedar");

#[test]
fn the_regression_suite_gives_the_same_result_as_without_a_gateway() {
    if std::env::var_os("ONUS_REGRESS").is_none_or(|asked| asked != "1") {
        eprintln!("skipped: set ONUS_REGRESS=1 to run PostgreSQL's regression suite through the gateway (minutes)");
        return;
    }
    let suite = regress::prepare(&pg_source()).unwrap();
    let direct = direct(&suite);
    eprintln!("direct: {} of {} passed in {:.1?}", direct.passed(), direct.tests.len(), direct.took);
    let rig = rig();
    let through = regress::run(&suite, &target(&rig)).unwrap();
    eprintln!("through onus: {} of {} passed in {:.1?}", through.passed(), through.tests.len(), through.took);
    assert!(through.tests.len() > 150, "{}", through.output);

    let outcomes = |result: &RegressResult| -> BTreeMap<String, Outcome> {
        result.tests.iter().map(|test| (test.name.clone(), test.outcome)).collect()
    };
    let (without, with) = (outcomes(&direct), outcomes(&through));
    assert!(without.keys().eq(with.keys()), "not the same tests were run");
    let mut wrong = Vec::new();
    for (test, outcome) in &with {
        let known = DIFFER.iter().find(|known| known.test == test);
        match known {
            None if *outcome == without[test] => {}
            None => wrong.push(format!("{test}: {outcome:?} instead of {:?}", without[test])),
            Some(_) if *outcome == without[test] => wrong.push(format!("{test}: no longer differs; take it off")),
            Some(known) => {
                let output = through.actual(test).unwrap_or_default();
                let times = output.lines().filter(|line| line.starts_with(known.line)).count();
                let refused = output.matches("by onus").count();
                if (times, refused) != (known.times, known.times) {
                    wrong.push(format!("{test}: refused {refused} times, {times} of them as known; see its list"));
                }
            }
        }
    }
    let missing = DIFFER.iter().filter(|known| !with.contains_key(known.test)).map(|known| known.test);
    wrong.extend(missing.map(|test| format!("{test}: was not run")));
    if !wrong.is_empty() {
        let log = rig.serve.output();
        let kept = through.keep();
        fs::write(kept.join("onus.log"), log).unwrap();
        panic!("{wrong:#?}\nsee {}", kept.join("regression.diffs").display());
    }
    drop(through);
    all_is_on_record(&rig);
}

/// Each session ended because its client left, and all that was decided in it comes out the same again.
fn all_is_on_record(rig: &Rig) {
    let begun = Instant::now();
    let listed = || json(rig, "root-admin", &["session", "list", "--all", "--json"])["sessions"].as_array().cloned();
    let sessions = wait::until(Duration::from_secs(30), "the end of all sessions", || {
        listed().filter(|sessions| sessions.iter().all(|session| !session["closed"].is_null()))
    })
    .unwrap();
    assert!(sessions.len() > 150);
    for session in &sessions {
        let id = session["session"].as_str().unwrap();
        assert_eq!(session["closed"]["why"], "the client left", "{session}");
        rig.ok("bob", &["verify", "--session", id]).unwrap_or_else(|error| panic!("{session}: {error}"));
    }
    eprintln!("verified {} sessions in {:.1?}", sessions.len(), begun.elapsed());
}

fn direct(suite: &RegressSuite) -> RegressResult {
    let cluster = Cluster::start(regress::cluster_options()).unwrap();
    regress::make_database(&cluster, "regression").unwrap();
    regress::run(suite, &Target::direct(&cluster, "regression")).unwrap()
}

/// The gateway as pg_regress is told of it.
fn target(rig: &Rig) -> Target {
    let mut env: Vec<_> = rig.env("alice", None).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    // These are given to pg_regress by name.
    env.retain(|(name, _)| !["PGDATABASE", "PGUSER", "PGPORT"].contains(&name.as_str()));
    Target {
        host: "localhost".to_owned(),
        port: rig.pg_port,
        user: "alice:everything".to_owned(),
        db: RESOURCE.to_owned(),
        env,
        only: Vec::new(),
    }
}

/// One more resource, reached with the cluster's superuser, and alice, who may do everything in it.
fn rig() -> Rig {
    let declared = format!(
        "resources:\n  {RESOURCE}:\n    service: shop\n    protocol: postgresql\n    settings:\n      address: \"@ADDRESS@\"\n      \
         database: regression\n      credential: stored\n      search_path: [\"$user\", public]\n"
    );
    let offered = format!("resources: [orders-db, {RESOURCE}]");
    let estate = ESTATE.replacen("resources:\n", &declared, 1).replace("resources: [orders-db]", &offered);
    assert!(estate.contains(&declared) && estate.contains(&offered));
    let options = RigOptions {
        cluster: regress::cluster_options(),
        estate: Some(estate),
        policies: Some(BTreeMap::from([("permit-all.cedar".to_owned(), POLICY.to_owned())])),
        people: vec!["alice", "bob"],
        ..RigOptions::default()
    };
    let rig = Rig::start(Path::new(env!("CARGO_BIN_EXE_onus")), options).unwrap();
    regress::make_database(&rig.cluster, "regression").unwrap();
    let password = rig.path("superuser-password");
    fs::write(&password, rig.cluster.password()).unwrap();
    let (secret, password) = (format!("{RESOURCE}/admin"), password.display().to_string());
    rig.ok("root-admin", &["secret", "set", &secret, "--user", "postgres", "--password-file", &password]).unwrap();
    rig.grant_with("alice", "bob", &[RESOURCE, "--role", "everything", "--for", "8h"]).unwrap();
    rig
}

/// The suite's source, beside the binaries.
fn pg_source() -> PathBuf {
    let binaries = Path::new(env!("CARGO_BIN_EXE_onus")).parent().and_then(Path::parent);
    binaries.expect("the binary is in target/PROFILE").join("pg-source")
}

/// Rows with all that COPY has to escape, as COPY itself writes them.
fn rows() -> String {
    (0..100_000).map(|i| format!("{i}\t\\N\tä\\t\"\\\\.\\n,{}\t\n", "x".repeat(i % 97))).collect()
}

#[test]
fn a_hundred_thousand_rows_come_out_as_they_went_in() {
    let rig = crate::scene::rig();
    let who = guest_as(rig, "everything");
    let file = |name: &str| rig.path(&format!("{who}-{name}")).display().to_string();
    let (text, csv, binary, back) = (file("text"), file("csv"), file("binary"), file("back"));
    fs::write(&text, rows()).unwrap();
    let steps = [
        "CREATE TEMP TABLE a (i int, n text, t text, e text); CREATE TEMP TABLE b (LIKE a); CREATE TEMP TABLE c (LIKE a)",
        &format!("\\copy a FROM '{text}'"),
        &format!("\\copy a TO '{csv}' (FORMAT csv, HEADER)"),
        &format!("\\copy b FROM '{csv}' (FORMAT csv, HEADER)"),
        &format!("\\copy b TO '{binary}' (FORMAT binary)"),
        &format!("\\copy c FROM '{binary}' (FORMAT binary)"),
        &format!("\\copy (SELECT * FROM c ORDER BY i) TO '{back}'"),
        "SELECT count(*), count(n) FROM c",
    ];
    assert_eq!(ask(rig, &who, &steps), "100000|0");
    assert!(fs::read(&text).unwrap() == fs::read(&back).unwrap(), "see {text} and {back}");
}
