//! Where the bench takes place: one PostgreSQL, four ways to it, and one estate. Deliberately one for all measures, so
//! that their numbers can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use onus_testkit::gateway::{DATABASE, ESTATE, text_field};
use onus_testkit::proc::{self, Running};
use onus_testkit::{KitError, Options, Rig, RigOptions, run};

use super::bouncer::Bouncer;
use super::relay;
use crate::step::{self, Failure};

/// The database user of the ways that are not Onus.
pub const CLIENT: &str = "bench_client";

/// Its password; a throw-away server on loopback.
pub const PASSWORD: &str = "bench-secret";

/// The database of the resource.
pub const DB: &str = "app";

/// Policies in force: the default ones and so many synthetic guards.
pub const POLICIES: usize = 50;

/// Live grants besides those of who is measured.
pub const GRANTS: usize = 1000;

/// A way from the client to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nothing in the middle.
    Direct,
    /// The plain TCP proxy; TLS goes through it to the server.
    Relay,
    /// pgbouncer.
    Bouncer,
    /// The gateway.
    Onus,
}

impl Way {
    /// All of them, in the order in which they are taken.
    pub const ALL: [Self; 4] = [Self::Direct, Self::Relay, Self::Bouncer, Self::Onus];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "plain TCP proxy",
            Self::Bouncer => "pgbouncer",
            Self::Onus => "onus",
        }
    }

    /// Its name in the JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Bouncer => "pgbouncer",
            Self::Onus => "onus",
        }
    }
}

/// Everything that is running.
pub struct Field {
    /// The gateway and its server.
    pub rig: Rig,
    /// pgbouncer in front of the same server.
    pub bouncer: Bouncer,
    relay: Running,
    relay_port: u16,
    /// Whether fewer and shorter measurements do.
    pub quick: bool,
    fill: PathBuf,
    /// The program that is measured.
    pub onus: PathBuf,
}

