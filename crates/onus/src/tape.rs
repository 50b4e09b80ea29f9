//! Tape: the pieces of a session's streams among its journal's records, read back.
//!
//! In the journal a piece is one JSON object, a line end, and bytes (see `onus-pep`'s `record`). Everybody behind this
//! file sees one JSON object a record: a piece's bytes are in it as `data`, in base64, still compressed where `z` says
//! so. What a stream showed was written by whoever is recorded: it is bytes here, and whoever shows it filters it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onus_terminal::{Event, EventKind, Header};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The most bytes that one piece may claim to hold: far more than a gateway writes, far less than hurts.
const MOST: u64 = 64 << 20;
/// The longest text of an operation in a marker, in characters.
const MARKER_TEXT: usize = 200;
/// A terminal's size where none was recorded.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// Reads a record's payload.
///
/// # Errors
/// What is wrong with it, in words.
pub fn record(payload: &[u8]) -> Result<Value, String> {
    let (head, data) = match payload.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&payload[..end], Some(&payload[end + 1..])),
        None => (payload, None),
    };
    let mut record: Value = serde_json::from_slice(head).map_err(|error| format!("is not JSON: {error}"))?;
    match (record["k"] == "tape", data) {
        (false, None) => {}
        (false, Some(_)) => return Err("is followed by bytes, and is no piece of tape".to_owned()),
        (true, data) => {
            let data = data.ok_or("is a piece of tape without bytes")?;
            let length = record["n"].as_u64().filter(|length| *length <= MOST).ok_or("has no length that can be")?;
            match record["z"].as_str() {
                None if data.len() as u64 == length => {}
                Some("zstd") => {}
                None => return Err(format!("holds {} bytes of {length}", data.len())),
                Some(_) => return Err("is coded in a way that is not known here".to_owned()),
            }
            record["data"] = STANDARD.encode(data).into();
        }
    }
    Ok(record)
}

/// A piece of tape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Which stream of the session.
    pub channel: u64,
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// What kind: `o`, `e`, `i`, `r`, `x`, `m`.
    pub track: char,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The piece of tape that a record is; `None` for any other record.
///
/// # Errors
/// When its bytes can't be had.
pub fn piece(record: &Value) -> Result<Option<Piece>, String> {
    if record["k"] != "tape" {
        return Ok(None);
    }
    let length = record["n"].as_u64().filter(|length| *length <= MOST).ok_or("a piece of tape has no length")?;
    let coded = STANDARD
        .decode(record["data"].as_str().unwrap_or_default())
        .map_err(|_| "a piece of tape is not in base64".to_owned())?;
    let bytes = match record["z"].as_str() {
        None => coded,
        Some("zstd") => zstd::bulk::decompress(&coded, length as usize)
            .map_err(|error| format!("a piece of tape can't be unpacked: {error}"))?,
        Some(_) => return Err("a piece of tape is coded in a way that is not known here".to_owned()),
    };
    if bytes.len() as u64 != length {
        return Err(format!("a piece of tape holds {} bytes of {length}", bytes.len()));
    }
    Ok(Some(Piece {
        channel: record["ch"].as_u64().unwrap_or(0),
        at_ms: record["at"].as_u64().unwrap_or(0),
        track: record["s"].as_str().and_then(|track| track.chars().next()).unwrap_or('?'),
        bytes,
    }))
}

/// What a session's tape holds of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its number.
    pub number: u64,
    /// Whether it had a terminal.
    pub terminal: bool,
    /// Bytes shown.
    pub shown: u64,
}

/// The streams that a journal's records hold tape of, by number.
pub fn channels(records: &[Value]) -> Vec<Channel> {
    let mut found: BTreeMap<u64, Channel> = BTreeMap::new();
    for record in records.iter().filter(|record| record["k"] == "tape") {
        let number = record["ch"].as_u64().unwrap_or(0);
        let channel = found.entry(number).or_insert(Channel { number, terminal: false, shown: 0 });
        channel.terminal |= record["s"] == "r";
        if record["s"] == "o" || record["s"] == "e" {
            channel.shown += record["n"].as_u64().unwrap_or(0);
        }
    }
    found.into_values().collect()
}

/// The stream that is meant where none is named: the first with a terminal, or else the one that showed most.
pub fn usual(channels: &[Channel]) -> Option<u64> {
    let terminal = channels.iter().find(|channel| channel.terminal);
    terminal.or_else(|| channels.iter().max_by_key(|channel| channel.shown)).map(|channel| channel.number)
}

