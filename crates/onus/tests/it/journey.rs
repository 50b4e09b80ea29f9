//! A person's day: asking, being let in, being held, being refused, being ended; and what is known of it afterwards.

use crate::raw::{self, Raw};
use crate::scene::{
    ONUS, Psql, SOON, ask, ended_session, guest, guest_as, json, live_session, refused, rig, role_exists, role_goes,
    said, sessions_of, turned_down,
};
use onus_ledger::tile::{Tile, TileKind, decode_bundle, encode_bundle};
use onus_ledger::{Checkpoint, Hash, KeyName, SigningKey};
use onus_testkit::proc::Running;
use onus_testkit::wait;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_role_is_requested_and_approved_by_another_and_then_used() {
    let rig = rig();
    let who = guest(rig);
    let text = refused(rig, &who, &["SELECT 1"]);
    assert!(text.contains("onus request orders-db --role"), "says what to type: {text}");
    let asked = json(
        rig,
        "bob",
        &["request", "orders-db", "--role", "reader", "--purpose", "INC-42: a purpose", "--for", "5m", "--json"],
    );
    let own = asked["request"].as_str().unwrap();
    let text = turned_down(rig, "bob", &["approve", own]);
    assert!(text.contains("nobody approves their own request"), "{text}");
    rig.ok("bob", &["refuse", own, "--reason", "only a test"]).unwrap();

    let asked = json(
        rig,
        &who,
        &["request", "orders-db", "--role", "reader", "--purpose", "INC-42: a purpose", "--for", "5m", "--json"],
    );
    let request = asked["request"].as_str().unwrap();
    let stranger = guest(rig);
    let text = turned_down(rig, &stranger, &["approve", request]);
    assert!(text.contains("needs one of") || text.contains("no open request"), "{text}");
    turned_down(rig, "root-admin", &["approve", request]);
    rig.ok("bob", &["approve", request]).unwrap();
    assert_eq!(ask(rig, &who, &["SELECT count(*) FROM orders"]), "1000");
    // Through libpq's direct TLS and with the role's name, too.
    let output = rig.psql(&who, Some("reader"), &["SELECT status FROM orders WHERE id = 42"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "stuck", "{}", said(&output));
    let resources = rig.ok(&who, &["resource", "list"]).unwrap();
    assert!(resources.contains("orders-db") && resources.contains("reader"), "{resources}");
    assert!(rig.ok(&who, &["grant", "list"]).unwrap().contains(&who));
}

/// The hold that somebody's operation waits under, from psql's own NOTICE.
fn held(psql: &Psql) -> String {
    let notice = psql.hears("onus confirm H-");
    let from = notice.find("H-").unwrap();
    notice[from..].split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap().to_owned()
}

#[test]
fn a_write_without_where_waits_until_another_person_confirms_exactly_it() {
    let rig = rig();
    let (who, stranger) = (guest_as(rig, "writer"), guest(rig));
    let mut psql = Psql::open(rig, &who, "orders-db");
    psql.say("BEGIN;");
    psql.say("UPDATE orders SET customer = customer || ' (checked)' RETURNING 'row ' || id;");
    let hold = held(&psql);
    let pending = wait::until(SOON, "the pending hold", || {
        let text = rig.ok("bob", &["pending"]).unwrap();
        text.contains(&hold).then_some(text)
    })
    .unwrap();
    assert!(pending.contains("' (checked)'"), "bob reads what he answers for: {pending}");
    let strange = rig.ok(&stranger, &["pending", "--json"]).unwrap();
    assert!(!strange.contains("checked") && !strange.contains(&hold), "{strange}");
    let own = turned_down(rig, &who, &["confirm", &hold]);
    assert!(own.contains("nobody confirms their own"), "{own}");
    turned_down(rig, &stranger, &["confirm", &hold]);
    turned_down(rig, &stranger, &["refuse", &hold, "--reason", "because"]);
    assert!(!psql.running.output().contains("row 1"), "it waits");
    rig.ok("bob", &["confirm", &hold]).unwrap();
    psql.hears("row 1000");
    let rows = psql.running.output().lines().filter(|line| line.starts_with("row ")).count();
    assert_eq!(rows, 1000);
    psql.say("ROLLBACK;");
    turned_down(rig, "bob", &["confirm", &hold]);

    // The same statement again needs a confirmation again, and may be refused.
    psql.say("UPDATE orders SET customer = customer || ' (checked)' RETURNING 'row ' || id;");
    let again = wait::until(SOON, "the second hold", || {
        let listed = json(rig, "bob", &["pending", "--json"]);
        let holds = listed["holds"].as_array()?.clone();
        Some(holds.iter().find(|hold| hold["subject"] == who.as_str())?["id"].as_str()?.to_owned())
    })
    .unwrap();
    assert_ne!(again, hold);
    rig.ok("bob", &["refuse", &again, "--reason", "not today"]).unwrap();
    let text = psql.hears("refused by onus");
    assert!(text.contains("42501") && text.contains("not today"), "{text}");
    psql.says_and_hears("SELECT 'still ' || 'here';", "still here");
    assert_eq!(rig.cluster.psql("app", "SELECT count(*) FROM orders WHERE customer LIKE '%checked%'").unwrap(), "0");
}

#[test]
fn a_refusal_names_policy_owner_and_reason_and_what_to_do() {
    let rig = rig();
    let who = guest_as(rig, "writer");
    let text = refused(rig, &who, &["GRANT SELECT ON orders TO public"]);
    assert!(text.contains("ERROR:  42501: refused by onus: "), "{text}");
    assert!(text.contains("DETAIL:  policy `privileges`, owned by petra: "), "{text}");
    assert!(text.contains("HINT:  ask petra, or request a role that permits it: onus request orders-db"), "{text}");
    let text = refused(rig, &who, &["DROP TABLE orders"]);
    assert!(text.contains("42501: refused by onus") && text.contains("DETAIL:") && text.contains("HINT:"), "{text}");
    assert_eq!(rig.cluster.psql("app", "SELECT count(*) FROM orders").unwrap(), "1000");
}

#[test]
fn a_refusal_inside_a_transaction_fails_the_transaction() {
    let rig = rig();
    let who = guest_as(rig, "writer");
    let mut raw = Raw::open(rig, &who);
    assert!(raw::ready(&raw.run("BEGIN"), b'T'));
    raw.run("UPDATE orders SET total = 0 WHERE id = 7");
    let refused = raw.run("DROP TABLE cards");
    assert_eq!(raw::error(&refused).field(b'C'), "42501");
    assert!(raw::ready(&refused, b'E'), "{refused:?}");
    let after = raw.run("SELECT 1");
    assert_eq!(raw::error(&after).field(b'C'), "25P02");
    let commit = raw.run("COMMIT");
    assert_eq!(commit[0].kind, b'C');
    assert_eq!(commit[0].body, b"ROLLBACK\0");
    assert_ne!(rig.cluster.psql("app", "SELECT total FROM orders WHERE id = 7").unwrap(), "0");
}

#[test]
fn no_evasion_gets_past() {
    let rig = rig();
    let who = guest_as(rig, "writer");
    let before = rig.cluster.psql("app", "SELECT md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o").unwrap();
    let evasions: &[&[&str]] = &[
        &["DO $$ BEGIN EXECUTE 'DROP TABLE orders CASCADE'; END $$"],
        &["PREPARE p AS SELECT 1", "DO 'BEGIN DELETE FROM orders; END'"],
        &["DROP /* SELECT */ TABLE -- harmless\n orders CASCADE"],
        &["/*!DROP*/ dRoP\tTABLE\n\"orders\" CASCADE"],
        &["SET search_path = hidden, public", "DROP TABLE orders"],
        &["SELECT cancel_everything()"],
        &["SELECT 1 FROM (SELECT cancel_everything()) AS x"],
        &["SELECT count(*) FROM orders WHERE public.cancel_everything() IS NULL"],
        &["COPY (SELECT 1) TO PROGRAM 'touch /tmp/onus-e2e-evasion'"],
        &["COPY orders TO '/tmp/onus-e2e-evasion'"],
        &["SELECT lo_export(1, '/tmp/onus-e2e-evasion')"],
        &["SELECT pg_read_file('/etc/passwd')"],
        &["SELECT 1 WHERE set_config('role', 'app_owner', false) IS NOT NULL"],
        &["SELECT (SELECT set_config('session_authorization', 'app_owner', true))"],
        &["SET ROLE app_owner"],
        &["RESET ROLE; DROP TABLE orders CASCADE"],
        &["SELECT 1; DROP TABLE orders CASCADE"],
        &["SELECT 1; COMMIT; DELETE FROM cards WHERE id > 0; DROP TABLE cards"],
        &["EXPLAIN ANALYZE CREATE TABLE planted AS SELECT 1"],
        &["WITH gone AS (DELETE FROM cards RETURNING 1) SELECT cancel_everything() FROM gone"],
        &["CREATE FUNCTION pg_temp.f() RETURNS void LANGUAGE sql AS 'DELETE FROM orders'"],
        &["SELECT * FROM pg_authid"],
        &["SELECT query_to_xml('DELETE FROM orders RETURNING 1', true, true, '')"],
        &["ALTER TABLE orders DISABLE ROW LEVEL SECURITY"],
        &["\u{feff}DROP TABLE orders"],
        &["SELECT U&'\\0044ROP'; DROP TABLE \"orders\" CASCADE"],
    ];
    for evasion in evasions {
        let text = refused(rig, &who, evasion);
        assert!(text.contains("refused by onus") || text.contains("42601"), "{evasion:?}: {text}");
    }
    // PREPARE is decided by what it holds, and EXECUTE of what was not let in finds nothing.
    let reader = guest_as(rig, "reader");
    for prepared in [
        &["PREPARE p AS UPDATE orders SET total = 0 WHERE id = 1"][..],
        &["PREPARE p AS UPDATE orders SET total = 0 WHERE id = 1; EXECUTE p"],
        &["PREPARE p AS WITH w AS (UPDATE orders SET total = 0 WHERE id = 1 RETURNING 1) SELECT * FROM w; EXECUTE p"],
        &["SELECT 1; EXECUTE nothing"],
    ] {
        let text = refused(rig, &reader, prepared);
        assert!(text.contains("refused by onus") || text.contains("26000"), "{prepared:?}: {text}");
    }
    let after = rig.cluster.psql("app", "SELECT md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o").unwrap();
    assert_eq!(after, before);
    assert_eq!(rig.cluster.psql("app", "SELECT count(*) FROM cards").unwrap(), "100");
    assert!(!Path::new("/tmp/onus-e2e-evasion").exists());
}

#[test]
fn a_function_call_message_and_a_bad_second_statement_are_not_relayed() {
    let rig = rig();
    let who = guest_as(rig, "writer");
    let mut raw = Raw::open(rig, &who);
    // FunctionCall of lo_creat-like oid 764 with no arguments, text results.
    let mut body = 764_u32.to_be_bytes().to_vec();
    body.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
    raw.send(b'F', &body);
    let answer = raw.until_ready();
    assert!(!answer.iter().any(|message| message.kind == b'V'), "{answer:?}");
    let refused = raw::error(&answer);
    assert!(refused.field(b'M').contains("onus"), "{refused:?}");

    let mut raw = Raw::open(rig, &who);
    let answer = raw.run("SELECT 'first'; DROP TABLE orders");
    assert_eq!(raw::error(&answer).field(b'C'), "42501");
    assert!(!answer.iter().any(|message| message.kind == b'D'), "nothing of it ran: {answer:?}");
    assert!(raw::ready(&raw.run("SELECT 1"), b'I'));
    assert_eq!(rig.cluster.psql("app", "SELECT count(*) FROM orders").unwrap(), "1000");
}

#[test]
fn a_scope_is_not_widened_by_the_search_path() {
    let rig = rig();
    let who = guest(rig);
    rig.grant_with(&who, "bob", &["orders-db", "--role", "reader", "--for", "5m", "--relation", "public.orders"])
        .unwrap();
    assert_eq!(ask(rig, &who, &["SELECT count(*) FROM orders"]), "1000");
    let reaches: &[&[&str]] = &[
        &["SELECT * FROM cards"],
        &["SELECT * FROM hidden.orders"],
        &["SET search_path = hidden; SELECT * FROM orders"],
        &["SET search_path = hidden", "SELECT * FROM orders"],
        &["SELECT set_config('search_path', 'hidden', false)", "SELECT * FROM orders"],
        &["SET search_path = hidden", "PREPARE p AS SELECT * FROM orders", "EXECUTE p"],
        &["SELECT * FROM orders UNION ALL SELECT id, number, '', 0 FROM public.cards"],
        &["TABLE hidden.orders"],
    ];
    for reach in reaches {
        let text = refused(rig, &who, reach);
        assert!(text.contains("refused by onus"), "{reach:?}: {text}");
        assert!(!text.contains("HIDDEN-ROW") && !text.contains("4000-0000"), "{reach:?}: {text}");
    }
}

#[test]
fn a_kill_ends_what_runs_and_leaves_no_role_behind() {
    let rig = rig();
    let who = guest_as(rig, "reader");
    let mut command = rig.client("psql", &who, None);
    command.args(["-X", "-v", "VERBOSITY=verbose", "-c", "SELECT pg_sleep(60)"]);
    let mut psql = Running::spawn("psql", &mut command).unwrap();
    let session = live_session(rig, &who);
    wait::until(SOON, "the statement", || {
        let running = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = 'onus_{session}' AND query LIKE '%pg_sleep%' AND state = 'active'");
        (rig.cluster.psql("postgres", &running).unwrap() != "0").then_some(())
    })
    .unwrap();
    assert!(role_exists(rig, &session));
    let stranger = guest(rig);
    turned_down(rig, &stranger, &["kill", &session, "--session", "--reason", "no business of mine"]);
    let begun = Instant::now();
    let times = rig.ok("sam", &["kill", &session, "--session", "--reason", "exfiltration, INC-77"]).unwrap();
    let status = psql.wait(Duration::from_secs(5)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(!status.success());
    let text = psql.output();
    assert!(text.contains("FATAL:  57P01: session ended by onus: killed by sam: exfiltration, INC-77"), "{text}");
    assert!(times.contains(&session) && times.contains(" ms") && !times.contains("not yet"), "{times}");
    assert!(!role_exists(rig, &session), "the kill was complete, so the role is gone");
    let ended = ended_session(rig, &session);
    assert_eq!(ended["closed"]["reason"]["kind"], "killed", "{ended}");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND usename LIKE 'onus_S%'";
    wait::until(SOON, "the statement's end", || (rig.cluster.psql("postgres", running).unwrap() == "0").then_some(()))
        .unwrap();
    let findings = rig.ok("sam", &["who", &session]).unwrap();
    assert!(findings.contains("sam") || findings.contains("petra"), "{findings}");
}

#[test]
fn what_was_done_is_replayed_verified_and_answered_for() {
    let rig = rig();
    let (who, stranger) = (guest_as(rig, "writer"), guest(rig));
    ask(rig, &who, &["UPDATE orders SET status = 'paid' WHERE id = 43", "SELECT id FROM orders WHERE id < 4"]);
    refused(rig, &who, &["DROP TABLE cards"]);
    let sessions = sessions_of(rig, &who, true);
    let session = sessions[0]["session"].as_str().unwrap().to_owned();
    ended_session(rig, &session);
    role_goes(rig, &session);

    let listed = rig.ok(&who, &["session", "list", "--all"]).unwrap();
    assert!(listed.contains(&session), "{listed}");
    let strange = rig.ok(&stranger, &["session", "list", "--all"]).unwrap();
    assert!(!strange.contains(&session), "{strange}");
    for command in [
        &["session", "show", &session][..],
        &["session", "replay", &session],
        &["who", &session],
        &["verify", "--session", &session],
    ] {
        turned_down(rig, &stranger, command);
    }
    let shown = rig.ok("bob", &["session", "show", &session]).unwrap();
    assert!(shown.contains(&who) && shown.contains("INC-42"), "{shown}");
    let replay = rig.ok("bob", &["session", "replay", &session]).unwrap();
    assert!(
        replay.contains("UPDATE orders SET status = 'paid' WHERE id = 43") && replay.contains("UPDATE 1"),
        "{replay}"
    );
    let records = rig.ok("bob", &["session", "replay", &session, "--json"]).unwrap();
    assert!(records.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{records}");
    let findings = rig.ok("bob", &["who", &session]).unwrap();
    assert!(findings.contains("petra") && findings.contains("bob"), "owner and approver: {findings}");
    rig.ok("bob", &["verify", "--session", &session]).unwrap();
    let data = rig.data().display().to_string();
    let verified = rig.ok("bob", &["verify", "--session", &session, "--data", &data]).unwrap();
    assert!(verified.contains("holds"), "{verified}");

    let second = sessions_of(rig, &who, true)[1]["session"].as_str().unwrap().to_owned();
    ended_session(rig, &second);
    let replay = rig.ok("bob", &["session", "replay", &second]).unwrap();
    assert!(replay.contains("DROP TABLE cards"), "a refused statement is recorded too: {replay}");

    // A journal that was touched does not verify.
    let copy = rig.path("touched");
    copy_dir(&rig.data(), &copy);
    let segment = fs::read_dir(copy.join("journals").join(&session)).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let copied = copy.display().to_string();
    let text = turned_down(rig, "bob", &["verify", "--session", &session, "--data", &copied]);
    assert!(text.contains("does NOT hold"), "{text}");
}

fn copy_dir(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// A copy of the ledger, for damaging.
struct Copy {
    folder: PathBuf,
    key: PathBuf,
}

impl Copy {
    fn of(data: &Path, folder: PathBuf) -> Self {
        let output = Command::new(ONUS).args(["ledger", "export", "--data"]).arg(data).arg(&folder).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        Self { folder, key: data.join("keys/ledger.vkey") }
    }

    fn verify(&self) -> (Option<i32>, String) {
        let mut command = Command::new(ONUS);
        command.args(["ledger", "verify", "--copy"]).arg(&self.folder).arg("--key-file").arg(&self.key);
        let output = command.output().unwrap();
        (output.status.code(), said(&output))
    }

    /// The last bundle of entries, whatever its width: its path and entries.
    fn bundle(&self) -> (PathBuf, Vec<Vec<u8>>) {
        let found = (1..=256).rev().find_map(|width| {
            let path = self.folder.join(Tile::new(TileKind::Entries, 0, width).unwrap().path());
            path.is_file().then_some(path)
        });
        let path = found.expect("a bundle");
        let bytes = fs::read(&path).unwrap();
        (path, decode_bundle(&bytes).unwrap().into_iter().map(<[u8]>::to_vec).collect())
    }

    fn size(&self) -> u64 {
        let note = fs::read_to_string(self.folder.join("checkpoint")).unwrap();
        note.lines().nth(1).unwrap().parse().unwrap()
    }
}

#[test]
fn a_ledger_that_was_touched_is_caught_and_the_entry_named() {
    let rig = rig();
    let data = rig.data();
    let name = data.display().to_string();
    let key = data.join("keys/ledger.vkey").display().to_string();
    let text = rig.ok("bob", &["ledger", "verify", "--data", &name, "--key-file", &key]).unwrap();
    assert!(text.contains("entries"), "{text}");
    let fresh = |what: &str| Copy::of(&data, rig.path(&format!("ledger-{what}")));
    let whole = fresh("whole");
    let (status, text) = whole.verify();
    assert_eq!(status, Some(0), "{text}");

    let caught = |copy: &Copy, entry: &str| {
        let (status, text) = copy.verify();
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains(entry), "`{entry}` is not named: {text}");
    };

    let flipped = fresh("flipped");
    let (path, mut entries) = flipped.bundle();
    let middle = entries[5].len() / 2;
    entries[5][middle] ^= 1;
    fs::write(&path, encode_bundle(&entries).unwrap()).unwrap();
    caught(&flipped, "entry 5");

    let swapped = fresh("swapped");
    let (path, mut entries) = swapped.bundle();
    entries.swap(7, 9);
    fs::write(&path, encode_bundle(&entries).unwrap()).unwrap();
    caught(&swapped, "7");
    caught(&swapped, "9");

    let removed = fresh("removed");
    let (path, mut entries) = removed.bundle();
    entries.remove(6);
    fs::write(&path, encode_bundle(&entries).unwrap()).unwrap();
    caught(&removed, "6");

    // By somebody who has the key: another root for a size that was signed before.
    let forked = fresh("forked");
    let seed = fs::read_to_string(data.join("keys/ledger.key")).unwrap();
    let mut bytes = [0; 32];
    let hexed = seed.trim();
    assert_eq!(hexed.len(), 64, "the key file's form is known");
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hexed[2 * at..2 * at + 2], 16).unwrap();
    }
    let origin = fs::read_to_string(forked.folder.join("checkpoint")).unwrap().lines().next().unwrap().to_owned();
    let signer = SigningKey::from_seed(KeyName::new(&origin).unwrap(), &bytes);
    let other = Checkpoint::new(KeyName::new(&origin).unwrap(), forked.size(), Hash([7; 32])).sign(&signer).unwrap();
    fs::write(forked.folder.join("checkpoint"), other.to_string()).unwrap();
    caught(&forked, &forked.size().to_string());

    // And one whose signature is nobody's.
    let unsigned = fresh("unsigned");
    let note = fs::read_to_string(unsigned.folder.join("checkpoint")).unwrap();
    let size = unsigned.size();
    let rolled = note.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size - 1), 1);
    fs::write(unsigned.folder.join("checkpoint"), rolled).unwrap();
    let (status, text) = unsigned.verify();
    assert_eq!(status, Some(1), "{text}");
}
