//! The way of a packet through small hand-written nodes: each kind of hop, and each way to end.

mod nodes;
mod unknown;

use std::time::Duration;

use model::{
    FdbEntry, Hop, IfIndex, Neighbour, PolicyAction, PolicyRule, Route, RouteKind, Snapshot, Timestamp,
};
use podplumb_analyze::render;
use podplumb_analyze::trace::{Outcome, Protocol, Question, Refusal, Trace, Verdict, trace};

use model::filter::{Action, ChainKind, Family, Field, Hook as FilterHook, Match, Policy, Rule};

use nodes::*;

fn question(from: &str, to: &str) -> Question {
    Question { from: from.into(), to: to.into(), protocol: Protocol::Icmp, port: None, v6: None }
}

fn ask(snapshots: &[Snapshot], from: &str, to: &str) -> Trace {
    let found = trace(snapshots, &question(from, to)).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    // Whatever is found can be written down, in 80 columns.
    let text = render::trace(&found, true, render::Paint::PLAIN);
    assert!(text.lines().all(|line| line.chars().count() <= render::COLUMNS), "{text}");
    serde_json::to_string(&found).unwrap();
    found
}

/// What is passed, `step interface@namespace`.
fn hops(found: &Trace) -> Vec<String> {
    let hops = found.there.hops.iter();
    hops.map(|hop| {
        let step = serde_json::to_value(hop.step).unwrap();
        let interface = hop.interface.as_deref().unwrap_or("-");
        format!("{} {interface}@{}", step.as_str().unwrap(), hop.namespace)
    })
    .collect()
}

#[track_caller]
fn arrives(found: &Trace) {
    assert_eq!(found.verdict(), Verdict::Arrives, "{}", render::trace(found, true, render::Paint::PLAIN));
}

/// The way there ends, and why is said so.
#[track_caller]
fn ends(found: &Trace, says: &str) {
    let text = render::trace(found, true, render::Paint::PLAIN);
    assert_eq!(found.verdict(), Verdict::Ends, "{text}");
    let Outcome::Ends { why, .. } = &found.there.outcome else { panic!("{text}") };
    assert!(why.contains(says), "{says:?} is not in {why:?}");
}

#[track_caller]
fn perhaps(found: &Trace, says: &str) {
    let text = render::trace(found, true, render::Paint::PLAIN);
    assert_eq!(found.verdict(), Verdict::Perhaps, "{text}");
    assert!(
        text.split_whitespace().collect::<Vec<_>>().join(" ").contains(says),
        "{says:?} is not in {text}"
    );
}

fn one() -> [Snapshot; 1] {
    [node("one", "192.0.2.11", "10.244.0", 1)]
}

#[test]
fn pods_on_a_bridge_reach_each_other_by_their_veths() {
    let found = ask(&one(), "one-a", "one-b");
    arrives(&found);
    assert_eq!(
        hops(&found),
        ["sent eth0@one-a", "in veth1@one", "bridged cni0@one", "out veth2@one", "in eth0@one-b"]
    );
    assert_eq!(found.packet.source, Some("10.244.0.2".parse().unwrap()));
    assert_eq!(found.back_differs, None);
}

#[test]
fn a_learnt_port_is_taken_and_one_that_is_learnt_wrongly_misses_its_pod() {
    let mut nodes = one();
    let entry = |address, device| FdbEntry {
        mac: mac(address),
        device: IfIndex(device),
        master: Some(IfIndex(CNI0)),
        remote: None,
        state: 2,
    };
    nodes[0].stack.fdb = vec![entry(3, VETH2)];
    let found = ask(&nodes, "one-a", "one-b");
    arrives(&found);
    assert!(found.there.hops[2].facts.iter().any(|fact| fact.text == "02:00:00:00:00:03 dev veth2"));
    nodes[0].stack.fdb = vec![entry(3, VETH1)];
    ends(&ask(&nodes, "one-a", "one-b"), "leave cni0 by veth1, by which it came");
}

