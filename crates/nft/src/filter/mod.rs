//! All rules of a namespace, whoever wrote them, as [`model::filter`] has them: nf_tables by nfnetlink, with what iptables-nft keeps
//! there, and x_tables by socket options.
//!
//! What a rule's expressions say is put together again (`decompile`), and written down as its own tool would (`words`). What cannot
//! be put together stays as a text that says so.

mod decompile;
mod legacy;
mod registers;
mod sets;
mod types;
mod words;
mod xt;

use std::cell::RefCell;
use std::collections::HashMap;

use model::filter::{Base, Chain, ChainKind, Family, Hook, Maker, Policy, Rule, Ruleset, Table};
use model::{Gap, IfIndex, Source};
use netlink::{Attribute, Attributes, Result, Socket};

use crate::wire::attribute::*;
use crate::wire::{self, Kind, message};

/// How often the ruleset is read again because somebody changed it meanwhile.
const ATTEMPTS: usize = 8;
/// More rules than this are not read: ten times what the largest known nodes have.
const MOST_RULES: usize = 500_000;

/// Everything that the packet filter of the calling thread's namespace has. What could not be read is in its gaps.
pub fn ruleset_of_here() -> Ruleset {
    let mut ruleset = Ruleset::default();
    let gap = |object: &str, why: String| Gap { source: Source::Rules, object: object.to_owned(), why };
    match nf_tables() {
        Ok((tables, why)) => {
            ruleset.tables = tables;
            ruleset.gaps.extend(why.map(|why| gap("nftables", why)));
        }
        // A kernel without nf_tables has no such rules.
        Err(error) if error.is_unsupported() => {}
        Err(error) => ruleset.gaps.push(gap("nftables", error.to_string())),
    }
    for v6 in [false, true] {
        for name in legacy::TABLES {
            match sys::legacy_table(v6, name) {
                Ok(None) => {}
                Ok(Some(table)) => {
                    let (table, is_whole) = legacy::table(v6, name, &table);
                    if !is_whole {
                        let why = "it is not laid out as expected".to_owned();
                        ruleset.gaps.push(gap(&format!("iptables-legacy table {table}"), why));
                    }
                    ruleset.tables.push(table);
                }
                Err(error) => {
                    let object = format!("iptables-legacy table {}{name}", if v6 { "ip6 " } else { "" });
                    ruleset.gaps.push(gap(&object, error.to_string()));
                }
            }
        }
    }
    ruleset
}

/// Names of interfaces, which rules may have by index. Asked for when they are needed: to list all links takes longer than all rules.
pub(super) struct Names<'a> {
    ask: Option<&'a dyn Fn(u32) -> Option<String>>,
    known: RefCell<HashMap<u32, Option<String>>>,
}

impl Names<'_> {
    pub(super) fn of(&self, index: u32) -> Option<String> {
        let ask = self.ask?;
        self.known.borrow_mut().entry(index).or_insert_with(|| ask(index)).clone()
    }
}

impl<'a> Names<'a> {
    /// No interface has a name.
    pub(super) fn none() -> Self {
        Self { ask: None, known: RefCell::default() }
    }

    fn asking(ask: &'a dyn Fn(u32) -> Option<String>) -> Self {
        Self { ask: Some(ask), known: RefCell::default() }
    }
}

fn name_of(index: u32) -> Option<String> {
    let mut socket = Socket::route().ok()?;
    Some(netlink::link::by_index(&mut socket, IfIndex(index), None).ok()?.name)
}

/// The tables of nf_tables, and why they may not be all.
fn nf_tables() -> Result<(Vec<Table>, Option<String>)> {
    let mut socket = Socket::netfilter()?;
    let mut attempt = 1;
    loop {
        let before = wire::generation(&mut socket)?;
        let tables = read(&mut socket);
        let is_same = wire::generation(&mut socket)? == before;
        match tables {
            // What is gone by now was there a moment ago.
            Err(error) if !error.is_gone() || attempt == ATTEMPTS => return Err(error),
            Ok((tables, true)) => {
                return Ok((tables, Some(format!("there are more than {MOST_RULES} rules"))));
            }
            Ok((tables, false)) if is_same => return Ok((tables, None)),
            Ok((tables, false)) if attempt == ATTEMPTS => {
                let why = format!("they changed during each of {ATTEMPTS} attempts to read them");
                return Ok((tables, Some(why)));
            }
            _ => attempt += 1,
        }
    }
}

