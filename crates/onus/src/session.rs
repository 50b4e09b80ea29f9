//! Sessions afterwards and while they live: list, show, replay, verify, and who answers for one.

use crate::client::{Client, segment};
use crate::home::Home;
use crate::offline::{replay, verify as offline};
use crate::show::{Failure, Outcome, ahead, items, json, moment, short, table, text};
use crate::{play, tape, watch};
use anstream::println;
use clap::{Args, Subcommand};
use onus_core::ids::SessionId;
use onus_core::time::{Millis, Timestamp};
use onus_ledger::{Hash, SignedCheckpoint, VerifierKey, leaf_hash, verify_inclusion};
use onus_terminal::asciicast::{v2, v3};
use onus_terminal::player::Options;
use serde_json::Value;
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroU32;
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
    Replay(ReplayArgs),
    Export(ExportArgs),
    Watch(watch::WatchArgs),
    Search(SearchArgs),
}

/// Replays a session: plays what its terminal showed, or lists every statement, decision and result in order.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus session replay S-0123456789ab --speed 2 --idle-limit 1
  onus session replay S-0123456789ab --at 2026-11-18T12:03:00Z
  onus session replay S-0123456789ab --op 14
  onus session replay S-0123456789ab | less
  onus session replay S-0123456789ab --json

KEYS
  space  pause and go on      arrows  five seconds back or forth      q  quit

A session that had a terminal is played if standard output is one; every other is listed.")]
pub struct ReplayArgs {
    /// The session.
    id: String,
    /// List it, whatever standard output is.
    #[arg(long, conflicts_with_all = ["speed", "idle_limit", "at", "op"])]
    print: bool,
    /// Play so many times as fast.
    #[arg(long, value_name = "N", value_parser = play::speed)]
    speed: Option<NonZeroU32>,
    /// Shorten pauses to so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = play::micros)]
    idle_limit: Option<u64>,
    /// Begin at a moment (UTC), or so many seconds after the beginning.
    #[arg(long, value_name = "TIME|+SECONDS", value_parser = play::From::parse)]
    at: Option<play::From>,
    /// Begin at an operation, by its number.
    #[arg(long, value_name = "N", conflicts_with = "at")]
    op: Option<u64>,
    /// Which of the session's streams, where there are several.
    #[arg(long, value_name = "N")]
    channel: Option<u64>,
    /// Print the records as JSON lines.
    #[arg(long, conflicts_with = "print")]
    json: bool,
}

/// Exports what a session's terminal showed, or all of its records, as a file.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus session export S-0123456789ab --format asciicast-v3 -o session.cast
  onus session export S-0123456789ab --format jsonl | jq 'select(.k == \"op\").text'

A cast is a view for people: bytes that are no text are replaced. The evidence is the journal (`onus verify`).")]
pub struct ExportArgs {
    /// The session.
    id: String,
    /// As what.
    #[arg(long, value_enum, default_value_t = Format::AsciicastV3)]
    format: Format,
    /// Which of the session's streams, where there are several.
    #[arg(long, value_name = "N")]
    channel: Option<u64>,
    /// Write to this file, which must not be there yet; else to standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What a session can be exported as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// asciicast v2, for older players.
    AsciicastV2,
    /// asciicast v3.
    AsciicastV3,
    /// The journal's records, one JSON object a line.
    Jsonl,
}

/// Searches commands, and what terminals showed, in all sessions that one may see.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus session search 'systemctl restart'
  onus session search passwd --since 2h --resource web-1
  onus session search INC-42 --since 2026-11-18T00:00:00Z --json

The newest sessions come first. The work is bounded: it says when it stopped early; narrow it then.")]
pub struct SearchArgs {
    /// What to look for; upper and lower case count the same.
    text: String,
    /// Only sessions that were open then or later: a moment (UTC), or how long ago.
    #[arg(long, value_name = "TIME|DURATION", value_parser = since)]
    since: Option<Timestamp>,
    /// Only this subject's.
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Only on this resource.
    #[arg(long, value_name = "RESOURCE")]
    resource: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn since(text: &str) -> Result<Timestamp, String> {
    match (Millis::parse(text), Timestamp::parse_rfc3339(text)) {
        (Ok(ago), _) => Ok(Timestamp(onus_gateway::now().0.saturating_sub(ago.0))),
        (_, Some(moment)) => Ok(moment),
        _ => Err(format!("`{text}` is neither a duration such as 2h nor a moment such as 2026-11-18T12:00:00Z")),
    }
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
        SessionCommand::Show { id, journal: true, .. } | SessionCommand::Replay(ReplayArgs { id, json: true, .. }) => {
            journal(&client, id, |lines| {
                anstream::print!("{lines}");
                Ok(())
            })
        }
        SessionCommand::Show { id, json: as_json, .. } => show(&client, id, *as_json),
        SessionCommand::Replay(args) => replay_session(&client, args),
        SessionCommand::Export(args) => export(&client, args),
        SessionCommand::Watch(args) => watch::watch(home, args),
        SessionCommand::Search(args) => search(&client, args),
    }
}

