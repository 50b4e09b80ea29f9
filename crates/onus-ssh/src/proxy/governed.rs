//! The governed shell: the gateway owns the line editor, and each accepted line is read, decided and run as a command of
//! its own on the resource. Directory and variables are kept here; so nothing that a line does to a shell's state
//! escapes the decision, and no keystroke reaches the resource before its line was permitted.
//!
//! Without a terminal it takes its lines from the client's input, one after the other, as a script.
//!
//! It sends nothing by itself: it answers with [`Act`]s. What it keeps is bounded by the windows that it grants.

use super::start::Line;
use bytes::{Bytes, BytesMut};
use onus_shell::{Scene, Shell};
use onus_terminal::editor::word_start;
use onus_terminal::{Edit, Editor, visible};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes that each side may send before it must be granted more.
pub(super) const WINDOW: u32 = 64 * 1024;

/// Bytes of a listing that are kept for completion.
pub(super) const CAPTURED: usize = 64 * 1024;

/// Consumed bytes that are granted again in one go.
const GRANT: u32 = 8 * 1024;

/// Lines of a script that may wait, in bytes.
const SCRIPT: usize = 256 * 1024;

const HELP: &str = "\
Each line is read by the gateway, decided by policy, and then run as a command of its own.
  what works    commands, pipes, && || ;, redirections, globs, variables, cd, export, here-documents
  what does not job control, functions, aliases, eval, command substitution: they can't be decided beforehand
  exit          ends the session (Ctrl-D too)
A line that is refused says which policy refused it and who owns that policy.
";

/// What is to be done.
pub(super) enum Act {
    /// Bytes for the client.
    Show(Bytes),
    /// Bytes for the client's error stream.
    ShowError(Bytes),
    /// The client may send so much more.
    Grant(u32),
    /// Decide a line that changes only what is kept here.
    Keep(Box<Line>),
    /// Decide a line and run it.
    Run(Box<Line>),
    /// Input for the command.
    Feed(u32, Bytes),
    /// The command's input ends.
    FeedEnd(u32),
    /// Interrupt the command.
    Interrupt(u32),
    /// Take the line back that waits for somebody's word.
    Withdraw(u32),
    /// The command may send so much more.
    Regrant(u32, u32),
    /// It is over.
    Exit(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A line is being typed.
    Prompt,
    /// A line is being decided.
    Asking,
    /// A command runs.
    Running,
    /// Nothing more.
    Over,
}

/// The governed shell of one channel.
pub(super) struct Governed {
    shell: Arc<Shell>,
    scene: Scene,
    /// `login@resource`.
    place: String,
    marker: String,
    /// The line editor; `None` without a terminal.
    editor: Option<Editor>,
    phase: Phase,
    /// The command's channel.
    command: Option<u32>,
    /// Whether the command has a terminal of its own.
    raw: bool,
    /// Without a terminal: lines that want more lines.
    open: String,
    /// Without a terminal: what came and was not run yet.
    script: BytesMut,
    ended: bool,
    /// What the client lets us send.
    window: u32,
    backlog: VecDeque<(bool, Bytes)>,
    /// Bytes of the command's that were taken and not granted again.
    taken: u32,
    /// Bytes of the client's that were taken and not granted again.
    consumed: u32,
    /// What the command lets us send, and what waits for it.
    credit: u32,
    input: BytesMut,
    input_ends: bool,
    /// While a directory is asked for: the error stream from where the mark may begin.
    mark: Option<BytesMut>,
    completing: Option<Completing>,
    code: u32,
}

/// A completion that is asked for.
struct Completing {
    /// The folder as it was typed.
    folder: String,
    /// What was typed of the last component.
    prefix: String,
}

impl Governed {
    pub fn new(
        shell: Arc<Shell>,
        scene: Scene,
        place: String,
        marker: String,
        columns: Option<u32>,
        window: u32,
    ) -> (Self, Vec<Act>) {
        let mut new = Self {
            shell,
            scene,
            place,
            marker,
            editor: None,
            phase: Phase::Prompt,
            command: None,
            raw: false,
            open: String::new(),
            script: BytesMut::new(),
            ended: false,
            window,
            backlog: VecDeque::new(),
            taken: 0,
            consumed: 0,
            credit: 0,
            input: BytesMut::new(),
            input_ends: false,
            mark: None,
            completing: None,
            code: 0,
        };
        let mut acts = vec![Act::Grant(WINDOW)];
        if let Some(columns) = columns {
            let hello =
                "onus: governed shell: every line is decided before it runs, and recorded. `help` says more.\r\n";
            new.editor = Some(Editor::new("", width(columns)));
            new.show(hello.as_bytes(), false, &mut acts);
            new.prompt(&mut acts);
        }
        (new, acts)
    }

