//! A lab as a graph, for `lab show` and `lab graph`.
//!
//! A host, router, switch or pod is a box; a bridge or VXLAN device in a host or router is one below it. A node is a frame around its
//! interfaces, its bridge and its pods.

use std::collections::HashMap;
use std::net::IpAddr;

use analyze::drawing::{Edge, End, Frame, Graph, Kind, Mark, Style, Vertex};
use model::Vlans;

use crate::wiring::{Device, DeviceKind, Machine, MachineKind, Nat, Shape, Wiring};

/// MTU of which nothing is said.
const USUAL_MTU_BYTES: u32 = 1_500;

/// The lab as a graph. Unless `all` of it is to be seen, those that are alike and many are one box.
pub fn graph(wiring: &Wiring, all: bool) -> Graph {
    let mut drawing = Drawing {
        wiring,
        graph: Graph { title: wiring.lab.to_string(), whole: all, ..Graph::default() },
        machines: HashMap::new(),
        devices: HashMap::new(),
        frames: HashMap::new(),
    };
    for machine in &wiring.machines {
        drawing.add_machine(machine);
    }
    for machine in wiring.machines.iter().filter(|machine| machine.kind == MachineKind::Node) {
        drawing.connect_node(machine);
    }
    for machine in &wiring.machines {
        drawing.add_links(machine);
    }
    drawing.add_tunnels();
    if all { drawing.graph } else { drawing.graph.collapsed() }
}

struct Drawing<'w> {
    wiring: &'w Wiring,
    graph: Graph,
    /// The box of each machine that is one.
    machines: HashMap<&'w str, usize>,
    /// The box of each device that is one.
    devices: HashMap<(&'w str, &'w str), usize>,
    /// The frame of each node.
    frames: HashMap<&'w str, usize>,
}

impl<'w> Drawing<'w> {
    fn add_machine(&mut self, machine: &'w Machine) {
        let frame = match machine.kind {
            MachineKind::Node => Some(self.frame_of(machine)),
            MachineKind::Pod => machine
                .node
                .as_deref()
                .and_then(|node| self.wiring.machine(node))
                .map(|node| self.frame_of(node)),
            MachineKind::Host | MachineKind::Router | MachineKind::Switch => None,
        };
        if machine.kind != MachineKind::Node {
            let vertex = self.graph.vertices.len();
            self.machines.insert(&machine.name, vertex);
            self.graph.vertices.push(Vertex {
                id: machine.name.clone(),
                title: title(machine).to_owned(),
                kind: self.kind(machine),
                lines: machine_lines(machine),
                frame,
                mark: Mark::Fine,
                count: 1,
            });
        }
        // A switch is its bridge.
        if machine.kind != MachineKind::Switch {
            for device in machine.devices.iter().filter(|device| is_box(machine, device)) {
                self.add_device(machine, device, frame);
            }
        }
    }

    fn frame_of(&mut self, node: &'w Machine) -> usize {
        if let Some(frame) = self.frames.get(node.name.as_str()) {
            return *frame;
        }
        let frame = self.graph.frames.len();
        self.frames.insert(&node.name, frame);
        let lines = node.devices.iter().filter_map(loopback_line).chain(forwards(&node.nat)).collect();
        self.graph.frames.push(Frame {
            id: node.name.clone(),
            title: node.name.clone(),
            lines,
            mark: Mark::Fine,
        });
        frame
    }

    /// Those through which a network with addresses of its own leaves stand for what is outside.
    fn kind(&self, machine: &Machine) -> Kind {
        let leads_here = |device: &Device| match &device.kind {
            DeviceKind::Veth { peer, .. } => peer.machine == machine.name,
            _ => false,
        };
        let is_outside = |other: &Machine| {
            let outs = other.nat.masquerade.iter().filter_map(|masquerade| masquerade.out.as_ref());
            outs.filter_map(|out| other.device(out.as_str())).any(leads_here)
        };
        match machine.kind {
            MachineKind::Host if self.wiring.machines.iter().any(is_outside) => Kind::Uplink,
            MachineKind::Host | MachineKind::Node => Kind::Host,
            MachineKind::Router => Kind::Router,
            MachineKind::Switch => Kind::Switch,
            MachineKind::Pod => Kind::Pod,
        }
    }

