//! Small nodes, written by hand: a bridge with two pods, and whatever a test makes of them.

use std::collections::BTreeMap;

use model::filter::{
    Action, Base, Chain, ChainKind, Family, Field, Hook, Maker, Match, Policy, Rule, Table, Translation,
    Value,
};
use model::{
    BootId, FdbEntry, IfIndex, InterfaceSettings, Link, MacAddr, Namespace, Neighbour, Node, NsInode, Nsid,
    Peer, Pin, Route, Ruleset, Snapshot, Stack, Timestamp, Vxlan,
};

/// The host's interfaces.
pub(crate) const ETH0: u32 = 2;
pub(crate) const CNI0: u32 = 3;
pub(crate) const VETH1: u32 = 4;
pub(crate) const VETH2: u32 = 5;
pub(crate) const VXLAN: u32 = 6;

pub(crate) fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

pub(crate) fn link(index: u32, name: &str, kind: &str, address: MacAddr) -> Link {
    Link {
        index: IfIndex(index),
        name: name.into(),
        kind: kind.into(),
        mac: Some(address),
        mtu_bytes: 1500,
        up: true,
        carrier: true,
        ipv4: Some(InterfaceSettings { forwarding: true, ..InterfaceSettings::default() }),
        ..Link::default()
    }
}

fn loopback() -> Link {
    Link {
        index: IfIndex(1),
        name: "lo".into(),
        mtu_bytes: 65_536,
        up: true,
        carrier: true,
        loopback: true,
        addresses: vec!["127.0.0.1/8".parse().unwrap(), "::1/128".parse().unwrap()],
        ..Link::default()
    }
}

pub(crate) fn with(mut link: Link, addresses: &[&str]) -> Link {
    link.addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    link
}

/// `default via 10.0.0.1 dev 2`: destination, gateway, device.
pub(crate) fn route(destination: &str, gateway: Option<&str>, device: u32) -> Route {
    let destination = match destination {
        "default" => "0.0.0.0/0",
        "default6" => "::/0",
        other => other,
    };
    Route {
        destination: destination.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        device: Some(IfIndex(device)),
        table: 254,
        ..Route::default()
    }
}

