//! The routing decision of one namespace: policy rules, tables, routes, and the source address that comes of it.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{Hop, IfIndex, Namespace, PolicyAction, PolicyRule, Route, RouteKind, Stack};

use crate::wiring::is_link_local;

const LOCAL: u32 = 255;
const MAIN: u32 = 254;
const DEFAULT: u32 = 253;

/// What is looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<'q> {
    pub(crate) source: Option<IpAddr>,
    pub(crate) destination: IpAddr,
    /// The interface by which the packet came; `None` for one that is made here.
    pub(crate) input: Option<&'q str>,
    pub(crate) mark: u32,
    /// The interface that it has to leave by.
    pub(crate) device: Option<IfIndex>,
    /// The table of the VRF that it is in.
    pub(crate) vrf: Option<u32>,
    /// It is not known who sends it, so a rule that asks for that applies perhaps; and it is for somebody else, whatever addresses
    /// this namespace has.
    pub(crate) of_anybody: bool,
}

impl Query<'_> {
    /// The way to an address, for whoever has no mark and is not bound to an interface.
    pub(crate) fn of_anybody(destination: IpAddr) -> Self {
        Self { source: None, destination, input: None, mark: 0, device: None, vrf: None, of_anybody: true }
    }
}

/// What the tables say.
#[derive(Debug, Clone)]
pub(crate) enum Routed<'a> {
    /// It is for this namespace.
    Local,
    /// It goes on.
    Way(Way<'a>),
    /// A route or a rule refuses it.
    Refused { by: String, how: &'static str },
    /// No route leads there.
    Nowhere,
}

/// By which route a packet goes.
#[derive(Debug, Clone)]
pub(crate) struct Way<'a> {
    pub(crate) rule: Option<&'a PolicyRule>,
    pub(crate) route: &'a Route,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) device: IfIndex,
    /// Other ways of the same route.
    pub(crate) others: Vec<Hop>,
}

impl Way<'_> {
    /// The neighbour that gets the packet.
    pub(crate) fn next_hop(&self, destination: IpAddr) -> IpAddr {
        self.gateway.unwrap_or(destination)
    }
}

/// What was decided, and what of that is not certain.
pub(crate) struct Decision<'a> {
    pub(crate) routed: Routed<'a>,
    pub(crate) doubts: Vec<String>,
}

/// Looks a packet up.
pub(crate) fn look_up<'a>(namespace: &'a Namespace, stack: &'a Stack, query: &Query<'_>) -> Decision<'a> {
    let v6 = query.destination.is_ipv6();
    let rules: Vec<&PolicyRule> = stack.rules.iter().filter(|rule| rule.v6 == v6).collect();
    let mut doubts = Vec::new();
    if rules.is_empty() {
        // Of a namespace without policy routing, or of this family: what every kernel begins with.
        let tables = [LOCAL, MAIN, DEFAULT].into_iter();
        let mut look_in = |table| in_table(namespace, stack, table, None, None, query, &mut doubts);
        let found = tables.filter_map(&mut look_in).next();
        return Decision { routed: found.unwrap_or(Routed::Nowhere), doubts };
    }
    let mut at_least = 0;
    for rule in rules {
        if rule.priority < at_least {
            continue;
        }
        match fits(rule, query) {
            Some(true) => {}
            Some(false) => continue,
            None => {
                let selectors = match rule.others.join(", ") {
                    none if none.is_empty() => none,
                    some => format!(" ({some})"),
                };
                doubts.push(format!("whether rule {}{selectors} applies is not known", describe_rule(rule)));
                continue;
            }
        }
        let (table, suppressed) = match rule.action {
            PolicyAction::Table(table) => (table, None),
            PolicyAction::TableSuppressed { table, length } => (table, Some(length)),
            PolicyAction::Vrf => match query.vrf {
                Some(table) => (table, None),
                None => continue,
            },
            PolicyAction::Goto(priority) => {
                at_least = priority;
                continue;
            }
            PolicyAction::Refuse => {
                let by = format!("rule {}", describe_rule(rule));
                return Decision { routed: Routed::Refused { by, how: "refuses it" }, doubts };
            }
            PolicyAction::Nothing => continue,
        };
        if let Some(routed) = in_table(namespace, stack, table, suppressed, Some(rule), query, &mut doubts) {
            return Decision { routed, doubts };
        }
    }
    Decision { routed: Routed::Nowhere, doubts }
}

