//! How large packets may be, along every way that a pod's packets take.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::{IfIndex, Link};

use super::addresses::count;
use super::ground::listed;
use super::{Check, Findings, Ground, Pod, Severity};

/// An Ethernet header, VXLAN's and UDP's of 8 bytes each, and an IP header.
const VXLAN_OVER_IPV4: u32 = 14 + 8 + 8 + 20;
const VXLAN_OVER_IPV6: u32 = 14 + 8 + 8 + 40;

const VETH: &str = "https://man7.org/linux/man-pages/man4/veth.4.html";
const VXLAN: &str = "https://datatracker.ietf.org/doc/html/rfc7348#section-4.3";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "veth-mtu",
        title: "both ends of a veth have the same MTU",
        severity: Severity::Error,
        why: "A veth drops without a word what is larger than the MTU of the end that receives it. Nobody is told by ICMP, so nobody's path MTU discovery learns of it: small packets pass, large ones vanish, and connections hang with the first long answer.",
        see: "ip link show dev VETH; nsenter --net=NAMESPACE ip link; the receiving end's rx_dropped counts",
        fix: "ip link set VETH mtu N at the smaller end, or restart the pod after the network's mtu was set",
        source: VETH,
        run: veth_mtu,
    },
    Check {
        id: "bridge-mtu",
        title: "ports of a bridge take what pods behind it send",
        severity: Severity::Warning,
        why: "A bridge does not fragment and answers no ICMP: a frame that is larger than the MTU of the port by which it has to leave is dropped. TCP between two pods gets by, since each side tells the largest segment that it takes; UDP does not, and where the port is a tunnel or the uplink, nothing larger leaves the node. That is a black hole for path MTU discovery.",
        see: "ip link show master BRIDGE",
        fix: "give all pods of the bridge the smallest of these MTUs: mtu of the bridge plugin, for new pods; ip link set eth0 mtu N in those that are there",
        source: "https://docs.kernel.org/networking/bridge.html",
        run: bridge_mtu,
    },
    Check {
        id: "pod-mtu",
        title: "pods' MTUs fit the ways that their packets take",
        severity: Severity::Warning,
        why: "A pod's packets leave the node by its uplink or by a tunnel, which takes 50 bytes of each (VXLAN over IPv4; 70 over IPv6). What is larger is refused with an ICMP message, on which TCP makes its segments smaller; whoever does not get or heed that message hangs with the first long transfer. Pods should have the smallest MTU of these ways.",
        see: "nsenter --net=NAMESPACE ip link; ip route get DESTINATION; ping -M do -s SIZE",
        fix: "set the network's mtu (`mtu` of the bridge plugin and ptp, `mtu` of Docker's daemon.json and networks, the CNI's own setting), and restart the pods",
        source: "https://datatracker.ietf.org/doc/html/rfc2923",
        run: pod_mtu,
    },
    Check {
        id: "vxlan-mtu",
        title: "tunnels leave room for their own headers",
        severity: Severity::Error,
        why: "A VXLAN device puts 50 bytes in front of each frame (IPv6: 70), which have to fit the MTU of the way to the peer. The kernel compares the two when the device's MTU is set, and never again: it does not follow when the lower interface's shrinks later, and without a lower interface it takes any.",
        see: "ip -d link show dev VXLAN; ip route get PEER",
        fix: "ip link set VXLAN mtu N, where N is the way's MTU less 50 (IPv6: 70); then the pods' MTUs as well",
        source: VXLAN,
        run: vxlan_mtu,
    },
];

