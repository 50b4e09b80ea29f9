//! A PostgreSQL session after log-in, both ways: [`PgProtocol`].
//!
//! The client's side (this file) cuts frames and says what each carries; the server's side (`replies.rs`) follows the
//! answers. It decides nothing, and it knows SQL only through [`Classify`].

mod bind;
mod refusal;
mod replies;
mod slots;
#[cfg(test)]
mod tests;

use crate::classify::SessionEffect;
use crate::frame::{Body, MAX_CLIENT_MESSAGE, PROTOCOL_VIOLATION, head, run};
use crate::message::{Diagnostic, Severity};
use bytes::{Buf, Bytes, BytesMut};
use onus_core::operation::Operation;
use onus_core::view::View;
use onus_pep::{
    Digest, EndCause, Forbidden, Frame, Next, OpNo, Protocol, Refusal, Replacement, Reply, Stage, Statement,
    StatementId, Violation,
};
use replies::{Expect, Replies, What};
use sha2::{Digest as _, Sha256};
use slots::{Found, Name, Slots};
use std::fmt;
use std::sync::Arc;

/// What the classifier says about one SQL text.
#[derive(Debug, Clone)]
pub struct StatementInfo {
    /// The operations and their identity.
    pub statement: Arc<Statement>,
    /// Whether running it may change what later texts mean (settings, temporary tables, names). Nothing that follows
    /// is classified before it is relayed or refused.
    pub changes_session: bool,
    /// Whether it makes or removes SQL-level prepared statements: from then on a named one may be either sort.
    pub touches_prepared: bool,
    /// What it may do to the session.
    pub effects: Arc<[SessionEffect]>,
}

/// The classifier as the wire sees it. One per session; all calls come in the order of the client's bytes.
pub trait Classify {
    /// Classifies a text in the session as it is now. Texts with equal operations should share one identity.
    fn classify(&mut self, text: &str) -> Arc<StatementInfo>;
    /// Rises whenever the same text could mean something else than before.
    fn generation(&self) -> u64;
    /// The client names a text (protocol-level prepared statement).
    fn named(&mut self, name: &str, text: &str);
    /// The client closes a name, and the server did it.
    fn closed(&mut self, name: &str);
    /// What running the statement prepared under this name may do: all that was ever prepared under it. `None` if
    /// nothing was.
    fn prepared(&mut self, name: &str) -> Option<Arc<StatementInfo>>;
    /// It goes to the server now: from here on its effects are possible.
    fn relayed(&mut self, info: &StatementInfo);
    /// The server has answered: it ran without error, or failed, or was passed over (`ran` false).
    fn settled(&mut self, info: &StatementInfo, ran: bool);
    /// The server is ready; `I` no transaction, `T` in one, `E` in a failed one. `in_flight` says whether more was
    /// relayed that it hasn't answered.
    fn ready(&mut self, status: u8, in_flight: bool);
    /// The server reports a setting.
    fn parameter(&mut self, name: &str, value: &str);
    /// A statement of its own identity that can't be known, for what the wire itself can't see through.
    fn opaque(&mut self, why: &str) -> Arc<StatementInfo>;
}

/// Settings of [`PgProtocol`].
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The longest client message other than CopyData, in bytes.
    pub max_message: usize,
    /// Bytes recorded of one parameter.
    pub param_bytes: usize,
    /// Bytes recorded of all parameters of one run.
    pub params_bytes: usize,
    /// Named prepared statements, and named portals, that a client may have at once.
    pub names: usize,
    /// Relayed messages that may be unanswered before the client's next one is looked at.
    pub unanswered: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_message: MAX_CLIENT_MESSAGE,
            param_bytes: 1024,
            params_bytes: 64 * 1024,
            names: 8192,
            unanswered: 65_536,
        }
    }
}

/// A text that the client prepared, and what it meant at which generation.
pub(crate) struct Prepared {
    text: Bytes,
    info: Arc<StatementInfo>,
    generation: u64,
}

/// A portal: what it will run, with which parameters.
struct Portal {
    prepared: Arc<Prepared>,
    bind: Bytes,
}

/// What this protocol notes about a frame. Opaque to everyone else.
pub struct Kind(pub(crate) Message);

