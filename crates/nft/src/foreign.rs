//! Rules of others that concern our pods: what the reference plugins made for an attachment that ours delete, and iptables' chain
//! FORWARD where its policy is to drop (Docker sets it).
//!
//! iptables-nft keeps its tables in nf_tables (`ip filter`, `ip nat`, and the same of `ip6`), so netlink reaches them. Nothing is
//! written there but rules that iptables itself can read and print: of another kind, one would make it refuse the whole table.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink::message::CREATE;
use netlink::{Attribute, Attributes, Request, Result, Socket};
use sha2::{Digest, Sha512};

use crate::element::{comment_of, userdata};
use crate::octets;
use crate::wire::attribute::*;
use crate::wire::{self, Kind, message};

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

/// How the reference plugins name what belongs to one attachment: a prefix and a hash (plugins/pkg/utils,
/// `MustFormatHashWithPrefix`).
pub fn hashed_name(prefix: &str, network: &str, container: &str, length: usize) -> String {
    let hash = Sha512::new().chain_update(network).chain_update(container).finalize();
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut name = format!("{prefix}{hash}");
    name.truncate(length);
    name
}

/// Chains have at most 28 characters (plugins/pkg/utils, `MustFormatChainNameWithPrefix`).
fn chain_name(network: &str, container: &str, prefix: &str) -> String {
    hashed_name(&format!("CNI-{prefix}"), network, container, 28)
}

