//! Writing, rotating, resuming, opening.

use onus_journal::{
    Anchor, AppendError, Finding, Head, MAX_PAYLOAD_BYTES, RECORD_OVERHEAD_BYTES, SessionKey, StartError, Writer, open,
    verify,
};
use proptest::prelude::*;

pub const SESSION: &str = "ses_01";

pub fn key() -> SessionKey {
    SessionKey::derive(&[9; 32], SESSION)
}

/// A journal with these payloads, one inner list a segment, and the last anchor.
pub fn journal(segments: &[Vec<Vec<u8>>]) -> (Vec<Vec<u8>>, Anchor) {
    let mut files = vec![Vec::new()];
    let mut writer = Writer::start(key(), SESSION, 1000, &mut files[0]).unwrap();
    for (number, payloads) in segments.iter().enumerate() {
        if number > 0 {
            files.push(Vec::new());
            writer = writer.rotate(1000 + number as u64, &mut files[number]).unwrap();
        }
        for payload in payloads {
            writer.append(2000, payload, &mut files[number]).unwrap();
        }
    }
    (files, writer.anchor())
}

/// `counts[i]` records in segment `i`, each with a payload of its own.
pub fn numbered(counts: &[usize]) -> (Vec<Vec<u8>>, Anchor) {
    let segment = |(segment, count): (usize, &usize)| {
        let payload = |record| format!("record {record} of segment {segment}").into_bytes();
        (0..*count).map(payload).collect()
    };
    journal(&counts.iter().enumerate().map(segment).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn what_was_written_comes_back(
        segments in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6), 1..5),
    ) {
        let (files, anchor) = journal(&segments);
        let (records, found) = open(SESSION, &files, &key(), &[anchor]);
        prop_assert_eq!(&found.findings, &vec![]);
        prop_assert_eq!((found.head, found.last_seq), (anchor.head, anchor.seq));
        let payloads: Vec<_> = segments.concat();
        prop_assert_eq!(records.len(), payloads.len());
        for ((record, payload), seq) in records.iter().zip(&payloads).zip(1..) {
            prop_assert_eq!((record.seq, record.at_ms), (seq, 2000));
            prop_assert_eq!(&record.payload, payload);
        }
        // Without the key: the same, except for the opening.
        let unopened = verify(SESSION, &files, &[anchor]);
        prop_assert_eq!(unopened.records, found.opened);
        prop_assert!(unopened.ok());
    }
}

#[test]
fn nothing_of_a_payload_is_readable() {
    let (files, _) = journal(&[vec![b"select secret from vault".to_vec()]]);
    assert!(!files[0].windows(6).any(|window| window == b"secret"));
}

#[test]
fn equal_payloads_are_sealed_differently() {
    let (files, _) = journal(&[vec![vec![0; 64], vec![0; 64]], vec![vec![0; 64]]]);
    let record = 64 + RECORD_OVERHEAD_BYTES;
    let header = files[1].len() - record;
    let sealed = |file: usize, number: usize| {
        let start = header + number * record + 24;
        &files[file][start..start + 64]
    };
    assert_ne!(sealed(0, 0), sealed(0, 1));
    assert_ne!(sealed(0, 0), sealed(1, 0));
}

#[test]
fn after_a_crash_the_journal_goes_on_in_a_new_segment() {
    let (mut files, _) = numbered(&[3, 3]);
    let cut = files[1].len() - 5;
    files[1].truncate(cut);
    let found = verify(SESSION, &files, &[]);
    assert!(found.ok());
    assert!(matches!(found.findings[..], [Finding::Torn { segment: 1, .. }]), "{found:?}");
    assert_eq!(found.last_seq, 5);

    let mut file = Vec::new();
    let position = found.position().unwrap();
    let mut writer = Writer::resume(key(), SESSION, position, 5000, &mut file).unwrap();
    assert_eq!((writer.segment_number(), writer.next_seq()), (2, 6));
    writer.append(5001, b"again", &mut file).unwrap();
    files.push(file);
    let (records, found) = open(SESSION, &files, &key(), &[writer.anchor()]);
    assert!(found.ok(), "{found:?}");
    assert_eq!(records.last().unwrap().payload, b"again");
    assert_eq!(records.len(), 6);
}

