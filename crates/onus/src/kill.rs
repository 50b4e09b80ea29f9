//! `onus kill`: ends sessions at once, and shows how long each step took.

use crate::client::Client;
use crate::home::Home;
use crate::show::{Outcome, items, json, table, text};
use anstream::println;
use clap::Args;
use serde_json::{Value, json as object};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the steps are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends sessions at once: cancels what runs, closes both sides, revokes the credential.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus kill S-0123456789ab --reason 'exfiltration, INC-77'
  onus kill --subject alice --reason 'laptop stolen'
  onus kill --resource orders-db --reason 'database under attack'

One's own sessions, those on a resource that one owns, or any for the response and runtime planes and administrators.
Exit status 1 if a step is not known to have happened within ten seconds.")]
pub struct KillArgs {
    /// A session, subject or resource.
    name: String,
    /// NAME is a session.
    #[arg(long, group = "kind")]
    session: bool,
    /// NAME is a subject.
    #[arg(long, group = "kind")]
    subject: bool,
    /// NAME is a resource.
    #[arg(long, group = "kind")]
    resource: bool,
    /// Why; the record will show it.
    #[arg(long, value_name = "TEXT", default_value = "ended by hand")]
    reason: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// What the gateway says.
pub fn run(home: &Home, args: &KillArgs) -> Outcome {
    let client = Client::of(home)?;
    let kinds = [(args.session, "session"), (args.subject, "subject"), (args.resource, "resource")];
    let kind = kinds.iter().find(|(chosen, _)| *chosen).map(|(_, kind)| *kind);
    let mut answer = client.post("/v1/kill", &object!({"kind": kind, "id": args.name, "reason": args.reason}))?;
    let sessions: Vec<String> =
        items(&answer, "sessions").iter().filter_map(|s| s.as_str().map(str::to_owned)).collect();
    let mut from = items(&answer, "events").first().and_then(|event| event["position"].as_u64()).unwrap_or(0);
    let mut times: BTreeMap<String, Value> = BTreeMap::new();
    let began = Instant::now();
    while times.len() < sessions.len() && began.elapsed() < PATIENCE {
        let page = client.get(&format!("/v1/events?from={from}&max=1000"))?;
        for event in items(&page, "events") {
            from = from.max(event["position"].as_u64().map_or(0, |position| position + 1));
            let what = &event["what"];
            if let Some(session) = what["session"].as_str().filter(|_| what["event"] == "kill_completed")
                && sessions.iter().any(|killed| killed == session)
            {
                times.insert(session.to_owned(), what["times"].clone());
            }
        }
        if times.len() < sessions.len() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let steps = ["cancelled_us", "client_closed_us", "upstream_closed_us", "credential_revoked_us"];
    let proven = sessions
        .iter()
        .all(|session| times.get(session).is_some_and(|times| steps[1..].iter().all(|step| times[*step].is_u64())));
    let status = if proven { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if args.json {
        answer["times"] = object!(times);
        answer["proven"] = object!(proven);
        json(&answer);
        return Ok(status);
    }
    if sessions.is_empty() {
        println!("{}: no session was live; the order is recorded", text(&answer["target"]));
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = sessions
        .iter()
        .map(|session| {
            let shown =
                |step: &str| times.get(session).map_or_else(|| "not yet".to_owned(), |times| micros(&times[step]));
            std::iter::once(session.clone()).chain(steps.iter().map(|step| shown(step))).collect()
        })
        .collect();
    table(&["SESSION", "CANCELLED", "CLIENT CLOSED", "UPSTREAM CLOSED", "CREDENTIAL GONE"], &rows, "");
    Ok(status)
}

fn micros(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), |us| format!("{}.{} ms", us / 1000, us % 1000 / 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_milliseconds() {
        assert_eq!(micros(&object!(12_345)), "12.3 ms");
        assert_eq!(micros(&Value::Null), "-");
    }
}
