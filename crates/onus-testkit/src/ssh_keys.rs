//! Key pairs and certificates by OpenSSH's own `ssh-keygen`, so that what is tested meets what people really have.
//! Deliberately no passphrases: nobody is there to type them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::ssh_tools::Program;
use crate::{KitError, run};

/// What kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `ssh-ed25519`.
    Ed25519,
    /// `ecdsa-sha2-nistp256`.
    Ecdsa256,
    /// `ecdsa-sha2-nistp384`.
    Ecdsa384,
    /// `ssh-rsa` with 3072 bits. Takes a second or two to make.
    Rsa,
}

/// A private key in a file (mode 0600, OpenSSH's format) with its public one beside it. Whose folder it lies in keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The private key's file. Never shown by itself: this is a path.
    pub private: PathBuf,
    /// The public key as one line: type, base64, comment.
    pub public: String,
}

/// What a user's or a host's certificate says.
#[derive(Debug, Clone, Default)]
pub struct Certificate<'a> {
    /// Its key id, which servers log.
    pub id: &'a str,
    /// Its principals: account names of a user's, host names of a host's. None means no `-n`: valid for all.
    pub principals: &'a [&'a str],
    /// Its serial number.
    pub serial: u64,
    /// As `ssh-keygen -V` has it: `+5m`, `-1h:+5m` … Empty: forever.
    pub validity: &'a str,
    /// As `ssh-keygen -O` has them: `clear`, `permit-pty`, `source-address=127.0.0.1/32`, `force-command=…`.
    pub options: &'a [&'a str],
}

impl KeyPair {
    /// Makes one: `FOLDER/NAME` and `FOLDER/NAME.pub`. The name is its comment too.
    ///
    /// # Errors
    /// When `ssh-keygen` is missing or refuses; it never overwrites.
    pub fn make(folder: &Path, name: &str, kind: Kind) -> Result<Self, KitError> {
        let private = folder.join(name);
        let (kind, bits) = match kind {
            Kind::Ed25519 => ("ed25519", "256"),
            Kind::Ecdsa256 => ("ecdsa", "256"),
            Kind::Ecdsa384 => ("ecdsa", "384"),
            Kind::Rsa => ("rsa", "3072"),
        };
        let mut keygen = Command::new(Program::SshKeygen.find()?);
        keygen.args(["-q", "-t", kind, "-b", bits, "-N", "", "-C", name, "-f"]).arg(&private);
        run::output("ssh-keygen", &mut keygen)?;
        let public = folder.join(format!("{name}.pub"));
        let public = fs::read_to_string(&public).map_err(KitError::file("read", &public))?.trim().to_owned();
        Ok(Self { private, public })
    }

    /// Its fingerprint, as OpenSSH shows and logs it: `SHA256:…`.
    ///
    /// # Errors
    /// When `ssh-keygen` fails.
    pub fn fingerprint(&self) -> Result<String, KitError> {
        let mut keygen = Command::new(Program::SshKeygen.find()?);
        let said = run::output("ssh-keygen -l", keygen.arg("-lf").arg(&self.private))?;
        let word = said.split_whitespace().nth(1).map(str::to_owned);
        word.ok_or(KitError::Unexpected { what: "the answer of `ssh-keygen -l`", text: said })
    }

    /// As an authority, signs somebody's public key; gives the certificate's file, a new one each time, beside our own.
    /// Clients want it as `CertificateFile`.
    ///
    /// # Errors
    /// When `ssh-keygen` fails.
    pub fn sign_user(&self, subject: &str, certificate: &Certificate<'_>) -> Result<PathBuf, KitError> {
        self.sign(subject, certificate, false)
    }

    /// As an authority, signs a host's public key; gives the certificate's file. Servers want it as `HostCertificate`.
    ///
    /// # Errors
    /// When `ssh-keygen` fails.
    pub fn sign_host(&self, subject: &str, certificate: &Certificate<'_>) -> Result<PathBuf, KitError> {
        self.sign(subject, certificate, true)
    }

    fn sign(&self, subject: &str, certificate: &Certificate<'_>, host: bool) -> Result<PathBuf, KitError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let stem = format!("signed-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let public = self.private.with_file_name(format!("{stem}.pub"));
        fs::write(&public, format!("{subject}\n")).map_err(KitError::file("write", &public))?;
        let mut keygen = Command::new(Program::SshKeygen.find()?);
        keygen.args(["-q", "-z", &certificate.serial.to_string(), "-I", certificate.id, "-s"]).arg(&self.private);
        if host {
            keygen.arg("-h");
        }
        if !certificate.principals.is_empty() {
            keygen.args(["-n", &certificate.principals.join(",")]);
        }
        if !certificate.validity.is_empty() {
            keygen.args(["-V", certificate.validity]);
        }
        for option in certificate.options {
            keygen.args(["-O", option]);
        }
        run::output("ssh-keygen -s", keygen.arg(&public))?;
        Ok(self.private.with_file_name(format!("{stem}-cert.pub")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_private_and_certificates_say_what_was_asked() {
        let folder = tempfile::tempdir().unwrap();
        let ca = KeyPair::make(folder.path(), "ca", Kind::Ed25519).unwrap();
        let key = KeyPair::make(folder.path(), "alice", Kind::Ecdsa256).unwrap();
        assert!(key.public.starts_with("ecdsa-sha2-nistp256 ") && key.public.ends_with(" alice"), "{}", key.public);
        assert!(key.fingerprint().unwrap().starts_with("SHA256:"));
        assert_eq!(fs::metadata(&key.private).unwrap().permissions().mode() & 0o777, 0o600);
        let certificate = Certificate {
            id: "alice@onus",
            principals: &["app", "db"],
            serial: 7,
            validity: "+5m",
            options: &["clear"],
        };
        let file = ca.sign_user(&key.public, &certificate).unwrap();
        let said = run::output("ssh-keygen", Command::new("ssh-keygen").arg("-Lf").arg(&file)).unwrap();
        for expected in ["user certificate", "\"alice@onus\"", "Serial: 7", "app", "db", "Extensions: (none)"] {
            assert!(said.contains(expected), "{expected} in {said}");
        }
        let again = ca.sign_host(&key.public, &Certificate { id: "host", ..Certificate::default() }).unwrap();
        assert_ne!(file, again);
        let said = run::output("ssh-keygen", Command::new("ssh-keygen").arg("-Lf").arg(&again)).unwrap();
        assert!(said.contains("host certificate") && said.contains("forever"), "{said}");
    }
}
