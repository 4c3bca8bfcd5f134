//! What a rule's expressions have put into registers so far.

use model::filter::{Family, Field, Lookup};

use super::types::Kind;

/// Sixteen registers of four bytes; the four old ones of sixteen bytes are the same memory.
const REGISTERS: usize = 16;

/// What a register holds.
#[derive(Debug, Clone)]
pub(super) enum What<'a> {
    /// Fields of the packet, one after the other, as one expression loads them.
    Fields(Vec<Load>),
    /// Bytes that the rule has.
    Value(&'a [u8]),
    /// What a map has for the packet, from this byte of the element's data on.
    Map(Lookup, usize),
    /// What is not understood, as a text.
    Other(String),
}

/// A field in a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) field: Field,
    pub(super) kind: Kind,
    /// How many bytes of it.
    pub(super) bytes: usize,
}

/// A register's content, and what was done to it since: `content & mask ^ flip`.
#[derive(Debug, Clone)]
pub(super) struct Register<'a> {
    pub(super) what: What<'a>,
    pub(super) mask: Option<&'a [u8]>,
    pub(super) flip: Option<&'a [u8]>,
}

impl<'a> Register<'a> {
    pub(super) fn of(what: What<'a>) -> Self {
        Self { what, mask: None, flip: None }
    }

