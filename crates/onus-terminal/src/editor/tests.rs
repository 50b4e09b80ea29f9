//! The editor against a terminal: keys in, and what a person sees compared with what they edit.

use proptest::prelude::*;
use unicode_width::UnicodeWidthChar as _;

use super::*;

/// A terminal of a given width and endless height.
struct Grid {
    width: usize,
    rows: Vec<Vec<String>>,
    row: usize,
    column: usize,
    wraps_next: bool,
    bells: usize,
    takes_pastes: bool,
    parser: vte::Parser,
}

impl Grid {
    fn new(width: usize) -> Self {
        let rows = vec![Vec::new()];
        let parser = vte::Parser::new();
        Self { width, rows, row: 0, column: 0, wraps_next: false, bells: 0, takes_pastes: false, parser }
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut parser = std::mem::take(&mut self.parser);
        parser.advance(self, bytes);
        self.parser = parser;
    }

    fn down(&mut self) {
        self.row += 1;
        if self.row == self.rows.len() {
            self.rows.push(Vec::new());
        }
    }

    /// Rows from `first` on, blanks at the ends trimmed.
    fn seen(&self, first: usize) -> Vec<String> {
        let mut rows: Vec<String> = self.rows[first..].iter().map(|row| row.concat().trim_end().to_owned()).collect();
        while rows.len() > 1 && rows.last().is_some_and(String::is_empty) {
            rows.pop();
        }
        rows
    }
}

impl vte::Perform for Grid {
    fn print(&mut self, c: char) {
        let cells = c.width().unwrap_or(0);
        if cells == 0 {
            let column = if self.wraps_next { self.width - 1 } else { self.column.saturating_sub(1) };
            let row = &mut self.rows[self.row];
            let column = if row.get(column).is_some_and(String::is_empty) { column - 1 } else { column };
            if let Some(cell) = row.get_mut(column) {
                cell.push(c);
            }
            return;
        }
        if self.wraps_next || self.column + cells > self.width {
            self.column = 0;
            self.wraps_next = false;
            self.down();
        }
        let end = self.column + cells;
        let row = &mut self.rows[self.row];
        if row.len() < end {
            row.resize(end, " ".to_owned());
        }
        row[self.column] = c.to_string();
        if cells == 2 {
            row[self.column + 1] = String::new();
        }
        self.wraps_next = end == self.width;
        self.column = end.min(self.width - 1);
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\r' => (self.column, self.wraps_next) = (0, false),
            b'\n' => {
                self.wraps_next = false;
                self.down();
            }
            7 => self.bells += 1,
            byte => panic!("the editor wrote control {byte:#x}"),
        }
    }

    fn csi_dispatch(&mut self, params: &vte::Params, intermediates: &[u8], _: bool, action: char) {
        let first = params.iter().next().map_or(0, |param| param[0]);
        let count = usize::from(first.max(1));
        self.wraps_next = false;
        match (intermediates, action) {
            (b"", 'A') => self.row = self.row.saturating_sub(count),
            (b"", 'C') => self.column = (self.column + count).min(self.width - 1),
            (b"", 'H') => (self.row, self.column) = (0, 0),
            (b"", 'J') if first == 0 => {
                self.rows[self.row].truncate(self.column);
                self.rows.truncate(self.row + 1);
            }
            (b"", 'J') if first == 2 => self.rows = vec![Vec::new()],
            (b"?", 'h' | 'l') if first == 2004 => self.takes_pastes = action == 'h',
            other => panic!("the editor wrote {other:?}"),
        }
    }

    fn osc_dispatch(&mut self, _: &[&[u8]], _: bool) {
        panic!("the editor wrote an operating system command");
    }

    fn esc_dispatch(&mut self, _: &[u8], _: bool, byte: u8) {
        panic!("the editor wrote escape {byte:#x}");
    }
}

