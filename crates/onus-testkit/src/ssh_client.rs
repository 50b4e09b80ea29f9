//! The real SSH clients (`ssh`, `scp`, `sftp`, `rsync`, `git`, `ansible`) with settings of their own: no agent, no dot
//! files, no prompt, only the keys and hosts that a test gives them. Deliberately no client of ours: what is tested is
//! whether these work.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::proc::{self, Signal};
use crate::pty::{Pty, Size};
use crate::ssh_keys::{KeyPair, Kind};
use crate::ssh_tools::Program;
use crate::sshd::Sshd;
use crate::{KitError, run};

/// How long a client may run, unless [`Client::patience`] says otherwise.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long its output may take to close after it has ended: a connection that is shared goes on in the background.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// Somebody's SSH clients, with a folder for their settings. Dropping it ends the connections that they share
/// (`ControlMaster`) and removes the folder.
#[derive(Debug)]
pub struct Client {
    identities: Vec<String>,
    options: Vec<String>,
    hosts: Vec<String>,
    known: Vec<String>,
    patience: Duration,
    dir: TempDir,
}

/// What came of running a client.
#[derive(Debug, Clone)]
pub struct Ran {
    /// How it ended. `ssh` gives the remote command's status, and 255 for its own failures.
    pub status: ExitStatus,
    /// Its stdout, byte for byte.
    pub stdout: Vec<u8>,
    /// Its stderr: for `ssh` its own words and the remote command's.
    pub stderr: String,
    /// From its start to its end.
    pub elapsed: Duration,
}

impl Ran {
    /// Its stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its exit status; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Its stdout as text if its status is 0.
    ///
    /// # Errors
    /// [`KitError::Failed`] with what it wrote otherwise.
    pub fn ok(self) -> Result<String, KitError> {
        if self.status.success() {
            return Ok(self.text());
        }
        let output = format!("{}{}", self.text(), self.stderr);
        Err(KitError::Failed {
            program: "an SSH client".to_owned(),
            status: self.status.to_string(),
            output: run::tail(&output).to_owned(),
        })
    }
}

impl Client {
    /// Clients that have no key and know no host yet.
    ///
    /// # Errors
    /// When `ssh` is missing or the folder can't be made.
    pub fn new() -> Result<Self, KitError> {
        Program::Ssh.find()?;
        // A control socket's path may have 107 bytes at most, so not in TMPDIR.
        let dir = tempfile::Builder::new()
            .prefix("onus-ssh-")
            .tempdir_in("/tmp")
            .map_err(KitError::file("make a folder in", "/tmp"))?;
        for name in ["home", "control", "keys"] {
            let folder = dir.path().join(name);
            fs::create_dir(&folder).map_err(KitError::file("create", folder))?;
        }
        let (identities, options, hosts, known) = <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
        let client = Self { identities, options, hosts, known, patience: PATIENCE, dir };
        client.write()?;
        Ok(client)
    }

    /// A client with a new key that the server lets in and that knows the server as `alias`.
    ///
    /// # Errors
    /// When any of that fails.
    pub fn of(server: &Sshd, alias: &str) -> Result<Self, KitError> {
        let mut client = Self::new()?;
        let key = client.new_key("id", Kind::Ed25519)?;
        client.identify(&key)?;
        server.authorize(&key.public)?;
        client.reach(alias, server, &[])?;
        Ok(client)
    }

    /// The file of its settings, for `-F`.
    pub fn config(&self) -> PathBuf {
        self.path("config")
    }

    /// A path in its own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a key in its folder. It isn't used before [`Client::identify`] says so.
    ///
    /// # Errors
    /// As [`KeyPair::make`].
    pub fn new_key(&self, name: &str, kind: Kind) -> Result<KeyPair, KitError> {
        KeyPair::make(&self.path("keys"), name, kind)
    }

    /// Offers this key, after those that were there.
    ///
    /// # Errors
    /// When the settings can't be written.
    pub fn identify(&mut self, key: &KeyPair) -> Result<(), KitError> {
        self.identities.push(format!("IdentityFile {}", key.private.display()));
        self.write()
    }

