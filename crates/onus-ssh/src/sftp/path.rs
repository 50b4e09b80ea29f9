//! How a path on the other side is named for policy and for the record.
//!
//! Lexical only: nothing here knows what is a symbolic link over there. A name that might mean something else than it
//! reads carries a fact that says so, and it is for policy to refuse it.

use onus_core::operation::{Access, Object, Operation};

/// The fact for a path with a `..` that can't be resolved without asking the other side.
pub const DOTDOT: &str = "dotdot";
/// The fact for a name that is not plain text and is therefore shown percent-escaped.
pub const ODD_NAME: &str = "odd-name";

/// A path's name, and what must be known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// `/absolute` or `~/relative-to-home`, without empty and `.` components and without a trailing slash.
    pub name: String,
    /// Whether a `..` is left in it. A component before it may be a symbolic link, so `a/..` is not `.`.
    pub dotdot: bool,
    /// Whether it is not UTF-8, or holds control or invisible direction characters. Every byte of such a name but
    /// printing ASCII is then shown as `%XX`, and so is `%`.
    pub odd: bool,
}

/// Names a path as the other side's `open` would take it. A relative path (a leading `~` means nothing to `open`)
/// starts at the home directory, where OpenSSH's `sftp-server` and `scp` start unless configured otherwise (`-d`).
pub fn name(path: &[u8]) -> Named {
    let absolute = path.first() == Some(&b'/');
    let odd = is_odd(path);
    let mut name = String::with_capacity(path.len() + 2);
    if !absolute {
        name.push('~');
    }
    let mut dotdot = false;
    let mut first = true;
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => continue,
            // Above the root is the root.
            b".." if absolute && first => continue,
            b".." => dotdot = true,
            _ => {}
        }
        first = false;
        name.push('/');
        show(component, odd, &mut name);
    }
    if name.is_empty() {
        name.push('/');
    }
    Named { name, dotdot, odd }
}

/// Names a path that a tilde may begin: of a command's word whose unquoted `~/` a shell expands, or of a program that
/// expands it by itself. `~user/…` keeps the user's name in front.
pub fn name_with_tilde(path: &[u8]) -> Named {
    let Some(rest) = path.strip_prefix(b"~") else { return name(path) };
    let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
    let (user, below) = rest.split_at(end);
    // Relative, whatever the number of slashes.
    let start = below.iter().position(|&byte| byte != b'/').unwrap_or(below.len());
    let mut named = name(&below[start..]);
    if !user.is_empty() {
        let odd = named.odd || is_odd(user);
        let mut whole = "~".to_owned();
        show(user, odd, &mut whole);
        if odd && !named.odd {
            named.name = "~".to_owned();
            for component in below.split(|&byte| byte == b'/').filter(|c| !matches!(*c, b"" | b".")) {
                named.name.push('/');
                show(component, true, &mut named.name);
            }
        }
        whole.push_str(&named.name[1..]);
        named = Named { name: whole, odd, ..named };
    }
    named
}

/// Adds the path to what the operation touches, with the facts that its name carries.
pub(crate) fn touch(operation: &mut Operation, access: Access, named: Named) {
    if named.dotdot {
        operation.facts.insert(DOTDOT.to_owned());
    }
    if named.odd {
        operation.facts.insert(ODD_NAME.to_owned());
    }
    operation.objects.insert(Object { access, kind: "path".to_owned(), name: named.name, parts: Default::default() });
}

/// A few bytes of the client's for a message: printing ASCII, cut.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let mut shown = String::new();
    show(&bytes[..bytes.len().min(64)], true, &mut shown);
    shown
}

fn show(component: &[u8], odd: bool, name: &mut String) {
    match std::str::from_utf8(component) {
        Ok(text) if !odd => name.push_str(text),
        _ => {
            for &byte in component {
                if (b' '..=b'~').contains(&byte) && byte != b'%' {
                    name.push(char::from(byte));
                } else {
                    name.push_str(&format!("%{byte:02X}"));
                }
            }
        }
    }
}

fn is_odd(path: &[u8]) -> bool {
    std::str::from_utf8(path).map_or(true, |text| text.chars().any(misleads))
}

/// Control characters, and those that change what is seen without being seen.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> (String, bool) {
        let named = name(path.as_bytes());
        (named.name, named.dotdot)
    }

    #[test]
    fn names_are_lexical_and_keep_what_they_cannot_resolve() {
        for (path, expected, dotdot) in [
            ("/etc//./passwd", "/etc/passwd", false),
            ("/", "/", false),
            ("//", "/", false),
            ("/../../etc", "/etc", false),
            ("/a/../etc", "/a/../etc", true),
            ("a/b/", "~/a/b", false),
            ("", "~", false),
            (".", "~", false),
            ("..", "~/..", true),
            ("../x", "~/../x", true),
            ("~", "~/~", false),
            ("~root/x", "~/~root/x", false),
            ("/a/...", "/a/...", false),
        ] {
            assert_eq!(of(path), (expected.to_owned(), dotdot), "{path}");
        }
    }

    #[test]
    fn a_tilde_is_home_only_where_something_expands_it() {
        for (path, expected) in [
            ("~", "~"),
            ("~/", "~"),
            ("~/x", "~/x"),
            ("~//x", "~/x"),
            ("~root/x", "~root/x"),
            ("~root", "~root"),
            ("~a\n/%", "~a%0A/%25"),
            ("x", "~/x"),
            ("/x", "/x"),
            ("./~/x", "~/~/x"),
        ] {
            assert_eq!(name_with_tilde(path.as_bytes()).name, expected, "{path}");
        }
    }

    #[test]
    fn odd_names_are_escaped_and_say_so() {
        for (path, expected) in [
            (&b"/a\nb"[..], "/a%0Ab"),
            (b"/a\xffb", "/a%FFb"),
            ("/a\u{202e}b".as_bytes(), "/a%E2%80%AEb"),
            (b"/a%\n", "/a%25%0A"),
        ] {
            let named = name(path);
            assert!(named.odd);
            assert_eq!(named.name, expected);
        }
        assert_eq!(name("/ü/%0A".as_bytes()), Named { name: "/ü/%0A".to_owned(), dotdot: false, odd: false });
    }
}
