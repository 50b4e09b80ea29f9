//! Decides which typed input may be kept: what was typed while echo was off never is.
//!
//! The gateway can't see the remote terminal's settings, only what is typed and what comes back. So typed characters
//! wait, and one counts as echoed only when the output that follows begins with it. A line is released for the record
//! only when each of its characters was echoed, in order, with nothing else between; else its text is forgotten and
//! only its length is told.
//!
//! This errs on the side of forgetting: other output between key and echo, typing ahead of a prompt, full-screen
//! programs and editors that redraw in unusual ways lose the text (the screen's own recording still shows it). It can't
//! tell an echo from a program that prints, as the very next thing, exactly what is typed: before the line is ended,
//! or, where a line was pasted in one piece with its end, after.

use std::collections::VecDeque;

use crate::asciicast::EventKind;
use crate::escape::{Scanner, Token};
use crate::keys::{Key, KeyParser};

/// How many characters may still wait for their echo when the line is ended by a key typed later: what a slow link
/// plausibly holds back. Two at most, so that no three characters of a secret can be taken for late ones.
const LATE_BOUND: usize = 2;

/// The most keys of one line that wait, and characters of its text that are kept; beyond, it is forgotten.
const LINE_BOUND: usize = 4096;

/// The most lines that wait; beyond, the oldest is forgotten.
const LINES_BOUND: usize = 64;

/// How much of a flood is looked at, at either end.
const EDGE: usize = 64;

/// What a control sequence may begin with: ESC, or a C1 control by itself or in UTF-8.
const INTRODUCES: [u8; 3] = [0x1b, 0x9b, 0xc2];

/// Typed input that was decided on.
#[derive(Clone, PartialEq, Eq)]
pub enum Typed {
    /// A line each character of which was echoed, and the control byte that ended it (`\r`, `\n`, or that of ctrl-c,
    /// -d, -z, -\); `None` when the session ended before the line did.
    Echoed {
        /// What was typed, after backspaces.
        text: String,
        /// What ended it.
        end: Option<u8>,
    },
    /// The same, but keys were used whose effect only the screen shows (arrows, completion, erasing words): these are
    /// the typed characters that were echoed, not the line that was submitted.
    Edited {
        /// The characters.
        text: String,
        /// What ended it.
        end: Option<u8>,
    },
    /// A line that wasn't, or not wholly, echoed: nothing of it is kept but its length.
    NotEchoed {
        /// How many bytes were typed.
        bytes: usize,
    },
}

/// Lengths only: what was typed stays out of logs.
impl std::fmt::Debug for Typed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Echoed { text, end } => write!(f, "Echoed({} bytes, {end:?})", text.len()),
            Self::Edited { text, end } => write!(f, "Edited({} bytes, {end:?})", text.len()),
            Self::NotEchoed { bytes } => write!(f, "NotEchoed({bytes} bytes)"),
        }
    }
}

impl Typed {
    /// What a recording keeps of it: input, and a marker where it isn't the whole truth.
    pub fn into_kinds(self) -> Vec<EventKind> {
        let input = |text: String, end: Option<u8>| {
            let mut bytes = text.into_bytes();
            bytes.extend(end);
            EventKind::Input(bytes)
        };
        match self {
            Self::Echoed { text, end } => vec![input(text, end)],
            Self::Edited { text, end } => vec![EventKind::Marker("input edited".to_owned()), input(text, end)],
            Self::NotEchoed { bytes } => vec![EventKind::Marker(format!("input not echoed ({bytes} bytes)"))],
        }
    }
}

/// Watches both directions of one terminal.
///
/// Call [`input`](Self::input) before the bytes go to the other side, [`output`](Self::output) with what comes back;
/// each appends what was decided. Has no `Debug`: it holds what was typed.
#[derive(Clone, Default)]
pub struct EchoTracker {
    keys: KeyParser,
    scanner: Scanner,
    /// Lines not decided yet, oldest first; the last may still be typed.
    lines: VecDeque<Line>,
    /// Counts the calls of `input`.
    call: u64,
    screen: Screen,
}

