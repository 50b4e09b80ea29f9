//! Events: everything that anybody may be held to, in the past tense.
//!
//! The ledger is the sequence of these, in their wire form (`codec`). An event says what happened and nothing of
//! what follows from it; `state` folds it.

use crate::accountability::Accountable;
use crate::estate::Declared;
use crate::ids::{
    CredentialId, GrantId, HoldId, PartyId, PolicyId, RequestId, ResourceId, RoleId, SessionId, SubjectId,
};
use crate::time::{Millis, Timestamp};
use crate::view::{Scope, Tier};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Who caused an event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    /// A subject who proved to be it.
    Subject(SubjectId),
    /// A gateway by itself, by its name.
    Gateway(String),
    /// Whoever has the data directory in hand; only for the very first estate.
    Operator,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(id) => write!(f, "{id}"),
            Self::Gateway(name) => write!(f, "gateway {name}"),
            Self::Operator => f.write_str("the operator at the data directory"),
        }
    }
}

/// A request for a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its number.
    pub id: RequestId,
    /// Who asks.
    pub subject: SubjectId,
    /// For what.
    pub resource: ResourceId,
    /// Which privilege.
    pub role: RoleId,
    /// Why.
    pub purpose: String,
    /// How much of it.
    pub scope: Scope,
    /// For how long, from the last approval.
    pub lasts: Millis,
    /// When it was asked.
    pub at: Timestamp,
    /// Who approved so far.
    pub approvals: Vec<Approval>,
}

/// One approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The subject who approved.
    pub by: SubjectId,
    /// The party that this subject is.
    pub party: PartyId,
    /// When.
    pub at: Timestamp,
}

/// An approved, scoped, time-boxed role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its number.
    pub id: GrantId,
    /// The request that it answers.
    pub request: RequestId,
    /// Who holds it.
    pub subject: SubjectId,
    /// On what.
    pub resource: ResourceId,
    /// Which privilege.
    pub role: RoleId,
    /// Why.
    pub purpose: String,
    /// How much of it.
    pub scope: Scope,
    /// When it begins.
    pub from: Timestamp,
    /// When it ends. Exclusive.
    pub deadline: Timestamp,
    /// Under whose approvals.
    pub approvals: Vec<Approval>,
}

/// One use of one grant, bound to a key and a context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its number.
    pub id: SessionId,
    /// The grant used.
    pub grant: GrantId,
    /// Who acts.
    pub subject: SubjectId,
    /// What is reached.
    pub resource: ResourceId,
    /// Under which role.
    pub role: RoleId,
    /// The database, or what the protocol has in its place.
    pub database: String,
    /// SHA-256 of the public key that opened it, hex.
    pub key: String,
    /// Where the client is, as the gateway saw it.
    pub source: String,
    /// The gateway that holds it.
    pub gateway: String,
    /// How far control reaches.
    pub tier: Tier,
    /// When it opened.
    pub opened: Timestamp,
    /// Who answers for it, per plane. Cannot be left out (invariant 1).
    pub accountable: Accountable,
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EndReason {
    /// The client left.
    ClientClosed,
    /// The other side closed.
    UpstreamClosed,
    /// Somebody killed it.
    Killed {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// The grant's time is over.
    GrantExpired,
    /// The grant was revoked.
    GrantRevoked,
    /// The subject was disabled or withdrawn.
    SubjectDisabled,
    /// The resource, role or policy that it needs is no longer there.
    Withdrawn {
        /// What is missing.
        what: String,
    },
    /// A plane no longer resolves to an active owner.
    OwnerMissing {
        /// The gaps, in words.
        gaps: Vec<String>,
    },
    /// A policy said terminate.
    PolicyTerminated {
        /// Which.
        policies: Vec<PolicyId>,
    },
    /// The journal could not record: no record, no relay.
    RecordingFailed {
        /// What failed.
        what: String,
    },
    /// The gateway could not reach the ledger within its lease.
    LeaseLost,
    /// The client or the other side broke the protocol.
    ProtocolViolation {
        /// How.
        what: String,
    },
    /// The gateway went away; found at its next start.
    GatewayDied,
    /// The gateway shut down in order.
    GatewayStopped,
    /// Something that should not happen did, and the session was closed for it.
    Fault {
        /// What.
        what: String,
    },
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientClosed => f.write_str("the client left"),
            Self::UpstreamClosed => f.write_str("the resource closed the connection"),
            Self::Killed { by, reason } => write!(f, "killed by {by}: {reason}"),
            Self::GrantExpired => f.write_str("the grant's time is over"),
            Self::GrantRevoked => f.write_str("the grant was revoked"),
            Self::SubjectDisabled => f.write_str("the subject was disabled"),
            Self::Withdrawn { what } => write!(f, "{what} is no longer in force"),
            Self::OwnerMissing { gaps } => write!(f, "no owner: {}", gaps.join("; ")),
            Self::PolicyTerminated { policies } => {
                let names: Vec<_> = policies.iter().map(PolicyId::as_str).collect();
                write!(f, "policy {} ends the session", names.join(", "))
            }
            Self::RecordingFailed { what } => write!(f, "the journal could not record: {what}"),
            Self::LeaseLost => f.write_str("the gateway is cut off from the ledger"),
            Self::ProtocolViolation { what } => write!(f, "protocol violation: {what}"),
            Self::GatewayDied => f.write_str("the gateway died"),
            Self::GatewayStopped => f.write_str("the gateway was stopped"),
            Self::Fault { what } => write!(f, "fault: {what}"),
        }
    }
}

