//! Signed notes and their keys (C2SP signed-note), with Ed25519 (0x01) and timestamped Ed25519
//! cosignatures (0x04).
//!
//! ```text
//! text, one or more lines
//!
//! — name base64(key id (4 bytes) || signature)
//! ```
//!
//! Other signature types are carried and ignored, as the format asks. What a text means is not
//! decided here; see [`checkpoint`](crate::checkpoint).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::cosign;

/// The longest note that is read, in bytes.
pub const MAX_NOTE_BYTES: usize = 1 << 20;

/// The most signatures that are read from one note. The format asks for at least 16.
pub const MAX_SIGNATURES: usize = 128;

/// Why a note, a name or a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// More than [`MAX_NOTE_BYTES`].
    #[error("the note is longer than {MAX_NOTE_BYTES} bytes")]
    TooLong,
    /// More than [`MAX_SIGNATURES`].
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    /// A control character other than a newline.
    #[error("the note has a control character")]
    ControlCharacter,
    /// No empty line, no final newline or no signature.
    #[error("the note has no signature block")]
    NoSignatures,
    /// A line of the signature block does not have the form of a signature.
    #[error("signature line {0} is malformed")]
    SignatureLine(usize),
    /// A key name is empty, or has a space, a control character or a `+`.
    #[error("a key name is not empty and has no spaces, control characters or `+`")]
    KeyName,
    /// A verifier key is not `name+id+base64`, or its id does not belong to it.
    #[error("the verifier key is malformed")]
    VerifierKey,
    /// A verifier key of a type other than 0x01 and 0x04.
    #[error("verifier keys of type {0:#04x} are not supported")]
    KeyType(u8),
    /// A signature by a known key is wrong, so the whole note is refused.
    #[error("the signature by `{0}` is wrong")]
    BadSignature(KeyName),
    /// None of the known keys signed.
    #[error("the note is not signed by a known key")]
    UnknownKeys,
}

