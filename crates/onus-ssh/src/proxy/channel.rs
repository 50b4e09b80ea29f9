//! One channel: what is known of it on both sides, and how far it is.

use super::governed::Governed;
use super::start::Pending;
use super::tap::Tap;
use bytes::{Bytes, BytesMut};
use onus_pep::OpNo;
use onus_terminal::{EchoTracker, Typed};
use std::collections::VecDeque;

/// Bytes of the client's window that are kept for words of our own.
pub(super) const SLACK: u32 = 64 * 1024;

/// Requests that may wait while an earlier one of the same channel is decided.
pub(super) const WAITING: usize = 64;

/// A terminal that the client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terminal {
    pub term: String,
    pub columns: u32,
    pub rows: u32,
    /// The rest of the request as the client sent it: pixels and modes.
    pub pixels: (u32, u32),
    pub modes: Bytes,
}

/// How far a channel is.
pub(super) enum State {
    /// A session channel that nothing was started on yet.
    Fresh,
    /// The other side was asked for a channel; what to start on it waits.
    Opening(Pending),
    /// What is to be started on it is being decided.
    Deciding,
    /// Bytes pass.
    Running,
    /// The gateway's own shell.
    Governed(Box<Governed>),
    /// Nothing more passes; waits for the other closes.
    Over,
}

/// Where a process' end stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Exit {
    /// It exited.
    Status(u32),
    /// A signal ended it.
    Signal(String),
}

impl Exit {
    /// In words, for the record.
    pub fn tag(&self) -> String {
        match self {
            Self::Status(code) => format!("exit {code}"),
            Self::Signal(name) => format!("signal {name}"),
        }
    }

    /// As a shell counts it.
    pub fn code(&self) -> u32 {
        match self {
            Self::Status(code) => *code,
            Self::Signal(_) => 255,
        }
    }
}

/// One channel.
pub(super) struct Channel {
    /// The client's number for it; `None` for one of the governed shell's own.
    pub client: Option<u32>,
    /// The other side's number for it.
    pub upstream: Option<u32>,
    /// The governed shell's channel that this one runs a command for.
    pub parent: Option<u32>,
    /// Whether it is a session (and not a forwarding).
    pub session: bool,
    /// What the client lets us send and the other side was not given.
    pub window: u32,
    /// The largest packet that the client takes.
    pub packet: u32,
    /// The largest packet that the other side takes, and what it lets us send.
    pub upstream_packet: u32,
    pub upstream_window: u32,
    pub terminal: Option<Terminal>,
    pub environment: Vec<(String, String)>,
    pub agent: bool,
    pub x11: Option<Bytes>,
    pub state: State,
    /// Requests that came while another was being decided.
    pub inbox: VecDeque<Bytes>,
    pub deciding: bool,
    /// Whether the client waits for the answer to what was started.
    pub answer_owed: Option<bool>,
    pub eof_waits: bool,
    /// Parses what passes, where it is a file transfer.
    pub tap: Option<Box<Tap>>,
    pub op: OpNo,
    pub began: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Bytes that were recorded of what is no terminal's.
    pub taped: u64,
    pub exit: Option<Exit>,
    /// The process group of what runs, once it was said.
    pub group: Option<u32>,
    /// Until then: the beginning of the error stream.
    pub announcing: Option<BytesMut>,
    /// When it last did something.
    pub last: u64,
    /// Which of what is typed may be recorded.
    pub echo: Option<EchoTracker>,
    /// What was found to be echoed, for the next piece of tape.
    pub heard: Vec<Typed>,
    /// Who has said CLOSE to whom.
    pub client_closed: bool,
    pub upstream_closed: bool,
    pub told_client: bool,
    pub told_upstream: bool,
    pub done: bool,
    /// Output of a governed command that is kept for the gateway itself.
    pub captured: Option<BytesMut>,
}

impl Channel {
    pub fn new(client: Option<u32>, window: u32, packet: u32) -> Self {
        Self {
            client,
            upstream: None,
            parent: None,
            session: true,
            window,
            packet,
            upstream_packet: 32 * 1024,
            upstream_window: 0,
            terminal: None,
            environment: Vec::new(),
            agent: false,
            x11: None,
            state: State::Fresh,
            inbox: VecDeque::new(),
            deciding: false,
            answer_owed: None,
            eof_waits: false,
            tap: None,
            op: OpNo(0),
            began: 0,
            bytes_in: 0,
            bytes_out: 0,
            taped: 0,
            exit: None,
            group: None,
            announcing: None,
            last: 0,
            echo: None,
            heard: Vec::new(),
            client_closed: false,
            upstream_closed: false,
            told_client: false,
            told_upstream: false,
            done: false,
            captured: None,
        }
    }

    /// Whether it can be forgotten.
    pub fn finished(&self) -> bool {
        let client = self.client.is_none() || (self.client_closed && self.told_client);
        let upstream = self.upstream.is_none() || (self.upstream_closed && self.told_upstream);
        client && upstream && !matches!(self.state, State::Opening(_) | State::Deciding)
    }
}
