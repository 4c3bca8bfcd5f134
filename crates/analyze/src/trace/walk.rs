//! Following a packet: from one thing that happens to it to the next.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::filter::Hook;
use model::{IfIndex, Link, Source, Stack};

use super::hooks::{self, Flow, Seen};
use super::neighbour::{self, Found};
use super::packet::{Frame, Packet, Protocol};
use super::view::{Across, Place, View};
use super::{Fact, Hop, Outcome, Verdict, Way, bridge, tunnel, unknown};
use crate::filter::{self, Change, Passage};
use crate::route::{self, Query, Routed};

/// What happens next.
pub(super) enum Next<'a> {
    /// A packet is made here.
    Send { at: Place, packet: Packet },
    /// A network stack gets a packet.
    Receive { at: Place, link: &'a Link, packet: Packet },
    /// A frame leaves by a link.
    Emit { at: Place, link: &'a Link, frame: Frame, packet: Packet },
    /// A frame comes in by a link.
    Arrive { at: Place, link: &'a Link, frame: Frame, packet: Packet },
}

pub(super) type Step<'a> = Result<Next<'a>, Box<Outcome>>;

/// More than any network has, and fewer than IP's 64 routers: what gets this far goes in circles.
const MOST_HOPS: usize = 120;

/// A packet on its way.
pub(super) struct Walk<'v, 'a> {
    pub(super) view: &'v View<'a>,
    hops: Vec<Hop>,
    doubts: Vec<String>,
    /// Where it ended up.
    pub(super) end: Option<Place>,
    packet: Packet,
    /// Connections as the namespaces on the way track them.
    pub(super) flows: Vec<Flow>,
    /// Which of several ways is taken where the first choice comes.
    choice: usize,
    /// What there was to choose from there.
    choices: Vec<String>,
}

/// What came of following a packet.
pub(super) struct Followed {
    pub(super) way: Way,
    /// Where it arrived.
    pub(super) end: Option<Place>,
    pub(super) flows: Vec<Flow>,
    /// What there was to choose from, where chance decides.
    pub(super) choices: Vec<String>,
}

/// The way ends.
pub(super) fn ends<T>(why: String) -> Result<T, Box<Outcome>> {
    Err(Box::new(Outcome::Ends { why, fix: None }))
}

/// The way ends, and this would help.
pub(super) fn ends_with<T>(why: String, fix: String) -> Result<T, Box<Outcome>> {
    Err(Box::new(Outcome::Ends { why, fix: Some(fix) }))
}

fn leaves<T>(why: String) -> Result<T, Box<Outcome>> {
    Err(Box::new(Outcome::Leaves { why }))
}

impl<'v, 'a> Walk<'v, 'a> {
    /// Follows a packet that is made somewhere, among connections that are tracked already. Where chance decides, `choice` does.
    pub(super) fn follow(
        view: &'v View<'a>,
        at: Place,
        packet: Packet,
        flows: Vec<Flow>,
        choice: usize,
    ) -> Followed {
        let mut walk = Walk {
            view,
            hops: Vec::new(),
            doubts: Vec::new(),
            end: None,
            packet: packet.clone(),
            flows,
            choice,
            choices: Vec::new(),
        };
        let mut next = Next::Send { at, packet };
        let outcome = loop {
            if walk.hops.len() > MOST_HOPS {
                break Outcome::Ends { why: "it goes in circles".into(), fix: None };
            }
            match walk.step(next) {
                Ok(then) => next = then,
                Err(outcome) => break *outcome,
            }
        };
        let verdict = match (&outcome, walk.doubts.is_empty()) {
            (Outcome::Arrives, true) => Verdict::Arrives,
            (Outcome::Ends { .. }, true) => Verdict::Ends,
            _ => Verdict::Perhaps,
        };
        let Walk { hops, doubts, end, packet, flows, choices, .. } = walk;
        Followed { way: Way { hops, outcome, doubts, verdict, packet }, end, flows, choices }
    }

    /// Which of several ways is taken: chance decides, and all are tried in turn at the first place where it does.
    fn chosen(&mut self, all: impl FnOnce() -> Vec<String>) -> usize {
        if self.choices.is_empty() {
            self.choices = all();
            return self.choice.min(self.choices.len().saturating_sub(1));
        }
        let others = all();
        self.doubt(format!("chance decides once more, and the first is followed: {}", others.join(", ")));
        0
    }

    /// The way that is followed of those that a hook's rules leave to chance.
    pub(super) fn choose<'p>(&mut self, passage: &'p Passage) -> Option<(&'p filter::Packet, &'p [Change])> {
        let alternatives: Vec<&filter::Alternative> =
            passage.alternatives.iter().filter(|way| way.by_chance && way.packet != passage.packet).collect();
        if alternatives.is_empty() {
            return None;
        }
        let name = |packet: &filter::Packet| match packet.destination_port {
            Some(port) => format!("{} port {port}", packet.destination),
            None => packet.destination.to_string(),
        };
        let all = || {
            let others = alternatives.iter().map(|way| name(&way.packet));
            std::iter::once(name(&passage.packet)).chain(others).collect()
        };
        let chosen = self.chosen(all).checked_sub(1)?;
        alternatives.get(chosen).map(|way| (&way.packet, way.changes.as_slice()))
    }

    fn step(&mut self, next: Next<'a>) -> Step<'a> {
        match next {
            Next::Send { at, packet } => self.send(at, packet),
            Next::Receive { at, link, packet } => self.receive(at, link, packet),
            Next::Emit { at, link, frame, packet } => self.emit(at, link, frame, packet),
            Next::Arrive { at, link, frame, packet } => self.arrive(at, link, frame, packet),
        }
    }

    // What is written down on the way.

    pub(super) fn doubt(&mut self, doubt: String) {
        if !self.doubts.contains(&doubt) {
            self.doubts.push(doubt);
        }
    }

    /// A fact about the last hop.
    pub(super) fn push(&mut self, fact: Fact) {
        if let Some(hop) = self.hops.last_mut() {
            hop.facts.push(fact);
        }
    }

    pub(super) fn fact(&mut self, about: &'static str, text: String) {
        self.push(Fact { about, text, usual: false });
    }

    fn usual(&mut self, about: &'static str, text: String) {
        self.push(Fact { about, text, usual: true });
    }

    /// What happens at the last hop is rather this.
    pub(super) fn last_is(&mut self, step: super::Step) {
        if let Some(hop) = self.hops.last_mut() {
            hop.step = step;
        }
    }

    /// What happens at the last hop is this, and by this interface.
    fn last_is_by(&mut self, step: super::Step, link: &Link) {
        if let Some(hop) = self.hops.last_mut() {
            hop.step = step;
            hop.interface = Some(link.name.clone());
            hop.index = Some(link.index);
            hop.mtu_bytes = (!link.loopback).then_some(link.mtu_bytes);
        }
    }

    pub(super) fn hop(&mut self, step: super::Step, at: Place, link: &Link, packet: &Packet) {
        self.packet = packet.innermost().clone();
        self.hops.push(Hop {
            node: self.view.node(at).to_owned(),
            namespace: self.view.label(at),
            step,
            interface: Some(link.name.clone()),
            index: Some(link.index),
            mtu_bytes: (!link.loopback).then_some(link.mtu_bytes),
            tunnel_bytes: packet.tunnel_bytes(),
            facts: Vec::new(),
            place: at,
        });
    }

    /// Whether an interface is up and has a carrier.
    pub(super) fn usable(&self, at: Place, link: &Link) -> Result<(), Box<Outcome>> {
        let name = &link.name;
        let place = self.view.label(at);
        if !link.up {
            return ends_with(format!("{name} of {place} is down"), format!("ip link set {name} up"));
        }
        if !link.carrier {
            let why = match self.view.across(at, link) {
                Across::To(there, end) if !end.up => {
                    let other = self.view.label(there);
                    let why = format!("{name} of {place} has no carrier: {} of {other} is down", end.name);
                    return ends_with(why, format!("in {other}: ip link set {} up", end.name));
                }
                _ if link.kind == "bridge" => "none of its ports is up",
                _ => "nothing is at the other end",
            };
            return ends(format!("{name} of {place} has no carrier: {why}"));
        }
        Ok(())
    }

    /// What a namespace's stack does. What of that could not be read is not empty, so it is a doubt.
    fn stack(&mut self, at: Place) -> Result<&'a Stack, Box<Outcome>> {
        let Some(stack) = self.view.stack(at) else {
            return leaves(format!("the routes of {} are not in the snapshot", self.view.label(at)));
        };
        let namespace = self.view.namespace(at);
        let head = format!("{}: ", namespace.label());
        for gap in &self.view.snapshots[at.snapshot].coverage {
            if let Some(what) = gap.object.strip_prefix(&head).filter(|_| gap.source == Source::Namespace) {
                let label = self.view.label(at);
                self.doubt(format!("{what} of {label} could not be read: {}", gap.why));
            }
        }
        Ok(stack)
    }

    // What happens.

    /// A packet is made in a namespace.
    fn send(&mut self, at: Place, mut packet: Packet) -> Step<'a> {
        let stack = self.stack(at)?;
        let namespace = self.view.namespace(at);
        let device = packet.device.take();
        let query = |source| Query {
            source,
            destination: packet.destination,
            input: None,
            mark: packet.mark,
            device,
            vrf: None,
            of_anybody: false,
        };
        let mut decision = route::look_up(namespace, stack, &query(packet.source));
        if packet.source.is_none() {
            packet.source = match &decision.routed {
                Routed::Way(way) => route::source(namespace, way, packet.destination),
                Routed::Local => Some(packet.destination),
                _ => None,
            };
            // A connection asks again, with the address that it got (ip_route_connect); ping does not.
            if packet.source.is_some() && packet.protocol != Protocol::Icmp {
                decision = route::look_up(namespace, stack, &query(packet.source));
            }
        }
        self.packet = packet.innermost().clone();
        decision.doubts.into_iter().for_each(|doubt| self.doubt(doubt));
        let out = match &decision.routed {
            Routed::Local => namespace.links.iter().find(|link| link.loopback),
            Routed::Way(way) => self.view.link(at, way.device),
            other => return self.refused(at, other, &packet),
        };
        if let Some(out) = out {
            self.hop(super::Step::Sent, at, out, &packet);
        }
        let before = (packet.destination, packet.mark);
        hooks::filter(self, Seen::routed(at, Hook::Output, None, out), &mut packet)?;
        let mut routed = decision.routed;
        if (packet.destination, packet.mark) != before {
            // Translated or marked, it is routed again (ip_route_me_harder).
            let again = Query {
                source: packet.source,
                destination: packet.destination,
                input: None,
                mark: packet.mark,
                device: None,
                vrf: None,
                of_anybody: false,
            };
            let decision = route::look_up(namespace, stack, &again);
            decision.doubts.into_iter().for_each(|doubt| self.doubt(doubt));
            routed = decision.routed;
        }
        match routed {
            Routed::Local => {
                if let Some(lo) = namespace.links.iter().find(|link| link.loopback) {
                    self.last_is_by(super::Step::Delivered, lo);
                    self.usable(at, lo)?;
                    hooks::filter(self, Seen::routed(at, Hook::Postrouting, None, Some(lo)), &mut packet)?;
                    unknown::programs(self, at, lo, false);
                    unknown::programs(self, at, lo, true);
                    hooks::filter(self, Seen::routed(at, Hook::Input, Some(lo), None), &mut packet)?;
                }
                self.deliver(at, packet)
            }
            Routed::Way(way) => self.route(super::Step::Sent, at, None, &way, packet),
            other => self.refused(at, &other, &packet),
        }
    }

    /// Writes down by which route a packet leaves, and finds the neighbour.
    fn route(
        &mut self,
        step: super::Step,
        at: Place,
        came_by: Option<&Link>,
        way: &route::Way<'a>,
        mut packet: Packet,
    ) -> Step<'a> {
        let namespace = self.view.namespace(at);
        let label = self.view.label(at);
        let (mut device, mut gateway) = (way.device, way.gateway);
        if !way.others.is_empty() {
            let all: Vec<(Option<IpAddr>, IfIndex)> = std::iter::once((way.gateway, way.device))
                .chain(way.others.iter().map(|hop| (hop.gateway, hop.device)))
                .collect();
            let name = |(gateway, device): &(Option<IpAddr>, IfIndex)| {
                let via = gateway.map(|gateway| format!("via {gateway} ")).unwrap_or_default();
                format!("{via}dev {}", self.view.name(at, *device))
            };
            let names: Vec<String> = all.iter().map(name).collect();
            (gateway, device) = all[self.chosen(|| names)];
        }
        let Some(link) = self.view.link(at, device) else {
            return ends(format!("the route of {label} leads to interface {device}, which is gone"));
        };
        if step == super::Step::Sent {
            self.last_is_by(step, link);
        } else {
            self.hop(step, at, link, &packet);
        }
        if let (Some(mtu), Some(hop)) = (way.route.mtu_bytes, self.hops.last_mut()) {
            hop.mtu_bytes = Some(mtu.min(link.mtu_bytes));
        }
        if let Some(rule) = way.rule {
            let usual = route::is_usual(rule);
            self.push(Fact { about: "rule", text: route::describe_rule(rule), usual });
        }
        self.fact("route", route::describe(namespace, way.route));
        if step == super::Step::Sent
            && let Some(source) = packet.source
        {
            self.usual("source", source.to_string());
        }
        self.usable(at, link)?;
        if packet.source.is_none() {
            let why = format!("{label} has no address to send from");
            return ends_with(why, format!("ip addr add ADDRESS dev {}", link.name));
        }
        if step == super::Step::Forwarded {
            hooks::filter(self, Seen::routed(at, Hook::Forward, came_by, Some(link)), &mut packet)?;
        }
        hooks::filter(self, Seen::routed(at, Hook::Postrouting, None, Some(link)), &mut packet)?;
        self.packet = packet.innermost().clone();
        let next_hop = gateway.unwrap_or(packet.destination);
        let to = match neighbour::resolve(self.view, at, link, next_hop) {
            Found::At { mac, fact, doubt } => {
                self.push(Fact { about: "neighbour", text: fact, usual: mac.is_none() });
                doubt.into_iter().for_each(|doubt| self.doubt(doubt));
                mac
            }
            Found::Unseen { fact } => {
                self.fact("neighbour", fact);
                None
            }
            Found::Nobody { asked_before } => {
                let asked = if asked_before { ", as it has found out before" } else { "" };
                let what = if gateway.is_some() { "the gateway" } else { "the destination" };
                let why = format!("nobody behind {} of {label} has {next_hop}, {what}{asked}", link.name);
                return ends(why);
            }
        };
        Ok(Next::Emit { at, link, frame: Frame { to, next_hop }, packet })
    }

    /// No route, or one that refuses.
    fn refused(&mut self, at: Place, routed: &Routed<'_>, packet: &Packet) -> Step<'a> {
        let label = self.view.label(at);
        let to = packet.destination;
        match routed {
            Routed::Refused { by, how } => ends(format!("{by} of {label} {how}")),
            _ if crate::wiring::is_link_local(to) && to.is_ipv6() => {
                let why = format!("{to} is on every link of {label}");
                ends_with(why, format!("say on which: {to}%eth0"))
            }
            _ => {
                let why = format!("{label} has no route to {to}");
                ends_with(why, format!("in {label}: ip route add {to} via GATEWAY"))
            }
        }
    }

    /// A frame leaves by a link.
    fn emit(&mut self, at: Place, link: &'a Link, frame: Frame, mut packet: Packet) -> Step<'a> {
        hooks::device(self, Seen::routed(at, Hook::Egress, None, Some(link)), &mut packet)?;
        unknown::programs(self, at, link, false);
        match link.kind.as_str() {
            "bridge" => bridge::forward(self, at, link, None, frame, packet),
            "vxlan" => tunnel::encapsulate(self, at, link, frame, packet),
            "veth" => match self.view.across(at, link) {
                Across::To(there, end) => {
                    // A mark stays where it was made (skb_scrub_packet).
                    let mark = if there == at { packet.mark } else { 0 };
                    Ok(Next::Arrive { at: there, link: end, frame, packet: Packet { mark, ..packet } })
                }
                Across::Out | Across::Unknown => self.cross(at, link, frame, packet),
            },
            "macvlan" | "ipvlan" | "vlan" | "macvtap" | "ipvtap" => {
                let Some((there, lower)) = self.view.lower(at, link) else {
                    return leaves(format!("what {} is on could not be seen", link.name));
                };
                self.usual("lower", format!("on {} of {}", lower.name, self.view.label(there)));
                if let Some((beside, sibling)) =
                    self.above(there, lower, frame).filter(|_| link.kind == "macvlan")
                {
                    self.doubt(format!(
                        "whether {} passes frames to others on {} depends on its mode",
                        link.name, lower.name
                    ));
                    return Ok(Next::Arrive { at: beside, link: sibling, frame, packet });
                }
                self.hop(super::Step::Out, there, lower, &packet);
                self.usable(there, lower)?;
                Ok(Next::Emit { at: there, link: lower, frame, packet })
            }
            _ => self.cross(at, link, frame, packet),
        }
    }

    /// The macvlan on a link that has a frame's address.
    fn above(&self, at: Place, lower: &Link, frame: Frame) -> Option<(Place, &'a Link)> {
        frame.to?;
        let beside = self.view.places().filter(|place| place.snapshot == at.snapshot);
        beside.into_iter().find_map(|place| {
            let links = self.view.namespace(place).links.iter();
            let mut on_it = links.filter(|link| {
                let on = self.view.lower(place, link);
                link.mac == frame.to && on.is_some_and(|(there, on)| there == at && on.index == lower.index)
            });
            Some((place, on_it.next()?))
        })
    }

    /// A frame leaves what its snapshot shows. Another snapshot may have its receiver.
    fn cross(&mut self, at: Place, link: &'a Link, frame: Frame, packet: Packet) -> Step<'a> {
        let by = format!("{} of {}", link.name, self.view.label(at));
        let others = || self.view.places().filter(|place| place.snapshot != at.snapshot);
        let owner = |address: IpAddr| {
            others()
                .find_map(|place| Some((place, self.view.has(place, address).filter(|link| !link.loopback)?)))
        };
        let hosts = |found: &(Place, &Link)| self.view.namespace(found.0).host;
        let (there, end, router) = match owner(frame.next_hop).filter(hosts) {
            Some((there, end)) => (there, end, None),
            None => match owner(packet.destination).filter(hosts) {
                Some((there, end)) => (there, end, Some(frame.next_hop)),
                None => {
                    let what =
                        if frame.next_hop == packet.destination { "which" } else { "the next router, which" };
                    let why = format!("it leaves by {by} to {}, {what} no snapshot shows", frame.next_hop);
                    return leaves(why);
                }
            },
        };
        let facts = match router {
            None => Vec::new(),
            Some(router) => {
                self.doubt(format!("what the router {router} does is not in any snapshot"));
                vec![Fact { about: "router", text: router.to_string(), usual: false }]
            }
        };
        self.hops.push(Hop {
            node: self.view.node(there).to_owned(),
            namespace: "the network between the nodes".to_owned(),
            step: super::Step::Between,
            interface: None,
            index: None,
            mtu_bytes: None,
            tunnel_bytes: packet.tunnel_bytes(),
            facts,
            place: at,
        });
        unknown::programs_below(self, there, end);
        // Behind a router the frame is another one.
        let to = if router.is_some() { end.mac } else { frame.to.or(end.mac) };
        Ok(Next::Arrive { at: there, link: end, frame: Frame { to, ..frame }, packet })
    }

    /// A frame comes in by a link.
    fn arrive(&mut self, at: Place, link: &'a Link, frame: Frame, packet: Packet) -> Step<'a> {
        self.hop(super::Step::In, at, link, &packet);
        self.usable(at, link)?;
        let mut packet = packet;
        unknown::programs(self, at, link, true);
        hooks::device(self, Seen::routed(at, Hook::Ingress, Some(link), None), &mut packet)?;
        self.enter(at, link, frame, packet)
    }

    /// A frame is inside: a bridge's, or the stack's.
    pub(super) fn enter(&mut self, at: Place, link: &'a Link, frame: Frame, packet: Packet) -> Step<'a> {
        let master = link.master.and_then(|master| self.view.link(at, master));
        match master.map(|master| (master.kind.as_str(), master)) {
            Some(("bridge", bridge)) => {
                let port = link.port.map(|port| {
                    let isolated = if port.isolated { ", isolated" } else { "" };
                    let hairpin = if port.hairpin { ", hairpin" } else { "" };
                    format!("{isolated}{hairpin}")
                });
                self.usual("port", format!("of {}{}", bridge.name, port.unwrap_or_default()));
                if !super::segment::forwards(link) {
                    return ends(bridge::not_forwarding(link, bridge));
                }
                self.hop(super::Step::Bridged, at, bridge, &packet);
                return bridge::forward(self, at, bridge, Some(link), frame, packet);
            }
            Some(("vrf", _)) | None => {}
            Some((_, master)) if self.hops.len() < MOST_HOPS => {
                self.hop(super::Step::In, at, master, &packet);
                self.usable(at, master)?;
                unknown::programs(self, at, master, true);
                return self.enter(at, master, frame, packet);
            }
            Some(_) => return ends("it goes in circles".into()),
        }
        if let (Some(to), Some(own)) = (frame.to, link.mac)
            && to != own
        {
            if let Some((there, upper)) = self.above(at, link, frame) {
                return Ok(Next::Arrive { at: there, link: upper, frame, packet });
            }
            let label = self.view.label(at);
            let why = format!("the frame is for {to}, and {} of {label} is {own}", link.name);
            return ends_with(
                why,
                format!("whoever sent it has an old neighbour entry for {}", frame.next_hop),
            );
        }
        Ok(Next::Receive { at, link, packet })
    }

    /// A network stack gets a packet.
    fn receive(&mut self, at: Place, link: &'a Link, mut packet: Packet) -> Step<'a> {
        let stack = self.stack(at)?;
        let namespace = self.view.namespace(at);
        let label = self.view.label(at);
        let port = self.hops.iter().rev().nth(1).filter(|_| link.kind == "bridge");
        let port = port.filter(|hop| hop.place == at).and_then(|hop| self.view.link(at, hop.index?));
        let came = Seen { ports: (port, None), ..Seen::routed(at, Hook::Prerouting, Some(link), None) };
        hooks::filter(self, came, &mut packet)?;
        self.source_is_valid(at, stack, link, &packet)?;
        let decision = route::look_up(namespace, stack, &self.came_by(at, link, &packet));
        decision.doubts.into_iter().for_each(|doubt| self.doubt(doubt));
        match decision.routed {
            Routed::Local if packet.destination.is_loopback() && !link.loopback => {
                let why = format!("{label} takes nothing for {} from outside", packet.destination);
                ends(why)
            }
            Routed::Local => {
                self.usual("local", format!("{} is an address of {label}", packet.destination));
                let came = Seen { hook: Hook::Input, ..came };
                hooks::filter(self, came, &mut packet)?;
                self.deliver(at, packet)
            }
            Routed::Way(way) => {
                self.forwarding_is_on(at, stack, link, packet.destination.is_ipv6())?;
                self.route(super::Step::Forwarded, at, Some(link), &way, packet)
            }
            other => self.refused(at, &other, &packet),
        }
    }

    fn came_by<'q>(&self, at: Place, link: &'q Link, packet: &Packet) -> Query<'q> {
        let master = link.master.and_then(|master| self.view.link(at, master));
        Query {
            source: packet.source,
            destination: packet.destination,
            input: Some(&link.name),
            mark: packet.mark,
            device: None,
            vrf: master.and_then(|master| master.vrf_table),
            of_anybody: false,
        }
    }

    /// A packet is where it is for.
    fn deliver(&mut self, at: Place, mut packet: Packet) -> Step<'a> {
        match packet.inner.take() {
            Some(inner) => tunnel::decapsulate(self, at, packet, *inner),
            None => {
                unknown::virtual_service(self, at, &packet);
                self.packet = packet;
                self.end = Some(at);
                Err(Box::new(Outcome::Arrives))
            }
        }
    }

    /// Source validation (net/ipv4/fib_frontend.c, __fib_validate_source). IPv6 has none.
    fn source_is_valid(
        &mut self,
        at: Place,
        stack: &'a Stack,
        link: &Link,
        packet: &Packet,
    ) -> Result<(), Box<Outcome>> {
        let Some(IpAddr::V4(source)) = packet.source else { return Ok(()) };
        let namespace = self.view.namespace(at);
        let label = self.view.label(at);
        if link.loopback {
            return Ok(());
        }
        if source.is_loopback() || route::is_own(namespace, source.into()) {
            return ends(format!("{label} drops it: its source, {source}, is an address of {label} itself"));
        }
        let of_all = stack.number("net.ipv4.conf.all.rp_filter").unwrap_or(0);
        let own = link.ipv4.map_or(0, |settings| i64::from(settings.rp_filter));
        let mode = own.max(of_all);
        if mode == 0 {
            return Ok(());
        }
        let back = Query {
            source: Some(packet.destination),
            destination: source.into(),
            ..self.came_by(at, link, packet)
        };
        // For the lookup the packet is one of the namespace's own (flowi4_iif = LOOPBACK_IFINDEX).
        let decision = route::look_up(namespace, stack, &Query { input: None, ..back });
        decision.doubts.into_iter().for_each(|doubt| self.doubt(doubt));
        let by: Vec<IfIndex> = match &decision.routed {
            Routed::Way(way) => {
                std::iter::once(way.device).chain(way.others.iter().map(|hop| hop.device)).collect()
            }
            _ => Vec::new(),
        };
        let name = &link.name;
        let fix = || format!("in {label}: sysctl -w net.ipv4.conf.{name}.rp_filter=0 (and of \"all\")");
        match (mode, by.as_slice()) {
            (_, []) => {
                let why = format!("rp_filter of {name} drops it: {label} has no route back to {source}");
                ends_with(why, format!("in {label}: ip route add {source} dev {name}"))
            }
            (1, by) if !by.contains(&link.index) => {
                let other = self.view.name(at, by[0]);
                let why =
                    format!("rp_filter={mode} of {name} drops it: {label} would answer {source} by {other}");
                ends_with(why, fix())
            }
            _ => {
                self.usual("rp_filter", format!("{mode}, and {source} is reached by {name}"));
                Ok(())
            }
        }
    }

    /// Whether the namespace forwards what came by an interface.
    fn forwarding_is_on(
        &mut self,
        at: Place,
        stack: &Stack,
        link: &Link,
        v6: bool,
    ) -> Result<(), Box<Outcome>> {
        let label = self.view.label(at);
        let (setting, all) = match v6 {
            false => (link.ipv4, "net.ipv4.ip_forward"),
            // Until Linux 6.17 the interface's own decides nothing (net/ipv6/ip6_output.c, ip6_forward).
            true => (None, "net.ipv6.conf.all.forwarding"),
        };
        let on =
            setting.map(|setting| setting.forwarding).or_else(|| stack.number(all).map(|value| value != 0));
        match on {
            Some(true) => {
                self.usual("forwarding", "on".to_owned());
                Ok(())
            }
            Some(false) => {
                let name = &link.name;
                let (own, fix) = match (v6, stack.number(all)) {
                    (false, Some(1)) => (
                        format!("net.ipv4.conf.{name}.forwarding"),
                        format!("net.ipv4.conf.{name}.forwarding=1"),
                    ),
                    _ => (all.to_owned(), format!("{all}=1")),
                };
                let why = format!("{label} does not forward: {own} is 0");
                ends_with(why, format!("in {label}: sysctl -w {fix}"))
            }
            None => {
                self.doubt(format!("whether {label} forwards is not in the snapshot"));
                Ok(())
            }
        }
    }
}

/// The interfaces of a way, to compare it with another.
pub(super) fn passed(way: &Way) -> BTreeMap<(Place, IfIndex), usize> {
    let hops = way.hops.iter().enumerate();
    hops.filter_map(|(at, hop)| Some(((hop.place, hop.index?), at))).collect()
}
