//! What a rule asks of a packet.

use netlink::Request;

use super::*;

/// One condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Match {
    /// IPv6, or IPv4; in text only where no field says so anyway.
    IsV6(bool),
    /// The fields are in the set, or not.
    In(Vec<Field>, String, bool),
    /// The field is in the subnet, or not.
    Net(Field, ipnet::IpNet, bool),
    /// The field is this interface, or not.
    Interface(Field, String, bool),
    /// The field is an interface whose name begins so, or not.
    Interfaces(Field, String, bool),
    /// The transport protocol is this, or not.
    Protocol(u8, bool),
    /// The field is a port from the first to the last, or not.
    Ports(Field, u16, u16, bool),
    /// Of the packet's mark these bits (the second) are as in the first, or not.
    Mark(u32, u32, bool),
    /// The connection is in one of these states, or in none of them.
    State(u32, bool),
    /// The address is of this type, or not.
    AddressType(End, u32, bool),
    /// The connection's destination was translated.
    Translated,
}

/// An end of a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// An address of the node (`RTN_LOCAL`).
const RTN_LOCAL: u32 = 2;

/// Types of addresses by number (`RTN_*`), as nft and iptables call them.
pub(crate) const ADDRESS_TYPES: [&str; 9] = [
    "unspec",
    "unicast",
    "local",
    "broadcast",
    "anycast",
    "multicast",
    "blackhole",
    "unreachable",
    "prohibit",
];

/// States of connections and their bits (`NF_CT_STATE_BIT`), as nft and iptables call them.
pub(crate) const STATES: [(&str, u32); 5] =
    [("invalid", 1), ("established", 2), ("related", 4), ("new", 8), ("untracked", 64)];

/// What conntrack knows (`NFT_CT_*`).
pub(super) const CT_STATE: u32 = 0;
pub(super) const CT_STATUS: u32 = 2;
/// `IPS_DST_NAT`.
pub(super) const DESTINATION_TRANSLATED: u32 = 1 << 5;
/// `NFT_FIB_RESULT_ADDRTYPE`.
pub(super) const RESULT_ADDRTYPE: u32 = 3;

impl End {
    /// `NFTA_FIB_F_*`
    pub(super) fn flag(self) -> u32 {
        match self {
            End::Source => 1,
            End::Destination => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            End::Source => "saddr",
            End::Destination => "daddr",
        }
    }
}

impl Match {
    /// The destination is an address of the node.
    pub(crate) const LOCAL: Match = Match::AddressType(End::Destination, RTN_LOCAL, true);

    /// The contrary.
    pub(crate) fn not(self) -> Match {
        match self {
            Match::In(fields, set, yes) => Match::In(fields, set, !yes),
            Match::Net(field, net, yes) => Match::Net(field, net, !yes),
            Match::Interface(field, name, yes) => Match::Interface(field, name, !yes),
            Match::Interfaces(field, start, yes) => Match::Interfaces(field, start, !yes),
            Match::Protocol(number, yes) => Match::Protocol(number, !yes),
            Match::Ports(field, first, last, yes) => Match::Ports(field, first, last, !yes),
            Match::Mark(value, bits, yes) => Match::Mark(value, bits, !yes),
            Match::State(states, yes) => Match::State(states, !yes),
            Match::AddressType(end, number, yes) => Match::AddressType(end, number, !yes),
            Match::IsV6(v6) => Match::IsV6(!v6),
            // Nothing asks for connections that were not.
            Match::Translated => Match::Translated,
        }
    }

    /// The end whose addresses or ports it excludes some of.
    pub(crate) fn excludes(&self) -> Option<End> {
        let (Match::Net(field, _, false) | Match::Ports(field, _, _, false)) = self else { return None };
        match field {
            Field::IpSource | Field::Ip6Source | Field::SourcePort => Some(End::Source),
            _ => Some(End::Destination),
        }
    }

    pub(super) fn fields(&self) -> &[Field] {
        match self {
            Match::In(fields, ..) => fields,
            Match::Net(field, ..)
            | Match::Interface(field, ..)
            | Match::Interfaces(field, ..)
            | Match::Ports(field, ..) => std::slice::from_ref(field),
            _ => &[],
        }
    }

