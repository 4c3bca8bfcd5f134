//! A packet's way through the chains of a hook: all ways that it may take, side by side.
//!
//! Where it is not known whether a rule matches, the way forks; ways on which the packet is the same again join. So there are never
//! many, and what all of them have in common is certain.

use model::Ruleset;
use model::filter::{Action, Chain, ChainKind, Family, Hook, Maker, Policy, Rule, Table};

use super::field::{Answer, Seen, Unknown};
use super::packet::{Alternative, Change, Layer, Outcome, Packet, Passage, RuleRef, State};
use super::translate;

/// More ways than this at once are not followed.
const MOST_WAYS: usize = 64;
/// nf_tables and x_tables let chains call each other 16 deep.
const DEEPEST: usize = 32;
/// A ruleset from a file may lead in circles. The largest ones that are real take a hundred thousand.
const MOST_RULES: usize = 1_000_000;
/// More rules than this are not told, of those that matched on one way; nor more of those of which that is not known.
const MOST_STEPS: usize = 256;
const MOST_DOUBTS: usize = 64;

/// A rule, or without the last number the policy of a chain, by place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    table: u32,
    chain: u32,
    rule: Option<u32>,
}

/// One way that the packet may have come.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) packet: Packet,
    /// Addresses were translated at this hook, so chains of kind nat are done with it.
    pub(super) translated: bool,
    /// A rule that is not understood may have changed anything of it.
    pub(super) is_lost: bool,
    pub(super) changes: Vec<(ChangeOf, At)>,
    steps: Vec<At>,
    /// What was not known, and taken for granted on this way.
    pub(super) doubts: Vec<Doubt>,
}

/// A rule of which it is not known whether it does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) at: At,
    pub(super) why: Unknown,
    /// On this way it did.
    pub(super) did: bool,
}

/// A change, without who made it.
pub(super) use translate::ChangeOf;

impl Way {
    fn start(packet: &Packet) -> Self {
        Self {
            packet: packet.clone(),
            translated: false,
            is_lost: false,
            changes: Vec::new(),
            steps: Vec::new(),
            doubts: Vec::new(),
        }
    }

    fn is_same(&self, other: &Way) -> bool {
        self.packet == other.packet && self.translated == other.translated && self.is_lost == other.is_lost
    }

    fn step(&mut self, at: At) {
        if self.steps.len() < MOST_STEPS {
            self.steps.push(at);
        }
    }

    pub(super) fn doubt(&mut self, doubt: Doubt) {
        if self.doubts.len() < MOST_DOUBTS {
            self.doubts.push(doubt);
        }
    }

    /// Another way came to the same.
    fn unite(&mut self, other: Way) {
        if let ([before @ .., last], [others @ .., others_last]) = (&self.doubts[..], &other.doubts[..])
            && before == others
            && last.at == others_last.at
            && last.did != others_last.did
        {
            // Whether the rule matched made no difference.
            self.doubts.pop();
        } else if other.weight() < self.weight() {
            *self = other;
        }
    }

    /// Fewer of what is not known first, and of those, chance.
    fn weight(&self) -> (usize, usize) {
        let unknown = self.doubts.iter().filter(|doubt| doubt.why != Unknown::Chance).count();
        (unknown, self.doubts.len())
    }
}

/// How ways end in a chain.
#[derive(Debug, Default)]
struct Ends {
    /// At its end, or with a return.
    fell: Vec<Way>,
    accepted: Vec<Way>,
    dropped: Vec<(Way, At, bool)>,
}

