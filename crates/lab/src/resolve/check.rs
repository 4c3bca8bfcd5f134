//! What cannot work, or hardly as it was meant.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use model::MacAddr;

use super::addresses::Segment;
use super::draft::Draft;
use super::overlay::{DEFAULT_MTU, cost};
use super::{Result, fault};
use crate::topology::Step;
use crate::wiring::{Device, DeviceKind, Machine};

/// `BR_MAX_PORTS` (net/bridge/br_private.h) is 1,024, and number 0 is not given.
const MOST_PORTS: usize = 1_023;
/// The least that IPv4 allows (RFC 791), and `ETH_MIN_MTU`.
const LEAST_MTU: u32 = 68;
/// The most of a veth, bridge or VXLAN device (`ETH_MAX_MTU`).
const MOST_MTU: u32 = 65_535;
/// With less, an interface has no IPv6 (RFC 8200, 5).
const LEAST_MTU_V6: u32 = 1_280;

/// Refuses what contradicts itself; returns what is only odd.
pub(super) fn check(draft: &Draft<'_>, segments: &[Segment]) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for (number, machine) in draft.machines.iter().enumerate() {
        let at = &draft.said[number].at;
        names(machine, at)?;
        ports(machine, at)?;
        for device in &machine.devices {
            sizes(machine, device, at)?;
            vlans(machine, device, at)?;
        }
    }
    for link in &draft.links {
        for end in &link.ends {
            subnets(&link.at, &link.subnets, end.addresses.as_deref().unwrap_or_default())?;
        }
    }
    for segment in segments {
        unique(draft, segment)?;
    }
    warnings.extend(loops(draft));
    Ok(warnings)
}

fn at(steps: &[Step]) -> impl Iterator<Item = Step> {
    steps.iter().cloned()
}

fn names(machine: &Machine, place: &[Step]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    match machine.devices.iter().find(|device| !seen.insert(&device.name)) {
        Some(twice) => {
            let what = format!("`{}` has two interfaces `{}`", machine.name, twice.name);
            Err(fault(at(place), what).hint("give one of them another name"))
        }
        None => Ok(()),
    }
}

fn ports(machine: &Machine, place: &[Step]) -> Result<()> {
    let mut count: HashMap<&str, usize> = HashMap::new();
    for port in machine.devices.iter().filter_map(|device| device.port.as_ref()) {
        *count.entry(port.bridge.as_str()).or_default() += 1;
        if machine.device(port.bridge.as_str()).is_none() {
            let what = format!("`{}` has no bridge `{}`", machine.name, port.bridge);
            return Err(fault(at(place), what).hint(format!("give it one: `bridges: [{}]`", port.bridge)));
        }
    }
    match count.into_iter().find(|(_, count)| *count > MOST_PORTS) {
        Some((bridge, count)) => {
            let what = format!(
                "the bridge `{bridge}` of `{}` has {count} ports; the kernel allows {MOST_PORTS}",
                machine.name
            );
            Err(fault(at(place), what).hint("spread the links over several switches"))
        }
        None => Ok(()),
    }
}

fn sizes(machine: &Machine, device: &Device, place: &[Step]) -> Result<()> {
    let Some(mtu) = device.mtu_bytes else { return Ok(()) };
    let refuse = |what: String, hint: String| Err(fault(at(place), what).hint(hint));
    let name = format!("`{}:{}`", machine.name, device.name);
    if !(LEAST_MTU..=MOST_MTU).contains(&mtu) {
        return refuse(format!("{name} has an MTU of {mtu}"), format!("{LEAST_MTU} to {MOST_MTU} bytes"));
    }
    if mtu < LEAST_MTU_V6 && device.addresses.iter().any(|net| net.addr().is_ipv6()) {
        let hint = format!("IPv6 needs {LEAST_MTU_V6} bytes");
        return refuse(format!("{name} has an IPv6 address and an MTU of {mtu}"), hint);
    }
    let (below, room) = match &device.kind {
        DeviceKind::Vxlan { local, on: Some(on), .. } => {
            (machine.device(on.as_str()), local.map_or(50, cost))
        }
        _ => (None, 0),
    };
    if let Some(below) = below {
        let fits = below.mtu_bytes.unwrap_or(DEFAULT_MTU).saturating_sub(room);
        if mtu > fits {
            let hint =
                format!("`{}` has {}, of which VXLAN takes {room}: at most {fits}", below.name, fits + room);
            return refuse(format!("{name} has an MTU of {mtu}"), hint);
        }
    }
    Ok(())
}

