//! podplumb's two tables. Their chains and rules are made once and do not depend on how many pods there are.

use crate::conditions::Conditions;
use crate::language::{Action, At, Chain, Family, Field, Hook, Match, Rule, Set, Table, Type};

/// The tables' name.
pub const TABLE: &str = "podplumb";

/// The bit of a packet's mark that says that it comes from or goes to a pod that the firewall plugin admitted. A rule in iptables' chain
/// FORWARD lets such packets pass where the policy is to drop (see [`foreign`](crate::foreign)). Not the bits of Kubernetes (14, 15), of
/// the reference portmap (13), of Cilium (8 to 11, from 16 on) and of Calico (from 16 on).
pub(crate) const ADMITTED: u32 = 1 << 12;

/// What differs between IPv4 and IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ip {
    pub(crate) v6: bool,
}

pub(crate) const IPS: [Ip; 2] = [Ip { v6: false }, Ip { v6: true }];

impl Ip {
    pub(crate) fn of(address: std::net::IpAddr) -> Ip {
        IPS[usize::from(address.is_ipv6())]
    }

    /// The name of this family's set.
    pub(crate) fn set(self, name: &str) -> String {
        format!("{name}{}", if self.v6 { 6 } else { 4 })
    }

    pub(crate) fn kind(self) -> Type {
        if self.v6 { Type::Ipv6 } else { Type::Ipv4 }
    }

    pub(crate) fn source(self) -> Field {
        if self.v6 { Field::Ip6Source } else { Field::IpSource }
    }

    pub(crate) fn destination(self) -> Field {
        if self.v6 { Field::Ip6Destination } else { Field::IpDestination }
    }

    fn multicast(self) -> ipnet::IpNet {
        let text = if self.v6 { "ff00::/8" } else { "224.0.0.0/4" };
        text.parse().expect("a subnet")
    }
}

/// The name of a set or chain of port mappings that have conditions.
pub(crate) fn variant(name: &str, conditions: Option<&str>) -> String {
    match conditions {
        None => name.to_owned(),
        Some(id) => format!("{name}-{id}"),
    }
}

fn set(name: String, key: &[Type]) -> Set {
    Set { name, key: key.to_vec(), data: Vec::new(), interval: false }
}

fn ranges(name: String, key: &[Type]) -> Set {
    Set { interval: true, ..set(name, key) }
}

fn map(name: String, key: &[Type], data: &[Type]) -> Set {
    Set { data: data.to_vec(), ..set(name, key) }
}

fn rule(matches: Vec<Match>, action: Action) -> Rule {
    Rule { matches, action }
}

fn chain(name: &str, hook: Option<Hook>, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_owned(), hook, rules }
}

fn hook(kind: &'static str, at: At, priority: (i32, &'static str)) -> Option<Hook> {
    Some(Hook { kind, at, priority })
}

/// Both tables.
pub(crate) fn tables() -> [Table; 2] {
    [inet(), bridge()]
}

/// Masquerading, port mappings and what pods may reach by routing.
///
/// The same traffic as with the reference plugins: ipMasq (plugins/pkg/ip/ipmasq) leaves alone what stays in the pod's subnet and
/// multicast; portmap translates what comes to an address of the node and what the node itself sends there; firewall's
/// `same-bridge` and `isolated` keep pods apart, and nobody else from them.
fn inet() -> Table {
    let mut sets = Vec::new();
    for ip in IPS {
        let address = ip.kind();
        sets.extend([
            set(ip.set("pods"), &[address]),
            ranges(ip.set("local"), &[address, address]),
            ranges(ip.set("hairpin"), &[address, address]),
            set(ip.set("restricted"), &[address]),
            set(ip.set("bridged"), &[Type::Interface, address]),
            set(ip.set("isolated"), &[address]),
            set(ip.set("admitted"), &[address]),
        ]);
        sets.extend(port_maps(ip, None));
    }
    let mut postrouting = Vec::new();
    let mut forward = Vec::new();
    for ip in IPS {
        let (from, to) = (ip.source(), ip.destination());
        let within = |set: &str, fields: &[Field]| Match::In(fields.to_vec(), ip.set(set), true);
        postrouting.extend([
            rule(vec![Match::Translated, within("hairpin", &[from, to])], Action::Masquerade),
            rule(vec![within("local", &[from, to])], Action::Return),
            rule(vec![within("pods", &[from]), Match::Net(to, ip.multicast(), false)], Action::Masquerade),
        ]);
        let of_another = Match::In(vec![Field::InInterface, to], ip.set("bridged"), false);
        forward.extend([
            rule(vec![within("restricted", &[from]), within("restricted", &[to]), of_another], Action::Drop),
            rule(vec![within("restricted", &[from]), within("isolated", &[to])], Action::Drop),
            rule(vec![within("admitted", &[from])], Action::Mark(ADMITTED)),
            rule(vec![within("admitted", &[to])], Action::Mark(ADMITTED)),
        ]);
    }
    let destination = (-100, "dstnat");
    Table {
        family: Family::Inet,
        name: TABLE,
        sets,
        chains: vec![
            chain("ports", None, port_rules(None)),
            chain("prerouting", hook("nat", At::Prerouting, destination), to_ports(None)),
            // nft calls this priority by its name only where the kernel's own users of it hook, which is prerouting.
            chain("output", hook("nat", At::Output, (-100, "-100")), to_ports(None)),
            chain("postrouting", hook("nat", At::Postrouting, (100, "srcnat")), postrouting),
            // Before iptables' chain, which looks at the mark.
            chain("forward", hook("filter", At::Forward, (-1, "filter - 1")), forward),
        ],
    }
}

