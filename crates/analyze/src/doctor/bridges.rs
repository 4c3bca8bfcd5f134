//! Bridges, and the veths that pods are connected by.

use model::{FdbEntry, Nsid};

use super::addresses::{count, of_hazards};
use super::ground::{global, listed};
use super::{Check, Findings, Ground, Severity, Wire};

/// `BR_MAX_PORTS`.
const MOST_PORTS: usize = 1024;
/// From here on it is told.
const MANY_PORTS: usize = 950;
/// Spanning tree: neither learning nor forwarding.
const STP_FORWARDING: u8 = 3;

const BRIDGE: &str = "https://docs.kernel.org/networking/bridge.html";
const BRIDGE_8: &str = "https://man7.org/linux/man-pages/man8/bridge.8.html";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "bridge-down",
        title: "bridges with pods are up",
        severity: Severity::Error,
        why: "A bridge that is down forwards nothing: its pods reach neither the node nor each other.",
        see: "ip link show dev BRIDGE",
        fix: "ip link set BRIDGE up; find out who took it down (NetworkManager and systemd-networkd manage bridges that they were not told to leave alone)",
        source: BRIDGE,
        run: bridge_down,
    },
    Check {
        id: "bridge-address",
        title: "bridges that pods have their default route to have an address",
        severity: Severity::Error,
        why: "Pods on the bridge have a default route, nobody but pods is behind the bridge, and the bridge has no address: their gateway is gone, and the node has no route to them. The bridge plugin gives the address with the next ADD only.",
        see: "ip addr show dev BRIDGE",
        fix: "ip addr add GATEWAY/PREFIX dev BRIDGE, and find out who removed it",
        source: "https://www.cni.dev/plugins/current/main/bridge/",
        run: bridge_address,
    },
    Check {
        id: "bridge-full",
        title: "bridges have room for more ports",
        severity: Severity::Warning,
        why: "A bridge has at most 1,024 ports (BR_MAX_PORTS). The ADD of one more pod fails with `exchange full`.",
        see: "ls /sys/class/net/BRIDGE/brif | wc -l",
        fix: "run fewer pods on the node, or a second network with a bridge of its own; podplumb leaks shows ports that nobody uses",
        source: "https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/net/bridge/br_private.h",
        run: bridge_full,
    },
    Check {
        id: "veth-down",
        title: "both ends of pods' veths are up",
        severity: Severity::Error,
        why: "A veth carries packets only while both ends are up. One that somebody set down, on the node or in the pod, cuts the pod off.",
        see: "ip link show dev VETH; nsenter --net=NAMESPACE ip link",
        fix: "ip link set VETH up, on the node or in the pod",
        source: "https://man7.org/linux/man-pages/man4/veth.4.html",
        run: veth_down,
    },
    Check {
        id: "wrong-bridge",
        title: "pods are on the bridge whose subnet their address is of",
        severity: Severity::Error,
        why: "The pod's address is of one bridge's subnet, and its veth is a port of another one, or of none: it asks for its gateway where that is not. Somebody removed the bridge and made it again (its ports are then nobody's), or moved the port.",
        see: "bridge link; ip addr show dev BRIDGE",
        fix: "ip link set VETH master BRIDGE",
        source: BRIDGE_8,
        run: wrong_bridge,
    },
    Check {
        id: "port-blocked",
        title: "pods' ports of bridges forward",
        severity: Severity::Warning,
        why: "The spanning tree holds a port back that is not forwarding: for twice the forward delay (30 s, unless changed) after it came up, or for good where it sees a loop. A pod behind it has no network meanwhile.",
        see: "bridge -d link show dev VETH",
        fix: "switch spanning tree off where only pods are behind the bridge: ip link set BRIDGE type bridge stp_state 0",
        source: BRIDGE,
        run: port_blocked,
    },
    Check {
        id: "port-isolated",
        title: "pods on a bridge reach each other",
        severity: Severity::Notice,
        why: "Ports that are isolated exchange frames with ports that are not, and not with each other. The bridge plugin sets that where the network's configuration says portIsolation; else somebody did by hand.",
        see: "bridge -d link show dev VETH",
        fix: "bridge link set dev VETH isolated off, if it is not wanted",
        source: BRIDGE_8,
        run: port_isolated,
    },
    Check {
        id: "hairpin",
        title: "ports of one bridge are alike in hairpin mode",
        severity: Severity::Warning,
        why: "A pod that connects to a service of which it is itself the chosen backend gets its own packet back: the bridge has to send the frame out of the port that it came in by, which it does in hairpin mode only (or when the bridge itself is promiscuous). Here some ports of a bridge have it, and others do not: pods behind these cannot reach themselves by a service, or by a published port.",
        see: "bridge -d link show dev VETH",
        fix: "bridge link set dev VETH hairpin on; hairpinMode of the bridge plugin sets it for new pods",
        source: "https://kubernetes.io/docs/tasks/debug/debug-application/debug-service/#a-pod-fails-to-reach-itself-via-the-service-ip",
        run: hairpin,
    },
    Check {
        id: "stale-station",
        title: "static forwarding entries lead to somebody",
        severity: Severity::Notice,
        why: "A bridge's forwarding database has a static entry for a port behind which no interface has that MAC: frames to it go nowhere, and if a pod on another port gets the MAC, they still do.",
        see: "bridge fdb show br BRIDGE",
        fix: "bridge fdb del MAC dev PORT master, once you know who made it",
        source: BRIDGE_8,
        run: stale_station,
    },
    Check {
        id: "station-elsewhere",
        title: "static forwarding entries lead to where the pod is",
        severity: Severity::Error,
        why: "A bridge's forwarding database has a static entry for a pod's MAC at another port than the pod's. A static entry is never learned anew: frames to the pod go to somebody else, while what the pod sends still arrives.",
        see: "bridge fdb show br BRIDGE | grep MAC; podplumb who MAC",
        fix: "bridge fdb del MAC dev PORT master",
        source: BRIDGE_8,
        run: station_elsewhere,
    },
    Check {
        id: "dying-peer",
        title: "no veth leads into a namespace that is going away",
        severity: Severity::Notice,
        why: "The kernel numbers the namespace of the veth's other end -1: it has no user any more, and the kernel is taking it down, the veth with it. That takes milliseconds; a veth that stays so for minutes belongs to a kernel thread that hangs.",
        see: "ip link show dev VETH (link-netnsid -1); look again a second later",
        fix: "nothing, the kernel removes it; if it stays, look for hung tasks in dmesg",
        source: "https://man7.org/linux/man-pages/man7/network_namespaces.7.html",
        run: dying_peer,
    },
    Check {
        id: "stale-neighbour",
        title: "permanent neighbours are there",
        severity: Severity::Notice,
        why: "The node has a permanent neighbour on a bridge or veth with nothing but pods behind it, and no interface has that MAC: packets to the address go nowhere, since nobody asks for it by ARP any more.",
        see: "ip neigh show nud permanent",
        fix: "ip neigh del ADDRESS dev DEVICE, once you know who made it",
        source: "https://man7.org/linux/man-pages/man8/ip-neighbour.8.html",
        run: stale_neighbour,
    },
];

