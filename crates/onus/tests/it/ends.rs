//! Whatever made a session legitimate stops being true, and the session ends by itself; and who never was let in stays
//! out.

use crate::raw::{self, Raw, startup};
use crate::scene::{
    ONUS, Psql, SOON, ask, ended_session, guest, guest_as, json, live_session, refused, rig, role_goes, said,
};
use onus_testkit::Rig;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// A psql that is in, with its session's number.
fn inside(rig: &Rig, who: &str) -> (Psql, String) {
    let psql = Psql::open(rig, who, "orders-db");
    let session = live_session(rig, who);
    (psql, session)
}

/// The psql ends within seconds, with a FATAL that says why; the session's reason in the ledger is this one.
fn ends(rig: &Rig, psql: &mut Psql, session: &str, words: &str, kind: &str) {
    let ended = ended_session(rig, session);
    assert_eq!(ended["closed"]["reason"]["kind"], kind, "{ended}");
    // psql looks at its connection when it has something to say.
    psql.say("SELECT 'never'||'more';");
    let status = psql.running.wait(SOON).unwrap();
    let text = psql.running.output();
    assert!(!status.success() && !text.contains("nevermore"), "{text}");
    assert!(text.contains("FATAL:  ") && text.contains(words), "{text}");
    role_goes(rig, session);
}

#[test]
fn revoking_the_grant_ends_the_session() {
    let rig = rig();
    let who = guest(rig);
    let grant = rig.grant(&who, "reader", "bob").unwrap();
    let (mut psql, session) = inside(rig, &who);
    rig.ok("bob", &["grant", "revoke", &grant, "--reason", "done early"]).unwrap();
    ends(rig, &mut psql, &session, "the grant was revoked", "grant_revoked");
    assert!(refused(rig, &who, &["SELECT 1"]).contains("no active grant"));
}

#[test]
fn disabling_the_subject_ends_its_sessions_and_keeps_it_out() {
    let rig = rig();
    let who = guest_as(rig, "reader");
    let (mut psql, session) = inside(rig, &who);
    rig.ok("root-admin", &["subject", "disable", &who, "--reason", "laptop stolen"]).unwrap();
    ends(rig, &mut psql, &session, "the subject was disabled", "subject_disabled");
    let text = refused(rig, &who, &["SELECT 1"]);
    assert!(text.contains("disabled") && text.contains("laptop stolen"), "{text}");
    let asked = rig.onus(&who, &["whoami"]).unwrap();
    assert_eq!(asked.status.code(), Some(1), "{}", said(&asked));
}

#[test]
fn a_killed_and_disabled_subject_does_not_come_back() {
    let rig = rig();
    let who = guest_as(rig, "reader");
    let (mut psql, session) = inside(rig, &who);
    rig.ok("sam", &["kill", &who, "--subject", "--reason", "stolen key"]).unwrap();
    ends(rig, &mut psql, &session, "killed by sam: stolen key", "killed");
    // A kill by itself is no judgement about the person.
    assert_eq!(ask(rig, &who, &["SELECT 1"]), "1");
    rig.ok("root-admin", &["subject", "disable", &who, "--reason", "stolen key"]).unwrap();
    assert!(refused(rig, &who, &["SELECT 1"]).contains("disabled"));
    // Enabled again, the old key still opens nothing.
    rig.ok("root-admin", &["subject", "enable", &who, "--reason", "new laptop"]).unwrap();
    let text = refused(rig, &who, &["SELECT 1"]);
    assert!(text.contains("key is not enrolled"), "{text}");
}

