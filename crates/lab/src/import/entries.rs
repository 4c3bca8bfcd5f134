//! What the node has besides interfaces: routes, neighbours, forwarding databases, address translation, sysctls.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use model::{Link, Protocol, Route, RuleElement};

use super::{Import, given, notes};

pub(super) const TABLE_MAIN: u32 = 254;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;

/// Sysctls of the node that a lab sets, with what a router of a lab has anyway.
const SYSCTLS: [(&str, &str); 5] = [
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.all.route_localnet", "0"),
    ("net.ipv6.conf.all.forwarding", "1"),
    ("net.ipv6.conf.all.disable_ipv6", "0"),
];

impl Import<'_> {
    /// Reads what hangs on the node's interfaces, as far as the lab has them.
    pub(super) fn entries(&mut self) {
        self.routes();
        self.neighbours();
        self.forwarding();
        self.translation();
        self.sysctls();
    }

    fn routes(&mut self) {
        for route in &self.snapshot.stack.routes {
            let to = route.destination.addr();
            let is_own_kind = match to {
                IpAddr::V4(v4) => v4.is_link_local() && route.gateway.is_none() || v4.is_multicast(),
                IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast() || v6.is_loopback(),
            };
            if route.table == TABLE_MAIN && (is_own_kind || self.is_connected(route)) {
                continue;
            }
            match self.route(route).filter(|_| route.table == TABLE_MAIN) {
                Some(words) if self.node.routes.contains(&words) => {}
                Some(words) => self.node.routes.push(words),
                None if route.table == TABLE_MAIN => {
                    self.notes.add(notes::NO_ROUTE, route.destination.to_string())
                }
                // 255 is the kernel's own.
                None if route.table == 255 => {}
                None => {
                    self.notes.add(notes::NO_ROUTE, format!("{} in table {}", route.destination, route.table))
                }
            }
        }
    }

    /// Whether it came with an address.
    fn is_connected(&self, route: &Route) -> bool {
        let device = route.device.and_then(|device| self.host_link(device));
        device.is_some_and(|device| is_connected(route, device))
    }

    /// In the words of `ip route`; `None` where its interface is not in the lab.
    fn route(&self, route: &Route) -> Option<String> {
        let index = route.device?;
        let device = self.devices.get(&index)?;
        let link = self.host_link(index).filter(|link| link.up)?;
        let links =
            self.host.links.iter().filter(|link| self.devices.contains_key(&link.index) || link.loopback);
        let kept: Vec<IpAddr> = links.flat_map(given).map(|net| net.addr()).collect();
        words(route, device, link, &kept)
    }

    fn neighbours(&mut self) {
        for neighbour in &self.snapshot.stack.neighbours {
            let (Some(device), Some(mac)) = (self.devices.get(&neighbour.device), neighbour.mac) else {
                continue;
            };
            if neighbour.state & NUD_PERMANENT != 0 && mac.0 != [0; 6] && mac.0[0] & 1 == 0 {
                let words = format!("{} lladdr {mac} dev {device}", neighbour.address);
                self.node.neighbours.push(words);
            }
        }
    }

    fn forwarding(&mut self) {
        let mut nodes = BTreeSet::new();
        for entry in &self.snapshot.stack.fdb {
            let Some(link) = self.host_link(entry.device) else { continue };
            let Some(device) = self.devices.get(&entry.device) else { continue };
            nodes.extend(entry.remote);
            // A bridge's own address, and groups that every port has, come by themselves.
            if entry.mac.0[0] & 1 == 1 || entry.mac.0 == [0; 6] || link.mac == Some(entry.mac) {
                continue;
            }
            match (link.kind.as_str(), entry.remote) {
                ("vxlan", Some(remote)) if entry.state & (NUD_PERMANENT | NUD_NOARP) != 0 => {
                    self.node.fdb.push(format!("{} dev {device} dst {remote}", entry.mac));
                }
                ("vxlan", _) => {}
                (_, None) if entry.master.is_some() && entry.state & NUD_NOARP != 0 => {
                    self.node.fdb.push(format!("{} dev {device}", entry.mac));
                }
                _ => {}
            }
        }
        for node in nodes {
            self.notes.add(notes::OTHER_NODE, node.to_string());
        }
    }

    /// podplumb's records say what is translated for whom; the reference plugins' chains are for masquerading where they are in `nat` and lead to
    /// no port.
    fn translation(&mut self) {
        let mut masqueraded = BTreeSet::new();
        let mut forwarded = BTreeSet::new();
        for rule in self.snapshot.records.iter().flat_map(|record| &record.rules) {
            match rule {
                RuleElement::Masquerade { address } => {
                    masqueraded.insert(address.trunc());
                }
                RuleElement::MapPort { protocol, host_ip: None, host_port, pod, pod_port, .. }
                    if *protocol != Protocol::Sctp =>
                {
                    let to = std::net::SocketAddr::new(*pod, *pod_port);
                    forwarded.insert(format!("{}/{host_port} -> {to}", protocol.as_str()));
                }
                RuleElement::MapPort { .. } => self.notes.add(notes::NO_PORT, rule.to_string()),
                _ => {}
            }
        }
        for rules in &self.snapshot.plugin_rules {
            let chain = rules.chain.as_deref().unwrap_or_default();
            if rules.table == "nat"
                && chain.starts_with("CNI-")
                && !chain.starts_with("CNI-DN-")
                && !chain.starts_with("CNI-SN-")
            {
                masqueraded.extend(rules.addresses.iter().filter_map(|address| self.subnet_of(*address)));
            } else if chain.starts_with("CNI-DN-") {
                self.notes.add(notes::NO_PORT, chain);
            }
        }
        self.node.masquerade.0.extend(masqueraded.into_iter().map(|net| net.to_string()));
        self.node.forward.0.extend(forwarded);
    }

    /// The subnet of the pod that has an address.
    fn subnet_of(&self, address: IpAddr) -> Option<IpNet> {
        let pods = self.snapshot.namespaces.iter().filter(|namespace| !namespace.host);
        let mut addresses = pods.flat_map(|pod| &pod.links).flat_map(|link| &link.addresses);
        addresses.find(|net| net.addr() == address).map(IpNet::trunc)
    }

    fn sysctls(&mut self) {
        let has_v6 = self.host.links.iter().filter(|link| self.devices.contains_key(&link.index));
        let has_v6 = has_v6.flat_map(given).any(|net| net.addr().is_ipv6());
        for (name, usual) in SYSCTLS {
            let Some(value) = self.snapshot.stack.sysctls.get(name).filter(|value| *value != usual) else {
                continue;
            };
            // A file may say anything.
            if !value.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let is_v6 = name.starts_with("net.ipv6.");
            // A node without IPv6 has no forwarding to switch off, and one that has addresses cannot do without it.
            if is_v6 && name.ends_with("forwarding") != has_v6 {
                continue;
            }
            self.node.sysctls.insert(name.to_owned(), value.clone());
        }
    }
}

