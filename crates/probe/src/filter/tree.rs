//! What a filter says.

use model::MacAddr;

/// A filter, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    /// In parentheses, where what VXLAN has opened ends.
    Group(Box<Node>),
    Test(Test),
}

/// One thing that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    /// The EtherType.
    Type(u16),
    /// IP's protocol.
    Protocol { number: u8, v4: bool, v6: bool },
    /// An IPv4 host or net; in IP, ARP and RARP, or in one of them.
    V4 { within: Option<u16>, side: Side, address: u32, mask: u32 },
    /// An IPv6 host or net.
    V6 { side: Side, address: u128, mask: u128 },
    /// Ports of TCP, UDP and SCTP, or of one of them.
    Ports { protocol: Option<u8>, side: Side, from: u16, to: u16 },
    /// An Ethernet address.
    Ether { side: Side, mac: MacAddr },
    /// An Ethernet group address.
    EtherMulticast,
    /// An IP group address.
    IpMulticast { v6: bool },
    /// At most so long.
    Less(u32),
    /// At least so long.
    Greater(u32),
    /// Leaving the interface, or arriving there.
    Outgoing(bool),
    /// VXLAN, of this network. What follows is about what is inside, which begins where this place of the program's memory says.
    Vxlan { vni: Option<u32>, slot: u32 },
}

/// Which end is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
    Either,
    Both,
}

pub(super) const IPV4: u16 = 0x0800;
pub(super) const ARP: u16 = 0x0806;
pub(super) const RARP: u16 = 0x8035;
pub(super) const IPV6: u16 = 0x86dd;

impl Node {
    pub(super) fn and(self, other: Node) -> Node {
        Node::And(Box::new(self), Box::new(other))
    }

    pub(super) fn or(self, other: Node) -> Node {
        Node::Or(Box::new(self), Box::new(other))
    }

    pub(super) fn negated(self) -> Node {
        Node::Not(Box::new(self))
    }
}
