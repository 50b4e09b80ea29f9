//! The estate as files: YAML to [`Estate`], with every problem at its file, line and column.
//!
//! It reads and points; what a correct estate is, `onus-core` says ([`Estate::problems`]), and putting one in force is
//! the gateway's. Anchors, aliases, tags and a second document in one file are refused rather than half understood.

use super::shown::plain;
use marked_yaml::types::MarkedMappingNode;
use marked_yaml::{LoadError, LoaderOptions, Marker, Node, parse_yaml_with_options};
use onus_core::estate::{
    Declared, Estate, Party, Plane, PlaneOwner, Problem, Resource, Role, Service, Subject, Team, Terminal,
};
use onus_core::operation::Class;
use onus_core::time::Millis;
use onus_core::view::{Scope, SubjectKind};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest file, in bytes.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// The deepest nesting; an estate needs five levels, and the YAML parser recurses.
const MAX_DEPTH: usize = 256;

/// The keys at the top of a file, and what one thing under each is called.
const SECTIONS: [(&str, &str); 7] = [
    ("parties", "party"),
    ("teams", "team"),
    ("planes", "plane"),
    ("subjects", "subject"),
    ("services", "service"),
    ("resources", "resource"),
    ("roles", "role"),
];

/// Something wrong in a file, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct FileProblem {
    /// The file as it was named.
    pub file: String,
    /// The line, from 1; 0 where the fault lies with no line.
    pub line: usize,
    /// The column, from 1; 0 where the fault lies with no column.
    pub column: usize,
    /// What is wrong, in words.
    pub text: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.text),
            line => write!(f, "{}:{line}:{}: {}", self.file, self.column, self.text),
        }
    }
}

/// Reads an estate from a file, or from all `*.yaml` and `*.yml` files of a directory (not of those below it).
///
/// # Errors
/// Every problem found, in the order of files and lines. A list that is not empty, always.
pub fn read(path: &Path) -> Result<Estate, Vec<FileProblem>> {
    let whole = |text: String| vec![FileProblem { file: path.display().to_string(), line: 0, column: 0, text }];
    let mut reader = Reader::default();
    for file in files(path).map_err(whole)? {
        let name = file.display().to_string();
        match text_of(&file) {
            Ok(text) => reader.file(name, &text),
            Err(text) => {
                reader.incomplete = true;
                reader.problems.push(FileProblem { file: name, line: 0, column: 0, text });
            }
        }
    }
    reader.finish()
}

/// Reads an estate from texts, each under a name: what [`read`] does, without files.
#[cfg(test)]
pub fn read_texts<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Estate, Vec<FileProblem>> {
    let mut reader = Reader::default();
    for (name, text) in files {
        reader.file(name.to_owned(), text);
    }
    reader.finish()
}

fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let about = std::fs::metadata(path).map_err(|e| format!("cannot be read: {e}; name a directory or a YAML file"))?;
    if !about.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| format!("cannot be listed: {e}"))? {
        let file = entry.map_err(|e| format!("cannot be listed: {e}"))?.path();
        if file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
            found.push(file);
        }
    }
    found.sort();
    match found.is_empty() {
        // An empty estate would withdraw everything that is in force.
        true => Err("holds no `*.yaml` or `*.yml` file; name the directory that declares the estate".to_owned()),
        false => Ok(found),
    }
}

fn text_of(file: &Path) -> Result<String, String> {
    let size = std::fs::metadata(file).map_err(|e| format!("cannot be read: {e}"))?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("is {size} bytes long; at most {MAX_FILE_BYTES} are read: split it"));
    }
    let bytes = std::fs::read(file).map_err(|e| format!("cannot be read: {e}"))?;
    String::from_utf8(bytes)
        .map_err(|e| format!("is not UTF-8 at byte {}; save it as UTF-8", e.utf8_error().valid_up_to()))
}

/// Where something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    file: usize,
    line: usize,
    column: usize,
}

/// Where a declared thing and its parts stand.
#[derive(Debug)]
struct Whereabouts {
    name: Place,
    fields: BTreeMap<String, Place>,
    /// Every value of a field, with its place.
    values: Vec<(String, String, Place)>,
}