fn veth_mtu(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    // Also the node's uplink may be a veth, in a node that is itself a container.
    for outside in ground.links().filter(|link| link.kind == "veth") {
        let Some((namespace, inside)) = ground.snapshot.peer(outside) else { continue };
        if inside.mtu_bytes == outside.mtu_bytes || (namespace.host && inside.index < outside.index) {
            continue;
        }
        let own = ground.pods.iter().find(|pod| std::ptr::eq(pod.namespace, namespace));
        let other = own.map_or_else(|| namespace.label(), |pod| pod.label.clone());
        let least = inside.mtu_bytes.min(outside.mtu_bytes);
        let (smaller, of) =
            if outside.mtu_bytes == least { (outside, "on the node") } else { (inside, "in there") };
        findings.add(
            outside.name.clone(),
            format!(
                "has MTU {}, and {} of {other} at its other end {}: larger packets than {least} vanish",
                outside.mtu_bytes, inside.name, inside.mtu_bytes
            ),
            format!("ip link set {} mtu {} ({of})", smaller.name, inside.mtu_bytes.max(outside.mtu_bytes)),
        );
    }
}

fn bridge_mtu(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    for bridge in ground.pod_bridges() {
        let wires: Vec<_> = ground
            .wires()
            .filter(|(_, wire)| wire.bridge.is_some_and(|own| own.index == bridge.index))
            .collect();
        let ports = ground.ports(bridge).filter(|port| port.up);
        let Some(narrow) = ports.min_by_key(|port| port.mtu_bytes) else { continue };
        let above = wires.iter().filter(|(_, wire)| {
            wire.outside.index != narrow.index && wire.inside.mtu_bytes > narrow.mtu_bytes
        });
        let above: Vec<&str> = above.map(|(pod, _)| pod.label.as_str()).collect();
        if above.is_empty() {
            continue;
        }
        let behind = wires.iter().find(|(_, wire)| wire.outside.index == narrow.index);
        let (severity, whose) = match behind {
            Some((pod, _)) => (Severity::Warning, format!("{}, the port of {},", narrow.name, pod.label)),
            None => (Severity::Error, format!("its port {}", narrow.name)),
        };
        findings.add_as(
            severity,
            bridge.name.clone(),
            format!(
                "{whose} takes {} bytes, and pods behind it send more: {}",
                narrow.mtu_bytes,
                listed(&above)
            ),
            format!("give all of them MTU {}", narrow.mtu_bytes),
        );
    }
}

/// What takes less than pods send, and how its MTU comes about.
pub(super) struct Exit {
    device: IfIndex,
    pub(super) mtu_bytes: u32,
    pub(super) words: String,
}

/// The MTU that a route sets, or its interface's.
fn mtu_of(route: &model::Route, device: &Link) -> (u32, String) {
    match route.mtu_bytes {
        Some(mtu) if mtu < device.mtu_bytes => {
            (mtu, format!("{} by the route {}", device.name, route.destination))
        }
        _ => (device.mtu_bytes, device.name.clone()),
    }
}

/// The ways out of the node: its default route, and its tunnels to other nodes; of both families, or of one.
pub(super) fn exits(ground: &Ground<'_>, v6: Option<bool>) -> Vec<Exit> {
    let mut exits: Vec<Exit> = Vec::new();
    let routes =
        ground.snapshot.stack.routes.iter().filter(|route| route.table == 254 && route.kind.is_unicast());
    for route in routes.filter(|route| v6.is_none_or(|v6| route.destination.addr().is_ipv6() == v6)) {
        let Some(device) = route.device.and_then(|device| ground.link(device)) else { continue };
        let is_tunnel = device.kind == "vxlan";
        if !(is_tunnel && route.gateway.is_some() || route.destination.prefix_len() == 0) {
            continue;
        }
        let (mtu_bytes, name) = mtu_of(route, device);
        let words = match lower_of(ground, device) {
            Some((lower, headers)) if lower.mtu_bytes - headers.min(lower.mtu_bytes) == mtu_bytes => {
                format!(
                    "the way by {name} takes {mtu_bytes} ({} {} - {headers})",
                    lower.name, lower.mtu_bytes
                )
            }
            _ => format!("the way by {name} takes {mtu_bytes}"),
        };
        if !exits.iter().any(|exit| exit.device == device.index && exit.mtu_bytes == mtu_bytes) {
            exits.push(Exit { device: device.index, mtu_bytes, words });
        }
    }
    exits
}

