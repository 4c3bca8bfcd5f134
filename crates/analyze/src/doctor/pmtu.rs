//! Whether pods are told of a smaller MTU on the way: the message of a router, led through the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::filter::{AddressType, Hook};
use model::{Link, Ruleset};

use super::addresses::count;
use super::filter::{Journey, deciding, journeys, place};
use super::ground::{global, listed};
use super::mtu::{Exit, exits, sends};
use super::{Check, Findings, Ground, Severity};
use crate::filter::{Outcome, Packet, RuleRef, State, pass};

pub(super) const CHECKS: &[Check] = &[Check {
    id: "pmtu-black-hole",
    title: "what routers say about a smaller MTU gets through the rules",
    severity: Severity::Warning,
    why: "A packet that is larger than the next link's MTU and may not be fragmented is dropped, and its sender is told by ICMP: type 3 code 4, fragmentation needed, or of ICMPv6 type 2, packet too big. A rule that lets a connection pass and drops that message makes a black hole: small packets pass, large ones vanish, and connections hang with the first long answer. It is an error where this node has to send the message, since a way out of it takes less than its pods send; elsewhere it depends on what is on the way.",
    see: "nft list ruleset; iptables-save | grep icmp; ping -M do -s 1472 ADDRESS in the pod",
    fix: "accept it before that rule: ct state related, or icmp type 3 code 4 and icmpv6 type 2. TCPMSS --clamp-mss-to-pmtu helps TCP, and nothing else",
    source: "https://datatracker.ietf.org/doc/html/rfc2923#section-2.1",
    run: pmtu_black_hole,
}];

/// What came of leading a packet through some hooks.
enum Led {
    Through(Packet),
    Stopped(RuleRef),
    Perhaps(String),
}

impl Led {
    fn then(self, next: impl FnOnce(Packet) -> Led) -> Led {
        match self {
            Led::Through(packet) => next(packet),
            ended => ended,
        }
    }
}

/// Leads a packet through a hook.
fn lead(ruleset: &Ruleset, hook: Hook, packet: Packet) -> Led {
    // A packet has no output before it is routed, and no input after.
    let seen = match hook {
        Hook::Prerouting | Hook::Input => Packet { output: None, ..packet.clone() },
        Hook::Output | Hook::Postrouting => Packet { input: None, ..packet.clone() },
        _ => packet.clone(),
    };
    let passage = pass(ruleset, hook, &seen);
    match passage.outcome {
        Outcome::Passed => {
            let (mark, unknown_mark) = (passage.packet.mark, passage.packet.unknown_mark);
            Led::Through(Packet { mark, unknown_mark, ..packet })
        }
        Outcome::Dropped(by) | Outcome::Rejected(by) => Led::Stopped(by),
        Outcome::Perhaps { why, .. } => Led::Perhaps(why),
    }
}

/// The message about a packet of a connection, instead of its answer.
fn too_big(answer: Packet) -> Packet {
    let (protocol, icmp) = if answer.source.is_ipv4() { (1, (3, 4)) } else { (58, (2, 0)) };
    Packet {
        protocol,
        icmp: Some(icmp),
        source_port: None,
        destination_port: None,
        state: State::Related,
        ..answer
    }
}

/// As people call it.
fn name(v6: bool) -> &'static str {
    if v6 { "ICMPv6 \"packet too big\"" } else { "ICMP \"fragmentation needed\"" }
}

/// From beyond to a pod. Chains before the translation see the node's address where the connection is masqueraded, and
/// the pod's where it is not.
fn inward(ruleset: &Ruleset, own: Option<IpAddr>, packet: Packet) -> Led {
    let before = match (lead(ruleset, Hook::Prerouting, packet.clone()), own) {
        (through @ Led::Through(_), _) | (through, None) => through,
        (stopped, Some(own)) => {
            let (destination, destination_type) = (own, Some(AddressType::Local));
            let masqueraded = Packet { destination, destination_type, ..packet.clone() };
            match (lead(ruleset, Hook::Prerouting, masqueraded), stopped) {
                (Led::Through(seen), _) => {
                    let (mark, unknown_mark) = (seen.mark, seen.unknown_mark);
                    Led::Through(Packet { mark, unknown_mark, ..packet })
                }
                (Led::Stopped(_), stopped) => stopped,
                (perhaps, _) => perhaps,
            }
        }
    };
    let forwarded = before.then(|packet| lead(ruleset, Hook::Forward, packet));
    forwarded.then(|packet| lead(ruleset, Hook::Postrouting, packet))
}

/// From this node to a pod.
fn outward(ruleset: &Ruleset, packet: Packet) -> Led {
    lead(ruleset, Hook::Output, packet).then(|packet| lead(ruleset, Hook::Postrouting, packet))
}

/// From beyond to this node.
fn home(ruleset: &Ruleset, packet: Packet) -> Led {
    lead(ruleset, Hook::Prerouting, packet).then(|packet| lead(ruleset, Hook::Input, packet))
}