pub(crate) fn sysctls(stack: &mut Stack, all: &[(&str, &str)]) {
    stack.sysctls.extend(all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
}

/// A pod at the other end of a veth of the host's.
fn pod(name: &str, nsid: i32, veth: u32, n: u8, net: &str) -> Namespace {
    let mut eth0 = with(
        link(2, "eth0", "veth", mac(n)),
        &[&format!("{net}.{n}/24"), &format!("fd00:1::{n}/64"), &format!("fe80::{n}/64")],
    );
    // The host's number of itself is not a pod's business.
    eth0.peer = Some(Peer { index: IfIndex(veth), nsid: Some(Nsid(0)) });
    let stack = Stack {
        routes: vec![
            route("default", Some(&format!("{net}.1")), 2),
            route(&format!("{net}.0/24"), None, 2),
            route("default6", Some("fd00:1::1"), 2),
            route("fd00:1::/64", None, 2),
            route("fe80::/64", None, 2),
        ],
        traffic_filters: Some(Vec::new()),
        ruleset: Some(Ruleset::default()),
        ..Stack::default()
    };
    Namespace {
        inode: Some(NsInode(4_026_532_000 + nsid as u64)),
        nsid: Some(Nsid(nsid)),
        pins: vec![Pin { path: format!("/run/netns/{name}").into(), seen_by: None, since: None }],
        links: vec![loopback(), eth0],
        stack: Some(Box::new(stack)),
        readable: true,
        ..Namespace::default()
    }
}

/// A node with a bridge and two pods: `NAME-a` is NET.2, `NAME-b` is NET.3; its uplink has the address.
pub(crate) fn node(name: &str, uplink: &str, net: &str, n: u8) -> Snapshot {
    let port = |index: u32, name: &str, address: u8, nsid: i32| Link {
        master: Some(IfIndex(CNI0)),
        peer: Some(Peer { index: IfIndex(2), nsid: Some(Nsid(nsid)) }),
        port: Some(model::BridgePort { state: 3, hairpin: false, isolated: false }),
        ..link(index, name, "veth", mac(address))
    };
    let host = Namespace {
        host: true,
        inode: Some(NsInode(4_026_531_840 + u64::from(n))),
        links: vec![
            loopback(),
            with(link(ETH0, "eth0", "", mac(0xe0 + n)), &[&format!("{uplink}/24")]),
            with(link(CNI0, "cni0", "bridge", mac(0xc0 + n)), &[&format!("{net}.1/24"), "fd00:1::1/64"]),
            port(VETH1, "veth1", 0xa0 + n, 7),
            port(VETH2, "veth2", 0xb0 + n, 8),
        ],
        readable: true,
        ..Namespace::default()
    };
    let base = if n == 1 { 2 } else { 12 };
    let mut stack = Stack {
        routes: vec![
            route("default", Some("192.0.2.1"), ETH0),
            route("192.0.2.0/24", None, ETH0),
            route(&format!("{net}.0/24"), None, CNI0),
            route("fd00:1::/64", None, CNI0),
        ],
        traffic_filters: Some(Vec::new()),
        ruleset: Some(Ruleset::default()),
        ..Stack::default()
    };
    sysctls(&mut stack, &[("net.ipv4.ip_forward", "1"), ("net.ipv6.conf.all.forwarding", "1")]);
    let mut snapshot = empty(name, n);
    snapshot.stack = stack;
    snapshot.namespaces = vec![
        host,
        pod(&format!("{name}-a"), 7, VETH1, base, net),
        pod(&format!("{name}-b"), 8, VETH2, base + 1, net),
    ];
    snapshot
}

/// Two nodes on one network, and a tunnel between their pods.
pub(crate) fn two_nodes() -> [Snapshot; 2] {
    let mut nodes = [node("one", "192.0.2.11", "10.244.0", 1), node("two", "192.0.2.12", "10.244.1", 2)];
    // IPv6 is within each node.
    let cni0 = nodes[1].namespaces[0].links.iter_mut().find(|link| link.name == "cni0").unwrap();
    cni0.addresses.truncate(1);
    for (at, snapshot) in nodes.iter_mut().enumerate() {
        let (own, other) = (at as u8, 1 - at as u8);
        let mut device =
            with(link(VXLAN, "flannel.1", "vxlan", mac(0xf0 + own)), &[&format!("10.244.{own}.0/32")]);
        device.mtu_bytes = 1450;
        device.vxlan = Some(Vxlan {
            id: 1,
            port: 8472,
            local: Some(format!("192.0.2.1{}", own + 1).parse().unwrap()),
            lower: Some(IfIndex(ETH0)),
            group: None,
            learning: false,
            modes: model::VxlanModes::default(),
            tx_checksum: None,
        });
        snapshot.namespaces[0].links.push(device);
        let mut over = route(&format!("10.244.{other}.0/24"), Some(&format!("10.244.{other}.0")), VXLAN);
        over.onlink = true;
        let stack = &mut snapshot.stack;
        stack.routes.push(over);
        stack.neighbours.push(Neighbour {
            address: format!("10.244.{other}.0").parse().unwrap(),
            mac: Some(mac(0xf0 + other)),
            device: IfIndex(VXLAN),
            state: 0x80,
        });
        stack.fdb.push(FdbEntry {
            mac: mac(0xf0 + other),
            device: IfIndex(VXLAN),
            master: None,
            remote: Some(format!("192.0.2.1{}", other + 1).parse().unwrap()),
            state: 0x80,
        });
    }
    nodes
}

fn empty(name: &str, n: u8) -> Snapshot {
    let text = serde_json::json!({
        "version": 1, "taken_at": 1_800_000_000_000u64,
        "node": Node {
            hostname: name.into(), kernel: "6.18".into(),
            boot_id: BootId::new(format!("0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e0{n}")).unwrap(),
            booted_at: Timestamp(1_700_000_000_000),
        },
        "namespaces": [],
    });
    serde_json::from_value(text).unwrap()
}

/// A table of policy rules as every namespace has it, with more of them before.
pub(crate) fn rules(before: &[model::PolicyRule]) -> Vec<model::PolicyRule> {
    let usual = |priority, table| model::PolicyRule {
        priority,
        action: model::PolicyAction::Table(table),
        ..model::PolicyRule::default()
    };
    let mut all = vec![usual(0, 255)];
    all.extend(before.iter().cloned());
    all.extend([usual(32_766, 254), usual(32_767, 253)]);
    all
}

pub(crate) fn peers(of: &mut Namespace, index: u32, inode: NsInode) {
    of.peers = BTreeMap::from([(IfIndex(index), inode)]);
}

/// A base chain in a table of its own, with one rule.
pub(crate) fn chain(family: Family, hook: Hook, kind: ChainKind, policy: Policy, rules: Vec<Rule>) -> Table {
    let base = Base { hook, priority: 0, kind, devices: Vec::new(), policy };
    let chain = Chain { name: hook.as_str().into(), base: Some(base), rules };
    Table {
        family,
        name: "t".into(),
        maker: Maker::Nft,
        dormant: false,
        chains: vec![chain],
        sets: Vec::new(),
    }
}

/// A rule for addresses.
pub(crate) fn rule(text: &str, field: Field, net: &str, not: bool, action: Action) -> Rule {
    let matches = vec![Match::Is { field, mask: None, not, values: vec![Value::Net(net.parse().unwrap())] }];
    Rule { text: text.into(), matches, actions: vec![action], ..Rule::default() }
}

/// What leaves the pods' network gets the node's address.
pub(crate) fn masquerade(net: &str) -> Table {
    let mut rule = rule("masquerade", Field::SourceAddress, net, false, Action::Masquerade { ports: None });
    rule.matches.push(Match::Is {
        field: Field::DestinationAddress,
        mask: None,
        not: true,
        values: vec![Value::Net(net.parse().unwrap())],
    });
    chain(Family::Ip, Hook::Postrouting, ChainKind::Nat, Policy::Accept, vec![rule])
}

/// A service's address, which leads to a pod.
pub(crate) fn service(address: &str, to: &str) -> Table {
    let to = to.parse().unwrap();
    let action = Action::DestinationNat(Translation { addresses: Some((to, to)), ..Translation::default() });
    let rule = rule("dnat", Field::DestinationAddress, address, false, action);
    chain(Family::Ip, Hook::Prerouting, ChainKind::Nat, Policy::Accept, vec![rule])
}
