//! Both sides against each other, against attackers, and against OpenSSH's own signatures.

use super::key::Algorithm;
use super::sign::{put_positive, sign};
use super::signature::{self, SignatureRefused};
use super::wire::{Reader, number, put_string};
use super::*;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use proptest::prelude::*;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::{EcdsaKeypair, EcdsaPrivateKey, Ed25519Keypair, KeypairData, RsaKeypair};
use ssh_key::public::{EcdsaPublicKey, Ed25519PublicKey, KeyData, SkEcdsaSha2NistP256, SkEd25519};
use ssh_key::rand_core::UnwrapErr;
use ssh_key::{Certificate, EcdsaCurve, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};
use std::process::Command;
use std::sync::OnceLock;
use zeroize::Zeroizing;

const SESSION: &[u8] = &[7; 32];

fn ed25519(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn ecdsa(curve: EcdsaCurve) -> PrivateKey {
    let mut random = UnwrapErr(ssh_key::getrandom::SysRng);
    let pair = match curve {
        EcdsaCurve::NistP521 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
            let private: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().unwrap();
            let private: [u8; 66] = private.as_ref().try_into().unwrap();
            let EcdsaPublicKey::NistP521(public) = EcdsaPublicKey::from_sec1_bytes(pair.public_key().as_ref()).unwrap()
            else {
                panic!("another curve")
            };
            EcdsaKeypair::NistP521 { public, private: EcdsaPrivateKey::from(private) }
        }
        curve => EcdsaKeypair::random(&mut random, curve).unwrap(),
    };
    PrivateKey::new(KeypairData::from(pair), "").unwrap()
}

fn rsa() -> PrivateKey {
    static KEY: OnceLock<PrivateKey> = OnceLock::new();
    let made = || {
        let pair = RsaKeypair::random(&mut UnwrapErr(ssh_key::getrandom::SysRng), 2048).unwrap();
        PrivateKey::new(KeypairData::from(pair), "").unwrap()
    };
    KEY.get_or_init(made).clone()
}

fn certify(key: &KeyData, options: &[&str]) -> Certificate {
    let mut builder = Builder::new(vec![1; 16], key.clone(), 0, u64::from(u32::MAX)).unwrap();
    builder.cert_type(CertType::User).unwrap().key_id("test").unwrap().valid_principal("alice").unwrap();
    for option in options {
        builder.critical_option(*option, "").unwrap();
    }
    builder.sign(&ed25519(99)).unwrap()
}

/// Takes one key for one user.
struct Only {
    user: &'static str,
    key: KeyData,
    banner: Option<String>,
    asked: u32,
}

impl Only {
    fn new(key: &KeyData) -> Self {
        Self { user: "alice", key: key.clone(), banner: None, asked: 0 }
    }
}

impl Authenticate for Only {
    fn offered(&mut self, user: &str, key: &OfferedKey) -> Answer {
        self.asked += 1;
        if user == self.user && *key.key_data() == self.key {
            Answer::Acceptable
        } else {
            Answer::Refused { banner: self.banner.clone() }
        }
    }
}

/// A server that has accepted the service.
fn server() -> ServerAuth {
    server_on(SESSION)
}

fn server_on(session: &[u8]) -> ServerAuth {
    let mut server = ServerAuth::new(session);
    let step =
        server.packet(b"\x05\0\0\0\x0cssh-userauth", &mut Only::new(ed25519(1).public_key().key_data())).unwrap();
    assert_eq!(step.replies, [b"\x06\0\0\0\x0cssh-userauth"]);
    server
}

fn request(user: &str, method: &str) -> Vec<u8> {
    let mut out = vec![number::USERAUTH_REQUEST];
    for text in [user, "ssh-connection", method] {
        put_string(&mut out, text.as_bytes());
    }
    out
}

/// The start of a publickey request, up to where the signature goes.
fn unsigned(user: &str, signed: bool, algorithm: &str, blob: &[u8]) -> Vec<u8> {
    let mut out = request(user, "publickey");
    out.push(u8::from(signed));
    put_string(&mut out, algorithm.as_bytes());
    put_string(&mut out, blob);
    out
}

