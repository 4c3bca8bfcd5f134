//! Which way the kernel would take.

use std::net::IpAddr;

use netlink::{Socket, link};
use rustix::io::Errno;
use serde::Serialize;
use sys::NetNs;

pub use netlink::route::WayKind;

use crate::failure::Failure;

/// Which way packets to an address would take from a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Way {
    /// Next hop; without one the destination is on the link, or here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Name of the outgoing interface. It is the namespace's: whoever prints it has to see to control characters.
    pub device: String,
    /// MTU of that interface, in bytes.
    pub mtu_bytes: u32,
    /// The source address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Whether the destination is the namespace itself.
    pub local: bool,
}

/// Asks the kernel. Nothing is sent.
pub fn route(from: &NetNs, to: IpAddr) -> Result<Way, Failure> {
    let opened = from.run(Socket::route).map_err(Failure::setup("enter the namespace"))?;
    let setup =
        |error: netlink::Error| Failure::Setup { what: "ask for a route", errno: error.raw_os_error() };
    let mut socket = opened.map_err(setup)?;
    let way = netlink::route::toward(&mut socket, to)
        .map_err(|error| Failure::Own { errno: error.raw_os_error() })?;
    let (WayKind::Unicast | WayKind::Local | WayKind::Other, Some(device)) = (way.kind, way.device) else {
        return Err(Failure::Own { errno: Errno::NETUNREACH.raw_os_error() });
    };
    let device = link::by_index(&mut socket, device, None).map_err(setup)?;
    Ok(Way {
        gateway: way.gateway,
        device: device.name,
        mtu_bytes: device.mtu_bytes,
        source: way.source,
        local: way.kind == WayKind::Local,
    })
}
