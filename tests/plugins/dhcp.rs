//! dhcp: leases from real servers, dnsmasq and udhcpd, and from one that misbehaves.

mod daemon;
mod lan;
mod misbehaviour;
mod renewal;

use podplumb_tests::{Answer, Plugin, Plugins, run, wait_until};
use serde_json::{Value, json};

use self::lan::{Lan, can_run, count, join, links, recorded};
use crate::inside;

#[test]
fn a_lease_becomes_a_result_and_goes_back_to_the_server() {
    if !can_run() {
        return;
    }
    let mut lan = Lan::new();
    let options = [
        "--dhcp-option=option:router,10.77.0.1",
        "--dhcp-option=option:dns-server,10.77.0.3,10.77.0.4",
        "--dhcp-option=option:domain-name,example.org",
        "--dhcp-option=option:domain-search,eng.example.org,example.org",
        "--dhcp-option=option:classless-static-route,192.0.2.0/24,10.77.0.9,0.0.0.0/0,10.77.0.1",
        "--dhcp-option=option:static-route,198.51.100.0,10.77.0.8",
    ];
    let server = lan.dnsmasq("10.77.0.100,10.77.0.110", &options);
    let _daemon = lan.daemon(&[]);
    lan.plugin.config["ipam"]["provide"] = json!([{ "option": "host-name", "fromArg": "K8S_POD_NAME" }]);
    lan.plugin.config["ipam"]["priority"] = 50.into();
    lan.plugin.args = "IgnoreUnknown=1;K8S_POD_NAME=web-0".into();
    let answer = lan.add("a");
    assert!(answer.ip().starts_with("10.77.0.1"), "{:#}", answer.json);
    assert_eq!(answer.json["ips"][0]["gateway"], "10.77.0.1");
    let routes = json!([
        { "dst": "192.0.2.0/24", "gw": "10.77.0.9", "priority": 50 },
        { "dst": "0.0.0.0/0", "gw": "10.77.0.1", "priority": 50 },
    ]);
    assert_eq!(answer.json["routes"], routes);
    let dns = json!({
        "nameservers": ["10.77.0.3", "10.77.0.4"],
        "domain": "example.org",
        "search": ["eng.example.org", "example.org"],
    });
    assert_eq!(answer.json["dns"], dns);
    // The client identifier a/lan/eth0 of type 0, and the name that was provided.
    let line = lan.server_leases();
    assert!(line.contains("00:61:2f:6c:61:6e:2f:65:74:68:30") && line.contains(" web-0 "), "{line}");
    assert_eq!(recorded(), ["lan:a:eth0"]);

    let again = lan.plugin.on("ADD", "a");
    assert_eq!(again.json, answer.json, "a second ADD has the same lease");
    assert_eq!(count(&server.log(), "DHCPDISCOVER"), 1);
    let checked = lan.check("a", &answer);
    assert!(checked.ok, "{:#}", checked.json);
    let mut other = answer.clone();
    other.json["ips"][0]["address"] = "10.77.0.77/24".into();
    assert_eq!(lan.check("a", &other).code(), 101);

    lan.plugin.del("a");
    wait_until("the server has the address back", || !lan.server_leases().contains(&answer.ip()));
    assert!(server.log().contains("DHCPRELEASE"));
    assert_eq!(recorded(), [""; 0]);
    assert_eq!(lan.check("a", &answer).code(), 101);
    lan.plugin.del("a");
    lan.plugin.del("never-added");
}

#[test]
fn the_router_is_the_default_route_unless_it_is_suppressed() {
    if !can_run() {
        return;
    }
    let mut lan = Lan::new();
    let _server =
        lan.dnsmasq("10.77.0.100,10.77.0.110", &["--dhcp-option=option:static-route,198.51.100.0,10.77.0.8"]);
    let _daemon = lan.daemon(&[]);
    let of = |answer: &Answer| (answer.json["ips"][0]["gateway"].clone(), answer.json["routes"].clone());
    let routes = json!([
        { "dst": "198.51.100.0/24", "gw": "10.77.0.8" },
        { "dst": "0.0.0.0/0", "gw": "10.77.0.1" },
    ]);
    assert_eq!(of(&lan.add("a")), (json!("10.77.0.1"), routes));
    lan.plugin.config["ipam"]["suppress"] = json!(["gateway"]);
    assert_eq!(of(&lan.add("b")), (Value::Null, json!([{ "dst": "198.51.100.0/24", "gw": "10.77.0.8" }])));
    // Nothing but the mask is asked for: dnsmasq then leaves out the rest.
    lan.plugin.config["ipam"] =
        json!({ "type": "dhcp", "request": [{ "skipDefault": true, "option": "subnet-mask" }] });
    assert_eq!(of(&lan.add("c")), (Value::Null, Value::Null));
}

