//! From words to what they say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use model::MacAddr;

use super::lexer::{Kind, Token, tokens};
use super::tree::{IPV4, IPV6, Node, Side, Test};
use super::values::{address_test, ether_group, number_of, outside, ports, proto, v4_test, v6_test};
use super::words::{ABSENT, Head, PROTOCOLS, Wanted, Within, is_address, is_word, nearest, within};
use super::{Misread, Names};

/// Parentheses and `not` in each other.
const DEEPEST: usize = 64;
/// Tests of a filter: each is a level of the tree.
const MOST_TESTS: usize = 512;
/// Words of memory that a program has (BPF_MEMWORDS).
const MOST_TUNNELS: u32 = 16;

struct Parser<'t, 'n> {
    text: &'t str,
    tokens: Vec<Token<'t>>,
    next: usize,
    names: &'n Names<'n>,
    /// Of the last value: `port 80 or 443`.
    head: Option<Head>,
    depth: usize,
    tests: usize,
    tunnels: u32,
}

pub(super) type Read<T> = Result<T, Misread>;

pub(super) fn parse(text: &str, names: &Names<'_>) -> Read<Node> {
    let tokens = tokens(text)?;
    let mut parser = Parser { text, tokens, next: 0, names, head: None, depth: 0, tests: 0, tunnels: 0 };
    let tree = parser.expression()?;
    match parser.tokens.get(parser.next) {
        None => Ok(tree),
        Some(token) if token.kind == Kind::Close => {
            Err(Misread::new(token.at.clone(), "nothing was opened that this closes", None))
        }
        Some(token) => {
            let what = "`and` or `or` is missing before this";
            Err(Misread::new(token.at.clone(), what, parser.near(token)))
        }
    }
}

