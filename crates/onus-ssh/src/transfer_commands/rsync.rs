//! The words with which an rsync client starts rsync on the other side.
//!
//! An allow-list: every option that names another path (`--temp-dir`, `--link-dest`, `--files-from`, `--log-file` …),
//! that hides the paths (`-s`), that writes to devices or follows links while writing (`-K`), or that this list has
//! not heard of makes the line opaque.

use onus_core::operation::{Access, Operation};

use crate::scp::is_other_home;
use crate::sftp::actions::operation;
use crate::sftp::path::{name_with_tilde, touch};

/// Options of one letter that change how a copy is made, not where. Before `e`, which ends the bundle.
const LETTERS: &str = "vqlogDtprncuHAXRzbdxWSOJmyIkLENU";
/// Options without a value.
const WORDS: &[&str] = &[
    "--append",
    "--append-verify",
    "--copy-unsafe-links",
    "--delay-updates",
    "--existing",
    "--fsync",
    "--ignore-errors",
    "--ignore-existing",
    "--ignore-missing-args",
    "--inplace",
    "--mkpath",
    "--new-compress",
    "--no-implied-dirs",
    "--numeric-ids",
    "--old-compress",
    "--open-noatime",
    "--partial",
    "--preallocate",
    "--safe-links",
    "--size-only",
    "--stats",
];
/// Options by which the receiver removes what the sender doesn't have.
const DELETES: &[&str] = &[
    "--delete",
    "--delete-after",
    "--delete-before",
    "--delete-delay",
    "--delete-during",
    "--delete-excluded",
    "--delete-missing-args",
    "--force",
];
/// Options with a value of letters, digits and a little punctuation: none can be a path.
const VALUES: &[&str] = &[
    "--bwlimit",
    "--checksum-choice",
    "--checksum-seed",
    "--compress-choice",
    "--compress-level",
    "--debug",
    "--info",
    "--max-alloc",
    "--max-delete",
    "--max-size",
    "--min-size",
    "--modify-window",
    "--suffix",
    "--timeout",
];

/// A command line that is understood in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RsyncCommand {
    /// Whether the upstream sends (the client downloads).
    pub sender: bool,
    /// Whether the upstream removes what the client doesn't have.
    pub delete: bool,
    /// Whether the upstream removes what it has sent.
    pub remove_source: bool,
    /// The options, each as given and known.
    pub options: Vec<String>,
    /// The paths as given: one to receive into, at least one to send. A leading `~/` is home.
    pub paths: Vec<String>,
}

/// Reads the words of a command line that starts rsync as a server; `None` if anything in it isn't known.
///
/// The words are final and literal: no shell may change them any more, except that it expands a leading `~/`.
pub fn parse_command(argv: &[String]) -> Option<RsyncCommand> {
    let (program, words) = argv.split_first()?;
    if !matches!(program.as_str(), "rsync" | "/usr/bin/rsync") {
        return None;
    }
    let words = words.strip_prefix(&["--server".to_owned()][..])?;
    let dot = words.iter().position(|word| word == ".")?;
    let (mut options, paths) = (&words[..dot], &words[dot + 1..]);
    let sender = options.first().is_some_and(|word| word == "--sender");
    if sender {
        options = &options[1..];
    }
    let (mut delete, mut remove_source) = (false, false);
    for option in options {
        match option.as_str() {
            "--remove-source-files" => remove_source = sender,
            word if DELETES.contains(&word) => delete = true,
            word if WORDS.contains(&word) => {}
            "--log-format=X" | "--log-format=%i" | "--log-format=%i%I" => {}
            word if word.starts_with("--") => is_value(word)?,
            word => is_bundle(word.strip_prefix('-')?)?,
        }
    }
    // Options are taken even after the dot, so no path may look like one.
    let odd = |path: &String| path.is_empty() || path.starts_with('-') || path.contains('\0') || is_other_home(path);
    if paths.iter().any(odd) || paths.is_empty() || (!sender && paths.len() > 1) || (sender && delete) {
        return None;
    }
    Some(RsyncCommand { sender, delete, remove_source, options: options.to_vec(), paths: paths.to_vec() })
}

fn is_value(word: &str) -> Option<()> {
    let (name, value) = word.split_once('=')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".,_+-~".contains(&byte);
    let known = VALUES.contains(&name) && !value.is_empty() && value.bytes().all(plain);
    // A suffix of dots alone could make one name another.
    (known && !(name == "--suffix" && value.bytes().all(|byte| byte == b'.'))).then_some(())
}

fn is_bundle(letters: &str) -> Option<()> {
    // After `e` comes what the client is able to do: a version, a dot, letters.
    let (options, able) = letters.split_once('e').unwrap_or((letters, ""));
    let known = !letters.is_empty()
        && options.chars().all(|letter| LETTERS.contains(letter))
        && able.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    known.then_some(())
}

