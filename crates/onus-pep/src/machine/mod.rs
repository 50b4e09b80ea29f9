//! The machine: the one place where a frame is decided, recorded and released, in that order.
//!
//! One value per session, one [`Machine::step`] per event. It owns both read buffers and the queue of frames that
//! wait for an acknowledgement or a confirmation. It does no I/O, asks no clock, and knows no protocol.

mod permitted;

pub use permitted::Permitted;

use crate::frame::{Digest, Frame, OpNo, Stage, Statement, StatementId};
use crate::journal::{Appended, Journal, RecordNo};
use crate::protocol::{Next, Protocol, Refusal, RefusalKind, Replacement, Reply, Tape, Violation};
use crate::record::{Done, Record};
use bytes::{Bytes, BytesMut};
use onus_core::decision::{Confirmation, Decide, Decision, Effect, judge};
use onus_core::operation::{Durability, Operation};
use onus_core::time::Timestamp;
use onus_core::view::View;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// What each step is told about the moment it happens in.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// The wall clock.
    pub now: Timestamp,
    /// A monotonic clock in microseconds, from any origin; only differences are used.
    pub micros: u64,
    /// Until when this gateway may act on the view it holds. Exclusive.
    pub lease_until: Timestamp,
    /// The policy decision point.
    pub pdp: &'a dyn Decide,
}

/// Why a session is ended from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillReason {
    /// Why, for the person whose session it is.
    pub text: String,
    /// Who ended it; `None` if nobody did but circumstances.
    pub by: Option<String>,
    /// The protocol's code to use, if not the usual one for a kill.
    pub code: Option<String>,
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes were appended to [`Buffers::client`].
    ClientBytes,
    /// Bytes were appended to [`Buffers::upstream`].
    UpstreamBytes,
    /// The client will send nothing more.
    ClientClosed,
    /// The upstream will send nothing more.
    UpstreamClosed,
    /// The journal acknowledged every record up to and including this one.
    Recorded(RecordNo),
    /// Somebody confirmed the held frame.
    HoldConfirmed {
        /// The frame.
        hold: OpNo,
        /// What was confirmed; must be the ticket's.
        digest: Digest,
        /// The party. That it may confirm is the caller's to have checked; that it isn't the subject is checked here.
        by: &'a str,
    },
    /// Somebody refused the held frame.
    HoldRefused {
        /// The frame.
        hold: OpNo,
        /// The party.
        by: &'a str,
        /// Their reason.
        reason: &'a str,
    },
    /// The held frame's time is over. [`Input::Tick`] finds out by itself too.
    HoldExpired(OpNo),
    /// The session's view changed.
    NewView(Arc<View>, Arc<str>),
    /// The session is to end at once.
    Kill(KillReason),
    /// Whether the session is frozen: while it is, nothing of the client's is taken in or released (somebody who must
    /// watch is not there). What already runs upstream goes on.
    Frozen(bool),
    /// A word for the client.
    Notice(&'a str),
    /// Time passed.
    Tick,
}

/// What must be asked of somebody before a held frame may go on.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// The frame.
    pub hold: OpNo,
    /// What it does.
    pub statement: Arc<Statement>,
    /// What the confirmation binds to.
    pub digest: Digest,
    /// Who must confirm, and how fast.
    pub confirmation: Confirmation,
    /// The decision that holds it.
    pub decision: Arc<Decision>,
    /// The text, for those who confirm.
    pub text: Bytes,
    /// When it lapses.
    pub until: Timestamp,
}

/// Why a session ended. When adding one, add its word below and to each protocol's `fatal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    /// [`Input::Kill`].
    Killed,
    /// The gateway's lease lapsed: it no longer knows enough to decide.
    LeaseLapsed,
    /// The grant's deadline passed.
    DeadlinePassed,
    /// Policy answered an operation with terminate.
    Terminated,
    /// A record could not be written.
    JournalFailed,
    /// The client said goodbye or went away.
    ClientLeft,
    /// The upstream went away.
    UpstreamClosed,
    /// The client broke the protocol.
    ClientViolation,
    /// The upstream broke the protocol.
    UpstreamViolation,
    /// The shell handed in something that can't be (another session's view).
    Broken,
}

