//! PostgreSQL's own regression suite: fetched as Debian source of the version that is installed, prepared once, run
//! against any address. Deliberately leaves `/etc/apt` and the installed packages alone: lists, archives and the server's
//! headers stay in the folder it is given.
//!
//! What has to be there for a run: `pg_regress` (it comes with the client package), the suite's SQL and expected output,
//! and three libraries that the server loads: `regress.so`, compiled here, and `autoinc.so` and `refint.so` of contrib.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::tls::set_mode;
use crate::tools::{self, Tool};
use crate::{Cluster, KitError, Options, pg, run};

/// The suite, ready to run.
#[derive(Debug, Clone)]
pub struct RegressSuite {
    /// The folder of `sql/`, `expected/`, `data/` and the schedule.
    pub input: PathBuf,
    /// The folder of the libraries that the server loads.
    pub libraries: PathBuf,
    /// The Debian version of the suite's source.
    pub version: String,
    /// The Debian version of the server; a suite of another minor version may differ in a few expected lines.
    pub server_version: String,
    installation: pg::Installation,
}

/// Where and as whom the suite runs.
#[derive(Debug, Clone)]
pub struct Target {
    /// A host or an address; a socket's folder is fine too.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database user. Most tests want a superuser.
    pub user: String,
    /// The database, which must exist: see [`make_database`].
    pub db: String,
    /// More variables for `psql`, such as `PGPASSWORD`, `PGSSLMODE`, `PGSSLROOTCERT`.
    pub env: Vec<(String, String)>,
    /// Only these tests, one after the other; empty means the whole parallel schedule. Nearly every test needs
    /// `test_setup` to have run in the same database.
    pub only: Vec<String>,
}

/// What came out.
#[derive(Debug)]
pub struct RegressResult {
    /// Every test in the order in which it was reported.
    pub tests: Vec<TestResult>,
    /// How long the run took.
    pub took: Duration,
    /// What `pg_regress` printed.
    pub output: String,
    scratch: TempDir,
}

/// One test's outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResult {
    /// The name of its file, without `.sql`.
    pub name: String,
    /// How it went.
    pub outcome: Outcome,
    /// How long it took, as `pg_regress` says; in milliseconds.
    pub millis: u64,
}

/// How a test went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its output is one of the expected ones.
    Ok,
    /// Its output differs.
    Failed,
    /// `psql` itself ended with an error: a lost connection, mostly.
    PsqlFailed,
}

impl RegressResult {
    /// How many passed.
    pub fn passed(&self) -> usize {
        self.tests.iter().filter(|test| test.outcome == Outcome::Ok).count()
    }

    /// The names of those that didn't.
    pub fn failed(&self) -> Vec<&str> {
        self.tests.iter().filter(|test| test.outcome != Outcome::Ok).map(|test| test.name.as_str()).collect()
    }

    /// The file of differences, which is there as long as this value is, if any test failed.
    pub fn diffs(&self) -> Option<PathBuf> {
        let file = self.scratch.path().join("out/regression.diffs");
        file.exists().then_some(file)
    }

