//! Commands: what somebody wants, in the imperative, and the one door through which they become events.
//!
//! [`handle`] is pure: it looks at state and answers with events or a refusal. It makes up nothing: ids and the moment
//! come with the command. When adding one, add its arm here and its rule in the plane's folder.

use crate::estate::Estate;
use crate::event::{Actor, EndReason, Event, Hold, KillTarget, KillTimes, SessionTotals};
use crate::ids::{
    CredentialId, GrantId, HoldId, PartyId, PolicyId, RequestId, ResourceId, RoleId, SessionId, SubjectId,
};
use crate::refusal::Refusal;
use crate::state::State;
use crate::time::{Millis, Timestamp};
use crate::view::{Scope, Tier};
use crate::{change, elevation, issuance, response, runtime};
use std::collections::BTreeMap;

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Bring the estate to what is wanted.
    ApplyEstate {
        /// All of it, not a part.
        wanted: Box<Estate>,
    },
    /// Say that a party no longer answers for anything.
    RecordLeaver {
        /// Who left.
        party: PartyId,
        /// Why.
        reason: String,
    },
    /// Put a policy set in force. The caller has validated it and stored its texts.
    ActivatePolicy {
        /// SHA-256 of the canonical text, hex.
        digest: String,
        /// SHA-256 of the stored texts, hex.
        blob: String,
        /// Its policies and their owners.
        policies: BTreeMap<PolicyId, PartyId>,
    },
    /// Bind a client's key to a subject. The caller has checked the enrolment code.
    EnrollKey {
        /// Whose.
        subject: SubjectId,
        /// SHA-256 of the public key, hex.
        key: String,
    },
    /// Stop a subject.
    DisableSubject {
        /// Who.
        subject: SubjectId,
        /// Why.
        reason: String,
    },
    /// Let a disabled subject act again.
    EnableSubject {
        /// Who.
        subject: SubjectId,
        /// Why.
        reason: String,
    },
    /// Ask for a role.
    RequestAccess {
        /// Number for the request.
        id: RequestId,
        /// On what.
        resource: ResourceId,
        /// Which.
        role: RoleId,
        /// Why.
        purpose: String,
        /// How much of it.
        scope: Scope,
        /// For how long.
        lasts: Millis,
    },
    /// Agree to a request.
    ApproveRequest {
        /// Which.
        request: RequestId,
        /// Number for the grant that comes of it.
        grant: GrantId,
    },
    /// Turn a request down; its requester may withdraw it the same way.
    RefuseRequest {
        /// Which.
        request: RequestId,
        /// Why.
        reason: String,
    },
    /// End a grant before its time. Its holder may too.
    RevokeGrant {
        /// Which.
        grant: GrantId,
        /// Why.
        reason: String,
    },
    /// Note that a grant's time is over.
    ExpireGrant {
        /// Which.
        grant: GrantId,
    },
    /// Begin to use a grant.
    OpenSession(Box<OpenSession>),
    /// Note that a session was turned away.
    NoteRefusal {
        /// Who tried.
        subject: SubjectId,
        /// To reach what.
        resource: ResourceId,
        /// Why not.
        reason: String,
        /// Gaps in ownership.
        gaps: Vec<String>,
    },
    /// Note that a session is over.
    CloseSession {
        /// Which.
        session: SessionId,
        /// Why.
        reason: EndReason,
        /// What it came to.
        totals: SessionTotals,
    },
    /// Note an upstream credential before it is made, so that a crash cannot lose it.
    NoteCredential {
        /// Number.
        credential: CredentialId,
        /// For which session.
        session: SessionId,
        /// Which issuer.
        issuer: String,
        /// Its public name.
        name: String,
        /// Until when the other side honours it.
        expires: Timestamp,
    },
    /// Note that a credential is gone.
    NoteRevocation {
        /// Which.
        credential: CredentialId,
        /// Whether that was seen on the other side.
        proven: bool,
        /// Attempts.
        attempts: u32,
        /// What is left to say.
        note: Option<String>,
    },
    /// Let an operation wait.
    OpenHold(Box<Hold>),
    /// Confirm exactly this operation.
    ConfirmHold {
        /// Which.
        hold: HoldId,
    },
    /// Refuse it.
    RefuseHold {
        /// Which.
        hold: HoldId,
        /// Why.
        reason: String,
    },
    /// Note that nobody answered.
    LapseHold {
        /// Which.
        hold: HoldId,
        /// Why.
        reason: String,
    },
    /// End sessions at once.
    Kill {
        /// Which.
        target: KillTarget,
        /// Why.
        reason: String,
    },
    /// Note how a kill went.
    CompleteKill {
        /// Which session.
        session: SessionId,
        /// When the order came in.
        ordered: Timestamp,
        /// The measured times.
        times: KillTimes,
    },
    /// Anchor a journal's head.
    AnchorJournal {
        /// Which session's.
        session: SessionId,
        /// Records so far.
        records: u64,
        /// Head, hex.
        head: String,
        /// Whether none follows.
        closed: bool,
    },
    /// Set a subject's risk band.
    SetRisk {
        /// Whose.
        subject: SubjectId,
        /// 0 to 4.
        band: u8,
        /// On what grounds.
        why: String,
    },
    /// Watch a session as it goes. Whoever gives the command is the one who watches.
    BeginWatch {
        /// Which.
        session: SessionId,
    },
    /// Note that somebody no longer watches: by themself, or by the gateway that no longer hears of them.
    EndWatch {
        /// Which session.
        session: SessionId,
        /// Who watched.
        subject: SubjectId,
        /// Why.
        reason: String,
    },
    /// Note that a host showed another key than the pinned one.
    NoteHostKey {
        /// Which resource.
        resource: ResourceId,
        /// The session that wanted to reach it.
        session: Option<SessionId>,
        /// What would have been taken.
        expected: Vec<String>,
        /// The fingerprint that was shown.
        seen: String,
    },
    /// Note that a gateway began.
    StartGateway {
        /// Its name.
        gateway: String,
        /// Its version.
        version: String,
    },
}

