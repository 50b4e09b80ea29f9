//! What is known about programs: their options, and what each argument means. Data from TOML, checked when loaded.
//!
//! A schema is a promise that nothing the description leaves out can happen: whatever it doesn't list makes a command
//! opaque. This file only reads descriptions; [`crate::classify`] holds argument vectors against them.

mod shipped;

use onus_core::operation::{Access, Class};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why a file of schemas can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The text is no TOML, or has a key that no schema has.
    #[error("{file}:{line}: {message}")]
    Syntax {
        /// The file as the caller named it.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong, in the parser's words.
        message: String,
    },
    /// A description says something that no schema can say.
    #[error("{file}:{line}: command `{command}`: {message}")]
    Meaning {
        /// The file as the caller named it.
        file: String,
        /// The line of the command's name, from 1.
        line: usize,
        /// The command.
        command: String,
        /// What is wrong.
        message: String,
    },
}

/// The known programs.
#[derive(Debug, Clone, Default)]
pub struct Schemas {
    commands: BTreeMap<String, Arc<Node>>,
}

impl Schemas {
    /// The schemas that come with this crate.
    pub fn shipped() -> Self {
        let mut schemas = Self::default();
        for (file, text) in shipped::FILES {
            // A unit test loads every shipped file, so this can't fail in a build that passed.
            schemas.extend_from(file, text).expect("shipped schemas are tested");
        }
        schemas
    }

    /// No schema at all: every program is opaque.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a user's schemas; one with the name of a known program replaces it.
    pub fn extend(&mut self, toml: &str) -> Result<(), SchemaError> {
        self.extend_from("schemas", toml)
    }

    /// As [`Schemas::extend`], with the file's name for errors.
    pub fn extend_from(&mut self, file: &str, toml: &str) -> Result<(), SchemaError> {
        for (name, node) in read(file, toml)? {
            self.commands.insert(name, node);
        }
        Ok(())
    }

    /// The names of the known programs, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.commands.keys().map(String::as_str)
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Node> {
        self.commands.get(name).map(Arc::as_ref)
    }
}

