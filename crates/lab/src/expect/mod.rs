//! What `verify` checks, one sentence each: `ping a -> b`, `no tcp a -> b:80`, `mtu a -> b = 1450`.
//!
//! A sentence is read with the wiring that it is about, so that a machine or interface that does not exist is noticed before anything is
//! sent. docs/labs.md has all forms.

mod read;
mod values;
mod words;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use model::IfName;

use crate::wiring::{Machine, Wiring};

pub use read::{FORMS, parse};

/// A sentence that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// As it was written.
    pub text: String,
    /// Whether it begins with `no` or `nothing`: the check must not succeed.
    pub negated: bool,
    /// What is checked.
    pub check: Check,
    /// The time limit, where one is given.
    pub within: Option<Duration>,
}

/// A check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// An echo request comes back.
    Ping {
        /// Who sends, and to whom.
        way: Way,
        /// Only this family; both where both ends have both.
        family: Option<Family>,
        /// Size of the packet in bytes, its IP header included.
        bytes: Option<u32>,
    },
    /// A connection can be made.
    Tcp {
        /// From where to where.
        way: Way,
        /// The port.
        port: u16,
    },
    /// A datagram comes back from an echo service.
    Udp {
        /// From where to where.
        way: Way,
        /// The port.
        port: u16,
    },
    /// A web server answers.
    Http {
        /// From where to where.
        way: Way,
        /// The server's port.
        port: u16,
        /// What the server is called in the URL.
        host: String,
        /// The path, from its `/` on.
        path: String,
        /// The status that it answers with; any unless given.
        status: Option<u16>,
    },
    /// The largest packet that travels in one piece.
    Mtu {
        /// From where to where.
        way: Way,
        /// How it compares.
        compare: Compare,
        /// With how many bytes.
        bytes: u32,
    },
    /// How much goes through a TCP connection.
    Throughput {
        /// From where to where.
        way: Way,
        /// The port that it is measured on; one that the kernel chooses unless given.
        port: Option<u16>,
        /// How it compares.
        compare: Compare,
        /// With how many bits a second.
        bits_per_second: u64,
    },
    /// Which way the kernel takes.
    Route {
        /// From where to where.
        way: Way,
        /// The next hop.
        via: Option<Target>,
        /// The outgoing interface.
        device: Option<IfName>,
    },
    /// Packets pass an interface.
    Captured {
        /// Of which machine.
        machine: String,
        /// Which interface; any unless given.
        device: Option<IfName>,
        /// What kind of packets.
        pattern: Pattern,
        /// What sends them.
        during: Box<Check>,
    },
}

/// From where to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The machine that sends.
    pub from: String,
    /// To whom.
    pub to: Target,
}

/// Somebody to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A machine of the lab, by whichever address is best.
    Machine(String),
    /// An address, whoever has it.
    Address(IpAddr),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Machine(name) => f.write_str(name),
            Target::Address(address) => address.fmt(f),
        }
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// Whether plugins make interfaces in a machine: it is a pod, or the node of one. What they are called is known when they are there.
pub(crate) fn is_wired_by_plugins(wiring: &Wiring, machine: &Machine) -> bool {
    let is_its_pod = |pod: &Machine| pod.cni.is_some() && pod.node.as_deref() == Some(&machine.name);
    machine.cni.is_some() || wiring.machines.iter().any(is_its_pod)
}

/// How a number compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
}

impl Compare {
    /// Whether `found` is what is wanted.
    pub fn holds<T: Ord>(self, found: T, wanted: T) -> bool {
        match self {
            Compare::Equal => found == wanted,
            Compare::AtLeast => found >= wanted,
            Compare::AtMost => found <= wanted,
        }
    }
}

/// What kind of packets: all that is given has to fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pattern {
    /// Protocol.
    pub protocol: Option<Protocol>,
    /// Source or destination port.
    pub port: Option<u16>,
    /// Source or destination.
    pub host: Option<Target>,
}

/// Protocols that packets are told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the protocols' names")]
pub enum Protocol {
    Arp,
    Icmp,
    Tcp,
    Udp,
}

/// A sentence that was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectError {
    /// Where in the sentence, in characters from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for ExpectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.what)
    }
}

impl std::error::Error for ExpectError {}
