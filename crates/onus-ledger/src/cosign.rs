//! Timestamped cosignatures of checkpoints: what a witness adds (C2SP tlog-cosignature, type 0x04).
//!
//! A cosignature says: at this time, this was the largest consistent tree I had seen of that log.
//! Whether that is so is the witness's own memory; it is deliberately not kept here.

use crate::checkpoint::SignedCheckpoint;
use crate::note::{KeyKind, KeyName, NoteError, NoteSignature, SigningKey, VerifierKey};

/// Why a checkpoint could not be cosigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CosignError {
    /// The key is one for notes; a witness needs a key of its own.
    #[error("`{0}` is not the key of a witness")]
    NotAWitness(KeyName),
    /// The note takes no further signature.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// A verified cosignature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// The witness.
    pub witness: KeyName,
    /// When it saw the checkpoint, in seconds of Unix time.
    pub timestamp_s: u64,
}

/// What a cosignature signs: a header, the time, and the whole text of the checkpoint.
pub(crate) fn message(timestamp_s: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {timestamp_s}\n{text}")
}

/// Makes a witness's signature line for a checkpoint, for the log to add to its note.
///
/// The witness has verified that the checkpoint continues the last one it cosigned, and has
/// recorded it, before calling this.
///
/// # Errors
/// [`CosignError::NotAWitness`].
pub fn cosign(checkpoint: &SignedCheckpoint, key: &SigningKey, timestamp_s: u64) -> Result<NoteSignature, CosignError> {
    let verifier = key.verifier();
    if verifier.kind() != KeyKind::Cosignature {
        return Err(CosignError::NotAWitness(verifier.name().clone()));
    }
    let signed = key.sign_bytes(message(timestamp_s, checkpoint.note().text()).as_bytes());
    Ok(NoteSignature {
        name: verifier.name().clone(),
        id: verifier.id(),
        signature: [&timestamp_s.to_be_bytes()[..], &signed].concat(),
    })
}

/// Adds a witness's line to a checkpoint after verifying it against the witness's key.
///
/// # Errors
/// [`CosignError::Note`] with [`NoteError::BadSignature`] if the line is not by that key or does
/// not hold; the checkpoint is then unchanged.
pub fn attach(
    checkpoint: &mut SignedCheckpoint,
    line: NoteSignature,
    witness: &VerifierKey,
) -> Result<Cosignature, CosignError> {
    if witness.kind() != KeyKind::Cosignature {
        return Err(CosignError::NotAWitness(witness.name().clone()));
    }
    let bad = || NoteError::BadSignature(witness.name().clone());
    if line.name != *witness.name() || line.id != witness.id() {
        return Err(bad().into());
    }
    let mut note = checkpoint.note().clone();
    note.add_signature(line)?;
    let cosignature = cosignatures_of(&note, std::slice::from_ref(witness))?.pop().ok_or_else(bad)?;
    *checkpoint.note_mut() = note;
    Ok(cosignature)
}

/// The cosignatures on a checkpoint by witnesses that the caller trusts, each witness once. The
/// caller compares their number with its quorum.
///
/// # Errors
/// [`NoteError::BadSignature`] if a trusted witness's line does not hold. No cosignature at all is
/// an empty list, not an error. Keys that are not a witness's count for nothing.
pub fn cosignatures(checkpoint: &SignedCheckpoint, witnesses: &[VerifierKey]) -> Result<Vec<Cosignature>, NoteError> {
    cosignatures_of(checkpoint.note(), witnesses)
}

fn cosignatures_of(note: &crate::note::Note, witnesses: &[VerifierKey]) -> Result<Vec<Cosignature>, NoteError> {
    let verified = match note.open(witnesses) {
        Err(NoteError::UnknownKeys) => return Ok(Vec::new()),
        other => other?,
    };
    Ok(verified
        .into_iter()
        .filter_map(|signature| Some(Cosignature { timestamp_s: signature.timestamp_s?, witness: signature.name }))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::hash::EMPTY_ROOT;

    fn name(name: &str) -> KeyName {
        KeyName::new(name).unwrap()
    }

    fn setup() -> (SignedCheckpoint, SigningKey) {
        let log = SigningKey::from_seed(name("log.example"), &[1; 32]);
        let checkpoint = Checkpoint::new(name("log.example"), 0, EMPTY_ROOT);
        let witness = SigningKey::witness_from_seed(name("w.example"), &[2; 32]);
        (checkpoint.sign(&log).unwrap(), witness)
    }

    #[test]
    fn a_cosignature_carries_its_time_and_cannot_be_redated() {
        let (mut checkpoint, witness) = setup();
        let line = cosign(&checkpoint, &witness, 1_767_225_600).unwrap();
        let mut redated = line.clone();
        redated.signature[7] ^= 1;
        assert!(attach(&mut checkpoint, redated, witness.verifier()).is_err());
        assert_eq!(checkpoint.note().signatures().len(), 1);

        let added = attach(&mut checkpoint, line, witness.verifier()).unwrap();
        assert_eq!(added.timestamp_s, 1_767_225_600);
        let found = cosignatures(&checkpoint, &[witness.verifier().clone()]).unwrap();
        assert_eq!(found, [added]);
        assert!(cosignatures(&checkpoint, &[]).unwrap().is_empty());
    }

    #[test]
    fn a_log_key_is_no_witness() {
        let (checkpoint, _) = setup();
        let log = SigningKey::from_seed(name("log.example"), &[1; 32]);
        assert!(matches!(cosign(&checkpoint, &log, 1), Err(CosignError::NotAWitness(_))));
        // Nor does its ordinary signature count towards a quorum.
        assert!(cosignatures(&checkpoint, &[log.verifier().clone()]).unwrap().is_empty());
    }
}
