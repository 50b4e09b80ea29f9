//! An upload: the client announces, each announcement is an operation, and the upstream writes what was permitted.

use bytes::{Bytes, BytesMut};
use onus_core::operation::{Access, Operation};

use super::command::ScpCommand;
use super::line::{self, Answer, Line, NoLine, ScpViolation};
use crate::sftp::actions::operation;
use crate::sftp::path::{name_with_tilde, touch};
use crate::sftp::{Direction, Hashing, Reply, Running};

/// How deep directories may nest.
const MAX_DEPTH: usize = 128;
/// The longest path that is built; Linux takes no longer one.
const MAX_PATH: usize = 4095;
const GOOD: &[u8] = &[0];

/// What the client announced, to be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkRequest {
    /// What goes upstream if it is permitted.
    pub bytes: Bytes,
    /// What it does.
    pub operation: Operation,
}

/// What the client's bytes hold next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkPiece {
    /// An announcement: decide and record it, then call [`Sink::relayed`] and send its bytes, or [`Sink::refuse`].
    Request(SinkRequest),
    /// For the upstream: content that was permitted, or the protocol's own bytes.
    Upstream(Bytes),
    /// For the client: the gateway answers in the upstream's place.
    Client(Bytes),
}

/// The channel of an `scp -t`. Both directions arrive in any chunks.
///
/// The client's bytes are only looked at when the upstream has answered what went before: after [`Sink::upstream`],
/// [`Sink::relayed`] and [`Sink::refuse`], call [`Sink::client`] again even if nothing arrived.
#[derive(Debug)]
pub struct Sink {
    recursive: bool,
    hashing: Hashing,
    /// Where the next file may be put: the target, and below it if that is or must be a directory.
    places: Vec<Places>,
    state: State,
    /// Times for the next file, which the upstream hasn't heard of.
    times: Option<String>,
    file: Option<(String, Running)>,
}

/// The paths that a directory may have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Places {
    paths: Vec<Vec<u8>>,
    /// Whether it is known to be a directory, so that a file goes below it and nowhere else.
    directory: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The client's line is due.
    Line,
    /// A line was given out to be decided.
    Decide(Announced),
    /// The upstream's answer is due.
    Answer(Due),
    /// Content is due, this much.
    Content(u64),
    /// The client's word whether the content was good is due.
    Verdict,
    /// It is over: nothing passes any more.
    Over,
}

#[derive(Debug, PartialEq, Eq)]
enum Announced {
    File { size: u64, path: String, times: bool },
    Directory(Places),
}

#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// To being started.
    Start,
    /// To the times that went ahead of the file.
    Times {
        size: u64,
    },
    File {
        size: u64,
    },
    Directory(Places),
    Leave,
    /// To the file's content.
    Content {
        good: bool,
    },
}

impl Sink {
    /// The channel of this command, before a byte was said.
    pub fn new(command: &ScpCommand, hashing: Hashing) -> Self {
        let target = command.paths.first().map(|path| path.as_bytes().to_vec()).unwrap_or_default();
        Self {
            recursive: command.recursive,
            hashing,
            places: vec![Places { paths: vec![target], directory: command.directory }],
            state: State::Answer(Due::Start),
            times: None,
            file: None,
        }
    }

