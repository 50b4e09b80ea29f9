//! A subject's name as it stands in a certificate. The same alphabet as the control plane's subject ids, checked again
//! because what is signed here is believed everywhere. It does not know whether such a subject exists.

/// The longest name, in bytes: fits a certificate's common name (64) and a PostgreSQL identifier (63).
pub const MAX_SUBJECT_BYTES: usize = 63;

/// What precedes the name in the certificate's URI.
pub(crate) const SUBJECT_URI: &str = "onus://subject/";

/// The text cannot be a subject's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a subject's name has 1 to {MAX_SUBJECT_BYTES} letters, digits and . _ - @ /")]
pub struct SubjectNameError;

/// A subject's name: 1 to 63 bytes of `a-z A-Z 0-9 . _ - @ /`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubjectName(String);

impl SubjectName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, SubjectNameError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-@/".contains(&b);
        if text.is_empty() || text.len() > MAX_SUBJECT_BYTES || !text.bytes().all(allowed) {
            return Err(SubjectNameError);
        }
        Ok(Self(text.to_owned()))
    }
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// `onus://subject/<name>`.
    pub fn uri(&self) -> String {
        format!("{SUBJECT_URI}{}", self.0)
    }
}

impl TryFrom<String> for SubjectName {
    type Error = SubjectNameError;
    fn try_from(text: String) -> Result<Self, SubjectNameError> {
        Self::parse(&text)
    }
}

impl From<SubjectName> for String {
    fn from(name: SubjectName) -> String {
        name.0
    }
}

impl std::fmt::Display for SubjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_carry_no_second_name() {
        assert_eq!(SubjectName::parse("team/bot@x").map(|s| s.uri()).as_deref(), Ok("onus://subject/team/bot@x"));
        for wrong in ["", "a b", "a\0b", "a,CN=b", "a%2fb", "ä", &"x".repeat(64)] {
            assert_eq!(SubjectName::parse(wrong), Err(SubjectNameError), "{wrong}");
        }
    }
}
