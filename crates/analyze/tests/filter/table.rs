//! One ruleset, one packet, one answer.

use model::filter::*;
use model::{Gap, Source};
use podplumb_analyze::filter::{self, Change, Layer, Masqueraded, Outcome, Packet, State, pass};

use crate::rules::*;

/// What became of a packet, in a word; by which rule, as `chain:index`.
fn said(outcome: &Outcome) -> String {
    let by = |by: &filter::RuleRef| match by.index {
        Some(index) => format!("{}:{index}", by.chain),
        None => format!("{}:policy", by.chain),
    };
    match outcome {
        Outcome::Passed => "passed".to_owned(),
        Outcome::Dropped(rule) => format!("dropped {}", by(rule)),
        Outcome::Rejected(rule) => format!("rejected {}", by(rule)),
        Outcome::Perhaps { by: Some(rule), .. } => format!("perhaps {}", by(rule)),
        Outcome::Perhaps { by: None, .. } => "perhaps".to_owned(),
    }
}

fn forward(rules: &[Rule], packet: &Packet) -> String {
    said(&pass(&of([base(Hook::Forward, 0, Policy::Accept, rules)]), Hook::Forward, packet).outcome)
}

/// Whether a rule that drops what fits drops the packet.
fn fits(asked: Match, packet: &Packet) -> &'static str {
    match forward(&[rule([asked], Action::Drop)], packet).split(' ').next() {
        Some("passed") => "no",
        Some("dropped") => "yes",
        _ => "perhaps",
    }
}

#[test]
fn a_field_is_compared_as_the_kernel_does() {
    use Field::*;
    let p = packet();
    let unknown_port = Packet { source_port: None, ..packet() };
    let ping = Packet { output: None, ..Packet::ping(p.source, p.destination) };
    let v6 = Packet::connection(6, "fd00::2".parse().unwrap(), "fd00::3".parse().unwrap(), 80);
    let marked = Packet { mark: 0x4001, ..packet() };
    let half_known = Packet { mark: 0x4000, unknown_mark: 0xff, ..packet() };
    let bits =
        |field, mask, not, value| Match::Is { field, mask: Some(mask), not, values: vec![number(value)] };
    let bridged = Packet { layer: Layer::BridgeNetfilter, input_port: Some("veth1".into()), ..packet() };
    for (asked, packet, expected) in [
        (is(SourceAddress, net("10.244.0.0/16")), &p, "yes"),
        (is(SourceAddress, net("10.245.0.0/16")), &p, "no"),
        (is_not(SourceAddress, net("10.245.0.0/16")), &p, "yes"),
        (is(DestinationAddress, net("192.0.2.9")), &p, "yes"),
        // A rule about IPv4 is none about IPv6, neither way.
        (is(SourceAddress, net("10.0.0.0/8")), &v6, "no"),
        (is_not(SourceAddress, net("10.0.0.0/8")), &v6, "no"),
        (
            is(SourceAddress, Value::Addresses("10.244.0.1".parse().unwrap(), "10.244.0.5".parse().unwrap())),
            &p,
            "yes",
        ),
        (is(DestinationPort, number(80)), &p, "yes"),
        (is(DestinationPort, Value::Numbers(81, 90)), &p, "no"),
        (is_not(DestinationPort, number(80)), &p, "no"),
        (is(SourcePort, number(53)), &unknown_port, "perhaps"),
        (is_not(SourcePort, number(53)), &unknown_port, "perhaps"),
        (is(DestinationPort, number(80)), &ping, "no"),
        (is_not(DestinationPort, number(80)), &ping, "no"),
        (is(IcmpType, number(8)), &ping, "yes"),
        (is(IcmpType, number(8)), &p, "no"),
        (is(InInterface, name("cni*")), &p, "yes"),
        (is(InInterface, name("cni")), &p, "no"),
        (is_not(OutInterface, name("cni0")), &p, "yes"),
        (is(OutInterface, name("eth0")), &ping, "perhaps"),
        (is(Mark, number(0)), &p, "yes"),
        (bits(Mark, 0x4000, false, 0x4000), &marked, "yes"),
        (bits(Mark, 0x4000, true, 0x4000), &marked, "no"),
        (bits(Mark, 0x4000, false, 0x4000), &half_known, "yes"),
        (bits(Mark, 0x1, false, 0x1), &half_known, "perhaps"),
        (is(Mark, number(0x8000)), &half_known, "no"),
        (bits_of(ConnectionState, 2 | 4), &p, "no"),
        (bits_of(ConnectionState, 8), &p, "yes"),
        (bits_of(ConnectionStatus, 32), &p, "no"),
        (is(DestinationType, number(2)), &p, "perhaps"),
        (is(Bridged, number(1)), &p, "no"),
        (is(Bridged, number(1)), &bridged, "yes"),
        (is(InPort, name("veth*")), &bridged, "yes"),
        (is(InPort, name("veth*")), &p, "no"),
        (Match::Other("-m owner".into()), &p, "perhaps"),
        (is(Family, number(10)), &v6, "yes"),
    ] {
        assert_eq!(fits(asked.clone(), packet), expected, "{asked:?} of {packet:?}");
    }
}

