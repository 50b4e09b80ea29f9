//! The policy set: texts that were read, checked and prepared as one, or refused as one with every problem told.
//!
//! A set never changes after it loaded; a new version is a new set. It does not decide here: see `decide.rs`.

use crate::annotations::{KnownParties, Parsed, Policy, PolicyEffect};
use crate::links::Links;
use crate::schema::Schema;
use crate::slice::{Slice, reaches};
use crate::statements::{Statement, nesting, split};
use crate::uses::Uses;
use cedar_policy::ffi::DetailedError;
use cedar_policy::{ActionConstraint, Authorizer, EntityUid, SlotId, ValidationMode, Validator};
use onus_core::ids::{PolicyId, RoleId};
use onus_core::operation::Class;
use onus_core::view::View;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A loaded policy set: the policy decision point's whole knowledge.
///
/// It implements [`onus_core::decision::Decide`]. Loading is all or nothing; the caller keeps the last good set in
/// force while a new one is refused.
#[derive(Debug)]
pub struct PolicySet {
    pub(crate) schema: Schema,
    pub(crate) policies: Vec<Compiled>,
    /// Place in `policies` by id.
    pub(crate) by_id: BTreeMap<String, usize>,
    /// Static policies that can apply, by action; actions with the same ones share them.
    pub(crate) slices: BTreeMap<String, Arc<Slice>>,
    pub(crate) roles: BTreeMap<RoleId, Templates>,
    pub(crate) links: Links,
    pub(crate) authorizer: Authorizer,
    digest: String,
}

/// A policy as it is evaluated.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub about: Policy,
    pub body: Body,
    pub reach: ActionConstraint,
    pub uses: Uses,
}

/// A static policy, or a role's template.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Static(cedar_policy::Policy),
    Template(cedar_policy::Template),
}

/// A role as decisions need it.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    /// Places in [`PolicySet::policies`].
    pub places: Vec<usize>,
    /// What they unlock together.
    pub unlocks: BTreeSet<String>,
}

/// A role that the set defines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role<'a> {
    /// Its name.
    pub id: &'a RoleId,
    /// Its templates, each with its own owner and reason, in the order of their ids.
    pub templates: Vec<&'a Policy>,
    /// What it unlocks: the words in `context.unlocks` of its sessions.
    pub unlocks: &'a BTreeSet<String>,
}

/// One reason why a set was refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyProblem {
    /// The file; empty where the fault lies with no file.
    pub file: String,
    /// The line, from 1; 0 where the fault lies with no line.
    pub line: usize,
    /// The policy's `@id`, where it has one.
    pub policy: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub to_do: String,
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:{}: ", self.file, self.line)?;
        }
        if let Some(policy) = &self.policy {
            write!(f, "policy `{policy}`: ")?;
        }
        write!(f, "{}; {}", self.what, self.to_do)
    }
}

