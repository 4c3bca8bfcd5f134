//! Devices: made, set up, changed, removed.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use model::{IfIndex, MacAddr, Vlans};
use netlink::link::{self, Change, Veth};
use netlink::neigh::{self, Forwarding};
use netlink::qdisc::{self, Impairment, Limit};
use netlink::{Request, Socket, addr, bridge_vlan, device, route};

use super::{LOOPBACK, Room, Site};
use crate::error::{Error, Result};
use crate::plan::{Part, Piece};
use crate::topology::MacvlanMode;
use crate::wiring::{Device, DeviceKind, FdbEntry, Neighbour, Route, Shape};

/// Requests in one system call. The kernel queues an answer of about 1 KiB for each, and a socket holds 208 KiB.
const BATCH: usize = 128;

/// Requests with the piece that each is about.
type Jobs<'a> = Vec<(Request, &'a Piece)>;

impl Site {
    /// Makes all devices among the pieces, and sets them up.
    pub(super) fn make_devices(&mut self, pieces: &[Piece], fresh: &[&str]) -> Result<()> {
        let devices = || {
            pieces.iter().filter_map(|piece| match &piece.part {
                Part::Device(device) => Some((piece, device)),
                _ => None,
            })
        };
        // Tunnels and macvlans are made on devices, so those get their addresses first.
        let is_upper =
            |device: &Device| matches!(device.kind, DeviceKind::Vxlan { .. } | DeviceKind::Macvlan { .. });
        self.make(devices().filter(|(_, device)| !is_upper(device)))?;
        self.set_up(devices().filter(|(_, device)| !is_upper(device)), fresh)?;
        self.make(devices().filter(|(_, device)| is_upper(device)))?;
        self.set_up(devices().filter(|(_, device)| is_upper(device)), &[])
    }

