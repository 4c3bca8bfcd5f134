//! macvlan, ipvlan, vlan, dummy, tap, host-device: other kinds of links.

use podplumb_tests::run;
use serde_json::{Value, json};

use crate::case::{Case, DUMMY, IPVLAN, MACVLAN, VLAN};
use crate::node::{NODE, Node, OUTSIDE, addresses, inside, make_namespace};
use crate::peer::Protocol::Tcp;
use crate::peer::{Listener, assert_answer, assert_silence};
use crate::setup::pool_outside;

pub(crate) fn cases() -> Vec<Case> {
    let macvlan = |name: &str, run: fn(&Node)| {
        Case::new(format!("macvlan: {name}"), &["macvlan", "host-local"], &[MACVLAN], run)
    };
    let ipvlan = |name: &str, run: fn(&Node)| {
        Case::new(format!("ipvlan: {name}"), &["ipvlan", "host-local"], &[IPVLAN], run)
    };
    let vlan = |name: &str, run: fn(&Node)| {
        Case::new(format!("vlan: {name}"), &["vlan", "host-local"], &[VLAN], run)
    };
    let device = |name: &str, run: fn(&Node)| {
        Case::new(format!("host-device: {name}"), &["host-device", "static"], &[], run)
    };
    let tap = |name: &str, run: fn(&Node)| Case::new(format!("tap: {name}"), &["tap", "static"], &[], run);
    vec![
        macvlan("a pod is on its master's network", macvlan_reaches_outside),
        macvlan("every mode", macvlan_modes),
        macvlan("mode private keeps pods apart, mode bridge does not", macvlan_isolation),
        macvlan("the default master is that of the default route", macvlan_default_master),
        macvlan("mtu and mac", macvlan_mtu_and_mac),
        macvlan("an mtu above the master's is refused", |node| mtu_too_large(node, "macvlan")),
        macvlan("a master that is not there is an error", macvlan_without_master),
        macvlan("linkInContainer takes a master inside", |node| link_in_container(node, "macvlan")),
        macvlan("bcqueuelen", macvlan_queue),
        ipvlan("a pod is on its master's network", ipvlan_reaches_outside),
        ipvlan("every mode", ipvlan_modes),
        ipvlan("pods of one master reach each other", ipvlan_pods),
        ipvlan("modes l3 and l3s route through the master", ipvlan_routed),
        ipvlan("the default master is that of the default route", ipvlan_default_master),
        ipvlan("an mtu above the master's is refused", |node| mtu_too_large(node, "ipvlan")),
        ipvlan("linkInContainer takes a master inside", |node| link_in_container(node, "ipvlan")),
        vlan("frames carry the tag", vlan_tag),
        vlan("one VLAN of a master is there once", vlan_once),
        vlan("master has to be given, and vlanId to be one", vlan_bad_settings),
        vlan("an mtu above the master's is refused", |node| mtu_too_large(node, "vlan")),
        vlan("linkInContainer takes a master inside", |node| link_in_container(node, "vlan")),
        Case::new("dummy: addresses without a wire", &["dummy", "static"], &[DUMMY], dummy_has_addresses),
        tap("a tap that stays, with its owner", tap_with_owner),
        tap("multiQueue, mtu and mac", tap_options),
        tap("bridge", tap_on_bridge),
        device("by name: it moves in and comes back", device_by_name),
        device("by MAC", device_by_mac),
        device("without IPAM", device_without_ipam),
        device("exactly one way to name it", device_named_once),
        device("a device that is not there is an error", device_missing),
    ]
}

fn link(kind: &str, options: Value) -> Value {
    let mut config = json!({ "type": kind, "ipam": pool_outside() });
    for (key, value) in options.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config
}

fn fixed() -> Value {
    json!({ "type": "static", "addresses": [{ "address": "192.0.2.77/24", "gateway": OUTSIDE }] })
}