#[test]
fn a_drop_anywhere_is_final_and_an_accept_ends_only_its_chain() {
    let chains = |first: Action, second: Action| {
        of([
            base(Hook::Forward, 10, Policy::Accept, [rule([], second)]),
            base(Hook::Forward, -10, Policy::Accept, [rule([], first)]),
        ])
    };
    let outcome = |first, second| said(&pass(&chains(first, second), Hook::Forward, &packet()).outcome);
    assert_eq!(outcome(Action::Accept, Action::Drop), "dropped forward10:0");
    assert_eq!(outcome(Action::Drop, Action::Accept), "dropped forward-10:0");
    assert_eq!(outcome(Action::Reject(String::new()), Action::Drop), "rejected forward-10:0");
    assert_eq!(outcome(Action::Accept, Action::Accept), "passed");
}

#[test]
fn the_policy_is_for_what_gets_to_the_end() {
    let drops = |rules: &[Rule]| {
        let all = [base(Hook::Forward, 0, Policy::Drop, rules), chain("sub", [rule([], Action::Return)])];
        said(&pass(&of(all), Hook::Forward, &packet()).outcome)
    };
    assert_eq!(drops(&[]), "dropped forward0:policy");
    assert_eq!(drops(&[rule([is(Field::InInterface, name("cni0"))], Action::Accept)]), "passed");
    assert_eq!(drops(&[rule([], Action::Return), rule([], Action::Accept)]), "dropped forward0:policy");
    assert_eq!(drops(&[rule([], jump("sub")), rule([], Action::Accept)]), "passed");
    // A goto does not come back to the rule after it.
    assert_eq!(
        drops(&[rule([], Action::Goto("sub".into())), rule([], Action::Accept)]),
        "dropped forward0:policy"
    );
}

#[test]
fn an_unknown_rule_makes_a_perhaps_only_where_it_decides() {
    let unknown = |action| rule([Match::Other("-m owner".into())], action);
    let [accept, drop] = [rule([], Action::Accept), rule([], Action::Drop)];
    let outcome = |rules: &[Rule]| forward(rules, &packet());
    assert_eq!(outcome(&[unknown(Action::Drop), accept.clone()]), "perhaps forward0:0");
    assert_eq!(outcome(&[unknown(Action::Drop), drop.clone()]), "dropped forward0:1");
    assert_eq!(outcome(&[unknown(Action::Accept), drop.clone()]), "perhaps forward0:1");
    assert_eq!(outcome(&[unknown(Action::Accept), accept.clone()]), "passed");
    assert_eq!(outcome(&[unknown(Action::SetMark { value: 1, mask: 1 }), accept.clone()]), "passed");
    let no = rule([Match::Other("x".into()), is(Field::Protocol, number(17))], Action::Drop);
    assert_eq!(outcome(&[no]), "passed", "it is no UDP, whatever the rest asks");
    // What is not understood may do anything, even let pass.
    assert_eq!(outcome(&[rule([], Action::Other("TPROXY".into())), drop]), "perhaps forward0:0");
    assert_eq!(outcome(&[rule([], Action::Queue), accept]), "perhaps forward0:0");
}

