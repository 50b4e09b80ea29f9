//! `cargo xtask test`: all tests of the workspace. Deliberately no selection of its own: what follows `--` goes to the
//! test runner.

use std::time::Duration;

use crate::step::{self, Failure, cargo, seconds};
use crate::{setup, step::run};

/// The task.
pub fn task(words: &[String]) -> Result<(), Failure> {
    let filter = match words.split_first() {
        None => &[][..],
        Some((first, rest)) if first == "--" => rest,
        Some((first, _)) => return Err(Failure::Usage(format!("can't understand `{first}`; a filter follows `--`"))),
    };
    setup::all()?;
    all(filter).map(drop)
}

/// Runs them and gives the time; the last line says how it went.
pub fn all(filter: &[String]) -> Result<Duration, Failure> {
    let nextest = onus_testkit::run::find("cargo-nextest").is_some();
    let runner = if nextest { "cargo nextest" } else { "cargo test" };
    let mut tests = cargo();
    if nextest {
        // It gives each test a process of its own; the end-to-end tests share one gateway within theirs, and run below.
        tests.args(["nextest", "run", "--workspace", "--no-fail-fast", "-E", "not binary_id(onus::it)"]).args(filter);
    } else {
        // `--all-targets` would leave doc tests out just as well, but would run benches.
        tests.args(["test", "--workspace", "--lib", "--bins", "--tests", "--"]).args(filter);
    }
    let mut end_to_end = cargo();
    end_to_end.args(["test", "--package", "onus", "--test", "it", "--"]).args(filter);
    let mut doc = cargo();
    doc.args(["test", "--doc", "--workspace", "--"]).args(filter);

    let outcome = step::run(&format!("tests, by {runner}"), &mut tests)
        .and_then(|tests| match nextest {
            true => run("end-to-end tests", &mut end_to_end).map(|more| tests + more),
            false => Ok(tests),
        })
        // nextest doesn't run doc tests.
        .and_then(|tests| run("doc tests", &mut doc).map(|doc| (tests, doc)));
    match outcome {
        Ok((tests, doc)) => {
            eprintln!("\ntest: PASSED ({runner} {}, doc tests {})", seconds(tests), seconds(doc));
            Ok(tests + doc)
        }
        Err(failure) => {
            eprintln!("\ntest: FAILED");
            Err(failure)
        }
    }
}
