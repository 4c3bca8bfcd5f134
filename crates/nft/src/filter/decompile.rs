//! A rule's expressions, put together to what it asks and does.
//!
//! nf_tables runs expressions: load some bytes into a register, mask them, compare them, and so on to a verdict.

use model::filter::{Action, Counter, Field, Lookup, Maker, Match, Rule, Table, Translation, Value};
use netlink::{Attribute, Attributes};

use super::registers::{self, Known, Load, Register, Registers, What};
use super::types::{Kind, addresses, hexadecimal};
use super::words::{self, Style};
use super::{Names, sets, xt};
use crate::element::comment_of;
use crate::wire::attribute::*;

/// Comparisons (`NFT_CMP_*`).
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// Where a rule is.
pub(super) struct Context<'a> {
    pub(super) table: &'a Table,
    pub(super) known: &'a sets::Known,
    pub(super) names: &'a Names<'a>,
}

/// A part of a rule, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Match(Match),
    Action(Action),
    /// A comment, where iptables has it.
    Comment,
    /// What changes nothing that a rule could look at: a log, a limit's name, a copy.
    Note(String),
}

/// The rule of a listed message: its parts after the fixed header. It is more than one where a rule changes something and then asks again.
pub(super) fn rule(message: Attributes<'_>, context: &Context<'_>) -> Vec<Rule> {
    let mut reading = Reading {
        context,
        registers: Registers::default(),
        known: Known::of(context.table.family),
        parts: Vec::with_capacity(6),
        comment: String::new(),
        counter: None,
    };
    for expression in message.find(RULE_EXPRESSIONS).into_iter().flat_map(Attribute::nested) {
        let name = expression.nested().find(EXPRESSION_NAME).map(|name| word(name.value));
        let data = expression.nested().find(EXPRESSION_DATA).map(|data| data.value).unwrap_or_default();
        match name {
            Some(name) => reading.expression(name, Attributes(data)),
            None => {
                reading.parts.push(Part::Action(Action::Other("an expression without a name".to_owned())))
            }
        }
    }
    let userdata = message.find(RULE_USERDATA).and_then(|data| comment_of(data.value));
    let style = if context.table.maker == Maker::Nft { Style::Nft } else { Style::Iptables };
    let comment = if reading.comment.is_empty() { userdata.unwrap_or_default() } else { reading.comment };
    let text = words::rule(style, context.table, &reading.parts, &comment);
    let handle =
        message.find(RULE_HANDLE).and_then(|handle| handle.value.try_into().ok().map(u64::from_be_bytes));
    let whole = Rule { handle, text, comment, counter: reading.counter, ..Rule::default() };
    assemble(whole, reading.parts)
}

/// The parts as rules: one, unless something is asked after something was changed.
pub(super) fn assemble(whole: Rule, parts: Vec<Part>) -> Vec<Rule> {
    let mut rules = Vec::with_capacity(1);
    let mut current = whole;
    for part in parts {
        match part {
            Part::Note(_) | Part::Comment => {}
            Part::Action(action) => current.actions.push(action),
            Part::Match(found) => {
                if !current.actions.is_empty() {
                    let next = Rule { actions: Vec::new(), ..current.clone() };
                    let before = std::mem::replace(&mut current, next);
                    for old in &mut current.matches {
                        if before.actions.iter().any(|action| may_change(action, old)) {
                            *old = Match::Other("what the rule itself changes before".to_owned());
                        }
                    }
                    rules.push(before);
                }
                current.matches.push(found);
            }
        }
    }
    rules.push(current);
    rules
}

/// Whether an answer may be another after the action.
fn may_change(action: &Action, asked: &Match) -> bool {
    let fields: &[Field] = match asked {
        Match::Is { field, .. } => std::slice::from_ref(field),
        Match::In { fields, .. } => fields,
        Match::Sometimes(_) | Match::Other(_) => return false,
    };
    let changed: &[Field] = match action {
        Action::SetMark { .. } | Action::RestoreMark { .. } => &[Field::Mark],
        Action::SetConnectionMark { .. } | Action::SaveMark { .. } => &[Field::ConnectionMark],
        Action::Notrack => &[Field::ConnectionState, Field::ConnectionStatus, Field::ConnectionMark],
        // What comes after a map is for few: better a perhaps.
        _ => return true,
    };
    fields.iter().any(|field| changed.contains(field))
}

