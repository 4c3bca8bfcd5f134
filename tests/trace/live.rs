//! Real packets, watched: they are seen where they were computed to go, vanish where they were computed to end, and nothing of the watching
//! stays.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use podplumb_tests::{binaries, require, wait_until};
use serde_json::Value;

use crate::site::{NEEDS, Site};
use crate::ways::{ROUTER, TUNNEL, with_site};

/// Traces with real packets; what is computed and what is seen have to agree.
fn live(site: &Site, code: i32, question: &[&str]) -> Value {
    let found = site.trace(code, &[question, &["--live", "--timeout", "3s"]].concat());
    for seen in found["seen"].as_array().expect("packets") {
        assert_ne!(seen["agrees"], false, "{found:#}");
    }
    for machine in machines(site) {
        let tables = site.run(&machine, "nft list tables");
        assert!(!tables.contains("podplumb-trace"), "{machine}: {tables}");
    }
    found
}

fn machines(site: &Site) -> Vec<String> {
    let names = std::fs::read_dir("/run/podplumb/labs/site/ns");
    let names: Vec<String> = names
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into())
        .collect();
    assert!(!names.is_empty(), "the lab's namespaces");
    let _ = site;
    names
}

#[test]
fn packets_are_seen_at_every_hop() {
    for (yaml, expect, from, to) in [
        (ROUTER, "ping alice -> bob", "alice", "bob"),
        (TUNNEL, "ping node1-pod1 -> node2-pod2", "node1-pod1", "node2-pod2"),
    ] {
        with_site(yaml, &[], expect, |site| {
            for port in ["icmp", "tcp/80", "udp/53"] {
                let found = live(site, 0, &[from, to, "--port", port]);
                let all = found["seen"].as_array().unwrap();
                for (at, seen) in all.iter().enumerate() {
                    let times = seen["hops_ns"].as_array().unwrap();
                    let unwatched = seen["unwatched"].as_array().map_or(0, Vec::len);
                    let missing = times.iter().filter(|time| time.is_null()).count();
                    assert_eq!(missing, unwatched, "{port}: {seen:#}");
                    let times: Vec<u64> = times.iter().filter_map(Value::as_u64).collect();
                    // On a busy machine the kernel may not note times yet when the first one passes.
                    assert!(at == 0 || times.is_sorted(), "{port}: {times:?}");
                }
            }
        });
    }
}

#[test]
fn the_rule_that_drops_them_is_named() {
    for (rule, says) in [
        (
            "router: nft add rule ip t forward ip daddr 10.0.1.2 drop",
            "nft ip t, forward: ip daddr 10.0.1.2 drop",
        ),
        ("router: iptables-nft -A FORWARD -p icmp -d 10.0.1.2 -j DROP", "iptables-nft ip filter, FORWARD: "),
        ("router: iptables-nft -P FORWARD DROP", "iptables-nft ip filter, FORWARD: policy drop"),
    ] {
        let chain = "router: nft add chain ip t forward { type filter hook forward priority 0 ; }";
        let changes = ["router: nft add table ip t", chain, rule];
        with_site(ROUTER, &changes, "no ping alice -> bob", |site| {
            let found = live(site, 3, &["alice", "bob"]);
            let seen = &found["seen"][0];
            let by = seen["dropped_by"][0].as_str().unwrap_or_default();
            assert!(by.contains(says), "{says:?}: {found:#}");
            assert!(found["there"]["outcome"]["why"].as_str().unwrap_or_default().contains(by), "{found:#}");
            assert_eq!(seen["last"], 1, "it came in by the router's interface: {found:#}");
        });
    }
    // In the outer packet of a tunnel.
    let rules = [
        "node2: nft add table inet t",
        "node2: nft add chain inet t in { type filter hook input priority 0 ; }",
        "node2: nft add rule inet t in udp dport 8472 drop",
    ];
    with_site(TUNNEL, &rules, "no ping node1-pod1 -> node2-pod1", |site| {
        let found = live(site, 3, &["node1-pod1", "node2-pod1"]);
        assert_eq!(found["seen"][0]["dropped_by"][0], "nft inet t, in: udp dport 8472 drop");
    });
    // Of iptables-legacy nobody knows.
    let rule = ["router: iptables-legacy -A FORWARD -d 10.0.1.2 -j DROP"];
    with_site(ROUTER, &rule, "no ping alice -> bob", |site| {
        let found = live(site, 3, &["alice", "bob"]);
        assert_eq!(found["seen"][0]["untraceable"][0], "router", "{found:#}");
    });
}

