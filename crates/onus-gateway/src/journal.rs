//! Journals on disk: one folder a session, one file a segment, and the thread that syncs them in groups.
//!
//! A record is *handed over* when `write(2)` returned: it survives the gateway's own death. It is *synced* when
//! `fdatasync` returned: it survives the machine's. What a statement came to (`done`) may lag behind by a moment; the
//! statement itself never does.

use crate::control::now;
use crate::registry::{Counters, ToSession};
use onus_core::decision::Effect;
use onus_core::ids::{PolicyId, SessionId};
use onus_core::operation::Durability;
use onus_journal::{Anchor, SessionKey, Writer};
use onus_pep::{Appended, Journal, Record, RecordNo};
use std::cell::RefCell;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use tokio::sync::mpsc::UnboundedSender;

/// A segment is closed and the next one begun at this size.
const SEGMENT_BYTES: u64 = 64 << 20;

/// zstd's level for tapes: terminal output is highly repetitive, and more effort gains little.
const COMPRESSION: i32 = 1;

/// Buffers larger than this are given back when the session idles.
const KEPT_BUFFER: usize = 1024;

/// Pieces of tape from this length on are compressed; a shorter one would only grow.
const COMPRESSED_FROM: usize = 96;

thread_local! {
    /// One compressor for all sessions of a thread: its memory must not stay with an idle session.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(zstd::bulk::Compressor::new(COMPRESSION)?),
        };
        compressor.compress(bytes)
    })
}

/// Where journals live and how they are synced.
#[derive(Clone)]
pub struct Journals {
    folder: PathBuf,
    syncer: mpsc::Sender<SyncJob>,
    master: Arc<zeroize::Zeroizing<[u8; 32]>>,
    /// The least that any record must reach before it counts; policy of the gateway as a whole.
    floor: Durability,
}

struct SyncJob {
    file: Arc<File>,
    up_to: RecordNo,
    mailbox: UnboundedSender<ToSession>,
}

impl Journals {
    /// Opens the folder, making it (0700) if need be, and starts the sync thread.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn open(folder: &Path, master: zeroize::Zeroizing<[u8; 32]>, floor: Durability) -> io::Result<Self> {
        if !folder.is_dir() {
            DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
        }
        let (syncer, jobs) = mpsc::channel::<SyncJob>();
        std::thread::Builder::new().name("onus-sync".into()).spawn(move || sync(&jobs))?;
        Ok(Self { folder: folder.to_owned(), syncer, master: Arc::new(master), floor })
    }

    /// Begins a session's journal.
    ///
    /// # Errors
    /// When its folder or first segment can't be made; then the session must not begin.
    pub fn begin(
        &self,
        session: &SessionId,
        mailbox: UnboundedSender<ToSession>,
        counters: Arc<Counters>,
        least: Durability,
    ) -> io::Result<FileJournal> {
        let folder = self.folder.join(session.as_str());
        DirBuilder::new().mode(0o700).create(&folder)?;
        let key = SessionKey::derive(&self.master, session.as_str());
        let mut head = Vec::new();
        let writer = Writer::start(key, session.as_str(), now().0, &mut head)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let file = Arc::new(segment(&folder, writer.segment_number())?);
        (&*file).write_all(&head)?;
        Ok(FileJournal {
            written: head.len() as u64,
            recorded: writer.anchor(),
            folder,
            file,
            writer: Some(writer),
            buffer: Vec::new(),
            scratch: Vec::new(),
            syncer: self.syncer.clone(),
            mailbox,
            floor: self.floor.max(least),
            failed: None,
            counters,
            effects: Vec::new(),
            terminated_by: Vec::new(),
        })
    }

    /// A session's segments, in order.
    ///
    /// # Errors
    /// When there is no such journal, or its folder can't be read.
    pub fn segments(&self, session: &SessionId) -> io::Result<Vec<PathBuf>> {
        segments(&self.folder, session)
    }

    /// The key that a session's journal is sealed with.
    pub fn key(&self, session: &SessionId) -> SessionKey {
        SessionKey::derive(&self.master, session.as_str())
    }
}

/// A session's segments in a folder of journals, in order.
///
/// # Errors
/// When there is no such journal, or its folder can't be read.
pub fn segments(folder: &Path, session: &SessionId) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder.join(session.as_str()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    found.retain(|path| path.extension().is_some_and(|extension| extension == "onusj"));
    found.sort();
    Ok(found)
}

fn segment(folder: &Path, number: impl std::fmt::Display) -> io::Result<File> {
    let name = format!("{:0>6}.onusj", number.to_string());
    OpenOptions::new().append(true).create_new(true).mode(0o600).open(folder.join(name))
}

/// Group commit: whatever is waiting is synced together, each file once.
fn sync(jobs: &mpsc::Receiver<SyncJob>) {
    while let Ok(first) = jobs.recv() {
        let mut waiting: Vec<SyncJob> = std::iter::once(first).chain(jobs.try_iter()).collect();
        // The last job of a file speaks for those before it.
        waiting.reverse();
        let mut done: Vec<*const File> = Vec::new();
        for job in waiting {
            let file = Arc::as_ptr(&job.file);
            if done.contains(&file) {
                continue;
            }
            done.push(file);
            let message = match job.file.sync_data() {
                Ok(()) => ToSession::Recorded(job.up_to),
                Err(error) => ToSession::JournalFailed(error.to_string()),
            };
            // A session that ended meanwhile needs no answer.
            let _ = job.mailbox.send(message);
        }
    }
}

