//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use model::{Hop, IfIndex, RouteKind};

use crate::error::Result;
use crate::link::{family, octets};
use crate::message::{Attribute, Attributes, CREATE_EXCLUSIVE, CREATE_OR_REPLACE, Request};
use crate::socket::Socket;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTMSG: usize = 12;
const RTNEXTHOP: usize = 8;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_CACHEINFO: u16 = 12;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const RTPROT_KERNEL: u8 = 2;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_BLACKHOLE: u8 = 6;
const RTN_UNREACHABLE: u8 = 7;
const RTN_PROHIBIT: u8 = 8;
const RTN_THROW: u8 = 9;
const RT_TABLE_MAIN: u32 = 254;
const RT_SCOPE_LINK: u8 = 253;
const RTM_F_CLONED: u32 = 0x200;
const RTNH_F_ONLINK: u32 = 4;

/// A route to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRoute {
    /// Destination.
    pub destination: IpNet,
    /// Next hop; without one the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Outgoing interface.
    pub device: IfIndex,
    /// MTU of the path, in bytes.
    pub mtu_bytes: Option<u32>,
    /// Advertised TCP maximum segment size, in bytes.
    pub advmss_bytes: Option<u32>,
    /// Metric.
    pub priority: Option<u32>,
    /// Routing table; the main one unless given.
    pub table: Option<u32>,
    /// Scope; global with a gateway and link without, unless given.
    pub scope: Option<u8>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// The gateway is on the link even where no address of ours says so (`RTNH_F_ONLINK`).
    pub onlink: bool,
}

impl NewRoute {
    /// To a destination by an interface, and by a gateway if there is one; the rest as the kernel has it.
    pub fn new(destination: IpNet, gateway: Option<IpAddr>, device: IfIndex) -> Self {
        Self {
            destination,
            gateway,
            device,
            mtu_bytes: None,
            advmss_bytes: None,
            priority: None,
            table: None,
            scope: None,
            source: None,
            onlink: false,
        }
    }
}

/// Adds a route; fails with EEXIST if there is one to the same destination with the same metric.
pub fn add(route: &NewRoute) -> Request {
    request("add route", RTM_NEWROUTE, CREATE_EXCLUSIVE, route)
}

/// Adds a route, or replaces the one to the same destination with the same metric.
pub fn replace(route: &NewRoute) -> Request {
    request("replace route", RTM_NEWROUTE, CREATE_OR_REPLACE, route)
}

/// Removes a route.
pub fn delete(route: &NewRoute) -> Request {
    // RT_SCOPE_NOWHERE: of whatever scope it is.
    let any = NewRoute { scope: Some(route.scope.unwrap_or(255)), ..route.clone() };
    request("remove route", RTM_DELROUTE, 0, &any)
}

fn request(what: &'static str, kind: u16, flags: u16, route: &NewRoute) -> Request {
    let table = route.table.unwrap_or(RT_TABLE_MAIN);
    // IPv6 routes have no scope; the kernel ignores it.
    let scope = route.scope.unwrap_or(if route.gateway.is_some() { 0 } else { RT_SCOPE_LINK });
    let mut header = [0; RTMSG];
    header[0] = family(route.destination.addr());
    header[1] = route.destination.prefix_len();
    header[4] = u8::try_from(table).unwrap_or(0);
    // A deletion is about a route of whoever made it: the kernel's own as well.
    header[5] = if kind == RTM_NEWROUTE { RTPROT_BOOT } else { 0 };
    header[6] = scope;
    header[7] = RTN_UNICAST;
    header[8..].copy_from_slice(&(if route.onlink { RTNH_F_ONLINK } else { 0 }).to_ne_bytes());
    let mut request = Request::new(what, kind, flags, &header);
    if route.destination.prefix_len() > 0 {
        request = request.attr(RTA_DST, &octets(route.destination.network()));
    }
    if let Some(gateway) = route.gateway {
        request = request.attr(RTA_GATEWAY, &octets(gateway));
    }
    request = request.attr_u32(RTA_OIF, route.device.0).attr_u32(RTA_TABLE, table);
    if let Some(source) = route.source {
        request = request.attr(RTA_PREFSRC, &octets(source));
    }
    if let Some(priority) = route.priority {
        request = request.attr_u32(RTA_PRIORITY, priority);
    }
    let metrics = [(RTAX_MTU, route.mtu_bytes), (RTAX_ADVMSS, route.advmss_bytes)];
    if metrics.iter().any(|(_, value)| value.is_some()) {
        request = request.nest(RTA_METRICS, |r| {
            metrics.into_iter().fold(r, |r, (kind, value)| match value {
                Some(value) => r.attr_u32(kind, value),
                None => r,
            })
        });
    }
    request
}

