//! An SSH session ends with what made it legitimate, takes what it runs with it, and who never was let in stays out.

use crate::scene::{SOON, ended_session, guest, json, live_session, sessions_of};
use crate::ssh_scene::{
    admitted, admitted_to, background, begins, ends, home, last_session, lasting, listing, processes, rig, sleep, sshd,
    wrote,
};
use onus_testkit::proc::{self, Running, Signal};
use onus_testkit::ssh_client::{Client, run_to_end};
use onus_testkit::ssh_keys::{Certificate, Kind};
use onus_testkit::ssh_tools::Program;
use onus_testkit::{Rig, tree, wait};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_kill_ends_the_client_and_what_it_runs() {
    let rig = rig();
    let (who, client) = admitted(rig, "operator");
    let mut ssh = background(&client, &["web-1", &sleep(600001)]);
    let session = live_session(rig, &who);
    begins(600001);
    let begun = Instant::now();
    let times = rig.ok("sam", &["kill", &session, "--session", "--reason", "exfiltration, INC-77"]).unwrap();
    let status = ssh.wait(Duration::from_secs(5)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(status.code(), Some(255));
    let text = ssh.output();
    assert!(text.contains("killed by sam") && text.contains("INC-77"), "{text}");
    ends(600001);
    assert!(times.contains(&session) && times.contains(" ms"), "{times}");
    let ended = ended_session(rig, &session);
    assert_eq!(ended["closed"]["reason"]["kind"], "killed", "{ended}");
    assert!(listing(rig, &session).contains(&sleep(600001)));
    // By itself no judgement about the person.
    assert_eq!(client.ssh(&["web-1", "true"]).unwrap().code(), Some(0));
}

#[test]
fn a_kill_ends_every_channel_and_says_so_at_a_terminal() {
    let rig = rig();
    let (who, mut client) = admitted(rig, "operator");
    client.option("ControlMaster auto").unwrap();
    client.option("ControlPersist 20").unwrap();
    client.ssh(&["web-1", "true"]).unwrap().ok().unwrap();
    let session = live_session(rig, &who);
    let mut others = [background(&client, &["web-1", &sleep(600002)]), background(&client, &["web-1", &sleep(600003)])];
    begins(600002);
    begins(600003);
    rig.ok("sam", &["kill", &session, "--session", "--reason", "enough"]).unwrap();
    for ssh in &mut others {
        assert_eq!(ssh.wait(SOON).unwrap().code(), Some(255));
    }
    ends(600002);
    ends(600003);
    // A shared connection's own words come from the process in the background; at a terminal of one's own they are seen.
    let (who, client) = admitted(rig, "operator");
    let pty = client.interactive(&["-tt", "web-1"], Default::default()).unwrap();
    pty.expect("$ ", SOON).unwrap();
    let session = live_session(rig, &who);
    rig.ok("sam", &["kill", &session, "--session", "--reason", "enough"]).unwrap();
    pty.expect("killed by sam: enough", SOON).unwrap();
}

#[test]
fn revoking_the_grant_ends_the_session() {
    let rig = rig();
    let who = guest(rig);
    let grant = rig.grant_with(&who, "bob", &["web-1", "--role", "operator", "--for", "30m"]).unwrap();
    let client = rig.ssh(&who).unwrap();
    let mut ssh = background(&client, &["web-1", &sleep(600004)]);
    let session = live_session(rig, &who);
    begins(600004);
    rig.ok("bob", &["grant", "revoke", &grant, "--reason", "done early"]).unwrap();
    assert_eq!(ssh.wait(SOON).unwrap().code(), Some(255));
    assert!(ssh.output().contains("the grant was revoked"), "{}", ssh.output());
    ends(600004);
    assert_eq!(ended_session(rig, &session)["closed"]["reason"]["kind"], "grant_revoked");
    let ran = client.ssh(&["web-1", "true"]).unwrap();
    assert!(ran.code() == Some(255) && ran.stderr.contains("onus request web-1"), "says what to do: {}", wrote(&ran));
}

#[test]
fn the_grants_deadline_ends_the_session() {
    let rig = rig();
    let who = guest(rig);
    rig.grant_with(&who, "bob", &["web-1", "--role", "operator", "--for", "4s"]).unwrap();
    let client = rig.ssh(&who).unwrap();
    let mut ssh = background(&client, &["web-1", &sleep(600005)]);
    let session = live_session(rig, &who);
    assert_eq!(ssh.wait(SOON).unwrap().code(), Some(255));
    ends(600005);
    assert_eq!(ended_session(rig, &session)["closed"]["reason"]["kind"], "grant_expired");
}

#[test]
fn a_host_that_drops_the_connection_is_named() {
    let rig = rig();
    let (who, client) = admitted(rig, "operator");
    let mut ssh = background(&client, &["web-1", &sleep(600006)]);
    let session = live_session(rig, &who);
    begins(600006);
    // This session's process of the server's only: others share the server.
    let (runs, listener) = (processes(&lasting(600006)), sshd(rig).pid().unwrap());
    let of_it = wait::until(SOON, "the server's process for it", || {
        let own = |pid: &u32| tree::descendants(*pid).iter().any(|below| runs.contains(below));
        tree::descendants(listener).into_iter().find(own)
    })
    .unwrap();
    proc::send(of_it, Signal::Kill);
    assert_eq!(ssh.wait(SOON).unwrap().code(), Some(255));
    assert!(ssh.output().contains("onus: the host closed the connection"), "{}", ssh.output());
    let ended = ended_session(rig, &session);
    assert_eq!(ended["closed"]["reason"]["kind"], "upstream_closed", "{ended}");
    rig.ok("bob", &["verify", "--session", &session]).unwrap();
}

#[test]
fn another_host_key_is_refused_and_noted() {
    let rig = rig();
    let (who, client) = admitted_to(rig, "web-changed", "operator");
    let marker = home(rig).join("canary/changed");
    let ran = client.ssh(&["web-changed", &format!("touch {}", marker.display())]).unwrap();
    assert_eq!(ran.code(), Some(255));
    assert!(ran.stderr.contains("host key") && !marker.exists(), "{}", wrote(&ran));
    let session = last_session(rig, &who);
    let shown = json(rig, "root-admin", &["session", "show", &session, "--json"]);
    let seen = sshd(rig).host_keys()[0].fingerprint().unwrap();
    assert_eq!(shown["host_keys"][0]["seen"], seen.as_str(), "{shown}");
    let sessions = sshd(rig).log();
    assert!(!sessions.contains(&session), "nothing was said to that host");
}

#[test]
fn hosts_are_known_by_their_authority_too() {
    let rig = rig();
    let (_, client) = admitted_to(rig, "web-certified", "operator");
    let ran = client.ssh(&["web-certified", "echo certified"]).unwrap();
    assert_eq!(ran.text(), "certified\n", "{}", wrote(&ran));
}

#[test]
fn without_a_grant_the_words_say_what_to_do() {
    let rig = rig();
    let who = guest(rig);
    let client = rig.ssh(&who).unwrap();
    let ran = client.ssh(&["web-1", "true"]).unwrap();
    assert_eq!(ran.code(), Some(255));
    assert!(ran.stderr.contains("onus request web-1"), "{}", wrote(&ran));
}

/// A client that was set up by hand with another certificate.
fn with_certificate(rig: &Rig, who: &str, authority: &Kind, validity: &str) -> Client {
    let mut client = Client::new().unwrap();
    let ca = client.new_key("ca", *authority).unwrap();
    let key = client.new_key("id", Kind::Ecdsa256).unwrap();
    client.host("web-1", "127.0.0.1", rig.ssh_port, &format!("{who}+web-1"), &["HostKeyAlias localhost"]).unwrap();
    let known = fs::read_to_string(rig.home(who).join("known_hosts")).unwrap();
    fs::write(client.path("known"), known).unwrap();
    client.option(&format!("UserKnownHostsFile {}", client.path("known").display())).unwrap();
    client.identify(&key).unwrap();
    let said = Certificate { id: who, principals: &[who], serial: 1, validity, options: &[] };
    client.certify(&ca.sign_user(&key.public, &said).unwrap()).unwrap();
    client
}

#[test]
fn another_authoritys_certificate_and_a_bare_key_open_nothing() {
    let rig = rig();
    let (who, _) = admitted(rig, "operator");
    let client = with_certificate(rig, &who, &Kind::Ed25519, "+5m");
    let ran = client.ssh(&["web-1", "true"]).unwrap();
    assert_eq!(ran.code(), Some(255));
    assert!(ran.stderr.contains("Permission denied"), "{}", wrote(&ran));
    assert!(sessions_of(rig, &who, true).is_empty());
    // Somebody else's name with one's own certificate.
    let (other, thief) = admitted(rig, "operator");
    assert_ne!(other, who);
    let ran = thief.ssh(&["-l", &format!("{who}+web-1"), "web-1", "true"]).unwrap();
    assert_eq!(ran.code(), Some(255));
    assert!(ran.stderr.contains(&format!("the certificate is `{other}`'s")), "{}", wrote(&ran));
}

#[test]
fn a_client_that_does_not_know_the_gateway_does_not_go_on() {
    let rig = rig();
    let (who, _) = admitted(rig, "operator");
    let client = rig.ssh(&who).unwrap();
    let ran = client.ssh(&["-o", "UserKnownHostsFile=/dev/null", "web-1", "true"]).unwrap();
    assert!(ran.code() == Some(255) && ran.stderr.contains("Host key verification failed"), "{}", wrote(&ran));
    let known = fs::read_to_string(rig.home(&who).join("known_hosts")).unwrap();
    assert!(known.lines().all(|line| line.starts_with("@cert-authority ")), "{known}");
}

#[test]
fn a_removed_key_ends_the_session_and_opens_nothing() {
    let rig = rig();
    let (who, client) = admitted(rig, "operator");
    let mut ssh = background(&client, &["web-1", &sleep(600007)]);
    let session = live_session(rig, &who);
    begins(600007);
    rig.ok("root-admin", &["subject", "disable", &who, "--reason", "laptop stolen"]).unwrap();
    assert_eq!(ssh.wait(SOON).unwrap().code(), Some(255));
    ends(600007);
    assert_eq!(ended_session(rig, &session)["closed"]["reason"]["kind"], "subject_disabled");
    rig.ok("root-admin", &["subject", "enable", &who, "--reason", "new laptop"]).unwrap();
    let ran = client.ssh(&["web-1", "true"]).unwrap();
    assert!(ran.code() == Some(255) && ran.stderr.contains("key is not enrolled"), "{}", wrote(&ran));
}

#[test]
fn a_client_that_hangs_up_at_a_terminal_leaves_nothing_running() {
    let rig = rig();
    let (who, client) = admitted(rig, "operator");
    let mut ssh = background(&client, &["-tt", "web-1", &sleep(600008)]);
    let session = live_session(rig, &who);
    begins(600008);
    ssh.kill9();
    ends(600008);
    let ended = ended_session(rig, &session);
    assert_eq!(ended["closed"]["reason"]["kind"], "client_closed", "{ended}");
}

#[test]
fn a_client_that_vanishes_without_a_terminal_leaves_nothing_running_either() {
    let rig = rig();
    let (who, client) = admitted(rig, "operator");
    let mut ssh = background(&client, &["web-1", &sleep(600031)]);
    let session = live_session(rig, &who);
    begins(600031);
    ssh.kill9();
    ends(600031);
    assert_eq!(ended_session(rig, &session)["closed"]["reason"]["kind"], "client_closed");
}

#[test]
fn an_audit_of_the_door_finds_nothing_weak() {
    let rig = rig();
    let Ok(program) = Program::SshAudit.find() else {
        println!("skipped: no ssh-audit");
        return;
    };
    let mut audit = Command::new(program);
    audit.args(["-n", "-p", &rig.ssh_port.to_string(), "127.0.0.1"]);
    let said = run_to_end("ssh-audit", &mut audit, &[], Duration::from_secs(60)).unwrap();
    let text = said.text();
    assert!(text.contains("Onus"), "{text}");
    assert!(!text.contains("[fail]"), "{text}");
    // What an older auditor doesn't know is no weakness: the hybrid key exchange and the mark of the strict one.
    let known = ["mlkem768x25519-sha256", "kex-strict-s-v00@openssh.com"];
    let weak: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("[warn]") && !known.iter().any(|name| line.contains(name)))
        // Newer ones warn of every exchange that isn't hybrid; older clients have no other.
        .filter(|line| !(line.contains("curve25519") || line.contains("post-quantum")))
        .collect();
    assert!(weak.is_empty(), "{weak:?}");
    assert!(text.contains("kex-strict-s-v00@openssh.com"), "strict key exchange (Terrapin): {text}");
}

