//! The command line of doctor, and its page.

use analyze::doctor::checks;
use lab::Lab;
use podplumb_tests::{Podplumb, World, require};

use crate::node::shell;
use crate::table::NODE;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/doctor.md");
const HEAD: &str = "| check | | fine when |\n|---|---|---|\n";

/// The table of all checks.
fn table() -> String {
    let row = |check: &analyze::doctor::Check| {
        format!("| [`{}`]({}) | {} | {} |\n", check.id, check.source, check.severity.as_str(), check.title)
    };
    HEAD.to_owned() + &checks().map(row).collect::<String>()
}

#[test]
fn the_page_has_all_checks() {
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let (before, rest) = page.split_once(HEAD).expect("a table of checks");
    let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
    let today = format!("{before}{}\n{after}", table());
    if std::env::var_os("PODPLUMB_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, today).expect("the page is written");
        return;
    }
    assert_eq!(page, today, "PODPLUMB_WRITE_DOCS=1 writes it");
}

#[test]
fn a_check_can_be_chosen_explained_and_is_missed_by_name() {
    let podplumb = Podplumb::default();
    let list = podplumb.expect(0, &["doctor", "--list"]);
    assert_eq!(list.lines().filter(|line| !line.starts_with(' ')).count(), checks().count());
    let text = podplumb.expect(0, &["doctor", "--explain", "veth-mtu"]);
    for word in ["veth-mtu  error", "\nwhy ", "\nsee ", "\nfix ", "\nsource "] {
        assert!(text.contains(word), "{text}");
    }
    let json = podplumb.expect(0, &["doctor", "--explain", "veth-mtu", "-o", "json"]);
    assert!(json.contains("\"check\": \"veth-mtu\""), "{json}");
    for options in [&["--explain", "mtu"][..], &["--only", "veth-mtu,mtu"]] {
        let refused = podplumb.run(&[&["doctor"], options].concat());
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains("there is no check \"mtu\"") && stderr.contains("hint: veth-mtu or bridge-mtu"),
            "{stderr}"
        );
    }
    let refused = podplumb.run(&["doctor", "--explain", "veth-mtu", "--list"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn what_is_wrong_is_told_for_people_and_by_the_exit_code() {
    if !require(&["ip"]) {
        return;
    }
    let world = World::enter();
    world.hide_others();
    let lab = Lab::from_yaml(NODE).expect("a lab");
    let examine = |code, options: &[&str]| {
        let all = [&["doctor", "--runtime", "none"], options].concat();
        lab.run("node", || Podplumb::default().expect(code, &all)).expect("the machine")
    };
    let text = examine(0, &[]);
    assert!(text.starts_with("0 errors, 0 warnings, 0 notices; all "), "{text}");
    shell(&lab, "node", "ip link set cni0 down");
    let text = examine(3, &[]);
    assert!(text.starts_with("ERROR    cni0  bridge-down\n         is down, and 2 pods are behind it\n  fix    ip link set cni0 up\n"), "{text}");
    assert!(text.contains("\n1 error, 0 warnings, 0 notices; all "), "{text}");
    assert!(examine(0, &["--only", "veth-mtu"]).contains("; the check was made"));
    assert!(examine(3, &["--only", "veth-mtu,bridge-down"]).contains("; all 2 checks made"));
    // Notices do not call for anything.
    shell(
        &lab,
        "node",
        "ip link set cni0 up; for port in $(ip -br link show master cni0 | cut -d@ -f1); do bridge link set dev $port isolated on; done",
    );
    assert!(examine(0, &[]).starts_with("NOTICE   cni0  port-isolated\n"));
}

/// A snapshot of a podplumb that did not look at where packets go: what needs that is not fine, but not checked.
#[test]
fn an_old_snapshot_is_not_fine() {
    if !require(&["ip"]) {
        return;
    }
    let world = World::enter();
    world.hide_others();
    let lab = Lab::from_yaml(NODE).expect("a lab");
    let text = lab
        .run("node", || Podplumb::default().expect(0, &["snapshot", "--runtime", "none"]))
        .expect("the machine");
    let mut node: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for key in ["routes", "rules", "neighbours", "fdb", "sysctls", "ruleset", "neighbour_tables", "conntrack"]
    {
        node.as_object_mut().expect("an object").remove(key);
    }
    for namespace in node["namespaces"].as_array_mut().expect("namespaces") {
        namespace.as_object_mut().expect("an object").remove("stack");
    }
    let file = world.path().join("old.json");
    std::fs::write(&file, node.to_string()).expect("a file");
    let text = Podplumb::default().expect(0, &["doctor", "--from", &file.display().to_string()]);
    assert!(text.contains("not checked, or not completely:\n") && text.contains("ip-forward"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}
