//! Whether a packet is what a rule asks for: yes, no, or not known.

use std::net::IpAddr;

use model::filter::{AddressType, Element, Field, Hook, Match, Set, Table, Value};

use super::packet::{Layer, Packet, State};

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    Perhaps(Unknown),
}

/// Why something is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unknown {
    /// Chance decides.
    Chance,
    /// A fact about the packet that nobody gave.
    Fact(Field),
    /// A set that is not there as a whole.
    Set,
    /// A rule that is not understood.
    Text,
    /// A program decides.
    Program,
    /// A chain that is not there.
    Chain,
}

impl Answer {
    fn of(is: bool) -> Self {
        if is { Answer::Yes } else { Answer::No }
    }

    /// What is not known stays so.
    fn unless(self, not: bool) -> Self {
        match self {
            Answer::Yes if not => Answer::No,
            Answer::No if not => Answer::Yes,
            other => other,
        }
    }

    /// Both.
    pub(super) fn and(self, other: impl FnOnce() -> Answer) -> Self {
        match self {
            Answer::No => Answer::No,
            Answer::Yes => other(),
            // Chance and something unknown together are unknown.
            Answer::Perhaps(why) => match other() {
                Answer::No => Answer::No,
                Answer::Yes => Answer::Perhaps(why),
                Answer::Perhaps(other) => Answer::Perhaps(why.max(other)),
            },
        }
    }

    /// Either.
    fn or(self, other: impl FnOnce() -> Answer) -> Self {
        match self {
            Answer::Yes => Answer::Yes,
            Answer::No => other(),
            Answer::Perhaps(why) => match other() {
                Answer::Yes => Answer::Yes,
                Answer::No => Answer::Perhaps(why),
                Answer::Perhaps(other) => Answer::Perhaps(why.max(other)),
            },
        }
    }
}

/// What a field of the packet is.
#[derive(Debug, Clone, Copy)]
enum Content<'a> {
    Address(IpAddr),
    /// A number, of which some bits are not known.
    Number(u64, u64),
    Name(&'a str),
    /// The packet has no such field: whatever is asked about it, the rule does not match.
    Absent,
    Unknown(Unknown),
}

/// A packet at a hook.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) packet: &'a Packet,
    pub(super) hook: Hook,
}

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;
/// Protocols whose headers begin with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [TCP, 17, 33, 132, 136];

impl<'a> Seen<'a> {
    /// Whether the packet fits.
    pub(super) fn fits(&self, table: &Table, wanted: &Match) -> Answer {
        match wanted {
            Match::Is { field, mask, not, values } => self.is(*field, *mask, *not, values),
            Match::In { fields, not, set } => match table.set(set) {
                None => Answer::Perhaps(Unknown::Set),
                Some(set) => self.is_in(fields, set, *not),
            },
            Match::Sometimes(_) => Answer::Perhaps(Unknown::Chance),
            Match::Other(_) => Answer::Perhaps(Unknown::Text),
        }
    }

    fn is(&self, field: Field, mask: Option<u64>, not: bool, values: &[Value]) -> Answer {
        let content = self.content(field);
        match content {
            Content::Absent => return Answer::No,
            Content::Unknown(why) => return Answer::Perhaps(why),
            // A rule that asks for an IPv4 address, asks whether it is IPv4 first.
            Content::Address(ip) if !values.iter().any(|value| may_be_of(ip, value)) => return Answer::No,
            _ => {}
        }
        let any = values.iter().fold(Answer::No, |so_far, value| {
            so_far.or(|| compare(content, mask.unwrap_or(u64::MAX), value, field))
        });
        any.unless(not)
    }

    fn is_in(&self, fields: &[Field], set: &Set, not: bool) -> Answer {
        let contents: Vec<Content<'a>> = fields.iter().map(|field| self.content(*field)).collect();
        if contents.iter().any(|content| matches!(content, Content::Absent)) {
            return Answer::No;
        }
        let mut found = set
            .elements
            .iter()
            .fold(Answer::No, |so_far, element| so_far.or(|| is_element(fields, &contents, element)));
        if found == Answer::No && set.cut.is_some() {
            found = Answer::Perhaps(Unknown::Set);
        }
        found.unless(not)
    }