#[test]
fn ports_that_are_isolated_or_do_not_forward_let_nothing_pass() {
    let mut nodes = one();
    for index in [VETH1, VETH2] {
        let links = &mut nodes[0].namespaces[0].links;
        let port = links.iter_mut().find(|link| link.index == IfIndex(index)).unwrap();
        port.port.as_mut().unwrap().isolated = true;
    }
    // An isolated pod is not even heard when it asks who its neighbour is.
    ends(&ask(&nodes, "one-a", "one-b"), "nobody behind eth0 of one-a has 10.244.0.3");
    let known =
        Neighbour { address: "10.244.0.3".parse().unwrap(), mac: Some(mac(3)), device: IfIndex(2), state: 2 };
    nodes[0].namespaces[1].stack.as_mut().unwrap().neighbours.push(known);
    nodes[0].stack.fdb.push(FdbEntry {
        mac: mac(3),
        device: IfIndex(VETH2),
        master: Some(IfIndex(CNI0)),
        remote: None,
        state: 2,
    });
    let found = ask(&nodes, "one-a", "one-b");
    ends(&found, "both isolated");
    let Outcome::Ends { fix, .. } = &found.there.outcome else { unreachable!() };
    assert_eq!(fix.as_deref(), Some("bridge link set dev veth2 isolated off"));
    // The node is no port.
    arrives(&ask(&nodes, "one-a", "host"));

    let mut nodes = one();
    nodes[0].namespaces[0].links[3].port.as_mut().unwrap().state = 4;
    ends(&ask(&nodes, "one-a", "host"), "nobody behind eth0");
    // Of a pod that has just been wired: it forwards in a moment.
    let port = &mut nodes[0].namespaces[0].links[3];
    port.port.as_mut().unwrap().state = 0;
    port.settling = true;
    arrives(&ask(&nodes, "one-a", "host"));
}

#[test]
fn interfaces_that_are_down_end_the_way() {
    let mut nodes = one();
    nodes[0].namespaces[2].links[1].up = false;
    nodes[0].namespaces[0].links[4].carrier = false;
    ends(&ask(&nodes, "one-a", "10.244.0.3"), "nobody behind eth0 of one-a has 10.244.0.3");
    let mut nodes = one();
    nodes[0].namespaces[1].links[1].carrier = false;
    nodes[0].namespaces[0].links[3].up = false;
    let found = ask(&nodes, "one-a", "one-b");
    ends(&found, "eth0 of one-a has no carrier: veth1 of one is down");
}

#[test]
fn a_gateway_that_nobody_has_is_told() {
    let mut nodes = one();
    let stack = nodes[0].namespaces[1].stack.as_mut().unwrap();
    stack.routes[0].gateway = Some("10.244.0.254".parse().unwrap());
    ends(&ask(&nodes, "one-a", "192.0.2.11"), "nobody behind eth0 of one-a has 10.244.0.254, the gateway");
}

#[test]
fn routes_that_refuse_are_named_and_throw_asks_the_next_table() {
    for (kind, says) in [
        (RouteKind::Blackhole, "route blackhole 10.244.0.3 of one-a drops it"),
        (RouteKind::Unreachable, "unreachable"),
        (RouteKind::Prohibit, "prohibited"),
    ] {
        let mut nodes = one();
        let stack = nodes[0].namespaces[1].stack.as_mut().unwrap();
        stack.routes.push(Route { kind, device: None, ..route("10.244.0.3/32", None, 2) });
        ends(&ask(&nodes, "one-a", "one-b"), says);
        arrives(&ask(&nodes, "one-a", "host"));
    }
    let mut nodes = one();
    let stack = nodes[0].namespaces[1].stack.as_mut().unwrap();
    stack.routes.push(Route { kind: RouteKind::Throw, table: 100, ..route("10.244.0.3/32", None, 2) });
    stack.routes.push(Route {
        kind: RouteKind::Blackhole,
        table: 100,
        device: None,
        ..route("default", None, 2)
    });
    let to_table = PolicyRule { priority: 100, action: PolicyAction::Table(100), ..PolicyRule::default() };
    stack.rules = rules(&[to_table]);
    arrives(&ask(&nodes, "one-a", "one-b"));
    ends(&ask(&nodes, "one-a", "10.244.0.1"), "blackhole default table 100");
}

