//! The estate: who exists, who owns what, and what can be reached, as declared in code.
//!
//! Plain data with one rule of its own: every reference must resolve ([`Estate::problems`]). Reading YAML and
//! pointing at lines is the command line's affair; deciding who may change the estate is `change`'s.

use crate::ids::{PartyId, ResourceId, RoleId, ServiceId, SubjectId, TeamId};
use crate::path;
use crate::time::Millis;
use crate::view::{Scope, SubjectKind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A part of control that must have an owner of its own (brief S2-02: by control plane, not by incident headline).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plane {
    /// Does this identity exist, and for how long.
    Lifecycle,
    /// Who is trusted, on what proof.
    Issuance,
    /// Privilege, approval, limits.
    Elevation,
    /// Watching use and drift.
    Runtime,
    /// Revoke, rotate, recover.
    Response,
    /// Vetting, scope and offboarding of outsiders.
    Supplier,
    /// Business need and safe failure.
    Service,
    /// Roll-outs.
    Change,
}

impl Plane {
    /// Every plane, in the order in which findings are printed.
    pub const ALL: [Self; 8] = [
        Self::Lifecycle,
        Self::Issuance,
        Self::Elevation,
        Self::Runtime,
        Self::Response,
        Self::Supplier,
        Self::Service,
        Self::Change,
    ];

    /// The word used in estates, policies and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Issuance => "issuance",
            Self::Elevation => "elevation",
            Self::Runtime => "runtime",
            Self::Response => "response",
            Self::Supplier => "supplier",
            Self::Service => "service",
            Self::Change => "change",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plane| plane.as_str() == word)
    }
}

impl fmt::Display for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Somebody who can be accountable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// The name as people know it.
    pub name: String,
    /// Where they are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// Whether they still answer for anything. A party who left is set inactive, never removed from history.
    #[serde(default = "yes")]
    pub active: bool,
}

/// A team of parties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Team {
    /// Who leads it.
    pub lead: PartyId,
    /// Who is in it; the lead need not be listed.
    #[serde(default)]
    pub members: BTreeSet<PartyId>,
}

/// Who owns a control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaneOwner {
    /// The one accountable party.
    pub accountable: PartyId,
    /// Parties who may act for the plane (kill, confirm) besides.
    #[serde(default)]
    pub responsible: BTreeSet<PartyId>,
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Human, workload or agent.
    pub kind: SubjectKind,
    /// Who answers for the existence of this identity. For a human usually a lead, for an NHI its sponsor.
    pub owner: PartyId,
    /// The party that this subject *is*, for a human who can also be accountable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub party: Option<PartyId>,
    /// May change the estate and the policy. Never a way around approval (invariant 6).
    #[serde(default)]
    pub administrator: bool,
}

/// A business service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Who answers for the business need.
    pub owner: PartyId,
    /// Services that stop working when this one does.
    #[serde(default)]
    pub dependents: BTreeSet<ServiceId>,
    /// What happens, and is acceptable, when access is cut (brief S2-06).
    pub safe_failure: String,
}

/// What is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// The service that it belongs to.
    pub service: ServiceId,
    /// Who owns it, where that is not the service's owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<PartyId>,
    /// The protocol spoken, one of the catalogue's: `postgresql`.
    pub protocol: String,
    /// Labels that policies may ask about.
    #[serde(default)]
    pub labels: BTreeSet<String>,
    /// Protocol-specific settings; the protocol's catalogue line reads them and refuses unknown ones.
    #[serde(default)]
    pub settings: BTreeMap<String, Vec<String>>,
}

/// A named privilege.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Who owns the privilege boundary.
    pub owner: PartyId,
    /// Why it exists.
    pub why: String,
    /// Resources that it may be asked for.
    pub resources: BTreeSet<ResourceId>,
    /// The most that a grant of it may reach.
    #[serde(default)]
    pub scope: Scope,
    /// The longest time that it may be granted for.
    pub max_for: Millis,
    /// Parties or teams who may approve a request for it.
    pub approvers: BTreeSet<String>,
    /// How many of them must, each another person.
    #[serde(default = "one")]
    pub approvals: u8,
    /// Roles on the resource that a session's own credential is made a member of.
    #[serde(default)]
    pub member_of: BTreeSet<String>,
    /// The account on the host that a session acts as, where the protocol has accounts (SSH). Without it the
    /// resource's own setting counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// What a terminal gets.
    #[serde(default, skip_serializing_if = "Terminal::is_governed")]
    pub shell: Terminal,
    /// Parties or teams, one of whom must watch each session under this role: without one it is frozen. Never the
    /// session's own person.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub watchers: BTreeSet<String>,
}

