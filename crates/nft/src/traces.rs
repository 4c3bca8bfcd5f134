//! What the reference plugins made through iptables-nft for single containers: listed, removed as a whole, put back.
//!
//! Removal compares what is there with what was listed, in the generation of the ruleset in which the transaction then takes place: if
//! anybody changed a rule meanwhile, nothing is done.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::attachment::{from_hexadecimal, hexadecimal};
use model::{Flavour, PluginRule, PluginRules};
use netlink::message::{APPEND, CREATE, CREATE_EXCLUSIVE};
use netlink::{Attribute, Attributes, Request, Result, Socket};

use crate::element::comment_of;
use crate::wire::attribute::*;
use crate::wire::{self, Kind, message};

const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// What a match or target of x_tables is told about its rule, which the kernel does not list: the protocol, where its check asks for one.
const RULE_COMPAT: u16 = 5;
/// How often we look again because somebody changed the ruleset meanwhile.
const ATTEMPTS: usize = 20;

/// What became of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Done,
    /// There was nothing of it any more.
    Gone,
    /// It is not what was listed any more, and was left alone.
    Changed,
}

/// What became of putting something back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// It is there again.
    Done,
    /// It is there already.
    Same,
    /// Something else is there.
    Taken,
}

/// A rule as it was read.
pub(crate) struct Rule {
    pub(crate) chain: String,
    pub(crate) handle: Option<u64>,
    pub(crate) jumps_to: Option<String>,
    pub(crate) comment: String,
    /// Source or destination addresses that it compares with, whole ones.
    pub(crate) compared: Vec<IpAddr>,
    /// Where DNAT leads.
    pub(crate) target: Option<IpAddr>,
    pub(crate) content: String,
}

/// Everything that the reference plugins made for single containers.
pub fn list() -> Result<Vec<PluginRules>> {
    list_with(&mut Socket::netfilter()?)
}

fn list_with(socket: &mut Socket) -> Result<Vec<PluginRules>> {
    let mut all = Vec::new();
    for v6 in [false, true] {
        let own: BTreeSet<String> =
            chains(socket, v6, "nat")?.into_iter().filter(|chain| PluginRules::is_own_chain(chain)).collect();
        if !own.is_empty() {
            all.extend(of_containers(Flavour::Nft, v6, own, &rules(socket, v6, "nat", None)?));
        }
        if chains(socket, v6, "filter")?.iter().any(|chain| chain == PluginRules::FORWARD) {
            let rules = rules(socket, v6, "filter", Some(PluginRules::FORWARD))?;
            all.extend(of_addresses(Flavour::Nft, v6, &rules));
        }
    }
    Ok(all)
}

fn family(v6: bool) -> u8 {
    if v6 { IPV6 } else { IPV4 }
}

fn chains(socket: &mut Socket, v6: bool, table: &str) -> Result<Vec<String>> {
    let request = message("list nftables chains", Kind::GetChain, family(v6), 0).attr_str(CHAIN_TABLE, table);
    let list = socket.dump(&request, |payload| {
        let parts = Attributes::after(payload, 4);
        (parts.find(CHAIN_TABLE)?.string() == table).then(|| Some(parts.find(CHAIN_NAME)?.string()))?
    });
    or_none(list)
}

/// The rules of a table, or of one chain of it.
fn rules(socket: &mut Socket, v6: bool, table: &str, chain: Option<&str>) -> Result<Vec<Rule>> {
    let request = message("list nftables rules", Kind::GetRule, family(v6), 0).attr_str(RULE_TABLE, table);
    let request = match chain {
        Some(chain) => request.attr_str(RULE_CHAIN, chain),
        None => request,
    };
    let parse = |payload: &[u8]| {
        let rule = parse(payload, v6)?;
        let is_meant = Attributes::after(payload, 4).find(RULE_TABLE)?.string() == table;
        (is_meant && chain.is_none_or(|chain| rule.chain == chain)).then_some(rule)
    };
    or_none(socket.dump(&request, parse))
}

fn or_none<T>(list: Result<Vec<T>>) -> Result<Vec<T>> {
    match list {
        Err(error) if error.is_gone() => Ok(Vec::new()),
        list => list,
    }
}

/// Chains of one container, each with its rules and those that lead there.
pub(crate) fn of_containers(
    flavour: Flavour,
    v6: bool,
    own: BTreeSet<String>,
    rules: &[Rule],
) -> Vec<PluginRules> {
    let group = |chain: String| {
        let is_part = |rule: &&Rule| rule.chain == chain || rule.jumps_to.as_deref() == Some(&chain);
        let parts: Vec<&Rule> = rules.iter().filter(is_part).collect();
        let owner = parts.iter().find_map(|rule| PluginRules::owner_in(&rule.comment));
        let mut addresses: Vec<IpAddr> = Vec::new();
        for rule in &parts {
            // ipMasq is led to by the container's own address; portmap's chain compares with others, but leads to it.
            let led = (rule.chain != chain).then_some(&rule.compared).into_iter().flatten().copied();
            addresses.extend(led.chain(rule.target));
        }
        addresses.sort();
        addresses.dedup();
        let rules = parts.into_iter().map(plain).collect();
        let table = "nat".to_owned();
        PluginRules { flavour, v6, table, chain: Some(chain), owner, addresses, rules }
    };
    own.into_iter().map(group).collect()
}

