//! Where the SSH benches take place: a target, a jump host before it, one client for all ways, and the data that goes
//! through them. Deliberately nothing of Onus: a way through it is given by whoever has one running.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use onus_testkit::ssh_client::Client;
use onus_testkit::ssh_keys::{KeyPair, Kind};
use onus_testkit::ssh_tools::Program;
use onus_testkit::sshd::{self, Forwarding, Options, Sshd};
use onus_testkit::{KitError, run, tree, wait};

use crate::step::Failure;

/// A way from the client to the target.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name in tables.
    pub name: &'static str,
    /// Its name in the JSON.
    pub key: &'static str,
    /// Options for `ssh`. They count before the yard's own settings.
    pub options: Vec<String>,
    /// What `ssh` connects to.
    pub destination: String,
    /// The processes in the middle; what they and all their descendants use is what the way costs.
    pub middle: Vec<u32>,
}

/// Everything that is running.
pub struct Yard {
    /// Whether fewer and shorter measurements do.
    pub quick: bool,
    /// Bytes that don't compress, in a file that target and client both see.
    pub bulk: PathBuf,
    /// How many.
    pub bulk_bytes: u64,
    /// Text like a log's.
    pub flood: PathBuf,
    /// How many bytes.
    pub flood_bytes: u64,
    /// How many lines: on a terminal each is one byte longer.
    pub flood_lines: u64,
    /// Whoever connects.
    client: Client,
    key: KeyPair,
    jump: Sshd,
    target: Sshd,
}

impl Route {
    /// A way by its two names (in tables, in the JSON), host and port, user, more arguments for `ssh` (`["-o", "…"]` are
    /// two), and the processes in the middle.
    pub fn to(
        (name, key): (&'static str, &'static str),
        (host, port): (&str, u16),
        user: &str,
        options: &[&str],
        middle: &[u32],
    ) -> Self {
        let mut all = vec!["-p".to_owned(), port.to_string(), "-l".to_owned(), user.to_owned()];
        all.extend(options.iter().map(|&option| option.to_owned()));
        Self { name, key, options: all, destination: host.to_owned(), middle: middle.to_vec() }
    }

    /// This text, or `–` if nothing is in the middle.
    pub fn shown(&self, text: String) -> String {
        if self.middle.is_empty() { "–".to_owned() } else { text }
    }
}

impl Yard {
    /// Starts the servers and makes the data.
    pub fn start(quick: bool) -> Result<Self, Failure> {
        let target = Sshd::start(Options::default())?;
        let jump = Sshd::start(Options { forwarding: Forwarding::Local, ..Options::default() })?;
        let mut client = Client::new()?;
        let key = client.new_key("id", Kind::Ed25519)?;
        client.identify(&key)?;
        for server in [&target, &jump] {
            server.authorize(&key.public)?;
            client.trust("127.0.0.1", server.port(), &server.host_keys()[0].public)?;
        }
        // As root would, sshd keeps no separate process for a session of root's; other people's sessions have one. No
        // shell is needed to be forwarded.
        let user = if run::is_root() { "nobody" } else { jump.user() };
        client.host("jump", "127.0.0.1", jump.port(), user, &[])?;
        client.option("LogLevel ERROR")?;
        // A middle that hangs fails the bench rather than to hang it too.
        client.option("ServerAliveInterval 20")?;
        if sshd::version().is_some_and(|version| version >= (9, 5)) {
            // It makes keys come every 20 ms, which is what would be measured.
            client.option("ObscureKeystrokeTiming no")?;
        }
        let (bulk, flood) = (target.home().join("bulk"), target.home().join("flood"));
        let bulk_bytes = write_bulk(&bulk, if quick { 60 } else { 300 })?;
        let (flood_bytes, flood_lines) = write_flood(&flood, if quick { 4 } else { 20 })?;
        Ok(Self { quick, bulk, bulk_bytes, flood, flood_bytes, flood_lines, client, key, jump, target })
    }

    /// OpenSSH alone: nothing in the middle, and its own jump host.
    pub fn routes(&self) -> Vec<Route> {
        let host = ("127.0.0.1", self.target.port());
        let middle: Vec<u32> = self.jump.pid().into_iter().collect();
        vec![
            Route::to(("direct", "direct"), host, self.target.user(), &[], &[]),
            Route::to(("OpenSSH jump host", "jump"), host, self.target.user(), &["-J", "jump"], &middle),
        ]
    }

    /// The server that all ways lead to: what a gateway is to connect to.
    pub fn target(&self) -> &Sshd {
        &self.target
    }

    /// The key that the target lets in.
    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    /// The target's processes.
    pub fn target_pids(&self) -> Vec<u32> {
        self.target.pid().into_iter().collect()
    }

