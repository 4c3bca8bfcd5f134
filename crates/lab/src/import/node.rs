//! The node's own interfaces.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{IfIndex, Link, Vlans};

use super::{Import, given, mac, many, mtu, names, notes};
use crate::resolve::vxlan_cost;
use crate::topology::{
    self, Bridge, End, LinkSettings, Machine, Macvlan, MacvlanMode, OneOrMany, VlanWords, Vxlan,
};

impl<'a> Import<'a> {
    /// Bridges first, then what may be a port of one. The veths of pods are made with them.
    pub(super) fn node_devices(&mut self) {
        let links = &self.host.links;
        let of = |kind: &'static str| links.iter().filter(move |link| link.kind == kind);
        for link in of("bridge") {
            self.bridge(link);
        }
        for link in links.iter().filter(|link| link.loopback) {
            self.node.loopback = many(given(link));
        }
        let own = links.iter().filter(|link| !link.loopback);
        let own = own.filter(|link| !matches!(link.kind.as_str(), "bridge" | "vxlan" | "macvlan"));
        for link in own.filter(|link| link.kind != "veth" || self.snapshot.peer(link).is_none()) {
            self.outward(link);
        }
        for link in of("veth") {
            self.within(link);
        }
    }

    /// What is on other interfaces, once all of those are there.
    pub(super) fn upper_devices(&mut self) {
        let links = &self.host.links;
        let of = |kind: &'static str| links.iter().filter(move |link| link.kind == kind);
        for link in of("vxlan") {
            self.vxlan(link);
        }
        for link in of("macvlan") {
            self.macvlan(link);
        }
    }

    /// The node's interface gets this name in the lab.
    pub(super) fn take(&mut self, link: &Link) -> String {
        let name = names::interface(&link.name, link.index.0).to_string();
        if name != link.name {
            self.notes.add(notes::RENAMED, format!("{} is {name}", link.name));
        }
        self.devices.insert(link.index, name.clone());
        name
    }

    fn bridge(&mut self, link: &Link) {
        let name = self.take(link);
        let addresses = self.free(link.index, &name, given(link));
        match link.bridge {
            None => self.notes.add(notes::UNKNOWN_BRIDGE, &name),
            Some(settings) if settings.vlan_filtering && link.vlans.is_none() => {
                self.notes.add(notes::UNKNOWN_VLANS, &name);
            }
            Some(_) => {}
        }
        let bridge = Bridge {
            addresses: many(addresses),
            mac: mac(link),
            mtu: mtu(link),
            stp: link.bridge.is_some_and(|settings| settings.stp),
            vlan_filtering: link.bridge.is_some_and(|settings| settings.vlan_filtering),
            vlans: vlans_of(link, link),
        };
        self.node.bridges.0.push((name, bridge));
    }

    /// An interface that leads away from the node, or of a kind that a lab does not have: a veth whose other end is a host.
    fn outward(&mut self, link: &'a Link) {
        let gateways = self.gateways_on(link);
        let is_routed = self.snapshot.stack.routes.iter().any(|route| route.device == Some(link.index));
        let bridge = self.bridge_of(link);
        if given(link).is_empty() && !is_routed && bridge.is_none() {
            self.notes.add(notes::UNUSED, &link.name);
            return;
        }
        if !link.kind.is_empty() {
            self.notes.add(notes::STAND_IN, format!("{} ({})", link.name, link.kind));
        }
        let name = self.take(link);
        let segment = link.master.filter(|_| bridge.is_some()).unwrap_or(link.index);
        let own = self.free(segment, &name, given(link));
        let far = if gateways.is_empty() { format!("beyond-{name}") } else { "uplink".to_owned() };
        let far = self.names.machine(&far, "beyond");
        let on_bridge = bridge.as_ref().and_then(|_| self.host_link(segment)).map(given).unwrap_or_default();
        let near: Vec<IpNet> = own.iter().chain(&on_bridge).copied().collect();
        let there: Vec<IpNet> = gateways.iter().map(|gateway| beside(*gateway, &near)).collect();
        let there = self.free(segment, &far, there);
        // Whoever is on no subnet of the gateway's is reached all the same.
        let apart = near.iter().filter(|net| !there.iter().any(|subnet| subnet.contains(&net.addr())));
        let apart = apart.filter(|net| there.iter().any(|subnet| same_family(subnet.addr(), net.addr())));
        let routes = apart.map(|net| format!("{} dev eth0", IpNet::from(net.addr()))).collect();
        self.beyond.push((far.clone(), Machine { routes, ..Machine::default() }));
        let near_end = match &bridge {
            Some(bridge) => format!("{}/{bridge}:{name}", self.name),
            None => format!("{}:{name}", self.name),
        };
        self.links.push(topology::Link {
            link: format!("{near_end} -- {far}:eth0"),
            settings: LinkSettings {
                mtu: mtu(link),
                from: End {
                    addresses: bridge.is_none().then(|| many(own)),
                    mac: mac(link),
                    down: !link.up,
                    ..self.port_of(link, bridge.is_some())
                },
                to: End { addresses: Some(many(there)), ..End::default() },
                ..LinkSettings::default()
            },
        });
    }

