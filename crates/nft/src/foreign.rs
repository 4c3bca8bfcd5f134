//! Rules of others that concern our pods: what the reference plugins made for an attachment that ours delete, and iptables' chain
//! FORWARD where its policy is to drop (Docker sets it).
//!
//! iptables-nft keeps its tables in nf_tables (`ip filter`, `ip nat`, and the same of `ip6`), so netlink reaches them. Nothing is
//! written there but rules that iptables itself can read and print: of another kind, one would make it refuse the whole table.

use std::net::IpAddr;

use crate::element::{comment_of, userdata};
use crate::octets;
use crate::ruleset::ADMITTED;
use crate::wire::attribute::*;
use crate::wire::{self, Kind, message};
use model::reference::chain_name;
use netlink::message::{APPEND, CREATE};
use netlink::{Attribute, Attributes, Request, Result, Socket};

const IPV4: u8 = 2;
const IPV6: u8 = 10;
const NAT: &str = "nat";
const FILTER: &str = "filter";

fn family(v6: bool) -> u8 {
    if v6 { IPV6 } else { IPV4 }
}

/// A rule of a chain: its handle, and what it does.
pub(crate) struct Rule {
    handle: u64,
    pub(crate) comment: String,
    /// The chain that it jumps to.
    jumps_to: Option<String>,
    /// The values that it compares something with.
    values: Vec<Vec<u8>>,
}

fn about(what: &'static str, kind: Kind, v6: bool, table: &str, chain: &str) -> Request {
    message(what, kind, family(v6), 0).attr_str(RULE_TABLE, table).attr_str(RULE_CHAIN, chain)
}

/// The rules of a chain; none when it does not exist.
fn rules(socket: &mut Socket, v6: bool, table: &str, chain: &str) -> Result<Vec<Rule>> {
    let request = about("list nftables rules", Kind::GetRule, v6, table, chain);
    match socket.dump(&request, |payload| parse(payload, chain)) {
        Err(error) if error.is_gone() => Ok(Vec::new()),
        list => list,
    }
}

/// A rule of the chain.
pub(crate) fn parse(payload: &[u8], chain: &str) -> Option<Rule> {
    let parts = Attributes::after(payload, 4);
    // Older kernels list the whole table.
    if parts.find(RULE_CHAIN)?.string() != chain {
        return None;
    }
    let expressions: Vec<Attribute<'_>> = parts.find(RULE_EXPRESSIONS)?.nested().collect();
    let named = |name: &str| {
        let is = |e: &&Attribute<'_>| e.nested().find(EXPRESSION_NAME).is_some_and(|n| n.string() == name);
        let all = expressions.iter().filter(is);
        all.filter_map(|e| Some(e.nested().find(EXPRESSION_DATA)?.nested())).collect::<Vec<_>>()
    };
    let jump = |data: &Attributes<'_>| {
        let verdict = data.find(2)?.nested().find(DATA_VERDICT)?.nested();
        Some(verdict.find(2)?.string())
    };
    let compared = |data: &Attributes<'_>| Some(data.find(3)?.nested().find(DATA_VALUE)?.value.to_vec());
    Some(Rule {
        handle: u64::from_be_bytes(parts.find(RULE_HANDLE)?.value.try_into().ok()?),
        comment: parts.find(RULE_USERDATA).and_then(|data| comment_of(data.value)).unwrap_or_default(),
        jumps_to: named("immediate").iter().find_map(jump),
        values: named("cmp").iter().filter_map(compared).collect(),
    })
}

fn delete_rule(v6: bool, table: &str, chain: &str, rule: &Rule) -> Request {
    about("delete nftables rule", Kind::DeleteRule, v6, table, chain)
        .attr(RULE_HANDLE, &rule.handle.to_be_bytes())
}

