//! Packets (RFC 4253 §6): framing, padding, sealing and opening, in place.
//!
//! AES-GCM is RFC 5647 with the length as associated data; ChaCha20-Poly1305 is OpenSSH's, with an encrypted length.
//! Neither knows what a payload means.

use aws_lc_rs::aead::chacha20_poly1305_openssh as chacha;
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use bytes::{Buf, Bytes, BytesMut};
use zeroize::Zeroizing;

use crate::algorithm::Cipher;
use crate::error::TransportError;
use crate::key_exchange::Derivation;

/// The longest payload that is sent or taken, in bytes.
pub const MAX_PAYLOAD: usize = 256 << 10;
/// The longest packet in the first key exchange, where the peer is nobody yet (RFC 4253 §6.1 asks for 35000).
pub const MAX_FIRST_PACKET: usize = 35000;
/// The longest packet afterwards: a payload, its padding's length and the most padding.
pub const MAX_PACKET: usize = MAX_PAYLOAD + 1 + 255;

const LENGTH: usize = 4;
const TAG: usize = 16;

/// AES-GCM's key and its counting nonce.
struct Gcm {
    key: LessSafeKey,
    nonce: [u8; 12],
}

impl Gcm {
    fn new(cipher: Cipher, derivation: &Derivation<'_>, iv: u8, key: u8) -> Result<Self, TransportError> {
        let algorithm = if cipher == Cipher::Aes128Gcm { &AES_128_GCM } else { &AES_256_GCM };
        let mut bytes = Zeroizing::new([0; 32]);
        let bytes = &mut bytes[..algorithm.key_len()];
        derivation.fill(key, bytes);
        let mut nonce = [0; 12];
        derivation.fill(iv, &mut nonce);
        let key = LessSafeKey::new(UnboundKey::new(algorithm, bytes).map_err(|_| TransportError::Crypto)?);
        Ok(Self { key, nonce })
    }

    /// The nonce of this packet; the next packet's is one more in its last eight bytes (RFC 5647 §7.1).
    fn next_nonce(&mut self) -> Nonce {
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let (_, counter) = self.nonce.split_last_chunk_mut::<8>().expect("12 bytes are more than 8");
        *counter = u64::from_be_bytes(*counter).wrapping_add(1).to_be_bytes();
        nonce
    }
}

fn chacha_key(derivation: &Derivation<'_>, letter: u8) -> Zeroizing<[u8; chacha::KEY_LEN]> {
    let mut key = Zeroizing::new([0; chacha::KEY_LEN]);
    derivation.fill(letter, key.as_mut());
    key
}

/// The letters of a direction's initial vector and key (RFC 4253 §7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// `A` and `C`
    ClientToServer,
    /// `B` and `D`
    ServerToClient,
}

impl Direction {
    fn letters(self) -> (u8, u8) {
        match self {
            Self::ClientToServer => (b'A', b'C'),
            Self::ServerToClient => (b'B', b'D'),
        }
    }
}

/// Random padding, drawn from the system a few hundred bytes at a time.
pub struct Padding {
    pool: [u8; 512],
    used: usize,
}

impl Padding {
    /// Draws nothing yet.
    pub fn new() -> Self {
        Self { pool: [0; 512], used: 512 }
    }

    fn take(&mut self, n: usize) -> Result<&[u8], TransportError> {
        if self.pool.len() - self.used < n {
            rand::fill(&mut self.pool).map_err(|_| TransportError::Crypto)?;
            self.used = 0;
        }
        let from = self.used;
        self.used += n;
        Ok(&self.pool[from..self.used])
    }
}

/// Seals one direction's packets.
pub struct Sealer(SealerKey);

enum SealerKey {
    Plain,
    Gcm(Box<Gcm>),
    ChaCha(Box<chacha::SealingKey>),
}

impl Sealer {
    /// Before the first keys.
    pub fn plain() -> Self {
        Self(SealerKey::Plain)
    }

