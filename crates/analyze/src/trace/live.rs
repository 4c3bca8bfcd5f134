//! What was seen of real packets, beside the computed way.

use std::collections::BTreeSet;

use model::filter::{Family, Maker};
use model::{IfIndex, Snapshot};
use serde::Serialize;

use super::view::Place;
use super::{Hop, Outcome, Protocol, Step, Trace, Verdict, Way};

/// A packet of ours passed an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// In which namespace.
    pub place: Place,
    /// By which interface.
    pub index: IfIndex,
    /// It left there; else it came.
    pub outgoing: bool,
    /// It was an answer to ours.
    pub is_answer: bool,
    /// When, in nanoseconds since 1970.
    pub at_ns: u64,
}

/// A rule ended a packet of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drop {
    /// In which namespace.
    pub place: Place,
    /// The table's family (`NFPROTO_*`).
    pub family: u8,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule; `None`: the chain's policy.
    pub handle: Option<u64>,
}

/// All that came of one packet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probe {
    /// Its size in bytes, its IP header included.
    pub bytes: u32,
    /// Why it could not be sent, or watched to its end.
    pub failed: Option<String>,
    /// Where it and its answer were seen.
    pub sightings: Vec<Sighting>,
    /// What ended it.
    pub drops: Vec<Drop>,
    /// What routers and the destination said.
    pub told: Vec<String>,
}

/// What was seen of one packet, compared with the computed way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Its size in bytes.
    pub bytes: u32,
    /// For each hop of the way there, when it passed, in nanoseconds after it was first seen; `None` where it was not.
    pub hops_ns: Vec<Option<u64>>,
    /// Hops at which nobody can watch: bridges that only pass it on, other machines, networks in between.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unwatched: Vec<usize>,
    /// When its answer was back at the sender's interface, in nanoseconds after the packet was first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_ns: Option<u64>,
    /// The last hop at which it was seen, counted from 0; `None`: it was seen nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<usize>,
    /// It arrived: it was answered, or was seen at the last hop that can be watched.
    pub arrived: bool,
    /// The last hop at which the answer was seen on its own way, where it did not get back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_last: Option<String>,
    /// The rules that ended it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped_by: Vec<String>,
    /// Namespaces on the way with rules that nobody can watch (iptables-legacy).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub untraceable: Vec<String>,
    /// What was said about it on the way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<String>,
    /// Interfaces that it or its answer passed, and that are not on the computed ways.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<String>,
    /// Why it could not be sent, or watched to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// What was seen is what was computed; `None` where nothing certain was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agrees: Option<bool>,
}

/// In which direction a packet is seen at a hop; `None` where it cannot be.
fn direction(way: &Way, at: usize) -> Option<bool> {
    match way.hops[at].step {
        Step::Sent | Step::Forwarded | Step::Out | Step::Encapsulated | Step::Delivered => Some(true),
        Step::In | Step::Decapsulated => Some(false),
        // Its own interface sees what goes up to the node only.
        Step::Bridged if way.hops.get(at + 1).is_some_and(|next| next.step == Step::Out) => None,
        Step::Bridged => Some(false),
        Step::Between => None,
    }
}

