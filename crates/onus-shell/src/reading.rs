//! A line read: its operations, and the canonical script that does exactly them.
//!
//! INVARIANT: every program that `/bin/sh` starts for [`Reading::script`] has the argument vector of one of
//! [`Reading::commands`]. The script holds single-quoted literals, `"$HOME"`, checked wildcards, and structure that
//! this file writes itself; no byte of the typed line is copied into it unquoted.

use crate::actions::{action_of, operation, raise, refuse};
use crate::classify::{Place, classify, object, path};
use crate::environment::{Scene, directory_word, exportable};
use crate::expand::{Value, fields, one};
use crate::parse::{
    Arrow, Atom, Command, Here, Item, Join, Kind, MAX_LINE, Pipeline, Redirect, Stop, Word, is_name, parse,
};
use crate::schemas::Schemas;
use crate::word::{Arg, HOME, WILD, canonical_into, display_into, forbidden};
use onus_core::operation::{Access, Class, Operation};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most commands that loops of one line may be unrolled to.
const MAX_UNROLLED: usize = 64;
/// The most commands of one line.
const MAX_COMMANDS: usize = 512;
/// How deep shell lines may be inside of shell lines (`sh -c "sh -c …"`).
const MAX_NESTED: usize = 6;
/// The longest canonical script, in bytes.
const MAX_SCRIPT: usize = 120 * 1024;

/// Reads lines against a set of schemas.
#[derive(Debug, Clone)]
pub struct Shell {
    schemas: Arc<Schemas>,
}

/// One simple command, for display and for comparison with what really ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simple {
    /// The final argument vector; the first is the program as it is started.
    pub argv: Vec<Arg>,
    /// The redirections as they are sent.
    pub redirects: Vec<String>,
}

/// What a line of only `cd`, assignments, `export` and `unset` changes for the lines after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// The new current directory, as [`Scene::cwd`] takes it, once the script has succeeded.
    pub cd: Option<String>,
    /// Variables with their new values; none for one that is unset.
    pub assigned: BTreeMap<String, Option<String>>,
    /// Exported variables with their new values; none for one that is unset.
    pub exported: BTreeMap<String, Option<String>>,
}

/// What a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What the line does. Never empty, except for a line without commands.
    pub operations: Vec<Operation>,
    /// The simple commands, in order of writing.
    pub commands: Vec<Simple>,
    /// The canonical text; none when the line as a whole can't be put into it. Then exactly one operation says so,
    /// and the others are only what was recognised on the way.
    pub script: Option<String>,
    /// The line goes on: an open quote, here-document or block, or an operator at the end.
    pub incomplete: bool,
    /// What changes for the governed shell; empty unless the line does nothing else.
    pub effects: Effects,
    /// A program of the line needs a terminal.
    pub needs_terminal: bool,
}

impl Shell {
    /// A reader with these schemas.
    pub fn new(schemas: Arc<Schemas>) -> Self {
        Self { schemas }
    }

    pub(crate) fn schemas(&self) -> &Schemas {
        &self.schemas
    }

    /// Reads one line (with its here-documents and blocks, several lines).
    ///
    /// Never fails: what can't be read is opaque. Bounded in time and stack for every input.
    pub fn read(&self, line: &[u8], scene: &Scene) -> Reading {
        if line.len() > MAX_LINE {
            return hopeless("a line longer than 64 KiB", false);
        }
        let Ok(text) = std::str::from_utf8(line) else { return hopeless("bytes that are no UTF-8", false) };
        let text = if text.contains('\r') { &text.replace("\r\n", "\n") } else { text };
        let text = text.strip_suffix('\r').unwrap_or(text);
        self.read_text(text, scene, 0, true)
    }

    /// Reads a line that another command runs (`sh -c`): without the variables, and without `~`, because the outer
    /// command may have changed both.
    pub(crate) fn nested(&self, text: &str, place: Place<'_>, depth: usize) -> Reading {
        if depth > MAX_NESTED {
            return hopeless("shell lines inside of shell lines too deeply", false);
        }
        let scene = Scene { home: place.home.map(str::to_owned), cwd: Some(place.cwd.to_owned()), ..Scene::default() };
        self.read_text(text, &scene, depth, false)
    }

    fn read_text(&self, text: &str, scene: &Scene, nesting: usize, home: bool) -> Reading {
        let mut tree = parse(text);
        if tree.stop == Some(Stop::Incomplete) {
            return hopeless("the line isn't complete", true);
        }
        let mut walk = Walk::new(self, scene, nesting, home, std::mem::take(&mut tree.heres));
        walk.list(&tree.items);
        if let Some(Stop::Refused(why)) = tree.stop {
            walk.whole.insert(why);
        }
        walk.into_reading()
    }
}

/// A reading of nothing but one opaque operation.
fn hopeless(why: &str, incomplete: bool) -> Reading {
    Reading {
        operations: vec![Operation::opaque(action_of(Class::Opaque), why)],
        commands: Vec::new(),
        script: None,
        incomplete,
        effects: Effects::default(),
        needs_terminal: false,
    }
}

