//! What can be said about a namespace.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::group::{Group, OneOrMany};
use super::pods::Pods;
use super::vlan::VlanWords;

/// A namespace: a host, a router or a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Machine {
    /// So many of them, named with a number behind: `h1`, `h2`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Addresses of the loopback interface.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    #[schemars(with = "OneOrMany<String>")]
    pub loopback: OneOrMany<IpNet>,
    /// Default gateways, one of each family at most.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    #[schemars(with = "OneOrMany<String>")]
    pub gateway: OneOrMany<IpAddr>,
    /// Routes in the words of `ip route`: `10.1.0.0/24 via 10.0.0.1`, `default via fe80::1 dev eth0`, with `dev`, `mtu`, `src`, `metric`,
    /// `onlink`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Permanent neighbours in the words of `ip neigh`: `10.0.0.2 lladdr 02:00:00:00:00:02 dev eth0`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub neighbours: Vec<String>,
    /// Entries of forwarding databases in the words of `bridge fdb`: `02:00:00:00:00:02 dev veth0`, with `dst` on a VXLAN device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fdb: Vec<String>,
    /// Sysctls below `net`, by dotted name: `net.ipv4.conf.eth0.rp_filter: 2`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Bridges. A link's end `router/br0` is a port of one.
    #[serde(skip_serializing_if = "Group::is_empty")]
    pub bridges: Group<Bridge>,
    /// VXLAN devices.
    #[serde(skip_serializing_if = "Group::is_empty")]
    pub vxlans: Group<Vxlan>,
    /// macvlan devices.
    #[serde(skip_serializing_if = "Group::is_empty")]
    pub macvlans: Group<Macvlan>,
    /// What leaves with the address of the interface that it leaves through: `10.1.0.0/24`, `10.1.0.0/24 out eth1` or `out eth1`.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub masquerade: OneOrMany<String>,
    /// Ports that lead elsewhere: `tcp/8080 -> 10.1.0.2:80`.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub forward: OneOrMany<String>,
    /// Commands that run inside for as long as the lab is up. Words are separated by blanks; quotes work as in a shell.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub run: OneOrMany<String>,
    /// Of a node: its pods, how many or which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<Pods>,
    /// Of a node: the pods' subnets. One after the other of 10.244.0.0/16, unless given.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    #[schemars(with = "OneOrMany<String>")]
    pub subnet: OneOrMany<IpNet>,
    /// Of a node: MTU of its bridge and pods, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_mtu: Option<u32>,
    /// Of a node: whether the pods' ports send frames back where they came from, as `hairpinMode` of bridge plugins has it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hairpin: bool,
    /// Of a node: a CNI network configuration list (a file, from the topology's place) whose plugins wire the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cni: Option<String>,
}

/// A bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bridge {
    /// Its own addresses.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    #[schemars(with = "OneOrMany<String>")]
    pub addresses: OneOrMany<IpNet>,
    /// Ethernet address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// MTU in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Spanning tree, as a bridge among several needs it that are connected in a ring.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stp: bool,
    /// It looks at VLAN tags: a frame goes to ports of its VLAN alone. Needs a kernel with CONFIG_BRIDGE_VLAN_FILTERING.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub vlan_filtering: bool,
    /// The VLANs of the bridge itself, in the words of `bridge vlan`: `10 pvid untagged`, `20-30`. Number 1, untagged, unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlans: Option<OneOrMany<VlanWords>>,
}

/// A namespace with a bridge in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Switch {
    /// So many of them, named with a number behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Where those that are connected get their addresses from.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    #[schemars(with = "OneOrMany<String>")]
    pub subnet: OneOrMany<IpNet>,
    /// MTU of the bridge, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Spanning tree.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stp: bool,
    /// It looks at VLAN tags: a frame goes to ports of its VLAN alone. Needs a kernel with CONFIG_BRIDGE_VLAN_FILTERING.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub vlan_filtering: bool,
    /// Sysctls below `net`, by dotted name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Entries of the forwarding database: `02:00:00:00:00:02 dev port1`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fdb: Vec<String>,
}

/// A VXLAN device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Vxlan {
    /// The VXLAN network identifier. 1 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The UDP port. 8472 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The address that it sends from: that of `on`, unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub local: Option<IpAddr>,
    /// The device that it sends through: `eth0` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Where frames go of which it is not known who has their destination.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    #[schemars(with = "OneOrMany<String>")]
    pub peers: OneOrMany<IpAddr>,
    /// Whether it learns from what comes who is where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning: Option<bool>,
    /// The bridge that it is a port of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// As a bridge's port: its VLANs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlans: Option<OneOrMany<VlanWords>>,
    /// Its own addresses.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    #[schemars(with = "OneOrMany<String>")]
    pub addresses: OneOrMany<IpNet>,
    /// Ethernet address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// MTU in bytes; 50 less than the device's that it sends through (70 with IPv6), unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// A macvlan device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Macvlan {
    /// The device that it is on: `eth0` of its own namespace, unless given; `node1:eth0` of another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Who may talk with whom on that device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<MacvlanMode>,
    /// Its addresses.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    #[schemars(with = "OneOrMany<String>")]
    pub addresses: OneOrMany<IpNet>,
    /// Ethernet address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// MTU in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// Who may talk with whom on a macvlan's lower device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MacvlanMode {
    /// All with each other.
    #[default]
    Bridge,
    /// Nobody with another one on the same device.
    Private,
    /// Through a switch outside that reflects.
    Vepa,
}
