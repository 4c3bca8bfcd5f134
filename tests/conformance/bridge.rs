//! bridge: pods on a bridge of the node.

use podplumb_tests::run;
use serde_json::{Value, json};

use crate::case::{Case, VLAN_FILTERING};
use crate::node::{NODE, NODE_6, Network, Node, OUTSIDE, OUTSIDE_6, addresses, inside, make_namespace};
use crate::peer::Protocol::{Tcp, Udp};
use crate::peer::{Listener, assert_answer, assert_reaches, assert_silence};
use crate::setup::{bridge, plain_bridge, pool, pool_4};

pub(crate) fn cases() -> Vec<Case> {
    let case =
        |name, run: fn(&Node)| Case::new(format!("bridge: {name}"), &["bridge", "host-local"], &[], run);
    let vlan = |name, run: fn(&Node)| {
        Case::new(format!("bridge: {name}"), &["bridge", "host-local"], &[VLAN_FILTERING], run)
    };
    vec![
        case("the result names bridge, host end and container end", the_result_names_the_interfaces),
        case("errors say their version", errors_say_their_version),
        case("pods reach each other and the node, at once, in both families", pods_reach_each_other),
        case("isDefaultGateway routes everything to the bridge", is_default_gateway),
        case("without isGateway the bridge has no address", without_gateway),
        case("ipMasq masquerades what goes outside", masquerade),
        case("ipMasq leaves what stays inside alone", masquerade_not_inside),
        case("ipMasqBackend nftables masquerades too", masquerade_with_nftables),
        case("without ipMasq the outside sees the pod", without_masquerade),
        case("a DEL ends masquerading", del_ends_masquerading),
        case("mtu is that of both ends", mtu),
        case("a MAC is taken from the runtime", mac),
        case("a lone MAC argument is obeyed", lone_mac_argument),
        case("hairpinMode lets a pod reach itself", hairpin),
        case("promiscMode", promiscuous),
        case("hairpinMode and promiscMode exclude each other", hairpin_and_promiscuous),
        case("forceAddress replaces another address", force_address),
        case("without IPAM there is a link only", link_only),
        case("dns is passed on", dns),
        case("routes have mtu, advmss, priority, table and scope", route_metrics),
        case("portIsolation keeps pods apart", port_isolation),
        case("disableContainerInterface leaves it down", disable_container_interface),
        case("macspoofchk stops frames with another MAC", mac_spoof_check),
        case("an exhausted pool leaves nothing", exhausted_pool),
        case("an IPAM plugin that fails leaves nothing", failing_ipam),
        case("CHECK finds a bridge without its address", check_finds_gateway),
        case("CHECK finds an interface that is gone", check_finds_interface),
        vlan("vlan tags the port", vlan_tag),
        vlan("vlanTrunk admits its range", vlan_trunk),
        vlan("vlan keeps pods of other VLANs apart", vlan_isolation),
        vlan("with vlan the gateway is in that VLAN alone", vlan_gateway),
        vlan("with vlanTrunk tagged frames pass", vlan_trunk_passes),
        vlan("preserveDefaultVlan false leaves VLAN 1", vlan_without_default),
    ]
}

/// A bridge with more options.
fn with(options: Value) -> Value {
    let mut config = bridge();
    for (key, value) in options.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config
}

fn host_end(result: &Value) -> String {
    result["interfaces"][1]["name"].as_str().expect("a host end").to_owned()
}

fn the_result_names_the_interfaces(node: &Node) {
    let result = node.network(&[bridge()]).add("a");
    assert_eq!(result["interfaces"][0]["name"], "cni0");
    let links = run("ip", &["-o", "link", "show", "master", "cni0"]);
    assert!(links.contains(&host_end(&result)), "{links}");
    assert_eq!(
        (&result["interfaces"][2]["name"], &result["ips"][0]["interface"]),
        (&json!("eth0"), &json!(2))
    );
    assert_eq!(result["interfaces"][2]["sandbox"], "/run/netns/a");
    let mac = result["interfaces"][2]["mac"].as_str().expect("a MAC");
    assert!(inside("a", "ip link show eth0").contains(mac));
    assert_eq!(result["ips"][0]["gateway"], "10.66.0.1");
    assert_eq!(result["ips"][1]["gateway"], "fd66::1");
}

