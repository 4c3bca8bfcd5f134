//! What belongs to the whole machine is changed in a snapshot: limits of its tables, its clock, its kernel.

use lab::Lab;
use podplumb_tests::{Podplumb, World, require};
use serde_json::{Value, json};

use crate::node::doctor;
use crate::table::{NODE, TUNNEL};

/// A check, and the change by which it alone finds something.
type Row = (&'static str, fn(&mut Value));

const ROWS: [Row; 10] = [
    ("neighbour-table", |node| {
        let entry =
            |n: u32| json!({"address": std::net::Ipv4Addr::from(0x0a09_0000 + n), "device": 2, "state": 2});
        node["neighbours"] = (0..1000).map(entry).collect();
    }),
    ("conntrack-table", |node| node["conntrack"] = json!({"count": 262_000, "max": 262_144})),
    ("conntrack-drops", |node| {
        node["conntrack"] = json!({"count": 7, "max": 262_144, "insert_failed": 3, "dropped": 0});
    }),
    ("lease-clock", |node| {
        let tomorrow = node["taken_at"].as_i64().expect("a time") + 86_400_000;
        node["leases"] = json!([{"path": "/var/lib/cni/networks/pods/10.9.0.2", "network": "pods", "address": "10.9.0.2",
            "container": "c1", "content": "c1", "since": tomorrow}]);
    }),
    ("vxlan-checksum", |node| node["node"]["kernel"] = "4.19.0".into()),
    ("known-version", |node| {
        node["runtimes"] = json!([{"kind": "containerd", "endpoint": "/run/containerd/containerd.sock",
            "status": {"state": "answered", "version": "1.6.10"}}]);
    }),
    ("service-overlap", |node| {
        node["sysctls"]["net.bridge.bridge-nf-call-iptables"] = "1".into();
        let key = json!([{"net": "10.244.0.200/32"}, {"number": 6}, {"number": 443}]);
        let table = json!({"family": "ip", "name": "kube-proxy", "maker": "nft",
            "sets": [{"name": "service-ips", "elements": [{"key": key}]}]});
        node["ruleset"]["tables"].as_array_mut().expect("its tables").push(table);
    }),
    ("dying-peer", |node| {
        let veth = json!({"index": 999, "name": "veth999", "kind": "veth", "mtu_bytes": 1500, "up": true, "carrier": true,
            "peer": {"index": 2, "nsid": -1}});
        node["namespaces"][0]["links"].as_array_mut().expect("its links").push(veth);
    }),
    ("cni-config", kubelet),
    ("cni-two-configs", |node| {
        kubelet(node);
        let config =
            |path: &str, name: &str| json!({"path": path, "network": name, "plugins": ["cilium-cni"]});
        node["configs"] = json!([
            config("/etc/cni/net.d/05-cilium.conf", "cilium"),
            config("/etc/cni/net.d/10-old.conf", "old")
        ]);
        node["plugins"] =
            json!([{"kind": "cilium-cni", "path": "/opt/cni/bin/cilium-cni", "mode": 0o100_755}]);
    }),
];

/// A node of Kubernetes'.
fn kubelet(node: &mut Value) {
    node["kubelet_pods"] = json!([]);
    node["runtimes"] = json!([{"kind": "containerd", "endpoint": "/run/containerd/containerd.sock",
        "status": {"state": "answered", "version": "2.1.0"}}]);
}

#[test]
fn each_check_of_the_machine_finds_what_was_changed_in_a_snapshot_and_no_other_does() {
    if !require(&["ip"]) {
        return;
    }
    let world = World::enter();
    world.hide_others();
    let file = world.path().join("node.json");
    let path = file.display().to_string();
    let mut wrong = Vec::new();
    for (check, change) in ROWS {
        let lab = Lab::from_yaml(if check == "vxlan-checksum" { TUNNEL } else { NODE }).expect("a lab");
        let machine = if check == "vxlan-checksum" { "node1" } else { "node" };
        let text = lab
            .run(machine, || Podplumb::default().expect(0, &["snapshot", "--runtime", "none"]))
            .expect("the machine");
        let mut node: Value = serde_json::from_str(&text).expect("JSON");
        // The machine's own are as they are.
        for own in ["neighbour_tables", "conntrack"] {
            node.as_object_mut().expect("an object").remove(own);
        }
        node["neighbour_tables"] = json!([{"name": "arp_cache", "entries": 3, "gc_thresh1": 128, "gc_thresh2": 512,
            "gc_thresh3": 1024, "overflows": 0}]);
        std::fs::write(&file, node.to_string()).expect("a file");
        let before = doctor(&["--from", &path]);
        change(&mut node);
        std::fs::write(&file, node.to_string()).expect("a file");
        let after = doctor(&["--from", &path]);
        if !before.found().is_empty() || after.ids() != [check] {
            wrong.push(format!("{check}: {:#} {:#}", before.json["findings"], after.json["findings"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