/// What a terminal shows that is given `text` and wraps by itself, and where its cursor stands before byte `cursor`.
fn expected(text: &str, cursor: usize, width: usize) -> (Vec<String>, (usize, usize)) {
    let print = |text: &str| {
        let mut grid = Grid::new(width);
        grid.write(text.replace('\n', "\r\n").as_bytes());
        grid
    };
    let grid = print(&text[..cursor]);
    let next = text[cursor..].chars().next();
    let is_wide = next.is_some_and(|c| c.width() == Some(2));
    let stands = match next {
        Some('\n') => (grid.row, grid.column),
        _ if grid.wraps_next || is_wide && grid.column + 1 == width => (grid.row + 1, 0),
        _ => (grid.row, grid.column),
    };
    (print(text).seen(0), stands)
}

/// An editor at a terminal.
struct Desk {
    editor: Editor,
    grid: Grid,
    edits: Vec<Edit>,
}

impl Desk {
    fn new(width: u16) -> Self {
        let editor = Editor::new("$ ", width);
        let mut desk = Self { editor, grid: Grid::new(usize::from(width)), edits: Vec::new() };
        desk.act(Editor::start);
        desk
    }

    fn act(&mut self, what: impl FnOnce(&mut Editor, &mut Vec<u8>) -> Vec<Edit>) -> &mut Self {
        let mut out = Vec::new();
        let edits = what(&mut self.editor, &mut out);
        self.edits.extend(edits);
        self.grid.write(&out);
        self.check();
        self
    }

    /// Feeds keys; what stands above the prompt must stay, unless they accept, interrupt or clear.
    fn feed(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        let (above, edits) = (self.above(), self.edits.len());
        self.act(|editor, out| editor.feed(bytes, out));
        if self.edits.len() == edits && !bytes.contains(&0x0c) {
            assert_eq!(self.above(), above);
        }
        self
    }

    fn resize(&mut self, width: u16) {
        // A terminal that cuts rows short, as xterm does, and keeps the cursor inside.
        self.grid.width = usize::from(width);
        self.grid.rows.iter_mut().for_each(|row| row.truncate(usize::from(width)));
        self.grid.column = self.grid.column.min(usize::from(width) - 1);
        self.grid.wraps_next = false;
        let above = self.above();
        self.act(|editor, out| {
            editor.resize(width, out);
            Vec::new()
        });
        assert_eq!(self.above(), above);
    }

    fn notice(&mut self, text: &str) {
        self.act(|editor, out| {
            editor.print_above(text, out);
            Vec::new()
        });
    }

    fn pause(&mut self) {
        self.act(|editor, out| {
            editor.pause(out);
            Vec::new()
        });
    }

    /// The rows above the prompt.
    fn above(&self) -> Vec<Vec<String>> {
        self.grid.rows[..self.grid.row - self.editor.drawn.row].to_vec()
    }

    fn resume(&mut self) -> &mut Self {
        self.act(|editor, out| editor.resume("$ ", out))
    }

    /// Types, and answers every accepted line with a new prompt.
    fn run(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.feed(bytes);
        while matches!(self.editor.mode, Mode::Paused) {
            self.resume();
        }
        self
    }

    fn complete(&mut self, candidates: &[&str]) -> &mut Self {
        let candidates: Vec<String> = candidates.iter().map(|candidate| (*candidate).to_owned()).collect();
        self.act(|editor, out| editor.complete(&candidates, out))
    }

    /// What is drawn is what is edited, and nothing is below it.
    fn check(&self) {
        assert!(!self.editor.line().contains(|c| is_hidden(c) && c != '\n'), "{:?}", self.editor.line());
        assert!(self.editor.before.len() + self.editor.line().len() <= LINE_BOUND);
        assert_eq!(self.grid.takes_pastes, !matches!(self.editor.mode, Mode::Paused));
        if matches!(self.editor.mode, Mode::Paused) {
            return;
        }
        let (text, cursor) = self.editor.shown();
        let (rows, (row, column)) = expected(&text, cursor, self.grid.width);
        let first = self.grid.row.checked_sub(row).expect("the cursor is not above the prompt");
        assert_eq!(self.grid.seen(first), rows, "{text:?}");
        assert_eq!((self.grid.row - first, self.grid.column), (row, column), "cursor {cursor} in {text:?}");
    }

