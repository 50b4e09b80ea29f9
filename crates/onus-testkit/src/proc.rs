//! Children whose output is captured while they run, ending them hard, and what a process costs in memory and time.
//! Deliberately Linux only: the numbers come from `/proc` (see proc(5)).

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{KitError, run, wait};

/// A child process in a process group of its own, with stdout and stderr captured line by line, in the order in which
/// they came. Dropping it kills the whole group (and nothing else), so a failed test leaves nothing behind.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    lines: Arc<Lines>,
}

/// What a process has used until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory, in KiB.
    pub rss_kib: u64,
    /// The most resident memory that it ever had, in KiB.
    pub peak_rss_kib: u64,
    /// CPU time, user and system together, of all its threads but not of its children. In steps of 10 ms.
    pub cpu: Duration,
    /// Threads that it has now.
    pub threads: u64,
}

/// A signal to a process or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGKILL: nothing is flushed, nothing is tidied up.
    Kill,
    /// SIGSTOP: the process hangs, its connections stay open.
    Stop,
    /// SIGCONT: ends SIGSTOP.
    Cont,
    /// SIGHUP: often "read your configuration again".
    Hup,
}

#[derive(Debug, Default)]
struct Lines {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    open: usize,
}

impl Running {
    /// Starts it. `name` is what errors call it; arguments are never shown, since they may hold secrets.
    ///
    /// Stdin is `/dev/null` unless the command says otherwise through [`Running::spawn_with_stdin`].
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self, KitError> {
        Self::spawn_with_stdin(name, command, Stdio::null())
    }

