//! Bridges that look at VLAN tags. A kernel without that says so before anything is made; `make vm` has one that can.

use podplumb_tests::{Podplumb, World, binaries, require};
use serde_json::Value;

const NEEDS: [&str; 3] = ["ip", "bridge", "ping"];

/// Makes the lab; `false` where the kernel cannot, which it has to say.
fn up(podplumb: &Podplumb, file: &str) -> bool {
    let made = podplumb.run(&["lab", "up", file]);
    if made.status.success() {
        return true;
    }
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(said.contains("CONFIG_BRIDGE_VLAN_FILTERING"), "{said}");
    assert!(std::env::var_os("PODPLUMB_WHOLE_KERNEL").is_none(), "{said}");
    assert_eq!(podplumb.expect(0, &["lab", "list"]), "no labs\n", "before anything is made");
    podplumb.expect(0, &["lab", "up", file, "--skip-unsupported"]);
    podplumb.expect(0, &["lab", "down", file]);
    eprintln!("SKIPPED: this kernel lacks CONFIG_BRIDGE_VLAN_FILTERING (make vm has it)");
    false
}

/// The VLANs of each port in a machine, as `bridge vlan` tells them, by name.
fn vlans(podplumb: &Podplumb, lab: &str, machine: &str) -> Vec<Value> {
    let shown = podplumb.expect(0, &["lab", "exec", lab, machine, "--", "bridge", "-j", "vlan", "show"]);
    let mut ports: Vec<Value> = serde_json::from_str(&shown).expect("JSON");
    ports.sort_by_key(|port| port["ifname"].to_string());
    ports
}

const SWITCH: &str = "
name: vlans
switches: {sw: {vlan_filtering: true}}
hosts: [a, b, c, d, trunk]
links:
  - {link: a 10.69.0.1/24 -- sw, to: {vlans: 10 pvid untagged}}
  - {link: b 10.69.0.2/24 -- sw, to: {vlans: 10 pvid untagged}}
  - {link: c 10.69.0.3/24 -- sw, to: {vlans: 20 pvid untagged}}
  - {link: d 10.69.0.4/24 -- sw}
  - {link: trunk 10.69.0.5/24 -- sw, to: {vlans: [10 pvid untagged, 20-30, 40]}}
expect:
  - ping a -> b
  - ping a -> trunk
  - no ping a -> c
  - no ping a -> d
  - no ping c -> trunk
";

#[test]
fn a_frame_goes_to_ports_of_its_vlan_alone_and_an_edit_changes_that() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let podplumb = Podplumb::default();
    let file = world.path().join("vlans.yaml");
    let path = file.display().to_string();
    std::fs::write(&file, SWITCH).expect("a file");
    if !up(&podplumb, &path) {
        return;
    }
    podplumb.expect(0, &["lab", "verify", &path, "--within", "60s"]);
    assert!(podplumb.expect(0, &["lab", "up", &path]).contains("nothing to change"));
    let before = vlans(&podplumb, &path, "sw");
    assert_eq!(before.len(), 6, "{before:?}");

    let edited = SWITCH
        .replace("sw, to: {vlans: 20 pvid untagged}", "sw, to: {vlans: [10 pvid untagged, 50]}")
        .replace("no ping a -> c", "ping a -> c")
        .replace("no ping c -> trunk", "ping c -> trunk")
        .replace("link: d 10.69.0.4/24 -- sw}", "link: d 10.69.0.4/24 -- sw, to: {vlans: []}}");
    assert_ne!(edited, SWITCH);
    std::fs::write(&file, &edited).expect("a file");
    let plan = podplumb.expect(0, &["lab", "up", &path, "--dry-run"]);
    let changed = |line: &&str| line.contains("~ veth sw:port3") || line.contains("~ veth sw:port4");
    assert_eq!(plan.lines().filter(changed).count(), 2, "{plan}");
    assert!(!plan.contains("port1") && !plan.contains("+ veth") && !plan.contains("- veth"), "{plan}");
    podplumb.expect(0, &["lab", "up", &path]);
    podplumb.expect(0, &["lab", "verify", &path, "--within", "60s"]);
    std::fs::write(&file, SWITCH).expect("a file");
    podplumb.expect(0, &["lab", "up", &path]);
    assert_eq!(vlans(&podplumb, &path, "sw"), before, "and back");
    podplumb.expect(0, &["lab", "down", &path]);
}

#[test]
fn an_imported_bridge_has_its_vlans_again() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let podplumb = Podplumb::default();
    let file = |name: &str| world.path().join(name).display().to_string();
    let text = "
name: original
routers:
  node:
    bridges:
      br0: {vlan_filtering: true, vlans: [10 pvid untagged, 99], addresses: 10.70.0.1/24}
      br1: {addresses: 10.70.1.1/24}
hosts: [a, b, c]
links:
  - {link: a 10.70.0.2/24 -- node/br0, to: {vlans: 10 pvid untagged}}
  - {link: b 10.70.0.3/24 -- node/br0, to: {vlans: [20-30, 40 untagged]}}
  - c 10.70.1.2/24 -- node/br1
";
    std::fs::write(file("original.yaml"), text).expect("a file");
    if !up(&podplumb, &file("original.yaml")) {
        return;
    }
    let program = binaries().join("podplumb").display().to_string();
    let imported = podplumb.expect(0, &["lab", "exec", "original", "node", "--", &program, "lab", "import"]);
    assert!(!imported.contains("VLANs"), "nothing is taken for granted: {imported}");
    let body = imported.split_once("\nname: ").expect("a name").1;
    let copy = format!("name: copy\n{}", body.split_once('\n').expect("more lines").1);
    std::fs::write(file("copy.yaml"), &copy).expect("a file");
    podplumb.expect(0, &["lab", "up", &file("copy.yaml")]);
    let node = copy.split_once("\nrouters:\n  ").expect("a router").1.split(':').next().expect("its name");
    assert_eq!(vlans(&podplumb, "copy", node), vlans(&podplumb, "original", "node"), "{copy}");
    for lab in ["copy", "original"] {
        podplumb.expect(0, &["lab", "down", lab]);
    }
}
