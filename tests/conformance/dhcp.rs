//! dhcp: addresses from a server on the pod's network, kept by a daemon.

use std::path::Path;

use podplumb_tests::{Daemon, run, wait_until};
use serde_json::{Value, json};

use crate::case::Case;
use crate::node::{Network, Node, addresses, inside, make_namespace};

const SOCKET: &str = "/run/cni/dhcp.sock";

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, run: fn(&Node)| Case::new(format!("dhcp: {name}"), &["bridge", "dhcp"], &[], run);
    vec![
        case("a pod gets an address, gateway and routes", address_from_server),
        case("DEL releases the address", release),
        case("CHECK knows its lease", check),
        case("provide tells the server what the configuration says", provide),
        case("daemonSocketPath", socket_path),
        case("without the daemon ADD is refused", without_daemon),
        case("DEL without a lease succeeds", del_without_lease),
    ]
}

/// A server with two addresses for pods on cni0, at 10.66.0.1.
fn server(node: &Node) -> Daemon {
    run("ip", &["link", "add", "cni0", "type", "bridge"]);
    run("ip", &["link", "set", "cni0", "up"]);
    make_namespace("server");
    run(
        "ip",
        &["link", "add", "port", "master", "cni0", "type", "veth", "peer", "name", "eth0", "netns", "server"],
    );
    run("ip", &["link", "set", "port", "up"]);
    inside("server", "ip addr add 10.66.0.1/24 dev eth0");
    inside("server", "ip link set eth0 up");
    let leases = leases(node);
    std::fs::write(&leases, "").expect("a file");
    let config = node.world.path().join("udhcpd.conf");
    let text = format!(
        "start 10.66.0.20\nend 10.66.0.20\ninterface eth0\nlease_file {leases}\npidfile {leases}.pid\n\
        option subnet 255.255.255.0\noption router 10.66.0.1\noption dns 10.66.0.53\noption lease 3600\n",
    );
    std::fs::write(&config, text).expect("a file");
    let arguments = ["--net=/run/netns/server", "busybox", "udhcpd", "-f", &config.display().to_string()];
    Daemon::start("nsenter", &arguments, &node.world.path().join("udhcpd.log"))
}

fn leases(node: &Node) -> String {
    node.world.path().join("udhcpd.leases").display().to_string()
}

fn daemon(node: &Node, socket: &str) -> Daemon {
    let program = node.directory.join("dhcp").display().to_string();
    std::fs::create_dir_all(Path::new(socket).parent().expect("a directory")).expect("a directory");
    let mut arguments = vec!["daemon"];
    if socket != SOCKET {
        arguments.extend(["-socketpath", socket]);
    }
    let daemon = Daemon::start(&program, &arguments, &node.world.path().join("daemon.log"));
    wait_until("the daemon's socket", || Path::new(socket).exists());
    daemon
}

fn pods(node: &Node, options: Value) -> Network {
    let mut ipam = json!({ "type": "dhcp" });
    for (key, value) in options.as_object().expect("an object") {
        ipam[key] = value.clone();
    }
    node.network(&[json!({ "type": "bridge", "bridge": "cni0", "ipam": ipam })])
}

fn address_from_server(node: &Node) {
    let (_server, _daemon) = (server(node), daemon(node, SOCKET));
    let result = pods(node, json!({})).add("a");
    assert_eq!(result["ips"][0]["address"], "10.66.0.20/24", "{result:#}");
    assert!(inside("a", "ip addr show eth0").contains("10.66.0.20/24"));
    assert!(inside("a", "ip route").contains("default via 10.66.0.1"));
    inside("a", "ping -c 1 -W 5 10.66.0.1");
}

fn release(node: &Node) {
    let (_server, _daemon) = (server(node), daemon(node, SOCKET));
    let network = pods(node, json!({}));
    let result = network.add("a");
    network.del("a", &result);
    // There is only one.
    assert_eq!(addresses(&network.add("b")), ["10.66.0.20"]);
}

fn check(node: &Node) {
    let (_server, _daemon) = (server(node), daemon(node, SOCKET));
    let network = pods(node, json!({}));
    let result = network.add("a");
    assert!(network.is_fine("a", &result));
    network.del("a", &result);
    assert!(!network.is_fine("a", &result));
}

fn provide(node: &Node) {
    let (mut server, _daemon) = (server(node), daemon(node, SOCKET));
    let options = json!([{ "option": "host-name", "value": "blue-pod" }]);
    pods(node, json!({ "provide": options })).add("a");
    // It writes its leases when it ends.
    server.stop();
    let table = run("busybox", &["dumpleases", "-f", &leases(node)]);
    assert!(table.contains("10.66.0.20") && table.contains("blue-pod"), "{table}");
}

fn socket_path(node: &Node) {
    let _server = server(node);
    let socket = node.world.path().join("dhcp.sock").display().to_string();
    let _daemon = daemon(node, &socket);
    let result = pods(node, json!({ "daemonSocketPath": socket })).add("a");
    assert_eq!(addresses(&result), ["10.66.0.20"]);
}

fn without_daemon(node: &Node) {
    let answer = pods(node, json!({})).try_add("a");
    assert!(!answer.ok && answer.code() > 0, "{:#}", answer.json);
}

fn del_without_lease(node: &Node) {
    let _daemon = daemon(node, SOCKET);
    make_namespace("a");
    pods(node, json!({})).del("a", &Value::Null);
}
