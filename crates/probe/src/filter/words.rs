//! The words of filters.

use std::net::IpAddr;

use model::MacAddr;

use super::tree::{ARP, IPV4, IPV6, RARP, Side};

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const SCTP: u8 = 132;

/// Protocols above IP: their names, numbers, and over which IP a bare name means them.
pub(super) const PROTOCOLS: [(&str, u8, bool, bool); 10] = [
    ("tcp", TCP, true, true),
    ("udp", UDP, true, true),
    ("sctp", SCTP, true, true),
    ("icmp", 1, true, false),
    ("icmp6", 58, false, true),
    ("igmp", 2, true, false),
    ("esp", 50, true, true),
    ("ah", 51, true, true),
    ("pim", 103, true, true),
    ("vrrp", 112, true, false),
];

pub(super) const TYPES: [(&str, u16); 4] = [("ip", IPV4), ("ip6", IPV6), ("arp", ARP), ("rarp", RARP)];

pub(super) const PORTS: [(&str, u16); 8] = [
    ("http", 80),
    ("https", 443),
    ("domain", 53),
    ("ssh", 22),
    ("ntp", 123),
    ("bootps", 67),
    ("bootpc", 68),
    ("snmp", 161),
];

/// All words, for what was probably meant.
const WORDS: [&str; 35] = [
    "and",
    "or",
    "not",
    "host",
    "net",
    "port",
    "portrange",
    "proto",
    "src",
    "dst",
    "ether",
    "mask",
    "less",
    "greater",
    "vxlan",
    "inbound",
    "outbound",
    "multicast",
    "broadcast",
    "ip",
    "ip6",
    "arp",
    "rarp",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmp6",
    "igmp",
    "esp",
    "ah",
    "pim",
    "vrrp",
    "link",
    "pod:",
];

/// Words of pcap-filter(7) that are not here, and what to do without.
pub(super) const ABSENT: [(&str, &str); 9] = [
    (
        "vlan",
        "the kernel takes VLAN tags out of frames: what is asked of a packet is asked of what is behind its tag",
    ),
    ("mpls", "capture more, and choose with `tshark -r FILE -Y mpls`"),
    ("pppoes", "capture more, and choose with `tshark -r FILE -Y pppoes`"),
    ("pppoed", "capture more, and choose with `tshark -r FILE -Y pppoed`"),
    ("geneve", "capture `udp port 6081`, and choose with `tshark -r FILE -Y geneve`"),
    ("gateway", "write `ether host MAC and not host ADDRESS`"),
    ("protochain", "extension headers are not followed: write `proto`"),
    ("ifname", "name the interface before `--`"),
    ("wlan", "this is for Ethernet and IP"),
];

/// What the next value is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) within: Within,
    pub(super) side: Side,
    pub(super) kind: Wanted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    Any,
    Ether,
    Type(u16),
    Protocol(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

impl Wanted {
    pub(super) fn wants(self) -> &'static str {
        match self {
            Wanted::Host => "an address",
            Wanted::Net => "a net",
            Wanted::Port => "a port",
            Wanted::PortRange => "two ports with `-` between them",
            Wanted::Proto => "a protocol",
        }
    }
}

pub(super) fn within(word: &str) -> Option<Within> {
    if matches!(word, "ether" | "link") {
        return Some(Within::Ether);
    }
    let of_type = TYPES.iter().find(|(name, _)| *name == word).map(|(_, kind)| Within::Type(*kind));
    let protocol = || PROTOCOLS.iter().find(|(name, ..)| *name == word);
    of_type.or_else(|| protocol().map(|(_, number, ..)| Within::Protocol(*number)))
}

pub(super) fn is_word(word: &str) -> bool {
    WORDS.contains(&word) || ABSENT.iter().any(|(absent, _)| *absent == word)
}

pub(super) fn is_address(word: &str) -> bool {
    word.parse::<IpAddr>().is_ok() || word.parse::<MacAddr>().is_ok() || word.starts_with("pod:")
}

/// Short words differ by one slip of the fingers, longer ones by two.
pub(super) fn nearest(written: &str) -> Option<String> {
    let slips = if written.chars().count() < 6 { 1 } else { 2 };
    let scored = WORDS.iter().map(|word| (strsim::damerau_levenshtein(written, word), word));
    let best = scored.filter(|(distance, _)| *distance <= slips).min_by_key(|(distance, _)| *distance);
    best.map(|(_, word)| format!("did you mean `{word}`?"))
}
