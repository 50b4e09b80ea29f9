//! The classifier from outside: a table of cases, the corpora, and properties.
//!
//! `classify_cases.txt` is the table, read by people and reviewed as a diff. Run with `UPDATE_CASES=1` to write what
//! the classifier says now into it; then read every changed line.

use onus_core::operation::{Access, Class, Operation};
use onus_pg::classify::{Catalogue, Classified, Environment, parse, resolve, template_key};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn rows<const N: usize>(rows: &[[&str; N]]) -> Vec<Vec<String>> {
    rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
}

/// A small database in which every trap has its object.
fn catalogue() -> Catalogue {
    let relations = rows(&[
        ["public", "orders", "r"],
        ["public", "items", "r"],
        ["public", "users", "r"],
        ["public", "twice", "r"],
        ["app", "twice", "r"],
        ["app", "only_app", "r"],
        ["public", "v_orders", "v"],
        ["public", "far", "f"],
        ["public", "seq", "S"],
    ]);
    let functions = rows(&[
        ["public", "plain_sql", "v", "plpgsql", "f", "false"],
        ["public", "card_of", "s", "plpgsql", "f", "true"],
        ["public", "safe_c", "i", "c", "f", "false"],
        ["public", "lower", "v", "plpgsql", "f", "false"],
        ["app", "upper", "v", "plpgsql", "f", "false"],
        ["public", "known_read", "v", "plpgsql", "f", "false"],
        ["public", "known_write", "v", "plpgsql", "f", "false"],
        ["public", "known_proc", "v", "plpgsql", "p", "false"],
        ["public", "proc", "v", "plpgsql", "p", "false"],
        ["public", "dblink", "v", "c", "f", "false"],
        ["public", "json_scalar", "v", "plpgsql", "f", "false"],
    ]);
    let operators = rows(&[["public", "==="], ["app", "<<<"]]);
    let casts = rows(&[["evil_type"]]);
    let schemas = rows(&[["public"], ["app"], ["pg_catalog"], ["information_schema"]]);
    Catalogue::from_rows(&[relations, functions, operators, casts, schemas])
        .expect("the rows fit")
        .declare([("public.known_read", "read"), ("public.known_write", "write"), ("public.known_proc", "write")])
        .expect("the words are words")
}

fn environment() -> Environment {
    Environment::new(Arc::new(catalogue()), vec!["$user".to_owned(), "public".to_owned()], Some("gate".to_owned()))
}

fn classify(sql: &str, env: &Environment) -> Classified {
    resolve(&parse(sql), env)
}

fn spell(operation: &Operation) -> String {
    let mut line = operation.action.clone();
    for object in &operation.objects {
        let kind = if object.kind == "relation" { String::new() } else { format!("{} ", object.kind) };
        let _ = write!(line, " | {} {kind}{}", object.access.as_str(), object.name);
        if !object.parts.is_empty() {
            let _ = write!(line, "({})", object.parts.iter().cloned().collect::<Vec<_>>().join(","));
        }
    }
    if !operation.facts.is_empty() {
        let _ = write!(line, " | [{}]", operation.facts.iter().cloned().collect::<Vec<_>>().join(" "));
    }
    for why in &operation.opaque {
        let _ = write!(line, " | \"{why}\"");
    }
    line
}

/// Blocks of: `>` lines that were relayed before, one line of SQL, and indented lines of operations.
#[test]
fn the_table_of_cases_holds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/classify_cases.txt");
    let table = std::fs::read_to_string(&path).expect("the table is beside this file");
    let mut now = String::new();
    let mut env = environment();
    for line in table.lines() {
        if line.is_empty() {
            env = environment();
        }
        if line.is_empty() || line.starts_with('#') {
            let _ = writeln!(now, "{line}");
        } else if let Some(relayed) = line.strip_prefix("> ") {
            let _ = writeln!(now, "{line}");
            let effects = classify(relayed, &env).effects;
            env.apply(&effects);
        } else if let Some(relayed) = line.strip_prefix("ok> ") {
            let _ = writeln!(now, "{line}");
            let effects = classify(relayed, &env).effects;
            env.apply(&effects);
            env.confirm(&effects);
        } else if !line.starts_with("    ") {
            let _ = writeln!(now, "{line}");
            for operation in classify(&line.replace("\\n", "\n"), &env).operations() {
                let _ = writeln!(now, "    {}", spell(&operation));
            }
        }
    }
    if std::env::var_os("UPDATE_CASES").is_some() {
        std::fs::write(&path, &now).expect("the table can be written");
        return;
    }
    for (number, (expected, found)) in table.lines().zip(now.lines()).enumerate() {
        assert_eq!(expected, found, "line {} of the table", number + 1);
    }
    assert_eq!(table.lines().count(), now.lines().count());
}

