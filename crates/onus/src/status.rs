//! The gateway's state, and the doors to what works without it: ledger, explain, completions.

use crate::client::Client;
use crate::home::Home;
use crate::offline::{explain as offline_explain, explain_shell, ledger as offline_ledger};
use crate::show::{Outcome, ahead, json, moment, text};
use anstream::println;
use clap::{Args, Subcommand};
use std::process::ExitCode;

/// Shows how the gateway is: ledger position, policy, lease, sessions.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  onus status\n  onus status --json | jq .lease_until")]
pub struct StatusArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The ledger, from a data directory or a copy: verify, export, show.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    Verify(offline_ledger::VerifyArgs),
    Export(offline_ledger::ExportArgs),
    Show(offline_ledger::ShowArgs),
}

/// What a text would do, and what would be decided about it.
#[derive(Debug, Subcommand)]
pub enum ExplainCommand {
    Sql(offline_explain::ExplainArgs),
    Shell(explain_shell::ExplainShellArgs),
}

/// Prints a completion script for a shell.
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES\n  onus completions bash > /etc/bash_completion.d/onus\n  onus completions zsh > ~/.zfunc/_onus"
)]
pub struct CompletionsArgs {
    /// Which shell.
    shell: clap_complete::Shell,
}

/// Runs `onus status`.
///
/// # Errors
/// What the gateway says.
pub fn status(home: &Home, args: &StatusArgs) -> Outcome {
    let status = Client::of(home)?.get("/v1/status")?;
    if args.json {
        return Ok(json(&status));
    }
    println!("gateway     {} {}", text(&status["gateway"]), text(&status["version"]));
    println!("postgresql  {}", text(&status["postgres"]));
    println!("ssh         {}", text(&status["ssh"]));
    println!("ledger      {} entries, key {}", text(&status["as_of"]), text(&status["ledger"]));
    println!("policy      version {}", text(&status["policy"]["version"]));
    println!("lease       {} ({})", ahead(&status["lease_until"]), moment(&status["lease_until"]));
    println!("sessions    {}, of them {} here", text(&status["sessions"]), text(&status["here"]));
    println!("credentials {} upstream", text(&status["credentials"]));
    Ok(ExitCode::SUCCESS)
}

/// Runs `onus ledger`.
pub fn ledger(command: &LedgerCommand) -> ExitCode {
    match command {
        LedgerCommand::Verify(args) => offline_ledger::verify_command(args),
        LedgerCommand::Export(args) => offline_ledger::export(args),
        LedgerCommand::Show(args) => offline_ledger::show(args),
    }
}

/// Runs `onus explain`.
pub fn explain(command: &ExplainCommand) -> ExitCode {
    match command {
        ExplainCommand::Sql(args) => offline_explain::run(args),
        ExplainCommand::Shell(args) => explain_shell::run(args),
    }
}

/// Prints a completion script.
///
/// # Errors
/// None today.
pub fn completions(args: &CompletionsArgs, command: &mut clap::Command) -> Outcome {
    clap_complete::generate(args.shell, command, "onus", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