    fn lines(&self) -> Vec<&str> {
        self.edits
            .iter()
            .filter_map(|edit| match edit {
                Edit::Line(line) => Some(line.as_str()),
                _ => None,
            })
            .collect()
    }
}

/// Keys fed byte by byte to a wide and a narrow terminal give the line; `|` is the cursor.
fn check(keys: &str, line: &str) {
    for width in [80, 9] {
        let mut desk = Desk::new(width);
        for &byte in keys.as_bytes() {
            desk.run([byte]);
        }
        let mut shown = desk.editor.line().to_owned();
        shown.insert(desk.editor.cursor(), '|');
        assert_eq!(shown, line, "{keys:?} at width {width}");
    }
}

#[test]
fn keys_edit() {
    for (keys, line) in [
        ("abc", "abc|"),
        ("abc\u{1}x", "x|abc"),
        ("abc\u{2}\u{2}x", "ax|bc"),
        ("abc\u{1}\u{6}x\u{5}y", "axbcy|"),
        ("abc\u{1b}[D\u{1b}[Dx\u{1b}[C\u{1b}OCy", "axbcy|"),
        ("abc\u{1b}[H\u{1b}[3~\u{1b}[F!", "bc!|"),
        ("abc\u{7f}\u{8}", "a|"),
        ("abc\u{2}\u{4}", "ab|"),
        ("one two three\u{17}", "one two |"),
        ("one two-three\u{17}\u{19}\u{19}", "one two-threetwo-three|"),
        ("one two-three\u{1b}\u{7f}", "one two-|"),
        ("one two\u{1b}b\u{b}x\u{19}", "one xtwo|"),
        ("one two\u{1b}b\u{15}", "|two"),
        ("one two three\u{1}\u{1b}f\u{1b}d", "one| three"),
        ("one two\u{1b}[1;5D\u{1b}[1;5Dx", "x|one two"),
        ("ab\u{14}", "ba|"),
        ("abc\u{1}\u{6}\u{14}", "ba|c"),
        ("a\u{14}", "a|"),
        ("漢字\u{2}x", "漢x|字"),
        ("e\u{301}a\u{2}\u{7f}", "|a"),
        ("xe\u{301}\u{7f}", "x|"),
        ("\u{301}a", "a|"),
        ("longer than the narrow terminal is wide\u{1}x", "x|longer than the narrow terminal is wide"),
        ("12345671234567 \u{2}\u{2}漢", "1234567123456漢|7 "),
        // Unknown sequences, torn ones, reports of the terminal, invalid bytes and controls leave no trace.
        ("a\u{1b}[99;1Xb\u{1b}[5;5Rc\u{1b}Qd\u{9b}e\u{1a}f\u{1c}g\u{0}\u{1d}\u{16}h", "abcdefgh|"),
        ("a\u{202e}b\u{200b}c\u{feff}", "abc|"),
        // Pastes.
        ("\u{1b}[200~ls\r\nrm\tx\u{3}\u{1b}[A\u{4}\u{7}\u{1b}[201~", "ls\nrm x|"),
        ("\u{1b}[200~a\rb\nc\u{1b}[201~\u{2}\u{2}\u{2}x", "a\nx|b\nc"),
        ("\u{1b}[200~1234567\n89\u{1b}[201~\u{2}\u{2}\u{2}", "1234567|\n89"),
    ] {
        check(keys, line);
    }
}

#[test]
fn history_is_walked() {
    for (keys, line) in [
        ("one\rtwo\r\u{10}", "two|"),
        ("one\rtwo\r\u{1b}[A\u{1b}OA", "one|"),
        ("one\rtwo\rdraft\u{10}\u{10}\u{e}\u{e}", "draft|"),
        ("one\rone\rtwo\r\u{10}\u{10}\u{10}", "one|"),
        ("one\r two\r\r\u{10}", "one|"),
        ("one\r\u{1b}[200~a\nb\u{1b}[201~\r\u{10}", "a\nb|"),
    ] {
        check(keys, line);
    }
}