// ---- corpora

fn corpora() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    if !path.is_dir() {
        println!("skipped: no corpora");
        return None;
    }
    Some(path)
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).expect("a corpus file");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn texts() -> Vec<String> {
    let Some(corpora) = corpora() else { return Vec::new() };
    let mut texts: Vec<String> = Vec::new();
    for file in ["postgres-regress-audited/statements.jsonl", "sql-injection/injected.jsonl"] {
        texts.extend(lines(&corpora.join(file)).iter().map(|row| row["sql"].as_str().unwrap_or_default().to_owned()));
    }
    texts
}

fn without_temp_number(name: &str) -> String {
    match name.split_once('.') {
        Some((_, name)) => name.to_owned(),
        None => name.to_owned(),
    }
}

/// What pgaudit saw in the server against what the classifier says of the text alone.
#[test]
fn nothing_that_the_server_audited_as_more_is_called_less() {
    let Some(corpora) = corpora() else { return };
    let env = Environment::assumed();
    let (mut total, mut opaque, mut objects, mut objects_found) = (0, 0, 0, 0);
    let mut milder: Vec<String> = Vec::new();
    let mut missed: BTreeSet<String> = BTreeSet::new();
    let mut missed_in_text = 0;
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for row in lines(&corpora.join("postgres-regress-audited/statements.jsonl")) {
        let sql = row["sql"].as_str().unwrap_or_default();
        let audited: BTreeSet<&str> =
            row["classes"].as_array().into_iter().flatten().filter_map(|class| class.as_str()).collect();
        total += 1;
        let classified = classify(sql, &env);
        let operations = classified.operations();
        assert!(!operations.is_empty(), "{sql}");
        let has = |classes: &[Class]| operations.iter().any(|operation| classes.contains(&operation.class));
        for audited in &audited {
            let covered = match *audited {
                "WRITE" => has(&[Class::Write, Class::Define, Class::Administer, Class::Execute, Class::Opaque]),
                "DDL" => has(&[Class::Define, Class::Administer, Class::Execute, Class::Opaque]),
                "ROLE" => has(&[Class::Administer, Class::Opaque]),
                _ => true,
            };
            if !covered {
                milder.push(format!("{} {audited}: {sql}", row["id"]));
            }
        }
        if classified.class() == Class::Opaque {
            opaque += 1;
            for why in operations.iter().flat_map(|operation| &operation.opaque) {
                let words: Vec<&str> = why.split('`').step_by(2).collect();
                *reasons.entry(words.join("…").chars().take(60).collect()).or_default() += 1;
            }
            continue;
        }
        let seen: BTreeSet<(Access, String)> = operations
            .iter()
            .flat_map(|operation| &operation.objects)
            .map(|object| (object.access, without_temp_number(&object.name)))
            .collect();
        let audited_objects = row["objects"].as_array().into_iter().flatten();
        for object in audited_objects {
            let (class, kind, name) = (object[0].as_str(), object[1].as_str(), object[2].as_str().unwrap_or_default());
            let name = without_temp_number(name);
            let wanted = match (class, kind) {
                (Some("WRITE"), Some("TABLE" | "VIEW")) => Access::Write,
                (Some("READ"), Some("TABLE" | "VIEW")) => Access::Read,
                _ => continue,
            };
            objects += 1;
            let found = seen.contains(&(wanted, name.clone()))
                || (wanted == Access::Read && seen.contains(&(Access::Write, name.clone())));
            if found {
                objects_found += 1;
            } else {
                // What a view, a policy or a key reads is not in the text, and is not claimed.
                let in_text = sql.to_ascii_lowercase().contains(&name);
                missed_in_text += usize::from(in_text);
                if in_text {
                    missed.insert(format!("{} {wanted:?} {name} <- {}", row["id"], sql.replace('\n', " ")));
                }
            }
        }
    }
    println!("{total} texts, {:.1}% opaque", 100.0 * f64::from(opaque) / f64::from(total));
    println!(
        "{objects} audited relations outside opaque texts, {objects_found} named; of the others {missed_in_text} stand in the text"
    );
    for (why, count) in &reasons {
        println!("  {count:5} {why}");
    }
    for miss in &missed {
        println!("  not named: {miss}");
    }
    assert!(milder.is_empty(), "{} milder than audited:\n{}", milder.len(), milder.join("\n"));
}

