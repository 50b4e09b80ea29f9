//! Both roles against each other: every combination, any chunking, rekeying with data under way.

use std::sync::Arc;

use onus_ssh_transport::{
    Algorithms, Cipher, ClientConfig, Event, HostKeyAlgorithm, HostKeyUnusable, Kex, OfferedHostKey, RekeyAfter,
    SERVER_SIG_ALGS, ServerConfig, Transport, TransportError,
};
use proptest::prelude::*;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{Certificate, PrivateKey};

pub fn key(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
}

pub fn certificate(of: &PrivateKey, kind: CertType) -> Certificate {
    let mut builder = Builder::new(vec![1; 32], of.public_key(), 1, u64::MAX - 1).unwrap();
    builder.cert_type(kind).unwrap();
    builder.key_id("host").unwrap();
    builder.valid_principal("host.example").unwrap();
    builder.sign(&key(99)).unwrap()
}

pub fn client_config() -> ClientConfig {
    let pinned = key(1).public_key().key_data().clone();
    ClientConfig::new(Box::new(move |offer| {
        assert_eq!(offer.key_data(), &pinned);
        Ok(())
    }))
}

pub fn server_config() -> ServerConfig {
    ServerConfig::new(&key(1), None).unwrap()
}

pub fn ends() -> (Transport, Transport) {
    (Transport::client(client_config()), Transport::server(Arc::new(server_config())))
}

/// Moves at most `chunk` bytes and gives what comes out.
pub fn carry(from: &mut Transport, to: &mut Transport, chunk: usize) -> Result<Vec<Event>, TransportError> {
    let n = chunk.min(from.output().len());
    let bytes = from.output().split_to(n);
    to.input().extend_from_slice(&bytes);
    let mut events = Vec::new();
    while let Some(event) = to.next()? {
        events.push(event);
    }
    Ok(events)
}

/// Carries everything both ways until nothing is left; what the client and what the server got.
pub fn settle(
    client: &mut Transport,
    server: &mut Transport,
    mut chunk: impl FnMut() -> usize,
) -> Result<(Vec<Event>, Vec<Event>), TransportError> {
    let (mut at_client, mut at_server) = (Vec::new(), Vec::new());
    while !client.output().is_empty() || !server.output().is_empty() {
        at_server.extend(carry(client, server, chunk())?);
        at_client.extend(carry(server, client, chunk())?);
    }
    Ok((at_client, at_server))
}

pub fn packets(events: &[Event]) -> Vec<Vec<u8>> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Packet(payload) => Some(payload.to_vec()),
            _ => None,
        })
        .collect()
}

#[test]
fn every_combination_agrees_and_carries() {
    for kex in Kex::ALL {
        for cipher in Cipher::ALL {
            for certified in [false, true] {
                let algorithms = Algorithms { kex: vec![kex], ciphers: vec![cipher] };
                let mut config = client_config();
                config.algorithms = algorithms.clone();
                let certificate = certificate(&key(1), CertType::Host);
                let mut server_config = ServerConfig::new(&key(1), certified.then_some(&certificate)).unwrap();
                server_config.algorithms = algorithms;
                let (mut client, mut server) = (Transport::client(config), Transport::server(Arc::new(server_config)));
                // Before the first keys, so it waits.
                client.send(&[&[5], b"first"]).unwrap();
                assert!(client.queued() > 6);
                let (at_client, at_server) = settle(&mut client, &mut server, || usize::MAX).unwrap();
                assert_eq!(at_client, [Event::Ready]);
                assert_eq!(at_server[0], Event::Ready);
                assert_eq!(packets(&at_server), [b"\x05first"]);
                assert_eq!(client.queued(), 0);
                assert_eq!(client.session_id().unwrap(), server.session_id().unwrap());
                assert_eq!(client.negotiated(), server.negotiated());
                let negotiated = client.negotiated().unwrap();
                assert_eq!((negotiated.kex, negotiated.strict), (kex, true));
                assert_eq!((negotiated.client_to_server, negotiated.server_to_client), (cipher, cipher));
                let expected = if certified { HostKeyAlgorithm::Ed25519Certificate } else { HostKeyAlgorithm::Ed25519 };
                assert_eq!(negotiated.host_key, expected);
                assert_eq!(client.server_sig_algs().unwrap().join(","), SERVER_SIG_ALGS);
                for length in (1..200).chain([32768, 262_144]) {
                    let payload = vec![94; length];
                    let (head, tail) = payload.split_at(length / 2);
                    client.send(&[head, tail]).unwrap();
                    server.send(&[head, &[], tail]).unwrap();
                    let (at_client, at_server) = settle(&mut client, &mut server, || usize::MAX).unwrap();
                    assert_eq!((packets(&at_client), packets(&at_server)), (vec![payload.clone()], vec![payload]));
                }
            }
        }
    }
}