    /// `ssh` on this way: options, then what is run.
    pub fn ssh(&self, route: &Route, options: &[&str], command: &str) -> Result<Command, Failure> {
        let mut plain = self.client.command(Program::Ssh)?;
        plain.args(&route.options).args(options).args([&route.destination, command]);
        // A new one, in our process group: a terminal of its own can't be given to the leader of a group.
        let mut ssh = Command::new(plain.get_program());
        ssh.args(plain.get_args());
        if let Some(folder) = plain.get_current_dir() {
            ssh.current_dir(folder);
        }
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => ssh.env(name, value),
                None => ssh.env_remove(name),
            };
        }
        Ok(ssh)
    }

    /// Waits until no session is left on the servers, so that what is measured next is alone.
    pub fn settle(&self) -> Result<(), Failure> {
        let pids: Vec<u32> = [self.target.pid(), self.jump.pid()].into_iter().flatten().collect();
        let none = || pids.iter().all(|&pid| tree::descendants(pid).is_empty()).then_some(());
        wait::until(Duration::from_secs(60), "the end of all sessions", none)?;
        // The middle may have something to do afterwards.
        std::thread::sleep(Duration::from_millis(200));
        Ok(())
    }
}

/// An `ssh` that runs, with its ends in our hands. Dropping it kills it.
pub struct Live {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    name: &'static str,
}

impl Live {
    /// Starts it, and waits until the remote command has said `ready`.
    pub fn start(yard: &Yard, route: &Route, options: &[&str], command: &str) -> Result<Self, Failure> {
        let mut live = Self::launch(yard, route, options, command)?;
        live.line("ready")?;
        Ok(live)
    }

    /// Starts it without waiting for anything.
    pub fn launch(yard: &Yard, route: &Route, options: &[&str], command: &str) -> Result<Self, Failure> {
        let mut ssh = yard.ssh(route, options, command)?;
        // Its stderr is for whoever runs the bench: there it says why it failed.
        let spawned = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut child = spawned.map_err(|source| KitError::Spawn { program: "ssh".to_owned(), source })?;
        let stdin = child.stdin.take().expect("stdin was piped above");
        let stdout = BufReader::with_capacity(256 * 1024, child.stdout.take().expect("stdout was piped above"));
        Ok(Self { child, stdin, stdout, name: route.name })
    }

    /// Waits for this line.
    pub fn line(&mut self, wanted: &str) -> Result<(), Failure> {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.stdout.read_line(&mut line);
            match read {
                Ok(0) | Err(_) => return Err(self.broken(&format!("ended before it said `{wanted}`"))),
                Ok(_) if line.trim_end() == wanted => return Ok(()),
                Ok(_) => {}
            }
        }
    }

    /// Reads so many bytes and forgets them.
    pub fn receive(&mut self, bytes: u64) -> Result<(), Failure> {
        let read = io::copy(&mut self.stdout.by_ref().take(bytes), &mut io::sink());
        if matches!(read, Ok(read) if read == bytes) {
            Ok(())
        } else {
            Err(self.broken(&format!("gave {read:?} of {bytes} bytes")))
        }
    }

    /// Writes a file's content.
    pub fn give(&mut self, file: &Path) -> Result<(), Failure> {
        let copied = fs::File::open(file).and_then(|mut file| io::copy(&mut file, &mut self.stdin));
        copied.and_then(|_| self.stdin.flush()).map_err(|error| self.broken(&error.to_string()))
    }

    fn broken(&self, why: &str) -> Failure {
        Failure::Step(format!("ssh, {}: {why}", self.name))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn write_bulk(path: &Path, megabytes: usize) -> Result<u64, Failure> {
    let failed = |error: io::Error| Failure::Step(format!("`{}`: {error}", path.display()));
    let mut piece = vec![0; 1_000_000];
    fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut piece)).map_err(failed)?;
    let mut file = fs::File::create(path).map_err(failed)?;
    for _ in 0..megabytes {
        file.write_all(&piece).map_err(failed)?;
    }
    Ok((megabytes * piece.len()) as u64)
}

fn write_flood(path: &Path, megabytes: usize) -> Result<(u64, u64), Failure> {
    let mut text = String::new();
    let mut lines = 0;
    while text.len() < megabytes * 1_000_000 {
        let (second, port) = (lines / 7 % 60, 1024 + lines * 31 % 60_000);
        text += &format!(
            "Jan 12 03:{:02}:{second:02} db-7 \x1b[32mpostgres\x1b[0m[{}]: LOG:  connection received: host=10.0.{}.{} port={port}\n",
            lines / 420 % 60,
            700 + lines % 90,
            lines % 13,
            lines * 7 % 251,
        );
        lines += 1;
    }
    fs::write(path, &text).map_err(|error| Failure::Step(format!("`{}`: {error}", path.display())))?;
    Ok((text.len() as u64, lines))
}