impl PolicySet {
    /// Loads a set from named texts, for the actions that the protocols can produce and the parties that are active.
    ///
    /// Refuses, with every problem at once: what Cedar cannot parse, what fails strict validation against the schema
    /// (its warnings count: a forbid that can never apply guards nothing), and annotations that are missing, unknown
    /// or name nobody. A set without policies loads, and denies everything.
    pub fn load<N: AsRef<str>, T: AsRef<str>>(
        files: &[(N, T)],
        actions: &[(&str, Class)],
        known: &KnownParties,
    ) -> Result<Self, Vec<PolicyProblem>> {
        let schema = Schema::new(actions).map_err(|e| {
            vec![problem("", 0, None, e.to_string(), "correct the table of actions; it is part of the program")]
        })?;
        let mut sorted: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_ref(), text.as_ref())).collect();
        sorted.sort_unstable();

        let mut problems = Vec::new();
        for pair in sorted.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            problems.push(problem(pair[0].0, 1, None, "the file is given twice".into(), "give each file once"));
        }
        let mut policies: Vec<Compiled> = Vec::new();
        for (file, text) in &sorted {
            let statements = split(text);
            let before = problems.len();
            for statement in &statements {
                match read(file, *statement, known) {
                    Ok(compiled) => policies.push(compiled),
                    Err(found) => problems.extend(found),
                }
            }
            // INVARIANT: our splitting and Cedar's parser see the same policies. Only what was read piece by piece
            // without a problem is handed to the parser as a whole: the limits on a statement held.
            let same = || {
                cedar_policy::PolicySet::from_str(text)
                    .is_ok_and(|set| set.policies().count() + set.templates().count() == statements.len())
            };
            if problems.len() == before && !same() {
                problems.push(problem(
                    file,
                    1,
                    None,
                    "its statements cannot be told apart".into(),
                    "end each policy with a semicolon and check its quotation marks",
                ));
            }
        }
        policies.sort_by(|a, b| a.about.id.cmp(&b.about.id));
        for pair in policies.windows(2).filter(|pair| pair[0].about.id == pair[1].about.id) {
            let (first, second) = (&pair[0].about, &pair[1].about);
            problems.push(problem(
                &second.file,
                second.line,
                Some(second.id.as_str()),
                format!("`{}` line {} has the same `@id`", first.file, first.line),
                "give each policy its own",
            ));
        }
        if problems.is_empty() {
            problems.extend(validate(&schema, &policies));
        }
        if problems.is_empty() {
            Self::prepare(schema, policies, digest(&sorted)).map_err(|e| vec![e])
        } else {
            problems.sort();
            problems.dedup();
            Err(problems)
        }
    }

    fn prepare(schema: Schema, policies: Vec<Compiled>, digest: String) -> Result<Self, PolicyProblem> {
        let mut by_reach: BTreeMap<Vec<usize>, Arc<Slice>> = BTreeMap::new();
        let mut slices = BTreeMap::new();
        for name in schema.actions() {
            let Some(action) = schema.action(name) else { continue };
            let places: Vec<usize> = (0..policies.len())
                .filter(|place| {
                    matches!(policies[*place].body, Body::Static(_)) && reaches(&policies[*place].reach, action)
                })
                .collect();
            let slice = match by_reach.get(&places) {
                Some(slice) => Arc::clone(slice),
                None => {
                    let made = Arc::new(statics(places.iter().map(|place| &policies[*place]))?);
                    by_reach.insert(places, Arc::clone(&made));
                    made
                }
            };
            slices.insert(name.to_owned(), slice);
        }
        let mut roles: BTreeMap<RoleId, Templates> = BTreeMap::new();
        for (place, policy) in policies.iter().enumerate() {
            if let Some(role) = &policy.about.role {
                let templates = roles.entry(role.clone()).or_default();
                templates.places.push(place);
                templates.unlocks.extend(policy.about.unlocks.iter().cloned());
            }
        }
        let by_id = policies.iter().enumerate().map(|(place, p)| (p.about.id.as_str().to_owned(), place)).collect();
        let (links, authorizer) = (Links::new(), Authorizer::new());
        Ok(Self { schema, policies, by_id, slices, roles, links, authorizer, digest })
    }

    /// The set's version: SHA-256, in hex, over the files sorted by name, each as
    /// `<name> LF <length of text in bytes> LF <text> LF`. The same for the same texts, on any machine:
    ///
    /// ```text
    /// for f in $(ls *.cedar | LC_ALL=C sort); do printf '%s\n%s\n' $f $(wc -c <$f); cat $f; echo; done | sha256sum
    /// ```
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The schema that the set was validated against.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Every policy and template, sorted by id.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter().map(|p| &p.about)
    }

    /// The policy or template with this id.
    pub fn policy(&self, id: &PolicyId) -> Option<&Policy> {
        self.by_id.get(id.as_str()).map(|place| &self.policies[*place].about)
    }

    /// The roles that have a template, sorted by name.
    pub fn roles(&self) -> impl Iterator<Item = Role<'_>> {
        self.roles.iter().map(|(id, role)| Role {
            id,
            templates: role.places.iter().map(|place| &self.policies[*place].about).collect(),
            unlocks: &role.unlocks,
        })
    }

    /// The role's templates, linked with the view's subject and resource.
    pub(crate) fn link(&self, view: &View) -> Result<Slice, String> {
        let mut slice = Slice::default();
        let Some(role) = self.roles.get(&view.role) else { return Ok(slice) };
        for place in &role.places {
            let Compiled { about, body, uses, .. } = &self.policies[*place];
            let Body::Template(template) = body else { continue };
            let set = match about.effect {
                PolicyEffect::Permit => &mut slice.permits,
                PolicyEffect::Deny | PolicyEffect::Hold(_) | PolicyEffect::Terminate => &mut slice.forbids,
            };
            let slots: HashMap<SlotId, EntityUid> = template
                .slots()
                .map(|slot| {
                    let value = if *slot == SlotId::principal() {
                        self.schema.subject(view.subject.as_str())
                    } else {
                        self.schema.resource(view.resource.as_str())
                    };
                    (slot.clone(), value)
                })
                .collect();
            let failed = |e: &dyn fmt::Display| format!("the template `{}` could not be linked: {e}", about.id);
            set.add_template(template.clone()).map_err(|e| failed(&e))?;
            set.link(template.id().clone(), linked_id(&about.id), slots).map_err(|e| failed(&e))?;
            slice.uses = slice.uses.and(*uses);
        }
        Ok(slice)
    }
}

