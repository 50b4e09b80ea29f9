//! KEXINIT (RFC 4253 §7.1): what each side offers, and what follows from both offers.
//!
//! Only decides; keys are made in `key_exchange.rs`.

use crate::algorithm::{Algorithms, Cipher, HostKeyAlgorithm, Kex};
use crate::error::TransportError;
use crate::message::KEXINIT;
use crate::wire::{Reader, Short, put_name_list};

/// More names than anyone offers; a list with more is refused.
const MAX_NAMES: usize = 256;

/// A client that takes EXT_INFO (RFC 8308 §2.1).
pub const EXT_INFO_CLIENT: &str = "ext-info-c";
/// A client that keeps to strict key exchange (OpenSSH PROTOCOL §1.9).
pub const STRICT_CLIENT: &str = "kex-strict-c-v00@openssh.com";
/// A server that keeps to strict key exchange.
pub const STRICT_SERVER: &str = "kex-strict-s-v00@openssh.com";

/// The MACs that are named. None of them is ever used, nor implemented: with AEAD ciphers there is no MAC, but the
/// list may not be empty, and some peers want it to have something in common with theirs all the same.
const MACS: [&str; 2] = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"];

/// Our KEXINIT payload. `markers` are the names in the method list that are no methods; they belong to a connection's
/// first KEXINIT only.
pub fn write(
    cookie: [u8; 16],
    algorithms: &Algorithms,
    host_keys: impl Iterator<Item = HostKeyAlgorithm>,
    markers: &[&str],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.push(KEXINIT);
    out.extend_from_slice(&cookie);
    put_name_list(&mut out, algorithms.kex.iter().map(|kex| kex.name()).chain(markers.iter().copied()));
    put_name_list(&mut out, host_keys.map(HostKeyAlgorithm::name));
    for _direction in 0..2 {
        put_name_list(&mut out, algorithms.ciphers.iter().map(|cipher| cipher.name()));
    }
    for _direction in 0..2 {
        put_name_list(&mut out, MACS);
    }
    for _direction in 0..2 {
        put_name_list(&mut out, ["none"]);
    }
    for _direction in 0..2 {
        put_name_list(&mut out, []);
    }
    // No guessed packet follows, and four reserved bytes.
    out.extend_from_slice(&[0; 5]);
    out
}

/// What one side offers, borrowed from its KEXINIT payload.
#[derive(Debug)]
pub struct Offer<'a> {
    kex: Vec<&'a str>,
    host_key: Vec<&'a str>,
    ciphers: [Vec<&'a str>; 2],
    compression: [Vec<&'a str>; 2],
    follows: bool,
}

impl<'a> Offer<'a> {
    /// Reads a KEXINIT payload.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Short> {
        let mut reader = Reader::new(payload);
        if reader.byte()? != KEXINIT {
            return Err(Short);
        }
        reader.take(16)?;
        let mut list = || reader.name_list(MAX_NAMES);
        let (kex, host_key) = (list()?, list()?);
        let ciphers = [list()?, list()?];
        let _macs = [list()?, list()?];
        let compression = [list()?, list()?];
        let _languages = [list()?, list()?];
        let follows = reader.boolean()?;
        reader.uint32()?;
        reader.end()?;
        Ok(Self { kex, host_key, ciphers, compression, follows })
    }

    /// Whether `marker` stands among the methods.
    pub fn has(&self, marker: &str) -> bool {
        self.kex.contains(&marker)
    }
}

/// What both offers come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The method.
    pub kex: Kex,
    /// The server's proof.
    pub host_key: HostKeyAlgorithm,
    /// Client to server, server to client.
    pub ciphers: [Cipher; 2],
    /// The peer sent a guess along, and guessed wrong: its next packet of the exchange is to be ignored.
    pub wrong_guess: bool,
}

