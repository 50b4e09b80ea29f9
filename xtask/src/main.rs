//! Tasks of the repository: `cargo xtask NAME`. Deliberately nothing that ships, and no argument parser: each task reads
//! its few words itself.

mod bench;
mod ci;
mod demo;
mod fuzz;
mod setup;
mod step;
mod test;
#[cfg(test)]
mod walls;

use std::process::ExitCode;

use step::Failure;

struct Task {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<(), Failure>,
}

/// WHEN ADDING ONE: a module, and a line here.
const TASKS: &[Task] = &[
    Task { name: "setup", arguments: "[--bench]", about: "install what building and testing need", run: setup::task },
    Task {
        name: "demo",
        arguments: "[--keep] [--fast]",
        about: "see Onus work: a story in twelve chapters",
        run: demo::task,
    },
    Task { name: "test", arguments: "[-- FILTER…]", about: "set up, then run all tests", run: test::task },
    Task {
        name: "bench",
        arguments: "[--quick] [--only NAME] [--built DIR]",
        about: "measure, beside others",
        run: bench::task,
    },
    Task { name: "ci", arguments: "", about: "format, lints, tests: what a change must pass", run: ci::task },
    Task {
        name: "fuzz",
        arguments: "[--seconds N] [TARGET…]",
        about: "fuzz what reads untrusted bytes",
        run: fuzz::task,
    },
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (name, rest) = match words.split_first() {
        Some((name, rest)) => (name.as_str(), rest),
        None => ("help", [].as_slice()),
    };
    if matches!(name, "help" | "--help" | "-h") {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprint!("no task `{name}`\n\n{}", help());
        return ExitCode::from(2);
    };
    match (task.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure @ Failure::Usage(_)) => {
            eprintln!("{failure}\nusage: cargo xtask {} {}", task.name, task.arguments);
            ExitCode::from(2)
        }
        Err(failure) => {
            eprintln!("{name}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> String {
    let mut text = String::from("usage: cargo xtask TASK\n\n");
    for task in TASKS {
        text.push_str(&format!("  {:32}{}\n", format!("{} {}", task.name, task.arguments), task.about));
    }
    text.push_str(&format!("  {:32}{}\n", "help", "this"));
    text
}
