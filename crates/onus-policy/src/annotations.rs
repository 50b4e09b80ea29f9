//! What every policy must say about itself, beside what it permits or forbids.
//!
//! ```text
//! @id("writes-without-where")   unique in the set                                     required
//! @owner("petra")               an active party: who answers for it                   required
//! @plane("elevation")           one of PLANES                                         required
//! @why("…")                     for the person who is refused                         required
//! @controls("S1-05, AC-3")      the frameworks' controls that it implements           optional
//! @role("reader")               on a template, and only there: whose template it is   required on a template
//! @unlocks("opaque, code")      on a template: words in `context.unlocks`             optional
//! @effect("hold")               on a forbid: deny, hold or terminate                  optional, deny
//! @confirm("bob, data-team")    on a hold: parties or teams, one of whom confirms     required on a hold
//! @within("5m")                 on a hold: how long it waits                          required on a hold
//! ```

use onus_core::decision::{Confirmation, Effect};
use onus_core::ids::{PartyId, PolicyId, RoleId};
use onus_core::time::Millis;
use std::collections::{BTreeMap, BTreeSet};

/// The words for the control planes.
pub const PLANES: [&str; 8] =
    ["lifecycle", "issuance", "elevation", "runtime", "response", "supplier", "service", "change"];

/// The longest a held operation may wait: a day.
const LONGEST_HOLD: Millis = Millis(86_400_000);

/// The longest `@why`, in characters: it must fit a protocol's error message.
const LONGEST_WHY: usize = 400;

/// Every annotation there is. When adding one, read it in [`Policy::read`] and describe it in `docs/policy.md`.
const ANNOTATIONS: [&str; 10] =
    ["id", "owner", "plane", "why", "controls", "role", "unlocks", "effect", "confirm", "within"];

/// Who there is to own policies and to confirm holds, by name. The caller passes those that are active.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownParties {
    /// Active parties.
    pub parties: BTreeSet<String>,
    /// Teams with at least one active member.
    pub teams: BTreeSet<String>,
}

/// What a policy does when it applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyEffect {
    /// Lets the operation go on, unless something forbids it.
    Permit,
    /// Refuses it.
    Deny,
    /// Lets it wait for a confirmation, if it is permitted otherwise.
    Hold(Confirmation),
    /// Refuses it and ends the session.
    Terminate,
}

impl PolicyEffect {
    /// The effect as decisions know it.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Permit => Effect::Permit,
            Self::Deny => Effect::Deny,
            Self::Hold(_) => Effect::Hold,
            Self::Terminate => Effect::Terminate,
        }
    }
}

/// A policy of a set that loaded: what it says about itself, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its `@id`.
    pub id: PolicyId,
    /// Its `@owner`.
    pub owner: PartyId,
    /// Its `@plane`, one of [`PLANES`].
    pub plane: String,
    /// Its `@why`.
    pub why: String,
    /// Its `@controls`.
    pub controls: Vec<String>,
    /// Its effect; for a forbid, what `@effect` says.
    pub effect: PolicyEffect,
    /// The role whose template it is; `None` for a static policy, which applies to every session.
    pub role: Option<RoleId>,
    /// Its `@unlocks`.
    pub unlocks: BTreeSet<String>,
    /// The file that it stands in.
    pub file: String,
    /// The line on which it begins, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
}

/// What is wrong with one policy's annotations, and what to do.
pub(crate) type Complaint = (String, String);

/// What Cedar's parser says about a statement.
pub(crate) struct Parsed<'a> {
    pub annotations: BTreeMap<String, String>,
    pub template: bool,
    pub forbid: bool,
    pub file: &'a str,
    pub line: usize,
    pub text: &'a str,
}