#[test]
fn policy_rules_choose_the_table() {
    let elsewhere = |rule: PolicyRule| {
        let mut nodes = one();
        let stack = nodes[0].namespaces[1].stack.as_mut().unwrap();
        stack.routes.push(Route {
            kind: RouteKind::Blackhole,
            table: 100,
            device: None,
            ..route("default", None, 2)
        });
        stack.rules = rules(&[rule]);
        let tcp = Question { protocol: Protocol::Tcp, port: Some(80), ..question("one-a", "one-b") };
        trace(&nodes, &tcp).unwrap()
    };
    let rule = PolicyRule { priority: 100, action: PolicyAction::Table(100), ..PolicyRule::default() };
    let from = |net: &str| PolicyRule { source: Some(net.parse().unwrap()), ..rule.clone() };
    ends(&elsewhere(from("10.244.0.2/32")), "blackhole");
    arrives(&elsewhere(from("10.9.0.0/16")));
    ends(&elsewhere(PolicyRule { inverted: true, ..from("10.9.0.0/16") }), "blackhole");
    arrives(&elsewhere(PolicyRule { mark: Some((1, 1)), ..rule.clone() }));
    arrives(&elsewhere(PolicyRule { input: Some("eth0".into()), ..rule.clone() }));
    ends(&elsewhere(PolicyRule { input: Some("lo".into()), ..rule.clone() }), "blackhole");
    let suppressed = PolicyAction::TableSuppressed { table: 100, length: 0 };
    arrives(&elsewhere(PolicyRule { action: suppressed, ..rule.clone() }));
    ends(
        &elsewhere(PolicyRule { action: PolicyAction::Refuse, ..rule.clone() }),
        "rule 100: from all refuse",
    );
    perhaps(
        &elsewhere(PolicyRule { others: vec!["uidrange".into()], ..rule }),
        "(uidrange) applies is not known",
    );
}

#[test]
fn the_longest_prefix_wins_then_the_smallest_metric() {
    let mut nodes = one();
    let stack = nodes[0].namespaces[1].stack.as_mut().unwrap();
    let blackhole = |priority| Route {
        kind: RouteKind::Blackhole,
        device: None,
        priority,
        ..route("10.244.0.0/24", None, 2)
    };
    stack.routes.push(blackhole(5));
    arrives(&ask(&nodes, "one-a", "one-b"));
    let stack = nodes[0].namespaces[1].stack.as_mut().unwrap();
    stack.routes[1].priority = 10;
    ends(&ask(&nodes, "one-a", "one-b"), "blackhole 10.244.0.0/24 metric 5");
}

#[test]
fn several_ways_are_told() {
    let mut nodes = one();
    let stack = nodes[0].namespaces[1].stack.as_mut().unwrap();
    let hop = |gateway: &str| Hop { gateway: Some(gateway.parse().unwrap()), device: IfIndex(2), weight: 1 };
    stack.routes[0].hops = vec![hop("10.244.0.1"), hop("10.244.0.254")];
    // Nobody has the second gateway.
    let found = ask(&nodes, "one-a", "192.0.2.11");
    perhaps(&found, "chance may choose via 10.244.0.254 dev eth0: nobody behind eth0");
    let stack = nodes[0].namespaces[1].stack.as_mut().unwrap();
    stack.routes[0].hops.pop();
    stack.routes[0].hops.push(hop("10.244.0.1"));
    arrives(&ask(&nodes, "one-a", "192.0.2.11"));
}

#[test]
fn a_node_that_does_not_forward_is_told_with_the_setting() {
    let mut nodes = two_nodes();
    arrives(&ask(&nodes, "one-a", "two-a"));
    let cni0 = nodes[0].namespaces[0].links.iter_mut().find(|link| link.name == "cni0").unwrap();
    cni0.ipv4.as_mut().unwrap().forwarding = false;
    ends(&ask(&nodes, "one-a", "two-a"), "one does not forward: net.ipv4.conf.cni0.forwarding is 0");
    nodes[0].stack.sysctls.insert("net.ipv4.ip_forward".into(), "0".into());
    ends(&ask(&nodes, "one-a", "two-a"), "one does not forward: net.ipv4.ip_forward is 0");
    // To the node itself nothing has to be forwarded.
    arrives(&ask(&nodes, "one-a", "192.0.2.11"));
}

