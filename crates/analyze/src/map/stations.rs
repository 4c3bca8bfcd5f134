//! Who is behind which port of a bridge, by its forwarding database.

use std::collections::HashMap;
use std::net::IpAddr;

use model::{FdbEntry, IfIndex, Link, MacAddr, Snapshot};
use serde::Serialize;

use super::Place;

/// `NUD_NOARP`: somebody set it; the bridge learned what has it not.
const SET: u16 = 0x40;
/// `NUD_PERMANENT`: the bridge's own, as its ports' addresses are.
const OWN: u16 = 0x80;

/// An Ethernet address that a bridge forwards to a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Station {
    /// The address.
    pub mac: MacAddr,
    /// The port.
    pub port: String,
    /// Somebody set it; otherwise the bridge learned it from what came in by that port.
    pub set: bool,
    /// What is behind that port.
    pub behind: Behind,
    /// Of a tunnel: to whom its own forwarding database sends what is for this address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
    /// Who of this node's has an interface with this address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

/// What is behind a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behind {
    /// A pod, container or namespace, by its label on the map.
    Pod(String),
    /// A VXLAN device.
    Tunnel,
    /// An interface by which the node reaches others.
    Uplink,
    /// Something else.
    Other,
}

/// Who has an Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// Its label on the map.
    pub label: String,
    /// The host's end of its wire.
    pub port: String,
}

impl Station {
    /// It says nothing but that a pod is behind its own port.
    pub fn goes_without_saying(&self) -> bool {
        !self.set && matches!(self.behind, Behind::Pod(_)) && !self.is_elsewhere() && self.owner.is_some()
    }

    /// Who has the address is behind another port.
    pub fn is_elsewhere(&self) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.port != self.port)
    }
}

/// It is about a station: not about a group, and not the bridge's own.
fn is_station(entry: &FdbEntry) -> bool {
    entry.mac.0[0] & 1 == 0 && entry.state & OWN == 0
}

/// Somebody set it.
fn is_set(entry: &FdbEntry) -> bool {
    entry.state & SET != 0
}

/// Who has which wire, and which address.
pub(super) struct Owners<'a> {
    ports: HashMap<&'a str, &'a str>,
    addresses: HashMap<MacAddr, Vec<(&'a str, &'a str)>>,
}

impl<'a> Owners<'a> {
    pub(super) fn of(places: &'a [Place]) -> Self {
        let (mut ports, mut addresses) = (HashMap::new(), HashMap::<MacAddr, Vec<_>>::new());
        for place in places {
            let label = place.chain.label.as_str();
            let interfaces = || place.chain.interfaces.iter();
            let wires: Vec<&str> =
                interfaces().filter_map(|one| Some(one.host.as_ref()?.name.as_str())).collect();
            ports.extend(wires.iter().map(|port| (*port, label)));
            // What is in there besides (a macvlan, a bridge) is behind each of its wires.
            for mac in interfaces().filter_map(|one| one.inside.as_ref()?.mac) {
                addresses.entry(mac).or_default().extend(wires.iter().map(|port| (label, *port)));
            }
        }
        Self { ports, addresses }
    }

    /// The stations of each bridge: those first that tell most.
    pub(super) fn stations(
        &self,
        snapshot: &Snapshot,
        is_uplink: impl Fn(&Link) -> bool,
    ) -> HashMap<IfIndex, Vec<Station>> {
        let host = snapshot.host().into_iter().flat_map(|host| &host.links);
        let links: HashMap<IfIndex, &Link> = host.map(|link| (link.index, link)).collect();
        let behind = |port: &Link| match self.ports.get(port.name.as_str()) {
            Some(label) => Behind::Pod((*label).to_owned()),
            None if port.vxlan.is_some() => Behind::Tunnel,
            None if is_uplink(port) => Behind::Uplink,
            None => Behind::Other,
        };
        let remotes: HashMap<(IfIndex, MacAddr), IpAddr> = snapshot
            .stack
            .fdb
            .iter()
            .filter(|entry| entry.master.is_none())
            .filter_map(|entry| Some(((entry.device, entry.mac), entry.remote?)))
            .collect();
        let mut of_ports: HashMap<IfIndex, Behind> = HashMap::new();
        let mut all: HashMap<IfIndex, Vec<Station>> = HashMap::new();
        for entry in snapshot.stack.fdb.iter().filter(|entry| is_station(entry)) {
            let (Some(bridge), Some(port)) = (entry.master, links.get(&entry.device)) else { continue };
            // Several may have the same address: then it matters whether one of them is here.
            let owners = self.addresses.get(&entry.mac).map(Vec::as_slice).unwrap_or_default();
            let owner = owners.iter().find(|(_, at)| *at == port.name).or(owners.first());
            all.entry(bridge).or_default().push(Station {
                mac: entry.mac,
                port: port.name.clone(),
                set: is_set(entry),
                behind: of_ports.entry(port.index).or_insert_with(|| behind(port)).clone(),
                remote: remotes.get(&(entry.device, entry.mac)).copied(),
                owner: owner
                    .map(|(label, port)| Owner { label: (*label).to_owned(), port: (*port).to_owned() }),
            });
        }
        for stations in all.values_mut() {
            stations.sort_by(|a, b| (rank(a), &a.port, a.mac).cmp(&(rank(b), &b.port, b.mac)));
            // In several VLANs, one has an entry for each.
            stations.dedup();
        }
        all
    }
}

/// What tells more comes first.
fn rank(station: &Station) -> u8 {
    match station.behind {
        _ if station.is_elsewhere() => 0,
        _ if station.set => 1,
        Behind::Pod(_) if station.owner.is_none() => 2,
        Behind::Tunnel => 3,
        Behind::Uplink => 4,
        Behind::Other => 5,
        Behind::Pod(_) => 6,
    }
}