/// One stream as a recording, with a marker for each of the session's operations.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// What it says about itself.
    pub header: Header,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// When it begins, in milliseconds since the epoch.
    pub began_ms: u64,
}

/// Makes a recording of one stream. `None` if there is no tape of it.
///
/// # Errors
/// When a piece can't be read: half a recording would pass for a whole one.
pub fn recording(records: &[Value], channel: u64) -> Result<Option<Recording>, String> {
    let of_channel = |record: &&Value| record["k"] == "tape" && record["ch"].as_u64().unwrap_or(0) == channel;
    let Some(began_ms) = records.iter().find(of_channel).map(|record| record["at"].as_u64().unwrap_or(0)) else {
        return Ok(None);
    };
    let mut title = String::new();
    let mut size: Option<(u16, u16)> = None;
    let mut decisions: BTreeMap<u64, &Value> = BTreeMap::new();
    let mut events: Vec<Event> = Vec::new();
    let mut last_us = 0;
    for record in records {
        let at_ms = record["at"].as_u64().unwrap_or(began_ms);
        let kind = match record["k"].as_str() {
            Some("view") if title.is_empty() => {
                let of = |name: &str| record["view"][name].as_str().unwrap_or_default();
                title = format!("{}: {} as {} on {}", of("session"), of("subject"), of("role"), of("resource"));
                continue;
            }
            Some("def") => {
                decisions.insert(record["def"].as_u64().unwrap_or(0), &record["decision"]);
                continue;
            }
            Some("op") => EventKind::Marker(marker(record, &decisions)),
            Some("tape") if of_channel(&record) => match piece(record)? {
                Some(Piece { track: 'r', bytes, .. }) => match sized(&bytes) {
                    // The first one is the size at the start.
                    Some(first) if size.is_none() => {
                        size = Some(first);
                        continue;
                    }
                    Some((cols, rows)) => EventKind::Resize(cols, rows),
                    None => continue,
                },
                Some(piece) => match happened(piece) {
                    Some(kind) => kind,
                    None => continue,
                },
                None => continue,
            },
            _ => continue,
        };
        // A clock set back must not make a player wait for ever, or go back.
        last_us = last_us.max(at_ms.saturating_sub(began_ms).saturating_mul(1000));
        events.push(Event { at_us: last_us, kind });
    }
    let (cols, rows) = size.unwrap_or(USUAL_SIZE);
    let header = Header { cols, rows, timestamp_s: Some(began_ms / 1000), title: Some(title), ..Header::default() };
    Ok(Some(Recording { header, events, began_ms }))
}

fn sized(bytes: &[u8]) -> Option<(u16, u16)> {
    let (cols, rows) = std::str::from_utf8(bytes).ok()?.split_once('x')?;
    let (cols, rows) = (cols.parse().ok()?, rows.parse().ok()?);
    (cols > 0 && rows > 0).then_some((cols, rows))
}

fn happened(piece: Piece) -> Option<EventKind> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match piece.track {
        // A recording has one screen; what went to the error stream was seen there as well.
        'o' | 'e' => Some(EventKind::Output(piece.bytes)),
        'i' => Some(EventKind::Input(piece.bytes)),
        'r' => sized(&piece.bytes).map(|(cols, rows)| EventKind::Resize(cols, rows)),
        'x' => text(&piece.bytes).parse().ok().map(EventKind::Exit),
        'm' => Some(EventKind::Marker(text(&piece.bytes))),
        _ => None,
    }
}

