use super::*;

const GOOD: &str = r"
parties:
  alice: { name: Alice, contact: alice@example.test }
  bob: { name: Bob }
  olga: { name: Olga }
teams:
  data: { lead: olga, members: [bob] }
planes:
  lifecycle: { accountable: bob }
  issuance: { accountable: bob }
  elevation: { accountable: bob, responsible: [olga] }
  runtime: { accountable: bob }
  response: { accountable: bob }
  service: { accountable: bob }
  change: { accountable: bob }
subjects:
  alice: { kind: human, owner: bob, party: alice }
  root: { kind: human, owner: bob, party: bob, administrator: true }
services:
  orders: { owner: olga, safe_failure: the shop shows its catalogue only }
resources:
  orders-db:
    service: orders
    protocol: postgresql
    labels: [pci]
    settings:
      address: 127.0.0.1:5432
      search_path: [app, public]
roles:
  reader:
    owner: bob
    why: looking into orders
    resources: [orders-db]
    scope: { schemas: [public], classes: [read, session] }
    max_for: 8h
    approvers: [data, olga]
    approvals: 2
    member_of: [app_reader]
";

/// What is told about the good estate after one replacement.
fn check(from: &str, to: &str, expect: &[&str]) {
    assert!(GOOD.contains(from), "`{from}` is not in the estate");
    let told: Vec<String> = match read_texts([("e.yaml", GOOD.replacen(from, to, 1).as_str())]) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(told, expect, "`{from}` → `{to}`");
}

#[test]
fn a_whole_estate_is_read_as_it_is_written() {
    let estate = read_texts([("e.yaml", GOOD)]).unwrap();
    let role = estate.roles.values().next().unwrap();
    assert_eq!((role.max_for, role.approvals), (Millis(8 * 3_600_000), 2));
    assert_eq!(role.scope.classes, [Class::Read, Class::Session].into());
    let resource = estate.resources.values().next().unwrap();
    assert_eq!(resource.settings["address"], ["127.0.0.1:5432"]);
    assert_eq!(resource.settings["search_path"], ["app", "public"]);
    assert!(estate.subjects.values().any(|s| s.administrator) && estate.parties.values().all(|p| p.active));
    // The same through the structs' own serde form: no field was forgotten here.
    let json = serde_json::to_value(&estate).unwrap();
    assert_eq!(serde_json::from_value::<Estate>(json).unwrap(), estate);
}

#[test]
fn each_mistake_is_told_at_its_place_with_what_to_do() {
    check("", "", &[]);
    check(
        "lead: olga",
        "lead: ogla",
        &["e.yaml:7:17: team `data`, lead: there is no party `ogla`; declare it under `parties`; did you mean `olga`?"],
    );
    check(
        "resources: [orders-db]",
        "resources: [orders]",
        &["e.yaml:33:17: role `reader`, resources: there is no resource `orders`; declare it under `resources`"],
    );
    check(
        "[data, olga]",
        "[olga, dta]",
        &["e.yaml:36:23: role `reader`, approvers: there is no party or team `dta`; did you mean `data`?"],
    );
    check(
        "why: looking",
        "wy: looking",
        &[
            "e.yaml:30:3: role `reader`, why: it is missing; add it",
            "e.yaml:32:5: role `reader`: there is no key `wy`; use owner, why, resources, scope, max_for, approvers, \
             approvals, member_of, login, shell, watchers; did you mean `why`?",
        ],
    );
    check(
        "max_for: 8h",
        "max_for: 8",
        &["e.yaml:35:14: role `reader`, max_for: `8` is not a duration; write a number and s, m, h or d, such as 30m"],
    );
    check(
        "administrator: true",
        "administrator: \"false\"",
        &["e.yaml:18:63: subject `root`, administrator: write true or false"],
    );
    check(
        "administrator: true",
        "administrator: yes",
        &["e.yaml:18:63: subject `root`, administrator: write true or false"],
    );
    check("members: [bob]", "members: bob", &["e.yaml:7:32: team `data`, members: write a list, such as [bob]"]);
    check(
        "kind: human, owner: bob, party: alice",
        "kind: humn, owner: bob, party: alice",
        &["e.yaml:17:18: subject `alice`, kind: `humn` is none of human, workload, agent; did you mean `human`?"],
    );
    check(
        "approvals: 2",
        "approvals: 2\n    shell: raww\n    watchers: [dta]\n    login: a/b",
        &["e.yaml:38:12: role `reader`, shell: `raww` is none of governed, raw; did you mean `raw`?"],
    );
    check(
        "approvals: 2",
        "approvals: 2\n    shell: raw\n    watchers: [dta]\n    login: a/b",
        &[
            "e.yaml:39:16: role `reader`, watchers: there is no party or team `dta`; did you mean `data`?",
            "e.yaml:40:12: role `reader`, login: `a/b` can't be an account; use letters, digits and . _ -, at most 32",
        ],
    );
    check(
        "approvals: 2",
        "approvals: 2\n    watchers: []",
        &["e.yaml:38:15: role `reader`, watchers: nobody is named; name a party or a team, or leave it out"],
    );
    check(
        "schemas: [public]",
        "paths: [/var/log, /srv/]",
        &[
            "e.yaml:34:32: role `reader`, scope: `/srv/` is no plain path; write it from `/` or `~`, without `..`, `*` or a last `/`",
        ],
    );
    check(
        "schemas: [public]",
        "schemas: []",
        &["e.yaml:34:23: role `reader`, scope: `schemas` is empty, which would mean all; leave it out or name some"],
    );
    check(
        "classes: [read",
        "classes: [raed",
        &[
            "e.yaml:34:43: role `reader`, scope: `raed` is none of session, read, write, define, administer, execute, opaque; did you mean `read`?",
        ],
    );
    check(
        "schemas:",
        "schema:",
        &[
            "e.yaml:34:14: role `reader`, scope: there is no key `schema`; use databases, schemas, relations, classes, paths, programs; did you mean `schemas`?",
        ],
    );
    check(
        "\nteams:",
        "\nteam:",
        &[
            "e.yaml:6:1: there is no section `team`; use parties, teams, planes, subjects, services, resources, roles; did you mean `teams`?",
            "e.yaml:36:17: role `reader`, approvers: there is no party or team `data`",
        ],
    );
    check(
        "  runtime:",
        "  runtme:",
        &[
            "e.yaml:8:1: plane `runtime`, accountable: no owner; add `runtime: { accountable: PARTY }` under `planes`",
            "e.yaml:12:3: plane `runtme`, name: there is no such plane; use lifecycle, issuance, elevation, runtime, response, supplier, service, change; did you mean `runtime`?",
        ],
    );
    check(
        "  orders-db:",
        "  orders db:",
        &[
            "e.yaml:22:3: resource `orders db`, name: the name `orders db` holds ` `; use letters, digits and . _ - @ /",
            "e.yaml:33:17: role `reader`, resources: there is no resource `orders-db`; declare it under `resources`; did you mean `orders db`?",
        ],
    );
    check("lead: olga, ", "", &["e.yaml:7:3: team `data`, lead: it is missing; add it"]);
    check(
        "why: looking into orders",
        "why:",
        &["e.yaml:32:5: role `reader`, why: it is empty; give it a value or leave it out"],
    );
    check(
        "approvals: 2",
        "approvals: 300",
        &["e.yaml:37:16: role `reader`, approvals: `300` is not a number from 0 to 255"],
    );
    check(
        "bob: { name: Bob }",
        "bob: Bob",
        &["e.yaml:4:8: party `bob` must hold names, each with its fields, such as `name: { … }`"],
    );
}

