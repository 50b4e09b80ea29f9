//! What breaks underneath the SSH door breaks closed: the gateway dies, its disk is full, the host goes away, a client
//! does not read. They share the Onus of [`crate::faults`], one after the other.

use crate::faults::{Small, breakable, holds};
use crate::scene::{SOON, ended_session, live_session};
use crate::ssh_scene::{admitted, background, ends, home, processes, records, sleep, sshd, wrote};
use onus_testkit::proc::{self, Running};
use onus_testkit::ssh_tools::Program;
use onus_testkit::{run, wait};
use std::fs;
use std::process::Stdio;
use std::time::Duration;

#[test]
fn a_gateway_that_dies_in_mid_scp_leaves_nothing_open_and_nothing_unrecorded() {
    let mut rig = breakable();
    let (who, client) = admitted(&rig, "deployer");
    let (here, there) = (client.path("here"), home(&rig).join("deploy/mid-scp"));
    fs::write(&here, vec![7; 20 << 20]).unwrap();
    let mut scp = client.command(Program::Scp).unwrap();
    // A megabyte a second.
    scp.args(["-O", "-l", "8000"]).arg(&here).arg(format!("web-1:{}", there.display()));
    let mut scp = Running::spawn("scp", &mut scp).unwrap();
    let session = live_session(&rig, &who);
    wait::until(SOON, "the file", || there.exists().then_some(())).unwrap();
    rig.crash();
    assert!(!scp.wait(SOON).unwrap().success());
    let target = there.display().to_string();
    wait::until(SOON, "the end of the host's scp", || processes(&target).is_empty().then_some(())).unwrap();
    rig.start_again().unwrap();
    let ended = ended_session(&rig, &session);
    assert_eq!(ended["closed"]["reason"]["kind"], "gateway_died", "{ended}");
    holds(&rig, &session);
    let text = serde_json::to_string(&records(&rig, &session)).unwrap();
    assert!(text.contains("mid-scp"), "{text}");
    assert!(fs::metadata(&there).map_or(0, |file| file.len()) < 20 << 20);
    assert_eq!(client.sftp("web-1", &format!("ls {}", home(&rig).join("deploy").display())).unwrap().code(), Some(0));
}

#[test]
fn a_host_that_goes_away_in_mid_transfer_is_said_to_have() {
    let rig = breakable();
    let (who, client) = admitted(&rig, "deployer");
    let (here, there) = (client.path("here"), home(&rig).join("deploy/mid-host"));
    fs::write(&here, vec![7; 20 << 20]).unwrap();
    let mut scp = client.command(Program::Scp).unwrap();
    scp.args(["-l", "8000"]).arg(&here).arg(format!("web-1:{}", there.display()));
    let mut scp = Running::spawn("scp", &mut scp).unwrap();
    let session = live_session(&rig, &who);
    wait::until(SOON, "the file", || there.exists().then_some(())).unwrap();
    sshd(&rig).cut_sessions();
    assert!(!scp.wait(SOON).unwrap().success());
    assert!(scp.output().contains("the host closed the connection"), "{}", scp.output());
    let ended = ended_session(&rig, &session);
    assert_eq!(ended["closed"]["reason"]["kind"], "upstream_closed", "{ended}");
    holds(&rig, &session);
}

#[test]
fn a_client_that_does_not_read_costs_no_memory() {
    let rig = breakable();
    let (_, client) = admitted(&rig, "anything");
    let rss = || proc::usage(rig.serve.pid()).unwrap().rss_kib;
    for terminal in ["-T", "-tt"] {
        let before = rss();
        let mut ssh = client.command(Program::Ssh).unwrap();
        ssh.args([terminal, "web-1", "yes from a flood"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut ssh = ssh.spawn().unwrap();
        std::thread::sleep(Duration::from_secs(3));
        let after = rss();
        ssh.kill().unwrap();
        ssh.wait().unwrap();
        assert!(after < before + 20 * 1024, "{terminal}: {before} KiB before, {after} KiB after");
    }
}

#[test]
fn a_full_disk_ends_the_session_before_anything_goes_unrecorded() {
    if !run::is_root() {
        return eprintln!("skipped: only root can mount a small file system");
    }
    let mut rig = breakable();
    let (who, client) = admitted(&rig, "anything");
    rig.stop().unwrap();
    let small = match Small::over(rig.data().join("journals"), "256k") {
        Ok(small) => small,
        Err(error) => {
            rig.start_again().unwrap();
            return eprintln!("skipped: no small file system can be mounted: {error}");
        }
    };
    rig.start_again().unwrap();
    // What does not compress.
    let mut ssh = background(&client, &["-tt", "web-1", &format!("od -An -v -tx1 /dev/urandom; {}", sleep(600301))]);
    let session = live_session(&rig, &who);
    assert_eq!(ssh.wait(SOON).unwrap().code(), Some(255));
    ends(600301);
    let ended = ended_session(&rig, &session);
    assert_eq!(ended["closed"]["reason"]["kind"], "recording_failed", "{ended}");
    holds(&rig, &session);
    // Small records may still have had room.
    let _ = fs::write(rig.data().join("journals/filler"), vec![0; 512 << 10]);
    let marker = home(&rig).join("canary/unrecorded");
    let ran = client.ssh(&["web-1", &format!("touch {}", marker.display())]).unwrap();
    assert!(ran.code() == Some(255) && ran.stderr.contains("record") && !marker.exists(), "{}", wrote(&ran));
    rig.stop().unwrap();
    drop(small);
    rig.start_again().unwrap();
    assert_eq!(client.ssh(&["web-1", "echo healed"]).unwrap().text(), "healed\n");
}
