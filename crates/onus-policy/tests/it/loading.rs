//! What a set is refused for, and that each refusal says where and what to do.

use crate::{EVERYTHING, GUARDS, ROLES, actions, known, load};
use onus_policy::{KnownParties, PolicyProblem, PolicySet};

const GOOD: &str = r#"@id("p") @owner("petra") @plane("elevation") @why("w")
permit(principal, action in Action::"read", resource);"#;

fn problems(text: &str) -> Vec<PolicyProblem> {
    PolicySet::load(&[("a.cedar", text)], &actions(), &known()).err().unwrap_or_default()
}

/// Refused for this one reason, on this line.
#[track_caller]
fn refused(text: &str, line: usize, what: &str) {
    let found = problems(text);
    assert!(
        found.iter().any(|p| p.line == line && p.file == "a.cedar" && p.what.contains(what) && !p.to_do.is_empty()),
        "expected line {line}: {what}; found {found:#?}"
    );
}

#[test]
fn every_policy_says_who_answers_for_it_and_why() {
    assert_eq!(problems(GOOD), []);
    for (annotation, name) in [
        ("@id(\"p\")", "@id"),
        ("@owner(\"petra\")", "@owner"),
        ("@plane(\"elevation\")", "@plane"),
        ("@why(\"w\")", "@why"),
    ] {
        refused(&GOOD.replace(annotation, ""), 1, &format!("it has no `{name}`"));
        let empty = format!("{}(\" \")", name);
        refused(&GOOD.replace(annotation, &empty), 1, &format!("it has no `{name}`"));
    }
    assert_eq!(problems("permit(principal, action, resource);").len(), 4, "all at once");
}

#[test]
fn owners_and_confirmers_are_known() {
    refused(&GOOD.replace("petra", "mallory"), 1, "`mallory` is not an active party");
    refused(&GOOD.replace("petra", "pam"), 1, "`pam` is not an active party");
    refused(&GOOD.replace("elevation", "security"), 1, "plane `security` is unknown");
    let hold = GOOD.replace("permit", "@effect(\"hold\") @confirm(\"bob, nobody\") @within(\"5m\") forbid");
    refused(&hold, 1, "`nobody`, who is to confirm");
    assert_eq!(problems(&hold.replace(", nobody", ", data-platform")), []);
    let gone = KnownParties { parties: ["dana".to_owned()].into(), ..known() };
    assert!(PolicySet::load(&[("a", GOOD)], &actions(), &gone).is_err(), "an owner who left");
}

#[test]
fn effects_are_words_that_mean_something_where_they_stand() {
    refused(&GOOD.replace("permit", "@effect(\"deny\") permit"), 1, "`@effect` stands on a permit");
    refused(&GOOD.replace("permit", "@confirm(\"bob\") permit"), 1, "`@confirm` stands on a permit");
    refused(&GOOD.replace("permit", "@effect(\"block\") forbid"), 1, "effect `block` is unknown");
    refused(&GOOD.replace("permit", "@effect(\"hold\") @within(\"5m\") forbid"), 1, "no `@confirm`");
    refused(&GOOD.replace("permit", "@effect(\"hold\") @confirm(\"bob\") forbid"), 1, "no `@within`");
    refused(&GOOD.replace("permit", "@confirm(\"bob\") forbid"), 1, "does not hold");
    for length in ["5", "0s", "5 m", "2d", ""] {
        let hold = format!("@effect(\"hold\") @confirm(\"bob\") @within(\"{length}\") forbid");
        refused(&GOOD.replace("permit", &hold), 1, "`@within`");
    }
    refused(&GOOD.replace("permit", "@efect(\"hold\") forbid"), 1, "`@efect` is unknown");
    refused(&GOOD.replace("@why(\"w\")", "@why(\"a\\u{1b}[2J\")"), 1, "control characters");
}

#[test]
fn a_template_has_a_role_and_only_a_template_has_one() {
    let slots = GOOD.replace("principal,", "principal == ?principal,");
    refused(&slots, 1, "it has slots but no `@role`");
    refused(&GOOD.replace("permit", "@role(\"reader\") permit"), 1, "would apply to every session");
    refused(&GOOD.replace("permit", "@unlocks(\"opaque\") permit"), 1, "no template");
    refused(&slots.replace("permit", "@role(\"a b\") permit"), 1, "no role's name");
    refused(&slots.replace("permit", "@role(\"r\") @unlocks(\"a,,b\") permit"), 1, "empty entry");
    assert_eq!(problems(&slots.replace("permit", "@role(\"reader\") @unlocks(\"opaque\") permit")), []);
}

#[test]
fn what_the_schema_lacks_is_an_error_on_its_own_line() {
    for (condition, what) in [
        ("context.rsk > 3", "rsk"),
        ("context.risk == \"high\"", "type"),
        ("action in Action::\"sql.dorp\"", "dorp"),
        ("principal.team == \"x\"", "team"),
        ("principal in Group::\"x\"", "Group"),
    ] {
        let text = format!(
            "// a comment; with a semicolon\n\n{}",
            GOOD.replace(';', &format!("\nwhen {{\n  {condition}\n}};"))
        );
        refused(&text, 6, what);
    }
    refused(&GOOD.replace("\"read\"", "\"raed\""), 2, "raed");
}