#[derive(Default)]
struct Reader {
    files: Vec<String>,
    estate: Estate,
    problems: Vec<FileProblem>,
    sections: BTreeMap<&'static str, Place>,
    /// By kind and name. Also of things that could not be read: they are wrong, not missing.
    found: BTreeMap<(&'static str, String), Whereabouts>,
    broken: BTreeSet<(&'static str, String)>,
    /// A file could not be read at all: then what is missing proves nothing.
    incomplete: bool,
}

impl Reader {
    fn tell(&mut self, place: Place, text: String) {
        let file = self.files[place.file].clone();
        self.problems.push(FileProblem { file, line: place.line, column: place.column, text });
    }

    fn file(&mut self, name: String, text: &str) {
        self.files.push(name);
        let file = self.files.len() - 1;
        if let Some((line, column, text)) = beforehand(text) {
            self.incomplete = true;
            return self.tell(Place { file, line, column }, text);
        }
        let options = LoaderOptions::default().error_on_duplicate_keys(true).prevent_coercion(true);
        let top = match parse_yaml_with_options(file, text, options) {
            Ok(Node::Mapping(top)) => top,
            Ok(other) => {
                self.incomplete = true;
                return self.tell(place(&other, file), "write sections such as `parties:` here".to_owned());
            }
            Err(error) => {
                self.incomplete = true;
                let (line, column, text) = told(&error);
                return self.tell(Place { file, line, column }, text);
            }
        };
        for (key, node) in top.iter() {
            let at = start(key.span().start(), file);
            let Some((section, kind)) = SECTIONS.into_iter().find(|(section, _)| *section == key.as_str()) else {
                let known = SECTIONS.map(|(section, _)| section);
                let text = format!(
                    "there is no section `{}`; use {}{}",
                    plain(key),
                    known.join(", "),
                    did_you_mean(key, known)
                );
                self.tell(at, text);
                continue;
            };
            self.sections.entry(section).or_insert(at);
            let Some(things) = self.mapping(node, file, &format!("`{section}`")) else { continue };
            for (name, body) in things.iter() {
                self.thing(kind, name.as_str(), start(name.span().start(), file), body);
            }
        }
    }

    /// A mapping; nothing at all counts as an empty one.
    fn mapping<'n>(
        &mut self,
        node: &'n Node,
        file: usize,
        what: &str,
    ) -> Option<std::borrow::Cow<'n, MarkedMappingNode>> {
        match node {
            Node::Mapping(mapping) => Some(std::borrow::Cow::Borrowed(mapping)),
            Node::Scalar(scalar) if scalar.may_coerce() && matches!(scalar.as_str(), "" | "~" | "null") => {
                Some(std::borrow::Cow::Owned(MarkedMappingNode::new_empty(*scalar.span())))
            }
            other => {
                self.tell(
                    place(other, file),
                    format!("{what} must hold names, each with its fields, such as `name: {{ … }}`"),
                );
                None
            }
        }
    }

    fn thing(&mut self, kind: &'static str, name: &str, at: Place, body: &Node) {
        let key = (kind, name.to_owned());
        if let Some(first) = self.found.get(&key).map(|there| there.name) {
            let (file, line) = (self.files[first.file].clone(), first.line);
            let name = plain(name);
            self.tell(at, format!("{kind} `{name}` is declared already at {file}:{line}; declare it once"));
            return;
        }
        self.found.insert(key.clone(), Whereabouts { name: at, fields: BTreeMap::new(), values: Vec::new() });
        let before = self.problems.len();
        let what = format!("{kind} `{}`", plain(name));
        if let Some(mapping) = self.mapping(body, at.file, &what) {
            let mut fields = Fields { reader: self, kind, id: name, what, at, mapping: &mapping, asked: Vec::new() };
            let declared = declared(kind, &mut fields);
            fields.no_others();
            if let (Some(declared), true) = (declared, self.problems.len() == before) {
                self.estate.declare(declared);
                return;
            }
        }
        self.broken.insert(key);
    }