#[test]
fn reverse_search_finds() {
    for (keys, line) in [
        ("make it\rmake so\r\u{12}make\u{5}", "make so|"),
        ("make it\rmake so\r\u{12}make\u{12}\u{5}", "make it|"),
        ("make it\rmake so\r\u{12}ke i\u{1b}[D", "m|ake it"),
        ("make it\rx\u{12}make\u{7}", "x|"),
        ("make it\rx\u{12}makz\u{7f}\u{1}y", "y|make it"),
        ("make it\rx\u{12}zzz\u{5}", "x|"),
    ] {
        check(keys, line);
    }
    let mut desk = Desk::new(40);
    desk.run("make it\rother\r").feed("\u{12}make");
    assert_eq!(desk.grid.seen(desk.grid.row), ["(reverse-i-search)`make': make it"]);
    desk.feed("\r");
    assert_eq!(desk.lines(), ["make it", "other", "make it"]);
}

#[test]
fn lines_are_accepted_by_return_and_newline() {
    let mut desk = Desk::new(20);
    desk.feed("ls\r");
    assert!(desk.editor.is_waiting());
    desk.resume().feed("pwd\n").resume().feed("\r");
    assert_eq!(desk.lines(), ["ls", "pwd", ""]);
    assert_eq!(desk.grid.seen(0), ["$ ls", "$ pwd", "$"]);
    assert_eq!((desk.grid.row, desk.grid.column), (3, 0), "what runs begins in a row of its own");
}

#[test]
fn what_is_typed_ahead_waits() {
    let mut desk = Desk::new(20);
    desk.feed("one\rtwo\rthr");
    assert_eq!(desk.lines(), ["one"]);
    desk.feed("ee\r");
    desk.resume();
    assert_eq!(desk.lines(), ["one", "two"]);
    desk.resume();
    assert_eq!(desk.lines(), ["one", "two", "three"]);
    desk.feed("four\r\u{3}five");
    assert_eq!(desk.edits.last(), Some(&Edit::Interrupt));
    desk.resume();
    assert_eq!(desk.editor.line(), "five", "an interrupt drops what was typed ahead of it");
}

#[test]
fn pasting_alone_runs_nothing() {
    let mut desk = Desk::new(20);
    desk.feed("\u{1b}[200~id\nrm -rf x\n\u{1b}[201~");
    assert_eq!(desk.edits, []);
    assert_eq!(desk.grid.seen(0), ["$ id", "rm -rf x"]);
    desk.feed("\r");
    assert_eq!(desk.lines(), ["id\nrm -rf x"]);
    // Pasted while something runs, with an interrupt inside that might drop the bracket.
    desk.feed("\u{1b}[200~a\u{3}b\n\u{1b}[201~").resume();
    assert_eq!((desk.editor.line(), desk.edits.len()), ("ab\n", 1));
    // Ahead of a paste, in the same read as the line before.
    desk.feed("\r").resume().feed("x\r\u{1b}[200~y\n").resume().feed("z\n\u{1b}[201~");
    assert_eq!((desk.editor.line(), desk.lines().len()), ("y\nz\n", 3));
    // Brackets stay in balance when there is no room for what is between them.
    desk.feed("\r").feed("k".repeat(AHEAD_BOUND + 5)).feed("\u{1b}[200~\n").resume();
    assert_eq!(desk.lines().len(), 4);
    assert!(desk.editor.in_paste);
}

#[test]
fn interrupt_and_end_of_file() {
    let mut desk = Desk::new(20);
    desk.feed("abc\u{1}\u{3}");
    assert_eq!(desk.edits, [Edit::Interrupt]);
    assert_eq!(desk.grid.seen(0), ["$ abc^C", "$"]);
    desk.feed("x\u{4}");
    assert_eq!(desk.edits.len(), 1, "not on a line that isn't empty");
    desk.feed("\u{7f}\u{4}");
    assert_eq!(desk.edits, [Edit::Interrupt, Edit::EndOfFile]);
    assert!(desk.editor.is_waiting());
}