/// All unicast routes of the socket's namespace, of every table but `local`.
pub fn list(socket: &mut Socket) -> Result<Vec<model::Route>> {
    let all = list_all(socket)?;
    Ok(all.into_iter().filter(|route| route.kind.is_unicast()).collect())
}

/// All routes of the socket's namespace that say where packets go, or do not go, of every table but `local`.
pub fn list_all(socket: &mut Socket) -> Result<Vec<model::Route>> {
    socket.dump(&Request::new("list routes", RTM_GETROUTE, 0, &[0; RTMSG]), parse)
}

/// A route as the kernel told it, to be made again: with metrics and whatever else [`model::Route`] leaves out.
#[derive(Debug, Clone)]
pub struct Saved {
    /// What it says.
    pub route: model::Route,
    payload: Vec<u8>,
}

/// The unicast routes of an interface that somebody made: all but those that come and go with its addresses.
pub fn made_for(socket: &mut Socket, device: IfIndex) -> Result<Vec<Saved>> {
    socket.dump(&Request::new("list routes", RTM_GETROUTE, 0, &[0; RTMSG]), |payload| {
        let route = parse(payload)?;
        let is_made = route.device == Some(device) && payload[5] != RTPROT_KERNEL;
        is_made.then(|| Saved { route, payload: payload.to_vec() })
    })
}

impl Saved {
    /// Makes it again, in a table.
    pub fn restore(&self, table: u32) -> Request {
        let mut header = [0; RTMSG];
        header.copy_from_slice(&self.payload[..RTMSG]);
        header[4] = u8::try_from(table).unwrap_or(0);
        let request = Request::new("restore route", RTM_NEWROUTE, CREATE_OR_REPLACE, &header);
        let others = Attributes::after(&self.payload, RTMSG)
            .filter(|attribute| ![RTA_TABLE, RTA_CACHEINFO].contains(&attribute.kind));
        others
            .fold(request, |request, other| request.attr(other.kind, other.value))
            .attr_u32(RTA_TABLE, table)
    }
}

/// The interface by which packets to an address leave.
pub fn device_to(socket: &mut Socket, destination: IpAddr) -> Result<Option<IfIndex>> {
    let mut header = [0; RTMSG];
    header[0] = family(destination);
    header[1] = if destination.is_ipv4() { 32 } else { 128 };
    let request = Request::new("look up route", RTM_GETROUTE, 0, &header).attr(RTA_DST, &octets(destination));
    socket.get(request, |payload| {
        Some(Attributes::after(payload, RTMSG).find(RTA_OIF).and_then(|oif| oif.u32()).map(IfIndex))
    })
}

/// Which way the kernel would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// What becomes of the packets.
    pub kind: WayKind,
    /// Next hop; without one the destination is on the link. Of IPv6 where an IPv4 route goes through such a neighbour.
    pub gateway: Option<IpAddr>,
    /// Outgoing interface.
    pub device: Option<IfIndex>,
    /// The source address that it would choose.
    pub source: Option<IpAddr>,
    /// MTU that the route has, or that was learnt of the path, in bytes.
    pub mtu_bytes: Option<u32>,
}

/// What becomes of packets (`RTN_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayKind {
    /// They go to somebody else.
    Unicast,
    /// The destination is this namespace itself.
    Local,
    /// They are dropped or refused here: a route of type blackhole, unreachable or prohibit. Of IPv6; an IPv4 lookup ends in an error.
    Refused,
    /// Broadcast, multicast, anycast.
    Other,
}

