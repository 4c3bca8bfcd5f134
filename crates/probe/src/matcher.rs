//! Telling packets by protocol, port and host.

use std::net::IpAddr;

use crate::capture::{LinkType, Packet};

/// What a packet has to be like: all that is given has to fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matcher {
    /// Its protocol.
    pub protocol: Option<Protocol>,
    /// Its source or destination port. Fragments but the first have none.
    pub port: Option<u16>,
    /// Its source or destination is one of these; anything where there are none.
    pub hosts: Vec<IpAddr>,
}

/// Protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// ARP.
    Arp,
    /// ICMP and ICMPv6, except what every IPv6 node says by itself: neighbour discovery and multicast listener reports.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Matcher {
    /// Whether a packet is like this. Tunnels are not looked into.
    pub fn matches(&self, packet: &Packet) -> bool {
        let Some(read) = Read::of(packet) else { return *self == Matcher::default() };
        let protocol = match self.protocol {
            None => true,
            Some(Protocol::Arp) => read.number == ARP,
            Some(Protocol::Icmp) => match read.number {
                1 => true,
                58 => read.start.is_some_and(|start| !matches!(start[0], 130..=137 | 143)),
                _ => false,
            },
            Some(Protocol::Tcp) => read.number == 6,
            Some(Protocol::Udp) => read.number == 17,
        };
        protocol
            && self.port.is_none_or(|port| read.ports().is_some_and(|ports| ports.contains(&port)))
            && (self.hosts.is_empty() || read.ends.iter().any(|end| self.hosts.contains(end)))
    }
}

/// Not a protocol number of IP, all of which are bytes.
const ARP: u16 = 0x806;

/// What a packet says in its headers.
struct Read {
    number: u16,
    ends: [IpAddr; 2],
    /// What follows the IP header, unless this is a later fragment.
    start: Option<[u8; 4]>,
}

impl Read {
    fn of(packet: &Packet) -> Option<Self> {
        let mut data = packet.data.as_slice();
        let mut kind = match data.first()? >> 4 {
            6 => 0x86dd,
            _ => 0x800,
        };
        if packet.link == LinkType::Ethernet {
            data = data.get(12..)?;
            kind = word(data)?;
            // 802.1Q, and 802.1ad around it.
            while matches!(kind, 0x8100 | 0x88a8) {
                data = data.get(4..)?;
                kind = word(data)?;
            }
            data = data.get(2..)?;
        }
        match kind {
            ARP => {
                let address =
                    |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(data.get(at..at + 4)?).ok()?));
                Some(Read { number: ARP, ends: [address(14)?, address(24)?], start: None })
            }
            0x800 => {
                let address =
                    |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(data.get(at..at + 4)?).ok()?));
                let length = usize::from(data.first()? & 15) * 4;
                let is_later = word(data.get(6..)?)? & 0x1fff != 0;
                let start = data.get(length..length + 4).and_then(|start| start.try_into().ok());
                let start = start.filter(|_| !is_later);
                Some(Read { number: u16::from(*data.get(9)?), ends: [address(12)?, address(16)?], start })
            }
            0x86dd => {
                let address =
                    |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(data.get(at..at + 16)?).ok()?));
                let ends = [address(8)?, address(24)?];
                let (number, start) = behind_extensions(*data.get(6)?, data.get(40..)?);
                Some(Read { number: u16::from(number), ends, start })
            }
            _ => None,
        }
    }

    fn ports(&self) -> Option<[u16; 2]> {
        let [a, b, c, d] = self.start.filter(|_| matches!(self.number, 6 | 17))?;
        Some([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])])
    }
}

/// Goes past IPv6's extension headers (RFC 8200, 4) to the protocol and what it begins with.
fn behind_extensions(mut number: u8, mut data: &[u8]) -> (u8, Option<[u8; 4]>) {
    loop {
        let (Some(&next), Some(&length)) = (data.first(), data.get(1)) else { return (number, None) };
        let skip = match number {
            // Hop by hop, routing, destination options.
            0 | 43 | 60 => (usize::from(length) + 1) * 8,
            // Fragment.
            44 => {
                if data.get(2..).and_then(word).is_none_or(|offset| offset & 0xfff8 != 0) {
                    return (next, None);
                }
                8
            }
            _ => return (number, data.get(..4).and_then(|start| start.try_into().ok())),
        };
        number = next;
        data = data.get(skip..).unwrap_or_default();
    }
}