/// What the output side is in the middle of.
#[derive(Clone, Default)]
struct Screen {
    /// An editing key's effect fills the rest of this chunk.
    skips_chunk: bool,
    /// The line end's own echo may go on.
    after_end: bool,
    /// The letter of `^C`, when its caret was seen.
    caret: Option<char>,
    /// Where the three bytes that erase a character are.
    erasing: Erasing,
    /// Text is being shown invisibly (SGR 8).
    conceals: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Erasing {
    #[default]
    No,
    Blank,
    Back,
}

#[derive(Clone, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// What was echoed.
    text: String,
    chars: usize,
    bytes: usize,
    /// How many of the last echoed characters the output's cursor went back over; what it writes there must be them
    /// again (as highlighting editors do), else the echo was hidden.
    back: usize,
    is_edited: bool,
    is_failed: bool,
    end: Option<u8>,
}

#[derive(Clone, Copy)]
struct Waiting {
    want: Want,
    call: u64,
}

/// What the output must begin with for a key to count as echoed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Char(char),
    Erased,
    NewLine,
    /// `^C` or nothing.
    Caret(char),
    /// Anything: the screen shows the effect.
    Anything,
}

impl EchoTracker {
    /// A tracker at the start of a session.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes typed bytes.
    pub fn input(&mut self, bytes: &[u8], out: &mut Vec<Typed>) {
        self.call += 1;
        let mut keys = Vec::new();
        for &byte in bytes {
            if self.lines.back().is_none_or(|line| line.end.is_some()) {
                if self.lines.len() >= LINES_BOUND
                    && let Some(oldest) = self.lines.front_mut()
                {
                    oldest.fail();
                }
                self.settle(out);
                self.lines.push_back(Line::default());
            }
            self.keys.feed(byte, &mut keys);
            let Some(line) = self.lines.back_mut() else { continue };
            line.bytes += 1;
            for key in keys.drain(..) {
                line.typed(key, self.call);
            }
        }
        self.settle(out);
    }

    /// Takes what the other side sent to the terminal.
    pub fn output(&mut self, bytes: &[u8], out: &mut Vec<Typed>) {
        self.screen.skips_chunk = false;
        // A flood while nothing is typed: its middle can neither be an echo nor, without a control sequence in it, change
        // how a later one is shown. What began before may end in its first bytes, and the next thing begins in its last.
        let floods = bytes.len() > 4 * EDGE && self.lines.is_empty() && !bytes.iter().any(|b| INTRODUCES.contains(b));
        let parts = if floods { [&bytes[..EDGE], &bytes[bytes.len() - EDGE..]] } else { [bytes, &[]] };
        let mut scanner = std::mem::take(&mut self.scanner);
        for part in parts {
            scanner.scan(part, |token| {
                if let Some(shown) = self.screen.see(token) {
                    self.shown(shown, out);
                }
            });
        }
        self.scanner = scanner;
    }

    /// Ends the session: decides on what still waits.
    pub fn finish(&mut self, out: &mut Vec<Typed>) {
        while let Some(mut line) = self.lines.pop_front() {
            if line.waiting.iter().any(|waiting| matches!(waiting.want, Want::Char(_) | Want::Erased)) {
                line.fail();
            }
            if line.bytes > 0 {
                out.push(line.decided());
            }
        }
    }

