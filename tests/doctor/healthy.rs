//! Where nothing is wrong, nothing is found, and everything was looked at.

use lab::Lab;
use podplumb_tests::{ATTACH, World, require};

use crate::node::{examine, shell};
use crate::table::NODE;

/// Labs that are meant to be healthy, with the machines that are looked at.
const EXAMPLES: [(&str, &[&str]); 7] = [
    ("vxlan", &["node1", "node2"]),
    ("pods", &["node"]),
    ("dual-stack", &["node1", "node2"]),
    ("host-routes", &["node1", "node3"]),
    ("nat", &["machine"]),
    ("router", &["router"]),
    ("cni", &["node"]),
];

fn example(name: &str) -> String {
    let path = format!("{}/../examples/labs/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("an example")
}

#[test]
fn doctor_is_silent_on_healthy_labs() {
    if !require(&["ip"]) {
        return;
    }
    let world = World::enter();
    world.hide_others();
    let mut wrong = Vec::new();
    for (name, machines) in EXAMPLES {
        // A configuration's path is from the topology's file.
        let conflist = format!("{}/../examples/labs/cni.conflist", env!("CARGO_MANIFEST_DIR"));
        let yaml = example(name).replace("cni.conflist", &conflist);
        let lab = Lab::from_yaml(&yaml).unwrap_or_else(|error| panic!("{name}: {error}"));
        for machine in machines {
            let said = examine(&lab, machine);
            if said.code != Some(0) || !said.found().is_empty() {
                wrong.push(format!("{name} {machine}: {:#}", said.json["findings"]));
            }
            if !said.blind().is_empty() {
                wrong.push(format!("{name} {machine} was not looked at: {:#?}", said.blind()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a program does with packets is not known, so neither is whether rules alone decide.
#[test]
fn where_programs_decide_checks_of_rules_are_not_called_made() {
    if !require(&["ip", "tc", "python3"]) {
        return;
    }
    let world = World::enter();
    world.hide_others();
    let lab = Lab::from_yaml(NODE).expect("a lab");
    const XDP_PASS: &str = "2";
    shell(&lab, "node", &format!("python3 {ATTACH} xdp eth0 {XDP_PASS}"));
    let said = examine(&lab, "node");
    assert_eq!((said.code, said.ids().len()), (Some(0), 0), "{:#}", said.json["findings"]);
    let blind = said.blind().join("\n");
    assert!(blind.contains("do with packets at eth0 is not known"), "{blind}");
    assert!(blind.contains("forward-drop") && !blind.contains("pod-mtu"), "{blind}");
}

/// The link of node2 carries less than its pod sends.
#[test]
fn the_example_with_a_wrong_mtu_is_found() {
    if !require(&["ip"]) {
        return;
    }
    let world = World::enter();
    world.hide_others();
    let lab = Lab::from_yaml(&example("wrong-mtu")).expect("a lab");
    let said = examine(&lab, "node2");
    assert_eq!(said.ids(), ["pod-mtu"], "{:#}", said.json["findings"]);
    let found = said.json["findings"][0]["found"].to_string();
    assert!(found.contains("takes 1350 (eth0 1400 - 50), and 1 pod has MTU 1450"), "{found}");
    assert_eq!(said.code, Some(3));
}
