//! Whoever sits on the way, or at the other end, with bad intentions.

use std::collections::BTreeSet;
use std::sync::Arc;

use onus_ssh_transport::{Algorithms, Cipher, ClientConfig, Event, HostKeyRefused, Kex, Transport, TransportError};
use proptest::prelude::*;

use crate::pair::{carry, client_config, ends, server_config, settle};

/// An unencrypted packet.
fn packet(payload: &[u8]) -> Vec<u8> {
    let mut pad = 8 - (5 + payload.len()) % 8;
    if pad < 4 {
        pad += 8;
    }
    let length = (1 + payload.len() + pad) as u32;
    [&length.to_be_bytes()[..], &[pad as u8], payload, &vec![0; pad]].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat()
}

/// A KEXINIT payload.
fn kex_init(kex: &str, cipher: &str, guess: bool) -> Vec<u8> {
    let mut out = [&[20][..], &[0; 16]].concat();
    for list in [kex, "ssh-ed25519", cipher, cipher, "hmac-sha1", "hmac-sha1", "none", "none", "", ""] {
        out.extend(string(list));
    }
    out.extend([u8::from(guess), 0, 0, 0, 0]);
    out
}

/// A client's public value for curve25519: the base point.
fn public() -> Vec<u8> {
    let mut point = vec![30, 0, 0, 0, 32, 9];
    point.extend([0; 31]);
    point
}

const STRICT: &str = "curve25519-sha256,kex-strict-c-v00@openssh.com";
const GCM: &str = "aes128-gcm@openssh.com";
const CHACHA: &str = "chacha20-poly1305@openssh.com";

/// What a server makes of these payloads from a client, each in an unencrypted packet.
fn server_given(payloads: &[Vec<u8>]) -> Result<Transport, TransportError> {
    let mut server = Transport::server(Arc::new(server_config()));
    server.input().extend_from_slice(b"SSH-2.0-evil\r\n");
    for payload in payloads {
        server.input().extend_from_slice(&packet(payload));
        while server.next()?.is_some() {}
    }
    Ok(server)
}

fn exchanged(outcome: Result<Transport, TransportError>) -> bool {
    outcome.unwrap().session_id().is_some()
}

#[test]
fn packets_inserted_into_a_strict_exchange_end_it() {
    assert!(exchanged(server_given(&[kex_init(STRICT, GCM, false), public()])));
    let ignore = [vec![2], string("x")].concat();
    let debug = [vec![4, 0], string("x"), string("")].concat();
    let unimplemented = vec![3, 0, 0, 0, 0];
    for inserted in [ignore, debug, unimplemented] {
        let before = server_given(&[inserted.clone(), kex_init(STRICT, GCM, false), public()]);
        assert_eq!(before.err(), Some(TransportError::KexInitNotFirst));
        let after = server_given(&[kex_init(STRICT, GCM, false), inserted.clone(), public()]);
        assert!(matches!(after.err(), Some(TransportError::MessageUnexpected { .. })));
        let last = server_given(&[kex_init(STRICT, GCM, false), public(), inserted.clone()]);
        assert!(matches!(last.err(), Some(TransportError::MessageUnexpected { .. })));
        // Without strict key exchange they are harmless to GCM, and allowed.
        assert!(exchanged(server_given(&[
            inserted.clone(),
            kex_init("curve25519-sha256", GCM, false),
            inserted,
            public()
        ])));
    }
}

#[test]
fn chacha_without_strict_key_exchange_is_refused() {
    let lax = server_given(&[kex_init("curve25519-sha256", CHACHA, false)]);
    assert_eq!(lax.err(), Some(TransportError::StrictRequired));
    assert!(exchanged(server_given(&[kex_init(STRICT, CHACHA, false), public()])));
    assert!(exchanged(server_given(&[kex_init("curve25519-sha256", GCM, false), public()])));
}

#[test]
fn services_before_keys_are_refused() {
    for kind in [5, 6, 7, 21, 30, 31, 50, 90, 192] {
        for payloads in [vec![vec![kind; 9]], vec![kex_init(STRICT, GCM, false), vec![kind; 9]]] {
            let error = server_given(&payloads).err();
            let malformed = matches!(error, Some(TransportError::MessageMalformed { message: 30 }));
            assert!(malformed || matches!(error, Some(TransportError::MessageUnexpected { .. })), "{kind} {error:?}");
        }
    }
    let early = server_given(&[kex_init(STRICT, GCM, false), public(), vec![50; 9]]);
    assert!(matches!(early.err(), Some(TransportError::MessageUnexpected { message: 50, .. })));
    let twice = server_given(&[kex_init(STRICT, GCM, false), kex_init(STRICT, GCM, false)]);
    assert!(matches!(twice.err(), Some(TransportError::MessageUnexpected { message: 20, .. })));
}

