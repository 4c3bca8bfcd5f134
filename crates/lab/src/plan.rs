//! What differs between the wiring that is there and the one that is wanted, as steps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::IfName;

use crate::wiring::{Device, DeviceKind, End, Ended, FdbEntry, Machine, Nat, Neighbour, Route, Wiring};

/// Steps from one wiring to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What goes, in this order.
    pub remove: Vec<Piece>,
    /// Devices that stay and get other settings: as they are, and as they shall be.
    pub change: Vec<(Piece, Piece)>,
    /// What comes, in this order.
    pub add: Vec<Piece>,
}

/// A part of a lab that comes or goes on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The machine that has it.
    pub machine: String,
    /// What it is.
    pub part: Part,
}

/// A part of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The namespace itself.
    Namespace,
    /// A device, with its addresses.
    Device(Device),
    /// The value of a sysctl.
    Sysctl(String, String),
    /// A neighbour.
    Neighbour(Neighbour),
    /// An entry of a forwarding database.
    Fdb(FdbEntry),
    /// A route.
    Route(Route),
    /// All its address translation.
    Nat(Nat),
    /// What CNI plugins make in a pod.
    Cni {
        /// The pod's node.
        node: String,
        /// The network configuration list.
        conflist: String,
    },
    /// A command that runs.
    Process(Vec<String>),
    /// What is left of a pod that ended.
    Remains {
        /// Its node.
        node: String,
        /// The network configuration list.
        conflist: String,
        /// How it ended.
        ended: Ended,
    },
}

impl Part {
    /// Parts are made in this order, and removed in the other.
    fn stage(&self) -> u8 {
        match self {
            Part::Namespace => 0,
            Part::Device(device) => match device.kind {
                DeviceKind::Loopback | DeviceKind::Bridge { .. } => 1,
                DeviceKind::Veth { first: true, .. } => 2,
                DeviceKind::Veth { .. } => 3,
                DeviceKind::Vxlan { .. } | DeviceKind::Macvlan { .. } => 4,
            },
            Part::Sysctl(..) => 5,
            Part::Neighbour(_) => 6,
            Part::Fdb(_) => 7,
            Part::Route(_) => 8,
            Part::Nat(_) => 9,
            Part::Cni { .. } => 10,
            Part::Process(_) => 11,
            Part::Remains { .. } => 12,
        }
    }

    /// Whether it goes away when its device does, or when that loses an address.
    fn depends_on_devices(&self) -> bool {
        matches!(self, Part::Neighbour(_) | Part::Fdb(_) | Part::Route(_) | Part::Sysctl(..))
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.change.is_empty() && self.add.is_empty()
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.remove.len() + self.change.len() + self.add.len()
    }

    /// What makes `wanted` of `there`.
    pub fn between(there: Option<&Wiring>, wanted: &Wiring) -> Plan {
        let none = BTreeMap::new();
        let old = there.map_or_else(|| none, by_name);
        let new = by_name(wanted);
        let mut plan = Plan::default();
        for (name, machine) in &old {
            if !new.contains_key(name) {
                plan.remove.extend(pieces(machine));
            }
        }
        for machine in &wanted.machines {
            match old.get(machine.name.as_str()) {
                Some(before) => plan.compare(before, machine),
                None => plan.add.extend(pieces(machine)),
            }
        }
        plan.remove.sort_by_key(|piece| std::cmp::Reverse(piece.part.stage()));
        plan.add.sort_by_key(|piece| piece.part.stage());
        plan
    }

    fn compare(&mut self, before: &Machine, after: &Machine) {
        let (old, new) = (pieces(before), pieces(after));
        // The dead do not rise: such a pod is made anew.
        if before.ended != after.ended {
            self.remove.extend(old);
            self.add.extend(new);
            return;
        }
        let mut touched = false;
        for piece in &old {
            match &piece.part {
                Part::Device(device) => match after.device(device.name.as_str()) {
                    Some(same) if same.kind == device.kind => {
                        if same != device {
                            // A queue has nothing to do with routes and the like.
                            touched |= Device { shape: device.shape, ..same.clone() } != *device;
                            let part = Part::Device(same.clone());
                            self.change.push((piece.clone(), Piece { part, ..piece.clone() }));
                        }
                    }
                    _ => {
                        touched = true;
                        self.remove.push(piece.clone());
                    }
                },
                _ if new.contains(piece) => {}
                // Its other value is set.
                Part::Sysctl(key, _) if after.sysctls.contains_key(key) => {}
                // All of it is replaced.
                Part::Nat(_) if !after.nat.is_empty() => {}
                _ => self.remove.push(piece.clone()),
            }
        }
        let stays = |device: &Device| {
            before.device(device.name.as_str()).is_some_and(|same| same.kind == device.kind)
        };
        let comes = |piece: &&Piece| match &piece.part {
            Part::Device(device) => !stays(device),
            _ => !old.contains(piece),
        };
        touched |= new.iter().any(|piece| matches!(piece.part, Part::Device(_)) && comes(&piece));
        let added = new.iter().filter(|piece| comes(piece) || touched && piece.part.depends_on_devices());
        self.add.extend(added.cloned());
    }
}

fn by_name(wiring: &Wiring) -> BTreeMap<&str, &Machine> {
    wiring.machines.iter().map(|machine| (machine.name.as_str(), machine)).collect()
}

