//! `cargo xtask fuzz`: coverage-guided fuzzing by cargo-fuzz and libFuzzer, for a bounded time. Deliberately on the stable
//! toolchain: the flags that cargo-fuzz wants are unlocked by `RUSTC_BOOTSTRAP`, for this build and nothing else. Without
//! the address sanitizer, which stable lacks the library for: what is looked for is panics, hangs and broken promises in
//! safe code; a crash of the C parser shows too, silent memory damage in it may not.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use onus_testkit::run::find;
use onus_testkit::tools::{self, Tool};

use crate::step::{Failure, cargo, root, run, seconds};

/// WHEN ADDING ONE: see fuzz/Cargo.toml.
const TARGETS: &[&str] = &["pg_frames", "pg_classify", "sftp", "scp", "shell_line"];

/// What libFuzzer says at the end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Numbers {
    executions: u64,
    coverage: u64,
    corpus: u64,
}

/// The task.
pub fn task(words: &[String]) -> Result<(), Failure> {
    let (seconds_each, targets) = parse(words)?;
    tools::need(&[Tool::C, Tool::Cxx, Tool::Libclang])?;
    if find("cargo-fuzz").is_none() {
        run("cargo-fuzz is missing", cargo().args(["install", "--locked", "cargo-fuzz"]))?;
    }
    for target in &targets {
        run(&format!("build {target}"), cargo_fuzz("build").arg(target))?;
    }
    let mut crashed = Vec::new();
    for target in &targets {
        if !fuzz(target, seconds_each)? {
            crashed.push(*target);
        }
    }
    if crashed.is_empty() {
        return Ok(());
    }
    Err(Failure::Step(format!("crashes in {}; the inputs are in fuzz/artifacts/", crashed.join(", "))))
}

fn parse(words: &[String]) -> Result<(u64, Vec<&'static str>), Failure> {
    let mut seconds = 60;
    let mut targets = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--seconds" {
            let number = words.next().and_then(|number| number.parse().ok()).filter(|&number| number > 0);
            seconds = number.ok_or_else(|| Failure::Usage("`--seconds` wants a number above 0".to_owned()))?;
        } else if let Some(target) = TARGETS.iter().find(|target| *target == word) {
            targets.push(*target);
        } else {
            return Err(Failure::Usage(format!("no target `{word}`; there are {}", TARGETS.join(", "))));
        }
    }
    if targets.is_empty() {
        targets = TARGETS.to_vec();
    }
    Ok((seconds, targets))
}

fn cargo_fuzz(command: &str) -> Command {
    let mut cargo = cargo();
    cargo.args(["fuzz", command, "--sanitizer", "none"]).env("RUSTC_BOOTSTRAP", "1");
    cargo
}

/// Whether it went through without a crash.
fn fuzz(target: &str, seconds_each: u64) -> Result<bool, Failure> {
    let step = |err: std::io::Error| Failure::Step(format!("fuzz {target}: {err}"));
    // What was found stays in corpus/ for the next run; the seeds stay as they are.
    fs::create_dir_all(root().join("fuzz/corpus").join(target)).map_err(step)?;
    let mut cargo = cargo_fuzz("run");
    cargo.args([target, &format!("fuzz/corpus/{target}"), &format!("fuzz/seeds/{target}"), "--"]);
    // A single input may take 10 seconds and 2 GiB: more is a finding.
    cargo.args(["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=2048", "-max_len=4096"]);
    cargo.arg(format!("-max_total_time={seconds_each}"));
    eprintln!("\n── fuzz {target}: {seconds_each} s");
    let start = Instant::now();
    let output = cargo.stdin(Stdio::null()).output().map_err(step)?;
    let took = start.elapsed();
    let log = String::from_utf8_lossy(&output.stderr);
    let numbers = numbers(&log);
    let good = output.status.success() && numbers.executions > 0;
    if !good {
        eprintln!("{}", last_lines(&log, 60));
    }
    eprintln!("{}", summary(target, good, &numbers, took));
    Ok(good)
}

fn summary(target: &str, good: bool, numbers: &Numbers, took: Duration) -> String {
    let Numbers { executions, coverage, corpus } = numbers;
    format!(
        "fuzz: {target} {}: {executions} executions, {coverage} edges covered, {corpus} inputs in the corpus, {}",
        if good { "PASSED" } else { "FAILED" },
        seconds(took)
    )
}

/// From lines like `#2097152 pulse cov: 512 ft: 1234 corp: 88/4kb exec/s: 1` and `stat::number_of_executed_units: 2097152`.
fn numbers(log: &str) -> Numbers {
    let mut numbers = Numbers::default();
    for line in log.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1));
        let leading = |word: &&str| word.split('/').next().and_then(|digits| digits.parse::<u64>().ok());
        if let Some(count) = words.first().and_then(|word| word.strip_prefix('#')).and_then(|count| count.parse().ok())
        {
            numbers.executions = numbers.executions.max(count);
            numbers.coverage = after("cov:").and_then(leading).unwrap_or(numbers.coverage);
            numbers.corpus = after("corp:").and_then(leading).unwrap_or(numbers.corpus);
        } else if let Some(count) = after("stat::number_of_executed_units:").and_then(leading) {
            numbers.executions = count;
        }
    }
    numbers
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_numbers_count() {
        let log = "#9\tINITED cov: 10 ft: 11 corp: 7/30b exec/s: 0 rss: 40Mb\n\
                   #512\tNEW    cov: 12 ft: 19 corp: 8/34b lim: 4\n\
                   #1000\tDONE   cov: 12 ft: 19 corp: 8/34b\n\
                   stat::number_of_executed_units: 1001\n";
        assert_eq!(numbers(log), Numbers { executions: 1001, coverage: 12, corpus: 8 });
        assert_eq!(numbers("error: could not compile"), Numbers::default());
    }

    #[test]
    fn words() {
        let parse = |words: &[&str]| parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(parse(&[]).unwrap(), (60, TARGETS.to_vec()));
        assert_eq!(parse(&["--seconds", "5", "pg_frames"]).unwrap(), (5, vec!["pg_frames"]));
        assert!(parse(&["--seconds"]).is_err());
        assert!(parse(&["--seconds", "0"]).is_err());
        assert!(parse(&["pg_nothing"]).is_err());
    }
}