/// One session's journal.
pub struct FileJournal {
    folder: PathBuf,
    file: Arc<File>,
    writer: Option<Writer>,
    /// Sealed and chained, and not yet handed over.
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    syncer: mpsc::Sender<SyncJob>,
    mailbox: UnboundedSender<ToSession>,
    floor: Durability,
    /// Bytes of whole records in the segment.
    written: u64,
    /// The last record that was handed over: what is sealed after it may never reach the file.
    recorded: Anchor,
    failed: Option<String>,
    counters: Arc<Counters>,
    /// The effect of each definition, by its number from 1.
    effects: Vec<Effect>,
    /// The policies that said terminate.
    terminated_by: Vec<PolicyId>,
}

impl FileJournal {
    /// Why nothing can be recorded any more, if so.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Notes that syncing failed: what was promised is not durable.
    pub fn fail(&mut self, what: String) {
        self.failed.get_or_insert(what);
    }

    /// The policies that ended the session, if policies did.
    pub fn terminated_by(&self) -> Vec<PolicyId> {
        self.terminated_by.clone()
    }

    /// Whether something is not yet handed over.
    pub fn is_behind(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Hands over what is buffered.
    pub fn flush(&mut self) {
        // After a failure nothing more is written: a record behind a torn one would damage the journal.
        if self.failed.is_none()
            && let Err(error) = self.hand_over()
        {
            self.fail(error.to_string());
        }
        if self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = Vec::new();
        }
        if self.scratch.capacity() > KEPT_BUFFER {
            self.scratch = Vec::new();
        }
    }

    /// Number of records handed over and the chain's head after them, for an anchor.
    pub fn anchor(&self) -> (u64, String) {
        (self.recorded.seq, self.recorded.head.to_string())
    }

    /// Hands over and syncs everything; for the end of a session.
    pub fn close(mut self) -> (u64, String) {
        self.flush();
        if let Err(error) = self.file.sync_data() {
            tracing::error!(%error, "a session's journal could not be synced at its end");
        }
        self.anchor()
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if let Err(error) = (&*self.file).write_all(&self.buffer) {
            self.buffer.clear();
            // Part of it may be there. Should this fail too, verifying shows a torn end, as after a crash.
            let _ = self.file.set_len(self.written);
            return Err(error);
        }
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if let Some(writer) = &self.writer {
            self.recorded = writer.anchor();
        }
        if self.written >= SEGMENT_BYTES {
            self.rotate()?;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        // What was promised about the old file must hold before the new one is the only one synced.
        self.file.sync_data()?;
        let mut head = Vec::new();
        let writer = writer.rotate(now().0, &mut head).map_err(|error| io::Error::other(error.to_string()))?;
        self.file = Arc::new(segment(&self.folder, writer.segment_number())?);
        (&*self.file).write_all(&head)?;
        self.written = head.len() as u64;
        self.writer = Some(writer);
        Ok(())
    }

    fn try_append(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.scratch.clear();
        match record {
            Record::Tape { lane, at, track, length, coding: None, bytes } if bytes.len() >= COMPRESSED_FROM => {
                let packed = compress(bytes)?;
                let smaller = packed.len() < bytes.len();
                let (coding, bytes) = if smaller { (Some("zstd"), packed.as_slice()) } else { (None, *bytes) };
                Record::Tape { lane: *lane, at: *at, track, length: *length, coding, bytes }.encode(&mut self.scratch);
            }
            _ => record.encode(&mut self.scratch),
        }
        let writer = self.writer.as_mut().ok_or_else(|| io::Error::other("the journal is closed"))?;
        writer.append(now().0, &self.scratch, &mut self.buffer).map_err(|error| io::Error::other(error.to_string()))?;
        // What a statement came to may lag; what goes upstream may not.
        if matches!(record, Record::Done { .. }) && self.buffer.len() < 64 * 1024 {
            return Ok(());
        }
        self.hand_over()
    }
}

impl FileJournal {
    /// Keeps the counters that people see, from what is recorded: so that the two can't differ.
    fn count(&mut self, record: &Record<'_>) {
        match record {
            Record::Def { decision, .. } => {
                self.effects.push(decision.effect);
                if decision.effect == Effect::Terminate {
                    self.terminated_by = decision.determining.iter().map(|d| d.policy.clone()).collect();
                }
            }
            Record::Op { def, .. } => match self.effects.get((*def as usize).wrapping_sub(1)) {
                Some(Effect::Permit) => Counters::add(&self.counters.permitted, 1),
                Some(Effect::Deny | Effect::Terminate) => Counters::add(&self.counters.refused, 1),
                Some(Effect::Hold) | None => {}
            },
            Record::Confirmed { .. } => Counters::add(&self.counters.permitted, 1),
            Record::Refused { .. } => Counters::add(&self.counters.refused, 1),
            Record::Done { done, .. } => Counters::add(&self.counters.rows, done.rows),
            Record::View { .. } | Record::Hold { .. } | Record::Tape { .. } | Record::End { .. } => {}
        }
    }
}

impl Journal for FileJournal {
    fn append(&mut self, no: RecordNo, record: &Record<'_>, durability: Durability) -> Appended {
        if self.failed.is_some() {
            return Appended::Failed;
        }
        if let Err(error) = self.try_append(record) {
            self.fail(error.to_string());
            return Appended::Failed;
        }
        self.count(record);
        let waits = !matches!(record, Record::Done { .. }) && durability.max(self.floor) == Durability::Synced;
        if !waits {
            return Appended::Acknowledged;
        }
        let job = SyncJob { file: Arc::clone(&self.file), up_to: no, mailbox: self.mailbox.clone() };
        if self.syncer.send(job).is_err() {
            self.fail("the sync thread is gone".into());
            return Appended::Failed;
        }
        Appended::Pending
    }
}
