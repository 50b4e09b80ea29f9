//! The story's second part: a server behind SSH. Real sshd, real `ssh` and `sftp`; and again every chapter checks what it
//! claims.
//!
//! Deliberately no role that only the demo could have: `log-reader` is the shipped one, only told where the logs are, and
//! `log-keeper` is what a company would write for itself.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use onus_testkit::pty::Pty;
use onus_testkit::wait;

use super::stage::Stage;
use super::{KILL_LIMIT, hold_of};
use crate::step::{Failure, seconds};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A role, for those who may also throw logs away: appended to the example's estate, whose last section is the roles.
pub const ROLE: &str = "  log-keeper:
    owner: petra
    why: keep the web servers' logs in order
    resources: [web-1]
    max_for: 4h
    approvers: [data-platform]
";

/// Where the logs are, in the account's home.
pub const LOGS: &str = "~/logs";

/// The role's policies. SFTP names the same folder by its whole path, `@LOGS@`.
pub const POLICIES: &str = r#"@id("log-keeper")
@owner("petra")
@role("log-keeper")
@plane("elevation")
@why("a log keeper may have the governed shell, and read, write and remove below the logs")
permit (
  principal == ?principal,
  action in [Action::"session", Action::"shell.read", Action::"shell.write"],
  resource == ?resource
)
when
{
  action in Action::"session" ||
  ((context.reads.isEmpty() || context.reads_within.containsAny(["~/logs", "@LOGS@"])) &&
   (context.writes.isEmpty() || context.writes_within.containsAny(["~/logs", "@LOGS@"])) &&
   ["cat", "cd", "date", "grep", "head", "ls", "rm", "tail", "wc"].containsAll(context.programs))
};

@id("log-removals")
@owner("petra")
@plane("elevation")
@effect("hold")
@confirm("data-platform")
@within("5m")
@why("what is removed is gone; somebody of data-platform must confirm it")
forbid (principal in Role::"log-keeper", action, resource)
when { context.programs.contains("rm") };
"#;

/// What is in the web server's log.
pub const LOG: &str = "\
09:03:11 order 41 paid
09:03:12 order 42 stuck: card refused twice
09:03:19 order 43 paid
";

/// The chapters, up to the end of the recording.
pub fn played(stage: &mut Stage) -> Result<(), Failure> {
    logging_in(stage)?;
    canonical(stage)?;
    evading(stage)?;
    files(stage)?;
    governed(stage)?;
    let session = killing(stage)?;
    recorded(stage, &session)
}

/// Asks for a role, and has Bob approve it.
fn granted(stage: &mut Stage, role: &str, purpose: &str) -> Result<(), Failure> {
    let words = ["request", "web-1", "--role", role, "--purpose", purpose, "--for", "30m"];
    let request = stage.onus("alice", &words)?.done()?.word("R-")?;
    stage.onus("bob", &["approve", &request])?.done()?;
    Ok(())
}

fn logging_in(stage: &mut Stage) -> Result<(), Failure> {
    stage.voice.chapter(
        "A server, and the ssh that everybody has",
        "web-1 is a real sshd. It trusts one authority, which signs a certificate for each session; what to put where \
         is printed, and this is its beginning:",
    );
    let words = ["resource", "bootstrap", "web-1"];
    stage
        .onus_beginning("root-admin", &words, 6)?
        .done()?
        .with("TrustedUserCAKeys")?
        .with("AuthorizedKeysFile none")?;
    stage.trust_sessions()?;
    granted(stage, "log-reader", "INC-44: why is order 42 stuck")?;
    stage.onus("alice", &["ssh-config", "--write"])?.done()?;
    stage.known_host("alice")?.with("@cert-authority")?;
    stage.voice.aside(
        "One line for all gateways, and no “are you sure you want to continue connecting”. From here on `ssh` is run \
         with -F and that configuration, which you would include in ~/.ssh/config.",
    );
    stage.certificate("alice")?.with("user certificate")?.with("alice")?;
    stage.voice.held("Her own key, certified for some hours at login. The server never sees it, nor she the server's.");
    Ok(())
}