impl RsyncCommand {
    /// What it does: reads or writes at and below its paths, and removes there.
    pub fn operations(&self) -> Vec<Operation> {
        let (action, access) = if self.sender { ("file.read", Access::Read) } else { ("file.write", Access::Write) };
        let mut operations = vec![self.one(action, access)];
        if self.delete || self.remove_source {
            operations.push(self.one("file.remove", Access::Write));
        }
        operations
    }

    fn one(&self, action: &'static str, access: Access) -> Operation {
        let mut operation = operation(action);
        operation.facts.insert("rsync".to_owned());
        let facts = [('r', "recursive"), ('R', "recursive"), ('p', "chmod"), ('o', "chown"), ('g', "chown")];
        let links = [('l', "symlink"), ('D', "devices"), ('L', "copy-links"), ('k', "copy-links")];
        for (letter, fact) in facts.into_iter().chain(links) {
            if self.has(letter) {
                operation.facts.insert(fact.to_owned());
            }
        }
        for path in &self.paths {
            touch(&mut operation, access, name_with_tilde(path.as_bytes()));
        }
        operation
    }

    fn has(&self, letter: char) -> bool {
        let bundles = self.options.iter().filter(|option| !option.starts_with("--"));
        bundles.filter_map(|bundle| bundle.split('e').next()).any(|letters| letters.contains(letter))
    }

    /// The words to run, which still need quoting.
    pub fn canonical(&self) -> Vec<String> {
        let mut words = vec!["rsync".to_owned(), "--server".to_owned()];
        words.extend(self.sender.then(|| "--sender".to_owned()));
        words.extend(self.options.iter().cloned());
        words.push(".".to_owned());
        words.extend(self.paths.iter().cloned());
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<RsyncCommand> {
        parse_command(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    fn actions(line: &str) -> Vec<String> {
        read(line).unwrap_or_else(|| panic!("{line}")).operations().into_iter().map(|o| o.action).collect()
    }

    #[test]
    fn lines_of_a_real_client_are_understood() {
        // As rsync 3.5.0 sends them.
        for (line, expected) in [
            ("rsync --server -logDtpre.iLsfxCIvu . /srv/", &["file.write"][..]),
            ("rsync --server --sender -logDtpre.iLsfxCIvu . /srv/a /srv/b", &["file.read"]),
            ("rsync --server -vlogDtprze.iLsfxCIvu --delete-after . /srv/", &["file.write", "file.remove"]),
            ("rsync --server -e.LsfxCIvu --log-format=X --partial . /srv/", &["file.write"]),
            ("rsync --server --sender -e.LsfxCIvu --bwlimit=100 --inplace . a", &["file.read"]),
            ("rsync --server -be.LsfxCIvu --suffix=.b . /srv/", &["file.write"]),
            ("rsync --server --sender -e.LsfxCIvu --remove-source-files . /srv/a", &["file.read", "file.remove"]),
            ("rsync --server -e.LsfxCIvu --remove-source-files . /srv/a", &["file.write"]),
            ("rsync --server -lHogDtpAXre.iLsfxCIvu --numeric-ids . ~/dst", &["file.write"]),
        ] {
            assert_eq!(actions(line), expected, "{line}");
            let command = read(line).unwrap();
            assert_eq!(command.canonical().join(" "), line);
        }
    }

    #[test]
    fn facts_are_of_the_options_and_not_of_what_the_client_is_able_to_do() {
        let operation = &read("rsync --server -re.iLsfxCIvu . x").unwrap().operations()[0];
        assert!(operation.has("recursive") && !operation.has("copy-links"));
        assert_eq!(operation.objects.first().unwrap().name, "~/x");
    }

    #[test]
    fn an_option_that_reaches_elsewhere_or_is_unknown_is_not_known() {
        for line in [
            "rsync --server -logDtpre.iLsfxCIvu . /a /b",
            "rsync --server --sender -slogDtpre.iLsfxCIvu . ",
            "rsync --server --sender -se.L . /a",
            "rsync --server -Ke.L . /a",
            "rsync --server -e.L --log-file=/etc/x . /a",
            "rsync --server -e.L --temp-dir /tmp . /a",
            "rsync --server -e.L --temp-dir=x . /a",
            "rsync --server -e.L --backup-dir=x . /a",
            "rsync --server -e.L --suffix=/../x . /a",
            "rsync --server -e.L --suffix=.. . /a",
            "rsync --server -e.L --files-from=- . /a",
            "rsync --server -e.L --write-devices . /a",
            "rsync --server -e.L . --delete /a",
            "rsync --server --sender -e.L . /a --log-file=/x",
            "rsync --server --sender -e.L --delete . /a",
            "rsync --server -e.L . -x",
            "rsync --server -e.L . ~root/x",
            "rsync --server -e.L /a",
            "rsync --server - . /a",
            "rsync --server -e$(id) . /a",
            "rsync -e.L . /a",
            "rsync --daemon --server . /a",
            "rsync --server --daemon .",
            "rrsync --server -e.L . /a",
            "rsync --sender --server -e.L . /a",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
