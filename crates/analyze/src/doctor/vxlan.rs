//! Tunnels between nodes.

use model::Link;

use super::lookup::Way;
use super::mtu::remotes;
use super::{Check, Findings, Ground, Severity};

const VXLAN: &str = "https://docs.kernel.org/networking/vxlan.html";
/// "netfilter: nat: never update the UDP checksum when it's 0" is in these releases of their branches, and in all from 5.7 on
/// (https://github.com/kubernetes/kubernetes/issues/88986).
const CHECKSUMS_MENDED: [[u32; 3]; 4] = [[4, 14, 181], [4, 19, 123], [5, 4, 41], [5, 6, 13]];

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "vxlan-down",
        title: "tunnels are up, and so is what they are on",
        severity: Severity::Error,
        why: "A VXLAN device that is down, or on an interface that is down, carries nothing: pods do not reach those of other nodes.",
        see: "ip -d link show type vxlan",
        fix: "ip link set VXLAN up; restart the agent of the overlay, which makes its routes again",
        source: VXLAN,
        run: vxlan_down,
    },
    Check {
        id: "vxlan-source",
        title: "tunnels send from an address that the node has",
        severity: Severity::Error,
        why: "A VXLAN device keeps the address that it was made with. After the node got another one (DHCP, a changed interface), nothing can be sent from it, and peers send to where nobody is.",
        see: "ip -d link show dev VXLAN shows it as `local`; ip addr",
        fix: "restart the agent of the overlay, so that it makes the device again; or give the node its address back",
        source: VXLAN,
        run: vxlan_source,
    },
    Check {
        id: "vxlan-clash",
        title: "tunnels have a network identifier and port of their own",
        severity: Severity::Warning,
        why: "Two VXLAN devices of one node have the same identifier (VNI) and the same UDP port: frames of one network end in the other. The kernel allows that only if they differ in something else (lower interface, family), which peers do not see.",
        see: "ip -d link show type vxlan",
        fix: "remove the one that is left over (an overlay that was replaced), or give one another VNI",
        source: VXLAN,
        run: vxlan_clash,
    },
    Check {
        id: "vtep-route",
        title: "the node has a route to each peer of its tunnels",
        severity: Severity::Error,
        why: "Frames for another node's pods go to that node's address in UDP datagrams. Without a route to it they are dropped; where the route leads into a tunnel itself, they go round in a circle and are dropped, too.",
        see: "bridge fdb show dev VXLAN; ip route get PEER",
        fix: "mend the node's routes; where the peer is no node any more, restart the overlay's agent, which removes its entry",
        source: VXLAN,
        run: vtep_route,
    },
    Check {
        id: "vtep-neighbour",
        title: "tunnels know the MAC of each gateway behind them",
        severity: Severity::Error,
        why: "A route leads through a tunnel by a gateway at the other node. Its MAC is in the neighbour table: the overlay's agent (flannel and others) sets it, since the tunnel floods nothing and nobody could ask by ARP. Without the entry, packets wait and are dropped.",
        see: "ip neigh show dev VXLAN",
        fix: "restart the overlay's agent; by hand: ip neigh replace GATEWAY lladdr MAC dev VXLAN nud permanent",
        source: "https://github.com/flannel-io/flannel/blob/master/pkg/backend/vxlan/vxlan.go",
        run: vtep_neighbour,
    },
    Check {
        id: "vtep-fdb",
        title: "tunnels know at which node each MAC is",
        severity: Severity::Error,
        why: "The MAC of a gateway behind a tunnel has to be in the tunnel's forwarding database, with the address of the node where it is. Without an entry, and with nobody to flood to, the frame is dropped.",
        see: "bridge fdb show dev VXLAN",
        fix: "restart the overlay's agent; by hand: bridge fdb append MAC dev VXLAN dst NODE",
        source: "https://github.com/flannel-io/flannel/blob/master/pkg/backend/vxlan/vxlan.go",
        run: vtep_fdb,
    },
    Check {
        id: "vtep-own",
        title: "tunnels do not lead back to the node itself",
        severity: Severity::Error,
        why: "An entry of a tunnel's forwarding database has the node's own address as its destination: what is meant for another node comes back and is dropped. Two nodes with the same address, or a node that took over another one's, are the usual reasons.",
        see: "bridge fdb show dev VXLAN; ip addr",
        fix: "bridge fdb del MAC dev VXLAN dst ADDRESS; then look at which node the overlay believes to be at this address",
        source: VXLAN,
        run: vtep_own,
    },
    Check {
        id: "vxlan-checksum",
        title: "the kernel computes checksums of masqueraded datagrams in tunnels right",
        severity: Severity::Notice,
        why: "Before Linux 5.7 (5.6.13, 5.4.41, 4.19.123, 4.14.181; distributions have mended others), masquerading a VXLAN packet whose outer UDP checksum is 0 writes a wrong one into it, if the device leaves checksums to hardware that is not there: each first packet to a service is lost, and connections take 1, 3, 7 or 63 seconds.",
        see: "ethtool -k VXLAN | grep tx-checksum-ip-generic; nstat -az UdpInCsumErrors on the other node",
        fix: "a newer kernel; else ethtool -K VXLAN tx-checksum-ip-generic off, which costs half the throughput",
        source: "https://github.com/kubernetes/kubernetes/issues/88986",
        run: vxlan_checksum,
    },
];

