//! A session's journal for people: what was asked, what was decided, what came of it, in order.
//!
//! It shows records as they are and verifies nothing (`onus verify` does). What a client sent is hostile text: all of
//! it is escaped, and cut where it is long.

use super::shown::{brief, one_line};
use crate::tape;
use onus_core::time::{Millis, Timestamp};
use onus_terminal::PlainText;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The longest statement shown, in characters.
const TEXT: usize = 400;
/// The longest parameter shown, in characters.
const PARAM: usize = 60;
/// The most parameters shown.
const PARAMS: usize = 12;

/// Writes a readable replay of a session's records (their JSON form is documented in `onus-pep`'s `record`).
///
/// ```text
/// session S-1: alice as writer on orders-db/orders, grant G-1, since 2026-11-18T12:00:00.000Z
/// +0.250  #1 run     DELETE FROM orders
///                    hold by writes-without-where of petra: …
/// +0.250  #1 waits for bob until …
/// +3.100  #1 confirmed by bob
/// +3.140  #1 DELETE 3 (3 rows, 0 B, 1.2 ms)
/// ```
///
/// # Errors
/// When `out` cannot be written.
pub fn render(records: impl Iterator<Item = Value>, out: &mut impl Write) -> io::Result<()> {
    let mut replay = Replay::default();
    for record in records {
        replay.record(&record, out)?;
    }
    replay.finish(out)
}

/// A listing that goes on, record by record.
#[derive(Default)]
pub struct Replay {
    begun: Option<u64>,
    decisions: BTreeMap<u64, Value>,
    /// The lines that are not over yet, by stream and kind.
    streams: BTreeMap<(u64, char), PlainText>,
}