impl Policy {
    /// Reads the annotations; gives all complaints at once.
    pub(crate) fn read(parsed: &Parsed<'_>, known: &KnownParties) -> Result<Self, Vec<Complaint>> {
        let mut complaints = Vec::new();
        let mut complain = |what: String, to_do: &str| complaints.push((what, to_do.to_owned()));
        let word = |name: &str| parsed.annotations.get(name).map(|value| value.trim());

        for name in parsed.annotations.keys().filter(|name| !ANNOTATIONS.contains(&name.as_str())) {
            // A misspelt `@effect` must not quietly turn a hold into a denial, or the other way round.
            complain(format!("the annotation `@{name}` is unknown"), &format!("use one of {}", ANNOTATIONS.join(", ")));
        }
        let mut require = |name: &str, to_do: &str| match word(name) {
            Some(value) if !value.is_empty() => Some(value.to_owned()),
            _ => {
                complain(format!("it has no `@{name}`"), to_do);
                None
            }
        };
        let id = require("id", "add @id(\"…\"), a name that no other policy has");
        let owner = require("owner", "add @owner(\"…\"), the party who answers for it");
        let plane = require("plane", &format!("add @plane(\"…\"), one of {}", PLANES.join(", ")));
        let why = require("why", "add @why(\"…\"), in words for the person who is refused");

        let id = id.and_then(|text| match PolicyId::parse(&text) {
            Ok(id) => Some(id),
            Err(e) => {
                complain(format!("its `@id` is no id: {e}"), "choose another name");
                None
            }
        });
        let owner = owner.and_then(|text| match PartyId::parse(&text) {
            Ok(owner) if known.parties.contains(&text) => Some(owner),
            _ => {
                complain(format!("its owner `{text}` is not an active party"), "name a party that is active");
                None
            }
        });
        if let Some(plane) = plane.as_deref().filter(|plane| !PLANES.contains(plane)) {
            complain(format!("its plane `{plane}` is unknown"), &format!("use one of {}", PLANES.join(", ")));
        }
        // `@why` is shown in people's terminals.
        if let Some(why) = why.as_deref()
            && (why.chars().any(char::is_control) || why.chars().count() > LONGEST_WHY)
        {
            complain(
                "its `@why` holds control characters or is too long".to_owned(),
                &format!("write at most {LONGEST_WHY} characters on one line"),
            );
        }

        let role = match (word("role"), parsed.template) {
            (Some(text), true) => match RoleId::parse(text) {
                Ok(role) => Some(role),
                Err(e) => {
                    complain(format!("its `@role` is no role's name: {e}"), "choose another name");
                    None
                }
            },
            (None, true) => {
                complain("it has slots but no `@role`".to_owned(), "add @role(\"…\"), or write it without slots");
                None
            }
            // Without a slot it would apply to everybody's session, whatever role was granted.
            (Some(_), false) => {
                complain(
                    "it has a `@role` but no slot, so it would apply to every session".to_owned(),
                    "write `principal == ?principal` and `resource == ?resource`, or remove @role",
                );
                None
            }
            (None, false) => None,
        };
        let unlocks = match word("unlocks") {
            Some(_) if !parsed.template => {
                complain("`@unlocks` stands on a policy that is no template".to_owned(), "put it on a role's template");
                BTreeSet::new()
            }
            Some(text) => list(text, "unlocks", &mut complain),
            None => BTreeSet::new(),
        };
        let controls = word("controls")
            .map(|text| list(text, "controls", &mut complain))
            .unwrap_or_default()
            .into_iter()
            .collect();
        let effect = effect(parsed, known, &mut complain);

        match (id, owner, plane, why, effect) {
            (Some(id), Some(owner), Some(plane), Some(why), Some(effect)) if complaints.is_empty() => Ok(Self {
                id,
                owner,
                plane,
                why,
                controls,
                effect,
                role,
                unlocks,
                file: parsed.file.to_owned(),
                line: parsed.line,
                text: parsed.text.to_owned(),
            }),
            _ => Err(complaints),
        }
    }
}

fn list(text: &str, name: &str, complain: &mut impl FnMut(String, &str)) -> BTreeSet<String> {
    let words: BTreeSet<String> = text.split(',').map(|word| word.trim().to_owned()).collect();
    if words.iter().any(String::is_empty) {
        complain(format!("its `@{name}` has an empty entry"), "separate the entries by single commas");
    }
    words
}

fn effect(parsed: &Parsed<'_>, known: &KnownParties, complain: &mut impl FnMut(String, &str)) -> Option<PolicyEffect> {
    let has = |name: &str| parsed.annotations.contains_key(name);
    let word = parsed.annotations.get("effect").map(|word| word.trim());
    if !parsed.forbid {
        for name in ["effect", "confirm", "within"].into_iter().filter(|name| has(name)) {
            complain(format!("`@{name}` stands on a permit"), "only a forbid says what refusal means; remove it");
        }
        return Some(PolicyEffect::Permit);
    }
    if word != Some("hold") {
        for name in ["confirm", "within"].into_iter().filter(|name| has(name)) {
            complain(format!("`@{name}` stands on a forbid that does not hold"), "add @effect(\"hold\"), or remove it");
        }
    }
    match word {
        None | Some("deny") => Some(PolicyEffect::Deny),
        Some("terminate") => Some(PolicyEffect::Terminate),
        Some("hold") => {
            let by = parsed.annotations.get("confirm").map(|text| list(text, "confirm", complain)).unwrap_or_default();
            if by.is_empty() {
                complain("it holds, but has no `@confirm`".to_owned(), "add @confirm(\"…\"), parties or teams");
            }
            for name in by.iter().filter(|name| !known.parties.contains(*name) && !known.teams.contains(*name)) {
                complain(
                    format!("`{name}`, who is to confirm, is neither an active party nor a team"),
                    "name an active party or a team",
                );
            }
            let within = match parsed.annotations.get("within").map(|text| Millis::parse(text.trim())) {
                Some(Ok(within)) if within.0 > 0 && within <= LONGEST_HOLD => Some(within),
                Some(_) => {
                    complain(
                        "its `@within` is no length of time up to 24h".to_owned(),
                        "write it like @within(\"5m\")",
                    );
                    None
                }
                None => {
                    complain("it holds, but has no `@within`".to_owned(), "add @within(\"5m\")");
                    None
                }
            };
            within.map(|within| PolicyEffect::Hold(Confirmation { by, within }))
        }
        Some(other) => {
            complain(format!("its effect `{other}` is unknown"), "use deny, hold or terminate");
            None
        }
    }
}
