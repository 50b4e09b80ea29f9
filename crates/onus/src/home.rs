//! `$ONUS_HOME`: this client's server, key and certificate. Folder 0700, key 0600; written whole or not at all.

use crate::show::Failure;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// `https://host:port`.
    pub server: String,
    /// Who this client is.
    pub subject: String,
    /// The client certificate ends here, in milliseconds since the epoch.
    #[serde(default)]
    pub not_after: u64,
    /// The ledger's verifier key, as the server gave it at enrolment.
    #[serde(default)]
    pub ledger: String,
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
}

impl Home {
    /// The folder given, or `~/.onus`.
    ///
    /// # Errors
    /// When there is neither.
    pub fn find(given: Option<PathBuf>) -> Result<Self, Failure> {
        let dir = given.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".onus")));
        let dir = dir.ok_or_else(|| Failure::usage("neither --home, ONUS_HOME nor HOME is set"))?;
        // psql is told these paths and may run elsewhere.
        let dir = std::path::absolute(&dir).map_err(|fault| Failure::caused("cannot find the home folder", &fault))?;
        Ok(Self { dir })
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Reads a file as text.
    ///
    /// # Errors
    /// When it can't be read; the usual reason is that nobody has enrolled here.
    pub fn read(&self, name: &str) -> Result<String, Failure> {
        let path = self.path(name);
        fs::read_to_string(&path).map_err(|fault| match fault.kind() {
            io::ErrorKind::NotFound => {
                Failure::new(format!("`{}` is not there: nobody has enrolled here", path.display()))
                    .next("onus enroll SUBJECT --server https://HOST:7443 --ca-fingerprint sha256:…")
            }
            _ => Failure::caused(format!("cannot read `{}`", path.display()), &fault),
        })
    }

    /// Reads the private key.
    ///
    /// # Errors
    /// When it can't be read, or others could have.
    pub fn key(&self) -> Result<Zeroizing<String>, Failure> {
        let path = self.path("client.key");
        let key = Zeroizing::new(self.read("client.key")?);
        let mode = fs::metadata(&path).map_or(0, |found| found.permissions().mode());
        if mode & 0o077 != 0 {
            return Err(Failure::new(format!("`{}` can be read by others than you", path.display()))
                .next(format!("chmod 600 {}", path.display())));
        }
        Ok(key)
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// When there is none, or it makes no sense.
    pub fn config(&self) -> Result<Config, Failure> {
        serde_json::from_str(&self.read("config.json")?)
            .map_err(|fault| Failure::caused(format!("`{}`", self.path("config.json").display()), &fault))
    }

    /// Writes the configuration.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn set_config(&self, config: &Config) -> Result<(), Failure> {
        self.write("config.json", &serde_json::to_string_pretty(config).expect("plain data can be written as JSON"))
    }

    /// Writes a file (0600) in one step, making the folder (0700) if need be.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let wrong = |fault: io::Error| Failure::caused(format!("cannot write `{}`", self.path(name).display()), &fault);
        if !self.dir.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(wrong)?;
        }
        replace(&self.path(name), text.as_bytes()).map_err(wrong)
    }
}

/// Writes a file (0600) beside its place, syncs it and moves it there: nobody sees half a key.
///
/// # Errors
/// When the disk says so.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    // Not followed if somebody left a link there.
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// A secret from a file (`-` is standard input), or from whoever sits at the terminal. Never from an argument.
///
/// # Errors
/// When it can't be read, or is empty.
pub fn secret(file: Option<&Path>, prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let text = match file {
        Some(path) if path == Path::new("-") => {
            let mut line = Zeroizing::new(String::new());
            io::stdin().read_line(&mut line).map_err(|fault| Failure::caused("cannot read standard input", &fault))?;
            line
        }
        Some(path) => Zeroizing::new(
            fs::read_to_string(path)
                .map_err(|fault| Failure::caused(format!("cannot read `{}`", path.display()), &fault))?,
        ),
        None => Zeroizing::new(rpassword::prompt_password(format!("{prompt}: ")).map_err(|fault| {
            Failure::caused("cannot ask at the terminal", &fault)
                .next("give a file instead, such as --password-file FILE")
        })?),
    };
    let text = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if text.is_empty() { Err(Failure::new("nothing was given")) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_private_and_a_key_that_is_not_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path().join("home"))).unwrap();
        home.write("client.key", "secret").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&home.path("client.key")), mode(&dir.path().join("home"))), (0o600, 0o700));
        assert_eq!(home.key().unwrap().as_str(), "secret");
        fs::set_permissions(home.path("client.key"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(home.key().is_err());
    }

    #[test]
    fn without_enrolment_the_next_step_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let failure = Home::find(Some(dir.path().into())).unwrap().config().unwrap_err();
        assert!(failure.next.is_some_and(|next| next.starts_with("onus enroll")));
    }

    #[test]
    fn a_secret_file_loses_its_line_end_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p");
        fs::write(&file, " with spaces \r\n").unwrap();
        assert_eq!(secret(Some(&file), "x").unwrap().as_str(), " with spaces ");
        fs::write(&file, "\n").unwrap();
        assert!(secret(Some(&file), "x").is_err());
    }
}
