//! portmap: ports of the node that lead into pods.

use std::net::{SocketAddr, UdpSocket};

use podplumb_tests::run;
use serde_json::{Value, json};

use crate::case::Case;
use crate::node::{NODE, NODE_6, Network, Node, OUTSIDE, addresses, inside};
use crate::peer::Protocol::{Tcp, Udp};
use crate::peer::{Listener, ask_by_udp, assert_answer, assert_reaches, assert_silence, at};
use crate::setup::{plain_bridge, pool, pool_4};

pub(crate) fn cases() -> Vec<Case> {
    let plugins = &["bridge", "host-local", "portmap"];
    let case = |name, run: fn(&Node)| Case::new(format!("portmap: {name}"), plugins, &[], run);
    vec![
        case("a mapped port is reached from outside, with the client's address", from_outside),
        case("from the node by its own address", from_the_node),
        case("from localhost", from_localhost),
        case("from the pod itself by the node's address", from_the_pod_itself),
        case("from another pod by the node's address", from_another_pod),
        case("UDP", by_udp),
        case("SCTP is accepted", sctp),
        case("IPv6", by_ipv6),
        case("IPv6 from the node by its own address", by_ipv6_from_the_node),
        case("hostIP limits it to one address", host_ip),
        case("hostIP 0.0.0.0 is every IPv4 address", unspecified_host_ip),
        case("two pods with the same port on two addresses", same_port_on_two_addresses),
        case("a port that is not mapped is not reached", unmapped),
        case("other ports of the node still work", ports_of_the_node),
        case("snat false keeps every client's address", without_snat),
        case("masqAll hides every client's address", masquerade_all),
        case("conditionsV4 limits who is served", conditions),
        case("conditionsV4 of every kind", conditions_of_every_kind),
        case("conditionsV6", conditions_of_ipv6),
        case("conditions that nobody knows are refused", unknown_conditions),
        case("markMasqBit", mark_bit),
        case("without port mappings nothing happens", no_mappings),
        case("a wrong port is refused", wrong_ports),
        case("CHECK of both families is content", check_of_both_families),
        case("CHECK finds missing rules", check_finds_missing_rules),
        case("DEL ends it and leaves nothing", del_ends_it),
        case("DEL without runtimeConfig leaves nothing", del_without_runtime),
        case("a DEL leaves the other pod's ports alone", del_leaves_others),
        case("UDP clients of before follow to the pod", stale_udp),
        case("UDP clients follow to the next pod", stale_udp_of_a_pod),
    ]
}

fn mappings(list: Value) -> Value {
    json!({ "type": "portmap", "capabilities": { "portMappings": true }, "runtimeConfig": { "portMappings": list } })
}

fn tcp() -> Value {
    json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }])
}

fn udp() -> Value {
    json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "udp" }])
}

fn network(node: &Node, portmap: Value) -> Network {
    node.network(&[plain_bridge(pool()), portmap])
}

/// One more option for the mapping of a TCP port.
fn with(node: &Node, key: &str, value: Value) -> Network {
    let mut config = mappings(tcp());
    config[key] = value;
    network(node, config)
}

fn from_outside(node: &Node) {
    node.outside();
    network(node, mappings(tcp())).add("a");
    let _a = Listener::start("a", 80);
    assert_answer("outside", Tcp, NODE, 8080, &format!("a sees {OUTSIDE}"));
}

fn from_the_node(node: &Node) {
    node.outside();
    network(node, mappings(tcp())).add("a");
    let _a = Listener::start("a", 80);
    assert_reaches("", Tcp, NODE, 8080, "a");
    assert_reaches("", Tcp, "10.66.0.1", 8080, "a");
}

fn from_localhost(node: &Node) {
    network(node, mappings(tcp())).add("a");
    let _a = Listener::start("a", 80);
    assert_reaches("", Tcp, "127.0.0.1", 8080, "a");
}

fn from_the_pod_itself(node: &Node) {
    node.outside();
    let mut bridge = plain_bridge(pool());
    bridge["hairpinMode"] = true.into();
    node.network(&[bridge, mappings(tcp())]).add("a");
    let _a = Listener::start("a", 80);
    assert_reaches("a", Tcp, NODE, 8080, "a");
}