fn errors_say_their_version(node: &Node) {
    let plugin = node.plugin(&bridge());
    let answer = plugin.call(&[("CNI_COMMAND", "ADD")], plugin.config.to_string().as_bytes());
    assert!(!answer.ok && answer.json["cniVersion"].is_string(), "{:#}", answer.json);
}

fn pods_reach_each_other(node: &Node) {
    let network = node.network(&[bridge()]);
    let (a, b) = (addresses(&network.add("a")), addresses(&network.add("b")));
    let (_b, _node) = (Listener::start("b", 80), Listener::start("", 81));
    for (own, other, gateway) in [(&a[0], &b[0], "10.66.0.1"), (&a[1], &b[1], "fd66::1")] {
        for protocol in [Tcp, Udp] {
            assert_answer("a", protocol, other, 80, &format!("b sees {own}"));
            assert_answer("a", protocol, gateway, 81, &format!(" sees {own}"));
        }
        assert_reaches("", Tcp, other, 80, "b");
    }
}

fn is_default_gateway(node: &Node) {
    let mut config = with(json!({ "isDefaultGateway": true }));
    config["ipam"].as_object_mut().expect("IPAM").remove("routes");
    let result = node.network(&[config]).add("a");
    assert!(inside("a", "ip -4 route").contains("default via 10.66.0.1"));
    assert!(inside("a", "ip -6 route").contains("default via fd66::1"));
    let routes = result["routes"].to_string();
    assert!(routes.contains("0.0.0.0/0") && routes.contains("::/0"), "{routes}");
}

fn without_gateway(node: &Node) {
    let mut config = with(json!({ "isGateway": false, "ipMasq": false }));
    config["ipam"].as_object_mut().expect("IPAM").remove("routes");
    node.network(&[config]).add("a");
    assert!(run("ip", &["-4", "addr", "show", "cni0"]).is_empty());
}

fn masquerade(node: &Node) {
    node.outside();
    node.network(&[bridge()]).add("a");
    let _outside = Listener::start("outside", 80);
    for protocol in [Tcp, Udp] {
        assert_answer("a", protocol, OUTSIDE, 80, &format!("outside sees {NODE}"));
        assert_answer("a", protocol, OUTSIDE_6, 80, &format!("outside sees {NODE_6}"));
    }
}

fn masquerade_not_inside(node: &Node) {
    let network = node.network(&[bridge()]);
    let (a, b) = (addresses(&network.add("a")), addresses(&network.add("b")));
    let (_b, _node) = (Listener::start("b", 80), Listener::start("", 81));
    assert_answer("a", Tcp, &b[0], 80, &format!("b sees {}", a[0]));
    assert_answer("a", Tcp, &b[1], 80, &format!("b sees {}", a[1]));
    assert_answer("a", Tcp, "10.66.0.1", 81, &format!(" sees {}", a[0]));
}

fn masquerade_with_nftables(node: &Node) {
    node.outside();
    node.network(&[with(json!({ "ipMasqBackend": "nftables" }))]).add("a");
    let _outside = Listener::start("outside", 80);
    assert_answer("a", Tcp, OUTSIDE, 80, &format!("outside sees {NODE}"));
}

fn without_masquerade(node: &Node) {
    node.outside_with_routes();
    let result = node.network(&[plain_bridge(pool())]).add("a");
    let _outside = Listener::start("outside", 80);
    assert_answer("a", Tcp, OUTSIDE, 80, &format!("outside sees {}", addresses(&result)[0]));
    assert_answer("a", Tcp, OUTSIDE_6, 80, &format!("outside sees {}", addresses(&result)[1]));
}

