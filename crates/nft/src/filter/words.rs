//! Rules as their own tools print them, or close to it.

use std::fmt::Write as _;

use model::filter::{Action, Field, Match, Table, Translation, Value};
use netlink::{Attribute, Attributes};

use super::decompile::Part;

/// Whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Nft,
    Iptables,
}

/// Of a set that a rule has for itself, so many elements are shown.
const MOST_SHOWN: usize = 8;

/// A rule's text.
pub(super) fn rule(style: Style, table: &Table, parts: &[Part], comment: &str) -> String {
    let mut text = String::with_capacity(96);
    let mut v6 = false;
    // "tcp dport 80" says that it is TCP.
    let mut protocol: Option<u64> = None;
    let mut commented = comment.is_empty() || style == Style::Nft;
    let ordered;
    let parts = match style {
        Style::Nft => parts,
        Style::Iptables => {
            ordered = heads_first(parts);
            &ordered
        }
    };
    for (place, part) in parts.iter().enumerate() {
        let start = text.len();
        match part {
            Part::Match(found) => {
                if let Some(number) = sole(found, Field::Family) {
                    v6 = number == 10;
                    // The addresses after it say the same.
                    if style == Style::Nft && parts[place + 1..].iter().any(shows_family) {
                        continue;
                    }
                }
                if let Some(number) = sole(found, Field::Protocol) {
                    protocol = Some(number);
                    if style == Style::Nft && parts[place + 1..].iter().any(shows_protocol) {
                        continue;
                    }
                }
                match style {
                    Style::Nft => nft_match(&mut text, table, found, v6, protocol),
                    Style::Iptables => iptables_match(&mut text, found, protocol),
                }
            }
            Part::Action(action) => {
                if !commented {
                    comment_of(&mut text, comment);
                    commented = true;
                }
                match style {
                    Style::Nft => nft_action(&mut text, table, action, v6, protocol),
                    Style::Iptables => iptables_action(&mut text, action),
                }
            }
            Part::Comment => {
                if !commented {
                    comment_of(&mut text, comment);
                    commented = true;
                }
            }
            Part::Note(note) => {
                if !commented && note.starts_with("-j") {
                    comment_of(&mut text, comment);
                    commented = true;
                }
                text.push_str(note);
            }
        }
        if text.len() > start && !text.ends_with(' ') {
            text.push(' ');
        }
    }
    if !commented {
        comment_of(&mut text, comment);
    } else if style == Style::Nft && !comment.is_empty() {
        let _ = write!(text, "comment {comment:?}");
    }
    text.truncate(text.trim_end().len());
    text
}

fn comment_of(text: &mut String, comment: &str) {
    let _ = write!(text, "-m comment --comment {comment:?} ");
}

/// iptables lists addresses, interfaces and the protocol first, in this order.
fn heads_first(parts: &[Part]) -> Vec<Part> {
    let rank = |part: &Part| match part {
        Part::Match(Match::Is { field, mask: None, values, .. }) => match (field, &values[..]) {
            (Field::SourceAddress, [Value::Net(_)]) => 0,
            (Field::DestinationAddress, [Value::Net(_)]) => 1,
            (Field::InInterface, _) => 2,
            (Field::OutInterface, _) => 3,
            (Field::Protocol, _) => 4,
            _ => 5,
        },
        _ => 5,
    };
    let mut parts = parts.to_vec();
    parts.sort_by_key(rank);
    parts
}

/// The number that a field has to be.
fn sole(found: &Match, wanted: Field) -> Option<u64> {
    match found {
        Match::Is { field, mask: None, not: false, values } if *field == wanted => match values[..] {
            [Value::Number(number)] => Some(number),
            _ => None,
        },
        _ => None,
    }
}

fn shows_family(part: &Part) -> bool {
    let is_address = |field: &Field| {
        let icmp = matches!(field, Field::IcmpType | Field::IcmpCode);
        icmp || matches!(field, Field::SourceAddress | Field::DestinationAddress)
    };
    match part {
        Part::Match(Match::Is { field, .. }) => is_address(field),
        Part::Match(Match::In { fields, .. }) | Part::Action(Action::VerdictMap { fields, .. }) => {
            fields.iter().any(is_address)
        }
        _ => false,
    }
}

