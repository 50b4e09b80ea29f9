//! A final argument vector held against the schemas: which operation it is, on what, or why it can't be known.
//!
//! Everything that a schema doesn't list ends in an opaque operation with the reason. What this file does not do:
//! look at the text of the line, at redirections, or at the order of commands.

use crate::actions::{operation, raise, refuse};
use crate::environment::{PATH, exportable};
use crate::parse::is_name;
use crate::reading::Shell;
use crate::schemas::{Count, Meaning, Node, Slot, Spelling, Unseen, When};
use crate::word::{HOME, WILD, display, display_into};
use onus_core::operation::{Access, Class, Object, Operation};
use std::collections::BTreeSet;

/// How deep commands may be inside of commands (`sudo nice timeout …`).
const MAX_DEPTH: usize = 8;
/// From how many places `find` may start and run commands. Inside of other commands it is one: each level multiplies.
const MAX_STARTS: usize = 8;

/// Where the argument vector would run.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Absolute, or `~…`.
    pub cwd: &'a str,
    pub home: Option<&'a str>,
}

/// What an outer command (`sudo`, `timeout`) says about the inner one.
#[derive(Default, Clone)]
struct Outer {
    class: Option<Class>,
    facts: BTreeSet<String>,
    objects: BTreeSet<Object>,
    reasons: BTreeSet<String>,
    /// Words follow that nobody has seen, or stand where this word does.
    appended: bool,
    /// What stands before the command, where it can't be told what the command is without it.
    before: Option<String>,
    depth: usize,
}

/// What one simple command turned out to be.
#[derive(Default)]
pub(crate) struct Verdict {
    pub operations: Vec<Operation>,
    pub terminal: bool,
    /// The words whose wildcards stand where only paths can.
    pub patterns: BTreeSet<usize>,
}

/// Names the operations of an argument vector; inner shell lines in it are rewritten to their canonical form.
pub(crate) fn classify(shell: &Shell, place: Place<'_>, nesting: usize, argv: &mut [String]) -> Verdict {
    let mut verdict = Verdict::default();
    let outer = Outer { depth: nesting, ..Outer::default() };
    Run { shell, place, verdict: &mut verdict, found: None }.command(argv, 0, outer);
    verdict
}

/// A path as policies see it: absolute or `~…`, without `.` and doubled slashes; `..` stays, because what it means
/// depends on symbolic links.
pub(crate) struct Path {
    pub name: String,
    pub dotdot: bool,
    pub glob: bool,
    pub relative: bool,
}

pub(crate) fn path(place: Place<'_>, word: &str) -> Result<Path, String> {
    let base = |cwd: &str| match (cwd.strip_prefix('~'), place.home) {
        (Some(rest), Some(home)) => format!("{home}{rest}"),
        _ => cwd.to_owned(),
    };
    let (start, rest, relative) = match word.strip_prefix(HOME) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => (base("~"), rest, false),
        Some(_) => return Err("the home directory in the middle of a path".to_owned()),
        None if word.starts_with('/') => (String::new(), word, false),
        None => (base(place.cwd), word, true),
    };
    if rest.contains(HOME) {
        return Err("the home directory in the middle of a path".to_owned());
    }
    let mut name = String::with_capacity(start.len() + rest.len() + 1);
    let mut dotdot = false;
    for (at, part) in start.split('/').chain(rest.split('/')).enumerate() {
        match part {
            "" | "." => continue,
            ".." => dotdot = true,
            _ => {}
        }
        if !(at == 0 && part.starts_with('~') && start.starts_with('~')) {
            name.push('/');
        }
        name.extend(part.chars().filter(|c| *c != WILD));
    }
    if name.is_empty() {
        name.push('/');
    }
    Ok(Path { name, dotdot, glob: rest.contains(WILD), relative })
}

/// The program that a command word names: its bare name when it lies where bare names are looked up.
fn program(place: Place<'_>, word: &str) -> (String, bool) {
    if word.contains([HOME, WILD]) || !word.contains('/') {
        if !word.contains([HOME, WILD]) {
            return (word.to_owned(), true);
        }
        let mut shown = String::new();
        display_into(&mut shown, word);
        return (shown, false);
    }
    if let Some((directory, name)) = word.rsplit_once('/')
        && PATH.split(':').any(|known| known == directory)
        && !name.is_empty()
    {
        return (name.to_owned(), true);
    }
    (path(place, word).map_or_else(|_| word.to_owned(), |path| path.name), false)
}

struct Run<'a, 'v> {
    shell: &'a Shell,
    place: Place<'a>,
    verdict: &'v mut Verdict,
    /// The word that stands for a file that `find` found, and whether each run gets exactly one.
    found: Option<(&'a str, bool)>,
}

/// What is being found out about one command.
struct Draft<'n> {
    chain: Vec<&'n Node>,
    options: BTreeSet<String>,
    option_count: usize,
    facts: BTreeSet<String>,
    /// Objects whose access is fixed by their kind.
    objects: BTreeSet<Object>,
    /// Kind and name of things whose access is that of the operation's class.
    named: Vec<(String, String)>,
    class: Option<Class>,
    reasons: BTreeSet<String>,
    user: Option<String>,
    /// The program changes its directory first.
    moved: bool,
    relative: bool,
    /// Where it goes, and the index of the word that says so.
    directory: Option<(String, usize)>,
    /// What relative paths are relative to, where that isn't the current directory.
    base: Option<String>,
    /// The index of the word that is being read.
    at: usize,
    /// Values whose meaning depends on the other options: option, usual meaning, text.
    late: Vec<(std::sync::Arc<str>, Meaning, String)>,
    placeholder: Option<String>,
    /// Inner commands, as ranges of the argument vector, and whether words are appended.
    inner: Vec<(usize, usize, Inner)>,
    shell_words: Vec<(usize, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inner {
    Fixed,
    Appended,
    Until,
}

impl<'n> Draft<'n> {
    fn new(node: &'n Node) -> Self {
        Self {
            chain: vec![node],
            options: BTreeSet::new(),
            option_count: 0,
            facts: BTreeSet::new(),
            objects: BTreeSet::new(),
            named: Vec::new(),
            class: None,
            reasons: BTreeSet::new(),
            user: None,
            moved: false,
            relative: false,
            directory: None,
            base: None,
            at: 0,
            late: Vec::new(),
            placeholder: None,
            inner: Vec::new(),
            shell_words: Vec::new(),
        }
    }

    fn last(&self) -> &'n Node {
        self.chain[self.chain.len() - 1]
    }

    fn find(&self, spelling: &str) -> Option<&'n Spelling> {
        self.chain.iter().rev().find_map(|node| node.spellings.get(spelling))
    }