    /// The default gateways that are reached by this interface, or by the bridge that it is the node's way out of.
    fn gateways_on(&self, link: &Link) -> Vec<IpAddr> {
        let defaults = self.snapshot.stack.routes.iter().filter(|route| route.destination.prefix_len() == 0);
        let here = defaults.filter(|route| {
            route.device == Some(link.index) || (route.device.is_some() && route.device == link.master)
        });
        let mut gateways = Vec::new();
        for gateway in here.filter_map(|route| route.gateway) {
            if !gateways.contains(&gateway) {
                gateways.push(gateway);
            }
        }
        gateways
    }

    /// A veth of which both ends are the node's.
    fn within(&mut self, link: &'a Link) {
        let Some((namespace, other)) = self.snapshot.peer(link) else { return };
        if !namespace.host || other.index < link.index {
            return;
        }
        let ends = [link, other].map(|end| {
            let bridge = self.bridge_of(end);
            let name = self.take(end);
            let addresses = match bridge {
                Some(_) => None,
                None => Some(many(self.free(end.index, &name, given(end)))),
            };
            let written = match &bridge {
                Some(bridge) => format!("{}/{bridge}:{name}", self.name),
                None => format!("{}:{name}", self.name),
            };
            let end = End {
                addresses,
                mac: mac(end),
                mtu: mtu(end),
                down: !end.up,
                ..self.port_of(end, bridge.is_some())
            };
            (written, end)
        });
        let [(left, from), (right, to)] = ends;
        let settings = LinkSettings { from, to, ..LinkSettings::default() };
        self.links.push(topology::Link { link: format!("{left} -- {right}"), settings });
    }

    fn vxlan(&mut self, link: &'a Link) {
        let Some(vxlan) = link.vxlan else {
            self.notes.add(notes::NO_KIND, format!("{} (vxlan)", link.name));
            return;
        };
        let has_local = |other: &&Link| other.addresses.iter().any(|net| Some(net.addr()) == vxlan.local);
        let lower = vxlan
            .lower
            .and_then(|lower| self.host_link(lower))
            .or_else(|| self.host.links.iter().find(has_local));
        let Some((lower, on)) =
            lower.and_then(|lower| Some((lower, self.devices.get(&lower.index)?.clone())))
        else {
            self.notes.add(notes::NO_KIND, format!("{} (vxlan on nothing)", link.name));
            return;
        };
        let local = vxlan.local.or_else(|| given(lower).first().map(IpNet::addr));
        let fits = lower.mtu_bytes.saturating_sub(local.map_or(50, vxlan_cost));
        if link.mtu_bytes > fits {
            self.notes.add(notes::SMALLER_MTU, format!("{}: {} to {fits}", link.name, link.mtu_bytes));
        }
        let bridge = self.bridge_of(link);
        let name = self.take(link);
        let peers = self
            .snapshot
            .stack
            .fdb
            .iter()
            .filter(|entry| entry.device == link.index && entry.mac.0 == [0; 6]);
        let addresses = self.free(link.index, &name, given(link));
        let vxlan = Vxlan {
            id: Some(vxlan.id),
            port: (vxlan.port != 8472).then_some(vxlan.port),
            local: vxlan.local,
            on: Some(on),
            peers: many(peers.filter_map(|entry| entry.remote).collect()),
            learning: (!vxlan.learning).then_some(false),
            vlans: self.port_of(link, bridge.is_some()).vlans,
            bridge,
            addresses: many(addresses),
            mac: mac(link),
            mtu: Some(link.mtu_bytes.min(fits)),
        };
        self.node.vxlans.0.push((name, vxlan));
    }

