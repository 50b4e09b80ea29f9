//! Stage 1: a text through the server's grammar into drafts.

use super::draft::Draft;
use super::statements::draft;
use super::tree::value_of;

/// Longer texts are opaque.
pub const MAX_TEXT_BYTES: usize = 4 << 20;

/// A text read once. It depends on nothing but the text, so it can be cached by it, or by its template key.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    drafts: Vec<Draft>,
    error: Option<String>,
    plain: bool,
}

impl Parsed {
    pub(super) fn of_drafts(drafts: Vec<Draft>) -> Self {
        Self { drafts, error: None, plain: true }
    }

    fn failed(error: String) -> Self {
        Self { drafts: Vec::new(), error: Some(error), plain: true }
    }

    pub(super) fn drafts(&self) -> &[Draft] {
        &self.drafts
    }

    /// Why it could not be read, if it could not.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// How many statements it holds; none when it is empty or could not be read.
    pub fn statements(&self) -> usize {
        self.drafts.len()
    }

    /// Whether it reads the same whatever `standard_conforming_strings` and `client_encoding` say.
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }
}

/// Reads a text. Never panics; what can't be read becomes a [`Parsed`] that resolves to one opaque operation.
pub fn parse(sql: &str) -> Parsed {
    if sql.len() > MAX_TEXT_BYTES {
        return Parsed::failed(format!("it is longer than {} MiB", MAX_TEXT_BYTES >> 20));
    }
    let plain = sql.is_ascii() && !sql.as_bytes().contains(&b'\\');
    let tree = match pg_query::parse(sql, 0) {
        Ok(result) => result.protobuf,
        Err(pg_query::Error::Parse(message)) => return Parsed::failed(message),
        Err(pg_query::Error::Decode(_)) => return Parsed::failed("it is nested too deeply".to_owned()),
        Err(_) => return Parsed::failed("it holds a byte that no statement may hold".to_owned()),
    };
    let mut drafts = Vec::with_capacity(tree.stmts.len());
    for statement in &tree.stmts {
        match statement.stmt.as_deref().map(value_of) {
            Some(Ok(value)) if !value.is_nothing() => drafts.push(draft(&value)),
            _ => return Parsed::failed("the parse tree holds something unknown".to_owned()),
        }
    }
    Parsed { drafts, error: None, plain }
}
