//! Damage and tampering, with and without the key.

use onus_journal::{Anchor, Finding, Head, RECORD_OVERHEAD_BYTES, SessionKey, Writer, open, verify};
use proptest::prelude::*;

use crate::writing::{SESSION, journal, key, numbered};

/// Where the records of a file begin, and where the file ends.
fn bounds(file: &[u8], payload_bytes: &[usize]) -> Vec<usize> {
    let total: usize = payload_bytes.iter().map(|bytes| bytes + RECORD_OVERHEAD_BYTES).sum();
    let mut bounds = vec![file.len() - total];
    for bytes in payload_bytes {
        bounds.push(bounds[bounds.len() - 1] + bytes + RECORD_OVERHEAD_BYTES);
    }
    bounds
}

/// A file with six records of equal length, as header and records.
fn six() -> (Vec<u8>, Vec<Vec<u8>>, Anchor) {
    let (files, anchor) = numbered(&[6]);
    let bounds = bounds(&files[0], &[21; 6]);
    let records = bounds.windows(2).map(|at| files[0][at[0]..at[1]].to_vec());
    (files[0][..bounds[0]].to_vec(), records.collect(), anchor)
}

/// What is found first in a file made of these records of [`six`].
fn first_finding(order: &[usize]) -> Finding {
    let (header, records, _) = six();
    let mut file = header;
    for number in order {
        file.extend(&records[*number - 1]);
    }
    let (opened, found) = open(SESSION, [&file], &key(), &[]);
    assert!(!found.ok());
    // Whatever was opened is the true beginning.
    for (record, seq) in opened.iter().zip(1..) {
        assert_eq!(record.seq, seq);
    }
    found.findings[0].clone()
}

#[test]
fn records_out_of_place_are_named() {
    use Finding::*;
    assert_eq!(first_finding(&[1, 2, 4, 5, 6]), Removed { from: 3, to: 3 });
    assert_eq!(first_finding(&[4, 5, 6]), Removed { from: 1, to: 3 });
    assert_eq!(first_finding(&[1, 2, 3, 4, 6]), Removed { from: 5, to: 5 });
    assert_eq!(first_finding(&[1, 3, 2, 4, 5, 6]), Swapped { first: 2, second: 3 });
    assert_eq!(first_finding(&[1, 6, 3, 4, 5, 2]), Swapped { first: 2, second: 6 });
    assert_eq!(first_finding(&[1, 3, 4, 2, 5, 6]), Moved { seq: 2 });
    assert_eq!(first_finding(&[1, 5, 2, 3, 4, 6]), Moved { seq: 5 });
    assert_eq!(first_finding(&[1, 2, 2, 3, 4, 5, 6]), Duplicated { seq: 2 });
    assert_eq!(first_finding(&[1, 2, 3, 1, 4, 5, 6]), Duplicated { seq: 1 });
}