/// The name of a key: not empty, without spaces, control characters and `+`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// Takes a name.
    ///
    /// # Errors
    /// [`NoteError::KeyName`].
    pub fn new(name: &str) -> Result<Self, NoteError> {
        let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if name.is_empty() || name.contains(bad) {
            return Err(NoteError::KeyName);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a key signs.
///
/// When adding one: its message in [`VerifierKey`], its byte here, and the length of its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// The note's text itself: Ed25519, type 0x01.
    Note,
    /// A time and the note's text: timestamped Ed25519 cosignature, type 0x04.
    Cosignature,
}

impl KeyKind {
    fn byte(self) -> u8 {
        match self {
            Self::Note => 0x01,
            Self::Cosignature => 0x04,
        }
    }
}

/// The short id that says which key made a signature:
/// `SHA256(name || 0x0A || type || public key)[..4]`. A hint only, nothing rests on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 4]);

impl KeyId {
    fn of(name: &KeyName, kind: KeyKind, public: &[u8; 32]) -> Self {
        let hash = Sha256::new()
            .chain_update(name.as_str())
            .chain_update([b'\n', kind.byte()])
            .chain_update(public)
            .finalize();
        Self([hash[0], hash[1], hash[2], hash[3]])
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A private key with its name: a log's (type 0x01) or a witness's (type 0x04).
///
/// Its memory is wiped when it is dropped, and `Debug` shows the public part only.
pub struct SigningKey {
    verifier: VerifierKey,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// A key for notes (type 0x01) from a 32-byte Ed25519 seed.
    #[must_use]
    pub fn from_seed(name: KeyName, seed: &[u8; 32]) -> Self {
        Self::with_kind(name, KeyKind::Note, seed)
    }

    /// A witness's key (type 0x04) from a 32-byte Ed25519 seed. Never use a log's seed for it.
    #[must_use]
    pub fn witness_from_seed(name: KeyName, seed: &[u8; 32]) -> Self {
        Self::with_kind(name, KeyKind::Cosignature, seed)
    }

    fn with_kind(name: KeyName, kind: KeyKind, seed: &[u8; 32]) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = key.verifying_key();
        let verifier = VerifierKey { id: KeyId::of(&name, kind, public.as_bytes()), name, kind, key: public };
        Self { verifier, key }
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The seed, for storing the key sealed. Wiped when dropped.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes())
    }

    pub(crate) fn sign_bytes(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

/// A public key with its name, written `name+id+base64(type || key)` (a "vkey").
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    id: KeyId,
    kind: KeyKind,
    key: ed25519_dalek::VerifyingKey,
}

impl VerifierKey {
    /// Reads a vkey. Keys of small order, with which one signature fits many texts, are refused.
    ///
    /// # Errors
    /// [`NoteError::VerifierKey`], [`NoteError::KeyType`] or [`NoteError::KeyName`].
    pub fn parse(vkey: &str) -> Result<Self, NoteError> {
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::VerifierKey);
        };
        let name = KeyName::new(name)?;
        let key = STANDARD.decode(key).map_err(|_| NoteError::VerifierKey)?;
        let (kind, public) = key.split_first().ok_or(NoteError::VerifierKey)?;
        let kind = match kind {
            0x01 => KeyKind::Note,
            0x04 => KeyKind::Cosignature,
            other => return Err(NoteError::KeyType(*other)),
        };
        let public = <&[u8; 32]>::try_from(public).map_err(|_| NoteError::VerifierKey)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(public).map_err(|_| NoteError::VerifierKey)?;
        let expected = KeyId::of(&name, kind, public);
        if key.is_weak() || hex::encode(expected.0) != id {
            return Err(NoteError::VerifierKey);
        }
        Ok(Self { name, id: expected, kind, key })
    }

    /// The vkey.
    #[must_use]
    pub fn to_vkey(&self) -> String {
        let mut key = vec![self.kind.byte()];
        key.extend_from_slice(self.key.as_bytes());
        let id = hex::encode(self.id.0);
        format!("{}+{id}+{}", self.name, STANDARD.encode(key))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The short id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What it signs.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The time of a valid signature: `Some(None)` for a kind without one.
    fn check(&self, text: &str, signature: &[u8]) -> Option<Option<u64>> {
        match self.kind {
            KeyKind::Note => self.check_bytes(text.as_bytes(), signature).then_some(None),
            KeyKind::Cosignature => {
                let (time, signature) = signature.split_first_chunk::<8>()?;
                let time = u64::from_be_bytes(*time);
                let message = cosign::message(time, text);
                self.check_bytes(message.as_bytes(), signature).then_some(Some(time))
            }
        }
    }

    fn check_bytes(&self, message: &[u8], signature: &[u8]) -> bool {
        ed25519_dalek::Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({})", self.to_vkey())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_vkey())
    }
}

/// One line of a note's signature block, not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The name the line gives.
    pub name: KeyName,
    /// The id the line gives.
    pub id: KeyId,
    /// The bytes after the id.
    pub signature: Vec<u8>,
}

/// A note: well-formed, its signatures not verified. [`Note::open`] verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// A signature that was verified against a known key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSignature {
    /// The name of the key.
    pub name: KeyName,
    /// The id of the key.
    pub id: KeyId,
    /// What the key signs.
    pub kind: KeyKind,
    /// For a cosignature, the time it states, in seconds of Unix time.
    pub timestamp_s: Option<u64>,
}