    fn raise(&mut self, class: Class) {
        self.class = self.class.max(Some(class));
    }

    fn refuse(&mut self, why: impl Into<String>) {
        self.reasons.insert(why.into());
    }

    fn given(&mut self, spelling: &Spelling) {
        self.option_count += 1;
        // `xargs -i` without a word means this one.
        if spelling.value == Some(Meaning::Placeholder) && spelling.attached {
            self.placeholder = Some("{}".to_owned());
        }
        if spelling.canonical.as_ref() == "--recursive" {
            self.facts.insert("recursive".to_owned());
        }
        self.facts.insert(format!("option:{}", spelling.canonical));
        self.options.insert(spelling.canonical.to_string());
    }
}

fn shown(word: &str) -> String {
    let mut out = String::new();
    display_into(&mut out, word);
    out
}

impl Run<'_, '_> {
    /// Classifies `argv`, which begins `offset` words into the whole vector.
    fn command(&mut self, argv: &mut [String], offset: usize, mut outer: Outer) {
        let Some(word) = argv.first().cloned() else { return };
        let (name, known_place) = program(self.place, &word);
        let node = if known_place { self.shell.schemas().find(&name) } else { None };
        if outer.depth > MAX_DEPTH {
            outer.reasons.insert("commands inside of commands too deeply".to_owned());
        }
        let Some(node) = node.filter(|_| outer.depth <= MAX_DEPTH) else {
            if outer.depth <= MAX_DEPTH {
                outer.reasons.insert(format!("`{name}` has no schema"));
            }
            self.finish(argv, &name, Class::Opaque, Draft::new(&NOTHING), outer);
            return;
        };
        let mut draft = Draft::new(node);
        if node.free {
            if let Some((found, _)) = self.found {
                let words = argv.iter().enumerate().filter(|(_, word)| word.contains(found));
                self.verdict.patterns.extend(words.map(|(at, _)| offset + at));
            }
            self.verdict.terminal |= node.terminal;
            let class = node.class.unwrap_or(Class::Opaque);
            if class == Class::Opaque || node.opaque.is_some() {
                let why = node.opaque.clone();
                draft.refuse(why.unwrap_or_else(|| format!("`{name}` can run other programs or code")));
            }
            self.finish(argv, &name, class, draft, outer);
            return;
        }
        let positionals = self.options(argv, &mut draft, &name);
        let class = self.operands(argv, offset, &mut draft, &positionals, &name, outer.appended);
        self.verdict.terminal |= draft.chain.iter().any(|node| node.terminal);
        for node in draft.chain.clone() {
            draft.facts.extend(node.facts.iter().cloned());
        }
        if draft.facts.contains("sudo") {
            let user = draft.user.clone().unwrap_or_else(|| "root".to_owned());
            draft.facts.insert(format!("as:{user}"));
        }
        if draft.moved && draft.relative {
            draft.refuse(format!("a relative path of `{name}` after a change of its directory"));
        }
        let class = class.max(draft.class.unwrap_or(Class::Session));
        let shells = std::mem::take(&mut draft.shell_words);
        let inner = std::mem::take(&mut draft.inner);
        if (!inner.is_empty() || !shells.is_empty()) && draft.moved {
            draft.refuse(format!("a command that `{name}` runs in another directory"));
        }
        if inner.is_empty() && shells.is_empty() {
            self.finish(argv, &name, class, draft, outer);
            return;
        }
        // An outer command that isn't known stands for itself too: permitting the inner one is not permitting it.
        if !draft.reasons.is_empty() {
            let mut own = Draft::new(node);
            own.chain.clone_from(&draft.chain);
            own.facts.clone_from(&draft.facts);
            own.objects.clone_from(&draft.objects);
            own.reasons.clone_from(&draft.reasons);
            self.finish(argv, &name, class, own, outer.clone());
        }
        // What is around a command becomes part of what is said about it.
        let mut around = outer;
        let (appended, before) = (around.appended, around.before.take());
        around.depth += 1;
        around.appended = false;
        around.class = around.class.max(Some(class));
        around.facts.extend(std::mem::take(&mut draft.facts));
        around.facts.insert(format!("through:{name}"));
        around.objects.extend(std::mem::take(&mut draft.objects));
        let access = access_of(class);
        around.objects.extend(draft.named.drain(..).map(|(kind, name)| object(access, &kind, name)));
        around.reasons.extend(std::mem::take(&mut draft.reasons));
        for (from, to) in shells {
            self.shell_line(argv, from, to, &around);
        }
        for (from, to, kind) in inner {
            match kind {
                Inner::Fixed => {
                    let mut around = around.clone();
                    around.appended = appended;
                    around.before = before.as_ref().map(|before| format!("{before} {}", display(&argv[..from])));
                    self.command(&mut argv[from..to], offset + from, around);
                }
                Inner::Appended => {
                    self.unseen_words(argv, offset, (from, to), node, &draft.placeholder, around.clone())
                }
                Inner::Until => self.each_file(argv, offset, from, to, &positionals, around.clone()),
            }
        }
    }