    /// Offers this certificate with the key that it is for, before the key alone.
    ///
    /// # Errors
    /// When the settings can't be written.
    pub fn certify(&mut self, certificate: &Path) -> Result<(), KitError> {
        self.identities.push(format!("CertificateFile {}", certificate.display()));
        self.write()
    }

    /// Forgets all keys and certificates.
    ///
    /// # Errors
    /// When the settings can't be written.
    pub fn forget_identities(&mut self) -> Result<(), KitError> {
        self.identities.clear();
        self.write()
    }

    /// A line of ssh_config for all hosts. It comes first, so it counts before the kit's own.
    ///
    /// # Errors
    /// When the settings can't be written.
    pub fn option(&mut self, line: &str) -> Result<(), KitError> {
        self.options.push(line.to_owned());
        self.write()
    }

    /// Knows a host by a name, with more lines for it (`ProxyJump other`, …). Its key isn't trusted by that.
    ///
    /// # Errors
    /// When the settings can't be written.
    pub fn host(&mut self, alias: &str, address: &str, port: u16, user: &str, lines: &[&str]) -> Result<(), KitError> {
        let mut block = format!("Host {alias}\n  HostName {address}\n  Port {port}\n  User {user}\n");
        lines.iter().for_each(|line| block.push_str(&format!("  {line}\n")));
        self.hosts.push(block);
        self.write()
    }

    /// Trusts a host's key: the public key's line.
    ///
    /// # Errors
    /// When the settings can't be written.
    pub fn trust(&mut self, address: &str, port: u16, key: &str) -> Result<(), KitError> {
        self.known.push(format!("{} {key}\n", known_name(address, port)));
        self.write()
    }

    /// Trusts an authority for a host's certificate: the authority's public key's line.
    ///
    /// # Errors
    /// When the settings can't be written.
    pub fn trust_authority(&mut self, address: &str, port: u16, key: &str) -> Result<(), KitError> {
        self.known.push(format!("@cert-authority {} {key}\n", known_name(address, port)));
        self.write()
    }

    /// Knows and trusts a server of the kit by a name.
    ///
    /// # Errors
    /// When the settings can't be written.
    pub fn reach(&mut self, alias: &str, server: &Sshd, lines: &[&str]) -> Result<(), KitError> {
        self.known.push(server.known_hosts());
        self.host(alias, "127.0.0.1", server.port(), server.user(), lines)
    }

    /// How long a client may run from now on before it is killed.
    pub fn patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// A client's command with its settings, for whoever wants to add to it or to run it otherwise. It sees nothing of the
    /// caller's agent, and a home folder of its own.
    ///
    /// # Errors
    /// When it is missing; the error names the package.
    pub fn command(&self, program: Program) -> Result<Command, KitError> {
        let mut command = Command::new(program.find()?);
        let config = self.config().display().to_string();
        match program {
            Program::Ssh | Program::Scp | Program::Sftp => {
                command.args(["-F", &config]);
            }
            Program::Rsync => {
                command.env("RSYNC_RSH", format!("ssh -F {config}"));
            }
            Program::Git => {
                command.env("GIT_SSH_COMMAND", format!("ssh -F {config}")).env("GIT_SSH_VARIANT", "ssh");
                command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
                command.env("GIT_TERMINAL_PROMPT", "0");
                for who in ["AUTHOR", "COMMITTER"] {
                    command.env(format!("GIT_{who}_NAME"), "a test").env(format!("GIT_{who}_EMAIL"), "test@localhost");
                }
            }
            Program::Ansible => {
                // As it does by itself, but for the time that the shared connection stays and for where.
                let shared = "-o ControlMaster=auto -o ControlPersist=20s";
                command.env("ANSIBLE_SSH_ARGS", format!("-F {config} {shared}"));
                command.env("ANSIBLE_SSH_CONTROL_PATH_DIR", self.path("control"));
                command.env("ANSIBLE_CONFIG", self.path("ansible.cfg")).env("ANSIBLE_HOME", self.path("home/.ansible"));
                command.env("ANSIBLE_LOCAL_TEMP", self.path("home/.ansible/tmp"));
                command.env("ANSIBLE_NOCOLOR", "1").env("ANSIBLE_DEPRECATION_WARNINGS", "0");
                command.env("ANSIBLE_LOCALHOST_WARNING", "0").env("ANSIBLE_PYTHON_INTERPRETER", "auto_silent");
            }
            Program::Sshd | Program::SshKeygen | Program::SshAudit => {}
        }
        for name in ["SSH_AUTH_SOCK", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "SSH_AGENT_PID", "DISPLAY"] {
            command.env_remove(name);
        }
        command.env("HOME", self.path("home")).env("TERM", "xterm").current_dir(self.dir.path());
        // Ansible refuses locales that aren't UTF-8.
        command.env("LC_ALL", "C.UTF-8").process_group(0);
        Ok(command)
    }

