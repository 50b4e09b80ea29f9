//! Findings: who is accountable for what happened in a session, by which rule, and on what evidence.
//!
//! Input is the ledger's entries and what the session's journal recorded; nothing else. Ownership is taken as it was
//! at the moment in question: a later change of ownership never changes the answer about the past. A rule that lacks
//! a premise says *incomplete* and names the gap; it does not guess.

use crate::decision::Effect;
use crate::estate::Plane;
use crate::event::{Approval, EndReason, Entry, Event, Grant, KillTarget, KillTimes, Session};
use crate::ids::{PartyId, PolicyId, SessionId, SubjectId};
use crate::state::State;
use crate::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A party's part, as in a RACI chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Owns the control that allowed it or should have stopped it.
    Accountable,
    /// Acted.
    Responsible,
    /// Approved, sponsored or confirmed.
    Consulted,
    /// Is to know.
    Informed,
}

impl Part {
    /// The word used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accountable => "accountable",
            Self::Responsible => "responsible",
            Self::Consulted => "consulted",
            Self::Informed => "informed",
        }
    }
}

/// One answer of the resolver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule that concluded it: `permitted-abuse`.
    pub rule: String,
    /// The plane that it is about.
    pub plane: Plane,
    /// The party's part.
    pub part: Part,
    /// Who: a party, or for *responsible* the subject that acted. `None` where the answer is incomplete.
    pub who: Option<String>,
    /// Why, in words.
    pub because: String,
    /// Ledger positions that prove it.
    pub evidence: Vec<u64>,
    /// What is missing and whose gap that is; `None` when the answer is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
}

/// What the session's journal says, as far as the rules need it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    /// How often each policy determined each effect.
    pub determined: BTreeMap<(Effect, PolicyId), u64>,
    /// Operations by effect.
    pub operations: BTreeMap<Effect, u64>,
    /// Confirmed holds: the subjects who confirmed.
    pub confirmed_by: BTreeSet<String>,
}

/// A session's case: everything the rules may look at.
#[derive(Debug)]
pub struct Case {
    /// The session and the entry that opened it.
    pub session: (u64, Session),
    /// The grant and the entry that issued it.
    pub grant: Option<(u64, Grant)>,
    /// The approvals and their entries.
    pub approvals: Vec<(u64, Approval)>,
    /// The state when the session opened.
    pub at_opening: State,
    /// The state when it ended, or at the end of the ledger while it lives.
    pub at_end: State,
    /// How and when it ended.
    pub closed: Option<(u64, Timestamp, EndReason)>,
    /// Kills that were aimed at it.
    pub kills: Vec<(u64, Timestamp, String)>,
    /// Who watched it as it went, and the entries that say so.
    pub watched: Vec<(u64, SubjectId)>,
    /// How the kill went.
    pub kill_times: Option<(u64, KillTimes)>,
    /// What was used.
    pub used: Used,
}

impl Case {
    /// Builds a session's case by folding the ledger; `None` if it never opened.
    pub fn of(session: &SessionId, entries: &[Entry], used: Used) -> Option<Self> {
        let mut state = State::default();
        let mut grants: BTreeMap<_, (u64, Grant)> = BTreeMap::new();
        let mut approvals: BTreeMap<_, Vec<(u64, Approval)>> = BTreeMap::new();
        let mut case: Option<Self> = None;
        for (position, entry) in (0u64..).zip(entries) {
            state.apply(entry);
            match &entry.event {
                Event::RequestApproved { request, approval } => {
                    approvals.entry(request.clone()).or_default().push((position, approval.clone()));
                }
                Event::GrantIssued { grant } => {
                    grants.insert(grant.id.clone(), (position, grant.clone()));
                }
                Event::SessionOpened { session: opened } if opened.id == *session => {
                    let grant = grants.get(&opened.grant).cloned();
                    let approvals =
                        grant.as_ref().and_then(|(_, g)| approvals.get(&g.request)).cloned().unwrap_or_default();
                    case = Some(Self {
                        session: (position, opened.clone()),
                        grant,
                        approvals,
                        at_opening: state.clone(),
                        at_end: State::default(),
                        closed: None,
                        kills: Vec::new(),
                        watched: Vec::new(),
                        kill_times: None,
                        used: used.clone(),
                    });
                }
                Event::SessionClosed { session: closed, reason, .. } if closed == session => {
                    if let Some(case) = &mut case {
                        case.closed = Some((position, entry.at, reason.clone()));
                        case.at_end = state.clone();
                    }
                }
                Event::KillOrdered { target, reason, .. } => {
                    if let Some(case) = case.as_mut().filter(|case| case.closed.is_none()) {
                        let opened = &case.session.1;
                        let aimed = match target {
                            KillTarget::Session(id) => opened.id == *id,
                            KillTarget::Subject(id) => opened.subject == *id,
                            KillTarget::Resource(id) => opened.resource == *id,
                        };
                        if aimed {
                            case.kills.push((position, entry.at, format!("{}: {reason}", entry.by)));
                        }
                    }
                }
                Event::WatchBegan { session: watched, subject, .. } if watched == session => {
                    if let Some(case) = &mut case {
                        case.watched.push((position, subject.clone()));
                    }
                }
                Event::KillCompleted { session: killed, times, .. } if killed == session => {
                    if let Some(case) = &mut case {
                        case.kill_times = Some((position, times.clone()));
                    }
                }
                _ => {}
            }
        }
        if let Some(case) = case.as_mut().filter(|case| case.closed.is_none()) {
            case.at_end = state;
        }
        case
    }
}

