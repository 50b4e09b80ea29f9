//! The line a person types in the governed shell: keys in, bytes for their terminal out, accepted lines to the caller.
//!
//! Sans I/O: it owns no terminal and runs nothing. Nothing that is pasted between paste brackets is accepted without a
//! key of its own, no control character becomes part of a line (save the newlines of a pasted or continued one), and
//! whatever others wrote is shown through [`visible`]. It knows the terminal's width and not its height: input taller
//! than the screen is redrawn wrongly above the screen's top. Character widths are Unicode's; terminals that join
//! emoji sequences show those narrower than assumed.

mod buffer;
mod history;
mod layout;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use unicode_width::UnicodeWidthStr as _;

use self::buffer::{Buffer, is_mark};
use self::history::History;
use self::layout::lay_out;
use crate::keys::{Key, KeyParser};
use crate::visible::{is_hidden, visible};

/// The most bytes of one line, with what it continues.
pub const LINE_BOUND: usize = 64 * 1024;

/// The most keys held while the editor is paused.
const AHEAD_BOUND: usize = 64 * 1024;

/// The most characters of a search.
const QUERY_BOUND: usize = 256;

/// The most candidates listed.
const LISTED_BOUND: usize = 200;

const BELL: u8 = 0x07;
const PASTE_ON: &[u8] = b"\x1b[?2004h";
const PASTE_OFF: &[u8] = b"\x1b[?2004l";

/// What the person asks of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// A line was accepted. The editor is paused until [`Editor::resume`], or [`Editor::continue_with`] when the line
    /// is incomplete. Without trailing newlines; inner ones where it was pasted or continued.
    Line(String),
    /// Ctrl-C. While editing, the line was dropped and the prompt is shown again; while paused, it is meant for
    /// whatever runs.
    Interrupt,
    /// Ctrl-D on an empty line. The editor is paused.
    EndOfFile,
    /// Tab: what could stand at the cursor (a byte offset)? The editor waits for [`Editor::complete`].
    Complete {
        /// The line, without what it continues.
        line: String,
        /// Where the cursor is.
        cursor: usize,
    },
}

/// A line editor with Emacs keys, history and bracketed paste.
///
/// Keys that come while the editor waits for its caller are held and take effect when it goes on, so of the edits
/// that need an answer (`Line`, `EndOfFile`, `Complete`) there is at most one in a result, and the calls that answer
/// give edits again. A paused editor expects the terminal's cursor in the first column when it is resumed.
pub struct Editor {
    prompt: String,
    continuation: Option<String>,
    width: usize,
    mode: Mode,
    buffer: Buffer,
    /// Accepted lines that the one being edited continues, each with its newline.
    before: String,
    accepted: Option<Accepted>,
    history: History,
    killed: String,
    keys: KeyParser,
    ahead: VecDeque<Key>,
    ahead_in_paste: bool,
    in_paste: bool,
    after_return: bool,
    drawn: Drawn,
    is_stale: bool,
    has_rung: bool,
}

struct Accepted {
    line: String,
    is_in_history: bool,
}

enum Mode {
    Paused,
    Editing,
    Searching(Search),
    Completing,
}

struct Search {
    query: String,
    /// The line found and the place in it.
    found: Option<(usize, usize)>,
    has_failed: bool,
}

/// Where the terminal's cursor is within the rows drawn.
#[derive(Default)]
struct Drawn {
    row: usize,
    column: usize,
}

impl Editor {
    /// An editor for a terminal of `width` columns (80 when that is 0, as some clients say), paused: begin with
    /// [`resume`](Self::resume) or [`start`](Self::start).
    pub fn new(prompt: &str, width: u16) -> Self {
        Self {
            prompt: visible(prompt),
            continuation: None,
            width: columns(width),
            mode: Mode::Paused,
            buffer: Buffer::default(),
            before: String::new(),
            accepted: None,
            history: History::default(),
            killed: String::new(),
            keys: KeyParser::new(),
            ahead: VecDeque::new(),
            ahead_in_paste: false,
            in_paste: false,
            after_return: false,
            drawn: Drawn::default(),
            is_stale: false,
            has_rung: false,
        }
    }

