//! `podplumb map` on a node that a lab made.

use ::lab::Lab;
use podplumb_tests::{Podplumb, require, run};

const NODES: &str = "
nodes: {node: {count: 2, pods: 2}}
switches: [net]
links: [node -- net]
overlay: {kind: vxlan}
";

#[test]
fn a_node_s_tunnel_bridge_pods_and_rates_are_on_its_map() {
    if !require(&["ip", "bridge"]) {
        return;
    }
    let lab = Lab::from_yaml(NODES).unwrap();
    let map = |options: &[&str]| {
        let options: Vec<&str> = [&["map"], options].concat();
        lab.run("node1", || Podplumb::default().expect(0, &options)).unwrap()
    };
    let tree = map(&[]);
    for line in [
        "VNI 1 UDP 8472 on eth0",
        "peer 10.0.0.2  10.244.1.0/24",
        "bridge cni0  10.244.0.1/24  mtu 1450",
        "── eth0 10.244.0.2/24",
    ] {
        assert!(tree.contains(line), "{line} in {tree}");
    }
    assert!(map(&["-o", "wide"]).contains("in its FDB"));
    let json: serde_json::Value = serde_json::from_str(&map(&["-o", "json", "--rates"])).unwrap();
    assert_eq!(json["tunnels"][0]["peers"][0]["remote"], "10.0.0.2");
    assert!(json["uplinks"][0]["rate"]["rx_bits"].is_number(), "{json:#}");
    assert_eq!(json["bridges"][0]["ports"], 2);
    // What is learned of the pods says nothing; what somebody set does, and what is behind the tunnel.
    lab.run("node1", || {
        run("ip", &["link", "set", "vxlan1", "master", "cni0"]);
        for entry in [
            "0a:58:0a:58:00:63 dev veth1 master static",
            "0a:58:0a:58:01:07 dev vxlan1 dst 10.0.0.2",
            "0a:58:0a:58:01:07 dev vxlan1 master static",
        ] {
            run("bridge", &[&["fdb", "add"], entry.split(' ').collect::<Vec<_>>().as_slice()].concat());
        }
    })
    .unwrap();
    let wide = map(&["-o", "wide"]);
    let told: Vec<&str> = wide.lines().filter(|line| line.starts_with("  fdb  ")).collect();
    assert_eq!(told.len(), 2, "{wide}");
    assert!(told[0].starts_with("  fdb  0a:58:0a:58:00:63  veth1   set, no interface in "), "{wide}");
    assert_eq!(told[1], "  fdb  0a:58:0a:58:01:07  vxlan1  set, behind 10.0.0.2");
    for format in ["dot", "mermaid", "svg"] {
        let drawing = map(&["-o", format]);
        assert!(drawing.contains("vxlan1") && drawing.contains("10.244.0.3/24"), "{drawing}");
    }
}

#[test]
fn a_map_that_is_watched_ends_with_its_reader() {
    if !require(&["sh"]) {
        return;
    }
    let _world = podplumb_tests::World::enter();
    let program = podplumb_tests::binaries().join("podplumb");
    let two = format!("timeout 60 {} map --watch 100ms -o json | head -2", program.display());
    let watched = podplumb_tests::output("sh", &["-c", &two]);
    let text = String::from_utf8_lossy(&watched.stdout);
    assert!(watched.status.success());
    assert_eq!(text.lines().filter(|line| line.starts_with("{\"node\"")).count(), 2, "{text}");
}
