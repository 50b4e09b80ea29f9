//! The control loop: the one owner of the ledger, the state and its reactions.
//!
//! One thread takes commands in batches, decides about each on the state as the ones before it left it, appends all
//! their events in one durable append with a signed checkpoint, and only then answers and tells the sessions that are
//! touched. If the append fails, nothing of the batch has happened: the state is folded anew from the store, and
//! until that works every command is refused and the lease is not renewed, so that the sessions end by themselves.

use crate::registry::{Ordered, Registry, ToSession};
use onus_core::codec::{self, CodecError};
use onus_core::command::{Command, handle};
use onus_core::event::{Actor, EndReason, Entry, Event};
use onus_core::ids::SessionId;
use onus_core::refusal::Refusal;
use onus_core::runtime::{Standing, judge_session, touched_by};
use onus_core::state::State;
use onus_core::time::{Millis, Timestamp};
use onus_core::view::View;
use onus_ledger::{Checkpoint, Hash, SigningKey, Tree, leaf_hash};
use onus_store::{AppendError, Entry as Stored, LedgerStore, SignedCheckpoint, StoreFault, append_again};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// How long a gateway may act on what it knows without hearing from the ledger (invariant 2).
pub const LEASE: Millis = Millis(15_000);

/// How often the ledger is asked whether it is still there, at the least.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Most commands in one append.
const BATCH: usize = 512;

/// A snapshot is written after this many entries, at the soonest.
const SNAPSHOT_EVERY: u64 = 4096;

/// Why a command did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The rules of the domain turn it down.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The ledger can't be reached or written. Nothing happened.
    #[error("the ledger is not available ({0}); nothing was done: try again, or look at the gateway's log")]
    Unavailable(String),
    /// An event can't be written down.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The control loop is gone.
    #[error("the gateway is stopping")]
    Stopped,
}

/// Why the control loop can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store can't be read.
    #[error("cannot read the ledger")]
    Store(#[from] StoreFault),
    /// An entry can't be understood.
    #[error("ledger entry {position} cannot be read")]
    Entry {
        /// Where.
        position: u64,
        /// Why.
        source: CodecError,
    },
    /// The newest checkpoint does not fit the entries: somebody changed them.
    #[error(
        "the ledger does not match its newest signed checkpoint: {what}; run `onus ledger verify` and restore a good copy"
    )]
    Tampered {
        /// How.
        what: String,
    },
}

/// An event that is in the ledger.
#[derive(Debug, Clone)]
pub struct Appended {
    /// Its position.
    pub position: u64,
    /// What it says.
    pub entry: Entry,
}

enum Message {
    Order(Order),
    Stop,
}

struct Order {
    /// Carried out one after the other; the first refusal stops the rest.
    commands: Vec<Command>,
    by: Actor,
    /// When it came in, for measuring kills.
    since: Instant,
    answer: oneshot::Sender<Result<Vec<Appended>, ControlError>>,
}

/// What everybody may read and only the control loop writes. Take one lock at a time.
pub struct Shared {
    state: RwLock<State>,
    tree: RwLock<Tree>,
    checkpoint: RwLock<Option<SignedCheckpoint>>,
    /// Milliseconds since the epoch until which this gateway may act.
    lease_until: AtomicU64,
    /// The live sessions.
    pub registry: Registry,
}

impl Shared {
    /// The state, locked for reading. Hold it briefly: the control loop waits for it.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Merkle tree, locked for reading.
    pub fn tree(&self) -> RwLockReadGuard<'_, Tree> {
        self.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest signed checkpoint.
    pub fn checkpoint(&self) -> Option<SignedCheckpoint> {
        self.checkpoint.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Until when this gateway may act on what it knows.
    pub fn lease_until(&self) -> Timestamp {
        Timestamp(self.lease_until.load(Ordering::Relaxed))
    }
}

/// A way to give commands. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    orders: std_mpsc::Sender<Message>,
    shared: Arc<Shared>,
}

/// The wall clock. The one place in the gateway that asks it.
pub fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}

