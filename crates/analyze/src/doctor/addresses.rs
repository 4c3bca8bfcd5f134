//! What pods have of addresses, and where their gateways are.

use std::net::IpAddr;

use super::{Check, Findings, Ground, Pod, Severity, Wire};

const BRIDGE_PLUGIN: &str = "https://www.cni.dev/plugins/current/main/bridge/";
const SPEC: &str = "https://www.cni.dev/docs/spec/";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "pod-address",
        title: "each pod that is wired has an address",
        severity: Severity::Error,
        why: "A pod has a veth to the node and no address but link-local ones: nothing reaches it. Somebody in the pod removed it, its IPAM answered without one, or its ADD was cut short.",
        see: "nsenter --net=NAMESPACE ip addr",
        fix: "restart the pod, so that it is attached anew",
        source: SPEC,
        run: pod_address,
    },
    Check {
        id: "pod-default-route",
        title: "pods have a default route where their like has one",
        severity: Severity::Warning,
        why: "Without a default route a pod reaches its own subnet only. A network may want that (Docker's internal networks, a second network of Multus); here other pods of the same bridge have one, or it is a pod of Kubernetes' with no other interface, for which services would be out of reach.",
        see: "nsenter --net=NAMESPACE ip route",
        fix: "restart the pod; if that does not help, the network wants isDefaultGateway of the bridge plugin, or a route to 0.0.0.0/0 in its IPAM",
        source: BRIDGE_PLUGIN,
        run: pod_default_route,
    },
    Check {
        id: "pod-gateway",
        title: "somebody has the address that a pod's default route leads to",
        severity: Severity::Error,
        why: "A pod asks by ARP (or ND) for its default gateway's address. On a bridge with nothing but pods behind it, nobody answers unless the bridge or a pod has that address, and whatever the pod sends beyond its subnet ends in `no route to host`.",
        see: "nsenter --net=NAMESPACE ip neigh shows the gateway as FAILED; ip addr show dev BRIDGE",
        fix: "give the bridge the address: ip addr add GATEWAY/PREFIX dev BRIDGE, and find out who took it (NetworkManager and systemd-networkd manage bridges that they were not told to leave alone)",
        source: BRIDGE_PLUGIN,
        run: pod_gateway,
    },
    Check {
        id: "proxy-arp",
        title: "the node answers for the gateway of pods that it routes",
        severity: Severity::Error,
        why: "Pods without a bridge (Calico and others) have a gateway that nobody has, often 169.254.1.1: the node's end of the veth answers for it by proxy ARP, or the pod has a permanent neighbour entry for it. Without either, the pod cannot send anything.",
        see: "sysctl net.ipv4.conf.VETH.proxy_arp; nsenter --net=NAMESPACE ip neigh",
        fix: "sysctl -w net.ipv4.conf.VETH.proxy_arp=1; restart the CNI's agent, which sets it for each veth",
        source: "https://docs.tigera.io/calico/latest/reference/faq",
        run: proxy_arp,
    },
    Check {
        id: "duplicate-address",
        title: "no address is on two interfaces",
        severity: Severity::Error,
        why: "Two pods on one bridge, or two that are routed, have the same address, or a pod has one of the node's: who answers first gets the packets, and connections break at random. It comes of a lease that was lost or removed by hand, or of two IPAMs with the same range.",
        see: "podplumb who ADDRESS",
        fix: "restart the younger of them; then look for leases that are missing (podplumb doctor --only address-without-lease)",
        source: "https://datatracker.ietf.org/doc/html/rfc5227",
        run: duplicate_address,
    },
    Check {
        id: "duplicate-mac",
        title: "no two interfaces on one bridge have the same MAC",
        severity: Severity::Error,
        why: "A bridge sends frames to the port where it last saw their destination. With two ports that have the same MAC, each gets some of the other's frames.",
        see: "bridge fdb show br BRIDGE; podplumb who MAC",
        fix: "restart one of the pods; look for a fixed MAC in annotations, in the network's configuration, or in a cloned image",
        source: "https://docs.kernel.org/networking/bridge.html",
        run: duplicate_mac,
    },
];

/// `1 pod`, `2 pods`.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn pod_address(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    for pod in ground.pods.iter().filter(|pod| !pod.is_moving && pod.addresses().next().is_none()) {
        // One that is a switch itself needs none.
        if pod.namespace.links.iter().any(|link| link.kind == "bridge") {
            continue;
        }
        let names: Vec<&str> = pod.wires.iter().map(|wire| wire.inside.name.as_str()).collect();
        findings.add(
            pod.label.clone(),
            format!("{} has no address but link-local ones", names.join(", ")),
            "restart the pod, so that it is attached anew",
        );
    }
}

