//! What is known before there are links: which machines there are, and where each stands in the file.

use std::collections::HashMap;
use std::str::FromStr;

use ipnet::IpNet;
use model::{IfName, MacAddr};

use super::{Result, fault};
use crate::name;
use crate::topology::{self, Fault, Group, Step, Topology, nearest};
use crate::wiring::{Device, DeviceKind, Machine, MachineKind, Port};

/// The bridge of a switch.
pub(super) const SWITCH_BRIDGE: &str = "br0";
/// The bridge of a node.
pub(super) const NODE_BRIDGE: &str = "cni0";
/// More namespaces than this take the kernel minutes to remove.
const MOST_MACHINES: u32 = 5_000;

/// A lab on its way from the file to what there is to make.
pub(super) struct Draft<'a> {
    pub(super) topology: &'a Topology,
    pub(super) machines: Vec<Machine>,
    /// What the file says of each machine.
    pub(super) said: Vec<Said<'a>>,
    by_name: HashMap<String, usize>,
    /// The members of each name in the file: one, unless it has a `count`.
    pub(super) groups: HashMap<&'a str, Vec<usize>>,
    pub(super) links: Vec<Joined>,
}

/// What the file says of a machine.
#[derive(Clone)]
pub(super) struct Said<'a> {
    pub(super) at: Vec<Step>,
    pub(super) machine: Option<&'a topology::Machine>,
    pub(super) switch: Option<&'a topology::Switch>,
}

/// A veth pair.
pub(super) struct Joined {
    pub(super) at: Vec<Step>,
    pub(super) ends: [Joint; 2],
    pub(super) subnets: Vec<IpNet>,
}

/// An end of a veth pair.
pub(super) struct Joint {
    pub(super) machine: usize,
    pub(super) device: IfName,
    pub(super) bridge: Option<IfName>,
    /// The addresses that the file gives it; `None`: it gets one of each subnet.
    pub(super) addresses: Option<Vec<IpNet>>,
}

impl Draft<'_> {
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Every name that stands for machines, for hints.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str).chain(self.groups.keys().copied())
    }

    pub(super) fn unknown(&self, at: &[Step], name: &str) -> Fault {
        let fault = fault(at.iter().cloned(), format!("there is no machine `{}`", topology::printable(name)));
        match nearest(name, self.names()) {
            Some(near) => fault.hint(format!("did you mean `{near}`?")),
            None => fault.hint(format!(
                "name it below `hosts`, `routers`, `switches` or `nodes`: `hosts: [{}]`",
                topology::printable(name)
            )),
        }
    }

    pub(super) fn device_mut(&mut self, machine: usize, name: &IfName) -> Option<&mut Device> {
        self.machines[machine].devices.iter_mut().find(|device| device.name == *name)
    }

    /// Has routers and nodes forward, unless the file says otherwise.
    pub(super) fn forward(&mut self) {
        let has_v6 = self.machines.iter().flat_map(Machine::addresses).any(|net| net.addr().is_ipv6());
        for machine in self.machines.iter_mut().filter(|machine| machine.forwards()) {
            let keys = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];
            for key in &keys[..if has_v6 { 2 } else { 1 }] {
                machine.sysctls.entry((*key).to_owned()).or_insert_with(|| "1".to_owned());
            }
        }
    }

    pub(super) fn push(&mut self, machine: Machine, said: Said<'static>) -> Result<usize> {
        let at = said.at.clone();
        self.take_name(&machine.name, &at)?;
        self.machines.push(machine);
        self.said.push(said);
        Ok(self.machines.len() - 1)
    }

    fn take_name(&mut self, name: &str, at: &[Step]) -> Result<()> {
        name::check(name).map_err(|error| fault(at.iter().cloned(), error.to_string()))?;
        if self.by_name.insert(name.to_owned(), self.machines.len()).is_some() {
            let what = format!("there are two machines `{name}`");
            return Err(fault(at.iter().cloned(), what).hint("give one of them another name"));
        }
        Ok(())
    }
}

/// All machines that the file names, with those devices that need no link.
pub(super) fn begin(topology: &Topology) -> Result<Draft<'_>> {
    let mut draft = Draft {
        topology,
        machines: Vec::new(),
        said: Vec::new(),
        by_name: HashMap::new(),
        groups: HashMap::new(),
        links: Vec::new(),
    };
    let sections = [
        ("hosts", &topology.hosts, MachineKind::Host),
        ("routers", &topology.routers, MachineKind::Router),
        ("nodes", &topology.nodes, MachineKind::Node),
    ];
    for (name, switch) in topology.switches.iter() {
        let at = vec![Step::from("switches"), name.into()];
        let members = add(
            &mut draft,
            name,
            switch.count,
            MachineKind::Switch,
            &Said { at, machine: None, switch: Some(switch) },
        )?;
        for member in members {
            let bridge = DeviceKind::Bridge { stp: switch.stp, vlan_filtering: switch.vlan_filtering };
            let device =
                Device { mtu_bytes: switch.mtu, ..Device::new(interface_name(SWITCH_BRIDGE), bridge) };
            draft.machines[member].devices.push(device);
            draft.machines[member].sysctls = switch.sysctls.clone();
        }
    }
    for (section, group, kind) in sections {
        for (name, machine) in group.iter() {
            let at = vec![Step::from(section), name.into()];
            only_for_nodes(machine, kind, &at)?;
            let members = add(
                &mut draft,
                name,
                machine.count,
                kind,
                &Said { at: at.clone(), machine: Some(machine), switch: None },
            )?;
            for member in members {
                let devices = own_devices(machine, &at)?;
                draft.machines[member].devices = devices;
                draft.machines[member].sysctls = machine.sysctls.clone();
            }
        }
    }
    if draft.machines.is_empty() {
        let hint = "the smallest lab: `hosts: [a, b]` and `links: [a -- b]`";
        return Err(fault(Vec::<Step>::new(), "the lab has no machines").hint(hint));
    }
    Ok(draft)
}