/// The prefix of a link's Cedar id; no `@id` can hold it.
const LINK: &str = "link:";

fn linked_id(id: &PolicyId) -> cedar_policy::PolicyId {
    cedar_policy::PolicyId::new(format!("{LINK}{id}"))
}

/// The `@id` behind a Cedar id.
pub(crate) fn own_id(id: &cedar_policy::PolicyId) -> &str {
    let text: &str = id.as_ref();
    text.strip_prefix(LINK).unwrap_or(text)
}

fn statics<'a>(policies: impl Iterator<Item = &'a Compiled>) -> Result<Slice, PolicyProblem> {
    let mut slice = Slice::default();
    for Compiled { about, body, uses, .. } in policies {
        let Body::Static(policy) = body else { continue };
        let set = if about.effect == PolicyEffect::Permit { &mut slice.permits } else { &mut slice.forbids };
        set.add(policy.clone()).map_err(|e| {
            problem(&about.file, about.line, Some(about.id.as_str()), e.to_string(), "give each policy its own `@id`")
        })?;
        slice.uses = slice.uses.and(*uses);
    }
    Ok(slice)
}

fn problem(file: &str, line: usize, policy: Option<&str>, what: String, to_do: &str) -> PolicyProblem {
    PolicyProblem { file: file.to_owned(), line, policy: policy.map(str::to_owned), what, to_do: to_do.to_owned() }
}

/// The line of a place inside a statement, as far as Cedar tells it.
fn line_of(statement: usize, text: &str, error: &DetailedError) -> usize {
    let offset = error.source_locations.first().map_or(0, |label| label.loc.start.min(text.len()));
    statement + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
}

/// What Cedar says, on one line, with its own advice.
fn said(error: &DetailedError) -> String {
    let mut said = error.message.replace('\n', " ");
    for label in error.source_locations.iter().filter_map(|l| l.label.as_deref()) {
        said = format!("{said} ({label})");
    }
    match &error.help {
        Some(help) => format!("{said}: {}", help.replace('\n', " ")),
        None => said,
    }
}

/// The longest policy, in bytes.
const LONGEST_STATEMENT: usize = 16_384;

/// The deepest brackets and the most operators in one policy. Cedar's parser and validator, and our own reading, recurse
/// as deep as these nest, chains of `&&` and `+` included; the limits keep them within a thread's stack of 2 MiB with
/// room to spare (brackets overflow it somewhere between 120 and 180 in a debug build).
const DEEPEST_BRACKETS: usize = 32;
/// See [`DEEPEST_BRACKETS`].
const LONGEST_CHAIN: usize = 500;

