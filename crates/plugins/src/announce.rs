//! Telling a bridge's neighbours where an address is now.
//!
//! An address that was another pod's a moment ago is still in the neighbours' tables with that one's MAC, and for up to half a
//! minute (`NUD_REACHABLE`) all that is sent to it is lost. The kernel's own announcement (`arp_notify`, `ndisc_notify`) goes out
//! when the interface comes up: on a bridge before the new port forwards, which follows the carrier with a delay, so nobody gets it.
//! Therefore the bridge itself sends it, out of all ports that do forward.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{IfIndex, MacAddr};
use netlink::{Socket, neigh};

use crate::checksum::checksum;

const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const EVERYBODY: MacAddr = MacAddr([0xff; 6]);
/// Ethernet's group of `ff02::1`, all nodes (RFC 2464, section 7).
const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ICMPV6: u8 = 58;
const NUD_PERMANENT: u16 = 0x80;

/// Announces addresses, to the host and to whoever is behind the bridge's ports. Nothing depends on its success: without it,
/// neighbours find out by themselves, later.
pub(crate) fn announce(socket: &mut Socket, bridge: IfIndex, mac: MacAddr, addresses: &[IpAddr]) {
    let frames: Vec<Vec<u8>> = addresses
        .iter()
        .map(|address| match address {
            IpAddr::V4(v4) => gratuitous_arp(mac, *v4),
            IpAddr::V6(v6) => unsolicited_advertisement(mac, *v6),
        })
        .collect();
    let send = || drop(sys::send_frames(bridge, frames.iter().map(Vec::as_slice)));
    // A packet socket takes 12 ms to close: the kernel waits until nobody looks at it any more. A child waits in our place.
    if sys::fork_detached(&[], send).is_err() {
        send();
    }
    // The host does not hear what it sends itself.
    for address in addresses {
        let known = neigh::get(socket, bridge, *address).ok();
        if known.is_some_and(|known| known.mac != Some(mac) && known.state & NUD_PERMANENT == 0) {
            let _ = socket.ack(neigh::replace(bridge, *address, mac));
        }
    }
}

/// A request for one's own address (RFC 5227, section 2.3).
fn gratuitous_arp(mac: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    // Ethernet, IPv4, their lengths, request.
    const HEADER: [u8; 8] = [0, 1, 0x08, 0x00, 6, 4, 0, 1];
    let own = address.octets();
    [&EVERYBODY.0[..], &mac.0, &ARP, &HEADER, &mac.0, &own, &[0; 6], &own].concat()
}

/// A neighbour advertisement that overrides what is known (RFC 4861, section 7.2.6).
fn unsolicited_advertisement(mac: MacAddr, address: Ipv6Addr) -> Vec<u8> {
    const ADVERTISEMENT: u8 = 136;
    const OVERRIDE: u8 = 0x20;
    const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];
    // Neighbours believe only what no router has passed on.
    const HOP_LIMIT: u8 = 255;
    let own = address.octets();
    let mut message =
        [&[ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0][..], &own, &TARGET_LINK_LAYER_ADDRESS, &mac.0].concat();
    let length = message.len() as u8;
    let sum = checksum(&[&own, &ALL_NODES.octets(), &[0, 0, 0, length, 0, 0, 0, ICMPV6], &message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let header = [0x60, 0, 0, 0, 0, length, ICMPV6, HOP_LIMIT];
    [&ALL_NODES_MAC.0[..], &mac.0, &IPV6, &header, &own, &ALL_NODES.octets(), &message].concat()
}
