//! Packets that are told from all others wherever they pass: a random number is in each, where no translation of addresses changes it. In
//! echo requests and datagrams that is what they carry, in the first segment of a TCP connection it is the sequence number.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use sys::{FilterStep, NetNs};

use crate::capture::{LinkType, Packet};
use crate::failure::{Failure, Notice};
use crate::icmp::{Ear, Heard, checksum, ip_header};

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An echo request.
    Icmp,
    /// The first segment of a connection, to this port. The answer is refused by the sender's kernel, which knows of no connection.
    Tcp(u16),
    /// A datagram to this port.
    Udp(u16),
}

/// The mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The transport protocol's number.
    pub protocol: u8,
    /// The number that is in every packet.
    pub number: u32,
    /// Where it is, in bytes from the transport header on.
    pub offset: u32,
}

/// A packet with the mark, as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its length in bytes, its own IP header included; without a tunnel's.
    pub bytes: u32,
    /// It answers ours.
    pub is_answer: bool,
    /// It refuses the connection (RST).
    pub is_refusal: bool,
    /// It was in a tunnel's packet.
    pub in_tunnel: bool,
}

/// Sends marked packets from a namespace to one destination.
#[derive(Debug)]
pub struct Sender {
    mark: Mark,
    kind: Kind,
    to: IpAddr,
    scope: u32,
    socket: Sending,
    ear: Option<Ear>,
}

#[derive(Debug)]
enum Sending {
    Icmp(Ear),
    Udp(UdpSocket),
    Tcp { socket: std::os::fd::OwnedFd, source: IpAddr, port: u16 },
}

/// What Ethernet, UDP and VXLAN put between the headers of a tunnel's packet and of the one in it, in bytes.
const TUNNEL: u32 = 8 + 8 + 14;

impl Mark {
    fn new(kind: Kind, v6: bool) -> Result<Self, Failure> {
        let number: [u8; 4] = sys::random().map_err(Failure::setup("get random bytes"))?;
        let (protocol, offset) = match (kind, v6) {
            (Kind::Icmp, false) => (1, 8),
            (Kind::Icmp, true) => (58, 8),
            (Kind::Tcp(_), _) => (6, 4),
            (Kind::Udp(_), _) => (17, 8),
        };
        Ok(Self { protocol, number: u32::from_be_bytes(number), offset })
    }

    /// A program that keeps packets with the mark, and answers to them, also those in VXLAN packets for one of these ports.
    pub fn filter(&self, vxlan_ports: &[u16]) -> Vec<FilterStep> {
        let mut marks = vec![(self.offset, self.number)];
        if self.protocol == 6 {
            // An answer acknowledges the number.
            marks.push((8, self.number.wrapping_add(1)));
        }
        let mut ways: Vec<Vec<Check>> = Vec::new();
        for (offset, number) in marks {
            for v6 in [false, true] {
                ways.push(headers(v6, self.protocol, 14, offset, number));
            }
            for (outer_v6, port) in
                [false, true].into_iter().flat_map(|v6| vxlan_ports.iter().map(move |p| (v6, *p)))
            {
                for v6 in [false, true] {
                    let mut way = headers(outer_v6, 17, 14, 0, 0);
                    way.pop();
                    let from = if outer_v6 { 14 + 40 } else { 14 };
                    way.push(Check::half(from + 2, !outer_v6, u32::from(port)));
                    way.push(Check::half(from + TUNNEL - 2, !outer_v6, if v6 { 0x86dd } else { 0x800 }));
                    let inner = from + TUNNEL;
                    let (at, length) = if v6 { (6, 40) } else { (9, 20) };
                    way.push(Check::byte(inner + at, !outer_v6, u32::from(self.protocol)));
                    way.push(Check::word(inner + length + offset, !outer_v6, number));
                    ways.push(way);
                }
            }
        }
        assemble(&ways)
    }

    /// Whether a captured packet has the mark.
    pub fn find(&self, packet: &Packet) -> Option<Seen> {
        let data = match packet.link {
            LinkType::Ethernet => inside_ethernet(&packet.data)?,
            LinkType::Ip => &packet.data,
        };
        self.find_in(data, false)
    }