/// What frames may pass bridges: their sources, and those to isolated pods.
fn bridge() -> Table {
    let mut sets = vec![
        set("guarded".into(), &[Type::Interface]),
        set("sources".into(), &[Type::Interface, Type::Ether]),
    ];
    sets.extend(IPS.map(|ip| set(ip.set("isolated"), &[ip.kind()])));
    let guard = rule(
        vec![
            Match::In(vec![Field::InInterface], "guarded".into(), true),
            Match::In(vec![Field::InInterface, Field::EtherSource], "sources".into(), false),
        ],
        Action::Drop,
    );
    let isolate =
        IPS.map(|ip| rule(vec![Match::In(vec![ip.destination()], ip.set("isolated"), true)], Action::Drop));
    Table {
        family: Family::Bridge,
        name: TABLE,
        sets,
        chains: vec![
            chain("prerouting", hook("filter", At::Prerouting, (-300, "dstnat")), vec![guard]),
            chain("forward", hook("filter", At::Forward, (0, "0")), isolate.to_vec()),
        ],
    }
}

/// The maps of ports: to any address of the node, and to a certain one.
fn port_maps(ip: Ip, conditions: Option<&str>) -> [Set; 2] {
    let to = [ip.kind(), Type::Port];
    [
        map(variant(&ip.set("ports"), conditions), &[Type::Protocol, Type::Port], &to),
        map(variant(&ip.set("addrports"), conditions), &[ip.kind(), Type::Protocol, Type::Port], &to),
    ]
}

/// A port of a certain address first, then one of any.
fn port_rules(conditions: Option<&Conditions>) -> Vec<Rule> {
    let id = conditions.map(Conditions::id);
    let id = id.as_deref();
    let mut rules = Vec::new();
    for ip in IPS {
        rules.extend(conditions.iter().flat_map(|conditions| conditions.returns(ip.v6)));
        let given = conditions.map(|conditions| conditions.matches(ip.v6)).unwrap_or_default();
        let dnat =
            |map: &str, key: Vec<Field>| Action::Dnat { v6: ip.v6, key, map: variant(&ip.set(map), id) };
        let port = [Field::Protocol, Field::DestinationPort];
        let certain = [&[ip.destination()], &port[..]].concat();
        let with = |own: Vec<Match>| [own, given.clone()].concat();
        rules.extend([
            rule(with(vec![Match::IsV6(ip.v6)]), dnat("addrports", certain)),
            rule(with(vec![Match::IsV6(ip.v6), Match::LOCAL]), dnat("ports", port.to_vec())),
        ]);
    }
    rules
}

fn to_ports(conditions: Option<&str>) -> Vec<Rule> {
    vec![rule(Vec::new(), Action::Jump(variant("ports", conditions)))]
}

/// What port mappings with these conditions need besides [`tables`]: maps of their own, and chains that look into them.
pub(crate) fn conditional(conditions: &Conditions) -> Table {
    let id = conditions.id();
    let rules = |chain: &str| match chain == variant("ports", Some(&id)) {
        true => port_rules(Some(conditions)),
        false => to_ports(Some(&id)),
    };
    Table {
        family: Family::Inet,
        name: TABLE,
        sets: IPS.into_iter().flat_map(|ip| port_maps(ip, Some(&id))).collect(),
        chains: conditional_chains(&id, rules).into(),
    }
}

/// The chains of conditions with this name, with the rules of each.
pub(crate) fn conditional_chains(id: &str, rules: impl Fn(&str) -> Vec<Rule>) -> [Chain; 3] {
    let named = |name: &str, hook: Option<Hook>| {
        let name = variant(name, Some(id));
        chain(&name, hook, rules(&name))
    };
    [
        named("ports", None),
        named("prerouting", hook("nat", At::Prerouting, (-100, "dstnat"))),
        named("output", hook("nat", At::Output, (-100, "-100"))),
    ]
}
