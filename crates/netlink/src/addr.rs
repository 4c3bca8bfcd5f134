//! Addresses of interfaces.

use ipnet::IpNet;
use model::{IfIndex, Nsid};

use crate::error::Result;
use crate::link::{family, octets};
use crate::message::{Attributes, CREATE_EXCLUSIVE, Request};
use crate::socket::Socket;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const IFADDRMSG: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_TARGET_NETNSID: u16 = 10;
const IFA_FLAGS: u16 = 8;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
const IFA_F_NODAD: u8 = 0x02;

fn ifaddrmsg(family: u8, prefix: u8, flags: u8, index: u32) -> [u8; IFADDRMSG] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family, prefix, flags, 0, a, b, c, d]
}

/// All addresses of the socket's namespace, or of the one that it numbers `target`, with their interface.
pub fn list(socket: &mut Socket, target: Option<Nsid>) -> Result<Vec<(IfIndex, IpNet)>> {
    let mut request = Request::new("list addresses", RTM_GETADDR, 0, &ifaddrmsg(0, 0, 0, 0));
    if let Some(Nsid(nsid)) = target {
        request = request.attr(IFA_TARGET_NETNSID, &nsid.to_ne_bytes());
    }
    socket.dump(&request, parse)
}

/// How an address is added.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// Without, an IPv6 address is usable at once instead of after the second or two of duplicate address detection (RFC 4862).
    pub detect_duplicates: bool,
    /// The kernel makes no route to the address's subnet (`IFA_F_NOPREFIXROUTE`).
    pub no_route: bool,
}

/// Adds an address; fails with EEXIST if the interface has it.
pub fn add(index: IfIndex, address: IpNet, how: Flags) -> Request {
    let flags = if how.detect_duplicates || address.addr().is_ipv4() { 0 } else { IFA_F_NODAD };
    let header = ifaddrmsg(family(address.addr()), address.prefix_len(), flags, index.0);
    let bytes = octets(address.addr());
    let request = Request::new("add address", RTM_NEWADDR, CREATE_EXCLUSIVE, &header)
        .attr(IFA_LOCAL, &bytes)
        .attr(IFA_ADDRESS, &bytes);
    // The attribute replaces the header's byte, which is too short for this flag.
    let request = match how.no_route {
        true => request.attr_u32(IFA_FLAGS, u32::from(flags) | IFA_F_NOPREFIXROUTE),
        false => request,
    };
    match address {
        // As `ip addr add … brd +` does; a /31 or /32 has none.
        IpNet::V4(v4) if v4.prefix_len() < 31 => request.attr(IFA_BROADCAST, &v4.broadcast().octets()),
        _ => request,
    }
}

/// Removes an address.
pub fn delete(index: IfIndex, address: IpNet) -> Request {
    let header = ifaddrmsg(family(address.addr()), address.prefix_len(), 0, index.0);
    Request::new("remove address", RTM_DELADDR, 0, &header).attr(IFA_LOCAL, &octets(address.addr()))
}

pub(crate) fn parse(payload: &[u8]) -> Option<(IfIndex, IpNet)> {
    let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let attributes = Attributes::after(payload, IFADDRMSG);
    // IFA_LOCAL is the interface's own address; IFA_ADDRESS is the peer's on point-to-point links, and all that IPv6 has.
    let own = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS))?;
    Some((IfIndex(index), IpNet::new(own.ip()?, payload[1]).ok()?))
}