fn del_ends_masquerading(node: &Node) {
    node.outside_with_routes();
    let masqueraded = node.network(&[bridge()]);
    let result = masqueraded.add("a");
    masqueraded.del("a", &result);
    // The next pod with the same address does not ask for it.
    let mut config = plain_bridge(pool());
    config["ipam"]["ranges"][0][0]["rangeStart"] = "10.66.0.2".into();
    let mut plain = node.network(&[config]);
    plain.args = format!("IgnoreUnknown=1;IP={}", addresses(&result)[0]);
    let again = addresses(&plain.add("b"));
    assert_eq!(again[0], addresses(&result)[0]);
    let _outside = Listener::start("outside", 80);
    assert_answer("b", Tcp, OUTSIDE, 80, &format!("outside sees {}", again[0]));
}

fn mtu(node: &Node) {
    let result = node.network(&[with(json!({ "mtu": 1400 }))]).add("a");
    assert!(inside("a", "ip link show eth0").contains("mtu 1400"));
    assert!(run("ip", &["link", "show", &host_end(&result)]).contains("mtu 1400"));
}

fn mac(node: &Node) {
    let (by_argument, by_args, by_runtime) = ("0a:58:0a:42:00:07", "0a:58:0a:42:00:08", "0a:58:0a:42:00:09");
    let mut config = bridge();
    let mut expect = |id: &str, key: &str, value: Value, mac: &str| {
        config[key] = value;
        let mut network = node.network(&[config.clone()]);
        network.args = format!("IgnoreUnknown=1;MAC={by_argument}");
        network.add(id);
        let link = inside(id, "ip link show eth0");
        assert!(link.contains(mac), "{key}: {link}");
    };
    expect("a", "comment", "the argument alone".into(), by_argument);
    expect("b", "args", json!({ "cni": { "mac": by_args } }), by_args);
    expect("c", "runtimeConfig", json!({ "mac": by_runtime }), by_runtime);
}

fn lone_mac_argument(node: &Node) {
    let mut network = node.network(&[bridge()]);
    network.args = "MAC=0a:58:0a:42:00:07".to_owned();
    network.add("a");
    assert!(inside("a", "ip link show eth0").contains("0a:58:0a:42:00:07"));
}

fn hairpin(node: &Node) {
    let result = node.network(&[with(json!({ "hairpinMode": true }))]).add("a");
    let port = run("bridge", &["-d", "link", "show", "dev", &host_end(&result)]);
    assert!(port.contains("hairpin on"), "{port}");
}

fn promiscuous(node: &Node) {
    node.network(&[with(json!({ "promiscMode": true }))]).add("a");
    assert!(run("ip", &["link", "show", "cni0"]).contains("PROMISC"));
}

fn hairpin_and_promiscuous(node: &Node) {
    let answer = node.network(&[with(json!({ "hairpinMode": true, "promiscMode": true }))]).try_add("a");
    assert!(!answer.ok);
}

fn force_address(node: &Node) {
    run("ip", &["link", "add", "cni0", "type", "bridge"]);
    run("ip", &["addr", "add", "10.66.0.99/24", "dev", "cni0"]);
    assert!(!node.network(&[bridge()]).try_add("a").ok, "another address is an error");
    assert!(run("ip", &["addr", "show", "cni0"]).contains("10.66.0.99/24"), "and stays");
    let network = node.network(&[with(json!({ "forceAddress": true }))]);
    network.add("b");
    let bridge = run("ip", &["addr", "show", "cni0"]);
    assert!(bridge.contains("10.66.0.1/24") && !bridge.contains("10.66.0.99"), "{bridge}");
}

fn link_only(node: &Node) {
    let config = json!({ "type": "bridge", "bridge": "cni0", "ipam": {} });
    let network = node.network(&[config]);
    let before = node.traces();
    let result = network.add("a");
    assert!(inside("a", "ip -4 addr show eth0").is_empty());
    assert!(inside("a", "ip link show eth0").contains("state UP"));
    assert!(addresses(&result).is_empty());
    network.del("a", &result);
    assert_eq!(node.left_since(&before), ["link cni0"]);
}

fn dns(node: &Node) {
    let dns = json!({ "nameservers": ["10.66.0.53"], "domain": "example.org", "search": ["example.org"] });
    let result = node.network(&[with(json!({ "dns": dns }))]).add("a");
    assert_eq!(result["dns"], dns, "{result:#}");
}

