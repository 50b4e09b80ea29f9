//! Under a role that permits a short list of programs, nothing else runs: not what a shell would make of a line, not what
//! a permitted program could start, not what the account's own files put in the way.
//!
//! Each attempt is made to run a canary, a program that leaves a mark.

use crate::ssh_scene::{admitted, canary, home, rig, sang, wrote};
use onus_testkit::Rig;
use onus_testkit::ssh_client::Client;
use onus_testkit::ssh_tools::Program;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Somebody with a short list, whose clients share one connection.
fn operator(rig: &Rig) -> Client {
    let (_, mut client) = admitted(rig, "operator");
    client.option("ControlMaster auto").unwrap();
    client.option("ControlPersist 20").unwrap();
    client.patience(Duration::from_secs(20));
    client.ssh(&["web-1", "true"]).unwrap().ok().unwrap();
    client
}

/// `CANARY` stands for the program.
const ATTEMPTS: &[&str] = &[
    "CANARY",
    "echo $(CANARY)",
    "echo `CANARY`",
    "echo \"$(CANARY)\"",
    "cat <(CANARY)",
    "cat <<EOF\n$(CANARY)\nEOF",
    "cat <<'EOF'\nx\nEOF\nCANARY",
    "cat <<-EOF\n\t`CANARY`\n\tEOF",
    "cat <<< $(CANARY)",
    "cat <<a <<b\na\n$(CANARY)\nb",
    "eval CANARY",
    "eval 'echo; CANARY'",
    ". CANARY",
    "source CANARY",
    "exec CANARY",
    "command CANARY",
    "builtin eval CANARY",
    "env CANARY",
    "env -S 'CANARY x'",
    "nice CANARY",
    "nohup CANARY",
    "timeout 5 CANARY",
    "setsid CANARY",
    "time CANARY",
    "! CANARY",
    "(CANARY)",
    "{ CANARY; }",
    "coproc CANARY",
    "e=CANARY; $e",
    "e=CANARY; \"$e\"",
    "e='echo;CANARY'; $e",
    "set -- CANARY; $1",
    "set -- CANARY; \"$@\"",
    "true\nCANARY",
    "true;CANARY",
    "true&CANARY",
    "true&&CANARY",
    "true|CANARY",
    "true|&CANARY",
    "false||CANARY",
    "true\rCANARY",
    "true\u{b};CANARY",
    "true # x\nCANARY",
    "true \\\n; CANARY",
    "echo 'a\nb'; CANARY",
    "echo $'a\\'; CANARY #'",
    "echo $'\\x27'; CANARY",
    "echo 'it'\\''s'; CANARY",
    "echo \"a\\\"; CANARY #\"; CANARY",
    "$'\\x2f'${0#x}; CANARY",
    "{CANARY,}",
    "{,CANARY}",
    "{echo,x};CANARY",
    "echo${IFS}x;CANARY",
    "true${IFS};${IFS}CANARY",
    "IFS=,;c=CANARY,x;$c",
    "x=$(CANARY) true",
    "echo ${x:=$(CANARY)}",
    "echo ${x:-`CANARY`}",
    "x='$(CANARY)'; echo ${x@P}",
    "a[$(CANARY)]=1",
    "echo ${a[$(CANARY)]}",
    "echo $((a[$(CANARY)]))",
    "x='a[$(CANARY)]'; echo $((x))",
    "x='a[$(CANARY)]'; sleep $((x))",
    "let 'a[$(CANARY)]=1'",
    "[[ -v a[$(CANARY)] ]]",
    "[ -v 'a[$(CANARY)]' ]",
    "test -v 'a[$(CANARY)]'",
    "printf -v 'a[$(CANARY)]' x",
    "unset 'a[$(CANARY)]'",
    "declare -n r='a[$(CANARY)]'; echo $r",
    "read 'a[$(CANARY)]' <<< x",
    "alias ls=CANARY\nls",
    "ls() { CANARY; }; ls",
    "function ls { CANARY; }\nls",
    "trap CANARY EXIT",
    "trap CANARY DEBUG; true",
    "PATH=CANARIES:$PATH ls",
    "PATH=CANARIES; ls",
    "export PATH=CANARIES; ls",
    "hash -p CANARY ls; ls",
    "enable -f CANARY x",
    "LD_PRELOAD=CANARY ls",
    "BASH_ENV=CANARY ls",
    "ENV=CANARY ls",
    "PS4='$(CANARY)'; set -x; true",
    "PROMPT_COMMAND=CANARY; true",
    "SHELLOPTS=xtrace PS4='$(CANARY)' true",
    "sh -c CANARY",
    "bash -c CANARY",
    "/bin/sh CANARY",
    "echo CANARY | sh",
    "echo CANARY | xargs -I{} {}",
    "xargs CANARY < /dev/null",
    "ls / | xargs CANARY",
    "find . -exec CANARY ;",
    "find . -maxdepth 0 -exec CANARY {} +",
    "awk 'BEGIN { system(\"CANARY\") }'",
    "python3 -c 'import os; os.system(\"CANARY\")'",
    "if CANARY; then true; fi",
    "while CANARY; do break; done",
    "until CANARY; do break; done",
    "for x in $(CANARY); do true; done",
    "for x in CANARY; do $x; done",
    "for x in a; do CANARY; done",
    "for ((i=$(CANARY);0;)); do true; done",
    "case $(CANARY) in *) ;; esac",
    "case x in x) CANARY;; esac",
    "select x in a; do CANARY; done < /dev/null",
    "CANARIES/ls",
    "CANARIES/../run",
    "~/canary/run",
    "$HOME/canary/run",
    "\"$HOME\"/canary/run",
    "~+/canary/run",
    "cd ~/canary; ./run",
    "cd ~/canary && ./ru*",
    "~/canary/r?n",
    "~/canary/bin/l*",
    "/bin/../CANARY",
    "\u{feff}CANARY",
    "true\u{a0};CANARY",
    "true\u{2028}CANARY",
    "true\u{85}CANARY",
    "echo x > CANARY-ran",
    "echo x >> CANARY-ran",
    "true > CANARY-ran",
    "> CANARY-ran",
    "echo x >| CANARY-ran",
    "echo x &> CANARY-ran",
    "echo x 1<> CANARY-ran",
    "cat < /dev/null > CANARY-ran",
    "{ echo x; } > CANARY-ran",
    "for x in a; do echo $x; done > CANARY-ran",
    "sleep 0 & CANARY",
    "sleep 0; wait; CANARY",
    "fc -e CANARY",
    "!CANARY",
    "ls -- $(CANARY)",
    "ls --color=$(CANARY)",
    "ls \"--$(CANARY)\"",
    "date -f <(CANARY)",
    "id;\tCANARY",
    "if true; then CANARY; fi",
    "true && { false || CANARY; }",
];