fn to_sign(session: &[u8], unsigned: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(&mut out, session);
    out.extend_from_slice(unsigned);
    out
}

/// A whole request, signed by `key`.
fn signed(session: &[u8], user: &str, key: &PrivateKey, algorithm: &str) -> Vec<u8> {
    let blob = key.public_key().to_bytes().unwrap();
    let mut out = unsigned(user, true, algorithm, &blob);
    let named = Algorithm::named(algorithm).unwrap();
    let signature = sign(key, named, &to_sign(session, &out)).unwrap();
    put_string(&mut out, &signature);
    out
}

const FAILURE: &[u8] = b"\x33\0\0\0\x09publickey\0";

fn failed(step: &AuthStep) -> bool {
    step.done.is_none() && step.replies.last().is_some_and(|reply| reply == FAILURE)
}

/// Runs both sides until one is done. `Err` is the client's.
fn meet(mut client: ClientAuth, check: &mut Only) -> Result<Authenticated, ClientAuthError> {
    let mut server = ServerAuth::new(SESSION);
    let mut to_server = vec![Zeroizing::new(client.start())];
    for _ in 0..8 {
        let mut next = Vec::new();
        let mut proven = None;
        for payload in to_server {
            let step = server.packet(&payload, check).unwrap();
            proven = proven.or(step.done);
            for reply in step.replies {
                let step = client.packet(&reply)?;
                if step.done {
                    return Ok(proven.expect("the server knows who it let in"));
                }
                next.extend(step.send);
            }
        }
        to_server = next;
    }
    panic!("no end")
}

#[test]
fn every_kind_of_key_and_certificate_logs_in() {
    let keys =
        [ed25519(1), ecdsa(EcdsaCurve::NistP256), ecdsa(EcdsaCurve::NistP384), ecdsa(EcdsaCurve::NistP521), rsa()];
    for key in keys {
        let public = key.public_key().key_data().clone();
        let certificate = certify(&public, &[]);
        for sig_algs in [None, Some("rsa-sha2-256"), Some("rsa-sha2-512")] {
            for ask in [false, true] {
                let plain = Credential::Key(key.clone());
                let certified =
                    Credential::Certificate { key: key.clone(), certificate: Box::new(certificate.clone()) };
                for credential in [plain, certified] {
                    let is_certificate = matches!(credential, Credential::Certificate { .. });
                    let mut client = ClientAuth::new(SESSION, "alice", credential).unwrap();
                    if let Some(name) = sig_algs {
                        client.server_sig_algs([name]);
                    }
                    let client = if ask { client.ask_first() } else { client };
                    let mut check = Only::new(&public);
                    let proven = meet(client, &mut check).unwrap();
                    assert_eq!(proven.user(), "alice");
                    assert_eq!(proven.key().key_data(), &public);
                    assert_eq!(proven.key().certificate().is_some(), is_certificate);
                    assert_eq!(check.asked, if ask { 2 } else { 1 });
                }
            }
        }
    }
}

#[test]
fn a_signature_counts_on_its_own_connection_only() {
    let key = ed25519(1);
    let mut check = Only::new(key.public_key().key_data());
    let other = signed(&[8; 32], "alice", &key, "ssh-ed25519");
    assert!(failed(&server().packet(&other, &mut check).unwrap()));
    assert!(server_on(&[8; 32]).packet(&other, &mut check).unwrap().done.is_some(), "there, it counts");
    let own = signed(SESSION, "alice", &key, "ssh-ed25519");
    let step = server().packet(&own, &mut check).unwrap();
    assert_eq!(step.replies, [[number::USERAUTH_SUCCESS]]);
    assert_eq!(step.done.unwrap().user(), "alice");
    assert!(failed(&server_on(&[7; 31]).packet(&own, &mut check).unwrap()));
}

#[test]
fn no_changed_bit_gets_in() {
    let key = ed25519(1);
    struct Anybody;
    impl Authenticate for Anybody {
        fn offered(&mut self, _: &str, _: &OfferedKey) -> Answer {
            Answer::Acceptable
        }
    }
    let good = signed(SESSION, "alice", &key, "ssh-ed25519");
    for bit in 0..good.len() * 8 {
        let mut changed = good.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let done = server().packet(&changed, &mut Anybody).is_ok_and(|step| step.done.is_some());
        assert!(!done, "bit {bit}");
    }
    for more in [b"\0".as_slice(), b"x"] {
        let longer = [good.as_slice(), more].concat();
        assert_eq!(server().packet(&longer, &mut Anybody).unwrap_err(), AuthError::Malformed);
    }
}