fn macvlan_reaches_outside(node: &Node) {
    node.outside();
    let a = addresses(&node.network(&[link("macvlan", json!({ "master": "uplink" }))]).add("a"));
    let _outside = Listener::start("outside", 80);
    assert_answer("a", Tcp, OUTSIDE, 80, &format!("outside sees {}", a[0]));
    assert!(inside("a", "ip route").contains("198.51.100.0/24 via 192.0.2.2"));
}

fn macvlan_modes(node: &Node) {
    node.outside();
    for mode in ["bridge", "private", "vepa", "passthru"] {
        let network = node.network(&[link("macvlan", json!({ "master": "uplink", "mode": mode }))]);
        let result = network.add(mode);
        let link = inside(mode, "ip -d link show eth0");
        assert!(link.contains(&format!("mode {mode}")), "{link}");
        // A master with one passthru link takes no other.
        network.del(mode, &result);
    }
    let network = node.network(&[link("macvlan", json!({ "master": "uplink", "mode": "none-such" }))]);
    assert!(!network.try_add("x").ok);
}

fn macvlan_isolation(node: &Node) {
    node.outside();
    for (mode, from, to) in [("bridge", "a", "b"), ("private", "c", "d")] {
        let network = node.network(&[link("macvlan", json!({ "master": "uplink", "mode": mode }))]);
        let own = addresses(&network.add(from));
        let other = addresses(&network.add(to));
        let listener = Listener::start(if to == "b" { "b" } else { "d" }, 80);
        if mode == "bridge" {
            assert_answer(from, Tcp, &other[0], 80, &format!("{to} sees {}", own[0]));
        } else {
            assert_silence(from, Tcp, &other[0], 80);
        }
        drop(listener);
    }
}

fn macvlan_default_master(node: &Node) {
    node.outside();
    run("ip", &["route", "add", "default", "via", OUTSIDE]);
    let a = addresses(&node.network(&[link("macvlan", json!({}))]).add("a"));
    let _outside = Listener::start("outside", 80);
    assert_answer("a", Tcp, OUTSIDE, 80, &format!("outside sees {}", a[0]));
}

fn macvlan_mtu_and_mac(node: &Node) {
    node.outside();
    let options = json!({ "master": "uplink", "mtu": 1400, "runtimeConfig": { "mac": "0a:58:0a:42:00:09" } });
    let result = node.network(&[link("macvlan", options)]).add("a");
    let shown = inside("a", "ip link show eth0");
    assert!(shown.contains("mtu 1400") && shown.contains("0a:58:0a:42:00:09"), "{shown}");
    assert_eq!(result["interfaces"][0]["mac"], "0a:58:0a:42:00:09");
}

fn mtu_too_large(node: &Node, kind: &str) {
    node.outside();
    let network = node.network(&[link(kind, json!({ "master": "uplink", "mtu": 9000, "vlanId": 5 }))]);
    let before = node.traces();
    assert!(!network.try_add("a").ok);
    let left = node.left_since(&before);
    assert!(!left.iter().any(|line| line.starts_with("link ")), "{left:?}");
}

fn macvlan_without_master(node: &Node) {
    let network = node.network(&[link("macvlan", json!({ "master": "nowhere" }))]);
    let answer = network.try_add("a");
    assert!(!answer.ok && answer.code() > 0, "{:#}", answer.json);
    network.del("a", &Value::Null);
}

fn link_in_container(node: &Node, kind: &str) {
    make_namespace("a");
    inside("a", "ip link add inner type veth peer name other");
    inside("a", "ip link set inner up");
    let options = json!({ "master": "inner", "linkInContainer": true, "vlanId": 5 });
    let network = node.network(&[link(kind, options)]);
    let result = network.add("a");
    let shown = inside("a", "ip -d link show eth0");
    assert!(shown.contains("eth0@inner") && shown.contains(kind), "{shown}");
    network.del("a", &result);
    let links = inside("a", "ip link");
    assert!(!links.contains("eth0@inner") && links.contains("inner"), "{links}");
}

fn macvlan_queue(node: &Node) {
    node.outside();
    node.network(&[link("macvlan", json!({ "master": "uplink", "bcqueuelen": 2000 }))]).add("a");
    let shown = inside("a", "ip -d link show eth0");
    assert!(shown.contains("bcqueuelen 2000"), "{shown}");
}

