//! bandwidth, tuning, sbr, vrf: plugins that change an interface which is there.

use podplumb_tests::run;
use serde_json::{Value, json};

use crate::case::{Case, IFB, VRF};
use crate::node::{Network, Node, OUTSIDE, OUTSIDE_6, addresses, inside, make_namespace};
use crate::peer::Protocol::Tcp;
use crate::peer::{Listener, assert_reaches};
use crate::setup::{bandwidth, plain_bridge, pool, pool_4};

pub(crate) fn cases() -> Vec<Case> {
    let rates = |name, run: fn(&Node)| {
        Case::new(format!("bandwidth: {name}"), &["bridge", "host-local", "bandwidth"], &[IFB], run)
    };
    let tuning = |name, run: fn(&Node)| {
        Case::new(format!("tuning: {name}"), &["bridge", "host-local", "tuning"], &[], run)
    };
    let sbr =
        |name, run: fn(&Node)| Case::new(format!("sbr: {name}"), &["bridge", "host-local", "sbr"], &[], run);
    let vrf = |name, run: fn(&Node)| {
        Case::new(format!("vrf: {name}"), &["bridge", "host-local", "vrf"], &[VRF], run)
    };
    vec![
        rates("both directions have their rate, and packets still pass", both_rates),
        rates("rates of the configuration", rates_of_the_configuration),
        rates("one direction alone", one_direction),
        rates("without rates nothing happens", no_rates),
        rates("a rate without a burst is refused", rate_without_burst),
        rates("unshapedSubnets are not limited", unshaped_subnets),
        rates("shapedSubnets alone are limited", shaped_subnets),
        rates("shapedSubnets and unshapedSubnets exclude each other", both_kinds_of_subnets),
        rates("CHECK finds a missing shaper", check_finds_shaper),
        rates("DEL removes what ADD made", del_removes_shapers),
        tuning("mac, mtu, promisc and allmulti are set and restored", interface_is_tuned_and_restored),
        tuning("txQLen is set and restored", queue_length),
        tuning("sysctls, with IFNAME", sysctls),
        tuning("sysctls outside of net are refused", foreign_sysctls),
        tuning("the allow list limits sysctls", allow_list),
        tuning("a MAC is taken from the runtime", mac_of_the_runtime),
        tuning("the result has the new MAC and mtu", result_is_changed),
        tuning("CHECK finds what was changed back", check_finds_changes),
        sbr("what comes from the pod's address goes by its own table", rules_by_source),
        sbr("a second interface has a table of its own", second_interface),
        sbr("table", chosen_table),
        sbr("DEL removes its rules", del_removes_rules),
        vrf("the interface is in the VRF", in_the_vrf),
        vrf("addresses and routes of both families stay", vrf_both_families),
        vrf("routes keep their metrics", vrf_metrics),
        vrf("packets pass", vrf_passes),
        vrf("table", vrf_table),
        vrf("a VRF of that name with another table is refused", vrf_of_another_table),
        vrf("each VRF has a table of its own", vrf_tables),
        vrf("the last DEL removes the VRF", del_removes_vrf),
    ]
}

fn with(node: &Node, plugin: Value) -> Network {
    node.network(&[plain_bridge(pool_4()), plugin])
}

fn host_end(result: &Value) -> String {
    result["interfaces"][1]["name"].as_str().expect("a host end").to_owned()
}

/// Every tbf of the node, with its device.
fn shapers() -> Vec<String> {
    let all = run("tc", &["qdisc", "show"]);
    all.lines().filter(|line| line.starts_with("qdisc tbf")).map(str::to_owned).collect()
}

fn both_rates(node: &Node) {
    let result = with(node, bandwidth()).add("a");
    let shapers = shapers();
    let host = host_end(&result);
    let of = |rate: &str| shapers.iter().find(|line| line.contains(rate)).cloned().unwrap_or_default();
    assert!(of("rate 8Mbit").contains(&format!("dev {host}")), "what comes in: {shapers:?}");
    assert!(of("rate 16Mbit").contains("dev bwp"), "what goes out, on an ifb: {shapers:?}");
    let (_a, _node) = (Listener::start("a", 80), Listener::start("", 81));
    assert_reaches("", Tcp, &addresses(&result)[0], 80, "a");
    assert_reaches("a", Tcp, "10.66.0.1", 81, "");
    // What the pod sent went through the shaper.
    let sent = run("tc", &["-s", "qdisc", "show"]);
    let lines: Vec<&str> = sent.lines().collect();
    for rate in ["rate 8Mbit", "rate 16Mbit"] {
        let at = lines.iter().position(|line| line.contains(rate)).expect("a shaper");
        assert!(!lines[at + 1].trim().starts_with("Sent 0 bytes"), "{rate}: {sent}");
    }
}

