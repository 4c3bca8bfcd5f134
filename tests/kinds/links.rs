//! Host interfaces of dead pods: veths without master or with both ends here, a macvlan that came back, an ifb.

use podplumb_tests::require;
use serde_json::json;

use crate::node::{Node, netns};

const NEEDS: [&str; 4] = ["ip", "nsenter", "iptables", "ping"];
const DEAD: &str = "0dead0000003";
const TWIN: &str = "0live0000003";

/// Names of the interfaces of this kind, or with this name.
fn names(node: &Node, kind: &str) -> Vec<String> {
    let links = node.run(&["ip", "-o", "link", "show", "type", kind]);
    let name = |line: &str| line.split(": ").nth(1).unwrap_or_default().split('@').next().map(str::to_owned);
    links.lines().filter_map(name).collect()
}

fn ping(node: &Node, address: &str) {
    node.run(&["ping", "-c", "1", "-W", "2", address]);
}

#[test]
fn a_veth_with_both_ends_on_the_host_goes() {
    if !require(&NEEDS) {
        return;
    }
    let node = Node::new(json!([Node::bridge()]));
    let address = node.add(TWIN, 1, &json!({}));
    let _twin = node.inhabit(&netns(1));
    let of_twin = names(&node, "veth");
    node.add(DEAD, 2, &json!({}));
    node.take_back(&netns(2));
    node.run(&["ip", "netns", "del", &netns(2)]);
    assert_eq!(names(&node, "veth").len(), 3, "both ends are here");
    let finding = node.finding(DEAD);
    assert_eq!((finding.verdict(), finding.because()), ("orphan", "namespace-gone"), "{finding:#?}");
    assert_eq!(finding.kinds(), ["veth", "lease", "cache", "rules"]);
    let reclaimed = node.reclaim();
    assert_eq!(names(&node, "veth"), of_twin, "{reclaimed}");
    ping(&node, &address);
}

#[test]
fn a_veth_that_came_back_and_is_a_port_here_stays() {
    if !require(&NEEDS) {
        return;
    }
    let node = Node::new(json!([Node::bridge()]));
    node.add(DEAD, 2, &json!({}));
    node.take_back(&netns(2));
    node.run(&["ip", "netns", "del", &netns(2)]);
    node.run(&["ip", "link", "add", "br9", "type", "bridge"]);
    node.run(&["ip", "link", "set", "eth0", "master", "br9"]);
    assert_eq!(node.finding(DEAD).because(), "used-here");
    node.reclaim_nothing();
    assert_eq!(names(&node, "veth").len(), 2);
}

#[test]
fn a_routed_veth_goes_and_its_living_twin_goes_on() {
    if !require(&NEEDS) {
        return;
    }
    let node = Node::new(json!([{ "type": "ptp", "ipMasq": true, "ipam": Node::ipam() }]));
    let address = node.add(TWIN, 1, &json!({}));
    let _twin = node.inhabit(&netns(1));
    let (of_twin, routes) = (names(&node, "veth"), node.run(&["ip", "route"]));
    node.add(DEAD, 2, &json!({}));
    let finding = node.finding(DEAD);
    assert_eq!((finding.verdict(), finding.because()), ("orphan", "pinned-only"), "{finding:#?}");
    assert_eq!(finding.kinds(), ["namespace", "veth", "lease", "cache", "rules"]);
    assert_eq!(node.finding(TWIN).because(), "task", "no master, and in use");
    let reclaimed = node.reclaim();
    assert_eq!((names(&node, "veth"), node.run(&["ip", "route"])), (of_twin, routes), "{reclaimed}");
    ping(&node, &address);
}

#[test]
fn a_macvlan_that_came_back_to_the_host_goes() {
    if !require(&NEEDS) {
        return;
    }
    let node = Node::new(json!([{ "type": "macvlan", "master": "up0", "ipam": Node::ipam() }]));
    node.run(&["ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1"]);
    node.run(&["ip", "link", "set", "up0", "up"]);
    node.add(TWIN, 1, &json!({}));
    let _twin = node.inhabit(&netns(1));
    node.add(DEAD, 2, &json!({}));
    node.take_back(&netns(2));
    node.run(&["ip", "netns", "del", &netns(2)]);
    // The operator's own.
    node.run(&["ip", "link", "add", "mine", "link", "up0", "type", "macvlan"]);
    assert_eq!(names(&node, "macvlan"), ["eth0", "mine"]);
    let finding = node.finding(DEAD);
    assert_eq!(
        (finding.verdict(), finding.kinds()),
        ("orphan", ["link", "lease", "cache"].map(str::to_owned).to_vec())
    );
    let reclaimed = node.reclaim();
    assert_eq!(names(&node, "macvlan"), ["mine"], "{reclaimed}");
    let twin = node.run(&["ip", "-n", &netns(1), "-o", "link", "show", "type", "macvlan"]);
    assert!(twin.contains("eth0"), "{twin}");
    assert_eq!(names(&node, "veth").len(), 2);
}

#[test]
fn a_dead_pods_ifb_goes_and_one_that_nothing_names_stays() {
    if !require(&NEEDS) {
        return;
    }
    let bandwidth = json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } });
    let node = Node::new(json!([Node::bridge(), bandwidth]));
    let rates = json!({ "bandwidth": {
        "ingressRate": 8_000_000, "ingressBurst": 8_000_000, "egressRate": 8_000_000, "egressBurst": 8_000_000,
    } });
    node.add(TWIN, 1, &rates);
    let _twin = node.inhabit(&netns(1));
    let of_twin = names(&node, "ifb");
    node.add(DEAD, 2, &rates);
    // The veth goes with its namespace, the ifb does not; and nobody can replay its DEL.
    node.run(&["ip", "netns", "del", &netns(2)]);
    std::fs::remove_file(format!("/var/lib/cni/results/pods-{DEAD}-eth0")).unwrap();
    assert_eq!(names(&node, "ifb").len(), 2);
    let finding = node.finding(DEAD);
    let kinds = ["link", "lease", "rules"].map(str::to_owned).to_vec();
    assert_eq!((finding.verdict(), finding.kinds()), ("orphan", kinds), "{finding:#?}");
    node.run(&["ip", "link", "add", "bwp0123456789ab", "type", "ifb"]);
    let reclaimed = node.reclaim();
    let mut left = names(&node, "ifb");
    left.retain(|name| name != "bwp0123456789ab");
    assert_eq!(left, of_twin, "{reclaimed}");
    assert_eq!(names(&node, "ifb").len(), 2, "nothing names the other's owner");
    let other = node.labelled("bwp0123456789ab").expect("a finding");
    assert_eq!((other.verdict(), other.because()), ("unknown", "untied"));
}
