//! Refusals: commands that the rules of the domain turn down, each in words for the person who gave the command.

use crate::ids::{GrantId, HoldId, PartyId, RequestId, ResourceId, RoleId, SessionId, SubjectId};
use crate::time::{Millis, Timestamp};

/// Why a command was turned down. When adding one, say what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says what it means; its fields are the message's words")]
pub enum Refusal {
    #[error("`{0}` is not declared in the estate; an administrator can add it under `subjects` and `onus apply`")]
    UnknownSubject(SubjectId),
    #[error(
        "subject `{subject}` is disabled: {reason}; `onus subject enable {subject}` by a lifecycle owner undoes it"
    )]
    SubjectDisabled { subject: SubjectId, reason: String },
    #[error("there is no resource `{0}`; `onus resource list` shows what there is")]
    UnknownResource(ResourceId),
    #[error("there is no role `{role}`{}", known(.roles))]
    UnknownRole { role: RoleId, roles: Vec<RoleId> },
    #[error("role `{role}` is not offered on `{resource}`{}", known(.roles))]
    RoleNotOffered { role: RoleId, resource: ResourceId, roles: Vec<RoleId> },
    #[error(
        "a request needs a purpose of at least {0} characters: say what for, such as `INC-42: find the stuck order`"
    )]
    PurposeMissing(usize),
    #[error("a request needs a duration; add such as `--for 30m`")]
    DurationMissing,
    #[error("role `{role}` is granted for at most {most}; ask for that or less")]
    TooLong { role: RoleId, most: Millis },
    #[error("the scope asked for is wider than role `{0}` allows; name only what its `scope` lists")]
    ScopeTooWide(RoleId),
    #[error("no grant without an owner on every plane. Missing: {}", .gaps.join("; "))]
    OwnersMissing { gaps: Vec<String> },
    #[error("no policy set is in force; an administrator activates one with `onus policy apply DIR`")]
    NoPolicy,
    #[error("there is no open request `{0}`; `onus request list` shows those that wait")]
    UnknownRequest(RequestId),
    #[error("nobody approves their own request; it needs one of: {approvers}")]
    SelfApproval { approvers: String },
    #[error("`{subject}` may not answer request `{request}`; it needs one of: {approvers}")]
    NotAnApprover { subject: SubjectId, request: RequestId, approvers: String },
    #[error("`{0}` has approved this request already; it needs another person")]
    ApprovedTwice(PartyId),
    #[error("there is no live grant `{0}`; `onus grant list` shows those that there are")]
    UnknownGrant(GrantId),
    #[error(
        "no active grant for `{resource}`; request one with `onus request {resource} --role {role} --purpose … --for 30m`"
    )]
    NoGrant { resource: ResourceId, role: String },
    #[error("several grants fit on `{resource}`; choose one by its role: {}", .roles.join(", "))]
    GrantNotChosen { resource: ResourceId, roles: Vec<String> },
    #[error("the grant does not reach database `{database}`; it reaches: {allowed}")]
    DatabaseOutOfScope { database: String, allowed: String },
    #[error("the grant `{grant}` ended at {deadline}; request a new one")]
    GrantEnded { grant: GrantId, deadline: Timestamp },
    #[error("this key is not enrolled for `{0}`; run `onus enroll` with a new code")]
    KeyNotEnrolled(SubjectId),
    #[error("there is no live session `{0}`; `onus session list` shows those that there are")]
    UnknownSession(SessionId),
    #[error("nothing waits under `{0}`; `onus pending` shows what does")]
    UnknownHold(HoldId),
    #[error("hold `{0}` is over; the operation must be sent again")]
    HoldOver(HoldId),
    #[error("nobody confirms their own operation; it needs one of: {by}")]
    SelfConfirmation { by: String },
    #[error(
        "`{asker}` gave out the code with which `{answerer}` enrolled, so `{answerer}` cannot answer for `{asker}`; somebody else must, or `{answerer}` enrols anew on another's invitation"
    )]
    NotIndependent { answerer: SubjectId, asker: SubjectId },
    #[error("`{subject}` may not answer hold `{hold}`; it needs one of: {by}")]
    NotAConfirmer { subject: SubjectId, hold: HoldId, by: String },
    #[error("nobody watches their own session{}", .by)]
    SelfWatch { by: String },
    #[error("`{subject}` may not watch session `{session}`; who may see it may, and one of: {by}")]
    NotAWatcher { subject: SubjectId, session: SessionId, by: String },
    #[error("`{subject}` may not {what}; {who} may")]
    NotAllowed { subject: String, what: &'static str, who: String },
    #[error("the estate has problems and was not applied: {}", .0.join("; "))]
    EstateProblems(Vec<String>),
    #[error("`{0}` still has {1} live sessions or grants; revoke or kill them first")]
    StillInUse(String, usize),
    #[error("there is no party `{0}`")]
    UnknownParty(PartyId),
    #[error("say why: the reason is what the record will show")]
    ReasonMissing,
    #[error("nothing would change")]
    NothingToDo,
}

fn known<T: std::fmt::Display>(names: &[T]) -> String {
    if names.is_empty() {
        return "; none is offered there".to_owned();
    }
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("; there is {}", names.join(", "))
}
