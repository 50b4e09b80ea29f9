//! Reading and verifying a journal: the chain for anyone, the records for who has the key.
//!
//! Within a segment the chain ends where it first breaks, since what follows is bound to a head
//! that is lost; it begins again at the next segment, whose header carries the head before it.
//! Deliberately not here: repair. A journal with findings other than a torn tail is evidence.

use std::fmt;

use aes_gcm::AeadInOut as _;

use crate::head::{Anchor, Head};
use crate::key::{SegmentKey, SessionKey};
use crate::wire::{Associated, RawHeader, RawRecord, Read, TAG, nonce, read_header, read_record};

/// One opened record.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number, from 1 over the whole session.
    pub seq: u64,
    /// When it was written, in milliseconds of Unix time.
    pub at_ms: u64,
    /// What was recorded.
    pub payload: Vec<u8>,
    /// The head after it.
    pub head: Head,
}

impl fmt::Debug for Record {
    /// Without the payload: what people did in a session does not belong in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("seq", &self.seq)
            .field("at_ms", &self.at_ms)
            .field("payload_bytes", &self.payload.len())
            .field("head", &self.head)
            .finish()
    }
}

/// One thing that is not as it was written. `Display` is a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The segment ends within a record or its header, as after a crash. The only finding that is
    /// not a sign of tampering.
    Torn {
        /// The segment.
        segment: u32,
        /// Where the incomplete part begins, in bytes.
        offset: u64,
    },
    /// The segment's header was changed.
    HeaderChanged {
        /// The segment.
        segment: u32,
    },
    /// The segment is of another session.
    WrongSession {
        /// The segment.
        segment: u32,
    },
    /// Segments are missing.
    MissingSegments {
        /// The first one.
        from: u32,
        /// The last one.
        to: u32,
    },
    /// A segment comes a second time or too late. It is not read.
    SegmentOutOfOrder {
        /// The segment.
        segment: u32,
    },
    /// The segment does not continue what was before it.
    BrokenLink {
        /// The segment.
        segment: u32,
    },
    /// The record was changed.
    Changed {
        /// The segment.
        segment: u32,
        /// The record.
        seq: u64,
    },
    /// Records are missing.
    Removed {
        /// The first one.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// Two records changed places.
    Swapped {
        /// The one that belongs first.
        first: u64,
        /// The other one.
        second: u64,
    },
    /// The record stands in another place.
    Moved {
        /// The record.
        seq: u64,
    },
    /// A record comes a second time.
    Duplicated {
        /// The record.
        seq: u64,
    },
    /// These records stand behind a break and can't be verified.
    Unproven {
        /// The segment.
        segment: u32,
        /// Where the first one begins, in bytes.
        offset: u64,
        /// How many bytes there are.
        bytes: u64,
    },
    /// The key is not the one with which the segment was sealed.
    WrongKey {
        /// The segment.
        segment: u32,
    },
    /// The chain holds, but the record was not sealed by who had the key: someone without it made
    /// up the chain from here on. Nothing further is opened in this segment.
    Forged {
        /// The segment.
        segment: u32,
        /// The record.
        seq: u64,
    },
    /// The head after this record is not the anchored one: the journal was written anew.
    AnchorMismatch {
        /// The record.
        seq: u64,
    },
    /// The journal ends before a record that was anchored.
    Cut {
        /// The anchored record.
        anchored: u64,
        /// The last record there is.
        last: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn { segment, offset } => {
                write!(f, "segment {segment} ends within a record at byte {offset}, as after a crash")
            }
            Self::HeaderChanged { segment } => {
                write!(f, "the header of segment {segment} was changed")
            }
            Self::WrongSession { segment } => {
                write!(f, "segment {segment} is of another session")
            }
            Self::MissingSegments { from, to } if from == to => {
                write!(f, "segment {from} is missing")
            }
            Self::MissingSegments { from, to } => {
                write!(f, "segments {from} to {to} are missing")
            }
            Self::SegmentOutOfOrder { segment } => {
                write!(f, "segment {segment} is doubled or out of order")
            }
            Self::BrokenLink { segment } => {
                write!(f, "segment {segment} does not continue what is before it")
            }
            Self::Changed { segment, seq } => {
                write!(f, "record {seq} in segment {segment} was changed")
            }
            Self::Removed { from, to } if from == to => write!(f, "record {from} was removed"),
            Self::Removed { from, to } => write!(f, "records {from} to {to} were removed"),
            Self::Swapped { first, second } => {
                write!(f, "records {first} and {second} were swapped")
            }
            Self::Moved { seq } => write!(f, "record {seq} was moved"),
            Self::Duplicated { seq } => write!(f, "record {seq} was doubled"),
            Self::Unproven { segment, offset, bytes } => write!(
                f,
                "{bytes} bytes of segment {segment} from byte {offset} stand behind a break and \
                 can't be verified"
            ),
            Self::WrongKey { segment } => {
                write!(f, "the key is not the one of segment {segment}")
            }
            Self::Forged { segment, seq } => {
                write!(f, "record {seq} in segment {segment} was not sealed with the session's key")
            }
            Self::AnchorMismatch { seq } => {
                write!(f, "the head after record {seq} is not the anchored one: the journal was rewritten")
            }
            Self::Cut { anchored, last } => {
                write!(f, "record {anchored} is anchored, but the journal ends after record {last}")
            }
        }
    }
}