    /// Runs a client to its end with this on its stdin. Its failing is no error; not ending in time is one, and kills it.
    ///
    /// # Errors
    /// When it is missing, can't be started, or takes too long.
    pub fn run<A: AsRef<OsStr>>(&self, program: Program, arguments: &[A], stdin: &[u8]) -> Result<Ran, KitError> {
        let mut command = self.command(program)?;
        run_to_end(program.name(), command.args(arguments), stdin, self.patience)
    }

    /// Runs `ssh` without stdin: `["alias", "command"]`, options before them.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub fn ssh<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Ran, KitError> {
        self.run(Program::Ssh, arguments, b"")
    }

    /// Runs `scp`: sources, then the target, remote ones as `alias:/path`; `-O` for the old protocol.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub fn scp<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Ran, KitError> {
        self.run(Program::Scp, arguments, b"")
    }

    /// Runs `sftp` with these lines as its batch; it stops at the first one that fails, unless that begins with `-`.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub fn sftp(&self, alias: &str, batch: &str) -> Result<Ran, KitError> {
        self.run(Program::Sftp, &["-b", "-", alias], batch.as_bytes())
    }

    /// Runs `rsync`: options, sources, then the target, remote ones as `alias:/path`.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub fn rsync<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Ran, KitError> {
        self.run(Program::Rsync, arguments, b"")
    }

    /// Runs `git` in this folder; remote repositories are `alias:/path`.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub fn git<A: AsRef<OsStr>>(&self, folder: &Path, arguments: &[A]) -> Result<Ran, KitError> {
        let mut command = self.command(Program::Git)?;
        run_to_end("git", command.current_dir(folder).args(arguments), b"", self.patience)
    }

    /// Runs one module of `ansible` on a host: `ansible("alias", &["-m", "ping"])`. It makes a connection that stays for
    /// a while, PTYs, and files by SFTP.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub fn ansible<A: AsRef<OsStr>>(&self, alias: &str, arguments: &[A]) -> Result<Ran, KitError> {
        let mut command = self.command(Program::Ansible)?;
        command.args(["all", "-i", &format!("{alias},")]).args(arguments);
        run_to_end("ansible", &mut command, b"", self.patience)
    }

    /// Runs `ssh` on a terminal of its own. It asks nothing, as elsewhere; with `-o BatchMode=no` it does.
    ///
    /// # Errors
    /// When there is no terminal, or `ssh` can't be started.
    pub fn interactive<A: AsRef<OsStr>>(&self, arguments: &[A], size: Size) -> Result<Pty, KitError> {
        let mut command = Command::new(Program::Ssh.find()?);
        // Not in a group of its own like the others: the terminal's session has one.
        let plain = self.command(Program::Ssh)?;
        command.args(plain.get_args()).args(arguments).current_dir(self.dir.path());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Pty::spawn("ssh", &mut command, size)
    }

    fn write(&self) -> Result<(), KitError> {
        let mut text = String::new();
        for line in &self.options {
            text.push_str(&format!("{line}\n"));
        }
        self.hosts.iter().for_each(|block| text.push_str(block));
        text.push_str("Host *\n");
        match self.identities.as_slice() {
            // Without this it looks for `id_ed25519` and the like in the home folder.
            [] => text.push_str("  IdentityFile none\n"),
            some => some.iter().for_each(|line| text.push_str(&format!("  {line}\n"))),
        }
        text.push_str("  BatchMode yes\n  IdentitiesOnly yes\n  IdentityAgent none\n  StrictHostKeyChecking yes\n");
        text.push_str("  UpdateHostKeys no\n  GlobalKnownHostsFile /dev/null\n  ConnectTimeout 30\n");
        text.push_str(&format!("  UserKnownHostsFile {}\n", self.path("known_hosts").display()));
        text.push_str(&format!("  ControlPath {}\n", self.path("control/%C").display()));
        private(&self.config(), &text)?;
        // Without one of ours it looks in several places.
        private(&self.path("ansible.cfg"), "[defaults]\n")?;
        private(&self.path("known_hosts"), &self.known.concat())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let Ok(sockets) = fs::read_dir(self.path("control")) else { return };
        for socket in sockets.flatten() {
            let Ok(mut ssh) = self.command(Program::Ssh) else { return };
            // The host is not looked at, but must be there.
            ssh.arg("-S").arg(socket.path()).args(["-O", "exit", "none"]);
            let _ = run_to_end("ssh -O exit", &mut ssh, b"", AFTERWARDS);
        }
    }
}

