//! One SFTP channel: requests are cut and tracked, handles belong to the open that was permitted, replies are followed.
//!
//! It never looks at what is in a file, and holds nothing of it: a WRITE is handed on as soon as its head was checked,
//! and so is DATA. What it holds is bounded: requests without an answer, open handles, one request that isn't a WRITE.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use onus_core::operation::{Access, Operation};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::Running;
use super::packet::{
    ATTRS, DATA, EXTENDED_REPLY, FX_EOF, FX_OK, HANDLE, INIT, MAX_HANDLE, MAX_REPLY, MAX_REQUEST, NAME, STATUS,
    VERSION, WRITE, u32_at,
};
use super::path::{self, touch};
use super::request::{self, Answer, Asked, Forbidden, Kind, Mode, Status};
use super::transfer::{Direction, Hashing, Transfer};

/// How many requests may be without an answer; clients keep some 64.
const MAX_OUTSTANDING: usize = 16 * 1024;
/// How many handles may be open; OpenSSH's server stops at its descriptors.
const MAX_OPEN: usize = 4096;
/// The longest head of a WRITE: length, type, id, handle, offset, length of the content.
const WRITE_HEAD: usize = 4 + 1 + 4 + 4 + MAX_HANDLE + 8 + 4;
/// What greets the upstream, whatever the client said: version 3 and no extensions.
const GREETING: &[u8] = &[0, 0, 0, 5, INIT, 0, 0, 0, 3];

/// The client or the upstream broke the protocol; the channel can't go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SftpViolation {
    /// A packet too short for its head, or longer than any.
    #[error("the client sent an sftp packet of impossible length")]
    RequestLength,
    /// The first packet is something else.
    #[error("the client's first sftp packet is not a greeting")]
    NoGreeting,
    /// A greeting that is malformed, or older than version 3.
    #[error("the client doesn't speak version 3 of sftp")]
    ClientVersion,
    /// A second greeting would start another version in the middle.
    #[error("the client sent a second sftp greeting")]
    SecondGreeting,
    /// An answer couldn't be told from another's.
    #[error("the client reused the id of a request that has no answer yet")]
    IdInUse,
    /// More requests without an answer than any client needs.
    #[error("the client has too many sftp requests without an answer")]
    TooManyRequests,
    /// A packet too short for its head, or longer than any.
    #[error("the upstream sent an sftp packet of impossible length")]
    ReplyLength,
    /// Not the greeting that was due, or one too many, or of another version.
    #[error("the upstream's sftp greeting is not one of version 3, or not in its place")]
    UpstreamVersion,
    /// A reply to nothing that went upstream.
    #[error("the upstream answered an sftp request that it was never sent")]
    Unasked,
    /// A reply that isn't one to such a request, or malformed.
    #[error("the upstream's sftp reply does not fit the request")]
    WrongReply,
    /// A handle that is open already, so that its uses couldn't be told apart.
    #[error("the upstream gave out an sftp handle twice")]
    HandleInUse,
}

/// A request of the client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its id; 0 for the greeting, which has none.
    pub id: u32,
    /// What it asks for.
    pub kind: Kind,
    /// What goes upstream: exactly the client's bytes (for the greeting: version 3, in its place). Of a WRITE, its head
    /// and the content that had arrived.
    pub bytes: Bytes,
    /// How much of a WRITE's content is yet to come, as [`Piece::Body`].
    pub body: usize,
    /// What it does. `None` when it changes and tells nothing, or when it is covered by the open that its handle
    /// belongs to.
    pub operation: Option<Operation>,
    /// The path of the open that covers it.
    pub path: Option<Arc<str>>,
    /// Set when it must be refused, whatever policy says.
    pub forbidden: Option<Forbidden>,
}

/// What the client's bytes hold next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A request; see [`Sftp::client`] for what must become of it.
    Request(Request),
    /// More of the content of the WRITE cut last, to follow it upstream. Refused content never comes out.
    Body(Bytes),
}

/// What the upstream's bytes amount to, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Bytes for the client.
    ToClient(Bytes),
    /// A file was closed; for the record.
    Transfer(Transfer),
}

