//! A healthy node, written by hand: an uplink, a bridge with two pods, a pod that is routed, and a tunnel to another node.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{
    FdbEntry, IfIndex, InterfaceSettings, Link, MacAddr, Namespace, Neighbour, NsInode, Nsid, Peer, Route,
    Snapshot, Stack, Vxlan,
};

use super::{Diagnosis, Finding, doctor};

pub(super) const UPLINK: usize = 1;
pub(super) const BRIDGE: usize = 2;
/// The host's ends of the veths of pods red and blue, which are behind the bridge, and of green, which is routed.
pub(super) const RED: usize = 3;
pub(super) const BLUE: usize = 4;
pub(super) const GREEN: usize = 5;
pub(super) const TUNNEL: usize = 6;

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn link(index: u32, name: &str, kind: &str, addresses: &[&str]) -> Link {
    let settings = InterfaceSettings { forwarding: true, ..InterfaceSettings::default() };
    Link {
        index: IfIndex(index),
        name: name.into(),
        kind: kind.into(),
        mac: Some(mac(u8::try_from(index).unwrap())),
        mtu_bytes: 1450,
        up: true,
        carrier: true,
        loopback: name == "lo",
        addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
        ipv4: Some(settings),
        ipv6: Some(settings),
        ..Link::default()
    }
}

pub(super) fn route(to: &str, via: Option<&str>, device: u32) -> Route {
    Route {
        destination: to.parse().unwrap(),
        gateway: via.map(|via| via.parse().unwrap()),
        device: Some(IfIndex(device)),
        table: 254,
        ..Route::default()
    }
}

pub(super) fn neighbour(address: &str, last: u8, device: u32) -> Neighbour {
    Neighbour {
        address: address.parse().unwrap(),
        mac: Some(mac(last)),
        device: IfIndex(device),
        state: 0x80,
    }
}

fn stack(forward: &str) -> Stack {
    let settings = [
        ("net.ipv4.ip_forward", forward),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv6.conf.all.forwarding", forward),
    ];
    let sysctls = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let (ruleset, traffic_filters) = (Some(model::Ruleset::default()), Some(Vec::new()));
    Stack { sysctls, ruleset, traffic_filters, ..Stack::default() }
}

/// A pod's namespace, numbered as its veth on the host.
fn pod(at: usize, address: &str, gateway: &str) -> Namespace {
    let number = i32::try_from(at).unwrap();
    let net: IpNet = address.parse().unwrap();
    let mut eth0 = link(2, "eth0", "veth", &[address]);
    eth0.mac = Some(mac(100 + u8::try_from(at).unwrap()));
    eth0.peer = Some(Peer { index: IfIndex(u32::try_from(at).unwrap() + 1), nsid: Some(Nsid(0)) });
    let mut own = stack("0");
    own.routes.push(route("0.0.0.0/0", Some(gateway), 2));
    own.routes.push(route(&net.trunc().to_string(), None, 2));
    Namespace {
        inode: Some(NsInode(100 + u64::try_from(at).unwrap())),
        nsid: Some(Nsid(number)),
        links: vec![link(1, "lo", "", &["127.0.0.1/8"]), eth0],
        stack: Some(Box::new(own)),
        readable: true,
        ..Namespace::default()
    }
}