    /// Starts it with this stdin; for a pipe take the other end with [`Running::child`].
    pub fn spawn_with_stdin(name: &str, command: &mut Command, stdin: Stdio) -> Result<Self, KitError> {
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|source| KitError::Spawn { program: name.to_owned(), source })?;
        let lines = Arc::new(Lines { state: Mutex::new(State { lines: Vec::new(), open: 2 }), news: Condvar::new() });
        Lines::collect(&lines, child.stdout.take().expect("stdout was piped above"));
        Lines::collect(&lines, child.stderr.take().expect("stderr was piped above"));
        Ok(Self { name: name.to_owned(), child, lines })
    }

    /// Its process id, which is also its group's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its stdin.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Everything it has written until now.
    pub fn output(&self) -> String {
        self.lines.lock().lines.concat()
    }

    /// Waits until it has written a line that [`matches`] the pattern, and gives that line (without its end). Lines
    /// written before the call count too, so nothing is missed.
    pub fn wait_for(&self, pattern: &str, patience: Duration) -> Result<String, KitError> {
        self.wait_for_nth(pattern, 1, patience)
    }

    /// Waits until `nth` lines (from 1) match, and gives the last of them.
    pub fn wait_for_nth(&self, pattern: &str, nth: usize, patience: Duration) -> Result<String, KitError> {
        let start = Instant::now();
        let mut state = self.lines.lock();
        loop {
            let found = state.lines.iter().filter(|line| matches(pattern, line)).nth(nth.saturating_sub(1));
            if let Some(line) = found {
                return Ok(line.trim_end_matches(['\n', '\r']).to_owned());
            }
            let what = format!("a line like `{pattern}`");
            let seen = run::tail(&state.lines.concat()).to_owned();
            if state.open == 0 {
                return Err(KitError::Ended { program: self.name.clone(), what, output: seen });
            }
            let Some(left) = patience.checked_sub(start.elapsed()) else {
                return Err(KitError::TimedOut {
                    what: format!("{what} from `{}`", self.name),
                    waited: patience,
                    seen,
                });
            };
            state = self.lines.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus, KitError> {
        let what = format!("the end of `{}`", self.name);
        let ended = wait::until(patience, &what, || self.ended());
        ended.map_err(|err| match err {
            KitError::TimedOut { what, waited, .. } => {
                KitError::TimedOut { what, waited, seen: run::tail(&self.output()).to_owned() }
            }
            other => other,
        })
    }

    /// Sends it a signal: to this process, not to its group. Nothing happens if it has ended.
    pub fn signal(&mut self, signal: Signal) {
        // A process that was reaped may have given its id to another; one that wasn't keeps it.
        if self.ended().is_none() {
            send(self.pid(), signal);
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill9(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// What it has used until now.
    pub fn usage(&self) -> Option<Usage> {
        usage(self.pid())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The group first, while the child is not reaped yet: until then no other process or group can have its id.
        send_to_group(self.child.id(), Signal::Kill);
        self.child.wait().ok();
    }
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A reader that panicked left whole lines behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn collect(lines: &Arc<Self>, from: impl Read + Send + 'static) {
        let lines = Arc::clone(lines);
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                lines.lock().lines.push(String::from_utf8_lossy(&line).into_owned());
                lines.news.notify_all();
                line.clear();
            }
            lines.lock().open -= 1;
            lines.news.notify_all();
        });
    }
}

/// Whether `line` holds the pieces of `pattern` between its `*`s, one after the other. No other character is special,
/// so `listening on *:8443` finds `onus: listening on 127.0.0.1:8443`.
pub fn matches(pattern: &str, line: &str) -> bool {
    let mut rest = line;
    pattern.split('*').all(|piece| match rest.find(piece) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

/// What a process has used until now; `None` if there is no such process or it is a zombie.
pub fn usage(pid: u32) -> Option<Usage> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold spaces and parentheses; the third follows the last `)`.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let ticks = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let cpu = Duration::from_millis((ticks(14)? + ticks(15)?) * 1000 / TICKS_PER_SECOND);
    Some(Usage { rss_kib: field("VmRSS")?, peak_rss_kib: field("VmHWM")?, cpu, threads: field("Threads")? })
}

/// `USER_HZ`: 100 on every architecture that Linux shows to user space, whatever the kernel's own tick is (time(7)).
const TICKS_PER_SECOND: u64 = 100;

/// Sends a signal to one process. Whether it was there is not told: it may end at any time.
pub fn send(pid: u32, signal: Signal) {
    if let Ok(pid) = libc::pid_t::try_from(pid)
        && pid > 0
    {
        raw_kill(pid, signal);
    }
}

/// Sends a signal to a process group that this process started.
pub(crate) fn send_to_group(group: u32, signal: Signal) {
    // 0 and 1 would mean our own group, and every process there is.
    if let Ok(group) = libc::pid_t::try_from(group)
        && group > 1
    {
        raw_kill(-group, signal);
    }
}

#[allow(unsafe_code)]
fn raw_kill(target: libc::pid_t, signal: Signal) {
    let number = match signal {
        Signal::Term => libc::SIGTERM,
        Signal::Int => libc::SIGINT,
        Signal::Quit => libc::SIGQUIT,
        Signal::Kill => libc::SIGKILL,
        Signal::Stop => libc::SIGSTOP,
        Signal::Cont => libc::SIGCONT,
        Signal::Hup => libc::SIGHUP,
    };
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    unsafe { libc::kill(target, number) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Running {
        Running::spawn("sh", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn lines_are_found_whether_they_came_before_or_after() {
        let child = shell("echo first; sleep 0.1; echo 'listening on 127.0.0.1:8443' >&2; sleep 60");
        assert_eq!(child.wait_for("listening on *:8443", SOON).unwrap(), "listening on 127.0.0.1:8443");
        assert_eq!(child.wait_for("first", SOON).unwrap(), "first");
        assert_eq!(child.wait_for_nth("i", 2, SOON).unwrap(), "listening on 127.0.0.1:8443");
    }

    #[test]
    fn patterns() {
        assert!(matches("a*c", "xxabcx"));
        assert!(matches("", "anything"));
        assert!(!matches("c*a", "abc"));
        assert!(!matches("ab*b", "ab"), "a piece can't use what the one before it used");
    }

    #[test]
    fn waiting_for_a_child_that_ended_says_so_with_its_output() {
        let child = shell("echo 'no such file'; exit 1");
        let err = child.wait_for("ready", SOON).unwrap_err();
        assert!(matches!(err, KitError::Ended { .. }) && err.to_string().contains("no such file"), "{err}");
    }

    #[test]
    fn waiting_too_long_says_so() {
        let child = shell("echo something; sleep 60");
        child.wait_for("something", SOON).unwrap();
        let err = child.wait_for("ready", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(err, KitError::TimedOut { .. }) && err.to_string().contains("something"), "{err}");
    }

    #[test]
    fn kill9_ends_it_at_once() {
        use std::os::unix::process::ExitStatusExt;
        let mut child = shell("trap '' TERM; echo up; while :; do sleep 1; done");
        child.wait_for("up", SOON).unwrap();
        child.kill9();
        assert_eq!(child.wait(SOON).unwrap().signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn dropping_it_ends_its_grandchildren_too() {
        let child = shell("sleep 300 & echo $!; wait");
        let grandchild: u32 = child.wait_for("", SOON).unwrap().parse().unwrap();
        assert!(usage(grandchild).is_some());
        drop(child);
        wait::until(SOON, "the grandchild's end", || usage(grandchild).is_none().then_some(())).unwrap();
    }

    #[test]
    fn usage_counts_cpu_time_and_memory() {
        let child = shell("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; sleep 60");
        child.wait_for("done", Duration::from_secs(60)).unwrap();
        let used = child.usage().unwrap();
        assert!(used.cpu >= Duration::from_millis(10), "{used:?}");
        assert!(used.rss_kib > 100 && used.peak_rss_kib >= used.rss_kib && used.threads == 1, "{used:?}");
        assert_eq!(usage(u32::MAX), None);
    }
}