fn read(file: &str, toml: &str) -> Result<Vec<(String, Arc<Node>)>, SchemaError> {
    let line_at = |offset: usize| toml.get(..offset).map_or(1, |before| before.matches('\n').count() + 1);
    let written: Written = toml::from_str(toml).map_err(|error| SchemaError::Syntax {
        file: file.to_owned(),
        line: error.span().map_or(1, |span| line_at(span.start)),
        message: error.message().lines().next().unwrap_or("not TOML").to_owned(),
    })?;
    let mut nodes = Vec::new();
    for command in written.command {
        let line = line_at(command.name.span().start);
        let name = command.name.get_ref().clone();
        let wrong =
            |message: String| SchemaError::Meaning { file: file.to_owned(), line, command: name.clone(), message };
        let node = Arc::new(Node::new(command, 0).map_err(wrong)?);
        if node.names.iter().any(String::is_empty) {
            return Err(wrong("a command needs a name".to_owned()));
        }
        for name in &node.names {
            nodes.push((name.clone(), Arc::clone(&node)));
        }
    }
    Ok(nodes)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    command: Vec<WrittenNode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenNode {
    name: toml::Spanned<String>,
    class: Option<Class>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
    #[serde(default)]
    keys: Option<BTreeMap<String, String>>,
    args: Option<Vec<String>>,
    #[serde(default)]
    facts: Vec<String>,
    #[serde(default)]
    terminal: bool,
    #[serde(default)]
    when: Vec<WrittenWhen>,
    stop: Option<String>,
    #[serde(default)]
    options_first: bool,
    joined: Option<bool>,
    #[serde(default)]
    single_dash_long: bool,
    #[serde(default)]
    dashless_first: bool,
    #[serde(default)]
    free: bool,
    #[serde(default)]
    inert: bool,
    unseen: Option<String>,
    reads: Option<Vec<String>>,
    writes: Option<Vec<String>>,
    #[serde(default)]
    moves_operands: bool,
    #[serde(default)]
    bare_globs: bool,
    #[serde(default)]
    require: Vec<String>,
    max_options: Option<usize>,
    opaque: Option<String>,
    #[serde(default)]
    sub: Vec<WrittenNode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWhen {
    #[serde(alias = "flag")]
    option: String,
    class: Option<Class>,
    #[serde(default)]
    facts: Vec<String>,
    args: Option<Vec<String>>,
    paths: Option<String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
    reads: Option<Vec<String>>,
    writes: Option<Vec<String>>,
    #[serde(default)]
    terminal: bool,
    opaque: Option<String>,
}

/// What a value or an operand means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    Text,
    /// Text that begins with this.
    TextStarting(String),
    /// Text without any of these.
    TextWithout(Vec<String>),
    /// Exactly one of these words.
    One(Vec<String>),
    Number,
    Read,
    Write,
    AdministerPath,
    /// A path, and everything below it.
    Tree(Access),
    /// A path that may be a directory, into which the program then puts something.
    Into,
    /// A path that is read, and is gone afterwards with everything below it.
    Move,
    /// A path beside which the program makes further names.
    Sibling,
    /// As [`Meaning::Sibling`], and its content is read.
    Change,
    /// A path that is read; if it is none, a name made from it.
    Ending,
    /// A path of this host; a word with a colon before its first slash is another host's.
    Local(Access),
    /// The word that stands for one that nobody has seen.
    Placeholder,
    /// A `sed` script that only edits text.
    Sed,
    /// An `awk` program that only reads and prints.
    Awk,
    /// Where the program goes before it opens anything.
    Directory,
    /// Text, or `@file`.
    AtRead,
    /// All following words are a command.
    Command,
    /// As [`Meaning::Command`], with further words that nobody has seen.
    CommandAppended,
    /// A command up to `;` or `+`.
    CommandUntil,
    Code,
    Shell,
    /// All remaining words, joined by blanks, are one shell line.
    ShellRest,
    Url,
    /// A named thing of this kind.
    Named(String),
    Signal,
    Mode,
    Assign,
}

/// Kinds of named things, which become objects.
const NAMED: &[&str] = &["host", "unit", "user", "group", "package", "container", "process", "image"];

impl Meaning {
    fn read(word: &str) -> Option<Self> {
        let split = |list: &str| list.split('|').map(str::to_owned).collect::<Vec<_>>();
        Some(match word {
            "text" | "any" | "pattern" | "key=value" => Self::Text,
            "number" => Self::Number,
            "path:read" | "path:list" => Self::Read,
            "path:write" | "path:make" | "path:remove" => Self::Write,
            "path:admin" => Self::AdministerPath,
            "tree:read" => Self::Tree(Access::Read),
            "tree:write" => Self::Tree(Access::Write),
            "path:into" => Self::Into,
            "path:move" => Self::Move,
            "sibling:write" => Self::Sibling,
            "sibling:change" => Self::Change,
            "sibling:read" => Self::Ending,
            "local:read" => Self::Local(Access::Read),
            "local:write" => Self::Local(Access::Write),
            "placeholder" => Self::Placeholder,
            "sed" => Self::Sed,
            "awk" => Self::Awk,
            "directory" => Self::Directory,
            "at:read" => Self::AtRead,
            "command" => Self::Command,
            "command-appended" => Self::CommandAppended,
            "command-until:;" => Self::CommandUntil,
            "code" => Self::Code,
            "shell" => Self::Shell,
            "url" => Self::Url,
            "signal" => Self::Signal,
            "mode" => Self::Mode,
            "assign" => Self::Assign,
            named if NAMED.contains(&named) => Self::Named(named.to_owned()),
            other => {
                if let Some(start) = other.strip_prefix("text:") {
                    Self::TextStarting(start.to_owned())
                } else if let Some(list) = other.strip_prefix("text-without:") {
                    Self::TextWithout(split(list))
                } else if let Some(list) = other.strip_prefix("one:") {
                    Self::One(split(list))
                } else {
                    return None;
                }
            }
        })
    }

    pub(crate) fn is_path(&self) -> bool {
        matches!(
            self,
            Self::Read
                | Self::Write
                | Self::AdministerPath
                | Self::Tree(_)
                | Self::Into
                | Self::Move
                | Self::Sibling
                | Self::Change
                | Self::Ending
                | Self::Local(_)
        )
    }

    /// Whether the argument is a command or a shell line.
    fn runs(&self) -> bool {
        self.takes_rest() || matches!(self, Self::CommandUntil | Self::Shell)
    }

    /// Whether it takes all the words that are left.
    pub(crate) fn takes_rest(&self) -> bool {
        matches!(self, Self::Command | Self::CommandAppended | Self::ShellRest)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    One,
    Optional,
    Any,
    Some,
}

#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub meaning: Meaning,
    pub count: Count,
    /// What the program takes when it is given none; where options are named, only with one of them.
    pub default: Option<(String, Vec<String>)>,
}

impl Slot {
    fn read(word: &str) -> Result<Self, String> {
        // `text:+` is a kind that ends in a count's sign.
        if word == "text:+" {
            return Ok(Self { meaning: Meaning::TextStarting("+".into()), count: Count::One, default: None });
        }
        let (word, default) = match word.split_once(" or ") {
            Some((word, default)) => {
                let (default, options) = default.split_once(" with ").unwrap_or((default, ""));
                let options = options.split('|').filter(|option| !option.is_empty()).map(str::to_owned).collect();
                (word, Some((default.to_owned(), options)))
            }
            None => (word, None),
        };
        let (kind, count) = match word.as_bytes().last() {
            Some(b'?') => (&word[..word.len() - 1], Count::Optional),
            Some(b'*') => (&word[..word.len() - 1], Count::Any),
            Some(b'+') => (&word[..word.len() - 1], Count::Some),
            _ => (word, Count::One),
        };
        let mut meaning = Meaning::read(kind).ok_or_else(|| format!("unknown kind `{word}`"))?;
        if meaning == Meaning::Shell && matches!(count, Count::Any | Count::Some) {
            meaning = Meaning::ShellRest;
        }
        if default.is_some() && (!matches!(count, Count::Optional | Count::Any) || meaning.runs()) {
            return Err(format!("`{word}` can't have a default"));
        }
        Ok(Self { meaning, count, default })
    }

    fn read_all(words: Vec<String>) -> Result<Vec<Self>, String> {
        let slots = words.iter().map(|word| Self::read(word)).collect::<Result<Vec<_>, _>>()?;
        let repeated = slots.iter().filter(|slot| matches!(slot.count, Count::Any | Count::Some)).count();
        let leading_assigns = slots.first().is_some_and(|slot| slot.meaning == Meaning::Assign);
        if repeated > 1 + usize::from(leading_assigns) {
            return Err("only one of `args` can be repeated".to_owned());
        }
        Ok(slots)
    }
}

/// What one spelling of an option means.
#[derive(Debug, Clone)]
pub(crate) struct Spelling {
    /// The spelling that facts use: the first long one, else the first.
    pub canonical: Arc<str>,
    /// It can stand alone.
    pub flag: bool,
    /// It can have a value.
    pub value: Option<Meaning>,
    /// The value must be attached.
    pub attached: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct When {
    pub option: Arc<str>,
    pub class: Option<Class>,
    pub facts: Vec<String>,
    pub args: Option<Vec<Slot>>,
    /// What operands that are paths mean then.
    pub paths: Option<Meaning>,
    /// What values of options mean then, by the option's canonical spelling.
    pub options: Vec<(Arc<str>, Meaning)>,
    pub reads: Option<Vec<String>>,
    pub writes: Option<Vec<String>>,
    pub terminal: bool,
    pub opaque: Option<String>,
}

/// The worst that a program does with words that nobody has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unseen {
    Reads,
    Writes,
    /// Also rights, owners.
    Administers,
    /// Sends signals.
    Signals,
}

impl Unseen {
    fn read(word: &str) -> Result<Self, String> {
        Ok(match word {
            "read" => Self::Reads,
            "write" => Self::Writes,
            "administer" => Self::Administers,
            "signal" => Self::Signals,
            other => return Err(format!("`unseen` can't be `{other}`")),
        })
    }
}

/// A program or one of its subcommands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub names: Vec<String>,
    pub class: Option<Class>,
    pub spellings: BTreeMap<String, Spelling>,
    pub keys: Option<BTreeMap<String, Meaning>>,
    /// None: not said, so none are allowed where there are no subcommands, and one is needed where there are.
    pub args: Option<Vec<Slot>>,
    pub facts: Vec<String>,
    pub terminal: bool,
    pub when: Vec<When>,
    pub stop: Option<String>,
    pub options_first: bool,
    pub joined: bool,
    pub single_dash_long: bool,
    pub dashless_first: bool,
    pub free: bool,
    /// None where unseen words could do anything.
    pub unseen: Option<Unseen>,
    /// Paths that are touched without standing in the arguments; `.` and `./**` are the working directory.
    pub reads: Option<Vec<String>>,
    pub writes: Option<Vec<String>>,
    /// Relative operands lie in the directory that a `directory` option names.
    pub moves_operands: bool,
    pub bare_globs: bool,
    pub require: Vec<Arc<str>>,
    pub max_options: Option<usize>,
    pub opaque: Option<String>,
    pub subs: Vec<Node>,
}