    fn finish(mut self) -> Result<Estate, Vec<FileProblem>> {
        let problems = if self.incomplete { Vec::new() } else { self.estate.problems() };
        for problem in problems {
            if self.follows(&problem) {
                continue;
            }
            let mut text = problem.to_string();
            if let Some(value) = &problem.value {
                text.push_str(&self.nearest(&problem, value));
            }
            match self.place_of(&problem) {
                Some(place) => self.tell(place, text),
                None => {
                    let file = self.files.first().cloned().unwrap_or_default();
                    self.problems.push(FileProblem { file, line: 0, column: 0, text });
                }
            }
        }
        if self.problems.is_empty() {
            return Ok(self.estate);
        }
        let order: BTreeMap<&String, usize> = self.files.iter().zip(0..).collect();
        self.problems.sort_by_key(|p| (order.get(&p.file).copied(), p.line, p.column));
        self.problems.dedup();
        Err(self.problems)
    }

    /// Whether the problem only follows from a thing that could not be read and was told about.
    fn follows(&self, problem: &Problem) -> bool {
        if self.broken.contains(&(problem.kind, problem.id.clone())) {
            return true;
        }
        let Some(value) = &problem.value else { return false };
        kinds_of(problem.field).iter().any(|kind| self.broken.contains(&(kind, value.clone())))
    }

    fn place_of(&self, problem: &Problem) -> Option<Place> {
        let Some(there) = self.found.get(&(problem.kind, problem.id.clone())) else {
            // Something that should be declared and is not.
            let section = SECTIONS.iter().find(|(_, kind)| *kind == problem.kind)?.0;
            return self.sections.get(section).copied();
        };
        let value = problem.value.as_ref().and_then(|value| {
            there.values.iter().find(|(field, text, _)| field == problem.field && text == value).map(|(.., at)| *at)
        });
        Some(value.or_else(|| there.fields.get(problem.field).copied()).unwrap_or(there.name))
    }

    fn nearest(&self, problem: &Problem, value: &str) -> String {
        let names = kinds_of(problem.field)
            .iter()
            .flat_map(|kind| self.found.keys().filter(move |(k, _)| k == kind).map(|(_, name)| name.as_str()))
            .filter(|name| *name != value);
        did_you_mean(value, names)
    }
}

/// The kinds of things that a field refers to.
fn kinds_of(field: &str) -> &'static [&'static str] {
    match field {
        "owner" | "lead" | "members" | "accountable" | "responsible" | "party" => &["party"],
        "approvers" | "watchers" => &["party", "team"],
        "service" | "dependents" => &["service"],
        "resources" => &["resource"],
        _ => &[],
    }
}

fn declared(kind: &str, fields: &mut Fields<'_, '_>) -> Option<Declared> {
    // Every field is asked for before any `?`, so that all problems are told at once and no key counts as unknown.
    Some(match kind {
        "party" => {
            let (id, name) = (fields.own_id(), fields.text("name"));
            let (contact, active) = (fields.text_if_any("contact"), fields.flag("active", true));
            Declared::Party { id: id?, is: Party { name: name?, contact, active } }
        }
        "team" => {
            let (id, lead, members) = (fields.own_id(), fields.id("lead"), fields.ids("members"));
            Declared::Team { id: id?, is: Team { lead: lead?, members } }
        }
        "plane" => {
            let id = fields.plane();
            let (accountable, responsible) = (fields.id("accountable"), fields.ids("responsible"));
            Declared::Plane { id: id?, is: PlaneOwner { accountable: accountable?, responsible } }
        }
        "subject" => {
            let kinds = [SubjectKind::Human, SubjectKind::Workload, SubjectKind::Agent];
            let (id, kind) = (fields.own_id(), fields.word("kind", &kinds.map(|k| (k.as_str(), k))));
            let (owner, party) = (fields.id("owner"), fields.id_if_any("party"));
            let administrator = fields.flag("administrator", false);
            Declared::Subject { id: id?, is: Subject { kind: kind?, owner: owner?, party, administrator } }
        }
        "service" => {
            let (id, owner, dependents) = (fields.own_id(), fields.id("owner"), fields.ids("dependents"));
            let safe_failure = fields.text("safe_failure");
            Declared::Service { id: id?, is: Service { owner: owner?, dependents, safe_failure: safe_failure? } }
        }
        "resource" => {
            let (id, service, owner) = (fields.own_id(), fields.id("service"), fields.id_if_any("owner"));
            let (protocol, labels, settings) = (fields.text("protocol"), fields.texts("labels"), fields.settings());
            let labels = labels.into_iter().collect();
            Declared::Resource {
                id: id?,
                is: Resource { service: service?, owner, protocol: protocol?, labels, settings },
            }
        }
        "role" => {
            let (id, owner, why) = (fields.own_id(), fields.id("owner"), fields.text("why"));
            let (resources, scope, max_for) =
                (fields.ids_wanted("resources"), fields.scope(), fields.duration("max_for"));
            let (approvers, approvals) = (fields.texts_wanted("approvers"), fields.number("approvals", 1));
            let member_of = fields.texts("member_of").into_iter().collect();
            let approvers = approvers.into_iter().collect();
            let (login, shell) = (fields.text_if_any("login"), fields.terminal());
            let watchers = fields.watchers();
            let is = Role {
                owner: owner?,
                why: why?,
                resources,
                scope: scope?,
                max_for: max_for?,
                approvers,
                approvals: approvals?,
                member_of,
                login,
                shell: shell?,
                watchers: watchers?,
            };
            Declared::Role { id: id?, is }
        }
        _ => return None,
    })
}

