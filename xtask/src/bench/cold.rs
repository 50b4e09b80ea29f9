//! A statement never seen before: what parsing, resolving and deciding cost when no cache helps.

use std::fmt::Write as _;

use onus_testkit::run;
use serde_json::{Value, json};

use super::field::Field;
use super::report::{Section, percentile};
use crate::step::Failure;

const STEPS: [&str; 4] = ["parse", "resolve", "decide", "total"];

/// Measures it.
pub fn measure(field: &mut Field) -> Result<Vec<Section>, Failure> {
    let count = if field.quick { 1000 } else { 10_000 };
    let mut input = String::new();
    for number in 0..count {
        let _ = writeln!(input, "{}", Value::from(statement(number)));
    }
    let policies = field.rig.estate().join("policies").display().to_string();
    let mut explain = field.rig.command("alice", &["explain", "sql", "--policy", &policies, "--jsonl"]);
    let answers = run::output_of_input("onus explain sql", &mut explain, &input)?;
    let mut found: [Vec<f64>; 4] = Default::default();
    let (mut permitted, mut opaque) = (0, 0);
    for line in answers.lines() {
        let answer: Value = serde_json::from_str(line)
            .map_err(|error| Failure::Step(format!("onus explain sql answered `{line}`: {error}")))?;
        for (step, found) in STEPS.iter().zip(&mut found) {
            found.extend(answer["micros"][*step].as_f64());
        }
        permitted += usize::from(answer["decision"]["effect"] == "permit");
        opaque += usize::from(answer["opaque"] == true);
    }
    if found[3].len() != count {
        return Err(Failure::Step(format!("{count} statements, {} answers with times", found[3].len())));
    }
    let mut rows = Vec::new();
    let mut values = serde_json::Map::new();
    for (step, found) in STEPS.iter().zip(&mut found) {
        found.sort_by(f64::total_cmp);
        let at = |share| percentile(found, share);
        rows.push(vec![
            (*step).to_owned(),
            format!("{:.0}", at(0.5)),
            format!("{:.0}", at(0.99)),
            format!("{:.0}", at(1.0)),
        ]);
        values.insert((*step).to_owned(), json!({ "p50_us": at(0.5), "p99_us": at(0.99), "max_us": at(1.0) }));
    }
    values.insert("statements".to_owned(), json!(count));
    let decided = match (permitted, opaque) {
        (permitted, 0) if permitted == count => "all of them permitted to a reader".to_owned(),
        (permitted, opaque) => format!("{permitted} permitted to a reader, {opaque} opaque"),
    };
    Ok(vec![Section {
        name: "cold",
        title: "A statement never seen before".to_owned(),
        how: format!(
            "{count} different queries of 30 lines (joins, a subquery, conditions, aggregates), each explained once by \
             `onus explain sql --policy … --jsonl` under {} policies; {decided}. It is the gateway's own code without its \
             caches.",
            super::field::POLICIES
        ),
        columns: vec!["step", "p50 µs", "p99 µs", "max µs"],
        rows,
        notes: vec!["a statement of a shape that was seen before costs what *Small queries* shows".to_owned()],
        values: values.into(),
    }])
}

/// A reporting query of 30 lines; each number gives another shape: other relations, columns and aliases.
fn statement(number: usize) -> String {
    let (a, b, c) = (number % 97, number % 89, number);
    let mut lines = vec![format!("WITH recent_{c} AS ("), format!("  SELECT o.id, o.customer_{a}, o.total_{c}")];
    lines.push(format!("  FROM sales.orders_{a} AS o"));
    lines.push(format!("  WHERE o.placed_{b} > timestamp '2026-01-01 00:00:00'"));
    lines.push(format!("    AND o.status_{a} IN ('paid', 'sent', 'part-{c}')"));
    lines.push(format!("), busy_{b} AS ("));
    lines.push(format!("  SELECT customer_{a}, count(*) AS orders, sum(total_{c}) AS total"));
    lines.push(format!("  FROM recent_{c}"));
    lines.push(format!("  GROUP BY customer_{a}"));
    lines.push("  HAVING count(*) > 3".to_owned());
    lines.push(")".to_owned());
    lines.push("SELECT".to_owned());
    lines.push(format!("  c.id AS customer_{c},"));
    lines.push(format!("  lower(c.name_{b}) AS name,"));
    lines.push(format!("  coalesce(b.orders, 0) AS orders_{a},"));
    lines.push("  coalesce(b.total, 0) AS total,".to_owned());
    lines.push(format!("  avg(p.amount_{c}) AS average_payment,"));
    lines.push(format!("  max(p.paid_{a}) AS last_payment"));
    lines.push(format!("FROM crm.customers_{b} AS c"));
    lines.push(format!("LEFT JOIN busy_{b} AS b ON b.customer_{a} = c.id"));
    lines.push(format!("LEFT JOIN billing.payments_{a} AS p ON p.customer = c.id"));
    lines.push(format!("WHERE c.country_{a} = 'NL'"));
    lines.push(format!("  AND c.segment_{b} <> 'test-{c}'"));
    lines.push("  AND EXISTS (".to_owned());
    lines.push(format!("    SELECT 1 FROM crm.contacts_{a} AS k"));
    lines.push(format!("    WHERE k.customer = c.id AND k.agreed_{b}"));
    lines.push("  )".to_owned());
    lines.push(format!("GROUP BY c.id, c.name_{b}, b.orders, b.total"));
    lines.push("ORDER BY total DESC, name".to_owned());
    lines.push(format!("LIMIT {}", 10 + c % 90));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_have_thirty_lines_and_differ() {
        let all: std::collections::BTreeSet<String> = (0..10_000).map(statement).collect();
        assert_eq!(all.len(), 10_000);
        assert!(all.iter().all(|text| text.lines().count() == 30));
    }
}
