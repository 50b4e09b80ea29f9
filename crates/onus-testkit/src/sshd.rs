//! A private OpenSSH server: in its own folder, on its own loopback port, ended with the test. Deliberately knows nothing
//! of what is tested against it, and never touches a server or an account of the machine's.
//!
//! Who logs in is who runs the tests ([`Sshd::user`]), also when that is root: other accounts would have to be made, and
//! accounts are the machine's. As root, sshd then keeps one process for a session rather than two (it has no privileges to
//! separate). For sessions without a shell (`ssh -W`, `-N -L`) root may also log in as any account that exists, `nobody`
//! for one. As anybody else, only they themselves can log in.
//!
//! Sessions have [`Sshd::home`] as `$HOME`, so that nobody's dot files change a test, but they start in the account's real
//! home folder, which sshd takes from the system: give absolute paths. For terminals see [`gives_terminals`].

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::proc::{self, Signal};
use crate::ssh_keys::{Certificate, KeyPair, Kind};
use crate::ssh_tools::Program;
use crate::{KitError, port, run, tree, wait};

/// How long a server may take to start or to end on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is set up. `Options::default()`: one Ed25519 host key, public keys only ([`Sshd::authorize`]), SFTP inside
/// the server, everything forwarded.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its host keys, one of each kind.
    pub host_keys: Vec<Kind>,
    /// An authority that signs its host keys for `127.0.0.1` and `localhost`; they are then offered as certificates too.
    pub host_authority: Option<KeyPair>,
    /// Authorities whose user certificates it takes: public keys, one line each (`TrustedUserCAKeys`). Certificates must
    /// name [`Sshd::user`] as a principal.
    pub user_authorities: Vec<String>,
    /// How it serves SFTP.
    pub sftp: Sftp,
    /// What it forwards.
    pub forwarding: Forwarding,
    /// Lines for `sshd_config` before the kit's own: of each keyword the first one counts. A `SetEnv` here takes the place
    /// of the kit's, which sets `$HOME`; a `LogLevel` below INFO would hide the line that the start waits for.
    pub config: Vec<String>,
    /// Lines at the end: `Match` blocks.
    pub blocks: Vec<String>,
}

/// How SFTP is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sftp {
    /// By the server itself: `internal-sftp`.
    Internal,
    /// By the program `sftp-server`, wherever it is; it comes with the server.
    Program,
    /// Not at all.
    Off,
}

/// What is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// TCP both ways, stream sockets, agents.
    Everything,
    /// TCP from the client only: what `-L`, `-W` and `-J` need.
    Local,
    /// Nothing.
    Nothing,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host_keys: vec![Kind::Ed25519],
            host_authority: None,
            user_authorities: Vec::new(),
            sftp: Sftp::Internal,
            forwarding: Forwarding::Everything,
            config: Vec::new(),
            blocks: Vec::new(),
        }
    }
}

/// A running server. It ends with all its sessions when this is dropped, and also when the process ends in any other way
/// (a static that is never dropped, a signal, `kill -9`): a watcher notices that and stops the server.
#[derive(Debug)]
pub struct Sshd {
    // Order of fields: the server is stopped before the folder is removed.
    server: Option<Server>,
    port: u16,
    user: String,
    host_keys: Vec<KeyPair>,
    config: String,
    dir: TempDir,
}

#[derive(Debug)]
struct Server {
    child: Child,
    watcher: Child,
    /// Held open for as long as this process lives; its end is what the watcher waits for.
    _lifeline: ChildStdin,
}