/// What a terminal gets in a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Terminal {
    /// The gateway's own line editor: each line is parsed, decided and run by itself. Tier *mediated*.
    #[default]
    Governed,
    /// The host's shell, as it is. Tier *observed*: what is typed is recorded and can't be prevented.
    Raw,
}

impl Terminal {
    /// The word used in estates and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Governed => "governed",
            Self::Raw => "raw",
        }
    }

    fn is_governed(&self) -> bool {
        *self == Self::Governed
    }
}

/// The longest name of an account, in bytes: what `useradd` takes.
const MAX_LOGIN_BYTES: usize = 32;

/// Whether the text can be the name of an account on a host: no option, no path, nothing that a shell would read.
fn is_login(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_LOGIN_BYTES
        && !text.starts_with(['-', '.'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn yes() -> bool {
    true
}
fn one() -> u8 {
    1
}

/// One declared thing, with its name: the unit in which the estate changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[allow(clippy::large_enum_variant, reason = "made one at a time when an estate changes, and never kept in numbers")]
pub enum Declared {
    /// A party.
    Party {
        /// Its name.
        id: PartyId,
        /// What is declared of it.
        is: Party,
    },
    /// A team.
    Team {
        /// Its name.
        id: TeamId,
        /// What is declared of it.
        is: Team,
    },
    /// A plane's owner.
    Plane {
        /// The plane.
        id: Plane,
        /// Who owns it.
        is: PlaneOwner,
    },
    /// A subject.
    Subject {
        /// Its name.
        id: SubjectId,
        /// What is declared of it.
        is: Subject,
    },
    /// A service.
    Service {
        /// Its name.
        id: ServiceId,
        /// What is declared of it.
        is: Service,
    },
    /// A resource.
    Resource {
        /// Its name.
        id: ResourceId,
        /// What is declared of it.
        is: Resource,
    },
    /// A role.
    Role {
        /// Its name.
        id: RoleId,
        /// What is declared of it.
        is: Role,
    },
}

impl Declared {
    /// Kind and name: `role reader`.
    pub fn key(&self) -> (&'static str, String) {
        match self {
            Self::Party { id, .. } => ("party", id.to_string()),
            Self::Team { id, .. } => ("team", id.to_string()),
            Self::Plane { id, .. } => ("plane", id.to_string()),
            Self::Subject { id, .. } => ("subject", id.to_string()),
            Self::Service { id, .. } => ("service", id.to_string()),
            Self::Resource { id, .. } => ("resource", id.to_string()),
            Self::Role { id, .. } => ("role", id.to_string()),
        }
    }
}

/// A reference that does not resolve, or a rule that is broken, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `role`, `resource` …
    pub kind: &'static str,
    /// Which one.
    pub id: String,
    /// The key that is wrong.
    pub field: &'static str,
    /// The value that does not resolve, where there is one.
    pub value: Option<String>,
    /// What is wrong and what to do, in words.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`, {}: {}", self.kind, self.id, self.field, self.text)
    }
}

/// All that is declared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estate {
    /// Parties by name.
    pub parties: BTreeMap<PartyId, Party>,
    /// Teams by name.
    pub teams: BTreeMap<TeamId, Team>,
    /// Owners by plane.
    pub planes: BTreeMap<Plane, PlaneOwner>,
    /// Subjects by name.
    pub subjects: BTreeMap<SubjectId, Subject>,
    /// Services by name.
    pub services: BTreeMap<ServiceId, Service>,
    /// Resources by name.
    pub resources: BTreeMap<ResourceId, Resource>,
    /// Roles by name.
    pub roles: BTreeMap<RoleId, Role>,
}

impl Estate {
    /// Puts one declared thing in force, in place of an earlier one of this kind and name.
    pub fn declare(&mut self, declared: Declared) {
        match declared {
            Declared::Party { id, is } => drop(self.parties.insert(id, is)),
            Declared::Team { id, is } => drop(self.teams.insert(id, is)),
            Declared::Plane { id, is } => drop(self.planes.insert(id, is)),
            Declared::Subject { id, is } => drop(self.subjects.insert(id, is)),
            Declared::Service { id, is } => drop(self.services.insert(id, is)),
            Declared::Resource { id, is } => drop(self.resources.insert(id, is)),
            Declared::Role { id, is } => drop(self.roles.insert(id, is)),
        }
    }