#[test]
fn endless_chatter_before_keys_is_cut_off() {
    let chatter = vec![[vec![2], string("x")].concat(); 100];
    assert!(matches!(server_given(&chatter).err(), Some(TransportError::MessageUnexpected { message: 2, .. })));
}

#[test]
fn a_wrong_guess_is_skipped_once_and_a_right_one_used() {
    let wrong = "ecdh-sha2-nistp256,curve25519-sha256,kex-strict-c-v00@openssh.com";
    let guess = [vec![30], string("for another method")].concat();
    assert!(exchanged(server_given(&[kex_init(wrong, GCM, true), guess.clone(), public()])));
    let twice = server_given(&[kex_init(wrong, GCM, true), guess.clone(), guess.clone()]);
    assert_eq!(twice.err(), Some(TransportError::BadExchangeValue));
    let unannounced = server_given(&[kex_init(wrong, GCM, false), guess]);
    assert_eq!(unannounced.err(), Some(TransportError::BadExchangeValue));
    // Ours has another first method than this, so even a guess of what is chosen counts as wrong.
    assert!(!exchanged(server_given(&[kex_init(STRICT, GCM, true), public()])));
    assert!(exchanged(server_given(&[kex_init(STRICT, GCM, true), public(), public()])));
    let mut config = server_config();
    config.algorithms = Algorithms { kex: vec![Kex::Curve25519], ciphers: Cipher::ALL.to_vec() };
    let mut server = Transport::server(Arc::new(config));
    server.input().extend_from_slice(b"SSH-2.0-x\r\n");
    server.input().extend_from_slice(&packet(&kex_init(STRICT, GCM, true)));
    server.input().extend_from_slice(&packet(&public()));
    assert_eq!(server.next(), Ok(None));
    assert!(server.session_id().is_some());
}

#[test]
fn nothing_in_common_is_said_so() {
    let error = server_given(&[kex_init("diffie-hellman-group1-sha1", GCM, false)]).err();
    assert!(matches!(error, Some(TransportError::NoCommonAlgorithm { list: "key exchange method", .. })));
    let error = server_given(&[kex_init(STRICT, "aes128-cbc", false)]).err();
    assert!(matches!(error, Some(TransportError::NoCommonAlgorithm { list: "cipher", .. })));
}

#[test]
fn lengths_are_refused_before_anything_is_buffered() {
    let given = |head: &[u8]| {
        let mut server = Transport::server(Arc::new(server_config()));
        server.input().extend_from_slice(b"SSH-2.0-evil\r\n");
        server.input().extend_from_slice(head);
        server.next()
    };
    assert_eq!(given(&35001_u32.to_be_bytes()), Err(TransportError::PacketTooLong { length: 35001, limit: 35000 }));
    assert!(matches!(given(&[0xff; 4]), Err(TransportError::PacketTooLong { .. })));
    for length in [0_u32, 1, 4, 5, 11, 13] {
        assert_eq!(given(&length.to_be_bytes()), Err(TransportError::PacketMalformed), "{length}");
    }
    // A padding as long as the packet, and one shorter than four.
    for pad in [11, 3, 255] {
        let mut bytes = vec![0, 0, 0, 12, pad];
        bytes.extend([2; 11]);
        assert_eq!(given(&bytes), Err(TransportError::PacketMalformed), "{pad}");
    }
}

#[test]
fn a_whole_packet_that_never_ends_only_waits() {
    let (mut client, mut server) = ends();
    settle(&mut client, &mut server, || usize::MAX).unwrap();
    client.send(&[&[94; 1000]]).unwrap();
    let whole = client.output().len();
    assert_eq!(carry(&mut client, &mut server, whole - 1), Ok(vec![]));
    assert_eq!(carry(&mut client, &mut server, 1).unwrap().len(), 1);
}