/// A walk through one hook.
pub(super) struct Walk<'a> {
    ruleset: &'a Ruleset,
    hook: Hook,
    /// Rules that may still be looked at.
    budget: usize,
    /// Something was given up.
    is_cut: bool,
    /// Translations do not end a chain; they are noted here, with whether they are certain.
    noted: Option<Vec<(At, bool)>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(ruleset: &'a Ruleset, hook: Hook) -> Self {
        Self { ruleset, hook, budget: MOST_RULES, is_cut: false, noted: None }
    }

    pub(super) fn pass(mut self, packet: &Packet) -> Passage {
        let mut ways = vec![Way::start(packet)];
        let mut dropped = Vec::new();
        for (table, chain) in self.base_chains(packet) {
            let is_nat = self.base_kind(table, chain) == Some(ChainKind::Nat);
            let mut next = Vec::new();
            for way in ways {
                if is_nat && (way.translated || way.packet.state != State::New) {
                    next.push(way);
                    continue;
                }
                let ends = self.base(table, chain, way);
                next.extend(ends.accepted);
                dropped.extend(ends.dropped);
            }
            ways = self.join(next);
        }
        self.conclude(ways, dropped, packet)
    }

    /// Notes every translation that the packet would get.
    pub(super) fn translations(mut self, packet: &Packet) -> Vec<(RuleRef, bool)> {
        self.noted = Some(Vec::new());
        let ruleset = self.ruleset;
        let start = Walk::new(ruleset, self.hook);
        // What filters before it drop is nobody's business here; what they mark is.
        let passage = start.before_nat(packet);
        for (table, chain) in self.base_chains(packet) {
            if self.base_kind(table, chain) == Some(ChainKind::Nat) {
                for way in passage.clone() {
                    self.base(table, chain, way);
                }
            }
        }
        let mut found: Vec<(At, bool)> = Vec::new();
        for (at, certain) in self.noted.take().unwrap_or_default() {
            match found.iter_mut().find(|(known, _)| *known == at) {
                // Of several ways to the same rule, the certain one.
                Some((_, was_certain)) => *was_certain |= certain,
                None => found.push((at, certain)),
            }
        }
        found.into_iter().map(|(at, certain)| (self.describe(at), certain)).collect()
    }

    /// The packet as chains of kind nat get it.
    fn before_nat(mut self, packet: &Packet) -> Vec<Way> {
        let mut ways = vec![Way::start(packet)];
        for (table, chain) in self.base_chains(packet) {
            if self.base_kind(table, chain) == Some(ChainKind::Nat) {
                break;
            }
            let mut next = Vec::new();
            for way in ways {
                let mut ends = self.base(table, chain, way);
                next.append(&mut ends.accepted);
                next.extend(ends.dropped.into_iter().map(|(way, ..)| way));
            }
            ways = self.join(next);
        }
        ways
    }

    fn table(&self, at: u32) -> &'a Table {
        &self.ruleset.tables[at as usize]
    }

    fn chain(&self, table: u32, chain: u32) -> &'a Chain {
        &self.table(table).chains[chain as usize]
    }

    fn base_kind(&self, table: u32, chain: u32) -> Option<ChainKind> {
        self.chain(table, chain).base.as_ref().map(|base| base.kind)
    }

    /// The base chains that see the packet, in the order in which the kernel calls them.
    fn base_chains(&self, packet: &Packet) -> Vec<(u32, u32)> {
        let mut found: Vec<((i32, i32), (u32, u32))> = Vec::new();
        for (t, table) in self.ruleset.tables.iter().enumerate().filter(|(_, table)| !table.dormant) {
            if !sees(table.family, packet, self.hook) {
                continue;
            }
            for (c, chain) in table.chains.iter().enumerate() {
                let Some(base) = chain.base.as_ref().filter(|base| base.hook == self.hook) else { continue };
                let device = match self.hook {
                    Hook::Ingress => packet.input.as_ref(),
                    Hook::Egress => packet.output.as_ref(),
                    _ => None,
                };
                if matches!(self.hook, Hook::Ingress | Hook::Egress)
                    && !device.is_some_and(|device| base.devices.contains(device))
                {
                    continue;
                }
                // All chains of kind nat are called from one place; among them, their own priorities count
                // (net/netfilter/nf_nat_core.c).
                let place = match base.kind {
                    ChainKind::Nat if matches!(self.hook, Hook::Prerouting | Hook::Output) => -100,
                    ChainKind::Nat => 100,
                    _ => base.priority,
                };
                found.push(((place, base.priority), (t as u32, c as u32)));
            }
        }
        // Of those with the same priority, the kernel calls the one first that came last (`nf_hook_entries_grow`); nf_tables lists
        // them as they came. When x_tables' came, nobody tells: most nodes have had them since their boot.
        let is_legacy = |(table, _): &(u32, u32)| self.table(*table).maker == Maker::IptablesLegacy;
        found.sort_by_key(|(place, at)| (*place, is_legacy(at), std::cmp::Reverse(*at)));
        found.into_iter().map(|(_, at)| at).collect()
    }

    /// Through a base chain, and its policy.
    fn base(&mut self, table: u32, chain: u32, way: Way) -> Ends {
        let mut ends = self.run(table, chain, way, 0);
        let drops = self.chain(table, chain).base.as_ref().is_some_and(|base| base.policy == Policy::Drop);
        let at = At { table, chain, rule: None };
        for way in std::mem::take(&mut ends.fell) {
            if drops {
                ends.dropped.push((way, at, false));
            } else {
                ends.accepted.push(way);
            }
        }
        ends
    }

    fn run(&mut self, table: u32, chain: u32, way: Way, depth: usize) -> Ends {
        let mut ends = Ends::default();
        let (of, rules) = (self.table(table), &self.chain(table, chain).rules);
        let mut ways = vec![way];
        for (index, rule) in rules.iter().enumerate() {
            if ways.is_empty() {
                return ends;
            }
            if self.budget < ways.len() {
                self.give_up();
                break;
            }
            self.budget -= ways.len();
            let at = At { table, chain, rule: Some(index as u32) };
            // The usual case costs nothing: nobody is led anywhere.
            if let [way] = &ways[..]
                && self.fits(of, rule, way) == Answer::No
            {
                continue;
            }
            let mut next = Vec::with_capacity(ways.len());
            for mut way in ways {
                match self.fits(of, rule, &way) {
                    Answer::No => next.push(way),
                    Answer::Yes => {
                        way.step(at);
                        self.act(at, &rule.actions, way, depth, &mut next, &mut ends);
                    }
                    Answer::Perhaps(why) => {
                        // A rule that does nothing is no fork.
                        if rule.actions.is_empty() {
                            next.push(way);
                            continue;
                        }
                        let mut taken = way.clone();
                        way.doubt(Doubt { at, why, did: false });
                        next.push(way);
                        taken.doubt(Doubt { at, why, did: true });
                        taken.step(at);
                        self.act(at, &rule.actions, taken, depth, &mut next, &mut ends);
                    }
                }
            }
            ways = self.join(next);
        }
        ends.fell.extend(ways);
        ends.fell = self.join(std::mem::take(&mut ends.fell));
        ends.accepted = self.join(std::mem::take(&mut ends.accepted));
        // Of those that are dropped, it is enough to know by what.
        ends.dropped.sort_by_key(|(way, at, _)| ((at.table, at.chain, at.rule), way.is_lost, way.weight()));
        ends.dropped.dedup_by_key(|(way, at, _)| (*at, way.is_lost));
        ends
    }

    fn fits(&self, table: &Table, rule: &Rule, way: &Way) -> Answer {
        let seen = Seen { packet: &way.packet, hook: self.hook };
        let mut answer = Answer::Yes;
        for wanted in &rule.matches {
            answer = answer.and(|| seen.fits(table, wanted));
            if answer == Answer::No {
                break;
            }
        }
        answer
    }

    /// Does what a rule does: `next` gets who goes on to the rule after it.
    fn act(
        &mut self,
        at: At,
        actions: &'a [Action],
        mut way: Way,
        depth: usize,
        next: &mut Vec<Way>,
        ends: &mut Ends,
    ) {
        for (number, action) in actions.iter().enumerate() {
            let rest = &actions[number + 1..];
            match action {
                Action::Accept => return ends.accepted.push(way),
                Action::Return => return ends.fell.push(way),
                Action::Drop => return ends.dropped.push((way, at, false)),
                Action::Reject(_) => return ends.dropped.push((way, at, true)),
                Action::Jump(chain) | Action::Goto(chain) => {
                    let Some(target) = self.chain_named(at.table, chain).filter(|_| depth < DEEPEST) else {
                        if depth >= DEEPEST {
                            self.give_up();
                        }
                        way.doubt(Doubt { at, why: Unknown::Chain, did: true });
                        return self.lose(at, way, next, ends);
                    };
                    let inner = self.run(at.table, target, way, depth + 1);
                    ends.accepted.extend(inner.accepted);
                    ends.dropped.extend(inner.dropped);
                    if matches!(action, Action::Goto(_)) {
                        ends.fell.extend(inner.fell);
                    } else {
                        for back in inner.fell {
                            self.act(at, rest, back, depth, next, ends);
                        }
                    }
                    return;
                }
                Action::VerdictMap { fields, set } => {
                    let seen = Seen { packet: &way.packet, hook: self.hook };
                    let hits = seen.look_up(self.table(at.table), fields, set);
                    for (element, answer) in &hits.elements {
                        let mut taken = way.clone();
                        doubt(at, *answer, true).into_iter().for_each(|doubt| taken.doubt(doubt));
                        let action = element.action.as_slice();
                        // What comes after the map is for those that it sends on.
                        let mut on = Vec::new();
                        self.act(at, action, taken, depth, &mut on, ends);
                        for way in on {
                            self.act(at, rest, way, depth, next, ends);
                        }
                    }
                    if hits.miss != Answer::No {
                        doubt(at, hits.miss, false).into_iter().for_each(|doubt| way.doubt(doubt));
                        next.push(way);
                    }
                    return;
                }
                Action::Masquerade { .. }
                | Action::SourceNat(_)
                | Action::DestinationNat(_)
                | Action::Redirect { .. } => {
                    let found =
                        translate::translate(self.table(at.table), self.hook, action, at, way.clone());
                    if let Some(noted) = &mut self.noted {
                        if !found.done.is_empty() {
                            noted.push((at, way.weight().0 == 0 && found.missed.is_none()));
                        }
                        continue;
                    }
                    ends.accepted.extend(found.done);
                    // Without an element in its map, the rule ends here.
                    next.extend(found.missed);
                    return;
                }
                Action::Queue => {
                    way.doubt(Doubt { at, why: Unknown::Program, did: true });
                    ends.dropped.push((way.clone(), at, false));
                    return ends.accepted.push(way);
                }
                Action::Other(_) => {
                    way.doubt(Doubt { at, why: Unknown::Text, did: true });
                    return self.lose(at, way, next, ends);
                }
                Action::SetMark { .. }
                | Action::SetConnectionMark { .. }
                | Action::SaveMark { .. }
                | Action::RestoreMark { .. }
                | Action::Notrack => translate::mark(action, at, &mut way),
            }
        }
        next.push(way);
    }

    /// Something happens to the packet that we know nothing about.
    fn lose(&mut self, at: At, mut way: Way, next: &mut Vec<Way>, ends: &mut Ends) {
        way.is_lost = true;
        ends.dropped.push((way.clone(), at, false));
        ends.accepted.push(way.clone());
        next.push(way);
    }

    /// Nothing is followed any further.
    fn give_up(&mut self) {
        self.is_cut = true;
        self.budget = 0;
    }

    fn chain_named(&self, table: u32, name: &str) -> Option<u32> {
        let place = self.table(table).chains.iter().position(|chain| chain.name == name);
        place.map(|place| place as u32)
    }

    /// Ways on which the packet is the same are one.
    fn join(&mut self, ways: Vec<Way>) -> Vec<Way> {
        if ways.len() < 2 {
            return ways;
        }
        let mut joined: Vec<Way> = Vec::with_capacity(ways.len().min(MOST_WAYS));
        for way in ways {
            match joined.iter().position(|other| other.is_same(&way)) {
                Some(place) => joined[place].unite(way),
                None if joined.len() < MOST_WAYS => joined.push(way),
                None => self.is_cut = true,
            }
        }
        joined
    }

    fn conclude(&self, mut ways: Vec<Way>, mut dropped: Vec<(Way, At, bool)>, packet: &Packet) -> Passage {
        ways.sort_by_key(Way::weight);
        // Rather what drops for certain, once what may drop before has not.
        dropped.sort_by_key(|(way, ..)| (way.doubts.iter().filter(|doubt| doubt.did).count(), way.weight()));
        let is_lost = ways.iter().chain(dropped.iter().map(|(way, ..)| way)).any(|way| way.is_lost);
        let first_drop = dropped.first().map(|(_, at, rejects)| (self.describe(*at), *rejects));
        let is_certain = !is_lost && !self.is_cut;
        let outcome = match first_drop {
            Some((by, true)) if ways.is_empty() && is_certain => Outcome::Rejected(by),
            Some((by, false)) if ways.is_empty() && is_certain => Outcome::Dropped(by),
            None if is_certain && self.ruleset.gaps.is_empty() => Outcome::Passed,
            drop => Outcome::Perhaps { why: self.why(&ways, &dropped), by: drop.map(|(by, _)| by) },
        };
        let mut ways = ways.into_iter();
        let main = ways.next().or_else(|| dropped.into_iter().next().map(|(way, ..)| way));
        let Some(main) = main else {
            // Nothing came out: everything was given up.
            return Passage {
                outcome,
                packet: packet.clone(),
                changes: Vec::new(),
                alternatives: Vec::new(),
                steps: Vec::new(),
            };
        };
        let alternatives = ways.map(|way| Alternative {
            by_chance: way.weight().0 == 0,
            changes: self.changes(&way),
            steps: self.steps(&way),
            packet: way.packet,
        });
        Passage {
            outcome,
            alternatives: alternatives.collect(),
            changes: self.changes(&main),
            steps: self.steps(&main),
            packet: main.packet,
        }
    }

    /// On what it depends whether a packet passes.
    fn why(&self, ways: &[Way], dropped: &[(Way, At, bool)]) -> String {
        let last = |way: &Way| way.doubts.iter().rev().find(|doubt| doubt.why != Unknown::Chance).copied();
        let mut doubts = dropped.iter().filter_map(|(way, ..)| last(way)).chain(ways.iter().filter_map(last));
        if let Some(doubt) = doubts.next() {
            return self.say(doubt);
        }
        if let Some(gap) = self.ruleset.gaps.first() {
            return format!("{} could not be read: {}", gap.object, gap.why);
        }
        if self.is_cut {
            return "the rules fork or lead in circles too often to follow them all".to_owned();
        }
        let dropped = dropped.iter().map(|(way, ..)| way);
        match dropped.chain(ways).flat_map(|way| &way.doubts).next() {
            Some(doubt) => self.say(*doubt),
            None => "it is not known".to_owned(),
        }
    }

    fn say(&self, doubt: Doubt) -> String {
        let rule = self.describe(doubt.at);
        let text = match doubt.why {
            Unknown::Chance => "chance decides in".to_owned(),
            Unknown::Fact(field) => format!("the packet's {} is not known, for", translate::name_of(field)),
            Unknown::Set => "a set is not there as a whole, of".to_owned(),
            Unknown::Text => "podplumb does not understand all of".to_owned(),
            Unknown::Program => "a program decides, by".to_owned(),
            Unknown::Chain => "a chain is not there, of".to_owned(),
        };
        format!("{text} \"{}\" in {} {} {}", rule.text, rule.family.as_str(), rule.table, rule.chain)
    }

    fn changes(&self, way: &Way) -> Vec<Change> {
        way.changes.iter().map(|(change, at)| change.by(self.describe(*at))).collect()
    }

    fn steps(&self, way: &Way) -> Vec<RuleRef> {
        way.steps.iter().map(|at| self.describe(*at)).collect()
    }

    fn describe(&self, at: At) -> RuleRef {
        let (table, chain) = (self.table(at.table), self.chain(at.table, at.chain));
        let rule = at.rule.map(|index| &chain.rules[index as usize]);
        RuleRef {
            family: table.family,
            table: table.name.clone(),
            maker: table.maker,
            chain: chain.name.clone(),
            hook: chain.base.as_ref().map(|base| base.hook),
            index: at.rule.map(|index| index as usize),
            handle: rule.and_then(|rule| rule.handle),
            text: rule.map_or_else(|| "policy drop".to_owned(), |rule| rule.text.clone()),
        }
    }
}

pub(super) fn doubt(at: At, answer: Answer, did: bool) -> Option<Doubt> {
    match answer {
        Answer::Perhaps(why) => Some(Doubt { at, why, did }),
        _ => None,
    }
}

/// Whether a table of this family is called for the packet at the hook.
fn sees(family: Family, packet: &Packet, hook: Hook) -> bool {
    let v4 = packet.source.is_ipv4();
    match (family, packet.layer) {
        (Family::Netdev, _) => matches!(hook, Hook::Ingress | Hook::Egress),
        (Family::Bridge, layer) => layer == Layer::Bridge,
        (Family::Arp, _) | (_, Layer::Bridge) => false,
        (Family::Inet, _) => true,
        (Family::Ip, _) => v4,
        (Family::Ip6, _) => !v4,
    }
}
