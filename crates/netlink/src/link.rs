//! Interfaces: list, create, change, delete.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use model::{Bridge, BridgePort, IfIndex, IfName, Link, MacAddr, MacvlanMode, Nsid, Peer};

use crate::error::Result;
use crate::message::{Attributes, CREATE_EXCLUSIVE, Request};
use crate::socket::Socket;

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;
pub(crate) const RTM_SETLINK: u16 = 19;
pub(crate) const IFINFOMSG: usize = 16;

pub(crate) const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_PROMISC: u32 = 0x100;
const IFF_ALLMULTI: u32 = 0x200;
const IFF_LOWER_UP: u32 = 0x1_0000;

const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
pub(crate) const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
/// `IF_OPER_DOWN` and `IF_OPER_LOWERLAYERDOWN` of linux/if.h.
const OPERATIONALLY_DOWN: [u8; 2] = [2, 3];
pub(crate) const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_STATS64: u16 = 23;
const IFLA_GROUP: u16 = 27;
pub(crate) const IFLA_NET_NS_FD: u16 = 28;
pub(crate) const IFLA_EXT_MASK: u16 = 29;
/// Adding counters up costs the kernel more than all the rest of the answer.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_TARGET_NETNSID: u16 = 46;
pub(crate) const MACVLAN_MODE: u16 = 1;
pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BR_NF_CALL_IPTABLES: u16 = 36;
const IFLA_BR_NF_CALL_IP6TABLES: u16 = 37;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
pub(crate) const AF_BRIDGE: u8 = 7;

pub(crate) fn ifinfomsg(family: u8, index: u32, flags: u32, change: u32) -> [u8; IFINFOMSG] {
    let mut header = [0; IFINFOMSG];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// All interfaces of the socket's namespace, or of the one that it numbers `target`.
///
/// A namespace can be listed by nsid without anybody entering it or holding it by name (Linux 4.20).
pub fn list(socket: &mut Socket, target: Option<Nsid>) -> Result<Vec<Link>> {
    let mut request = Request::new("list links", RTM_GETLINK, 0, &ifinfomsg(0, 0, 0, 0));
    if let Some(Nsid(nsid)) = target {
        request = request.attr(IFLA_TARGET_NETNSID, &nsid.to_ne_bytes());
    }
    // No VF data and no AF-specific sysctl blocks: half of the bytes of a dump.
    socket.dump(&request.attr_u32(IFLA_EXT_MASK, 0), parse)
}

/// The interface with this name, without its counters.
pub fn by_name(socket: &mut Socket, name: &str) -> Result<Link> {
    let request = Request::new("look up link", RTM_GETLINK, 0, &ifinfomsg(0, 0, 0, 0))
        .attr_str(IFLA_IFNAME, name)
        .attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    socket.get(request, parse).map_err(|error| error.on(name))
}

/// The interface with this index, in the socket's namespace or in the one that it numbers `target`, without its counters.
pub fn by_index(socket: &mut Socket, index: IfIndex, target: Option<Nsid>) -> Result<Link> {
    let mut request = Request::new("look up link", RTM_GETLINK, 0, &ifinfomsg(0, index.0, 0, 0))
        .attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    if let Some(Nsid(nsid)) = target {
        request = request.attr(IFLA_TARGET_NETNSID, &nsid.to_ne_bytes());
    }
    socket.get(request, parse).map_err(|error| error.on(format_args!("with index {index}")))
}

/// A veth pair: the host end, up and in its bridge, and the peer in its namespace, in one message.
#[derive(Debug)]
pub struct Veth<'a> {
    /// Name of the end that stays.
    pub name: &'a IfName,
    /// Its MAC; the kernel picks one if none is given.
    pub mac: Option<MacAddr>,
    /// Its bridge.
    pub master: Option<IfIndex>,
    /// MTU of both ends, in bytes.
    pub mtu_bytes: Option<u32>,
    /// Name of the other end.
    pub peer_name: &'a IfName,
    /// The other end's MAC.
    pub peer_mac: Option<MacAddr>,
    /// Where the other end goes; `None`: the same namespace.
    pub peer_netns: Option<BorrowedFd<'a>>,
    /// Indices of the end that stays and of the other; the kernel picks them unless given.
    pub indices: Option<(IfIndex, IfIndex)>,
}

