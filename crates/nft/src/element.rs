//! Elements: a pod, a mapped port, a guarded interface. Each has a comment that says whose it is, as `nft list` shows.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{OwnedElement, RuleElement};
use netlink::message::CREATE_EXCLUSIVE;
use netlink::{Attribute, Attributes, Request, Result, Socket};

use crate::language::{Family, Set, Table, Type};
use crate::ruleset::{Ip, TABLE, tables, variant};
use crate::wire::attribute::*;
use crate::wire::{Kind, message};
use crate::{interface, octets};

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    family: Family,
    set: String,
    key: Vec<u8>,
    /// The end of the range, where the set has ranges.
    end: Option<Vec<u8>>,
    data: Option<Vec<u8>>,
}

/// A concatenation: each part padded to registers of four bytes.
fn join(parts: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(part);
        all.resize(all.len().next_multiple_of(4), 0);
    }
    all
}

fn plain(family: Family, set: impl Into<String>, key: Vec<u8>) -> Element {
    Element { family, set: set.into(), key, end: None, data: None }
}

/// `source . destination`, each a range.
fn between(set: String, from: IpNet, to: IpNet) -> Element {
    let key = join(&[&octets(from.network()), &octets(to.network())]);
    let end = join(&[&octets(from.broadcast()), &octets(to.broadcast())]);
    Element { end: Some(end), ..plain(Family::Inet, set, key) }
}

/// The elements that stand for one thing.
pub(crate) fn of(rule: &RuleElement) -> Vec<Element> {
    match rule {
        RuleElement::Masquerade { address } => {
            let (pod, ip) = (address.addr(), Ip::of(address.addr()));
            vec![
                between(ip.set("local"), pod.into(), address.trunc()),
                plain(Family::Inet, ip.set("pods"), octets(pod)),
            ]
        }
        RuleElement::MapPort { protocol, host_ip, host_port, pod, pod_port, conditions } => {
            let ip = Ip::of(*pod);
            let (protocol, port) = ([protocol.number()], host_port.to_be_bytes());
            let (set, key) = match host_ip {
                None => ("ports", join(&[&protocol, &port])),
                Some(host_ip) => ("addrports", join(&[&octets(*host_ip), &protocol, &port])),
            };
            let data = Some(join(&[&octets(*pod), &pod_port.to_be_bytes()]));
            let set = variant(&ip.set(set), conditions.as_deref());
            vec![Element { data, ..plain(Family::Inet, set, key) }]
        }
        RuleElement::Hairpin { from, pod } => {
            vec![between(Ip::of(*pod).set("hairpin"), *from, (*pod).into())]
        }
        RuleElement::Admit { address } => {
            vec![plain(Family::Inet, Ip::of(*address).set("admitted"), octets(*address))]
        }
        RuleElement::Restrict { address, bridge } => {
            let (ip, bytes) = (Ip::of(*address), octets(*address));
            vec![
                plain(Family::Inet, ip.set("bridged"), join(&[&interface(bridge.as_str()), &bytes])),
                plain(Family::Inet, ip.set("restricted"), bytes),
            ]
        }
        RuleElement::Isolate { address } => {
            let set = Ip::of(*address).set("isolated");
            let in_family = |family| plain(family, set.clone(), octets(*address));
            vec![in_family(Family::Inet), in_family(Family::Bridge)]
        }
        RuleElement::Source { interface: name, mac } => {
            let name = interface(name.as_str());
            vec![
                plain(Family::Bridge, "sources", join(&[&name, &mac.0])),
                plain(Family::Bridge, "guarded", name),
            ]
        }
    }
}

/// A comment of nft's: type 0 of its user data, at most 255 bytes with the final NUL.
const COMMENT: u8 = 0;
const LONGEST_COMMENT: usize = 253;

/// The comment that names an owner. A longer name than fits ends in its digest.
pub(crate) fn comment(owner: &str) -> String {
    if owner.len() <= LONGEST_COMMENT {
        return owner.to_owned();
    }
    let head: String = owner.chars().take(LONGEST_COMMENT - 20).collect();
    format!("{head}~{:016x}", model::attachment::digest(owner.as_bytes()))
}

pub(crate) fn userdata(comment: &str) -> Vec<u8> {
    let mut bytes = vec![COMMENT, comment.len() as u8 + 1];
    bytes.extend_from_slice(comment.as_bytes());
    bytes.push(0);
    bytes
}

