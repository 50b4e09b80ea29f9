//! `onus policy check | test | replay`: a policy set before it is put in force.
//!
//! All three load the set as the gateway does; none talks to one. What a session's own commands changed (a search path,
//! temporary tables) is not part of a case's text.

use super::explain::operations_of;
use super::policy_dir::{self, Loaded};
use super::shown::{brief, one_line};
use super::{FAILED, finish};
use clap::Args;
use onus_core::operation::Operation;
use onus_core::time::Timestamp;
use onus_core::view::View;
use onus_policy::{Recorded, run_cases};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Checks a policy set: syntax, schema, annotations, owners.
#[derive(Debug, Args)]
#[command(after_long_help = "\
EXAMPLES
  Check the policies, and that every owner is a party of the estate:
    onus policy check policies --estate estate
  Without an estate, owners are not checked:
    onus policy check policies

EXIT STATUS
  0  the set would load
  1  it would not, and every problem is told with file and line")]
pub struct CheckArgs {
    /// The directory with `*.cedar` files.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The estate that owners and confirmers must be in.
    #[arg(long, value_name = "DIR")]
    pub estate: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Puts test cases to a policy set.
#[derive(Debug, Args)]
#[command(after_long_help = "\
EXAMPLES
  Run DIR/cases.json:
    onus policy test policies
  Run cases of one's own:
    onus policy test policies --cases mine.json

A case is {\"name\", \"role\", \"sql\" or \"operation\", \"expect\": permit|deny|hold|terminate, \"policies\"?, \"at\"?, \"risk\"?}.

EXIT STATUS
  0  every case came out as expected
  1  a case failed, or the policies or cases could not be read")]
pub struct TestArgs {
    /// The directory with `*.cedar` files.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The cases, JSON; else `cases.json` in DIR.
    #[arg(long, value_name = "FILE")]
    pub cases: Option<PathBuf>,
    /// The estate that owners and confirmers must be in.
    #[arg(long, value_name = "DIR")]
    pub estate: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Shows which recorded decisions would change under another policy set, and for whom.
#[derive(Debug, Args)]
#[command(after_long_help = "\
EXAMPLES
  What would the proposed policies have decided otherwise in this session?
    onus session replay S-1 --json | onus policy replay --from policies --to proposed --records -

RECORDS
  One JSON object a line: a session's journal records (`view` and `def` records are used), or objects of one's own
  {\"view\": {…}, \"operations\": [{…}], \"at\": MILLISECONDS or RFC 3339, \"label\"?}. Without `view`, the last one
  before it counts.

EXIT STATUS
  0  both sets were asked about every record (whatever would change)
  1  a set or the records could not be read")]
pub struct ReplayArgs {
    /// The policies in force.
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// The policies proposed.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The records, one JSON object a line; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    pub records: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs `onus policy check`.
pub fn check(args: &CheckArgs) -> ExitCode {
    finish(checked(args, &mut BufWriter::new(io::stdout().lock())))
}

/// Runs `onus policy test`.
pub fn test(args: &TestArgs) -> ExitCode {
    finish(tested(args, &mut BufWriter::new(io::stdout().lock())))
}

/// Runs `onus policy replay`.
pub fn replay(args: &ReplayArgs) -> ExitCode {
    let out = &mut BufWriter::new(io::stdout().lock());
    finish(if args.records == Path::new("-") {
        replayed(args, &mut io::stdin().lock(), out)
    } else {
        match File::open(&args.records) {
            Ok(file) => replayed(args, &mut BufReader::new(file), out),
            Err(error) => {
                eprintln!("onus: {}: cannot be read: {error}", args.records.display());
                Ok(FAILED)
            }
        }
    })
}

const UNCHECKED: &str = "owners and confirmers were not checked; give --estate DIR to check them";

fn load(dir: &Path, estate: Option<&Path>) -> Option<Loaded> {
    match policy_dir::load(dir, estate) {
        Ok(loaded) => Some(loaded),
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("onus: {problem}"));
            None
        }
    }
}

fn checked(args: &CheckArgs, out: &mut dyn Write) -> io::Result<u8> {
    let loaded = match policy_dir::load(&args.dir, args.estate.as_deref()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            match args.json {
                true => writeln!(out, "{}", json!({"ok": false, "problems": problems}))?,
                false => problems.iter().for_each(|problem| eprintln!("onus: {problem}")),
            }
            out.flush()?;
            return Ok(FAILED);
        }
    };
    let set = &loaded.set;
    let mut owners = BTreeMap::<&str, u64>::new();
    for policy in set.policies() {
        *owners.entry(policy.owner.as_str()).or_default() += 1;
    }
    let roles: Vec<&str> = set.roles().map(|role| role.id.as_str()).collect();
    if args.json {
        let told = json!({
            "ok": true, "digest": set.digest(), "policies": set.policies().count(), "roles": roles, "owners": owners,
            "owners_checked": loaded.owners_checked,
        });
        writeln!(out, "{told}")?;
    } else {
        writeln!(out, "{} policies, digest {}", set.policies().count(), set.digest())?;
        writeln!(out, "roles: {}", roles.join(", "))?;
        let owners: Vec<String> = owners.iter().map(|(owner, count)| format!("{owner} ({count})")).collect();
        writeln!(out, "owners: {}", owners.join(", "))?;
        if !loaded.owners_checked {
            writeln!(out, "{UNCHECKED}")?;
        }
    }
    out.flush()?;
    Ok(0)
}

fn tested(args: &TestArgs, out: &mut dyn Write) -> io::Result<u8> {
    let Some(loaded) = load(&args.dir, args.estate.as_deref()) else { return Ok(FAILED) };
    let file = args.cases.clone().unwrap_or_else(|| args.dir.join("cases.json"));
    let outcome = std::fs::read_to_string(&file)
        .map_err(|e| e.to_string())
        .and_then(|text| run_cases(&loaded.set, &text, &operations_of).map_err(|e| e.to_string()));
    let results = match outcome {
        Ok(results) => results,
        Err(problem) => {
            eprintln!("onus: {}: {problem}", file.display());
            return Ok(FAILED);
        }
    };
    let failed = results.iter().filter(|result| !result.passed()).count();
    if args.json {
        let told: Vec<Value> = results
            .iter()
            .map(|r| {
                json!({"name": r.name, "passed": r.passed(), "expected": r.expected.as_str(),
                       "effect": r.decision.as_ref().map(|d| d.effect.as_str()), "problem": r.problem})
            })
            .collect();
        writeln!(out, "{}", Value::from(told))?;
    } else {
        let width = results.iter().filter(|r| !r.passed()).map(|r| r.name.chars().count()).max().unwrap_or(0).min(60);
        for result in results.iter().filter(|result| !result.passed()) {
            let problem = result.problem.as_deref().unwrap_or_default();
            writeln!(out, "FAILED  {:width$}  {}", one_line(&result.name), one_line(problem))?;
        }
        writeln!(out, "{} of {} cases passed", results.len() - failed, results.len())?;
    }
    out.flush()?;
    Ok(if failed == 0 { 0 } else { FAILED })
}

fn replayed(args: &ReplayArgs, records: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<u8> {
    let (Some(from), Some(to)) = (load(&args.from, None), load(&args.to, None)) else { return Ok(FAILED) };
    let mut read = Records { lines: records, number: 0, view: None, problem: None };
    let found = onus_policy::replay(&from.set, &to.set, &mut read);
    if let Some(problem) = &read.problem {
        eprintln!("onus: {}: {problem}", args.records.display());
        return Ok(FAILED);
    }
    if args.json {
        let changes: Vec<Value> = found
            .changes
            .iter()
            .map(|change| {
                json!({"label": change.label, "subject": change.subject.as_str(), "before": change.before.as_str(),
                       "after": change.after.as_str(), "because": change.because})
            })
            .collect();
        writeln!(out, "{}", json!({"judged": found.judged, "changes": changes}))?;
    } else {
        // Labels were escaped when they were read; the rest are policies' own texts.
        write!(out, "{found}")?;
    }
    out.flush()?;
    Ok(0)
}

/// Reads recorded decisions from lines. Stops at the first line that is wrong: a replay over half the records would
/// look like one over all.
struct Records<'a> {
    lines: &'a mut dyn BufRead,
    number: u64,
    view: Option<View>,
    problem: Option<String>,
}

impl Iterator for Records<'_> {
    type Item = Recorded;

    fn next(&mut self) -> Option<Recorded> {
        while self.problem.is_none() {
            let mut line = String::new();
            match self.lines.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    self.problem = Some(format!("line {}: cannot be read: {error}", self.number + 1));
                    return None;
                }
            }
            self.number += 1;
            if line.trim().is_empty() {
                continue;
            }
            match self.record(&line) {
                Ok(Some(record)) => return Some(record),
                Ok(None) => {}
                Err(problem) => self.problem = Some(format!("line {}: {}", self.number, brief(&problem, 400))),
            }
        }
        None
    }
}

