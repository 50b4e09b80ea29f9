//! Third-party PostgreSQL drivers, so that tests speak to a server as real programs do: psycopg 3 and asyncpg in a Python
//! virtual environment, node-postgres in a Node folder. Deliberately fetched and not shipped, with exact versions; the
//! tests that need them say that they skip when there is no network.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{self, Missing, Tool};
use crate::{KitError, run};

/// WHEN CHANGING ONE: nothing else; the cache notices by the text.
const PYTHON: &[&str] = &["psycopg[binary]==3.3.9", "asyncpg==0.32.0"];
const NODE: &[&str] = &["pg@8.23.1", "pg-copy-streams@7.0.0"];

/// Python with its drivers.
#[derive(Debug, Clone)]
pub struct Python {
    /// The interpreter of the virtual environment; scripts started with it can `import psycopg, asyncpg`.
    pub python: PathBuf,
}

/// Node with its drivers.
#[derive(Debug, Clone)]
pub struct Node {
    /// The folder that holds `node_modules`; [`Node::command`] sets what `require("pg")` needs.
    pub dir: PathBuf,
}

/// The drivers could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// They can't be fetched: not a failure of what is tested. A test prints this and returns.
    #[error("skipped: no {registry}: {why}")]
    Offline {
        /// Which of them: `Python package index`, `npm registry`.
        registry: &'static str,
        /// The line that tells.
        why: String,
    },
    /// The interpreter is missing and was not installed.
    #[error("skipped: {0}")]
    NoInterpreter(#[from] Missing),
    /// Anything else: a real failure.
    #[error(transparent)]
    Fault(#[from] KitError),
}

impl DriverError {
    /// Whether a test may skip for this reason.
    pub fn is_skip(&self) -> bool {
        match self {
            Self::Offline { .. } | Self::NoInterpreter(_) => true,
            Self::Fault(_) => false,
        }
    }
}

/// Python with psycopg 3 (binary) and asyncpg; fetched once.
pub fn python() -> Result<Python, DriverError> {
    python_in(&cache_dir())
}

/// Node with `pg` and `pg-copy-streams`; fetched once.
pub fn node() -> Result<Node, DriverError> {
    node_in(&cache_dir())
}

impl Node {
    /// `node` in the drivers' folder, so that scripts given by `-e` or by path find them.
    pub fn command(&self) -> Command {
        let mut node = Command::new("node");
        node.current_dir(&self.dir).env("NODE_PATH", self.dir.join("node_modules"));
        node
    }
}

fn python_in(cache: &Path) -> Result<Python, DriverError> {
    let dir = cache.join("python");
    let python = dir.join("bin/python");
    once(cache, "python", &PYTHON.join(" "), || {
        tools::need(&[Tool::Python])?;
        run::output("python3 -m venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
        let mut pip = Command::new(&python);
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--only-binary",
            ":all:",
        ]);
        pip.args(PYTHON);
        run::output("pip install", &mut pip).map_err(|err| offline("Python package index", err))?;
        Ok(())
    })?;
    Ok(Python { python })
}

fn node_in(cache: &Path) -> Result<Node, DriverError> {
    let dir = cache.join("node");
    once(cache, "node", &NODE.join(" "), || {
        tools::need(&[Tool::Node])?;
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(KitError::file("remove", &dir))?;
        }
        fs::create_dir_all(&dir).map_err(KitError::file("create", &dir))?;
        let package = dir.join("package.json");
        fs::write(&package, "{\"private\":true}\n").map_err(KitError::file("write", package))?;
        let mut npm = Command::new("npm");
        // Packages may not run programs of theirs while they are installed.
        npm.current_dir(&dir)
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact"])
            .args(NODE);
        run::output("npm install", &mut npm).map_err(|err| offline("npm registry", err))?;
        Ok(())
    })?;
    Ok(Node { dir })
}

/// Runs `make` unless it has succeeded before for the same `wanted`; one process at a time, the others wait.
fn once(
    cache: &Path,
    name: &str,
    wanted: &str,
    make: impl FnOnce() -> Result<(), DriverError>,
) -> Result<(), DriverError> {
    fs::create_dir_all(cache).map_err(KitError::file("create", cache))?;
    let lock = cache.join(format!("{name}.lock"));
    let file = File::create(&lock).map_err(KitError::file("create", &lock))?;
    file.lock().map_err(KitError::file("lock", &lock))?;
    let done = cache.join(format!("{name}.done"));
    if fs::read_to_string(&done).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    eprintln!("fetching the drivers for {name}: {wanted}");
    make()?;
    // COMMIT POINT: from here on the folder counts as complete.
    fs::write(&done, wanted).map_err(KitError::file("write", &done))?;
    Ok(())
}

/// A failed fetch that looks like one of the network's, told by what the programs print; anything else stays a fault.
fn offline(registry: &'static str, err: KitError) -> DriverError {
    const SIGNS: &[&str] = &[
        "Temporary failure in name resolution",
        "Name or service not known",
        "Failed to establish a new connection",
        "Connection refused",
        "Network is unreachable",
        // What pip says of an index that it could not read; of one without the version it lists the others.
        "(from versions: none)",
        "timed out",
        "ENOTFOUND",
        "EAI_AGAIN",
        "ECONNREFUSED",
        "ECONNRESET",
        "ENETUNREACH",
        "ETIMEDOUT",
    ];
    let text = err.to_string();
    match text.lines().find(|line| SIGNS.iter().any(|sign| line.contains(sign))) {
        Some(line) => DriverError::Offline { registry, why: line.trim().to_owned() },
        None => DriverError::Fault(err),
    }
}

/// `target/drivers` of the workspace, or of `CARGO_TARGET_DIR`.
fn cache_dir() -> PathBuf {
    target_dir().join("drivers")
}

pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_drivers_import() {
        let python = match python() {
            Ok(python) => python,
            Err(err) if err.is_skip() => return eprintln!("{err}"),
            Err(err) => panic!("{err}"),
        };
        let script = "import psycopg, asyncpg; print(psycopg.pq.__impl__, asyncpg.__version__)";
        let said = run::output("python", Command::new(python.python).args(["-c", script])).unwrap();
        assert_eq!(said.trim(), "binary 0.32.0");
    }

    #[test]
    fn node_drivers_load() {
        let node = match node() {
            Ok(node) => node,
            Err(err) if err.is_skip() => return eprintln!("{err}"),
            Err(err) => panic!("{err}"),
        };
        let script = "const { Client } = require('pg'); require('pg-copy-streams'); console.log(typeof Client)";
        assert_eq!(run::output("node", node.command().args(["-e", script])).unwrap().trim(), "function");
    }

    #[test]
    fn a_failure_of_the_network_is_a_skip_and_another_is_not() {
        let failed = |output: &str| KitError::Failed {
            program: "npm install".into(),
            status: "exit status: 1".into(),
            output: output.into(),
        };
        let err = offline("npm registry", failed("npm error code EAI_AGAIN\nnpm error more"));
        assert_eq!(err.to_string(), "skipped: no npm registry: npm error code EAI_AGAIN");
        assert!(err.is_skip());
        assert!(!offline("npm registry", failed("npm error code EACCES")).is_skip());
    }
}