/// Whether the rules let the connection itself pass: what stops that is other checks'.
fn connects(ruleset: &Ruleset, own: Option<IpAddr>, journey: &Journey<'_, '_>) -> bool {
    let there = lead(ruleset, Hook::Prerouting, journey.there());
    let there = there.then(|packet| lead(ruleset, Hook::Forward, packet));
    let there = there.then(|packet| lead(ruleset, Hook::Postrouting, packet));
    let stops = |led: &Led| matches!(led, Led::Stopped(_));
    !stops(&there) && !stops(&inward(ruleset, own, journey.back()))
}

/// What is stopped, on its way to whom.
#[derive(Default)]
struct Holes {
    found: BTreeMap<(Severity, String, String, String), BTreeSet<String>>,
    depends: BTreeSet<String>,
}

impl Holes {
    /// Takes note of what became of a message, unless the connection that it is about does not get through either.
    fn note(
        &mut self,
        led: Led,
        connects: impl FnOnce() -> bool,
        severity: Severity,
        what: impl FnOnce() -> String,
        pod: Option<&str>,
    ) {
        match led {
            Led::Stopped(by) if connects() => {
                let pods = self.found.entry((severity, place(&by), by.text, what())).or_default();
                pods.extend(pod.map(str::to_owned));
            }
            Led::Stopped(_) | Led::Through(_) => {}
            Led::Perhaps(why) => {
                self.depends.insert(why);
            }
        }
    }
}

fn own(link: &Link, v6: bool) -> Option<IpAddr> {
    global(link).map(|net| net.addr()).find(|address| address.is_ipv6() == v6)
}

/// The message of this node, by whose narrowest way out the pod's packets would go.
fn of_node(ruleset: &Ruleset, exits: &[Exit], journey: &Journey<'_, '_>, holes: &mut Holes) {
    let v6 = journey.source.is_ipv6();
    let largest = sends(journey.pod).unwrap_or(0);
    let Some(narrow) = exits.iter().min_by_key(|exit| exit.mtu_bytes) else { return };
    if narrow.mtu_bytes >= largest {
        return;
    }
    let at_exit = own(journey.exit, v6);
    let answer = journey.back();
    let answer = Packet {
        source: own(journey.entrance, v6).or(at_exit).unwrap_or(answer.source),
        source_type: Some(AddressType::Local),
        ..answer
    };
    let what = || format!("this node's own {} ({}, and they send {largest})", name(v6), narrow.words);
    let led = outward(ruleset, too_big(answer));
    holes.note(led, || connects(ruleset, at_exit, journey), Severity::Error, what, Some(&journey.pod.label));
}

/// The message of a router beyond, to the node itself: its tunnels need it, and what it downloads.
fn to_node(ruleset: &Ruleset, journey: &Journey<'_, '_>, holes: &mut Holes) {
    let v6 = journey.source.is_ipv6();
    let Some(own) = own(journey.exit, v6) else { return };
    let answer = Packet {
        destination: own,
        destination_type: Some(AddressType::Local),
        source_translated: Some(false),
        ..journey.back()
    };
    let led = home(ruleset, too_big(answer.clone()));
    let connects = || !matches!(home(ruleset, answer), Led::Stopped(_));
    let what = || format!("{} from {} to the node itself", name(v6), journey.exit.name);
    holes.note(led, connects, Severity::Warning, what, None);
}

fn pmtu_black_hole(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    let Some(ruleset) = deciding(ground, findings) else { return };
    let exits = [exits(ground, Some(false)), exits(ground, Some(true))];
    let mut holes = Holes::default();
    let mut seen = BTreeSet::new();
    for journey in journeys(ground, findings) {
        let v6 = journey.source.is_ipv6();
        let (entrance, exit) = (journey.entrance, journey.exit);
        let at_exit = own(exit, v6);
        let led = inward(ruleset, at_exit, too_big(journey.back()));
        let connects = || connects(ruleset, at_exit, &journey);
        let what = || format!("{} from {} to {}", name(v6), exit.name, entrance.name);
        holes.note(led, connects, Severity::Warning, what, Some(&journey.pod.label));
        of_node(ruleset, &exits[usize::from(v6)], &journey, &mut holes);
        if seen.insert((exit.index, v6)) {
            to_node(ruleset, &journey, &mut holes);
        }
    }
    for why in holes.depends {
        findings.blind(format!("what the rules do with ICMP about a smaller MTU depends on {why}"));
    }
    for ((severity, place, text, what), pods) in holes.found {
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        let whom = match pods.len() {
            0 => String::new(),
            number => format!(" for {}: {}", count(number, "pod", "pods"), listed(&pods)),
        };
        findings.add_as(
            severity,
            place,
            format!("`{text}` stops {what}{whom}"),
            "let it pass before that rule: ct state related, or icmp type 3 code 4 and icmpv6 type 2",
        );
    }
}

#[cfg(test)]
mod tests {
    use model::Snapshot;

    use super::super::testing::*;

