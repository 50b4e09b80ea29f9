//! The server's side: which relayed message each answer belongs to.
//!
//! Answers come in the order of the messages, so one queue of what is expected is enough. Three things bend it: an
//! error in the extended flow makes the server pass over everything up to the next Sync; Syncs inside COPY IN are
//! ignored; and notices, notifications and settings may come at any time.

use super::{Classify, PgProtocol, StatementInfo, slots::Name};
use crate::frame::{Body, PROTOCOL_VIOLATION, Run, head, run};
use crate::message::error_fields;
use bytes::{Buf, Bytes, BytesMut};
use onus_pep::{Done, Failure, OpNo, Reply, Violation};
use std::collections::VecDeque;
use std::sync::Arc;

/// The longest server message whose contents are looked at; rows and their descriptions are not among them.
const MAX_INSPECTED: usize = 16 << 20;

/// A relayed message that the server will answer.
pub(super) enum What {
    Query(Arc<StatementInfo>),
    Parse(Name, u64),
    Bind(Name, u64),
    Describe,
    Execute(Arc<StatementInfo>),
    CloseStatement(Name, u64),
    ClosePortal(Name, u64),
    Sync,
    /// Not answered by itself: the place of a CopyDone or CopyFail among the others.
    CopyEnd,
    /// Our own Query, with the error to send in place of the server's until that was done.
    PoisonQuery(Option<Bytes>),
    /// Our own Parse, with the error to send in place of the server's.
    PoisonGroup(Bytes),
}

pub(super) struct Expect {
    what: What,
    op: OpNo,
    started: u64,
    tag: Bytes,
    rows: u64,
    /// Rows since the last command tag: where there are none, the tag's own number counts.
    rows_of_command: u64,
    bytes_in: u64,
    bytes_out: u64,
    failure: Option<Failure>,
}

impl Expect {
    pub(super) fn new(what: What, op: OpNo, started: u64) -> Self {
        Self {
            what,
            op,
            started,
            tag: Bytes::new(),
            rows: 0,
            rows_of_command: 0,
            bytes_in: 0,
            bytes_out: 0,
            failure: None,
        }
    }

    fn done(self, skipped: bool, micros: u64) -> Done {
        Done {
            op: self.op,
            tag: self.tag,
            rows: self.rows,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            failure: self.failure,
            skipped,
            micros: micros.saturating_sub(self.started),
        }
    }

    fn tagged(&mut self, tag: &[u8]) {
        self.tag = Bytes::copy_from_slice(tag);
        if self.rows_of_command == 0 {
            let number = tag.rsplit(|b| *b == b' ').next().unwrap_or(&[]);
            self.rows += std::str::from_utf8(number).ok().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
        self.rows_of_command = 0;
    }
}

/// COPY FROM STDIN as the server sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CopyIn {
    No,
    /// It asked for data, and the end was not relayed yet.
    Open,
    /// The end was relayed.
    Ending,
}

/// What the server still owes.
pub(super) struct Replies {
    expected: VecDeque<Expect>,
    /// The server passes over everything up to the next Sync, which was not relayed yet.
    skipping: bool,
    /// Bytes of a server message that are still to come; its beginning went to the client.
    partial: usize,
    copy: CopyIn,
    /// As `copy`, but as far as the client's bytes have been looked at: only copy data may come.
    pub(super) copy_open: bool,
    owed: Vec<Bytes>,
    late: Vec<Done>,
    pub(super) status: u8,
    /// The server has said why it closes the connection.
    pub(super) last_word: bool,
}

/// What becomes of a server message.
enum Fate {
    Pass,
    Replace(Bytes),
    Swallow,
}

impl Replies {
    pub(super) fn new(status: u8) -> Self {
        Self {
            expected: VecDeque::new(),
            skipping: false,
            partial: 0,
            copy: CopyIn::No,
            copy_open: false,
            owed: Vec::new(),
            late: Vec::new(),
            status,
            last_word: false,
        }
    }

    pub(super) fn expected(&self) -> usize {
        self.expected.len()
    }

