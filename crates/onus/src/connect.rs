//! `onus connect` and `onus env`: the client that one already uses, pointed at the gateway. No secret is handed over:
//! the client proves who it is by key and certificate.

use crate::client::{Client, still_logged_in};
use crate::home::Home;
use crate::show::{Failure, Outcome, json};
use crate::ssh;
use anstream::println;
use clap::Args;
use serde_json::json as object;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Opens a resource through the gateway with the client for it: psql, or ssh.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus connect orders-db
  onus connect orders-db --role writer --database archive
  onus connect orders-db -- -c 'SELECT count(*) FROM orders'
  onus connect web-1
  onus connect web-1 --role log-reader -- tail -n 20 /var/log/syslog

Needs a live grant (`onus request`), and psql or ssh on the path. Its exit status is theirs.")]
pub struct ConnectArgs {
    #[command(flatten)]
    to: To,
    /// Given to psql or ssh as they are.
    #[arg(last = true, value_name = "ARGUMENTS")]
    further: Vec<String>,
}

/// Prints the environment that points any libpq client at a resource.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  eval \"$(onus env orders-db)\" && pg_dump --schema-only
  onus env orders-db --role reader --json")]
pub struct EnvArgs {
    #[command(flatten)]
    to: To,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct To {
    /// The resource.
    resource: String,
    /// Under which role, where several are granted.
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Which database, where not the resource's own.
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
}

fn variables(home: &Home, to: &To) -> Result<Vec<(&'static str, String)>, Failure> {
    let config = home.config()?;
    still_logged_in(&config)?;
    home.key()?;
    let status = Client::of(home)?.get("/v1/status")?;
    let postgres = status["postgres"].as_str().unwrap_or_default();
    Ok(of(home, &config.subject, postgres, to))
}

fn of(home: &Home, subject: &str, postgres: &str, to: &To) -> Vec<(&'static str, String)> {
    let (host, port) = postgres.rsplit_once(':').unwrap_or((postgres, "6432"));
    let path = |name: &str| home.path(name).to_string_lossy().into_owned();
    vec![
        ("PGHOST", host.trim_matches(['[', ']']).to_owned()),
        ("PGPORT", port.to_owned()),
        ("PGUSER", to.role.as_ref().map_or_else(|| subject.to_owned(), |role| format!("{subject}:{role}"))),
        (
            "PGDATABASE",
            to.database.as_ref().map_or_else(|| to.resource.clone(), |name| format!("{}/{name}", to.resource)),
        ),
        ("PGSSLMODE", "verify-full".to_owned()),
        ("PGSSLROOTCERT", path("ca.pem")),
        ("PGSSLCERT", path("client.pem")),
        ("PGSSLKEY", path("client.key")),
        ("PGGSSENCMODE", "disable".to_owned()),
    ]
}

/// Runs the client in place of this process.
///
/// # Errors
/// When the login is over, or there is no such client.
pub fn connect(home: &Home, args: &ConnectArgs) -> Outcome {
    if ssh::protocol(&Client::of(home)?, &args.to.resource)? == "ssh" {
        if args.to.database.is_some() {
            return Err(Failure::usage(format!("`{}` is reached by ssh and has no databases", args.to.resource)));
        }
        return ssh::connect(home, &args.to.resource, args.to.role.as_deref(), &args.further);
    }
    let mut psql = Command::new("psql");
    // What the shell has of these would reach elsewhere, or hand psql a password that it does not need.
    for name in ["PGSERVICE", "PGSERVICEFILE", "PGPASSWORD", "PGPASSFILE", "PGHOSTADDR", "PGOPTIONS", "PGREQUIREAUTH"] {
        psql.env_remove(name);
    }
    psql.envs(variables(home, &args.to)?).args(&args.further);
    let fault = psql.exec();
    Err(Failure::caused("psql can't be run", &fault).next("install it, or use another client with `onus env`"))
}

/// Prints the variables.
///
/// # Errors
/// When the login is over.
pub fn env(home: &Home, args: &EnvArgs) -> Outcome {
    let variables = variables(home, &args.to)?;
    if args.json {
        let map: serde_json::Map<_, _> = variables.into_iter().map(|(k, v)| (k.to_owned(), object!(v))).collect();
        return Ok(json(&object!(map)));
    }
    for (name, value) in variables {
        println!("export {name}={}", quoted(&value));
    }
    Ok(ExitCode::SUCCESS)
}

/// One word for a POSIX shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_can_not_leave_its_quotes() {
        assert_eq!(quoted("a'; rm -rf ~ #"), "'a'\\''; rm -rf ~ #'");
    }

    #[test]
    fn role_and_database_travel_in_libpqs_own_terms() {
        let home = Home::find(Some("/h".into())).unwrap();
        let to = To { resource: "orders-db".into(), role: Some("writer".into()), database: Some("archive".into()) };
        let found = of(&home, "alice", "[::1]:6432", &to);
        let get = |name: &str| found.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str()).unwrap();
        assert_eq!((get("PGUSER"), get("PGDATABASE")), ("alice:writer", "orders-db/archive"));
        assert_eq!((get("PGHOST"), get("PGPORT"), get("PGSSLMODE")), ("::1", "6432", "verify-full"));
    }
}