/// The interface that a tunnel goes through, and how many bytes it puts in front.
fn lower_of<'a>(ground: &Ground<'a>, device: &Link) -> Option<(&'a Link, u32)> {
    let vxlan = device.vxlan.as_ref()?;
    let lower = vxlan.lower.and_then(|lower| ground.link(lower)).or_else(|| {
        let local = vxlan.local?;
        ground.links().find(|link| link.addresses.iter().any(|net| net.addr() == local))
    })?;
    let is_v6 = vxlan.local.or(vxlan.group).is_some_and(|address| address.is_ipv6());
    Some((lower, if is_v6 { VXLAN_OVER_IPV6 } else { VXLAN_OVER_IPV4 }))
}

/// The largest packet that a pod sends by its default route.
pub(super) fn sends(pod: &Pod<'_>) -> Option<u32> {
    let wire = pod.wires.iter().max_by_key(|wire| wire.inside.mtu_bytes)?;
    let stack = pod.stack?;
    let defaults = stack.routes.iter().filter(|route| route.destination.prefix_len() == 0);
    let mut by_wires = defaults.filter_map(|route| {
        let wire = pod.wires.iter().find(|wire| Some(wire.inside.index) == route.device)?;
        Some(route.mtu_bytes.unwrap_or(u32::MAX).min(wire.inside.mtu_bytes))
    });
    let first = by_wires.next();
    first
        .map(|first| by_wires.fold(first, u32::max))
        .or(stack.routes.is_empty().then_some(wire.inside.mtu_bytes))
}

fn pod_mtu(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    if ground.stack(findings).is_none() {
        return;
    }
    for exit in exits(ground, None) {
        let mut above: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for pod in &ground.pods {
            if ground.stack_of(pod, findings).is_none() {
                continue;
            }
            // Where a bridge of theirs has that way as a port, it is that check's.
            if let Some(mtu) = sends(pod).filter(|mtu| *mtu > exit.mtu_bytes) {
                above.entry(mtu).or_default().push(&pod.label);
            }
        }
        for (mtu, pods) in above.into_iter().rev() {
            findings.add(
                ground.name(exit.device),
                format!("{}, and {} MTU {mtu}: {}", exit.words, has(pods.len()), listed(&pods)),
                format!("give these pods MTU {}", exit.mtu_bytes),
            );
        }
    }
}

fn has(pods: usize) -> String {
    format!("{} {}", count(pods, "pod", "pods"), if pods == 1 { "has" } else { "have" })
}

/// Where a tunnel sends frames to.
pub(super) fn remotes(ground: &Ground<'_>, tunnel: &Link) -> Vec<IpAddr> {
    let entries = ground.snapshot.stack.fdb.iter().filter(|entry| entry.device == tunnel.index);
    let mut remotes: Vec<IpAddr> = entries.filter_map(|entry| entry.remote).collect();
    remotes.extend(tunnel.vxlan.as_ref().and_then(|vxlan| vxlan.group));
    remotes.retain(|remote| !remote.is_unspecified());
    remotes.sort_unstable();
    remotes.dedup();
    remotes
}

