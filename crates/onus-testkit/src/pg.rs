//! A private PostgreSQL cluster: in its own folder, on its own port, ended with the test. Deliberately knows nothing of
//! what is tested against it, and never touches a cluster of the machine's.
//!
//! The server refuses to run as root, so a test that runs as root gives the folder to an unprivileged user and starts
//! the server as that one.

use std::fmt;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::proc::{self, Signal};
use crate::tls::{self, Certificates};
use crate::{KitError, port, run, wait};

/// The superuser's name in every cluster of the kit.
pub const SUPERUSER: &str = "postgres";

/// How long a server may take to start or to end on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a cluster is set up. `Options::default()` is what production looks like: durable, UTF-8, TCP with SCRAM.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether commits are flushed to disk. `false` is faster and safe against everything but a power cut.
    pub fsync: bool,
    /// Connections that the server takes at most.
    pub max_connections: u16,
    /// Whether the server offers TLS, with a certificate for `localhost` and `127.0.0.1` from an authority of its own
    /// ([`Cluster::certificates`]). Connections without TLS stay possible unless [`Options::hba`] refuses them.
    pub tls: bool,
    /// Who may come in through the socket in the cluster's folder.
    pub socket: SocketAuth,
    /// Lines for `pg_hba.conf`, before the kit's own (the first match counts). The superuser's line comes before them.
    pub hba: Vec<String>,
    /// Lines for `postgresql.conf`, after the kit's own (the last one counts).
    pub config: Vec<String>,
}

/// Authentication on the Unix socket. Its folder can be entered by the server's user and root only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketAuth {
    /// Whoever can reach the socket is whom they say they are.
    Trust,
    /// The operating system's user must have the database user's name.
    Peer,
    /// A password, as on TCP.
    Scram,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fsync: true,
            max_connections: 100,
            tls: false,
            socket: SocketAuth::Trust,
            hba: Vec::new(),
            config: Vec::new(),
        }
    }
}

/// A running cluster. It ends when this is dropped, and also when the process ends in any other way (a static that is
/// never dropped, a signal, `kill -9`): a watcher notices that and stops the server.
pub struct Cluster {
    // Order of fields: the server is stopped in `drop`, before the folder is removed.
    installation: Installation,
    account: Account,
    password: String,
    port: u16,
    certificates: Option<Certificates>,
    server: Option<Server>,
    dir: TempDir,
}

/// Where one version of the server is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The folder of `postgres`, `initdb`, `psql` …
    pub bin: PathBuf,
    /// Its major version.
    pub major: u32,
}

/// Who the server runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Account {
    /// As who we are.
    Own,
    /// As somebody without privileges, since we are root.
    Other { uid: u32, gid: u32 },
}

struct Server {
    child: Child,
    watcher: Child,
    /// Held open for as long as this process lives; its end is what the watcher waits for.
    _lifeline: ChildStdin,
}

impl Installation {
    /// The newest one in `/usr/lib/postgresql/*/bin` (Debian's place), or else the one on `PATH`.
    pub fn find() -> Result<Self, KitError> {
        let newest = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let major = entry.file_name().to_str()?.parse().ok()?;
                Some(Self { bin: entry.path().join("bin"), major })
            })
            .filter(|found| ["postgres", "initdb"].iter().all(|program| run::is_program(&found.bin.join(program))))
            .max_by_key(|found| found.major);
        if let Some(found) = newest {
            return Ok(found);
        }
        let initdb = run::find("initdb").ok_or_else(|| KitError::NotFound {
            program: "initdb".to_owned(),
            remedy: "install a PostgreSQL server: `cargo xtask setup`".to_owned(),
        })?;
        let text = run::output("initdb --version", Command::new(&initdb).arg("--version"))?;
        let major = text
            .split_whitespace()
            .find_map(|word| word.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
            .ok_or(KitError::Unexpected { what: "the answer of `initdb --version`", text })?;
        let bin = initdb.parent().expect("a file in a folder of PATH has a parent").to_owned();
        Ok(Self { bin, major })
    }

    /// One of its programs, without the caller's own connection settings (see [`forget_libpq`]).
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        forget_libpq(&mut command);
        command
    }
}