#[test]
fn preferred_host_key_algorithms_come_first() {
    let certificate = certificate(&key(1), CertType::Host);
    let config = Arc::new(ServerConfig::new(&key(1), Some(&certificate)).unwrap());
    for (prefer, chosen) in
        [(vec![], HostKeyAlgorithm::Ed25519Certificate), (vec![HostKeyAlgorithm::Ed25519], HostKeyAlgorithm::Ed25519)]
    {
        let mut client_config = ClientConfig::new(Box::new(move |offer| {
            assert_eq!(matches!(offer.key, OfferedHostKey::Certificate(_)), chosen.is_certificate());
            Ok(())
        }));
        client_config.prefer_host_key_algs = prefer;
        let (mut client, mut server) = (Transport::client(client_config), Transport::server(config.clone()));
        settle(&mut client, &mut server, || usize::MAX).unwrap();
        assert_eq!(client.negotiated().unwrap().host_key, chosen);
    }
}

#[test]
fn only_a_fitting_host_certificate_is_taken() {
    let of = |seed, kind| ServerConfig::new(&key(1), Some(&certificate(&key(seed), kind))).map(|_| ());
    assert_eq!(of(1, CertType::Host), Ok(()));
    assert_eq!(of(1, CertType::User), Err(HostKeyUnusable::NotHostCertificate));
    assert_eq!(of(2, CertType::Host), Err(HostKeyUnusable::OtherKey));
}