fn rates_of_the_configuration(node: &Node) {
    let config = json!({
        "type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000,
        "egressRate": 16_000_000, "egressBurst": 1_600_000,
    });
    with(node, config).add("a");
    assert_eq!(shapers().len(), 2, "{:?}", shapers());
}

fn one_direction(node: &Node) {
    let ingress = json!({ "type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000 });
    let network = with(node, ingress);
    let result = network.add("a");
    assert_eq!(shapers().len(), 1);
    assert!(!run("ip", &["-o", "link"]).contains(" bwp"));
    assert!(network.is_fine("a", &result));
    network.del("a", &result);
    let egress = json!({ "type": "bandwidth", "egressRate": 8_000_000, "egressBurst": 800_000 });
    with(node, egress).add("b");
    assert_eq!(shapers().len(), 1);
    assert!(run("ip", &["-o", "link"]).contains(" bwp"));
}

fn no_rates(node: &Node) {
    let network = with(node, json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } }));
    let result = network.add("a");
    assert!(shapers().is_empty());
    assert_eq!(addresses(&result).len(), 1);
    network.del("a", &result);
}

fn rate_without_burst(node: &Node) {
    let answer = with(node, json!({ "type": "bandwidth", "ingressRate": 8_000_000 })).try_add("a");
    assert!(!answer.ok && answer.code() > 0, "{:#}", answer.json);
}

/// What each direction's class 1:30, the limited one, has sent so far, in bytes: in, out.
fn limited_bytes(host: &str) -> [u64; 2] {
    let links = run("ip", &["-o", "link"]);
    let ifb = links.lines().find_map(|line| line.split(": ").nth(1).filter(|name| name.starts_with("bwp")));
    [host, ifb.expect("an ifb")].map(|device| {
        let all = run("tc", &["-s", "class", "show", "dev", device]);
        let mut lines = all.lines().skip_while(|line| !line.contains("htb 1:30 "));
        let sent = lines.find_map(|line| line.trim().strip_prefix("Sent ")).expect("a class with a limit");
        sent.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
    })
}

/// Whether packets between the pod and these addresses are limited, in and out.
fn assert_limited(node: &Node, subnets: &Value, expected: &[(&str, bool)]) {
    node.outside_with_routes();
    let mut config = bandwidth();
    for (key, value) in subnets.as_object().expect("an object") {
        config[key] = value.clone();
    }
    let network = node.network(&[plain_bridge(pool()), config]);
    let result = network.add("a");
    assert!(network.is_fine("a", &result));
    let host = host_end(&result);
    for (address, is_limited) in expected {
        // Neighbours find each other first.
        inside("a", &format!("ping -c 1 -w 5 {address}"));
        let before = limited_bytes(&host);
        inside("a", &format!("ping -c 4 -i 0.05 -s 1000 -W 2 {address}"));
        let after = limited_bytes(&host);
        for (before, after) in before.into_iter().zip(after) {
            assert_eq!(after - before >= 4000, *is_limited, "{address}: {before} to {after} bytes");
        }
    }
    network.del("a", &result);
    assert!(!run("ip", &["-o", "link"]).contains(" bwp"));
}

fn unshaped_subnets(node: &Node) {
    let subnets = json!({ "unshapedSubnets": ["10.66.0.0/24", "2001:db8::/68"] });
    let expected = [("10.66.0.1", false), (OUTSIDE, true), (OUTSIDE_6, false), ("fd66::1", true)];
    assert_limited(node, &subnets, &expected);
}

fn shaped_subnets(node: &Node) {
    let subnets = json!({ "shapedSubnets": ["192.0.2.0/25", "fd66::/64"] });
    let expected = [("10.66.0.1", false), (OUTSIDE, true), (OUTSIDE_6, false), ("fd66::1", true)];
    assert_limited(node, &subnets, &expected);
}

