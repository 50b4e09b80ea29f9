//! A session that has begun: it is in the ledger, and must be ended there whatever becomes of its task.

use crate::control::{ControlError, now};
use crate::gateway::Gateway;
use crate::registry::{Counters, Live, ToSession};
use crate::session::Ended;
use crate::upstream::{Admin, Retired};
use onus_core::command::{Command, OpenSession};
use onus_core::event::{EndReason, Event, KillTimes, Session, SessionTotals};
use onus_core::ids::{CredentialId, SessionId};
use onus_core::refusal::Refusal;
use onus_core::runtime::{Standing, judge_session};
use onus_core::time::Timestamp;
use onus_issue::RoleName;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How long the end of a session waits for its credential's, before the two are noted apart.
const TOGETHER: Duration = Duration::from_millis(500);

/// How a session's own credential is ended.
pub(crate) enum Retire {
    /// A role of its own on the resource is dropped.
    Role {
        /// Who does it; `None` while it could not be reached, and then recovery does it: it is in the ledger.
        admin: Option<Arc<Admin>>,
        /// The role.
        role: RoleName,
    },
    /// A certificate whose key only the session had: with the session nobody holds it.
    Certificate {
        /// When it ends by itself.
        expires: Timestamp,
    },
}

impl Retire {
    fn begin(&self) -> Option<oneshot::Receiver<Retired>> {
        match self {
            Self::Role { admin, role } => admin.as_ref().map(|admin| admin.retire(role.clone())),
            Self::Certificate { expires } => {
                let (done, retired) = oneshot::channel();
                let ended = now() >= *expires;
                let note = if ended {
                    format!("the certificate ended at {expires}")
                } else {
                    format!("its key is destroyed with the session; the certificate itself ends at {expires}")
                };
                let _ = done.send(Retired { proven: true, attempts: 1, at: Instant::now(), note: Some(note) });
                Some(retired)
            }
        }
    }
}

/// Why a session was not opened.
pub(crate) enum NotOpened {
    /// Control refused it; that is in the ledger.
    Refused(Refusal),
    /// The ledger could not be written.
    Unavailable(String),
}

/// A session that is in the ledger and must be ended there, whatever happens.
pub(crate) struct Begun {
    pub gateway: Arc<Gateway>,
    pub session: Session,
    pub credential: Option<(CredentialId, Retire)>,
    pub done: bool,
}

impl Begun {
    /// Opens a session in the ledger, with the commands that belong to its credential. Its mailbox is in the registry
    /// before it is in the ledger: a kill that comes in the same moment must find it.
    pub async fn open(
        gateway: &Arc<Gateway>,
        open: OpenSession,
        with: Vec<Command>,
        credential: Option<(CredentialId, Retire)>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<ToSession>), NotOpened> {
        let (id, subject, resource) = (open.id.clone(), open.subject.clone(), open.resource.clone());
        let mut commands = vec![Command::OpenSession(Box::new(open))];
        commands.extend(with);
        let (sender, mailbox) = mpsc::unbounded_channel();
        let live = Live { mailbox: sender, view: None, counters: Arc::new(Counters::default()), frozen: false };
        gateway.shared().registry.live().insert(id.clone(), live);
        let opened = match gateway.control.give(commands, gateway.actor()).await {
            Ok(appended) => appended,
            Err(ControlError::Refused(refusal)) => {
                gateway.shared().registry.live().remove(&id);
                let gaps = match &refusal {
                    Refusal::OwnersMissing { gaps } => gaps.clone(),
                    _ => Vec::new(),
                };
                let reason = refusal.to_string();
                let note = Command::NoteRefusal { subject, resource, reason, gaps };
                if let Err(error) = gateway.give(note, gateway.actor()).await {
                    tracing::warn!(%error, "a refused session could not be noted");
                }
                return Err(NotOpened::Refused(refusal));
            }
            Err(error) => {
                gateway.shared().registry.live().remove(&id);
                return Err(NotOpened::Unavailable(error.to_string()));
            }
        };
        let session = opened.into_iter().find_map(|appended| match appended.entry.event {
            Event::SessionOpened { session } => Some(session),
            _ => None,
        });
        let session = session.ok_or_else(|| NotOpened::Unavailable("the session was not opened".to_owned()))?;
        Ok((Self { gateway: Arc::clone(gateway), session, credential, done: false }, mailbox))
    }

