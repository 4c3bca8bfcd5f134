//! What fuzz/ calls: what a client makes of what comes by the network, without a network.

use std::net::Ipv4Addr;
use std::time::Duration;

use cni::Outcome;
use model::MacAddr;

use super::frame;
use super::lease::{self, Lease};
use super::message::{self, Message};

/// Reads a frame, and its payload as a message. Bytes that are no frame are read as a message: a fuzzer does not guess checksums.
pub fn frame(bytes: &[u8]) -> Option<Outcome> {
    let (sender, payload) = match frame::from_server(bytes) {
        Some((sender, payload)) => {
            assert!(payload.len() < bytes.len(), "a payload larger than its frame");
            (sender.mac, payload)
        }
        None => (MacAddr([2; 6]), bytes),
    };
    let message = Message::decode(payload).ok()?;
    let options: usize = message.options.values().map(Vec::len).sum();
    assert!(options < payload.len(), "options of {options} bytes in {}", payload.len());
    if !message.options.contains_key(&message::OVERLOAD) {
        assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(&message));
    }
    let lease = Lease::from_ack(&message, sender, Duration::from_secs(1000)).ok()?;
    check(&lease);
    Some(lease.outcome(Some(7), false))
}

/// What is true of every lease, whatever the server said.
fn check(lease: &Lease) {
    assert!(lease::is_host(lease.address.addr()));
    if let Some(times) = lease.times {
        assert!(times.renew <= times.rebind && times.rebind <= times.expire, "{times:?}");
    }
    for (destination, _) in &lease.routes {
        assert_eq!(destination.addr(), destination.network(), "a route with host bits");
    }
    // They end up in a resolv.conf, a line each.
    let is_word = |text: &String| text.bytes().all(|b| b.is_ascii_graphic()) && text.len() <= 255;
    let dns = &lease.dns;
    assert!(dns.search.iter().chain([&dns.domain]).all(is_word) && dns.search.len() <= 32, "{dns:?}");
    assert!(dns.nameservers.iter().all(|server| server.parse::<Ipv4Addr>().is_ok()), "{dns:?}");
    let text = serde_json::to_string(lease).expect("a lease is plain data");
    assert_eq!(&serde_json::from_str::<Lease>(&text).expect("it was written so"), lease);
}
