//! Packets of all kinds that filters are about, from few values, so that filters often fit.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::random::Random;

pub(crate) const V4: [&str; 4] = ["10.244.0.1", "10.244.0.7", "10.244.3.7", "192.0.2.1"];
pub(crate) const V6: [&str; 3] = ["fd00::7", "fd00:0:0:1::7", "2001:db8::1"];
pub(crate) const MACS: [[u8; 6]; 3] = [[0x0a, 0x58, 10, 244, 0, 7], [0xff; 6], [0x33, 0x33, 0, 0, 0, 1]];
pub(crate) const PORTS: [u16; 6] = [53, 80, 443, 8080, 8472, 4789];
pub(crate) const VNIS: [u32; 2] = [1, 42];
const PROTOCOLS: [u8; 8] = [1, 2, 6, 17, 58, 132, 50, 47];

/// An Ethernet frame, sometimes cut.
pub(crate) fn frame(random: &mut Random) -> Vec<u8> {
    let mut bytes = whole_frame(random);
    if random.one_in(8) {
        bytes.truncate(random.below(bytes.len() + 1));
    }
    bytes
}

pub(crate) fn whole_frame(random: &mut Random) -> Vec<u8> {
    whole(random, 2)
}

fn whole(random: &mut Random, deep: usize) -> Vec<u8> {
    let mut bytes = random.of(&MACS).to_vec();
    bytes.extend(random.of(&MACS));
    let (kind, body) = match random.below(10) {
        0 => (0x0806, arp(random)),
        1 => (0x8035, arp(random)),
        2 => (0x88cc, vec![0x45; random.below(60)]),
        3..=5 => (0x86dd, ip6(random, deep)),
        _ => (0x0800, ip4(random, deep)),
    };
    bytes.extend(u16::to_be_bytes(kind));
    bytes.extend(body);
    bytes
}

fn v4(random: &mut Random) -> [u8; 4] {
    random.of(&V4).parse::<Ipv4Addr>().expect("an address").octets()
}

fn v6(random: &mut Random) -> [u8; 16] {
    random.of(&V6).parse::<Ipv6Addr>().expect("an address").octets()
}

fn arp(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, 1];
    bytes.extend(random.of(&MACS));
    bytes.extend(v4(random));
    bytes.extend(random.of(&MACS));
    bytes.extend(v4(random));
    bytes
}

pub(crate) fn ip4(random: &mut Random, deep: usize) -> Vec<u8> {
    let options = random.of(&[0, 0, 0, 1, 10]);
    let protocol = random.of(&PROTOCOLS);
    let offset: u16 = if random.one_in(6) { random.of(&[0x2000, 185, 0x20b9]) } else { 0x4000 };
    let body = transport(random, protocol, deep);
    let mut bytes = vec![0x45 + options as u8, 0];
    bytes.extend(((20 + 4 * options + body.len()) as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(offset.to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(v4(random));
    bytes.extend(if random.one_in(6) { [224, 0, 0, 1] } else { v4(random) });
    bytes.extend(vec![1; 4 * options]);
    bytes.extend(body);
    bytes
}

fn ip6(random: &mut Random, deep: usize) -> Vec<u8> {
    let protocol = random.of(&PROTOCOLS);
    let extension = random.of(&[None, None, None, Some(44), Some(0)]);
    let body = transport(random, protocol, deep);
    let mut bytes = vec![0x60, 0, 0, 0, 0, 0, extension.unwrap_or(protocol), 64];
    bytes.extend(v6(random));
    bytes.extend(if random.one_in(6) { Ipv6Addr::from(0xff02 << 112 | 1).octets() } else { v6(random) });
    if extension.is_some() {
        bytes.extend([protocol, 0, 0, 1, 0, 0, 0, 0]);
    }
    bytes.extend(body);
    bytes
}

fn transport(random: &mut Random, protocol: u8, deep: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let destination = random.of(&PORTS);
    bytes.extend(random.of(&PORTS).to_be_bytes());
    bytes.extend(destination.to_be_bytes());
    if protocol == 17 && deep > 0 && (matches!(destination, 8472 | 4789) || random.one_in(4)) {
        bytes.extend([0; 4]);
        bytes.extend([if random.one_in(8) { 0 } else { 8 }, 0, 0, 0]);
        bytes.extend((random.of(&VNIS) << 8).to_be_bytes());
        bytes.extend(whole(random, deep - 1));
    } else {
        bytes.extend(vec![0x45; random.below(80)]);
    }
    bytes
}