#[test]
fn source_validation_drops_what_would_be_answered_elsewhere() {
    let mut nodes = two_nodes();
    let tunnel = nodes[1].namespaces[0].links.iter_mut().find(|link| link.name == "flannel.1").unwrap();
    tunnel.ipv4.as_mut().unwrap().rp_filter = 1;
    arrives(&ask(&nodes, "one-a", "two-a"));
    // Answers would leave by the uplink.
    let back = nodes[1].stack.routes.iter_mut().find(|route| route.device == Some(IfIndex(VXLAN))).unwrap();
    back.device = Some(IfIndex(ETH0));
    back.gateway = Some("192.0.2.11".parse().unwrap());
    ends(
        &ask(&nodes, "one-a", "two-a"),
        "rp_filter=1 of flannel.1 drops it: two would answer 10.244.0.2 by eth0",
    );
    // Loose: any way back will do. Then the answer comes by another way.
    let tunnel = nodes[1].namespaces[0].links.iter_mut().find(|link| link.name == "flannel.1").unwrap();
    tunnel.ipv4.as_mut().unwrap().rp_filter = 2;
    let found = ask(&nodes, "one-a", "two-a");
    arrives(&found);
    let other = found.back_differs.expect("another way");
    assert!(other.only_there.iter().any(|name| name.starts_with("flannel.1 of")), "{other:?}");
    // No way back at all.
    nodes[1].stack.routes.retain(|route| route.gateway != Some("192.0.2.11".parse().unwrap()));
    nodes[1].stack.routes.retain(|route| route.destination.prefix_len() > 0);
    ends(&ask(&nodes, "one-a", "two-a"), "two has no route back to 10.244.0.2");
}

#[test]
fn pods_of_two_nodes_reach_each_other_in_the_tunnel() {
    let found = ask(&two_nodes(), "one-a", "two-b");
    arrives(&found);
    assert_eq!(
        hops(&found),
        [
            "sent eth0@one-a",
            "in veth1@one",
            "bridged cni0@one",
            "encapsulated flannel.1@one",
            "sent eth0@one",
            "between -@the network between the nodes",
            "in eth0@two",
            "decapsulated flannel.1@two",
            "forwarded cni0@two",
            "out veth2@two",
            "in eth0@two-b"
        ]
    );
    let narrowest = found.narrowest.expect("a size");
    assert_eq!((narrowest.bytes, narrowest.sent_bytes, narrowest.silent), (1450, 1500, false));
    assert_eq!(found.warnings, Vec::<String>::new());
}

#[test]
fn tunnels_take_their_bytes_of_whatever_is_narrow_outside() {
    let mut nodes = two_nodes();
    // Both ends of the wire between the nodes take less than they believe, and the receiver's side says nothing.
    nodes[1].namespaces[0].links[1].mtu_bytes = 1400;
    let found = ask(&nodes, "one-a", "two-a");
    arrives(&found);
    let narrowest = found.narrowest.unwrap();
    assert_eq!((narrowest.bytes, narrowest.tunnel_bytes, narrowest.silent), (1350, 50, true));
}

#[test]
fn tunnels_that_lack_an_entry_end_there() {
    let mut nodes = two_nodes();
    nodes[0].stack.fdb.clear();
    ends(&ask(&nodes, "one-a", "two-a"), "flannel.1 does not know which node has 02:00:00:00:00:f1");
    let mut nodes = two_nodes();
    nodes[0].stack.neighbours.clear();
    ends(&ask(&nodes, "one-a", "two-a"), "nobody behind flannel.1 of one has 10.244.1.0, the gateway");
    // With an entry for everybody the other node is asked, and answers.
    nodes[0].stack.fdb.push(FdbEntry {
        mac: model::MacAddr([0; 6]),
        device: IfIndex(VXLAN),
        master: None,
        remote: Some("192.0.2.12".parse().unwrap()),
        state: 0x80,
    });
    arrives(&ask(&nodes, "one-a", "two-a"));
}

#[test]
fn tunnels_whose_ends_differ_are_told() {
    for (id, port, says) in [(2, 8472, "and 2 on two"), (1, 4789, "udp/4789")] {
        let mut nodes = two_nodes();
        let tunnel = nodes[1].namespaces[0].links.iter_mut().find(|link| link.name == "flannel.1").unwrap();
        let vxlan = tunnel.vxlan.as_mut().unwrap();
        (vxlan.id, vxlan.port) = (id, port);
        let found = ask(&nodes, "one-a", "two-a");
        ends(&found, "takes no VXLAN network 1 on udp/8472");
        assert!(found.warnings.iter().any(|warning| warning.contains(says)), "{:?}", found.warnings);
    }
}

