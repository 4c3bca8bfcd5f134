//! The packet filter on a packet's way: what its rules let pass and translate, and what connection tracking does with the answer.

use std::net::IpAddr;

use model::filter::{AddressType, Family, Hook};
use model::{Link, Stack};

use super::packet::{Packet, Protocol};
use super::view::Place;
use super::walk::{Walk, ends};
use super::{Fact, Outcome};
use crate::filter::{self, Change, Layer, RuleRef, State, pass};
use crate::route;

/// A connection as one namespace tracks it.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    at: Place,
    /// As its first packet came.
    original: Ends,
    /// As that packet left.
    translated: Ends,
    mark: Option<u32>,
}

/// Addresses and ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    source: Option<IpAddr>,
    source_port: Option<u16>,
    destination: IpAddr,
    port: Option<u16>,
}

impl Ends {
    fn of(packet: &Packet) -> Self {
        let Packet { source, source_port, destination, port, .. } = *packet;
        Self { source, source_port, destination, port }
    }

    /// Whether a packet is the answer to one with these.
    fn is_answered_by(&self, answer: &Packet) -> bool {
        answer.source == Some(self.destination)
            && Some(answer.destination) == self.source
            && answer.source_port == self.port
    }
}

/// Where a packet is while rules look at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'l> {
    pub(super) at: Place,
    pub(super) hook: Hook,
    pub(super) layer: Layer,
    pub(super) input: Option<&'l Link>,
    pub(super) output: Option<&'l Link>,
    /// Ports of a bridge by which it came and will leave.
    pub(super) ports: (Option<&'l Link>, Option<&'l Link>),
}

impl<'l> Seen<'l> {
    pub(super) fn routed(at: Place, hook: Hook, input: Option<&'l Link>, output: Option<&'l Link>) -> Self {
        Self { at, hook, layer: Layer::Network, input, output, ports: (None, None) }
    }
}

/// Leads the packet through the rules of a hook.
pub(super) fn filter(
    walk: &mut Walk<'_, '_>,
    seen: Seen<'_>,
    packet: &mut Packet,
) -> Result<(), Box<Outcome>> {
    let Some(stack) = walk.view.stack(seen.at) else { return Ok(()) };
    let Some(ruleset) = &stack.ruleset else {
        let label = walk.view.label(seen.at);
        walk.doubt(format!("the packet filter of {label} is not in the snapshot"));
        return Ok(());
    };
    if ruleset.tables.is_empty() && ruleset.gaps.is_empty() {
        return untranslate(walk, seen, packet);
    }
    if seen.layer == Layer::Bridge && !ruleset.tables.iter().any(|table| table.family == Family::Bridge) {
        return Ok(());
    }
    let shown = shown(walk, seen, packet);
    track(walk, seen, packet);
    let passage = pass(ruleset, seen.hook, &shown);
    // Those that translate or drop are told as that.
    let told = |rule: &&RuleRef| !passage.changes.iter().any(|change| change.by() == *rule);
    for rule in passage.steps.iter().filter(told).filter(|rule| Some(*rule) != passage.outcome.by()) {
        walk.push(Fact { about: "matched", text: named(rule), usual: true });
    }
    match &passage.outcome {
        filter::Outcome::Passed => {}
        filter::Outcome::Dropped(by) => {
            walk.fact("dropped", named(by));
            return ends(format!("dropped by {}", named(by)));
        }
        filter::Outcome::Rejected(by) => {
            walk.fact("rejected", named(by));
            return ends(format!("rejected by {}", named(by)));
        }
        filter::Outcome::Perhaps { by, why } => {
            let label = walk.view.label(seen.at);
            let by = by.as_ref().map(|by| format!(", and {} may drop it", named(by))).unwrap_or_default();
            walk.doubt(format!("{label}, {}: {why}{by}", seen.hook.as_str()));
        }
    }
    let chosen = walk.choose(&passage);
    let (after, changes) = chosen.unwrap_or((&passage.packet, &passage.changes));
    apply(walk, seen, stack, packet, after, changes);
    untranslate(walk, seen, packet)
}

/// Leads the packet through the rules of a single device, of which there are none on most nodes.
pub(super) fn device(
    walk: &mut Walk<'_, '_>,
    seen: Seen<'_>,
    packet: &mut Packet,
) -> Result<(), Box<Outcome>> {
    let ruleset = walk.view.stack(seen.at).and_then(|stack| stack.ruleset.as_ref());
    let on_device = |base: &model::filter::Base| base.hook == seen.hook;
    let mut chains = ruleset.into_iter().flat_map(|ruleset| &ruleset.tables).flat_map(|table| &table.chains);
    if chains.any(|chain| chain.base.as_ref().is_some_and(on_device)) {
        filter(walk, seen, packet)?;
    }
    Ok(())
}