fn canonical(spellings: &str) -> Result<(Arc<str>, Vec<&str>), String> {
    let all: Vec<&str> =
        if spellings == "/" { vec![spellings] } else { spellings.split('/').filter(|s| !s.is_empty()).collect() };
    let first = all.iter().find(|s| s.starts_with("--")).or(all.first()).ok_or("an option without a name")?;
    if all.iter().any(|s| s.contains(['=', ' ']) && *s != "=") {
        return Err(format!("option `{spellings}` holds a blank or `=`"));
    }
    Ok((Arc::from(*first), all))
}

impl Node {
    /// A description without any content.
    pub(crate) fn nothing() -> Self {
        Self {
            names: Vec::new(),
            class: None,
            spellings: BTreeMap::new(),
            keys: None,
            args: None,
            facts: Vec::new(),
            terminal: false,
            when: Vec::new(),
            stop: None,
            options_first: false,
            joined: false,
            single_dash_long: false,
            dashless_first: false,
            free: false,
            unseen: None,
            reads: None,
            writes: None,
            moves_operands: false,
            bare_globs: false,
            require: Vec::new(),
            max_options: None,
            opaque: None,
            subs: Vec::new(),
        }
    }

    fn new(written: WrittenNode, depth: usize) -> Result<Self, String> {
        if depth > 6 {
            return Err("subcommands nested too deeply".to_owned());
        }
        if written.class == Some(Class::Define) {
            return Err("class `define` is not a shell class; use `administer`".to_owned());
        }
        let mut spellings: BTreeMap<String, Spelling> = BTreeMap::new();
        for flag in &written.flags {
            let (canonical, all) = canonical(flag)?;
            for spelling in all {
                let new = Spelling { canonical: Arc::clone(&canonical), flag: true, value: None, attached: false };
                if spellings.insert(spelling.to_owned(), new).is_some() {
                    return Err(format!("option `{spelling}` is listed twice"));
                }
            }
        }
        for (option, kind) in &written.options {
            let (canonical, all) = canonical(option)?;
            let (kind, optional) = match kind.strip_suffix('?') {
                Some(kind) => (kind, true),
                None => (kind.as_str(), false),
            };
            let value = Meaning::read(kind).ok_or_else(|| format!("option `{option}` has unknown kind `{kind}`"))?;
            for spelling in all {
                let known = spellings.contains_key(spelling);
                if known && spellings[spelling].value.is_some() {
                    return Err(format!("option `{spelling}` is listed twice"));
                }
                let new = Spelling {
                    canonical: Arc::clone(&canonical),
                    flag: known || optional,
                    value: Some(value.clone()),
                    // Where it can stand alone, a following word is never its value.
                    attached: known || optional,
                };
                spellings.insert(spelling.to_owned(), new);
            }
        }
        let args = written.args.map(Slot::read_all).transpose()?;
        let takes_rest = args.iter().flatten().any(|slot| slot.meaning.takes_rest());
        let name_of = |option: &str| -> Arc<str> {
            let first = option.split('/').next().unwrap_or(option);
            spellings.get(first).map_or_else(|| Arc::from(first), |known| Arc::clone(&known.canonical))
        };
        let mut when = Vec::new();
        for written in written.when {
            let args = written.args.map(Slot::read_all).transpose()?;
            let paths = match &written.paths {
                Some(kind) => Some(
                    Meaning::read(kind)
                        .filter(Meaning::is_path)
                        .ok_or_else(|| format!("`paths` has kind `{kind}`, which is no path"))?,
                ),
                None => None,
            };
            let mut options = Vec::new();
            for (option, kind) in &written.options {
                let first = option.split('/').next().unwrap_or(option);
                let known =
                    spellings.get(first).filter(|known| known.value.as_ref().is_some_and(|value| !value.runs()));
                let known = known.ok_or_else(|| format!("`when` gives a meaning to `{option}`, which has no value"))?;
                let meaning = Meaning::read(kind)
                    .filter(|meaning| !meaning.runs() && *meaning != Meaning::Directory)
                    .ok_or_else(|| format!("option `{option}` has unknown kind `{kind}`"))?;
                options.push((Arc::clone(&known.canonical), meaning));
            }
            for option in written.option.split('|') {
                when.push(When {
                    option: name_of(option),
                    class: written.class,
                    facts: written.facts.clone(),
                    args: args.clone(),
                    paths: paths.clone(),
                    options: options.clone(),
                    reads: written.reads.clone(),
                    writes: written.writes.clone(),
                    terminal: written.terminal,
                    opaque: written.opaque.clone(),
                });
            }
        }
        let unseen = match (&written.unseen, written.inert) {
            (Some(_), true) => return Err("`inert` and `unseen` say the same thing".to_owned()),
            (Some(word), false) => Some(Unseen::read(word)?),
            (None, inert) => inert.then_some(Unseen::Reads),
        };
        let require = written.require.iter().map(|option| name_of(option)).collect();
        let keys = match written.keys {
            None => None,
            Some(keys) => {
                let mut read = BTreeMap::new();
                for (key, kind) in keys {
                    let meaning =
                        Meaning::read(&kind).ok_or_else(|| format!("key `{key}` has unknown kind `{kind}`"))?;
                    read.insert(key, meaning);
                }
                Some(read)
            }
        };
        let subs = written.sub.into_iter().map(|sub| Self::new(sub, depth + 1)).collect::<Result<Vec<_>, _>>()?;
        let mut seen = BTreeSet::new();
        for name in subs.iter().flat_map(|sub| &sub.names) {
            if !seen.insert(name.clone()) {
                return Err(format!("subcommand `{name}` is described twice"));
            }
        }
        Ok(Self {
            names: written.name.into_inner().split('|').map(str::to_owned).collect(),
            class: written.class,
            spellings,
            keys,
            facts: written.facts,
            terminal: written.terminal,
            when,
            stop: Some(written.stop.unwrap_or_else(|| "--".to_owned())).filter(|stop| !stop.is_empty()),
            options_first: written.options_first || takes_rest,
            joined: written.joined.unwrap_or(true),
            single_dash_long: written.single_dash_long,
            dashless_first: written.dashless_first,
            free: written.free,
            unseen,
            reads: written.reads,
            writes: written.writes,
            moves_operands: written.moves_operands,
            bare_globs: written.bare_globs,
            require,
            max_options: written.max_options,
            opaque: written.opaque,
            args,
            subs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_files_load_and_describe_each_program_once() {
        let mut seen = BTreeMap::new();
        for (file, text) in shipped::FILES {
            match read(file, text) {
                Err(error) => panic!("{error}"),
                Ok(nodes) => {
                    for (name, _) in nodes {
                        if let Some(other) = seen.insert(name.clone(), *file) {
                            panic!("`{name}` is in {other} and in {file}");
                        }
                    }
                }
            }
        }
        assert!(seen.len() > 10);
    }

    #[test]
    fn errors_name_file_line_and_reason() {
        let mut schemas = Schemas::none();
        let text = "\n[[command]]\nname = \"x\"\nargs = [\"nonsense\"]\n";
        assert_eq!(
            schemas.extend_from("own.toml", text).unwrap_err().to_string(),
            "own.toml:3: command `x`: unknown kind `nonsense`"
        );
        let error = schemas.extend_from("own.toml", "[[command]]\nname = \"x\"\nclss = \"read\"\n").unwrap_err();
        assert!(error.to_string().starts_with("own.toml:3: unknown field `clss`"), "{error}");
        for (body, part) in [
            ("class = \"define\"", "`administer`"),
            ("args = [\"path:read or x\"]", "default"),
            ("args = [\"path:read? or x\", \"shell? or y\"]", "default"),
            ("inert = true\nunseen = \"read\"", "same thing"),
            ("unseen = \"anything\"", "`unseen`"),
            ("when = [{ option = \"-f\", options = { \"-g\" = \"path:read\" } }]", "no value"),
            (
                "options = { \"-g\" = \"text\" }\nwhen = [{ option = \"-f\", options = { \"-g\" = \"shell\" } }]",
                "unknown kind",
            ),
            ("when = [{ option = \"-f\", paths = \"text\" }]", "no path"),
        ] {
            let error = schemas.extend(&format!("[[command]]\nname = \"x\"\n{body}\n")).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn a_users_schema_replaces_the_shipped_one() {
        let mut schemas = Schemas::shipped();
        schemas.extend("[[command]]\nname = \"ls\"\nclass = \"opaque\"\n").unwrap();
        assert_eq!(schemas.find("ls").unwrap().class, Some(Class::Opaque));
    }
}
