//! The whole picture of a node: by what it reaches others, what its pods hang on, which configuration is in force, and how much
//! passes where.
//!
//! [`Map`] joins what a [`Snapshot`] has; an earlier one of the same node gives the [rates](rates), and whoever found something wrong
//! adds [`Remark`]s. [`crate::render::map()`] writes it for a terminal, [`graph()`] makes a drawing of it.

mod graph;
mod rates;
mod stations;
mod tunnels;

use ipnet::IpNet;
use model::{Gap, IfIndex, Link, Namespace, NetworkConfig, Node, Runtime, Snapshot, Timestamp};
use serde::Serialize;

use crate::doctor::{Diagnosis, Severity};
use crate::drawing::Mark;
use crate::leaks::Leaks;
use crate::verdict::Verdict;
use crate::who::{Chain, chain};
use crate::wiring::{Wiring, is_link_local, wirings};
use stations::Owners;

pub use graph::graph;
pub use rates::{Rate, Rates};
pub use stations::{Behind, Owner, Station};
pub use tunnels::{Tunnel, TunnelPeer};

/// A node.
#[derive(Debug, Clone, Serialize)]
pub struct Map {
    /// The machine.
    pub node: Node,
    /// When it was looked at.
    pub taken_at: Timestamp,
    /// Network configurations, in the order in which runtimes look at them.
    pub networks: Vec<Network>,
    /// Interfaces by which the node reaches others.
    pub uplinks: Vec<Uplink>,
    /// VXLAN devices.
    pub tunnels: Vec<Tunnel>,
    /// Bridges.
    pub bridges: Vec<Bridge>,
    /// Pods, containers, and whatever else is wired; pods first.
    pub chains: Vec<Place>,
    /// Runtimes.
    pub runtimes: Vec<Runtime>,
    /// The user said that no runtime works on this node.
    pub runtime_none: bool,
    /// What was found wrong of nothing that is drawn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<Remark>,
    /// What could not be read.
    pub coverage: Vec<Gap>,
}

/// A network configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Network {
    /// The file.
    #[serde(flatten)]
    pub config: NetworkConfig,
    /// Runtimes take the first of a directory, by name, that can be understood: this one.
    pub in_force: bool,
    /// Addresses that are leased.
    pub leased: usize,
}

/// An interface by which the node reaches others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Uplink {
    /// The interface.
    pub link: Link,
    /// Gateways of default routes that leave by it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<std::net::IpAddr>,
    /// What passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<Remark>,
}

/// A bridge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bridge {
    /// The bridge itself.
    pub link: Link,
    /// How many interfaces are in it.
    pub ports: usize,
    /// Ports that lead to no pod: the names of tunnels, uplinks, and of veths whose other end was not seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_ports: Vec<String>,
    /// Stations that it learned.
    pub learned: usize,
    /// Stations that somebody set; those of the ports themselves do not count.
    pub set: usize,
    /// All of these, those first that tell most. In how many VLANs one is does not count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stations: Vec<Station>,
    /// What passes by the bridge's own interface: to and from the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<Remark>,
}

/// A chain with its place on the map.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    /// What belongs together.
    #[serde(flatten)]
    pub chain: Chain,
    /// What passes, as the pod sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<Remark>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// How bad it is.
    pub mark: Mark,
    /// What it is about: a pod, an interface, an address.
    pub object: String,
    /// What is wrong, in a few words.
    pub text: String,
}

