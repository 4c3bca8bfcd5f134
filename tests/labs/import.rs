//! A node with pods of containerd's becomes a lab in which everything is as it was.

use podplumb_tests::{Containerd, Plugins, Podplumb, World, binaries, require, run};

use crate::examples::root;

const NEEDS: [&str; 6] = ["containerd", "ctr", "runc", "busybox", "ip", "ping"];

/// What a pod's eth0 is: MAC, MTU, addresses.
fn eth0(link: &str) -> (String, String, String) {
    let word = |key: &str| {
        let mut words = link.split_whitespace().skip_while(|word| *word != key);
        words.nth(1).unwrap_or_else(|| panic!("no {key}: {link}")).to_owned()
    };
    (word("link/ether"), word("mtu"), word("inet"))
}

fn a_node_is_rebuilt(plugins: Plugins, subnet: &str) {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    world.connect_uplink(1400);
    let mut containerd = Containerd::start(&world, plugins, subnet);
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
    a_node_is_rebuilt(Plugins::Podplumb, "10.66.11.0/24");
}

#[test]
fn a_node_wired_by_the_reference_plugins_is_rebuilt() {
    a_node_is_rebuilt(Plugins::Reference, "10.66.12.0/24");
}

/// A pod as Calico wires it: an address without a subnet, a gateway that nobody has, and a node that answers for it.
fn routed_pod(name: &str, address: &str) {
    let host = format!("cali-{name}");
    run("ip", &["netns", "add", name]);
    run("ip", &["link", "add", &host, "type", "veth", "peer", "name", "eth0", "netns", name]);
    run("ip", &["link", "set", &host, "address", "ee:ee:ee:ee:ee:ee", "up"]);
    run("ip", &["-n", name, "link", "set", "eth0", "up"]);
    run("ip", &["-n", name, "addr", "add", &format!("{address}/32"), "dev", "eth0"]);
    run("ip", &["-n", name, "route", "add", "169.254.1.1", "dev", "eth0"]);
    run("ip", &["-n", name, "route", "add", "default", "via", "169.254.1.1"]);
    run("ip", &["route", "add", address, "dev", &host]);
    std::fs::write(format!("/proc/sys/net/ipv4/conf/{host}/proxy_arp"), "1").unwrap();
}

#[test]
fn pods_without_a_bridge_are_rebuilt() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    world.connect_uplink(1400);
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    routed_pod("red", "10.67.5.1");
    routed_pod("blue", "10.67.5.2");
    run("ip", &["netns", "exec", "red", "ping", "-c", "1", "-W", "2", "10.67.5.2"]);
    let podplumb = Podplumb::default();
    let yaml = podplumb.expect(0, &["lab", "import"]);
    let file = world.path().join("routed.yaml");
    std::fs::write(&file, &yaml).unwrap();
    let file = file.display().to_string();
    podplumb.expect(0, &["lab", "up", &file]);
    let ping = podplumb.run(&["lab", "exec", &file, "red", "--", "ping", "-c", "1", "-W", "2", "10.67.5.2"]);
    assert!(ping.status.success(), "{yaml}");
    podplumb.expect(0, &["lab", "down", &file]);
}

/// A node of a lab is a node: what is imported from it is itself.
#[test]
fn a_node_with_a_tunnel_is_rebuilt() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let podplumb = Podplumb::default();
    let example = root().join("examples/labs/vxlan.yaml").display().to_string();
    podplumb.expect(0, &["lab", "up", &example]);
    let program = binaries().join("podplumb").display().to_string();
    let yaml = podplumb.expect(0, &["lab", "exec", "vxlan", "node1", "--", &program, "lab", "import"]);
    let copy = yaml.replacen("\nname: ", "\nname: copy-of-", 1);
    let file = world.path().join("tunnel.yaml");
    std::fs::write(&file, &copy).unwrap();
    let file = file.display().to_string();
    podplumb.expect(0, &["lab", "up", &file]);
    let node = copy.split_once("\nrouters:\n  ").expect("a router").1.split(':').next().unwrap().to_owned();
    let look = |lab: &str, machine: &str, command: &[&str]| {
        podplumb.expect(0, &[&["lab", "exec", lab, machine, "--"], command].concat())
    };
    for command in [
        &["ip", "route"][..],
        &["ip", "neigh", "show", "nud", "permanent"],
        &["bridge", "fdb", "show", "dev", "vxlan1"],
        &["ip", "-4", "-o", "addr", "show", "dev", "vxlan1"],
    ] {
        let (there, here) = (look("vxlan", "node1", command), look(&file, &node, command));
        assert_eq!(lasting(&there), lasting(&here), "{copy}");
    }
    let kind = |lab: &str, machine: &str| {
        let shown = look(lab, machine, &["ip", "-d", "-o", "link", "show", "dev", "vxlan1"]);
        shown.split_once("vxlan id").expect("a tunnel").1.split('\\').next().unwrap().to_owned()
    };
    assert_eq!(kind("vxlan", "node1"), kind(&file, &node));
    let ping = ["ping", "-c", "1", "-W", "2", "10.244.0.3"];
    assert!(look(&file, "node1-pod1", &ping).contains(" 0% packet loss"));
    podplumb.expect(0, &["lab", "down", &file]);
    podplumb.expect(0, &["lab", "down", "vxlan"]);
}

