//! Interfaces and what hangs on them.

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
    /// Addresses with prefix length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
    /// For a bridge port: its settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<BridgePort>,
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

/// A route of the host's main tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination; a prefix length of 0 is the default route.
    pub destination: IpNet,
    /// Next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Outgoing interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<IfIndex>,
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