/// The firewall plugin's rules, by address.
pub(crate) fn of_addresses(flavour: Flavour, v6: bool, rules: &[Rule]) -> Vec<PluginRules> {
    let mut groups: BTreeMap<IpAddr, Vec<PluginRule>> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| rule.jumps_to.is_none()) {
        // One that compares with two addresses is not the plugin's.
        if let [address] = rule.compared.as_slice() {
            groups.entry(*address).or_default().push(plain(rule));
        }
    }
    let group = |(address, rules)| PluginRules {
        flavour,
        v6,
        table: "filter".to_owned(),
        chain: None,
        owner: None,
        addresses: vec![address],
        rules,
    };
    groups.into_iter().map(group).collect()
}

fn plain(rule: &Rule) -> PluginRule {
    PluginRule { chain: rule.chain.clone(), handle: rule.handle, content: rule.content.clone() }
}

pub(crate) fn parse(payload: &[u8], v6: bool) -> Option<Rule> {
    let parts = Attributes::after(payload, 4);
    let expressions = parts.find(RULE_EXPRESSIONS)?;
    let userdata = parts.find(RULE_USERDATA);
    let mut rule = Rule {
        chain: parts.find(RULE_CHAIN)?.string(),
        handle: Some(u64::from_be_bytes(parts.find(RULE_HANDLE)?.value.try_into().ok()?)),
        jumps_to: None,
        comment: userdata.and_then(|data| comment_of(data.value)).unwrap_or_default(),
        compared: Vec::new(),
        target: None,
        content: String::new(),
    };
    let mut bytes = expressions.value.to_vec();
    let mut loaded: Option<(u32, u32)> = None;
    for expression in expressions.nested() {
        let name = expression.nested().find(EXPRESSION_NAME)?.string();
        let Some(data) = expression.nested().find(EXPRESSION_DATA) else { continue };
        let field = |kind| data.nested().find(kind);
        match name.as_str() {
            "payload" => loaded = payload_of(data),
            "cmp" => {
                const EQUAL: u32 = 0;
                let value = field(3).and_then(|value| value.nested().find(DATA_VALUE));
                let is_equal = field(2).and_then(Attribute::be32) == Some(EQUAL);
                if let (true, Some(value), Some(at)) = (is_equal, value, loaded) {
                    rule.compared.extend(value.ip().filter(|_| is_address(v6, at, value.value.len())));
                }
            }
            // Masked, it is not a whole address any more.
            "bitwise" => loaded = None,
            "counter" => blank(&mut bytes, expressions.value, data),
            "immediate" => {
                let verdict = field(2).and_then(|data| data.nested().find(DATA_VERDICT));
                rule.jumps_to = verdict.and_then(|verdict| verdict.nested().find(2)).map(Attribute::string);
            }
            "match" if field(1).is_some_and(|kind| kind.string() == "comment") => {
                rule.comment = field(3)?.string();
            }
            "target" if field(1).is_some_and(|kind| kind.string() == "DNAT") => {
                rule.target = translation(v6, field(2)?.be32()?, field(3)?.value);
            }
            _ => {}
        }
    }
    rule.content = hexadecimal(&bytes);
    if let Some(userdata) = userdata {
        rule.content.push(':');
        rule.content.push_str(&hexadecimal(userdata.value));
    }
    Some(rule)
}

/// Base and offset of what a payload expression loads.
fn payload_of(data: Attribute<'_>) -> Option<(u32, u32)> {
    Some((data.nested().find(2)?.be32()?, data.nested().find(3)?.be32()?))
}

fn is_address(v6: bool, (base, offset): (u32, u32), length: usize) -> bool {
    const NETWORK_HEADER: u32 = 1;
    let wanted = if v6 { ([8, 24], 16) } else { ([12, 16], 4) };
    base == NETWORK_HEADER && wanted.0.contains(&offset) && length == wanted.1
}

/// The first address of `struct nf_nat_range2` or, in revision 0 of IPv4, `nf_nat_ipv4_multi_range_compat`.
pub(crate) fn translation(v6: bool, revision: u32, info: &[u8]) -> Option<IpAddr> {
    let at = if revision == 0 && !v6 { 8 } else { 4 };
    address(info.get(at..at + if v6 { 16 } else { 4 })?)
}

/// An address from its octets.
pub(crate) fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// Sets a counter's values to zero in `copy`, which has the bytes of `whole`.
fn blank(copy: &mut [u8], whole: &[u8], counter: Attribute<'_>) {
    for value in counter.nested() {
        let start = (value.value.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
        if let Some(bytes) = copy.get_mut(start..start + value.value.len()) {
            bytes.fill(0);
        }
    }
}

/// The group that is there now in place of this one.
fn same_place<'a>(all: &'a [PluginRules], wanted: &PluginRules) -> Option<&'a PluginRules> {
    let is_same = |other: &&PluginRules| {
        let place = |group: &PluginRules| (group.v6, group.table.clone(), group.chain.clone());
        place(other) == place(wanted) && (wanted.chain.is_some() || other.addresses == wanted.addresses)
    };
    all.iter().find(is_same)
}