#[test]
fn what_no_snapshot_shows_is_perhaps() {
    // Only one of two nodes.
    let nodes = two_nodes();
    let found = trace(&nodes[..1], &question("one-a", "10.244.1.12")).unwrap();
    perhaps(&found, "leaves by eth0 of one to 192.0.2.12, which no snapshot shows");
    // The internet.
    perhaps(&ask(&one(), "one-a", "198.51.100.7"), "the next router, which no snapshot shows");
    // A snapshot of a look that did not go inside.
    let mut nodes = one();
    nodes[0].namespaces[1].stack = None;
    perhaps(&ask(&nodes, "one-a", "one-b"), "the routes of one-a are not in the snapshot");
    // Another namespace that nobody could read.
    let mut nodes = one();
    nodes[0].namespaces[2].links.clear();
    perhaps(&ask(&nodes, "one-a", "10.244.0.3"), "which no snapshot shows");
}

#[test]
fn what_could_not_be_read_is_not_empty() {
    for (object, at) in [("host: routes", 0), ("/run/netns/one-a: routing rules", 1)] {
        let mut nodes = one();
        let why = "No buffer space available".to_owned();
        nodes[0].coverage.push(model::Gap { source: model::Source::Namespace, object: object.into(), why });
        if at == 0 {
            nodes[0].stack.routes.clear();
        }
        perhaps(&ask(&nodes, "one-a", "192.0.2.77"), "could not be read: No buffer space available");
    }
}

#[test]
fn veths_between_pods_are_followed_where_somebody_looked() {
    let mut nodes = one();
    let inodes = [nodes[0].namespaces[1].inode.unwrap(), nodes[0].namespaces[2].inode.unwrap()];
    for (at, pod) in nodes[0].namespaces[1..].iter_mut().enumerate() {
        let mut cable =
            with(link(9, "cable", "veth", mac(0x90 + at as u8)), &[&format!("10.9.0.{}/24", at + 1)]);
        cable.peer = Some(model::Peer { index: IfIndex(9), nsid: Some(model::Nsid(3)) });
        pod.links.push(cable);
        pod.stack.as_mut().unwrap().routes.push(route("10.9.0.0/24", None, 9));
    }
    perhaps(&ask(&nodes, "one-a", "10.9.0.2"), "which no snapshot shows");
    peers(&mut nodes[0].namespaces[1], 9, inodes[1]);
    peers(&mut nodes[0].namespaces[2], 9, inodes[0]);
    let found = ask(&nodes, "one-a", "10.9.0.2");
    arrives(&found);
    assert_eq!(hops(&found), ["sent cable@one-a", "in cable@one-b"]);
}

/// A node as Calico wires it: no bridge, a gateway that nobody has, and a node that answers for it.
fn routed(proxy: bool) -> [Snapshot; 1] {
    let mut nodes = one();
    for (at, veth) in [(1, VETH1), (2, VETH2)] {
        let address = format!("10.244.0.{}/32", at + 1);
        let pod = &mut nodes[0].namespaces[at];
        pod.links[1].addresses = vec![address.parse().unwrap()];
        let stack = pod.stack.as_mut().unwrap();
        stack.routes = vec![route("default", Some("169.254.1.1"), 2), route("169.254.1.1/32", None, 2)];
        let host = &mut nodes[0].namespaces[0];
        let end = host.links.iter_mut().find(|link| link.index == IfIndex(veth)).unwrap();
        (end.master, end.port) = (None, None);
        end.ipv4.as_mut().unwrap().proxy = proxy;
        nodes[0].stack.routes.push(route(&address, None, veth));
    }
    nodes
}

#[test]
fn routed_pods_need_a_node_that_answers_for_their_gateway() {
    let found = ask(&routed(true), "one-a", "one-b");
    arrives(&found);
    assert_eq!(hops(&found), ["sent eth0@one-a", "in veth1@one", "forwarded veth2@one", "in eth0@one-b"]);
    ends(&ask(&routed(false), "one-a", "one-b"), "nobody behind eth0 of one-a has 169.254.1.1, the gateway");
}

#[test]
fn an_old_neighbour_entry_is_told() {
    let mut nodes = routed(true);
    nodes[0].stack.neighbours.push(Neighbour {
        address: "10.244.0.3".parse().unwrap(),
        mac: Some(mac(0x77)),
        device: IfIndex(VETH2),
        state: 0x04,
    });
    let found = ask(&nodes, "one-a", "one-b");
    ends(&found, "the frame is for 02:00:00:00:00:77, and eth0 of one-b is 02:00:00:00:00:03");
}