    /// Puts one shown thing beside what waits.
    fn shown(&mut self, shown: Shown, out: &mut Vec<Typed>) {
        let screen = &mut self.screen;
        loop {
            let Some(line) = self.lines.front_mut() else { return };
            if line.is_failed || screen.skips_chunk {
                return;
            }
            if screen.conceals && matches!(shown, Shown::Text(_)) {
                line.fail();
                break;
            }
            match (line.waiting.front().map(|waiting| waiting.want), shown) {
                (Some(Want::Anything), _) => {
                    while line.waiting.front().is_some_and(|waiting| waiting.want == Want::Anything) {
                        line.waiting.pop_front();
                    }
                    screen.skips_chunk = true;
                }
                (Some(Want::Caret(letter)), _) => {
                    line.waiting.pop_front();
                    let decided = line.end.is_some() && line.waiting.is_empty();
                    if decided {
                        out.push(std::mem::take(line).decided());
                        self.lines.pop_front();
                    }
                    match shown {
                        Shown::Text('^') => screen.caret = Some(letter),
                        Shown::Control(b'\r' | b'\n') => screen.after_end = true,
                        // It was echoed as nothing; what is shown belongs to the next key.
                        _ => continue,
                    }
                }
                (_, Shown::Text(c)) if line.back > 0 => line.written_again(c),
                (Some(Want::Char(wanted)), Shown::Text(c)) if wanted == c => line.echoed(c),
                (Some(Want::Erased), Shown::Control(0x08)) => {
                    line.waiting.pop_front();
                    if line.text.pop().is_some() {
                        line.chars -= 1;
                    }
                    line.back = line.back.min(line.chars);
                    screen.erasing = Erasing::Blank;
                }
                (Some(Want::Erased), Shown::Control(0x07)) if line.text.is_empty() => {
                    line.waiting.pop_front();
                }
                (Some(Want::NewLine), Shown::Control(b'\r' | b'\n')) => {
                    screen.after_end = true;
                    out.push(std::mem::take(line).decided());
                    self.lines.pop_front();
                }
                (_, Shown::Control(0x07)) => {}
                (Some(Want::Char(_) | Want::NewLine) | None, Shown::Control(0x08))
                    if !line.is_edited && line.back < line.chars =>
                {
                    line.back += 1;
                }
                (None, Shown::Control(b'\r' | b'\n')) => line.back = 0,
                // Nothing waits: output of its own.
                (None, _) => {}
                (Some(_), _) => line.fail(),
            }
            break;
        }
        self.settle(out);
    }

    /// Releases lines at the front that are forgotten and ended.
    fn settle(&mut self, out: &mut Vec<Typed>) {
        while let Some(line) = self.lines.front_mut()
            && line.is_failed
            && line.end.is_some()
        {
            out.push(std::mem::take(line).decided());
            self.lines.pop_front();
        }
    }
}

impl Line {
    fn typed(&mut self, key: Key, call: u64) {
        let want = match key {
            // Either of these could stand for many bytes.
            Key::Char(char::REPLACEMENT_CHARACTER) => return self.fail(),
            Key::Char(c) => Want::Char(c),
            Key::Control(0x08 | 0x7f) => Want::Erased,
            Key::Control(byte @ (b'\r' | b'\n')) => {
                self.end = Some(byte);
                Want::NewLine
            }
            Key::Control(byte @ (0x03 | 0x04 | 0x1a | 0x1c)) => {
                self.end = Some(byte);
                Want::Caret(char::from(byte + 0x40))
            }
            Key::PasteStart | Key::PasteEnd => return,
            _ => {
                self.is_edited = true;
                self.back = 0;
                Want::Anything
            }
        };
        if self.is_failed {
            return;
        }
        self.waiting.push_back(Waiting { want, call });
        // Whoever types sees the echo before ending the line; an echo that comes only afterwards is a program printing
        // back what it read in silence. What was pasted with its line end in one piece can't be held to that.
        let is_late = |waiting: &&Waiting| matches!(waiting.want, Want::Char(_)) && waiting.call != call;
        if self.waiting.len() > LINE_BOUND
            || self.end.is_some() && self.waiting.iter().filter(is_late).count() > LATE_BOUND
        {
            self.fail();
        }
    }

    fn echoed(&mut self, c: char) {
        self.waiting.pop_front();
        self.text.push(c);
        self.chars += 1;
        if self.chars > LINE_BOUND {
            self.fail();
        }
    }

    /// The output went back and writes again: only the same is no hiding.
    fn written_again(&mut self, c: char) {
        if self.text.chars().rev().nth(self.back - 1) == Some(c) {
            self.back -= 1;
        } else {
            self.fail();
        }
    }

    fn fail(&mut self) {
        self.is_failed = true;
        self.text = String::new();
        self.waiting = VecDeque::new();
        self.chars = 0;
        self.back = 0;
    }

    fn decided(self) -> Typed {
        match (self.is_failed, self.is_edited) {
            (true, _) => Typed::NotEchoed { bytes: self.bytes },
            (false, true) => Typed::Edited { text: self.text, end: self.end },
            (false, false) => Typed::Echoed { text: self.text, end: self.end },
        }
    }
}

