//! Answers that are not what was asked for: one JSON shape, one table from refusals to status codes.
//!
//! ```json
//! {"error": "there is no resource `x`; `onus resource list` shows what there is", "next": "…", "problems": ["…"]}
//! ```

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use onus_core::refusal::Refusal;
use onus_gateway::ControlError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// What is wrong, for people.
    pub error: String,
    /// What to do, where `error` does not say so itself.
    pub next: Option<String>,
    /// Several things at once, where there are.
    pub problems: Vec<String>,
}

impl Problem {
    /// A problem of this status.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), next: None, problems: Vec::new() }
    }

    /// Says what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// 401: the caller has not proven who they are.
    pub fn unproven(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, error).next("run `onus login`")
    }

    /// 403: the caller may not.
    pub fn forbidden(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error)
    }

    /// 404.
    pub fn missing(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// 422 with several problems.
    pub fn several(error: impl Into<String>, problems: Vec<String>) -> Self {
        Self { problems, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, error) }
    }

    /// 503; the fault's text goes to the log and not to the caller.
    pub fn unavailable(what: &'static str, fault: &dyn std::error::Error) -> Self {
        tracing::error!(%fault, source = ?fault.source().map(ToString::to_string), "{what}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, what).next("try again, or look at the gateway's log")
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        use Refusal as R;
        let status = match refusal {
            R::UnknownSubject(_)
            | R::UnknownResource(_)
            | R::UnknownRole { .. }
            | R::UnknownRequest(_)
            | R::UnknownGrant(_)
            | R::UnknownSession(_)
            | R::UnknownHold(_)
            | R::UnknownParty(_) => StatusCode::NOT_FOUND,
            R::SubjectDisabled { .. }
            | R::SelfApproval { .. }
            | R::NotAnApprover { .. }
            | R::SelfConfirmation { .. }
            | R::SelfWatch { .. }
            | R::NotAWatcher { .. }
            | R::NotIndependent { .. }
            | R::NotAConfirmer { .. }
            | R::NotAllowed { .. }
            | R::NoGrant { .. }
            | R::KeyNotEnrolled(_) => StatusCode::FORBIDDEN,
            R::ApprovedTwice(_)
            | R::GrantEnded { .. }
            | R::GrantNotChosen { .. }
            | R::HoldOver(_)
            | R::StillInUse(..)
            | R::NoPolicy
            | R::NothingToDo => StatusCode::CONFLICT,
            R::RoleNotOffered { .. }
            | R::PurposeMissing(_)
            | R::DurationMissing
            | R::TooLong { .. }
            | R::ScopeTooWide(_)
            | R::OwnersMissing { .. }
            | R::DatabaseOutOfScope { .. }
            | R::EstateProblems(_)
            | R::ReasonMissing => StatusCode::UNPROCESSABLE_ENTITY,
        };
        match refusal {
            R::EstateProblems(problems) => {
                Self { problems: problems.clone(), ..Self::new(status, "the estate has problems and was not applied") }
            }
            R::OwnersMissing { gaps } => {
                Self { problems: gaps.clone(), ..Self::new(status, "no grant without an owner on every plane") }
            }
            other => Self::new(status, other.to_string()),
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        match &error {
            ControlError::Refused(refusal) => refusal.into(),
            ControlError::Codec(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
            ControlError::Unavailable(_) | ControlError::Stopped => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
        }
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    problems: &'a [String],
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let shown = Shown { error: &self.error, next: self.next.as_deref(), problems: &self.problems };
        (self.status, Json(shown)).into_response()
    }
}

/// A JSON body; what does not fit is a [`Problem`] like all others.
pub(crate) struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            // The parser quotes what it read, and what it read may be a password.
            Err(JsonRejection::JsonDataError(_) | JsonRejection::JsonSyntaxError(_)) => {
                Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the request's JSON is not what this route takes"))
            }
            Err(other) => Err(Problem::new(other.status(), other.body_text())),
        }
    }
}

/// Reads an id out of a path or body.
pub(crate) fn id<T: std::str::FromStr>(text: &str) -> Result<T, Problem>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_keep_their_words_and_get_their_status() {
        let of = |refusal: Refusal| Problem::from(&refusal);
        assert_eq!(of(Refusal::SelfApproval { approvers: "`bob`".into() }).status, StatusCode::FORBIDDEN);
        assert_eq!(of(Refusal::UnknownGrant("G-1".parse().unwrap())).status, StatusCode::NOT_FOUND);
        assert_eq!(of(Refusal::NothingToDo).status, StatusCode::CONFLICT);
        let estate = of(Refusal::EstateProblems(vec!["a".into(), "b".into()]));
        assert_eq!((estate.status, estate.problems.len()), (StatusCode::UNPROCESSABLE_ENTITY, 2));
    }
}
