//! What checks foretell is what happens to packets.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use lab::Lab;
use podplumb_tests::{World, require};

use crate::node::{examine, shell};
use crate::table::NODE;

/// A service of which the node's first pod is the only backend.
const SERVICE: &str = "nft 'add table ip site; add chain ip site pre { type nat hook prerouting priority -100; }; \
    add chain ip site post { type nat hook postrouting priority 90; }; \
    add rule ip site pre ip daddr 10.96.0.1 tcp dport 80 dnat to 10.244.0.2:8080; \
    add rule ip site post ip saddr 10.244.0.2 ip daddr 10.244.0.2 masquerade'";

#[test]
fn a_pod_reaches_itself_by_a_service_where_the_check_is_silent_and_not_where_it_speaks() {
    if !require(&["ip", "bridge", "nft", "sysctl"]) {
        return;
    }
    let world = World::enter();
    world.hide_others();
    let lab = Lab::from_yaml(NODE).expect("a lab");
    shell(&lab, "node", SERVICE);
    let listener = lab.run("node-pod1", || TcpListener::bind("10.244.0.2:8080").expect("a port"));
    for (shown, hairpin) in [(0, "off"), (1, "off"), (0, "on"), (1, "on")] {
        let set = format!(
            "sysctl -qw net.bridge.bridge-nf-call-iptables={shown}; \
            for port in $(ip -br link show master cni0 | cut -d@ -f1); do bridge link set dev $port hairpin {hairpin}; done"
        );
        shell(&lab, "node", &set);
        let service = "10.96.0.1:80".parse().expect("an address");
        let connected = lab
            .run("node-pod1", || TcpStream::connect_timeout(&service, Duration::from_secs(3)))
            .expect("the machine");
        let ids = examine(&lab, "node").ids();
        let foretold = !ids.contains(&"hairpin-service".to_owned());
        let wanted = (shown, hairpin) != (1, "off");
        assert_eq!(
            (connected.is_ok(), foretold),
            (wanted, wanted),
            "nf-call {shown}, hairpin {hairpin}: {connected:?}, {ids:?}"
        );
    }
    drop(listener);
}

/// Sends two datagrams that may not be fragmented and are larger than a way behind the node: of a sender that was told, the second is
/// refused (EMSGSIZE, 90).
const SEND_TWICE: &str = "import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, 10, 2)
s.connect((sys.argv[1], 9))
s.send(bytes(1440))
time.sleep(0.3)
try:
    s.send(bytes(1440))
    print('not told')
except OSError as error:
    print('told' if error.errno == 90 else error)
";

#[test]
fn a_pod_is_told_of_a_smaller_mtu_where_the_check_is_silent_and_not_where_it_speaks() {
    if !require(&["ip", "nft", "iptables-nft", "python3"]) {
        return;
    }
    const FORWARD: &str = "nft 'add table ip site; add chain ip site forward { type filter hook forward priority 0; }; \
        add rule ip site forward RULE'";
    const OUTPUT: &str = "nft 'add table ip site; add chain ip site output { type filter hook output priority 0; }; \
        add rule ip site output RULE'";
    let drop = "icmp type destination-unreachable drop";
    let world = World::enter();
    world.hide_others();
    let lab = Lab::from_yaml(NODE).expect("a lab");
    // Somewhere in the world a link is narrow; and so is a way out of the node.
    let narrow = "ip link add far0 mtu 1400 type veth peer name far1; ip link set far0 up; ip link set far1 up; \
        ip addr add 198.51.100.1/24 dev far0";
    shell(&lab, "internet", narrow);
    shell(&lab, "node", "ip route add 203.0.113.0/24 via 192.0.2.1 mtu 1400");
    let related = format!("ct state established,related accept; add rule ip site forward {drop}");
    let echo = FORWARD.replace("RULE", "icmp type echo-request drop");
    let cases = [
        ("198.51.100.2", "told", String::new()),
        ("198.51.100.3", "not told", FORWARD.replace("RULE", drop)),
        ("198.51.100.4", "told", FORWARD.replace("RULE", &related)),
        ("198.51.100.5", "told", echo.clone()),
        (
            "198.51.100.6",
            "not told",
            "iptables-nft -t mangle -A PREROUTING -p icmp --icmp-type 3/4 -j DROP".into(),
        ),
        ("198.51.100.7", "told", "iptables-nft -t raw -A PREROUTING -d 10.244.0.0/16 -p icmp -j DROP".into()),
        ("203.0.113.2", "told", echo),
        // Only what this node itself says.
        ("203.0.113.3", "not told", OUTPUT.replace("RULE", drop)),
        ("198.51.100.8", "told", OUTPUT.replace("RULE", drop)),
    ];
    for (destination, wanted, rules) in cases {
        shell(&lab, "node", &rules);
        // The check goes by the ways out of the node that are default routes.
        if destination.starts_with("203") {
            shell(&lab, "node", "ip route change default via 192.0.2.1 mtu 1400");
        }
        let said = lab
            .run("node-pod1", || podplumb_tests::run("python3", &["-c", SEND_TWICE, destination]))
            .expect("the machine");
        let ids = examine(&lab, "node").ids();
        let foretold = if ids.contains(&"pmtu-black-hole".to_owned()) { "not told" } else { "told" };
        assert_eq!((said.trim(), foretold), (wanted, wanted), "{destination} with {rules}: {ids:?}");
        let clean = "nft list tables | grep -q 'ip site' && nft delete table ip site; \
            for t in mangle raw; do iptables-nft -t $t -F; done; ip route change default via 192.0.2.1";
        shell(&lab, "node", clean);
    }
}
