//! The map as a drawing: the node a frame, uplinks on top, below them tunnels, bridges, and pods; other nodes beside it.

use std::collections::HashMap;

use model::{IfIndex, Link};

use super::{Map, Place, Rate, Remark, Tunnel};
use crate::drawing::{Edge, End, Frame, Graph, Kind, Mark, Style, Vertex};
use crate::wiring::is_link_local;

/// MTU of which nothing is said.
const USUAL_MTU_BYTES: u32 = 1_500;

/// The map as a graph. Unless `all` of it is to be seen, those that are alike and many are one box.
pub fn graph(map: &Map, all: bool) -> Graph {
    let mut drawing = Drawing {
        graph: Graph { title: map.node.hostname.clone(), whole: all, ..Graph::default() },
        links: HashMap::new(),
    };
    let networks = map.networks.iter().filter(|network| network.in_force);
    let mut lines: Vec<String> = networks
        .map(|network| {
            let name = network.config.network.as_ref().map_or("unnamed", |name| name.as_str());
            format!("{name}: {}", network.config.plugins.join(", "))
        })
        .collect();
    lines.extend(map.pod_subnets().iter().map(|subnet| format!("pods {subnet}")));
    drawing.graph.frames.push(Frame {
        id: "node".into(),
        title: map.node.hostname.clone(),
        lines,
        mark: worst(&map.remarks),
    });
    for uplink in &map.uplinks {
        let mut lines = facts(&uplink.link, uplink.rate, &uplink.remarks);
        lines.extend(uplink.gateways.iter().map(|gateway| format!("default via {gateway}")));
        drawing.add_link(&uplink.link, Kind::Interface, lines, worst(&uplink.remarks));
    }
    let top = drawing.graph.vertices.len().checked_sub(1).map(|_| 0);
    for tunnel in &map.tunnels {
        drawing.add_tunnel(tunnel, top);
    }
    for bridge in &map.bridges {
        // One that is an uplink is there already.
        if drawing.links.contains_key(&bridge.link.index) {
            continue;
        }
        let mut lines = facts(&bridge.link, bridge.rate, &bridge.remarks);
        lines.insert(0, format!("bridge, {}", crate::render::count(bridge.ports, "port")));
        let vertex = drawing.add_link(&bridge.link, Kind::Bridge, lines, worst(&bridge.remarks));
        if let Some(top) = top {
            drawing.connect(top, vertex, Style::Inside);
        }
    }
    // An interface of the node that is a port of a bridge, a tunnel or uplink of it.
    let lower =
        map.uplinks.iter().map(|uplink| &uplink.link).chain(map.tunnels.iter().map(|tunnel| &tunnel.link));
    for link in lower {
        if let (Some(own), Some(bridge)) =
            (drawing.links.get(&link.index), link.master.and_then(|m| drawing.links.get(&m)))
        {
            let (own, bridge) = (*own, *bridge);
            drawing.connect(own, bridge, Style::Link);
        }
    }
    for place in map.chains.iter().filter(|place| all || is_connected(place)) {
        drawing.add_place(place, top);
    }
    if all { drawing.graph } else { drawing.graph.collapsed() }
}

struct Drawing {
    graph: Graph,
    /// The box of each interface of the node that is one.
    links: HashMap<IfIndex, usize>,
}

impl Drawing {
    fn add(
        &mut self,
        id: String,
        title: String,
        kind: Kind,
        lines: Vec<String>,
        mark: Mark,
        inside: bool,
    ) -> usize {
        let frame = inside.then_some(0);
        self.graph.vertices.push(Vertex { id, title, kind, lines, frame, mark, count: 1 });
        self.graph.vertices.len() - 1
    }

    fn add_link(&mut self, link: &Link, kind: Kind, lines: Vec<String>, mark: Mark) -> usize {
        let vertex = self.add(format!("link {}", link.index), link.name.clone(), kind, lines, mark, true);
        self.links.insert(link.index, vertex);
        vertex
    }

    fn connect(&mut self, above: usize, below: usize, style: Style) {
        let ends = [above, below].map(|vertex| End { vertex, lines: Vec::new() });
        self.graph.edges.push(Edge { ends, middle: Vec::new(), style });
    }