    fn find_in(&self, ip: &[u8], in_tunnel: bool) -> Option<Seen> {
        let v6 = ip.first()? >> 4 == 6;
        let (protocol, length, bytes) = match v6 {
            false => (*ip.get(9)?, usize::from(ip[0] & 15) * 4, half(ip, 2)?.into()),
            true => (*ip.get(6)?, 40, u32::from(half(ip, 4)?) + 40),
        };
        let transport = ip.get(length..)?;
        if protocol == self.protocol {
            let word = |at: usize| Some(u32::from_be_bytes(transport.get(at..at + 4)?.try_into().ok()?));
            let acknowledges = protocol == 6 && word(8) == Some(self.number.wrapping_add(1));
            let is_answer =
                acknowledges || matches!((protocol, transport.first()), (1, Some(0)) | (58, Some(129)));
            if acknowledges || word(self.offset as usize) == Some(self.number) {
                const RST: u8 = 4;
                let is_refusal = acknowledges && transport.get(13).is_some_and(|flags| flags & RST != 0);
                return Some(Seen { bytes, is_answer, is_refusal, in_tunnel });
            }
        }
        if protocol == 17 && !in_tunnel {
            return self.find_in(inside_ethernet(transport.get(16..)?)?, true);
        }
        None
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// What is in a frame, behind tags of VLANs.
fn inside_ethernet(frame: &[u8]) -> Option<&[u8]> {
    let mut data = frame.get(12..)?;
    while matches!(half(data, 0)?, 0x8100 | 0x88a8) {
        data = data.get(4..)?;
    }
    matches!(half(data, 0)?, 0x800 | 0x86dd).then(|| &data[2..])
}

/// A comparison of a program.
#[derive(Clone, Copy)]
struct Check {
    load: u16,
    at: u32,
    /// Behind an IPv4 header, whose length has been put into the index register.
    behind_v4: bool,
    value: u32,
}

/// Operations of classic BPF (linux/bpf_common.h): load from an absolute place or from behind the index register.
const LD_WORD: u16 = 0x20;
const LD_HALF: u16 = 0x28;
const LD_BYTE: u16 = 0x30;
const INDIRECT: u16 = 0x20;
const LDX_HEADER: u16 = 0xb1;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

impl Check {
    fn byte(at: u32, behind_v4: bool, value: u32) -> Self {
        Self { load: LD_BYTE, at, behind_v4, value }
    }

    fn half(at: u32, behind_v4: bool, value: u32) -> Self {
        Self { load: LD_HALF, at, behind_v4, value }
    }

    fn word(at: u32, behind_v4: bool, value: u32) -> Self {
        Self { load: LD_WORD, at, behind_v4, value }
    }
}

/// An IP header of a family at `at`, its protocol, and a number in what follows.
fn headers(v6: bool, protocol: u8, at: u32, offset: u32, number: u32) -> Vec<Check> {
    let (kind, place) = if v6 { (0x86dd, at + 6) } else { (0x800, at + 9) };
    let from = if v6 { at + 40 } else { at };
    vec![
        Check::half(at - 2, false, kind),
        Check::byte(place, false, u32::from(protocol)),
        Check::word(from + offset, !v6, number),
    ]
}

/// A program that keeps what passes all checks of one of the ways. A load beyond a packet's end ends it, so what is short is not kept.
fn assemble(ways: &[Vec<Check>]) -> Vec<FilterStep> {
    let step = |code, jt, jf, k| FilterStep { code, jt, jf, k };
    let mut program = Vec::new();
    for way in ways {
        // How many steps each check takes, to know how far it is to the next way.
        let length = |check: &Check| if check.behind_v4 { 3 } else { 2 };
        let mut left: u8 = way.iter().map(length).sum::<u8>() + 1;
        for check in way {
            left -= length(check);
            if check.behind_v4 {
                program.push(step(LDX_HEADER, 0, 0, 14));
            }
            let indirect = if check.behind_v4 { INDIRECT } else { 0 };
            // BPF_ABS is 0x20, BPF_IND 0x40: the one plus 0x20 is the other.
            program.push(step(check.load + indirect, 0, 0, check.at));
            program.push(step(JUMP_EQUAL, 0, left, check.value));
        }
        program.push(step(RETURN, 0, 0, u32::MAX));
    }
    program.push(step(RETURN, 0, 0, 0));
    program
}

impl Sender {
    /// Opens its sockets in the namespace. `source` is the address to send from, and whether an echo request is bound to it; without, the
    /// kernel chooses it when the route is known, as for ping.
    pub fn open(
        from: &NetNs,
        kind: Kind,
        (source, is_bound): (Option<IpAddr>, bool),
        to: IpAddr,
        scope: u32,
    ) -> Result<Self, Failure> {
        let mark = Mark::new(kind, to.is_ipv6())?;
        let opened = from.run(|| -> io::Result<(Sending, Option<Ear>)> {
            let v6 = to.is_ipv6();
            let any = if v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
            Ok(match kind {
                Kind::Icmp => {
                    let ear = Ear::open(v6)?;
                    if let Some(source) = source.filter(|_| is_bound) {
                        ear.bind(source, scope)?;
                    }
                    (Sending::Icmp(ear), None)
                }
                Kind::Udp(_) => {
                    let socket = UdpSocket::bind((source.unwrap_or(any), 0))?;
                    sys::never_fragment(&socket, v6)?;
                    (Sending::Udp(socket), Ear::open(v6).ok())
                }
                Kind::Tcp(_) => {
                    let source = source.ok_or(io::ErrorKind::AddrNotAvailable)?;
                    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
                    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                    let socket =
                        rustix::net::socket_with(family, SocketType::RAW, flags, Some(ipproto::TCP))?;
                    rustix::net::bind(&socket, &at(source, 0, scope))?;
                    // A port that nobody is likely to have: connections of others are not to be disturbed.
                    let port = 61_000 + (mark.number % 4_000) as u16;
                    (Sending::Tcp { socket, source, port }, Ear::open(v6).ok())
                }
            })
        });
        let (socket, ear) = opened.and_then(|opened| opened).map_err(Failure::setup("open a raw socket"))?;
        Ok(Self { mark, kind, to, scope, socket, ear })
    }

    /// What its packets are told by.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// The smallest packet that has the mark, its IP header included.
    pub fn smallest(&self) -> u32 {
        let transport = if matches!(self.kind, Kind::Tcp(_)) { 20 } else { 64 };
        ip_header(self.to.is_ipv6()) as u32 + transport
    }

    /// Sends a packet of so many bytes, its IP header included. That of a connection has one size only.
    pub fn send(&mut self, bytes: u32) -> Result<(), Failure> {
        let v6 = self.to.is_ipv6();
        let payload = (bytes as usize).saturating_sub(ip_header(v6) + 8).max(4);
        let mut body = vec![0; payload];
        body[..4].copy_from_slice(&self.mark.number.to_be_bytes());
        let sent = match &self.socket {
            Sending::Icmp(ear) => {
                let mut message = vec![0; 8];
                message[0] = if v6 { 128 } else { 8 };
                message[4..6].copy_from_slice(&self.mark.number.to_be_bytes()[..2]);
                message.extend_from_slice(&body);
                if !v6 {
                    let sum = checksum(&message);
                    message[2..4].copy_from_slice(&sum.to_be_bytes());
                }
                ear.send(self.to, self.scope, &message)
            }
            Sending::Udp(socket) => {
                let Kind::Udp(port) = self.kind else { return Ok(()) };
                socket.send_to(&body, at(self.to, port, self.scope)).map(drop)
            }
            Sending::Tcp { socket, source, port } => {
                let Kind::Tcp(to) = self.kind else { return Ok(()) };
                let segment = syn(*source, *port, self.to, to, self.mark.number);
                let address = at(self.to, 0, self.scope);
                rustix::net::sendto(socket, &segment, SendFlags::empty(), &address)
                    .map(drop)
                    .map_err(Into::into)
            }
        };
        sent.map_err(|error| match error.raw_os_error() {
            Some(errno) if errno == rustix::io::Errno::MSGSIZE.raw_os_error() => Failure::TooLarge,
            errno => Failure::Own { errno: errno.unwrap_or(0) },
        })
    }

    /// What routers and the destination have said about its packets by now.
    pub fn told(&mut self) -> Vec<(IpAddr, Notice)> {
        let mut told = Vec::new();
        let (to, mark) = (self.to, self.mark);
        let id = u16::from_be_bytes([(mark.number >> 24) as u8, (mark.number >> 16) as u8]);
        let ear = match &mut self.socket {
            Sending::Icmp(ear) => Some(ear),
            Sending::Udp(_) | Sending::Tcp { .. } => self.ear.as_mut(),
        };
        let heard = ear.map(|ear| {
            ear.hear(Instant::now(), |by, heard| {
                if let Heard::Error { notice, about } = heard
                    && about.to == to
                    && about.protocol == mark.protocol
                    && (about.echo().is_none() || about.echo().is_some_and(|(own, _)| own == id))
                {
                    told.push((by, notice));
                }
                None::<()>
            })
        });
        drop(heard);
        // What a raw socket of TCP hears is of no use here, and would fill its buffer.
        if let Sending::Tcp { socket, .. } = &self.socket {
            let mut buffer = [0; 64];
            while rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT).is_ok() {}
        }
        told
    }
}

/// How long a probe is watched at most after its answer: what else it causes on the way has been seen by then.
pub const LINGER: Duration = Duration::from_millis(2);

fn at(address: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match address {
        IpAddr::V4(address) => SocketAddrV4::new(address, port).into(),
        IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, scope).into(),
    }
}

