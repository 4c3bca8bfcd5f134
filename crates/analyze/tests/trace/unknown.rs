//! What decides about a packet and is not computed: whoever says that it arrives would not know.

use model::{Link, Served, Snapshot, TrafficFilter, VirtualService};

use super::*;

const EVERYBODY: [&str; 3] = ["10.244.1.2:80", "10.244.1.3:80", "10.244.1.4:80"];

fn filter(device: u32, ingress: bool) -> TrafficFilter {
    TrafficFilter {
        device: IfIndex(device),
        ingress,
        kind: "bpf".into(),
        name: "cil_from".into(),
        program: Some(12),
        redirect: None,
    }
}

/// Adds a filter to a node's own interface.
fn on_node(nodes: &mut [Snapshot], node: usize, filter: TrafficFilter) {
    nodes[node].stack.traffic_filters.get_or_insert_default().push(filter);
}

fn link_of(snapshot: &mut Snapshot, index: u32) -> &mut Link {
    let links = &mut snapshot.namespaces[0].links;
    links.iter_mut().find(|link| link.index == IfIndex(index)).unwrap()
}

#[test]
fn a_filter_at_each_interface_of_the_way_is_a_doubt_and_elsewhere_none() {
    let passed = [
        (0, VETH1, true, "comes in by veth1 of one"),
        (0, CNI0, true, "comes in by cni0 of one"),
        (0, VXLAN, false, "leaves by flannel.1 of one"),
        (0, ETH0, false, "leaves by eth0 of one"),
        (1, ETH0, true, "comes in by eth0 of two"),
        (1, VXLAN, true, "comes in by flannel.1 of two"),
        (1, CNI0, false, "leaves by cni0 of two"),
        (1, VETH1, false, "leaves by veth1 of two"),
    ];
    for (node, device, ingress, says) in passed {
        let mut nodes = two_nodes();
        on_node(&mut nodes, node, filter(device, ingress));
        let says = format!("what tc filter bpf cil_from (program 12) does with what {says} is not computed");
        perhaps(&ask(&nodes, "one-a", "two-a"), &says);
    }
    for (node, device, ingress) in [(0, VETH2, true), (0, VETH2, false), (1, VETH2, true)] {
        let mut nodes = two_nodes();
        on_node(&mut nodes, node, filter(device, ingress));
        arrives(&ask(&nodes, "one-a", "two-a"));
    }
}

#[test]
fn programs_of_pods_their_loopback_and_xdp_are_doubts() {
    let in_pod = |device| {
        let mut nodes = one();
        let stack = nodes[0].namespaces[1].stack.as_mut().unwrap();
        stack.traffic_filters = Some(vec![TrafficFilter { kind: "tcx".into(), ..filter(device, false) }]);
        nodes
    };
    perhaps(&ask(&in_pod(2), "one-a", "one-b"), "what tcx program 12 does with what leaves by eth0 of one-a");
    perhaps(
        &ask(&in_pod(1), "one-a", "127.0.0.1"),
        "what tcx program 12 does with what leaves by lo of one-a",
    );
    arrives(&ask(&in_pod(1), "one-a", "one-b"));
    for (program, says) in [(7, "what XDP program 7 does"), (0, "what several XDP programs does")] {
        let mut nodes = one();
        link_of(&mut nodes[0], VETH1).xdp = Some(program);
        perhaps(&ask(&nodes, "one-a", "one-b"), says);
    }
}

#[test]
fn what_came_from_another_node_may_have_met_programs_below_the_address() {
    let mut nodes = two_nodes();
    // eth0 of the second is a bond's now, and the bond has the address.
    let eth0 = link_of(&mut nodes[1], ETH0);
    let bond = Link { index: IfIndex(40), name: "bond0".into(), kind: "bond".into(), ..eth0.clone() };
    (eth0.addresses, eth0.master) = (Vec::new(), Some(bond.index));
    nodes[1].namespaces[0].links.push(bond);
    for route in &mut nodes[1].stack.routes {
        route.device = route.device.map(|device| if device == IfIndex(ETH0) { IfIndex(40) } else { device });
    }
    let found = ask(&nodes, "one-a", "two-a");
    assert!(!found.there.doubts.iter().any(|doubt| doubt.contains("is not computed")), "{found:#?}");
    on_node(&mut nodes, 1, filter(ETH0, true));
    perhaps(&ask(&nodes, "one-a", "two-a"), "comes in by eth0 of two is not computed");
}

#[test]
fn an_ifb_is_a_detour_unless_something_decides_there() {
    const IFB: u32 = 41;
    let with = |up: bool, beyond: Option<TrafficFilter>| {
        let mut nodes = one();
        let ifb = Link { up, ..link(IFB, "bwp1", "ifb", mac(0x41)) };
        nodes[0].namespaces[0].links.push(ifb);
        let redirect = Some(IfIndex(IFB));
        on_node(&mut nodes, 0, TrafficFilter { kind: "u32".into(), redirect, ..filter(VETH1, true) });
        beyond.into_iter().for_each(|filter| on_node(&mut nodes, 0, filter));
        nodes
    };
    arrives(&ask(&with(true, None), "one-a", "one-b"));
    arrives(&ask(&with(true, Some(filter(IFB, true))), "one-a", "one-b"));
    let says = "comes in by veth1 of one is not computed";
    perhaps(&ask(&with(false, None), "one-a", "one-b"), says);
    perhaps(&ask(&with(true, Some(filter(IFB, false))), "one-a", "one-b"), says);
}

#[test]
fn programs_that_nobody_could_look_for_are_a_doubt() {
    let mut nodes = one();
    nodes[0].stack.traffic_filters = None;
    perhaps(&ask(&nodes, "one-a", "one-b"), "which programs are at interfaces of one is not known");
}

#[test]
fn what_a_service_of_ipvs_takes_does_not_end_there() {
    let with = |of: Served, servers: &[&str]| {
        let mut nodes = one();
        let servers = servers.iter().map(|server| server.parse().unwrap()).collect();
        nodes[0].stack.virtual_services = vec![VirtualService { of, servers }];
        nodes
    };
    let asked = |nodes: &[Snapshot], protocol, port| {
        trace(nodes, &Question { protocol, port: Some(port), ..question("one-a", "10.244.0.1") }).unwrap()
    };
    let at = |port: u16| (std::net::Ipv4Addr::new(10, 244, 0, 1), port).into();
    let all = "10.244.1.2:80, 10.244.1.3:80, 10.244.1.4:80";
    let leads = format!("IPVS of one leads it on, to one of {all}: trace one of those");
    for served in [Served::Tcp(at(80)), Served::Tcp(at(0)), Served::Mark(0)] {
        perhaps(&asked(&with(served, &EVERYBODY), Protocol::Tcp, 80), &leads);
    }
    for served in [Served::Tcp(at(81)), Served::Udp(at(80)), Served::Sctp(at(80)), Served::Mark(1)] {
        arrives(&asked(&with(served, &EVERYBODY), Protocol::Tcp, 80));
    }
    perhaps(&asked(&with(Served::Udp(at(53)), &EVERYBODY), Protocol::Udp, 53), &leads);
    perhaps(&asked(&with(Served::Tcp(at(80)), &[]), Protocol::Tcp, 80), "IPVS of one has no server for it");
    let seven =
        ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1", "10.0.0.5:1", "10.0.0.6:1", "10.0.0.7:1"];
    perhaps(&asked(&with(Served::Tcp(at(80)), &seven), Protocol::Tcp, 80), "10.0.0.5:1, 2 more: trace one");
}