fn from_another_pod(node: &Node) {
    node.outside();
    network(node, mappings(tcp())).add("a");
    node.network(&[plain_bridge(pool())]).add("b");
    let _a = Listener::start("a", 80);
    assert_reaches("b", Tcp, NODE, 8080, "a");
}

fn by_udp(node: &Node) {
    node.outside();
    network(node, mappings(udp())).add("a");
    let _a = Listener::start("a", 80);
    assert_answer("outside", Udp, NODE, 8080, &format!("a sees {OUTSIDE}"));
    assert_reaches("", Udp, NODE, 8080, "a");
    assert_silence("outside", Tcp, NODE, 8080);
}

fn sctp(node: &Node) {
    let list = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "sctp" }]);
    let network = network(node, mappings(list));
    let result = network.add("a");
    network.del("a", &result);
}

fn by_ipv6(node: &Node) {
    node.outside();
    network(node, mappings(tcp())).add("a");
    let _a = Listener::start("a", 80);
    assert_reaches("outside", Tcp, NODE_6, 8080, "a");
}

fn by_ipv6_from_the_node(node: &Node) {
    node.outside();
    network(node, mappings(tcp())).add("a");
    let _a = Listener::start("a", 80);
    assert_reaches("", Tcp, NODE_6, 8080, "a");
}

/// The node gets a second address.
fn second_address(node: &Node) -> &'static str {
    node.outside();
    run("ip", &["addr", "add", "192.0.2.9/24", "dev", "uplink"]);
    "192.0.2.9"
}

fn host_ip(node: &Node) {
    let second = second_address(node);
    let list = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": NODE }]);
    network(node, mappings(list)).add("a");
    let _a = Listener::start("a", 80);
    assert_reaches("outside", Tcp, NODE, 8080, "a");
    assert_silence("outside", Tcp, second, 8080);
    assert_silence("outside", Tcp, NODE_6, 8080);
}

fn unspecified_host_ip(node: &Node) {
    let second = second_address(node);
    let list = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "0.0.0.0" }]);
    network(node, mappings(list)).add("a");
    let _a = Listener::start("a", 80);
    assert_reaches("outside", Tcp, NODE, 8080, "a");
    assert_reaches("outside", Tcp, second, 8080, "a");
}

fn same_port_on_two_addresses(node: &Node) {
    let second = second_address(node);
    let on = |ip: &str| json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ip }]);
    network(node, mappings(on(NODE))).add("a");
    network(node, mappings(on(second))).add("b");
    let (_a, _b) = (Listener::start("a", 80), Listener::start("b", 80));
    assert_reaches("outside", Tcp, NODE, 8080, "a");
    assert_reaches("outside", Tcp, second, 8080, "b");
}

fn unmapped(node: &Node) {
    node.outside();
    network(node, mappings(tcp())).add("a");
    let _a = Listener::start("a", 80);
    assert_reaches("outside", Tcp, NODE, 8080, "a");
    assert_silence("outside", Tcp, NODE, 80);
    assert_silence("outside", Tcp, NODE, 8081);
}

fn ports_of_the_node(node: &Node) {
    node.outside_with_routes();
    let result = network(node, mappings(tcp())).add("a");
    let (_a, _node) = (Listener::start("a", 80), Listener::start("", 81));
    assert_reaches("outside", Tcp, NODE, 81, "");
    assert_reaches("a", Tcp, "10.66.0.1", 81, "");
    // A connection to port 8080 of somebody else is not one to the node.
    let _outside = Listener::start("outside", 8080);
    assert_reaches("a", Tcp, OUTSIDE, 8080, "outside");
    assert_reaches("outside", Tcp, &addresses(&result)[0], 80, "a");
}

fn without_snat(node: &Node) {
    node.outside();
    with(node, "snat", false.into()).add("a");
    let _a = Listener::start("a", 80);
    assert_answer("outside", Tcp, NODE, 8080, &format!("a sees {OUTSIDE}"));
    // Without it, packets from localhost have a source that the pod cannot answer.
    assert_silence("", Tcp, "127.0.0.1", 8080);
}

