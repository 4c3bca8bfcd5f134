//! The part of nftables' language that podplumb's ruleset needs, as data: written as netlink messages for the kernel and as
//! nft's text for people.

mod matches;
mod read;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use netlink::Request;
use netlink::message::{APPEND, CREATE};

use crate::wire::attribute::*;
use crate::wire::{Kind, message};

pub(crate) use matches::{ADDRESS_TYPES, End, Match, STATES};
pub(crate) use read::rule as read_rule;

/// Bases of a packet's headers (`NFT_PAYLOAD_*`).
const LINK: u32 = 0;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// What is known of a packet beside its bytes (`NFT_META_*`).
const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;

/// Address families of tables (`NFPROTO_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Family {
    /// IPv4 and IPv6 together (nat chains in it since Linux 5.2).
    Inet = 1,
    Bridge = 7,
}

impl Family {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Bridge => "bridge",
        }
    }
}

/// A table with everything in it but elements.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) family: Family,
    pub(crate) name: &'static str,
    pub(crate) sets: Vec<Set>,
    pub(crate) chains: Vec<Chain>,
}

/// A set, or with `data` a map.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) key: Vec<Type>,
    pub(crate) data: Vec<Type>,
    /// Its elements are ranges.
    pub(crate) interval: bool,
}

/// A type of nft's (include/datatype.h of nftables has the numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Ipv4,
    Ipv6,
    Ether,
    Protocol,
    Port,
    Interface,
}

impl Type {
    fn number(self) -> u32 {
        match self {
            Type::Ipv4 => 7,
            Type::Ipv6 => 8,
            Type::Ether => 9,
            Type::Protocol => 12,
            Type::Port => 13,
            Type::Interface => 41,
        }
    }

    /// How many bytes a value has.
    pub(crate) fn length(self) -> usize {
        match self {
            Type::Ipv4 => 4,
            Type::Ipv6 => 16,
            Type::Ether => 6,
            Type::Protocol => 1,
            Type::Port => 2,
            Type::Interface => 16,
        }
    }

    /// How many bytes it takes in a concatenation: registers have four.
    pub(crate) fn padded(self) -> usize {
        self.length().next_multiple_of(4)
    }

    fn name(self) -> &'static str {
        match self {
            Type::Ipv4 => "ipv4_addr",
            Type::Ipv6 => "ipv6_addr",
            Type::Ether => "ether_addr",
            Type::Protocol => "inet_proto",
            Type::Port => "inet_service",
            Type::Interface => "ifname",
        }
    }

    /// A value as nft writes it.
    pub(crate) fn show(self, bytes: &[u8]) -> String {
        let ip = |bytes: &[u8]| match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        };
        match self {
            Type::Ipv4 | Type::Ipv6 => ip(bytes).map(|ip| ip.to_string()).unwrap_or_default(),
            Type::Ether => {
                let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                parts.join(":")
            }
            Type::Protocol => match bytes.first() {
                Some(6) => "tcp".into(),
                Some(17) => "udp".into(),
                Some(132) => "sctp".into(),
                other => other.copied().unwrap_or_default().to_string(),
            },
            Type::Port => match bytes {
                [high, low, ..] => u16::from_be_bytes([*high, *low]).to_string(),
                _ => String::new(),
            },
            Type::Interface => {
                let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
                format!("\"{}\"", String::from_utf8_lossy(name))
            }
        }
    }
}

/// `type . type` as nft numbers it: 6 bits each (`TYPE_BITS`).
fn concatenated(types: &[Type]) -> (u32, u32) {
    match types {
        [one] => (one.number(), one.length() as u32),
        all => all.iter().fold((0, 0), |(number, length), kind| {
            (number << 6 | kind.number(), length + kind.padded() as u32)
        }),
    }
}

fn names(types: &[Type]) -> String {
    types.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" . ")
}

/// A chain; with a hook a base chain, whose policy is to accept.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) name: String,
    pub(crate) hook: Option<Hook>,
    pub(crate) rules: Vec<Rule>,
}

/// Where a base chain is called from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hook {
    /// `nat` or `filter`.
    pub(crate) kind: &'static str,
    pub(crate) at: At,
    /// The number, and how nft calls it.
    pub(crate) priority: (i32, &'static str),
}

