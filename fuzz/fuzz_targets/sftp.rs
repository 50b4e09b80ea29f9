//! Arbitrary bytes from the client and from the upstream on an SFTP channel: it must return, whatever they are.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onus_ssh::sftp::fuzz(data));
