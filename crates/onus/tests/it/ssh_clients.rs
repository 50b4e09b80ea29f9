//! Stock clients through the SSH door: `ssh`, `sftp`, `scp`, `rsync`, `git`, `ansible` notice nothing but what is refused.

use crate::scene::SOON;
use crate::ssh_scene::{admitted, home, last_session, recorded, rig, wrote};
use onus_testkit::pty::Size;
use onus_testkit::ssh_client::{Client, Ran};
use onus_testkit::ssh_tools::Program;
use std::fs;

#[test]
fn a_command_runs_and_is_recorded() {
    let rig = rig();
    let (who, client) = admitted(rig, "operator");
    let ran = client.ssh(&["web-1", "echo out"]).unwrap();
    assert_eq!((ran.code(), ran.text().as_str()), (Some(0), "out\n"), "{}", ran.stderr);
    assert_eq!(client.ssh(&["web-1", "true"]).unwrap().code(), Some(0));
    let text = recorded(rig, &who);
    assert!(text.contains("true") && text.contains("exit 0"), "{text}");
}

#[test]
fn a_denied_command_says_who_owns_the_policy_and_exits_with_126() {
    let rig = rig();
    let (who, client) = admitted(rig, "operator");
    let marker = home(rig).join("canary/denied");
    let ran = client.ssh(&["web-1", &format!("touch {}", marker.display())]).unwrap();
    assert_eq!(ran.code(), Some(126), "{}", wrote(&ran));
    assert!(ran.stderr.contains("onus: refused: ") && ran.stdout.is_empty(), "{}", wrote(&ran));
    assert!(!marker.exists());
    let text = recorded(rig, &who);
    assert!(text.contains("touch") && !text.contains("exit 0"), "{text}");
}

#[test]
fn streams_statuses_and_signals_come_as_they_are() {
    let rig = rig();
    let (who, client) = admitted(rig, "anything");
    let ran = client.ssh(&["web-1", "echo out; echo err >&2; exit 3"]).unwrap();
    assert_eq!((ran.code(), ran.text().as_str(), ran.stderr.as_str()), (Some(3), "out\n", "err\n"));
    let ran = client.run(Program::Ssh, &["web-1", "wc -c"], b"twelve bytes").unwrap();
    assert_eq!((ran.code(), ran.text().trim()), (Some(0), "12"), "{}", wrote(&ran));
    let ran = client.ssh(&["web-1", "sh -c 'kill -TERM $$'"]).unwrap();
    assert!(matches!(ran.code(), Some(255 | 143)), "{ran:?}");
    let text = recorded(rig, &who);
    assert!(text.contains("kill -TERM"), "{text}");
}

#[test]
fn bytes_go_both_ways_as_they_are() {
    let rig = rig();
    let (who, client) = admitted(rig, "operator");
    // Every byte value, in no order that a compression or a line editor would keep.
    let mut state = 1_u64;
    let mut big = Vec::with_capacity(50 << 20);
    while big.len() < 50 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        big.extend_from_slice(&state.to_be_bytes());
    }
    let ran = client.run(Program::Ssh, &["web-1", "cat"], &big).unwrap();
    assert_eq!((ran.code(), ran.stdout.len()), (Some(0), big.len()), "{}", ran.stderr);
    assert!(ran.stdout == big, "what came back differs");
    let text = recorded(rig, &who);
    assert!(text.contains("not recorded"), "output that is not recorded is said to be: {text}");
}

#[test]
fn variables_from_the_short_list_only() {
    let rig = rig();
    let (who, client) = admitted(rig, "anything");
    let ran =
        client.ssh(&["-o", "SetEnv LC_TIME=C.UTF-8 LD_PRELOAD=/tmp/x.so PATH=/tmp BASH_ENV=/tmp/x", "web-1", "env"]);
    let text = ran.unwrap().ok().unwrap();
    assert!(text.contains("LC_TIME=C.UTF-8\n"), "{text}");
    assert!(!text.contains("LD_PRELOAD") && !text.contains("BASH_ENV") && !text.contains("PATH=/tmp"), "{text}");
    let text = recorded(rig, &who);
    assert!(text.contains("LD_PRELOAD"), "the attempt is on record: {text}");
}

