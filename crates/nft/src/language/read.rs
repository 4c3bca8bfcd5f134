//! Rules as the kernel lists them, back to data: only what podplumb itself writes.

use std::net::IpAddr;

use netlink::Attributes;

use super::matches::{CT_STATE, CT_STATUS, DESTINATION_TRANSLATED, RESULT_ADDRTYPE};
use super::*;

/// Comparisons (`NFT_CMP_*`).
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const LESS_OR_EQUAL: u32 = 3;
const GREATER_OR_EQUAL: u32 = 5;

/// What the expressions so far have put into the first register.
#[derive(Default)]
struct Loaded {
    fields: Vec<Field>,
    other: Option<Other>,
    mask: Option<Vec<u8>>,
    /// The map that was looked into.
    map: Option<String>,
    /// The first port of a range that nft wrote as two comparisons.
    first: Option<u16>,
}

/// What is no [`Field`].
#[derive(Clone, Copy)]
enum Other {
    IsV6,
    Mark,
    State,
    Status,
    AddressType(End),
}

/// The chain of a listed rule, and the rule, where it is one that podplumb writes.
pub(crate) fn rule(payload: &[u8]) -> Option<(String, Option<Rule>)> {
    let parts = Attributes::after(payload, 4);
    let chain = parts.find(RULE_CHAIN)?.string();
    let mut loaded = Loaded::default();
    let mut matches = Vec::new();
    let mut action = None;
    for part in parts.find(RULE_EXPRESSIONS).into_iter().flat_map(|all| all.nested()) {
        let data = part.nested().find(EXPRESSION_DATA).map(|data| data.nested());
        let name = part.nested().find(EXPRESSION_NAME).map(|name| name.string());
        let (Some(data), Some(name)) = (data, name) else { return Some((chain, None)) };
        let step = loaded.read(&name, data);
        match step {
            Some(Step::Goes) => {}
            Some(Step::Asks(found)) => {
                loaded = Loaded::default();
                matches.push(found);
            }
            Some(Step::Does(found)) => action = Some(found),
            None => return Some((chain, None)),
        }
    }
    Some((chain, action.map(|action| Rule { matches, action })))
}

/// What an expression is.
enum Step {
    /// Part of the next.
    Goes,
    Asks(Match),
    Does(Action),
}

fn value(data: Attributes<'_>, kind: u16) -> Option<Vec<u8>> {
    Some(data.find(kind)?.nested().find(DATA_VALUE)?.value.to_vec())
}

/// A name that can be printed: others may write into the table, and the kernel takes nearly any bytes.
fn printable(name: String) -> Option<String> {
    Some(name).filter(|name| !name.contains(|c: char| c.is_control() || c == '"'))
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

fn port(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_be_bytes)
}