fn pod_default_route(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    let bridge = |pod: &Pod<'_>| pod.wires.iter().find_map(|wire| wire.bridge).map(|bridge| bridge.index);
    // One that is down has lost its routes: that is told by itself.
    let is_up = |pod: &&Pod<'_>| pod.wires.iter().any(|wire| wire.inside.up);
    for pod in ground.pods.iter().filter(|pod| !pod.is_moving).filter(is_up) {
        if ground.stack_of(pod, findings).is_none() {
            continue;
        }
        for v6 in [false, true] {
            let has_address = |pod: &Pod<'_>| pod.addresses().any(|(_, net)| net.addr().is_ipv6() == v6);
            if !has_address(pod) || pod.has_default_route(v6) != Some(false) {
                continue;
            }
            let own = bridge(pod);
            let mut like = ground
                .pods
                .iter()
                .filter(|other| own.is_some() && bridge(other) == own && has_address(other));
            let others = like.any(|other| other.has_default_route(v6) == Some(true));
            let is_alone =
                pod.is_pod && !v6 && pod.wires.len() == 1 && pod.has_default_route(true) == Some(false);
            let family = if v6 { "IPv6" } else { "IPv4" };
            if others || is_alone {
                let than = if others {
                    ", which others on the same bridge have"
                } else {
                    ": it reaches its own subnet only"
                };
                findings.add(
                    pod.label.clone(),
                    format!("has no default route for {family}{than}"),
                    "restart the pod; if that does not help, look at the routes in the network's IPAM",
                );
            }
        }
    }
}

/// Whether an address is somebody's on the link of a wire, and is known to be nobody's otherwise. The node answers for all of its
/// own addresses on each interface (arp_ignore 0).
fn is_on_link(ground: &Ground<'_>, wire: Wire<'_>, address: IpAddr) -> Option<bool> {
    let has = |link: &model::Link| link.addresses.iter().any(|net| net.addr() == address);
    if ground.is_hosts(address) {
        return Some(true);
    }
    let Some(bridge) = wire.bridge else { return Some(false) };
    let mut others =
        ground.wires().filter(|(_, other)| other.bridge.is_some_and(|other| other.index == bridge.index));
    if others.any(|(_, other)| has(other.inside)) {
        return Some(true);
    }
    ground.is_closed(bridge).then_some(false)
}

/// Default gateways of pods, with the wire that leads there and the pod's own neighbour entry.
fn gateways<'g, 'a>(ground: &'g Ground<'a>) -> impl Iterator<Item = (&'g Pod<'a>, Wire<'a>, IpAddr, bool)> {
    ground.wires().flat_map(|(pod, wire)| {
        let own = pod.gateways().into_iter().filter(move |(_, device)| *device == wire.inside.index);
        own.map(move |(gateway, _)| {
            let entries = pod.stack.into_iter().flat_map(|stack| &stack.neighbours);
            const NUD_PERMANENT: u16 = 0x80;
            let is_fixed = entries
                .filter(|entry| entry.address == gateway && entry.state & NUD_PERMANENT != 0)
                .any(|entry| entry.mac.is_some());
            (pod, wire, gateway, is_fixed)
        })
    })
}

fn pod_gateway(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    for pod in &ground.pods {
        ground.stack_of(pod, findings);
    }
    for (pod, wire, gateway, is_fixed) in gateways(ground) {
        let Some(bridge) = wire.bridge else { continue };
        // A bridge without any address is told of by itself.
        let is_bare = super::ground::global(bridge).all(|net| net.addr().is_ipv6() != gateway.is_ipv6());
        if is_bare || is_fixed || is_on_link(ground, wire, gateway) != Some(false) {
            continue;
        }
        // On another bridge whose subnet that is: it is the bridge that is wrong.
        if super::bridges::home(ground, wire).is_some() {
            continue;
        }
        findings.add(
            pod.label.clone(),
            format!("has the default gateway {gateway}, and nobody on {} has that address", bridge.name),
            format!("ip addr add {gateway}/PREFIX dev {}, or restart the pod", bridge.name),
        );
    }
}

fn proxy_arp(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    for (pod, wire) in ground.wires().filter(|(_, wire)| wire.bridge.is_none()) {
        ground.stack_of(pod, findings);
        if wire.outside.ipv4.is_none() {
            findings.blind(format!("the settings of {} are not known", wire.outside.name));
        }
    }
    for (pod, wire, gateway, is_fixed) in gateways(ground) {
        let name = &wire.outside.name;
        // A veth that came off its bridge is told of by that.
        if wire.bridge.is_some() || is_fixed || super::bridges::home(ground, wire).is_some() {
            continue;
        }
        let settings = if gateway.is_ipv4() { wire.outside.ipv4 } else { wire.outside.ipv6 };
        let Some(settings) = settings else { continue };
        if settings.proxy || is_on_link(ground, wire, gateway) != Some(false) {
            continue;
        }
        let sysctl = match gateway {
            IpAddr::V4(_) => format!("net.ipv4.conf.{name}.proxy_arp"),
            IpAddr::V6(_) => format!("net.ipv6.conf.{name}.proxy_ndp"),
        };
        findings.add(
            pod.label.clone(),
            format!(
                "has the gateway {gateway}, which nobody has, and the node does not answer for it on {name}"
            ),
            format!("sysctl -w {sysctl}=1"),
        );
    }
}

