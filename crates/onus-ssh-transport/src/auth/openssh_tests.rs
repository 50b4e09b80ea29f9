//! Both sides of authentication over the real transport, against OpenSSH.

use super::*;
use crate::{ClientConfig, Event, ServerConfig, Transport};
use ssh_key::{Certificate, PrivateKey};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const KEYS: [(&str, &str); 5] =
    [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "2048")];

struct Folder(PathBuf);

impl Folder {
    /// With a host key, an authority, and for each kind a key and a certificate; `None` where OpenSSH is missing.
    fn new(test: &str) -> Option<Self> {
        if !PathBuf::from("/usr/sbin/sshd").exists() || Command::new("ssh-keygen").arg("-?").output().is_err() {
            println!("skipped: no openssh");
            return None;
        }
        let folder = Self(std::env::temp_dir().join(format!("onus-auth-{test}-{}", std::process::id())));
        fs::create_dir_all(&folder.0).unwrap();
        for (name, kind, bits) in [("host", "ed25519", "256"), ("ca", "ed25519", "256")] {
            folder.readable(name, &["-q", "-t", kind, "-b", bits, "-N", "", "-f", name]);
        }
        for (kind, bits) in KEYS {
            let name = format!("{kind}{bits}");
            folder.readable(&name, &["-q", "-t", kind, "-b", bits, "-N", "", "-f", &name]);
            folder.keygen(&["-q", "-s", "ca", "-I", "test", "-n", "root", &format!("{name}.pub")]);
        }
        Some(folder)
    }
    fn keygen(&self, args: &[&str]) {
        assert!(Command::new("ssh-keygen").args(args).current_dir(&self.0).status().unwrap().success(), "{args:?}");
    }
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }
    fn key(&self, name: &str) -> PrivateKey {
        PrivateKey::from_openssh(self.read(name)).unwrap()
    }
    /// Makes a key that the library can read: of one in some hundred ECDSA keys the number has a byte less than usual,
    /// which OpenSSH then leaves out and this version of the library does not take.
    fn readable(&self, name: &str, args: &[&str]) {
        for _ in 0..8 {
            self.keygen(args);
            if PrivateKey::from_openssh(self.read(name)).is_ok() {
                return;
            }
            fs::remove_file(self.0.join(name)).unwrap();
            fs::remove_file(self.0.join(format!("{name}.pub"))).unwrap();
        }
        panic!("no key of `{args:?}` can be read");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// The next payload, or `None` at the end of the connection.
fn payload(transport: &mut Transport, socket: &mut TcpStream) -> Option<Vec<u8>> {
    loop {
        let event = transport.next().ok()?;
        let output = transport.output();
        socket.write_all(output).ok()?;
        output.clear();
        match event {
            Some(Event::Packet(payload)) => return Some(payload.to_vec()),
            Some(Event::Ready) => return Some(Vec::new()),
            Some(Event::Disconnected { .. }) => return None,
            None => {
                let mut bytes = [0; 4096];
                let count = socket.read(&mut bytes).ok().filter(|count| *count > 0)?;
                transport.input().extend_from_slice(&bytes[..count]);
            }
        }
    }
}

/// Takes anybody's certificate, or anybody's bare key. A client that has both offers the bare key first.
struct Takes {
    certificates: bool,
}

impl Authenticate for Takes {
    fn offered(&mut self, _: &str, key: &OfferedKey) -> Answer {
        if key.certificate().is_some() == self.certificates {
            Answer::Acceptable
        } else {
            Answer::Refused { banner: Some("something else".to_owned()) }
        }
    }
}

#[test]
fn the_real_client_proves_itself_to_us() {
    let Some(folder) = Folder::new("server") else { return };
    let config = Arc::new(ServerConfig::new(&folder.key("host"), None).unwrap());
    for (kind, bits) in KEYS {
        for certified in [false, true] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let name = format!("{kind}{bits}");
            // The certificate lies beside the key, where ssh would find it by itself.
            let plain = folder.0.join(format!("{name}.alone"));
            fs::copy(folder.0.join(&name), &plain).unwrap();
            fs::set_permissions(&plain, fs::Permissions::from_mode(0o600)).unwrap();
            let file = if certified { folder.0.join(&name) } else { plain };
            let mut child = Command::new("ssh")
                .args(["-F", "none", "-i", file.to_str().unwrap(), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"])
                .args(["-o", "IdentityAgent=none", "-o", "StrictHostKeyChecking=no"])
                .args(["-o", "UserKnownHostsFile=/dev/null", "-l", "team/alice"])
                .args(["-p", &listener.local_addr().unwrap().port().to_string(), "127.0.0.1", "true"])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let (mut socket, _) = listener.accept().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let mut transport = Transport::server(Arc::clone(&config));
            assert_eq!(payload(&mut transport, &mut socket), Some(Vec::new()));
            let mut auth = ServerAuth::new(transport.session_id().unwrap());
            let proven = loop {
                let message = payload(&mut transport, &mut socket).expect("the client goes on");
                let step = auth.packet(&message, &mut Takes { certificates: certified }).unwrap();
                for reply in &step.replies {
                    transport.send(&[reply]).unwrap();
                }
                if let Some(proven) = step.done {
                    break proven;
                }
            };
            assert_eq!(proven.user(), "team/alice");
            assert_eq!(proven.key().key_data(), folder.key(&name).public_key().key_data(), "{name}");
            assert_eq!(proven.key().certificate().is_some(), certified, "{name}");
            drop(socket);
            _ = child.kill();
            _ = child.wait();
        }
    }
}

#[test]
fn we_prove_ourselves_to_the_real_server() {
    let Some(folder) = Folder::new("client") else { return };
    let login = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    if login.trim() != "root" {
        println!("skipped: the certificates here are root's");
        return;
    }
    _ = fs::create_dir_all("/run/sshd");
    let keys: String = KEYS.iter().map(|(kind, bits)| folder.read(&format!("{kind}{bits}.pub"))).collect();
    fs::write(folder.0.join("keys"), keys).unwrap();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nTrustedUserCAKeys {0}/ca.pub\nUsePAM no\n\
         AuthorizedKeysFile {0}/keys\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\n\
         PermitRootLogin prohibit-password\nStrictModes no\nBanner {0}/banner\n",
        folder.0.display()
    );
    fs::write(folder.0.join("config"), config).unwrap();
    fs::write(folder.0.join("banner"), "mind the gap\n").unwrap();
    let mut sshd = Command::new("/usr/sbin/sshd")
        .args(["-D", "-f", folder.0.join("config").to_str().unwrap(), "-E", folder.0.join("log").to_str().unwrap()])
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let attempt = |credential, ask: bool| -> Result<Option<String>, ClientAuthError> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut transport = Transport::client(ClientConfig::new(Box::new(|_| Ok(()))));
        assert_eq!(payload(&mut transport, &mut socket), Some(Vec::new()));
        let mut auth = ClientAuth::new(transport.session_id().unwrap(), "root", credential).unwrap();
        if ask {
            auth = auth.ask_first();
        }
        transport.send(&[&auth.start()]).unwrap();
        let mut banner = None;
        loop {
            let message = payload(&mut transport, &mut socket).expect("the server goes on");
            if let Some(names) = transport.server_sig_algs() {
                auth.server_sig_algs(names);
            }
            let step = auth.packet(&message)?;
            banner = banner.or(step.banner);
            for message in &step.send {
                transport.send(&[message]).unwrap();
            }
            if step.done {
                return Ok(banner);
            }
        }
    };
    let outcomes = std::panic::catch_unwind(|| {
        for (kind, bits) in KEYS {
            let name = format!("{kind}{bits}");
            for ask in [false, true] {
                let certificate = Certificate::from_openssh(&folder.read(&format!("{name}-cert.pub"))).unwrap();
                let certified = Credential::Certificate { key: folder.key(&name), certificate: Box::new(certificate) };
                assert_eq!(attempt(certified, ask).unwrap().as_deref(), Some("mind the gap\n"), "{name}");
                attempt(Credential::Key(folder.key(&name)), ask).unwrap();
                let refused = attempt(Credential::Key(folder.key("ca")), ask).unwrap_err();
                assert_eq!(refused.to_string(), "the server refused the key for `root`; it offers publickey");
            }
        }
    });
    _ = sshd.kill();
    _ = sshd.wait();
    if let Err(panic) = outcomes {
        println!("{}", folder.read("log"));
        std::panic::resume_unwind(panic);
    }
}
