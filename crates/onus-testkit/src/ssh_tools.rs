//! The SSH programs that tests drive, and what to install where one is missing. Deliberately installs nothing
//! by itself: whoever needs one gets an error that names its package, or asks [`crate::tools`] first.

use std::path::PathBuf;

use crate::{KitError, run};

/// A program of the SSH tests.
///
/// WHEN ADDING ONE: a line in the two functions below, and in `xtask/src/setup.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// OpenSSH's server.
    Sshd,
    /// OpenSSH's client.
    Ssh,
    /// OpenSSH's `scp`, which speaks SFTP since version 9.0 and its old protocol with `-O`.
    Scp,
    /// OpenSSH's `sftp`.
    Sftp,
    /// OpenSSH's maker and signer of keys.
    SshKeygen,
    /// `rsync`, which runs a copy of itself over a session.
    Rsync,
    /// `git`, which runs `git-upload-pack` and `git-receive-pack` over a session.
    Git,
    /// `ansible`, which mixes sessions with PTYs, SFTP and a shared connection.
    Ansible,
    /// `ssh-audit`, which judges the algorithms that a server offers.
    SshAudit,
}

impl Program {
    /// Its file's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sshd => "sshd",
            Self::Ssh => "ssh",
            Self::Scp => "scp",
            Self::Sftp => "sftp",
            Self::SshKeygen => "ssh-keygen",
            Self::Rsync => "rsync",
            Self::Git => "git",
            Self::Ansible => "ansible",
            Self::SshAudit => "ssh-audit",
        }
    }

    /// The Debian packages that hold it.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Sshd => &["openssh-server"],
            Self::Ssh | Self::Scp | Self::Sftp | Self::SshKeygen => &["openssh-client"],
            Self::Rsync => &["rsync"],
            Self::Git => &["git"],
            // `ansible-core` alone: modules of other makers are of no use here.
            Self::Ansible => &["ansible-core"],
            Self::SshAudit => &["ssh-audit"],
        }
    }

    /// Where it is: on `PATH`, or where Debian has servers, which is not on everybody's.
    ///
    /// # Errors
    /// [`KitError::NotFound`], which names the package.
    pub fn find(self) -> Result<PathBuf, KitError> {
        let beside = || {
            let places = ["/usr/sbin", "/usr/local/sbin", "/sbin"];
            places.into_iter().map(|place| PathBuf::from(place).join(self.name())).find(|file| run::is_program(file))
        };
        run::find(self.name()).or_else(beside).ok_or_else(|| KitError::NotFound {
            program: self.name().to_owned(),
            remedy: format!("install the package `{}`", self.packages().join("` and `")),
        })
    }
}