#[test]
fn a_terminal_has_its_size_and_takes_its_keys() {
    let rig = rig();
    let (who, client) = admitted(rig, "anything");
    let script = "trap 'stty size' WINCH; trap 'echo interrupted; exit 5' INT; echo $TERM; stty size; while :; do sleep 0.05; done";
    let mut pty = client.interactive(&["-tt", "web-1", script], Size { columns: 101, rows: 33 }).unwrap();
    pty.expect("xterm\r\n33 101\r\n", SOON).unwrap();
    pty.resize(Size { columns: 90, rows: 20 }).unwrap();
    pty.expect("20 90", SOON).unwrap();
    pty.send("\x03").unwrap();
    pty.expect("interrupted", SOON).unwrap();
    assert_eq!(pty.wait(SOON).unwrap().code(), Some(5));
    let session = last_session(rig, &who);
    for (format, version) in [("asciicast-v2", "\"version\":2"), ("asciicast-v3", "\"version\":3")] {
        let cast = rig.ok("bob", &["session", "export", &session, "--format", format]).unwrap();
        let mut lines = cast.lines();
        let head = lines.next().unwrap().replace(' ', "");
        assert!(head.contains(version) && head.contains("101") && head.contains("33"), "{head}");
        let events: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(events.iter().all(|event| event.as_array().is_some_and(|event| event.len() == 3)), "{cast}");
        assert!(events.iter().any(|event| event[1] == "r" && event[2] == "90x20"), "{cast}");
        assert!(events.iter().any(|event| event[1] == "o" && event[2].as_str().unwrap().contains("33 101")), "{cast}");
    }
    let found = rig.ok("bob", &["session", "search", "33 101"]).unwrap();
    assert!(found.contains(&session), "{found}");
}

/// A file to send, and where.
fn file(client: &Client, name: &str, length: usize) -> (String, Vec<u8>) {
    let bytes: Vec<u8> = (0..length).map(|at| (at.wrapping_mul(31) >> 3) as u8).collect();
    fs::write(client.path(name), &bytes).unwrap();
    (client.path(name).display().to_string(), bytes)
}