pub(crate) enum Message {
    Query(Arc<StatementInfo>),
    Parse {
        name: Name,
        change: u64,
        group: u64,
    },
    Bind {
        name: Name,
        change: u64,
    },
    DescribeStatement,
    DescribePortal,
    Execute {
        info: Arc<StatementInfo>,
        bind: Bytes,
        group: u64,
    },
    CloseStatement {
        name: Name,
        change: u64,
    },
    ClosePortal {
        name: Name,
        change: u64,
    },
    /// With the number of the group that it begins.
    Sync(u64),
    Flush,
    FunctionCall,
    CopyData,
    CopyEnd,
    Terminate,
}

/// The PostgreSQL protocol between log-in and goodbye, for [`onus_pep::Machine`].
pub struct PgProtocol<C> {
    classify: C,
    options: Options,
    statements: Slots<Arc<Prepared>>,
    portals: Slots<Arc<Portal>>,
    /// Number of the group that the client is in; a Sync begins the next.
    group: u64,
    /// The same, as far as it was relayed.
    relayed_group: u64,
    /// The rest of the client's group is passed over: something in it was refused, or is known to have failed.
    dead: bool,
    /// Bytes of a client message that are still to come and go the way of its beginning.
    passing: usize,
    dropping: usize,
    /// Nothing may be classified until a statement that changes the session is relayed or refused.
    barrier: bool,
    sql_prepared: bool,
    replies: Replies,
}

impl<C: Classify> PgProtocol<C> {
    /// After log-in; `status` is the transaction status of the server's first ReadyForQuery.
    pub fn new(classify: C, status: u8, options: Options) -> Self {
        Self {
            classify,
            options,
            statements: Slots::new(),
            portals: Slots::new(),
            group: 0,
            relayed_group: 0,
            dead: false,
            passing: 0,
            dropping: 0,
            barrier: false,
            sql_prepared: false,
            replies: Replies::new(status),
        }
    }

    /// The transaction status that the server last reported: `I`, `T` or `E`.
    pub fn status(&self) -> u8 {
        self.replies.status
    }

    /// The classifier.
    pub fn classifier(&self) -> &C {
        &self.classify
    }

    /// The classifier, to be told about a new catalogue.
    pub fn classifier_mut(&mut self) -> &mut C {
        &mut self.classify
    }

    /// Lets go of the rest of a refused group; `None` when there is nothing more to let go of.
    fn drop_group(&mut self, buffer: &mut BytesMut) -> Result<bool, Violation> {
        loop {
            if self.dropping > 0 {
                let n = self.dropping.min(buffer.len());
                buffer.advance(n);
                self.dropping -= n;
                if self.dropping > 0 {
                    return Ok(false);
                }
            }
            let Some((kind, size)) = head(buffer)? else { return Ok(false) };
            match kind {
                b'S' | b'X' => {
                    self.dead = false;
                    return Ok(true);
                }
                b'Q' | b'P' | b'B' | b'E' | b'D' | b'C' | b'H' | b'F' | b'd' | b'c' | b'f' => self.dropping = size,
                _ => return Err(unknown(kind)),
            }
        }
    }

    fn frame(&mut self, kind: u8, bytes: Bytes) -> Result<Next<Kind>, Violation> {
        let body = Body::of_message(&bytes);
        let plain = |bytes, message| Ok(Next::Frame(Frame::plain(bytes, Kind(message))));
        match kind {
            b'Q' => self.query(bytes),
            b'P' => self.parse(bytes),
            b'B' => self.bind(bytes),
            b'E' => self.execute(bytes),
            b'D' | b'C' => self.describe_or_close(kind, bytes),
            b'F' => {
                let why = "the fast-path function call names a function by number; call it in SQL instead";
                let info = self.classify.opaque(why);
                Ok(Next::Frame(forbid(bytes, Bytes::new(), info, "42501", why, Message::FunctionCall)))
            }
            b'c' => {
                body.end()?;
                self.replies.copy_open = false;
                plain(bytes, Message::CopyEnd)
            }
            b'f' => {
                self.replies.copy_open = false;
                plain(bytes, Message::CopyEnd)
            }
            b'H' => {
                body.end()?;
                plain(bytes, Message::Flush)
            }
            b'S' => {
                body.end()?;
                if !self.replies.copy_open {
                    self.group += 1;
                }
                plain(bytes, Message::Sync(self.group))
            }
            b'X' => {
                let mut frame = Frame::plain(bytes, Kind(Message::Terminate));
                frame.farewell = true;
                Ok(Next::Frame(frame))
            }
            _ => Err(unknown(kind)),
        }
    }

