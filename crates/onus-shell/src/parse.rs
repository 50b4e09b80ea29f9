//! The grammar of a line: bytes to a tree of pipelines, commands, redirections and words, nothing expanded.
//!
//! A hand-written recursive descent parser with a bounded depth, no backtracking and no library behind it: a general
//! bash parser was measured first, and it takes exponential time on `((((…` and overflows the stack on nested `$(`,
//! which in a gateway ends everybody's session. What this grammar doesn't know it refuses by name. A misreading here
//! cannot run anything unseen, because the text is never sent; it can only make the line mean something else than its
//! author thought, and that is what the review of the operations shows.

/// The longest line, in bytes.
pub(crate) const MAX_LINE: usize = 64 * 1024;
/// The deepest nesting of compound commands.
const MAX_DEPTH: usize = 24;
/// The most words and redirections of one line.
const MAX_TOKENS: usize = 8192;

/// One piece of a word as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Atom {
    /// A character, and whether a quote took its special meaning away.
    Char(char, bool),
    /// `$name` or `${name}`, and whether it stands in double quotes.
    Variable(Box<str>, bool),
    /// A pair of quotes with nothing in it: the word exists although it is empty.
    Quotes,
    /// What only the running shell could know, and what it is.
    Dynamic(Box<str>),
}

pub(crate) type Word = Vec<Atom>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrow {
    In,
    Out,
    Append,
    Clobber,
    Both,
    DupIn,
    DupOut,
    OutAll,
    AppendAll,
    /// A here-document: its index in [`Tree::heres`].
    Here(usize),
    HereString,
}

#[derive(Debug, Clone)]
pub(crate) struct Redirect {
    pub fd: Option<u8>,
    pub arrow: Arrow,
    pub target: Word,
}

#[derive(Debug, Clone)]
pub(crate) struct Here {
    delimiter: String,
    strip_tabs: bool,
    quoted: bool,
    /// The body as a word, in which an unquoted delimiter lets variables be expanded.
    pub body: Word,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Simple(Vec<Word>),
    Braces(Vec<Item>),
    Subshell(Vec<Item>),
    /// Conditions with their branches, and the `else` branch.
    If(Vec<(Vec<Item>, Vec<Item>)>, Option<Vec<Item>>),
    While {
        until: bool,
        condition: Vec<Item>,
        body: Vec<Item>,
    },
    For {
        name: String,
        words: Vec<Word>,
        body: Vec<Item>,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub kind: Kind,
    pub redirects: Vec<Redirect>,
}

#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    pub negated: bool,
    /// Each command, and whether `|&` sends its errors on too.
    pub commands: Vec<(Command, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    And,
    Or,
}

#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub first: Pipeline,
    pub rest: Vec<(Join, Pipeline)>,
    pub background: bool,
}

/// Why there is no tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The line goes on: an open quote, here-document, block, or trailing operator.
    Incomplete,
    /// A construct that is known and refused, or an error, in words.
    Refused(String),
}

/// What was read before the end or before the construct that stopped it.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub items: Vec<Item>,
    pub heres: Vec<Here>,
    pub stop: Option<Stop>,
}

type Read<T> = Result<T, Stop>;

fn refused<T>(why: impl Into<String>) -> Read<T> {
    Err(Stop::Refused(why.into()))
}

/// Reads a line (or several: a here-document spans lines).
pub(crate) fn parse(text: &str) -> Tree {
    let mut parser = Parser { text, at: 0, depth: 0, tokens: 0, heres: Vec::new(), waiting: Vec::new() };
    let mut tree = Tree::default();
    loop {
        match parser.item(&[]) {
            Ok(Some(item)) => tree.items.push(item),
            Ok(None) => break,
            Err(stop) => {
                tree.stop = Some(stop);
                break;
            }
        }
    }
    if tree.stop.is_none() {
        if parser.at < text.len() {
            tree.stop = Some(Stop::Refused(format!("unexpected `{}`", parser.snippet())));
        } else if !parser.waiting.is_empty() {
            tree.stop = Some(Stop::Incomplete);
        }
    }
    tree.heres = parser.heres;
    tree
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    tokens: usize,
    heres: Vec<Here>,
    /// Here-documents whose body begins at the next newline.
    waiting: Vec<usize>,
}

fn ends_word(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\n' | b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')')
}

