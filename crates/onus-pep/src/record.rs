//! What is recorded of a session, and its bytes: one compact JSON object a record, without line end.
//!
//! Records borrow what they record. The encoder is hand-written because it is on the path of every operation; its
//! output is plain JSON (RFC 8259) with ASCII keys in a fixed order, so equal records have equal bytes. It does not
//! chain, number or store anything: that is the journal's.
//!
//! ```text
//! {"k":"view","epoch":3,"view":{…}}
//! {"k":"def","def":1,"epoch":3,"at":…,"operations":[…],"decision":{…}}
//! {"k":"op","op":1,"def":1,"at":1790000000000,"stage":"run","bytes":42,"text":"SELECT …","params":["7",null,{"hex":"00ff","bytes":2}]}
//! {"k":"done","op":1,"at":…,"tag":"SELECT 3","rows":3,"bytes_in":0,"bytes_out":120,"micros":310}
//! {"k":"hold","op":2,"at":…,"digest":"…","by":["bob"],"until":…}   {"k":"confirmed","op":2,"at":…,"by":"bob"}
//! {"k":"refused","op":2,"at":…,"why":"expired"}                    {"k":"end","at":…,"cause":"killed","reason":"…"}
//! {"k":"tape","ch":1,"at":…,"s":"o","n":4096,"z":"zstd"}⏎ bytes
//! ```
//!
//! A piece of tape is the exception: its object is followed by a line end and bytes as they are, `n` of them, or fewer
//! compressed ones that give `n`.

use crate::frame::{Digest, OpNo, Param};
use bytes::Bytes;
use onus_core::decision::{Confirmation, Decision};
use onus_core::operation::Operation;
use onus_core::time::Timestamp;

/// How an operation failed on the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The protocol's code (an SQLSTATE).
    pub code: String,
    /// The other side's message.
    pub message: String,
}

/// What came of a relayed frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The frame.
    pub op: OpNo,
    /// The other side's own word for what happened (a command tag); empty if it said none.
    pub tag: Bytes,
    /// Rows that came back, or that the tag counts where none came back.
    pub rows: u64,
    /// Bytes of bulk data that the client sent for it.
    pub bytes_in: u64,
    /// Bytes of result that went to the client.
    pub bytes_out: u64,
    /// How it failed, if it did.
    pub failure: Option<Failure>,
    /// Whether the other side passed it over because something before it had failed.
    pub skipped: bool,
    /// Time from release to answer.
    pub micros: u64,
}

/// One record of a session.
#[derive(Debug, Clone)]
pub enum Record<'a> {
    /// The view that the following decisions were made under.
    View {
        /// Its epoch.
        epoch: u64,
        /// The whole view as JSON, as the shell serialised it.
        json: &'a str,
    },
    /// Operations and the decision about them; what follows refers to it by number.
    Def {
        /// Its number.
        def: u64,
        /// The view's epoch.
        epoch: u64,
        /// The moment that the decision was made for; part of what computes it again.
        at: Timestamp,
        /// The protocol's code, where the protocol itself refused and no policy was asked.
        forbidden: Option<&'a str>,
        /// What was decided about.
        operations: &'a [Operation],
        /// The decision.
        decision: &'a Decision,
    },
    /// A frame with operations.
    Op {
        /// Its number. A second record with the same number replaces the first: it was judged again before release.
        op: OpNo,
        /// The definition that holds operations and decision.
        def: u64,
        /// When it was decided.
        at: Timestamp,
        /// Whether it runs the statement or only prepares it.
        stage: &'a str,
        /// Length of the frame in bytes.
        bytes: usize,
        /// The text as sent.
        text: &'a [u8],
        /// The parameters.
        params: &'a [Param],
    },
    /// What came of it.
    Done {
        /// The answer.
        done: &'a Done,
        /// When it came.
        at: Timestamp,
    },
    /// A frame waits for a confirmation.
    Hold {
        /// The frame.
        op: OpNo,
        /// Since when.
        at: Timestamp,
        /// What the confirmation binds to.
        digest: &'a Digest,
        /// Who may confirm.
        confirmation: &'a Confirmation,
        /// When it lapses.
        until: Timestamp,
    },
    /// A held frame was confirmed.
    Confirmed {
        /// The frame.
        op: OpNo,
        /// When.
        at: Timestamp,
        /// By whom.
        by: &'a str,
    },
    /// A held frame was not confirmed, or can no longer be.
    Refused {
        /// The frame.
        op: OpNo,
        /// When.
        at: Timestamp,
        /// By whom, if by somebody.
        by: Option<&'a str>,
        /// Why.
        why: &'a str,
    },
    /// A piece of a stream's recording.
    Tape {
        /// Which stream.
        lane: u32,
        /// When.
        at: Timestamp,
        /// What kind of piece: [`crate::Track::as_str`].
        track: &'a str,
        /// How many bytes it holds.
        length: usize,
        /// How `bytes` are coded; `None` as they are.
        coding: Option<&'a str>,
        /// The bytes, coded.
        bytes: &'a [u8],
    },
    /// The session ended; nothing follows.
    End {
        /// When.
        at: Timestamp,
        /// The cause as a word.
        cause: &'a str,
        /// Why, for people.
        reason: &'a str,
        /// Who ended it, if somebody did.
        by: Option<&'a str>,
    },
}