fn only_for_nodes(machine: &topology::Machine, kind: MachineKind, at: &[Step]) -> Result<()> {
    let said = [
        ("pods", machine.pods.is_some()),
        ("subnet", !machine.subnet.is_empty()),
        ("pod_mtu", machine.pod_mtu.is_some()),
        ("hairpin", machine.hairpin),
        ("cni", machine.cni.is_some()),
    ];
    match said.iter().find(|(_, is_said)| *is_said && kind != MachineKind::Node) {
        Some((key, _)) => {
            let at = at.iter().cloned().chain([Step::from(*key)]);
            Err(fault(at, format!("only nodes have `{key}`")).hint("put the machine below `nodes`"))
        }
        None => Ok(()),
    }
}

fn add<'a>(
    draft: &mut Draft<'a>,
    name: &'a str,
    count: Option<u32>,
    kind: MachineKind,
    said: &Said<'a>,
) -> Result<Vec<usize>> {
    let first = draft.machines.len();
    if let Some(count @ (0 | MOST_MACHINES..)) = count {
        let at = said.at.iter().cloned().chain([Step::from("count")]);
        return Err(fault(at, format!("a count of {count}")).hint(format!("from 1 to {}", MOST_MACHINES - 1)));
    }
    let names: Vec<String> = match count {
        None => vec![name.to_owned()],
        Some(count) => (1..=count).map(|number| format!("{name}{number}")).collect(),
    };
    for name in names {
        draft.take_name(&name, &said.at)?;
        draft.machines.push(Machine::new(name, kind));
        draft.said.push(said.clone());
    }
    let members: Vec<usize> = (first..draft.machines.len()).collect();
    if draft.groups.insert(name, members.clone()).is_some() {
        let what = format!("`{name}` stands in two places");
        return Err(fault(said.at.iter().cloned(), what).hint("give one of them another name"));
    }
    Ok(members)
}

/// Devices that are no ends of links.
fn own_devices(machine: &topology::Machine, at: &[Step]) -> Result<Vec<Device>> {
    let mut devices = Vec::new();
    if !machine.loopback.is_empty() {
        let addresses = machine.loopback.0.clone();
        devices.push(Device { addresses, ..Device::new(interface_name("lo"), DeviceKind::Loopback) });
    }
    for (name, at, bridge) in named(&machine.bridges, at, "bridges") {
        let name = parse_at(name, &at)?;
        devices.push(Device {
            mac: mac(bridge.mac.as_deref(), &at)?,
            mtu_bytes: bridge.mtu,
            addresses: bridge.addresses.0.clone(),
            vlans: super::words::vlans(bridge.vlans.as_ref(), &at)?,
            ..Device::new(name, DeviceKind::Bridge { stp: bridge.stp, vlan_filtering: bridge.vlan_filtering })
        });
    }
    for (name, at, vxlan) in named(&machine.vxlans, at, "vxlans") {
        let on = vxlan.on.as_deref().unwrap_or("eth0");
        let kind = DeviceKind::Vxlan {
            id: vxlan.id.unwrap_or(1),
            port: vxlan.port.unwrap_or(super::overlay::DEFAULT_PORT),
            local: vxlan.local,
            on: Some(parse_at(on, &at)?),
            peers: vxlan.peers.0.clone(),
            learning: vxlan.learning.unwrap_or(true),
        };
        let bridge = vxlan.bridge.as_deref().map(|bridge| parse_at(bridge, &at)).transpose()?;
        devices.push(Device {
            mac: mac(vxlan.mac.as_deref(), &at)?,
            mtu_bytes: vxlan.mtu,
            port: bridge.map(|bridge| Port { bridge, hairpin: false, isolated: false }),
            vlans: super::words::vlans(vxlan.vlans.as_ref(), &at)?,
            addresses: vxlan.addresses.0.clone(),
            ..Device::new(parse_at(name, &at)?, kind)
        });
    }
    Ok(devices)
}

/// The members of a group below a machine, each with its place.
pub(super) fn named<'a, T>(
    group: &'a Group<T>,
    at: &[Step],
    key: &'static str,
) -> impl Iterator<Item = (&'a str, Vec<Step>, &'a T)> {
    group.iter().map(move |(name, thing)| {
        let place = at.iter().cloned().chain([Step::from(key), name.into()]).collect();
        (name, place, thing)
    })
}

/// A name that we choose ourselves.
pub(super) fn interface_name(name: &str) -> IfName {
    IfName::new(name).expect("a short name of letters and digits")
}

pub(super) fn mac(text: Option<&str>, at: &[Step]) -> Result<Option<MacAddr>> {
    let at: Vec<Step> = at.iter().cloned().chain([Step::from("mac")]).collect();
    text.map(|text| parse_at(text, &at)).transpose()
}

/// Parses what stands at a place.
pub(super) fn parse_at<T: FromStr<Err: std::fmt::Display>>(text: &str, at: &[Step]) -> Result<T> {
    text.trim().parse().map_err(|error: T::Err| {
        let error = error.to_string();
        let what =
            if error.contains(text) { error } else { format!("`{}`: {error}", topology::printable(text)) };
        fault(at.iter().cloned(), what)
    })
}