#[test]
fn what_could_not_be_read_could_drop_it() {
    let mut rules = of([base(Hook::Forward, 0, Policy::Accept, [])]);
    rules.gaps.push(Gap { source: Source::Rules, object: "nftables".into(), why: "EPERM".into() });
    let Outcome::Perhaps { by: None, why } = pass(&rules, Hook::Forward, &packet()).outcome else {
        panic!("it passed");
    };
    assert_eq!(why, "nftables could not be read: EPERM");
}

#[test]
fn tables_see_what_is_of_their_family() {
    let drop = || [base(Hook::Forward, 0, Policy::Drop, [])];
    let v6 =
        Packet { source: "fd00::1".parse().unwrap(), destination: "fd00::2".parse().unwrap(), ..packet() };
    let bridge = Packet { layer: Layer::Bridge, ..packet() };
    let filtered = Packet { layer: Layer::BridgeNetfilter, ..packet() };
    for (family, seen) in [
        (Family::Ip, [true, false, false, true]),
        (Family::Ip6, [false, true, false, false]),
        (Family::Inet, [true, true, false, true]),
        (Family::Bridge, [false, false, true, false]),
        (Family::Arp, [false; 4]),
    ] {
        let rules = ruleset([table(family, "t", drop())]);
        for (packet, seen) in [packet(), v6.clone(), bridge.clone(), filtered.clone()].iter().zip(seen) {
            let outcome = pass(&rules, Hook::Forward, packet).outcome;
            assert_eq!(matches!(outcome, Outcome::Dropped(_)), seen, "{family:?} of {packet:?}");
        }
    }
    let mut asleep = ruleset([table(Family::Inet, "t", drop())]);
    asleep.tables[0].dormant = true;
    assert_eq!(pass(&asleep, Hook::Forward, &packet()).outcome, Outcome::Passed);
}

#[test]
fn netdev_sees_what_comes_by_its_device() {
    let mut chain = base(Hook::Ingress, 0, Policy::Drop, []);
    chain.base.as_mut().unwrap().devices = vec!["eth0".into()];
    let rules = ruleset([table(Family::Netdev, "t", [chain])]);
    let by = |device: &str| Packet { input: Some(device.into()), ..packet() };
    assert!(matches!(pass(&rules, Hook::Ingress, &by("eth0")).outcome, Outcome::Dropped(_)));
    assert_eq!(pass(&rules, Hook::Ingress, &by("eth1")).outcome, Outcome::Passed);
}

/// kube-proxy's chains, as iptables mode has them: a service with two endpoints, one of which a pod may be itself.
fn kube_proxy() -> Ruleset {
    let service = [is(Field::DestinationAddress, net("10.96.0.10")), is(Field::DestinationPort, number(53))];
    let endpoint = |at: &str| {
        let dnat = Action::DestinationNat(to(at, 5353));
        chain(&format!("SEP-{at}"), [rule([is(Field::SourceAddress, net(at))], jump("MARK")), rule([], dnat)])
    };
    of([
        nat(Hook::Prerouting, [rule([], jump("SERVICES"))]),
        chain("SERVICES", [rule(service, jump("SVC"))]),
        chain(
            "SVC",
            [
                rule([Match::Sometimes("probability 0.5".into())], jump("SEP-10.244.0.2")),
                rule([], jump("SEP-10.244.0.3")),
            ],
        ),
        endpoint("10.244.0.2"),
        endpoint("10.244.0.3"),
        chain("MARK", [rule([], Action::SetMark { value: 0x4000, mask: 0x4000 })]),
        nat(
            Hook::Postrouting,
            [
                rule(
                    [Match::Is {
                        field: Field::Mark,
                        mask: Some(0x4000),
                        not: true,
                        values: vec![number(0x4000)],
                    }],
                    Action::Return,
                ),
                rule([], Action::SetMark { value: 0x4000, mask: 0 }),
                rule([], Action::Masquerade { ports: None }),
            ],
        ),
    ])
}