    pub(super) fn between_messages(&self) -> bool {
        self.partial == 0
    }

    /// Sends a notice as soon as the message in transit is through.
    pub(super) fn owe(&mut self, notice: Bytes) {
        self.owed.push(notice);
    }

    pub(super) fn copy_in_progress(&self) -> bool {
        self.copy == CopyIn::Open
    }

    pub(super) fn count_in(&mut self, bytes: usize) {
        if let Some(front) = self.front() {
            front.bytes_in += bytes as u64;
        }
    }

    /// Whether the server will pass this over. A Sync ends that.
    pub(super) fn passes_over(&mut self, expect: &Expect) -> bool {
        if matches!(expect.what, What::Sync) {
            self.skipping = false;
        }
        self.skipping
    }

    pub(super) fn push(&mut self, expect: Expect) {
        if matches!(expect.what, What::CopyEnd) && self.copy == CopyIn::Open {
            self.copy = CopyIn::Ending;
        }
        self.expected.push_back(expect);
    }

    pub(super) fn flush_late(&mut self, out: &mut Vec<Reply>) {
        out.extend(self.late.drain(..).map(Reply::Done));
    }

    fn front(&mut self) -> Option<&mut Expect> {
        while matches!(self.expected.front(), Some(Expect { what: What::CopyEnd, .. })) {
            self.expected.pop_front();
        }
        self.expected.front_mut()
    }

    fn rows(&mut self, run: Run) -> Result<(), Violation> {
        match self.front() {
            Some(front @ Expect { what: What::Query(_) | What::Execute(_), .. }) => {
                front.rows += run.messages;
                front.rows_of_command += run.messages;
                front.bytes_out += (run.here + run.missing) as u64;
                Ok(())
            }
            _ => Err(unasked()),
        }
    }

    /// The server asks for copy data: Syncs that were relayed before the copy's end are ignored by it.
    fn copy_in(&mut self) -> Result<(), Violation> {
        if !matches!(self.front(), Some(Expect { what: What::Query(_) | What::Execute(_), .. })) {
            return Err(unasked());
        }
        while let Some(Expect { what: What::Sync, .. }) = self.expected.get(1) {
            self.expected.remove(1);
        }
        match self.expected.get(1) {
            None => (self.copy, self.copy_open) = (CopyIn::Open, true),
            Some(Expect { what: What::CopyEnd, .. }) => self.copy = CopyIn::Ending,
            Some(_) => {
                let why = "the client sent another statement where copy data was due";
                return Err(Violation::new(PROTOCOL_VIOLATION, why));
            }
        }
        Ok(())
    }

    fn copy_over(&mut self, completed: bool) {
        if self.copy != CopyIn::No {
            if completed && matches!(self.expected.get(1), Some(Expect { what: What::CopyEnd, .. })) {
                self.expected.remove(1);
            }
            (self.copy, self.copy_open) = (CopyIn::No, false);
        }
    }
}

impl<C: Classify> PgProtocol<C> {
    pub(super) fn hear(&mut self, buffer: &mut BytesMut, micros: u64, out: &mut Vec<Reply>) -> Result<(), Violation> {
        let mut at = 0;
        let heard = self.hear_messages(buffer, &mut at, micros, out);
        // Also after a violation: what was counted as through must be through.
        flush(buffer, &mut at, out);
        heard
    }