    fn make<'a>(&mut self, devices: impl Iterator<Item = (&'a Piece, &'a Device)>) -> Result<()> {
        // By machine in whose namespace they are made; in there in the plan's order.
        let mut jobs: BTreeMap<String, Jobs<'a>> = BTreeMap::new();
        for (piece, device) in devices {
            if let Some((machine, request)) = self.creation(piece, device)? {
                jobs.entry(machine).or_default().push((request, piece));
            }
        }
        for (machine, jobs) in jobs {
            let Some(room) = self.rooms.get_mut(&machine) else { continue };
            send(&mut room.socket, jobs).map_err(unsupported)?;
        }
        Ok(())
    }

    /// The request that makes a device, and the machine in which it is sent; `None` for what is there or comes with another.
    fn creation(&mut self, piece: &Piece, device: &Device) -> Result<Option<(String, Request)>> {
        let at = piece.machine.clone();
        let kind = match &device.kind {
            DeviceKind::Loopback | DeviceKind::Veth { first: false, .. } => return Ok(None),
            DeviceKind::Veth { peer, .. } => {
                let far = Piece { machine: peer.machine.clone(), part: Part::Namespace };
                let peer_index = self.room(&far)?.give(&peer.device);
                let room = self.room(piece)?;
                let master = device.port.as_ref().and_then(|port| room.index(&port.bridge));
                let index = room.give(&device.name);
                let veth = Veth {
                    name: &device.name,
                    mac: device.mac,
                    master,
                    mtu_bytes: device.mtu_bytes,
                    peer_name: &peer.device,
                    peer_mac: None,
                    peer_netns: Some(self.rooms[&peer.machine].as_fd()),
                    indices: Some((index, peer_index)),
                };
                return Ok(Some((at, link::create_veth(&veth))));
            }
            DeviceKind::Bridge { stp, vlan_filtering } => {
                device::Kind::Bridge { vlans: *vlan_filtering, stp: *stp }
            }
            DeviceKind::Vxlan { id, port, local, on, learning, .. } => {
                let lower = on.as_ref().and_then(|on| self.rooms.get(&at)?.index(on));
                let (id, port, local, learning) = (*id, *port, *local, *learning);
                device::Kind::Vxlan(device::Vxlan { id, port, local, lower, learning })
            }
            DeviceKind::Macvlan { on, mode } => {
                let lower_machine = Piece { machine: on.machine.clone(), part: Part::Namespace };
                let room = self.room(&lower_machine)?;
                let (lower, free_there) = (room.index(&on.device).unwrap_or(LOOPBACK), room.next);
                let mode = match mode {
                    MacvlanMode::Bridge => device::MacvlanMode::Bridge,
                    MacvlanMode::Private => device::MacvlanMode::Private,
                    MacvlanMode::Vepa => device::MacvlanMode::Vepa,
                };
                // Linux 6.1 for one (newer kernels not) refuses an index that somebody has in the namespace in which this is asked for.
                let room = self.room(piece)?;
                room.next = room.next.max(free_there);
                let index = room.give(&device.name);
                let room = self.room(&lower_machine)?;
                room.next = room.next.max(index.0 + 1);
                let request = device::create(&device::Device {
                    name: &device.name,
                    kind: device::Kind::Macvlan { lower, mode, broadcast_queue: None },
                    mac: device.mac,
                    mtu_bytes: device.mtu_bytes,
                    netns: Some(self.rooms[&at].as_fd()),
                    up: false,
                    index: Some(index),
                });
                return Ok(Some((on.machine.clone(), request)));
            }
        };
        let room = self.room(piece)?;
        let index = Some(room.give(&device.name));
        let (name, mac, mtu_bytes) = (&device.name, device.mac, device.mtu_bytes);
        let request =
            device::create(&device::Device { name, kind, mac, mtu_bytes, netns: None, up: false, index });
        Ok(Some((at, request)))
    }

    /// Stamps the devices, gives them their addresses and sets them up, a machine at a time.
    fn set_up<'a>(
        &mut self,
        devices: impl Iterator<Item = (&'a Piece, &'a Device)>,
        fresh: &[&str],
    ) -> Result<()> {
        let stamp = self.stamp();
        let up = Change { up: Some(true), ..Change::default() };
        let mut jobs: BTreeMap<&str, Jobs<'a>> = BTreeMap::new();
        // Each host that comes up tells its neighbours, and a bridge that is up already would send that to all its ports: of 1,000 hosts a
        // million packets.
        let mut last: BTreeMap<&str, Jobs<'a>> = BTreeMap::new();
        for (piece, device) in devices {
            let room = self.room(piece)?;
            let jobs = jobs.entry(&piece.machine).or_default();
            setup(room, device, &stamp, |request| jobs.push((request, piece)));
            if let (DeviceKind::Bridge { .. }, false, Some(index)) =
                (&device.kind, device.down, room.index(&device.name))
            {
                last.entry(&piece.machine).or_default().push((link::change(index, &up), piece));
            }
        }
        for machine in fresh {
            if let Some(room) = self.rooms.get_mut(*machine) {
                let piece = Piece { machine: (*machine).to_owned(), part: Part::Namespace };
                let mut all: Jobs<'_> = vec![(link::change(LOOPBACK, &up), &piece)];
                all.extend(jobs.remove(machine).unwrap_or_default());
                send(&mut room.socket, all)?;
            }
        }
        for (machine, jobs) in jobs.into_iter().chain(last) {
            if let Some(room) = self.rooms.get_mut(machine) {
                send(&mut room.socket, jobs)?;
            }
        }
        Ok(())
    }

    /// Whose the devices are, as `ip -d link` shows it.
    pub(crate) fn stamp(&self) -> String {
        format!("podplumb lab {}", self.lab)
    }

    pub(super) fn change_device(&mut self, old: &Piece, new: &Piece) -> Result<()> {
        let (Part::Device(before), Part::Device(after)) = (&old.part, &new.part) else { return Ok(()) };
        let room = self.room(new)?;
        let Some(index) = room.index(&after.name) else { return Ok(()) };
        let mut requests = Vec::new();
        let gone = before.addresses.iter().filter(|address| !after.addresses.contains(address));
        requests.extend(gone.map(|address| addr::delete(index, *address)));
        let mtu_bytes = (after.mtu_bytes != before.mtu_bytes).then_some(after.mtu_bytes.unwrap_or(1500));
        let mac = after.mac.filter(|_| after.mac != before.mac);
        let master = after.port.as_ref().and_then(|port| room.index(&port.bridge));
        let no_master = after.port.is_none() && before.port.is_some();
        let up = Some(!after.down);
        requests.push(link::change(
            index,
            &Change { up, mtu_bytes, mac, master, no_master, ..Change::default() },
        ));
        if let Some(port) = &after.port {
            requests.push(link::change_port(index, Some(port.hairpin), Some(port.isolated)));
        }
        if after.vlans != before.vlans || after.vlans.is_some() && after.port != before.port {
            // One that joins another bridge has left its VLANs behind.
            let old = before.vlans.as_deref().filter(|_| after.port == before.port);
            let wanted = after.vlans.as_deref().unwrap_or(&[Vlans::USUAL]);
            requests.extend(vlans(index, old.unwrap_or(&[Vlans::USUAL]), wanted, &after.kind));
        }
        let come = after.addresses.iter().filter(|address| !before.addresses.contains(address));
        requests.extend(come.map(|address| addr::add(index, *address, addr::Flags::default())));
        if after.shape != before.shape {
            if before.shape.is_some() {
                match room.socket.ack(qdisc::remove(index)) {
                    // Somebody took it away by hand.
                    Err(error) if error.is_gone() => {}
                    removed => {
                        removed.map_err(|source| Error::Kernel { piece: new.to_string(), source })?;
                    }
                }
            }
            requests.extend(after.shape.map(|shape| queue(index, shape)));
        }
        send(&mut room.socket, requests.into_iter().map(|request| (request, new)).collect())
    }

    /// Removes a piece. That it is gone already is no error.
    pub(super) fn remove_from_kernel(&mut self, piece: &Piece) -> Result<()> {
        let Some(room) = self.rooms.get_mut(&piece.machine) else { return Ok(()) };
        let request = match &piece.part {
            Part::Device(Device { name, kind, .. }) => match (kind, room.devices.remove(name)) {
                (DeviceKind::Loopback, index) => {
                    room.devices.extend(index.map(|index| (name.clone(), index)));
                    None
                }
                (_, Some(index)) => Some(link::delete(index)),
                (_, None) => None,
            },
            Part::Route(route) => {
                room.index(&route.device).map(|device| route::delete(&new_route(route, device)))
            }
            Part::Neighbour(n) => room.index(&n.device).map(|device| neigh::delete(device, n.address)),
            Part::Fdb(entry) => room
                .index(&entry.device)
                .map(|device| neigh::delete_fdb(device, entry.mac, forwarding(entry))),
            _ => None,
        };
        let Some(request) = request else { return Ok(()) };
        match room.socket.ack(request) {
            Err(error) if error.is_gone() => Ok(()),
            result => result.map_err(|source| Error::Kernel { piece: piece.to_string(), source }),
        }
    }

    /// Adds neighbours, entries of forwarding databases and routes: all of a machine in one go.
    pub(super) fn make_entries(&mut self, pieces: &[Piece]) -> Result<()> {
        let mut jobs: BTreeMap<&str, Jobs<'_>> = BTreeMap::new();
        for piece in pieces {
            let Some(room) = self.rooms.get(&piece.machine) else { continue };
            let request = match &piece.part {
                Part::Neighbour(Neighbour { address, mac, device }) => {
                    room.index(device).map(|device| neigh::add_permanent(device, *address, *mac))
                }
                Part::Fdb(entry) => room
                    .index(&entry.device)
                    .map(|device| neigh::add_fdb(device, entry.mac, forwarding(entry))),
                Part::Route(route) => {
                    room.index(&route.device).map(|device| route::replace(&new_route(route, device)))
                }
                _ => continue,
            };
            jobs.entry(&piece.machine).or_default().extend(request.map(|request| (request, piece)));
        }
        for (machine, jobs) in jobs {
            if let Some(room) = self.rooms.get_mut(machine) {
                send(&mut room.socket, jobs)?;
            }
        }
        Ok(())
    }
}

