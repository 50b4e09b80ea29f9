//! The SSH connection protocol as the machine sees it: packets in, frames and replies out.
//!
//! The gateway ends the transport on both sides; what comes here are the packets of RFC 4254. Channel numbers are the
//! gateway's own on both sides. A session channel is answered by the gateway itself, and opened upstream only for
//! something that is to be started on it; of what is refused, the host sees an empty channel that opens and closes.
//! Windows are passed from end to end: no side is sent more than it asked for, and nothing is kept but what a decision
//! holds up.
//!
//! It knows nothing of policy, and nothing of the cryptography below.

mod channel;
mod governed;
mod refusal;
mod replies;
mod start;
mod tap;
#[cfg(test)]
mod tests;

use crate::actions::operation;
use crate::message::{self, Fields, PREFIX, Packet, bare, data, error_data, next, number, request};
use bytes::{Bytes, BytesMut};
use channel::{Channel, Exit, SLACK, State, Terminal, WAITING};
use foldhash::fast::FixedState;
use governed::{Act, Governed};
use onus_core::operation::Operation;
use onus_core::view::View;
use onus_pep::{
    Digest, Done, EndCause, Forbidden, Frame, Next, OpNo, Param, Protocol, Refusal, Replacement, Reply, Stage,
    Statement, StatementId, Tape, Track, Violation,
};
use onus_shell::{Scene, Shell};
use onus_terminal::EchoTracker;
use sha2::Digest as _;
pub use start::signal_line;
use start::{LONGEST_LINE, Line, Pending, Start, may_set};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use tap::{Asked, Piece, Tap};

/// The global request by which a host reports what its kernel enforces: one string, its claims. The place for tier
/// *sealed*; until a report is proven, it is recorded and changes nothing.
pub const ASSURANCE: &str = "assurance@onus";

/// The longest report.
const CLAIMS: usize = 4096;

/// Channels at one time in one session.
const CHANNELS: usize = 256;

/// What a session brings from outside.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose session it is, for prompts.
    pub subject: String,
    /// What is reached, for prompts.
    pub resource: String,
    /// The account on the other side.
    pub login: String,
    /// Whether a shell is a raw one: then the session's tier is *observed*.
    pub raw_shell: bool,
    /// Bytes of a command's output that are recorded where it is no terminal's; all of a terminal's are.
    pub record_output: u64,
    /// Whether typed input is recorded (only ever what was echoed).
    pub record_input: bool,
    /// A word that nobody can guess: marks what the gateway's own part of a script says.
    pub marker: String,
    /// Seeds the hashing of texts, so that nobody can choose texts that collide.
    pub seed: u64,
}

/// What runs on a channel of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Our number of the channel.
    pub channel: u32,
    /// The other side's.
    pub upstream: u32,
    /// Its process group, where that is known.
    pub group: Option<u32>,
}

/// The protocol's own note about a frame.
pub struct Kind(Note);

enum Note {
    /// Only has its place in the order.
    Plain,
    Terminal {
        id: u32,
        want: bool,
        terminal: Terminal,
    },
    Variable {
        id: u32,
        want: bool,
        name: String,
        value: String,
    },
    Agent {
        id: u32,
        want: bool,
    },
    Display {
        id: u32,
        want: bool,
        rest: Bytes,
    },
    /// The governed shell.
    Governed {
        id: u32,
        want: bool,
    },
    /// A line of it that changes only what the gateway keeps.
    Scene {
        id: u32,
        line: Box<Line>,
    },
    Start {
        id: u32,
        want: bool,
        tap: RefCell<Option<Box<Tap>>>,
        line: Option<Box<Line>>,
        announces: bool,
    },
    /// A forwarding that the client opens.
    Forward {
        id: u32,
    },
    /// A global request.
    Listen {
        want: bool,
    },
    /// A request of a file transfer.
    Transfer {
        id: u32,
        piece: Box<Asked>,
    },
}

/// An answer to a global request that the client waits for.
enum Owed {
    /// The other side gives it.
    Upstream,
    /// It is known.
    Ours(Bytes),
}

/// The SSH connection protocol of one session.
pub struct SshProtocol {
    shell: Arc<Shell>,
    options: Options,
    hash: FixedState,
    channels: BTreeMap<u32, Channel>,
    next_id: u32,
    /// What is to be handed to the machine, in order.
    ready: VecDeque<Next<Kind>>,
    /// Channels that may have requests waiting.
    woken: VecDeque<u32>,
    /// The client's global requests that are not answered yet.
    owed: VecDeque<Owed>,
    /// Whether the resource may open channels to the client for a port or socket that was asked for.
    listening: bool,
    no_more_sessions: bool,
    /// Pieces of tape of the upstream bytes at hand, to be put into one.
    gathered: Vec<(usize, u32, Track, BytesMut)>,
}

impl SshProtocol {
    /// A session's protocol.
    pub fn new(shell: Arc<Shell>, options: Options) -> Self {
        Self {
            hash: FixedState::with_seed(options.seed),
            shell,
            options,
            channels: BTreeMap::new(),
            next_id: 0,
            ready: VecDeque::new(),
            woken: VecDeque::new(),
            owed: VecDeque::new(),
            listening: false,
            no_more_sessions: false,
            gathered: Vec::new(),
        }
    }

    /// What runs: what a kill must end.
    pub fn running(&self) -> Vec<Process> {
        let running = |channel: &Channel| channel.session && matches!(channel.state, State::Running);
        let process = |(id, channel): (&u32, &Channel)| {
            Some(Process { channel: *id, upstream: channel.upstream?, group: channel.group })
        };
        self.channels.iter().filter(|(_, channel)| running(channel)).filter_map(process).collect()
    }

