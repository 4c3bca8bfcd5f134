//! Static routes by the shortest ways, for everybody of whom the file says nothing else.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;
use model::IfName;

use super::addresses::{Member, Segment};
use super::draft::Draft;
use crate::topology::{OverlayKind, Routing};
use crate::wiring::{MachineKind, Route};

/// A way that the search has found: through this address, by this interface.
type Hop = (IpAddr, IfName);

/// Gives every machine that has no routes and no gateway of its own a route to each subnet that it can reach.
pub(super) fn add(draft: &mut Draft<'_>, segments: &[Segment]) {
    if draft.topology.routing == Routing::None {
        return;
    }
    let net = Net::new(draft, segments);
    let mut found: Vec<BTreeMap<IpNet, Hop>> = vec![BTreeMap::new(); draft.machines.len()];
    for (target, segment) in segments.iter().enumerate() {
        for subnet in &segment.subnets {
            net.flood(draft, target, *subnet, &mut found);
        }
    }
    for (machine, routes) in found.into_iter().enumerate() {
        let said = draft.said[machine].machine;
        if said.is_some_and(|said| !said.gateway.is_empty() || !said.routes.is_empty()) {
            continue;
        }
        let routes = match net.default_of(draft, machine, &routes) {
            Some(defaults) => defaults,
            None => routes.into_iter().collect(),
        };
        let routes = routes.into_iter().map(|(destination, (gateway, device))| Route {
            destination,
            gateway: Some(gateway),
            device,
            onlink: false,
            mtu_bytes: None,
            source: None,
            metric: None,
        });
        draft.machines[machine].routes.extend(routes);
    }
}

/// Who is where.
struct Net<'a> {
    segments: &'a [Segment],
    /// The segments of each machine that forwards.
    of_forwarder: HashMap<usize, Vec<usize>>,
    /// Whether pods are reached by the overlay, not by routing.
    hides_pods: bool,
}

impl<'a> Net<'a> {
    fn new(draft: &Draft<'_>, segments: &'a [Segment]) -> Self {
        let mut of_forwarder: HashMap<usize, Vec<usize>> = HashMap::new();
        for (number, segment) in segments.iter().enumerate() {
            for member in segment.members.iter().filter(|member| draft.machines[member.machine].forwards()) {
                of_forwarder.entry(member.machine).or_default().push(number);
            }
        }
        let overlay = draft.topology.overlay.as_ref().map(|overlay| overlay.kind);
        Net { segments, of_forwarder, hides_pods: overlay == Some(OverlayKind::Vxlan) }
    }

    /// Goes outward from a subnet and notes at each machine the first way there that it meets.
    fn flood(&self, draft: &Draft<'_>, target: usize, subnet: IpNet, found: &mut [BTreeMap<IpNet, Hop>]) {
        let is_pods = self.segments[target].pods_of.is_some();
        if self.hides_pods && is_pods {
            return;
        }
        let mut seen = vec![false; self.segments.len()];
        seen[target] = true;
        let mut queue = VecDeque::from([target]);
        while let Some(here) = queue.pop_front() {
            for member in &self.segments[here].members {
                let Some(beyond) = self.of_forwarder.get(&member.machine) else { continue };
                for next in beyond {
                    if seen[*next] || self.masquerades(draft, member.machine, here, *next, subnet) {
                        continue;
                    }
                    seen[*next] = true;
                    queue.push_back(*next);
                    self.note(member.machine, *next, target, subnet, found);
                }
            }
        }
    }

    /// Everybody on this segment who is not nearer reaches the subnet through the forwarder.
    fn note(
        &self,
        forwarder: usize,
        segment: usize,
        target: usize,
        subnet: IpNet,
        found: &mut [BTreeMap<IpNet, Hop>],
    ) {
        let is_v4 = subnet.addr().is_ipv4();
        let members = &self.segments[segment].members;
        let address = |member: &Member| {
            member.addresses.iter().map(IpNet::addr).find(|address| address.is_ipv4() == is_v4)
        };
        let Some(gateway) = members.iter().filter(|member| member.machine == forwarder).find_map(address)
        else {
            return;
        };
        let is_there = |machine| self.segments[target].members.iter().any(|member| member.machine == machine);
        for member in members.iter().filter(|member| member.machine != forwarder && address(member).is_some())
        {
            if !is_there(member.machine) {
                found[member.machine].entry(subnet).or_insert_with(|| (gateway, member.device.clone()));
            }
        }
    }

