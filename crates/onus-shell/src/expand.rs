//! Expansion that can be done soundly without the remote host: braces, `~`, `$HOME`, variables with known values, and
//! field splitting of those values. Everything else is refused with its name.

use crate::parse::{Atom, Word};
use crate::word::{HOME, WILD, forbidden};

/// The most words that one word's braces may become.
const MAX_BRACES: usize = 1024;
/// The most bytes that the expansion of one word may have.
const MAX_EXPANDED: usize = 128 * 1024;

/// The value of a variable.
pub(crate) enum Value {
    Text(String),
    /// The remote home directory.
    Home,
    /// Nobody here can know it, and why.
    Unknown(String),
}

type Known<T> = Result<T, String>;

/// The final words that one typed word becomes: none (an empty variable), one, or several.
pub(crate) fn fields(word: &Word, value: &dyn Fn(&str) -> Value) -> Known<Vec<String>> {
    let mut out = Vec::new();
    if word.contains(&Atom::Char('{', false)) {
        for word in braces(word)? {
            split(&word, value, &mut out)?;
        }
    } else {
        split(word, value, &mut out)?;
    }
    Ok(out)
}

/// The value of an assignment, or any other place where a word stays one word without braces and wildcards.
pub(crate) fn one(word: &[Atom], value: &dyn Fn(&str) -> Value) -> Known<String> {
    let mut out = String::new();
    let rest = tilde(word, &mut out)?;
    if rest.windows(2).any(|pair| pair == [Atom::Char(':', false), Atom::Char('~', false)]) {
        return Err("a `~` inside of a word".to_owned());
    }
    for atom in rest {
        match atom {
            Atom::Char(c, _) => push(&mut out, *c)?,
            Atom::Quotes => {}
            Atom::Variable(name, _) => match value(name) {
                Value::Home => out.push(HOME),
                Value::Text(text) => push_all(&mut out, &text)?,
                Value::Unknown(why) => return Err(why),
            },
            Atom::Dynamic(why) => return Err(why.to_string()),
        }
    }
    Ok(out)
}

fn push(out: &mut String, c: char) -> Known<()> {
    if let Some(why) = forbidden(c) {
        return Err(why);
    }
    if out.len() > MAX_EXPANDED {
        return Err("a word that is too long".to_owned());
    }
    out.push(c);
    Ok(())
}

fn push_all(out: &mut String, text: &str) -> Known<()> {
    text.chars().try_for_each(|c| push(out, c))
}

/// Takes a leading unquoted `~`, and gives back the rest.
fn tilde<'a>(word: &'a [Atom], out: &mut String) -> Known<&'a [Atom]> {
    if word.first() != Some(&Atom::Char('~', false)) {
        return Ok(word);
    }
    match word.get(1) {
        None | Some(Atom::Char('/', _)) => {
            // A quoted slash after the tilde keeps the tilde a character.
            if word.get(1) == Some(&Atom::Char('/', true)) {
                return Err("a `~` before a quoted character".to_owned());
            }
            out.push(HOME);
            Ok(&word[1..])
        }
        Some(_) => Err("another user's home directory `~…`".to_owned()),
    }
}