impl Field {
    /// Sets everything up; the programs were built.
    pub fn start(onus: &Path, fill: &Path, quick: bool) -> Result<Self, Failure> {
        let note = |what: &str| eprintln!("── {what}");
        note("a PostgreSQL cluster and a gateway");
        let cluster = Options {
            max_connections: 1200,
            tls: true,
            config: vec!["shared_buffers = 512MB".to_owned(), "max_wal_size = 4GB".to_owned()],
            ..Options::default()
        };
        let database = format!(
            "{DATABASE}\nCREATE ROLE {CLIENT} LOGIN PASSWORD '{PASSWORD}' IN ROLE app_reader, app_writer;\n\
             CREATE UNLOGGED TABLE public.sink (id int, body text);\n\
             GRANT SELECT, INSERT, TRUNCATE ON public.sink TO app_writer;\n"
        );
        let options = RigOptions {
            cluster,
            estate: Some(ESTATE.to_owned()),
            policies: Some(policies()?),
            database: Some(database),
            ..RigOptions::default()
        };
        let mut rig = Rig::start(onus, options)?;
        for role in ["reader", "writer"] {
            let asked = rig.ok(
                "alice",
                &["request", "orders-db", "--role", role, "--purpose", "INC-1: a bench", "--for", "2h", "--json"],
            )?;
            let request = text_field(&asked, "request")
                .ok_or(KitError::Unexpected { what: "the answer of onus request", text: asked.clone() })?;
            rig.ok("bob", &["approve", &request])?;
        }
        note("pgbench's tables, scale 10");
        let mut init = rig.cluster.installation().command("pgbench");
        init.args(["-i", "-q", "-s", "10"]).envs(rig.cluster.env(DB));
        run::output("pgbench -i", &mut init)?;
        rig.cluster.psql(DB, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_reader, app_writer")?;
        note("a thousand live grants");
        filled(&mut rig, fill, GRANTS, GRANTS)?;
        note("pgbouncer and the plain proxy");
        let bouncer = Bouncer::start(&rig.cluster)?;
        let (relay, relay_port) = relay::start(rig.cluster.port())?;
        Ok(Self { rig, bouncer, relay, relay_port, quick, fill: fill.to_owned(), onus: onus.to_owned() })
    }

    /// A libpq program that goes this way.
    pub fn client(&self, way: Way, program: &str, role: &str) -> Command {
        if way == Way::Onus {
            return self.rig.client(program, "alice", Some(role));
        }
        let port = match way {
            Way::Relay => self.relay_port,
            Way::Bouncer => self.bouncer.port,
            Way::Direct | Way::Onus => self.rig.cluster.port(),
        };
        let mut command = self.rig.cluster.installation().command(program);
        command.stdin(std::process::Stdio::null()).envs([
            ("PGHOST", "127.0.0.1"),
            ("PGPORT", &port.to_string()),
            ("PGDATABASE", DB),
            ("PGUSER", CLIENT),
            ("PGPASSWORD", PASSWORD),
            ("PGSSLMODE", "require"),
        ]);
        command
    }

    /// The process in the middle.
    pub fn middle(&self, way: Way) -> Option<u32> {
        match way {
            Way::Direct => None,
            Way::Relay => Some(self.relay.pid()),
            Way::Bouncer => Some(self.bouncer.process.pid()),
            Way::Onus => Some(self.rig.serve.pid()),
        }
    }

    /// CPU time of the process in the middle until now.
    pub fn cpu(&self, way: Way) -> Duration {
        self.middle(way).and_then(proc::usage).map_or(Duration::ZERO, |usage| usage.cpu)
    }

    /// CPU time of the server until now: of all its processes, those that ended included.
    pub fn server_cpu(&self) -> Duration {
        let Some(postmaster) = self.rig.cluster.pid() else { return Duration::ZERO };
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap_or_default();
        let living = children.split_whitespace().filter_map(|pid| proc::usage(pid.parse().ok()?));
        living.map(|usage| usage.cpu).sum::<Duration>() + with_children(postmaster)
    }

    /// Stops the gateway, adds subjects and live grants to its ledger, and starts it again.
    pub fn fill(&mut self, subjects: usize, grants: usize) -> Result<Filled, Failure> {
        let fill = self.fill.clone();
        filled(&mut self.rig, &fill, subjects, grants)
    }
}

/// What filling the ledger came to.
pub struct Filled {
    /// From starting the gateway's process to its being ready.
    pub started: Duration,
    /// What the ledger holds.
    pub holds: String,
}

fn filled(rig: &mut Rig, fill: &Path, subjects: usize, grants: usize) -> Result<Filled, Failure> {
    rig.stop()?;
    let mut command = Command::new(fill);
    command.arg(rig.data()).args([subjects.to_string(), grants.to_string(), "bob".to_owned()]);
    let holds = run::output("fill_ledger", &mut command)?.trim().to_owned();
    let begun = std::time::Instant::now();
    rig.start_again()?;
    Ok(Filled { started: begun.elapsed(), holds })
}

/// CPU time of a process and of its children that were waited for.
fn with_children(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rfind(')').map_or("", |at| &stat[at + 1..]);
    // utime, stime, cutime and cstime are fields 14 to 17 of proc(5), and field 3 is the first after the name.
    let ticks: u64 = after.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// The repository's own policies.
pub fn default_policies() -> Result<BTreeMap<String, String>, Failure> {
    let mut files = BTreeMap::new();
    for name in ["roles.cedar", "guards.cedar"] {
        let path = step::root().join("policies").join(name);
        let text =
            fs::read_to_string(&path).map_err(|error| Failure::Step(format!("`{}`: {error}", path.display())))?;
        files.insert(name.to_owned(), text);
    }
    Ok(files)
}

/// The default policies and synthetic guards: a third that apply to everything, a third to reads, a third to writes. None
/// of them ever holds, and none can be left out without looking at its condition.
fn policies() -> Result<BTreeMap<String, String>, Failure> {
    let mut files = default_policies()?;
    let policies = files.values().flat_map(|text| text.lines()).filter(|line| line.starts_with("@id(")).count();
    let mut guards = String::from("// Synthetic guards of the bench.\n");
    for number in 0..POLICIES.saturating_sub(policies) {
        let (action, condition) = match number % 3 {
            0 => ("action", format!("context.schemas.contains(\"frozen_{number:02}\")")),
            1 => ("action in Action::\"read\"", format!("context.relations.contains(\"public.frozen_{number:02}\")")),
            _ => (
                "action in Action::\"write\"",
                format!("context.writes.contains(\"public.frozen_{number:02}\") && context.no_where"),
            ),
        };
        guards += &format!(
            "\n@id(\"bench-{number:02}\")\n@owner(\"petra\")\n@plane(\"elevation\")\n@why(\"a guard of the bench\")\n\
             forbid (principal, {action}, resource)\nwhen {{ {condition} }};\n"
        );
    }
    files.insert("bench.cedar".to_owned(), guards);
    Ok(files)
}

/// Where this workspace's programs are built.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| step::root().join("target"), |dir| step::root().join(dir))
}