/// Bridges and macvlans are of the same kind again, and what is imported of the copy is the copy.
#[test]
fn a_bridge_has_its_spanning_tree_again_and_a_macvlan_its_mode() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let podplumb = Podplumb::default();
    let file = |name: &str| world.path().join(name).display().to_string();
    let original = file("original.yaml");
    let text = "
name: original
routers:
  node:
    bridges:
      br0: {stp: true, addresses: 10.68.1.1/24}
      br1: {addresses: 10.68.2.1/24}
    macvlans:
      mv0: {on: eth0, mode: private, addresses: 10.68.3.7/24}
      mv1: {on: eth0, mode: vepa, addresses: 10.68.3.8/24}
      mv2: {on: eth0, addresses: 10.68.3.9/24}
hosts:
  a: {macvlans: {net1: {on: 'node:eth0', mode: vepa, addresses: 10.68.3.10/24}}}
  b:
  out:
links: [node 10.68.3.1/24 -- out 10.68.3.2/24, a 10.68.1.2/24 -- node/br0, b 10.68.2.2/24 -- node/br1]
";
    std::fs::write(&original, text).unwrap();
    podplumb.expect(0, &["lab", "up", &original]);
    let program = binaries().join("podplumb").display().to_string();
    let import = |lab: &str, node: &str| {
        podplumb.expect(0, &["lab", "exec", lab, node, "--", &program, "lab", "import"])
    };
    let named = |yaml: &str, name: &str| {
        let body = yaml.split_once("\nname: ").expect("a name").1;
        format!("name: {name}\n{}", body.split_once('\n').expect("more lines").1)
    };
    let copy = named(&import("original", "node"), "copy");
    std::fs::write(file("copy.yaml"), &copy).unwrap();
    podplumb.expect(0, &["lab", "up", &file("copy.yaml")]);
    let node = copy.split_once("\nrouters:\n  ").expect("a router").1.split(':').next().unwrap().to_owned();
    // Pods are in the order in which the kernel has their namespaces.
    let lines = |yaml: &str| {
        let mut lines: Vec<String> = yaml.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&named(&import("copy", &node), "copy")), lines(&copy));

    let kind = |lab: &str, machine: &str, device: &str, key: &str| {
        let shown = podplumb
            .expect(0, &["lab", "exec", lab, machine, "--", "ip", "-d", "-o", "link", "show", "dev", device]);
        // Every link has a mode, of another thing.
        let (_, detail) = shown.split_once("promiscuity").expect("details");
        let mut words = detail.split_whitespace().skip_while(|word| *word != key);
        words.nth(1).unwrap_or_else(|| panic!("no {key}: {shown}")).to_owned()
    };
    let of_copy = |device: &str, key: &str| kind("copy", &node, device, key);
    assert_eq!(["br0", "br1"].map(|bridge| of_copy(bridge, "stp_state")), ["1", "0"]);
    assert_eq!(["mv0", "mv1", "mv2"].map(|macvlan| of_copy(macvlan, "mode")), ["private", "vepa", "bridge"]);
    let pod = copy.split_once("\n    macvlans:\n      net1:").expect("the pod's macvlan").0;
    let pod = pod.lines().rfind(|line| line.starts_with("  ") && !line.starts_with("   ")).expect("the pod");
    assert_eq!(kind("copy", pod.trim().trim_end_matches(':'), "net1", "mode"), "vepa");
    for lab in ["copy", "original"] {
        podplumb.expect(0, &["lab", "down", lab]);
    }
}

/// Without the numbers of interfaces, which are given in the order in which they are made.
fn lasting(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.trim_start_matches(|c: char| c.is_ascii_digit() && line.contains(": ")).to_owned())
        .collect()
}
