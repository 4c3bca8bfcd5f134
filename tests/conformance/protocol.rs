//! What the specification asks of every plugin.

use podplumb_tests::run;
use serde_json::Value;

use crate::case::Case;
use crate::node::{Network, Node, addresses, inside, make_namespace};
use crate::setup::{self, Setup};

pub(crate) fn cases() -> Vec<Case> {
    type Run = fn(&Node, &Setup);
    let attached: [(&str, Run); 12] = [
        ("results have the shape of their version", results_have_the_shape_of_their_version),
        ("CHECK is content after ADD", check_is_content_after_add),
        ("VERSION lists the versions", version_lists_the_versions),
        ("bad input is refused with its code", bad_input_is_refused_with_its_code),
        ("ADD without a namespace fails and leaves nothing", add_without_a_namespace_leaves_nothing),
        ("a second ADD fails and changes nothing", a_second_add_changes_nothing),
        ("DEL leaves nothing, twice and without ADD", del_leaves_nothing),
        ("DEL without prevResult leaves nothing", del_without_previous_result_leaves_nothing),
        ("DEL after the namespace is gone leaves nothing", del_without_namespace_leaves_nothing),
        ("DEL with an empty CNI_NETNS leaves nothing", del_with_empty_netns_leaves_nothing),
        ("DEL after the interface is gone leaves nothing", del_without_interface_leaves_nothing),
        ("a DEL leaves the other pod alone", a_del_leaves_the_other_pod_alone),
    ];
    let addressed: [(&str, Run); 2] = [
        ("CHECK finds a removed address", check_finds_a_removed_address),
        ("CHECK finds a removed route", check_finds_a_removed_route),
    ];
    let mut all = Vec::new();
    for setup in setup::all() {
        let list = attached.iter().chain(addressed.iter().filter(|_| setup.has_addresses));
        for (name, run) in list.copied() {
            // Neither has an interface that could be gone, or be added twice: every namespace has lo.
            if setup.name == "loopback" && (name.contains("interface is gone") || name.contains("second ADD"))
            {
                continue;
            }
            // There is one such device, and one such VLAN of a master.
            if ["host-device", "vlan"].contains(&setup.name) && name.contains("other pod") {
                continue;
            }
            let name = format!("{}: {name}", setup.name);
            all.push(Case::new(name, setup.plugins, setup.needs, move |node| run(node, &setup)));
        }
    }
    all
}

/// A node on which a pod came and went: what it has then, it keeps.
fn used(node: &Node, setup: &Setup) -> (Network, Vec<String>) {
    setup.prepare(node);
    let network = setup.network(node);
    let result = network.add("first");
    network.del("first", &result);
    run("ip", &["netns", "del", "first"]);
    setup.prepare(node);
    let mut before = node.traces();
    // Virtual devices of the node end with the namespace that they are in: they are made anew.
    before.sort();
    (network, before)
}

fn results_have_the_shape_of_their_version(node: &Node, setup: &Setup) {
    let versions = node.versions(setup.plugins.last().expect("a plugin"));
    for version in versions {
        setup.prepare(node);
        let mut network = setup.network(node);
        for plugin in &mut network.plugins {
            plugin.config["cniVersion"] = version.as_str().into();
        }
        let result = network.add("a");
        assert_eq!(result["cniVersion"], version, "{result:#}");
        if setup.has_addresses {
            let is_address = |value: &Value| value.as_str().is_some_and(|text| text.contains('/'));
            if ["0.1.0", "0.2.0"].contains(&version.as_str()) {
                assert!(is_address(&result["ip4"]["ip"]), "{result:#}");
                assert!(result["interfaces"].is_null() && result["ips"].is_null(), "{result:#}");
            } else {
                let ip = &result["ips"][0];
                assert!(is_address(&ip["address"]) && result["ip4"].is_null(), "{result:#}");
                let own = result["interfaces"][ip["interface"].as_u64().expect("an index") as usize].clone();
                assert_eq!(own["name"], "eth0", "{result:#}");
                assert_eq!(own["sandbox"], "/run/netns/a", "{result:#}");
                let is_old = version.starts_with("0.");
                assert_eq!(ip["version"].as_str(), is_old.then_some("4"), "{result:#}");
            }
        }
        network.del("a", &result);
        run("ip", &["netns", "del", "a"]);
    }
}