    /// `xargs COMMAND`: words that nobody has seen come behind the command's, or in place of a word.
    fn unseen_words(
        &mut self,
        argv: &mut [String],
        offset: usize,
        (from, to): (usize, usize),
        outer: &Node,
        placeholder: &Option<String>,
        mut around: Outer,
    ) {
        let certain = |word: &str| placeholder.as_ref().is_none_or(|part| !word.contains(part.as_str()));
        // `sudo` with nothing before its command is as certain as the command itself.
        let plain = |word: &String| !word.starts_with('-') && !word.contains('=') && certain(word);
        let first = match argv.get(from + 1).filter(|word| to > from + 1 && argv[from] == "sudo" && plain(word)) {
            Some(_) if certain("sudo") => from + 1,
            _ => from,
        };
        let (name, known) = program(self.place, &argv[first]);
        let mut inner = self.shell.schemas().find(&name).filter(|_| known && certain(&argv[first]));
        for word in &argv[first + 1..to] {
            match inner.and_then(|node| node.subs.iter().find(|sub| sub.names.contains(word) && certain(word))) {
                Some(sub) => inner = Some(sub),
                None => break,
            }
        }
        around.appended = true;
        // The command alone isn't what runs, so a policy that knows it must not take this for it.
        let before = display(&argv[..from]);
        match inner.and_then(|node| node.unseen) {
            Some(unseen) => {
                let (class, access, kind) = match unseen {
                    Unseen::Reads => (Class::Read, Access::Read, "path"),
                    Unseen::Writes => (Class::Write, Access::Write, "path"),
                    Unseen::Administers => (Class::Administer, Access::Administer, "path"),
                    Unseen::Signals => (Class::Administer, Access::Administer, "process"),
                };
                around.objects.insert(object(access, kind, "*".to_owned()));
                if kind == "path" {
                    around.objects.insert(object(Access::Read, "path", "*".to_owned()));
                    // The unseen words may be options too.
                    around.facts.insert("recursive".to_owned());
                }
                around.class = around.class.max(Some(class));
                around.facts.insert("appended".to_owned());
                around.before = Some(before);
            }
            None => {
                let (wrapper, _) = program(self.place, &argv[0]);
                let why = format!("words that `{wrapper}` appends can't be known");
                let mut own = Draft::new(outer);
                own.reasons.insert(why.clone());
                self.finish(argv, &wrapper, Class::Opaque, own, around.clone());
                around.reasons.insert(why);
            }
        }
        self.command(&mut argv[from..to], offset + from, around);
    }

    /// `find START -exec … {} ;`: the command for each start itself, and for what lies below it.
    fn each_file(
        &mut self,
        argv: &mut [String],
        offset: usize,
        from: usize,
        to: usize,
        positionals: &[usize],
        mut around: Outer,
    ) {
        let mut starts: Vec<String> = positionals.iter().map(|at| argv[*at].clone()).collect();
        if starts.is_empty() {
            starts.push("./".to_owned());
        }
        if starts.len() > if around.depth <= 2 { MAX_STARTS } else { 1 } {
            around.reasons.insert("a command for files from many places".to_owned());
            starts.truncate(1);
        }
        around.facts.insert("recursive".to_owned());
        // A part of a word is sound where the word can be no option whatever is found.
        let odd = |(at, word): (usize, &String)| {
            let plain = word.starts_with("{}") || word.starts_with('/') || word.starts_with("./");
            word.contains("{}") && (at == 0 || !plain || word.matches("{}").count() > 1)
        };
        if argv[from..to].iter().enumerate().any(odd) {
            around.reasons.insert("a found file's name as a part of a word".to_owned());
        }
        // `;` runs the command once for each file, `+` with many at once.
        let single = argv.get(to).is_some_and(|end| end == ";");
        let template: Vec<String> = argv[from..to].to_vec();
        for start in starts {
            let below = format!("{}/{WILD}*{WILD}*", start.trim_end_matches('/'));
            let (mut operations, patterns, inner) = self.with_found(&template, &below, single, &around);
            let (own, _, _) = self.with_found(&template, &start, single, &around);
            let found: Vec<usize> = (1..template.len()).filter(|at| template[*at].contains("{}")).collect();
            let unseen = found.iter().any(|at| !patterns.contains(at));
            let same = own.len() == operations.len();
            for (at, operation) in operations.iter_mut().enumerate() {
                if unseen || !same {
                    refuse(operation, "a found file's name where no path is expected".to_owned());
                    continue;
                }
                let own = &own[at];
                raise(operation, own.class);
                operation.objects.extend(own.objects.iter().filter(|object| object.kind != "command").cloned());
                operation.facts.extend(own.facts.iter().cloned());
                operation.opaque.extend(own.opaque.iter().cloned());
            }
            for (at, word) in inner.into_iter().enumerate() {
                if !found.contains(&at) {
                    if patterns.contains(&at) {
                        self.verdict.patterns.insert(offset + from + at);
                    }
                    argv[from + at] = word;
                }
            }
            self.verdict.operations.append(&mut operations);
        }
    }

    /// The command with one word in place of each `{}`: its operations, which words are wildcards for paths, and
    /// the words as they are sent.
    fn with_found(
        &mut self,
        template: &[String],
        found: &str,
        single: bool,
        around: &Outer,
    ) -> (Vec<Operation>, BTreeSet<usize>, Vec<String>) {
        let mut inner: Vec<String> = template.to_vec();
        for word in inner.iter_mut().skip(1) {
            *word = word.replace("{}", found);
        }
        let mut verdict = Verdict::default();
        Run { shell: self.shell, place: self.place, verdict: &mut verdict, found: Some((found, single)) }.command(
            &mut inner,
            0,
            around.clone(),
        );
        self.verdict.terminal |= verdict.terminal;
        (verdict.operations, verdict.patterns, inner)
    }

