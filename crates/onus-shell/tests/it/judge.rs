//! The real shell as judge: what `/bin/sh` runs for a canonical script must be exactly what the reading named.
//!
//! Every program in the fake `PATH` is the same stub, which appends its argument vector to a file. The judge compares
//! these vectors with [`onus_shell::Reading::commands`].

use onus_shell::{Reading, Scene, Schemas, Shell};
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};

/// Programs of the test: `show` takes anything, `files` takes paths.
const SCHEMAS: &str = r#"
[[command]]
name = "show"
class = "session"
free = true
[[command]]
name = "files"
class = "read"
bare_globs = true
flags = ["-l/--long"]
args = ["path:read*"]
[[command]]
name = "wrap"
class = "session"
args = ["command"]
[[command]]
name = "line"
class = "session"
options = { "-c" = "shell" }
require = ["-c"]
"#;

static SHELL: LazyLock<Shell> = LazyLock::new(|| {
    let mut schemas = Schemas::shipped();
    schemas.extend(SCHEMAS).unwrap();
    Shell::new(Arc::new(schemas))
});

const STUBS: &[&str] =
    &["show", "files", "wrap", "line", "ls", "cat", "grep", "rm", "touch", "systemctl", "sudo", "id", "pwned"];

struct Host {
    root: PathBuf,
    shell: &'static [&'static str],
}

