//! Takes a policy text apart into its statements, so that every problem can be told with its line.
//!
//! It only finds where each statement ends. Whether a statement is a policy is for Cedar's own parser to say: each
//! piece must parse as exactly one policy, and the whole must parse to as many, so a mistake here can only refuse.

/// One statement and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Statement<'a> {
    /// The line of its first character that is neither blank nor comment, from 1.
    pub line: usize,
    /// Its text, from that character to its semicolon.
    pub text: &'a str,
}

/// Splits at the semicolons that stand outside strings and comments.
pub(crate) fn split(text: &str) -> Vec<Statement<'_>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Within {
        Code,
        Comment,
        Text,
    }
    let bytes = text.as_bytes();
    let mut statements = Vec::new();
    let mut within = Within::Code;
    let mut line = 1;
    let mut begun: Option<(usize, usize)> = None;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == b'\n' {
            line += 1;
        }
        match within {
            // Cedar ends a comment at a carriage return too.
            Within::Comment if byte == b'\n' || byte == b'\r' => within = Within::Code,
            Within::Comment => {}
            Within::Text if byte == b'\\' => {
                at += 1;
                if bytes.get(at) == Some(&b'\n') {
                    line += 1;
                }
            }
            Within::Text if byte == b'"' => within = Within::Code,
            Within::Text => {}
            Within::Code if byte == b'/' && bytes.get(at + 1) == Some(&b'/') => within = Within::Comment,
            Within::Code if byte.is_ascii_whitespace() => {}
            Within::Code => {
                let (start, first) = *begun.get_or_insert((at, line));
                if byte == b'"' {
                    within = Within::Text;
                } else if byte == b';' {
                    statements.push(Statement { line: first, text: &text[start..=at] });
                    begun = None;
                }
            }
        }
        at += 1;
    }
    if let Some((start, first)) = begun {
        statements.push(Statement { line: first, text: &text[start..] });
    }
    statements
}

/// How deep a statement's brackets nest, and an upper bound of how long its chains of operators, dots and words are.
///
/// Brackets count outside strings and comments only, since a closing one in a string must not hide an opening one;
/// the others count wherever they stand: too many rather than too few.
pub(crate) fn nesting(text: &str) -> (usize, usize) {
    let words = ["if", "has", "like", "in", "is"];
    let marks = text.bytes().filter(|byte| b".+-*!&|<>=".contains(byte)).count()
        + text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| words.contains(word)).count();
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'(' | b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(inner) = bytes.next().filter(|inner| *inner != b'"') {
                    if inner == b'\\' {
                        bytes.next();
                    }
                }
            }
            b'/' if bytes.peek() == Some(&b'/') => {
                while bytes.next_if(|inner| *inner != b'\n' && *inner != b'\r').is_some() {}
            }
            _ => {}
        }
    }
    (deepest, marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_chains_are_counted_and_strings_hide_neither() {
        assert!(nesting(&"a && ".repeat(100)).1 >= 100);
        assert!(nesting(&"if a then b else ".repeat(100)).1 >= 100);
        assert_eq!(nesting("([{}]) [()]").0, 3);
        assert_eq!(
            nesting("( \"))\\\")\" ( // ))\n ( ").0,
            3,
            "closing brackets in strings and comments close nothing"
        );
        assert_eq!(nesting("permit(principal, action in [Action::\"a\", Action::\"b\"], resource);"), (2, 1));
    }

    #[test]
    fn semicolons_in_strings_and_comments_end_nothing() {
        let text =
            "// a; b\n@why(\"one; \\\"two;\")\npermit(principal, action, resource); // end;\n\nforbid(x);\n// tail";
        let found: Vec<_> = split(text).into_iter().map(|s| (s.line, s.text)).collect();
        assert_eq!(found, [(2, "@why(\"one; \\\"two;\")\npermit(principal, action, resource);"), (5, "forbid(x);")]);
    }

    #[test]
    fn what_lacks_its_semicolon_is_still_seen() {
        assert_eq!(split("permit(principal"), [Statement { line: 1, text: "permit(principal" }]);
        assert_eq!(split(" \n// nothing\n"), []);
        assert_eq!(split("\"open ;").len(), 1);
    }
}