/// Reads [`userdata`] back.
pub(crate) fn comment_of(userdata: &[u8]) -> Option<String> {
    let mut rest = userdata;
    while let [kind, length, tail @ ..] = rest {
        let value = tail.get(..usize::from(*length))?;
        if *kind == COMMENT {
            let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = &tail[usize::from(*length)..];
    }
    None
}

impl Element {
    fn request(&self, what: &'static str, kind: Kind, flags: u16, owner: Option<&str>) -> Request {
        message(what, kind, self.family as u8, flags)
            .attr_str(ELEMENTS_TABLE, TABLE)
            .attr_str(ELEMENTS_SET, &self.set)
            .nest(ELEMENTS, |r| {
                r.nest(LIST_ELEM, |r| {
                    let r = r.nest(ELEMENT_KEY, |r| r.attr(DATA_VALUE, &self.key));
                    let r = match &self.end {
                        Some(end) => r.nest(ELEMENT_KEY_END, |r| r.attr(DATA_VALUE, end)),
                        None => r,
                    };
                    let Some(owner) = owner else { return r };
                    let r = match &self.data {
                        Some(data) => r.nest(ELEMENT_DATA, |r| r.attr(DATA_VALUE, data)),
                        None => r,
                    };
                    r.attr(ELEMENT_USERDATA, &userdata(&comment(owner)))
                })
            })
    }

    /// Adds it; `EEXIST` when there is one, whoever's it is.
    pub(crate) fn add(&self, owner: &str) -> Request {
        self.request("add nftables element", Kind::NewElement, CREATE_EXCLUSIVE, Some(owner))
    }

    pub(crate) fn delete(&self) -> Request {
        self.request("delete nftables element", Kind::DeleteElement, 0, None)
    }

    pub(crate) fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }

    /// Whose it is in the kernel, and what it maps to; `None` when there is none.
    pub(crate) fn find(&self, socket: &mut Socket) -> Result<Option<Found>> {
        let request = self.request("look up nftables element", Kind::GetElement, 0, None);
        match socket.get(request, |payload| found(payload).next()) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As nft writes it.
    pub(crate) fn text(&self) -> String {
        let table = tables().into_iter().find(|table| table.family == self.family);
        let set = table.and_then(|table| table.sets.into_iter().find(|set| set.name == self.set));
        match set {
            Some(set) => show(&set, &self.key, self.end.as_deref(), self.data.as_deref()),
            None => self.set.clone(),
        }
    }
}

/// An element of the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) key: Vec<u8>,
    pub(crate) end: Option<Vec<u8>>,
    pub(crate) data: Option<Vec<u8>>,
    pub(crate) owner: String,
}

pub(crate) fn found(payload: &[u8]) -> impl Iterator<Item = Found> {
    let list = Attributes::after(payload, 4).find(ELEMENTS).map(Attribute::nested);
    list.into_iter().flatten().filter_map(|element| {
        let parts = element.nested();
        let value = |kind| Some(parts.find(kind)?.nested().find(DATA_VALUE)?.value.to_vec());
        let owner = parts.find(ELEMENT_USERDATA).and_then(|data| comment_of(data.value));
        Some(Found {
            key: value(ELEMENT_KEY)?,
            end: value(ELEMENT_KEY_END),
            data: value(ELEMENT_DATA),
            owner: owner.unwrap_or_default(),
        })
    })
}

/// All elements of a set; none when there is no such set.
pub(crate) fn list(socket: &mut Socket, table: &Table, set: &Set) -> Result<Vec<(Element, Found)>> {
    let request = message("list nftables set", Kind::GetElement, table.family as u8, 0)
        .attr_str(ELEMENTS_TABLE, TABLE)
        .attr_str(ELEMENTS_SET, &set.name);
    let lists = match socket.dump(&request, |payload| Some(found(payload).collect::<Vec<_>>())) {
        Err(error) if error.is_gone() => return Ok(Vec::new()),
        lists => lists?,
    };
    let element = |found: &Found| Element {
        family: table.family,
        set: set.name.clone(),
        key: found.key.clone(),
        end: found.end.clone(),
        data: found.data.clone(),
    };
    Ok(lists.into_iter().flatten().map(|found| (element(&found), found)).collect())
}

