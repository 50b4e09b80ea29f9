//! Where the demo plays: a private PostgreSQL, a private sshd, a gateway, people with folders of their own, and programs run in their
//! name, each shown with what it printed. Deliberately knows nothing of the story.
//!
//! However the demo ends (the last chapter, a failure, Ctrl-C, `kill -9`), a watcher sees to it that nothing goes on
//! running and that the folder with the keys is removed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use onus_testkit::proc::{Running, Signal};
use onus_testkit::pty::{Pty, Size};
use onus_testkit::ssh_tools::Program;
use onus_testkit::sshd::{self, Sshd};
use onus_testkit::{Cluster, KitError, Options, port, run, tree, wait};
use tempfile::TempDir;

use super::ssh::{self, LOGS};
use super::voice::Voice;
use crate::step::{Failure, root};

/// How long anything may take before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the example says that its database is; the demo's is elsewhere.
const EXAMPLE_ADDRESS: &str = "127.0.0.1:5432";

/// What the example says of its server: address, key and account.
const EXAMPLE_SERVER: [&str; 3] =
    ["127.0.0.1:22\n", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "login: deploy"];

/// The stage. Fields in the order in which they are taken down.
pub struct Stage {
    /// Who tells what happens.
    pub voice: Voice,
    serve: Option<Running>,
    cluster: Option<Cluster>,
    sshd: Option<Sshd>,
    watcher: Watcher,
    folder: TempDir,
    onus: PathBuf,
    /// Given by `onus init`, and needed to enrol.
    fingerprint: String,
    ports: [u16; 3],
    /// libpq's variables by person, as `onus env` gave them.
    libpq: BTreeMap<String, Vec<(String, String)>>,
}

/// What a program came to.
#[derive(Debug)]
pub struct Said {
    what: String,
    text: String,
    status: ExitStatus,
}

/// A program that is still running.
pub struct Acting {
    what: String,
    running: Running,
    shown: usize,
}