fn both_kinds_of_subnets(node: &Node) {
    let mut config = bandwidth();
    config["shapedSubnets"] = json!(["192.0.2.0/24"]);
    config["unshapedSubnets"] = json!(["10.0.0.0/8"]);
    let answer = with(node, config).try_add("a");
    assert!(!answer.ok && answer.code() > 0, "{:#}", answer.json);
}

fn check_finds_shaper(node: &Node) {
    let network = with(node, bandwidth());
    let result = network.add("a");
    assert!(network.is_fine("a", &result));
    run("tc", &["qdisc", "del", "dev", &host_end(&result), "root"]);
    assert!(!network.is_fine("a", &result));
}

fn del_removes_shapers(node: &Node) {
    let network = with(node, bandwidth());
    let result = network.add("a");
    let answer = network.call(1, "DEL", "a", &result);
    assert!(answer.ok, "{:#}", answer.json);
    assert!(!run("ip", &["-o", "link"]).contains(" bwp"));
    network.del("a", &result);
    assert!(shapers().is_empty());
}

fn interface_is_tuned_and_restored(node: &Node) {
    let config = json!({
        "type": "tuning", "mac": "0a:58:0a:42:00:09", "mtu": 1400, "promisc": true, "allmulti": true,
    });
    let plain = node.network(&[plain_bridge(pool_4())]).add("a");
    let shown = |id: &str| inside(id, "ip -d link show eth0");
    let before = shown("a");
    let tuning = node.network(&[config]);
    let answer = tuning.call(0, "ADD", "a", &plain);
    assert!(answer.ok, "{:#}", answer.json);
    let tuned = shown("a");
    for part in ["0a:58:0a:42:00:09", "mtu 1400", "promiscuity 1"] {
        assert!(tuned.contains(part), "{part} in {tuned}");
    }
    assert!(tuned.contains("PROMISC") && tuned.contains("ALLMULTI"), "{tuned}");
    tuning.del("a", &answer.json);
    assert_eq!(shown("a"), before);
}

fn queue_length(node: &Node) {
    let plain = node.network(&[plain_bridge(pool_4())]).add("a");
    let tuning = node.network(&[json!({ "type": "tuning", "txQLen": 777 })]);
    let answer = tuning.call(0, "ADD", "a", &plain);
    assert!(answer.ok, "{:#}", answer.json);
    assert!(inside("a", "ip link show eth0").contains("qlen 777"));
    tuning.del("a", &answer.json);
    assert!(inside("a", "ip link show eth0").contains("qlen 1000"));
}

fn sysctl(id: &str, name: &str) -> String {
    inside(id, &format!("sysctl -n {name}")).trim().to_owned()
}

fn sysctls(node: &Node) {
    let values = json!({ "net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.arp_filter": "1" });
    let network = with(node, json!({ "type": "tuning", "sysctl": values }));
    let result = network.add("a");
    assert_eq!(sysctl("a", "net.core.somaxconn"), "500");
    assert_eq!(sysctl("a", "net.ipv4.conf.eth0.arp_filter"), "1");
    assert_ne!(run("sysctl", &["-n", "net.core.somaxconn"]).trim(), "500", "the node's stays");
    network.del("a", &result);
}

fn foreign_sysctls(node: &Node) {
    for name in ["kernel.hostname", "vm.swappiness", "net.ipv4/../../kernel.hostname"] {
        let mut values = json!({});
        values[name] = "7".into();
        let answer = with(node, json!({ "type": "tuning", "sysctl": values })).try_add("a");
        assert!(!answer.ok, "{name}: {:#}", answer.json);
        run("ip", &["netns", "del", "a"]);
    }
    assert_ne!(run("sysctl", &["-n", "kernel.hostname"]).trim(), "7");
}

fn allow_list(node: &Node) {
    std::fs::create_dir_all("/etc/cni/tuning").expect("a directory");
    std::fs::write("/etc/cni/tuning/allowlist.conf", "^net.core.somaxconn$\n").expect("a file");
    let tuning = |name: &str| {
        let mut values = json!({});
        values[name] = "500".into();
        with(node, json!({ "type": "tuning", "sysctl": values }))
    };
    assert!(!tuning("net.ipv4.tcp_fin_timeout").try_add("a").ok);
    tuning("net.core.somaxconn").add("b");
    assert_eq!(sysctl("b", "net.core.somaxconn"), "500");
}