/// Hooks (`NF_INET_*`, `NF_BR_*`: the same numbers).
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(crate) enum At {
    Prerouting = 0,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

impl At {
    fn name(self) -> &'static str {
        match self {
            At::Prerouting => "prerouting",
            At::Forward => "forward",
            At::Output => "output",
            At::Postrouting => "postrouting",
        }
    }
}

/// What a rule can look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    IpSource,
    IpDestination,
    Ip6Source,
    Ip6Destination,
    Protocol,
    SourcePort,
    DestinationPort,
    InInterface,
    OutInterface,
    EtherSource,
}

impl Field {
    pub(crate) fn kind(self) -> Type {
        match self {
            Field::IpSource | Field::IpDestination => Type::Ipv4,
            Field::Ip6Source | Field::Ip6Destination => Type::Ipv6,
            Field::Protocol => Type::Protocol,
            Field::SourcePort | Field::DestinationPort => Type::Port,
            Field::InInterface | Field::OutInterface => Type::Interface,
            Field::EtherSource => Type::Ether,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Field::IpSource => "ip saddr",
            Field::IpDestination => "ip daddr",
            Field::Ip6Source => "ip6 saddr",
            Field::Ip6Destination => "ip6 daddr",
            Field::Protocol => "meta l4proto",
            Field::SourcePort => "th sport",
            Field::DestinationPort => "th dport",
            Field::InInterface => "iifname",
            Field::OutInterface => "oifname",
            Field::EtherSource => "ether saddr",
        }
    }

    /// Whether it is in IPv6 packets only, or in IPv4 packets only.
    fn is_v6(self) -> Option<bool> {
        match self {
            Field::IpSource | Field::IpDestination => Some(false),
            Field::Ip6Source | Field::Ip6Destination => Some(true),
            _ => None,
        }
    }

    fn load(self, rule: Request, register: u32) -> Request {
        let length = self.kind().length() as u32;
        match self {
            Field::IpSource => payload(rule, register, NETWORK, 12, length),
            Field::IpDestination => payload(rule, register, NETWORK, 16, length),
            Field::Ip6Source => payload(rule, register, NETWORK, 8, length),
            Field::Ip6Destination => payload(rule, register, NETWORK, 24, length),
            Field::EtherSource => payload(rule, register, LINK, 6, length),
            Field::SourcePort => payload(rule, register, TRANSPORT, 0, length),
            Field::DestinationPort => payload(rule, register, TRANSPORT, 2, length),
            Field::Protocol => meta(rule, register, META_L4PROTO),
            Field::InInterface => meta(rule, register, META_IIFNAME),
            Field::OutInterface => meta(rule, register, META_OIFNAME),
        }
    }
}

/// What a rule does.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Drop,
    Return,
    Masquerade,
    Jump(String),
    /// Sets these bits of the packet's mark, and goes on.
    Mark(u32),
    /// `dnat`, to where the map says for the fields.
    Dnat {
        v6: bool,
        key: Vec<Field>,
        map: String,
    },
    /// `dnat`, to one address and port.
    DnatTo(SocketAddr),
    /// What somebody else wrote into podplumb's table.
    Unknown,
}

/// A rule.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) matches: Vec<Match>,
    pub(crate) action: Action,
}

/// Verdicts (`NF_*`, `NFT_*`).
const NF_DROP: i32 = 0;
const NFT_JUMP: i32 = -3;
const NFT_RETURN: i32 = -5;

/// `NFT_REG32_00`: the first of sixteen registers of four bytes.
const REGISTER: u32 = 8;

fn expression(rule: Request, name: &str, data: impl FnOnce(Request) -> Request) -> Request {
    rule.nest(LIST_ELEM, |r| r.attr_str(EXPRESSION_NAME, name).nest(EXPRESSION_DATA, data))
}

fn meta(rule: Request, register: u32, key: u32) -> Request {
    expression(rule, "meta", |r| r.attr_be32(2, key).attr_be32(1, register))
}

fn payload(rule: Request, register: u32, base: u32, offset: u32, length: u32) -> Request {
    expression(rule, "payload", |r| {
        r.attr_be32(1, register).attr_be32(2, base).attr_be32(3, offset).attr_be32(4, length)
    })
}