    /// The elements of a map that may be the packet's, and whether there may be none.
    pub(super) fn look_up<'t>(&self, table: &'t Table, fields: &[Field], set: &str) -> Hits<'t> {
        let Some(set) = table.set(set) else {
            return Hits { elements: Vec::new(), miss: Answer::Perhaps(Unknown::Set) };
        };
        let contents: Vec<Content<'a>> = fields.iter().map(|field| self.content(*field)).collect();
        let none = |miss| Hits { elements: Vec::new(), miss };
        if contents.iter().any(|content| matches!(content, Content::Absent)) {
            return none(Answer::Yes);
        }
        let mut elements = Vec::new();
        let mut rest = None;
        for element in &set.elements {
            if element.key == [Value::Any] {
                rest = Some(element);
                continue;
            }
            match is_element(fields, &contents, element) {
                // There is one element for a key.
                Answer::Yes => return Hits { elements: vec![(element, Answer::Yes)], miss: Answer::No },
                Answer::No => {}
                perhaps => elements.push((element, perhaps)),
            }
        }
        let mut miss = match (&elements[..], &set.cut) {
            (_, Some(_)) => Answer::Perhaps(Unknown::Set),
            ([], None) => Answer::Yes,
            ([first, ..], None) => first.1,
        };
        if elements.iter().all(|(_, answer)| *answer == Answer::Perhaps(Unknown::Chance))
            && set.cut.is_none()
            && is_covered(fields, &elements)
        {
            miss = Answer::No;
        }
        match rest {
            Some(rest) if miss != Answer::No => {
                elements.push((rest, miss));
                miss = if set.cut.is_some() { miss } else { Answer::No };
            }
            _ => {}
        }
        Hits { elements, miss }
    }

    fn content(&self, field: Field) -> Content<'a> {
        let packet = self.packet;
        let unknown = Content::Unknown(Unknown::Fact(field));
        let number = |number: u64| Content::Number(number, 0);
        let port = |port: Option<u16>| match port {
            _ if !WITH_PORTS.contains(&packet.protocol) => Content::Absent,
            Some(port) => number(port.into()),
            None => unknown,
        };
        // An interface that there is none of has an empty name, for nft and for iptables.
        let name = |name: &'a Option<String>, has_one: bool| match name {
            Some(name) => Content::Name(name),
            None if has_one => unknown,
            None => Content::Name(""),
        };
        let is_ours = matches!(self.hook, Hook::Output | Hook::Postrouting);
        match field {
            Field::SourceAddress => Content::Address(packet.source),
            Field::DestinationAddress => Content::Address(packet.destination),
            Field::Protocol => number(packet.protocol.into()),
            Field::Family => number(if packet.source.is_ipv4() { 2 } else { 10 }),
            Field::EtherType => number(if packet.source.is_ipv4() { 0x0800 } else { 0x86dd }),
            Field::SourcePort => port(packet.source_port),
            Field::DestinationPort => port(packet.destination_port),
            Field::InInterface => name(&packet.input, !is_ours && self.hook != Hook::Egress),
            Field::OutInterface => {
                name(&packet.output, is_ours || matches!(self.hook, Hook::Forward | Hook::Egress))
            }
            Field::InPort => name(&packet.input_port, packet.layer == Layer::BridgeNetfilter),
            Field::OutPort => {
                let leaves = matches!(self.hook, Hook::Forward | Hook::Postrouting);
                name(&packet.output_port, packet.layer == Layer::BridgeNetfilter && leaves)
            }
            Field::Bridged => number(u64::from(packet.layer == Layer::BridgeNetfilter)),
            Field::Mark => Content::Number(packet.mark.into(), packet.unknown_mark.into()),
            Field::ConnectionMark => packet.connection_mark.map_or(unknown, |mark| number(mark.into())),
            Field::ConnectionState => number(match packet.state {
                State::Invalid => 1,
                State::Established => 2,
                State::Related => 4,
                State::New => 8,
                State::Untracked => 64,
            }),
            Field::ConnectionStatus => {
                let bits = [(packet.source_translated, 16), (packet.destination_translated, 32)];
                let known = bits.iter().filter(|(is, _)| is.is_some()).map(|(_, bit)| bit).sum::<u64>();
                let set = bits.iter().filter(|(is, _)| *is == Some(true)).map(|(_, bit)| bit).sum();
                Content::Number(set, !known)
            }
            Field::ConnectionDirection if packet.state == State::New => number(0),
            Field::OriginalSource if packet.state == State::New => match packet.source_translated {
                Some(false) => Content::Address(packet.source),
                _ => unknown,
            },
            Field::OriginalDestination => match (packet.original, packet.state) {
                (Some((address, _)), _) => Content::Address(address),
                (None, State::New) if packet.destination_translated == Some(false) => {
                    Content::Address(packet.destination)
                }
                _ => unknown,
            },
            Field::OriginalPort => match (packet.original, packet.state) {
                (Some((_, original)), _) => port(original),
                (None, State::New) if packet.destination_translated == Some(false) => {
                    port(packet.destination_port)
                }
                _ => unknown,
            },
            Field::SourceType => address_type(packet.source_type, packet.source).map_or(unknown, number),
            Field::DestinationType => {
                address_type(packet.destination_type, packet.destination).map_or(unknown, number)
            }
            Field::IcmpType | Field::IcmpCode if ![ICMP, ICMP6].contains(&packet.protocol) => Content::Absent,
            Field::IcmpType => packet.icmp.map_or(unknown, |(kind, _)| number(kind.into())),
            Field::IcmpCode => packet.icmp.map_or(unknown, |(_, code)| number(code.into())),
            Field::TcpFlags if packet.protocol != TCP => Content::Absent,
            // The first packet of a connection.
            Field::TcpFlags if packet.state == State::New => number(2),
            Field::PacketType if packet.layer == Layer::Network && !packet.destination.is_multicast() => {
                match packet.destination_type {
                    Some(AddressType::Broadcast) | None if self.hook != Hook::Forward && !is_ours => unknown,
                    _ => number(0),
                }
            }
            Field::Random(_) => Content::Unknown(Unknown::Chance),
            Field::ConnectionDirection
            | Field::OriginalSource
            | Field::TcpFlags
            | Field::PacketType
            | Field::EtherSource
            | Field::EtherDestination => unknown,
        }
    }
}