/// All records of a session's journal, and what was found wrong with it: they are shown all the same.
fn records(client: &Client, id: &str) -> Result<(Vec<Value>, Outcome), Failure> {
    let mut records: Vec<Value> = Vec::new();
    let outcome = journal(client, id, |lines| {
        for line in lines.lines() {
            let record = serde_json::from_str(line);
            records.push(record.map_err(|fault| Failure::caused("a record is not JSON", &fault))?);
        }
        Ok(())
    });
    match outcome {
        Err(failure) if records.is_empty() => Err(failure),
        outcome => Ok((records, outcome)),
    }
}

/// The stream that is asked for, or else the usual one; says which where there are several.
fn recording(records: &[Value], channel: Option<u64>) -> Result<Option<tape::Recording>, Failure> {
    let channels = tape::channels(records);
    let Some(chosen) = channel.or_else(|| tape::usual(&channels)) else { return Ok(None) };
    if channel.is_none() && channels.len() > 1 {
        let others: Vec<String> =
            channels.iter().filter(|c| c.number != chosen).map(|c| c.number.to_string()).collect();
        anstream::eprintln!("stream {chosen}; --channel shows the others: {}", others.join(", "));
    }
    tape::recording(records, chosen)
        .map_err(Failure::new)?
        .map_or_else(|| Err(Failure::new(format!("there is no tape of a stream {chosen}"))), |found| Ok(Some(found)))
}

fn replay_session(client: &Client, args: &ReplayArgs) -> Outcome {
    let (records, outcome) = records(client, &args.id)?;
    let from = match (&args.at, args.op) {
        (Some(at), _) => at.clone(),
        (None, Some(op)) => play::From::Operation(op),
        (None, None) => play::From::Start,
    };
    let wanted =
        from != play::From::Start || args.speed.is_some() || args.idle_limit.is_some() || args.channel.is_some();
    let terminal = tape::channels(&records).iter().any(|channel| channel.terminal);
    if !args.print && (wanted || (terminal && io::stdout().is_terminal())) {
        let Some(recording) = recording(&records, args.channel)? else {
            return Err(Failure::new("nothing of this session is on tape").next("onus session replay ID --print"));
        };
        let usual = Options::default();
        let options = Options {
            speed_percent: args.speed.unwrap_or(usual.speed_percent),
            idle_limit_us: args.idle_limit,
            ..usual
        };
        play::play(recording, &from, options)?;
        return outcome;
    }
    replay::render(records.into_iter(), &mut anstream::stdout())
        .map_err(|fault| Failure::caused("cannot write the replay", &fault))?;
    outcome
}

fn export(client: &Client, args: &ExportArgs) -> Outcome {
    let (records, outcome) = records(client, &args.id)?;
    let text = match args.format {
        Format::Jsonl => records.iter().map(|record| format!("{record}\n")).collect(),
        Format::AsciicastV2 | Format::AsciicastV3 => {
            let Some(recording) = recording(&records, args.channel)? else {
                return Err(Failure::new("nothing of this session is on tape")
                    .next(format!("onus session export {} --format jsonl", args.id)));
            };
            cast(&recording, args.format)
        }
    };
    let wrong = |fault: io::Error| Failure::caused("the export can't be written", &fault);
    match &args.output {
        Some(path) => {
            // What somebody did and saw is nobody else's to read, and an earlier export is not to be lost.
            use std::os::unix::fs::OpenOptionsExt;
            let mut file =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(wrong)?;
            file.write_all(text.as_bytes()).map_err(wrong)?;
        }
        // As it is: a cast spells out what a terminal would obey.
        None => io::stdout().lock().write_all(text.as_bytes()).map_err(wrong)?,
    }
    outcome
}

/// The cast of a recording.
fn cast(recording: &tape::Recording, format: Format) -> String {
    let mut out;
    if format == Format::AsciicastV2 {
        out = v2::header(&recording.header);
        let mut writer = v2::Writer::new();
        recording.events.iter().for_each(|event| out.push_str(&writer.event(event)));
        out.push_str(&writer.finish());
    } else {
        out = v3::header(&recording.header);
        let mut writer = v3::Writer::new();
        recording.events.iter().for_each(|event| out.push_str(&writer.event(event)));
        out.push_str(&writer.finish());
    }
    out
}

