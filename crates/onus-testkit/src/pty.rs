//! A program on a terminal of its own, driven as a person would: type, wait for what appears, resize, hang up.
//! Deliberately no terminal emulation: what appears is bytes, escape sequences included. Linux only.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::proc::{self, Signal};
use crate::{KitError, run, wait};

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

impl Default for Size {
    fn default() -> Self {
        Self { columns: 80, rows: 24 }
    }
}

/// A program whose stdin, stdout and stderr are a terminal, which also is its controlling one. Dropping it kills its
/// process group.
#[derive(Debug)]
pub struct Pty {
    name: String,
    child: Child,
    /// Our end of the terminal.
    master: File,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Everything that ever appeared.
    bytes: Vec<u8>,
    /// Up to where [`Pty::expect`] has used it.
    used: usize,
    /// Nothing more will appear.
    over: bool,
}

impl Pty {
    /// Starts the program on a new terminal, in a session of its own. `name` is what errors call it; arguments are never
    /// shown. What the command says of stdin, stdout and stderr doesn't count.
    ///
    /// # Errors
    /// When there is no terminal to be had, or the program can't be started.
    pub fn spawn(name: &str, command: &mut Command, size: Size) -> Result<Self, KitError> {
        let failed = |source| KitError::Spawn { program: name.to_owned(), source };
        let (master, theirs) = open(size).map_err(failed)?;
        let end = || theirs.try_clone().map(Stdio::from).map_err(failed);
        command.stdin(end()?).stdout(end()?).stderr(end()?);
        own_session(command);
        let child = command.spawn();
        // The command holds their end open otherwise, and we would never see that they have closed it.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.map_err(failed)?;
        let seen = Arc::new(Seen::default());
        let mut reader = master.try_clone().map_err(failed)?;
        let collected = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            // When the last of their ends is closed, Linux says EIO rather than end of file.
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                collected.lock().bytes.extend_from_slice(&buffer[..read]);
                collected.news.notify_all();
            }
            collected.lock().over = true;
            collected.news.notify_all();
        });
        Ok(Self { name: name.to_owned(), child, master, seen })
    }

    /// Its process id, which is also its group's and its session's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types this. A line's end is `\r`, as of the Enter key; `\x03` is Ctrl-C, `\x04` Ctrl-D.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn send(&self, text: impl AsRef<[u8]>) -> Result<(), KitError> {
        (&self.master).write_all(text.as_ref()).map_err(|source| KitError::File {
            action: "type into",
            path: self.name.clone().into(),
            source,
        })
    }

    /// Waits until this text appears, and gives everything up to its end since the last call; nothing that appeared in
    /// between is missed, and nothing is found twice. Remember that a terminal shows what is typed, and that it ends lines
    /// with `\r\n`.
    ///
    /// # Errors
    /// When it doesn't appear in time, or the program ends without it; with what appeared instead.
    pub fn expect(&self, text: &str, patience: Duration) -> Result<String, KitError> {
        let start = Instant::now();
        let wanted = text.as_bytes();
        let mut state = self.seen.lock();
        let mut searched = state.used;
        loop {
            if let Some(at) = find(&state.bytes[searched..], wanted) {
                let (from, to) = (state.used, searched + at + wanted.len());
                state.used = to;
                return Ok(String::from_utf8_lossy(&state.bytes[from..to]).into_owned());
            }
            // Its beginning may be there already.
            searched = state.bytes.len().saturating_sub(wanted.len().saturating_sub(1)).max(searched);
            let rest = String::from_utf8_lossy(&state.bytes[state.used..]);
            let rest = run::tail(&rest).to_owned();
            if state.over {
                let what = format!("`{text}`");
                return Err(KitError::Ended { program: self.name.clone(), what, output: rest });
            }
            let Some(left) = patience.checked_sub(start.elapsed()) else {
                let what = format!("`{text}` from `{}`", self.name);
                return Err(KitError::TimedOut { what, waited: patience, seen: rest });
            };
            state = self.seen.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything that ever appeared.
    pub fn seen(&self) -> Vec<u8> {
        self.seen.lock().bytes.clone()
    }

    /// Changes the terminal's size; the program in its foreground is told by SIGWINCH.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&self, size: Size) -> Result<(), KitError> {
        set_size(&self.master, size).map_err(|source| KitError::File {
            action: "resize the terminal of",
            path: self.name.clone().into(),
            source,
        })
    }

    /// Hangs up, as closing the terminal's window does: SIGHUP to the program's group. The program may ignore it.
    pub fn close(&mut self) {
        // Only while it isn't reaped: until then nobody else can have its id.
        if matches!(self.child.try_wait(), Ok(None)) {
            proc::send_to_group(self.child.id(), Signal::Hup);
        }
    }

    /// Waits for the program's end. What it wrote last may still be on its way; [`Pty::expect`] waits for that.
    ///
    /// # Errors
    /// When it doesn't end in time.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus, KitError> {
        let child = &mut self.child;
        wait::until(patience, &format!("the end of `{}`", self.name), || child.try_wait().ok().flatten())
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            proc::send_to_group(self.child.id(), Signal::Kill);
            self.child.wait().ok();
        }
    }
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A reader that panicked left whole pieces behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    match wanted {
        [] => Some(0),
        [first, ..] => {
            let starts = text.iter().enumerate().filter(|&(_, byte)| byte == first);
            starts.map(|(at, _)| at).find(|&at| text[at..].starts_with(wanted))
        }
    }
}