/// What the evaluation knows at one place of the line.
#[derive(Clone, PartialEq, Eq)]
struct State {
    /// None for a value that depends on how commands end.
    variables: BTreeMap<String, Option<String>>,
    /// None when it depends on whether a `cd` worked.
    cwd: Option<String>,
}

/// Where a list stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
    /// A `cd` that fails may end the script.
    Plain,
    /// The status decides what happens next.
    Condition,
}

/// Builtins that change how later words are read, or run what they are given. A schema can't make them safe.
const UNSAFE_BUILTINS: &[(&str, &str)] = &[
    ("eval", "runs its words as a shell line"),
    (".", "runs a file in this shell"),
    ("source", "runs a file in this shell"),
    ("trap", "runs code later"),
    ("alias", "changes what later words mean"),
    ("unalias", "changes what later words mean"),
    ("builtin", "runs a builtin"),
    ("enable", "changes builtins"),
    ("hash", "changes where programs are found"),
    ("set", "changes the shell"),
    ("shopt", "changes the shell"),
    ("shift", "changes the parameters"),
    ("read", "sets variables from data"),
    ("mapfile", "sets variables from data"),
    ("readarray", "sets variables from data"),
    ("getopts", "sets variables from data"),
    ("let", "evaluates arithmetic"),
    ("declare", "evaluates array subscripts"),
    ("typeset", "evaluates array subscripts"),
    ("local", "sets variables of a function"),
    ("readonly", "changes variables for good"),
    ("fc", "runs history"),
    ("history", "reads and writes history"),
    ("bind", "runs code later"),
    ("complete", "runs code later"),
    ("compgen", "runs code"),
    ("compopt", "changes completion"),
    ("caller", "is for functions"),
    ("return", "leaves a function"),
    ("break", "leaves a loop"),
    ("continue", "leaves a loop"),
    ("logout", "ends a login"),
    ("suspend", "stops the shell"),
    ("disown", "changes jobs"),
    ("bg", "changes jobs"),
    ("fg", "changes jobs"),
    ("jobs", "knows only jobs of its own shell"),
    ("dirs", "changes the directory stack"),
    ("pushd", "changes the directory stack"),
    ("popd", "changes the directory stack"),
    ("chdir", "isn't in every shell"),
    ("coproc", "is a coprocess"),
    ("help", "is an interactive builtin"),
    ("times", "is about the shell"),
    ("ulimit", "changes the shell's limits"),
    ("umask", "changes what later files may be read by"),
    ("wait", "is about the shell's jobs"),
    ("function", "defines a function"),
];

/// Names whose value decides how the shell or programs behave: never assigned.
fn pinned(name: &str) -> bool {
    matches!(
        name,
        "PATH"
            | "IFS"
            | "HOME"
            | "ENV"
            | "SHELL"
            | "PWD"
            | "OLDPWD"
            | "CDPATH"
            | "PS1"
            | "PS2"
            | "PS3"
            | "PS4"
            | "USER"
            | "LOGNAME"
            | "OPTIND"
            | "OPTARG"
            | "OPTERR"
            | "PPID"
            | "UID"
            | "EUID"
            | "GROUPS"
            | "HOSTNAME"
            | "RANDOM"
            | "SECONDS"
            | "LINENO"
            | "SHELLOPTS"
            | "PROMPT_COMMAND"
            | "POSIXLY_CORRECT"
            | "GLOBIGNORE"
            | "FUNCNAME"
            | "DIRSTACK"
            | "PIPESTATUS"
            | "REPLY"
            | "_"
            | "IGNOREEOF"
            | "FCEDIT"
            | "EDITOR"
            | "VISUAL"
    ) || name.starts_with("LD_")
        || name.starts_with("BASH")
        || name.starts_with("GLIBC_")
        || name.starts_with("MALLOC_")
        || name.starts_with("HIST")
}

struct Walk<'a> {
    shell: &'a Shell,
    scene: &'a Scene,
    nesting: usize,
    /// Whether `$HOME` is the same for the shell that will run the script.
    home: bool,
    heres: Vec<Here>,
    state: State,
    out: String,
    /// Here-documents whose bodies come after the next newline of the script.
    pending: Vec<(String, String)>,
    here_count: usize,
    operations: Vec<Operation>,
    commands: Vec<Simple>,
    whole: BTreeSet<String>,
    around: Around,
    unrolling: bool,
    unrolled: usize,
    background: bool,
    pipeline: bool,
    terminal: bool,
    /// The line does nothing but change the shell.
    pure: bool,
    exported: BTreeMap<String, Option<String>>,
    /// The state after the last list, if all of it succeeded.
    success: Option<State>,
}

impl<'a> Walk<'a> {
    fn new(shell: &'a Shell, scene: &'a Scene, nesting: usize, home: bool, heres: Vec<Here>) -> Self {
        let cwd = scene.cwd.clone().unwrap_or_else(|| "~".to_owned());
        Self {
            shell,
            scene,
            nesting,
            home,
            heres,
            state: State {
                variables: scene.variables.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect(),
                cwd: Some(cwd),
            },
            out: String::new(),
            pending: Vec::new(),
            here_count: 0,
            operations: Vec::new(),
            commands: Vec::new(),
            whole: BTreeSet::new(),
            around: Around::Plain,
            unrolling: false,
            unrolled: 0,
            background: false,
            pipeline: false,
            terminal: false,
            pure: true,
            exported: BTreeMap::new(),
            success: None,
        }
    }