pub(super) fn tunnels<'a>(ground: &Ground<'a>) -> Vec<&'a Link> {
    ground.links().filter(|link| link.vxlan.is_some()).collect()
}

/// Those that work: what does not is told of once.
fn working<'a>(ground: &Ground<'a>) -> Vec<&'a Link> {
    let is_on = |link: &&Link| {
        let lower = link.vxlan.and_then(|vxlan| vxlan.lower).and_then(|lower| ground.link(lower));
        link.up && lower.is_none_or(|lower| lower.up)
    };
    tunnels(ground).into_iter().filter(is_on).collect()
}

fn vxlan_down(ground: &Ground<'_>, findings: &mut Findings) {
    for tunnel in tunnels(ground) {
        let lower = tunnel.vxlan.and_then(|vxlan| vxlan.lower).and_then(|lower| ground.link(lower));
        // Why it cannot be up is another check's.
        if !tunnel.up && !super::udp_port::is_taken(ground, tunnel) {
            findings.add(
                tunnel.name.clone(),
                "is down: nothing goes to pods of other nodes by it",
                format!("ip link set {} up, and restart the overlay's agent", tunnel.name),
            );
        } else if let Some(lower) = lower.filter(|lower| tunnel.up && !lower.up) {
            findings.add(
                tunnel.name.clone(),
                format!("is on {}, which is down", lower.name),
                format!("ip link set {} up", lower.name),
            );
        }
    }
}

fn vxlan_source(ground: &Ground<'_>, findings: &mut Findings) {
    for tunnel in working(ground) {
        let local = tunnel.vxlan.and_then(|vxlan| vxlan.local).filter(|local| !local.is_unspecified());
        if let Some(local) = local.filter(|local| !ground.is_hosts(*local)) {
            findings.add(
                tunnel.name.clone(),
                format!("sends from {local}, which no interface of the node has"),
                "restart the overlay's agent, so that it makes the tunnel with the node's address",
            );
        }
    }
}

fn vxlan_clash(ground: &Ground<'_>, findings: &mut Findings) {
    let tunnels = tunnels(ground);
    for (at, tunnel) in tunnels.iter().enumerate() {
        let same = |other: &&&Link| match (other.vxlan, tunnel.vxlan) {
            (Some(other), Some(own)) => (other.id, other.port) == (own.id, own.port),
            _ => false,
        };
        if let (Some(other), Some(own)) = (tunnels[at + 1..].iter().find(same), tunnel.vxlan) {
            findings.add(
                tunnel.name.clone(),
                format!("has VNI {} and port {}, and so has {}", own.id, own.port, other.name),
                "remove the one that is left over, or give one another VNI",
            );
        }
    }
}