#[test]
fn a_key_that_is_refused_does_not_get_in_by_signing() {
    let (enrolled, other) = (ed25519(1), ed25519(2));
    let mut check = Only::new(enrolled.public_key().key_data());
    let mut server = server();
    assert!(failed(&server.packet(&signed(SESSION, "alice", &other, "ssh-ed25519"), &mut check).unwrap()));
    assert!(failed(&server.packet(&signed(SESSION, "bob", &enrolled, "ssh-ed25519"), &mut check).unwrap()));
    // The one key's blob with the other's signature.
    let mut mixed = unsigned("alice", true, "ssh-ed25519", &enrolled.public_key().to_bytes().unwrap());
    let algorithm = Algorithm::named("ssh-ed25519").unwrap();
    let forged = sign(&other, algorithm, &to_sign(SESSION, &mixed)).unwrap();
    put_string(&mut mixed, &forged);
    assert!(failed(&server.packet(&mixed, &mut check).unwrap()));
}

#[test]
fn sha1_and_mismatched_names_are_refused() {
    let key = rsa();
    let blob = key.public_key().to_bytes().unwrap();
    let mut check = Only::new(key.public_key().key_data());
    let names =
        ["ssh-rsa", "ssh-rsa-cert-v01@openssh.com", "ssh-dss", "ssh-ed25519", "rsa-sha2-512-cert-v01@openssh.com"];
    for name in names {
        let step = server().packet(&unsigned("alice", false, name, &blob), &mut check).unwrap();
        assert!(failed(&step), "{name}");
    }
    assert_eq!(check.asked, 0, "nobody is even asked");
    // A request that announces SHA-512 and a signature that is, or says that it is, another.
    for inner in ["rsa-sha2-256", "ssh-rsa"] {
        let mut message = unsigned("alice", true, "rsa-sha2-512", &blob);
        let named = Algorithm { signature: "rsa-sha2-256", ..*Algorithm::named("rsa-sha2-256").unwrap() };
        let made = sign(&key, &named, &to_sign(SESSION, &message)).unwrap();
        let mut reader = Reader::new(&made);
        reader.string().unwrap();
        let mut signature = Vec::new();
        put_string(&mut signature, inner.as_bytes());
        put_string(&mut signature, reader.string().unwrap());
        put_string(&mut message, &signature);
        assert!(failed(&server().packet(&message, &mut check).unwrap()), "{inner}");
    }
}