impl Sshd {
    /// Makes a server and starts it; when this returns it takes connections.
    ///
    /// # Errors
    /// When `sshd` or `ssh-keygen` is missing (the error names the package), or when it doesn't come up, with its log: what
    /// is wrong in [`Options::config`] is told there.
    pub fn start(options: Options) -> Result<Self, KitError> {
        Program::Sshd.find()?;
        // Not in TMPDIR: whoever logs in must be able to reach the file of authorized keys.
        let dir = tempfile::Builder::new()
            .prefix("onus-sshd-")
            .tempdir_in("/tmp")
            .map_err(KitError::file("make a folder in", "/tmp"))?;
        set_mode(dir.path(), 0o711)?;
        let home = dir.path().join("home");
        fs::create_dir(&home).map_err(KitError::file("create", &home))?;
        set_mode(&home, 0o700)?;
        let mut host_keys = Vec::new();
        for kind in &options.host_keys {
            host_keys.push(KeyPair::make(dir.path(), &format!("host_{kind:?}").to_lowercase(), *kind)?);
        }
        if run::is_root() {
            // Where sshd confines what has no privileges; a running system service makes it.
            let confined = Path::new("/run/sshd");
            fs::create_dir_all(confined).map_err(KitError::file("create", confined))?;
        }
        let user = run::output("id", Command::new("id").arg("-un"))?.trim().to_owned();
        let mut sshd = Self { server: None, port: 0, user, host_keys, config: String::new(), dir };
        sshd.config = sshd.configured(&options)?;
        write(&sshd.authorized_keys(), "", 0o644)?;
        sshd.launch()?;
        Ok(sshd)
    }

    /// Its TCP port on 127.0.0.1. It changes when the server is started again only if another process took it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The account to log in as: who runs the tests.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// `$HOME` of its sessions: empty at first, removed with the server. It belongs to [`Sshd::user`].
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// Its host keys, in the order of [`Options::host_keys`].
    pub fn host_keys(&self) -> &[KeyPair] {
        &self.host_keys
    }

    /// Its lines for a `known_hosts` file.
    pub fn known_hosts(&self) -> String {
        self.host_keys.iter().map(|key| format!("[127.0.0.1]:{} {}\n", self.port, key.public)).collect()
    }

