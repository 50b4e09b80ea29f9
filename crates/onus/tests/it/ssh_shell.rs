//! The governed shell and the raw one, as a person at a terminal sees them, and what is recorded of both.

use crate::scene::{SOON, json, live_session};
use crate::ssh_scene::{admitted, home, last_session, listing, recorded, rig, sleep, wrote};
use onus_testkit::pty::{Pty, Size};
use onus_testkit::ssh_client::Client;
use onus_testkit::ssh_tools::Program;
use onus_testkit::wait;

/// Waits for the next prompt, and gives what appeared up to its end. Each begins with the terminal's being asked to mark
/// what is pasted; drawing a line anew does not.
fn prompt(pty: &Pty) -> String {
    let before = pty.expect("\x1b[?2004h", SOON).unwrap();
    before + &pty.expect("$ ", SOON).unwrap()
}

fn shell(client: &Client) -> Pty {
    let pty = client.interactive(&["web-1"], Size::default()).unwrap();
    pty.expect("governed shell", SOON).unwrap();
    prompt(&pty);
    pty
}

/// Types a line and gives what appeared up to the next prompt.
fn line(pty: &Pty, text: &str) -> String {
    pty.send(format!("{text}\r")).unwrap();
    prompt(pty)
}

#[test]
fn a_line_runs_a_denied_one_is_refused_in_place_and_the_directory_stays() {
    let rig = rig();
    let (who, client) = admitted(rig, "operator");
    let mut pty = shell(&client);
    assert!(line(&pty, "echo one two").contains("one two\r\n"));
    let marker = home(rig).join("canary/shell");
    let said = line(&pty, &format!("touch {}", marker.display()));
    assert!(said.contains("onus: refused") && !marker.exists(), "{said}");
    let folder = home(rig).join("logs").display().to_string();
    let said = line(&pty, &format!("cd {folder}"));
    assert!(said.contains(&folder), "the prompt shows it: {said}");
    let said = line(&pty, "ls");
    assert!(said.contains("app.log"), "{said}");
    let said = line(&pty, "cat app.log | cat");
    assert!(said.contains("second line"), "{said}");
    // The last line again, by the arrow key.
    pty.send("\x1b[A").unwrap();
    pty.expect("cat app.log | cat", SOON).unwrap();
    pty.send("\r").unwrap();
    pty.expect("second line", SOON).unwrap();
    prompt(&pty);
    // A name is completed from what is there.
    pty.send("cat ap\t").unwrap();
    pty.expect("app.log", SOON).unwrap();
    pty.send("\r").unwrap();
    pty.expect("first line", SOON).unwrap();
    prompt(&pty);
    // A line that is given up, and a command that is interrupted.
    pty.send("echo nev\x03").unwrap();
    pty.expect("^C\r\n", SOON).unwrap();
    pty.expect("$ ", SOON).unwrap();
    pty.send(sleep(600101) + "\r").unwrap();
    crate::ssh_scene::begins(600101);
    pty.send("\x03").unwrap();
    prompt(&pty);
    crate::ssh_scene::ends(600101);
    let said = line(&pty, "cd no-such-folder");
    assert!(said.contains("no-such-folder") && !said.contains("no-such-folder$"), "{said}");
    let said = line(&pty, "eval echo nev''er");
    assert!(said.contains("onus: refused") && !said.contains("never"), "{said}");
    assert!(line(&pty, "true && echo 'more  than' one").contains("more  than one"));
    pty.send("exit\r").unwrap();
    assert_eq!(pty.wait(SOON).unwrap().code(), Some(0));
    let text = recorded(rig, &who);
    for expected in ["echo one two", "canary/shell", "cat app.log", &sleep(600101)] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let session = last_session(rig, &who);
    let cast = rig.ok("bob", &["session", "export", &session, "--format", "asciicast-v2"]).unwrap();
    assert!(cast.contains("one two") && cast.contains("onus: refused"), "{cast}");
}