/// A name without its final zero.
fn word(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).unwrap_or("?")
}

struct Reading<'a, 'c> {
    context: &'c Context<'c>,
    registers: Registers<'a>,
    known: Known,
    parts: Vec<Part>,
    comment: String,
    counter: Option<Counter>,
}

fn value(data: Attributes<'_>, kind: u16) -> Option<&[u8]> {
    Some(data.find(kind)?.nested().find(DATA_VALUE)?.value)
}

impl<'a> Reading<'a, '_> {
    fn expression(&mut self, name: &str, data: Attributes<'a>) {
        let be32 = |kind: u16| data.find(kind).and_then(Attribute::be32);
        match name {
            "payload" if data.find(5).is_some() => self.parts.push(write(be32(2), be32(3), be32(4))),
            "payload" => {
                let loads = match (be32(2), be32(3), be32(4)) {
                    (Some(base), Some(offset), Some(length)) => {
                        registers::payload(base, offset, length, self.known)
                            .ok_or_else(|| format!("@{},{},{}", header(base), bits(offset), bits(length)))
                    }
                    _ => Err("@?".to_owned()),
                };
                self.load(be32(1), loads);
            }
            "meta" if be32(3).is_some() => self.set_meta(be32(2), be32(3)),
            "meta" if be32(2) == Some(24) => self.load_random(be32(1), u32::MAX),
            "meta" => self.load(be32(1), one(registers::meta(be32(2).unwrap_or(u32::MAX)))),
            "ct" if be32(4).is_some() => self.set_ct(be32(2), be32(4)),
            "ct" => {
                let direction = data.find(3).and_then(Attribute::u8);
                let found = registers::ct(be32(2).unwrap_or(u32::MAX), direction, self.known.v6);
                self.load(be32(1), one(found));
            }
            "fib" => {
                const ADDRTYPE: u32 = 3;
                let field = |field| Ok(vec![Load { field, kind: Kind::Host, bytes: 4 }]);
                let found = match (be32(2), be32(3)) {
                    (Some(ADDRTYPE), Some(1)) => field(Field::SourceType),
                    (Some(ADDRTYPE), Some(2)) => field(Field::DestinationType),
                    (result, flags) => Err(words::fib(result, flags)),
                };
                self.load(be32(1), found);
            }
            "numgen" | "hash" => {
                // numgen: 2 is the modulus, 4 the offset; jhash: 4 and 6.
                let (modulus, offset) =
                    if name == "numgen" { (be32(2), be32(4)) } else { (be32(4), be32(6)) };
                match (modulus, offset) {
                    (Some(modulus), None | Some(0)) => self.load_random(be32(1), modulus),
                    _ => self.load(be32(1), Err(format!("{name} with an offset"))),
                }
            }
            "rt" => self.load(be32(1), Err("rt".to_owned())),
            "socket" => self.load(be32(2), Err("socket".to_owned())),
            "exthdr" if be32(7).is_some() => self.parts.push(Part::Note("exthdr set".to_owned())),
            "exthdr" => self.load(be32(1), Err("exthdr".to_owned())),
            "osf" | "xfrm" => self.load(be32(1), Err(name.to_owned())),
            "tunnel" | "inner" => self.load(be32(2), Err(name.to_owned())),
            "bitwise" => self.bitwise(data),
            "byteorder" => {
                if let Some(register) = self.registers.get(be32(1)) {
                    let mut swapped = register.clone();
                    if let What::Fields(loads) = &mut swapped.what {
                        for load in loads {
                            load.kind = match load.kind {
                                Kind::Host => Kind::Network,
                                Kind::Network => Kind::Host,
                                other => other,
                            };
                        }
                    }
                    self.registers.put(be32(2), swapped);
                }
            }
            "cmp" => {
                let found = match value(data, 3) {
                    Some(value) => self.compare(be32(1), be32(2).unwrap_or(u32::MAX), value),
                    None => vec![Match::Other("cmp".to_owned())],
                };
                self.asked(found);
            }
            "range" => {
                let found = match (value(data, 3), value(data, 4)) {
                    (Some(first), Some(last)) => self.range(be32(1), be32(2) == Some(NOT_EQUAL), first, last),
                    _ => Match::Other("range".to_owned()),
                };
                self.asked(vec![found]);
            }
            "lookup" => self.look_up(data),
            "immediate" => self.immediate(data),
            "nat" => {
                let action = self.nat(data);
                self.parts.push(Part::Action(action));
            }
            "masq" => {
                let ports = self.ports(be32(2), be32(3));
                self.parts.push(Part::Action(match ports {
                    Ok(ports) => Action::Masquerade { ports },
                    Err(why) => Action::Other(format!("masquerade {why}")),
                }));
            }
            "redir" => {
                let ports = self.ports(be32(1), be32(2));
                self.parts.push(Part::Action(match ports {
                    Ok(ports) => Action::Redirect { ports },
                    Err(why) => Action::Other(format!("redirect {why}")),
                }));
            }
            "counter" => {
                let number =
                    |kind| data.find(kind).and_then(|n| n.value.try_into().ok().map(u64::from_be_bytes));
                self.counter = number(2).zip(number(1)).map(|(packets, bytes)| Counter { packets, bytes });
            }
            "reject" => {
                let code = data.find(2).and_then(Attribute::u8).unwrap_or_default();
                let with = words::reject(be32(1).unwrap_or_default(), code, self.known.v6);
                self.parts.push(Part::Action(Action::Reject(with)));
            }
            "notrack" => self.parts.push(Part::Action(Action::Notrack)),
            "queue" => self.parts.push(Part::Action(Action::Queue)),
            "limit" => self.asked(vec![Match::Other(words::limit(data))]),
            "quota" | "connlimit" => self.asked(vec![Match::Other(name.to_owned())]),
            "log" => self.parts.push(Part::Note(words::log(data, self.style()))),
            "last" | "dup" | "flow_offload" => self.parts.push(Part::Note(name.to_owned())),
            "objref" => self.object(data),
            // To add to a set says nothing about the packet, unless the element has a limit of its own.
            "dynset" if data.find(7).is_some() || data.find(10).is_some() => {
                self.asked(vec![Match::Other("a limit of each element".to_owned())]);
            }
            "dynset" => {
                let set = data.find(1).map(Attribute::string).unwrap_or_default();
                self.parts.push(Part::Note(format!("update @{set}")));
            }
            "match" => {
                let revision = be32(2).unwrap_or_default() as u8;
                let info = data.find(3).map(|info| info.value).unwrap_or_default();
                let name = data.find(1).map(|name| word(name.value)).unwrap_or_default();
                let v6 = self.known.v6 == Some(true);
                match xt::read_match(name, revision, info, v6, self.known.protocol) {
                    xt::Asked::Comment(comment) => {
                        self.comment = comment;
                        self.parts.push(Part::Comment);
                    }
                    xt::Asked::Matches(found) => self.asked(found),
                }
            }
            "target" => {
                let revision = be32(2).unwrap_or_default() as u8;
                let info = data.find(3).map(|info| info.value).unwrap_or_default();
                let name = data.find(1).map(|name| word(name.value)).unwrap_or_default();
                self.parts.push(xt::read_target(name, revision, info, self.known.v6 == Some(true)));
            }
            other => self.parts.push(Part::Action(Action::Other(other.to_owned()))),
        }
    }

    fn style(&self) -> Style {
        if self.context.table.maker == Maker::Nft { Style::Nft } else { Style::Iptables }
    }

    fn load(&mut self, register: Option<u32>, loads: Result<Vec<Load>, String>) {
        let what = loads.map_or_else(What::Other, What::Fields);
        self.registers.put(register, Register::of(what));
    }

    fn load_random(&mut self, register: Option<u32>, modulus: u32) {
        self.load(register, Ok(vec![Load { field: Field::Random(modulus), kind: Kind::Host, bytes: 4 }]));
    }

    /// Notes what was asked, and what it tells about the packet.
    fn asked(&mut self, found: Vec<Match>) {
        for found in found {
            if let Match::Is { field, mask: None, not: false, values } = &found
                && let [Value::Number(number)] = values[..]
            {
                match (field, number) {
                    (Field::Family, 2) | (Field::EtherType, 0x0800) => self.known.v6 = Some(false),
                    (Field::Family, 10) | (Field::EtherType, 0x86dd) => self.known.v6 = Some(true),
                    (Field::Protocol, number) => self.known.protocol = u8::try_from(number).ok(),
                    _ => {}
                }
            }
            // nft writes a range as two comparisons.
            if let Some(Part::Match(before)) = self.parts.last_mut()
                && narrow(before, &found)
            {
                continue;
            }
            self.parts.push(Part::Match(found));
        }
    }

    fn bitwise(&mut self, data: Attributes<'a>) {
        let be32 = |kind: u16| data.find(kind).and_then(Attribute::be32);
        let Some(register) = self.registers.get(be32(1)) else { return };
        let mut changed = register.clone();
        let is_plain = register.mask.is_none() && register.flip.is_none();
        match (be32(6).unwrap_or(0), value(data, 4), value(data, 5)) {
            (0, Some(mask), Some(flip)) if is_plain => {
                changed.mask = Some(mask).filter(|mask| mask.iter().any(|byte| *byte != 0xff));
                changed.flip = Some(flip).filter(|flip| flip.iter().any(|byte| *byte != 0));
            }
            _ => changed.what = What::Other("bits shifted or combined".to_owned()),
        }
        self.registers.put(be32(2), changed);
    }

    fn compare(&self, register: Option<u32>, how: u32, value: &[u8]) -> Vec<Match> {
        let other = |text: &str| vec![Match::Other(format!("{text} {}", hexadecimal(value)))];
        let Some(register) = self.registers.get(register) else { return other("cmp") };
        let loads = match &register.what {
            What::Fields(loads) if register.flip.is_none() => loads,
            What::Other(text) => return other(text),
            _ => return other("cmp"),
        };
        if loads.iter().any(|load| matches!(load.field, Field::Random(_))) {
            return vec![Match::Sometimes(format!("by chance {}", hexadecimal(value)))];
        }
        let not = how == NOT_EQUAL;
        let is = |field, mask, values| Match::Is { field, mask, not, values };
        let names = self.context.names;
        match (how, &loads[..], register.mask) {
            (EQUAL | NOT_EQUAL, [load], None) => {
                vec![is(load.field, None, vec![load.kind.value(value, names)])]
            }
            (EQUAL | NOT_EQUAL, [load], Some(mask)) => match load.kind {
                Kind::V4 | Kind::V6 => match load.kind.masked(value, mask) {
                    Some(net) => vec![is(load.field, None, vec![net])],
                    None => other("an address with a mask that is no prefix"),
                },
                _ => match (load.kind.number(value), load.kind.number(mask)) {
                    (Some(value), mask @ Some(_)) => vec![is(load.field, mask, vec![Value::Number(value)])],
                    _ => other("cmp"),
                },
            },
            // Neighbouring fields that were loaded at once.
            (EQUAL, many, None) => {
                let mut rest = value;
                let mut found = Vec::new();
                for load in many {
                    let Some((own, after)) = rest.split_at_checked(load.bytes) else { return other("cmp") };
                    found.push(is(load.field, None, vec![load.kind.value(own, names)]));
                    rest = after;
                }
                found
            }
            (2..=5, [load], None) => vec![ordered(*load, how, value)],
            _ => other("cmp"),
        }
    }

    fn range(&self, register: Option<u32>, not: bool, first: &[u8], last: &[u8]) -> Match {
        let text = || format!("range {}-{}", hexadecimal(first), hexadecimal(last));
        match self.registers.get(register).and_then(Register::plain) {
            Some(Load { field: Field::Random(_), .. }) => Match::Sometimes(text()),
            Some(load) => {
                let value = load.kind.range(first, last, self.context.names);
                Match::Is { field: load.field, mask: None, not, values: vec![value] }
            }
            None => Match::Other(text()),
        }
    }

    fn look_up(&mut self, data: Attributes<'a>) {
        const INVERTED: u32 = 1;
        let be32 = |kind: u16| data.find(kind).and_then(Attribute::be32);
        let set = data.find(1).map(Attribute::string).unwrap_or_default();
        let length = self.context.known.key_length(self.context.table, &set);
        let fields = length.and_then(|length| self.registers.key(be32(2), length));
        let not = be32(5).is_some_and(|flags| flags & INVERTED != 0);
        match (be32(3), fields) {
            (None, Some(fields)) => self.asked(vec![Match::In { fields, not, set }]),
            (None, None) => self.asked(vec![Match::Other(format!("@{set}"))]),
            (Some(0), Some(fields)) => self.parts.push(Part::Action(Action::VerdictMap { fields, set })),
            (Some(0), None) => self.parts.push(Part::Action(Action::Other(format!("vmap @{set}")))),
            (register, Some(fields)) => {
                self.registers.put(register, Register::of(What::Map(Lookup { fields, set: set.clone() }, 0)));
                // An address and a port: each begins a register.
                for part in 1..=4 {
                    let next = register.map(|register| {
                        if register < 8 { register * 4 + 4 + part } else { register.saturating_add(part) }
                    });
                    let lookup = self.registers.get(register).map(|register| register.what.clone());
                    if let Some(What::Map(lookup, _)) = lookup {
                        let held = Register::of(What::Map(lookup, part as usize * 4));
                        self.registers.put(next, held);
                    }
                }
            }
            (register, None) => self.load(register, Err(format!("map @{set}"))),
        }
    }

    fn immediate(&mut self, data: Attributes<'a>) {
        let register = data.find(1).and_then(Attribute::be32);
        let verdict = data.find(2).and_then(|data| data.nested().find(DATA_VERDICT));
        match (verdict, value(data, 2)) {
            (Some(found), _) => self.parts.extend(verdict_action(found).map(Part::Action)),
            (None, Some(value)) => self.registers.put(register, Register::of(What::Value(value))),
            (None, None) => self.parts.push(Part::Action(Action::Other("immediate".to_owned()))),
        }
    }

    /// The ports of two registers, the second of which may be missing.
    fn ports(&self, first: Option<u32>, last: Option<u32>) -> Result<Option<(u16, u16)>, &'static str> {
        let Some(first) = first else { return Ok(None) };
        let port = |register| match self.registers.get(Some(register)).map(|register| &register.what) {
            Some(What::Value([high, low, ..])) => Ok(u16::from_be_bytes([*high, *low])),
            _ => Err("to a port that it looks up"),
        };
        let low = port(first)?;
        Ok(Some((low, last.map_or(Ok(low), port)?)))
    }

    fn nat(&self, data: Attributes<'a>) -> Action {
        const DNAT: u32 = 1;
        const NETMAP: u32 = 1 << 6;
        let be32 = |kind: u16| data.find(kind).and_then(Attribute::be32);
        let name = if be32(1) == Some(DNAT) { "dnat" } else { "snat" };
        let other = |why: &str| Action::Other(format!("{name} {why}"));
        if be32(7).is_some_and(|flags| flags & NETMAP != 0) {
            return other("prefix");
        }
        let what =
            |kind: u16| be32(kind).and_then(|register| self.registers.get(Some(register))).map(|r| &r.what);
        let mut to = Translation::default();
        let ip = |value: &[u8]| model_ip(value);
        match (be32(3), what(3)) {
            (None, _) => {}
            (_, Some(What::Value(first))) => {
                let last = match (be32(4), what(4)) {
                    (None, _) => Some(*first),
                    (_, Some(What::Value(last))) => Some(*last),
                    _ => None,
                };
                match (ip(first), last.and_then(ip)) {
                    (Some(first), Some(last)) => to.addresses = Some((first, last)),
                    _ => return other("to an address that is none"),
                }
            }
            (_, Some(What::Map(lookup, 0))) if be32(4).is_none() || be32(4) == be32(3) => {
                to.map = Some(lookup.clone());
            }
            _ => return other("to an address that it looks up"),
        }
        match (be32(5), what(5)) {
            (None, _) => {}
            (_, Some(What::Map(lookup, at))) if be32(6).is_none() || be32(6) == be32(5) => {
                // The port of the same element, or of a map of ports.
                let is_same = to.map.as_ref().is_some_and(|map| map == lookup) && *at > 0;
                if !is_same && (to.map.is_some() || *at > 0) {
                    return other("to a port of another map");
                }
                to.map = Some(lookup.clone());
            }
            _ => match self.ports(be32(5), be32(6)) {
                Ok(ports) => to.ports = ports,
                Err(why) => return other(why),
            },
        }
        if name == "dnat" { Action::DestinationNat(to) } else { Action::SourceNat(to) }
    }

    /// A mark from a register: which actions set it. `own` is the field that is set.
    fn mark(&self, register: Option<u32>, own: Field) -> Option<Vec<Action>> {
        let register = self.registers.get(register)?;
        let set = |value, mask| match own {
            Field::Mark => Action::SetMark { value, mask },
            _ => Action::SetConnectionMark { value, mask },
        };
        let number = |bytes: Option<&[u8]>, none: u32| match bytes {
            None => Some(none),
            Some(bytes) => Some(u32::from_ne_bytes(bytes.try_into().ok()?)),
        };
        let (mask, flip) = (number(register.mask, u32::MAX)?, number(register.flip, 0)?);
        match &register.what {
            What::Value(value) => Some(vec![set(number(Some(value), 0)?, u32::MAX)]),
            What::Fields(loads) => {
                let [Load { field, kind: Kind::Host, .. }] = loads[..] else { return None };
                if field == own {
                    return Some(vec![set(flip, !mask)]);
                }
                if !matches!(field, Field::Mark | Field::ConnectionMark) {
                    return None;
                }
                let mut actions = Vec::new();
                if mask != u32::MAX {
                    actions.push(set(0, u32::MAX));
                }
                actions.push(match own {
                    Field::Mark => Action::RestoreMark { mask },
                    _ => Action::SaveMark { mask },
                });
                if flip != 0 {
                    actions.push(set(flip, 0));
                }
                Some(actions)
            }
            _ => None,
        }
    }

    fn set_meta(&mut self, key: Option<u32>, register: Option<u32>) {
        const MARK: u32 = 3;
        const HARMLESS: [(u32, &str); 3] = [(2, "priority"), (12, "nftrace"), (14, "secmark")];
        match key {
            Some(MARK) => match self.mark(register, Field::Mark) {
                Some(actions) => self.parts.extend(actions.into_iter().map(Part::Action)),
                None => self.parts.push(Part::Action(Action::Other("meta mark set".to_owned()))),
            },
            key => match HARMLESS.iter().find(|(harmless, _)| Some(*harmless) == key) {
                Some((_, name)) => self.parts.push(Part::Note(format!("meta {name} set"))),
                None => self.parts.push(Part::Action(Action::Other("meta set".to_owned()))),
            },
        }
    }

    fn set_ct(&mut self, key: Option<u32>, register: Option<u32>) {
        const MARK: u32 = 3;
        // Events, helpers, zones and labels: nothing that we could tell from a packet anyway.
        match key {
            Some(MARK) => match self.mark(register, Field::ConnectionMark) {
                Some(actions) => self.parts.extend(actions.into_iter().map(Part::Action)),
                None => self.parts.push(Part::Action(Action::Other("ct mark set".to_owned()))),
            },
            _ => self.parts.push(Part::Note("ct set".to_owned())),
        }
    }

    /// A named object: `NFT_OBJECT_*`.
    fn object(&mut self, data: Attributes<'a>) {
        let name = data.find(2).map(Attribute::string).unwrap_or_default();
        let kind = data.find(1).and_then(Attribute::be32);
        match kind {
            Some(1 | 3 | 7 | 8 | 9) => {
                let what = match kind {
                    Some(1) => "counter",
                    Some(3) => "ct helper",
                    Some(7) => "ct timeout",
                    Some(8) => "secmark",
                    _ => "ct expectation",
                };
                self.parts.push(Part::Note(format!("{what} name {name:?}")));
            }
            Some(10) => self.parts.push(Part::Action(Action::Other(format!("synproxy name {name:?}")))),
            // A quota, a limit, a number of connections; or a map of them.
            _ => self.asked(vec![Match::Other(format!("limit or quota {name:?}"))]),
        }
    }
}

