//! A download: it was decided with its command; the client says "go on", and what comes is accounted for.

use bytes::{Bytes, BytesMut};

use super::command::ScpCommand;
use super::line::{self, Answer, Line, NoLine, ScpViolation};
use crate::sftp::path::name_with_tilde;
use crate::sftp::{Direction, Hashing, Reply, Running};

/// How deep directories may nest.
const MAX_DEPTH: usize = 128;

/// The channel of an `scp -f`. Both directions arrive in any chunks.
///
/// Call [`Source::client`] until it gives `None`, and again after [`Source::upstream`] even if nothing arrived. Names
/// that the command's paths don't end in are not let through to the client, which might write them; so the command's
/// words must have been literal.
#[derive(Debug)]
pub struct Source {
    recursive: bool,
    hashing: Hashing,
    paths: Vec<String>,
    /// Where we are, from one of the paths down.
    directory: Vec<Vec<u8>>,
    state: State,
    file: Option<(String, Running)>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The client's word is due; then …
    Word(Then),
    /// The upstream's line is due.
    Line,
    /// The upstream's content is due, this much.
    Content(u64),
    /// The upstream's word whether the content was good is due.
    Verdict,
    /// It is over: nothing passes any more.
    Over,
}

#[derive(Debug, PartialEq, Eq)]
enum Then {
    /// … the next line.
    Line,
    /// … the content of a file of this size.
    Content(u64),
    /// … what is in this directory.
    Directory(Vec<u8>),
    /// … the next line, and the directory is left.
    Leave,
    /// … the next line, and the file has arrived.
    Done { good: bool },
}

impl Source {
    /// The channel of this command, before a byte was said.
    pub fn new(command: &ScpCommand, hashing: Hashing) -> Self {
        Self {
            recursive: command.recursive,
            hashing,
            paths: command.paths.clone(),
            directory: Vec::new(),
            state: State::Word(Then::Line),
            file: None,
        }
    }

    /// The client's next word, as it goes upstream; `None` when none has arrived or none is due. What it completes is
    /// pushed.
    pub fn client(&mut self, buffer: &mut BytesMut, replies: &mut Vec<Reply>) -> Result<Option<Bytes>, ScpViolation> {
        match self.state {
            State::Word(_) => {}
            State::Over => {
                buffer.clear();
                return Ok(None);
            }
            State::Line | State::Content(_) | State::Verdict => return Ok(None),
        }
        let word = line::answer(buffer).map_err(|()| ScpViolation::ClientLine)?;
        let Some(word) = word else { return Ok(None) };
        let State::Word(then) = std::mem::replace(&mut self.state, State::Line) else { return Ok(None) };
        let good = word == Answer::Good;
        match then {
            Then::Content(0) if good => self.state = State::Verdict,
            Then::Content(size) if good => self.state = State::Content(size),
            // The client doesn't want it.
            Then::Content(_) => self.file = None,
            Then::Directory(path) if good => self.directory.push(path),
            // Left whatever the client says.
            Then::Leave => {
                self.directory.pop();
            }
            Then::Done { good: sent } => self.account(sent && good, replies),
            Then::Line | Then::Directory(_) => {}
        }
        Ok(Some(match word {
            Answer::Good => Bytes::from_static(&[0]),
            Answer::Bad(text) if text.first() == Some(&1) => Bytes::from_static(b"\x01refused\n"),
            Answer::Bad(_) => {
                self.account(false, replies);
                self.state = State::Over;
                Bytes::from_static(b"\x02refused\n")
            }
        }))
    }

    /// Reads what the upstream sent and pushes what it amounts to; leaves an incomplete line in the buffer.
    pub fn upstream(&mut self, buffer: &mut BytesMut, replies: &mut Vec<Reply>) -> Result<(), ScpViolation> {
        while !buffer.is_empty() {
            match &mut self.state {
                State::Word(_) => return Err(ScpViolation::OutOfTurn),
                State::Over => buffer.clear(),
                State::Line => match line::cut(buffer) {
                    Ok((line, bytes)) => {
                        self.line(line)?;
                        replies.push(Reply::ToClient(bytes));
                    }
                    Err(NoLine::More) => return Ok(()),
                    Err(NoLine::TooLong | NoLine::Malformed) => return Err(ScpViolation::UpstreamLine),
                    Err(NoLine::Name) => return Err(ScpViolation::UpstreamName),
                },
                State::Content(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::Verdict;
                    }
                    let content = buffer.split_to(taken).freeze();
                    if let Some((_, file)) = &mut self.file {
                        file.feed(&content);
                    }
                    replies.push(Reply::ToClient(content));
                }
                State::Verdict => {
                    let answer = line::answer(buffer).map_err(|()| ScpViolation::UpstreamLine)?;
                    let Some(answer) = answer else { return Ok(()) };
                    self.state = State::Word(Then::Done { good: answer == Answer::Good });
                    replies.push(Reply::ToClient(match answer {
                        Answer::Good => Bytes::from_static(&[0]),
                        Answer::Bad(text) => text,
                    }));
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, line: Line) -> Result<(), ScpViolation> {
        let then = match line {
            Line::File { size, name, .. } => {
                let path = self.path(&name)?;
                self.file = Some((name_with_tilde(&path).name, Running::new(self.hashing)));
                Then::Content(size)
            }
            Line::Directory { name, .. } => {
                if !self.recursive {
                    return Err(ScpViolation::UpstreamLine);
                }
                if self.directory.len() >= MAX_DEPTH {
                    return Err(ScpViolation::Nesting);
                }
                Then::Directory(self.path(&name)?)
            }
            Line::Leave if self.directory.is_empty() => return Err(ScpViolation::UpstreamLine),
            Line::Leave => Then::Leave,
            Line::Times(_) => Then::Line,
            // Nothing is said to these.
            Line::Error { fatal } => {
                self.state = if fatal { State::Over } else { State::Line };
                return Ok(());
            }
        };
        self.state = State::Word(then);
        Ok(())
    }

    /// The path of what the upstream calls by this name: below where we are, or one of those asked for.
    fn path(&self, name: &[u8]) -> Result<Vec<u8>, ScpViolation> {
        if let Some(directory) = self.directory.last() {
            return Ok([directory, &b"/"[..], name].concat());
        }
        let ends = |path: &&String| path.trim_end_matches('/').rsplit('/').next().map(str::as_bytes) == Some(name);
        self.paths.iter().find(ends).map(|path| path.as_bytes().to_vec()).ok_or(ScpViolation::UpstreamName)
    }

    /// Whether nothing more can pass: close both sides.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The channel ended: the file that was being read, for the record.
    pub fn end(mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        self.account(false, &mut replies);
        replies
    }

    fn account(&mut self, complete: bool, replies: &mut Vec<Reply>) {
        if let Some((path, mut file)) = self.file.take() {
            file.failed |= !complete;
            replies.push(Reply::Transfer(file.finish(path, Direction::Read, complete, false)));
        }
    }
}