#[test]
fn a_balanced_service_leads_to_each_of_its_endpoints() {
    let to_service = Packet {
        destination: "10.96.0.10".parse().unwrap(),
        destination_port: Some(53),
        output: None,
        ..packet()
    };
    let passage = pass(&kube_proxy(), Hook::Prerouting, &to_service);
    assert_eq!(passage.outcome, Outcome::Passed);
    let mut all: Vec<_> = passage.alternatives.iter().map(|other| &other.packet).collect();
    all.push(&passage.packet);
    let mut to: Vec<String> = all
        .iter()
        .map(|p| format!("{}:{} {:#x}", p.destination, p.destination_port.unwrap(), p.mark))
        .collect();
    to.sort();
    // The first is where it comes from: only then is it masqueraded.
    assert_eq!(to, ["10.244.0.2:5353 0x4000", "10.244.0.3:5353 0x0"]);
    assert!(passage.alternatives.iter().all(|other| other.by_chance));
    assert_eq!(all[0].original, Some(("10.96.0.10".parse().unwrap(), Some(53))));
    let hairpin = all.into_iter().find(|p| p.mark != 0).unwrap();
    let out = Packet { output: Some("cni0".into()), ..hairpin.clone() };
    let passage = pass(&kube_proxy(), Hook::Postrouting, &out);
    assert!(matches!(passage.changes[..], [Change::Mark { mark: 0, .. }, Change::Masquerade { .. }]));
    let other = Packet { mark: 0, ..out };
    assert_eq!(pass(&kube_proxy(), Hook::Postrouting, &other).changes, []);
    // A later packet of the connection is translated by connection tracking, not by rules.
    let later = Packet { state: State::Established, ..to_service };
    assert_eq!(pass(&kube_proxy(), Hook::Prerouting, &later).changes, []);
}

/// kube-proxy's maps, as nft mode has them.
fn kube_proxy_nft(endpoints: u32) -> Ruleset {
    let element = |key: Vec<Value>, action| Element {
        key,
        action: Some(action),
        data: Vec::new(),
        comment: String::new(),
    };
    let fields = vec![Field::DestinationAddress, Field::Protocol, Field::DestinationPort];
    let mut kube = table(
        Family::Ip,
        "kube-proxy",
        [
            nat(Hook::Prerouting, [rule([], Action::VerdictMap { fields, set: "service-ips".into() })]),
            chain(
                "service",
                [rule([], Action::VerdictMap { fields: vec![Field::Random(2)], set: "__map0".into() })],
            ),
            chain("a", [rule([], Action::DestinationNat(to("10.244.0.2", 53)))]),
            chain("b", [rule([], Action::DestinationNat(to("10.244.0.3", 53)))]),
        ],
    );
    let service = element(vec![net("10.96.0.10"), number(6), number(53)], Action::Goto("service".into()));
    let none = element(vec![net("10.96.0.11"), number(6), number(53)], Action::Reject("tcp reset".into()));
    let endpoint = |n: u32| element(vec![number(n.into())], Action::Goto(["a", "b"][n as usize].into()));
    kube.sets = vec![
        Set { name: "service-ips".into(), elements: vec![service, none], cut: None },
        Set { name: "__map0".into(), elements: (0..endpoints).map(endpoint).collect(), cut: None },
    ];
    ruleset([kube])
}

#[test]
fn maps_lead_as_rules_do() {
    let with = |rules: &Ruleset, destination: &str| {
        let packet = Packet {
            destination: destination.parse().unwrap(),
            destination_port: Some(53),
            output: None,
            ..packet()
        };
        let passage = pass(rules, Hook::Prerouting, &packet);
        let mut all: Vec<String> =
            passage.alternatives.iter().map(|o| o.packet.destination.to_string()).collect();
        all.push(passage.packet.destination.to_string());
        all.sort();
        (said(&passage.outcome), all.join(" "))
    };
    let both = kube_proxy_nft(2);
    assert_eq!(with(&both, "10.96.0.10"), ("passed".into(), "10.244.0.2 10.244.0.3".into()));
    assert_eq!(with(&both, "10.96.0.11").0, "rejected prerouting-100:0");
    assert_eq!(with(&both, "10.96.0.12"), ("passed".into(), "10.96.0.12".into()));
    // Of two numbers, one leads nowhere.
    assert_eq!(with(&kube_proxy_nft(1), "10.96.0.10").1, "10.244.0.2 10.96.0.10");
    let mut cut = kube_proxy_nft(2);
    cut.tables[0].sets[0].cut = Some("too many".into());
    assert_eq!(with(&cut, "10.96.0.11").0, "rejected prerouting-100:0", "what is there, is there");
    cut.tables[0].sets[0].elements.remove(1);
    assert_eq!(with(&cut, "10.96.0.11").0, "passed", "a map without verdicts that are known drops nothing");
}