fn one(found: Result<Load, &'static str>) -> Result<Vec<Load>, String> {
    found.map(|load| vec![load]).map_err(str::to_owned)
}

fn model_ip(value: &[u8]) -> Option<std::net::IpAddr> {
    crate::traces::address(value)
}

fn header(base: u32) -> &'static str {
    match base {
        0 => "ll",
        1 => "nh",
        2 => "th",
        _ => "ih",
    }
}

/// nft counts places in headers in bits.
fn bits(bytes: u32) -> u64 {
    u64::from(bytes) * 8
}

/// A verdict; `continue` is nothing.
pub(super) fn verdict_action(verdict: Attribute<'_>) -> Option<Action> {
    let code = verdict.nested().find(1).and_then(Attribute::be32).unwrap_or_default().cast_signed();
    let chain = || verdict.nested().find(2).map(Attribute::string).unwrap_or_default();
    // The upper bits of NF_QUEUE and of NF_DROP have a number and an errno.
    Some(match code {
        -1 => return None,
        -3 => Action::Jump(chain()),
        -4 => Action::Goto(chain()),
        -5 => Action::Return,
        0.. => match code & 0xff {
            0 => Action::Drop,
            1 | 5 => Action::Accept,
            3 => Action::Queue,
            _ => Action::Other(format!("verdict {code}")),
        },
        _ => Action::Other(format!("verdict {code}")),
    })
}

