//! Routing policy rules.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{PolicyAction, PolicyRule};

use crate::error::Result;
use crate::link::{family, octets};
use crate::message::{Attributes, CREATE_EXCLUSIVE, Request};
use crate::socket::Socket;

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const FIB_RULE_HDR: usize = 12;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_GOTO: u16 = 4;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_FLOW: u16 = 11;
const FRA_TUN_ID: u16 = 12;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_L3MDEV: u16 = 19;
const FRA_UID_RANGE: u16 = 20;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const FRA_DPORT_RANGE: u16 = 24;
const FRA_DSCP: u16 = 25;
const FRA_FLOWLABEL: u16 = 26;
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_GOTO: u8 = 2;
const FR_ACT_BLACKHOLE: u8 = 6;
const FR_ACT_PROHIBIT: u8 = 8;
const FIB_RULE_INVERT: u32 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

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

/// All rules of the socket's namespace, in the order in which they are asked; IPv4's first.
pub fn list(socket: &mut Socket) -> Result<Vec<PolicyRule>> {
    let request = Request::new("list routing rules", RTM_GETRULE, 0, &[0; FIB_RULE_HDR]);
    socket.dump(&request, parse)
}

pub(crate) fn parse(payload: &[u8]) -> Option<PolicyRule> {
    let header = payload.get(..FIB_RULE_HDR)?;
    let v6 = match header[0] {
        AF_INET => false,
        AF_INET6 => true,
        _ => return None,
    };
    let flags = u32::from_ne_bytes(header[8..12].try_into().ok()?);
    let mut rule = PolicyRule { v6, inverted: flags & FIB_RULE_INVERT != 0, ..PolicyRule::default() };
    let (mut table, mut goto, mut suppressed) = (u32::from(header[4]), None, None);
    let (mut mark, mut mask, mut vrf) = (None, u32::MAX, false);
    if header[3] != 0 {
        rule.others.push("tos".into());
    }
    for attribute in Attributes::after(payload, FIB_RULE_HDR) {
        let net = |length| attribute.ip().and_then(|address| IpNet::new(address, length).ok());
        match attribute.kind {
            FRA_SRC => rule.source = net(header[2]),
            FRA_DST => rule.destination = net(header[1]),
            FRA_IIFNAME => rule.input = Some(attribute.string()),
            FRA_OIFNAME => rule.output = Some(attribute.string()),
            FRA_PRIORITY => rule.priority = attribute.u32()?,
            FRA_FWMARK => mark = attribute.u32(),
            FRA_FWMASK => mask = attribute.u32()?,
            FRA_TABLE => table = attribute.u32()?,
            FRA_GOTO => goto = attribute.u32(),
            // -1: it is not used.
            FRA_SUPPRESS_PREFIXLEN => suppressed = attribute.u32().filter(|length| *length != u32::MAX),
            FRA_SUPPRESS_IFGROUP if attribute.u32() != Some(u32::MAX) => {
                rule.others.push("suppress_ifgroup".into())
            }
            FRA_L3MDEV => vrf = attribute.u8() == Some(1),
            _ => rule.others.extend(selector(attribute.kind).map(str::to_owned)),
        }
    }
    rule.mark = mark.map(|mark| (mark, mask));
    rule.action = match (header[7], suppressed) {
        (FR_ACT_TO_TBL, _) if vrf => PolicyAction::Vrf,
        (FR_ACT_TO_TBL, Some(length)) => PolicyAction::TableSuppressed { table, length },
        (FR_ACT_TO_TBL, None) => PolicyAction::Table(table),
        (FR_ACT_GOTO, _) => PolicyAction::Goto(goto?),
        (FR_ACT_BLACKHOLE..=FR_ACT_PROHIBIT, _) => PolicyAction::Refuse,
        _ => PolicyAction::Nothing,
    };
    Some(rule)
}

/// What a selector is called that is not looked at more closely.
fn selector(kind: u16) -> Option<&'static str> {
    Some(match kind {
        FRA_FLOW => "realms",
        FRA_TUN_ID => "tun_id",
        FRA_UID_RANGE => "uidrange",
        FRA_IP_PROTO => "ipproto",
        FRA_SPORT_RANGE => "sport",
        FRA_DPORT_RANGE => "dport",
        FRA_DSCP => "dscp",
        FRA_FLOWLABEL => "flowlabel",
        _ => return None,
    })
}