#[test]
fn sftp_works_where_it_may_and_says_why_where_it_may_not() {
    let rig = rig();
    let (who, client) = admitted(rig, "deployer");
    let folder = home(rig).join("deploy").join(&who);
    let (here, bytes) = file(&client, "here", 3 << 20);
    let there = folder.display();
    let batch = format!(
        "mkdir {there}\nput {here} {there}/a\nls -l {there}\nrename {there}/a {there}/b\nget {there}/b {here}-back\nchmod 600 {there}/b\nln -s {there}/b {there}/c\nrm {there}/c\nput {here} {there}/d\nrm {there}/d\n"
    );
    let ran = client.sftp("web-1", &batch).unwrap();
    assert_eq!(ran.code(), Some(0), "{}", wrote(&ran));
    assert!(fs::read(format!("{here}-back")).unwrap() == bytes);
    assert!(fs::read(folder.join("b")).unwrap() == bytes && !folder.join("d").exists());
    let outside = home(rig).join("canary/sftp");
    let ran = client.sftp("web-1", &format!("put {here} {}\n", outside.display())).unwrap();
    assert_eq!(ran.code(), Some(1), "{}", wrote(&ran));
    assert!(wrote(&ran).contains("ermission denied") && !outside.exists(), "{}", wrote(&ran));
    assert!(recorded(rig, &who).contains("canary/sftp"));
    // By a name that climbs, by moving, and by links either way.
    let canary = home(rig).join("canary");
    let outside = |name: &str| canary.join(name).display().to_string();
    for (denied, what) in [
        (format!("put {here} {there}/../../canary/climbed"), outside("climbed")),
        (format!("rename {there}/b {}", outside("moved")), outside("moved")),
        (format!("ln {there}/b {}", outside("linked")), outside("linked")),
        (format!("ln -s {there}/b {}", outside("linked")), outside("linked")),
        (format!("mkdir {}", outside("made")), outside("made")),
        (format!("ln -s /etc/passwd {there}/out"), format!("{there}/out")),
        (format!("ln {} {there}/out", outside("run")), format!("{there}/out")),
    ] {
        let ran = client.sftp("web-1", &denied).unwrap();
        assert_eq!(ran.code(), Some(1), "{denied}: {}", wrote(&ran));
        assert!(fs::symlink_metadata(&what).is_err(), "{denied} made {what}: {}", wrote(&ran));
    }
    assert!(folder.join("b").exists());
    for denied in [format!("rm {}", outside("run")), format!("chmod 777 {}", outside("run")), "ls /root".to_owned()] {
        let ran = client.sftp("web-1", &denied).unwrap();
        assert_eq!(ran.code(), Some(1), "{denied}: {}", wrote(&ran));
    }
    let text = recorded(rig, &who);
    assert!(text.contains("ls") || text.contains("/root"), "{text}");

    let (_, reader) = admitted(rig, "log-reader");
    let log = home(rig).join("logs/app.log");
    let ran = reader.sftp("web-1", &format!("get {} {here}-log\n", log.display())).unwrap();
    assert_eq!(ran.code(), Some(0), "{}", wrote(&ran));
    for denied in
        [format!("put {here} {}", log.display()), format!("rm {}", log.display()), format!("get {there}/b /dev/null")]
    {
        let ran = reader.sftp("web-1", &denied).unwrap();
        assert_eq!(ran.code(), Some(1), "{denied}: {}", wrote(&ran));
    }
    assert_eq!(fs::read_to_string(log).unwrap(), "first line\nsecond line\n");
}

#[test]
fn scp_of_both_kinds_works_where_it_may() {
    let rig = rig();
    let (who, client) = admitted(rig, "deployer");
    let folder = home(rig).join("deploy").join(&who);
    fs::create_dir_all(&folder).unwrap();
    let (here, bytes) = file(&client, "here", 3 << 20);
    for old in [false, true] {
        let name = if old { "old" } else { "new" };
        let scp = |from: &str, to: &str| {
            let mut arguments = if old { vec!["-O"] } else { vec![] };
            arguments.extend(["-p", from, to]);
            client.scp(&arguments).unwrap()
        };
        let there = folder.join(name);
        let ran = scp(&here, &format!("web-1:{}", there.display()));
        assert_eq!(ran.code(), Some(0), "{name}: {}", wrote(&ran));
        assert!(fs::read(&there).unwrap() == bytes, "{name}");
        let ran = scp(&format!("web-1:{}", there.display()), &format!("{here}-{name}"));
        assert_eq!(ran.code(), Some(0), "{name}: {}", wrote(&ran));
        assert!(fs::read(format!("{here}-{name}")).unwrap() == bytes, "{name}");
        let outside = home(rig).join(format!("canary/scp-{name}"));
        let ran = scp(&here, &format!("web-1:{}", outside.display()));
        assert!(ran.code() != Some(0) && !outside.exists(), "{name}: {}", wrote(&ran));
        let ran = scp("web-1:/etc/passwd", &format!("{here}-{name}-passwd"));
        assert!(ran.code() != Some(0), "{name}: {}", wrote(&ran));
        let taken = fs::read(format!("{here}-{name}-passwd")).unwrap_or_default();
        assert!(taken.is_empty(), "{name}");
    }
    // A folder as a whole.
    fs::create_dir_all(client.path("tree/below")).unwrap();
    fs::write(client.path("tree/below/leaf"), "leaf").unwrap();
    for (name, options) in [("r-new", &["-r"][..]), ("r-old", &["-O", "-r"])] {
        let (from, to) = (client.path("tree").display().to_string(), folder.join(name));
        let ran = client.scp(&[options, &[&from, &format!("web-1:{}", to.display())]].concat()).unwrap();
        assert_eq!(ran.code(), Some(0), "{name}: {}", wrote(&ran));
        assert_eq!(fs::read_to_string(to.join("below/leaf")).unwrap(), "leaf");
    }
    recorded(rig, &who);
}