    /// What a script's word about its process group begins with.
    fn group_mark(&self) -> String {
        format!("{}p", self.options.marker)
    }

    fn say(&mut self, bytes: Bytes) {
        self.ready.push_back(Next::Say(bytes));
    }

    fn tape(&mut self, lane: u32, track: Track, bytes: impl Into<Bytes>) {
        self.ready.push_back(Next::Tape(Tape { lane, track, bytes: bytes.into() }));
    }

    /// A packet of ours for the other side that carries no operation.
    fn send(&mut self, lane: u32, bytes: Bytes) {
        let mut frame = Frame::plain(bytes, Kind(Note::Plain));
        frame.lane = lane;
        self.ready.push_back(Next::Frame(frame));
    }

    fn scene(&self) -> Scene {
        Scene { user: Some(self.options.login.clone()), ..Scene::default() }
    }

    /// A frame with operations.
    fn ask(
        &self,
        lane: u32,
        bytes: Bytes,
        operations: Vec<Operation>,
        text: Bytes,
        params: Vec<Param>,
        note: Note,
    ) -> Frame<Kind> {
        // Operations, not the text: the same text may mean another thing in another directory.
        let id = StatementId(self.hash.hash_one(&operations));
        Frame {
            bytes,
            statement: Some(Arc::new(Statement::new(id, operations))),
            stage: Stage::Run,
            text,
            params,
            forbidden: None,
            farewell: false,
            lane,
            kind: Kind(note),
        }
    }

    /// Takes in one packet of the client's. Bulk data comes back at once, everything else by way of `ready`.
    fn packet(&mut self, mut packet: BytesMut) -> Result<Option<Next<Kind>>, Violation> {
        let malformed = || Violation::new("malformed", "a malformed packet");
        let mut fields = Fields(&packet[PREFIX..]);
        let number = fields.byte().ok_or_else(malformed)?;
        match number {
            number::CHANNEL_DATA => {
                let id = fields.number().ok_or_else(malformed)?;
                let length = fields.string().ok_or_else(malformed)?.len();
                return self.client_data(id, length, packet);
            }
            number::CHANNEL_WINDOW_ADJUST => {
                let (id, more) = fields.number().zip(fields.number()).ok_or_else(malformed)?;
                self.client_adjust(id, more)?;
            }
            number::CHANNEL_REQUEST => {
                let id = fields.number().ok_or_else(malformed)?;
                self.channel_of_client(id)?;
                let packet = packet.split().freeze();
                self.client_request(id, packet)?;
            }
            number::CHANNEL_OPEN => self.client_open(&packet.split().freeze())?,
            number::CHANNEL_EOF => {
                let id = fields.number().ok_or_else(malformed)?;
                self.client_eof(id)?;
            }
            number::CHANNEL_CLOSE => {
                let id = fields.number().ok_or_else(malformed)?;
                self.client_close(id)?;
            }
            number::GLOBAL_REQUEST => self.global(&packet.split().freeze())?,
            number::CHANNEL_OPEN_CONFIRMATION => {
                // To a channel that the resource opened.
                let id = fields.number().ok_or_else(malformed)?;
                let sender = fields.number().ok_or_else(malformed)?;
                let rest = Bytes::copy_from_slice(fields.0);
                let channel = self.channel_of_client(id)?;
                let (State::Opening(_) | State::Deciding, Some(upstream), None) =
                    (&channel.state, channel.upstream, channel.client)
                else {
                    return Err(Violation::new("channel", "a confirmation that nobody waits for"));
                };
                channel.client = Some(sender);
                channel.state = State::Running;
                let answer = Packet::of(number, upstream).number(id).raw(&rest).done();
                self.send(id, answer);
            }
            number::CHANNEL_OPEN_FAILURE => {
                let id = fields.number().ok_or_else(malformed)?;
                let rest = Bytes::copy_from_slice(fields.0);
                let channel = self.channel_of_client(id)?;
                let (Some(upstream), None) = (channel.upstream, channel.client) else {
                    return Err(Violation::new("channel", "a failure that nobody waits for"));
                };
                self.channels.remove(&id);
                self.send(id, Packet::of(number, upstream).raw(&rest).done());
            }
            // Answers to requests of the resource's: none that wants one is passed on.
            number::CHANNEL_SUCCESS | number::CHANNEL_FAILURE | number::REQUEST_SUCCESS | number::REQUEST_FAILURE => {}
            number::CHANNEL_EXTENDED_DATA => {
                return Err(Violation::new("channel", "a client sends no error stream"));
            }
            _ => self.say(Packet::new(number::UNIMPLEMENTED).number(0).done()),
        }
        Ok(None)
    }

    fn channel_of_client(&mut self, id: u32) -> Result<&mut Channel, Violation> {
        let known = self.channels.get_mut(&id).filter(|channel| channel.parent.is_none() && !channel.client_closed);
        known.ok_or_else(|| Violation::new("channel", "a channel that is not open"))
    }

    fn client_data(&mut self, id: u32, length: usize, mut packet: BytesMut) -> Result<Option<Next<Kind>>, Violation> {
        let channel = self.channel_of_client(id)?;
        channel.bytes_in += length as u64;
        match (&mut channel.state, channel.upstream) {
            (State::Running, Some(upstream)) => {
                if channel.tap.is_some() {
                    self.transfer(id, packet.split_off(PREFIX + 9))?;
                    return Ok(None);
                }
                packet[PREFIX + 1..PREFIX + 5].copy_from_slice(&upstream.to_be_bytes());
                // Typed into a terminal: recorded when its echo comes.
                if channel.terminal.is_some() {
                    let typed = packet.clone().split_off(PREFIX + 9);
                    replies::typed(channel, &typed);
                }
                let mut frame = Frame::plain(packet.freeze(), Kind(Note::Plain));
                frame.lane = id;
                Ok(Some(Next::Frame(frame)))
            }
            (State::Governed(shell), _) => {
                let typed = packet.split_off(PREFIX + 9).freeze();
                let acts = shell.typed(&typed);
                self.acts(id, acts);
                Ok(None)
            }
            // What comes after the end has nobody to go to.
            (State::Over, _) => Ok(None),
            _ => Err(Violation::new("window", "data before there was a window for it")),
        }
    }

