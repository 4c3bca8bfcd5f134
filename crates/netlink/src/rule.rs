//! Routing policy rules.

use std::net::IpAddr;

use crate::error::Result;
use crate::link::{family, octets};
use crate::message::{Attributes, CREATE_EXCLUSIVE, Request};
use crate::socket::Socket;

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const FIB_RULE_HDR: usize = 12;
const FRA_SRC: u16 = 2;
const FRA_TABLE: u16 = 15;
const FR_ACT_TO_TBL: u8 = 1;

/// A rule that leads packets from an address to a routing table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FromRule {
    /// The source address; `None` when the rule looks at something else.
    pub source: Option<IpAddr>,
    /// The routing table.
    pub table: u32,
}

fn header(source: IpAddr, table: u32) -> [u8; FIB_RULE_HDR] {
    let mut header = [0; FIB_RULE_HDR];
    header[0] = family(source);
    header[2] = if source.is_ipv4() { 32 } else { 128 };
    header[4] = u8::try_from(table).unwrap_or(0);
    header[7] = FR_ACT_TO_TBL;
    header
}

/// Adds the rule; fails with EEXIST if there is such a one.
pub fn add(source: IpAddr, table: u32) -> Request {
    Request::new("add routing rule", RTM_NEWRULE, CREATE_EXCLUSIVE, &header(source, table))
        .attr(FRA_SRC, &octets(source))
        .attr_u32(FRA_TABLE, table)
}

/// Removes the rule.
pub fn delete(source: IpAddr, table: u32) -> Request {
    Request::new("remove routing rule", RTM_DELRULE, 0, &header(source, table))
        .attr(FRA_SRC, &octets(source))
        .attr_u32(FRA_TABLE, table)
}

/// All rules of the socket's namespace, of both families.
pub fn list(socket: &mut Socket) -> Result<Vec<FromRule>> {
    let request = Request::new("list routing rules", RTM_GETRULE, 0, &[0; FIB_RULE_HDR]);
    socket.dump(&request, parse)
}

pub(crate) fn parse(payload: &[u8]) -> Option<FromRule> {
    let attributes = Attributes::after(payload, FIB_RULE_HDR);
    let table = attributes.find(FRA_TABLE).and_then(|table| table.u32());
    let whole = matches!(payload.get(2), Some(32 | 128));
    let source = attributes.find(FRA_SRC).filter(|_| whole).and_then(|source| source.ip());
    Some(FromRule { source, table: table.unwrap_or(u32::from(*payload.get(4)?)) })
}
