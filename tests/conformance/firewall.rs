//! firewall: who may reach a pod.

use podplumb_tests::{output, run};
use serde_json::{Value, json};

use crate::case::Case;
use crate::node::{Network, Node, OUTSIDE, OUTSIDE_6, addresses};
use crate::peer::Protocol::{Tcp, Udp};
use crate::peer::{Listener, assert_reaches, assert_silence};
use crate::setup::pool;

pub(crate) fn cases() -> Vec<Case> {
    let plugins = &["bridge", "host-local", "firewall"];
    let case = |name, run: fn(&Node)| Case::new(format!("firewall: {name}"), plugins, &[], run);
    vec![
        case("a pod reaches outside where forwarding is dropped by default", forwarding_is_dropped),
        case("DEL takes that away again", del_takes_it_away),
        case("rules of the administrator come first", administrator),
        case("iptablesAdminChainName", administrator_chain_name),
        case("ingressPolicy open: everybody reaches everybody", open),
        case("ingressPolicy same-bridge: only pods of the same bridge", same_bridge),
        case("ingressPolicy isolated: no pod", isolated),
        case("policies let answers and the node through", policies_let_answers_through),
        case("an unknown policy is refused", unknown_policy),
        case("without a previous result it is refused", without_previous_result),
        case("the previous result is passed on", result_is_passed_on),
        case("CHECK finds missing rules", check_finds_missing_rules),
    ]
}

/// A network of its own bridge and subnet, number `number`.
fn network(node: &Node, number: u8, firewall: Value) -> Network {
    let mut ipam = pool();
    ipam["ranges"] = json!([
        [{ "subnet": format!("10.66.{number}.0/24") }], [{ "subnet": format!("fd66:0:0:{number}::/64") }],
    ]);
    let bridge =
        json!({ "type": "bridge", "bridge": format!("cni{number}"), "isGateway": true, "ipam": ipam });
    let mut config = firewall;
    config["type"] = "firewall".into();
    let mut network = node.network(&[bridge, config]);
    for plugin in &mut network.plugins {
        plugin.config["name"] = format!("pods{number}").into();
    }
    network
}

fn drop_forwarding() {
    run("iptables", &["-P", "FORWARD", "DROP"]);
    run("ip6tables", &["-P", "FORWARD", "DROP"]);
}

fn forwarding_is_dropped(node: &Node) {
    node.outside_with_routes();
    drop_forwarding();
    network(node, 0, json!({})).add("a");
    node.network(&[json!({ "type": "bridge", "bridge": "cni1", "isGateway": true, "ipam": {
        "type": "host-local", "subnet": "10.67.0.0/24", "routes": [{ "dst": "0.0.0.0/0" }],
    } })])
    .add("without");
    let _outside = Listener::start("outside", 80);
    assert_silence("without", Tcp, OUTSIDE, 80);
    for protocol in [Tcp, Udp] {
        assert_reaches("a", protocol, OUTSIDE, 80, "outside");
        assert_reaches("a", protocol, OUTSIDE_6, 80, "outside");
    }
}

fn del_takes_it_away(node: &Node) {
    node.outside_with_routes();
    drop_forwarding();
    let network = network(node, 0, json!({}));
    let first = network.add("first");
    network.del("first", &first);
    let before = node.traces();
    let result = network.add("a");
    let _outside = Listener::start("outside", 80);
    assert_reaches("a", Tcp, OUTSIDE, 80, "outside");
    let answer = network.call(1, "DEL", "a", &result);
    assert!(answer.ok, "{:#}", answer.json);
    assert_silence("a", Tcp, OUTSIDE, 80);
    network.del("a", &result);
    node.assert_nothing_since(&before, "DEL");
}

fn administrator_decides(node: &Node, chain: &str, firewall: Value) {
    node.outside_with_routes();
    drop_forwarding();
    // A chain of the administrator's, from before there were pods.
    run("iptables", &["-N", chain]);
    run("iptables", &["-A", chain, "-p", "udp", "-d", OUTSIDE, "-j", "DROP"]);
    network(node, 0, firewall).add("a");
    let _outside = Listener::start("outside", 80);
    assert_reaches("a", Tcp, OUTSIDE, 80, "outside");
    assert_silence("a", Udp, OUTSIDE, 80);
}

fn administrator(node: &Node) {
    administrator_decides(node, "CNI-ADMIN", json!({}));
}

fn administrator_chain_name(node: &Node) {
    administrator_decides(node, "OUR-RULES", json!({ "iptablesAdminChainName": "OUR-RULES" }));
}

/// Pods a and b on one bridge, c on another, all with a policy; the addresses of b.
fn three_pods(node: &Node, policy: &str) -> Vec<String> {
    node.outside_with_routes();
    let (one, two) = (
        network(node, 0, json!({ "ingressPolicy": policy })),
        network(node, 1, json!({ "ingressPolicy": policy })),
    );
    one.add("a");
    let b = one.add("b");
    two.add("c");
    addresses(&b)
}

fn open(node: &Node) {
    let b = three_pods(node, "open");
    let _b = Listener::start("b", 80);
    for address in &b {
        assert_reaches("a", Tcp, address, 80, "b");
        assert_reaches("c", Tcp, address, 80, "b");
        assert_reaches("outside", Tcp, address, 80, "b");
    }
}

fn same_bridge(node: &Node) {
    let b = three_pods(node, "same-bridge");
    let _b = Listener::start("b", 80);
    for address in &b {
        assert_reaches("a", Tcp, address, 80, "b");
        assert_silence("c", Tcp, address, 80);
    }
}

fn isolated(node: &Node) {
    let b = three_pods(node, "isolated");
    let _b = Listener::start("b", 80);
    for address in &b {
        assert_silence("a", Tcp, address, 80);
        assert_silence("c", Tcp, address, 80);
    }
}

fn policies_let_answers_through(node: &Node) {
    let b = three_pods(node, "same-bridge");
    let (_b, _outside) = (Listener::start("b", 80), Listener::start("outside", 80));
    assert_reaches("", Tcp, &b[0], 80, "b");
    assert_reaches("b", Tcp, OUTSIDE, 80, "outside");
    assert_reaches("b", Tcp, OUTSIDE_6, 80, "outside");
}

fn unknown_policy(node: &Node) {
    assert!(!network(node, 0, json!({ "ingressPolicy": "sometimes" })).try_add("a").ok);
}

fn without_previous_result(node: &Node) {
    let answer = node.network(&[json!({ "type": "firewall" })]).try_add("a");
    assert!(!answer.ok && answer.code() > 0, "{:#}", answer.json);
}

fn result_is_passed_on(node: &Node) {
    let network = network(node, 0, json!({}));
    let result = network.add("a");
    assert_eq!(addresses(&result).len(), 2);
    assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(3), "{result:#}");
}

fn check_finds_missing_rules(node: &Node) {
    drop_forwarding();
    let network = network(node, 0, json!({}));
    let result = network.add("a");
    assert!(network.is_fine("a", &result));
    // The policy stays: nobody lets pods through any more.
    for chain in ["FORWARD", "CNI-FORWARD"] {
        let _ = output("iptables", &["-F", chain]);
        let _ = output("ip6tables", &["-F", chain]);
    }
    assert!(!network.is_fine("a", &result));
}