    /// A chain of the host's at a hook, with rules.
    fn chain(s: &mut Snapshot, hook: &str, priority: i32, policy: &str, rules: &[&str]) {
        let text = format!(
            r#"{{"family": "inet", "name": "site", "maker": "nft", "chains": [{{"name": "{hook}",
            "base": {{"hook": "{hook}", "priority": {priority}, "kind": "filter", "policy": "{policy}"}}, "rules": [{}]}}]}}"#,
            rules.join(",")
        );
        let table = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        s.stack.ruleset.as_mut().unwrap().tables.push(table);
    }

    const DROP_TYPE_3: &str = r#"{"text": "icmp type 3 drop", "matches": [{"is": {"field": "protocol", "values": [{"number": 1}]}},
        {"is": {"field": "icmp-type", "values": [{"number": 3}]}}], "actions": ["drop"]}"#;
    const DROP_UNREACHABLE_HOST: &str = r#"{"text": "icmp code 1 drop", "matches": [
        {"is": {"field": "icmp-type", "values": [{"number": 3}]}}, {"is": {"field": "icmp-code", "values": [{"number": 1}]}}],
        "actions": ["drop"]}"#;
    const TCP: &str = r#"{"text": "tcp accept", "matches": [{"is": {"field": "protocol", "values": [{"number": 6}]}}], "actions": ["accept"]}"#;
    const RELATED: &str = r#"{"text": "ct state established,related accept", "matches": [{"is": {"field": "connection-state",
        "mask": 6, "not": true, "values": [{"number": 0}]}}], "actions": ["accept"]}"#;
    const ESTABLISHED: &str = r#"{"text": "ct state established accept", "matches": [{"is": {"field": "connection-state",
        "mask": 2, "not": true, "values": [{"number": 0}]}}], "actions": ["accept"]}"#;
    const RED: &str = r#"{"text": "from red accept", "matches": [{"is": {"field": "source-address", "values": [{"net": "10.244.0.0/15"}]}}],
        "actions": ["accept"]}"#;

    #[test]
    fn a_rule_that_drops_what_routers_say_is_found() {
        let drop = |s: &mut Snapshot| chain(s, "forward", 0, "accept", &[DROP_TYPE_3]);
        only(&["pmtu-black-hole"], drop);
        let found_text = diagnosis("pmtu-black-hole", drop).findings[0].found.clone();
        let start =
            "`icmp type 3 drop` stops ICMP \"fragmentation needed\" from eth0 to cali-green for 1 pod: ";
        assert!(found_text.starts_with(start), "{found_text}");
        for rules in [[RELATED, DROP_TYPE_3], [DROP_UNREACHABLE_HOST, TCP]] {
            only(&[], |s| chain(s, "forward", 0, "accept", &rules));
        }
        assert!(is_blind("pmtu-black-hole", |s| s.stack.ruleset = None));
    }

    #[test]
    fn a_policy_that_lets_connections_pass_and_their_errors_not() {
        let without = |s: &mut Snapshot| chain(s, "forward", 0, "drop", &[ESTABLISHED, RED]);
        only(&["pmtu-black-hole"], without);
        only(&[], |s| chain(s, "forward", 0, "drop", &[RELATED, RED]));
        // What lets nothing pass is another check's.
        only(&["forward-drop"], |s| chain(s, "forward", 0, "drop", &[]));
    }

    #[test]
    fn the_node_itself_has_to_hear_it_as_well() {
        let input = |s: &mut Snapshot| chain(s, "input", 0, "drop", &[ESTABLISHED]);
        only(&["pmtu-black-hole"], input);
        let text = diagnosis("pmtu-black-hole", input).findings[0].found.clone();
        assert_eq!(text, "`policy drop` stops ICMP \"fragmentation needed\" from eth0 to the node itself");
        only(&[], |s| chain(s, "input", 0, "drop", &[RELATED]));
        only(&[], |s| chain(s, "input", 0, "drop", &[]));
    }

    #[test]
    fn before_addresses_are_translated_back_it_is_for_the_node() {
        let to = |net: &str| {
            format!(
                r#"{{"text": "to", "matches": [{{"is": {{"field": "destination-address", "values": [{{"net": "{net}"}}]}}}},
                {{"is": {{"field": "protocol", "values": [{{"number": 1}}]}}}}], "actions": ["drop"]}}"#
            )
        };
        // As Docker's, of its pods' own addresses.
        only(&[], |s| chain(s, "prerouting", -300, "accept", &[&to("10.244.0.0/15")]));
        only(&["pmtu-black-hole"], |s| chain(s, "prerouting", -300, "accept", &[DROP_TYPE_3]));
    }

    #[test]
    fn where_the_node_has_to_say_it_that_is_an_error() {
        let output = |s: &mut Snapshot| chain(s, "output", 0, "accept", &[DROP_TYPE_3]);
        only(&[], output);
        let narrow = |s: &mut Snapshot| {
            output(s);
            s.stack.routes[0].mtu_bytes = Some(1400);
        };
        let findings = diagnosis("pmtu-black-hole", narrow).findings;
        assert_eq!(findings[0].severity, super::Severity::Error);
        let start = "`icmp type 3 drop` stops this node's own ICMP \"fragmentation needed\" (the way by eth0 by the route 0.0.0.0/0 \
            takes 1400, and they send 1450) for 3 pods: ";
        assert!(findings[0].found.starts_with(start), "{}", findings[0].found);
    }
}