    fn into_reading(mut self) -> Reading {
        self.flush();
        if self.out.len() > MAX_SCRIPT {
            self.whole.insert("a script that becomes too long".to_owned());
        }
        if let Some(state) = self.success.take() {
            self.state = state;
        } else if self.pure && self.state.cwd.is_none() {
            self.refuse("a directory that depends on how a command ends");
        }
        let mut effects = Effects::default();
        let mut script = None;
        if self.whole.is_empty() {
            if self.pure {
                let before: BTreeMap<_, _> =
                    self.scene.variables.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
                for (name, value) in &self.state.variables {
                    if before.get(name) != Some(value) {
                        effects.assigned.insert(name.clone(), value.clone());
                    }
                }
                for name in before.keys().filter(|name| !self.state.variables.contains_key(*name)) {
                    effects.assigned.insert(name.clone(), None);
                }
                effects.exported = self.exported;
                let old = self.scene.cwd.as_deref().unwrap_or("~");
                effects.cd = self.state.cwd.filter(|cwd| cwd != old);
            }
            script = Some(self.out);
        } else {
            let mut operation = operation(Class::Opaque);
            operation.opaque = self.whole;
            self.operations.insert(0, operation);
        }
        Reading {
            operations: self.operations,
            commands: self.commands,
            script,
            incomplete: false,
            effects,
            needs_terminal: self.terminal,
        }
    }

    fn refuse(&mut self, why: impl Into<String>) {
        self.whole.insert(why.into());
    }

    // -- writing the script

