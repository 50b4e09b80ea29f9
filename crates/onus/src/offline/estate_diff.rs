//! What would change between two estates, for people and for scripts.
//!
//! It renders what [`Estate::difference`] found and adds no judgement: who may make such a change, the gateway says.

use super::shown::one_line;
use onus_core::estate::{Declared, Difference, Estate};
use onus_core::time::Millis;
use serde_json::{Map, Value, json};
use std::io::{self, Write};

/// Prints the difference between what is in force and what is wanted, one line a thing:
///
/// ```text
/// + role reader
/// ~ role writer: max_for 1h → 2h
/// - subject temp
/// ```
///
/// # Errors
/// When `out` cannot be written.
pub fn print(before: &Estate, wanted: &Estate, out: &mut impl Write) -> io::Result<()> {
    let steps = before.difference(wanted);
    if steps.is_empty() {
        return writeln!(out, "nothing would change");
    }
    for step in &steps {
        writeln!(out, "{}", line(step))?;
    }
    let count = |pick: fn(&Difference) -> bool| steps.iter().filter(|step| pick(step)).count();
    writeln!(
        out,
        "\n{} to add, {} to change, {} to remove",
        count(|s| matches!(s, Difference::Add(_))),
        count(|s| matches!(s, Difference::Change { .. })),
        count(|s| matches!(s, Difference::Remove(_)))
    )
}

/// One step as a line for people.
pub fn line(step: &Difference) -> String {
    let named = |declared: &Declared| {
        let (kind, id) = declared.key();
        format!("{kind} {}", one_line(&id))
    };
    match step {
        Difference::Add(declared) => format!("+ {}", named(declared)),
        Difference::Remove(declared) => format!("- {}", named(declared)),
        Difference::Change { from, to } => {
            let fields = changed(from, to);
            let fields: Vec<String> = fields
                .iter()
                .map(|(field, from, to)| format!("{} {} → {}", one_line(field), shown(field, from), shown(field, to)))
                .collect();
            format!("~ {}: {}", named(to), fields.join(", "))
        }
    }
}

/// The difference for scripts: `[{"change": "add" | "change" | "remove", "kind", "id", "fields"?: [{"field", "from",
/// "to"}]}]`. A field that is absent on one side is `null` there; durations are in milliseconds.
pub fn json(before: &Estate, wanted: &Estate) -> Value {
    let steps = before.difference(wanted);
    steps
        .iter()
        .map(|step| {
            let (change, declared) = match step {
                Difference::Add(declared) => ("add", declared),
                Difference::Remove(declared) => ("remove", declared),
                Difference::Change { to, .. } => ("change", &**to),
            };
            let (kind, id) = declared.key();
            let mut told = json!({"change": change, "kind": kind, "id": id});
            if let Difference::Change { from, to } = step {
                told["fields"] = changed(from, to)
                    .into_iter()
                    .map(|(field, from, to)| json!({"field": field, "from": from, "to": to}))
                    .collect();
            }
            told
        })
        .collect()
}

/// The fields that differ, with both values; the keys of `settings` and `scope` count as fields.
fn changed(from: &Declared, to: &Declared) -> Vec<(String, Value, Value)> {
    let (from, to) = (fields(from), fields(to));
    let mut names: Vec<&String> = from.keys().chain(to.keys()).collect();
    names.sort();
    names.dedup();
    let value = |fields: &Map<String, Value>, name: &String| fields.get(name).cloned().unwrap_or(Value::Null);
    names
        .into_iter()
        .map(|name| (name.clone(), value(&from, name), value(&to, name)))
        .filter(|(_, from, to)| from != to)
        .collect()
}

fn fields(declared: &Declared) -> Map<String, Value> {
    let mut flat = Map::new();
    // Plain data with text keys; it has no form that JSON can't hold.
    let told = serde_json::to_value(declared).unwrap_or_default();
    let Some(Value::Object(is)) = told.get("is").cloned() else { return flat };
    for (name, value) in is {
        match value {
            Value::Object(parts) => {
                flat.extend(parts.into_iter().map(|(part, value)| (format!("{name}.{part}"), value)))
            }
            value => drop(flat.insert(name, value)),
        }
    }
    flat
}

fn shown(field: &str, value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Number(millis) if field == "max_for" => {
            millis.as_u64().map_or_else(|| millis.to_string(), |millis| Millis(millis).to_string())
        }
        Value::String(text) if !text.is_empty() && !text.contains(' ') => one_line(text),
        Value::String(text) => format!("\"{}\"", one_line(text)),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| shown("", item)).collect();
            format!("[{}]", items.join(", "))
        }
        other => one_line(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::estate_file::read_texts;

    fn estate(role: &str, extra: &str) -> Estate {
        let planes = ["lifecycle", "issuance", "elevation", "runtime", "response", "service", "change"]
            .map(|plane| format!("  {plane}: {{ accountable: bob }}\n"))
            .concat();
        let text = format!(
            "parties:\n  bob: {{ name: Bob }}\n{extra}planes:\n{planes}services:\n  s: {{ owner: bob, safe_failure: none }}\n\
             resources:\n  db: {{ service: s, protocol: postgresql, settings: {{ address: \"h:1\" }} }}\n\
             roles:\n  writer: {{ owner: bob, why: w, resources: [db], approvers: [bob], {role} }}\n"
        );
        read_texts([("e.yaml", text.as_str())]).unwrap()
    }

    #[test]
    fn each_kind_of_change_has_its_line() {
        let before = estate("max_for: 1h", "  old: { name: Old }\n");
        let wanted = estate("max_for: 2h, scope: { schemas: [public] }", "  new: { name: New }\n");
        let mut out = Vec::new();
        print(&before, &wanted, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "+ party new\n~ role writer: max_for 1h → 2h, scope.schemas none → [public]\n- party old\n\n\
             1 to add, 1 to change, 1 to remove\n"
        );
        assert_eq!(
            json(&before, &wanted)[1],
            json!({"change": "change", "kind": "role", "id": "writer", "fields": [
                {"field": "max_for", "from": 3_600_000, "to": 7_200_000},
                {"field": "scope.schemas", "from": null, "to": ["public"]}]})
        );
        let mut out = Vec::new();
        print(&before, &before, &mut out).unwrap();
        assert_eq!(out, b"nothing would change\n");
    }

    #[test]
    fn a_text_cannot_write_lines_of_its_own() {
        let before = estate("max_for: 1h", "");
        let wanted = estate("max_for: 1h, member_of: [\"x\\n- role reader\"]", "");
        let steps = before.difference(&wanted);
        assert_eq!(line(&steps[0]), "~ role writer: member_of [] → [\"x\\n- role reader\"]");
    }
}