    /// Whether the forwarder hides the subnet, which lies beyond `behind`, from those on `outside`.
    fn masquerades(
        &self,
        draft: &Draft<'_>,
        forwarder: usize,
        behind: usize,
        outside: usize,
        subnet: IpNet,
    ) -> bool {
        let on = |segment: usize, device: &IfName| {
            self.segments[segment].members.iter().any(|m| m.machine == forwarder && m.device == *device)
        };
        draft.machines[forwarder].nat.masquerade.iter().any(|rule| {
            let covers = rule.source.is_none_or(|source| source.contains(&subnet));
            let leaves = rule.out.as_ref().is_none_or(|out| on(outside, out) && !on(behind, out));
            covers && leaves
        })
    }

    /// The routes of a machine that has one neighbour to ask for everything else.
    fn default_of(
        &self,
        draft: &Draft<'_>,
        machine: usize,
        found: &BTreeMap<IpNet, Hop>,
    ) -> Option<Vec<(IpNet, Hop)>> {
        if draft.machines[machine].kind == MachineKind::Router {
            return None;
        }
        let everywhere =
            |v4: bool| -> IpNet { if v4 { "0.0.0.0/0" } else { "::/0" }.parse().expect("a network") };
        let mut defaults = Vec::new();
        for v4 in [true, false] {
            let mut hops: Vec<Hop> = self.neighbours(draft, machine, v4);
            hops.dedup();
            let others = || found.iter().filter(|(net, _)| net.addr().is_ipv4() == v4);
            match hops.as_slice() {
                // It hides whatever is behind it: nobody here knows of a way there, as on the internet.
                [hop] if others().next().is_none() && self.lends_its_address(draft, hop) => {}
                [hop] => {
                    defaults.push((everywhere(v4), hop.clone()));
                    defaults.extend(
                        others().filter(|(_, way)| *way != hop).map(|(net, way)| (*net, way.clone())),
                    );
                }
                _ => defaults.extend(others().map(|(net, hop)| (*net, hop.clone()))),
            }
        }
        Some(defaults)
    }

    /// Whether the forwarder at this address masquerades what leaves through the interface that has it.
    fn lends_its_address(&self, draft: &Draft<'_>, (gateway, _): &Hop) -> bool {
        let has_it = |member: &&Member| member.addresses.iter().any(|net| net.addr() == *gateway);
        self.segments.iter().flat_map(|segment| &segment.members).find(has_it).is_some_and(|member| {
            let rules = &draft.machines[member.machine].nat.masquerade;
            rules.iter().any(|rule| rule.out.as_ref().is_none_or(|out| *out == member.device))
        })
    }

    /// The forwarders next to a machine.
    fn neighbours(&self, draft: &Draft<'_>, machine: usize, v4: bool) -> Vec<Hop> {
        let mut hops = Vec::new();
        for segment in self.segments {
            let Some(own) = segment.members.iter().find(|member| member.machine == machine) else { continue };
            if !own.addresses.iter().any(|net| net.addr().is_ipv4() == v4) {
                continue;
            }
            for member in segment.members.iter().filter(|member| member.machine != machine) {
                let address =
                    member.addresses.iter().map(IpNet::addr).find(|address| address.is_ipv4() == v4);
                let leads_on = match draft.machines[member.machine].kind {
                    MachineKind::Router => true,
                    // Nodes are each other's equals.
                    MachineKind::Node => draft.machines[machine].kind != MachineKind::Node,
                    _ => false,
                };
                if let Some(address) = address.filter(|_| leads_on) {
                    hops.push((address, own.device.clone()));
                }
            }
        }
        hops
    }
}