    /// Writes the bodies of here-documents, if any wait, and says whether it did.
    fn flush(&mut self) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        self.out.push('\n');
        for (delimiter, body) in std::mem::take(&mut self.pending) {
            self.out.push_str(&body);
            self.out.push_str(&delimiter);
            self.out.push('\n');
        }
        true
    }

    /// Ends a list before a closing word.
    fn end_list(&mut self) {
        if !self.flush() {
            self.out.push_str(if self.out.ends_with('&') { " " } else { "; " });
        }
    }

    // -- structure

    fn list(&mut self, items: &[Item]) {
        for (at, item) in items.iter().enumerate() {
            if at > 0 && !self.flush() {
                self.out.push_str(if self.out.ends_with('&') { " " } else { "; " });
            }
            self.item(item);
        }
    }

    fn item(&mut self, item: &Item) {
        self.success = None;
        let before = self.state.clone();
        let outer_background = self.background;
        self.background |= item.background;
        let single = item.rest.is_empty() && !item.background;
        // `cd X || exit` guards by itself.
        let guarded = matches!(&item.rest[..], [(Join::Or, pipeline), ..] if is_exit(pipeline));
        let next = item.rest.first().map(|(join, _)| *join);
        self.pipeline(&item.first, if single { None } else { next.or(Some(Join::And)) });
        let first = self.state.clone();
        if next == Some(Join::Or) && !guarded && first.cwd != before.cwd {
            self.refuse("a directory that depends on how a command ends");
        }
        for (at, (join, pipeline)) in item.rest.iter().enumerate() {
            self.out.push_str(if *join == Join::And { " &&" } else { " ||" });
            if !self.flush() {
                self.out.push(' ');
            }
            self.pipeline(pipeline, Some(item.rest.get(at + 1).map_or(Join::And, |(join, _)| *join)));
        }
        if item.background {
            self.out.push_str(" &");
            self.pure = false;
            self.state = before;
        } else if !item.rest.is_empty() {
            // If everything succeeded, this is the state; what comes after in the line may not rely on it.
            if self.pure && item.rest.iter().all(|(join, _)| *join == Join::And) {
                self.success = Some(self.state.clone());
            }
            let mut merged = first.clone();
            merge(&mut merged, &self.state);
            if first.cwd != before.cwd && !guarded {
                merged.cwd = None;
            }
            self.state = merged;
        }
        self.background = outer_background;
    }

    fn pipeline(&mut self, pipeline: &Pipeline, next: Option<Join>) {
        if pipeline.negated {
            self.out.push_str("! ");
            self.pure = false;
        }
        let outer = self.pipeline;
        let many = pipeline.commands.len() > 1;
        self.pipeline |= many;
        if many {
            self.pure = false;
        }
        let before = self.state.clone();
        for (at, (command, errors_too)) in pipeline.commands.iter().enumerate() {
            if many {
                self.state = before.clone();
            }
            self.command(command, if many || pipeline.negated { Some(Join::Or) } else { next }, *errors_too);
            if at + 1 < pipeline.commands.len() {
                self.out.push_str(" |");
                if !self.flush() {
                    self.out.push(' ');
                }
            }
        }
        if many {
            self.state = before;
        } else if pipeline.negated && self.state.cwd != before.cwd {
            self.refuse("a directory that depends on how a command ends");
        }
        self.pipeline = outer;
    }

    fn block(&mut self, items: &[Item], around: Around) {
        let outer = std::mem::replace(&mut self.around, around);
        self.list(items);
        self.around = outer;
        self.end_list();
    }

    fn command(&mut self, command: &Command, next: Option<Join>, errors_too: bool) {
        if self.commands.len() >= MAX_COMMANDS || self.out.len() > MAX_SCRIPT {
            self.refuse("more commands than one line may have");
            return;
        }
        if !matches!(command.kind, Kind::Simple(_)) {
            self.pure = false;
        }
        match &command.kind {
            Kind::Simple(words) => return self.simple(words, &command.redirects, next, errors_too),
            Kind::Braces(items) => {
                self.out.push_str("{ ");
                self.block(items, self.around);
                self.out.push('}');
            }
            Kind::Subshell(items) => {
                let before = self.state.clone();
                self.out.push_str("( ");
                self.block(items, Around::Plain);
                self.out.push(')');
                self.state = before;
            }
            Kind::If(branches, otherwise) => {
                let mut ends: Vec<State> = Vec::new();
                for (at, (condition, body)) in branches.iter().enumerate() {
                    self.out.push_str(if at == 0 { "if " } else { "elif " });
                    self.block(condition, Around::Condition);
                    let decided = self.state.clone();
                    self.out.push_str("then ");
                    self.block(body, self.around);
                    ends.push(std::mem::replace(&mut self.state, decided));
                }
                if let Some(body) = otherwise {
                    self.out.push_str("else ");
                    self.block(body, self.around);
                }
                self.out.push_str("fi");
                for end in ends {
                    merge(&mut self.state, &end);
                }
            }
            Kind::While { until, condition, body } => {
                let before = self.state.clone();
                self.out.push_str(if *until { "until " } else { "while " });
                self.block(condition, Around::Condition);
                self.out.push_str("do ");
                self.block(body, self.around);
                self.out.push_str("done");
                if self.state != before {
                    self.refuse("a variable or directory that changes in a loop");
                    self.state = before;
                }
            }
            Kind::For { name, words, body } => self.unroll(name, words, body),
        }
        if errors_too || !command.redirects.is_empty() {
            let mut operation = operation(Class::Session);
            let mut written = Vec::new();
            for redirect in &command.redirects {
                self.redirect(redirect, &mut operation, &mut written);
            }
            if errors_too {
                written.push("2>&1".to_owned());
            }
            for text in &written {
                self.out.push(' ');
                self.out.push_str(text);
            }
            if !operation.objects.is_empty() {
                self.stated(&mut operation);
                self.operations.push(operation);
            }
        }
    }

    fn unroll(&mut self, name: &str, words: &[Word], body: &[Item]) {
        if pinned(name) {
            self.refuse(format!("the variable `{name}`"));
            return;
        }
        let mut values = Vec::new();
        for word in words {
            match self.fields(word) {
                Ok(fields) => values.extend(fields),
                Err(why) => self.refuse(why),
            }
        }
        if values.iter().any(|value| value.contains([HOME, WILD])) {
            self.refuse("a loop over words that only the host can expand");
            return;
        }
        let outer = std::mem::replace(&mut self.unrolling, true);
        self.out.push_str("{ ");
        if values.is_empty() {
            self.out.push_str("'true'; ");
        }
        for value in values {
            if self.unrolled > MAX_UNROLLED {
                self.refuse(format!("a loop of more than {MAX_UNROLLED} commands"));
                break;
            }
            self.state.variables.insert(name.to_owned(), Some(value));
            self.block(body, self.around);
        }
        self.out.push('}');
        self.unrolling = outer;
    }

    // -- words

    fn value(&self, name: &str) -> Value {
        match name {
            "HOME" if self.home => return Value::Home,
            "HOME" => return Value::Unknown("the home directory inside of another shell".to_owned()),
            "USER" | "LOGNAME" => {
                return match self.scene.user.as_ref().filter(|_| self.home) {
                    Some(user) => Value::Text(user.clone()),
                    None => Value::Unknown(format!("the value of `${name}`")),
                };
            }
            "PWD" => {
                return match self.state.cwd.as_deref() {
                    Some("~") if self.home => Value::Home,
                    Some(cwd) if cwd.starts_with('/') => Value::Text(cwd.to_owned()),
                    _ => Value::Unknown("the value of `$PWD`".to_owned()),
                };
            }
            _ => {}
        }
        match self.state.variables.get(name) {
            Some(Some(value)) => Value::Text(value.clone()),
            Some(None) => Value::Unknown(format!("a value of `${name}` that depends on how a command ends")),
            None => Value::Unknown(format!("the variable `${name}`, which has no value here")),
        }
    }

    fn fields(&self, word: &Word) -> Result<Vec<String>, String> {
        let fields = fields(word, &|name| self.value(name))?;
        if !self.home && fields.iter().any(|field| field.contains(HOME)) {
            return Err("the home directory inside of another shell".to_owned());
        }
        Ok(fields)
    }

    fn one(&self, word: &[Atom]) -> Result<String, String> {
        let text = one(word, &|name| self.value(name))?;
        if !self.home && text.contains(HOME) {
            return Err("the home directory inside of another shell".to_owned());
        }
        Ok(text)
    }

    // -- simple commands

    fn simple(&mut self, words: &[Word], redirects: &[Redirect], next: Option<Join>, errors_too: bool) {
        self.unrolled += usize::from(self.unrolling);
        let assignments = words.iter().take_while(|word| assignment(word).is_some()).count();
        let mut assigned: Vec<(String, String)> = Vec::new();
        for word in &words[..assignments] {
            let Some((name, value)) = assignment(word) else { continue };
            match (name.strip_suffix('+'), self.one(value)) {
                (Some(_), _) => self.refuse("an assignment that appends"),
                (None, Err(why)) => self.refuse(why),
                (None, Ok(value)) => {
                    // Later assignments of the same command may use earlier ones, differently in different shells.
                    assigned.push((name, value));
                }
            }
        }
        let mut argv: Vec<String> = Vec::with_capacity(words.len());
        let mut literal = true;
        for word in &words[assignments..] {
            match self.fields(word) {
                Ok(fields) => argv.extend(fields),
                Err(why) => {
                    self.refuse(if argv.is_empty() { format!("{why} as the program") } else { why });
                    literal = false;
                }
            }
        }
        if argv.is_empty() {
            if literal {
                if words.len() > assignments && assignments == 0 {
                    self.refuse("a command without a word");
                }
                self.bare(assigned, redirects, errors_too);
            }
            return;
        }
        if self.state.cwd.is_none() {
            self.refuse("a directory that depends on how a command ends");
        }
        if !literal {
            // Recognised only: it is part of the opaque whole.
            let mut operation = operation(Class::Opaque);
            operation.opaque.insert("a word that can't be known".to_owned());
            if !argv[0].contains([HOME, WILD]) && !matches!(words[assignments].first(), Some(Atom::Dynamic(_))) {
                operation.objects.insert(object(Access::Execute, "program", argv[0].clone()));
            }
            self.operations.push(operation);
            return;
        }
        if self.builtin(&mut argv, &assigned, redirects, next) {
            return;
        }
        self.pure = false;
        let place_cwd = self.state.cwd.clone().unwrap_or_else(|| "~".to_owned());
        let place = Place { cwd: &place_cwd, home: self.scene.home.as_deref() };
        let mut verdict = classify(self.shell, place, self.nesting, &mut argv);
        self.terminal |= verdict.terminal;
        if let Some(at) = (0..argv.len()).find(|at| argv[*at].contains(WILD) && !verdict.patterns.contains(at)) {
            let mut shown = String::new();
            display_into(&mut shown, &argv[at]);
            self.refuse(format!("the wildcard `{shown}` where it may become something else than paths"));
        }
        let mut prefix = String::new();
        let mut facts = BTreeSet::new();
        for (name, value) in &assigned {
            if exportable(name, value) {
                prefix.push_str(name);
                prefix.push('=');
                canonical_into(&mut prefix, value);
                prefix.push(' ');
                facts.insert(format!("env:{name}"));
            } else {
                self.refuse(format!("the variable `{name}` in a program's environment"));
            }
        }
        let mut opened = operation(Class::Session);
        let mut written = Vec::new();
        for redirect in redirects {
            self.redirect(redirect, &mut opened, &mut written);
        }
        if errors_too {
            written.push("2>&1".to_owned());
        }
        for operation in &mut verdict.operations {
            operation.facts.extend(facts.iter().cloned());
            self.stated(operation);
        }
        if let [operation] = &mut verdict.operations[..] {
            operation.objects.append(&mut opened.objects);
            operation.facts.append(&mut opened.facts);
            raise(operation, opened.class);
        } else if !opened.objects.is_empty() {
            self.stated(&mut opened);
            verdict.operations.push(opened);
        }
        self.operations.append(&mut verdict.operations);
        self.out.push_str(&prefix);
        self.write(argv, written);
    }

    /// Writes a simple command into the script and into the list of commands.
    fn write(&mut self, argv: Vec<String>, redirects: Vec<String>) {
        for (at, word) in argv.iter().enumerate() {
            if at > 0 {
                self.out.push(' ');
            }
            canonical_into(&mut self.out, word);
        }
        for text in &redirects {
            self.out.push(' ');
            self.out.push_str(text);
        }
        self.commands.push(Simple { argv: argv.into_iter().map(Arg).collect(), redirects });
    }

    fn stated(&self, operation: &mut Operation) {
        if self.background {
            operation.facts.insert("background".to_owned());
        }
        if self.pipeline {
            operation.facts.insert("pipeline".to_owned());
        }
    }

    /// A command without a program: assignments or redirections alone.
    fn bare(&mut self, assigned: Vec<(String, String)>, redirects: &[Redirect], errors_too: bool) {
        if !assigned.is_empty() && !redirects.is_empty() {
            self.refuse("an assignment with a redirection");
        }
        let mut operation = operation(Class::Session);
        for (name, value) in assigned {
            if pinned(&name) {
                self.refuse(format!("the variable `{name}`, which is pinned"));
                continue;
            }
            if value.contains(HOME) {
                self.refuse("the home directory in a variable");
                continue;
            }
            operation.objects.insert(object(Access::Write, "variable", name.clone()));
            self.state.variables.insert(name, Some(value));
        }
        let mut written = Vec::new();
        for redirect in redirects {
            self.redirect(redirect, &mut operation, &mut written);
            self.pure = false;
        }
        if errors_too {
            written.push("2>&1".to_owned());
        }
        self.out.push_str("'true'");
        for text in &written {
            self.out.push(' ');
            self.out.push_str(text);
        }
        self.stated(&mut operation);
        self.operations.push(operation);
        if !written.is_empty() {
            self.commands.push(Simple { argv: vec![Arg("true".to_owned())], redirects: written });
        }
    }

    /// What the shell itself does; false when the words name a program.
    fn builtin(
        &mut self,
        argv: &mut Vec<String>,
        assigned: &[(String, String)],
        redirects: &[Redirect],
        next: Option<Join>,
    ) -> bool {
        // `command ls` is `ls`; `exec ls` is `ls` and nothing after it.
        while argv[0] == "command" && argv.len() > 1 && !argv[1].starts_with('-') {
            argv.remove(0);
        }
        let name = argv[0].clone();
        if let Some((_, why)) = UNSAFE_BUILTINS.iter().find(|(known, _)| *known == name) {
            self.refuse(format!("`{name}` {why}"));
            let mut operation = operation(Class::Opaque);
            refuse(&mut operation, format!("`{name}` {why}"));
            operation.objects.insert(object(Access::Execute, "program", name));
            operation.objects.insert(object(Access::Execute, "command", crate::word::display(argv)));
            self.operations.push(operation);
            return true;
        }
        let trap = match name.as_str() {
            "printf" => {
                let options = argv.get(1).is_some_and(|word| word.starts_with('-') && word != "--");
                options || argv[1..].iter().take(2).any(|format| sets_variable(format))
            }
            "test" | "[" => argv[1..].iter().any(|word| matches!(word.as_str(), "-v" | "-R")),
            _ => false,
        };
        if trap {
            self.refuse(format!("`{name}` with the name of a variable"));
        }
        match name.as_str() {
            "cd" | "export" | "unset" | "exit" | ":" | "command" | "exec" => {}
            _ => return false,
        }
        if !assigned.is_empty() {
            self.refuse(format!("an assignment before `{name}`"));
            return true;
        }
        if !redirects.is_empty() && name != ":" {
            self.refuse(format!("a redirection of `{name}`"));
            return true;
        }
        let mut operation = operation(Class::Session);
        operation.objects.insert(object(Access::Execute, "program", name.clone()));
        operation.objects.insert(object(Access::Execute, "command", crate::word::display(argv)));
        self.stated(&mut operation);
        match name.as_str() {
            "cd" => self.change_directory(argv, &mut operation, next),
            "export" | "unset" => self.exports(argv, &name, &mut operation),
            ":" => {
                self.pure = false;
                let mut written = Vec::new();
                for redirect in redirects {
                    self.redirect(redirect, &mut operation, &mut written);
                }
                if argv.iter().any(|word| word.contains(WILD)) {
                    self.refuse("a wildcard that may become an option");
                }
                self.write(vec!["true".to_owned()], written);
            }
            "exit" => {
                self.pure = false;
                let status = argv.get(1).map_or("", String::as_str);
                if argv.len() > 2 || status.len() > 3 || !status.bytes().all(|c| c.is_ascii_digit()) {
                    self.refuse("`exit` with a status that is no number");
                }
                self.out.push_str("exit");
                if !status.is_empty() {
                    self.out.push(' ');
                    self.out.push_str(status);
                }
            }
            "command" => {
                self.pure = false;
                let words = argv.get(2..).unwrap_or(&[]);
                let fine = matches!(argv.get(1).map(String::as_str), Some("-v" | "-V"))
                    && words.len() == 1
                    && !words[0].contains([HOME, WILD])
                    && !words[0].starts_with('-');
                if !fine {
                    self.refuse("`command` with these options");
                }
                raise(&mut operation, Class::Read);
                self.out.push_str("command ");
                let rest: Vec<String> = argv[1..].to_vec();
                for (at, word) in rest.iter().enumerate() {
                    if at > 0 {
                        self.out.push(' ');
                    }
                    canonical_into(&mut self.out, word);
                }
            }
            "exec" => {
                self.refuse("`exec`, after which nothing of the line runs");
            }
            _ => {}
        }
        self.operations.push(operation);
        true
    }

    fn change_directory(&mut self, argv: &[String], operation: &mut Operation, next: Option<Join>) {
        let words: &[String] = match argv.get(1).map(String::as_str) {
            Some("--") => &argv[2..],
            _ => &argv[1..],
        };
        let word = match words {
            [] => HOME.to_string(),
            [word] => word.clone(),
            _ => {
                self.refuse("`cd` with several words");
                return;
            }
        };
        if word.starts_with('-') || word.is_empty() || word.contains(WILD) {
            self.refuse("`cd` to a directory that only the shell knows");
            return;
        }
        if !self.home && word.contains(HOME) {
            self.refuse("the home directory inside of another shell");
            return;
        }
        let Some(cwd) = self.state.cwd.clone() else {
            self.refuse("a directory that depends on how a command ends");
            return;
        };
        let target = match path(Place { cwd: &cwd, home: None }, &word) {
            Ok(target) => logical(&target.name),
            Err(why) => {
                self.refuse(why);
                return;
            }
        };
        // Under another user's shell `$HOME` would be another directory.
        if !self.home && target.starts_with('~') {
            self.refuse("the home directory inside of another shell");
            return;
        }
        if let Ok(shown) = path(Place { cwd: &cwd, home: self.scene.home.as_deref() }, &word) {
            if shown.dotdot {
                operation.facts.insert("dotdot".to_owned());
            }
            operation.objects.insert(object(Access::Read, "path", shown.name));
        }
        // The target is written out whole: where a relative one leads is what was just decided.
        self.out.push_str("cd -- ");
        let word = directory_word(Some(&target));
        canonical_into(&mut self.out, &word);
        match (next, self.around) {
            (_, Around::Condition) => self.refuse("a `cd` in a condition"),
            (Some(_), _) => {}
            // INVARIANT: no command runs in a directory that wasn't reached.
            (None, Around::Plain) => self.out.push_str(" || exit 1"),
        }
        self.state.cwd = Some(target);
    }

    fn exports(&mut self, argv: &[String], name: &str, operation: &mut Operation) {
        if argv.len() == 1 || self.pipeline || self.background || self.around == Around::Condition {
            self.refuse(format!("`{name}` here"));
            return;
        }
        self.out.push_str(name);
        for word in &argv[1..] {
            let (variable, value) = match word.split_once('=') {
                Some((variable, value)) => (variable, Some(value.to_owned())),
                None => (word.as_str(), self.state.variables.get(word).cloned().flatten()),
            };
            if !is_name(variable) || (name == "unset" && word.contains('=')) {
                self.refuse(format!("`{name}` of something that is no variable"));
                continue;
            }
            operation.objects.insert(object(Access::Write, "variable", variable.to_owned()));
            if name == "unset" {
                if pinned(variable) {
                    self.refuse(format!("the variable `{variable}`, which is pinned"));
                }
                self.state.variables.remove(variable);
                self.exported.insert(variable.to_owned(), None);
                self.out.push(' ');
                canonical_into(&mut self.out, variable);
                continue;
            }
            match value.filter(|value| exportable(variable, value)) {
                Some(value) => {
                    self.out.push(' ');
                    self.out.push_str(variable);
                    self.out.push('=');
                    canonical_into(&mut self.out, &value);
                    self.state.variables.insert(variable.to_owned(), Some(value.clone()));
                    self.exported.insert(variable.to_owned(), Some(value));
                }
                None => self.refuse(format!("the variable `{variable}` in a program's environment")),
            }
        }
    }

    // -- redirections

    fn redirect(&mut self, redirect: &Redirect, operation: &mut Operation, written: &mut Vec<String>) {
        operation.facts.insert("redirect".to_owned());
        let fd = redirect.fd.map(|fd| fd.to_string()).unwrap_or_default();
        if let Arrow::Here(index) = redirect.arrow {
            let body = self.heres[index].body.clone();
            return self.here(&fd, &body, "", written);
        }
        if redirect.arrow == Arrow::HereString {
            let word = redirect.target.clone();
            return self.here(&fd, &word, "\n", written);
        }
        let target = match self.fields(&redirect.target) {
            Ok(fields) if fields.len() == 1 => fields.into_iter().next().unwrap_or_default(),
            Ok(_) => return self.refuse("a redirection to several words"),
            Err(why) => return self.refuse(why),
        };
        if target.contains(WILD) {
            return self.refuse("a redirection to a wildcard");
        }
        let digit = target.len() == 1 && target.bytes().all(|c| c.is_ascii_digit());
        let (arrow, access, both) = match redirect.arrow {
            Arrow::DupIn | Arrow::DupOut if digit || target == "-" => {
                let arrow = if redirect.arrow == Arrow::DupIn { "<&" } else { ">&" };
                written.push(format!("{fd}{arrow}{target}"));
                return;
            }
            // The old spelling of `&>`.
            Arrow::DupOut
                if redirect.fd.is_none() && !target.bytes().any(|c| c.is_ascii_digit() && target.len() < 3) =>
            {
                (">", Access::Write, true)
            }
            Arrow::DupIn | Arrow::DupOut => return self.refuse("a descriptor that is no digit"),
            Arrow::In => ("<", Access::Read, false),
            Arrow::Out => (">", Access::Write, false),
            Arrow::Append => (">>", Access::Write, false),
            Arrow::Clobber => (">|", Access::Write, false),
            Arrow::Both => ("<>", Access::Write, false),
            Arrow::OutAll => (">", Access::Write, true),
            Arrow::AppendAll => (">>", Access::Write, true),
            Arrow::Here(_) | Arrow::HereString => return,
        };
        if target.contains("/dev/tcp") || target.contains("/dev/udp") {
            return self.refuse("a redirection to the network");
        }
        if target.is_empty() {
            return self.refuse("a redirection to an empty word");
        }
        let Some(cwd) = self.state.cwd.clone() else {
            return self.refuse("a directory that depends on how a command ends");
        };
        match path(Place { cwd: &cwd, home: self.scene.home.as_deref() }, &target) {
            Err(why) => return self.refuse(why),
            Ok(path) => {
                if path.dotdot {
                    operation.facts.insert("dotdot".to_owned());
                }
                if path.name != "/dev/null" {
                    if redirect.arrow == Arrow::Both {
                        operation.objects.insert(object(Access::Read, "path", path.name.clone()));
                    }
                    operation.objects.insert(object(access, "path", path.name));
                    raise(operation, if access == Access::Read { Class::Read } else { Class::Write });
                }
            }
        }
        let mut text = format!("{fd}{arrow} ");
        canonical_into(&mut text, &target);
        written.push(text);
        if both {
            written.push("2>&1".to_owned());
        }
    }

    fn here(&mut self, fd: &str, word: &Word, end: &str, written: &mut Vec<String>) {
        let mut body = String::new();
        // In a here-document nothing is special but what the parser already took apart.
        let plain = word.first() != Some(&Atom::Char('~', false)) || end.is_empty();
        let text = if plain {
            let mut text = String::new();
            let mut problem = None;
            for atom in word {
                match atom {
                    Atom::Char(c, _) => text.push(*c),
                    Atom::Quotes => {}
                    Atom::Variable(name, _) => match self.value(name) {
                        Value::Text(value) => text.push_str(&value),
                        Value::Home => problem = Some("the home directory in a here-document".to_owned()),
                        Value::Unknown(why) => problem = Some(why),
                    },
                    Atom::Dynamic(why) => problem = Some(why.to_string()),
                }
            }
            match (problem, text.chars().find_map(forbidden)) {
                (Some(why), _) | (None, Some(why)) => Err(why),
                (None, None) => Ok(text),
            }
        } else {
            Err("the home directory in a here-string".to_owned())
        };
        match text {
            Ok(text) => body.push_str(&text),
            Err(why) => return self.refuse(why),
        }
        body.push_str(end);
        let delimiter = loop {
            let candidate = format!("ONUS_{}", self.here_count);
            self.here_count += 1;
            if !body.contains(&candidate) {
                break candidate;
            }
            if self.here_count > 10_000 {
                return self.refuse("a here-document without a free delimiter");
            }
        };
        written.push(format!("{fd}<<'{delimiter}'"));
        self.pending.push((delimiter, body));
    }
}

