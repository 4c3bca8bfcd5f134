//! Pods: every namespace that a veth or macvlan connects to the node.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use analyze::wiring::wirings;
use ipnet::IpNet;
use model::{Link, Namespace, Stack};

use super::entries::{TABLE_MAIN, is_connected, words};
use super::node::segment_of;
use super::{Import, given, mac, many, mtu, names, notes};
use crate::topology::{self, End, LinkSettings, Machine};

/// The gateway of pods whose node answers ARP for every address (Calico): nobody has it.
const NOBODYS_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

impl<'a> Import<'a> {
    /// Makes a host of every namespace that is connected to the node.
    pub(super) fn pods(&mut self) {
        let called = names_of(self.snapshot);
        // All of the node's first: a pod's macvlan may be on what leads to a pod that comes later.
        for namespace in self.snapshot.namespaces.iter().filter(|namespace| !namespace.host) {
            for (outside, _) in self.veths_into(namespace) {
                self.take(outside);
            }
        }
        for namespace in self.snapshot.namespaces.iter().filter(|namespace| !namespace.host) {
            let veths: Vec<(&'a Link, &'a Link)> = self.veths_into(namespace);
            let key: *const Namespace = namespace;
            let is_known = called.contains_key(&key);
            let macvlans: Vec<(&'a Link, String)> = self.macvlans_of(namespace, &veths, is_known);
            let others = namespace.links.iter().filter(|link| !link.loopback);
            if veths.is_empty() && macvlans.is_empty() {
                if others.count() > 0 {
                    self.notes.add(notes::ALONE, namespace.label());
                }
                continue;
            }
            let label = called.get(&key).cloned().unwrap_or_else(|| name_of_pin(namespace));
            let name = self.names.machine(&label, "pod");
            let mut pod = Machine::default();
            let loopback = namespace.links.iter().filter(|link| link.loopback);
            pod.loopback = many(loopback.flat_map(given).collect());
            for link in others {
                let is_wired = veths.iter().any(|(_, inside)| inside.index == link.index)
                    || macvlans.iter().any(|(own, _)| own.index == link.index);
                if !is_wired {
                    self.notes.add(notes::NO_KIND, format!("{name}:{} ({})", link.name, link.kind));
                }
            }
            for (outside, inside) in veths {
                self.veth(outside, inside, namespace.stack.as_deref(), &name, &mut pod);
            }
            for (link, on) in macvlans {
                let (on, called) = (format!("{}:{on}", self.name), format!("{name}:{}", link.name));
                let macvlan = self.macvlan_on(on, link, &called, given(link));
                let own = names::interface(&link.name, link.index.0).to_string();
                pod.macvlans.0.push((own, macvlan));
            }
            self.hosts.push((name, pod));
        }
    }

    /// The veths of the node whose other end is in a namespace, with that end.
    fn veths_into(&self, namespace: &Namespace) -> Vec<(&'a Link, &'a Link)> {
        let veths = self.host.links.iter().filter(|link| link.kind == "veth");
        let with_peer = veths.filter_map(|link| Some((link, self.snapshot.peer(link)?)));
        let here = with_peer.filter(|(_, (peer, _))| std::ptr::eq(*peer, namespace));
        here.map(|(link, (_, inside))| (link, inside)).collect()
    }

    /// The macvlans of a namespace that are on an interface of the node.
    ///
    /// A namespace numbers others as it likes, so an index and a number may mean an interface of anybody. Which number is the node's is
    /// known where a veth leads there; without one, it is the node's only if the namespace is a container's of this node.
    fn macvlans_of(
        &self,
        namespace: &'a Namespace,
        veths: &[(&'a Link, &'a Link)],
        is_known: bool,
    ) -> Vec<(&'a Link, String)> {
        let node = veths.iter().find_map(|(_, inside)| inside.peer?.nsid);
        let macvlans = namespace.links.iter().filter(|link| link.kind == "macvlan");
        let on_node = |link: &'a Link| {
            let lower = link.lower.filter(|lower| match (lower.nsid, node) {
                (Some(nsid), Some(node)) => nsid == node,
                (Some(_), None) => is_known,
                (None, _) => false,
            })?;
            Some((link, self.devices.get(&lower.index)?.clone()))
        };
        macvlans.filter_map(on_node).collect()
    }