/// The policy of a base chain: whether it accepts. `None` when there is no such chain.
fn accepts(socket: &mut Socket, v6: bool, table: &str, chain: &str) -> Result<Option<bool>> {
    const NF_ACCEPT: u32 = 1;
    let request = message("look up nftables chain", Kind::GetChain, family(v6), 0)
        .attr_str(CHAIN_TABLE, table)
        .attr_str(CHAIN_NAME, chain);
    let parse = |payload: &[u8]| {
        let policy = Attributes::after(payload, 4).find(CHAIN_POLICY).and_then(Attribute::be32);
        Some(policy.is_none_or(|policy| policy == NF_ACCEPT))
    };
    match socket.get(request, parse) {
        Ok(accepts) => Ok(Some(accepts)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes what the reference plugins made for an attachment: the chains of ipMasq and portmap with the rules that lead there, and
/// firewall's rules for its addresses. Says whether there was something.
pub fn remove_reference(network: &str, container: &str, addresses: &[IpAddr]) -> Result<bool> {
    let mut socket = Socket::netfilter()?;
    let mut messages = Vec::new();
    for v6 in [false, true] {
        for (prefix, callers) in [("", &["POSTROUTING"][..]), ("DN-", &["CNI-HOSTPORT-DNAT"])] {
            let chain = chain_name(prefix, network, container);
            if accepts(&mut socket, v6, NAT, &chain)?.is_none() {
                continue;
            }
            for caller in callers {
                let leading = rules(&mut socket, v6, NAT, caller)?;
                let leading = leading.iter().filter(|rule| rule.jumps_to.as_deref() == Some(&chain));
                messages.extend(leading.map(|rule| delete_rule(v6, NAT, caller, rule)));
            }
            messages.push(about("flush nftables chain", Kind::DeleteRule, v6, NAT, &chain));
            messages.push(
                message("delete nftables chain", Kind::DeleteChain, family(v6), 0)
                    .attr_str(CHAIN_TABLE, NAT)
                    .attr_str(CHAIN_NAME, &chain),
            );
        }
        let own: Vec<Vec<u8>> =
            addresses.iter().filter(|ip| ip.is_ipv6() == v6).map(|ip| octets(*ip)).collect();
        const FORWARD: &str = "CNI-FORWARD";
        if !own.is_empty() && accepts(&mut socket, v6, FILTER, FORWARD)?.is_some() {
            let all = rules(&mut socket, v6, FILTER, FORWARD)?;
            let meant = all.iter().filter(|rule| rule.values.iter().any(|value| own.contains(value)));
            messages.extend(meant.map(|rule| delete_rule(v6, FILTER, FORWARD, rule)));
        }
    }
    if messages.is_empty() {
        return Ok(false);
    }
    match wire::commit(&mut socket, messages) {
        // A DEL of the reference plugins was faster.
        Err(error) if error.is_gone() => Ok(false),
        result => result.map(|()| true),
    }
}

/// The chain through which iptables leads what is forwarded.
const FORWARD: &str = "FORWARD";
/// The comment of the rule that lets admitted packets pass.
const ADMISSION: &str = "podplumb: pods that the firewall plugin admitted";

/// Where iptables is in use, has its chain FORWARD ask the administrator's chain first, and, if it drops by policy, accept what our own chain
/// has marked as an admitted pod's: one rule each, made once, which `iptables -S FORWARD` shows.
pub fn admit_forwarded(admin: &str) -> Result<()> {
    let mut socket = Socket::netfilter()?;
    let mut messages = Vec::new();
    for v6 in [false, true] {
        let Some(accepts_all) = accepts(&mut socket, v6, FILTER, FORWARD)? else { continue };
        let there = rules(&mut socket, v6, FILTER, FORWARD)?;
        let asks = there.iter().find(|rule| rule.jumps_to.as_deref() == Some(admin));
        let admits = there.iter().any(|rule| rule.comment == ADMISSION);
        if !accepts_all && !admits {
            messages.push(admission(v6, asks.map(|rule| rule.handle)));
        }
        if asks.is_none() {
            if accepts(&mut socket, v6, FILTER, admin)?.is_none() {
                messages.push(
                    message("create nftables chain", Kind::NewChain, family(v6), CREATE)
                        .attr_str(CHAIN_TABLE, FILTER)
                        .attr_str(CHAIN_NAME, admin),
                );
            }
            // In front of everything.
            messages.push(forward_rule(v6, CREATE).nest(RULE_EXPRESSIONS, |r| {
                let r = expression(r, "counter", |r| r.attr(1, &[0; 8]).attr(2, &[0; 8]));
                expression(r, "immediate", |r| {
                    const NFT_JUMP: i32 = -3;
                    let jump = |r: Request| r.attr_be32(1, NFT_JUMP.cast_unsigned()).attr_str(2, admin);
                    r.attr_be32(1, 0).nest(2, |r| r.nest(DATA_VERDICT, jump))
                })
            }));
        }
    }
    if messages.is_empty() { Ok(()) } else { wire::commit(&mut socket, messages) }
}

/// Whether iptables' chain FORWARD, where it drops by policy, has the rule that lets packets of admitted pods pass.
pub fn is_admitting(v6: bool) -> Result<bool> {
    let mut socket = Socket::netfilter()?;
    if accepts(&mut socket, v6, FILTER, FORWARD)? != Some(false) {
        return Ok(true);
    }
    Ok(rules(&mut socket, v6, FILTER, FORWARD)?.iter().any(|rule| rule.comment == ADMISSION))
}

fn forward_rule(v6: bool, flags: u16) -> Request {
    message("create nftables rule", Kind::NewRule, family(v6), flags)
        .attr_str(RULE_TABLE, FILTER)
        .attr_str(RULE_CHAIN, FORWARD)
}

fn expression(rule: Request, name: &str, fill: impl FnOnce(Request) -> Request) -> Request {
    rule.nest(LIST_ELEM, |r| r.attr_str(EXPRESSION_NAME, name).nest(EXPRESSION_DATA, fill))
}

/// `-m mark --mark BIT/BIT -j ACCEPT`, after the rule with this handle or in front of all.
fn admission(v6: bool, after: Option<u64>) -> Request {
    const NF_ACCEPT: u32 = 1;
    // struct xt_mark_mtinfo1: mark, mask, whether it is inverted; padded to 8 bytes, as x_tables aligns it.
    let bit = ADMITTED.to_ne_bytes();
    let info = [&bit[..], &bit[..], &[0; 8]].concat();
    let rule = match after {
        Some(handle) => forward_rule(v6, CREATE | APPEND).attr(RULE_POSITION, &handle.to_be_bytes()),
        None => forward_rule(v6, CREATE),
    };
    rule.nest(RULE_EXPRESSIONS, |r| {
        let r = expression(r, "match", |r| r.attr_str(1, "mark").attr_be32(2, 1).attr(3, &info));
        let r = expression(r, "counter", |r| r.attr(1, &[0; 8]).attr(2, &[0; 8]));
        expression(r, "immediate", |r| {
            r.attr_be32(1, 0).nest(2, |r| r.nest(DATA_VERDICT, |r| r.attr_be32(1, NF_ACCEPT)))
        })
    })
    .attr(RULE_USERDATA, &userdata(ADMISSION))
}