/// Everything that a machine is made of.
fn pieces(machine: &Machine) -> Vec<Piece> {
    let piece = |part| Piece { machine: machine.name.clone(), part };
    let mut pieces = vec![piece(Part::Namespace)];
    pieces.extend(machine.devices.iter().cloned().map(Part::Device).map(piece));
    let sysctls = machine.sysctls.iter();
    pieces.extend(sysctls.map(|(key, value)| piece(Part::Sysctl(key.clone(), value.clone()))));
    pieces.extend(machine.neighbours.iter().cloned().map(Part::Neighbour).map(piece));
    pieces.extend(machine.fdb.iter().cloned().map(Part::Fdb).map(piece));
    pieces.extend(machine.routes.iter().cloned().map(Part::Route).map(piece));
    if !machine.nat.is_empty() {
        pieces.push(piece(Part::Nat(machine.nat.clone())));
    }
    if let (Some(node), Some(conflist)) = (&machine.node, &machine.cni) {
        pieces.push(piece(Part::Cni { node: node.clone(), conflist: conflist.clone() }));
    }
    if let (Some(node), Some(conflist), Some(ended)) = (&machine.node, &machine.cni, machine.ended) {
        pieces.push(piece(Part::Remains { node: node.clone(), conflist: conflist.clone(), ended }));
    }
    pieces.extend(machine.run.iter().cloned().map(Part::Process).map(piece));
    pieces
}

/// What was found of a lab: its namespaces, and the devices and addresses in each.
pub(crate) type Found = BTreeMap<String, BTreeMap<IfName, BTreeSet<ipnet::IpNet>>>;

/// What is there of these wirings, of which the first that knows a thing has the word: not what somebody else removed, nor what an
/// `up` that was killed had not made yet.
pub(crate) fn still_there(wirings: &[&Wiring], found: &Found) -> Option<Wiring> {
    let first = wirings.first()?;
    let mut there = Wiring { machines: Vec::new(), ..(*first).clone() };
    for (name, has) in found {
        let mut known = wirings.iter().filter_map(|wiring| wiring.machine(name));
        let Some(mut machine) = known.next().cloned() else { continue };
        for other in known {
            let more = other.devices.iter().filter(|device| machine.device(device.name.as_str()).is_none());
            let more: Vec<Device> = more.cloned().collect();
            machine.devices.extend(more);
        }
        machine.devices.retain(|device| has.contains_key(&device.name));
        for device in &mut machine.devices {
            device.addresses.retain(|address| has[&device.name].contains(address));
        }
        let is_there = |device: &IfName| has.contains_key(device);
        machine.routes.retain(|route| is_there(&route.device));
        machine.neighbours.retain(|neighbour| is_there(&neighbour.device));
        machine.fdb.retain(|entry| is_there(&entry.device));
        there.machines.push(machine);
    }
    forget_halves(&mut there);
    Some(there)
}

/// Ends of veth pairs that are not each other's any more, as far as the wirings know, are taken for something else: they have to go,
/// and to be made again.
fn forget_halves(there: &mut Wiring) {
    let mut halves = Vec::new();
    for machine in &there.machines {
        for device in &machine.devices {
            let DeviceKind::Veth { peer, first } = &device.kind else { continue };
            let own = End { machine: machine.name.clone(), device: device.name.clone() };
            let far = there.machine(&peer.machine).and_then(|far| far.device(peer.device.as_str()));
            let is_pair =
                far.is_some_and(|far| far.kind == DeviceKind::Veth { peer: own.clone(), first: !first });
            if !is_pair {
                halves.push(own);
            }
        }
    }
    for machine in &mut there.machines {
        for device in &mut machine.devices {
            if halves.iter().any(|half| half.machine == machine.name && half.device == device.name) {
                let nobody = End { machine: String::new(), device: device.name.clone() };
                device.kind = DeviceKind::Veth { peer: nobody, first: true };
            }
        }
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        match &self.part {
            Part::Namespace => write!(f, "namespace {machine}"),
            Part::Device(device) => {
                let kind = match device.kind {
                    DeviceKind::Loopback => "loopback",
                    DeviceKind::Veth { .. } => "veth",
                    DeviceKind::Bridge { .. } => "bridge",
                    DeviceKind::Vxlan { .. } => "vxlan",
                    DeviceKind::Macvlan { .. } => "macvlan",
                };
                write!(f, "{kind} {machine}:{}", device.name)?;
                device.addresses.iter().try_for_each(|address| write!(f, " {address}"))
            }
            Part::Sysctl(key, value) => write!(f, "{key} = {value} in {machine}"),
            Part::Neighbour(n) => write!(f, "neighbour {} {} on {machine}:{}", n.address, n.mac, n.device),
            Part::Fdb(entry) => {
                write!(f, "forwarding entry {} on {machine}:{}", entry.mac, entry.device)?;
                entry.destination.iter().try_for_each(|to| write!(f, " to {to}"))
            }
            Part::Route(route) => {
                let name =
                    if route.is_default() { "default".to_owned() } else { route.destination.to_string() };
                write!(f, "route {name}")?;
                route.gateway.iter().try_for_each(|gateway| write!(f, " via {gateway}"))?;
                write!(f, " on {machine}:{}", route.device)
            }
            Part::Nat(_) => write!(f, "address translation of {machine}"),
            Part::Cni { .. } => write!(f, "CNI attachment of {machine}"),
            Part::Remains { .. } => write!(f, "remains of {machine}"),
            Part::Process(command) => write!(f, "`{}` in {machine}", command.join(" ")),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.remove.iter().try_for_each(|piece| writeln!(f, "- {piece}"))?;
        self.change.iter().try_for_each(|(_, piece)| writeln!(f, "~ {piece}"))?;
        self.add.iter().try_for_each(|piece| writeln!(f, "+ {piece}"))
    }
}
