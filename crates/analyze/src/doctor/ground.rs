//! What checks go by: the snapshot, and what is joined from it once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use model::{IfIndex, Link, Namespace, Nsid, Snapshot, Source, Stack};

use super::Findings;
use super::lookup::{Way, way};
use crate::leaks::{Leaks, leaks};
use crate::traffic::seers;
use crate::verdict::Verdict;
use crate::wiring::{Wiring, is_link_local, wirings};

/// A veth between the host and a pod.
#[derive(Debug, Clone, Copy)]
pub struct Wire<'a> {
    /// The host's end.
    pub outside: &'a Link,
    /// The pod's end.
    pub inside: &'a Link,
    /// The bridge that the host's end is a port of.
    pub bridge: Option<&'a Link>,
}

/// A namespace that is wired to the host: a pod's or a container's. What leaked is not among them.
#[derive(Debug)]
pub struct Pod<'a> {
    /// What to call it.
    pub label: String,
    /// Its namespace.
    pub namespace: &'a Namespace,
    /// Its routes, neighbours and settings, where they could be read.
    pub stack: Option<&'a Stack>,
    /// Its veths to the host.
    pub wires: Vec<Wire<'a>>,
    /// It is a pod of Kubernetes'.
    pub is_pod: bool,
    /// An ADD or DEL of its own is at work.
    pub is_moving: bool,
}

impl<'a> Pod<'a> {
    /// The addresses that others may reach it by, each with its interface.
    pub fn addresses(&self) -> impl Iterator<Item = (&'a Link, &'a IpNet)> {
        let links = self.namespace.links.iter().filter(|link| !link.loopback);
        links.flat_map(|link| global(link).map(move |net| (link, net)))
    }

    /// Its default gateways, with the interface that leads there.
    pub fn gateways(&self) -> Vec<(IpAddr, IfIndex)> {
        let routes = self.stack.into_iter().flat_map(|stack| &stack.routes);
        let defaults = routes.filter(|route| route.destination.prefix_len() == 0 && route.kind.is_unicast());
        defaults.filter_map(|route| Some((route.gateway?, route.device?))).collect()
    }

    /// Whether it has a default route of the family.
    pub fn has_default_route(&self, v6: bool) -> Option<bool> {
        let is_default = |route: &model::Route| {
            route.destination.prefix_len() == 0
                && route.destination.addr().is_ipv6() == v6
                && route.kind.is_unicast()
        };
        Some(self.stack?.routes.iter().any(is_default))
    }
}

/// The addresses of an interface that are not only for its link.
pub(super) fn global(link: &Link) -> impl Iterator<Item = &IpNet> {
    link.addresses.iter().filter(|net| !is_link_local(net.addr()))
}

/// What checks go by.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// The host's namespace.
    pub host: Option<&'a Namespace>,
    /// The wirings.
    pub wirings: Vec<Wiring<'a>>,
    /// What leaked.
    pub leaks: Leaks,
    /// Pods and containers.
    pub pods: Vec<Pod<'a>>,
    links: HashMap<IfIndex, &'a Link>,
    pod_ends: HashSet<IfIndex>,
    /// By a gateway, or under a tunnel.
    led_away: HashSet<IfIndex>,
    /// Masters of pods' veths that are no bridges, and do with packets what only they know (Open vSwitch).
    switches: BTreeSet<String>,
    /// What decides about packets besides rules, and where.
    pub(super) programs: Vec<String>,
}