/// Whether a rule applies; `None` where that is not known.
fn fits(rule: &PolicyRule, query: &Query<'_>) -> Option<bool> {
    let within = |net: Option<IpNet>, address: Option<IpAddr>| match (net, address) {
        (None, _) => true,
        (Some(net), Some(address)) => net.contains(&address),
        (Some(net), None) => net.prefix_len() == 0,
    };
    let of_packet = within(rule.destination, Some(query.destination))
        && rule.mark.is_none_or(|(mark, mask)| query.mark & mask == mark & mask);
    if query.of_anybody && of_packet {
        let asks = rule.source.is_some_and(|net| net.prefix_len() > 0)
            || rule.input.is_some()
            || rule.output.is_some()
            || !rule.others.is_empty();
        return if asks { None } else { Some(!rule.inverted) };
    }
    let known = of_packet
        && within(rule.source, query.source)
        && rule.input.as_deref().is_none_or(|name| name == query.input.unwrap_or("lo"))
        // The name of a socket's own interface: no packet that is forwarded has one.
        && rule.output.is_none();
    match (known, rule.others.is_empty()) {
        (true, false) => None,
        (known, _) => Some(known != rule.inverted),
    }
}

/// Looks into one table; `None`: the next rule is asked.
fn in_table<'a>(
    namespace: &'a Namespace,
    stack: &'a Stack,
    table: u32,
    suppressed: Option<u32>,
    rule: Option<&'a PolicyRule>,
    query: &Query<'_>,
    doubts: &mut Vec<String>,
) -> Option<Routed<'a>> {
    if table == LOCAL {
        let is_ours = !query.of_anybody && is_own(namespace, query.destination);
        return is_ours.then_some(Routed::Local);
    }
    let device_fits = |route: &Route| {
        query.device.is_none_or(|device| {
            route.device == Some(device) || route.hops.iter().any(|hop| hop.device == device)
        })
    };
    let routes = stack.routes.iter().filter(|route| {
        route.table == table
            && route.destination.contains(&query.destination)
            && (device_fits(route) || !route.kind.is_unicast())
    });
    // The longest prefix; of those the smallest metric; of those the first.
    let best = routes.reduce(|best, route| {
        let rank = |route: &Route| (u8::MAX - route.destination.prefix_len(), route.priority);
        if rank(route) < rank(best) { route } else { best }
    })?;
    if suppressed.is_some_and(|length| u32::from(best.destination.prefix_len()) <= length) {
        return None;
    }
    let refused = |how| Some(Routed::Refused { by: format!("route {}", describe(namespace, best)), how });
    match best.kind {
        RouteKind::Throw => return None,
        RouteKind::Blackhole => return refused("drops it"),
        RouteKind::Unreachable => return refused("says that the destination is unreachable"),
        RouteKind::Prohibit => return refused("says that the destination is prohibited"),
        RouteKind::Unicast => {}
    }
    let mut hops = best.hops.iter().copied();
    let wanted = |hop: &Hop| query.device.is_none_or(|device| hop.device == device);
    let (gateway, device) = match (hops.find(wanted), best.device) {
        (Some(hop), _) => (hop.gateway, hop.device),
        (None, Some(device)) => (best.gateway, device),
        (None, None) => {
            doubts.push(format!("by which interface route {} leads is not known", describe(namespace, best)));
            return None;
        }
    };
    let is_other = |hop: &&Hop| query.device.is_none() && (hop.device, hop.gateway) != (device, gateway);
    let others = best.hops.iter().filter(is_other).copied().collect();
    Some(Routed::Way(Way { rule, route: best, gateway, device, others }))
}

/// Whether the table `local` has the address: those of interfaces that are up.
pub(crate) fn is_own(namespace: &Namespace, address: IpAddr) -> bool {
    let mut up = namespace.links.iter().filter(|link| link.up);
    match address {
        // All of 127.0.0.0/8, and ::1.
        address if address.is_loopback() => up.any(|link| link.loopback),
        address => up.any(|link| link.addresses.iter().any(|net| net.addr() == address)),
    }
}

