//! What breaks underneath breaks closed: the gateway dies, its disk is full, its ledger is locked, the resource goes away,
//! a client does not read. Each is followed by healing, and everything must be in order again.
//!
//! These share one Onus of their own, one after the other.

use crate::raw::{self, Raw};
use crate::scene::{
    ONUS, Psql, SOON, ask, ended_session, guest_as, json, live_session, options, refused, role_exists, role_goes, said,
};
use crate::ssh_scene::{furnish, with_ssh};
use onus_testkit::proc::Running;
use onus_testkit::{Rig, run, wait};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The Onus that is broken, by one test at a time; healed when it is handed out.
pub fn breakable() -> MutexGuard<'static, Rig> {
    static RIG: OnceLock<Mutex<Rig>> = OnceLock::new();
    let rig = RIG.get_or_init(|| {
        let rig = Rig::start(std::path::Path::new(ONUS), with_ssh(options())).unwrap();
        furnish(&rig);
        Mutex::new(rig)
    });
    let mut rig = rig.lock().unwrap_or_else(PoisonError::into_inner);
    rig.cluster.start_again().unwrap();
    if rig.serve.ended().is_some() {
        rig.start_again().unwrap();
    }
    rig
}

/// The ledger and this session's journal hold, read from the disk.
pub fn holds(rig: &Rig, session: &str) {
    let data = rig.data().display().to_string();
    let key = rig.data().join("keys/ledger.vkey").display().to_string();
    rig.ok("bob", &["ledger", "verify", "--data", &data, "--key-file", &key]).unwrap();
    let text = rig.ok("bob", &["verify", "--session", session, "--data", &data]).unwrap();
    assert!(text.contains("holds"), "{text}");
}

