//! A node with pods of containerd's becomes a lab in which everything is as it was.

use podplumb_tests::{Containerd, Plugins, Podplumb, World, require, run};

const NEEDS: [&str; 6] = ["containerd", "ctr", "runc", "busybox", "ip", "ping"];

/// An uplink whose router knows the node, and nothing of its pods.
fn connect_uplink() {
    run("ip", &["netns", "add", "gw"]);
    run("ip", &["link", "add", "ens3", "mtu", "1400", "type", "veth", "peer", "name", "eth0", "netns", "gw"]);
    for arguments in [
        &["addr", "add", "192.0.2.10/24", "dev", "ens3"][..],
        &["link", "set", "ens3", "up"],
        &["-n", "gw", "addr", "add", "192.0.2.1/24", "dev", "eth0"],
        &["-n", "gw", "link", "set", "eth0", "up"],
        &["route", "add", "default", "via", "192.0.2.1"],
    ] {
        run("ip", arguments);
    }
}

/// What a pod's eth0 is: MAC, MTU, addresses.
fn eth0(link: &str) -> (String, String, String) {
    let word = |key: &str| {
        let mut words = link.split_whitespace().skip_while(|word| *word != key);
        words.nth(1).unwrap_or_else(|| panic!("no {key}: {link}")).to_owned()
    };
    (word("link/ether"), word("mtu"), word("inet"))
}

fn a_node_is_rebuilt(plugins: Plugins) {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    connect_uplink();
    let mut containerd = Containerd::start(&world, plugins, "10.66.0.0/24");
    let pods = ["web", "cart"].map(|name| containerd.run_sandbox(name));
    let podplumb = Podplumb::default();
    let yaml = podplumb.expect(0, &["lab", "import"]);
    let file = world.path().join("node.yaml");
    std::fs::write(&file, &yaml).unwrap();
    let file = file.display().to_string();
    // From a file it is the same lab.
    let snapshot = world.path().join("node.json");
    std::fs::write(&snapshot, podplumb.expect(0, &["snapshot"])).unwrap();
    let again = podplumb.expect(0, &["lab", "import", "--from", &snapshot.display().to_string()]);
    let without_head = |yaml: &str| yaml.split_once("\nname:").expect("a name").1.to_owned();
    assert_eq!(without_head(&yaml), without_head(&again));

    podplumb.expect(0, &["lab", "up", &file]);
    let inside = |machine: &str, command: &[&str]| {
        podplumb.run(&[&["lab", "exec", &file, machine, "--"], command].concat())
    };
    let reaches = |from: &str, to: &str| inside(from, &["ping", "-c", "1", "-W", "2", to]).status.success();
    for (name, pod) in ["web", "cart"].into_iter().zip(&pods) {
        let real = run("nsenter", &[&format!("--net={}", pod.netns), "ip", "addr", "show", "eth0"]);
        let lab = inside(name, &["ip", "addr", "show", "eth0"]);
        assert_eq!(eth0(&String::from_utf8_lossy(&lab.stdout)), eth0(&real), "{yaml}");
    }
    assert!(reaches("web", &pods[1].ip) && reaches("cart", &pods[0].ip), "pods reach each other: {yaml}");
    // The router beyond knows no way back to pods: answers come by masquerading alone.
    assert!(reaches("web", "192.0.2.1"), "masqueraded: {yaml}");
    podplumb.expect(0, &["lab", "down", &file]);
}

#[test]
fn a_node_wired_by_podplumb_is_rebuilt() {
    a_node_is_rebuilt(Plugins::Podplumb);
}

#[test]
fn a_node_wired_by_the_reference_plugins_is_rebuilt() {
    a_node_is_rebuilt(Plugins::Reference);
}