fn vtep_route(ground: &Ground<'_>, findings: &mut Findings) {
    if ground.stack(findings).is_none() {
        return;
    }
    for tunnel in working(ground) {
        for remote in remotes(ground, tunnel).into_iter().filter(|remote| !ground.is_hosts(*remote)) {
            let way = ground.way(remote);
            let what = match way {
                Way::Unsure => {
                    findings.blind("routing rules decide that say more than a snapshot does");
                    continue;
                }
                Way::Nowhere => "no route leads there".to_owned(),
                Way::Route(_) if way.devices().contains(&tunnel.index) => {
                    format!("the route there leads into {} itself", tunnel.name)
                }
                Way::Route(_) => continue,
            };
            findings.add(
                format!("{remote} of {}", tunnel.name),
                format!("{what}: pods at that node are out of reach"),
                format!("ip route get {remote}; mend the node's routes"),
            );
        }
    }
}

/// Whether a tunnel sends what it has no entry for to somebody, so that neighbours can be asked.
fn floods(ground: &Ground<'_>, tunnel: &Link) -> bool {
    let has_group =
        tunnel.vxlan.is_some_and(|vxlan| vxlan.group.is_some_and(|group| !group.is_unspecified()));
    let entries = &ground.snapshot.stack.fdb;
    has_group
        || entries
            .iter()
            .any(|entry| entry.device == tunnel.index && entry.mac.0 == [0; 6] && entry.remote.is_some())
}

/// The gateways behind tunnels that flood nothing, each with its neighbour entry's MAC.
fn gateways<'a>(ground: &Ground<'a>) -> Vec<(&'a Link, std::net::IpAddr, Option<model::MacAddr>)> {
    const NUD_FAILED: u16 = 0x20;
    let stack = &ground.snapshot.stack;
    let mut gateways = Vec::new();
    for tunnel in working(ground).into_iter().filter(|tunnel| !floods(ground, tunnel)) {
        let routes = stack.routes.iter().filter(|route| route.device == Some(tunnel.index));
        for gateway in routes.filter_map(|route| route.gateway) {
            let mut entries = stack.neighbours.iter().filter(|entry| entry.device == tunnel.index);
            let entry = entries.find(|entry| entry.address == gateway && entry.state & NUD_FAILED == 0);
            let one = (tunnel, gateway, entry.and_then(|entry| entry.mac));
            if !gateways.contains(&one) {
                gateways.push(one);
            }
        }
    }
    gateways
}

fn vtep_neighbour(ground: &Ground<'_>, findings: &mut Findings) {
    if ground.stack(findings).is_none() {
        return;
    }
    for (tunnel, gateway, _) in gateways(ground).into_iter().filter(|(_, _, mac)| mac.is_none()) {
        findings.add(
            format!("{gateway} of {}", tunnel.name),
            "a route leads there, its MAC is not known, and the tunnel floods nothing by which it could be asked for",
            format!("restart the overlay's agent, or ip neigh replace {gateway} lladdr MAC dev {} nud permanent", tunnel.name),
        );
    }
}

fn vtep_fdb(ground: &Ground<'_>, findings: &mut Findings) {
    if ground.stack(findings).is_none() {
        return;
    }
    for (tunnel, gateway, mac) in gateways(ground) {
        let Some(mac) = mac else { continue };
        let mut entries = ground.snapshot.stack.fdb.iter().filter(|entry| entry.device == tunnel.index);
        if !entries.any(|entry| entry.mac == mac && entry.remote.is_some()) {
            findings.add(
                format!("{mac} of {}", tunnel.name),
                format!("the gateway {gateway} has it, and the tunnel does not know at which node that is"),
                format!(
                    "restart the overlay's agent, or bridge fdb append {mac} dev {} dst NODE",
                    tunnel.name
                ),
            );
        }
    }
}

fn vtep_own(ground: &Ground<'_>, findings: &mut Findings) {
    if ground.stack(findings).is_none() {
        return;
    }
    for tunnel in working(ground) {
        for remote in remotes(ground, tunnel).into_iter().filter(|remote| ground.is_hosts(*remote)) {
            findings.add(
                format!("{remote} of {}", tunnel.name),
                "the tunnel leads there, and it is the node's own address",
                format!("bridge fdb show dev {} | grep {remote}, and remove that entry", tunnel.name),
            );
        }
    }
}

