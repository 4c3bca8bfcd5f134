//! The node's way to its pods.

use ipnet::IpNet;

use super::ground::global;
use super::lookup::Way;
use super::{Check, Findings, Ground, Severity};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "pod-route",
        title: "the node's routes to its pods lead to them",
        severity: Severity::Error,
        why: "What comes for a pod is routed by the node: over the bridge that the pod is on, or by a route of its own for each pod without a bridge. Where that is missing, or a longer prefix or a smaller metric leads elsewhere, the pod can send, and no answer arrives.",
        see: "ip route get ADDRESS; ip route show table all",
        fix: "remove the route that is in the way, or add the one that is missing (ip route add ADDRESS dev VETH); find out who made it by its protocol: ip route show proto N",
        source: "https://man7.org/linux/man-pages/man8/ip-route.8.html",
        run: pod_route,
    },
    Check {
        id: "subnet-overlap",
        title: "no subnet of pods is also another one's",
        severity: Severity::Error,
        why: "A subnet of pods that is also the uplink's, another bridge's, or is routed to somebody else, makes one of the two out of reach: packets go to where the route with the longer prefix leads. Docker's 172.17.0.0/16 and a company's network, or two CNI configurations with the same range, are the usual ones.",
        see: "ip -4 addr; ip route",
        fix: "give the pods' network another range, and restart the pods; for Docker: default-address-pools in /etc/docker/daemon.json",
        source: "https://kubernetes.io/docs/concepts/cluster-administration/networking/",
        run: subnet_overlap,
    },
];

fn pod_route(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    if ground.stack(findings).is_none() {
        return;
    }
    for pod in ground.pods.iter().filter(|pod| !pod.is_moving) {
        for (wire, net) in pod.wires.iter().flat_map(|wire| global(wire.inside).map(move |net| (wire, net))) {
            let address = net.addr();
            let entrance = wire.bridge.unwrap_or(wire.outside);
            // Down, without addresses, or off its bridge: those are told of by themselves.
            let is_isolated = wire
                .bridge
                .is_some_and(|bridge| global(bridge).all(|own| own.addr().is_ipv6() != address.is_ipv6()));
            if !entrance.up
                || !wire.outside.up
                || is_isolated
                || ground.is_hosts(address)
                || super::bridges::home(ground, *wire).is_some()
            {
                continue;
            }
            let way = ground.way(address);
            if way == Way::Unsure {
                findings.blind("routing rules decide that say more than a snapshot does");
                continue;
            }
            let devices = way.devices();
            // By another of the pod's interfaces it gets there, too.
            let ends = pod.wires.iter().map(|wire| wire.bridge.unwrap_or(wire.outside).index);
            if ends.into_iter().any(|end| devices.contains(&end)) {
                continue;
            }
            if let Some(looped) = devices.iter().find(|device| ground.is_looped(**device)) {
                let name = ground.name(*looped);
                findings.blind(format!(
                    "the node's routes to pods lead to {name}, whose programs move packets on"
                ));
                continue;
            }
            let leads = match (way, devices.first()) {
                (Way::Route(route), Some(device)) if route.destination.prefix_len() > 0 => {
                    format!("the node's route {} leads to {}", route.destination, ground.name(*device))
                }
                (Way::Route(_), Some(device)) => {
                    format!("the node has no route to it but the default one, by {}", ground.name(*device))
                }
                _ => "the node has no route to it".to_owned(),
            };
            let fix = match way {
                Way::Route(route) if route.destination.prefix_len() > 0 => {
                    format!("ip route del {}, once you know who made it", route.destination)
                }
                _ => format!("ip route add {address} dev {}, or restart the pod", entrance.name),
            };
            findings.add(
                format!("{address} of {}", pod.label),
                format!("{leads}: what is for the pod does not reach it by {}", entrance.name),
                fix,
            );
        }
    }
}

/// A subnet, and whose it is.
struct Claim {
    net: IpNet,
    device: model::IfIndex,
    words: String,
    is_route: bool,
}