fn masquerade_all(node: &Node) {
    node.outside();
    with(node, "masqAll", true.into()).add("a");
    let _a = Listener::start("a", 80);
    assert_answer("outside", Tcp, NODE, 8080, "a sees 10.66.0.1");
}

fn conditions(node: &Node) {
    node.outside();
    inside("outside", "ip addr add 192.0.2.3/24 dev eth0");
    with(node, "conditionsV4", json!(["-s", "192.0.2.2/32"])).add("a");
    let _a = Listener::start("a", 80);
    assert_reaches("outside", Tcp, NODE, 8080, "a");
    inside("outside", "ip addr del 192.0.2.2/24 dev eth0");
    inside("outside", "ip addr replace 192.0.2.3/24 dev eth0");
    assert_silence("outside", Tcp, NODE, 8080);
}

/// Adds a pod under these conditions, and asks it from outside, where every packet has the mark 7.
fn assert_conditions(node: &Node, key: &str, to: &str, all: &[(&str, bool)]) {
    node.outside();
    run("nft", &["add", "table", "inet", "marks"]);
    run("nft", &["add", "chain", "inet", "marks", "c", "{ type filter hook prerouting priority -150; }"]);
    run("nft", &["add", "rule", "inet", "marks", "c", "meta mark set 7"]);
    for (words, is_reached) in all {
        let words: Vec<&str> = words.split_whitespace().collect();
        let network = with(node, key, json!(words));
        let result = network.add("a");
        let a = Listener::start("a", 80);
        if *is_reached {
            assert_reaches("outside", Tcp, to, 8080, "a");
        } else {
            assert_silence("outside", Tcp, to, 8080);
        }
        drop(a);
        network.del("a", &result);
        run("ip", &["netns", "del", "a"]);
    }
}

fn conditions_of_every_kind(node: &Node) {
    let all = [
        ("-i up+", true),
        ("! -i uplink", false),
        ("-m conntrack --ctstate NEW,ESTABLISHED", true),
        ("-m conntrack ! --ctstate NEW", false),
        ("-m addrtype --dst-type LOCAL", true),
        ("-m addrtype --src-type LOCAL,MULTICAST", false),
        ("-m mark --mark 0x7", true),
        ("-m mark --mark 0x1/0x3", false),
        ("-m mark ! --mark 0x8/0x8", true),
        ("-m tcp --sport 1024:", true),
        ("-m tcp ! --sport 1024:65535", false),
        ("-m multiport --dports 53,8000:8100", true),
        ("-m multiport ! --dports 53,8000:8100", false),
        ("-m multiport --sports 1:1023,1024:65535", true),
        ("! -s 192.0.2.3 ! -d 192.0.2.4", true),
    ];
    assert_conditions(node, "conditionsV4", NODE, &all);
}

fn conditions_of_ipv6(node: &Node) {
    let all =
        [("-i uplink -s ::/0", true), ("! -d ::/1 ! -i lo", false), ("-m addrtype --dst-type LOCAL", true)];
    assert_conditions(node, "conditionsV6", NODE_6, &all);
}

fn unknown_conditions(node: &Node) {
    let answer = with(node, "conditionsV4", json!(["--no-such-word", "7"])).try_add("a");
    assert!(!answer.ok && answer.code() > 0, "{:#}", answer.json);
    assert!(answer.json.to_string().contains("--no-such-word"), "it is named: {:#}", answer.json);
}

fn mark_bit(node: &Node) {
    with(node, "markMasqBit", 5.into()).add("a");
    let _a = Listener::start("a", 80);
    assert_reaches("", Tcp, "127.0.0.1", 8080, "a");
    assert!(!with(node, "markMasqBit", 32.into()).try_add("b").ok, "a mark has 32 bits");
}

fn no_mappings(node: &Node) {
    let network = network(node, json!({ "type": "portmap", "capabilities": { "portMappings": true } }));
    let result = network.add("a");
    assert_eq!(addresses(&result).len(), 2, "the previous result is passed on");
    assert!(network.is_fine("a", &result));
    network.del("a", &result);
}

