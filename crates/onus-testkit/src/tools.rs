//! The programs that tests need, and installing them where that is ours to do: as root, with `apt-get`. Deliberately no
//! other package manager, and no service is ever started: the kit starts its own servers.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ssh_tools::Program;
use crate::{KitError, pg, run};

/// Set to anything, it keeps [`need`] from installing: it then only checks.
pub const NO_INSTALL: &str = "ONUS_NO_INSTALL";

/// A program that tests need.
///
/// WHEN ADDING ONE: a line in each of the two functions below; the compiler finds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// `psql`, PostgreSQL's terminal.
    Psql,
    /// `initdb` and `postgres`, the server, wherever [`pg::Installation::find`] finds them.
    PostgresServer,
    /// `pgbench`, its load generator.
    Pgbench,
    /// `pgbouncer`, the connection pooler that benches compare with.
    Pgbouncer,
    /// `openssl`, for certificates.
    Openssl,
    /// `node` and `npm`, for node-postgres.
    Node,
    /// `python3` that can make virtual environments, for psycopg and asyncpg.
    Python,
    /// `cc`, the C compiler: `pg_query`, SQLite and the crypto library are built by it.
    C,
    /// `c++`, the C++ compiler: libFuzzer is built by it.
    Cxx,
    /// `libclang`, from which the bindings of `pg_query` are generated at build time.
    Libclang,
    /// `tar` with `bzip2`, and `dpkg-deb`: for PostgreSQL's regression suite.
    Unpackers,
    /// A program of the SSH tests.
    Ssh(Program),
}

/// Some tools are missing and were not installed.
#[derive(Debug, thiserror::Error)]
pub struct Missing {
    /// Which ones.
    pub tools: Vec<Tool>,
    /// The Debian packages that hold them.
    pub packages: Vec<&'static str>,
    /// Why they weren't installed.
    pub why: NotInstalled,
}

/// Why missing tools were not installed.
#[derive(Debug, thiserror::Error)]
pub enum NotInstalled {
    /// We aren't root.
    #[error("only root may install them")]
    NotRoot,
    /// There is no `apt-get`.
    #[error("this machine has no `apt-get`")]
    NoApt,
    /// The environment forbids it.
    #[error("`{NO_INSTALL}` is set")]
    Forbidden,
    /// `apt-get` failed: no network, no such package …
    #[error("apt-get said:\n{0}")]
    Apt(String),
    /// It was installed, and still it isn't there.
    #[error("they are still missing after their packages were installed")]
    StillMissing,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tools: Vec<_> = self.tools.iter().map(|tool| tool.name()).collect();
        write!(f, "missing: {}; {}\nto install: {}", tools.join(", "), self.why, install_line(&self.packages))
    }
}

/// Makes sure of the tools: checks, and installs what is missing if we are root and there is `apt-get`. What it does it
/// says on stderr.
pub fn need(tools: &[Tool]) -> Result<(), Missing> {
    let tools_missing = missing(tools);
    if tools_missing.is_empty() {
        return Ok(());
    }
    let packages = packages(&tools_missing);
    let refused = |why| Missing { tools: missing(tools), packages: packages.clone(), why };
    if std::env::var_os(NO_INSTALL).is_some() {
        return Err(refused(NotInstalled::Forbidden));
    }
    if !run::is_root() {
        return Err(refused(NotInstalled::NotRoot));
    }
    if run::find("apt-get").is_none() {
        return Err(refused(NotInstalled::NoApt));
    }
    install(&packages).map_err(|err| refused(NotInstalled::Apt(err.to_string())))?;
    if missing(tools).is_empty() { Ok(()) } else { Err(refused(NotInstalled::StillMissing)) }
}

/// Which of them aren't there.
pub fn missing(tools: &[Tool]) -> Vec<Tool> {
    let tools: BTreeSet<_> = tools.iter().copied().collect();
    tools.into_iter().filter(|tool| !tool.is_there()).collect()
}

impl Tool {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Psql => "psql",
            Self::PostgresServer => "a PostgreSQL server",
            Self::Pgbench => "pgbench",
            Self::Pgbouncer => "pgbouncer",
            Self::Openssl => "openssl",
            Self::Node => "node and npm",
            Self::Python => "python3 with venv",
            Self::C => "a C compiler",
            Self::Cxx => "a C++ compiler",
            Self::Libclang => "libclang",
            Self::Unpackers => "tar, bzip2 and dpkg-deb",
            Self::Ssh(program) => program.name(),
        }
    }

    /// Where it is, or what of it is there.
    pub fn is_there(self) -> bool {
        let server_has =
            |program: &str| pg::Installation::find().is_ok_and(|found| run::is_program(&found.bin.join(program)));
        let on_path = |programs: &[&str]| programs.iter().all(|program| run::find(program).is_some());
        match self {
            Self::Psql => on_path(&["psql"]) || server_has("psql"),
            Self::PostgresServer => server_has("postgres"),
            Self::Pgbench => server_has("pgbench"),
            Self::Pgbouncer => on_path(&["pgbouncer"]) || run::is_program(Path::new("/usr/sbin/pgbouncer")),
            Self::Openssl => on_path(&["openssl"]),
            Self::Node => on_path(&["node", "npm"]),
            // Debian's python3 has `venv` but fails to use it without `ensurepip`.
            Self::Python => {
                let mut python = Command::new("python3");
                run::output("python3", python.args(["-c", "import venv, ensurepip"])).is_ok()
            }
            Self::C => on_path(&["cc"]) && Path::new("/usr/include/stdio.h").exists(),
            Self::Cxx => on_path(&["c++"]),
            Self::Libclang => libclang().is_some(),
            Self::Unpackers => on_path(&["tar", "bzip2", "dpkg-deb"]),
            Self::Ssh(program) => program.find().is_ok(),
        }
    }

    /// The Debian packages that hold it.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Psql => &["postgresql-client"],
            Self::PostgresServer => &["postgresql"],
            // In Debian 12 `pgbench` comes with the server; in other releases with contrib.
            Self::Pgbench => &["postgresql", "postgresql-contrib"],
            Self::Pgbouncer => &["pgbouncer"],
            Self::Openssl => &["openssl"],
            Self::Node => &["nodejs", "npm"],
            Self::Python => &["python3", "python3-venv"],
            Self::C => &["gcc", "libc6-dev"],
            Self::Cxx => &["g++"],
            Self::Libclang => &["libclang-dev"],
            Self::Unpackers => &["tar", "bzip2", "dpkg"],
            Self::Ssh(program) => program.packages(),
        }
    }
}