/// An authenticator that signs whatever it is told to.
enum Device {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl Device {
    fn key(&self, application: &str) -> KeyData {
        match self {
            Self::Ed25519(pair) => {
                let public = Ed25519PublicKey(pair.public_key().as_ref().try_into().unwrap());
                SkEd25519::new(public, application).into()
            }
            Self::P256(pair) => {
                let EcdsaPublicKey::NistP256(point) =
                    EcdsaPublicKey::from_sec1_bytes(pair.public_key().as_ref()).unwrap()
                else {
                    panic!("another curve")
                };
                SkEcdsaSha2NistP256::new(point, application).into()
            }
        }
    }
    fn sign(&self, application: &str, flags: u8, shown_flags: u8, message: &[u8]) -> Vec<u8> {
        let mut data = digest(&SHA256, application.as_bytes()).as_ref().to_vec();
        data.extend_from_slice(&[flags, 0, 0, 1, 2]);
        data.extend_from_slice(digest(&SHA256, message).as_ref());
        let mut out = Vec::new();
        match self {
            Self::Ed25519(pair) => {
                put_string(&mut out, b"sk-ssh-ed25519@openssh.com");
                put_string(&mut out, pair.sign(&data).as_ref());
            }
            Self::P256(pair) => {
                let fixed = pair.sign(&SystemRandom::new(), &data).unwrap();
                let mut numbers = Vec::new();
                put_positive(&mut numbers, &fixed.as_ref()[..32]);
                put_positive(&mut numbers, &fixed.as_ref()[32..]);
                put_string(&mut out, b"sk-ecdsa-sha2-nistp256@openssh.com");
                put_string(&mut out, &numbers);
            }
        }
        out.extend_from_slice(&[shown_flags, 0, 0, 1, 2]);
        out
    }
}

fn with_device(device: &Device, flags: u8, shown: u8, certificate: Option<&[&str]>) -> AuthStep {
    let key = device.key("ssh:");
    let (name, blob) = match certificate {
        Some(options) => {
            let certificate = certify(&key, options);
            (certificate.algorithm().to_certificate_type(), certificate.to_bytes().unwrap())
        }
        None => (key.algorithm().as_str().to_owned(), PublicKey::from(key.clone()).to_bytes().unwrap()),
    };
    let mut message = unsigned("alice", true, &name, &blob);
    let signature = device.sign("ssh:", flags, shown, &to_sign(SESSION, &message));
    put_string(&mut message, &signature);
    server().packet(&message, &mut Only::new(&key)).unwrap()
}

#[test]
fn security_keys_need_somebody_present() {
    let devices = [
        Device::Ed25519(Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap()),
        Device::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
    ];
    for device in &devices {
        let told = with_device(device, 1, 1, None).done.unwrap().security_key();
        assert_eq!(told, Some(SecurityKeyUse { user_verified: false, counter: 0x0102 }));
        assert!(with_device(device, 5, 5, None).done.unwrap().security_key().unwrap().user_verified);
        assert!(failed(&with_device(device, 0, 0, None)), "nobody touched it");
        assert!(failed(&with_device(device, 4, 4, None)), "verified but not present");
        assert!(failed(&with_device(device, 0, 1, None)), "flags that were not signed");
        // `verify-required` in the certificate asks for a PIN.
        assert!(with_device(device, 1, 1, Some(&[])).done.is_some());
        assert!(failed(&with_device(device, 1, 1, Some(&["verify-required"]))));
        assert!(with_device(device, 5, 5, Some(&["verify-required"])).done.is_some());
        // A key that signs for a web site.
        let foreign = PublicKey::from(device.key("https://example.org")).to_bytes().unwrap();
        assert_eq!(OfferedKey::parse(&foreign), Err(KeyRefused::Kind));
    }
    // An ordinary key can't verify a PIN.
    let key = ed25519(1);
    let certificate = Box::new(certify(key.public_key().key_data(), &["verify-required"]));
    let client = ClientAuth::new(SESSION, "alice", Credential::Certificate { key: key.clone(), certificate }).unwrap();
    assert!(meet(client, &mut Only::new(key.public_key().key_data())).is_err());
}

#[test]
fn why_a_signature_is_refused() {
    let device = Device::Ed25519(Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap());
    let algorithm = Algorithm::named("sk-ssh-ed25519@openssh.com").unwrap();
    let key = device.key("ssh:");
    let check = |signature: &[u8]| signature::verify(algorithm, &key, b"m", signature).unwrap_err();
    assert_eq!(check(&device.sign("ssh:", 0, 0, b"m")), SignatureRefused::NobodyPresent);
    assert_eq!(check(&device.sign("ssh:", 0, 1, b"m")), SignatureRefused::Wrong);
    assert_eq!(check(&device.sign("ssh:x", 1, 1, b"m")), SignatureRefused::Wrong);
    assert_eq!(check(&device.sign("ssh:", 1, 1, b"m")[..90]), SignatureRefused::Malformed);
    let mut plain = Vec::new();
    put_string(&mut plain, b"ssh-ed25519");
    put_string(&mut plain, &[0; 64]);
    assert_eq!(check(&plain), SignatureRefused::Algorithm);
}

#[test]
fn everything_but_keys_is_refused_with_what_there_is() {
    let mut check = Only::new(ed25519(1).public_key().key_data());
    let mut server = server();
    assert!(failed(&server.packet(&request("alice", "none"), &mut check).unwrap()));
    let mut password = request("alice", "password");
    password.push(0);
    put_string(&mut password, b"hunter2");
    assert!(failed(&server.packet(&password, &mut check).unwrap()));
    assert!(failed(&server.packet(&request("alice", "keyboard-interactive"), &mut check).unwrap()));
    assert!(failed(&server.packet(&request("alice", "hostbased"), &mut check).unwrap()));
    assert!(!format!("{server:?}").contains("hunter2"));
}

#[test]
fn attempts_are_counted_across_names() {
    let key = ed25519(2);
    let mut check = Only::new(ed25519(1).public_key().key_data());
    let mut server = server();
    server.packet(&request("alice", "none"), &mut check).unwrap();
    for attempt in 1..MAX_FAILURES {
        let message = signed(SESSION, &format!("user{attempt}"), &key, "ssh-ed25519");
        assert!(failed(&server.packet(&message, &mut check).unwrap()), "{attempt}");
    }
    let error = server.packet(&signed(SESSION, "one-more", &key, "ssh-ed25519"), &mut check).unwrap_err();
    assert_eq!((error, error.disconnect_reason()), (AuthError::TooMany, 14));
    // Not even the right one gets in any more.
    check.user = "alice";
    let right = signed(SESSION, "alice", &ed25519(1), "ssh-ed25519");
    assert_eq!(server.packet(&right, &mut check).unwrap_err(), AuthError::Over);
}

#[test]
fn queries_that_are_accepted_are_bounded_too() {
    let key = ed25519(1);
    let mut check = Only::new(key.public_key().key_data());
    let mut server = server();
    let query = unsigned("alice", false, "ssh-ed25519", &key.public_key().to_bytes().unwrap());
    for _ in 0..MAX_REQUESTS {
        let step = server.packet(&query, &mut check).unwrap();
        assert!(step.done.is_none());
        assert_eq!(step.replies[0][0], number::USERAUTH_PK_OK);
    }
    assert_eq!(server.packet(&query, &mut check).unwrap_err(), AuthError::TooMany);
}

#[test]
fn messages_have_their_place() {
    let mut check = Only::new(ed25519(1).public_key().key_data());
    let good = signed(SESSION, "alice", &ed25519(1), "ssh-ed25519");
    let first = |payload: &[u8]| ServerAuth::new(SESSION).packet(payload, &mut Only::new(&check.key)).unwrap_err();
    assert_eq!(first(&good), AuthError::Unexpected(50), "no service yet");
    assert_eq!(first(b"\x05\0\0\0\x0essh-connection"), AuthError::Service);
    assert_eq!(first(b""), AuthError::Malformed);
    assert_eq!(server().packet(b"\x05\0\0\0\x0cssh-userauth", &mut check).unwrap_err(), AuthError::Unexpected(5));
    // The connection protocol, before anybody is known.
    assert_eq!(server().packet(b"\x5a", &mut check).unwrap_err(), AuthError::Unexpected(90));
    let mut other_service = vec![number::USERAUTH_REQUEST];
    for text in [b"alice".as_slice(), b"ssh-userauth", b"none"] {
        put_string(&mut other_service, text);
    }
    assert_eq!(server().packet(&other_service, &mut check).unwrap_err(), AuthError::Service);
    for user in ["", "a\nb", "a\0b", "\u{1b}[2J", &"x".repeat(MAX_USER_BYTES + 1)] {
        assert_eq!(server().packet(&request(user, "none"), &mut check).unwrap_err(), AuthError::Malformed);
    }
    let mut server = server();
    assert!(server.packet(&good, &mut check).unwrap().done.is_some());
    let again = server.packet(&good, &mut check).unwrap();
    assert!(again.done.is_none() && again.replies.is_empty(), "ignored, and no second proof");
}

#[test]
fn a_refusal_says_why_once() {
    let mut check = Only::new(ed25519(1).public_key().key_data());
    check.banner = Some("bob\u{1b}[31m is unknown\nrun `onus login`\n".to_owned());
    let mut server = server();
    server.banner("welcome");
    let step = server.packet(&request("bob", "none"), &mut check).unwrap();
    assert_eq!(step.replies, [b"\x35\0\0\0\x09welcome\r\n\0\0\0\0".as_slice(), FAILURE]);
    let refused = |server: &mut ServerAuth, user, check: &mut Only| {
        server.packet(&signed(SESSION, user, &ed25519(2), "ssh-ed25519"), check).unwrap().replies
    };
    let replies = refused(&mut server, "bob", &mut check);
    assert_eq!(replies.len(), 2);
    let text = Reader::new(&replies[0][1..]).string().unwrap();
    assert_eq!(text, b"bob?[31m is unknown\r\nrun `onus login`\r\n");
    assert_eq!(refused(&mut server, "bob", &mut check), [FAILURE], "the second key is not worth a second text");
    assert_eq!(refused(&mut server, "eve", &mut check).len(), 2, "another name is");
    let mut client = ClientAuth::new(SESSION, "bob", Credential::Key(ed25519(2))).unwrap();
    assert_eq!(client.packet(&replies[0]).unwrap().banner.unwrap(), "bob?[31m is unknown\nrun `onus login`\n");
}

#[test]
fn a_certificate_inside_a_certificate_is_not_followed() {
    // By hand: each level's authority is the certificate below it.
    let nest = |inside: &[u8]| {
        let mut out = Vec::new();
        for text in [b"ssh-ed25519-cert-v01@openssh.com".as_slice(), b"n", &[1; 32]] {
            put_string(&mut out, text);
        }
        out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
        put_string(&mut out, b"");
        put_string(&mut out, b"");
        out.extend_from_slice(&[0; 16]);
        for text in [b"".as_slice(), b"", b"", inside] {
            put_string(&mut out, text);
        }
        let mut signature = Vec::new();
        put_string(&mut signature, b"ssh-ed25519");
        put_string(&mut signature, &[0; 64]);
        put_string(&mut out, &signature);
        out
    };
    let mut blob = nest(&ed25519(1).public_key().to_bytes().unwrap());
    assert!(OfferedKey::parse(&blob).is_ok(), "with a plain key it is well-formed");
    blob = nest(&blob);
    assert_eq!(OfferedKey::parse(&blob), Err(KeyRefused::Kind));
    while blob.len() < MAX_KEY_BLOB_BYTES - 300 {
        blob = nest(&blob);
    }
    assert_eq!(OfferedKey::parse(&blob), Err(KeyRefused::Kind));
    while blob.len() < 200_000 {
        blob = nest(&blob);
    }
    assert_eq!(OfferedKey::parse(&blob), Err(KeyRefused::TooLong));
}

#[test]
fn keys_that_are_too_weak_or_spelled_otherwise_are_refused() {
    let modulus = |bytes: usize| {
        let mut blob = Vec::new();
        put_string(&mut blob, b"ssh-rsa");
        put_string(&mut blob, &[1, 0, 1]);
        put_positive(&mut blob, &vec![0x81; bytes]);
        OfferedKey::parse(&blob).map(|_| ())
    };
    assert_eq!(modulus(128), Err(KeyRefused::Size));
    assert_eq!(modulus(255), Err(KeyRefused::Size));
    assert_eq!(modulus(256), Ok(()));
    assert_eq!(modulus(1024), Ok(()));
    assert_eq!(modulus(1025), Err(KeyRefused::Size));
    let blob = ed25519(1).public_key().to_bytes().unwrap();
    assert!(OfferedKey::parse(&blob).is_ok());
    assert_eq!(OfferedKey::parse(&[blob.as_slice(), b"\0"].concat()), Err(KeyRefused::Malformed));
    let mut unknown = Vec::new();
    put_string(&mut unknown, b"ssh-dss");
    assert_eq!(OfferedKey::parse(&unknown), Err(KeyRefused::Kind));
}

fn waiting(credential: Credential) -> ClientAuth {
    let mut client = ClientAuth::new(SESSION, "root", credential).unwrap();
    assert_eq!(client.packet(b"\x06\0\0\0\x0cssh-userauth").unwrap().send.len(), 1);
    client
}

fn password() -> Credential {
    Credential::Password(Zeroizing::new("hunter2".to_owned()))
}

#[test]
fn the_client_says_what_the_server_offers_and_no_secret() {
    let mut client = waiting(password());
    assert!(!format!("{client:?}").contains("hunter2"));
    let error = client.packet(b"\x33\0\0\0\x16publickey,a\x1bb,,keyboar\0").unwrap_err();
    assert_eq!(error.to_string(), "the server refused the password for `root`; it offers publickey, a?b, keyboar");
    assert_eq!(client.packet(b"\x34").unwrap_err(), ClientAuthError::Over, "no success after a failure");
    let error = waiting(password()).packet(b"\x33\0\0\0\0\x01").unwrap_err();
    assert_eq!(error.to_string(), "the server accepted the password for `root` but wants more; it offers nothing");
    let error = waiting(password()).packet(b"\x3c\0\0\0\x06change\0\0\0\0").unwrap_err();
    assert_eq!(error, ClientAuthError::PasswordExpired { user: "root".to_owned() });
    let sent = ClientAuth::new(SESSION, "root", password()).unwrap().packet(b"\x06").unwrap();
    assert_eq!(*sent.send[0], b"\x32\0\0\0\x04root\0\0\0\x0essh-connection\0\0\0\x08password\0\0\0\0\x07hunter2");
    assert!(!format!("{sent:?} {:?} {:?}", password(), Credential::Key(ed25519(1))).contains("hunter2"));
}

#[test]
fn the_client_accepts_success_only_for_what_it_proved() {
    let key = || Credential::Key(ed25519(1));
    let early = |payload: &[u8]| ClientAuth::new(SESSION, "root", key()).unwrap().packet(payload).unwrap_err();
    assert_eq!(early(b"\x34"), ClientAuthError::Unexpected(52));
    assert_eq!(early(b"\x33\0\0\0\0\0"), ClientAuthError::Unexpected(51));
    assert_eq!(early(b"\x06\0\0\0\x0essh-connection"), ClientAuthError::Service);
    assert_eq!(early(b""), ClientAuthError::Malformed);
    let asking = || {
        let mut client = ClientAuth::new(SESSION, "root", key()).unwrap().ask_first();
        client.packet(b"\x06\0\0\0\x0cssh-userauth").unwrap();
        client
    };
    assert_eq!(asking().packet(b"\x34").unwrap_err(), ClientAuthError::Unexpected(52));
    let ok = |blob: &[u8]| {
        let mut out = vec![number::USERAUTH_PK_OK];
        put_string(&mut out, b"ssh-ed25519");
        put_string(&mut out, blob);
        out
    };
    let other = ok(&ed25519(2).public_key().to_bytes().unwrap());
    assert_eq!(asking().packet(&other).unwrap_err(), ClientAuthError::Unexpected(60));
    let same = ok(&ed25519(1).public_key().to_bytes().unwrap());
    assert_eq!(asking().packet(&same).unwrap().send.len(), 1);
    assert_eq!(waiting(key()).packet(&same).unwrap_err(), ClientAuthError::Unexpected(60), "it didn't ask");
    assert!(waiting(key()).packet(b"\x34").unwrap().done);
    let mut loud = waiting(key());
    let banner = b"\x35\0\0\0\x02hi\0\0\0\0";
    for _ in 0..16 {
        assert_eq!(loud.packet(banner).unwrap().banner.unwrap(), "hi");
    }
    assert_eq!(loud.packet(banner).unwrap_err(), ClientAuthError::Banners);
}

#[test]
fn credentials_that_cannot_work_are_refused_at_once() {
    let (key, certificate) = (ed25519(1), Box::new(certify(ed25519(2).public_key().key_data(), &[])));
    let new = |credential| ClientAuth::new(SESSION, "root", credential).map(|_| ()).unwrap_err();
    assert_eq!(new(Credential::Certificate { key, certificate }), CredentialUnusable::Mismatch);
    let mut client = ClientAuth::new(SESSION, "root", Credential::Key(rsa())).unwrap();
    client.server_sig_algs(["ssh-rsa", "ssh-ed25519"]);
    assert_eq!(client.packet(b"\x06").unwrap_err(), ClientAuthError::OnlySha1);
}

/// What `ssh-keygen -Y sign` signs, as an oracle for signatures in both directions.
#[test]
fn openssh_and_we_accept_each_others_signatures() {
    if Command::new("ssh-keygen").arg("-?").output().is_err() {
        println!("skipped: no ssh-keygen");
        return;
    }
    let folder = std::env::temp_dir().join(format!("onus-ssh-auth-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let run = |args: &[&str], input: Option<&str>| {
        let mut command = Command::new("ssh-keygen");
        command.args(args);
        if let Some(input) = input {
            command.stdin(std::fs::File::open(input).unwrap());
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(path("message"), "Wer zeichnet, der bürgt.").unwrap();
    let message = std::fs::read(path("message")).unwrap();
    for (kind, bits) in [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "3072")] {
        let file = path(&format!("{kind}{bits}"));
        run(&["-q", "-t", kind, "-b", bits, "-N", "", "-f", &file], None);
        let key = PrivateKey::from_openssh(std::fs::read(&file).unwrap()).unwrap();
        let blob = key.public_key().to_bytes().unwrap();
        assert_eq!(OfferedKey::parse(&blob).unwrap().key_data(), key.public_key().key_data());
        let data = SshSig::signed_data("test", HashAlg::Sha512, &message).unwrap();
        // Theirs, by us.
        let input = path(&format!("{kind}{bits}.message"));
        std::fs::write(&input, &message).unwrap();
        run(&["-q", "-Y", "sign", "-n", "test", "-f", &file, &input], None);
        let theirs = SshSig::from_pem(std::fs::read(format!("{input}.sig")).unwrap()).unwrap();
        let name = theirs.signature().algorithm();
        let algorithm = Algorithm::signing(name.as_str(), false).unwrap();
        let signature = Vec::try_from(theirs.signature().clone()).unwrap();
        signature::verify(algorithm, key.public_key().key_data(), &data, &signature).unwrap();
        assert_eq!(
            signature::verify(algorithm, key.public_key().key_data(), b"another", &signature),
            Err(SignatureRefused::Wrong)
        );
        // Ours, by them; both hashes of RSA.
        for name in if kind == "rsa" { vec!["rsa-sha2-512", "rsa-sha2-256"] } else { vec![name.as_str()] } {
            let made = sign(&key, Algorithm::signing(name, false).unwrap(), &data).unwrap();
            let made = ssh_key::Signature::try_from(made.as_slice()).unwrap();
            let ours = SshSig::new(key.public_key().key_data().clone(), "test", HashAlg::Sha512, made).unwrap();
            std::fs::write(path("ours"), ours.to_pem(LineEnding::LF).unwrap()).unwrap();
            run(&["-Y", "check-novalidate", "-n", "test", "-s", &path("ours")], Some(&path("message")));
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_either_side_panic(mut noise in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..8) {
        if let Some(first) = noise.first_mut() {
            *first = [5, 6, 50, 51, 52, 53, 60, *first][usize::from(kind)];
        }
        let key = ed25519(1);
        let mut check = Only::new(key.public_key().key_data());
        for mut server in [ServerAuth::new(SESSION), server()] {
            prop_assert!(!server.packet(&noise, &mut check).is_ok_and(|step| step.done.is_some()));
        }
        let mut client = waiting(Credential::Key(key.clone()));
        let _ = client.packet(&noise);
        let mut client = ClientAuth::new(SESSION, "alice", Credential::Key(key)).unwrap();
        prop_assert!(!client.packet(&noise).is_ok_and(|step| step.done));
        let _ = OfferedKey::parse(&noise);
    }

    #[test]
    fn no_changed_certificate_request_panics(at in any::<prop::sample::Index>(), with in any::<[u8; 4]>(), cut in 0usize..40) {
        let key = ed25519(1);
        let certificate = certify(key.public_key().key_data(), &["verify-required"]);
        let mut message =
            unsigned("alice", true, "ssh-ed25519-cert-v01@openssh.com", &certificate.to_bytes().unwrap());
        put_string(&mut message, &[0; 83]);
        let at = at.index(message.len() - 4);
        message[at..at + 4].copy_from_slice(&with);
        message.truncate(message.len() - cut);
        let done = server().packet(&message, &mut Only::new(key.public_key().key_data()));
        prop_assert!(!done.is_ok_and(|step| step.done.is_some()));
    }
}