/// What makes a device, once it is there, what it should be.
fn setup(room: &Room, device: &Device, stamp: &str, mut push: impl FnMut(Request)) {
    let Some(index) = room.index(&device.name) else { return };
    let flags = addr::Flags::default();
    let addresses = device.addresses.iter().map(|address| addr::add(index, *address, flags));
    if device.kind == DeviceKind::Loopback {
        addresses.for_each(push);
        return;
    }
    let mut change = Change { alias: Some(stamp), ..Change::default() };
    // The first end of a pair was made up, and in its bridge: each change that says so again is an event that the kernel tells
    // everybody, and in a bridge of 1,000 ports those are what takes its time.
    let is_first = matches!(device.kind, DeviceKind::Veth { first: true, .. });
    let is_bridge = matches!(device.kind, DeviceKind::Bridge { .. });
    if !is_first && !is_bridge || device.down {
        change.up = Some(!device.down);
    }
    if let DeviceKind::Veth { first: false, .. } = device.kind {
        (change.mac, change.mtu_bytes) = (device.mac, device.mtu_bytes);
    }
    if let Some(port) = device.port.as_ref().filter(|_| !is_first) {
        change.master = room.index(&port.bridge);
    }
    push(link::change(index, &change));
    if let Some(port) = device.port.as_ref().filter(|port| port.hairpin || port.isolated) {
        push(link::change_port(index, Some(port.hairpin), Some(port.isolated)));
    }
    if let Some(wanted) = &device.vlans {
        vlans(index, &[Vlans::USUAL], wanted, &device.kind).into_iter().for_each(&mut push);
    }
    addresses.for_each(&mut push);
    if let Some(shape) = device.shape {
        push(queue(index, shape));
    }
    if let DeviceKind::Vxlan { peers, .. } = &device.kind {
        // Frames to nobody in particular go to all of them.
        let nobody = MacAddr([0; 6]);
        peers.iter().for_each(|peer| push(neigh::add_fdb(index, nobody, Forwarding::AlsoTunnel(*peer))));
    }
}