/// Output that an echo could consist of. Sequences that only colour, move or switch aren't.
#[derive(Clone, Copy)]
enum Shown {
    Text(char),
    Control(u8),
}

impl Screen {
    /// What `token` shows, unless it belongs to an echo that already counted.
    fn see(&mut self, token: Token<'_>) -> Option<Shown> {
        let erasing = std::mem::take(&mut self.erasing);
        let caret = self.caret.take();
        match token {
            Token::Text(c) if c.is_control() => None,
            Token::Text(' ') if erasing == Erasing::Blank => {
                self.erasing = Erasing::Back;
                None
            }
            Token::Text(c) if caret == Some(c) => {
                self.after_end = true;
                None
            }
            Token::Text(c) => {
                self.after_end = false;
                Some(Shown::Text(c))
            }
            Token::Control(0x08) if erasing == Erasing::Back => None,
            Token::Control(b'\r' | b'\n') if self.after_end => None,
            Token::Control(byte) => Some(Shown::Control(byte)),
            Token::Csi { body, last: b'm' } => {
                self.colour(body);
                None
            }
            Token::Csi { .. } | Token::Escape { .. } | Token::Dropped => None,
        }
    }

    /// Notes whether a select graphic rendition makes text invisible.
    fn colour(&mut self, body: &[u8]) {
        if body.first().is_some_and(|byte| matches!(byte, b'<'..=b'?')) {
            return;
        }
        let mut params = body.split(|&byte| byte == b';');
        while let Some(param) = params.next() {
            // A colour's own numbers aren't attributes.
            if matches!(param, b"38" | b"48" | b"58") {
                let count = match params.next() {
                    Some(b"5") => 1,
                    Some(b"2") => 3,
                    _ => 0,
                };
                params.by_ref().take(count).for_each(drop);
                continue;
            }
            match param.split(|&byte| byte == b':').next().unwrap_or_default() {
                b"" | b"0" | b"00" | b"28" => self.conceals = false,
                b"8" | b"08" => self.conceals = true,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Steps as [`run`] takes them, and the lines released.
    type Case = (&'static [(char, &'static str)], &'static [&'static str]);

    /// `>` typed, `<` shown, in order; gives the lines released, at the end too.
    fn run(steps: &[(char, &str)]) -> Vec<String> {
        let mut tracker = EchoTracker::new();
        let mut out = Vec::new();
        for (direction, bytes) in steps {
            match direction {
                '>' => tracker.input(bytes.as_bytes(), &mut out),
                _ => tracker.output(bytes.as_bytes(), &mut out),
            }
        }
        tracker.finish(&mut out);
        out.into_iter()
            .map(|typed| match typed {
                Typed::Echoed { text, end } => {
                    format!("{text}{}", end.map_or(String::new(), |end| char::from(end).escape_default().to_string()))
                }
                Typed::Edited { text, .. } => format!("edited {text}"),
                Typed::NotEchoed { bytes } => format!("not echoed {bytes}"),
            })
            .collect()
    }