    /// A word that is itself a shell line (`sh -c`), or several that are joined to one (`watch`).
    fn shell_line(&mut self, argv: &mut [String], from: usize, to: usize, around: &Outer) {
        let line = argv[from..to].iter().map(|word| shown(word)).collect::<Vec<_>>().join(" ");
        let refuse_all = |verdict: &mut Verdict, why: String| {
            let mut operation = operation(Class::Opaque);
            operation.objects.insert(object(Access::Execute, "program", "sh".to_owned()));
            operation.objects.insert(object(Access::Execute, "command", line.clone()));
            refuse(&mut operation, why);
            close(&mut operation, around);
            verdict.operations.push(operation);
        };
        let text = argv[from..to].join(" ");
        if text.contains([HOME, WILD]) {
            refuse_all(self.verdict, "a shell line with parts that another shell expands".to_owned());
            return;
        }
        let reading = self.shell.nested(&text, self.place, around.depth);
        let script = match reading.script {
            Some(script) if to - from == 1 => {
                argv[from] = script;
                None
            }
            // Several words stay as they are when joining and splitting them again gives the same words.
            Some(_) if reading.commands.len() == 1 => {
                let same = reading.commands[0].redirects.is_empty()
                    && reading.commands[0]
                        .argv
                        .iter()
                        .map(crate::word::Arg::display)
                        .eq(argv[from..to].iter().cloned());
                (!same).then(|| "a shell line made of several words".to_owned())
            }
            Some(_) => Some("a shell line made of several words".to_owned()),
            None => Some("a shell line that can't be resolved".to_owned()),
        };
        if let Some(why) = script {
            refuse_all(self.verdict, why);
        }
        self.verdict.terminal |= reading.needs_terminal;
        for mut operation in reading.operations {
            close(&mut operation, around);
            self.verdict.operations.push(operation);
        }
    }

    /// Goes through the options; gives back the indexes of the operands.
    fn options(&mut self, argv: &mut [String], draft: &mut Draft<'_>, name: &str) -> Vec<usize> {
        let mut positionals: Vec<usize> = Vec::new();
        let mut open = true;
        let mut at = 1;
        // A subcommand is the first operand of the command that has it.
        let mut choosing = !draft.last().subs.is_empty();
        while at < argv.len() {
            let word = argv[at].clone();
            let index = at;
            at += 1;
            draft.at = index;
            let node = draft.last();
            if !open {
                positionals.push(index);
                continue;
            }
            if node.stop.as_deref() == Some(word.as_str()) {
                open = false;
                continue;
            }
            let bundle = index == 1 && node.dashless_first && !word.starts_with('-') && !word.is_empty();
            let optionish = word.len() > 1 && word.starts_with('-');
            let exact = draft.find(&word);
            if !bundle && !optionish && exact.is_none() {
                if choosing {
                    if let Some(sub) = node.subs.iter().find(|sub| sub.names.contains(&word)) {
                        draft.chain.push(sub);
                        choosing = !sub.subs.is_empty();
                        let words: Vec<&str> = draft.chain[1..].iter().map(|node| node.names[0].as_str()).collect();
                        let mut path = words.join(" ");
                        if draft.chain.len() == 2 {
                            path.clone_from(&word);
                        }
                        draft.facts.insert(format!("subcommand:{path}"));
                        continue;
                    }
                    choosing = false;
                    if node.args.is_none() {
                        draft.refuse(format!("`{name}` has no known subcommand `{}`", shown(&word)));
                    }
                }
                positionals.push(index);
                if node.options_first {
                    open = false;
                }
                continue;
            }
            if bundle {
                at = self.bundle(argv, draft, name, &word, at, true);
                continue;
            }
            if let Some(spelling) = exact {
                let spelling = spelling.clone();
                draft.given(&spelling);
                match &spelling.value {
                    Some(meaning) if !spelling.flag => {
                        if *meaning == Meaning::CommandUntil {
                            let end = argv[at..].iter().position(|word| word == ";" || word == "+");
                            match end {
                                Some(len) if len > 0 => {
                                    if spelling.canonical.contains("dir") {
                                        draft.refuse(format!("a command that `{name}` runs in each directory"));
                                    }
                                    draft.inner.push((at, at + len, Inner::Until));
                                    at += len + 1;
                                }
                                _ => draft.refuse(format!("`{word}` of `{name}` without its end")),
                            }
                            continue;
                        }
                        if at < argv.len() {
                            self.value(argv, draft, name, meaning, Taken::Word(at), &spelling);
                            at += 1;
                        } else {
                            draft.refuse(format!("option `{word}` of `{name}` without a value"));
                        }
                    }
                    _ => {}
                }
                continue;
            }
            if let Some((option, value)) = word.split_once('=').filter(|(option, _)| option.len() > 1)
                && (word.starts_with("--") || node.single_dash_long)
                && let Some(spelling) = draft.find(option).cloned()
                && let Some(meaning) = &spelling.value
            {
                draft.given(&spelling);
                self.value(argv, draft, name, meaning, Taken::Part(value.to_owned()), &spelling);
                continue;
            }
            let digits = word[1..].bytes().all(|c| c.is_ascii_digit());
            if digits && draft.find("-#").is_some() {
                draft.option_count += 1;
                draft.facts.insert(format!("option:{word}"));
                continue;
            }
            if word.starts_with("--") || (node.single_dash_long && !node.joined) || draft.chain[0].single_dash_long {
                let option = word.split('=').next().unwrap_or(&word);
                draft.refuse(format!("`{name}` has no known option `{}`", shown(option)));
                continue;
            }
            at = self.bundle(argv, draft, name, &word[1..], at, false);
        }
        if choosing
            && positionals.is_empty()
            && let Some(sub) = draft.last().subs.iter().find(|sub| sub.names.iter().any(String::is_empty))
        {
            draft.chain.push(sub);
        }
        positionals
    }