impl Note {
    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError`] for whatever the format does not allow.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong);
        }
        if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::ControlCharacter);
        }
        let end = note.rfind("\n\n").ok_or(NoteError::NoSignatures)? + 1;
        let (text, block) = (&note[..end], &note[end + 1..]);
        let block = block.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        let mut signatures = Vec::new();
        for (number, line) in block.split('\n').enumerate() {
            if number == MAX_SIGNATURES {
                return Err(NoteError::TooManySignatures);
            }
            signatures.push(parse_line(line).ok_or(NoteError::SignatureLine(number + 1))?);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// Signs a text with a key for notes (type 0x01).
    ///
    /// # Errors
    /// [`NoteError::KeyType`] for a witness's key, [`NoteError::NoSignatures`] for a text that does
    /// not end in a newline, [`NoteError::ControlCharacter`] and [`NoteError::TooLong`].
    pub fn sign(text: &str, key: &SigningKey) -> Result<Self, NoteError> {
        if key.verifier.kind != KeyKind::Note {
            return Err(NoteError::KeyType(key.verifier.kind.byte()));
        }
        if !text.ends_with('\n') {
            return Err(NoteError::NoSignatures);
        }
        if text.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::ControlCharacter);
        }
        if text.len() > MAX_NOTE_BYTES / 2 {
            return Err(NoteError::TooLong);
        }
        let signature = key.sign_bytes(text.as_bytes()).to_vec();
        Ok(Self {
            text: text.to_owned(),
            signatures: vec![NoteSignature { name: key.verifier.name.clone(), id: key.verifier.id, signature }],
        })
    }

    /// Verifies the note against the keys that the caller trusts and returns which of them signed,
    /// at least one, each at most once.
    ///
    /// Signatures by unknown keys are ignored. A known key's signature that does not verify makes
    /// the whole note bad, even beside good ones.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] or [`NoteError::UnknownKeys`].
    pub fn open(&self, keys: &[VerifierKey]) -> Result<Vec<VerifiedSignature>, NoteError> {
        let mut verified: Vec<VerifiedSignature> = Vec::new();
        for line in &self.signatures {
            for key in keys {
                if key.name != line.name || key.id != line.id {
                    continue;
                }
                let timestamp_s =
                    key.check(&self.text, &line.signature).ok_or_else(|| NoteError::BadSignature(key.name.clone()))?;
                // Counted once, or one witness could fill a quorum alone.
                if verified.iter().all(|known| known.name != key.name || known.id != key.id) {
                    verified.push(VerifiedSignature {
                        name: key.name.clone(),
                        id: key.id,
                        kind: key.kind,
                        timestamp_s,
                    });
                }
            }
        }
        if verified.is_empty() {
            return Err(NoteError::UnknownKeys);
        }
        Ok(verified)
    }

    /// The text, with its final newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines, not verified.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature line, for instance a witness's. It is not verified here.
    ///
    /// # Errors
    /// [`NoteError::TooManySignatures`].
    pub fn add_signature(&mut self, signature: NoteSignature) -> Result<(), NoteError> {
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        self.signatures.push(signature);
        Ok(())
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            writeln!(f, "{signature}")?;
        }
        Ok(())
    }
}

impl fmt::Display for NoteSignature {
    /// The line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id.0[..], &self.signature].concat();
        write!(f, "\u{2014} {} {}", self.name, STANDARD.encode(bytes))
    }
}

fn parse_line(line: &str) -> Option<NoteSignature> {
    let (name, bytes) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = STANDARD.decode(bytes).ok()?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    if signature.is_empty() {
        return None;
    }
    Some(NoteSignature { name: KeyName::new(name).ok()?, id: KeyId(*id), signature: signature.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, seed: u8) -> SigningKey {
        SigningKey::from_seed(KeyName::new(name).unwrap(), &[seed; 32])
    }

    #[test]
    fn a_private_key_does_not_show() {
        let key = key("log.example", 0xab);
        let shown = format!("{key:?}");
        assert!(!shown.contains("abababab") && !shown.contains("171, 171"), "{shown}");
        assert!(shown.contains(&key.verifier().to_vkey()));
        assert_eq!(*key.seed(), [0xab; 32]);
    }

    #[test]
    fn a_known_key_that_fails_spoils_the_note_beside_a_good_one() {
        let (good, bad) = (key("good.example", 1), key("bad.example", 2));
        let mut note = Note::sign("text\n", &good).unwrap();
        let other = Note::sign("other text\n", &bad).unwrap();
        note.add_signature(other.signatures()[0].clone()).unwrap();
        let (good, bad) = (good.verifier().clone(), bad.verifier().clone());
        assert_eq!(note.open(std::slice::from_ref(&good)).unwrap().len(), 1);
        assert_eq!(note.open(&[good, bad.clone()]), Err(NoteError::BadSignature(bad.name().clone())));
        assert_eq!(note.open(&[]), Err(NoteError::UnknownKeys));
    }

    #[test]
    fn the_same_signature_counts_once() {
        let key = key("log.example", 1);
        let mut note = Note::sign("text\n", &key).unwrap();
        note.add_signature(note.signatures()[0].clone()).unwrap();
        assert_eq!(note.open(&[key.verifier().clone()]).unwrap().len(), 1);
    }

    #[test]
    fn the_text_reaches_up_to_the_last_empty_line() {
        let key = key("log.example", 1);
        let note = Note::sign("one\n\n\u{2014} log.example AAAAAAA=\n\ntwo\n", &key).unwrap();
        let again = Note::parse(&note.to_string()).unwrap();
        assert_eq!(again, note);
        assert!(again.open(&[key.verifier().clone()]).is_ok());
    }

    #[test]
    fn malformed_notes_are_refused() {
        let good = Note::sign("text\n", &key("log.example", 1)).unwrap().to_string();
        assert!(Note::parse(&good).is_ok());
        assert_eq!(Note::parse(&good.replace("text", "te\rxt")), Err(NoteError::ControlCharacter));
        assert_eq!(Note::parse(good.trim_end()), Err(NoteError::NoSignatures));
        assert_eq!(Note::parse("text\n"), Err(NoteError::NoSignatures));
        assert_eq!(Note::parse("text\n\n"), Err(NoteError::NoSignatures));
        assert_eq!(Note::parse(&good.replace('\u{2014}', "-")), Err(NoteError::SignatureLine(1)));
        assert_eq!(Note::parse(&format!("{good}trailing\n")), Err(NoteError::SignatureLine(2)));
        assert_eq!(
            Note::parse("text\n\n\u{2014} name AAAAAA==\n"),
            Err(NoteError::SignatureLine(1)),
            "an id without a signature"
        );
        let line = good.lines().last().unwrap();
        let many = format!("text\n\n{}", format!("{line}\n").repeat(MAX_SIGNATURES + 1));
        assert_eq!(Note::parse(&many), Err(NoteError::TooManySignatures));
        assert_eq!(Note::parse(&"x".repeat(MAX_NOTE_BYTES + 1)), Err(NoteError::TooLong));
        assert!(Note::sign("no newline", &key("log.example", 1)).is_err());
    }

    #[test]
    fn malformed_keys_are_refused() {
        let vkey = key("log.example", 1).verifier().to_vkey();
        assert_eq!(VerifierKey::parse(&vkey).unwrap().to_vkey(), vkey);
        for bad in [
            vkey.replace("log.", "lag."),
            vkey.replace("log.", "l g."),
            vkey.replace("+A", "+B"),
            vkey[..vkey.len() - 4].to_owned(),
            "log.example".to_owned(),
            String::new(),
        ] {
            assert!(VerifierKey::parse(&bad).is_err(), "{bad}");
        }
        // The neutral element: with it as key, signatures exist that fit every text.
        let name = KeyName::new("weak").unwrap();
        let mut point = [0; 32];
        point[0] = 1;
        let id = hex::encode(KeyId::of(&name, KeyKind::Note, &point).0);
        let weak = format!("weak+{id}+{}", STANDARD.encode([&[1][..], &point].concat()));
        assert_eq!(VerifierKey::parse(&weak), Err(NoteError::VerifierKey));
    }
}
