//! Who shares a link with whom, and the addresses there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::IfName;

use super::draft::Draft;
use super::{Result, fault};
use crate::topology::Step;
use crate::wiring::{DeviceKind, MachineKind};

/// Interfaces that hear each other: one link, or several that bridges join.
#[derive(Debug, Default)]
pub(super) struct Segment {
    /// Machines and their interfaces on it, bridges that have addresses included.
    pub(super) members: Vec<Member>,
    /// The subnets there.
    pub(super) subnets: Vec<IpNet>,
    /// The node whose pods are on it.
    pub(super) pods_of: Option<usize>,
    at: Vec<Step>,
}

/// An interface with addresses.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) machine: usize,
    pub(super) device: IfName,
    pub(super) addresses: Vec<IpNet>,
    gets: bool,
}

/// Finds the segments, and gives every end of a link that has no addresses one of each subnet of its segment.
pub(super) fn assign(draft: &mut Draft<'_>) -> Result<Vec<Segment>> {
    let mut segments = segments(draft);
    for segment in &mut segments {
        let own = segment.members.iter().flat_map(|member| &member.addresses);
        // A /32 or /128 says nothing about its neighbours.
        let said = own.filter(|net| net.prefix_len() < net.max_prefix_len()).map(IpNet::trunc);
        let said: Vec<IpNet> = said.collect();
        for subnet in said {
            if !segment.subnets.contains(&subnet) {
                segment.subnets.push(subnet);
            }
        }
    }
    let mut pools = Pools::new(draft, &segments)?;
    for segment in &mut segments {
        let wanted = segment.members.iter().filter(|member| member.gets).count();
        if segment.subnets.is_empty() && wanted > 0 {
            segment.subnets = pools.take(wanted, &segment.at)?;
        }
        give(draft, segment)?;
    }
    for segment in &segments {
        for member in &segment.members {
            if let Some(device) = draft.device_mut(member.machine, &member.device) {
                device.addresses = member.addresses.clone();
            }
        }
    }
    Ok(segments)
}

fn segments(draft: &Draft<'_>) -> Vec<Segment> {
    let mut sets = Sets::default();
    let mut roots = Vec::new();
    for link in &draft.links {
        let own = sets.fresh();
        for end in &link.ends {
            if let Some(bridge) = &end.bridge {
                let bridge = sets.of_bridge(end.machine, bridge);
                sets.join(own, bridge);
            }
        }
        roots.push(own);
    }
    // By root, in the order in which they turn up first.
    let mut place: HashMap<usize, usize> = HashMap::new();
    let mut segments: Vec<Segment> = Vec::new();
    let mut at = |sets: &mut Sets, node: usize, segments: &mut Vec<Segment>| {
        *place.entry(sets.root(node)).or_insert_with(|| {
            segments.push(Segment::default());
            segments.len() - 1
        })
    };
    for (link, root) in draft.links.iter().zip(roots) {
        let segment = at(&mut sets, root, &mut segments);
        let segment = &mut segments[segment];
        if segment.at.is_empty() {
            segment.at.clone_from(&link.at);
        }
        for subnet in &link.subnets {
            if !segment.subnets.contains(&subnet.trunc()) {
                segment.subnets.push(subnet.trunc());
            }
        }
        for end in &link.ends {
            if end.bridge.is_some() {
                if let Some(switch) = draft.said[end.machine].switch {
                    let new: Vec<IpNet> = switch.subnet.0.iter().map(IpNet::trunc).collect();
                    segment.subnets.extend(
                        new.into_iter().filter(|net| !segment.subnets.contains(net)).collect::<Vec<_>>(),
                    );
                }
                if draft.machines[end.machine].kind == MachineKind::Node
                    && link.at.last() == Some(&"pods".into())
                {
                    segment.pods_of = Some(end.machine);
                }
                continue;
            }
            segment.members.push(Member {
                machine: end.machine,
                device: end.device.clone(),
                addresses: end.addresses.clone().unwrap_or_default(),
                gets: end.addresses.is_none(),
            });
        }
    }
    for (machine, spec) in draft.machines.iter().enumerate() {
        for device in &spec.devices {
            let is_bridge = matches!(device.kind, DeviceKind::Bridge { .. });
            if is_bridge && !device.addresses.is_empty() {
                let node = sets.of_bridge(machine, &device.name);
                let segment = at(&mut sets, node, &mut segments);
                let addresses = device.addresses.clone();
                segments[segment].members.push(Member {
                    machine,
                    device: device.name.clone(),
                    addresses,
                    gets: false,
                });
            }
        }
    }
    segments
}

/// Disjoint sets.
#[derive(Default)]
struct Sets {
    parents: Vec<usize>,
    bridges: HashMap<(usize, IfName), usize>,
}

impl Sets {
    fn fresh(&mut self) -> usize {
        self.parents.push(self.parents.len());
        self.parents.len() - 1
    }

    fn of_bridge(&mut self, machine: usize, bridge: &IfName) -> usize {
        if let Some(known) = self.bridges.get(&(machine, bridge.clone())) {
            return *known;
        }
        let fresh = self.fresh();
        self.bridges.insert((machine, bridge.clone()), fresh);
        fresh
    }