#[test]
fn a_line_is_continued() {
    let mut desk = Desk::new(20);
    desk.feed("echo '\r").act(|editor, out| editor.continue_with("> ", out)).feed("x'\r");
    assert_eq!(desk.grid.seen(0), ["$ echo '", "> x'"]);
    assert_eq!(desk.lines(), ["echo '", "echo '\nx'"]);
    desk.resume();
    assert_eq!(desk.editor.history().collect::<Vec<_>>(), ["echo '\nx'"]);
    desk.feed("a |\r").act(|editor, out| editor.continue_with("> ", out)).feed("b\u{3}");
    assert_eq!(desk.grid.seen(3), ["> b^C", "$"], "an interrupt drops all of it");
    desk.feed("c\r");
    assert_eq!(desk.lines().last(), Some(&"c"));
}

#[test]
fn completion_replaces_the_word() {
    let cases: &[(&str, &[&str], &str)] = &[
        ("cat fi", &["file.txt"], "cat file.txt "),
        ("cd sr", &["src/"], "cd src/"),
        ("cat fi", &["file.a", "file.b"], "cat file."),
        ("cat file.", &["file.a", "file.b"], "cat file."),
        ("cat x", &[], "cat x"),
        ("a|b", &["bc"], "a|bc "),
        ("cat \"a b", &["\"a bc\""], "cat \"a bc\" "),
        ("cat a\\ b", &["a\\ bc"], "cat a\\ bc "),
        ("cat ", &["x\u{1b}]0;\u{7}", "y\nrm", "z\u{202e}"], "cat "),
    ];
    for (line, candidates, after) in cases {
        let mut desk = Desk::new(20);
        desk.feed(line).feed("\t");
        assert_eq!(desk.edits, [Edit::Complete { line: (*line).to_owned(), cursor: line.len() }]);
        desk.complete(candidates);
        assert_eq!(desk.editor.line(), *after);
    }
    let mut desk = Desk::new(20);
    desk.feed("cat f\ttyped\r").complete(&["fa", "fb", "fc"]);
    assert_eq!(desk.grid.seen(0), ["fa  fb  fc", "$ cat ftyped"]);
    assert_eq!(desk.lines(), ["cat ftyped"], "keys after the tab wait for the answer");
}

#[test]
fn notices_are_printed_above() {
    let mut desk = Desk::new(20);
    desk.feed("some longer command\u{2}\u{2}");
    desk.notice("waiting for approval\nby \u{1b}[31mmallory\r");
    assert_eq!(
        desk.grid.seen(0),
        ["waiting for approval", "by \\x1b[31mmallory\\x", "0d", "$ some longer comman", "d"]
    );
}

#[test]
fn prompts_cannot_inject() {
    let mut desk = Desk::new(40);
    desk.feed("\r").act(|editor, out| editor.resume("/tmp/\u{1b}]0;x\u{7}\n$ ", out));
    assert_eq!(desk.grid.seen(1), ["/tmp/\\x1b]0;x\\x07\\x0a$"]);
}

#[test]
fn a_paused_editor_keeps_its_line() {
    let mut desk = Desk::new(20);
    desk.feed("abc\u{2}").pause();
    assert_eq!(desk.grid.seen(0), [""]);
    desk.resume();
    assert_eq!((desk.editor.line(), desk.editor.cursor()), ("abc", 2));
}

#[test]
fn a_pause_within_a_paste_loses_neither_bracket() {
    let mut desk = Desk::new(20);
    desk.feed("\u{1b}[200~a\n").pause();
    desk.feed("b\n\u{3}c\u{1b}[201~d\r").resume();
    assert_eq!(desk.edits, [Edit::Line("a\nb\ncd".to_owned())]);
    assert!(!desk.editor.in_paste);
}

#[test]
fn a_line_is_bounded_with_one_bell() {
    let mut desk = Desk::new(80);
    let paste = format!("\u{1b}[200~{}\u{1b}[201~", "x".repeat(LINE_BOUND + 100));
    let mut out = Vec::new();
    let edits = desk.editor.feed(paste.as_bytes(), &mut out);
    assert!(edits.is_empty() && desk.editor.line().len() == LINE_BOUND);
    assert_eq!(out.iter().filter(|&&byte| byte == BELL).count(), 1);
    assert!(out.len() < LINE_BOUND * 2, "drawn once, not for each character");
}