    fn macvlan(&mut self, link: &'a Link) {
        let lower = link.lower.filter(|lower| lower.nsid.is_none());
        let Some(on) = lower.and_then(|lower| self.devices.get(&lower.index).cloned()) else {
            self.notes.add(notes::NO_KIND, format!("{} (macvlan on nothing)", link.name));
            return;
        };
        let name = self.take(link);
        let addresses = self.free(link.index, &name, given(link));
        let macvlan = self.macvlan_on(on, link, &name, addresses);
        self.node.macvlans.0.push((name, macvlan));
    }

    /// The settings of an end that is a port of a bridge.
    pub(super) fn port_of(&self, link: &Link, is_port: bool) -> End {
        let port = link.port.filter(|_| is_port);
        let bridge = link.master.filter(|_| is_port).and_then(|master| self.host_link(master));
        End {
            hairpin: port.is_some_and(|port| port.hairpin),
            isolated: port.is_some_and(|port| port.isolated),
            vlans: bridge.and_then(|bridge| vlans_of(link, bridge)),
            ..End::default()
        }
    }

    /// A macvlan as a topology has it.
    pub(super) fn macvlan_on(
        &mut self,
        on: String,
        link: &Link,
        called: &str,
        addresses: Vec<IpNet>,
    ) -> Macvlan {
        let mode = match link.macvlan {
            // What it is unless somebody says otherwise.
            Some(model::MacvlanMode::Bridge) => None,
            Some(model::MacvlanMode::Private) => Some(MacvlanMode::Private),
            Some(model::MacvlanMode::Vepa) => Some(MacvlanMode::Vepa),
            Some(model::MacvlanMode::Passthru) => {
                self.notes.add(notes::OTHER_MODE, format!("{called} (passthru)"));
                None
            }
            Some(model::MacvlanMode::Source) => {
                self.notes.add(notes::OTHER_MODE, format!("{called} (source)"));
                None
            }
            None => {
                self.notes.add(notes::GUESSED_MODE, called);
                None
            }
        };
        Macvlan { on: Some(on), mode, addresses: many(addresses), mac: mac(link), mtu: mtu(link) }
    }
}

/// The VLANs of a bridge's port, or of the bridge itself, where they are not what every port has.
fn vlans_of(link: &Link, bridge: &Link) -> Option<OneOrMany<VlanWords>> {
    let filters = bridge.bridge.is_some_and(|settings| settings.vlan_filtering);
    let vlans = link.vlans.as_ref().filter(|vlans| filters && **vlans != [Vlans::USUAL])?;
    let words = many(vlans.iter().map(VlanWords::from).collect());
    // A file may say anything.
    crate::resolve::are_vlans(&words).then_some(words)
}

fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

/// The gateway's address, on the subnet of those that are near it.
fn beside(gateway: IpAddr, near: &[IpNet]) -> IpNet {
    let subnet = near.iter().find(|net| net.contains(&gateway));
    let length = subnet.map_or(if gateway.is_ipv4() { 32 } else { 128 }, IpNet::prefix_len);
    IpNet::new(gateway, length).unwrap_or_else(|_| gateway.into())
}

/// The interface's index is what marks a segment without a bridge.
pub(super) fn segment_of(link: &Link, is_port: bool) -> IfIndex {
    link.master.filter(|_| is_port).unwrap_or(link.index)
}
