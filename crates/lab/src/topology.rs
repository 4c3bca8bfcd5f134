//! A topology file, as people write it.
//!
//! ```yaml
//! hosts: [a, b]
//! links:
//!   - a -- b
//! ```
//!
//! Everything else has a default: names of interfaces, addresses from a pool, routes. What a file comes to is a
//! [`Wiring`](crate::Wiring); [`resolve`](crate::resolve) makes it.

mod group;
mod link;
mod locate;
mod machine;
mod pods;
mod read;
mod vlan;

pub use group::{Group, OneOrMany};
pub use link::{End, Link, LinkSettings};
pub use machine::{Bridge, Machine, Macvlan, MacvlanMode, Switch, Vxlan};
pub use pods::{Ended, Pod, Pods};
pub use read::{Fault, ReadError, Step, from_yaml, schema, to_yaml};
pub(crate) use read::{nearest, printable};
pub use vlan::VlanWords;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A network of namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Topology {
    /// The lab's name: letters, digits, `-`, `_` and `.`, at most 40 of them. The file's name unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// MTU of links that say nothing, in bytes. 1500 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Where subnets come from for links and switches on which nobody has an address: one of IPv4, one of IPv6, or both.
    /// 10.0.0.0/8 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<OneOrMany<String>>")]
    pub pool: Option<OneOrMany<IpNet>>,
    /// Whether everybody gets routes to everybody.
    #[serde(skip_serializing_if = "Routing::is_auto")]
    pub routing: Routing,
    /// Namespaces that send and receive.
    #[serde(skip_serializing_if = "Group::is_empty")]
    pub hosts: Group<Machine>,
    /// Namespaces that also forward.
    #[serde(skip_serializing_if = "Group::is_empty")]
    pub routers: Group<Machine>,
    /// Namespaces with a bridge in them, of which every link is a port.
    #[serde(skip_serializing_if = "Group::is_empty")]
    pub switches: Group<Switch>,
    /// Namespaces that play a Kubernetes node: they forward, and have a bridge with pods.
    #[serde(skip_serializing_if = "Group::is_empty")]
    pub nodes: Group<Machine>,
    /// veth pairs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// How the pods of one node reach those of another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
    /// What `lab verify` checks, a sentence each: `ping a -> b`, `no tcp a -> b:80`, `mtu a -> b = 1450`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<String>,
}

/// Whether everybody gets routes to everybody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Routing {
    /// The shortest ways through routers and nodes, as static routes; not for those that have routes or a gateway in the file.
    #[default]
    Auto,
    /// Only what the file says.
    None,
}

impl Routing {
    fn is_auto(&self) -> bool {
        *self == Routing::Auto
    }
}

/// How the pods of one node reach those of another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Overlay {
    /// `vxlan`, or `host-routes` where all nodes are on one link.
    pub kind: OverlayKind,
    /// The VXLAN network identifier. 1 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The UDP port. 8472 unless given, which is what the kernel and flannel use (RFC 7348 says 4789).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// MTU of the VXLAN devices and the pods, in bytes. What fits into the links between the nodes, unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// Kinds of overlays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OverlayKind {
    /// Frames in UDP.
    #[default]
    Vxlan,
    /// Each node has a route to the pods of each other.
    HostRoutes,
}