    /// Takes one declared thing away again.
    pub fn withdraw(&mut self, declared: &Declared) {
        match declared {
            Declared::Party { id, .. } => drop(self.parties.remove(id)),
            Declared::Team { id, .. } => drop(self.teams.remove(id)),
            Declared::Plane { id, .. } => drop(self.planes.remove(id)),
            Declared::Subject { id, .. } => drop(self.subjects.remove(id)),
            Declared::Service { id, .. } => drop(self.services.remove(id)),
            Declared::Resource { id, .. } => drop(self.resources.remove(id)),
            Declared::Role { id, .. } => drop(self.roles.remove(id)),
        }
    }

    /// Everything declared, in the order in which it can be declared anew (referenced things first).
    pub fn declared(&self) -> Vec<Declared> {
        let mut all = Vec::new();
        all.extend(self.parties.iter().map(|(id, is)| Declared::Party { id: id.clone(), is: is.clone() }));
        all.extend(self.teams.iter().map(|(id, is)| Declared::Team { id: id.clone(), is: is.clone() }));
        all.extend(self.planes.iter().map(|(id, is)| Declared::Plane { id: *id, is: is.clone() }));
        all.extend(self.subjects.iter().map(|(id, is)| Declared::Subject { id: id.clone(), is: is.clone() }));
        all.extend(self.services.iter().map(|(id, is)| Declared::Service { id: id.clone(), is: is.clone() }));
        all.extend(self.resources.iter().map(|(id, is)| Declared::Resource { id: id.clone(), is: is.clone() }));
        all.extend(self.roles.iter().map(|(id, is)| Declared::Role { id: id.clone(), is: is.clone() }));
        all
    }

    /// What must be declared and withdrawn to come from `self` to `wanted`.
    pub fn difference(&self, wanted: &Self) -> Vec<Difference> {
        let before: BTreeMap<_, _> = self.declared().into_iter().map(|d| (d.key(), d)).collect();
        let after: BTreeMap<_, _> = wanted.declared().into_iter().map(|d| (d.key(), d)).collect();
        let mut steps = Vec::new();
        for declared in wanted.declared() {
            match before.get(&declared.key()) {
                None => steps.push(Difference::Add(declared)),
                Some(old) if *old != declared => {
                    steps.push(Difference::Change { from: Box::new(old.clone()), to: Box::new(declared) })
                }
                Some(_) => {}
            }
        }
        for declared in self.declared().into_iter().rev() {
            if !after.contains_key(&declared.key()) {
                steps.push(Difference::Remove(declared));
            }
        }
        steps
    }

    /// Whether the party exists and still answers for things.
    pub fn is_active(&self, party: &PartyId) -> bool {
        self.parties.get(party).is_some_and(|p| p.active)
    }