    /// Bytes of a file transfer: requests are decided, the rest keeps its place in the order. With no bytes it goes on
    /// with what waits, after an answer or a decision.
    fn transfer(&mut self, id: u32, bytes: BytesMut) -> Result<(), Violation> {
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
        let (Some(tap), Some(upstream), Some(client)) = (&mut channel.tap, channel.upstream, channel.client) else {
            return Ok(());
        };
        let (largest, clients) = (channel.upstream_packet, channel.packet);
        let cut = tap.client(bytes).map_err(|text| Violation::new("transfer", text))?;
        let over = tap.is_over();
        for Piece { bytes, asked } in cut.pieces {
            let packets = if bytes.is_empty() { Bytes::new() } else { data(upstream, &bytes, largest) };
            let Some(asked) = asked else {
                self.send(id, packets);
                continue;
            };
            let (operations, text, forbidden) = (asked.operations.clone(), asked.text.clone(), asked.forbidden.clone());
            let note = Note::Transfer { id, piece: Box::new(asked) };
            let mut frame = self.ask(id, packets, operations, text, Vec::new(), note);
            frame.forbidden = forbidden.map(|why| Forbidden { code: "transfer", why });
            self.ready.push_back(Next::Frame(frame));
        }
        for answer in cut.to_client {
            self.say(data(client, &answer, clients));
        }
        for note in cut.notes {
            self.tape(id, Track::Marker, note);
        }
        if cut.swallowed > 0 {
            self.say(Packet::of(number::CHANNEL_WINDOW_ADJUST, client).number(cut.swallowed as u32).done());
        }
        if over {
            self.drop_upstream(id);
        }
        Ok(())
    }

    /// A transfer may go on after a decision.
    fn again(&mut self, id: u32) {
        if self.transfer(id, BytesMut::new()).is_err() {
            // What can't be understood any more ends its channel, and nothing else.
            self.drop_upstream(id);
        }
    }

    fn client_adjust(&mut self, id: u32, more: u32) -> Result<(), Violation> {
        let channel = self.channel_of_client(id)?;
        match (&mut channel.state, channel.upstream) {
            (State::Governed(shell), _) => {
                let acts = shell.adjust(more);
                self.acts(id, acts);
            }
            (State::Running, Some(upstream)) if channel.session => {
                // First what our own words took, then the other side.
                let missing = SLACK.saturating_sub(channel.window).min(more);
                channel.window += missing;
                if more > missing {
                    self.send(id, Packet::of(number::CHANNEL_WINDOW_ADJUST, upstream).number(more - missing).done());
                }
            }
            (State::Running, Some(upstream)) => {
                self.send(id, Packet::of(number::CHANNEL_WINDOW_ADJUST, upstream).number(more).done());
            }
            _ => channel.window = channel.window.saturating_add(more),
        }
        Ok(())
    }

