//! What is not known never becomes a verdict: rulesets that come by chance, in which each unknown match is replaced by one that
//! always fits and by one that never does. What was said for certain holds in every such world.

use model::filter::*;
use podplumb_analyze::filter::{Outcome, Packet, pass};
use proptest::prelude::*;

use crate::rules::*;

const CHAINS: usize = 4;

/// Always fits, or never.
fn known(fits: bool) -> Match {
    is(Field::Protocol, number(if fits { 6 } else { 250 }))
}

fn a_match() -> impl Strategy<Value = Match> {
    prop_oneof![
        3 => (0..UNKNOWN).prop_map(|n| Match::Other(n.to_string())),
        1 => any::<bool>().prop_map(known),
        1 => Just(any_mark(1)),
        1 => Just(any_mark(2)),
        1 => Just(is(Field::DestinationAddress, net("10.0.0.1"))),
        1 => Just(is(Field::DestinationPort, number(8080))),
    ]
}

fn any_mark(bit: u64) -> Match {
    bits_of(Field::Mark, bit)
}

fn an_action(chain: usize) -> BoxedStrategy<Action> {
    let simple = prop_oneof![
        3 => Just(Action::Accept),
        3 => Just(Action::Drop),
        1 => Just(Action::Reject(String::new())),
        2 => Just(Action::Return),
        2 => Just(Action::SetMark { value: 1, mask: 1 }),
        2 => Just(Action::SetMark { value: 0, mask: 1 }),
        1 => Just(Action::SetMark { value: 2, mask: 0 }),
        1 => Just(Action::RestoreMark { mask: 1 }),
        1 => Just(Action::SaveMark { mask: 3 }),
        2 => Just(Action::DestinationNat(to("10.0.0.1", 8080))),
    ];
    // Only to later chains: the kernel lets no circle in.
    if chain + 1 == CHAINS {
        return simple.boxed();
    }
    let later = (chain + 1..CHAINS, any::<bool>()).prop_map(|(to, is_jump)| {
        let name = format!("c{to}");
        if is_jump { Action::Jump(name) } else { Action::Goto(name) }
    });
    prop_oneof![3 => simple, 2 => later].boxed()
}

fn a_chain(place: usize) -> impl Strategy<Value = Vec<Rule>> {
    let parts = (prop::collection::vec(a_match(), 0..2), an_action(place));
    prop::collection::vec(parts.prop_map(|(matches, action)| rule(matches, action)), 0..5)
}

fn a_ruleset() -> impl Strategy<Value = Ruleset> {
    let chains = (a_chain(0), a_chain(1), a_chain(2), a_chain(3));
    (chains, any::<bool>(), any::<bool>()).prop_map(|((first, second, third, last), drops, is_nat)| {
        let policy = if drops { Policy::Drop } else { Policy::Accept };
        let second = if is_nat {
            nat(Hook::Prerouting, second)
        } else {
            base(Hook::Prerouting, 5, Policy::Accept, second)
        };
        let mut chains =
            [base(Hook::Prerouting, -150, policy, first), second, chain("c2", third), chain("c3", last)];
        chains[0].name = "c0".into();
        chains[1].name = "c1".into();
        of(chains)
    })
}

/// So many things are not known; each is one fact, wherever it is asked for.
const UNKNOWN: usize = 5;

/// The ruleset in the world where these facts are so.
fn in_world(rules: &Ruleset, world: usize) -> Ruleset {
    let mut rules = rules.clone();
    let all = rules.tables.iter_mut().flat_map(|t| &mut t.chains).flat_map(|c| &mut c.rules);
    for found in all.flat_map(|rule| &mut rule.matches) {
        if let Match::Other(fact) = found {
            let fact: usize = fact.parse().expect("a number");
            *found = known(world & 1 << fact != 0);
        }
    }
    rules
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_said_for_certain_holds_in_every_world(rules in a_ruleset(), mark in 0u32..4) {
        let packet = Packet { mark, output: None, ..packet() };
        let general = pass(&rules, Hook::Prerouting, &packet);
        for world in 0..1 << UNKNOWN {
            let special = pass(&in_world(&rules, world), Hook::Prerouting, &packet);
            let is_one_of = |packet: &Packet| {
                general.packet == *packet || general.alternatives.iter().any(|other| other.packet == *packet)
            };
            match (&general.outcome, &special.outcome) {
                (Outcome::Passed, Outcome::Passed) => {
                    prop_assert!(is_one_of(&special.packet), "{:?}\n{:?}", special, general);
                }
                (Outcome::Dropped(_) | Outcome::Rejected(_), Outcome::Dropped(_) | Outcome::Rejected(_)) => {}
                // Of one world nothing is unknown.
                (Outcome::Perhaps { by, .. }, Outcome::Passed) => {
                    prop_assert!(by.is_some());
                    prop_assert!(is_one_of(&special.packet));
                }
                (Outcome::Perhaps { .. }, Outcome::Dropped(_) | Outcome::Rejected(_)) => {}
                (general, special) => prop_assert!(false, "{:?} but {:?} in world {:b}", general, special, world),
            }
        }
    }

    #[test]
    fn a_perhaps_has_a_world_for_each(rules in a_ruleset()) {
        // Each unknown match is another fact here, so that every fork is a world.
        let mut rules = rules;
        let mut facts = 0usize;
        let all = rules.tables.iter_mut().flat_map(|t| &mut t.chains).flat_map(|c| &mut c.rules);
        for found in all.flat_map(|rule| &mut rule.matches) {
            if let Match::Other(fact) = found {
                *fact = facts.to_string();
                facts += 1;
            }
        }
        if facts > 8 {
            return Ok(());
        }
        // A rule may be come to twice, by two jumps, and then its fact is asked twice.
        let leads: usize = rules.tables[0].chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.actions)
            .filter(|action| matches!(action, Action::Jump(_) | Action::Goto(_))).count();
        if leads > 1 {
            return Ok(());
        }
        let packet = Packet { output: None, ..packet() };
        if let Outcome::Perhaps { .. } = pass(&rules, Hook::Prerouting, &packet).outcome {
            let mut ends = [false; 2];
            for world in 0..1 << facts {
                let passed = pass(&in_world(&rules, world), Hook::Prerouting, &packet).outcome == Outcome::Passed;
                ends[usize::from(passed)] = true;
            }
            prop_assert_eq!(ends, [true, true], "perhaps, but always the same");
        }
    }
}
