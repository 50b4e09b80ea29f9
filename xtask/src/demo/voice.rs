//! How the demo speaks: chapters, commands, what they printed, and why one should care. Colour only where a person looks
//! (a terminal, and no `NO_COLOR`). Deliberately no cursor tricks: what was printed stays, and can be piped.

use std::io::{self, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How wide a line is where nothing says how wide the terminal is.
const USUAL_WIDTH: usize = 120;

/// How wide our own words run at most, for comfortable reading.
const PROSE_WIDTH: usize = 100;

/// Between two chapters, for a person to catch up.
const BREATH: Duration = Duration::from_millis(1500);

/// Who tells the story.
pub struct Voice {
    colour: bool,
    width: usize,
    breath: Duration,
    chapter: usize,
}

#[derive(Clone, Copy)]
enum Style {
    Title,
    Prompt,
    Typed,
    Aside,
    Good,
    Bad,
}

impl Voice {
    /// Speaks to standard output; without pauses if it is to be fast, or nobody watches.
    pub fn new(fast: bool) -> Self {
        let watched = io::stdout().is_terminal();
        let colour = watched
            && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let breath = if watched && !fast { BREATH } else { Duration::ZERO };
        Self { colour, width: if watched { terminal_width() } else { USUAL_WIDTH }, breath, chapter: 0 }
    }

    /// The number of the chapter that is being told.
    pub fn chapter_number(&self) -> usize {
        self.chapter
    }

    /// A heading without a number.
    pub fn title(&self, text: &str) {
        self.say(&format!("\n{}\n", self.painted(Style::Title, text)));
    }

    /// Begins a chapter, with a line on why it matters.
    pub fn chapter(&mut self, title: &str, why: &str) {
        std::thread::sleep(self.breath);
        self.chapter += 1;
        self.title(&format!("{:>2}  {title}", self.chapter));
        self.prose(why);
    }

    /// Something to know between two commands, in our own words.
    pub fn aside(&self, text: &str) {
        self.say("\n");
        self.prose(text);
    }

    /// Our own words.
    pub fn prose(&self, text: &str) {
        for line in wrapped(text, self.width.min(PROSE_WIDTH).saturating_sub(4)) {
            self.say(&format!("    {}\n", self.painted(Style::Aside, &line)));
        }
    }

    /// A command as it could be typed.
    pub fn typed(&self, who: &str, command: &str) {
        let prompt = self.painted(Style::Prompt, &format!("{who}$"));
        let mut lines = command.lines();
        self.say(&format!("\n    {prompt} {}\n", self.painted(Style::Typed, lines.next().unwrap_or_default())));
        for line in lines {
            self.say(&format!("      {}\n", self.painted(Style::Typed, line)));
        }
    }

    /// What a program printed, untouched but for the margin; a long line goes on under itself.
    pub fn printed(&self, text: &str) {
        for line in text.trim_end().lines() {
            let indent = line.len() - line.trim_start().len();
            let room = self.width.saturating_sub(6);
            let pieces = if line.chars().count() > room {
                folded(line, room, indent.min(20) + 2)
            } else {
                vec![line.to_owned()]
            };
            for piece in pieces {
                self.say(&format!("      {piece}\n"));
            }
        }
    }

    /// What a terminal showed, as text: without what moves the cursor, and of a line that was drawn anew only the last
    /// state.
    pub fn terminal(&self, text: &str) {
        self.printed(&plain(text));
    }

    /// What was just seen to hold.
    pub fn held(&self, text: &str) {
        for (number, line) in wrapped(text, self.width.min(PROSE_WIDTH).saturating_sub(6)).iter().enumerate() {
            let mark = if number == 0 { "✓" } else { " " };
            self.say(&format!("    {} {}\n", self.painted(Style::Good, mark), self.painted(Style::Good, line)));
        }
    }

    /// What went wrong.
    pub fn failed(&self, text: &str) {
        for (number, line) in text.lines().enumerate() {
            let mark = if number == 0 { "✗" } else { " " };
            self.say(&format!("    {} {line}\n", self.painted(Style::Bad, mark)));
        }
    }

    /// A step of the set-up, while it is done; [`Voice::done`] ends its line.
    pub fn doing(&self, text: &str) {
        self.say(&format!("    {text:<66}"));
    }

    /// Ends the line of a step.
    pub fn done(&self, took: Duration) {
        let text = format!("✓ {:>4.1} s", took.as_secs_f64());
        self.say(&format!(" {}\n", self.painted(Style::Good, &text)));
    }

    /// Ends the line of a step that failed.
    pub fn not_done(&self) {
        self.say(&format!(" {}\n", self.painted(Style::Bad, "✗")));
    }

    /// A line as it is.
    pub fn line(&self, text: &str) {
        self.say(&format!("    {text}\n"));
    }

    fn say(&self, text: &str) {
        // A reader that left (`| head`) is no failure of what is shown: the exit status still tells.
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn painted(&self, style: Style, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match style {
            Style::Title => "1;36",
            Style::Prompt => "35",
            Style::Typed => "1",
            Style::Aside => "2",
            Style::Good => "32",
            Style::Bad => "1;31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// As `stty` says, since asking the terminal itself takes `unsafe`.
fn terminal_width() -> usize {
    let asked = Command::new("stty").arg("size").stdin(Stdio::inherit()).stderr(Stdio::null()).output();
    let said = asked.ok().and_then(|out| String::from_utf8(out.stdout).ok()).unwrap_or_default();
    let columns = said.split_whitespace().nth(1).and_then(|columns| columns.parse().ok());
    columns.filter(|columns| *columns >= 40).unwrap_or(USUAL_WIDTH)
}

/// What a terminal showed, as lines of text: of what a line editor draws with, as much as ours uses.
fn plain(text: &str) -> String {
    let (mut lines, mut line, mut column) = (String::new(), Vec::new(), 0);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                let mut many = String::new();
                let end = chars.find(|c| {
                    many.push(*c);
                    ('@'..='~').contains(c)
                });
                match end {
                    Some('C') => column += many[..many.len() - 1].parse().unwrap_or(1),
                    Some('J' | 'K') => line.truncate(column),
                    _ => {}
                }
            }
            '\r' => column = 0,
            '\n' => {
                lines.extend(line.drain(..));
                lines.push('\n');
                column = 0;
            }
            c if !c.is_control() => {
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
            _ => {}
        }
    }
    lines.extend(line);
    lines
}

/// Our own text in lines of at most `room` characters.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is always one line");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= room {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// A program's line in pieces of at most `room` characters, all but the first indented; nothing is lost but the spaces
/// at the folds.
fn folded(line: &str, room: usize, indent: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest: Vec<char> = line.chars().collect();
    while rest.len() > room {
        // At the last space of the second half, or else within the word.
        let fold = (room / 2..room).rev().find(|&at| rest[at] == ' ').unwrap_or(room);
        let next: Vec<char> = rest.split_off(fold);
        pieces.push(rest.iter().collect());
        let text: String = next.into_iter().collect();
        rest = format!("{}{}", " ".repeat(indent.min(room / 4)), text.trim_start()).chars().collect();
    }
    pieces.push(rest.into_iter().collect());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_folded_and_nothing_is_lost() {
        let line = "  next: onus request orders-db --role reader --purpose 'INC-42' --for 30m and_one_very_long_word_without_end";
        let pieces = folded(line, 40, 4);
        assert!(pieces.iter().all(|piece| piece.chars().count() <= 40), "{pieces:?}");
        let squeeze = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
        assert_eq!(squeeze(&pieces.concat()), squeeze(line));
        assert!(pieces[0].starts_with("  next") && pieces[1].starts_with("    "));
    }

    #[test]
    fn a_terminals_text_is_what_was_last_seen_of_each_line() {
        let shown = "one\r\n\u{1b}[?2004h\r\u{1b}[J$ l\r\u{1b}[J$ ls\r\u{1b}[4C\r\na  b\u{7}\r\nlonger\rshort\u{1b}[K";
        assert_eq!(plain(shown), "one\n$ ls\na  b\nshort");
    }

    #[test]
    fn own_text_wraps_at_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
    }
}
