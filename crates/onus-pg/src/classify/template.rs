//! The key under which texts that differ only in small integers share one parse.

/// The byte that stands for an integer in a key.
const MARK: u8 = 1;

/// Writes a text's key to `out` (cleared first): the text with every stand-alone decimal integer of one to nine
/// digits replaced by the byte 0x01. Returns false when how the text is lexed might be ambiguous (a backslash, `$`,
/// `--`, `/*`, a byte outside ASCII or a control byte); then the exact text is the key, and `out` means nothing.
///
/// INVARIANT: texts with equal keys have equal operations. It holds because nine digits always lex as one integer
/// constant, quoted runs are copied, and no integer constant reaches the classifier (see `tree`).
pub fn template_key(sql: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    out.reserve(sql.len());
    let mut at = 0;
    let mut copied = 0;
    while at < sql.len() {
        let byte = sql[at];
        match CLASS[byte as usize] {
            PLAIN => at += 1,
            REFUSED => return false,
            QUOTE => {
                let Some(end) = end_of_quoted(sql, at) else { return false };
                at = end;
            }
            DASH | SLASH => {
                let second = if byte == b'-' { b'-' } else { b'*' };
                if sql.get(at + 1) == Some(&second) {
                    return false;
                }
                at += 1;
            }
            WORD => {
                // A whole word, so that digits inside it or behind its dot are never looked at.
                while at < sql.len() && CLASS[sql[at] as usize] >= WORD {
                    at += 1;
                }
            }
            _ => {
                let start = at;
                let mut only_digits = true;
                while at < sql.len() && CLASS[sql[at] as usize] >= WORD {
                    only_digits &= CLASS[sql[at] as usize] == DIGIT;
                    at += 1;
                }
                let quoted_before = start > 0 && sql[start - 1] == b'"';
                let quoted_after = at < sql.len() && CLASS[sql[at] as usize] == QUOTE;
                if only_digits && at - start <= 9 && !quoted_before && !quoted_after {
                    out.extend_from_slice(&sql[copied..start]);
                    out.push(MARK);
                    copied = at;
                }
            }
        }
    }
    out.extend_from_slice(&sql[copied..]);
    true
}

/// The place after a quoted run that begins at `at`; a doubled quote belongs to it.
fn end_of_quoted(sql: &[u8], at: usize) -> Option<usize> {
    let quote = sql[at];
    let mut at = at + 1;
    loop {
        match sql.get(at) {
            Some(&byte) if byte == quote => {
                at += 1;
                if sql.get(at) != Some(&quote) {
                    return Some(at);
                }
                at += 1;
            }
            Some(&byte) if CLASS[byte as usize] == REFUSED => return None,
            Some(_) => at += 1,
            None => return None,
        }
    }
}

const PLAIN: u8 = 0;
const REFUSED: u8 = 1;
const QUOTE: u8 = 2;
const DASH: u8 = 3;
const SLASH: u8 = 4;
/// Letters, `_` and `.`; from here on, what a run of a word is made of.
const WORD: u8 = 5;
const DIGIT: u8 = 6;

static CLASS: [u8; 256] = {
    let mut table = [PLAIN; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' => PLAIN,
            0..=31 | 127..=255 | b'\\' | b'$' => REFUSED,
            b'\'' | b'"' => QUOTE,
            b'-' => DASH,
            b'/' => SLASH,
            b'0'..=b'9' => DIGIT,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'.' => WORD,
            _ => PLAIN,
        };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sql: &str) -> Option<String> {
        let mut out = Vec::new();
        template_key(sql.as_bytes(), &mut out).then(|| String::from_utf8(out).expect("ASCII").replace('\u{1}', "#"))
    }

    #[test]
    fn only_stand_alone_integers_are_replaced() {
        for (sql, expect) in [
            ("SELECT 1, 23 FROM t1 WHERE a=4", "SELECT #, # FROM t1 WHERE a=#"),
            ("SELECT 1.5, .5, 1e5, 0x1F, 1_000, 1234567890", "SELECT 1.5, .5, 1e5, 0x1F, 1_000, 1234567890"),
            ("SELECT '1' , \"2\", 'a''1' , 3", "SELECT '1' , \"2\", 'a''1' , #"),
            ("SELECT x'1', 1'a', \"a\"1", "SELECT x'1', 1'a', \"a\"1"),
            ("SELECT -1-2/3", "SELECT -#-#/#"),
            ("SELECT a[1:2]", "SELECT a[#:#]"),
            ("1", "#"),
        ] {
            assert_eq!(key(sql).as_deref(), Some(expect), "{sql}");
        }
    }

    #[test]
    fn ambiguous_lexing_bails_out() {
        for sql in ["$1", "E'\\''", "1--2", "/*1*/", "'é'", "\u{1}", "'open", "\"open", "a\r\n"] {
            assert_eq!(key(sql), None, "{sql:?}");
        }
    }
}