impl Map {
    /// The node. `found` and `ills` say what is wrong; `earlier` is an earlier snapshot of it, for rates.
    pub fn of(snapshot: &Snapshot, earlier: Option<&Snapshot>, found: &Leaks, ills: &Diagnosis) -> Self {
        let rates = earlier.map(|earlier| Rates::between(earlier, snapshot)).unwrap_or_default();
        let mut remarks = remarks(found, ills);
        let all = wirings(snapshot);
        let mut chains: Vec<Place> =
            all.iter().map(|wiring| place(wiring, snapshot, &rates, &mut remarks)).collect();
        chains.sort_by(|a, b| {
            (a.chain.pod.is_none(), &a.chain.label).cmp(&(b.chain.pod.is_none(), &b.chain.label))
        });
        let host = snapshot.host();
        let links = || host.into_iter().flat_map(|host| &host.links);
        let rate = |link: &Link| host.and_then(|host| rates.of(host, link.index));
        let wired: Vec<IfIndex> =
            all.iter().flat_map(|wiring| &wiring.links).map(|host| host.link.index).collect();
        let mut stations = Owners::of(&chains).stations(snapshot, |port| is_uplink(snapshot, port));
        let bridges = links().filter(|link| link.kind == "bridge").map(|link| {
            let bridge = bridge(snapshot, link, &wired, stations.remove(&link.index).unwrap_or_default());
            Bridge { rate: rate(link), remarks: take(&mut remarks, &[&link.name]), ..bridge }
        });
        let bridges: Vec<Bridge> = bridges.collect();
        let uplinks = links().filter(|link| is_uplink(snapshot, link)).map(|link| {
            let mut gateways: Vec<_> =
                default_routes(snapshot, link.index).filter_map(|route| route.gateway).collect();
            gateways.dedup();
            Uplink {
                gateways,
                rate: rate(link),
                remarks: take(&mut remarks, &[&link.name]),
                link: link.clone(),
            }
        });
        let uplinks: Vec<Uplink> = uplinks.collect();
        let tunnels = links().filter_map(|link| {
            let tunnel = tunnels::tunnel(snapshot, link)?;
            Some(Tunnel { rate: rate(link), remarks: take(&mut remarks, &[&link.name]), ..tunnel })
        });
        Self {
            node: snapshot.node.clone(),
            taken_at: snapshot.taken_at,
            networks: networks(snapshot),
            tunnels: tunnels.collect(),
            uplinks,
            bridges,
            chains,
            runtimes: snapshot.runtimes.clone(),
            runtime_none: snapshot.runtime_none,
            remarks,
            coverage: snapshot.coverage.clone(),
        }
    }

    /// The subnets from which pods get their addresses.
    pub fn pod_subnets(&self) -> Vec<IpNet> {
        let mut all: Vec<IpNet> = self
            .networks
            .iter()
            .filter(|network| network.in_force)
            .flat_map(|network| network.config.subnets.clone())
            .collect();
        all.sort();
        all.dedup();
        all
    }
}

/// The order in which libcni looks: those of a directory by name. One that cannot be understood is passed over by runtimes; what is not
/// CNI's own kind of file is not there at all.
fn networks(snapshot: &Snapshot) -> Vec<Network> {
    let mut networks: Vec<Network> = Vec::new();
    for config in &snapshot.configs {
        let same = |other: &Network| other.in_force && other.config.path.parent() == config.path.parent();
        let in_force = config.problem.is_none() && !networks.iter().any(same);
        let leased = snapshot.leases.iter().filter(|lease| Some(&lease.network) == config.network.as_ref());
        networks.push(Network { config: config.clone(), in_force, leased: leased.count() });
    }
    networks
}

fn place(wiring: &Wiring<'_>, snapshot: &Snapshot, rates: &Rates, remarks: &mut Vec<Remark>) -> Place {
    let chain = chain(wiring, snapshot);
    let through = wiring.links.iter().filter_map(|host| {
        // What the node sends into the veth, the pod receives.
        snapshot.host().and_then(|node| rates.of(node, host.link.index)).map(Rate::turned)
    });
    let inside = wiring.namespace().into_iter().flat_map(|namespace| {
        namespace
            .links
            .iter()
            .filter(|link| !link.loopback)
            .filter_map(|link| rates.of(namespace, link.index))
    });
    let rate = through.reduce(Rate::plus).or_else(|| inside.reduce(Rate::plus));
    let links = wiring.links.iter().map(|host| host.link.name.as_str());
    let addresses: Vec<String> = wiring.addresses().iter().map(ToString::to_string).collect();
    let names: Vec<&str> =
        [chain.label.as_str()].into_iter().chain(links).chain(addresses.iter().map(String::as_str)).collect();
    let remarks = take(remarks, &names);
    Place { rate, remarks, chain }
}

