//! Neighbours and forwarding databases.

use std::net::IpAddr;

use model::{FdbEntry, IfIndex, MacAddr, Neighbour, NeighbourTable};

use crate::error::Result;
use crate::link::{family, octets};
use crate::message::{Attributes, CREATE_OR_REPLACE, Request};
use crate::socket::Socket;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const RTM_GETNEIGHTBL: u16 = 66;
const NDMSG: usize = 12;
/// struct ndtmsg: a family, padded.
const NDTMSG: usize = 4;
const NDTA_NAME: u16 = 1;
const NDTA_THRESH1: u16 = 2;
const NDTA_THRESH2: u16 = 3;
const NDTA_THRESH3: u16 = 4;
const NDTA_CONFIG: u16 = 5;
const NDTA_STATS: u16 = 7;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_MASTER: u16 = 9;
const AF_BRIDGE: u8 = 7;
const NUD_STALE: u16 = 0x04;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
/// The entry is the device's own (a tunnel's), or its bridge's.
const NTF_SELF: u8 = 0x02;
const NTF_MASTER: u8 = 0x04;
/// `NLM_F_REPLACE`: what is there is changed, and nothing is made.
const REPLACE: u16 = 0x100;
/// `NLM_F_CREATE | NLM_F_APPEND`: one more, beside those that are there.
const CREATE_APPEND: u16 = 0x400 | 0x800;

fn ndmsg(family: u8) -> [u8; NDMSG] {
    let mut header = [0; NDMSG];
    header[0] = family;
    header
}

fn entry(device: IfIndex, address: IpAddr, state: u16) -> [u8; NDMSG] {
    let mut header = ndmsg(family(address));
    header[4..8].copy_from_slice(&device.0.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header
}

/// What the socket's namespace knows of a neighbour on an interface. Fails with ENOENT if that is nothing. Needs Linux 5.0.
pub fn get(socket: &mut Socket, device: IfIndex, address: IpAddr) -> Result<Neighbour> {
    let request = Request::new("get neighbour", RTM_GETNEIGH, 0, &entry(device, address, 0));
    socket.get(request.attr(NDA_DST, &octets(address)), neighbour)
}

/// Changes the MAC of a neighbour that is known, as something to be verified at its next use. Fails with ENOENT if it is not.
pub fn replace(device: IfIndex, address: IpAddr, mac: MacAddr) -> Request {
    Request::new("change neighbour", RTM_NEWNEIGH, REPLACE, &entry(device, address, NUD_STALE))
        .attr(NDA_DST, &octets(address))
        .attr(NDA_LLADDR, &mac.0)
}

/// Makes a neighbour that is never asked for, or makes the one that is there so.
pub fn add_permanent(device: IfIndex, address: IpAddr, mac: MacAddr) -> Request {
    Request::new("add neighbour", RTM_NEWNEIGH, CREATE_OR_REPLACE, &entry(device, address, NUD_PERMANENT))
        .attr(NDA_DST, &octets(address))
        .attr(NDA_LLADDR, &mac.0)
}

/// Forgets a neighbour.
pub fn delete(device: IfIndex, address: IpAddr) -> Request {
    Request::new("remove neighbour", RTM_DELNEIGH, 0, &entry(device, address, 0))
        .attr(NDA_DST, &octets(address))
}

/// Where frames to a MAC go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// Out of this port of a bridge.
    Port,
    /// Through a tunnel, to the one at this address.
    Tunnel(IpAddr),
    /// Through a tunnel, to this one besides others: for frames to nobody in particular.
    AlsoTunnel(IpAddr),
}

/// Adds a static entry to the forwarding database of a port's bridge, or of a tunnel.
pub fn add_fdb(device: IfIndex, mac: MacAddr, to: Forwarding) -> Request {
    let flags = if matches!(to, Forwarding::AlsoTunnel(_)) { CREATE_APPEND } else { CREATE_OR_REPLACE };
    fdb_request("add forwarding entry", RTM_NEWNEIGH, flags, device, mac, to)
}

/// Removes an entry of a forwarding database.
pub fn delete_fdb(device: IfIndex, mac: MacAddr, to: Forwarding) -> Request {
    fdb_request("remove forwarding entry", RTM_DELNEIGH, 0, device, mac, to)
}

