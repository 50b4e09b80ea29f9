//! `onus serve`: takes up a data directory, opens the doors, and goes down in order.

use crate::archive::Formats;
use crate::data::{gateway_file, keys, write};
use crate::init::fingerprint;
use crate::offline::estate_file;
use crate::show::{Failure, Outcome};
use anstream::println;
use clap::Args;
use onus_api::Api;
use onus_core::command::Command;
use onus_core::event::Actor;
use onus_core::operation::Durability;
use onus_core::time::Millis;
use onus_gateway::policy::PolicyTexts;
use onus_gateway::{Gateway, Settings, Stores};
use onus_store_sql::{DataLock, SqliteStore};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// How long sessions may take to end when the gateway stops.
const ENDING: Duration = Duration::from_secs(10);

/// Runs the gateway.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  The first start declares an estate and its policies, and gives out the administrators' enrolment codes:
    onus serve --data /var/lib/onus --bootstrap examples/acme
  From then on:
    onus serve --data /var/lib/onus
  For clients elsewhere:
    onus serve --data /var/lib/onus --listen-pg 0.0.0.0:6432 --listen-ssh 0.0.0.0:2222 --listen-api 0.0.0.0:7443 \
      --public-pg onus.example.org:6432 --public-ssh onus.example.org:2222

It prints one line when it is ready, and writes its log to standard error ($ONUS_LOG: a tracing filter, such as debug).
SIGTERM and SIGINT end all sessions, revoke their credentials and stop.")]
pub struct ServeArgs {
    /// The directory that `onus init` made.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where PostgreSQL clients connect.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6432")]
    listen_pg: SocketAddr,
    /// Where SSH clients connect.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2222")]
    listen_ssh: SocketAddr,
    /// Where the command line connects.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7443")]
    listen_api: SocketAddr,
    /// What PostgreSQL clients are told to connect to; else the first name of the gateway and the port listened on.
    #[arg(long, value_name = "HOST:PORT")]
    public_pg: Option<String>,
    /// What SSH clients are told to connect to; else the first name of the gateway and the port listened on.
    #[arg(long, value_name = "HOST:PORT")]
    public_ssh: Option<String>,
    /// An estate to declare if the ledger is empty, with its policies.
    #[arg(long, value_name = "ESTATE_DIR")]
    bootstrap: Option<PathBuf>,
    /// The policies for --bootstrap; else `policies` beside or in the estate.
    #[arg(long, value_name = "DIR", requires = "bootstrap")]
    policies: Option<PathBuf>,
    /// How long a login lasts.
    #[arg(long, value_name = "DURATION", default_value = "8h", value_parser = crate::access::duration)]
    login_for: Millis,
    /// Command schemas besides those that are shipped (docs/commands.md): a directory of *.toml.
    #[arg(long, value_name = "DIR")]
    commands: Option<PathBuf>,
    /// Sync every journal record to the disk before it counts, reads included.
    #[arg(long)]
    sync_reads: bool,
    /// Sessions at one time.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    max_sessions: usize,
    /// Threads that move bytes; by default half as many as there are processors, and at least one.
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZeroUsize>,
}