/// The first of each of the client's lists that the server has too (RFC 4253 §7.1).
pub fn agree(ours: &Offer<'_>, theirs: &Offer<'_>, we_are_client: bool) -> Result<Agreed, TransportError> {
    let pick = |list: &'static str, ours: &[&str], theirs: &[&str]| {
        let (client, server) = if we_are_client { (ours, theirs) } else { (theirs, ours) };
        client
            .iter()
            .find(|name| server.contains(name))
            .map(|name| (*name).to_owned())
            .ok_or_else(|| none(list, theirs))
    };
    let kex = pick("key exchange method", &ours.kex, &theirs.kex)?;
    // A marker in common is no method: it isn't found here, and the exchange fails.
    let kex =
        Kex::ALL.into_iter().find(|it| it.name() == kex).ok_or_else(|| none("key exchange method", &theirs.kex))?;
    let host_key = pick("host key algorithm", &ours.host_key, &theirs.host_key)?;
    let host_key = HostKeyAlgorithm::ALL
        .into_iter()
        .find(|it| it.name() == host_key)
        .ok_or_else(|| none("host key algorithm", &theirs.host_key))?;
    let cipher = |direction: usize| {
        let name = pick("cipher", &ours.ciphers[direction], &theirs.ciphers[direction])?;
        Cipher::ALL.into_iter().find(|it| it.name() == name).ok_or_else(|| none("cipher", &theirs.ciphers[direction]))
    };
    let ciphers = [cipher(0)?, cipher(1)?];
    for direction in 0..2 {
        pick("compression", &ours.compression[direction], &theirs.compression[direction])?;
    }
    let wrong_guess =
        theirs.follows && (ours.kex.first() != theirs.kex.first() || ours.host_key.first() != theirs.host_key.first());
    Ok(Agreed { kex, host_key, ciphers, wrong_guess })
}

fn none(list: &'static str, theirs: &[&str]) -> TransportError {
    let mut offered = theirs.join(",");
    // Names are ASCII, so this never cuts a character.
    offered.truncate(512);
    TransportError::NoCommonAlgorithm { list, offered }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(kex: &[Kex], ciphers: &[Cipher], markers: &[&str]) -> Vec<u8> {
        let algorithms = Algorithms { kex: kex.to_vec(), ciphers: ciphers.to_vec() };
        write([7; 16], &algorithms, [HostKeyAlgorithm::Ed25519].into_iter(), markers)
    }

    #[test]
    fn the_clients_order_decides() {
        let client = offer(&[Kex::Curve25519, Kex::MlKem768X25519], &[Cipher::Aes256Gcm, Cipher::Aes128Gcm], &[]);
        let server = offer(&Kex::ALL, &Cipher::ALL, &[STRICT_SERVER]);
        let (client, server) = (Offer::parse(&client).unwrap(), Offer::parse(&server).unwrap());
        for agreed in [agree(&client, &server, true).unwrap(), agree(&server, &client, false).unwrap()] {
            assert_eq!((agreed.kex, agreed.ciphers), (Kex::Curve25519, [Cipher::Aes256Gcm; 2]));
        }
        assert!(server.has(STRICT_SERVER) && !client.has(STRICT_CLIENT));
    }

    #[test]
    fn a_marker_is_no_method() {
        let client = offer(&[Kex::Curve25519], &Cipher::ALL, &[EXT_INFO_CLIENT]);
        let server = offer(&[], &Cipher::ALL, &[EXT_INFO_CLIENT]);
        let (client, server) = (Offer::parse(&client).unwrap(), Offer::parse(&server).unwrap());
        assert!(matches!(agree(&client, &server, true), Err(TransportError::NoCommonAlgorithm { .. })));
    }

    #[test]
    fn a_guess_is_right_only_if_both_first_names_are_equal() {
        let ours = offer(&[Kex::MlKem768X25519, Kex::Curve25519], &Cipher::ALL, &[]);
        for (kex, wrong) in [(Kex::MlKem768X25519, false), (Kex::Curve25519, true)] {
            let mut theirs = offer(&[kex], &Cipher::ALL, &[]);
            let at = theirs.len() - 5;
            theirs[at] = 1;
            let agreed = agree(&Offer::parse(&ours).unwrap(), &Offer::parse(&theirs).unwrap(), false).unwrap();
            assert_eq!(agreed.wrong_guess, wrong);
        }
    }

    #[test]
    fn every_cut_is_short() {
        let whole = offer(&Kex::ALL, &Cipher::ALL, &[]);
        for end in 0..whole.len() {
            assert!(Offer::parse(&whole[..end]).is_err(), "{end}");
        }
        assert!(Offer::parse(&whole).is_ok());
        assert!(Offer::parse(&[whole.as_slice(), &[0]].concat()).is_err());
    }
}
