//! One step of a task: a program that is run with its output shown, and timed. Deliberately no parallel steps: their
//! output couldn't be read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use onus_testkit::KitError;
use onus_testkit::tools::Missing;

/// Why a task failed.
#[derive(Debug)]
pub enum Failure {
    /// The words after the task's name make no sense.
    Usage(String),
    /// A step failed; its output was shown.
    Step(String),
    /// Tools are missing.
    Missing(Missing),
    /// The surroundings could not be made.
    Kit(KitError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why) | Self::Step(why) => f.write_str(why),
            Self::Missing(missing) => missing.fmt(f),
            Self::Kit(err) => {
                err.fmt(f)?;
                let mut source = std::error::Error::source(err);
                while let Some(cause) = source {
                    write!(f, ": {cause}")?;
                    source = cause.source();
                }
                Ok(())
            }
        }
    }
}

impl From<Missing> for Failure {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

impl From<KitError> for Failure {
    fn from(err: KitError) -> Self {
        Self::Kit(err)
    }
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder in the repository")
}

/// The cargo that runs us, in the repository's root.
pub fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut command = Command::new(cargo);
    command.current_dir(root());
    // They describe xtask, since `cargo run` set them for it; a build script that watches one would run again.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command without stdin, showing it and its output; gives the time that it took.
pub fn run(name: &str, command: &mut Command) -> Result<Duration, Failure> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    eprintln!("\n── {name}: {program} {}", words.join(" "));
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).status();
    let took = start.elapsed();
    match status {
        Ok(status) if status.success() => Ok(took),
        Ok(status) => Err(Failure::Step(format!("{name} failed after {} ({status})", seconds(took)))),
        Err(err) => Err(Failure::Step(format!("{name}: `{program}` could not be started: {err}"))),
    }
}

/// `83 s`, `7 min 4 s`.
pub fn seconds(took: Duration) -> String {
    match took.as_secs() {
        whole if whole < 120 => format!("{:.1} s", took.as_secs_f64()),
        whole => format!("{} min {} s", whole / 60, whole % 60),
    }
}
