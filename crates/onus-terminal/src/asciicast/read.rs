//! Reads asciicast v1, v2 and v3 from memory.
//!
//! Tolerant where a killed recorder or a newer writer leaves something odd: a torn last line, unknown event codes and
//! members. Strict elsewhere: a malformed line in the middle is an error, not a gap.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::event::{Event, EventKind, Header, Theme};

/// A recording that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// The format's version: 1, 2 or 3.
    pub version: u8,
    /// What the recording says about itself.
    pub header: Header,
    /// The events in order; moments never go backwards.
    pub events: Vec<Event>,
    /// Whether the last line was cut short and left out.
    pub is_torn: bool,
    /// How many events with codes unknown to this version were left out.
    pub skipped: usize,
}

/// Why a recording couldn't be read. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing in it.
    #[error("the recording is empty")]
    Empty,
    /// The header isn't what its version prescribes.
    #[error("the recording's header is malformed")]
    Header {
        /// What JSON says.
        #[source]
        source: serde_json::Error,
    },
    /// A version that doesn't exist or isn't known.
    #[error("asciicast version {version} is not known")]
    Version {
        /// The version in the header.
        version: u64,
    },
    /// A line isn't UTF-8.
    #[error("line {line} is not UTF-8")]
    NotUtf8 {
        /// The line.
        line: usize,
    },
    /// A line is no event.
    #[error("line {line} is no event")]
    Event {
        /// The line.
        line: usize,
    },
}

