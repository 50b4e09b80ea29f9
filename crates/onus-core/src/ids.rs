//! Newtypes for everything that has a name or a number, so that none can stand in for another.
//!
//! Ids are short strings that people read and paste. They carry no meaning beyond identity; nothing here
//! makes one up (that needs randomness, which the shell passes in).

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("a name is empty")]
    Empty,
    /// Longer than [`MAX_ID_BYTES`].
    #[error("the name `{0}…` is longer than {MAX_ID_BYTES} bytes")]
    TooLong(String),
    /// A character outside `a-z A-Z 0-9 . _ - @ /`.
    #[error("the name `{name}` holds `{found}`; use letters, digits and . _ - @ /")]
    Character {
        /// The text as given.
        name: String,
        /// The first character that is not allowed.
        found: char,
    },
}

/// The longest id, in bytes: fits a PostgreSQL identifier and a certificate field.
pub const MAX_ID_BYTES: usize = 63;

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong(text.chars().take(20).collect()));
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-@/".contains(*c))) {
        Some(found) => Err(IdError::Character { name: text.chars().take(MAX_ID_BYTES).collect(), found }),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Reads an id; refuses what [`IdError`] lists.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check(text)?;
                Ok(Self(text.to_owned()))
            }
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                check(&text)?;
                Ok(Self(text))
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
    };
}

id!(
    /// A party that can be accountable: a person, or a supplier's contact.
    PartyId
);
id!(
    /// A team of parties.
    TeamId
);
id!(
    /// Who acts: a human, a workload or an agent.
    SubjectId
);
id!(
    /// A business service that resources belong to.
    ServiceId
);
id!(
    /// What is reached through the gateway.
    ResourceId
);
id!(
    /// A named privilege, backed by a Cedar policy template.
    RoleId
);
id!(
    /// A Cedar policy's `@id`.
    PolicyId
);
id!(
    /// A request for a role on a resource.
    RequestId
);
id!(
    /// An approved, scoped, time-boxed role.
    GrantId
);
id!(
    /// One use of one grant.
    SessionId
);
id!(
    /// An operation that waits for a step-up.
    HoldId
);
id!(
    /// One upstream credential, over its whole life.
    CredentialId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_parsed_once_and_keeps_its_text() {
        assert_eq!(SubjectId::parse("alice").map(String::from), Ok("alice".to_owned()));
        assert_eq!(RoleId::parse(""), Err(IdError::Empty));
        assert!(matches!(ResourceId::parse("a b"), Err(IdError::Character { found: ' ', .. })));
        assert!(matches!(ResourceId::parse(&"x".repeat(64)), Err(IdError::TooLong(_))));
        assert!(serde_json::from_str::<SubjectId>("\"a\\nb\"").is_err(), "a stored id is parsed too");
    }
}