/// One SFTP channel. See the module's head.
///
/// Both directions arrive in any chunks. The caller appends what the client sent to its buffer and calls
/// [`Sftp::client`] until it gives `None`; likewise [`Sftp::upstream`], once per arrival.
#[derive(Debug)]
pub struct Sftp {
    hashing: Hashing,
    greeting: Greeting,
    outstanding: BTreeMap<u32, Outstanding>,
    handles: BTreeMap<Bytes, u64>,
    files: BTreeMap<u64, File>,
    /// The next file's number.
    next: u64,
    /// The WRITE whose content is going by.
    up: Option<Content>,
    down: Down,
    /// Refusals that wait for the end of the upstream's packet.
    answers: VecDeque<Bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greeting {
    Awaited,
    Asked,
    Done,
}

#[derive(Debug)]
struct Outstanding {
    /// Whether it went upstream; nothing may answer it before.
    relayed: bool,
    what: What,
}

#[derive(Debug)]
enum What {
    Open { mode: Mode, path: Arc<str>, odd: bool },
    Close(u64),
    Read { file: u64, offset: u64, length: u32 },
    Write(u64),
    Copy { from: u64, to: u64 },
    Other(Answer),
}

#[derive(Debug)]
struct File {
    mode: Mode,
    path: Arc<str>,
    odd: bool,
    reading: Running,
    at_end: bool,
    writing: Running,
    unacknowledged: usize,
    copied: bool,
}

#[derive(Debug)]
struct Content {
    id: u32,
    /// `None` when the WRITE is refused: its content is dropped.
    file: Option<u64>,
    left: usize,
}

/// The packet of the upstream's that is going by.
#[derive(Debug, Default)]
struct Down {
    left: usize,
    /// The file whose content it is.
    file: Option<u64>,
}

impl Sftp {
    /// A channel on which nothing was said.
    pub fn new(hashing: Hashing) -> Self {
        Self {
            hashing,
            greeting: Greeting::Awaited,
            outstanding: BTreeMap::new(),
            handles: BTreeMap::new(),
            files: BTreeMap::new(),
            next: 0,
            up: None,
            down: Down::default(),
            answers: VecDeque::new(),
        }
    }

    /// Cuts the next piece off the client's bytes; `None` when more are needed.
    ///
    /// Pieces must go upstream in this order, so nothing may overtake a request that waits for its decision. A request
    /// ends in exactly one of these ways:
    /// - `forbidden` is set: [`Sftp::refuse`] it;
    /// - it has an operation: decide and record, then call [`Sftp::relayed`] and send its bytes, or [`Sftp::refuse`];
    /// - neither: send its bytes.
    ///
    /// Don't cut on while a request that may yet be refused is undecided unless the pieces are kept in order.
    pub fn client(&mut self, buffer: &mut BytesMut) -> Result<Option<Piece>, SftpViolation> {
        if let Some(body) = self.body(buffer) {
            return Ok(Some(Piece::Body(body)));
        }
        if self.up.is_some() {
            return Ok(None);
        }
        let (Some(length), Some(&kind)) = (u32_at(buffer, 0), buffer.get(4)) else {
            // Nonsense is refused before its second half is waited for.
            if u32_at(buffer, 0).is_some_and(|length| length as usize > MAX_REQUEST || length < 5) {
                return Err(SftpViolation::RequestLength);
            }
            return Ok(None);
        };
        let length = length as usize;
        if !(5..=MAX_REQUEST).contains(&length) {
            return Err(SftpViolation::RequestLength);
        }
        let whole = 4 + length;
        match (self.greeting, kind) {
            (Greeting::Awaited, INIT) => {}
            (Greeting::Awaited, _) => return Err(SftpViolation::NoGreeting),
            (_, INIT) => return Err(SftpViolation::SecondGreeting),
            _ => {}
        }
        let needed = if kind == WRITE { whole.min(WRITE_HEAD) } else { whole };
        if buffer.len() < needed {
            return Ok(None);
        }
        let number = u32_at(buffer, 5).ok_or(SftpViolation::RequestLength)?;
        if kind == INIT {
            buffer.advance(whole);
            if number < 3 {
                return Err(SftpViolation::ClientVersion);
            }
            self.greeting = Greeting::Asked;
            return Ok(Some(Piece::Request(Request {
                id: 0,
                kind: Kind::Init,
                bytes: Bytes::from_static(GREETING),
                body: 0,
                operation: None,
                path: None,
                forbidden: None,
            })));
        }
        if self.outstanding.contains_key(&number) {
            return Err(SftpViolation::IdInUse);
        }
        if self.outstanding.len() >= MAX_OUTSTANDING {
            return Err(SftpViolation::TooManyRequests);
        }
        let request = if kind == WRITE {
            self.write(number, whole, buffer)
        } else {
            let bytes = buffer.split_to(whole).freeze();
            let read = self.read(kind, bytes.get(9..).unwrap_or_default());
            let mut request = match read {
                Ok((what, request)) => {
                    self.outstanding.insert(number, Outstanding { relayed: request.operation.is_none(), what });
                    request
                }
                Err(forbidden) => {
                    let what = What::Other(Answer::Status);
                    self.outstanding.insert(number, Outstanding { relayed: false, what });
                    bare(Kind::OnPath, Some(forbidden))
                }
            };
            request.bytes = bytes;
            request
        };
        Ok(Some(Piece::Request(Request { id: number, ..request })))
    }