    fn add_device(&mut self, machine: &'w Machine, device: &'w Device, frame: Option<usize>) {
        let (kind, what) = match &device.kind {
            DeviceKind::Bridge { .. } => (Kind::Bridge, "bridge".to_owned()),
            DeviceKind::Vxlan { id, .. } => (Kind::Tunnel, format!("VXLAN {id}")),
            _ => (Kind::Interface, String::new()),
        };
        let mut lines: Vec<String> = Some(what).filter(|what| !what.is_empty()).into_iter().collect();
        lines.extend(device.addresses.iter().map(ToString::to_string));
        if kind != Kind::Interface {
            lines.extend(unusual_mtu(device));
        }
        let vertex = self.graph.vertices.len();
        self.devices.insert((&machine.name, device.name.as_str()), vertex);
        self.graph.vertices.push(Vertex {
            id: format!("{}/{}", machine.name, device.name),
            title: device.name.to_string(),
            kind,
            lines,
            frame,
            mark: Mark::Fine,
            count: 1,
        });
        // Outside of nodes it hangs from its machine, or from the bridge that it is a port of.
        if machine.kind != MachineKind::Node {
            let above = match &device.port {
                Some(port) => self.devices.get(&(machine.name.as_str(), port.bridge.as_str())),
                None => self.machines.get(machine.name.as_str()),
            };
            if let Some(above) = above.copied() {
                self.connect(above, vertex, Style::Inside, Vec::new());
            }
        }
    }

    /// Within a node: interfaces on top, below them tunnels, then bridges; pods of plugins below a box for those.
    fn connect_node(&mut self, node: &'w Machine) {
        let of_kind = |drawing: &Self, kind: Kind| -> Vec<usize> {
            let own = node
                .devices
                .iter()
                .filter_map(|device| drawing.devices.get(&(node.name.as_str(), device.name.as_str())));
            own.copied().filter(|vertex| drawing.graph.vertices[*vertex].kind == kind).collect()
        };
        let [interfaces, tunnels, mut lowest] =
            [Kind::Interface, Kind::Tunnel, Kind::Bridge].map(|kind| of_kind(self, kind));
        let through = |device: &Device| match &device.kind {
            DeviceKind::Vxlan { on, .. } => on.clone(),
            _ => None,
        };
        for tunnel in &tunnels {
            let name = self.graph.vertices[*tunnel].title.clone();
            let on = node.device(&name).and_then(through);
            let on = on.and_then(|on| self.devices.get(&(node.name.as_str(), on.as_str())).copied());
            if let Some(above) = on.or(interfaces.first().copied()) {
                self.connect(above, *tunnel, Style::Inside, Vec::new());
            }
        }
        let wired_by_plugins = self
            .wiring
            .machines
            .iter()
            .find_map(|pod| pod.cni.as_ref().filter(|_| pod.node.as_deref() == Some(node.name.as_str())));
        if let Some(conflist) = wired_by_plugins {
            lowest.push(self.add_plugins(node, conflist));
        }
        let masquerade: Vec<String> = masquerades(&node.nat).collect();
        for vertex in lowest {
            if let Some(above) = tunnels.first().or(interfaces.first()).copied() {
                self.connect(above, vertex, Style::Inside, masquerade.clone());
            }
        }
    }

