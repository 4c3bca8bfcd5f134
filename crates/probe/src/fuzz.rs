//! What fuzz/ calls: the reading of packets and answers as of a network, without one.

use model::IfIndex;

use crate::capture::{LinkType, Packet};
use crate::matcher::{Matcher, Protocol};
use crate::pcapng::Writer;
use crate::{http, icmp};

/// Reads bytes as everything that comes from a network.
pub fn received(bytes: &[u8]) {
    for v6 in [false, true] {
        if let Some(icmp::Heard::Error { notice, about }) = icmp::parse(v6, bytes) {
            assert_eq!(about.to.is_ipv6(), v6);
            assert!(!notice.to_string().contains(char::is_control));
            about.echo();
        }
    }
    for link in [LinkType::Ethernet, LinkType::Ip] {
        let original_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let packet = Packet {
            at_ns: u64::MAX,
            interface: IfIndex(1),
            outgoing: true,
            link,
            original_bytes,
            data: bytes.to_vec(),
        };
        let protocols = [Protocol::Arp, Protocol::Icmp, Protocol::Tcp, Protocol::Udp];
        let is = |protocol| Matcher { protocol: Some(protocol), ..Matcher::default() }.matches(&packet);
        assert!(protocols.into_iter().filter(|protocol| is(*protocol)).count() <= 1, "two protocols at once");
        assert!(Matcher::default().matches(&packet));
        let mut written = Vec::new();
        let mut writer = Writer::begin(&mut written, "fuzz", "fuzz").expect("a Vec takes everything");
        let name = String::from_utf8_lossy(bytes);
        let id = writer.interface(&name, &name, link, 65_535).expect("a Vec takes everything");
        writer.packet(id, &packet).expect("a Vec takes everything");
        assert_eq!(blocks(&written), Some(3), "each block says how long it is, twice");
    }
    if let Ok((status, _)) = http::head(bytes) {
        assert!((100..600).contains(&status));
    }
}

/// How many blocks there are, if they are whole.
fn blocks(mut file: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !file.is_empty() {
        let word = |at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?) as usize);
        let length = word(4)?;
        if length % 4 != 0 || word(length.checked_sub(4)?)? != length {
            return None;
        }
        file = &file[length..];
        count += 1;
    }
    Some(count)
}