    /// A request with an operation goes upstream now: from here on it may be answered. Harmless for any other.
    pub fn relayed(&mut self, request: &Request) {
        if let Some(outstanding) = self.outstanding.get_mut(&request.id) {
            outstanding.relayed = true;
        }
    }

    /// The gateway answers the request by itself, and nothing of it may go upstream: `SSH_FX_PERMISSION_DENIED` with
    /// this text, or the status that the protocol forbade it with. Returns the bytes to send to the client at once;
    /// `None` when the upstream is in the middle of a packet, after which [`Sftp::upstream`] gives them out.
    pub fn refuse(&mut self, request: &Request, text: &str) -> Option<Bytes> {
        let outstanding = self.outstanding.remove(&request.id)?;
        if let Some(up) = self.up.as_mut().filter(|up| up.id == request.id) {
            up.file = None;
        }
        if !matches!(outstanding.what, What::Close(_)) {
            self.status(outstanding.what, false, false, &mut Vec::new());
        }
        let status = request.forbidden.map_or(Status::PermissionDenied, |forbidden| forbidden.status);
        let answer = status_packet(request.id, status, text);
        if self.between_packets() {
            return Some(answer);
        }
        self.answers.push_back(answer);
        None
    }

    /// Reads what the upstream sent, pushes what it amounts to, and leaves only an incomplete head in the buffer.
    pub fn upstream(&mut self, buffer: &mut BytesMut, replies: &mut Vec<Reply>) -> Result<(), SftpViolation> {
        let mut run = 0;
        let result = loop {
            if self.down.left > 0 {
                let taken = self.down.left.min(buffer.len() - run);
                if let Some(file) = self.down.file.and_then(|file| self.files.get_mut(&file)) {
                    file.reading.feed(&buffer[run..run + taken]);
                }
                self.down.left -= taken;
                run += taken;
                if self.down.left > 0 {
                    break Ok(());
                }
                self.down.file = None;
            }
            if !self.answers.is_empty() {
                send(buffer, &mut run, replies);
                replies.extend(self.answers.drain(..).map(Reply::ToClient));
            }
            match self.head(&buffer[run..], replies) {
                Ok(Some(head)) => run += head,
                Ok(None) => break Ok(()),
                Err(violation) => break Err(violation),
            }
        };
        send(buffer, &mut run, replies);
        result
    }

    /// The channel ended: what was still open, for the record. Nothing of it is complete.
    pub fn end(self) -> Vec<Transfer> {
        self.files.into_values().flat_map(|file| file.finish(false)).collect()
    }

    /// Whether the client is owed an answer by the upstream, or content by itself.
    pub fn is_busy(&self) -> bool {
        self.up.is_some() || !self.outstanding.is_empty()
    }

    fn between_packets(&self) -> bool {
        self.down.left == 0
    }

    /// The next content of the WRITE that is going by; drops it when that is refused.
    fn body(&mut self, buffer: &mut BytesMut) -> Option<Bytes> {
        let up = self.up.as_mut()?;
        let taken = up.left.min(buffer.len());
        up.left -= taken;
        let (done, file) = (up.left == 0, up.file);
        if done {
            self.up = None;
        }
        let Some(file) = file else {
            buffer.advance(taken);
            return None;
        };
        if taken == 0 {
            return None;
        }
        let body = buffer.split_to(taken).freeze();
        // It may have been closed in between by nobody: requests are cut in order, and this one isn't over.
        if let Some(file) = self.files.get_mut(&file) {
            file.writing.feed(&body);
        }
        Some(body)
    }

