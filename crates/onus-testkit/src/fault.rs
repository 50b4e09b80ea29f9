//! What can go wrong while setting up a test's surroundings. Deliberately says nothing of the thing under test.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A test's surroundings could not be had. Shown to whoever runs the tests; holds no password.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// A program isn't on this machine.
    #[error("`{program}` was not found; {remedy}")]
    NotFound {
        /// What was looked for.
        program: String,
        /// What to do about it.
        remedy: String,
    },
    /// A file or folder could not be read, written or given away.
    #[error("could not {action} `{}`", path.display())]
    File {
        /// What was tried: `create`, `read`, `give to the server's user` …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program could not be started at all.
    #[error("could not start `{program}`")]
    Spawn {
        /// Its name.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program ran and said no.
    #[error("`{program}` failed ({status}):\n{output}")]
    Failed {
        /// Its name and what it was for; never its arguments, since they may hold secrets.
        program: String,
        /// Its exit status in words.
        status: String,
        /// What it wrote, the end of it if it was long.
        output: String,
    },
    /// Something didn't happen in time.
    #[error("{what} did not happen within {waited:?}:\n{seen}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long.
        waited: Duration,
        /// What was seen instead: a log or an output.
        seen: String,
    },
    /// A child ended while something was expected of it.
    #[error("`{program}` ended while waiting for {what}:\n{output}")]
    Ended {
        /// Its name.
        program: String,
        /// What was expected.
        what: String,
        /// What it had written.
        output: String,
    },
    /// No port on the loopback address could be had.
    #[error("no free port on 127.0.0.1")]
    NoPort(#[source] io::Error),
    /// A tool answered with something that this code doesn't understand.
    #[error("could not understand {what}: `{text}`")]
    Unexpected {
        /// Whose answer.
        what: &'static str,
        /// The answer.
        text: String,
    },
    /// Programs are missing and were not installed.
    #[error(transparent)]
    Missing(#[from] crate::tools::Missing),
}

impl KitError {
    /// For `map_err` on file operations.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
