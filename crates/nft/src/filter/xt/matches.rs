//! Matches (`-m NAME`).

use ipnet::IpNet;
use model::MacAddr;
use model::filter::{Field, Match, Value};

use super::Structure;
use crate::filter::types::{addresses, text};

/// What a match comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Comment(String),
    Matches(Vec<Match>),
}

/// Reads a match. `protocol` is what the rule asked for before.
pub(crate) fn read_match(name: &str, revision: u8, info: &[u8], v6: bool, protocol: Option<u8>) -> Asked {
    if name == "comment" {
        return Asked::Comment(text(info));
    }
    let found = understood(name, revision, Structure(info), v6, protocol);
    Asked::Matches(found.unwrap_or_else(|| vec![Match::Other(other(name, info))]))
}

fn understood(
    name: &str,
    revision: u8,
    info: Structure<'_>,
    v6: bool,
    protocol: Option<u8>,
) -> Option<Vec<Match>> {
    match (name, revision) {
        ("conntrack", 1..=3) => conntrack(revision, info, v6),
        ("state", 0) => Some(vec![states(info.u32(0)?, false)?]),
        ("addrtype", 0 | 1) => address_types(revision, info),
        ("mark", 1) => Some(vec![mark(Field::Mark, info)?]),
        ("connmark", 1) => Some(vec![mark(Field::ConnectionMark, info)?]),
        ("multiport", 0 | 1) => multiport(revision, info),
        ("tcp", 0) => tcp(info),
        ("udp" | "udplite", 0) => {
            let inverted = info.u8(8)?;
            Some(
                [
                    ports(Field::SourcePort, info, 0, inverted & 1),
                    ports(Field::DestinationPort, info, 4, inverted & 2),
                ]
                .into_iter()
                .collect::<Option<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect(),
            )
        }
        ("sctp", 0) => sctp(info),
        ("icmp", 0) | ("icmp6", 0) => icmp(info),
        ("statistic", 0) => Some(vec![Match::Sometimes(statistic(info)?)]),
        ("physdev", 0) => physdev(info),
        ("pkttype", 0) => {
            let value = Value::Number(info.u32(0)?.into());
            Some(vec![is(Field::PacketType, info.u32(4)? != 0, vec![value])])
        }
        ("iprange", 1) => iprange(info, v6),
        ("mac", 0) => {
            let mac = Value::Mac(MacAddr(info.0.get(..6)?.try_into().ok()?));
            Some(vec![is(Field::EtherSource, info.u32(8)? != 0, vec![mac])])
        }
        // The protocol of the rule's header says the same.
        ("esp" | "ah", 0) if protocol.is_some() => None,
        _ => None,
    }
}

fn is(field: Field, not: bool, values: Vec<Value>) -> Match {
    Match::Is { field, mask: None, not, values }
}

fn bits(field: Field, mask: u64, inverted: bool) -> Match {
    Match::Is { field, mask: Some(mask), not: !inverted, values: vec![Value::Number(0)] }
}

/// What cannot be told from a packet alone, in a few words.
fn other(name: &str, info: &[u8]) -> String {
    let info = Structure(info);
    match name {
        // struct xt_set_info: the set's number, its dimensions, flags.
        "set" => {
            let not = if info.u8(3).is_some_and(|flags| flags & 4 != 0) { "! " } else { "" };
            format!("-m set {not}--match-set #{}", info.u16(0).unwrap_or_default())
        }
        _ => format!("-m {name}"),
    }
}

/// States of connections: bits 2, 4, 8 as nft has them, and some of its own.
fn states(mask: u32, inverted: bool) -> Option<Match> {
    const UNTRACKED: u32 = 1 << 8;
    const TRANSLATED: [(u32, u64); 2] = [(1 << 6, 16), (1 << 7, 32)];
    let status: u64 = TRANSLATED.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, status)| status).sum();
    let untracked = if mask & UNTRACKED != 0 { 64 } else { 0 };
    let states = u64::from(mask & 0xf) | untracked;
    match (states, status) {
        (states, 0) => Some(bits(Field::ConnectionState, states, inverted)),
        (0, status) => Some(bits(Field::ConnectionStatus, status, inverted)),
        // One or the other.
        _ => None,
    }
}