fn vxlan_checksum(ground: &Ground<'_>, findings: &mut Findings) {
    let tunnels = tunnels(ground);
    if tunnels.is_empty() {
        return;
    }
    let kernel = &ground.snapshot.node.kernel;
    let mut numbers =
        kernel.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        findings.blind("the kernel's version cannot be read");
        return;
    };
    let release = [major, minor, numbers.next().unwrap_or(0)];
    let is_mended = release >= [5, 7, 0]
        || CHECKSUMS_MENDED.iter().any(|mended| mended[..2] == release[..2] && release >= *mended);
    if is_mended {
        return;
    }
    for tunnel in tunnels {
        match tunnel.vxlan.and_then(|vxlan| vxlan.tx_checksum) {
            Some(true) => findings.add(
                tunnel.name.clone(),
                format!("leaves checksums to hardware, on Linux {kernel}: masqueraded datagrams in it may have wrong ones (unless the distribution has mended it)"),
                format!("ethtool -K {} tx-checksum-ip-generic off, or a newer kernel", tunnel.name),
            ),
            Some(false) => {}
            None => findings.blind(format!("whether {} leaves checksums to hardware is not known", tunnel.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{IfIndex, Snapshot};

    use super::super::testing::*;

    #[test]
    fn a_tunnel_that_is_down_or_on_something_that_is_down() {
        only(&["vxlan-down"], |s| of_host(s, TUNNEL).up = false);
        assert_eq!(found("vxlan-down", |s| of_host(s, UPLINK).up = false), ["vxlan1"]);
    }

    #[test]
    fn a_tunnel_sends_from_an_address_of_the_node() {
        only(&["vxlan-source"], |s| of_host(s, UPLINK).addresses = vec!["192.0.2.99/24".parse().unwrap()]);
    }

    #[test]
    fn two_tunnels_of_the_same_network() {
        only(&["vxlan-clash"], |s| {
            let mut second = of_host(s, TUNNEL).clone();
            (second.index, second.name) = (IfIndex(50), "old".into());
            second.addresses.clear();
            s.namespaces[0].links.push(second);
        });
    }

    #[test]
    fn each_peer_needs_a_route_a_neighbour_and_an_entry() {
        let no_route = |s: &mut Snapshot| {
            s.stack.fdb[0].remote = Some(ip("198.51.100.1"));
            s.stack.routes.remove(0);
        };
        only(&["vtep-route"], no_route);
        let round = |s: &mut Snapshot| s.stack.fdb[0].remote = Some(ip("10.244.1.7"));
        assert_eq!(found("vtep-route", round), ["10.244.1.7 of vxlan1"]);
        only(&["vtep-neighbour"], |s| s.stack.neighbours.clear());
        only(&["vtep-fdb"], |s| s.stack.fdb.clear());
        // One that floods can be asked.
        let flood = |s: &mut Snapshot| {
            s.stack.neighbours.clear();
            s.stack.fdb[0].mac = model::MacAddr([0; 6]);
        };
        only(&[], flood);
        only(&["vtep-own"], |s| s.stack.fdb[0].remote = Some(ip("192.0.2.10")));
        for check in ["vtep-route", "vtep-neighbour", "vtep-fdb", "vtep-own"] {
            assert!(is_blind(check, |s| s.stack.sysctls.clear()));
        }
    }

    #[test]
    fn old_kernels_compute_wrong_checksums() {
        only(&["vxlan-checksum"], |s| s.node.kernel = "5.4.0-42-generic".into());
        for mended in ["5.15.0", "5.4.41", "4.19.200-generic", "6.1"] {
            assert_eq!(found("vxlan-checksum", |s| s.node.kernel = mended.into()), [""; 0]);
        }
        assert!(is_blind("vxlan-checksum", |s| s.node.kernel = "?".into()));
        let on_old = |tx_checksum| {
            move |s: &mut Snapshot| {
                s.node.kernel = "4.19.0".into();
                of_host(s, TUNNEL).vxlan.as_mut().unwrap().tx_checksum = tx_checksum;
            }
        };
        only(&[], on_old(Some(false)));
        assert!(is_blind("vxlan-checksum", on_old(None)));
        let on_new = |s: &mut Snapshot| of_host(s, TUNNEL).vxlan.as_mut().unwrap().tx_checksum = None;
        assert!(!is_blind("vxlan-checksum", on_new));
    }
}