#[test]
fn a_crash_within_a_header_uses_up_the_segment_number() {
    let (mut files, _) = numbered(&[3, 0]);
    for length in 0..files[1].len() {
        let files = [&files[0][..], &files[1][..length]];
        let found = verify(SESSION, files, &[]);
        assert_eq!(found.findings, [Finding::Torn { segment: 1, offset: 0 }], "{length}");
        let mut out = Vec::new();
        let position = found.position().unwrap();
        let writer = Writer::resume(key(), SESSION, position, 5000, &mut out).unwrap();
        assert_eq!((writer.segment_number(), writer.next_seq()), (2, 4));
        let files = [files[0], files[1], &out];
        assert!(verify(SESSION, files, &[writer.anchor()]).ok());
    }
    files[1].clear();
    assert!(verify(SESSION, &files, &[]).ok());
}

#[test]
fn bytes_that_never_arrived_are_torn() {
    let (mut files, anchor) = numbered(&[2]);
    files[0].extend([0; 700]);
    let found = verify(SESSION, &files, &[anchor]);
    assert!(matches!(found.findings[..], [Finding::Torn { segment: 0, .. }]), "{found:?}");
    files[0].push(1);
    assert!(!verify(SESSION, &files, &[anchor]).ok());
}

#[test]
fn no_position_in_a_journal_that_was_tampered_with() {
    let (mut files, _) = numbered(&[3]);
    let at = files[0].len() - 20;
    files[0][at] ^= 1;
    assert_eq!(verify(SESSION, &files, &[]).position(), None);
}

#[test]
fn limits_are_refused_and_leave_everything_as_it_was() {
    let mut out = Vec::new();
    assert_eq!(Writer::start(key(), "", 0, &mut out).unwrap_err(), StartError::SessionId(0));
    assert_eq!(Writer::start(key(), &"x".repeat(256), 0, &mut out).unwrap_err(), StartError::SessionId(256));
    assert!(out.is_empty());

    let mut writer = Writer::start(key(), SESSION, 0, &mut out).unwrap();
    let (before, head) = (out.clone(), writer.head());
    let long = vec![0; MAX_PAYLOAD_BYTES + 1];
    assert_eq!(writer.append(0, &long, &mut out), Err(AppendError::PayloadTooLong(long.len())));
    assert_eq!((&out, writer.head()), (&before, head));
    writer.append(0, &long[1..], &mut out).unwrap();
    assert!(verify(SESSION, [&out], &[writer.anchor()]).findings.is_empty());
}

#[test]
fn an_empty_journal_has_the_first_head() {
    let found = verify(SESSION, [[0_u8; 0]; 0], &[]);
    assert_eq!(found.head, Head::genesis(SESSION));
    assert_eq!(Head::from_hex(&found.head.to_hex()), Some(found.head));
    let anchor = Anchor { seq: 0, head: Head::genesis(SESSION) };
    assert!(verify(SESSION, [[0_u8; 0]; 0], &[anchor]).ok());
}

#[test]
fn neither_keys_nor_payloads_show() {
    let mut out = Vec::new();
    let writer = Writer::start(SessionKey::from_bytes([0xab; 32]), SESSION, 0, &mut out).unwrap();
    let shown = format!("{writer:?}");
    assert!(!shown.contains("171, 171") && !shown.contains("abababab"), "{shown}");
    let (files, _) = journal(&[vec![b"secret".to_vec()]]);
    let (records, _) = open(SESSION, &files, &key(), &[]);
    let shown = format!("{records:?}");
    assert!(!shown.contains("secret") && !shown.contains("115, 101, 99"), "{shown}");
}