impl Control {
    /// Gives commands, one after the other and in one append, and waits until their events are durable.
    ///
    /// # Errors
    /// When one was turned down (those before it have happened, those after it have not), or the ledger can't be
    /// written (then none has).
    pub async fn give(&self, commands: Vec<Command>, by: Actor) -> Result<Vec<Appended>, ControlError> {
        let (answer, answered) = oneshot::channel();
        let order = Order { commands, by, since: Instant::now(), answer };
        self.orders.send(Message::Order(order)).map_err(|_| ControlError::Stopped)?;
        answered.await.map_err(|_| ControlError::Stopped)?
    }

    /// Lets the loop end after what it has been given so far.
    pub fn stop(&self) {
        // A loop that is gone needs no telling.
        let _ = self.orders.send(Message::Stop);
    }

    /// What everybody may read.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Folds the ledger and starts the loop on a thread of its own. It ends when the last [`Control`] is dropped.
    ///
    /// # Errors
    /// When the ledger can't be read, or does not match its own checkpoint.
    pub fn start(
        store: Box<dyn LedgerStore>,
        key: SigningKey,
    ) -> Result<(Self, std::thread::JoinHandle<()>), StartError> {
        let (state, tree) = fold(store.as_ref())?;
        let newest = newest_checkpoint(store.as_ref())?;
        check_against(&tree, newest.as_ref(), &key)?;
        let shared = Arc::new(Shared {
            state: RwLock::new(state.clone()),
            tree: RwLock::new(tree.clone()),
            checkpoint: RwLock::new(newest),
            lease_until: AtomicU64::new(now().plus(LEASE).0),
            registry: Registry::default(),
        });
        let (orders, inbox) = std_mpsc::channel();
        let control = Self { orders, shared: Arc::clone(&shared) };
        let snapshot_at = state.as_of;
        let mut keeper = Keeper { store, key, state, tree, shared, unavailable: None, unwritable: false, snapshot_at };
        let thread = std::thread::Builder::new()
            .name("onus-control".into())
            .spawn(move || keeper.run(&inbox))
            .map_err(|error| StartError::Tampered { what: format!("no thread could be started: {error}") })?;
        Ok((control, thread))
    }
}

/// Folds the state from the newest usable snapshot and the entries after it, and rebuilds the tree.
pub fn fold(store: &dyn LedgerStore) -> Result<(State, Tree), StartError> {
    let size = store.size()?;
    let mut state = match store.latest_snapshot()? {
        Some((at, bytes)) if at <= size => State::from_snapshot(&bytes).ok().filter(|state| state.as_of == at),
        _ => None,
    }
    .unwrap_or_default();
    let mut tree = Tree::new();
    let mut position = 0;
    while position < size {
        let page = store.read(position, 4096)?;
        if page.is_empty() {
            return Err(StartError::Tampered { what: format!("entry {position} of {size} is missing") });
        }
        for stored in page {
            let leaf = leaf_hash(&stored.bytes);
            if leaf != Hash(stored.leaf_hash) {
                return Err(StartError::Tampered { what: format!("entry {position} was changed") });
            }
            tree.append_hash(leaf);
            if position >= state.as_of {
                let entry = codec::decode(&stored.bytes).map_err(|source| StartError::Entry { position, source })?;
                state.apply(&entry);
            }
            position += 1;
        }
    }
    Ok((state, tree))
}

fn newest_checkpoint(store: &dyn LedgerStore) -> Result<Option<SignedCheckpoint>, StoreFault> {
    // Published in order, so the last of those at or above half the ledger is the newest.
    Ok(store.checkpoints(store.size()?.saturating_sub(BATCH as u64 * 8))?.pop())
}

fn check_against(tree: &Tree, newest: Option<&SignedCheckpoint>, key: &SigningKey) -> Result<(), StartError> {
    let tampered = |what: String| StartError::Tampered { what };
    let Some(newest) = newest else {
        return if tree.size() == 0 { Ok(()) } else { Err(tampered("entries, and no checkpoint".into())) };
    };
    let signed = onus_ledger::SignedCheckpoint::open(&newest.note, key.verifier())
        .map_err(|error| tampered(error.to_string()))?
        .into_checkpoint();
    if signed.size != tree.size() {
        return Err(tampered(format!("{} entries, and a checkpoint for {}", tree.size(), signed.size)));
    }
    if signed.root != tree.root() {
        return Err(tampered("another root hash than the one that was signed".into()));
    }
    Ok(())
}