const CLOSERS: &[&str] = &["then", "do", "done", "fi", "else", "elif", "esac", "}"];

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn sees(&self, token: &str) -> bool {
        self.text.as_bytes()[self.at..].starts_with(token.as_bytes())
    }

    fn eats(&mut self, token: &str) -> bool {
        let found = self.sees(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn snippet(&self) -> String {
        self.text[self.at..].chars().take(12).filter(|c| !c.is_control()).collect()
    }

    fn blanks(&mut self) {
        loop {
            match self.peek() {
                Some(b' ' | b'\t') => self.at += 1,
                Some(b'\\') if self.sees("\\\n") => self.at += 2,
                // A comment can only begin where a word could.
                Some(b'#') => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find('\n').unwrap_or(rest.len());
                }
                _ => return,
            }
        }
    }

    /// Blanks and newlines.
    fn gap(&mut self) -> Read<()> {
        loop {
            self.blanks();
            if self.peek() != Some(b'\n') {
                return Ok(());
            }
            self.newline()?;
        }
    }

    fn newline(&mut self) -> Read<()> {
        self.at += 1;
        for index in std::mem::take(&mut self.waiting) {
            self.here_body(index)?;
        }
        Ok(())
    }

    fn here_body(&mut self, index: usize) -> Read<()> {
        let (delimiter, strip, quoted) =
            (self.heres[index].delimiter.clone(), self.heres[index].strip_tabs, self.heres[index].quoted);
        let mut body = String::new();
        loop {
            if self.at >= self.text.len() {
                return Err(Stop::Incomplete);
            }
            let rest = &self.text[self.at..];
            let (line, ended) = match rest.find('\n') {
                Some(end) => (&rest[..end], true),
                None => (rest, false),
            };
            let shown = if strip { line.trim_start_matches('\t') } else { line };
            self.at += line.len() + usize::from(ended);
            if shown == delimiter {
                break;
            }
            if !ended {
                return Err(Stop::Incomplete);
            }
            body.push_str(shown);
            body.push('\n');
        }
        self.heres[index].body = if quoted {
            body.chars().map(|c| Atom::Char(c, true)).collect()
        } else {
            let mut inner =
                Parser { text: &body, at: 0, depth: self.depth, tokens: 0, heres: Vec::new(), waiting: Vec::new() };
            let mut word = Vec::new();
            match inner.double_quoted(&mut word, false) {
                Ok(()) => word,
                Err(_) => vec![Atom::Dynamic("a substitution in a here-document".into())],
            }
        };
        Ok(())
    }

    fn token(&mut self) -> Read<()> {
        self.tokens += 1;
        if self.tokens > MAX_TOKENS { refused("too many words in one line") } else { Ok(()) }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        if self.depth >= MAX_DEPTH {
            return refused("commands nested too deeply");
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// The unquoted word of plain characters at this place, for reserved words.
    fn reserved(&self) -> &'a str {
        let bytes = &self.text.as_bytes()[self.at..];
        let len = bytes.iter().position(|c| ends_word(*c)).unwrap_or(bytes.len());
        self.text.get(self.at..self.at + len).unwrap_or("")
    }

    /// Reads commands up to one of the closers, which stays unread; at least one is needed.
    fn list(&mut self, closers: &[&str]) -> Read<Vec<Item>> {
        let mut items = Vec::new();
        while let Some(item) = self.item(closers)? {
            items.push(item);
        }
        if self.at >= self.text.len() {
            return Err(Stop::Incomplete);
        }
        if items.is_empty() {
            return refused(format!("unexpected `{}`", self.snippet()));
        }
        Ok(items)
    }

    /// The next command list, up to and with its separator; none at the end or at a closer.
    fn item(&mut self, closers: &[&str]) -> Read<Option<Item>> {
        self.gap()?;
        match self.peek() {
            None | Some(b')') => return Ok(None),
            _ => {}
        }
        if closers.contains(&self.reserved()) {
            return Ok(None);
        }
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            self.blanks();
            let join = if self.eats("&&") {
                Join::And
            } else if self.eats("||") {
                Join::Or
            } else {
                break;
            };
            self.more()?;
            rest.push((join, self.pipeline()?));
        }
        let mut background = false;
        match self.peek() {
            None | Some(b')') => {}
            Some(b'\n') => self.newline()?,
            Some(b';') if self.sees(";;") || self.sees(";&") => return refused("`;;` outside of `case`"),
            Some(b';') => self.at += 1,
            Some(b'&') => {
                self.at += 1;
                background = true;
            }
            _ => return refused(format!("unexpected `{}`", self.snippet())),
        }
        Ok(Some(Item { first, rest, background }))
    }

    /// After an operator, the line has to go on.
    fn more(&mut self) -> Read<()> {
        self.gap()?;
        if self.at >= self.text.len() { Err(Stop::Incomplete) } else { Ok(()) }
    }

    fn pipeline(&mut self) -> Read<Pipeline> {
        let mut negated = false;
        while self.reserved() == "!" {
            self.at += 1;
            negated = !negated;
            self.blanks();
            if self.at >= self.text.len() {
                return refused("`!` without a command");
            }
        }
        let mut commands = Vec::new();
        loop {
            let command = self.command()?;
            self.blanks();
            if self.sees("|&") {
                self.at += 2;
                commands.push((command, true));
            } else if self.sees("|") && !self.sees("||") {
                self.at += 1;
                commands.push((command, false));
            } else {
                commands.push((command, false));
                return Ok(Pipeline { negated, commands });
            }
            self.more()?;
        }
    }

    fn command(&mut self) -> Read<Command> {
        if self.peek() == Some(b'(') {
            if self.sees("((") {
                return refused("an arithmetic command `((`");
            }
            self.at += 1;
            let items = self.deeper(|p| p.list(&[]))?;
            if !self.eats(")") {
                return Err(Stop::Incomplete);
            }
            return self.compound(Kind::Subshell(items));
        }
        let word = self.reserved();
        match word {
            "{" => {
                self.at += 1;
                let items = self.deeper(|p| p.list(&["}"]))?;
                self.close("}")?;
                self.compound(Kind::Braces(items))
            }
            "if" => self.deeper(Self::if_command),
            "while" | "until" => {
                let until = word == "until";
                self.at += 5;
                self.deeper(|p| {
                    let condition = p.list(&["do"])?;
                    p.close("do")?;
                    let body = p.list(&["done"])?;
                    p.close("done")?;
                    p.compound(Kind::While { until, condition, body })
                })
            }
            "for" => self.deeper(Self::for_command),
            "case" => refused("a `case` command"),
            "select" => refused("a `select` command"),
            "function" => refused("a function definition"),
            "coproc" => refused("a coprocess"),
            "[[" => refused("a `[[` test"),
            _ if CLOSERS.contains(&word) || word == "]]" => refused(format!("unexpected `{word}`")),
            _ => self.simple(),
        }
    }

    fn close(&mut self, word: &str) -> Read<()> {
        if self.reserved() == word {
            self.at += word.len();
            Ok(())
        } else if self.at >= self.text.len() {
            Err(Stop::Incomplete)
        } else {
            refused(format!("unexpected `{}`", self.snippet()))
        }
    }

    /// The redirections behind a compound command.
    fn compound(&mut self, kind: Kind) -> Read<Command> {
        let mut redirects = Vec::new();
        loop {
            self.blanks();
            match self.redirect()? {
                Some(redirect) => redirects.push(redirect),
                None => break,
            }
        }
        match self.peek() {
            None | Some(b'\n' | b';' | b'&' | b'|' | b')') => Ok(Command { kind, redirects }),
            // `}` and the reserved words may follow a closer directly only after a separator.
            _ => refused(format!("unexpected `{}`", self.snippet())),
        }
    }

    fn if_command(&mut self) -> Read<Command> {
        let mut branches = Vec::new();
        self.at += 2;
        loop {
            let condition = self.list(&["then"])?;
            self.close("then")?;
            let body = self.list(&["elif", "else", "fi"])?;
            branches.push((condition, body));
            if self.reserved() == "elif" {
                self.at += 4;
                continue;
            }
            break;
        }
        let mut otherwise = None;
        if self.reserved() == "else" {
            self.at += 4;
            otherwise = Some(self.list(&["fi"])?);
        }
        self.close("fi")?;
        self.compound(Kind::If(branches, otherwise))
    }

    fn for_command(&mut self) -> Read<Command> {
        self.at += 3;
        self.blanks();
        if self.sees("((") {
            return refused("an arithmetic `for`");
        }
        let name = self.reserved().to_owned();
        if name.is_empty() && self.at >= self.text.len() {
            return Err(Stop::Incomplete);
        }
        if !is_name(&name) {
            return refused("a `for` without a name");
        }
        self.at += name.len();
        self.gap()?;
        if self.reserved() != "in" {
            return if self.at >= self.text.len() {
                Err(Stop::Incomplete)
            } else {
                refused("a `for` over the positional parameters")
            };
        }
        self.at += 2;
        let mut words = Vec::new();
        loop {
            self.blanks();
            match self.peek() {
                None => return Err(Stop::Incomplete),
                Some(b';' | b'\n') => {
                    if self.peek() == Some(b';') {
                        self.at += 1;
                    }
                    break;
                }
                Some(c) if ends_word(c) => return refused(format!("unexpected `{}`", self.snippet())),
                Some(_) => words.push(self.word()?),
            }
        }
        self.gap()?;
        self.close("do")?;
        let body = self.list(&["done"])?;
        self.close("done")?;
        self.compound(Kind::For { name, words, body })
    }

    fn simple(&mut self) -> Read<Command> {
        let mut words: Vec<Word> = Vec::new();
        let mut redirects = Vec::new();
        loop {
            self.blanks();
            if let Some(redirect) = self.redirect()? {
                redirects.push(redirect);
                continue;
            }
            match self.peek() {
                None | Some(b'\n' | b';' | b'&' | b'|' | b')') => break,
                Some(b'(') => {
                    return match words.last() {
                        Some(word) if word.last() == Some(&Atom::Char('=', false)) => refused("an array"),
                        _ => refused("a function definition or an extended pattern"),
                    };
                }
                Some(_) => words.push(self.word()?),
            }
        }
        if words.is_empty() && redirects.is_empty() {
            return if self.at >= self.text.len() {
                Err(Stop::Incomplete)
            } else {
                refused(format!("unexpected `{}`", self.snippet()))
            };
        }
        Ok(Command { kind: Kind::Simple(words), redirects })
    }

    fn redirect(&mut self) -> Read<Option<Redirect>> {
        let bytes = &self.text.as_bytes()[self.at..];
        let digits = bytes.iter().take_while(|c| c.is_ascii_digit()).count();
        let arrow_at = bytes.get(digits).copied();
        if arrow_at == Some(b'{') && digits == 0 {
            // `{name}>file` stores a descriptor in a variable.
            if let Some(end) = bytes.iter().position(|c| *c == b'}')
                && matches!(bytes.get(end + 1), Some(b'<' | b'>'))
                && is_name(&self.text[self.at + 1..self.at + end])
            {
                return refused("a redirection into a variable");
            }
            return Ok(None);
        }
        let all = self.sees("&>");
        if !all && !matches!(arrow_at, Some(b'<' | b'>')) {
            return Ok(None);
        }
        self.token()?;
        // A second digit is an argument to some shells and a descriptor to others.
        if digits > 1 {
            return refused("a descriptor above 9");
        }
        let fd = (digits == 1).then(|| bytes[0] - b'0');
        self.at += digits;
        if self.sees("<(") || self.sees(">(") {
            return refused("a process substitution");
        }
        let arrows = [
            ("&>>", Arrow::AppendAll),
            ("&>", Arrow::OutAll),
            ("<<<", Arrow::HereString),
            ("<<-", Arrow::Here(1)),
            ("<<", Arrow::Here(0)),
            ("<&", Arrow::DupIn),
            ("<>", Arrow::Both),
            ("<", Arrow::In),
            (">>", Arrow::Append),
            (">&", Arrow::DupOut),
            (">|", Arrow::Clobber),
            (">", Arrow::Out),
        ];
        let Some((token, arrow)) = arrows.into_iter().find(|(token, _)| self.sees(token)) else {
            return refused(format!("unexpected `{}`", self.snippet()));
        };
        self.at += token.len();
        self.blanks();
        match self.peek() {
            None => return Err(Stop::Incomplete),
            Some(c) if ends_word(c) => {
                return if self.sees("<(") || self.sees(">(") {
                    refused("a process substitution")
                } else {
                    refused(format!("`{token}` without a word"))
                };
            }
            _ => {}
        }
        let target = self.word()?;
        let arrow = match arrow {
            Arrow::Here(strip) => {
                let mut delimiter = String::new();
                let mut quoted = false;
                for atom in &target {
                    match atom {
                        Atom::Char(c, q) => {
                            delimiter.push(*c);
                            quoted |= q;
                        }
                        Atom::Quotes => quoted = true,
                        _ => return refused("a here-document whose end is computed"),
                    }
                }
                let index = self.heres.len();
                self.heres.push(Here { delimiter, strip_tabs: strip == 1, quoted, body: Vec::new() });
                self.waiting.push(index);
                Arrow::Here(index)
            }
            other => other,
        };
        Ok(Some(Redirect { fd, arrow, target }))
    }

    fn word(&mut self) -> Read<Word> {
        self.token()?;
        let mut word = Vec::new();
        while let Some(c) = self.text[self.at..].chars().next() {
            match c {
                c if c.is_ascii() && ends_word(c as u8) => break,
                '\'' => {
                    let body = &self.text[self.at + 1..];
                    let Some(end) = body.find('\'') else { return Err(Stop::Incomplete) };
                    if end == 0 {
                        word.push(Atom::Quotes);
                    }
                    word.extend(body[..end].chars().map(|c| Atom::Char(c, true)));
                    self.at += end + 2;
                }
                '"' => {
                    self.at += 1;
                    let before = word.len();
                    self.double_quoted(&mut word, true)?;
                    if word.len() == before {
                        word.push(Atom::Quotes);
                    }
                }
                '\\' => {
                    self.at += 1;
                    let Some(next) = self.text[self.at..].chars().next() else { return Err(Stop::Incomplete) };
                    self.at += next.len_utf8();
                    if next != '\n' {
                        word.push(Atom::Char(next, true));
                    }
                }
                '$' => self.dollar(&mut word, false)?,
                '`' => {
                    self.skip()?;
                    word.push(Atom::Dynamic("a command substitution".into()));
                }
                c => {
                    // What looks like a blank to a reader and isn't one to the shell.
                    if !c.is_ascii() && c.is_whitespace() {
                        word.push(Atom::Dynamic(format!("the space U+{:04X} outside of quotes", c as u32).into()));
                    }
                    self.at += c.len_utf8();
                    word.push(Atom::Char(c, false));
                }
            }
        }
        Ok(word)
    }

    /// The inside of double quotes, up to and with the closing one; without `closed`, up to the end of the text.
    fn double_quoted(&mut self, word: &mut Word, closed: bool) -> Read<()> {
        loop {
            let Some(c) = self.text[self.at..].chars().next() else {
                return if closed { Err(Stop::Incomplete) } else { Ok(()) };
            };
            match c {
                '"' if closed => {
                    self.at += 1;
                    return Ok(());
                }
                '\\' => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'\n') => self.at += 1,
                        Some(next @ (b'$' | b'`' | b'\\')) => {
                            self.at += 1;
                            word.push(Atom::Char(char::from(next), true));
                        }
                        Some(b'"') if closed => {
                            self.at += 1;
                            word.push(Atom::Char('"', true));
                        }
                        _ => word.push(Atom::Char('\\', true)),
                    }
                }
                '$' => self.dollar(word, true)?,
                '`' => {
                    self.skip()?;
                    word.push(Atom::Dynamic("a command substitution".into()));
                }
                c => {
                    self.at += c.len_utf8();
                    word.push(Atom::Char(c, true));
                }
            }
        }
    }

    fn dollar(&mut self, word: &mut Word, quoted: bool) -> Read<()> {
        let rest = &self.text[self.at + 1..];
        match rest.as_bytes().first().copied() {
            Some(b'\'') if !quoted => {
                self.at += 2;
                self.ansi_c(word)
            }
            // A message to be translated; the pinned locale has no catalogue.
            Some(b'"') if !quoted => {
                self.at += 1;
                Ok(())
            }
            Some(b'(') => {
                let arithmetic = rest.starts_with("((");
                self.at += 1;
                self.skip()?;
                word.push(Atom::Dynamic(if arithmetic { "arithmetic" } else { "a command substitution" }.into()));
                Ok(())
            }
            Some(b'[') => {
                self.at += 2;
                word.push(Atom::Dynamic("arithmetic".into()));
                Ok(())
            }
            Some(b'{') => {
                let name: &str = rest[1..].split('}').next().unwrap_or("");
                if is_name(name) && rest.len() > name.len() + 1 {
                    self.at += name.len() + 3;
                    word.push(Atom::Variable(name.into(), quoted));
                } else {
                    self.at += 1;
                    self.skip()?;
                    word.push(Atom::Dynamic("a parameter expansion `${…}`".into()));
                }
                Ok(())
            }
            Some(c) if c.is_ascii_alphabetic() || c == b'_' => {
                let len = rest.bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'_').count();
                self.at += len + 1;
                word.push(Atom::Variable(rest[..len].into(), quoted));
                Ok(())
            }
            Some(c @ (b'0'..=b'9' | b'@' | b'*' | b'#' | b'?' | b'-' | b'$' | b'!')) => {
                self.at += 2;
                word.push(Atom::Dynamic(format!("the parameter `${}`", char::from(c)).into()));
                Ok(())
            }
            _ => {
                self.at += 1;
                word.push(Atom::Char('$', quoted));
                Ok(())
            }
        }
    }

    fn ansi_c(&mut self, word: &mut Word) -> Read<()> {
        let mut bytes: Vec<u8> = Vec::new();
        loop {
            let Some(c) = self.text[self.at..].chars().next() else { return Err(Stop::Incomplete) };
            self.at += c.len_utf8();
            match c {
                '\'' => break,
                '\\' => {
                    let Some(e) = self.text[self.at..].chars().next() else { return Err(Stop::Incomplete) };
                    self.at += e.len_utf8();
                    match e {
                        'a' => bytes.push(7),
                        'b' => bytes.push(8),
                        'e' | 'E' => bytes.push(27),
                        'f' => bytes.push(12),
                        'n' => bytes.push(10),
                        'r' => bytes.push(13),
                        't' => bytes.push(9),
                        'v' => bytes.push(11),
                        '\\' | '\'' | '"' | '?' => bytes.push(e as u8),
                        '0'..='7' => {
                            self.at -= 1;
                            let value = self.digits(8, 3).unwrap_or(0);
                            bytes.push((value & 0xFF) as u8);
                        }
                        'x' => match self.digits(16, 2) {
                            Some(value) => bytes.push((value & 0xFF) as u8),
                            None => bytes.extend(b"\\x"),
                        },
                        'u' | 'U' => match self.digits(16, if e == 'u' { 4 } else { 8 }) {
                            Some(value) => match char::from_u32(value) {
                                Some(c) => bytes.extend(c.to_string().as_bytes()),
                                None => bytes.push(0xFF),
                            },
                            None => bytes.extend([b'\\', e as u8]),
                        },
                        // `\cX` only makes control characters, which no word may hold.
                        'c' => bytes.push(0),
                        other => bytes.extend(format!("\\{other}").as_bytes()),
                    }
                }
                c => bytes.extend(c.to_string().as_bytes()),
            }
        }
        match String::from_utf8(bytes) {
            Ok(text) if text.is_empty() => word.push(Atom::Quotes),
            Ok(text) => word.extend(text.chars().map(|c| Atom::Char(c, true))),
            Err(_) => word.push(Atom::Dynamic("bytes that are no UTF-8".into())),
        }
        Ok(())
    }

    fn digits(&mut self, radix: u32, most: usize) -> Option<u32> {
        let mut value: Option<u32> = None;
        for _ in 0..most {
            let Some(digit) = self.peek().and_then(|c| char::from(c).to_digit(radix)) else { break };
            value = Some(value.unwrap_or(0).wrapping_mul(radix).wrapping_add(digit));
            self.at += 1;
        }
        value
    }

    /// Skips a balanced `(…)`, `{…}` or backquoted text, with a stack of its own instead of the program's.
    fn skip(&mut self) -> Read<()> {
        let mut open: Vec<u8> = Vec::new();
        let bytes = self.text.as_bytes();
        loop {
            let Some(c) = bytes.get(self.at).copied() else { return Err(Stop::Incomplete) };
            let inside = open.last().copied();
            self.at += 1;
            match (inside, c) {
                (_, b'\\') => self.at = (self.at + 1).min(bytes.len()),
                (Some(b'"'), b'"') | (Some(b'('), b')') | (Some(b'{'), b'}') | (Some(b'`'), b'`') => {
                    open.pop();
                }
                (Some(b'"'), b'$') if matches!(bytes.get(self.at), Some(b'(' | b'{')) => {
                    open.push(bytes[self.at]);
                    self.at += 1;
                }
                (Some(b'"'), b'`') => open.push(c),
                (Some(b'"'), _) => {}
                (_, b'\'') => loop {
                    let Some(c) = bytes.get(self.at).copied() else { return Err(Stop::Incomplete) };
                    self.at += 1;
                    if c == b'\'' {
                        break;
                    }
                },
                (_, b'(' | b'"' | b'`') => open.push(c),
                (_, b'{') if inside.is_none() || bytes.get(self.at.wrapping_sub(2)) == Some(&b'$') => open.push(c),
                _ => {}
            }
            if open.is_empty() {
                // An escaped multi-byte character may have been cut.
                while !self.text.is_char_boundary(self.at) {
                    self.at += 1;
                }
                return Ok(());
            }
        }
    }
}

/// Whether it can be the name of a variable.
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        && bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_')
}
