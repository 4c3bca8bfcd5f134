//! iptables-legacy's tables, as the kernel hands them out.

use std::collections::BTreeMap;

use ipnet::IpNet;
use model::filter::{
    Action, Base, Chain, ChainKind, Counter, Family, Field, Hook, Maker, Match, Policy, Rule, Table, Value,
};
use sys::LegacyTable;

use super::decompile::{Part, assemble};
use super::types::text;
use super::words::{self, Style};
use super::xt;
use crate::legacy::{DATA, Layout, NAME, REVISION, V4, V6, number, target};

/// All tables that x_tables has, of IPv4 and of IPv6.
pub(super) const TABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];

const HOOKS: [(&str, Hook); 5] = [
    ("PREROUTING", Hook::Prerouting),
    ("INPUT", Hook::Input),
    ("FORWARD", Hook::Forward),
    ("OUTPUT", Hook::Output),
    ("POSTROUTING", Hook::Postrouting),
];

/// When a table's chain is called (include/uapi/linux/netfilter_ipv4.h).
fn priority(table: &str, hook: Hook) -> i32 {
    match (table, hook) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", Hook::Prerouting | Hook::Output) => -100,
        ("nat", _) => 100,
        ("security", _) => 50,
        _ => 0,
    }
}

/// An entry of the table: where it is, where its chain begins, its bytes.
struct Entry<'a> {
    at: usize,
    bytes: &'a [u8],
}

/// The table as data, and whether all of it could be read.
pub(super) fn table(v6: bool, name: &str, found: &LegacyTable) -> (Table, bool) {
    let layout = if v6 { &V6 } else { &V4 };
    let family = if v6 { Family::Ip6 } else { Family::Ip };
    let mut table = Table {
        family,
        name: name.to_owned(),
        maker: Maker::IptablesLegacy,
        dormant: false,
        chains: Vec::new(),
        sets: Vec::new(),
    };
    // Where each chain begins: a built-in one by the kernel's list, a user's after an entry that says its name.
    let mut starts: BTreeMap<usize, (String, Option<usize>)> = BTreeMap::new();
    for (hook, (chain, _)) in HOOKS.iter().enumerate() {
        if found.valid_hooks & 1 << hook != 0 {
            starts.insert(found.hook_entry[hook] as usize, ((*chain).to_owned(), Some(hook)));
        }
    }
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let (mut at, mut is_whole) = (0, true);
    while at < found.entries.len() {
        let length = found.entries.get(at..).and_then(|rest| number(rest, layout.next));
        let bytes = length.and_then(|length| found.entries.get(at..at + length));
        let Some(bytes) = bytes.filter(|bytes| bytes.len() > layout.matches) else {
            is_whole = false;
            break;
        };
        match target(layout, bytes) {
            Some((name, target)) if name == "ERROR" => {
                let chain = text(target.get(DATA..DATA + 30).unwrap_or_default());
                // The last entry of all is an ERROR that is no chain.
                if at + bytes.len() < found.entries.len() {
                    starts.insert(at + bytes.len(), (chain, None));
                }
            }
            _ => entries.push(Entry { at, bytes }),
        }
        at += bytes.len();
    }
    let names: BTreeMap<usize, String> = starts.iter().map(|(at, (name, _))| (*at, name.clone())).collect();
    let mut entries = entries.into_iter().peekable();
    let mut next_starts: Vec<usize> = starts.keys().skip(1).copied().collect();
    next_starts.push(usize::MAX);
    for ((start, (name, hook)), end) in starts.iter().zip(next_starts) {
        let mut own: Vec<Entry<'_>> = Vec::new();
        while let Some(entry) = entries.next_if(|entry| entry.at < end) {
            if entry.at >= *start {
                own.push(entry);
            }
        }
        // The last entry of a chain is its policy, of a user's chain a return.
        let policy = own.pop();
        let base = hook.map(|hook| Base {
            hook: HOOKS[hook].1,
            priority: priority(&table.name, HOOKS[hook].1),
            kind: match (table.name.as_str(), HOOKS[hook].1) {
                ("nat", _) => ChainKind::Nat,
                ("mangle", Hook::Output) => ChainKind::Route,
                _ => ChainKind::Filter,
            },
            devices: Vec::new(),
            policy: match policy.and_then(|entry| standard(layout, entry.bytes)) {
                Some(-1) => Policy::Drop,
                Some(_) => Policy::Accept,
                None => {
                    is_whole = false;
                    Policy::Accept
                }
            },
        });
        let rules = own.into_iter().flat_map(|entry| match rule(v6, layout, &entry, &names, &table) {
            Some(rules) => rules,
            None => {
                is_whole = false;
                Vec::new()
            }
        });
        let rules = rules.collect();
        table.chains.push(Chain { name: name.clone(), base, rules });
    }
    (table, is_whole)
}

/// The verdict of an entry's standard target.
fn standard(layout: &Layout, entry: &[u8]) -> Option<i32> {
    let (name, target) = target(layout, entry)?;
    if !name.is_empty() {
        return None;
    }
    Some(i32::from_ne_bytes(target.get(DATA..DATA + 4)?.try_into().ok()?))
}

