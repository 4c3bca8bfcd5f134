//! The packet filter as data: what nftables and both iptables would do with a packet, whoever wrote it.
//!
//! One shape for all of them: x_tables' built-in chains are base chains here, and what `iptables` and `nft` compare is the same
//! [`Match`]. What is not understood stays as text ([`Match::Other`], [`Action::Other`]), so that whoever asks what happens to a packet
//! gets a "perhaps" there, never a wrong answer.
//!
//! A node with kube-proxy has 20,000 rules, so everything that is usual is left out of the JSON.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::coverage::Gap;
use crate::ids::MacAddr;

/// All tables of a network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ruleset {
    /// Tables, those of nf_tables first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<Table>,
    /// What could not be read: a rule there could drop any packet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Which packets it sees.
    pub family: Family,
    /// `filter`, `nat`, `kube-proxy`.
    pub name: String,
    /// Which tool writes it.
    pub maker: Maker,
    /// Switched off (`flags dormant`): its chains are not called.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dormant: bool,
    /// Chains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chains: Vec<Chain>,
    /// Sets and maps, also those without a name of their own (`__set0`), which one rule uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<Set>,
}

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// ARP.
    Arp,
    /// Frames that a bridge forwards.
    Bridge,
    /// Everything that comes to, or leaves by, one device.
    Netdev,
}

impl Family {
    /// As nft writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Arp => "arp",
            Family::Bridge => "bridge",
            Family::Netdev => "netdev",
        }
    }
}

/// Which tool writes a table. They do not see each other's, but a packet passes all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Maker {
    /// nft, or a program that speaks nf_tables itself.
    Nft,
    /// iptables-nft: in nf_tables, with rules as iptables writes them.
    IptablesNft,
    /// iptables-legacy: x_tables.
    IptablesLegacy,
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Maker::Nft => "nft",
            Maker::IptablesNft => "iptables-nft",
            Maker::IptablesLegacy => "iptables-legacy",
        })
    }
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where the kernel calls it; without, only rules lead here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Its rules, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Where it is called.
    pub hook: Hook,
    /// Lower ones are called first.
    pub priority: i32,
    /// What it may do.
    pub kind: ChainKind,
    /// Of [`Family::Netdev`], and of [`Hook::Ingress`]: its devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// What becomes of a packet that gets to its end.
    #[serde(default, skip_serializing_if = "Policy::is_accept")]
    pub policy: Policy,
}

/// Where the kernel calls chains on a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Hook {
    Ingress,
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    Egress,
}

impl Hook {
    /// As nft writes it; iptables writes it in capitals.
    pub fn as_str(self) -> &'static str {
        match self {
            Hook::Ingress => "ingress",
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
            Hook::Egress => "egress",
        }
    }
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainKind {
    /// Let pass or not.
    Filter,
    /// Translate addresses. Only the first packet of a connection gets there.
    Nat,
    /// Like filter, and the packet is routed again when its mark was changed.
    Route,
}

/// What becomes of a packet that gets to the end of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Policy {
    #[default]
    Accept,
    Drop,
}

impl Policy {
    fn is_accept(&self) -> bool {
        *self == Policy::Accept
    }
}

/// A rule: when all matches fit, the actions are done in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rule {
    /// nf_tables' number of it (`nft -a list ruleset`); x_tables has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    /// Close to how `nft list` or `iptables -S` (after `-A CHAIN`) print it. From others: not to be printed raw.
    pub text: String,
    /// Its comment.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// How often it was used, where it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<Counter>,
    /// What a packet has to be like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Match>,
    /// What is done with it. Empty for a rule that only counts, logs, or changes what no other rule looks at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
}

/// How often a rule was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are what they are called")]
pub struct Counter {
    pub packets: u64,
    pub bytes: u64,
}

/// One thing that a packet has to be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Match {
    /// A field is one of some values (or with `not`, none of them). With a mask, which only numbers have, its bits are taken first:
    /// `ct state established,related` is `ct state & 6` that is not 0.
    Is {
        /// What is looked at.
        field: Field,
        /// The bits that count.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mask: Option<u64>,
        /// None of the values.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        not: bool,
        /// The values.
        values: Vec<Value>,
    },
    /// The fields together are an element of a set of the same table (or with `not`, are not).
    In {
        /// What is looked at.
        fields: Vec<Field>,
        /// Not an element.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        not: bool,
        /// The set's name.
        set: String,
    },
    /// Some packets, by chance or in turn: `-m statistic`, a comparison with `numgen`. Load balancing.
    Sometimes(String),
    /// Not understood.
    Other(String),
}