fn canonical(stage: &mut Stage) -> Result<(), Failure> {
    stage.voice.chapter(
        "What is sent is what was decided",
        "A line is parsed into programs, arguments and files; policy decides those; and what the server gets is written \
         anew from them, every word quoted. What Alice typed is never sent.",
    );
    stage.ssh("alice", "grep -n st''uck ~/logs/shop.log")?.done()?.with("order 42 stuck")?;
    let session = stage.last_session("alice")?;
    let listed = stage.onus("bob", &["session", "replay", &session, "--print"])?.done()?;
    let listed = listed.with("st''uck")?.with("'stuck'")?.with("permit")?.with("exit")?;
    drop(listed);
    stage.voice.held("`run` is what she typed, `$1` is what went to the server, and below is what came back.");
    let said = stage.ssh("alice", "cat /etc/shadow")?.refused()?;
    let said = said.with("onus: refused:")?.with("policy `sensitive-files`, owned by ivan")?.without("root:")?;
    if said.code() != Some(126) {
        return Err(said.unexpected("exit status 126"));
    }
    stage.voice.held("Exit status 126, as a shell says of what it may not run; with the policy and who owns it.");
    Ok(())
}

fn evading(stage: &mut Stage) -> Result<(), Failure> {
    stage.voice.chapter(
        "Cleverness doesn't help here either",
        "No list of bad words: what can't be known beforehand is opaque, and opaque is refused.",
    );
    let tricks = [
        "cat ~/logs/shop.log; $(echo id)",
        "LD_PRELOAD=/tmp/evil.so cat ~/logs/shop.log",
        "alias cat=id; cat ~/logs/shop.log",
        "cat ~/logs/shop.log | sh",
        "tail -n1 ~/logs/../../../etc/shadow",
        "c\\at ~/logs/shop.log >> ~/.bashrc",
        "rm ~/logs/shop.log",
    ];
    let started = stage.started_on_the_server()?;
    for trick in tricks {
        // Terse, since a refusal was shown whole above.
        let said = stage.ssh_first_line("alice", trick)?.refused()?.with("onus: refused:")?;
        if said.code() != Some(126) || said.text().contains("uid=") {
            return Err(said.unexpected("a refusal, and nothing from the server"));
        }
    }
    // The first one, of the chapter before, is how one looks that did reach it.
    if started == 0 || stage.started_on_the_server()? != started || !stage.log_exists("shop.log") {
        return Err(Failure::Step("something of this reached the server".to_owned()));
    }
    stage
        .voice
        .held("Nothing of this reached the server: sshd's own log has no start, not even of a line's harmless half.");
    Ok(())
}

fn files(stage: &mut Stage) -> Result<(), Failure> {
    stage.voice.chapter(
        "Files too: sftp may read the logs and write nothing",
        "SFTP is parsed request by request. It is the same role, and the same one policy.",
    );
    let said = stage.sftp("alice", &[&format!("get {} taken.log", stage.log_file("shop.log")?)])?.done()?;
    let taken = fs::read_to_string(stage.path("taken.log")).unwrap_or_default();
    if taken != LOG {
        return Err(said.unexpected("the log, byte for byte, as taken.log"));
    }
    let said = stage.sftp("alice", &[&format!("put taken.log {}", stage.log_file("planted.log")?)])?.refused()?;
    let said = said.with("Permission denied")?;
    if stage.log_exists("planted.log") {
        return Err(said.unexpected("no such file on the server"));
    }
    stage.voice.held("Copying out what may be read: yes. Copying anything in: no.");
    Ok(())
}

fn governed(stage: &mut Stage) -> Result<(), Failure> {
    stage.voice.chapter(
        "A shell in which each line is decided",
        "Without a command, ssh gives the governed shell: history, completion and editing are the gateway's, and no \
         keystroke reaches the server before its line was permitted. Alice may now also remove; but not alone.",
    );
    granted(stage, "log-keeper", "INC-44: the disk of web-1 is full")?;
    let name = "log-keeper.web-1";
    let old = "old.log";
    fs::write(stage.logs()?.join(old), LOG)
        .map_err(|fault| Failure::Step(format!("could not write `{old}`: {fault}")))?;
    stage.voice.typed("alice", &format!("ssh {name}"));
    let mut pty = stage.ssh_on_a_terminal("alice", name)?;
    let prompted = |pty: &Pty, after: &str| -> Result<String, Failure> {
        let shown = pty.expect(after, PATIENCE)?;
        Ok(shown + &pty.expect("$ ", PATIENCE)?)
    };
    let mut shown = prompted(&pty, "governed shell")?;
    for (line, answer) in
        [("cd logs", "logs"), ("grep stuck shop.log", "order 42 stuck"), ("cat ../.ssh/id_ed25519", "onus: refused:")]
    {
        pty.send(format!("{line}\r"))?;
        shown += &prompted(&pty, answer)?;
    }
    pty.send(format!("rm {old}\r"))?;
    shown += &pty.expect("onus confirm H-", PATIENCE)?;
    shown += &pty.expect("\n", PATIENCE)?;
    let hold = hold_of(&shown)?;
    stage.voice.terminal(&shown);
    stage.onus("bob", &["pending"])?.done()?.with(&hold)?.with("rm")?;
    stage.onus("bob", &["confirm", &hold])?.done()?;
    stage.voice.aside("And in Alice's terminal:");
    let mut rest = pty.expect("$ ", PATIENCE)?;
    pty.send("ls\r")?;
    rest += &prompted(&pty, "shop.log")?;
    stage.voice.terminal(&rest);
    pty.send("exit\r")?;
    pty.wait(PATIENCE)?;
    if stage.log_exists(old) || !stage.log_exists("shop.log") {
        return Err(Failure::Step(format!("`{old}` was to be removed, and nothing else")));
    }
    stage.voice.held("One line refused in place, one held until Bob had read it, and the shell went on.");
    Ok(())
}