/// Removes what the reference plugins made for an attachment: the chains of ipMasq and portmap with the rules that lead there, and
/// firewall's rules for its addresses. Says whether there was something.
pub fn remove_reference(network: &str, container: &str, addresses: &[IpAddr]) -> Result<bool> {
    let mut socket = Socket::netfilter()?;
    let mut messages = Vec::new();
    for v6 in [false, true] {
        for (prefix, callers) in [("", &["POSTROUTING"][..]), ("DN-", &["CNI-HOSTPORT-DNAT"])] {
            let chain = chain_name(network, container, prefix);
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

fn mark(subnet: IpNet) -> String {
    format!("podplumb: pods of {subnet}")
}

/// Where iptables' FORWARD drops by policy, has it accept what comes from and goes to pods of these subnets: two rules a subnet, made once, which
/// `iptables -S FORWARD` shows. A chain called `admin` of an administrator's is asked first, where there is one.
pub fn accept_forwarded(subnets: &[IpNet], admin: &str) -> Result<()> {
    let mut socket = Socket::netfilter()?;
    let mut messages = Vec::new();
    for v6 in [false, true] {
        let own: Vec<IpNet> =
            subnets.iter().map(IpNet::trunc).filter(|net| net.addr().is_ipv6() == v6).collect();
        if own.is_empty() || accepts(&mut socket, v6, FILTER, FORWARD)? != Some(false) {
            continue;
        }
        let there = rules(&mut socket, v6, FILTER, FORWARD)?;
        let news = messages.len();
        let mut asked = Vec::new();
        for net in own.into_iter().filter(|net| there.iter().all(|rule| rule.comment != mark(*net))) {
            messages.extend([rule_for(net, true, Then::Accept), rule_for(net, false, Then::Accept)]);
            asked.push(net);
        }
        // In front of them, since each is put in front of what is there.
        if messages.len() > news && accepts(&mut socket, v6, FILTER, admin)?.is_some() {
            messages.extend(asked.iter().flat_map(|net| {
                [rule_for(*net, true, Then::Jump(admin)), rule_for(*net, false, Then::Jump(admin))]
            }));
        }
    }
    if messages.is_empty() { Ok(()) } else { wire::commit(&mut socket, messages) }
}

/// The subnets for which there are rules of [`accept_forwarded`].
pub fn accepted_subnets() -> Result<Vec<IpNet>> {
    let mut socket = Socket::netfilter()?;
    let mut all = Vec::new();
    for v6 in [false, true] {
        let rules = rules(&mut socket, v6, FILTER, FORWARD)?;
        let nets = rules
            .iter()
            .filter_map(|rule| rule.comment.strip_prefix("podplumb: pods of ")?.parse::<IpNet>().ok());
        all.extend(nets);
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// Removes the rules of [`accept_forwarded`] for these subnets.
pub fn refuse_forwarded(subnets: &[IpNet]) -> Result<()> {
    let mut socket = Socket::netfilter()?;
    let mut messages = Vec::new();
    for v6 in [false, true] {
        let all = rules(&mut socket, v6, FILTER, FORWARD)?;
        let meant = all.iter().filter(|rule| subnets.iter().any(|net| rule.comment == mark(*net)));
        messages.extend(meant.map(|rule| delete_rule(v6, FILTER, FORWARD, rule)));
    }
    if messages.is_empty() { Ok(()) } else { wire::commit(&mut socket, messages) }
}

/// What a rule of ours does in iptables' chain.
#[derive(Clone, Copy)]
enum Then<'a> {
    Accept,
    Jump(&'a str),
}

/// `-s SUBNET -j …` or `-d SUBNET -j …`, in front of the others, in the expressions that iptables-nft writes itself.
fn rule_for(subnet: IpNet, is_source: bool, then: Then<'_>) -> Request {
    const REG_1: u32 = 1;
    const NETWORK: u32 = 1;
    const NF_ACCEPT: u32 = 1;
    const NFT_JUMP: i32 = -3;
    let v6 = subnet.addr().is_ipv6();
    let offset = match (v6, is_source) {
        (false, true) => 12,
        (false, false) => 16,
        (true, true) => 8,
        (true, false) => 24,
    };
    let (net, bits) = (octets(subnet.network()), usize::from(subnet.prefix_len()));
    // Of a prefix of whole bytes iptables compares just these; of another, the masked address.
    let length = if bits.is_multiple_of(8) { bits / 8 } else { net.len() };
    let expression = |r: Request, name: &str, fill: &dyn Fn(Request) -> Request| {
        r.nest(LIST_ELEM, |r| r.attr_str(EXPRESSION_NAME, name).nest(EXPRESSION_DATA, fill))
    };
    message("create nftables rule", Kind::NewRule, family(v6), CREATE)
        .attr_str(RULE_TABLE, FILTER)
        .attr_str(RULE_CHAIN, FORWARD)
        .nest(RULE_EXPRESSIONS, |mut r| {
            if length > 0 {
                r = expression(r, "payload", &|r| {
                    r.attr_be32(1, REG_1)
                        .attr_be32(2, NETWORK)
                        .attr_be32(3, offset)
                        .attr_be32(4, length as u32)
                });
                if !bits.is_multiple_of(8) {
                    let mask = octets(subnet.netmask());
                    let zero = vec![0; mask.len()];
                    r = expression(r, "bitwise", &|r| {
                        r.attr_be32(1, REG_1)
                            .attr_be32(2, REG_1)
                            .attr_be32(3, mask.len() as u32)
                            .nest(4, |r| r.attr(DATA_VALUE, &mask))
                            .nest(5, |r| r.attr(DATA_VALUE, &zero))
                    });
                }
                r = expression(r, "cmp", &|r| {
                    r.attr_be32(1, REG_1).attr_be32(2, 0).nest(3, |r| r.attr(DATA_VALUE, &net[..length]))
                });
            }
            let r = expression(r, "counter", &|r| r.attr(1, &[0; 8]).attr(2, &[0; 8]));
            expression(r, "immediate", &|r| {
                r.attr_be32(1, 0).nest(2, |r| {
                    r.nest(DATA_VERDICT, |r| match then {
                        Then::Accept => r.attr_be32(1, NF_ACCEPT),
                        Then::Jump(chain) => r.attr_be32(1, NFT_JUMP.cast_unsigned()).attr_str(2, chain),
                    })
                })
            })
        })
        .attr(RULE_USERDATA, &userdata(&mark(subnet)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_named_as_the_reference_plugins_name_theirs() {
        // `printf net1c1 | sha512sum`
        assert_eq!(chain_name("net1", "c1", ""), "CNI-c2d892b58e87e28a12fe6479");
        assert_eq!(chain_name("net1", "c1", "DN-"), "CNI-DN-c2d892b58e87e28a12fe6");
    }
}
