//! The map of a node with a bridge, a tunnel, a living and a leaked pod.

use std::time::Duration;

use model::{Link, Snapshot, Timestamp};
use podplumb_analyze::doctor::doctor;
use podplumb_analyze::render::{self, Detail, Paint};
use podplumb_analyze::{Map, drawing, leaks, map};
use serde_json::json;

fn node() -> Snapshot {
    let link = |index: u32, name: &str, kind: &str| {
        json!({"index": index, "name": name, "kind": kind, "mtu_bytes": 1450, "up": true, "carrier": true,
            "mac": format!("02:00:00:00:00:{index:02}")})
    };
    let with = |mut link: serde_json::Value, more: serde_json::Value| {
        link.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        link
    };
    let host = [
        with(link(2, "eth0", ""), json!({"addresses": ["192.0.2.10/24"], "mtu_bytes": 1500})),
        with(
            link(3, "flannel.1", "vxlan"),
            json!({"addresses": ["10.244.1.0/32"], "vxlan": {"id": 1, "port": 8472, "lower": 2, "learning": false}}),
        ),
        with(link(4, "cni0", "bridge"), json!({"addresses": ["10.244.1.1/24"]})),
        with(
            link(5, "veth5", "veth"),
            json!({"master": 4, "peer": {"index": 2, "nsid": 0}, "rx_bytes": 1000, "tx_bytes": 2000}),
        ),
        with(
            link(6, "veth6", "veth"),
            json!({"master": 4, "peer": {"index": 2, "nsid": 1}, "alias": "podplumb:pods:b52f08c96e1d0000:eth0"}),
        ),
        with(link(7, "tap7", "tun"), json!({"master": 4})),
    ];
    let pod = |inode: u64, nsid: u32, address: &str| {
        json!({"inode": inode, "ns_id": inode, "nsid": nsid, "readable": true, "sockets": {"total": 0, "tcp_orphans": 0},
            "links": [with(link(2, "eth0", "veth"), json!({"mac": format!("02:00:00:00:01:{nsid:02}"), "peer": {"index": 5, "nsid": 0}, "addresses": [address]}))]})
    };
    let living = with(pod(1001, 0, "10.244.1.2/24"), json!({"tasks": [{"pid": 77, "command": "nginx"}]}));
    let leaked = with(
        pod(1002, 1, "10.244.1.3/24"),
        json!({"pins": [{"path": "/run/netns/cni-2", "since": 1000}], "housekeeping_packets": 0}),
    );
    serde_json::from_value(json!({
        "version": 1, "taken_at": 600_000, "runtime_none": true,
        "node": {"hostname": "node-1", "kernel": "6.18.0", "boot_id": "b", "booted_at": 0},
        "namespaces": [{"host": true, "inode": 1000, "readable": true, "links": host}, living, leaked],
        "enumeration": {"kind": "walked", "listed": 3, "only_listed": 0},
        "configs": [
            {"path": "/etc/cni/net.d/05-broken.conflist", "problem": "EOF at line 1"},
            {"path": "/etc/cni/net.d/10-pods.conflist", "network": "pods", "plugins": ["bridge", "portmap"],
             "subnets": ["10.244.1.0/24"], "capacity": {"ipv4": 253, "ipv6": 0}},
            {"path": "/etc/cni/net.d/20-old.conf", "network": "old", "plugins": ["ptp"]},
        ],
        "leases": [{"path": "/var/lib/cni/networks/pods/10.244.1.3", "network": "pods", "address": "10.244.1.3",
            "container": "b52f08c96e1d0000", "ifname": "eth0", "content": "b52f08c96e1d0000\r\neth0", "since": 1000, "locked": false}],
        "routes": [
            {"destination": "0.0.0.0/0", "gateway": "192.0.2.1", "device": 2, "table": 254},
            {"destination": "10.244.2.0/24", "gateway": "10.244.2.0", "device": 3, "table": 254},
            {"destination": "10.244.3.0/24", "gateway": "10.244.3.0", "device": 3, "table": 254},
        ],
        "neighbours": [{"address": "10.244.2.0", "mac": "0e:00:00:00:00:02", "device": 3, "state": 128}],
        "fdb": [
            {"mac": "0e:00:00:00:00:02", "device": 3, "remote": "192.0.2.11", "state": 128},
            {"mac": "02:00:00:00:00:05", "device": 5, "master": 4, "state": 128},
            {"mac": "0a:00:00:00:00:01", "device": 5, "master": 4, "state": 2},
        ],
    }))
    .unwrap()
}

fn of(snapshot: &Snapshot, earlier: Option<&Snapshot>) -> Map {
    let ills = doctor(snapshot, |check| check.id == "vxlan-peers");
    Map::of(snapshot, earlier, &leaks(snapshot, None, Duration::from_secs(60)), &ills)
}

