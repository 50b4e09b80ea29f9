//! What the API needs of journal and tile formats, for [`onus_api::Archive`].

use crate::{search, tape};
use onus_api::{Archive, Hit, Opened, Tail, TileAnswer};
use onus_core::ids::SessionId;
use onus_gateway::Gateway;
use onus_gateway::control::Shared;
use onus_journal::{Anchor, Finding, Head};
use onus_ledger::tile::{Tile, TileKind};
use std::io;

/// The formats as this binary knows them.
pub struct Formats;

impl Archive for Formats {
    fn open(&self, gateway: &Gateway, session: &SessionId, anchors: &[(u64, String)]) -> io::Result<Opened> {
        let segments: Vec<Vec<u8>> =
            gateway.journal_segments(session)?.iter().map(std::fs::read).collect::<io::Result<_>>()?;
        Ok(open(session, &segments, &gateway.journal_key(session), anchors))
    }

    fn tail(&self, gateway: &Gateway, session: &SessionId, after: u64, most: usize) -> io::Result<Tail> {
        let segments: Vec<Vec<u8>> =
            gateway.journal_segments(session)?.iter().map(std::fs::read).collect::<io::Result<_>>()?;
        Ok(tail(session, &segments, &gateway.journal_key(session), after, most))
    }

    fn size(&self, gateway: &Gateway, session: &SessionId) -> io::Result<u64> {
        gateway.journal_segments(session)?.iter().map(|path| Ok(std::fs::metadata(path)?.len())).sum()
    }

    fn search(&self, records: &[serde_json::Value], text: &str, most: usize) -> Vec<Hit> {
        search::search(records, text, most)
    }

    fn tile(&self, shared: &Shared, size: u64, path: &str) -> Option<TileAnswer> {
        let tile = Tile::parse(path).ok()?;
        match tile.kind() {
            TileKind::Entries => {
                let items = tile.items();
                (items.end <= size).then(|| TileAnswer::Entries { from: items.start, count: usize::from(tile.width()) })
            }
            TileKind::Hashes { level } => {
                // Only what the published checkpoint covers: the tree may be a step ahead of it.
                let covered = size.checked_shr(u32::from(level) * 8).unwrap_or(0);
                if tile.items().end > covered {
                    return None;
                }
                shared.tree().tile(&tile).map(TileAnswer::Hashes)
            }
        }
    }
}

/// The records after one. What can't be read is left out here: `open` tells what is wrong with a journal.
fn tail(session: &SessionId, segments: &[Vec<u8>], key: &onus_journal::SessionKey, after: u64, most: usize) -> Tail {
    let mut found = Tail { records: Vec::new(), last: after };
    let mut bytes = 0;
    onus_journal::open_each(session.as_str(), segments, key, &[], |record| {
        if record.seq <= found.last || bytes >= most {
            return;
        }
        bytes += record.payload.len();
        found.last = record.seq;
        found.records.extend(tape::record(&record.payload));
    });
    found
}

/// Verifies and opens a journal. Anchors whose head is no head at all count as findings, not as absent.
pub fn open(
    session: &SessionId,
    segments: &[Vec<u8>],
    key: &onus_journal::SessionKey,
    anchors: &[(u64, String)],
) -> Opened {
    let mut findings = Vec::new();
    let mut known = Vec::new();
    for (seq, head) in anchors {
        match Head::from_hex(head) {
            Some(head) => known.push(Anchor { seq: *seq, head }),
            // A session that ended before its first record is anchored with nothing.
            None if *seq == 0 => {}
            None => findings.push(format!("the ledger's anchor at record {seq} is not a head")),
        }
    }
    let (records, found) = onus_journal::open(session.as_str(), segments, key, &known);
    let mut opened = Opened { last: found.last_seq, head: found.head.to_hex(), ..Opened::default() };
    for finding in &found.findings {
        match finding {
            Finding::Torn { .. } => opened.torn = true,
            other => findings.push(other.to_string()),
        }
    }
    for record in records {
        match tape::record(&record.payload) {
            Ok(value) => opened.records.push(value),
            Err(wrong) => findings.push(format!("record {} {wrong}", record.seq)),
        }
    }
    opened.findings = findings;
    opened
}

#[cfg(test)]
mod tests {
    use super::*;
    use onus_journal::{SessionKey, Writer};

    fn journal(master: &[u8; 32], payloads: &[&str]) -> (Vec<u8>, Anchor) {
        let mut bytes = Vec::new();
        let mut writer = Writer::start(SessionKey::derive(master, "S-1"), "S-1", 1, &mut bytes).unwrap();
        for payload in payloads {
            writer.append(2, payload.as_bytes(), &mut bytes).unwrap();
        }
        (bytes, writer.anchor())
    }

    #[test]
    fn a_tail_begins_after_the_record_that_is_known_and_ends_before_it_is_too_long() {
        let session: SessionId = "S-1".parse().unwrap();
        let (mut bytes, _) =
            journal(&[7; 32], &[r#"{"k":"op","op":1}"#, "{\"k\":\"tape\",\"n\":2}\n\u{1}\n", r#"{"k":"end"}"#]);
        let key = SessionKey::derive(&[7; 32], "S-1");
        let of = |bytes: &[u8], after, most| {
            let found = tail(&session, &[bytes.to_vec()], &key, after, most);
            (
                found.records.iter().map(|r| r["k"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" "),
                found.last,
            )
        };
        assert_eq!(of(&bytes, 0, 1000), ("op tape end".to_owned(), 3));
        assert_eq!(of(&bytes, 1, 1), ("tape".to_owned(), 2));
        assert_eq!(of(&bytes, 3, 1000), (String::new(), 3));
        // As it is while the next record is being written.
        bytes.truncate(bytes.len() - 1);
        assert_eq!(of(&bytes, 1, 1000), ("tape".to_owned(), 2));
    }

    #[test]
    fn a_rewritten_journal_does_not_fit_its_anchor() {
        let key = SessionKey::derive(&[7; 32], "S-1");
        let session: SessionId = "S-1".parse().unwrap();
        let (bytes, anchor) = journal(&[7; 32], &[r#"{"k":"op","op":1}"#, r#"{"k":"end"}"#]);
        let anchors = [(anchor.seq, anchor.head.to_hex())];
        let good = open(&session, &[bytes], &key, &anchors);
        assert_eq!((good.findings.len(), good.records.len(), good.last), (0, 2, 2));
        let (other, _) = journal(&[7; 32], &[r#"{"k":"op","op":9}"#, r#"{"k":"end"}"#]);
        assert!(!open(&session, &[other], &key, &anchors).findings.is_empty(), "by somebody who had the key");
        let (short, _) = journal(&[7; 32], &[r#"{"k":"op","op":1}"#]);
        assert!(!open(&session, &[short], &key, &anchors).findings.is_empty(), "cut at a record's end");
    }
}
