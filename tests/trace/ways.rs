//! Each way to arrive and to be lost, computed and tried.

use podplumb_tests::require;

use crate::site::{NEEDS, Site, why};

const BRIDGE: &str = "switches: [bridge]\nhosts: {host: {count: 3}}\nlinks: [host -- bridge]";
pub(crate) const ROUTER: &str =
    "hosts: [alice, bob]\nrouters: [router]\nlinks: [alice -- router, bob -- router]";
const NAT: &str = "
routers:
  machine:
    bridges: {docker0: {addresses: 172.17.0.1/16}}
    masquerade: 172.17.0.0/16
    forward: tcp/8080 -> 172.17.0.2:80
  internet:
hosts: [container]
links:
  - machine/docker0 -- container 172.17.0.2/16
  - machine 192.0.2.10/24 -- internet 192.0.2.1/24";
pub(crate) const TUNNEL: &str =
    "nodes: {node: {count: 2, pods: 2}}\nswitches: [net]\nlinks: [node -- net]\noverlay: {kind: vxlan}";
const DUAL: &str = "pool: [10.0.0.0/8, 'fd00::/48']\nnodes: {node: {count: 2, pods: 1}}\nswitches: [net]
links: [node -- net]\noverlay: {kind: host-routes}";

/// Changes a lab in some ways, one after the other `machine: command`, and compares what real probes do with what is computed.
#[track_caller]
fn arrives(yaml: &str, changes: &[&str], expect: &str, question: &[&str]) {
    with_site(yaml, changes, expect, |site| drop(site.trace(0, question)));
}

/// The same, and it does not arrive: why is said so.
#[track_caller]
fn is_lost(yaml: &str, changes: &[&str], expect: &str, question: &[&str], says: &str) {
    with_site(yaml, changes, expect, |site| {
        let why = why(&site.trace(3, question));
        assert!(why.contains(says), "{says:?} is not in {why:?}\n{}", site.text(3, question));
    });
}

/// On a thread of its own, since a thread has one world.
#[track_caller]
pub(crate) fn with_site(yaml: &str, changes: &[&str], expect: &str, compare: impl FnOnce(&Site) + Send) {
    if !require(&NEEDS) {
        return;
    }
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let site = Site::up(yaml, &[expect]);
            for change in changes {
                let (machine, command) = change.split_once(": ").expect("machine: command");
                site.run(machine, command);
            }
            site.verify();
            compare(&site);
        });
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn on_a_bridge() {
    arrives(BRIDGE, &[], "ping host1 -> host3", &["host1", "host3"]);
    is_lost(
        BRIDGE,
        &["bridge: bridge link set dev port1 isolated on", "bridge: bridge link set dev port3 isolated on"],
        "no ping host1 -> host3",
        &["host1", "host3"],
        "nobody behind eth0 of host1 has 10.0.0.3",
    );
    is_lost(
        BRIDGE,
        &["bridge: ip link set port3 down"],
        "no ping host1 -> host3",
        &["host1", "10.0.0.3"],
        "nobody behind eth0 of host1 has 10.0.0.3",
    );
}

#[test]
fn by_a_router() {
    arrives(ROUTER, &[], "ping alice -> bob", &["alice", "bob"]);
    is_lost(
        ROUTER,
        &["router: sysctl -qw net.ipv4.ip_forward=0"],
        "no ping alice -> bob",
        &["alice", "bob"],
        "router does not forward: net.ipv4.ip_forward is 0",
    );
    is_lost(
        ROUTER,
        &["bob: ip route del default"],
        "no ping alice -> bob",
        &["alice", "bob"],
        "bob has no route to 10.0.0.2",
    );
    is_lost(
        ROUTER,
        &["router: ip route add blackhole 10.0.1.2"],
        "no ping alice -> bob",
        &["alice", "bob"],
        "route blackhole 10.0.1.2 of router drops it",
    );
}

#[test]
fn where_sources_are_validated() {
    let strict = "router: sysctl -qw net.ipv4.conf.eth0.rp_filter=1";
    arrives(ROUTER, &[strict], "ping alice -> bob", &["alice", "bob"]);
    is_lost(
        ROUTER,
        &[strict, "router: ip route add 10.0.0.2/32 dev eth1"],
        "no ping alice -> bob",
        &["alice", "bob"],
        "rp_filter=1 of eth0 drops it: router would answer 10.0.0.2 by eth1",
    );
}

#[test]
fn by_policy_rules() {
    let table = "alice: ip route add blackhole default table 100";
    let from_alice = "alice: ip rule add from 10.0.0.2 lookup 100 priority 50";
    is_lost(
        ROUTER,
        &[table, from_alice],
        "no tcp alice -> bob:80",
        &["alice", "bob", "--port", "tcp/80"],
        "blackhole default table 100",
    );
    // ping asks for a route before it has an address, and only then.
    arrives(ROUTER, &[table, from_alice], "ping alice -> bob", &["alice", "bob"]);
    arrives(
        ROUTER,
        &[table, "alice: ip rule add from 10.0.0.77 lookup 100 priority 50"],
        "ping alice -> bob",
        &["alice", "bob"],
    );
    is_lost(
        ROUTER,
        &[table, "alice: ip rule add to 10.0.1.0/24 lookup 100 priority 50"],
        "no ping alice -> bob",
        &["alice", "bob"],
        "blackhole",
    );
}