    /// The command's channel, if one runs or is about to.
    pub fn running(&self) -> Option<u32> {
        self.command
    }

    /// Whether a line waits for its decision.
    pub fn waits(&self) -> bool {
        self.phase == Phase::Asking
    }

    /// Bytes from the client.
    pub fn typed(&mut self, bytes: &Bytes) -> Vec<Act> {
        let mut acts = Vec::new();
        match (self.phase, self.editor.is_some()) {
            (Phase::Over, _) => {}
            (_, false) => {
                self.script.extend_from_slice(bytes);
                if self.script.len() > SCRIPT {
                    self.show(b"onus: a line of this script is too long\n", true, &mut acts);
                    self.exit(2, &mut acts);
                    return acts;
                }
                self.next_of_script(&mut acts);
                // Granted again when lines were taken, so that what waits is bounded.
                self.consumed += bytes.len() as u32;
                if self.script.len() < SCRIPT / 4 {
                    self.grant(&mut acts);
                }
                return acts;
            }
            // While a line is decided the editor keeps what is typed for the next one.
            (Phase::Prompt | Phase::Asking, true) => self.edit(bytes, &mut acts),
            (Phase::Running, true) => self.feed(bytes, &mut acts),
        }
        self.consumed += bytes.len() as u32;
        self.grant(&mut acts);
        acts
    }

    fn grant(&mut self, acts: &mut Vec<Act>) {
        // Not while what was typed ahead of a command piles up.
        if self.consumed >= GRANT && self.input.len() < WINDOW as usize {
            acts.push(Act::Grant(std::mem::take(&mut self.consumed)));
        }
    }

    /// Keys while a line is being typed.
    fn edit(&mut self, bytes: &[u8], acts: &mut Vec<Act>) {
        let mut out = Vec::new();
        let edits = match &mut self.editor {
            Some(editor) => editor.feed(bytes, &mut out),
            None => Vec::new(),
        };
        self.show(&out, false, acts);
        self.edits(edits, acts);
    }

    fn edits(&mut self, edits: Vec<Edit>, acts: &mut Vec<Act>) {
        for edit in edits {
            match (edit, self.phase) {
                (Edit::Line(line), Phase::Prompt) => self.line(line, acts),
                (Edit::Interrupt, Phase::Prompt) => self.open.clear(),
                (Edit::EndOfFile, Phase::Prompt) => self.exit(self.code, acts),
                (Edit::Complete { line, cursor }, Phase::Prompt) => self.complete(&line, cursor, acts),
                (Edit::Interrupt, Phase::Asking) => acts.extend(self.command.map(Act::Withdraw)),
                _ => {}
            }
        }
    }

    /// A line was accepted.
    fn line(&mut self, line: String, acts: &mut Vec<Act>) {
        let text = if self.open.is_empty() {
            line
        } else {
            let open = std::mem::take(&mut self.open);
            format!("{open}\n{line}")
        };
        let mut words = text.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (None, ..) => return self.prompt(acts),
            (Some("help"), None, None) => {
                let help = if self.editor.is_some() { HELP.replace('\n', "\r\n") } else { HELP.to_owned() };
                self.show(help.as_bytes(), false, acts);
                return self.prompt(acts);
            }
            (Some("exit" | "logout"), None, None) => return self.exit(self.code, acts),
            (Some("exit"), Some(code), None) if code.parse::<u8>().is_ok() => {
                return self.exit(code.parse().unwrap_or(0), acts);
            }
            _ => {}
        }
        let reading = self.shell.read(text.as_bytes(), &self.scene);
        // A script that has ended may still have the rest of it here.
        if reading.incomplete && (!self.ended || !self.script.is_empty()) {
            match &mut self.editor {
                // It keeps the lines that are to be continued itself.
                Some(editor) => {
                    let mut out = Vec::new();
                    let edits = editor.continue_with("> ", &mut out);
                    self.show(&out, false, acts);
                    self.edits(edits, acts);
                }
                None => {
                    self.open = text;
                    self.next_of_script(acts);
                }
            }
            return;
        }
        self.phase = Phase::Asking;
        let changes = !reading.effects.assigned.is_empty() || !reading.effects.exported.is_empty();
        let moves = reading.effects.cd.is_some()
            || reading.operations.iter().flat_map(|o| &o.objects).any(|o| o.kind == "program" && o.name == "cd");
        let mark = (moves && !reading.needs_terminal).then(|| self.marker.clone());
        let only_kept = changes && !moves;
        let line = Box::new(Line { text: text.into(), reading, scene: self.scene.clone(), mark, captured: false });
        acts.push(if only_kept { Act::Keep(line) } else { Act::Run(line) });
    }