/// The loop's own state and tree run ahead of the shared ones by the batch that is being appended: so nobody can see
/// an event that is not in the ledger, and nobody waits for a disk to read the state.
struct Keeper {
    store: Box<dyn LedgerStore>,
    key: SigningKey,
    state: State,
    tree: Tree,
    shared: Arc<Shared>,
    /// Why the ledger can't be used at the moment.
    unavailable: Option<String>,
    /// Whether the last append failed: what can be read and not written is no ledger to act under, so the lease is
    /// not renewed until something could be written again.
    unwritable: bool,
    snapshot_at: u64,
}

impl Keeper {
    fn run(&mut self, inbox: &std_mpsc::Receiver<Message>) {
        let mut swept = Instant::now();
        let mut stopping = false;
        while !stopping {
            let first = match inbox.recv_timeout(HEARTBEAT) {
                Ok(message) => Some(message),
                Err(std_mpsc::RecvTimeoutError::Timeout) => None,
                Err(std_mpsc::RecvTimeoutError::Disconnected) => break,
            };
            let mut batch = Vec::new();
            for message in first.into_iter().chain(inbox.try_iter().take(BATCH - 1)) {
                match message {
                    Message::Order(order) => batch.push(order),
                    Message::Stop => stopping = true,
                }
            }
            if !batch.is_empty() {
                self.carry_out(batch);
            }
            if swept.elapsed() >= HEARTBEAT {
                swept = Instant::now();
                self.heartbeat();
                self.sweep();
            }
        }
        self.write_snapshot();
    }

    /// Asks the ledger whether it is there and as we left it; renews the lease only then.
    fn heartbeat(&mut self) {
        if self.unavailable.is_some() {
            self.recover();
            return;
        }
        let expected = self.state.as_of;
        match self.store.size() {
            Ok(size) if size == expected && self.unwritable => {
                // A snapshot proves nothing and loses nothing: a good thing to try writing with.
                match self.store.put_snapshot(expected, &self.state.snapshot()) {
                    Ok(()) => {
                        self.unwritable = false;
                        self.renew();
                    }
                    Err(fault) => tracing::warn!(%fault, "the ledger still cannot be written"),
                }
            }
            Ok(size) if size == expected => self.renew(),
            Ok(_) => self.recover(),
            Err(fault) => self.lose(&fault),
        }
    }

    fn renew(&self) {
        if self.unwritable {
            return;
        }
        self.shared.lease_until.store(now().plus(LEASE).0, Ordering::Relaxed);
    }

    fn lose(&mut self, fault: &dyn std::error::Error) {
        let mut what = fault.to_string();
        let mut source = fault.source();
        while let Some(cause) = source {
            what = format!("{what}: {cause}");
            source = cause.source();
        }
        if self.unavailable.as_ref() != Some(&what) {
            tracing::error!(%what, "the ledger is not available; sessions end when the lease lapses");
        }
        self.unavailable = Some(what);
    }

    /// Folds anew from what the store really holds.
    fn recover(&mut self) {
        match fold(self.store.as_ref()) {
            Ok((state, tree)) => {
                (self.state, self.tree) = (state, tree);
                *self.shared.state.write().unwrap_or_else(PoisonError::into_inner) = self.state.clone();
                *self.shared.tree.write().unwrap_or_else(PoisonError::into_inner) = self.tree.clone();
                if self.unavailable.take().is_some() {
                    tracing::info!("the ledger is available again");
                }
                self.renew();
                let all: BTreeSet<SessionId> = self.shared.state().sessions.keys().cloned().collect();
                self.judge_again(all, None);
            }
            Err(error) => self.lose(&error),
        }
    }

    /// Notes what ended by the clock alone.
    fn sweep(&mut self) {
        let now = now();
        let (expired, lapsed): (Vec<_>, Vec<_>) = {
            let state = &self.state;
            (
                state.grants.values().filter(|grant| grant.deadline <= now).map(|g| g.id.clone()).take(BATCH).collect(),
                state.holds.values().filter(|hold| hold.expires <= now).map(|h| h.id.clone()).take(BATCH).collect(),
            )
        };
        let commands = expired.into_iter().map(|grant| Command::ExpireGrant { grant }).chain(
            lapsed.into_iter().map(|hold| Command::LapseHold { hold, reason: "nobody answered in time".into() }),
        );
        let batch: Vec<Order> = commands
            .map(|command| Order {
                commands: vec![command],
                by: Actor::Gateway("sweep".into()),
                since: Instant::now(),
                answer: oneshot::channel().0,
            })
            .collect();
        if !batch.is_empty() {
            self.carry_out(batch);
        }
    }