    fn query(&mut self, bytes: Bytes) -> Result<Next<Kind>, Violation> {
        let mut body = Body::of_message(&bytes);
        let length = body.cstr()?.len();
        body.end()?;
        let text = bytes.slice(5..5 + length);
        let Ok(sql) = std::str::from_utf8(&text) else { return Ok(Next::Frame(self.not_utf8(bytes, text, None))) };
        let info = self.classify.classify(sql);
        self.note(&info);
        Ok(Next::Frame(Frame {
            statement: Some(info.statement.clone()),
            stage: Stage::Run,
            text,
            params: Vec::new(),
            forbidden: None,
            farewell: false,
            lane: 0,
            bytes,
            kind: Kind(Message::Query(info)),
        }))
    }

    fn parse(&mut self, bytes: Bytes) -> Result<Next<Kind>, Violation> {
        let mut body = Body::of_message(&bytes);
        let name = body.text()?;
        let at = bytes.len() - body.rest().len();
        let length = body.cstr()?.len();
        let types = body.count()?;
        body.take(types * 4)?;
        body.end()?;
        let text = bytes.slice(at..at + length);
        let key = self.statements.name(name);
        let Ok(sql) = std::str::from_utf8(&text) else {
            return Ok(Next::Frame(self.not_utf8(bytes.clone(), text, Some(key))));
        };
        if self.statements.len() >= self.options.names {
            return Err(Violation::new("53400", "the client has too many prepared statements"));
        }
        let info = self.classify.classify(sql);
        if key.is_some() {
            self.classify.named(name, sql);
        }
        // The text is kept as long as the name is, so it must not keep the read buffer.
        let generation = self.classify.generation();
        let prepared = Prepared { text: Bytes::copy_from_slice(&text), info: info.clone(), generation };
        let change = self.statements.propose(&key, self.group, Some(Arc::new(prepared)));
        Ok(Next::Frame(Frame {
            statement: Some(info.statement.clone()),
            stage: Stage::Prepare,
            text,
            params: Vec::new(),
            forbidden: None,
            farewell: false,
            lane: 0,
            bytes,
            kind: Kind(Message::Parse { name: key, change, group: self.group }),
        }))
    }

    fn bind(&mut self, bytes: Bytes) -> Result<Next<Kind>, Violation> {
        let mut body = Body::of_message(&bytes);
        let portal = body.text()?;
        let statement = body.text()?;
        let at = bytes.len() - body.rest().len();
        bind::check(body)?;
        if self.portals.len() >= self.options.names {
            return Err(Violation::new("53400", "the client has too many portals"));
        }
        let prepared = match self.statements.find(statement, self.group) {
            // SQL-level PREPARE shares the names: what runs may be any of them.
            _ if self.sql_prepared && !statement.is_empty() => {
                let info = match self.classify.prepared(statement) {
                    Some(info) => info,
                    None => self.classify.opaque("no such prepared statement was seen"),
                };
                let text = match self.statements.find(statement, self.group) {
                    Found::Known(prepared) => prepared.text.clone(),
                    _ => Bytes::from(format!("EXECUTE {statement}")),
                };
                // Its texts are classified anew each time, so it is never older than the session.
                Arc::new(Prepared { text, info, generation: self.classify.generation() })
            }
            Found::Known(prepared) if prepared.generation == self.classify.generation() => prepared.clone(),
            // The server plans it anew when the session's settings changed; so do we.
            Found::Known(prepared) => {
                let text = prepared.text.clone();
                let sql = std::str::from_utf8(&text).unwrap_or_default();
                let info = self.classify.classify(sql);
                Arc::new(Prepared { text, info, generation: self.classify.generation() })
            }
            Found::Missing => {
                let info = self.classify.opaque("no such prepared statement was seen");
                let text = Bytes::from(format!("EXECUTE {statement}"));
                Arc::new(Prepared { text, info, generation: self.classify.generation() })
            }
            // `client` looks before it cuts.
            Found::Unsettled => return Err(Violation::new("XX000", "a statement was bound before it was settled")),
        };
        let key = self.portals.name(portal);
        let bind = Bytes::copy_from_slice(&bytes[at..]);
        let change = self.portals.propose(&key, self.group, Some(Arc::new(Portal { prepared, bind })));
        Ok(Next::Frame(Frame::plain(bytes, Kind(Message::Bind { name: key, change }))))
    }

