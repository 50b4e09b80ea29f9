//! The `onus` binary: one line a command, and nothing else. What a command does stands in the file of its group.

mod access;
mod archive;
mod change;
mod client;
mod connect;
mod data;
mod enrol;
mod home;
mod init;
mod kill;
mod offline;
mod play;
mod search;
mod serve;
mod session;
mod show;
mod ssh;
mod status;
mod tape;
mod watch;

use clap::{CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// A gateway for privileged sessions: it decides every operation at the moment of use, and can always say who answers
/// for it.
#[derive(Debug, Parser)]
#[command(
    name = "onus",
    version,
    max_term_width = 110,
    after_help = "\
EXAMPLES
  Begin:         onus init --data /var/lib/onus && onus serve --data /var/lib/onus --bootstrap examples/acme
  Enrol:         onus enroll alice --server https://localhost:7443 --ca-fingerprint sha256:…
  Ask and use:   onus request orders-db --role reader --purpose 'INC-42: find the stuck order' --for 30m --wait
                 onus connect orders-db
  Answer:        onus pending; onus approve R-…; onus confirm H-…
  End and ask:   onus kill S-…; onus session replay S-…; onus who S-…

EXIT STATUS
  0 done   1 refused or failed   2 the command line makes no sense

FILES
  $ONUS_HOME (default ~/.onus): config.json, ca.pem, client.key, client.pem, client-cert.pub, known_hosts, ssh_config"
)]
struct Cli {
    /// Where this client keeps its key, certificate and server.
    #[arg(long, global = true, env = "ONUS_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Serve(serve::ServeArgs),
    Enroll(enrol::EnrollArgs),
    Login(enrol::LoginArgs),
    Whoami(enrol::WhoamiArgs),
    Invite(enrol::InviteArgs),
    Status(status::StatusArgs),
    Plan(change::PlanArgs),
    Apply(change::ApplyArgs),
    #[command(subcommand)]
    Policy(change::PolicyCommand),
    #[command(subcommand)]
    Own(change::OwnCommand),
    #[command(subcommand)]
    Subject(change::SubjectCommand),
    #[command(subcommand)]
    Secret(change::SecretCommand),
    #[command(subcommand)]
    Resource(access::ResourceCommand),
    Request(access::RequestArgs),
    Approve(access::ApproveArgs),
    Refuse(access::RefuseArgs),
    Confirm(access::ConfirmArgs),
    Pending(access::PendingArgs),
    #[command(subcommand)]
    Grant(access::GrantCommand),
    Connect(connect::ConnectArgs),
    SshConfig(ssh::SshConfigArgs),
    Env(connect::EnvArgs),
    #[command(subcommand)]
    Session(session::SessionCommand),
    Kill(kill::KillArgs),
    Who(session::WhoArgs),
    Verify(session::VerifyArgs),
    #[command(subcommand)]
    Ledger(status::LedgerCommand),
    #[command(subcommand)]
    Explain(status::ExplainCommand),
    Completions(status::CompletionsArgs),
}

fn main() -> ExitCode {
    let Cli { home: given, command } = Cli::parse();
    let home = || home::Home::find(given.clone());
    show::exit(match command {
        Command::Init(args) => init::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Enroll(args) => home().and_then(|home| enrol::enroll(&home, &args)),
        Command::Login(args) => home().and_then(|home| enrol::login(&home, &args)),
        Command::Whoami(args) => home().and_then(|home| enrol::whoami(&home, &args)),
        Command::Invite(args) => home().and_then(|home| enrol::invite(&home, &args)),
        Command::Status(args) => home().and_then(|home| status::status(&home, &args)),
        Command::Plan(args) => home().and_then(|home| change::plan(&home, &args)),
        Command::Apply(args) => home().and_then(|home| change::apply(&home, &args)),
        Command::Policy(command) => change::policy(given, &command),
        Command::Own(command) => home().and_then(|home| change::own(&home, &command)),
        Command::Subject(command) => home().and_then(|home| change::subject(&home, &command)),
        Command::Secret(command) => home().and_then(|home| change::secret(&home, &command)),
        Command::Resource(command) => home().and_then(|home| access::resource(&home, &command)),
        Command::Request(args) => home().and_then(|home| access::request(&home, &args)),
        Command::Approve(args) => home().and_then(|home| access::approve(&home, &args)),
        Command::Refuse(args) => home().and_then(|home| access::refuse(&home, &args)),
        Command::Confirm(args) => home().and_then(|home| access::confirm(&home, &args)),
        Command::Pending(args) => home().and_then(|home| access::pending(&home, &args)),
        Command::Grant(command) => home().and_then(|home| access::grant(&home, &command)),
        Command::Connect(args) => home().and_then(|home| connect::connect(&home, &args)),
        Command::SshConfig(args) => home().and_then(|home| ssh::config(&home, &args)),
        Command::Env(args) => home().and_then(|home| connect::env(&home, &args)),
        Command::Session(command) => home().and_then(|home| session::session(&home, &command)),
        Command::Kill(args) => home().and_then(|home| kill::run(&home, &args)),
        Command::Who(args) => home().and_then(|home| session::who(&home, &args)),
        Command::Verify(args) => session::verify(given, &args),
        Command::Ledger(command) => Ok(status::ledger(&command)),
        Command::Explain(command) => Ok(status::explain(&command)),
        Command::Completions(args) => status::completions(&args, &mut Cli::command()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(command: &mut clap::Command, path: &str, seen: &mut Vec<String>) {
        let help = command.render_long_help().to_string();
        assert!(!command.get_about().map(ToString::to_string).unwrap_or_default().is_empty(), "`{path}` says nothing");
        if !command.has_subcommands() {
            assert!(help.contains("EXAMPLES"), "`{path} --help` has no examples");
        }
        seen.push(path.to_owned());
        let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        for name in names.into_iter().filter(|name| name != "help") {
            let sub = command.find_subcommand_mut(&name).expect("just listed");
            walk(sub, &format!("{path} {name}"), seen);
        }
    }

    #[test]
    fn every_command_has_help_with_examples() {
        let mut command = Cli::command();
        command.build();
        let mut seen = Vec::new();
        walk(&mut command, "onus", &mut seen);
        assert!(seen.len() > 40, "{seen:?}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_secret_can_be_given_as_an_argument() {
        fn options(command: &clap::Command, found: &mut Vec<String>) {
            found.extend(command.get_arguments().filter_map(|a| a.get_long()).map(str::to_owned));
            command.get_subcommands().for_each(|sub| options(sub, found));
        }
        let mut found = Vec::new();
        options(&Cli::command(), &mut found);
        for secret in ["password", "code", "token", "secret"] {
            assert!(!found.iter().any(|option| option == secret), "--{secret} would show in the process list");
        }
        assert!(found.iter().any(|option| option == "password-file"));
    }
}