    fn root(&mut self, mut node: usize) -> usize {
        while self.parents[node] != node {
            self.parents[node] = self.parents[self.parents[node]];
            node = self.parents[node];
        }
        node
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        // The older one stays: segments keep the order of the file.
        self.parents[a.max(b)] = a.min(b);
    }
}

/// Gives each member that gets addresses the next free one of each subnet: those that forward first, since they are gateways.
fn give(draft: &Draft<'_>, segment: &mut Segment) -> Result<()> {
    let mut taken: HashSet<IpAddr> =
        segment.members.iter().flat_map(|member| member.addresses.iter().map(IpNet::addr)).collect();
    let mut order: Vec<usize> = (0..segment.members.len()).filter(|i| segment.members[*i].gets).collect();
    order.sort_by_key(|i| !draft.machines[segment.members[*i].machine].forwards());
    for subnet in &segment.subnets {
        let mut free = usable(*subnet);
        for member in &order {
            let Some(address) = free.find(|address| taken.insert(*address)) else {
                let what = format!(
                    "{subnet} has no address left for `{}`",
                    draft.machines[segment.members[*member].machine].name
                );
                return Err(
                    fault(segment.at.iter().cloned(), what).hint("give the link or switch a larger `subnet`")
                );
            };
            let address = IpNet::new(address, subnet.prefix_len()).expect("a length of the same family");
            segment.members[*member].addresses.push(address);
        }
    }
    Ok(())
}

/// Where subnets come from.
struct Pools {
    pools: Vec<IpNet>,
    /// What stands in the file, by its first and last address.
    used: BTreeMap<IpAddr, IpAddr>,
    next: Vec<Option<IpAddr>>,
}

/// The usual size of a subnet.
const USUAL: u8 = 24;

impl Pools {
    fn new(draft: &Draft<'_>, segments: &[Segment]) -> Result<Self> {
        let pools = match &draft.topology.pool {
            None => vec!["10.0.0.0/8".parse().expect("a subnet")],
            Some(pools) => pools.0.iter().map(IpNet::trunc).collect(),
        };
        let mut families: Vec<bool> = pools.iter().map(|pool| pool.addr().is_ipv6()).collect();
        families.dedup();
        if families.len() < pools.len() {
            return Err(fault(["pool"], "two pools of one family").hint("one of IPv4, one of IPv6, or both"));
        }
        let used = segments.iter().flat_map(|segment| &segment.subnets);
        let others = draft.machines.iter().flat_map(|machine| machine.addresses()).collect::<Vec<_>>();
        let used = used.chain(&others).map(|net| (net.network(), net.broadcast())).collect();
        let next = pools.iter().map(|pool| Some(pool.network())).collect();
        Ok(Self { pools, used, next })
    }

    /// A subnet of each pool, with room for so many.
    fn take(&mut self, members: usize, at: &[Step]) -> Result<Vec<IpNet>> {
        (0..self.pools.len())
            .map(|pool| {
                let (of, v6) = (self.pools[pool], self.pools[pool].addr().is_ipv6());
                // Network, broadcast.
                let bits = u8::try_from((members + 2).next_power_of_two().trailing_zeros()).unwrap_or(32);
                let length = if v6 { 64 } else { USUAL.min(32u8.saturating_sub(bits)) }.max(of.prefix_len());
                self.next_free(pool, length).ok_or_else(|| {
                    let what = format!("the pool {of} has no subnet left for {members} addresses");
                    fault(at.iter().cloned(), what)
                        .hint("choose a larger `pool`, or give the link a `subnet`")
                })
            })
            .collect()
    }

    fn next_free(&mut self, pool: usize, length: u8) -> Option<IpNet> {
        loop {
            let candidate = IpNet::new(self.next[pool]?, length).ok()?.trunc();
            // The next may begin in the middle of a larger one that was taken.
            let candidate =
                if candidate.network() < self.next[pool]? { following(candidate)? } else { candidate };
            if !self.pools[pool].contains(&candidate) {
                return None;
            }
            self.next[pool] = following(candidate).map(|net| net.network());
            let (first, last) = (candidate.network(), candidate.broadcast());
            let clashes = self
                .used
                .range(..=last)
                .any(|(used, end)| used.is_ipv6() == first.is_ipv6() && *end >= first);
            if !clashes {
                return Some(candidate);
            }
        }
    }
}

/// The addresses that interfaces may have. Of IPv6 the first means "any router here" (RFC 4291, 2.6.1).
pub(super) fn usable(subnet: IpNet) -> impl Iterator<Item = IpAddr> {
    let is_anycast = subnet.addr().is_ipv6() && subnet.prefix_len() < 127;
    subnet.hosts().skip(usize::from(is_anycast))
}

/// The subnet of the same size behind this one.
fn following(net: IpNet) -> Option<IpNet> {
    match net {
        IpNet::V4(net) => {
            let size = 1u32.checked_shl(32 - u32::from(net.prefix_len()))?;
            let next = u32::from(net.network()).checked_add(size)?;
            Some(Ipv4Net::new(next.into(), net.prefix_len()).ok()?.into())
        }
        IpNet::V6(net) => {
            let size = 1u128.checked_shl(128 - u32::from(net.prefix_len()))?;
            let next = u128::from(net.network()).checked_add(size)?;
            Some(Ipv6Net::new(next.into(), net.prefix_len()).ok()?.into())
        }
    }
}