    /// A test's actual output.
    pub fn actual(&self, test: &str) -> Option<String> {
        let file = self.scratch.path().join(format!("out/results/{test}.out"));
        fs::read(file).ok().map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    /// Keeps the outputs and differences instead of removing them with this value, and says where.
    pub fn keep(self) -> PathBuf {
        self.scratch.keep().join("out")
    }
}

/// Fetches and builds the suite in `dir` (some 60 MB), unless that was done before for the server's version. Needs a
/// Debian with network the first time; takes about ten seconds then.
pub fn prepare(dir: &Path) -> Result<RegressSuite, KitError> {
    tools::need(&[Tool::PostgresServer, Tool::Psql, Tool::C, Tool::Unpackers])?;
    let installation = pg::Installation::find()?;
    let server = format!("postgresql-{}", installation.major);
    let server_version =
        run::output("dpkg-query", Command::new("dpkg-query").args(["-W", "-f", "${source:Version}", &server]))?;

    fs::create_dir_all(dir).map_err(KitError::file("create", dir))?;
    let dir = &dir.canonicalize().map_err(KitError::file("find", dir))?;
    let lock = dir.join("lock");
    let file = File::create(&lock).map_err(KitError::file("create", &lock))?;
    file.lock().map_err(KitError::file("lock", &lock))?;
    let done = dir.join("done");
    let suite = |version: String| RegressSuite {
        input: dir.join("regress"),
        libraries: dir.join("lib"),
        version,
        server_version: server_version.clone(),
        installation: installation.clone(),
    };
    // Two lines: the server's version, and the source's.
    if let Ok(text) = fs::read_to_string(&done)
        && let Some((for_server, version)) = text.trim_end().split_once('\n')
        && for_server == server_version
    {
        return Ok(suite(version.to_owned()));
    }

    let work = dir.join("work");
    for old in [&work, &dir.join("regress"), &dir.join("lib")] {
        if old.exists() {
            fs::remove_dir_all(old).map_err(KitError::file("remove", old))?;
        }
    }
    let apt = Apt::update(&work)?;
    eprintln!("fetching the source of {server} {server_version} for its regression suite");
    // The exact version may be gone from the archive once a security update has replaced it; the newest will do then.
    if apt.source(&format!("{server}={server_version}")).is_err() {
        apt.source(&server)?;
    }
    let version = unpack(&work, &dir.join("regress"))?;
    let headers = headers(&apt, &work, installation.major, &server_version)?;
    build(&installation, &headers, &dir.join("regress"), &dir.join("lib"))?;
    fs::remove_dir_all(&work).map_err(KitError::file("remove", &work))?;
    // COMMIT POINT: from here on the folder counts as complete.
    fs::write(&done, format!("{server_version}\n{version}\n")).map_err(KitError::file("write", &done))?;
    Ok(suite(version))
}

/// Options of a cluster that the suite passes on.
pub fn cluster_options() -> Options {
    Options {
        fsync: false,
        // The expected output of `prepared_xacts` that tests anything assumes that they are possible.
        config: vec!["max_prepared_transactions = 2".to_owned()],
        ..Options::default()
    }
}

/// Makes the database that the suite runs in, with the settings that `pg_regress` gives to one that it makes itself. A
/// run leaves roles and tablespaces behind: take a fresh cluster for each.
pub fn make_database(cluster: &Cluster, db: &str) -> Result<(), KitError> {
    let db_quoted = format!("\"{}\"", db.replace('"', "\"\""));
    let mut sql = format!("CREATE DATABASE {db_quoted} TEMPLATE template0;\n");
    for (setting, value) in [
        ("lc_messages", "C"),
        ("lc_monetary", "C"),
        ("lc_numeric", "C"),
        ("lc_time", "C"),
        ("bytea_output", "hex"),
        ("timezone_abbreviations", "Default"),
    ] {
        sql.push_str(&format!("ALTER DATABASE {db_quoted} SET {setting} TO '{value}';\n"));
    }
    cluster.psql("postgres", &sql).map(drop)
}

impl Target {
    /// Straight to the cluster, as its superuser.
    pub fn direct(cluster: &Cluster, db: &str) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: cluster.port(),
            user: pg::SUPERUSER.to_owned(),
            db: db.to_owned(),
            env: vec![("PGPASSWORD".to_owned(), cluster.password().to_owned())],
            only: Vec::new(),
        }
    }
}