    /// Lets a key in: a line for `authorized_keys`, with options before it if need be. Counts from the next log-in on.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn authorize(&self, line: &str) -> Result<(), KitError> {
        use std::io::Write;
        let path = self.authorized_keys();
        let file = fs::OpenOptions::new().append(true).open(&path);
        file.and_then(|mut file| writeln!(file, "{line}")).map_err(KitError::file("write", path))
    }

    /// Lets nobody in by an authorized key any more.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn authorize_nobody(&self) -> Result<(), KitError> {
        write(&self.authorized_keys(), "", 0o644)
    }

    /// Takes user certificates of these authorities and of no others: public keys, one line each. Counts from the next
    /// log-in on.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn trust_users(&self, authorities: &[String]) -> Result<(), KitError> {
        let lines: String = authorities.iter().map(|line| format!("{line}\n")).collect();
        write(&self.dir.path().join("user_authorities"), &lines, 0o644)
    }

    /// The listening process. Its descendants are the sessions and what they run ([`crate::tree`]).
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(|server| server.child.id())
    }

    /// What the server has logged since it was made, at level VERBOSE unless the options said otherwise: fingerprints of
    /// keys, ids and serials of certificates, commands, files' names with SFTP's own `-l`.
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Waits until it has logged a line that [`proc::matches()`] the pattern, and gives the first such line.
    ///
    /// # Errors
    /// When there is none in time; with the log's end.
    pub fn wait_log(&self, pattern: &str, patience: Duration) -> Result<String, KitError> {
        let what = format!("a log line like `{pattern}`");
        let look =
            || self.log().lines().find(|line| proc::matches(pattern, line)).map(|line| line.trim_end().to_owned());
        wait::until(patience, &what, look).map_err(|_| self.late(&what, patience))
    }

    /// Stops the server with all its sessions and keeps its keys and its port.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts the server again after [`Sshd::stop`]; nothing if it runs.
    ///
    /// # Errors
    /// As [`Sshd::start`].
    pub fn start_again(&mut self) -> Result<(), KitError> {
        if self.server.is_some() { Ok(()) } else { self.launch() }
    }

    /// Ends all sessions at once, without a word to their clients, as if their processes had crashed. The server goes on.
    pub fn cut_sessions(&self) {
        for pid in self.pid().map(tree::descendants).unwrap_or_default() {
            proc::send(pid, Signal::Kill);
        }
    }

    fn configured(&self, options: &Options) -> Result<String, KitError> {
        let dir = self.dir.path();
        let mut config = String::new();
        let mut line = |text: &str| config.push_str(&format!("{text}\n"));
        options.config.iter().for_each(|text| line(text));
        line("ListenAddress 127.0.0.1");
        line(&format!("AuthorizedKeysFile {}", self.authorized_keys().display()));
        line(&format!("SetEnv HOME={}", self.home().display()));
        line("PidFile none\nLogLevel VERBOSE\nUsePAM no\nStrictModes no\nUseDNS no");
        line("AuthenticationMethods publickey\nPasswordAuthentication no\nKbdInteractiveAuthentication no");
        line("PermitRootLogin prohibit-password\nPermitUserRC no\nPrintMotd no\nPrintLastLog no");
        line("MaxStartups 10000\nMaxSessions 1000\nMaxAuthTries 20\nLoginGraceTime 60");
        if version().is_some_and(|version| version >= (9, 8)) {
            // Tests fail to log in on purpose, and all come from one address.
            line("PerSourcePenalties no");
        }
        line(match options.forwarding {
            Forwarding::Everything => {
                "AllowTcpForwarding yes\nAllowAgentForwarding yes\nAllowStreamLocalForwarding yes"
            }
            Forwarding::Local => "AllowTcpForwarding local\nAllowAgentForwarding no\nAllowStreamLocalForwarding no",
            Forwarding::Nothing => "AllowTcpForwarding no\nAllowAgentForwarding no\nAllowStreamLocalForwarding no",
        });
        for key in &self.host_keys {
            line(&format!("HostKey {}", key.private.display()));
            if let Some(authority) = &options.host_authority {
                let names =
                    Certificate { id: "host", principals: &["127.0.0.1", "localhost"], ..Certificate::default() };
                let made = authority.sign_host(&key.public, &names)?;
                let own = key.private.with_extension("cert");
                fs::copy(&made, &own).map_err(KitError::file("copy", made))?;
                line(&format!("HostCertificate {}", own.display()));
            }
        }
        // Always there: sshd reads it at each log-in, so that more can be trusted later.
        line(&format!("TrustedUserCAKeys {}", dir.join("user_authorities").display()));
        self.trust_users(&options.user_authorities)?;
        match options.sftp {
            Sftp::Internal => line("Subsystem sftp internal-sftp"),
            Sftp::Program => line(&format!("Subsystem sftp {}", sftp_server()?.display())),
            Sftp::Off => {}
        }
        options.blocks.iter().for_each(|text| line(text));
        Ok(config)
    }

    /// Starts the server, on another port if somebody was quicker.
    fn launch(&mut self) -> Result<(), KitError> {
        const ATTEMPTS: usize = 5;
        if self.port == 0 {
            self.port = port::free()?;
        }
        for _ in 1..ATTEMPTS {
            let before = self.log().len();
            let result = self.try_launch();
            if result.is_err() && self.log().get(before..).unwrap_or_default().contains("Address already in use") {
                self.port = port::free()?;
            } else {
                return result;
            }
        }
        self.try_launch()
    }

    fn try_launch(&mut self) -> Result<(), KitError> {
        let config = self.dir.path().join("sshd_config");
        write(&config, &format!("Port {}\n{}", self.port, self.config), 0o600)?;
        let before = self.log().len();
        let log = self.log_file();
        let log = fs::OpenOptions::new().create(true).append(true).open(&log).map_err(KitError::file("open", &log))?;
        let mut sshd = Command::new(Program::Sshd.find()?);
        sshd.args(["-D", "-e", "-f"]).arg(&config).current_dir("/");
        sshd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let spawn = |program: &str| {
            let program = program.to_owned();
            move |source| KitError::Spawn { program, source }
        };
        let child = sshd.spawn().map_err(spawn("sshd"))?;
        let mut watcher = watch(child.id(), self.dir.path()).map_err(spawn("sh, to watch over sshd"))?;
        let lifeline = watcher.stdin.take().expect("the watcher's stdin was piped");
        let (port, log) = (self.port, self.log_file());
        let server = self.server.insert(Server { child, watcher, _lifeline: lifeline });
        let ready = wait::until(PATIENCE, "the server's start", || {
            if !matches!(server.child.try_wait(), Ok(None)) {
                return Some(false);
            }
            // That it says so comes first: another server may answer on this port.
            let log = fs::read(&log).map(|log| String::from_utf8_lossy(&log).into_owned()).ok()?;
            let said = log.get(before..)?.contains(&format!("Server listening on 127.0.0.1 port {port}"));
            (said && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()).then_some(true)
        });
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.server = None;
                Err(KitError::Ended {
                    program: "sshd".to_owned(),
                    what: "it to be ready".to_owned(),
                    output: run::tail(&self.log()).to_owned(),
                })
            }
            Err(_) => Err(self.late("the server's start", PATIENCE)),
        }
    }

    fn late(&self, what: &str, waited: Duration) -> KitError {
        KitError::TimedOut { what: what.to_owned(), waited, seen: run::tail(&self.log()).to_owned() }
    }

    fn authorized_keys(&self) -> PathBuf {
        self.dir.path().join("authorized_keys")
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Sessions are in groups of their own and would outlive the listener. Stopped, it makes no new ones while we
            // look.
            proc::send(self.child.id(), Signal::Stop);
            for pid in tree::descendants(self.child.id()) {
                proc::send(pid, Signal::Kill);
            }
            self.child.kill().ok();
        }
        self.child.wait().ok();
        // It would end by itself once its stdin closes; this only saves the wait.
        proc::send_to_group(self.watcher.id(), Signal::Kill);
        self.watcher.wait().ok();
    }
}