impl<'t> Parser<'t, '_> {
    fn expression(&mut self) -> Read<Node> {
        let mut left = self.term()?;
        loop {
            let is_and = match self.peek() {
                Some(Kind::And) => true,
                Some(Kind::Or) => false,
                _ => return Ok(left),
            };
            self.next += 1;
            let right = self.term()?;
            left = if is_and { left.and(right) } else { left.or(right) };
        }
    }

    fn term(&mut self) -> Read<Node> {
        let Some(token) = self.tokens.get(self.next).cloned() else {
            return Err(self.missing("something to look for"));
        };
        match token.kind {
            Kind::Not => {
                self.next += 1;
                self.deeper(token.at, |parser| Ok(parser.term()?.negated()))
            }
            Kind::Open => {
                self.next += 1;
                let inside = self.deeper(token.at.clone(), Self::expression)?;
                self.close(token.at)?;
                Ok(Node::Group(Box::new(inside)))
            }
            Kind::Word(word) => self.primitive(word, token.at),
            Kind::And | Kind::Or | Kind::Close => {
                Err(Misread::new(token.at, "here should be something to look for", None))
            }
        }
    }

    fn deeper<T>(&mut self, at: Range<usize>, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        if self.depth == DEEPEST {
            return Err(Misread::new(at, format!("{DEEPEST} levels are the most"), None));
        }
        self.depth += 1;
        let done = read(self);
        self.depth -= 1;
        done
    }

    fn close(&mut self, opened: Range<usize>) -> Read<()> {
        match self.peek() {
            Some(Kind::Close) => {
                self.next += 1;
                Ok(())
            }
            Some(_) => {
                let token = self.tokens[self.next].clone();
                let near = self.near(&token);
                Err(Misread::new(token.at, "here should be `and`, `or` or `)`", near))
            }
            None => Err(Misread::new(opened, "this is not closed", Some("write `)` behind it".into()))),
        }
    }

    fn primitive(&mut self, word: &'t str, at: Range<usize>) -> Read<Node> {
        let bare = |test| Ok(Some(test));
        let test: Read<Option<Test>> = match word {
            "less" | "greater" => {
                self.next += 1;
                let (number, at) = self.word("a length in bytes")?;
                let bytes = number_of(number)
                    .ok_or_else(|| Misread::new(at, format!("`{number}` is not a length in bytes"), None))?;
                bare(if word == "less" { Test::Less(bytes) } else { Test::Greater(bytes) })
            }
            "inbound" | "outbound" => {
                self.next += 1;
                bare(Test::Outgoing(word == "outbound"))
            }
            "multicast" | "broadcast" => {
                self.next += 1;
                bare(ether_group(word))
            }
            "vxlan" => {
                self.next += 1;
                self.vxlan(at.clone()).map(Some)
            }
            _ => Ok(None),
        };
        if let Some(test) = test? {
            self.head = None;
            return self.counted(test, at);
        }
        self.qualified(word, at)
    }

    /// `tcp`, `tcp src port 80`, `src 10.0.0.1`, `port 80`, and a value that takes the keywords before it.
    fn qualified(&mut self, word: &'t str, at: Range<usize>) -> Read<Node> {
        let within = within(word);
        if within.is_some() {
            self.next += 1;
        }
        let side = self.side();
        let kind = match self.peek() {
            Some(Kind::Word("host")) => Some(Wanted::Host),
            Some(Kind::Word("net")) => Some(Wanted::Net),
            Some(Kind::Word("port")) => Some(Wanted::Port),
            Some(Kind::Word("portrange")) => Some(Wanted::PortRange),
            Some(Kind::Word("proto")) => Some(Wanted::Proto),
            Some(Kind::Word(group @ ("multicast" | "broadcast"))) if within.is_some() && side.is_none() => {
                return self.group(within.unwrap_or(Within::Any), group);
            }
            _ => None,
        };
        if kind.is_some() {
            self.next += 1;
        }
        let head = match (within, side, kind) {
            // A value alone: of the keywords before it, or an address.
            (None, None, None) => match self.head {
                Some(head) if !is_word(word) => head,
                _ if is_address(word) => Head { within: Within::Any, side: Side::Either, kind: Wanted::Host },
                _ => return Err(self.unknown(word, at)),
            },
            (Some(within), None, None) => {
                self.head = None;
                return match within {
                    Within::Type(kind) => self.counted(Test::Type(kind), at),
                    Within::Protocol(number) => {
                        let (_, _, v4, v6) =
                            PROTOCOLS.into_iter().find(|known| known.1 == number).unwrap_or_default();
                        self.counted(Test::Protocol { number, v4, v6 }, at)
                    }
                    Within::Any | Within::Ether => {
                        let hint = "write `ether host MAC`, `ether proto TYPE`, `ether multicast`";
                        Err(Misread::new(at, format!("`{word}` alone is every frame"), Some(hint.into())))
                    }
                };
            }
            (within, side, kind) => Head {
                within: within.unwrap_or(Within::Any),
                side: side.unwrap_or(Side::Either),
                kind: kind.unwrap_or(Wanted::Host),
            },
        };
        if head.kind == Wanted::Proto && side.is_some() {
            return Err(Misread::new(at, "a protocol has no source and destination", None));
        }
        self.head = Some(head);
        self.values(head)
    }

    /// `src`, `dst`, `src or dst`, `src and dst`.
    fn side(&mut self) -> Option<Side> {
        let side = |kind: Option<Kind<'_>>| match kind {
            Some(Kind::Word("src")) => Some(Side::Source),
            Some(Kind::Word("dst")) => Some(Side::Destination),
            _ => None,
        };
        let first = side(self.peek())?;
        self.next += 1;
        let (joint, second) = (self.peek(), side(self.tokens.get(self.next + 1).map(|token| token.kind)));
        let both = match joint {
            Some(Kind::And) => Side::Both,
            Some(Kind::Or) => Side::Either,
            _ => return Some(first),
        };
        match second {
            Some(second) if second != first => {
                self.next += 2;
                Some(both)
            }
            _ => Some(first),
        }
    }

    /// A value, or several in parentheses: `port (80 or 443)`.
    fn values(&mut self, head: Head) -> Read<Node> {
        let Some(token) = self.tokens.get(self.next).cloned() else {
            return Err(self.missing(head.kind.wants()));
        };
        self.next += 1;
        match token.kind {
            Kind::Word(word) => self.value(head, word, token.at),
            Kind::Open => {
                let inside = self.deeper(token.at.clone(), |parser| {
                    let mut left = parser.values(head)?;
                    loop {
                        let is_and = match parser.peek() {
                            Some(Kind::And) => true,
                            Some(Kind::Or) => false,
                            _ => return Ok(left),
                        };
                        parser.next += 1;
                        let right = parser.values(head)?;
                        left = if is_and { left.and(right) } else { left.or(right) };
                    }
                })?;
                self.close(token.at)?;
                Ok(Node::Group(Box::new(inside)))
            }
            Kind::Not => self.deeper(token.at, |parser| Ok(parser.values(head)?.negated())),
            Kind::And | Kind::Or | Kind::Close => {
                Err(Misread::new(token.at, format!("here should be {}", head.kind.wants()), None))
            }
        }
    }

    fn value(&mut self, head: Head, word: &str, at: Range<usize>) -> Read<Node> {
        let word = word.strip_prefix('\\').unwrap_or(word);
        match head.kind {
            Wanted::Host => self.host(head, word, at),
            Wanted::Net => {
                let test = self.net(head, word, at.clone())?;
                self.counted(test, at)
            }
            Wanted::Port | Wanted::PortRange => {
                let test = ports(head, word, at.clone())?;
                self.counted(test, at)
            }
            Wanted::Proto => {
                let test = proto(head, word, at.clone())?;
                self.counted(test, at)
            }
        }
    }

    fn host(&mut self, head: Head, word: &str, at: Range<usize>) -> Read<Node> {
        if head.within == Within::Ether {
            let mac: MacAddr = word.parse().map_err(|_| {
                let hint = "like `ether host 0a:58:0a:f4:00:07`";
                Misread::new(at.clone(), format!("`{word}` is not an Ethernet address"), Some(hint.into()))
            })?;
            return self.counted(Test::Ether { side: head.side, mac }, at);
        }
        let addresses = match word.strip_prefix("pod:") {
            Some(pod) => (self.names.pod)(pod),
            None => match word.parse::<IpAddr>() {
                Ok(address) => vec![address],
                Err(_) if word.parse::<MacAddr>().is_ok() => {
                    let hint = format!("write `ether host {word}`");
                    return Err(Misread::new(at, "this is an Ethernet address", Some(hint)));
                }
                Err(_) if word.contains('/') && !word.starts_with(char::is_alphabetic) => {
                    let hint = format!("write `net {word}`");
                    return Err(Misread::new(at, "this is a net, not a host", Some(hint)));
                }
                Err(_) => {
                    let hint = "give an address, or `pod:NAMESPACE/NAME`; names are not looked up";
                    let hint = nearest(word).filter(|_| !word.contains('.')).unwrap_or_else(|| hint.into());
                    return Err(Misread::new(at, format!("`{word}` is not an address"), Some(hint)));
                }
            },
        };
        let mut all = None;
        for address in &addresses {
            let test = address_test(head, *address, at.clone());
            // Of a pod with addresses of both families, those that fit.
            let test = match test {
                Err(_) if addresses.len() > 1 => continue,
                test => self.counted(test?, at.clone())?,
            };
            all = Some(match all {
                None => test,
                Some(others) => Node::or(others, test),
            });
        }
        let grouped = |node| if addresses.len() > 1 { Node::Group(Box::new(node)) } else { node };
        all.map(grouped).ok_or_else(|| {
            let what = format!("no pod with an address goes by {:?}", word.trim_start_matches("pod:"));
            Misread::new(at, what, Some("`podplumb pods` lists what is here".into()))
        })
    }

    fn net(&mut self, head: Head, word: &str, at: Range<usize>) -> Read<Test> {
        let wrong =
            |hint: &str| Misread::new(at.clone(), format!("`{word}` is not a net"), Some(hint.to_owned()));
        let (address, bits) = match word.split_once('/') {
            Some((address, bits)) => {
                let bits = bits.parse::<u32>().map_err(|_| wrong("like `net 10.244.0.0/16`"))?;
                (address, Some(bits))
            }
            None => (word, None),
        };
        if let Ok(address) = address.parse::<Ipv6Addr>() {
            let bits = bits.unwrap_or(128);
            if bits > 128 {
                return Err(wrong("an IPv6 address has 128 bits"));
            }
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            let address = u128::from(address);
            if address & !mask != 0 {
                let net = Ipv6Addr::from(address & mask);
                return Err(outside(at, &format!("{net}/{bits}")));
            }
            return v6_test(head, address, mask, at);
        }
        // `10.244` is 10.244.0.0/16.
        let parts: Result<Vec<u8>, _> = address.split('.').map(str::parse).collect();
        let parts = parts.ok().filter(|parts| (1..=4).contains(&parts.len()));
        let parts = parts.ok_or_else(|| wrong("like `net 10.244.0.0/16`, `net 10.244`, `net fd00::/64`"))?;
        let mut octets = [0; 4];
        octets[..parts.len()].copy_from_slice(&parts);
        let address = u32::from_be_bytes(octets);
        let given = if self.peek() == Some(Kind::Word("mask")) && bits.is_none() {
            self.next += 1;
            let (mask, at) = self.word("a mask")?;
            let mask: Ipv4Addr = mask.parse().map_err(|_| {
                Misread::new(at, format!("`{mask}` is not a mask"), Some("like `mask 255.255.0.0`".into()))
            })?;
            Some(u32::from(mask))
        } else {
            None
        };
        let bits = bits.unwrap_or(8 * parts.len() as u32);
        if bits > 32 {
            return Err(wrong("an IPv4 address has 32 bits"));
        }
        let mask = given.unwrap_or_else(|| u32::MAX.checked_shl(32 - bits).unwrap_or(0));
        if address & !mask != 0 {
            let net = Ipv4Addr::from(address & mask);
            let shown = if given.is_some() { net.to_string() } else { format!("{net}/{bits}") };
            return Err(outside(at, &shown));
        }
        v4_test(head, address, mask, at)
    }

    fn vxlan(&mut self, at: Range<usize>) -> Read<Test> {
        let vni = match self.peek() {
            Some(Kind::Word(word)) if word.starts_with(|c: char| c.is_ascii_digit()) => {
                let at = self.tokens[self.next].at.clone();
                self.next += 1;
                let vni = number_of(word).filter(|vni| *vni < 1 << 24);
                Some(vni.ok_or_else(|| {
                    Misread::new(
                        at,
                        format!("`{word}` is not a VXLAN network identifier"),
                        Some("0 to 16777215".into()),
                    )
                })?)
            }
            _ => None,
        };
        if self.tunnels == MOST_TUNNELS {
            return Err(Misread::new(at, format!("{MOST_TUNNELS} times `vxlan` is the most"), None));
        }
        self.tunnels += 1;
        Ok(Test::Vxlan { vni, slot: self.tunnels - 1 })
    }

    fn group(&mut self, within: Within, group: &str) -> Read<Node> {
        let at = self.tokens[self.next].at.clone();
        self.next += 1;
        self.head = None;
        let test = match (within, group) {
            (Within::Ether, _) => ether_group(group),
            (Within::Type(IPV4), "multicast") => Test::IpMulticast { v6: false },
            (Within::Type(IPV6), "multicast") => Test::IpMulticast { v6: true },
            _ => {
                let hint = "write `ether broadcast`, `ether multicast`, `ip multicast` or `ip6 multicast`";
                return Err(Misread::new(at, format!("there is no {group} of this kind"), Some(hint.into())));
            }
        };
        self.counted(test, at)
    }

    fn counted(&mut self, test: Test, at: Range<usize>) -> Read<Node> {
        self.tests += 1;
        match self.tests > MOST_TESTS {
            true => {
                Err(Misread::new(at, format!("a filter looks at no more than {MOST_TESTS} things"), None))
            }
            false => Ok(Node::Test(test)),
        }
    }

    fn peek(&self) -> Option<Kind<'t>> {
        self.tokens.get(self.next).map(|token| token.kind)
    }

    fn word(&mut self, wanted: &str) -> Read<(&'t str, Range<usize>)> {
        match self.tokens.get(self.next).cloned() {
            Some(Token { kind: Kind::Word(word), at }) => {
                self.next += 1;
                Ok((word, at))
            }
            Some(token) => Err(Misread::new(token.at, format!("here should be {wanted}"), None)),
            None => Err(self.missing(wanted)),
        }
    }

    fn missing(&self, wanted: &str) -> Misread {
        let end = self.text.trim_end().len();
        Misread::new(end..end, format!("the filter ends where {wanted} should be"), None)
    }

    fn unknown(&self, word: &str, at: Range<usize>) -> Misread {
        if let Some((_, hint)) = ABSENT.iter().find(|(absent, _)| *absent == word) {
            return Misread::new(at, format!("`{word}` is not looked at here"), Some((*hint).to_owned()));
        }
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        let hint = match is_number {
            true => Some(format!("write `port {word}`, `net {word}` or `proto {word}`")),
            false => nearest(word).or_else(|| {
                let hint = "filters begin with words like host, net, port, tcp, udp, icmp, arp, vxlan, not";
                Some(hint.to_owned())
            }),
        };
        Misread::new(at, format!("`{word}` is not a word of filters"), hint)
    }

    fn near(&self, token: &Token<'_>) -> Option<String> {
        match token.kind {
            Kind::Word(word) if number_of(word).is_some() => Some(format!("write `port {word}`")),
            Kind::Word(word) if !is_word(word) => nearest(word),
            _ => None,
        }
    }
}
