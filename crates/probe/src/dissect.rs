//! What a packet is, as far as a line has room for.

use std::net::{IpAddr, Ipv4Addr};

use model::MacAddr;

use crate::capture::LinkType;

/// Tunnels in each other that are opened.
const DEEPEST: usize = 3;

/// A frame, or a packet without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// VLAN tags' numbers, outermost first.
    pub vlans: Vec<u16>,
    /// What is in it.
    pub what: What,
}

/// What is in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// ARP over Ethernet for IPv4.
    Arp {
        /// 1: who has it? 2: it is here.
        operation: u16,
        /// Who says this.
        sender: Ipv4Addr,
        /// Its Ethernet address.
        mac: MacAddr,
        /// Whom it is about.
        target: Ipv4Addr,
    },
    /// IP.
    Ip {
        /// Source.
        from: IpAddr,
        /// Destination.
        to: IpAddr,
        /// What it carries.
        carries: Carries,
    },
    /// Another EtherType.
    Other {
        /// Source.
        from: MacAddr,
        /// Destination.
        to: MacAddr,
        /// The type, or, below 0x600, a length.
        kind: u16,
    },
    /// It ends before it says what it is.
    Cut,
}

/// What an IP packet carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carries {
    /// TCP.
    Tcp {
        /// Source and destination port.
        ports: (u16, u16),
        /// From FIN, the lowest bit, to CWR.
        flags: u8,
        /// What follows the header.
        data_bytes: usize,
    },
    /// UDP.
    Udp {
        /// Source and destination port.
        ports: (u16, u16),
        /// What follows the header.
        data_bytes: usize,
    },
    /// A frame in VXLAN.
    Vxlan {
        /// The network.
        vni: u32,
        /// The frame.
        inner: Box<Frame>,
    },
    /// ICMP, or ICMPv6 where the addresses are IPv6's.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Behind the first four bytes; an echo's number in its run is in the second half.
        rest: [u8; 4],
        /// Whom neighbour discovery is about.
        target: Option<IpAddr>,
    },
    /// A later part of a packet.
    Fragment {
        /// Of what.
        protocol: u8,
        /// How far behind its begin.
        offset: u16,
    },
    /// Another protocol, or one whose header is not there.
    Protocol(u8),
}

/// Reads a packet. VXLAN is looked for at these ports.
pub fn dissect(link: LinkType, data: &[u8], vxlan_ports: &[u16]) -> Frame {
    match link {
        LinkType::Ethernet => ethernet(data, vxlan_ports, DEEPEST),
        LinkType::Ip => {
            let what = match data.first().map(|byte| byte >> 4) {
                Some(4) => ip4(data, vxlan_ports, DEEPEST),
                Some(6) => ip6(data, vxlan_ports, DEEPEST),
                _ => None,
            };
            Frame { vlans: Vec::new(), what: what.unwrap_or(What::Cut) }
        }
    }
}

fn ethernet(data: &[u8], ports: &[u16], deep: usize) -> Frame {
    let mut vlans = Vec::new();
    let what = inside(data, &mut vlans, ports, deep).unwrap_or(What::Cut);
    Frame { vlans, what }
}

fn inside(data: &[u8], vlans: &mut Vec<u16>, ports: &[u16], deep: usize) -> Option<What> {
    let mac = |at: usize| Some(MacAddr(data.get(at..at + 6)?.try_into().ok()?));
    let (to, from) = (mac(0)?, mac(6)?);
    let mut at = 12;
    let mut kind = half(data, at)?;
    // 802.1Q, and 802.1ad around it.
    while matches!(kind, 0x8100 | 0x88a8) {
        vlans.push(half(data, at + 2)? & 0xfff);
        at += 4;
        kind = half(data, at)?;
    }
    let body = data.get(at + 2..)?;
    match kind {
        0x0800 => ip4(body, ports, deep),
        0x86dd => ip6(body, ports, deep),
        // Ethernet and IPv4, of six and four bytes.
        0x0806 if body.get(..6) == Some(&[0, 1, 8, 0, 6, 4]) => Some(What::Arp {
            operation: half(body, 6)?,
            mac: MacAddr(body.get(8..14)?.try_into().ok()?),
            sender: v4(body, 14)?,
            target: v4(body, 24)?,
        }),
        kind => Some(What::Other { from, to, kind }),
    }
}

