//! Bytes as they come from a network: ICMP, captured packets, an HTTP server's answer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| probe::fuzz::received(data));