fn ipvlan_reaches_outside(node: &Node) {
    node.outside();
    let a = addresses(&node.network(&[link("ipvlan", json!({ "master": "uplink" }))]).add("a"));
    let _outside = Listener::start("outside", 80);
    assert_answer("a", Tcp, OUTSIDE, 80, &format!("outside sees {}", a[0]));
}

fn ipvlan_modes(node: &Node) {
    node.outside();
    for mode in ["l2", "l3", "l3s"] {
        let network =
            node.network(&[link("ipvlan", json!({ "master": "uplink", "mode": mode, "mtu": 1400 }))]);
        let result = network.add(mode);
        let shown = inside(mode, "ip -d link show eth0");
        assert!(shown.contains(&format!("mode {mode}")) && shown.contains("mtu 1400"), "{shown}");
        // All links of one master have one mode.
        network.del(mode, &result);
    }
}

fn ipvlan_pods(node: &Node) {
    node.outside();
    let network = node.network(&[link("ipvlan", json!({ "master": "uplink" }))]);
    let (a, b) = (addresses(&network.add("a")), addresses(&network.add("b")));
    let _b = Listener::start("b", 80);
    assert_answer("a", Tcp, &b[0], 80, &format!("b sees {}", a[0]));
}

fn ipvlan_routed(node: &Node) {
    node.outside();
    for mode in ["l3", "l3s"] {
        let network = node.network(&[link("ipvlan", json!({ "master": "uplink", "mode": mode }))]);
        let result = network.add(mode);
        let address = &addresses(&result)[0];
        // Nobody answers ARP for such a pod: the outside has to know the way.
        inside("outside", &format!("ip route add {address}/32 via {NODE}"));
        let outside = Listener::start("outside", 80);
        assert_answer(mode, Tcp, OUTSIDE, 80, &format!("outside sees {address}"));
        drop(outside);
        network.del(mode, &result);
    }
}

fn ipvlan_default_master(node: &Node) {
    node.outside();
    run("ip", &["route", "add", "default", "via", OUTSIDE]);
    node.network(&[link("ipvlan", json!({}))]).add("a");
    let uplink = run("ip", &["-o", "link", "show", "uplink"]);
    let index = uplink.split(':').next().expect("an index");
    let shown = inside("a", "ip -d link show eth0");
    assert!(shown.contains(&format!("eth0@if{index}:")), "{index} in {shown}");
}

fn vlan_once(node: &Node) {
    node.outside();
    let network = node.network(&[link("vlan", json!({ "master": "uplink", "vlanId": 5 }))]);
    let result = network.add("a");
    let answer = network.try_add("b");
    assert!(!answer.ok && answer.code() > 0, "{:#}", answer.json);
    assert!(!inside("b", "ip link").contains("eth0"));
    network.del("b", &Value::Null);
    assert!(network.is_fine("a", &result));
    network.del("a", &result);
    network.add("b");
}

fn vlan_bad_settings(node: &Node) {
    node.outside();
    let bad = [json!({ "vlanId": 5 }), json!({ "master": "uplink", "vlanId": 4095 })];
    for options in bad.into_iter().chain([json!({ "master": "uplink", "vlanId": -1 })]) {
        let answer = node.network(&[link("vlan", options)]).try_add("a");
        assert!(!answer.ok && answer.code() > 0, "{:#}", answer.json);
        assert!(!inside("a", "ip link").contains("eth0"));
    }
}

fn vlan_tag(node: &Node) {
    node.outside();
    let options = json!({ "master": "uplink", "vlanId": 5, "mtu": 1400 });
    let a = addresses(&node.network(&[link("vlan", options)]).add("a"));
    let shown = inside("a", "ip -d link show eth0");
    assert!(shown.contains("vlan protocol 802.1Q id 5") && shown.contains("mtu 1400"), "{shown}");
    inside("outside", "ip link add link eth0 name tagged type vlan id 5");
    inside("outside", "ip addr add 192.0.2.3/24 dev tagged");
    inside("outside", "ip link set tagged up");
    inside("outside", &format!("ip route add {}/32 dev tagged", a[0]));
    let _outside = Listener::start("outside", 80);
    assert_answer("a", Tcp, "192.0.2.3", 80, &format!("outside sees {}", a[0]));
}