impl Loaded {
    fn read(&mut self, name: &str, data: Attributes<'_>) -> Option<Step> {
        let be32 = |kind: u16| data.find(kind).and_then(|attribute| attribute.be32());
        match name {
            "meta" => match be32(2)? {
                META_NFPROTO => self.other = Some(Other::IsV6),
                META_MARK => self.other = Some(Other::Mark),
                META_L4PROTO => self.fields.push(Field::Protocol),
                META_IIFNAME => self.fields.push(Field::InInterface),
                META_OIFNAME => self.fields.push(Field::OutInterface),
                _ => return None,
            },
            "payload" => self.fields.push(match (be32(2)?, be32(3)?, be32(4)?) {
                (NETWORK, 12, 1..=4) => Field::IpSource,
                (NETWORK, 16, 1..=4) => Field::IpDestination,
                (NETWORK, 8, 1..=16) => Field::Ip6Source,
                (NETWORK, 24, 1..=16) => Field::Ip6Destination,
                (TRANSPORT, 0, 2) => Field::SourcePort,
                (TRANSPORT, 2, 2) => Field::DestinationPort,
                _ => return None,
            }),
            "ct" => {
                self.other = Some(match be32(2)? {
                    CT_STATE => Other::State,
                    CT_STATUS => Other::Status,
                    _ => return None,
                });
            }
            "fib" => {
                let end = match (be32(2)?, be32(3)?) {
                    (RESULT_ADDRTYPE, 1) => End::Source,
                    (RESULT_ADDRTYPE, 2) => End::Destination,
                    _ => return None,
                };
                self.other = Some(Other::AddressType(end));
            }
            "bitwise" => self.mask = Some(value(data, 4)?),
            "cmp" => match (be32(2)?, &self.fields[..], self.first) {
                (how @ (EQUAL | NOT_EQUAL), ..) => {
                    return self.compared(how == EQUAL, &value(data, 3)?).map(Step::Asks);
                }
                (GREATER_OR_EQUAL, [_], None) => self.first = Some(port(&value(data, 3)?)?),
                (LESS_OR_EQUAL, [field], Some(first)) => {
                    let last = port(&value(data, 3)?)?;
                    return Some(Step::Asks(Match::Ports(*field, first, last, true)));
                }
                _ => return None,
            },
            "range" => {
                let [field] = self.fields[..] else { return None };
                let (first, last) = (port(&value(data, 3)?)?, port(&value(data, 4)?)?);
                return Some(Step::Asks(Match::Ports(field, first, last, be32(2)? == 0)));
            }
            "lookup" if data.find(3).is_some() => self.map = Some(printable(data.find(1)?.string())?),
            "lookup" => {
                let set = printable(data.find(1)?.string())?;
                let fields = std::mem::take(&mut self.fields);
                return Some(Step::Asks(Match::In(fields, set, be32(5).unwrap_or(0) == 0)));
            }
            "nat" => {
                let (map, key) = (self.map.take()?, std::mem::take(&mut self.fields));
                return Some(Step::Does(Action::Dnat { v6: be32(2)? == 10, key, map }));
            }
            "immediate" => {
                let verdict = data.find(2)?.nested().find(DATA_VERDICT)?.nested();
                return Some(Step::Does(match verdict.find(1)?.be32()?.cast_signed() {
                    NF_DROP => Action::Drop,
                    NFT_RETURN => Action::Return,
                    NFT_JUMP => Action::Jump(printable(verdict.find(2)?.string())?),
                    _ => return None,
                }));
            }
            _ => return None,
        }
        Some(Step::Goes)
    }

    /// What it means that the register is equal, or not, to this.
    fn compared(&self, is_equal: bool, value: &[u8]) -> Option<Match> {
        let is_zero = || value.iter().all(|byte| *byte == 0);
        let mask = self.mask.as_deref();
        Some(match (self.other, &self.fields[..]) {
            (Some(Other::IsV6), []) => Match::IsV6(is_equal == (value == [10])),
            (Some(Other::Mark), []) => {
                let bits = mask.map_or(Some(u32::MAX), number)?;
                Match::Mark(number(value)?, bits, is_equal)
            }
            (Some(Other::State), []) if is_zero() => Match::State(number(mask?)?, !is_equal),
            (Some(Other::Status), []) if number(mask?)? == DESTINATION_TRANSLATED => Match::Translated,
            (Some(Other::AddressType(end)), []) => Match::AddressType(end, number(value)?, is_equal),
            (None, [Field::Protocol]) => Match::Protocol(*value.first()?, is_equal),
            (None, [field @ (Field::SourcePort | Field::DestinationPort)]) => {
                Match::Ports(*field, port(value)?, port(value)?, is_equal)
            }
            (None, [field @ (Field::InInterface | Field::OutInterface)]) => {
                let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
                let text = printable(String::from_utf8_lossy(name).into_owned())?;
                match value.len() {
                    16 => Match::Interface(*field, text, is_equal),
                    _ => Match::Interfaces(*field, text, is_equal),
                }
            }
            (None, [field]) if field.is_v6().is_some() => {
                Match::Net(*field, net(*field, value, mask)?, is_equal)
            }
            _ => return None,
        })
    }
}

/// A subnet of its first address and its mask. nft, which may have read the ruleset from a file, compares only the bytes that matter.
fn net(field: Field, address: &[u8], mask: Option<&[u8]>) -> Option<ipnet::IpNet> {
    let ip = |bytes: &[u8]| -> Option<IpAddr> {
        let mut whole = bytes.to_vec();
        whole.resize(field.kind().length(), 0);
        match whole.len() {
            4 => <[u8; 4]>::try_from(whole).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(whole).ok().map(IpAddr::from),
        }
    };
    match mask {
        None => ipnet::IpNet::new(ip(address)?, address.len() as u8 * 8).ok(),
        Some(mask) => ipnet::IpNet::with_netmask(ip(address)?, ip(mask)?).ok(),
    }
}