/// Takes a port, or the bridge itself, out of VLANs and into others.
fn vlans(index: IfIndex, old: &[Vlans], wanted: &[Vlans], kind: &DeviceKind) -> Vec<Request> {
    let is_bridge = matches!(kind, DeviceKind::Bridge { .. });
    let leave = old.iter().map(|vlans| bridge_vlan::delete(index, *vlans, is_bridge));
    leave.chain(wanted.iter().map(|vlans| bridge_vlan::add(index, *vlans, is_bridge))).collect()
}

fn forwarding(entry: &FdbEntry) -> Forwarding {
    entry.destination.map_or(Forwarding::Port, Forwarding::Tunnel)
}

fn new_route(wanted: &Route, device: IfIndex) -> route::NewRoute {
    route::NewRoute {
        mtu_bytes: wanted.mtu_bytes,
        priority: wanted.metric,
        source: wanted.source,
        onlink: wanted.onlink,
        ..route::NewRoute::new(wanted.destination, wanted.gateway, device)
    }
}

fn queue(index: IfIndex, shape: Shape) -> Request {
    match shape {
        Shape::Rate { bits_per_second } => {
            let rate = bits_per_second / 8;
            // 10 ms at this rate, and two large packets at least.
            let burst = u32::try_from(rate / 100).unwrap_or(u32::MAX).max(2 * 65_536);
            qdisc::limit(index, Limit { rate, burst })
        }
        Shape::Impaired { delay_us, loss_ppm, bits_per_second } => {
            qdisc::impair(index, Impairment { delay_us, loss_ppm, rate: bits_per_second / 8 })
        }
    }
}

/// Sends requests, so many at a time; the error names the piece of the first that failed.
fn send(socket: &mut Socket, jobs: Jobs<'_>) -> Result<()> {
    let mut jobs = jobs.into_iter().peekable();
    while jobs.peek().is_some() {
        let (requests, pieces): (Vec<Request>, Vec<&Piece>) = jobs.by_ref().take(BATCH).unzip();
        let first = pieces[0].to_string();
        let answers = socket.batch(requests).map_err(|source| Error::Kernel { piece: first, source })?;
        for (answer, piece) in answers.each().into_iter().zip(pieces) {
            if let Some(source) = answer {
                return Err(Error::Kernel { piece: piece.to_string(), source });
            }
        }
    }
    Ok(())
}

/// A kernel that does not know a kind of device answers EOPNOTSUPP.
fn unsupported(error: Error) -> Error {
    match &error {
        Error::Kernel { piece, source } if source.is_unsupported() => {
            let option =
                ["bridge", "veth", "vxlan", "macvlan"].into_iter().position(|kind| piece.starts_with(kind));
            let options = ["CONFIG_BRIDGE", "CONFIG_VETH", "CONFIG_VXLAN", "CONFIG_MACVLAN"];
            match option {
                Some(kind) => Error::Unsupported { what: piece.clone(), option: options[kind] },
                None => error,
            }
        }
        _ => error,
    }
}

/// Whether this kernel can delay and lose packets: tried in a namespace of its own.
pub(crate) fn can_impair() -> Result<bool> {
    let netns = sys::NetNs::create().map_err(Error::io("namespace"))?;
    let kernel = |source| Error::Kernel { piece: "netem".into(), source };
    let mut socket = netns.run(Socket::route).map_err(Error::io("namespace"))?.map_err(kernel)?;
    let line = Impairment { delay_us: 1, loss_ppm: 0, rate: 0 };
    match socket.ack(qdisc::impair(LOOPBACK, line)) {
        Ok(()) => Ok(true),
        Err(error) if error.is_gone() || error.is_unsupported() => Ok(false),
        Err(source) => Err(kernel(source)),
    }
}

/// Whether bridges of this kernel can look at VLAN tags: tried in a namespace of its own. A kernel without that takes the request, and makes
/// an ordinary bridge.
pub(crate) fn can_filter_vlans() -> Result<bool> {
    let netns = sys::NetNs::create().map_err(Error::io("namespace"))?;
    let kernel = |source| Error::Kernel { piece: "bridge".into(), source };
    let mut socket = netns.run(Socket::route).map_err(Error::io("namespace"))?.map_err(kernel)?;
    let name = model::IfName::new("br0").expect("a name");
    let request = device::create(&device::Device {
        name: &name,
        kind: device::Kind::Bridge { vlans: true, stp: false },
        mac: None,
        mtu_bytes: None,
        netns: None,
        up: false,
        index: None,
    });
    match socket.ack(request) {
        Ok(()) => {}
        Err(error) if error.is_unsupported() => return Ok(false),
        Err(source) => return Err(kernel(source)),
    }
    let made = link::by_name(&mut socket, "br0").map_err(kernel)?;
    Ok(made.bridge.is_some_and(|bridge| bridge.vlan_filtering))
}
