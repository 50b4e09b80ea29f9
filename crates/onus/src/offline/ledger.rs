//! `onus ledger verify | export | show`: the ledger without trusting the gateway that wrote it.
//!
//! The log's public key comes from the caller, never from what is verified. What this can't find: a ledger that was
//! rewritten and signed anew by whoever holds the log's key, when no earlier checkpoint is remembered; that is what
//! `--remember` is for.

use super::data_dir::{chain, entries, open_store, verifier_key};
use super::shown::{brief, one_line};
use super::{FAILED, finish};
use clap::Args;
use onus_core::codec;
use onus_core::event::Entry;
use onus_core::state::State;
use onus_ledger::tile::{Tile, TileKind, encode_bundle, new_bundles, tiles_for_size};
use onus_ledger::{Checkpoint, Finding, Hash, LedgerCopy, Report, SignedCheckpoint, Tree, VerifierKey, verify};
use onus_store::LedgerStore;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Verifies the ledger: nothing was changed, removed, inserted, moved or rolled back since it was signed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
EXAMPLES
  Verify a gateway's own ledger, and that it continues what was verified last time:
    onus ledger verify --data /var/lib/onus --key-file onus.vkey --remember onus.checkpoint
  Verify a copy that `onus ledger export` wrote:
    onus ledger verify --copy ledger-copy --key 'onus.example+7c0b1a2d+AU…'

The key must come from somewhere else than the ledger: note it when `onus init` prints it.

EXIT STATUS
  0  everything holds
  1  something is wrong (every finding is told), or the ledger could not be read")]
pub struct VerifyArgs {
    /// The gateway's data directory.
    #[arg(long, value_name = "DIR", conflicts_with = "copy", required_unless_present = "copy")]
    pub data: Option<PathBuf>,
    /// A copy of the ledger's files, as `onus ledger export` writes them.
    #[arg(long, value_name = "DIR")]
    pub copy: Option<PathBuf>,
    /// The ledger's public key.
    #[arg(long, value_name = "VKEY", conflicts_with = "key_file", required_unless_present = "key_file")]
    pub key: Option<String>,
    /// A file that holds it.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Keep the newest verified checkpoint here, and next time require that the ledger continues it.
    #[arg(long, value_name = "FILE")]
    pub remember: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Writes a copy of the ledger that others can verify (C2SP tlog-tiles).
#[derive(Debug, Args)]
#[command(after_long_help = "\
EXAMPLES
  Make a copy, and verify it:
    onus ledger export --data /var/lib/onus ledger-copy
    onus ledger verify --copy ledger-copy --key-file onus.vkey

FILES
  checkpoint          the newest signed checkpoint; written last
  checkpoints.jsonl   all of them, oldest first, one {\"size\", \"note\"} a line
  tile/<L>/…          hash tiles
  tile/entries/…      the entries
  key                 the ledger's public key as the gateway has it; for comparing, not for trusting")]
pub struct ExportArgs {
    /// The gateway's data directory.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where to write; a directory that is empty or not there yet.
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
}

/// Prints the ledger's entries.
#[derive(Debug, Args)]
#[command(after_long_help = "\
EXAMPLES
  Everything:
    onus ledger show --data /var/lib/onus
  The entries from 1200 on, as stored, one a line:
    onus ledger show --data /var/lib/onus --from 1200 --json")]
pub struct ShowArgs {
    /// The gateway's data directory.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The first entry.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub from: u64,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    pub max: u64,
    /// Print each entry as it is stored, with its position: `{"position", "entry"}`.
    #[arg(long)]
    pub json: bool,
}

/// Runs `onus ledger verify`.
pub fn verify_command(args: &VerifyArgs) -> ExitCode {
    finish(verified(args, &mut BufWriter::new(io::stdout().lock())))
}

/// Runs `onus ledger export`.
pub fn export(args: &ExportArgs) -> ExitCode {
    match exported(&args.data, &args.out) {
        Ok(size) => {
            println!("{size} entries in {}", args.out.display());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("onus: {problem}");
            ExitCode::from(FAILED)
        }
    }
}

/// Runs `onus ledger show`.
pub fn show(args: &ShowArgs) -> ExitCode {
    finish(shown(args, &mut BufWriter::new(io::stdout().lock())))
}

/// A ledger with what else its store says about it.
pub(super) struct Found {
    /// Entries and checkpoints.
    pub copy: LedgerCopy,
    /// The newest snapshot of the folded state, with its size.
    pub snapshot: Option<(u64, Vec<u8>)>,
}

/// Reads the ledger in a data directory.
pub(super) fn of_store(store: &dyn LedgerStore) -> Result<Found, String> {
    // Checkpoint and snapshot first: what a running gateway appends meanwhile is then more, and never less, than signed.
    let checkpoints = store.checkpoints(0).map_err(|fault| chain(&fault))?;
    let snapshot = store.latest_snapshot().map_err(|fault| chain(&fault))?;
    let stored = entries(store, 0, u64::MAX)?;
    let hashes = stored.iter().map(|entry| Hash(entry.leaf_hash)).collect();
    Ok(Found {
        copy: LedgerCopy {
            entries: stored.into_iter().map(|entry| entry.bytes).collect(),
            stored_leaf_hashes: Some(hashes),
            checkpoints: checkpoints.into_iter().map(|checkpoint| checkpoint.note).collect(),
        },
        snapshot,
    })
}

#[derive(Serialize, Deserialize)]
struct Published {
    size: u64,
    note: String,
}

fn of_files(dir: &Path) -> Result<LedgerCopy, String> {
    let text = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).map_err(|e| format!("{}: cannot be read: {e}", path.display()))
    };
    let mut checkpoints = Vec::new();
    if dir.join("checkpoints.jsonl").exists() {
        for (line, note) in text("checkpoints.jsonl")?.lines().enumerate() {
            let published: Published = serde_json::from_str(note)
                .map_err(|e| format!("{}:{}: {e}", dir.join("checkpoints.jsonl").display(), line + 1))?;
            checkpoints.push(published.note);
        }
    }
    let newest = text("checkpoint")?;
    if checkpoints.last() != Some(&newest) {
        checkpoints.push(newest);
    }
    let bundles = tiles(dir, TileKind::Entries)?;
    let leaves = tiles(dir, TileKind::Hashes { level: 0 })?;
    LedgerCopy::from_tiles(bundles, leaves, checkpoints).map_err(|e| format!("{}: {}", dir.display(), chain(&e)))
}