impl Replay {
    /// Lists what no line end followed.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        for ((channel, track), mut stream) in std::mem::take(&mut self.streams) {
            if let Some(line) = stream.finish() {
                writeln!(out, "{INDENT}{channel}{track} {}", brief(&line, TEXT))?;
            }
        }
        Ok(())
    }

    /// Lists one record.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn record(&mut self, record: &Value, out: &mut impl Write) -> io::Result<()> {
        match text(record, "k") {
            "view" => self.view(record, out),
            "def" => {
                self.decisions.insert(number(record, "def"), record["decision"].clone());
                Ok(())
            }
            "op" => self.op(record, out),
            "done" => self.done(record, out),
            "hold" => {
                let by = list(&record["by"]).join(" or ");
                let until = Timestamp(number(record, "until"));
                self.line(record, &format!("waits for {by} until {until}"), out)
            }
            "confirmed" => self.line(record, &format!("confirmed by {}", one_line(text(record, "by"))), out),
            "refused" => {
                let by = match text(record, "by") {
                    "" => String::new(),
                    by => format!(" by {}", one_line(by)),
                };
                self.line(record, &format!("refused{by}: {}", brief(text(record, "why"), TEXT)), out)
            }
            "tape" => self.tape(record, out),
            "end" => {
                let by = match text(record, "by") {
                    "" => String::new(),
                    by => format!(" by {}", one_line(by)),
                };
                let at = self.offset(record);
                let (cause, reason) = (one_line(text(record, "cause")), brief(text(record, "reason"), TEXT));
                writeln!(out, "{at}  end: {cause}{by}: {reason}")
            }
            _ => writeln!(
                out,
                "{}  record of a kind not known here: {}",
                self.offset(record),
                brief(&record.to_string(), TEXT)
            ),
        }
    }

    fn view(&mut self, record: &Value, out: &mut impl Write) -> io::Result<()> {
        let view = &record["view"];
        let of = |name: &str| one_line(text(view, name));
        if self.begun.is_none() {
            self.begun = view["opened"].as_u64();
            let opened = Timestamp(number(view, "opened"));
            return writeln!(
                out,
                "session {}: {} as {} on {}/{}, grant {}, since {opened}",
                of("session"),
                of("subject"),
                of("role"),
                of("resource"),
                of("database"),
                of("grant")
            );
        }
        let (epoch, risk, version) = (number(record, "epoch"), number(view, "risk"), number(view, "policy_version"));
        let deadline = Timestamp(number(view, "deadline"));
        writeln!(out, "         judged again: epoch {epoch}, risk {risk}, policy version {version}, until {deadline}")
    }

    fn op(&mut self, record: &Value, out: &mut impl Write) -> io::Result<()> {
        let statement = brief(text(record, "text"), TEXT);
        let statement = if statement.is_empty() { "(no text)" } else { &statement };
        self.line(record, &format!("{:8}{statement}", one_line(text(record, "stage"))), out)?;
        if let Some(params) = record["params"].as_array().filter(|params| !params.is_empty()) {
            let mut shown: Vec<String> = params
                .iter()
                .take(PARAMS)
                .enumerate()
                .map(|(i, param)| format!("${}={}", i + 1, parameter(param)))
                .collect();
            if params.len() > PARAMS {
                shown.push(format!("and {} more", params.len() - PARAMS));
            }
            writeln!(out, "{INDENT}{}", shown.join("  "))?;
        }
        let Some(decision) = self.decisions.get(&number(record, "def")) else {
            return writeln!(out, "{INDENT}no decision is recorded");
        };
        let effect = one_line(text(decision, "effect"));
        let by: Vec<String> = decision["determining"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|by| {
                let why = brief(text(by, "why"), TEXT);
                format!("{} of {}: {why}", one_line(text(by, "policy")), one_line(text(by, "owner")))
            })
            .chain(list(&decision["reasons"]))
            .collect();
        // Of what was permitted, whose policy permitted it is enough.
        match (effect.as_str(), &by[..]) {
            (_, []) => writeln!(out, "{INDENT}{effect}"),
            (_, by) => writeln!(out, "{INDENT}{effect} by {}", by.join("; ")),
        }
    }

    fn done(&mut self, record: &Value, out: &mut impl Write) -> io::Result<()> {
        if record["skipped"] == true {
            return self.line(record, "passed over, because something before it had failed", out);
        }
        let mut what = match text(record, "code") {
            "" => brief(text(record, "tag"), PARAM),
            code => format!("failed with {}: {}", one_line(code), brief(text(record, "message"), TEXT)),
        };
        if what.is_empty() {
            what = "done".to_owned();
        }
        let (rows, sent, taken) = (number(record, "rows"), number(record, "bytes_out"), number(record, "bytes_in"));
        let taken = if taken > 0 { format!(", {} in", size(taken)) } else { String::new() };
        let millis = number(record, "micros") as f64 / 1000.0;
        self.line(record, &format!("{what} ({rows} rows, {} out{taken}, {millis:.1} ms)", size(sent)), out)
    }

    /// A piece of a stream: what it showed as plain text, line by line (`|` output, `!` errors, `<` typed and echoed).
    fn tape(&mut self, record: &Value, out: &mut impl Write) -> io::Result<()> {
        let at = self.offset(record);
        let piece = match tape::piece(record) {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(()),
            Err(wrong) => return writeln!(out, "{at}  {}", one_line(&wrong)),
        };
        let channel = piece.channel;
        let text = || brief(&String::from_utf8_lossy(&piece.bytes), TEXT);
        let mark = match piece.track {
            'o' => '|',
            'e' => '!',
            'i' => '<',
            'r' => return writeln!(out, "{at}  {channel}: terminal of {}", text()),
            'x' => return writeln!(out, "{at}  {channel}: exit status {}", text()),
            'm' => return writeln!(out, "{at}  {channel}: {}", text()),
            _ => return writeln!(out, "{at}  {channel}: a piece of tape of a kind not known here"),
        };
        let mut lines = Vec::new();
        self.streams.entry((channel, mark)).or_default().feed(&piece.bytes, &mut lines);
        for line in lines.iter().filter(|line| !line.trim().is_empty()) {
            writeln!(out, "{at}  {channel}{mark} {}", brief(line, TEXT))?;
        }
        Ok(())
    }

    fn line(&self, record: &Value, what: &str, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}  #{} {what}", self.offset(record), number(record, "op"))
    }

    /// Seconds since the session opened.
    fn offset(&self, record: &Value) -> String {
        match (self.begun, record["at"].as_u64()) {
            (Some(begun), Some(at)) => {
                let Millis(since) = Timestamp(at).since(Timestamp(begun));
                format!("+{:>3}.{:03}", since / 1000, since % 1000)
            }
            (None, Some(at)) => Timestamp(at).to_string(),
            (_, None) => "        ".to_owned(),
        }
    }
}

const INDENT: &str = "             ";

fn text<'a>(record: &'a Value, name: &str) -> &'a str {
    record[name].as_str().unwrap_or_default()
}

fn number(record: &Value, name: &str) -> u64 {
    record[name].as_u64().unwrap_or_default()
}

fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(|text| brief(text, TEXT)).collect()
}

