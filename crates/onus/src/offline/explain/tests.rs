use super::*;
use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: ExplainArgs,
}

fn policies() -> String {
    format!("{}/../../policies", env!("CARGO_MANIFEST_DIR"))
}

fn explained(options: &[&str], input: &[u8]) -> (u8, String) {
    let policies = policies();
    let options = options.iter().map(|option| option.replace("POLICIES", &policies));
    let cli = Cli::parse_from(["explain".to_owned()].into_iter().chain(options));
    let mut out = Vec::new();
    let status = answer(&cli.args, &mut &input[..], &mut out).unwrap();
    (status, String::from_utf8(out).unwrap())
}

fn lines(options: &[&str], input: &[u8]) -> Vec<Value> {
    let options: Vec<&str> = ["--jsonl"].into_iter().chain(options.iter().copied()).collect();
    explained(&options, input).1.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn one_line_in_gives_one_line_out_in_order_whatever_it_holds() {
    let mut input = Vec::new();
    for line in [
        &br#""SELECT id FROM orders""#[..],
        br#"{"id": 7, "sql": "DELETE FROM orders", "role": "writer"}"#,
        b"{broken",
        b"\"\xff\"",
        b"",
        b"17",
        br#"{"id": "x", "sql": "SELECT 1", "text": "SELECT 2"}"#,
        br#"{"payload": "SELECT 1", "role": "nobody"}"#,
        br#"{"text": "SELEC 1"}"#,
        br#"{"text": "SELECT '\u0000'"}"#,
        br#"{"text": "SELECT 1", "risk": 9}"#,
    ] {
        input.extend_from_slice(line);
        input.push(b'\n');
    }
    let told = lines(&["--policy", "POLICIES"], &input);
    let shape: Vec<_> = told
        .iter()
        .map(|t| {
            let effect = t["decision"]["effect"].as_str().unwrap();
            (t["line"].as_u64().unwrap(), t["ok"].as_bool().unwrap(), t["opaque"].as_bool().unwrap(), effect)
        })
        .collect();
    assert_eq!(
        shape,
        [
            (1, true, false, "permit"),
            (2, true, false, "hold"),
            (3, false, true, "deny"),
            (4, false, true, "deny"),
            (6, false, true, "deny"),
            (7, false, true, "deny"),
            (8, false, true, "deny"),
            (9, true, true, "deny"),
            (10, true, true, "deny"),
            (11, false, true, "deny"),
        ]
    );
    assert_eq!((&told[1]["id"], &told[5]["id"], told[0].get("id")), (&json!(7), &json!("x"), None));
    assert!(told[6]["error"].as_str().unwrap().contains("define no role `nobody`"));
    assert_eq!(
        told[0]["objects"],
        json!([{"access": "read", "kind": "relation", "name": "public.orders", "parts": ["id"]}])
    );
    assert_eq!(told[0]["classes"], json!(["read"]));
    assert!(told[0]["micros"]["total"].as_f64().unwrap() > 0.0);
}

#[test]
fn nothing_readable_is_a_failure_and_nothing_at_all_is_not() {
    assert_eq!(explained(&["--jsonl"], b"{\n").0, FAILED);
    assert_eq!(explained(&["--jsonl"], b"").0, 0);
    assert_eq!(explained(&["--jsonl"], b"{\n\"SELECT 1\"").0, 0, "the last line needs no line end");
}

#[test]
fn without_policies_there_is_no_decision() {
    let told = lines(&[], br#""SELECT pg_read_file('/etc/passwd')""#);
    assert_eq!(told[0].get("decision"), None);
    assert!(told[0]["classes"].as_array().unwrap().contains(&json!("execute")), "{}", told[0]);
    assert!(told[0]["functions"].to_string().contains("pg_read_file"), "{}", told[0]);
}

#[test]
fn people_get_one_decision_or_one_for_each_role() {
    let (status, text) = explained(&["--policy", "POLICIES", "--role", "writer", "DELETE FROM orders"], b"");
    assert_eq!(status, 0);
    assert!(
        text.starts_with("statement 1: delete\n  sql.delete (write)\n    write relation public.orders\n"),
        "{text}"
    );
    assert!(text.contains("as writer: hold\n  by "), "{text}");
    let (_, text) = explained(&["--policy", "POLICIES", "--all-roles", "-"], b"SELECT 1");
    assert!(text.contains("as reader: permit") && text.contains("as writer: permit"), "{text}");
    assert_eq!(explained(&["--policy", "POLICIES", "--role", "raeder", "SELECT 1"], b"").0, USAGE);
    assert_eq!(explained(&["--at", "yesterday", "SELECT 1"], b"").0, USAGE);
}

#[test]
fn a_text_cannot_steer_the_terminal() {
    let (_, text) = explained(&["SELECT \"a\u{1b}[2J\" FROM \"x\u{202e}\ny\""], b"");
    assert!(!text.contains(['\u{1b}', '\u{202e}']) && text.contains("x\\u{202e}\\ny"), "{text:?}");
}

#[test]
fn a_line_that_is_too_long_is_skipped_and_the_next_one_read() {
    let mut input = vec![b'"'; MAX_LINE_BYTES + 5];
    input.extend_from_slice(b"\n\"SELECT 1\"\n");
    let told = lines(&[], &input);
    assert_eq!((told.len(), &told[0]["ok"], &told[1]["ok"]), (2, &json!(false), &json!(true)));
}
