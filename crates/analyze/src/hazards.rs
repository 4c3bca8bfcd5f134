//! What is wrong on a node without being a leak: nothing of it is ever removed, all of it is told.
//!
//! A danger will harm somebody: an address that a live container has and that is free for the next one. A note is
//! what points at nothing, and may be so for a good reason.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use model::{
    ContainerId, DhcpLease, IfIndex, Link, MacAddr, Namespace, PodmanLease, RuntimeKind, Snapshot, Source,
};
use serde::Serialize;

use crate::wiring::{Wiring, is_link_local};

/// `NUD_PERMANENT` and `NUD_NOARP`, by which the kernel marks what somebody set.
const NUD_PERMANENT: u16 = 0x80;

/// The hint where nothing is to be done.
pub const LEFT_ALONE: &str = "it is left alone: whoever made it may want it";

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It breaks somebody's connections, now or with the next ADD.
    Danger,
    /// It points at nothing.
    Note,
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hazard {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name for programs.
    pub code: &'static str,
    /// The address, MAC or interface.
    pub object: String,
    /// What is wrong with it, in words.
    pub text: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// Everything wrong, the dangers first.
pub fn hazards(snapshot: &Snapshot, wirings: &[Wiring<'_>]) -> Vec<Hazard> {
    let mut all = Vec::new();
    for wiring in wirings {
        all.extend(unleased(wiring, snapshot));
        all.extend(unused_leases(wiring));
    }
    all.extend(duplicates(snapshot));
    all.extend(podman_leases(snapshot));
    all.extend(dhcp_leases(snapshot));
    all.extend(empty_bridges(snapshot));
    all.extend(neighbours(snapshot));
    all.extend(stations(snapshot));
    all.sort_by(|a, b| (a.severity, a.code, &a.object).cmp(&(b.severity, b.code, &b.object)));
    all
}

/// Addresses of a wiring's inside interfaces, each with its interface.
fn inside<'a>(wiring: &'a Wiring<'_>) -> impl Iterator<Item = (&'a Namespace, &'a Link, IpAddr)> {
    let links = wiring.namespaces.iter().flat_map(|ns| ns.links.iter().map(move |link| (*ns, link)));
    let links = links.filter(|(_, link)| !link.loopback);
    let all = links.flat_map(|(ns, link)| link.addresses.iter().map(move |net| (ns, link, net.addr())));
    all.filter(|(_, _, address)| !is_link_local(*address))
}

/// A container has an address that host-local gave it, and host-local does not know: it gives it to the next one.
fn unleased(wiring: &Wiring<'_>, snapshot: &Snapshot) -> Vec<Hazard> {
    let from_host_local = |address: IpAddr| {
        wiring.cache.iter().find(|entry| {
            entry.addresses.contains(&address) && entry.ipam.iter().any(|kind| kind == "host-local")
        })
    };
    // Where leases could not be read, or an ADD or DEL is at work, that one was not seen proves nothing.
    let is_hidden = snapshot.coverage.iter().any(|gap| gap.source == Source::Leases);
    if is_hidden || wiring.records.iter().any(|record| record.seen.as_ref().is_some_and(|seen| seen.locked)) {
        return Vec::new();
    }
    let missing = |(_, link, address): (&Namespace, &Link, IpAddr)| {
        let entry = from_host_local(address)?;
        let network = &entry.key.as_ref()?.network;
        let mut leases = snapshot.leases.iter();
        let lease = leases.find(|lease| lease.address == address && lease.network == *network);
        let (name, label) = (&link.name, wiring.label());
        let text = match lease {
            // One whose content was lost keeps the address from being given away.
            Some(lease) if lease.container.as_ref().is_none_or(|id| wiring.containers.contains(&id)) => {
                return None;
            }
            Some(_) => {
                format!("{name} of {label} has it, and network {network} has leased it to another one")
            }
            None => format!(
                "{name} of {label} has it, and no lease of network {network} says so: the next ADD may give it away again"
            ),
        };
        Some(Hazard {
            severity: Severity::Danger,
            code: "address-without-lease",
            object: address.to_string(),
            text,
            hint: "write its lease again, or restart the pod before others are started",
        })
    };
    inside(wiring).filter_map(missing).collect()
}

/// A container lives, its namespace was read, and a leased address is on none of its interfaces.
fn unused_leases(wiring: &Wiring<'_>) -> Vec<Hazard> {
    let is_alive = wiring.namespaces.iter().any(|namespace| namespace.has_tasks());
    if !is_alive || wiring.namespaces.iter().any(|namespace| !namespace.readable) {
        return Vec::new();
    }
    let unused = |lease: &&&model::Lease| {
        !lease.locked
            && lease.container.is_some()
            && !inside(wiring).any(|(_, _, address)| address == lease.address)
    };
    let hazard = |lease: &&model::Lease| Hazard {
        severity: Severity::Danger,
        code: "lease-without-address",
        object: lease.address.to_string(),
        text: format!("network {} leased it to {}, which lives without it", lease.network, wiring.label()),
        hint: "the pod cannot be reached by that address: restart it",
    };
    wiring.leases.iter().filter(unused).map(hazard).collect()
}

/// Where interfaces can reach each other on the link: the host's bridge, or the host itself for veths that it routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Bridge(IfIndex),
    Routed,
}