/// Elements that lead the same port elsewhere: for a port of one address that of any address, and the other way round. The kernel sees no
/// conflict there, as they are in different maps.
pub(crate) fn rivals(
    socket: &mut Socket,
    wanted: &[RuleElement],
) -> Result<Vec<(RuleElement, Element, Found)>> {
    let mut rivals = Vec::new();
    let mut specific: Vec<(bool, Vec<(Element, Found)>)> = Vec::new();
    for rule in wanted {
        let RuleElement::MapPort { protocol, host_ip, host_port, pod, .. } = rule else { continue };
        let ip = Ip::of(*pod);
        let port = join(&[&[protocol.number()], &host_port.to_be_bytes()]);
        if host_ip.is_some() {
            let any = plain(Family::Inet, ip.set("ports"), port);
            rivals.extend(any.find(socket)?.map(|found| (rule.clone(), any, found)));
            continue;
        }
        if !specific.iter().any(|(v6, _)| *v6 == ip.v6) {
            let [inet, _] = tables();
            let set = inet.sets.iter().find(|set| set.name == ip.set("addrports"));
            let all = set.map(|set| list(socket, &inet, set)).transpose()?.unwrap_or_default();
            specific.push((ip.v6, all));
        }
        let known = specific.iter().filter(|(v6, _)| *v6 == ip.v6).flat_map(|(_, all)| all);
        let same = known.filter(|(element, _)| element.key.ends_with(&port));
        rivals.extend(same.map(|(element, found)| (rule.clone(), element.clone(), found.clone())));
    }
    Ok(rivals)
}

/// The parts of a concatenation.
fn split<'a>(types: &[Type], bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut at = 0;
    let part = |kind: &Type| {
        let part = bytes.get(at..at + kind.length()).unwrap_or_default();
        at += kind.padded();
        part
    };
    types.iter().map(part).collect()
}

/// An element as nft writes it: `10.0.0.2 . 10.0.0.0/24`, `tcp . 80 : 10.0.0.2 . 8080`.
pub(crate) fn show(set: &Set, key: &[u8], end: Option<&[u8]>, data: Option<&[u8]>) -> String {
    let (key, data) = parts(set, key, end, data);
    key + &data
}

/// The same with its comment, as nft reads it.
pub(crate) fn show_found(set: &Set, found: &Found) -> String {
    let (key, data) = parts(set, &found.key, found.end.as_deref(), found.data.as_deref());
    match found.owner.as_str() {
        "" => key + &data,
        owner => format!("{key} comment \"{}\"{data}", owner.replace(['"', '\n'], "?")),
    }
}

/// The key, and what it maps to with a colon in front.
fn parts(set: &Set, key: &[u8], end: Option<&[u8]>, data: Option<&[u8]>) -> (String, String) {
    let starts = split(&set.key, key);
    let ends = end.map(|end| split(&set.key, end));
    let part = |at: usize| {
        let (kind, first) = (set.key[at], starts[at]);
        match ends.as_ref().map(|ends| ends[at]) {
            Some(last) if last != first => subnet(kind, first, last),
            _ => kind.show(first),
        }
    };
    let text = (0..set.key.len()).map(part).collect::<Vec<_>>().join(" . ");
    let Some(data) = data else { return (text, String::new()) };
    let parts = split(&set.data, data);
    let shown: Vec<String> = set.data.iter().zip(parts).map(|(kind, part)| kind.show(part)).collect();
    (text, format!(" : {}", shown.join(" . ")))
}

/// A range as a subnet where it is one.
fn subnet(kind: Type, first: &[u8], last: &[u8]) -> String {
    let common: u32 =
        first.iter().zip(last).map(|(a, b)| (a ^ b).leading_zeros()).take_while(|bits| *bits == 8).sum();
    let place = (common / 8) as usize;
    let rest = first.get(place).zip(last.get(place)).map_or(0, |(a, b)| (a ^ b).leading_zeros());
    format!("{}/{}", kind.show(first), common + rest)
}

/// For people and for analysis.
pub(crate) fn describe(table: &Table, set: &Set, found: &Found) -> OwnedElement {
    let ips = |types: &[Type], bytes: &[u8]| -> Vec<IpAddr> {
        let parts = types.iter().zip(split(types, bytes));
        let addresses = parts.filter(|(kind, _)| matches!(kind, Type::Ipv4 | Type::Ipv6));
        addresses.filter_map(|(kind, part)| kind.show(part).parse().ok()).collect()
    };
    let mut addresses = ips(&set.key, &found.key);
    addresses.extend(found.data.iter().flat_map(|data| ips(&set.data, data)));
    let shown = show(set, &found.key, found.end.as_deref(), found.data.as_deref());
    OwnedElement {
        text: format!("{} {TABLE} {} {{ {shown} }}", table.family.name(), set.name),
        owner: found.owner.clone(),
        addresses,
    }
}
