//! Sessions afterwards and while they live: list, show, replay, verify, and who answers for one.

use crate::client::{Client, segment};
use crate::home::Home;
use crate::offline::{replay, verify as offline};
use crate::show::{Failure, Outcome, ahead, items, json, moment, short, table, text};
use anstream::println;
use clap::{Args, Subcommand};
use onus_core::ids::SessionId;
use onus_ledger::{Hash, SignedCheckpoint, VerifierKey, leaf_hash, verify_inclusion};
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;

/// Sessions.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// Lists live sessions that one may see.
    #[command(after_help = "EXAMPLES\n  onus session list\n  onus session list --all --json")]
    List {
        /// Also those that ended.
        #[arg(long)]
        all: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows what the ledger says of a session; with --journal, its records as JSON lines.
    #[command(after_help = "\
EXAMPLES
  onus session show S-0123456789ab
  onus session show S-0123456789ab --journal --json | onus policy replay --from policies --to proposed --records -")]
    Show {
        /// The session.
        id: String,
        /// Print the journal's records, one JSON object a line.
        #[arg(long)]
        journal: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Replays a session's journal: every statement, decision and result in order.
    #[command(
        after_help = "EXAMPLES\n  onus session replay S-0123456789ab | less\n  onus session replay S-0123456789ab --json"
    )]
    Replay {
        /// The session.
        id: String,
        /// Print the records as JSON lines.
        #[arg(long)]
        json: bool,
    },
}

/// Says who is accountable for a session: which party, by which rule, on what evidence.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus who S-0123456789ab
  onus who S-0123456789ab --json