/// The other bridge of the host whose subnet the wire's address is of, while its own is not.
pub(super) fn home<'a>(ground: &Ground<'a>, wire: Wire<'a>) -> Option<&'a model::Link> {
    let has = |bridge: &model::Link, address| {
        global(bridge).any(|net| net.prefix_len() < net.max_prefix_len() && net.contains(&address))
    };
    let address = global(wire.inside).next()?.addr();
    // A routed pod: the host's end has the gateway, or a route leads there.
    let is_routed = wire.bridge.is_none() && ground.way(address).devices().contains(&wire.outside.index);
    if is_routed || wire.bridge.is_some_and(|bridge| has(bridge, address)) {
        return None;
    }
    ground.links().find(|link| link.kind == "bridge" && has(link, address))
}

fn bridge_down(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    for bridge in ground.pod_bridges().into_iter().filter(|bridge| !bridge.up) {
        let pods =
            ground.wires().filter(|(_, wire)| wire.bridge.is_some_and(|own| own.index == bridge.index));
        findings.add(
            bridge.name.clone(),
            format!("is down, and {} behind it", count(pods.count(), "pod is", "pods are")),
            format!("ip link set {} up", bridge.name),
        );
    }
}

fn bridge_address(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    for bridge in ground.pod_bridges() {
        for v6 in [false, true] {
            if global(bridge).any(|net| net.addr().is_ipv6() == v6) || !ground.is_closed(bridge) {
                continue;
            }
            let behind: Vec<_> = ground
                .wires()
                .filter(|(_, wire)| wire.bridge.is_some_and(|own| own.index == bridge.index))
                .collect();
            let has = |address| {
                behind.iter().any(|(_, wire)| wire.inside.addresses.iter().any(|net| net.addr() == address))
            };
            let mut lost = Vec::new();
            for (pod, wire) in &behind {
                ground.stack_of(pod, findings);
                // The kernel answers for link-local ones by itself.
                let own = pod.gateways().into_iter().filter(|(gateway, device)| {
                    gateway.is_ipv6() == v6
                        && *device == wire.inside.index
                        && !crate::wiring::is_link_local(*gateway)
                });
                lost.extend(own.map(|(gateway, _)| gateway).filter(|gateway| !has(*gateway)));
            }
            if lost.is_empty() || behind.iter().all(|(_, wire)| home(ground, *wire).is_some()) {
                continue;
            }
            let number = lost.len();
            lost.sort_unstable();
            lost.dedup();
            let gateways: Vec<String> = lost.iter().map(ToString::to_string).collect();
            findings.add(
                bridge.name.clone(),
                format!(
                    "has no {} address, and {} behind it have their default route to {}",
                    if v6 { "IPv6" } else { "IPv4" },
                    count(number, "pod", "pods"),
                    gateways.join(", ")
                ),
                format!("ip addr add {}/PREFIX dev {}", gateways[0], bridge.name),
            );
        }
    }
}

