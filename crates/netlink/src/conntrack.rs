//! Connection tracking entries.

use std::net::IpAddr;

use model::attachment::{from_hexadecimal, hexadecimal};
use model::{FlowId, TranslatedFlow};

use crate::error::Result;
use crate::message::{Attributes, Request};
use crate::socket::Socket;

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const GET_STATISTICS: u16 = SUBSYSTEM | 4;
const NFGENMSG: usize = 4;
const CTA_STATS_INSERT_FAILED: u16 = 9;
const CTA_STATS_DROP: u16 = 10;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_STATUS_MASK: u16 = 26;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;
/// The destination of its first packet was translated (include/uapi/linux/netfilter/nf_conntrack_common.h).
const IPS_DST_NAT: u32 = 1 << 5;
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

/// What became of connections in the socket's namespace, of all processors together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Misses {
    /// Connections that got no entry because two packets of theirs raced.
    pub insert_failed: u64,
    /// Packets that were dropped because the table was full.
    pub dropped: u64,
}

/// Counts what went wrong since boot.
pub fn misses(socket: &mut Socket) -> Result<Misses> {
    let request = Request::new("count connections", GET_STATISTICS, 0, &[0, 0, 0, 0]);
    let all = socket.dump(&request, |payload| {
        let attributes = Attributes::after(payload, NFGENMSG);
        let number = |kind| attributes.find(kind).and_then(|a| a.be32()).map_or(0, u64::from);
        Some(Misses { insert_failed: number(CTA_STATS_INSERT_FAILED), dropped: number(CTA_STATS_DROP) })
    })?;
    Ok(all.into_iter().fold(Misses::default(), |sum, one| Misses {
        insert_failed: sum.insert_failed + one.insert_failed,
        dropped: sum.dropped + one.dropped,
    }))
}

/// Connections whose destination is translated, to an address that `is_meant` names.
pub fn translated(socket: &mut Socket, is_meant: impl Fn(IpAddr) -> bool) -> Result<Vec<TranslatedFlow>> {
    // Of both families in one list: for each, the kernel goes through the table of the whole machine. Kernels before 5.12 do not filter
    // by status, so each answer is looked at.
    let request = Request::new("list connections", GET, 0, &[0, 0, 0, 0])
        .attr_be32(CTA_STATUS, IPS_DST_NAT)
        .attr_be32(CTA_STATUS_MASK, IPS_DST_NAT);
    socket.dump(&request, |payload| parse_translated(payload).filter(|flow| is_meant(flow.address)))
}

pub(crate) fn parse_translated(payload: &[u8]) -> Option<TranslatedFlow> {
    let attributes = Attributes::after(payload, NFGENMSG);
    if attributes.find(CTA_STATUS)?.be32()? & IPS_DST_NAT == 0 {
        return None;
    }
    let answers = attributes.find(CTA_TUPLE_REPLY)?.nested().find(CTA_TUPLE_IP)?.nested();
    let address = answers.find(CTA_IP_V4_SRC).or_else(|| answers.find(CTA_IP_V6_SRC))?.ip()?;
    let tuple = hexadecimal(attributes.find(CTA_TUPLE_ORIG)?.value);
    Some(TranslatedFlow { address, id: FlowId { tuple, id: attributes.find(CTA_ID)?.be32()? } })
}

/// Forgets one connection; says whether it was there.
pub fn forget_one(socket: &mut Socket, v6: bool, flow: &FlowId) -> Result<bool> {
    let Some(tuple) = from_hexadecimal(&flow.tuple) else { return Ok(false) };
    let header = [if v6 { 10 } else { 2 }, 0, 0, 0];
    match socket.ack(forget(header, &(tuple, Some(flow.id.to_be_bytes().to_vec())))) {
        Ok(()) => Ok(true),
        Err(error) if error.is_gone() => Ok(false),
        Err(error) => Err(error),
    }
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
