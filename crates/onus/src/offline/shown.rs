//! Text from elsewhere, made fit for a terminal: what a statement or a file holds must not steer whoever looks at it.
//!
//! For people only: it is not an encoding that anything reads back. `--json` output is escaped by JSON itself.

use std::fmt::Write as _;

/// The text on one line: control characters (C0, DEL, C1) and characters that reorder, hide or break lines are shown
/// as escapes. Only `\n`, `\r` and `\t` have short ones; a backslash that was there is doubled, so that no text can
/// pretend to be an escape.
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if steers(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Like [`one_line`], for names in messages that quote them: a backslash stays as it is.
pub fn plain(text: &str) -> String {
    if text.chars().any(|c| steers(c) || c.is_control()) { one_line(text) } else { text.to_owned() }
}

/// The text in at most `max` characters, white space run together, escaped; a cut shows how much is missing.
pub fn brief(text: &str, max: usize) -> String {
    let mut words = String::with_capacity(text.len().min(4 * max));
    let mut kept = 0;
    let mut total = 0;
    let mut space = false;
    for c in text.trim().chars() {
        let blank = matches!(c, ' ' | '\n' | '\r' | '\t');
        if blank && space {
            continue;
        }
        space = blank;
        total += 1;
        if kept < max {
            kept += 1;
            words.push(if blank { ' ' } else { c });
        }
    }
    let mut shown = one_line(&words);
    if total > kept {
        let _ = write!(shown, "… ({} more characters)", total - kept);
    }
    shown
}

/// Whether a terminal does something else with it than show it in its place.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0x00ad | 0x061c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb
            | 0xe0000..=0xe007f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_comes_through() {
        for (text, shown) in [
            ("\u{1b}[2J\u{1b}]0;x\u{7}", "\\u{1b}[2J\\u{1b}]0;x\\u{7}"),
            ("a\u{9b}31mb", "a\\u{9b}31mb"),
            ("x\u{202e}txt", "x\\u{202e}txt"),
            ("a\r\nb", "a\\r\\nb"),
            ("\\n", "\\\\n"),
            ("größe 日本", "größe 日本"),
        ] {
            assert_eq!(one_line(text), shown);
        }
    }

    #[test]
    fn a_cut_says_how_much_is_missing() {
        assert_eq!(brief("SELECT   1\n  FROM x", 8), "SELECT 1… (7 more characters)");
        assert_eq!(brief(" a ", 8), "a");
    }
}