/// Every statement that the server logged for a session's role.
fn logged(rig: &Rig, session: &str) -> Vec<String> {
    let log = rig.cluster.log();
    let mark = format!(" onus_{session}@");
    log.lines()
        .filter(|line| line.contains(&mark))
        .filter_map(|line| {
            let statement = line.split_once("LOG:  ")?.1;
            let text = statement.strip_prefix("statement: ");
            text.or_else(|| statement.strip_prefix("execute ")?.split_once(": ").map(|(_, text)| text))
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_gateway_that_dies_in_mid_statement_leaves_nothing_open_and_nothing_unrecorded() {
    let mut rig = breakable();
    let who = guest_as(&rig, "writer");
    let mut psql = Psql::open(&rig, &who, "orders-db");
    let session = live_session(&rig, &who);
    for id in 1..=50 {
        psql.say(&format!("UPDATE orders SET status = 'paid' WHERE id = {id};"));
    }
    psql.says_and_hears("SELECT 'all ' || 'fifty';", "all fifty");
    psql.say("SELECT pg_sleep(60), 'mid-statement';");
    wait::until(SOON, "the statement", || {
        logged(&rig, &session).iter().any(|s| s.contains("mid-statement")).then_some(())
    })
    .unwrap();
    assert!(role_exists(&rig, &session));
    rig.crash();
    psql.running.wait(SOON).unwrap_or_else(|_| {
        psql.say("SELECT 1;");
        psql.running.wait(SOON).unwrap()
    });
    rig.start_again().unwrap();
    let ended = ended_session(&rig, &session);
    assert_eq!(ended["closed"]["reason"]["kind"], "gateway_died", "{ended}");
    role_goes(&rig, &session);
    let running = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = 'onus_{session}'");
    wait::until(SOON, "the statement's end", || (rig.cluster.psql("postgres", &running).unwrap() == "0").then_some(()))
        .unwrap();
    holds(&rig, &session);
    // No record, no relay: what the server ran is in the journal, to the last statement.
    let records = rig.ok("bob", &["session", "replay", &session, "--json"]).unwrap();
    let recorded: BTreeSet<String> = records
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|record| record["k"] == "op")
        .map(|record| record["text"].as_str().unwrap().trim_end_matches(';').to_owned())
        .collect();
    let ran = logged(&rig, &session);
    assert!(ran.len() >= 52, "{}", ran.len());
    for statement in ran {
        assert!(recorded.contains(statement.trim_end_matches(';')), "ran without a record: {statement}");
    }
    assert_eq!(ask(&rig, &who, &["SELECT 1"]), "1");
}

#[test]
fn a_gateway_that_is_stopped_ends_its_sessions_and_their_roles_first() {
    let mut rig = breakable();
    let who = guest_as(&rig, "reader");
    let mut psql = Psql::open(&rig, &who, "orders-db");
    let session = live_session(&rig, &who);
    rig.stop().unwrap();
    psql.say("SELECT 1;");
    psql.running.wait(SOON).unwrap();
    assert!(psql.running.output().contains("57P01"), "{}", psql.running.output());
    assert!(!role_exists(&rig, &session), "the role went before the gateway did");
    rig.start_again().unwrap();
    let ended = ended_session(&rig, &session);
    assert_eq!(ended["closed"]["reason"]["kind"], "gateway_stopped", "{ended}");
    holds(&rig, &session);
}

/// A small file system in the place of the journals; gone when this is dropped.
pub struct Small(PathBuf);

impl Small {
    pub fn over(folder: PathBuf, size: &str) -> Result<Self, String> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"]).arg(&folder);
        match mount.output() {
            Ok(output) if output.status.success() => Ok(Self(folder)),
            Ok(output) => Err(said(&output)),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a failed test may still hold a file open there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_ends_the_session_before_anything_goes_unrecorded() {
    if !run::is_root() {
        return eprintln!("skipped: only root can mount a small file system");
    }
    let mut rig = breakable();
    let who = guest_as(&rig, "writer");
    rig.stop().unwrap();
    let small = match Small::over(rig.data().join("journals"), "256k") {
        Ok(small) => small,
        Err(error) => {
            rig.start_again().unwrap();
            return eprintln!("skipped: no small file system can be mounted: {error}");
        }
    };
    rig.start_again().unwrap();
    let mut raw = Raw::open(&rig, &who);
    let session = live_session(&rig, &who);
    let filler = "x".repeat(4000);
    let (mut answered, mut last) = (0, Vec::new());
    for number in 0..500 {
        raw.query(format!("SELECT {number} /* n{number} {filler} */").as_bytes());
        last = raw.until_ready();
        if !raw::ready(&last, b'I') {
            break;
        }
        answered += 1;
    }
    let error = raw::error(&last);
    assert_eq!((error.field(b'S'), error.field(b'C')), ("FATAL".to_owned(), "58030".to_owned()), "{error:?}");
    assert!(answered > 10, "{answered}");
    let ended = ended_session(&rig, &session);
    assert_eq!(ended["closed"]["reason"]["kind"], "recording_failed", "{ended}");
    role_goes(&rig, &session);
    // What the server saw was recorded: here it is enough to count, for each was sent when the one before was answered.
    let ran = logged(&rig, &session).len();
    assert_eq!(ran, answered, "answered {answered}, ran {ran}");
    let records = rig.ok("bob", &["session", "replay", &session, "--json"]).unwrap();
    let recorded = records.lines().filter(|line| line.contains("\"k\":\"op\"")).count();
    assert!(recorded >= ran, "recorded {recorded}, ran {ran}");
    holds(&rig, &session);
    // No new session without room for its record.
    let text = refused(&rig, &who, &["SELECT 1"]);
    assert!(text.contains("FATAL") && text.contains("record"), "{text}");
    rig.stop().unwrap();
    drop(small);
    rig.start_again().unwrap();
    assert_eq!(ask(&rig, &who, &["SELECT 1"]), "1");
}

#[test]
fn a_gateway_cut_off_from_its_ledger_lets_nobody_in_and_ends_what_is_live_within_the_lease() {
    let mut rig = breakable();
    let who = guest_as(&rig, "reader");
    let mut psql = Psql::open(&rig, &who, "orders-db");
    let session = live_session(&rig, &who);
    let lock = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)\ndb.execute('BEGIN EXCLUSIVE')\nprint('locked', flush=True)\nsys.stdin.read()\n";
    let mut python = Command::new("python3");
    python.args(["-c", lock]).arg(rig.data().join("onus.db"));
    let mut locker = Running::spawn_with_stdin("python3", &mut python, Stdio::piped()).unwrap();
    locker.wait_for("locked", SOON).unwrap();
    let begun = Instant::now();
    let text = refused(&rig, &who, &["SELECT 1"]);
    assert!(text.contains("FATAL"), "{text}");
    assert!(text.contains("ledger"), "says what is wrong: {text}");
    // psql in its idle state is told; the lease is 15 s, and the clock is looked at every few.
    let lapsed = wait::until(Duration::from_secs(25), "the end of the session", || {
        psql.say("SELECT 1;");
        psql.running.ended()
    });
    lapsed.unwrap();
    assert!(psql.running.output().contains("57P01"), "{}", psql.running.output());
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    drop(locker.child().stdin.take());
    locker.wait(SOON).unwrap();
    let ended = ended_session(&rig, &session);
    assert_eq!(ended["closed"]["reason"]["kind"], "lease_lost", "{ended}");
    role_goes(&rig, &session);
    wait::until(SOON, "a new session", || rig.psql(&who, None, &["SELECT 1"]).unwrap().status.success().then_some(()))
        .unwrap();
    assert!(rig.serve.ended().is_none());
    holds(&rig, &session);
}

#[test]
fn a_resource_that_crashes_ends_its_sessions_and_their_roles_go_when_it_is_back() {
    let mut rig = breakable();
    let who = guest_as(&rig, "reader");
    let mut psql = Psql::open(&rig, &who, "orders-db");
    let session = live_session(&rig, &who);
    psql.say("SELECT pg_sleep(60);");
    rig.cluster.crash();
    psql.running.wait(SOON).unwrap_or_else(|_| {
        psql.say("SELECT 1;");
        psql.running.wait(SOON).unwrap()
    });
    let text = psql.running.output();
    assert!(text.contains("FATAL") || text.contains("closed the connection"), "{text}");
    let text = refused(&rig, &who, &["SELECT 1"]);
    assert!(text.contains("the resource cannot be reached") && text.contains("HINT"), "says that it is away: {text}");
    rig.cluster.start_again().unwrap();
    let back = wait::until(Duration::from_secs(60), "the role's end", || (!role_exists(&rig, &session)).then_some(()));
    back.unwrap();
    let ended = ended_session(&rig, &session);
    assert_eq!(ended["closed"]["reason"]["kind"], "upstream_closed", "{ended}");
    wait::until(SOON, "a new session", || rig.psql(&who, None, &["SELECT 1"]).unwrap().status.success().then_some(()))
        .unwrap();
    let left = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'onus_S%'";
    wait::until(SOON, "the end of all roles", || (rig.cluster.psql("postgres", left).unwrap() == "0").then_some(()))
        .unwrap();
}

#[test]
fn a_client_that_does_not_read_costs_no_memory() {
    let rig = breakable();
    let who = guest_as(&rig, "reader");
    let mut raw = Raw::open(&rig, &who);
    raw.query(b"SELECT repeat('x', 1000) FROM generate_series(1, 200000)");
    // Two hundred megabytes are on their way, and nobody takes them. What counts is the growth: how much the process
    // has already depends on what other tests made it do before.
    let before = rig.serve.usage().unwrap().rss_kib;
    let mut most = before;
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(100));
        most = most.max(rig.serve.usage().unwrap().rss_kib);
    }
    assert!(most < before + 64 * 1024, "from {before} to {most} KiB");
    // Others are not held up by it.
    assert_eq!(ask(&rig, &who, &["SELECT 1"]), "1");
    let answer = raw.until_ready();
    assert_eq!(answer.iter().filter(|message| message.kind == b'D').count(), 200_000);
    assert!(raw::ready(&answer, b'I'));
    let peak = rig.serve.usage().unwrap().peak_rss_kib;
    eprintln!("resident: at most {most} KiB while the client did not read, {peak} KiB ever");
}

#[test]
fn a_kill_reaches_a_client_that_does_not_read() {
    let rig = breakable();
    let who = guest_as(&rig, "reader");
    let mut raw = Raw::open(&rig, &who);
    let session = live_session(&rig, &who);
    raw.query(b"SELECT repeat('x', 1000) FROM generate_series(1, 200000)");
    std::thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    rig.ok("sam", &["kill", &session, "--session", "--reason", "stuck"]).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    role_goes(&rig, &session);
    let shown = json(&rig, "root-admin", &["session", "show", &session, "--json"]);
    assert_eq!(shown["closed"]["reason"]["kind"], "killed", "{shown}");
}

#[test]
fn a_hung_resource_does_not_keep_a_session_from_being_killed() {
    let rig = breakable();
    let who = guest_as(&rig, "reader");
    let mut psql = Psql::open(&rig, &who, "orders-db");
    let session = live_session(&rig, &who);
    let mut raw = Raw::open(&rig, &who);
    let backend = rig
        .cluster
        .psql("postgres", &format!("SELECT pid FROM pg_stat_activity WHERE usename = 'onus_{session}'"))
        .unwrap();
    let pid: u32 = backend.trim().parse().unwrap();
    let stop = |signal: &str| Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(stop("-STOP").success());
    psql.say("SELECT 1;");
    let begun = Instant::now();
    let output = rig.onus("sam", &["kill", &session, "--session", "--reason", "hung"]).unwrap();
    let text = said(&output);
    psql.running.wait(SOON).unwrap();
    let took = begun.elapsed();
    assert!(stop("-CONT").success());
    assert!(psql.running.output().contains("57P01"), "{}", psql.running.output());
    assert!(took < Duration::from_secs(15), "{took:?} {text}");
    role_goes(&rig, &session);
    assert!(raw::ready(&raw.run("SELECT 1"), b'I'), "others are not held up");
}
