//! The words of an `scp` server's command line.

use onus_core::operation::{Access, Operation};

use crate::sftp::actions::operation;
use crate::sftp::path::{name_with_tilde, touch};

/// Which side of the copy the upstream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `-t`: it receives; see [`super::Sink`].
    Sink,
    /// `-f`: it sends; see [`super::Source`].
    Source,
}

/// A command line that is understood in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScpCommand {
    /// Which side the upstream is.
    pub role: Role,
    /// `-r`: directories too.
    pub recursive: bool,
    /// `-p`: times and modes are kept.
    pub preserve: bool,
    /// `-d`: the target must be a directory.
    pub directory: bool,
    /// The paths as given: one for a sink, at least one for a source. A leading `~/` is home.
    pub paths: Vec<String>,
}

/// Reads the words of a command line that starts an `scp` server; `None` if anything in it isn't known.
///
/// The words are final and literal: no shell may change them any more, except that it expands a leading `~/`. (A word
/// whose tilde is quoted is given as `./~/…`.)
pub fn parse_command(argv: &[String]) -> Option<ScpCommand> {
    let (program, words) = argv.split_first()?;
    if !matches!(program.as_str(), "scp" | "/usr/bin/scp" | "/bin/scp") {
        return None;
    }
    let (mut role, mut recursive, mut preserve, mut directory) = (None, false, false, false);
    let mut words = words.iter().peekable();
    while let Some(flags) = words.next_if(|word| word.starts_with('-')) {
        if flags == "--" {
            break;
        }
        let flags = &flags[1..];
        if flags.is_empty() {
            return None;
        }
        for flag in flags.bytes() {
            match flag {
                b't' if role.is_none() => role = Some(Role::Sink),
                b'f' if role.is_none() => role = Some(Role::Source),
                b'r' => recursive = true,
                b'p' => preserve = true,
                b'd' => directory = true,
                // Says more on the standard error, or less.
                b'v' | b'q' => {}
                _ => return None,
            }
        }
    }
    let role = role?;
    let paths: Vec<String> = words.cloned().collect();
    let named = paths.iter().all(|path| !path.is_empty() && !path.contains('\0') && !is_other_home(path));
    if !named || paths.is_empty() || (role == Role::Sink && paths.len() > 1) {
        return None;
    }
    Some(ScpCommand { role, recursive, preserve, directory, paths })
}

/// Whether a shell would look up a user (or more) for the tilde.
pub(crate) fn is_other_home(path: &str) -> bool {
    path.strip_prefix('~').is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

impl ScpCommand {
    /// What starting it does. Of a source: it reads the paths. Of a sink: nothing yet; each file comes with its own.
    pub fn operation(&self) -> Option<Operation> {
        if self.role == Role::Sink {
            return None;
        }
        let mut operation = operation("file.read");
        operation.facts.insert("scp".to_owned());
        if self.recursive {
            operation.facts.insert("recursive".to_owned());
        }
        for path in &self.paths {
            touch(&mut operation, Access::Read, name_with_tilde(path.as_bytes()));
        }
        Some(operation)
    }

    /// The words to run: the same copy, in one fixed form, with nothing of the client's but the paths, which still need
    /// quoting. What talks on the standard error is left out.
    pub fn canonical(&self) -> Vec<String> {
        let mut words = vec!["scp".to_owned()];
        let flags = [(self.recursive, "-r"), (self.preserve, "-p"), (self.directory, "-d")];
        words.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag.to_owned()));
        words.push(if self.role == Role::Sink { "-t" } else { "-f" }.to_owned());
        words.push("--".to_owned());
        words.extend(self.paths.iter().cloned());
        words
    }
}