#[test]
fn networks_uplinks_tunnels_bridges_and_pods_are_on_one_page() {
    let text = render::map(&of(&node(), None), Detail::Usual, Paint::PLAIN);
    let wanted = "\
node-1  Linux 6.18.0  1970-01-01T00:10:00Z

networks
├─ unnamed
│     /etc/cni/net.d/05-broken.conflist: EOF at line 1
├─ pods  bridge, portmap
│     /etc/cni/net.d/10-pods.conflist
│     pods 10.244.1.0/24, 1 of 253 leased
└─ old  ptp
      /etc/cni/net.d/20-old.conf, after another in its directory

uplinks
└─ eth0  192.0.2.10/24  mtu 1500  default via 192.0.2.1

VXLAN
└─ flannel.1  10.244.1.0/32  mtu 1450  VNI 1 UDP 8472 on eth0
      peer not known: no forwarding entry  10.244.3.0/24
      peer 192.0.2.11  10.244.2.0/24

bridge cni0  10.244.1.1/24  mtu 1450
├─ veth6 ── eth0 10.244.1.3/24  b52f08c96e1d
│     listed by no runtime, no process, lease
│     ! leaked: see podplumb leaks
├─ veth5 ── eth0 10.244.1.2/24  net:[1001]
│     nginx (pid 77)
└─ tap7

runtimes: none, as you said
";
    assert_eq!(text, wanted, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= render::COLUMNS));
}

#[test]
fn a_pod_receives_what_its_node_sends_into_the_veth() {
    let (earlier, mut later) = (node(), node());
    later.taken_at = Timestamp(earlier.taken_at.0 + 2_000);
    let veth = |snapshot: &mut Snapshot, change: fn(&mut Link)| {
        change(snapshot.namespaces[0].links.iter_mut().find(|link| link.name == "veth5").unwrap());
    };
    veth(&mut later, |link| {
        link.tx_bytes += 2_000_000;
        link.rx_bytes += 250;
        link.rx_dropped += 4;
    });
    let map = of(&later, Some(&earlier));
    let rate = |map: &Map| map.chains.iter().find(|place| place.chain.label == "net:[1001]").unwrap().rate;
    let seen = rate(&map).unwrap();
    assert_eq!((seen.rx_bits, seen.tx_bits, seen.dropped), (8e6, 1e3, 2.0));
    let text = render::map(&map, Detail::Usual, Paint::PLAIN);
    assert!(text.contains("net:[1001]  ↓ 8.0M ↑ 1.0k b/s dropped 2/s\n"), "{text}");

    // Of another interface that got the index nothing is told, nor of one of which a counter went back: then the inside counts.
    veth(&mut later, |link| link.mac = "02:00:00:00:00:99".parse().ok());
    assert_eq!(rate(&of(&later, Some(&earlier))), Some(map::Rate::default()));
    let mut reset = node();
    reset.taken_at = later.taken_at;
    veth(&mut reset, |link| link.tx_bytes = 0);
    assert_eq!(rate(&of(&reset, Some(&earlier))), Some(map::Rate::default()));
    assert!(rate(&of(&node(), Some(&earlier))).is_none(), "no time has passed");
}

#[test]
fn the_drawing_has_the_node_its_pods_and_its_peers_and_marks_what_is_wrong() {
    let graph = map::graph(&of(&node(), None), false);
    let marked = |title: &str| graph.vertices.iter().find(|vertex| vertex.title == title).unwrap().mark;
    assert_eq!(marked("b52f08c96e1d"), drawing::Mark::Bad);
    assert_eq!(marked("net:[1001]"), drawing::Mark::Fine);
    assert_eq!(marked("not known where"), drawing::Mark::Warning);
    let peer = graph.vertices.iter().find(|vertex| vertex.title == "192.0.2.11").unwrap();
    assert_eq!((peer.frame, peer.lines.as_slice()), (None, &["10.244.2.0/24".to_owned()][..]));
    for text in [drawing::dot(&graph), drawing::mermaid(&graph), drawing::svg(&graph)] {
        assert!(
            text.contains("flannel.1") && text.contains("cni0") && text.contains("10.244.1.2/24"),
            "{text}"
        );
    }
}

#[test]
fn namespaces_that_are_not_connected_with_the_node_are_drawn_only_on_request() {
    let mut node = node();
    let alone = model::Namespace {
        inode: serde_json::from_value(json!(2000)).ok(),
        readable: true,
        tasks: vec![model::Task { pid: 9, tid: None, command: "chrome".into() }],
        ..model::Namespace::default()
    };
    node.namespaces.push(alone);
    let drawn =
        |all| map::graph(&of(&node, None), all).vertices.iter().any(|vertex| vertex.title == "net:[2000]");
    assert!(!drawn(false) && drawn(true));
}