/// A rule: the situation that it answers, and the function that does.
pub struct Rule {
    /// Its id, as findings cite it.
    pub id: &'static str,
    /// The situation, in words.
    pub situation: &'static str,
    /// Brief ids behind it.
    pub brief: &'static [&'static str],
    conclude: fn(&Case, &'static str) -> Vec<Finding>,
}

/// Every rule. When adding one: one function, one line here, its line in `docs/accountability.md`, and its cells in
/// the golden matrix.
pub const RULES: &[Rule] = &[
    Rule {
        id: "permitted-abuse",
        situation: "an operation that policy permitted within the grant's scope",
        brief: &["S0-05", "S1-01", "S1-03", "S1-14"],
        conclude: permitted_abuse,
    },
    Rule {
        id: "missing-owner",
        situation: "a session that ended, or lives, while a plane has no active owner",
        brief: &["S0-13", "S2-01", "S2-07"],
        conclude: missing_owner,
    },
    Rule {
        id: "slow-kill",
        situation: "the time from the order to end a session to its end",
        brief: &["S2-14", "S4-09", "S4-13"],
        conclude: kill_time,
    },
];

/// A kill that takes longer than this is the response owner's to explain.
pub const KILL_BUDGET: Millis = Millis(1000);

/// All findings of all rules, in the order of [`RULES`].
pub fn findings(case: &Case) -> Vec<Finding> {
    RULES.iter().flat_map(|rule| (rule.conclude)(case, rule.id)).collect()
}

fn permitted_abuse(case: &Case, rule: &'static str) -> Vec<Finding> {
    let (opened_at, session) = &case.session;
    let permitted = case.used.operations.get(&Effect::Permit).copied().unwrap_or(0);
    let confirmed = case.used.operations.get(&Effect::Hold).copied().unwrap_or(0);
    if permitted == 0 && confirmed == 0 {
        return Vec::new();
    }
    let mut found = vec![Finding {
        rule: rule.into(),
        plane: Plane::Runtime,
        part: Part::Responsible,
        who: Some(session.subject.to_string()),
        because: format!("acted: {permitted} operations permitted and {confirmed} held, under role `{}`", session.role),
        evidence: vec![*opened_at],
        incomplete: None,
    }];
    if let Some(owner) = session.accountable.of(Plane::Elevation) {
        found.push(Finding {
            rule: rule.into(),
            plane: Plane::Elevation,
            part: Part::Accountable,
            who: Some(owner.party.to_string()),
            because: format!("{}: it defined what the role may do", owner.because),
            evidence: vec![*opened_at],
            incomplete: None,
        });
    }
    let owners = case.at_opening.policy.as_ref().map(|policy| policy.owners.clone()).unwrap_or_default();
    for ((effect, policy), times) in &case.used.determined {
        if *effect != Effect::Permit {
            continue;
        }
        let owner: Option<&PartyId> = owners.get(policy);
        found.push(Finding {
            rule: rule.into(),
            plane: Plane::Elevation,
            part: Part::Accountable,
            who: owner.map(ToString::to_string),
            because: format!("owner of policy `{policy}`, which permitted {times} operations"),
            evidence: vec![*opened_at],
            incomplete: owner.is_none().then(|| {
                format!("policy `{policy}` is not in the set that was in force when the session opened; see its journal for the set")
            }),
        });
    }
    for (position, approval) in &case.approvals {
        found.push(Finding {
            rule: rule.into(),
            plane: Plane::Elevation,
            part: Part::Accountable,
            who: Some(approval.party.to_string()),
            because: match &case.grant {
                Some((_, grant)) => format!("approved grant `{}` for: {}", grant.id, grant.purpose),
                None => "approved the grant".to_owned(),
            },
            evidence: case.grant.iter().map(|(issued, _)| *issued).chain([*position]).collect(),
            incomplete: None,
        });
    }
    for subject in &case.used.confirmed_by {
        found.push(Finding {
            rule: rule.into(),
            plane: Plane::Runtime,
            part: Part::Consulted,
            who: Some(subject.clone()),
            because: "confirmed a held operation".to_owned(),
            evidence: vec![*opened_at],
            incomplete: None,
        });
    }
    for (position, subject) in &case.watched {
        found.push(Finding {
            rule: rule.into(),
            plane: Plane::Runtime,
            part: Part::Consulted,
            who: Some(subject.to_string()),
            because: "watched the session as it went".to_owned(),
            evidence: vec![*position],
            incomplete: None,
        });
    }
    if let Some(owner) = session.accountable.of(Plane::Service) {
        found.push(Finding {
            rule: rule.into(),
            plane: Plane::Service,
            part: Part::Informed,
            who: Some(owner.party.to_string()),
            because: owner.because.clone(),
            evidence: vec![*opened_at],
            incomplete: None,
        });
    }
    found
}

