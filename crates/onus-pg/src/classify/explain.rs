//! A classification as JSON for people and scripts (`onus explain sql`).

use super::{Environment, parse, resolve};
use serde_json::{Value, json};

/// What a text does, as
/// `{"class", "statements": [{"kind", "class", "operations": [{"action", "class", "objects", "facts", "opaque"}]}],
/// "opaque": [reason …]}`. The names of fields are stable; a field that is empty inside an operation is left out.
pub fn explain(sql: &str, env: &Environment) -> Value {
    let classified = resolve(&parse(sql), env);
    let statements: Vec<Value> = classified
        .statements
        .iter()
        .map(|statement| {
            json!({
                "kind": statement.kind,
                "class": statement.class().as_str(),
                "operations": statement.operations,
            })
        })
        .collect();
    let mut opaque: Vec<String> = classified.operations().into_iter().flat_map(|o| o.opaque).collect();
    opaque.dedup();
    json!({ "class": classified.class().as_str(), "statements": statements, "opaque": opaque })
}
