//! What the bridge plugin's options do.

use podplumb_tests::{Plugin, Plugins, World, run};
use serde_json::json;

use crate::{Traces, can_run, inside, traces};

#[test]
fn mtu_mac_hairpin_isolation_and_promiscuity_reach_the_kernel() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    bridge.config["mtu"] = 1400.into();
    bridge.config["hairpinMode"] = true.into();
    bridge.config["portIsolation"] = true.into();
    bridge.config["runtimeConfig"] = json!({ "mac": "0a:58:0a:42:00:09" });
    bridge.args = "MAC=0a:58:0a:42:00:08".into();
    let answer = bridge.add("a");
    let eth0 = inside("a", &["ip", "link", "show", "eth0"]);
    assert!(eth0.contains("mtu 1400") && eth0.contains("0a:58:0a:42:00:09"), "{eth0}");
    let veth = answer.json["interfaces"][1]["name"].as_str().unwrap();
    let port = run("bridge", &["-d", "link", "show", "dev", veth]);
    assert!(port.contains("hairpin on") && port.contains("isolated on"), "{port}");
    let alias = run("ip", &["link", "show", veth]);
    assert!(alias.contains("alias podplumb:pods:a:eth0"), "{alias}");
    bridge.del("a");

    let mut promiscuous = Plugin::bridge(&world, Plugins::Podplumb);
    promiscuous.config["bridge"] = "cni1".into();
    promiscuous.config["promiscMode"] = true.into();
    promiscuous.config["ipam"] = json!({});
    promiscuous.add("b");
    assert!(run("ip", &["link", "show", "cni1"]).contains("PROMISC"));
    assert!(inside("b", &["ip", "-4", "addr", "show", "eth0"]).is_empty(), "without IPAM, a link only");
    promiscuous.del("b");
    assert_eq!(traces(), Traces::default());
}

#[test]
fn a_lone_mac_argument_is_obeyed() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    bridge.args = "MAC=0a:58:0a:42:00:08".into();
    bridge.add("a");
    assert!(inside("a", &["ip", "link", "show", "eth0"]).contains("0a:58:0a:42:00:08"));
}

#[test]
fn dual_stack_addresses_work_at_once() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    bridge.config["ipam"]["ranges"] = json!([[{ "subnet": "10.66.0.0/24" }], [{ "subnet": "fd66::/64" }]]);
    bridge.add("a");
    bridge.add("b");
    assert!(!inside("a", &["ip", "-6", "addr", "show", "eth0"]).contains("tentative"));
    inside("a", &["ping", "-c", "1", "-W", "2", "fd66::3"]);
    inside("a", &["ping", "-c", "1", "-W", "2", "fd66::1"]);
}

#[test]
fn routes_of_the_result_reach_the_kernel_with_their_metrics() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    bridge.config["cniVersion"] = "1.1.0".into();
    bridge.config["ipam"]["routes"] =
        json!([{ "dst": "192.0.2.0/24", "mtu": 1300, "advmss": 1200, "priority": 77, "table": 100 }]);
    bridge.add("a");
    let routes = inside("a", &["ip", "route", "show", "table", "100"]);
    for part in ["192.0.2.0/24 via 10.66.0.1", "metric 77", "mtu 1300", "advmss 1200"] {
        assert!(routes.contains(part), "{part} in {routes}");
    }
}

#[test]
fn another_address_on_the_bridge_is_an_error_unless_force_address() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    run("ip", &["link", "add", "cni0", "type", "bridge"]);
    run("ip", &["addr", "add", "192.0.2.1/24", "dev", "cni0"]);
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    run("ip", &["netns", "add", "a"]);
    let answer = bridge.on("ADD", "a");
    assert_eq!((answer.ok, answer.code()), (false, 7), "{:#}", answer.json);
    assert_eq!(traces(), Traces::default(), "nothing half done");
    assert!(!run("ip", &["addr", "show", "cni0"]).contains("10.66.0.1"));
    bridge.config["forceAddress"] = true.into();
    assert!(bridge.on("ADD", "a").ok);
    let addresses = run("ip", &["addr", "show", "cni0"]);
    assert!(addresses.contains("10.66.0.1/24") && !addresses.contains("192.0.2.1"), "{addresses}");
}

#[test]
fn masqueraded_pods_reach_the_outside_with_the_nodes_address() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    // An outside that knows no way back to pods.
    run("ip", &["netns", "add", "outside"]);
    run("ip", &["link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", "outside"]);
    run("ip", &["addr", "add", "192.0.2.1/24", "dev", "uplink"]);
    run("ip", &["link", "set", "uplink", "up"]);
    inside("outside", &["ip", "addr", "add", "192.0.2.2/24", "dev", "eth0"]);
    inside("outside", &["ip", "link", "set", "eth0", "up"]);
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    bridge.config["ipMasq"] = true.into();
    bridge.add("a");
    inside("a", &["ping", "-c", "1", "-W", "2", "192.0.2.2"]);
    bridge.del("a");
    let after = traces();
    assert_eq!((after.leases.len(), after.records.len(), after.masqueraded.len()), (0, 0, 0), "{after:?}");
}