/// `<`, `<=`, `>`, `>=`.
fn ordered(load: Load, how: u32, value: &[u8]) -> Match {
    let is = |values| Match::Is { field: load.field, mask: None, not: false, values };
    match load.kind {
        Kind::V4 | Kind::V6 => {
            let (Value::Net(bound), lowest, highest) =
                (load.kind.value(value, &Names::none()), vec![0; value.len()], vec![0xff; value.len()])
            else {
                return Match::Other("cmp".to_owned());
            };
            let end = |bytes: &[u8]| model_ip(bytes);
            match (how, end(&lowest), end(&highest)) {
                (3, Some(lowest), _) => is(vec![addresses(lowest, bound.addr())]),
                (5, _, Some(highest)) => is(vec![addresses(bound.addr(), highest)]),
                _ => Match::Other("an address before or after another".to_owned()),
            }
        }
        _ => {
            let Some(bound) = load.kind.number(value) else { return Match::Other("cmp".to_owned()) };
            let most = u64::MAX >> (64 - 8 * load.bytes.clamp(1, 8));
            match how {
                2 if bound > 0 => is(vec![Value::Numbers(0, bound - 1)]),
                3 => is(vec![Value::Numbers(0, bound)]),
                4 if bound < most => is(vec![Value::Numbers(bound + 1, most)]),
                5 => is(vec![Value::Numbers(bound, most)]),
                _ => is(Vec::new()),
            }
        }
    }
}

