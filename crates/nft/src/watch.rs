//! Which rule ends a packet: nftables' own tracing, switched on for packets of ours and no others.
//!
//! A table that belongs to a socket (`NFT_TABLE_F_OWNER`, Linux 5.13) goes away with it, also when its program is killed; nobody else
//! can change it meanwhile. Its chains come before all others, and accept.

use netlink::message::{APPEND, CREATE};
use netlink::nftrace::{Dropped, TraceMonitor};
use netlink::{Request, Result, Socket};

use crate::wire::attribute::*;
use crate::wire::{Kind, message, transact};

const TABLE: &str = "podplumb-trace";
const TABLE_FLAGS: u16 = 2;
const OWNER: u32 = 2;
const INET: u8 = 1;
const BRIDGE: u8 = 7;
/// Before connection tracking, and the raw tables of iptables (-300).
const FIRST: i32 = -450;
const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const REGISTER: u32 = 8;
const TRANSPORT: u32 = 2;
const META_L4PROTO: u32 = 16;
const META_NFTRACE: u32 = 12;
const UDP: u8 = 17;
/// What UDP, VXLAN and Ethernet take before the IP header of the packet that is in a tunnel's.
const TUNNEL: u32 = 8 + 8 + 14;

/// What packets of ours have.
#[derive(Debug, Clone, Copy)]
pub struct Marked<'a> {
    /// The transport protocol's number.
    pub protocol: u8,
    /// A number of four bytes.
    pub number: u32,
    /// Where it is, from the transport header on.
    pub offset: u32,
    /// UDP ports of VXLAN, in whose packets ours are looked for as well.
    pub vxlan_ports: &'a [u16],
}

/// Traces marked packets in one namespace for as long as it lives.
#[derive(Debug)]
pub struct Watch {
    monitor: TraceMonitor,
    /// The table's owner.
    _owner: Socket,
}

impl Watch {
    /// Begins, in the calling thread's namespace.
    ///
    /// # Errors
    /// Of kernels without nf_tables, or without tables that belong to a socket.
    pub fn open(marked: &Marked<'_>) -> Result<Self> {
        let monitor = TraceMonitor::open()?;
        let mut owner = Socket::netfilter()?;
        let answers = transact(&mut owner, table(INET, marked))?;
        answers.into_iter().flatten().next().map_or(Ok(()), Err)?;
        // Kernels without tables for bridges have no rules there.
        let _ = transact(&mut owner, table(BRIDGE, marked));
        Ok(Self { monitor, _owner: owner })
    }

    /// The rules and policies that have ended one of the packets since the last call.
    pub fn dropped(&mut self) -> Result<Vec<Dropped>> {
        self.monitor.dropped()
    }
}

fn table(family: u8, marked: &Marked<'_>) -> Vec<Request> {
    let mut messages = vec![
        message("create a table to trace with", Kind::NewTable, family, CREATE)
            .attr_str(TABLE_NAME, TABLE)
            .attr_be32(TABLE_FLAGS, OWNER),
    ];
    for (name, hook) in [("prerouting", PREROUTING), ("output", OUTPUT)] {
        messages.push(
            message("create a chain to trace with", Kind::NewChain, family, CREATE)
                .attr_str(CHAIN_TABLE, TABLE)
                .attr_str(CHAIN_NAME, name)
                .nest(CHAIN_HOOK, |r| {
                    r.attr_be32(HOOK_NUMBER, hook).attr_be32(HOOK_PRIORITY, FIRST.cast_unsigned())
                })
                .attr_str(CHAIN_TYPE, "filter"),
        );
        for matches in ways(marked) {
            messages.push(
                message("create a rule to trace with", Kind::NewRule, family, CREATE | APPEND)
                    .attr_str(RULE_TABLE, TABLE)
                    .attr_str(RULE_CHAIN, name)
                    .nest(RULE_EXPRESSIONS, |r| traced(matches.into_iter().fold(r, Compare::write))),
            );
        }
    }
    messages
}

/// Something that a packet has to have.
enum Compare {
    Protocol(u8),
    Transport { offset: u32, value: Vec<u8> },
}

/// How a packet of ours looks: as it is, or in a tunnel's of either family.
fn ways(marked: &Marked<'_>) -> Vec<Vec<Compare>> {
    let number = |offset| Compare::Transport { offset, value: marked.number.to_be_bytes().to_vec() };
    let mut ways = vec![vec![Compare::Protocol(marked.protocol), number(marked.offset)]];
    for port in marked.vxlan_ports {
        for header in [20, 40] {
            ways.push(vec![
                Compare::Protocol(UDP),
                Compare::Transport { offset: 2, value: port.to_be_bytes().to_vec() },
                number(TUNNEL + header + marked.offset),
            ]);
        }
    }
    ways
}

impl Compare {
    fn write(rule: Request, wanted: Compare) -> Request {
        match wanted {
            Compare::Protocol(number) => {
                let rule = expression(rule, "meta", |r| r.attr_be32(2, META_L4PROTO).attr_be32(1, REGISTER));
                equal(rule, &[number])
            }
            Compare::Transport { offset, value } => {
                let rule = expression(rule, "payload", |r| {
                    r.attr_be32(1, REGISTER)
                        .attr_be32(2, TRANSPORT)
                        .attr_be32(3, offset)
                        .attr_be32(4, value.len() as u32)
                });
                equal(rule, &value)
            }
        }
    }
}

/// `meta nftrace set 1`
fn traced(rule: Request) -> Request {
    let rule =
        expression(rule, "immediate", |r| r.attr_be32(1, REGISTER).nest(2, |r| r.attr(DATA_VALUE, &[1])));
    expression(rule, "meta", |r| r.attr_be32(2, META_NFTRACE).attr_be32(3, REGISTER))
}

fn equal(rule: Request, value: &[u8]) -> Request {
    expression(rule, "cmp", |r| {
        r.attr_be32(1, REGISTER).attr_be32(2, 0).nest(3, |r| r.attr(DATA_VALUE, value))
    })
}

fn expression(rule: Request, name: &str, data: impl FnOnce(Request) -> Request) -> Request {
    rule.nest(LIST_ELEM, |r| r.attr_str(EXPRESSION_NAME, name).nest(EXPRESSION_DATA, data))
}