fn bridge_full(ground: &Ground<'_>, findings: &mut Findings) {
    for bridge in ground.pod_bridges() {
        let ports = ground.ports(bridge).count();
        let (severity, what) = match ports {
            MOST_PORTS.. => (Severity::Error, "no pod can be added"),
            MANY_PORTS.. => (Severity::Warning, "a bridge has at most 1,024"),
            _ => continue,
        };
        findings.add_as(
            severity,
            bridge.name.clone(),
            format!("has {ports} ports: {what}"),
            "podplumb leaks shows ports that nobody uses; else run fewer pods here, or a second bridge",
        );
    }
    ground.tell_unreadable(findings);
}

fn veth_down(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    for (pod, wire) in ground.wires().filter(|(pod, _)| !pod.is_moving) {
        let Wire { outside, inside, .. } = wire;
        if !outside.up {
            findings.add(
                outside.name.clone(),
                format!("is down: {} of {} has no network", inside.name, pod.label),
                format!("ip link set {} up", outside.name),
            );
        } else if !inside.up {
            findings.add(
                pod.label.clone(),
                format!("its {} is down ({} on the node is up)", inside.name, outside.name),
                format!("ip link set {} up, in the pod's network namespace", inside.name),
            );
        }
    }
}

fn wrong_bridge(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    for (pod, wire) in ground.wires().filter(|(pod, _)| !pod.is_moving) {
        let Some(home) = home(ground, wire) else { continue };
        let address = global(wire.inside).next().map(ToString::to_string).unwrap_or_default();
        let on = match wire.bridge {
            Some(bridge) => format!("is a port of {}", bridge.name),
            None => "is a port of no bridge".to_owned(),
        };
        findings.add(
            wire.outside.name.clone(),
            format!("{on}, and {address} of {} is of {}'s subnet", pod.label, home.name),
            format!("ip link set {} master {}", wire.outside.name, home.name),
        );
    }
}