/// An injected text is never milder than its template; a harmless value changes nothing.
#[test]
fn an_injection_is_never_milder_than_its_template() {
    let Some(corpora) = corpora() else { return };
    let env = Environment::assumed();
    let template = |name: &str| -> Vec<Operation> {
        let sql = match name {
            "num-where" => "SELECT id, name FROM products WHERE id = 1",
            "str-where" => "SELECT id, name FROM products WHERE category = 'x' AND released = 1",
            "order" => "SELECT * FROM audit_log ORDER BY 1",
            "insert" => "INSERT INTO comments (author, body) VALUES ('x', 'x')",
            "update" => "UPDATE users SET email = 'x' WHERE id = 7",
            other => panic!("an unknown template `{other}`"),
        };
        classify(sql, &env).operations()
    };
    let mut same: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for row in lines(&corpora.join("sql-injection/injected.jsonl")) {
        let (name, sql) = (row["template"].as_str().unwrap_or_default(), row["sql"].as_str().unwrap_or_default());
        let (before, after) = (template(name), classify(sql, &env).operations());
        let worst = |operations: &[Operation]| operations.iter().map(|operation| operation.class).max();
        let found = same.entry(name.to_owned()).or_default();
        found.0 += 1;
        // A comment can cut an injected statement short, and then less remains; but not on its first operation.
        assert!(worst(&after) >= worst(&before), "{sql}");
        if before == after {
            found.1 += 1;
        }
    }
    for (name, (all, same)) in &same {
        println!("{name}: {all} injected, {same} cannot be told from the template by their operations");
    }
    for row in lines(&corpora.join("sql-injection/benign-values.jsonl")) {
        let sql = row["sql"].as_str().unwrap_or_default();
        assert_eq!(template(row["template"].as_str().unwrap_or_default()), classify(sql, &env).operations(), "{sql}");
    }
}

// ---- the template key

/// A small generator, so that the mutations are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Every run of digits becomes another of one to nine digits.
fn other_integers(sql: &str, dice: &mut Dice) -> String {
    let mut out = String::new();
    let mut rest = sql;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        out.push_str(&rest[..start]);
        let end = rest[start..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| start + end);
        // Small ones often, so that two of them are equal now and then.
        let (digits, upto) = if dice.roll(2) == 0 { (1, 2) } else { (1 + dice.roll(9), 10) };
        for _ in 0..digits {
            out.push(char::from(b'0' + dice.roll(upto) as u8));
        }
        rest = &rest[end..];
    }
    out + rest
}

#[test]
fn equal_template_keys_mean_equal_operations() {
    let env = Environment::assumed();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut equal, mut keyed) = (0, 0);
    let (mut one, mut two) = (Vec::new(), Vec::new());
    // Where an integer could be mistaken for something that matters.
    let traps = [
        "UPDATE t SET a = 1 WHERE 1 = 1",
        "DELETE FROM t WHERE a = 1 OR 1 = 1",
        "DELETE FROM t WHERE 1",
        "EXPLAIN (ANALYZE 1) DELETE FROM t",
        "SELECT a FROM t ORDER BY 1 LIMIT 1",
        "SELECT set_config('work_mem', 1::text, 1 = 1)",
        "SET search_path = 1",
        "SELECT lo_open(1, 131072)",
        "FETCH 1 FROM c",
        "COPY t TO STDOUT (HEADER 1)",
        "SELECT a[1], t.b[1:2] FROM t",
    ];
    for sql in traps.into_iter().map(str::to_owned).chain(texts()) {
        for _ in 0..if traps.contains(&sql.as_str()) { 40 } else { 3 } {
            let other = other_integers(&sql, &mut dice);
            if !template_key(sql.as_bytes(), &mut one) {
                break;
            }
            keyed += 1;
            if !template_key(other.as_bytes(), &mut two) || one != two {
                continue;
            }
            equal += 1;
            let (a, b) = (parse(&sql), parse(&other));
            // The grammar refuses a few numbers (`float(99)`); refusing is the safe side of a shared entry.
            if a.error().is_some() || b.error().is_some() {
                continue;
            }
            assert_eq!(resolve(&a, &env), resolve(&b, &env), "{sql}\n{other}");
        }
    }
    println!("{keyed} keyed, {equal} pairs of equal keys compared");
}

