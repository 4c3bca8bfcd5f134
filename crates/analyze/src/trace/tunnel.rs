//! VXLAN: which node a frame is sent to, and who takes it out there.

use std::net::IpAddr;

use model::{Link, MacAddr};

use super::packet::{Frame, Inner, Packet, Protocol};
use super::view::{Place, View};
use super::walk::{Next, Step, Walk, ends, ends_with};
use super::{Fact, Outcome, unknown};

/// The entry that stands for whoever is not known.
const ANYBODY: MacAddr = MacAddr([0; 6]);

/// Where a VXLAN device sends frames of which it is not known who has their destination.
pub(super) fn flooded(view: &View<'_>, at: Place, link: &Link) -> Vec<IpAddr> {
    let mut remotes = entries(view, at, link, ANYBODY);
    if let Some(group) = link.vxlan.and_then(|vxlan| vxlan.group)
        && !remotes.contains(&group)
    {
        remotes.push(group);
    }
    remotes
}

fn entries(view: &View<'_>, at: Place, link: &Link, mac: MacAddr) -> Vec<IpAddr> {
    let fdb = view.stack(at).into_iter().flat_map(|stack| &stack.fdb);
    let own = fdb.filter(|entry| entry.device == link.index && entry.mac == mac);
    own.filter_map(|entry| entry.remote).collect()
}

/// The VXLAN device of the same network that has a remote address.
pub(super) fn far_end<'a>(
    view: &View<'a>,
    at: Place,
    link: &Link,
    remote: IpAddr,
) -> Option<(Place, &'a Link)> {
    let own = link.vxlan?;
    view.places().filter(|there| *there != at && view.has(*there, remote).is_some()).find_map(|there| {
        let links = &view.namespace(there).links;
        let far = links.iter().find(|link| {
            link.up && link.vxlan.is_some_and(|vxlan| (vxlan.id, vxlan.port) == (own.id, own.port))
        });
        far.map(|far| (there, far))
    })
}

/// Puts a frame into a packet for the node that has its receiver.
pub(super) fn encapsulate<'a>(
    walk: &mut Walk<'_, 'a>,
    at: Place,
    link: &'a Link,
    frame: Frame,
    packet: Packet,
) -> Step<'a> {
    let Some(vxlan) = link.vxlan else { return ends(format!("{} says nothing of its network", link.name)) };
    let name = &link.name;
    let listed = frame.to.map(|mac| entries(walk.view, at, link, mac)).unwrap_or_default();
    let to = frame.to.map_or_else(|| "the receiver".to_owned(), |mac| mac.to_string());
    let remote = match listed.as_slice() {
        [remote, rest @ ..] => {
            if !rest.is_empty() {
                walk.doubt(format!("{to} has several places in the forwarding database of {name}"));
            }
            walk.fact("fdb", format!("{to} dst {remote}"));
            *remote
        }
        [] => {
            let all = flooded(walk.view, at, link);
            let has_it = |remote: &&IpAddr| {
                let far = far_end(walk.view, at, link, **remote);
                far.is_some_and(|(there, end)| is_behind(walk.view, there, end, frame.to))
            };
            match (all.iter().find(has_it), all.as_slice()) {
                (Some(remote), _) => {
                    walk.fact("fdb", format!("{to} is not known, so it goes to all; {remote} has it"));
                    *remote
                }
                (None, []) => {
                    let why = format!("{name} does not know which node has {to}, and whom to ask");
                    return ends_with(why, format!("bridge fdb append {to} dev {name} dst NODE"));
                }
                (None, [remote, ..]) => {
                    if remote.is_multicast() {
                        let why =
                            format!("{name} sends it to the multicast group {remote}, which is not followed");
                        return Err(Box::new(Outcome::Leaves { why }));
                    }
                    walk.doubt(format!(
                        "which node has {to}, {name} does not know: {remote} is followed here"
                    ));
                    walk.fact("fdb", format!("{to} is not known, so it goes to all: {remote}"));
                    *remote
                }
            }
        }
    };
    let header = if remote.is_ipv4() { 50 } else { 70 };
    walk.fact("vxlan", format!("network {} to {remote} udp/{}, {header} bytes", vxlan.id, vxlan.port));
    walk.last_is(super::Step::Encapsulated);
    let mut outer = Packet::new(remote, Protocol::Udp, Some(vxlan.port));
    outer.source = vxlan.local;
    outer.device = vxlan.lower;
    outer.inner = Some(Box::new(Inner { packet, frame, id: vxlan.id }));
    Ok(Next::Send { at, packet: outer })
}

fn is_behind(view: &View<'_>, at: Place, link: &Link, mac: Option<MacAddr>) -> bool {
    let Some(mac) = mac else { return false };
    if link.mac == Some(mac) {
        return true;
    }
    let Some(bridge) = link.master.and_then(|master| view.link(at, master)) else { return false };
    let behind = super::segment::behind(view, at, bridge);
    bridge.mac == Some(mac) || behind.ends.iter().any(|(_, end)| end.mac == Some(mac))
}

/// Takes a frame out of a packet that has come to its node.
pub(super) fn decapsulate<'a>(walk: &mut Walk<'_, 'a>, at: Place, outer: Packet, inner: Inner) -> Step<'a> {
    let port = outer.port.unwrap_or_default();
    let links = walk.view.namespace(at).links.iter();
    let devices: Vec<&Link> = links.filter(|link| link.vxlan.is_some()).collect();
    let fits = |link: &&&Link| link.vxlan.is_some_and(|vxlan| vxlan.id == inner.id && vxlan.port == port);
    let Some(link) = devices.iter().find(fits).copied() else {
        let there: Vec<String> = devices
            .iter()
            .filter_map(|link| {
                link.vxlan.map(|v| format!("{} has network {} on udp/{}", link.name, v.id, v.port))
            })
            .collect();
        let there = if there.is_empty() { "there is no VXLAN device".to_owned() } else { there.join(", ") };
        let why =
            format!("{} takes no VXLAN network {} on udp/{port}: {there}", walk.view.label(at), inner.id);
        return ends(why);
    };
    walk.hop(super::Step::Decapsulated, at, link, &inner.packet);
    walk.push(Fact { about: "vxlan", text: format!("network {} udp/{port}", inner.id), usual: true });
    walk.usable(at, link)?;
    unknown::programs(walk, at, link, true);
    walk.enter(at, link, inner.frame, inner.packet)
}