    /// Gives the session its first view. False if what it needs was withdrawn meanwhile.
    pub fn take_view(&self) -> bool {
        // Under both locks, so that no event falls between the view and its place in the registry.
        let shared = self.gateway.shared();
        let state = shared.state();
        let mut live = shared.registry.live();
        match (judge_session(&state, &self.session), live.get_mut(&self.session.id)) {
            (Standing::Live(view), Some(live)) => {
                live.view = Some(Arc::from(view));
                live.freeze(&state, &self.session);
                true
            }
            _ => false,
        }
    }

    /// Ends the session: its credential, its journal's last anchor, its events.
    pub async fn end(
        &mut self,
        reason: EndReason,
        totals: SessionTotals,
        anchor: Option<(u64, String)>,
        ended: Option<&Ended>,
    ) {
        self.done = true;
        let id = self.session.id.clone();
        let mut commands = Vec::new();
        if let Some((records, head)) = anchor {
            commands.push(Command::AnchorJournal { session: id.clone(), records, head, closed: true });
        }
        commands.push(Command::CloseSession { session: id.clone(), reason, totals });
        let ordered = ended.and_then(|ended| ended.ordered);
        let retiring = self.credential.take().map(|(credential, retire)| (credential, retire.begin()));
        // Usually the credential is gone in a moment, and one append says all.
        let later = match retiring {
            None => {
                commands.extend(kill_done(&id, ended, ordered, None));
                None
            }
            Some((credential, None)) => Some((credential, None)),
            Some((credential, Some(mut retired))) => match tokio::time::timeout(TOGETHER, &mut retired).await {
                Ok(Ok(retired)) => {
                    commands.push(note(credential, &retired));
                    commands.extend(kill_done(&id, ended, ordered, Some(&retired)));
                    None
                }
                _ => Some((credential, Some(retired))),
            },
        };
        self.give(commands).await;
        self.gateway.shared().registry.live().remove(&id);
        if let Some((credential, Some(retired))) = later
            && let Ok(retired) = retired.await
        {
            let mut commands = vec![note(credential, &retired)];
            commands.extend(kill_done(&id, ended, ordered, Some(&retired)));
            self.give(commands).await;
        }
        // A credential without an administration is left to recovery: it is in the ledger.
    }

    /// Gives commands until the ledger takes them: an end that is not written down has not happened.
    async fn give(&self, commands: Vec<Command>) {
        let mut wait = Duration::from_millis(50);
        loop {
            match self.gateway.control.give(commands.clone(), self.gateway.actor()).await {
                Ok(_) | Err(ControlError::Stopped) => return,
                Err(ControlError::Refused(refusal)) => {
                    tracing::warn!(%refusal, "the end of a session was turned down");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the end of a session is not noted yet");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
            }
        }
    }
}

impl Drop for Begun {
    /// A task that panicked or was dropped still ends its session.
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut orphan = Self {
            gateway: Arc::clone(&self.gateway),
            session: self.session.clone(),
            credential: self.credential.take(),
            done: true,
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let reason = EndReason::Fault { what: "its task stopped".to_owned() };
                orphan.end(reason, SessionTotals::default(), None, None).await;
            });
        }
    }
}

fn note(credential: CredentialId, retired: &Retired) -> Command {
    Command::NoteRevocation {
        credential,
        proven: retired.proven,
        attempts: retired.attempts,
        note: retired.note.clone(),
    }
}

fn kill_done(
    session: &SessionId,
    ended: Option<&Ended>,
    ordered: Option<crate::registry::Ordered>,
    retired: Option<&Retired>,
) -> Option<Command> {
    let (ended, ordered) = (ended?, ordered?);
    let since = |at: Instant| at.saturating_duration_since(ordered.since).as_micros() as u64;
    Some(Command::CompleteKill {
        session: session.clone(),
        ordered: ordered.at,
        times: KillTimes {
            cancelled_us: ended.cancelled.get().copied().map(since),
            client_closed_us: Some(since(ended.client_closed)),
            upstream_closed_us: Some(since(ended.upstream_closed)),
            credential_revoked_us: retired.filter(|retired| retired.proven).map(|retired| since(retired.at)),
        },
    })
}