#[test]
fn they_vanish_where_they_were_computed_to_end() {
    for change in [
        "router: sysctl -qw net.ipv4.ip_forward=0",
        "router: ip route add blackhole 10.0.1.2",
        "bob: ip route del default",
        "alice: ip route add blackhole 10.0.1.2",
    ] {
        with_site(ROUTER, &[change], "no ping alice -> bob", |site| {
            let found = live(site, 3, &["alice", "bob"]);
            let seen = &found["seen"][0];
            let computed = found["there"]["hops"].as_array().unwrap().len() as u64;
            if found["there"]["outcome"]["end"] == "ends" {
                // The last hop that was computed is the last at which it was seen.
                assert_eq!(seen["last"].as_u64().map_or(0, |last| last + 1), computed, "{found:#}");
            }
        });
    }
}

#[test]
fn packets_are_sent_from_the_address_that_is_asked_for() {
    let rules = [
        "alice: ip route add blackhole default table 100",
        "alice: ip rule add from 10.117.0.2 lookup 100 priority 50",
    ];
    // Of its own: other tests' machines have the usual addresses.
    let yaml = format!("pool: 10.117.0.0/16\n{ROUTER}");
    with_site(&yaml, &rules, "ping alice -> bob", |site| {
        live(site, 0, &["alice", "bob"]);
        let found = live(site, 3, &["10.117.0.2", "bob"]);
        assert!(
            found["there"]["outcome"]["why"].as_str().unwrap_or_default().contains("table 100"),
            "{found:#}"
        );
    });
}

#[test]
fn large_packets_vanish_where_the_network_is_narrower() {
    let yaml = "nodes: {node: {count: 2, pods: 1}}\nswitches: [net]
links:\n  - node1 -- net\n  - {link: node2 -- net, to: {mtu: 1400}}\noverlay: {kind: vxlan}";
    with_site(yaml, &[], "no ping node1-pod1 -> node2-pod1 size 1450", |site| {
        let found = live(site, 3, &["node1-pod1", "node2-pod1"]);
        assert_eq!(found["seen"][0]["arrived"], true);
        assert_eq!(found["seen"][1]["arrived"], false);
        assert_eq!(found["seen"][1]["bytes"], 1450);
    });
}

/// Starts a trace of packets that are lost, which takes as long as it may.
fn start(site: &Site, limit: &str) -> std::process::Child {
    site.run("router", "ip route add blackhole 10.0.1.2");
    let mut command = Command::new(binaries().join("podplumb"));
    command.args(["trace", "alice", "bob", "--live", "--timeout", limit, "--runtime", "none"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("it watches", || site.run("router", "nft list tables").contains("podplumb-trace"));
    child
}

#[test]
fn nothing_is_left_of_one_that_is_killed() {
    with_site(ROUTER, &[], "ping alice -> bob", |site| {
        let mut child = start(site, "300s");
        child.kill().unwrap();
        child.wait().unwrap();
        for machine in machines(site) {
            let is_gone = || !site.run(&machine, "nft list tables").contains("podplumb-trace");
            wait_until(&format!("{machine} has no table of a dead process"), is_gone);
        }
    });
}

#[test]
fn a_pod_that_goes_away_meanwhile_is_told() {
    with_site(ROUTER, &[], "ping alice -> bob", |site| {
        let child = start(site, "15s");
        site.run("alice", "ip link del eth0");
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains("went away meanwhile"), "{text}");
    });
}

#[test]
fn a_lost_packet_takes_its_time_limit_and_no_longer() {
    if !require(&NEEDS) {
        return;
    }
    with_site(ROUTER, &["router: ip route add blackhole 10.0.1.2"], "no ping alice -> bob", |site| {
        let start = Instant::now();
        site.trace(3, &["alice", "bob", "--live", "--timeout", "8s"]);
        let took = start.elapsed();
        // Two packets would be sent, were the first one not lost; looking at the node takes some of it.
        assert!(took >= Duration::from_secs(8) && took < Duration::from_secs(16), "{took:?}");
    });
}