fn subnet_overlap(ground: &Ground<'_>, findings: &mut Findings) {
    if ground.stack(findings).is_none() {
        return;
    }
    let bridges = ground.pod_bridges();
    // On an overlay, the nodes' common range contains each node's own.
    let is_tunnel =
        |link: &model::Link| matches!(link.kind.as_str(), "vxlan" | "geneve" | "wireguard" | "ipip" | "tun");
    let uplinks: Vec<_> = ground.uplinks().iter().map(|link| link.index).collect();
    let mut claims: Vec<Claim> = Vec::new();
    for link in ground.links().filter(|link| !link.loopback && link.up && !is_tunnel(link)) {
        // A shim on the same parent, and both ends of an address that several interfaces have.
        if matches!(link.kind.as_str(), "macvlan" | "ipvlan" | "veth" | "dummy")
            && !uplinks.contains(&link.index)
        {
            continue;
        }
        let nets = global(link).filter(|net| net.prefix_len() < net.max_prefix_len());
        claims.extend(nets.map(|net| Claim {
            net: net.trunc(),
            device: link.index,
            words: format!("{} on {}", net.trunc(), link.name),
            is_route: false,
        }));
    }
    let tunnels = |index: model::IfIndex| ground.link(index).is_some_and(is_tunnel);
    for route in ground.snapshot.stack.routes.iter().filter(|route| route.gateway.is_some()) {
        let Some(device) = route.device else { continue };
        // One to a single address is told of by the pod that has it.
        let length = route.destination.prefix_len();
        if length == 0 || length == route.destination.max_prefix_len() || tunnels(device) {
            continue;
        }
        let words = format!("the route {} by {}", route.destination, ground.name(device));
        claims.push(Claim { net: route.destination, device, words, is_route: true });
    }
    let mut told = Vec::new();
    for bridge in &bridges {
        for own in global(bridge).filter(|net| net.prefix_len() < net.max_prefix_len()).map(IpNet::trunc) {
            for claim in claims.iter().filter(|claim| claim.device != bridge.index) {
                let pair = (own.min(claim.net), own.max(claim.net), bridge.index.min(claim.device));
                let inside = own.contains(&claim.net);
                let around = claim.net.contains(&own) && claim.net != own;
                // A route to a wider range is what other nodes' pods are reached by.
                if (!inside && !around) || (around && claim.is_route) || told.contains(&pair) {
                    continue;
                }
                told.push(pair);
                let severity = if inside { Severity::Error } else { Severity::Notice };
                let what = if inside {
                    "one of the two is out of reach"
                } else {
                    "who has an address of the pods' range there is out of reach"
                };
                findings.add_as(
                    severity,
                    bridge.name.clone(),
                    format!("has {own} for pods, and there is {}: {what}", claim.words),
                    "give the pods' network another range",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    #[test]
    fn a_route_to_a_pod_that_leads_elsewhere_is_found() {
        only(&["pod-route"], |s| s.stack.routes.push(route("10.244.0.2/32", Some("192.0.2.1"), 2)));
        only(&["pod-route"], |s| s.stack.routes.retain(|route| route.destination.addr() != ip("10.245.0.5")));
        let unsure = |s: &mut model::Snapshot| {
            s.stack.rules.push(model::PolicyRule { input: Some("eth0".into()), ..Default::default() });
        };
        assert!(is_blind("pod-route", unsure));
        assert!(is_blind("pod-route", |s| s.stack.sysctls.clear()));
    }

    #[test]
    fn subnets_that_are_twice_are_found() {
        let uplink =
            |s: &mut model::Snapshot| of_host(s, UPLINK).addresses = vec!["10.244.0.77/24".parse().unwrap()];
        assert_eq!(found("subnet-overlap", uplink), ["cni0"]);
        let peer =
            |s: &mut model::Snapshot| s.stack.routes.push(route("10.244.0.128/25", Some("192.0.2.7"), 2));
        assert_eq!(found("subnet-overlap", peer), ["cni0"]);
        // The range of all nodes, by a router: that is how other nodes' pods are reached.
        let all = |s: &mut model::Snapshot| s.stack.routes.push(route("10.244.0.0/16", Some("192.0.2.7"), 2));
        assert_eq!(found("subnet-overlap", all), [""; 0]);
        let part =
            |s: &mut model::Snapshot| of_host(s, UPLINK).addresses = vec!["10.77.0.1/8".parse().unwrap()];
        assert!(!diagnosis("subnet-overlap", part).is_ill(), "a part of a large network is only told");
        assert!(is_blind("subnet-overlap", |s| s.stack.sysctls.clear()));
    }

    #[test]
    fn what_programs_move_on_is_not_judged() {
        // As Cilium does: all pods by one veth of which both ends are the host's, whose address is the pods' gateway.
        let cilium = |s: &mut model::Snapshot| {
            for (index, name, other) in [(70, "cilium_host", 71), (71, "cilium_net", 70)] {
                let mut end = of_host(s, GREEN).clone();
                (end.index, end.name) = (model::IfIndex(index), name.into());
                end.peer = Some(model::Peer { index: model::IfIndex(other), nsid: None });
                s.namespaces[0].links.push(end);
            }
            s.namespaces[0].links[7].addresses = vec!["10.245.0.1/32".parse().unwrap()];
            s.stack.routes.retain(|route| route.destination.addr() != ip("10.245.0.5"));
            s.stack.routes.push(route("10.245.0.0/24", None, 70));
            stack_of(s, GREEN).routes[0].gateway = Some(ip("10.245.0.1"));
            of_host(s, GREEN).ipv4.as_mut().unwrap().proxy = false;
        };
        only(&[], cilium);
        assert!(is_blind("pod-route", cilium));
        // A port of Open vSwitch.
        let switched = |s: &mut model::Snapshot| {
            let mut switch = of_host(s, BRIDGE).clone();
            (switch.index, switch.name, switch.kind) =
                (model::IfIndex(72), "ovs-system".into(), "openvswitch".into());
            switch.addresses.clear();
            s.namespaces[0].links.push(switch);
            of_host(s, GREEN).master = Some(model::IfIndex(72));
            of_host(s, GREEN).ipv4.as_mut().unwrap().proxy = false;
            s.stack.routes.retain(|route| route.destination.addr() != ip("10.245.0.5"));
        };
        only(&[], switched);
        assert!(is_blind("pod-route", switched));
    }
}