/// The tables, and whether there are more rules than we read.
fn read(socket: &mut Socket) -> Result<(Vec<Table>, bool)> {
    let request = message("list nftables tables", Kind::GetTable, 0, 0);
    let mut tables = socket.dump(&request, table)?;
    if tables.is_empty() {
        return Ok((tables, false));
    }
    let request = message("list nftables chains", Kind::GetChain, 0, 0);
    for (place, chain) in socket.dump(&request, chain)? {
        if let Some(table) = find(&mut tables, &place) {
            table.chains.push(chain);
        }
    }
    for table in &mut tables {
        table.maker = maker(table);
    }
    let ask = |index| name_of(index);
    let names = Names::asking(&ask);
    let known = sets::read(socket, &mut tables, &names)?;
    let request = message("list nftables rules", Kind::GetRule, 0, 0);
    let mut count = 0;
    let rules = socket.dump(&request, |payload| {
        count += 1;
        (count <= MOST_RULES).then(|| rule(payload, &tables, &known, &names))?
    })?;
    // A namespace may be anybody's.
    let is_cut = count > MOST_RULES;
    let mut last = (0, 0);
    for (place, chain, rules) in rules {
        if let Some((t, c)) = position(&tables, &place, &chain, last) {
            tables[t].chains[c].rules.extend(rules);
            last = (t, c);
        }
    }
    Ok((tables, is_cut))
}

/// Family and name of a table.
type Place = (Family, String);

fn find<'a>(tables: &'a mut [Table], (family, name): &Place) -> Option<&'a mut Table> {
    tables.iter_mut().find(|table| table.family == *family && table.name == *name)
}

/// Where a chain is. Rules are listed chain by chain, so it is the last one's or soon after that; there may be 10,000.
fn position(
    tables: &[Table],
    (family, name): &Place,
    chain: &str,
    last: (usize, usize),
) -> Option<(usize, usize)> {
    let t = tables.iter().position(|table| table.family == *family && table.name == *name)?;
    let chains = &tables[t].chains;
    let from = if t == last.0 { last.1 } else { 0 };
    let mut places = (from..chains.len()).chain(0..from.min(chains.len()));
    Some((t, places.find(|place| chains[*place].name == chain)?))
}

fn family(payload: &[u8]) -> Option<Family> {
    Some(match payload.first()? {
        1 => Family::Inet,
        2 => Family::Ip,
        3 => Family::Arp,
        5 => Family::Netdev,
        7 => Family::Bridge,
        10 => Family::Ip6,
        _ => return None,
    })
}

fn table(payload: &[u8]) -> Option<Table> {
    const TABLE_FLAGS: u16 = 2;
    const DORMANT: u32 = 1;
    let parts = Attributes::after(payload, 4);
    Some(Table {
        family: family(payload)?,
        name: parts.find(TABLE_NAME)?.string(),
        maker: Maker::Nft,
        dormant: parts.find(TABLE_FLAGS).and_then(Attribute::be32).is_some_and(|flags| flags & DORMANT != 0),
        chains: Vec::new(),
        sets: Vec::new(),
    })
}

fn chain(payload: &[u8]) -> Option<(Place, Chain)> {
    let parts = Attributes::after(payload, 4);
    let family = family(payload)?;
    let base = parts.find(CHAIN_HOOK).and_then(|hook| base(family, parts, hook.nested()));
    let name = parts.find(CHAIN_NAME)?.string();
    Some(((family, parts.find(CHAIN_TABLE)?.string()), Chain { name, base, rules: Vec::new() }))
}

fn base(family: Family, parts: Attributes<'_>, hook: Attributes<'_>) -> Option<Base> {
    const HOOK_DEVICE: u16 = 3;
    const HOOK_DEVICES: u16 = 4;
    const NF_DROP: u32 = 0;
    let at = match (family, hook.find(HOOK_NUMBER)?.be32()?) {
        (Family::Netdev, 0) | (Family::Inet, 5) => Hook::Ingress,
        (Family::Netdev, 1) => Hook::Egress,
        (Family::Arp, 0) => Hook::Input,
        (Family::Arp, 1) => Hook::Output,
        (Family::Arp, 2) => Hook::Forward,
        (_, 0) => Hook::Prerouting,
        (_, 1) => Hook::Input,
        (_, 2) => Hook::Forward,
        (_, 3) => Hook::Output,
        (_, 4) => Hook::Postrouting,
        _ => return None,
    };
    let many = hook.find(HOOK_DEVICES).map(Attribute::nested);
    let devices = match many {
        Some(many) => many.map(Attribute::string).collect(),
        None => hook.find(HOOK_DEVICE).map(Attribute::string).into_iter().collect(),
    };
    Some(Base {
        hook: at,
        priority: hook.find(HOOK_PRIORITY)?.be32()?.cast_signed(),
        kind: match parts.find(CHAIN_TYPE).map(Attribute::string).as_deref() {
            Some("nat") => ChainKind::Nat,
            Some("route") => ChainKind::Route,
            _ => ChainKind::Filter,
        },
        devices,
        policy: match parts.find(CHAIN_POLICY).and_then(Attribute::be32) {
            Some(NF_DROP) => Policy::Drop,
            _ => Policy::Accept,
        },
    })
}

