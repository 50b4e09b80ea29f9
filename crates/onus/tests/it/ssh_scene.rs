//! What the tests of the SSH door share: an Onus with a real OpenSSH server behind it, roles that may do little, and the
//! clients of people without a past. The server's account is whoever runs the tests, with a home folder of its own.

use crate::scene::{ONUS, SOON, ended_session, guest, options, sessions_of};
use onus_testkit::proc::Running;
use onus_testkit::ssh_client::{Client, Ran};
use onus_testkit::ssh_tools::Program;
use onus_testkit::sshd::{self, Sshd};
use onus_testkit::{Rig, RigOptions, wait};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

/// The Onus that tests of the SSH door share. It must be left as it was found, but for what one's own people did.
pub fn rig() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| {
        let rig = Rig::start(Path::new(ONUS), with_ssh(options())).unwrap_or_else(|error| panic!("no rig: {error}"));
        furnish(&rig);
        rig
    })
}

/// The folders that roles speak of.
pub fn furnish(rig: &Rig) {
    for name in ["logs", "deploy", "canary"] {
        fs::create_dir_all(home(rig).join(name)).unwrap();
    }
    fs::write(home(rig).join("logs/app.log"), "first line\nsecond line\n").unwrap();
    // What must never run: it leaves a mark. The account's own start-up file does what it can to have it run instead of
    // what was permitted.
    let canary = canary(rig).display().to_string();
    for name in [canary.clone(), format!("{canary}-elsewhere")] {
        program(Path::new(&name), &format!("#!/bin/sh\n: > {name}-ran\n"));
    }
    let folder = home(rig).join("canary/bin");
    fs::create_dir_all(&folder).unwrap();
    for name in ["ls", "id", "uptime", "date"] {
        std::os::unix::fs::symlink(&canary, folder.join(name)).unwrap();
    }
    let hostile = format!(
        "shopt -s expand_aliases\nalias date={canary} sleep={canary}\nls() {{ {canary}; }}\nexport -f ls\nuptime() {{ {canary}; }}\nexport PATH={}:$PATH BASH_ENV={canary} ENV={canary} CDPATH=/ GLOBIGNORE=x\n",
        folder.display()
    );
    fs::write(home(rig).join(".bashrc"), hostile).unwrap();
}

/// A program that nobody may run; when it runs there is a file beside it that ends in `-ran`.
pub fn canary(rig: &Rig) -> PathBuf {
    home(rig).join("canary/run")
}

/// Whether it ran.
pub fn sang(rig: &Rig) -> bool {
    home(rig).join("canary/run-ran").exists()
}

fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What the usual set-up has besides, for SSH.
pub fn with_ssh(mut options: RigOptions) -> RigOptions {
    let mut estate = options.estate.take().expect("the usual set-up has an estate");
    let resource = |name: &str, settings: &str| {
        format!(
            "  {name}:\n    service: orders\n    protocol: ssh\n    settings:\n      address: \"@SSH@\"\n      login: \"@SSH_USER@\"\n{settings}"
        )
    };
    let mut resources = resource(
        "web-stored",
        "      host_keys: [\"@SSH_KEY@\"]\n      credential: stored-key\n      secret: web-stored/key\n",
    );
    resources += &resource("web-changed", "      host_keys: [\"@SSH_OTHER_KEY@\"]\n");
    resources += &resource("web-certified", "      host_ca: \"@SSH_HOST_CA@\"\n");
    let role = |name: &str, more: &str| {
        format!(
            "  {name}:\n    owner: petra\n    why: for tests\n    resources: [web-1, web-stored, web-changed, web-certified]\n    max_for: 8h\n    approvers: [data-platform]\n{more}"
        )
    };
    let mut roles = String::new();
    for (name, more) in [
        ("log-reader", ""),
        ("operator", ""),
        ("deployer", ""),
        ("anything", ""),
        ("forwarder", ""),
        ("raw", "    shell: raw\n"),
        ("watched", "    watchers: [sam]\n"),
    ] {
        roles += &role(name, more);
    }
    for (after, more) in [("resources:\n", &resources), ("\nroles:\n", &roles)] {
        assert!(estate.contains(after), "the estate has no {after}");
        estate = estate.replacen(after, &format!("{after}{more}"), 1);
    }
    options.estate = Some(estate);
    options.policies.as_mut().expect("the usual set-up has policies").insert("ssh.cedar".to_owned(), policies());
    options.ssh = Some(sshd::Options::default());
    options
}

/// The programs that an operator may run.
pub const PROGRAMS: [&str; 10] = ["cat", "cd", "date", "echo", "id", "ls", "sleep", "true", "uname", "uptime"];

