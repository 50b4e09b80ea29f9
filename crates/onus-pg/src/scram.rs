//! SCRAM-SHA-256 (RFC 5802, RFC 7677): the client's side for the upstream, and the verifier that a server stores.
//!
//! It makes no nonce (the caller hands one in) and keeps no password (only the bytes that it was lent). Passwords are
//! used as the bytes they are: SASLprep is not applied, which changes nothing for ASCII.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// The most iterations that a server may ask for: more is an attack on our time.
pub const MAX_ITERATIONS: u32 = 1_000_000;

/// Why a SCRAM exchange failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message that can't be read.
    #[error("the server's authentication message is malformed")]
    Malformed,
    /// The server's nonce doesn't continue ours.
    #[error("the server answered another authentication")]
    Nonce,
    /// Fewer iterations than demanded, or more than [`MAX_ITERATIONS`].
    #[error("the server asks for {0} iterations, which is outside what is accepted")]
    Iterations(u32),
    /// The server refused.
    #[error("the server refused the authentication: {0}")]
    Refused(String),
    /// The server couldn't prove that it knows the verifier.
    #[error("the server could not prove that it knows this credential")]
    Impostor,
    /// Called out of order.
    #[error("the authentication messages came out of order")]
    Order,
}

/// Whether the exchange is bound to the TLS channel (RFC 5929).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// No TLS.
    None,
    /// TLS, but the server offered no PLUS: says so, so that a downgrade shows.
    NotOffered,
    /// `tls-server-end-point`: the hash of the server's certificate.
    ServerEndPoint(Vec<u8>),
}

impl Binding {
    fn header(&self) -> &'static str {
        match self {
            Self::None => "n,,",
            Self::NotOffered => "y,,",
            Self::ServerEndPoint(_) => "p=tls-server-end-point,,",
        }
    }
}

/// The client's side of one exchange.
pub struct Client {
    binding: Binding,
    nonce: String,
    min_iterations: u32,
    expected: Option<[u8; 32]>,
}

impl Client {
    /// An exchange; `nonce` is printable ASCII without commas, at least 18 random bytes in base64. `min_iterations`
    /// is 1 where the password itself is random and long, else 4096.
    pub fn new(binding: Binding, nonce: String, min_iterations: u32) -> Self {
        Self { binding, nonce, min_iterations, expected: None }
    }

    /// The mechanism's name and the client-first-message.
    pub fn first(&self) -> (&'static str, String) {
        let mechanism = match self.binding {
            Binding::ServerEndPoint(_) => "SCRAM-SHA-256-PLUS",
            Binding::None | Binding::NotOffered => "SCRAM-SHA-256",
        };
        (mechanism, format!("{}{}", self.binding.header(), self.first_bare("")))
    }

    // PostgreSQL ignores the name and takes the one from the start-up message.
    fn first_bare(&self, user: &str) -> String {
        format!("n={user},r={}", self.nonce)
    }

    /// Answers the server-first-message with the client-final-message.
    pub fn answer(&mut self, password: &[u8], server_first: &[u8]) -> Result<String, ScramError> {
        self.answer_as("", password, server_first)
    }