fn shows_protocol(part: &Part) -> bool {
    match part {
        Part::Match(Match::Is { field, .. }) => is_of_transport(*field),
        Part::Match(Match::In { fields, .. }) | Part::Action(Action::VerdictMap { fields, .. }) => {
            fields.iter().any(|field| is_of_transport(*field))
        }
        Part::Action(Action::DestinationNat(to) | Action::SourceNat(to)) => {
            to.map.as_ref().is_some_and(|map| map.fields.iter().any(|field| is_of_transport(*field)))
        }
        _ => false,
    }
}

fn is_of_transport(field: Field) -> bool {
    matches!(
        field,
        Field::SourcePort | Field::DestinationPort | Field::TcpFlags | Field::IcmpType | Field::IcmpCode
    )
}

fn protocol_name(number: u64) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        2 => "igmp",
        4 => "ipencap",
        6 => "tcp",
        17 => "udp",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "ipv6-icmp",
        132 => "sctp",
        136 => "udplite",
        _ => return None,
    })
}

fn nft_field(field: Field, v6: bool, protocol: Option<u64>) -> String {
    let ip = if v6 { "ip6" } else { "ip" };
    let transport = match protocol {
        Some(1) => "icmp",
        Some(58) => "icmpv6",
        Some(number) => protocol_name(number).unwrap_or("th"),
        None => "th",
    };
    match field {
        Field::SourceAddress => format!("{ip} saddr"),
        Field::DestinationAddress => format!("{ip} daddr"),
        Field::Protocol => "meta l4proto".into(),
        Field::Family => "meta nfproto".into(),
        Field::SourcePort => format!("{transport} sport"),
        Field::DestinationPort => format!("{transport} dport"),
        Field::InInterface => "iifname".into(),
        Field::OutInterface => "oifname".into(),
        Field::InPort => "physdev in".into(),
        Field::OutPort => "physdev out".into(),
        Field::Mark => "meta mark".into(),
        Field::ConnectionMark => "ct mark".into(),
        Field::ConnectionState => "ct state".into(),
        Field::ConnectionStatus => "ct status".into(),
        Field::ConnectionDirection => "ct direction".into(),
        Field::OriginalSource => format!("ct original {ip} saddr"),
        Field::OriginalDestination => format!("ct original {ip} daddr"),
        Field::OriginalPort => "ct original proto-dst".into(),
        Field::SourceType => "fib saddr type".into(),
        Field::DestinationType => "fib daddr type".into(),
        Field::IcmpType => format!("{} type", if protocol == Some(58) { "icmpv6" } else { "icmp" }),
        Field::IcmpCode => format!("{} code", if protocol == Some(58) { "icmpv6" } else { "icmp" }),
        Field::TcpFlags => "tcp flags".into(),
        Field::PacketType => "meta pkttype".into(),
        Field::EtherType => "ether type".into(),
        Field::EtherSource => "ether saddr".into(),
        Field::EtherDestination => "ether daddr".into(),
        Field::Bridged => "physdev bridged".into(),
        Field::Random(modulus) => format!("numgen mod {modulus}"),
    }
}

fn fields(all: &[Field], v6: bool, protocol: Option<u64>) -> String {
    // In a set, the protocol is a field of its own.
    let protocol = if all.contains(&Field::Protocol) { None } else { protocol };
    all.iter().map(|field| nft_field(*field, v6, protocol)).collect::<Vec<_>>().join(" . ")
}

