//! Names of files, as operations state them: where a name surely lies, and where it may lie.
//!
//! A name is absolute (`/var/log/x`), or begins at the account's home (`~`, `~/x`). It may be a pattern: then it counts
//! by the directory that it surely lies in. These are texts and no files: nothing here follows a link or looks at a
//! disk, so a link inside a permitted directory leads out of it, and only the other side's own rights stop that.

use std::collections::BTreeSet;

/// The components of a name that says for certain where it lies, with `/` or `~` as the first; a pattern is cut before
/// its first component with a wildcard. `None` if the name does not say: it is relative, belongs to another's home,
/// climbs (`..`), or holds a wildcard that may stand for `..`.
fn certain(name: &str) -> Option<Vec<&str>> {
    let mut parts = match name.as_bytes().first() {
        Some(b'/') => vec!["/"],
        Some(b'~') if name.len() == 1 || name.as_bytes()[1] == b'/' => vec!["~"],
        _ => return None,
    };
    let mut cut = false;
    for part in name[1..].split('/').filter(|part| !part.is_empty() && *part != ".") {
        let wild = part.contains(['*', '?', '[']);
        // `.*` stands for `..` too, in some shells.
        if part == ".." || (wild && part.starts_with('.')) {
            return None;
        }
        cut |= wild;
        if !cut {
            parts.push(part);
        }
    }
    Some(parts)
}

/// Whether the name holds a wildcard.
fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

fn written(parts: &[&str]) -> String {
    match parts {
        ["/", rest @ ..] => format!("/{}", rest.join("/")),
        parts => parts.join("/"),
    }
}

/// The directory or file that everything the name stands for surely lies in or is, in its normal form; `None` if that
/// can't be known.
///
/// ```
/// use onus_core::path::settled;
/// assert_eq!(settled("/var//log/./x").as_deref(), Some("/var/log/x"));
/// assert_eq!(settled("/var/log/*.log").as_deref(), Some("/var/log"));
/// assert_eq!(settled("/var/log/../shadow"), None);
/// ```
pub fn settled(name: &str) -> Option<String> {
    certain(name).map(|parts| written(&parts))
}

/// Whether everything that `name` stands for surely is `directory` or lies below it.
pub fn lies_within(name: &str, directory: &str) -> bool {
    match (certain(name), certain(directory)) {
        (Some(inner), Some(outer)) => !is_pattern(directory) && inner.starts_with(&outer),
        _ => false,
    }
}

/// Every directory that everything the name stands for surely lies in, and the name itself where it is no pattern;
/// empty where that can't be known. For permits: too few rather than too many.
pub fn ancestors(name: &str) -> BTreeSet<String> {
    let parts = certain(name).unwrap_or_default();
    (1..=parts.len()).map(|end| written(&parts[..end])).collect()
}

/// How far a use of a name may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// What it names.
    Itself,
    /// Also what lies directly below, where it names a directory: what is written to `/etc` may become `/etc/x`.
    Into,
    /// Everything below.
    Deep,
}

/// Mark of [`places`]: it can't be known where the name lies.
pub const ANYWHERE: &str = "..";
/// Mark of [`places`]: a name that begins with a dot, in a home directory.
pub const DOT_FILES: &str = "~/.*";

/// Every place that a use of the name may touch, for forbids: too many rather than too few.
///
/// The ancestors and the name itself; `DIR/*` where it may be anything directly below `DIR`, `DIR/**` where it may be
/// anything below; what lies in `/root` or `/home/NAME` counts as in `~` as well; [`DOT_FILES`] for what is or may hold
/// a home's dot file; [`ANYWHERE`] for a name that does not say where it lies (its `..` are then resolved by the text
/// alone besides).
pub fn places(name: &str, reach: Reach) -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    let certain = certain(name);
    let mut parts = match name.as_bytes().first() {
        Some(b'/') => vec!["/"],
        _ => vec!["~"],
    };
    let rest = if certain.is_some() { &name[1..] } else { name.trim_start_matches('~') };
    for part in rest.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." if parts.len() > 1 => drop(parts.pop()),
            ".." => {}
            part => parts.push(part),
        }
    }
    if certain.is_none() {
        places.insert(ANYWHERE.to_owned());
    }
    mark(&parts, reach, false, &mut places);
    // Whose home it is makes no difference: all of them are `~`.
    let from = if parts.len() > 3 && parts[..2] == ["/", "home"] { 3 } else { 1 };
    if let Some(wild) = (from..parts.len()).find(|at| is_pattern(parts[*at])) {
        // `**` is everything below, at any depth.
        let deep = wild + 1 < parts.len() || parts[wild].contains("**");
        let reach = if deep { Reach::Deep } else { reach.max(Reach::Into) };
        mark(&parts[..wild], reach, true, &mut places);
    }
    places
}

