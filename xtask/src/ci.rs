//! `cargo xtask ci`: what a change must pass, in the order in which it fails fastest. Deliberately the same on a desk as
//! on the server.

use std::time::{Duration, Instant};

use crate::step::{Failure, cargo, run, seconds};
use crate::{setup, test};

type Step = (&'static str, fn() -> Result<(), Failure>);

/// WHEN ADDING ONE: all of it must stay below 60 minutes on two cores from a clean clone.
const STEPS: &[Step] = &[
    ("setup", setup::all),
    ("fmt", || run("fmt", cargo().args(["fmt", "--all", "--check"])).map(drop)),
    ("clippy", || {
        let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        run("clippy", cargo().args(lints)).map(drop)
    }),
    ("test", || test::all(&[]).map(drop)),
];

/// The task.
pub fn task(words: &[String]) -> Result<(), Failure> {
    if let Some(word) = words.first() {
        return Err(Failure::Usage(format!("can't understand `{word}`")));
    }
    let mut table: Vec<(&str, Duration)> = Vec::new();
    let outcome = STEPS.iter().try_for_each(|(name, step)| {
        let start = Instant::now();
        let outcome = step();
        table.push((name, start.elapsed()));
        outcome
    });
    eprintln!();
    for (name, took) in &table {
        eprintln!("ci: {name:8}{}", seconds(*took));
    }
    let total: Duration = table.iter().map(|(_, took)| *took).sum();
    eprintln!("ci: {} in {}", if outcome.is_ok() { "PASSED" } else { "FAILED" }, seconds(total));
    outcome
}
