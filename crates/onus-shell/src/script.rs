//! Which scripts of `sed` and `awk` surely do nothing but edit and print text.
//!
//! Both languages can run programs and write files, in a few known ways. What is accepted here has none of them. This is no
//! parser of either language: a script that is wrong is the program's own business, one that isn't understood is refused.

use crate::word::{HOME, WILD};

/// A `sed` script of printing, deleting, inserting, jumping, translating and substituting, without blocks and without the flags `e` and `w`.
pub(crate) fn sed(script: &str) -> Result<(), String> {
    let mut rest = script;
    if rest.contains([HOME, WILD]) {
        return Err("a part that the shell fills in".to_owned());
    }
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';', '\n']);
        if rest.is_empty() {
            return Ok(());
        }
        rest = address(rest)?;
        rest = rest.trim_start_matches(' ');
        if let Some(after) = rest.strip_prefix(',') {
            rest = address(after.trim_start_matches(' '))?;
        }
        rest = rest.trim_start_matches([' ', '!']);
        let Some(command) = rest.chars().next() else { return Err("an address alone".to_owned()) };
        rest = &rest[command.len_utf8()..];
        match command {
            'p' | 'd' | '=' | 'n' | 'N' | 'g' | 'G' | 'h' | 'H' | 'x' | 'P' | 'D' | 'z' | 'F' => {}
            'q' | 'Q' | 'l' => rest = rest.trim_start_matches(|c: char| c.is_ascii_digit()),
            // Some programs take a label up to the end of the line: then what comes after it does nothing.
            ':' | 'b' | 't' => {
                rest = rest.trim_start_matches(' ').trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
            }
            // Text up to the end of the line; a backslash at the end would let the next script go on with it.
            'a' | 'i' | 'c' => {
                let text = rest.trim_start_matches([' ', '\\']);
                if text.is_empty() || rest.contains('\n') || rest.ends_with('\\') {
                    return Err("text of several lines".to_owned());
                }
                return Ok(());
            }
            's' | 'y' => {
                let Some(delimiter) = rest.chars().next() else { return Err("a command without its end".to_owned()) };
                if !"/|#,:@%!_+~".contains(delimiter) {
                    return Err(format!("the delimiter `{delimiter}`"));
                }
                rest = if command == 's' { pattern(&rest[1..], delimiter)? } else { until(&rest[1..], delimiter)? };
                rest = until(rest, delimiter)?;
                if command == 's' {
                    // INVARIANT: no `e`, no `w`.
                    rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || "gpiIm".contains(c));
                }
            }
            other => return Err(format!("the command `{other}`")),
        }
        rest = rest.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with([';', '\n']) {
            return Err("something after a command".to_owned());
        }
    }
}

/// What comes after the address, which may be none.
fn address(text: &str) -> Result<&str, String> {
    if let Some(after) = text.strip_prefix('/') {
        return Ok(pattern(after, '/')?.trim_start_matches(['I', 'M']));
    }
    if let Some(after) = text.strip_prefix('$') {
        return Ok(after);
    }
    Ok(text.trim_start_matches(|c: char| c.is_ascii_digit() || "~+".contains(c)))
}

/// What comes after a pattern. Some programs let a bracket hide the delimiter and some don't: where that makes a difference, it
/// is refused.
fn pattern(text: &str, delimiter: char) -> Result<&str, String> {
    let rest = until(text, delimiter)?;
    let pattern = &text[..text.len() - rest.len() - delimiter.len_utf8()];
    let different = || "a bracket that may hide the delimiter".to_owned();
    if ["[.", "[="].iter().any(|part| pattern.contains(part)) {
        return Err(different());
    }
    let mut left = pattern;
    while let Some(at) = left.find(['\\', '[']) {
        if left[at..].starts_with('\\') {
            let mut chars = left[at + 1..].chars();
            chars.next();
            left = chars.as_str();
            continue;
        }
        left = &left[at + 1..];
        left = left.strip_prefix('^').unwrap_or(left);
        left = left.strip_prefix(']').unwrap_or(left);
        loop {
            let end = left.find([']', '[']).ok_or_else(different)?;
            match left[end..].strip_prefix("[:") {
                Some(class) => left = &class[class.find(":]").ok_or_else(different)? + 2..],
                None if left[end..].starts_with('[') => left = &left[end + 1..],
                None => {
                    left = &left[end + 1..];
                    break;
                }
            }
        }
    }
    Ok(rest)
}

/// What comes after the next delimiter that has no backslash before it; a bracket doesn't hide one.
fn until(text: &str, delimiter: char) -> Result<&str, String> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            // A newline ends some commands on some hosts.
            '\n' => return Err("a newline".to_owned()),
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == delimiter => return Ok(&text[at + c.len_utf8()..]),
            _ => {}
        }
    }
    Err("a command without its end".to_owned())
}