fn port_blocked(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    for (pod, wire) in ground.wires() {
        let (Some(bridge), Some(port)) = (wire.bridge, wire.outside.port) else { continue };
        // Without a carrier, or with a bridge that is down, it is disabled: that is told by itself, and that of a new one goes away by
        // itself.
        let could = bridge.up && wire.outside.up && wire.outside.carrier && !wire.outside.settling;
        if could && port.state != STP_FORWARDING {
            let state = ["disabled", "listening", "learning", "forwarding", "blocking"];
            let state = state.get(usize::from(port.state)).copied().unwrap_or("in a state that is not known");
            findings.add(
                wire.outside.name.clone(),
                format!("the port of {} on {} is {state}", pod.label, bridge.name),
                match bridge.bridge {
                    Some(own) if !own.stp => format!("bridge link set dev {} state 3", wire.outside.name),
                    _ => {
                        format!("wait half a minute, or ip link set {} type bridge stp_state 0", bridge.name)
                    }
                },
            );
        }
    }
}

/// The ports of pods on each bridge, apart by a setting: those that have it, and those that do not.
fn ports_by<'a>(
    ground: &Ground<'a>,
    has: impl Fn(&model::BridgePort) -> bool,
) -> Vec<(&'a model::Link, Vec<Wire<'a>>, Vec<Wire<'a>>)> {
    let of = |bridge: &'a model::Link| {
        let wires = ground.wires().map(|(_, wire)| wire);
        let own = wires.filter(|wire| {
            wire.bridge.is_some_and(|own| own.index == bridge.index) && wire.outside.port.is_some()
        });
        let (with, without) = own.partition(|wire| wire.outside.port.as_ref().is_some_and(&has));
        (bridge, with, without)
    };
    ground.pod_bridges().into_iter().map(of).collect()
}

fn names(wires: &[Wire<'_>]) -> String {
    listed(&wires.iter().map(|wire| wire.outside.name.as_str()).collect::<Vec<_>>())
}

fn port_isolated(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    for (bridge, isolated, _) in ports_by(ground, |port| port.isolated) {
        if isolated.len() > 1 {
            findings.add(
                bridge.name.clone(),
                format!("{} of its ports are isolated from each other: {}", isolated.len(), names(&isolated)),
                format!("bridge link set dev {} isolated off, if it is not wanted", isolated[0].outside.name),
            );
        }
    }
}

fn hairpin(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    for (bridge, with, without) in ports_by(ground, |port| port.hairpin) {
        if with.is_empty() || without.is_empty() || bridge.promiscuous {
            continue;
        }
        findings.add(
            bridge.name.clone(),
            format!(
                "{} of {} ports are not in hairpin mode: {}",
                without.len(),
                without.len() + with.len(),
                names(&without)
            ),
            format!("bridge link set dev {} hairpin on", without[0].outside.name),
        );
    }
}

fn stale_station(ground: &Ground<'_>, findings: &mut Findings) {
    stale(ground, findings, "stale-station");
}

fn station_elsewhere(ground: &Ground<'_>, findings: &mut Findings) {
    /// `NUD_NOARP` marks what somebody set, `NUD_PERMANENT` the ports' own addresses.
    const NUD_NOARP: u16 = 0x40;
    const NUD_PERMANENT: u16 = 0x80;
    ground.tell_unreadable(findings);
    let Some(stack) = ground.stack(findings) else { return };
    let is_set = |entry: &&FdbEntry| entry.state & (NUD_NOARP | NUD_PERMANENT) == NUD_NOARP;
    for entry in stack.fdb.iter().filter(is_set) {
        let behind = |wire: &&Wire<'_>| {
            wire.inside.mac == Some(entry.mac)
                && wire.outside.master.is_some()
                && wire.outside.master == entry.master
        };
        let mut wires = ground.pods.iter().flat_map(|pod| pod.wires.iter().map(move |wire| (pod, wire)));
        // With a MAC that two have, the entry may be the other's.
        let mut here = wires.by_ref().filter(|(_, wire)| behind(wire));
        let (Some((pod, wire)), None) = (here.next(), here.next()) else { continue };
        if wire.outside.index != entry.device {
            let port = ground.name(entry.device);
            findings.add(
                pod.label.clone(),
                format!("frames to {} go out of {port}, and it is behind {}", entry.mac, wire.outside.name),
                format!("bridge fdb del {} dev {port} master", entry.mac),
            );
        }
    }
}

