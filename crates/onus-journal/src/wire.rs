//! The bytes of headers and records, written and read. The layout stands in the crate's
//! documentation.
//!
//! Reading here is structure only: whether something is complete and well-formed. Whether it is
//! true is [`verify`](crate::verify)'s part.

use sha2::{Digest as _, Sha256};

use crate::head::Head;

/// The longest payload of one record, in bytes (16 MiB).
pub const MAX_PAYLOAD_BYTES: usize = 1 << 24;

/// The longest session id, in bytes.
pub const MAX_SESSION_ID_BYTES: usize = 255;

/// How many bytes a record has beyond its payload.
pub const RECORD_OVERHEAD_BYTES: usize = FRAME + TAG + CHECK;

pub(crate) const MAGIC: &[u8; 7] = b"ONUSJ1\n";
pub(crate) const VERSION: u8 = 1;
pub(crate) const FRAME: usize = 24;
pub(crate) const TAG: usize = 16;
pub(crate) const CHECK: usize = 8;
const FIXED_HEADER: usize = 70;

/// A segment's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub segment: u32,
    pub first_seq: u64,
    pub created_ms: u64,
    pub previous: Head,
    pub key_check: [u8; 8],
}

impl Header {
    /// Appends the header without its check. The id has at most [`MAX_SESSION_ID_BYTES`] bytes.
    pub fn write(&self, session_id: &str, id_length: u8, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[VERSION, id_length, !id_length]);
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.first_seq.to_le_bytes());
        out.extend_from_slice(&self.created_ms.to_le_bytes());
        out.extend_from_slice(&self.previous.0);
        out.extend_from_slice(&self.key_check);
        out.extend_from_slice(session_id.as_bytes());
    }
}

/// What stands at a place.
pub(crate) enum Read<T> {
    /// It is complete.
    Whole(T),
    /// The bytes end, or were never filled, before it is complete.
    Torn,
    /// It cannot be what it should be.
    Damaged,
}

/// A header with the bytes that the chain goes over.
pub(crate) struct RawHeader<'a> {
    pub header: Header,
    pub session_id: &'a [u8],
    pub hashed: &'a [u8],
    pub check: [u8; CHECK],
}

pub(crate) fn read_header(bytes: &[u8]) -> Read<RawHeader<'_>> {
    let mut at = Cursor(bytes);
    // A prefix of a header is torn, anything else in its place is damage.
    let start = [&MAGIC[..], &[VERSION]].concat();
    let common = bytes.len().min(start.len());
    if bytes[..common] != start[..common] {
        return unfilled(bytes);
    }
    let mut parse = || {
        at.take(start.len())?;
        let [length] = at.array::<1>()?;
        let [complement] = at.array::<1>()?;
        if length != !complement || length == 0 {
            return Some(Err(()));
        }
        let header = Header {
            segment: u32::from_le_bytes(at.array()?),
            first_seq: u64::from_le_bytes(at.array()?),
            created_ms: u64::from_le_bytes(at.array()?),
            previous: Head(at.array()?),
            key_check: at.array()?,
        };
        let session_id = at.take(usize::from(length))?;
        let check = at.array()?;
        Some(Ok(RawHeader { header, session_id, hashed: &bytes[..FIXED_HEADER + session_id.len()], check }))
    };
    match parse() {
        Some(Ok(header)) => Read::Whole(header),
        Some(Err(())) => unfilled(bytes),
        None => Read::Torn,
    }
}

/// A record with the bytes that the chain goes over.
#[derive(Clone, Copy)]
pub(crate) struct RawRecord<'a> {
    pub seq: u64,
    pub at_ms: u64,
    pub sealed: &'a [u8],
    pub hashed: &'a [u8],
    pub check: [u8; CHECK],
}

impl RawRecord<'_> {
    pub fn len(&self) -> usize {
        self.hashed.len() + CHECK
    }
}

pub(crate) fn read_record(bytes: &[u8]) -> Read<RawRecord<'_>> {
    let mut at = Cursor(bytes);
    let mut parse = || {
        let length = u32::from_le_bytes(at.array()?);
        let complement = u32::from_le_bytes(at.array()?);
        let sealed_length = length as usize;
        if length != !complement || !(TAG..=MAX_PAYLOAD_BYTES + TAG).contains(&sealed_length) {
            return Some(Err(()));
        }
        let (seq, at_ms) = (u64::from_le_bytes(at.array()?), u64::from_le_bytes(at.array()?));
        let sealed = at.take(sealed_length)?;
        let check = at.array()?;
        Some(Ok(RawRecord { seq, at_ms, sealed, hashed: &bytes[..FRAME + sealed_length], check }))
    };
    match parse() {
        Some(Ok(record)) => Read::Whole(record),
        Some(Err(())) => unfilled(bytes),
        None => Read::Torn,
    }
}

/// After a crash a file may have grown without its bytes having arrived: zeros to the end.
fn unfilled<T>(bytes: &[u8]) -> Read<T> {
    if bytes.iter().all(|byte| *byte == 0) { Read::Torn } else { Read::Damaged }
}

/// What every record of a segment is bound to, besides its own numbers and the head before it.
///
/// `SHA256(session id) || segment || seq || at || previous head`, the numbers big endian.
pub(crate) struct Associated([u8; 84]);

impl Associated {
    pub fn new(session_id: &str, segment: u32) -> Self {
        let mut bytes = [0; 84];
        bytes[..32].copy_from_slice(&Sha256::digest(session_id));
        bytes[32..36].copy_from_slice(&segment.to_be_bytes());
        Self(bytes)
    }

    pub fn bind(&mut self, seq: u64, at_ms: u64, previous: &Head) -> &[u8] {
        self.0[36..44].copy_from_slice(&seq.to_be_bytes());
        self.0[44..52].copy_from_slice(&at_ms.to_be_bytes());
        self.0[52..].copy_from_slice(&previous.0);
        &self.0
    }
}

/// `segment (big endian) || seq (big endian)`; the crate's documentation says why none repeats.
pub(crate) fn nonce(segment: u32, seq: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&segment.to_be_bytes());
    nonce[4..].copy_from_slice(&seq.to_be_bytes());
    nonce
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }
}
