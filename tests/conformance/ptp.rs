//! ptp and loopback: pods without a bridge.

use podplumb_tests::run;
use serde_json::{Value, json};

use crate::case::Case;
use crate::node::{NODE, NODE_6, Node, OUTSIDE, OUTSIDE_6, addresses, inside};
use crate::peer::Protocol::{Tcp, Udp};
use crate::peer::{Listener, assert_answer, assert_reaches};
use crate::setup::pool;

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, run: fn(&Node)| Case::new(format!("ptp: {name}"), &["ptp", "host-local"], &[], run);
    vec![
        case("the result names host end and container end", the_result_names_the_interfaces),
        case("pods reach each other and the node", pods_reach_each_other),
        case("ipMasq masquerades what goes outside", masquerade),
        case("without ipMasq the outside sees the pod", without_masquerade),
        case("mtu is that of both ends", mtu),
        case("dns is passed on", dns),
        Case::new("loopback: lo is up", &["loopback"], &[], loopback_is_up),
        Case::new("loopback: CHECK finds lo down", &["loopback"], &[], loopback_check),
    ]
}

fn ptp(options: Value) -> Value {
    let mut config = json!({ "type": "ptp", "ipam": pool() });
    for (key, value) in options.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config
}

fn the_result_names_the_interfaces(node: &Node) {
    let result = node.network(&[ptp(json!({}))]).add("a");
    let ends: Vec<&Value> = result["interfaces"].as_array().expect("interfaces").iter().collect();
    let host = ends.iter().find(|end| end["sandbox"].as_str().unwrap_or_default().is_empty());
    let host = host.expect("a host end")["name"].as_str().expect("a name");
    run("ip", &["link", "show", host]);
    let own = result["ips"][0]["interface"].as_u64().expect("an index") as usize;
    assert_eq!((&ends[own]["name"], &ends[own]["sandbox"]), (&json!("eth0"), &json!("/run/netns/a")));
}

fn pods_reach_each_other(node: &Node) {
    let network = node.network(&[ptp(json!({}))]);
    let (a, b) = (addresses(&network.add("a")), addresses(&network.add("b")));
    let (_b, _node) = (Listener::start("b", 80), Listener::start("", 81));
    for (own, other, gateway) in [(&a[0], &b[0], "10.66.0.1"), (&a[1], &b[1], "fd66::1")] {
        for protocol in [Tcp, Udp] {
            assert_answer("a", protocol, other, 80, &format!("b sees {own}"));
            assert_reaches("a", protocol, gateway, 81, "");
        }
        assert_reaches("", Tcp, other, 80, "b");
    }
}

fn masquerade(node: &Node) {
    node.outside();
    let network = node.network(&[ptp(json!({ "ipMasq": true }))]);
    let (a, b) = (addresses(&network.add("a")), addresses(&network.add("b")));
    let (_outside, _b) = (Listener::start("outside", 80), Listener::start("b", 80));
    for protocol in [Tcp, Udp] {
        assert_answer("a", protocol, OUTSIDE, 80, &format!("outside sees {NODE}"));
        assert_answer("a", protocol, OUTSIDE_6, 80, &format!("outside sees {NODE_6}"));
    }
    assert_answer("a", Tcp, &b[0], 80, &format!("b sees {}", a[0]));
}

fn without_masquerade(node: &Node) {
    node.outside_with_routes();
    let a = addresses(&node.network(&[ptp(json!({}))]).add("a"));
    let _outside = Listener::start("outside", 80);
    assert_answer("a", Tcp, OUTSIDE, 80, &format!("outside sees {}", a[0]));
    assert_answer("a", Tcp, OUTSIDE_6, 80, &format!("outside sees {}", a[1]));
}

fn mtu(node: &Node) {
    node.network(&[ptp(json!({ "mtu": 1400 }))]).add("a");
    assert!(inside("a", "ip link show eth0").contains("mtu 1400"));
    let veths = run("ip", &["-o", "link", "show", "type", "veth"]);
    assert!(veths.contains("mtu 1400"), "{veths}");
}

fn dns(node: &Node) {
    let dns = json!({ "nameservers": ["10.66.0.53"], "search": ["example.org"] });
    let result = node.network(&[ptp(json!({ "dns": dns }))]).add("a");
    assert_eq!(result["dns"], dns, "{result:#}");
}

fn loopback_is_up(node: &Node) {
    node.network(&[json!({ "type": "loopback" })]).add("a");
    let link = inside("a", "ip addr show lo");
    assert!(
        link.contains("LOOPBACK,UP") && link.contains("127.0.0.1/8") && link.contains("::1/128"),
        "{link}"
    );
}

fn loopback_check(node: &Node) {
    let network = node.network(&[json!({ "type": "loopback" })]);
    let result = network.add("a");
    assert!(network.is_fine("a", &result));
    inside("a", "ip link set lo down");
    assert!(!network.is_fine("a", &result));
}