#[test]
fn a_forbid_that_can_never_apply_is_refused() {
    let never = GOOD.replace("permit", "forbid").replace(';', " when { context.risk > 3 && false };");
    assert!(!problems(&never).is_empty(), "it would guard nothing, and nobody would notice");
    let group = GOOD.replace("permit", "forbid").replace("action in", "action ==");
    assert!(!problems(&group).is_empty(), "no operation's action is the group itself");
}

#[test]
fn syntax_errors_are_told_with_their_line_beside_other_problems() {
    let text = format!("{GOOD}\n\npermit(principal, action\n  resource);\n\nforbid(principal, action, resource);");
    let lines: Vec<usize> = problems(&text).iter().map(|p| p.line).collect();
    assert!(lines.contains(&5) && lines.contains(&7), "{:#?}", problems(&text));
    refused(&format!("{GOOD} permit(principal"), 2, "");
    refused("@id(\"open", 1, "");
}

#[test]
fn ids_are_unique_over_all_files_and_files_are_given_once() {
    let second = format!("\n\n{GOOD}");
    let found = PolicySet::load(&[("b.cedar", second.as_str()), ("a.cedar", GOOD)], &actions(), &known()).unwrap_err();
    assert_eq!(
        found[0].to_string(),
        "b.cedar:3: policy `p`: `a.cedar` line 1 has the same `@id`; give each policy its own"
    );
    assert!(PolicySet::load(&[("a", GOOD), ("a", "")], &actions(), &known()).is_err());
}

#[test]
fn the_digest_is_of_the_texts_under_their_names_in_any_order() {
    let digest = |files: &[(&str, &str)]| load(files).digest().to_owned();
    let both = digest(&[ROLES, GUARDS]);
    assert_eq!(both, digest(&[GUARDS, ROLES]));
    assert_ne!(both, digest(&[ROLES]));
    assert_ne!(both, digest(&[("other.cedar", ROLES.1), GUARDS]));
    assert_ne!(digest(&[("a", "// x\n"), ("b", "")]), digest(&[("a", ""), ("b", "// x\n")]));
    // printf 'a.cedar\n0\n\n' | sha256sum
    assert_eq!(digest(&[("a.cedar", "")]), EMPTY_A);
}

const EMPTY_A: &str = "beae42fea666563dcd1825c6a0d6fb31a1a09703c25962453bbfec1a1b45a729";

#[test]
fn a_set_tells_its_roles_and_policies() {
    let set = load(&[ROLES, GUARDS, EVERYTHING]);
    let roles: Vec<_> =
        set.roles().map(|r| (r.id.to_string(), r.unlocks.len(), r.templates[0].owner.to_string())).collect();
    let role = |name: &str, unlocks| (name.to_owned(), unlocks, "petra".to_owned());
    let expected = [("everything", 15), ("log-reader", 0), ("reader", 0), ("root-shell", 2), ("schema-changer", 0)];
    let expected = expected.into_iter().chain([("web-operator", 1), ("writer", 0)]);
    assert_eq!(roles, expected.map(|(name, unlocks)| role(name, unlocks)).collect::<Vec<_>>());
    let window = set.policies().find(|p| p.id.as_str() == "change-window").unwrap();
    assert_eq!(
        (window.owner.as_str(), window.plane.as_str(), window.file.as_str()),
        ("chris", "change", "guards.cedar")
    );
    assert!(GUARDS.1.lines().nth(window.line - 1).unwrap().contains("change-window"));
    assert!(set.policies().all(|p| set.policy(&p.id) == Some(p)));
}

#[test]
fn a_policy_nested_deeply_is_refused_or_loaded_but_ends_no_process() {
    // As deep as is allowed, and far deeper. Test threads have 2 MiB of stack.
    for room in [28, 460, 900, 14_000] {
        for (repeated, middle, end) in [
            ("(", "true", ")"),
            ("(true&&", "true", ")"),
            ("if [", "1].contains(1) then true else true", ""),
            ("true&&", "true", ""),
            ("true||", "true", ""),
            ("1+", "1 > 0", ""),
            ("1*", "1 > 0", ""),
            ("[", "true", "]"),
            ("{a:", "1", "}"),
            ("if true then true else ", "true", ""),
            ("context", "", ".a"),
            ("!", "true", ""),
            ("-", "1 > 0", ""),
        ] {
            let marks = if repeated == "true&&" || repeated == "true||" { room / 2 } else { room };
            let repeats = marks.min(14_000 / (repeated.len() + end.len()));
            let condition = match repeated {
                "context" => format!("context{} == 1", end.repeat(repeats)),
                _ => format!("{}{middle}{}", repeated.repeat(repeats), end.repeat(repeats)),
            };
            let text = GOOD.replace(';', &format!(" when {{ {condition} }};"));
            let loaded = PolicySet::load(&[("a", text)], &actions(), &known());
            assert!(room < 500 || loaded.is_err(), "{repeated} {room}");
        }
    }
}

#[test]
fn a_statement_has_a_longest_length() {
    let long = GOOD.replace(';', &format!(" when {{ context.purpose == \"{}\" }};", "x".repeat(20_000)));
    refused(&long, 1, "longer than");
}
