//! ICMP and ICMPv6: echo requests, and what routers and hosts say about packets of ours.
//!
//! Raw sockets: those for unprivileged pings get errors only without the address of who sent them. RFC 792, 4443; RFC 1191 for the MTU.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};

use crate::failure::Notice;

/// Length of an ICMP header with identifier and sequence number.
pub(crate) const HEADER: usize = 8;
const LARGEST_PACKET: usize = 65_535;

/// A raw socket that sends echo requests and hears all ICMP of its namespace.
#[derive(Debug)]
pub(crate) struct Ear {
    fd: OwnedFd,
    v6: bool,
    buffer: Vec<u8>,
}

/// An ICMP message that is about us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An echo reply.
    Reply { id: u16, sequence: u16, bytes: usize },
    /// What somebody says about a packet.
    Error { notice: Notice, about: Quote },
}

/// The beginning of a packet as an ICMP error quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quote {
    pub(crate) to: IpAddr,
    pub(crate) protocol: u8,
    /// Ports, or type, code, checksum, identifier and sequence number.
    pub(crate) start: [u8; 8],
}

impl Quote {
    /// Whether it is of a TCP segment or a UDP datagram for this address and port.
    pub(crate) fn is_for(&self, to: SocketAddr, protocol: u8) -> bool {
        let port = u16::from_be_bytes([self.start[2], self.start[3]]);
        self.to == to.ip() && self.protocol == protocol && port == to.port()
    }

    /// Of an echo request: identifier and sequence number.
    pub(crate) fn echo(&self) -> Option<(u16, u16)> {
        let [kind, _, _, _, id @ .., s1, s2] = self.start;
        let is_echo = matches!((self.protocol, kind), (1, 8) | (58, 128));
        is_echo.then(|| (u16::from_be_bytes(id), u16::from_be_bytes([s1, s2])))
    }
}

