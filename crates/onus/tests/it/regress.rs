//! PostgreSQL's own regression suite through the gateway: under a policy that permits everything, what comes back is
//! what the server alone would have said. It takes minutes, so it runs only when asked: `ONUS_REGRESS=1`.
//!
//! It tests transparency, not decisions. What differs all the same is listed in [`DIFFER`], with the reason, and told in
//! `docs/postgres-regress.md`; the list is held to from both sides.

use onus_testkit::gateway::{ESTATE, Rig, RigOptions};
use onus_testkit::regress::{self, Target};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Tests whose output differs through the gateway, and why it has to.
///
/// WHEN ADDING ONE: the reason must be a decision of ours, not a bug; say it in `docs/postgres-regress.md` too.
const DIFFER: &[(&str, &str)] = &[];

const POLICY: &str = include_str!("../../../../policies/testing/permit-all.cedar");

/// Where the client believes to be: the resource, and the database in it.
const DATABASE: &str = "orders-db/regression";

#[test]
fn the_regression_suite_gives_the_same_result_as_without_a_gateway() {
    if std::env::var_os("ONUS_REGRESS").is_none_or(|asked| asked != "1") {
        eprintln!("skipped: set ONUS_REGRESS=1 to run PostgreSQL's regression suite through the gateway (minutes)");
        return;
    }
    let suite = regress::prepare(&pg_source()).unwrap();
    let rig = rig();
    let mut target = Target {
        host: "localhost".to_owned(),
        port: rig.pg_port,
        user: "alice:everything".to_owned(),
        db: DATABASE.to_owned(),
        env: rig.env("alice", None).into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        only: Vec::new(),
    };
    // These three are given to pg_regress by name.
    target.env.retain(|(name, _)| !["PGDATABASE", "PGUSER", "PGPORT"].contains(&name.as_str()));
    let result = regress::run(&suite, &target).unwrap();
    eprintln!("{} of {} passed in {:.1?}", result.passed(), result.tests.len(), result.took);
    assert!(result.tests.len() > 200, "{}", result.output);

    let failed: Vec<String> = result.failed().into_iter().map(str::to_owned).collect();
    let unexpected: Vec<_> = failed.iter().filter(|test| !DIFFER.iter().any(|(known, _)| known == test)).collect();
    let passing: Vec<_> = DIFFER.iter().map(|(known, _)| known).filter(|known| !failed.iter().any(|f| f == *known)).collect();
    if !unexpected.is_empty() || !passing.is_empty() {
        let log = rig.serve.output();
        let kept = result.keep();
        fs::write(kept.join("onus.log"), log).unwrap();
        panic!(
            "differ though they should not: {unexpected:?}\npass though they are listed: {passing:?}\nsee {}",
            kept.join("regression.diffs").display()
        );
    }
}

/// One resource, reached with the cluster's superuser, and alice, who may do everything in it.
fn rig() -> Rig {
    let settings = "      database: app\n      databases: [postgres, regression]\n";
    let stored = "      database: regression\n      credential: stored\n      search_path: [\"$user\", public]\n";
    assert!(ESTATE.contains(settings));
    let rig = Rig::start(
        Path::new(env!("CARGO_BIN_EXE_onus")),
        RigOptions {
            cluster: regress::cluster_options(),
            estate: Some(ESTATE.replacen(settings, stored, 1)),
            policies: Some(BTreeMap::from([("permit-all.cedar".to_owned(), POLICY.to_owned())])),
            people: vec!["alice", "bob"],
            ..RigOptions::default()
        },
    )
    .unwrap();
    regress::make_database(&rig.cluster, "regression").unwrap();
    let password = rig.path("superuser-password");
    fs::write(&password, rig.cluster.password()).unwrap();
    let password = password.display().to_string();
    rig.ok("root-admin", &["secret", "set", "orders-db/admin", "--user", "postgres", "--password-file", &password])
        .unwrap();
    rig.grant_with("alice", "bob", &["orders-db", "--role", "everything", "--for", "8h"]).unwrap();
    rig
}

/// The suite's source, beside the binaries.
fn pg_source() -> PathBuf {
    let binaries = Path::new(env!("CARGO_BIN_EXE_onus")).parent().and_then(Path::parent);
    binaries.expect("the binary is in target/PROFILE").join("pg-source")
}
