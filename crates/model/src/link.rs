//! Interfaces and what hangs on them.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::ids::{IfIndex, MacAddr, Nsid};

/// One interface of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Link {
    /// Index inside its namespace.
    pub index: IfIndex,
    /// Name. A `String`: the kernel allows bytes in a name that [`crate::IfName`] would refuse to create.
    pub name: String,
    /// `IFLA_INFO_KIND` (`veth`, `bridge`, …); empty for hardware and loopback.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Ethernet address; absent on devices without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu_bytes: u32,
    /// `IFF_UP`: administratively up.
    pub up: bool,
    /// `IFF_LOWER_UP`: has a carrier.
    pub carrier: bool,
    /// Has a carrier, and `IFLA_OPERSTATE` is still down: the kernel has not acted on the carrier yet, for which it takes up to a
    /// second. Until then the interface is disabled as a port of a bridge.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settling: bool,
    /// `IFF_LOOPBACK`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub loopback: bool,
    /// `IFF_PROMISC`, as an administrator set it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promiscuous: bool,
    /// `IFF_ALLMULTI`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_multicast: bool,
    /// Length of the transmit queue, in packets.
    #[serde(default)]
    pub tx_queue: u32,
    /// For a macvlan, VLAN and the like: the interface that it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<Peer>,
    /// For a VXLAN device: what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<Vxlan>,
    /// For a macvlan: who may talk with whom. A snapshot of an older podplumb does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macvlan: Option<MacvlanMode>,
    /// The XDP program that sees what comes in by it; 0: several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xdp: Option<u32>,
    /// For a VRF: its routing table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrf_table: Option<u32>,
    /// The bridge or bond that it is a port of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<IfIndex>,
    /// For a veth: the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
    /// `ifalias`; podplumb's plugins stamp their host interfaces with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// `IFLA_GROUP`.
    #[serde(default)]
    pub group: u32,
    /// Packets received.
    #[serde(default)]
    pub rx_packets: u64,
    /// Packets sent.
    #[serde(default)]
    pub tx_packets: u64,
    /// Bytes received.
    #[serde(default)]
    pub rx_bytes: u64,
    /// Bytes sent.
    #[serde(default)]
    pub tx_bytes: u64,
    /// Packets that came and were dropped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rx_dropped: u64,
    /// Packets that were to be sent and were dropped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tx_dropped: u64,
    /// Addresses with prefix length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
    /// For a bridge port: its settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<BridgePort>,
    /// For a bridge that looks at VLAN tags, and for its ports: the VLANs that they take part in. `None`: nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlans: Option<Vec<Vlans>>,
    /// For a bridge: its settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Bridge>,
    /// How it treats IPv4; `None` where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<InterfaceSettings>,
    /// How it treats IPv6; `None` where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<InterfaceSettings>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Settings of one interface for one family (`net.ipv4.conf.IFACE`, `net.ipv6.conf.IFACE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InterfaceSettings {
    /// Packets that come in by it are forwarded.
    pub forwarding: bool,
    /// It answers for addresses that it routes elsewhere (`proxy_arp`, `proxy_ndp`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proxy: bool,
    /// Source validation, of IPv4: 0 off, 1 strict, 2 loose. The kernel takes the larger of this and `all`.
    #[serde(default)]
    pub rp_filter: u8,
}

/// Settings of a bridge (`IFLA_BR_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bridge {
    /// Spanning tree.
    pub stp: bool,
    /// Looks at VLAN tags.
    pub vlan_filtering: bool,
    /// Hands frames to iptables, whatever `net.bridge.bridge-nf-call-iptables` says.
    pub call_iptables: bool,
    /// The same for ip6tables.
    pub call_ip6tables: bool,
}

/// VLANs from `first` to `last` that a bridge's port takes part in (`IFLA_BRIDGE_VLAN_INFO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vlans {
    /// First, 1 to 4094.
    pub first: u16,
    /// Last.
    pub last: u16,
    /// Frames that come without a tag are of this VLAN; of a single one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pvid: bool,
    /// Frames leave without a tag.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untagged: bool,
}

impl Vlans {
    /// What the kernel gives every port of a bridge that looks at VLAN tags.
    pub const USUAL: Vlans = Vlans { first: 1, last: 1, pvid: true, untagged: true };
    /// The largest number of a VLAN.
    pub const MOST: u16 = 4094;

    /// Whether there are such VLANs.
    pub fn is_valid(&self) -> bool {
        let is_range = 1 <= self.first && self.first <= self.last && self.last <= Self::MOST;
        is_range && (!self.pvid || self.first == self.last)
    }
}

/// As `bridge vlan` writes them: `10 pvid untagged`, `20-30`.
impl fmt::Display for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.last != self.first {
            write!(f, "-{}", self.last)?;
        }
        f.write_str(if self.pvid { " pvid" } else { "" })?;
        f.write_str(if self.untagged { " untagged" } else { "" })
    }
}

/// The other end of a veth, or what an interface is on, as rtnetlink names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Index *in its own namespace* (`IFLA_LINK`).
    pub index: IfIndex,
    /// That namespace, numbered from the link's own (`IFLA_LINK_NETNSID`); `None`: the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nsid: Option<Nsid>,
}

