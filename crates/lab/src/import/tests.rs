//! What snapshots come to.

use std::path::Path;

use model::Snapshot;

use super::{Imported, import};
use crate::topology::{MacvlanMode, from_yaml, to_yaml};
use crate::wiring::{DeviceKind, Wiring};

/// A node as `podplumb snapshot` tells it: a bridge with a pod and a leaked namespace, a tunnel, an uplink.
const NODE: &str = r#"{
  "version": 1,
  "taken_at": 1763719200000,
  "node": {"hostname": "node 1", "kernel": "6.18", "boot_id": "b", "booted_at": 1763712000000},
  "runtimes": [{"kind": "containerd", "endpoint": "/run/c.sock", "status": {"state": "answered", "version": "2"},
    "objects": [{"id": "abc", "kind": "sandbox", "name": "web", "state": "Ready", "netns": "/run/netns/cni-1",
      "pod": {"namespace": "shop", "name": "web-0"}}]}],
  "namespaces": [
    {"host": true, "readable": true, "links": [
      {"index": 1, "name": "lo", "mtu_bytes": 65536, "up": true, "carrier": true, "loopback": true,
       "addresses": ["127.0.0.1/8", "10.9.9.9/32"]},
      {"index": 2, "name": "ens3", "mac": "52:54:00:00:00:01", "mtu_bytes": 1500, "up": true, "carrier": true,
       "addresses": ["192.0.2.10/24", "fe80::1/64"]},
      {"index": 3, "name": "cni0", "kind": "bridge", "mac": "02:00:00:00:00:03", "mtu_bytes": 1450, "up": true,
       "carrier": true, "addresses": ["10.244.0.1/24"]},
      {"index": 4, "name": "flannel.1", "kind": "vxlan", "mac": "02:00:00:00:00:04", "mtu_bytes": 1450, "up": true,
       "carrier": true, "addresses": ["10.244.0.0/32"],
       "vxlan": {"id": 1, "port": 8472, "local": "192.0.2.10", "lower": 2, "learning": false}},
      {"index": 5, "name": "veth1", "kind": "veth", "mac": "02:00:00:00:00:05", "mtu_bytes": 1450, "up": true,
       "carrier": true, "master": 3, "peer": {"index": 2, "nsid": 0}, "port": {"state": 3, "hairpin": true, "isolated": false}},
      {"index": 6, "name": "veth2", "kind": "veth", "mtu_bytes": 1450, "up": true, "carrier": true, "master": 3,
       "peer": {"index": 2, "nsid": 1}},
      {"index": 7, "name": "calif", "kind": "veth", "mtu_bytes": 1500, "up": true, "carrier": true,
       "peer": {"index": 3, "nsid": 2}},
      {"index": 8, "name": "wg0", "kind": "wireguard", "mtu_bytes": 1420, "up": true, "carrier": true,
       "addresses": ["10.8.0.1/24"]},
      {"index": 9, "name": "eno2", "mtu_bytes": 1500, "up": false, "carrier": false},
      {"index": 10, "name": "veth9", "kind": "veth", "mtu_bytes": 1500, "up": true, "carrier": true, "master": 3,
       "peer": {"index": 2, "nsid": 9}}
    ]},
    {"inode": 11, "nsid": 0, "readable": true, "pins": [{"path": "/run/netns/cni-1"}], "links": [
      {"index": 1, "name": "lo", "mtu_bytes": 65536, "up": true, "carrier": true, "loopback": true},
      {"index": 2, "name": "eth0", "kind": "veth", "mac": "02:00:00:00:01:02", "mtu_bytes": 1450, "up": true,
       "carrier": true, "peer": {"index": 5, "nsid": 0}, "addresses": ["10.244.0.7/24"]},
      {"index": 3, "name": "net1", "kind": "macvlan", "mtu_bytes": 1500, "up": true, "carrier": true,
       "lower": {"index": 2, "nsid": 0}, "addresses": ["192.0.2.77/24"]}]},
    {"inode": 12, "nsid": 1, "readable": true, "pins": [{"path": "/run/netns/web-0"}], "links": [
      {"index": 2, "name": "eth0", "kind": "veth", "mtu_bytes": 1450, "up": true, "carrier": true,
       "peer": {"index": 6, "nsid": 0}, "addresses": ["10.244.0.7/24"]}]},
    {"inode": 13, "nsid": 2, "readable": true, "links": [
      {"index": 3, "name": "eth0", "kind": "veth", "mtu_bytes": 1500, "up": true, "carrier": true,
       "peer": {"index": 7, "nsid": 0}, "addresses": ["10.1.1.5/32"]}]},
    {"inode": 14, "readable": true, "pins": [{"path": "/run/netns/other"}], "links": [
      {"index": 2, "name": "dummy0", "kind": "dummy", "mtu_bytes": 1500, "up": true, "carrier": true}]}
  ],
  "routes": [
    {"destination": "0.0.0.0/0", "gateway": "192.0.2.1", "device": 2, "table": 254},
    {"destination": "192.0.2.0/24", "device": 2, "table": 254, "scope": 253, "source": "192.0.2.10"},
    {"destination": "10.244.0.0/24", "device": 3, "table": 254, "scope": 253},
    {"destination": "10.244.1.0/24", "gateway": "10.244.1.0", "device": 4, "table": 254},
    {"destination": "10.1.1.5/32", "device": 7, "table": 254, "scope": 253},
    {"destination": "10.2.0.0/16", "gateway": "192.0.2.1", "device": 2, "table": 100},
    {"destination": "192.0.2.10/32", "device": 2, "table": 255}
  ],
  "neighbours": [
    {"address": "10.244.1.0", "mac": "02:00:00:00:00:99", "device": 4, "state": 128},
    {"address": "192.0.2.1", "mac": "02:00:00:00:00:98", "device": 2, "state": 2}
  ],
  "fdb": [
    {"mac": "02:00:00:00:00:99", "device": 4, "remote": "192.0.2.11", "state": 128},
    {"mac": "02:00:00:00:00:05", "device": 5, "master": 3, "state": 128},
    {"mac": "33:33:00:00:00:01", "device": 3, "state": 128}
  ],
  "sysctls": {"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.rp_filter": "2", "net.ipv6.conf.all.forwarding": "0"},
  "nft_tables": ["ip nat", "inet podplumb"]
}"#;

