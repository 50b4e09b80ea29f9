//! Writing names and values into SQL. `CREATE ROLE` and its like take no parameters, so quoting is all there is.

use crate::IssueFault;

/// A name in double quotes. Refuses what PostgreSQL would cut (over 63 bytes), can't hold (NUL) or can't name (nothing).
pub(crate) fn identifier(what: &'static str, name: &str) -> Result<String, IssueFault> {
    let why = match name {
        "" => "it is empty",
        n if n.len() > 63 => "it is longer than 63 bytes",
        n if n.contains('\0') => "it holds a NUL character",
        _ => return Ok(format!("\"{}\"", name.replace('"', "\"\""))),
    };
    Err(IssueFault::Unusable { what, given: name.chars().take(63).filter(|c| *c != '\0').collect(), why })
}

/// A value in single quotes. The connection has `standard_conforming_strings` on, so a backslash means itself.
pub(crate) fn literal(text: &str) -> String {
    debug_assert!(!text.contains('\0'), "callers pass names that were checked, or text of their own");
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

/// `ARRAY['a','b']::name[]`.
pub(crate) fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<_> = names.map(literal).collect();
    format!("ARRAY[{}]::pg_catalog.name[]", quoted.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_quotes() {
        assert_eq!(identifier("a role", "a\"; DROP \"b").unwrap(), "\"a\"\"; DROP \"\"b\"");
        assert_eq!(literal(r"a'; DROP \' x"), r"'a''; DROP \'' x'");
        for wrong in ["", "a\0b", &"ä".repeat(32)] {
            assert!(matches!(identifier("a role", wrong), Err(IssueFault::Unusable { .. })), "{wrong}");
        }
        assert_eq!(names(["a", "b'"].into_iter()), "ARRAY['a','b''']::pg_catalog.name[]");
    }
}
