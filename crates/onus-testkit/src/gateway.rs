//! A whole Onus on loopback: a private cluster, an estate, a running gateway, and people who have enrolled.
//!
//! It drives the `onus` binary as its users would and knows nothing of what is inside. Tests, the demo and the benches
//! share it, so that there is one way to set Onus up.

use crate::proc::Running;
use crate::ssh_client::Client;
use crate::ssh_keys::{KeyPair, Kind};
use crate::sshd::{self, Sshd};
use crate::{Cluster, KitError, Options, port, run};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::Duration;

/// How long starting or stopping a gateway may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What everybody's password is. Throw-away accounts on loopback.
const PASSWORD: &str = "correct horse battery staple";

/// How a rig differs from the usual one.
pub struct RigOptions {
    /// The cluster.
    pub cluster: Options,
    /// The estate, with `@ADDRESS@` for the cluster's host:port. `None`: [`ESTATE`].
    pub estate: Option<String>,
    /// Policy files by name. `None`: the repository's default set.
    pub policies: Option<BTreeMap<String, String>>,
    /// Who enrols, besides the administrator.
    pub people: Vec<&'static str>,
    /// More arguments for `onus serve`.
    pub serve: Vec<String>,
    /// SQL that makes the databases; `None`: [`DATABASE`].
    pub database: Option<String>,
    /// A private SSH server behind `web-1`. In the estate and in the policies `@SSH@` is its address, `@SSH_KEY@` its
    /// host key, `@SSH_OTHER_KEY@` one that it does not have, `@SSH_HOST_CA@` the authority that certified it, `@SSH_USER@` its account and `@SSH_HOME@` the account's
    /// home folder. `None`: nobody listens there.
    pub ssh: Option<sshd::Options>,
}

impl Default for RigOptions {
    fn default() -> Self {
        Self {
            cluster: Options::default(),
            estate: None,
            policies: None,
            people: vec!["alice", "bob", "sam"],
            serve: Vec::new(),
            database: None,
            ssh: None,
        }
    }
}

/// The estate that tests use.
pub const ESTATE: &str = include_str!("../estate.yaml");

/// The database behind `orders-db`: tables, the roles that sessions join, and the gateway's own administrator, who is
/// no superuser.
pub const DATABASE: &str = include_str!("../orders.sql");

/// A running Onus. It ends when this is dropped, and also when the process ends in any other way (a static that is never
/// dropped, a signal, `kill -9`): a watcher notices that and stops the gateway.
pub struct Rig {
    // Order of fields: the watcher goes first, so that it never acts on what is dropped after it.
    _watcher: Watcher,
    /// The resource behind it.
    pub cluster: Cluster,
    /// The other one, if it was asked for.
    pub sshd: Option<Sshd>,
    /// The gateway's process.
    pub serve: Running,
    /// The port for PostgreSQL clients.
    pub pg_port: u16,
    /// The port for SSH clients.
    pub ssh_port: u16,
    /// The port for the command line.
    pub api_port: u16,
    onus: PathBuf,
    serve_arguments: Vec<String>,
    folder: tempfile::TempDir,
}