/// Marks a name, and the same from its home where it lies in one.
fn mark(parts: &[&str], reach: Reach, pattern: bool, places: &mut BTreeSet<String>) {
    places.extend((1..=parts.len()).map(|end| written(&parts[..end])));
    let end = written(parts);
    let end = end.trim_end_matches('/');
    if reach >= Reach::Into {
        places.insert(format!("{end}/*"));
    }
    if reach == Reach::Deep {
        places.insert(format!("{end}/**"));
    }
    match parts {
        ["/", "root", rest @ ..] | ["/", "home", _, rest @ ..] => {
            let mut aliased = vec!["~"];
            aliased.extend(rest);
            mark(&aliased, reach, pattern, places);
        }
        // Every home lies below.
        ["/"] | ["/", "home"] if reach == Reach::Deep => drop(places.insert(DOT_FILES.to_owned())),
        // Whatever is put into the home may be a dot file; a plain pattern in it names none.
        ["~"] if reach == Reach::Deep || (reach == Reach::Into && !pattern) => {
            places.insert(DOT_FILES.to_owned());
        }
        ["~", first, ..] if first.starts_with('.') => drop(places.insert(DOT_FILES.to_owned())),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(name: &str, reach: Reach, place: &str) -> bool {
        places(name, reach).contains(place)
    }

    #[test]
    fn two_stars_reach_every_depth() {
        assert!(has("/etc/**", Reach::Itself, "/etc/**"));
        assert!(!has("/etc/*", Reach::Itself, "/etc/**"));
    }

    #[test]
    fn only_a_name_that_surely_lies_there_lies_within() {
        for inside in
            ["/var/log", "/var/log/", "/var/log/x", "/var//log/./x", "/var/log/*", "/var/log/*/x", "//var/log/x"]
        {
            assert!(lies_within(inside, "/var/log"), "{inside}");
        }
        for outside in [
            "/var/logs",
            "/var",
            "/var/l*",
            "/var/log/../x",
            "/var/log/..",
            "/var/log/.*/shadow",
            "/var/log/.?",
            "var/log/x",
            "~/var/log",
            "~bob/x",
            "",
            "x",
        ] {
            assert!(!lies_within(outside, "/var/log"), "{outside}");
        }
        assert!(lies_within("~/a/b", "~") && lies_within("~", "~") && lies_within("/x", "/"));
        assert!(
            !lies_within("~bob", "~") && !lies_within("/x", "~") && !lies_within("/x", "") && !lies_within("/x", "/*")
        );
    }

    #[test]
    fn ancestors_begin_at_the_root_and_are_none_where_nothing_is_sure() {
        let of = |name: &str| ancestors(name).into_iter().collect::<Vec<_>>();
        assert_eq!(of("/var/log/x"), ["/", "/var", "/var/log", "/var/log/x"]);
        assert_eq!(of("/var/log/*.log"), ["/", "/var", "/var/log"]);
        assert_eq!(of("~/a"), ["~", "~/a"]);
        assert!(of("/var/log/../x").is_empty() && of("x").is_empty());
    }

    #[test]
    fn a_forbid_sees_what_a_name_may_be() {
        use Reach::{Deep, Into, Itself};
        assert!(has("/etc/shadow", Itself, "/etc/shadow") && !has("/etc/shadow", Itself, "/etc/*"));
        assert!(has("/etc/sh*", Itself, "/etc/*") && !has("/etc/sh*", Itself, "/etc/**"));
        assert!(has("/etc", Into, "/etc/*") && has("/etc", Deep, "/etc/**") && has("/", Deep, "/**"));
        assert!(has("/e*/shadow", Itself, "/**") && has("/etc/*/x", Itself, "/etc/**"));
        assert!(has("/var/log/../../etc/shadow", Itself, "/etc/shadow"), "resolved by its text");
        assert!(has("/var/log/../../etc/shadow", Itself, ANYWHERE) && has("x", Itself, ANYWHERE));
        assert!(has("/home/deploy/.ssh/id", Itself, "~/.ssh") && has("/root/.ssh/id", Itself, "~/.ssh"));
        assert!(has("/home/*/.ssh/id", Itself, "~/.ssh") && !has("/home/*/x", Itself, "/home/**"));
        assert!(has("/home/*/*/x", Itself, "~/**") && has("~bob/.ssh", Itself, ANYWHERE));
        assert!(!has("/etc/x", Deep, ANYWHERE) && !has("/etc/x", Itself, "~"));
    }

    #[test]
    fn a_dot_file_is_one_however_the_home_is_written() {
        use Reach::{Deep, Into, Itself};
        for dotted in
            ["~/.bashrc", "~/.config/x", "/root/.profile", "/home/a/.x", "~/./.bashrc", "~/x/../.bashrc", ".x"]
        {
            assert!(has(dotted, Itself, DOT_FILES), "{dotted}");
        }
        for home in ["~", "/home/a", "/root", "~/", "/home/a/"] {
            assert!(has(home, Into, DOT_FILES) && !has(home, Itself, DOT_FILES), "{home}");
        }
        for whole in ["/", "/home", "~"] {
            assert!(has(whole, Deep, DOT_FILES), "{whole}");
        }
        for pattern in ["/home/*/.bashrc", "~/.ba*", "/home/a/.*", "/*/a/.x"] {
            assert!(has(pattern, Itself, DOT_FILES), "{pattern}");
        }
        assert!(!has("~/x", Into, DOT_FILES) && !has("~/*.log", Into, DOT_FILES) && !has("/var/.x", Deep, DOT_FILES));
    }
}
