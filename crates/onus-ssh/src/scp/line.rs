//! The protocol's lines and answers, strictly read, and written anew.

use bytes::{Buf, Bytes, BytesMut};

/// The longest line or message taken. OpenSSH cuts lines at 2047 bytes and reads the rest as another line.
const MAX_LINE: usize = 1536;
/// The longest file name of common file systems.
const MAX_NAME: usize = 255;

/// One side broke the copy protocol; the channel can't go on. [`fatal`] tells the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScpViolation {
    /// No line of the protocol.
    #[error("the client sent a malformed scp line")]
    ClientLine,
    /// A line without an end.
    #[error("the client sent an scp line that is too long")]
    ClientLength,
    /// An empty name, one with a slash or a NUL, `.` or `..`: it would lead out of the target.
    #[error("the client sent a file name that leads elsewhere")]
    ClientName,
    /// The end of a directory that wasn't begun, or one nested too deep.
    #[error("the client left a directory that it had not entered, or entered too many")]
    Nesting,
    /// A directory without `-r`.
    #[error("the client sent a directory in a copy that is not recursive")]
    NotRecursive,
    /// No line or answer of the protocol.
    #[error("the upstream sent a malformed scp line")]
    UpstreamLine,
    /// A name that was not asked for, or leads elsewhere.
    #[error("the upstream sent a file name that was not asked for")]
    UpstreamName,
    /// Something when nothing of it was due.
    #[error("the upstream spoke out of turn in the scp protocol")]
    OutOfTurn,
}

/// The last word to a client: its `scp` shows the text and ends.
pub fn fatal(text: &str) -> Bytes {
    message(2, text)
}

/// An error that the client's `scp` shows before it goes on with the next file.
pub(super) fn error(text: &str) -> Bytes {
    message(1, text)
}

fn message(kind: u8, text: &str) -> Bytes {
    let mut bytes = vec![kind];
    bytes.extend(text.chars().filter(|c| !c.is_control()).take(400).collect::<String>().bytes());
    bytes.push(b'\n');
    bytes.into()
}

/// A line that announces something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    File {
        mode: u32,
        size: u64,
        name: Bytes,
    },
    Directory {
        mode: u32,
        name: Bytes,
    },
    Leave,
    /// Modification and access times, written anew.
    Times(String),
    /// The peer tells of an error; fatal or not.
    Error {
        fatal: bool,
    },
}

/// Why there is no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoLine {
    More,
    TooLong,
    Malformed,
    Name,
}

/// Cuts a line off the buffer, and gives it and its bytes.
pub(super) fn cut(buffer: &mut BytesMut) -> Result<(Line, Bytes), NoLine> {
    let end = match buffer.iter().take(MAX_LINE).position(|&byte| byte == b'\n') {
        Some(end) => end,
        None if buffer.len() >= MAX_LINE => return Err(NoLine::TooLong),
        None => return Err(NoLine::More),
    };
    let bytes = buffer.split_to(end + 1).freeze();
    let line = read(&bytes.slice(..end))?;
    Ok((line, bytes))
}

fn read(line: &Bytes) -> Result<Line, NoLine> {
    let (&kind, rest) = line.split_first().ok_or(NoLine::Malformed)?;
    match kind {
        b'C' | b'D' => {
            let (mode, size, name) = announced(rest).ok_or(NoLine::Malformed)?;
            let forbidden = name.is_empty() || name.len() > MAX_NAME || name == b"." || name == b"..";
            if forbidden || name.contains(&b'/') || name.contains(&0) {
                return Err(NoLine::Name);
            }
            let name = line.slice(line.len() - name.len()..);
            if kind == b'C' {
                return Ok(Line::File { mode, size, name });
            }
            if size != 0 { Err(NoLine::Malformed) } else { Ok(Line::Directory { mode, name }) }
        }
        b'E' if rest.is_empty() => Ok(Line::Leave),
        b'T' => times(rest).map(Line::Times).ok_or(NoLine::Malformed),
        1 => Ok(Line::Error { fatal: false }),
        2 => Ok(Line::Error { fatal: true }),
        _ => Err(NoLine::Malformed),
    }
}

/// `0644 size name`, with four octal digits.
fn announced(rest: &[u8]) -> Option<(u32, u64, &[u8])> {
    let (mode, rest) = rest.split_at_checked(4)?;
    if !mode.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return None;
    }
    let mode = mode.iter().fold(0, |mode, digit| mode * 8 + u32::from(digit - b'0'));
    let rest = rest.strip_prefix(b" ")?;
    let space = rest.iter().position(|&byte| byte == b' ')?;
    let size = number(&rest[..space]).filter(|&size| i64::try_from(size).is_ok())?;
    Some((mode, size, &rest[space + 1..]))
}

fn times(rest: &[u8]) -> Option<String> {
    let mut numbers = rest.split(|&byte| byte == b' ').map(number);
    let line = [numbers.next()??, numbers.next()??, numbers.next()??, numbers.next()??];
    let [modified, micros, accessed, more] = line;
    if numbers.next().is_some() || micros > 999_999 || more > 999_999 {
        return None;
    }
    i64::try_from(modified.max(accessed)).ok()?;
    Some(format!("T{modified} {micros} {accessed} {more}\n"))
}

/// Decimal digits and nothing else.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// What one side says to a line or to content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Good,
    /// With its bytes.
    Bad(Bytes),
}

/// Cuts an answer off the buffer; `Ok(None)` when it isn't complete, `Err` when it isn't one.
pub(super) fn answer(buffer: &mut BytesMut) -> Result<Option<Answer>, ()> {
    match buffer.first() {
        None => Ok(None),
        Some(0) => {
            buffer.advance(1);
            Ok(Some(Answer::Good))
        }
        Some(1 | 2) => match buffer.iter().take(MAX_LINE).position(|&byte| byte == b'\n') {
            Some(end) => Ok(Some(Answer::Bad(buffer.split_to(end + 1).freeze()))),
            None if buffer.len() >= MAX_LINE => Err(()),
            None => Ok(None),
        },
        Some(_) => Err(()),
    }
}