/// The same address twice in one segment, or the same MAC behind two ports of one bridge.
fn duplicates(snapshot: &Snapshot) -> Vec<Hazard> {
    let Some(host) = snapshot.host() else { return Vec::new() };
    let mut addresses: BTreeMap<(Segment, IpAddr), Vec<String>> = BTreeMap::new();
    let mut macs: BTreeMap<(IfIndex, MacAddr), Vec<String>> = BTreeMap::new();
    for port in host.links.iter().filter(|link| link.kind == "veth") {
        let Some((namespace, link)) = snapshot.peer(port).filter(|(namespace, _)| !namespace.host) else {
            continue;
        };
        let name = format!("{} in {}", link.name, namespace.label());
        let master = port.master.and_then(|master| snapshot.host_link(master));
        let segment = match master {
            Some(bridge) if bridge.kind == "bridge" => Segment::Bridge(bridge.index),
            Some(_) => continue,
            None => Segment::Routed,
        };
        let own = link.addresses.iter().map(|net| net.addr());
        for address in own.filter(|address| !is_link_local(*address)) {
            addresses.entry((segment, address)).or_default().push(name.clone());
        }
        if let (Segment::Bridge(bridge), Some(mac)) = (segment, link.mac) {
            macs.entry((bridge, mac)).or_default().push(name);
        }
    }
    for bridge in host.links.iter().filter(|link| link.kind == "bridge") {
        for address in bridge.addresses.iter().map(|net| net.addr()) {
            if let Some(others) = addresses.get_mut(&(Segment::Bridge(bridge.index), address)) {
                others.push(format!("{} of the host", bridge.name));
            }
        }
    }
    let twice = |code, object: String, names: Vec<String>, hint| {
        let text = format!("{} have it", names.join(" and "));
        (names.len() > 1).then_some(Hazard { severity: Severity::Danger, code, object, text, hint })
    };
    let addresses = addresses.into_iter().filter_map(|((_, address), names)| {
        let hint = "restart the younger of them, and look for address-without-lease";
        twice("duplicate-address", address.to_string(), names, hint)
    });
    let macs = macs.into_iter().filter_map(|((_, mac), names)| {
        twice("duplicate-mac", mac.to_string(), names, "frames go to either: restart one of them")
    });
    addresses.chain(macs).collect()
}

/// An address that Podman's netavark backend leased to a container that no store has any more: Podman gives
/// one back with its container only (not even `podman network rm` does). Only told: a store may be where nobody looks, and the
/// database is Podman's.
fn podman_leases(snapshot: &Snapshot) -> Vec<Hazard> {
    let is_silent =
        snapshot.runtimes.iter().any(|runtime| runtime.kind == RuntimeKind::Podman && !runtime.answered());
    if snapshot.podman_leases.is_empty() || is_silent || is_blind(snapshot) {
        return Vec::new();
    }
    let listed: HashSet<&ContainerId> = snapshot.runtime_objects().map(|(_, object)| &object.id).collect();
    let links = snapshot.namespaces.iter().flat_map(|namespace| &namespace.links);
    let used: HashSet<IpAddr> = links.flat_map(|link| link.addresses.iter().map(|net| net.addr())).collect();
    let leases = snapshot.podman_leases.iter();
    let is_lost = |lease: &&PodmanLease| !listed.contains(&lease.container) && !used.contains(&lease.address);
    let hazard = |lease: &PodmanLease| Hazard {
        severity: Severity::Note,
        code: "forgotten-podman-lease",
        object: lease.address.to_string(),
        text: format!(
            "Podman's network {} leased it to {}, which no store that is known has, and no interface has it",
            lease.network,
            crate::wiring::short_id(lease.container.as_str())
        ),
        hint: "stop all containers of root's Podman, remove /run/containers/networks/ipam.db, start them again",
    };
    leases.filter(is_lost).map(hazard).collect()
}

/// Something was not seen that may have an address.
fn is_blind(snapshot: &Snapshot) -> bool {
    snapshot.coverage.iter().any(|gap| gap.source.hides_holders())
        || snapshot.namespaces.iter().any(|namespace| !namespace.readable)
}