#[test]
fn any_flipped_bit_is_noticed() {
    for cipher in Cipher::ALL {
        // The shortest of the first packets has 92 bytes.
        for at in 0..92 {
            let mut config = client_config();
            config.algorithms.ciphers = vec![cipher];
            let (mut client, mut server) = (Transport::client(config), Transport::server(Arc::new(server_config())));
            settle(&mut client, &mut server, || usize::MAX).unwrap();
            client.send(&[&[94; 60]]).unwrap();
            client.send(&[&[94; 300]]).unwrap();
            client.output()[at] ^= 1 << (at % 8);
            let outcome = carry(&mut client, &mut server, usize::MAX);
            // A length that grew may leave the server waiting for the rest of a packet that it will not accept; the
            // rest is noticed for what it is.
            match (at, &outcome) {
                (0..4, Ok(events)) => assert_eq!(events, &[], "{cipher:?} {at}"),
                (0..4, Err(_)) => {}
                _ => assert_eq!(outcome, Err(TransportError::Tampered), "{cipher:?} {at}"),
            }
            if outcome.is_err() {
                assert!(server.is_over());
                assert_eq!(carry(&mut server, &mut client, usize::MAX), Err(TransportError::Closed), "it was told");
            }
        }
    }
}

/// The positions of padding in one direction's bytes, as long as they are unencrypted.
fn padding(stream: &[u8]) -> BTreeSet<usize> {
    let mut at = stream.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut positions = BTreeSet::new();
    loop {
        let length = u32::from_be_bytes(stream[at..at + 4].try_into().unwrap()) as usize;
        let end = at + 4 + length;
        positions.extend(end - usize::from(stream[at + 4])..end);
        if stream[at + 5] == 21 {
            return positions;
        }
        at = end;
    }
}

/// A handshake in which the byte at `at`, counted from the first in one direction, is changed on its way.
fn tampered(upwards: bool, at: usize, mask: u8) -> (bool, bool, Vec<u8>) {
    let mut config = client_config();
    config.algorithms.kex = vec![Kex::Curve25519];
    let (mut client, mut server) = (Transport::client(config), Transport::server(Arc::new(server_config())));
    let (mut seen, mut stream) = (0, Vec::new());
    let mut broken = false;
    let (mut client_ready, mut server_ready) = (false, false);
    while !broken && (!client.output().is_empty() || !server.output().is_empty()) {
        for up in [true, false] {
            let (from, to) = if up { (&mut client, &mut server) } else { (&mut server, &mut client) };
            if up == upwards {
                let n = from.output().len();
                if (seen..seen + n).contains(&at) {
                    from.output()[at - seen] ^= mask;
                }
                seen += n;
                stream.extend_from_slice(from.output());
            }
            match carry(from, to, usize::MAX) {
                Ok(events) if events.contains(&Event::Ready) => {
                    *(if up { &mut server_ready } else { &mut client_ready }) = true
                }
                Ok(_) => {}
                Err(_) => broken = true,
            }
        }
    }
    (client_ready, server_ready, stream)
}

#[test]
fn nobody_on_the_way_can_change_the_handshake() {
    for upwards in [true, false] {
        let (client_ready, server_ready, stream) = tampered(upwards, usize::MAX, 0);
        assert!(client_ready && server_ready);
        let padding = padding(&stream);
        let end = *padding.last().unwrap();
        for at in 0..end {
            let mask = 1 << (at % 8);
            let (client_ready, _, _) = tampered(upwards, at, mask);
            // The padding of unencrypted packets is nobody's business.
            assert!(!client_ready || padding.contains(&at) || newkeys(&stream, at), "{upwards} {at}");
        }
    }
}

/// Whether `at` lies in the client's NEWKEYS, which the client itself doesn't depend on.
fn newkeys(stream: &[u8], at: usize) -> bool {
    let from = stream.windows(6).position(|w| w[..4] == [0, 0, 0, 12] && w[5] == 21).unwrap();
    at >= from
}

#[test]
fn a_changed_negotiation_is_a_wrong_signature() {
    // The client's first method, renamed on the way: without a signature both would settle for the second.
    let config = client_config();
    let (mut client, mut server) = (Transport::client(config), Transport::server(Arc::new(server_config())));
    carry(&mut client, &mut server, usize::MAX).unwrap();
    carry(&mut server, &mut client, usize::MAX).unwrap();
    let name = b"mlkem768x25519-sha256";
    let at = client.output().windows(name.len()).position(|w| w == name).unwrap();
    client.output()[at] = b'n';
    // The client chose ML-KEM and the server doesn't know: the value has the wrong length for it.
    assert_eq!(carry(&mut client, &mut server, usize::MAX), Err(TransportError::BadExchangeValue));

    // Stripping the marker of strict key exchange.
    let (mut client, mut server) = ends();
    carry(&mut client, &mut server, usize::MAX).unwrap();
    carry(&mut server, &mut client, usize::MAX).unwrap();
    let name = b"kex-strict-c-v00";
    let at = client.output().windows(name.len()).position(|w| w == name).unwrap();
    client.output()[at] = b'n';
    carry(&mut client, &mut server, usize::MAX).unwrap();
    assert_eq!(carry(&mut server, &mut client, usize::MAX), Err(TransportError::SignatureInvalid));
}