fn split(word: &[Atom], value: &dyn Fn(&str) -> Value, out: &mut Vec<String>) -> Known<()> {
    let mut field = String::new();
    let rest = tilde(word, &mut field)?;
    // Whether the field exists even if it stays empty.
    let mut exists = !field.is_empty();
    // `!` at the start of a word is history in an interactive shell and nothing in any other.
    if let [Atom::Char('!', false), Atom::Char(next, _), ..] = rest
        && *next != '='
    {
        return Err("history expansion `!…`".to_owned());
    }
    let mut at = 0;
    while let Some(atom) = rest.get(at) {
        at += 1;
        match atom {
            Atom::Quotes => exists = true,
            Atom::Dynamic(why) => return Err(why.to_string()),
            Atom::Char(c @ ('*' | '?'), false) => {
                exists = true;
                field.push(WILD);
                field.push(*c);
            }
            Atom::Char('[', false) => {
                exists = true;
                match bracket(&rest[at..])? {
                    None => field.push('['),
                    Some(inside) => {
                        for c in std::iter::once('[').chain(inside.chars()).chain(std::iter::once(']')) {
                            field.push(WILD);
                            field.push(c);
                        }
                        at += inside.len() + 1;
                    }
                }
            }
            Atom::Char('~', false) if at > 1 && matches!(rest.get(at - 2), Some(Atom::Char('=' | ':', false))) => {
                // Some shells expand it here and some don't.
                return Err("a `~` inside of a word".to_owned());
            }
            Atom::Char(c, _) => {
                exists = true;
                push(&mut field, *c)?;
            }
            Atom::Variable(name, quoted) => match value(name) {
                Value::Unknown(why) => return Err(why),
                Value::Home => {
                    exists = true;
                    field.push(HOME);
                }
                Value::Text(text) if *quoted => {
                    exists = true;
                    push_all(&mut field, &text)?;
                }
                Value::Text(text) => {
                    if text.contains(['*', '?', '[', '\\']) {
                        return Err(format!("a wildcard in the value of `${name}` outside of quotes"));
                    }
                    let mut pieces = text.split([' ', '\t', '\n']).peekable();
                    while let Some(piece) = pieces.next() {
                        if !piece.is_empty() {
                            exists = true;
                            push_all(&mut field, piece)?;
                        }
                        if pieces.peek().is_some() && exists {
                            out.push(std::mem::take(&mut field));
                            exists = false;
                        }
                    }
                }
            },
        }
        if out.len() > MAX_BRACES {
            return Err("a word that becomes too many words".to_owned());
        }
    }
    if exists {
        out.push(field);
    }
    Ok(())
}

/// The inside of a bracket pattern whose `[` was just read; none when the bracket never closes and is a character.
fn bracket(rest: &[Atom]) -> Known<Option<String>> {
    let Some(end) = rest.iter().position(|atom| matches!(atom, Atom::Char(']', _))) else {
        return if rest.iter().all(|atom| matches!(atom, Atom::Char(..) | Atom::Quotes)) {
            Ok(None)
        } else {
            Err("a bracket that a variable may close".to_owned())
        };
    };
    let mut inside = String::new();
    for (at, atom) in rest[..end].iter().enumerate() {
        match atom {
            Atom::Char('!', false) if at == 0 => inside.push('!'),
            Atom::Char(c, false) if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') => inside.push(*c),
            _ => return Err("a bracket pattern with unusual characters".to_owned()),
        }
    }
    let quoted_end = rest[end] == Atom::Char(']', true);
    if inside.trim_start_matches('!').is_empty() || inside.contains('.') || quoted_end {
        return Err("a bracket pattern with unusual characters".to_owned());
    }
    Ok(Some(inside))
}

fn open(atom: &Atom) -> bool {
    *atom == Atom::Char('{', false)
}

/// What bash makes of the braces in a word.
fn braces(word: &Word) -> Known<Vec<Word>> {
    if word.iter().filter(|atom| open(atom)).count() > 32 {
        return Err("too many braces in one word".to_owned());
    }
    let mut done: Vec<Word> = Vec::new();
    // Last first, so that the results come in order. Each entry: the word, and where to look for the next brace.
    let mut todo: Vec<(Word, usize)> = vec![(word.clone(), 0)];
    let mut work = 0usize;
    while let Some((word, from)) = todo.pop() {
        work += word.len() + 1;
        if done.len() + todo.len() > MAX_BRACES || work > 1 << 20 {
            return Err("braces that become too many words".to_owned());
        }
        let Some((start, end, parts)) = next_brace(&word, from)? else {
            done.push(word);
            continue;
        };
        for part in parts.into_iter().rev() {
            let mut new = word[..start].to_vec();
            new.extend(part);
            new.extend_from_slice(&word[end + 1..]);
            todo.push((new, start));
        }
    }
    // A word of nothing but an empty alternative disappears, as in bash.
    done.retain(|word| !word.is_empty());
    Ok(done)
}

