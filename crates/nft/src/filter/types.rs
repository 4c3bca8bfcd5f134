//! Bytes in registers and sets, as values.

use std::net::IpAddr;

use ipnet::IpNet;
use model::MacAddr;
use model::filter::Value;

use super::Names;

/// How bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    V4,
    V6,
    Mac,
    /// An interface's name.
    Name,
    /// An interface's index.
    Index,
    /// A number in the machine's byte order.
    Host,
    /// A number in network byte order.
    Network,
}

impl Kind {
    /// How nft's type of this number (include/datatype.h of nftables) is kept, and in how many bytes. In sets of ranges, numbers are in
    /// network byte order, so that they can be compared byte by byte.
    pub(super) fn of_type(number: u32, has_ranges: bool) -> Option<(Self, usize)> {
        let host = if has_ranges { Kind::Network } else { Kind::Host };
        Some(match number {
            7 => (Kind::V4, 4),
            8 => (Kind::V6, 16),
            9 => (Kind::Mac, 6),
            41 => (Kind::Name, 16),
            20 if !has_ranges => (Kind::Index, 4),
            // nfproto, inet_proto, icmp types and codes, ct direction, pkttype, tcp flags, boolean.
            2 | 12 | 14 | 15 | 27 | 29 | 31..=34 | 39 => (Kind::Network, 1),
            // ether_type, inet_service.
            10 | 13 => (Kind::Network, 2),
            // integer (numgen, jhash), mark, ct state, ct status, fib's address type.
            4 | 19 | 26 | 28 | 38 => (host, 4),
            _ => return None,
        })
    }

    /// One value. Addresses that are shorter than whole ones are prefixes, and names without an end begin so.
    pub(super) fn value(self, bytes: &[u8], names: &Names<'_>) -> Value {
        let other = || Value::Other(hexadecimal(bytes));
        match self {
            Kind::V4 | Kind::V6 => match self.address(bytes) {
                Some(address) => {
                    IpNet::new(address, bytes.len() as u8 * 8).map_or_else(|_| other(), Value::Net)
                }
                None => other(),
            },
            Kind::Mac => bytes.try_into().map_or_else(|_| other(), |mac| Value::Mac(MacAddr(mac))),
            Kind::Name => match bytes.iter().position(|byte| *byte == 0) {
                Some(end) => Value::Name(text(&bytes[..end])),
                None => Value::Names(text(bytes)),
            },
            Kind::Index => match self.number(bytes) {
                Some(index) => names.of(index as u32).map_or_else(other, Value::Name),
                None => other(),
            },
            Kind::Host | Kind::Network => self.number(bytes).map_or_else(other, Value::Number),
        }
    }

    /// Values from one to another.
    pub(super) fn range(self, first: &[u8], last: &[u8], names: &Names<'_>) -> Value {
        if first == last {
            return self.value(first, names);
        }
        let other = || Value::Other(format!("{}-{}", hexadecimal(first), hexadecimal(last)));
        match self {
            Kind::V4 | Kind::V6 => match (self.address(first), self.address(last)) {
                (Some(first), Some(last)) => addresses(first, last),
                _ => other(),
            },
            // nft writes "eth*" as the range of all names that begin so.
            Kind::Name => {
                let same = first.iter().zip(last).take_while(|(a, b)| a == b).count();
                let is_prefix = first[same..].iter().all(|byte| *byte == 0)
                    && last.get(same..).is_some_and(|rest| rest.iter().all(|byte| *byte == 0xff));
                if is_prefix { Value::Names(text(&first[..same])) } else { other() }
            }
            Kind::Host | Kind::Network => match (self.number(first), self.number(last)) {
                (Some(first), Some(last)) => Value::Numbers(first, last),
                _ => other(),
            },
            Kind::Mac | Kind::Index => other(),
        }
    }

    /// The addresses of a value and a mask; `None` when the mask is not that of a prefix.
    pub(super) fn masked(self, value: &[u8], mask: &[u8]) -> Option<Value> {
        let net = IpNet::with_netmask(self.address(value)?, self.address(mask)?).ok()?;
        Some(Value::Net(net.trunc()))
    }

    pub(super) fn number(self, bytes: &[u8]) -> Option<u64> {
        if bytes.is_empty() || bytes.len() > 8 {
            return None;
        }
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(match self {
            Kind::Network => bytes.iter().fold(0, add),
            _ if cfg!(target_endian = "big") => bytes.iter().fold(0, add),
            _ => bytes.iter().rev().fold(0, add),
        })
    }

    /// Missing bytes are zero.
    fn address(self, bytes: &[u8]) -> Option<IpAddr> {
        match self {
            Kind::V4 if bytes.len() <= 4 => {
                let mut whole = [0; 4];
                whole[..bytes.len()].copy_from_slice(bytes);
                Some(whole.into())
            }
            Kind::V6 if bytes.len() <= 16 => {
                let mut whole = [0; 16];
                whole[..bytes.len()].copy_from_slice(bytes);
                Some(whole.into())
            }
            _ => None,
        }
    }
}

/// Addresses from one to another: a prefix where they are one.
pub(super) fn addresses(first: IpAddr, last: IpAddr) -> Value {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    let differ = (bits(first) ^ bits(last)).checked_add(1);
    let width = if first.is_ipv4() { 32 } else { 128 };
    let host_bits = match differ {
        None => Some(128),
        Some(size) if size.is_power_of_two() => Some(size.trailing_zeros()),
        Some(_) => None,
    };
    let net =
        host_bits.filter(|bits| *bits <= width).and_then(|bits| IpNet::new(first, (width - bits) as u8).ok());
    match net {
        Some(net) if net.network() == first && net.broadcast() == last => Value::Net(net),
        _ => Value::Addresses(first, last),
    }
}

/// Bytes up to the first zero.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    format!("0x{}", model::attachment::hexadecimal(bytes))
}
