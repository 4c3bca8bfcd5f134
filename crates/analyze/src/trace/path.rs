//! Both ways of a packet, and what can be said of them together.

use serde::Serialize;

use super::endpoint::Ends;
use super::packet::Packet;
use super::view::{Place, View};
use super::walk::{Followed, Walk, passed};
use super::{End, Fact, Hop, Outcome, Question, Step, Trace, Verdict, Way, warnings};

/// The largest packet that goes a way in one piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Narrowest {
    /// Its size in bytes, its IP header included.
    pub bytes: u32,
    /// Which hop, counted from 0.
    pub hop: usize,
    /// MTU there, in bytes.
    pub mtu_bytes: u32,
    /// What tunnels take of that, in bytes.
    pub tunnel_bytes: u32,
    /// What the sender's own interface would let out, in bytes.
    pub sent_bytes: u32,
    /// Larger ones vanish without a word, since no router sees them: connections hang once they send much.
    pub silent: bool,
}

/// Where the way of the answer is another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OtherWay {
    /// Interfaces that only the way there passes, `name of namespace`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_there: Vec<String>,
    /// Interfaces that only the way back passes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_back: Vec<String>,
}

pub(super) fn both_ways(view: &View<'_>, ends: Ends, question: &Question) -> Trace {
    let Ends { from, mut to, place, source, destination, device } = ends;
    let mut packet = Packet::new(destination, question.protocol, question.port);
    packet.source = source;
    packet.device = device;
    let follow = |choice| {
        let followed = Walk::follow(view, place, packet.clone(), Vec::new(), choice);
        Both::of(view, followed, place, to.place, destination)
    };
    let mut first = follow(0);
    let choices = std::mem::take(&mut first.choices);
    // Where chance decides, every way has to arrive.
    for (choice, name) in choices.iter().enumerate().skip(1).take(MOST_CHOICES) {
        let other = follow(choice);
        let ways = [Some(&other.there), other.back.as_ref()];
        for way in ways.into_iter().flatten().filter(|way| way.verdict != Verdict::Arrives) {
            let why = match &way.outcome {
                Outcome::Ends { why, .. } | Outcome::Leaves { why } => why.clone(),
                Outcome::Arrives => way.doubts.join("; "),
            };
            first.there.doubt(format!("chance may choose {name}: {why}"));
        }
    }
    if choices.len() > MOST_CHOICES {
        first.there.doubt(format!(
            "only {MOST_CHOICES} of {} ways that chance chooses from were tried",
            choices.len()
        ));
    }
    let Both { mut there, back, end, .. } = first;
    if let (Some(end), None) = (end, to.place) {
        to.node = Some(view.node(end).to_owned());
        to.place = Some(end);
    }
    if let Some(hop) = there.hops.last_mut().filter(|_| choices.len() > 1) {
        let text = format!("chance chooses one of {}: {}", choices.len(), choices.join(", "));
        hop.facts.push(Fact { about: "chosen", text, usual: false });
    }
    let back_differs = back.as_ref().and_then(|back| difference(view, &there, back));
    let narrowest = back.as_ref().and(narrowest(&there));
    let source = there.hops.first().and(first_source(&there)).or(from.address);
    Trace {
        from: End { address: source, ..from },
        to,
        packet: Packet { source, ..packet },
        warnings: warnings::warnings(view, &there, back.as_ref()),
        there,
        back,
        back_differs,
        narrowest,
        seen: Vec::new(),
    }
}

/// Chances that are tried, at most: a service with more endpoints is told by some of them.
const MOST_CHOICES: usize = 16;

/// The address from which the packet was sent, before anybody translated it.
fn first_source(way: &Way) -> Option<std::net::IpAddr> {
    let facts = way.hops.iter().flat_map(|hop| &hop.facts);
    facts.filter(|fact| fact.about == "source").find_map(|fact| fact.text.parse().ok()).or(way.packet.source)
}

/// The way there and the way back.
struct Both {
    there: Way,
    back: Option<Way>,
    end: Option<Place>,
    choices: Vec<String>,
}