/// Takes those out that are about something of these names.
fn take(remarks: &mut Vec<Remark>, names: &[&str]) -> Vec<Remark> {
    let is_named = |remark: &mut Remark| {
        let mut words = remark.object.split([' ', ',', '(', ')']);
        names.contains(&remark.object.as_str()) || words.any(|word| names.contains(&word))
    };
    remarks.extract_if(.., is_named).collect()
}

/// What `leaks` proved and `doctor` found, in a few words. What is not known is nothing to be marked: namespaces made by hand stay so for
/// ever.
fn remarks(found: &Leaks, ills: &Diagnosis) -> Vec<Remark> {
    let remark =
        |mark, object: &str, text: &str| Remark { mark, object: object.to_owned(), text: text.to_owned() };
    let orphans = found.with(Verdict::Orphan);
    let mut all: Vec<Remark> =
        orphans.map(|finding| remark(Mark::Bad, &finding.label, "leaked: see podplumb leaks")).collect();
    for finding in &ills.findings {
        let mark = match finding.severity {
            Severity::Error => Mark::Bad,
            Severity::Warning => Mark::Warning,
            Severity::Notice => continue,
        };
        all.push(remark(mark, &finding.object, &finding.found));
    }
    // The doctor tells these as well.
    for hazard in found.hazards.iter().filter(|hazard| hazard.severity == crate::Severity::Danger) {
        let is_told = |other: &Remark| other.object == hazard.object && other.text == hazard.text;
        if !all.iter().any(is_told) {
            all.push(remark(Mark::Bad, &hazard.object, &hazard.text));
        }
    }
    all
}

fn bridge(snapshot: &Snapshot, link: &Link, wired: &[IfIndex], stations: Vec<Station>) -> Bridge {
    let ports: Vec<&Link> = snapshot
        .host()
        .into_iter()
        .flat_map(|host| &host.links)
        .filter(|port| port.master == Some(link.index))
        .collect();
    Bridge {
        ports: ports.len(),
        other_ports: ports
            .iter()
            .filter(|port| !wired.contains(&port.index))
            .map(|port| port.name.clone())
            .collect(),
        learned: stations.iter().filter(|station| !station.set).count(),
        set: stations.iter().filter(|station| station.set).count(),
        stations,
        rate: None,
        remarks: Vec::new(),
        link: link.clone(),
    }
}

fn default_routes(snapshot: &Snapshot, device: IfIndex) -> impl Iterator<Item = &model::Route> {
    let routes = snapshot.stack.routes.iter().filter(|route| route.destination.prefix_len() == 0);
    routes.filter(move |route| {
        route.device == Some(device) || route.hops.iter().any(|hop| hop.device == device)
    })
}

/// A default route leaves by it, or a tunnel sends by it, or it is hardware that is up and has an address.
fn is_uplink(snapshot: &Snapshot, link: &Link) -> bool {
    let links = || snapshot.host().into_iter().flat_map(|host: &Namespace| &host.links);
    let carries = |tunnel: &Link| tunnel.vxlan.is_some_and(|vxlan| vxlan.lower == Some(link.index));
    let is_hardware = link.kind.is_empty() && !link.loopback && link.up;
    let has_address = link.addresses.iter().any(|net| !is_link_local(net.addr()));
    default_routes(snapshot, link.index).next().is_some()
        || links().any(carries)
        || is_hardware && (has_address || link.master.is_some())
}