impl Rig {
    /// Sets everything up with the `onus` binary at this path.
    ///
    /// # Errors
    /// When anything of it fails; the message says what, with its output.
    pub fn start(onus: &Path, options: RigOptions) -> Result<Self, KitError> {
        let folder = tempfile::Builder::new().prefix("onus-rig-").tempdir().map_err(|source| KitError::File {
            action: "create",
            path: std::env::temp_dir(),
            source,
        })?;
        let cluster = Cluster::start(options.cluster)?;
        cluster.psql("postgres", "CREATE DATABASE app")?;
        cluster.psql("app", options.database.as_deref().unwrap_or(DATABASE))?;
        let (pg_port, ssh_port, api_port) = (port::free()?, port::free()?, port::free()?);
        let estate = folder.path().join("estate");
        let (places, sshd) = Places::of(&cluster, options.ssh, folder.path())?;
        write(&estate.join("estate.yaml"), &places.fill(options.estate.as_deref().unwrap_or(ESTATE)))?;
        match options.policies {
            Some(files) => {
                for (name, text) in files {
                    write(&estate.join("policies").join(name), &places.fill(&text))?;
                }
            }
            None => {
                let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
                for name in ["roles.cedar", "guards.cedar"] {
                    let text = fs::read_to_string(source.join(name)).map_err(|error| KitError::File {
                        action: "read",
                        path: source.join(name),
                        source: error,
                    })?;
                    write(&estate.join("policies").join(name), &text)?;
                }
            }
        }
        let data = folder.path().join("data");
        let mut init = Command::new(onus);
        init.arg("init").arg("--data").arg(&data).args(["--name", "localhost", "--name", "127.0.0.1"]);
        run::output("onus init", &mut init)?;
        let mut serve_arguments = vec![
            "serve".to_owned(),
            "--data".to_owned(),
            data.display().to_string(),
            "--listen-pg".to_owned(),
            format!("127.0.0.1:{pg_port}"),
            "--listen-ssh".to_owned(),
            format!("127.0.0.1:{ssh_port}"),
            "--listen-api".to_owned(),
            format!("127.0.0.1:{api_port}"),
            "--bootstrap".to_owned(),
            estate.display().to_string(),
        ];
        serve_arguments.extend(options.serve);
        let watcher = Watcher::over(folder.path())?;
        let serve = spawn(onus, &serve_arguments, folder.path())?;
        let rig = Self {
            _watcher: watcher,
            cluster,
            sshd,
            serve,
            pg_port,
            ssh_port,
            api_port,
            onus: onus.to_owned(),
            serve_arguments,
            folder,
        };
        write(&rig.path("password"), PASSWORD)?;
        let codes = fs::read_to_string(data.join("bootstrap-codes.txt")).map_err(|source| KitError::File {
            action: "read",
            path: data.join("bootstrap-codes.txt"),
            source,
        })?;
        let code = codes.lines().find_map(|line| line.strip_prefix("root-admin ")).ok_or_else(|| {
            KitError::Unexpected { what: "bootstrap-codes.txt", text: "no root-admin in it".to_owned() }
        })?;
        rig.enroll("root-admin", code.trim())?;
        write(&rig.path("upstream-password"), "gateway-secret-for-tests")?;
        let password = rig.path("upstream-password").display().to_string();
        rig.ok(
            "root-admin",
            &["secret", "set", "orders-db/admin", "--user", "onus_gateway", "--password-file", &password],
        )?;
        for name in options.people {
            rig.join(name)?;
        }
        if let Some(sshd) = &rig.sshd {
            let said = rig.ok("root-admin", &["resource", "bootstrap", "web-1", "--json"])?;
            let authority = text_field(&said, "session_ca")
                .ok_or(KitError::Unexpected { what: "the answer of onus resource bootstrap", text: said.clone() })?;
            sshd.trust_users(&[authority])?;
        }
        Ok(rig)
    }

    /// A path in the rig's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The gateway's data directory.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// The folder of the estate in force.
    pub fn estate(&self) -> PathBuf {
        self.path("estate")
    }

    /// A person's own folder, with their key and certificate.
    pub fn home(&self, who: &str) -> PathBuf {
        self.path("homes").join(who)
    }

    /// Invites and enrols somebody who is in the estate.
    ///
    /// # Errors
    /// When either is turned down.
    pub fn join(&self, who: &str) -> Result<(), KitError> {
        let invited = self.ok("root-admin", &["invite", who, "--json"])?;
        let code = text_field(&invited, "code")
            .ok_or(KitError::Unexpected { what: "the answer of onus invite", text: invited.clone() })?;
        self.enroll(who, &code)
    }

    fn enroll(&self, who: &str, code: &str) -> Result<(), KitError> {
        let file = self.path(&format!("code-{who}"));
        write(&file, code)?;
        let server = format!("https://localhost:{}", self.api_port);
        let fingerprint = fs::read_to_string(self.data().join("keys/ca.fingerprint")).map_err(|source| {
            KitError::File { action: "read", path: self.data().join("keys/ca.fingerprint"), source }
        })?;
        let (code, password) = (file.display().to_string(), self.path("password").display().to_string());
        let arguments = [
            "enroll",
            who,
            "--server",
            &server,
            "--ca-fingerprint",
            fingerprint.trim(),
            "--code-file",
            &code,
            "--password-file",
            &password,
        ];
        self.ok(who, &arguments).map(drop)
    }

