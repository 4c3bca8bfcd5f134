//! podplumb's nftables ruleset.
//!
//! A table of our own for routed packets and one for bridged frames, whose chains and rules are made once and never change: a
//! pod, or a port mapping, is an element of a set or map. So the number of rules does not grow with pods, adding one takes
//! microseconds, and nothing of anybody else's is ever touched. Each element's comment names its owner, so that only the owner's
//! DEL removes it, however late that comes.

mod conditions;
mod element;
mod filter;
pub mod foreign;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod gateway;
mod language;
pub mod legacy;
mod ruleset;
pub mod traces;
pub mod watch;
mod wire;

use std::net::IpAddr;

use model::{OwnedElement, RuleElement};
use netlink::{Attributes, Request, Socket};

pub use conditions::Conditions;
pub use filter::ruleset_of_here;
pub use ruleset::TABLE;

use element::{Element, Found};
use language::{Rule, Table};
use wire::{Kind, attribute};

/// Why an attachment did not get its elements.
#[derive(Debug)]
pub enum AddError {
    /// A port is mapped to somebody else's pod.
    Taken {
        /// The mapping that was wanted.
        wanted: RuleElement,
        /// Whose it is.
        holder: String,
        /// The element as nft writes it.
        element: String,
    },
    /// The kernel.
    Kernel(netlink::Error),
}

impl From<netlink::Error> for AddError {
    fn from(error: netlink::Error) -> Self {
        AddError::Kernel(error)
    }
}

/// Adds what an attachment needs, in one transaction. The tables are made when they are not there.
///
/// What has the same key and another owner is taken over, since an address belongs to whoever has its lease; but of a mapped
/// port the holder is asked for by `may_replace`.
pub fn add(
    owner: &str,
    wanted: &[RuleElement],
    conditions: Option<&Conditions>,
    may_replace: impl Fn(&str) -> bool,
) -> Result<(), AddError> {
    let mut socket = Socket::netfilter()?;
    let elements: Vec<(&RuleElement, Element)> =
        wanted.iter().flat_map(|rule| element::of(rule).into_iter().map(move |e| (rule, e))).collect();
    yield_ports(&mut socket, owner, wanted, &may_replace)?;
    let all = |elements: &[(&RuleElement, Element)]| elements.iter().map(|(_, e)| e.add(owner)).collect();
    let mut result = wire::commit(&mut socket, all(&elements));
    // The tables are made once a boot: so first try without.
    if matches!(&result, Err(error) if error.is_gone()) {
        make(&mut socket, conditions)?;
        result = wire::commit(&mut socket, all(&elements));
    }
    match result {
        Err(error) if error.exists() => replace(&mut socket, owner, &elements, may_replace),
        result => Ok(result.map_err(|error| error.on(format_args!("table {TABLE}")))?),
    }
}

/// Makes sure that nobody has one of the ports at one address who would lose it, or keep it, at all of them.
fn yield_ports(
    socket: &mut Socket,
    owner: &str,
    wanted: &[RuleElement],
    may_replace: impl Fn(&str) -> bool,
) -> Result<(), AddError> {
    let comment = element::comment(owner);
    for (wanted, element, found) in element::rivals(socket, wanted)? {
        if found.owner == comment {
            continue;
        }
        if !may_replace(&found.owner) {
            return Err(AddError::Taken { wanted, holder: found.owner, element: element.text() });
        }
        remove_if(socket, &element, |holder| holder == found.owner)?;
    }
    Ok(())
}

/// Makes the tables, or brings those of an older podplumb up to date.
fn make(socket: &mut Socket, conditions: Option<&Conditions>) -> netlink::Result<()> {
    let mut messages: Vec<Request> = ruleset::tables().iter().flat_map(Table::messages).collect();
    messages.extend(conditions.iter().flat_map(|conditions| ruleset::conditional(conditions).messages()));
    wire::commit(socket, messages).map_err(|error| error.on(format_args!("table {TABLE}")))
}

/// How often we look again because somebody changed the ruleset between our look and our transaction: a tenth of a millisecond.
const ATTEMPTS: usize = 100;

