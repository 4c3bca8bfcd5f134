//! The requests against the running kernel, in namespaces of the test's own.

use std::os::fd::AsFd;

use model::{IfIndex, IfName, MacAddr, Nsid};
use podplumb_netlink::link::{Change, Veth};
use podplumb_netlink::{Socket, addr, device, link, neigh, nsid, qdisc, route};
use sys::NetNs;

/// Moves the test's thread into a fresh network namespace, and returns another fresh one.
fn world() -> NetNs {
    sys::isolate_thread().expect("tests that change the network need root: run `make test` as root");
    NetNs::create().unwrap()
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn wire(socket: &mut Socket, pod: &NetNs) -> (IfIndex, IfIndex) {
    socket.ack(device::create_bridge(&name("cni0"), Some(MacAddr([2, 0, 0, 0, 0, 1])), None)).unwrap();
    let bridge = link::by_name(socket, "cni0").unwrap();
    let veth = Veth {
        name: &name("veth1"),
        mac: None,
        master: Some(bridge.index),
        mtu_bytes: Some(1400),
        peer_name: &name("eth0"),
        peer_mac: Some(MacAddr([2, 0, 0, 0, 0, 9])),
        peer_netns: Some(pod.as_fd()),
        indices: None,
    };
    let stamp = Change { alias: Some("podplumb:net:cid:eth0"), ..Change::default() };
    socket
        .batch(vec![link::create_veth(&veth), link::change_by_name(veth.name, &stamp)])
        .unwrap()
        .all()
        .unwrap();
    (bridge.index, link::by_name(socket, "veth1").unwrap().index)
}

#[test]
fn a_pod_is_wired_in_one_batch_and_read_back_from_outside_by_nsid() {
    let pod = world();
    let mut socket = Socket::route().unwrap();
    assert_eq!(nsid::of(&mut socket, pod.as_fd()).unwrap(), None, "never linked, so not numbered");
    let (bridge, veth) = wire(&mut socket, &pod);
    pod.run(|| {
        let mut inside = Socket::route().unwrap();
        let eth0 = link::by_name(&mut inside, "eth0").unwrap().index;
        let default = route::NewRoute {
            mtu_bytes: Some(1300),
            ..route::NewRoute::new("0.0.0.0/0".parse().unwrap(), Some("10.0.0.1".parse().unwrap()), eth0)
        };
        let requests = vec![
            link::change(eth0, &Change { up: Some(true), ..Change::default() }),
            addr::add(eth0, "10.0.0.2/24".parse().unwrap(), addr::Flags::default()),
            addr::add(eth0, "fd00::2/64".parse().unwrap(), addr::Flags::default()),
            route::add(&default),
        ];
        inside.batch(requests).unwrap().all().unwrap();
        let routes = route::list(&mut inside).unwrap();
        assert!(
            routes.iter().any(|r| r.destination.prefix_len() == 0 && r.gateway == default.gateway),
            "{routes:?}"
        );
    })
    .unwrap();

    let pod_nsid = nsid::of(&mut socket, pod.as_fd()).unwrap().expect("linked now");
    assert_eq!(nsid::list(&mut socket).unwrap(), [pod_nsid]);
    let mut look = || link::by_index(&mut socket, veth, None).unwrap();
    let mut host = look();
    while host.settling {
        assert_eq!(host.port.unwrap().state, 0, "disabled until the kernel has noticed the carrier");
        host = look();
    }
    assert_eq!((host.kind.as_str(), host.mtu_bytes, host.up, host.carrier), ("veth", 1400, true, true));
    assert_eq!(host.master, Some(bridge));
    assert_eq!(host.alias.as_deref(), Some("podplumb:net:cid:eth0"));
    assert_eq!(host.port.unwrap().state, 3, "forwarding");
    assert_eq!(host.peer.unwrap().nsid, Some(pod_nsid));

    let inside = link::list(&mut socket, Some(pod_nsid)).unwrap();
    let eth0 = inside.iter().find(|l| l.name == "eth0").unwrap();
    assert_eq!(eth0.index, host.peer.unwrap().index);
    assert_eq!(eth0.mac, Some(MacAddr([2, 0, 0, 0, 0, 9])));
    let addresses = addr::list(&mut socket, Some(pod_nsid)).unwrap();
    for wanted in ["10.0.0.2/24", "fd00::2/64"] {
        assert!(addresses.contains(&(eth0.index, wanted.parse().unwrap())), "{addresses:?}");
    }
    let fdb = neigh::fdb(&mut socket).unwrap();
    assert!(fdb.iter().any(|entry| entry.device == veth && entry.master == Some(bridge)), "{fdb:?}");
    neigh::neighbours(&mut socket).unwrap();
}

#[test]
fn ports_are_changed_and_groups_deleted() {
    let pod = world();
    let mut socket = Socket::route().unwrap();
    let (_, veth) = wire(&mut socket, &pod);
    socket.ack(link::change_port(veth, Some(true), Some(true))).unwrap();
    let port = link::by_index(&mut socket, veth, None).unwrap().port.unwrap();
    assert!(port.hairpin && port.isolated);

    socket.ack(link::change(veth, &Change { group: Some(7777), ..Change::default() })).unwrap();
    assert_eq!(link::by_index(&mut socket, veth, None).unwrap().group, 7777);
    socket.ack(link::delete_group(7777)).unwrap();
    assert!(link::by_index(&mut socket, veth, None).unwrap_err().is_gone());
    assert!(link::by_name(&mut socket, "cni0").is_ok());
}

#[test]
fn refusals_name_the_object_and_carry_the_kernels_words() {
    let pod = world();
    let mut socket = Socket::route().unwrap();
    let error = link::by_name(&mut socket, "nosuch0").unwrap_err();
    assert!(error.is_gone() && error.to_string().starts_with("look up link nosuch0: "), "{error}");

    wire(&mut socket, &pod);
    let again = socket.ack(device::create_bridge(&name("cni0"), None, None)).unwrap_err();
    assert!(again.exists(), "{again}");

    // rtnetlink: "Invalid target network namespace id" or similar, by extended acknowledgement.
    let unknown = link::list(&mut socket, Some(Nsid(4711))).unwrap_err();
    assert!(unknown.to_string().contains("nvalid"), "{unknown}");
}

#[test]
fn a_batch_goes_on_after_a_refused_request_and_tells_which() {
    world();
    let mut socket = Socket::route().unwrap();
    let requests = vec![
        device::create_bridge(&name("a"), None, None),
        link::delete(IfIndex(999_999)),
        device::create_bridge(&name("b"), None, None),
    ];
    let answers = socket.batch(requests).unwrap().each();
    assert!(
        answers[0].is_none() && answers[1].as_ref().unwrap().is_gone() && answers[2].is_none(),
        "{answers:?}"
    );
    assert!(link::by_name(&mut socket, "b").is_ok());
}

#[test]
fn a_thousand_links_are_listed_whole() {
    world();
    let mut socket = Socket::route().unwrap();
    // Not bridges: the kernel takes 16 s to remove so many, and nobody can change a link meanwhile.
    for chunk in 0..5 {
        let pairs = (0..100).map(|n| {
            let number = chunk * 100 + n;
            link::create_veth(&Veth {
                name: &name(&format!("left{number}")),
                mac: None,
                master: None,
                mtu_bytes: None,
                peer_name: &name(&format!("right{number}")),
                peer_mac: None,
                peer_netns: None,
                indices: None,
            })
        });
        socket.batch(pairs.collect()).unwrap().all().unwrap();
    }
    assert_eq!(link::list(&mut socket, None).unwrap().iter().filter(|l| l.kind == "veth").count(), 1000);
}

#[test]
fn routes_that_somebody_made_are_made_again_in_another_table() {
    world();
    let mut socket = Socket::route().unwrap();
    socket.ack(device::create_bridge(&name("cni0"), None, None)).unwrap();
    let bridge = link::by_name(&mut socket, "cni0").unwrap().index;
    for (net, gateway, destination) in
        [("10.0.0.1/24", "10.0.0.9", "192.0.2.0/24"), ("fd00::1/64", "fd00::9", "2001:db8::/64")]
    {
        socket.ack(addr::add(bridge, net.parse().unwrap(), addr::Flags::default())).unwrap();
        let route = route::NewRoute {
            mtu_bytes: Some(1300),
            priority: Some(77),
            ..route::NewRoute::new(destination.parse().unwrap(), Some(gateway.parse().unwrap()), bridge)
        };
        socket.ack(route::add(&route)).unwrap();
    }
    let saved = route::made_for(&mut socket, bridge).unwrap();
    assert_eq!(saved.len(), 2, "not those that the addresses brought: {saved:?}");
    for one in &saved {
        socket.ack(one.restore(4321)).unwrap();
    }
    let again = route::made_for(&mut socket, bridge).unwrap();
    for one in saved {
        let wanted = model::Route { table: 4321, ..one.route };
        assert!(again.iter().any(|found| found.route == wanted), "{wanted:?} in {again:?}");
    }
}

#[test]
fn a_filter_that_leads_to_an_ifb_is_listed_once_and_none_where_there_is_none() {
    let pod = world();
    let mut socket = Socket::route().unwrap();
    let (_, veth) = wire(&mut socket, &pod);
    assert_eq!(qdisc::filters(&mut socket).unwrap(), []);
    let ifb = device::create(&device::Device {
        name: &name("bwp1"),
        kind: device::Kind::Ifb,
        mac: None,
        mtu_bytes: None,
        netns: None,
        up: true,
        index: Some(IfIndex(77)),
    });
    socket.ack(ifb).unwrap();
    socket.batch(qdisc::redirect(veth, IfIndex(77)).to_vec()).unwrap().all().unwrap();
    let found = qdisc::filters(&mut socket).unwrap();
    let [filter] = found.as_slice() else { panic!("{found:#?}") };
    assert_eq!((filter.device, filter.ingress, filter.kind.as_str()), (veth, true, "u32"));
    assert_eq!((filter.redirect, filter.program, filter.name.as_str()), (Some(IfIndex(77)), None, ""));
}