impl Stage {
    /// An empty stage for this `onus` binary.
    pub fn new(onus: PathBuf, voice: Voice) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("onus-demo-").tempdir_in("/tmp");
        let folder = folder.map_err(|fault| Failure::Step(format!("could not make a folder in /tmp: {fault}")))?;
        let watcher = Watcher::start(folder.path())?;
        Ok(Self {
            voice,
            serve: None,
            cluster: None,
            sshd: None,
            watcher,
            folder,
            onus,
            fingerprint: String::new(),
            ports: [0; 3],
            libpq: BTreeMap::new(),
        })
    }

    /// Starts what the story needs, telling each step.
    pub fn set_up(&mut self, people: &[&str]) -> Result<(), Failure> {
        self.step("a private PostgreSQL, with the example's database", Self::start_postgres)?;
        self.step("a private sshd, with a log", Self::start_sshd)?;
        self.step("onus init --data gateway", Self::init)?;
        self.step("onus serve --data gateway --bootstrap acme", Self::serve)?;
        let codes = read(&self.path("gateway/bootstrap-codes.txt"))?;
        let code = codes.lines().find_map(|line| line.strip_prefix("root-admin "));
        let code = code.ok_or_else(|| Failure::Step("bootstrap-codes.txt has no code for root-admin".to_owned()))?;
        let code = code.trim().to_owned();
        self.step("onus enroll root-admin --server … --ca-fingerprint …", |stage| {
            stage.enroll("root-admin", &code)
        })?;
        self.step("onus secret set orders-db/admin --user onus_gateway", |stage| {
            let password = stage.path("database-password").display().to_string();
            let words =
                ["secret", "set", "orders-db/admin", "--user", "onus_gateway", "--password-file", password.as_str()];
            stage.quietly("root-admin", &words).map(drop)
        })?;
        let names = people.join(", ");
        self.step(&format!("onus invite and onus enroll: {names}"), |stage| {
            for who in people {
                let invited = stage.quietly("root-admin", &["invite", who, "--json"])?;
                let invited: serde_json::Value = serde_json::from_str(&invited).map_err(|fault| {
                    Failure::Step(format!("the answer of `onus invite --json` is not JSON: {fault}"))
                })?;
                let code = invited["code"].as_str();
                let code = code.ok_or_else(|| Failure::Step("`onus invite --json` gave no code".to_owned()))?;
                stage.enroll(who, code)?;
            }
            Ok(())
        })
    }

    fn step<T>(&mut self, text: &str, act: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        self.voice.doing(text);
        let start = Instant::now();
        let result = act(self);
        match &result {
            Ok(_) => self.voice.done(start.elapsed()),
            Err(_) => self.voice.not_done(),
        }
        result
    }

    fn start_postgres(&mut self) -> Result<(), Failure> {
        let cluster = self.cluster.insert(Cluster::start(Options { fsync: false, ..Options::default() })?);
        let password = secret()?;
        let schema = read(&root().join("examples/acme/orders.sql"))?;
        cluster.psql("postgres", "CREATE DATABASE orders")?;
        // On psql's standard input: arguments can be read by everybody on the machine.
        cluster.psql("orders", &format!("\\set gateway_password '{password}'\n{schema}"))?;
        // From here on, so that what reached it can be shown, and the password just set is not in its log.
        cluster.psql("postgres", "ALTER DATABASE orders SET log_statement = 'all'")?;
        write_private(&self.folder.path().join("database-password"), &password)
    }

    fn start_sshd(&mut self) -> Result<(), Failure> {
        self.sshd = Some(Sshd::start(sshd::Options::default())?);
        let logs = self.logs()?;
        make_folder(&logs)?;
        write_private(&logs.join("shop.log"), ssh::LOG)
    }

    fn init(&mut self) -> Result<(), Failure> {
        let said = self.quietly("operator", &["init", "--data", "gateway", "--name", "localhost"])?;
        let after = |label: &str| said.lines().find_map(|line| Some(line.strip_prefix(label)?.trim().to_owned()));
        self.fingerprint = after("ca fingerprint ")
            .ok_or_else(|| Failure::Step(format!("`onus init` printed no `ca fingerprint`, but:\n{said}")))?;
        let key = after("ledger key ")
            .ok_or_else(|| Failure::Step(format!("`onus init` printed no `ledger key`, but:\n{said}")))?;
        // What an auditor notes on day one.
        write_private(&self.path("ledger.vkey"), &format!("{key}\n"))
    }

    fn serve(&mut self) -> Result<(), Failure> {
        let address = format!("127.0.0.1:{}", self.cluster()?.port());
        let estate = read(&root().join("examples/acme/estate.yaml"))?;
        if !estate.contains(EXAMPLE_ADDRESS) {
            return Err(Failure::Step(format!("examples/acme/estate.yaml does not say `{EXAMPLE_ADDRESS}`")));
        }
        let estate = self.with_our_server(&estate.replace(EXAMPLE_ADDRESS, &address))?;
        make_folder(&self.path("acme/policies"))?;
        write_private(&self.path("acme/estate.yaml"), &format!("{estate}{}", ssh::ROLE))?;
        let logs = self.logs()?.display().to_string();
        for name in ["roles.cedar", "guards.cedar"] {
            let policies = read(&root().join("policies").join(name))?;
            let [theirs, ours] =
                [r#"contains("/var/log")"#.to_owned(), format!("containsAny([\"{LOGS}\", \"{logs}\"])")];
            let policies = policies.replace(&theirs, &ours).replace("/var/log", LOGS);
            write_private(&self.path("acme/policies").join(name), &policies)?;
        }
        write_private(&self.path("acme/policies/acme.cedar"), &ssh::POLICIES.replace("@LOGS@", &logs))?;
        self.ports = [port::free()?, port::free()?, port::free()?];
        let mut serve = Command::new(&self.onus);
        serve.args(["serve", "--data", "gateway", "--bootstrap", "acme"]);
        serve.args(["--listen-pg", &format!("127.0.0.1:{}", self.ports[0])]);
        serve.args(["--listen-api", &format!("127.0.0.1:{}", self.ports[1])]);
        serve.args(["--listen-ssh", &format!("127.0.0.1:{}", self.ports[2])]);
        serve.current_dir(self.folder.path()).env("ONUS_LOG", "info");
        let running = self.serve.insert(Running::spawn("onus serve", &mut serve)?);
        self.watcher.watch(running.pid());
        running.wait_for("ready*postgresql", PATIENCE)?;
        Ok(())
    }

    /// The example's estate, with the demo's sshd as its server.
    fn with_our_server(&self, estate: &str) -> Result<String, Failure> {
        let sshd = self.sshd()?;
        let key = sshd.host_keys().first().ok_or_else(|| Failure::Step("the sshd has no host key".to_owned()))?;
        let ours =
            [format!("127.0.0.1:{}\n", sshd.port()), key.public.trim().to_owned(), format!("login: {}", sshd.user())];
        let mut estate = estate.to_owned();
        for (theirs, ours) in EXAMPLE_SERVER.iter().zip(ours) {
            if !estate.contains(theirs) {
                return Err(Failure::Step(format!("examples/acme/estate.yaml does not say `{}`", theirs.trim())));
            }
            estate = estate.replace(theirs, &ours);
        }
        Ok(estate)
    }

    fn enroll(&mut self, who: &str, code: &str) -> Result<(), Failure> {
        make_folder(&self.home(who))?;
        let (code_file, password_file) = (self.path("code"), self.path("password"));
        write_private(&code_file, code)?;
        write_private(&password_file, &secret()?)?;
        let server = format!("https://localhost:{}", self.ports[1]);
        let fingerprint = self.fingerprint.clone();
        let words = ["enroll", who, "--server", &server, "--ca-fingerprint", &fingerprint];
        let words = words.into_iter().chain(["--code-file", "code", "--password-file", "password"]);
        let enrolled = self.quietly(who, &words.collect::<Vec<_>>());
        for file in [code_file, password_file] {
            fs::remove_file(&file).map_err(|fault| cannot("remove", &file, &fault))?;
        }
        enrolled.map(drop)
    }

    /// A path in the demo's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Somebody's `ONUS_HOME`.
    pub fn home(&self, who: &str) -> PathBuf {
        self.path("homes").join(who)
    }

    /// The database behind the gateway.
    pub fn cluster(&self) -> Result<&Cluster, Failure> {
        self.cluster.as_ref().ok_or_else(|| Failure::Step("the database is not running".to_owned()))
    }

    /// Where the `onus` binary is.
    pub fn onus_folder(&self) -> &Path {
        self.onus.parent().unwrap_or(Path::new("."))
    }

    /// Runs `onus` as somebody and shows it.
    pub fn onus(&mut self, who: &str, words: &[&str]) -> Result<Said, Failure> {
        let command = self.onus_command(who, words);
        self.act(who, &typed("onus", words), command)
    }

    /// Runs PostgreSQL's own `psql` as somebody, through the gateway, and shows it.
    pub fn psql(&mut self, who: &str, words: &[&str]) -> Result<Said, Failure> {
        let command = self.psql_command(who, words)?;
        self.act(who, &typed("psql", words), command)
    }

    /// Starts `psql` as somebody and goes on while it runs.
    pub fn psql_in_background(&mut self, who: &str, words: &[&str]) -> Result<Acting, Failure> {
        let command = self.psql_command(who, words)?;
        let what = typed("psql", words);
        self.voice.typed(who, &format!("{what} &"));
        Acting::start(format!("{who}$ {what}"), command)
    }

    /// Asks the database itself, past the gateway, as its superuser; shows the question and gives the answer.
    pub fn past_the_gateway(&mut self, sql: &str) -> Result<Said, Failure> {
        let mut psql = self.cluster()?.installation().command("psql");
        psql.envs(self.cluster()?.env("orders")).args(["-c", sql]);
        self.act("postgres", &typed("psql", &["-c", sql]), psql)
    }

    /// Points somebody's psql at the gateway with what `onus env` prints, as `eval` would in their shell.
    pub fn point_psql(&mut self, who: &str, resource: &str, role: &str, show: bool) -> Result<Said, Failure> {
        let words = ["env", resource, "--role", role];
        let command = self.onus_command(who, &words);
        let what = if show { typed("onus", &words) } else { format!("eval \"$({})\"", typed("onus", &words)) };
        self.voice.typed(who, &what);
        let said = Acting::start(format!("{who}$ {what}"), command)?.finish()?.done()?;
        if show {
            self.voice.printed(&said.text);
        }
        let mut variables = Vec::new();
        for line in said.text.lines() {
            let (name, value) = line
                .strip_prefix("export ")
                .and_then(|line| line.split_once('='))
                .ok_or_else(|| said.unexpected("lines such as `export PGHOST='…'`"))?;
            variables.push((name.to_owned(), value.trim_matches('\'').to_owned()));
        }
        self.libpq.insert(who.to_owned(), variables);
        Ok(said)
    }

    fn sshd(&self) -> Result<&Sshd, Failure> {
        self.sshd.as_ref().ok_or_else(|| Failure::Step("the sshd is not running".to_owned()))
    }

    /// Where the server's logs are.
    pub fn logs(&self) -> Result<PathBuf, Failure> {
        Ok(self.sshd()?.home().join("logs"))
    }

    /// A log's whole path.
    pub fn log_file(&self, name: &str) -> Result<String, Failure> {
        Ok(self.logs()?.join(name).display().to_string())
    }

    /// Whether the server has such a log.
    pub fn log_exists(&self, name: &str) -> bool {
        self.logs().is_ok_and(|logs| logs.join(name).exists())
    }

    /// What `onus ssh-config --write` wrote for somebody.
    pub fn ssh_config(&self, who: &str) -> PathBuf {
        self.home(who).join("ssh_config")
    }

    /// Does on the server what `onus resource bootstrap` says: it trusts the authority for sessions.
    pub fn trust_sessions(&mut self) -> Result<(), Failure> {
        let said = self.quietly("root-admin", &["resource", "bootstrap", "web-1", "--json"])?;
        let said: serde_json::Value = serde_json::from_str(&said)
            .map_err(|fault| Failure::Step(format!("the answer of `onus resource bootstrap` is not JSON: {fault}")))?;
        let authority = said["session_ca"].as_str();
        let authority =
            authority.ok_or_else(|| Failure::Step("`onus resource bootstrap` gave no authority".to_owned()))?;
        Ok(self.sshd()?.trust_users(&[authority.to_owned()])?)
    }

    /// Runs `onus` as somebody, and shows the first lines of what it printed.
    pub fn onus_beginning(&mut self, who: &str, words: &[&str], lines: usize) -> Result<Said, Failure> {
        let command = self.onus_command(who, words);
        self.act_beginning(who, &typed("onus", words), command, lines)
    }

    /// Whose keys somebody's ssh believes.
    pub fn known_host(&mut self, who: &str) -> Result<Said, Failure> {
        self.in_home(who, "cat", &["known_hosts"])
    }

    /// The certificate by which somebody's ssh proves who they are.
    pub fn certificate(&mut self, who: &str) -> Result<Said, Failure> {
        self.in_home(who, "ssh-keygen", &["-L", "-f", "client-cert.pub"])
    }

    /// Runs a program in somebody's `ONUS_HOME`.
    fn in_home(&mut self, who: &str, program: &str, words: &[&str]) -> Result<Said, Failure> {
        let mut command = Command::new(program);
        command.args(words).current_dir(self.home(who));
        self.act(who, &typed(program, words), command)
    }

    /// The first lines of a file of the demo's.
    pub fn beginning_of(&mut self, name: &str, lines: usize) -> Result<Said, Failure> {
        let (count, mut command) = (lines.to_string(), Command::new("head"));
        let words = ["-n", count.as_str(), name];
        command.args(words).current_dir(self.folder.path());
        self.act("bob", &typed("head", &words), command)
    }

    /// Runs a command on `web-1` through the gateway, by OpenSSH's own `ssh`, and shows it.
    pub fn ssh(&mut self, who: &str, line: &str) -> Result<Said, Failure> {
        let command = self.ssh_command(who, Program::Ssh, &["web-1", line])?;
        self.act(who, &typed("ssh", &["web-1", line]), command)
    }

    /// The same, with the first line only of what it printed.
    pub fn ssh_first_line(&mut self, who: &str, line: &str) -> Result<Said, Failure> {
        let command = self.ssh_command(who, Program::Ssh, &["web-1", line])?;
        self.act_beginning(who, &typed("ssh", &["web-1", line]), command, 1)
    }

    /// Starts a command on a host and goes on while it runs.
    pub fn ssh_in_background(&mut self, who: &str, host: &str, line: &str) -> Result<Acting, Failure> {
        let command = self.ssh_command(who, Program::Ssh, &[host, line])?;
        let what = typed("ssh", &[host, line]);
        self.voice.typed(who, &format!("{what} &"));
        Acting::start(format!("{who}$ {what}"), command)
    }

    /// Runs `ssh` without a command, on a terminal of its own; shows nothing.
    pub fn ssh_on_a_terminal(&self, who: &str, host: &str) -> Result<Pty, Failure> {
        let mut command = self.ssh_command(who, Program::Ssh, &[host])?;
        command.env("TERM", "xterm");
        Ok(Pty::spawn("ssh", &mut command, Size { columns: 160, rows: 40 })?)
    }

    /// Runs lines in OpenSSH's own `sftp`, through the gateway, and shows it.
    pub fn sftp(&mut self, who: &str, lines: &[&str]) -> Result<Said, Failure> {
        let batch = self.path("batch");
        write_private(&batch, &format!("{}\n", lines.join("\n")))?;
        let command = self.ssh_command(who, Program::Sftp, &["-b", "batch", "web-1"])?;
        let what = format!("sftp -b - web-1 <<< {}", shell_word(&lines.join("; ")));
        self.act(who, &what, command)
    }

    /// Runs a program on the server itself, past the gateway, and shows it.
    pub fn on_the_server(&mut self, words: &[&str]) -> Result<Said, Failure> {
        let (program, words) =
            words.split_first().ok_or_else(|| Failure::Step("there is nothing to run".to_owned()))?;
        let mut command = Command::new(program);
        command.args(words);
        self.act("web-1", &typed(program, words), command)
    }

    /// How often the server was asked to start something.
    pub fn started_on_the_server(&self) -> Result<usize, Failure> {
        Ok(self.sshd()?.log().matches("Starting session: ").count())
    }

    /// The process below the sshd that was started with these words.
    pub fn process_on_the_server(&self, words: &[&str]) -> Result<String, Failure> {
        let pid = self.sshd()?.pid().ok_or_else(|| Failure::Step("the sshd is not running".to_owned()))?;
        let beginning: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
        let found = wait::until(PATIENCE, "the command's process on the server", || {
            let mut below = tree::descendants(pid).into_iter();
            below.find(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(&beginning)))
        })?;
        Ok(found.to_string())
    }

    /// The one session of somebody's that is live.
    pub fn live_session(&mut self, who: &str) -> Result<String, Failure> {
        self.onus("sam", &["session", "list"])?.done()?.with(who)?.word("S-")
    }

    /// Somebody's newest session, once it has ended; not shown.
    pub fn last_session(&self, who: &str) -> Result<String, Failure> {
        let what = format!("the end of {who}'s session");
        Ok(wait::until(PATIENCE, &what, || match self.newest_session(who) {
            Ok((session, true)) => Some(session),
            _ => None,
        })?)
    }

    /// Somebody's newest session, and whether it has ended.
    fn newest_session(&self, who: &str) -> Result<(String, bool), Failure> {
        let said = self.quietly("sam", &["session", "list", "--all", "--json"])?;
        let said: serde_json::Value = serde_json::from_str(&said)
            .map_err(|fault| Failure::Step(format!("the answer of `onus session list` is not JSON: {fault}")))?;
        let sessions = said["sessions"].as_array().or_else(|| said.as_array()).cloned().unwrap_or_default();
        let newest =
            sessions.into_iter().filter(|session| session["subject"] == who).max_by_key(|s| s["opened"].as_u64());
        let newest = newest.ok_or_else(|| Failure::Step(format!("there is no session of {who}'s")))?;
        let id = newest["session"].as_str().unwrap_or_default().to_owned();
        Ok((id, !newest["closed"].is_null()))
    }

    fn ssh_command(&self, who: &str, program: Program, words: &[&str]) -> Result<Command, Failure> {
        let mut command = Command::new(program.find()?);
        command
            .arg("-F")
            .arg(self.ssh_config(who))
            .args(["-o", "BatchMode=yes", "-o", "IdentityAgent=none"])
            .args(words);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        Ok(command)
    }

    fn act_beginning(&mut self, who: &str, what: &str, command: Command, lines: usize) -> Result<Said, Failure> {
        self.voice.typed(who, what);
        let said = Acting::start(format!("{who}$ {what}"), command)?.finish()?;
        let shown: Vec<_> = said.text.lines().take(lines).collect();
        let more = if said.text.lines().count() > lines && lines > 1 { "\n…" } else { "" };
        self.voice.printed(&format!("{}{more}", shown.join("\n")));
        Ok(said)
    }

    fn act(&mut self, who: &str, what: &str, command: Command) -> Result<Said, Failure> {
        self.voice.typed(who, what);
        let said = Acting::start(format!("{who}$ {what}"), command)?.finish()?;
        self.voice.printed(&said.text);
        Ok(said)
    }

    /// Part of the set-up: not shown, and must succeed.
    fn quietly(&self, who: &str, words: &[&str]) -> Result<String, Failure> {
        let mut command = self.onus_command(who, words);
        Ok(run::output(&format!("onus {}", words.first().unwrap_or(&"")), &mut command)?)
    }

    fn onus_command(&self, who: &str, words: &[&str]) -> Command {
        let mut command = Command::new(&self.onus);
        command.args(words).env("ONUS_HOME", self.home(who)).current_dir(self.folder.path());
        command
    }

    fn psql_command(&self, who: &str, words: &[&str]) -> Result<Command, Failure> {
        let variables = self.libpq.get(who);
        let variables = variables.ok_or_else(|| Failure::Step(format!("{who}'s psql was not pointed anywhere")))?;
        let mut psql = self.cluster()?.installation().command("psql");
        psql.args(words).envs(variables.iter().map(|(name, value)| (name, value))).current_dir(self.folder.path());
        Ok(psql)
    }

    /// Writes what gateway and database logged to where it outlives the demo; gives the folder.
    pub fn keep_logs(&self) -> Option<PathBuf> {
        let folder = self.onus_folder().parent()?.join("demo");
        fs::create_dir_all(&folder).ok()?;
        let serve = self.serve.as_ref().map(Running::output).unwrap_or_default();
        let cluster = self.cluster.as_ref().map(Cluster::log).unwrap_or_default();
        write_private(&folder.join("onus-serve.log"), &serve).ok()?;
        write_private(&folder.join("postgresql.log"), &cluster).ok()?;
        let sshd = self.sshd.as_ref().map(Sshd::log).unwrap_or_default();
        write_private(&folder.join("sshd.log"), &sshd).ok()?;
        Some(folder)
    }

    /// Stays until the gateway ends or somebody ends the demo.
    pub fn stay(&mut self) -> Result<(), Failure> {
        while let Some(serve) = &mut self.serve {
            if let Some(status) = serve.ended() {
                return Err(Failure::Step(format!("`onus serve` ended by itself ({status})")));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Ends everything in order and removes the folder.
    pub fn take_down(mut self) -> Result<(), Failure> {
        if let Some(mut serve) = self.serve.take() {
            serve.signal(Signal::Term);
            serve.wait(PATIENCE)?;
        }
        if let Some(mut cluster) = self.cluster.take() {
            cluster.stop()?;
        }
        drop(self.sshd.take());
        let folder = self.folder.path().to_owned();
        self.folder.close().map_err(|fault| cannot("remove", &folder, &fault))
    }
}

impl Acting {
    fn start(what: String, command: Command) -> Result<Self, Failure> {
        // Both streams into one pipe, so that their lines come in the order in which they were written.
        let mut merged = Command::new("/bin/sh");
        merged.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => merged.env(name, value),
                None => merged.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            merged.current_dir(folder);
        }
        let running = Running::spawn(&what, &mut merged)?;
        Ok(Self { what, running, shown: 0 })
    }

    /// Waits for a line like this.
    pub fn says(&mut self, pattern: &str) -> Result<String, Failure> {
        Ok(self.running.wait_for(pattern, PATIENCE)?)
    }

    /// What it has printed since this was asked last.
    pub fn news(&mut self) -> String {
        let text = self.running.output();
        let news = text[self.shown..].to_owned();
        self.shown = text.len();
        news
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Result<Said, Failure> {
        // No program prints this: what is waited for is the end of its output, so that the last lines are there.
        match self.running.wait_for("\u{0}", PATIENCE) {
            Err(KitError::Ended { .. }) | Ok(_) => {}
            Err(fault) => return Err(fault.into()),
        }
        let status = self.running.wait(PATIENCE)?;
        Ok(Said { what: self.what, text: self.running.output()[self.shown..].to_owned(), status })
    }
}

impl Said {
    /// What it printed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// It must have ended well.
    pub fn done(self) -> Result<Self, Failure> {
        if self.status.success() { Ok(self) } else { Err(self.unexpected("it to succeed")) }
    }

    /// It must have said no, by itself: neither success nor a crash will do.
    pub fn refused(self) -> Result<Self, Failure> {
        let said_no = !self.status.success() && self.status.signal().is_none() && !self.text.contains("panicked at");
        if said_no { Ok(self) } else { Err(self.unexpected("it to be refused")) }
    }

    /// It must have printed this, whatever the line breaks.
    pub fn with(self, part: &str) -> Result<Self, Failure> {
        if self.has(part) { Ok(self) } else { Err(self.unexpected(&format!("`{part}`"))) }
    }

    /// It must not have printed this.
    pub fn without(self, part: &str) -> Result<Self, Failure> {
        if self.has(part) { Err(self.unexpected(&format!("nothing like `{part}`"))) } else { Ok(self) }
    }

    /// Its exit status; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// How often it printed this.
    pub fn count(&self, part: &str) -> usize {
        self.text.matches(part).count()
    }

    /// The first word that begins so: an id.
    pub fn word(&self, beginning: &str) -> Result<String, Failure> {
        let mut words = self.text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_')));
        let found = words.find(|word| word.starts_with(beginning) && word.len() > beginning.len());
        found.map(str::to_owned).ok_or_else(|| self.unexpected(&format!("a word that begins with `{beginning}`")))
    }

    /// The failure that something else was expected of it.
    pub fn unexpected(&self, expected: &str) -> Failure {
        let text = if self.text.trim().is_empty() { "nothing" } else { self.text.trim_end() };
        Failure::Step(format!(
            "{}\nexpected: {expected}\nit ended with {}, and printed:\n{text}",
            self.what, self.status
        ))
    }

    fn has(&self, part: &str) -> bool {
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        plain(&self.text).contains(&plain(part))
    }
}

/// A process that outlives us by a moment: it waits for our end, stops the gateway if it still runs, removes the
/// folder if it is still there, and says so. In a group of its own, since what ends us may end our group. (Cluster and sshd have one of their own kind.)
struct Watcher {
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl Watcher {
    fn start(folder: &Path) -> Result<Self, Failure> {
        // A pid may be somebody else's by now; who works in our folder is ours.
        let script = r#"trap '' INT TERM HUP
pid=
while read -r word; do pid=$word; done
ours() { [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$1" ]; }
there= ; [ -d "$1" ] && there=yes
ours "$1" && kill -TERM "$pid"
n=0; while [ $n -lt 40 ] && ours "$1"; do sleep 0.1; n=$((n + 1)); done
ours "$1" && kill -KILL "$pid"
rm -rf "$1"
[ -z "$there" ] || printf '\n    stopped; %s is removed\n' "$1""#;
        let folder = fs::canonicalize(folder).map_err(|fault| cannot("look at", folder, &fault))?;
        let mut child = Command::new("/bin/sh")
            .args(["-c", script, "onus-demo-watch"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|fault| Failure::Step(format!("`sh` could not be started: {fault}")))?;
        let lifeline = child.stdin.take();
        Ok(Self { child, lifeline })
    }

    /// Which process to stop.
    fn watch(&mut self, pid: u32) {
        if let Some(lifeline) = &mut self.lifeline {
            // If it is gone there is nobody to tell; the ordinary end still tidies up.
            let _ = writeln!(lifeline, "{pid}");
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        self.child.wait().ok();
    }
}

/// A command line as it could be typed.
fn typed(program: &str, words: &[&str]) -> String {
    let line: Vec<_> = std::iter::once(program.to_owned()).chain(words.iter().map(|word| shell_word(word))).collect();
    let line = line.join(" ");
    // psql's statements under each other, as one would write many of them.
    if line.len() > 110 { line.replace(" -c ", " \\\n  -c ") } else { line }
}

fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+…".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else if !word.contains(['"', '$', '`', '\\', '!']) {
        format!("\"{word}\"")
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn cannot(what: &str, path: &Path, fault: &std::io::Error) -> Failure {
    Failure::Step(format!("could not {what} `{}`: {fault}", path.display()))
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|fault| cannot("read", path, &fault))
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    let made = fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)));
    made.map_err(|fault| cannot("make", path, &fault))
}

fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|fault| cannot("write", path, &fault))
}

/// 192 random bits in hexadecimal.
fn secret() -> Result<String, Failure> {
    use std::io::Read;
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 24];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|fault| cannot("read", path, &fault))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_could_be_typed() {
        let sql = "UPDATE orders SET status = 'paid'";
        assert_eq!(typed("psql", &["-c", sql]), "psql -c \"UPDATE orders SET status = 'paid'\"");
        assert_eq!(shell_word("DO $$ BEGIN END $$"), "'DO $$ BEGIN END $$'");
        assert_eq!(shell_word(""), "\"\"");
        assert_eq!(shell_word("it's $1"), "'it'\\''s $1'");
    }

    #[test]
    fn a_refusal_is_neither_success_nor_a_crash() {
        let said = |code: i32, text: &str| Said {
            what: "onus".to_owned(),
            text: text.to_owned(),
            status: ExitStatus::from_raw(code),
        };
        assert!(said(1 << 8, "onus: no").refused().is_ok());
        assert!(said(0, "done").refused().is_err());
        assert!(said(9, "").refused().is_err(), "killed by a signal");
        assert!(said(101 << 8, "thread 'main' panicked at src").refused().is_err());
    }

    #[test]
    fn an_id_is_found_in_what_was_printed() {
        let status = ExitStatus::from_raw(0);
        let said = Said { what: String::new(), text: "ask R- or:\nonus approve R-0a1b, please".to_owned(), status };
        assert_eq!(said.word("R-").expect("it is there"), "R-0a1b");
        assert!(said.word("H-").is_err());
    }
}