    fn client_open(&mut self, packet: &Bytes) -> Result<(), Violation> {
        let malformed = || Violation::new("malformed", "a malformed channel request");
        let mut fields = Fields(&packet[PREFIX + 1..]);
        let kind = fields.text().ok_or_else(malformed)?.to_owned();
        let sender = fields.number().ok_or_else(malformed)?;
        let window = fields.number().ok_or_else(malformed)?;
        let largest = fields.number().ok_or_else(malformed)?;
        let fail = |reason: u32, text: &str| {
            Packet::of(number::CHANNEL_OPEN_FAILURE, sender).number(reason).string(text).string("").done()
        };
        if self.channels.len() >= CHANNELS {
            self.say(fail(4, "onus: too many channels in one session"));
            return Ok(());
        }
        if kind == "session" && self.no_more_sessions {
            self.say(fail(1, "onus: the client itself ruled out further sessions"));
            return Ok(());
        }
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).ok_or_else(|| Violation::new("channel", "no numbers left"))?;
        let mut channel = Channel::new(Some(sender), window, largest);
        if kind == "session" {
            // The window comes when something runs that takes data.
            let confirm = Packet::of(number::CHANNEL_OPEN_CONFIRMATION, sender).number(id).number(0).number(32 * 1024);
            self.channels.insert(id, channel);
            self.say(confirm.done());
            return Ok(());
        }
        channel.session = false;
        channel.state = State::Deciding;
        let bad = || Violation::new("malformed", "a malformed forwarding");
        let (asked, text) = match kind.as_str() {
            "direct-tcpip" => {
                let (host, port) = fields.text().map(str::to_owned).zip(fields.number()).ok_or_else(bad)?;
                (start::endpoint("ssh.forward", &host, Some(port)), format!("(forward to {host}:{port})"))
            }
            "direct-streamlocal@openssh.com" => {
                let path = fields.text().ok_or_else(bad)?.to_owned();
                (start::endpoint("ssh.socket", &path, None), format!("(forward to {path})"))
            }
            _ => {
                let mut unknown = operation("ssh.opaque");
                unknown.opaque.insert(format!("the channel type `{}` is not known", kind.escape_default()));
                (unknown, format!("(channel {})", kind.escape_default()))
            }
        };
        let rest = &packet[PREFIX + 1 + 4 + kind.len() + 12..];
        let open =
            Packet::new(number::CHANNEL_OPEN).string(&kind).number(id).number(window).number(largest).raw(rest).done();
        self.channels.insert(id, channel);
        let unknown = asked.action == "ssh.opaque";
        let mut frame = self.ask(id, open, vec![asked], text.into(), Vec::new(), Note::Forward { id });
        if unknown {
            let why = "the gateway passes on no channel of a kind that it does not know".to_owned();
            frame.forbidden = Some(Forbidden { code: "channel", why });
        }
        self.ready.push_back(Next::Frame(frame));
        Ok(())
    }

    /// Takes in a request, or keeps it while an earlier one of its channel is being decided.
    fn client_request(&mut self, id: u32, packet: Bytes) -> Result<(), Violation> {
        let channel = self.channel_of_client(id)?;
        if channel.deciding || matches!(channel.state, State::Opening(_)) {
            if channel.inbox.len() >= WAITING {
                return Err(Violation::new("channel", "too many requests that wait"));
            }
            channel.inbox.push_back(packet);
            return Ok(());
        }
        self.request(id, &packet)
    }

    fn request(&mut self, id: u32, packet: &Bytes) -> Result<(), Violation> {
        let malformed = || Violation::new("malformed", "a malformed channel request");
        let mut fields = Fields(&packet[PREFIX + 5..]);
        let kind = fields.text().ok_or_else(malformed)?;
        let want = fields.flag().ok_or_else(malformed)?;
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
        let client = channel.client.unwrap_or_default();
        let answer = |number: u8| if want { Some(bare(number, client)) } else { None };
        let fresh = channel.session && matches!(channel.state, State::Fresh);
        let frame = match kind {
            "pty-req" if fresh && channel.terminal.is_none() => {
                let term = fields.text().ok_or_else(malformed)?.to_owned();
                let mut sizes = [0u32; 4];
                for size in &mut sizes {
                    *size = fields.number().ok_or_else(malformed)?;
                }
                let modes = Bytes::copy_from_slice(fields.string().ok_or_else(malformed)?);
                let mut asked = operation("ssh.pty");
                asked.facts.insert(format!("term:{term}"));
                let terminal =
                    Terminal { term, columns: sizes[0], rows: sizes[1], pixels: (sizes[2], sizes[3]), modes };
                let text = Bytes::from(format!("(terminal {}x{})", terminal.columns, terminal.rows));
                self.ask(id, Bytes::new(), vec![asked], text, Vec::new(), Note::Terminal { id, want, terminal })
            }
            "env" if fresh => {
                let name = fields.text().ok_or_else(malformed)?.to_owned();
                let value = fields.text().ok_or_else(malformed)?.to_owned();
                let allowed = may_set(&name) && plain(&value) && channel.environment.len() < WAITING;
                let mut asked = operation("ssh.env");
                asked.facts.insert(format!("variable:{name}"));
                let text = Bytes::from(format!("(env {name}={value})"));
                let why = format!("the variable `{}` is not one that may be set", name.escape_default());
                let note = Note::Variable { id, want, name, value };
                let mut frame = self.ask(id, Bytes::new(), vec![asked], text, Vec::new(), note);
                frame.forbidden = (!allowed).then_some(Forbidden { code: "env", why });
                frame
            }
            "auth-agent-req@openssh.com" if fresh => {
                let text = Bytes::from_static(b"(lend the agent)");
                self.ask(id, Bytes::new(), vec![operation("ssh.agent")], text, Vec::new(), Note::Agent { id, want })
            }
            "x11-req" if fresh => {
                let rest = Bytes::copy_from_slice(fields.0);
                let text = Bytes::from_static(b"(lend the display)");
                let note = Note::Display { id, want, rest };
                self.ask(id, Bytes::new(), vec![operation("ssh.x11")], text, Vec::new(), note)
            }
            "shell" if fresh && !self.options.raw_shell => {
                let text = Bytes::from_static(b"(governed shell)");
                let asked = vec![operation("ssh.governed_shell")];
                self.ask(id, Bytes::new(), asked, text, Vec::new(), Note::Governed { id, want })
            }
            "shell" if fresh => return self.begin(id, Start::Shell, want),
            "exec" if fresh => {
                let line = fields.string().ok_or_else(malformed)?;
                if line.len() > LONGEST_LINE {
                    return Err(Violation::new("length", "a command line that is too long"));
                }
                return self.begin(id, Start::Exec(Bytes::copy_from_slice(line)), want);
            }
            "subsystem" if fresh => {
                let name = fields.text().ok_or_else(malformed)?.to_owned();
                return self.begin(id, Start::Subsystem(name), want);
            }
            "window-change" => {
                let (columns, rows) = fields.number().zip(fields.number()).ok_or_else(malformed)?;
                let rest = Bytes::copy_from_slice(fields.0);
                self.resize(id, columns, rows, &rest);
                return Ok(());
            }
            "signal" => {
                let name = fields.text().ok_or_else(malformed)?.to_owned();
                self.signal(id, &name);
                return Ok(());
            }
            _ => {
                let failure = answer(number::CHANNEL_FAILURE);
                self.ready.extend(failure.map(Next::Say));
                return Ok(());
            }
        };
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.deciding = true;
        }
        self.ready.push_back(Next::Frame(frame));
        Ok(())
    }

    /// Asks the other side for a channel, on which this will be started if it is permitted.
    fn begin(&mut self, id: u32, start: Start, want: bool) -> Result<(), Violation> {
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
        let window = channel.window.saturating_sub(SLACK).max(channel.window / 2);
        channel.window -= window;
        channel.state = State::Opening(Pending { start, want });
        let open = start::open_session(id, window, channel.packet);
        self.send(id, open);
        Ok(())
    }

    /// The other side's channel is there: now it is decided what was to be started on it.
    fn start(&mut self, id: u32) {
        let (scene, mark) = (self.scene(), self.group_mark());
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let State::Opening(pending) = std::mem::replace(&mut channel.state, State::Deciding) else { return };
        let Some(upstream) = channel.upstream else { return };
        let Pending { start, want } = pending;
        let plan = start::plan(&start, channel, upstream, &self.shell, &scene, &mark);
        if let Start::Signal { .. } = start {
            channel.state = State::Over;
            self.send(id, plan.packets);
            return;
        }
        channel.deciding = true;
        if matches!(start, Start::Line(_)) && !plan.terminal {
            channel.terminal = None;
        }
        let line = match start {
            Start::Line(line) => Some(line),
            _ => None,
        };
        let announces = plan.announces;
        let note = Note::Start { id, want, tap: RefCell::new(plan.tap.map(Box::new)), line, announces };
        let frame = self.ask(id, plan.packets, plan.operations, plan.text, plan.params, note);
        self.ready.push_back(Next::Frame(frame));
    }

    fn resize(&mut self, id: u32, columns: u32, rows: u32, rest: &[u8]) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let Some(terminal) = &mut channel.terminal else { return };
        (terminal.columns, terminal.rows) = (columns, rows);
        let change =
            |upstream: u32| request(upstream, "window-change", false).number(columns).number(rows).raw(rest).done();
        let mut send = None;
        match (&mut channel.state, channel.upstream) {
            (State::Running, Some(upstream)) => send = Some((id, change(upstream))),
            (State::Governed(shell), _) => {
                let command = shell.running();
                let acts = shell.resize(columns);
                if let Some(inner) = command
                    && let Some(command) = self.channels.get_mut(&inner)
                    && let (Some(terminal), Some(upstream)) = (&mut command.terminal, command.upstream)
                {
                    (terminal.columns, terminal.rows) = (columns, rows);
                    send = Some((inner, change(upstream)));
                }
                self.acts(id, acts);
            }
            _ => {}
        }
        if let Some((lane, packet)) = send {
            self.send(lane, packet);
        }
        self.tape(id, Track::Resize, format!("{columns}x{rows}"));
    }

    /// A signal from the client, for what runs on its channel.
    fn signal(&mut self, id: u32, name: &str) {
        let Some(name) = start::SIGNALS.into_iter().find(|known| *known == name) else { return };
        let target = match self.channels.get(&id).map(|channel| &channel.state) {
            Some(State::Governed(shell)) => shell.running(),
            _ => Some(id),
        };
        if let Some(target) = target {
            self.send_signal(target, name);
        }
    }

    /// Signals what runs on a channel: its process group where that is known, else by the channel's own request.
    fn send_signal(&mut self, id: u32, name: &'static str) {
        let Some(channel) = self.channels.get(&id).filter(|channel| !channel.upstream_closed) else { return };
        match (channel.group, channel.upstream) {
            // As many channels as there may be: then this signal is one too many.
            (Some(_), _) if self.channels.len() >= CHANNELS => {}
            (Some(group), _) => {
                let own = self.next_id;
                self.next_id += 1;
                let mut channel = Channel::new(None, 0, 32 * 1024);
                channel.state = State::Opening(Pending { start: Start::Signal { group, name }, want: false });
                self.channels.insert(own, channel);
                self.tape(id, Track::Marker, format!("signal {name} to the process group {group}"));
                self.send(own, start::open_session(own, governed::WINDOW, 32 * 1024));
            }
            (None, Some(upstream)) => self.send(id, request(upstream, "signal", false).string(name).done()),
            (None, None) => {}
        }
    }

    fn client_eof(&mut self, id: u32) -> Result<(), Violation> {
        let channel = self.channel_of_client(id)?;
        match (&mut channel.state, channel.upstream) {
            (State::Running, Some(upstream)) => self.send(id, bare(number::CHANNEL_EOF, upstream)),
            (State::Governed(shell), _) => {
                let acts = shell.end_of_input();
                self.acts(id, acts);
            }
            (State::Over, _) => {}
            _ => channel.eof_waits = true,
        }
        Ok(())
    }

    fn client_close(&mut self, id: u32) -> Result<(), Violation> {
        let channel = self.channel_of_client(id)?;
        channel.client_closed = true;
        let inner = match &channel.state {
            State::Governed(shell) => shell.running(),
            _ => None,
        };
        let close = channel.upstream.filter(|_| !std::mem::replace(&mut channel.told_upstream, true));
        let answer = channel.client.filter(|_| close.is_none() && !std::mem::replace(&mut channel.told_client, true));
        let governed = matches!(channel.state, State::Governed(_));
        if close.is_none() && !matches!(channel.state, State::Opening(_)) {
            channel.state = State::Over;
        }
        if let Some(upstream) = close {
            self.send(id, bare(number::CHANNEL_CLOSE, upstream));
        }
        if let Some(client) = answer {
            self.say(bare(number::CHANNEL_CLOSE, client));
        }
        if governed {
            self.finish(id);
        }
        if let Some(inner) = inner {
            self.drop_upstream(inner);
        }
        self.tidy(id);
        Ok(())
    }

    /// Closes the other side's channel, and hangs up what runs there: without a terminal nothing else tells it.
    fn drop_upstream(&mut self, id: u32) {
        let Some(channel) = self.channels.get(&id).filter(|channel| !channel.told_upstream) else { return };
        let (running, upstream) = (matches!(channel.state, State::Running), channel.upstream);
        if running {
            self.send_signal(id, "HUP");
        }
        if let (Some(channel), Some(upstream)) = (self.channels.get_mut(&id), upstream) {
            channel.told_upstream = true;
            self.send(id, bare(number::CHANNEL_CLOSE, upstream));
        }
    }

    fn tidy(&mut self, id: u32) {
        if self.channels.get(&id).is_some_and(Channel::finished) {
            self.channels.remove(&id);
        }
    }

    /// Says how what ran on a channel went, once.
    fn finish(&mut self, id: u32) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if channel.done || channel.op == OpNo(0) {
            return;
        }
        channel.done = true;
        let done = replies::done(channel);
        self.ready.push_back(Next::Done(done));
    }

    fn global(&mut self, packet: &Bytes) -> Result<(), Violation> {
        let malformed = || Violation::new("malformed", "a malformed global request");
        let mut fields = Fields(&packet[PREFIX + 1..]);
        let kind = fields.text().ok_or_else(malformed)?;
        let want = fields.flag().ok_or_else(malformed)?;
        let (asked, text) = match kind {
            "tcpip-forward" => {
                let (host, port) = fields.text().zip(fields.number()).ok_or_else(malformed)?;
                let text = format!("(listen on {host}:{port})");
                (start::endpoint("ssh.forward_listen", host, Some(port)), text)
            }
            "streamlocal-forward@openssh.com" => {
                let path = fields.text().ok_or_else(malformed)?;
                (start::endpoint("ssh.socket", path, None), format!("(listen on {path})"))
            }
            "cancel-tcpip-forward" | "cancel-streamlocal-forward@openssh.com" => {
                if want {
                    self.owed.push_back(Owed::Upstream);
                }
                self.send(0, packet.clone());
                return Ok(());
            }
            "no-more-sessions@openssh.com" => {
                self.no_more_sessions = true;
                return Ok(());
            }
            // Keep-alives and what is not known: a failure is an answer.
            _ => {
                if want {
                    self.owe(bare_global(number::REQUEST_FAILURE));
                }
                return Ok(());
            }
        };
        let frame = self.ask(0, packet.clone(), vec![asked], text.into(), Vec::new(), Note::Listen { want });
        self.ready.push_back(Next::Frame(frame));
        Ok(())
    }

    /// Answers a global request when its turn comes.
    fn owe(&mut self, answer: Bytes) {
        if self.owed.is_empty() {
            self.say(answer);
        } else {
            self.owed.push_back(Owed::Ours(answer));
        }
    }

    /// Words for whoever sits at the client's channel.
    fn words(&mut self, id: u32, text: &str) -> Option<Bytes> {
        let channel = self.channels.get_mut(&id)?;
        let client = channel.client.filter(|_| !channel.told_client)?;
        if let State::Governed(shell) = &mut channel.state {
            let shown = shell.above(text);
            return Some(data(client, &shown, channel.packet));
        }
        let terminal = channel.terminal.is_some();
        let text = if terminal { format!("\r\n{}\r\n", text.replace('\n', "\r\n")) } else { format!("{text}\n") };
        channel.window = channel.window.checked_sub(text.len() as u32)?;
        Some(if terminal {
            data(client, text.as_bytes(), channel.packet)
        } else {
            error_data(client, text.as_bytes(), channel.packet)
        })
    }

    /// What the governed shell of a channel wants done.
    fn acts(&mut self, id: u32, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Show(bytes) => {
                    let Some((client, largest)) = self.channels.get(&id).and_then(|c| Some((c.client?, c.packet)))
                    else {
                        continue;
                    };
                    self.tape(id, Track::Output, bytes.clone());
                    self.say(data(client, &bytes, largest));
                }
                Act::ShowError(bytes) => {
                    let Some((client, largest)) = self.channels.get(&id).and_then(|c| Some((c.client?, c.packet)))
                    else {
                        continue;
                    };
                    self.tape(id, Track::Error, bytes.clone());
                    self.say(error_data(client, &bytes, largest));
                }
                Act::Grant(more) => {
                    if let Some(client) = self.channels.get(&id).and_then(|c| c.client) {
                        self.say(Packet::of(number::CHANNEL_WINDOW_ADJUST, client).number(more).done());
                    }
                }
                Act::Keep(line) => {
                    let operations = line.reading.operations.clone();
                    let text = line.text.clone();
                    let frame = self.ask(id, Bytes::new(), operations, text, Vec::new(), Note::Scene { id, line });
                    self.ready.push_back(Next::Frame(frame));
                }
                Act::Run(line) => self.run(id, line),
                Act::Feed(inner, bytes) => {
                    let Some((upstream, largest)) =
                        self.channels.get(&inner).and_then(|c| Some((c.upstream?, c.upstream_packet)))
                    else {
                        continue;
                    };
                    if let Some(command) = self.channels.get_mut(&inner) {
                        command.bytes_in += bytes.len() as u64;
                    }
                    self.send(inner, data(upstream, &bytes, largest));
                }
                Act::FeedEnd(inner) => {
                    if let Some(upstream) = self.channels.get(&inner).and_then(|c| c.upstream) {
                        self.send(inner, bare(number::CHANNEL_EOF, upstream));
                    }
                }
                Act::Withdraw(inner) => self.ready.push_back(Next::Withdraw(inner)),
                Act::Interrupt(inner) => self.send_signal(inner, "INT"),
                Act::Regrant(inner, more) => {
                    if let Some(upstream) = self.channels.get(&inner).and_then(|c| c.upstream) {
                        self.send(inner, Packet::of(number::CHANNEL_WINDOW_ADJUST, upstream).number(more).done());
                    }
                }
                Act::Exit(code) => {
                    let Some(channel) = self.channels.get_mut(&id) else { continue };
                    channel.exit = Some(Exit::Status(code));
                    let Some(client) = channel.client.filter(|_| !std::mem::replace(&mut channel.told_client, true))
                    else {
                        continue;
                    };
                    channel.state = State::Over;
                    self.tape(id, Track::Exit, code.to_string());
                    self.say(message::exit_status(client, code));
                    self.say(bare(number::CHANNEL_EOF, client));
                    self.say(bare(number::CHANNEL_CLOSE, client));
                    self.finish(id);
                    self.tidy(id);
                }
            }
        }
    }

    /// Opens a channel of the gateway's own for a line of the governed shell.
    fn run(&mut self, id: u32, line: Box<Line>) {
        let Some(parent) = self.channels.get(&id) else { return };
        let inner = self.next_id;
        self.next_id += 1;
        let mut channel = Channel::new(None, 0, 32 * 1024);
        channel.parent = Some(id);
        channel.captured = line.captured.then(BytesMut::new);
        channel.terminal = parent.terminal.clone();
        channel.environment = parent.environment.clone();
        channel.state = State::Opening(Pending { start: Start::Line(line), want: false });
        self.channels.insert(inner, channel);
        if let Some(State::Governed(shell)) = self.channels.get_mut(&id).map(|parent| &mut parent.state) {
            shell.began(inner);
        }
        self.send(inner, start::open_session(inner, governed::WINDOW, 32 * 1024));
    }

    /// The governed shell that a channel runs a command for.
    fn parent(&mut self, inner: u32) -> Option<(u32, &mut Governed)> {
        let id = self.channels.get(&inner)?.parent?;
        match &mut self.channels.get_mut(&id)?.state {
            State::Governed(shell) => Some((id, shell)),
            _ => None,
        }
    }

    /// Puts the gateway's own shell on a channel.
    fn govern(&mut self, id: u32, op: OpNo, micros: u64) {
        let (shell, scene) = (Arc::clone(&self.shell), self.scene());
        let place = format!("{}@{}", self.options.login, self.options.resource);
        let Some(channel) = self.channels.get_mut(&id) else { return };
        (channel.op, channel.began) = (op, micros);
        let columns = channel.terminal.as_ref().map(|terminal| terminal.columns);
        // Another word than the one for process groups.
        let marker = format!("{}d", self.options.marker);
        let (governed, acts) = Governed::new(shell, scene, place, marker, columns, channel.window);
        channel.state = State::Governed(Box::new(governed));
        let ends = std::mem::take(&mut channel.eof_waits);
        self.acts(id, acts);
        if let (true, Some(State::Governed(shell))) = (ends, self.channels.get_mut(&id).map(|c| &mut c.state)) {
            let acts = shell.end_of_input();
            self.acts(id, acts);
        }
    }

    /// A request is decided: the next one of its channel may be looked at.
    fn decided(&mut self, id: u32) {
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.deciding = false;
            if !channel.inbox.is_empty() {
                self.woken.push_back(id);
            }
        }
    }

    fn wake(&mut self, id: u32) -> Result<(), Violation> {
        while let Some(channel) = self.channels.get_mut(&id) {
            if channel.deciding || matches!(channel.state, State::Opening(_)) {
                return Ok(());
            }
            let Some(packet) = channel.inbox.pop_front() else { return Ok(()) };
            self.request(id, &packet)?;
        }
        Ok(())
    }

    /// Notes at once what came of something that the other side has no part in.
    fn done_at_once(&mut self, op: OpNo, tag: &'static str) {
        self.ready.push_back(Next::Done(Done {
            op,
            tag: Bytes::from_static(tag.as_bytes()),
            rows: 0,
            bytes_in: 0,
            bytes_out: 0,
            failure: None,
            skipped: false,
            micros: 0,
        }));
    }

    /// Answers a request about a channel, if it wants an answer.
    fn answer(&mut self, id: u32, want: bool, number: u8) {
        if let Some(client) = self.channels.get(&id).and_then(|c| c.client).filter(|_| want) {
            self.say(bare(number, client));
        }
    }
}