/// What a kill is aimed at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "lowercase")]
pub enum KillTarget {
    /// One session.
    Session(SessionId),
    /// All of a subject's.
    Subject(SubjectId),
    /// All on a resource.
    Resource(ResourceId),
}

impl fmt::Display for KillTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(id) => write!(f, "session {id}"),
            Self::Subject(id) => write!(f, "subject {id}"),
            Self::Resource(id) => write!(f, "resource {id}"),
        }
    }
}

/// An operation that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its number.
    pub id: HoldId,
    /// Where it waits.
    pub session: SessionId,
    /// Who asked for it.
    pub subject: SubjectId,
    /// SHA-256 over exactly this operation (text, parameters, session, policy set), hex.
    pub digest: String,
    /// The policy set under which it was held; under another the confirmation is void.
    pub policy_digest: String,
    /// The policies that held it.
    pub policies: Vec<PolicyId>,
    /// Parties or teams who may confirm.
    pub by: BTreeSet<String>,
    /// When it opened.
    pub at: Timestamp,
    /// When it is refused by itself.
    pub expires: Timestamp,
}

/// How long each step of a kill took, in microseconds from the command. `None`: not known to have happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillTimes {
    /// Until the running statement was asked to stop upstream.
    pub cancelled_us: Option<u64>,
    /// Until the client's socket was closed.
    pub client_closed_us: Option<u64>,
    /// Until the upstream socket was closed.
    pub upstream_closed_us: Option<u64>,
    /// Until the session's credential was proven gone.
    pub credential_revoked_us: Option<u64>,
}

/// What a session came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTotals {
    /// Operations permitted.
    pub permitted: u64,
    /// Operations refused, by policy or by a person.
    pub refused: u64,
    /// Rows sent to the client.
    pub rows: u64,
    /// Bytes sent to the client.
    pub bytes_out: u64,
    /// Bytes sent by the client.
    pub bytes_in: u64,
}