fn dying_peer(ground: &Ground<'_>, findings: &mut Findings) {
    for link in ground.links() {
        if link.peer.is_some_and(|peer| peer.nsid == Some(Nsid::NOT_ASSIGNED)) {
            findings.add(
                link.name.clone(),
                "its other end is in a namespace that the kernel is taking down",
                "look again in a moment",
            );
        }
    }
}

fn stale_neighbour(ground: &Ground<'_>, findings: &mut Findings) {
    stale(ground, findings, "stale-neighbour");
}

fn stale(ground: &Ground<'_>, findings: &mut Findings, code: &str) {
    ground.tell_unreadable(findings);
    if ground.stack(findings).is_some() {
        of_hazards(ground, findings, code);
    }
}

#[cfg(test)]
mod tests {
    use model::{BridgePort, FdbEntry, IfIndex, Snapshot};

    use super::super::testing::*;

    fn with_ports(snapshot: &mut Snapshot) {
        for at in [RED, BLUE] {
            of_host(snapshot, at).port = Some(BridgePort { state: 3, hairpin: false, isolated: false });
        }
    }

    #[test]
    fn a_bridge_that_is_down_is_found() {
        only(&["bridge-down"], |s| of_host(s, BRIDGE).up = false);
        assert!(is_blind("bridge-down", |s| pods(s, RED).readable = false));
    }

    #[test]
    fn a_static_entry_that_leads_away_from_a_pod_is_found() {
        let entry = |s: &mut Snapshot, at: usize| {
            let mac = eth0(s, RED).mac.unwrap();
            let device = of_host(s, at).index;
            s.stack.fdb.push(FdbEntry { mac, device, master: Some(IfIndex(3)), remote: None, state: 0x40 });
        };
        only(&["station-elsewhere"], |s| entry(s, BLUE));
        assert_eq!(found("station-elsewhere", |s| entry(s, RED)), [""; 0]);
        let learned = |s: &mut Snapshot| {
            entry(s, BLUE);
            s.stack.fdb.last_mut().unwrap().state = 0x02;
        };
        assert_eq!(found("station-elsewhere", learned), [""; 0], "it is learned anew");
    }

    #[test]
    fn a_veth_into_a_namespace_that_goes_away_is_told() {
        let dying = |s: &mut Snapshot| {
            let mut veth = of_host(s, RED).clone();
            (veth.index, veth.name) = (IfIndex(99), "veth99".into());
            veth.peer = Some(model::Peer { index: IfIndex(2), nsid: Some(model::Nsid::NOT_ASSIGNED) });
            s.namespaces[0].links.push(veth);
        };
        assert_eq!(found("dying-peer", dying), ["veth99"]);
        assert!(!diagnosis("dying-peer", dying).is_ill());
    }

    #[test]
    fn a_bridge_that_lost_its_address_is_found_if_pods_want_it() {
        let bare = |s: &mut Snapshot| {
            of_host(s, BRIDGE).addresses.clear();
            s.stack.routes.retain(|route| route.device != Some(IfIndex(3)));
        };
        only(&["bridge-address"], bare);
        let unwanted = |s: &mut Snapshot| {
            bare(s);
            stack_of(s, RED).routes.clear();
            stack_of(s, BLUE).routes.clear();
        };
        assert_eq!(found("bridge-address", unwanted), [""; 0]);
        let open = |s: &mut Snapshot| {
            bare(s);
            of_host(s, UPLINK).master = Some(IfIndex(3));
        };
        assert_eq!(found("bridge-address", open), [""; 0]);
        assert!(is_blind("bridge-address", |s| {
            bare(s);
            pods(s, RED).stack = None;
            pods(s, BLUE).stack = None;
        }));
    }

