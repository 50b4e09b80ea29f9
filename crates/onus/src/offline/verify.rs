//! `onus verify --session`: one session's whole evidence, recomputed without a gateway.
//!
//! Order: the ledger against its signature, the session's anchors against the signed root by inclusion proofs, the
//! journal's chain and seal against the anchors, and then, by the same function that the API uses, every recorded view
//! against the fold of the ledger and every recorded decision against the policy set of its time. Statements are not
//! parsed again: the operations are taken as recorded.

use super::data_dir::{chain, journal_key, open_store, segments, verifier_key};
use super::ledger::{Verdict, of_store};
use super::shown::one_line;
use super::{FAILED, finish};
use clap::Args;
use onus_api::archive::Opened;
use onus_api::verify::{Report, anchors_of, verify_session};
use onus_core::codec;
use onus_core::event::{Entry, Event};
use onus_core::ids::SessionId;
use onus_journal::{Anchor, Finding, Head, SessionKey};
use onus_ledger::{Tree, leaf_hash, verify_inclusion};
use onus_store::LedgerStore;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Verifies a session: its journal is whole, anchored, and every decision in it comes out the same again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
EXAMPLES
  With the ledger's key from elsewhere (`onus init` prints it):
    onus verify --session S-1 --data /var/lib/onus --key-file onus.vkey

Without a key the one in the data directory is used: then whoever could write there could have signed anew.

EXIT STATUS
  0  everything holds
  1  something does not (every difference is told), or could not be read")]
pub struct VerifyArgs {
    /// The session.
    #[arg(long, value_name = "ID")]
    pub session: SessionId,
    /// The gateway's data directory.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The ledger's public key.
    #[arg(long, value_name = "VKEY", conflicts_with = "key_file")]
    pub key: Option<String>,
    /// A file that holds it.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &VerifyArgs) -> ExitCode {
    finish(told(args, &mut BufWriter::new(io::stdout().lock())))
}

fn told(args: &VerifyArgs, out: &mut dyn Write) -> io::Result<u8> {
    let verdict = match verified(args) {
        Ok(verdict) => verdict,
        Err(problem) => {
            eprintln!("onus: {problem}");
            return Ok(FAILED);
        }
    };
    let Verified { ledger, proven, report } = &verdict;
    if args.json {
        let told = json!({"ok": verdict.ok(), "ledger": ledger, "anchors_proven": proven, "session": report});
        writeln!(out, "{told}")?;
    } else {
        for line in ledger {
            writeln!(out, "ledger: {line}")?;
        }
        for line in &report.differences {
            writeln!(out, "{}", one_line(line))?;
        }
        let listed = report.differences.len() as u64;
        if report.differing > listed {
            writeln!(out, "and {} further differences", report.differing - listed)?;
        }
        writeln!(
            out,
            "{} records, {} anchors ({proven} proven to be in the signed ledger, the last after record {}){}{}",
            report.records,
            report.anchors,
            report.anchored,
            if report.closed { ", closed" } else { ", not closed: records may be missing at the end" },
            if report.torn { ", torn tail as after a crash" } else { "" }
        )?;
        writeln!(
            out,
            "{} views folded again, {} decisions asked for again, {} operations",
            report.views, report.decisions, report.operations
        )?;
        match verdict.ok() {
            true => writeln!(out, "session {} holds", args.session)?,
            false => writeln!(out, "session {} does NOT hold", args.session)?,
        }
    }
    out.flush()?;
    Ok(if verdict.ok() { 0 } else { FAILED })
}

struct Verified {
    /// What is wrong with the ledger, or with an anchor's place in it.
    ledger: Vec<String>,
    /// Anchors whose inclusion was proven.
    proven: u64,
    report: Report,
}

impl Verified {
    fn ok(&self) -> bool {
        self.ledger.is_empty() && self.report.ok
    }
}