impl EndCause {
    /// The word used in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::LeaseLapsed => "lease-lapsed",
            Self::DeadlinePassed => "deadline-passed",
            Self::Terminated => "terminated",
            Self::JournalFailed => "journal-failed",
            Self::ClientLeft => "client-left",
            Self::UpstreamClosed => "upstream-closed",
            Self::ClientViolation => "client-violation",
            Self::UpstreamViolation => "upstream-violation",
            Self::Broken => "broken",
        }
    }
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The cause.
    pub cause: EndCause,
    /// Why, for people.
    pub reason: String,
    /// Who ended it, if somebody did.
    pub by: Option<String>,
}

/// What is to be done, in order.
#[derive(Debug)]
pub enum Output {
    /// Write this to the upstream.
    ToUpstream(Permitted),
    /// Write this to the client.
    ToClient(Bytes),
    /// Ask for a confirmation; the answer comes back as an [`Input`].
    Hold(Ticket),
    /// The frame is no longer held, whether it went on or was refused.
    HoldOver(OpNo),
    /// Stop what the upstream is doing, by whatever means the protocol has beside the session's own bytes.
    CancelUpstream,
    /// Deliver what was written so far and close both sides. Nothing follows.
    End(End),
}

/// Bounds of one session.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the client's that may wait before reading stops.
    pub waiting: usize,
    /// Statements whose decisions are kept.
    pub decisions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { waiting: 256 * 1024, decisions: 4096 }
    }
}

/// The machine's read buffers. The shell appends what it reads, takes nothing out, and then calls
/// [`Machine::step`].
pub struct Buffers<'a> {
    /// From the client.
    pub client: &'a mut BytesMut,
    /// From the upstream.
    pub upstream: &'a mut BytesMut,
}

/// The enforcement machine of one session.
pub struct Machine<P: Protocol> {
    protocol: P,
    view: Arc<View>,
    /// Recorded with the first step, which has the journal.
    first_view: Option<Arc<str>>,
    limits: Limits,
    client: BytesMut,
    upstream: BytesMut,
    queue: VecDeque<Queued<P::Kind>>,
    queued_bytes: usize,
    appended: RecordNo,
    acknowledged: RecordNo,
    last_op: OpNo,
    last_def: u64,
    decisions: HashMap<StatementId, Known, BuildHasherDefault<Unhashed>>,
    replies: Vec<Reply>,
    starved: bool,
    client_closed: bool,
    frozen: bool,
    ended: bool,
}

/// A decision that was recorded, and what it was about.
struct Known {
    statement: Arc<Statement>,
    epoch: u64,
    def: u64,
    decision: Arc<Decision>,
}

struct Queued<K> {
    frame: Frame<K>,
    op: OpNo,
    def: u64,
    /// The record whose acknowledgement it waits for; zero for none.
    record: RecordNo,
    fate: Fate,
}

enum Fate {
    /// Goes on once its record is acknowledged; `confirmed` if somebody had to say so.
    Relay { confirmed: Option<Box<Held>> },
    /// Waits for somebody.
    Held(Box<Held>),
    /// Is refused once its record is acknowledged. Final: a later view doesn't bring it back.
    Refuse(Replacement),
}

#[derive(Clone)]
struct Held {
    digest: Digest,
    confirmation: Confirmation,
    decision: Arc<Decision>,
    until: Timestamp,
}

/// What a step works with besides the machine.
struct Step<'a, 'b> {
    moment: &'a Moment<'b>,
    journal: &'a mut dyn Journal,
    out: &'a mut Vec<Output>,
}

/// The session ended within this step; nothing more may be done in it.
struct Ended;
type Go<T = ()> = Result<T, Ended>;

impl<P: Protocol> Machine<P> {
    /// A machine for a session under this view; `json` is the whole view, serialised, for the record.
    pub fn new(protocol: P, view: Arc<View>, json: Arc<str>, limits: Limits) -> Self {
        Self {
            protocol,
            view,
            first_view: Some(json),
            limits,
            client: BytesMut::new(),
            upstream: BytesMut::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            appended: RecordNo(0),
            acknowledged: RecordNo(0),
            last_op: OpNo(0),
            last_def: 0,
            decisions: HashMap::default(),
            replies: Vec::new(),
            starved: true,
            client_closed: false,
            frozen: false,
            ended: false,
        }
    }