    /// The `onus` command as somebody.
    pub fn command(&self, who: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.onus);
        command.env("ONUS_HOME", self.home(who)).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs `onus` as somebody; its output, whatever came of it.
    ///
    /// # Errors
    /// When it can't be run at all.
    pub fn onus(&self, who: &str, arguments: &[&str]) -> Result<Output, KitError> {
        self.command(who, arguments).output().map_err(|source| KitError::Spawn { program: "onus".to_owned(), source })
    }

    /// Runs `onus` as somebody and demands success; what it printed.
    ///
    /// # Errors
    /// When it is turned down, with its output.
    pub fn ok(&self, who: &str, arguments: &[&str]) -> Result<String, KitError> {
        let name = format!("onus {}", arguments.first().unwrap_or(&""));
        run::output(&name, &mut self.command(who, arguments))
    }

    /// Requests a role, has it approved, and gives the grant's number.
    ///
    /// # Errors
    /// When either is turned down.
    pub fn grant(&self, who: &str, role: &str, approver: &str) -> Result<String, KitError> {
        self.grant_with(who, approver, &["orders-db", "--role", role, "--for", "30m"])
    }

    /// The same with the arguments of `onus request`, but for the purpose.
    ///
    /// # Errors
    /// When either is turned down.
    pub fn grant_with(&self, who: &str, approver: &str, arguments: &[&str]) -> Result<String, KitError> {
        let mut request = vec!["request"];
        request.extend(arguments);
        request.extend(["--purpose", "INC-42: find the stuck order", "--json"]);
        let asked = self.ok(who, &request)?;
        let request = text_field(&asked, "request")
            .ok_or(KitError::Unexpected { what: "the answer of onus request", text: asked.clone() })?;
        let approved = self.ok(approver, &["approve", &request, "--json"])?;
        text_field(&approved, "grant")
            .ok_or(KitError::Unexpected { what: "the answer of onus approve", text: approved.clone() })
    }

    /// Environment variables with which any libpq program connects through the gateway as somebody.
    pub fn env(&self, who: &str, role: Option<&str>) -> Vec<(&'static str, String)> {
        let home = self.home(who);
        let file = |name: &str| home.join(name).display().to_string();
        vec![
            ("PGHOST", "localhost".to_owned()),
            ("PGHOSTADDR", "127.0.0.1".to_owned()),
            ("PGPORT", self.pg_port.to_string()),
            ("PGDATABASE", "orders-db".to_owned()),
            ("PGUSER", role.map_or_else(|| who.to_owned(), |role| format!("{who}:{role}"))),
            ("PGSSLMODE", "verify-full".to_owned()),
            ("PGSSLROOTCERT", file("ca.pem")),
            ("PGSSLCERT", file("client.pem")),
            ("PGSSLKEY", file("client.key")),
        ]
    }

    /// The SSH clients of somebody, set up as `onus ssh-config` does it: `ssh web-1` goes through the gateway.
    ///
    /// # Errors
    /// When `onus ssh-config` is turned down.
    pub fn ssh(&self, who: &str) -> Result<Client, KitError> {
        let text = self.ok(who, &["ssh-config"])?;
        let file = self.home(who).join("ssh_config-of-the-kit");
        write(&file, &text)?;
        let mut client = Client::new()?;
        client.option(&format!("Include {}", file.display()))?;
        Ok(client)
    }

    /// A libpq program that connects through the gateway as somebody.
    pub fn client(&self, program: &str, who: &str, role: Option<&str>) -> Command {
        let mut command = self.cluster.installation().command(program);
        crate::pg::forget_libpq(&mut command);
        command.envs(self.env(who, role)).stdin(Stdio::null());
        // A gateway that does not answer fails a test; it must not hang it.
        command.env("PGCONNECT_TIMEOUT", "30");
        command
    }

    /// Runs SQL by `psql` through the gateway as somebody; its output, whatever came of it. Verbose errors.
    ///
    /// # Errors
    /// When psql can't be run at all.
    pub fn psql(&self, who: &str, role: Option<&str>, sql: &[&str]) -> Result<Output, KitError> {
        let mut command = self.client("psql", who, role);
        command.args(["-X", "-A", "-t", "-q", "-v", "VERBOSITY=verbose"]);
        for sql in sql {
            command.args(["-c", sql]);
        }
        command.output().map_err(|source| KitError::Spawn { program: "psql".to_owned(), source })
    }

