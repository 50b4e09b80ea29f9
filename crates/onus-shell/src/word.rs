//! One word of a final argument vector, and the only two ways in which it is ever written down.
//!
//! A word is text in which two things may stand that are not text: the remote home directory, and a wildcard that
//! the remote shell will expand. Both are kept as marks inside the string (control characters, which no word may
//! hold otherwise), so that the schemas can cut options apart with plain string operations and a mark can never be
//! mistaken for what somebody typed.

/// Stands for the value of `$HOME` on the remote side.
pub(crate) const HOME: char = '\u{1}';
/// Stands before every character of a pattern that the remote shell shall see unquoted.
pub(crate) const WILD: char = '\u{2}';

/// Appends `text` between single quotes: every POSIX shell reads it back as exactly this text.
pub(crate) fn quote_into(out: &mut String, text: &str) {
    out.push('\'');
    for c in text.chars() {
        if c == '\'' {
            out.push_str("'\\''");
        } else {
            out.push(c);
        }
    }
    out.push('\'');
}

/// Whether a word can stand bare in the *displayed* form of a command.
fn plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c)
}

/// One word of an argument vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg(pub(crate) String);

impl Arg {
    /// The exact text, when the word has no part that the remote side fills in.
    pub fn literal(&self) -> Option<&str> {
        if self.0.contains([HOME, WILD]) { None } else { Some(&self.0) }
    }

    /// The exact text on a host where the home directory is `home`; none when the word holds a wildcard.
    pub fn on_host(&self, home: &str) -> Option<String> {
        if self.0.contains(WILD) { None } else { Some(self.0.replace(HOME, home)) }
    }

    /// Whether the remote shell expands a wildcard in it.
    pub fn is_pattern(&self) -> bool {
        self.0.contains(WILD)
    }

    /// The word as it is sent: single-quoted literals, `"$HOME"`, and bare wildcards.
    pub fn canonical(&self) -> String {
        let mut out = String::with_capacity(self.0.len() + 2);
        canonical_into(&mut out, &self.0);
        out
    }

    /// The word as people and policies read it: quoted only where it must be.
    pub fn display(&self) -> String {
        let mut out = String::with_capacity(self.0.len() + 2);
        display_into(&mut out, &self.0);
        out
    }
}

/// Appends the form that is sent.
pub(crate) fn canonical_into(out: &mut String, word: &str) {
    if word.is_empty() {
        out.push_str("''");
        return;
    }
    let mut rest = word;
    while !rest.is_empty() {
        let cut = rest.find([HOME, WILD]).unwrap_or(rest.len());
        if cut > 0 {
            quote_into(out, &rest[..cut]);
        }
        rest = &rest[cut..];
        if let Some(after) = rest.strip_prefix(HOME) {
            out.push_str("\"$HOME\"");
            rest = after;
        } else if let Some(after) = rest.strip_prefix(WILD) {
            let mut chars = after.chars();
            out.extend(chars.next());
            rest = chars.as_str();
        }
    }
}

/// Appends the form that is shown and that policies compare.
pub(crate) fn display_into(out: &mut String, word: &str) {
    let body = word.strip_prefix(HOME).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let (tilde, body) = match body {
        Some(rest) => ("~", rest),
        None => ("", word),
    };
    out.push_str(tilde);
    if body.is_empty() && tilde.is_empty() {
        out.push_str("''");
        return;
    }
    let mut chars = body.chars();
    let bare = loop {
        match chars.next() {
            None => break true,
            Some(WILD) => {
                chars.next();
            }
            Some(c) if plain(c) => {}
            Some(_) => break false,
        }
    };
    if bare {
        out.extend(body.chars().filter(|c| *c != WILD));
    } else {
        canonical_into(out, body);
    }
}

/// A whole argument vector as people and policies read it.
pub(crate) fn display(argv: &[String]) -> String {
    let mut out = String::new();
    for (at, word) in argv.iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        display_into(&mut out, word);
    }
    out
}

/// Why a character may not stand in a word, if it may not.
///
/// Control characters would reach terminals and programs that nobody looked at; invisible and direction-changing
/// characters make a word look like another one to whoever approves it.
pub(crate) fn forbidden(c: char) -> Option<String> {
    let code = c as u32;
    let bad = matches!(code,
        0..=8 | 0xB..=0x1F | 0x7F..=0x9F | 0xAD | 0x61C | 0x115F | 0x1160 | 0x180B..=0x180F | 0x200B..=0x200F
        | 0x2028..=0x202E | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF9..=0xFFFB
        | 0xE0000..=0xE0FFF);
    bad.then(|| format!("the character U+{code:04X} in a word"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_inside_a_word_stays_inside() {
        assert_eq!(Arg("it's".into()).canonical(), r"'it'\''s'");
        assert_eq!(Arg(String::new()).canonical(), "''");
        assert_eq!(Arg(format!("{HOME}/a b")).canonical(), "\"$HOME\"'/a b'");
        assert_eq!(Arg(format!("/var/{WILD}*.log")).canonical(), "'/var/'*'.log'");
    }

    #[test]
    fn a_typed_tilde_and_the_home_directory_look_different() {
        assert_eq!(Arg(format!("{HOME}/x")).display(), "~/x");
        assert_eq!(Arg("~/x".into()).display(), "'~/x'");
        assert_eq!(Arg("*".into()).display(), "'*'");
        assert_eq!(Arg(format!("{WILD}*")).display(), "*");
    }
}
