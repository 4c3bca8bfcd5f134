//! What rules change of a packet: its addresses and ports, its mark.

use std::net::IpAddr;

use model::filter::{Action, Element, Field, Hook, Table, Translation, Value};

use super::field::{Answer, Seen, Unknown};
use super::packet::{Change, RuleRef, State};
use super::walk::{At, Doubt, Way, doubt};

/// Of a translation to a range of addresses, so many are followed.
const MOST_ADDRESSES: u32 = 16;

/// A change, without the rule that makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeOf {
    Destination(Option<IpAddr>, Option<u16>),
    Source(IpAddr, Option<u16>),
    Masquerade,
    Mark(u32),
    Untracked,
}

impl ChangeOf {
    pub(super) fn by(self, by: RuleRef) -> Change {
        match self {
            ChangeOf::Destination(address, port) => Change::Destination { address, port, by },
            ChangeOf::Source(address, port) => Change::Source { address, port, by },
            ChangeOf::Masquerade => Change::Masquerade { by },
            ChangeOf::Mark(mark) => Change::Mark { mark, by },
            ChangeOf::Untracked => Change::Untracked { by },
        }
    }
}

/// What a translation comes to.
#[derive(Default)]
pub(super) struct Translated {
    pub(super) done: Vec<Way>,
    /// Its map has no element for the packet.
    pub(super) missed: Option<Way>,
}

pub(super) fn translate(table: &Table, hook: Hook, action: &Action, at: At, mut way: Way) -> Translated {
    way.translated = true;
    match action {
        Action::Masquerade { ports } => {
            // Of what has that address already, nothing is translated.
            way.packet.source_translated = None;
            way.packet.source_type = None;
            if ports.is_some() {
                way.packet.source_port = None;
            }
            way.changes.push((ChangeOf::Masquerade, at));
            Translated { done: vec![way], missed: None }
        }
        Action::Redirect { ports } => {
            let port = (*ports).and_then(one);
            keep_original(&mut way);
            let before = (way.packet.destination, way.packet.destination_port);
            if ports.is_some() {
                way.packet.destination_port = port;
            }
            // Packets from here go to the loopback interface, others to the address of the interface that they came in by.
            if hook == Hook::Output {
                way.packet.destination = match way.packet.destination {
                    IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
                    IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
                };
            }
            let after = (way.packet.destination, way.packet.destination_port);
            way.packet.destination_translated = match hook {
                Hook::Output => is_other(before, after),
                // The address is that of an interface that only the caller knows.
                _ => is_other(before, after).filter(|is| *is),
            };
            way.packet.destination_type = Some(model::filter::AddressType::Local);
            way.changes.push((ChangeOf::Destination(None, port), at));
            Translated { done: vec![way], missed: None }
        }
        Action::SourceNat(to) => targets(table, hook, to, at, way, |way, address, ports| {
            let address = address.unwrap_or(way.packet.source);
            let before = (way.packet.source, way.packet.source_port);
            if let Some(ports) = ports {
                way.packet.source_port = one(ports);
            }
            way.packet.source = address;
            way.packet.source_translated = is_other(before, (address, way.packet.source_port));
            way.packet.source_type = None;
            way.changes.push((ChangeOf::Source(address, ports.and_then(one)), at));
        }),
        Action::DestinationNat(to) => targets(table, hook, to, at, way, |way, address, ports| {
            keep_original(way);
            let before = (way.packet.destination, way.packet.destination_port);
            let address = address.unwrap_or(way.packet.destination);
            if let Some(ports) = ports {
                way.packet.destination_port = one(ports);
            }
            way.packet.destination = address;
            way.packet.destination_translated = is_other(before, (address, way.packet.destination_port));
            way.packet.destination_type = None;
            way.changes.push((ChangeOf::Destination(Some(address), ports.and_then(one)), at));
        }),
        _ => Translated { done: Vec::new(), missed: Some(way) },
    }
}

fn keep_original(way: &mut Way) {
    let packet = &mut way.packet;
    packet.original.get_or_insert((packet.destination, packet.destination_port));
}

/// Whether an address and port became others: where they did not, connection tracking does not call them translated
/// (`nf_nat_setup_info`).
fn is_other(before: (IpAddr, Option<u16>), after: (IpAddr, Option<u16>)) -> Option<bool> {
    if before.0 != after.0 {
        return Some(true);
    }
    match (before.1, after.1) {
        (None, None) => Some(false),
        (before, after) => Some(before? != after?),
    }
}

fn one((first, last): (u16, u16)) -> Option<u16> {
    (first == last).then_some(first)
}