fn ct(rule: Request, key: u32) -> Request {
    expression(rule, "ct", |r| r.attr_be32(1, REGISTER).attr_be32(2, key))
}

fn mask(rule: Request, bits: &[u8]) -> Request {
    let zero = vec![0; bits.len()];
    expression(rule, "bitwise", |r| {
        r.attr_be32(1, REGISTER)
            .attr_be32(2, REGISTER)
            .attr_be32(3, bits.len() as u32)
            .nest(4, |r| r.attr(DATA_VALUE, bits))
            .nest(5, |r| r.attr(DATA_VALUE, &zero))
    })
}

fn compare(rule: Request, is_equal: bool, value: &[u8]) -> Request {
    let how = u32::from(!is_equal);
    expression(rule, "cmp", |r| {
        r.attr_be32(1, REGISTER).attr_be32(2, how).nest(3, |r| r.attr(DATA_VALUE, value))
    })
}

fn immediate(rule: Request, register: u32, value: &[u8]) -> Request {
    expression(rule, "immediate", |r| r.attr_be32(1, register).nest(2, |r| r.attr(DATA_VALUE, value)))
}

/// Translates the destination to the address in the first register and the port in `port`.
fn dnat(rule: Request, protocol: u32, port: u32) -> Request {
    const NAT_DNAT: u32 = 1;
    expression(rule, "nat", |r| {
        r.attr_be32(1, NAT_DNAT).attr_be32(2, protocol).attr_be32(3, REGISTER).attr_be32(5, port)
    })
}

fn verdict(rule: Request, code: i32, chain: Option<&str>) -> Request {
    const REG_VERDICT: u32 = 0;
    expression(rule, "immediate", |r| {
        r.attr_be32(1, REG_VERDICT).nest(2, |r| {
            r.nest(DATA_VERDICT, |r| {
                let r = r.attr_be32(1, code.cast_unsigned());
                match chain {
                    Some(chain) => r.attr_str(2, chain),
                    None => r,
                }
            })
        })
    })
}

fn load(mut rule: Request, fields: &[Field]) -> Request {
    let mut register = REGISTER;
    for field in fields {
        rule = field.load(rule, register);
        register += (field.kind().padded() / 4) as u32;
    }
    rule
}

fn concatenation(fields: &[Field]) -> String {
    fields.iter().map(|field| field.name()).collect::<Vec<_>>().join(" . ")
}

impl Action {
    fn fields(&self) -> &[Field] {
        match self {
            Action::Dnat { key, .. } => key,
            _ => &[],
        }
    }

    fn write(&self, rule: Request) -> Request {
        match self {
            Action::Drop => verdict(rule, NF_DROP, None),
            Action::Return => verdict(rule, NFT_RETURN, None),
            Action::Unknown => rule,
            Action::Jump(chain) => verdict(rule, NFT_JUMP, Some(chain)),
            Action::Masquerade => expression(rule, "masq", |r| r),
            Action::Mark(bits) => {
                // mark = mark & !bits ^ bits
                let (keep, set) = ((!bits).to_ne_bytes(), bits.to_ne_bytes());
                let rule = expression(meta(rule, REGISTER, META_MARK), "bitwise", |r| {
                    r.attr_be32(1, REGISTER)
                        .attr_be32(2, REGISTER)
                        .attr_be32(3, 4)
                        .nest(4, |r| r.attr(DATA_VALUE, &keep))
                        .nest(5, |r| r.attr(DATA_VALUE, &set))
                });
                expression(rule, "meta", |r| r.attr_be32(2, META_MARK).attr_be32(3, REGISTER))
            }
            Action::Dnat { v6, key, map } => {
                let (protocol, address) = if *v6 { (10, 16) } else { (2, 4) };
                let rule = expression(load(rule, key), "lookup", |r| {
                    r.attr_str(1, map).attr_be32(2, REGISTER).attr_be32(3, REGISTER)
                });
                dnat(rule, protocol, REGISTER + address / 4)
            }
            Action::DnatTo(to) => {
                let (protocol, address) = match to.ip() {
                    IpAddr::V4(v4) => (2, v4.octets().to_vec()),
                    IpAddr::V6(v6) => (10, v6.octets().to_vec()),
                };
                let port = REGISTER + address.len() as u32 / 4;
                let rule = immediate(rule, REGISTER, &address);
                dnat(immediate(rule, port, &to.port().to_be_bytes()), protocol, port)
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Action::Drop => "drop".into(),
            Action::Return => "return".into(),
            Action::Unknown => "# a rule that is not podplumb's".into(),
            Action::Masquerade => "masquerade".into(),
            Action::Mark(bits) => format!("meta mark set meta mark | 0x{bits:08x}"),
            Action::Jump(chain) => format!("jump {chain}"),
            Action::Dnat { v6, key, map } => {
                let family = if *v6 { "ip6" } else { "ip" };
                format!("dnat {family} to {} map @{map}", concatenation(key))
            }
            Action::DnatTo(to) => format!("dnat {} to {to}", if to.is_ipv4() { "ip" } else { "ip6" }),
        }
    }
}

impl Rule {
    /// A rule that podplumb does not write.
    pub(crate) fn unknown() -> Self {
        Self { matches: Vec::new(), action: Action::Unknown }
    }