    fn hear_messages(
        &mut self,
        buffer: &mut BytesMut,
        at: &mut usize,
        micros: u64,
        out: &mut Vec<Reply>,
    ) -> Result<(), Violation> {
        loop {
            if self.replies.partial > 0 {
                let n = self.replies.partial.min(buffer.len() - *at);
                *at += n;
                self.replies.partial -= n;
                if self.replies.partial > 0 {
                    return Ok(());
                }
            }
            if !self.replies.owed.is_empty() {
                flush(buffer, at, out);
                out.extend(self.replies.owed.drain(..).map(Reply::ToClient));
            }
            let rest = &buffer[*at..];
            let Some((kind, size)) = head(rest)? else { return Ok(()) };
            // What is not looked into goes through as it comes, however long it is.
            let through = match kind {
                b'D' | b'd' => {
                    let run = run(rest, kind)?;
                    self.replies.rows(run)?;
                    Some((run.here, run.missing))
                }
                b'T' => {
                    if let Some(Expect { what: What::Describe, .. }) = self.replies.front() {
                        self.replies.expected.pop_front();
                    }
                    Some((size.min(rest.len()), size.saturating_sub(rest.len())))
                }
                b't' | b'N' | b'A' => Some((size.min(rest.len()), size.saturating_sub(rest.len()))),
                _ => None,
            };
            if let Some((here, missing)) = through {
                *at += here;
                self.replies.partial = missing;
                if missing > 0 {
                    return Ok(());
                }
                continue;
            }
            if size > MAX_INSPECTED {
                return Err(Violation::new(PROTOCOL_VIOLATION, "the server sent a control message beyond all bounds"));
            }
            if rest.len() < size {
                return Ok(());
            }
            match self.inspect(kind, &rest[..size], micros, out)? {
                Fate::Pass => *at += size,
                Fate::Swallow => {
                    flush(buffer, at, out);
                    buffer.advance(size);
                }
                Fate::Replace(ours) => {
                    flush(buffer, at, out);
                    buffer.advance(size);
                    out.push(Reply::ToClient(ours));
                }
            }
        }
    }

    fn inspect(&mut self, kind: u8, message: &[u8], micros: u64, out: &mut Vec<Reply>) -> Result<Fate, Violation> {
        let mut body = Body::of_message(message);
        match kind {
            b'C' => {
                let tag = body.cstr()?;
                self.replies.front();
                self.replies.copy_over(true);
                match self.replies.front() {
                    Some(front @ Expect { what: What::Query(_), .. }) => front.tagged(tag),
                    Some(front @ Expect { what: What::Execute(_), .. }) => {
                        front.tagged(tag);
                        self.answered(true, micros, out);
                    }
                    _ => return Err(unasked()),
                }
            }
            b'I' | b's' => match self.replies.front() {
                Some(Expect { what: What::Query(_), .. }) => {}
                Some(Expect { what: What::Execute(_), .. }) => self.answered(true, micros, out),
                _ => return Err(unasked()),
            },
            b'1' | b'2' | b'3' | b'n' => {
                let fits = matches!(
                    (kind, self.replies.front().map(|f| &f.what)),
                    (b'1', Some(What::Parse(..)))
                        | (b'2', Some(What::Bind(..)))
                        | (b'3', Some(What::CloseStatement(..) | What::ClosePortal(..)))
                        | (b'n', Some(What::Describe))
                );
                if !fits {
                    return Err(unasked());
                }
                self.answered(true, micros, out);
            }
            b'Z' => {
                let status = body.byte()?;
                self.ready(status, micros, out)?;
            }
            b'E' => return self.failed(message, micros, out),
            b'S' => {
                let (name, value) = (body.text()?, body.text()?);
                self.classify.parameter(name, value);
            }
            b'G' => self.replies.copy_in()?,
            b'H' | b'c' => match self.replies.front() {
                Some(Expect { what: What::Query(_) | What::Execute(_), .. }) => {}
                _ => return Err(unasked()),
            },
            b'W' => return Err(Violation::new("0A000", "replication is not let through")),
            _ => return Err(unasked()),
        }
        Ok(Fate::Pass)
    }

    fn ready(&mut self, status: u8, micros: u64, out: &mut Vec<Reply>) -> Result<(), Violation> {
        let skipping = self.replies.skipping;
        match self.replies.front() {
            Some(Expect { what: What::Query(_), failure, .. }) => {
                let ran = failure.is_none();
                self.answered(ran, micros, out);
            }
            Some(Expect { what: What::Sync | What::PoisonQuery(None), .. }) => self.answered(true, micros, out),
            Some(Expect { what: What::PoisonQuery(Some(_)) | What::PoisonGroup(_), .. }) => return Err(unpoisoned()),
            // A Sync that was taken for one inside COPY IN, and came after the copy had failed.
            None if skipping => self.replies.skipping = false,
            _ => return Err(unasked()),
        }
        self.replies.copy_over(false);
        self.replies.status = status;
        if status == b'I' {
            // Portals end with their transaction.
            self.portals.forget_settled();
        }
        self.classify.ready(status, !self.replies.expected.is_empty());
        Ok(())
    }