#[test]
fn no_route_and_no_route_back_are_told_apart() {
    let mut nodes = one();
    nodes[0].namespaces[1].stack.as_mut().unwrap().routes.clear();
    ends(&ask(&nodes, "one-a", "one-b"), "one-a has no route to 10.244.0.3");
    let found = ask(&nodes, "one-b", "one-a");
    assert_eq!(found.there.outcome, Outcome::Arrives);
    assert_eq!(found.verdict(), Verdict::Ends);
    let back = found.back.unwrap();
    assert!(
        matches!(back.outcome, Outcome::Ends { ref why, .. } if why.contains("one-a has no route to 10.244.0.3"))
    );
}

#[test]
fn two_nodes_that_send_it_to_each_other_go_in_circles() {
    let mut nodes = two_nodes();
    for (at, other) in [(0, "192.0.2.12"), (1, "192.0.2.11")] {
        nodes[at].stack.routes.push(route("10.77.0.0/16", Some(other), ETH0));
    }
    ends(&ask(&nodes, "one-a", "10.77.0.1"), "circles");
}

#[test]
fn ipv6_is_followed_and_link_local_addresses_want_their_link() {
    let mut nodes = one();
    let v6 = |nodes: &[Snapshot]| {
        trace(nodes, &Question { v6: Some(true), ..question("one-a", "one-b") }).unwrap()
    };
    let found = v6(&nodes);
    arrives(&found);
    assert_eq!(found.packet.source, Some("fd00:1::2".parse().unwrap()));
    arrives(&ask(&nodes, "one-a", "fe80::3%eth0"));
    let refused = trace(&nodes, &question("one-a", "fe80::3")).unwrap_err();
    assert_eq!(refused, Refusal::NoScope { address: "fe80::3".parse().unwrap() });
    let refused = trace(&nodes, &question("one-a", "fe80::3%eth9")).unwrap_err();
    assert!(matches!(refused, Refusal::NoInterface { name, has, .. } if name == "eth9" && has == ["eth0"]));
    // A pod of IPv4 only.
    nodes[0].namespaces[2].links[1].addresses.truncate(1);
    let refused = trace(&nodes, &Question { v6: Some(true), ..question("one-a", "one-b") }).unwrap_err();
    assert_eq!(refused, Refusal::NoAddress { label: "one-b".into(), v6: Some(true) });
    assert!(matches!(
        trace(&nodes, &question("10.244.0.2", "fd00:1::2")),
        Err(Refusal::Families { .. } | Refusal::NoAddress { .. })
    ));
}

#[test]
fn the_node_itself_is_reached_and_reaches() {
    for (from, to) in [
        ("host", "one-a"),
        ("one-a", "host"),
        ("one", "one-b"),
        ("one-a", "10.244.0.1"),
        ("one-a", "10.244.0.2"),
    ] {
        arrives(&ask(&one(), from, to));
    }
}

#[test]
fn an_address_that_two_have_is_told() {
    let mut nodes = one();
    let same = nodes[0].namespaces[1].links[1].addresses.clone();
    nodes[0].namespaces[2].links[1].addresses = same;
    perhaps(&ask(&nodes, "host", "10.244.0.2"), "two answer for 10.244.0.2");
}

#[test]
fn names_that_fit_nobody_or_two_are_refused() {
    let mut nodes = two_nodes();
    assert_eq!(trace(&nodes, &question("one-a", "web")), Err(Refusal::Nobody { name: "web".into() }));
    nodes[1].namespaces[1].pins[0].path = "/run/netns/one-a".into();
    let Err(Refusal::Several { found, .. }) = trace(&nodes, &question("one-a", "two-b")) else {
        panic!("two")
    };
    assert_eq!(found.len(), 2);
    assert!(matches!(trace(&nodes, &question("host", "two-b")), Err(Refusal::Several { .. })));
}

#[test]
fn snapshots_that_do_not_fit_together_are_told() {
    let mut nodes = two_nodes();
    let later = Duration::from_secs(90).as_millis() as i64;
    nodes[1].taken_at = Timestamp(nodes[1].taken_at.0 + later);
    assert!(ask(&nodes, "one-a", "two-a").warnings[0].contains("90 s apart"));
    let mut nodes = two_nodes();
    nodes[1].namespaces[0].links[1].addresses.push("192.0.2.11/24".parse().unwrap());
    let warnings = ask(&nodes, "one-a", "two-a").warnings;
    assert!(warnings.iter().any(|warning| warning.contains("192.0.2.11 is on both nodes")), "{warnings:?}");
    let nodes = [one(), one()].concat();
    let found = trace(&nodes, &question("10.244.0.2", "192.0.2.11"));
    assert!(
        matches!(&found, Err(Refusal::Several { found, .. }) if found.len() == 2),
        "whose address that is, is not to be told: {found:?}"
    );
}