    /// Cuts the next piece off the client's bytes; `None` when more are needed, or the upstream's answer, or a decision.
    pub fn client(&mut self, buffer: &mut BytesMut) -> Result<Option<SinkPiece>, ScpViolation> {
        loop {
            match &mut self.state {
                State::Line => {}
                State::Decide(_) | State::Answer(_) => return Ok(None),
                State::Content(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    if taken == 0 {
                        return Ok(None);
                    }
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::Verdict;
                    }
                    let content = buffer.split_to(taken).freeze();
                    if let Some((_, file)) = &mut self.file {
                        file.feed(&content);
                    }
                    return Ok(Some(SinkPiece::Upstream(content)));
                }
                State::Verdict => {
                    let answer = line::answer(buffer).map_err(|()| ScpViolation::ClientLine)?;
                    let Some(answer) = answer else { return Ok(None) };
                    let good = answer == Answer::Good;
                    self.state = State::Answer(Due::Content { good });
                    // Not the client's text.
                    let bytes = if good { GOOD } else { b"\x01the file could not be read\n" };
                    return Ok(Some(SinkPiece::Upstream(Bytes::from_static(bytes))));
                }
                State::Over => {
                    buffer.clear();
                    return Ok(None);
                }
            }
            let line = match line::cut(buffer) {
                Ok((line, _)) => line,
                Err(NoLine::More) => return Ok(None),
                Err(NoLine::TooLong) => return Err(ScpViolation::ClientLength),
                Err(NoLine::Malformed) => return Err(ScpViolation::ClientLine),
                Err(NoLine::Name) => return Err(ScpViolation::ClientName),
            };
            if let Some(piece) = self.line(line)? {
                return Ok(Some(piece));
            }
        }
    }

    fn line(&mut self, line: Line) -> Result<Option<SinkPiece>, ScpViolation> {
        let here = self.places.last().ok_or(ScpViolation::Nesting)?;
        Ok(Some(match line {
            Line::File { mode, size, name } => {
                let places = here.below(&name)?;
                let times = self.times.take();
                let mut operation = asked("file.write", &places, mode);
                operation.facts.extend(["creat", "trunc"].map(str::to_owned));
                if times.is_some() {
                    operation.facts.insert("times".to_owned());
                }
                let path = places.first_name();
                self.state = State::Decide(Announced::File { size, path, times: times.is_some() });
                let mut bytes = times.unwrap_or_default().into_bytes();
                bytes.extend(format!("C{mode:04o} {size} ").bytes());
                SinkPiece::Request(SinkRequest { bytes: ended(bytes, &name), operation })
            }
            Line::Directory { mode, name } => {
                if !self.recursive {
                    return Err(ScpViolation::NotRecursive);
                }
                if self.places.len() > MAX_DEPTH {
                    return Err(ScpViolation::Nesting);
                }
                // Its times would be set when it is left, and failing that makes some servers answer once too often.
                self.times = None;
                let places = here.below(&name)?;
                let operation = asked("file.make_directory", &places, mode);
                self.state = State::Decide(Announced::Directory(places));
                let bytes = format!("D{mode:04o} 0 ").into_bytes();
                SinkPiece::Request(SinkRequest { bytes: ended(bytes, &name), operation })
            }
            Line::Leave => {
                if self.places.len() < 2 {
                    return Err(ScpViolation::Nesting);
                }
                self.times = None;
                self.state = State::Answer(Due::Leave);
                SinkPiece::Upstream(Bytes::from_static(b"E\n"))
            }
            // They go upstream with the file that they belong to, once that is permitted.
            Line::Times(times) => {
                self.times = Some(times);
                SinkPiece::Client(Bytes::from_static(GOOD))
            }
            // The upstream answers nothing to these and knows nothing to do about them.
            Line::Error { fatal: false } => return Ok(None),
            Line::Error { fatal: true } => {
                self.state = State::Over;
                return Ok(None);
            }
        }))
    }

    /// What was announced goes upstream now.
    pub fn relayed(&mut self) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Decide(Announced::File { size, path, times }) => {
                self.file = Some((path, Running::new(self.hashing)));
                self.state = State::Answer(if times { Due::Times { size } } else { Due::File { size } });
            }
            State::Decide(Announced::Directory(places)) => self.state = State::Answer(Due::Directory(places)),
            other => self.state = other,
        }
    }

    /// What was announced must not go upstream; the client skips it. Returns what to send to the client.
    pub fn refuse(&mut self, text: &str) -> Bytes {
        if matches!(self.state, State::Decide(_)) {
            self.state = State::Line;
        }
        line::error(text)
    }

    /// Reads what the upstream sent and pushes what it amounts to; leaves an incomplete answer in the buffer.
    pub fn upstream(&mut self, buffer: &mut BytesMut, replies: &mut Vec<Reply>) -> Result<(), ScpViolation> {
        loop {
            if self.state == State::Over {
                buffer.clear();
            }
            if buffer.is_empty() {
                return Ok(());
            }
            if matches!(self.state, State::Line | State::Decide(_)) {
                return Err(ScpViolation::OutOfTurn);
            }
            let answer = line::answer(buffer).map_err(|()| ScpViolation::UpstreamLine)?;
            let Some(answer) = answer else { return Ok(()) };
            self.answered(answer, replies)?;
        }
    }

    fn answered(&mut self, answer: Answer, replies: &mut Vec<Reply>) -> Result<(), ScpViolation> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let (text, good) = match answer {
            Answer::Good => (Bytes::from_static(GOOD), true),
            Answer::Bad(text) => (text, false),
        };
        let fatal = text.first() == Some(&2);
        // Times were answered when they came.
        if good && let State::Answer(Due::Times { size }) = state {
            self.state = State::Answer(Due::File { size });
            return Ok(());
        }
        replies.push(Reply::ToClient(text));
        self.state = match state {
            _ if fatal => {
                self.account(false, replies);
                State::Over
            }
            State::Answer(Due::Start) if good => State::Line,
            State::Answer(Due::File { size }) if good && size == 0 => State::Verdict,
            State::Answer(Due::File { size }) if good => State::Content(size),
            State::Answer(Due::Directory(places)) if good => {
                self.places.push(places);
                State::Line
            }
            State::Answer(Due::Leave) if good => {
                self.places.pop();
                State::Line
            }
            State::Answer(Due::Content { good: read }) if good => {
                self.account(read, replies);
                State::Line
            }
            // It couldn't be made, and what follows is another line.
            State::Answer(Due::File { .. } | Due::Directory(_)) => {
                self.file = None;
                State::Line
            }
            State::Content(_) | State::Verdict if good => return Err(ScpViolation::OutOfTurn),
            // Some servers send more than one error about a file that they had begun; from here on nobody could tell
            // which answer belongs to what.
            _ => {
                self.account(false, replies);
                State::Over
            }
        };
        Ok(())
    }

    /// Whether nothing more can pass: close the upstream's side, and the client's.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The channel ended: the file that was being written, for the record.
    pub fn end(mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        self.account(false, &mut replies);
        replies
    }

    fn account(&mut self, complete: bool, replies: &mut Vec<Reply>) {
        if let Some((path, mut file)) = self.file.take() {
            file.failed |= !complete;
            replies.push(Reply::Transfer(file.finish(path, Direction::Write, complete, false)));
        }
    }
}

impl Places {
    fn below(&self, name: &[u8]) -> Result<Self, ScpViolation> {
        let mut paths = if self.directory { Vec::new() } else { self.paths.clone() };
        paths.extend(self.paths.iter().map(|path| [path, &b"/"[..], name].concat()));
        if paths.iter().any(|path| path.len() > MAX_PATH) {
            return Err(ScpViolation::Nesting);
        }
        Ok(Self { paths, directory: true })
    }

    fn first_name(&self) -> String {
        self.paths.first().map(|path| name_with_tilde(path).name).unwrap_or_default()
    }
}

fn asked(action: &'static str, places: &Places, mode: u32) -> Operation {
    let mut operation = operation(action);
    operation.facts.insert("scp".to_owned());
    if places.paths.len() > 1 {
        // The target, if it is no directory yet; below it, if it is one.
        operation.facts.insert("either-path".to_owned());
    }
    if mode & 0o6000 != 0 {
        operation.facts.insert("setuid".to_owned());
    }
    for path in &places.paths {
        touch(&mut operation, Access::Write, name_with_tilde(path));
    }
    operation
}

fn ended(mut line: Vec<u8>, name: &[u8]) -> Bytes {
    line.extend_from_slice(name);
    line.push(b'\n');
    line.into()
}