/// Both ends of a new terminal, neither of which any other child inherits.
#[allow(unsafe_code)]
fn open(size: Size) -> io::Result<(File, File)> {
    let master = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/ptmx")?;
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int through the pointer, which lives until the call is over (ioctl_tty(2)).
    if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags by value and touches no memory of ours.
    let theirs = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    if theirs < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
    let theirs = File::from(unsafe { OwnedFd::from_raw_fd(theirs) });
    set_size(&master, size)?;
    Ok((master, theirs))
}

#[allow(unsafe_code)]
fn set_size(master: &File, size: Size) -> io::Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one `winsize` through the pointer, which lives until the call is over.
    let result = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the child the leader of a session whose controlling terminal is its stdin.
#[allow(unsafe_code)]
fn own_session(command: &mut Command) {
    let lead = || {
        // SAFETY: setsid(2) takes nothing; TIOCSCTTY takes an int by value. Neither touches memory.
        let failed = unsafe { libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) != 0 };
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed: it makes two system
    // calls, and `last_os_error` reads errno without allocating.
    unsafe { command.pre_exec(lead) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Pty {
        Pty::spawn("sh", Command::new("sh").args(["-c", script]), Size { columns: 91, rows: 17 }).unwrap()
    }

    #[test]
    fn it_is_a_terminal_with_this_size_and_the_new_one_is_told() {
        let mut pty = shell("trap 'stty size' WINCH; tty; stty size; while :; do sleep 0.05; done");
        pty.expect("/dev/pts/", SOON).unwrap();
        pty.expect("17 91", SOON).unwrap();
        pty.resize(Size { columns: 132, rows: 50 }).unwrap();
        pty.expect("50 132", SOON).unwrap();
        pty.close();
        assert_eq!(pty.wait(SOON).unwrap().signal(), Some(libc::SIGHUP));
    }

    #[test]
    fn keys_are_echoed_and_ctrl_c_interrupts() {
        let mut pty = shell("echo ready; cat");
        pty.expect("ready\r\n", SOON).unwrap();
        pty.send("one\r").unwrap();
        assert_eq!(pty.expect("one\r\none\r\n", SOON).unwrap(), "one\r\none\r\n");
        pty.send("\x03").unwrap();
        assert_eq!(pty.wait(SOON).unwrap().signal(), Some(libc::SIGINT));
    }

    #[test]
    fn nothing_is_found_twice_and_an_end_is_told() {
        let pty = shell("printf 'aXbX'; sleep 0.1; printf 'cX'");
        assert_eq!(pty.expect("X", SOON).unwrap(), "aX");
        assert_eq!(pty.expect("X", SOON).unwrap(), "bX");
        assert_eq!(pty.expect("cX", SOON).unwrap(), "cX");
        let err = pty.expect("X", SOON).unwrap_err();
        assert!(matches!(err, KitError::Ended { .. }), "{err}");
        assert_eq!(pty.seen(), b"aXbXcX");
    }

    #[test]
    fn waiting_too_long_says_what_was_there() {
        let pty = shell("printf almost; sleep 60");
        pty.expect("alm", SOON).unwrap();
        let err = pty.expect("never", Duration::from_millis(100)).unwrap_err();
        assert!(matches!(err, KitError::TimedOut { .. }) && err.to_string().ends_with("ost"), "{err}");
    }
}
