//! The words of a git server's command line.

use onus_core::operation::{Access, Operation};

use crate::sftp::actions::operation;
use crate::sftp::path::{name_with_tilde, touch};

/// What is asked of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `git-upload-pack`: fetch and clone.
    UploadPack,
    /// `git-receive-pack`: push. The repository's own hooks run.
    ReceivePack,
    /// `git-upload-archive`: an archive of a tree.
    UploadArchive,
}

impl Service {
    /// The program's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
            Self::UploadArchive => "git-upload-archive",
        }
    }
}

/// A command line that is understood in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitCommand {
    /// What is asked.
    pub service: Service,
    /// The repository as given. Git itself expands `~/` and `~user/`, and tries `PATH/.git` and `PATH.git` too.
    pub path: String,
}

/// Reads the words of a command line that starts a git server; `None` if anything in it isn't known. The words are
/// final and literal: no shell may change them any more.
pub fn parse_command(argv: &[String]) -> Option<GitCommand> {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let (service, path) = match words[..] {
        ["git-upload-pack", path] | ["git", "upload-pack", path] => (Service::UploadPack, path),
        ["git-receive-pack", path] | ["git", "receive-pack", path] => (Service::ReceivePack, path),
        ["git-upload-archive", path] | ["git", "upload-archive", path] => (Service::UploadArchive, path),
        _ => return None,
    };
    // A path that looks like an option would be one.
    if path.is_empty() || path.starts_with('-') || path.contains('\0') {
        return None;
    }
    Some(GitCommand { service, path: path.to_owned() })
}

impl GitCommand {
    /// What it does.
    pub fn operation(&self) -> Operation {
        let (action, access) = match self.service {
            Service::UploadPack | Service::UploadArchive => ("file.read", Access::Read),
            Service::ReceivePack => ("file.write", Access::Write),
        };
        let mut operation = operation(action);
        operation.facts.extend(["git", "recursive"].map(str::to_owned));
        touch(&mut operation, access, name_with_tilde(self.path.as_bytes()));
        operation
    }

    /// The words to run, which still need quoting; a leading `~` needs none of a shell's expansion.
    pub fn canonical(&self) -> Vec<String> {
        vec![self.service.as_str().to_owned(), self.path.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<GitCommand> {
        parse_command(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_fetch_reads_and_a_push_writes() {
        for (line, action, path) in [
            ("git-upload-pack /srv/a.git", "file.read", "/srv/a.git"),
            ("git upload-pack a.git", "file.read", "~/a.git"),
            ("git-receive-pack ~/a.git", "file.write", "~/a.git"),
            ("git-upload-archive ~bob/a", "file.read", "~bob/a"),
        ] {
            let operation = read(line).unwrap().operation();
            assert_eq!(operation.action, action, "{line}");
            assert_eq!(operation.objects.first().unwrap().name, path);
        }
    }

    #[test]
    fn whatever_else_is_said_is_not_known() {
        for line in [
            "git-upload-pack",
            "git-upload-pack --upload-pack=x",
            "git-upload-pack --strict /a",
            "git-upload-pack -h",
            "git-receive-pack /a /b",
            "git -c core.sshCommand=x upload-pack /a",
            "git gc",
            "git-shell /a",
            "",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