fn missing_owner(case: &Case, rule: &'static str) -> Vec<Finding> {
    let session = &case.session.1;
    let Err(gaps) = super::resolve(&case.at_end, &session.subject, &session.resource, &session.role) else {
        return Vec::new();
    };
    let ended_for_it = matches!(&case.closed, Some((_, _, EndReason::OwnerMissing { .. })));
    gaps.into_iter()
        .map(|gap| {
            let closer = case.at_end.estate.planes.get(&gap.plane).map(|owner| &owner.accountable);
            let closer = closer.filter(|party| case.at_end.estate.is_active(party));
            Finding {
                rule: rule.into(),
                plane: gap.plane,
                part: Part::Accountable,
                who: closer.map(ToString::to_string),
                because: if ended_for_it {
                    format!("the session ended because {}", gap.missing)
                } else {
                    gap.missing.clone()
                },
                evidence: case.closed.iter().map(|(position, ..)| *position).chain([case.session.0]).collect(),
                incomplete: Some(format!("{}; {}", gap.missing, gap.fix)),
            }
        })
        .collect()
}

fn kill_time(case: &Case, rule: &'static str) -> Vec<Finding> {
    let Some((ordered_at, ordered, order)) = case.kills.first() else {
        return Vec::new();
    };
    let response = case.session.1.accountable.of(Plane::Response);
    let who = response.map(|owner| owner.party.to_string());
    let mut evidence = vec![*ordered_at];
    let (took, incomplete) = match (&case.kill_times, &case.closed) {
        (Some((position, times)), _) => {
            evidence.push(*position);
            let steps = [
                ("statement cancelled", times.cancelled_us),
                ("client closed", times.client_closed_us),
                ("upstream closed", times.upstream_closed_us),
                ("credential gone", times.credential_revoked_us),
            ];
            let missing: Vec<_> = steps[1..].iter().filter(|(_, us)| us.is_none()).map(|(what, _)| *what).collect();
            let slowest = steps.iter().filter_map(|(_, us)| *us).max().unwrap_or(0);
            let words: Vec<_> = steps
                .iter()
                .filter_map(|(what, us)| us.map(|us| format!("{what} after {}.{} ms", us / 1000, us % 1000 / 100)))
                .collect();
            let gap = (!missing.is_empty()).then(|| format!("not known to have happened: {}", missing.join(", ")));
            (Some((Millis(slowest.div_ceil(1000)), words.join(", "))), gap)
        }
        (None, Some((position, closed, _))) => {
            evidence.push(*position);
            let took = closed.since(*ordered);
            (Some((took, format!("session closed after {took}"))), Some("the steps were not measured".to_owned()))
        }
        (None, None) => (None, Some("the session has not ended yet".to_owned())),
    };
    let (part, because) = match &took {
        Some((took, words)) if *took <= KILL_BUDGET && incomplete.is_none() => {
            (Part::Informed, format!("ended in time on the order of {order}: {words}"))
        }
        Some((_, words)) => (
            Part::Accountable,
            format!("slow or unproven end on the order of {order}: {words}; the budget is {KILL_BUDGET}"),
        ),
        None => (Part::Accountable, format!("ordered by {order}, and not over")),
    };
    vec![Finding { rule: rule.into(), plane: Plane::Response, part, who, because, evidence, incomplete }]
}