#[test]
fn clearing_redraws_at_the_top() {
    let mut desk = Desk::new(20);
    desk.run("a\rb\r").feed("abc\u{c}");
    assert_eq!((desk.grid.seen(0), desk.grid.row), (vec!["$ abc".to_owned()], 0));
}

#[derive(Debug, Clone)]
enum Act {
    Keys(Vec<u8>),
    Notice(String),
    Resize(u16),
    Answer(Vec<String>),
    Resume,
    Continue,
    Pause,
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    let text = prop::sample::select(vec![
        "a",
        "b ",
        "word",
        "漢",
        "字漢",
        "e\u{301}",
        "\u{301}",
        "\u{1f600}",
        "ż",
        "'",
        "\u{202e}",
        "\u{ad}",
        "\u{200d}",
    ]);
    let special = prop::sample::select(vec![
        "\u{1b}[A",
        "\u{1b}[B",
        "\u{1b}[C",
        "\u{1b}[D",
        "\u{1b}[H",
        "\u{1b}[F",
        "\u{1b}[3~",
        "\u{1b}b",
        "\u{1b}f",
        "\u{1b}d",
        "\u{1b}\u{7f}",
        "\u{1b}[200~",
        "\u{1b}[201~",
        "\u{12}",
        "\u{12}a",
        "\u{7}",
        "\r",
        "\n",
        "\t",
        "\u{1b}",
        "\u{1b}[",
        "\u{1b}O",
    ]);
    let piece = prop_oneof![
        4 => text.prop_map(|text| text.as_bytes().to_vec()),
        3 => special.prop_map(|text| text.as_bytes().to_vec()),
        3 => (0u8..0x20).prop_map(|byte| vec![byte]),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => keys().prop_map(Act::Keys),
        1 => "[a-z漢\u{1b}\n]{0,12}".prop_map(Act::Notice),
        1 => (2u16..30).prop_map(Act::Resize),
        2 => prop::collection::vec("[ab漢\u{301}/\u{7}]{0,6}", 0..4).prop_map(Act::Answer),
        3 => Just(Act::Resume),
        1 => Just(Act::Continue),
        1 => Just(Act::Pause),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_screen_is_the_prompt_and_the_line(width in 2u16..30, acts in prop::collection::vec(acts(), 1..30)) {
        let mut desk = Desk::new(width);
        for act in acts {
            match act {
                Act::Keys(bytes) => {
                    desk.feed(&bytes);
                }
                Act::Notice(text) => desk.notice(&text),
                Act::Resize(width) => desk.resize(width),
                Act::Answer(candidates) => {
                    desk.act(|editor, out| editor.complete(&candidates, out));
                }
                Act::Resume => {
                    desk.resume();
                }
                Act::Continue => {
                    desk.act(|editor, out| editor.continue_with("> ", out));
                }
                Act::Pause => desk.pause(),
            }
        }
        prop_assert!(!desk.lines().concat().contains(|c| is_hidden(c) && c != '\n'));
    }

    #[test]
    fn chunks_dont_matter(bytes in prop::collection::vec(keys(), 1..20)) {
        let bytes = bytes.concat();
        let mut whole = Desk::new(17);
        whole.feed(&bytes);
        let mut torn = Desk::new(17);
        for &byte in &bytes {
            torn.feed([byte]);
        }
        prop_assert_eq!(whole.editor.line(), torn.editor.line());
        prop_assert_eq!(whole.editor.cursor(), torn.editor.cursor());
        prop_assert_eq!(whole.edits, torn.edits);
    }

    #[test]
    fn nothing_within_paste_brackets_is_accepted(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        // A terminal takes the closing bracket out of what it pastes.
        prop_assume!(!bytes.windows(6).any(|window| window == b"\x1b[201~"));
        let mut desk = Desk::new(20);
        desk.feed("\u{1b}[200~").feed(&bytes);
        prop_assert!(desk.edits.is_empty());
    }
}