    fn execute(&mut self, bytes: Bytes) -> Result<Next<Kind>, Violation> {
        let mut body = Body::of_message(&bytes);
        let name = body.text()?;
        body.int32()?;
        body.end()?;
        let (info, text, bind) = match self.portals.find(name, self.group) {
            Found::Known(portal) => {
                let portal = portal.clone();
                let info = self.info_now(&portal.prepared);
                (info, portal.prepared.text.clone(), portal.bind.clone())
            }
            Found::Missing => {
                let info = self.classify.opaque("no such portal was seen");
                (info, Bytes::from(format!("FETCH FROM {name}")), Bytes::new())
            }
            Found::Unsettled => return Err(Violation::new("XX000", "a portal was run before it was settled")),
        };
        self.note(&info);
        let params = if bind.len() > 6 {
            bind::params(&bind, self.options.param_bytes, self.options.params_bytes)
        } else {
            Vec::new() // Three counts, all zero.
        };
        Ok(Next::Frame(Frame {
            bytes,
            statement: Some(info.statement.clone()),
            stage: Stage::Run,
            text,
            params,
            forbidden: None,
            farewell: false,
            lane: 0,
            kind: Kind(Message::Execute { info, bind, group: self.group }),
        }))
    }

    /// What a bound statement does, now. It was planned when it was bound: if its text means something else by now,
    /// nobody can say which of the two will run.
    fn info_now(&mut self, prepared: &Prepared) -> Arc<StatementInfo> {
        if prepared.generation == self.classify.generation() {
            return prepared.info.clone();
        }
        let sql = std::str::from_utf8(&prepared.text).unwrap_or_default();
        let now = self.classify.classify(sql);
        if now.statement.operations() == prepared.info.statement.operations() {
            return now;
        }
        self.classify.opaque("the session's settings changed between binding and running it")
    }

    fn describe_or_close(&mut self, kind: u8, bytes: Bytes) -> Result<Next<Kind>, Violation> {
        let mut body = Body::of_message(&bytes);
        let what = body.byte()?;
        let name = body.text()?;
        body.end()?;
        let message = match (kind, what) {
            (b'D', b'S') => Message::DescribeStatement,
            (b'D', b'P') => Message::DescribePortal,
            (_, b'S') => {
                let name = self.statements.name(name);
                let change = self.statements.propose(&name, self.group, None);
                Message::CloseStatement { name, change }
            }
            (_, b'P') => {
                let name = self.portals.name(name);
                let change = self.portals.propose(&name, self.group, None);
                Message::ClosePortal { name, change }
            }
            _ => return Err(Violation::new(PROTOCOL_VIOLATION, "neither a statement nor a portal is named")),
        };
        Ok(Next::Frame(Frame::plain(bytes, Kind(message))))
    }

    fn takes_effect(&mut self, info: &StatementInfo) {
        if info.changes_session {
            self.barrier = false;
            self.classify.relayed(info);
        }
    }

    fn note(&mut self, info: &StatementInfo) {
        self.barrier |= info.changes_session;
        self.sql_prepared |= info.touches_prepared;
    }

    fn not_utf8(&mut self, bytes: Bytes, text: Bytes, parse: Option<Name>) -> Frame<Kind> {
        let why = "the statement is not valid UTF-8, which is this session's encoding";
        let info = self.classify.opaque(why);
        let message = match parse {
            None => Message::Query(info.clone()),
            Some(name) => Message::Parse { name, change: 0, group: self.group },
        };
        forbid(bytes, text, info, "22021", why, message)
    }

    /// Whether the next message must wait for answers. `kind` is its type and `bytes` the whole message.
    fn must_wait(&self, kind: u8, bytes: &[u8]) -> Result<bool, Violation> {
        if matches!(kind, b'S' | b'H' | b'X' | b'c' | b'f') {
            return Ok(false);
        }
        if self.barrier || self.replies.expected() >= self.options.unanswered {
            return Ok(true);
        }
        let mut body = Body::of_message(bytes);
        Ok(match kind {
            b'B' => {
                body.cstr()?;
                matches!(self.statements.find(body.text()?, self.group), Found::Unsettled)
            }
            b'E' => matches!(self.portals.find(body.text()?, self.group), Found::Unsettled),
            _ => false,
        })
    }
}

impl<C: Classify> Protocol for PgProtocol<C> {
    type Kind = Kind;

