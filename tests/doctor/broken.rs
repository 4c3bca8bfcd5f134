//! What is broken is found, and nothing else is.

use lab::Lab;
use podplumb_tests::{World, require};

use crate::node::{examine, shell};
use crate::table::{CLEAN, NODE, ROWS, written_out};

const NEEDS: [&str; 8] =
    ["ip", "bridge", "ss", "sysctl", "nft", "iptables-nft", "iptables-legacy", "python3"];

#[test]
fn each_check_finds_what_is_broken_and_no_other_does() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    world.hide_others();
    let mut wrong = Vec::new();
    for row in ROWS {
        let lab = Lab::from_yaml(row.lab).unwrap_or_else(|error| panic!("{}: {error}", row.check));
        let before = examine(&lab, row.node);
        if !before.found().is_empty() {
            wrong.push(format!("{}: the whole lab has {:#}", row.check, before.json["findings"]));
        }
        if !before.blind().is_empty() {
            wrong.push(format!("{}: in the whole lab not checked: {:#?}", row.check, before.blind()));
        }
        for (machine, commands) in row.breaks {
            shell(&lab, machine, &written_out(commands));
        }
        let after = examine(&lab, row.node);
        let found = after.found();
        let is_right = after.ids() == [row.check]
            && (row.object.is_empty() || found.iter().all(|(_, object)| object == row.object));
        let ill =
            after.json["findings"].as_array().into_iter().flatten().any(|one| one["severity"] != "notice");
        if !is_right {
            wrong.push(format!("{}: {:#}", row.check, after.json["findings"]));
        }
        if after.code != Some(if ill { 3 } else { 0 }) {
            wrong.push(format!("{}: exit code {:?}", row.check, after.code));
        }
        shell(&lab, row.node, CLEAN);
    }
    assert!(wrong.is_empty(), "{} things are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Which options a kernel lacks is up to who built it.
#[test]
fn a_plugin_that_the_kernel_has_nothing_for_is_found() {
    if !require(&NEEDS) {
        return;
    }
    let config =
        std::fs::read("/proc/config.gz").is_ok().then(|| podplumb_tests::run("zcat", &["/proc/config.gz"]));
    let options = [("vlan", "VLAN_8021Q"), ("ipvlan", "IPVLAN"), ("vrf", "NET_VRF"), ("dummy", "DUMMY")];
    let lacks = |config: &String| {
        let has = |option: &str| {
            ["y", "m"].iter().any(|set| config.contains(&format!("\nCONFIG_{option}={set}\n")))
        };
        options.into_iter().find(|(_, option)| !has(option)).map(|(plugin, _)| plugin)
    };
    let Some(plugin) = config.as_ref().and_then(lacks) else {
        eprintln!("SKIPPED: this kernel has all options, or does not tell");
        return;
    };
    let world = World::enter();
    world.hide_others();
    let lab = Lab::from_yaml(NODE).expect("a lab");
    shell(&lab, "node", &written_out(&format!("{{conflist {plugin}}}")));
    let said = examine(&lab, "node");
    assert_eq!(said.ids(), ["kernel-option"], "{:#}", said.json["findings"]);
    assert_eq!(said.code, Some(3));
}

#[test]
fn every_check_that_a_lab_can_break_is_in_the_table() {
    // What only a machine has: its tables, its clock, its kernel, its runtimes (edited.rs, runtimes.rs, the test above).
    let of_machines = [
        "neighbour-table",
        "conntrack-table",
        "conntrack-drops",
        "lease-clock",
        "vxlan-checksum",
        "known-version",
        "service-overlap",
        "dying-peer",
        "cni-config",
        "cni-two-configs",
        "runtime-silent",
        "kernel-option",
    ];
    let missing: Vec<&str> = analyze::doctor::checks()
        .map(|check| check.id)
        .filter(|id| !of_machines.contains(id) && !ROWS.iter().any(|row| row.check == *id))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