/// The tiles of one kind in order, each in its widest form, up to the first that is missing or partial.
fn tiles(dir: &Path, kind: TileKind) -> Result<Vec<Vec<u8>>, String> {
    let failed = |path: &Path, e: &dyn std::fmt::Display| format!("{}: cannot be read: {e}", path.display());
    let mut found = Vec::new();
    for index in 0.. {
        let full = Tile::new(kind, index, 256).map_err(|e| failed(dir, &e))?;
        let path = dir.join(full.path());
        match fs::read(&path) {
            Ok(bytes) => {
                found.push(bytes);
                continue;
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(e) => return Err(failed(&path, &e)),
        }
        for width in (1..256).rev() {
            let partial = Tile::new(kind, index, width).map_err(|e| failed(dir, &e))?;
            let path = dir.join(partial.path());
            match fs::read(&path) {
                Ok(bytes) => {
                    found.push(bytes);
                    break;
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(e) => return Err(failed(&path, &e)),
            }
        }
        break;
    }
    Ok(found)
}

fn verified(args: &VerifyArgs, out: &mut dyn Write) -> io::Result<u8> {
    let told = verifier_key(args.key.as_deref(), args.key_file.as_deref()).and_then(|key| {
        let found = match (&args.data, &args.copy) {
            (Some(data), _) => of_store(&open_store(data)?)?,
            (None, Some(copy)) => Found { copy: of_files(copy)?, snapshot: None },
            (None, None) => return Err("name the ledger with --data DIR or --copy DIR".to_owned()),
        };
        let remembered = match &args.remember {
            Some(file) => remembered(file, &key)?,
            None => None,
        };
        Ok(Verdict::of(&found, &key, remembered.as_ref()))
    });
    let mut verdict = match told {
        Ok(verdict) => verdict,
        Err(problem) => {
            eprintln!("onus: {problem}");
            return Ok(FAILED);
        }
    };
    // Only what holds is worth remembering: else a forged ledger would become the yardstick.
    if let (Some(file), true, Some(note)) = (&args.remember, verdict.ok(), &verdict.newest)
        && let Err(e) = write_whole(file, note.as_bytes())
    {
        verdict.others.push(format!("{}: the checkpoint could not be kept: {e}", file.display()));
    }
    verdict.print(args.json, out)?;
    out.flush()?;
    Ok(if verdict.ok() { 0 } else { FAILED })
}

/// What verification came to.
pub(super) struct Verdict {
    /// The proof's part.
    pub report: Report,
    /// The signed note that vouches for the whole, if one does.
    newest: Option<String>,
    /// The findings, in words, each with the entry that it is about.
    findings: Vec<(String, Option<String>)>,
    /// What else is wrong: entries that can't be read, a snapshot that does not fit.
    others: Vec<String>,
}

impl Verdict {
    pub(super) fn of(found: &Found, key: &VerifierKey, remembered: Option<&Checkpoint>) -> Self {
        let report = verify(&found.copy, key, remembered);
        let entries = &found.copy.entries;
        let findings = report.findings.iter().map(|finding| (finding.to_string(), about(finding, entries))).collect();
        let newest = found
            .copy
            .checkpoints
            .iter()
            .rev()
            .find(|note| {
                SignedCheckpoint::open(note, key).is_ok_and(|signed| {
                    let checkpoint = signed.into_checkpoint();
                    checkpoint.size == report.size && checkpoint.root == report.root
                })
            })
            .cloned();
        Self { newest, findings, others: fold(entries, found.snapshot.as_ref()), report }
    }

    pub(super) fn ok(&self) -> bool {
        self.report.ok() && self.others.is_empty()
    }

    /// Every finding as a line.
    pub(super) fn lines(&self) -> Vec<String> {
        let told = self.findings.iter().map(|(text, entry)| match entry {
            Some(entry) => format!("{}: it now says {entry}", one_line(text)),
            None => one_line(text),
        });
        let omitted = (self.report.omitted > 0).then(|| format!("and {} further findings", self.report.omitted));
        told.chain(omitted).chain(self.others.iter().map(|text| one_line(text))).collect()
    }

    fn print(&self, json: bool, out: &mut dyn Write) -> io::Result<()> {
        let report = &self.report;
        if json {
            let findings: Vec<Value> =
                self.findings.iter().map(|(text, entry)| json!({"text": text, "entry": entry})).collect();
            return writeln!(
                out,
                "{}",
                json!({"ok": self.ok(), "size": report.size, "root": report.root.to_base64(), "unsigned": report.unsigned,
                       "findings": findings, "omitted": report.omitted, "others": self.others})
            );
        }
        for line in self.lines() {
            writeln!(out, "{line}")?;
        }
        if report.unsigned > 0 {
            writeln!(out, "{} further entries are not signed yet, and not verified", report.unsigned)?;
        }
        let root = report.root.to_base64();
        match self.ok() {
            true => writeln!(out, "the ledger holds: {} entries, root {root}", report.size),
            false => {
                let found = (self.findings.len() + self.others.len()) as u64 + report.omitted;
                writeln!(out, "the ledger does NOT hold; findings: {found}, among {} signed entries", report.size)
            }
        }
    }
}

/// What the entry says that a finding is about.
fn about(finding: &Finding, entries: &[Vec<u8>]) -> Option<String> {
    let position = match finding {
        Finding::Changed { index } | Finding::LeafHashChanged { index } => *index,
        Finding::Inserted { position } | Finding::Moved { position, .. } => *position,
        Finding::Swapped { a, .. } => *a,
        Finding::Removed { .. }
        | Finding::Altered { .. }
        | Finding::Forked { .. }
        | Finding::RolledBack { .. }
        | Finding::BadSignature { .. }
        | Finding::LeafHashesIncomplete { .. }
        | Finding::NoCheckpoint => return None,
    };
    let bytes = entries.get(usize::try_from(position).ok()?)?;
    Some(match codec::decode(bytes) {
        Ok(entry) => summary(&entry),
        Err(error) => brief(&error.to_string(), 200),
    })
}

/// Folds all entries; tells what can't be read, and whether the snapshot is what they give.
fn fold(entries: &[Vec<u8>], snapshot: Option<&(u64, Vec<u8>)>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut state = State::default();
    let differs = |state: &State, wrong: &mut Vec<String>| {
        if let Some((size, bytes)) = snapshot
            && *size == state.as_of
            && state.snapshot() != *bytes
        {
            wrong.push(format!("the stored snapshot of the state after {size} entries is not what they give"));
        }
    };
    for (position, bytes) in entries.iter().enumerate() {
        differs(&state, &mut wrong);
        match codec::decode(bytes) {
            Ok(entry) => state.apply(&entry),
            Err(error) => {
                wrong.push(format!("entry {position} cannot be read, and nothing after it was folded: {error}"));
                return wrong;
            }
        }
    }
    differs(&state, &mut wrong);
    if let Some((size, _)) = snapshot.filter(|(size, _)| *size > state.as_of) {
        wrong.push(format!("the stored snapshot is of {size} entries; there are {}", state.as_of));
    }
    wrong
}

fn remembered(file: &Path, key: &VerifierKey) -> Result<Option<Checkpoint>, String> {
    let note = match fs::read_to_string(file) {
        Ok(note) => note,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("{}: cannot be read: {e}", file.display())),
    };
    SignedCheckpoint::open(&note, key).map(|signed| Some(signed.into_checkpoint())).map_err(|e| {
        format!("{}: is not a checkpoint of this ledger ({e}); find out why before you remove it", file.display())
    })
}

/// Replaces a file as a whole: after a crash it is the old or the new one.
fn write_whole(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = dir.join(name);
    let mut out = OpenOptions::new().write(true).create_new(true).open(&new)?;
    let done = out.write_all(bytes).and_then(|()| out.sync_all()).and_then(|()| fs::rename(&new, file));
    if done.is_err() {
        let _ = fs::remove_file(&new);
    }
    done?;
    // COMMIT POINT: the name is durable.
    File::open(dir)?.sync_all()
}

fn exported(data: &Path, out: &Path) -> Result<u64, String> {
    let store = open_store(data)?;
    let checkpoints = store.checkpoints(0).map_err(|fault| chain(&fault))?;
    let newest = checkpoints.last().ok_or("the ledger has no signed checkpoint yet; there is nothing to export")?;
    let stored = entries(&store, 0, newest.size)?;
    if stored.len() as u64 != newest.size {
        return Err(format!(
            "the ledger has {} entries, and {} were signed; run `onus ledger verify`",
            stored.len(),
            newest.size
        ));
    }
    let failed = |path: &Path, e: &dyn std::fmt::Display| format!("{}: cannot be written: {e}", path.display());
    fs::create_dir_all(out).map_err(|e| failed(out, &e))?;
    if fs::read_dir(out).map_err(|e| failed(out, &e))?.next().is_some() {
        return Err(format!("{}: is not empty; name a new directory", out.display()));
    }
    let write = |name: &str, bytes: &[u8]| -> Result<(), String> {
        let path = out.join(name);
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, bytes))
            .map_err(|e| failed(&path, &e))
    };
    // The leaves are hashed from the bytes: a copy of stored hashes would hide what was changed.
    let mut tree = Tree::new();
    for entry in &stored {
        tree.append(&entry.bytes);
    }
    for bundle in new_bundles(0, newest.size) {
        let range = bundle.items();
        let items: Vec<&[u8]> =
            stored[range.start as usize..range.end as usize].iter().map(|entry| entry.bytes.as_slice()).collect();
        write(&bundle.path(), &encode_bundle(&items).map_err(|e| failed(out, &e))?)?;
    }
    for tile in tiles_for_size(newest.size) {
        let bytes = tree.tile(&tile).ok_or_else(|| failed(out, &format!("no tile {}", tile.path())))?;
        write(&tile.path(), &bytes)?;
    }
    let mut lines = Vec::new();
    for checkpoint in &checkpoints {
        let published = Published { size: checkpoint.size, note: checkpoint.note.clone() };
        serde_json::to_writer(&mut lines, &published).map_err(|e| failed(out, &e))?;
        lines.push(b'\n');
    }
    write("checkpoints.jsonl", &lines)?;
    if let Ok(vkey) = fs::read(data.join("keys").join("ledger.vkey")) {
        write("key", &vkey)?;
    }
    write("checkpoint", newest.note.as_bytes())?;
    Ok(newest.size)
}