/// Runs the suite against `target`. Failing tests are a result, not an error; an error is a run that couldn't be made.
///
/// The server must be on this machine: some tests have it read and write files, and load libraries, in a folder that is
/// made for this run.
///
/// `pg_regress` connects with the start-up parameters `datestyle` (`Postgres, MDY`), `timezone` (`PST8PDT`),
/// `options` (`-c intervalstyle=postgres_verbose`) and `application_name` (`pg_regress/NAME`): whatever stands between
/// must let these through.
pub fn run(suite: &RegressSuite, target: &Target) -> Result<RegressResult, KitError> {
    // In /tmp, since the server's user must be able to go there, and readable by all, whatever our umask is.
    let scratch = tempfile::Builder::new()
        .prefix("onus-regress-")
        .tempdir_in("/tmp")
        .map_err(KitError::file("make a folder in", "/tmp"))?;
    let at = |name: &str| scratch.path().join(name);
    copy(&suite.input, &at("in"))?;
    copy(&suite.libraries, &at("lib"))?;
    set_mode(scratch.path(), 0o755)?;
    for dir in ["out", "out/results"] {
        fs::create_dir(at(dir)).map_err(KitError::file("create", at(dir)))?;
        set_mode(&at(dir), 0o777)?;
    }

    let bin = &suite.installation.bin;
    let mut regress = Command::new(bin.with_file_name("lib").join("pgxs/src/test/regress/pg_regress"));
    pg::forget_libpq(&mut regress);
    regress.arg("--inputdir").arg(at("in")).arg("--outputdir").arg(at("out")).arg("--dlpath").arg(at("lib"));
    regress.arg("--bindir").arg(bin).args(["--host", &target.host, "--port", &target.port.to_string()]);
    regress.args(["--user", &target.user, "--use-existing", "--dbname", &target.db]);
    if target.only.is_empty() {
        regress.arg("--schedule").arg(at("in/parallel_schedule"));
    } else {
        regress.args(&target.only);
    }
    regress.current_dir(at("out")).envs(target.env.iter().map(|(name, value)| (name, value)));

    let start = Instant::now();
    regress.stdin(std::process::Stdio::null());
    let spawn = |source| KitError::Spawn { program: "pg_regress".to_owned(), source };
    let finished = regress.output().map_err(spawn)?;
    let took = start.elapsed();
    let output = String::from_utf8_lossy(&finished.stdout).into_owned();
    let tests: Vec<_> = output.lines().filter_map(parse_line).collect();
    // Status 1 means that tests failed; it is also what an unusable argument gives, which shows by there being no test.
    if tests.is_empty() || !matches!(finished.status.code(), Some(0 | 1)) {
        let said = format!("{output}{}", String::from_utf8_lossy(&finished.stderr));
        let status = finished.status.to_string();
        return Err(KitError::Failed { program: "pg_regress".to_owned(), status, output: run::tail(&said).to_owned() });
    }
    Ok(RegressResult { tests, took, output, scratch })
}