impl Ear {
    /// Opens it in the calling thread's namespace.
    pub(crate) fn open(v6: bool) -> io::Result<Self> {
        let (family, protocol) = match v6 {
            false => (AddressFamily::INET, ipproto::ICMP),
            true => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(family, SocketType::RAW, flags, Some(protocol))?;
        sys::never_fragment(&fd, v6)?;
        Ok(Self { fd, v6, buffer: Vec::new() })
    }

    /// Sends an echo request in a packet of `bytes`, its IP header included.
    pub(crate) fn ask(&self, to: IpAddr, id: u16, sequence: u16, bytes: usize) -> io::Result<()> {
        let mut message = vec![0; bytes.saturating_sub(ip_header(self.v6)).max(HEADER)];
        message[0] = if self.v6 { 128 } else { 8 };
        message[4..6].copy_from_slice(&id.to_be_bytes());
        message[6..8].copy_from_slice(&sequence.to_be_bytes());
        for (place, byte) in message[HEADER..].iter_mut().enumerate() {
            *byte = place as u8;
        }
        // Of ICMPv6 the kernel makes the checksum, since it covers addresses that are chosen later (RFC 3542, 3.1).
        if !self.v6 {
            let sum = checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        self.send(to, 0, &message)
    }

    /// Sends from this address from now on, and hears only what is for it.
    pub(crate) fn bind(&self, source: IpAddr, scope: u32) -> io::Result<()> {
        match source {
            IpAddr::V4(source) => rustix::net::bind(&self.fd, &SocketAddrV4::new(source, 0))?,
            IpAddr::V6(source) => rustix::net::bind(&self.fd, &SocketAddrV6::new(source, 0, 0, scope))?,
        }
        Ok(())
    }

    /// Sends a message as it is.
    pub(crate) fn send(&self, to: IpAddr, scope: u32, message: &[u8]) -> io::Result<()> {
        let none = SendFlags::empty();
        match to {
            IpAddr::V4(to) => rustix::net::sendto(&self.fd, message, none, &SocketAddrV4::new(to, 0))?,
            IpAddr::V6(to) => {
                rustix::net::sendto(&self.fd, message, none, &SocketAddrV6::new(to, 0, 0, scope))?
            }
        };
        Ok(())
    }

    /// Gives what is heard until `deadline`, with its sender, to `wanted`, and returns the first thing that this returns. A deadline that has
    /// passed: what has come by now.
    pub(crate) fn hear<T>(
        &mut self,
        deadline: Instant,
        mut wanted: impl FnMut(IpAddr, Heard) -> Option<T>,
    ) -> io::Result<Option<T>> {
        self.buffer.resize(LARGEST_PACKET, 0);
        loop {
            match rustix::net::recvfrom(&self.fd, &mut *self.buffer, RecvFlags::empty()) {
                Ok((_, length, from)) => {
                    let from = match from.map(SocketAddr::try_from) {
                        Some(Ok(from)) => from.ip(),
                        _ => continue,
                    };
                    let heard = parse(self.v6, &self.buffer[..length]);
                    if let Some(found) = heard.and_then(|heard| wanted(from, heard)) {
                        return Ok(Some(found));
                    }
                }
                Err(Errno::AGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    readable(&self.fd, left)?;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Waits until there is something to read, or the time is over.
pub(crate) fn readable(fd: &impl AsFd, patience: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(patience).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
    match rustix::event::poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Length of an IP header without options.
pub(crate) fn ip_header(v6: bool) -> usize {
    if v6 { 40 } else { 20 }
}

/// Reads a message as a raw socket has it: IPv4's with its IP header, IPv6's without.
pub(crate) fn parse(v6: bool, packet: &[u8]) -> Option<Heard> {
    let (message, whole) = match v6 {
        true => (packet, packet.len() + ip_header(true)),
        false => (packet.get(usize::from(packet.first()? & 15) * 4..)?, packet.len()),
    };
    let word = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let (kind, code) = (*message.first()?, *message.get(1)?);
    let mtu = match v6 {
        true => u32::from(word(4)?) << 16 | u32::from(word(6)?),
        false => u32::from(word(6)?),
    };
    let notice = match (v6, kind, code) {
        (false, 0, _) | (true, 129, _) => {
            return Some(Heard::Reply { id: word(4)?, sequence: word(6)?, bytes: whole });
        }
        (false, 3, 0 | 5 | 6 | 8 | 11) | (true, 1, 0) => Notice::NetworkUnreachable,
        (false, 3, 1 | 7 | 12) | (true, 1, 2 | 3) => Notice::HostUnreachable,
        (false, 3, 2) | (true, 4, 1) => Notice::ProtocolUnreachable,
        (false, 3, 3) | (true, 1, 4) => Notice::PortUnreachable,
        (false, 3, 4) | (true, 2, _) => Notice::TooBig { mtu_bytes: mtu },
        (false, 3, 9 | 10 | 13) | (true, 1, 1 | 5 | 6) => Notice::Prohibited,
        (false, 11, _) | (true, 3, _) => Notice::TimeExceeded,
        (false, 3 | 4 | 12, _) | (true, 1 | 4, _) => Notice::Other { kind, code },
        _ => return None,
    };
    let about = quote(v6, message.get(HEADER..)?)?;
    Some(Heard::Error { notice, about })
}

fn quote(v6: bool, packet: &[u8]) -> Option<Quote> {
    let (to, protocol, length) = match v6 {
        false => {
            let to = <[u8; 4]>::try_from(packet.get(16..20)?).ok()?;
            (IpAddr::V4(Ipv4Addr::from(to)), *packet.get(9)?, usize::from(packet.first()? & 15) * 4)
        }
        true => {
            let to = <[u8; 16]>::try_from(packet.get(24..40)?).ok()?;
            (IpAddr::V6(Ipv6Addr::from(to)), *packet.get(6)?, 40)
        }
    };
    let start = packet.get(length..length + 8)?.try_into().ok()?;
    Some(Quote { to, protocol, start })
}

/// RFC 1071.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A router's answer: its own IP header, the error, and the quoted packet.
    fn answer(kind: u8, code: u8, mtu: u16) -> Vec<u8> {
        let mut packet = vec![0x45; 1];
        packet.resize(20, 0);
        packet.extend_from_slice(&[kind, code, 0, 0, 0, 0]);
        packet.extend_from_slice(&mtu.to_be_bytes());
        let quoted = packet.len();
        packet.resize(quoted + 28, 0);
        packet[quoted] = 0x45;
        packet[quoted + 9] = 1;
        packet[quoted + 16..quoted + 20].copy_from_slice(&[10, 0, 0, 2]);
        packet[quoted + 20..].copy_from_slice(&[8, 0, 0, 0, 0x12, 0x34, 0, 7]);
        packet
    }

    #[test]
    fn an_error_says_what_about_which_packet() {
        let heard = parse(false, &answer(3, 4, 1400)).unwrap();
        let Heard::Error { notice, about } = heard else { panic!("{heard:?}") };
        assert_eq!(notice, Notice::TooBig { mtu_bytes: 1400 });
        assert_eq!((about.to.to_string().as_str(), about.echo()), ("10.0.0.2", Some((0x1234, 7))));
    }

    #[test]
    fn a_message_that_is_cut_is_none_and_never_a_panic() {
        let whole = answer(3, 1, 0);
        for v6 in [false, true] {
            for cut in 0..whole.len() {
                assert!(matches!(parse(v6, &whole[..cut]), None | Some(Heard::Reply { .. })), "{cut}");
            }
        }
    }

    #[test]
    fn the_checksum_is_the_rfcs() {
        // RFC 1071, 3: the sum of these is ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0xff]), 0x00ff);
    }
}
