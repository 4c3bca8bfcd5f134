//! What podplumb's nftables ruleset holds for one attachment: elements of its sets and maps, never rules.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::ids::{IfName, MacAddr};

/// A transport protocol of a port mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As the Internet Protocol numbers it (`IPPROTO_*`).
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// One thing that the ruleset does for an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "does", rename_all = "kebab-case")]
pub enum RuleElement {
    /// What the pod sends elsewhere than into its subnet gets the node's address.
    Masquerade {
        /// The pod's address with its subnet's prefix length.
        address: IpNet,
    },
    /// Connections to a port of the node go to the pod.
    MapPort {
        /// Protocol.
        protocol: Protocol,
        /// Only connections to this address of the node; without, to any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host_ip: Option<IpAddr>,
        /// The node's port.
        host_port: u16,
        /// The pod's address.
        pod: IpAddr,
        /// The pod's port.
        pod_port: u16,
        /// The ruleset's variant: which conditions a connection has to fulfil (an index of sets, see the nft crate).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conditions: Option<String>,
    },
    /// Mapped connections to the pod from these addresses get the node's address, so that the answers come back by the node.
    Hairpin {
        /// Where they come from: the pod's own subnet, the node itself, or everywhere.
        from: IpNet,
        /// The pod's address.
        pod: IpAddr,
    },
    /// Pods of other bridges that are restricted too do not reach the pod.
    Restrict {
        /// The pod's address.
        address: IpAddr,
        /// Its bridge.
        bridge: IfName,
    },
    /// Restricted pods of the same bridge do not reach the pod either.
    Isolate {
        /// The pod's address.
        address: IpAddr,
    },
    /// Frames that come in by the host interface have to have this source.
    Source {
        /// The host's end of the veth.
        interface: IfName,
        /// The container's MAC.
        mac: MacAddr,
    },
}

impl fmt::Display for RuleElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleElement::Masquerade { address } => write!(f, "masquerading of {}", address.addr()),
            RuleElement::MapPort { protocol, host_ip, host_port, pod, pod_port, .. } => {
                write!(f, "mapping of {} port ", protocol.as_str())?;
                match host_ip {
                    Some(ip) => write!(f, "{}", socket(*ip, *host_port))?,
                    None => write!(f, "{host_port}")?,
                }
                write!(f, " to {}", socket(*pod, *pod_port))
            }
            RuleElement::Hairpin { from, pod } => write!(f, "hairpin from {from} to {pod}"),
            RuleElement::Restrict { address, bridge } => write!(f, "restriction of {address} to {bridge}"),
            RuleElement::Isolate { address } => write!(f, "isolation of {address}"),
            RuleElement::Source { interface, mac } => write!(f, "source check of {interface} ({mac})"),
        }
    }
}

fn socket(ip: IpAddr, port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::new(ip, port)
}

/// An element as it was found: which one, and whose.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OwnedElement {
    /// The table, set and key as nft writes them.
    pub text: String,
    /// The comment: whose it is, as [`AttachmentKey::file_name`](crate::AttachmentKey::file_name) has it. Empty when there is none.
    pub owner: String,
    /// Addresses in the key or the data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}
