//! flannel: the bridge of a node whose subnet somebody else chose.

use std::path::Path;

use podplumb_tests::run;
use serde_json::{Value, json};

use crate::case::Case;
use crate::node::{NODE, Network, Node, OUTSIDE, addresses, inside};
use crate::peer::Protocol::Tcp;
use crate::peer::{Listener, assert_answer, assert_reaches};
use crate::setup::flannel_environment;

pub(crate) fn cases() -> Vec<Case> {
    let plugins = &["flannel", "bridge", "host-local"];
    let case = |name, run: fn(&Node)| Case::new(format!("flannel: {name}"), plugins, &[], run);
    vec![
        case("pods have addresses of the node's subnets, and its mtu", subnets_and_mtu),
        case("pods route to all of the network", routes_to_the_network),
        case("the bridge masquerades unless flannel does", masquerade),
        case("the bridge does not masquerade if flannel does", no_masquerade),
        case("IPv4 alone", single_stack),
        case("options of the delegate are passed on", delegate_options),
        case("another delegate", other_delegate),
        case("subnetFile", subnet_file),
        case("the delegate's configuration is kept until DEL", data_directory),
        case("DEL works without the subnet file", del_without_file),
        case("without the subnet file ADD is refused", add_without_file),
        case("a delegate with a name or with IPAM of its own network is refused", wrong_delegates),
    ]
}

fn flannel(node: &Node, options: Value) -> Network {
    let mut config = json!({ "type": "flannel", "delegate": { "isDefaultGateway": true } });
    for (key, value) in options.as_object().expect("an object") {
        config[key] = value.clone();
    }
    node.network(&[config])
}

fn environment(text: &str) {
    std::fs::create_dir_all("/run/flannel").expect("a directory");
    std::fs::write("/run/flannel/subnet.env", text).expect("a file");
}

fn subnets_and_mtu(node: &Node) {
    flannel_environment(node);
    let network = flannel(node, json!({}));
    let (a, b) = (addresses(&network.add("a")), addresses(&network.add("b")));
    assert_eq!((a, &b), (vec!["10.66.5.2".to_owned(), "fd66:0:0:5::2".to_owned()], &b));
    assert!(inside("a", "ip link show eth0").contains("mtu 1450"));
    let _b = Listener::start("b", 80);
    for address in &b {
        assert_reaches("a", Tcp, address, 80, "b");
    }
    assert!(run("ip", &["addr", "show", "cni0"]).contains("10.66.5.1/24"));
}

fn routes_to_the_network(node: &Node) {
    flannel_environment(node);
    flannel(node, json!({})).add("a");
    assert!(inside("a", "ip route").contains("10.66.0.0/16 via 10.66.5.1"));
    assert!(inside("a", "ip -6 route").contains("fd66::/48 via fd66:0:0:5::1"));
}

fn masquerade(node: &Node) {
    node.outside();
    environment(
        "FLANNEL_NETWORK=10.66.0.0/16\nFLANNEL_SUBNET=10.66.5.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n",
    );
    flannel(node, json!({})).add("a");
    let _outside = Listener::start("outside", 80);
    assert_answer("a", Tcp, OUTSIDE, 80, &format!("outside sees {NODE}"));
}

fn no_masquerade(node: &Node) {
    node.outside_with_routes();
    flannel_environment(node);
    flannel(node, json!({})).add("a");
    let _outside = Listener::start("outside", 80);
    assert_answer("a", Tcp, OUTSIDE, 80, "outside sees 10.66.5.2");
}

fn single_stack(node: &Node) {
    environment(
        "FLANNEL_NETWORK=10.66.0.0/16\nFLANNEL_SUBNET=10.66.5.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n",
    );
    assert_eq!(addresses(&flannel(node, json!({})).add("a")), ["10.66.5.2"]);
}

fn delegate_options(node: &Node) {
    flannel_environment(node);
    let delegate =
        json!({ "bridge": "mybridge", "hairpinMode": true, "mtu": 1300, "isDefaultGateway": true });
    let result = flannel(node, json!({ "delegate": delegate })).add("a");
    let host = result["interfaces"][1]["name"].as_str().expect("a host end");
    let port = run("bridge", &["-d", "link", "show", "dev", host]);
    assert!(port.contains("master mybridge") && port.contains("hairpin on"), "{port}");
    assert!(inside("a", "ip link show eth0").contains("mtu 1300"));
}

fn other_delegate(node: &Node) {
    if !node.directory.join("ptp").exists() {
        return;
    }
    flannel_environment(node);
    let network = flannel(node, json!({ "delegate": { "type": "ptp" } }));
    let result = network.add("a");
    assert_eq!(addresses(&result)[0], "10.66.5.2");
    assert!(!run("ip", &["-o", "link"]).contains("cni0"));
    network.del("a", &result);
}

fn subnet_file(node: &Node) {
    let file = node.world.path().join("other.env");
    std::fs::write(
        &file,
        "FLANNEL_NETWORK=10.66.0.0/16\nFLANNEL_SUBNET=10.66.9.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n",
    )
    .expect("a file");
    assert_eq!(addresses(&flannel(node, json!({ "subnetFile": file })).add("a")), ["10.66.9.2"]);
}

fn data_directory(node: &Node) {
    flannel_environment(node);
    for directory in [Path::new("/var/lib/cni/flannel").to_owned(), node.world.path().join("flannel")] {
        let network = flannel(node, json!({ "dataDir": directory }));
        let result = network.add("a");
        let text = std::fs::read_to_string(directory.join("a")).expect("the delegate's configuration");
        let saved: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&saved["type"], &saved["mtu"]), (&json!("bridge"), &json!(1450)), "{saved:#}");
        network.del("a", &result);
        assert!(!directory.join("a").exists());
    }
}

fn del_without_file(node: &Node) {
    flannel_environment(node);
    let network = flannel(node, json!({}));
    let first = network.add("first");
    network.del("first", &first);
    let before = node.traces();
    let result = network.add("a");
    std::fs::remove_file("/run/flannel/subnet.env").expect("a file");
    network.del("a", &result);
    network.del("a", &result);
    node.assert_nothing_since(&before, "DEL");
}

fn add_without_file(node: &Node) {
    let answer = flannel(node, json!({})).try_add("a");
    assert!(!answer.ok && answer.code() > 0, "{:#}", answer.json);
    environment("FLANNEL_NETWORK=10.66.0.0/16\n");
    assert!(!flannel(node, json!({})).try_add("b").ok, "it says no subnet");
}

fn wrong_delegates(node: &Node) {
    flannel_environment(node);
    for delegate in [json!({ "name": "mine" }), json!({ "ipam": "mine" })] {
        let answer = flannel(node, json!({ "delegate": delegate })).try_add("a");
        assert!(!answer.ok && answer.code() > 0, "{delegate}: {:#}", answer.json);
        run("ip", &["netns", "del", "a"]);
    }
}
