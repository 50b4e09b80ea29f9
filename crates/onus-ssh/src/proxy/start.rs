//! What is started on a session channel: a command, a shell, a subsystem. From the client's request to the operations
//! that are decided and to the very bytes that go upstream if they are permitted.

use super::channel::{Channel, Terminal};
use super::tap::Tap;
use crate::actions::operation;
use crate::message::{self, joined, request};
use crate::scp;
use crate::transfer_commands::{git, rsync};
use bytes::Bytes;
use onus_core::operation::{Access, Object, Operation};
use onus_pep::Param;
use onus_shell::{Arg, Reading, Scene, Shell, envelope};

/// The longest command line that is taken in.
pub(super) const LONGEST_LINE: usize = 128 * 1024;

/// Variables that a client may set, besides `LC_*`. None of them makes a program run or load another.
pub(super) const VARIABLES: [&str; 8] =
    ["LANG", "LANGUAGE", "TZ", "COLORTERM", "NO_COLOR", "GIT_PROTOCOL", "TERM_PROGRAM", "CLICOLOR"];

/// Whether a client may set this variable.
pub(super) fn may_set(name: &str) -> bool {
    let letters = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    VARIABLES.contains(&name) || name.strip_prefix("LC_").is_some_and(letters)
}

/// What the client asked to be started.
#[derive(Debug, Clone)]
pub(super) enum Start {
    /// A command line.
    Exec(Bytes),
    /// A raw shell.
    Shell,
    /// A subsystem by name.
    Subsystem(String),
    /// A line of the governed shell, already read.
    Line(Box<Line>),
    /// A signal to the processes of a command that runs. The gateway's own; nothing of the client's is in it.
    Signal {
        /// The process group.
        group: u32,
        /// A name of [`SIGNALS`].
        name: &'static str,
    },
}

/// Signals that may be passed on (RFC 4254, section 6.10).
pub(super) const SIGNALS: [&str; 10] = ["INT", "TERM", "KILL", "HUP", "QUIT", "USR1", "USR2", "CONT", "STOP", "ALRM"];

/// The command line that signals process groups. Not every server takes a channel's own `signal` request: OpenSSH's
/// refuses it in root's sessions, and older ones do not know it.
pub fn signal_line(name: &str, groups: impl Iterator<Item = u32>) -> String {
    let groups: String = groups.filter(|group| *group > 1).map(|group| format!(" -{group}")).collect();
    format!("exec /bin/sh -c 'kill -s {name} --{groups}'")
}

/// Says the script's process group on the error stream, before anything else runs. The gateway takes the word out again.
fn announced(script: &str, marker: &str) -> String {
    format!("printf '%s%s\\n' {marker} \"$$\" >&2\n{script}")
}

/// A line of the governed shell.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub text: Bytes,
    pub reading: Reading,
    pub scene: Scene,
    /// Appended to the script to learn the directory afterwards.
    pub mark: Option<String>,
    /// Whether its output is for the gateway itself.
    pub captured: bool,
}

/// What waits for the other side's channel.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub start: Start,
    pub want: bool,
}

/// What was made of a start: what is decided, what is recorded, what is sent.
pub(super) struct Plan {
    pub operations: Vec<Operation>,
    pub text: Bytes,
    pub params: Vec<Param>,
    /// The packets for the other side; the last one is the request itself and wants a reply.
    pub packets: Bytes,
    pub tap: Option<Tap>,
    /// Whether a terminal is asked for.
    pub terminal: bool,
    /// Whether it will say its process group.
    pub announces: bool,
}

/// Makes the plan for a start on a channel that the other side has opened.
pub(super) fn plan(
    start: &Start,
    channel: &Channel,
    upstream: u32,
    shell: &Shell,
    scene: &Scene,
    marker: &str,
) -> Plan {
    match start {
        Start::Exec(line) => exec(line, channel, upstream, shell, scene, marker),
        Start::Signal { group, name } => {
            let line = signal_line(name, std::iter::once(*group));
            Plan {
                operations: Vec::new(),
                text: Bytes::from(line.clone()),
                params: Vec::new(),
                packets: request(upstream, "exec", true).string(line).done(),
                tap: None,
                terminal: false,
                announces: false,
            }
        }
        Start::Shell => {
            let mut packets = preparation(channel, upstream, true);
            packets.push(request(upstream, "shell", true).done());
            Plan {
                operations: vec![operation("ssh.shell")].into_iter().map(raw).collect(),
                text: Bytes::from_static(b"(raw shell)"),
                params: Vec::new(),
                packets: joined(packets),
                tap: None,
                terminal: channel.terminal.is_some(),
                announces: false,
            }
        }
        Start::Subsystem(name) => {
            let (operations, tap) = if name == "sftp" {
                (vec![operation("ssh.sftp")], Some(Tap::sftp()))
            } else {
                let mut unknown = operation("ssh.subsystem");
                unknown.opaque.insert(format!("the subsystem `{}` is not parsed", name.escape_default()));
                (vec![unknown], None)
            };
            let packets = vec![request(upstream, "subsystem", true).string(name).done()];
            let text = Bytes::from(format!("(subsystem {})", name.escape_default()));
            Plan {
                operations,
                text,
                params: Vec::new(),
                packets: joined(packets),
                tap,
                terminal: false,
                announces: false,
            }
        }
        Start::Line(line) => governed(line, channel, upstream, marker),
    }
}