impl Records<'_> {
    fn record(&mut self, line: &str) -> Result<Option<Recorded>, String> {
        let record: Value = serde_json::from_str(line).map_err(|e| format!("not JSON: {e}"))?;
        if let Some(view) = record.get("view") {
            self.view = Some(View::deserialize(view).map_err(|e| format!("`view` is not a view: {e}"))?);
        }
        match record.get("k").and_then(Value::as_str) {
            None | Some("def") => {}
            // The other journal records decide nothing.
            Some(_) => return Ok(None),
        }
        let Some(operations) = record.get("operations") else { return Err("there are no `operations`".to_owned()) };
        let operations =
            Vec::<Operation>::deserialize(operations).map_err(|e| format!("`operations` are none: {e}"))?;
        let at = match record.get("at") {
            Some(Value::Number(millis)) => millis.as_u64().map(Timestamp),
            Some(Value::String(text)) => Timestamp::parse_rfc3339(text),
            _ => None,
        };
        let at = at.ok_or("`at` is no moment; write milliseconds or such as 2026-11-18T12:00:00Z")?;
        let view = self.view.clone().ok_or("no `view` here or before; begin with the session's view record")?;
        let actions: Vec<&str> = operations.iter().map(|operation| operation.action.as_str()).collect();
        let label = match record.get("label").and_then(Value::as_str) {
            Some(label) => brief(label, 120),
            None => format!("{} {at} {}", view.session, brief(&actions.join(" "), 120)),
        };
        Ok(Some(Recorded { view, operations, at, label }))
    }
}

#[cfg(test)]
mod tests;
