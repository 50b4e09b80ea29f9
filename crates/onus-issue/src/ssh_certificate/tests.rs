//! What a session's certificate says, and what a real sshd makes of it.

use super::*;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

const NOW: Timestamp = Timestamp(1_790_000_000_500);

fn order() -> SshOrder {
    SshOrder {
        session: SessionId::parse("s-1").unwrap(),
        subject: SubjectId::parse("team/alice").unwrap(),
        grant: GrantId::parse("g-7").unwrap(),
        principals: vec!["deploy".to_owned(), "db/ops".to_owned()],
        sources: None,
        permits: BTreeSet::new(),
        now: NOW,
        lifetime: DEFAULT_LIFETIME,
    }
}

#[test]
fn a_certificate_says_what_was_ordered_and_no_more() {
    let authority = TargetAuthority::generate().unwrap();
    let made = SessionCertificate::issue(&authority, &order()).unwrap();
    let certificate = made.certificate();
    assert_eq!(certificate.key_id(), "onus session=s-1 subject=team/alice grant=g-7");
    assert_eq!(certificate.valid_principals(), ["deploy", "db/ops"]);
    assert_eq!(certificate.cert_type(), CertType::User);
    assert_eq!((certificate.valid_after(), certificate.valid_before()), (1_789_999_940, 1_790_000_060));
    assert_eq!(made.not_after(), Timestamp(1_790_000_060_000));
    assert!(certificate.critical_options().is_empty() && certificate.extensions().is_empty());
    assert!(certificate.verify_signature().is_ok());
    assert_eq!(certificate.signature_key(), authority.key.public_key().key_data());

    let asked = SshOrder {
        sources: Some(vec![
            "10.0.0.1".parse().unwrap(),
            "2001:db8::1".parse().unwrap(),
            "::ffff:10.0.0.2".parse().unwrap(),
        ]),
        permits: BTreeSet::from([Permit::Pty, Permit::AgentForwarding]),
        ..order()
    };
    let other = SessionCertificate::issue(&authority, &asked).unwrap();
    let options: Vec<_> = other.certificate().critical_options().iter().collect();
    let sources = "10.0.0.1/32,2001:db8::1/128,10.0.0.2/32".to_owned();
    assert_eq!(options, [(&"source-address".to_owned(), &sources)]);
    let extensions: Vec<_> = other.certificate().extensions().keys().collect();
    assert_eq!(extensions, ["permit-agent-forwarding", "permit-pty"]);
    assert_ne!(other.certificate().public_key(), certificate.public_key(), "each session has a key of its own");
    assert_ne!(other.certificate().serial(), certificate.serial());
}

#[test]
fn what_could_mean_something_else_is_refused() {
    let authority = TargetAuthority::generate().unwrap();
    let issue = |order: SshOrder| SessionCertificate::issue(&authority, &order).map(|_| ()).unwrap_err();
    let named = |principals: &[&str]| {
        issue(SshOrder { principals: principals.iter().map(|name| (*name).to_owned()).collect(), ..order() })
    };
    assert_eq!(named(&[]), SshIssueFault::Principals);
    assert_eq!(named(&["a"; 17]), SshIssueFault::Principals);
    for wrong in ["", "a,root", "*", "a b", "-a", "a\0", "a\nroot", "ä", &"x".repeat(256)] {
        assert!(matches!(named(&["ok", wrong]), SshIssueFault::Principal(_)), "{wrong:?}");
    }
    assert!(!named(&["a\u{1b}[2J"]).to_string().contains('\u{1b}'));
    let lasting = |lifetime| issue(SshOrder { lifetime: Millis(lifetime), ..order() });
    assert_eq!(lasting(0), SshIssueFault::Lifetime);
    assert_eq!(lasting(499), SshIssueFault::Lifetime);
    assert_eq!(lasting(600_001), SshIssueFault::Lifetime);
    assert_eq!(issue(SshOrder { now: Timestamp(u64::MAX), ..order() }), SshIssueFault::Lifetime);
    assert_eq!(issue(SshOrder { sources: Some(vec![]), ..order() }), SshIssueFault::Sources);
}

#[test]
fn secrets_are_stored_but_not_shown() {
    let authority = TargetAuthority::generate().unwrap();
    let pem = authority.to_pem().unwrap();
    let again = TargetAuthority::from_pem(&pem).unwrap();
    assert_eq!(again.public_line(), authority.public_line());
    assert!(authority.public_line().ends_with(" onus-targets"));
    let made = SessionCertificate::issue(&again, &order()).unwrap();
    let shown = format!("{authority:?} {made:?}");
    assert!(shown.contains("session=s-1"));
    let (key, _) = made.into_parts();
    for secret in [&pem, &key.to_openssh(LineEnding::LF).unwrap()] {
        assert!(!shown.contains(secret.lines().nth(3).unwrap()));
    }
    let wrong = Zeroizing::new(authority.public_line());
    assert_eq!(TargetAuthority::from_pem(&wrong).unwrap_err(), SshIssueFault::AuthorityUnreadable);
}

/// A private sshd on loopback that trusts one authority and nothing else.
struct Sshd {
    child: Child,
    port: u16,
    folder: PathBuf,
    login: String,
}

