//! Ethernet frames with UDP over IPv4 between a DHCP client and a server.

use std::net::Ipv4Addr;

use model::MacAddr;

use crate::checksum::checksum;

/// The client's UDP port.
pub(super) const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// Where a frame goes that is for everybody.
pub(super) const EVERYBODY: MacAddr = MacAddr([0xff; 6]);

const ETHERNET_BYTES: usize = 14;
const IP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const UDP: u8 = 17;
const TTL: u8 = 64;

/// One end of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) mac: MacAddr,
    pub(super) address: Ipv4Addr,
}

/// The frame that carries a client's message.
pub(super) fn to_server(from: End, to: End, payload: &[u8]) -> Vec<u8> {
    encode((from, CLIENT_PORT), (to, SERVER_PORT), payload)
}

fn encode((from, from_port): (End, u16), (to, to_port): (End, u16), payload: &[u8]) -> Vec<u8> {
    let udp_length = (UDP_BYTES + payload.len()) as u16;
    let mut ip = [0; IP_BYTES];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(IP_BYTES as u16 + udp_length).to_be_bytes());
    ip[8] = TTL;
    ip[9] = UDP;
    ip[12..16].copy_from_slice(&from.address.octets());
    ip[16..20].copy_from_slice(&to.address.octets());
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = Vec::with_capacity(usize::from(udp_length));
    for field in [from_port, to_port, udp_length, 0] {
        udp.extend_from_slice(&field.to_be_bytes());
    }
    udp.extend_from_slice(payload);
    let pseudo = [0, UDP, udp[4], udp[5]];
    // 0 would mean "no checksum".
    let sum = match checksum(&[&ip[12..20], &pseudo, &udp]) {
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    [&to.mac.0[..], &from.mac.0, &ETHERTYPE_IPV4, &ip, &udp].concat()
}

/// The sender and the payload of a frame from a server to a client; `None` for any other frame.
///
/// The checksum of UDP is not looked at: on a veth or a bridge the kernel leaves it to a network card that a frame from
/// the same node never passes.
pub(super) fn from_server(frame: &[u8]) -> Option<(End, &[u8])> {
    let (ethernet, packet) = frame.split_at_checked(ETHERNET_BYTES)?;
    if ethernet[12..14] != ETHERTYPE_IPV4 {
        return None;
    }
    let header_bytes = usize::from(packet.first()? & 0x0f) * 4;
    let header = packet.get(..header_bytes).filter(|header| header.len() >= IP_BYTES)?;
    let total_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    if header[0] >> 4 != 4 || header[9] != UDP || fragment != 0 || checksum(&[header]) != 0 {
        return None;
    }
    // Short frames are padded behind the packet.
    let datagram = packet.get(header_bytes..total_bytes)?;
    let field = |at: usize| Some(u16::from_be_bytes(datagram.get(at..at + 2)?.try_into().ok()?));
    if (field(0)?, field(2)?) != (SERVER_PORT, CLIENT_PORT) {
        return None;
    }
    let payload = datagram.get(UDP_BYTES..usize::from(field(4)?))?;
    let mut mac = [0; 6];
    mac.copy_from_slice(&ethernet[6..12]);
    let address = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    Some((End { mac: MacAddr(mac), address }, payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SERVER: End = End { mac: MacAddr([2, 0, 0, 0, 0, 1]), address: Ipv4Addr::new(10, 0, 0, 1) };
    const CLIENT: End = End { mac: MacAddr([2, 0, 0, 0, 0, 2]), address: Ipv4Addr::new(10, 0, 0, 2) };

    proptest! {
        #[test]
        fn a_frame_reads_back_what_it_carries(payload in prop::collection::vec(any::<u8>(), 0..1400), pad in 0usize..20) {
            let mut frame = encode((SERVER, SERVER_PORT), (CLIENT, CLIENT_PORT), &payload);
            let whole = frame.len();
            frame.resize(whole + pad, 0);
            prop_assert_eq!(from_server(&frame), Some((SERVER, payload.as_slice())));
            for length in 0..whole {
                prop_assert_eq!(from_server(&frame[..length]), None);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(from_server(&bytes), None, "a checksum of 16 bits and two ports do not come by chance");
        }
    }

    #[test]
    fn both_checksums_come_out() {
        let frame = to_server(CLIENT, SERVER, b"odd");
        assert_eq!(checksum(&[&frame[14..34]]), 0);
        assert_eq!(checksum(&[&frame[26..34], &[0, UDP], &frame[38..40], &frame[34..]]), 0);
    }

    #[test]
    fn what_is_for_others_is_left_alone() {
        assert_eq!(from_server(&to_server(CLIENT, SERVER, b"x")), None, "a client's");
        let good = encode((SERVER, SERVER_PORT), (CLIENT, CLIENT_PORT), b"x");
        for (at, value) in [(12, 0x86), (14, 0x65), (20, 0x20), (23, 6), (24, 0), (14, 0x41)] {
            let mut frame = good.clone();
            frame[at] = value;
            // The header's checksum is made good again, so that the field alone is what is refused.
            if at != 24 && at >= 14 {
                frame[24..26].fill(0);
                let sum = checksum(&[&frame[14..34]]);
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            assert_eq!(from_server(&frame), None, "byte {at}");
        }
    }
}