    fn failed(&mut self, message: &[u8], micros: u64, out: &mut Vec<Reply>) -> Result<Fate, Violation> {
        let fields = error_fields(message)?;
        let last_word = fields.severity == "FATAL" || fields.severity == "PANIC";
        self.replies.last_word |= last_word;
        let failure = Failure { code: fields.code, message: fields.message };
        let mut fate = Fate::Pass;
        match self.replies.front() {
            None | Some(Expect { what: What::Sync, .. }) => return Ok(Fate::Pass),
            Some(front) if last_word => {
                front.failure = Some(failure);
                return Ok(Fate::Pass);
            }
            Some(front) => match &mut front.what {
                What::Query(_) => {
                    front.failure = Some(failure);
                    self.replies.copy_over(false);
                    return Ok(Fate::Pass);
                }
                What::PoisonQuery(answer) => {
                    return Ok(answer.take().map_or(Fate::Swallow, Fate::Replace));
                }
                What::PoisonGroup(answer) => fate = Fate::Replace(std::mem::take(answer)),
                _ => front.failure = Some(failure),
            },
        }
        self.replies.copy_over(false);
        // The message that failed, and then all that the server passes over.
        let mut skipped = false;
        while !matches!(self.replies.expected.front(), None | Some(Expect { what: What::Sync, .. })) {
            if let Some(expect) = self.replies.expected.pop_front() {
                self.undone(expect, skipped, micros);
            }
            skipped = true;
        }
        self.replies.skipping = self.replies.expected.is_empty();
        // What the server won't look at need not be judged, held or recorded either.
        self.dead |= self.replies.skipping && self.relayed_group == self.group;
        self.replies.flush_late(out);
        Ok(fate)
    }

    /// The front message is answered to the end.
    fn answered(&mut self, ran: bool, micros: u64, out: &mut Vec<Reply>) {
        let Some(expect) = self.replies.expected.pop_front() else { return };
        self.settle(&expect.what, ran);
        if expect.op != OpNo(0) && !matches!(expect.what, What::PoisonQuery(_)) {
            out.push(Reply::Done(expect.done(false, micros)));
        }
    }

    /// A message failed, or was passed over.
    pub(super) fn undone(&mut self, expect: Expect, skipped: bool, micros: u64) {
        self.settle(&expect.what, false);
        let refused = matches!(expect.what, What::PoisonQuery(_) | What::PoisonGroup(_));
        if expect.op != OpNo(0) && !refused {
            self.replies.late.push(expect.done(skipped, micros));
        }
    }

    fn settle(&mut self, what: &What, ran: bool) {
        match what {
            What::Query(info) | What::Execute(info) => self.classify.settled(info, ran),
            What::Parse(name, change) => self.statements.settle(name, *change, ran),
            What::Bind(name, change) => self.portals.settle(name, *change, ran),
            What::CloseStatement(name, change) => {
                self.statements.settle(name, *change, ran);
                if let (true, Some(name)) = (ran, name) {
                    self.classify.closed(name);
                }
            }
            What::ClosePortal(name, change) => self.portals.settle(name, *change, ran),
            What::Describe | What::Sync | What::CopyEnd | What::PoisonQuery(_) | What::PoisonGroup(_) => {}
        }
    }
}

fn flush(buffer: &mut BytesMut, at: &mut usize, out: &mut Vec<Reply>) {
    if *at > 0 {
        out.push(Reply::ToClient(buffer.split_to(*at).freeze()));
        *at = 0;
    }
}

fn unasked() -> Violation {
    Violation::new(PROTOCOL_VIOLATION, "the server answered what was not asked")
}

fn unpoisoned() -> Violation {
    Violation::new(PROTOCOL_VIOLATION, "the server took a refused statement's stand-in for a statement")
}