fn check_is_content_after_add(node: &Node, setup: &Setup) {
    setup.prepare(node);
    let network = setup.network(node);
    let result = network.add("a");
    for at in 0..network.plugins.len() {
        let answer = network.call(at, "CHECK", "a", &result);
        assert!(answer.ok, "{:#}", answer.json);
    }
}

fn check_finds_a_removed_address(node: &Node, setup: &Setup) {
    setup.prepare(node);
    let network = setup.network(node);
    let result = network.add("a");
    assert!(network.is_fine("a", &result));
    let prefix = result["ips"][0]["address"].as_str().expect("an address");
    inside("a", &format!("ip addr del {prefix} dev eth0"));
    assert!(!network.is_fine("a", &result));
}

fn check_finds_a_removed_route(node: &Node, setup: &Setup) {
    setup.prepare(node);
    let network = setup.network(node);
    let result = network.add("a");
    assert!(network.is_fine("a", &result));
    let route = result["routes"][0]["dst"].as_str().expect("a route");
    // sbr moves it into a table of its own.
    let routes = inside("a", "ip route show table all");
    let shown = if route == "0.0.0.0/0" { "default" } else { route };
    let line = routes.lines().find(|line| line.starts_with(shown)).expect("the route is there");
    let table = line.split(' ').skip_while(|word| *word != "table").nth(1).unwrap_or("main");
    inside("a", &format!("ip route del {route} table {table}"));
    assert!(!network.is_fine("a", &result));
}

fn version_lists_the_versions(node: &Node, setup: &Setup) {
    for plugin in setup.plugins {
        let versions = node.versions(plugin);
        for version in ["0.4.0", "1.0.0"] {
            assert!(versions.iter().any(|have| have == version), "{plugin}: {versions:?}");
        }
    }
}

fn bad_input_is_refused_with_its_code(node: &Node, setup: &Setup) {
    setup.prepare(node);
    make_namespace("a");
    let network = setup.network(node);
    let plugin = network.plugins.last().expect("a plugin");
    let base = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "a"),
        ("CNI_NETNS", "/run/netns/a"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", ""),
    ];
    let before = node.traces();
    let config = plugin.config.to_string();
    let code = |environment: &[(&str, &str)], input: &str| {
        let answer = plugin.call(environment, input.as_bytes());
        assert!(!answer.ok, "{environment:?} {input}: {:#}", answer.json);
        let has_words = answer.json["msg"].as_str().is_some_and(|message| !message.is_empty());
        assert!(has_words, "{:#}", answer.json);
        answer.code()
    };
    for (name, value, expected) in [
        ("CNI_COMMAND", "FLY", 4),
        ("CNI_CONTAINERID", "", 4),
        ("CNI_CONTAINERID", "../x", 4),
        ("CNI_IFNAME", "", 4),
        ("CNI_IFNAME", "sixteen_bytes_xx", 4),
        ("CNI_IFNAME", "a/b", 4),
        ("CNI_NETNS", "", 4),
    ] {
        let changed = base.map(|(key, old)| (key, if key == name { value } else { old }));
        assert_eq!(code(&changed, &config), expected, "{name}={value}");
    }
    assert_eq!(code(&base, "{"), 6);
    let with = |key: &str, value: Value| {
        let mut changed = plugin.config.clone();
        changed[key] = value;
        code(&base, &changed.to_string())
    };
    assert_eq!(with("cniVersion", "9.9.9".into()), 1);
    assert_eq!(with("name", "../x".into()), 7);
    node.assert_nothing_since(&before, "ADDs that failed");
}

