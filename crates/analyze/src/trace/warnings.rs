//! What is odd about snapshots that are looked at together, or about two ways.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::{IfIndex, Link};

use super::view::{Place, View};
use super::{Step, Way};
use crate::wiring::is_link_local;

/// Snapshots that are further apart than this may show two different networks.
const FAR_APART_SECONDS: u64 = 60;

pub(super) fn warnings(view: &View<'_>, there: &Way, back: Option<&Way>) -> Vec<String> {
    let mut found = Vec::new();
    times(view, &mut found);
    same_node(view, &mut found);
    addresses(view, &mut found);
    tunnels(view, there, back, &mut found);
    found
}

fn times(view: &View<'_>, found: &mut Vec<String>) {
    let times = view.snapshots.iter().map(|snapshot| snapshot.taken_at);
    let (Some(first), Some(last)) = (times.clone().min(), times.max()) else { return };
    let apart = last.0.abs_diff(first.0) / 1000;
    if apart > FAR_APART_SECONDS {
        found.push(format!(
            "the snapshots were taken {apart} s apart: what they show together may never have been so"
        ));
    }
}

fn same_node(view: &View<'_>, found: &mut Vec<String>) {
    let mut seen = BTreeMap::new();
    for snapshot in view.snapshots {
        let key = (snapshot.node.boot_id.to_string(), snapshot.host().and_then(|host| host.ns_id));
        if let Some(other) = seen.insert(key, snapshot.taken_at) {
            let host = &snapshot.node.hostname;
            found.push(format!(
                "two snapshots are of the same node, {host}: of {other} and {}",
                snapshot.taken_at
            ));
        }
    }
}

/// Addresses that more than one node has, or pods of more than one.
fn addresses(view: &View<'_>, found: &mut Vec<String>) {
    if view.snapshots.len() < 2 {
        return;
    }
    let mut owners: BTreeMap<IpAddr, BTreeMap<usize, Place>> = BTreeMap::new();
    let mut identities: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for place in view.places() {
        let namespace = view.namespace(place);
        if let Some(id) = namespace.ns_id {
            identities.insert((place.snapshot, place.namespace), id.0);
        }
        for link in namespace.links.iter().filter(|link| !link.loopback && link.up) {
            // 169.254.1.1 and fe80:: are on many links, and meant to be.
            let own = link.addresses.iter().map(ipnet::IpNet::addr).filter(|ip| !is_link_local(*ip));
            for address in own.filter(|ip| !ip.is_loopback()) {
                owners.entry(address).or_default().entry(place.snapshot).or_insert(place);
            }
        }
    }
    const SHOWN: usize = 5;
    let mut several = Vec::new();
    for (address, places) in owners.iter().filter(|(_, places)| places.len() > 1) {
        // Snapshots of one machine show the same namespace.
        let ids: BTreeSet<Option<u64>> = places
            .values()
            .map(|place| identities.get(&(place.snapshot, place.namespace)).copied())
            .collect();
        let boots: BTreeSet<String> =
            places.keys().map(|at| view.snapshots[*at].node.boot_id.to_string()).collect();
        if boots.len() == 1 && ids.len() == 1 && !ids.contains(&None) {
            continue;
        }
        let names: Vec<String> =
            places.values().map(|place| format!("{} on {}", view.label(*place), view.node(*place))).collect();
        several.push(format!("{address} is on both nodes: {}", names.join(", ")));
    }
    let more = several.len().saturating_sub(SHOWN);
    found.extend(several.into_iter().take(SHOWN));
    if more > 0 {
        found.push(format!("and {more} more addresses are on more than one node"));
    }
}

/// Tunnels on the way of which the two ends differ.
fn tunnels(view: &View<'_>, there: &Way, back: Option<&Way>, found: &mut Vec<String>) {
    let ways = std::iter::once(there).chain(back);
    let hops = ways.flat_map(|way| &way.hops).filter(|hop| hop.step == Step::Encapsulated);
    let mut seen: BTreeSet<(Place, IfIndex)> = BTreeSet::new();
    for hop in hops {
        let Some(index) = hop.index.filter(|index| seen.insert((hop.place, *index))) else { continue };
        let Some(link) = view.link(hop.place, index) else { continue };
        for (there, far) in beside(view, hop.place) {
            let (Some(own), Some(other)) = (link.vxlan, far.vxlan) else { continue };
            if own.id == other.id && own.port != other.port {
                found.push(format!(
                    "VXLAN network {} is udp/{} on {} and udp/{} on {}",
                    own.id,
                    own.port,
                    view.node(hop.place),
                    other.port,
                    view.node(there)
                ));
            }
            if own.port == other.port && own.id != other.id && link.name == far.name {
                found.push(format!(
                    "{} is VXLAN network {} on {} and {} on {}",
                    link.name,
                    own.id,
                    view.node(hop.place),
                    other.id,
                    view.node(there)
                ));
            }
        }
    }
}

/// VXLAN devices of other nodes.
fn beside<'a>(view: &View<'a>, at: Place) -> Vec<(Place, &'a Link)> {
    let others = view.places().filter(|place| place.snapshot != at.snapshot && view.namespace(*place).host);
    others
        .flat_map(|place| view.namespace(place).links.iter().map(move |link| (place, link)))
        .filter(|(_, link)| link.vxlan.is_some())
        .collect()
}