    pub(super) fn write(&self, rule: Request) -> Request {
        // Written by the rule, once.
        if let Match::IsV6(_) = self {
            return rule;
        }
        let rule = load(rule, self.fields());
        match self {
            Match::IsV6(_) => rule,
            Match::In(_, set, is_in) => expression(rule, "lookup", |r| {
                let r = r.attr_str(1, set).attr_be32(2, REGISTER);
                if *is_in { r } else { r.attr_be32(5, 1) }
            }),
            Match::Net(_, net, is_in) => {
                let rule = mask(rule, &crate::octets(net.netmask()));
                compare(rule, *is_in, &crate::octets(net.network()))
            }
            Match::Interface(_, name, is_it) => compare(rule, *is_it, &crate::interface(name)),
            // Without the zeros at its end, which is how nft does it.
            Match::Interfaces(_, start, is_it) => compare(rule, *is_it, start.as_bytes()),
            Match::Protocol(number, is_it) => compare(meta(rule, REGISTER, META_L4PROTO), *is_it, &[*number]),
            Match::Ports(_, first, last, is_it) if first == last => {
                compare(rule, *is_it, &first.to_be_bytes())
            }
            Match::Ports(_, first, last, is_in) => expression(rule, "range", |r| {
                r.attr_be32(1, REGISTER)
                    .attr_be32(2, u32::from(!is_in))
                    .nest(3, |r| r.attr(DATA_VALUE, &first.to_be_bytes()))
                    .nest(4, |r| r.attr(DATA_VALUE, &last.to_be_bytes()))
            }),
            Match::Mark(value, bits, is_it) => {
                let rule = meta(rule, REGISTER, META_MARK);
                let rule = if *bits == u32::MAX { rule } else { mask(rule, &bits.to_ne_bytes()) };
                compare(rule, *is_it, &value.to_ne_bytes())
            }
            Match::State(states, is_in) => {
                compare(mask(ct(rule, CT_STATE), &states.to_ne_bytes()), !is_in, &[0; 4])
            }
            Match::AddressType(end, number, is_it) => {
                let rule = expression(rule, "fib", |r| {
                    r.attr_be32(1, REGISTER).attr_be32(2, RESULT_ADDRTYPE).attr_be32(3, end.flag())
                });
                compare(rule, *is_it, &number.to_ne_bytes())
            }
            Match::Translated => {
                let rule = mask(ct(rule, CT_STATUS), &DESTINATION_TRANSLATED.to_ne_bytes());
                compare(rule, false, &[0; 4])
            }
        }
    }

    pub(super) fn text(&self) -> String {
        let not = |yes: &bool| if *yes { "" } else { "!= " };
        match self {
            Match::IsV6(true) => "meta nfproto ipv6".into(),
            Match::IsV6(false) => "meta nfproto ipv4".into(),
            Match::In(fields, set, is_in) => format!("{} {}@{set}", concatenation(fields), not(is_in)),
            Match::Net(field, net, is_in) => format!("{} {}{net}", field.name(), not(is_in)),
            Match::Interface(field, name, is_it) => format!("{} {}\"{name}\"", field.name(), not(is_it)),
            Match::Interfaces(field, start, is_it) => {
                format!("{} {}\"{start}*\"", field.name(), not(is_it))
            }
            Match::Protocol(number, is_it) => {
                format!("meta l4proto {}{}", not(is_it), Type::Protocol.show(&[*number]))
            }
            Match::Ports(field, first, last, is_in) => {
                let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
                format!("{} {}{ports}", field.name(), not(is_in))
            }
            Match::Mark(value, u32::MAX, is_it) => format!("meta mark {}0x{value:08x}", not(is_it)),
            Match::Mark(value, bits, is_it) => {
                format!("meta mark & 0x{bits:08x} {} 0x{value:08x}", if *is_it { "==" } else { "!=" })
            }
            Match::State(states, is_in) => {
                let names = STATES.iter().filter(|(_, bit)| states & bit != 0).map(|(name, _)| *name);
                let not = if *is_in { "" } else { "! " };
                format!("ct state {not}{}", names.collect::<Vec<_>>().join(","))
            }
            Match::AddressType(end, number, is_it) => {
                let name = ADDRESS_TYPES.get(*number as usize).copied().unwrap_or("unspec");
                format!("fib {} type {}{name}", end.name(), not(is_it))
            }
            Match::Translated => "ct status dnat".into(),
        }
    }
}
