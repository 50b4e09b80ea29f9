//! Arbitrary bytes from the client and from the upstream of a copy with scp: nothing undecided passes, whatever they are.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onus_ssh::scp::fuzz(data));