    /// Short options in one word; gives back the index of the next word.
    #[allow(clippy::too_many_arguments, reason = "the place in the vector is four of them")]
    fn bundle(
        &mut self,
        argv: &mut [String],
        draft: &mut Draft<'_>,
        name: &str,
        letters: &str,
        mut at: usize,
        values_follow: bool,
    ) -> usize {
        let joined = draft.last().joined;
        let mut rest = letters;
        let mut first = true;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            let Some(spelling) = draft.find(&format!("-{c}")).cloned().filter(|_| c != '-') else {
                draft.refuse(format!("`{name}` has no known option `{}`", shown(&format!("-{c}"))));
                return at;
            };
            if !joined && !(first && (rest.is_empty() || spelling.value.is_some())) {
                draft.refuse(format!("options of `{name}` joined in one word"));
                return at;
            }
            first = false;
            draft.given(&spelling);
            let Some(meaning) = &spelling.value else { continue };
            if values_follow && !spelling.attached {
                // Old style: the values follow in the order of the letters.
                if at < argv.len() {
                    self.value(argv, draft, name, meaning, Taken::Word(at), &spelling);
                    at += 1;
                } else {
                    draft.refuse(format!("option `-{c}` of `{name}` without a value"));
                }
                continue;
            }
            if !rest.is_empty() {
                // `-n=5` is the value `=5` for most programs and 5 for some.
                if rest.starts_with('=') {
                    draft.refuse(format!("the value of option `-{c}` of `{name}` begins with `=`"));
                }
                self.value(argv, draft, name, meaning, Taken::Part(rest.to_owned()), &spelling);
                return at;
            }
            if spelling.flag {
                return at;
            }
            if at < argv.len() {
                self.value(argv, draft, name, meaning, Taken::Word(at), &spelling);
                return at + 1;
            }
            draft.refuse(format!("option `-{c}` of `{name}` without a value"));
        }
        at
    }

    #[allow(clippy::too_many_arguments, reason = "the place in the vector is four of them")]
    fn value(
        &mut self,
        argv: &mut [String],
        draft: &mut Draft<'_>,
        name: &str,
        meaning: &Meaning,
        taken: Taken,
        spelling: &Spelling,
    ) {
        let (text, word) = match taken {
            Taken::Word(at) => (argv[at].clone(), Some(at)),
            Taken::Part(text) => (text, None),
        };
        if matches!(spelling.canonical.as_ref(), "--directory" | "--chdir" | "-C")
            && (meaning.is_path() || *meaning == Meaning::Directory)
        {
            let before = draft.relative;
            self.mean(draft, name, &Meaning::Read, &text);
            draft.relative = before;
            if draft.moved {
                draft.refuse(format!("`{name}` changes its directory twice"));
            }
            draft.moved = true;
            draft.directory = Some((text, draft.at));
            return;
        }
        let late = draft.chain.iter().flat_map(|node| &node.when).flat_map(|when| &when.options);
        if late.clone().any(|(option, _)| *option == spelling.canonical) {
            draft.late.push((std::sync::Arc::clone(&spelling.canonical), meaning.clone(), text));
            return;
        }
        match meaning {
            Meaning::Shell => match word {
                Some(at) => draft.shell_words.push((at, at + 1)),
                None => draft.refuse(format!("a shell line inside of a word of `{name}`")),
            },
            Meaning::Command | Meaning::CommandAppended | Meaning::CommandUntil | Meaning::ShellRest => {
                draft.refuse(format!("an argument of `{name}` is a command"));
            }
            Meaning::Named(kind) if kind == "user" => {
                draft.user = Some(text.clone());
                self.mean(draft, name, meaning, &text);
            }
            _ => self.mean(draft, name, meaning, &text),
        }
    }

    /// Holds the operands against what the schema says about them; gives back the class so far.
    fn operands(
        &mut self,
        argv: &mut [String],
        offset: usize,
        draft: &mut Draft<'_>,
        positionals: &[usize],
        name: &str,
        appended: bool,
    ) -> Class {
        let last = draft.last();
        let deciding = draft
            .chain
            .iter()
            .rev()
            .find(|node| node.class.is_some() || node.opaque.is_some())
            .copied()
            .unwrap_or(last);
        let mut class = deciding.class.unwrap_or(Class::Opaque);
        let mut args = last.args.as_ref();
        let mut opaque = deciding.opaque.clone();
        let mut replaced: Option<Class> = None;
        let mut active: Vec<&When> = Vec::new();
        let chain = draft.chain.clone();
        for node in chain.iter().copied() {
            let own = std::ptr::eq(node, deciding);
            for when in &node.when {
                if !draft.options.contains(when.option.as_ref()) {
                    continue;
                }
                active.push(when);
                draft.facts.extend(when.facts.iter().cloned());
                self.verdict.terminal |= when.terminal;
                if let Some(new) = &when.args {
                    args = Some(new);
                }
                if let Some(why) = &when.opaque {
                    draft.refuse(why.clone());
                }
                match when.class {
                    Some(new) if own => replaced = replaced.max(Some(new)),
                    Some(new) => draft.raise(new),
                    None => {}
                }
            }
            if !node.require.is_empty() && !node.require.iter().any(|need| draft.options.contains(need.as_ref())) {
                draft.refuse(format!("`{name}` without `{}`", node.require[0]));
            }
            if node.max_options.is_some_and(|most| draft.option_count > most) {
                draft.refuse(format!("more options of `{name}` than its schema allows"));
            }
        }
        if let Some(new) = replaced {
            class = new;
            if new != Class::Opaque {
                opaque = None;
            }
        }
        if class == Class::Opaque {
            draft.refuse(opaque.clone().unwrap_or_else(|| format!("`{name}` can run other programs or code")));
        } else if let Some(why) = opaque {
            draft.refuse(why);
        }
        for (option, usual, text) in std::mem::take(&mut draft.late) {
            let meant: Vec<&Meaning> = active
                .iter()
                .flat_map(|when| &when.options)
                .filter(|(of, _)| *of == option)
                .map(|(_, meaning)| meaning)
                .collect();
            for meaning in if meant.is_empty() { vec![&usual] } else { meant } {
                self.mean(draft, name, meaning, &text);
            }
        }
        if let Some((directory, at)) = draft.directory.clone()
            && draft.chain[0].moves_operands
        {
            if positionals.first().is_some_and(|first| *first < at) || directory.contains(WILD) {
                draft.refuse(format!("`{name}` changes its directory after an operand"));
            }
            match path(self.place, &directory) {
                Ok(path) => draft.base = Some(path.name),
                Err(why) => draft.refuse(why),
            }
        }
        let fixed = |of: fn(&Node) -> &Option<Vec<String>>, when: fn(&When) -> &Option<Vec<String>>| {
            let by_option: Vec<&Vec<String>> = active.iter().filter_map(|a| when(a).as_ref()).collect();
            if by_option.iter().any(|list| list.is_empty()) {
                return Vec::new();
            }
            if !by_option.is_empty() {
                return by_option.into_iter().flatten().collect();
            }
            chain.iter().rev().find_map(|node| of(node).as_ref()).into_iter().flatten().collect()
        };
        for (access, entries) in [
            (Access::Read, fixed(|node| &node.reads, |when| &when.reads)),
            (Access::Write, fixed(|node| &node.writes, |when| &when.writes)),
        ] {
            for entry in entries {
                let (directory, below) = match entry.as_str() {
                    "." => (".", Some("/*")),
                    "./**" => (".", Some("/**")),
                    other => (other, None),
                };
                self.path(draft, access, directory);
                if let Some(below) = below {
                    self.beside(draft, access, directory, below);
                }
            }
        }
        if args.is_none() && !last.subs.is_empty() {
            draft.refuse(format!("`{name}` without a subcommand"));
            return class;
        }
        let keys = draft.chain.iter().rev().find_map(|node| node.keys.as_ref());
        let mut words: Vec<usize> = Vec::with_capacity(positionals.len());
        for index in positionals {
            let pair = keys.and_then(|keys| argv[*index].split_once('=').map(|(key, value)| (keys, key, value)));
            match pair {
                None => words.push(*index),
                Some((keys, key, value)) => match keys.get(key) {
                    Some(meaning) => {
                        draft.facts.insert(format!("key:{key}"));
                        let value = value.to_owned();
                        self.mean(draft, name, meaning, &value);
                    }
                    None => draft.refuse(format!("`{name}` has no known key `{}`", shown(key))),
                },
            }
        }
        let empty = Vec::new();
        let slots: &Vec<Slot> = args.unwrap_or(&empty);
        let other = active.iter().rev().find_map(|when| when.paths.as_ref());
        let slots: &Vec<Slot> = &match other {
            None => slots.clone(),
            Some(meaning) => slots
                .iter()
                .map(|slot| Slot {
                    meaning: if slot.meaning.is_path() { meaning.clone() } else { slot.meaning.clone() },
                    ..slot.clone()
                })
                .collect(),
        };
        self.fill(argv, offset, draft, &words, slots, name, appended);
        class
    }

    #[allow(clippy::too_many_arguments, reason = "the place in the vector is four of them")]
    fn fill(
        &mut self,
        argv: &mut [String],
        offset: usize,
        draft: &mut Draft<'_>,
        words: &[usize],
        slots: &[Slot],
        name: &str,
        appended: bool,
    ) {
        let need = |slot: &Slot| usize::from(matches!(slot.count, Count::One | Count::Some));
        let optional = slots.iter().any(|slot| slot.count == Count::Optional);
        let mut next = 0;
        for (number, slot) in slots.iter().enumerate() {
            let after: usize = slots[number + 1..].iter().map(need).sum();
            let left = words.len() - next;
            if slot.meaning.takes_rest() {
                if left == 0 {
                    if need(slot) == 1 && slot.count != Count::Optional {
                        draft.refuse(format!("`{name}` without its command"));
                    }
                    return;
                }
                let (from, to) = (words[next], argv.len());
                match slot.meaning {
                    Meaning::ShellRest => draft.shell_words.push((from, to)),
                    Meaning::CommandAppended => draft.inner.push((from, to, Inner::Appended)),
                    _ => draft.inner.push((from, to, Inner::Fixed)),
                }
                return;
            }
            let take = match slot.count {
                Count::One => usize::from(left > 0),
                Count::Optional => usize::from(left > after),
                Count::Any | Count::Some if slot.meaning == Meaning::Assign => words[next..]
                    .iter()
                    .take_while(|at| argv[**at].split_once('=').is_some_and(|(name, _)| !name.is_empty()))
                    .count(),
                Count::Any | Count::Some => left.saturating_sub(after),
            };
            if take == 0 && need(slot) == 1 && !appended {
                draft.refuse(format!("an operand of `{name}` is missing"));
                return;
            }
            if take == 0
                && !appended
                && let Some((default, options)) = &slot.default
                && (options.is_empty() || options.iter().any(|option| draft.options.contains(option)))
            {
                self.mean(draft, name, &slot.meaning, default);
            }
            let repeated = matches!(slot.count, Count::Any | Count::Some);
            for at in &words[next..next + take] {
                if slot.meaning == Meaning::Shell {
                    draft.shell_words.push((*at, *at + 1));
                    continue;
                }
                if argv[*at].contains(WILD)
                    && slot.meaning.is_path()
                    && (repeated && !optional
                        || self.found.is_some_and(|(found, single)| single && argv[*at].contains(found)))
                {
                    match self.pattern(draft, &argv[*at]) {
                        Ok(Some(prefixed)) => {
                            argv[*at] = prefixed;
                            self.verdict.patterns.insert(offset + at);
                        }
                        Ok(None) => {
                            self.verdict.patterns.insert(offset + at);
                        }
                        Err(why) => draft.refuse(why),
                    }
                    draft.facts.insert("glob".to_owned());
                }
                let word = argv[*at].clone();
                if draft.base.is_some() && word.contains(WILD) && slot.meaning.is_path() {
                    draft.refuse(format!("a wildcard of `{name}` after a change of its directory"));
                }
                if slot.meaning == Meaning::Named("user".to_owned()) && draft.chain[0].facts.iter().any(|f| f == "sudo")
                {
                    draft.user = Some(word.clone());
                }
                self.mean(draft, name, &slot.meaning, &word);
            }
            next += take;
        }
        if next < words.len() {
            draft.refuse(format!("`{name}` takes no operand `{}`", shown(&argv[words[next]])));
        }
    }

    /// Whether a wildcard word can only become paths; gives back the word with `./` where that makes it so.
    fn pattern(&self, draft: &Draft<'_>, word: &str) -> Result<Option<String>, String> {
        let fixed = &word[..word.find(WILD).unwrap_or(word.len())];
        for part in word.split('/') {
            if part.contains(WILD) && part.starts_with('.') {
                return Err("a wildcard that may become `..`".to_owned());
            }
        }
        if fixed.starts_with(['/', HOME]) || (fixed.contains('/') && !fixed.starts_with('-')) {
            return Ok(None);
        }
        if draft.chain[0].bare_globs && !fixed.starts_with('-') {
            return Ok(Some(format!("./{word}")));
        }
        Err("a wildcard that may become an option".to_owned())
    }

    fn mean(&mut self, draft: &mut Draft<'_>, name: &str, meaning: &Meaning, text: &str) {
        match meaning {
            Meaning::Text => {}
            Meaning::TextStarting(start) => {
                if !text.starts_with(start.as_str()) {
                    draft.refuse(format!("`{name}` takes no operand `{}`", shown(text)));
                }
            }
            Meaning::TextWithout(parts) => {
                if let Some(part) = parts.iter().find(|part| text.contains(part.as_str())) {
                    draft.refuse(format!("`{part}` in an argument of `{name}`"));
                }
            }
            Meaning::One(words) => {
                if !words.iter().any(|word| word == text) {
                    draft.refuse(format!("`{name}` takes no `{}`", shown(text)));
                }
            }
            Meaning::Number => {
                let body = text.strip_prefix(['+', '-']).unwrap_or(text);
                let unit = body.trim_start_matches(|c: char| c.is_ascii_digit());
                let unit = unit
                    .strip_prefix(['.', ','])
                    .map_or(unit, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
                // `10`, `+7`, `0.5`, `64K`, `10MiB`, `5min`.
                let fine = body.starts_with(|c: char| c.is_ascii_digit())
                    && unit.len() <= 4
                    && unit.bytes().all(|c| c.is_ascii_alphabetic() || c == b'%');
                if !fine {
                    draft.refuse(format!("`{}` is no number for `{name}`", shown(text)));
                }
            }
            Meaning::AtRead => {
                if let Some(file) = text.strip_prefix('@') {
                    self.path(draft, Access::Read, file);
                }
            }
            Meaning::Read => self.path(draft, Access::Read, text),
            Meaning::Write => self.path(draft, Access::Write, text),
            Meaning::AdministerPath => self.path(draft, Access::Administer, text),
            Meaning::Tree(access) => {
                self.path(draft, *access, text);
                self.beside(draft, *access, text, "/**");
            }
            Meaning::Into => {
                self.path(draft, Access::Write, text);
                self.beside(draft, Access::Write, text, "/*");
            }
            Meaning::Move => {
                for access in [Access::Read, Access::Write] {
                    self.path(draft, access, text);
                    self.beside(draft, access, text, "/**");
                }
            }
            Meaning::Sibling | Meaning::Change | Meaning::Ending => {
                let (access, also) = match meaning {
                    Meaning::Change => (Access::Write, true),
                    Meaning::Ending => (Access::Read, false),
                    _ => (Access::Write, false),
                };
                if also {
                    self.path(draft, Access::Read, text);
                }
                self.path(draft, access, text);
                let directory = match text.trim_end_matches('/').rsplit_once('/') {
                    Some(("", _)) => "/",
                    Some((directory, _)) => directory,
                    None if text.starts_with(HOME) => {
                        draft.refuse("what lies beside the home directory");
                        return;
                    }
                    None => ".",
                };
                if text != "-" {
                    self.path(draft, access, directory);
                    self.beside(draft, access, directory, "/*");
                }
            }
            Meaning::Local(access) => {
                let colon = text.split('/').next().is_some_and(|first| first.contains(':'));
                if colon {
                    draft.refuse(format!("`{}` is a file of another host for `{name}`", shown(text)));
                }
                // It is opened before the program goes anywhere.
                let before = draft.relative;
                self.path(draft, *access, text);
                if draft.chain[0].moves_operands {
                    draft.relative = before;
                }
            }
            Meaning::Placeholder => {
                if text.is_empty() || text.contains([HOME, WILD]) {
                    draft.refuse(format!("`{name}` puts words in place of `{}`", shown(text)));
                }
                if draft.placeholder.as_ref().is_some_and(|other| other != "{}" && other != text) {
                    draft.refuse(format!("`{name}` with two words to replace"));
                }
                draft.placeholder = Some(text.to_owned());
            }
            Meaning::Sed => {
                if let Err(why) = crate::script::sed(text) {
                    draft.refuse(format!("a script of `{name}` with {why}"));
                }
            }
            Meaning::Awk => {
                if let Err(why) = crate::script::awk(text) {
                    draft.refuse(format!("a program of `{name}` with {why}"));
                }
            }
            Meaning::Directory => {
                self.path(draft, Access::Read, text);
                draft.moved = true;
            }
            Meaning::Command | Meaning::CommandAppended | Meaning::CommandUntil | Meaning::ShellRest => {
                draft.refuse(format!("an argument of `{name}` is a command"));
            }
            Meaning::Shell => draft.refuse(format!("an argument of `{name}` is a shell line")),
            Meaning::Code => draft.refuse(format!("an argument of `{name}` is code")),
            Meaning::Url => self.url(draft, name, text),
            Meaning::Named(kind) => {
                let slashes = matches!(kind.as_str(), "host" | "package" | "image");
                let odd = text.is_empty()
                    || text.starts_with('-')
                    || text.contains([HOME, WILD])
                    || (!slashes && text.contains('/'));
                if odd {
                    draft.refuse(format!("`{}` is no {kind} for `{name}`", shown(text)));
                }
                draft.named.push((kind.clone(), text.to_owned()));
            }
            Meaning::Signal => {
                if text.is_empty() || !text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-')) {
                    draft.refuse(format!("`{}` is no signal for `{name}`", shown(text)));
                }
                draft.facts.insert(format!("signal:{text}"));
            }
            Meaning::Mode => {
                if text.is_empty() || !text.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-=,".contains(&c)) {
                    draft.refuse(format!("`{}` is no mode for `{name}`", shown(text)));
                }
                draft.facts.insert(format!("mode:{text}"));
                if sets_id(text) {
                    draft.facts.insert("setuid".to_owned());
                }
            }
            Meaning::Assign => match text.split_once('=') {
                Some((variable, value)) if is_name(variable) && exportable(variable, value) => {
                    draft.facts.insert(format!("env:{variable}"));
                }
                Some((variable, _)) => {
                    draft.refuse(format!("the variable `{}` in a program's environment", shown(variable)));
                }
                None => draft.refuse(format!("`{name}` takes no operand `{}`", shown(text))),
            },
        }
    }

    fn path(&mut self, draft: &mut Draft<'_>, access: Access, text: &str) {
        match access {
            Access::Read => draft.raise(Class::Read),
            Access::Administer => draft.raise(Class::Administer),
            _ => draft.raise(Class::Write),
        }
        if text == "-" {
            draft.facts.insert("stdin".to_owned());
            return;
        }
        if text.is_empty() {
            draft.refuse("an empty path");
            return;
        }
        let base = draft.base.clone();
        let place = Place { cwd: base.as_deref().unwrap_or(self.place.cwd), ..self.place };
        match path(place, text) {
            Ok(path) => {
                if path.dotdot {
                    draft.facts.insert("dotdot".to_owned());
                }
                if path.glob {
                    draft.facts.insert("glob".to_owned());
                }
                draft.relative |= path.relative && base.is_none();
                draft.objects.insert(object(access, "path", path.name));
            }
            Err(why) => draft.refuse(why),
        }
    }

    /// States what lies below a path, as the pattern `below`; the path itself is stated by [`Run::path`].
    fn beside(&mut self, draft: &mut Draft<'_>, access: Access, text: &str, below: &str) {
        if text == "-" || text.is_empty() {
            return;
        }
        let place = Place { cwd: draft.base.as_deref().unwrap_or(self.place.cwd), ..self.place };
        if let Ok(path) = path(place, text) {
            draft.objects.insert(object(access, "path", format!("{}{below}", path.name.trim_end_matches('/'))));
        }
    }

    fn url(&mut self, draft: &mut Draft<'_>, name: &str, text: &str) {
        if text.is_empty() || text.starts_with('-') || text.contains([HOME, WILD]) {
            draft.refuse(format!("`{}` is no address for `{name}`", shown(text)));
            return;
        }
        match text.split_once(':').map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest)) {
            Some((scheme, rest)) if scheme == "file" => {
                let file = rest.strip_prefix("//localhost").or(rest.strip_prefix("//")).unwrap_or(rest).to_owned();
                if file.starts_with('/') && !file.contains(['%', '{', '[']) {
                    self.path(draft, Access::Read, &file);
                } else {
                    draft.refuse(format!("`{}` is no address for `{name}`", shown(text)));
                }
            }
            Some((scheme, rest)) if rest.starts_with("//") && !matches!(scheme.as_str(), "http" | "https" | "ftp") => {
                draft.refuse(format!("an address of `{name}` with the scheme `{}`", shown(&scheme)));
            }
            _ => {}
        }
        draft.facts.insert("network".to_owned());
        draft.named.push(("url".to_owned(), text.to_owned()));
    }

    fn finish(&mut self, argv: &[String], name: &str, class: Class, draft: Draft<'_>, outer: Outer) {
        let mut operation = operation(class);
        operation.objects = draft.objects;
        operation.facts = draft.facts;
        if draft.chain[0].free {
            operation.facts.extend(draft.chain[0].facts.iter().cloned());
        }
        let access = access_of(class);
        operation.objects.extend(draft.named.into_iter().map(|(kind, name)| object(access, &kind, name)));
        operation.objects.insert(object(Access::Execute, "program", name.to_owned()));
        let command = match &outer.before {
            Some(before) => format!("{before} {}", display(argv)),
            None => display(argv),
        };
        operation.objects.insert(object(Access::Execute, "command", command));
        for why in draft.reasons {
            refuse(&mut operation, why);
        }
        close(&mut operation, &outer);
        self.verdict.operations.push(operation);
    }
}