#[test]
fn a_held_line_waits_for_the_named_person() {
    let rig = rig();
    let (who, client) = admitted(rig, "operator");
    let pty = shell(&client);
    pty.send("uname\r").unwrap();
    let held = |n: usize| {
        wait::until(SOON, "the hold", || {
            let text = rig.ok("bob", &["pending", "--json"]).unwrap();
            let pending: serde_json::Value = serde_json::from_str(&text).unwrap();
            let own: Vec<_> =
                pending["holds"].as_array()?.iter().filter(|hold| hold["subject"] == who.as_str()).cloned().collect();
            Some(own.get(n)?["id"].as_str()?.to_owned())
        })
        .unwrap()
    };
    let hold = held(0);
    let refused = rig.onus("alice", &["confirm", &hold]).unwrap();
    assert!(!refused.status.success());
    rig.ok("bob", &["confirm", &hold]).unwrap();
    pty.expect("Linux\r\n", SOON).unwrap();
    prompt(&pty);
    pty.send("uname -a\r").unwrap();
    let hold = held(0);
    rig.ok("bob", &["refuse", &hold, "--reason", "not now"]).unwrap();
    let said = pty.expect("not now", SOON).unwrap();
    assert!(said.contains("declined") && !said.contains("Linux"), "{said}");
    assert!(!prompt(&pty).contains("Linux"));
    // And by itself, without a terminal.
    drop(pty);
    last_session(rig, &who);
    let ssh = crate::ssh_scene::background(&client, &["web-1", "uname"]);
    let hold = held(0);
    rig.ok("bob", &["confirm", &hold]).unwrap();
    ssh.wait_for("Linux", SOON).unwrap();
}

#[test]
fn a_script_runs_line_by_line_without_a_terminal() {
    let rig = rig();
    let (who, client) = admitted(rig, "operator");
    let folder = home(rig).join("logs");
    let marker = home(rig).join("canary/script");
    let script = format!(
        "echo begin\ncd {}\nls\ntouch {}\nfor i in 1 2; do echo number $i\ndone\ncat nothing-here\nexit 7\necho never\n",
        folder.display(),
        marker.display()
    );
    let ran = client.run(Program::Ssh, &["web-1"], script.as_bytes()).unwrap();
    assert_eq!(ran.code(), Some(7), "{}", wrote(&ran));
    assert_eq!(ran.text(), "begin\napp.log\nnumber 1\nnumber 2\n", "{}", wrote(&ran));
    assert!(ran.stderr.contains("onus: refused") && ran.stderr.contains("nothing-here"), "{}", ran.stderr);
    assert!(!marker.exists());
    let text = recorded(rig, &who);
    assert!(text.contains("canary/script"), "{text}");
}

#[test]
fn a_raw_shell_is_recorded_but_for_what_is_typed_unseen() {
    let rig = rig();
    let (who, client) = admitted(rig, "raw");
    let mut pty = client.interactive(&["web-1"], Size::default()).unwrap();
    pty.send("PS1='ready''> '\r").unwrap();
    pty.expect("ready> ", SOON).unwrap();
    pty.send("read -s secret; echo read ${#secret}\r").unwrap();
    pty.expect("\r\n", SOON).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    pty.send("hunter2-unseen\r").unwrap();
    pty.expect("read 14", SOON).unwrap();
    pty.expect("ready> ", SOON).unwrap();
    pty.send("echo vis''ible\r").unwrap();
    pty.expect("visible\r\n", SOON).unwrap();
    let session = live_session(rig, &who);
    let shown = json(rig, "bob", &["session", "show", &session, "--json"]);
    assert!(shown.to_string().contains("observed"), "{shown}");
    pty.send("exit 4\r").unwrap();
    assert_eq!(pty.wait(SOON).unwrap().code(), Some(4));
    assert_eq!(last_session(rig, &who), session);
    let text = listing(rig, &session);
    let raw = rig.ok("bob", &["session", "export", &session, "--format", "jsonl"]).unwrap();
    let cast = rig.ok("bob", &["session", "export", &session, "--format", "asciicast-v3"]).unwrap();
    for said in [&text, &raw, &cast] {
        assert!(!said.contains("hunter2"), "{said}");
    }
    assert!(cast.contains("visible") && cast.contains("echo vis''ible"), "{cast}");
    // Not in the file either, compressed or not: what is typed unseen is never written.
    rig.ok("bob", &["verify", "--session", &session]).unwrap();
    let found = rig.ok("bob", &["session", "search", "hunter2"]).unwrap();
    assert!(!found.contains(&session), "{found}");
}

#[test]
fn a_program_for_the_whole_screen_gets_a_terminal_and_gives_it_back() {
    let rig = rig();
    let (who, client) = admitted(rig, "anything");
    let mut pty = shell(&client);
    pty.send(format!("less {}\r", home(rig).join("logs/app.log").display())).unwrap();
    pty.expect("second line", SOON).unwrap();
    pty.expect("(END)", SOON).unwrap();
    pty.send("q").unwrap();
    prompt(&pty);
    assert!(line(&pty, "echo ba''ck").contains("back\r\n"));
    pty.send("\x04").unwrap();
    assert_eq!(pty.wait(SOON).unwrap().code(), Some(0));
    let text = recorded(rig, &who);
    assert!(text.contains("less "), "{text}");
}