/// Each place where a translation may lead.
fn targets(
    table: &Table,
    hook: Hook,
    to: &Translation,
    at: At,
    way: Way,
    change: impl Fn(&mut Way, Option<IpAddr>, Option<(u16, u16)>),
) -> Translated {
    let mut result = Translated::default();
    let Some(map) = &to.map else {
        let all = each_address(to.addresses);
        for address in &all {
            let mut taken = way.clone();
            if all.len() > 1 {
                taken.doubt(Doubt { at, why: Unknown::Chance, did: true });
            }
            change(&mut taken, *address, to.ports);
            result.done.push(taken);
        }
        return result;
    };
    let seen = Seen { packet: &way.packet, hook };
    let hits = seen.look_up(table, &map.fields, &map.set);
    for (element, answer) in &hits.elements {
        let mut taken = way.clone();
        doubt(at, *answer, true).into_iter().for_each(|doubt| taken.doubt(doubt));
        match place(element, to) {
            Some((addresses, ports)) => {
                // Of a range, its first stands for all: a map has many elements already.
                change(&mut taken, addresses.map(|(first, _)| first), ports);
            }
            None => {
                taken.doubt(Doubt { at, why: Unknown::Text, did: true });
                taken.is_lost = true;
            }
        }
        result.done.push(taken);
    }
    if hits.miss != Answer::No {
        let mut missed = way;
        missed.translated = false;
        doubt(at, hits.miss, false).into_iter().for_each(|doubt| missed.doubt(doubt));
        result.missed = Some(missed);
    }
    result
}

fn each_address(addresses: Option<(IpAddr, IpAddr)>) -> Vec<Option<IpAddr>> {
    match addresses {
        None => vec![None],
        Some((IpAddr::V4(first), IpAddr::V4(last))) if first < last => {
            let (first, last) = (u32::from(first), u32::from(last));
            (first..=last.min(first.saturating_add(MOST_ADDRESSES - 1)))
                .map(|ip| Some(IpAddr::from(ip.to_be_bytes())))
                .collect()
        }
        Some((first, last)) if first == last => vec![Some(first)],
        Some((first, last)) => vec![Some(first), Some(last)],
    }
}

type Place = (Option<(IpAddr, IpAddr)>, Option<(u16, u16)>);

/// Where an element of a map leads.
fn place(element: &Element, to: &Translation) -> Option<Place> {
    let (mut addresses, mut ports) = (to.addresses, to.ports);
    for value in &element.data {
        match value {
            Value::Net(net) if net.network() == net.broadcast() => addresses = Some((net.addr(), net.addr())),
            Value::Net(net) => addresses = Some((net.network(), net.broadcast())),
            Value::Addresses(first, last) => addresses = Some((*first, *last)),
            Value::Number(port) => {
                let port = u16::try_from(*port).ok()?;
                ports = Some((port, port));
            }
            Value::Numbers(first, last) => {
                ports = Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?));
            }
            _ => return None,
        }
    }
    (!element.data.is_empty()).then_some((addresses, ports))
}

/// Changes a mark, or that the packet's connection is tracked.
pub(super) fn mark(action: &Action, at: At, way: &mut Way) {
    let before = way.packet.mark;
    match *action {
        Action::SetMark { value, mask } => {
            way.packet.mark = way.packet.mark & !mask ^ value;
            way.packet.unknown_mark &= !mask;
        }
        Action::SetConnectionMark { value, mask } => {
            way.packet.connection_mark = match way.packet.connection_mark {
                Some(mark) => Some(mark & !mask ^ value),
                None if mask == u32::MAX => Some(value),
                None => None,
            };
        }
        Action::SaveMark { mask } => {
            let is_known = way.packet.unknown_mark & mask == 0;
            way.packet.connection_mark = match way.packet.connection_mark {
                Some(mark) if is_known => Some(mark & !mask | way.packet.mark & mask),
                None if is_known && mask == u32::MAX => Some(way.packet.mark),
                _ => None,
            };
        }
        Action::RestoreMark { mask } => match way.packet.connection_mark {
            Some(mark) => {
                way.packet.mark = way.packet.mark & !mask | mark & mask;
                way.packet.unknown_mark &= !mask;
            }
            None => way.packet.unknown_mark |= mask,
        },
        Action::Notrack => {
            way.packet.state = State::Untracked;
            way.changes.push((ChangeOf::Untracked, at));
        }
        _ => {}
    }
    if way.packet.mark != before {
        way.changes.push((ChangeOf::Mark(way.packet.mark), at));
    }
}

/// A field as a person would call it.
pub(super) fn name_of(field: Field) -> &'static str {
    match field {
        Field::SourceAddress => "source",
        Field::DestinationAddress => "destination",
        Field::Protocol => "protocol",
        Field::Family | Field::EtherType => "family",
        Field::SourcePort => "source port",
        Field::DestinationPort => "destination port",
        Field::InInterface => "input interface",
        Field::OutInterface => "output interface",
        Field::InPort => "input port of the bridge",
        Field::OutPort => "output port of the bridge",
        Field::Mark => "mark",
        Field::ConnectionMark => "connection's mark",
        Field::ConnectionState => "connection's state",
        Field::ConnectionStatus => "connection's status",
        Field::ConnectionDirection => "direction",
        Field::OriginalSource => "original source",
        Field::OriginalDestination => "original destination",
        Field::OriginalPort => "original port",
        Field::SourceType => "source's type",
        Field::DestinationType => "destination's type",
        Field::IcmpType => "ICMP type",
        Field::IcmpCode => "ICMP code",
        Field::TcpFlags => "TCP flags",
        Field::PacketType => "packet type",
        Field::EtherSource => "Ethernet source",
        Field::EtherDestination => "Ethernet destination",
        Field::Bridged => "way over a bridge",
        Field::Random(_) => "share of chance",
    }
}
