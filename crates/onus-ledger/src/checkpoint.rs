//! Checkpoints: a log's signed statement of its size and root (C2SP tlog-checkpoint).
//!
//! ```text
//! origin
//! size
//! base64(root)
//! optional further lines
//! ```
//!
//! Deliberately not here: whether a checkpoint continues an earlier one. Whoever signs must know
//! that first; whoever reads asks [`verify`](crate::verify).

use std::fmt;

use crate::hash::Hash;
use crate::note::{KeyKind, KeyName, Note, NoteError, SigningKey, VerifierKey};

/// The size and root of a log, as text without signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: a URL without scheme, which is also the name of the log's key.
    pub origin: KeyName,
    /// How many entries it has.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// Further lines, discouraged by the format but covered by the signature.
    extensions: Vec<String>,
}

/// Why a checkpoint is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it is malformed or its signature does not hold.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text is not a checkpoint.
    #[error("line {0} of the checkpoint is malformed")]
    Line(usize),
    /// The origin is not the name of the key.
    #[error("the checkpoint is of `{origin}`, the key is of `{key}`")]
    Origin {
        /// The origin in the text.
        origin: KeyName,
        /// The name of the key.
        key: KeyName,
    },
    /// The key makes cosignatures, which do not speak for a log.
    #[error("`{0}` is the key of a witness, not of a log")]
    WitnessKey(KeyName),
}

impl Checkpoint {
    /// A checkpoint without further lines.
    #[must_use]
    pub fn new(origin: KeyName, size: u64, root: Hash) -> Self {
        Self { origin, size, root, extensions: Vec::new() }
    }

    /// Reads the text of a note.
    ///
    /// # Errors
    /// [`CheckpointError::Line`] with the number of the line at fault.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Line(1))?.split('\n');
        let mut line = |number| lines.next().ok_or(CheckpointError::Line(number));
        let origin = KeyName::new(line(1)?).map_err(|_| CheckpointError::Line(1))?;
        let digits = line(2)?;
        let size: u64 = digits.parse().map_err(|_| CheckpointError::Line(2))?;
        // `parse` also takes `+7` and `007`; a size has one spelling.
        if size.to_string() != digits {
            return Err(CheckpointError::Line(2));
        }
        let root = Hash::from_base64(line(3)?).map_err(|_| CheckpointError::Line(3))?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if let Some(empty) = extensions.iter().position(String::is_empty) {
            return Err(CheckpointError::Line(4 + empty));
        }
        Ok(Self { origin, size, root, extensions })
    }

    /// The further lines.
    #[must_use]
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    /// Signs it as the log. The caller has made sure that it continues everything signed before.
    ///
    /// # Errors
    /// [`CheckpointError::Origin`] or [`CheckpointError::WitnessKey`] for a key that is not the
    /// log's, and [`CheckpointError::Note`].
    pub fn sign(self, key: &SigningKey) -> Result<SignedCheckpoint, CheckpointError> {
        speaks_for(&self.origin, key.verifier())?;
        let note = Note::sign(&self.to_string(), key)?;
        Ok(SignedCheckpoint { checkpoint: self, note })
    }
}

impl fmt::Display for Checkpoint {
    /// The text that is signed, with its final newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, self.root.to_base64())?;
        for line in &self.extensions {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// A checkpoint whose log signature was verified, or made here. Nothing else makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Reads a note and verifies that the log with `key` signed it and that it is that log's.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        note.open(std::slice::from_ref(key))?;
        let checkpoint = Checkpoint::parse(note.text())?;
        speaks_for(&checkpoint.origin, key)?;
        Ok(Self { checkpoint, note })
    }

    /// The statement.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note with all its signatures; `to_string` gives the file.
    #[must_use]
    pub fn note(&self) -> &Note {
        &self.note
    }

    pub(crate) fn note_mut(&mut self) -> &mut Note {
        &mut self.note
    }

    /// The statement alone, for remembering it.
    #[must_use]
    pub fn into_checkpoint(self) -> Checkpoint {
        self.checkpoint
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(f)
    }
}

fn speaks_for(origin: &KeyName, key: &VerifierKey) -> Result<(), CheckpointError> {
    if key.kind() != KeyKind::Note {
        return Err(CheckpointError::WitnessKey(key.name().clone()));
    }
    if key.name() != origin {
        return Err(CheckpointError::Origin { origin: origin.clone(), key: key.name().clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::EMPTY_ROOT;

    fn name(name: &str) -> KeyName {
        KeyName::new(name).unwrap()
    }

    #[test]
    fn a_checkpoint_has_one_spelling() {
        let root = EMPTY_ROOT.to_base64();
        let good = format!("log.example\n7\n{root}\n");
        assert_eq!(Checkpoint::parse(&good).unwrap().to_string(), good);
        let extended = format!("{good}more\n");
        assert_eq!(Checkpoint::parse(&extended).unwrap().to_string(), extended);
        for (bad, line) in [
            (String::new(), 1),
            (format!("\n7\n{root}\n"), 1),
            (format!("log example\n7\n{root}\n"), 1),
            (format!("log.example\n07\n{root}\n"), 2),
            (format!("log.example\n+7\n{root}\n"), 2),
            (format!("log.example\n-7\n{root}\n"), 2),
            (format!("log.example\n18446744073709551616\n{root}\n"), 2),
            ("log.example\n7\nAAAA\n".to_owned(), 3),
            ("log.example\n7\n".to_owned(), 3),
            (format!("{good}\nmore\n"), 4),
        ] {
            assert_eq!(Checkpoint::parse(&bad), Err(CheckpointError::Line(line)), "{bad}");
        }
    }

    #[test]
    fn a_key_speaks_only_for_its_own_log() {
        let key = SigningKey::from_seed(name("log.example"), &[1; 32]);
        let other = Checkpoint::new(name("other.example"), 0, EMPTY_ROOT);
        assert!(matches!(other.clone().sign(&key), Err(CheckpointError::Origin { .. })));
        // The same when the signature is good: a note signed around the check.
        let note = Note::sign(&other.to_string(), &key).unwrap().to_string();
        assert!(matches!(SignedCheckpoint::open(&note, key.verifier()), Err(CheckpointError::Origin { .. })));
        let witness = SigningKey::witness_from_seed(name("log.example"), &[1; 32]);
        assert!(matches!(
            Checkpoint::new(name("log.example"), 0, EMPTY_ROOT).sign(&witness),
            Err(CheckpointError::WitnessKey(_))
        ));
    }
}
