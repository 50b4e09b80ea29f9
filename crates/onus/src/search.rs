//! Where a text stands in a session's records: in what was asked, and in what terminals showed as plain text.
//!
//! It knows no rights and opens nothing; whoever calls it has asked whether these records may be read.

use crate::tape;
use onus_api::Hit;
use onus_terminal::PlainText;
use serde_json::Value;
use std::collections::BTreeMap;

/// The longest text of a hit, in characters.
const LINE: usize = 400;

/// The places, in order, at most `most` of them. Letters count without regard to case.
pub fn search(records: &[Value], text: &str, most: usize) -> Vec<Hit> {
    let wanted = text.to_lowercase();
    let mut hits = Vec::new();
    let mut streams: BTreeMap<(u64, char), PlainText> = BTreeMap::new();
    // A frame that was judged again is recorded again.
    let mut last_op = None;
    for record in records {
        if hits.len() >= most {
            return hits;
        }
        let at = record["at"].as_u64().unwrap_or(0);
        match record["k"].as_str() {
            Some("op") => {
                let (op, asked) = (record["op"].as_u64(), record["text"].as_str().unwrap_or_default());
                if last_op != op && asked.to_lowercase().contains(&wanted) {
                    hits.push(Hit { at, kind: "command", op, channel: None, text: around(asked, &wanted) });
                }
                last_op = op;
            }
            Some("tape") => {
                // A piece that can't be read is `verify`'s to tell.
                let Ok(Some(piece)) = tape::piece(record) else { continue };
                if !matches!(piece.track, 'o' | 'e' | 'i') {
                    continue;
                }
                let mut lines = Vec::new();
                streams.entry((piece.channel, piece.track)).or_default().feed(&piece.bytes, &mut lines);
                let room = most - hits.len();
                let found = lines.iter().filter(|line| line.to_lowercase().contains(&wanted)).take(room);
                hits.extend(found.map(|line| shown(at, piece.channel, piece.track, line, &wanted)));
            }
            _ => {}
        }
    }
    let end = records.iter().rev().find_map(|record| record["at"].as_u64()).unwrap_or(0);
    for ((channel, track), mut stream) in streams {
        if hits.len() < most
            && let Some(line) = stream.finish().filter(|line| line.to_lowercase().contains(&wanted))
        {
            hits.push(shown(end, channel, track, &line, &wanted));
        }
    }
    hits
}

fn shown(at: u64, channel: u64, track: char, line: &str, wanted: &str) -> Hit {
    let kind = if track == 'i' { "input" } else { "output" };
    Hit { at, kind, op: None, channel: Some(channel), text: around(line, wanted) }
}

/// As much of a long text as fits, with the place in it.
fn around(text: &str, wanted: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= LINE {
        return text.to_owned();
    }
    // A character's lower case may be several: the place is counted in the characters that it came from.
    let mut lower = String::new();
    let mut starts = Vec::with_capacity(characters.len());
    for character in &characters {
        starts.push(lower.len());
        lower.extend(character.to_lowercase());
    }
    let place = lower.find(wanted).map_or(0, |at| starts.partition_point(|start| *start < at));
    let from = place.saturating_sub(LINE / 4).min(characters.len() - LINE);
    characters[from..from + LINE].iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::tests::taped;
    use serde_json::json;

    #[test]
    fn commands_and_what_was_shown_are_found_however_they_were_drawn() {
        let records = [
            json!({"k": "op", "op": 1, "at": 5, "text": "systemctl restart Nginx"}),
            json!({"k": "op", "op": 1, "at": 6, "text": "systemctl restart Nginx"}),
            taped(1, 10, "o", b"\x1b[1mng\x1b[0minx is run"),
            taped(2, 11, "o", b"nothing\r\n"),
            taped(1, 12, "o", b"ning\r\nnginx: last"),
            taped(1, 13, "m", b"nginx in a marker"),
        ];
        let found: Vec<_> =
            search(&records, "NGINX", 10).into_iter().map(|h| (h.at, h.kind, h.op, h.channel, h.text)).collect();
        assert_eq!(
            found,
            [
                (5, "command", Some(1), None, "systemctl restart Nginx".to_owned()),
                (12, "output", None, Some(1), "nginx is running".to_owned()),
                (13, "output", None, Some(1), "nginx: last".to_owned()),
            ]
        );
        assert_eq!(search(&records, "nginx", 2).len(), 2);
        assert!(search(&records, "apache", 10).is_empty());
    }

    #[test]
    fn of_a_long_line_the_part_with_the_place_is_shown() {
        let text = format!("{}needle{}", "İ".repeat(3000), "y".repeat(3000));
        let found = search(&[json!({"k": "op", "op": 1, "at": 5, "text": text})], "needle", 1);
        assert!(found[0].text.contains("needle") && found[0].text.chars().count() == LINE);
    }
}