// ---- nothing hides, nothing panics

/// A dumb look through the tree's debug text, to compare with what the walk saw.
fn named_in_debug(debug: &str, node: &str, field: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in debug.split(&format!("{node} {{")).skip(1) {
        if let Some(rest) = part.split(&format!("{field}: \"")).nth(1)
            && let Some(name) = rest.split('"').next()
        {
            found.insert(name.to_owned());
        }
    }
    found
}

/// Differential: every relation that stands anywhere in the tree is an object, a name of a WITH query, an alias that
/// a lock names, or the statement is opaque.
#[test]
fn no_relation_in_the_tree_is_overlooked() {
    let env = Environment::assumed();
    let mut checked = 0;
    for sql in texts() {
        let Ok(tree) = pg_query::parse(&sql, 0) else { continue };
        let classified = classify(&sql, &env);
        let operations = classified.operations();
        let debug = format!("{:?}", tree.protobuf);
        let ctes = named_in_debug(&debug, "CommonTableExpr", "ctename");
        let locked: BTreeSet<String> = debug
            .split("LockingClause {")
            .skip(1)
            .flat_map(|part| named_in_debug(part.split("strength").next().unwrap_or_default(), "RangeVar", "relname"))
            .collect();
        let seen: BTreeSet<String> = operations
            .iter()
            .flat_map(|operation| &operation.objects)
            .map(|object| without_temp_number(&object.name))
            .collect();
        for name in named_in_debug(&debug, "RangeVar", "relname") {
            checked += 1;
            let accounted = seen.contains(&name) || ctes.contains(&name) || locked.contains(&name);
            // `SET CONSTRAINTS` names constraints in the grammar's node for relations.
            let constraint = debug.contains("ConstraintsSetStmt");
            assert!(
                accounted || constraint || classified.class() == Class::Opaque,
                "`{name}` is overlooked in: {sql}\n{operations:#?}"
            );
        }
    }
    println!("{checked} relations in trees");
}

/// The same for functions: a statement is never milder than any function that its tree calls, taken alone.
#[test]
fn no_call_in_the_tree_is_overlooked() {
    let env = Environment::assumed();
    let mut alone: BTreeMap<Vec<String>, Class> = BTreeMap::new();
    let mut checked = 0;
    for sql in texts() {
        let Ok(tree) = pg_query::parse(&sql, 0) else { continue };
        let debug = format!("{:?}", tree.protobuf);
        let worst = classify(&sql, &env).class();
        for part in debug.split("FuncCall {").skip(1) {
            let names = part.split("args:").next().unwrap_or_default().split("sval: \"").skip(1);
            let names: Vec<String> = names.filter_map(|s| s.split('"').next()).map(|n| format!("\"{n}\"")).collect();
            // With constants it may be as harmless as the setting that it sets.
            if names.last().is_some_and(|name| name == "\"set_config\"") {
                continue;
            }
            let class = *alone.entry(names).or_insert_with_key(|names| {
                let name = names.join(".");
                let with = |arguments: &str| classify(&format!("SELECT {name}({arguments})"), &env).class();
                with("").min(with("NULL"))
            });
            checked += 1;
            // A function that only reads leaves no operation of its own.
            assert!(worst >= class || class <= Class::Read, "a call that is {class} alone is {worst} in: {sql}");
        }
    }
    let severe = alone.values().filter(|class| **class > Class::Read).count();
    println!("{checked} calls in trees of {} functions, {severe} of them more than a read", alone.len());
}