/// Removes what was listed, in one transaction, if it is exactly that still.
pub fn remove(wanted: &PluginRules) -> Result<Removed> {
    let mut socket = Socket::netfilter()?;
    let mut attempt = 1;
    loop {
        let generation = wire::generation(&mut socket)?;
        match same_place(&list_with(&mut socket)?, wanted) {
            None => return Ok(Removed::Gone),
            Some(found) if found != wanted => return Ok(Removed::Changed),
            Some(_) => {}
        }
        match wire::commit_at(&mut socket, generation, removal(wanted)) {
            Err(error) if wire::is_outdated(&error) && attempt < ATTEMPTS => attempt += 1,
            result => return result.map(|()| Removed::Done),
        }
    }
}

fn removal(group: &PluginRules) -> Vec<Request> {
    let about = |what, chain: &str| {
        message(what, Kind::DeleteRule, family(group.v6), 0)
            .attr_str(RULE_TABLE, &group.table)
            .attr_str(RULE_CHAIN, chain)
    };
    let own = group.chain.as_deref();
    let leading = group.rules.iter().filter(|rule| Some(rule.chain.as_str()) != own);
    let mut messages: Vec<Request> = leading
        .filter_map(|rule| {
            let handle = rule.handle?.to_be_bytes();
            Some(about("delete nftables rule", &rule.chain).attr(RULE_HANDLE, &handle))
        })
        .collect();
    if let Some(own) = own {
        messages.push(about("flush nftables chain", own));
        messages.push(
            message("delete nftables chain", Kind::DeleteChain, family(group.v6), 0)
                .attr_str(CHAIN_TABLE, &group.table)
                .attr_str(CHAIN_NAME, own),
        );
    }
    messages
}

/// Puts back what was removed: the same expressions, each at the end of its chain.
pub fn restore(group: &PluginRules) -> Result<Restored> {
    let mut socket = Socket::netfilter()?;
    let contents = |group: &PluginRules| -> Vec<(String, String)> {
        group.rules.iter().map(|rule| (rule.chain.clone(), rule.content.clone())).collect()
    };
    match same_place(&list_with(&mut socket)?, group) {
        Some(found) if contents(found) == contents(group) => return Ok(Restored::Same),
        Some(_) => return Ok(Restored::Taken),
        None => {}
    }
    let mut messages = Vec::new();
    if let Some(own) = &group.chain {
        let chain = message("create nftables chain", Kind::NewChain, family(group.v6), CREATE_EXCLUSIVE);
        messages.push(chain.attr_str(CHAIN_TABLE, &group.table).attr_str(CHAIN_NAME, own));
    }
    // First its own rules, then those that lead there: no packet comes to a chain that is not whole.
    let own = |rule: &&PluginRule| Some(&rule.chain) == group.chain.as_ref();
    let ordered = group.rules.iter().filter(own).chain(group.rules.iter().filter(|rule| !own(rule)));
    messages.extend(ordered.filter_map(|rule| addition(group, rule)));
    wire::commit(&mut socket, messages).map(|()| Restored::Done)
}

fn addition(group: &PluginRules, rule: &PluginRule) -> Option<Request> {
    let (expressions, userdata) = match rule.content.split_once(':') {
        Some((expressions, userdata)) => (expressions, Some(from_hexadecimal(userdata)?)),
        None => (rule.content.as_str(), None),
    };
    let expressions = from_hexadecimal(expressions)?;
    let mut request = message("create nftables rule", Kind::NewRule, family(group.v6), CREATE | APPEND)
        .attr_str(RULE_TABLE, &group.table)
        .attr_str(RULE_CHAIN, &rule.chain)
        .nest(RULE_EXPRESSIONS, |r| r.raw(&expressions));
    if let Some(protocol) = protocol(&expressions) {
        request = request.nest(RULE_COMPAT, |r| r.attr_be32(1, u32::from(protocol)).attr_be32(2, 0));
    }
    Some(match userdata {
        Some(userdata) => request.attr(RULE_USERDATA, &userdata),
        None => request,
    })
}

/// The protocol that a rule's expressions compare with, which multiport and DNAT ask for when they are made.
fn protocol(expressions: &[u8]) -> Option<u8> {
    const L4PROTO: u32 = 16;
    let mut is_protocol = false;
    for expression in Attributes(expressions) {
        let name = expression.nested().find(EXPRESSION_NAME)?.string();
        let Some(data) = expression.nested().find(EXPRESSION_DATA) else { continue };
        match name.as_str() {
            "meta" => is_protocol = data.nested().find(2).and_then(Attribute::be32) == Some(L4PROTO),
            "cmp" if is_protocol => {
                return data.nested().find(3)?.nested().find(DATA_VALUE)?.u8();
            }
            _ => {}
        }
    }
    None
}