fn ip4(data: &[u8], ports: &[u16], deep: usize) -> Option<What> {
    let (from, to) = (v4(data, 12)?.into(), v4(data, 16)?.into());
    let header = usize::from(data.first()? & 15) * 4;
    let total = usize::from(half(data, 2)?);
    let protocol = *data.get(9)?;
    let offset = (half(data, 6)? & 0x1fff) * 8;
    let carries = match offset {
        0 => {
            // Zero where the card cuts it (TSO): all that is there.
            let length = if total == 0 { data.len() } else { total };
            transport(
                protocol,
                data.get(header..).unwrap_or_default(),
                length.saturating_sub(header),
                ports,
                deep,
            )
        }
        offset => Carries::Fragment { protocol, offset },
    };
    Some(What::Ip { from, to, carries })
}

fn ip6(data: &[u8], ports: &[u16], deep: usize) -> Option<What> {
    let address = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(data.get(at..at + 16)?).ok()?));
    let (from, to) = (address(8)?, address(24)?);
    let mut length = usize::from(half(data, 4)?);
    if length == 0 {
        length = data.len().saturating_sub(40);
    }
    let mut protocol = *data.get(6)?;
    let mut body = data.get(40..).unwrap_or_default();
    // Extension headers (RFC 8200, 4); each is eight bytes at least, so this ends.
    while let (0 | 43 | 44 | 60, Some(&next), Some(&size)) = (protocol, body.first(), body.get(1)) {
        let mut skip = (usize::from(size) + 1) * 8;
        if protocol == 44 {
            let offset = half(body, 2).unwrap_or(0) & 0xfff8;
            if offset != 0 {
                return Some(What::Ip { from, to, carries: Carries::Fragment { protocol: next, offset } });
            }
            skip = 8;
        }
        protocol = next;
        body = body.get(skip..).unwrap_or_default();
        length = length.saturating_sub(skip);
    }
    Some(What::Ip { from, to, carries: transport(protocol, body, length, ports, deep) })
}

/// `length`: as IP says, whether all of it was kept or not.
fn transport(protocol: u8, data: &[u8], length: usize, vxlan_ports: &[u16], deep: usize) -> Carries {
    known(protocol, data, length, vxlan_ports, deep).unwrap_or(Carries::Protocol(protocol))
}

fn known(protocol: u8, data: &[u8], length: usize, vxlan_ports: &[u16], deep: usize) -> Option<Carries> {
    let ports = || Some((half(data, 0)?, half(data, 2)?));
    match protocol {
        6 => {
            let header = usize::from(*data.get(12)? >> 4) * 4;
            let data_bytes = length.saturating_sub(header);
            Some(Carries::Tcp { ports: ports()?, flags: *data.get(13)?, data_bytes })
        }
        17 => {
            let ports = ports()?;
            if deep > 0
                && vxlan_ports.contains(&ports.1)
                && data.get(8)? & 8 != 0
                && let Some(vni) = data.get(12..15)
            {
                let vni = u32::from_be_bytes([0, vni[0], vni[1], vni[2]]);
                let inner = Box::new(ethernet(data.get(16..).unwrap_or_default(), vxlan_ports, deep - 1));
                return Some(Carries::Vxlan { vni, inner });
            }
            Some(Carries::Udp { ports, data_bytes: length.saturating_sub(8) })
        }
        1 | 58 => {
            let (kind, code) = (*data.first()?, *data.get(1)?);
            let rest = data.get(4..8).and_then(|rest| rest.try_into().ok()).unwrap_or_default();
            let of_neighbours = protocol == 58 && matches!(kind, 135 | 136);
            let target = data.get(8..24).filter(|_| of_neighbours);
            let target = target.and_then(|bytes| Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)));
            Some(Carries::Icmp { kind, code, rest, target })
        }
        _ => None,
    }
}

fn half(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn v4(data: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(<[u8; 4]>::try_from(data.get(at..at + 4)?).ok()?.into())
}