/// A line of `pg_regress` that tells of one test: `test NAME ... ok   12 ms` or `     NAME ... FAILED   12 ms` before
/// version 16, `ok 1   - NAME   12 ms` or `not ok 2   + NAME   12 ms` since.
fn parse_line(line: &str) -> Option<TestResult> {
    let millis = || -> Option<u64> { line.strip_suffix(" ms")?.split_whitespace().last()?.parse().ok() };
    let psql_failed = line.contains("(test process exited with") || line.contains("(test process was terminated");
    let outcome = |ok: bool| match ok {
        _ if psql_failed => Outcome::PsqlFailed,
        true => Outcome::Ok,
        false => Outcome::Failed,
    };
    if let Some((name, rest)) = line.split_once(" ... ") {
        let name = name.trim().trim_start_matches("test ").trim().to_owned();
        let word = rest.split_whitespace().next()?;
        let ok = match word {
            "ok" => true,
            "FAILED" | "failed" => false,
            _ => return None,
        };
        return Some(TestResult { name, outcome: outcome(ok), millis: millis().unwrap_or(0) });
    }
    let (ok, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    let mut words = rest.split_whitespace();
    words.next()?.parse::<u32>().ok()?;
    let sign = words.next()?;
    let name = (sign == "-" || sign == "+").then(|| words.next())??.to_owned();
    Some(TestResult { name, outcome: outcome(ok), millis: millis().unwrap_or(0) })
}

/// `apt-get` with package lists of its own, which know the sources too, and with the machine's own archives and keys.
struct Apt {
    dir: PathBuf,
    options: Vec<String>,
}

impl Apt {
    fn update(dir: &Path) -> Result<Self, KitError> {
        let targets = run::output(
            "apt-get indextargets",
            Command::new("apt-get").args([
                "indextargets",
                "--format",
                "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)",
                "Created-By: Packages",
            ]),
        )?;
        let sources = sources(&targets);
        for dir in ["lists/partial", "archives/partial"].map(|name| dir.join(name)) {
            fs::create_dir_all(&dir).map_err(KitError::file("create", dir))?;
        }
        let list = dir.join("sources.list");
        fs::write(&list, &sources).map_err(KitError::file("write", &list))?;
        let options = [
            ("Dir::Etc::SourceList", list.display().to_string()),
            ("Dir::Etc::SourceParts", "-".to_owned()),
            ("Dir::State::Lists", dir.join("lists").display().to_string()),
            ("Dir::Cache", dir.display().to_string()),
            // It may not be allowed into this folder, and everything it fetches is verified.
            ("APT::Sandbox::User", "root".to_owned()),
        ];
        let apt = Self { dir: dir.to_owned(), options: options.map(|(name, value)| format!("{name}={value}")).into() };
        apt.run(&["update"])?;
        Ok(apt)
    }

    fn source(&self, package: &str) -> Result<(), KitError> {
        self.run(&["source", "--download-only", package])
    }

    fn run(&self, arguments: &[&str]) -> Result<(), KitError> {
        let mut apt = Command::new("apt-get");
        for option in &self.options {
            apt.args(["-o", option]);
        }
        let name = format!("apt-get {}", arguments.join(" "));
        run::output(&name, apt.args(["-q", "-q"]).args(arguments).current_dir(&self.dir)).map(drop)
    }
}

/// The machine's archives as lines of a `sources.list`, each for packages and for sources.
fn sources(targets: &str) -> String {
    let mut lines = std::collections::BTreeSet::new();
    for target in targets.lines() {
        let fields: Vec<&str> = target.split('|').collect();
        let [uri, release, component, signed_by] = fields[..] else { continue };
        // A field that apt doesn't know stays as it was written.
        let known = |field: &str| !field.is_empty() && !field.starts_with("$(");
        let option = if known(signed_by) { format!("[signed-by={signed_by}] ") } else { String::new() };
        if known(uri) && known(release) && known(component) {
            for kind in ["deb", "deb-src"] {
                lines.insert(format!("{kind} {option}{uri} {release} {component}\n"));
            }
        }
    }
    lines.into_iter().collect()
}

/// Unpacks `src/test/regress` of the downloaded source, and says which version it is. Debian's patches don't touch it.
fn unpack(work: &Path, to: &Path) -> Result<String, KitError> {
    let (archive, _) = one_file(work, ".orig.tar.", "the downloaded source")?;
    let (_, description) = one_file(work, ".dsc", "the downloaded source's description")?;
    fs::create_dir_all(to).map_err(KitError::file("create", to))?;
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(archive).arg("-C").arg(to);
    tar.args(["--no-same-owner", "--strip-components=4", "--wildcards", "*/src/test/regress/*"]);
    run::output("tar", &mut tar)?;
    let version = description.trim_end_matches(".dsc").rsplit('_').next().unwrap_or_default();
    Ok(version.to_owned())
}

/// The server's headers, to compile `regress.so`: the installed ones, or those of the package, unpacked here.
fn headers(apt: &Apt, work: &Path, major: u32, version: &str) -> Result<Vec<PathBuf>, KitError> {
    let installed = PathBuf::from(format!("/usr/include/postgresql/{major}/server"));
    if installed.join("postgres.h").exists() {
        return Ok(vec![installed, PathBuf::from("/usr/include/postgresql")]);
    }
    let package = format!("postgresql-server-dev-{major}");
    if apt.run(&["download", &format!("{package}={version}")]).is_err() {
        apt.run(&["download", &package])?;
    }
    let (archive, _) = one_file(work, ".deb", "the downloaded headers")?;
    let to = work.join("headers");
    run::output("dpkg-deb -x", Command::new("dpkg-deb").arg("-x").arg(archive).arg(&to))?;
    let include = to.join("usr/include/postgresql");
    Ok(vec![include.join(format!("{major}/server")), include])
}

fn build(installation: &pg::Installation, headers: &[PathBuf], input: &Path, lib: &Path) -> Result<(), KitError> {
    fs::create_dir_all(lib).map_err(KitError::file("create", lib))?;
    let mut cc = Command::new("cc");
    // The server's own flags that change the meaning of code, and no warnings about somebody else's.
    cc.args(["-O2", "-fPIC", "-shared", "-w", "-fno-strict-aliasing", "-fwrapv", "-D_GNU_SOURCE"]);
    for dir in headers {
        cc.arg("-I").arg(dir);
    }
    cc.arg("-o").arg(lib.join("regress.so")).arg(input.join("regress.c"));
    run::output("cc, for regress.so", &mut cc)?;
    for name in ["autoinc.so", "refint.so"] {
        let from = installation.bin.with_file_name("lib").join(name);
        fs::copy(&from, lib.join(name)).map_err(KitError::file("copy", &from))?;
    }
    Ok(())
}

/// The one file in `dir` whose name contains `part`; of several, the last by name. With its name.
fn one_file(dir: &Path, part: &str, what: &'static str) -> Result<(PathBuf, String), KitError> {
    let entries = fs::read_dir(dir).map_err(KitError::file("list", dir))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.contains(part) && !name.ends_with(".asc"));
    names.sort();
    match names.pop() {
        Some(name) => Ok((dir.join(&name), name)),
        None => Err(KitError::Unexpected { what, text: format!("no file with `{part}` in {}", dir.display()) }),
    }
}