#[test]
fn gc_gives_back_what_is_not_valid_and_nothing_else() {
    if !can_run() {
        return;
    }
    let mut lan = Lan::new();
    let _server = lan.dnsmasq("10.77.0.100,10.77.0.110", &[]);
    let _daemon = lan.daemon(&[]);
    let (kept, dead) = (lan.add("kept"), lan.add("dead"));
    lan.plugin.config["name"] = "other".into();
    let other = lan.add("elsewhere");
    lan.plugin.config["name"] = "lan".into();
    let mut config = lan.plugin.config.clone();
    let gc = |config: &Value| lan.plugin.call(&[("CNI_COMMAND", "GC")], config.to_string().as_bytes());
    assert_eq!(gc(&config).code(), 7, "no list of valid attachments, no GC");
    config["cni.dev/valid-attachments"] = json!([{ "containerID": "kept", "ifname": "eth0" }]);
    assert!(gc(&config).ok);
    wait_until("the server has one address back", || !lan.server_leases().contains(&dead.ip()));
    assert!(lan.server_leases().contains(&kept.ip()) && lan.server_leases().contains(&other.ip()));
    let mut left = recorded();
    left.sort();
    assert_eq!(left, ["lan:kept:eth0", "other:elsewhere:eth0"]);
}

#[test]
fn a_container_that_comes_again_in_another_namespace_gets_a_lease_for_that_one() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let server = lan.dnsmasq("10.77.0.100,10.77.0.110", &[]);
    let _daemon = lan.daemon(&[]);
    lan.add("a");
    run("ip", &["netns", "del", "a"]);
    wait_until("the namespace is gone", || !links().contains("v-a"));
    lan.add("a");
    assert_eq!(count(&server.log(), "DHCPDISCOVER"), 2, "{}", server.log());
    lan.plugin.del("a");
}

#[test]
fn hostile_configurations_are_refused() {
    if !can_run() {
        return;
    }
    let mut lan = Lan::new();
    join("a");
    for ipam in [
        json!({ "type": "host-local" }),
        json!({ "type": "dhcp", "daemonSocketPath": "../dhcp.sock" }),
        json!({ "type": "dhcp", "daemonSocketPath": "/run/".repeat(50) }),
        json!({ "type": "dhcp", "provide": [{ "option": "53", "value": "x" }] }),
        json!({ "type": "dhcp", "provide": [{ "option": "no-such", "value": "x" }] }),
        json!({ "type": "dhcp", "provide": [{ "option": "12", "value": "x".repeat(256) }] }),
        json!({ "type": "dhcp", "request": [{ "option": "300" }] }),
        json!({ "type": "dhcp", "request": "all" }),
        json!({ "type": "dhcp", "priority": -1 }),
    ] {
        lan.plugin.config["ipam"] = ipam.clone();
        assert_eq!(lan.plugin.on("ADD", "a").code(), 7, "{ipam}");
    }
}

#[test]
fn twenty_at_once_get_twenty_addresses() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let _server = lan.dnsmasq("10.77.0.100,10.77.0.200", &[]);
    let _daemon = lan.daemon(&[]);
    let ids: Vec<String> = (0..20).map(|n| format!("c{n}")).collect();
    ids.iter().for_each(|id| join(id));
    let at_once = |command: &'static str| -> Vec<Answer> {
        std::thread::scope(|scope| {
            let calls: Vec<_> = ids.iter().map(|id| scope.spawn(|| lan.plugin.on(command, id))).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        })
    };
    let answers = at_once("ADD");
    assert!(answers.iter().all(|answer| answer.ok), "{answers:?}");
    let addresses: std::collections::BTreeSet<String> = answers.iter().map(Answer::ip).collect();
    assert_eq!(addresses.len(), 20);
    assert!(at_once("DEL").iter().all(|answer| answer.ok));
    wait_until("the server has all addresses back", || !lan.server_leases().contains("10.77.0."));
    assert_eq!(recorded(), [""; 0]);
}

fn a_bridge_gives_a_pod_the_leased_address(plugins: Plugins) {
    let lan = Lan::new();
    let server = lan.dnsmasq("10.77.0.100,10.77.0.110", &[]);
    let _daemon = lan.daemon(&[]);
    let mut bridge = Plugin::bridge(&lan.world, plugins);
    bridge.config = json!({ "cniVersion": "1.0.0", "name": "lan", "type": "bridge", "bridge": "br0", "ipam": { "type": "dhcp" } });
    let path = lan.world.plugin_dir(Plugins::Podplumb).display().to_string();
    let call = |command: &str| {
        let environment = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", "a"),
            ("CNI_NETNS", "/run/netns/a"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", &path),
        ];
        bridge.call(&environment, bridge.config.to_string().as_bytes())
    };
    run("ip", &["netns", "add", "a"]);
    let answer = call("ADD");
    assert!(answer.ok, "{:#}", answer.json);
    assert!(inside("a", &["ip", "-4", "addr", "show", "eth0"]).contains(&answer.ip()));
    assert!(inside("a", &["ip", "route"]).contains("default via 10.77.0.1"));
    inside("a", &["ping", "-c", "1", "-W", "2", "10.77.0.1"]);
    assert!(call("DEL").ok);
    assert_eq!(recorded(), [""; 0]);
    // The reference bridge deletes the interface first: nothing is left through which the server could be told.
    assert_eq!(server.log().contains("DHCPRELEASE"), plugins == Plugins::Podplumb);
}

#[test]
fn the_reference_bridge_gives_a_pod_the_leased_address() {
    if can_run() {
        a_bridge_gives_a_pod_the_leased_address(Plugins::Reference);
    }
}

#[test]
fn our_bridge_gives_a_pod_the_leased_address() {
    if can_run() {
        a_bridge_gives_a_pod_the_leased_address(Plugins::Podplumb);
    }
}