/// Something that happened to the control state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Something was declared, or declared anew.
    EstateDeclared {
        /// What.
        declared: Declared,
    },
    /// Something declared was taken away.
    EstateWithdrawn {
        /// What it was.
        declared: Declared,
    },
    /// A party left, or no longer answers for anything.
    PartyLeft {
        /// Who.
        party: PartyId,
        /// Why.
        reason: String,
    },
    /// A policy set came into force. Its texts are the blob with this digest.
    PolicyActivated {
        /// Counts up from 1.
        version: u64,
        /// SHA-256 of the canonical text, hex.
        digest: String,
        /// SHA-256 of the stored blob that holds the texts, hex.
        blob: String,
        /// Its policies, each with the party who answers for it.
        policies: BTreeMap<PolicyId, PartyId>,
    },
    /// A client key was enrolled for a subject.
    KeyEnrolled {
        /// Whose.
        subject: SubjectId,
        /// SHA-256 of the public key, hex.
        key: String,
    },
    /// A subject may do nothing any more.
    SubjectDisabled {
        /// Who.
        subject: SubjectId,
        /// Why.
        reason: String,
    },
    /// A disabled subject may act again. Its keys must be enrolled anew.
    SubjectEnabled {
        /// Who.
        subject: SubjectId,
        /// Why.
        reason: String,
    },
    /// A role was asked for.
    AccessRequested {
        /// The request.
        request: Request,
    },
    /// An approver agreed.
    RequestApproved {
        /// To which request.
        request: RequestId,
        /// The approval.
        approval: Approval,
    },
    /// An approver refused, or the requester withdrew.
    RequestRefused {
        /// Which request.
        request: RequestId,
        /// Why.
        reason: String,
    },
    /// A grant came into being.
    GrantIssued {
        /// The grant.
        grant: Grant,
    },
    /// A grant was revoked before its deadline.
    GrantRevoked {
        /// Which.
        grant: GrantId,
        /// Why.
        reason: String,
    },
    /// A grant's deadline passed.
    GrantExpired {
        /// Which.
        grant: GrantId,
    },
    /// A session was refused at the door, with what is missing.
    SessionRefused {
        /// Who tried.
        subject: SubjectId,
        /// To reach what.
        resource: ResourceId,
        /// Why not.
        reason: String,
        /// Unresolved owners, in words.
        gaps: Vec<String>,
    },
    /// A session came into being.
    SessionOpened {
        /// The session.
        session: Session,
    },
    /// A session ended.
    SessionClosed {
        /// Which.
        session: SessionId,
        /// Why.
        reason: EndReason,
        /// What it came to.
        totals: SessionTotals,
    },
    /// An upstream credential came into being.
    CredentialIssued {
        /// Its number.
        credential: CredentialId,
        /// For which session.
        session: SessionId,
        /// Where.
        resource: ResourceId,
        /// `session-role`, `stored` …
        issuer: String,
        /// Its public name on the other side. Never a secret.
        name: String,
        /// Until when the other side itself honours it.
        expires: Timestamp,
    },
    /// An upstream credential was proven to be gone, or given up where it is a standing one.
    CredentialRevoked {
        /// Which.
        credential: CredentialId,
        /// Whether the other side was seen to be without it.
        proven: bool,
        /// How many attempts it took.
        attempts: u32,
        /// What is left to say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// An operation waits for a step-up.
    HoldOpened {
        /// Which.
        hold: Hold,
    },
    /// Somebody named confirmed exactly this operation.
    HoldConfirmed {
        /// Which hold.
        hold: HoldId,
        /// The subject who confirmed.
        by: SubjectId,
        /// The party that this subject is.
        party: PartyId,
    },
    /// Somebody named refused it.
    HoldRefused {
        /// Which hold.
        hold: HoldId,
        /// The subject who refused.
        by: SubjectId,
        /// Why.
        reason: String,
    },
    /// Nobody answered in time, or the session ended before.
    HoldLapsed {
        /// Which hold.
        hold: HoldId,
        /// Why.
        reason: String,
    },
    /// Somebody ordered sessions to end at once.
    KillOrdered {
        /// Which.
        target: KillTarget,
        /// Why.
        reason: String,
        /// The sessions that were live then.
        sessions: Vec<SessionId>,
    },
    /// A killed session's end, with its measured times.
    KillCompleted {
        /// Which session.
        session: SessionId,
        /// When the order came in.
        ordered: Timestamp,
        /// How long each step took.
        times: KillTimes,
    },
    /// A session's journal reached this point.
    JournalAnchored {
        /// Which session.
        session: SessionId,
        /// Number of records so far.
        records: u64,
        /// The chain's head, hex.
        head: String,
        /// Whether the session is over and no record follows.
        closed: bool,
    },
    /// A subject's risk band changed.
    RiskChanged {
        /// Whose.
        subject: SubjectId,
        /// 0 to 4.
        band: u8,
        /// On what grounds.
        why: String,
    },
    /// Somebody began to watch a session as it goes.
    WatchBegan {
        /// Which session.
        session: SessionId,
        /// The subject who watches.
        subject: SubjectId,
        /// The party that this subject is; who watches because a role demands it always is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        party: Option<PartyId>,
    },
    /// They no longer do. A session whose role demands a watcher is frozen until another one begins.
    WatchEnded {
        /// Which session.
        session: SessionId,
        /// The subject who watched.
        subject: SubjectId,
        /// Why.
        reason: String,
    },
    /// A host showed another key than the one that is pinned, and was refused.
    HostKeyChanged {
        /// Which resource.
        resource: ResourceId,
        /// The session that wanted to reach it, where there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        /// The fingerprints that would have been taken, `SHA256:…`, or the authority that would have signed.
        expected: Vec<String>,
        /// The fingerprint that was shown.
        seen: String,
    },
    /// A gateway began to hold sessions.
    GatewayStarted {
        /// Its name.
        gateway: String,
        /// Its version.
        version: String,
    },
}

/// One ledger entry: an event, when, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, by the clock of the gateway that appended it; never before the entry before it.
    pub at: Timestamp,
    /// By whom.
    pub by: Actor,
    /// What. Nested, so that an event may have a field `at` or `by` of its own.
    #[serde(rename = "what")]
    pub event: Event,
}