/// The facts of a decision, as the player looks for them: `{"onus":"deny","op":14,"rule":"p-77","text":"…"}`.
fn marker(record: &Value, decisions: &BTreeMap<u64, &Value>) -> String {
    let decision = record["def"].as_u64().and_then(|def| decisions.get(&def));
    let text: String = record["text"].as_str().unwrap_or_default().chars().take(MARKER_TEXT).collect();
    let mut facts = json!({"op": record["op"], "text": text});
    if let Some(decision) = decision {
        facts["onus"] = decision["effect"].clone();
        if let Some(rule) = decision["determining"].get(0) {
            facts["rule"] = rule["policy"].clone();
        }
    }
    facts.to_string()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A piece as the gateway writes it, as a record.
    pub fn taped(channel: u64, at: u64, track: &str, bytes: &[u8]) -> Value {
        let mut payload =
            json!({"k": "tape", "ch": channel, "at": at, "s": track, "n": bytes.len()}).to_string().into_bytes();
        payload.push(b'\n');
        payload.extend_from_slice(bytes);
        record(&payload).expect("a piece in order")
    }

    #[test]
    fn a_piece_is_cut_at_the_first_line_end_whatever_its_bytes_hold() {
        let found = piece(&taped(3, 7, "o", b"a\n{\"k\":\"op\"}\n\xff")).unwrap().unwrap();
        assert_eq!(found, Piece { channel: 3, at_ms: 7, track: 'o', bytes: b"a\n{\"k\":\"op\"}\n\xff".to_vec() });
        let packed = zstd::bulk::compress(&[b'x'; 5000], 1).unwrap();
        let mut payload = br#"{"k":"tape","ch":1,"at":1,"s":"o","n":5000,"z":"zstd"}"#.to_vec();
        payload.push(b'\n');
        payload.extend_from_slice(&packed);
        let read = record(&payload).unwrap();
        assert_eq!(piece(&read).unwrap().unwrap().bytes, [b'x'; 5000]);
    }

    #[test]
    fn a_piece_that_lies_about_itself_is_refused() {
        for wrong in [
            &b"{\"k\":\"tape\",\"s\":\"o\",\"n\":3}\nab"[..],
            b"{\"k\":\"tape\",\"s\":\"o\",\"n\":3}",
            b"{\"k\":\"tape\",\"s\":\"o\",\"n\":99999999999}\nab",
            b"{\"k\":\"tape\",\"s\":\"o\",\"n\":2,\"z\":\"lz4\"}\nab",
            b"{\"k\":\"op\",\"op\":1}\nab",
            b"no JSON",
        ] {
            assert!(record(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
        // A frame that unpacks to more than it says, as a bomb would.
        let packed = zstd::bulk::compress(&[0; 1 << 20], 1).unwrap();
        let mut payload = br#"{"k":"tape","ch":1,"at":1,"s":"o","n":10,"z":"zstd"}"#.to_vec();
        payload.push(b'\n');
        payload.extend_from_slice(&packed);
        assert!(piece(&record(&payload).unwrap()).is_err());
    }

    #[test]
    fn a_recording_has_its_size_its_output_and_a_marker_for_each_operation() {
        let records = [
            json!({"k": "view", "epoch": 1, "view": {"session": "S-1", "subject": "alice", "role": "op", "resource": "web-1"}}),
            taped(1, 10_000, "r", b"100x30"),
            taped(2, 10_000, "o", b"another stream"),
            taped(1, 10_500, "o", b"$ "),
            json!({"k": "def", "def": 1, "at": 11_000, "decision": {"effect": "deny", "determining": [{"policy": "opaque"}]}}),
            json!({"k": "op", "op": 4, "def": 1, "at": 11_000, "text": "vi x"}),
            taped(1, 10_900, "e", b"no\r\n"),
            taped(1, 12_000, "r", b"0x0"),
            taped(1, 12_000, "r", b"80x24"),
            taped(1, 13_000, "x", b"3"),
        ];
        let found = recording(&records, 1).unwrap().unwrap();
        assert_eq!((found.header.cols, found.header.rows, found.began_ms), (100, 30, 10_000));
        assert_eq!(found.header.title.as_deref(), Some("S-1: alice as op on web-1"));
        let kinds: Vec<_> = found.events.iter().map(|event| (event.at_us, event.kind.clone())).collect();
        assert_eq!(kinds[0], (500_000, EventKind::Output(b"$ ".to_vec())));
        let EventKind::Marker(label) = &kinds[1].1 else { panic!("{kinds:?}") };
        assert_eq!(onus_terminal::player::marker_operation(label), Some(4));
        assert!(label.contains("\"deny\"") && label.contains("opaque"));
        assert_eq!(kinds[2], (1_000_000, EventKind::Output(b"no\r\n".to_vec())), "never back in time");
        assert_eq!(kinds[3..], [(2_000_000, EventKind::Resize(80, 24)), (3_000_000, EventKind::Exit(3))]);
        assert!(recording(&records, 9).unwrap().is_none());
        let found = channels(&records);
        assert_eq!(
            found.iter().map(|c| (c.number, c.terminal, c.shown)).collect::<Vec<_>>(),
            [(1, true, 6), (2, false, 14)]
        );
        assert_eq!((usual(&found), usual(&found[1..]), usual(&[])), (Some(1), Some(2), None));
    }
}
