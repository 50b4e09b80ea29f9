//! Against the real thing: our client to `sshd`, and `ssh` to our server. Skipped where they aren't installed.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use bytes::Buf;
use onus_ssh_transport::wire::{Reader, put_string};
use onus_ssh_transport::{Cipher, ClientConfig, Event, HostKeyAlgorithm, Kex, RekeyAfter, ServerConfig, Transport};
use ssh_key::LineEnding;
use ssh_key::certificate::CertType;

use crate::pair::{certificate, key, server_config};

const SSHD: &str = "/usr/sbin/sshd";

/// A directory that goes away.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("onus-ssh-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn installed() -> bool {
    let there = Path::new(SSHD).exists() && Command::new("ssh").arg("-V").output().is_ok();
    if !there {
        println!("skipped: OpenSSH is not installed");
    }
    there
}

/// The methods that this OpenSSH knows too: older ones lack ML-KEM.
fn common_kex() -> Vec<Kex> {
    let output = Command::new("ssh").args(["-Q", "kex"]).output().unwrap();
    let known = String::from_utf8(output.stdout).unwrap();
    let (common, missing): (Vec<_>, Vec<_>) =
        Kex::ALL.into_iter().partition(|kex| known.lines().any(|line| line == kex.name()));
    for kex in missing {
        println!("skipped: this OpenSSH lacks {}", kex.name());
    }
    common
}

