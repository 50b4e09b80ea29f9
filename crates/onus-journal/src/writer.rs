//! Writing: sealing and chaining records into bytes that the caller makes durable.
//!
//! The caller owns the file. It writes what is appended to `out`, in order, and acknowledges a
//! record only when it is durable. On a failed write it must drop the writer and resume in a new
//! segment, as after a crash.

use std::fmt;

use aes_gcm::{AeadInOut as _, Aes256Gcm};

use crate::head::{Anchor, Head};
use crate::key::SessionKey;
use crate::verify::Position;
use crate::wire::{Associated, CHECK, FRAME, Header, MAX_PAYLOAD_BYTES, MAX_SESSION_ID_BYTES, TAG, nonce};

/// Why a segment cannot be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The session id is empty or too long.
    #[error("a session id has 1 to {MAX_SESSION_ID_BYTES} bytes, this has {0}")]
    SessionId(usize),
    /// There is no further segment number.
    #[error("the session has no segment numbers left")]
    SegmentsExhausted,
}

/// Why a record cannot be appended. Nothing was appended and the chain is as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The payload is longer than [`MAX_PAYLOAD_BYTES`].
    #[error("a record carries at most {MAX_PAYLOAD_BYTES} bytes, this has {0}")]
    PayloadTooLong(usize),
    /// There is no further record number.
    #[error("the session has no record numbers left")]
    RecordsExhausted,
    /// The cipher refused.
    #[error("the record could not be sealed")]
    Seal,
}

/// Appends to one session's journal. There is one at a time for a session, and it can't be cloned:
/// two would use the same nonces.
pub struct Writer {
    cipher: Aes256Gcm,
    key: SessionKey,
    session_id: String,
    associated: Associated,
    segment: u32,
    next_seq: u64,
    head: Head,
}

impl Writer {
    /// Starts a session's journal: appends the header of segment 0 to `out`.
    ///
    /// The key must never have been used to start this journal before.
    ///
    /// # Errors
    /// [`StartError::SessionId`].
    pub fn start(key: SessionKey, session_id: &str, created_ms: u64, out: &mut Vec<u8>) -> Result<Self, StartError> {
        let genesis = Head::genesis(session_id);
        Self::segment(key, session_id, 0, 1, genesis, created_ms, out)
    }

    /// Goes on after a crash, in a new segment: appends its header to `out`.
    ///
    /// `position` comes from verifying *all* segments there are, torn ones included; the old files
    /// are left as they are. The new file must not exist yet (create it exclusively).
    ///
    /// # Errors
    /// [`StartError`].
    pub fn resume(
        key: SessionKey,
        session_id: &str,
        position: Position,
        created_ms: u64,
        out: &mut Vec<u8>,
    ) -> Result<Self, StartError> {
        let segment = position.segment.ok_or(StartError::SegmentsExhausted)?;
        let (seq, head) = (position.next_seq, position.head);
        Self::segment(key, session_id, segment, seq, head, created_ms, out)
    }

    /// Ends the segment and starts the next one: appends its header to `out`, which is then the
    /// beginning of another file. The ended file must be durable first.
    ///
    /// # Errors
    /// [`StartError::SegmentsExhausted`]. The journal then cannot go on.
    pub fn rotate(self, created_ms: u64, out: &mut Vec<u8>) -> Result<Self, StartError> {
        let segment = self.segment.checked_add(1);
        let segment = segment.ok_or(StartError::SegmentsExhausted)?;
        let Self { key, session_id, next_seq, head, .. } = self;
        Self::segment(key, &session_id, segment, next_seq, head, created_ms, out)
    }

    fn segment(
        key: SessionKey,
        session_id: &str,
        segment: u32,
        next_seq: u64,
        previous: Head,
        created_ms: u64,
        out: &mut Vec<u8>,
    ) -> Result<Self, StartError> {
        let id_length = u8::try_from(session_id.len())
            .ok()
            .filter(|length| *length > 0)
            .ok_or(StartError::SessionId(session_id.len()))?;
        let segment_key = key.segment(segment, created_ms, &previous);
        let header = Header { segment, first_seq: next_seq, created_ms, previous, key_check: segment_key.check };
        let start = out.len();
        header.write(session_id, id_length, out);
        let head = previous.after_header(&out[start..]);
        out.extend_from_slice(&head.check());
        Ok(Self {
            cipher: segment_key.cipher,
            key,
            session_id: session_id.to_owned(),
            associated: Associated::new(session_id, segment),
            segment,
            next_seq,
            head,
        })
    }

    /// Seals a record and appends its bytes to `out`. `at_ms` is Unix time in milliseconds, taken
    /// as it is, also when it goes backwards: the order is that of `seq`.
    ///
    /// The returned head is worth anchoring once the bytes are durable.
    ///
    /// # Errors
    /// [`AppendError`]; `out` and the chain are then unchanged.
    pub fn append(&mut self, at_ms: u64, payload: &[u8], out: &mut Vec<u8>) -> Result<Head, AppendError> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(AppendError::PayloadTooLong(payload.len()));
        }
        let seq = self.next_seq;
        let next_seq = seq.checked_add(1).ok_or(AppendError::RecordsExhausted)?;
        let length = (payload.len() + TAG) as u32;

        let start = out.len();
        out.reserve(FRAME + payload.len() + TAG + CHECK);
        let mut frame = [0; FRAME];
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame[4..8].copy_from_slice(&(!length).to_le_bytes());
        frame[8..16].copy_from_slice(&seq.to_le_bytes());
        frame[16..].copy_from_slice(&at_ms.to_le_bytes());
        out.extend_from_slice(&frame);
        out.extend_from_slice(payload);
        let sealed = self.cipher.encrypt_inout_detached(
            &nonce(self.segment, seq).into(),
            self.associated.bind(seq, at_ms, &self.head),
            (&mut out[start + FRAME..]).into(),
        );
        let Ok(tag) = sealed else {
            // Never leave a payload in the clear where the caller would write it out.
            out.truncate(start);
            return Err(AppendError::Seal);
        };
        out.extend_from_slice(&tag);
        self.head = self.head.after_record(&out[start..]);
        self.next_seq = next_seq;
        out.extend_from_slice(&self.head.check());
        Ok(self.head)
    }

    /// The head after everything appended so far.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// The head with the number of the last record, for anchoring.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        Anchor { seq: self.next_seq - 1, head: self.head }
    }

    /// The number that the next record will have.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The number of the segment being written.
    #[must_use]
    pub fn segment_number(&self) -> u32 {
        self.segment
    }

    /// The session.
    #[must_use]
    pub fn session_id(&self) -> &str {
        &self.session_id
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("session_id", &self.session_id)
            .field("segment", &self.segment)
            .field("next_seq", &self.next_seq)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}