/// Where a session's journal goes on after a crash. Only verification gives one out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub(crate) segment: Option<u32>,
    pub(crate) next_seq: u64,
    pub(crate) head: Head,
}

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The head after the last verified record or header.
    pub head: Head,
    /// The number of the last verified record, 0 if there is none.
    pub last_seq: u64,
    /// How many records the chain holds for.
    pub records: u64,
    /// How many of them were opened; 0 when no key was given.
    pub opened: u64,
    /// What is wrong, in the order of the journal.
    pub findings: Vec<Finding>,
    /// The number after the last segment.
    next_segment: Option<u32>,
}

impl Verification {
    /// Whether nothing was tampered with. A torn tail is accepted, and listed all the same.
    #[must_use]
    pub fn ok(&self) -> bool {
        let torn = |finding: &Finding| matches!(finding, Finding::Torn { .. });
        self.findings.iter().all(torn)
    }

    /// Where to go on after a crash, or `None` if the journal was tampered with: such a session
    /// ends.
    ///
    /// All segment files there are must have been given, torn and empty ones included.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.ok().then(|| Position { segment: self.next_segment, next_seq: self.last_seq + 1, head: self.head })
    }
}

/// Verifies the chain of a session's segments, in order, without a key.
///
/// `anchors` are heads kept elsewhere; without one that is recent, a journal cut at the end of a
/// record, or made up anew, is not noticed.
pub fn verify<S: AsRef<[u8]>>(
    session_id: &str,
    segments: impl IntoIterator<Item = S>,
    anchors: &[Anchor],
) -> Verification {
    walk(session_id, segments, None, anchors, &mut |_| ())
}

/// Verifies and opens all records. Only those are returned that the chain and the seal vouch for.
pub fn open<S: AsRef<[u8]>>(
    session_id: &str,
    segments: impl IntoIterator<Item = S>,
    key: &SessionKey,
    anchors: &[Anchor],
) -> (Vec<Record>, Verification) {
    let mut records = Vec::new();
    let found = open_each(session_id, segments, key, anchors, |record| {
        records.push(record);
    });
    (records, found)
}

/// Verifies and opens, handing out one record after the other: for journals larger than memory.
///
/// Findings, and so whether the journal was cut or rewritten as a whole, are known at the end only.
pub fn open_each<S: AsRef<[u8]>>(
    session_id: &str,
    segments: impl IntoIterator<Item = S>,
    key: &SessionKey,
    anchors: &[Anchor],
    mut each: impl FnMut(Record),
) -> Verification {
    walk(session_id, segments, Some(key), anchors, &mut each)
}

