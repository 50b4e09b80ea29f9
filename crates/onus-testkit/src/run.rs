//! Running a program to its end and having its output or a readable error. Deliberately no shell: arguments are passed
//! as they are. For children that go on running see [`crate::proc`].

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::KitError;

/// How much of a failed program's output goes into the error, from its end.
const TAIL: usize = 4000;

/// Runs it without stdin and gives its stdout; an exit status other than 0 is [`KitError::Failed`].
///
/// `name` is what the error calls it: its arguments may hold secrets and are never shown.
pub fn output(name: &str, command: &mut Command) -> Result<String, KitError> {
    command.stdin(Stdio::null());
    let output = command.output().map_err(|source| KitError::Spawn { program: name.to_owned(), source })?;
    judged(name, &output)
}

/// Like [`output`], with `input` on its stdin.
pub fn output_of_input(name: &str, command: &mut Command, input: &str) -> Result<String, KitError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let spawn = |source| KitError::Spawn { program: name.to_owned(), source };
    let mut child = command.spawn().map_err(spawn)?;
    let mut stdin = child.stdin.take().expect("stdin was piped two lines above");
    // From a thread: a child that writes much before it has read everything would block both of us otherwise. Its
    // stopping to read early is not our failure: its status tells.
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()).ok());
        child.wait_with_output()
    });
    judged(name, &output.map_err(spawn)?)
}

/// Where a program is on `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_program(file))
}

pub(crate) fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // The owner of /proc/self is the effective user; asking the C library would take `unsafe`.
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn judged(name: &str, output: &Output) -> Result<String, KitError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Err(KitError::Failed {
        program: name.to_owned(),
        status: output.status.to_string(),
        output: tail(&text).to_owned(),
    })
}

/// The end of a long text.
pub(crate) fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(TAIL);
    let from = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    text[from..].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_failure() {
        assert_eq!(output("echo", Command::new("echo").arg("hello")).unwrap(), "hello\n");
        let err = output("sh, to fail", Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        let said = err.to_string();
        assert!(said.contains("sh, to fail") && said.contains("exit status: 3") && said.contains("why"), "{said}");
    }

    #[test]
    fn input_larger_than_a_pipe() {
        let big = "x".repeat(1 << 20);
        assert_eq!(output_of_input("cat", &mut Command::new("cat"), &big).unwrap(), big);
    }

    #[test]
    fn a_reader_that_stops_early_is_judged_by_its_status() {
        output_of_input("true", &mut Command::new("true"), &"x".repeat(1 << 20)).unwrap();
    }

    #[test]
    fn the_tail_keeps_whole_characters() {
        let text = "ä".repeat(TAIL);
        assert!(tail(&text).chars().all(|c| c == 'ä'));
    }
}
