//! One echo request, and what comes back.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde::Serialize;
use sys::NetNs;

use crate::failure::Failure;
use crate::icmp::{Ear, HEADER, Heard, ip_header};

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// To whom.
    pub to: IpAddr,
    /// Size of the packet in bytes, its IP header included, so that it compares with an MTU. 84 (104 of IPv6) unless given, as ping has it. It
    /// travels in one piece or not at all.
    pub bytes: Option<u32>,
    /// How long to wait.
    pub patience: Duration,
}

impl Ping {
    /// Of the usual size.
    pub fn new(to: IpAddr, patience: Duration) -> Self {
        Ping { to, bytes: None, patience }
    }

    /// The smallest packet that is an echo request.
    pub fn smallest(v6: bool) -> u32 {
        (ip_header(v6) + HEADER) as u32
    }
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pong {
    /// The size of the request, in bytes.
    pub sent_bytes: u32,
    /// The size of the reply, in bytes.
    pub bytes: u32,
    /// When it came.
    pub after: Duration,
}

/// Sends an echo request from a namespace and waits for the reply, or for somebody who says why there is none.
pub fn ping(from: &NetNs, ping: &Ping) -> Result<Pong, Failure> {
    Pinger::open(from, ping.to)?.ping(ping.bytes, ping.patience)
}

/// Asks one destination several times.
#[derive(Debug)]
pub(crate) struct Pinger {
    ear: Ear,
    to: IpAddr,
    id: u16,
    sequence: u16,
}

impl Pinger {
    pub(crate) fn open(from: &NetNs, to: IpAddr) -> Result<Self, Failure> {
        let ear = from.run(|| Ear::open(to.is_ipv6()));
        let ear = ear.and_then(|ear| ear).map_err(Failure::setup("open a raw socket"))?;
        // Several probes at once hear each other's answers: they have to differ.
        let id = sys::random().map_err(Failure::setup("get random bytes"))?;
        Ok(Self { ear, to, id: u16::from_ne_bytes(id), sequence: 0 })
    }

    pub(crate) fn ping(&mut self, bytes: Option<u32>, patience: Duration) -> Result<Pong, Failure> {
        let v6 = self.to.is_ipv6();
        let bytes = bytes.unwrap_or((ip_header(v6) + 64) as u32).clamp(Ping::smallest(v6), 65_535);
        self.sequence = self.sequence.wrapping_add(1);
        let (to, ours) = (self.to, (self.id, self.sequence));
        let start = Instant::now();
        match self.ear.ask(to, ours.0, ours.1, bytes as usize) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => {
                return Err(Failure::TooLarge);
            }
            Err(error) => return Err(Failure::Own { errno: error.raw_os_error().unwrap_or(0) }),
        }
        let heard = self.ear.hear(start + patience, |by, heard| match heard {
            Heard::Reply { id, sequence, bytes: length } if (id, sequence) == ours => {
                Some(Ok(Pong { sent_bytes: bytes, bytes: length as u32, after: start.elapsed() }))
            }
            Heard::Error { notice, about } if about.to == to && about.echo() == Some(ours) => {
                Some(Err(Failure::Told { by, notice }))
            }
            _ => None,
        });
        match heard.map_err(Failure::setup("receive ICMP"))? {
            Some(answer) => answer,
            None => Err(Failure::Silence { waited: patience }),
        }
    }
}