/// The fields of one thing, each asked for by name.
struct Fields<'r, 'n> {
    reader: &'r mut Reader,
    kind: &'static str,
    id: &'n str,
    /// `role `reader``
    what: String,
    at: Place,
    mapping: &'n MarkedMappingNode,
    asked: Vec<&'static str>,
}

impl<'n> Fields<'_, 'n> {
    fn tell(&mut self, at: Place, field: &str, text: &str) {
        let text = format!("{}, {field}: {text}", self.what);
        self.reader.tell(at, text);
    }

    fn note(&mut self, field: &str, value: &str, at: Place) {
        if let Some(there) = self.reader.found.get_mut(&(self.kind, self.id.to_owned())) {
            there.values.push((field.to_owned(), value.to_owned(), at));
        }
    }

    fn node(&mut self, field: &'static str) -> Option<&'n Node> {
        self.asked.push(field);
        let (key, node) = self.mapping.iter().find(|(key, _)| key.as_str() == field)?;
        let at = start(key.span().start(), self.at.file);
        if let Some(there) = self.reader.found.get_mut(&(self.kind, self.id.to_owned())) {
            there.fields.insert(field.to_owned(), at);
        }
        Some(node)
    }

    fn wanted(&mut self, field: &'static str) -> Option<&'n Node> {
        let node = self.node(field);
        if node.is_none() {
            self.tell(self.at, field, "it is missing; add it");
        }
        node
    }

    fn scalar(&mut self, field: &'static str, node: &'n Node) -> Option<(&'n str, Place)> {
        let at = place(node, self.at.file);
        match node {
            Node::Scalar(scalar) if scalar.may_coerce() && matches!(scalar.as_str(), "" | "~" | "null") => {
                // The parser places nothing at whatever comes next; the key is where to look.
                let key = self.reader.found.get(&(self.kind, self.id.to_owned())).and_then(|t| t.fields.get(field));
                let at = key.copied().unwrap_or(at);
                self.tell(at, field, "it is empty; give it a value or leave it out");
                None
            }
            Node::Scalar(scalar) => {
                self.note(field, scalar.as_str(), at);
                Some((scalar.as_str(), at))
            }
            Node::Mapping(_) | Node::Sequence(_) => {
                self.tell(at, field, "write one value here, not a list or a mapping");
                None
            }
        }
    }

    /// The values of a list. A single value is not taken for a list of one: that is how typos hide.
    fn items(&mut self, field: &'static str, node: &'n Node) -> Vec<(&'n str, Place)> {
        let at = place(node, self.at.file);
        match node {
            Node::Sequence(items) => items.iter().filter_map(|item| self.scalar(field, item)).collect(),
            Node::Scalar(scalar) if scalar.may_coerce() && matches!(scalar.as_str(), "" | "~" | "null") => Vec::new(),
            Node::Scalar(scalar) => {
                self.tell(at, field, &format!("write a list, such as [{}]", plain(scalar)));
                Vec::new()
            }
            Node::Mapping(_) => {
                self.tell(at, field, "write a list, such as [a, b]");
                Vec::new()
            }
        }
    }

    fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, field: &'static str, text: &str, at: Place) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.tell(at, field, &plain(&error.to_string()));
                None
            }
        }
    }

    fn own_id<T: FromStr<Err: fmt::Display>>(&mut self) -> Option<T> {
        let (id, at) = (self.id, self.at);
        self.parsed("name", id, at)
    }

    fn plane(&mut self) -> Option<Plane> {
        let plane = Plane::parse(self.id);
        if plane.is_none() {
            let words = Plane::ALL.map(Plane::as_str);
            let text = format!("there is no such plane; use {}{}", words.join(", "), did_you_mean(self.id, words));
            self.tell(self.at, "name", &text);
        }
        plane
    }

    fn text(&mut self, field: &'static str) -> Option<String> {
        let node = self.wanted(field)?;
        self.scalar(field, node).map(|(text, _)| text.to_owned())
    }

    fn text_if_any(&mut self, field: &'static str) -> Option<String> {
        let node = self.node(field)?;
        self.scalar(field, node).map(|(text, _)| text.to_owned())
    }

    fn texts(&mut self, field: &'static str) -> Vec<String> {
        let Some(node) = self.node(field) else { return Vec::new() };
        self.items(field, node).into_iter().map(|(text, _)| text.to_owned()).collect()
    }

    fn texts_wanted(&mut self, field: &'static str) -> Vec<String> {
        let Some(node) = self.wanted(field) else { return Vec::new() };
        self.items(field, node).into_iter().map(|(text, _)| text.to_owned()).collect()
    }

    fn id<T: FromStr<Err: fmt::Display>>(&mut self, field: &'static str) -> Option<T> {
        let node = self.wanted(field)?;
        let (text, at) = self.scalar(field, node)?;
        self.parsed(field, text, at)
    }

    fn id_if_any<T: FromStr<Err: fmt::Display>>(&mut self, field: &'static str) -> Option<T> {
        let node = self.node(field)?;
        let (text, at) = self.scalar(field, node)?;
        self.parsed(field, text, at)
    }

    fn ids<T: FromStr<Err: fmt::Display> + Ord>(&mut self, field: &'static str) -> BTreeSet<T> {
        match self.node(field) {
            Some(node) => self.set(field, node),
            None => BTreeSet::new(),
        }
    }

    fn ids_wanted<T: FromStr<Err: fmt::Display> + Ord>(&mut self, field: &'static str) -> BTreeSet<T> {
        match self.wanted(field) {
            Some(node) => self.set(field, node),
            None => BTreeSet::new(),
        }
    }

    fn set<T: FromStr<Err: fmt::Display> + Ord>(&mut self, field: &'static str, node: &'n Node) -> BTreeSet<T> {
        self.items(field, node).into_iter().filter_map(|(text, at)| self.parsed(field, text, at)).collect()
    }

    fn word<T: Copy>(&mut self, field: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let node = self.wanted(field)?;
        let (text, at) = self.scalar(field, node)?;
        self.one_of(field, text, at, words)
    }

    fn terminal(&mut self) -> Option<Terminal> {
        let Some(node) = self.node("shell") else { return Some(Terminal::default()) };
        let (text, at) = self.scalar("shell", node)?;
        self.one_of("shell", text, at, &[Terminal::Governed, Terminal::Raw].map(|shell| (shell.as_str(), shell)))
    }

    /// Written out, an empty list would say that nobody needs to watch; that is said by leaving it out.
    fn watchers(&mut self) -> Option<BTreeSet<String>> {
        let Some(node) = self.node("watchers") else { return Some(BTreeSet::new()) };
        let watchers: BTreeSet<String> =
            self.items("watchers", node).into_iter().map(|(text, _)| text.to_owned()).collect();
        if watchers.is_empty() {
            self.tell(
                place(node, self.at.file),
                "watchers",
                "nobody is named; name a party or a team, or leave it out",
            );
            return None;
        }
        Some(watchers)
    }

    fn one_of<T: Copy>(
        &mut self,
        field: &'static str,
        text: &str,
        at: Place,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let what = format!("`{}` is none of {}{}", plain(text), known.join(", "), did_you_mean(text, known));
        self.tell(at, field, &what);
        None
    }

    fn flag(&mut self, field: &'static str, otherwise: bool) -> bool {
        let Some(node) = self.node(field) else { return otherwise };
        // Quoted, it is a text: `active: "false"` must not come to mean true.
        if let Node::Scalar(scalar) = node
            && scalar.may_coerce()
            && let "true" | "false" = scalar.as_str()
        {
            return scalar.as_str() == "true";
        }
        self.tell(place(node, self.at.file), field, "write true or false");
        otherwise
    }

    fn number(&mut self, field: &'static str, otherwise: u8) -> Option<u8> {
        let Some(node) = self.node(field) else { return Some(otherwise) };
        let (text, at) = self.scalar(field, node)?;
        if let Ok(number) = text.parse() {
            return Some(number);
        }
        self.tell(at, field, &format!("`{}` is not a number from 0 to 255", plain(text)));
        None
    }

    fn duration(&mut self, field: &'static str) -> Option<Millis> {
        let node = self.wanted(field)?;
        let (text, at) = self.scalar(field, node)?;
        match Millis::parse(text) {
            Ok(span) => Some(span),
            Err(error) => {
                self.tell(at, field, &plain(&error.to_string()));
                None
            }
        }
    }

    fn scope(&mut self) -> Option<Scope> {
        let Some(node) = self.node("scope") else { return Some(Scope::default()) };
        let before = self.reader.problems.len();
        let mapping = self.reader.mapping(node, self.at.file, &format!("{}, scope:", self.what))?;
        let mut scope = Scope::default();
        for (key, node) in mapping.iter() {
            // The mapping may be a made-up empty one, which has no keys; so what is read here lives as long as `'n`.
            let Node::Sequence(items) = node else {
                let field = plain(key);
                self.tell(place(node, self.at.file), "scope", &format!("`{field}` must be a list, such as [a, b]"));
                continue;
            };
            let mut texts = BTreeSet::new();
            for item in items.iter() {
                let at = place(item, self.at.file);
                match item {
                    Node::Scalar(text) => {
                        self.note("scope", text.as_str(), at);
                        texts.insert((text.as_str().to_owned(), at));
                    }
                    Node::Mapping(_) | Node::Sequence(_) => self.tell(at, "scope", "write a name here"),
                }
            }
            let names = || texts.iter().map(|(text, _)| text.clone()).collect();
            match key.as_str() {
                "databases" => scope.databases = names(),
                "schemas" => scope.schemas = names(),
                "relations" => scope.relations = names(),
                "paths" => scope.paths = names(),
                "programs" => scope.programs = names(),
                "classes" => {
                    for (text, at) in &texts {
                        let words = Class::ALL.map(|class| (class.as_str(), class));
                        scope.classes.extend(self.one_of("scope", text, *at, &words));
                    }
                }
                other => {
                    let known = ["databases", "schemas", "relations", "classes", "paths", "programs"];
                    let text = format!(
                        "there is no key `{}`; use {}{}",
                        plain(other),
                        known.join(", "),
                        did_you_mean(other, known)
                    );
                    self.tell(start(key.span().start(), self.at.file), "scope", &text);
                }
            }
            // An empty list means *everything* in a scope; written out, it means a mistake.
            if items.is_empty() {
                let text = format!("`{}` is empty, which would mean all; leave it out or name some", plain(key));
                self.tell(place(node, self.at.file), "scope", &text);
            }
        }
        (self.reader.problems.len() == before).then_some(scope)
    }

    fn settings(&mut self) -> BTreeMap<String, Vec<String>> {
        let Some(node) = self.node("settings") else { return BTreeMap::new() };
        let what = format!("{}, settings:", self.what);
        let Node::Mapping(mapping) = node else {
            self.reader.mapping(node, self.at.file, &what);
            return BTreeMap::new();
        };
        let mut settings = BTreeMap::new();
        for (key, node) in mapping.iter() {
            let values = match node {
                Node::Scalar(_) => self.scalar("settings", node).into_iter().collect(),
                Node::Sequence(_) | Node::Mapping(_) => self.items("settings", node),
            };
            settings.insert(key.as_str().to_owned(), values.into_iter().map(|(text, _)| text.to_owned()).collect());
        }
        settings
    }

    fn no_others(&mut self) {
        let unknown: Vec<_> =
            self.mapping.iter().filter(|(key, _)| !self.asked.contains(&key.as_str())).map(|(key, _)| key).collect();
        for key in unknown {
            let mut known: Vec<&str> = self.asked.clone();
            known.dedup();
            let text = format!(
                "{}: there is no key `{}`; use {}{}",
                self.what,
                plain(key),
                known.join(", "),
                did_you_mean(key, known)
            );
            self.reader.tell(start(key.span().start(), self.at.file), text);
        }
    }
}