impl Record<'_> {
    /// Appends the record's bytes to `out`: one JSON object, no line end; behind a piece of tape its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::View { epoch, json } => {
                key(out, "{\"k\":\"view\",\"epoch\":", *epoch);
                out.extend_from_slice(b",\"view\":");
                // A line end inside would break the reader's lines; in JSON it can only be white space.
                out.extend(json.bytes().filter(|b| *b != b'\n' && *b != b'\r'));
            }
            Self::Def { def, epoch, at, forbidden, operations, decision } => {
                key(out, "{\"k\":\"def\",\"def\":", *def);
                key(out, ",\"epoch\":", *epoch);
                key(out, ",\"at\":", at.0);
                if let Some(code) = forbidden {
                    pair(out, ",\"forbidden\":", code);
                }
                out.extend_from_slice(b",\"operations\":");
                list(out, operations.iter(), write_operation);
                out.extend_from_slice(b",\"decision\":");
                write_decision(out, decision);
            }
            Self::Op { op, def, at, stage, bytes, text, params } => {
                key(out, "{\"k\":\"op\",\"op\":", op.0);
                key(out, ",\"def\":", *def);
                key(out, ",\"at\":", at.0);
                pair(out, ",\"stage\":", stage);
                key(out, ",\"bytes\":", *bytes as u64);
                out.extend_from_slice(b",\"text\":");
                string(out, text);
                if !params.is_empty() {
                    out.extend_from_slice(b",\"params\":");
                    list(out, params.iter(), write_param);
                }
            }
            Self::Done { done, at } => {
                key(out, "{\"k\":\"done\",\"op\":", done.op.0);
                key(out, ",\"at\":", at.0);
                out.extend_from_slice(b",\"tag\":");
                string(out, &done.tag);
                key(out, ",\"rows\":", done.rows);
                if done.bytes_in > 0 {
                    key(out, ",\"bytes_in\":", done.bytes_in);
                }
                key(out, ",\"bytes_out\":", done.bytes_out);
                if let Some(failure) = &done.failure {
                    pair(out, ",\"code\":", &failure.code);
                    pair(out, ",\"message\":", &failure.message);
                }
                if done.skipped {
                    out.extend_from_slice(b",\"skipped\":true");
                }
                key(out, ",\"micros\":", done.micros);
            }
            Self::Hold { op, at, digest, confirmation, until } => {
                key(out, "{\"k\":\"hold\",\"op\":", op.0);
                key(out, ",\"at\":", at.0);
                out.extend_from_slice(b",\"digest\":\"");
                hex(out, *digest);
                out.extend_from_slice(b"\",\"by\":");
                list(out, confirmation.by.iter(), |out, by| string(out, by.as_bytes()));
                key(out, ",\"until\":", until.0);
            }
            Self::Confirmed { op, at, by } => {
                key(out, "{\"k\":\"confirmed\",\"op\":", op.0);
                key(out, ",\"at\":", at.0);
                pair(out, ",\"by\":", by);
            }
            Self::Refused { op, at, by, why } => {
                key(out, "{\"k\":\"refused\",\"op\":", op.0);
                key(out, ",\"at\":", at.0);
                if let Some(by) = by {
                    pair(out, ",\"by\":", by);
                }
                pair(out, ",\"why\":", why);
            }
            Self::Tape { lane, at, track, length, coding, bytes } => {
                key(out, "{\"k\":\"tape\",\"ch\":", u64::from(*lane));
                key(out, ",\"at\":", at.0);
                pair(out, ",\"s\":", track);
                key(out, ",\"n\":", *length as u64);
                if let Some(coding) = coding {
                    pair(out, ",\"z\":", coding);
                }
                out.extend_from_slice(b"}\n");
                out.extend_from_slice(bytes);
                return;
            }
            Self::End { at, cause, reason, by } => {
                key(out, "{\"k\":\"end\",\"at\":", at.0);
                pair(out, ",\"cause\":", cause);
                if let Some(by) = by {
                    pair(out, ",\"by\":", by);
                }
                pair(out, ",\"reason\":", reason);
            }
        }
        out.push(b'}');
    }
}