/// The version of the OpenSSH that is installed: major and minor.
pub fn version() -> Option<(u32, u32)> {
    let said = Command::new(Program::Ssh.find().ok()?).arg("-V").stdin(Stdio::null()).output().ok()?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let (major, rest) = said.strip_prefix("OpenSSH_")?.split_once('.')?;
    Some((major.parse().ok()?, rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?))
}

/// Whether sessions can have a terminal here. Anybody but root can serve one only where terminals belong to the group `tty`
/// from the start (`/dev/pts` mounted with `gid=`): elsewhere sshd has to give them away, and may not. Usual systems are
/// mounted so, bare containers often aren't. Tests that need a terminal ask here and say that they skip.
pub fn gives_terminals() -> bool {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let is_grouped = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        fields.get(1) == Some(&"/dev/pts") && fields.get(3).is_some_and(|options| options.contains("gid="))
    };
    // The last one mounted is the one that is seen.
    run::is_root() || mounts.lines().rfind(|line| line.contains(" /dev/pts ")).is_some_and(is_grouped)
}

fn sftp_server() -> Result<PathBuf, KitError> {
    let places = ["/usr/lib/openssh", "/usr/libexec/openssh", "/usr/libexec", "/usr/lib/ssh"];
    let found = places.into_iter().map(|place| Path::new(place).join("sftp-server")).find(|file| run::is_program(file));
    found.ok_or_else(|| KitError::NotFound {
        program: "sftp-server".to_owned(),
        remedy: "install the package `openssh-sftp-server`".to_owned(),
    })
}