    fn add_plugins(&mut self, node: &'w Machine, conflist: &str) -> usize {
        let plugins = self.graph.vertices.len();
        let conflist: serde_json::Value = serde_json::from_str(conflist).unwrap_or_default();
        let name = conflist["name"].as_str().unwrap_or("CNI");
        let types = conflist["plugins"].as_array().into_iter().flatten();
        let types: Vec<&str> = types.filter_map(|plugin| plugin["type"].as_str()).collect();
        self.graph.vertices.push(Vertex {
            id: format!("{}/plugins", node.name),
            title: name.to_owned(),
            kind: Kind::Plugins,
            lines: vec!["CNI".to_owned(), types.join(", ")],
            frame: self.frames.get(node.name.as_str()).copied(),
            mark: Mark::Fine,
            count: 1,
        });
        let pods = self.wiring.machines.iter().filter(|pod| pod.cni.is_some());
        for pod in pods.filter(|pod| pod.node.as_deref() == Some(node.name.as_str())) {
            if let Some(pod) = self.machines.get(pod.name.as_str()).copied() {
                self.connect(plugins, pod, Style::Link, Vec::new());
            }
        }
        plugins
    }

    fn connect(&mut self, above: usize, below: usize, style: Style, middle: Vec<String>) {
        let ends = [above, below].map(|vertex| End { vertex, lines: Vec::new() });
        self.graph.edges.push(Edge { ends, middle, style });
    }

    /// The box at which a device's link ends: its bridge, itself or its machine.
    fn box_of(&self, machine: &Machine, device: &Device) -> Option<usize> {
        let bridge = device.port.as_ref().map(|port| port.bridge.as_str());
        let names = bridge.into_iter().chain([device.name.as_str()]);
        let own = names.filter_map(|name| self.devices.get(&(machine.name.as_str(), name)));
        own.copied().next().or_else(|| self.machines.get(machine.name.as_str()).copied())
    }

    /// veth pairs, each from its first end, and macvlans on devices of others.
    fn add_links(&mut self, machine: &'w Machine) {
        for device in &machine.devices {
            let (other_end, extra) = match &device.kind {
                DeviceKind::Veth { peer, first: true } => (peer, None),
                DeviceKind::Macvlan { on, mode } if on.machine != machine.name => {
                    (on, Some(format!("macvlan {}", format!("{mode:?}").to_lowercase())))
                }
                _ => continue,
            };
            let Some(other_machine) = self.wiring.machine(&other_end.machine) else { continue };
            let Some(other) = other_machine.device(other_end.device.as_str()) else { continue };
            let (Some(from), Some(to)) = (self.box_of(machine, device), self.box_of(other_machine, other))
            else {
                continue;
            };
            let is_macvlan = extra.is_some();
            let to_lines = if is_macvlan { vec![other.name.to_string()] } else { self.end_lines(to, other) };
            let mut middle: Vec<String> = extra.into_iter().collect();
            let mtus = if is_macvlan {
                [unusual_mtu(device), None]
            } else {
                [unusual_mtu(device), unusual_mtu(other)]
            };
            match mtus {
                [Some(mtu), other] if is_macvlan || other.as_ref() == Some(&mtu) => {
                    // The bridge says it already.
                    let is_said = [from, to].iter().any(|end| self.graph.vertices[*end].lines.contains(&mtu));
                    middle.extend(Some(mtu).filter(|_| !is_said));
                }
                [None, None] => {}
                _ => {
                    let [own, other] =
                        [device, other].map(|device| device.mtu_bytes.unwrap_or(USUAL_MTU_BYTES));
                    middle.push(format!("mtu {own} ≠ {other}"));
                }
            }
            middle.extend(shapes(device.shape, if is_macvlan { None } else { other.shape }));
            let ends = [
                End { vertex: from, lines: self.end_lines(from, device) },
                End { vertex: to, lines: to_lines },
            ];
            self.graph.edges.push(Edge { ends, middle, style: Style::Link });
        }
    }

    /// An end's name and its addresses, unless the box says them.
    fn end_lines(&self, vertex: usize, device: &Device) -> Vec<String> {
        let vertex = &self.graph.vertices[vertex];
        let named = vertex.kind == Kind::Interface && vertex.title == device.name.as_str();
        let mut lines = Vec::new();
        let mut name = if named { String::new() } else { device.name.to_string() };
        for (is, word) in [
            (device.down, " down"),
            (device.port.as_ref().is_some_and(|port| port.hairpin), " hairpin"),
            (device.port.as_ref().is_some_and(|port| port.isolated), " isolated"),
        ] {
            name.push_str(if is { word } else { "" });
        }
        lines.extend(Some(name.trim_start().to_owned()).filter(|name| !name.is_empty()));
        lines.extend(device.vlans.as_deref().filter(|_| device.port.is_some()).map(vlan_numbers));
        if !named {
            lines.extend(device.addresses.iter().map(ToString::to_string));
        }
        lines
    }

