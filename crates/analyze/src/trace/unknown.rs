//! What decides about a packet and is not computed: programs at interfaces, and IPVS.

use std::net::SocketAddr;

use model::{Link, Served};

use super::packet::{Packet, Protocol};
use super::view::Place;
use super::walk::Walk;
use crate::traffic;

/// What sees the packet at an interface, and may drop it, change it or send it elsewhere.
pub(super) fn programs(walk: &mut Walk<'_, '_>, at: Place, link: &Link, ingress: bool) {
    let Some(stack) = walk.view.stack(at) else { return };
    let label = walk.view.label(at);
    let Some(seers) = traffic::seers(walk.view.namespace(at), stack) else {
        return walk.doubt(format!("which programs are at interfaces of {label} is not known"));
    };
    let here = seers.into_iter().filter(|seer| seer.link.index == link.index && seer.ingress == ingress);
    let what: Vec<String> = here.map(|seer| seer.what).collect();
    if !what.is_empty() {
        let of = if ingress { "comes in" } else { "leaves" };
        let (name, what) = (&link.name, what.join(", "));
        walk.doubt(format!("what {what} does with what {of} by {name} of {label} is not computed"));
    }
}

/// The same for what came from another node: the interface that has the address may be on others, of which nobody shows which it came by.
pub(super) fn programs_below(walk: &mut Walk<'_, '_>, at: Place, link: &Link) {
    let is_below = |other: &&Link| {
        other.kind != "veth" && other.master == Some(link.index)
            || link.lower.is_some_and(|lower| lower.nsid.is_none() && lower.index == other.index)
    };
    let namespace = walk.view.namespace(at);
    for below in namespace.links.iter().filter(is_below) {
        programs(walk, at, below, true);
    }
}

/// What is for a service of IPVS does not stay where it arrived.
pub(super) fn virtual_service(walk: &mut Walk<'_, '_>, at: Place, packet: &Packet) {
    let is_for = |wanted: SocketAddr, protocol| {
        let is_port = wanted.port() == 0 || packet.port == Some(wanted.port());
        packet.protocol == protocol && packet.destination == wanted.ip() && is_port
    };
    let services = walk.view.stack(at).into_iter().flat_map(|stack| &stack.virtual_services);
    let found = services.into_iter().find(|service| match service.of {
        Served::Tcp(wanted) => is_for(wanted, Protocol::Tcp),
        Served::Udp(wanted) => is_for(wanted, Protocol::Udp),
        Served::Sctp(_) => false,
        Served::Mark(mark) => packet.mark == mark,
    });
    let Some(service) = found else { return };
    let label = walk.view.label(at);
    const SHOWN: usize = 5;
    let mut servers: Vec<String> = service.servers.iter().take(SHOWN).map(ToString::to_string).collect();
    match service.servers.len() {
        0 => return walk.doubt(format!("IPVS of {label} has no server for it")),
        count if count > SHOWN => servers.push(format!("{} more", count - SHOWN)),
        _ => {}
    }
    walk.doubt(format!("IPVS of {label} leads it on, to one of {}: trace one of those", servers.join(", ")));
}
