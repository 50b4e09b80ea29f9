//! Changing what is declared: estate, policy, leavers, subjects, upstream secrets.

use crate::client::{Client, segment};
use crate::home::{Home, secret as read_secret};
use crate::offline::{estate_diff, estate_file, policy as offline};
use crate::serve::policy_texts;
use crate::show::{Failure, Outcome, items, json, table, text};
use anstream::{eprintln, println};
use clap::{Args, Subcommand};
use onus_core::estate::Estate;
use serde::Deserialize;
use serde_json::{Value, json as object};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Shows what applying an estate would change, and whether it may be.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  onus plan examples/acme\n  onus plan examples/acme --json")]
pub struct PlanArgs {
    /// The directory with the estate's YAML files, or one file.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Brings the estate to what the files say: the whole difference, or nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus apply examples/acme
  onus apply examples/acme --yes

Shows the difference and asks. What is in force and not in the files is withdrawn; sessions that needed it end.")]
pub struct ApplyArgs {
    /// The directory with the estate's YAML files, or one file.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Don't ask.
    #[arg(long)]
    yes: bool,
}

/// Policies: check, test and replay them here, or put them in force at the gateway.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    Check(offline::CheckArgs),
    Test(offline::TestArgs),
    Replay(offline::ReplayArgs),
    /// Validates a policy set at the gateway and puts it in force.
    #[command(after_help = "\
EXAMPLES
  onus policy apply policies --dry-run
  onus policy apply policies

Live sessions are judged by the new set from their next operation on.")]
    Apply {
        /// The directory with `*.cedar` files.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Only validate.
        #[arg(long)]
        dry_run: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Ownership.
#[derive(Debug, Subcommand)]
pub enum OwnCommand {
    /// Shows what a name is in the estate, and what names it: an object's owners, or what a party owns.
    #[command(after_help = "EXAMPLES\n  onus own show orders-db\n  onus own show petra --json")]
    Show {
        /// A party, team, subject, service, resource, role or plane.
        object: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Records that a party left; sessions that need it as an owner end.
    #[command(after_help = "EXAMPLES\n  onus own left petra --reason 'left the company on 30 November'")]
    Left {
        /// The party.
        party: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Subjects: who acts.
#[derive(Debug, Subcommand)]
pub enum SubjectCommand {
    /// Lists subjects; all of them for those who govern.
    #[command(after_help = "EXAMPLES\n  onus subject list\n  onus subject list --json")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Stops a subject: its sessions end and its keys count no more.
    #[command(after_help = "EXAMPLES\n  onus subject disable alice --reason 'laptop stolen'")]
    Disable(StandingArgs),
    /// Lets a disabled subject act again; it must enrol anew.
    #[command(after_help = "EXAMPLES\n  onus subject enable alice --reason 'laptop replaced'")]
    Enable(StandingArgs),
    /// Sets a subject's risk band, which policies ask about.
    #[command(after_help = "EXAMPLES\n  onus subject risk alice 3 --reason 'unusual hours, INC-77'")]
    Risk {
        /// The subject.
        subject: String,
        /// 0 (none) to 4 (act now).
        #[arg(value_parser = clap::value_parser!(u8).range(0..=4))]
        band: u8,
        /// On what grounds.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub struct StandingArgs {
    /// The subject.
    subject: String,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Credentials of upstreams, sealed in the gateway's vault.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Keeps the login that the gateway administers a resource with, or uses on it. It can't be read back.
    #[command(after_help = "\
EXAMPLES
  onus secret set orders-db/admin --user onus_admin
  onus secret set orders-db/admin --user onus_admin --password-file /run/secrets/orders-db

The name is what the resource's `admin` setting says. The password is asked for, or read from a file.")]
    Set {
        /// RESOURCE/NAME.
        #[arg(value_name = "RESOURCE/NAME")]
        place: String,
        /// The user name on the other side.
        #[arg(long, value_name = "USER")]
        user: String,
        /// Read the password from this file (`-`: standard input).
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
}

fn wanted(dir: &Path) -> Result<Estate, Failure> {
    estate_file::read(dir).map_err(|problems| Failure {
        problems: problems.iter().map(ToString::to_string).collect(),
        ..Failure::new(format!("the estate in `{}` has problems", dir.display()))
    })
}

fn in_force(client: &Client) -> Result<Estate, Failure> {
    let answer = client.get("/v1/estate")?;
    Estate::deserialize(&answer["estate"])
        .map_err(|fault| Failure::caused("the gateway's estate can't be read", &fault))
}

/// Runs `onus plan`.
///
/// # Errors
/// Problems in the files; what the gateway says.
pub fn plan(home: &Home, args: &PlanArgs) -> Outcome {
    let wanted = wanted(&args.dir)?;
    let client = Client::of(home)?;
    let before = in_force(&client)?;
    client.post("/v1/estate", &object!({"dry_run": true, "estate": wanted}))?;
    if args.json {
        return Ok(json(&estate_diff::json(&before, &wanted)));
    }
    estate_diff::print(&before, &wanted, &mut anstream::stdout())
        .map_err(|fault| Failure::caused("cannot write the answer", &fault))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `onus apply`.
///
/// # Errors
/// Problems in the files; what the gateway says; a no.
pub fn apply(home: &Home, args: &ApplyArgs) -> Outcome {
    let wanted = wanted(&args.dir)?;
    let client = Client::of(home)?;
    let before = in_force(&client)?;
    estate_diff::print(&before, &wanted, &mut anstream::stdout())
        .map_err(|fault| Failure::caused("cannot write the answer", &fault))?;
    if before == wanted {
        return Ok(ExitCode::SUCCESS);
    }
    client.post("/v1/estate", &object!({"dry_run": true, "estate": wanted}))?;
    if !args.yes {
        agreed()?;
    }
    let answer = client.post("/v1/estate", &object!({"estate": wanted}))?;
    println!("applied: {} changes", items(&answer, "changes").len());
    Ok(ExitCode::SUCCESS)
}

fn agreed() -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("nobody is there to ask").next("add --yes"));
    }
    anstream::eprint!("apply this? [y/N] ");
    let _ = io::stderr().flush();
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(|fault| Failure::caused("cannot read the answer", &fault))?;
    if matches!(line.trim(), "y" | "yes") { Ok(()) } else { Err(Failure::new("nothing was applied")) }
}

/// Runs `onus policy`.
///
/// # Errors
/// What the gateway says.
pub fn policy(home: Option<PathBuf>, command: &PolicyCommand) -> Outcome {
    match command {
        PolicyCommand::Check(args) => Ok(offline::check(args)),
        PolicyCommand::Test(args) => Ok(offline::test(args)),
        PolicyCommand::Replay(args) => Ok(offline::replay(args)),
        PolicyCommand::Apply { dir, dry_run, json: as_json } => {
            let texts = policy_texts(dir)?;
            let client = Client::of(&Home::find(home)?)?;
            let answer = client.post("/v1/policy", &object!({"dry_run": dry_run, "files": texts.files}))?;
            if *as_json {
                return Ok(json(&answer));
            }
            if *dry_run {
                let changes = if answer["changes"] == true { "it differs from" } else { "it is" };
                println!("the set is valid; {changes} the one in force");
            } else {
                let version = items(&answer, "events").first().map(|event| text(&event["what"]["version"]));
                println!("in force: version {}", version.unwrap_or_default());
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs `onus own`.
///
/// # Errors
/// What the gateway says.
pub fn own(home: &Home, command: &OwnCommand) -> Outcome {
    let client = Client::of(home)?;
    match command {
        OwnCommand::Left { party, reason } => {
            client.post(&format!("/v1/party/{}/left", segment(party)), &object!({"reason": reason}))?;
            println!("recorded: {party} left");
        }
        OwnCommand::Show { object, json: as_json } => {
            let answer = client.get("/v1/estate")?;
            let found = named(&answer["estate"], object);
            if *as_json {
                return Ok(json(&object!({"name": object, "found": found})));
            }
            if found.is_empty() {
                return Err(Failure::new(format!("nothing in the estate is called or names `{object}`")));
            }
            let rows: Vec<_> = found
                .iter()
                .map(|f| vec![text(&f["kind"]), text(&f["name"]), text(&f["key"]), text(&f["value"])])
                .collect();
            table(&["KIND", "NAME", "KEY", "VALUE"], &rows, "");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What bears the name, key by key, and every key elsewhere that holds it.
fn named(estate: &Value, wanted: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for (kind, things) in estate.as_object().into_iter().flatten() {
        for (name, thing) in things.as_object().into_iter().flatten() {
            for (key, value) in thing.as_object().into_iter().flatten() {
                let holds = value == wanted || value.as_array().is_some_and(|many| many.iter().any(|v| v == wanted));
                if name == wanted || holds {
                    found.push(object!({"kind": kind, "name": name, "key": key, "value": value}));
                }
            }
        }
    }
    found
}

/// Runs `onus subject`.
///
/// # Errors
/// What the gateway says.
pub fn subject(home: &Home, command: &SubjectCommand) -> Outcome {
    let client = Client::of(home)?;
    let post = |subject: &str, verb: &str, body: Value| -> Outcome {
        client.post(&format!("/v1/subject/{}/{verb}", segment(subject)), &body)?;
        println!("done: {subject}");
        Ok(ExitCode::SUCCESS)
    };
    match command {
        SubjectCommand::List { json: as_json } => {
            let answer = client.get("/v1/subjects")?;
            if *as_json {
                return Ok(json(&answer));
            }
            let row = |s: &Value| {
                let standing =
                    if s["disabled"].is_null() { "good".into() } else { format!("disabled: {}", text(&s["disabled"])) };
                vec![
                    text(&s["subject"]),
                    text(&s["kind"]),
                    text(&s["owner"]),
                    text(&s["administrator"]),
                    text(&s["keys"]),
                    text(&s["risk"]),
                    standing,
                ]
            };
            let rows: Vec<_> = items(&answer, "subjects").iter().map(row).collect();
            table(&["SUBJECT", "KIND", "OWNER", "ADMINISTRATOR", "KEYS", "RISK", "STANDING"], &rows, "no subject");
            Ok(ExitCode::SUCCESS)
        }
        SubjectCommand::Disable(args) => post(&args.subject, "disable", object!({"reason": args.reason})),
        SubjectCommand::Enable(args) => post(&args.subject, "enable", object!({"reason": args.reason})),
        SubjectCommand::Risk { subject, band, reason } => {
            post(subject, "risk", object!({"band": band, "reason": reason}))
        }
    }
}

/// Runs `onus secret`.
///
/// # Errors
/// What the gateway says.
pub fn secret(home: &Home, command: &SecretCommand) -> Outcome {
    let SecretCommand::Set { place, user, password_file } = command;
    let (resource, name) =
        place.rsplit_once('/').ok_or_else(|| Failure::usage(format!("`{place}` is not RESOURCE/NAME")))?;
    let client = Client::of(home)?;
    let password = read_secret(password_file.as_deref(), &format!("password of {user} on {resource}"))?;
    let path = format!("/v1/secret/{}/{}", segment(resource), segment(name));
    client.put(&path, &object!({"user": user, "password": password.as_str()}))?;
    eprintln!("kept, sealed, as {place}");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_as_owner_and_as_itself() {
        let estate = object!({"roles": {"reader": {"owner": "petra", "approvers": ["data-platform"]}},
                              "parties": {"petra": {"name": "Petra"}}});
        let keys: Vec<_> = named(&estate, "petra").iter().map(|f| format!("{}.{}", f["name"], f["key"])).collect();
        assert_eq!(keys.len(), 2);
        assert_eq!(named(&estate, "data-platform").len(), 1);
        assert!(named(&estate, "nobody").is_empty());
    }
}