/// The elements of a map that may be the packet's.
pub(super) struct Hits<'t> {
    /// With how sure that is.
    pub(super) elements: Vec<(&'t Element, Answer)>,
    /// Whether it is none of them.
    pub(super) miss: Answer,
}

/// Whether every number that chance may bring has an element.
fn is_covered(fields: &[Field], elements: &[(&Element, Answer)]) -> bool {
    const MOST: u32 = 10_000;
    let Some((place, modulus)) = fields.iter().enumerate().find_map(|(place, field)| match field {
        Field::Random(modulus) => Some((place, *modulus)),
        _ => None,
    }) else {
        return false;
    };
    let has = |number: u64| {
        elements.iter().any(|(element, _)| match element.key.get(place) {
            Some(Value::Number(only)) => *only == number,
            Some(Value::Numbers(first, last)) => (*first..=*last).contains(&number),
            Some(Value::Any) => true,
            _ => false,
        })
    };
    modulus <= MOST && (0..u64::from(modulus)).all(has)
}

fn is_element(fields: &[Field], contents: &[Content<'_>], element: &Element) -> Answer {
    if element.key == [Value::Any] {
        return Answer::Yes;
    }
    if element.key.len() != contents.len() {
        return Answer::Perhaps(Unknown::Text);
    }
    let parts = fields.iter().zip(contents).zip(&element.key);
    parts.fold(Answer::Yes, |so_far, ((field, content), value)| {
        so_far.and(|| compare(*content, u64::MAX, value, *field))
    })
}

fn compare(content: Content<'_>, mask: u64, value: &Value, field: Field) -> Answer {
    match (content, value) {
        (Content::Unknown(why), _) => Answer::Perhaps(why),
        (_, Value::Any) => Answer::Yes,
        (_, Value::Other(_)) => Answer::Perhaps(Unknown::Text),
        (Content::Address(ip), Value::Net(net)) => Answer::of(net.contains(&ip)),
        (Content::Address(ip), Value::Addresses(first, last)) => {
            Answer::of(ip.is_ipv4() == first.is_ipv4() && *first <= ip && ip <= *last)
        }
        (Content::Number(number, unknown), Value::Number(wanted)) => {
            let unknown = unknown & mask;
            if (number & mask ^ wanted) & !unknown != 0 {
                Answer::No
            } else if unknown != 0 {
                Answer::Perhaps(Unknown::Fact(field))
            } else {
                Answer::Yes
            }
        }
        (Content::Number(_, unknown), Value::Numbers(..)) if unknown & mask != 0 => {
            Answer::Perhaps(Unknown::Fact(field))
        }
        (Content::Number(number, _), Value::Numbers(first, last)) => {
            Answer::of((*first..=*last).contains(&(number & mask)))
        }
        (Content::Name(name), Value::Name(wanted)) => Answer::of(name == wanted),
        (Content::Name(name), Value::Names(prefix)) => Answer::of(name.starts_with(prefix.as_str())),
        // Not what the field is: whoever wrote this meant something that we do not understand.
        _ => Answer::Perhaps(Unknown::Text),
    }
}

/// Whether a value could be about addresses of this family.
fn may_be_of(ip: IpAddr, value: &Value) -> bool {
    match value {
        Value::Net(net) => net.addr().is_ipv4() == ip.is_ipv4(),
        Value::Addresses(first, _) => first.is_ipv4() == ip.is_ipv4(),
        _ => true,
    }
}

fn address_type(known: Option<AddressType>, address: IpAddr) -> Option<u64> {
    let plain = || match address {
        ip if ip.is_multicast() => Some(AddressType::Multicast),
        IpAddr::V4(ip) if ip.is_broadcast() => Some(AddressType::Broadcast),
        ip if ip.is_loopback() => Some(AddressType::Local),
        _ => None,
    };
    known.or_else(plain).map(|kind| kind as u64)
}
