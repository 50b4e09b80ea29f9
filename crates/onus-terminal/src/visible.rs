//! Makes text that others wrote safe to show on a terminal.
//!
//! It keeps what a person can read and spells out what would act on the terminal or deceive the eye. It is no quoting
//! for a shell, and it doesn't detect letters that merely look alike.

use std::fmt::Write as _;

/// `text` with each control and each invisible or reordering character spelled out.
///
/// Escaped as `\x1b` or `\u{202e}`: C0, DEL, C1, line and paragraph separators, bidirectional controls, and the
/// characters that show nothing (zero width space, word joiner, byte order mark, soft hyphen, tags). Everything shown
/// beside trusted text (paths, purposes, rule names, file names) goes through here.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !is_hidden(c) {
            out.push(c);
        } else if u32::from(c) < 0x100 {
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        } else {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
    }
    out
}

/// Whether `c` acts on a terminal, reorders text or shows nothing.
///
/// Joiners (U+200C, U+200D) and combining marks aren't hidden: scripts need them.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_or_deceives_is_spelled_out() {
        for (text, shown) in [
            ("ls /tmp", "ls /tmp"),
            ("\u{1b}]0;root\u{7}", "\\x1b]0;root\\x07"),
            ("a\r\nb\tc", "a\\x0d\\x0ab\\x09c"),
            ("\u{9b}31m", "\\x9b31m"),
            ("\u{7f}", "\\x7f"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("pay\u{200b}load", "pay\\u{200b}load"),
            ("żółć 漢字 e\u{301}", "żółć 漢字 e\u{301}"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }
}