    /// A WRITE, whose head has arrived.
    fn write(&mut self, id: u32, whole: usize, buffer: &mut BytesMut) -> Request {
        let head = WriteHead::read(&buffer[..whole.min(buffer.len())], whole);
        let permitted = head.and_then(|head| {
            let number = self.file(head.handle)?;
            let file = self.files.get_mut(&number).ok_or(UNKNOWN_HANDLE)?;
            let Mode::File { write: true, append, .. } = file.mode else {
                return Err(Forbidden::new(Status::PermissionDenied, "the handle was not opened for writing"));
            };
            file.unacknowledged += 1;
            file.writing.at(head.offset);
            if append {
                file.writing.disorder();
            }
            Ok((number, head.length, Arc::clone(&file.path)))
        });
        let bytes = buffer.split_to(whole.min(buffer.len())).freeze();
        let left = whole - bytes.len();
        let (what, file, request) = match permitted {
            Ok((number, head, path)) => {
                if let Some(file) = self.files.get_mut(&number) {
                    file.writing.feed(&bytes[head..]);
                }
                (What::Write(number), Some(number), Request { path: Some(path), ..bare(Kind::Write, None) })
            }
            Err(forbidden) => (What::Other(Answer::Status), None, bare(Kind::Write, Some(forbidden))),
        };
        self.outstanding.insert(id, Outstanding { relayed: file.is_some(), what });
        if left > 0 {
            self.up = Some(Content { id, file, left });
        }
        Request { bytes, body: left, ..request }
    }

    /// Any other request, whole.
    fn read(&mut self, kind: u8, body: &[u8]) -> Result<(What, Request), Forbidden> {
        Ok(match request::read(kind, body)? {
            Asked::Open { mode, path, operation } => {
                if self.files.len() >= MAX_OPEN {
                    return Err(Forbidden::new(Status::Failure, "too many handles are open"));
                }
                let kind = if mode == Mode::Directory { Kind::OpenDir } else { Kind::Open };
                let named = path::name(&path);
                (What::Open { mode, path: named.name.into(), odd: named.odd }, doing(kind, operation))
            }
            Asked::Close { handle } => {
                // From here on it is nobody's: the upstream may give it out again before it answers.
                let (_, file) = self.handles.remove_entry(handle).ok_or(UNKNOWN_HANDLE)?;
                (What::Close(file), self.covered(Kind::Close, file))
            }
            Asked::Read { handle, offset, length } => {
                let file = self.file(handle)?;
                let Some(Mode::File { read: true, .. }) = self.files.get(&file).map(|file| file.mode) else {
                    return Err(Forbidden::new(Status::PermissionDenied, "the handle was not opened for reading"));
                };
                (What::Read { file, offset, length }, self.covered(Kind::Read, file))
            }
            Asked::ReadDir { handle } => {
                let file = self.file(handle)?;
                if self.files.get(&file).is_none_or(|file| file.mode != Mode::Directory) {
                    return Err(Forbidden::new(Status::PermissionDenied, "the handle is not one of a directory"));
                }
                (What::Other(Answer::Name), self.covered(Kind::ReadDir, file))
            }
            Asked::Look { handle, answer } => {
                let file = self.file(handle)?;
                (What::Other(answer), self.covered(Kind::OnHandle, file))
            }
            Asked::Sync { handle } => {
                let file = self.file(handle)?;
                (What::Other(Answer::Status), self.covered(Kind::OnHandle, file))
            }
            Asked::Attributes { handle, mut operation } => {
                let number = self.file(handle)?;
                let file = self.files.get(&number).ok_or(UNKNOWN_HANDLE)?;
                touch(&mut operation, Access::Write, file.named());
                let request = Request { path: Some(Arc::clone(&file.path)), ..doing(Kind::OnHandle, operation) };
                (What::Other(Answer::Status), request)
            }
            Asked::Copy { from, to } => {
                let (from, to) = (self.file(from)?, self.file(to)?);
                let source = self.files.get(&from).map(|file| file.mode);
                let target = self.files.get(&to).map(|file| file.mode);
                let (Some(Mode::File { read: true, .. }), Some(Mode::File { write: true, .. })) = (source, target)
                else {
                    return Err(Forbidden::new(
                        Status::PermissionDenied,
                        "the handles were not opened for reading and for writing",
                    ));
                };
                for number in [from, to] {
                    if let Some(file) = self.files.get_mut(&number) {
                        file.copied = true;
                        file.unacknowledged += 1;
                    }
                }
                if let Some(file) = self.files.get_mut(&to) {
                    file.writing.disorder();
                }
                (What::Copy { from, to }, self.covered(Kind::OnHandle, to))
            }
            Asked::Plain { operation, answer } => {
                (What::Other(answer), Request { operation, ..bare(Kind::OnPath, None) })
            }
            Asked::Opaque { operation } => (What::Other(Answer::Any), doing(Kind::Opaque, operation)),
        })
    }