fn word(data: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(..2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(data: Vec<u8>) -> Packet {
        Packet {
            at_ns: 0,
            interface: model::IfIndex(1),
            outgoing: false,
            link: LinkType::Ethernet,
            original_bytes: data.len() as u32,
            data,
        }
    }

    /// From 10.0.0.1 to 10.0.0.2, behind an Ethernet header and perhaps a VLAN tag.
    fn v4(tagged: bool, number: u8, offset: u16, body: &[u8]) -> Packet {
        let mut data = vec![0; 12];
        if tagged {
            data.extend_from_slice(&[0x81, 0, 0, 7]);
        }
        data.extend_from_slice(&[8, 0, 0x45, 0, 0, 0, 0, 0]);
        data.extend_from_slice(&offset.to_be_bytes());
        data.extend_from_slice(&[64, number, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        data.extend_from_slice(body);
        packet(data)
    }

    fn v6(number: u8, body: &[u8]) -> Packet {
        let mut data = vec![0; 12];
        data.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, number, 64]);
        data.extend_from_slice(&"fd00::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        data.extend_from_slice(&"fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        data.extend_from_slice(body);
        packet(data)
    }

    fn is(protocol: Protocol) -> Matcher {
        Matcher { protocol: Some(protocol), ..Matcher::default() }
    }

    #[test]
    fn packets_are_told_by_protocol_port_and_host() {
        let port = |port| Matcher { port: Some(port), ..is(Protocol::Udp) };
        let host = |host: &str| Matcher { hosts: vec![host.parse().unwrap()], ..Matcher::default() };
        let udp = [0x21, 0x18, 0, 53];
        for tagged in [false, true] {
            let packet = v4(tagged, 17, 0, &udp);
            for wanted in [is(Protocol::Udp), port(8472), port(53), host("10.0.0.1"), host("10.0.0.2")] {
                assert!(wanted.matches(&packet), "{wanted:?}");
            }
            for other in
                [is(Protocol::Tcp), is(Protocol::Icmp), is(Protocol::Arp), port(54), host("10.0.0.3")]
            {
                assert!(!other.matches(&packet), "{other:?}");
            }
        }
        let later = v4(false, 17, 185, &udp);
        assert!(is(Protocol::Udp).matches(&later) && !port(53).matches(&later), "a fragment has no ports");
        // A destination option before UDP; a fragment header.
        assert!(port(53).matches(&v6(60, &[&[17, 0, 0, 0, 0, 0, 0, 0], udp.as_slice()].concat())));
        assert!(port(53).matches(&v6(44, &[&[17, 0, 0, 1, 0, 0, 0, 0], udp.as_slice()].concat())));
        assert!(!port(53).matches(&v6(44, &[&[17, 0, 0, 9, 0, 0, 0, 0], udp.as_slice()].concat())));
        assert!(host("fd00::2").matches(&v6(17, &udp)));
    }

    #[test]
    fn what_every_ipv6_node_says_by_itself_is_not_icmp() {
        assert!(is(Protocol::Icmp).matches(&v6(58, &[128, 0, 0, 0])), "an echo request");
        assert!(is(Protocol::Icmp).matches(&v6(58, &[2, 0, 0, 0])), "packet too big");
        for kind in [133, 134, 135, 136, 143] {
            assert!(!is(Protocol::Icmp).matches(&v6(58, &[kind, 0, 0, 0])), "{kind}");
        }
        let report = v6(0, &[58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0]);
        assert!(!is(Protocol::Icmp).matches(&report), "behind the router alert option");
    }

    #[test]
    fn a_packet_that_is_cut_matches_nothing_that_it_does_not_say() {
        let whole = v4(true, 17, 0, &[0x21, 0x18, 0, 53]);
        let wanted =
            Matcher { port: Some(53), hosts: vec!["10.0.0.2".parse().unwrap()], ..is(Protocol::Udp) };
        assert!(wanted.matches(&whole));
        for cut in 0..whole.data.len() {
            let cut = Packet { data: whole.data[..cut].to_vec(), ..whole.clone() };
            assert!(!wanted.matches(&cut));
            assert!(Matcher::default().matches(&cut));
        }
    }
}