/// Looks at the ruleset and changes what it saw, and looks again if there is another by then.
fn look_and_change<T, E: From<netlink::Error>>(
    socket: &mut Socket,
    mut look: impl FnMut(&mut Socket) -> Result<(Vec<Request>, T), E>,
) -> Result<T, E> {
    let mut attempt = 1;
    loop {
        let generation = wire::generation(socket)?;
        let (messages, seen) = look(socket)?;
        if messages.is_empty() {
            return Ok(seen);
        }
        match wire::commit_at(socket, generation, messages) {
            Err(error) if wire::is_outdated(&error) && attempt < ATTEMPTS => attempt += 1,
            result => return Ok(result.map(|()| seen)?),
        }
    }
}

/// The slow way: looks at each element, and takes over what is somebody else's.
fn replace(
    socket: &mut Socket,
    owner: &str,
    elements: &[(&RuleElement, Element)],
    may_replace: impl Fn(&str) -> bool,
) -> Result<(), AddError> {
    look_and_change(socket, |socket| {
        let mut messages = Vec::new();
        for (rule, element) in elements {
            match element.find(socket)? {
                None => messages.push(element.add(owner)),
                Some(found) => {
                    let is_own = found.owner == element::comment(owner);
                    if matches!(rule, RuleElement::MapPort { .. }) && !is_own && !may_replace(&found.owner) {
                        return Err(AddError::Taken {
                            wanted: (*rule).clone(),
                            holder: found.owner,
                            element: element.text(),
                        });
                    }
                    messages.extend([element.delete(), element.add(owner)]);
                }
            }
        }
        Ok((messages, ()))
    })
}

/// Removes what an attachment has of these, and nothing that is somebody else's by now; says whether there was something to remove. The change is in force
/// when this returns; closing the socket may then wait for the kernel to free memory (5 to 34 ms).
pub fn remove(socket: &mut Socket, owner: &str, rules: &[RuleElement]) -> netlink::Result<bool> {
    let comment = element::comment(owner);
    let mut own = Vec::new();
    for element in rules.iter().flat_map(element::of) {
        if element.find(socket)?.is_some_and(|found| found.owner == comment) {
            own.push(element.delete());
        }
    }
    delete(socket, own)
}

/// Removes every element whose owner `is_meant` names, by looking at all of them; says how many. What came to somebody else while we
/// looked is not removed.
pub fn remove_where(socket: &mut Socket, is_meant: impl Fn(&str) -> bool) -> netlink::Result<usize> {
    let generation = wire::generation(socket)?;
    let mut meant = Vec::new();
    for table in all_tables(socket)? {
        for set in &table.sets {
            let elements = element::list(socket, &table, set)?;
            meant.extend(elements.into_iter().filter(|(_, found)| is_meant(&found.owner)).map(|(e, _)| e));
        }
    }
    if meant.is_empty() {
        return Ok(0);
    }
    match wire::commit_at(socket, generation, meant.iter().map(Element::delete).collect()) {
        // One by one, which leaves others less time to change something.
        Err(error) if wire::is_outdated(&error) => {
            let each = meant.iter().map(|element| remove_if(socket, element, &is_meant));
            each.collect::<netlink::Result<Vec<bool>>>()
                .map(|removed| removed.into_iter().filter(|is| *is).count())
        }
        result => result.map(|()| meant.len()),
    }
}

/// Removes an element whose owner `is_meant` names; says whether there was one.
fn remove_if(
    socket: &mut Socket,
    element: &Element,
    is_meant: impl Fn(&str) -> bool,
) -> netlink::Result<bool> {
    look_and_change(socket, |socket| {
        let found = element.find(socket)?.is_some_and(|found| is_meant(&found.owner));
        Ok((if found { vec![element.delete()] } else { Vec::new() }, found))
    })
}

fn delete(socket: &mut Socket, messages: Vec<Request>) -> netlink::Result<bool> {
    if messages.is_empty() {
        return Ok(false);
    }
    match wire::commit(socket, messages.clone()) {
        // Somebody else removed one meanwhile, and it took the others with it: so one by one.
        Err(error) if error.is_gone() => {
            for message in messages {
                match wire::commit(socket, vec![message]) {
                    Err(error) if !error.is_gone() => return Err(error),
                    _ => {}
                }
            }
            Ok(true)
        }
        result => result.map(|()| true),
    }
}

/// Whether the attachment has all of these.
pub fn missing<'a>(owner: &str, rules: &'a [RuleElement]) -> netlink::Result<Option<&'a RuleElement>> {
    let mut socket = Socket::netfilter()?;
    let comment = element::comment(owner);
    for rule in rules {
        for element in element::of(rule) {
            let is_there =
                |found: Found| found.owner == comment && found.data == element.data().map(<[u8]>::to_vec);
            if !element.find(&mut socket)?.is_some_and(is_there) {
                return Ok(Some(rule));
            }
        }
    }
    Ok(None)
}