impl Host {
    fn new(name: &str, shell: &'static [&'static str]) -> Self {
        let root = std::env::temp_dir().join(format!("onus-shell-judge-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        for directory in ["bin", "home/dir", "home/bin"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in ["a.log", "b.log", "-rf.log", "x y.log", ".hidden.log", "dir/-v", "dir/c.txt"] {
            std::fs::write(root.join("home").join(file), "").unwrap();
        }
        for stub in
            ["show", "files", "wrap", "line", "ls", "cat", "grep", "rm", "touch", "systemctl", "sudo", "id", "pwned"]
        {
            let path = root.join("bin").join(stub);
            // Only builtins, so that the stub works with nothing but itself in PATH. The count goes before each word.
            let text =
                format!("#!/bin/sh\n{{ printf '%s\\0' \"$(($#+1))\" {stub} \"$@\"; }} >> {}/ran\n", root.display());
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { root, shell }
    }

    fn home(&self) -> String {
        self.root.join("home").display().to_string()
    }

    /// The argument vectors that really ran, sorted: the order of a pipeline's commands is not fixed.
    fn run(&self, script: &str) -> Vec<Vec<String>> {
        let ran = self.root.join("ran");
        let _ = std::fs::remove_file(&ran);
        let mut command = Command::new(self.shell[0]);
        command.args(&self.shell[1..]).arg("-c").arg(format!("{script}\nwait"));
        command.env_clear().env("PATH", self.root.join("bin")).env("HOME", self.home());
        command.current_dir(self.root.join("home")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!errors.to_lowercase().contains("syntax"), "{script}\n{errors}");
        let text = std::fs::read(&ran).unwrap_or_default();
        let words: Vec<String> =
            text.split(|c| *c == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let mut vectors = Vec::new();
        let mut at = 0;
        while let Some(count) = words.get(at).and_then(|word| word.parse::<usize>().ok()) {
            vectors.push(words[at + 1..at + 1 + count].to_vec());
            at += 1 + count;
        }
        vectors.sort();
        vectors
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn hosts(name: &str) -> Vec<Host> {
    let mut hosts = Vec::new();
    if Path::new("/bin/sh").exists() {
        hosts.push(Host::new(&format!("{name}-sh"), &["/bin/sh"]));
    }
    if Path::new("/bin/bash").exists() {
        hosts.push(Host::new(&format!("{name}-bash"), &["/bin/bash", "--posix"]));
    }
    hosts
}

fn read(line: &str, host: &Host) -> Reading {
    SHELL.read(line.as_bytes(), &Scene { cwd: Some(host.home()), user: Some("alice".into()), ..Scene::default() })
}

/// What the reading says would run, when all commands run and none has a wildcard.
fn predicted(reading: &Reading, host: &Host) -> Vec<Vec<String>> {
    let mut vectors: Vec<Vec<String>> = reading
        .commands
        .iter()
        .map(|simple| simple.argv.iter().map(|arg| arg.on_host(&host.home()).unwrap()).collect())
        .collect();
    vectors.sort();
    vectors
}

/// Words from which random lines are made: each is a way that a shell could be made to see something else.
const NASTY: &[&str] = &[
    "a",
    "''",
    "\"\"",
    "'a b'",
    "\"a b\"",
    "a\\ b",
    "--",
    "-rf",
    "'it'\\''s'",
    "\"$A\"",
    "$A",
    "${A}x",
    "$B",
    "~",
    "~/x",
    "'~/x'",
    "\\~",
    "a~b",
    "{a,b}",
    "{1..3}",
    "x{,y}z",
    "'{a,b}'",
    "{a",
    "a}",
    "{}",
    "{01..03}",
    "{c..a}",
    "$'a\\nb'",
    "$'\\x41\\''",
    "'a\nb'",
    "\"a\nb\"",
    "'$(pwned)'",
    "'`pwned`'",
    "\\$A",
    "\\`pwned\\`",
    "'*'",
    "\"*\"",
    "\\*",
    "'[a]'",
    "'!'",
    "é",
    "日本",
    "'a;b'",
    "a\\;b",
    "'&&'",
    "'|'",
    "'>x'",
    "#x",
    "a#b",
    "'#'",
    "a=b",
    "'a=b'",
    "'\\'",
    "\\\\",
    "'\\n'",
    "\"\\\\\"",
    "\"\\$A\"",
    "\"a'b\"",
    "'a\"b'",
    "%s",
    "'%s\\0'",
    "if",
    "'if'",
    "then",
    "$",
    "\"$\"",
    "a$",
    "'a[$(pwned)]'",
    "$HOME",
    "\"$HOME/x\"",
    "$USER",
    "$'\\u00e9'",
    "a\\\nb",
    "=",
    "'='",
    "\"${A}\"\"\"",
    "''a''",
    "^",
    "'^a'",
    "@",
    "'\t'",
];

/// Lines that may not be read as literal at all; if one is, what runs must still be what was said.
const DYNAMIC: &[&str] =
    &["$(pwned)", "`pwned`", "$((1+1))", "$UNSET", "$1", "*", "?", "<(pwned)", "[ab]", "~root", "$IFS"];

fn compare(line: &str, hosts: &[Host]) -> bool {
    let mut accepted = false;
    for host in hosts {
        let reading = read(line, host);
        let Some(script) = &reading.script else {
            assert!(reading.operations.iter().any(|operation| !operation.opaque.is_empty()), "{line}");
            continue;
        };
        if reading.commands.iter().any(|simple| simple.argv.iter().any(onus_shell::Arg::is_pattern)) {
            continue;
        }
        accepted = true;
        let known: Vec<_> = predicted(&reading, host);
        let ran = host.run(script);
        // A program that isn't on this host leaves no trace and fails, which may skip what follows: then all that
        // ran must have been said, one by one.
        let about = format!("\nline: {line}\nscript: {script}\nshell: {:?}", host.shell);
        if known.iter().all(|argv| STUBS.contains(&argv[0].as_str())) {
            assert_eq!(ran, known, "{about}");
        } else {
            let mut left = known;
            for argv in ran {
                let at = left.iter().position(|said| *said == argv);
                assert!(at.is_some(), "{argv:?} was never said{about}");
                left.remove(at.unwrap());
            }
        }
    }
    accepted
}

fn word() -> impl Strategy<Value = String> {
    let nasty = prop::sample::select(NASTY).prop_map(str::to_owned);
    let joined = prop::collection::vec(prop::sample::select(NASTY), 2..4).prop_map(|parts| parts.concat());
    let dynamic = prop::sample::select(DYNAMIC).prop_map(str::to_owned);
    prop_oneof![12 => nasty, 4 => joined, 1 => dynamic]
}

/// A simple command that succeeds, so that `&&` goes on and the prediction is that everything runs.
fn simple() -> impl Strategy<Value = String> {
    prop::collection::vec(word(), 0..5).prop_flat_map(|words| {
        let words = words.join(" ");
        prop_oneof![
            6 => Just(format!("show {words}")),
            1 => Just(format!("wrap show {words}")),
            1 => Just(format!("A=x; show {words}")),
            1 => Just(format!("show {words} > /dev/null 2>&1")),
            1 => Just(format!("for i in {words}; do show $i \"$i\"; done")),
            1 => Just(format!("{{ show {words}; }}")),
            1 => Just(format!("( show {words} )")),
            1 => Just(format!("show <<'E'\n$(pwned) {words}\nE\n")),
            1 => Just(format!("show <<< {words}x")),
            1 => Just(format!("if show {words}; then show y; fi")),
            1 => Just(format!("command show {words}")),
            1 => Just(format!("LANG=C show {words}")),
            1 => Just(format!("\"show\" {words} # {words}")),
        ]
    })
}

fn line() -> impl Strategy<Value = String> {
    (simple(), prop::collection::vec((prop::sample::select(&["; ", " && ", " | ", "\n", " & "][..]), simple()), 0..3))
        .prop_map(|(first, rest)| {
            let mut line = format!("A='b  c'; B=; {first}");
            for (join, next) in rest {
                line.push_str(join);
                line.push_str(&next);
            }
            line
        })
}

#[test]
fn random_lines_run_exactly_what_was_read() {
    let hosts = hosts("random");
    let accepted = std::cell::Cell::new(0_u32);
    let cases = std::env::var("ONUS_JUDGE_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(150);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&line(), |line| {
            accepted.set(accepted.get() + u32::from(compare(&line, &hosts)));
            Ok(())
        })
        .unwrap();
    // A judge who never sees a case proves nothing.
    assert!(accepted.get() * 6 > cases, "only {} of {cases} lines were accepted", accepted.get());
}

#[test]
fn each_nasty_word_alone_runs_exactly_what_was_read() {
    let hosts = hosts("each");
    let mut accepted = 0;
    for word in NASTY {
        accepted += usize::from(compare(&format!("A='b  c'; B=; show {word}"), &hosts));
    }
    assert!(accepted * 10 > NASTY.len() * 8, "{accepted} of {}", NASTY.len());
}

/// `/bin/sh -c` inside of a script that was read: the inner line is canonical too.
#[test]
fn an_inner_line_is_sent_in_its_canonical_form() {
    for host in hosts("inner") {
        let reading = read("line -c \"show 'a b' $'it\\'s'\"", &host);
        let inner = reading.commands[0].argv[2].literal().unwrap().to_owned();
        assert_eq!(host.run(&inner), [["show", "a b", "it's"]]);
        assert!(reading.operations.iter().all(|operation| operation.opaque.is_empty()), "{reading:?}");
    }
}

/// Another user's shell has another home: a directory below ours must not be written as `$HOME` there.
#[test]
fn the_home_directory_stays_out_of_inner_lines() {
    let home = Scene::default();
    for line in ["wrap line -c 'cd x && show y'", "line -c 'show ~'", "line -c 'show \"$HOME\"'", "line -c 'cd'"] {
        let reading = SHELL.read(line.as_bytes(), &home);
        assert!(reading.operations.iter().any(|operation| !operation.opaque.is_empty()), "{line}: {reading:?}");
    }
}

/// What a pure line changes is handed to the governed shell, and nothing else is.
#[test]
fn only_pure_lines_change_the_scene() {
    let scene = Scene { cwd: Some("/srv".into()), ..Scene::default() };
    let effects = |line: &str| SHELL.read(line.as_bytes(), &scene).effects;
    assert_eq!(effects("cd app").cd.as_deref(), Some("/srv/app"));
    assert_eq!(effects("cd").cd.as_deref(), Some("~"));
    assert_eq!(effects("cd .. && cd tmp").cd.as_deref(), Some("/tmp"));
    assert_eq!(effects("A=1 B=2").assigned.len(), 2);
    assert_eq!(effects("export LANG=C").exported["LANG"].as_deref(), Some("C"));
    for line in ["cd app && show", "A=1; show $A", "A=1 | show", "(cd app)", "cd app &", "export FOO=1", "PATH=/tmp"] {
        assert_eq!(effects(line), onus_shell::Effects::default(), "{line}");
    }
}

/// Wildcards become paths and never options.
#[test]
fn a_wildcard_never_becomes_an_option() {
    for host in hosts("glob") {
        for line in ["files *.log", "files ./*.log", "files dir/*", "files ~/*.log", "files -l dir/?", "files [ab].log"]
        {
            let reading = read(line, &host);
            let script = reading.script.as_ref().unwrap_or_else(|| panic!("{line}: {reading:?}"));
            let options = usize::from(line.contains("-l"));
            for vector in host.run(script) {
                assert!(vector.len() > 1 + options, "{line}: {vector:?}");
                for word in &vector[1 + options..] {
                    assert!(!word.starts_with('-') && !word.contains(".."), "{line}: {vector:?}");
                }
            }
        }
        for line in ["files .*", "files -*", "show *", "*", "files > *", "files dir/.*", "files {-,a}*"] {
            assert!(read(line, &host).script.is_none(), "{line}");
        }
    }
}

/// The envelope survives each login shell that is here, whatever the script holds.
#[test]
fn the_envelope_carries_the_script_through_login_shells() {
    let script = "printf '%s\\n' 'it'\\''s \\ $HOME `x` \"q\" !' 'a\\\\b' '\\'\\'''\nprintf '%s|' \"$HOME\" \"$PATH\" \"${BAD-none}\"";
    let scene = Scene { cwd: Some("/tmp".into()), ..Scene::default() };
    let text = onus_shell::envelope(script, &scene, &[("LANG".into(), "C".into())]);
    let run = |shell: &[&str], text: &str| {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).arg("-c").arg(text).env("HOME", "/root").env("BAD", "yes");
        command.env("BASH_FUNC_printf%%", "() { echo pwned; }").env("ENV", "/nonexistent");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let direct =
        run(&["/bin/sh"], &script.replace("${BAD-none}", "none").replace("$PATH", onus_shell::environment::PATH));
    for shell in [&["/bin/sh"][..], &["/bin/bash"], &["/bin/bash", "--posix"], &["/usr/bin/zsh"], &["/usr/bin/fish"]] {
        if Path::new(shell[0]).exists() {
            assert_eq!(run(shell, &text), direct, "{shell:?}\n{text}");
        }
    }
}