type Found = (usize, usize, Vec<Word>);

fn next_brace(word: &Word, from: usize) -> Known<Option<Found>> {
    for start in (from..word.len()).filter(|at| open(&word[*at])) {
        let mut depth = 0;
        let mut commas = Vec::new();
        let mut end = None;
        for (at, atom) in word.iter().enumerate().skip(start) {
            match atom {
                Atom::Char('{', false) => depth += 1,
                Atom::Char('}', false) => {
                    depth -= 1;
                    if depth == 0 {
                        end = Some(at);
                        break;
                    }
                }
                Atom::Char(',', false) if depth == 1 => commas.push(at),
                _ => {}
            }
        }
        let Some(end) = end else {
            // An unbalanced brace before further ones is read differently by different shells.
            if word[start + 1..].contains(&Atom::Char(',', false)) {
                return Err("braces that don't balance".to_owned());
            }
            continue;
        };
        if !commas.is_empty() {
            let mut parts = Vec::new();
            let mut begin = start + 1;
            for cut in commas.into_iter().chain([end]) {
                parts.push(word[begin..cut].to_vec());
                begin = cut + 1;
            }
            return Ok(Some((start, end, parts)));
        }
        let mut inside = String::new();
        let literal = word[start + 1..end].iter().all(|atom| match atom {
            Atom::Char(c, false) => {
                inside.push(*c);
                true
            }
            _ => false,
        });
        if literal && inside.contains("..") {
            return match range(&inside) {
                Some(parts) => {
                    let word = |part: String| part.chars().map(|c| Atom::Char(c, false)).collect();
                    Ok(Some((start, end, parts.into_iter().map(word).collect())))
                }
                None => Err("a brace range".to_owned()),
            };
        }
    }
    Ok(None)
}

fn range(inside: &str) -> Option<Vec<String>> {
    let parts: Vec<&str> = inside.split("..").collect();
    let (first, last, step) = match parts[..] {
        [first, last] => (first, last, 1),
        [first, last, step] => (first, last, step.parse::<i64>().ok()?.unsigned_abs().max(1)),
        _ => return None,
    };
    let steps = |from: i64, to: i64| -> Option<Vec<i64>> {
        let count = from.abs_diff(to) / step;
        if count >= MAX_BRACES as u64 {
            return None;
        }
        let sign = if to < from { -1 } else { 1 };
        (0..=count).map(|n| Some(from + sign * i64::try_from(n * step).ok()?)).collect()
    };
    if first.len() > 9 || last.len() > 9 {
        return None;
    }
    if let (Ok(from), Ok(to)) = (first.parse::<i64>(), last.parse::<i64>()) {
        if first.starts_with('+') || last.starts_with('+') {
            return None;
        }
        let padded = |text: &str| {
            let digits = text.trim_start_matches('-');
            digits.len() > 1 && digits.starts_with('0')
        };
        let width = if padded(first) || padded(last) { first.len().max(last.len()) } else { 0 };
        return Some(steps(from, to)?.into_iter().map(|n| format!("{n:0width$}")).collect());
    }
    let letter = |text: &str| match text.as_bytes() {
        [c] if c.is_ascii_alphabetic() => Some(*c),
        _ => None,
    };
    let (from, to) = (letter(first)?, letter(last)?);
    if from.is_ascii_lowercase() != to.is_ascii_lowercase() {
        return None;
    }
    let letters = steps(i64::from(from), i64::from(to))?;
    letters.into_iter().map(|n| u8::try_from(n).ok().map(|c| char::from(c).to_string())).collect()
}