/// Names of single bits or numbers.
fn names_of(field: Field) -> &'static [(u64, &'static str)] {
    match field {
        Field::ConnectionState => {
            &[(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")]
        }
        Field::ConnectionStatus => &[
            (1, "expected"),
            (2, "seen-reply"),
            (4, "assured"),
            (8, "confirmed"),
            (16, "snat"),
            (32, "dnat"),
        ],
        Field::TcpFlags => &[
            (1, "fin"),
            (2, "syn"),
            (4, "rst"),
            (8, "psh"),
            (16, "ack"),
            (32, "urg"),
            (64, "ecn"),
            (128, "cwr"),
        ],
        Field::SourceType | Field::DestinationType => &[
            (0, "unspec"),
            (1, "unicast"),
            (2, "local"),
            (3, "broadcast"),
            (4, "anycast"),
            (5, "multicast"),
            (6, "blackhole"),
            (7, "unreachable"),
            (8, "prohibit"),
        ],
        Field::ConnectionDirection => &[(0, "original"), (1, "reply")],
        Field::Family => &[(2, "ipv4"), (10, "ipv6")],
        Field::PacketType => &[(0, "host"), (1, "broadcast"), (2, "multicast"), (3, "other")],
        Field::EtherType => &[(0x0800, "ip"), (0x0806, "arp"), (0x86dd, "ip6"), (0x8100, "8021q")],
        _ => &[],
    }
}

/// Bits by their names.
fn bits(field: Field, mask: u64) -> String {
    let names = names_of(field).iter().filter(|(bit, _)| mask & bit != 0).map(|(_, name)| *name);
    names.collect::<Vec<_>>().join(",")
}

fn number(field: Field, number: u64) -> String {
    if let Some((_, name)) = names_of(field).iter().find(|(known, _)| *known == number) {
        return (*name).to_owned();
    }
    match field {
        Field::Mark | Field::ConnectionMark => format!("0x{number:08x}"),
        Field::Protocol => protocol_name(number).map_or_else(|| number.to_string(), str::to_owned),
        Field::IcmpType => match number {
            0 => "echo-reply".into(),
            8 | 128 => "echo-request".into(),
            _ => number.to_string(),
        },
        _ => number.to_string(),
    }
}

fn value(field: Field, value: &Value) -> String {
    match value {
        Value::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().to_string(),
        Value::Net(net) => net.to_string(),
        Value::Addresses(first, last) => format!("{first}-{last}"),
        Value::Number(one) => number(field, *one),
        Value::Numbers(first, last) => format!("{}-{}", number(field, *first), number(field, *last)),
        Value::Name(name) => format!("\"{name}\""),
        Value::Names(prefix) => format!("\"{prefix}*\""),
        Value::Mac(mac) => mac.to_string(),
        Value::Any => "*".into(),
        Value::Other(text) => text.clone(),
    }
}

fn values(field: Field, all: &[Value]) -> String {
    match all {
        [one] => value(field, one),
        all => {
            let all: Vec<String> = all.iter().map(|one| value(field, one)).collect();
            format!("{{ {} }}", all.join(", "))
        }
    }
}

fn nft_match(text: &mut String, table: &Table, found: &Match, v6: bool, protocol: Option<u64>) {
    let _ = match found {
        Match::Is { field, mask: Some(mask), not, values } => {
            let name = nft_field(*field, v6, protocol);
            let zero = matches!(values[..], [Value::Number(0)]);
            match (names_of(*field).is_empty(), zero, *not) {
                _ if *field == Field::TcpFlags => {
                    let sign = if *not { "!= " } else { "" };
                    let wanted = match values[..] {
                        [Value::Number(wanted)] => bits(*field, wanted),
                        _ => String::new(),
                    };
                    write!(text, "{name} {sign}{wanted} / {}", bits(*field, *mask))
                }
                (false, true, true) => write!(text, "{name} {}", bits(*field, *mask)),
                (false, true, false) => write!(text, "{name} ! {}", bits(*field, *mask)),
                (is_number, _, not) => {
                    let sign = if not { "!=" } else { "==" };
                    let (mask, wanted) = match values[..] {
                        [Value::Number(wanted)] if !is_number => (bits(*field, *mask), bits(*field, wanted)),
                        _ => (number(*field, *mask), self::values(*field, values)),
                    };
                    write!(text, "{name} & {mask} {sign} {wanted}")
                }
            }
        }
        Match::Is { field, mask: None, not, values } => {
            // An address says its family itself.
            let v6 =
                v6 || values.first().is_some_and(|v| matches!(v, Value::Net(net) if net.addr().is_ipv6()));
            let sign = if *not { "!= " } else { "" };
            write!(text, "{} {sign}{}", nft_field(*field, v6, protocol), self::values(*field, values))
        }
        Match::In { fields: all, not, set } => {
            let sign = if *not { "!= " } else { "" };
            write!(text, "{} {sign}{}", fields(all, v6, protocol), set_text(table, all, set))
        }
        Match::Sometimes(what) | Match::Other(what) => write!(text, "{what}"),
    };
}

/// A set by its name, or what is in it, where it is the rule's own.
fn set_text(table: &Table, fields: &[Field], name: &str) -> String {
    let Some(set) = table.set(name).filter(|_| name.starts_with("__")) else { return format!("@{name}") };
    let mut shown = Vec::new();
    for element in set.elements.iter().take(MOST_SHOWN) {
        let key = fields.iter().zip(&element.key).map(|(field, one)| value(*field, one));
        let mut text = key.collect::<Vec<_>>().join(" . ");
        if let Some(action) = &element.action {
            text.push_str(" : ");
            nft_action(&mut text, table, action, false, None);
        }
        if !element.data.is_empty() {
            let data = element.data.iter().map(|one| value(Field::DestinationPort, one));
            let _ = write!(text, " : {}", data.collect::<Vec<_>>().join(" . "));
        }
        shown.push(text);
    }
    if set.elements.len() > MOST_SHOWN || set.cut.is_some() {
        shown.push("…".to_owned());
    }
    format!("{{ {} }}", shown.join(", "))
}

fn port_text(ports: Option<(u16, u16)>) -> String {
    match ports {
        None => String::new(),
        Some((first, last)) if first == last => format!(":{first}"),
        Some((first, last)) => format!(":{first}-{last}"),
    }
}

fn nft_target(table: &Table, to: &Translation, v6: bool, protocol: Option<u64>) -> String {
    let ports = port_text(to.ports);
    if let Some(map) = &to.map {
        return format!(
            "{} map {}{ports}",
            fields(&map.fields, v6, protocol),
            set_text(table, &map.fields, &map.set)
        );
    }
    let address = |ip: std::net::IpAddr| match ip {
        std::net::IpAddr::V6(v6) if to.ports.is_some() => format!("[{v6}]"),
        ip => ip.to_string(),
    };
    match to.addresses {
        None => ports,
        Some((first, last)) if first == last => format!("{}{ports}", address(first)),
        Some((first, last)) => format!("{}-{}{ports}", address(first), address(last)),
    }
}

fn nft_action(text: &mut String, table: &Table, action: &Action, v6: bool, protocol: Option<u64>) {
    let set = |text: &mut String, what: &str, value: u32, mask: u32| match (value, mask) {
        (value, u32::MAX) => write!(text, "{what} set 0x{value:08x}"),
        (value, mask) if value == mask => write!(text, "{what} set {what} | 0x{value:08x}"),
        (0, mask) => write!(text, "{what} set {what} & 0x{:08x}", !mask),
        (value, 0) => write!(text, "{what} set {what} ^ 0x{value:08x}"),
        (value, mask) => write!(text, "{what} set {what} & 0x{:08x} ^ 0x{value:08x}", !mask),
    };
    let _ = match action {
        Action::Accept => write!(text, "accept"),
        Action::Drop => write!(text, "drop"),
        Action::Reject(with) if with.is_empty() => write!(text, "reject"),
        Action::Reject(with) => write!(text, "reject with {with}"),
        Action::Return => write!(text, "return"),
        Action::Jump(chain) => write!(text, "jump {chain}"),
        Action::Goto(chain) => write!(text, "goto {chain}"),
        Action::Masquerade { ports: None } => write!(text, "masquerade"),
        Action::Masquerade { ports } => write!(text, "masquerade to {}", port_text(*ports)),
        Action::SourceNat(to) => write!(text, "snat to {}", nft_target(table, to, v6, protocol)),
        Action::DestinationNat(to) => write!(text, "dnat to {}", nft_target(table, to, v6, protocol)),
        Action::Redirect { ports: None } => write!(text, "redirect"),
        Action::Redirect { ports } => write!(text, "redirect to {}", port_text(*ports)),
        Action::SetMark { value, mask } => set(text, "meta mark", *value, *mask),
        Action::SetConnectionMark { value, mask } => set(text, "ct mark", *value, *mask),
        Action::SaveMark { .. } => write!(text, "ct mark set meta mark"),
        Action::RestoreMark { .. } => write!(text, "meta mark set ct mark"),
        Action::VerdictMap { fields: all, set } => {
            write!(text, "{} vmap {}", fields(all, v6, protocol), set_text(table, all, set))
        }
        Action::Queue => write!(text, "queue"),
        Action::Notrack => write!(text, "notrack"),
        Action::Other(what) => write!(text, "{what}"),
    };
}

fn plus(value: &Value) -> String {
    match value {
        Value::Name(name) => name.clone(),
        Value::Names(prefix) => format!("{prefix}+"),
        other => self::value(Field::InInterface, other),
    }
}

fn iptables_match(text: &mut String, found: &Match, protocol: Option<u64>) {
    let (field, mask, not, all) = match found {
        Match::Is { field, mask, not, values } => (*field, *mask, *not, values),
        Match::In { set, .. } => return text.push_str(&format!("-m set --match-set {set}")),
        Match::Sometimes(what) | Match::Other(what) => return text.push_str(what),
    };
    let sign = if not { "! " } else { "" };
    let module = protocol.and_then(protocol_name).unwrap_or("tcp");
    // As iptables lists them: with capitals, a comma between.
    let listed = |all: &[Value]| {
        let all: Vec<String> = all.iter().map(|one| value(field, one).to_uppercase()).collect();
        all.join(",")
    };
    let zero = matches!(all[..], [Value::Number(0)]);
    let net = |one: &Value| match one {
        Value::Net(net) => net.to_string(),
        other => value(field, other),
    };
    let port = |one: &Value| match one {
        Value::Numbers(first, last) => format!("{first}:{last}"),
        other => value(field, other),
    };
    let range = match &all[..] {
        [Value::Addresses(first, last)] => Some(format!("{first}-{last}")),
        _ => None,
    };
    let masked = || match mask {
        None => format!("{:#x}", number_of(all)),
        Some(mask) => format!("{:#x}/{mask:#x}", number_of(all)),
    };
    let one = all.first().unwrap_or(&Value::Any);
    let _ = match field {
        Field::SourceAddress | Field::DestinationAddress => match (range, field) {
            (Some(range), Field::SourceAddress) => write!(text, "-m iprange {sign}--src-range {range}"),
            (Some(range), _) => write!(text, "-m iprange {sign}--dst-range {range}"),
            (None, Field::SourceAddress) => write!(text, "{sign}-s {}", net(one)),
            (None, _) => write!(text, "{sign}-d {}", net(one)),
        },
        Field::InInterface => write!(text, "{sign}-i {}", plus(one)),
        Field::OutInterface => write!(text, "{sign}-o {}", plus(one)),
        Field::Protocol => write!(text, "{sign}-p {}", value(field, one)),
        Field::SourcePort | Field::DestinationPort => {
            let side = if field == Field::SourcePort { "s" } else { "d" };
            match &all[..] {
                [one] => write!(text, "-m {module} {sign}--{side}port {}", port(one)),
                many => {
                    let many: Vec<String> = many.iter().map(port).collect();
                    write!(text, "-m multiport {sign}--{side}ports {}", many.join(","))
                }
            }
        }
        Field::ConnectionState if zero => {
            let sign = if not { "" } else { "! " };
            let states = bits(field, mask.unwrap_or_default()).to_uppercase();
            write!(text, "-m conntrack {sign}--ctstate {states}")
        }
        Field::ConnectionStatus if zero => {
            let sign = if not { "" } else { "! " };
            let (mask, translated) = (mask.unwrap_or_default(), 16 | 32);
            // "--ctstate DNAT" is a status, too.
            let option = if mask & !translated == 0 { "ctstate" } else { "ctstatus" };
            write!(text, "-m conntrack {sign}--{option} {}", bits(field, mask).to_uppercase())
        }
        Field::SourceType => write!(text, "-m addrtype {sign}--src-type {}", listed(all)),
        Field::DestinationType => write!(text, "-m addrtype {sign}--dst-type {}", listed(all)),
        Field::Mark => write!(text, "-m mark {sign}--mark {}", masked()),
        Field::ConnectionMark => write!(text, "-m connmark {sign}--mark {}", masked()),
        Field::OriginalSource => write!(text, "-m conntrack {sign}--ctorigsrc {}", net(one)),
        Field::OriginalDestination => write!(text, "-m conntrack {sign}--ctorigdst {}", net(one)),
        Field::ConnectionDirection => write!(text, "-m conntrack --ctdir {}", listed(all)),
        Field::IcmpType if protocol == Some(58) => {
            write!(text, "-m icmp6 {sign}--icmpv6-type {}", number_of(all))
        }
        Field::IcmpType => write!(text, "-m icmp {sign}--icmp-type {}", number_of(all)),
        Field::IcmpCode => write!(text, "(code {})", port(one)),
        Field::TcpFlags => {
            let wanted = bits(field, number_of(all)).to_uppercase();
            let wanted = if wanted.is_empty() { "NONE" } else { &wanted };
            let mask = bits(field, mask.unwrap_or(0xff)).to_uppercase();
            write!(text, "-m tcp {sign}--tcp-flags {mask} {wanted}")
        }
        Field::Bridged => write!(text, "-m physdev {sign}--physdev-is-bridged"),
        Field::InPort | Field::OutPort => {
            let side = if field == Field::InPort { "in" } else { "out" };
            match one {
                Value::Name(name) if name.is_empty() => {
                    let sign = if not { "" } else { "! " };
                    write!(text, "-m physdev {sign}--physdev-is-{side}")
                }
                one => write!(text, "-m physdev {sign}--physdev-{side} {}", plus(one)),
            }
        }
        Field::PacketType => write!(text, "-m pkttype {sign}--pkt-type {}", value(field, one)),
        Field::EtherSource => write!(text, "-m mac {sign}--mac-source {}", value(field, one)),
        other => write!(text, "{sign}{} {}", nft_field(other, false, protocol), values(other, all)),
    };
}

fn number_of(all: &[Value]) -> u64 {
    match all {
        [Value::Number(number)] => *number,
        _ => 0,
    }
}

fn iptables_action(text: &mut String, action: &Action) {
    let to = |to: &Translation| nft_target_of(to);
    let ports = |option: &str, ports: &Option<(u16, u16)>| match ports {
        Some(_) => format!(" {option} {}", port_text(*ports).trim_start_matches(':')),
        None => String::new(),
    };
    let _ = match action {
        Action::Accept => write!(text, "-j ACCEPT"),
        Action::Drop => write!(text, "-j DROP"),
        Action::Reject(with) => write!(text, "-j REJECT --reject-with {with}"),
        Action::Return => write!(text, "-j RETURN"),
        Action::Jump(chain) => write!(text, "-j {chain}"),
        Action::Goto(chain) => write!(text, "-g {chain}"),
        Action::Masquerade { ports: found } => write!(text, "-j MASQUERADE{}", ports("--to-ports", found)),
        Action::Redirect { ports: found } => write!(text, "-j REDIRECT{}", ports("--to-ports", found)),
        Action::SourceNat(found) => write!(text, "-j SNAT --to-source {}", to(found)),
        Action::DestinationNat(found) => write!(text, "-j DNAT --to-destination {}", to(found)),
        Action::SetMark { value, mask } => write!(text, "-j MARK --set-xmark {value:#x}/{mask:#x}"),
        Action::SetConnectionMark { value, mask } => {
            write!(text, "-j CONNMARK --set-xmark {value:#x}/{mask:#x}")
        }
        Action::SaveMark { mask } => {
            write!(text, "-j CONNMARK --save-mark --nfmask {mask:#x} --ctmask {mask:#x}")
        }
        Action::RestoreMark { mask } => {
            write!(text, "-j CONNMARK --restore-mark --nfmask {mask:#x} --ctmask {mask:#x}")
        }
        Action::VerdictMap { set, .. } => write!(text, "vmap @{set}"),
        Action::Queue => write!(text, "-j NFQUEUE"),
        Action::Notrack => write!(text, "-j CT --notrack"),
        Action::Other(what) => write!(text, "-j {what}"),
    };
}

/// Without maps, which iptables does not have.
fn nft_target_of(to: &Translation) -> String {
    let ports = port_text(to.ports);
    match to.addresses {
        None => ports,
        Some((first, last)) => {
            let bracket = first.is_ipv6() && to.ports.is_some();
            let one = |ip: std::net::IpAddr| if bracket { format!("[{ip}]") } else { ip.to_string() };
            let range = if first == last { one(first) } else { format!("{}-{}", one(first), one(last)) };
            format!("{range}{ports}")
        }
    }
}

/// `fib` results that are no address type.
pub(super) fn fib(result: Option<u32>, flags: Option<u32>) -> String {
    const FLAGS: [(u32, &str); 5] = [(1, "saddr"), (2, "daddr"), (4, "mark"), (8, "iif"), (16, "oif")];
    let flags = flags.unwrap_or_default();
    let keys: Vec<&str> = FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    let result = match result {
        Some(1) => "oif",
        Some(2) => "oifname",
        Some(3) => "type",
        _ => "?",
    };
    format!("fib {} {result}", keys.join(" . "))
}

/// With what nft rejects: `NFT_REJECT_*` and its code.
pub(super) fn reject(kind: u32, code: u8, v6: Option<bool>) -> String {
    let name =
        |names: &[&str]| names.get(usize::from(code)).map_or_else(|| code.to_string(), |n| (*n).to_owned());
    match (kind, v6) {
        (1, _) => "tcp reset".to_owned(),
        (2, _) => format!(
            "icmpx {}",
            name(&["no-route", "port-unreachable", "host-unreachable", "admin-prohibited"])
        ),
        (_, Some(true)) => format!(
            "icmpv6 {}",
            name(&["no-route", "admin-prohibited", "2", "addr-unreachable", "port-unreachable"])
        ),
        _ => format!(
            "icmp {}",
            match code {
                9 => "net-prohibited".to_owned(),
                10 => "host-prohibited".to_owned(),
                13 => "admin-prohibited".to_owned(),
                _ => name(&["net-unreachable", "host-unreachable", "prot-unreachable", "port-unreachable"]),
            }
        ),
    }
}

/// `enum ipt_reject_with`, `ip6t_reject_with`.
pub(super) fn xt_reject(with: u32, v6: bool) -> String {
    let names: &[&str] = if v6 {
        &[
            "icmp6-no-route",
            "icmp6-adm-prohibited",
            "icmp6-not-neighbour",
            "icmp6-addr-unreachable",
            "icmp6-port-unreachable",
            "icmp6-echo-reply",
            "tcp-reset",
            "icmp6-policy-fail",
            "icmp6-reject-route",
        ]
    } else {
        &[
            "icmp-net-unreachable",
            "icmp-host-unreachable",
            "icmp-proto-unreachable",
            "icmp-port-unreachable",
            "icmp-echo-reply",
            "icmp-net-prohibited",
            "icmp-host-prohibited",
            "tcp-reset",
            "icmp-admin-prohibited",
        ]
    };
    names.get(with as usize).map_or_else(|| with.to_string(), |name| (*name).to_owned())
}

/// A limit: `NFTA_LIMIT_*`.
pub(super) fn limit(data: Attributes<'_>) -> String {
    let be64 = |kind: u16| data.find(kind).and_then(|n| n.value.try_into().ok().map(u64::from_be_bytes));
    let over = if data.find(5).and_then(Attribute::be32).is_some_and(|f| f & 1 != 0) { "over " } else { "" };
    let unit = match be64(2) {
        Some(1) => "second",
        Some(60) => "minute",
        Some(3_600) => "hour",
        Some(86_400) => "day",
        _ => "week",
    };
    let bytes = if data.find(4).and_then(Attribute::be32) == Some(1) { " bytes" } else { "" };
    format!("limit rate {over}{}{bytes}/{unit}", be64(1).unwrap_or_default())
}

/// A log: `NFTA_LOG_*`.
pub(super) fn log(data: Attributes<'_>, style: Style) -> String {
    let prefix = data.find(2).map(Attribute::string).filter(|prefix| !prefix.is_empty());
    match (style, prefix) {
        (Style::Nft, None) => "log".to_owned(),
        (Style::Nft, Some(prefix)) => format!("log prefix {prefix:?}"),
        (Style::Iptables, None) => "-j LOG".to_owned(),
        (Style::Iptables, Some(prefix)) => format!("-j LOG --log-prefix {prefix:?}"),
    }
}