fn conntrack(revision: u8, info: Structure<'_>, v6: bool) -> Option<Vec<Match>> {
    const STATE: u16 = 1;
    const ORIGINAL_SOURCE: u16 = 1 << 2;
    const ORIGINAL_DESTINATION: u16 = 1 << 3;
    const STATUS: u16 = 1 << 6;
    const DIRECTION: u16 = 1 << 12;
    const ALIAS: u16 = 1 << 13;
    // Eight addresses, two numbers, then ports.
    let flags = info.u16(146)?;
    let inverted = info.u16(148)?;
    let (state, status) = match revision {
        1 => (u32::from(info.u8(150)?), u32::from(info.u8(151)?)),
        _ => (u32::from(info.u16(150)?), u32::from(info.u16(152)?)),
    };
    if flags & !(STATE | ORIGINAL_SOURCE | ORIGINAL_DESTINATION | STATUS | DIRECTION | ALIAS) != 0 {
        return None;
    }
    let mut found = Vec::new();
    if flags & STATE != 0 {
        found.push(states(state, inverted & STATE != 0)?);
    }
    let net = |at: usize| IpNet::with_netmask(info.ip(at, v6)?, info.ip(at + 16, v6)?).ok();
    for (flag, field, at) in
        [(ORIGINAL_SOURCE, Field::OriginalSource, 0), (ORIGINAL_DESTINATION, Field::OriginalDestination, 32)]
    {
        if flags & flag != 0 {
            found.push(is(field, inverted & flag != 0, vec![Value::Net(net(at)?.trunc())]));
        }
    }
    if flags & STATUS != 0 {
        found.push(bits(Field::ConnectionStatus, status.into(), inverted & STATUS != 0));
    }
    if flags & DIRECTION != 0 {
        let reply = u64::from(inverted & DIRECTION != 0);
        found.push(is(Field::ConnectionDirection, false, vec![Value::Number(reply)]));
    }
    Some(found)
}

fn address_types(revision: u8, info: Structure<'_>) -> Option<Vec<Match>> {
    const LIMITED: u32 = 4 | 8;
    let (not_source, not_destination) = match (revision, info.u32(4)?) {
        (0, inverted) => (inverted != 0, info.u32(8)? != 0),
        (_, flags) if flags & LIMITED != 0 => return None,
        (_, flags) => (flags & 1 != 0, flags & 2 != 0),
    };
    let types = |mask: u16| (0..16).filter(|bit| mask & 1 << bit != 0).map(Value::Number).collect();
    let sides = [
        (info.u16(0)?, not_source, Field::SourceType),
        (info.u16(2)?, not_destination, Field::DestinationType),
    ];
    let asked = sides.into_iter().filter(|(mask, ..)| *mask != 0);
    Some(asked.map(|(mask, not, field)| is(field, not, types(mask))).collect())
}

fn mark(field: Field, info: Structure<'_>) -> Option<Match> {
    let (value, mask) = (info.u32(0)?.into(), info.u32(4)?.into());
    let mask = Some(mask).filter(|mask| *mask != u64::from(u32::MAX));
    Some(Match::Is { field, mask, not: info.u8(8)? != 0, values: vec![Value::Number(value)] })
}

/// A range of ports in the machine's byte order; all of them are no question.
fn ports(field: Field, info: Structure<'_>, at: usize, inverted: u8) -> Option<Option<Match>> {
    let (first, last) = (info.u16(at)?, info.u16(at + 2)?);
    if (first, last) == (0, u16::MAX) && inverted == 0 {
        return Some(None);
    }
    Some(Some(is(field, inverted != 0, vec![numbers(first, last)])))
}

fn numbers(first: u16, last: u16) -> Value {
    if first == last { Value::Number(first.into()) } else { Value::Numbers(first.into(), last.into()) }
}

fn multiport(revision: u8, info: Structure<'_>) -> Option<Vec<Match>> {
    const MOST: usize = 15;
    let field = match info.u8(0)? {
        0 => Field::SourcePort,
        1 => Field::DestinationPort,
        // Either of them.
        _ => return None,
    };
    let count = usize::from(info.u8(1)?).min(MOST);
    let port = |place: usize| info.u16(2 + 2 * place);
    let begins_range = |place: usize| revision == 1 && info.u8(32 + place).is_some_and(|flag| flag != 0);
    let mut values = Vec::new();
    let mut place = 0;
    while place < count {
        let first = port(place)?;
        if begins_range(place) {
            values.push(numbers(first, port(place + 1)?));
            place += 1;
        } else {
            values.push(numbers(first, first));
        }
        place += 1;
    }
    let inverted = revision == 1 && info.u8(47)? != 0;
    Some(vec![is(field, inverted, values)])
}

fn tcp(info: Structure<'_>) -> Option<Vec<Match>> {
    let (option, mask, wanted, inverted) = (info.u8(8)?, info.u8(9)?, info.u8(10)?, info.u8(11)?);
    let mut found: Vec<Match> = Vec::new();
    found.extend(ports(Field::SourcePort, info, 0, inverted & 1)?);
    found.extend(ports(Field::DestinationPort, info, 4, inverted & 2)?);
    if mask != 0 || inverted & 4 != 0 {
        let (values, not) = (vec![Value::Number(wanted.into())], inverted & 4 != 0);
        found.push(Match::Is { field: Field::TcpFlags, mask: Some(mask.into()), not, values });
    }
    if option != 0 {
        found.push(Match::Other(format!("--tcp-option {option}")));
    }
    Some(found)
}