/// What is known when somebody knocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// Number for the session.
    pub id: SessionId,
    /// Who knocks: a verified subject.
    pub subject: SubjectId,
    /// What it wants to reach.
    pub resource: ResourceId,
    /// Which role, where it said so.
    pub role: Option<RoleId>,
    /// The database, or what the protocol has in its place.
    pub database: String,
    /// SHA-256 of the public key that it proved to hold, hex.
    pub key: String,
    /// Where it is.
    pub source: String,
    /// The gateway.
    pub gateway: String,
    /// How far control will reach.
    pub tier: Tier,
}

/// Decides about one command: the events that it becomes, or why not.
///
/// # Errors
/// A [`Refusal`], which is for the person who gave the command.
pub fn handle(state: &State, command: Command, by: &Actor, now: Timestamp) -> Result<Vec<Event>, Refusal> {
    match command {
        Command::ApplyEstate { wanted } => change::apply_estate(state, &wanted, by),
        Command::RecordLeaver { party, reason } => change::record_leaver(state, party, reason, by),
        Command::ActivatePolicy { digest, blob, policies } => {
            change::activate_policy(state, digest, blob, policies, by)
        }
        Command::StartGateway { gateway, version } => Ok(vec![Event::GatewayStarted { gateway, version }]),
        Command::EnrollKey { subject, key } => issuance::enroll_key(state, subject, key),
        Command::DisableSubject { subject, reason } => issuance::disable(state, subject, reason, by),
        Command::EnableSubject { subject, reason } => issuance::enable(state, subject, reason, by),
        Command::RequestAccess { id, resource, role, purpose, scope, lasts } => {
            elevation::request(state, elevation::Asked { id, resource, role, purpose, scope, lasts }, by, now)
        }
        Command::ApproveRequest { request, grant } => elevation::approve(state, &request, grant, by, now),
        Command::RefuseRequest { request, reason } => elevation::refuse(state, request, reason, by),
        Command::RevokeGrant { grant, reason } => elevation::revoke(state, grant, reason, by),
        Command::ExpireGrant { grant } => elevation::expire(state, grant, now),
        Command::OpenSession(open) => runtime::open(state, *open, now),
        Command::NoteRefusal { subject, resource, reason, gaps } => {
            Ok(vec![Event::SessionRefused { subject, resource, reason, gaps }])
        }
        Command::CloseSession { session, reason, totals } => runtime::close(state, session, reason, totals),
        Command::NoteCredential { credential, session, issuer, name, expires } => {
            runtime::note_credential(state, credential, session, issuer, name, expires)
        }
        Command::NoteRevocation { credential, proven, attempts, note } => {
            Ok(vec![Event::CredentialRevoked { credential, proven, attempts, note }])
        }
        Command::OpenHold(hold) => runtime::open_hold(state, *hold),
        Command::ConfirmHold { hold } => runtime::confirm_hold(state, hold, by, now),
        Command::RefuseHold { hold, reason } => runtime::refuse_hold(state, hold, reason, by),
        Command::LapseHold { hold, reason } => runtime::lapse_hold(state, hold, reason),
        Command::AnchorJournal { session, records, head, closed } => {
            Ok(vec![Event::JournalAnchored { session, records, head, closed }])
        }
        Command::BeginWatch { session } => runtime::begin_watch(state, session, by),
        Command::EndWatch { session, subject, reason } => runtime::end_watch(state, session, subject, reason, by),
        Command::NoteHostKey { resource, session, expected, seen } => {
            runtime::note_host_key(state, resource, session, expected, seen, by)
        }
        Command::SetRisk { subject, band, why } => runtime::set_risk(state, subject, band, why, by),
        Command::Kill { target, reason } => response::kill(state, target, reason, by),
        Command::CompleteKill { session, ordered, times } => Ok(vec![Event::KillCompleted { session, ordered, times }]),
    }
}
