//! Certificates against `ssh-keygen`: it reads ours, and what it makes is accepted or refused for the right reason.

use super::*;
use crate::ca::tests::NOW;
use crate::fingerprint::KeyFingerprint;
use crate::subject::SubjectName;
use crate::verify::VerifiedSubject;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;
use ssh_key::public::{Ed25519PublicKey, KeyData, SkEd25519};
use ssh_key::{Certificate, PrivateKey, PublicKey};
use std::path::{Path, PathBuf};
use std::process::Command;
use zeroize::Zeroizing;

fn key(seed: u8) -> PublicKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32])).public_key().clone()
}

fn alice() -> SubjectName {
    SubjectName::parse("team/alice").unwrap()
}

fn serial() -> SshSerial {
    SshSerial::new(77).unwrap()
}

fn voucher() -> KeyFingerprint {
    KeyFingerprint::of_spki(b"the enrolled key")
}

fn issue(ca: &SshCa, key: &PublicKey) -> Certificate {
    ca.issue_user(&alice(), key, &voucher(), NOW, 600_000, serial()).unwrap()
}

#[test]
fn a_certificate_says_who_with_which_key_until_when() {
    let ca = SshCa::generate().unwrap();
    let certificate = issue(&ca, &key(1));
    let verified = ca.verify_user(&certificate, NOW).unwrap();
    assert_eq!(verified.subject().as_str(), "team/alice");
    assert_eq!(verified.fingerprint(), &voucher(), "known by the enrolled key that vouched");
    assert_eq!((verified.not_after_ms(), verified.serial()), (NOW + 600_000, serial().as_serial()));
    let at = |now| ca.verify_user(&certificate, now).map(|_| ());
    assert_eq!(at(NOW - 60_001), Err(SshCertificateRefused::NotYetValid));
    assert_eq!(at(NOW - 60_000), Ok(()));
    assert_eq!(at(NOW + 599_999), Ok(()));
    assert_eq!(at(NOW + 600_000), Err(SshCertificateRefused::Expired));
    assert_ne!(issue(&ca, &key(1)).nonce(), certificate.nonce(), "no two are the same");
}

#[test]
fn an_authority_survives_its_storage_and_keeps_its_secret() {
    let ca = SshCa::generate().unwrap();
    let again = SshCa::from_pem(&ca.to_pem().unwrap()).unwrap();
    assert_eq!(again.public_line(), ca.public_line());
    assert!(ca.verify_user(&issue(&again, &key(1)), NOW).is_ok());
    let pem = ca.to_pem().unwrap();
    let secret = pem.lines().nth(3).unwrap();
    assert!(!format!("{ca:?}").contains(secret));
    assert!(ca.public_line().starts_with("ssh-ed25519 ") && ca.public_line().ends_with(" onus"));
    for wrong in ["", "-----BEGIN OPENSSH PRIVATE KEY-----", ca.public_line().as_str()] {
        let read = SshCa::from_pem(&Zeroizing::new(wrong.to_owned())).map(|_| ());
        assert_eq!(read, Err(SshCaFault::KeyUnreadable));
    }
}

#[test]
fn only_our_own_signature_counts() {
    let (ca, other) = (SshCa::generate().unwrap(), SshCa::generate().unwrap());
    assert_eq!(ca.verify_user(&issue(&other, &key(1)), NOW), Err(SshCertificateRefused::Authority));
    // The other one's signature under our name, and ours under anything changed.
    let bytes = issue(&ca, &key(1)).to_bytes().unwrap();
    let theirs = issue(&other, &key(1)).to_bytes().unwrap();
    let swapped = [&bytes[..bytes.len() - 64], &theirs[theirs.len() - 64..]].concat();
    let swapped = Certificate::from_bytes(&swapped).unwrap();
    assert_eq!(ca.verify_user(&swapped, NOW), Err(SshCertificateRefused::Authority));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let accepted = Certificate::from_bytes(&changed).is_ok_and(|it| ca.verify_user(&it, NOW).is_ok());
        assert!(!accepted, "byte {at}");
    }
}

/// Signs with the authority's own key what the authority would not sign.
fn made(ca: &SshCa, change: impl FnOnce(&mut Builder)) -> Certificate {
    let mut builder = Builder::new(vec![1; 16], key(1).key_data().clone(), NOW / 1000, NOW / 1000 + 60).unwrap();
    builder.extension("enrolled-key@onus", voucher().as_str()).unwrap();
    change(&mut builder);
    builder.sign(&PrivateKey::from_openssh(ca.to_pem().unwrap().as_bytes()).unwrap()).unwrap()
}