fn route_metrics(node: &Node) {
    let mut config = with(json!({ "cniVersion": node.newest("bridge") }));
    config["ipam"]["routes"] = json!([
        { "dst": "192.0.2.0/24", "mtu": 1300, "advmss": 1200, "priority": 77, "table": 100 },
        { "dst": "198.51.100.0/24", "scope": 253 },
    ]);
    node.network(&[config]).add("a");
    let routes = inside("a", "ip route show table all");
    let of = |net: &str| routes.lines().find(|line| line.starts_with(net)).unwrap_or_default().to_owned();
    for part in ["via 10.66.0.1", "table 100", "metric 77", "mtu 1300", "advmss 1200"] {
        assert!(of("192.0.2.0/24").contains(part), "{part} in {routes}");
    }
    assert!(of("198.51.100.0/24").contains("scope link"), "{routes}");
}

fn port_isolation(node: &Node) {
    let network = node.network(&[with(json!({ "portIsolation": true }))]);
    network.add("a");
    let b = addresses(&network.add("b"));
    let (_b, _node) = (Listener::start("b", 80), Listener::start("", 81));
    assert_reaches("a", Tcp, "10.66.0.1", 81, "");
    assert_reaches("", Tcp, &b[0], 80, "b");
    assert_silence("a", Tcp, &b[0], 80);
}

fn disable_container_interface(node: &Node) {
    let config = json!({ "type": "bridge", "bridge": "cni0", "disableContainerInterface": true });
    node.network(&[config]).add("a");
    let link = inside("a", "ip link show eth0");
    assert!(link.contains("state DOWN"), "{link}");
}

fn mac_spoof_check(node: &Node) {
    let mut config = plain_bridge(pool_4());
    config["macspoofchk"] = true.into();
    let network = node.network(&[config]);
    let first = network.add("first");
    network.del("first", &first);
    let before = node.traces();
    let result = network.add("a");
    let _node = Listener::start("", 81);
    assert_reaches("a", Tcp, "10.66.0.1", 81, "");
    let mac = result["interfaces"][2]["mac"].as_str().expect("a MAC").to_owned();
    inside("a", "ip link set eth0 address 0a:58:0a:42:00:66");
    assert_silence("a", Tcp, "10.66.0.1", 81);
    inside("a", &format!("ip link set eth0 address {mac}"));
    assert_reaches("a", Tcp, "10.66.0.1", 81, "");
    network.del("a", &result);
    node.assert_nothing_since(&before, "DEL");
}

fn exhausted_pool(node: &Node) {
    let mut config = plain_bridge(pool_4());
    config["ipam"]["ranges"][0][0]["rangeEnd"] = "10.66.0.2".into();
    let network = node.network(&[config]);
    network.add("a");
    let before = node.traces();
    make_namespace("b");
    let answer = network.try_add("b");
    assert!(!answer.ok && answer.code() > 0, "{:#}", answer.json);
    assert!(!inside("b", "ip link").contains("eth0"));
    node.assert_nothing_since(&before, "an ADD that failed");
}

fn failing_ipam(node: &Node) {
    let network = node.network(&[plain_bridge(pool_4())]);
    let result = network.add("first");
    network.del("first", &result);
    let before = node.traces();
    let failing = node.network(&[plain_bridge(json!({ "type": "no-such-ipam" }))]);
    let answer = failing.try_add("a");
    assert!(!answer.ok && answer.code() > 0, "{:#}", answer.json);
    node.assert_nothing_since(&before, "an ADD that failed");
}

fn check_finds_gateway(node: &Node) {
    let network = node.network(&[bridge()]);
    let result = network.add("a");
    assert!(network.is_fine("a", &result));
    let host = host_end(&result);
    run("ip", &["link", "set", &host, "nomaster"]);
    assert!(!network.is_fine("a", &result), "the host end is on no bridge");
    run("ip", &["link", "set", &host, "master", "cni0"]);
    run("ip", &["link", "del", "cni0"]);
    assert!(!network.is_fine("a", &result), "there is no bridge");
}

fn check_finds_interface(node: &Node) {
    let network = node.network(&[bridge()]);
    let result = network.add("a");
    assert!(network.is_fine("a", &result));
    inside("a", "ip link del eth0");
    assert!(!network.is_fine("a", &result));
}

