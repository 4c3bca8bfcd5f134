//! Connection tracking entries.

use crate::error::Result;
use crate::message::{Attributes, Request};
use crate::socket::Socket;

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const NFGENMSG: usize = 4;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_ID: u16 = 12;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
/// Look at the protocol's number, and at the destination port (net/netfilter/nf_conntrack_netlink.c).
const FILTER_PROTOCOL: u32 = 1 << 3;
const FILTER_PORT: u32 = 1 << 5;
const UDP: u8 = 17;

/// Forgets UDP flows that were sent to one of these ports; says how many. Otherwise they would go on to wherever the first packet
/// went, for as long as packets come.
pub fn forget_udp(socket: &mut Socket, v6: bool, ports: &[u16]) -> Result<usize> {
    let header = [if v6 { 10 } else { 2 }, 0, 0, 0];
    // The kernel looks at every bucket of its table for each list, so there is one list, however many ports; of one port only if there
    // is one. Kernels before 5.8 do not filter, so each answer is looked at.
    let (flags, port) = match ports {
        [] => return Ok(0),
        [port] => (FILTER_PROTOCOL | FILTER_PORT, *port),
        _ => (FILTER_PROTOCOL, 0),
    };
    let request = Request::new("list connections", GET, 0, &header)
        .nest(CTA_TUPLE_ORIG, |r| {
            r.nest(CTA_TUPLE_PROTO, |r| {
                r.attr(CTA_PROTO_NUM, &[UDP]).attr(CTA_PROTO_DST_PORT, &port.to_be_bytes())
            })
        })
        .nest(CTA_FILTER, |r| {
            r.attr_u32(CTA_FILTER_ORIG_FLAGS, flags).attr_u32(CTA_FILTER_ORIG_FLAGS + 1, 0)
        });
    let mut forgotten = 0;
    for flow in socket.dump(&request, |payload| parse(payload, ports))? {
        match socket.ack(forget(header, &flow)) {
            Err(error) if !error.is_gone() => return Err(error),
            _ => forgotten += 1,
        }
    }
    Ok(forgotten)
}

/// A flow: its original tuple, and its id where the kernel says it.
pub(crate) type Flow = (Vec<u8>, Option<Vec<u8>>);

/// A UDP flow that was sent to one of the ports.
pub(crate) fn parse(payload: &[u8], ports: &[u16]) -> Option<Flow> {
    let attributes = Attributes::after(payload, NFGENMSG);
    let tuple = attributes.find(CTA_TUPLE_ORIG)?;
    let proto = tuple.nested().find(CTA_TUPLE_PROTO)?.nested();
    let port = u16::from_be_bytes(proto.find(CTA_PROTO_DST_PORT)?.value.try_into().ok()?);
    let is_meant = proto.find(CTA_PROTO_NUM)?.u8() == Some(UDP) && ports.contains(&port);
    is_meant.then(|| (tuple.value.to_vec(), attributes.find(CTA_ID).map(|id| id.value.to_vec())))
}

pub(crate) fn forget(header: [u8; NFGENMSG], (tuple, id): &Flow) -> Request {
    let request =
        Request::new("forget connection", DELETE, 0, &header).nest(CTA_TUPLE_ORIG, |r| r.raw(tuple));
    match id {
        Some(id) => request.attr(CTA_ID, id),
        None => request,
    }
}