fn filled(rig: &Rig, line: &str) -> String {
    let folder = home(rig).join("canary/bin").display().to_string();
    line.replace("CANARIES", &folder).replace("CANARY", &canary(rig).display().to_string())
}

#[test]
fn no_line_runs_what_is_not_on_the_list() {
    let rig = rig();
    let client = operator(rig);
    assert!(!sang(rig));
    let mut let_in = Vec::new();
    for attempt in ATTEMPTS {
        let ran = client.ssh(&["web-1", &filled(rig, attempt)]).unwrap();
        assert!(!sang(rig), "{attempt:?} ran it: {}", wrote(&ran));
        if ran.code() != Some(126) {
            let_in.push((*attempt, wrote(&ran)));
        }
    }
    // But for one, which is a text within quotes that only looks like more.
    assert_eq!(let_in.iter().map(|(line, _)| *line).collect::<Vec<_>>(), ["echo $'a\\'; CANARY #'"], "{let_in:#?}");
    // Each by itself in the governed shell.
    for attempt in ATTEMPTS.iter().filter(|attempt| !attempt.contains("fc -e")) {
        let script = format!("{}\necho after\n", filled(rig, attempt));
        let ran = client.run(Program::Ssh, &["web-1"], script.as_bytes()).unwrap();
        assert!(!sang(rig), "{attempt:?} ran it in the governed shell: {}", wrote(&ran));
    }
}