fn search(client: &Client, args: &SearchArgs) -> Outcome {
    let mut path = format!("/v1/search?text={}", segment(&args.text));
    if let Some(since) = args.since {
        path.push_str(&format!("&since={}", since.0));
    }
    for (name, value) in [("subject", &args.subject), ("resource", &args.resource)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", segment(value)));
        }
    }
    let answer = client.get(&path)?;
    if args.json {
        return Ok(json(&answer));
    }
    let hits = items(&answer, "hits");
    for hit in hits {
        let place = match (hit["op"].as_u64(), hit["channel"].as_u64()) {
            (Some(op), _) => format!("#{op}"),
            (None, Some(channel)) => format!("stream {channel}"),
            (None, None) => String::new(),
        };
        println!(
            "{}  {}  {} on {}  {} {place}: {}",
            text(&hit["session"]),
            moment(&hit["at"]),
            text(&hit["subject"]),
            text(&hit["resource"]),
            text(&hit["kind"]),
            short(&hit["text"], 200)
        );
    }
    anstream::eprintln!(
        "{} hits in {} of {} sessions",
        hits.len(),
        text(&answer["searched"]),
        text(&answer["sessions"])
    );
    if answer["unread"] != 0 {
        anstream::eprintln!("{} journals could not be read", text(&answer["unread"]));
    }
    if !answer["stopped"].is_null() {
        anstream::eprintln!(
            "stopped early, {}: narrow it with --since, --subject or --resource",
            text(&answer["stopped"])
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// How far control reaches, in words, so that nobody mistakes watching for control.
pub fn tier(value: &Value) -> String {
    match value.as_str() {
        Some("observed") => "observed: recorded, not prevented".to_owned(),
        Some("mediated") => "mediated: each operation decided".to_owned(),
        Some("sealed") => "sealed: decided, and enforced there".to_owned(),
        _ => text(value),
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
        let ended = if s["frozen"] == true {
            "frozen: nobody watches".to_owned()
        } else if s["closed"].is_null() {
            format!("live, {} left", ahead(&s["deadline"]))
        } else {
            short(&s["closed"]["why"], 50)
        };
        vec![
            text(&s["session"]),
            text(&s["subject"]),
            text(&s["resource"]),
            text(&s["role"]),
            tier(&s["tier"]),
            moment(&s["opened"]),
            text(&s["watchers"]),
            text(&s["totals"]["permitted"]),
            text(&s["totals"]["refused"]),
            text(&s["totals"]["rows"]),
            ended,
        ]
    };
    let rows: Vec<_> = items(&answer, "sessions").iter().map(row).collect();
    let head = [
        "SESSION",
        "SUBJECT",
        "RESOURCE",
        "ROLE",
        "TIER",
        "OPENED",
        "WATCHED BY",
        "PERMITTED",
        "REFUSED",
        "ROWS",
        "STATE",
    ];
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
        let value = if key == "tier" { tier(&session[key]) } else { text(&session[key]) };
        println!("  {key:<10} {value}");
    }
    println!("  {:<10} {}", "purpose", text(&answer["grant"]["grant"]["purpose"]));
    println!("  {:<10} {} (entry {})", "opened", moment(&answer["opened"]["at"]), text(&answer["opened"]["position"]));
    for (plane, owner) in session["accountable"].as_object().into_iter().flatten() {
        println!("  {plane:<10} {}: {}", text(&owner["party"]), text(&owner["because"]));
    }
    for list in ["credentials", "holds", "watches", "host_keys", "kills", "anchors"] {
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
    fn a_recording_is_exported_in_both_formats_without_what_steers_a_terminal() {
        let records =
            [tape::tests::taped(1, 10, "r", b"100x30"), tape::tests::taped(1, 1010, "o", b"\x1b[31mx\xe2\x82")];
        let found = recording(&records, None).unwrap().unwrap();
        let v2 = cast(&found, Format::AsciicastV2);
        assert!(v2.starts_with("{\"version\":2,\"width\":100,\"height\":30") && v2.lines().count() >= 2, "{v2}");
        let v3 = cast(&found, Format::AsciicastV3);
        assert!(v3.starts_with("{\"version\":3") && v3.contains("\"o\""), "{v3}");
        assert!(!v2.contains('\u{1b}') && !v3.contains('\u{1b}'));
        assert!(recording(&[], None).unwrap().is_none() && recording(&records, Some(7)).is_err());
    }

    #[test]
    fn watching_is_never_called_control() {
        assert!(tier(&object!("observed")).contains("not prevented"));
        assert!(since("2h").is_ok() && since("1970-01-01T00:00:01Z") == Ok(Timestamp(1000)) && since("noon").is_err());
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