    /// Whether it is about IPv6 only, or about IPv4 only: by its fields, or because it says so.
    fn is_v6(&self) -> Option<bool> {
        let said = self.matches.iter().find_map(|m| match m {
            Match::IsV6(v6) => Some(*v6),
            _ => None,
        });
        said.or_else(|| self.fields().find_map(|field| field.is_v6()))
    }

    fn fields(&self) -> impl Iterator<Item = &Field> {
        self.matches.iter().flat_map(Match::fields).chain(self.action.fields())
    }

    /// The kernel looks at bytes, so a rule about IPv4's has to make sure first that it is IPv4.
    fn guard(&self, rule: Request, family: Family) -> Request {
        const META_PROTOCOL: u32 = 1;
        match (self.is_v6(), family) {
            (None, _) => rule,
            (Some(v6), Family::Inet) => {
                compare(meta(rule, REGISTER, META_NFPROTO), true, &[if v6 { 10 } else { 2 }])
            }
            (Some(v6), Family::Bridge) => {
                let ethertype: u16 = if v6 { 0x86dd } else { 0x0800 };
                compare(meta(rule, REGISTER, META_PROTOCOL), true, &ethertype.to_be_bytes())
            }
        }
    }

    pub(crate) fn message(&self, table: &Table, chain: &str) -> Request {
        message("create nftables rule", Kind::NewRule, table.family as u8, CREATE | APPEND)
            .attr_str(RULE_TABLE, table.name)
            .attr_str(RULE_CHAIN, chain)
            .nest(RULE_EXPRESSIONS, |r| {
                let r = self.guard(r, table.family);
                let r = self.matches.iter().fold(r, |r, m| m.write(r));
                self.action.write(r)
            })
    }

    pub(crate) fn text(&self) -> String {
        // A field of one family implies it, so nft leaves it out.
        let is_implied = self.fields().any(|field| field.is_v6().is_some());
        let matches = self.matches.iter().filter(|m| !(is_implied && matches!(m, Match::IsV6(_))));
        let mut parts: Vec<String> = matches.map(Match::text).collect();
        parts.push(self.action.text());
        parts.join(" ")
    }
}

impl Set {
    fn message(&self, table: &Table, id: u32) -> Request {
        const INTERVAL: u32 = 0x4;
        const MAP: u32 = 0x8;
        const CONCAT: u32 = 0x80;
        let (kind, length) = concatenated(&self.key);
        let mut flags = if self.interval { INTERVAL | CONCAT } else { 0 };
        let mut request = message("create nftables set", Kind::NewSet, table.family as u8, CREATE)
            .attr_str(SET_TABLE, table.name)
            .attr_str(SET_NAME, &self.name)
            .attr_be32(SET_KEY_TYPE, kind)
            .attr_be32(SET_KEY_LEN, length)
            .attr_be32(SET_ID, id);
        if !self.data.is_empty() {
            flags |= MAP;
            let (kind, length) = concatenated(&self.data);
            request = request.attr_be32(SET_DATA_TYPE, kind).attr_be32(SET_DATA_LEN, length);
        }
        if self.interval {
            // Ranges of concatenations need the length of each field (Linux 5.6).
            request = request.nest(SET_DESC, |r| {
                r.nest(DESC_CONCAT, |r| {
                    let field = |r: Request, kind: &Type| {
                        r.nest(LIST_ELEM, |r| r.attr_be32(FIELD_LEN, kind.length() as u32))
                    };
                    self.key.iter().fold(r, field)
                })
            });
        }
        if self.key == [Type::Interface] {
            // nft takes a key's bytes for a number in network order unless the set's user data says otherwise, and would show no name.
            const KEY_BYTE_ORDER: u8 = 0;
            const HOST_ENDIAN: u32 = 1;
            let value = HOST_ENDIAN.to_ne_bytes();
            request =
                request.attr(SET_USERDATA, &[&[KEY_BYTE_ORDER, value.len() as u8], &value[..]].concat());
        }
        if flags != 0 { request.attr_be32(SET_FLAGS, flags) } else { request }
    }