/// The source address that the kernel chooses for a way; `None` where there is none to choose.
pub(crate) fn source(namespace: &Namespace, way: &Way<'_>, destination: IpAddr) -> Option<IpAddr> {
    if let Some(source) = way.route.source {
        return Some(source);
    }
    let next_hop = way.next_hop(destination);
    let v6 = destination.is_ipv6();
    let of = |device: Option<IfIndex>| {
        let links =
            namespace.links.iter().filter(move |link| link.up && device.is_none_or(|d| link.index == d));
        let nets = links.flat_map(|link| link.addresses.iter().copied());
        let fits = move |net: &IpNet| net.addr().is_ipv6() == v6 && !net.addr().is_loopback();
        nets.filter(fits).collect::<Vec<IpNet>>()
    };
    let own = of(Some(way.device));
    let chosen = if v6 {
        // RFC 6724: of the same scope, then with the longest common prefix.
        let local = is_link_local(destination);
        let same_scope = own.iter().filter(|net| is_link_local(net.addr()) == local);
        same_scope.max_by_key(|net| common(net.addr(), destination)).copied()
    } else {
        own.iter().find(|net| net.contains(&next_hop)).or(own.first()).copied()
    };
    let elsewhere = || {
        let mut others = of(None).into_iter().filter(|net| !is_link_local(net.addr()));
        others.next()
    };
    chosen.or_else(elsewhere).or(own.first().copied()).map(|net| net.addr())
}

/// Length of the common prefix of two IPv6 addresses.
fn common(a: IpAddr, b: IpAddr) -> u32 {
    match (a, b) {
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    }
}

/// A route as `ip route` has it, with its table.
pub(crate) fn describe(namespace: &Namespace, route: &Route) -> String {
    let name = |index: IfIndex| {
        let link = namespace.links.iter().find(|link| link.index == index);
        link.map_or_else(|| format!("if{index}"), |link| link.name.clone())
    };
    let mut text = match route.kind {
        RouteKind::Unicast => String::new(),
        RouteKind::Blackhole => "blackhole ".to_owned(),
        RouteKind::Unreachable => "unreachable ".to_owned(),
        RouteKind::Prohibit => "prohibit ".to_owned(),
        RouteKind::Throw => "throw ".to_owned(),
    };
    let net = route.destination;
    text.push_str(&match (net.prefix_len(), net.max_prefix_len()) {
        (0, _) => "default".to_owned(),
        (length, most) if length == most => net.addr().to_string(),
        _ => net.to_string(),
    });
    if let Some(gateway) = route.gateway {
        text.push_str(&format!(" via {gateway}"));
    }
    if let Some(device) = route.device.filter(|_| route.hops.is_empty()) {
        text.push_str(&format!(" dev {}", name(device)));
    }
    for hop in &route.hops {
        let via = hop.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        text.push_str(&format!(" nexthop{via} dev {} weight {}", name(hop.device), hop.weight));
    }
    if route.onlink {
        text.push_str(" onlink");
    }
    if let Some(source) = route.source {
        text.push_str(&format!(" src {source}"));
    }
    if let Some(mtu) = route.mtu_bytes {
        text.push_str(&format!(" mtu {mtu}"));
    }
    if route.priority != 0 && route.destination.addr().is_ipv4() {
        text.push_str(&format!(" metric {}", route.priority));
    }
    if route.table != MAIN {
        text.push_str(&format!(" table {}", table_name(route.table)));
    }
    text
}

/// A rule as `ip rule` has it.
pub(crate) fn describe_rule(rule: &PolicyRule) -> String {
    let mut text = format!("{}:", rule.priority);
    if rule.inverted {
        text.push_str(" not");
    }
    text.push_str(&match rule.source {
        Some(net) => format!(" from {net}"),
        None => " from all".to_owned(),
    });
    if let Some(net) = rule.destination {
        text.push_str(&format!(" to {net}"));
    }
    if let Some((mark, mask)) = rule.mark {
        text.push_str(&format!(" fwmark {mark:#x}/{mask:#x}"));
    }
    for (key, name) in [("iif", &rule.input), ("oif", &rule.output)] {
        if let Some(name) = name {
            text.push_str(&format!(" {key} {name}"));
        }
    }
    text.push_str(&match rule.action {
        PolicyAction::Table(table) => format!(" lookup {}", table_name(table)),
        PolicyAction::TableSuppressed { table, length } => {
            format!(" lookup {} suppress_prefixlength {length}", table_name(table))
        }
        PolicyAction::Goto(priority) => format!(" goto {priority}"),
        PolicyAction::Vrf => " lookup [l3mdev-table]".to_owned(),
        PolicyAction::Refuse => " refuse".to_owned(),
        PolicyAction::Nothing => " nop".to_owned(),
    });
    text
}

fn table_name(table: u32) -> String {
    match table {
        LOCAL => "local".into(),
        MAIN => "main".into(),
        DEFAULT => "default".into(),
        other => other.to_string(),
    }
}

/// Whether the rule is one of those that every namespace begins with.
pub(crate) fn is_usual(rule: &PolicyRule) -> bool {
    matches!(
        (rule.priority, rule.action),
        (32766, PolicyAction::Table(MAIN)) | (32767, PolicyAction::Table(DEFAULT))
    )
}
