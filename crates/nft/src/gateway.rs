//! What a router between a private network and others does: it lends its address, and leads ports inside.
//!
//! In a table of its own, for namespaces in which nobody else makes rules.

use std::net::SocketAddr;

use ipnet::IpNet;
use model::IfName;
use netlink::{Result, Socket};

use crate::language::{Action, At, Chain, Family, Field, Hook, Match, Rule, Table};
use crate::ruleset::Ip;
use crate::wire;

/// The table's name.
pub const TABLE: &str = "podplumb-gateway";

/// Connections that leave with the address of the interface through which they leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masquerade {
    /// From whom. What stays within that subnet keeps its address.
    pub source: Option<IpNet>,
    /// Through which interface.
    pub out: Option<IfName>,
}

/// A port that leads elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// The transport protocol's number.
    pub protocol: u8,
    /// The port here, at every address.
    pub port: u16,
    /// Where it leads.
    pub to: SocketAddr,
}

/// Makes the calling thread's namespace do exactly this, in one transaction.
pub fn set(masquerade: &[Masquerade], forward: &[Forward]) -> Result<()> {
    let mut socket = Socket::netfilter()?;
    let messages = table(masquerade, forward).messages();
    wire::commit(&mut socket, messages).map_err(|error| error.on(format_args!("table {TABLE}")))
}

/// The same as nft's text.
pub fn text(masquerade: &[Masquerade], forward: &[Forward]) -> String {
    table(masquerade, forward).text(|_| Vec::new())
}

fn table(masquerade: &[Masquerade], forward: &[Forward]) -> Table {
    let hook = |at, number, name| Some(Hook { kind: "nat", at, priority: (number, name) });
    let chain = |name: &str, hook, rules| Chain { name: name.to_owned(), hook, rules };
    let led: Vec<Rule> = forward.iter().map(leads).collect();
    Table {
        family: Family::Inet,
        name: TABLE,
        sets: Vec::new(),
        chains: vec![
            chain("prerouting", hook(At::Prerouting, -100, "dstnat"), led.clone()),
            chain("output", hook(At::Output, -100, "-100"), led),
            chain(
                "postrouting",
                hook(At::Postrouting, 100, "srcnat"),
                masquerade.iter().map(lends).collect(),
            ),
        ],
    }
}

fn leads(forward: &Forward) -> Rule {
    let matches = vec![
        Match::IsV6(forward.to.is_ipv6()),
        Match::LOCAL,
        Match::Protocol(forward.protocol, true),
        Match::Ports(Field::DestinationPort, forward.port, forward.port, true),
    ];
    Rule { matches, action: Action::DnatTo(forward.to) }
}

fn lends(masquerade: &Masquerade) -> Rule {
    let mut matches = Vec::new();
    if let Some(source) = masquerade.source {
        let ip = Ip::of(source.addr());
        matches.push(Match::Net(ip.source(), source, true));
        if masquerade.out.is_none() {
            matches.push(Match::Net(ip.destination(), source, false));
        }
    }
    if let Some(out) = &masquerade.out {
        matches.push(Match::Interface(Field::OutInterface, out.to_string(), true));
    }
    Rule { matches, action: Action::Masquerade }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_lends_its_address_and_leads_ports_inside() {
        let masquerade = [
            Masquerade {
                source: Some("10.1.0.0/24".parse().unwrap()),
                out: Some(IfName::new("eth1").unwrap()),
            },
            Masquerade { source: Some("fd00::/64".parse().unwrap()), out: None },
        ];
        let forward = [Forward { protocol: 6, port: 8080, to: "10.1.0.2:80".parse().unwrap() }];
        let text = text(&masquerade, &forward);
        for line in [
            "ip saddr 10.1.0.0/24 oifname \"eth1\" masquerade",
            "ip6 saddr fd00::/64 ip6 daddr != fd00::/64 masquerade",
            "dnat ip to 10.1.0.2:80",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