fn rule(
    v6: bool,
    layout: &Layout,
    entry: &Entry<'_>,
    chains: &BTreeMap<usize, String>,
    table: &Table,
) -> Option<Vec<Rule>> {
    let bytes = entry.bytes;
    let head = head(v6, bytes)?;
    let mut parts: Vec<Part> = head.asked.into_iter().map(Part::Match).collect();
    let mut comment = String::new();
    let mut at = layout.matches;
    let end = number(bytes, layout.target)?;
    while at < end {
        let found = bytes.get(at..)?;
        let length = number(found, 0)?;
        let (name, revision) = (text(found.get(NAME)?), *found.get(REVISION)?);
        match xt::read_match(&name, revision, found.get(DATA..length)?, v6, head.protocol) {
            xt::Asked::Comment(text) => {
                comment = text;
                parts.push(Part::Comment);
            }
            xt::Asked::Matches(asked) => parts.extend(asked.into_iter().map(Part::Match)),
        }
        at += length.max(DATA);
    }
    let (name, target) = target(layout, bytes)?;
    if name.is_empty() {
        let verdict = i32::from_ne_bytes(target.get(DATA..DATA + 4)?.try_into().ok()?);
        let action = match verdict {
            -1 => Some(Action::Drop),
            -2 => Some(Action::Accept),
            -4 => Some(Action::Queue),
            -5 => Some(Action::Return),
            place => match usize::try_from(place) {
                // A rule without a target leads to the one after it.
                Ok(place) if place == entry.at + bytes.len() && !chains.contains_key(&place) => None,
                Ok(place) => match chains.get(&place) {
                    Some(chain) if head.goes => Some(Action::Goto(chain.clone())),
                    Some(chain) => Some(Action::Jump(chain.clone())),
                    None => Some(Action::Other("a jump to nowhere".to_owned())),
                },
                Err(_) => Some(Action::Other(format!("verdict {verdict}"))),
            },
        };
        parts.extend(action.map(Part::Action));
    } else {
        let revision = *target.get(REVISION)?;
        parts.push(xt::read_target(&name, revision, target.get(DATA..)?, v6));
    }
    let u64_at = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let counter = Counter { packets: u64_at(layout.counters)?, bytes: u64_at(layout.counters + 8)? };
    let text = words::rule(Style::Iptables, table, &parts, &comment);
    Some(assemble(Rule { text, comment, counter: Some(counter), ..Rule::default() }, parts))
}

/// What the head of an entry asks.
struct Head {
    asked: Vec<Match>,
    protocol: Option<u8>,
    goes: bool,
}

/// `struct ipt_ip` or `ip6t_ip6`: addresses, their masks, interfaces, their masks, protocol, flags, which of them are inverted.
fn head(v6: bool, entry: &[u8]) -> Option<Head> {
    const GOTO_V4: u8 = 2;
    const GOTO_V6: u8 = 4;
    const FRAGMENTS: u8 = 1;
    const TYPE_OF_SERVICE: u8 = 2;
    let size = if v6 { 16 } else { 4 };
    let field = |place: usize| entry.get(place * size..(place + 1) * size);
    let names = 4 * size;
    let name = |place: usize| entry.get(names + place * 16..names + place * 16 + 16);
    let after = names + 64;
    let protocol = u16::from_ne_bytes(entry.get(after..after + 2)?.try_into().ok()?);
    // IPv6 has a byte for the type of service before the flags.
    let flags_at = if v6 { after + 3 } else { after + 2 };
    let (flags, inverted) = (*entry.get(flags_at)?, *entry.get(flags_at + 1)?);
    let is = |field, not, value| Match::Is { field, mask: None, not, values: vec![value] };
    let mut asked = Vec::new();
    for (place, what, bit) in [(0, Field::SourceAddress, 0x08), (1, Field::DestinationAddress, 0x10)] {
        let (address, mask) = (field(place)?, field(place + 2)?);
        let not = inverted & bit != 0;
        if mask.iter().all(|byte| *byte == 0) && !not {
            continue;
        }
        let net = crate::traces::address(address).zip(crate::traces::address(mask));
        match net.and_then(|(address, mask)| IpNet::with_netmask(address, mask).ok()) {
            Some(net) => asked.push(is(what, not, Value::Net(net))),
            None => asked.push(Match::Other("an address with a mask that is no prefix".to_owned())),
        }
    }
    for (place, what, bit) in [(0, Field::InInterface, 0x01), (1, Field::OutInterface, 0x02)] {
        let (own, mask) = (name(place)?, name(place + 2)?);
        let not = inverted & bit != 0;
        if mask.iter().all(|byte| *byte == 0) && !not {
            continue;
        }
        asked.push(match xt::interface(own, mask) {
            Some(value) => is(what, not, value),
            None => Match::Other("an interface with a mask of its name".to_owned()),
        });
    }
    if protocol != 0 {
        asked.push(is(Field::Protocol, inverted & 0x40 != 0, Value::Number(protocol.into())));
    }
    if !v6 && flags & FRAGMENTS != 0 {
        asked.push(Match::Other(if inverted & 0x20 != 0 { "! -f" } else { "-f" }.to_owned()));
    }
    if v6 && flags & TYPE_OF_SERVICE != 0 {
        asked.push(Match::Other("type of service".to_owned()));
    }
    let goto = if v6 { GOTO_V6 } else { GOTO_V4 };
    let protocol = u8::try_from(protocol).ok().filter(|p| *p != 0 && inverted & 0x40 == 0);
    Some(Head { asked, protocol, goes: flags & goto != 0 })
}

/// Bytes as a table: the first ones say where its chains begin.
#[cfg(feature = "fuzz")]
pub(super) fn fuzz(payload: &[u8]) -> LegacyTable {
    let number = |at: usize| u32::from(payload.get(at).copied().unwrap_or_default()) * 8;
    LegacyTable {
        valid_hooks: number(0) / 8,
        hook_entry: [number(1), number(2), number(3), number(4), number(5)],
        underflow: [0; 5],
        entries: payload.get(8..).unwrap_or_default().to_vec(),
    }
}
