//! The session task: one loop over client, upstream, journal, mailbox and time, around the pure machine.
//!
//! It moves bytes and tells the machine what happened; it decides nothing. It is the same for every protocol and every
//! transport. Buffers are bounded: while one side does not take what it was sent, the other is not read.

use crate::control::{Control, LEASE, now};
use crate::ids;
use crate::journal::FileJournal;
use crate::policy::Shelf;
use crate::registry::{Counters, Ordered, ToSession, Waiting};
use bytes::{Bytes, BytesMut};
use onus_core::command::Command;
use onus_core::decision::Decide;
use onus_core::event::{Actor, EndReason, Hold, SessionTotals};
use onus_core::ids::{HoldId, SessionId};
use onus_core::time::Timestamp;
use onus_core::view::View;
use onus_pep::{End, EndCause, Input, KillReason, Machine, Moment, OpNo, Output, Protocol, Ticket};
use onus_policy::PolicySet;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Sleep;

/// Bytes that may wait for one side before the other is no longer read.
const HIGH_WATER: usize = 256 * 1024;

/// What is read at once. Shared by all sessions of a thread, so that an idle session holds no buffer.
const READ_BYTES: usize = 64 * 1024;

/// Buffers up to this size stay with a session between two statements.
const KEPT_BYTES: usize = 4096;

/// How long a `done` record may stay unwritten.
const FLUSH_AFTER: Duration = Duration::from_millis(200);

/// How often a session looks at the clock when nothing happens; the deadline and the lease may make it sooner.
const LOOK_AROUND: Duration = Duration::from_secs(5);

/// How long the last words may take to be delivered.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How long the other side may take to show that what ran there has ended, and how much it may say meanwhile.
const PROOF: Duration = Duration::from_millis(400);
const PROOF_BYTES: usize = 4 << 20;

/// How long before the deadline it is warned of, in milliseconds.
const WARNINGS: [u64; 2] = [5 * 60_000, 60_000];

/// Turns of the loop before other tasks get theirs.
const TURNS: usize = 32;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// The origin of the monotonic microseconds that machines are given.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

fn micros() -> u64 {
    ORIGIN.elapsed().as_micros() as u64
}

/// Either side of a session.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What remains to be done with the other side of a session that ends.
pub enum Parting {
    /// It must say more.
    Wait,
    /// It must be told this.
    Say(Bytes),
    /// Nothing.
    Done,
}

/// What stops the other side: cancels what runs there. Called at once and must not wait.
pub trait Stop<P>: Send {
    /// Cancels what this session has running upstream, or notes what [`Stop::last_words`] has to end.
    fn cancel(&mut self, protocol: &P);
    /// What to say to the other side of a session that did not end in order, before it is closed.
    fn last_words(&mut self) -> Option<Bytes> {
        None
    }
    /// What it answered to that. Sees whole runs of bytes from the first one on.
    fn answered(&mut self, _bytes: &[u8]) -> Parting {
        Parting::Done
    }
    /// Where the moment is noted at which the cancellation was known to have been carried out.
    fn cancelled(&self) -> Arc<OnceLock<Instant>>;
}

/// Gives a protocol what became known of the other side.
pub type Renew<P> = Box<dyn FnMut(&mut P) + Send>;

/// Everything that a session task is made of.
pub struct Parts<P: Protocol, C, U, S> {
    /// The session.
    pub id: SessionId,
    /// The machine.
    pub machine: Machine<P>,
    /// The client's side.
    pub client: C,
    /// The other side.
    pub upstream: U,
    /// What is told from outside.
    pub mailbox: UnboundedReceiver<ToSession>,
    /// Where it is recorded.
    pub journal: FileJournal,
    /// The policy set of the machine's view.
    pub policy: Arc<PolicySet>,
    /// Where other policy sets are.
    pub shelf: Arc<Shelf>,
    /// Where commands go.
    pub control: Control,
    /// What people may see.
    pub counters: Arc<Counters>,
    /// The name under which the gateway acts.
    pub gateway: String,
    /// How to stop what runs upstream.
    pub stop: S,
    /// Asked now and then: gives the protocol what became known of the other side meanwhile.
    pub renew: Renew<P>,
}