fn write_operation(out: &mut Vec<u8>, operation: &Operation) {
    pair(out, "{\"action\":", &operation.action);
    pair(out, ",\"class\":", operation.class.as_str());
    if !operation.objects.is_empty() {
        out.extend_from_slice(b",\"objects\":");
        list(out, operation.objects.iter(), |out, object| {
            pair(out, "{\"access\":", object.access.as_str());
            pair(out, ",\"kind\":", &object.kind);
            pair(out, ",\"name\":", &object.name);
            strings(out, ",\"parts\":", object.parts.iter());
            out.push(b'}');
        });
    }
    strings(out, ",\"facts\":", operation.facts.iter());
    strings(out, ",\"opaque\":", operation.opaque.iter());
    out.push(b'}');
}

fn write_decision(out: &mut Vec<u8>, decision: &Decision) {
    pair(out, "{\"effect\":", decision.effect.as_str());
    out.extend_from_slice(b",\"determining\":");
    list(out, decision.determining.iter(), |out, d| {
        pair(out, "{\"policy\":", d.policy.as_str());
        pair(out, ",\"owner\":", d.owner.as_str());
        pair(out, ",\"why\":", &d.why);
        out.push(b'}');
    });
    out.extend_from_slice(b",\"reasons\":");
    list(out, decision.reasons.iter(), |out, r| string(out, r.as_bytes()));
    if let Some(confirmation) = &decision.confirmation {
        out.extend_from_slice(b",\"confirmation\":{\"by\":");
        list(out, confirmation.by.iter(), |out, by| string(out, by.as_bytes()));
        key(out, ",\"within\":", confirmation.within.0);
        out.push(b'}');
    }
    if let Some(until) = decision.valid_until {
        key(out, ",\"valid_until\":", until.0);
    }
    out.push(b'}');
}

fn write_param(out: &mut Vec<u8>, param: &Param) {
    match param {
        Param::Null => out.extend_from_slice(b"null"),
        Param::Text { shown, bytes } if shown.len() == *bytes => string(out, shown),
        Param::Text { shown, bytes } => {
            out.extend_from_slice(b"{\"text\":");
            string(out, shown);
            key(out, ",\"bytes\":", *bytes as u64);
            out.push(b'}');
        }
        Param::Binary { shown, bytes } => {
            out.extend_from_slice(b"{\"hex\":\"");
            hex(out, shown);
            key(out, "\",\"bytes\":", *bytes as u64);
            out.push(b'}');
        }
    }
}

fn list<T>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn strings<'a>(out: &mut Vec<u8>, name: &str, items: impl ExactSizeIterator<Item = &'a String>) {
    if items.len() > 0 {
        out.extend_from_slice(name.as_bytes());
        list(out, items, |out, item| string(out, item.as_bytes()));
    }
}

fn pair(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    string(out, value.as_bytes());
}

fn key(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(name.as_bytes());
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// Writes a JSON string. What is not UTF-8 becomes U+FFFD: such text is never relayed, so nothing that ran is lost.
fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        escape(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, valid: &[u8]) {
    let mut from = 0;
    for (i, &byte) in valid.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&valid[from..i]);
        from = i + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                hex(out, &[byte]);
            }
        }
    }
    out.extend_from_slice(&valid[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_what_is_not_utf8_is_replaced() {
        let mut out = Vec::new();
        string(&mut out, b"a\"b\\c\n\x01\xff\xc3\xa9");
        assert_eq!(String::from_utf8(out).unwrap(), "\"a\\\"b\\\\c\\n\\u0001\u{fffd}é\"");
    }

    #[test]
    fn numbers_are_decimal() {
        for n in [0, 7, 10, u64::MAX] {
            let mut out = Vec::new();
            key(&mut out, "", n);
            assert_eq!(String::from_utf8(out).unwrap(), n.to_string());
        }
    }

    #[test]
    fn a_piece_of_tape_is_one_line_and_then_its_bytes_as_they_are() {
        let mut out = Vec::new();
        Record::Tape { lane: 3, at: Timestamp(7), track: "o", length: 3, coding: None, bytes: b"a\n\xff" }
            .encode(&mut out);
        assert_eq!(out, b"{\"k\":\"tape\",\"ch\":3,\"at\":7,\"s\":\"o\",\"n\":3}\na\n\xff");
    }

    #[test]
    fn a_record_is_one_line() {
        let mut out = Vec::new();
        Record::View { epoch: 1, json: "{\n \"a\": 1\r\n}" }.encode(&mut out);
        assert_eq!(out, b"{\"k\":\"view\",\"epoch\":1,\"view\":{ \"a\": 1}}");
        out.clear();
        let params = [Param::Null, Param::Text { shown: Bytes::from_static(b"a\nb"), bytes: 9 }];
        Record::Op { op: OpNo(1), def: 2, at: Timestamp(3), stage: "run", bytes: 4, text: b"x\ny", params: &params }
            .encode(&mut out);
        assert!(!out.contains(&b'\n'), "{}", String::from_utf8_lossy(&out));
    }
}