fn killing(stage: &mut Stage) -> Result<String, Failure> {
    stage.voice.chapter(
        "Sam ends a session in the middle of a command",
        "The command's processes are killed on the server, and both connections closed. Each step is measured.",
    );
    let mut acting = stage.ssh_in_background("alice", "log-reader.web-1", "tail -f ~/logs/shop.log")?;
    acting.says("order 43 paid")?;
    stage.voice.printed(&acting.news());
    let process = stage.process_on_the_server(&["tail", "-f"])?;
    stage.on_the_server(&["ps", "-o", "pid,args", "-p", &process])?.done()?.with("tail -f")?;
    let session = stage.live_session("alice")?;
    let start = Instant::now();
    let killed = stage.onus("sam", &["kill", &session, "--reason", "INC-45: alice's laptop was stolen"])?;
    if killed.count(" ms") != 4 {
        return Err(killed.unexpected("the measured times of four steps"));
    }
    killed.done()?;
    let said = acting.finish()?;
    let took = start.elapsed();
    stage.voice.aside("Alice's ssh:");
    stage.voice.printed(said.text());
    let said = said.refused()?.with("session ended")?;
    if took > KILL_LIMIT {
        return Err(said.unexpected(&format!("its end within {}; it took {}", seconds(KILL_LIMIT), seconds(took))));
    }
    // A process that is dead stays listed, as `defunct`, until its parent has asked for its status.
    let entry = format!("/proc/{process}");
    wait::until(Duration::from_secs(2), "the dead process's entry to go", || {
        (!Path::new(&entry).exists()).then_some(())
    })
    .ok();
    stage.on_the_server(&["ps", "-o", "pid,args", "-p", &process])?.without("tail -f")?;
    stage.voice.held("The process is gone from the server, and so is the session.");
    Ok(session)
}

fn recorded(stage: &mut Stage, killed: &str) -> Result<(), Failure> {
    stage.voice.chapter(
        "The recording: searched, exported, verified, answered for",
        "What Alice's terminal showed can be played with any asciicast player; the evidence is the journal.",
    );
    let found = stage.onus("bob", &["session", "search", "grep stuck shop.log"])?.done()?;
    let session = found.word("S-")?;
    let words = ["session", "export", &session, "--format", "asciicast-v3", "-o", "shell.cast"];
    stage.onus("bob", &words)?.done()?;
    stage.beginning_of("shell.cast", 6)?.with("\"version\":3")?;
    let words = ["verify", "--session", killed, "--data", "gateway", "--key-file", "ledger.vkey"];
    stage.onus("auditor", &words)?.done()?.with("decisions asked for again")?.with("holds")?.without("NOT")?;
    stage.onus("sam", &["who", killed])?.done()?.with("alice")?.with("petra")?.with("bob")?;
    stage.voice.held("The same machine, the same ledger, the same answers as for the database.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_can_be_appended_to_the_example() {
        let estate = crate::step::root().join("examples/acme/estate.yaml");
        let estate = fs::read_to_string(estate).expect("the example has an estate");
        let roles = estate.rfind("\nroles:\n").expect("it has roles");
        let after = estate[roles + 1..].lines().skip(1);
        let top: Vec<_> = after.filter(|line| !line.is_empty() && !line.starts_with([' ', '#'])).collect();
        assert!(top.is_empty(), "the roles aren't last: {top:?}");
        assert!(estate.ends_with('\n') && ROLE.starts_with("  log-keeper:"));
    }
}