#[test]
fn deep_and_long_texts_are_opaque_and_harm_nothing() {
    let env = Environment::assumed();
    let deep = [
        format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("SELECT {}1{}", "(".repeat(1_000_000), ")".repeat(1_000_000)),
        format!("SELECT 1{}", "+1".repeat(100_000)),
        format!("SELECT {}1", "- ".repeat(100_000)),
        format!("SELECT {} true", "NOT ".repeat(100_000)),
        format!("SELECT {}1{}", "(SELECT ".repeat(2_000), ")".repeat(2_000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(50_000)),
        format!("SELECT * FROM a{}", " JOIN a ON true".repeat(20_000)),
        format!("SELECT {}1{}", "f(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT {}1{}", "ARRAY[".repeat(20_000), "]".repeat(20_000)),
        format!("SELECT {}1{}", "CASE WHEN ".repeat(20_000), " THEN 1 END".repeat(20_000)),
        format!("SELECT 1{}", "::int".repeat(100_000)),
        format!("SELECT '{}'", "x".repeat(5 << 20)),
    ];
    // On a thread with the small stack that runtimes give their workers.
    let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        for sql in &deep {
            let classified = classify(sql, &env);
            // Parentheses alone leave no trace in the tree; whatever nests must not be called mild.
            assert!(classified.class() >= Class::Read, "{}", &sql[..40]);
        }
        // A long list is not deep.
        let long = format!("INSERT INTO t VALUES {}(1, 'x')", "(1, 'x'), ".repeat(50_000));
        assert_eq!(classify(&long, &env).class(), Class::Write);
        let many = format!("SELECT * FROM t WHERE {} a = 1", "a = 1 OR ".repeat(5_000));
        assert_eq!(classify(&many, &env).class(), Class::Read);
    });
    worker.expect("a thread").join().expect("no overflow and no panic");
}

#[test]
fn what_does_not_parse_is_opaque() {
    let env = environment();
    for sql in ["SELEC 1", "SELECT 'a", "SELECT 1; DROP", "\u{0}", "SELECT \u{0}", "(", "SELECT $$a"] {
        assert_eq!(classify(sql, &env).class(), Class::Opaque, "{sql:?}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_text_panics_and_none_that_fails_to_parse_is_mild(sql in "\\PC{0,80}") {
        let classified = classify(&sql, &environment());
        proptest::prop_assert!(classified.statements.iter().all(|statement| !statement.operations.is_empty()));
        if parse(&sql).error().is_some() {
            proptest::prop_assert_eq!(classified.class(), Class::Opaque);
        }
    }
}

#[test]
fn mutated_statements_never_panic() {
    let env = environment();
    let mut dice = Dice(42);
    let texts = texts();
    for sql in texts.iter().step_by(3) {
        let mut chars: Vec<char> = sql.chars().collect();
        if chars.is_empty() {
            continue;
        }
        for _ in 0..1 + dice.roll(3) {
            let at = dice.roll(chars.len() as u64) as usize;
            match dice.roll(3) {
                0 => drop(chars.remove(at)),
                1 => chars.insert(at, ['\'', '"', '(', ')', ';', '$', '\\', '-', ' ', '*'][dice.roll(10) as usize]),
                _ => {
                    let other = dice.roll(chars.len() as u64) as usize;
                    chars.swap(at, other);
                }
            }
            if chars.is_empty() {
                break;
            }
        }
        let mutated: String = chars.into_iter().collect();
        let classified = classify(&mutated, &env);
        assert!(classified.statements.iter().all(|statement| !statement.operations.is_empty()), "{mutated}");
        if parse(&mutated).error().is_some() {
            assert_eq!(classified.class(), Class::Opaque, "{mutated}");
        }
    }
}

/// Run with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "measures; run it alone"]
fn how_fast() {
    let env = environment();
    let short = "SELECT id, total FROM orders WHERE id = 42";
    let long = format!(
        "WITH recent AS (SELECT o.id, o.user_id FROM orders o WHERE o.id > 100)\nSELECT {}\n FROM recent r JOIN users u ON u.id = r.user_id LEFT JOIN items i ON i.order_id = r.id\nWHERE {}\n ORDER BY 1",
        (0..14).map(|n| format!("u.column_{n} AS c{n},\n")).collect::<String>() + "count(i.id)",
        (0..12).map(|n| format!("u.column_{n} <> 'x' AND\n")).collect::<String>() + "true"
    );
    let time = |what: &str, times: u32, run: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        (0..times).for_each(|_| run());
        println!("{what}: {:.2} µs", start.elapsed().as_secs_f64() * 1e6 / f64::from(times));
    };
    for (what, sql) in [("short", short), ("30 lines", long.as_str())] {
        let parsed = parse(sql);
        time(&format!("parse {what} ({} bytes)", sql.len()), 3_000, &mut || drop(parse(sql)));
        time(&format!("resolve {what}"), 30_000, &mut || drop(resolve(&parsed, &env)));
        let mut key = Vec::new();
        time(&format!("template key {what}"), 100_000, &mut || {
            std::hint::black_box(template_key(sql.as_bytes(), &mut key));
        });
    }
}