    /// Kills the gateway as a crash would.
    pub fn crash(&mut self) {
        self.serve.kill9();
        let _ = self.serve.wait(PATIENCE);
    }

    /// Stops the gateway in order.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self) -> Result<(), KitError> {
        self.serve.signal(crate::proc::Signal::Term);
        self.serve.wait(PATIENCE).map(drop)
    }

    /// Starts the gateway again on the same data.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_again(&mut self) -> Result<(), KitError> {
        self.serve = spawn(&self.onus, &self.serve_arguments, self.folder.path())?;
        Ok(())
    }
}

/// What stands for what in an estate and in policies.
struct Places(Vec<(&'static str, String)>);

impl Places {
    /// Starts the SSH server too, if there is to be one: where it is must be known before the estate is written.
    fn of(cluster: &Cluster, ssh: Option<sshd::Options>, folder: &Path) -> Result<(Self, Option<Sshd>), KitError> {
        let database = ("@ADDRESS@", format!("127.0.0.1:{}", cluster.port()));
        let Some(mut ssh) = ssh else {
            // An estate must be whole also where nobody will use that part of it.
            let key = format!("SHA256:{}", "A".repeat(43));
            let nowhere = ("@SSH@", "127.0.0.1:9".to_owned());
            return Ok((Self(vec![database, nowhere, ("@SSH_KEY@", key), ("@SSH_USER@", "nobody".to_owned())]), None));
        };
        let authority = match ssh.host_authority {
            Some(authority) => authority,
            None => KeyPair::make(folder, "host-authority", Kind::Ed25519)?,
        };
        let authority_line = authority.public.clone();
        ssh.host_authority = Some(authority);
        let sshd = Sshd::start(ssh)?;
        let key = sshd.host_keys().first().map(|key| key.public.clone()).unwrap_or_default();
        let places = vec![
            database,
            ("@SSH@", format!("127.0.0.1:{}", sshd.port())),
            ("@SSH_KEY@", key),
            ("@SSH_OTHER_KEY@", KeyPair::make(folder, "another-host", Kind::Ed25519)?.public),
            ("@SSH_HOST_CA@", authority_line),
            ("@SSH_USER@", sshd.user().to_owned()),
            ("@SSH_HOME@", sshd.home().display().to_string()),
        ];
        Ok((Self(places), Some(sshd)))
    }

    fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (place, what)| text.replace(place, what))
    }
}

/// A process that waits until we are gone, then ends the gateway if it still runs and removes the folder.
struct Watcher {
    child: Child,
    /// Held open for as long as this process lives; its end is what the watcher waits for.
    _lifeline: Option<ChildStdin>,
}

impl Watcher {
    fn over(folder: &Path) -> Result<Self, KitError> {
        use std::os::unix::process::CommandExt;
        // Whoever has the number by then must also have our folder in its arguments, so that no stranger is signalled.
        let script = r#"cat >/dev/null
pid=$(cat "$1/serve.pid" 2>/dev/null) && grep -q "$1" "/proc/$pid/cmdline" 2>/dev/null && kill -KILL "$pid"
rm -rf "$1""#;
        let mut child = Command::new("/bin/sh")
            .args(["-c", script, "onus-testkit-watch"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|source| KitError::Spawn { program: "sh, to watch over the gateway".to_owned(), source })?;
        let lifeline = child.stdin.take();
        Ok(Self { child, _lifeline: lifeline })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn spawn(onus: &Path, arguments: &[String], folder: &Path) -> Result<Running, KitError> {
    let serve = Running::spawn("onus serve", Command::new(onus).args(arguments).env("ONUS_LOG", "onus=info"))?;
    write(&folder.join("serve.pid"), &serve.pid().to_string())?;
    serve.wait_for("ready: postgresql", PATIENCE)?;
    Ok(serve)
}

fn write(path: &Path, text: &str) -> Result<(), KitError> {
    let failed = |source| KitError::File { action: "write", path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)
}

/// The first text under a key of JSON, as our own commands print it; what has no text under that key is passed over.
pub fn text_field(json: &str, key: &str) -> Option<String> {
    let quoted = format!("\"{key}\"");
    json.split(&quoted).skip(1).find_map(|after| {
        let after = after.trim_start().strip_prefix(':')?.trim_start();
        Some(after.strip_prefix('"')?.split_once('"')?.0.to_owned())
    })
}