/// Whether a variable's value is one line of plain text.
fn plain(value: &str) -> bool {
    value.len() <= 1024 && !value.chars().any(char::is_control)
}

fn bare_global(number: u8) -> Bytes {
    Packet::new(number).done()
}

impl Protocol for SshProtocol {
    type Kind = Kind;

    const LANES: bool = true;

    fn client(&mut self, buffer: &mut BytesMut) -> Result<Next<Kind>, Violation> {
        loop {
            if let Some(next) = self.ready.pop_front() {
                return Ok(next);
            }
            if let Some(id) = self.woken.pop_front() {
                self.wake(id)?;
                continue;
            }
            match next(buffer) {
                Ok(Some(length)) => {
                    let packet = buffer.split_to(length);
                    if let Some(next) = self.packet(packet)? {
                        return Ok(next);
                    }
                }
                Ok(None) => return Ok(Next::More),
                Err(text) => return Err(Violation::new("malformed", text)),
            }
        }
    }

    fn upstream(&mut self, buffer: &mut BytesMut, micros: u64, replies: &mut Vec<Reply>) -> Result<(), Violation> {
        self.hear(buffer, micros, replies)
    }

    fn refuse(&mut self, frame: &Frame<Kind>, refusal: &Refusal<'_>) -> Replacement {
        let answer = self.spell(&frame.kind.0, refusal);
        Replacement { upstream: &[], answer }
    }