fn node() -> Snapshot {
    Snapshot::from_json(NODE.as_bytes()).unwrap()
}

fn resolved(yaml: &str) -> Wiring {
    let topology = from_yaml(yaml, Path::new("import.yaml")).unwrap();
    crate::resolve(&topology, "import", &|_| unreachable!())
        .unwrap_or_else(|fault| panic!("{}\n{yaml}", fault.located(yaml, "import.yaml".as_ref())))
        .wiring
}

#[test]
fn a_node_reads_as_people_would_write_it() {
    let imported = import(&node());
    let yaml = to_yaml(&imported.topology);
    assert_eq!(yaml, include_str!("node.yaml"), "{yaml}");
    let mut read = from_yaml(&yaml, Path::new("import.yaml")).unwrap();
    read.links.iter_mut().for_each(|link| link.settings.link.clear());
    assert_eq!(read, imported.topology, "it reads back");
}

#[test]
fn what_a_topology_cannot_say_is_noted() {
    assert_eq!(
        import(&node()).notes,
        [
            "1 bridge of which the snapshot does not say whether it has a spanning tree or VLANs: neither (cni0)",
            "2 interfaces became veths to hosts of their own (wg0 (wireguard), veth9 (veth))",
            "1 unused interface left out (eno2)",
            "1 macvlan whose mode is not known: bridge (web-0:net1)",
            "1 address left out that somebody else has too (10.244.0.7/24 of web-0-2:eth0)",
            "1 namespace that is not connected to the node left out (/run/netns/other)",
            "1 route left out (10.2.0.0/16 in table 100)",
            "1 other node of the overlay is not in it (192.0.2.11)",
            "1 table of nftables left out (ip nat)",
        ]
    );
}