/// Whether a route came with an address of its interface.
pub(super) fn is_connected(route: &Route, device: &Link) -> bool {
    let is_subnet = |net: &IpNet| net.trunc() == route.destination && net.prefix_len() < net.max_prefix_len();
    route.gateway.is_none()
        && (device.addresses.iter().any(is_subnet)
            || given(device).iter().any(|net| IpNet::from(net.addr()) == route.destination))
}

/// A route in the words of `ip route`, by an interface that is called so in the lab; its source only if that is one of those that are kept.
/// `None` for one that a topology cannot say.
pub(super) fn words(route: &Route, device: &str, link: &Link, kept: &[IpAddr]) -> Option<String> {
    // A gateway of the other family is nothing that a topology can say, nor several.
    let is_other = |gateway: IpAddr| gateway.is_ipv4() != route.destination.addr().is_ipv4();
    if !route.kind.is_unicast() || !route.hops.is_empty() || route.gateway.is_some_and(is_other) {
        return None;
    }
    let mut words = match route.destination {
        net if net.prefix_len() == 0 && net.addr().is_ipv4() => "default".to_owned(),
        net if net.prefix_len() == net.max_prefix_len() => net.addr().to_string(),
        net => net.to_string(),
    };
    if let Some(gateway) = route.gateway {
        words.push_str(&format!(" via {gateway}"));
    }
    words.push_str(&format!(" dev {device}"));
    let is_near = |gateway: IpAddr| {
        let link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
        link_local || link.addresses.iter().any(|net| net.contains(&gateway))
    };
    if route.gateway.is_some_and(|gateway| !is_near(gateway)) {
        words.push_str(" onlink");
    }
    if let Some(source) = route.source.filter(|source| kept.contains(source)) {
        words.push_str(&format!(" src {source}"));
    }
    // What IPv6 has unless somebody says otherwise.
    let usual = if route.destination.addr().is_ipv4() { 0 } else { 1024 };
    if route.priority != usual && route.priority != 0 {
        words.push_str(&format!(" metric {}", route.priority));
    }
    Some(words)
}