/// Runs a command to its end with this on its stdin, its output captured byte for byte. It must be in a process group of
/// its own, which is killed when it takes too long.
///
/// # Errors
/// When it can't be started, or takes too long: with its stderr.
pub fn run_to_end(name: &str, command: &mut Command, stdin: &[u8], patience: Duration) -> Result<Ran, KitError> {
    let failed = |source| KitError::Spawn { program: name.to_owned(), source };
    command.stdin(if stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
    let begun = Instant::now();
    let mut child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(mut pipe) = child.stdin.take() {
        let stdin = stdin.to_owned();
        // From a thread, since it may want its output read first. Its stopping to read early is not our failure.
        std::thread::spawn(move || pipe.write_all(&stdin).ok());
    }
    let stdout = Collected::from(child.stdout.take().expect("stdout was piped above"));
    let stderr = Collected::from(child.stderr.take().expect("stderr was piped above"));
    let ended = loop {
        // Most clients close their output as the last thing they do; one that leaves a child with it has ended before.
        let closed = stdout.over(Duration::from_millis(50));
        if let Some(status) =
            soon(&mut child, if closed { patience.saturating_sub(begun.elapsed()) } else { Duration::ZERO })
        {
            break Some(status);
        }
        if begun.elapsed() >= patience {
            break None;
        }
    };
    let elapsed = begun.elapsed();
    let Some(status) = ended else {
        proc::send_to_group(child.id(), Signal::Kill);
        child.wait().ok();
        let what = format!("the end of `{name}`");
        let seen = String::from_utf8_lossy(&stderr.take()).into_owned();
        return Err(KitError::TimedOut { what, waited: patience, seen: run::tail(&seen).to_owned() });
    };
    stdout.over(AFTERWARDS);
    stderr.over(AFTERWARDS);
    let stderr = String::from_utf8_lossy(&stderr.take()).into_owned();
    Ok(Ran { status, stdout: stdout.take(), stderr, elapsed })
}

/// Waits for a child's end that is near. The first looks follow each other quickly, so that the time of what takes
/// milliseconds isn't blurred.
fn soon(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if begun.elapsed() >= patience {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// What a pipe has given so far.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    over: Receiver<()>,
}

impl Collected {
    fn from(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (end, over) = mpsc::channel();
        let collected = Arc::clone(&bytes);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                match pipe.read(&mut buffer) {
                    Ok(read @ 1..) => {
                        collected.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..read]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    _ => break,
                }
            }
            end.send(()).ok();
        });
        Self { bytes, over }
    }

    /// Waits until the pipe is closed, at most for so long; whether it is.
    fn over(&self, patience: Duration) -> bool {
        // The reader is gone once it has said so.
        !matches!(self.over.recv_timeout(patience), Err(RecvTimeoutError::Timeout))
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How `known_hosts` names a host.
fn known_name(address: &str, port: u16) -> String {
    if port == 22 { address.to_owned() } else { format!("[{address}]:{port}") }
}

fn private(path: &Path, text: &str) -> Result<(), KitError> {
    fs::write(path, text).map_err(KitError::file("write", path))?;
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(path, mode).map_err(KitError::file("change the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sshd::Options;
    use crate::{sshd, tree, wait};

    const SOON: Duration = Duration::from_secs(30);

    fn pair() -> (Sshd, Client) {
        let server = Sshd::start(Options::default()).unwrap();
        let client = Client::of(&server, "host").unwrap();
        (server, client)
    }

    #[test]
    fn ssh_gives_bytes_status_and_stderr_apart() {
        let (server, mut client) = pair();
        let ran = client.run(Program::Ssh, &["host", "cat; echo why >&2; exit 7"], b"a\0b\xff").unwrap();
        assert_eq!((ran.code(), ran.stdout.as_slice(), ran.stderr.trim()), (Some(7), b"a\0b\xff".as_slice(), "why"));
        let said = client.ssh(&["host", "id -un; echo $HOME"]).unwrap().ok().unwrap();
        assert_eq!(said, format!("{}\n{}\n", server.user(), server.home().display()));
        let big = vec![b'x'; 3 << 20];
        assert!(client.run(Program::Ssh, &["host", "cat"], &big).unwrap().stdout == big);

        client.patience(Duration::from_millis(700));
        let err = client.ssh(&["host", "sleep 60"]).unwrap_err();
        assert!(matches!(err, KitError::TimedOut { .. }), "{err}");
    }

    #[test]
    fn a_client_of_its_own_is_refused_and_an_unknown_host_is_not_trusted() {
        let (server, _) = pair();
        let mut stranger = Client::new().unwrap();
        stranger.host("host", "127.0.0.1", server.port(), server.user(), &[]).unwrap();
        let ran = stranger.ssh(&["host", "true"]).unwrap();
        assert!(ran.code() == Some(255) && ran.stderr.contains("Host key verification failed"), "{ran:?}");
        stranger.trust("127.0.0.1", server.port(), &server.host_keys()[0].public).unwrap();
        let ran = stranger.ssh(&["host", "true"]).unwrap();
        assert!(ran.code() == Some(255) && ran.stderr.contains("Permission denied (publickey)"), "{ran:?}");
    }

    #[test]
    fn files_go_both_ways_by_all_programs() {
        let (server, client) = pair();
        let (here, there) = (client.path("here"), server.home());
        fs::write(&here, b"content").unwrap();
        let (local, remote) = (here.display().to_string(), |name: &str| there.join(name).display().to_string());

        client.scp(&[&local, &format!("host:{}", remote("scp"))]).unwrap().ok().unwrap();
        client.scp(&["-O", &local, &format!("host:{}", remote("rcp"))]).unwrap().ok().unwrap();
        let listed = client.sftp("host", &format!("put {local} {}\nls -1 {}\n", remote("sftp"), remote(""))).unwrap();
        let listed = listed.ok().unwrap();
        assert!(["scp", "rcp", "sftp"].iter().all(|name| listed.contains(&remote(name))), "{listed}");
        let ran = client.sftp("host", &format!("get {} /dev/null\n", remote("absent"))).unwrap();
        assert!(ran.code() == Some(1) && ran.stderr.contains("not found"), "{ran:?}");
        if Program::Rsync.find().is_ok() {
            client.rsync(&["-a", &local, &format!("host:{}", remote("rsync"))]).unwrap().ok().unwrap();
            client
                .rsync(&["-a", &format!("host:{}", remote("rsync")), &format!("{local}-back")])
                .unwrap()
                .ok()
                .unwrap();
            assert_eq!(fs::read(format!("{local}-back")).unwrap(), b"content");
        }
        for name in ["scp", "rcp", "sftp"] {
            assert_eq!(fs::read(there.join(name)).unwrap(), b"content", "{name}");
        }
    }

    #[test]
    fn git_clones_and_pushes() {
        if Program::Git.find().is_err() {
            println!("skipped: no git");
            return;
        }
        let (server, client) = pair();
        let bare = server.home().join("repository.git").display().to_string();
        let root = client.path("");
        client.ssh(&["host", &format!("git init -q --bare {bare}")]).unwrap().ok().unwrap();
        client.git(&root, &["clone", "-q", &format!("host:{bare}"), "work"]).unwrap().ok().unwrap();
        let work = client.path("work");
        client.git(&work, &["commit", "-q", "--allow-empty", "-m", "first"]).unwrap().ok().unwrap();
        client.git(&work, &["push", "-q", "origin", "HEAD:refs/heads/main"]).unwrap().ok().unwrap();
        let log = client.ssh(&["host", &format!("git -C {bare} log --format=%s main")]).unwrap().ok().unwrap();
        assert_eq!(log, "first\n");
    }

    #[test]
    fn ansible_pings_over_a_connection_that_ends_with_the_client() {
        if Program::Ansible.find().is_err() || !sshd::gives_terminals() {
            println!("skipped: no ansible or no terminals");
            return;
        }
        let (server, client) = pair();
        let said = client.ansible("host", &["-m", "ping"]).unwrap().ok().unwrap();
        assert!(said.contains("pong"), "{said}");
        let listener = server.pid().unwrap();
        assert!(!tree::descendants(listener).is_empty(), "it shares its connection");
        drop(client);
        // Sooner than it would end by itself.
        let none = || tree::descendants(listener).is_empty().then_some(());
        wait::until(Duration::from_secs(10), "the shared connection's end", none).unwrap();
    }

    #[test]
    fn a_session_on_a_terminal_sees_its_size_and_ends_when_it_is_hung_up() {
        if !sshd::gives_terminals() {
            println!("skipped: no terminals");
            return;
        }
        let (server, client) = pair();
        let size = Size { columns: 101, rows: 33 };
        let script = "trap 'stty size' WINCH; echo $TERM; stty size; while :; do sleep 0.05; done";
        let mut pty = client.interactive(&["-tt", "host", script], size).unwrap();
        pty.expect("xterm\r\n33 101\r\n", SOON).unwrap();
        pty.resize(Size { columns: 90, rows: 20 }).unwrap();
        pty.expect("20 90", SOON).unwrap();
        pty.close();
        pty.wait(SOON).unwrap();
        let none = || tree::descendants(server.pid().unwrap()).is_empty().then_some(());
        wait::until(SOON, "the session's end", none).unwrap();

        let mut shell = client.interactive(&["host"], Size::default()).unwrap();
        shell.send("PS1='>''> '\r").unwrap();
        shell.expect(">> ", SOON).unwrap();
        shell.send("expr 6 '*' 7\r").unwrap();
        shell.expect("42\r\n", SOON).unwrap();
        shell.send("exit 3\r").unwrap();
        assert_eq!(shell.wait(SOON).unwrap().code(), Some(3));
    }

    #[test]
    fn a_command_that_leaves_a_child_behind_does_not_hold_us_up() {
        let mut command = Command::new("sh");
        let begun = Instant::now();
        let ran = run_to_end("sh", command.args(["-c", "sleep 60 2>&1 & echo $!"]), b"", SOON).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20), "{ran:?}");
        proc::send(ran.text().trim().parse().unwrap(), Signal::Kill);
    }
}