fn verified(args: &VerifyArgs) -> Result<Verified, String> {
    let own = args.data.join("keys").join("ledger.vkey");
    let file = args.key_file.clone().or_else(|| args.key.is_none().then_some(own));
    let key = verifier_key(args.key.as_deref(), file.as_deref())?;
    let store = open_store(&args.data)?;
    let found = of_store(&store)?;
    let verdict = Verdict::of(&found, &key, None);
    let mut ledger = verdict.lines();

    let stored = &found.copy.entries;
    let mut entries: Vec<Entry> = Vec::with_capacity(stored.len());
    for (position, bytes) in stored.iter().enumerate() {
        entries.push(codec::decode(bytes).map_err(|e| format!("ledger entry {position}: {e}"))?);
    }
    let tree = Tree::from_leaf_hashes(stored.iter().map(|bytes| leaf_hash(bytes)));
    let (size, root) = (verdict.report.size, verdict.report.root);
    let mut proven = 0;
    for (index, entry) in (0_u64..).zip(&entries) {
        if !matches!(&entry.event, Event::JournalAnchored { session, .. } if *session == args.session) {
            continue;
        }
        let leaf = tree.leaf_hashes()[index as usize];
        let proof = tree.inclusion_proof(index, size).map_err(|e| e.to_string());
        match proof.and_then(|path| verify_inclusion(index, size, &leaf, &path, &root).map_err(|e| e.to_string())) {
            Ok(()) => proven += 1,
            Err(why) => {
                ledger.push(format!("entry {index}, an anchor of this session, is not in the signed ledger: {why}"))
            }
        }
    }

    let master = journal_key(&args.data)?;
    let journal = open_journal(
        &args.session,
        &segments(&args.data, &args.session)?,
        &master,
        &anchors_of(&args.session, &entries),
    );
    let blob = |digest: &str| blob(&store, digest);
    let mut report = verify_session(&args.session, &entries, &journal, &blob);
    if let Some(what) = not_compared(&journal, report.views) {
        report.differences.push(what);
        report.differing += 1;
        report.ok = false;
    }
    Ok(Verified { ledger, proven, report })
}

/// A recorded view that was compared with nothing proves nothing: one from before the first entry, or one that a second
/// view of the same epoch hides.
fn not_compared(journal: &Opened, compared: u64) -> Option<String> {
    let views = journal.records.iter().filter(|record| record["k"] == "view").count() as u64;
    (views != compared)
        .then(|| format!("{views} views are recorded, and the ledger could be folded to {compared} of them"))
}

/// A blob by its digest; nothing if it is missing, unreadable or another one's.
fn blob(store: &dyn LedgerStore, digest: &str) -> Option<Vec<u8>> {
    let mut key = [0; 32];
    hex::decode_to_slice(digest, &mut key).ok()?;
    match store.blob(key) {
        Ok(found) => found.filter(|bytes| <[u8; 32]>::from(Sha256::digest(bytes)) == key),
        Err(fault) => {
            eprintln!("onus: blob {}: {}", one_line(digest), chain(&fault));
            None
        }
    }
}

/// Verifies and opens a session's segments. `anchors` are records and heads (hex) from the ledger; one that can't be
/// read is a finding, since the journal could not be held against it.
pub fn open_journal(session: &SessionId, segments: &[Vec<u8>], master: &[u8; 32], anchors: &[(u64, String)]) -> Opened {
    let mut findings = Vec::new();
    let mut heads = Vec::new();
    for (seq, head) in anchors {
        match Head::from_hex(head) {
            Some(head) => heads.push(Anchor { seq: *seq, head }),
            None => findings.push(format!("the anchor after record {seq} is no hash")),
        }
    }
    let key = SessionKey::derive(master, session.as_str());
    let (opened, found) = onus_journal::open(session.as_str(), segments, &key, &heads);
    let mut records = Vec::with_capacity(opened.len());
    for record in &opened {
        match crate::tape::record(&record.payload) {
            Ok(value) => records.push(value),
            Err(wrong) => findings.push(format!("record {} {wrong}", record.seq)),
        }
    }
    let torn = |finding: &&Finding| matches!(finding, Finding::Torn { .. });
    findings.extend(found.findings.iter().filter(|finding| !torn(finding)).map(ToString::to_string));
    if found.opened < found.records {
        findings.push(format!("{} of {} records could not be opened", found.records - found.opened, found.records));
    }
    Opened {
        records,
        findings,
        torn: found.findings.iter().any(|finding| torn(&finding)),
        last: found.last_seq,
        head: found.head.to_hex(),
    }
}

#[cfg(test)]
mod tests;