    fn veth(
        &mut self,
        outside: &'a Link,
        inside: &'a Link,
        stack: Option<&Stack>,
        name: &str,
        pod: &mut Machine,
    ) {
        let bridge = self.bridge_of(outside);
        let Some(own) = self.devices.get(&outside.index).cloned() else { return };
        let eth = names::interface(&inside.name, inside.index.0).to_string();
        let segment = segment_of(outside, bridge.is_some());
        let near = if bridge.is_some() { Vec::new() } else { self.free(segment, &own, given(outside)) };
        let mut addresses = self.free(segment, &format!("{name}:{eth}"), given(inside));
        if bridge.is_none() && near.iter().all(|net| net.prefix_len() == net.max_prefix_len()) {
            // A routed pod (ptp, Calico): whatever its subnet, nobody else is on its link.
            addresses = addresses.into_iter().map(|net| net.addr().into()).collect();
        }
        if outside.ipv4.is_some_and(|settings| settings.proxy) {
            self.node.sysctls.insert(format!("net/ipv4/conf/{own}/proxy_arp"), "1".to_owned());
        }
        if let Some(stack) = stack {
            let kept: Vec<IpAddr> = addresses.iter().map(IpNet::addr).collect();
            self.routes_of(stack, inside, &eth, &kept, (name, pod));
        }
        let on_bridge = self.host_link(segment).map(given).unwrap_or_default();
        // Older snapshots do not have the routes of pods.
        for family in [true, false].into_iter().filter(|_| stack.is_none()) {
            let has = |net: &&IpNet| net.addr().is_ipv4() == family;
            if let Some(net) = addresses.iter().find(has) {
                self.default_route(pod, net, &on_bridge, (&own, &eth));
            }
        }
        let written = match &bridge {
            Some(bridge) => format!("{}/{bridge}:{own}", self.name),
            None => format!("{}:{own}", self.name),
        };
        let listed: String = addresses.iter().map(|net| format!(" {net}")).collect();
        let (outer, inner) = (mtu(outside), mtu(inside));
        let both = outer.filter(|_| outer == inner);
        let settings = LinkSettings {
            mtu: both,
            from: End {
                addresses: bridge.is_none().then(|| many(near)),
                mac: mac(outside),
                mtu: outer.filter(|_| both.is_none()),
                down: !outside.up,
                ..self.port_of(outside, bridge.is_some())
            },
            to: End {
                addresses: addresses.is_empty().then(|| many(Vec::new())),
                mac: mac(inside),
                mtu: inner.filter(|_| both.is_none()),
                down: !inside.up,
                ..End::default()
            },
            ..LinkSettings::default()
        };
        self.links.push(topology::Link { link: format!("{written} -- {name}:{eth}{listed}"), settings });
    }

    /// The routes by an interface of a pod, but for those that come with its addresses.
    fn routes_of(
        &mut self,
        stack: &Stack,
        inside: &Link,
        eth: &str,
        kept: &[IpAddr],
        (name, pod): (&str, &mut Machine),
    ) {
        for route in stack.routes.iter().filter(|route| route.device == Some(inside.index)) {
            let is_kernels_own = matches!(route.destination.addr(), IpAddr::V6(v6) if
                route.destination.prefix_len() > 0 && (v6.is_unicast_link_local() || v6.is_multicast()));
            if is_kernels_own || is_connected(route, inside) {
                continue;
            }
            match words(route, eth, inside, kept).filter(|_| route.table == TABLE_MAIN) {
                Some(words) => pod.routes.push(words),
                None => self.notes.add(notes::NO_ROUTE, format!("{} of {name}", route.destination)),
            }
        }
    }

    /// Nearly all pods have one default route, to the node.
    fn default_route(
        &mut self,
        pod: &mut Machine,
        own: &IpNet,
        nodes: &[IpNet],
        (outside, eth): (&str, &str),
    ) {
        let v4 = own.addr().is_ipv4();
        let everywhere = if v4 { "default" } else { "::/0" };
        let gateways = self.snapshot.stack.routes.iter().filter(|route| route.destination.prefix_len() == 0);
        if pod.routes.iter().any(|route| route.starts_with(everywhere))
            || gateways.filter_map(|route| route.gateway).any(|ip| ip == own.addr())
        {
            return;
        }
        let mut same = nodes.iter().map(IpNet::addr).filter(|ip| ip.is_ipv4() == v4);
        let near = same.clone().find(|ip| own.contains(ip));
        if let Some(gateway) = near {
            pod.routes.push(format!("{everywhere} via {gateway} dev {eth}"));
        } else if own.prefix_len() < own.max_prefix_len() {
            // On a subnet on which the node is not: somebody else may be its gateway.
        } else if let Some(gateway) = same.next() {
            pod.routes.push(format!("{everywhere} via {gateway} dev {eth} onlink"));
        } else if v4 {
            let gateway = IpAddr::V4(NOBODYS_GATEWAY);
            pod.routes.push(format!("{everywhere} via {gateway} dev {eth} onlink"));
            self.node.sysctls.insert(format!("net/ipv4/conf/{outside}/proxy_arp"), "1".to_owned());
        }
    }
}

/// What runtimes, records and caches call the namespaces.
fn names_of(snapshot: &model::Snapshot) -> HashMap<*const Namespace, String> {
    let mut names = HashMap::new();
    for wiring in wirings(snapshot) {
        let object = || wiring.objects.iter().find_map(|(_, object)| object.name.clone());
        let Some(name) = wiring.pod().map(|pod| pod.name.clone()).or_else(object) else { continue };
        for namespace in &wiring.namespaces {
            names.entry(*namespace as *const Namespace).or_insert_with(|| name.clone());
        }
    }
    names
}

/// The name of the file that pins it.
fn name_of_pin(namespace: &Namespace) -> String {
    let pin = namespace.own_pins().next().and_then(|pin| pin.path.file_name()?.to_str().map(str::to_owned));
    pin.unwrap_or_default()
}