fn add_without_a_namespace_leaves_nothing(node: &Node, setup: &Setup) {
    let (network, before) = used(node, setup);
    for path in ["/run/netns/none", "/etc/passwd"] {
        let answer = network.call_in(0, "ADD", "a", path, &Value::Null);
        assert!(!answer.ok && answer.code() > 0, "{path}: {:#}", answer.json);
    }
    node.assert_nothing_since(&before, "ADDs that failed");
}

fn a_second_add_changes_nothing(node: &Node, setup: &Setup) {
    setup.prepare(node);
    let network = setup.network(node);
    let result = network.add("a");
    let before = node.traces();
    let before_inside = inside("a", "ip -o addr show scope global");
    assert!(!network.call(0, "ADD", "a", &Value::Null).ok);
    node.assert_nothing_since(&before, "a second ADD");
    assert_eq!(inside("a", "ip -o addr show scope global"), before_inside);
    assert!(network.is_fine("a", &result), "CHECK of the first");
}

fn del_leaves_nothing(node: &Node, setup: &Setup) {
    let (network, before) = used(node, setup);
    make_namespace("a");
    network.del("a", &Value::Null);
    node.assert_nothing_since(&before, "a DEL without ADD");
    let result = network.add("a");
    network.del("a", &result);
    node.assert_nothing_since(&before, "DEL");
    let links = inside("a", "ip -o link");
    assert!(!links.contains("eth0"), "{links}");
    network.del("a", &result);
    node.assert_nothing_since(&before, "a second DEL");
}

fn del_without_previous_result_leaves_nothing(node: &Node, setup: &Setup) {
    let (network, before) = used(node, setup);
    network.add("a");
    network.del("a", &Value::Null);
    node.assert_nothing_since(&before, "DEL");
}

fn del_without_namespace_leaves_nothing(node: &Node, setup: &Setup) {
    let (network, mut before) = used(node, setup);
    let result = network.add("a");
    run("ip", &["netns", "del", "a"]);
    network.del("a", &result);
    before.extend(returned());
    node.assert_nothing_since(&before, "DEL");
}

fn del_with_empty_netns_leaves_nothing(node: &Node, setup: &Setup) {
    let (network, mut before) = used(node, setup);
    let result = network.add("a");
    run("ip", &["netns", "del", "a"]);
    network.del_in("a", "", &result);
    before.extend(returned());
    node.assert_nothing_since(&before, "DEL");
}

/// A device of hardware comes back under the name that it has when its namespace ends.
fn returned() -> [String; 1] {
    ["link eth0".to_owned()]
}

fn del_without_interface_leaves_nothing(node: &Node, setup: &Setup) {
    let (network, before) = used(node, setup);
    let result = network.add("a");
    inside("a", "ip link del eth0");
    network.del("a", &result);
    node.assert_nothing_since(&before, "DEL");
}

fn a_del_leaves_the_other_pod_alone(node: &Node, setup: &Setup) {
    setup.prepare(node);
    let network = setup.network(node);
    let kept = network.add("kept");
    let mut other = setup.network(node);
    for plugin in &mut other.plugins {
        let mappings = plugin.config["runtimeConfig"]["portMappings"].as_array_mut();
        for mapping in mappings.into_iter().flatten() {
            // A port of the node leads to one pod.
            mapping["hostPort"] = (mapping["hostPort"].as_u64().expect("a port") + 1).into();
        }
    }
    let gone = other.add("gone");
    if setup.has_addresses {
        assert!(addresses(&kept).iter().all(|address| !addresses(&gone).contains(address)));
    }
    other.del("gone", &gone);
    other.del("gone", &Value::Null);
    for at in 0..network.plugins.len() {
        let answer = network.call(at, "CHECK", "kept", &kept);
        assert!(answer.ok, "{:#}", answer.json);
    }
}
