//! PostgreSQL's own regression suite through the gateway: under a policy that permits everything, what comes back is
//! what the server alone would have said. It takes minutes, so it runs only when asked: `ONUS_REGRESS=1`.
//!
//! It tests transparency, not decisions. What differs all the same is listed in [`DIFFER`], with the reason, and told in
//! `docs/postgres-regress.md`; the list is held to from both sides.

use crate::scene::{ask, guest_as, json, said};
use onus_testkit::drivers;
use onus_testkit::gateway::{ESTATE, Rig, RigOptions};
use onus_testkit::regress::{self, Outcome, RegressResult, RegressSuite, Target};
use onus_testkit::{Cluster, wait};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
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
    Differs { test: "largeobject", line: "ERROR:  refused by onus: the fast-path function call names", times: 7 },
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
    let mut wrong = Vec::new();
    for session in &sessions {
        let id = session["session"].as_str().unwrap();
        if session["closed"]["why"] != "the client left" {
            wrong.push(format!("{session}"));
        }
        if let Err(error) = rig.ok("bob", &["verify", "--session", id]) {
            wrong.push(format!("{session}: {error}"));
        }
    }
    eprintln!("verified {} sessions in {:.1?}", sessions.len(), begun.elapsed());
    assert!(wrong.is_empty(), "{wrong:#?}");
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

#[test]
fn random_pipelines_are_answered_as_by_the_server_alone() {
    let python = match drivers::python() {
        Ok(python) => python.python,
        Err(error) if error.is_skip() => return eprintln!("{error}"),
        Err(error) => panic!("{error}"),
    };
    let rig = crate::scene::rig();
    let who = guest_as(rig, "everything");
    let mut command = Command::new(python);
    command.args(["-c", PIPELINES]).envs(rig.env(&who, None));
    command.env("DIRECT_PORT", rig.cluster.port().to_string()).env("DIRECT_PASSWORD", rig.cluster.password());
    let output = command.output().unwrap();
    assert!(output.status.success() && said(&output).trim_end().ends_with("ok"), "{}", said(&output));
}

/// The same random messages, in pipelines with a Sync here and there, go both ways; every answer is compared, and the
/// transaction status after each pipeline. A failure names its seed.
const PIPELINES: &str = r#"
import os, random
from psycopg import pq
def connect(info):
    c = pq.PGconn.connect(info)
    assert c.status == pq.ConnStatus.OK, c.error_message
    return c
direct = b"host=127.0.0.1 hostaddr=127.0.0.1 port=%s user=postgres password=%s dbname=app sslmode=disable sslcert='' sslkey='' sslrootcert=''" % (
    os.environb[b"DIRECT_PORT"], os.environb[b"DIRECT_PASSWORD"])
def answers(c):
    got, nothing = [], 0
    while nothing < 2:
        r = c.get_result()
        if r is None:
            nothing += 1
            continue
        nothing = 0
        values = [[r.get_value(i, j) for j in range(r.nfields)] for i in range(r.ntuples)]
        got.append((r.status, r.error_field(pq.DiagnosticField.SQLSTATE), r.error_field(pq.DiagnosticField.MESSAGE_PRIMARY), r.command_status, values,
                    [r.fname(j) for j in range(r.nfields)]))
    return got
TEXTS = [
    b"select 1", b"select 1/0", b"this is no sql", b"select n from t order by n", b"insert into t values (7)",
    b"update t set n = n + 1", b"delete from t where n > 9", b"begin", b"commit", b"rollback", b"savepoint s",
    b"rollback to s", b"set timezone = 'UTC'", b"set local datestyle = 'German'", b"select date '2026-01-02'", b"show timezone",
    b"set search_path = pg_catalog, public", b"reset search_path", b"select nothing from nowhere", b"",
    b"prepare p as select 5", b"execute p", b"deallocate p", b"deallocate all", b"prepare q as select 6", b"execute q",
    b"create temp table u (n int)", b"drop table u", b"select * from u", b"discard plans",
    b"do $$ begin raise notice 'x'; end $$", b"select generate_series(1, 300), repeat('x', 100)", b"listen n", b"notify n",
    b"declare c cursor for select generate_series(1, 9)", b"fetch 3 from c", b"close c",
]
NAMES = [b"", b"a", b"b", b"p", b"q"]
def one(rnd):
    kind = rnd.choice("tttttppxxxdD")
    if kind == "t":
        text = rnd.choice(TEXTS)
        return ("run", text), lambda c: c.send_query_params(text, [])
    if kind == "p":
        name, text = rnd.choice(NAMES), rnd.choice(TEXTS + [b"select $1::int + 1"])
        return ("prepare", name, text), lambda c: c.send_prepare(name, text)
    if kind == "x":
        name, params = rnd.choice(NAMES), rnd.choice([[], [], [b"4"], [b"no"]])
        return ("run prepared", name, params), lambda c: c.send_query_prepared(name, params)
    name = rnd.choice(NAMES)
    if kind == "d":
        return ("describe", name), lambda c: c.send_describe_prepared(name)
    return ("describe portal",), lambda c: c.send_describe_portal(b"")
for seed in range(150):
    rnd = random.Random(seed)
    sides = [connect(direct), connect(b"")]
    for c in sides:
        c.exec_(b"create temp table t (n int); insert into t select generate_series(1, 5)")
    for turn in range(6):
        if rnd.random() < 0.3:
            text = b";".join(rnd.choice(TEXTS) for _ in range(rnd.randint(1, 4)))
            sent = [text]
            for c in sides:
                c.send_query(text)
        else:
            sent = [one(rnd) for _ in range(rnd.randint(1, 12))]
            cuts = [rnd.random() < 0.2 for _ in sent]
            for c in sides:
                c.enter_pipeline_mode()
                for (_, send), cut in zip(sent, cuts):
                    send(c)
                    if cut:
                        c.pipeline_sync()
                c.pipeline_sync()
            sent = [(message, cut) for (message, _), cut in zip(sent, cuts)]
        here, there = [answers(c) for c in sides]
        for c in sides:
            if c.pipeline_status:
                c.exit_pipeline_mode()
        states = [c.transaction_status for c in sides]
        assert here == there and states[0] == states[1], (seed, turn, sent, here, there, states)
        if states[0] == pq.TransactionStatus.UNKNOWN:
            break  # Some sequences make the server close the connection.
    for c in sides:
        c.finish()
print("ok")
"#;