    /// Completes the path before the cursor, by a listing that is decided like any other.
    fn complete(&mut self, line: &str, cursor: usize, acts: &mut Vec<Act>) {
        let word = line.get(word_start(line, cursor)..cursor).unwrap_or_default();
        let plain = word.chars().all(|c| c.is_alphanumeric() || "/._-+@%~,".contains(c));
        let (folder, prefix) = word.split_at(word.rfind('/').map_or(0, |slash| slash + 1));
        self.completing = Some(Completing { folder: folder.to_owned(), prefix: prefix.to_owned() });
        if !plain || folder.is_empty() && prefix.starts_with('~') {
            return self.completed(b"", acts);
        }
        let text = format!("ls -1Ap -- {}", if folder.is_empty() { "./" } else { folder });
        let reading = self.shell.read(text.as_bytes(), &self.scene);
        self.phase = Phase::Asking;
        let scene = self.scene.clone();
        acts.push(Act::Run(Box::new(Line { text: text.into(), reading, scene, mark: None, captured: true })));
    }

    fn completed(&mut self, listing: &[u8], acts: &mut Vec<Act>) {
        let Some(Completing { folder, prefix }) = self.completing.take() else { return };
        self.phase = Phase::Prompt;
        let listing = String::from_utf8_lossy(listing);
        let names: Vec<String> = listing
            .lines()
            .filter(|name| name.starts_with(&prefix) && (!name.starts_with('.') || prefix.starts_with('.')))
            // What would need quoting is left to whoever types it.
            .filter(|name| name.chars().all(|c| c.is_alphanumeric() || "/._-+@%,".contains(c)))
            .map(|name| format!("{folder}{name}"))
            .collect();
        let (mut out, mut edits) = (Vec::new(), Vec::new());
        if let Some(editor) = &mut self.editor {
            edits = editor.complete(&names, &mut out);
        }
        self.show(&out, false, acts);
        self.edits(edits, acts);
    }

    /// The next whole line of a script.
    fn next_of_script(&mut self, acts: &mut Vec<Act>) {
        while self.phase == Phase::Prompt && self.editor.is_none() {
            let line = match self.script.iter().position(|b| *b == b'\n') {
                Some(end) => self.script.split_to(end + 1),
                None if self.ended && !self.script.is_empty() => self.script.split(),
                None if self.ended => return self.exit(self.code, acts),
                None => return,
            };
            let line = String::from_utf8_lossy(&line);
            self.line(line.trim_end_matches(['\r', '\n']).to_owned(), acts);
        }
    }

    fn prompt(&mut self, acts: &mut Vec<Act>) {
        self.phase = Phase::Prompt;
        let text = prompt(&self.place, &self.scene);
        match &mut self.editor {
            Some(editor) => {
                let mut out = Vec::new();
                let edits = editor.resume(&text, &mut out);
                self.show(&out, false, acts);
                self.edits(edits, acts);
            }
            None => self.next_of_script(acts),
        }
    }

    fn exit(&mut self, code: u32, acts: &mut Vec<Act>) {
        self.phase = Phase::Over;
        if self.editor.is_some() {
            self.show(b"\r\n", false, acts);
        }
        // Whatever the client has no window for is lost with the channel.
        acts.push(Act::Exit(code));
    }

    /// A command's channel was asked for.
    pub fn began(&mut self, command: u32) {
        self.command = Some(command);
    }