fn shown(args: &ShowArgs, out: &mut dyn Write) -> io::Result<u8> {
    let stored = match open_store(&args.data).and_then(|store| entries(&store, args.from, args.max)) {
        Ok(stored) => stored,
        Err(problem) => {
            eprintln!("onus: {problem}");
            return Ok(FAILED);
        }
    };
    let mut status = 0;
    for (position, stored) in (args.from..).zip(&stored) {
        match (codec::decode(&stored.bytes), args.json) {
            (Ok(_), true) => {
                let entry: Value = serde_json::from_slice(&stored.bytes)?;
                writeln!(out, "{}", json!({"position": position, "entry": entry}))?;
            }
            (Ok(entry), false) => writeln!(out, "{position:>6}  {}", summary(&entry))?,
            (Err(error), _) => {
                status = FAILED;
                out.flush()?;
                eprintln!("onus: entry {position}: {}", brief(&error.to_string(), 300));
            }
        }
    }
    out.flush()?;
    Ok(status)
}

/// An entry on one line: when, by whom, what.
pub(super) fn summary(entry: &Entry) -> String {
    let event = serde_json::to_value(&entry.event).unwrap_or_default();
    let name = event["event"].as_str().unwrap_or("event").replace('_', " ");
    let details: Vec<String> = event
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(field, _)| *field != "event")
        .map(|(field, value)| match value {
            Value::String(text) => format!("{field}={}", brief(text, 80)),
            value => format!("{field}={}", brief(&value.to_string(), 160)),
        })
        .collect();
    format!("{} {}: {name} {}", entry.at, entry.by, details.join(" "))
}

#[cfg(test)]
mod tests;