    fn carry_out(&mut self, batch: Vec<Order>) {
        if self.unavailable.is_some() {
            self.recover();
        }
        if let Some(what) = &self.unavailable {
            for order in batch {
                self.kill_unrecorded(&order);
                let _ = order.answer.send(Err(ControlError::Unavailable(what.clone())));
            }
            return;
        }
        let mut entries: Vec<Stored> = Vec::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut touched = BTreeSet::new();
        let mut answers = Vec::new();
        let before = self.tree.size();
        let mut fresh: Vec<Entry> = Vec::new();
        for Order { commands, by, since, answer } in batch {
            let mut outcome = Ok(Vec::new());
            for command in commands {
                let at = now().max(self.state.last_at);
                let encoded = handle(&self.state, command, &by, at).map_err(ControlError::from).and_then(|events| {
                    let mut encoded = Vec::with_capacity(events.len());
                    for event in events {
                        let entry = Entry { at, by: by.clone(), event };
                        encoded.push((codec::encode(&entry)?, entry));
                    }
                    Ok(encoded)
                });
                match (encoded, &mut outcome) {
                    (Err(error), _) => {
                        outcome = Err(error);
                        break;
                    }
                    (Ok(encoded), Ok(appended)) => {
                        for (bytes, entry) in encoded {
                            let leaf = leaf_hash(&bytes);
                            let position = self.tree.append_hash(leaf);
                            entries.push(Stored { bytes, leaf_hash: leaf.0 });
                            if let Event::KillOrdered { .. } = &entry.event {
                                // Before it is durable: ending a session needs no ledger, and no disk may delay it.
                                self.end_killed(&entry, Ordered { at, since });
                            } else {
                                touched.extend(touched_by(&self.state, &entry.event));
                            }
                            answers.extend(answered_hold(&self.state, &entry));
                            self.state.apply(&entry);
                            fresh.push(entry.clone());
                            appended.push(Appended { position, entry });
                        }
                    }
                    (Ok(_), Err(_)) => break,
                }
            }
            outcomes.push((answer, outcome));
        }
        if !entries.is_empty()
            && let Err(error) = self.append(before, &entries)
        {
            self.unwritable |= matches!(error, AppendError::Fault(_));
            self.lose(&error);
            self.recover();
            let what = self.unavailable.clone().unwrap_or_else(|| error.to_string());
            for (answer, outcome) in outcomes {
                let _ = answer.send(outcome.and_then(|_| Err(ControlError::Unavailable(what.clone()))));
            }
            return;
        }
        if !entries.is_empty() {
            self.unwritable = false;
        }
        // COMMIT POINT: the events are durable; from here on they have happened, and sessions hear of them before
        // whoever gave the command does.
        {
            let mut tree = self.shared.tree.write().unwrap_or_else(PoisonError::into_inner);
            entries.iter().for_each(|entry| {
                tree.append_hash(Hash(entry.leaf_hash));
            });
        }
        {
            let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
            fresh.iter().for_each(|entry| state.apply(entry));
        }
        self.judge_again(touched, None);
        for (session, message) in answers {
            self.shared.registry.tell(&session, message);
        }
        for (answer, outcome) in outcomes {
            let _ = answer.send(outcome);
        }
        self.renew();
        if self.state.as_of >= self.snapshot_at + SNAPSHOT_EVERY {
            self.write_snapshot();
        }
    }

    /// Ends the sessions that a kill is aimed at.
    fn end_killed(&self, entry: &Entry, ordered: Ordered) {
        let Event::KillOrdered { reason, .. } = &entry.event else { return };
        let killed = EndReason::Killed { by: entry.by.to_string(), reason: reason.clone() };
        let live = self.shared.registry.live();
        for session in touched_by(&self.state, &entry.event) {
            if let Some(live) = live.get(&session) {
                let _ = live.mailbox.send(ToSession::End(killed.clone(), Some(ordered)));
            }
        }
    }