fn subnets(place: &[Step], subnets: &[IpNet], addresses: &[IpNet]) -> Result<()> {
    let outside = addresses.iter().find(|address| {
        let mut same =
            subnets.iter().filter(|net| net.addr().is_ipv4() == address.addr().is_ipv4()).peekable();
        same.peek().is_some() && !same.any(|net| net.contains(&address.addr()))
    });
    match outside {
        Some(address) => {
            let of: Vec<String> = subnets.iter().map(IpNet::to_string).collect();
            Err(fault(at(place), format!("{address} is outside of {}", of.join(", ")))
                .hint("change the address or the subnet"))
        }
        None => Ok(()),
    }
}

/// Nobody has an address or a MAC that another one on the same segment has.
fn unique(draft: &Draft<'_>, segment: &Segment) -> Result<()> {
    let mut addresses: HashMap<IpAddr, usize> = HashMap::new();
    let mut macs: HashMap<MacAddr, usize> = HashMap::new();
    for member in &segment.members {
        let place = &draft.said[member.machine].at;
        let twice = |what: String, other: usize| {
            let names = (&draft.machines[other].name, &draft.machines[member.machine].name);
            Err(fault(at(place), format!("`{}` and `{}` both have {what}", names.0, names.1))
                .hint("change one of them"))
        };
        for address in &member.addresses {
            if let Some(other) = addresses.insert(address.addr(), member.machine) {
                return twice(address.addr().to_string(), other);
            }
        }
        let mac = draft.machines[member.machine].device(member.device.as_str()).and_then(|device| device.mac);
        if let Some((mac, other)) = mac.and_then(|mac| Some((mac, macs.insert(mac, member.machine)?))) {
            return twice(format!("the MAC {mac}"), other);
        }
    }
    Ok(())
}

/// VLANs are for bridges that look at them.
fn vlans(machine: &Machine, device: &Device, at: &[Step]) -> Result<()> {
    let bridge = device.port.as_ref().map_or(&device.name, |port| &port.bridge);
    let filters = matches!(
        machine.device(bridge.as_str()).map(|bridge| &bridge.kind),
        Some(DeviceKind::Bridge { vlan_filtering: true, .. })
    );
    if device.vlans.is_none() || filters {
        return Ok(());
    }
    let what = format!("`{}` of `{}` has VLANs, and no bridge that looks at them", device.name, machine.name);
    Err(fault(at.iter().cloned(), what).hint(format!("say `vlan_filtering: true` of `{bridge}`")))
}

/// Bridges that are connected in a ring send a broadcast round for ever, unless they have a spanning tree.
fn loops(draft: &Draft<'_>) -> Option<String> {
    let mut parents: HashMap<(usize, String), (usize, String)> = HashMap::new();
    fn root(
        parents: &HashMap<(usize, String), (usize, String)>,
        mut node: (usize, String),
    ) -> (usize, String) {
        while let Some(parent) = parents.get(&node) {
            node = parent.clone();
        }
        node
    }
    for link in &draft.links {
        let ends = link.ends.each_ref().map(|end| {
            let bridge = end.bridge.as_ref()?;
            let device = draft.machines[end.machine].device(bridge.as_str())?;
            matches!(device.kind, DeviceKind::Bridge { stp: false, .. })
                .then(|| (end.machine, bridge.to_string()))
        });
        let [Some(a), Some(b)] = ends else { continue };
        let (a, b) = (root(&parents, a), root(&parents, b));
        if a == b {
            let name = &draft.machines[link.ends[1].machine].name;
            return Some(format!(
                "bridges are connected in a ring at `{name}`: a broadcast goes round for ever. Say `stp: true` of one of them"
            ));
        }
        parents.insert(a, b);
    }
    None
}