fn dummy_has_addresses(node: &Node) {
    node.network(&[link("dummy", json!({ "ipam": fixed() }))]).add("a");
    let shown = inside("a", "ip -d addr show eth0");
    assert!(shown.contains("dummy") && shown.contains("192.0.2.77/24") && shown.contains(",UP"), "{shown}");
}

fn tap_with_owner(node: &Node) {
    let options = json!({ "owner": 1234, "group": 4321, "ipam": fixed() });
    let network = node.network(&[link("tap", options)]);
    let result = network.add("a");
    let shown = inside("a", "ip -d addr show eth0");
    for part in ["tun type tap", "persist on", "user 1234", "group 4321", "192.0.2.77/24"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    network.del("a", &result);
    assert!(!inside("a", "ip link").contains("eth0"));
}

fn tap_options(node: &Node) {
    let options = json!({ "multiQueue": true, "mtu": 1400, "mac": "0a:58:0a:42:00:09", "ipam": fixed() });
    node.network(&[link("tap", options)]).add("a");
    let shown = inside("a", "ip -d link show eth0");
    for part in ["multi_queue", "mtu 1400", "0a:58:0a:42:00:09"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

fn tap_on_bridge(node: &Node) {
    make_namespace("a");
    inside("a", "ip link add br0 type bridge");
    node.network(&[link("tap", json!({ "bridge": "br0", "ipam": {} }))]).add("a");
    let shown = inside("a", "ip -o link show master br0");
    assert!(shown.contains("eth0"), "{shown}");
}

/// A device of the node, and its MAC.
fn device() -> String {
    run("ip", &["link", "add", "nic", "type", "veth", "peer", "name", "nic-peer"]);
    run("ip", &["link", "set", "nic", "address", "0a:58:00:00:00:01"]);
    run("ip", &["link", "set", "nic-peer", "up"]);
    "0a:58:00:00:00:01".to_owned()
}

fn device_moves(node: &Node, options: Value) {
    let mac = device();
    let network = node.network(&[link("host-device", options)]);
    let result = network.add("a");
    let shown = inside("a", "ip addr show eth0");
    for part in [mac.as_str(), "192.0.2.77/24", ",UP"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!run("ip", &["-o", "link"]).contains(" nic@"));
    assert_eq!(result["interfaces"][0]["name"], "eth0");
    network.del("a", &result);
    let back = run("ip", &["addr", "show", "nic"]);
    assert!(back.contains(&mac) && !back.contains("192.0.2.77"), "{back}");
    assert!(!inside("a", "ip link").contains("eth0"));
}

fn device_by_name(node: &Node) {
    device_moves(node, json!({ "device": "nic", "ipam": fixed() }));
}

fn device_by_mac(node: &Node) {
    device_moves(node, json!({ "hwaddr": "0a:58:00:00:00:01", "ipam": fixed() }));
}

fn device_without_ipam(node: &Node) {
    device();
    let mut config = link("host-device", json!({ "device": "nic" }));
    config.as_object_mut().expect("an object").remove("ipam");
    let network = node.network(&[config]);
    let result = network.add("a");
    assert!(inside("a", "ip -4 addr show eth0").is_empty());
    network.del("a", &result);
    run("ip", &["link", "show", "nic"]);
}

fn device_named_once(node: &Node) {
    device();
    let answer = node.network(&[link("host-device", json!({ "ipam": fixed() }))]).try_add("a");
    assert!(!answer.ok && answer.code() > 0, "{:#}", answer.json);
    run("ip", &["link", "show", "nic"]);
}

fn device_missing(node: &Node) {
    let answer =
        node.network(&[link("host-device", json!({ "device": "nic", "ipam": fixed() }))]).try_add("a");
    assert!(!answer.ok && answer.code() > 0, "{:#}", answer.json);
}