/// A network without gateway whose ports are in VLANs.
fn in_vlans(node: &Node, ipam: Value, options: Value) -> Network {
    let mut config = plain_bridge(ipam);
    config["isGateway"] = false.into();
    for (key, value) in options.as_object().expect("an object") {
        config[key] = value.clone();
    }
    node.network(&[config])
}

/// Addresses without a gateway to send anything to.
fn pool_without_routes() -> Value {
    json!({ "type": "host-local", "ranges": [[{ "subnet": "10.66.0.0/24" }]] })
}

fn vlans_of(result: &Value) -> String {
    run("bridge", &["vlan", "show", "dev", &host_end(result)])
}

fn vlan_tag(node: &Node) {
    let result = in_vlans(node, json!({}), json!({ "vlan": 100 })).add("a");
    let table = vlans_of(&result);
    assert!(table.contains("100 PVID Egress Untagged"), "{table}");
}

fn vlan_trunk(node: &Node) {
    let trunk = json!([{ "id": 101 }, { "minID": 200, "maxID": 202 }]);
    let result = in_vlans(node, json!({}), json!({ "vlanTrunk": trunk })).add("a");
    let table = vlans_of(&result);
    assert!(table.contains("101") && table.contains("200") && table.contains("202"), "{table}");
}

fn vlan_isolation(node: &Node) {
    let network = |vlan: u16| in_vlans(node, pool_without_routes(), json!({ "vlan": vlan }));
    network(100).add("a");
    let b = addresses(&network(100).add("b"));
    let c = addresses(&network(200).add("c"));
    let (_b, _c) = (Listener::start("b", 80), Listener::start("c", 80));
    assert_reaches("a", Tcp, &b[0], 80, "b");
    assert_silence("a", Tcp, &c[0], 80);
}

fn vlan_gateway(node: &Node) {
    let options = json!({ "vlan": 100, "isGateway": true });
    let network = in_vlans(node, pool_4(), options);
    let a = addresses(&network.add("a"));
    let b = addresses(&network.add("b"));
    assert!(run("ip", &["addr", "show", "cni0.100"]).contains("10.66.0.1/24"));
    in_vlans(node, pool_without_routes(), json!({ "vlan": 200 })).add("c");
    let (_b, _node) = (Listener::start("b", 80), Listener::start("", 81));
    assert_answer("a", Tcp, "10.66.0.1", 81, &format!(" sees {}", a[0]));
    assert_reaches("", Tcp, &b[0], 80, "b");
    assert_silence("c", Tcp, "10.66.0.1", 81);
}

fn vlan_trunk_passes(node: &Node) {
    let network = in_vlans(node, json!({}), json!({ "vlanTrunk": [{ "minID": 101, "maxID": 102 }] }));
    for (pod, number) in [("a", 1), ("b", 2)] {
        network.add(pod);
        for vlan in [101, 103] {
            inside(pod, &format!("ip link add link eth0 name tag{vlan} type vlan id {vlan}"));
            inside(pod, &format!("ip addr add 10.{vlan}.0.{number}/24 dev tag{vlan}"));
            inside(pod, &format!("ip link set tag{vlan} up"));
        }
    }
    let _b = Listener::start("b", 80);
    assert_answer("a", Tcp, "10.101.0.2", 80, "b sees 10.101.0.1");
    assert_silence("a", Tcp, "10.103.0.2", 80);
}

fn vlan_without_default(node: &Node) {
    let own = |result: &Value| -> Vec<String> {
        let table: Value =
            serde_json::from_str(&run("bridge", &["-j", "vlan", "show", "dev", &host_end(result)]))
                .expect("JSON");
        let vlans = table[0]["vlans"].as_array().cloned().unwrap_or_default();
        vlans.iter().map(|entry| entry["vlan"].to_string()).collect()
    };
    let kept = in_vlans(node, json!({}), json!({ "vlan": 100 })).add("a");
    assert_eq!(own(&kept), ["1", "100"]);
    let left = in_vlans(node, json!({}), json!({ "vlan": 100, "preserveDefaultVlan": false })).add("b");
    assert_eq!(own(&left), ["100"]);
}