Each piece of evidence is a ledger entry; its inclusion is verified here against the gateway's signed checkpoint and the
ledger's key as it was when this client enrolled.")]
pub struct WhoArgs {
    /// The session.
    session: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Verifies a session: its journal's chain and anchors, its views, and each of its decisions again.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  At the gateway, by what it has:
    onus verify --session S-0123456789ab
  By oneself, from the data directory or a copy of it:
    onus verify --session S-0123456789ab --data /var/lib/onus")]
pub struct VerifyArgs {
    /// The session.
    #[arg(long, value_name = "ID")]
    session: SessionId,
    /// Don't ask the gateway: read this data directory.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// With --data: the ledger's public key, in a file of one's own.
    #[arg(long, value_name = "FILE", requires = "data")]
    key_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `onus session`.
///
/// # Errors
/// What the gateway says.
pub fn session(home: &Home, command: &SessionCommand) -> Outcome {
    let client = Client::of(home)?;
    match command {
        SessionCommand::List { all, json: as_json } => list(&client, *all, *as_json),
        SessionCommand::Show { id, journal: true, .. } | SessionCommand::Replay { id, json: true } => {
            journal(&client, id, |lines| {
                anstream::print!("{lines}");
                Ok(())
            })
        }
        SessionCommand::Show { id, json: as_json, .. } => show(&client, id, *as_json),
        SessionCommand::Replay { id, .. } => {
            let mut records: Vec<Value> = Vec::new();
            let outcome = journal(&client, id, |lines| {
                for line in lines.lines() {
                    records.push(
                        serde_json::from_str(line).map_err(|fault| Failure::caused("a record is not JSON", &fault))?,
                    );
                }
                Ok(())
            })?;
            replay::render(records.into_iter(), &mut anstream::stdout())
                .map_err(|fault| Failure::caused("cannot write the replay", &fault))?;
            Ok(outcome)
        }
    }
}

/// Fetches a journal piece by piece. One that has findings is shown, and is a failure all the same.
fn journal(client: &Client, id: &str, mut each: impl FnMut(&str) -> Result<(), Failure>) -> Outcome {
    let path = |from: &str| format!("/v1/session/{}/journal?from={from}", segment(id));
    let mut from = "0".to_owned();
    loop {
        let (lines, next) = client.text_with(&path(&from), "onus-next")?;
        each(&lines)?;
        match next.filter(|next| !next.is_empty() && *next != from) {
            Some(next) => from = next,
            None => break,
        }
    }
    let (_, findings) = client.text_with(&path(&u32::MAX.to_string()), "onus-findings")?;
    match findings.as_deref() {
        Some("0") | None => Ok(ExitCode::SUCCESS),
        Some(many) => {
            Err(Failure::new(format!("the journal has {many} findings")).next(format!("onus verify --session {id}")))
        }
    }
}

fn list(client: &Client, all: bool, as_json: bool) -> Outcome {
    let answer = client.get(if all { "/v1/sessions?all=true" } else { "/v1/sessions" })?;
    if as_json {
        return Ok(json(&answer));
    }
    let row = |s: &Value| {
        let ended = if s["closed"].is_null() {
            format!("live, {} left", ahead(&s["deadline"]))
        } else {
            short(&s["closed"]["why"], 50)
        };
        vec![
            text(&s["session"]),
            text(&s["subject"]),
            text(&s["resource"]),
            text(&s["role"]),
            moment(&s["opened"]),
            text(&s["totals"]["permitted"]),
            text(&s["totals"]["refused"]),
            text(&s["totals"]["rows"]),
            ended,
        ]
    };
    let rows: Vec<_> = items(&answer, "sessions").iter().map(row).collect();
    let head = ["SESSION", "SUBJECT", "RESOURCE", "ROLE", "OPENED", "PERMITTED", "REFUSED", "ROWS", "STATE"];
    table(&head, &rows, "no session");
    Ok(ExitCode::SUCCESS)
}

fn show(client: &Client, id: &str, as_json: bool) -> Outcome {
    let answer = client.get(&format!("/v1/session/{}", segment(id)))?;
    if as_json {
        return Ok(json(&answer));
    }
    let session = &answer["opened"]["session"];
    println!("{}", text(&answer["session"]));
    for key in ["subject", "resource", "role", "database", "source", "gateway", "tier", "key", "grant"] {
        println!("  {key:<10} {}", text(&session[key]));
    }
    println!("  {:<10} {}", "purpose", text(&answer["grant"]["grant"]["purpose"]));
    println!("  {:<10} {} (entry {})", "opened", moment(&answer["opened"]["at"]), text(&answer["opened"]["position"]));
    for (plane, owner) in session["accountable"].as_object().into_iter().flatten() {
        println!("  {plane:<10} {}: {}", text(&owner["party"]), text(&owner["because"]));
    }
    for list in ["credentials", "holds", "kills", "anchors"] {
        for item in items(&answer, list) {
            println!(
                "  {list:<12} entry {}: {}",
                text(&item["position"]),
                crate::offline::shown::one_line(&without_place(item))
            );
        }
    }
    let closed = &answer["closed"];
    if closed.is_null() {
        println!("  live       {}", text(&answer["live"]));
    } else {
        println!(
            "  {:<10} {} (entry {}): {}",
            "closed",
            moment(&closed["at"]),
            text(&closed["position"]),
            text(&closed["why"])
        );
        println!("  {:<10} {}", "totals", closed["totals"]);
    }
    Ok(ExitCode::SUCCESS)
}

fn without_place(item: &Value) -> String {
    let fields = item.as_object().into_iter().flatten().filter(|(key, _)| *key != "position" && *key != "at");
    fields
        .map(|(key, value)| format!("{key} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Runs `onus who`.
///
/// # Errors
/// What the gateway says; evidence that does not verify.
pub fn who(home: &Home, args: &WhoArgs) -> Outcome {
    let mut answer = Client::of(home)?.get(&format!("/v1/who/{}", segment(&args.session)))?;
    let wrong = unproven(&answer, &home.config()?.ledger);
    answer["unproven"] = Value::from(wrong.clone());
    if args.json {
        json(&answer);
    } else {
        let found = items(&answer, "findings");
        for finding in found {
            println!(
                "{:<10} {:<12} {:<14} {} [{}; entries {}]",
                text(&finding["plane"]),
                text(&finding["part"]),
                text(&finding["who"]),
                text(&finding["because"]),
                text(&finding["rule"]),
                text(&finding["evidence"])
            );
            if !finding["incomplete"].is_null() {
                println!("{:<10} incomplete: {}", "", text(&finding["incomplete"]));
            }
        }
        if found.is_empty() {
            println!("no rule has anything to say: nothing was done in this session, and nothing is missing");
        }
        if !answer["journal"]["unread"].is_null() {
            println!(
                "its journal could not be read, so what was used is not known: {}",
                text(&answer["journal"]["unread"])
            );
        }
    }
    if wrong.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure { problems: wrong, ..Failure::new("not every piece of evidence is proven to be in the ledger") })
}

/// What of the evidence does not verify, in words. Nothing that the gateway says of itself is taken for granted.
fn unproven(answer: &Value, ledger_key: &str) -> Vec<String> {
    let checkpoint = VerifierKey::parse(ledger_key)
        .map_err(|fault| format!("the ledger's key of this client can't be read: {fault}"))
        .and_then(|key| {
            SignedCheckpoint::open(answer["checkpoint"].as_str().unwrap_or_default(), &key)
                .map_err(|fault| format!("the checkpoint does not verify: {fault}"))
        });
    let checkpoint = match checkpoint {
        Ok(signed) => signed.into_checkpoint(),
        Err(why) => return vec![why],
    };
    let mut wrong = Vec::new();
    let mut proven = std::collections::BTreeSet::new();
    for proof in items(answer, "proofs") {
        let index = proof["index"].as_u64().unwrap_or(u64::MAX);
        let hashes: Result<Vec<Hash>, _> =
            items(proof, "hashes").iter().map(|hash| Hash::from_base64(hash.as_str().unwrap_or_default())).collect();
        let leaf = leaf_hash(proof["entry"].as_str().unwrap_or_default().as_bytes());
        match hashes.map(|hashes| verify_inclusion(index, checkpoint.size, &leaf, &hashes, &checkpoint.root)) {
            Ok(Ok(())) => drop(proven.insert(index)),
            Ok(Err(fault)) => wrong.push(format!("entry {index}: {fault}")),
            Err(fault) => wrong.push(format!("entry {index}: {fault}")),
        }
    }
    for finding in items(answer, "findings") {
        for position in items(finding, "evidence").iter().filter_map(Value::as_u64) {
            if !proven.contains(&position) && !wrong.iter().any(|w| w.starts_with(&format!("entry {position}:"))) {
                wrong.push(format!("entry {position}: no proof was given"));
            }
        }
    }
    wrong
}

/// Runs `onus verify`.
///
/// # Errors
/// What the gateway says; a session that does not verify.
pub fn verify(home: Option<PathBuf>, args: &VerifyArgs) -> Outcome {
    if let Some(data) = &args.data {
        return Ok(offline::run(&offline::VerifyArgs {
            session: args.session.clone(),
            data: data.clone(),
            key: None,
            key_file: args.key_file.clone(),
            json: args.json,
        }));
    }
    let report =
        Client::of(&Home::find(home)?)?.get(&format!("/v1/session/{}/verify", segment(args.session.as_str())))?;
    if args.json {
        json(&report);
    } else {
        println!(
            "{}: {} records, {} anchors (up to record {}), {} views, {} decisions asked again, {} operations",
            text(&report["session"]),
            text(&report["records"]),
            text(&report["anchors"]),
            text(&report["anchored"]),
            text(&report["views"]),
            text(&report["decisions"]),
            text(&report["operations"])
        );
        if report["torn"] == true {
            println!("  ends within a record, as after a crash");
        }
        for difference in items(&report, "differences") {
            println!("  {}", text(difference));
        }
    }
    if report["ok"] == true {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!("{} differences; the session does not verify", text(&report["differing"]))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use onus_ledger::{Checkpoint, KeyName, SigningKey, Tree};
    use serde_json::json as object;

    fn answer(entry: &str) -> (Value, String) {
        let key = SigningKey::from_seed(KeyName::new("test/onus").unwrap(), &[3; 32]);
        let mut tree = Tree::new();
        for text in ["a", "b", "c"] {
            tree.append(text.as_bytes());
        }
        let signed = Checkpoint::new(key.verifier().name().clone(), 3, tree.root()).sign(&key).unwrap().to_string();
        let hashes: Vec<String> = tree.inclusion_proof(1, 3).unwrap().iter().map(Hash::to_base64).collect();
        let answer = object!({"checkpoint": signed, "findings": [{"evidence": [1]}],
                              "proofs": [{"index": 1, "size": 3, "entry": entry, "hashes": hashes}]});
        (answer, key.verifier().to_vkey())
    }

    #[test]
    fn evidence_is_proven_or_said_not_to_be() {
        let (good, key) = answer("b");
        assert_eq!(unproven(&good, &key), Vec::<String>::new());
        let (forged, key) = answer("x");
        assert_eq!(unproven(&forged, &key).len(), 1);
        let (mut without, key) = answer("b");
        without["proofs"] = object!([]);
        assert_eq!(unproven(&without, &key), ["entry 1: no proof was given"]);
        let other = SigningKey::from_seed(KeyName::new("test/onus").unwrap(), &[4; 32]).verifier().to_vkey();
        assert!(!unproven(&answer("b").0, &other).is_empty(), "another ledger's key");
    }
}
