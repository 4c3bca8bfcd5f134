//! Whether the node hands packets of pods on.

use super::{Check, Findings, Ground, Severity};
use crate::doctor::lookup::Way;

const SYSCTLS: &str = "https://docs.kernel.org/networking/ip-sysctl.html";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "ip-forward",
        title: "the node forwards IPv4 for its pods",
        severity: Severity::Error,
        why: "A pod's packet to anybody but the node is forwarded by the node. With net.ipv4.ip_forward=0 the kernel drops it without a word: pods on the same bridge still reach each other, and nothing else. The usual reason is another program's sysctl file that is read later than the one of the container runtime, or a `sysctl --system` while the node runs.",
        see: "sysctl net.ipv4.ip_forward; nstat -az IpInAddrErrors counts what was dropped for it",
        fix: "sysctl -w net.ipv4.ip_forward=1, and the same in a file in /etc/sysctl.d whose name sorts last. Writing it sets the forwarding of every interface as well",
        source: SYSCTLS,
        run: ip_forward,
    },
    Check {
        id: "ipv6-forward",
        title: "the node forwards IPv6 for its pods",
        severity: Severity::Error,
        why: "As ip-forward, for pods with IPv6 addresses and a default route. Note that a forwarding node ignores router advertisements unless accept_ra is 2, so its own default route may go when this is switched on.",
        see: "sysctl net.ipv6.conf.all.forwarding",
        fix: "sysctl -w net.ipv6.conf.all.forwarding=1; where the uplink learns its route by advertisements, also net.ipv6.conf.UPLINK.accept_ra=2",
        source: SYSCTLS,
        run: ipv6_forward,
    },
    Check {
        id: "interface-forwarding",
        title: "each interface that packets of pods come in by forwards",
        severity: Severity::Error,
        why: "What counts for an IPv4 packet is not ip_forward but the forwarding of the interface by which it came in: the bridge or veth on the way out, the uplink on the way back. An interface may differ from ip_forward, since its own setting was written later, or since it was made while net.ipv4.conf.default.forwarding was 0.",
        see: "sysctl net.ipv4.conf.IFACE.forwarding",
        fix: "sysctl -w net.ipv4.conf.IFACE.forwarding=1, and find who writes 0 (a file in /etc/sysctl.d, systemd-networkd's IPv4Forwarding=, NetworkManager)",
        source: SYSCTLS,
        run: interface_forwarding,
    },
    Check {
        id: "rp-filter",
        title: "source validation lets packets of pods through",
        severity: Severity::Warning,
        why: "With rp_filter=1 (strict) the kernel drops an IPv4 packet whose source it would not answer by the interface that the packet came in by. The larger of the interface's value and that of net.ipv4.conf.all counts. A pod with two networks sends what leaves them by its default route, also what it answers from its other address: the node drops that, and only a counter tells.",
        see: "sysctl -a -r 'rp_filter$'; ip route get POD; nstat -az TcpExtIPReversePathFilter",
        fix: "sysctl -w net.ipv4.conf.IFACE.rp_filter=2 (loose), or let the pod answer by the interface that it was asked by: chain the sbr plugin",
        source: SYSCTLS,
        run: rp_filter,
    },
];

/// The host's interfaces by which packets of pods that have a default route to the host come in, for a family.
pub(super) fn entrances(ground: &Ground<'_>, v6: bool) -> Vec<model::IfIndex> {
    let mut entrances = Vec::new();
    for pod in &ground.pods {
        let has_address = pod.addresses().any(|(_, net)| net.addr().is_ipv6() == v6);
        if !has_address || pod.has_default_route(v6) != Some(true) {
            continue;
        }
        for wire in &pod.wires {
            let gateways = pod.gateways();
            let mut leads_here = gateways.iter().filter(|(_, device)| *device == wire.inside.index);
            let to_host = |gateway: std::net::IpAddr| match wire.bridge {
                Some(bridge) => bridge.addresses.iter().any(|net| net.addr() == gateway),
                None => true,
            };
            if leads_here.any(|(gateway, _)| gateway.is_ipv6() == v6 && to_host(*gateway)) {
                entrances.push(wire.bridge.unwrap_or(wire.outside).index);
            }
        }
    }
    entrances.sort_unstable();
    entrances.dedup();
    entrances
}

