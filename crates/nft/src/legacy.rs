//! What the reference plugins made through iptables-legacy for single containers. It is read only: x_tables has no way to remove a rule
//! but to replace a whole table, everybody's rules and counters with it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use model::{Flavour, PluginRules};
use sys::LegacyTable;

use crate::traces::{self, Rule};

/// Where things are in `struct ipt_entry` and `struct ip6t_entry` (include/uapi/linux/netfilter_ipv{4/ip,6/ip6}_tables.h).
pub(crate) struct Layout {
    address: usize,
    pub(crate) target: usize,
    pub(crate) next: usize,
    comefrom: usize,
    pub(crate) counters: usize,
    pub(crate) matches: usize,
}

pub(crate) const V4: Layout =
    Layout { address: 4, target: 88, next: 90, comefrom: 92, counters: 96, matches: 112 };
pub(crate) const V6: Layout =
    Layout { address: 16, target: 140, next: 142, comefrom: 144, counters: 152, matches: 168 };
/// `struct xt_entry_match` and `xt_entry_target`: size, name, revision; then data.
pub(crate) const NAME: std::ops::Range<usize> = 2..31;
pub(crate) const REVISION: usize = 31;
pub(crate) const DATA: usize = 32;

/// Everything that the reference plugins made for single containers.
pub fn list() -> io::Result<Vec<PluginRules>> {
    let mut all = Vec::new();
    for v6 in [false, true] {
        if let Some(table) = sys::legacy_table(v6, "nat")? {
            let rules = rules(v6, &table);
            let named = rules.iter().filter_map(|rule| rule.jumps_to.clone());
            let named = named.chain(rules.iter().map(|rule| rule.chain.clone()));
            let own: BTreeSet<String> = named.filter(|chain| PluginRules::is_own_chain(chain)).collect();
            all.extend(traces::of_containers(Flavour::Legacy, v6, own, &rules));
        }
        if let Some(table) = sys::legacy_table(v6, "filter")? {
            let mut rules = rules(v6, &table);
            rules.retain(|rule| rule.chain == PluginRules::FORWARD);
            all.extend(traces::of_addresses(Flavour::Legacy, v6, &rules));
        }
    }
    Ok(all)
}

pub(crate) fn number(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// The rules of a table, with the names of the chains that they are in and jump to.
fn rules(v6: bool, table: &LegacyTable) -> Vec<Rule> {
    let layout = if v6 { &V6 } else { &V4 };
    // A chain of a user's begins with an entry whose target is ERROR and says its name; a jump leads to the entry after that.
    let mut chains: BTreeMap<usize, String> = BTreeMap::new();
    let mut entries: Vec<(usize, &[u8])> = Vec::new();
    let mut at = 0;
    while let Some(length) = table.entries.get(at..).and_then(|rest| number(rest, layout.next)) {
        let Some(entry) = table.entries.get(at..at + length).filter(|_| length > layout.matches) else {
            break;
        };
        match target(layout, entry) {
            Some((name, target)) if name == "ERROR" => {
                chains.insert(at + length, text(target.get(DATA..DATA + 30).unwrap_or_default()));
            }
            _ => entries.push((at, entry)),
        }
        at += length;
    }
    let chain_of = |at: usize| {
        let user = chains.range(..=at).next_back();
        let built_in = (0..5).filter(|hook| table.valid_hooks & 1 << hook != 0);
        let built_in =
            built_in.map(|hook| (table.hook_entry[hook] as usize, hook)).filter(|(start, _)| *start <= at);
        match (user, built_in.max()) {
            (Some((user_start, name)), Some((start, _))) if *user_start > start => name.clone(),
            (Some((_, name)), None) => name.clone(),
            (_, Some((_, hook))) => {
                ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"][hook].to_owned()
            }
            (None, None) => String::new(),
        }
    };
    let rule = |(at, entry): (usize, &[u8])| parse(v6, layout, entry, chain_of(at), &chains);
    entries.into_iter().filter_map(rule).collect()
}

/// The name of an entry's target, and the target.
pub(crate) fn target<'a>(layout: &Layout, entry: &'a [u8]) -> Option<(String, &'a [u8])> {
    let target = entry.get(number(entry, layout.target)?..)?;
    Some((text(target.get(NAME)?), target))
}

fn parse(
    v6: bool,
    layout: &Layout,
    entry: &[u8],
    chain: String,
    chains: &BTreeMap<usize, String>,
) -> Option<Rule> {
    let (name, target) = target(layout, entry)?;
    let mut bytes = entry.to_vec();
    bytes.get_mut(layout.comefrom..layout.comefrom + 4)?.fill(0);
    bytes.get_mut(layout.counters..layout.counters + 16)?.fill(0);
    let mut jumps_to = None;
    if name.is_empty() {
        let verdict = i32::from_ne_bytes(target.get(DATA..DATA + 4)?.try_into().ok()?);
        if let Ok(place) = usize::try_from(verdict) {
            jumps_to = chains.get(&place).cloned();
            // The place changes whenever somebody changes the table.
            let at = number(entry, layout.target)? + DATA;
            bytes.get_mut(at..at + 4)?.fill(0);
        }
    }
    let mut comment = String::new();
    let mut at = layout.matches;
    while at < number(entry, layout.target)? {
        let found = entry.get(at..)?;
        if text(found.get(NAME)?) == "comment" {
            comment = text(found.get(DATA..number(found, 0)?)?);
        }
        at += number(found, 0)?.max(DATA);
    }
    // Source, destination, and their masks: of interest is a whole address.
    let field = |n: usize| entry.get(n * layout.address..(n + 1) * layout.address);
    let whole = |value: usize, mask: usize| {
        field(mask)?.iter().all(|byte| *byte == 0xff).then_some(traces::address(field(value)?))?
    };
    let compared = [whole(0, 2), whole(1, 3)].into_iter().flatten().collect::<Vec<IpAddr>>();
    let revision = u32::from(*target.get(REVISION)?);
    let translation = (name == "DNAT").then(|| traces::translation(v6, revision, target.get(DATA..)?));
    Some(Rule {
        chain,
        handle: None,
        jumps_to,
        comment,
        compared,
        target: translation.flatten(),
        content: model::attachment::hexadecimal(&bytes),
    })
}