#[test]
fn what_the_same_authority_might_have_signed_otherwise_is_refused() {
    use SshCertificateRefused as Refused;
    let ca = SshCa::generate().unwrap();
    let read = |certificate: &Certificate| ca.verify_user(certificate, NOW).map(|it| it.subject().to_string());
    type Change = fn(&mut Builder);
    let good: Change = |b| {
        b.cert_type(CertType::User).unwrap().serial(1).unwrap();
        b.key_id("onus:subject=alice").unwrap().valid_principal("alice").unwrap();
    };
    assert_eq!(read(&made(&ca, good)).as_deref(), Ok("alice"), "the unchanged one is good");
    let and = |change: Change| {
        read(&made(&ca, |b| {
            good(b);
            change(b);
        }))
    };
    assert_eq!(and(|b| _ = b.valid_principal("root").unwrap()), Err(Refused::Subject));
    assert_eq!(and(|b| _ = b.critical_option("force-command", "id").unwrap()), Err(Refused::CriticalOption));
    assert_eq!(and(|b| _ = b.critical_option("source-address", "10.0.0.0/8").unwrap()), Err(Refused::CriticalOption));
    assert_eq!(and(|b| _ = b.critical_option("x@example.org", "").unwrap()), Err(Refused::CriticalOption));
    assert_eq!(and(|b| _ = b.critical_option("verify-required", "").unwrap()).as_deref(), Ok("alice"));
    assert_eq!(and(|b| _ = b.extension("x@example.org", "y").unwrap()).as_deref(), Ok("alice"), "may be ignored");
    let cases: [(Change, Refused); 6] = [
        (
            |b| {
                b.cert_type(CertType::Host).unwrap().serial(1).unwrap();
                b.key_id("onus:subject=alice").unwrap().valid_principal("alice").unwrap();
            },
            Refused::Purpose,
        ),
        (
            |b| {
                b.cert_type(CertType::User).unwrap().serial(1).unwrap();
                b.key_id("onus:subject=alice").unwrap().all_principals_valid().unwrap();
            },
            Refused::Subject,
        ),
        (
            |b| {
                b.cert_type(CertType::User).unwrap().serial(1).unwrap();
                b.key_id("onus:subject=alice").unwrap().valid_principal("bob").unwrap();
            },
            Refused::Subject,
        ),
        (
            |b| {
                b.cert_type(CertType::User).unwrap().serial(1).unwrap();
                b.key_id("onus session=s-1 subject=alice grant=g-1").unwrap().valid_principal("alice").unwrap();
            },
            Refused::Subject,
        ),
        (
            |b| {
                b.cert_type(CertType::User).unwrap().serial(1).unwrap();
                b.key_id("onus:subject=a b").unwrap().valid_principal("a b").unwrap();
            },
            Refused::Subject,
        ),
        (
            |b| {
                b.cert_type(CertType::User).unwrap();
                b.key_id("onus:subject=alice").unwrap().valid_principal("alice").unwrap();
            },
            Refused::Serial,
        ),
    ];
    for (at, (change, refused)) in cases.into_iter().enumerate() {
        assert_eq!(read(&made(&ca, change)), Err(refused), "case {at}");
    }
    let host = ca.issue_host(&key(1), &["alice".to_owned()], NOW, 60_000).unwrap();
    assert_eq!(read(&host), Err(Refused::Purpose));
}

#[test]
fn what_makes_no_certificate() {
    let ca = SshCa::generate().unwrap();
    let user =
        |key: &PublicKey, now, lifetime| ca.issue_user(&alice(), key, &voucher(), now, lifetime, serial()).map(|_| ());
    assert_eq!(user(&key(1), NOW, 0), Err(SshCaFault::NoLifetime));
    assert_eq!(user(&key(1), NOW + 1, 998), Err(SshCaFault::NoLifetime), "rounded down, it is over");
    assert_eq!(user(&key(1), NOW, 1000), Ok(()));
    assert_eq!(user(&key(1), u64::MAX, u64::MAX), Err(SshCaFault::NoLifetime), "no moment makes it panic");
    let certified = PublicKey::from(KeyData::from(issue(&ca, &key(1))));
    assert_eq!(user(&certified, NOW, 1000), Err(SshCaFault::KeyKind), "no certificate over a certificate");
    let host = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        ca.issue_host(&key(1), &names, NOW, 1000).map(|it| it.valid_principals().to_vec())
    };
    for wrong in [&[][..], &[""], &["*"], &["*.example.org"], &["a b"], &["10.0.0.0/8"], &["ok", "a,b"]] {
        assert_eq!(host(wrong), Err(SshCaFault::HostNames), "{wrong:?}");
    }
    let lower = vec!["gw.example".to_owned(), "10.0.0.1".to_owned(), "::1".to_owned()];
    assert_eq!(host(&["GW.example", "10.0.0.1", "::1"]), Ok(lower));
}