impl Cluster {
    /// Makes a cluster and starts it; when this returns it answers.
    pub fn start(options: Options) -> Result<Self, KitError> {
        let installation = Installation::find()?;
        let account = Account::choose()?;
        // Not in TMPDIR: it may lie where the server's user can't go, and a socket's path may have 107 bytes at most.
        let dir = tempfile::Builder::new()
            .prefix("onus-pg-")
            .tempdir_in("/tmp")
            .map_err(KitError::file("make a folder in", "/tmp"))?;
        let password = secret()?;
        let mut cluster = Self { installation, account, password, port: 0, certificates: None, server: None, dir };
        cluster.init(&options)?;
        cluster.launch()?;
        Ok(cluster)
    }

    /// Its TCP port on 127.0.0.1. It changes when the cluster is started again only if another process took it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its Unix socket, `.s.PGSQL.PORT`.
    pub fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    /// The superuser's password. It was made for this cluster and means nothing elsewhere.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// A file (mode 0600) that holds the superuser's password and nothing else.
    pub fn password_file(&self) -> PathBuf {
        self.dir.path().join("password")
    }

    /// The certificates that it was given, with [`Options::tls`].
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// What it was started from.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// The server process.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(|server| server.child.id())
    }

    /// A libpq connection string for the superuser over TCP, its password included.
    pub fn conninfo(&self, db: &str) -> String {
        let pairs = self.libpq(db);
        let quoted = pairs
            .iter()
            .map(|(_, keyword, value)| format!("{keyword}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'")));
        quoted.collect::<Vec<_>>().join(" ")
    }

    /// The same as environment variables: `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`.
    pub fn env(&self, db: &str) -> Vec<(&'static str, String)> {
        self.libpq(db).into_iter().map(|(variable, _, value)| (variable, value)).collect()
    }

    /// Runs SQL as the superuser, statement by statement, stopping at the first error; gives the rows unaligned, columns
    /// separated by `|`, without the last line's end.
    pub fn psql(&self, db: &str, sql: &str) -> Result<String, KitError> {
        let mut psql = self.installation.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"]).envs(self.env(db));
        let rows = run::output_of_input("psql", &mut psql, sql)?;
        Ok(rows.trim_end_matches('\n').to_owned())
    }

    /// What the server has logged since the cluster was made.
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Stops the server and keeps its data; open connections are ended ("fast" shutdown).
    pub fn stop(&mut self) -> Result<(), KitError> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let ended = server.end(Signal::Int);
        if ended { Ok(()) } else { Err(self.late("the server's end")) }
    }

    /// Kills the server as a crash of the machine would, without a chance to tidy up. [`Cluster::start_again`] then
    /// shows its recovery.
    pub fn crash(&mut self) {
        // Its children notice and end by themselves.
        if let Some(mut server) = self.server.take() {
            server.end(Signal::Kill);
        }
    }

    /// Starts the server again on its data, after [`Cluster::stop`] or [`Cluster::crash`]; nothing if it runs.
    pub fn start_again(&mut self) -> Result<(), KitError> {
        if self.server.is_some() { Ok(()) } else { self.launch() }
    }

    fn init(&mut self, options: &Options) -> Result<(), KitError> {
        let password_file = self.password_file();
        write_private(&password_file, &self.password)?;
        self.account.give(&password_file)?;
        self.account.give(self.dir.path())?;

        let mut initdb = self.installation.command("initdb");
        initdb.arg("-D").arg(self.data());
        initdb.args([
            "-U",
            SUPERUSER,
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ]);
        initdb.arg("--pwfile").arg(&password_file);
        self.account.apply(&mut initdb, self.dir.path());
        run::output("initdb", &mut initdb)?;

        if options.tls {
            let certificates = tls::make(self.dir.path(), &["localhost", "127.0.0.1"])?;
            self.account.give(&certificates.server_key)?;
            self.certificates = Some(certificates);
        }
        append(&self.data().join("postgresql.conf"), &self.config(options))?;
        let hba = self.data().join("pg_hba.conf");
        fs::write(&hba, host_based_access(options)).map_err(KitError::file("write", &hba))
    }

    fn config(&self, options: &Options) -> String {
        let mut config = String::from("\n# onus-testkit\n");
        let mut set = |name: &str, value: &str| config.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        set("listen_addresses", "127.0.0.1");
        set("unix_socket_directories", &self.dir.path().display().to_string());
        set("max_connections", &options.max_connections.to_string());
        set("fsync", if options.fsync { "on" } else { "off" });
        set("password_encryption", "scram-sha-256");
        set("shared_buffers", "64MB");
        set("logging_collector", "off");
        set("log_destination", "stderr");
        set("log_line_prefix", "%m [%p] %q%u@%d ");
        if let Some(certificates) = &self.certificates {
            set("ssl", "on");
            set("ssl_cert_file", &certificates.server.display().to_string());
            set("ssl_key_file", &certificates.server_key.display().to_string());
        }
        for line in &options.config {
            config.push_str(line);
            config.push('\n');
        }
        config
    }

    /// Starts the server, on another port if somebody was quicker, and again while the children of a server that
    /// crashed are still ending.
    fn launch(&mut self) -> Result<(), KitError> {
        const ATTEMPTS: usize = 5;
        if self.port == 0 {
            self.port = port::free()?;
        }
        for _ in 1..ATTEMPTS {
            let before = self.log().len();
            let result = self.try_launch();
            let log = self.log();
            let news = log.get(before..).unwrap_or_default();
            if result.is_err() && news.contains("Address already in use") {
                self.port = port::free()?;
            } else if result.is_err() && news.contains("pre-existing shared memory block") {
                std::thread::sleep(Duration::from_millis(300));
            } else {
                return result;
            }
        }
        self.try_launch()
    }

    fn try_launch(&mut self) -> Result<(), KitError> {
        let log = self.log_file();
        let log = fs::OpenOptions::new().create(true).append(true).open(&log).map_err(KitError::file("open", &log))?;
        let log_too = log.try_clone().map_err(KitError::file("open", self.log_file()))?;
        let mut postgres = self.installation.command("postgres");
        postgres.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        postgres.stdin(Stdio::null()).stdout(log).stderr(log_too).process_group(0);
        self.account.apply(&mut postgres, self.dir.path());
        let spawn = |program: &str| {
            let program = program.to_owned();
            move |source| KitError::Spawn { program, source }
        };
        let child = postgres.spawn().map_err(spawn("postgres"))?;
        let mut watcher = watch(&self.data(), self.dir.path()).map_err(spawn("sh, to watch over postgres"))?;
        let lifeline = watcher.stdin.take().expect("the watcher's stdin was piped");
        let server = self.server.insert(Server { child, watcher, _lifeline: lifeline });

        let pid_file = self.dir.path().join("data/postmaster.pid");
        let ready = wait::until(PATIENCE, "the server's start", || {
            if !matches!(server.child.try_wait(), Ok(None)) {
                return Some(false);
            }
            // The first line is its pid, the eighth its state; pg_ctl waits in the same way. A server that crashed left
            // its file behind, with its pid.
            let file = fs::read_to_string(&pid_file).ok()?;
            let mut lines = file.lines();
            let ours = lines.next()?.trim().parse() == Ok(server.child.id());
            (ours && lines.nth(6)?.trim() == "ready").then_some(true)
        });
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.server = None;
                Err(KitError::Ended {
                    program: "postgres".to_owned(),
                    what: "it to be ready".to_owned(),
                    output: run::tail(&self.log()).to_owned(),
                })
            }
            Err(_) => Err(self.late("the server's start")),
        }
    }

    fn late(&self, what: &str) -> KitError {
        KitError::TimedOut { what: what.to_owned(), waited: PATIENCE, seen: run::tail(&self.log()).to_owned() }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Environment variable, keyword, value.
    fn libpq(&self, db: &str) -> Vec<(&'static str, &'static str, String)> {
        vec![
            ("PGHOST", "host", "127.0.0.1".to_owned()),
            ("PGPORT", "port", self.port.to_string()),
            ("PGUSER", "user", SUPERUSER.to_owned()),
            ("PGPASSWORD", "password", self.password.clone()),
            ("PGDATABASE", "dbname", db.to_owned()),
        ]
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        f.debug_struct("Cluster")
            .field("installation", &self.installation)
            .field("port", &self.port)
            .field("dir", &self.dir.path())
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Signal::Quit);
        // It would end by itself once its stdin closes; this only saves the wait.
        proc::send_to_group(self.watcher.id(), Signal::Kill);
        self.watcher.wait().ok();
    }
}