/// Creates a veth pair; fails with EEXIST if either name is taken.
///
/// The peer cannot be made up in the same message (ENOTCONN, Linux 6.18): it is set up from inside.
pub fn create_veth(veth: &Veth<'_>) -> Request {
    let (index, peer_index) = veth.indices.map_or((0, 0), |(own, peer)| (own.0, peer.0));
    let mut request =
        Request::new("create veth", RTM_NEWLINK, CREATE_EXCLUSIVE, &ifinfomsg(0, index, IFF_UP, IFF_UP))
            .attr_str(IFLA_IFNAME, veth.name.as_str());
    request = ends(request, veth.mac, veth.mtu_bytes);
    if let Some(IfIndex(master)) = veth.master {
        request = request.attr_u32(IFLA_MASTER, master);
    }
    request.nest(IFLA_LINKINFO, |r| {
        r.attr_str(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |r| {
            r.nest(VETH_INFO_PEER, |r| {
                let r = r.raw(&ifinfomsg(0, peer_index, 0, 0)).attr_str(IFLA_IFNAME, veth.peer_name.as_str());
                let r = ends(r, veth.peer_mac, veth.mtu_bytes);
                match veth.peer_netns {
                    Some(fd) => r.attr_u32(IFLA_NET_NS_FD, fd.as_raw_fd().cast_unsigned()),
                    None => r,
                }
            })
        })
    })
}

pub(crate) fn ends(mut request: Request, mac: Option<MacAddr>, mtu_bytes: Option<u32>) -> Request {
    if let Some(mac) = mac {
        request = request.attr(IFLA_ADDRESS, &mac.0);
    }
    if let Some(mtu) = mtu_bytes {
        request = request.attr_u32(IFLA_MTU, mtu);
    }
    request
}

/// Changes to an interface; what is `None` stays as it is.
#[derive(Debug, Default, Clone)]
pub struct Change<'a> {
    /// Administrative state.
    pub up: Option<bool>,
    /// Promiscuous mode.
    pub promisc: Option<bool>,
    /// Owner stamp (`ifalias`, at most 255 bytes).
    pub alias: Option<&'a str>,
    /// MTU in bytes.
    pub mtu_bytes: Option<u32>,
    /// Ethernet address.
    pub mac: Option<MacAddr>,
    /// Bridge to join.
    pub master: Option<IfIndex>,
    /// Device group.
    pub group: Option<u32>,
    /// Receives every multicast frame.
    pub all_multicast: Option<bool>,
    /// Length of the transmit queue, in packets.
    pub tx_queue: Option<u32>,
    /// New name. Only while the interface is down (before Linux 6.2).
    pub name: Option<&'a IfName>,
    /// Leaves its bridge or VRF.
    pub no_master: bool,
    /// Moves to this namespace.
    pub netns: Option<BorrowedFd<'a>>,
}

/// Changes the interface with this index.
pub fn change(index: IfIndex, change: &Change<'_>) -> Request {
    set(Request::new("change link", RTM_SETLINK, 0, &header(index.0, change)), change)
}

/// Changes the interface with this name: for one that the same batch creates, whose index is not known yet.
pub fn change_by_name(name: &IfName, change: &Change<'_>) -> Request {
    let request = Request::new("change link", RTM_SETLINK, 0, &header(0, change));
    set(request.attr_str(IFLA_IFNAME, name.as_str()), change)
}

fn header(index: u32, change: &Change<'_>) -> [u8; IFINFOMSG] {
    let (mut flags, mut mask) = (0, 0);
    let flags_wanted =
        [(IFF_UP, change.up), (IFF_PROMISC, change.promisc), (IFF_ALLMULTI, change.all_multicast)];
    for (bit, wanted) in flags_wanted {
        if let Some(on) = wanted {
            mask |= bit;
            flags |= if on { bit } else { 0 };
        }
    }
    ifinfomsg(0, index, flags, mask)
}

fn set(mut request: Request, change: &Change<'_>) -> Request {
    if let Some(alias) = change.alias {
        request = request.attr(IFLA_IFALIAS, alias.as_bytes());
    }
    if let Some(IfIndex(master)) = change.master {
        request = request.attr_u32(IFLA_MASTER, master);
    }
    if change.no_master {
        request = request.attr_u32(IFLA_MASTER, 0);
    }
    if let Some(group) = change.group {
        request = request.attr_u32(IFLA_GROUP, group);
    }
    if let Some(length) = change.tx_queue {
        request = request.attr_u32(IFLA_TXQLEN, length);
    }
    if let Some(name) = change.name {
        request = request.attr_str(IFLA_IFNAME, name.as_str());
    }
    if let Some(fd) = change.netns {
        request = request.attr_u32(IFLA_NET_NS_FD, fd.as_raw_fd().cast_unsigned());
    }
    ends(request, change.mac, change.mtu_bytes)
}