#[test]
fn what_a_bridge_and_a_macvlan_are_is_taken_over_or_noted() {
    let with = |bridge: &str, mode: &str| {
        let text = NODE
            .replace("\"name\": \"cni0\",", &format!("\"name\": \"cni0\", \"bridge\": {bridge},"))
            .replace("\"name\": \"net1\",", &format!("\"name\": \"net1\", \"macvlan\": \"{mode}\","));
        let Imported { topology, notes } = import(&Snapshot::from_json(text.as_bytes()).unwrap());
        let yaml = to_yaml(&topology);
        let wiring = resolved(&yaml);
        let stp = matches!(
            wiring.machine("node-1").unwrap().device("cni0").unwrap().kind,
            DeviceKind::Bridge { stp: true, .. }
        );
        let DeviceKind::Macvlan { mode, .. } = wiring.machine("web-0").unwrap().device("net1").unwrap().kind
        else {
            panic!("{yaml}")
        };
        let notes: Vec<String> =
            notes.into_iter().filter(|note| note.contains("bridge") || note.contains("VLAN")).collect();
        (stp, mode, notes)
    };
    let settings = |stp: bool, vlans: bool| {
        format!(
            r#"{{"stp": {stp}, "vlan_filtering": {vlans}, "call_iptables": false, "call_ip6tables": false}}"#
        )
    };
    assert_eq!(with(&settings(true, false), "private"), (true, MacvlanMode::Private, vec![]));
    assert_eq!(with(&settings(false, false), "vepa"), (false, MacvlanMode::Vepa, vec![]));
    let vlans =
        "1 bridge of whose ports the snapshot does not say in which VLANs they are: all in one (cni0)"
            .to_owned();
    assert_eq!(with(&settings(false, true), "bridge"), (false, MacvlanMode::Bridge, vec![vlans]));
    for mode in ["passthru", "source"] {
        let note = format!("1 macvlan of a mode that labs do not have: bridge (web-0:net1 ({mode}))");
        assert_eq!(with(&settings(false, false), mode), (false, MacvlanMode::Bridge, vec![note]));
    }
}

