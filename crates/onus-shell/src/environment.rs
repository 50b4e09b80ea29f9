//! Where a line runs: directory, variables, and the pinned environment that the canonical script is wrapped in.

use crate::word::{HOME, canonical_into, quote_into};
use std::collections::BTreeMap;

/// The directories that a bare program name is looked up in on the remote side.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What programs would otherwise start by themselves: pagers can run commands.
const PINNED: &[(&str, &str)] = &[
    ("PAGER", "cat"),
    ("MANPAGER", "cat"),
    ("GIT_PAGER", "cat"),
    ("SYSTEMD_PAGER", "cat"),
    ("SYSTEMD_PAGERSECURE", "1"),
    ("LESSSECURE", "1"),
];

/// What is known about the place where a line would run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scene {
    /// The absolute home directory, when it is known; paths below it are then named absolutely.
    pub home: Option<String>,
    /// The current directory: absolute, or `~` or `~/…` below the home directory; none is the home directory.
    pub cwd: Option<String>,
    /// Literal values of the shell variables that the governed shell keeps.
    pub variables: BTreeMap<String, String>,
    /// Exported variables that programs get; only those that [`exportable`] accepts are ever sent.
    pub exported: BTreeMap<String, String>,
    /// The remote login, for `$USER`.
    pub user: Option<String>,
}

/// The directory as a word: the home directory is a mark, not text.
pub(crate) fn directory_word(cwd: Option<&str>) -> String {
    match cwd {
        None | Some("~") => HOME.to_string(),
        Some(cwd) => match cwd.strip_prefix("~/") {
            Some(rest) => format!("{HOME}/{rest}"),
            None => cwd.to_owned(),
        },
    }
}

/// Whether programs may be given this variable with this value.
///
/// Only variables that choose language, time zone and size; a path in a locale's name would load files.
pub fn exportable(name: &str, value: &str) -> bool {
    let only = |set: &str| value.chars().all(|c| c.is_ascii_alphanumeric() || set.contains(c)) && value.len() <= 64;
    match name {
        "LANG" | "LANGUAGE" => only("_.@:-") && !value.contains(".."),
        "TZ" => only("_+-,./") && !value.starts_with(['/', '.']) && !value.contains(".."),
        "COLUMNS" | "LINES" => !value.is_empty() && value.len() <= 5 && value.bytes().all(|c| c.is_ascii_digit()),
        "DEBIAN_FRONTEND" => value == "noninteractive",
        "NO_COLOR" | "SYSTEMD_COLORS" => only("-"),
        "PAGER" | "SYSTEMD_PAGER" | "GIT_PAGER" | "MANPAGER" => value == "cat",
        "TERM" => matches!(value, "dumb" | "vt100" | "linux" | "xterm" | "xterm-256color" | "screen" | "tmux-256color"),
        _ => {
            let category = name.strip_prefix("LC_").unwrap_or("");
            !category.is_empty()
                && category.len() <= 20
                && category.bytes().all(|c| c.is_ascii_uppercase())
                && only("_.@-")
                && !value.contains("..")
        }
    }
}

/// The text for the remote account's login shell: it replaces that shell by `/bin/sh` with a pinned environment.
///
/// It must mean the same to bash, dash, zsh and fish, so it has no backslash and no quote inside of quotes. Entries of
/// `login_locale` (locale, `TZ`, and `TERM` on a terminal) that [`exportable`] doesn't accept are left out. The login
/// shell itself starts before this text is read: what its own start-up files do is the host's business, not ours.
pub fn envelope(script: &str, scene: &Scene, login_locale: &[(String, String)]) -> String {
    let mut out = String::with_capacity(script.len() + 640);
    out.push_str("exec /usr/bin/env -i \"HOME=$HOME\" \"USER=$USER\" \"LOGNAME=$LOGNAME\" SHELL=/bin/sh PATH=");
    out.push_str(PATH);
    let mut variables: BTreeMap<&str, &str> = PINNED.iter().copied().collect();
    for (name, value) in login_locale.iter().map(|(name, value)| (name, value)).chain(&scene.exported) {
        if exportable(name, value) {
            variables.insert(name, value);
        }
    }
    for (name, value) in variables {
        out.push(' ');
        outer_quote(&mut out, &format!("{name}={value}"));
    }
    let mut inner = String::with_capacity(script.len() + 160);
    inner.push_str("case $HOME in /*) ;; *) echo 'onus: no home directory' >&2; exit 126;; esac\ncd -- ");
    canonical_into(&mut inner, &directory_word(scene.cwd.as_deref()));
    inner.push_str(" || exit 126\n");
    inner.push_str(script);
    out.push_str(" /bin/sh -c ");
    outer_quote(&mut out, &inner);
    out
}

/// Quotes for any login shell: fish reads a backslash inside of single quotes, zsh may read two quotes as one.
fn outer_quote(out: &mut String, text: &str) {
    if text.is_empty() {
        out.push_str("''");
        return;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let cut = rest.find(['\'', '\\']).unwrap_or(rest.len());
        if cut > 0 {
            quote_into(out, &rest[..cut]);
        }
        rest = &rest[cut..];
        if let Some(special) = rest.chars().next().filter(|_| !rest.is_empty()) {
            out.push('\\');
            out.push(special);
            rest = &rest[special.len_utf8()..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_load_code_are_never_exported() {
        for name in ["LD_PRELOAD", "PATH", "BASH_ENV", "ENV", "IFS", "PS4", "PYTHONPATH", "LC_", "LC_x", "HOME"] {
            assert!(!exportable(name, "x"), "{name}");
        }
        assert!(exportable("LC_ALL", "C.UTF-8") && exportable("TZ", "Europe/Berlin"));
        assert!(!exportable("LC_ALL", "/tmp/evil") && !exportable("TZ", "../x") && !exportable("TZ", ":/etc/x"));
        assert!(!exportable("PAGER", "sh") && !exportable("LANG", "$(id)"));
    }

    #[test]
    fn the_envelope_has_no_backslash_inside_of_quotes() {
        let text = envelope("printf '%s' 'it'\\''s \\'", &Scene::default(), &[("LANG".into(), "a b".into())]);
        let (mut quoted, mut previous) = (false, ' ');
        for c in text.chars() {
            if c == '\'' && (quoted || previous != '\\') {
                quoted = !quoted;
            }
            assert!(!(quoted && c == '\\'), "{text}");
            previous = c;
        }
        assert!(!text.contains("a b"));
    }
}
