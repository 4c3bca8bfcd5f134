//! Random filters, and what they say, found out the slow way: this knows neither the parser nor the compiler.

use std::fmt;
use std::net::IpAddr;

use crate::packets::{MACS, PORTS, V4, V6, VNIS};
use crate::random::Random;

pub(crate) enum Words {
    And(Box<Words>, Box<Words>),
    Or(Box<Words>, Box<Words>),
    Not(Box<Words>),
    Group(Box<Words>),
    One(One),
}

pub(crate) enum One {
    /// `ip`, `arp`, …
    Type(&'static str, u16),
    /// `tcp`, `ip proto 6`: the words, the number, over which.
    Protocol(String, u8, bool, bool),
    Host(&'static str, Side, IpAddr, &'static str),
    Net(&'static str, Side, IpAddr, u32),
    Ports(&'static str, Side, u16, u16),
    Ether(Side, [u8; 6]),
    Multicast(&'static str),
    Less(usize),
    Greater(usize),
    Outgoing(bool),
    Vxlan(Option<u32>),
}

#[derive(Clone, Copy)]
pub(crate) enum Side {
    Any(&'static str),
    Source,
    Destination,
    Both,
}

const SIDES: [Side; 5] =
    [Side::Any(""), Side::Any("src or dst "), Side::Source, Side::Destination, Side::Both];

/// A packet ends before what is asked for.
struct Cut;

/// What is filtered: it begins with an Ethernet header, or with IP's.
#[derive(Clone, Copy)]
pub(crate) struct Packet<'p> {
    pub(crate) bytes: &'p [u8],
    pub(crate) outgoing: bool,
    pub(crate) bare: bool,
}

/// A random filter. `ours`: with what tcpdump does not have.
pub(crate) fn words(random: &mut Random, deep: usize, ours: bool) -> Words {
    let inner = |random: &mut Random| Box::new(words(random, deep.saturating_sub(1), ours));
    match random.below(if deep == 0 { 1 } else { 8 }) {
        1..=3 => Words::And(inner(random), Box::new(closed(random, deep - 1, ours))),
        4..=5 => Words::Or(inner(random), Box::new(closed(random, deep - 1, ours))),
        6 => Words::Not(Box::new(closed(random, deep - 1, ours))),
        7 => Words::Group(inner(random)),
        _ => Words::One(one(random, ours)),
    }
}

/// What stands at the right of `and` and behind `not`: both bind to what is nearest.
fn closed(random: &mut Random, deep: usize, ours: bool) -> Words {
    match words(random, deep, ours) {
        open @ (Words::And(..) | Words::Or(..)) => Words::Group(Box::new(open)),
        closed => closed,
    }
}

fn one(random: &mut Random, ours: bool) -> One {
    let side = random.of(&SIDES);
    match random.below(if ours { 15 } else { 12 }) {
        0 => {
            let (word, kind) = random.of(&[
                ("ip", 0x800),
                ("ip6", 0x86dd),
                ("arp", 0x806),
                ("rarp", 0x8035),
                ("ether proto 0x88cc", 0x88cc),
            ]);
            One::Type(word, kind)
        }
        1 | 2 => {
            let (word, number, v4, v6) = random.of(&[
                ("tcp", 6, true, true),
                ("udp", 17, true, true),
                ("sctp", 132, true, true),
                ("icmp", 1, true, false),
                ("icmp6", 58, false, true),
                ("igmp", 2, true, false),
                ("esp", 50, true, true),
                ("proto 47", 47, true, true),
                ("ip proto 17", 17, true, false),
                ("ip6 proto 58", 58, false, true),
                ("ip proto \\udp", 17, true, false),
            ]);
            One::Protocol(word.to_owned(), number, v4, v6)
        }
        3 | 4 => {
            let address: IpAddr =
                if random.one_in(3) { random.of(&V6) } else { random.of(&V4) }.parse().expect("an address");
            let within = match address {
                IpAddr::V4(_) => random.of(&["", "", "ip ", "arp ", "rarp "]),
                IpAddr::V6(_) => random.of(&["", "ip6 "]),
            };
            One::Host(within, side, address, random.of(&["host ", "host "]))
        }
        5 | 6 => match random.one_in(3) {
            true => {
                One::Net("", side, "fd00::".parse().expect("an address"), random.of(&[16, 48, 64, 32, 8]))
            }
            false => {
                One::Net("", side, "10.244.0.0".parse().expect("an address"), random.of(&[16, 14, 24, 31]))
            }
        },
        7 | 8 => {
            let (from, to) = (random.of(&PORTS), random.of(&PORTS));
            let (from, to) = if random.one_in(2) { (from, from) } else { (from.min(to), from.max(to)) };
            One::Ports(random.of(&["", "", "tcp ", "udp ", "sctp "]), side, from, to)
        }
        9 => One::Ether(side, random.of(&MACS)),
        10 => One::Multicast(random.of(&[
            "ether multicast",
            "ip multicast",
            "ip6 multicast",
            "ether broadcast",
        ])),
        11 => {
            if random.one_in(2) {
                One::Less(40 + random.below(80))
            } else {
                One::Greater(40 + random.below(80))
            }
        }
        12 => One::Outgoing(random.one_in(2)),
        _ => One::Vxlan(if random.one_in(2) { Some(random.of(&VNIS)) } else { None }),
    }
}

impl Words {
    pub(crate) fn keep(&self, packet: Packet<'_>) -> bool {
        let start = if packet.bare { Start::Bare } else { Start::Frame(0) };
        self.look(packet, start).is_ok_and(|(is, _)| is)
    }

    /// Whether it is so, and where what is behind it looks.
    fn look(&self, packet: Packet<'_>, start: Start) -> Result<(bool, Start), Cut> {
        match self {
            Words::And(left, right) => match left.look(packet, start)? {
                (true, start) => right.look(packet, start),
                (false, _) => Ok((false, start)),
            },
            Words::Or(left, right) => match left.look(packet, start)?.0 {
                true => Ok((true, start)),
                false => Ok((right.look(packet, start)?.0, start)),
            },
            Words::Not(inside) => Ok((!inside.look(packet, start)?.0, start)),
            Words::Group(inside) => Ok((inside.look(packet, start)?.0, start)),
            Words::One(One::Vxlan(vni)) => match packet.vxlan(start, *vni)? {
                Some(inside) => Ok((true, Start::Frame(inside))),
                None => Ok((false, start)),
            },
            Words::One(one) => Ok((one.is(packet, start)?, start)),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Start {
    Bare,
    Frame(usize),
}

impl Start {
    fn ip(self) -> usize {
        match self {
            Start::Bare => 0,
            Start::Frame(at) => at + 14,
        }
    }
}

impl Side {
    fn of(self, mut end: impl FnMut(usize) -> Result<bool, Cut>) -> Result<bool, Cut> {
        match self {
            Side::Any(_) => Ok(end(0)? || end(1)?),
            Side::Source => end(0),
            Side::Destination => end(1),
            Side::Both => Ok(end(0)? && end(1)?),
        }
    }
}

impl One {
    fn is(&self, packet: Packet<'_>, start: Start) -> Result<bool, Cut> {
        let ip = start.ip();
        match *self {
            One::Type(_, kind) => packet.is_type(start, kind),
            One::Protocol(_, number, v4, v6) => packet.is_protocol(start, number, v4, v6),
            One::Host(within, side, IpAddr::V4(host), _) => {
                packet.v4(start, within, side, u32::from(host), 32)
            }
            One::Net(within, side, IpAddr::V4(net), bits) => {
                packet.v4(start, within, side, u32::from(net), bits)
            }
            One::Host(_, side, IpAddr::V6(host), _) => packet.v6(start, side, u128::from(host), 128),
            One::Net(_, side, IpAddr::V6(net), bits) => packet.v6(start, side, u128::from(net), bits),
            One::Ports(within, side, from, to) => {
                let protocols: &[u8] = match within {
                    "" => &[6, 17, 132],
                    "tcp " => &[6],
                    "udp " => &[17],
                    _ => &[132],
                };
                let ports = if packet.is_type(start, 0x800)? {
                    if !protocols.contains(&packet.byte(ip + 9)?) || packet.half(ip + 6)? & 0x1fff != 0 {
                        return Ok(false);
                    }
                    ip + usize::from(packet.byte(ip)? & 15) * 4
                } else if packet.is_type(start, 0x86dd)? {
                    if !protocols.contains(&packet.byte(ip + 6)?) {
                        return Ok(false);
                    }
                    ip + 40
                } else {
                    return Ok(false);
                };
                side.of(|end| Ok((from..=to).contains(&packet.half(ports + 2 * end)?)))
            }
            One::Ether(side, mac) => match start {
                Start::Bare => Ok(false),
                Start::Frame(at) => side.of(|end| {
                    let place = at + [6, 0][end];
                    // The last four bytes are looked at first.
                    Ok(packet.bytes(place + 2, 4)? == &mac[2..] && packet.bytes(place, 2)? == &mac[..2])
                }),
            },
            One::Multicast(word) => match (word, start) {
                ("ip multicast", _) => Ok(packet.is_type(start, 0x800)? && packet.byte(ip + 16)? >= 224),
                ("ip6 multicast", _) => Ok(packet.is_type(start, 0x86dd)? && packet.byte(ip + 24)? == 255),
                (_, Start::Bare) => Ok(false),
                ("ether broadcast", Start::Frame(at)) => {
                    Ok(packet.bytes(at + 2, 4)? == [0xff; 4] && packet.bytes(at, 2)? == [0xff; 2])
                }
                (_, Start::Frame(at)) => Ok(packet.byte(at)? & 1 == 1),
            },
            One::Less(bytes) => Ok(packet.bytes.len() <= bytes),
            One::Greater(bytes) => Ok(packet.bytes.len() >= bytes),
            One::Outgoing(outgoing) => Ok(packet.outgoing == outgoing),
            One::Vxlan(_) => unreachable!("it opens something"),
        }
    }
}

impl<'p> Packet<'p> {
    fn bytes(&self, at: usize, length: usize) -> Result<&'p [u8], Cut> {
        self.bytes.get(at..at + length).ok_or(Cut)
    }

    fn byte(&self, at: usize) -> Result<u8, Cut> {
        Ok(self.bytes(at, 1)?[0])
    }

    fn half(&self, at: usize) -> Result<u16, Cut> {
        Ok(u16::from_be_bytes(self.bytes(at, 2)?.try_into().expect("two")))
    }

    fn word(&self, at: usize) -> Result<u32, Cut> {
        Ok(u32::from_be_bytes(self.bytes(at, 4)?.try_into().expect("four")))
    }

    fn is_type(&self, start: Start, kind: u16) -> Result<bool, Cut> {
        match start {
            Start::Frame(at) => Ok(self.half(at + 12)? == kind),
            Start::Bare => match kind {
                0x800 => Ok(self.byte(0)? >> 4 == 4),
                0x86dd => Ok(self.byte(0)? >> 4 == 6),
                _ => Ok(false),
            },
        }
    }

    fn is_protocol(&self, start: Start, number: u8, v4: bool, v6: bool) -> Result<bool, Cut> {
        let ip = start.ip();
        if v4 && self.is_type(start, 0x800)? {
            return Ok(self.byte(ip + 9)? == number);
        }
        if v6 && self.is_type(start, 0x86dd)? {
            let next = self.byte(ip + 6)?;
            return Ok(next == number || next == 44 && self.byte(ip + 40)? == number);
        }
        Ok(false)
    }

    fn v4(&self, start: Start, within: &str, side: Side, net: u32, bits: u32) -> Result<bool, Cut> {
        for (word, kind, places) in
            [("ip ", 0x800, [12, 16]), ("arp ", 0x806, [14, 24]), ("rarp ", 0x8035, [14, 24])]
        {
            if matches!(within, "") || within == word {
                if !self.is_type(start, kind)? {
                    continue;
                }
                return side.of(|end| Ok((self.word(start.ip() + places[end])? ^ net) >> (32 - bits) == 0));
            }
        }
        Ok(false)
    }

    fn v6(&self, start: Start, side: Side, net: u128, bits: u32) -> Result<bool, Cut> {
        if !self.is_type(start, 0x86dd)? {
            return Ok(false);
        }
        side.of(|end| {
            let place = start.ip() + [8, 24][end];
            for n in 0..bits.div_ceil(32) {
                let wanted = (net >> (96 - 32 * n)) as u32;
                let differs = self.word(place + 4 * n as usize)? ^ wanted;
                if differs >> (32 - (bits - 32 * n).min(32)) != 0 {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    fn vxlan(&self, start: Start, vni: Option<u32>) -> Result<Option<usize>, Cut> {
        let ip = start.ip();
        let udp = if self.is_type(start, 0x800)? {
            if self.byte(ip + 9)? != 17 || self.half(ip + 6)? & 0x1fff != 0 {
                return Ok(None);
            }
            ip + usize::from(self.byte(ip)? & 15) * 4
        } else if self.is_type(start, 0x86dd)? {
            if self.byte(ip + 6)? != 17 {
                return Ok(None);
            }
            ip + 40
        } else {
            return Ok(None);
        };
        if !matches!(self.half(udp + 2)?, 8472 | 4789) || self.byte(udp + 8)? & 8 == 0 {
            return Ok(None);
        }
        match vni {
            Some(vni) if self.word(udp + 12)? >> 8 != vni => Ok(None),
            _ => Ok(Some(udp + 16)),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Any(words) => words,
            Side::Source => "src ",
            Side::Destination => "dst ",
            Side::Both => "src and dst ",
        })
    }
}

impl fmt::Display for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            One::Type(words, _) | One::Multicast(words) => f.write_str(words),
            One::Protocol(words, ..) => f.write_str(words),
            One::Host(within, side, host, kind) => write!(f, "{within}{side}{kind}{host}"),
            One::Net(within, side, net, bits) => write!(f, "{within}{side}net {net}/{bits}"),
            One::Ports(within, side, from, to) if from == to => write!(f, "{within}{side}port {from}"),
            One::Ports(within, side, from, to) => write!(f, "{within}{side}portrange {from}-{to}"),
            One::Ether(side, [a, b, c, d, e, g]) => {
                write!(f, "ether {side}host {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
            One::Less(bytes) => write!(f, "less {bytes}"),
            One::Greater(bytes) => write!(f, "greater {bytes}"),
            One::Outgoing(outgoing) => f.write_str(if *outgoing { "outbound" } else { "inbound" }),
            One::Vxlan(None) => f.write_str("vxlan"),
            One::Vxlan(Some(vni)) => write!(f, "vxlan {vni}"),
        }
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Words::And(left, right) => write!(f, "{left} and {right}"),
            Words::Or(left, right) => write!(f, "{left} || {right}"),
            Words::Not(inside) => write!(f, "not {inside}"),
            Words::Group(inside) => write!(f, "({inside})"),
            Words::One(one) => write!(f, "{one}"),
        }
    }
}