enum Taken {
    Word(usize),
    Part(String),
}

fn close(operation: &mut Operation, outer: &Outer) {
    if let Some(class) = outer.class {
        raise(operation, class);
    }
    operation.facts.extend(outer.facts.iter().cloned());
    operation.objects.extend(outer.objects.iter().cloned());
    for why in &outer.reasons {
        refuse(operation, why.clone());
    }
    if operation.class == Class::Opaque && operation.opaque.is_empty() {
        operation.opaque.insert("a part of the command can't be known".to_owned());
    }
}

pub(crate) fn object(access: Access, kind: &str, name: String) -> Object {
    Object { access, kind: kind.to_owned(), name, parts: BTreeSet::new() }
}

fn access_of(class: Class) -> Access {
    match class {
        Class::Session | Class::Read => Access::Read,
        Class::Write => Access::Write,
        Class::Define => Access::Define,
        Class::Administer => Access::Administer,
        Class::Execute | Class::Opaque => Access::Execute,
    }
}

/// The schema of nothing, for programs that have none.
static NOTHING: std::sync::LazyLock<Node> = std::sync::LazyLock::new(Node::nothing);

/// Whether a mode (`4755`, `u+s`, `g=rxs`) sets the bit by which a file runs as somebody else.
fn sets_id(mode: &str) -> bool {
    if !mode.is_empty() && mode.bytes().all(|b| b.is_ascii_digit()) {
        let special = mode.trim_start_matches('0');
        return special.len() > 3 && special.bytes().rev().nth(3).is_some_and(|digit| (digit - b'0') & 6 != 0);
    }
    mode.split(',').any(|part| part.find(['+', '=']).is_some_and(|at| part[at..].contains('s')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_that_lets_a_file_run_as_somebody_else_is_seen() {
        for mode in ["4755", "02755", "6755", "u+s", "g=rxs", "a+x,u+s"] {
            assert!(sets_id(mode), "{mode}");
        }
        for mode in ["755", "0755", "1777", "u-s", "go+rx", "+x", "a=rw"] {
            assert!(!sets_id(mode), "{mode}");
        }
    }
}