    fn client(&mut self, buffer: &mut BytesMut) -> Result<Next<Kind>, Violation> {
        if self.passing > 0 {
            if buffer.is_empty() {
                return Ok(Next::More);
            }
            let n = self.passing.min(buffer.len());
            self.passing -= n;
            return Ok(Next::Frame(Frame::plain(buffer.split_to(n).freeze(), Kind(Message::CopyData))));
        }
        if (self.dead || self.dropping > 0) && !self.drop_group(buffer)? {
            return Ok(Next::More);
        }
        let Some((kind, size)) = head(buffer)? else { return Ok(Next::More) };
        if kind == b'd' {
            let run = run(buffer, b'd')?;
            self.passing = run.missing;
            return Ok(Next::Frame(Frame::plain(buffer.split_to(run.here).freeze(), Kind(Message::CopyData))));
        }
        if !b"QPBEDCSHFcfX".contains(&kind) {
            return Err(unknown(kind));
        }
        if self.replies.copy_open && !b"cfSHX".contains(&kind) {
            return Err(Violation::new(PROTOCOL_VIOLATION, "only copy data may be sent while a COPY is open"));
        }
        if size > self.options.max_message {
            return Err(Violation::new(
                "54000",
                format!("a message is longer than {} bytes", self.options.max_message),
            ));
        }
        if buffer.len() < size {
            // Few allocations for a long message, yet none of 64 MiB for five bytes that announce one.
            buffer.reserve((size - buffer.len()).min(1 << 20));
            return Ok(Next::More);
        }
        if self.must_wait(kind, &buffer[..size])? {
            return Ok(Next::Wait);
        }
        self.frame(kind, buffer.split_to(size).freeze())
    }

    fn upstream(&mut self, buffer: &mut BytesMut, micros: u64, out: &mut Vec<Reply>) -> Result<(), Violation> {
        let heard = self.hear(buffer, micros, out);
        self.replies.flush_late(out);
        heard
    }

    fn refuse(&mut self, frame: &Frame<Kind>, refusal: &Refusal<'_>) -> Replacement {
        let upstream = match &frame.kind.0 {
            Message::Query(info) => {
                self.barrier &= !info.changes_session;
                refusal::POISON_QUERY
            }
            Message::FunctionCall => refusal::POISON_QUERY,
            Message::Execute { info, group, .. } => {
                self.barrier &= !info.changes_session;
                self.dead = *group == self.group;
                refusal::POISON_PARSE
            }
            Message::Parse { name, change, group } => {
                self.statements.settle(name, *change, false);
                // Unless the client's Sync was already taken in (a later view refused what had been permitted).
                self.dead = *group == self.group;
                refusal::POISON_PARSE
            }
            // The others carry no operations and are never refused.
            _ => refusal::POISON_PARSE,
        };
        Replacement { upstream, answer: refusal::answer(refusal) }
    }

    fn relayed(&mut self, frame: &Frame<Kind>, op: OpNo, micros: u64) -> Option<&'static [u8]> {
        let what = match &frame.kind.0 {
            Message::Query(info) => {
                self.takes_effect(info);
                What::Query(info.clone())
            }
            Message::Parse { name, change, .. } => What::Parse(name.clone(), *change),
            Message::Bind { name, change } => What::Bind(name.clone(), *change),
            Message::DescribeStatement | Message::DescribePortal => What::Describe,
            Message::Execute { info, .. } => {
                self.takes_effect(info);
                What::Execute(info.clone())
            }
            Message::CloseStatement { name, change } => What::CloseStatement(name.clone(), *change),
            Message::ClosePortal { name, change } => What::ClosePortal(name.clone(), *change),
            Message::Sync(next) => {
                self.relayed_group = *next;
                if self.replies.copy_in_progress() {
                    return None;
                }
                What::Sync
            }
            Message::CopyEnd => What::CopyEnd,
            Message::CopyData => {
                self.replies.count_in(frame.bytes.len());
                return None;
            }
            Message::Flush | Message::Terminate | Message::FunctionCall => return None,
        };
        let expect = Expect::new(what, op, micros);
        if self.replies.passes_over(&expect) {
            self.undone(expect, true, micros);
            return None;
        }
        self.replies.push(expect);
        None
    }

    fn replaced(&mut self, frame: &Frame<Kind>, replacement: Replacement, op: OpNo, micros: u64) -> Option<Bytes> {
        let what = match frame.kind.0 {
            Message::Query(_) | Message::FunctionCall => What::PoisonQuery(Some(replacement.answer)),
            _ => What::PoisonGroup(replacement.answer),
        };
        let expect = Expect::new(what, op, micros);
        if !self.replies.passes_over(&expect) {
            self.replies.push(expect);
        }
        None
    }

    fn notice(&mut self, text: &str) -> Option<Bytes> {
        let notice = Diagnostic { severity: Severity::Notice, code: "00000", message: text, detail: None, hint: None }
            .to_bytes();
        if self.replies.between_messages() {
            return Some(notice);
        }
        self.replies.owe(notice);
        None
    }

    fn fatal(&self, cause: EndCause, code: Option<&str>, text: &str) -> Option<Bytes> {
        // Drivers report the last error that they hear: the server's own must stay that.
        let said = cause == EndCause::UpstreamClosed && self.replies.last_word;
        (self.replies.between_messages() && !said).then(|| refusal::fatal(cause, code, text))
    }

    fn digest(&self, frame: &Frame<Kind>, view: &View) -> Digest {
        let bind: &[u8] = match &frame.kind.0 {
            Message::Execute { bind, .. } => bind,
            _ => &[],
        };
        let mut hash = Sha256::new();
        hash.update(b"onus hold v1");
        let parts = [
            view.session.as_str().as_bytes(),
            view.policy_digest.as_bytes(),
            frame.stage.as_str().as_bytes(),
            &frame.text,
            bind,
        ];
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    fn busy(&self) -> bool {
        self.replies.expected() > 0
    }
}