    /// The file that the handle stands for.
    fn file(&self, handle: &[u8]) -> Result<u64, Forbidden> {
        self.handles.get(handle).copied().ok_or(UNKNOWN_HANDLE)
    }

    fn covered(&self, kind: Kind, file: u64) -> Request {
        let path = self.files.get(&file).map(|file| Arc::clone(&file.path));
        Request { path, ..bare(kind, None) }
    }

    /// The head of the upstream's next packet: how much of it was read, with `down` set to what follows.
    fn head(&mut self, bytes: &[u8], replies: &mut Vec<Reply>) -> Result<Option<usize>, SftpViolation> {
        let Some(length) = u32_at(bytes, 0) else { return Ok(None) };
        let length = length as usize;
        if !(5..=MAX_REPLY).contains(&length) {
            return Err(SftpViolation::ReplyLength);
        }
        let whole = 4 + length;
        let (Some(&kind), Some(number)) = (bytes.get(4), u32_at(bytes, 5)) else { return Ok(None) };
        if kind == VERSION || self.greeting != Greeting::Done {
            if self.greeting != Greeting::Asked || kind != VERSION || number != 3 {
                return Err(SftpViolation::UpstreamVersion);
            }
            self.greeting = Greeting::Done;
            return Ok(Some(self.pass(whole, 9, None)));
        }
        // How much must be there to know all that matters.
        let needed = match kind {
            HANDLE if length > 9 + MAX_HANDLE => return Err(SftpViolation::WrongReply),
            HANDLE => whole,
            STATUS | DATA if length < 9 => return Err(SftpViolation::WrongReply),
            STATUS | DATA => 13,
            _ => 9,
        };
        if bytes.len() < needed {
            return Ok(None);
        }
        let outstanding = self.outstanding.remove(&number).filter(|outstanding| outstanding.relayed);
        let what = outstanding.ok_or(SftpViolation::Unasked)?.what;
        let content = u32_at(bytes, 9);
        let mut fed = None;
        match (kind, what) {
            (STATUS, what) => self.status(what, content == Some(FX_OK), content == Some(FX_EOF), replies),
            (DATA, What::Read { file, offset, length: asked }) => {
                if content.is_none_or(|n| n > asked || n as usize != length - 9) {
                    return Err(SftpViolation::WrongReply);
                }
                if let Some(file) = self.files.get_mut(&file) {
                    file.reading.at(offset);
                }
                fed = Some(file);
            }
            (HANDLE, What::Open { mode, path, odd }) => {
                let handle = bytes.get(13..whole).filter(|handle| Some(handle.len() as u32) == content);
                let handle = handle.ok_or(SftpViolation::WrongReply)?;
                if self.handles.insert(Bytes::copy_from_slice(handle), self.next).is_some() {
                    return Err(SftpViolation::HandleInUse);
                }
                self.files.insert(self.next, File::new(mode, path, odd, self.hashing));
                self.next += 1;
            }
            (NAME, What::Other(Answer::Name))
            | (ATTRS, What::Other(Answer::Attrs))
            | (EXTENDED_REPLY, What::Other(Answer::Extended))
            // A handle among them is not kept, so nothing can be done with it.
            | (HANDLE | DATA | NAME | ATTRS | EXTENDED_REPLY, What::Other(Answer::Any)) => {}
            _ => return Err(SftpViolation::WrongReply),
        }
        Ok(Some(self.pass(whole, needed, fed)))
    }

    /// `read` bytes of the packet go on; the rest goes by, as content of the file if there is one.
    fn pass(&mut self, whole: usize, read: usize, file: Option<u64>) -> usize {
        self.down = Down { left: whole - read, file };
        read
    }