    /// The command may run.
    pub fn permitted(&mut self, window: u32, raw: bool, mark: bool) -> Vec<Act> {
        let mut acts = Vec::new();
        self.phase = Phase::Running;
        self.credit = window;
        self.raw = raw;
        self.mark = mark.then(BytesMut::new);
        self.input.clear();
        self.input_ends = false;
        // A script's commands have no input: it would be the rest of the script.
        if (self.editor.is_none() || self.completing.is_some())
            && let Some(command) = self.command
        {
            acts.push(Act::FeedEnd(command));
        }
        acts
    }

    /// A line that only changes what is kept may do so.
    pub fn kept(&mut self, line: &Line) -> Vec<Act> {
        let effects = &line.reading.effects;
        for (kept, changed) in
            [(&mut self.scene.variables, &effects.assigned), (&mut self.scene.exported, &effects.exported)]
        {
            for (name, value) in changed {
                match value {
                    Some(value) => drop(kept.insert(name.clone(), value.clone())),
                    None => drop(kept.remove(name)),
                }
            }
        }
        self.code = 0;
        let mut acts = Vec::new();
        self.prompt(&mut acts);
        acts
    }

    /// The line was refused.
    pub fn refused(&mut self, text: &str) -> Vec<Act> {
        let mut acts = Vec::new();
        self.command = None;
        if self.completing.is_some() {
            self.completed(b"", &mut acts);
            return acts;
        }
        self.code = super::refusal::REFUSED;
        let lines = if self.editor.is_some() { text.replace('\n', "\r\n") + "\r\n" } else { format!("{text}\n") };
        self.show(lines.as_bytes(), true, &mut acts);
        self.prompt(&mut acts);
        acts
    }

    /// It could not be run.
    pub fn failed(&mut self, text: &str) -> Vec<Act> {
        let text = format!("onus: {}", visible(text));
        self.refused(&text)
    }

    /// Bytes of the command's.
    pub fn output(&mut self, bytes: &[u8], error: bool) -> Vec<Act> {
        let mut acts = Vec::new();
        self.taken += bytes.len() as u32;
        let mut shown = BytesMut::from(bytes);
        if error && let Some(kept) = &mut self.mark {
            kept.extend_from_slice(bytes);
            let sign = [b"\n", self.marker.as_bytes()].concat();
            shown = match kept.windows(sign.len()).position(|window| window == sign) {
                Some(at) => kept.split_to(at),
                // The mark may have begun.
                None => kept.split_to(kept.len().saturating_sub(sign.len() - 1)),
            };
        }
        if self.editor.is_some() && !self.raw {
            self.show(&with_returns(&shown), error, &mut acts);
        } else {
            self.show(&shown, error, &mut acts);
        }
        acts
    }

    /// The command is over.
    pub fn finished(&mut self, code: u32, captured: Option<Bytes>) -> Vec<Act> {
        let mut acts = Vec::new();
        self.command = None;
        self.taken = 0;
        if let Some(listing) = captured {
            self.completed(&listing, &mut acts);
            return acts;
        }
        self.code = code;
        if let Some(kept) = self.mark.take() {
            self.moved(&kept, &mut acts);
        }
        if matches!(self.phase, Phase::Running | Phase::Asking) {
            self.prompt(&mut acts);
        }
        acts
    }

    /// Reads the directory from behind the mark; what is no mark was the command's own.
    fn moved(&mut self, kept: &[u8], acts: &mut Vec<Act>) {
        let sign = [b"\n", self.marker.as_bytes()].concat();
        match kept.strip_prefix(sign.as_slice()).map(|rest| String::from_utf8_lossy(rest).into_owned()) {
            Some(rest) => {
                let folder = rest.trim_end_matches(['\r', '\n']);
                // What the resource says is its own word; it becomes part of the next line, quoted.
                if folder.starts_with('/') && !folder.chars().any(char::is_control) {
                    self.scene.cwd = Some(folder.to_owned());
                }
            }
            None => self.show(&with_returns(kept), true, acts),
        }
    }