fn forbid(
    bytes: Bytes,
    text: Bytes,
    info: Arc<StatementInfo>,
    code: &'static str,
    why: &str,
    message: Message,
) -> Frame<Kind> {
    Frame {
        bytes,
        statement: Some(info.statement.clone()),
        stage: Stage::Run,
        text,
        params: Vec::new(),
        forbidden: Some(Forbidden { code, why: why.to_owned() }),
        farewell: false,
        lane: 0,
        kind: Kind(message),
    }
}

fn unknown(kind: u8) -> Violation {
    Violation::new(PROTOCOL_VIOLATION, format!("a message of type 0x{kind:02x} has no place here"))
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kind")
    }
}

/// A classifier that knows nothing: each text is opaque. For fuzzing, and for a gateway that only watches.
#[derive(Debug, Default)]
pub struct AllOpaque {
    last: u64,
}

impl Classify for AllOpaque {
    fn classify(&mut self, _: &str) -> Arc<StatementInfo> {
        self.opaque("nothing is classified here")
    }
    fn generation(&self) -> u64 {
        0
    }
    fn named(&mut self, _: &str, _: &str) {}
    fn closed(&mut self, _: &str) {}
    fn prepared(&mut self, _: &str) -> Option<Arc<StatementInfo>> {
        None
    }
    fn relayed(&mut self, _: &StatementInfo) {}
    fn settled(&mut self, _: &StatementInfo, _: bool) {}
    fn ready(&mut self, _: u8, _: bool) {}
    fn parameter(&mut self, _: &str, _: &str) {}
    fn opaque(&mut self, why: &str) -> Arc<StatementInfo> {
        self.last += 1;
        let statement = Arc::new(Statement::new(StatementId(self.last), vec![Operation::opaque("sql.opaque", why)]));
        Arc::new(StatementInfo { statement, changes_session: false, touches_prepared: false, effects: [].into() })
    }
}

/// Feeds `data` to both sides, in turns: part of [`crate::fuzz_frames`].
pub(crate) fn fuzz_proxy(data: &[u8]) {
    let mut protocol = PgProtocol::new(AllOpaque::default(), b'I', Options::default());
    let (mut client, mut upstream, mut replies) = (BytesMut::new(), BytesMut::new(), Vec::new());
    for (i, chunk) in data.chunks(16).enumerate() {
        if i % 2 == 0 {
            client.extend_from_slice(chunk);
        } else {
            upstream.extend_from_slice(chunk);
        }
        loop {
            match protocol.client(&mut client) {
                Ok(Next::Frame(frame)) => drop(protocol.relayed(&frame, OpNo(1), 0)),
                Ok(Next::More | Next::Wait | Next::Say(_) | Next::Tape(_) | Next::Done(_) | Next::Withdraw(_)) => break,
                Err(_) => return,
            }
        }
        if protocol.upstream(&mut upstream, 0, &mut replies).is_err() {
            return;
        }
        replies.clear();
    }
}
