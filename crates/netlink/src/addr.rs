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

/// Adds an address; fails with EEXIST if the interface has it.
///
/// With `detect_duplicates` off, an IPv6 address is usable at once instead of after the second or two of duplicate
/// address detection (RFC 4862).
pub fn add(index: IfIndex, address: IpNet, detect_duplicates: bool) -> Request {
    let flags = if detect_duplicates || address.addr().is_ipv4() { 0 } else { IFA_F_NODAD };
    let header = ifaddrmsg(family(address.addr()), address.prefix_len(), flags, index.0);
    let bytes = octets(address.addr());
    let request = Request::new("add address", RTM_NEWADDR, CREATE_EXCLUSIVE, &header)
        .attr(IFA_LOCAL, &bytes)
        .attr(IFA_ADDRESS, &bytes);
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

fn parse(payload: &[u8]) -> Option<(IfIndex, IpNet)> {
    let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let attributes = Attributes::after(payload, IFADDRMSG);
    // IFA_LOCAL is the interface's own address; IFA_ADDRESS is the peer's on point-to-point links, and all that IPv6 has.
    let own = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS))?;
    Some((IfIndex(index), IpNet::new(own.ip()?, payload[1]).ok()?))
}