    #[test]
    fn what_is_echoed_is_released() {
        let cases: &[Case] = &[
            (
                &[('<', "$ "), ('>', "l"), ('<', "l"), ('>', "s"), ('<', "s"), ('>', "\r"), ('<', "\r\nfile\r\n$ ")],
                &["ls\\r"],
            ),
            // Pasted in one piece; the echo torn.
            (&[('>', "zażółć\r"), ('<', "za\u{1b}[3"), ('<', "1mżół"), ('<', "ć\u{1b}[0m\r\n")], &["zażółć\\r"]),
            // Bracketed paste.
            (
                &[
                    ('>', "\u{1b}[200~ls\u{1b}[201~"),
                    ('<', "\u{1b}[7mls\u{1b}[27m"),
                    ('>', "\r"),
                    ('<', "\u{1b}[?2004l\r\r\n"),
                ],
                &["ls\\r"],
            ),
            // Several lines into a program that reads them.
            (&[('>', "a\rb\r"), ('<', "a\r\nb\r\n")], &["a\\r", "b\\r"]),
            // Backspace, of a terminal and of an editor.
            (
                &[('>', "lx"), ('<', "lx"), ('>', "\u{7f}"), ('<', "\u{8} \u{8}"), ('>', "s\r"), ('<', "s\r\n")],
                &["ls\\r"],
            ),
            (&[('>', "lx\u{7f}s\r"), ('<', "lx\u{8}\u{1b}[Ks\r\n")], &["ls\\r"]),
            (&[('>', "x\u{7f} y\r"), ('<', "x\u{8} \u{8} y\r\n")], &[" y\\r"]),
            (&[('>', "\u{7f}"), ('<', "\u{7}"), ('>', "a\r"), ('<', "a\r\n")], &["a\\r"]),
            // An editor that highlights goes back and writes the same again.
            (
                &[
                    ('>', "l"),
                    ('<', "l"),
                    ('<', "\u{8}\u{1b}[32ml\u{1b}[0m"),
                    ('>', "s"),
                    ('<', "\u{8}\u{1b}[32mls"),
                    ('>', "\r"),
                    ('<', "\r\n"),
                ],
                &["ls\\r"],
            ),
            // Interrupts.
            (
                &[
                    ('>', "ab"),
                    ('<', "ab"),
                    ('>', "\u{3}"),
                    ('<', "^C\r\n$ "),
                    ('>', "c"),
                    ('<', "c"),
                    ('>', "\r"),
                    ('<', "\r\n"),
                ],
                &["ab\\u{3}", "c\\r"],
            ),
            (&[('>', "\u{4}"), ('<', "logout\r\n")], &["\\u{4}"]),
            (&[('>', "exit\r"), ('<', "exit")], &["exit\\r"]),
        ];
        for (steps, expected) in cases {
            assert_eq!(run(steps), *expected, "{steps:?}");
        }
    }

    #[test]
    fn keys_that_only_the_screen_shows_leave_the_echoed_characters() {
        let arrow = [('>', "\u{1b}[A"), ('<', "ls -l"), ('>', "a"), ('<', "a"), ('>', "\r"), ('<', "\r\n")];
        assert_eq!(run(&arrow), ["edited a"]);
        let tab = [('>', "cd /e"), ('<', "cd /e"), ('>', "\t"), ('<', "tc/"), ('>', "\r"), ('<', "\r\n")];
        assert_eq!(run(&tab), ["edited cd /e"]);
    }

