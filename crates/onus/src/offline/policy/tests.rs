use super::*;

fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies")
}

fn written(run: impl FnOnce(&mut Vec<u8>) -> io::Result<u8>) -> (u8, String) {
    let mut out = Vec::new();
    let status = run(&mut out).unwrap();
    (status, String::from_utf8(out).unwrap())
}

#[test]
fn the_default_set_passes_its_own_cases_with_the_real_classifier() {
    let args = TestArgs { dir: policies(), cases: None, estate: None, json: false };
    let (status, text) = written(|out| tested(&args, out));
    assert_eq!(status, 0, "{text}");
}

#[test]
fn a_failing_case_is_told_and_fails() {
    let dir = tempfile::tempdir().unwrap();
    let cases = dir.path().join("c.json");
    std::fs::write(&cases, r#"[{"name": "x", "role": "reader", "sql": "DROP TABLE t", "expect": "permit"}]"#).unwrap();
    let args = TestArgs { dir: policies(), cases: Some(cases), estate: None, json: false };
    let (status, text) = written(|out| tested(&args, out));
    assert!(status == FAILED && text.starts_with("FAILED  x  expected permit, got deny"), "{text}");
}

#[test]
fn owners_are_checked_against_an_estate_only() {
    let args = |estate| CheckArgs { dir: policies(), estate, json: false };
    let (status, text) = written(|out| checked(&args(None), out));
    assert!(status == 0 && text.contains(UNCHECKED), "{text}");
    let dir = tempfile::tempdir().unwrap();
    let planes = ["lifecycle", "issuance", "elevation", "runtime", "response", "service", "change"];
    let planes: String = planes.iter().map(|plane| format!("  {plane}: {{ accountable: zoe }}\n")).collect();
    std::fs::write(dir.path().join("e.yaml"), format!("parties:\n  zoe: {{ name: Zoe }}\nplanes:\n{planes}")).unwrap();
    let problems = policy_dir::load(&policies(), Some(dir.path())).unwrap_err();
    assert!(
        problems.iter().any(|p| p.contains("roles.cedar:") && p.contains("`petra` is not an active party")),
        "{problems:?}"
    );
}

#[test]
fn a_replay_tells_what_would_change_and_for_whom() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["roles.cedar", "guards.cedar"] {
        let text = std::fs::read_to_string(policies().join(name)).unwrap();
        std::fs::write(
            dir.path().join(name),
            text.replace("[Action::\"read\", Action::\"session\"]", "[Action::\"session\"]"),
        )
        .unwrap();
    }
    let view = json!({"session": "S-1", "epoch": 1, "as_of": 1, "subject": "alice", "subject_kind": "human", "teams": [],
        "resource": "db", "service": "s", "labels": [], "database": "d", "role": "reader", "grant": "G-1", "purpose": "",
        "scope": {}, "opened": 0, "deadline": u64::MAX, "risk": 0, "tier": "mediated", "policy_version": 1, "policy_digest": ""});
    let records = [
        json!({"k": "view", "epoch": 1, "view": view}),
        json!({"k": "def", "def": 1, "epoch": 1, "at": 1000, "operations": operations_of("SELECT 1 FROM t")}),
        json!({"k": "op", "op": 1, "def": 1}),
        json!({"view": view, "at": "2026-11-18T12:00:00Z", "operations": operations_of("BEGIN"), "label": "x\u{1b}"}),
    ];
    let records: String = records.iter().map(|record| format!("{record}\n")).collect();
    let args = ReplayArgs { from: policies(), to: dir.path().to_owned(), records: "-".into(), json: false };
    let (status, text) = written(|out| replayed(&args, &mut records.as_bytes(), out));
    assert_eq!(status, 0, "{text}");
    assert!(text.starts_with("1 of 2 decisions would change\n\nalice: 1\n  permit → deny  S-1 "), "{text}");
    let broken = format!("{records}{{\"k\":\"def\"}}\n");
    let (status, text) = written(|out| replayed(&args, &mut broken.as_bytes(), out));
    assert_eq!((status, text.as_str()), (FAILED, ""), "half a replay is none");
}