fn read(file: &str, statement: Statement<'_>, known: &KnownParties) -> Result<Compiled, Vec<PolicyProblem>> {
    let Statement { line, text } = statement;
    let refuse = |what: String| vec![problem(file, line, None, what, "correct it as Cedar's grammar asks")];
    if text.len() > LONGEST_STATEMENT {
        let what = format!("the policy is longer than {LONGEST_STATEMENT} bytes");
        return Err(vec![problem(file, line, None, what, "split it into several, or check its semicolon")]);
    }
    let (depth, marks) = nesting(text);
    if depth > DEEPEST_BRACKETS || marks > LONGEST_CHAIN {
        let what = format!(
            "the policy nests brackets deeper than {DEEPEST_BRACKETS} or has more than {LONGEST_CHAIN} operators"
        );
        return Err(vec![problem(file, line, None, what, "split it into several, or write lists as sets")]);
    }
    let set = cedar_policy::PolicySet::from_str(text).map_err(|errors| {
        errors
            .iter()
            .map(|error| {
                let error = DetailedError::from(error);
                problem(file, line_of(line, text, &error), None, said(&error), "correct it as Cedar's grammar asks")
            })
            .collect::<Vec<_>>()
    })?;
    let (mut policies, mut templates) = (set.policies(), set.templates());
    let body = match (policies.next(), templates.next(), policies.next(), templates.next()) {
        (Some(policy), None, None, None) => Body::Static(policy.clone()),
        (None, Some(template), None, None) => Body::Template(template.clone()),
        _ => return Err(refuse("it is not one policy".to_owned())),
    };
    let own = |annotations: &mut dyn Iterator<Item = (&str, &str)>| -> BTreeMap<String, String> {
        annotations.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let (annotations, effect, json) = match &body {
        Body::Static(policy) => (own(&mut policy.annotations()), policy.effect(), policy.to_json()),
        Body::Template(template) => (own(&mut template.annotations()), template.effect(), template.to_json()),
    };
    let json = json.map_err(|e| refuse(format!("it has no JSON form: {e}")))?;
    let name = annotations.get("id").cloned();
    let template = matches!(body, Body::Template(_));
    let forbid = effect == cedar_policy::Effect::Forbid;
    let about = Policy::read(&Parsed { annotations, template, forbid, file, line, text }, known).map_err(|all| {
        all.into_iter().map(|(what, to_do)| problem(file, line, name.as_deref(), what, &to_do)).collect::<Vec<_>>()
    })?;
    let id = cedar_policy::PolicyId::new(about.id.as_str());
    let (body, reach) = match body {
        Body::Static(policy) => (Body::Static(policy.new_id(id)), policy.action_constraint()),
        Body::Template(template) => (Body::Template(template.new_id(id)), template.action_constraint()),
    };
    Ok(Compiled { about, body, reach, uses: Uses::of(&json) })
}

fn validate(schema: &Schema, policies: &[Compiled]) -> Vec<PolicyProblem> {
    let mut set = cedar_policy::PolicySet::new();
    let mut problems = Vec::new();
    for Compiled { about, body, .. } in policies {
        let added = match body {
            Body::Static(policy) => set.add(policy.clone()),
            Body::Template(template) => set.add_template(template.clone()),
        };
        if let Err(e) = added {
            problems.push(problem(&about.file, about.line, Some(about.id.as_str()), e.to_string(), "rename it"));
        }
    }
    let by_id: BTreeMap<&str, &Policy> = policies.iter().map(|p| (p.about.id.as_str(), &p.about)).collect();
    let mut tell = |id: &cedar_policy::PolicyId, error: DetailedError, to_do: &str| {
        problems.push(match by_id.get(id.as_ref() as &str) {
            Some(about) => {
                let line = line_of(about.line, &about.text, &error);
                problem(&about.file, line, Some(about.id.as_str()), said(&error), to_do)
            }
            None => problem("", 0, Some(id.as_ref()), said(&error), to_do),
        });
    };
    let result = Validator::new(schema.cedar().clone()).validate(&set, ValidationMode::Strict);
    for error in result.validation_errors() {
        tell(error.policy_id(), DetailedError::from(error), "use what the schema has: `onus policy schema` shows it");
    }
    for warning in result.validation_warnings() {
        tell(warning.policy_id(), DetailedError::from(warning), "rewrite it so that it can apply and reads as it runs");
    }
    problems
}

fn digest(sorted: &[(&str, &str)]) -> String {
    let mut hash = Sha256::new();
    for (name, text) in sorted {
        hash.update(format!("{name}\n{}\n", text.len()));
        hash.update(text);
        hash.update("\n");
    }
    hex::encode(hash.finalize())
}
