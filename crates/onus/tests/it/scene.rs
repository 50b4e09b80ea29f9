//! What the tests share: one running Onus, people without a past, and psql at the far end of a pipe.

use onus_testkit::gateway::{DATABASE, ESTATE};
use onus_testkit::proc::Running;
use onus_testkit::{Options, Rig, RigOptions, wait};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The binary under test.
pub const ONUS: &str = env!("CARGO_BIN_EXE_onus");

/// For what should take milliseconds, on a machine that has other things to do.
pub const SOON: Duration = Duration::from_secs(20);

/// People who are declared and have done nothing yet.
const GUESTS: usize = 160;

static NEXT: AtomicUsize = AtomicUsize::new(1);

/// The Onus that tests share. It must be left as it was found, but for what one's own people did.
pub fn rig() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| Rig::start(Path::new(ONUS), options()).unwrap_or_else(|error| panic!("no rig: {error}")))
}

/// The usual set-up, with guests, a second resource with owners of its own, and a role that may do everything.
pub fn options() -> RigOptions {
    let mut estate = ESTATE.to_owned();
    let (mut parties, mut subjects) = (String::new(), String::new());
    for guest in 1..=GUESTS {
        parties.push_str(&format!("  guest-{guest}: {{ name: Guest {guest} }}\n"));
        subjects.push_str(&format!("  guest-{guest}: {{ kind: human, owner: dana, party: guest-{guest} }}\n"));
    }
    parties.push_str("  ursula: { name: Ursula Spare }\n");
    let service = "  spare:  { owner: ursula, safe_failure: \"nothing depends on it\" }\n";
    let resource = "  spare-db:\n    service: spare\n    protocol: postgresql\n    settings:\n      address: \"@ADDRESS@\"\n      database: app\n";
    for (after, more) in [
        ("parties:\n", parties.as_str()),
        ("subjects:\n", &subjects),
        ("services:\n", service),
        ("resources:\n", resource),
    ] {
        assert!(estate.contains(after), "the estate has no {after}");
        estate = estate.replacen(after, &format!("{after}{more}"), 1);
    }
    // The reader is offered on both.
    estate = estate.replacen(
        "    why: look at data\n    resources: [orders-db]",
        "    why: look at data\n    resources: [orders-db, spare-db]",
        1,
    );
    assert!(estate.contains("[orders-db, spare-db]"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let mut policies = BTreeMap::new();
    for name in ["roles.cedar", "guards.cedar", "testing/permit-all.cedar"] {
        let text = fs::read_to_string(folder.join(name)).expect("the repository's own policies");
        policies.insert(name.replace('/', "-"), text);
    }
    RigOptions {
        cluster: Options {
            fsync: false,
            config: vec!["log_statement = 'all'".into(), "log_min_messages = 'log'".into()],
            ..Options::default()
        },
        estate: Some(estate),
        policies: Some(policies),
        database: Some(format!("{DATABASE}\n{MORE}")),
        ..RigOptions::default()
    }
}

/// What evasions reach for.
const MORE: &str = "
CREATE SCHEMA hidden;
CREATE TABLE hidden.orders (id int PRIMARY KEY, customer text, status text, total numeric);
INSERT INTO hidden.orders VALUES (1, 'HIDDEN-ROW', 'x', 0);
GRANT USAGE ON SCHEMA hidden TO app_reader, app_writer;
GRANT SELECT ON hidden.orders TO app_reader, app_writer;
";

/// The name of somebody who has not been used yet, enrolled.
pub fn guest(rig: &Rig) -> String {
    let name = format!("guest-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    rig.join(&name).unwrap();
    name
}

/// The same with a role on `orders-db`, approved by bob.
pub fn guest_as(rig: &Rig, role: &str) -> String {
    let name = guest(rig);
    rig.grant(&name, role, "bob").unwrap();
    name
}

/// What a program wrote, both streams.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs statements by psql as somebody who has one role, and demands success; what it printed.
pub fn ask(rig: &Rig, who: &str, sql: &[&str]) -> String {
    let output = rig.psql(who, None, sql).unwrap();
    assert!(output.status.success(), "{sql:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Runs statements by psql up to the first that fails, and demands that one does; everything it wrote.
pub fn refused(rig: &Rig, who: &str, sql: &[&str]) -> String {
    let sql: Vec<&str> = std::iter::once("\\set ON_ERROR_STOP 1").chain(sql.iter().copied()).collect();
    let output = rig.psql(who, None, &sql).unwrap();
    let text = said(&output);
    assert!(!output.status.success(), "{sql:?} went through: {text}");
    text
}

/// Runs `onus` and demands that it is turned down with exit status 1; everything it wrote.
pub fn turned_down(rig: &Rig, who: &str, arguments: &[&str]) -> String {
    let output = rig.onus(who, arguments).unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
    text
}

/// Runs `onus … --json` and reads what it printed.
pub fn json(rig: &Rig, who: &str, arguments: &[&str]) -> Value {
    let text = rig.ok(who, arguments).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

/// The sessions of somebody, newest last; with those that ended.
pub fn sessions_of(rig: &Rig, who: &str, all: bool) -> Vec<Value> {
    let mut arguments = vec!["session", "list", "--json"];
    if all {
        arguments.push("--all");
    }
    let listed = json(rig, "root-admin", &arguments);
    let all = listed["sessions"].as_array().cloned().unwrap_or_default();
    let mut own: Vec<Value> = all.into_iter().filter(|session| session["subject"] == who).collect();
    own.sort_by_key(|session| session["opened"].as_u64());
    own
}

/// The number of somebody's one live session, as soon as there is one.
pub fn live_session(rig: &Rig, who: &str) -> String {
    wait::until(SOON, "a live session", || Some(sessions_of(rig, who, false).last()?["session"].as_str()?.to_owned()))
        .unwrap()
}

/// What the ledger says of a session that has ended.
pub fn ended_session(rig: &Rig, id: &str) -> Value {
    wait::until(SOON, "the session's end", || {
        let shown = json(rig, "root-admin", &["session", "show", id, "--json"]);
        (!shown["closed"].is_null()).then_some(shown)
    })
    .unwrap()
}

/// Whether a session's role is still on the server.
pub fn role_exists(rig: &Rig, session: &str) -> bool {
    let count = format!("SELECT count(*) FROM pg_roles WHERE rolname = 'onus_{session}'");
    rig.cluster.psql("postgres", &count).unwrap() != "0"
}

/// The role is gone, or soon is.
pub fn role_goes(rig: &Rig, session: &str) {
    wait::until(SOON, "the role's end", || (!role_exists(rig, session)).then_some(())).unwrap();
}

/// A psql that one talks to.
pub struct Psql {
    /// Its process and what it wrote.
    pub running: Running,
    stdin: ChildStdin,
}

impl Psql {
    /// Opens one and waits until it is in.
    pub fn open(rig: &Rig, who: &str, database: &str) -> Self {
        let mut command = rig.client("psql", who, None);
        command.env("PGDATABASE", database);
        command.args(["-X", "-A", "-t", "-q", "-v", "VERBOSITY=verbose"]);
        let mut running = Running::spawn_with_stdin("psql", &mut command, Stdio::piped()).unwrap();
        let stdin = running.child().stdin.take().unwrap();
        let mut psql = Self { running, stdin };
        psql.say("SELECT 'I am ' || 'in';");
        psql.hears("I am in");
        psql
    }

    /// Types a line.
    pub fn say(&mut self, line: &str) {
        // A psql that has ended is found out by what it said.
        let _ = writeln!(self.stdin, "{line}").and_then(|()| self.stdin.flush());
    }

    /// Waits for a line.
    pub fn hears(&self, pattern: &str) -> String {
        self.running.wait_for(pattern, SOON).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a statement to its end, for its side effects and for the time that it takes.
    pub fn says_and_hears(&mut self, line: &str, pattern: &str) -> String {
        self.say(line);
        self.hears(pattern)
    }
}