    /// With these elements, each as nft writes it.
    fn text(&self, elements: &[String]) -> String {
        let (noun, data) = match self.data.as_slice() {
            [] => ("set", String::new()),
            data => ("map", format!(" : {}", names(data))),
        };
        let flags = if self.interval { "\t\tflags interval\n" } else { "" };
        let elements = match elements {
            [] => String::new(),
            elements => format!("\t\telements = {{ {} }}\n", elements.join(",\n\t\t\t     ")),
        };
        format!("\t{noun} {} {{\n\t\ttype {}{data}\n{flags}{elements}\t}}\n", self.name, names(&self.key))
    }
}

impl Chain {
    fn message(&self, table: &Table) -> Request {
        const NF_ACCEPT: u32 = 1;
        let request = message("create nftables chain", Kind::NewChain, table.family as u8, CREATE)
            .attr_str(CHAIN_TABLE, table.name)
            .attr_str(CHAIN_NAME, &self.name);
        match self.hook {
            None => request,
            Some(hook) => request
                .nest(CHAIN_HOOK, |r| {
                    r.attr_be32(HOOK_NUMBER, hook.at as u32)
                        .attr_be32(HOOK_PRIORITY, hook.priority.0.cast_unsigned())
                })
                .attr_be32(CHAIN_POLICY, NF_ACCEPT)
                .attr_str(CHAIN_TYPE, hook.kind),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("\tchain {} {{\n", self.name);
        if let Some(hook) = self.hook {
            let (kind, at, priority) = (hook.kind, hook.at.name(), hook.priority.1);
            // Writing to a String does not fail.
            let _ = writeln!(text, "\t\ttype {kind} hook {at} priority {priority}; policy accept;");
        }
        for rule in &self.rules {
            let _ = writeln!(text, "\t\t{}", rule.text());
        }
        text + "\t}\n"
    }
}

impl Table {
    /// Messages that make the table what it should be, whatever of it there is: sets and chains are made where they are missing, the
    /// chains' rules replaced. Elements stay. In one transaction no packet sees anything in between.
    pub(crate) fn messages(&self) -> Vec<Request> {
        let family = self.family as u8;
        let mut messages = vec![
            message("create nftables table", Kind::NewTable, family, CREATE).attr_str(TABLE_NAME, self.name),
        ];
        messages.extend(self.sets.iter().zip(1..).map(|(set, id)| set.message(self, id)));
        messages.extend(self.chains.iter().map(|chain| chain.message(self)));
        messages.extend(self.chains.iter().map(|chain| {
            message("flush nftables chain", Kind::DeleteRule, family, 0)
                .attr_str(RULE_TABLE, self.name)
                .attr_str(RULE_CHAIN, &chain.name)
        }));
        for chain in &self.chains {
            messages.extend(chain.rules.iter().map(|rule| rule.message(self, &chain.name)));
        }
        messages
    }

    /// The table as `nft list table` shows it, with what `elements` says of each set.
    pub(crate) fn text(&self, elements: impl Fn(&Set) -> Vec<String>) -> String {
        let sets = self.sets.iter().map(|set| set.text(&elements(set)));
        let chains = self.chains.iter().map(Chain::text);
        let parts: Vec<String> = sets.chain(chains).collect();
        format!("table {} {} {{\n{}}}\n", self.family.name(), self.name, parts.join("\n"))
    }
}