fn mac_of_the_runtime(node: &Node) {
    let config = json!({ "type": "tuning", "runtimeConfig": { "mac": "0a:58:0a:42:00:09" } });
    with(node, config).add("a");
    assert!(inside("a", "ip link show eth0").contains("0a:58:0a:42:00:09"));
}

fn result_is_changed(node: &Node) {
    let result = with(node, json!({ "type": "tuning", "mac": "0a:58:0a:42:00:09", "mtu": 1400 })).add("a");
    let all = result["interfaces"].as_array().cloned().unwrap_or_default();
    let eth0 = all.iter().find(|end| end["name"] == "eth0").expect("eth0 in the result");
    assert_eq!(eth0["mac"], "0a:58:0a:42:00:09", "{result:#}");
}

fn check_finds_changes(node: &Node) {
    let config = json!({ "type": "tuning", "mtu": 1400, "sysctl": { "net.core.somaxconn": "500" } });
    let network = with(node, config);
    let result = network.add("a");
    assert!(network.is_fine("a", &result));
    inside("a", "sysctl -q -w net.core.somaxconn=501");
    assert!(!network.is_fine("a", &result), "a sysctl");
    inside("a", "sysctl -q -w net.core.somaxconn=500");
    assert!(network.is_fine("a", &result));
    inside("a", "ip link set eth0 mtu 1399");
    assert!(!network.is_fine("a", &result), "the mtu");
}

fn rules_by_source(node: &Node) {
    node.outside_with_routes();
    let result = node.network(&[plain_bridge(pool()), json!({ "type": "sbr" })]).add("a");
    for (family, address) in ["-4", "-6"].into_iter().zip(addresses(&result)) {
        let rules = inside("a", &format!("ip {family} rule"));
        let rule = rules.lines().find(|line| line.contains(&format!("from {address} ")));
        let table = rule.and_then(|rule| rule.split_whitespace().last()).expect("a rule").to_owned();
        let routes = inside("a", &format!("ip {family} route show table {table}"));
        assert!(routes.contains("default via"), "{routes}");
        assert!(!inside("a", &format!("ip {family} route show default")).contains("default"));
    }
    let _outside = Listener::start("outside", 80);
    // Who binds to the address finds the way.
    let from = std::net::SocketAddr::new(addresses(&result)[0].parse().expect("an address"), 0);
    let answer = crate::peer::at("a", || {
        let socket = std::net::UdpSocket::bind(from).expect("a port");
        let to = format!("{OUTSIDE}:80").parse().expect("an address");
        (0..5).find_map(|_| crate::peer::ask_by_udp(&socket, to))
    });
    assert_eq!(answer, Some(format!("outside sees {}", addresses(&result)[0])));
}

fn second_interface(node: &Node) {
    let tables = |number: u8| {
        let ipam = json!({
            "type": "host-local", "subnet": format!("10.66.{number}.0/24"), "routes": [{ "dst": "0.0.0.0/0" }],
        });
        let bridge =
            json!({ "type": "bridge", "bridge": format!("cni{number}"), "isGateway": true, "ipam": ipam });
        let plugins = [bridge, json!({ "type": "sbr" })].map(|config| node.plugin(&config));
        let mut previous = Value::Null;
        for mut plugin in plugins {
            plugin.config["prevResult"] = previous.clone();
            if previous.is_null() {
                plugin.config.as_object_mut().expect("an object").remove("prevResult");
            }
            let ifname = format!("net{number}");
            let environment = [
                ("CNI_COMMAND", "ADD"),
                ("CNI_CONTAINERID", "a"),
                ("CNI_NETNS", "/run/netns/a"),
                ("CNI_IFNAME", &ifname),
            ];
            let answer = plugin.call(&environment, plugin.config.to_string().as_bytes());
            assert!(answer.ok, "{:#}", answer.json);
            previous = answer.json;
        }
        let rules = inside("a", "ip rule");
        let address = addresses(&previous)[0].clone();
        let rule = rules.lines().find(|line| line.contains(&format!("from {address} "))).expect("a rule");
        rule.split_whitespace().last().expect("a table").to_owned()
    };
    crate::node::make_namespace("a");
    let (first, second) = (tables(1), tables(2));
    assert_ne!(first, second);
    assert!(inside("a", &format!("ip route show table {first}")).contains("dev net1"));
    assert!(inside("a", &format!("ip route show table {second}")).contains("dev net2"));
}