/// The first segment of a connection (RFC 9293, 3.1).
fn syn(source: IpAddr, port: u16, to: IpAddr, to_port: u16, sequence: u32) -> Vec<u8> {
    const SYN: u8 = 2;
    let mut segment = vec![0; 20];
    segment[..2].copy_from_slice(&port.to_be_bytes());
    segment[2..4].copy_from_slice(&to_port.to_be_bytes());
    segment[4..8].copy_from_slice(&sequence.to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = SYN;
    segment[14..16].copy_from_slice(&64_240u16.to_be_bytes());
    let mut pseudo = Vec::new();
    for address in [source, to] {
        match address {
            IpAddr::V4(address) => pseudo.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => pseudo.extend_from_slice(&address.octets()),
        }
    }
    pseudo.extend_from_slice(&[0, 6, 0, 20]);
    pseudo.extend_from_slice(&segment);
    let sum = checksum(&pseudo);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_segment_of_a_connection_has_a_right_checksum() {
        let (source, to) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let segment = syn(source, 61_000, to, 80, 7);
        let pseudo = [&[10, 0, 0, 1, 10, 0, 0, 2, 0, 6, 0, 20][..], &segment].concat();
        assert_eq!(checksum(&pseudo), 0);
    }

    #[test]
    fn a_packet_that_is_cut_has_no_mark_and_is_no_panic() {
        let mark = Mark { protocol: 1, number: 0x0102_0304, offset: 8 };
        let mut data = vec![0; 12];
        data.extend_from_slice(&[8, 0, 0x45, 0, 0, 36, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        data.extend_from_slice(&[8, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
        let packet = |length: usize| Packet {
            at_ns: 0,
            interface: model::IfIndex(1),
            outgoing: false,
            link: LinkType::Ethernet,
            original_bytes: length as u32,
            data: data[..length].to_vec(),
        };
        let seen = mark.find(&packet(data.len()));
        assert_eq!(seen, Some(Seen { bytes: 36, is_answer: false, is_refusal: false, in_tunnel: false }));
        assert!((0..data.len()).all(|cut| mark.find(&packet(cut)).is_none()));
    }
}
