//! The issuance and lifecycle planes: who is trusted, on what key, and for how long.

use crate::estate::Plane;
use crate::event::{Actor, Event};
use crate::ids::SubjectId;
use crate::refusal::Refusal;
use crate::state::State;

/// Binds a key. The proof (enrolment code, self-signed request) was checked by whoever gives this command.
pub(crate) fn enroll_key(state: &State, subject: SubjectId, key: String) -> Result<Vec<Event>, Refusal> {
    standing(state, &subject)?;
    if state.standing.get(&subject).is_some_and(|standing| standing.keys.contains(&key)) {
        return Err(Refusal::NothingToDo);
    }
    Ok(vec![Event::KeyEnrolled { subject, key }])
}

/// Refuses a subject that is not declared or not in good standing.
pub(crate) fn standing(state: &State, subject: &SubjectId) -> Result<(), Refusal> {
    if !state.estate.subjects.contains_key(subject) {
        return Err(Refusal::UnknownSubject(subject.clone()));
    }
    match state.standing.get(subject).and_then(|standing| standing.disabled.clone()) {
        Some(reason) => Err(Refusal::SubjectDisabled { subject: subject.clone(), reason }),
        None => Ok(()),
    }
}

/// Stops a subject. Its sessions end by being judged again.
pub(crate) fn disable(state: &State, subject: SubjectId, reason: String, by: &Actor) -> Result<Vec<Event>, Refusal> {
    may_govern(state, by, &[Plane::Lifecycle, Plane::Response], "disable a subject")?;
    standing(state, &subject)?;
    if reason.trim().is_empty() {
        return Err(Refusal::ReasonMissing);
    }
    Ok(vec![Event::SubjectDisabled { subject, reason }])
}

/// Lets a disabled subject act again; not by itself.
pub(crate) fn enable(state: &State, subject: SubjectId, reason: String, by: &Actor) -> Result<Vec<Event>, Refusal> {
    may_govern(state, by, &[Plane::Lifecycle], "enable a subject")?;
    if !state.estate.subjects.contains_key(&subject) {
        return Err(Refusal::UnknownSubject(subject));
    }
    if reason.trim().is_empty() {
        return Err(Refusal::ReasonMissing);
    }
    if state.in_good_standing(&subject) {
        return Err(Refusal::NothingToDo);
    }
    Ok(vec![Event::SubjectEnabled { subject, reason }])
}

/// Whether `by` acts for one of the planes, or is an administrator.
pub(crate) fn may_govern(state: &State, by: &Actor, planes: &[Plane], what: &'static str) -> Result<(), Refusal> {
    let allowed = match by {
        Actor::Subject(id) => {
            state.in_good_standing(id)
                && (state.estate.subjects.get(id).is_some_and(|subject| subject.administrator)
                    || state
                        .party_of(id)
                        .is_some_and(|party| planes.iter().any(|plane| state.estate.acts_for(party, *plane))))
        }
        Actor::Gateway(_) | Actor::Operator => false,
    };
    if allowed {
        return Ok(());
    }
    let names: Vec<_> = planes.iter().map(|plane| format!("the {plane} plane's owner")).collect();
    Err(Refusal::NotAllowed { subject: by.to_string(), what, who: format!("{} or an administrator", names.join(", ")) })
}
