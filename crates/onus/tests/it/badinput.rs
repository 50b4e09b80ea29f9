//! Bytes that no driver sends. Each is answered or hung up on in time; after all of them the gateway lives and its log
//! knows of no panic.

use crate::raw::{self, Raw, plain, rest, startup};
use crate::scene::{ask, guest_as, rig};
use onus_testkit::Rig;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// The gateway takes in a new session and has not panicked.
fn well(rig: &Rig, who: &str) {
    assert_eq!(ask(rig, who, &["SELECT 1"]), "1");
    let log = rig.serve.output();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn garbage_before_tls_is_hung_up_on() {
    let rig = rig();
    let who = guest_as(rig, "reader");
    let patterns: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0\0\0\x04",
        b"\0\0\0\x07\0\x03\0",
        b"\x7f\xff\xff\xff\0\x03\0\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\0\0\0\x08\0\x02\0\0",
        b"\0\0\0\x09\0\x03\0\0x",
        b"\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\x08\x04\xd2\x16\x2f",
        b"\0\0\0\x08\x04\xd2\x16\x30\0\0\0\x08\x04\xd2\x16\x30",
        b"\x16\x03\x01\x02\x00garbage that begins like a handshake and is none",
    ];
    for pattern in patterns {
        let mut socket = plain(rig);
        socket.write_all(pattern).unwrap();
        // It may have hung up already.
        let _ = socket.shutdown(Shutdown::Write);
        let begun = Instant::now();
        let answer = rest(&mut socket);
        assert!(begun.elapsed() < Duration::from_secs(10), "{pattern:?}");
        assert!(answer.len() < 1000, "{pattern:?}: {answer:?}");
    }
    // A length beyond reason is answered from its first four bytes; nothing more is waited for.
    let mut socket = plain(rig);
    socket.write_all(b"\x00\x10\x00\x00").unwrap();
    let answer = rest(&mut socket);
    assert!(String::from_utf8_lossy(&answer).contains("08P01"), "{answer:?}");
    well(rig, &who);
}

#[test]
fn plaintext_behind_the_tls_request_is_not_taken_as_said_inside() {
    let rig = rig();
    let who = guest_as(rig, "reader");
    let mut socket = plain(rig);
    let mut both = vec![0, 0, 0, 8, 4, 210, 22, 47];
    both.extend(startup(3 << 16, &[("user", &who), ("database", "orders-db")]));
    socket.write_all(&both).unwrap();
    let answer = rest(&mut socket);
    assert_eq!(answer.first(), Some(&b'S'));
    assert!(!String::from_utf8_lossy(&answer).contains("server_version"), "{answer:?}");
    well(rig, &who);
}

#[test]
fn garbage_after_tls_is_answered_and_hung_up_on() {
    let rig = rig();
    let who = guest_as(rig, "reader");
    let packets: Vec<Vec<u8>> = vec![
        b"\0\0\0\x04".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        startup(2 << 16, &[("user", &who)]),
        startup(4 << 16, &[("user", &who)]),
        startup(3 << 16, &[]),
        startup(3 << 16, &[("user", &who), ("replication", "database")]),
        startup(3 << 16, &[("user", &who), ("database", "orders-db"), ("options", "-c role=app_owner")]),
        startup(3 << 16, &[("user", &who), ("database", "orders-db"), ("client_encoding", "SJIS")]),
        startup(3 << 16, &[("user", &who), ("database", "../../etc/passwd")]),
        startup(3 << 16, &[("user", "\u{7f}\u{1}; DROP"), ("database", "orders-db")]),
        startup(3 << 16, &[("user", &who), ("database", &"x".repeat(5000))]),
        [0, 0, 0, 8, 4, 210, 22, 47].to_vec(),
        {
            let mut cut = startup(3 << 16, &[("user", &who), ("database", "orders-db")]);
            let last = cut.len() - 1;
            cut[last] = b'x';
            cut
        },
    ];
    for packet in packets {
        let mut raw = Raw::knock(rig, &who);
        raw.stream.write_all(&packet).unwrap();
        raw.stream.flush().unwrap();
        let answer = raw.until_ready();
        assert!(answer.iter().all(|message| message.kind == b'E'), "{packet:?}: {answer:?}");
    }
    well(rig, &who);
}

#[test]
fn messages_that_make_no_sense_end_their_session_only() {
    let rig = rig();
    let who = guest_as(rig, "reader");
    let mut other = Raw::open(rig, &who);
    let wrong: &[&[u8]] = &[
        b"Q\0\0\0\0",
        b"Q\xff\xff\xff\xff",
        b"Q\x7f\xff\xff\xff",
        b"?\0\0\0\x04",
        b"\0\0\0\0\0\0\0",
        b"P\0\0\0\x05x",
        b"B\0\0\0\x08\0\0\0\x01",
        b"B\0\0\0\x0c\0\0\0\0\x7f\xff\xff\xff",
        b"p\0\0\0\x08xxxx",
        b"Q\0\0\0\x05x",
        b"Q\0\0\0\x08SE\0x",
    ];
    for bytes in wrong {
        let mut raw = Raw::open(rig, &who);
        raw.stream.write_all(bytes).unwrap();
        raw.stream.flush().unwrap();
        // What is short of its end is waited for; then it is nobody's fault, and closing it is the client's affair.
        let _ = raw.stream.sock.shutdown(Shutdown::Write);
        let mut end = Vec::new();
        while let Some(message) = raw.next() {
            end.push(message);
        }
        assert!(end.iter().all(|message| matches!(message.kind, b'E' | b'Z' | b'N')), "{bytes:?}: {end:?}");
    }
    assert!(raw::ready(&other.run("SELECT 1"), b'I'));
    well(rig, &who);
}