    /// The teams that a party is in or leads.
    pub fn teams_of(&self, party: &PartyId) -> BTreeSet<TeamId> {
        self.teams
            .iter()
            .filter(|(_, team)| team.lead == *party || team.members.contains(party))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Whether `party` is one of `named`, by its own name or by a team that it is in.
    pub fn is_named(&self, party: &PartyId, named: &BTreeSet<String>) -> bool {
        self.is_active(party)
            && (named.contains(party.as_str()) || self.teams_of(party).iter().any(|team| named.contains(team.as_str())))
    }

    /// Whether the party owns the plane or acts for it.
    pub fn acts_for(&self, party: &PartyId, plane: Plane) -> bool {
        self.is_active(party)
            && self.planes.get(&plane).is_some_and(|o| o.accountable == *party || o.responsible.contains(party))
    }

    /// Every reference that does not resolve. An estate with problems is never put in force.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut party = |kind, id: String, field, party: &PartyId| match self.parties.get(party) {
            None => found.push(Problem {
                kind,
                id,
                field,
                value: Some(party.to_string()),
                text: format!("there is no party `{party}`; declare it under `parties`"),
            }),
            Some(p) if !p.active => found.push(Problem {
                kind,
                id,
                field,
                value: Some(party.to_string()),
                text: format!("party `{party}` is no longer active; name somebody who is"),
            }),
            Some(_) => {}
        };
        for (id, team) in &self.teams {
            party("team", id.to_string(), "lead", &team.lead);
            for member in &team.members {
                party("team", id.to_string(), "members", member);
            }
        }
        for (plane, owner) in &self.planes {
            party("plane", plane.to_string(), "accountable", &owner.accountable);
            for responsible in &owner.responsible {
                party("plane", plane.to_string(), "responsible", responsible);
            }
        }
        for (id, subject) in &self.subjects {
            party("subject", id.to_string(), "owner", &subject.owner);
            if let Some(is) = &subject.party {
                party("subject", id.to_string(), "party", is);
            }
        }
        for (id, service) in &self.services {
            party("service", id.to_string(), "owner", &service.owner);
        }
        for (id, resource) in &self.resources {
            if let Some(owner) = &resource.owner {
                party("resource", id.to_string(), "owner", owner);
            }
        }
        for (id, role) in &self.roles {
            party("role", id.to_string(), "owner", &role.owner);
        }
        let mut problem = |kind, id: String, field, value: Option<String>, text: String| {
            found.push(Problem { kind, id, field, value, text });
        };
        for plane in Plane::ALL {
            if plane != Plane::Supplier && !self.planes.contains_key(&plane) {
                let text = format!("no owner; add `{plane}: {{ accountable: PARTY }}` under `planes`");
                problem("plane", plane.to_string(), "accountable", None, text);
            }
        }
        for (id, service) in &self.services {
            for dependent in service.dependents.iter().filter(|d| !self.services.contains_key(*d)) {
                let text = format!("there is no service `{dependent}`; declare it under `services`");
                problem("service", id.to_string(), "dependents", Some(dependent.to_string()), text);
            }
            if service.safe_failure.trim().is_empty() {
                let text = "say what happens, acceptably, when access is cut".to_owned();
                problem("service", id.to_string(), "safe_failure", None, text);
            }
        }
        for (id, resource) in &self.resources {
            if !self.services.contains_key(&resource.service) {
                let text = format!("there is no service `{}`; declare it under `services`", resource.service);
                problem("resource", id.to_string(), "service", Some(resource.service.to_string()), text);
            }
        }
        for (id, role) in &self.roles {
            for resource in role.resources.iter().filter(|r| !self.resources.contains_key(*r)) {
                let text = format!("there is no resource `{resource}`; declare it under `resources`");
                problem("role", id.to_string(), "resources", Some(resource.to_string()), text);
            }
            let named = role.approvers.iter().map(|name| ("approvers", name));
            for (field, name) in named.chain(role.watchers.iter().map(|name| ("watchers", name))) {
                let known = PartyId::parse(name).is_ok_and(|p| self.parties.contains_key(&p))
                    || TeamId::parse(name).is_ok_and(|t| self.teams.contains_key(&t));
                if !known {
                    let text = format!("there is no party or team `{name}`");
                    problem("role", id.to_string(), field, Some(name.clone()), text);
                }
            }
            if let Some(login) = role.login.as_ref().filter(|login| !is_login(login)) {
                let text =
                    format!("`{login}` can't be an account; use letters, digits and . _ -, at most {MAX_LOGIN_BYTES}");
                problem("role", id.to_string(), "login", Some(login.clone()), text);
            }
            for path in role.scope.paths.iter().filter(|path| path::settled(path).as_ref() != Some(path)) {
                let text =
                    format!("`{path}` is no plain path; write it from `/` or `~`, without `..`, `*` or a last `/`");
                problem("role", id.to_string(), "scope", Some(path.clone()), text);
            }
            if role.approvers.is_empty() || role.approvals == 0 {
                let text = "name at least one approver and one approval: nobody approves their own".to_owned();
                problem("role", id.to_string(), "approvers", None, text);
            }
            if role.max_for.0 == 0 {
                problem(
                    "role",
                    id.to_string(),
                    "max_for",
                    None,
                    "a grant needs a deadline; write such as 8h".to_owned(),
                );
            }
        }
        // Two subjects that are one person could approve for each other.
        let mut persons: BTreeMap<&PartyId, &SubjectId> = BTreeMap::new();
        for (id, subject) in &self.subjects {
            if let (Some(person), SubjectKind::Human) = (&subject.party, subject.kind)
                && let Some(other) = persons.insert(person, id)
            {
                let text = format!("subject `{other}` is party `{person}` already; one person, one human subject");
                problem("subject", id.to_string(), "party", Some(person.to_string()), text);
            }
        }
        found
    }
}

/// One step from an estate to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// New.
    Add(Declared),
    /// In force in another form.
    Change {
        /// As it is.
        from: Box<Declared>,
        /// As it is to be.
        to: Box<Declared>,
    },
    /// In force and no longer wanted.
    Remove(Declared),
}