impl Both {
    fn of(
        view: &View<'_>,
        followed: Followed,
        from: Place,
        meant: Option<Place>,
        asked: std::net::IpAddr,
    ) -> Self {
        let Followed { way: mut there, end, flows, choices } = followed;
        if let (Some(end), Some(meant)) = (end, meant)
            && end != meant
            && there.packet.destination == asked
        {
            there.fails(format!("it gets to {}, which has {asked} as well", view.label(end)));
        }
        let arrived = end.filter(|_| there.outcome == Outcome::Arrives);
        let back = arrived.zip(there.packet.answer()).map(|(arrived, answer)| {
            let source = first_source(&there);
            way_back(view, arrived, answer, flows, (from, source, asked))
        });
        Self { there, back, end, choices }
    }
}

impl Way {
    fn fails(&mut self, why: String) {
        self.outcome = Outcome::Ends { why, fix: None };
        self.verdict = if self.doubts.is_empty() { Verdict::Ends } else { Verdict::Perhaps };
    }

    fn doubt(&mut self, doubt: String) {
        if !self.doubts.contains(&doubt) {
            self.doubts.push(doubt);
        }
        self.verdict = Verdict::Perhaps;
    }
}

fn way_back(
    view: &View<'_>,
    from: Place,
    answer: Packet,
    flows: Vec<super::hooks::Flow>,
    (to, source, asked): (Place, Option<std::net::IpAddr>, std::net::IpAddr),
) -> Way {
    let Followed { mut way, end, choices, .. } = Walk::follow(view, from, answer, flows, 0);
    if choices.len() > 1 {
        way.doubt(format!("chance decides which way the answer takes: {}", choices.join(", ")));
    }
    let Some(end) = end else { return way };
    if end != to {
        let who = source.map(|source| source.to_string()).unwrap_or_default();
        way.fails(format!("it gets to {}, not to {}, which has {who}", view.label(end), view.label(to)));
    } else if way.packet.source != Some(asked) {
        let by = way.packet.source.map(|source| source.to_string()).unwrap_or_default();
        // A socket knows only whom it has asked; this is what happens where br_netfilter is off and a service's pod is on the same bridge.
        way.fails(format!("it comes from {by}, and {asked} was asked: {} drops it", view.label(to)));
    }
    way
}

/// The interfaces that only one of the ways passes.
fn difference(view: &View<'_>, there: &Way, back: &Way) -> Option<OtherWay> {
    let (going, coming) = (passed(there), passed(back));
    let only = |one: &std::collections::BTreeMap<_, usize>, other: &std::collections::BTreeMap<_, usize>| {
        let mut hops: Vec<(usize, (Place, model::IfIndex))> =
            one.iter().filter(|(key, _)| !other.contains_key(*key)).map(|(key, at)| (*at, *key)).collect();
        hops.sort_unstable();
        let name = |(_, (place, index)): &(usize, (Place, model::IfIndex))| {
            format!("{} of {}", view.name(*place, *index), view.label(*place))
        };
        hops.iter().map(name).collect::<Vec<String>>()
    };
    let differs = OtherWay { only_there: only(&going, &coming), only_back: only(&coming, &going) };
    let is_empty = differs.only_there.is_empty() && differs.only_back.is_empty();
    (!is_empty).then_some(differs)
}

fn narrowest(way: &Way) -> Option<Narrowest> {
    let room = |hop: &Hop| hop.mtu_bytes.map(|mtu| mtu.saturating_sub(hop.tunnel_bytes));
    let (at, hop) = way
        .hops
        .iter()
        .enumerate()
        .filter(|(_, hop)| room(hop).is_some())
        .min_by_key(|(at, hop)| (room(hop), *at))?;
    let first = way.hops.iter().find(|hop| hop.step == Step::Sent)?;
    let sent_bytes = room(first)?;
    let bytes = room(hop)?;
    // A router says what it cannot send in one piece; a port that takes less, or a bridge, does not.
    let tells = |hop: &Hop| matches!(hop.step, Step::Sent | Step::Forwarded | Step::Encapsulated);
    let before = way.hops[..=at].iter().filter(|hop| tells(hop)).filter_map(room);
    let told = before.min().unwrap_or(sent_bytes) <= bytes;
    Some(Narrowest {
        bytes,
        hop: at,
        mtu_bytes: hop.mtu_bytes?,
        tunnel_bytes: hop.tunnel_bytes,
        sent_bytes,
        silent: bytes < sent_bytes && !told,
    })
}

impl Hop {
    /// The facts that do not go without saying.
    pub fn telling(&self) -> impl Iterator<Item = &Fact> {
        self.facts.iter().filter(|fact| !fact.usual)
    }
}