#[test]
fn translated() {
    arrives(NAT, &[], "ping container -> internet", &["container", "internet"]);
    arrives(NAT, &[], "tcp internet -> 192.0.2.10:8080", &["internet", "192.0.2.10", "--port", "tcp/8080"]);
    is_lost(
        NAT,
        &[],
        "no ping internet -> container",
        &["internet", "container"],
        "internet has no route to 172.17.0.2",
    );
    is_lost(
        NAT,
        &["machine: nft flush ruleset"],
        "no ping container -> internet",
        &["container", "internet"],
        "internet has no route to 172.17.0.2",
    );
}

#[test]
fn in_a_tunnel() {
    let question = ["node1-pod1", "node2-pod2"];
    arrives(TUNNEL, &[], "ping node1-pod1 -> node2-pod2", &question);
    is_lost(
        TUNNEL,
        &["node1: bridge fdb flush dev vxlan1"],
        "no ping node1-pod1 -> node2-pod2",
        &question,
        "vxlan1 does not know which node has",
    );
    is_lost(
        TUNNEL,
        &["node2: bridge fdb flush dev vxlan1"],
        "no ping node1-pod1 -> node2-pod2",
        &question,
        "vxlan1 does not know which node has",
    );
    is_lost(
        TUNNEL,
        &[
            "node2: nft add table ip t",
            "node2: nft add chain ip t in { type filter hook input priority 0 ; }",
            "node2: nft add rule ip t in udp dport 8472 drop",
        ],
        "no ping node1-pod1 -> node2-pod2",
        &question,
        "dropped by nft ip t, in: udp dport 8472 drop",
    );
}

#[test]
fn of_two_families() {
    with_site(DUAL, &[], "ping6 node1-pod1 -> node2-pod1", |site| {
        site.trace(0, &["node1-pod1", "node2-pod1", "-6"]);
        site.trace(0, &["node1-pod1", "node2-pod1", "-4"]);
        let found = site.trace(0, &["node1-pod1", "fd00:10:244:1::2", "--port", "tcp/80"]);
        assert_eq!(found["packet"]["destination"], "fd00:10:244:1::2");
    });
    is_lost(
        DUAL,
        &["node2: sysctl -qw net.ipv6.conf.all.forwarding=0"],
        "no ping6 node1-pod1 -> node2-pod1",
        &["node1-pod1", "node2-pod1", "-6"],
        "node2 does not forward: net.ipv6.conf.all.forwarding is 0",
    );
}

#[test]
fn past_rules_of_every_maker() {
    for (rule, says) in [
        (
            "router: iptables-nft -A FORWARD -p icmp -d 10.0.1.2 -j DROP",
            "dropped by iptables-nft ip filter, FORWARD",
        ),
        ("router: iptables-nft -P FORWARD DROP", "dropped by iptables-nft ip filter, FORWARD: policy drop"),
        ("router: iptables-nft -A FORWARD -j REJECT", "rejected by iptables-nft ip filter, FORWARD"),
        ("bob: iptables-nft -A INPUT -s 10.0.0.2 -j DROP", "dropped by iptables-nft ip filter, INPUT"),
        ("alice: iptables-nft -A OUTPUT -o eth0 -j DROP", "dropped by iptables-nft ip filter, OUTPUT"),
        (
            "router: iptables-legacy -A FORWARD -i eth1 -j DROP",
            "dropped by iptables-legacy ip filter, FORWARD",
        ),
    ] {
        is_lost(ROUTER, &[rule], "no ping alice -> bob", &["alice", "bob"], says);
    }
    // What is let pass because it is an answer, is let pass.
    arrives(
        ROUTER,
        &[
            "router: iptables-nft -P FORWARD DROP",
            "router: iptables-nft -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "router: iptables-nft -A FORWARD -i eth0 -j ACCEPT",
        ],
        "ping alice -> bob",
        &["alice", "bob"],
    );
    is_lost(
        ROUTER,
        &["router: iptables-nft -P FORWARD DROP", "router: iptables-nft -A FORWARD -i eth0 -j ACCEPT"],
        "no ping alice -> bob",
        &["alice", "bob"],
        "dropped by iptables-nft ip filter, FORWARD: policy drop",
    );
}

#[test]
fn where_the_network_is_narrower_than_its_nodes_believe() {
    if !require(&NEEDS) {
        return;
    }
    let yaml = "nodes: {node: {count: 2, pods: 1}}\nswitches: [net]
links:\n  - node1 -- net\n  - {link: node2 -- net, to: {mtu: 1400}}\noverlay: {kind: vxlan}";
    let site = Site::up(
        yaml,
        &["ping node1-pod1 -> node2-pod1 size 1350", "no ping node1-pod1 -> node2-pod1 size 1450"],
    );
    site.verify();
    let narrowest = &site.trace(0, &["node1-pod1", "node2-pod1"])["narrowest"];
    assert_eq!((&narrowest["bytes"], &narrowest["silent"]), (&1350.into(), &true.into()), "{narrowest}");
    let text = site.text(0, &["node1-pod1", "node2-pod1"]);
    assert!(text.contains("packets of more vanish there"), "{text}");
}
