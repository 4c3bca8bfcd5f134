//! Bytes as of a kernel's answer: whole datagrams, and the payload of one message.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    netlink::fuzz::datagram(data);
    let payload = data.get(16..).unwrap_or_default();
    netlink::fuzz::payload(payload);
    nft::fuzz::payload(payload);
});