#[test]
fn what_a_bridge_s_forwarding_database_tells_is_told_and_the_rest_is_counted() {
    let mut node = node();
    let entry = |mac: &str, device: u32, state: u16| {
        serde_json::from_value::<model::FdbEntry>(
            json!({"mac": mac, "device": device, "master": 4, "state": state}),
        )
        .unwrap()
    };
    node.stack.fdb.retain(|entry| entry.master.is_none());
    let flannel = node.namespaces[0].links.iter_mut().find(|link| link.name == "flannel.1").unwrap();
    flannel.master = Some(model::IfIndex(4));
    node.stack.fdb.extend([
        // The ports' own, and a group's, are nobody's.
        entry("02:00:00:00:00:05", 5, 0x80),
        entry("33:33:00:00:00:01", 5, 0x80),
        // Each pod at its port; once more in a VLAN, and one where the other is.
        entry("02:00:00:00:01:00", 5, 0x02),
        entry("02:00:00:00:01:01", 6, 0x02),
        entry("02:00:00:00:01:01", 6, 0x02),
        entry("02:00:00:00:01:01", 5, 0x02),
        // Set for a pod, and something that no pod has.
        entry("02:00:00:00:01:00", 5, 0x40),
        entry("02:00:00:00:00:99", 6, 0x04),
        // Behind the tunnel: one whose peer is known, one not; and behind a port that leads nowhere known.
        entry("0e:00:00:00:00:02", 3, 0x02),
        entry("0e:00:00:00:00:03", 3, 0x02),
        entry("52:54:00:00:00:01", 7, 0x02),
        // Another machine behind the uplink.
        entry("a4:bb:6d:00:00:01", 2, 0x02),
    ]);
    let text = render::map(&of(&node, None), Detail::Wide, Paint::PLAIN);
    let wanted = "
  index 4, 02:00:00:00:00:04, 4 ports, 8 learned and 1 set in its FDB
  fdb  02:00:00:00:01:01  veth5      learned, but b52f08c96e1d has it, behind
                                     veth6
  fdb  02:00:00:00:01:00  veth5      set, for net:[1001]
  fdb  02:00:00:00:00:99  veth6      learned, no interface in b52f08c96e1d has
                                     it
  fdb  0e:00:00:00:00:02  flannel.1  learned, behind 192.0.2.11
  fdb  0e:00:00:00:00:03  flannel.1  learned, behind a peer that is not known
  fdb  a4:bb:6d:00:00:01  eth0       learned, beyond this node
  fdb  52:54:00:00:00:01  tap7       learned
├─ ";
    assert!(text.contains(wanted), "{text}");
    // A name as runtimes give them takes a line of its own.
    let mut named = node.clone();
    named.namespaces[2].pins[0].path = "/run/netns/cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e01".into();
    named.namespaces[2].inode = Some(model::NsInode(4_026_535_280));
    let long = render::map(&of(&named, None), Detail::Wide, Paint::PLAIN);
    assert!(text.contains("│     /run/netns/cni-2 net:[1002] nsid 1\n"), "{text}");
    assert!(
        long.contains(
            "│     /run/netns/cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e01\n│     net:[4026535280] nsid 1\n"
        ),
        "{long}"
    );
    let map = serde_json::to_value(of(&node, None)).unwrap();
    let stations = map["bridges"][0]["stations"].as_array().unwrap();
    assert_eq!(stations.len(), 9, "all, also those that go without saying; VLANs apart");
    assert_eq!(
        stations[0],
        json!({"mac": "02:00:00:00:01:01", "port": "veth5", "set": false, "behind": {"pod": "net:[1001]"},
            "owner": {"label": "b52f08c96e1d", "port": "veth6"}})
    );
    assert_eq!((&stations[3]["behind"], &stations[3]["remote"]), (&json!("tunnel"), &json!("192.0.2.11")));

    let many = (0..100).map(|n| entry(&format!("0e:00:00:00:01:{n:02x}"), 7, 0x02));
    node.stack.fdb.extend(many);
    let text = render::map(&of(&node, None), Detail::Wide, Paint::PLAIN);
    assert_eq!(text.lines().filter(|line| line.starts_with("  fdb  ")).count(), 13, "{text}");
    assert!(text.contains("  fdb  … 95 more (-o json has all)\n"), "{text}");
    let usual = render::map(&of(&node, None), Detail::Usual, Paint::PLAIN);
    assert!(!usual.contains("fdb"), "{usual}");
}