fn wrong_ports(node: &Node) {
    for port in [0, 65536] {
        let list = json!([{ "hostPort": port, "containerPort": 80, "protocol": "tcp" }]);
        let is_zero = port == 0;
        let answer = network(node, mappings(list)).try_add("a");
        // Kubernetes means "no host port" by 0, and older runtimes pass it.
        assert!(is_zero || !answer.ok, "{port}: {:#}", answer.json);
        run("ip", &["netns", "del", "a"]);
    }
    let network = node.network(&[mappings(tcp())]);
    let alone = network.try_add("b");
    assert!(!alone.ok && alone.code() > 0, "there is no previous result: {:#}", alone.json);
}

fn check_of_both_families(node: &Node) {
    let network = network(node, mappings(tcp()));
    let result = network.add("a");
    for at in 0..2 {
        let answer = network.call(at, "CHECK", "a", &result);
        assert!(answer.ok, "{:#}", answer.json);
    }
}

fn check_finds_missing_rules(node: &Node) {
    let network = node.network(&[plain_bridge(pool_4()), mappings(tcp())]);
    let result = network.add("a");
    assert!(network.is_fine("a", &result));
    run("nft", &["flush", "ruleset"]);
    assert!(!network.is_fine("a", &result));
}

fn del_ends_it(node: &Node) {
    node.outside();
    let network = network(node, mappings(tcp()));
    let first = network.add("first");
    network.del("first", &first);
    let before = node.traces();
    let result = network.add("a");
    let _a = Listener::start("a", 80);
    assert_reaches("outside", Tcp, NODE, 8080, "a");
    let answer = network.call(1, "DEL", "a", &result);
    assert!(answer.ok, "{:#}", answer.json);
    assert_silence("outside", Tcp, NODE, 8080);
    network.del("a", &result);
    node.assert_nothing_since(&before, "DEL");
}

fn del_without_runtime(node: &Node) {
    let full = network(node, mappings(tcp()));
    let first = full.add("first");
    full.del("first", &first);
    let before = node.traces();
    let result = full.add("a");
    let bare = network(node, json!({ "type": "portmap", "capabilities": { "portMappings": true } }));
    bare.del("a", &result);
    node.assert_nothing_since(&before, "DEL");
}

fn del_leaves_others(node: &Node) {
    node.outside();
    let other = json!([{ "hostPort": 8081, "containerPort": 80, "protocol": "tcp" }]);
    let (gone, kept) = (network(node, mappings(tcp())), network(node, mappings(other)));
    let result = gone.add("gone");
    kept.add("kept");
    let _kept = Listener::start("kept", 80);
    gone.del("gone", &result);
    assert_reaches("outside", Tcp, NODE, 8081, "kept");
    assert_reaches("", Tcp, "127.0.0.1", 8081, "kept");
}

/// A client that sends all the time keeps the node's memory of where its packets go.
fn client() -> UdpSocket {
    at("outside", || UdpSocket::bind("0.0.0.0:5000").expect("a port"))
}

fn node_port() -> SocketAddr {
    format!("{NODE}:8080").parse().expect("an address")
}

fn stale_udp(node: &Node) {
    node.outside();
    let client = client();
    // Something has to track connections, as it does on a node with pods.
    let earlier = json!([{ "hostPort": 9999, "containerPort": 80, "protocol": "udp" }]);
    network(node, mappings(earlier)).add("earlier");
    assert_eq!(ask_by_udp(&client, node_port()), None, "nobody serves it yet");
    network(node, mappings(udp())).add("a");
    let _a = Listener::start("a", 80);
    let answer = (0..5).find_map(|_| ask_by_udp(&client, node_port()));
    assert_eq!(answer.as_deref(), Some("a sees 192.0.2.2"));
}

fn stale_udp_of_a_pod(node: &Node) {
    node.outside();
    let client = client();
    let network = network(node, mappings(udp()));
    let result = network.add("a");
    let a = Listener::start("a", 80);
    assert_eq!(ask_by_udp(&client, node_port()).as_deref(), Some("a sees 192.0.2.2"));
    drop(a);
    network.del("a", &result);
    network.add("b");
    let _b = Listener::start("b", 80);
    let answer = (0..5).find_map(|_| ask_by_udp(&client, node_port()));
    assert_eq!(answer.as_deref(), Some("b sees 192.0.2.2"));
}
