//! How fast bulk data passes; run by hand: `cargo test --release -- --ignored --nocapture speed`.

use std::sync::Arc;
use std::time::Instant;

use onus_ssh_transport::{Cipher, Event, Transport};

use crate::pair::{client_config, server_config, settle};

#[test]
#[ignore = "a measurement, not a check"]
fn speed() {
    for cipher in Cipher::ALL {
        let mut config = client_config();
        config.algorithms.ciphers = vec![cipher];
        let (mut client, mut server) = (Transport::client(config), Transport::server(Arc::new(server_config())));
        settle(&mut client, &mut server, || usize::MAX).unwrap();
        let payload = vec![94; 32768];
        let (mut sealing, mut opening, mut moved) = (0.0, 0.0, 0_usize);
        while moved < 2 << 30 {
            let begin = Instant::now();
            for _ in 0..8 {
                client.send(&[&payload[..9], &payload[9..]]).unwrap();
            }
            sealing += begin.elapsed().as_secs_f64();
            let n = client.output().len();
            server.input().reserve(n);
            server.input().extend_from_slice(client.output());
            client.output().clear();
            let begin = Instant::now();
            while let Some(event) = server.next().unwrap() {
                if let Event::Packet(payload) = event {
                    moved += payload.len();
                }
            }
            opening += begin.elapsed().as_secs_f64();
            // A rekey may be due.
            settle(&mut client, &mut server, || usize::MAX).unwrap();
        }
        let mb = moved as f64 / 1e6;
        println!(
            "{}: seal {:.0} MB/s, open {:.0} MB/s, both {:.0} MB/s",
            cipher.name(),
            mb / sealing,
            mb / opening,
            mb / (sealing + opening)
        );
    }
}