#[test]
fn rsync_and_git_work_where_they_may() {
    let rig = rig();
    let (who, client) = admitted(rig, "deployer");
    let folder = home(rig).join("deploy").join(&who);
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir_all(client.path("tree/below")).unwrap();
    fs::write(client.path("tree/below/leaf"), "leaf").unwrap();
    let from = client.path("tree").display().to_string();
    let ran =
        client.rsync(&["-az", "--delete", &format!("{from}/"), &format!("web-1:{}/copy/", folder.display())]).unwrap();
    assert_eq!(ran.code(), Some(0), "{}", wrote(&ran));
    assert_eq!(fs::read_to_string(folder.join("copy/below/leaf")).unwrap(), "leaf");
    let ran = client.rsync(&["-a", &format!("web-1:{}/copy/", folder.display()), &format!("{from}-back/")]).unwrap();
    assert_eq!(ran.code(), Some(0), "{}", wrote(&ran));
    assert_eq!(fs::read_to_string(format!("{from}-back/below/leaf")).unwrap(), "leaf");
    let outside = home(rig).join("canary/rsync");
    let ran = client.rsync(&["-a", &from, &format!("web-1:{}", outside.display())]).unwrap();
    assert!(ran.code() != Some(0) && ran.stderr.contains("onus: refused") && !outside.exists(), "{}", wrote(&ran));

    let bare = folder.join("repository.git");
    assert!(std::process::Command::new("git").args(["init", "-q", "--bare"]).arg(&bare).status().unwrap().success());
    let (root, bare) = (client.path(""), bare.display().to_string());
    let done = |ran: Ran| assert_eq!(ran.code(), Some(0), "{}", wrote(&ran));
    done(client.git(&root, &["clone", "-q", &format!("web-1:{bare}"), "work"]).unwrap());
    let work = client.path("work");
    done(client.git(&work, &["commit", "-q", "--allow-empty", "-m", "first"]).unwrap());
    done(client.git(&work, &["push", "-q", "origin", "HEAD:refs/heads/main"]).unwrap());
    done(client.git(&root, &["clone", "-q", "-b", "main", &format!("web-1:{bare}"), "again"]).unwrap());
    let text = recorded(rig, &who);
    assert!(text.contains("git-upload-pack"), "{text}");
    let (_, reader) = admitted(rig, "log-reader");
    let ran = reader.git(&reader.path(""), &["clone", "-q", &format!("web-1:{bare}"), "taken"]).unwrap();
    assert!(ran.code() != Some(0) && ran.stderr.contains("onus: refused"), "{}", wrote(&ran));
}

#[test]
fn ansible_works_under_a_role_that_may_do_anything() {
    if Program::Ansible.find().is_err() {
        return println!("skipped: no ansible");
    }
    let rig = rig();
    let (who, client) = admitted(rig, "anything");
    let said = client.ansible("web-1", &["-m", "ping"]).unwrap();
    assert!(said.code() == Some(0) && said.text().contains("pong"), "{}", wrote(&said));
    let (here, bytes) = file(&client, "here", 100_000);
    let there = home(rig).join(format!("deploy/{who}-ansible"));
    let said = client.ansible("web-1", &["-m", "copy", "-a", &format!("src={here} dest={}", there.display())]).unwrap();
    assert_eq!(said.code(), Some(0), "{}", wrote(&said));
    assert!(fs::read(there).unwrap() == bytes);
    drop(client);
    recorded(rig, &who);
}