/// A lease that podplumb's dhcp daemon keeps for a namespace that is gone: no daemon runs, or it will notice when the lease is to be
/// renewed. Where something else still says whose it was, that is an orphan, and DEL of its plugins gives the lease back.
fn dhcp_leases(snapshot: &Snapshot) -> Vec<Hazard> {
    if snapshot.dhcp_leases.is_empty() || is_blind(snapshot) {
        return Vec::new();
    }
    let is_there = |lease: &DhcpLease| {
        snapshot.namespaces.iter().any(|namespace| match (lease.ns_id, namespace.ns_id) {
            (Some(then), Some(now)) => then == now,
            _ => namespace.inode == Some(lease.ns_inode),
        })
    };
    let cached = snapshot.cache.iter().filter_map(|entry| entry.key.as_ref());
    let recorded = snapshot.records.iter().map(|record| &record.key);
    let named: HashSet<&ContainerId> = cached.chain(recorded).map(|key| &key.container).collect();
    let listed: HashSet<&ContainerId> = snapshot.runtime_objects().map(|(_, object)| &object.id).collect();
    let leases = snapshot.dhcp_leases.iter().filter(|lease| {
        let container = &lease.key.container;
        !named.contains(container) && !listed.contains(container) && !is_there(lease)
    });
    let hazard = |lease: &DhcpLease| Hazard {
        severity: Severity::Note,
        code: "forgotten-dhcp-lease",
        object: lease.address.map_or_else(|| lease.key.file_name(), |address| address.to_string()),
        text: format!(
            "the dhcp daemon keeps it in network {} for {}, whose namespace is gone",
            lease.key.network,
            crate::wiring::short_id(lease.key.container.as_str())
        ),
        hint: "restart the dhcp daemon: it forgets it, and the server frees it when it expires",
    };
    leases.map(hazard).collect()
}

/// A bridge without a port.
fn empty_bridges(snapshot: &Snapshot) -> Vec<Hazard> {
    let Some(host) = snapshot.host() else { return Vec::new() };
    let bridges = host.links.iter().filter(|link| link.kind == "bridge");
    let empty = bridges.filter(|bridge| !host.links.iter().any(|link| link.master == Some(bridge.index)));
    let hazard = |bridge: &Link| {
        let addresses: Vec<String> = bridge.addresses.iter().map(ToString::to_string).collect();
        let with = if addresses.is_empty() { String::new() } else { format!(" ({})", addresses.join(", ")) };
        note("empty-bridge", bridge.name.clone(), format!("a bridge without a port{with}"))
    };
    empty.map(hazard).collect()
}

fn note(code: &'static str, object: String, text: String) -> Hazard {
    Hazard { severity: Severity::Note, code, object, text, hint: LEFT_ALONE }
}

/// Every MAC of every interface that was seen.
fn is_known_mac(snapshot: &Snapshot, mac: MacAddr) -> bool {
    snapshot.namespaces.iter().flat_map(|namespace| &namespace.links).any(|link| link.mac == Some(mac))
}

/// Whether all that is behind a port of the host was seen: it is a veth that leads into a namespace that was read.
fn is_seen(snapshot: &Snapshot, port: &Link) -> bool {
    port.kind == "veth" && snapshot.peer(port).is_some_and(|(namespace, _)| namespace.readable)
}

/// Permanent neighbours, on bridges with nothing but containers behind them and on veths, whose MAC nobody has.
fn neighbours(snapshot: &Snapshot) -> Vec<Hazard> {
    let Some(host) = snapshot.host() else { return Vec::new() };
    let mut found = Vec::new();
    for entry in snapshot.stack.neighbours.iter().filter(|entry| entry.state & NUD_PERMANENT != 0) {
        let (Some(device), Some(mac)) = (snapshot.host_link(entry.device), entry.mac) else { continue };
        let is_closed = match device.kind.as_str() {
            "bridge" => {
                let mut ports = host.links.iter().filter(|link| link.master == Some(device.index));
                ports.all(|port| is_seen(snapshot, port))
            }
            "veth" => is_seen(snapshot, device),
            _ => false,
        };
        if is_closed && !is_known_mac(snapshot, mac) {
            let text =
                format!("a permanent neighbour at {mac} on {}, and no interface has that MAC", device.name);
            found.push(note("stale-neighbour", entry.address.to_string(), text));
        }
    }
    found
}

/// Static entries of a bridge's forwarding database for a port behind which nobody has that MAC.
fn stations(snapshot: &Snapshot) -> Vec<Hazard> {
    let mut found = Vec::new();
    for entry in snapshot.stack.fdb.iter().filter(|entry| entry.master.is_some() && entry.remote.is_none()) {
        const NUD_NOARP: u16 = 0x40;
        let Some(port) = snapshot.host_link(entry.device) else { continue };
        // Multicast groups, and the ports' and the bridge's own addresses, are permanent too.
        let is_set = entry.state & (NUD_PERMANENT | NUD_NOARP) != 0 && entry.mac.0[0] & 1 == 0;
        if is_set && is_seen(snapshot, port) && !is_known_mac(snapshot, entry.mac) {
            let text = format!("a static entry for {}, and no interface has that MAC", port.name);
            found.push(note("stale-station", entry.mac.to_string(), text));
        }
    }
    found
}