/// The canary can sing: under a role that may run anything it does.
#[test]
fn the_canary_sings_where_it_may() {
    let rig = rig();
    let (_, client) = admitted(rig, "anything");
    let other = format!("{}-elsewhere", canary(rig).display());
    client.ssh(&["web-1", &format!("echo $({other})")]).unwrap().ok().unwrap();
    assert!(Path::new(&format!("{other}-ran")).exists());
}

#[test]
fn what_is_on_the_list_is_the_real_thing_whatever_the_account_has_in_the_way() {
    let rig = rig();
    let client = operator(rig);
    let id = client.ssh(&["web-1", "id -un"]).unwrap();
    assert_eq!(id.text().trim(), rig.sshd.as_ref().unwrap().user(), "{}", wrote(&id));
    assert!(client.ssh(&["web-1", "ls /"]).unwrap().text().contains("etc\n"));
    assert!(client.ssh(&["web-1", "date +%Y"]).unwrap().text().starts_with("20"));
    assert_eq!(client.ssh(&["web-1", "sleep 0; uptime"]).unwrap().code(), Some(0));
    // Variables by the client's own request.
    let set =
        format!("SetEnv PATH={0} LD_PRELOAD={0}/x BASH_ENV={0}/ls ENV={0}/ls", home(rig).join("canary/bin").display());
    let (_, mut alone) = admitted(rig, "operator");
    alone.option(&set).unwrap();
    assert!(alone.ssh(&["web-1", "ls /"]).unwrap().text().contains("etc\n"));
    assert!(!sang(rig));
}

#[test]
fn a_name_that_is_an_option_stays_a_name() {
    let rig = rig();
    let client = operator(rig);
    let folder = home(rig).join("logs/globs");
    fs::create_dir_all(&folder).unwrap();
    for name in ["--version", "-n", "x", "$(echo y)", "a b", "new\nline"] {
        fs::write(folder.join(name), format!("<{name}>")).unwrap();
    }
    let ran = client.ssh(&["web-1", &format!("cd {}; cat *", folder.display())]).unwrap();
    assert!(!ran.text().contains("coreutils"), "{}", wrote(&ran));
    if ran.code() != Some(126) {
        assert!(ran.text().contains("<--version>") && ran.text().contains("<$(echo y)>"), "{}", wrote(&ran));
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn no_payload_of_gtfobins_runs_what_is_not_on_the_list() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora/gtfobins/gtfobins.jsonl");
    let Ok(text) = fs::read_to_string(corpus) else { return println!("skipped: no corpora") };
    let rig = rig();
    let client = operator(rig);
    let canary = canary(rig).display().to_string();
    let (mut tried, mut let_in) = (0, Vec::new());
    for row in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        if !["shell", "command", "privilege-escalation", "library-load"].contains(&row["function"].as_str().unwrap()) {
            continue;
        }
        let Some(command) = row["command"].as_str().filter(|command| !command.is_empty()) else { continue };
        let mut line = command.to_owned();
        for shell in ["/bin/sh", "/bin/bash", "/path/to/command", "/path/to/cmd"] {
            line = line.replace(shell, &canary);
        }
        let ran = client.ssh(&["web-1", &line]).unwrap();
        tried += 1;
        assert!(!sang(rig), "{}: {line}: {}", row["id"], wrote(&ran));
        if ran.code() != Some(126) {
            let_in.push(format!("{}: {line}: {}", row["id"], wrote(&ran)));
        }
    }
    assert!(tried > 50, "{tried}");
    assert!(let_in.is_empty(), "not refused: {let_in:#?}");
}
