//! Arbitrary bytes from the client and from the server: framing, start-up and the proxy must return, whatever they are.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onus_pg::fuzz_frames(data));