fn fdb_request(
    what: &'static str,
    kind: u16,
    flags: u16,
    device: IfIndex,
    mac: MacAddr,
    to: Forwarding,
) -> Request {
    let mut header = ndmsg(AF_BRIDGE);
    header[4..8].copy_from_slice(&device.0.to_ne_bytes());
    // Of a bridge's entry, "no ARP" says static, and "permanent" that it is the bridge's own address.
    let (state, flag) = match to {
        Forwarding::Port => (NUD_NOARP, NTF_MASTER),
        _ => (NUD_NOARP | NUD_PERMANENT, NTF_SELF),
    };
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flag;
    let request = Request::new(what, kind, flags, &header).attr(NDA_LLADDR, &mac.0);
    match to {
        Forwarding::Port => request,
        Forwarding::Tunnel(remote) | Forwarding::AlsoTunnel(remote) => request.attr(NDA_DST, &octets(remote)),
    }
}

/// All neighbours (ARP and ND) of the socket's namespace that have been asked for.
pub fn neighbours(socket: &mut Socket) -> Result<Vec<Neighbour>> {
    socket.dump(&Request::new("list neighbours", RTM_GETNEIGH, 0, &ndmsg(0)), neighbour)
}

pub(crate) fn neighbour(payload: &[u8]) -> Option<Neighbour> {
    let (device, state) = header(payload)?;
    let attributes = Attributes::after(payload, NDMSG);
    let address = attributes.find(NDA_DST)?.ip()?;
    let mac = attributes.find(NDA_LLADDR).and_then(|attribute| attribute.mac());
    // Multicast and loopback entries, which nobody resolves.
    (state & NUD_NOARP == 0).then_some(Neighbour { address, mac, device, state })
}

/// The forwarding databases of all bridges and tunnels of the socket's namespace.
pub fn fdb(socket: &mut Socket) -> Result<Vec<FdbEntry>> {
    socket.dump(&Request::new("list forwarding database", RTM_GETNEIGH, 0, &ndmsg(AF_BRIDGE)), fdb_entry)
}

pub(crate) fn fdb_entry(payload: &[u8]) -> Option<FdbEntry> {
    let (device, state) = header(payload)?;
    let attributes = Attributes::after(payload, NDMSG);
    let mac = attributes.find(NDA_LLADDR)?.mac()?;
    let master = attributes.find(NDA_MASTER).and_then(|attribute| attribute.u32()).map(IfIndex);
    let remote = attributes.find(NDA_DST).and_then(|attribute| attribute.ip());
    Some(FdbEntry { mac, device, master, remote, state })
}

/// The tables of neighbours, as the whole machine has them: entries and limits are shared by all namespaces.
pub fn tables(socket: &mut Socket) -> Result<Vec<NeighbourTable>> {
    // For the table itself and for each interface of the namespace there is a message; only the first has limits.
    socket.dump(&Request::new("list neighbour tables", RTM_GETNEIGHTBL, 0, &[0; NDTMSG]), table)
}

pub(crate) fn table(payload: &[u8]) -> Option<NeighbourTable> {
    let attributes = Attributes::after(payload, NDTMSG);
    let number = |kind| attributes.find(kind)?.u32();
    // struct ndt_config: two lengths of 16 bits, then the number of entries. struct ndt_stats: 64 bits each, the last of 11 are overflows.
    let entries = attributes.find(NDTA_CONFIG)?.value.get(4..8)?;
    let overflows = attributes.find(NDTA_STATS).and_then(|stats| stats.value.get(80..88));
    Some(NeighbourTable {
        name: attributes.find(NDTA_NAME)?.string(),
        entries: u32::from_ne_bytes(entries.try_into().ok()?),
        gc_thresh1: number(NDTA_THRESH1)?,
        gc_thresh2: number(NDTA_THRESH2)?,
        gc_thresh3: number(NDTA_THRESH3)?,
        overflows: overflows.and_then(|o| o.try_into().ok()).map(u64::from_ne_bytes).unwrap_or_default(),
    })
}

fn header(payload: &[u8]) -> Option<(IfIndex, u16)> {
    let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let state = u16::from_ne_bytes(payload.get(8..10)?.try_into().ok()?);
    Some((IfIndex(index), state))
}