    /// A status ends whatever it answers.
    fn status(&mut self, what: What, ok: bool, end: bool, replies: &mut Vec<Reply>) {
        match what {
            What::Read { file, offset, .. } => {
                let Some(file) = self.files.get_mut(&file) else { return };
                if end {
                    file.at_end |= file.reading.reached(offset);
                } else {
                    file.reading.failed = true;
                }
            }
            What::Write(file) => {
                let Some(file) = self.files.get_mut(&file) else { return };
                file.unacknowledged -= 1;
                file.writing.failed |= !ok;
            }
            What::Copy { from, to } => {
                for number in [from, to] {
                    if let Some(file) = self.files.get_mut(&number) {
                        file.unacknowledged -= 1;
                    }
                }
                if let Some(file) = self.files.get_mut(&to) {
                    file.writing.failed |= !ok;
                }
            }
            What::Close(file) => {
                if let Some(file) = self.files.remove(&file) {
                    replies.extend(file.finish(ok).into_iter().map(Reply::Transfer));
                }
            }
            What::Open { .. } | What::Other(_) => {}
        }
    }
}

const UNKNOWN_HANDLE: Forbidden =
    Forbidden::new(Status::PermissionDenied, "the handle is not one that was opened here");

impl File {
    fn new(mode: Mode, path: Arc<str>, odd: bool, hashing: Hashing) -> Self {
        let (reads, writes) = match mode {
            Mode::Directory => (Hashing::Off, Hashing::Off),
            Mode::File { read, write, .. } => {
                (if read { hashing } else { Hashing::Off }, if write { hashing } else { Hashing::Off })
            }
        };
        Self {
            mode,
            path,
            odd,
            reading: Running::new(reads),
            at_end: false,
            writing: Running::new(writes),
            unacknowledged: 0,
            copied: false,
        }
    }

    /// Its path as it was named when it was opened.
    fn named(&self) -> path::Named {
        let dotdot = self.path.split('/').any(|component| component == "..");
        path::Named { name: self.path.to_string(), dotdot, odd: self.odd }
    }

    /// A file open for both has an account of each direction that was used, and one of writing if none was.
    fn finish(self, closed: bool) -> Vec<Transfer> {
        let Mode::File { read, write, .. } = self.mode else { return Vec::new() };
        let mut transfers = Vec::new();
        let path = self.path.to_string();
        if read && !(write && self.reading.is_untouched()) {
            let complete = closed && self.at_end;
            transfers.push(self.reading.finish(path.clone(), Direction::Read, complete, self.copied));
        }
        if write && !(read && self.writing.is_untouched() && !transfers.is_empty()) {
            let complete = closed && self.unacknowledged == 0;
            transfers.push(self.writing.finish(path, Direction::Write, complete, self.copied));
        }
        transfers
    }
}

/// The head of a WRITE.
struct WriteHead<'a> {
    handle: &'a [u8],
    offset: u64,
    /// Where the content starts.
    length: usize,
}

impl<'a> WriteHead<'a> {
    /// Reads it from what arrived of a packet of this length.
    fn read(bytes: &'a [u8], whole: usize) -> Result<Self, Forbidden> {
        const MALFORMED: Forbidden = Forbidden::new(Status::BadMessage, "the request is malformed");
        let handle = u32_at(bytes, 9).map(|length| length as usize).filter(|&length| length <= MAX_HANDLE);
        let end = 13 + handle.ok_or(MALFORMED)?;
        let length = end + 12;
        let content = u32_at(bytes, end + 8).ok_or(MALFORMED)? as usize;
        if length.checked_add(content) != Some(whole) {
            return Err(MALFORMED);
        }
        let offset = u64::from(u32_at(bytes, end).ok_or(MALFORMED)?) << 32;
        let offset = offset | u64::from(u32_at(bytes, end + 4).ok_or(MALFORMED)?);
        Ok(Self { handle: bytes.get(13..end).ok_or(MALFORMED)?, offset, length })
    }
}

fn bare(kind: Kind, forbidden: Option<Forbidden>) -> Request {
    Request { id: 0, kind, bytes: Bytes::new(), body: 0, operation: None, path: None, forbidden }
}

fn doing(kind: Kind, operation: Operation) -> Request {
    Request { operation: Some(operation), ..bare(kind, None) }
}

fn send(buffer: &mut BytesMut, run: &mut usize, replies: &mut Vec<Reply>) {
    if *run > 0 {
        replies.push(Reply::ToClient(buffer.split_to(*run).freeze()));
        *run = 0;
    }
}

fn status_packet(id: u32, status: Status, text: &str) -> Bytes {
    let mut end = text.len().min(1024);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text.as_bytes()[..end];
    let mut packet = BytesMut::with_capacity(text.len() + 23);
    packet.put_u32(text.len() as u32 + 19);
    packet.put_u8(STATUS);
    packet.put_u32(id);
    packet.put_u32(status as u32);
    packet.put_u32(text.len() as u32);
    packet.put_slice(text);
    packet.put_u32(2);
    packet.put_slice(b"en");
    packet.freeze()
}