    /// With the keys of an exchange.
    pub fn new(cipher: Cipher, derivation: &Derivation<'_>, direction: Direction) -> Result<Self, TransportError> {
        let (iv, key) = direction.letters();
        Ok(Self(match cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => SealerKey::Gcm(Box::new(Gcm::new(cipher, derivation, iv, key)?)),
            Cipher::ChaCha20Poly1305 => {
                SealerKey::ChaCha(Box::new(chacha::SealingKey::new(&chacha_key(derivation, key))))
            }
        }))
    }

    /// Appends the packet of this payload to `out`. The one copy is the payload's into the packet.
    pub fn seal(
        &mut self,
        out: &mut BytesMut,
        parts: &[&[u8]],
        sequence: u32,
        padding: &mut Padding,
    ) -> Result<(), TransportError> {
        let payload: usize = parts.iter().map(|part| part.len()).sum();
        if payload == 0 || payload > MAX_PAYLOAD {
            return Err(TransportError::PayloadLength { length: payload });
        }
        // What must be a multiple of the block: with AEADs the length field isn't part of it.
        let (block, aligned) = match &self.0 {
            SealerKey::Plain => (8, LENGTH + 1 + payload),
            SealerKey::Gcm(_) => (16, 1 + payload),
            SealerKey::ChaCha(_) => (8, 1 + payload),
        };
        let mut pad = block - aligned % block;
        if pad < 4 {
            pad += block;
        }
        let length = 1 + payload + pad;
        out.reserve(LENGTH + length + TAG);
        let start = out.len();
        out.extend_from_slice(&(length as u32).to_be_bytes());
        out.extend_from_slice(&[pad as u8]);
        for part in parts {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(padding.take(pad)?);
        let packet = &mut out[start..];
        match &mut self.0 {
            SealerKey::Plain => {}
            SealerKey::Gcm(gcm) => {
                let nonce = gcm.next_nonce();
                let (length, text) = packet.split_at_mut(LENGTH);
                let tag = gcm
                    .key
                    .seal_in_place_separate_tag(nonce, Aad::from(length), text)
                    .map_err(|_| TransportError::Crypto)?;
                out.extend_from_slice(tag.as_ref());
            }
            SealerKey::ChaCha(key) => {
                let mut tag = [0; TAG];
                key.seal_in_place(sequence, packet, &mut tag);
                out.extend_from_slice(&tag);
            }
        }
        Ok(())
    }
}

/// Opens one direction's packets.
pub struct Opener {
    key: OpenerKey,
    /// The length of the packet that the input begins with, once known.
    length: Option<usize>,
}

enum OpenerKey {
    Plain,
    Gcm(Box<Gcm>),
    ChaCha(Box<chacha::OpeningKey>),
}

impl Opener {
    /// Before the first keys.
    pub fn plain() -> Self {
        Self { key: OpenerKey::Plain, length: None }
    }

    /// With the keys of an exchange.
    pub fn new(cipher: Cipher, derivation: &Derivation<'_>, direction: Direction) -> Result<Self, TransportError> {
        let (iv, key) = direction.letters();
        let key = match cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => OpenerKey::Gcm(Box::new(Gcm::new(cipher, derivation, iv, key)?)),
            Cipher::ChaCha20Poly1305 => {
                OpenerKey::ChaCha(Box::new(chacha::OpeningKey::new(&chacha_key(derivation, key))))
            }
        };
        Ok(Self { key, length: None })
    }

    /// Takes the packet off the front of `input` and gives its payload, opened where it lies; `None` while it isn't
    /// all there. A length above `limit` is refused as soon as it is read.
    pub fn open(&mut self, input: &mut BytesMut, sequence: u32, limit: usize) -> Result<Option<Bytes>, TransportError> {
        let length = match self.length {
            Some(length) => length,
            None => {
                let Some(head) = input.first_chunk::<LENGTH>() else { return Ok(None) };
                let (head, block, outside) = match &self.key {
                    OpenerKey::Plain => (*head, 8, LENGTH),
                    OpenerKey::Gcm(_) => (*head, 16, 0),
                    OpenerKey::ChaCha(key) => (key.decrypt_packet_length(sequence, *head), 8, 0),
                };
                let length = u32::from_be_bytes(head) as usize;
                if length > limit {
                    return Err(TransportError::PacketTooLong { length, limit });
                }
                // One byte of payload, one that counts the padding, and four of padding at least.
                if length < 6 || !(length + outside).is_multiple_of(block) {
                    return Err(TransportError::PacketMalformed);
                }
                self.length = Some(length);
                length
            }
        };
        let end = LENGTH + length;
        let whole = if matches!(self.key, OpenerKey::Plain) { end } else { end + TAG };
        if input.len() < whole {
            return Ok(None);
        }
        self.length = None;
        let mut packet = input.split_to(whole);
        match &mut self.key {
            OpenerKey::Plain => {}
            OpenerKey::Gcm(gcm) => {
                let nonce = gcm.next_nonce();
                let (length, text) = packet.split_at_mut(LENGTH);
                gcm.key.open_in_place(nonce, Aad::from(&*length), text).map_err(|_| TransportError::Tampered)?;
            }
            OpenerKey::ChaCha(key) => {
                let (text, tag) = packet.split_at_mut(end);
                let tag: &[u8; TAG] = (&*tag).try_into().map_err(|_| TransportError::PacketMalformed)?;
                key.open_in_place(sequence, text, tag).map_err(|_| TransportError::Tampered)?;
            }
        }
        let pad = usize::from(packet[LENGTH]);
        if pad < 4 || pad + 2 > length {
            return Err(TransportError::PacketMalformed);
        }
        packet.truncate(end - pad);
        packet.advance(LENGTH + 1);
        Ok(Some(packet.freeze()))
    }
}
