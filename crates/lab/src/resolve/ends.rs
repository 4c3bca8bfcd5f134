//! Links: who with whom, by which interfaces.

use std::collections::HashMap;

use ipnet::IpNet;
use model::IfName;

use super::draft::{Draft, Joined, Joint, SWITCH_BRIDGE, interface_name, mac, parse_at};
use super::{Result, fault, words};
use crate::topology::{self, LinkSettings, Step, printable};
use crate::wiring::{Device, DeviceKind, End, MachineKind, Port};

/// One side of a link as it is written: `router/br0:veth0 10.0.0.1/24`.
struct Side<'a> {
    name: &'a str,
    bridge: Option<IfName>,
    device: Option<IfName>,
    addresses: Vec<IpNet>,
}

/// Makes both ends of every link.
pub(super) fn connect(draft: &mut Draft<'_>) -> Result<()> {
    let topology = draft.topology;
    let mut taken = Taken::default();
    // Names that the file chooses are not given to others, wherever they stand.
    let mut pairs = Vec::new();
    for (number, link) in topology.links.iter().enumerate() {
        let at = vec![Step::from("links"), number.into()];
        for (left, right) in expand(draft, &link.link, &at)? {
            for (machine, side) in [&left, &right] {
                if let Some(device) = &side.device {
                    taken.take(draft, *machine, device, &at)?;
                }
            }
            pairs.push((left, right, &link.settings, at.clone()));
        }
    }
    for ((left, left_side), (right, right_side), settings, at) in pairs {
        let names = [taken.name(draft, left, &left_side), taken.name(draft, right, &right_side)];
        join(draft, [(left, left_side), (right, right_side)], names, settings, at)?;
    }
    Ok(())
}

/// Two machines, and what the file says of each's end.
type Pair<'a> = ((usize, Side<'a>), (usize, Side<'a>));

/// The pairs that a link's words stand for.
fn expand<'a>(draft: &Draft<'_>, words: &'a str, at: &[Step]) -> Result<Vec<Pair<'a>>> {
    let plain = |name: &'a str| Side { name, bridge: None, device: None, addresses: Vec::new() };
    if let Some((shape @ ("ring" | "line" | "mesh"), group)) = words.trim().split_once(' ') {
        let group = group.trim();
        let members = draft.groups.get(group).ok_or_else(|| draft.unknown(at, group))?;
        let all = || members.iter().enumerate();
        let pairs: Vec<(usize, usize)> = match shape {
            "ring" if members.len() < 3 => {
                let what = format!("a ring of {}", members.len());
                return Err(fault(at.iter().cloned(), what).hint("a ring has three members at least"));
            }
            "ring" => all().map(|(i, member)| (*member, members[(i + 1) % members.len()])).collect(),
            "line" => members.windows(2).map(|pair| (pair[0], pair[1])).collect(),
            _ => all().flat_map(|(i, a)| members[i + 1..].iter().map(|b| (*a, *b))).collect(),
        };
        return Ok(pairs.into_iter().map(|(a, b)| ((a, plain(group)), (b, plain(group)))).collect());
    }
    let Some((left, right)) = words.split_once("--") else {
        let what = format!("`{}` is not a link", printable(words));
        return Err(fault(at.iter().cloned(), what).hint("write `a -- b`, or `ring r`, `line r`, `mesh r`"));
    };
    let (left, lefts) = side(draft, left, at)?;
    let (right, rights) = side(draft, right, at)?;
    let pairs: Vec<(usize, usize)> = match (lefts, rights) {
        (a, b) if a == b && a.len() > 1 => {
            let what = format!("`{}` with itself", left.name);
            return Err(fault(at.iter().cloned(), what)
                .hint(format!("write `ring {0}`, `line {0}` or `mesh {0}`", left.name)));
        }
        ([a], many) => many.iter().map(|b| (*a, *b)).collect(),
        (many, [b]) => many.iter().map(|a| (*a, *b)).collect(),
        (a, b) if a.len() == b.len() => a.iter().copied().zip(b.iter().copied()).collect(),
        (a, b) => {
            let what = format!("{} of `{}` with {} of `{}`", a.len(), left.name, b.len(), right.name);
            return Err(fault(at.iter().cloned(), what).hint("link one with many, or as many with as many"));
        }
    };
    if pairs.len() > 1 && (!left.addresses.is_empty() || !right.addresses.is_empty()) {
        let what = format!("addresses on a link that stands for {}", pairs.len());
        return Err(fault(at.iter().cloned(), what).hint("give the link a `subnet`: each end gets one of it"));
    }
    Ok(pairs.into_iter().map(|(a, b)| ((a, left.clone()), (b, right.clone()))).collect())
}

impl Clone for Side<'_> {
    fn clone(&self) -> Self {
        Side {
            name: self.name,
            bridge: self.bridge.clone(),
            device: self.device.clone(),
            addresses: self.addresses.clone(),
        }
    }
}

/// Reads a side, and looks up whom it means.
fn side<'a, 'd>(draft: &'d Draft<'_>, text: &'a str, at: &[Step]) -> Result<(Side<'a>, &'d [usize])> {
    let mut words = text.split_whitespace();
    let Some(who) = words.next() else {
        return Err(fault(at.iter().cloned(), "a link with one end").hint("write `a -- b`"));
    };
    let addresses = words.map(|word| words::interface_address(word, at)).collect::<Result<_>>()?;
    let (who, device) = match who.split_once(':') {
        Some((who, device)) => (who, Some(parse_at(device, at)?)),
        None => (who, None),
    };
    let (name, bridge) = match who.split_once('/') {
        Some((name, bridge)) => (name, Some(parse_at::<IfName>(bridge, at)?)),
        None => (who, None),
    };
    let members = match (draft.groups.get(name), draft.find(name)) {
        (Some(members), _) => members.as_slice(),
        (None, Some(one)) => {
            // A member of a group by its own name: it is in the group's list.
            let all = draft.groups.values().find_map(|members| {
                members.iter().position(|member| *member == one).map(|place| &members[place..=place])
            });
            all.unwrap_or_default()
        }
        (None, None) => return Err(draft.unknown(at, name)),
    };
    Ok((Side { name, bridge, device, addresses }, members))
}