fn parameter(param: &Value) -> String {
    let whole = |what: String| match param["bytes"].as_u64() {
        Some(bytes) => format!("{what} of {bytes} bytes"),
        None => what,
    };
    match param {
        Value::Null => "null".to_owned(),
        Value::String(text) => format!("'{}'", brief(text, PARAM)),
        Value::Object(parts) => {
            match (parts.get("text").and_then(Value::as_str), parts.get("hex").and_then(Value::as_str)) {
                (Some(text), _) => whole(format!("'{}'…", brief(text, PARAM))),
                (None, Some(hex)) => whole(format!("0x{}", brief(hex, PARAM))),
                (None, None) => "?".to_owned(),
            }
        }
        other => brief(&other.to_string(), PARAM),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(records: Vec<Value>) -> String {
        let mut out = Vec::new();
        render(records.into_iter(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_session_reads_as_it_went() {
        let view = json!({"session": "S-1", "subject": "alice", "role": "writer", "resource": "db", "database": "orders",
            "grant": "G-1", "opened": 1000, "deadline": 9000, "risk": 1, "policy_version": 2});
        let hold = json!({"effect": "hold", "determining": [{"policy": "p", "owner": "petra", "why": "no where"}], "reasons": []});
        let text = rendered(vec![
            json!({"k": "view", "epoch": 1, "view": view}),
            json!({"k": "def", "def": 1, "epoch": 1, "at": 1250, "operations": [], "decision": hold}),
            json!({"k": "op", "op": 1, "def": 1, "at": 1250, "stage": "run", "bytes": 9, "text": "DELETE\n FROM t",
                "params": ["7", null, {"hex": "00ff", "bytes": 20}, {"text": "ab", "bytes": 900}]}),
            json!({"k": "hold", "op": 1, "at": 1250, "digest": "00", "by": ["bob", "olga"], "until": 2000}),
            json!({"k": "confirmed", "op": 1, "at": 1400, "by": "bob"}),
            json!({"k": "view", "epoch": 2, "view": view}),
            json!({"k": "done", "op": 1, "at": 1500, "tag": "DELETE 3", "rows": 3, "bytes_out": 12, "micros": 1500}),
            json!({"k": "done", "op": 2, "at": 1500, "tag": "", "rows": 0, "bytes_out": 0, "micros": 1, "code": "42P01", "message": "no t"}),
            json!({"k": "refused", "op": 3, "at": 1600, "why": "expired"}),
            json!({"k": "end", "at": 61_600, "cause": "killed", "by": "sam", "reason": "drift"}),
        ]);
        assert_eq!(
            text,
            "session S-1: alice as writer on db/orders, grant G-1, since 1970-01-01T00:00:01.000Z
+  0.250  #1 run     DELETE FROM t
             $1='7'  $2=null  $3=0x00ff of 20 bytes  $4='ab'… of 900 bytes
             hold by p of petra: no where
+  0.250  #1 waits for bob or olga until 1970-01-01T00:00:02.000Z
+  0.400  #1 confirmed by bob
         judged again: epoch 2, risk 1, policy version 2, until 1970-01-01T00:00:09.000Z
+  0.500  #1 DELETE 3 (3 rows, 12 B out, 1.5 ms)
+  0.500  #2 failed with 42P01: no t (0 rows, 0 B out, 0.0 ms)
+  0.600  #3 refused: expired
+ 60.600  end: killed by sam: drift
"
        );
    }

    #[test]
    fn what_a_stream_showed_is_listed_line_by_line() {
        use crate::tape::tests::taped;
        let records = vec![
            taped(1, 10, "r", b"80x24"),
            taped(1, 20, "o", b"\x1b[31mred\x1b[0m\r\npart"),
            taped(2, 25, "e", b"oops\n"),
            taped(1, 30, "o", b"ial\r\n$ "),
            taped(1, 40, "x", b"3"),
            json!({"k": "tape", "ch": 1, "at": 50, "s": "o", "n": 9, "data": "AAAA"}),
        ];
        assert_eq!(
            rendered(records),
            "1970-01-01T00:00:00.010Z  1: terminal of 80x24
1970-01-01T00:00:00.020Z  1| red
1970-01-01T00:00:00.025Z  2! oops
1970-01-01T00:00:00.030Z  1| partial
1970-01-01T00:00:00.040Z  1: exit status 3
1970-01-01T00:00:00.050Z  a piece of tape holds 3 bytes of 9
             1| $
"
        );
    }

    #[test]
    fn no_record_can_steer_the_terminal_or_forge_a_line() {
        let evil = "x\u{1b}[2J\u{9b}1m\u{202e}\r\n+0.1  #9 forged";
        let fields = ["k", "stage", "text", "by", "why", "cause", "reason", "tag", "code", "message"];
        use crate::tape::tests::taped;
        for kind in ["view", "def", "op", "done", "hold", "confirmed", "refused", "end", "tape", evil] {
            let mut record = json!({"at": 1, "op": 1, "def": 1, "params": [evil, {"text": evil}, {"hex": evil}, {evil: evil}],
                "view": {"session": evil, "subject": evil, "role": evil, "resource": evil, "database": evil, "grant": evil},
                "decision": {"effect": evil, "reasons": [evil], "determining": [{"policy": evil, "owner": evil, "why": evil}]}});
            for field in fields {
                record[field] = evil.into();
            }
            record["k"] = kind.into();
            let mut held = record.clone();
            held["by"] = json!([evil]);
            let mut def = record.clone();
            def["k"] = "def".into();
            let hostile = ["o", "e", "i", "r", "x", "m", "?"].map(|track| taped(1, 1, track, evil.as_bytes()));
            let text = rendered([vec![def, record, held], hostile.to_vec()].concat());
            assert!(text.lines().all(|line| !line.starts_with("+0.1")), "{kind}: {text:?}");
            assert!(!text.chars().any(|c| c != '\n' && c.is_control() || c == '\u{202e}'), "{kind}: {text:?}");
        }
    }
}