impl Server {
    /// Asks the server to end, then makes it. `false` if it had to be made. Once it is reaped nothing is sent, since its
    /// id may be somebody else's by then.
    fn end(&mut self, signal: Signal) -> bool {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return true;
        }
        proc::send(self.child.id(), signal);
        let ended = wait::until(PATIENCE, "the server's end", || self.child.try_wait().ok().flatten()).is_ok();
        if !ended {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        ended
    }
}

impl Account {
    fn choose() -> Result<Self, KitError> {
        if !run::is_root() {
            return Ok(Self::Own);
        }
        let path = "/etc/passwd";
        let users = fs::read_to_string(path).map_err(KitError::file("read", path))?;
        let look = |name: &str| {
            let fields: Vec<&str> =
                users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f[0] == name)?;
            Some(Self::Other { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
        };
        look("postgres").or_else(|| look("nobody")).ok_or_else(|| KitError::NotFound {
            program: "a user `postgres` or `nobody`".to_owned(),
            remedy: "PostgreSQL refuses to run as root; run the tests as another user".to_owned(),
        })
    }

    fn give(self, path: &Path) -> Result<(), KitError> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid } => std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .map_err(KitError::file("give to the server's user", path)),
        }
    }

    fn apply(self, command: &mut Command, home: &Path) {
        // The server must not start in a folder that its user can't enter.
        command.current_dir(home).env("HOME", home).env("LC_ALL", "C");
        if let Self::Other { uid, gid } = self {
            // With the user, std drops the supplementary groups too.
            command.uid(uid).gid(gid);
        }
    }
}