    /// Shows the first prompt.
    pub fn start(&mut self, out: &mut Vec<u8>) -> Vec<Edit> {
        self.go_on(out)
    }

    /// Takes typed bytes, torn anywhere.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Vec<Edit> {
        let mut edits = Vec::new();
        let mut keys = Vec::new();
        self.has_rung = false;
        for &byte in bytes {
            self.keys.feed(byte, &mut keys);
            for key in keys.drain(..) {
                if self.is_waiting() { self.hold(key, &mut edits) } else { self.key(key, out, &mut edits) }
            }
        }
        self.refresh(out);
        edits
    }

    /// Answers [`Edit::Complete`]: what could replace the word from [`word_start`] to the cursor.
    ///
    /// One candidate replaces it, with a space after it unless it ends in `/` or `=`; of several, what they have in
    /// common does, or they are listed when that adds nothing. Candidates are inserted as they are, so the caller
    /// quotes them; those with hidden characters are left out. Does nothing when no completion was asked for.
    pub fn complete(&mut self, candidates: &[String], out: &mut Vec<u8>) -> Vec<Edit> {
        if !matches!(self.mode, Mode::Completing) {
            return Vec::new();
        }
        self.mode = Mode::Editing;
        self.has_rung = false;
        let candidates: Vec<&str> =
            candidates.iter().map(String::as_str).filter(|candidate| !candidate.contains(is_hidden)).collect();
        let start = word_start(self.buffer.text(), self.buffer.cursor());
        let word = &self.buffer.before()[start..];
        match candidates.as_slice() {
            [] => self.ring(out),
            [only] => {
                let space = if only.ends_with(['/', '=']) { "" } else { " " };
                self.replace_word(start, &format!("{only}{space}"), out);
            }
            [first, others @ ..] => {
                let common = others.iter().fold(*first, |common, other| common_start(common, other));
                if common.len() > word.len() && common.starts_with(word) {
                    self.replace_word(start, common, out);
                } else {
                    let list = listed(&candidates, self.width);
                    self.write_above(&list, out);
                }
            }
        }
        self.catch_up(out)
    }

    /// Answers [`Edit::Line`] when it is incomplete: the next line is shown with `prompt` and continues it.
    pub fn continue_with(&mut self, prompt: &str, out: &mut Vec<u8>) -> Vec<Edit> {
        if let (Mode::Paused, Some(accepted)) = (&self.mode, self.accepted.take()) {
            if accepted.is_in_history {
                self.history.forget_newest();
            }
            self.before = accepted.line + "\n";
            self.continuation = Some(visible(prompt));
        }
        self.go_on(out)
    }

    /// Takes the prompt away and leaves the terminal to something else; the line is kept. Does nothing when paused.
    pub fn pause(&mut self, out: &mut Vec<u8>) {
        if matches!(self.mode, Mode::Paused) {
            return;
        }
        self.leave_search(out);
        self.erase(out);
        out.extend_from_slice(PASTE_OFF);
        // A paste may go on while paused; with keys held, theirs is the last word.
        self.ahead_in_paste |= self.in_paste && self.ahead.is_empty();
        self.mode = Mode::Paused;
    }

    /// Goes on with a new prompt, and with the line that was being edited if [`pause`](Self::pause) interrupted one.
    pub fn resume(&mut self, prompt: &str, out: &mut Vec<u8>) -> Vec<Edit> {
        self.prompt = visible(prompt);
        if self.accepted.take().is_some() {
            self.before.clear();
            self.continuation = None;
        }
        self.go_on(out)
    }

    /// The terminal has another width; redraws.
    ///
    /// Rows that the terminal itself rewrapped may stay above: moving up further could erase what isn't ours.
    pub fn resize(&mut self, width: u16, out: &mut Vec<u8>) {
        self.width = columns(width);
        self.is_stale = true;
        self.refresh(out);
    }

    /// Prints a notice above the line being edited, or at the cursor while paused. Control characters are shown.
    pub fn print_above(&mut self, text: &str, out: &mut Vec<u8>) {
        self.write_above(text, out);
        self.refresh(out);
    }

    /// The text being edited, without what it continues.
    pub fn line(&self) -> &str {
        self.buffer.text()
    }

    /// Where the cursor is in [`line`](Self::line), in bytes.
    pub fn cursor(&self) -> usize {
        self.buffer.cursor()
    }

    /// Whether the editor waits for its caller.
    pub fn is_waiting(&self) -> bool {
        matches!(self.mode, Mode::Paused | Mode::Completing)
    }

    /// Accepted lines, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &str> {
        self.history.lines()
    }

    /// Puts a line into the history, as if it had been accepted; not when it holds hidden characters.
    pub fn remember(&mut self, line: &str) {
        if !line.contains(|c| is_hidden(c) && c != '\n') {
            self.history.push(line);
        }
    }

    fn go_on(&mut self, out: &mut Vec<u8>) -> Vec<Edit> {
        match self.mode {
            Mode::Paused => {
                out.extend_from_slice(PASTE_ON);
                self.mode = Mode::Editing;
                self.drawn = Drawn::default();
            }
            Mode::Completing => self.mode = Mode::Editing,
            Mode::Editing | Mode::Searching(_) => {}
        }
        self.accepted = None;
        self.is_stale = true;
        self.catch_up(out)
    }

    /// Lets the held keys take effect.
    fn catch_up(&mut self, out: &mut Vec<u8>) -> Vec<Edit> {
        let mut edits = Vec::new();
        self.refresh(out);
        while !self.is_waiting() {
            let Some(key) = self.ahead.pop_front() else {
                self.ahead_in_paste = false;
                break;
            };
            self.key(key, out, &mut edits);
        }
        self.refresh(out);
        edits
    }

    /// Keeps a key for later. Paste brackets are always kept in balance: a paste must not lose its start and so its
    /// newlines become keys.
    fn hold(&mut self, key: Key, edits: &mut Vec<Edit>) {
        match key {
            Key::PasteStart if self.ahead_in_paste => {}
            Key::PasteStart => {
                self.ahead_in_paste = true;
                self.ahead.push_back(key);
            }
            Key::PasteEnd if !self.ahead_in_paste => {}
            Key::PasteEnd => {
                self.ahead_in_paste = false;
                if self.ahead.back() == Some(&Key::PasteStart) {
                    self.ahead.pop_back();
                } else {
                    self.ahead.push_back(key);
                }
            }
            Key::Control(3) if !self.ahead_in_paste && matches!(self.mode, Mode::Paused) => {
                self.ahead.clear();
                edits.push(Edit::Interrupt);
            }
            _ if self.ahead.len() < AHEAD_BOUND => self.ahead.push_back(key),
            _ => {}
        }
    }

    fn key(&mut self, key: Key, out: &mut Vec<u8>, edits: &mut Vec<Edit>) {
        if self.in_paste {
            return self.pasted(key, out);
        }
        if matches!(self.mode, Mode::Searching(_)) && self.search_key(key, out) {
            return;
        }
        match key {
            Key::Char(c) => self.typed(c, out),
            Key::Control(byte) => self.control(byte, out, edits),
            Key::Left => self.moved(Buffer::left),
            Key::Right => self.moved(Buffer::right),
            Key::Home => self.moved(Buffer::home),
            Key::End => self.moved(Buffer::end),
            Key::WordLeft | Key::Alt('b') => self.moved(Buffer::word_left),
            Key::WordRight | Key::Alt('f') => self.moved(Buffer::word_right),
            Key::Up => self.older(out),
            Key::Down => self.newer(out),
            Key::Delete => self.changed(Buffer::delete, out),
            Key::Alt('d') => self.kill(Buffer::cut_word_after),
            Key::Alt('\u{7f}') => self.kill(Buffer::cut_word_before),
            Key::PasteStart => {
                self.in_paste = true;
                self.after_return = false;
            }
            Key::PasteEnd | Key::Alt(_) | Key::Other => {}
        }
    }

    fn control(&mut self, byte: u8, out: &mut Vec<u8>, edits: &mut Vec<Edit>) {
        match byte {
            b'\r' | b'\n' => self.accept(out, edits),
            b'\t' => {
                self.refresh(out);
                self.mode = Mode::Completing;
                let (line, cursor) = (self.buffer.text().to_owned(), self.buffer.cursor());
                edits.push(Edit::Complete { line, cursor });
            }
            0x01 => self.moved(Buffer::home),
            0x02 => self.moved(Buffer::left),
            0x03 => {
                self.leave(b"^C", out);
                self.drop_line();
                self.is_stale = true;
                edits.push(Edit::Interrupt);
            }
            0x04 if self.buffer.text().is_empty() => {
                self.leave(b"", out);
                out.extend_from_slice(PASTE_OFF);
                self.drop_line();
                self.mode = Mode::Paused;
                edits.push(Edit::EndOfFile);
            }
            0x04 => self.changed(Buffer::delete, out),
            0x05 => self.moved(Buffer::end),
            0x06 => self.moved(Buffer::right),
            0x08 | 0x7f => self.changed(Buffer::backspace, out),
            0x0b => self.kill(Buffer::cut_to_end),
            0x0c => {
                out.extend_from_slice(b"\x1b[H\x1b[2J");
                self.drawn = Drawn::default();
                self.is_stale = true;
            }
            0x0e => self.newer(out),
            0x10 => self.older(out),
            0x12 => {
                self.mode = Mode::Searching(Search { query: String::new(), found: None, has_failed: false });
                self.is_stale = true;
            }
            0x14 => self.changed(Buffer::transpose, out),
            0x15 => self.kill(Buffer::cut_to_start),
            0x17 => self.kill(Buffer::cut_blank_word),
            0x19 => {
                let killed = std::mem::take(&mut self.killed);
                self.insert_text(&killed, out);
                self.killed = killed;
            }
            _ => {}
        }
    }

    /// Text, line ends and tabs of a paste; nothing in it is a command, not even an interrupt.
    fn pasted(&mut self, key: Key, out: &mut Vec<u8>) {
        let after_return = std::mem::replace(&mut self.after_return, key == Key::Control(b'\r'));
        match key {
            Key::Char(c) => self.insert(c, out),
            Key::Control(b'\n') if after_return => {}
            Key::Control(b'\r' | b'\n') => self.insert('\n', out),
            Key::Control(b'\t') => self.insert(' ', out),
            Key::PasteEnd => self.in_paste = false,
            _ => {}
        }
    }

    /// A key while searching; false when it ends the search and means something else.
    fn search_key(&mut self, key: Key, out: &mut Vec<u8>) -> bool {
        let Mode::Searching(search) = &mut self.mode else { return false };
        self.is_stale = true;
        let mut from = search.found.map_or(usize::MAX, |(index, _)| index.saturating_add(1));
        match key {
            Key::Char(c) if is_hidden(c) || c == char::REPLACEMENT_CHARACTER => {
                self.ring(out);
                return true;
            }
            Key::Char(c) if search.query.chars().count() < QUERY_BOUND => search.query.push(c),
            Key::Char(_) => {
                self.ring(out);
                return true;
            }
            Key::Control(0x08 | 0x7f) => {
                search.query.pop();
                from = usize::MAX;
            }
            // Nothing older: holding the key down isn't to search everything again and again.
            Key::Control(0x12) if search.has_failed => {
                self.ring(out);
                return true;
            }
            Key::Control(0x12) => from = search.found.map_or(usize::MAX, |(index, _)| index),
            Key::Control(0x07) => {
                self.mode = Mode::Editing;
                return true;
            }
            _ => {
                self.leave_search(out);
                return false;
            }
        }
        if search.query.is_empty() {
            search.found = None;
            search.has_failed = false;
            return true;
        }
        let found = self.history.find(&search.query, from);
        search.has_failed = found.is_none();
        // What was found last stays in view, as long as it is what enter would take.
        search.found = found.or(search.found);
        if found.is_none() {
            self.ring(out);
        }
        true
    }

    /// Ends a search with the line it found.
    fn leave_search(&mut self, out: &mut Vec<u8>) {
        let Mode::Searching(search) = &self.mode else { return };
        let found = search.found;
        self.mode = Mode::Editing;
        self.is_stale = true;
        if let Some((index, place)) = found {
            let line = self.history.line(index).to_owned();
            self.history.leave();
            self.recall(Some(line), out);
            self.buffer.move_to(place);
        }
    }

    /// A typed character; at the end of a row with room it is just printed.
    fn typed(&mut self, c: char, out: &mut Vec<u8>) {
        let was_stale = self.is_stale;
        let is_plain = self.buffer.is_at_end() && c.is_ascii_graphic() | (c == ' ');
        let before = self.buffer.cursor();
        self.insert(c, out);
        if is_plain && !was_stale && self.buffer.cursor() > before && self.drawn.column + 1 < self.width {
            self.is_stale = false;
            self.drawn.column += 1;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    /// Inserts one character unless it mustn't be part of a line or there is no room.
    fn insert(&mut self, c: char, out: &mut Vec<u8>) {
        let is_allowed = c == '\n' || !is_hidden(c) && c != char::REPLACEMENT_CHARACTER;
        let has_room = self.before.len() + self.buffer.text().len() + c.len_utf8() <= LINE_BOUND;
        if is_allowed && has_room && self.buffer.insert(c) {
            self.is_stale = true;
        } else {
            self.ring(out);
        }
    }

    fn insert_text(&mut self, text: &str, out: &mut Vec<u8>) {
        text.chars().for_each(|c| self.insert(c, out));
    }

    fn replace_word(&mut self, start: usize, text: &str, out: &mut Vec<u8>) {
        self.buffer.cut(start, self.buffer.cursor());
        self.is_stale = true;
        self.insert_text(text, out);
    }

    fn moved(&mut self, how: fn(&mut Buffer)) {
        how(&mut self.buffer);
        self.is_stale = true;
    }

    fn changed(&mut self, how: fn(&mut Buffer) -> bool, out: &mut Vec<u8>) {
        if how(&mut self.buffer) {
            self.is_stale = true;
        } else {
            self.ring(out);
        }
    }

    fn kill(&mut self, how: fn(&mut Buffer) -> String) {
        let cut = how(&mut self.buffer);
        if !cut.is_empty() {
            self.killed = cut;
            self.is_stale = true;
        }
    }

    fn older(&mut self, out: &mut Vec<u8>) {
        let line = self.history.older(self.buffer.text());
        self.recall(line, out);
    }

    fn newer(&mut self, out: &mut Vec<u8>) {
        let line = self.history.newer();
        self.recall(line, out);
    }

    /// Edits `line` in place of the one there was.
    fn recall(&mut self, line: Option<String>, out: &mut Vec<u8>) {
        match line {
            Some(line) if self.before.len() + line.len() <= LINE_BOUND => {
                self.buffer = Buffer::new(line);
                self.is_stale = true;
            }
            _ => self.ring(out),
        }
    }

    fn accept(&mut self, out: &mut Vec<u8>, edits: &mut Vec<Edit>) {
        self.leave(b"", out);
        out.extend_from_slice(PASTE_OFF);
        let mut line = std::mem::take(&mut self.before) + self.buffer.text();
        line.truncate(line.trim_end_matches('\n').len());
        self.buffer = Buffer::default();
        self.continuation = None;
        let is_in_history = self.history.push(&line);
        self.accepted = Some(Accepted { line: line.clone(), is_in_history });
        self.mode = Mode::Paused;
        edits.push(Edit::Line(line));
    }

    /// Leaves the drawn line as it is, with `mark` after it, for the row below.
    fn leave(&mut self, mark: &[u8], out: &mut Vec<u8>) {
        self.buffer.end();
        self.is_stale = true;
        self.refresh(out);
        out.extend_from_slice(mark);
        out.extend_from_slice(b"\r\n");
        self.drawn = Drawn::default();
    }

    fn drop_line(&mut self) {
        self.buffer = Buffer::default();
        self.before.clear();
        self.continuation = None;
        self.history.leave();
    }

    /// Rings once for each call of the caller's.
    fn ring(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_rung, true) {
            out.push(BELL);
        }
    }

    /// Prints lines where the prompt was; the prompt is to be drawn again.
    fn write_above(&mut self, text: &str, out: &mut Vec<u8>) {
        if !matches!(self.mode, Mode::Paused) {
            self.erase(out);
            self.is_stale = true;
        }
        for line in text.lines() {
            out.extend_from_slice(visible(line).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Takes what was drawn away; the cursor is where it began.
    fn erase(&mut self, out: &mut Vec<u8>) {
        move_by(self.drawn.row, b'A', out);
        out.extend_from_slice(b"\r\x1b[J");
        self.drawn = Drawn::default();
    }

    /// Draws again if anything changed and the terminal is ours.
    fn refresh(&mut self, out: &mut Vec<u8>) {
        if !self.is_stale || matches!(self.mode, Mode::Paused) {
            return;
        }
        self.is_stale = false;
        self.erase(out);
        let (text, cursor) = self.shown();
        let layout = lay_out(&text, cursor, self.width);
        for (index, row) in layout.rows.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(row.as_bytes());
        }
        let last_row = layout.rows.len() - 1;
        let (row, column) = layout.cursor;
        move_by(last_row - row, b'A', out);
        out.push(b'\r');
        move_by(column, b'C', out);
        self.drawn = Drawn { row, column };
    }

    /// What the person sees, and the cursor in it.
    fn shown(&self) -> (String, usize) {
        match &self.mode {
            Mode::Searching(search) => {
                let failed = if search.has_failed { "failed " } else { "" };
                let head = format!("({failed}reverse-i-search)`{}': ", search.query);
                match search.found {
                    Some((index, place)) => {
                        let line = self.history.line(index);
                        let mut buffer = Buffer::new(line.to_owned());
                        buffer.move_to(place);
                        (format!("{head}{line}"), head.len() + buffer.cursor())
                    }
                    None => (head.clone() + self.buffer.text(), head.len() + self.buffer.cursor()),
                }
            }
            _ => {
                let prompt = self.continuation.as_deref().unwrap_or(&self.prompt);
                (format!("{prompt}{}", self.buffer.text()), prompt.len() + self.buffer.cursor())
            }
        }
    }
}

/// Where the word before `cursor` begins: after a blank or an operator (`|&;()<>`) that isn't quoted or escaped.
///
/// What [`Editor::complete`] replaces; an opening quote is part of the word.
pub fn word_start(line: &str, cursor: usize) -> usize {
    let mut start = 0;
    let mut quote = None;
    let mut is_escaped = false;
    for (index, c) in line.get(..cursor).unwrap_or(line).char_indices() {
        if std::mem::take(&mut is_escaped) {
            continue;
        }
        match (quote, c) {
            (None | Some('"'), '\\') => is_escaped = true,
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, '|' | '&' | ';' | '(' | ')' | '<' | '>') => start = index + 1,
            (None, blank) if blank.is_whitespace() => start = index + blank.len_utf8(),
            _ => {}
        }
    }
    start
}

/// What `a` and `b` both begin with, in whole characters.
fn common_start<'a>(a: &'a str, b: &str) -> &'a str {
    let differs = a.char_indices().zip(b.chars()).find(|((_, of_a), of_b)| of_a != of_b);
    let mut end = differs.map_or(a.len().min(b.len()), |((index, _), _)| index);
    // A base character whose marks differ is no common start.
    while a[end..].chars().next().is_some_and(is_mark) || b[end..].chars().next().is_some_and(is_mark) {
        end = a[..end].char_indices().next_back().map_or(0, |(index, _)| index);
        if end == 0 {
            break;
        }
    }
    &a[..end]
}

/// Candidates in columns.
fn listed(candidates: &[&str], width: usize) -> String {
    let widest = candidates.iter().take(LISTED_BOUND).map(|candidate| candidate.width()).max().unwrap_or(0) + 2;
    let per_row = (width / widest).max(1);
    let mut text = String::new();
    for (index, candidate) in candidates.iter().take(LISTED_BOUND).enumerate() {
        text.push_str(candidate);
        if index % per_row == per_row - 1 {
            text.push('\n');
        } else {
            text.extend(std::iter::repeat_n(' ', widest - candidate.width()));
        }
    }
    if candidates.len() > LISTED_BOUND {
        text.push_str(&format!("\n… and {} more", candidates.len() - LISTED_BOUND));
    }
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn move_by(count: usize, direction: u8, out: &mut Vec<u8>) {
    if count > 0 {
        out.extend_from_slice(format!("\x1b[{count}").as_bytes());
        out.push(direction);
    }
}

/// Wide characters need two columns; some clients say none.
fn columns(width: u16) -> usize {
    if width == 0 { 80 } else { usize::from(width.max(2)) }
}