fn walk<S: AsRef<[u8]>>(
    session_id: &str,
    segments: impl IntoIterator<Item = S>,
    key: Option<&SessionKey>,
    anchors: &[Anchor],
    each: &mut dyn FnMut(Record),
) -> Verification {
    let mut walk = Walk {
        session_id,
        head: Head::genesis(session_id),
        next_seq: 1,
        next_segment: Some(0),
        lost: false,
        records: 0,
        opened: 0,
        findings: Vec::new(),
        unmet: anchors.to_vec(),
    };
    walk.meet_anchors();
    for bytes in segments {
        walk.segment(bytes.as_ref(), key, each);
    }
    walk.finish()
}

struct Walk<'a> {
    session_id: &'a str,
    head: Head,
    next_seq: u64,
    /// `None` after the last number there is.
    next_segment: Option<u32>,
    /// The chain broke and `head` is not the head before the next segment.
    lost: bool,
    records: u64,
    opened: u64,
    findings: Vec<Finding>,
    unmet: Vec<Anchor>,
}

impl Walk<'_> {
    fn segment(&mut self, bytes: &[u8], key: Option<&SessionKey>, each: &mut dyn FnMut(Record)) {
        // A header that can't be read leaves only its place to name it by.
        let here = self.next_segment.unwrap_or(u32::MAX);
        let raw = match read_header(bytes) {
            Read::Whole(raw) => raw,
            Read::Torn => {
                self.next_segment = here.checked_add(1);
                self.findings.push(Finding::Torn { segment: here, offset: 0 });
                return;
            }
            Read::Damaged => return self.unusable(here, Finding::HeaderChanged { segment: here }),
        };
        let after = raw.header.previous.after_header(raw.hashed);
        if after.check() != raw.check {
            return self.unusable(here, Finding::HeaderChanged { segment: here });
        }
        if raw.session_id != self.session_id.as_bytes() {
            return self.unusable(here, Finding::WrongSession { segment: here });
        }
        let segment = raw.header.segment;
        if self.next_segment.is_none_or(|next| segment < next) {
            self.findings.push(Finding::SegmentOutOfOrder { segment });
            return;
        }
        self.link(&raw, here);
        self.next_segment = segment.checked_add(1);
        self.lost = false;
        self.next_seq = raw.header.first_seq;
        self.head = raw.header.previous;
        self.meet_anchors();
        self.head = after;
        self.meet_anchors();

        let key = key.map(|key| key.segment(segment, raw.header.created_ms, &raw.header.previous));
        let mut opener = key.and_then(|key| {
            if key.check != raw.header.key_check {
                self.findings.push(Finding::WrongKey { segment });
                return None;
            }
            Some(Opener { key, segment, associated: Associated::new(self.session_id, segment) })
        });
        let mut offset = raw.hashed.len() + raw.check.len();
        while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
            match read_record(rest) {
                Read::Whole(record) => {
                    let after = self.head.after_record(record.hashed);
                    if after.check() != record.check || record.seq != self.next_seq {
                        return self.broken(segment, bytes, offset, record);
                    }
                    self.accept(&mut opener, record, after, each);
                    offset += record.len();
                }
                Read::Torn => {
                    self.findings.push(Finding::Torn { segment, offset: offset as u64 });
                    return;
                }
                Read::Damaged => {
                    let seq = self.next_seq;
                    self.findings.push(Finding::Changed { segment, seq });
                    self.unproven(segment, bytes, offset);
                    return;
                }
            }
        }
    }

    /// Whether the segment continues what is before it.
    fn link(&mut self, raw: &RawHeader<'_>, here: u32) {
        let (segment, first_seq) = (raw.header.segment, raw.header.first_seq);
        if segment > here {
            self.findings.push(Finding::MissingSegments { from: here, to: segment - 1 });
            self.lost = true;
        }
        if first_seq < self.next_seq || (!self.lost && first_seq == self.next_seq) {
            if first_seq != self.next_seq || raw.header.previous != self.head {
                self.findings.push(Finding::BrokenLink { segment });
            }
        } else if !self.lost {
            self.findings.push(Finding::Removed { from: self.next_seq, to: first_seq - 1 });
        }
    }

    fn accept(
        &mut self,
        opener: &mut Option<Opener>,
        record: RawRecord<'_>,
        after: Head,
        each: &mut dyn FnMut(Record),
    ) {
        if let Some(open) = opener {
            if let Some(payload) = open.open(&record, &self.head) {
                self.opened += 1;
                each(Record { seq: record.seq, at_ms: record.at_ms, payload, head: after });
            } else {
                self.findings.push(Finding::Forged { segment: open.segment, seq: record.seq });
                *opener = None;
            }
        }
        self.head = after;
        self.records += 1;
        // A forged header can begin at the last number there is.
        self.next_seq = record.seq.saturating_add(1);
        self.meet_anchors();
    }

    /// Says what was done to the record at which the chain breaks.
    fn broken(&mut self, segment: u32, bytes: &[u8], offset: usize, record: RawRecord<'_>) {
        let (expected, seq) = (self.next_seq, record.seq);
        let mut later = Vec::new();
        let mut at = offset + record.len();
        while let Read::Whole(next) = read_record(bytes.get(at..).unwrap_or_default()) {
            later.push(next.seq);
            at += next.len();
        }
        let place = later.iter().position(|other| *other == expected);
        self.findings.push(if seq == expected || self.renumbered(&record) {
            Finding::Changed { segment, seq: expected }
        } else if seq < expected {
            Finding::Duplicated { seq }
        } else {
            match place {
                Some(place) if place as u64 + 1 == seq - expected => Finding::Swapped { first: expected, second: seq },
                Some(0) => Finding::Moved { seq },
                Some(_) => Finding::Moved { seq: expected },
                None => Finding::Removed { from: expected, to: seq - 1 },
            }
        });
        self.unproven(segment, bytes, offset);
    }

    /// Whether this is the expected record with another number written into it.
    fn renumbered(&self, record: &RawRecord<'_>) -> bool {
        let mut bytes = record.hashed.to_vec();
        bytes[8..16].copy_from_slice(&self.next_seq.to_le_bytes());
        self.head.after_record(&bytes).check() == record.check
    }

    fn unproven(&mut self, segment: u32, bytes: &[u8], offset: usize) {
        self.lost = true;
        self.findings.push(Finding::Unproven { segment, offset: offset as u64, bytes: (bytes.len() - offset) as u64 });
    }

    fn unusable(&mut self, here: u32, finding: Finding) {
        self.findings.push(finding);
        self.next_segment = here.checked_add(1);
        self.lost = true;
    }

    fn meet_anchors(&mut self) {
        if self.unmet.is_empty() {
            return;
        }
        let (seq, head) = (self.next_seq.saturating_sub(1), self.head);
        self.unmet.retain(|anchor| anchor.seq != seq || anchor.head != head);
    }

    fn finish(mut self) -> Verification {
        let last = self.next_seq.saturating_sub(1);
        for anchor in &self.unmet {
            self.findings.push(if anchor.seq > last {
                Finding::Cut { anchored: anchor.seq, last }
            } else {
                Finding::AnchorMismatch { seq: anchor.seq }
            });
        }
        Verification {
            head: self.head,
            last_seq: last,
            records: self.records,
            opened: self.opened,
            findings: self.findings,
            next_segment: self.next_segment,
        }
    }
}

/// Opens the records of one segment.
struct Opener {
    key: SegmentKey,
    segment: u32,
    associated: Associated,
}

impl Opener {
    fn open(&mut self, record: &RawRecord<'_>, previous: &Head) -> Option<Vec<u8>> {
        let (ciphertext, tag) = record.sealed.split_last_chunk::<TAG>()?;
        let mut payload = ciphertext.to_vec();
        let opened = self.key.cipher.decrypt_inout_detached(
            &nonce(self.segment, record.seq).into(),
            self.associated.bind(record.seq, record.at_ms, previous),
            (&mut payload[..]).into(),
            &(*tag).into(),
        );
        opened.ok().map(|()| payload)
    }
}