#[test]
fn the_first_translation_is_the_one_and_others_are_listed() {
    let pods = || is(Field::SourceAddress, net("10.244.0.0/16"));
    let masquerade = || Action::Masquerade { ports: None };
    let rules = ruleset([
        table(Family::Ip, "one", [nat(Hook::Postrouting, [rule([pods()], masquerade())])]),
        table(
            Family::Inet,
            "two",
            [nat(Hook::Postrouting, [rule([pods()], Action::SourceNat(to("192.0.2.1", 5)))])],
        ),
    ]);
    // Of two with the same priority, the kernel asks the one first that came last.
    let mut rules = rules;
    let passage = pass(&rules, Hook::Postrouting, &packet());
    assert!(matches!(passage.changes[..], [Change::Source { .. }]));
    rules.tables[0].chains[0].base.as_mut().unwrap().priority = 99;
    let passage = pass(&rules, Hook::Postrouting, &packet());
    assert!(matches!(passage.changes[..], [Change::Masquerade { .. }]));
    let all = filter::translations(&rules, Hook::Postrouting, &packet());
    let tables: Vec<&str> = all.iter().map(|(by, _)| by.table.as_str()).collect();
    assert_eq!((tables, all.iter().all(|(_, certain)| *certain)), (vec!["one", "two"], true));
    let [source, other, destination] = ["10.244.0.2", "10.0.0.1", "192.0.2.9"].map(|ip| ip.parse().unwrap());
    let said = |source| filter::masquerades(&rules, source, destination, "eth0");
    assert!(matches!(said(source), Masqueraded::Yes(by) if by.table == "one"));
    assert_eq!(said(other), Masqueraded::No);
}

#[test]
fn a_mark_of_an_unknown_connection_is_unknown() {
    let known = packet();
    let unknown = Packet { connection_mark: None, state: State::Established, ..packet() };
    let rules = [
        rule([], Action::RestoreMark { mask: 0xff }),
        rule(
            [Match::Is { field: Field::Mark, mask: Some(1), not: false, values: vec![number(1)] }],
            Action::Drop,
        ),
    ];
    assert_eq!(forward(&rules, &known), "passed");
    assert_eq!(forward(&rules, &unknown), "perhaps forward0:1");
    let set = [rule([], Action::SetMark { value: 1, mask: u32::MAX }), rules[1].clone()];
    assert_eq!(forward(&set, &unknown), "dropped forward0:1");
    let kept = [
        rule([], Action::SetMark { value: 1, mask: u32::MAX }),
        rule([], Action::SaveMark { mask: u32::MAX }),
        rule([is(Field::ConnectionMark, number(1))], Action::Drop),
    ];
    assert_eq!(forward(&kept, &unknown), "dropped forward0:2");
}

#[test]
fn rules_that_lead_in_circles_come_to_an_end() {
    let twice = |to: &str| [rule([], jump(to)), rule([], jump(to))];
    let rules = of([
        base(Hook::Forward, 0, Policy::Accept, twice("a")),
        chain("a", twice("b")),
        chain("b", twice("a")),
    ]);
    let began = std::time::Instant::now();
    assert!(matches!(pass(&rules, Hook::Forward, &packet()).outcome, Outcome::Perhaps { .. }));
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    let nowhere = of([base(Hook::Forward, 0, Policy::Accept, [rule([], jump("gone"))])]);
    assert!(matches!(pass(&nowhere, Hook::Forward, &packet()).outcome, Outcome::Perhaps { .. }));
}

#[test]
fn the_makers_in_use_are_those_whose_tables_do_something() {
    let mut rules = ruleset([
        table(Family::Ip, "filter", [base(Hook::Forward, 0, Policy::Accept, [])]),
        table(Family::Ip, "filter", [base(Hook::Forward, 0, Policy::Drop, [])]),
        table(Family::Inet, "own", [chain("c", [rule([], Action::Drop)])]),
    ]);
    rules.tables[0].maker = Maker::IptablesNft;
    rules.tables[1].maker = Maker::IptablesLegacy;
    assert_eq!(filter::makers(&rules), [(Maker::Nft, 1), (Maker::IptablesLegacy, 0)]);
}