/// The node.
pub(super) fn node() -> Snapshot {
    let mut snapshot = Snapshot::from_json(
        br#"{"version": 1, "taken_at": 1800000000000,
        "node": {"hostname": "n", "kernel": "6.18", "boot_id": "now", "booted_at": 1700000000000},
        "namespaces": [], "neighbour_tables": [{"name": "arp_cache", "entries": 3, "gc_thresh1": 128, "gc_thresh2": 512, "gc_thresh3": 1024,
            "overflows": 0}]}"#,
    )
    .unwrap();
    let veth = |at: usize, name: &str, master: Option<usize>| {
        let mut veth = link(u32::try_from(at).unwrap() + 1, name, "veth", &[]);
        veth.peer = Some(Peer { index: IfIndex(2), nsid: Some(Nsid(i32::try_from(at).unwrap())) });
        veth.master = master.map(|master| IfIndex(u32::try_from(master).unwrap() + 1));
        veth
    };
    let mut uplink = link(2, "eth0", "", &["192.0.2.10/24"]);
    uplink.mtu_bytes = 1500;
    let mut tunnel = link(7, "vxlan1", "vxlan", &["10.244.0.0/32"]);
    tunnel.vxlan = Some(Vxlan {
        id: 1,
        port: 8472,
        local: Some("192.0.2.10".parse().unwrap()),
        lower: Some(IfIndex(2)),
        group: None,
        learning: false,
        modes: model::VxlanModes::default(),
        tx_checksum: Some(true),
    });
    let mut green = veth(GREEN, "cali-green", None);
    green.ipv4 = Some(InterfaceSettings { forwarding: true, proxy: true, rp_filter: 1 });
    let host = Namespace {
        host: true,
        inode: Some(NsInode(1)),
        links: vec![
            link(1, "lo", "", &["127.0.0.1/8"]),
            uplink,
            link(3, "cni0", "bridge", &["10.244.0.1/24"]),
            veth(RED, "veth-red", Some(BRIDGE)),
            veth(BLUE, "veth-blue", Some(BRIDGE)),
            green,
            tunnel,
        ],
        readable: true,
        ..Namespace::default()
    };
    snapshot.stack = stack("1");
    snapshot.stack.routes = vec![
        route("0.0.0.0/0", Some("192.0.2.1"), 2),
        route("192.0.2.0/24", None, 2),
        route("10.244.0.0/24", None, 3),
        route("10.245.0.5/32", None, 6),
        Route { onlink: true, ..route("10.244.1.0/24", Some("10.244.1.0"), 7) },
    ];
    snapshot.stack.neighbours = vec![neighbour("10.244.1.0", 77, 7)];
    snapshot.stack.fdb = vec![FdbEntry {
        mac: mac(77),
        device: IfIndex(7),
        master: None,
        remote: Some("192.0.2.11".parse().unwrap()),
        state: 0x80,
    }];
    let mut routed = pod(GREEN, "10.245.0.5/32", "169.254.1.1");
    routed.stack.as_mut().unwrap().routes.push(route("169.254.1.1/32", None, 2));
    snapshot.namespaces =
        vec![host, pod(RED, "10.244.0.2/24", "10.244.0.1"), pod(BLUE, "10.244.0.3/24", "10.244.0.1"), routed];
    snapshot
}

/// The host's interface.
pub(super) fn of_host(snapshot: &mut Snapshot, at: usize) -> &mut Link {
    &mut snapshot.namespaces[0].links[at]
}

/// A pod's namespace, by its veth.
pub(super) fn pods(snapshot: &mut Snapshot, at: usize) -> &mut Namespace {
    &mut snapshot.namespaces[at - RED + 1]
}

/// A pod's interface, by its veth.
pub(super) fn eth0(snapshot: &mut Snapshot, at: usize) -> &mut Link {
    &mut pods(snapshot, at).links[1]
}

/// A pod's routes.
pub(super) fn stack_of(snapshot: &mut Snapshot, at: usize) -> &mut Stack {
    pods(snapshot, at).stack.as_mut().unwrap()
}

/// What one check finds on the node, after a change.
pub(super) fn diagnosis(check: &str, change: impl FnOnce(&mut Snapshot)) -> Diagnosis {
    let mut snapshot = node();
    change(&mut snapshot);
    assert!(super::checks().any(|one| one.id == check), "there is no check {check}");
    doctor(&snapshot, |one| one.id == check)
}

/// The objects in which one check finds something on the node, after a change.
pub(super) fn found(check: &str, change: impl FnOnce(&mut Snapshot)) -> Vec<String> {
    let findings: Vec<Finding> = diagnosis(check, change).findings;
    findings.into_iter().map(|finding| finding.object).collect()
}

/// After a change, the check finds nothing, and says that it could not look.
pub(super) fn is_blind(check: &str, change: impl FnOnce(&mut Snapshot)) -> bool {
    let diagnosis = diagnosis(check, change);
    diagnosis.findings.is_empty() && !diagnosis.checks[0].not_checked.is_empty()
}

/// Only these checks find something on the node, after a change.
pub(super) fn only(wanted: &[&str], change: impl FnOnce(&mut Snapshot)) {
    let mut snapshot = node();
    change(&mut snapshot);
    let mut ids: Vec<&str> = doctor(&snapshot, |_| true).findings.iter().map(|one| one.check).collect();
    ids.dedup();
    assert_eq!(ids, wanted);
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