fn policies() -> String {
    let role = |role: &str, name: &str, unlocks: &str, actions: &str, when: &str| {
        let unlocks = if unlocks.is_empty() { String::new() } else { format!("@unlocks(\"{unlocks}\")\n") };
        let when = if when.is_empty() { String::new() } else { format!("\nwhen {{ {when} }}") };
        format!(
            "@id(\"test-{role}-{name}\")\n@owner(\"petra\")\n@role(\"{role}\")\n@plane(\"elevation\")\n{unlocks}@why(\"for tests: {role}, {name}\")\npermit (principal == ?principal, {actions}, resource == ?resource){when};\n\n"
        )
    };
    let programs = format!("{PROGRAMS:?}");
    let listed = format!("!context.programs.isEmpty() && {programs}.containsAll(context.programs)");
    let session = "action in Action::\"session\"";
    let shell = "action in [Action::\"shell.read\", Action::\"shell.session\"]";
    let everything = "no-where, drop, any-hour, opaque, server-files, code, administer, sensitive-catalogue, sensitive-files, dotfiles, setuid, forwarding, agent, x11, observed";
    let file = "action in [Action::\"file.list\", Action::\"file.stat\", Action::\"file.read\", Action::\"file.write\", Action::\"file.remove\", Action::\"file.rename\", Action::\"file.make_directory\", Action::\"file.link\", Action::\"file.set_attributes\"]";
    let below = |folder: &str| {
        format!(
            "!context.paths.isEmpty() && (context.reads.isEmpty() || context.reads_within.contains(\"@SSH_HOME@/{folder}\")) && (context.writes.isEmpty() || context.writes_within.contains(\"@SSH_HOME@/{folder}\"))"
        )
    };
    let reading =
        "action in [Action::\"shell.read\", Action::\"file.list\", Action::\"file.stat\", Action::\"file.read\"]";
    let mut text = role("log-reader", "files", "", reading, "context.reads_within.contains(\"@SSH_HOME@/logs\")");
    for name in ["operator", "watched", "forwarder"] {
        text += &role(name, "session", "", session, "");
        text += &role(name, "commands", "", shell, &listed);
    }
    let forwards = "action in [Action::\"ssh.forward\", Action::\"ssh.forward_listen\", Action::\"ssh.socket\", Action::\"ssh.agent\"]";
    text += &role("forwarder", "forwards", "forwarding, agent", forwards, "");
    text += &role("deployer", "session", "", session, "");
    text += &role("deployer", "home", "", "action == Action::\"file.stat\"", "context.paths == [\"~\"]");
    text += &role("deployer", "files", "", file, &below("deploy"));
    text += &role("anything", "all", everything, "action", "");
    text += &role("raw", "shell", "opaque, observed", "action in [Action::\"session\", Action::\"ssh.shell\"]", "");
    text += "@id(\"test-hold\")\n@owner(\"petra\")\n@plane(\"elevation\")\n@effect(\"hold\")\n@confirm(\"data-platform\")\n@within(\"5m\")\n@why(\"somebody must confirm it\")\nforbid (principal in Role::\"operator\", action, resource)\nwhen { context.programs.contains(\"uname\") };\n";
    text
}

/// The server.
pub fn sshd(rig: &Rig) -> &Sshd {
    rig.sshd.as_ref().expect("this rig has an SSH server")
}

/// The home folder of the server's account.
pub fn home(rig: &Rig) -> PathBuf {
    sshd(rig).home()
}

/// Somebody with one role on a resource, and their clients.
pub fn admitted_to(rig: &Rig, resource: &str, role: &str) -> (String, Client) {
    let who = guest(rig);
    rig.grant_with(&who, "bob", &[resource, "--role", role, "--for", "30m"]).unwrap();
    let client = rig.ssh(&who).unwrap();
    (who, client)
}

/// The same on `web-1`.
pub fn admitted(rig: &Rig, role: &str) -> (String, Client) {
    admitted_to(rig, "web-1", role)
}

/// Everything that a client wrote.
pub fn wrote(ran: &Ran) -> String {
    format!("{}{}", ran.text(), ran.stderr)
}

/// The number of somebody's newest session, when it has ended.
pub fn last_session(rig: &Rig, who: &str) -> String {
    let newest = || Some(sessions_of(rig, who, true).last()?["session"].as_str()?.to_owned());
    let id = wait::until(SOON, "a session", newest).unwrap();
    ended_session(rig, &id);
    id
}

/// A time to sleep, a minute and a half, that is this test run's own, so that the process is found by it. What outlives
/// its session is gone soon after.
pub fn lasting(n: u32) -> String {
    format!("90.{n}{}", std::process::id())
}

/// The command that takes it.
pub fn sleep(n: u32) -> String {
    format!("sleep {}", lasting(n))
}

/// The processes of this machine that have a word among their arguments.
pub fn processes(word: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

/// A process of this machine, on the other side of the gateway, has begun.
pub fn begins(n: u32) {
    let word = &lasting(n);
    wait::until(SOON, "the command on the host", || processes(word).iter().any(|pid| !is_client(*pid)).then_some(()))
        .unwrap();
}

/// It is gone, or soon is.
pub fn ends(n: u32) {
    let word = &lasting(n);
    let gone = || processes(word).iter().all(|pid| is_client(*pid)).then_some(());
    wait::until(SOON, "the end of the command on the host", gone).unwrap();
}

fn is_client(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "ssh")
}

/// Starts `ssh` in the background.
pub fn background(client: &Client, arguments: &[&str]) -> Running {
    let mut command = client.command(Program::Ssh).unwrap();
    Running::spawn_with_stdin("ssh", command.args(arguments), Stdio::piped()).unwrap()
}

/// What was recorded of a session, as a listing for people.
pub fn listing(rig: &Rig, session: &str) -> String {
    rig.ok("bob", &["session", "replay", session, "--print"]).unwrap()
}

/// The journal's records.
pub fn records(rig: &Rig, session: &str) -> Vec<serde_json::Value> {
    let text = rig.ok("bob", &["session", "replay", session, "--json"]).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// What was recorded of somebody's newest session, which must have ended and must verify.
pub fn recorded(rig: &Rig, who: &str) -> String {
    let session = last_session(rig, who);
    rig.ok("bob", &["verify", "--session", &session]).unwrap();
    listing(rig, &session)
}