fn vxlan_mtu(ground: &Ground<'_>, findings: &mut Findings) {
    if ground.stack(findings).is_none() {
        return;
    }
    for tunnel in ground.links().filter(|link| link.vxlan.is_some() && link.up) {
        // The narrowest of the ways to its peers.
        let mut least: Option<(u32, u32, String)> = None;
        for remote in remotes(ground, tunnel) {
            let headers = if remote.is_ipv6() { VXLAN_OVER_IPV6 } else { VXLAN_OVER_IPV4 };
            let super::lookup::Way::Route(route) = ground.way(remote) else { continue };
            let Some(device) = route.device.and_then(|device| ground.link(device)) else { continue };
            let (mtu, name) = mtu_of(route, device);
            let room = mtu.saturating_sub(headers);
            if least.as_ref().is_none_or(|(least, ..)| room < *least) {
                least = Some((room, headers, format!("the way to {remote} by {name} takes {mtu}")));
            }
        }
        if let Some((room, headers, words)) = least.filter(|(room, ..)| tunnel.mtu_bytes > *room) {
            let mtu = room + headers;
            findings.add(
                tunnel.name.clone(),
                format!("has MTU {}, and {words}: {mtu} - {headers} = {room} would fit", tunnel.mtu_bytes),
                format!("ip link set {} mtu {room}, and the same for the pods", tunnel.name),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{IfIndex, Snapshot};

    use super::super::testing::*;

    #[test]
    fn ends_of_a_veth_that_disagree_are_found() {
        only(&["veth-mtu"], |s| eth0(s, RED).mtu_bytes = 1400);
        assert!(is_blind("veth-mtu", |s| pods(s, RED).readable = false));
    }

    #[test]
    fn a_narrow_port_is_worse_if_it_leads_away() {
        let narrow = |s: &mut Snapshot| {
            of_host(s, RED).mtu_bytes = 1300;
            eth0(s, RED).mtu_bytes = 1300;
        };
        only(&["bridge-mtu"], narrow);
        let text = diagnosis("bridge-mtu", narrow).findings[0].found.clone();
        assert!(text.contains("1300 bytes"), "{text}");
        let uplink = |s: &mut Snapshot| {
            of_host(s, UPLINK).master = Some(IfIndex(3));
            of_host(s, UPLINK).mtu_bytes = 1300;
        };
        assert_eq!(diagnosis("bridge-mtu", uplink).findings[0].severity, super::Severity::Error);
        assert!(is_blind("bridge-mtu", |s| pods(s, RED).readable = false));
    }

    #[test]
    fn the_bytes_that_a_tunnel_takes_are_shown() {
        let full = |s: &mut Snapshot| {
            for at in [RED, BLUE, GREEN] {
                of_host(s, at).mtu_bytes = 1500;
                eth0(s, at).mtu_bytes = 1500;
            }
        };
        only(&["pod-mtu"], full);
        let text = diagnosis("pod-mtu", full).findings[0].found.clone();
        assert!(
            text.starts_with("the way by vxlan1 takes 1450 (eth0 1500 - 50), and 3 pods have MTU 1500: "),
            "{text}"
        );
        // Routes may say less than the interface.
        let by_route = |s: &mut Snapshot| {
            full(s);
            for at in [RED, BLUE, GREEN] {
                stack_of(s, at).routes[0].mtu_bytes = Some(1450);
            }
        };
        assert_eq!(found("pod-mtu", by_route), [""; 0]);
        let narrow_route = |s: &mut Snapshot| s.stack.routes[0].mtu_bytes = Some(1400);
        assert_eq!(found("pod-mtu", narrow_route), ["eth0"]);
        assert!(is_blind("pod-mtu", |s| pods(s, RED).stack = None));
    }

    #[test]
    fn a_tunnel_needs_room_for_its_headers() {
        let narrow = |s: &mut Snapshot| of_host(s, UPLINK).mtu_bytes = 1450;
        let text = diagnosis("vxlan-mtu", narrow).findings[0].found.clone();
        assert_eq!(
            text,
            "has MTU 1450, and the way to 192.0.2.11 by eth0 takes 1450: 1450 - 50 = 1400 would fit"
        );
        only(&["vxlan-mtu"], narrow);
        let v6 = |s: &mut Snapshot| {
            s.stack.fdb[0].remote = Some(ip("2001:db8::2"));
            s.stack.routes.push(route("2001:db8::/64", None, 2));
        };
        let text = diagnosis("vxlan-mtu", v6).findings[0].found.clone();
        assert!(text.ends_with("1500 - 70 = 1430 would fit"), "{text}");
        assert!(is_blind("vxlan-mtu", |s| s.stack.sysctls.clear()));
    }
}