#[test]
fn what_yaml_would_pass_over_in_silence_is_refused() {
    check(
        "  bob: { name: Bob }",
        "  bob: { name: Bob }\n  bob: { name: Robert }",
        &["e.yaml:5:3: `bob` stands here a second time, after line 4; write it once"],
    );
    check(
        "subjects:",
        "---\nsubjects:",
        &["e.yaml:16:1: a second document begins here; put it into a file of its own"],
    );
    check(
        "bob: { name: Bob }",
        "bob: &b { name: Bob }",
        &["e.yaml:4:11: anchors and aliases are not read; write it out"],
    );
    check("name: Bob", "name: !!str Bob", &["e.yaml:4:22: tags (`!…`) are not read; leave it out"]);
    let [first] = &read_texts([("e.yaml", "a: [b\nc: }")]).unwrap_err()[..] else { panic!("one problem") };
    assert!(first.to_string().starts_with("e.yaml:2:") && first.text.starts_with("this is not YAML: "), "{first}");
    let [first] = &read_texts([("e.yaml", "- a")]).unwrap_err()[..] else { panic!("one problem") };
    assert_eq!(first.to_string(), "e.yaml:1:1: write sections such as `parties:` here");
    assert!(
        read_texts([("e.yaml", format!("---\n# first\n{GOOD}").as_str())]).is_ok(),
        "one marker begins one document"
    );
}

#[test]
fn deep_nesting_is_refused_before_the_parser_recurses() {
    for deep in
        ["[".repeat(200_000), "- ".repeat(200_000), "a: [\n".repeat(100_000), format!("{}a: 1", " ".repeat(5000))]
    {
        let problems = read_texts([("e.yaml", deep.as_str())]).unwrap_err();
        assert!(problems[0].text.contains("nested too deeply"), "{}", problems[0]);
    }
}

#[test]
fn names_are_one_across_files_and_both_files_problems_are_told() {
    let more = "parties:\n  bob: { name: Another }\nteams:\n  ops: { lead: nobody }\n";
    let told: Vec<_> =
        read_texts([("a.yaml", GOOD), ("b.yaml", more)]).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "b.yaml:2:3: party `bob` is declared already at a.yaml:4; declare it once",
            "b.yaml:4:16: team `ops`, lead: there is no party `nobody`; declare it under `parties`",
        ]
    );
}

#[test]
fn a_directory_is_read_in_order_and_an_empty_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(read(dir.path()).unwrap_err()[0].text.contains("holds no `*.yaml`"));
    let (parties, rest) = GOOD.split_once("teams:").unwrap();
    std::fs::write(dir.path().join("b.yml"), format!("teams:{rest}")).unwrap();
    std::fs::write(dir.path().join("a.yaml"), parties).unwrap();
    std::fs::write(dir.path().join("notes.txt"), "{").unwrap();
    assert_eq!(read(dir.path()), read_texts([("e.yaml", GOOD)]));
    std::fs::write(dir.path().join("c.yaml"), b"parties:\n  x: { name: \"\xff\" }\n").unwrap();
    assert!(read(dir.path()).unwrap_err()[0].text.starts_with("is not UTF-8 at byte "));
    assert!(read(&dir.path().join("absent")).unwrap_err()[0].text.starts_with("cannot be read"));
}

#[test]
fn a_name_cannot_steer_the_terminal() {
    let text = "parties:\n  \"a\\e[2Jb\": { name: x }\n";
    let problems = read_texts([("e.yaml", text)]).unwrap_err();
    assert!(problems.iter().all(|p| !p.to_string().contains('\u{1b}')), "{problems:?}");
}

#[test]
fn the_documented_estate_is_one() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/estate.md")).unwrap();
    let yaml = page.split_once("```yaml\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    assert_eq!(read_texts([("estate.md", yaml)]).err(), None);
}
