//! SSH certificates: for the key that logs in, and for another key on its word; and which authorities there are.
//!
//! What is certified is who somebody is, for the gateway's own door; what they may do there is asked at each use. Every
//! certificate names the enrolled key that vouched for it, so that it is worth nothing once that key is withdrawn.

use crate::answer::{Body, Problem};
use crate::caller::Caller;
use crate::server::{Api, blocking};
use axum::Json;
use axum::extract::State as Of;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onus_authn::fingerprint::KeyFingerprint;
use onus_authn::subject::SubjectName;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The longest public key that is read, in bytes: an RSA key of 16384 bits has fewer.
const MAX_KEY_BYTES: usize = 8 << 10;

/// What a SubjectPublicKeyInfo over P-256 begins with (RFC 5480); an uncompressed point of 65 bytes follows.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT: usize = 65;
const KIND: &str = "ecdsa-sha2-nistp256";
const CURVE: &str = "nistp256";

/// The key of a certificate request that was verified, as a line of OpenSSH's (RFC 5656, section 3.1).
///
/// `None` if the request holds no P-256 key with this fingerprint.
pub(crate) fn public_line(csr_pem: &str, fingerprint: &KeyFingerprint) -> Option<String> {
    let der = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes()).ok()?;
    let length = P256.len() + POINT;
    // The fingerprint was taken of the key that signed the request: only that key has it, wherever else in the request
    // such bytes may stand.
    let spki =
        der.windows(length).find(|spki| spki.starts_with(&P256) && KeyFingerprint::of_spki(spki) == *fingerprint)?;
    let mut blob = Vec::with_capacity(128);
    for part in [KIND.as_bytes(), CURVE.as_bytes(), &spki[P256.len()..]] {
        blob.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
        blob.extend_from_slice(part);
    }
    Some(format!("{KIND} {}", STANDARD.encode(blob)))
}

/// What a client needs besides its own certificate: where the door is, and by which authority its key is known.
pub(crate) fn door(api: &Api) -> Value {
    json!({"ssh": api.ssh, "ssh_host_ca": api.gateway.ssh_host_ca_line(), "ssh_hosts": hosts(api)})
}

/// The names that the gateway's host certificate is for.
fn hosts(api: &Api) -> Vec<String> {
    let mut hosts = api.gateway.settings.public_names.clone();
    if let Some((host, _)) = api.ssh.as_deref().and_then(|address| address.rsplit_once(':')) {
        let host = host.trim_matches(['[', ']']).to_owned();
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certify {
    /// One line of OpenSSH's.
    public_key: String,
}

/// Certifies another key of the caller's, such as one in hardware, on the word of the enrolled key that calls.
///
/// Nothing proves here that the caller holds the private key, and nothing needs to: a certificate is of use only to
/// whoever does, and it makes them no more than the caller is.
pub(crate) async fn certificate(
    Of(api): Of<Arc<Api>>,
    caller: Caller,
    Body(Certify { public_key }): Body<Certify>,
) -> Result<Json<Value>, Problem> {
    let wrong = |text: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text.to_owned());
    let line = public_key.trim().to_owned();
    if line.len() > MAX_KEY_BYTES || line.contains(['\n', '\r']) {
        return Err(wrong("a public key is one line, as in `id_ed25519.pub`"));
    }
    if line.split_whitespace().next().is_some_and(|kind| kind.contains("-cert-")) {
        return Err(wrong("this is a certificate; give the public key itself, such as `id_ed25519.pub`"));
    }
    let subject = SubjectName::parse(caller.subject.as_str()).map_err(|error| wrong(&error.to_string()))?;
    let voucher = KeyFingerprint::parse(&caller.key).map_err(|error| wrong(&error.to_string()))?;
    // No longer than the login on whose word it is: or each would bring the next, for ever.
    let until = caller.not_after_ms;
    let made =
        blocking(&api.gateway, move |gateway| gateway.ssh_login_certificate(&subject, &line, &voucher, until)).await?;
    let certificate = made.map_err(|refused| wrong(&refused.to_string()))?;
    tracing::info!(subject = %caller.subject, "an SSH key was certified");
    let mut answer = door(&api);
    answer["ssh_certificate"] = certificate.into();
    answer["not_after"] = json!(caller.not_after_ms);
    Ok(Json(answer))
}

/// The authorities' public keys, for clients and hosts. They are no secrets.
pub(crate) async fn authorities(Of(api): Of<Arc<Api>>, _: Caller) -> Json<Value> {
    let mut answer = door(&api);
    answer["ssh_session_ca"] = api.gateway.ssh_session_ca_line().into();
    Json(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use onus_authn::csr::{ClientKey, VerifiedCsr};

    #[test]
    fn the_key_of_a_request_is_written_as_openssh_does() {
        let key = ClientKey::generate().unwrap();
        let pem = key.csr_pem().unwrap();
        let line = public_line(&pem, VerifiedCsr::from_pem(&pem).unwrap().fingerprint()).unwrap();
        let (kind, blob) = line.split_once(' ').unwrap();
        let blob = STANDARD.decode(blob).unwrap();
        assert_eq!((kind, blob.len(), blob[39]), ("ecdsa-sha2-nistp256", 104, 4));
        assert!(blob.starts_with(b"\0\0\0\x13ecdsa-sha2-nistp256\0\0\0\x08nistp256\0\0\0\x41\x04"));
        let other = ClientKey::generate().unwrap();
        assert_eq!(public_line(&pem, &other.fingerprint()), None, "another key's");
        assert_eq!(public_line("no request", &other.fingerprint()), None);
    }
}