#[test]
fn keys_are_renewed_by_themselves_while_data_flows_both_ways() {
    for after in [RekeyAfter { bytes: 20_000, packets: u64::MAX }, RekeyAfter { bytes: u64::MAX, packets: 20 }] {
        let mut client_config = client_config();
        client_config.rekey_after = after;
        let mut server_config = server_config();
        server_config.rekey_after = after;
        let (mut client, mut server) = (Transport::client(client_config), Transport::server(Arc::new(server_config)));
        settle(&mut client, &mut server, || usize::MAX).unwrap();
        let id = client.session_id().unwrap().to_vec();
        let (mut at_client, mut at_server, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..200_u8 {
            let payload = [vec![94, number], vec![number; 1000]].concat();
            client.send(&[&payload]).unwrap();
            server.send(&[&payload]).unwrap();
            sent.push(payload);
            // Less than what is sent, so that there is always something under way.
            at_server.extend(carry(&mut client, &mut server, 900).unwrap());
            at_client.extend(carry(&mut server, &mut client, 700).unwrap());
        }
        let (rest_client, rest_server) = settle(&mut client, &mut server, || 5000).unwrap();
        at_client.extend(rest_client);
        at_server.extend(rest_server);
        assert!(packets(&at_client) == sent && packets(&at_server) == sent);
        assert!(client.key_exchanges() > 4, "{}", client.key_exchanges());
        assert_eq!(client.key_exchanges(), server.key_exchanges());
        assert_eq!((client.session_id().unwrap(), server.session_id().unwrap()), (&id[..], &id[..]));
    }
}

#[test]
fn what_waits_is_bounded_and_refusal_is_not_the_end() {
    let mut config = client_config();
    config.max_queue = 10_000;
    let (mut client, mut server) = (Transport::client(config), Transport::server(Arc::new(server_config())));
    settle(&mut client, &mut server, || usize::MAX).unwrap();
    client.rekey().unwrap();
    let mut taken = 0;
    while client.send(&[&[94; 1000]]).is_ok() {
        taken += 1;
    }
    assert_eq!(client.send(&[&[94; 1000]]), Err(TransportError::QueueFull { limit: 10_000 }));
    assert_eq!(taken, 9);
    let (_, at_server) = settle(&mut client, &mut server, || usize::MAX).unwrap();
    assert_eq!(packets(&at_server).len(), taken);
    client.send(&[&[94; 1000]]).unwrap();
    assert_eq!(client.send(&[]), Err(TransportError::PayloadLength { length: 0 }));
    assert_eq!(client.send(&[&vec![0; 262_145]]), Err(TransportError::PayloadLength { length: 262_145 }));
    assert_eq!(packets(&settle(&mut client, &mut server, || 3).unwrap().1).len(), 1);
}

#[test]
fn an_end_is_told_once() {
    let (mut client, mut server) = ends();
    settle(&mut client, &mut server, || usize::MAX).unwrap();
    client.disconnect(11, "good\x1bbye");
    client.disconnect(2, "again");
    assert_eq!(client.send(&[&[94]]), Err(TransportError::Closed));
    let events = carry(&mut client, &mut server, usize::MAX);
    assert_eq!(events, Err(TransportError::Closed), "the event came, then nothing more");
    assert!(client.output().is_empty());
    let (mut client, mut server) = ends();
    settle(&mut client, &mut server, || usize::MAX).unwrap();
    client.disconnect(11, "good\x1bbye");
    let bytes = client.output().split();
    server.input().extend_from_slice(&bytes);
    assert_eq!(server.next(), Ok(Some(Event::Disconnected { reason: 11, text: "good\u{fffd}bye".to_owned() })));
    assert_eq!(server.send(&[&[94]]), Err(TransportError::Closed));
}

#[test]
fn pings_are_answered_and_strange_messages_declined() {
    for (message, answered) in [(&[192, 0, 0, 0, 1, 7][..], true), (&[15][..], true), (&[193, 0, 0, 0, 0][..], false)] {
        let (mut client, mut server) = ends();
        settle(&mut client, &mut server, || usize::MAX).unwrap();
        client.send(&[message]).unwrap();
        assert_eq!(carry(&mut client, &mut server, usize::MAX), Ok(vec![]));
        assert_eq!(!server.output().is_empty(), answered);
        assert_eq!(carry(&mut server, &mut client, usize::MAX), Ok(vec![]));
    }
    let (mut client, mut server) = ends();
    settle(&mut client, &mut server, || usize::MAX).unwrap();
    client.send(&[&[200, 1]]).unwrap();
    assert_eq!(packets(&carry(&mut client, &mut server, usize::MAX).unwrap()), [[200, 1]]);
    server.unimplemented().unwrap();
    assert_eq!(carry(&mut server, &mut client, usize::MAX), Ok(vec![]));
}

#[test]
fn payloads_lie_where_they_were_received() {
    let (mut client, mut server) = ends();
    settle(&mut client, &mut server, || usize::MAX).unwrap();
    client.send(&[&[94; 5000]]).unwrap();
    let bytes = client.output().split();
    server.input().reserve(bytes.len());
    server.input().extend_from_slice(&bytes);
    let range = server.input().as_ptr_range();
    let Ok(Some(Event::Packet(payload))) = server.next() else { panic!() };
    assert!(range.contains(&payload.as_ptr()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_chunking_gives_the_same_packets(
        chunks in prop::collection::vec(1_usize..400, 1..20),
        steps in prop::collection::vec((0_u8..4, 1_usize..3000), 1..30),
        cipher in 0_usize..3,
        kex in 0_usize..2,
    ) {
        let mut config = client_config();
        config.algorithms = Algorithms { kex: vec![Kex::ALL[kex]], ciphers: vec![Cipher::ALL[cipher]] };
        let (mut client, mut server) = (Transport::client(config), Transport::server(Arc::new(server_config())));
        let mut turn = chunks.iter().cycle();
        let (mut up, mut down) = (Vec::new(), Vec::new());
        let (mut at_client, mut at_server) = (Vec::new(), Vec::new());
        for (index, (what, length)) in steps.iter().enumerate() {
            let payload = [vec![90, index as u8], vec![index as u8; *length]].concat();
            match what {
                0 => { client.send(&[&payload]).unwrap(); up.push(payload); }
                1 => { server.send(&[&payload]).unwrap(); down.push(payload); }
                2 => client.rekey().unwrap(),
                _ => server.rekey().unwrap(),
            }
            at_server.extend(carry(&mut client, &mut server, *turn.next().unwrap()).unwrap());
            at_client.extend(carry(&mut server, &mut client, *turn.next().unwrap()).unwrap());
        }
        let (rest_client, rest_server) = settle(&mut client, &mut server, || *turn.next().unwrap()).unwrap();
        at_client.extend(rest_client);
        at_server.extend(rest_server);
        for events in [&at_client, &at_server] {
            prop_assert_eq!(&events[0], &Event::Ready);
            prop_assert_eq!(events.iter().filter(|event| **event == Event::Ready).count(), 1);
        }
        prop_assert_eq!(packets(&at_server), up);
        prop_assert_eq!(packets(&at_client), down);
    }
}
