//! A packet as rules see it, and what became of it.

use std::net::IpAddr;

use model::filter::{AddressType, Family, Hook, Maker};
use serde::Serialize;

/// A packet on its way through a namespace. What is `None` is not known, and a rule that asks for it matches perhaps.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Packet {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// Number of the transport protocol: 6 TCP, 17 UDP, 1 ICMP, 58 ICMPv6.
    pub protocol: u8,
    /// Source port, where the protocol has ports.
    pub source_port: Option<u16>,
    /// Destination port.
    pub destination_port: Option<u16>,
    /// Type and code, of ICMP and ICMPv6.
    pub icmp: Option<(u8, u8)>,
    /// Interface by which it came in; `None` where it was made here, or has no such interface at this hook.
    pub input: Option<String>,
    /// Interface by which it will leave; `None` at hooks before routing.
    pub output: Option<String>,
    /// Port of a bridge by which it came in: of [`Layer::BridgeNetfilter`], and of routed packets where br_netfilter is on.
    pub input_port: Option<String>,
    /// Port of a bridge by which it will leave, of [`Layer::BridgeNetfilter`].
    pub output_port: Option<String>,
    /// Who shows it to the rules.
    pub layer: Layer,
    /// The packet's mark.
    pub mark: u32,
    /// Bits of the mark that are not known: a rule took them from a connection's mark that nobody knows.
    pub unknown_mark: u32,
    /// The connection's mark.
    pub connection_mark: Option<u32>,
    /// What connection tracking says.
    pub state: State,
    /// Of a connection whose destination was translated on the way here.
    pub destination_translated: Option<bool>,
    /// Of a connection whose source was translated on the way here.
    pub source_translated: Option<bool>,
    /// Destination of the connection's first packet, before translation.
    pub original: Option<(IpAddr, Option<u16>)>,
    /// What the routing tables say of the source.
    pub source_type: Option<AddressType>,
    /// What the routing tables say of the destination. Unknown again once the destination was translated.
    pub destination_type: Option<AddressType>,
}

/// Who shows a packet to rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// It is routed, or sent or received by this node: tables of ip, ip6 and inet, and at ingress and egress, netdev.
    Network,
    /// A bridge forwards it: tables of family bridge. Its interfaces are ports of the bridge.
    Bridge,
    /// A bridge forwards it and br_netfilter (`bridge-nf-call-iptables`) shows it to the tables of ip, ip6 and inet. Its
    /// interfaces are the bridge.
    BridgeNetfilter,
}

/// What connection tracking says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The first of a connection: chains of kind nat see it.
    New,
    /// A later one.
    Established,
    /// The first of a connection that another one announced, or an error about one.
    Related,
    /// What belongs to no connection.
    Invalid,
    /// A rule said that it is not to be tracked.
    Untracked,
}

impl Packet {
    /// The first packet of a TCP connection, or a UDP packet (any protocol that has ports).
    pub fn connection(protocol: u8, source: IpAddr, destination: IpAddr, port: u16) -> Self {
        Self { destination_port: Some(port), ..Self::of(protocol, source, destination) }
    }

    /// An echo request.
    pub fn ping(source: IpAddr, destination: IpAddr) -> Self {
        let (protocol, kind) = if destination.is_ipv4() { (1, 8) } else { (58, 128) };
        Self { icmp: Some((kind, 0)), ..Self::of(protocol, source, destination) }
    }

    /// A new packet of which nothing else is known yet.
    pub fn of(protocol: u8, source: IpAddr, destination: IpAddr) -> Self {
        Self {
            source,
            destination,
            protocol,
            source_port: None,
            destination_port: None,
            icmp: None,
            input: None,
            output: None,
            input_port: None,
            output_port: None,
            layer: Layer::Network,
            mark: 0,
            unknown_mark: 0,
            connection_mark: Some(0),
            state: State::New,
            destination_translated: Some(false),
            source_translated: Some(false),
            original: None,
            source_type: None,
            destination_type: None,
        }
    }
}

/// What became of a packet at a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Passage {
    /// Whether it came through.
    pub outcome: Outcome,
    /// The packet afterwards: translated and marked. Its ports of bridges and its interfaces are those that it had.
    pub packet: Packet,
    /// What was changed of it, in order.
    pub changes: Vec<Change>,
    /// Where it may also have got: other endpoints of a balanced service, or what an unknown rule may have made of it.
    pub alternatives: Vec<Alternative>,
    /// The rules that matched, in order; of `packet`'s way.
    pub steps: Vec<RuleRef>,
}

/// Another way that the packet may have taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alternative {
    /// The packet afterwards.
    pub packet: Packet,
    /// What was changed of it, in order.
    pub changes: Vec<Change>,
    /// The rules that matched.
    pub steps: Vec<RuleRef>,
    /// Whether only chance decides. Otherwise it depends on what is not known.
    pub by_chance: bool,
}

/// Whether a packet came through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Whatever is not known.
    Passed,
    /// Whatever is not known. By this rule, or by this chain's policy.
    Dropped(RuleRef),
    /// Like dropped, and the sender is told.
    Rejected(RuleRef),
    /// It depends.
    Perhaps {
        /// What could drop it; `None` where nothing was seen that does, but not all could be read.
        by: Option<RuleRef>,
        /// On what it depends.
        why: String,
    },
}

/// A rule, or the policy of a chain, by where it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct RuleRef {
    /// The table's family.
    pub family: Family,
    /// The table.
    pub table: String,
    /// Who writes the table.
    pub maker: Maker,
    /// The chain.
    pub chain: String,
    /// The hook, of a base chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// Which rule of the chain, from 0; `None` for the chain's policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// nf_tables' handle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    /// As its tool prints it, or `policy drop`. From others: not to be printed raw.
    pub text: String,
}

/// What a rule changed of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The destination became this one.
    Destination {
        /// Address; `None` for this node's own (`redirect`).
        address: Option<IpAddr>,
        /// Port, where it changed.
        port: Option<u16>,
        /// By which rule.
        by: RuleRef,
    },
    /// The source became this one.
    Source {
        /// Address.
        address: IpAddr,
        /// Port, where it changed.
        port: Option<u16>,
        /// By which rule.
        by: RuleRef,
    },
    /// The source becomes that of the interface by which the packet leaves: which one that is, its routes tell.
    Masquerade {
        /// By which rule.
        by: RuleRef,
    },
    /// The mark became this one.
    Mark {
        /// The mark.
        mark: u32,
        /// By which rule.
        by: RuleRef,
    },
    /// Its connection is not tracked, so nothing is translated later either.
    Untracked {
        /// By which rule.
        by: RuleRef,
    },
}

impl Change {
    /// The rule that made it.
    pub fn by(&self) -> &RuleRef {
        match self {
            Change::Destination { by, .. }
            | Change::Source { by, .. }
            | Change::Masquerade { by }
            | Change::Mark { by, .. }
            | Change::Untracked { by } => by,
        }
    }
}

impl Outcome {
    /// The rule that drops it, or may.
    pub fn by(&self) -> Option<&RuleRef> {
        match self {
            Outcome::Passed => None,
            Outcome::Dropped(by) | Outcome::Rejected(by) => Some(by),
            Outcome::Perhaps { by, .. } => by.as_ref(),
        }
    }
}