fn start(marker: Option<&Marker>, file: usize) -> Place {
    marker.map_or(Place { file, line: 0, column: 0 }, |m| Place { file, line: m.line(), column: m.column() })
}

fn place(node: &Node, file: usize) -> Place {
    start(node.span().start(), file)
}

/// What the YAML parser would pass over or not survive.
fn beforehand(text: &str) -> Option<(usize, usize, String)> {
    let mut begun = false;
    let mut depth = 0_usize;
    for (line, content) in text.lines().enumerate().map(|(i, content)| (i + 1, content)) {
        let marker = |word: &str| {
            content.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        };
        // The parser reads the first document and passes the rest over in silence.
        if begun && (marker("---") || marker("...")) {
            return Some((line, 1, "a second document begins here; put it into a file of its own".to_owned()));
        }
        let bare = content.trim_start_matches([' ', '-', '?', '\t']);
        let indent = content.len() - bare.len();
        begun |= marker("---") || !(bare.is_empty() || bare.starts_with('#') || content.starts_with('%'));
        for byte in bare.bytes() {
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        if depth > MAX_DEPTH || indent > 4 * MAX_DEPTH {
            return Some((line, 1, "this is nested too deeply; an estate needs five levels".to_owned()));
        }
    }
    None
}

fn told(error: &LoadError) -> (usize, usize, String) {
    let at = |m: &Marker| (m.line(), m.column());
    let ((line, column), text) = match error {
        LoadError::TopLevelMustBeMapping(m) | LoadError::TopLevelMustBeSequence(m) => {
            (at(m), "write sections such as `parties:` here".to_owned())
        }
        LoadError::UnexpectedAnchor(m) => (at(m), "anchors and aliases are not read; write it out".to_owned()),
        LoadError::MappingKeyMustBeScalar(m) => (at(m), "a name must be plain text".to_owned()),
        LoadError::UnexpectedTag(m) => (at(m), "tags (`!…`) are not read; leave it out".to_owned()),
        LoadError::DuplicateKey(twice) => {
            let first = twice.prev_key.span().start().map_or(0, Marker::line);
            let place = twice.key.span().start().map_or((0, 0), at);
            (place, format!("`{}` stands here a second time, after line {first}; write it once", plain(&twice.key)))
        }
        // It repeats the place, in another notation.
        LoadError::ScanError(m, _) => {
            let said = error.to_string();
            let said = said.split_once(": ").map_or(said.as_str(), |(_, said)| said);
            (at(m), format!("this is not YAML: {}", plain(said)))
        }
    };
    (line, column, text)
}

/// `; did you mean …?` with the nearest known name, if one is near.
fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let most = (wrong.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|name| (distance(wrong, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| format!("; did you mean `{}`?", plain(name)))
        .unwrap_or_default()
}

/// How many letters must be put in, left out, changed or swapped with the next (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests;