/// An `awk` program in which none of the ways out of the language stands anywhere, not even inside of a string.
///
/// A program is run by `system` or a pipe (`|`), a file is written by `>` or a pipe, other files are read by `getline` or by
/// changing `ARGV`; code is loaded and functions are called by name with `@`.
pub(crate) fn awk(program: &str) -> Result<(), String> {
    if program.contains([HOME, WILD]) {
        return Err("a part that the shell fills in".to_owned());
    }
    let piped = program.replace("||", "");
    // Without `print` a `>` compares, and so it does in a pattern, which comes before any action.
    let actions = &program[program.find('{').unwrap_or(program.len())..];
    if piped.contains('|') || (actions.contains('>') && program.contains("print")) {
        return Err("`|` or `>`".to_owned());
    }
    for part in ["@", "system", "getline", "ARG", "PROCINFO", "SYMTAB", "FUNCTAB", "extension", "function", "func "] {
        if program.contains(part) {
            return Err(format!("`{}`", part.trim_end()));
        }
    }
    // A line continuation could cut a word in two.
    if program.contains("\\\n") {
        return Err("a continued line".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sed_script_that_only_edits_is_known() {
        for script in [
            "p",
            "1p",
            "1,10p",
            "$d",
            "/x/d",
            "/a\\/b/,/c/p",
            "s/a/b/",
            "s/a/b/g",
            "s|/a|/b|gI",
            "s/[/]/b/",
            "1!G;h;$!d",
            "2q",
            "s/a/b/;s/c/d/",
            "10,$ s/x//",
            "y/abc/xyz/",
            "/^#/d;/^$/d",
            "1~2p",
            "15i some text; e id",
            "$a x",
            "/x/c\\y",
            ":a;s/a/b/;ta",
            "$!ba",
            "q5",
            "Q",
            "l",
            "F",
            "s/[[:space:]]*$//",
            "s/[^]/]x/b/",
            "s/[]/]/b/",
            "s/[a-z]/x/",
            "s/\\(a\\)\\/b/\\1/2p",
            "",
            "=",
        ] {
            let hidden = script.contains("/]");
            assert_eq!(sed(script).is_ok(), !hidden, "{script}");
        }
    }

    #[test]
    fn a_sed_script_that_runs_or_writes_is_not() {
        for script in [
            "e",
            "1e id",
            "s/a/b/e",
            "s/a/b/ge",
            "s/a/b/w /etc/x",
            "s/a/b/gw x",
            "w x",
            "W x",
            "r /etc/shadow",
            "R x",
            "1{e\n}",
            "{e}",
            "/a/e id",
            "s/a/b/;e",
            "s/a/b/\ne",
            "p\ne id",
            "p;e id",
            "i\\\nx",
            "v",
            "s,a,b,e",
            "sxaxbxe",
            "s/a/b",
            "/a",
            "\\,a,e",
            "s/a\n/b/e",
            "p e",
            "y/a/b/e",
            "#n\ne",
            "s/a/b/ e",
            "$e",
            "1,2e",
            "p}e",
            "0,/a/e",
            "s/a/b/M;e id",
            "a",
            "a\\",
            "a x\\",
            "a x\ne id",
            ":a;e id",
            "b;e",
            "ta e",
            "b}e",
            "q;e",
            "q e",
            "s/[/]/g;s/w x/y/",
            "/[/]/p;s/w x/y/",
            "s/[[:x/]/p;s/w x/y/",
            "s/[[.].]/]/g;s/w x/y/",
        ] {
            assert!(sed(script).is_err(), "{script}");
        }
    }

    #[test]
    fn an_awk_program_with_a_way_out_is_not_known() {
        for program in [
            "{print $1}",
            "NR==3",
            "/x/ {print $2, $NF}",
            "BEGIN{s=0} {s+=$1} END{print s}",
            "{printf \"%s\\n\", $1}",
            "1",
            "//",
            "$1 > 5 || $2 < 3",
        ] {
            assert!(awk(program).is_ok(), "{program}");
        }
        for program in [
            "BEGIN{system(\"id\")}",
            "{print | \"sh\"}",
            "{print > \"x\"}",
            "{print >> \"x\"}",
            "{\"id\" | getline}",
            "BEGIN{while((getline l < \"/etc/shadow\")) print l}",
            "@load \"x\"",
            "BEGIN{f=\"system\";@f(\"id\")}",
            "BEGIN{ARGV[1]=\"/etc/shadow\";ARGC=2}",
            "BEGIN{\"id\" |& getline}",
            "{print|\"sh\"}",
            "{print \"id\" |||\"sh\"}",
            "{printf \"x\">$1}",
            "$1>0 {print > 2}",
            "BEGIN{sys\\\ntem(\"id\")}",
        ] {
            assert!(awk(program).is_err(), "{program}");
        }
    }
}
