//! The live sessions of this gateway: where each one's mailbox is, and what people may see of it while it lives.
//!
//! Control writes to mailboxes; session tasks read them. Nothing here decides.

use onus_core::event::{EndReason, Session};
use onus_core::ids::{HoldId, SessionId};
use onus_core::state::State;
use onus_core::time::Timestamp;
use onus_core::view::View;
use onus_pep::RecordNo;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc;

/// What a session task is told from outside.
#[derive(Debug)]
pub enum ToSession {
    /// Its view changed; the second is the same as JSON, for the record.
    View(Arc<View>, Arc<str>),
    /// It is to end.
    End(EndReason, Option<Ordered>),
    /// Nothing goes on until one of these watches.
    Frozen(Vec<String>),
    /// Somebody watches; it goes on.
    Thawed,
    /// Its journal synced up to this record.
    Recorded(RecordNo),
    /// Its journal could not be synced.
    JournalFailed(String),
    /// A hold was confirmed by this party.
    Confirmed(HoldId, String),
    /// A hold was refused by this subject, or by nobody when its time was over, for this reason.
    Refused(HoldId, Option<String>, String),
}

/// When a kill was ordered: by the wall for the ledger, and on the monotonic clock for measuring.
#[derive(Debug, Clone, Copy)]
pub struct Ordered {
    /// The wall clock.
    pub at: Timestamp,
    /// The monotonic clock.
    pub since: Instant,
}

/// Counters that a session task keeps and anybody may read.
#[derive(Debug, Default)]
pub struct Counters {
    /// Operations relayed.
    pub permitted: AtomicU64,
    /// Operations refused.
    pub refused: AtomicU64,
    /// Rows to the client.
    pub rows: AtomicU64,
    /// Bytes to the client.
    pub bytes_out: AtomicU64,
    /// Bytes from the client.
    pub bytes_in: AtomicU64,
}

impl Counters {
    /// Adds to one of them; only its session's task writes, so this need not be a locked addition.
    pub fn add(counter: &AtomicU64, by: u64) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }
}

/// One live session.
pub struct Live {
    /// Its mailbox. Unbounded, and bounded by who writes: a handful of messages per change of control state.
    pub mailbox: mpsc::UnboundedSender<ToSession>,
    /// The view it was last sent, to send only what differs; `None` while it is being opened.
    pub view: Option<Arc<View>>,
    /// What it has come to so far.
    pub counters: Arc<Counters>,
    /// Whether it was told that it is frozen.
    pub frozen: bool,
}

impl Live {
    /// Tells the session if it must freeze for want of a watcher, or may go on.
    pub fn freeze(&mut self, state: &State, session: &Session) {
        let frozen = state.needs_watch(&session.id) && !state.is_watched(&session.id);
        if frozen == self.frozen {
            return;
        }
        self.frozen = frozen;
        let watchers = state.estate.roles.get(&session.role).map(|role| role.watchers.iter().cloned().collect());
        let message = if frozen { ToSession::Frozen(watchers.unwrap_or_default()) } else { ToSession::Thawed };
        let _ = self.mailbox.send(message);
    }
}

/// An operation that waits, as those who may confirm it see it. The text stays here and out of the ledger.
#[derive(Debug, Clone, Serialize)]
pub struct Waiting {
    /// The hold.
    pub hold: HoldId,
    /// Its session.
    pub session: SessionId,
    /// The statement, as sent.
    pub text: String,
    /// What it was parsed into.
    pub operations: Vec<onus_core::operation::Operation>,
    /// Why it is held, by each policy's `@why`.
    pub why: Vec<String>,
}

/// The live sessions and waiting operations of this gateway.
#[derive(Default)]
pub struct Registry {
    live: Mutex<BTreeMap<SessionId, Live>>,
    waiting: Mutex<BTreeMap<HoldId, Waiting>>,
}

impl Registry {
    /// The live sessions, locked. Hold it briefly.
    pub fn live(&self) -> MutexGuard<'_, BTreeMap<SessionId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The waiting operations, locked. Hold it briefly.
    pub fn waiting(&self) -> MutexGuard<'_, BTreeMap<HoldId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends to one session, if it is live here.
    pub fn tell(&self, session: &SessionId, message: ToSession) -> bool {
        self.live().get(session).is_some_and(|live| live.mailbox.send(message).is_ok())
    }
}