    fn answer_as(&mut self, user: &str, password: &[u8], server_first: &[u8]) -> Result<String, ScramError> {
        let text = std::str::from_utf8(server_first).map_err(|_| ScramError::Malformed)?;
        let mut parts = text.split(',');
        let mut part = |name| parts.next().and_then(|p| p.strip_prefix(name)).ok_or(ScramError::Malformed);
        let (nonce, salt, iterations) = (part("r=")?, part("s=")?, part("i=")?);
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Nonce);
        }
        let salt = STANDARD.decode(salt).map_err(|_| ScramError::Malformed)?;
        let iterations: u32 = iterations.parse().map_err(|_| ScramError::Malformed)?;
        if iterations < self.min_iterations.max(1) || iterations > MAX_ITERATIONS {
            return Err(ScramError::Iterations(iterations));
        }
        let mut bound = self.binding.header().as_bytes().to_vec();
        if let Binding::ServerEndPoint(hash) = &self.binding {
            bound.extend_from_slice(hash);
        }
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(bound));
        let said = format!("{},{text},{without_proof}", self.first_bare(user));
        let salted = salted(password, &salt, iterations);
        let client_key = hmac(&salted, b"Client Key");
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        let signature = hmac(&stored_key, said.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(k, s)| k ^ s).collect();
        self.expected = Some(hmac(&hmac(&salted, b"Server Key"), said.as_bytes()));
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// Checks the server-final-message: the server must prove that it knows the verifier.
    pub fn finish(&mut self, server_final: &[u8]) -> Result<(), ScramError> {
        let expected = self.expected.take().ok_or(ScramError::Order)?;
        let text = std::str::from_utf8(server_final).map_err(|_| ScramError::Malformed)?;
        let first = text.split(',').next().unwrap_or_default();
        if let Some(error) = first.strip_prefix("e=") {
            return Err(ScramError::Refused(error.chars().take(100).collect()));
        }
        let signature = first.strip_prefix("v=").ok_or(ScramError::Malformed)?;
        let signature = STANDARD.decode(signature).map_err(|_| ScramError::Malformed)?;
        // In constant time: every byte is looked at whatever the others are.
        let differs = signature.iter().zip(expected).fold(0, |d, (a, b)| d | (a ^ b));
        if signature.len() == expected.len() && differs == 0 { Ok(()) } else { Err(ScramError::Impostor) }
    }
}

/// What a server stores instead of a password: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
pub fn verifier(password: &[u8], salt: &[u8], iterations: u32) -> String {
    let salted = salted(password, salt, iterations.max(1));
    let stored = Sha256::digest(hmac(&salted, b"Client Key"));
    let server = hmac(&salted, b"Server Key");
    let [salt, stored, server] = [salt, &stored[..], &server[..]].map(|b| STANDARD.encode(b));
    format!("SCRAM-SHA-256${}:{salt}${stored}:{server}", iterations.max(1))
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = keyed(key);
    mac.update(data);
    mac.finalize().into_bytes().into()
}

/// PBKDF2 (RFC 8018) with HMAC-SHA-256 and one block of output.
fn salted(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mac = keyed(password);
    let next = |data: &[&[u8]]| -> [u8; 32] {
        let mut mac = mac.clone();
        data.iter().for_each(|d| mac.update(d));
        mac.finalize().into_bytes().into()
    };
    let mut u = next(&[salt, &1u32.to_be_bytes()]);
    let mut out = u;
    for _ in 1..iterations {
        u = next(&[&u]);
        out.iter_mut().zip(u).for_each(|(o, u)| *o ^= u);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn client(min: u32) -> Client {
        Client::new(Binding::None, "rOprNGfwEbeRWgbNEkqO".to_owned(), min)
    }

    #[test]
    fn rfc_7677_example() {
        let mut c = client(4096);
        assert_eq!(c.first_bare("user"), "n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert_eq!(
            c.answer_as("user", b"pencil", SERVER_FIRST).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(c.finish(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
        assert_eq!(c.finish(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Err(ScramError::Order));
    }

    #[test]
    fn an_impostor_a_foreign_nonce_and_few_iterations_are_refused() {
        let mut c = client(4096);
        c.answer_as("user", b"pencil", SERVER_FIRST).unwrap();
        assert_eq!(c.finish(b"v=AAAA"), Err(ScramError::Impostor));
        let mut c = client(4096);
        c.answer_as("user", b"wrong", SERVER_FIRST).unwrap();
        assert_eq!(c.finish(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Err(ScramError::Impostor));
        assert_eq!(client(5000).answer(b"x", SERVER_FIRST), Err(ScramError::Iterations(4096)));
        assert_eq!(client(1).answer(b"x", b"r=other,s=AAAA,i=1"), Err(ScramError::Nonce));
        assert_eq!(client(1).answer(b"x", b"r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=1"), Err(ScramError::Nonce));
        let greedy = b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=2000000000";
        assert_eq!(client(1).answer(b"x", greedy), Err(ScramError::Iterations(2_000_000_000)));
    }

    #[test]
    fn a_verifier_has_the_servers_form() {
        let v = verifier(b"pencil", &STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), 4096);
        assert_eq!(
            v,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }
}