#[test]
fn a_stored_key_serves_where_certificates_cannot() {
    let rig = rig();
    let key = onus_testkit::ssh_keys::KeyPair::make(&rig.path(""), "stored", Kind::Ed25519).unwrap();
    sshd(rig).authorize(&key.public).unwrap();
    let file = key.private.display().to_string();
    rig.ok("root-admin", &["secret", "set", "web-stored/key", "--user", sshd(rig).user(), "--password-file", &file])
        .unwrap();
    let (_, client) = admitted_to(rig, "web-stored", "operator");
    let ran = client.ssh(&["web-stored", "echo stored"]).unwrap();
    assert_eq!(ran.text(), "stored\n", "{}", wrote(&ran));
}

#[test]
fn a_session_without_a_watcher_is_frozen() {
    let rig = rig();
    let (who, client) = admitted(rig, "watched");
    let ssh = background(&client, &["web-1", &format!("echo seen; {}", sleep(600009))]);
    let session = live_session(rig, &who);
    std::thread::sleep(Duration::from_secs(1));
    assert!(!ssh.output().contains("seen") && processes(&lasting(600009)).is_empty(), "{}", ssh.output());
    // Not just anybody counts.
    let stranger = guest(rig);
    let refused = rig.onus(&stranger, &["session", "watch", &session]).unwrap();
    assert!(!refused.status.success(), "{}", crate::scene::said(&refused));
    let mut watch = rig.command("sam", &["session", "watch", &session]);
    let mut watch = Running::spawn("onus session watch", &mut watch).unwrap();
    ssh.wait_for("seen", SOON).unwrap();
    begins(600009);
    watch.wait_for("echo seen", SOON).unwrap();
    watch.kill9();
    let frozen = || {
        let shown = sessions_of(rig, &who, false);
        shown.last().and_then(|session| session["frozen"].as_bool()).filter(|frozen| *frozen).map(drop)
    };
    wait::until(SOON, "the session to freeze again", frozen).unwrap();
    rig.ok("sam", &["kill", &session, "--session", "--reason", "over"]).unwrap();
}