/// The library that `bindgen` loads while `pg_query` is built: where `LIBCLANG_PATH` says, or in the usual places.
fn libclang() -> Option<PathBuf> {
    let of = |dir: PathBuf| -> Option<PathBuf> {
        let mut names: Vec<_> = dir.read_dir().ok()?.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        // Not `libclang-cpp.so`, which is another library.
        let name = names.into_iter().find(|name| {
            let name = name.to_string_lossy();
            name.starts_with("libclang.so")
                || (name.starts_with("libclang-") && name[9..].starts_with(char::is_numeric))
        })?;
        Some(dir.join(name))
    };
    if let Some(path) = std::env::var_os("LIBCLANG_PATH") {
        let path = PathBuf::from(path);
        return if path.is_file() { Some(path) } else { of(path) };
    }
    let mut dirs: Vec<PathBuf> = ["/usr/lib64", "/usr/lib", "/usr/local/lib"].map(PathBuf::from).into();
    for entry in Path::new("/usr/lib").read_dir().into_iter().flatten().flatten() {
        dirs.push(entry.path());
        dirs.push(entry.path().join("lib"));
    }
    dirs.sort();
    dirs.into_iter().find_map(of)
}

fn packages(tools: &[Tool]) -> Vec<&'static str> {
    let packages: BTreeSet<_> = tools.iter().flat_map(|tool| tool.packages()).copied().collect();
    packages.into_iter().collect()
}

fn install_line(packages: &[&str]) -> String {
    format!("apt-get install -y --no-install-recommends {}", packages.join(" "))
}

fn install(packages: &[&'static str]) -> Result<(), KitError> {
    let _quiet = NoServices::new(packages)?;
    eprintln!("installing: {}", install_line(packages));
    if apt_install(packages).is_ok() {
        return Ok(());
    }
    // The package lists may be missing or out of date.
    eprintln!("that failed; trying again after: apt-get update");
    run::output("apt-get update", apt().args(["update", "-q"]))?;
    apt_install(packages)
}

fn apt_install(packages: &[&'static str]) -> Result<(), KitError> {
    let mut apt = apt();
    apt.args(["install", "-y", "-q", "--no-install-recommends"]).args(packages);
    run::output("apt-get install", &mut apt).map(drop)
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    // Several test processes may come here at the same time.
    apt.args(["-o", "DPkg::Lock::Timeout=300"]).env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

/// While it lives, packages that are installed don't start their services.
struct NoServices {
    policy: Option<&'static Path>,
}

impl NoServices {
    fn new(packages: &[&str]) -> Result<Self, KitError> {
        // Debian's server package makes and starts a cluster of its own, unless this file was there first.
        let common = Path::new("/etc/postgresql-common");
        let is_server = packages.iter().any(|package| package.starts_with("postgresql"));
        if is_server && !Path::new("/usr/share/postgresql-common").exists() && !common.exists() {
            let file = common.join("createcluster.conf");
            eprintln!("writing {} (create_main_cluster = false)", file.display());
            std::fs::create_dir_all(common).map_err(KitError::file("create", common))?;
            std::fs::write(&file, "create_main_cluster = false\n").map_err(KitError::file("write", file))?;
        }
        // invoke-rc.d asks this program; 101 means that the action is forbidden. One that is there already is somebody's
        // decision and stays.
        let policy = Path::new("/usr/sbin/policy-rc.d");
        if policy.exists() {
            return Ok(Self { policy: None });
        }
        std::fs::write(policy, "#!/bin/sh\nexit 101\n").map_err(KitError::file("write", policy))?;
        let quiet = Self { policy: Some(policy) };
        crate::tls::set_mode(policy, 0o755)?;
        Ok(quiet)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = self.policy {
            std::fs::remove_file(policy).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_needs_nothing() {
        need(&[Tool::Unpackers, Tool::Openssl]).unwrap();
    }

    #[test]
    fn the_error_gives_the_exact_line_to_run() {
        let tools = vec![Tool::Node, Tool::Pgbouncer];
        let missing = Missing { packages: packages(&tools), tools, why: NotInstalled::NotRoot };
        assert_eq!(
            missing.to_string(),
            "missing: node and npm, pgbouncer; only root may install them\n\
             to install: apt-get install -y --no-install-recommends nodejs npm pgbouncer"
        );
    }
}