/// All elements of podplumb's tables, with their owners.
pub fn list() -> netlink::Result<Vec<OwnedElement>> {
    let mut socket = Socket::netfilter()?;
    let mut all = Vec::new();
    for table in all_tables(&mut socket)? {
        for set in &table.sets {
            let elements = element::list(&mut socket, &table, set)?;
            all.extend(elements.iter().map(|(_, found)| element::describe(&table, set, found)));
        }
    }
    Ok(all)
}

/// The tables, with the maps that conditions added.
fn all_tables(socket: &mut Socket) -> netlink::Result<Vec<Table>> {
    let mut tables = ruleset::tables().to_vec();
    let request = wire::message("list nftables sets", Kind::GetSet, language::Family::Inet as u8, 0)
        .attr_str(attribute::SET_TABLE, TABLE);
    let names = socket
        .dump(&request, |payload| Some(Attributes::after(payload, 4).find(attribute::SET_NAME)?.string()));
    let names = match names {
        Err(error) if error.is_gone() => return Ok(Vec::new()),
        names => names?,
    };
    let inet = &mut tables[0];
    for name in names {
        if inet.sets.iter().any(|set| set.name == name) {
            continue;
        }
        let base = name.split('-').next().and_then(|base| inet.sets.iter().find(|set| set.name == base));
        if let Some(set) = base.cloned() {
            inet.sets.push(language::Set { name, ..set });
        }
    }
    Ok(tables)
}

/// Adds the chains that conditions added. What a condition says is in no record, only in the rules.
fn conditional_chains(socket: &mut Socket, table: &mut Table) -> netlink::Result<()> {
    let ids = table.sets.iter().filter_map(|set| set.name.split_once('-').map(|(_, id)| id.to_owned()));
    let mut ids: Vec<String> = ids.collect();
    ids.dedup();
    if ids.is_empty() {
        return Ok(());
    }
    let request = wire::message("list nftables rules", Kind::GetRule, table.family as u8, 0)
        .attr_str(attribute::RULE_TABLE, table.name);
    let rules = socket.dump(&request, language::read_rule)?;
    for id in ids {
        let chains = ruleset::conditional_chains(&id, |chain| {
            let own = rules.iter().filter(|(of, _)| of == chain);
            own.map(|(_, rule)| rule.clone().unwrap_or_else(Rule::unknown)).collect()
        });
        table.chains.extend(chains);
    }
    Ok(())
}

/// `family name` of every nftables table.
pub fn table_names() -> netlink::Result<Vec<String>> {
    let mut socket = Socket::netfilter()?;
    let request = wire::message("list nftables tables", Kind::GetTable, 0, 0);
    socket.dump(&request, |payload| {
        let family = match payload.first()? {
            1 => "inet",
            2 => "ip",
            3 => "arp",
            5 => "netdev",
            7 => "bridge",
            10 => "ip6",
            _ => "unknown",
        };
        let name = Attributes::after(payload, 4).find(attribute::TABLE_NAME)?.string();
        Some(format!("{family} {name}"))
    })
}

/// The ruleset as nft writes it, without elements.
pub fn text() -> String {
    ruleset::tables().iter().map(|table| table.text(|_| Vec::new())).collect()
}

/// The ruleset as nft writes it, with the elements that it has now; `nft -f` reads it. Empty when there is none.
pub fn text_with_elements() -> netlink::Result<String> {
    let mut socket = Socket::netfilter()?;
    let mut text = String::new();
    for mut table in all_tables(&mut socket)? {
        conditional_chains(&mut socket, &mut table)?;
        let mut elements = Vec::new();
        for set in &table.sets {
            let found = element::list(&mut socket, &table, set)?;
            let shown: Vec<String> = found.iter().map(|(_, found)| element::show_found(set, found)).collect();
            elements.push((set.name.clone(), shown));
        }
        let of = |set: &language::Set| {
            let own = elements.iter().find(|(name, _)| *name == set.name);
            own.map(|(_, shown)| shown.clone()).unwrap_or_default()
        };
        text.push_str(&table.text(of));
    }
    Ok(text)
}

/// The bytes of an address in network order.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An interface's name as the kernel compares it: 16 bytes, the rest of them zero.
pub(crate) fn interface(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}
