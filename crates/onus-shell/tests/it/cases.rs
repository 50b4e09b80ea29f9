//! Lines and what they are, from `cases.txt`: the line, `>` its canonical script, and its operations.

use crate::hostile::read;
use onus_shell::Reading;

fn show(reading: &Reading) -> String {
    let mut out = String::new();
    match &reading.script {
        Some(script) => {
            for line in script.trim_end_matches('\n').split('\n') {
                out.push_str(&format!("    > {line}\n"));
            }
        }
        None => out.push_str(if reading.incomplete { "    > incomplete\n" } else { "    > none\n" }),
    }
    for operation in &reading.operations {
        out.push_str(&format!("    {}", operation.action));
        for object in &operation.objects {
            out.push_str(&format!(" | {} {} {}", object.access.as_str(), object.kind, object.name));
        }
        if !operation.facts.is_empty() {
            out.push_str(&format!(" | [{}]", operation.facts.iter().cloned().collect::<Vec<_>>().join(" ")));
        }
        for why in &operation.opaque {
            out.push_str(&format!(" | ? {why}"));
        }
        out.push('\n');
    }
    out
}

/// Set `ONUS_BLESS=1` to write what is read now; then read the difference.
#[test]
fn lines_are_read_as_written_down() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/cases.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with("    ") {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        if !line.is_empty() && !line.starts_with("# ") {
            out.push_str(&show(&read(&line.replace("\\n", "\n"))));
        }
    }
    if std::env::var_os("ONUS_BLESS").is_some() {
        std::fs::write(path, out).unwrap();
        return;
    }
    for (want, have) in text.lines().zip(out.lines()) {
        assert_eq!(have, want);
    }
    assert_eq!(out.lines().count(), text.lines().count());
}