    /// The field, where it is one and nothing was done to it.
    pub(super) fn plain(&self) -> Option<Load> {
        match (&self.what, self.mask, self.flip) {
            (What::Fields(loads), None, None) => match loads[..] {
                [load] => Some(load),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The registers.
#[derive(Debug, Default)]
pub(super) struct Registers<'a> {
    held: [Option<Register<'a>>; REGISTERS],
}

impl<'a> Registers<'a> {
    /// Which of the sixteen an attribute means (`NFT_REG_1` to `4`, `NFT_REG32_00` to `15`).
    fn place(number: u32) -> Option<usize> {
        match number {
            1..=4 => Some((number as usize - 1) * 4),
            8..24 => Some(number as usize - 8),
            _ => None,
        }
    }

    pub(super) fn put(&mut self, number: Option<u32>, register: Register<'a>) {
        if let Some(place) = number.and_then(Self::place) {
            self.held[place] = Some(register);
        }
    }

    pub(super) fn get(&self, number: Option<u32>) -> Option<&Register<'a>> {
        self.held[number.and_then(Self::place)?].as_ref()
    }

    /// The fields that are the key of a lookup: from a register on, so many bytes; each field begins a register.
    pub(super) fn key(&self, number: Option<u32>, bytes: usize) -> Option<Vec<Field>> {
        let mut place = number.and_then(Self::place)?;
        let (mut fields, mut left) = (Vec::with_capacity(2), bytes);
        while left > 0 {
            let load = self.held.get(place)?.as_ref()?.plain()?;
            // A prefix of a field is not the field.
            (load.bytes == whole(load.kind).unwrap_or(load.bytes)).then_some(())?;
            fields.push(load.field);
            let padded = load.bytes.next_multiple_of(4);
            place += padded / 4;
            left = left.saturating_sub(padded);
        }
        Some(fields)
    }
}

/// How many bytes a whole one has, where there are shorter ones.
fn whole(kind: Kind) -> Option<usize> {
    match kind {
        Kind::V4 => Some(4),
        Kind::V6 => Some(16),
        Kind::Name => Some(16),
        _ => None,
    }
}

/// A table of a header's fields: where each begins, how long it is.
type Header = &'static [(u32, u32, Field, Kind)];

const LINK: Header = &[
    (0, 6, Field::EtherDestination, Kind::Mac),
    (6, 6, Field::EtherSource, Kind::Mac),
    (12, 2, Field::EtherType, Kind::Network),
];
const IPV4: Header = &[
    (9, 1, Field::Protocol, Kind::Network),
    (12, 4, Field::SourceAddress, Kind::V4),
    (16, 4, Field::DestinationAddress, Kind::V4),
];
const IPV6: Header = &[
    (6, 1, Field::Protocol, Kind::Network),
    (8, 16, Field::SourceAddress, Kind::V6),
    (24, 16, Field::DestinationAddress, Kind::V6),
];
const PORTS: Header =
    &[(0, 2, Field::SourcePort, Kind::Network), (2, 2, Field::DestinationPort, Kind::Network)];
const TCP: Header = &[
    (0, 2, Field::SourcePort, Kind::Network),
    (2, 2, Field::DestinationPort, Kind::Network),
    (13, 1, Field::TcpFlags, Kind::Network),
];
const ICMP: Header = &[(0, 1, Field::IcmpType, Kind::Network), (1, 1, Field::IcmpCode, Kind::Network)];

/// What is known of a packet when an expression looks into it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) v6: Option<bool>,
    pub(super) protocol: Option<u8>,
}

impl Known {
    pub(super) fn of(family: Family) -> Self {
        let v6 = match family {
            Family::Ip => Some(false),
            Family::Ip6 => Some(true),
            _ => None,
        };
        Self { v6, protocol: None }
    }
}

/// The fields that bytes of a packet are; nft loads neighbouring ones at once.
pub(super) fn payload(base: u32, offset: u32, length: u32, known: Known) -> Option<Vec<Load>> {
    let header = match base {
        0 => LINK,
        // Where it does not say which, the offsets tell.
        1 if known.v6.unwrap_or(matches!(offset, 8 | 24)) => IPV6,
        1 => IPV4,
        2 => match known.protocol {
            Some(6) => TCP,
            Some(1 | 58) => ICMP,
            _ => PORTS,
        },
        _ => return None,
    };
    let (mut at, end) = (offset, offset.checked_add(length)?);
    let mut loads = Vec::with_capacity(1);
    while at < end {
        let (start, size, field, kind) = header.iter().find(|(start, ..)| *start == at)?;
        let taken = (*size).min(end - start);
        // Of an address, the first bytes are a prefix; of a port they are nothing.
        if taken < *size && !matches!(kind, Kind::V4 | Kind::V6) {
            return None;
        }
        loads.push(Load { field: *field, kind: *kind, bytes: taken as usize });
        at += taken;
    }
    (!loads.is_empty()).then_some(loads)
}

/// What `meta` loads (`NFT_META_*`).
pub(super) fn meta(key: u32) -> Result<Load, &'static str> {
    let load = |field, kind, bytes| Ok(Load { field, kind, bytes });
    match key {
        1 => load(Field::EtherType, Kind::Network, 2),
        3 => load(Field::Mark, Kind::Host, 4),
        4 => load(Field::InInterface, Kind::Index, 4),
        5 => load(Field::OutInterface, Kind::Index, 4),
        6 => load(Field::InInterface, Kind::Name, 16),
        7 => load(Field::OutInterface, Kind::Name, 16),
        15 => load(Field::Family, Kind::Network, 1),
        16 => load(Field::Protocol, Kind::Network, 1),
        19 => load(Field::PacketType, Kind::Network, 1),
        0 => Err("meta length"),
        2 => Err("meta priority"),
        8 => Err("meta iiftype"),
        9 => Err("meta oiftype"),
        10 => Err("meta skuid"),
        11 => Err("meta skgid"),
        13 => Err("meta rtclassid"),
        17 => Err("meta ibrname"),
        18 => Err("meta obrname"),
        20 => Err("meta cpu"),
        21 => Err("meta iifgroup"),
        22 => Err("meta oifgroup"),
        23 => Err("meta cgroup"),
        25 => Err("meta ipsec"),
        26 => Err("meta iifkind"),
        27 => Err("meta oifkind"),
        30..=32 => Err("meta time"),
        33 => Err("meta sdif"),
        34 => Err("meta sdifname"),
        _ => Err("meta"),
    }
}

/// What `ct` loads (`NFT_CT_*`), of the original direction where one is asked for.
pub(super) fn ct(key: u32, direction: Option<u8>, v6: Option<bool>) -> Result<Load, &'static str> {
    let load = |field, kind, bytes| Ok(Load { field, kind, bytes });
    let address = |v6: Option<bool>| match v6 {
        Some(false) => Some((Kind::V4, 4)),
        Some(true) => Some((Kind::V6, 16)),
        None => None,
    };
    let kind = match key {
        19 | 20 => Some((Kind::V4, 4)),
        21 | 22 => Some((Kind::V6, 16)),
        _ => address(v6),
    };
    match (key, direction, kind) {
        (0, ..) => load(Field::ConnectionState, Kind::Host, 4),
        (1, ..) => load(Field::ConnectionDirection, Kind::Network, 1),
        (2, ..) => load(Field::ConnectionStatus, Kind::Host, 4),
        (3, ..) => load(Field::ConnectionMark, Kind::Host, 4),
        (8 | 19 | 21, Some(0), Some((kind, bytes))) => load(Field::OriginalSource, kind, bytes),
        (9 | 20 | 22, Some(0), Some((kind, bytes))) => load(Field::OriginalDestination, kind, bytes),
        (10, Some(0), _) => load(Field::Protocol, Kind::Network, 1),
        (12, Some(0), _) => load(Field::OriginalPort, Kind::Network, 2),
        (6, ..) => Err("ct helper"),
        (8..=12 | 19..=22, ..) => Err("ct reply"),
        (13, ..) => Err("ct label"),
        (14..=16, ..) => Err("ct packets"),
        (17, ..) => Err("ct zone"),
        _ => Err("ct"),
    }
}