/// Copies a folder, readable by everybody.
fn copy(from: &Path, to: &Path) -> Result<(), KitError> {
    run::output("cp", Command::new("cp").arg("-r").arg(from).arg(to))?;
    run::output("chmod", Command::new("chmod").args(["-R", "a+rX"]).arg(to)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_pg_regress_are_read() {
        let parse = |line| parse_line(line).map(|test| (test.name, test.outcome, test.millis));
        let is = |name: &str, outcome, millis| Some((name.to_owned(), outcome, millis));
        assert_eq!(
            parse("test test_setup                   ... ok          169 ms"),
            is("test_setup", Outcome::Ok, 169)
        );
        assert_eq!(parse("     copy                         ... FAILED       80 ms"), is("copy", Outcome::Failed, 80));
        assert_eq!(
            parse("     copy      ... FAILED (test process exited with exit code 2)       80 ms"),
            is("copy", Outcome::PsqlFailed, 80)
        );
        assert_eq!(
            parse("ok 1         - test_setup                                201 ms"),
            is("test_setup", Outcome::Ok, 201)
        );
        assert_eq!(
            parse("not ok 12    + copy                                       34 ms"),
            is("copy", Outcome::Failed, 34)
        );
        assert_eq!(parse("parallel group (20 tests):  name int4 oid"), None);
        assert_eq!(parse("# parallel group (20 tests):  name int4 oid"), None);
        assert_eq!(parse("============== running regression test queries        =============="), None);
    }

    #[test]
    fn the_machines_archives_are_asked_for_sources_too() {
        let targets =
            "http://a.example/debian/|stable|main|/keys/a.gpg\nhttp://b.example/|stable-security|main|$(SIGNED_BY)\n";
        assert_eq!(
            sources(targets),
            "deb [signed-by=/keys/a.gpg] http://a.example/debian/ stable main\n\
             deb http://b.example/ stable-security main\n\
             deb-src [signed-by=/keys/a.gpg] http://a.example/debian/ stable main\n\
             deb-src http://b.example/ stable-security main\n"
        );
    }

    /// The suite passes on a cluster of the kit, so whatever fails through a gateway is the gateway's doing. Fetches some
    /// 45 MB the first time and then takes half a minute, hence only on demand.
    #[test]
    #[ignore = "fetches PostgreSQL's source; run with `--run-ignored` or `--ignored`"]
    fn the_suite_passes_without_anything_between() {
        let suite = prepare(&crate::drivers::target_dir().join("pg-source")).unwrap();
        let cluster = Cluster::start(cluster_options()).unwrap();
        make_database(&cluster, "regression").unwrap();
        let result = run(&suite, &Target::direct(&cluster, "regression")).unwrap();
        eprintln!("{} of {} passed in {:.1?}", result.passed(), result.tests.len(), result.took);
        let diffs = result.diffs().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        assert!(result.failed().is_empty(), "{:?}\n{diffs}", result.failed());
        assert!(result.tests.len() > 150, "{}", result.output);
    }
}
