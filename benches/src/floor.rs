//! The kernel's share: what an ADD costs without any plugin.

use std::os::fd::AsFd;

use model::{IfName, MacAddr};
use netlink::link::{self, Change, Veth};
use netlink::route::{self, NewRoute};
use netlink::{Socket, addr, device};
use sys::NetNs;

use crate::world::Times;

/// The kernel's share of an ADD: the same messages, sent by this process.
pub(crate) struct Floor {
    socket: Socket,
    bridge: IfName,
    round: usize,
    pub(crate) times: Times,
    pods: Vec<NetNs>,
}

impl Floor {
    pub(crate) fn new(round: usize) -> Self {
        let mut socket = Socket::route().expect("a socket");
        let bridge: IfName = "floor".parse().expect("a name");
        socket
            .ack(device::create_bridge(&bridge, Some(MacAddr([2, 0, 0, 0, 0, 1])), None))
            .expect("a bridge");
        Self { socket, bridge, round, times: Times::default(), pods: Vec::new() }
    }

    pub(crate) fn add(&mut self, n: usize) {
        let netns = NetNs::create().expect("a namespace");
        // The kernel takes the veths of an earlier round down in its own time.
        let name: IfName = format!("f{}-{n}", self.round).parse().expect("a name");
        let Self { socket, bridge, times, pods, .. } = self;
        times.measure(|| {
            let bridge = link::by_name(socket, bridge.as_str()).expect("the bridge");
            let veth = Veth {
                name: &name,
                mac: Some(MacAddr([2, 1, 0, 0, (n >> 8) as u8, n as u8])),
                master: Some(bridge.index),
                mtu_bytes: None,
                peer_name: &"eth0".parse().expect("a name"),
                peer_mac: Some(MacAddr([2, 2, 0, 0, (n >> 8) as u8, n as u8])),
                peer_netns: Some(netns.as_fd()),
                indices: None,
            };
            let stamp = Change { alias: Some("podplumb:bench:floor:eth0"), ..Change::default() };
            let made = socket.batch(vec![link::create_veth(&veth), link::change_by_name(&name, &stamp)]);
            made.expect("an answer").all().expect("a veth");
            let _entered = netns.enter().expect("it can be entered");
            let mut inside = Socket::route().expect("a socket");
            let eth0 = link::by_name(&mut inside, "eth0").expect("eth0").index;
            let default =
                NewRoute::new("0.0.0.0/0".parse().expect("a net"), Some([10, 68, 0, 1].into()), eth0);
            let address = format!("10.68.{}.{}/16", n / 250, n % 250 + 2).parse().expect("a net");
            let requests = vec![
                link::change(eth0, &Change { up: Some(true), ..Change::default() }),
                addr::add(eth0, address, addr::Flags::default()),
                route::add(&default),
            ];
            inside.batch(requests).expect("an answer").all().expect("wired");
        });
        pods.push(netns);
    }

    pub(crate) fn end(mut self) {
        let bridge = link::by_name(&mut self.socket, self.bridge.as_str()).expect("the bridge");
        self.socket.ack(link::delete(bridge.index)).expect("it goes");
    }
}
