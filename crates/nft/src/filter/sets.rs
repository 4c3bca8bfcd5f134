//! Sets and maps with their elements.

use std::collections::HashMap;

use model::filter::{Element, Family, Set, Table, Value};
use netlink::{Attribute, Attributes, Result, Socket};

use super::decompile::verdict_action;
use super::types::{Kind, hexadecimal};
use super::{Names, Place, family, find};
use crate::element::comment_of;
use crate::wire::attribute::*;
use crate::wire::{Kind as Message, message};

/// Of a set with more elements, the rest is not kept.
const MOST_ELEMENTS: usize = 65_536;

const INTERVAL: u32 = 4;
const MAP: u32 = 8;
const OBJECT: u32 = 0x40;
/// `NFT_DATA_VERDICT`
const VERDICT: u32 = 0xffff_ff00;

/// How a set keeps its elements.
#[derive(Debug, Clone)]
struct Layout {
    key_length: usize,
    has_ranges: bool,
    /// How each field of the key is read; `None` where nft's type is not known.
    key: Option<Vec<(Kind, usize)>>,
    /// Of a map.
    data: Option<Vec<(Kind, usize)>>,
    has_verdicts: bool,
}

/// What is known of sets beside their elements.
#[derive(Debug, Default)]
pub(super) struct Known(Vec<(Place, HashMap<String, Layout>)>);

impl Known {
    fn table(&self, family: Family, name: &str) -> Option<&HashMap<String, Layout>> {
        let mut tables = self.0.iter();
        tables.find(|((f, n), _)| *f == family && n == name).map(|(_, sets)| sets)
    }

    /// How many bytes the key of a set has.
    pub(super) fn key_length(&self, table: &Table, set: &str) -> Option<usize> {
        Some(self.table(table.family, &table.name)?.get(set)?.key_length)
    }

    fn add(&mut self, place: Place, set: String, layout: Layout) {
        match self.0.iter_mut().find(|(other, _)| *other == place) {
            Some((_, sets)) => {
                sets.insert(set, layout);
            }
            None => self.0.push((place, HashMap::from([(set, layout)]))),
        }
    }
}

/// Reads all sets into their tables.
pub(super) fn read(socket: &mut Socket, tables: &mut [Table], names: &Names<'_>) -> Result<Known> {
    let request = message("list nftables sets", Message::GetSet, 0, 0);
    let mut known = Known::default();
    for (place, name, layout) in socket.dump(&request, layout)? {
        if let Some(table) = find(tables, &place) {
            let set = elements(socket, &place, &name, &layout, names)?;
            table.sets.push(set);
            known.add(place, name, layout);
        }
    }
    Ok(known)
}

fn layout(payload: &[u8]) -> Option<(Place, String, Layout)> {
    let parts = Attributes::after(payload, 4);
    let be32 = |kind: u16| parts.find(kind).and_then(Attribute::be32);
    let flags = be32(SET_FLAGS).unwrap_or_default();
    let key_length = be32(SET_KEY_LEN).unwrap_or_default() as usize;
    let has_ranges = flags & INTERVAL != 0;
    let has_verdicts = be32(SET_DATA_TYPE) == Some(VERDICT);
    let layout = Layout {
        key_length,
        has_ranges,
        key: fields(be32(SET_KEY_TYPE).unwrap_or_default(), key_length, has_ranges),
        data: match (flags & MAP != 0 && !has_verdicts && flags & OBJECT == 0, be32(SET_DATA_TYPE)) {
            (true, Some(number)) => fields(number, be32(SET_DATA_LEN).unwrap_or_default() as usize, false),
            _ => None,
        },
        has_verdicts,
    };
    Some(((family(payload)?, parts.find(SET_TABLE)?.string()), parts.find(SET_NAME)?.string(), layout))
}

/// The fields of a concatenation: nft numbers it with six bits for each type.
fn fields(number: u32, length: usize, has_ranges: bool) -> Option<Vec<(Kind, usize)>> {
    let mut kinds = Vec::new();
    let mut rest = number;
    while rest != 0 {
        kinds.push(Kind::of_type(rest & 0x3f, has_ranges)?);
        rest >>= 6;
    }
    kinds.reverse();
    let together: usize = match kinds[..] {
        [] => return None,
        [(_, one)] => one,
        _ => kinds.iter().map(|(_, size)| size.next_multiple_of(4)).sum(),
    };
    (together == length).then_some(kinds)
}

