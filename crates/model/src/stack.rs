//! What the network stack of one namespace does with packets: everything that decides where they go.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::filter::Ruleset;
use crate::ids::IfIndex;
use crate::link::{FdbEntry, Neighbour, Route};
use crate::socket::Socket;

/// A namespace's routes, neighbours and settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stack {
    /// Routes of all tables but `local`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Rules that choose the table, in the order in which they are asked; IPv4's first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<PolicyRule>,
    /// Neighbours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub neighbours: Vec<Neighbour>,
    /// Forwarding databases of bridges and tunnels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fdb: Vec<FdbEntry>,
    /// Sysctls that decide about container traffic, by dotted name; one that is missing does not exist there. Those of single interfaces are in
    /// [`Link::ipv4`](crate::Link::ipv4) and [`Link::ipv6`](crate::Link::ipv6).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// UDP sockets that have the port of a VXLAN device of the host that is down: what it cannot be set up for; `None` where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan_sockets: Option<Vec<Socket>>,
    /// What else sees packets at interfaces: programs and filters of traffic control. What they do with them is not computed. `None` where
    /// nobody could look, for XDP ([`Link::xdp`](crate::Link::xdp)) as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_filters: Option<Vec<TrafficFilter>>,
    /// Services of IPVS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub virtual_services: Vec<VirtualService>,
    /// The packet filter; `None` where it was not read. What could not be read of it is in its own gaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ruleset: Option<Ruleset>,
}

impl Stack {
    /// The sysctl as a number; `None` when it does not exist or is none.
    pub fn number(&self, sysctl: &str) -> Option<i64> {
        self.sysctls.get(sysctl)?.parse().ok()
    }
}

/// A filter of traffic control (tc(8)) where an interface receives or sends, or a BPF program in its place (tcx).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficFilter {
    /// The interface.
    pub device: IfIndex,
    /// Of what comes in by it; otherwise of what leaves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ingress: bool,
    /// `tcx` for a program that is attached to the interface itself, or else the filter's as tc(8) calls it: `bpf`, `u32`, `flower`, …
    pub kind: String,
    /// The program's name, where it is known. From others: not to be printed raw.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The program's number (`bpftool prog show id`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<u32>,
    /// It leads everything that it takes out of this interface instead (tc-mirred(8)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<IfIndex>,
}

/// A service of IPVS (ipvsadm(8)), as `/proc/net/ip_vs` has it: who connects to it is led to one of its servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualService {
    /// What is for it.
    pub of: Served,
    /// Where that goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<SocketAddr>,
}

/// What a service of IPVS is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Served {
    /// TCP to this address and port; 0: all ports.
    Tcp(SocketAddr),
    /// UDP.
    Udp(SocketAddr),
    /// SCTP.
    Sctp(SocketAddr),
    /// Packets with this mark.
    Mark(u32),
}

/// A rule of the routing policy database (`ip rule`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PolicyRule {
    /// Of IPv6; otherwise of IPv4.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub v6: bool,
    /// Place in the order.
    pub priority: u32,
    /// Applies to what does not fit the selectors (`not`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inverted: bool,
    /// Source addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpNet>,
    /// Destination addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpNet>,
    /// Interface by which the packet came in (`lo`: made here).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Interface that the sender's socket is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Mark and mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<(u32, u32)>,
    /// Selectors that are not told here, by name: whether the rule applies is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// What it does.
    pub action: PolicyAction,
}

/// What a policy rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyAction {
    /// Looks in this table.
    Table(u32),
    /// Looks in this table, and takes no route whose prefix is as long as this or shorter (`suppress_prefixlength`).
    TableSuppressed {
        /// Table.
        table: u32,
        /// Prefix length.
        length: u32,
    },
    /// Goes on at the rule with this priority.
    Goto(u32),
    /// Looks in the table of the VRF that the packet's interface belongs to.
    Vrf,
    /// Drops (`blackhole`), refuses (`unreachable`, `prohibit`).
    Refuse,
    /// Nothing.
    #[default]
    Nothing,
}

impl PolicyRule {
    /// The table that it looks in.
    pub fn table(&self) -> Option<u32> {
        match self.action {
            PolicyAction::Table(table) | PolicyAction::TableSuppressed { table, .. } => Some(table),
            _ => None,
        }
    }
}

/// A table of neighbours as the whole machine has it: its namespaces share entries and limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourTable {
    /// `arp_cache` or `ndisc_cache`.
    pub name: String,
    /// Entries, of all namespaces.
    pub entries: u32,
    /// Below this nothing is collected.
    pub gc_thresh1: u32,
    /// Above this, what is older than five seconds is collected.
    pub gc_thresh2: u32,
    /// Above this no entry is made.
    pub gc_thresh3: u32,
    /// How often there was no place since boot.
    pub overflows: u64,
}
