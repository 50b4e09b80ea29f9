//! Asking for access and answering: resources, requests, grants, holds.

use crate::client::{Client, segment};
use crate::home::Home;
use crate::show::{Failure, Outcome, ahead, items, json, short, span, table, text};
use crate::ssh;
use anstream::{eprintln, println};
use clap::{Args, Subcommand};
use onus_core::time::Millis;
use serde_json::{Value, json as object};
use std::process::ExitCode;
use std::time::Duration;

/// How often `--wait` asks.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Reads a duration argument such as `30m`.
///
/// # Errors
/// In words, for clap.
pub fn duration(text: &str) -> Result<Millis, String> {
    Millis::parse(text).map_err(|error| error.to_string())
}

/// What can be reached.
#[derive(Debug, Subcommand)]
pub enum ResourceCommand {
    /// Lists resources and the roles that can be asked for.
    #[command(after_help = "EXAMPLES\n  onus resource list\n  onus resource list --json | jq '.resources[].roles'")]
    List(Json),
    Bootstrap(ssh::BootstrapArgs),
}

#[derive(Debug, Args)]
pub struct Json {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Asks for a role on a resource, for a purpose and a time; or lists what waits for an answer.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
EXAMPLES
  onus request orders-db --role reader --purpose 'INC-42: find the stuck order' --for 30m
  onus request orders-db --role writer --purpose 'INC-42: unstick order 7' --for 1h --relation public.orders --wait
  onus request web-1 --role log-reader --purpose 'INC-42: why it stops' --for 30m --path /var/log/nginx
  onus request list

Without --database, --schema, --relation, --path, --program and --class the grant reaches what the role does; each of them narrows it."
)]
pub struct RequestArgs {
    #[command(subcommand)]
    list: Option<RequestList>,
    /// On what.
    #[arg(required = true)]
    resource: Option<String>,
    /// Which role.
    #[arg(long, value_name = "ROLE", required = true)]
    role: Option<String>,
    /// Why; those who approve, and the record, will show it.
    #[arg(long, value_name = "TEXT", required = true)]
    purpose: Option<String>,
    /// For how long, from the last approval.
    #[arg(long = "for", value_name = "DURATION", required = true, value_parser = duration)]
    lasts: Option<Millis>,
    /// Only this database. May be repeated.
    #[arg(long, value_name = "NAME")]
    database: Vec<String>,
    /// Only this schema. May be repeated.
    #[arg(long, value_name = "NAME")]
    schema: Vec<String>,
    /// Only this relation, as schema.name. May be repeated.
    #[arg(long, value_name = "SCHEMA.NAME")]
    relation: Vec<String>,
    /// Only files below this directory, from `/` or `~`. May be repeated.
    #[arg(long, value_name = "DIR")]
    path: Vec<String>,
    /// Only this program. May be repeated.
    #[arg(long, value_name = "NAME")]
    program: Vec<String>,
    /// Only this class of operation. May be repeated.
    #[arg(long, value_name = "CLASS", value_parser = ["read", "write", "define", "administer", "execute", "opaque"])]
    class: Vec<String>,
    /// Wait until it is granted or refused.
    #[arg(long)]
    wait: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum RequestList {
    /// Lists requests that wait: one's own, and those that one may answer.
    #[command(after_help = "EXAMPLES\n  onus request list\n  onus request list --json")]
    List(Json),
}

/// Agrees to a request.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  onus request list\n  onus approve R-0123abcd\n\nNobody approves their own.")]
pub struct ApproveArgs {
    /// The request.
    id: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Turns a request (R-…) or a held operation (H-…) down; a requester withdraws their own the same way.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus refuse R-0123abcd --reason 'ask for the reader role'
  onus refuse H-012345 --reason 'that has no WHERE'")]
pub struct RefuseArgs {
    /// The request or hold.
    id: String,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Confirms exactly one held operation, which then runs.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus pending
  onus confirm H-012345

Read the text first: the confirmation is for exactly this text and these parameters. Nobody confirms their own.")]
pub struct ConfirmArgs {
    /// The hold.
    id: String,
}

/// Shows operations that wait for a confirmation, with their text.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  onus pending\n  onus pending --json")]
pub struct PendingArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Grants: approved, scoped, time-boxed roles.
#[derive(Debug, Subcommand)]
pub enum GrantCommand {
    /// Lists live grants: one's own, those that one approved, or all for those who govern.
    #[command(after_help = "EXAMPLES\n  onus grant list\n  onus grant list --json")]
    List(Json),
    /// Ends a grant now, and the sessions that use it.
    #[command(after_help = "EXAMPLES\n  onus grant revoke G-0123abcd --reason 'done early'")]
    Revoke {
        /// The grant.
        id: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Runs `onus resource`.
///
/// # Errors
/// What the gateway says.
pub fn resource(home: &Home, command: &ResourceCommand) -> Outcome {
    let args = match command {
        ResourceCommand::List(args) => args,
        ResourceCommand::Bootstrap(args) => return ssh::bootstrap(home, args),
    };
    let answer = Client::of(home)?.get("/v1/resources")?;
    if args.json {
        return Ok(json(&answer));
    }
    let mut rows = Vec::new();
    for resource in items(&answer, "resources") {
        let roles = items(resource, "roles");
        let cell = |name: &str| text(&resource[name]);
        if roles.is_empty() {
            rows.push(vec![
                cell("resource"),
                cell("service"),
                cell("owner"),
                "-".into(),
                "-".into(),
                "-".into(),
                "-".into(),
            ]);
        }
        for role in roles {
            let granted = if role["granted_until"].is_null() { "-".into() } else { ahead(&role["granted_until"]) };
            rows.push(vec![
                cell("resource"),
                cell("service"),
                cell("owner"),
                text(&role["role"]),
                span(&role["max_for"]),
                text(&role["approvers"]),
                granted,
            ]);
        }
    }
    let head = ["RESOURCE", "SERVICE", "OWNER", "ROLE", "AT MOST", "APPROVERS", "GRANTED FOR"];
    table(&head, &rows, "no resource is declared");
    Ok(ExitCode::SUCCESS)
}

/// Runs `onus request`.
///
/// # Errors
/// What the gateway says; a refused request, when it was waited for.
pub fn request(home: &Home, args: &RequestArgs) -> Outcome {
    let client = Client::of(home)?;
    if let Some(RequestList::List(list)) = &args.list {
        return requests(&client, list.json);
    }
    let (Some(resource), Some(role), Some(purpose), Some(lasts)) =
        (&args.resource, &args.role, &args.purpose, args.lasts)
    else {
        return Err(Failure::usage("a request names a resource, a role, a purpose and a time"));
    };
    let asked = object!({
        "resource": resource, "role": role, "purpose": purpose, "lasts": lasts,
        "scope": {"databases": args.database, "schemas": args.schema, "relations": args.relation, "classes": args.class,
                  "paths": args.path, "programs": args.program},
    });
    let mut answer = client.post("/v1/request", &asked)?;
    let id = text(&answer["request"]);
    if !args.wait {
        if args.json {
            return Ok(json(&answer));
        }
        println!("{id}");
        eprintln!("{}", waits(&answer));
        eprintln!("they type: onus approve {id}");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{id} {}", waits(&answer));
    loop {
        answer = client.get(&format!("/v1/request/{}", segment(&id)))?;
        match answer["state"].as_str() {
            Some("waiting") => std::thread::sleep(ASK_AGAIN),
            Some("granted") if args.json => return Ok(json(&answer)),
            Some("granted") => {
                let grant = &answer["grant"];
                println!("granted: {} for {}", text(&grant["id"]), ahead(&grant["deadline"]));
                eprintln!("next: onus connect {resource}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => {
                let (by, reason) = (text(&answer["by"]), text(&answer["reason"]));
                return Err(Failure::new(format!("{id} was refused by {by}: {reason}")));
            }
        }
    }
}

fn waits(answer: &Value) -> String {
    let approvals = if answer["approvals"] == 1 {
        "an approval".into()
    } else {
        format!("{} approvals", text(&answer["approvals"]))
    };
    format!("waits for {approvals} by any of: {}", text(&answer["approvers"]))
}

fn requests(client: &Client, as_json: bool) -> Outcome {
    let answer = client.get("/v1/requests")?;
    if as_json {
        return Ok(json(&answer));
    }
    let row = |r: &Value| {
        let approvals = format!("{}/{}", items(r, "approvals").len(), text(&r["needs"]));
        vec![
            text(&r["id"]),
            text(&r["subject"]),
            text(&r["resource"]),
            text(&r["role"]),
            span(&r["lasts"]),
            approvals,
            text(&r["approvers"]),
            short(&r["purpose"], 60),
        ]
    };
    let rows: Vec<_> = items(&answer, "requests").iter().map(row).collect();
    let head = ["REQUEST", "SUBJECT", "RESOURCE", "ROLE", "FOR", "APPROVED", "APPROVERS", "PURPOSE"];
    table(&head, &rows, "no request waits");
    Ok(ExitCode::SUCCESS)
}

fn events(answer: &Value) -> impl Iterator<Item = &Value> {
    items(answer, "events").iter().map(|event| &event["what"])
}

/// Runs `onus approve`.
///
/// # Errors
/// What the gateway says.
pub fn approve(home: &Home, args: &ApproveArgs) -> Outcome {
    let mut answer = Client::of(home)?.post(&format!("/v1/request/{}/approve", segment(&args.id)), &object!({}))?;
    if args.json {
        // Null while another person's approval is missing.
        let granted = events(&answer).find(|event| event["event"] == "grant_issued");
        let grant = granted.map(|event| event["grant"]["id"].clone());
        answer["grant"] = object!(grant);
        return Ok(json(&answer));
    }
    match events(&answer).find(|event| event["event"] == "grant_issued") {
        Some(event) => {
            let grant = &event["grant"];
            println!("granted: {} for {}", text(&grant["id"]), ahead(&grant["deadline"]));
        }
        None => println!("approved; it needs another person's approval besides"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `onus refuse`.
///
/// # Errors
/// What the gateway says.
pub fn refuse(home: &Home, args: &RefuseArgs) -> Outcome {
    let what = match args.id.get(..2) {
        Some("R-") => "request",
        Some("H-") => "hold",
        _ => return Err(Failure::usage(format!("`{}` is neither a request (R-…) nor a hold (H-…)", args.id))),
    };
    let path = format!("/v1/{what}/{}/refuse", segment(&args.id));
    Client::of(home)?.post(&path, &object!({"reason": args.reason}))?;
    println!("refused");
    Ok(ExitCode::SUCCESS)
}

/// Runs `onus confirm`.
///
/// # Errors
/// What the gateway says.
pub fn confirm(home: &Home, args: &ConfirmArgs) -> Outcome {
    Client::of(home)?.post(&format!("/v1/hold/{}/confirm", segment(&args.id)), &object!({}))?;
    println!("confirmed");
    Ok(ExitCode::SUCCESS)
}

/// Runs `onus pending`.
///
/// # Errors
/// What the gateway says.
pub fn pending(home: &Home, args: &PendingArgs) -> Outcome {
    let answer = Client::of(home)?.get("/v1/holds")?;
    if args.json {
        return Ok(json(&answer));
    }
    let holds = items(&answer, "holds");
    if holds.is_empty() {
        println!("nothing waits");
    }
    for hold in holds {
        println!(
            "{}  {} on {} as {}, for {}",
            text(&hold["id"]),
            text(&hold["subject"]),
            text(&hold["resource"]),
            text(&hold["role"]),
            ahead(&hold["expires"])
        );
        println!("  purpose   {}", text(&hold["purpose"]));
        println!("  why held  {}", text(&hold["why"]));
        println!("  may answer: {}", text(&hold["by"]));
        // Whole, not cut: it is what one answers for.
        println!("  {}", text(&hold["text"]));
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `onus grant`.
///
/// # Errors
/// What the gateway says.
pub fn grant(home: &Home, command: &GrantCommand) -> Outcome {
    let client = Client::of(home)?;
    match command {
        GrantCommand::List(args) => {
            let answer = client.get("/v1/grants")?;
            if args.json {
                return Ok(json(&answer));
            }
            let row = |g: &Value| {
                let by: Vec<String> = items(g, "approvals").iter().map(|a| text(&a["by"])).collect();
                vec![
                    text(&g["id"]),
                    text(&g["subject"]),
                    text(&g["resource"]),
                    text(&g["role"]),
                    ahead(&g["deadline"]),
                    by.join(", "),
                    short(&g["purpose"], 60),
                ]
            };
            let rows: Vec<_> = items(&answer, "grants").iter().map(row).collect();
            table(
                &["GRANT", "SUBJECT", "RESOURCE", "ROLE", "LEFT", "APPROVED BY", "PURPOSE"],
                &rows,
                "no grant is live",
            );
        }
        GrantCommand::Revoke { id, reason } => {
            client.post(&format!("/v1/grant/{}/revoke", segment(id)), &object!({"reason": reason}))?;
            println!("revoked");
        }
    }
    Ok(ExitCode::SUCCESS)
}