    #[test]
    fn a_bridge_that_is_nearly_full_is_found() {
        let fill = |ports: u32| {
            move |s: &mut Snapshot| {
                for n in 0..ports {
                    let mut port = of_host(s, RED).clone();
                    (port.index, port.name, port.peer) = (IfIndex(1000 + n), format!("v{n}"), None);
                    s.namespaces[0].links.push(port);
                }
            }
        };
        assert_eq!(found("bridge-full", fill(900)), [""; 0]);
        assert!(diagnosis("bridge-full", fill(950)).findings[0].severity == super::Severity::Warning);
        assert!(diagnosis("bridge-full", fill(1022)).findings[0].severity == super::Severity::Error);
        assert!(is_blind("bridge-full", |s| pods(s, RED).readable = false));
    }

    #[test]
    fn a_veth_that_is_down_is_found_at_either_end() {
        only(&["veth-down"], |s| of_host(s, RED).up = false);
        only(&["veth-down"], |s| eth0(s, RED).up = false);
        assert!(is_blind("veth-down", |s| pods(s, RED).readable = false));
    }

    #[test]
    fn a_pod_on_another_bridge_or_none_is_found() {
        only(&["wrong-bridge"], |s| {
            let mut other = of_host(s, BRIDGE).clone();
            (other.index, other.name, other.addresses) =
                (IfIndex(40), "br9".into(), vec!["10.9.0.1/24".parse().unwrap()]);
            s.namespaces[0].links.push(other);
            s.stack.routes.push(route("10.9.0.0/24", None, 40));
            of_host(s, RED).master = Some(IfIndex(40));
        });
        only(&["wrong-bridge"], |s| of_host(s, RED).master = None);
        assert!(is_blind("wrong-bridge", |s| pods(s, RED).readable = false));
    }

    #[test]
    fn ports_differ() {
        only(&[], with_ports);
        only(&["port-blocked"], |s| {
            with_ports(s);
            of_host(s, RED).port.as_mut().unwrap().state = 4;
        });
        only(&[], |s| {
            with_ports(s);
            of_host(s, RED).settling = true;
            of_host(s, RED).port.as_mut().unwrap().state = 0;
        });
        only(&["port-isolated"], |s| {
            with_ports(s);
            of_host(s, RED).port.as_mut().unwrap().isolated = true;
            of_host(s, BLUE).port.as_mut().unwrap().isolated = true;
        });
        let half = |s: &mut Snapshot| {
            with_ports(s);
            of_host(s, RED).port.as_mut().unwrap().hairpin = true;
        };
        only(&["hairpin"], half);
        assert_eq!(
            found("hairpin", |s| {
                half(s);
                of_host(s, BRIDGE).promiscuous = true;
            }),
            [""; 0]
        );
        for check in ["port-blocked", "port-isolated", "hairpin"] {
            assert!(is_blind(check, |s| pods(s, RED).readable = false));
        }
    }

    #[test]
    fn entries_for_nobody_are_told() {
        let mac = model::MacAddr([2, 0, 0, 0, 0, 222]);
        let station = |s: &mut Snapshot| {
            let entry = model::FdbEntry {
                mac,
                device: IfIndex(4),
                master: Some(IfIndex(3)),
                remote: None,
                state: 0x40,
            };
            s.stack.fdb.push(entry);
        };
        only(&["stale-station"], station);
        only(&["stale-neighbour"], |s| s.stack.neighbours.push(neighbour("10.244.0.77", 222, 3)));
        for check in ["stale-station", "stale-neighbour"] {
            assert!(is_blind(check, |s| pods(s, RED).readable = false));
        }
    }
}