    /// While the ledger is away nothing can be recorded, and whoever may end a session still can: the answer says that
    /// the order was not written down, the sessions end all the same.
    fn kill_unrecorded(&self, order: &Order) {
        for command in order.commands.iter().filter(|command| matches!(command, Command::Kill { .. })) {
            let at = now().max(self.state.last_at);
            if let Ok(events) = handle(&self.state, command.clone(), &order.by, at) {
                for event in events {
                    let entry = Entry { at, by: order.by.clone(), event };
                    self.end_killed(&entry, Ordered { at, since: order.since });
                }
            }
        }
    }

    fn append(&mut self, before: u64, entries: &[Stored]) -> Result<(), AppendError> {
        let checkpoint = Checkpoint::new(self.key.verifier().name().clone(), self.tree.size(), self.tree.root());
        let note = match checkpoint.sign(&self.key) {
            Ok(signed) => signed.to_string(),
            // The key's name is the log's origin by construction; signing over it cannot fail.
            Err(error) => unreachable!("a checkpoint under its own key's name can be signed: {error}"),
        };
        let signed = SignedCheckpoint { size: self.tree.size(), note };
        match self.store.append(before, entries, Some(&signed)) {
            Ok(_) => {}
            Err(AppendError::Fault(_)) => {
                append_again(self.store.as_mut(), before, entries, Some(&signed))?;
            }
            Err(conflict) => return Err(conflict),
        }
        *self.shared.checkpoint.write().unwrap_or_else(PoisonError::into_inner) = Some(signed);
        Ok(())
    }

    /// Judges sessions again and sends each what changed for it.
    fn judge_again(&self, sessions: BTreeSet<SessionId>, ordered: Option<Ordered>) {
        if sessions.is_empty() {
            return;
        }
        let state = self.shared.state();
        let mut live = self.shared.registry.live();
        for id in sessions {
            let (Some(session), Some(live)) = (state.sessions.get(&id), live.get_mut(&id)) else {
                continue;
            };
            match judge_session(&state, session) {
                Standing::Live(view) => {
                    // One that is being opened takes its first view from the state itself.
                    if live.view.is_none() {
                        continue;
                    }
                    live.freeze(&state, session);
                    let Some(before) = &live.view else { continue };
                    let same = {
                        let mut as_before = (*view).clone();
                        (as_before.epoch, as_before.as_of) = (before.epoch, before.as_of);
                        as_before == **before
                    };
                    if !same {
                        let view: Arc<View> = Arc::from(view);
                        live.view = Some(Arc::clone(&view));
                        let json = view_json(&view);
                        let _ = live.mailbox.send(ToSession::View(view, json));
                    }
                }
                Standing::Ended(reason) => {
                    let _ = live.mailbox.send(ToSession::End(reason, ordered));
                }
            }
        }
    }

    fn write_snapshot(&mut self) {
        let (at, bytes) = (self.state.as_of, self.state.snapshot());
        if at == 0 || self.unavailable.is_some() {
            return;
        }
        // A snapshot saves time and proves nothing: failing to write one is a warning.
        match self.store.put_snapshot(at, &bytes) {
            Ok(()) => self.snapshot_at = at,
            Err(fault) => tracing::warn!(%fault, "no snapshot was written"),
        }
    }
}

/// A view as the journal records it.
pub fn view_json(view: &View) -> Arc<str> {
    serde_json::to_string(view).expect("a view is plain data with text keys").into()
}

/// What a session must be told when a hold of its own is answered. Asked before the entry is folded, while the hold
/// still says whose it is.
fn answered_hold(state: &State, entry: &Entry) -> Option<(SessionId, ToSession)> {
    let (hold, message) = match &entry.event {
        Event::HoldConfirmed { hold, party, .. } => (hold, ToSession::Confirmed(hold.clone(), party.to_string())),
        Event::HoldRefused { hold, by, reason } => {
            (hold, ToSession::Refused(hold.clone(), Some(by.to_string()), reason.clone()))
        }
        Event::HoldLapsed { hold, reason } => (hold, ToSession::Refused(hold.clone(), None, reason.clone())),
        _ => return None,
    };
    Some((state.holds.get(hold)?.session.clone(), message))
}