    #[test]
    fn what_is_not_echoed_is_forgotten() {
        let cases: &[Case] = &[
            (
                &[
                    ('<', "Password: "),
                    ('>', "hunter2\r"),
                    ('<', "\r\n$ "),
                    ('>', "ls"),
                    ('<', "ls"),
                    ('>', "\r"),
                    ('<', "\r\n"),
                ],
                &["not echoed 8", "ls\\r"],
            ),
            (&[('>', "hunter2"), ('>', "\r"), ('<', "\r\n")], &["not echoed 8"]),
            // Stars, and the last character shown before its star.
            (&[('>', "abc"), ('<', "***"), ('>', "\r"), ('<', "\r\n")], &["not echoed 4"]),
            (
                &[('>', "a"), ('<', "a"), ('<', "\u{8}*"), ('>', "b"), ('<', "b"), ('>', "\r"), ('<', "\r\n")],
                &["not echoed 3"],
            ),
            // Echo goes off in the middle of a line.
            (&[('>', "abc"), ('<', "abc"), ('>', "secret"), ('>', "\r"), ('<', "\r\n")], &["not echoed 10"]),
            // A program reads in silence and prints what it read.
            (&[('>', "s"), ('>', "e"), ('>', "c"), ('>', "\r"), ('<', "sec\r\n")], &["not echoed 4"]),
            // Echo that can't be seen.
            (&[('<', "\u{1b}[8m"), ('>', "sec"), ('<', "sec"), ('>', "\r"), ('<', "\r\n")], &["not echoed 4"]),
            (&[('<', "\u{1b}[38;5;8m"), ('>', "seen"), ('<', "seen"), ('>', "\r"), ('<', "\r\n")], &["seen\\r"]),
            // Output of something else comes between.
            (&[('>', "ab"), ('<', "a*b"), ('>', "\r"), ('<', "\r\n")], &["not echoed 3"]),
            // The secret's characters in another order, or only some of them.
            (&[('>', "abcd\r"), ('<', "acbd\r\n")], &["not echoed 5"]),
            (&[('>', "abcd\r"), ('<', "abc\r\n")], &["not echoed 5"]),
            (&[('>', "abcd")], &["not echoed 4"]),
            (&[('>', "sec\u{7f}\u{7f}ret\r"), ('<', "\r\n")], &["not echoed 9"]),
            (&[('>', "\u{1b}[Asecret\r"), ('<', "\r\n"), ('<', "welcome\r\n")], &["not echoed 10"]),
            (&[('>', "\u{1b}]secret\u{7}x\r"), ('<', "\r\n"), ('<', "\r\n")], &["not echoed 11"]),
        ];
        for (steps, expected) in cases {
            assert_eq!(run(steps), *expected, "{steps:?}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut tracker = EchoTracker::new();
        let mut out = Vec::new();
        for _ in 0..1000 {
            tracker.input(&[b'j'; 1000], &mut out);
        }
        assert!(tracker.lines.len() == 1 && tracker.lines[0].waiting.capacity() == 0);
        for _ in 0..1000 {
            tracker.input(b"a\r", &mut out);
        }
        assert!(tracker.lines.len() <= LINES_BOUND);
    }

    #[test]
    fn what_a_recording_keeps() {
        assert_eq!(
            Typed::NotEchoed { bytes: 8 }.into_kinds(),
            [EventKind::Marker("input not echoed (8 bytes)".to_owned())]
        );
        let typed = Typed::Echoed { text: "ls".to_owned(), end: Some(b'\r') };
        assert_eq!(format!("{typed:?}"), "Echoed(2 bytes, Some(13))");
        assert_eq!(typed.into_kinds(), [EventKind::Input(b"ls\r".to_vec())]);
    }

    #[derive(Debug, Clone)]
    enum Act {
        /// Type so many characters, each one no other key ever is.
        Type(usize),
        Enter,
        Backspace,
        Tab,
        Arrow,
        Interrupt,
        /// Let so many bytes reach the remote terminal.
        Arrive(usize),
        /// Let so many bytes of output come back.
        Return(usize),
        EchoOff,
        EchoOn,
        Background(&'static str),
        /// A program prints a piece of what was typed lately.
        Repeat(usize, usize),
        /// A program prints the last line it read.
        Reveal,
    }

    fn acts() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (1usize..6).prop_map(Act::Type),
            3 => Just(Act::Enter),
            1 => Just(Act::Backspace),
            1 => Just(Act::Tab),
            1 => Just(Act::Arrow),
            1 => Just(Act::Interrupt),
            6 => (1usize..40).prop_map(Act::Arrive),
            6 => (1usize..40).prop_map(Act::Return),
            2 => Just(Act::EchoOff),
            1 => Just(Act::EchoOn),
            1 => prop::sample::select(vec!["$ ", "\r\n", "\u{8}", "\u{1b}[32m", "\u{7}", "warn", "\u{8} \u{8}"]).prop_map(Act::Background),
            1 => (0usize..6, 1usize..3).prop_map(|(from, count)| Act::Repeat(from, count)),
            1 => Just(Act::Reveal),
        ]
    }

    /// Text typed while echo was on or off, told apart by where it arrived: a simulated terminal in between.
    fn simulate(acts: &[Act]) -> (Vec<Typed>, Vec<char>, String) {
        let mut tracker = EchoTracker::new();
        let mut out = Vec::new();
        let (mut there, mut back): (VecDeque<u8>, VecDeque<u8>) = Default::default();
        let (mut echo, mut next, mut typed) = (true, 0x4e00u32, Vec::<char>::new());
        let (mut silent, mut line, mut read) = (Vec::new(), String::new(), String::new());
        let mut remote = KeyParser::new();
        for act in acts {
            let mut input = Vec::new();
            match act {
                Act::Type(count) => {
                    for _ in 0..*count {
                        let c = char::from_u32(next).unwrap();
                        next += 1;
                        typed.push(c);
                        input.extend_from_slice(c.to_string().as_bytes());
                    }
                }
                Act::Enter => input.push(b'\r'),
                Act::Backspace => input.push(0x7f),
                Act::Tab => input.push(b'\t'),
                Act::Arrow => input.extend_from_slice(b"\x1b[D"),
                Act::Interrupt => input.push(3),
                Act::Arrive(count) => {
                    let mut keys = Vec::new();
                    let count = (*count).min(there.len());
                    there.drain(..count).for_each(|byte| remote.feed(byte, &mut keys));
                    for key in keys {
                        let shown = match key {
                            Key::Char(c) => {
                                line.push(c);
                                if !echo {
                                    silent.push(c);
                                }
                                c.to_string()
                            }
                            Key::Control(b'\r') => {
                                read = std::mem::take(&mut line);
                                "\r\n".to_owned()
                            }
                            Key::Control(3) => {
                                line.clear();
                                "^C\r\n$ ".to_owned()
                            }
                            Key::Control(0x7f) => line.pop().map_or(String::new(), |_| "\u{8} \u{8}".to_owned()),
                            Key::Control(b'\t') => "completed".to_owned(),
                            _ => "\u{8}".to_owned(),
                        };
                        if echo {
                            back.extend(shown.bytes());
                        }
                    }
                }
                Act::Return(count) => {
                    let count = (*count).min(back.len());
                    let bytes: Vec<u8> = back.drain(..count).collect();
                    tracker.output(&bytes, &mut out);
                }
                Act::EchoOff => echo = false,
                Act::EchoOn => echo = true,
                Act::Background(text) => back.extend(text.bytes()),
                Act::Repeat(from, count) => {
                    let text: String = typed.iter().rev().skip(*from).take(*count).rev().collect();
                    back.extend(text.bytes());
                }
                Act::Reveal => back.extend(format!("{read}\r\n").bytes()),
            }
            tracker.input(&input, &mut out);
            there.extend(input);
        }
        tracker.finish(&mut out);
        let kept = out
            .iter()
            .filter_map(|typed| match typed {
                Typed::Echoed { text, .. } | Typed::Edited { text, .. } => Some(format!("{text}\n")),
                Typed::NotEchoed { .. } => None,
            })
            .collect();
        (out, silent, kept)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn no_three_characters_typed_in_silence_are_kept(acts in prop::collection::vec(acts(), 1..60)) {
            let (_, silent, kept) = simulate(&acts);
            let kept: Vec<char> = kept.chars().collect();
            for run in kept.windows(3) {
                prop_assert!(!run.iter().all(|c| silent.contains(c)), "kept {run:?} of {silent:?}");
            }
        }

        #[test]
        fn everything_typed_is_kept_where_all_is_echoed_at_once(lines in prop::collection::vec("[a-z ż]{0,12}", 1..8)) {
            let mut tracker = EchoTracker::new();
            let mut out = Vec::new();
            for line in &lines {
                tracker.output("$ ".as_bytes(), &mut out);
                for c in line.chars() {
                    tracker.input(c.to_string().as_bytes(), &mut out);
                    tracker.output(c.to_string().as_bytes(), &mut out);
                }
                tracker.input(b"\r", &mut out);
                tracker.output(b"\r\nsome output\r\n", &mut out);
            }
            let expected: Vec<Typed> = lines.into_iter().map(|text| Typed::Echoed { text, end: Some(b'\r') }).collect();
            prop_assert!(out == expected);
        }

        #[test]
        fn never_panics(chunks in prop::collection::vec((any::<bool>(), prop::collection::vec(
            prop_oneof![any::<u8>(), Just(8), Just(b'a'), Just(b'\r'), Just(0x1b), Just(b'['), Just(0x7f), Just(3)], 0..8)), 0..40))
        {
            let mut tracker = EchoTracker::new();
            let mut out = Vec::new();
            for (is_input, bytes) in chunks {
                if is_input { tracker.input(&bytes, &mut out) } else { tracker.output(&bytes, &mut out) }
            }
            tracker.finish(&mut out);
        }
    }
}