struct Sshd {
    child: Child,
    port: u16,
    dir: Dir,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Host keys of these types, each with a certificate, and whatever else the configuration says.
fn sshd(types: &[(&str, &str)], more: &str) -> Sshd {
    let dir = Dir::new();
    let _ = fs::create_dir_all("/run/sshd");
    let mut config = String::new();
    fs::write(dir.file("ca"), key(99).to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
    run(Command::new("chmod").args(["600", &dir.file("ca")]));
    for (kind, bits) in types {
        let file = dir.file(&format!("{kind}{bits}"));
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-N", "", "-t", kind, "-f", &file]);
        if !bits.is_empty() {
            keygen.args(["-b", bits]);
        }
        run(&mut keygen);
        run(Command::new("ssh-keygen").args(["-q", "-s", &dir.file("ca"), "-I", "h", "-h", "-n", "h", &file]));
        config.push_str(&format!("HostKey {file}\nHostCertificate {file}-cert.pub\n"));
    }
    fs::write(dir.file("authorized"), key(7).public_key().to_openssh().unwrap()).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    config.push_str(&format!(
        "ListenAddress 127.0.0.1\nPort {port}\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
         AuthorizedKeysFile {}\n{more}\n",
        dir.file("authorized")
    ));
    fs::write(dir.file("config"), config).unwrap();
    let log = fs::File::create(dir.file("log")).unwrap();
    let child = Command::new(SSHD)
        .args(["-D", "-e", "-f", &dir.file("config")])
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let sshd = Sshd { child, port, dir };
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return sshd;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("sshd doesn't listen: {}", fs::read_to_string(sshd.dir.file("log")).unwrap());
}

/// A transport with a socket.
struct Peer {
    transport: Transport,
    socket: TcpStream,
}

impl Peer {
    fn new(transport: Transport, socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { transport, socket }
    }

    fn flush(&mut self) -> Result<(), String> {
        while !self.transport.output().is_empty() {
            let n = self.socket.write(self.transport.output()).map_err(|error| error.to_string())?;
            self.transport.output().advance(n);
        }
        Ok(())
    }

    fn event(&mut self) -> Result<Event, String> {
        let mut buffer = [0; 65536];
        loop {
            let event = self.transport.next();
            self.flush()?;
            if let Some(event) = event.map_err(|error| error.to_string())? {
                return Ok(event);
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err("hung up".to_owned()),
                Ok(n) => self.transport.input().extend_from_slice(&buffer[..n]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn packet(&mut self) -> Result<Vec<u8>, String> {
        match self.event()? {
            Event::Packet(payload) => Ok(payload.to_vec()),
            other => Err(format!("{other:?}")),
        }
    }

    fn send(&mut self, payload: &[u8]) {
        self.transport.send(&[payload]).unwrap();
    }
}

fn message(kind: u8, strings: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![kind];
    for string in strings {
        put_string(&mut out, string);
    }
    out
}

fn connect(port: u16, config: ClientConfig) -> Peer {
    let mut peer = Peer::new(Transport::client(config), TcpStream::connect(("127.0.0.1", port)).unwrap());
    assert_eq!(peer.event(), Ok(Event::Ready));
    peer.send(&message(5, &[b"ssh-userauth"]));
    assert_eq!(peer.packet().unwrap(), message(6, &[b"ssh-userauth"]));
    peer
}

fn trusting() -> ClientConfig {
    ClientConfig::new(Box::new(|_| Ok(())))
}

#[test]
fn sshd_agrees_on_every_method_and_cipher() {
    if !installed() {
        return;
    }
    for kex in common_kex() {
        for cipher in Cipher::ALL {
            let config = format!("KexAlgorithms {}\nCiphers {}\nLogLevel DEBUG3", kex.name(), cipher.name());
            let sshd = sshd(&[("ed25519", "")], &config);
            let peer = connect(sshd.port, trusting());
            let negotiated = peer.transport.negotiated().unwrap();
            assert_eq!((negotiated.kex, negotiated.client_to_server), (kex, cipher));
            assert_eq!(negotiated.server_to_client, cipher);
            assert!(negotiated.strict, "this sshd has no strict key exchange");
            assert!(negotiated.peer_version.starts_with("SSH-2.0-OpenSSH"));
            assert!(peer.transport.server_sig_algs().unwrap().iter().any(|name| name == "ssh-ed25519"));
        }
    }
}

#[test]
fn sshd_proves_itself_with_every_kind_of_key() {
    if !installed() {
        return;
    }
    let types = [("ed25519", ""), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "3072")];
    let sshd = sshd(&types, "");
    for algorithm in HostKeyAlgorithm::ALL {
        let mut config = ClientConfig::new(Box::new(move |offer| {
            assert_eq!(offer.algorithm, algorithm);
            Ok(())
        }));
        config.prefer_host_key_algs = vec![algorithm];
        let peer = connect(sshd.port, config);
        assert_eq!(peer.transport.negotiated().unwrap().host_key, algorithm);
    }
}

/// Logs in with the key of seed 7, which `sshd` above lets in.
fn log_in(peer: &mut Peer) {
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let blob = key(7).public_key().to_bytes().unwrap();
    let mut request = message(50, &[user.trim().as_bytes(), b"ssh-connection", b"publickey"]);
    request.push(1);
    put_string(&mut request, b"ssh-ed25519");
    put_string(&mut request, &blob);
    let mut signed = Vec::new();
    put_string(&mut signed, peer.transport.session_id().unwrap());
    signed.extend_from_slice(&request);
    let signature = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap().sign(&signed);
    let mut blob = Vec::new();
    put_string(&mut blob, b"ssh-ed25519");
    put_string(&mut blob, signature.as_ref());
    put_string(&mut request, &blob);
    peer.send(&request);
    assert_eq!(peer.packet().unwrap(), [52]);
}

fn number(n: usize) -> [u8; 4] {
    (n as u32).to_be_bytes()
}

#[test]
fn sshd_and_we_renew_keys_with_data_under_way() {
    if !installed() {
        return;
    }
    for cipher in Cipher::ALL {
        let sshd = sshd(&[("ed25519", "")], &format!("Ciphers {}\nRekeyLimit 1M", cipher.name()));
        let mut config = trusting();
        config.rekey_after = RekeyAfter { bytes: 700_000, packets: u64::MAX };
        let mut peer = connect(sshd.port, config);
        log_in(&mut peer);
        let window = 1 << 30;
        let mut open = message(90, &[b"session"]);
        open.extend([number(0), number(window), number(32768)].concat());
        peer.send(&open);
        let mut room = 0;
        let mut started = false;
        let total = 6_000_000;
        let (mut sent, mut got) = (0, 0);
        while got < total {
            let payload = peer.packet().unwrap();
            let mut reader = Reader::new(&payload[1..]);
            match payload[0] {
                91 => {
                    reader.take(8).unwrap();
                    room = reader.uint32().unwrap() as usize;
                    let mut exec = [&[98][..], &number(0)].concat();
                    put_string(&mut exec, b"exec");
                    exec.push(1);
                    put_string(&mut exec, b"cat");
                    peer.send(&exec);
                }
                99 => started = true,
                93 => {
                    reader.take(4).unwrap();
                    room += reader.uint32().unwrap() as usize;
                }
                94 => {
                    reader.take(4).unwrap();
                    for byte in reader.string().unwrap() {
                        assert_eq!(*byte, (got / 1000) as u8, "at {got}");
                        got += 1;
                    }
                }
                80 => {}
                other => panic!("{other}"),
            }
            while started && sent < total && room > 0 && peer.transport.queued() < 1 << 20 {
                let n = room.min(32000).min(total - sent);
                let data: Vec<u8> = (sent..sent + n).map(|at| (at / 1000) as u8).collect();
                peer.transport.send(&[&[94], &number(0), &number(n), &data]).unwrap();
                room -= n;
                sent += n;
            }
        }
        let exchanges = peer.transport.key_exchanges();
        assert!(exchanges > 8, "{exchanges}");
        println!("{}: {exchanges} key exchanges in {total} bytes each way", cipher.name());
    }
}

/// Serves one connection of a real `ssh`, with these options and this command, by `serve`.
fn ssh(
    config: ServerConfig,
    options: &[String],
    input: Option<Vec<u8>>,
    serve: impl FnOnce(&mut Peer) -> Result<(), String> + Send + 'static,
) -> Output {
    let dir = Dir::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let plain = key(1).public_key().to_openssh().unwrap();
    let authority = key(99).public_key().to_openssh().unwrap();
    fs::write(dir.file("known"), format!("plain.example {plain}\n@cert-authority host.example {authority}\n")).unwrap();
    let server = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut peer = Peer::new(Transport::server(Arc::new(config)), socket);
        let served = serve(&mut peer);
        // Whatever is left to say is said.
        let _ = peer.flush();
        (served, peer.transport.key_exchanges())
    });
    let mut child = Command::new("ssh")
        .args(["-F", "none", "-vvv", "-p", &port.to_string(), "-l", "someone"])
        .args(["-o", &format!("UserKnownHostsFile={}", dir.file("known"))])
        .args(["-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"])
        .args(["-o", "IdentityFile=none", "-o", "IdentityAgent=none", "-o", "UpdateHostKeys=no"])
        .args(options)
        .args(["127.0.0.1", "command"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || input.map(|input| stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    let (served, exchanges) = server.join().unwrap();
    println!("served: {served:?}, {exchanges} key exchanges");
    output
}

/// Grants the service and refuses whoever asks.
fn refuse(peer: &mut Peer) -> Result<(), String> {
    loop {
        let payload = match peer.event()? {
            Event::Packet(payload) => payload,
            Event::Ready => continue,
            Event::Disconnected { .. } => return Ok(()),
        };
        match payload[0] {
            5 => peer.send(&message(6, &[b"ssh-userauth"])),
            50 => {
                let mut failure = message(51, &[b"publickey"]);
                failure.push(0);
                peer.send(&failure);
            }
            other => return Err(format!("message {other}")),
        }
    }
}

fn options(options: &[String]) -> Vec<String> {
    options.iter().flat_map(|option| ["-o".to_owned(), option.clone()]).collect()
}

#[test]
fn ssh_agrees_on_every_method_and_cipher() {
    if !installed() {
        return;
    }
    for kex in common_kex() {
        for cipher in Cipher::ALL {
            let options = options(&[
                format!("KexAlgorithms={}", kex.name()),
                format!("Ciphers={}", cipher.name()),
                "HostKeyAlias=plain.example".to_owned(),
            ]);
            let output = ssh(server_config(), &options, None, refuse);
            let told = String::from_utf8_lossy(&output.stderr);
            for expected in [
                &format!("kex: algorithm: {}\r\n", kex.name()),
                &format!("kex: server->client cipher: {} MAC: <implicit> compression: none", cipher.name()),
                &format!("kex: client->server cipher: {} MAC: <implicit> compression: none", cipher.name()),
                "will use strict KEX ordering",
                "resetting send seqnr",
                "resetting read seqnr",
                "SSH2_MSG_EXT_INFO received",
                "server-sig-algs=<ssh-ed25519,",
                "Host 'plain.example' is known and matches the ED25519 host key",
                "Permission denied (publickey)",
            ] {
                assert!(told.contains(expected), "no `{expected}` in:\n{told}");
            }
        }
    }
}

#[test]
fn ssh_accepts_the_host_certificate() {
    if !installed() {
        return;
    }
    let certificate = certificate(&key(1), CertType::Host);
    let config = ServerConfig::new(&key(1), Some(&certificate)).unwrap();
    let output = ssh(config, &options(&["HostKeyAlias=host.example".to_owned()]), None, refuse);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("matches the ED25519-CERT host certificate"), "{told}");
    assert!(told.contains("Permission denied (publickey)"), "{told}");
    // And a name that the certificate isn't for is refused by the client, in our words to it: none.
    let certificate = self::certificate(&key(1), CertType::Host);
    let config = ServerConfig::new(&key(1), Some(&certificate)).unwrap();
    let output = ssh(config, &options(&["HostKeyAlias=other.example".to_owned()]), None, refuse);
    assert!(String::from_utf8_lossy(&output.stderr).contains("Host key verification failed"));
}

/// Lets anyone in and echoes what comes, within the windows, until the other side's EOF.
fn echo(peer: &mut Peer) -> Result<(), String> {
    let (mut room, mut waiting, mut consumed) = (0, Vec::<u8>::new(), 0);
    let mut ended = false;
    loop {
        let payload = match peer.event()? {
            Event::Packet(payload) => payload,
            Event::Ready => continue,
            Event::Disconnected { .. } => return Ok(()),
        };
        let mut reader = Reader::new(&payload[1..]);
        match payload[0] {
            5 => peer.send(&message(6, &[b"ssh-userauth"])),
            50 => peer.send(&[52]),
            90 => {
                reader.string().unwrap();
                let sender = reader.uint32().unwrap() as usize;
                room = reader.uint32().unwrap() as usize;
                peer.send(&[&[91][..], &number(sender), &number(0), &number(1 << 20), &number(32768)].concat());
            }
            98 => {
                reader.take(4).unwrap();
                reader.string().unwrap();
                if reader.boolean().unwrap() {
                    peer.send(&[&[99][..], &number(0)].concat());
                }
            }
            94 => {
                reader.take(4).unwrap();
                let data = reader.string().unwrap();
                waiting.extend_from_slice(data);
                consumed += data.len();
                if consumed > 1 << 18 {
                    peer.send(&[&[93][..], &number(0), &number(consumed)].concat());
                    consumed = 0;
                }
            }
            93 => {
                reader.take(4).unwrap();
                room += reader.uint32().unwrap() as usize;
            }
            96 => ended = true,
            97 => {}
            80 => {}
            other => return Err(format!("message {other}")),
        }
        while room > 0 && !waiting.is_empty() && peer.transport.queued() < 1 << 20 {
            let n = room.min(32768).min(waiting.len());
            peer.transport.send(&[&[94], &number(0), &number(n), &waiting[..n]]).unwrap();
            waiting.drain(..n);
            room -= n;
        }
        if ended && waiting.is_empty() {
            let mut status = [&[98][..], &number(0)].concat();
            put_string(&mut status, b"exit-status");
            status.push(0);
            status.extend(number(0));
            peer.send(&status);
            peer.send(&[&[96][..], &number(0)].concat());
            peer.send(&[&[97][..], &number(0)].concat());
            ended = false;
        }
    }
}

#[test]
fn ssh_and_we_renew_keys_with_data_under_way() {
    if !installed() {
        return;
    }
    for cipher in Cipher::ALL {
        let input: Vec<u8> = (0..6_000_000_usize).map(|at| (at / 1000) as u8).collect();
        let options = options(&[
            format!("Ciphers={}", cipher.name()),
            "RekeyLimit=1M".to_owned(),
            "HostKeyAlias=plain.example".to_owned(),
        ]);
        let mut config = server_config();
        config.rekey_after = RekeyAfter { bytes: 700_000, packets: u64::MAX };
        let output = ssh(config, &options, Some(input.clone()), echo);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        assert!(output.stdout == input, "{} bytes came back", output.stdout.len());
        let exchanges = told.matches("SSH2_MSG_NEWKEYS received").count();
        assert!(exchanges > 8, "{exchanges}");
    }
}