    /// Where the shell appends what it reads.
    pub fn buffers(&mut self) -> Buffers<'_> {
        Buffers { client: &mut self.client, upstream: &mut self.upstream }
    }

    /// Whether to read more from the client. False while too much waits (back-pressure).
    pub fn wants_client(&self) -> bool {
        // While frozen nothing is taken out of the buffer, so it may only fill up once.
        let full = self.frozen && self.client.len() >= self.limits.waiting;
        !(self.ended || self.client_closed || full)
            && (self.starved || self.client.len() + self.queued_bytes < self.limits.waiting)
    }

    /// Whether to read more from the upstream. The machine itself holds none of it back, so this is false only
    /// after the end; a shell whose writes to the client stall stops by itself.
    pub fn wants_upstream(&self) -> bool {
        !self.ended
    }

    /// Whether the session has ended. Nothing comes out any more.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The view in force.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The protocol, to be looked at.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// The protocol, to be given what the shell learned of the other side. Nothing in it can release a frame.
    pub fn protocol_mut(&mut self) -> &mut P {
        &mut self.protocol
    }

    /// The moment at which [`Input::Tick`] is due at the latest: the first hold's end, the deadline or the lease's.
    pub fn tick_by(&self, lease_until: Timestamp) -> Timestamp {
        let first = self.view.deadline.min(lease_until);
        self.queue.iter().fold(first, |first, q| match &q.fate {
            Fate::Held(held) => first.min(held.until),
            _ => first,
        })
    }

    /// One event. Pushes what is to be done to `out`, in order; leaves what is already there alone.
    pub fn step(&mut self, input: Input<'_>, moment: &Moment<'_>, journal: &mut dyn Journal, out: &mut Vec<Output>) {
        if self.ended {
            return;
        }
        let mut step = Step { moment, journal, out };
        // `Ended` only says that the rest of the step must not happen; the end itself is already in `out`.
        let (Ok(()) | Err(Ended)) = self.run(input, &mut step);
    }

    fn run(&mut self, input: Input<'_>, step: &mut Step<'_, '_>) -> Go {
        if let Some(json) = self.first_view.take() {
            let view = Record::View { epoch: self.view.epoch, json: &json };
            self.append(&view, Durability::HandedOver, step)?;
        }
        let input = match input {
            // Before everything else: nothing that arrives in the same moment may overtake it.
            Input::Kill(reason) => {
                return Err(self.end(EndCause::Killed, reason.code.as_deref(), &reason.text, reason.by, step));
            }
            // Before the deadline is looked at, since it may have moved.
            Input::NewView(view, json) => {
                self.renew(view, &json, step)?;
                Input::Tick
            }
            other => other,
        };
        self.check_time(step)?;
        match input {
            Input::ClientBytes | Input::Tick | Input::Kill(_) | Input::NewView(..) => {}
            Input::UpstreamBytes => self.hear(step)?,
            Input::ClientClosed => self.client_closed = true,
            Input::UpstreamClosed => {
                let reason = "the upstream closed the connection";
                return Err(self.end(EndCause::UpstreamClosed, None, reason, None, step));
            }
            // A number that was never given out must not acknowledge what will come.
            Input::Recorded(up_to) => self.acknowledged = self.acknowledged.max(up_to.min(self.appended)),
            Input::HoldConfirmed { hold, digest, by } => self.confirm(hold, &digest, by, step)?,
            Input::HoldRefused { hold, by, reason } => {
                let kind = RefusalKind::Declined { by: by.to_owned(), reason: reason.to_owned() };
                self.lift(hold, &kind, step)?;
            }
            Input::HoldExpired(hold) => self.lift(hold, &RefusalKind::Expired, step)?,
            Input::Frozen(frozen) => self.frozen = frozen,
            Input::Notice(text) => {
                step.out.extend(self.protocol.notice(text).map(Output::ToClient));
            }
        }
        self.release(step)?;
        self.pump(step)?;
        if self.client_closed {
            self.leave(step)?;
        }
        Ok(())
    }

    /// Ends the session whose time is over and the holds that nobody confirmed.
    fn check_time(&mut self, step: &mut Step<'_, '_>) -> Go {
        let now = step.moment.now;
        if now >= step.moment.lease_until {
            let reason = "the gateway has lost touch with its control plane and can no longer decide";
            return Err(self.end(EndCause::LeaseLapsed, None, reason, None, step));
        }
        if now >= self.view.deadline {
            let reason = format!("the grant `{}` ended at {}", self.view.grant, self.view.deadline);
            return Err(self.end(EndCause::DeadlinePassed, None, &reason, None, step));
        }
        let expired = self.queue.iter().find_map(|q| match &q.fate {
            Fate::Held(held) if now >= held.until => Some(q.op),
            _ => None,
        });
        match expired {
            Some(op) => self.lift(op, &RefusalKind::Expired, step),
            None => Ok(()),
        }
    }

    /// Takes in frames as long as nothing is held (in a protocol without lanes) and not too much waits.
    fn pump(&mut self, step: &mut Step<'_, '_>) -> Go {
        self.starved = false;
        loop {
            let held = !P::LANES && self.queue.back().is_some_and(|q| matches!(q.fate, Fate::Held(_)));
            if self.frozen || held || self.queued_bytes >= self.limits.waiting {
                return Ok(());
            }
            match self.protocol.client(&mut self.client) {
                Ok(Next::Frame(frame)) => self.admit(frame, step)?,
                Ok(Next::Say(bytes)) => step.out.push(Output::ToClient(bytes)),
                Ok(Next::Tape(tape)) => self.tape(&tape, step)?,
                Ok(Next::Done(done)) => self.done(&done, step)?,
                Ok(Next::Withdraw(lane)) => self.withdraw(lane, step)?,
                Ok(Next::More) => {
                    self.starved = true;
                    return Ok(());
                }
                Ok(Next::Wait) => return Ok(()),
                Err(Violation { code, message }) => {
                    return Err(self.end(EndCause::ClientViolation, Some(code), &message, None, step));
                }
            }
        }
    }

    /// Decides and records a frame, and releases it if that is all it waits for.
    fn admit(&mut self, frame: Frame<P::Kind>, step: &mut Step<'_, '_>) -> Go {
        let Some(statement) = frame.statement.clone() else {
            let relay = Fate::Relay { confirmed: None };
            return self.enqueue(Queued { frame, op: OpNo(0), def: 0, record: RecordNo(0), fate: relay }, step);
        };
        self.last_op.0 += 1;
        let op = self.last_op;
        let (def, decision) = self.decide(&frame, &statement, step)?;
        let record = self.record_op(&frame, op, def, statement.durability(), step)?;
        let fate = match decision.effect {
            Effect::Permit => Fate::Relay { confirmed: None },
            Effect::Hold if frame.stage == Stage::Prepare => Fate::Relay { confirmed: None },
            Effect::Hold => match self.hold(&frame, op, statement, &decision, step)? {
                Some(held) => Fate::Held(Box::new(held)),
                None => Fate::Refuse(self.refusal(&frame, &RefusalKind::Denied { code: None }, &decision)),
            },
            Effect::Deny => {
                let code = frame.forbidden.as_ref().map(|f| f.code);
                Fate::Refuse(self.refusal(&frame, &RefusalKind::Denied { code }, &decision))
            }
            Effect::Terminate => return Err(self.terminate(&decision, step)),
        };
        self.enqueue(Queued { frame, op, def, record, fate }, step)
    }

    fn enqueue(&mut self, queued: Queued<P::Kind>, step: &mut Step<'_, '_>) -> Go {
        let first = !self.queue.iter().any(|q| q.frame.lane == queued.frame.lane);
        if first && self.ready(&queued) {
            return self.send(queued, step);
        }
        self.queued_bytes += queued.frame.bytes.len();
        self.queue.push_back(queued);
        Ok(())
    }

    fn ready(&self, queued: &Queued<P::Kind>) -> bool {
        queued.record <= self.acknowledged && !matches!(queued.fate, Fate::Held(_))
    }

    /// Releases what waits for nothing any more, in the order of its lane.
    fn release(&mut self, step: &mut Step<'_, '_>) -> Go {
        let mut stuck: Vec<u32> = Vec::new();
        let mut i = 0;
        while !self.frozen
            && let Some(queued) = self.queue.get(i)
        {
            let lane = queued.frame.lane;
            if stuck.contains(&lane) || !self.ready(queued) {
                if !P::LANES {
                    break;
                }
                stuck.push(lane);
                i += 1;
            } else if let Some(queued) = self.queue.remove(i) {
                self.queued_bytes -= queued.frame.bytes.len();
                self.send(queued, step)?;
            }
        }
        Ok(())
    }

    // INVARIANT: the only place that makes `Permitted`. Callers have checked `ready`: the fate is known and its
    // record is acknowledged.
    fn send(&mut self, queued: Queued<P::Kind>, step: &mut Step<'_, '_>) -> Go {
        let Queued { frame, op, fate, .. } = queued;
        let micros = step.moment.micros;
        match fate {
            Fate::Held(_) => {}
            Fate::Relay { .. } => {
                let after = self.protocol.relayed(&frame, op, micros);
                step.out.push(Output::ToUpstream(Permitted::release(frame.bytes)));
                if let Some(own) = after {
                    step.out.push(Output::ToUpstream(Permitted::own(own)));
                }
                if frame.farewell {
                    let left = "the client said goodbye";
                    return Err(self.end(EndCause::ClientLeft, None, left, None, step));
                }
            }
            Fate::Refuse(replacement) => {
                let own = replacement.upstream;
                let now = self.protocol.replaced(&frame, replacement, op, micros);
                if !own.is_empty() {
                    step.out.push(Output::ToUpstream(Permitted::own(own)));
                }
                step.out.extend(now.map(Output::ToClient));
            }
        }
        Ok(())
    }

    /// The decision about a statement: the one in force if there is one, or a new one, recorded as a definition.
    fn decide(
        &mut self,
        frame: &Frame<P::Kind>,
        statement: &Arc<Statement>,
        step: &mut Step<'_, '_>,
    ) -> Go<(u64, Arc<Decision>)> {
        if let Some(forbidden) = &frame.forbidden {
            let decision = Arc::new(Decision::deny(forbidden.why.clone()));
            return Ok((self.define(statement.operations(), &decision, Some(forbidden.code), step)?, decision));
        }
        let (now, epoch) = (step.moment.now, self.view.epoch);
        let known = self.decisions.get(&statement.id()).filter(|known| {
            known.epoch == epoch
                && (Arc::ptr_eq(&known.statement, statement) || known.statement.operations() == statement.operations())
        });
        if let Some(known) = known
            && known.decision.valid_until.is_none_or(|until| now < until)
        {
            return Ok((known.def, known.decision.clone()));
        }
        let decision = judge(step.moment.pdp, &self.view, statement.operations(), now);
        // The same answer again, only for longer: the definition stands.
        let def = match known {
            Some(known) if same(&known.decision, &decision) => known.def,
            _ => self.define(statement.operations(), &decision, None, step)?,
        };
        let decision = Arc::new(decision);
        if self.decisions.len() >= self.limits.decisions {
            self.decisions.clear();
        }
        let known = Known { statement: statement.clone(), epoch, def, decision: decision.clone() };
        self.decisions.insert(statement.id(), known);
        Ok((def, decision))
    }

    fn define(
        &mut self,
        operations: &[Operation],
        decision: &Decision,
        forbidden: Option<&str>,
        step: &mut Step<'_, '_>,
    ) -> Go<u64> {
        self.last_def += 1;
        let (def, epoch, at) = (self.last_def, self.view.epoch, step.moment.now);
        let record = Record::Def { def, epoch, at, forbidden, operations, decision };
        self.append(&record, Durability::HandedOver, step)?;
        Ok(def)
    }

    fn record_op(
        &mut self,
        frame: &Frame<P::Kind>,
        op: OpNo,
        def: u64,
        durability: Durability,
        step: &mut Step<'_, '_>,
    ) -> Go<RecordNo> {
        let record = Record::Op {
            op,
            def,
            at: step.moment.now,
            stage: frame.stage.as_str(),
            bytes: frame.bytes.len(),
            text: &frame.text,
            params: &frame.params,
        };
        self.append(&record, durability, step)
    }

    /// Appends a record; the number to wait for is the record's own.
    fn append(&mut self, record: &Record<'_>, durability: Durability, step: &mut Step<'_, '_>) -> Go<RecordNo> {
        self.appended.0 += 1;
        let no = self.appended;
        match step.journal.append(no, record, durability) {
            Appended::Acknowledged => {
                // Handed over, it says nothing about earlier ones that were to be synced: then only its own wait is
                // over (zero waits for nothing), and its place in the queue keeps the order.
                if durability == Durability::Synced || self.acknowledged.0 + 1 == no.0 {
                    self.acknowledged = no;
                    return Ok(no);
                }
                Ok(RecordNo(0))
            }
            Appended::Pending => Ok(no),
            Appended::Failed => {
                let reason = "the session can't be recorded";
                Err(self.end(EndCause::JournalFailed, None, reason, None, step))
            }
        }
    }

    fn done(&mut self, done: &Done, step: &mut Step<'_, '_>) -> Go {
        let record = Record::Done { done, at: step.moment.now };
        self.append(&record, Durability::HandedOver, step).map(drop)
    }

    /// Records a piece of a stream. What it shows goes to the client after this, and not at all if it failed.
    fn tape(&mut self, tape: &Tape, step: &mut Step<'_, '_>) -> Go {
        let Tape { lane, track, bytes } = tape;
        let (length, track) = (bytes.len(), track.as_str());
        let record = Record::Tape { lane: *lane, at: step.moment.now, track, length, coding: None, bytes };
        self.append(&record, Durability::HandedOver, step).map(drop)
    }

    /// Asks for a confirmation. `None` if nobody is named who could give one.
    fn hold(
        &mut self,
        frame: &Frame<P::Kind>,
        op: OpNo,
        statement: Arc<Statement>,
        decision: &Arc<Decision>,
        step: &mut Step<'_, '_>,
    ) -> Go<Option<Held>> {
        let Some(confirmation) = decision.confirmation.clone() else { return Ok(None) };
        let at = step.moment.now;
        let until = at.plus(confirmation.within);
        let digest = self.protocol.digest(frame, &self.view);
        let record = Record::Hold { op, at, digest: &digest, confirmation: &confirmation, until };
        self.append(&record, statement.durability(), step)?;
        // The client is told by the shell, which knows the name under which it can be confirmed.
        step.out.push(Output::Hold(Ticket {
            hold: op,
            statement,
            digest,
            confirmation: confirmation.clone(),
            decision: decision.clone(),
            text: frame.text.clone(),
            until,
        }));
        Ok(Some(Held { digest, confirmation, decision: decision.clone(), until }))
    }

    fn held(&self, op: OpNo) -> Option<(usize, Held)> {
        self.queue.iter().enumerate().find_map(|(i, q)| match &q.fate {
            Fate::Held(held) if q.op == op => Some((i, Held::clone(held))),
            _ => None,
        })
    }

    /// A confirmation came: what it confirms is judged again, and must still be what was asked for.
    fn confirm(&mut self, op: OpNo, digest: &Digest, by: &str, step: &mut Step<'_, '_>) -> Go {
        let Some((i, held)) = self.held(op) else { return Ok(()) };
        // Nobody confirms their own (invariant 6), and a confirmation of something else confirms nothing.
        if *digest != held.digest || by == self.view.subject.as_str() {
            return Ok(());
        }
        let Some(mut queued) = self.queue.remove(i) else { return Ok(()) };
        step.out.push(Output::HoldOver(op));
        let Some(statement) = queued.frame.statement.clone() else { return Ok(()) };
        let (def, decision) = self.decide(&queued.frame, &statement, step)?;
        if def != queued.def {
            queued.def = def;
            self.record_op(&queued.frame, op, def, statement.durability(), step)?;
        }
        match decision.effect {
            Effect::Terminate => return Err(self.terminate(&decision, step)),
            Effect::Permit | Effect::Hold if self.covers(&held, &queued.frame, &decision) => {
                let record = Record::Confirmed { op, at: step.moment.now, by };
                queued.record = self.append(&record, statement.durability(), step)?;
                queued.fate = Fate::Relay { confirmed: Some(Box::new(held)) };
            }
            Effect::Deny => self.give_up(&mut queued, &RefusalKind::Denied { code: None }, &decision, step)?,
            Effect::Permit | Effect::Hold => {
                self.give_up(&mut queued, &RefusalKind::Overtaken, &decision, step)?;
            }
        }
        self.queue.insert(i, queued);
        Ok(())
    }

    /// Whether a confirmation of `held` is enough for this decision: it needs none, or exactly the same.
    fn covers(&self, held: &Held, frame: &Frame<P::Kind>, decision: &Decision) -> bool {
        match decision.effect {
            Effect::Permit => true,
            Effect::Hold => {
                decision.confirmation.as_ref() == Some(&held.confirmation)
                    && self.protocol.digest(frame, &self.view) == held.digest
            }
            Effect::Deny | Effect::Terminate => false,
        }
    }

    /// The client takes back what is held in a lane: it is refused, in the client's own name.
    fn withdraw(&mut self, lane: u32, step: &mut Step<'_, '_>) -> Go {
        let held = self.queue.iter().find(|q| q.frame.lane == lane && matches!(q.fate, Fate::Held(_)));
        let Some(op) = held.map(|q| q.op) else { return Ok(()) };
        let kind = RefusalKind::Declined { by: self.view.subject.to_string(), reason: "taken back".to_owned() };
        self.lift(op, &kind, step)?;
        self.release(step)
    }

    /// A held frame is held no longer and refused.
    fn lift(&mut self, op: OpNo, kind: &RefusalKind, step: &mut Step<'_, '_>) -> Go {
        let Some((i, held)) = self.held(op) else { return Ok(()) };
        let Some(mut queued) = self.queue.remove(i) else { return Ok(()) };
        step.out.push(Output::HoldOver(op));
        self.give_up(&mut queued, kind, &held.decision, step)?;
        self.queue.insert(i, queued);
        Ok(())
    }

    /// Records that a frame which was held or about to go on is refused.
    fn give_up(
        &mut self,
        queued: &mut Queued<P::Kind>,
        kind: &RefusalKind,
        decision: &Decision,
        step: &mut Step<'_, '_>,
    ) -> Go {
        let (by, why) = match kind {
            RefusalKind::Denied { .. } => (None, "denied"),
            RefusalKind::Expired => (None, "expired"),
            RefusalKind::Declined { by, reason } => (Some(by.as_str()), reason.as_str()),
            RefusalKind::Overtaken => (None, "overtaken by a change of policy"),
        };
        let durability = queued.frame.statement.as_ref().map_or(Durability::HandedOver, |s| s.durability());
        let record = Record::Refused { op: queued.op, at: step.moment.now, by, why };
        queued.record = self.append(&record, durability, step)?;
        queued.fate = Fate::Refuse(self.refusal(&queued.frame, kind, decision));
        Ok(())
    }

    fn refusal(&mut self, frame: &Frame<P::Kind>, kind: &RefusalKind, decision: &Decision) -> Replacement {
        self.protocol.refuse(frame, &Refusal { kind, decision, view: &self.view })
    }

    /// A new view: recorded, and everything that was not yet released is judged again under it.
    fn renew(&mut self, view: Arc<View>, json: &str, step: &mut Step<'_, '_>) -> Go {
        if view.session != self.view.session {
            return Err(self.end(EndCause::Broken, None, "the view belongs to another session", None, step));
        }
        if view.epoch <= self.view.epoch {
            return Ok(());
        }
        self.view = view;
        let record = Record::View { epoch: self.view.epoch, json };
        self.append(&record, Durability::HandedOver, step)?;
        if step.moment.now >= self.view.deadline {
            return Ok(()); // `check_time` comes next and says it better than each frame's own refusal.
        }
        for i in 0..self.queue.len() {
            let Some(mut queued) = self.queue.remove(i) else { break };
            self.judge_again(&mut queued, step)?;
            self.queue.insert(i, queued);
        }
        Ok(())
    }

    fn judge_again(&mut self, queued: &mut Queued<P::Kind>, step: &mut Step<'_, '_>) -> Go {
        let Some(statement) = queued.frame.statement.clone() else { return Ok(()) };
        if matches!(queued.fate, Fate::Refuse(_)) {
            return Ok(());
        }
        let (def, decision) = self.decide(&queued.frame, &statement, step)?;
        if decision.effect == Effect::Terminate {
            return Err(self.terminate(&decision, step));
        }
        let durability = statement.durability();
        if decision.effect == Effect::Deny {
            if matches!(queued.fate, Fate::Held(_)) {
                step.out.push(Output::HoldOver(queued.op));
            }
            queued.def = def;
            self.record_op(&queued.frame, queued.op, def, durability, step)?;
            return self.give_up(queued, &RefusalKind::Denied { code: None }, &decision, step);
        }
        let goes_on = match &queued.fate {
            Fate::Held(_) => return Ok(()), // Judged again when it is confirmed.
            Fate::Relay { confirmed: Some(held) } => self.covers(held, &queued.frame, &decision),
            _ => decision.effect == Effect::Permit || queued.frame.stage == Stage::Prepare,
        };
        queued.def = def;
        queued.record = self.record_op(&queued.frame, queued.op, def, durability, step)?;
        if goes_on { Ok(()) } else { self.give_up(queued, &RefusalKind::Overtaken, &decision, step) }
    }

    /// Hands on what the upstream said.
    fn hear(&mut self, step: &mut Step<'_, '_>) -> Go {
        let mut replies = std::mem::take(&mut self.replies);
        let heard = self.protocol.upstream(&mut self.upstream, step.moment.micros, &mut replies);
        for reply in replies.drain(..) {
            match reply {
                Reply::ToClient(bytes) => step.out.push(Output::ToClient(bytes)),
                Reply::Tape(tape) => self.tape(&tape, step)?,
                Reply::Done(done) => self.done(&done, step)?,
            }
        }
        self.replies = replies;
        heard.map_err(|Violation { code, message }| {
            self.end(EndCause::UpstreamViolation, Some(code), &message, None, step)
        })
    }

    /// The client is gone: what was permitted before it left still goes out, what is held does not.
    fn leave(&mut self, step: &mut Step<'_, '_>) -> Go {
        let held = self.queue.iter().any(|q| matches!(q.fate, Fate::Held(_)));
        if held || self.frozen || (self.queue.is_empty() && self.starved) {
            return Err(self.end(EndCause::ClientLeft, None, "the client closed the connection", None, step));
        }
        Ok(())
    }

    fn terminate(&mut self, decision: &Decision, step: &mut Step<'_, '_>) -> Ended {
        let reason = decision
            .determining
            .iter()
            .map(|d| format!("policy `{}`, owned by {}: {}", d.policy, d.owner, d.why))
            .chain(decision.reasons.iter().cloned())
            .collect::<Vec<_>>()
            .join("; ");
        self.end(EndCause::Terminated, None, &reason, None, step)
    }

    /// Ends the session: nothing that waits is released, now or later.
    fn end(
        &mut self,
        cause: EndCause,
        code: Option<&str>,
        reason: &str,
        by: Option<String>,
        step: &mut Step<'_, '_>,
    ) -> Ended {
        self.ended = true;
        for queued in self.queue.drain(..) {
            if matches!(queued.fate, Fate::Held(_)) {
                step.out.push(Output::HoldOver(queued.op));
            }
        }
        self.queued_bytes = 0;
        self.client = BytesMut::new();
        self.upstream = BytesMut::new();
        self.appended.0 += 1;
        let record = Record::End { at: step.moment.now, cause: cause.as_str(), reason, by: by.as_deref() };
        // Whether it could be written changes nothing: the session is over either way, and a missing end shows.
        let _ = step.journal.append(self.appended, &record, Durability::HandedOver);
        let farewell = cause == EndCause::ClientLeft && !self.client_closed;
        if self.protocol.busy() && !farewell && cause != EndCause::UpstreamClosed {
            step.out.push(Output::CancelUpstream);
        }
        if cause != EndCause::ClientLeft {
            step.out.extend(self.protocol.fatal(cause, code, reason).map(Output::ToClient));
        }
        step.out.push(Output::End(End { cause, reason: reason.to_owned(), by }));
        Ended
    }
}

/// Whether two decisions say the same, leaving aside for how long.
fn same(a: &Decision, b: &Decision) -> bool {
    a.effect == b.effect && a.determining == b.determining && a.reasons == b.reasons && a.confirmation == b.confirmation
}

/// Statement identities are numbers that the gateway gave out itself: they need no hashing against collisions.
#[derive(Default)]
struct Unhashed(u64);

impl Hasher for Unhashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, n: u64) {
        // Spread over the high bits, which the table looks at too.
        self.0 = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