#[test]
fn a_bridge_that_looks_at_vlans_has_them_and_what_cannot_be_is_left_out() {
    let with = |filters: bool, of_port: &str| {
        let bridge = format!(
            r#""bridge": {{"stp": false, "vlan_filtering": {filters}, "call_iptables": false, "call_ip6tables": false}}"#
        );
        let of_bridge = r#""vlans": [{"first": 1, "last": 1, "pvid": true, "untagged": true}]"#;
        let text = NODE
            .replace("\"name\": \"cni0\",", &format!("\"name\": \"cni0\", {bridge}, {of_bridge},"))
            .replace("\"name\": \"veth1\",", &format!("\"name\": \"veth1\", \"vlans\": {of_port},"));
        let Imported { topology, notes } = import(&Snapshot::from_json(text.as_bytes()).unwrap());
        assert!(notes.iter().all(|note| !note.contains("VLAN")), "{notes:?}");
        let wiring = resolved(&to_yaml(&topology));
        let node = wiring.machine("node-1").unwrap();
        assert_eq!(node.device("cni0").unwrap().vlans, None, "what every port has");
        let vlans = node.device("veth1").unwrap().vlans.clone();
        vlans.map(|vlans| vlans.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    };
    let several = r#"[{"first": 10, "last": 10, "pvid": true, "untagged": true}, {"first": 20, "last": 30}]"#;
    assert_eq!(with(true, several).as_deref(), Some("10 pvid untagged, 20-30"));
    assert_eq!(with(true, "[]").as_deref(), Some(""));
    assert_eq!(with(false, several), None);
    for nonsense in [
        r#"[{"first": 0, "last": 1}]"#,
        r#"[{"first": 5000, "last": 6000}]"#,
        r#"[{"first": 3, "last": 2}]"#,
        r#"[{"first": 1, "last": 9}, {"first": 5, "last": 5}]"#,
        r#"[{"first": 1, "last": 2, "pvid": true}]"#,
    ] {
        assert_eq!(with(true, nonsense), None, "{nonsense}");
    }
}

#[test]
fn everything_resolves_to_what_was_there() {
    let wiring = resolved(&to_yaml(&import(&node()).topology));
    let node = wiring.machine("node-1").unwrap();
    let cni0 = node.device("cni0").unwrap();
    assert_eq!((cni0.mtu_bytes, cni0.addresses[0].to_string().as_str()), (Some(1450), "10.244.0.1/24"));
    assert!(node.device("veth1").unwrap().port.as_ref().unwrap().hairpin);
    let pod = wiring.machine("web-0").unwrap();
    assert_eq!(pod.device("eth0").unwrap().mac.unwrap().to_string(), "02:00:00:00:01:02");
    assert_eq!(pod.routes[0].gateway, Some("10.244.0.1".parse().unwrap()));
}

#[test]
fn a_pod_has_the_routes_that_it_had() {
    let mut node = node();
    let pod = node
        .namespaces
        .iter_mut()
        .find(|namespace| namespace.links.iter().any(|l| l.name == "eth0") && !namespace.host);
    let pod = pod.unwrap();
    let eth0 = pod.links.iter().find(|link| link.name == "eth0").unwrap().index.0;
    let stack = serde_json::json!({"routes": [
        {"destination": "0.0.0.0/0", "gateway": "10.244.0.9", "device": eth0, "table": 254},
        {"destination": "10.244.0.0/24", "device": eth0, "table": 254, "scope": 253},
        {"destination": "192.0.2.0/24", "gateway": "10.244.0.1", "device": eth0, "table": 254, "priority": 7},
        {"destination": "198.51.100.0/24", "kind": "blackhole", "device": eth0, "table": 254},
        {"destination": "fe80::/64", "device": eth0, "table": 254},
    ]});
    pod.stack = Some(Box::new(serde_json::from_value(stack).unwrap()));
    let imported = import(&node);
    let yaml = to_yaml(&imported.topology);
    assert!(yaml.contains("default via 10.244.0.9 dev eth0"), "{yaml}");
    assert!(yaml.contains("192.0.2.0/24 via 10.244.0.1 dev eth0 metric 7"), "{yaml}");
    assert!(
        imported.notes.iter().any(|note| note.contains("198.51.100.0/24 of web-0")),
        "{:?}",
        imported.notes
    );
    assert!(!yaml.contains("10.244.0.0/24 dev") && !yaml.contains("fe80::/64"), "{yaml}");
    resolved(&yaml);
}

/// Whatever a snapshot says, an import ends, and what it makes is a topology.
#[test]
fn an_empty_snapshot_is_a_node_alone() {
    let mut empty = node();
    empty.namespaces.clear();
    assert_eq!(resolved(&to_yaml(&import(&empty).topology)).machines.len(), 1);
}

/// A snapshot comes from another machine, and what it says ends on a terminal and in a file.
#[test]
fn hostile_names_do_not_get_through() {
    let evil = "x\u{1b}[31m\\n- link: a -- b #";
    let text = NODE
        .replace("\"web-0\"", &serde_json::to_string(evil).unwrap())
        .replace("\"node 1\"", &serde_json::to_string(evil).unwrap())
        .replace("\"calif\"", "\"a -- b\"")
        .replace("\"wg0\"", "\"w\\u001b0\"")
        .replace("\"wireguard\"", "\"k\\u202e\"")
        .replace("\"ip nat\"", "\"\\u001b]0;x\\u0007\"")
        .replace(
            "\"net.ipv4.conf.all.rp_filter\": \"2\"",
            "\"net.ipv4.conf.all.rp_filter\": \"2\\u001b\\n\"",
        );
    let imported = import(&Snapshot::from_json(text.as_bytes()).unwrap());
    let yaml = to_yaml(&imported.topology);
    let lines = imported.notes.iter().map(String::as_str).chain(yaml.lines());
    let unprintable = |c: char| c.is_control() || c == '\u{202e}';
    lines.for_each(|line| assert!(!line.contains(unprintable), "{line:?}"));
    assert!(resolved(&yaml).machines.len() > 3);
}

#[test]
fn what_is_left_out_of_a_snapshot_is_left_out_of_the_lab() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/snapshot");
    let mut snapshots: Vec<Snapshot> = vec![node()];
    for file in std::fs::read_dir(corpus).unwrap() {
        snapshots.push(Snapshot::from_json(&std::fs::read(file.unwrap().path()).unwrap()).unwrap());
    }
    assert!(snapshots.len() > 4);
    for snapshot in snapshots {
        resolved(&to_yaml(&import(&snapshot).topology));
        for namespace in 0..snapshot.namespaces.len() {
            for link in 0..snapshot.namespaces[namespace].links.len() {
                let mut cut = snapshot.clone();
                cut.namespaces[namespace].links.remove(link);
                resolved(&to_yaml(&import(&cut).topology));
            }
        }
    }
}