/// Pods whose routes are not known may need it as well.
fn tell_unknown(ground: &Ground<'_>, findings: &mut Findings) {
    for pod in &ground.pods {
        ground.stack_of(pod, findings);
    }
    ground.tell_unreadable(findings);
}

fn forwards(ground: &Ground<'_>, index: model::IfIndex) -> Option<bool> {
    Some(ground.link(index)?.ipv4.as_ref()?.forwarding)
}

fn ip_forward(ground: &Ground<'_>, findings: &mut Findings) {
    tell_unknown(ground, findings);
    let Some(stack) = ground.stack(findings) else { return };
    let entrances = entrances(ground, false);
    // Each interface has its own, which may be on all the same.
    let shut = entrances.iter().filter(|index| forwards(ground, **index) == Some(false)).count();
    if stack.number("net.ipv4.ip_forward") == Some(0) && shut > 0 {
        findings.add(
            "net.ipv4.ip_forward",
            format!("is 0, and {} on this node have their default route to it: none of their packets leaves the node", pods_behind(ground, &entrances, false)),
            "sysctl -w net.ipv4.ip_forward=1, and write it to a file in /etc/sysctl.d",
        );
    }
}

fn pods_behind(ground: &Ground<'_>, entrances: &[model::IfIndex], v6: bool) -> String {
    let is_behind = |pod: &&super::Pod<'_>| {
        pod.addresses().any(|(_, net)| net.addr().is_ipv6() == v6)
            && pod.wires.iter().any(|wire| entrances.contains(&wire.bridge.unwrap_or(wire.outside).index))
    };
    super::addresses::count(ground.pods.iter().filter(is_behind).count(), "pod", "pods")
}

fn ipv6_forward(ground: &Ground<'_>, findings: &mut Findings) {
    tell_unknown(ground, findings);
    let Some(stack) = ground.stack(findings) else { return };
    let entrances = entrances(ground, true);
    if stack.number("net.ipv6.conf.all.forwarding") == Some(0) && !entrances.is_empty() {
        findings.add(
            "net.ipv6.conf.all.forwarding",
            format!(
                "is 0, and {} with IPv6 on this node have their default route to it",
                pods_behind(ground, &entrances, true)
            ),
            "sysctl -w net.ipv6.conf.all.forwarding=1, and write it to a file in /etc/sysctl.d",
        );
    }
}

fn interface_forwarding(ground: &Ground<'_>, findings: &mut Findings) {
    tell_unknown(ground, findings);
    let Some(stack) = ground.stack(findings) else { return };
    let entrances = entrances(ground, false);
    if entrances.is_empty() || stack.number("net.ipv4.ip_forward") == Some(0) {
        return;
    }
    // Other interfaces need not: that of a network for administrators may well be shut.
    let routes =
        stack.routes.iter().filter(|route| route.destination.addr().is_ipv4() && route.gateway.is_some());
    let devices = routes.filter_map(|route| Some((route, ground.link(route.device?)?)));
    let ways = devices.filter(|(route, link)| route.destination.prefix_len() == 0 || link.kind == "vxlan");
    let mut ways: Vec<_> =
        ways.map(|(_, link)| link.index).filter(|index| !entrances.contains(index)).collect();
    ways.sort_unstable();
    ways.dedup();
    for index in entrances.iter().copied().chain(ways) {
        let name = ground.name(index);
        match forwards(ground, index) {
            Some(true) => {}
            None => findings.blind(format!("the settings of {name} are not known")),
            Some(false) => {
                let what = if entrances.contains(&index) {
                    "what pods send by it"
                } else {
                    "what comes back to pods by it"
                };
                findings.add(
                    name.clone(),
                    format!("does not forward, though ip_forward is 1: {what} is dropped"),
                    format!("sysctl -w net.ipv4.conf.{name}.forwarding=1"),
                );
            }
        }
    }
}