impl<'a> Ground<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Self {
        let host = snapshot.host();
        let host_links = host.map_or(&[][..], |host| &host.links);
        let mut ground = Self {
            snapshot,
            host,
            wirings: wirings(snapshot),
            leaks: leaks(snapshot, None, Duration::ZERO),
            pods: Vec::new(),
            links: host_links.iter().map(|link| (link.index, link)).collect(),
            pod_ends: HashSet::new(),
            led_away: HashSet::new(),
            switches: BTreeSet::new(),
            programs: Vec::new(),
        };
        ground.led_away = ground.find_led_away();
        let others =
            ground.links().filter(|link| link.kind == "veth" && !ground.led_away.contains(&link.index));
        ground.switches = others.filter_map(|link| ground.other_master(link)).collect();
        ground.pods = ground.find_pods();
        ground.programs = ground.find_programs();
        let ends = ground.pods.iter().flat_map(|pod| &pod.wires).map(|wire| wire.outside.index);
        ground.pod_ends = ends.collect();
        ground
    }

    fn find_pods(&self) -> Vec<Pod<'a>> {
        let orphans: HashSet<_> = self.leaks.with(Verdict::Orphan).filter_map(|leak| leak.ns_inode).collect();
        let mut pods = Vec::new();
        let mut seen: HashSet<*const Namespace> = HashSet::new();
        for wiring in &self.wirings {
            let is_tied = wiring.is_tied();
            for namespace in wiring.namespaces.iter().copied() {
                let is_orphan = namespace.inode.is_some_and(|inode| orphans.contains(&inode));
                if is_orphan || namespace.host || !seen.insert(namespace) {
                    continue;
                }
                let stack = self.snapshot.stack_of(namespace);
                let links = wiring.links.iter().filter_map(|link| Some((link.link, link.inside?)));
                let own = links
                    .filter(|(_, inside)| namespace.links.iter().any(|link| std::ptr::eq(link, *inside)));
                let wires: Vec<Wire<'a>> = own
                    .filter(|(outside, _)| self.other_master(outside).is_none())
                    .filter(|(outside, inside)| is_tied || self.is_pods_end(outside, inside, stack))
                    .map(|(outside, inside)| Wire { outside, inside, bridge: self.bridge_of(outside) })
                    .collect();
                if wires.is_empty() {
                    continue;
                }
                pods.push(Pod {
                    label: wiring.label(),
                    namespace,
                    stack,
                    wires,
                    is_pod: wiring.pod().is_some(),
                    is_moving: wiring
                        .records
                        .iter()
                        .any(|record| record.seen.as_ref().is_some_and(|seen| seen.locked))
                        || wiring.leases.iter().any(|lease| lease.locked),
                });
            }
        }
        pods
    }

    /// The name of what an interface is a port of, if that is no bridge of the kernel's.
    fn other_master(&self, port: &Link) -> Option<String> {
        let is_known = |master: &Link| matches!(master.kind.as_str(), "bridge" | "bond" | "team" | "vrf");
        self.link(port.master?).filter(|master| !is_known(master)).map(|master| master.name.clone())
    }

    /// Whether a namespace that nothing ties to a container is one all the same, and not what the host's uplink leads to.
    fn is_pods_end(&self, outside: &Link, inside: &Link, stack: Option<&Stack>) -> bool {
        if inside.master.is_some() || self.led_away.contains(&outside.index) {
            return false;
        }
        if self.bridge_of(outside).is_some() {
            return true;
        }
        // A routed pod: the host has a route to its address alone, or is its gateway, or has no address on that link at all and gets
        // everything that the pod sends. Or it came off its bridge.
        let own: Vec<IpAddr> = global(inside).map(IpNet::addr).collect();
        let is_routed = self.snapshot.stack.routes.iter().any(|route| {
            route.device == Some(outside.index)
                && route.destination.prefix_len() == route.destination.max_prefix_len()
                && own.contains(&route.destination.addr())
        });
        let mut gateways = stack
            .into_iter()
            .flat_map(|stack| &stack.routes)
            .filter(|route| route.destination.prefix_len() == 0 && route.device == Some(inside.index));
        let is_bare = global(outside).next().is_none();
        let is_gateway = gateways.any(|route| {
            is_bare
                || route
                    .gateway
                    .is_some_and(|gateway| outside.addresses.iter().any(|net| net.addr() == gateway))
        });
        let mut bridges = self.links().filter(|link| link.kind == "bridge");
        let is_bridges =
            bridges.any(|bridge| global(bridge).any(|net| own.iter().any(|address| net.contains(address))));
        is_routed || is_gateway || (is_bare && is_bridges)
    }

    /// Interfaces of the host that lead away from it: by a gateway, or under a tunnel.
    fn find_led_away(&self) -> HashSet<IfIndex> {
        let routes = self.snapshot.stack.routes.iter();
        let by_gateway = routes.flat_map(|route| {
            let own = route.device.filter(|_| route.gateway.is_some());
            let hops = route.hops.iter().filter(|hop| hop.gateway.is_some()).map(|hop| hop.device);
            own.into_iter().chain(hops)
        });
        let lower = self.links().filter_map(|link| link.vxlan.as_ref()?.lower);
        by_gateway.chain(lower).collect()
    }

    /// The host's interfaces.
    pub fn links(&self) -> impl Iterator<Item = &'a Link> + use<'a> {
        self.host.into_iter().flat_map(|host| &host.links)
    }

    /// The host's interface of this index.
    pub fn link(&self, index: IfIndex) -> Option<&'a Link> {
        self.links.get(&index).copied()
    }

    /// What to call the host's interface of this index.
    pub fn name(&self, index: IfIndex) -> String {
        self.link(index).map_or_else(|| format!("interface {index}"), |link| link.name.clone())
    }

    /// The bridge that an interface of the host is a port of.
    pub fn bridge_of(&self, port: &Link) -> Option<&'a Link> {
        self.link(port.master?).filter(|master| master.kind == "bridge")
    }

    /// The ports of a bridge of the host.
    pub fn ports(&self, bridge: &Link) -> impl Iterator<Item = &'a Link> + use<'a> {
        let index = bridge.index;
        self.links().filter(move |link| link.master == Some(index))
    }

    /// The host's bridges that pods are behind.
    pub fn pod_bridges(&self) -> Vec<&'a Link> {
        let mut bridges: Vec<&Link> = self.wires().filter_map(|(_, wire)| wire.bridge).collect();
        bridges.sort_by_key(|bridge| bridge.index);
        bridges.dedup_by_key(|bridge| bridge.index);
        bridges
    }

    /// All veths between pods and the host.
    pub fn wires(&self) -> impl Iterator<Item = (&Pod<'a>, Wire<'a>)> {
        self.pods.iter().flat_map(|pod| pod.wires.iter().map(move |wire| (pod, *wire)))
    }

    /// Whether nobody but pods that were seen is behind a bridge.
    pub fn is_closed(&self, bridge: &Link) -> bool {
        self.ports(bridge).all(|port| self.pod_ends.contains(&port.index))
    }

    /// Interfaces by which packets leave the node: with an address, and no pods behind them.
    pub fn uplinks(&self) -> Vec<&'a Link> {
        let inner = ["vxlan", "dummy", "ifb", "wireguard", "tun", "geneve", "gre", "ipip", "sit", "vrf"];
        self.links()
            .filter(|link| !link.loopback && link.up && global(link).next().is_some())
            .filter(|link| !self.pod_ends.contains(&link.index) && !inner.contains(&link.kind.as_str()))
            .filter(|link| {
                link.kind != "bridge"
                    || self
                        .ports(link)
                        .any(|port| !self.pod_ends.contains(&port.index) && port.kind != "vxlan")
            })
            .collect()
    }

    /// The host's routes and settings; says so where they are not known.
    pub(super) fn stack(&self, findings: &mut Findings) -> Option<&'a Stack> {
        let stack = &self.snapshot.stack;
        if stack.sysctls.is_empty() {
            findings.blind("the snapshot does not have the host's settings: take it again");
            return None;
        }
        for gap in self.snapshot.coverage.iter().filter(|gap| gap.object.starts_with("host: ")) {
            findings.blind(format!("{} could not be read: {}", gap.object, gap.why));
        }
        Some(stack)
    }

    /// The routes and settings of a pod; says so where they are not known.
    pub(super) fn stack_of(&self, pod: &Pod<'a>, findings: &mut Findings) -> Option<&'a Stack> {
        if pod.stack.is_none() {
            findings.blind(self.unread(pod));
        }
        pod.stack
    }

    fn unread(&self, pod: &Pod<'a>) -> String {
        let label = pod.namespace.label();
        let gap =
            self.snapshot.coverage.iter().find(|gap| gap.source == Source::Namespace && gap.object == label);
        match gap {
            Some(gap) => format!("{label} could not be entered: {}", gap.why),
            None => "the snapshot does not have the routes and settings of all pods".to_owned(),
        }
    }

    /// Veths that lead to where nothing could be read: whatever is wrong in there is not seen.
    pub(super) fn tell_unreadable(&self, findings: &mut Findings) {
        for switch in &self.switches {
            findings.blind(format!(
                "what {switch} does with packets of pods is not known: it is no bridge of the kernel's"
            ));
        }
        // What the node's own uplink leads to, where the node is a container itself, is somebody else's.
        let veths = self.links().filter(|link| link.kind == "veth" && !self.led_away.contains(&link.index));
        let leads_away = veths.filter(|link| {
            link.peer.is_some_and(|peer| peer.nsid.is_some_and(|nsid| nsid != Nsid::NOT_ASSIGNED))
        });
        let unread = leads_away
            .filter(|link| self.snapshot.peer(link).is_none_or(|(namespace, _)| !namespace.readable));
        let names: Vec<&str> = unread.map(|link| link.name.as_str()).collect();
        if !names.is_empty() {
            findings.blind(format!("what is behind {} could not be read", listed(&names)));
        }
    }

    /// By kind: some make a program for each interface.
    fn find_programs(&self) -> Vec<String> {
        let host = self.host.map(|host| (host, &self.snapshot.stack));
        let pods = self.pods.iter().filter_map(|pod| Some((pod.namespace, pod.stack?)));
        let (mut unread, mut places) = (Vec::new(), BTreeMap::<String, BTreeSet<&str>>::new());
        for (namespace, stack) in host.into_iter().chain(pods) {
            match seers(namespace, stack) {
                Some(seers) => {
                    for seer in seers {
                        places.entry(seer.kind).or_default().insert(&seer.link.name);
                    }
                }
                None => unread.push(namespace.label()),
            }
        }
        let tell = |(kind, links): (String, BTreeSet<&str>)| {
            let links: Vec<&str> = links.into_iter().collect();
            format!("what {kind} do with packets at {} is not known", listed(&links))
        };
        let mut found: Vec<String> = places.into_iter().map(tell).collect();
        if !unread.is_empty() {
            let unread: Vec<&str> = unread.iter().map(String::as_str).collect();
            found.push(format!("which programs are at interfaces of {} is not known", listed(&unread)));
        }
        found
    }

    /// The way of a packet of the host's to an address.
    pub(super) fn way(&self, to: IpAddr) -> Way<'a> {
        self.host.map_or(Way::Nowhere, |host| way(host, &self.snapshot.stack, to))
    }

    /// Whether an interface of the host leads to another one of the host, so that programs have to move on what is routed there (Cilium's
    /// cilium_host, Calico's bpfin.cali).
    pub(super) fn is_looped(&self, index: IfIndex) -> bool {
        let peer =
            self.link(index).filter(|link| link.kind == "veth").and_then(|link| self.snapshot.peer(link));
        peer.is_some_and(|(namespace, _)| namespace.host)
    }

    /// Whether an address is the host's own.
    pub fn is_hosts(&self, address: IpAddr) -> bool {
        self.links().any(|link| link.addresses.iter().any(|net| net.addr() == address))
    }
}

/// The first few, and how many more.
pub(super) fn listed(names: &[&str]) -> String {
    let shown = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 3 { format!("{shown} and {} more", names.len() - 3) } else { shown }
}