/// A process that waits until we are gone, then ends the server with its sessions if it still runs and removes the folder.
/// In a group of its own, since whatever ends us may end our group.
fn watch(server: u32, dir: &Path) -> io::Result<Child> {
    // Whoever has the number by then must also have our folder in its title, so that no stranger is signalled.
    let script = r#"cat >/dev/null
below() { for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do echo "$child"; below "$child"; done; }
if grep -q "$2" "/proc/$1/cmdline" 2>/dev/null; then kill -STOP "$1"; kill -KILL $(below "$1") "$1"; fi
rm -rf "$2""#;
    Command::new("/bin/sh")
        .args(["-c", script, "onus-testkit-watch", &server.to_string()])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), KitError> {
    fs::write(path, text).map_err(KitError::file("write", path))?;
    set_mode(path, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), KitError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(KitError::file("change the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh_client::Client;

    const SOON: Duration = Duration::from_secs(30);

    fn gone(pid: u32) {
        wait::until(SOON, "the server's end", || proc::usage(pid).is_none().then_some(())).unwrap();
    }

    #[test]
    fn it_lets_in_whom_it_should_and_comes_back_after_a_stop() {
        let mut server = Sshd::start(Options::default()).unwrap();
        let client = Client::of(&server, "host").unwrap();
        assert_eq!(client.ssh(&["host", "echo in"]).unwrap().ok().unwrap(), "in\n");
        server.wait_log("Accepted publickey for * ED25519 SHA256:", SOON).unwrap();
        server.authorize_nobody().unwrap();
        assert_eq!(client.ssh(&["host", "true"]).unwrap().code(), Some(255));
        server.authorize(&fs::read_to_string(client.path("keys/id.pub")).unwrap()).unwrap();
        let mut session = client.command(Program::Ssh).unwrap();
        let session = session.args(["host", "echo up; nohup setsid sleep 600"]);
        let session = proc::Running::spawn("ssh", session).unwrap();
        session.wait_for("up", SOON).unwrap();
        let (pid, port) = (server.pid().unwrap(), server.port());
        let sessions = tree::descendants(pid);
        server.stop();
        assert!(!sessions.is_empty());
        sessions.into_iter().chain([pid]).for_each(gone);
        server.start_again().unwrap();
        assert_eq!(server.port(), port);
        let (pid, dir) = (server.pid().unwrap(), server.home());
        drop(server);
        gone(pid);
        assert!(!dir.exists());
    }

    #[test]
    fn certificates_of_users_and_hosts() {
        let folder = tempfile::tempdir().unwrap();
        let users = KeyPair::make(folder.path(), "users", Kind::Ed25519).unwrap();
        let hosts = KeyPair::make(folder.path(), "hosts", Kind::Ed25519).unwrap();
        let server = Sshd::start(Options {
            host_keys: vec![Kind::Ecdsa256, Kind::Ed25519],
            host_authority: Some(hosts.clone()),
            user_authorities: vec![users.public.clone()],
            ..Options::default()
        })
        .unwrap();
        let mut client = Client::new().unwrap();
        client.host("host", "127.0.0.1", server.port(), server.user(), &[]).unwrap();
        client.trust_authority("127.0.0.1", server.port(), &hosts.public).unwrap();
        let key = client.new_key("id", Kind::Ed25519).unwrap();
        client.identify(&key).unwrap();
        assert_eq!(client.ssh(&["host", "true"]).unwrap().code(), Some(255), "the key alone is nothing");
        let principals = [server.user()];
        let said = Certificate { id: "alice", principals: &principals, serial: 42, validity: "+5m", options: &[] };
        client.certify(&users.sign_user(&key.public, &said).unwrap()).unwrap();
        client.ssh(&["host", "true"]).unwrap().ok().unwrap();
        server.wait_log("Accepted publickey*ID alice (serial 42)", SOON).unwrap();

        client.forget_identities().unwrap();
        client.identify(&key).unwrap();
        let other = Certificate { principals: &["somebody-else"], ..said };
        client.certify(&users.sign_user(&key.public, &other).unwrap()).unwrap();
        assert_eq!(client.ssh(&["host", "true"]).unwrap().code(), Some(255), "another's certificate");
    }

    #[test]
    fn options_count_and_wrong_ones_are_told() {
        let options = Options {
            sftp: Sftp::Off,
            forwarding: Forwarding::Nothing,
            config: vec!["LogLevel DEBUG1".into(), "PermitTTY no".into()],
            blocks: vec!["Match LocalAddress 127.0.0.1".into(), "  ForceCommand echo forced".into()],
            ..Options::default()
        };
        let server = Sshd::start(options).unwrap();
        let client = Client::of(&server, "host").unwrap();
        assert_eq!(client.ssh(&["host", "true"]).unwrap().ok().unwrap(), "forced\n");
        assert!(client.ssh(&["-tt", "host"]).unwrap().stderr.contains("PTY allocation request failed"));
        assert_ne!(client.sftp("host", "pwd").unwrap().code(), Some(0));
        assert!(server.log().contains("debug1: "));

        let with_program = Sshd::start(Options { sftp: Sftp::Program, ..Options::default() }).unwrap();
        Client::of(&with_program, "host").unwrap().sftp("host", "pwd").unwrap().ok().unwrap();

        let err = Sshd::start(Options { config: vec!["Nonsense yes".into()], ..Options::default() }).unwrap_err();
        assert!(err.to_string().contains("Bad configuration option: Nonsense"), "{err}");
    }

    #[test]
    fn a_jump_and_sessions_that_are_cut() {
        let (target, jump) = (Sshd::start(Options::default()).unwrap(), Sshd::start(Options::default()).unwrap());
        let mut client = Client::of(&target, "target").unwrap();
        client.reach("jump", &jump, &[]).unwrap();
        jump.authorize(&fs::read_to_string(client.path("keys/id.pub")).unwrap()).unwrap();
        let through = client.ssh(&["-J", "jump", "target", "echo through"]).unwrap();
        assert_eq!(through.ok().unwrap(), "through\n");
        jump.wait_log("Accepted publickey", SOON).unwrap();

        if !gives_terminals() {
            println!("skipped: no terminals");
            return;
        }
        let pty = client.interactive(&["-tt", "target", "echo up; exec cat"], Default::default()).unwrap();
        pty.expect("up", SOON).unwrap();
        target.cut_sessions();
        pty.expect("closed", SOON).unwrap();
        client.ssh(&["target", "true"]).unwrap().ok().unwrap();
    }

    /// Run by the test below in a process of its own, which is then killed.
    #[test]
    fn start_and_hang() {
        if std::env::var_os("ONUS_TESTKIT_HANG").is_none() {
            return;
        }
        let server = Sshd::start(Options::default()).unwrap();
        let client = Client::of(&server, "host").unwrap();
        let mut session = client.command(Program::Ssh).unwrap();
        let _session = proc::Running::spawn("ssh", session.args(["host", "exec sleep 600"])).unwrap();
        server.wait_log("Starting session", SOON).unwrap();
        let sessions = tree::descendants(server.pid().unwrap());
        // Nobody watches over a client's folder.
        fs::remove_dir_all(client.path("")).unwrap();
        println!("\nserver={} session={} dir={}", server.pid().unwrap(), sessions[0], server.home().display());
        std::thread::sleep(Duration::from_secs(600));
    }

    #[test]
    fn the_server_ends_with_its_sessions_when_its_test_is_killed() {
        let mut me = Command::new(std::env::current_exe().unwrap());
        me.args(["sshd::tests::start_and_hang", "--exact", "--nocapture"]).env("ONUS_TESTKIT_HANG", "1");
        let mut test = proc::Running::spawn("this test binary", &mut me).unwrap();
        let line = test.wait_for("server=", PATIENCE).unwrap();
        let (server, rest) = line.trim_start_matches("server=").split_once(" session=").unwrap();
        let (session, dir) = rest.split_once(" dir=").unwrap();
        let (server, session): (u32, u32) = (server.parse().unwrap(), session.parse().unwrap());
        assert!(proc::usage(server).is_some() && proc::usage(session).is_some());
        test.kill9();
        gone(server);
        gone(session);
        let dir = PathBuf::from(dir);
        wait::until(SOON, "the folder's removal", || (!dir.exists()).then_some(())).unwrap();
    }
}