    /// Between VXLAN devices of one network of which one sends to the other's address.
    fn add_tunnels(&mut self) {
        let ends = tunnel_ends(self.wiring);
        let mut by_address: HashMap<(IpAddr, u32), Vec<usize>> = HashMap::new();
        for (at, end) in ends.iter().enumerate() {
            for address in &end.local {
                by_address.entry((*address, end.id)).or_default().push(at);
            }
        }
        let mut pairs: Vec<[usize; 2]> = Vec::new();
        for (at, end) in ends.iter().enumerate() {
            for peer in &end.peers {
                let there = by_address.get(&(*peer, end.id)).into_iter().flatten();
                pairs.extend(
                    there.filter(|there| **there != at).map(|there| [at.min(*there), at.max(*there)]),
                );
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
        for pair in pairs {
            let [a, b] = pair.map(|end| self.devices.get(&(ends[end].machine, ends[end].device)).copied());
            if let (Some(a), Some(b)) = (a, b) {
                let end = &ends[pair[0]];
                self.connect(
                    a,
                    b,
                    Style::Tunnel,
                    vec![format!("VXLAN {}", end.id), format!("UDP {}", end.port)],
                );
            }
        }
    }
}

/// A VXLAN device: where it can be reached, and whom it reaches.
struct TunnelEnd<'w> {
    machine: &'w str,
    device: &'w str,
    id: u32,
    port: u16,
    local: Vec<IpAddr>,
    peers: Vec<IpAddr>,
}

fn tunnel_ends(wiring: &Wiring) -> Vec<TunnelEnd<'_>> {
    let mut ends = Vec::new();
    for machine in &wiring.machines {
        for device in &machine.devices {
            let DeviceKind::Vxlan { id, port, local, on, peers, .. } = &device.kind else { continue };
            let through = on.as_ref().and_then(|on| machine.device(on.as_str()));
            let local = match (local, through) {
                (Some(local), _) => vec![*local],
                (None, Some(through)) => through.addresses.iter().map(ipnet::IpNet::addr).collect(),
                (None, None) => machine.addresses().map(|net| net.addr()).collect(),
            };
            let own = machine.fdb.iter().filter(|entry| entry.device == device.name);
            let peers = peers.iter().copied().chain(own.filter_map(|entry| entry.destination)).collect();
            let device = device.name.as_str();
            ends.push(TunnelEnd { machine: &machine.name, device, id: *id, port: *port, local, peers });
        }
    }
    ends
}

/// Whether a device has a box of its own: bridges and tunnels, and what leads out of a node.
fn is_box(machine: &Machine, device: &Device) -> bool {
    match &device.kind {
        DeviceKind::Bridge { .. } | DeviceKind::Vxlan { .. } => true,
        DeviceKind::Veth { .. } | DeviceKind::Macvlan { .. } => {
            machine.kind == MachineKind::Node && device.port.is_none()
        }
        DeviceKind::Loopback => false,
    }
}

/// Of a pod the name within its node, whose frame has the rest.
fn title(machine: &Machine) -> &str {
    let of_node = machine.node.as_deref().and_then(|node| machine.name.strip_prefix(node)?.strip_prefix('-'));
    of_node.unwrap_or(&machine.name)
}