fn join(
    draft: &mut Draft<'_>,
    sides: [(usize, Side<'_>); 2],
    names: [IfName; 2],
    settings: &LinkSettings,
    at: Vec<Step>,
) -> Result<()> {
    let place = |key: &str| at.iter().cloned().chain([Step::from(key)]).collect::<Vec<_>>();
    let ends = [(&settings.from, "from"), (&settings.to, "to")];
    // A port of a bridge is made together with its membership.
    let bridges =
        [bridge_of(draft, sides[0].0, &sides[0].1, &at)?, bridge_of(draft, sides[1].0, &sides[1].1, &at)?];
    let first = usize::from(bridges[0].is_none() && bridges[1].is_some());
    let mut joints = Vec::new();
    for (i, (machine, side)) in sides.iter().enumerate() {
        let (end, key) = ends[i];
        let (own, other) = (&names[i], &names[1 - i]);
        let peer = End { machine: draft.machines[sides[1 - i].0].name.clone(), device: other.clone() };
        let bridge = bridges[i].clone();
        let port = bridge.clone().map(|bridge| Port { bridge, hairpin: end.hairpin, isolated: end.isolated });
        if port.is_none() && (end.hairpin || end.isolated || end.vlans.is_some()) {
            let what = format!("`{}` is not a bridge's port", side.name);
            return Err(
                fault(place(key), what).hint(format!("write `{}/br0`, if it has a bridge `br0`", side.name))
            );
        }
        let shape = words::shape(settings, end, &at, key)?;
        draft.machines[*machine].devices.push(Device {
            mac: mac(end.mac.as_deref(), &place(key))?,
            mtu_bytes: end.mtu.or(settings.mtu).or(draft.topology.mtu),
            port,
            vlans: words::vlans(end.vlans.as_ref(), &place(key))?,
            shape,
            down: end.down,
            ..Device::new(own.clone(), DeviceKind::Veth { peer, first: i == first })
        });
        joints.push(Joint {
            machine: *machine,
            device: own.clone(),
            bridge,
            addresses: explicit(side, end, place(key))?,
        });
    }
    let Ok(ends) = <[Joint; 2]>::try_from(joints) else { unreachable!("a link has two sides") };
    draft.links.push(Joined { at, ends, subnets: settings.subnet.0.clone() });
    Ok(())
}

fn explicit(side: &Side<'_>, end: &topology::End, at: Vec<Step>) -> Result<Option<Vec<IpNet>>> {
    match (&end.addresses, side.addresses.as_slice()) {
        (None, []) => Ok(None),
        (Some(addresses), []) => Ok(Some(addresses.0.clone())),
        (None, addresses) => Ok(Some(addresses.to_vec())),
        (Some(_), _) => {
            Err(fault(at, format!("`{}` has addresses in two places", side.name)).hint("leave one out"))
        }
    }
}

fn bridge_of(draft: &Draft<'_>, machine: usize, side: &Side<'_>, at: &[Step]) -> Result<Option<IfName>> {
    let bridge = match &side.bridge {
        Some(bridge) => bridge.clone(),
        None if draft.machines[machine].kind == MachineKind::Switch => interface_name(SWITCH_BRIDGE),
        None => return Ok(None),
    };
    let device = draft.machines[machine].device(bridge.as_str());
    if device.is_some_and(|device| matches!(device.kind, DeviceKind::Bridge { .. })) {
        return Ok(Some(bridge));
    }
    let what = format!("`{}` has no bridge `{bridge}`", side.name);
    Err(fault(at.iter().cloned(), what).hint(format!("give it one: `bridges: [{bridge}]`")))
}

/// Names of interfaces that are given away.
#[derive(Default)]
struct Taken {
    names: HashMap<usize, std::collections::HashSet<IfName>>,
    next: HashMap<(usize, &'static str), u32>,
}

impl Taken {
    fn take(&mut self, draft: &Draft<'_>, machine: usize, device: &IfName, at: &[Step]) -> Result<()> {
        let is_there = draft.machines[machine].device(device.as_str()).is_some() || device.as_str() == "lo";
        if is_there || !self.names.entry(machine).or_default().insert(device.clone()) {
            let what = format!("`{}` has two interfaces `{device}`", draft.machines[machine].name);
            return Err(fault(at.iter().cloned(), what).hint("give one of them another name"));
        }
        Ok(())
    }

    /// The name in the file, or the next that is free: `eth0`, `eth1`, …, or `port1`, `port2`, … at bridges.
    fn name(&mut self, draft: &Draft<'_>, machine: usize, side: &Side<'_>) -> IfName {
        if let Some(device) = &side.device {
            return device.clone();
        }
        let is_port = side.bridge.is_some() || draft.machines[machine].kind == MachineKind::Switch;
        let (stem, first) = if is_port { ("port", 1) } else { ("eth", 0) };
        let next = self.next.entry((machine, stem)).or_insert(first);
        let taken = self.names.entry(machine).or_default();
        loop {
            let name = interface_name(&format!("{stem}{next}"));
            *next += 1;
            if draft.machines[machine].device(name.as_str()).is_none() && taken.insert(name.clone()) {
                return name;
            }
        }
    }
}