#[test]
fn an_owner_who_leaves_ends_the_sessions_that_were_theirs_to_answer_for() {
    let rig = rig();
    let (spare, other) = (guest(rig), guest_as(rig, "reader"));
    let password = rig.path("upstream-password").display().to_string();
    rig.ok("root-admin", &["secret", "set", "spare-db/admin", "--user", "onus_gateway", "--password-file", &password])
        .unwrap();
    rig.grant_with(&spare, "bob", &["spare-db", "--role", "reader", "--for", "5m"]).unwrap();
    let mut psql = Psql::open(rig, &spare, "spare-db");
    let session = live_session(rig, &spare);
    let mut unaffected = Psql::open(rig, &other, "orders-db");
    rig.ok("root-admin", &["own", "left", "ursula", "--reason", "left the company"]).unwrap();
    ends(rig, &mut psql, &session, "ursula", "owner_missing");
    unaffected.says_and_hears("SELECT 'un' || 'touched';", "untouched");
    let mut command = rig.client("psql", &spare, None);
    command.env("PGDATABASE", "spare-db").args(["-X", "-c", "SELECT 1"]);
    let output = command.output().unwrap();
    let text = said(&output);
    assert!(!output.status.success() && text.contains("no grant without an owner on every plane"), "{text}");
    assert!(text.contains("ursula"), "{text}");
}

#[test]
fn another_policy_decides_from_the_next_statement_on() {
    let rig = rig();
    let who = guest_as(rig, "reader");
    let (mut psql, _session) = inside(rig, &who);
    psql.says_and_hears("SELECT 'cards: ' || count(*) FROM cards;", "cards: 100");
    let proposed = rig.path("proposed");
    fs::create_dir_all(&proposed).unwrap();
    for entry in fs::read_dir(rig.estate().join("policies")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, proposed.join(path.file_name().unwrap())).unwrap();
    }
    // About one guest only: the others share the gateway.
    let guard = format!(
        "@id(\"cards-are-closed\")\n@owner(\"petra\")\n@plane(\"elevation\")\n@why(\"nobody reads cards today\")\nforbid (principal == Onus::Subject::\"{who}\", action == Action::\"sql.select\", resource);\n"
    );
    let entity = fs::read_to_string(proposed.join("guards.cedar")).unwrap();
    let guard = if entity.contains("Onus::") { guard } else { guard.replace("Onus::Subject", "Subject") };
    fs::write(proposed.join("more.cedar"), guard).unwrap();
    rig.ok("root-admin", &["policy", "apply", &proposed.display().to_string()]).unwrap();
    psql.say("SELECT 'cards: ' || count(*) FROM cards;");
    let text = psql.hears("nobody reads cards today");
    assert!(text.contains("42501"), "{text}");
    psql.says_and_hears("SHOW server_version_num;", "1");
    // What fails validation changes nothing.
    fs::write(proposed.join("more.cedar"), "forbid (principal, action, resource);").unwrap();
    let output = rig.onus("root-admin", &["policy", "apply", &proposed.display().to_string()]).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    psql.say("SELECT count(*) FROM cards;");
    psql.running.wait_for_nth("nobody reads cards today", 2, SOON).unwrap();
}

#[test]
fn the_grants_deadline_ends_the_session() {
    let rig = rig();
    let who = guest(rig);
    rig.grant_with(&who, "bob", &["orders-db", "--role", "reader", "--for", "4s"]).unwrap();
    let (mut psql, session) = inside(rig, &who);
    psql.say("SELECT pg_sleep(60);");
    ends(rig, &mut psql, &session, "session ended by onus", "grant_expired");
    let text = refused(rig, &who, &["SELECT 1"]);
    assert!(text.contains("request"), "says what to do: {text}");
}

#[test]
fn a_certificate_without_its_key_opens_nothing() {
    let rig = rig();
    let (victim, thief) = (guest_as(rig, "reader"), guest(rig));
    let mut command = rig.client("psql", &victim, None);
    command.env("PGSSLKEY", rig.home(&thief).join("client.key")).args(["-X", "-c", "SELECT 1"]);
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("key"), "{}", said(&output));
    let count = json(rig, "root-admin", &["session", "list", "--all", "--json"]);
    assert!(!count.to_string().contains(&format!("\"subject\":\"{victim}\"")));
}