    fn add_tunnel(&mut self, tunnel: &Tunnel, top: Option<usize>) {
        let mut lines = facts(&tunnel.link, tunnel.rate, &tunnel.remarks);
        lines.insert(0, format!("VXLAN {}, UDP {}", tunnel.vxlan.id, tunnel.vxlan.port));
        let own = self.add_link(&tunnel.link, Kind::Tunnel, lines, worst(&tunnel.remarks));
        let lower = tunnel.vxlan.lower.and_then(|lower| self.links.get(&lower).copied()).or(top);
        if let Some(lower) = lower {
            self.connect(lower, own, Style::Inside);
        }
        for peer in &tunnel.peers {
            let title = match (peer.remote, peer.mac) {
                (Some(remote), _) => remote.to_string(),
                (None, Some(mac)) => mac.to_string(),
                (None, None) => "not known where".to_owned(),
            };
            let mark = if peer.remote.is_none() { Mark::Warning } else { Mark::Fine };
            let lines = peer.subnets.iter().map(ToString::to_string).collect();
            let id = format!("peer {} {title} {:?}", tunnel.link.index, peer.mac);
            let there = self.add(id, title, Kind::Uplink, lines, mark, false);
            self.connect(own, there, Style::Tunnel);
        }
    }

    fn add_place(&mut self, place: &Place, top: Option<usize>) {
        let chain = &place.chain;
        let mut lines: Vec<String> = chain
            .pod
            .iter()
            .filter(|_| chain.label != chain.pod.as_ref().map(ToString::to_string).unwrap_or_default())
            .map(ToString::to_string)
            .collect();
        lines.extend(place.rate.map(Rate::short));
        lines.extend(place.remarks.iter().map(|remark| remark.text.clone()));
        let id = chain
            .namespace
            .as_ref()
            .and_then(|namespace| namespace.inode)
            .map_or_else(|| format!("place {}", chain.label), |inode| format!("place {inode}"));
        let kind = if chain.pod.is_some() { Kind::Pod } else { Kind::Host };
        let vertex = self.add(id, chain.label.clone(), kind, lines, worst(&place.remarks), true);
        for interface in &chain.interfaces {
            let bridge = interface.host.as_ref().and_then(|host| self.links.get(&host.master?).copied());
            let Some(above) = bridge.or(interface.host.as_ref().and(top)) else { continue };
            let host = interface.host.iter().map(end_name).collect();
            let inside = interface.inside.iter().flat_map(end_lines).collect();
            self.graph.edges.push(Edge {
                ends: [End { vertex: above, lines: host }, End { vertex, lines: inside }],
                middle: mtu(interface.host.as_ref(), interface.inside.as_ref()),
                style: if bridge.is_some() { Style::Link } else { Style::Inside },
            });
        }
    }
}

/// A browser, too, makes namespaces for its processes: what no wire leads to and no runtime knows is nothing to be drawn.
fn is_connected(place: &Place) -> bool {
    let chain = &place.chain;
    let has_wire = chain.interfaces.iter().any(|interface| interface.host.is_some());
    has_wire || chain.pod.is_some() || !chain.containers.is_empty() || !place.remarks.is_empty()
}

fn worst(remarks: &[Remark]) -> Mark {
    remarks.iter().map(|remark| remark.mark).max().unwrap_or_default()
}

/// Addresses, an unusual MTU, what passes, and what is wrong.
fn facts(link: &Link, rate: Option<Rate>, remarks: &[Remark]) -> Vec<String> {
    let own = link.addresses.iter().filter(|net| !is_link_local(net.addr()));
    let mut lines: Vec<String> = own.map(ToString::to_string).collect();
    lines.extend((link.mtu_bytes != USUAL_MTU_BYTES).then(|| format!("mtu {}", link.mtu_bytes)));
    lines.extend((!link.up).then(|| "DOWN".to_owned()));
    lines.extend(rate.map(Rate::short));
    lines.extend(remarks.iter().map(|remark| remark.text.clone()));
    lines
}

fn end_name(link: &Link) -> String {
    let mut name = link.name.clone();
    let port = link.port;
    for (is, word) in [
        (!link.up, " down"),
        (port.is_some_and(|port| port.hairpin), " hairpin"),
        (port.is_some_and(|port| port.isolated), " isolated"),
    ] {
        name.push_str(if is { word } else { "" });
    }
    name
}

fn end_lines(link: &Link) -> Vec<String> {
    let own = link.addresses.iter().filter(|net| !is_link_local(net.addr()));
    std::iter::once(end_name(link)).chain(own.map(ToString::to_string)).collect()
}

fn mtu(host: Option<&Link>, inside: Option<&Link>) -> Vec<String> {
    match (host.map(|link| link.mtu_bytes), inside.map(|link| link.mtu_bytes)) {
        (Some(host), Some(inside)) if host != inside => vec![format!("mtu {host} ≠ {inside}")],
        (Some(mtu), _) | (None, Some(mtu)) if mtu != USUAL_MTU_BYTES => vec![format!("mtu {mtu}")],
        _ => Vec::new(),
    }
}