/// The packet as rules see it.
fn shown(walk: &Walk<'_, '_>, seen: Seen<'_>, packet: &Packet) -> filter::Packet {
    let v6 = packet.destination.is_ipv6();
    let namespace = walk.view.namespace(seen.at);
    let kind = |address: IpAddr| match address {
        address if route::is_own(namespace, address) => AddressType::Local,
        address if address.is_multicast() => AddressType::Multicast,
        _ => AddressType::Unicast,
    };
    let unspecified = if v6 { IpAddr::from([0u16; 8]) } else { IpAddr::from([0u8; 4]) };
    let source = packet.source.unwrap_or(unspecified);
    let flow = flow_of(walk, seen.at, packet);
    let mut shown = filter::Packet::of(packet.protocol.number(v6), source, packet.destination);
    shown.source_port = packet.source_port;
    shown.destination_port = packet.port;
    shown.icmp = (packet.protocol == Protocol::Icmp).then_some(match (v6, packet.is_answer) {
        (false, false) => (8, 0),
        (false, true) => (0, 0),
        (true, false) => (128, 0),
        (true, true) => (129, 0),
    });
    let name = |link: Option<&Link>| link.map(|link| link.name.clone());
    shown.input = name(seen.input);
    shown.output = name(seen.output);
    shown.input_port = name(seen.ports.0);
    shown.output_port = name(seen.ports.1);
    shown.layer = seen.layer;
    shown.mark = packet.mark;
    shown.source_type = Some(kind(source));
    shown.destination_type = Some(kind(packet.destination));
    let translated = |flow: &Flow| {
        let (a, b) = (flow.original, flow.translated);
        (
            a.source != b.source || a.source_port != b.source_port,
            a.destination != b.destination || a.port != b.port,
        )
    };
    if let Some(flow) = flow {
        let (of_source, of_destination) = translated(flow);
        shown.source_translated = Some(of_source);
        shown.destination_translated = Some(of_destination);
        shown.original = Some((flow.original.destination, flow.original.port));
        shown.connection_mark = flow.mark;
    }
    shown.state = match (packet.is_answer, flow.is_some()) {
        (false, _) => State::New,
        (true, true) => State::Established,
        // Tracking has not seen the first packet here. Of UDP it takes the answer for one.
        (true, false) if packet.protocol == Protocol::Udp => State::New,
        (true, false) => State::Invalid,
    };
    shown
}

fn flow_of<'w>(walk: &'w Walk<'_, '_>, at: Place, packet: &Packet) -> Option<&'w Flow> {
    let mut flows = walk.flows.iter().rev().filter(|flow| flow.at == at);
    flows.find(|flow| match packet.is_answer {
        // Half of it may be undone by now.
        true => flow.translated.is_answered_by(packet) || is_half_undone(flow, packet),
        false => flow.translated == Ends::of(packet),
    })
}

/// Whether an answer has its destination back already, and not its source.
fn is_half_undone(flow: &Flow, answer: &Packet) -> bool {
    answer.source == Some(flow.translated.destination) && Some(answer.destination) == flow.original.source
}

/// Begins to track a connection where its first packet comes in, or is made.
fn track(walk: &mut Walk<'_, '_>, seen: Seen<'_>, packet: &Packet) {
    let begins = matches!(seen.hook, Hook::Prerouting | Hook::Output) && seen.layer != Layer::Bridge;
    if begins && !packet.is_answer && flow_of(walk, seen.at, packet).is_none() {
        let ends = Ends::of(packet);
        walk.flows.push(Flow { at: seen.at, original: ends, translated: ends, mark: Some(0) });
    }
}

