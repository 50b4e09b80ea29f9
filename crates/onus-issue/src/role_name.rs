//! The names of session roles. Every statement that ends or removes something takes a [`RoleName`], so that no mistake
//! elsewhere can make this crate drop a role that it didn't make.

use onus_core::ids::SessionId;
use std::fmt;

/// What every session role's name begins with. Nobody else may use it on an upstream.
pub const ROLE_PREFIX: &str = "onus_";
/// PostgreSQL's NAMEDATALEN - 1; longer names would be cut, and two could become one.
const MAX_NAME_BYTES: usize = 63;

/// The text cannot be a session role's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a session role's name begins with `{ROLE_PREFIX}` and has at most {MAX_NAME_BYTES} bytes of letters, digits and . _ - @ /"
)]
pub struct RoleNameError;

/// A session role's name: `onus_` and a session id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleName(String);

impl RoleName {
    /// The role of a session.
    pub fn of_session(session: &SessionId) -> Result<Self, RoleNameError> {
        Self::parse(&format!("{ROLE_PREFIX}{session}"))
    }
    /// Reads a name; refuses what this crate would not have made.
    pub fn parse(text: &str) -> Result<Self, RoleNameError> {
        let session = text.strip_prefix(ROLE_PREFIX).ok_or(RoleNameError)?;
        if text.len() > MAX_NAME_BYTES || SessionId::parse(session).is_err() {
            return Err(RoleNameError);
        }
        Ok(Self(text.to_owned()))
    }
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_names() {
        assert_eq!(RoleName::parse("onus_s-1").map(|r| r.to_string()).as_deref(), Ok("onus_s-1"));
        let long = format!("onus_{}", "x".repeat(59));
        for wrong in ["postgres", "onus_", "", "Onus_a", "onus_a\"; drop", "onus_a\0", "xonus_a", long.as_str()] {
            assert_eq!(RoleName::parse(wrong), Err(RoleNameError), "{wrong}");
        }
        assert!(RoleName::parse(&long[..63]).is_ok());
    }
}
