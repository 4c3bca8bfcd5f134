//! From what was seen of a node to a topology that rebuilds its wiring elsewhere.
//!
//! The node becomes a router with its bridges, tunnels and routes, each pod a host on its veth, and whatever the node's own interfaces lead
//! to a host beyond it. What a topology cannot say, or a snapshot does not know, becomes a note.

mod entries;
mod names;
mod node;
mod notes;
mod pods;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use model::{IfIndex, Link, MacAddr, Namespace, Snapshot};

use crate::topology::{self, Machine, OneOrMany, Routing, Topology};
use names::Names;
use notes::Notes;

/// A topology made of a snapshot, and what is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The topology. It gives every address and route itself: `routing: none`.
    pub topology: Topology,
    /// What was left out, or had to become something else: a sentence each, fit for a terminal.
    pub notes: Vec<String>,
}

/// MTU of a link that says nothing, in bytes.
const USUAL_MTU: u32 = 1500;

/// Makes a topology of what was seen of a node.
pub fn import(snapshot: &Snapshot) -> Imported {
    let nobody = Namespace::default();
    let mut import = Import::new(snapshot, snapshot.host().unwrap_or(&nobody));
    import.node_devices();
    import.pods();
    import.upper_devices();
    import.entries();
    import.finish()
}

/// A topology on its way.
struct Import<'a> {
    snapshot: &'a Snapshot,
    host: &'a Namespace,
    /// What the node is called.
    name: String,
    names: Names,
    node: Machine,
    /// The node's interfaces that the lab has, as they are called there.
    devices: BTreeMap<IfIndex, String>,
    /// What is behind the node's own interfaces, then the pods.
    beyond: Vec<(String, Machine)>,
    hosts: Vec<(String, Machine)>,
    links: Vec<topology::Link>,
    /// Addresses that somebody on a bridge or veth has.
    taken: HashSet<(IfIndex, IpAddr)>,
    notes: Notes,
}

impl<'a> Import<'a> {
    fn new(snapshot: &'a Snapshot, host: &'a Namespace) -> Self {
        let mut names = Names::default();
        let name = names.machine(&snapshot.node.hostname, "node");
        Import {
            snapshot,
            host,
            name,
            names,
            node: Machine::default(),
            devices: BTreeMap::new(),
            beyond: Vec::new(),
            hosts: Vec::new(),
            links: Vec::new(),
            taken: HashSet::new(),
            notes: Notes::default(),
        }
    }

    fn host_link(&self, index: IfIndex) -> Option<&'a Link> {
        self.host.links.iter().find(|link| link.index == index)
    }

    /// Whether a link is a port of a bridge that the lab has; the bridge's name there.
    fn bridge_of(&self, link: &Link) -> Option<String> {
        let bridge = self.host_link(link.master?).filter(|master| master.kind == "bridge")?;
        self.devices.get(&bridge.index).cloned()
    }

    /// The addresses that nobody else has there.
    fn free(&mut self, segment: IfIndex, owner: &str, addresses: Vec<IpNet>) -> Vec<IpNet> {
        let (free, taken): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|net| self.taken.insert((segment, net.addr())));
        for net in taken {
            self.notes.add(notes::ADDRESS_TWICE, format!("{net} of {owner}"));
        }
        free
    }

    fn finish(mut self) -> Imported {
        let mut hosts = self.beyond;
        hosts.extend(self.hosts);
        let topology = Topology {
            name: Some(self.name.clone()),
            routing: Routing::None,
            routers: topology::Group(vec![(self.name, self.node)]),
            hosts: topology::Group(hosts),
            links: self.links,
            ..Topology::default()
        };
        self.notes.about(self.snapshot);
        Imported { topology, notes: self.notes.sentences() }
    }
}

/// Addresses that somebody gave an interface, as opposed to those that it has by itself.
fn given(link: &Link) -> Vec<IpNet> {
    let is_given = |net: &&IpNet| match net.addr() {
        IpAddr::V4(v4) => !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    link.addresses.iter().filter(is_given).copied().collect()
}

/// An interface's Ethernet address, unless it has none that could be set.
fn mac(link: &Link) -> Option<String> {
    let usable = |mac: &MacAddr| mac.0 != [0; 6] && mac.0[0] & 1 == 0;
    link.mac.filter(usable).map(|mac| mac.to_string())
}

fn mtu(link: &Link) -> Option<u32> {
    (link.mtu_bytes != USUAL_MTU && link.mtu_bytes != 0).then_some(link.mtu_bytes)
}

fn many<T>(things: Vec<T>) -> OneOrMany<T> {
    OneOrMany(things)
}

#[cfg(test)]
mod tests;