/// Marks a raw shell as what cannot be known.
fn raw(mut shell: Operation) -> Operation {
    shell.opaque.insert("what is typed into a raw shell is recorded and cannot be decided".to_owned());
    shell
}

/// The requests that come before the start itself.
fn preparation(channel: &Channel, upstream: u32, variables: bool) -> Vec<Bytes> {
    let mut packets = Vec::new();
    if let Some(terminal) = &channel.terminal {
        packets.push(pty(upstream, terminal));
    }
    if channel.agent {
        packets.push(request(upstream, "auth-agent-req@openssh.com", false).done());
    }
    if let Some(x11) = &channel.x11 {
        packets.push(request(upstream, "x11-req", false).raw(x11).done());
    }
    if variables {
        for (name, value) in &channel.environment {
            packets.push(request(upstream, "env", false).string(name).string(value).done());
        }
    }
    packets
}

pub(super) fn pty(upstream: u32, terminal: &Terminal) -> Bytes {
    request(upstream, "pty-req", false)
        .string(&terminal.term)
        .number(terminal.columns)
        .number(terminal.rows)
        .number(terminal.pixels.0)
        .number(terminal.pixels.1)
        .string(&terminal.modes)
        .done()
}

/// The variables that go into the pinned environment of a command.
fn locale(channel: &Channel) -> Vec<(String, String)> {
    let mut variables = channel.environment.clone();
    if let Some(terminal) = &channel.terminal {
        variables.push(("TERM".to_owned(), terminal.term.clone()));
    }
    variables
}

fn exec(line: &Bytes, channel: &Channel, upstream: u32, shell: &Shell, scene: &Scene, marker: &str) -> Plan {
    let reading = shell.read(line, scene);
    // On a terminal the two streams are one, and what closes the terminal hangs up its processes.
    let announces = reading.script.is_some() && channel.terminal.is_none();
    let mut operations = reading.operations.clone();
    let mut tap = None;
    // Programs that speak a protocol of their own over the channel are known by it, not by a schema. Only where the line
    // does nothing else, not even to the shell itself: a `cd` before it is an operation and no command, and would make
    // its paths other paths than they are named.
    if let [only] = reading.commands.as_slice()
        && reading.operations.len() == 1
        && reading.script.is_some()
        && only.redirects.is_empty()
        && let Some(argv) = only.argv.iter().map(word).collect::<Option<Vec<_>>>()
        && let Some((known, parses)) = transfer(&argv)
    {
        operations = known;
        tap = parses;
    }
    let mut packets = preparation(channel, upstream, false);
    let mut params = Vec::new();
    match &reading.script {
        Some(script) => {
            let said = if announces { announced(script, marker) } else { script.clone() };
            let sent = Bytes::from(lent(envelope(&said, scene, &locale(channel)), channel));
            packets.push(request(upstream, "exec", true).string(&sent).done());
            let script = Bytes::from(script.clone());
            params.push(Param::Text { bytes: script.len(), shown: script });
        }
        // Permitted only to who may run what can't be known; then it runs as it was written.
        None => packets.push(request(upstream, "exec", true).string(line).done()),
    }
    Plan {
        operations,
        text: line.clone(),
        params,
        packets: joined(packets),
        tap,
        terminal: channel.terminal.is_some(),
        announces,
    }
}

/// A word as the transfer commands' own readers take it: a `~/` is the home directory there.
fn word(word: &Arg) -> Option<String> {
    match word.literal() {
        Some(text) if text.starts_with('~') => Some(format!("./{text}")),
        Some(text) => Some(text.to_owned()),
        None => word.on_host("~"),
    }
}

/// Lets the pinned environment have what the client lent and was permitted to: where its agent and its display are.
fn lent(line: String, channel: &Channel) -> String {
    let mut variables = String::new();
    if channel.agent {
        variables.push_str("\"SSH_AUTH_SOCK=$SSH_AUTH_SOCK\" ");
    }
    if channel.x11.is_some() {
        variables.push_str("\"DISPLAY=$DISPLAY\" ");
    }
    match line.split_once("/usr/bin/env -i ") {
        Some((before, after)) if !variables.is_empty() => format!("{before}/usr/bin/env -i {variables}{after}"),
        _ => line,
    }
}