/// Changes the settings of a bridge port; what is `None` stays as it is.
pub fn change_port(index: IfIndex, hairpin: Option<bool>, isolated: Option<bool>) -> Request {
    Request::new("change bridge port", RTM_SETLINK, 0, &ifinfomsg(AF_BRIDGE, index.0, 0, 0)).nest(
        IFLA_PROTINFO,
        |mut r| {
            if let Some(on) = hairpin {
                r = r.attr(IFLA_BRPORT_MODE, &[u8::from(on)]);
            }
            if let Some(on) = isolated {
                r = r.attr(IFLA_BRPORT_ISOLATED, &[u8::from(on)]);
            }
            r
        },
    )
}

/// Moves an interface to the namespace that the socket's own numbers `nsid`.
pub fn move_to_number(index: IfIndex, nsid: Nsid) -> Request {
    Request::new("move interface", RTM_SETLINK, 0, &ifinfomsg(0, index.0, 0, 0))
        .attr(IFLA_TARGET_NETNSID, &nsid.0.to_ne_bytes())
}

/// Deletes the interface with this index; of a veth, both ends go. Returns after RCU grace periods (about 18 ms), long
/// after the interface is gone from every view.
pub fn delete(index: IfIndex) -> Request {
    Request::new("delete link", RTM_DELLINK, 0, &ifinfomsg(0, index.0, 0, 0))
}

/// Deletes all interfaces of a device group: the grace periods are waited for once, not once a link.
pub fn delete_group(group: u32) -> Request {
    Request::new("delete link group", RTM_DELLINK, 0, &ifinfomsg(0, 0, 0, 0)).attr_u32(IFLA_GROUP, group)
}

/// The address family of an IP address, as netlink numbers it.
pub(crate) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

/// The bytes of an IP address in network order.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(crate) fn parse(payload: &[u8]) -> Option<Link> {
    let word = |at: usize| Some(u32::from_ne_bytes(payload.get(at..at + 4)?.try_into().ok()?));
    let flags = word(8)?;
    let mut link = Link {
        index: IfIndex(word(4)?),
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        promiscuous: flags & IFF_PROMISC != 0,
        all_multicast: flags & IFF_ALLMULTI != 0,
        ..Link::default()
    };
    let (mut lower, mut lower_nsid) = (None, None);
    for attribute in Attributes::after(payload, IFINFOMSG) {
        match attribute.kind {
            IFLA_ADDRESS => link.mac = attribute.mac(),
            IFLA_IFNAME => link.name = attribute.string(),
            IFLA_MTU => link.mtu_bytes = attribute.u32()?,
            IFLA_LINK => lower = attribute.u32().map(IfIndex),
            IFLA_LINK_NETNSID => lower_nsid = attribute.i32().map(Nsid),
            IFLA_MASTER => link.master = attribute.u32().map(IfIndex),
            IFLA_IFALIAS => link.alias = Some(attribute.string()),
            IFLA_TXQLEN => link.tx_queue = attribute.u32()?,
            IFLA_OPERSTATE => link.settling = link.carrier && OPERATIONALLY_DOWN.contains(&attribute.u8()?),
            IFLA_GROUP => link.group = attribute.u32()?,
            IFLA_XDP => link.xdp = xdp(attribute.nested()),
            IFLA_STATS64 => {
                let counter =
                    |at: usize| Some(u64::from_ne_bytes(attribute.value.get(at..at + 8)?.try_into().ok()?));
                link.rx_packets = counter(0)?;
                link.tx_packets = counter(8)?;
                link.rx_bytes = counter(16)?;
                link.tx_bytes = counter(24)?;
                link.rx_dropped = counter(48)?;
                link.tx_dropped = counter(56)?;
            }
            IFLA_LINKINFO => {
                let info = attribute.nested();
                link.kind = info.find(IFLA_INFO_KIND).map(|kind| kind.string()).unwrap_or_default();
                if link.kind == "vrf" {
                    const IFLA_VRF_TABLE: u16 = 1;
                    let data = info.find(IFLA_INFO_DATA).map(|data| data.nested());
                    link.vrf_table = data.and_then(|data| data.find(IFLA_VRF_TABLE)?.u32());
                }
                if link.kind == "bridge" {
                    link.bridge = info.find(IFLA_INFO_DATA).map(|data| bridge(data.nested()));
                }
                if link.kind == "vxlan" {
                    link.vxlan = info.find(IFLA_INFO_DATA).and_then(|data| vxlan(data.nested()));
                }
                if link.kind == "macvlan" {
                    let data = info.find(IFLA_INFO_DATA).map(|data| data.nested());
                    link.macvlan = data.and_then(|data| macvlan(data.find(MACVLAN_MODE)?.u32()?));
                }
                if info.find(IFLA_INFO_SLAVE_KIND).is_some_and(|kind| kind.string() == "bridge") {
                    link.port = info.find(IFLA_INFO_SLAVE_DATA).and_then(|data| port(data.nested()));
                }
            }
            _ => {}
        }
    }
    // IFLA_LINK of a vlan or macvlan is its lower device, of a veth its peer.
    let lower = lower.map(|index| Peer { index, nsid: lower_nsid });
    if link.kind == "veth" {
        link.peer = lower;
    } else {
        link.lower = lower.filter(|lower| lower.index != link.index || lower.nsid.is_some());
    }
    Some(link)
}

