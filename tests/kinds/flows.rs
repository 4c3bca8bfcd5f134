//! Connections that the kernel still leads to a dead pod's address.

use std::net::IpAddr;

use podplumb_tests::require;
use serde_json::json;

use crate::node::{Node, netns};

const NEEDS: [&str; 4] = ["ip", "nsenter", "iptables", "bash"];
const DEAD: &str = "0dead0000004";
const TWIN: &str = "0live0000004";

fn port(host: u16) -> serde_json::Value {
    json!({ "portMappings": [{ "hostPort": host, "containerPort": 80, "protocol": "udp" }] })
}

/// Addresses that translated connections of the node lead to.
fn led_to() -> Vec<IpAddr> {
    let mut socket = netlink::Socket::netfilter().unwrap();
    let flows = netlink::conntrack::translated(&mut socket, |_| true).unwrap();
    flows.into_iter().map(|flow| flow.address).collect()
}

#[test]
fn connections_to_an_address_that_nobody_has_are_forgotten() {
    if !require(&NEEDS) {
        return;
    }
    let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    let node = Node::new(json!([Node::bridge(), portmap]));
    let twin: IpAddr = node.add(TWIN, 1, &port(8081)).parse().unwrap();
    let _twin = node.inhabit(&netns(1));
    let dead: IpAddr = node.add(DEAD, 2, &port(8082)).parse().unwrap();
    for port in [8081, 8082] {
        node.run(&["bash", "-c", &format!("echo syslog > /dev/udp/{}/{port}", node.address(1))]);
    }
    let mut both = led_to();
    both.sort();
    assert_eq!(both, [twin, dead]);
    let label = format!("connections to {dead}");
    let verdict = || node.labelled(&label).map(|own| (own.verdict().to_owned(), own.because().to_owned()));
    assert_eq!(verdict(), None, "the address is on an interface");
    node.run(&["ip", "netns", "del", &netns(2)]);
    // For up to half a minute after a pod's end its last answer counts.
    node.run(&["ip", "neigh", "flush", "dev", "cni0"]);
    podplumb_tests::wait_until("the namespace is gone", || verdict().is_some());
    assert_eq!(verdict(), Some(("in-use".into(), "claimed".into())), "its lease is there");

    // The first run releases the lease and removes the port's rules, the second one finds that nobody has the address.
    let reclaimed = node.reclaim();
    assert_eq!(verdict(), Some(("orphan".into(), "nobody-has-it".into())), "{reclaimed}");
    let reclaimed = node.reclaim();
    assert_eq!(led_to(), [twin], "{reclaimed}");
    let (_, undone) = node.undo(&reclaimed);
    assert!(undone.contains("cannot be restored"), "{undone}");
}