/// What rules changed.
fn apply(
    walk: &mut Walk<'_, '_>,
    seen: Seen<'_>,
    stack: &Stack,
    packet: &mut Packet,
    after: &filter::Packet,
    changes: &[Change],
) {
    let before = Ends::of(packet);
    packet.mark = after.mark;
    for change in changes {
        match change {
            Change::Destination { address, port, by } => {
                // `redirect`: the address of the interface by which it came, or the loopback's.
                let own = || {
                    let link = seen.input?;
                    let addresses = link.addresses.iter().map(ipnet::IpNet::addr);
                    let mut fits = addresses.filter(|ip| ip.is_ipv6() == packet.destination.is_ipv6());
                    fits.next()
                };
                packet.destination = address.or_else(own).unwrap_or(after.destination);
                packet.port = port.or(after.destination_port);
                let to = with_port(packet.destination, packet.port);
                walk.fact("dnat", format!("to {to}: {}", named(by)));
            }
            Change::Source { address, port, by } => {
                packet.source = Some(*address);
                packet.source_port = port.or(after.source_port);
                walk.fact("snat", format!("from {}: {}", with_port(*address, *port), named(by)));
            }
            Change::Masquerade { by } => {
                let source = seen.output.and_then(|link| masqueraded(walk, seen.at, stack, link, packet));
                match source {
                    Some(source) => {
                        packet.source = Some(source);
                        packet.source_port = after.source_port;
                        walk.fact("snat", format!("from {source}: {}", named(by)));
                    }
                    None => {
                        let label = walk.view.label(seen.at);
                        walk.doubt(format!("from which address {label} masquerades is not known"));
                    }
                }
            }
            Change::Mark { mark, by } => walk.fact("mark", format!("{mark:#x}: {}", named(by))),
            Change::Untracked { by } => walk.fact("untracked", named(by)),
        }
    }
    let now = Ends::of(packet);
    let flow = walk.flows.iter_mut().rev().find(|flow| flow.at == seen.at && flow.translated == before);
    if let Some(flow) = flow.filter(|_| !packet.is_answer) {
        flow.translated = now;
        flow.mark = after.connection_mark;
    }
}

/// The address of the interface by which it leaves, as masquerading chooses it (net/netfilter/nf_nat_masquerade.c).
fn masqueraded(
    walk: &Walk<'_, '_>,
    at: Place,
    stack: &Stack,
    link: &Link,
    packet: &Packet,
) -> Option<IpAddr> {
    let namespace = walk.view.namespace(at);
    let query = route::Query {
        source: packet.source,
        destination: packet.destination,
        input: None,
        mark: packet.mark,
        device: Some(link.index),
        vrf: None,
        of_anybody: false,
    };
    let decision = route::look_up(namespace, stack, &query);
    let next_hop = match &decision.routed {
        route::Routed::Way(way) => way.next_hop(packet.destination),
        _ => packet.destination,
    };
    let v6 = packet.destination.is_ipv6();
    let is_global = |ip: &IpAddr| !crate::wiring::is_link_local(*ip);
    let own = link.addresses.iter().filter(|net| net.addr().is_ipv6() == v6 && is_global(&net.addr()));
    let on_link = own.clone().find(|net| net.contains(&next_hop));
    let elsewhere = || walk.view.address(at, v6, None);
    on_link.or_else(|| own.clone().next()).map(ipnet::IpNet::addr).or_else(elsewhere)
}

/// Connection tracking gives an answer the addresses that its first packet had: the destination where it comes in, the source where it
/// leaves.
fn untranslate(walk: &mut Walk<'_, '_>, seen: Seen<'_>, packet: &mut Packet) -> Result<(), Box<Outcome>> {
    if !packet.is_answer || seen.layer == Layer::Bridge {
        return Ok(());
    }
    let Some(flow) = flow_of(walk, seen.at, packet).cloned() else { return Ok(()) };
    match seen.hook {
        Hook::Prerouting | Hook::Output => {
            if let Some(source) = flow.original.source
                && source != packet.destination
            {
                let was = packet.destination;
                packet.destination = source;
                packet.port = flow.original.source_port;
                walk.fact("tracked", format!("the answer is for {source}, whose packet left as {was}"));
            }
        }
        Hook::Postrouting | Hook::Input => {
            let (to, port) = (flow.original.destination, flow.original.port);
            if Some(to) != packet.source || port != packet.source_port {
                packet.source = Some(to);
                packet.source_port = port;
                walk.fact("tracked", format!("the answer is from {}, which was asked", with_port(to, port)));
            }
        }
        _ => {}
    }
    Ok(())
}

fn with_port(address: IpAddr, port: Option<u16>) -> String {
    match (address, port) {
        (address, None) => address.to_string(),
        (IpAddr::V4(address), Some(port)) => format!("{address}:{port}"),
        (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
    }
}

/// A rule, by where it is.
pub(super) fn named(rule: &RuleRef) -> String {
    format!("{} {} {}, {}: {}", rule.maker, rule.family.as_str(), rule.table, rule.chain, rule.text)
}