/// An element as it is listed.
struct Listed {
    key: Option<Vec<u8>>,
    key_end: Option<Vec<u8>>,
    /// The end of a range that another element begins.
    is_end: bool,
    is_rest: bool,
    element: Element,
}

fn elements(
    socket: &mut Socket,
    (family, table): &Place,
    name: &str,
    layout: &Layout,
    names: &Names<'_>,
) -> Result<Set> {
    let number = match family {
        Family::Inet => 1,
        Family::Ip => 2,
        Family::Arp => 3,
        Family::Netdev => 5,
        Family::Bridge => 7,
        Family::Ip6 => 10,
    };
    let request = message("list nftables set", Message::GetElement, number, 0)
        .attr_str(ELEMENTS_TABLE, table)
        .attr_str(ELEMENTS_SET, name);
    let mut count = 0;
    let lists = socket.dump(&request, |payload| {
        if count > MOST_ELEMENTS {
            return None;
        }
        let list = listed(payload, layout, names);
        count += list.len();
        Some(list)
    })?;
    Ok(set(name, lists.into_iter().flatten().collect(), layout, names))
}

fn listed(payload: &[u8], layout: &Layout, names: &Names<'_>) -> Vec<Listed> {
    const ELEMENT_FLAGS: u16 = 3;
    const RANGE_END: u32 = 1;
    const CATCH_ALL: u32 = 2;
    let list = Attributes::after(payload, 4).find(ELEMENTS).map(Attribute::nested);
    let read = |element: Attribute<'_>| {
        let parts = element.nested();
        let value = |kind: u16| Some(parts.find(kind)?.nested().find(DATA_VALUE)?.value);
        let flags = parts.find(ELEMENT_FLAGS).and_then(Attribute::be32).unwrap_or_default();
        let verdict = parts.find(ELEMENT_DATA).and_then(|data| data.nested().find(DATA_VERDICT));
        let data = match (value(ELEMENT_DATA), &layout.data) {
            (Some(bytes), Some(fields)) => split(bytes, fields, names),
            (Some(bytes), None) => vec![Value::Other(hexadecimal(bytes))],
            (None, _) => Vec::new(),
        };
        Listed {
            key: value(ELEMENT_KEY).map(<[u8]>::to_vec),
            key_end: value(ELEMENT_KEY_END).map(<[u8]>::to_vec),
            is_end: flags & RANGE_END != 0,
            is_rest: flags & CATCH_ALL != 0,
            element: Element {
                key: Vec::new(),
                action: verdict.filter(|_| layout.has_verdicts).and_then(verdict_action),
                data,
                comment: parts
                    .find(ELEMENT_USERDATA)
                    .and_then(|data| comment_of(data.value))
                    .unwrap_or_default(),
            },
        }
    };
    list.into_iter().flatten().map(read).collect()
}

/// The values of a concatenation; each begins a register of four bytes.
fn split(bytes: &[u8], fields: &[(Kind, usize)], names: &Names<'_>) -> Vec<Value> {
    let mut at = 0;
    let value = |(kind, size): &(Kind, usize)| {
        let own = bytes.get(at..at + size);
        at += size.next_multiple_of(4);
        own.map_or_else(|| Value::Other("cut".to_owned()), |own| kind.value(own, names))
    };
    fields.iter().map(value).collect()
}

fn set(name: &str, mut listed: Vec<Listed>, layout: &Layout, names: &Names<'_>) -> Set {
    let mut set = Set { name: name.to_owned(), ..Set::default() };
    if listed.len() > MOST_ELEMENTS {
        // Without some of them, ranges do not come together.
        set.cut = Some(format!("it has more than {MOST_ELEMENTS} elements"));
        listed.truncate(if layout.has_ranges { 0 } else { MOST_ELEMENTS });
    }
    let Some(fields) = &layout.key else {
        set.cut = Some("its type is not known".to_owned());
        return set;
    };
    if layout.has_ranges && fields.len() == 1 {
        set.elements = ranges(listed, fields[0].0, layout.key_length, names);
        return set;
    }
    for listed in listed {
        let mut element = listed.element;
        element.key = match (&listed.key, &listed.key_end) {
            _ if listed.is_rest => vec![Value::Any],
            (Some(first), Some(last)) => between(first, last, fields, names),
            (Some(key), None) => split(key, fields, names),
            (None, _) => vec![Value::Other("an element without a key".to_owned())],
        };
        set.elements.push(element);
    }
    // The kernel lists them as its hashes fall.
    set.elements.sort_by(|a, b| a.key.cmp(&b.key));
    set
}

