//! `onus session watch`: following a session as it goes.
//!
//! Each question to the gateway is a sign of life: whoever watches counts as a watcher until they stop asking. What
//! is shown was written by whoever is watched, so only what draws reaches this terminal.

use crate::client::{Client, segment};
use crate::home::Home;
use crate::offline::replay::Replay;
use crate::session::tier;
use crate::show::{Failure, Outcome, text};
use crate::tape;
use clap::Args;
use onus_terminal::harmless::Harmless;
use serde_json::{Value, json as object};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// What a watched terminal may leave behind, undone.
const ORDER: &[u8] = b"\x1b[0m\x1b[?1049l\x1b[?25h\x1b[?7h\x1b[r\x1b(B\r\n";

/// Follows a session as it goes: what its terminal shows, or each operation as it is decided.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus session list
  onus session watch S-0123456789ab
  onus session watch S-0123456789ab --print

Where a role demands that somebody watches, its session goes on only while one of those named does so. The session's
person can see who watches. Ctrl-C ends it.")]
pub struct WatchArgs {
    /// The session.
    id: String,
    /// List operations and lines, also where there is a terminal to show.
    #[arg(long)]
    print: bool,
}

/// Watches.
///
/// # Errors
/// What the gateway says.
pub fn watch(home: &Home, args: &WatchArgs) -> Outcome {
    let client = Client::of(home)?;
    let path = format!("/v1/session/{}", segment(&args.id));
    anstream::eprintln!("{}", header(&client.get(&path)?));
    let screen = !args.print && io::stdout().is_terminal();
    // The first question begins the watch; from then on Ctrl-C has something to end.
    let mut answer = client.get(&format!("{path}/tape?after=0"))?;
    end_on_signal(home, format!("{path}/unwatch"), screen)?;
    let mut shown =
        Shown { screen, channel: None, filter: Harmless::new(), listing: Replay::default(), said: String::new() };
    let wrong = |fault: io::Error| Failure::caused("cannot write to the terminal", &fault);
    loop {
        let records = answer["records"].as_array().map_or(&[][..], Vec::as_slice);
        shown.records(records, &mut io::stdout().lock()).map_err(wrong)?;
        shown.standing(&answer);
        if answer["live"] != true && records.is_empty() {
            break;
        }
        let after = answer["last"].as_u64().unwrap_or(0);
        match client.get(&format!("{path}/tape?after={after}")) {
            Ok(next) => answer = next,
            // Over since the last question: the gateway no longer has it among the live ones.
            Err(_) if answer["live"] != true => break,
            Err(failure) => {
                let over = client.get(&path).is_ok_and(|session| !session["closed"].is_null());
                if over {
                    break;
                }
                return Err(failure);
            }
        }
    }
    if screen && shown.channel.is_some() {
        io::stdout().write_all(ORDER).map_err(wrong)?;
    } else {
        shown.listing.finish(&mut anstream::stdout()).map_err(wrong)?;
    }
    anstream::eprintln!("the session is over");
    Ok(ExitCode::SUCCESS)
}

/// Who does what, how far control reaches, and why.
fn header(answer: &Value) -> String {
    let session = &answer["opened"]["session"];
    format!(
        "{}: {} as {} on {} ({}), for: {}",
        text(&answer["session"]),
        text(&session["subject"]),
        text(&session["role"]),
        text(&session["resource"]),
        tier(&session["tier"]),
        text(&answer["grant"]["grant"]["purpose"])
    )
}

struct Shown {
    screen: bool,
    /// The stream with a terminal that is shown, once there is one.
    channel: Option<u64>,
    filter: Harmless,
    listing: Replay,
    said: String,
}

impl Shown {
    fn records(&mut self, records: &[Value], out: &mut impl Write) -> io::Result<()> {
        for record in records {
            if self.screen && record["k"] == "tape" && record["s"] == "r" && self.channel.is_none() {
                self.channel = record["ch"].as_u64();
            }
            if self.channel.is_none() {
                self.listing.record(record, out)?;
                continue;
            }
            // Another stream's output would stand across this one's screen.
            if let Ok(Some(piece)) = tape::piece(record)
                && Some(piece.channel) == self.channel
                && matches!(piece.track, 'o' | 'e')
            {
                let mut drawn = Vec::new();
                self.filter.filter(&piece.bytes, &mut drawn);
                out.write_all(&drawn)?;
            }
        }
        out.flush()
    }

    /// Says how the session stands, whenever that changes.
    fn standing(&mut self, answer: &Value) {
        let now = match (answer["frozen"] == true, answer["counts"] == true) {
            (true, _) => "frozen: it needs a watcher whom its role names, and nobody who counts watches",
            (false, true) => "watched",
            (false, false) => "",
        };
        if now != self.said {
            now.clone_into(&mut self.said);
            if !now.is_empty() && self.channel.is_none() {
                anstream::eprintln!("{now}");
            }
        }
    }
}

/// Ends the watch in order when a signal comes, and this process with it.
fn end_on_signal(home: &Home, path: String, screen: bool) -> Result<(), Failure> {
    let client = Client::of(home)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|fault| Failure::caused("signals can't be caught", &fault))?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return std::future::pending().await;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        let ended = client.post(&path, &object!({}));
        if screen {
            // Not through the standard library's lock: the other thread may hold it.
            let _ = rustix::io::write(rustix::stdio::stdout(), ORDER);
        }
        std::process::exit(i32::from(ended.is_err()));
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::tests::taped;

    fn shown(screen: bool) -> Shown {
        Shown { screen, channel: None, filter: Harmless::new(), listing: Replay::default(), said: String::new() }
    }

    #[test]
    fn a_watched_terminal_acts_on_nobodys() {
        let records = [
            taped(4, 1, "r", b"80x24"),
            taped(4, 2, "o", b"a\x1b[6n\x1b]52;c;eA==\x07b"),
            taped(5, 2, "o", b"another"),
            object!({"k": "op", "op": 1, "text": "x"}),
        ];
        let mut out = Vec::new();
        shown(true).records(&records, &mut out).unwrap();
        assert_eq!(out, b"ab");
    }

    #[test]
    fn without_a_terminal_operations_are_listed_as_they_come() {
        let mut out = Vec::new();
        let mut shown = shown(false);
        shown
            .records(
                &[object!({"k": "op", "op": 1, "def": 1, "at": 1, "stage": "run", "text": "ls\u{1b}[2J"})],
                &mut out,
            )
            .unwrap();
        shown.records(&[taped(4, 2, "o", b"x\x1b[1my\n")], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("#1 run") && text.contains("4| xy") && !text.contains('\u{1b}'), "{text:?}");
    }
}
