//! What a value says behind the words before it.

use std::net::IpAddr;
use std::ops::Range;

use model::MacAddr;

use super::Misread;
use super::parse::Read;
use super::tree::{ARP, IPV4, IPV6, RARP, Side, Test};
use super::words::{Head, PORTS, PROTOCOLS, SCTP, TCP, TYPES, UDP, Wanted, Within};

pub(super) fn ether_group(word: &str) -> Test {
    match word {
        "broadcast" => Test::Ether { side: Side::Destination, mac: MacAddr([0xff; 6]) },
        _ => Test::EtherMulticast,
    }
}

pub(super) fn address_test(head: Head, address: IpAddr, at: Range<usize>) -> Read<Test> {
    match address {
        IpAddr::V4(address) => v4_test(head, u32::from(address), u32::MAX, at),
        IpAddr::V6(address) => v6_test(head, u128::from(address), u128::MAX, at),
    }
}

pub(super) fn v4_test(head: Head, address: u32, mask: u32, at: Range<usize>) -> Read<Test> {
    let within = match head.within {
        Within::Any => None,
        Within::Type(kind @ (IPV4 | ARP | RARP)) => Some(kind),
        within => return Err(foreign(within, "an IPv4 address", at)),
    };
    Ok(Test::V4 { within, side: head.side, address, mask })
}

pub(super) fn v6_test(head: Head, address: u128, mask: u128, at: Range<usize>) -> Read<Test> {
    match head.within {
        Within::Any | Within::Type(IPV6) => Ok(Test::V6 { side: head.side, address, mask }),
        within => Err(foreign(within, "an IPv6 address", at)),
    }
}

pub(super) fn foreign(within: Within, what: &str, at: Range<usize>) -> Misread {
    let hint = match within {
        Within::Protocol(number) => {
            let name = PROTOCOLS.iter().find(|known| known.1 == number).map_or("", |known| known.0);
            Some(format!("write `{name} and host …`"))
        }
        _ => None,
    };
    Misread::new(at, format!("{what} does not go with the word before it"), hint)
}

pub(super) fn outside(at: Range<usize>, net: &str) -> Misread {
    let hint = Some(format!("write `net {net}`"));
    Misread::new(at, "this has bits outside of its mask", hint)
}

pub(super) fn ports(head: Head, word: &str, at: Range<usize>) -> Read<Test> {
    let protocol = match head.within {
        Within::Any => None,
        Within::Protocol(number @ (TCP | UDP | SCTP)) => Some(number),
        _ => {
            let hint = Some("only tcp, udp and sctp have them".into());
            return Err(Misread::new(at, "there are no ports in this protocol", hint));
        }
    };
    let port = |text: &str| {
        let known = PORTS.iter().find(|(name, _)| *name == text).map(|(_, port)| *port);
        known.or_else(|| number_of(text)?.try_into().ok()).ok_or_else(|| {
            let hint = match text.contains('-') {
                true => format!("write `portrange {text}`"),
                false => "0 to 65535".to_owned(),
            };
            Misread::new(at.clone(), format!("`{text}` is not a port"), Some(hint))
        })
    };
    let (from, to) = match word.split_once('-').filter(|_| head.kind == Wanted::PortRange) {
        Some((from, to)) => (port(from)?, port(to)?),
        None => (port(word)?, port(word)?),
    };
    Ok(Test::Ports { protocol, side: head.side, from: from.min(to), to: from.max(to) })
}

pub(super) fn proto(head: Head, word: &str, at: Range<usize>) -> Read<Test> {
    let known = PROTOCOLS.iter().find(|(name, ..)| *name == word).map(|(_, number, ..)| u32::from(*number));
    let of_type = TYPES.iter().find(|(name, _)| *name == word).map(|(_, kind)| u32::from(*kind));
    let wrong = |hint: &str| {
        Misread::new(at.clone(), format!("`{word}` is not a protocol here"), Some(hint.to_owned()))
    };
    if head.within == Within::Ether {
        let number = of_type.or_else(|| number_of(word)).and_then(|number| u16::try_from(number).ok());
        // Below are lengths of frames (IEEE 802.3).
        let number = number.filter(|number| *number >= 0x600);
        return number.map(Test::Type).ok_or_else(|| wrong("ip, ip6, arp, rarp, or a number from 0x600 on"));
    }
    let number = known.or_else(|| number_of(word)).and_then(|number| u8::try_from(number).ok());
    let number = number.ok_or_else(|| match of_type {
        Some(_) => wrong(&format!("write `{word}` or `ether proto {word}`")),
        None => wrong("tcp, udp, icmp, icmp6, or a number up to 255"),
    })?;
    let (v4, v6) = match head.within {
        Within::Any => (true, true),
        Within::Type(IPV4) => (true, false),
        Within::Type(IPV6) => (false, true),
        _ => return Err(wrong("write `proto`, `ip proto` or `ip6 proto`")),
    };
    Ok(Test::Protocol { number, v4, v6 })
}

pub(super) fn number_of(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