/// struct xt_sctp_info: destination ports before source ports, chunks, flags.
fn sctp(info: Structure<'_>) -> Option<Vec<Match>> {
    const SOURCE: u32 = 1;
    const DESTINATION: u32 = 2;
    const CHUNKS: u32 = 4;
    let (flags, inverted) = (info.u32(284)?, info.u32(288)?);
    if flags & CHUNKS != 0 {
        return None;
    }
    let mut found = Vec::new();
    for (flag, field, at) in [(SOURCE, Field::SourcePort, 4), (DESTINATION, Field::DestinationPort, 0)] {
        if flags & flag != 0 {
            found.extend(ports(field, info, at, u8::from(inverted & flag != 0))?);
        }
    }
    Some(found)
}

fn icmp(info: Structure<'_>) -> Option<Vec<Match>> {
    const ANY: u8 = 0xff;
    let (kind, first, last, inverted) = (info.u8(0)?, info.u8(1)?, info.u8(2)?, info.u8(3)? & 1 != 0);
    if kind == ANY {
        return Some(Vec::new()).filter(|_| !inverted);
    }
    let kind_is = |not| is(Field::IcmpType, not, vec![Value::Number(kind.into())]);
    match (first, last) {
        (0, ANY) => Some(vec![kind_is(inverted)]),
        // "Not this type with this code" is two questions in one.
        _ if inverted => None,
        _ => Some(vec![kind_is(false), is(Field::IcmpCode, false, vec![numbers(first.into(), last.into())])]),
    }
}

fn statistic(info: Structure<'_>) -> Option<String> {
    let not = if info.u16(2)? & 1 != 0 { "! " } else { "" };
    Some(match info.u16(0)? {
        0 => {
            // Of 2^31.
            let share = f64::from(info.u32(4)?) / f64::from(1u32 << 31);
            format!("-m statistic --mode random {not}--probability {share:.11}")
        }
        _ => {
            let (every, packet) = (u64::from(info.u32(4)?) + 1, info.u32(8)?);
            format!("-m statistic --mode nth {not}--every {every} --packet {packet}")
        }
    })
}

fn physdev(info: Structure<'_>) -> Option<Vec<Match>> {
    const IN: u8 = 1;
    const OUT: u8 = 2;
    const BRIDGED: u8 = 4;
    const IS_IN: u8 = 8;
    const IS_OUT: u8 = 16;
    let (inverted, asked) = (info.u8(64)?, info.u8(65)?);
    let mut found = Vec::new();
    for (flag, field, at) in [(IN, Field::InPort, 0), (OUT, Field::OutPort, 32)] {
        if asked & flag != 0 {
            let value = interface(info.0.get(at..at + 16)?, info.0.get(at + 16..at + 32)?)?;
            found.push(is(field, inverted & flag != 0, vec![value]));
        }
    }
    if asked & BRIDGED != 0 {
        found.push(is(Field::Bridged, inverted & BRIDGED != 0, vec![Value::Number(1)]));
    }
    for (flag, field) in [(IS_IN, Field::InPort), (IS_OUT, Field::OutPort)] {
        if asked & flag != 0 {
            // That it has a name.
            found.push(is(field, inverted & flag == 0, vec![Value::Name(String::new())]));
        }
    }
    Some(found)
}

/// An interface's name and which of its bytes count: all with the final zero, or the first ones.
pub(crate) fn interface(name: &[u8], mask: &[u8]) -> Option<Value> {
    let counts = mask.iter().take_while(|byte| **byte != 0).count();
    if mask[counts..].iter().any(|byte| *byte != 0) {
        return None;
    }
    let counted = name.get(..counts)?;
    Some(if counted.contains(&0) || counts == 16 {
        Value::Name(text(counted))
    } else {
        Value::Names(text(counted))
    })
}

fn iprange(info: Structure<'_>, v6: bool) -> Option<Vec<Match>> {
    let flags = info.u8(64)?;
    let mut found = Vec::new();
    for (flag, not, field, at) in [(1, 16, Field::SourceAddress, 0), (2, 32, Field::DestinationAddress, 32)] {
        if flags & flag != 0 {
            let range = addresses(info.ip(at, v6)?, info.ip(at + 16, v6)?);
            found.push(is(field, flags & not != 0, vec![range]));
        }
    }
    Some(found)
}