/// A pod with several interfaces sends all that leaves its subnets by one of them, with the addresses of each.
fn rp_filter(ground: &Ground<'_>, findings: &mut Findings) {
    let Some(stack) = ground.stack(findings) else { return };
    let all = stack.number("net.ipv4.conf.all.rp_filter").unwrap_or(0);
    ground.tell_unreadable(findings);
    for pod in ground.pods.iter().filter(|pod| pod.wires.len() > 1) {
        let Some(inside) = ground.stack_of(pod, findings) else { continue };
        // Rules of its own choose the interface by the source address (the sbr plugin).
        if inside.rules.iter().any(|rule| rule.source.is_some()) {
            continue;
        }
        let default = pod.gateways().into_iter().find(|(gateway, _)| gateway.is_ipv4());
        let leaves_by =
            |wire: &&super::Wire<'_>| default.is_some_and(|(_, device)| device == wire.inside.index);
        let Some(exit) = pod.wires.iter().find(leaves_by) else { continue };
        let entrance = exit.bridge.unwrap_or(exit.outside);
        let Some(own) = entrance.ipv4 else {
            findings.blind(format!("the settings of {} are not known", entrance.name));
            continue;
        };
        if i64::from(own.rp_filter).max(all) != 1 {
            continue;
        }
        let others = pod.wires.iter().filter(|wire| wire.inside.index != exit.inside.index);
        for (wire, net) in
            others.flat_map(|wire| super::ground::global(wire.inside).map(move |net| (wire, net)))
        {
            let way = ground.way(net.addr());
            let back = wire.bridge.unwrap_or(wire.outside);
            if way == Way::Unsure {
                findings.blind("routing rules decide that say more than a snapshot does");
            } else if net.addr().is_ipv4()
                && back.index != entrance.index
                && way.devices().contains(&back.index)
            {
                findings.add(
                    entrance.name.clone(),
                    format!(
                        "is strict (rp_filter 1): what {} sends by it from {} of its {} is dropped, since the node would answer by {}",
                        pod.label,
                        net.addr(),
                        wire.inside.name,
                        back.name
                    ),
                    format!("sysctl -w net.ipv4.conf.{}.rp_filter=2, or chain the sbr plugin", entrance.name),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    #[test]
    fn forwarding_that_is_off_is_an_error_if_somebody_needs_it() {
        let off = |snapshot: &mut model::Snapshot| {
            snapshot.stack.sysctls.insert("net.ipv4.ip_forward".into(), "0".into());
            for link in &mut snapshot.namespaces[0].links {
                link.ipv4.as_mut().unwrap().forwarding = false;
            }
        };
        only(&["ip-forward"], off);
        let without_default = |snapshot: &mut model::Snapshot| {
            off(snapshot);
            for at in [RED, BLUE, GREEN] {
                stack_of(snapshot, at).routes.remove(0);
            }
        };
        assert_eq!(found("ip-forward", without_default), [""; 0]);
        let no_settings = |snapshot: &mut model::Snapshot| {
            off(snapshot);
            snapshot.stack.sysctls.clear();
        };
        assert!(is_blind("ip-forward", no_settings));
        let no_stack = |snapshot: &mut model::Snapshot| {
            off(snapshot);
            for at in [RED, BLUE, GREEN] {
                pods(snapshot, at).stack = None;
            }
        };
        assert!(is_blind("ip-forward", no_stack));
    }

    #[test]
    fn ipv6_is_forwarded_by_one_switch() {
        let off = |snapshot: &mut model::Snapshot| {
            snapshot.stack.sysctls.insert("net.ipv6.conf.all.forwarding".into(), "0".into());
        };
        assert_eq!(found("ipv6-forward", off), [""; 0]);
        let dual = |snapshot: &mut model::Snapshot| {
            off(snapshot);
            of_host(snapshot, BRIDGE).addresses.push("fd00::1/64".parse().unwrap());
            eth0(snapshot, RED).addresses.push("fd00::2/64".parse().unwrap());
            stack_of(snapshot, RED).routes.push(route("::/0", Some("fd00::1"), 2));
            snapshot.stack.routes.push(route("fd00::/64", None, 3));
        };
        only(&["ipv6-forward"], dual);
    }

    #[test]
    fn one_interface_may_be_shut() {
        for (at, name) in [(BRIDGE, "cni0"), (UPLINK, "eth0"), (GREEN, "cali-green"), (TUNNEL, "vxlan1")] {
            let shut = |snapshot: &mut model::Snapshot| {
                of_host(snapshot, at).ipv4.as_mut().unwrap().forwarding = false
            };
            assert_eq!(found("interface-forwarding", shut), [name]);
        }
        // One that leads to no pod and to nobody beyond.
        let administrators = |s: &mut model::Snapshot| {
            let mut second = of_host(s, UPLINK).clone();
            (second.index, second.name, second.addresses) =
                (model::IfIndex(60), "eth1".into(), vec!["198.51.100.1/24".parse().unwrap()]);
            second.ipv4.as_mut().unwrap().forwarding = false;
            s.namespaces[0].links.push(second);
        };
        assert_eq!(found("interface-forwarding", administrators), [""; 0]);
        assert!(is_blind("interface-forwarding", |s| of_host(s, BRIDGE).ipv4 = None));
    }

    #[test]
    fn strict_validation_drops_what_would_be_answered_by_another_interface() {
        let second = |snapshot: &mut model::Snapshot| {
            // Red has green's veth as well.
            let mut net1 = eth0(snapshot, GREEN).clone();
            net1.index = model::IfIndex(3);
            net1.name = "net1".into();
            let nsid = pods(snapshot, RED).nsid;
            pods(snapshot, RED).links.push(net1);
            of_host(snapshot, GREEN).peer = Some(model::Peer { index: model::IfIndex(3), nsid });
            snapshot.namespaces.truncate(3);
        };
        let strict = |snapshot: &mut model::Snapshot| {
            second(snapshot);
            of_host(snapshot, BRIDGE).ipv4.as_mut().unwrap().rp_filter = 1;
        };
        assert_eq!(found("rp-filter", second), [""; 0]);
        only(&["rp-filter"], strict);
        let by_all = |snapshot: &mut model::Snapshot| {
            second(snapshot);
            snapshot.stack.sysctls.insert("net.ipv4.conf.all.rp_filter".into(), "1".into());
        };
        assert_eq!(found("rp-filter", by_all), ["cni0"]);
        let loose = |snapshot: &mut model::Snapshot| {
            by_all(snapshot);
            of_host(snapshot, BRIDGE).ipv4.as_mut().unwrap().rp_filter = 2;
        };
        assert_eq!(found("rp-filter", loose), [""; 0]);
        let by_source = |snapshot: &mut model::Snapshot| {
            strict(snapshot);
            let source = Some("10.245.0.5/32".parse().unwrap());
            stack_of(snapshot, RED).rules.push(model::PolicyRule { source, ..Default::default() });
        };
        assert_eq!(found("rp-filter", by_source), [""; 0]);
        let rule = |snapshot: &mut model::Snapshot| {
            strict(snapshot);
            snapshot
                .stack
                .rules
                .push(model::PolicyRule { others: vec!["uid range".into()], ..Default::default() });
        };
        assert!(is_blind("rp-filter", rule));
        assert!(is_blind("rp-filter", |snapshot| snapshot.stack.sysctls.clear()));
    }
}