/// Runs it until it is told to stop.
///
/// # Errors
/// When it can't start.
pub fn run(args: &ServeArgs) -> Outcome {
    let filter = EnvFilter::try_from_env("ONUS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let file = gateway_file(&args.data)?;
    let _lock = DataLock::acquire(&args.data).map_err(|fault| Failure::caused("cannot serve", &fault))?;
    let keys = keys(&args.data)?;
    raise_open_files();
    let store = || {
        SqliteStore::open_existing(args.data.join("onus.db"))
            .map_err(|fault| Failure::caused("the store can't be opened", &fault))
    };
    let stores = Stores { ledger: Box::new(store()?), reader: Box::new(store()?), vault: Box::new(store()?) };
    let first = file.public_names.first().cloned().unwrap_or_else(|| file.name.clone());
    let settings = Settings {
        data: args.data.clone(),
        name: file.name,
        public_names: file.public_names,
        certificate_lifetime: args.login_for,
        durability: if args.sync_reads { Durability::Synced } else { Durability::HandedOver },
        max_sessions: args.max_sessions,
        commands: args.commands.as_deref().map(command_schemas).transpose()?.unwrap_or_default(),
    };
    // Each further thread costs wake-ups across processors with every statement: with two for two processors, a
    // statement took 31 µs of processor time; with one, 22.
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let threads = args.threads.map_or((processors / 2).max(1), std::num::NonZeroUsize::get);
    // With one there is nobody to share work with, and a scheduler without sharing is cheaper.
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|fault| Failure::caused("no runtime could be started", &fault))?;
    let outcome = runtime.block_on(async {
        let gateway = Gateway::start(settings, keys, stores)
            .await
            .map_err(|fault| Failure::caused("the gateway can't start", &fault))?;
        let served = serve(args, Arc::clone(&gateway), &first).await;
        gateway.shut_down(ENDING).await;
        served
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

async fn serve(args: &ServeArgs, gateway: Arc<Gateway>, host: &str) -> Outcome {
    if let Some(dir) = &args.bootstrap {
        bootstrap(args, &gateway, dir).await?;
    }
    let bind = |address: SocketAddr, what: &'static str| async move {
        TcpListener::bind(address)
            .await
            .map_err(|fault| Failure::caused(format!("cannot listen on {address} for {what}"), &fault))
    };
    let (pg, ssh) = (bind(args.listen_pg, "postgresql").await?, bind(args.listen_ssh, "ssh").await?);
    let api = bind(args.listen_api, "the API").await?;
    let port = |listener: &TcpListener| listener.local_addr().map_or(0, |address| address.port());
    let postgres = args.public_pg.clone().unwrap_or_else(|| format!("{host}:{}", port(&pg)));
    let secure_shell = args.public_ssh.clone().unwrap_or_else(|| format!("{host}:{}", port(&ssh)));
    // Asked for before anything is said to be ready: a signal that comes right then must not be lost.
    let caught = |kind| signal(kind).map_err(|fault| Failure::caused("signals can't be caught", &fault));
    let (mut terminate, mut interrupt) = (caught(SignalKind::terminate())?, caught(SignalKind::interrupt())?);
    println!(
        "ready: postgresql {postgres}, ssh {secure_shell}, api https://{host}:{}, ca {}, ledger {}",
        port(&api),
        fingerprint(gateway.ca.cert_der()),
        gateway.ledger_key()
    );
    let (stop, stopping) = watch::channel(false);
    let routes = Arc::new(Api::new(Arc::clone(&gateway), Box::new(Formats), postgres).with_ssh(secure_shell));
    let api = tokio::spawn(onus_api::serve(routes, api, stopping.clone()));
    let pg = tokio::spawn(Arc::clone(&gateway).serve_pg(pg, stopping.clone()));
    let ssh = tokio::spawn(Arc::clone(&gateway).serve_ssh(ssh, stopping));
    tokio::pin!(api, pg, ssh);
    let died = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = &mut api => Some(format!("the API's door closed by itself: {ended:?}")),
        ended = &mut ssh => Some(format!("the ssh door closed by itself: {ended:?}")),
        ended = &mut pg => Some(format!("the postgresql door closed by itself: {ended:?}")),
    };
    tracing::info!("stopping: no new sessions; live ones end");
    let _ = stop.send(true);
    match died {
        None => Ok(ExitCode::SUCCESS),
        Some(what) => Err(Failure::new(what)),
    }
}

/// Declares estate and policies as the operator at the data directory, which only an empty ledger allows, and gives
/// out the administrators' codes.
async fn bootstrap(args: &ServeArgs, gateway: &Arc<Gateway>, dir: &Path) -> Result<(), Failure> {
    if gateway.shared().state().policy.is_some() {
        tracing::info!("the ledger has an estate and policies already; --bootstrap does nothing");
        return Ok(());
    }
    let estate = estate_file::read(dir).map_err(|problems| Failure {
        problems: problems.iter().map(ToString::to_string).collect(),
        ..Failure::new(format!("the estate in `{}` has problems", dir.display()))
    })?;
    let policies = policies_of(args, dir)?;
    if gateway.shared().state().estate.subjects.is_empty() {
        gateway
            .give(Command::ApplyEstate { wanted: Box::new(estate) }, Actor::Operator)
            .await
            .map_err(|fault| Failure::caused("the estate was not applied", &fault))?;
    }
    let texts = policy_texts(&policies)?;
    if let Err(problems) = gateway.check_policy(texts.clone()) {
        return Err(Failure {
            problems: problems.iter().map(ToString::to_string).collect(),
            ..Failure::new(format!("the policies in `{}` have problems", policies.display()))
        });
    }
    gateway
        .activate_policy(texts, Actor::Operator)
        .await
        .map_err(|fault| Failure::caused("the policies were not activated", &fault))?;
    let administrators: Vec<_> = {
        let state = gateway.shared().state();
        state.estate.subjects.iter().filter(|(_, s)| s.administrator).map(|(id, _)| id.clone()).collect()
    };
    let mut codes = String::new();
    for subject in administrators {
        let printed = onus_api::enrolment::mint_code(gateway, &subject, Actor::Operator)
            .await
            .map_err(|problem| Failure::new(problem.error))?;
        codes.push_str(&format!("{subject} {}\n", printed.reveal()));
    }
    let path = args.data.join("bootstrap-codes.txt");
    write(&path, &codes)?;
    println!("enrolment codes of the administrators, good for a day: {}", path.display());
    Ok(())
}

fn policies_of(args: &ServeArgs, estate: &Path) -> Result<PathBuf, Failure> {
    let beside = estate.parent().map(|parent| parent.join("policies"));
    let candidates = match &args.policies {
        Some(given) => vec![given.clone()],
        None => {
            [Some(estate.join("policies")), beside, Some(PathBuf::from("policies"))].into_iter().flatten().collect()
        }
    };
    candidates.into_iter().find(|dir| dir.is_dir()).ok_or_else(|| {
        Failure::new(format!("no policies for `{}` were found", estate.display())).next("name them: --policies DIR")
    })
}

/// The `*.cedar` files of a directory.
///
/// # Errors
/// When they can't be read, or there are none.
pub fn policy_texts(dir: &Path) -> Result<PolicyTexts, Failure> {
    let wrong = |fault: std::io::Error| Failure::caused(format!("cannot read `{}`", dir.display()), &fault);
    let mut texts = PolicyTexts::default();
    for entry in std::fs::read_dir(dir).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.extension().is_some_and(|extension| extension == "cedar") {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            texts.files.insert(name, std::fs::read_to_string(&path).map_err(wrong)?);
        }
    }
    if texts.files.is_empty() {
        return Err(Failure::new(format!("there is no `*.cedar` file in `{}`", dir.display())));
    }
    Ok(texts)
}

/// The `*.toml` files of a directory of command schemas, by name.
///
/// # Errors
/// When they can't be read.
pub fn command_schemas(dir: &Path) -> Result<Vec<(String, String)>, Failure> {
    let wrong = |fault: std::io::Error| Failure::caused(format!("cannot read `{}`", dir.display()), &fault);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push((path.display().to_string(), std::fs::read_to_string(&path).map_err(wrong)?));
        }
    }
    files.sort();
    Ok(files)
}

/// Two sockets and a journal for each session are soon more than the usual soft limit.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(fault) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%fault, "the limit of open files stays as it is");
    }
}