/// iptables-nft's tables have the names of iptables' and only its base chains.
fn maker(table: &Table) -> Maker {
    const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
    let is_named = legacy::TABLES.contains(&table.name.as_str())
        && matches!(table.family, Family::Ip | Family::Ip6 | Family::Bridge | Family::Arp);
    let mut bases = table.chains.iter().filter(|chain| chain.base.is_some()).peekable();
    let has_bases = bases.peek().is_some();
    if is_named && has_bases && bases.all(|chain| BUILT_IN.contains(&chain.name.as_str())) {
        Maker::IptablesNft
    } else {
        Maker::Nft
    }
}

/// A listed rule: its table and chain, and what it comes to.
fn rule(
    payload: &[u8],
    tables: &[Table],
    known: &sets::Known,
    names: &Names<'_>,
) -> Option<(Place, String, Vec<Rule>)> {
    let parts = Attributes::after(payload, 4);
    let place = (family(payload)?, parts.find(RULE_TABLE)?.string());
    let table = tables.iter().find(|table| table.family == place.0 && table.name == place.1)?;
    let context = decompile::Context { table, known, names };
    let rules = decompile::rule(parts, &context);
    Some((place, parts.find(RULE_CHAIN)?.string(), rules))
}

/// Reads listed messages as a kernel's: each after a byte that says what it lists, and two for its length.
#[cfg(feature = "fuzz")]
pub(crate) fn fuzz(mut bytes: &[u8]) -> Ruleset {
    let names = Names::none();
    let mut tables: Vec<Table> = Vec::new();
    let mut known = sets::Known::default();
    while let [kind, low, high, rest @ ..] = bytes {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (payload, after) = rest.split_at(length);
        bytes = after;
        match kind {
            b't' => tables.extend(table(payload)),
            b'c' => {
                if let Some((place, chain)) = chain(payload)
                    && let Some(table) = find(&mut tables, &place)
                {
                    table.chains.push(chain);
                    table.maker = maker(table);
                }
            }
            b's' => sets::fuzz(payload, &mut tables, &mut known, &names),
            b'e' => sets::fuzz_elements(payload, &mut tables, &known, &names),
            b'r' => {
                if let Some((place, chain, rules)) = rule(payload, &tables, &known, &names)
                    && let Some((t, c)) = position(&tables, &place, &chain, (0, 0))
                {
                    assert!(!rules.is_empty(), "a rule is never nothing");
                    tables[t].chains[c].rules.extend(rules);
                }
            }
            kind => {
                let v6 = kind & 1 != 0;
                tables.push(legacy::table(v6, "nat", &legacy::fuzz(payload)).0);
            }
        }
    }
    Ruleset { tables, gaps: Vec::new() }
}

/// What the calling thread's namespace has, as [`fuzz`] reads it.
#[cfg(feature = "fuzz")]
pub(crate) fn record() -> Result<Vec<u8>> {
    let mut socket = Socket::netfilter()?;
    let mut bytes = Vec::new();
    let mut add = |kind: u8, payload: &[u8]| {
        bytes.push(kind);
        bytes.extend_from_slice(&(payload.len() as u16).to_le_bytes());
        bytes.extend_from_slice(payload);
    };
    let list = |what, kind| message(what, kind, 0, 0);
    for (letter, what, kind) in [
        (b't', "list nftables tables", Kind::GetTable),
        (b'c', "list nftables chains", Kind::GetChain),
        (b's', "list nftables sets", Kind::GetSet),
    ] {
        for payload in socket.dump(&list(what, kind), |payload| Some(payload.to_vec()))? {
            add(letter, &payload);
            if letter == b's' {
                for elements in sets::record(&mut socket, &payload)? {
                    add(b'e', &elements);
                }
            }
        }
    }
    for payload in
        socket.dump(&list("list nftables rules", Kind::GetRule), |payload| Some(payload.to_vec()))?
    {
        add(b'r', &payload);
    }
    for (letter, v6) in [(b'4', false), (b'5', true)] {
        if let Ok(Some(table)) = sys::legacy_table(v6, "nat") {
            let places = table.hook_entry.map(|place| (place / 8) as u8);
            let mut payload = vec![table.valid_hooks as u8];
            payload.extend(places);
            payload.extend([0, 0]);
            payload.extend(table.entries);
            add(letter, &payload);
        }
    }
    Ok(bytes)
}