#[test]
fn names_of_others_do_not_steer_the_terminal() {
    let mut nodes = one();
    nodes[0].namespaces[2].pins[0].path = "/run/netns/x\u{1b}[2J".into();
    nodes[0].namespaces[0].links[4].name = "veth\u{1b}[2J".into();
    let found = ask(&nodes, "one-a", "10.244.0.3");
    arrives(&found);
    let text = render::trace(&found, true, render::Paint::PLAIN);
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
}

fn with_rules(tables: Vec<model::filter::Table>) -> [Snapshot; 1] {
    let mut nodes = one();
    nodes[0].stack.ruleset.as_mut().unwrap().tables = tables;
    nodes
}

#[test]
fn a_rule_that_drops_is_named() {
    let drops = |hook| {
        let drop =
            rule("ip daddr 10.244.0.3 drop", Field::DestinationAddress, "10.244.0.3/32", false, Action::Drop);
        chain(Family::Inet, hook, ChainKind::Filter, Policy::Accept, vec![drop])
    };
    // A bridge shows nothing to rules for IP, unless br_netfilter is on.
    let mut nodes = with_rules(vec![drops(FilterHook::Forward)]);
    arrives(&ask(&nodes, "one-a", "one-b"));
    nodes[0].stack.sysctls.insert("net.bridge.bridge-nf-call-iptables".into(), "1".into());
    ends(&ask(&nodes, "one-a", "one-b"), "dropped by nft inet t, forward: ip daddr 10.244.0.3 drop");
    let output = with_rules(vec![drops(FilterHook::Output)]);
    ends(&ask(&output, "host", "one-b"), "dropped by nft inet t, output");
    // In the pod itself.
    let mut nodes = one();
    let stack = nodes[0].namespaces[2].stack.as_mut().unwrap();
    stack.ruleset.as_mut().unwrap().tables = vec![drops(FilterHook::Input)];
    ends(&ask(&nodes, "one-a", "one-b"), "dropped by nft inet t, input");
    // Of one device.
    let mut netdev = drops(FilterHook::Ingress);
    netdev.family = Family::Netdev;
    netdev.chains[0].base.as_mut().unwrap().devices = vec!["veth1".into()];
    let mut nodes = with_rules(vec![netdev]);
    ends(&ask(&nodes, "one-a", "one-b"), "dropped by nft netdev t, ingress");
    let tables = &mut nodes[0].stack.ruleset.as_mut().unwrap().tables;
    tables[0].chains[0].base.as_mut().unwrap().devices = vec!["eth0".into()];
    arrives(&ask(&nodes, "one-a", "one-b"));
    // Only those of the bridge.
    let drop = Rule { text: "drop".into(), actions: vec![Action::Drop], ..Rule::default() };
    let bridge = chain(Family::Bridge, FilterHook::Forward, ChainKind::Filter, Policy::Accept, vec![drop]);
    ends(&ask(&with_rules(vec![bridge]), "one-a", "one-b"), "dropped by nft bridge t, forward: drop");
}

#[test]
fn a_policy_that_drops_and_a_rule_that_nobody_understands() {
    let policy = |rules| {
        let mut nodes = two_nodes();
        let table = chain(Family::Ip, FilterHook::Forward, ChainKind::Filter, Policy::Drop, rules);
        nodes[1].stack.ruleset.as_mut().unwrap().tables = vec![table];
        ask(&nodes, "one-a", "two-a")
    };
    ends(&policy(Vec::new()), "dropped by nft ip t, forward: policy drop");
    let accept = Rule { text: "accept".into(), actions: vec![Action::Accept], ..Rule::default() };
    arrives(&policy(vec![accept.clone()]));
    let odd = Rule { matches: vec![Match::Other("-m bpf".into())], ..accept };
    perhaps(&policy(vec![odd]), "does not understand");
}