#[test]
fn a_self_made_certificate_opens_nothing() {
    let rig = rig();
    let who = guest_as(rig, "reader");
    let (key, certificate) = (rig.path("forged.key"), rig.path("forged.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    openssl.args(["-subj", &format!("/CN={who}")]).arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    assert!(openssl.output().unwrap().status.success());
    let mut command = rig.client("psql", &who, None);
    command.env("PGSSLKEY", &key).env("PGSSLCERT", &certificate).args(["-X", "-c", "SELECT 1"]);
    let output = command.output().unwrap();
    let text = said(&output);
    assert!(!output.status.success() && (text.contains("alert") || text.contains("SSL")), "{text}");
    // And none at all.
    let mut command = rig.client("psql", &who, None);
    command.env("PGSSLKEY", "/nonexistent").env("PGSSLCERT", "/nonexistent").args(["-X", "-c", "SELECT 1"]);
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{}", said(&output));
}

#[test]
fn another_persons_name_is_refused_with_a_hint() {
    let rig = rig();
    let (who, other) = (guest(rig), guest_as(rig, "reader"));
    let mut command = rig.client("psql", &who, None);
    command.env("PGUSER", &other).args(["-X", "-c", "SELECT 1"]);
    let output = command.output().unwrap();
    let text = said(&output);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains(&format!("the certificate is `{who}`'s")) && text.contains(&format!("user={who}")), "{text}");
    let output = rig.psql(&other, Some("no-such-role"), &["SELECT 1"]).unwrap();
    assert!(!output.status.success() && said(&output).contains("no-such-role"), "{}", said(&output));
    let mut command = rig.client("psql", &other, None);
    command.env("PGDATABASE", "no-such-db").args(["-X", "-c", "SELECT 1"]);
    let text = said(&command.output().unwrap());
    assert!(text.contains("no resource `no-such-db`"), "{text}");
}

#[test]
fn without_tls_the_error_says_what_to_do() {
    let rig = rig();
    let who = guest_as(rig, "reader");
    let mut command = rig.client("psql", &who, None);
    for name in ["PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"] {
        command.env_remove(name);
    }
    command.env("PGSSLMODE", "disable").args(["-X", "-c", "SELECT 1"]);
    let output = command.output().unwrap();
    let text = said(&output);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("speaks only TLS") && text.contains("sslmode=verify-full"), "{text}");
}

#[test]
fn nobody_sees_another_gateways_ca_by_accident() {
    let rig = rig();
    let who = guest_as(rig, "reader");
    // What a client trusts is the pinned authority: with another one it does not go on.
    let other = tempfile::tempdir().unwrap();
    let made = onus_testkit::tls::make(other.path(), &["localhost"]).unwrap();
    let mut command = rig.client("psql", &who, None);
    command.env("PGSSLROOTCERT", &made.ca).args(["-X", "-c", "SELECT 1"]);
    let text = said(&command.output().unwrap());
    assert!(text.contains("certificate verify failed"), "{text}");
    let server = format!("https://localhost:{}", rig.api_port);
    let code = other.path().join("code");
    fs::write(&code, "AAAA-BBBB").unwrap();
    let mut enroll = Command::new(ONUS);
    enroll.env("ONUS_HOME", other.path().join("home")).args(["enroll", "alice", "--server", &server]);
    enroll.args(["--ca-fingerprint", &format!("sha256:{}", "00".repeat(32))]);
    enroll.arg("--code-file").arg(&code).arg("--password-file").arg(rig.path("password"));
    let output = enroll.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(!Path::new(&other.path().join("home/client.pem")).exists());
}

#[test]
fn a_refused_start_up_is_one_clear_fatal_error() {
    let rig = rig();
    let who = guest(rig);
    let mut raw = Raw::knock(rig, &who);
    raw.stream.write_all(&startup(3 << 16, &[("user", &who), ("database", "orders-db")])).unwrap();
    let answer = raw.until_ready();
    assert_eq!(answer.len(), 1, "{answer:?}");
    assert_eq!((raw::error(&answer).field(b'S'), raw::error(&answer).field(b'C')), ("FATAL".into(), "28000".into()));
    assert!(raw::error(&answer).field(b'M').contains("onus request orders-db"), "{answer:?}");
}