/// The current directory after `cd`: the shell takes `..` away by name, not by link.
fn logical(name: &str) -> String {
    if !name.contains("..") {
        return name.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/').filter(|part| !part.is_empty()) {
        // Above the home directory nothing has a name here.
        if part == ".." && parts.last().is_some_and(|last| *last != ".." && *last != "~") {
            parts.pop();
        } else if part != ".." || parts.first() == Some(&"~") {
            parts.push(part);
        }
    }
    let joined = parts.join("/");
    if joined.starts_with('~') && !name.starts_with('/') { joined } else { format!("/{joined}") }
}

/// Keeps only what is the same on both ways.
fn merge(into: &mut State, other: &State) {
    for name in other.variables.keys() {
        into.variables.entry(name.clone()).or_insert(None);
    }
    for (name, value) in &mut into.variables {
        if other.variables.get(name) != Some(value) {
            *value = None;
        }
    }
    if into.cwd != other.cwd {
        into.cwd = None;
    }
}

/// Whether a format has `%n`, with which some shells' `printf` sets the variable that the next word names.
fn sets_variable(format: &str) -> bool {
    format.split('%').skip(1).any(|rest| {
        rest.trim_start_matches(|c: char| !c.is_ascii_alphabetic() || "hlLjzt".contains(c)).starts_with('n')
    })
}

fn is_exit(pipeline: &Pipeline) -> bool {
    let [(command, _)] = &pipeline.commands[..] else { return false };
    let Kind::Simple(words) = &command.kind else { return false };
    let literal = |text: &str, word: &Word| {
        word.len() == text.len() && word.iter().zip(text.chars()).all(|(atom, c)| *atom == Atom::Char(c, false))
    };
    !pipeline.negated && command.redirects.is_empty() && words.first().is_some_and(|word| literal("exit", word))
}

/// Name and value, when a word is an assignment; a name with `+` appends.
fn assignment(word: &Word) -> Option<(String, &[Atom])> {
    let mut name = String::new();
    for (at, atom) in word.iter().enumerate() {
        match atom {
            Atom::Char('=', false) => {
                let bare = name.strip_suffix('+').unwrap_or(&name);
                return is_name(bare).then(|| (name.clone(), &word[at + 1..]));
            }
            Atom::Char(c, false) if c.is_ascii_alphanumeric() || *c == '_' || *c == '+' => name.push(*c),
            _ => return None,
        }
    }
    None
}