/// Asks which way packets to an address would take.
///
/// # Errors
/// Of IPv4 what a sender would get: ENETUNREACH without a route, EHOSTUNREACH, EACCES and EINVAL of an unreachable, prohibit and blackhole route.
pub fn toward(socket: &mut Socket, destination: IpAddr) -> Result<Way> {
    let mut header = [0; RTMSG];
    header[0] = family(destination);
    header[1] = if destination.is_ipv4() { 32 } else { 128 };
    let request = Request::new("look up route", RTM_GETROUTE, 0, &header).attr(RTA_DST, &octets(destination));
    socket.get(request, way).map_err(|error| error.on(format_args!("to {destination}")))
}

pub(crate) fn way(payload: &[u8]) -> Option<Way> {
    let header = payload.get(..RTMSG)?;
    let kind = match header[7] {
        RTN_UNICAST => WayKind::Unicast,
        RTN_LOCAL => WayKind::Local,
        RTN_BLACKHOLE..=RTN_PROHIBIT => WayKind::Refused,
        _ => WayKind::Other,
    };
    let mut way = Way { kind, gateway: None, device: None, source: None, mtu_bytes: None };
    for attribute in Attributes::after(payload, RTMSG) {
        match attribute.kind {
            RTA_GATEWAY => way.gateway = attribute.ip(),
            RTA_VIA => way.gateway = via(attribute),
            RTA_OIF => way.device = attribute.u32().map(IfIndex),
            RTA_PREFSRC => way.source = attribute.ip(),
            RTA_METRICS => way.mtu_bytes = attribute.nested().find(RTAX_MTU).and_then(|mtu| mtu.u32()),
            _ => {}
        }
    }
    Some(way)
}

pub(crate) fn parse(payload: &[u8]) -> Option<model::Route> {
    let header = payload.get(..RTMSG)?;
    let flags = u32::from_ne_bytes(header[8..12].try_into().ok()?);
    let kind = match header[7] {
        RTN_UNICAST => RouteKind::Unicast,
        RTN_BLACKHOLE => RouteKind::Blackhole,
        RTN_UNREACHABLE => RouteKind::Unreachable,
        RTN_PROHIBIT => RouteKind::Prohibit,
        RTN_THROW => RouteKind::Throw,
        _ => return None,
    };
    if flags & RTM_F_CLONED != 0 {
        return None;
    }
    let mut destination = match header[0] {
        2 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        10 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut route = model::Route {
        kind,
        table: u32::from(header[4]),
        scope: header[6],
        protocol: header[5],
        onlink: flags & RTNH_F_ONLINK != 0,
        ..model::Route::default()
    };
    for attribute in Attributes::after(payload, RTMSG) {
        match attribute.kind {
            RTA_DST => destination = attribute.ip()?,
            RTA_GATEWAY => route.gateway = attribute.ip(),
            RTA_VIA => route.gateway = via(attribute),
            RTA_OIF => route.device = attribute.u32().map(IfIndex),
            RTA_TABLE => route.table = attribute.u32()?,
            RTA_PRIORITY => route.priority = attribute.u32()?,
            RTA_PREFSRC => route.source = attribute.ip(),
            RTA_METRICS => route.mtu_bytes = attribute.nested().find(RTAX_MTU).and_then(|mtu| mtu.u32()),
            RTA_MULTIPATH => route.hops = hops(attribute.value),
            _ => {}
        }
    }
    route.destination = IpNet::new(destination, header[1]).ok()?;
    Some(route)
}

/// struct rtvia: a family, then the address.
fn via(attribute: Attribute<'_>) -> Option<IpAddr> {
    Attribute { kind: RTA_VIA, value: attribute.value.get(2..)? }.ip()
}

/// Several `struct rtnexthop`, each with its attributes; ends at the first that does not fit.
fn hops(mut bytes: &[u8]) -> Vec<Hop> {
    let mut hops = Vec::new();
    while let Some((header, _)) = bytes.split_at_checked(RTNEXTHOP) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let Some(whole) = bytes.get(..length).filter(|_| length >= RTNEXTHOP) else { break };
        let attributes = Attributes::after(whole, RTNEXTHOP);
        let gateway = attributes.find(RTA_GATEWAY).and_then(Attribute::ip);
        hops.push(Hop {
            gateway: gateway.or_else(|| attributes.find(RTA_VIA).and_then(via)),
            device: IfIndex(u32::from_ne_bytes([header[4], header[5], header[6], header[7]])),
            weight: u16::from(header[3]) + 1,
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}
