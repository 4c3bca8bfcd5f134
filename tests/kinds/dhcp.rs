//! Leases that podplumb's dhcp daemon keeps, from a real server.

use std::path::Path;

use podplumb_tests::{Daemon, Plugins, require, wait_until};
use serde_json::{Value, json};

use crate::node::{Node, netns};

const NEEDS: [&str; 3] = ["ip", "nsenter", "dnsmasq"];
const DEAD: &str = "0dead0000d0c";
const GONE: &str = "0gone0000d0c";
const TWIN: &str = "0live0000d0c";

fn kept(id: &str) -> bool {
    Path::new(&format!("/run/cni/dhcp-leases/pods:{id}:eth0")).exists()
}

fn dnsmasq(node: &Node) -> Daemon {
    let range = format!("--dhcp-range={},{},255.255.255.0,2m", node.address(100), node.address(110));
    let leases = format!("--dhcp-leasefile={}", node.world.path().join("dnsmasq.leases").display());
    let own = ["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--port=0"];
    let more =
        ["--interface=cni0", "--bind-interfaces", "--dhcp-authoritative", "--no-ping", "--log-facility=-"];
    let server = Daemon::start(
        "dnsmasq",
        &[&own[..], &more, &["--log-dhcp", &range, &leases]].concat(),
        &node.world.path().join("server.log"),
    );
    wait_until("dnsmasq serves", || server.log().contains("DHCP, IP range"));
    server
}

fn daemon(node: &Node) -> Daemon {
    let program = node.world.plugin_dir(Plugins::Podplumb).join("dhcp").display().to_string();
    let daemon = Daemon::start(&program, &["daemon"], &node.world.path().join("daemon.log"));
    wait_until("the daemon listens", || Path::new("/run/cni/dhcp.sock").exists());
    daemon
}

/// The addresses of leases that are told to be forgotten.
fn told(node: &Node) -> Vec<String> {
    let output = node.podplumb.run(&["leaks", "--output", "json", "--grace", "0s"]);
    let leaks: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let all = leaks["hazards"].as_array().cloned().unwrap_or_default();
    let own = all.iter().filter(|hazard| hazard["code"] == "forgotten-dhcp-lease");
    own.map(|hazard| hazard["object"].as_str().expect("an address").to_owned()).collect()
}

#[test]
fn reclaim_gives_a_dead_pods_dhcp_lease_back_and_one_that_nothing_else_names_is_told() {
    if !require(&NEEDS) {
        return;
    }
    let bridge = json!({ "type": "bridge", "bridge": "cni0", "ipam": { "type": "dhcp" } });
    let node = Node::with(Plugins::Podplumb, json!([bridge]));
    node.run(&["ip", "link", "add", "cni0", "type", "bridge"]);
    node.run(&["ip", "addr", "add", &format!("{}/24", node.address(1)), "dev", "cni0"]);
    node.run(&["ip", "link", "set", "cni0", "up"]);
    let (server, mut running) = (dnsmasq(&node), daemon(&node));
    node.add(DEAD, 1, &json!({}));
    node.add(TWIN, 2, &json!({}));
    let _twin = node.inhabit(&netns(2));
    assert!(kept(DEAD) && kept(TWIN));
    assert_eq!(told(&node), [""; 0]);

    // Its namespace lives by its pin: DEL finds it, and the server is told.
    let text = node.reclaim();
    wait_until("the dead one's lease is given back", || !kept(DEAD));
    assert!(server.log().contains("DHCPRELEASE") && kept(TWIN), "{text}");

    // Another one, of which everything is thrown away that names it.
    let address = node.add(GONE, 3, &json!({}));
    node.run(&["ip", "netns", "del", &netns(3)]);
    for directory in ["/var/lib/cni/results", "/run/podplumb/attachments"] {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            if entry.file_name().to_string_lossy().contains(GONE) {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
    wait_until("the lease is told", || told(&node) == [address.clone()]);
    node.reclaim_nothing();
    assert!(kept(GONE) && kept(TWIN));

    // The remedy.
    running.stop();
    std::fs::remove_file("/run/cni/dhcp.sock").ok();
    let _running = daemon(&node);
    wait_until("the daemon forgets it", || !kept(GONE));
    assert_eq!(told(&node), [""; 0]);
    assert!(kept(TWIN));
}