/// What a rule looks at in or beside a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// [`Value::Net`].
    SourceAddress,
    /// [`Value::Net`].
    DestinationAddress,
    /// Number of the transport protocol (`IPPROTO_*`).
    Protocol,
    /// `NFPROTO_*`: 2 is IPv4, 10 is IPv6.
    Family,
    /// Number.
    SourcePort,
    /// Number.
    DestinationPort,
    /// [`Value::Name`]. Routed packets that a bridge's port brought came in by the bridge.
    InInterface,
    /// [`Value::Name`].
    OutInterface,
    /// [`Value::Name`]: the bridge's port by which it came.
    InPort,
    /// [`Value::Name`]: the bridge's port by which it will leave.
    OutPort,
    /// Number: the packet's mark.
    Mark,
    /// Number: the connection's mark.
    ConnectionMark,
    /// Bits: 1 invalid, 2 established, 4 related, 8 new, 64 untracked (`NF_CT_STATE_*`).
    ConnectionState,
    /// Bits: 16 source translated, 32 destination translated (`IPS_*`).
    ConnectionStatus,
    /// 0 original, 1 reply.
    ConnectionDirection,
    /// [`Value::Net`]: the source of the connection's first packet, before translation.
    OriginalSource,
    /// [`Value::Net`]: the destination of the connection's first packet, before translation.
    OriginalDestination,
    /// Number: the destination port of the connection's first packet, before translation.
    OriginalPort,
    /// Number of an [`AddressType`].
    SourceType,
    /// Number of an [`AddressType`].
    DestinationType,
    /// Number, of ICMP or ICMPv6.
    IcmpType,
    /// Number, of ICMP or ICMPv6.
    IcmpCode,
    /// Bits: 1 FIN, 2 SYN, 4 RST, 16 ACK.
    TcpFlags,
    /// `PACKET_*`: 0 to this host, 1 broadcast, 2 multicast, 3 to another host.
    PacketType,
    /// Type of an Ethernet frame: 0x0800 is IPv4.
    EtherType,
    /// [`Value::Mac`].
    EtherSource,
    /// [`Value::Mac`].
    EtherDestination,
    /// 1 while a bridge forwards it and br_netfilter shows it to iptables (`-m physdev --physdev-is-bridged`), else 0.
    Bridged,
    /// A number below this one by chance, in turn, or by a hash (`numgen`, `jhash`): load balancing.
    Random(u32),
}

/// What a field is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// Addresses of a prefix; a whole prefix length is one address.
    Net(IpNet),
    /// Addresses from one to another.
    Addresses(IpAddr, IpAddr),
    /// A number.
    Number(u64),
    /// Numbers from one to another.
    Numbers(u64, u64),
    /// An interface's name.
    Name(String),
    /// Interfaces whose names begin so (`eth*`, iptables' `eth+`).
    Names(String),
    /// An Ethernet address.
    Mac(MacAddr),
    /// Anything: the element of a set that stands for all others.
    Any,
    /// Not understood.
    Other(String),
}

/// What kind of address a routing table says that one is (`RTN_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum AddressType {
    Unspecified = 0,
    Unicast = 1,
    Local = 2,
    Broadcast = 3,
    Anycast = 4,
    Multicast = 5,
    Blackhole = 6,
    Unreachable = 7,
    Prohibit = 8,
}

/// What a rule does with a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Ends the base chain; chains of higher priority still come.
    Accept,
    /// The packet is gone.
    Drop,
    /// The packet is gone, and its sender is told: with what, as nft or iptables write it.
    Reject(String),
    /// Back to the rule after the one that led here; from a base chain, to its policy.
    Return,
    /// To another chain of the table, and back.
    Jump(String),
    /// To another chain of the table, and back to where this one would have gone back to.
    Goto(String),
    /// The source becomes that of the interface by which the packet leaves. Ends the base chain.
    Masquerade {
        /// To one of these ports.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ports: Option<(u16, u16)>,
    },
    /// The source becomes another. Ends the base chain.
    SourceNat(Translation),
    /// The destination becomes another. Ends the base chain.
    DestinationNat(Translation),
    /// The destination becomes this node. Ends the base chain.
    Redirect {
        /// To one of these ports.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ports: Option<(u16, u16)>,
    },
    /// The packet's mark becomes `mark & !mask ^ value`.
    SetMark {
        /// Bits to flip, or with the mask, to set.
        value: u32,
        /// Bits to clear before.
        mask: u32,
    },
    /// The connection's mark becomes `mark & !mask ^ value`.
    SetConnectionMark {
        /// Bits to flip, or with the mask, to set.
        value: u32,
        /// Bits to clear before.
        mask: u32,
    },
    /// The connection's mark becomes the packet's (`CONNMARK --save-mark`), as far as the mask goes.
    SaveMark {
        /// The bits.
        mask: u32,
    },
    /// The packet's mark becomes the connection's (`CONNMARK --restore-mark`), as far as the mask goes.
    RestoreMark {
        /// The bits.
        mask: u32,
    },
    /// What the map says for the fields; without an element, the rule does not match.
    VerdictMap {
        /// What is looked at.
        fields: Vec<Field>,
        /// The map's name.
        set: String,
    },
    /// A program decides.
    Queue,
    /// Its connection is not tracked.
    Notrack,
    /// Not understood: it may do anything.
    Other(String),
}

/// Where to a packet's source or destination is translated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Translation {
    /// One of these addresses; without, the address stays, or the map says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// One of these ports; without, the port stays, or the map says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<(u16, u16)>,
    /// The element of the map says it: an address, or an address and a port, or (with `addresses`) a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<Lookup>,
}

/// A map, and what is looked up in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// What is looked at.
    pub fields: Vec<Field>,
    /// The map's name.
    pub set: String,
}

/// A set or a map.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Set {
    /// Its name; `__set0`, `__map0` are a rule's own.
    pub name: String,
    /// Its elements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elements: Vec<Element>,
    /// Not all elements are here, and why: what is not found may be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
}

/// An element.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// A value for each field.
    pub key: Vec<Value>,
    /// Of a verdict map: what is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Of another map: where it leads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<Value>,
    /// Its comment.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

impl Table {
    /// The chain of this name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }

    /// The set or map of this name.
    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().find(|set| set.name == name)
    }
}

impl fmt::Display for Table {
    /// As nft names a table: `inet filter`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family.as_str(), self.name)
    }
}