/// Takes over what the list of hazards has under a code.
pub(super) fn of_hazards(ground: &Ground<'_>, findings: &mut Findings, code: &str) {
    for hazard in ground.leaks.hazards.iter().filter(|hazard| hazard.code == code) {
        findings.add(&hazard.object, &hazard.text, hazard.hint);
    }
}

fn duplicate_address(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    of_hazards(ground, findings, "duplicate-address");
    for (pod, wire) in ground.wires() {
        for net in super::ground::global(wire.inside) {
            let entrance = wire.bridge.unwrap_or(wire.outside);
            let mut elsewhere = ground.links().filter(|link| link.index != entrance.index);
            let same = elsewhere.find(|link| link.addresses.iter().any(|other| other.addr() == net.addr()));
            if let Some(link) = same {
                findings.add(
                    net.addr().to_string(),
                    format!("{} of {} and the node's own {} have it: the node keeps what is for the pod", wire.inside.name, pod.label, link.name),
                    "restart the pod; if it gets such an address again, the network's range has the node's addresses",
                );
            }
        }
    }
}

fn duplicate_mac(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    of_hazards(ground, findings, "duplicate-mac");
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    #[test]
    fn a_pod_without_an_address_is_found() {
        only(&["pod-address"], |s| {
            eth0(s, RED).addresses.clear();
            stack_of(s, RED).routes.clear();
        });
        assert_eq!(
            found("pod-address", |s| eth0(s, RED).addresses = vec!["fe80::1/64".parse().unwrap()]).len(),
            1
        );
        assert!(is_blind("pod-address", |s| pods(s, RED).readable = false));
    }

    #[test]
    fn a_default_route_is_missed_where_others_have_one() {
        only(&["pod-default-route"], |s| {
            stack_of(s, RED).routes.remove(0);
        });
        let none = |s: &mut model::Snapshot| {
            stack_of(s, RED).routes.remove(0);
            stack_of(s, BLUE).routes.remove(0);
        };
        assert_eq!(found("pod-default-route", none), [""; 0]);
        assert!(is_blind("pod-default-route", |s| pods(s, RED).stack = None));
    }

    #[test]
    fn a_gateway_that_nobody_has_is_found_where_all_that_could_have_it_was_seen() {
        let lost =
            |s: &mut model::Snapshot| of_host(s, BRIDGE).addresses = vec!["10.244.0.9/24".parse().unwrap()];
        assert_eq!(found("pod-gateway", lost).len(), 2);
        // Somebody beyond an uplink that is a port may have it.
        let open = |s: &mut model::Snapshot| {
            lost(s);
            of_host(s, UPLINK).master = Some(model::IfIndex(3));
        };
        assert_eq!(found("pod-gateway", open), [""; 0]);
        let another_pod = |s: &mut model::Snapshot| {
            lost(s);
            eth0(s, BLUE).addresses.push("10.244.0.1/24".parse().unwrap());
        };
        assert_eq!(found("pod-gateway", another_pod), [""; 0]);
        assert!(is_blind("pod-gateway", |s| pods(s, RED).stack = None));
    }

    #[test]
    fn the_node_answers_for_a_gateway_or_the_pod_need_not_ask() {
        let off = |s: &mut model::Snapshot| of_host(s, GREEN).ipv4.as_mut().unwrap().proxy = false;
        only(&["proxy-arp"], off);
        let fixed = |s: &mut model::Snapshot| {
            off(s);
            stack_of(s, GREEN).neighbours.push(neighbour("169.254.1.1", 6, 2));
        };
        assert_eq!(found("proxy-arp", fixed), [""; 0]);
        assert!(is_blind("proxy-arp", |s| of_host(s, GREEN).ipv4 = None));
    }

    #[test]
    fn two_of_a_kind_are_found() {
        let same = |s: &mut model::Snapshot| eth0(s, BLUE).addresses = eth0(s, RED).addresses.clone();
        only(&["duplicate-address"], same);
        let of_node =
            |s: &mut model::Snapshot| of_host(s, UPLINK).addresses.push("10.244.0.3/32".parse().unwrap());
        assert_eq!(found("duplicate-address", of_node), ["10.244.0.3"]);
        only(&["duplicate-mac"], |s| eth0(s, BLUE).mac = eth0(s, RED).mac);
        for check in ["duplicate-address", "duplicate-mac"] {
            assert!(is_blind(check, |s| pods(s, RED).readable = false));
        }
    }
}