#[test]
fn the_wrong_host_key_is_refused_and_the_server_told_no_details() {
    let refuse = HostKeyRefused { reason: "pinned is another".to_owned() };
    let answer = refuse.clone();
    let mut client = Transport::client(ClientConfig::new(Box::new(move |_| Err(answer.clone()))));
    let mut server = Transport::server(Arc::new(server_config()));
    client.send(&[b"\x05secret"]).unwrap();
    assert_eq!(settle(&mut client, &mut server, || usize::MAX), Err(TransportError::HostKeyRefused(refuse)));
    let bytes = client.output().split();
    server.input().extend_from_slice(&bytes);
    let told = server.next();
    assert!(matches!(&told, Ok(Some(Event::Disconnected { reason: 9, text })) if !text.contains("pinned")), "{told:?}");
}

#[derive(Debug, Clone)]
enum Mutation {
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (0_usize..4000, 1_u8..).prop_map(|(at, mask)| Mutation::Flip(at, mask)),
        (0_usize..4000, prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (0_usize..4000, 1_usize..40).prop_map(|(at, n)| Mutation::Remove(at, n)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), greeted in any::<bool>()) {
        for mut transport in [ends().0, ends().1] {
            if greeted {
                transport.input().extend_from_slice(b"SSH-2.0-x\r\n");
            }
            transport.input().extend_from_slice(&bytes);
            while let Ok(Some(_)) = transport.next() {}
        }
    }

    #[test]
    fn no_payloads_make_it_panic(
        payloads in prop::collection::vec((0_u8..60, prop::collection::vec(any::<u8>(), 0..80)), 0..6),
        begun in any::<bool>(),
    ) {
        let mut all = if begun { vec![kex_init("curve25519-sha256", GCM, false)] } else { vec![] };
        all.extend(payloads.iter().map(|(kind, rest)| [&[*kind], rest.as_slice()].concat()));
        let _ = server_given(&all);
        // The same from someone who holds the keys.
        for flip in [false, true] {
            let (mut a, mut b) = ends();
            settle(&mut a, &mut b, || usize::MAX).unwrap();
            if flip {
                std::mem::swap(&mut a, &mut b);
            }
            for payload in &all {
                let _ = a.send(&[payload]);
            }
            let _ = settle(&mut a, &mut b, || usize::MAX);
        }
    }

    #[test]
    fn no_mutated_handshake_makes_it_panic_or_pass(mutations in prop::collection::vec(mutation(), 1..4), upwards in any::<bool>()) {
        let (mut client, mut server) = ends();
        let mut seen = 0;
        let mut rounds = 0;
        while rounds < 40 && (!client.output().is_empty() || !server.output().is_empty()) {
            rounds += 1;
            for up in [true, false] {
                let (from, to) = if up { (&mut client, &mut server) } else { (&mut server, &mut client) };
                let mut bytes = from.output().split().to_vec();
                if up == upwards {
                    let n = bytes.len();
                    for mutation in &mutations {
                        match mutation {
                            Mutation::Flip(at, mask) if (seen..seen + n).contains(at) && at - seen < bytes.len() => bytes[at - seen] ^= mask,
                            Mutation::Insert(at, more) if (seen..seen + n).contains(at) && at - seen < bytes.len() => {
                                let at = at - seen;
                                bytes.splice(at..at, more.iter().copied());
                            }
                            Mutation::Remove(at, n) if (seen..seen + bytes.len()).contains(at) => {
                                let from = at - seen;
                                let to = (from + n).min(bytes.len());
                                bytes.drain(from..to);
                            }
                            _ => {}
                        }
                    }
                    seen += n;
                }
                to.input().extend_from_slice(&bytes);
                while let Ok(Some(_)) = to.next() {}
            }
        }
        if let (Some(a), Some(b)) = (client.session_id(), server.session_id()) {
            // Whatever survived (padding, or nothing was hit), both saw the same.
            if client.key_exchanges() > 0 {
                prop_assert_eq!(a, b);
            }
        }
    }
}
