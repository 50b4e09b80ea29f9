//! What goes wrong between us and an upstream. No variant ever holds a secret or a statement's text.

/// Why an issuer could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueFault {
    /// What was asked for cannot be written safely, or at all.
    #[error("{what} `{given}` cannot be used: {why}")]
    Unusable {
        /// What it was meant to be.
        what: &'static str,
        /// The text, shortened.
        given: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A role that was to be given leads to a superuser; a session never gets that.
    #[error("a role that was asked for leads to a superuser")]
    Superuser,
    /// The issuer's configuration cannot work.
    #[error("the administrative connection is misconfigured: {0}")]
    Config(&'static str),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
    /// No connection could be made.
    #[error("cannot connect to the upstream: {0}")]
    Connect(String),
    /// The connection broke while it was used. What was asked may or may not have happened.
    #[error("the connection to the upstream broke while trying to {0}")]
    Lost(&'static str),
    /// No answer in time. What was asked may or may not have happened.
    #[error("the upstream did not answer in time while trying to {0}")]
    TimedOut(&'static str),
    /// The upstream refused.
    #[error("the upstream refused to {what}: {message} ({sqlstate})")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// The five characters of SQLSTATE.
        sqlstate: String,
        /// The upstream's words, or a placeholder where its words might repeat a secret.
        message: String,
    },
    /// The upstream answered something that makes no sense.
    #[error("the upstream's answer to an attempt to {0} makes no sense")]
    Answer(&'static str),
}

impl IssueFault {
    /// Whether an upstream's refusal carries this SQLSTATE.
    pub fn is_sqlstate(&self, code: &str) -> bool {
        matches!(self, Self::Refused { sqlstate, .. } if sqlstate == code)
    }
}