fn chosen_table(node: &Node) {
    let result = with(node, json!({ "type": "sbr", "table": 4321 })).add("a");
    let rules = inside("a", "ip rule");
    assert!(rules.contains(&format!("from {} lookup 4321", addresses(&result)[0])), "{rules}");
}

fn del_removes_rules(node: &Node) {
    let network = with(node, json!({ "type": "sbr" }));
    let result = network.add("a");
    assert!(inside("a", "ip rule").contains(&addresses(&result)[0]));
    network.del("a", &result);
    assert!(!inside("a", "ip rule").contains(&addresses(&result)[0]));
}

fn vrf(options: Value) -> Value {
    let mut config = json!({ "type": "vrf", "vrfname": "blue" });
    for (key, value) in options.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config
}

fn in_the_vrf(node: &Node) {
    let result = with(node, vrf(json!({}))).add("a");
    assert!(inside("a", "ip -o link show master blue").contains("eth0"));
    let shown = inside("a", "ip addr show eth0");
    assert!(shown.contains(&addresses(&result)[0]), "addresses stay: {shown}");
    assert!(inside("a", "ip route show vrf blue").contains("default via 10.66.0.1"), "routes follow");
}

fn vrf_both_families(node: &Node) {
    let result = node.network(&[plain_bridge(pool()), vrf(json!({}))]).add("a");
    let shown = inside("a", "ip addr show eth0");
    for address in addresses(&result) {
        assert!(shown.contains(&format!("{address}/")), "{address} in {shown}");
    }
    assert!(inside("a", "ip -4 route show vrf blue").contains("default via 10.66.0.1"));
    let routes = inside("a", "ip -6 route show vrf blue");
    assert!(routes.contains("default via fd66::1") && routes.contains("fd66::/64"), "{routes}");
}

fn vrf_metrics(node: &Node) {
    make_namespace("a");
    let network = with(node, vrf(json!({})));
    let result = network.call(0, "ADD", "a", &Value::Null).json;
    inside("a", "ip route add 203.0.113.0/24 via 10.66.0.1 mtu 1300 metric 77");
    let answer = network.call(1, "ADD", "a", &result);
    assert!(answer.ok, "{:#}", answer.json);
    let routes = inside("a", "ip route show vrf blue");
    let own = routes.lines().find(|line| line.starts_with("203.0.113.0/24")).unwrap_or_default();
    assert!(own.contains("mtu 1300") && own.contains("metric 77"), "{routes}");
}

fn vrf_passes(node: &Node) {
    let result = node.network(&[plain_bridge(pool()), vrf(json!({}))]).add("a");
    // Whoever is in no VRF listens in all of them.
    inside("a", "sysctl -qw net.ipv4.tcp_l3mdev_accept=1");
    let _a = Listener::start("a", 80);
    for address in addresses(&result) {
        assert_reaches("", Tcp, &address, 80, "a");
    }
}

fn vrf_of_another_table(node: &Node) {
    let result = with(node, vrf(json!({ "table": 4321 }))).add("a");
    let again = node.network(&[plain_bridge(pool_4()), vrf(json!({ "table": 1234 }))]);
    let answer = again.call(1, "ADD", "a", &result);
    assert!(!answer.ok && answer.code() > 0, "{:#}", answer.json);
    assert!(inside("a", "ip -d link show blue").contains("table 4321"));
}

fn vrf_tables(node: &Node) {
    make_namespace("a");
    inside("a", "ip link add red type vrf table 1");
    with(node, vrf(json!({}))).add("a");
    let blue = inside("a", "ip -d link show blue");
    let table = blue.split("vrf table ").nth(1).and_then(|rest| rest.split_whitespace().next());
    assert!(table.is_some_and(|table| table != "1"), "{blue}");
}

fn vrf_table(node: &Node) {
    with(node, vrf(json!({ "table": 4321 }))).add("a");
    assert!(inside("a", "ip -d link show blue").contains("table 4321"));
}

fn del_removes_vrf(node: &Node) {
    let network = with(node, vrf(json!({})));
    let result = network.add("a");
    let answer = network.call(1, "DEL", "a", &result);
    assert!(answer.ok, "{:#}", answer.json);
    assert!(!inside("a", "ip link").contains("blue"));
    network.del("a", &result);
}