    /// What is typed while a command runs.
    fn feed(&mut self, bytes: &Bytes, acts: &mut Vec<Act>) {
        let Some(command) = self.command else { return };
        if self.raw {
            self.input.extend_from_slice(bytes);
        } else {
            // There is no terminal on the other side: its part is played here, line by line and no more.
            let mut shown = Vec::new();
            for byte in bytes {
                match byte {
                    3 => {
                        shown.extend_from_slice(b"^C\r\n");
                        acts.push(Act::Interrupt(command));
                    }
                    4 => self.input_ends = true,
                    b'\r' | b'\n' => {
                        shown.extend_from_slice(b"\r\n");
                        self.input.extend_from_slice(b"\n");
                    }
                    byte => {
                        shown.push(*byte);
                        self.input.extend_from_slice(&[*byte]);
                    }
                }
            }
            self.show(&shown, false, acts);
        }
        self.pour(acts);
    }

    /// Hands on what the command takes.
    fn pour(&mut self, acts: &mut Vec<Act>) {
        let Some(command) = self.command.filter(|_| self.phase == Phase::Running) else { return };
        let n = self.input.len().min(self.credit as usize);
        if n > 0 {
            self.credit -= n as u32;
            acts.push(Act::Feed(command, self.input.split_to(n).freeze()));
        }
        if self.input.is_empty() && std::mem::take(&mut self.input_ends) {
            acts.push(Act::FeedEnd(command));
        }
    }

    /// The command takes more.
    pub fn credit(&mut self, more: u32) -> Vec<Act> {
        let mut acts = Vec::new();
        self.credit = self.credit.saturating_add(more);
        self.pour(&mut acts);
        self.grant(&mut acts);
        acts
    }

    /// The client takes more.
    pub fn adjust(&mut self, more: u32) -> Vec<Act> {
        let mut acts = Vec::new();
        self.window = self.window.saturating_add(more);
        self.flush(&mut acts);
        acts
    }

    /// The client will send nothing more.
    pub fn end_of_input(&mut self) -> Vec<Act> {
        let mut acts = Vec::new();
        self.ended = true;
        if self.editor.is_none() {
            self.next_of_script(&mut acts);
        } else if self.phase == Phase::Prompt {
            self.exit(self.code, &mut acts);
        }
        acts
    }

    /// The client's terminal has another width.
    pub fn resize(&mut self, columns: u32) -> Vec<Act> {
        let (mut acts, mut out) = (Vec::new(), Vec::new());
        if let Some(editor) = &mut self.editor {
            editor.resize(width(columns), &mut out);
        }
        if self.phase == Phase::Prompt {
            self.show(&out, false, &mut acts);
        }
        acts
    }

    /// A word above what is being typed.
    pub fn above(&mut self, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        match (&mut self.editor, self.phase) {
            (Some(editor), Phase::Prompt) => editor.print_above(text, &mut out),
            (Some(_), _) => out.extend_from_slice(format!("\r\n{}\r\n", text.replace('\n', "\r\n")).as_bytes()),
            (None, _) => out.extend_from_slice(format!("{text}\n").as_bytes()),
        }
        self.window = self.window.saturating_sub(out.len() as u32);
        out
    }

    fn show(&mut self, bytes: &[u8], error: bool, acts: &mut Vec<Act>) {
        if !bytes.is_empty() {
            // A terminal has one stream.
            let error = error && self.editor.is_none();
            self.backlog.push_back((error, Bytes::copy_from_slice(bytes)));
        }
        self.flush(acts);
    }

    fn flush(&mut self, acts: &mut Vec<Act>) {
        while let Some((error, bytes)) = self.backlog.front_mut() {
            let n = bytes.len().min(self.window as usize);
            if n == 0 {
                return;
            }
            self.window -= n as u32;
            let piece = bytes.split_to(n);
            acts.push(if *error { Act::ShowError(piece) } else { Act::Show(piece) });
            if bytes.is_empty() {
                self.backlog.pop_front();
            }
        }
        if let (Some(command), true) = (self.command, self.taken > 0) {
            acts.push(Act::Regrant(command, std::mem::take(&mut self.taken)));
        }
    }
}

/// A terminal's width as the editor takes it.
fn width(columns: u32) -> u16 {
    u16::try_from(columns).unwrap_or(u16::MAX)
}

fn prompt(place: &str, scene: &Scene) -> String {
    let folder = scene.cwd.as_deref().unwrap_or("~");
    format!("{place}:{}$ ", visible(folder))
}

/// A terminal in raw mode wants a carriage return before each line feed.
fn with_returns(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 16);
    for byte in bytes {
        if *byte == b'\n' {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}