/// The interface, direction and namespace of each hop that can be watched.
fn watchable<'w>(
    way: &'w Way,
    watched: &'w BTreeSet<Place>,
) -> impl Iterator<Item = (usize, &'w Hop, IfIndex, bool)> + 'w {
    way.hops.iter().enumerate().filter_map(move |(at, hop)| {
        let outgoing = direction(way, at)?;
        watched.contains(&hop.place).then_some((at, hop, hop.index?, outgoing))
    })
}

/// Compares what was seen of a packet with its computed way. `watched` are the namespaces in which somebody looked.
pub fn compare(snapshots: &[Snapshot], trace: &Trace, watched: &BTreeSet<Place>, probe: &Probe) -> Seen {
    let first = probe.sightings.iter().filter(|seen| !seen.is_answer).map(|seen| seen.at_ns).min();
    let since = |at_ns: u64| at_ns.saturating_sub(first.unwrap_or(at_ns));
    let when = |hop: &Hop, index: IfIndex, outgoing: bool, is_answer: bool| {
        let is_it = |seen: &&Sighting| {
            (seen.place, seen.index, seen.outgoing, seen.is_answer) == (hop.place, index, outgoing, is_answer)
        };
        probe.sightings.iter().filter(is_it).map(|seen| seen.at_ns).min()
    };
    let mut hops_ns = vec![None; trace.there.hops.len()];
    let mut unwatched: Vec<usize> = (0..hops_ns.len()).collect();
    for (at, hop, index, outgoing) in watchable(&trace.there, watched) {
        unwatched.retain(|other| *other != at);
        hops_ns[at] = when(hop, index, outgoing, false).map(since);
    }
    let last = hops_ns.iter().rposition(Option::is_some);
    let last_watchable = (0..hops_ns.len()).rfind(|at| !unwatched.contains(at));
    let home = trace.from.place;
    let answers = probe.sightings.iter().filter(|seen| seen.is_answer);
    let own = trace.there.hops.first().and_then(|hop| hop.index);
    let is_home = |seen: &&Sighting| Some(seen.place) == home && !seen.outgoing && Some(seen.index) == own;
    let answered_ns = answers.clone().filter(is_home).map(|seen| since(seen.at_ns)).min();
    let at_the_end = last.is_some() && last == last_watchable && trace.there.outcome == Outcome::Arrives;
    // A datagram is not answered by everybody.
    let arrived = answered_ns.is_some()
        || trace.packet.protocol == Protocol::Udp && at_the_end && probe.drops.is_empty();
    let answer_last = trace.back.as_ref().filter(|_| answered_ns.is_none()).and_then(|back| {
        let seen = watchable(back, watched)
            .filter(|(_, hop, index, outgoing)| when(hop, *index, *outgoing, true).is_some());
        seen.last().map(|(_, hop, ..)| name(hop))
    });
    let verdict = trace.verdict();
    // A port lets four bytes more pass, the length of a VLAN's tag (net/core/dev.c, is_skb_forwardable).
    let fits = trace.narrowest.as_ref().is_none_or(|narrowest| {
        probe.bytes <= narrowest.bytes || arrived && probe.bytes <= narrowest.bytes + 4
    });
    Seen {
        bytes: probe.bytes,
        answered_ns,
        last,
        arrived,
        answer_last,
        dropped_by: unique(probe.drops.iter().map(|drop| rule(snapshots, drop))),
        untraceable: if arrived { Vec::new() } else { untraceable(snapshots, trace) },
        told: unique(probe.told.iter().cloned()),
        elsewhere: elsewhere(snapshots, trace, probe),
        failed: probe.failed.clone(),
        agrees: match verdict {
            Verdict::Perhaps => None,
            verdict => Some(arrived == (verdict == Verdict::Arrives && fits)),
        },
        hops_ns,
        unwatched,
    }
}

fn name(hop: &Hop) -> String {
    format!("{} of {}", hop.interface.as_deref().unwrap_or("?"), hop.namespace)
}

fn unique(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for one in all {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

/// A rule as its snapshot has it.
fn rule(snapshots: &[Snapshot], drop: &Drop) -> String {
    let family = match drop.family {
        1 => Some(Family::Inet),
        2 => Some(Family::Ip),
        3 => Some(Family::Arp),
        5 => Some(Family::Netdev),
        7 => Some(Family::Bridge),
        10 => Some(Family::Ip6),
        _ => None,
    };
    let snapshot = &snapshots[drop.place.snapshot];
    let namespace = &snapshot.namespaces[drop.place.namespace];
    let tables = snapshot.stack_of(namespace).and_then(|stack| stack.ruleset.as_ref());
    let mut tables = tables.into_iter().flat_map(|ruleset| &ruleset.tables);
    let is_it = |table: &&model::filter::Table| {
        Some(table.family) == family && table.name == drop.table && table.maker != Maker::IptablesLegacy
    };
    let found = tables.find(is_it);
    let maker = found.map_or(Maker::Nft, |table| table.maker);
    let chain = found.and_then(|table| table.chain(&drop.chain));
    let text = match drop.handle {
        None => "policy drop".to_owned(),
        Some(handle) => {
            let mut rules = chain.into_iter().flat_map(|chain| &chain.rules);
            let rule = rules.find(|rule| rule.handle == Some(handle));
            rule.map_or_else(|| format!("rule {handle}, which is new"), |rule| rule.text.clone())
        }
    };
    let family = family.map_or("?", Family::as_str);
    format!("{maker} {family} {}, {}: {text}", drop.table, drop.chain)
}

/// Namespaces on the way that have rules of iptables-legacy, which tells nobody what it drops.
fn untraceable(snapshots: &[Snapshot], trace: &Trace) -> Vec<String> {
    let ways = std::iter::once(&trace.there).chain(&trace.back);
    let found = ways.flat_map(|way| &way.hops).filter(|hop| {
        let snapshot = &snapshots[hop.place.snapshot];
        let stack = snapshot.stack_of(&snapshot.namespaces[hop.place.namespace]);
        let tables = stack.and_then(|stack| stack.ruleset.as_ref()).map(|ruleset| &ruleset.tables);
        tables.into_iter().flatten().any(|table| {
            table.maker == Maker::IptablesLegacy && table.chains.iter().any(|chain| !chain.rules.is_empty())
        })
    });
    unique(found.map(|hop| hop.namespace.clone()))
}

/// Interfaces that are on neither way.
fn elsewhere(snapshots: &[Snapshot], trace: &Trace, probe: &Probe) -> Vec<String> {
    let ways = std::iter::once(&trace.there).chain(&trace.back);
    let known: BTreeSet<(Place, IfIndex)> =
        ways.flat_map(|way| &way.hops).filter_map(|hop| Some((hop.place, hop.index?))).collect();
    let strange = probe.sightings.iter().filter(|seen| !known.contains(&(seen.place, seen.index)));
    unique(strange.map(|seen| {
        let namespace = &snapshots[seen.place.snapshot].namespaces[seen.place.namespace];
        let link = namespace.links.iter().find(|link| link.index == seen.index);
        let name = link.map_or_else(|| format!("if{}", seen.index), |link| link.name.clone());
        let mut hops = trace.there.hops.iter();
        let label = hops.find(|hop| hop.place == seen.place).map(|hop| hop.namespace.clone());
        format!("{name} of {}", label.unwrap_or_else(|| namespace.label()))
    }))
}