/// Makes one range of two of the same field; says whether that is possible.
fn narrow(before: &mut Match, after: &Match) -> bool {
    let (
        Match::Is { field, mask: None, not: false, values },
        Match::Is { field: other, mask: None, not: false, values: others },
    ) = (before, after)
    else {
        return false;
    };
    let ends = |value: &Value| match value {
        Value::Addresses(first, last) => Some((*first, *last)),
        Value::Net(net) => Some((net.network(), net.broadcast())),
        _ => None,
    };
    if field != other {
        return false;
    }
    let both = match (&values[..], &others[..]) {
        ([Value::Numbers(first, last)], [Value::Numbers(other_first, other_last)]) => {
            let (first, last) = (*first.max(other_first), *last.min(other_last));
            (first <= last).then_some(Value::Numbers(first, last))
        }
        ([one], [other]) => {
            ends(one).zip(ends(other)).and_then(|((first, last), (other_first, other_last))| {
                let (first, last) = (first.max(other_first), last.min(other_last));
                (first <= last).then(|| addresses(first, last))
            })
        }
        _ => None,
    };
    let is_possible = both.is_some();
    values.extend(both);
    if is_possible {
        values.remove(0);
    }
    is_possible
}

/// A change of the packet's bytes: of its addresses and ports, or of what no rule looks at.
fn write(base: Option<u32>, offset: Option<u32>, length: Option<u32>) -> Part {
    let (offset, length) = (offset.unwrap_or(0), length.unwrap_or(0));
    let text = format!("@{},{},{} set", header(base.unwrap_or(3)), bits(offset), bits(length));
    let (first, last) = (offset, offset.saturating_add(length));
    match base {
        // Type of service, time to live: of IPv4 before the protocol, of IPv6 before the next header, and the hop limit.
        Some(1) if last <= 2 || (first, last) == (8, 9) || (first, last) == (7, 8) => Part::Note(text),
        _ => Part::Action(Action::Other(text)),
    }
}
