//! Leases that nobody has, and what of leases and addresses is only told.

use std::path::Path;

use podplumb_tests::require;
use serde_json::{Value, json};

use crate::node::{Node, netns};

const NEEDS: [&str; 4] = ["ip", "bridge", "nsenter", "iptables"];
const DEAD: &str = "0dead0000002";
const TWIN: &str = "0live0000002";

fn lease(address: &str) -> String {
    format!("/var/lib/cni/networks/pods/{address}")
}

/// The hazards: code and object.
fn hazards(node: &Node) -> Vec<(String, String)> {
    let output = node.podplumb.run(&["leaks", "--output", "json", "--grace", "0s"]);
    let leaks: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = leaks["hazards"].as_array().cloned().unwrap_or_default();
    all.iter().map(|hazard| (text(&hazard["code"]), text(&hazard["object"]))).collect()
}

#[test]
fn an_empty_lease_goes_and_one_whose_owner_lost_its_content_stays() {
    if !require(&NEEDS) {
        return;
    }
    let node = Node::new(json!([Node::bridge()]));
    let address = node.add(TWIN, 1, &json!({}));
    let _twin = node.inhabit(&netns(1));
    // As host-local leaves it that is killed between making the file and writing into it.
    let empty = lease(&node.address(99));
    std::fs::write(&empty, "").unwrap();
    // As a crash of the node leaves it: the content was not on disk yet.
    std::fs::write(lease(&address), "").unwrap();
    let finding = node.labelled(&format!("lease {}", node.address(99))).expect("a finding");
    assert_eq!((finding.verdict(), finding.because()), ("orphan", "never-given"), "{finding:#?}");
    assert_eq!(node.finding(TWIN).because(), "task");

    let reclaimed = node.reclaim();
    assert!(!Path::new(&empty).exists() && Path::new(&lease(&address)).exists(), "{reclaimed}");
    let (code, undone) = node.undo(&reclaimed);
    assert_eq!((code, std::fs::read(&empty).unwrap()), (0, Vec::new()), "{undone}");
}

#[test]
fn an_empty_lease_whose_address_somebody_has_is_in_use() {
    if !require(&NEEDS) {
        return;
    }
    let node = Node::new(json!([Node::bridge()]));
    let address = node.add(TWIN, 1, &json!({}));
    let _twin = node.inhabit(&netns(1));
    std::fs::remove_file(format!("/var/lib/cni/results/pods-{TWIN}-eth0")).unwrap();
    std::fs::write(lease(&address), "").unwrap();
    let empty = node.labelled(&format!("lease {address}")).expect("a finding");
    assert_eq!((empty.verdict(), empty.because()), ("in-use", "address-in-use"));
    node.reclaim_nothing();
    assert!(Path::new(&lease(&address)).exists());
}

#[test]
fn an_address_without_a_lease_and_the_duplicate_that_comes_of_it_are_told_and_left() {
    if !require(&NEEDS) {
        return;
    }
    let node = Node::new(json!([Node::bridge()]));
    let address = node.add(TWIN, 1, &json!({}));
    let _twin = node.inhabit(&netns(1));
    assert_eq!(hazards(&node), []);
    // `rm -rf /var/lib/cni/networks/*`, as recipes say.
    std::fs::remove_dir_all("/var/lib/cni/networks/pods").unwrap();
    let told = |code: &str| (code.to_owned(), address.clone());
    assert_eq!(hazards(&node), [told("address-without-lease")]);
    let text = node.podplumb.expect(0, &["leaks", "--grace", "0s"]);
    assert!(text.contains("DANGER") && text.contains(", 1 danger\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");

    let second = node.add("0live0000003", 2, &json!({}));
    let _second = node.inhabit(&netns(2));
    assert_eq!(second, address, "host-local gives the address away again");
    assert_eq!(hazards(&node), [told("address-without-lease"), told("duplicate-address")]);
    node.reclaim_nothing();
    let inside = node.run(&["ip", "-n", &netns(1), "addr", "show", "eth0"]);
    assert!(inside.contains(&address), "{inside}");
}

#[test]
fn a_lease_without_an_address_and_a_duplicate_mac_are_told() {
    if !require(&NEEDS) {
        return;
    }
    let node = Node::new(json!([Node::bridge()]));
    let address = node.add(TWIN, 1, &json!({}));
    node.add(DEAD, 2, &json!({}));
    let _inhabitants = [node.inhabit(&netns(1)), node.inhabit(&netns(2))];
    assert_eq!(hazards(&node), []);
    for n in [1, 2] {
        node.run(&["ip", "-n", &netns(n), "link", "set", "eth0", "address", "02:00:00:00:00:77"]);
    }
    node.run(&["ip", "-n", &netns(1), "-4", "addr", "flush", "dev", "eth0"]);
    let wanted = [("duplicate-mac", "02:00:00:00:00:77"), ("lease-without-address", &address)];
    assert_eq!(hazards(&node), wanted.map(|(code, object)| (code.to_owned(), object.to_owned())));
    node.reclaim_nothing();
    assert!(Path::new(&lease(&address)).exists());
}

#[test]
fn bridges_without_ports_and_entries_that_point_at_nothing_are_told() {
    if !require(&NEEDS) {
        return;
    }
    let node = Node::new(json!([Node::bridge()]));
    node.add(TWIN, 1, &json!({}));
    let _twin = node.inhabit(&netns(1));
    node.run(&["ip", "link", "add", "br9", "type", "bridge"]);
    let address = node.address(77);
    let neighbour = [address.as_str(), "lladdr", "02:00:00:00:00:77", "dev", "cni0", "nud", "permanent"];
    node.run(&[["ip", "neigh", "add"].as_slice(), &neighbour].concat());
    let links = node.run(&["ip", "-o", "link", "show", "master", "cni0"]);
    let port = links.split([':', '@']).nth(1).expect("a port").trim().to_owned();
    node.run(&["bridge", "fdb", "add", "02:00:00:00:00:78", "dev", &port, "master", "static"]);
    let wanted = [
        ("empty-bridge", "br9"),
        ("stale-neighbour", address.as_str()),
        ("stale-station", "02:00:00:00:00:78"),
    ];
    assert_eq!(hazards(&node), wanted.map(|(code, object)| (code.to_owned(), object.to_owned())));
    node.reclaim_nothing();
}