impl Sshd {
    fn start(test: &str, authority: &TargetAuthority) -> Option<Self> {
        let sshd = Path::new("/usr/sbin/sshd");
        if !sshd.exists() || Command::new("ssh").arg("-V").output().is_err() {
            println!("skipped: no sshd or ssh");
            return None;
        }
        // Run by root, sshd wants this folder; run by anybody else, it does without.
        _ = std::fs::create_dir_all("/run/sshd");
        let login = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let folder = std::env::temp_dir().join(format!("onus-issue-sshd-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let host_key = new_key().unwrap().to_openssh(LineEnding::LF).unwrap();
        write(&folder.join("host_key"), &host_key);
        write(&folder.join("ca.pub"), &authority.public_line());
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host_key\nTrustedUserCAKeys {0}/ca.pub\n\
             AuthorizedKeysFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n\
             PermitRootLogin prohibit-password\nPidFile none\nStrictModes no\nLogLevel VERBOSE\n",
            folder.display()
        );
        write(&folder.join("config"), &config);
        let child = Command::new(sshd)
            .args(["-D", "-f", folder.join("config").to_str().unwrap(), "-E", folder.join("log").to_str().unwrap()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let sshd = Self { child, port, folder, login: login.trim().to_owned() };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "sshd does not listen: {}", sshd.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(sshd)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn order(&self) -> SshOrder {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        SshOrder { principals: vec![self.login.clone()], now: Timestamp(u64::try_from(now).unwrap()), ..order() }
    }

    /// Runs `ssh` with the certificate; what it prints is the remote command's.
    fn ssh(&self, made: SessionCertificate, more: &[&str]) -> Output {
        let (key, certificate) = made.into_parts();
        let (key_file, certificate_file) = (self.folder.join("key"), self.folder.join("key-cert.pub"));
        write(&key_file, &key.to_openssh(LineEnding::LF).unwrap());
        write(&certificate_file, &certificate.to_openssh().unwrap());
        let certificate_option = format!("CertificateFile={}", certificate_file.display());
        Command::new("ssh")
            .args(["-F", "none", "-i", key_file.to_str().unwrap(), "-o", &certificate_option])
            .args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes"])
            .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=20"])
            .args(["-p", &self.port.to_string(), "-l", &self.login])
            .args(more)
            .args(["127.0.0.1", "echo it opened; tty"])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn opens(&self, made: SessionCertificate, more: &[&str]) -> bool {
        let output = self.ssh(made, more);
        let opened = String::from_utf8_lossy(&output.stdout).contains("it opened");
        // Refused for want of a proof, and not because nothing ran.
        let refused = String::from_utf8_lossy(&output.stderr).contains("Permission denied (publickey)");
        assert!(opened != refused, "{output:?}\n{}", self.log());
        opened
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn sshd_takes_it_for_what_it_says_until_it_ends() {
    let authority = TargetAuthority::generate().unwrap();
    let Some(sshd) = Sshd::start("takes", &authority) else { return };
    let issue = |order: &SshOrder| SessionCertificate::issue(&authority, order).unwrap();
    assert!(sshd.opens(issue(&sshd.order()), &[]));
    let log = sshd.log();
    assert!(log.contains("ID onus session=s-1 subject=team/alice grant=g-7 (serial "), "{log}");

    let other_name = SshOrder { principals: vec!["nobody-else".to_owned()], ..sshd.order() };
    assert!(!sshd.opens(issue(&other_name), &[]));
    let strangers = TargetAuthority::generate().unwrap();
    assert!(!sshd.opens(SessionCertificate::issue(&strangers, &sshd.order()).unwrap(), &[]));

    // Long over, and over while one waits.
    let mut old = sshd.order();
    old.now = Timestamp(old.now.0 - 70_000);
    assert!(!sshd.opens(issue(&old), &[]));
    let short = SshOrder { lifetime: Millis(4000), ..sshd.order() };
    let (first, second) = (issue(&short), issue(&short));
    assert!(sshd.opens(first, &[]), "while it lasts");
    let left = (short.now.0 + 4000).saturating_sub(sshd.order().now.0);
    std::thread::sleep(Duration::from_millis(left));
    assert!(!sshd.opens(second, &[]), "and no longer");
    assert!(sshd.log().contains("Certificate invalid: expired"), "{}", sshd.log());
}

#[test]
fn sshd_takes_it_from_the_right_address_only() {
    let authority = TargetAuthority::generate().unwrap();
    let Some(sshd) = Sshd::start("address", &authority) else { return };
    let from = |address: &str| {
        let order = SshOrder { sources: Some(vec![address.parse().unwrap()]), ..sshd.order() };
        SessionCertificate::issue(&authority, &order).unwrap()
    };
    assert!(sshd.opens(from("127.0.0.1"), &[]));
    assert!(!sshd.opens(from("10.255.255.1"), &[]));
    // The whole of 127/8 is this machine, so it can come from another address.
    assert!(!sshd.opens(from("127.0.0.1"), &["-b", "127.0.0.2"]));
    assert!(sshd.opens(from("127.0.0.2"), &["-b", "127.0.0.2"]));
    assert!(sshd.opens(from("::ffff:127.0.0.1"), &[]), "written the other way");
}

#[test]
fn sshd_gives_a_terminal_only_where_that_was_asked_for() {
    let authority = TargetAuthority::generate().unwrap();
    let Some(sshd) = Sshd::start("terminal", &authority) else { return };
    let tty = |permits: BTreeSet<Permit>| {
        let order = SshOrder { permits, ..sshd.order() };
        let output = sshd.ssh(SessionCertificate::issue(&authority, &order).unwrap(), &["-tt"]);
        (String::from_utf8_lossy(&output.stdout).contains("/dev/pts/"), String::from_utf8(output.stderr).unwrap())
    };
    let (given, said) = tty(BTreeSet::new());
    assert!(!given && said.contains("PTY allocation request failed"), "{said}");
    let (given, said) = tty(BTreeSet::from([Permit::Pty]));
    assert!(given, "{said}\n{}", sshd.log());
}
