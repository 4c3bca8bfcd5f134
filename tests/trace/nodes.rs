//! A snapshot of each node, as they are where nodes are machines: neither shows anything of the other, or of the network between.

use podplumb_tests::require;
use serde_json::Value;

use crate::site::{NEEDS, Site, why};
use crate::ways::TUNNEL;

/// What a machine would see of itself, in a file.
fn snapshot(site: &Site, node: &str) -> String {
    let program = podplumb_tests::binaries().join("podplumb").display().to_string();
    let text = site.run(node, &format!("{program} snapshot"));
    let mut snapshot: Value = serde_json::from_str(&text).expect("a snapshot");
    snapshot["node"]["hostname"] = node.into();
    snapshot["node"]["boot_id"] = format!("0a6e12c4-55d1-4c0b-9a53-{node:0>12}").into();
    let own = |namespace: &Value| {
        let pins = namespace["pins"].as_array().into_iter().flatten();
        let is_pod =
            pins.filter_map(|pin| pin["path"].as_str()).any(|path| path.contains(&format!("/{node}-")));
        is_pod || namespace["host"] == true
    };
    snapshot["namespaces"].as_array_mut().expect("namespaces").retain(own);
    let file = site.world.path().join(format!("{node}.json")).display().to_string();
    std::fs::write(&file, snapshot.to_string()).expect("a file");
    file
}

#[test]
fn snapshots_of_two_nodes_show_the_whole_way() {
    if !require(&NEEDS) {
        return;
    }
    let site = Site::up(TUNNEL, &["ping node1-pod1 -> node2-pod2"]);
    let (one, two) = (snapshot(&site, "node1"), snapshot(&site, "node2"));
    let question = ["node1-pod1", "node2-pod2", "--from", &one, "--from", &two];
    let found = site.trace(0, &question);
    let steps: Vec<&str> =
        found["there"]["hops"].as_array().unwrap().iter().filter_map(|hop| hop["step"].as_str()).collect();
    for step in ["encapsulated", "between", "decapsulated"] {
        assert!(steps.contains(&step), "{steps:?}");
    }
    assert_eq!(found["narrowest"]["bytes"], 1450);
    assert_eq!(found["warnings"], Value::Null);
    // One of them alone does not know.
    let found = site.trace(3, &["node1-pod1", "10.244.1.3", "--from", &one]);
    assert_eq!(found["there"]["verdict"], "perhaps");
    assert_eq!(found["there"]["outcome"]["end"], "leaves");
    // Two that contradict each other, and one that is older than the other, are told.
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut other: Value = serde_json::from_str(&std::fs::read_to_string(&two).unwrap()).unwrap();
        change(&mut other);
        let file = site.world.path().join("changed.json").display().to_string();
        std::fs::write(&file, other.to_string()).unwrap();
        site.podplumb.run(&["trace", "node1-pod1", "node2-pod2", "--from", &one, "--from", &file])
    };
    let later = changed(&|node| node["taken_at"] = (node["taken_at"].as_i64().unwrap() + 600_000).into());
    let text = String::from_utf8_lossy(&later.stdout).into_owned();
    assert!(later.status.success() && text.contains("600 s apart"), "{text}");
    let both = changed(&|node| {
        let links = node["namespaces"][0]["links"].as_array_mut().unwrap();
        let uplink = links.iter_mut().find(|link| link["name"] == "eth0").unwrap();
        uplink["addresses"].as_array_mut().unwrap().push("10.0.0.1/24".into());
    });
    let text = String::from_utf8_lossy(&both.stdout).into_owned();
    assert!(text.contains("10.0.0.1 is on both nodes"), "{text}");
    // The other end was broken since.
    site.run("node2", "ip link set vxlan1 down");
    let two = snapshot(&site, "node2");
    let found = site.trace(3, &["node1-pod1", "node2-pod2", "--from", &one, "--from", &two]);
    assert!(why(&found).contains("vxlan1 of node2 is down"), "{found}");
}