/// A VXLAN device (`IFLA_VXLAN_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vxlan {
    /// Network identifier.
    pub id: u32,
    /// UDP port.
    pub port: u16,
    /// The address that it sends from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// The interface that it sends through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<IfIndex>,
    /// Where frames go of which it is not known who has their destination: an address, or a multicast group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<IpAddr>,
    /// Whether it learns from what comes who is where.
    pub learning: bool,
    /// How it reads what it receives, where that is not as usual.
    #[serde(default, skip_serializing_if = "VxlanModes::is_usual")]
    pub modes: VxlanModes,
    /// Whether it leaves the checksums of what it sends to hardware (ethtool's tx-checksumming); `None` where nobody looked, or could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_checksum: Option<bool>,
}

/// How a VXLAN device reads what it receives. Devices share a UDP port only if they are alike in all of this (`VXLAN_F_RCV_FLAGS`,
/// include/net/vxlan.h); otherwise the second one cannot be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VxlanModes {
    /// For every identifier: programs and routes choose it (`IFLA_VXLAN_COLLECT_METADATA`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
    /// Of these, only those that it was told (`IFLA_VXLAN_VNIFILTER`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub vni_filter: bool,
    /// With group policy (`IFLA_VXLAN_GBP`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gbp: bool,
    /// With the generic protocol extension (`IFLA_VXLAN_GPE`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gpe: bool,
    /// Takes IPv6 datagrams without a checksum (`IFLA_VXLAN_UDP_ZERO_CSUM6_RX`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub zero_checksum6: bool,
    /// With remote checksum offload (`IFLA_VXLAN_REMCSUM_RX`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub remote_checksum: bool,
}

impl VxlanModes {
    /// Whether it is as most devices are.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// What is not as usual, in the words of `ip link`.
    pub fn words(&self) -> Vec<&'static str> {
        let all = [
            (self.external, "external"),
            (self.vni_filter, "vnifilter"),
            (self.gbp, "gbp"),
            (self.gpe, "gpe"),
            (self.zero_checksum6, "udp6zerocsumrx"),
            (self.remote_checksum, "remcsumrx"),
        ];
        all.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect()
    }
}

/// Who may talk with whom of the macvlans on one interface (`IFLA_MACVLAN_MODE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MacvlanMode {
    /// Nobody with another one.
    Private,
    /// All, through a switch outside that reflects.
    Vepa,
    /// All with each other.
    Bridge,
    /// There is one alone, which has the interface to itself.
    Passthru,
    /// Each gets what comes from the senders on its list.
    Source,
}

/// Settings of a bridge port (`IFLA_BRPORT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgePort {
    /// STP state as the kernel numbers it: 0 disabled, 1 listening, 2 learning, 3 forwarding, 4 blocking.
    pub state: u8,
    /// Frames may go back out of the port they came in by.
    pub hairpin: bool,
    /// May talk to ports that are not isolated only.
    pub isolated: bool,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Route {
    /// Destination; a prefix length of 0 is the default route.
    pub destination: IpNet,
    /// What becomes of packets.
    #[serde(default, skip_serializing_if = "RouteKind::is_unicast")]
    pub kind: RouteKind,
    /// Next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Outgoing interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<IfIndex>,
    /// Several ways, of which each connection gets one; then `gateway` and `device` say nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<Hop>,
    /// Routing table.
    pub table: u32,
    /// Metric.
    #[serde(default)]
    pub priority: u32,
    /// Scope, as the kernel numbers it: 0 everywhere, 253 on the link.
    #[serde(default)]
    pub scope: u8,
    /// Preferred source address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// MTU that the route sets, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu_bytes: Option<u32>,
    /// The gateway is taken to be on the link even where no address says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub onlink: bool,
    /// Who made it (`RTPROT_*`): 2 the kernel, 3 at boot or by hand, 4 an administrator, 11 zebra, 12 BIRD, 186 BGP.
    #[serde(default)]
    pub protocol: u8,
}

/// What becomes of packets that a route leads (`RTN_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteKind {
    /// They go on.
    #[default]
    Unicast,
    /// Dropped without a word.
    Blackhole,
    /// Refused as unreachable.
    Unreachable,
    /// Refused as forbidden.
    Prohibit,
    /// The next rule's table is asked.
    Throw,
}

impl RouteKind {
    /// They go on.
    pub fn is_unicast(&self) -> bool {
        *self == RouteKind::Unicast
    }
}

/// One of several ways of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hop {
    /// Next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Outgoing interface.
    pub device: IfIndex,
    /// Share, at least 1.
    pub weight: u16,
}

/// A neighbour (ARP or ND) entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Protocol address.
    pub address: IpAddr,
    /// Link-layer address, once resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Interface.
    pub device: IfIndex,
    /// `NUD_*` bits.
    pub state: u16,
}

/// An entry of a bridge's or VXLAN's forwarding database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbEntry {
    /// Station.
    pub mac: MacAddr,
    /// Port behind which it was seen or set.
    pub device: IfIndex,
    /// The bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<IfIndex>,
    /// For VXLAN: the remote tunnel end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
    /// `NUD_*` bits; `NUD_PERMANENT` (0x80) marks the ports' own addresses and static entries.
    pub state: u16,
}