/// What is worth knowing about a machine in its box: what it is where its name does not say so, and what no link says.
fn machine_lines(machine: &Machine) -> Vec<String> {
    let word = match machine.kind {
        MachineKind::Router => Some("router"),
        MachineKind::Switch => Some("switch"),
        MachineKind::Host | MachineKind::Node | MachineKind::Pod => None,
    };
    let mut lines: Vec<String> =
        word.filter(|word| !machine.name.contains(word)).map(str::to_owned).into_iter().collect();
    lines.extend(machine.devices.iter().filter_map(loopback_line));
    if machine.kind == MachineKind::Switch {
        let bridges =
            machine.devices.iter().filter(|device| matches!(device.kind, DeviceKind::Bridge { .. }));
        lines.extend(bridges.flat_map(|bridge| bridge.addresses.iter().map(ToString::to_string)));
    }
    for device in &machine.devices {
        if let DeviceKind::Macvlan { on, .. } = &device.kind
            && on.machine == machine.name
        {
            let addresses: Vec<String> = device.addresses.iter().map(ToString::to_string).collect();
            let line = format!("{} on {} {}", device.name, on.device, addresses.join(" "));
            lines.push(line.trim_end().to_owned());
        }
    }
    lines.extend(masquerades(&machine.nat));
    lines.extend(forwards(&machine.nat));
    lines
}

fn loopback_line(device: &Device) -> Option<String> {
    let addresses: Vec<String> = device.addresses.iter().map(ToString::to_string).collect();
    (device.kind == DeviceKind::Loopback && !addresses.is_empty())
        .then(|| format!("lo {}", addresses.join(" ")))
}

fn masquerades(nat: &Nat) -> impl Iterator<Item = String> {
    nat.masquerade.iter().map(|masquerade| match (&masquerade.source, &masquerade.out) {
        (Some(source), _) => format!("NAT {source}"),
        (None, Some(out)) => format!("NAT out of {out}"),
        (None, None) => "NAT".to_owned(),
    })
}

fn forwards(nat: &Nat) -> impl Iterator<Item = String> {
    nat.forward.iter().map(|forward| {
        let protocol = if forward.udp { "udp" } else { "tcp" };
        let to = match forward.to {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        format!("{protocol}/{} → {to}:{}", forward.port, forward.to_port)
    })
}

/// `VLAN 10`, `VLAN 10, 20-30`.
fn vlan_numbers(vlans: &[Vlans]) -> String {
    let plain = |vlans: &Vlans| Vlans { pvid: false, untagged: false, ..*vlans }.to_string();
    match vlans {
        [] => "no VLAN".to_owned(),
        some => format!("VLAN {}", some.iter().map(plain).collect::<Vec<_>>().join(", ")),
    }
}

fn unusual_mtu(device: &Device) -> Option<String> {
    device.mtu_bytes.filter(|mtu| *mtu != USUAL_MTU_BYTES).map(|mtu| format!("mtu {mtu}"))
}

/// What both queues do, if it is the same; else each for itself.
fn shapes(from: Option<Shape>, to: Option<Shape>) -> Vec<String> {
    match (from, to) {
        (Some(from), Some(to)) if from == to => vec![shape(from)],
        (from, to) => {
            let from = from.map(|from| format!("{} →", shape(from)));
            from.into_iter().chain(to.map(|to| format!("← {}", shape(to)))).collect()
        }
    }
}

fn shape(shape: Shape) -> String {
    match shape {
        Shape::Rate { bits_per_second } => rate(bits_per_second),
        Shape::Impaired { delay_us, loss_ppm, bits_per_second } => {
            let mut parts = Vec::new();
            if delay_us > 0 {
                parts.push(format!("{} ms", f64::from(delay_us) / 1e3));
            }
            if loss_ppm > 0 {
                parts.push(format!("{} % lost", f64::from(loss_ppm) / 1e4));
            }
            if bits_per_second > 0 {
                parts.push(rate(bits_per_second));
            }
            parts.join(", ")
        }
    }
}

fn rate(bits_per_second: u64) -> String {
    let units = [(1_000_000_000, "Gbit/s"), (1_000_000, "Mbit/s"), (1_000, "kbit/s")];
    let unit =
        units.into_iter().find(|(size, _)| bits_per_second >= *size && bits_per_second.is_multiple_of(*size));
    match unit {
        Some((size, unit)) => format!("{} {unit}", bits_per_second / size),
        None => format!("{bits_per_second} bit/s"),
    }
}
