//! The copy protocol: lockstep, names, refusals, chunks, and the real `scp` on the other side.

use super::*;
use crate::sftp::{Direction, Hashing, Reply, Transfer};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

fn command(line: &str) -> Option<ScpCommand> {
    parse_command(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
}

fn sink(line: &str) -> Sink {
    Sink::new(&command(line).unwrap(), Hashing::Sequential)
}

/// What the client's bytes give, until more are needed.
fn pieces(sink: &mut Sink, bytes: &[u8]) -> Result<Vec<SinkPiece>, ScpViolation> {
    let mut buffer = BytesMut::from(bytes);
    let mut pieces = Vec::new();
    while let Some(piece) = sink.client(&mut buffer)? {
        pieces.push(piece);
    }
    Ok(pieces)
}

fn answer(sink: &mut Sink, bytes: &[u8]) -> Result<Vec<Reply>, ScpViolation> {
    let mut replies = Vec::new();
    sink.upstream(&mut BytesMut::from(bytes), &mut replies)?;
    Ok(replies)
}

fn started(line: &str) -> Sink {
    let mut sink = sink(line);
    answer(&mut sink, b"\0").unwrap();
    sink
}

fn names(request: &SinkRequest) -> Vec<&str> {
    request.operation.objects.iter().map(|object| object.name.as_str()).collect()
}

fn only_request(pieces: Vec<SinkPiece>) -> SinkRequest {
    match <[SinkPiece; 1]>::try_from(pieces) {
        Ok([SinkPiece::Request(request)]) => request,
        other => panic!("{other:?}"),
    }
}

fn hash(content: &[u8]) -> Option<[u8; 32]> {
    use sha2::Digest;
    Some(sha2::Sha256::digest(content).into())
}

#[test]
fn command_lines_are_read_strictly() {
    for (line, role, flags, paths) in [
        ("scp -t /tmp/x", Role::Sink, (false, false, false), &["/tmp/x"][..]),
        ("scp -v -r -p -d -t -- -x", Role::Sink, (true, true, true), &["-x"]),
        ("scp -rpf ~/a b", Role::Source, (true, true, false), &["~/a", "b"]),
        ("/usr/bin/scp -qt .", Role::Sink, (false, false, false), &["."]),
    ] {
        let read = command(line).unwrap_or_else(|| panic!("{line}"));
        assert_eq!((read.role, (read.recursive, read.preserve, read.directory)), (role, flags), "{line}");
        assert_eq!(read.paths, paths);
        // Its canonical form means the same.
        assert_eq!(parse_command(&read.canonical()).as_ref(), Some(&read));
    }
    for line in [
        "scp /a /b",
        "scp -t",
        "scp -t /a /b",
        "scp -t -f /a",
        "scp -tt /a",
        "scp -t -S /bin/sh /a",
        "scp -f -oX=y /a",
        "scp -3 -t /a",
        "scp -t ~root/a",
        "scp -f - /a",
        "scp -t ",
        "rscp -t /a",
        "scp -f /a -r /b -- --x\0",
        "scp",
        "",
    ] {
        assert_eq!(command(line), None, "{line}");
    }
    let operation = command("scp -r -f -- a ../b").unwrap().operation().unwrap();
    assert_eq!(operation.action, "file.read");
    assert!(operation.has("recursive") && operation.has("dotdot"));
}

#[test]
fn a_file_is_named_at_and_below_the_target_unless_it_must_be_a_directory() {
    let request = only_request(pieces(&mut started("scp -t /srv"), b"C0644 3 a\n").unwrap());
    assert_eq!(names(&request), ["/srv", "/srv/a"]);
    assert!(request.operation.has("either-path"));
    let request = only_request(pieces(&mut started("scp -d -t srv"), b"C4755 3 a b\n").unwrap());
    assert_eq!(names(&request), ["~/srv/a b"]);
    assert!(request.operation.has("setuid") && !request.operation.has("either-path"));
    assert_eq!(&request.bytes[..], b"C4755 3 a b\n");
}

#[test]
fn files_in_directories_are_named_below_either() {
    let mut sink = started("scp -r -t /t");
    let request = only_request(pieces(&mut sink, b"D0755 0 d\n").unwrap());
    assert_eq!((request.operation.action.as_str(), names(&request)), ("file.make_directory", vec!["/t", "/t/d"]));
    sink.relayed();
    answer(&mut sink, b"\0").unwrap();
    let request = only_request(pieces(&mut sink, b"C0644 0 f\n").unwrap());
    assert_eq!(names(&request), ["/t/d/f", "/t/f"]);
    sink.refuse("no");
    assert_eq!(pieces(&mut sink, b"E\n").unwrap(), [SinkPiece::Upstream(Bytes::from_static(b"E\n"))]);
    answer(&mut sink, b"\0").unwrap();
    assert_eq!(pieces(&mut sink, b"E\n"), Err(ScpViolation::Nesting));
}

#[test]
fn content_goes_only_after_the_upstream_took_the_file() {
    let mut sink = started("scp -t /t");
    let mut buffer = BytesMut::from(&b"C0644 20 a\nC0644 9 /etc/evil\n123456789"[..]);
    assert!(matches!(sink.client(&mut buffer), Ok(Some(SinkPiece::Request(_)))));
    sink.relayed();
    assert_eq!(sink.client(&mut buffer), Ok(None), "content before the answer");
    // The upstream can't open it, so it would take the content for lines.
    answer(&mut sink, b"\x01scp: denied\n").unwrap();
    assert_eq!(sink.client(&mut buffer), Err(ScpViolation::ClientName));
}

#[test]
fn a_refused_file_is_never_heard_of_upstream() {
    let mut sink = started("scp -t /t");
    let first = only_request(
        pieces(&mut sink, b"T1 0 2 0\n")
            .map(|mut answered| {
                assert_eq!(
                    answered.pop(),
                    Some(SinkPiece::Client(Bytes::from_static(b"\0"))),
                    "times are answered here"
                );
                pieces(&mut sink, b"C0600 5 secret\n").unwrap()
            })
            .unwrap(),
    );
    assert!(first.operation.has("times"));
    assert_eq!(&sink.refuse("policy `x`\nsays no")[..], "\u{1}policy `x`says no\n".as_bytes());
    // And its times don't stick to the next one.
    let next = only_request(pieces(&mut sink, b"C0600 5 other\n").unwrap());
    assert_eq!(&next.bytes[..], b"C0600 5 other\n");
}

#[test]
fn names_that_lead_elsewhere_end_it() {
    for name in ["", ".", "..", "a/b", "../x", "/etc/passwd", "a\0b", &"x".repeat(256)] {
        for kind in ["C0644 1 ", "D0755 0 "] {
            let line = format!("{kind}{name}\n");
            assert_eq!(pieces(&mut started("scp -r -t /t"), line.as_bytes()), Err(ScpViolation::ClientName), "{line}");
        }
    }
}

#[test]
fn lines_that_two_readers_may_read_differently_end_it() {
    for line in [
        "\n",
        "C644 1 a\n",
        "C00644 1 a\n",
        "C0644  1 a\n",
        "C0644 -1 a\n",
        "C0644 +1 a\n",
        "C0644 0x1 a\n",
        "C0644 1\n",
        "C0644 99999999999999999999 a\n",
        "C0648 1 a\n",
        "D0755 1 a\n",
        "T1 0 1\n",
        "T1 0 1 0 0\n",
        "T-1 0 1 0\n",
        "T1 1000000 1 0\n",
        "E \n",
        "X\n",
        "C0644 9223372036854775808 a\n",
    ] {
        assert_eq!(pieces(&mut started("scp -r -t /t"), line.as_bytes()), Err(ScpViolation::ClientLine), "{line:?}");
    }
    // OpenSSH would read what is beyond 2047 bytes as a line of its own.
    let long = format!("C0644 1 {}", "x".repeat(2040));
    assert_eq!(pieces(&mut started("scp -t /t"), long.as_bytes()), Err(ScpViolation::ClientLength));
    assert_eq!(pieces(&mut started("scp -t /t"), b"D0755 0 a\n"), Err(ScpViolation::NotRecursive));
}

#[test]
fn an_answer_too_many_ends_it() {
    let mut sink = started("scp -t /t");
    assert_eq!(answer(&mut sink, b"\x01scp: again\n"), Err(ScpViolation::OutOfTurn));
    let mut sink = started("scp -t /t");
    only_request(pieces(&mut sink, b"C0644 1 a\n").unwrap());
    assert_eq!(answer(&mut sink, b"\0"), Err(ScpViolation::OutOfTurn));
    // After an error about content nothing passes, since a second one may follow.
    let mut sink = started("scp -t /t");
    only_request(pieces(&mut sink, b"C0644 1 a\n").unwrap());
    sink.relayed();
    answer(&mut sink, b"\0").unwrap();
    pieces(&mut sink, b"x\0").unwrap();
    let replies = answer(&mut sink, b"\x01scp: full\n\x01scp: truncate\n").unwrap();
    assert!(sink.is_over());
    assert!(matches!(&replies[1], Reply::Transfer(Transfer { bytes: 1, complete: false, sha256: None, .. })));
    assert_eq!(pieces(&mut sink, b"C0644 1 b\n").unwrap(), []);
}

#[test]
fn the_clients_own_words_never_go_upstream() {
    let mut sink = started("scp -t /t");
    assert_eq!(pieces(&mut sink, b"\x01C0644 1 evil\n").unwrap(), []);
    let mut source = Source::new(&command("scp -f /a").unwrap(), Hashing::Off);
    let mut buffer = BytesMut::from(&b"\x01C0644 1 evil\n"[..]);
    assert_eq!(source.client(&mut buffer, &mut Vec::new()).unwrap().unwrap(), &b"\x01refused\n"[..]);
    assert_eq!(source.client(&mut BytesMut::from(&b"C0644"[..]), &mut Vec::new()), Ok(None), "none is due");
}

/// The gateway in the middle: permits all but names that hold `no`, in chunks of this size. Gives what went upstream,
/// what went to the client and the transfers, of a scripted upstream.
fn upload(script: &[u8], chunk: usize, answers: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> (Vec<u8>, Vec<u8>, Vec<Transfer>) {
    let mut sink = sink("scp -r -p -t /t");
    let (mut up, mut down, mut transfers) = (Vec::new(), Vec::new(), Vec::new());
    let mut from_upstream = BytesMut::from(&answers(b"")[..]);
    let mut buffer = BytesMut::new();
    let mut chunks = script.chunks(chunk);
    loop {
        let mut replies = Vec::new();
        let mut arrived = from_upstream.split();
        sink.upstream(&mut arrived, &mut replies).unwrap();
        from_upstream = arrived;
        for reply in replies {
            match reply {
                Reply::ToClient(bytes) => down.extend_from_slice(&bytes),
                Reply::Transfer(transfer) => transfers.push(transfer),
            }
        }
        let went = match sink.client(&mut buffer).unwrap() {
            Some(SinkPiece::Request(request)) => {
                if request.bytes.windows(2).any(|two| two == b"no") {
                    down.extend_from_slice(&sink.refuse("no"));
                    continue;
                }
                sink.relayed();
                request.bytes
            }
            Some(SinkPiece::Upstream(bytes)) => bytes,
            Some(SinkPiece::Client(bytes)) => {
                down.extend_from_slice(&bytes);
                continue;
            }
            None => match chunks.next() {
                Some(chunk) => {
                    buffer.extend_from_slice(chunk);
                    continue;
                }
                None => return (up, down, transfers),
            },
        };
        up.extend_from_slice(&went);
        from_upstream.extend_from_slice(&answers(&went));
    }
}

const SCRIPT: &[u8] =
    b"T1 0 2 0\nD0755 0 d\nT3 0 4 0\nC0644 5 a\nhello\0C0644 0 empty\n\0C0644 7 no\nE\nC0600 3 z\n\x00\x01\x02\0";
const UPSTREAM: &[u8] = b"D0755 0 d\nT3 0 4 0\nC0644 5 a\nhello\0C0644 0 empty\n\0E\nC0600 3 z\n\x00\x01\x02\0";

#[test]
fn any_chunking_gives_the_same_upload() {
    for chunk in 1..=SCRIPT.len() {
        // A sink of the simplest kind: counts what it was promised.
        let (mut left, mut line, mut started) = (None::<usize>, Vec::new(), false);
        let mut answers = |bytes: &[u8]| {
            if !started {
                started = true;
                return vec![0];
            }
            let mut said = Vec::new();
            for &byte in bytes {
                match &mut left {
                    Some(0) => {
                        left = None;
                        said.push(0);
                    }
                    Some(left) => *left -= 1,
                    None if byte == b'\n' => {
                        if line[0] == b'C' {
                            let text = String::from_utf8(std::mem::take(&mut line)).unwrap();
                            left = Some(text.split(' ').nth(1).unwrap().parse().unwrap());
                        }
                        line.clear();
                        said.push(0);
                    }
                    None => line.push(byte),
                }
            }
            said
        };
        let (up, down, transfers) = upload(SCRIPT, chunk, &mut answers);
        assert_eq!(up, UPSTREAM, "chunks of {chunk}");
        assert_eq!(down, b"\0\0\0\0\0\0\0\0\x01no\n\0\0\0");
        let paths: Vec<_> = transfers.iter().map(|t| (t.path.as_str(), t.bytes, t.complete)).collect();
        assert_eq!(paths, [("/t/a", 5, true), ("/t/empty", 0, true), ("/t", 3, true)]);
        assert_eq!(transfers[0].sha256, hash(b"hello"));
    }
}

#[test]
fn a_download_is_followed_and_accounted_for() {
    let mut source = Source::new(&command("scp -r -f /srv/d").unwrap(), Hashing::Sequential);
    let (mut down, mut transfers) = (Vec::new(), Vec::new());
    let steps: [&[u8]; 8] =
        [b"\x01scp: warn\nD0755 0 d\n", b"T1 0 2 0\n", b"C0644 5 a\n", b"hel", b"lo\0", b"C0600 9 skip\n", b"E\n", b""];
    let mut client = BytesMut::from(&b"\0\0\0\0\0\x01not me\n\0"[..]);
    for step in steps {
        let mut replies = Vec::new();
        while source.client(&mut client, &mut replies).unwrap().is_some() {}
        source.upstream(&mut BytesMut::from(step), &mut replies).unwrap();
        for reply in replies {
            match reply {
                Reply::ToClient(bytes) => down.extend_from_slice(&bytes),
                Reply::Transfer(transfer) => transfers.push(transfer),
            }
        }
    }
    assert_eq!(down, steps.concat());
    let expected = Transfer {
        path: "/srv/d/a".to_owned(),
        direction: Direction::Read,
        bytes: 5,
        sha256: hash(b"hello"),
        complete: true,
        copied: false,
    };
    assert_eq!(transfers, [expected]);
}

#[test]
fn an_upstream_may_only_send_what_was_asked_for() {
    for (line, expected) in [
        (&b"C0644 1 .bashrc\n"[..], ScpViolation::UpstreamName),
        (b"C0644 1 ../a\n", ScpViolation::UpstreamName),
        (b"D0755 0 a\n", ScpViolation::UpstreamLine),
        (b"E\n", ScpViolation::UpstreamLine),
        (b"motd\n", ScpViolation::UpstreamLine),
        (b"C0644 1 a\nx", ScpViolation::OutOfTurn),
    ] {
        let mut source = Source::new(&command("scp -f /srv/a").unwrap(), Hashing::Off);
        source.client(&mut BytesMut::from(&b"\0"[..]), &mut Vec::new()).unwrap();
        assert_eq!(source.upstream(&mut BytesMut::from(line), &mut Vec::new()), Err(expected), "{line:?}");
    }
}

/// Runs the real `scp` in this role, if it is there.
fn real(arguments: &[&str]) -> Option<std::process::Child> {
    let child = Command::new("scp").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    if child.is_err() {
        println!("skipped: no scp");
    }
    child.ok()
}

#[test]
fn a_real_scp_takes_what_the_sink_lets_through() {
    let directory = std::env::temp_dir().join(format!("onus-scp-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let target = directory.join("in");
    let target = target.to_str().unwrap();
    let Some(mut child) = real(&["-r", "-p", "-t", "--", target]) else { return };
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut expected = 0;
    // How many answers each piece earns: the first call is the start; content alone earns none.
    let mut answers = |bytes: &[u8]| {
        input.write_all(bytes).unwrap();
        expected = match bytes {
            b"" | b"E\n" => 1,
            _ if bytes.starts_with(b"T") => 2,
            _ if bytes.starts_with(b"C") || bytes.starts_with(b"D") || bytes == b"\0" => 1,
            _ => 0,
        };
        let mut said = vec![0; expected];
        output.read_exact(&mut said).unwrap();
        said
    };
    // The target is a directory by then, which the last file can't be written to. In one piece, so that the pieces above
    // can be told apart by how they begin.
    let script = SCRIPT.strip_suffix(b"C0600 3 z\n\x00\x01\x02\0").unwrap();
    let (_, down, transfers) = upload(script, script.len(), &mut answers);
    drop(input);
    assert!(child.wait().unwrap().success());
    assert!(!down.contains(&2));
    assert_eq!(transfers.len(), 2);
    assert!(transfers.iter().all(|transfer| transfer.complete));
    assert_eq!(std::fs::read(format!("{target}/a")).unwrap(), b"hello");
    assert_eq!(std::fs::read(format!("{target}/empty")).unwrap(), b"");
    assert!(!std::path::Path::new(&format!("{target}/no")).exists());
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_real_scp_is_followed_by_the_source() {
    let directory = std::env::temp_dir().join(format!("onus-scp-out-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("sub")).unwrap();
    std::fs::write(directory.join("sub/f"), b"content").unwrap();
    let words: Vec<String> =
        ["scp", "-r", "-p", "-f", "--", directory.to_str().unwrap()].iter().map(|word| word.to_string()).collect();
    let mut source = Source::new(&parse_command(&words).unwrap(), Hashing::Sequential);
    let Some(mut child) = real(&["-r", "-p", "-f", "--", directory.to_str().unwrap()]) else { return };
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut replies, mut buffer) = (Vec::new(), BytesMut::new());
    loop {
        while let Some(word) = source.client(&mut BytesMut::from(&b"\0"[..]), &mut replies).unwrap() {
            input.write_all(&word).unwrap();
        }
        let mut byte = [0; 7];
        // The real one waits after its last word for a line of input that never comes.
        let left = replies.iter().filter(|reply| matches!(reply, Reply::ToClient(b) if &b[..] == b"E\n")).count();
        if left == 2 {
            break;
        }
        let read = output.read(&mut byte).unwrap();
        assert!(read > 0, "it ended early");
        buffer.extend_from_slice(&byte[..read]);
        source.upstream(&mut buffer, &mut replies).unwrap();
    }
    drop(input);
    child.wait().unwrap();
    let transfers: Vec<_> =
        replies.iter().filter_map(|r| if let Reply::Transfer(t) = r { Some(t) } else { None }).collect();
    assert_eq!(transfers.len(), 1);
    assert!(transfers[0].complete && transfers[0].path.ends_with("/sub/f"));
    assert_eq!(transfers[0].sha256, hash(b"content"));
    std::fs::remove_dir_all(directory).unwrap();
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_nothing_undecided_goes_upstream(
        steps in proptest::collection::vec((any::<bool>(), proptest::collection::vec(
            prop_oneof![Just(0u8), Just(1), Just(b'\n'), Just(b'C'), Just(b'D'), Just(b'E'), Just(b' '), Just(b'0'), Just(b'4'), Just(b'/'), any::<u8>()], 0..40)), 0..40),
    ) {
        let mut sink = sink("scp -r -t /t");
        let mut source = Source::new(&command("scp -r -f /t").unwrap(), Hashing::Sequential);
        let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
        for (from_client, bytes) in &steps {
            let mut replies = Vec::new();
            let arrived = &mut BytesMut::from(&bytes[..]);
            if *from_client {
                let _ = source.client(arrived, &mut replies);
                up.extend_from_slice(bytes);
                let mut content = 0;
                while let Ok(Some(piece)) = sink.client(&mut up) {
                    if let SinkPiece::Upstream(bytes) = &piece {
                        content += bytes.len();
                    }
                }
                // Nothing is ever permitted here, so there is nothing to send but a departure or its like.
                prop_assert_eq!(content, 0);
                sink.refuse("no");
            } else {
                let _ = source.upstream(arrived, &mut replies);
                down.extend_from_slice(bytes);
                if sink.upstream(&mut down, &mut replies).is_err() {
                    return Ok(());
                }
            }
        }
    }
}