#[test]
fn a_security_keys_certificate_does_not_excuse_from_touching_it() {
    let ca = SshCa::generate().unwrap();
    let sk = |application: &str| PublicKey::from(SkEd25519::new(Ed25519PublicKey([9; 32]), application));
    let certificate = issue(&ca, &sk("ssh:"));
    assert!(!certificate.extensions().contains_key("no-touch-required"));
    assert!(certificate.critical_options().is_empty());
    let plain = PublicKey::from(Ed25519PublicKey([9; 32]));
    let fingerprint = |key: &PublicKey| KeyFingerprint::of_ssh(key.key_data());
    assert_ne!(fingerprint(&sk("ssh:")), fingerprint(&sk("ssh:other")));
    assert_ne!(fingerprint(&sk("ssh:")), fingerprint(&plain), "the same curve point, but not the same key");
}

/// A folder of its own for one test; `None` where there is no `ssh-keygen`.
struct Keygen(PathBuf);

impl Keygen {
    fn new(test: &str) -> Option<Self> {
        if Command::new("ssh-keygen").arg("-?").output().is_err() {
            println!("skipped: no ssh-keygen");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("onus-authn-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Some(Self(folder))
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    fn run(&self, args: &[&str]) -> String {
        let output = Command::new("ssh-keygen").args(args).current_dir(&self.0).env("TZ", "UTC").output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
    fn certificate(&self, name: &str) -> Certificate {
        Certificate::from_openssh(&std::fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }
}

impl Drop for Keygen {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn ssh_keygen_reads_our_certificates() {
    let Some(keygen) = Keygen::new("reads") else { return };
    let ca = SshCa::generate().unwrap();
    std::fs::write(keygen.path("ca.pub"), ca.public_line()).unwrap();
    let ca_print = keygen.run(&["-l", "-f", "ca.pub"]).split(' ').nth(1).unwrap().to_owned();
    for (kind, bits) in [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "2048")] {
        let name = format!("{kind}{bits}");
        keygen.run(&["-q", "-t", kind, "-b", bits, "-N", "", "-f", &name]);
        let line = std::fs::read_to_string(keygen.path(&format!("{name}.pub"))).unwrap();
        let key = PublicKey::from_openssh(&line).unwrap();
        let certificate = issue(&ca, &key);
        std::fs::write(keygen.path("cert.pub"), certificate.to_openssh().unwrap()).unwrap();
        let shown = keygen.run(&["-L", "-f", "cert.pub"]);
        for expected in [
            "user certificate\n",
            &format!("Signing CA: ED25519 {ca_print} (using ssh-ed25519)\n"),
            "Key ID: \"onus:subject=team/alice\"\n",
            "Serial: 77\n",
            "Valid: from 2026-09-21T14:12:20 to 2026-09-21T14:23:20\n",
            "Principals: \n                team/alice\n        Critical Options: (none)\n",
            "permit-agent-forwarding\n                permit-port-forwarding\n                permit-pty\n",
        ] {
            assert!(shown.contains(expected), "{expected:?} is not in {shown}");
        }
        assert!(shown.trim_end().ends_with("permit-pty"), "nothing more in {shown}");
        let printed = keygen.run(&["-l", "-f", &format!("{name}.pub")]);
        let ours = KeyFingerprint::of_ssh(key.key_data());
        assert_eq!(ours.as_str(), format!("ssh:{}", printed.split(' ').nth(1).unwrap()));
    }
    let host = ca.issue_host(&key(1), &["gw.example".to_owned(), "10.0.0.1".to_owned()], NOW, 60_000).unwrap();
    std::fs::write(keygen.path("cert.pub"), host.to_openssh().unwrap()).unwrap();
    let shown = keygen.run(&["-L", "-f", "cert.pub"]);
    assert!(shown.contains("host certificate") && shown.contains("Key ID: \"onus:host=gw.example\""), "{shown}");
    assert!(shown.contains("gw.example\n                10.0.0.1\n"), "{shown}");
}

#[test]
fn a_certificate_that_names_no_enrolled_key_is_nobodys() {
    let ca = SshCa::generate().unwrap();
    let mut builder = Builder::new(vec![1; 16], key(1).key_data().clone(), NOW / 1000, NOW / 1000 + 60).unwrap();
    builder.cert_type(CertType::User).unwrap().serial(1).unwrap();
    builder.key_id("onus:subject=alice").unwrap().valid_principal("alice").unwrap();
    let signed = builder.sign(&PrivateKey::from_openssh(ca.to_pem().unwrap().as_bytes()).unwrap()).unwrap();
    assert_eq!(ca.verify_user(&signed, NOW).map(|_| ()), Err(SshCertificateRefused::Voucher));
}

#[test]
fn what_ssh_keygen_signs_is_verified_or_refused() {
    use SshCertificateRefused as Refused;
    let Some(keygen) = Keygen::new("signs") else { return };
    keygen.run(&["-q", "-t", "ed25519", "-N", "", "-f", "ca"]);
    keygen.run(&["-q", "-t", "ed25519", "-N", "", "-f", "other"]);
    keygen.run(&["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "rsa"]);
    keygen.run(&["-q", "-t", "ecdsa", "-N", "", "-f", "user"]);
    let read = |path: &Path| Zeroizing::new(std::fs::read_to_string(path).unwrap());
    let ca = SshCa::from_pem(&read(&keygen.path("ca"))).unwrap();
    assert!(SshCa::from_pem(&read(&keygen.path("rsa"))).is_err(), "not an ed25519 key");
    let now = NOW;
    let signed = |signer: &str, more: &[&str]| {
        let enrolled = format!("extension:enrolled-key@onus={}", voucher());
        let valid = ["-q", "-s", signer, "-I", "onus:subject=alice", "-V", "20260901000000Z:20261001000000Z"];
        let mut args = valid.to_vec();
        args.extend(["-O", enrolled.as_str()]);
        args.extend_from_slice(more);
        args.push("user.pub");
        keygen.run(&args);
        keygen.certificate("user-cert.pub")
    };
    let verify = |certificate: &Certificate| ca.verify_user(certificate, now).map(|it| it.subject().to_string());
    let good = ["-n", "alice", "-z", "5"];
    assert_eq!(verify(&signed("ca", &good)).as_deref(), Ok("alice"));
    assert_eq!(verify(&signed("other", &good)), Err(Refused::Authority));
    assert_eq!(verify(&signed("rsa", &good)), Err(Refused::Authority));
    let rsa = PublicKey::from_openssh(&read(&keygen.path("rsa.pub"))).unwrap();
    let by_rsa = VerifiedSubject::from_ssh_certificate(&rsa, &signed("rsa", &good), now);
    assert_eq!(by_rsa, Err(Refused::Authority), "even where it is named, only an ed25519 authority counts");
    assert_eq!(verify(&signed("ca", &["-h", "-n", "alice", "-z", "5"])), Err(Refused::Purpose));
    assert_eq!(verify(&signed("ca", &["-n", "alice,root", "-z", "5"])), Err(Refused::Subject));
    assert_eq!(verify(&signed("ca", &["-z", "5"])), Err(Refused::Subject), "no principal stands for everybody");
    assert_eq!(verify(&signed("ca", &["-n", "alice"])), Err(Refused::Serial));
    let option = |option| verify(&signed("ca", &["-n", "alice", "-z", "5", "-O", option]));
    assert_eq!(option("force-command=id"), Err(Refused::CriticalOption));
    assert_eq!(option("source-address=10.0.0.0/8"), Err(Refused::CriticalOption));
    assert_eq!(option("critical:new@example.org=1"), Err(Refused::CriticalOption));
    assert_eq!(option("verify-required").as_deref(), Ok("alice"));
    assert_eq!(option("extension:new@example.org=1").as_deref(), Ok("alice"));
    let forever = |window| verify(&signed("ca", &["-n", "alice", "-z", "5", "-V", window]));
    assert_eq!(forever("20250101000000Z:20250201000000Z"), Err(Refused::Expired));
    assert_eq!(forever("20270101000000Z:20270201000000Z"), Err(Refused::NotYetValid));
}