fn xdp(data: Attributes<'_>) -> Option<u32> {
    const ATTACHED: u16 = 2;
    const PROGRAM: u16 = 4;
    const NONE: u8 = 0;
    data.find(ATTACHED)?.u8().filter(|mode| *mode != NONE)?;
    // Where the driver has one and the kernel another, none of them is told alone.
    Some(data.find(PROGRAM).and_then(|program| program.u32()).unwrap_or(0))
}

fn vxlan(data: Attributes<'_>) -> Option<model::Vxlan> {
    use crate::device::vxlan::{
        EXTERNAL, GBP, GPE, GROUP, GROUP6, ID, LEARNING, LINK, LOCAL, LOCAL6, PORT, REMOTE_CHECKSUM,
        VNI_FILTER, ZERO_CHECKSUM6,
    };
    let is_on = |kind| data.find(kind).and_then(|attribute| attribute.u8()).is_some_and(|value| value != 0);
    let address = |v4, v6| data.find(v4).or_else(|| data.find(v6)).and_then(|attribute| attribute.ip());
    Some(model::Vxlan {
        id: data.find(ID)?.u32()?,
        port: u16::from_be_bytes(data.find(PORT)?.value.try_into().ok()?),
        local: address(LOCAL, LOCAL6),
        lower: data.find(LINK).and_then(|lower| lower.u32()).filter(|lower| *lower != 0).map(IfIndex),
        group: address(GROUP, GROUP6),
        learning: data.find(LEARNING).and_then(|learning| learning.u8()) == Some(1),
        modes: model::VxlanModes {
            external: is_on(EXTERNAL),
            vni_filter: is_on(VNI_FILTER),
            // That they are there says it.
            gbp: data.find(GBP).is_some(),
            gpe: data.find(GPE).is_some(),
            zero_checksum6: is_on(ZERO_CHECKSUM6),
            remote_checksum: is_on(REMOTE_CHECKSUM),
        },
        tx_checksum: None,
    })
}

fn macvlan(mode: u32) -> Option<MacvlanMode> {
    // `MACVLAN_MODE_*` are bits.
    Some(match mode {
        1 => MacvlanMode::Private,
        2 => MacvlanMode::Vepa,
        4 => MacvlanMode::Bridge,
        8 => MacvlanMode::Passthru,
        16 => MacvlanMode::Source,
        _ => return None,
    })
}

fn bridge(data: Attributes<'_>) -> Bridge {
    let is_on = |kind| data.find(kind).and_then(|attribute| attribute.u8()).is_some_and(|value| value != 0);
    Bridge {
        stp: is_on(IFLA_BR_STP_STATE),
        vlan_filtering: is_on(IFLA_BR_VLAN_FILTERING),
        call_iptables: is_on(IFLA_BR_NF_CALL_IPTABLES),
        call_ip6tables: is_on(IFLA_BR_NF_CALL_IP6TABLES),
    }
}

fn port(data: Attributes<'_>) -> Option<BridgePort> {
    let byte = |kind| data.find(kind).and_then(|attribute| attribute.u8());
    Some(BridgePort {
        state: byte(IFLA_BRPORT_STATE)?,
        hairpin: byte(IFLA_BRPORT_MODE) == Some(1),
        isolated: byte(IFLA_BRPORT_ISOLATED) == Some(1),
    })
}
