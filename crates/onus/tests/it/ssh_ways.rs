//! Several channels of one connection, and connections through the host: each is decided, none holds up another.

use crate::scene::SOON;
use crate::ssh_scene::{admitted, background, last_session, listing, recorded, rig, sleep, sshd, wrote};
use onus_testkit::proc::Running;
use onus_testkit::ssh_tools::Program;
use onus_testkit::{port, wait};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn one_channel_waits_while_the_others_go_on() {
    let rig = rig();
    let (who, mut client) = admitted(rig, "operator");
    client.option("ControlMaster auto").unwrap();
    client.option("ControlPersist 20").unwrap();
    client.ssh(&["web-1", "true"]).unwrap().ok().unwrap();
    let held = background(&client, &["web-1", "uname"]);
    let slow = background(&client, &["web-1", &sleep(600201)]);
    crate::ssh_scene::begins(600201);
    let hold = wait::until(SOON, "the hold", || {
        let pending: serde_json::Value = serde_json::from_str(&rig.ok("bob", &["pending", "--json"]).unwrap()).unwrap();
        let mut own = pending["holds"].as_array()?.iter().filter(|hold| hold["subject"] == who.as_str());
        Some(own.next()?["id"].as_str()?.to_owned())
    })
    .unwrap();
    let begun = Instant::now();
    for n in 0..5 {
        assert_eq!(client.ssh(&["web-1", &format!("echo {n}")]).unwrap().text(), format!("{n}\n"));
    }
    let denied = client.ssh(&["web-1", "touch /tmp/never"]).unwrap();
    assert_eq!(denied.code(), Some(126));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(!held.output().contains("Linux"));
    rig.ok("bob", &["confirm", &hold]).unwrap();
    held.wait_for("Linux", SOON).unwrap();
    drop((held, slow));
    client.ssh(&["-O", "exit", "web-1"]).unwrap();
    let text = recorded(rig, &who);
    assert!(text.contains("uname") && text.contains("echo 4"), "{text}");
}

/// Sends back what it gets; its port.
fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut back = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut stream, &mut back);
            });
        }
    });
    port
}

fn answers(port: u16, begin: impl Fn(&mut TcpStream) + Copy) {
    let mut stream =
        wait::until(SOON, "the forwarding", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    begin(&mut stream);
    let sent: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let thread = std::thread::spawn(move || writer.write_all(&copy).unwrap());
    let mut got = vec![0; sent.len()];
    stream.read_exact(&mut got).unwrap();
    thread.join().unwrap();
    assert!(got == sent);
}

#[test]
fn forwards_go_all_ways_where_they_may() {
    let rig = rig();
    let (who, client) = admitted(rig, "forwarder");
    let (target, local, remote, socks) = (echo(), port::free().unwrap(), port::free().unwrap(), port::free().unwrap());
    let ssh = background(
        &client,
        &[
            "-N",
            "-o",
            "ExitOnForwardFailure=yes",
            "-L",
            &format!("{local}:127.0.0.1:{target}"),
            "-R",
            &format!("127.0.0.1:{remote}:127.0.0.1:{target}"),
            "-D",
            &format!("127.0.0.1:{socks}"),
            "web-1",
        ],
    );
    answers(local, |_| {});
    answers(remote, |_| {});
    answers(socks, |stream| {
        stream.write_all(&[5, 1, 0]).unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).unwrap();
        let mut request = vec![5, 1, 0, 1, 127, 0, 0, 1];
        request.extend(target.to_be_bytes());
        stream.write_all(&request).unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[1], 0);
    });
    drop(ssh);
    let text = recorded(rig, &who);
    assert!(text.contains(&format!("127.0.0.1:{target}")), "{text}");
}

#[test]
fn forwards_are_refused_where_they_may_not() {
    let rig = rig();
    let (who, client) = admitted(rig, "operator");
    let (target, local) = (echo(), port::free().unwrap());
    let ssh = background(&client, &["-L", &format!("{local}:127.0.0.1:{target}"), "web-1", &sleep(600202)]);
    crate::ssh_scene::begins(600202);
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, local)).ok();
    let mut stream = wait::until(SOON, "the client to listen", connect).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let _ = stream.write_all(b"hello");
    assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
    ssh.wait_for("onus: refused", SOON).unwrap();
    drop(ssh);
    let remote = port::free().unwrap();
    let ran = client
        .ssh(&["-o", "ExitOnForwardFailure=yes", "-R", &format!("{remote}:127.0.0.1:{target}"), "web-1", "true"])
        .unwrap();
    assert_eq!(ran.code(), Some(255), "{}", wrote(&ran));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, remote)).is_err());
    let session = last_session(rig, &who);
    assert!(listing(rig, &session).contains("listen on"), "{}", listing(rig, &session));
    // A jump through the host is a forwarding like any other.
    let ran = client.ssh(&["-W", &format!("127.0.0.1:{}", sshd(rig).port()), "web-1"]).unwrap();
    assert!(ran.code() == Some(255) && ran.stderr.contains("onus: refused"), "{}", wrote(&ran));
}

#[test]
fn a_jump_goes_through_where_it_may() {
    let rig = rig();
    let (_, client) = admitted(rig, "forwarder");
    let port = sshd(rig).port();
    let mut stream = client.command(Program::Ssh).unwrap();
    stream.args(["-W", &format!("127.0.0.1:{port}"), "web-1"]);
    let jump = Running::spawn_with_stdin("ssh -W", &mut stream, std::process::Stdio::piped()).unwrap();
    jump.wait_for("SSH-2.0-OpenSSH", SOON).unwrap();
}

#[test]
fn the_agent_is_lent_only_where_it_may_be() {
    let rig = rig();
    let socket = rig.path("agent");
    let mut agent = Command::new("ssh-agent");
    agent.args(["-D", "-a"]).arg(&socket);
    let _agent = Running::spawn("ssh-agent", &mut agent).unwrap();
    wait::until(SOON, "the agent", || socket.exists().then_some(())).unwrap();
    let (who, client) = admitted(rig, "anything");
    let key = client.new_key("lent", onus_testkit::ssh_keys::Kind::Ed25519).unwrap();
    let added = Command::new("ssh-add").arg(&key.private).env("SSH_AUTH_SOCK", &socket).output().unwrap();
    assert!(added.status.success(), "{}", crate::scene::said(&added));
    let lend = format!("IdentityAgent={}", socket.display());
    let lent = client.ssh(&["-A", "-o", &lend, "web-1", "ssh-add -l"]).unwrap();
    assert!(lent.text().contains(&key.fingerprint().unwrap()), "{}", wrote(&lent));
    assert!(recorded(rig, &who).contains("lend the agent"));
    let (who, client) = admitted(rig, "operator");
    let ran = client.ssh(&["-A", "-o", &lend, "web-1", "echo without"]).unwrap();
    assert!(ran.text() == "without\n", "{}", wrote(&ran));
    let text = recorded(rig, &who);
    assert!(text.contains("lend the agent") && text.contains("agent-forwarding"), "{text}");
}

#[test]
fn an_idle_connection_stays_and_answers_keepalives() {
    let rig = rig();
    let (_, client) = admitted(rig, "operator");
    let begun = Instant::now();
    let ran = client
        .ssh(&["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1", "web-1", "sleep 3; echo still here"])
        .unwrap();
    assert_eq!(ran.text(), "still here\n", "{}", wrote(&ran));
    assert!(begun.elapsed() >= Duration::from_secs(3));
}