/// A command that is the far end of a file transfer: its operations, and what parses its bytes.
fn transfer(argv: &[String]) -> Option<(Vec<Operation>, Option<Tap>)> {
    if let Some(command) = scp::parse_command(argv) {
        let operations = vec![command.operation().unwrap_or_else(|| operation("ssh.sftp"))];
        return Some((operations, Some(Tap::scp(&command))));
    }
    if let Some(command) = rsync::parse_command(argv) {
        return Some((command.operations(), None));
    }
    // git reads a leading `~` itself, quoted or not: what marks it as a letter for the others must come off again.
    let own: Vec<String> = argv
        .iter()
        .map(|word| word.strip_prefix("./~").map_or_else(|| word.clone(), |rest| format!("~{rest}")))
        .collect();
    if let Some(command) = git::parse_command(&own) {
        return Some((vec![command.operation()], None));
    }
    // What scp and sftp call by its path is the subsystem under another name.
    let server = ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"];
    if let [program] = argv
        && server.contains(&program.as_str())
    {
        return Some((vec![operation("ssh.sftp")], Some(Tap::sftp())));
    }
    None
}

fn governed(line: &Line, channel: &Channel, upstream: u32, marker: &str) -> Plan {
    let mut packets = Vec::new();
    let terminal = line.reading.needs_terminal && channel.terminal.is_some();
    let mut variables = channel.environment.clone();
    if let (true, Some(wanted)) = (terminal, &channel.terminal) {
        packets.push(pty(upstream, wanted));
        variables.push(("TERM".to_owned(), wanted.term.clone()));
    }
    let mut params = Vec::new();
    let mut operations = line.reading.operations.clone();
    if terminal {
        for operation in &mut operations {
            operation.facts.insert("terminal".to_owned());
        }
    }
    let sent = match &line.reading.script {
        Some(script) => {
            let script = match &line.mark {
                Some(mark) => format!("{script}\nonus=$?; printf '\\n%s%s\\n' '{mark}' \"$PWD\" >&2; exit \"$onus\""),
                None => script.clone(),
            };
            let shown = Bytes::from(script.clone());
            params.push(Param::Text { bytes: shown.len(), shown });
            let said = if terminal { script } else { announced(&script, marker) };
            Bytes::from(envelope(&said, &line.scene, &variables))
        }
        None => line.text.clone(),
    };
    packets.push(request(upstream, "exec", true).string(&sent).done());
    let announces = line.reading.script.is_some() && !terminal;
    Plan { operations, text: line.text.clone(), params, packets: joined(packets), tap: None, terminal, announces }
}

/// The operation of a forwarding to somewhere.
pub(super) fn endpoint(action: &'static str, host: &str, port: Option<u32>) -> Operation {
    let mut forward = operation(action);
    let name = match port {
        Some(port) if host.contains(':') => format!("[{host}]:{port}"),
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let kind = if port.is_some() { "endpoint" } else { "path" };
    forward.objects.insert(Object { access: Access::Execute, kind: kind.to_owned(), name, parts: Default::default() });
    if let Some(port) = port {
        forward.facts.insert(format!("port:{port}"));
    }
    forward
}

/// The packet that opens a session channel on the other side.
pub(super) fn open_session(id: u32, window: u32, packet: u32) -> Bytes {
    message::Packet::new(message::number::CHANNEL_OPEN)
        .string("session")
        .number(id)
        .number(window)
        .number(packet)
        .done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_tilde_is_a_letter_to_scp_and_somebodys_home_to_git() {
        let shell = Shell::new(std::sync::Arc::new(onus_shell::Schemas::shipped()));
        let names = |line: &'static str| -> Vec<String> {
            let line = Bytes::from_static(line.as_bytes());
            let plan = exec(&line, &Channel::new(Some(1), 0, 0), 2, &shell, &Scene::default(), "m");
            plan.operations.iter().flat_map(|o| &o.objects).map(|object| object.name.clone()).collect()
        };
        assert_eq!(names("git-upload-pack '~bob/a.git'"), ["~bob/a.git"]);
        assert_eq!(names("git-upload-pack '~/a.git'"), ["~/a.git"]);
        assert_eq!(names("scp -f '~bob'"), ["~/~bob"]);
    }

    #[test]
    fn no_variable_that_makes_programs_run_others_may_be_set() {
        for name in ["LANG", "LC_ALL", "LC_CTYPE", "TZ"] {
            assert!(may_set(name), "{name}");
        }
        for name in
            ["LD_PRELOAD", "BASH_ENV", "ENV", "PATH", "LC_", "LC_a", "LC_X=1", "GIT_SSH_COMMAND", "PAGER", "", "lang"]
        {
            assert!(!may_set(name), "{name}");
        }
    }
}