/// Takes every `PG…` variable out of a command's environment, so that the settings of whoever runs the tests (a service
/// file, another server's password) can't reach a test's connections. Variables set on the command itself before go too.
pub fn forget_libpq(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
    // Files in the home folder that libpq reads by itself.
    // Nothing can be in /dev/null/; libpq warns of a password file that is there and no plain file.
    command.env("PGPASSFILE", "/dev/null/none").env("PGSERVICEFILE", "/dev/null").env("PSQLRC", "/dev/null");
    command.env("PSQL_HISTORY", "/dev/null");
}

/// A process that waits until we are gone, then stops the server if it still runs and removes the folder. In a group of
/// its own, since whatever ends us may end our group.
fn watch(data: &Path, dir: &Path) -> std::io::Result<Child> {
    // The pid file is the server's own: it is removed when the server ends, so no other process is ever signalled.
    let script = r#"cat >/dev/null
pid=$(head -n 1 "$1/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -e "$1/postmaster.pid" ] || break; sleep 0.2; done
rm -rf "$2""#;
    Command::new("/bin/sh")
        .args(["-c", script, "onus-testkit-watch"])
        .arg(data)
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

fn host_based_access(options: &Options) -> String {
    let socket = match options.socket {
        SocketAuth::Trust => "trust",
        SocketAuth::Peer => "peer",
        SocketAuth::Scram => "scram-sha-256",
    };
    let mut text = format!("host all {SUPERUSER} 127.0.0.1/32 scram-sha-256\n");
    for line in &options.hba {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(&format!("local all all {socket}\nhost all all 127.0.0.1/32 scram-sha-256\n"));
    text.push_str("local replication all reject\nhost replication all 127.0.0.1/32 scram-sha-256\n");
    text
}

/// 192 random bits in hexadecimal.
fn secret() -> Result<String, KitError> {
    use std::io::Read;
    let path = "/dev/urandom";
    let mut bytes = [0; 24];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).map_err(KitError::file("read", path))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn write_private(path: &Path, text: &str) -> Result<(), KitError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(KitError::file("write", path))
}

fn append(path: &Path, text: &str) -> Result<(), KitError> {
    use std::io::Write;
    let file = fs::OpenOptions::new().append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(KitError::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick() -> Options {
        Options { fsync: false, ..Options::default() }
    }

    fn gone(pid: u32) {
        wait::until(Duration::from_secs(10), "the server's end", || proc::usage(pid).is_none().then_some(())).unwrap();
    }

    /// `psql` with the given connection settings and no others.
    fn connect(cluster: &Cluster, settings: &str, password: &str) -> Result<String, KitError> {
        let mut psql = cluster.installation().command("psql");
        psql.args(["-X", "-A", "-t", "-w", "-c", "select current_user", settings]).env("PGPASSWORD", password);
        run::output("psql", &mut psql).map(|out| out.trim().to_owned())
    }

    #[test]
    fn it_starts_answers_stops_and_comes_back_with_its_data() {
        let mut cluster = Cluster::start(quick()).unwrap();
        cluster
            .psql("postgres", "create table t (n int); insert into t values (1);\ninsert into t values (2);")
            .unwrap();
        assert_eq!(cluster.psql("postgres", "select n, n + 1 from t order by n").unwrap(), "1|2\n2|3");
        let err = cluster.psql("postgres", "select 1; select broken; select 2").unwrap_err();
        assert!(err.to_string().contains("\"broken\" does not exist"), "{err}");
        let pid = cluster.pid().unwrap();

        cluster.stop().unwrap();
        gone(pid);
        assert!(cluster.psql("postgres", "select 1").is_err());
        cluster.start_again().unwrap();
        assert_eq!(cluster.psql("postgres", "select count(*) from t").unwrap(), "2");
        cluster.crash();
        cluster.start_again().unwrap();
        assert_eq!(cluster.psql("postgres", "select count(*) from t").unwrap(), "2");
        assert!(cluster.log().contains("not properly shut down"), "{}", cluster.log());

        let (pid, dir) = (cluster.pid().unwrap(), cluster.socket_dir().to_owned());
        drop(cluster);
        gone(pid);
        assert!(!dir.exists());
    }

    #[test]
    fn tcp_wants_the_password_and_the_socket_what_was_asked_for() {
        let cluster = Cluster::start(Options { socket: SocketAuth::Trust, ..quick() }).unwrap();
        let tcp = format!("host=127.0.0.1 port={} user=postgres", cluster.port());
        assert_eq!(connect(&cluster, &tcp, cluster.password()).unwrap(), "postgres");
        let err = connect(&cluster, &tcp, "wrong").unwrap_err();
        assert!(err.to_string().contains("password authentication failed"), "{err}");
        let socket = format!("host={} port={} user=postgres", cluster.socket_dir().display(), cluster.port());
        assert_eq!(connect(&cluster, &socket, "").unwrap(), "postgres");
        assert_eq!(connect(&cluster, &cluster.conninfo("postgres"), "").unwrap(), "postgres");
        assert!(cluster.psql("postgres", "show password_encryption").unwrap().contains("scram"));
        assert!(!format!("{cluster:?}").contains(cluster.password()));
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(cluster.password_file()).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn tls_verifies_and_the_config_lines_count() {
        let options = Options {
            tls: true,
            max_connections: 17,
            hba: vec!["hostnossl all all 127.0.0.1/32 reject".into()],
            config: vec!["work_mem = '7MB'".into()],
            ..quick()
        };
        let cluster = Cluster::start(options).unwrap();
        cluster.psql("postgres", "create role someone login password 'pw'").unwrap();
        let someone = |more: &str| {
            connect(
                &cluster,
                &format!("host=127.0.0.1 port={} dbname=postgres user=someone {more}", cluster.port()),
                "pw",
            )
        };
        let ca = cluster.certificates().unwrap().ca.display().to_string();
        assert_eq!(
            someone(&format!("sslmode=verify-full sslrootcert={ca} channel_binding=require")).unwrap(),
            "someone"
        );
        assert!(someone("sslmode=disable").unwrap_err().to_string().contains("rejects"));
        assert_eq!(
            cluster.psql("postgres", "show max_connections; show work_mem; show fsync").unwrap(),
            "17\n7MB\noff"
        );
    }

    #[test]
    fn a_server_that_cannot_start_says_why() {
        let err = Cluster::start(Options { config: vec!["nonsense = 1".into()], ..quick() }).unwrap_err();
        assert!(err.to_string().contains("unrecognized configuration parameter \"nonsense\""), "{err}");
    }

    /// Run by the test below in a process of its own, which is then killed.
    #[test]
    fn start_and_hang() {
        if std::env::var_os("ONUS_TESTKIT_HANG").is_none() {
            return;
        }
        let cluster = Cluster::start(quick()).unwrap();
        println!("\nserver={} dir={}", cluster.pid().unwrap(), cluster.socket_dir().display());
        std::thread::sleep(Duration::from_secs(600));
    }

    #[test]
    fn the_server_ends_when_its_test_is_killed() {
        let mut me = Command::new(std::env::current_exe().unwrap());
        me.args(["pg::tests::start_and_hang", "--exact", "--nocapture"]).env("ONUS_TESTKIT_HANG", "1");
        let mut test = proc::Running::spawn("this test binary", &mut me).unwrap();
        let line = test.wait_for("server=", PATIENCE).unwrap();
        let (pid, dir) = line.trim_start_matches("server=").split_once(" dir=").unwrap();
        let (pid, dir) = (pid.parse().unwrap(), PathBuf::from(dir));
        assert!(proc::usage(pid).is_some() && dir.exists());
        test.kill9();
        gone(pid);
        wait::until(Duration::from_secs(10), "the folder's removal", || (!dir.exists()).then_some(())).unwrap();
    }
}