#[test]
fn the_answer_to_what_was_masqueraded_finds_back() {
    let mut nodes = two_nodes();
    nodes[0].stack.ruleset.as_mut().unwrap().tables = vec![masquerade("10.244.0.0/24")];
    let found = ask(&nodes, "one-a", "192.0.2.12");
    arrives(&found);
    assert_eq!(found.there.packet.source, Some("192.0.2.11".parse().unwrap()), "the node's");
    assert_eq!(found.from.address, Some("10.244.0.2".parse().unwrap()), "the pod's");
    // Without it nobody out there knows the way back.
    nodes[0].stack.ruleset.as_mut().unwrap().tables.clear();
    nodes[1].stack.routes.retain(|route| route.device != Some(IfIndex(VXLAN)));
    let found = ask(&nodes, "one-a", "192.0.2.12");
    assert_eq!(found.there.outcome, Outcome::Arrives);
    assert_eq!(found.back.unwrap().verdict(), Verdict::Perhaps, "by the router, which no snapshot shows");
}

#[test]
fn a_service_leads_to_its_pod_and_its_answer_needs_the_bridge_to_be_tracked() {
    let mut nodes = two_nodes();
    nodes[0].stack.ruleset.as_mut().unwrap().tables = vec![service("10.96.0.10/32", "10.244.1.12")];
    let found = ask(&nodes, "one-a", "10.96.0.10");
    arrives(&found);
    assert_eq!(found.to.node.as_deref(), Some("two"));
    assert_eq!(found.there.packet.destination, "10.244.1.12".parse::<std::net::IpAddr>().unwrap());
    // To a pod on the same bridge the answer does not pass the node's stack, unless br_netfilter shows it.
    let mut nodes = with_rules(vec![service("10.96.0.10/32", "10.244.0.3")]);
    let found = ask(&nodes, "one-a", "10.96.0.10");
    assert_eq!(found.there.outcome, Outcome::Arrives);
    let back = found.back.unwrap();
    let Outcome::Ends { why, .. } = &back.outcome else { panic!("{back:?}") };
    assert!(why.contains("it comes from 10.244.0.3, and 10.96.0.10 was asked"), "{why}");
    nodes[0].stack.sysctls.insert("net.bridge.bridge-nf-call-iptables".into(), "1".into());
    arrives(&ask(&nodes, "one-a", "10.96.0.10"));
    // Its own pod: the frame would have to go back by the port that it came by.
    let mut nodes = with_rules(vec![service("10.96.0.10/32", "10.244.0.2"), masquerade("10.244.0.0/24")]);
    nodes[0].stack.sysctls.insert("net.bridge.bridge-nf-call-iptables".into(), "1".into());
    let found = ask(&nodes, "one-a", "10.96.0.10");
    assert_ne!(found.verdict(), Verdict::Arrives);
}

#[test]
fn a_packet_filter_that_was_not_read_is_a_doubt() {
    let mut nodes = one();
    nodes[0].namespaces[2].stack.as_mut().unwrap().ruleset = None;
    perhaps(&ask(&nodes, "one-a", "one-b"), "the packet filter of one-b is not in the snapshot");
}

/// A small generator of numbers (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// All numbers of a JSON value.
fn numbers(value: &mut serde_json::Value) -> Vec<&mut serde_json::Value> {
    match value {
        serde_json::Value::Number(_) => vec![value],
        serde_json::Value::Array(all) => all.iter_mut().flat_map(numbers).collect(),
        serde_json::Value::Object(all) => all.values_mut().flat_map(numbers).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn nodes_that_no_kernel_would_make_are_followed_to_an_end() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut nodes = two_nodes();
    nodes[0].stack.ruleset.as_mut().unwrap().tables = vec![masquerade("10.244.0.0/24")];
    let whole = serde_json::to_value(&nodes[..]).unwrap();
    let (mut asked, mut arrived) = (0, 0);
    for _ in 0..500 {
        let mut changed = whole.clone();
        let mut all = numbers(&mut changed);
        for _ in 0..=random.below(4) {
            // Mostly indices, numbers of namespaces and flags: another one of those that are there.
            let at = random.below(all.len());
            *all[at] = random.below(9).into();
        }
        let Ok(nodes) = serde_json::from_value::<Vec<Snapshot>>(changed) else { continue };
        for (from, to) in [("one-a", "two-b"), ("host", "one-b"), ("10.244.1.12", "192.0.2.11")] {
            if let Ok(found) = trace(&nodes, &question(from, to)) {
                asked += 1;
                arrived += usize::from(found.verdict() == Verdict::Arrives);
                render::trace(&found, true, render::Paint::PLAIN);
            }
        }
    }
    assert!(asked > 400 && arrived > 0 && arrived < asked, "{arrived} of {asked}");
}