/// A range in each field.
fn between(first: &[u8], last: &[u8], fields: &[(Kind, usize)], names: &Names<'_>) -> Vec<Value> {
    let mut at = 0;
    let value = |(kind, size): &(Kind, usize)| {
        let own = first.get(at..at + size).zip(last.get(at..at + size));
        at += size.next_multiple_of(4);
        let range = |(first, last)| kind.range(first, last, names);
        own.map_or_else(|| Value::Other("cut".to_owned()), range)
    };
    fields.iter().map(value).collect()
}

/// A set of ranges is a list of where one begins and where it has ended; what has no end, goes on for ever.
fn ranges(mut listed: Vec<Listed>, kind: Kind, length: usize, names: &Names<'_>) -> Vec<Element> {
    // An end comes before the next beginning at the same place.
    listed.sort_by(|a, b| (&a.key, !a.is_end).cmp(&(&b.key, !b.is_end)));
    let mut elements = Vec::new();
    let mut listed = listed.into_iter().peekable();
    while let Some(mut start) = listed.next() {
        if start.is_rest {
            start.element.key = vec![Value::Any];
            elements.push(start.element);
            continue;
        }
        let (false, Some(first)) = (start.is_end, start.key) else { continue };
        let last = match (start.key_end, listed.peek().and_then(|next| next.key.clone())) {
            (Some(end), _) => end,
            (None, Some(end)) => before(end),
            (None, None) => vec![0xff; length],
        };
        start.element.key = vec![kind.range(&first, &last, names)];
        elements.push(start.element);
    }
    elements
}

/// The value before, in network byte order.
fn before(mut bytes: Vec<u8>) -> Vec<u8> {
    for byte in bytes.iter_mut().rev() {
        let (less, borrow) = byte.overflowing_sub(1);
        *byte = less;
        if !borrow {
            break;
        }
    }
    bytes
}

/// Reads a message as a set of one of the tables.
#[cfg(feature = "fuzz")]
pub(super) fn fuzz(payload: &[u8], tables: &mut [Table], known: &mut Known, names: &Names<'_>) {
    let Some((place, name, layout)) = layout(payload) else { return };
    if let Some(table) = find(tables, &place) {
        table.sets.push(set(&name, Vec::new(), &layout, names));
        known.add(place, name, layout);
    }
}

/// Reads a message as elements of a set of one of the tables.
#[cfg(feature = "fuzz")]
pub(super) fn fuzz_elements(payload: &[u8], tables: &mut [Table], known: &Known, names: &Names<'_>) {
    let parts = Attributes::after(payload, 4);
    let text = |kind: u16| parts.find(kind).map(Attribute::string).unwrap_or_default();
    let (Some(family), name) = (family(payload), text(ELEMENTS_SET)) else { return };
    let Some(table) = find(tables, &(family, text(ELEMENTS_TABLE))) else { return };
    let Some(layout) = known.table(family, &table.name).and_then(|sets| sets.get(&name)) else { return };
    let list = listed(payload, layout, names);
    let count = list.len();
    let read = set(&name, list, layout, names);
    assert!(read.elements.len() <= count, "more elements than there were");
    if let Some(old) = table.sets.iter_mut().find(|set| set.name == name) {
        *old = read;
    }
}

/// The messages that list a set's elements.
#[cfg(feature = "fuzz")]
pub(super) fn record(socket: &mut Socket, payload: &[u8]) -> Result<Vec<Vec<u8>>> {
    let parts = Attributes::after(payload, 4);
    let text = |kind: u16| parts.find(kind).map(Attribute::string).unwrap_or_default();
    let number = payload.first().copied().unwrap_or_default();
    let request = message("list nftables set", Message::GetElement, number, 0)
        .attr_str(ELEMENTS_TABLE, &text(SET_TABLE))
        .attr_str(ELEMENTS_SET, &text(SET_NAME));
    socket.dump(&request, |payload| Some(payload.to_vec()))
}
