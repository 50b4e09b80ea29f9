//! SFTP: chunks, handles, ids, refusals, names, and the real `sftp-server` and `sftp`.

use super::*;
use bytes::{Bytes, BytesMut};
use onus_core::operation::{Access, Class, Operation};
use proptest::prelude::*;
use sha2::Digest;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

const SERVER: &str = "/usr/lib/openssh/sftp-server";

fn packet(kind: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let mut packet = (body.len() as u32 + 1).to_be_bytes().to_vec();
    packet.push(kind);
    packet.extend(body);
    packet
}

fn n(number: u32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn long(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn s(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&n(text.len() as u32)[..], text].concat()
}

fn init() -> Vec<u8> {
    packet(1, &[&n(3)])
}

fn open(id: u32, path: &str, flags: u32) -> Vec<u8> {
    packet(3, &[&n(id), &s(path), &n(flags), &n(0)])
}

fn write(id: u32, handle: &[u8], offset: u64, content: &[u8]) -> Vec<u8> {
    packet(6, &[&n(id), &s(handle), &long(offset), &s(content)])
}

fn read(id: u32, handle: &[u8], offset: u64, length: u32) -> Vec<u8> {
    packet(5, &[&n(id), &s(handle), &long(offset), &n(length)])
}

fn close(id: u32, handle: &[u8]) -> Vec<u8> {
    packet(4, &[&n(id), &s(handle)])
}

fn status(id: u32, code: u32) -> Vec<u8> {
    packet(101, &[&n(id), &n(code), &s("said"), &s("")])
}

fn handle(id: u32, handle: &[u8]) -> Vec<u8> {
    packet(102, &[&n(id), &s(handle)])
}

fn data(id: u32, content: &[u8]) -> Vec<u8> {
    packet(103, &[&n(id), &s(content)])
}

fn extended(id: u32, name: &str, body: &[&[u8]]) -> Vec<u8> {
    packet(200, &[&n(id), &s(name), &body.concat()])
}

/// A channel and what has happened on it.
struct Scene {
    sftp: Sftp,
    from_client: BytesMut,
    from_upstream: BytesMut,
    up: Vec<u8>,
    down: Vec<u8>,
    requests: Vec<Request>,
    transfers: Vec<Transfer>,
    permits: fn(&Operation) -> bool,
}

impl Scene {
    fn new() -> Self {
        Self {
            sftp: Sftp::new(Hashing::Sequential),
            from_client: BytesMut::new(),
            from_upstream: BytesMut::new(),
            up: Vec::new(),
            down: Vec::new(),
            requests: Vec::new(),
            transfers: Vec::new(),
            permits: |operation| !operation.objects.iter().any(|object| object.name.contains("secret")),
        }
    }

    fn greeted() -> Self {
        let mut scene = Self::new();
        scene.client(&init()).unwrap();
        scene.upstream(&packet(2, &[&n(3)])).unwrap();
        scene.up.clear();
        scene.down.clear();
        scene.requests.clear();
        scene
    }

    /// What the lead's channel does.
    fn client(&mut self, bytes: &[u8]) -> Result<(), SftpViolation> {
        self.from_client.extend_from_slice(bytes);
        while let Some(piece) = self.sftp.client(&mut self.from_client)? {
            match piece {
                Piece::Body(bytes) => self.up.extend_from_slice(&bytes),
                Piece::Request(request) => {
                    let permitted = request.operation.as_ref().is_none_or(self.permits);
                    if request.forbidden.is_some() || !permitted {
                        let answer = self.sftp.refuse(&request, "refused by `no-secrets`");
                        self.down.extend(answer.iter().flatten());
                    } else {
                        self.sftp.relayed(&request);
                        self.up.extend_from_slice(&request.bytes);
                    }
                    self.requests.push(request);
                }
            }
        }
        Ok(())
    }

    fn upstream(&mut self, bytes: &[u8]) -> Result<(), SftpViolation> {
        self.from_upstream.extend_from_slice(bytes);
        let mut replies = Vec::new();
        self.sftp.upstream(&mut self.from_upstream, &mut replies)?;
        for reply in replies {
            match reply {
                Reply::ToClient(bytes) => self.down.extend_from_slice(&bytes),
                Reply::Transfer(transfer) => self.transfers.push(transfer),
            }
        }
        Ok(())
    }

    /// Opens `path`, which the upstream calls `name`.
    fn open(&mut self, path: &str, flags: u32, name: &[u8]) {
        self.client(&open(7, path, flags)).unwrap();
        self.upstream(&handle(7, name)).unwrap();
    }

    fn last(&self) -> &Request {
        self.requests.last().unwrap()
    }

    /// Sends it, and says whether it went upstream.
    fn passes(&mut self, bytes: &[u8]) -> bool {
        let before = self.up.len();
        self.client(bytes).unwrap();
        match self.up.len() - before {
            0 => false,
            length => {
                assert_eq!(length, bytes.len());
                true
            }
        }
    }
}

fn only(bytes: &[u8]) -> Request {
    let mut scene = Scene::greeted();
    scene.client(bytes).unwrap();
    assert_eq!(scene.requests.len(), 1);
    scene.requests.pop().unwrap()
}

/// `action access:name … +fact …`
fn shown(operation: &Operation) -> String {
    let mut words = vec![operation.action.clone()];
    words.extend(operation.objects.iter().map(|object| format!("{}:{}", object.access.as_str(), object.name)));
    words.extend(operation.facts.iter().map(|fact| format!("+{fact}")));
    words.join(" ")
}

#[test]
fn each_request_is_the_operation_that_it_is() {
    let attributes = |flags: u32, rest: &[u8]| [&n(flags)[..], rest].concat();
    for (bytes, expected) in [
        (open(1, "/a", 1), "file.read read:/a"),
        (open(1, "/a", 0), "file.read read:/a"),
        (open(1, "/a", 16), "file.write read:/a write:/a +trunc"),
        (open(1, "/a", 9), "file.write read:/a write:/a +creat"),
        (open(1, "a", 2 | 8 | 16), "file.write write:~/a +creat +trunc"),
        (open(1, "a/../b", 3), "file.write read:~/a/../b write:~/a/../b +dotdot"),
        (open(1, "a", 2 | 4 | 32), "file.write write:~/a +append +excl"),
        (packet(3, &[&n(1), &s("/x"), &n(2 | 8), &attributes(4, &n(0o104755))]), "file.write write:/x +creat +setuid"),
        (packet(11, &[&n(1), &s(".")]), "file.list read:~"),
        (packet(17, &[&n(1), &s("/a")]), "file.stat read:/a"),
        (packet(7, &[&n(1), &s("/a")]), "file.stat read:/a +no-follow"),
        (packet(16, &[&n(1), &s("")]), "file.stat read:~"),
        (packet(19, &[&n(1), &s("l")]), "file.stat read:~/l"),
        (packet(13, &[&n(1), &s("/a\n")]), "file.remove write:/a%0A +odd-name"),
        (packet(15, &[&n(1), &s("/d/")]), "file.remove write:/d +directory"),
        (packet(14, &[&n(1), &s("d"), &attributes(4, &n(0o2755))]), "file.make_directory write:~/d +setuid"),
        (packet(18, &[&n(1), &s("/a"), &s("/b")]), "file.rename write:/a write:/b"),
        (packet(20, &[&n(1), &s("../t"), &s("/d/l")]), "file.link write:/d/../t write:/d/l +dotdot +symlink"),
        (packet(20, &[&n(1), &s("t"), &s("d/l/")]), "file.link write:~/d/l write:~/d/t +symlink"),
        (packet(9, &[&n(1), &s("/a"), &attributes(4, &n(0o644))]), "file.set_attributes write:/a +chmod"),
        (
            packet(9, &[&n(1), &s("/a"), &attributes(0xf, &[0; 28])]),
            "file.set_attributes write:/a +chmod +chown +size +times",
        ),
        (extended(1, "posix-rename@openssh.com", &[&s("a"), &s("b")]), "file.rename write:~/a write:~/b +overwrite"),
        (
            extended(1, "hardlink@openssh.com", &[&s("/etc/shadow"), &s("b")]),
            "file.link write:/etc/shadow write:~/b +hardlink",
        ),
        (extended(1, "statvfs@openssh.com", &[&s("/")]), "file.stat read:/"),
        (
            extended(1, "lsetstat@openssh.com", &[&s("/l"), &attributes(8, &[0; 8])]),
            "file.set_attributes write:/l +no-follow +times",
        ),
        (extended(1, "expand-path@openssh.com", &[&s("~bob/x")]), "file.stat read:~bob/x"),
        (extended(1, "home-directory", &[&s("")]), "file.stat read:~"),
        (extended(1, "home-directory", &[&s("bob")]), "file.stat read:~bob"),
        (extended(1, "users-groups-by-id@openssh.com", &[&s([0; 8]), &s("")]), "file.stat +account-names"),
        (extended(1, "check-file", &[&s("x")]), "file.opaque"),
        (packet(21, &[&n(1)]), "file.opaque"),
        (packet(103, &[&n(1), &s("x")]), "file.opaque"),
    ] {
        let request = only(&bytes);
        assert_eq!(request.forbidden, None, "{expected}");
        let operation = request.operation.unwrap();
        assert_eq!(shown(&operation), expected);
        assert_eq!(operation.class, actions::class_of(&operation.action));
        assert_eq!(operation.class == Class::Opaque, !operation.opaque.is_empty());
        assert_eq!(&request.bytes[..], &bytes[..]);
    }
    assert_eq!(only(&extended(1, "limits@openssh.com", &[])).operation, None);
}

#[test]
fn what_is_not_exactly_a_request_of_its_kind_is_refused_whatever_policy_says() {
    let valid = [
        open(1, "/a", 1),
        packet(11, &[&n(1), &s("/a")]),
        packet(18, &[&n(1), &s("/a"), &s("/b")]),
        packet(9, &[&n(1), &s("/a"), &n(4), &n(0o644)]),
        packet(9, &[&n(1), &s("/a"), &n(0x8000_0000), &n(1), &s("x"), &s("y")]),
        extended(1, "posix-rename@openssh.com", &[&s("a"), &s("b")]),
        extended(1, "limits@openssh.com", &[]),
        write(1, b"h", 0, b"content"),
        read(1, b"h", 0, 1),
        close(1, b"h"),
    ];
    let malformed = |body: &[u8]| {
        let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
        bytes.extend(body);
        let request = only(&bytes);
        request.operation.is_none() && request.forbidden.is_some_and(|f| f.status == Status::BadMessage)
    };
    for bytes in valid {
        assert!(malformed(&[&bytes[4..], &b"x"[..]].concat()), "one byte more: {bytes:?}");
        assert!(malformed(&bytes[4..bytes.len() - 1]) || bytes[4] == 200, "one byte less: {bytes:?}");
    }
    assert!(malformed(&open(1, "/a\0", 1)[4..]), "OpenSSH would open /a");
    assert!(malformed(&open(1, &"a".repeat(4096), 1)[4..]));
    assert!(malformed(&packet(9, &[&n(1), &s("/a"), &n(0x10)])[4..]), "an unknown attribute");
    assert!(malformed(&packet(9, &[&n(1), &s("/a"), &n(0x8000_0000), &n(u32::MAX)])[4..]));
    assert!(only(&open(1, "/a", 0x40)).forbidden.is_some());
    assert!(only(&extended(1, "version-select", &[&s("6")])).forbidden.is_some());
}

#[test]
fn only_one_greeting_and_only_version_3() {
    let mut scene = Scene::new();
    assert_eq!(scene.client(&open(1, "/a", 1)), Err(SftpViolation::NoGreeting));
    let mut scene = Scene::new();
    scene.client(&packet(1, &[&n(6), &s("vendor-id"), &s("x")])).unwrap();
    assert_eq!(scene.up, init(), "whatever the client offers, version 3 is what the upstream hears");
    assert_eq!(scene.client(&init()), Err(SftpViolation::SecondGreeting));
    for greeting in [packet(2, &[&n(6)]), packet(2, &[&n(2)]), status(1, 0)] {
        let mut scene = Scene::new();
        scene.client(&init()).unwrap();
        assert_eq!(scene.upstream(&greeting), Err(SftpViolation::UpstreamVersion));
    }
    let mut scene = Scene::greeted();
    assert_eq!(scene.upstream(&packet(2, &[&n(3)])), Err(SftpViolation::UpstreamVersion));
    assert_eq!(Scene::new().upstream(&packet(2, &[&n(3)])), Err(SftpViolation::UpstreamVersion));
    assert_eq!(Scene::new().client(&packet(1, &[&n(2)])), Err(SftpViolation::ClientVersion));
}

#[test]
fn a_handle_serves_only_what_it_was_opened_for() {
    let mut scene = Scene::greeted();
    scene.open("/r", 1, b"r");
    scene.open("/w", 2, b"w");
    scene.client(&packet(11, &[&n(7), &s("/d")])).unwrap();
    scene.upstream(&handle(7, b"d")).unwrap();
    let fsetstat = |h: &[u8]| packet(10, &[&n(20), &s(h), &n(4), &n(0o4755)]);
    let copy = |from: &[u8], to: &[u8]| extended(21, "copy-data", &[&s(from), &long(0), &long(0), &s(to), &long(0)]);
    for (bytes, expected) in [
        (write(1, b"r", 0, b"x"), false),
        (write(2, b"w", 0, b"x"), true),
        (write(3, b"d", 0, b"x"), false),
        (write(4, b"x", 0, b"x"), false),
        (write(5, b"", 0, b"x"), false),
        (read(6, b"r", 0, 9), true),
        (read(7, b"w", 0, 9), false),
        (read(8, b"d", 0, 9), false),
        (packet(12, &[&n(9), &s("d")]), true),
        (packet(12, &[&n(10), &s("r")]), false),
        (packet(8, &[&n(11), &s("r")]), true),
        (packet(8, &[&n(12), &s("nope")]), false),
        (extended(13, "fsync@openssh.com", &[&s("w")]), true),
        (extended(14, "fstatvfs@openssh.com", &[&s("nope")]), false),
        (fsetstat(b"nope"), false),
        (copy(b"w", b"r"), false),
        (copy(b"r", b"w"), true),
        (close(15, b"nope"), false),
    ] {
        assert_eq!(scene.passes(&bytes), expected, "{bytes:?}");
        assert_eq!(scene.last().forbidden.is_some(), !expected);
    }
    scene.client(&fsetstat(b"r")).unwrap();
    let operation = scene.last().operation.as_ref().unwrap();
    assert_eq!(
        shown(operation),
        "file.set_attributes write:/r +chmod +setuid",
        "the open for reading doesn't cover it"
    );
}

#[test]
fn a_write_before_its_open_was_answered_is_refused() {
    let mut scene = Scene::greeted();
    scene.client(&open(1, "/w", 2)).unwrap();
    assert!(!scene.passes(&write(2, &[0, 0, 0, 0], 0, b"guessed")));
    scene.upstream(&handle(1, &[0, 0, 0, 0])).unwrap();
    assert!(scene.passes(&write(3, &[0, 0, 0, 0], 0, b"known")));
}

#[test]
fn a_refused_open_leaves_no_handle_to_guess() {
    let mut scene = Scene::greeted();
    scene.client(&open(1, "/secret", 3)).unwrap();
    assert_eq!(scene.up, b"");
    assert_eq!(scene.down, packet(101, &[&n(1), &n(3), &s("refused by `no-secrets`"), &s("en")]));
    for number in 0..8u32 {
        assert!(!scene.passes(&read(100 + number, &n(number), 0, 9)));
    }
    // Nor can the upstream make it one.
    assert_eq!(scene.upstream(&handle(1, b"h")), Err(SftpViolation::Unasked));
}

#[test]
fn a_closed_handle_is_nobodys_until_it_is_given_out_again() {
    let mut scene = Scene::greeted();
    scene.open("/w", 2, b"h");
    assert!(scene.passes(&close(1, b"h")));
    assert!(!scene.passes(&write(2, b"h", 0, b"late")));
    assert!(!scene.passes(&close(3, b"h")));
    // The same name for another file, open for reading, before the close was even answered.
    scene.client(&open(4, "/r", 1)).unwrap();
    scene.upstream(&[status(1, 0), handle(4, b"h")].concat()).unwrap();
    assert!(!scene.passes(&write(5, b"h", 0, b"x")));
    assert!(scene.passes(&read(6, b"h", 0, 9)));
    assert_eq!(&**scene.last().path.as_ref().unwrap(), "/r");
}

#[test]
fn ids_are_never_ambiguous() {
    let mut scene = Scene::greeted();
    scene.client(&open(1, "/a", 1)).unwrap();
    assert_eq!(scene.client(&open(1, "/b", 1)), Err(SftpViolation::IdInUse));
    let mut scene = Scene::greeted();
    scene.open("/w", 2, b"h");
    scene.client(&write(1, b"h", 0, b"x")).unwrap();
    assert_eq!(scene.client(&write(1, b"h", 1, b"x")), Err(SftpViolation::IdInUse));
    // A refusal frees its id.
    let mut scene = Scene::greeted();
    scene.client(&[open(1, "/secret", 1), open(1, "/a", 1)].concat()).unwrap();
    scene.upstream(&handle(1, b"h")).unwrap();
    assert_eq!(scene.upstream(&status(1, 0)), Err(SftpViolation::Unasked));
}

#[test]
fn the_upstream_may_answer_only_what_it_was_asked_and_only_fittingly() {
    for (reply, expected) in [
        (handle(2, b"h"), SftpViolation::Unasked),
        (data(1, b"x"), SftpViolation::WrongReply),
        (handle(1, &[b'h'; 257]), SftpViolation::WrongReply),
        (packet(102, &[&n(1), &n(9), b"h"]), SftpViolation::WrongReply),
        (packet(105, &[&n(1), &n(0)]), SftpViolation::WrongReply),
        (packet(101, &[&n(1)]), SftpViolation::WrongReply),
        (vec![0, 0, 0, 4, 101, 0, 0, 0, 1], SftpViolation::ReplyLength),
        (vec![0x7f, 0, 0, 0], SftpViolation::ReplyLength),
        (init(), SftpViolation::Unasked),
    ] {
        let mut scene = Scene::greeted();
        scene.client(&open(1, "/a", 1)).unwrap();
        assert_eq!(scene.upstream(&reply), Err(expected), "{reply:?}");
    }
    let mut scene = Scene::greeted();
    scene.open("/r", 1, b"h");
    scene.client(&open(1, "/s", 1)).unwrap();
    assert_eq!(scene.upstream(&handle(1, b"h")), Err(SftpViolation::HandleInUse));
    let mut scene = Scene::greeted();
    scene.open("/r", 1, b"h");
    scene.client(&read(1, b"h", 0, 2)).unwrap();
    assert_eq!(scene.upstream(&data(1, b"more")), Err(SftpViolation::WrongReply));
}

#[test]
fn what_waits_for_a_decision_has_no_answer_yet() {
    let mut sftp = Scene::greeted().sftp;
    let mut buffer = BytesMut::from(&open(1, "/a", 2)[..]);
    let Some(Piece::Request(_)) = sftp.client(&mut buffer).unwrap() else { panic!("no request") };
    let early = sftp.upstream(&mut BytesMut::from(&handle(1, b"h")[..]), &mut Vec::new());
    assert_eq!(early, Err(SftpViolation::Unasked));
}

#[test]
fn a_large_write_streams_and_a_refused_one_is_swallowed() {
    let content = vec![7u8; 200 * 1024];
    let mut scene = Scene::greeted();
    scene.open("/w", 2, b"h");
    scene.up.clear();
    let bytes = write(1, b"h", 0, &content);
    scene.client(&bytes[..300]).unwrap();
    assert_eq!(scene.up.len(), 300, "nothing is waited for");
    assert_eq!((scene.last().kind, scene.last().body), (Kind::Write, bytes.len() - 300));
    scene.client(&bytes[300..]).unwrap();
    assert_eq!(scene.up, bytes);

    let mut scene = Scene::greeted();
    let refused = write(1, b"nope", 0, &content);
    for chunk in refused.chunks(1000) {
        scene.client(chunk).unwrap();
    }
    assert!(scene.from_client.is_empty());
    assert!(scene.passes(&packet(17, &[&n(2), &s("/a")])), "the next request is found again");
}

#[test]
fn a_write_that_the_caller_refuses_is_swallowed_and_its_file_is_not_complete() {
    let mut scene = Scene::greeted();
    scene.open("/w", 2, b"h");
    let bytes = write(1, b"h", 0, &[7; 1000]);
    let mut buffer = BytesMut::from(&bytes[..400]);
    let Some(Piece::Request(request)) = scene.sftp.client(&mut buffer).unwrap() else { panic!("no request") };
    assert!(scene.sftp.refuse(&request, "killed").is_some());
    buffer.extend_from_slice(&bytes[400..]);
    assert_eq!(scene.sftp.client(&mut buffer), Ok(None));
    assert!(buffer.is_empty());
    scene.client(&close(2, b"h")).unwrap();
    scene.upstream(&status(2, 0)).unwrap();
    assert!(matches!(scene.transfers[..], [Transfer { complete: false, sha256: None, .. }]));
}

#[test]
fn nonsense_lengths_end_it_before_they_are_waited_for() {
    for bytes in [&[0u8, 4, 0, 1][..], &[0, 0, 0, 4], &[0, 0, 0, 0], &[0xff, 0xff, 0xff, 0xff, 6]] {
        assert_eq!(Scene::greeted().client(bytes), Err(SftpViolation::RequestLength), "{bytes:?}");
    }
}

#[test]
fn a_refusal_waits_for_the_end_of_the_upstreams_packet() {
    let mut scene = Scene::greeted();
    scene.open("/r", 1, b"h");
    scene.client(&read(1, b"h", 0, 5)).unwrap();
    scene.down.clear();
    let reply = data(1, b"hello");
    scene.upstream(&reply[..14]).unwrap();
    scene.client(&open(2, "/secret", 1)).unwrap();
    assert_eq!(scene.down, reply[..14]);
    scene.client(&read(3, b"h", 5, 5)).unwrap();
    scene.upstream(&[&reply[14..], &status(3, 1)].concat()).unwrap();
    let refusal = packet(101, &[&n(2), &n(3), &s("refused by `no-secrets`"), &s("en")]);
    assert_eq!(scene.down, [reply, refusal, status(3, 1)].concat());
}

#[test]
fn transfers_say_what_went_and_no_more() {
    let of = |steps: &[(&[u8], &[u8])]| {
        let mut scene = Scene::greeted();
        scene.open("/f", 3, b"h");
        for (client, upstream) in steps {
            scene.client(client).unwrap();
            scene.upstream(upstream).unwrap();
        }
        let ended = scene.sftp.end();
        scene.transfers.extend(ended);
        let shown = |t: &Transfer| (t.direction, t.bytes, t.sha256.is_some(), t.complete);
        scene.transfers.iter().map(shown).collect::<Vec<_>>()
    };
    let (w, r) = (Direction::Write, Direction::Read);
    let closed = || close(9, b"h");
    let (ab, cd) = (write(1, b"h", 0, b"ab"), write(2, b"h", 2, b"cd"));
    assert_eq!(of(&[(&ab, &status(1, 0)), (&cd, &status(2, 0)), (&closed(), &status(9, 0))]), [(w, 4, true, true)]);
    assert_eq!(of(&[(&ab, &status(1, 4)), (&closed(), &status(9, 0))]), [(w, 2, false, false)], "a failed write");
    assert_eq!(of(&[(&ab, &status(1, 0)), (&closed(), &status(9, 4))]), [(w, 2, true, false)], "a failed close");
    assert_eq!(of(&[(&cd, &status(2, 0)), (&closed(), &status(9, 0))]), [(w, 2, false, true)], "a gap");
    assert_eq!(of(&[(&ab, b""), (&closed(), &status(9, 0))]), [(w, 2, true, false)], "never acknowledged");
    assert_eq!(of(&[(&ab, &status(1, 0))]), [(w, 2, true, false)], "never closed");
    let (first, end) = (read(3, b"h", 0, 9), read(4, b"h", 2, 9));
    assert_eq!(
        of(&[(&first, &data(3, b"xy")), (&end, &status(4, 1)), (&closed(), &status(9, 0))]),
        [(r, 2, true, true)]
    );
    assert_eq!(of(&[(&first, &data(3, b"xy")), (&closed(), &status(9, 0))]), [(r, 2, true, false)], "no end seen");
    assert_eq!(
        of(&[(&end, &data(4, b"xy")), (&first, &data(3, b"xy")), (&closed(), &status(9, 0))]),
        [(r, 4, false, false)]
    );
    assert_eq!(of(&[(&closed(), &status(9, 0))]), [(w, 0, true, true)], "opened for both and not used");
    let copy = extended(5, "copy-data", &[&s("h"), &long(0), &long(0), &s("h"), &long(0)]);
    assert_eq!(of(&[(&copy, &status(5, 0)), (&closed(), &status(9, 0))]), [(w, 0, false, true)]);
}

/// A whole conversation with every kind of reply, in which the refused open is answered by the gateway.
fn conversation() -> (Vec<u8>, Vec<u8>) {
    let client = [
        open(2, "/secret", 1),
        write(3, b"w", 0, &[1; 600]),
        write(4, b"w", 600, &[2; 10]),
        write(5, b"nope", 0, &[2; 500]),
        read(6, b"r", 0, 700),
        packet(17, &[&n(7), &s("/a")]),
        close(8, b"w"),
        close(9, b"r"),
    ];
    let upstream =
        [status(3, 0), status(4, 0), data(6, &[3; 700]), packet(105, &[&n(7), &n(0)]), status(8, 0), status(9, 0)];
    (client.concat(), upstream.concat())
}

fn conversed(chunk: usize) -> (Vec<u8>, Vec<u8>, Vec<Transfer>, Vec<String>) {
    let mut scene = Scene::greeted();
    scene.open("/w", 2, b"w");
    scene.open("/r", 1, b"r");
    let (client, upstream) = conversation();
    for chunk in client.chunks(chunk) {
        scene.client(chunk).unwrap();
    }
    for chunk in upstream.chunks(chunk) {
        scene.upstream(chunk).unwrap();
    }
    assert!(scene.from_client.is_empty() && scene.from_upstream.is_empty() && !scene.sftp.is_busy());
    let requests = scene.requests.iter().map(|r| format!("{} {:?} {:?} {:?}", r.id, r.kind, r.operation, r.forbidden));
    (scene.up, scene.down, scene.transfers, requests.collect())
}

#[test]
fn any_chunking_gives_the_same_requests() {
    let whole = conversed(usize::MAX);
    assert_eq!(whole.2.len(), 2);
    for chunk in 1..700 {
        assert_eq!(conversed(chunk), whole, "chunks of {chunk}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_what_is_mild_is_exactly_readable(
        steps in proptest::collection::vec((any::<bool>(), 0u8..=22, proptest::collection::vec(
            prop_oneof![3 => Just(0u8), 2 => 1u8..9, 1 => any::<u8>()], 0..48)), 0..30),
        length_off in -2i32..3,
    ) {
        let mut scene = Scene::greeted();
        for (from_client, kind, body) in steps {
            let kind = match kind { 21 => 200, 22 => 77, kind if !from_client => 100 + kind % 6, kind => kind };
            let mut bytes = packet(kind, &[&body]);
            let length = (bytes.len() as i32 - 4 + if body.len() % 7 == 0 { length_off } else { 0 }).max(0) as u32;
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            let over = if from_client { scene.client(&bytes) } else { scene.upstream(&bytes) };
            for request in &scene.requests {
                let opaque = request.operation.as_ref().is_none_or(|operation| operation.class == Class::Opaque);
                prop_assert!(opaque || request.forbidden.is_none());
                if let Some(operation) = request.operation.as_ref().filter(|_| !opaque) {
                    // Every string of a mild one is where it says, to the last byte.
                    prop_assert!(strings_fill(&request.bytes[9..]), "{operation:?} of {:?}", request.bytes);
                }
            }
            if over.is_err() {
                break;
            }
        }
    }

    #[test]
    fn a_valid_request_with_any_byte_changed_never_becomes_milder_than_it_reads(at in 0usize..40, to in any::<u8>()) {
        let mut bytes = packet(18, &[&n(1), &s("/secret"), &s("/b")]);
        let at = 9 + at % (bytes.len() - 9);
        bytes[at] = to;
        let request = only(&bytes);
        if let Some(operation) = request.operation {
            let names: Vec<_> = operation.objects.iter().map(|o| o.name.len()).collect();
            prop_assert!(operation.action == "file.rename" && !names.is_empty());
        } else {
            prop_assert!(request.forbidden.is_some());
        }
    }
}

/// Whether the bytes are a string, perhaps another, and then numbers.
fn strings_fill(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return false };
    rest.len() >= u32::from_be_bytes(*length) as usize
}

/// The real server, if it is there.
struct Real {
    child: std::process::Child,
    scene: Scene,
}

impl Real {
    fn new() -> Option<Self> {
        let child =
            Command::new(SERVER).arg("-e").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(child) = child else {
            println!("skipped: no sftp-server");
            return None;
        };
        Some(Self { child, scene: Scene::new() })
    }

    /// Sends the request and waits until everything is answered; gives what the client was told.
    fn ask(&mut self, bytes: &[u8]) -> Vec<u8> {
        let told = self.scene.down.len();
        self.scene.client(bytes).unwrap();
        let up = std::mem::take(&mut self.scene.up);
        self.child.stdin.as_mut().unwrap().write_all(&up).unwrap();
        while self.scene.sftp.is_busy() || (bytes[4] == 1 && self.scene.down.is_empty()) {
            let mut chunk = [0; 1371];
            let read = self.child.stdout.as_mut().unwrap().read(&mut chunk).unwrap();
            assert!(read > 0, "the server ended");
            self.scene.upstream(&chunk[..read]).unwrap();
        }
        self.scene.down[told..].to_vec()
    }

    fn handle(&mut self, bytes: &[u8]) -> Vec<u8> {
        let told = self.ask(bytes);
        assert_eq!(told[4], 102, "{told:?}");
        told[13..].to_vec()
    }
}

#[test]
fn a_real_server_is_followed() {
    let Some(mut real) = Real::new() else { return };
    let directory = std::env::temp_dir().join(format!("onus-sftp-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = |name: &str| format!("{}/{name}", directory.display());
    assert_eq!(real.ask(&init())[4], 2);
    let content: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();

    let h = real.handle(&open(1, &path("f"), 2 | 8 | 16));
    let writes: Vec<u8> = content
        .chunks(30_000)
        .enumerate()
        .flat_map(|(i, chunk)| write(10 + i as u32, &h, i as u64 * 30_000, chunk))
        .collect();
    real.ask(&writes);
    real.ask(&packet(10, &[&n(2), &s(&h), &n(4), &n(0o600)]));
    real.ask(&extended(3, "fsync@openssh.com", &[&s(&h)]));
    real.ask(&close(4, &h));
    assert_eq!(std::fs::read(path("f")).unwrap(), content);
    assert_eq!(real.ask(&write(5, &h, 0, b"late"))[4], 101);

    let h = real.handle(&open(1, &path("f"), 1));
    let reads: Vec<u8> = (0..8).flat_map(|i| read(10 + i, &h, u64::from(i) * 30_000, 30_000)).collect();
    real.ask(&reads);
    real.ask(&read(30, &h, 200_000, 10));
    real.ask(&packet(8, &[&n(31), &s(&h)]));
    real.ask(&extended(32, "fstatvfs@openssh.com", &[&s(&h)]));
    real.ask(&close(4, &h));

    let h = real.handle(&packet(11, &[&n(1), &s(directory.to_str().unwrap())]));
    assert_eq!(real.ask(&packet(12, &[&n(2), &s(&h)]))[4], 104);
    real.ask(&packet(12, &[&n(2), &s(&h)]));
    real.ask(&close(3, &h));

    // A handle that was asked for reading doesn't write, though it could: the real one takes 0 for reading too.
    std::fs::write(path("secret"), b"s").unwrap();
    let refused = real.ask(&open(1, &path("secret"), 1));
    assert!(refused.windows(10).any(|window| window == b"no-secrets"));
    for (request, kind) in [
        (packet(17, &[&n(1), &s(path("f"))]), 105),
        (packet(7, &[&n(1), &s(path("none"))]), 101),
        (packet(16, &[&n(1), &s(".")]), 104),
        (extended(1, "limits@openssh.com", &[]), 201),
        (extended(1, "statvfs@openssh.com", &[&s("/")]), 201),
        (extended(1, "expand-path@openssh.com", &[&s("~/x")]), 104),
        (extended(1, "users-groups-by-id@openssh.com", &[&s(n(0)), &s(n(0))]), 201),
        (extended(1, "home-directory", &[&s("root")]), 104),
        (extended(1, "made-up@example.com", &[]), 101),
        (packet(20, &[&n(1), &s("f"), &s(path("l"))]), 101),
        (packet(19, &[&n(1), &s(path("l"))]), 104),
        (extended(1, "hardlink@openssh.com", &[&s(path("f")), &s(path("hard"))]), 101),
        (extended(1, "posix-rename@openssh.com", &[&s(path("hard")), &s(path("h2"))]), 101),
        (packet(14, &[&n(1), &s(path("d")), &n(0)]), 101),
        (packet(15, &[&n(1), &s(path("d"))]), 101),
        (packet(13, &[&n(1), &s(path("h2"))]), 101),
    ] {
        let told = real.ask(&request);
        // Older servers don't know every extension.
        assert!(told[4] == kind || request[4] == 200 && told[4] == 101, "{request:?} {told:?}");
    }
    let sha256 = Some(sha2::Sha256::digest(&content).into());
    let shown: Vec<_> = real.scene.transfers.iter().map(|t| (t.direction, t.bytes, t.complete, t.sha256)).collect();
    assert_eq!(shown, [(Direction::Write, 200_000, true, sha256), (Direction::Read, 200_000, true, sha256)]);
    drop(real.child.stdin.take());
    real.child.wait().unwrap();
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn access_of_a_symbolic_link_names_both_ends_as_written() {
    let operation = only(&packet(20, &[&n(1), &s("/etc/shadow"), &s("x")])).operation.unwrap();
    assert!(operation.objects.iter().all(|object| object.access == Access::Write));
    assert_eq!(operation.objects.len(), 2);
}

#[test]
fn pieces_share_the_buffer() {
    let mut sftp = {
        let mut scene = Scene::greeted();
        scene.open("/w", 2, b"h");
        scene.sftp
    };
    let mut buffer = BytesMut::from(&write(1, b"h", 0, &[7; 4096])[..]);
    let at = buffer.as_ptr();
    let Some(Piece::Request(Request { bytes, .. })) = sftp.client(&mut buffer).unwrap() else { panic!("no request") };
    assert_eq!(bytes.as_ptr(), at);
    let mut replies = Vec::new();
    let mut buffer = BytesMut::from(&status(1, 0)[..]);
    let at = buffer.as_ptr();
    sftp.upstream(&mut buffer, &mut replies).unwrap();
    assert!(matches!(&replies[..], [Reply::ToClient(bytes)] if bytes.as_ptr() == at));
    let _: Bytes = bytes;
}

/// What happens between a real client and a real server.
enum Said {
    Client(Vec<u8>),
    Server(Vec<u8>),
    ClientEnd,
}

fn listen(mut from: impl Read + Send + 'static, to: std::sync::mpsc::Sender<Said>, said: fn(Vec<u8>) -> Said) {
    std::thread::spawn(move || {
        let mut chunk = vec![0; 5000];
        while let Ok(read @ 1..) = from.read(&mut chunk) {
            if to.send(said(chunk[..read].to_vec())).is_err() {
                return;
            }
        }
        // The server's end is no news: it follows the client's.
        if let Said::Client(_) = said(Vec::new()) {
            let _ = to.send(Said::ClientEnd);
        }
    });
}

#[test]
fn a_real_client_works_through_it_and_shows_the_refusal() {
    if Command::new("sftp").arg("-h").stderr(Stdio::null()).spawn().map(|mut child| child.wait()).is_err() {
        println!("skipped: no sftp");
        return;
    }
    let directory = std::env::temp_dir().join(format!("onus-sftp-client-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let at = |name: &str| format!("{}/{name}", directory.display());
    let content: Vec<u8> = (0..3_000_000u32).map(|i| (i * 7 % 253) as u8).collect();
    std::fs::write(at("local"), &content).unwrap();
    std::fs::write(at("secret"), b"not for you").unwrap();
    let batch = format!(
        "put -p {local} {up}\nput {local} {two}\nls {directory}\nget {up} {back}\n-get {secret} {stolen}\n-rm {secret}\nrename {up} {up}.2\nln -s up.2 {directory}/link\nrm {up}.2\n",
        local = at("local"),
        up = at("up"),
        two = at("two"),
        back = at("back"),
        secret = at("secret"),
        stolen = at("stolen"),
        directory = directory.display(),
    );
    std::fs::write(at("batch"), batch).unwrap();
    // `sftp -D` starts what it takes for the server: here, two pipes to this test.
    let (up, down) = (at("pipe-up"), at("pipe-down"));
    let made = Command::new("mkfifo").args([&up, &down]).status().is_ok_and(|status| status.success());
    let Ok(server) = Command::new(SERVER).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        println!("skipped: no sftp-server");
        return;
    };
    assert!(made);
    let mut server = server;
    std::fs::write(at("between"), format!("exec 3<&0\ncat <&3 >'{up}' &\nexec cat '{down}'\n")).unwrap();
    let client = Command::new("sftp")
        .args(["-b", &at("batch"), "-D", &format!("/bin/sh {}", at("between"))])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, said) = std::sync::mpsc::channel();
    listen(std::fs::File::open(&up).unwrap(), sender.clone(), Said::Client);
    listen(server.stdout.take().unwrap(), sender, Said::Server);
    let mut to_client = std::fs::OpenOptions::new().write(true).open(&down).unwrap();
    let mut to_server = server.stdin.take().unwrap();
    let mut scene = Scene::new();
    while let Ok(said) = said.recv_timeout(std::time::Duration::from_secs(20)) {
        match said {
            Said::Client(bytes) => scene.client(&bytes).unwrap(),
            Said::Server(bytes) => scene.upstream(&bytes).unwrap(),
            Said::ClientEnd => break,
        }
        to_server.write_all(&std::mem::take(&mut scene.up)).unwrap();
        to_client.write_all(&std::mem::take(&mut scene.down)).unwrap();
    }
    drop((to_client, to_server));
    server.wait().unwrap();
    let output = client.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}");
    assert!(shown.to_lowercase().contains("permission denied") || shown.contains("no-secrets"), "{shown}");
    assert_eq!(std::fs::read(at("back")).unwrap(), content);
    assert!(std::fs::exists(at("secret")).unwrap());
    assert!(!std::fs::read(at("stolen")).is_ok_and(|stolen| !stolen.is_empty()));
    let sha256 = Some(sha2::Sha256::digest(&content).into());
    for (transfer, direction) in scene.transfers.iter().zip([Direction::Write, Direction::Write, Direction::Read]) {
        assert_eq!(
            (transfer.direction, transfer.bytes, transfer.complete),
            (direction, 3_000_000, true),
            "{}",
            transfer.path
        );
        assert!(transfer.sha256 == sha256 || (transfer.sha256.is_none() && direction == Direction::Read));
    }
    assert_eq!(scene.transfers.len(), 3);
    let forbidden: Vec<_> = scene.requests.iter().filter(|request| request.forbidden.is_some()).collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
    let actions: Vec<_> =
        scene.requests.iter().filter_map(|r| r.operation.as_ref()).map(|o| o.action.as_str()).collect();
    for action in
        ["file.write", "file.read", "file.list", "file.rename", "file.link", "file.remove", "file.set_attributes"]
    {
        assert!(actions.contains(&action), "{action} in {actions:?}");
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn the_fuzzers_seeds_are_taken() {
    for target in ["sftp", "scp"] {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/");
        let Ok(seeds) = std::fs::read_dir(format!("{seeds}{target}")) else {
            println!("skipped: no seeds");
            continue;
        };
        for seed in seeds {
            let seed = std::fs::read(seed.unwrap().path()).unwrap();
            if target == "sftp" { fuzz(&seed) } else { crate::scp::fuzz(&seed) }
        }
    }
}

proptest! {
    #[test]
    fn the_fuzzers_entry_points_return(data in proptest::collection::vec(
        prop_oneof![2 => Just(0u8), 1 => 1u8..12, 1 => any::<u8>()], 0..400)) {
        fuzz(&[b"\x09\0\0\0\x05\x01\0\0\0\x03\x89\0\0\0\x05\x02\0\0\0\x03", &data[..]].concat());
        crate::scp::fuzz(&[b"\x81\0", &data[..]].concat());
    }
}