    fn relayed(&mut self, frame: &Frame<Kind>, op: OpNo, micros: u64) -> Option<&'static [u8]> {
        match &frame.kind.0 {
            Note::Plain => {}
            Note::Terminal { id, want, terminal } => {
                if let Some(channel) = self.channels.get_mut(id) {
                    channel.terminal = Some(terminal.clone());
                }
                self.tape(*id, Track::Resize, format!("{}x{}", terminal.columns, terminal.rows));
                self.answer(*id, *want, number::CHANNEL_SUCCESS);
                self.done_at_once(op, "granted");
                self.decided(*id);
            }
            Note::Variable { id, want, name, value } => {
                if let Some(channel) = self.channels.get_mut(id) {
                    channel.environment.push((name.clone(), value.clone()));
                }
                self.answer(*id, *want, number::CHANNEL_SUCCESS);
                self.done_at_once(op, "granted");
                self.decided(*id);
            }
            Note::Agent { id, want } => {
                if let Some(channel) = self.channels.get_mut(id) {
                    channel.agent = true;
                }
                self.answer(*id, *want, number::CHANNEL_SUCCESS);
                self.done_at_once(op, "granted");
                self.decided(*id);
            }
            Note::Display { id, want, rest } => {
                if let Some(channel) = self.channels.get_mut(id) {
                    channel.x11 = Some(rest.clone());
                }
                self.answer(*id, *want, number::CHANNEL_SUCCESS);
                self.done_at_once(op, "granted");
                self.decided(*id);
            }
            Note::Governed { id, want } => {
                self.answer(*id, *want, number::CHANNEL_SUCCESS);
                self.govern(*id, op, micros);
                self.decided(*id);
            }
            Note::Scene { id, line } => {
                self.done_at_once(op, "kept");
                if let Some(State::Governed(shell)) = self.channels.get_mut(id).map(|channel| &mut channel.state) {
                    let acts = shell.kept(line);
                    self.acts(*id, acts);
                }
            }
            Note::Start { id, want, tap, line, announces } => {
                if let Some(channel) = self.channels.get_mut(id) {
                    channel.state = State::Running;
                    (channel.op, channel.began) = (op, micros);
                    channel.answer_owed = Some(*want);
                    channel.tap = tap.borrow_mut().take();
                    channel.announcing = announces.then(BytesMut::new);
                    if channel.terminal.is_some() && self.options.record_input {
                        channel.echo = Some(EchoTracker::new());
                    }
                    let (upstream, eof) = (channel.upstream, std::mem::take(&mut channel.eof_waits));
                    let (client, window) = (channel.client, channel.upstream_window);
                    if let Some(client) = client {
                        self.say(Packet::of(number::CHANNEL_WINDOW_ADJUST, client).number(window).done());
                    }
                    if let (Some(upstream), true) = (upstream, eof) {
                        self.send(*id, bare(number::CHANNEL_EOF, upstream));
                    }
                    let raw = self.channels.get(id).is_some_and(|channel| channel.terminal.is_some());
                    let mark = line.as_ref().is_some_and(|line| line.mark.is_some());
                    if let Some((parent, shell)) = self.parent(*id) {
                        let acts = shell.permitted(window, raw, mark);
                        self.acts(parent, acts);
                    }
                }
                self.decided(*id);
            }
            Note::Forward { id } => {
                if let Some(channel) = self.channels.get_mut(id) {
                    (channel.op, channel.began) = (op, micros);
                }
            }
            Note::Listen { want } => {
                self.listening = true;
                if *want {
                    self.owed.push_back(Owed::Upstream);
                }
                self.done_at_once(op, "asked for");
            }
            Note::Transfer { id, piece } => {
                if let Some(tap) = self.channels.get_mut(id).and_then(|channel| channel.tap.as_mut()) {
                    tap.relayed(piece);
                }
                self.done_at_once(op, "passed on");
                self.again(*id);
            }
        }
        None
    }

    fn replaced(&mut self, frame: &Frame<Kind>, replacement: Replacement, _op: OpNo, _micros: u64) -> Option<Bytes> {
        self.refused(&frame.kind.0, replacement.answer)
    }

    fn notice(&mut self, text: &str) -> Option<Bytes> {
        let waiting = |channel: &Channel| match &channel.state {
            State::Deciding => true,
            State::Governed(shell) => shell.waits(),
            _ => channel.deciding,
        };
        let mut ids: Vec<u32> =
            self.channels.iter().filter(|(_, c)| c.client.is_some() && waiting(c)).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            // Not about something that waits: for everybody who sits at a terminal, else for every command.
            let sits = |c: &Channel| c.client.is_some() && c.session && c.tap.is_none();
            ids = self.channels.iter().filter(|(_, c)| sits(c) && c.terminal.is_some()).map(|(id, _)| *id).collect();
            if ids.is_empty() {
                ids = self.channels.iter().filter(|(_, c)| sits(c)).map(|(id, _)| *id).collect();
            }
        }
        let text = onus_terminal::visible(text);
        let said: Vec<Bytes> = ids.into_iter().filter_map(|id| self.words(id, &text)).collect();
        (!said.is_empty()).then(|| message::joined(said))
    }

    fn fatal(&self, cause: EndCause, _code: Option<&str>, text: &str) -> Option<Bytes> {
        Some(self.last_words(cause, text))
    }

    fn digest(&self, frame: &Frame<Kind>, view: &View) -> Digest {
        let mut hash = sha2::Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(b"onus-ssh-hold-1");
        part(view.session.as_str().as_bytes());
        part(view.policy_digest.as_bytes());
        part(&frame.text);
        // What would be sent, the remote channel's number included: exactly this, here.
        part(&frame.bytes);
        hash.finalize().into()
    }

    fn busy(&self) -> bool {
        self.channels.values().any(|channel| matches!(channel.state, State::Running))
    }
}
