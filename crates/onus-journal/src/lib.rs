//! The pure session journal: hash chain, sealed segments and verifier. Knows no domain.
//!
//! A journal is the complete record of one session: numbered records, each sealed with AES-256-GCM
//! and chained to everything before it by SHA-256. It is kept as consecutive segments. The chain
//! can be verified by anyone; opening the records needs the session's key.
//!
//! # What stands against what
//!
//! - *A flipped, moved, missing or doubled byte or record* breaks the chain; [`verify()`] says where.
//! - *A chain made up anew* by someone without the key: records no longer open.
//! - *A chain made up anew by someone with the key*, or *a journal cut at a record's end*: only an
//!   [`Anchor`] kept elsewhere (the ledger) tells. Anchor often.
//! - *A crash* leaves a torn tail: an incomplete last record. That is reported and accepted, for
//!   nothing that was acknowledged is in it.
//!
//! # The bytes
//!
//! All numbers are little endian. A segment is a header and then records:
//!
//! ```text
//! header   magic          7   "ONUSJ1\n"
//!          version        1   1
//!          id length      1   1..=255, and
//!          ~id length     1   its complement, so that a damaged length does not look torn
//!          segment        4   number of the segment, from 0
//!          first seq      8   number of the next record
//!          created        8   Unix time in milliseconds
//!          previous head 32   the head before this segment
//!          key check      8   tells a wrong key from a forged record; HMAC, gives nothing away
//!          session id     n   UTF-8
//!          check          8   the beginning of head' = SHA256(0x01 || head || header so far)
//!
//! record   length         4   of the sealed part, at least 16, and
//!          ~length        4   its complement
//!          seq            8   from 1, over the whole session without gaps
//!          at             8   Unix time in milliseconds
//!          sealed         n   ciphertext || 16-byte tag
//!          check          8   the beginning of head' = SHA256(0x02 || head || record so far)
//! ```
//!
//! The first head is `SHA256("onus/journal/v1\0" || session id)`. The checks are not secret and
//! stop no attacker; they find damage exactly where it is, and tell it from a torn tail.
//!
//! # Why no nonce repeats
//!
//! A nonce is `segment (4, big endian) || seq (8, big endian)` under a key for the segment alone,
//! derived from the session's key, the segment's number, its time of creation and the head before
//! it. Within a segment `seq` only grows, and a [`Writer`] can neither be cloned nor set back.
//! After a crash nobody appends to an old segment: [`Writer::resume`] takes a [`Position`], which
//! only verification gives out and which names a segment number that no file has. So the record
//! that was being written when the power failed and the record that then gets its `seq` stand in
//! different segments. Should a whole segment file have vanished and its number be given again, the
//! time of creation still makes another key.
//!
//! Deliberately not here: files, clocks, randomness, and the meaning of a payload.

#![warn(clippy::all)]

pub mod head;
pub mod key;
mod wire;
pub mod writer;

pub mod verify;

mod hmac;

pub use head::{Anchor, Head};
pub use key::SessionKey;
pub use verify::{Finding, Position, Record, Verification, open, open_each, verify};
pub use wire::{MAX_PAYLOAD_BYTES, MAX_SESSION_ID_BYTES, RECORD_OVERHEAD_BYTES};
pub use writer::{AppendError, StartError, Writer};