#[test]
fn text_that_is_not_utf8_is_refused_and_not_relayed() {
    let rig = rig();
    let who = guest_as(rig, "everything");
    let mut raw = Raw::open(rig, &who);
    raw.query(b"SELECT 'not-\xff\xfe-utf8'");
    let answer = raw.until_ready();
    let error = raw::error(&answer);
    assert!(!answer.iter().any(|message| message.kind == b'D'));
    assert!(error.field(b'M').contains("onus") || error.field(b'M').contains("UTF8"), "{error:?}");
    assert!(!rig.cluster.log().contains("not-\\xff"), "it was relayed");
    well(rig, &who);
}

#[test]
fn a_thousand_levels_deep_is_refused_or_run_and_never_a_crash() {
    let rig = rig();
    let who = guest_as(rig, "reader");
    for depth in [1000, 50_000] {
        for (open, close) in [("(", ")"), ("(SELECT ", ")"), ("ARRAY[", "]"), ("NOT ", ""), ("- ", "")] {
            let mut raw = Raw::open(rig, &who);
            let inner = if open == "NOT " { "true" } else { "1" };
            raw.query(format!("SELECT {}{inner}{}", open.repeat(depth), close.repeat(depth)).as_bytes());
            let answer = raw.until_ready();
            assert!(answer.iter().any(|m| matches!(m.kind, b'E' | b'D')), "{open}: {} messages", answer.len());
        }
    }
    well(rig, &who);
}

#[test]
fn a_ten_megabyte_statement_is_answered() {
    let rig = rig();
    let who = guest_as(rig, "reader");
    let mut raw = Raw::open(rig, &who);
    let begun = Instant::now();
    raw.query(format!("SELECT length('{}')", "x".repeat(10 << 20)).as_bytes());
    let answer = raw.until_ready();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    match answer.iter().find(|message| message.kind == b'E') {
        Some(error) => assert!(error.field(b'M').contains("onus"), "{error:?}"),
        None => assert!(answer.iter().any(|message| message.kind == b'D'), "{} messages", answer.len()),
    }
    // Beyond what is taken in at all: said from the header, without the bytes.
    let mut raw = Raw::open(rig, &who);
    raw.stream.write_all(b"Q\x10\x00\x00\x00SELECT").unwrap();
    raw.stream.flush().unwrap();
    let answer = raw.until_ready();
    assert!(answer.iter().any(|message| message.kind == b'E'), "{answer:?}");
    well(rig, &who);
}

#[test]
fn protocol_3_2_and_its_options_are_negotiated() {
    let rig = rig();
    let who = guest_as(rig, "reader");
    let mut raw = Raw::knock(rig, &who);
    let pairs = [("user", who.as_str()), ("database", "orders-db"), ("_pq_.surprise", "1")];
    raw.stream.write_all(&startup((3 << 16) | 2, &pairs)).unwrap();
    let answer = raw.until_ready();
    assert_eq!(answer[0].kind, b'v', "{answer:?}");
    assert!(String::from_utf8_lossy(&answer[0].body).contains("_pq_.surprise"));
    assert!(raw::ready(&answer, b'I'), "{answer:?}");
    assert_eq!(raw.key.1.len(), 32);
    assert!(raw::ready(&raw.run("SELECT 1"), b'I'));

    let mut raw = Raw::knock(rig, &who);
    raw.stream.write_all(&startup((3 << 16) | 9999, &pairs[..2])).unwrap();
    let answer = raw.until_ready();
    assert_eq!(answer[0].kind, b'v', "{answer:?}");
    assert!(raw::ready(&answer, b'I'), "{answer:?}");
}

#[test]
fn a_cancel_with_a_wrong_key_cancels_nothing() {
    let rig = rig();
    let who = guest_as(rig, "everything");
    let mut raw = Raw::open(rig, &who);
    let (pid, key) = raw.key.clone();
    raw.query(b"SELECT pg_sleep(2)");
    let request = |pid: i32, key: &[u8]| {
        let mut packet = (12 + key.len() as i32).to_be_bytes().to_vec();
        packet.extend(80_877_102_i32.to_be_bytes());
        packet.extend(pid.to_be_bytes());
        packet.extend_from_slice(key);
        let mut socket = plain(rig);
        socket.write_all(&packet).unwrap();
        let mut end = Vec::new();
        let _ = socket.read_to_end(&mut end);
        assert!(end.is_empty(), "a cancel request is never answered: {end:?}");
    };
    let mut wrong = key.clone();
    wrong[0] ^= 1;
    request(pid, &wrong);
    request(pid, &[key.as_slice(), &[0]].concat());
    request(pid.wrapping_add(1000), &key);
    request(i32::MIN, &[0; 4]);
    let answer = raw.until_ready();
    assert!(answer.iter().any(|message| message.kind == b'D'), "{answer:?}");
    // The right one does.
    raw.query(b"SELECT pg_sleep(30)");
    std::thread::sleep(Duration::from_millis(300));
    request(pid, &key);
    assert_eq!(raw::error(&raw.until_ready()).field(b'C'), "57014");
}
