//! Values of conditions, as iptables and nft write them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::words::About;
use crate::language::{ADDRESS_TYPES, Field, Match, STATES};

/// What it means that something has one of these values, with commas between them. Without a test: anything will do.
pub(super) fn tests(about: About, values: &str, bits: Option<&str>, v6: bool) -> Result<Vec<Match>, String> {
    let each = || values.split(',').map(str::trim_ascii);
    match about {
        About::Subnet(field) => each().map(|text| Ok(Match::Net(field, net(text, v6)?, true))).collect(),
        About::Interface(field) => interface(field, values),
        About::Protocol => {
            let numbers = each().map(protocol).collect::<Result<Vec<_>, _>>()?;
            // One of them is all.
            if numbers.contains(&None) {
                return Ok(Vec::new());
            }
            Ok(numbers.into_iter().flatten().map(|number| Match::Protocol(number, true)).collect())
        }
        About::Ports(field, several) => {
            let each = if several { each().collect() } else { vec![values] };
            let test = |text| ports(text).map(|(first, last)| Match::Ports(field, first, last, true));
            each.into_iter().map(test).collect()
        }
        About::Mark => mark(values, bits).map(|test| vec![test]),
        About::State => {
            let bits = each().map(|text| {
                let known = STATES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
                let known = known.map(|(_, bit)| *bit);
                known.ok_or_else(|| format!("{text:?} is no state: {}", names(STATES.map(|(name, _)| name))))
            });
            let bits = bits.collect::<Result<Vec<u32>, String>>()?.into_iter().fold(0, |all, bit| all | bit);
            Ok(vec![Match::State(bits, true)])
        }
        About::AddressType(end) => each()
            .map(|text| {
                let known = ADDRESS_TYPES.iter().position(|name| name.eq_ignore_ascii_case(text));
                let number = known
                    .ok_or_else(|| format!("{text:?} is no type of address: {}", names(ADDRESS_TYPES)))?;
                Ok(Match::AddressType(end, number as u32, true))
            })
            .collect(),
    }
}

fn names<const N: usize>(names: [&str; N]) -> String {
    names.join(", ")
}

/// `192.0.2.1`, `192.0.2.0/24`, `192.0.2.0/255.255.255.0`
fn net(text: &str, v6: bool) -> Result<IpNet, String> {
    let with_mask = |text: &str| {
        let (address, mask) = text.split_once('/')?;
        IpNet::with_netmask(address.parse().ok()?, mask.parse().ok()?).ok()
    };
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    match net.or_else(|| with_mask(text)) {
        Some(net) if net.addr().is_ipv6() == v6 => Ok(net.trunc()),
        Some(net) => Err(format!("{net} is of the other family")),
        None => Err(format!("{text:?} is neither an address nor a subnet")),
    }
}

/// `eth0`, and every one that begins so: `eth+` of iptables, `eth*` of nft.
fn interface(field: Field, text: &str) -> Result<Vec<Match>, String> {
    let (name, is_start) = match text.strip_suffix(['+', '*']) {
        Some(start) => (start, true),
        None => (text, false),
    };
    if name.is_empty() && is_start {
        return Ok(Vec::new());
    }
    let name = name.parse::<model::IfName>().map_err(|error| error.to_string())?.to_string();
    // nft's text would mean something else, or several.
    if name.contains(|c: char| c.is_control() || matches!(c, '"' | '\\' | '*' | ',')) {
        return Err(format!("the name {name:?} of an interface is not supported here"));
    }
    Ok(vec![if is_start {
        Match::Interfaces(field, name, true)
    } else {
        Match::Interface(field, name, true)
    }])
}

/// A protocol that has ports to be mapped, by name, or any by number; `None` for all of them.
pub(super) fn protocol(text: &str) -> Result<Option<u8>, String> {
    match text.to_ascii_lowercase().as_str() {
        "all" | "0" => Ok(None),
        "tcp" => Ok(Some(6)),
        "udp" => Ok(Some(17)),
        "sctp" => Ok(Some(132)),
        number => number
            .parse()
            .map(Some)
            .map_err(|_| format!("{text:?} is no protocol of ports: tcp, udp or sctp")),
    }
}

/// `80`, `1000:2000` of iptables, `1000-2000` of nft; `1000:` and `:1000`.
fn ports(text: &str) -> Result<(u16, u16), String> {
    let error = || format!("{text:?} is no port and no range of ports");
    let port = |text: &str, open: u16| match text {
        "" => Ok(open),
        text => text.parse::<u16>().map_err(|_| error()),
    };
    let (first, last) = match text.split_once([':', '-']) {
        Some(("", "")) => return Err(error()),
        Some((first, last)) => (port(first, 0)?, port(last, u16::MAX)?),
        None => {
            let port = text.parse().map_err(|_| error())?;
            (port, port)
        }
    };
    if first <= last { Ok((first, last)) } else { Err(error()) }
}

/// `1`, `0x1`, `01`, and with bits `0x1/0xff` (iptables) or `and 0xff 0x1` (nft).
fn mark(text: &str, bits: Option<&str>) -> Result<Match, String> {
    let number = |text: &str| {
        let lower = text.to_ascii_lowercase();
        match lower.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None if lower.len() > 1 && lower.starts_with('0') => u32::from_str_radix(&lower, 8).ok(),
            None => lower.parse().ok(),
        }
    };
    let (value, bits) = match (text.split_once('/'), bits) {
        (Some((value, bits)), None) => (value, Some(bits)),
        _ => (text, bits),
    };
    let bits_read = bits.map_or(Some(u32::MAX), number).filter(|bits| *bits != 0);
    match (number(value), bits_read) {
        (Some(value), Some(bits)) if value & !bits != 0 => {
            Err(format!("the mark 0x{value:x} is never what the bits 0x{bits:x} of one are"))
        }
        (Some(value), Some(bits)) => Ok(Match::Mark(value, bits, true)),
        _ => Err(format!("{text:?} is no mark")),
    }
}
