//! Many sessions at once: what an idle one keeps in memory, and how long a kill of all of them takes.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use onus_testkit::proc::{self, Running};
use onus_testkit::{KitError, drivers, wait};
use serde_json::{Value, json};

use super::field::{DB, Field};
use super::report::{Section, percentile};
use crate::step::Failure;

/// Opens sessions from one process, then runs on all of them what it is told.
const FLEET: &str = r#"
import sys, resource, threading
import psycopg

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
wanted, threads = int(sys.argv[1]), 8
connections = [None] * wanted
failed = []

def connect(first):
    for number in range(first, wanted, threads):
        try:
            connections[number] = psycopg.connect("", autocommit=True)
        except psycopg.Error as error:
            failed.append(str(error))
            return

workers = [threading.Thread(target=connect, args=(first,)) for first in range(threads)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
if failed:
    sys.exit("failed: " + failed[0])
print("connected", flush=True)
for line in sys.stdin:
    for connection in connections:
        connection.pgconn.send_query(line.strip().encode())
    print("sent", flush=True)
"#;

/// How long the fleet may take to connect: each session is durable in the ledger and has a role of its own.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures it.
pub fn measure(field: &mut Field) -> Result<Vec<Section>, Failure> {
    let sessions = if field.quick { 200 } else { 1000 };
    // What the first sessions set up for all stays out of the difference.
    drop(fleet(field, 8)?);
    settled(field)?;
    let before = rss(field)?;
    let begun = Instant::now();
    let mut fleet = fleet(field, sessions)?;
    let took = begun.elapsed();
    std::thread::sleep(Duration::from_secs(3));
    let after = rss(field)?;
    let each = (after as f64 - before as f64) / f64::from(sessions);
    let idle = Section {
        name: "idle",
        title: "Idle sessions".to_owned(),
        how: format!(
            "{sessions} sessions of one subject, opened and left alone, each with its own TLS connection, journal, database \
             role and server connection; resident memory of the gateway before and after."
        ),
        columns: vec!["sessions", "RSS before MiB", "RSS after MiB", "KiB a session", "opened in s"],
        rows: vec![vec![
            sessions.to_string(),
            format!("{:.1}", before as f64 / 1024.0),
            format!("{:.1}", after as f64 / 1024.0),
            format!("{each:.1}"),
            format!("{:.1}", took.as_secs_f64()),
        ]],
        notes: vec![
            "opening them is bound by the ledger's disk and by the server, which makes a role for each".to_owned(),
        ],
        values: json!({
            "sessions": sessions, "rss_before_kib": before, "rss_after_kib": after,
            "kib_per_session": each, "opened_in_s": took.as_secs_f64(),
        }),
    };
    let killed = kill(field, &mut fleet, sessions)?;
    Ok(vec![idle, killed])
}

fn kill(field: &Field, fleet: &mut Running, sessions: u32) -> Result<Section, Failure> {
    let stdin = fleet.child().stdin.as_mut();
    let told = stdin.map(|stdin| writeln!(stdin, "SELECT pg_sleep(600)").and_then(|()| stdin.flush()));
    if !matches!(told, Some(Ok(()))) {
        return Err(Failure::Step("the fleet of clients is gone".to_owned()));
    }
    fleet.wait_for("sent", Duration::from_secs(60))?;
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(600)%' \
                  AND pid <> pg_backend_pid()";
    wait::until(Duration::from_secs(60), "that all sessions sleep", || {
        (field.rig.cluster.psql(DB, asleep).ok()?.parse::<u32>().ok()? >= sessions).then_some(())
    })?;
    let begun = Instant::now();
    let answer = field.rig.onus("sam", &["kill", "--subject", "alice", "--reason", "bench", "--json"])?;
    let command = begun.elapsed();
    let said = String::from_utf8_lossy(&answer.stdout).into_owned();
    let answer: Value = serde_json::from_str(&said)
        .map_err(|error| Failure::Step(format!("onus kill answered `{}`: {error}", said.trim())))?;
    let times: Vec<&Value> = answer["times"].as_object().into_iter().flat_map(serde_json::Map::values).collect();
    settled(field)?;
    let steps = [
        ("statement cancelled", "cancelled_us"),
        ("client closed", "client_closed_us"),
        ("server connection closed", "upstream_closed_us"),
        ("role proven gone", "credential_revoked_us"),
    ];
    let mut rows = Vec::new();
    let mut values = serde_json::Map::new();
    for (name, key) in steps {
        let mut found: Vec<f64> = times.iter().filter_map(|times| times[key].as_f64()).map(|us| us / 1000.0).collect();
        found.sort_by(f64::total_cmp);
        let at = |share| percentile(&found, share);
        let shown = |share| format!("{:.0}", at(share));
        rows.push(vec![name.to_owned(), found.len().to_string(), shown(0.5), shown(0.99), shown(1.0)]);
        let value = json!({ "known": found.len(), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0) });
        values.insert(key.to_owned(), value);
    }
    values.insert("sessions".to_owned(), json!(sessions));
    values.insert("command_s".to_owned(), json!(command.as_secs_f64()));
    let mut notes =
        vec![format!("`onus kill` itself returned after {:.1} s, having seen every step", command.as_secs_f64())];
    if times.len() < sessions as usize {
        notes = vec![format!(
            "`onus kill` waits ten seconds for the proof and had it for {} of {sessions} sessions; the rows are those",
            times.len()
        )];
    }
    Ok(Section {
        name: "kill",
        title: "Killing them all".to_owned(),
        how: format!(
            "`onus kill --subject` while all {sessions} sessions run `pg_sleep(600)`; milliseconds from the command's arrival \
             at the gateway, by its own `KillCompleted` events in the ledger."
        ),
        columns: vec!["until", "sessions", "p50 ms", "p99 ms", "last ms"],
        rows,
        notes,
        values: values.into(),
    })
}

fn fleet(field: &Field, sessions: u32) -> Result<Running, Failure> {
    let python = drivers::python().map_err(|error| Failure::Step(format!("python with psycopg: {error}")))?;
    let script = field.rig.path("fleet.py");
    std::fs::write(&script, FLEET).map_err(|source| KitError::File {
        action: "write",
        path: script.clone(),
        source,
    })?;
    let mut command = std::process::Command::new(&python.python);
    onus_testkit::pg::forget_libpq(&mut command);
    command.arg(&script).arg(sessions.to_string()).envs(field.rig.env("alice", Some("reader")));
    let fleet = Running::spawn_with_stdin("the fleet of clients", &mut command, Stdio::piped())?;
    fleet.wait_for("connected", PATIENCE)?;
    Ok(fleet)
}

/// Waits until no session's role is left.
fn settled(field: &Field) -> Result<(), Failure> {
    let left = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'onus\\_%' AND rolname <> 'onus_gateway'";
    wait::until(Duration::from_secs(120), "that all session roles are gone", || {
        (field.rig.cluster.psql(DB, left).ok()? == "0").then_some(())
    })?;
    Ok(())
}

fn rss(field: &Field) -> Result<u64, Failure> {
    let usage = proc::usage(field.rig.serve.pid());
    usage.map(|usage| usage.rss_kib).ok_or_else(|| Failure::Step("the gateway is gone".to_owned()))
}