#[test]
fn every_flipped_bit_is_found() {
    let (files, anchor) = numbered(&[2, 2]);
    for number in 0..files.len() {
        for at in 0..files[number].len() {
            for bit in 0..8 {
                let mut files = files.clone();
                files[number][at] ^= 1 << bit;
                // With neither key nor anchor.
                let found = verify(SESSION, &files, &[]);
                assert!(!found.ok(), "file {number} byte {at} bit {bit}");
                assert!(!verify(SESSION, &files, &[anchor]).ok());
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_found_where_it_is() {
    let (files, _) = numbered(&[3, 3]);
    let bounds = bounds(&files[1], &[21; 3]);
    for at in 0..files[1].len() {
        let mut files = files.clone();
        files[1][at] ^= 0x10;
        let found = verify(SESSION, &files, &[]);
        let expected = match bounds.iter().filter(|bound| **bound <= at).count() as u64 {
            0 => Finding::HeaderChanged { segment: 1 },
            record => Finding::Changed { segment: 1, seq: 3 + record },
        };
        assert_eq!(found.findings[0], expected, "byte {at}");
    }
}

#[test]
fn a_break_ends_with_its_segment() {
    let (mut files, anchor) = numbered(&[3, 3, 3]);
    let at = files[1].len() - 2 * (21 + RECORD_OVERHEAD_BYTES) + 30;
    files[1][at] ^= 1;
    let (records, found) = open(SESSION, &files, &key(), &[anchor]);
    assert!(
        matches!(found.findings[..], [Finding::Changed { segment: 1, seq: 5 }, Finding::Unproven { segment: 1, .. }]),
        "{found:?}"
    );
    let seqs: Vec<u64> = records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 7, 8, 9]);
    assert_eq!(found.head, anchor.head);
}

#[test]
fn every_truncation_is_torn_or_cut() {
    let (files, anchor) = numbered(&[2, 3]);
    let (all, _) = open(SESSION, &files, &key(), &[]);
    for number in 0..files.len() {
        for length in 0..files[number].len() {
            let mut shorter = files.clone();
            shorter[number].truncate(length);
            let (records, found) = open(SESSION, &shorter, &key(), &[anchor]);
            assert!(!found.ok(), "an anchor tells: file {number} at {length}");
            for record in &records {
                assert_eq!(*record, all[record.seq as usize - 1]);
            }
            assert!(records.len() < all.len());
            let found = verify(SESSION, &shorter, &[]);
            if number == 0 {
                // The next segment tells, unless nothing but a torn tail is gone.
                assert!(!found.ok(), "file {number} at {length}");
            } else {
                assert!(found.ok());
                let bounds = bounds(&files[1], &[21; 3]);
                assert_eq!(found.findings.is_empty(), bounds.contains(&length), "{length}");
            }
        }
    }
}

#[test]
fn segments_missing_doubled_swapped_or_foreign() {
    let (files, anchor) = numbered(&[2, 2, 2, 2]);
    let found = |order: &[usize]| {
        let files = order.iter().map(|number| &files[*number]);
        verify(SESSION, files, &[anchor]).findings
    };
    assert_eq!(found(&[0, 1, 2, 3]), []);
    assert_eq!(found(&[0, 3]), [Finding::MissingSegments { from: 1, to: 2 }]);
    assert_eq!(found(&[1, 2, 3]), [Finding::MissingSegments { from: 0, to: 0 }]);
    assert_eq!(found(&[0, 1, 1, 2, 3]), [Finding::SegmentOutOfOrder { segment: 1 }]);
    assert_eq!(
        found(&[0, 2, 1, 3]),
        [Finding::MissingSegments { from: 1, to: 1 }, Finding::SegmentOutOfOrder { segment: 1 }]
    );
    assert_eq!(found(&[0, 1, 2]), [Finding::Cut { anchored: 8, last: 6 }]);
    assert_eq!(found(&[]), [Finding::Cut { anchored: 8, last: 0 }]);

    let mut other = Vec::new();
    Writer::start(key(), "ses_02", 0, &mut other).unwrap();
    let found = verify(SESSION, [&files[0], &other], &[]).findings;
    assert_eq!(found, [Finding::WrongSession { segment: 1 }]);
}

#[test]
fn a_middle_segment_emptied_is_not_a_crash() {
    let (mut files, _) = numbered(&[2, 2, 2]);
    files[1].clear();
    assert_eq!(
        verify(SESSION, &files, &[]).findings,
        [Finding::Torn { segment: 1, offset: 0 }, Finding::Removed { from: 3, to: 4 }]
    );
    // Nor is one without records, which changes nothing but the head.
    let (mut files, _) = numbered(&[2, 0, 2]);
    files[1].clear();
    assert_eq!(
        verify(SESSION, &files, &[]).findings,
        [Finding::Torn { segment: 1, offset: 0 }, Finding::BrokenLink { segment: 2 }]
    );
}

#[test]
fn another_key_opens_nothing_but_the_chain_holds() {
    let (files, anchor) = numbered(&[2, 2]);
    let other = SessionKey::derive(&[8; 32], SESSION);
    let (records, found) = open(SESSION, &files, &other, &[anchor]);
    assert_eq!(found.findings, [Finding::WrongKey { segment: 0 }, Finding::WrongKey { segment: 1 }]);
    assert!(records.is_empty());
    assert_eq!(found.records, 4);
}

/// Someone without the key changes a record and makes up every check after it.
fn rechained(mut file: Vec<u8>, records: &[usize], change: usize, at: usize) -> Vec<u8> {
    use sha2::{Digest as _, Sha256};
    let bounds = bounds(&file, records);
    file[bounds[change] + at] ^= 1;
    let chain = |kind: u8, head: [u8; 32], bytes: &[u8]| -> [u8; 32] {
        let hash = Sha256::new().chain_update([kind]).chain_update(head);
        hash.chain_update(bytes).finalize().into()
    };
    let mut head = chain(1, Head::genesis(SESSION).0, &file[..bounds[0] - 8]);
    for at in bounds.windows(2) {
        head = chain(2, head, &file[at[0]..at[1] - 8]);
        file[at[1] - 8..at[1]].copy_from_slice(&head[..8]);
    }
    file
}

#[test]
fn a_chain_made_up_without_the_key_is_found_by_key_and_by_anchor() {
    let (files, anchor) = numbered(&[4]);
    // Untouched, the forger's arithmetic gives the same file: the test forges what it means to.
    let mut same = rechained(files[0].clone(), &[21; 4], 1, 30);
    same = rechained(same, &[21; 4], 1, 30);
    assert_eq!(same, files[0]);

    // The ciphertext, and the time it was recorded at.
    for at in [30, 16] {
        let forged = rechained(files[0].clone(), &[21; 4], 1, at);
        assert!(verify(SESSION, [&forged], &[]).ok(), "the chain alone can't tell");
        assert_eq!(verify(SESSION, [&forged], &[anchor]).findings, [Finding::AnchorMismatch { seq: 4 }]);
        let (records, found) = open(SESSION, [&forged], &key(), &[]);
        assert_eq!(found.findings, [Finding::Forged { segment: 0, seq: 2 }]);
        assert_eq!(records.len(), 1);
    }
}

#[test]
fn a_journal_written_anew_with_the_key_is_found_by_anchor() {
    let (_, anchor) = journal(&[vec![b"drop table".to_vec(), b"commit".to_vec()]]);
    let (anew, _) = journal(&[vec![b"select 1".to_vec(), b"commit".to_vec()]]);
    assert!(open(SESSION, &anew, &key(), &[]).1.ok());
    assert_eq!(open(SESSION, &anew, &key(), &[anchor]).1.findings, [Finding::AnchorMismatch { seq: 2 }]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_open_nothing(
        files in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..4),
        with_header in any::<bool>(),
    ) {
        let mut files = files;
        if with_header && let Some(file) = files.first_mut() {
            let mut header = numbered(&[0]).0.remove(0);
            header.append(file);
            *file = header;
        }
        let (records, _) = open(SESSION, &files, &key(), &[]);
        prop_assert!(records.is_empty());
    }

    #[test]
    fn damage_anywhere_never_yields_a_false_record(
        counts in prop::collection::vec(0_usize..4, 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (mut files, anchor) = numbered(&counts);
        let (all, _) = open(SESSION, &files, &key(), &[]);
        let untouched = files.clone();
        for (file, at, byte) in damage {
            let number = file.index(files.len());
            let at = at.index(files[number].len());
            files[number][at] = byte;
        }
        let (records, found) = open(SESSION, &files, &key(), &[anchor]);
        prop_assert_eq!(found.ok(), files == untouched);
        for record in &records {
            prop_assert_eq!(record, &all[record.seq as usize - 1]);
        }
    }
}

/// A file with a well-chained header and records of whatever numbers, as only a forger makes.
fn forged(segment: u32, first_seq: u64, seqs: &[u64]) -> Vec<u8> {
    use sha2::{Digest as _, Sha256};
    let (header, records, _) = six();
    let mut file = header;
    file[10..14].copy_from_slice(&segment.to_le_bytes());
    file[14..22].copy_from_slice(&first_seq.to_le_bytes());
    let mut head = Head::genesis(SESSION).0;
    let mut chain = |kind: u8, bytes: &mut [u8]| {
        let (bytes, check) = bytes.split_at_mut(bytes.len() - 8);
        let hash = Sha256::new().chain_update([kind]).chain_update(head);
        head = hash.chain_update(bytes).finalize().into();
        check.copy_from_slice(&head[..8]);
    };
    chain(1, &mut file);
    for (seq, record) in seqs.iter().zip(records) {
        let mut record = record;
        record[8..16].copy_from_slice(&seq.to_le_bytes());
        chain(2, &mut record);
        file.extend(record);
    }
    file
}

#[test]
fn a_gap_in_a_chain_made_up_around_it_is_found() {
    let found = verify(SESSION, [forged(0, 1, &[1, 3, 4])], &[]);
    assert_eq!(found.findings[0], Finding::Removed { from: 2, to: 2 });
    let found = verify(SESSION, [forged(0, 1, &[1, 1, 2])], &[]);
    assert_eq!(found.findings[0], Finding::Duplicated { seq: 1 });
}

#[test]
fn forged_numbers_neither_pass_nor_panic() {
    assert_eq!(forged(0, 1, &[1, 2, 3, 4, 5, 6]), numbered(&[6]).0[0]);
    let extremes = [0, 1, 2, u64::MAX - 1, u64::MAX];
    for segment in [0, 1, u32::MAX] {
        for first_seq in extremes {
            for a in extremes {
                for b in extremes {
                    let file = forged(segment, first_seq, &[a, b]);
                    for files in [vec![&file], vec![&file, &file]] {
                        let anchor = Anchor { seq: u64::MAX, head: Head([0; 32]) };
                        let (_, found) = open(SESSION, files, &key(), &[anchor]);
                        assert!(!found.ok());
                        let last = &found.findings[found.findings.len() - 1];
                        assert!(matches!(last, Finding::Cut { .. } | Finding::AnchorMismatch { .. }), "{found:?}");
                    }
                }
            }
        }
    }
}