/// How a session ended.
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// What it came to.
    pub totals: SessionTotals,
    /// The journal's records and head.
    pub anchor: (u64, String),
    /// The kill's order, if it was one.
    pub ordered: Option<Ordered>,
    /// When the client's socket was closed.
    pub client_closed: Instant,
    /// When the upstream socket was closed.
    pub upstream_closed: Instant,
    /// When the running statement was cancelled. Often noted only after the sockets were closed, which waits for nothing.
    pub cancelled: Arc<OnceLock<Instant>>,
}

/// What waits to be written to one side.
#[derive(Default)]
struct Outbox {
    queue: VecDeque<Bytes>,
    /// Small pieces, gathered into one write.
    tail: BytesMut,
    bytes: usize,
    /// Whether the transport has taken bytes that it may not have sent yet.
    unflushed: bool,
}

impl Outbox {
    fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        if bytes.len() < 8192 {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.seal();
            self.queue.push_back(bytes);
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes == 0 && !self.unflushed
    }

    /// Writes as much as the side takes. Ready(Err) when the side is gone.
    fn poll<S: Stream + ?Sized>(&mut self, side: &mut S, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.seal();
        while let Some(front) = self.queue.front_mut() {
            match Pin::new(&mut *side).poll_write(cx, front) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    self.bytes -= n;
                    self.unflushed = true;
                    if n == front.len() {
                        self.queue.pop_front();
                    } else {
                        bytes::Buf::advance(front, n);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.unflushed {
            match Pin::new(&mut *side).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                other => return other,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn give_back(&mut self, kept: usize) {
        if self.tail.capacity() > kept {
            self.tail = BytesMut::new();
        }
        if self.queue.capacity() > kept / size_of::<Bytes>() {
            self.queue = VecDeque::new();
        }
    }
}

struct Task<P: Protocol, C, U, S> {
    parts: Parts<P, C, U, S>,
    outputs: Vec<Output>,
    to_client: Outbox,
    to_upstream: Outbox,
    holds: HashMap<HoldId, (OpNo, [u8; 32])>,
    sleep: Pin<Box<Sleep>>,
    armed: Instant,
    ordered: Option<Ordered>,
    /// The reason given from outside, richer than the machine's own word for it.
    told: Option<EndReason>,
    end: Option<End>,
    anchored: Instant,
    /// What is said while the session is frozen.
    frozen: Option<String>,
    /// Warnings of the deadline that were given.
    warned: usize,
}

/// Runs a session until it ends, and closes both sides.
pub async fn run<P, C, U, S>(parts: Parts<P, C, U, S>) -> Ended
where
    P: Protocol + Send,
    P::Kind: Send,
    C: Stream,
    U: Stream,
    S: Stop<P>,
{
    let mut task = Task {
        parts,
        outputs: Vec::new(),
        to_client: Outbox::default(),
        to_upstream: Outbox::default(),
        holds: HashMap::new(),
        sleep: Box::pin(tokio::time::sleep(LOOK_AROUND)),
        armed: Instant::now() + LOOK_AROUND,
        ordered: None,
        told: None,
        end: None,
        anchored: Instant::now(),
        frozen: None,
        warned: 0,
    };
    // The view is recorded before the first byte is read.
    task.step(Input::Tick);
    poll_fn(|cx| task.poll(cx)).await;
    task.finish().await
}

impl<P, C, U, S> Task<P, C, U, S>
where
    P: Protocol,
    C: Stream,
    U: Stream,
    S: Stop<P>,
{
    /// One step of the machine, and what comes of it.
    fn step(&mut self, input: Input<'_>) {
        let at = now();
        let parts = &mut self.parts;
        let moment = Moment {
            now: at,
            micros: micros(),
            lease_until: parts.control.shared().lease_until(),
            pdp: parts.policy.as_ref() as &dyn Decide,
        };
        parts.machine.step(input, &moment, &mut parts.journal, &mut self.outputs);
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            match output {
                Output::ToUpstream(permitted) => self.to_upstream.push(permitted.into_bytes()),
                Output::ToClient(bytes) => {
                    Counters::add(&self.parts.counters.bytes_out, bytes.len() as u64);
                    self.to_client.push(bytes);
                }
                Output::Hold(ticket) => self.hold(ticket, at),
                Output::HoldOver(op) => self.hold_over(op),
                Output::CancelUpstream => self.parts.stop.cancel(self.parts.machine.protocol()),
                Output::End(end) => self.end = Some(end),
            }
        }
        self.outputs = outputs;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            if self.end.is_some() {
                return Poll::Ready(());
            }
            let mut moved = false;
            while let Poll::Ready(message) = self.parts.mailbox.poll_recv(cx) {
                match message {
                    Some(message) => self.told(message),
                    None => self.step(Input::Kill(kill("the gateway is stopping", None))),
                }
                moved = true;
                if self.end.is_some() {
                    return Poll::Ready(());
                }
            }
            if !self.to_upstream.is_empty()
                && let Poll::Ready(Err(_)) = self.to_upstream.poll(&mut self.parts.upstream, cx)
            {
                self.step(Input::UpstreamClosed);
                continue;
            }
            if !self.to_client.is_empty()
                && let Poll::Ready(Err(_)) = self.to_client.poll(&mut self.parts.client, cx)
            {
                // Nobody is there to hear what is still under way.
                self.to_client = Outbox::default();
                self.client_gone();
                continue;
            }
            if self.to_client.bytes < HIGH_WATER && self.parts.machine.wants_upstream() {
                moved |= self.read_upstream(cx);
            }
            if self.end.is_none() && self.to_upstream.bytes < HIGH_WATER && self.parts.machine.wants_client() {
                moved |= self.read_client(cx);
            }
            if self.end.is_none() && !moved {
                if self.to_client.is_empty() && self.to_upstream.is_empty() {
                    self.give_back(KEPT_BYTES);
                }
                if self.wait(cx) {
                    continue;
                }
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn read_client(&mut self, cx: &mut Context<'_>) -> bool {
        match read(&mut self.parts.client, cx, |bytes| {
            self.parts.machine.buffers().client.extend_from_slice(bytes);
            bytes.len()
        }) {
            Poll::Pending => false,
            Poll::Ready(Some(n)) => {
                Counters::add(&self.parts.counters.bytes_in, n as u64);
                self.step(Input::ClientBytes);
                true
            }
            Poll::Ready(None) => {
                self.client_gone();
                true
            }
        }
    }

    fn read_upstream(&mut self, cx: &mut Context<'_>) -> bool {
        match read(&mut self.parts.upstream, cx, |bytes| {
            self.parts.machine.buffers().upstream.extend_from_slice(bytes);
            bytes.len()
        }) {
            Poll::Pending => false,
            Poll::Ready(Some(_)) => {
                self.step(Input::UpstreamBytes);
                true
            }
            Poll::Ready(None) => {
                self.step(Input::UpstreamClosed);
                true
            }
        }
    }

    /// The client went away; whatever runs upstream on its behalf is stopped.
    fn client_gone(&mut self) {
        self.step(Input::ClientClosed);
        if self.end.is_none() {
            self.told.get_or_insert(EndReason::ClientClosed);
            self.step(Input::Kill(kill("the client went away", None)));
        }
    }

    fn told(&mut self, message: ToSession) {
        match message {
            ToSession::View(view, json) => match self.parts.shelf.by_digest(&view.policy_digest) {
                Some(policy) => {
                    self.parts.policy = policy;
                    self.step(Input::NewView(view, json));
                }
                None => {
                    self.told = Some(EndReason::Withdrawn { what: "the policy set".into() });
                    self.step(Input::Kill(kill("the policy set in force could not be loaded", None)));
                }
            },
            ToSession::End(reason, ordered) => {
                self.ordered = ordered;
                let text = reason.to_string();
                let by = match &reason {
                    EndReason::Killed { by, .. } => Some(by.clone()),
                    _ => None,
                };
                self.told = Some(reason);
                self.step(Input::Kill(KillReason { text, by, code: None }));
            }
            ToSession::Frozen(watchers) => {
                let id = &self.parts.id;
                let word = format!(
                    "onus: this session is frozen until one of {} watches it: onus session watch {id}",
                    watchers.join(", ")
                );
                self.step(Input::Frozen(true));
                self.frozen = Some(word);
                self.frozen_word();
            }
            ToSession::Thawed => {
                self.frozen = None;
                self.step(Input::Notice("onus: the session is watched and goes on"));
                self.step(Input::Frozen(false));
            }
            ToSession::Recorded(up_to) => self.step(Input::Recorded(up_to)),
            ToSession::JournalFailed(what) => {
                self.parts.journal.fail(what.clone());
                self.told = Some(EndReason::RecordingFailed { what });
                self.step(Input::Kill(kill("the session can no longer be recorded", None)));
            }
            ToSession::Confirmed(hold, by) => {
                if let Some((op, digest)) = self.holds.get(&hold).copied() {
                    self.step(Input::HoldConfirmed { hold: op, digest, by: &by });
                }
            }
            ToSession::Refused(hold, by, reason) => {
                if let Some((op, _)) = self.holds.get(&hold).copied() {
                    match by {
                        Some(by) => {
                            self.step(Input::HoldRefused { hold: op, by: &by, reason: &reason });
                        }
                        None => self.step(Input::HoldExpired(op)),
                    }
                }
            }
        }
    }

    /// Puts a held operation before those who may confirm it. Until the ledger has it, nobody can.
    fn hold(&mut self, ticket: Ticket, at: Timestamp) {
        let id = ids::hold();
        let view: &View = self.parts.machine.view();
        let hold = Hold {
            id: id.clone(),
            session: self.parts.id.clone(),
            subject: view.subject.clone(),
            digest: hex::encode(ticket.digest),
            policy_digest: view.policy_digest.clone(),
            policies: ticket.decision.determining.iter().map(|d| d.policy.clone()).collect(),
            by: ticket.confirmation.by.clone(),
            at,
            expires: ticket.until,
        };
        let waiting = Waiting {
            hold: id.clone(),
            session: self.parts.id.clone(),
            text: String::from_utf8_lossy(&ticket.text).into_owned(),
            operations: ticket.statement.operations().to_vec(),
            why: ticket.decision.determining.iter().map(|d| d.why.clone()).collect(),
        };
        self.holds.insert(id.clone(), (ticket.hold, ticket.digest));
        let names: Vec<_> = hold.by.iter().map(String::as_str).collect();
        let word = format!(
            "onus: this waits until one of {} confirms it: onus confirm {id} (until {})",
            names.join(", "),
            hold.expires
        );
        let control = self.parts.control.clone();
        control.shared().registry.waiting().insert(id.clone(), waiting);
        let (by, session) = (Actor::Gateway(self.parts.gateway.clone()), self.parts.id.clone());
        tokio::spawn(async move {
            if let Err(error) = control.give(vec![Command::OpenHold(Box::new(hold))], by).await {
                let refused = ToSession::Refused(id, Some("the gateway".into()), error.to_string());
                control.shared().registry.tell(&session, refused);
            }
        });
        self.step(Input::Notice(&word));
    }

    fn hold_over(&mut self, op: OpNo) {
        let Some(id) = self.holds.iter().find(|(_, (held, _))| *held == op).map(|(id, _)| id.clone()) else {
            return;
        };
        self.holds.remove(&id);
        self.parts.control.shared().registry.waiting().remove(&id);
        let open = self.parts.control.shared().state().holds.contains_key(&id);
        if open {
            let control = self.parts.control.clone();
            let by = Actor::Gateway(self.parts.gateway.clone());
            tokio::spawn(async move {
                let lapse = Command::LapseHold { hold: id, reason: "the operation no longer waits".into() };
                // It may have been answered in the same moment; then there is nothing to note.
                let _ = control.give(vec![lapse], by).await;
            });
        }
    }

    /// Gives back buffers that are larger than `kept`: at once those that a large result left behind, the small ones
    /// only when the session has been idle for a while, since the next statement needs them again.
    fn give_back(&mut self, kept: usize) {
        self.to_client.give_back(kept);
        self.to_upstream.give_back(kept);
        let buffers = self.parts.machine.buffers();
        for buffer in [buffers.client, buffers.upstream] {
            if buffer.is_empty() && buffer.capacity() > kept {
                *buffer = BytesMut::new();
            }
        }
    }

    /// Arms the timer; true if it is over already.
    fn wait(&mut self, cx: &mut Context<'_>) -> bool {
        let asked = Instant::now();
        let mut due = self.armed;
        if self.parts.journal.is_behind() {
            due = due.min(asked + FLUSH_AFTER);
        }
        let tick_by = self.parts.machine.tick_by(self.parts.control.shared().lease_until());
        let left = Duration::from_millis(tick_by.since(now()).0);
        due = due.min(asked + left);
        if due < self.armed {
            self.armed = due;
            self.sleep.as_mut().reset(due.into());
        }
        if self.sleep.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.armed = asked + LOOK_AROUND;
        self.sleep.as_mut().reset(self.armed.into());
        self.parts.journal.flush();
        (self.parts.renew)(self.parts.machine.protocol_mut());
        if self.to_client.is_empty() && self.to_upstream.is_empty() {
            self.give_back(0);
        }
        self.anchor();
        self.warn();
        self.step(Input::Tick);
        true
    }

    /// Says that the session is frozen, to whoever has a place to hear it.
    fn frozen_word(&mut self) {
        if let Some(word) = self.frozen.clone() {
            self.step(Input::Notice(&word));
        }
    }

    /// Warns of the deadline, in sessions that are long enough for it to be of use.
    fn warn(&mut self) {
        let view = self.parts.machine.view();
        let (left, whole) = (view.deadline.since(now()).0, view.deadline.since(view.opened).0);
        let due = WARNINGS.iter().filter(|before| left <= **before && whole > 2 * **before).count();
        if due > self.warned {
            self.warned = due;
            let minutes = left.div_ceil(60_000);
            let word = format!("onus: the grant ends at {}, in {minutes} min; the session ends with it", view.deadline);
            self.step(Input::Notice(&word));
        }
    }

    /// Anchors the journal's head now and then, so that what was recorded can't be rewritten unnoticed meanwhile.
    fn anchor(&mut self) {
        if self.anchored.elapsed() < ANCHOR_EVERY {
            return;
        }
        self.anchored = Instant::now();
        let (records, head) = self.parts.journal.anchor();
        let control = self.parts.control.clone();
        let by = Actor::Gateway(self.parts.gateway.clone());
        let session = self.parts.id.clone();
        tokio::spawn(async move {
            let anchor = Command::AnchorJournal { session, records, head, closed: false };
            if let Err(error) = control.give(vec![anchor], by).await {
                tracing::warn!(%error, "a journal was not anchored");
            }
        });
    }

    /// Delivers the last words, closes both sides, and says how it ended.
    async fn finish(mut self) -> Ended {
        let end = self.end.take().unwrap_or(End {
            cause: EndCause::Broken,
            reason: "the session task stopped".into(),
            by: None,
        });
        let orderly = end.cause == EndCause::ClientLeft;
        // What was released goes upstream before the goodbye, if the client left in order.
        if orderly && !self.to_upstream.is_empty() {
            let flushed = poll_fn(|cx| self.to_upstream.poll(&mut self.parts.upstream, cx));
            let _ = tokio::time::timeout(LAST_WORDS, flushed).await;
        }
        // Also when the client just went away: what it started must not go on outside of any session.
        let parting = self.parts.stop.last_words();
        if let Some(words) = parting.clone() {
            // What was released before goes first, or its packets would be torn.
            self.to_upstream.push(words);
            let sent = poll_fn(|cx| self.to_upstream.poll(&mut self.parts.upstream, cx));
            let _ = tokio::time::timeout(LAST_WORDS, sent).await;
        }
        let client = &mut self.parts.client;
        let to_client = &mut self.to_client;
        let said = async {
            poll_fn(|cx| to_client.poll(client, cx)).await?;
            poll_fn(|cx| Pin::new(&mut *client).poll_shutdown(cx)).await
        };
        let _ = tokio::time::timeout(LAST_WORDS, said).await;
        drop(self.parts.client);
        let client_closed = Instant::now();
        if parting.is_some() {
            let _ = tokio::time::timeout(PROOF, prove_ended(&mut self.parts.stop, &mut self.parts.upstream)).await;
        }
        if orderly || parting.is_some() {
            let upstream = &mut self.parts.upstream;
            let closed = poll_fn(|cx| Pin::new(&mut *upstream).poll_shutdown(cx));
            let _ = tokio::time::timeout(LAST_WORDS, closed).await;
        }
        drop(self.parts.upstream);
        let upstream_closed = Instant::now();
        for id in self.holds.keys() {
            self.parts.control.shared().registry.waiting().remove(id);
        }
        let failed = self.parts.journal.failed().map(str::to_owned);
        let terminated_by = self.parts.journal.terminated_by();
        let anchor = match tokio::task::spawn_blocking(move || self.parts.journal.close()).await {
            Ok(anchor) => anchor,
            Err(error) => {
                tracing::error!(%error, "a journal could not be closed");
                (0, String::new())
            }
        };
        let counters = &self.parts.counters;
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        let totals = SessionTotals {
            permitted: load(&counters.permitted),
            refused: load(&counters.refused),
            rows: load(&counters.rows),
            bytes_out: load(&counters.bytes_out),
            bytes_in: load(&counters.bytes_in),
        };
        Ended {
            reason: reason(end, self.told, failed, terminated_by),
            totals,
            anchor,
            ordered: self.ordered,
            client_closed,
            upstream_closed,
            cancelled: self.parts.stop.cancelled(),
        }
    }
}

/// Reads what the other side answers to the last words, until it has answered all of them or closed.
async fn prove_ended<P, S: Stop<P>, U: Stream>(stop: &mut S, upstream: &mut U) {
    let mut heard = Vec::new();
    loop {
        match stop.answered(&heard) {
            Parting::Done => return,
            Parting::Say(words) => {
                if upstream.write_all(&words).await.is_err() || upstream.flush().await.is_err() {
                    return;
                }
            }
            Parting::Wait => {
                let mut more = vec![0u8; READ_BYTES];
                match upstream.read(&mut more).await {
                    Ok(n) if n > 0 && heard.len() < PROOF_BYTES => heard.extend_from_slice(&more[..n]),
                    _ => return,
                }
            }
        }
    }
}

/// How often a live session's journal is anchored in the ledger.
const ANCHOR_EVERY: Duration = Duration::from_secs(60);

/// The reason for the ledger: what was told from outside where the end came from there, else the machine's.
fn reason(
    end: End,
    told: Option<EndReason>,
    failed: Option<String>,
    terminated_by: Vec<onus_core::ids::PolicyId>,
) -> EndReason {
    match end.cause {
        EndCause::Killed => told.unwrap_or(EndReason::Fault { what: end.reason }),
        EndCause::LeaseLapsed => EndReason::LeaseLost,
        EndCause::DeadlinePassed => EndReason::GrantExpired,
        EndCause::Terminated => EndReason::PolicyTerminated { policies: terminated_by },
        EndCause::JournalFailed => EndReason::RecordingFailed { what: failed.unwrap_or(end.reason) },
        EndCause::ClientLeft => EndReason::ClientClosed,
        EndCause::UpstreamClosed => EndReason::UpstreamClosed,
        EndCause::ClientViolation | EndCause::UpstreamViolation => EndReason::ProtocolViolation { what: end.reason },
        EndCause::Broken => EndReason::Fault { what: end.reason },
    }
}

fn kill(text: &str, by: Option<&str>) -> KillReason {
    KillReason { text: text.to_owned(), by: by.map(str::to_owned), code: None }
}

/// Reads what there is into the thread's scratch buffer. `None`: the side has closed or failed.
fn read<S: Stream + ?Sized>(
    side: &mut S,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> usize,
) -> Poll<Option<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        match Pin::new(side).poll_read(cx, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => Poll::Ready(None),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(None),
            Poll::Ready(Ok(())) => Poll::Ready(Some(take(buffer.filled()))),
        }
    })
}

// The lease outlasts several looks around, or sessions would end between two renewals.
const _: () = assert!(LEASE.0 > 2 * LOOK_AROUND.as_millis() as u64);