/// Reads a whole recording of any version.
///
/// # Errors
///
/// When there is no header, or a line other than a torn last one is malformed.
pub fn read(bytes: &[u8]) -> Result<Recording, ReadError> {
    let first_end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let first = &bytes[..first_end];
    if bytes.trim_ascii().is_empty() {
        return Err(ReadError::Empty);
    }
    // A v1 file is one JSON value, usually over many lines; the newer ones have their header on the first.
    let version = match serde_json::from_slice::<Version>(first) {
        Ok(Version { version }) => version,
        Err(on_first) => serde_json::from_slice::<Version>(bytes)
            .map(|whole| whole.version)
            .map_err(|_| ReadError::Header { source: on_first })?,
    };
    match version {
        1 => read_v1(bytes),
        2 => {
            let header: HeaderV2 = parsed(first)?;
            read_lines(bytes, 2, header.into())
        }
        3 => {
            let header: HeaderV3 = parsed(first)?;
            read_lines(bytes, 3, header.into())
        }
        version => Err(ReadError::Version { version }),
    }
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

#[derive(Deserialize)]
struct Frames {
    #[serde(flatten)]
    header: HeaderV2,
    stdout: Vec<(f64, String)>,
}

#[derive(Deserialize)]
struct HeaderV2 {
    width: u16,
    height: u16,
    timestamp: Option<f64>,
    idle_time_limit: Option<f64>,
    command: Option<String>,
    title: Option<String>,
    env: Option<BTreeMap<String, Option<String>>>,
    theme: Option<Theme>,
}

#[derive(Deserialize)]
struct HeaderV3 {
    term: Term,
    timestamp: Option<f64>,
    idle_time_limit: Option<f64>,
    command: Option<String>,
    title: Option<String>,
    env: Option<BTreeMap<String, Option<String>>>,
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Term {
    cols: u16,
    rows: u16,
    #[serde(rename = "type")]
    kind: Option<String>,
    theme: Option<Theme>,
}

impl From<HeaderV2> for Header {
    fn from(header: HeaderV2) -> Self {
        let env = present(header.env);
        Self {
            cols: header.width,
            rows: header.height,
            term_type: env.get("TERM").cloned(),
            timestamp_s: header.timestamp.map(whole_seconds),
            idle_time_limit_s: header.idle_time_limit,
            command: header.command,
            title: header.title,
            env,
            theme: header.theme,
            tags: Vec::new(),
        }
    }
}

impl From<HeaderV3> for Header {
    fn from(header: HeaderV3) -> Self {
        Self {
            cols: header.term.cols,
            rows: header.term.rows,
            term_type: header.term.kind,
            timestamp_s: header.timestamp.map(whole_seconds),
            idle_time_limit_s: header.idle_time_limit,
            command: header.command,
            title: header.title,
            env: present(header.env),
            theme: header.term.theme,
            tags: header.tags.unwrap_or_default(),
        }
    }
}

/// Some recorders write null for a variable that wasn't set.
fn present(env: Option<BTreeMap<String, Option<String>>>) -> BTreeMap<String, String> {
    env.unwrap_or_default().into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn whole_seconds(timestamp: f64) -> u64 {
    // The cast saturates, and takes what isn't a number for zero.
    timestamp as u64
}

fn parsed<T: for<'de> Deserialize<'de>>(json: &[u8]) -> Result<T, ReadError> {
    serde_json::from_slice(json).map_err(|source| ReadError::Header { source })
}

fn read_v1(bytes: &[u8]) -> Result<Recording, ReadError> {
    let Frames { header, stdout } = parsed(bytes)?;
    let mut at_us: u64 = 0;
    let mut events = Vec::with_capacity(stdout.len());
    for (delay, text) in stdout {
        at_us = at_us.saturating_add(micros(delay).ok_or(ReadError::Event { line: 1 })?);
        events.push(Event { at_us, kind: EventKind::Output(text.into_bytes()) });
    }
    Ok(Recording { version: 1, header: header.into(), events, is_torn: false, skipped: 0 })
}

fn read_lines(bytes: &[u8], version: u8, header: Header) -> Result<Recording, ReadError> {
    let mut recording = Recording { version, header, events: Vec::new(), is_torn: false, skipped: 0 };
    let mut at_us: u64 = 0;
    for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate().skip(1) {
        let is_whole = line.ends_with(b"\n");
        let line_no = index + 1;
        let parsed = match std::str::from_utf8(line) {
            Err(_) => Err(ReadError::NotUtf8 { line: line_no }),
            Ok(text) => match text.trim() {
                "" => continue,
                comment if version == 3 && comment.starts_with('#') => continue,
                text => event(text, version).ok_or(ReadError::Event { line: line_no }),
            },
        };
        match parsed {
            Ok((time_us, kind)) => {
                at_us = if version == 3 { at_us.saturating_add(time_us) } else { at_us.max(time_us) };
                match kind {
                    Some(kind) => recording.events.push(Event { at_us, kind }),
                    None => recording.skipped += 1,
                }
            }
            // The recorder was stopped in the middle of a line.
            Err(_) if !is_whole => recording.is_torn = true,
            Err(error) => return Err(error),
        }
    }
    Ok(recording)
}

/// The event's time, and its kind unless the code is unknown to the version. `None` for what is no event.
fn event(line: &str, version: u8) -> Option<(u64, Option<EventKind>)> {
    let (time, code, data): (f64, String, Value) = serde_json::from_str(line).ok()?;
    let time_us = micros(time)?;
    // As the reference reader does: the first character counts.
    let kind = match code.chars().next()? {
        'o' => EventKind::Output(data.as_str()?.as_bytes().to_vec()),
        'i' => EventKind::Input(data.as_str()?.as_bytes().to_vec()),
        'r' => {
            let (cols, rows) = data.as_str()?.split_once('x')?;
            EventKind::Resize(cols.parse().ok()?, rows.parse().ok()?)
        }
        'm' => EventKind::Marker(data.as_str()?.to_owned()),
        'x' if version == 3 => EventKind::Exit(data.as_str()?.parse().ok()?),
        _ => return Some((time_us, None)),
    };
    Some((time_us, Some(kind)))
}

/// Whole microseconds; `None` for negative times.
fn micros(seconds: f64) -> Option<u64> {
    // The cast saturates; JSON has no NaN.
    (seconds >= 0.0).then(|| (seconds * 1e6).round() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{v2, v3};
    use super::*;

    fn written_v3(header: &Header, events: &[Event]) -> String {
        let mut writer = v3::Writer::new();
        let mut text = v3::header(header);
        events.iter().for_each(|event| text += &writer.event(event));
        text + &writer.finish()
    }

    fn written_v2(header: &Header, events: &[Event]) -> String {
        let mut writer = v2::Writer::new();
        let mut text = v2::header(header);
        events.iter().for_each(|event| text += &writer.event(event));
        text + &writer.finish()
    }

    #[test]
    fn the_vector_of_the_format_page() {
        let text = "{\"version\":3,\"term\":{\"cols\":80,\"rows\":24},\"future\":[1]}\n[0.250, \"o\", \"$ \"]\n\n\
            [1.000, \"i\", \"i\"]\n# seg 1\n[0.050, \"out\", \"i\"]\n[0.7, \"r\", \"100x30\"]\n[0, \"z\", {}]\n\
            [0.100, \"x\", \"0\"]\n[0.5, \"o\", \"to";
        let recording = read(text.as_bytes()).unwrap();
        assert_eq!((recording.is_torn, recording.skipped), (true, 1));
        assert_eq!(
            recording.events.iter().map(|event| event.at_us).collect::<Vec<_>>(),
            [250_000, 1_250_000, 1_300_000, 2_000_000, 2_100_000]
        );
        assert_eq!(recording.events[2].kind, EventKind::Output(b"i".to_vec()));
        assert_eq!(recording.events[4].kind, EventKind::Exit(0));
    }

    #[test]
    fn a_last_line_torn_within_a_character_is_left_out() {
        let recording = read(b"{\"version\":2,\"width\":1,\"height\":1}\n[0, \"o\", \"\xe2\x82").unwrap();
        assert!(recording.is_torn && recording.events.is_empty());
    }

    #[test]
    fn malformed_recordings_are_refused() {
        for (text, message) in [
            ("", "the recording is empty"),
            ("\n \n", "the recording is empty"),
            ("{", "the recording's header is malformed"),
            ("{\"version\":9}", "asciicast version 9 is not known"),
            ("{\"version\":2,\"width\":70000,\"height\":1}", "the recording's header is malformed"),
            ("{\"version\":3}", "the recording's header is malformed"),
            ("{\"version\":2,\"width\":1,\"height\":1}\n[-1, \"o\", \"\"]\n", "line 2 is no event"),
            ("{\"version\":2,\"width\":1,\"height\":1}\n# no comments here\n", "line 2 is no event"),
            ("{\"version\":3,\"term\":{\"cols\":1,\"rows\":1}}\n\n[1, \"r\", \"x\"]\n", "line 3 is no event"),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn the_reference_recordings_round_trip() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpora/asciicast");
        let Ok(files) = std::fs::read_dir(folder) else {
            println!("skipped: no corpora");
            return;
        };
        let mut count = 0;
        for file in files {
            let path = file.unwrap().path();
            if !path.extension().is_some_and(|extension| extension == "cast" || extension == "json") {
                continue;
            }
            count += 1;
            let name = path.display().to_string();
            let original = read(&std::fs::read(&path).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!original.events.is_empty() && !original.is_torn && original.skipped == 0, "{name}");

            let again = read(written_v2(&original.header, &original.events).as_bytes()).unwrap();
            assert_eq!(again.events, original.events, "{name}: v2 keeps everything");
            let term_type = original.header.env.get("TERM").cloned();
            assert_eq!(again.header, Header { term_type, ..original.header.clone() }, "{name}");

            let again = read(written_v3(&original.header, &original.events).as_bytes()).unwrap();
            assert_eq!(again.header, original.header, "{name}");
            assert_eq!(again.events.len(), original.events.len(), "{name}");
            for (ours, theirs) in again.events.iter().zip(&original.events) {
                assert_eq!(ours.kind, theirs.kind, "{name}");
                assert!(ours.at_us.abs_diff(theirs.at_us) <= 500, "{name}: {ours:?} {theirs:?}");
            }
        }
        assert!(count >= 10, "the corpus has ten recordings, {count} read");
    }

    fn kinds() -> impl Strategy<Value = EventKind> {
        prop_oneof![
            ".{1,8}".prop_map(|text| EventKind::Output(text.into_bytes())),
            ".{1,8}".prop_map(|text| EventKind::Input(text.into_bytes())),
            (any::<u16>(), any::<u16>()).prop_map(|(cols, rows)| EventKind::Resize(cols, rows)),
            ".{0,8}".prop_map(EventKind::Marker),
            any::<i32>().prop_map(EventKind::Exit),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(gaps in prop::collection::vec((0u64..3_000_000_000, kinds()), 0..20)) {
            let mut at_us = 0;
            let events: Vec<Event> = gaps.into_iter().map(|(gap, kind)| { at_us += gap; Event { at_us, kind } }).collect();
            let header = Header { cols: 80, rows: 24, ..Header::default() };
            let v3 = read(written_v3(&header, &events).as_bytes()).unwrap();
            prop_assert_eq!(v3.events.len(), events.len());
            for (ours, theirs) in v3.events.iter().zip(&events) {
                prop_assert_eq!(&ours.kind, &theirs.kind);
                prop_assert!(ours.at_us.abs_diff(theirs.at_us) <= 500);
            }
            let v2 = read(written_v2(&header, &events).as_bytes()).unwrap();
            for (ours, theirs) in v2.events.iter().zip(&events) {
                match theirs.kind {
                    EventKind::Exit(code) => prop_assert_eq!(&ours.kind, &EventKind::Marker(format!("exit {code}"))),
                    _ => prop_assert_eq!(ours, theirs),
                }
            }
        }

        #[test]
        fn a_reader_never_panics(text in "(\\{\"version\":[123],\"width\":1,\"height\":1,\"term\":\\{\"cols\":1,\"rows\":1\\}\\}\n)?.{0,40}") {
            let _ = read(text.as_bytes());
        }

        #[test]
        fn cut_anywhere_it_is_still_read(cut in 44usize..200) {
            let header = Header { cols: 80, rows: 24, ..Header::default() };
            let events: Vec<Event> = (0..6).map(|n| Event { at_us: n, kind: EventKind::Output("zażółć".into()) }).collect();
            let text = written_v3(&header, &events);
            let read = read(&text.as_bytes()[..cut.min(text.len())]).unwrap();
            prop_assert!(events.len() >= read.events.len());
        }
    }
}
