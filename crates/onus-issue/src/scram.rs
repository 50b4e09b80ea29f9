//! Random passwords and their SCRAM verifiers (RFC 5802, RFC 7677), so that a password never stands in a statement, where
//! the server's log would keep it.

use crate::IssueFault;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A fresh password: 32 random bytes as 43 characters of URL-safe base 64.
pub(crate) fn fresh_password() -> Result<Zeroizing<String>, IssueFault> {
    let bytes = Zeroizing::new(random::<32>()?);
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

/// The verifier that PostgreSQL stores: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
///
/// One iteration: stretching protects passwords that can be guessed, and 256 random bits can't. It saves both ends the
/// 4096 rounds at each connection. The password must therefore come from [`fresh_password`].
pub(crate) fn verifier(password: &Zeroizing<String>) -> Result<String, IssueFault> {
    Ok(verifier_with(password.as_bytes(), &random::<16>()?, 1))
}

fn verifier_with(password: &[u8], salt: &[u8], iterations: u32) -> String {
    // PBKDF2 with one block of output. The password is ASCII, so SASLprep leaves it as it is.
    let mut block = hmac(password, &[salt, &1u32.to_be_bytes()]);
    let mut salted = Zeroizing::new(*block);
    for _ in 1..iterations {
        block = hmac(password, &[block.as_slice()]);
        salted.iter_mut().zip(block.iter()).for_each(|(sum, byte)| *sum ^= byte);
    }
    let client_key = hmac(salted.as_slice(), &[b"Client Key"]);
    let server_key = hmac(salted.as_slice(), &[b"Server Key"]);
    let stored_key = Sha256::digest(client_key.as_slice());
    format!(
        "SCRAM-SHA-256${iterations}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored_key),
        STANDARD.encode(*server_key)
    )
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn random<const N: usize>() -> Result<[u8; N], IssueFault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| IssueFault::NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_is_the_one_of_rfc_7677() {
        // RFC 7677, section 3: user `user`, password `pencil`. The RFC shows the exchange, so its server signature is
        // computed again from our ServerKey, and its client proof is checked against our StoredKey.
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = verifier_with(b"pencil", &salt, 4096);
        let (stored, server) = verifier.rsplit_once('$').unwrap().1.split_once(':').unwrap();
        let exchange = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = hmac(&STANDARD.decode(server).unwrap(), &[exchange.as_bytes()]);
        assert_eq!(STANDARD.encode(*signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let client_signature = hmac(&STANDARD.decode(stored).unwrap(), &[exchange.as_bytes()]);
        let proof = STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap();
        let client_key: Vec<u8> = proof.iter().zip(client_signature.iter()).map(|(a, b)| a ^ b).collect();
        assert_eq!(STANDARD.encode(Sha256::digest(client_key)), stored);
    }

    #[test]
    fn passwords_are_fresh_and_absent_from_their_verifier() {
        let (one, two) = (fresh_password().unwrap(), fresh_password().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 43);
        assert!(!verifier(&one).unwrap().contains(one.as_str()));
    }
}
