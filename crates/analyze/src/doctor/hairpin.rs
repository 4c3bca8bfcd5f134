//! Pods that a service leads back to themselves: found in the rules, and led through them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use model::filter::{Action, AddressType, Field, Hook, Match, Set, Value};
use model::{Link, Ruleset};

use super::filter::deciding;
use super::ground::{global, listed};
use super::{Check, Findings, Ground, Severity, Wire};
use crate::filter::{Layer, Outcome, Packet, Passage, pass, translations};

const TCP: u8 = 6;
const UDP: u8 = 17;
const HTTPS: u16 = 443;
/// More packets than this are not led through the rules: each costs a walk through all services of kube-proxy's.
const MOST_LED: usize = 64;
/// As deep as chains call each other in the kernel.
const DEEPEST: usize = 16;

pub(super) const CHECKS: &[Check] = &[Check {
    id: "hairpin-service",
    title: "pods that a service leads back to themselves are on ports in hairpin mode",
    severity: Severity::Warning,
    why: "A pod connects to a service, the rules choose the pod itself, and br_netfilter has the bridge send the translated frame on: out of the port by which it came, which a bridge does in hairpin mode only. The connection hangs, now and then where a service has several pods. Without bridge-nf-call-iptables such a packet is routed, and comes back without hairpin mode. Where it is a port of the node that leads to the pod (hostPort, a published port, NodePort), it is only told.",
    see: "bridge -d link show dev VETH; podplumb trace POD SERVICE --port tcp/PORT",
    fix: "bridge link set dev VETH hairpin on; hairpinMode of the bridge plugin sets it for new pods",
    source: "https://kubernetes.io/docs/tasks/debug/debug-application/debug-service/#a-pod-fails-to-reach-itself-via-the-service-ip",
    run: hairpin_service,
}];

/// What a packet has to be like on its way to a translation, as far as it is asked for on that way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Asked {
    destination: Option<IpAddr>,
    protocol: Option<u8>,
    port: Option<u16>,
}

impl Asked {
    /// What was asked nearer to the translation counts.
    fn or(self, before: Self) -> Self {
        Self {
            destination: self.destination.or(before.destination),
            protocol: self.protocol.or(before.protocol),
            port: self.port.or(before.port),
        }
    }

    fn ask(&mut self, field: Field, value: &Value) {
        match (field, value) {
            (Field::DestinationAddress, Value::Net(net)) if net.prefix_len() == net.max_prefix_len() => {
                self.destination = Some(net.addr());
            }
            (Field::Protocol, Value::Number(number)) => self.protocol = u8::try_from(*number).ok(),
            (Field::DestinationPort, Value::Number(first) | Value::Numbers(first, _)) => {
                self.port = u16::try_from(*first).ok();
            }
            _ => {}
        }
    }

    fn of_rule(matches: &[Match]) -> Self {
        let mut asked = Self::default();
        for one in matches {
            if let Match::Is { field, mask: None, not: false, values } = one
                && let Some(first) = values.first()
            {
                asked.ask(*field, first);
            }
        }
        asked
    }

    fn of_element(fields: &[Field], key: &[Value]) -> Self {
        let mut asked = Self::default();
        fields.iter().zip(key).for_each(|(field, value)| asked.ask(*field, value));
        asked
    }
}

/// A chain, by its table's place.
type ChainId<'r> = (usize, &'r str);

/// Where rules translate destinations to, and how packets get there.
#[derive(Default)]
struct Ways<'r> {
    /// By the address that it becomes.
    translations: HashMap<IpAddr, Vec<(ChainId<'r>, Asked)>>,
    /// By the chain that is called.
    callers: HashMap<ChainId<'r>, Vec<(ChainId<'r>, Asked)>>,
    /// Those that see what comes in.
    entrances: HashSet<ChainId<'r>>,
}

impl<'r> Ways<'r> {
    fn new(ruleset: &'r Ruleset) -> Self {
        let mut ways = Self::default();
        for (at, table) in ruleset.tables.iter().enumerate().filter(|(_, table)| !table.dormant) {
            let sets: HashMap<&str, &Set> = table.sets.iter().map(|set| (set.name.as_str(), set)).collect();
            for chain in &table.chains {
                let id = (at, chain.name.as_str());
                if chain.base.as_ref().is_some_and(|base| base.hook == Hook::Prerouting) {
                    ways.entrances.insert(id);
                }
                for rule in &chain.rules {
                    let asked = Asked::of_rule(&rule.matches);
                    rule.actions.iter().for_each(|action| ways.add(&sets, id, asked, action));
                }
            }
        }
        ways
    }

    fn add(&mut self, sets: &HashMap<&str, &'r Set>, id: ChainId<'r>, asked: Asked, action: &'r Action) {
        match action {
            Action::Jump(target) | Action::Goto(target) => {
                self.callers.entry((id.0, target)).or_default().push((id, asked));
            }
            Action::VerdictMap { fields, set } => {
                for element in sets.get(set.as_str()).into_iter().flat_map(|set| &set.elements) {
                    if let Some(action) = &element.action {
                        let asked = Asked::of_element(fields, &element.key).or(asked);
                        self.add(sets, id, asked, action);
                    }
                }
            }
            Action::DestinationNat(to) => {
                if let Some((first, last)) = to.addresses {
                    self.lead(first, id, asked);
                    self.lead(last, id, asked);
                }
                let Some(map) = &to.map else { return };
                for element in sets.get(map.set.as_str()).into_iter().flat_map(|set| &set.elements) {
                    let asked = Asked::of_element(&map.fields, &element.key).or(asked);
                    for value in &element.data {
                        if let Value::Net(net) = value {
                            self.lead(net.addr(), id, asked);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn lead(&mut self, to: IpAddr, id: ChainId<'r>, asked: Asked) {
        let all = self.translations.entry(to).or_default();
        if !all.contains(&(id, asked)) {
            all.push((id, asked));
        }
    }

    /// What to send so that it may be led to an address.
    fn leading_to(&self, to: IpAddr) -> Vec<Asked> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut next: Vec<_> = self.translations.get(&to).cloned().unwrap_or_default();
        for _ in 0..DEEPEST {
            let mut callers = Vec::new();
            for (chain, asked) in next {
                if !seen.insert((chain, asked)) || found.len() > MOST_LED {
                    continue;
                }
                if self.entrances.contains(&chain) && !found.contains(&asked) {
                    found.push(asked);
                }
                let before = self.callers.get(&chain).into_iter().flatten();
                callers.extend(before.map(|(caller, theirs)| (*caller, asked.or(*theirs))));
            }
            next = callers;
        }
        found
    }
}

/// Whether a bridge shows what it forwards to the rules of a family, so that a translated frame is bridged and not routed.
fn shows(ground: &Ground<'_>, bridge: &Link, v6: bool) -> bool {
    let own = bridge.bridge.is_some_and(|own| if v6 { own.call_ip6tables } else { own.call_iptables });
    let sysctl = match v6 {
        false => "net.bridge.bridge-nf-call-iptables",
        true => "net.bridge.bridge-nf-call-ip6tables",
    };
    own || ground.snapshot.stack.number(sysctl) == Some(1)
}

/// Ports that a pod cannot get its own packets back by.
fn is_one_way(ground: &Ground<'_>, wire: &Wire<'_>, v6: bool) -> bool {
    let is_off = wire.outside.port.is_some_and(|port| !port.hairpin);
    // kubelet's promiscuous-bridge: it helped on older kernels, and does not on 6.18 (tried); since which is not known here.
    let helps = |bridge: &&Link| bridge.up && !bridge.promiscuous && shows(ground, bridge, v6);
    is_off && wire.bridge.filter(helps).is_some()
}

/// What came of a packet that a pod sends.
enum Led {
    /// The pod would get it itself; with whether its source becomes another, which it needs as well.
    Back(bool),
    Elsewhere,
    Perhaps(String),
}

fn led(ruleset: &Ruleset, wire: &Wire<'_>, packet: Packet) -> Led {
    let source = packet.source;
    let Passage { outcome, packet, alternatives, .. } = pass(ruleset, Hook::Prerouting, &packet);
    let others = alternatives.into_iter().map(|other| (other.packet, other.by_chance));
    let mut ends = std::iter::once((packet, true)).chain(others);
    let Some((back, is_certain)) = ends.find(|(packet, _)| packet.destination == source) else {
        return Led::Elsewhere;
    };
    match outcome {
        Outcome::Passed if is_certain => {}
        Outcome::Passed => return Led::Perhaps("what is not known of it".to_owned()),
        Outcome::Perhaps { why, .. } => return Led::Perhaps(why),
        Outcome::Dropped(_) | Outcome::Rejected(_) => return Led::Elsewhere,
    }
    let bridged = Packet {
        output: back.input.clone(),
        output_port: Some(wire.outside.name.clone()),
        layer: Layer::BridgeNetfilter,
        destination_type: Some(AddressType::Unicast),
        ..back
    };
    match pass(ruleset, Hook::Forward, &bridged).outcome {
        Outcome::Dropped(_) | Outcome::Rejected(_) => Led::Elsewhere,
        Outcome::Passed | Outcome::Perhaps { .. } => {
            let leaving = Packet { input: None, ..bridged };
            Led::Back(!translations(ruleset, Hook::Postrouting, &leaving).is_empty())
        }
    }
}

/// Addresses of the node by which its own ports are asked for: an uplink's, and the pod's gateway.
fn own_addresses(ground: &Ground<'_>, bridge: &Link, v6: bool) -> Vec<IpAddr> {
    let first = |link: &Link| global(link).map(|net| net.addr()).find(|address| address.is_ipv6() == v6);
    let uplinks = ground.uplinks();
    let uplink = uplinks.iter().filter(|link| link.index != bridge.index).find_map(|link| first(link));
    uplink.into_iter().chain(first(bridge)).collect()
}

/// A way on which a pod is led back to itself.
struct Loop {
    severity: Severity,
    /// Its source becomes another on the way.
    is_translated: bool,
    /// To what address and port, in words.
    to: String,
}

/// Leads what a pod sends through the rules, while there is a budget for that.
struct Leader<'g, 'a> {
    ground: &'g Ground<'a>,
    ruleset: &'a Ruleset,
    budget: usize,
}

impl Leader<'_, '_> {
    /// The first way on which what is asked for leads the sender back to itself.
    fn follow(
        &mut self,
        wire: &Wire<'_>,
        source: IpAddr,
        asked: Asked,
        findings: &mut Findings,
    ) -> Option<Loop> {
        let bridge = wire.bridge?;
        // Where no port is asked for, any will do.
        let (protocol, port) = (asked.protocol.unwrap_or(TCP), asked.port.unwrap_or(HTTPS));
        let own = || own_addresses(self.ground, bridge, source.is_ipv6());
        let destinations = asked.destination.map_or_else(own, |one| vec![one]);
        for destination in destinations.into_iter().filter(|one| one.is_ipv6() == source.is_ipv6()) {
            if self.budget == 0 {
                findings.blind(format!("more than {MOST_LED} ways to services were not followed"));
                return None;
            }
            self.budget -= 1;
            let is_own = self.ground.is_hosts(destination);
            let packet = Packet {
                input: Some(bridge.name.clone()),
                input_port: Some(wire.outside.name.clone()),
                source_type: Some(AddressType::Unicast),
                destination_type: Some(if is_own { AddressType::Local } else { AddressType::Unicast }),
                ..Packet::connection(protocol, source, destination, port)
            };
            match led(self.ruleset, wire, packet) {
                Led::Back(is_translated) => {
                    let severity = if is_own { Severity::Notice } else { Severity::Warning };
                    let protocol = match protocol {
                        TCP => "tcp/".to_owned(),
                        UDP => "udp/".to_owned(),
                        other => format!("protocol {other}, port "),
                    };
                    let to = format!("{destination} {protocol}{port}");
                    return Some(Loop { severity, is_translated, to });
                }
                Led::Elsewhere => {}
                Led::Perhaps(why) => {
                    findings.blind(format!("whether a service leads pods back depends on {why}"));
                }
            }
        }
        None
    }
}

fn hairpin_service(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    let Some(ruleset) = deciding(ground, findings) else { return };
    if !ground.wires().any(|(_, wire)| [false, true].iter().any(|v6| is_one_way(ground, &wire, *v6))) {
        return;
    }
    let ways = Ways::new(ruleset);
    let mut leader = Leader { ground, ruleset, budget: MOST_LED };
    let mut lost: BTreeMap<(String, Severity, bool), Vec<String>> = BTreeMap::new();
    for (pod, wire) in ground.wires() {
        let Some(bridge) = wire.bridge else { continue };
        let sources = global(wire.inside).map(|net| net.addr());
        for source in sources.filter(|source| is_one_way(ground, &wire, source.is_ipv6())) {
            for asked in ways.leading_to(source) {
                if let Some(Loop { severity, is_translated, to }) =
                    leader.follow(&wire, source, asked, findings)
                {
                    let words = format!("{} by {to} ({})", pod.label, wire.outside.name);
                    lost.entry((bridge.name.clone(), severity, is_translated)).or_default().push(words);
                }
            }
        }
    }
    for ((bridge, severity, is_translated), ways) in lost {
        let ways: Vec<&str> = ways.iter().map(String::as_str).collect();
        let led = match ways.len() {
            1 => "1 connection is led back to the pod that it comes from, by a port that is".to_owned(),
            more => {
                format!("{more} connections are led back to the pods that they come from, by ports that are")
            }
        };
        let also = if is_translated { "" } else { ", and nothing translates their source" };
        findings.add_as(
            severity,
            bridge,
            format!("{led} not in hairpin mode{also}: {}", listed(&ways)),
            match is_translated {
                true => "bridge link set dev VETH hairpin on; hairpinMode of the bridge plugin",
                false => "hairpin mode for the ports, and a masquerade of what pods send to themselves",
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use model::{BridgePort, Snapshot};

    use super::super::testing::*;

    /// Ports without hairpin mode, br_netfilter, and tables of the host's.
    fn with(s: &mut Snapshot, tables: &[&str]) {
        for at in [RED, BLUE] {
            of_host(s, at).port = Some(BridgePort { state: 3, hairpin: false, isolated: false });
        }
        s.stack.sysctls.insert("net.bridge.bridge-nf-call-iptables".into(), "1".into());
        for text in tables {
            let table = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            s.stack.ruleset.as_mut().unwrap().tables.push(table);
        }
    }

    /// As kube-proxy has it in iptables: a service with two pods, of which red is one.
    const SERVICES: &str = r#"{"family": "ip", "name": "nat", "maker": "iptables-nft", "chains": [
        {"name": "PREROUTING", "base": {"hook": "prerouting", "priority": -100, "kind": "nat"},
         "rules": [{"text": "-j KUBE-SERVICES", "actions": [{"jump": "KUBE-SERVICES"}]}]},
        {"name": "KUBE-SERVICES", "rules": [{"text": "-d 10.96.0.1", "matches": [
            {"is": {"field": "destination-address", "values": [{"net": "10.96.0.1/32"}]}},
            {"is": {"field": "protocol", "values": [{"number": 6}]}},
            {"is": {"field": "destination-port", "values": [{"number": 80}]}}], "actions": [{"jump": "KUBE-SVC"}]}]},
        {"name": "KUBE-SVC", "rules": [
            {"text": "-m statistic", "matches": [{"sometimes": "0.5"}], "actions": [{"jump": "KUBE-SEP-1"}]},
            {"text": "", "actions": [{"jump": "KUBE-SEP-2"}]}]},
        {"name": "KUBE-SEP-1", "rules": [{"text": "dnat", "matches": [{"is": {"field": "protocol", "values": [{"number": 6}]}}],
            "actions": [{"destination-nat": {"addresses": ["10.244.1.9", "10.244.1.9"], "ports": [8080, 8080]}}]}]},
        {"name": "KUBE-SEP-2", "rules": [{"text": "dnat",
            "actions": [{"destination-nat": {"addresses": ["10.244.0.2", "10.244.0.2"], "ports": [8080, 8080]}}]}]},
        {"name": "POSTROUTING", "base": {"hook": "postrouting", "priority": 100, "kind": "nat"}, "rules": [{"text": "masquerade",
            "matches": [{"is": {"field": "destination-address", "values": [{"net": "10.244.0.2/32"}]}}], "actions": [{"masquerade": {}}]}]}
        ]}"#;

    /// A port of the node that leads to red, as Docker (without packets of its own bridge) and portmap have it.
    fn published(but: &str) -> String {
        let input = match but {
            "" => String::new(),
            name => {
                format!(
                    r#"{{"is": {{"field": "in-interface", "not": true, "values": [{{"name": "{name}"}}]}}}},"#
                )
            }
        };
        format!(
            r#"{{"family": "ip", "name": "nat", "maker": "nft", "chains": [
            {{"name": "pre", "base": {{"hook": "prerouting", "priority": -100, "kind": "nat"}}, "rules": [{{"text": "-j DOCKER",
              "matches": [{{"is": {{"field": "destination-type", "values": [{{"number": 2}}]}}}}], "actions": [{{"jump": "DOCKER"}}]}}]}},
            {{"name": "DOCKER", "rules": [{{"text": "dnat", "matches": [{input}
              {{"is": {{"field": "protocol", "values": [{{"number": 17}}]}}}}, {{"is": {{"field": "destination-port", "values": [{{"number": 53}}]}}}}],
              "actions": [{{"destination-nat": {{"addresses": ["10.244.0.2", "10.244.0.2"]}}}}]}}]}}]}}"#
        )
    }

    #[test]
    fn a_service_that_chooses_the_pod_itself_needs_hairpin_mode() {
        only(&["hairpin-service"], |s| with(s, &[SERVICES]));
        let text = diagnosis("hairpin-service", |s| with(s, &[SERVICES])).findings[0].found.clone();
        let start =
            "1 connection is led back to the pod that it comes from, by a port that is not in hairpin mode: ";
        assert!(text.starts_with(start) && text.ends_with("by 10.96.0.1 tcp/80 (veth-red)"), "{text}");
        let silent = |change: fn(&mut Snapshot)| {
            let both = |s: &mut Snapshot| {
                with(s, &[SERVICES]);
                change(s);
            };
            assert_eq!(found("hairpin-service", both), [""; 0]);
        };
        silent(|s| of_host(s, RED).port.as_mut().unwrap().hairpin = true);
        silent(|s| of_host(s, BRIDGE).promiscuous = true);
        // It is routed, then.
        silent(|s| drop(s.stack.sysctls.insert("net.bridge.bridge-nf-call-iptables".into(), "0".into())));
        silent(|s| s.stack.ruleset.as_mut().unwrap().tables[0].chains[0].rules.clear());
        // The pods of the service are elsewhere.
        silent(|s| eth0(s, RED).addresses = vec!["10.244.0.77/24".parse().unwrap()]);
        assert!(is_blind("hairpin-service", |s| s.stack.ruleset = None));
    }

    #[test]
    fn services_that_maps_lead_to_are_followed_too() {
        let table = r#"{"family": "ip", "name": "kube-proxy", "maker": "nft", "chains": [
            {"name": "nat-prerouting", "base": {"hook": "prerouting", "priority": -100, "kind": "nat"}, "rules": [{"text": "vmap @service-ips",
              "actions": [{"verdict-map": {"fields": ["destination-address", "protocol", "destination-port"], "set": "service-ips"}}]}]},
            {"name": "service-a", "rules": [{"text": "numgen", "actions": [
              {"verdict-map": {"fields": [{"random": 1}], "set": "__map0"}}]}]},
            {"name": "endpoint-a", "rules": [{"text": "dnat", "actions": [
              {"destination-nat": {"addresses": ["10.244.0.2", "10.244.0.2"], "ports": [8080, 8080]}}]}]}],
            "sets": [
              {"name": "service-ips", "elements": [{"key": [{"net": "10.96.0.1/32"}, {"number": 6}, {"number": 80}],
                "action": {"goto": "service-a"}}]},
              {"name": "__map0", "elements": [{"key": [{"number": 0}], "action": {"goto": "endpoint-a"}}]}]}"#;
        let findings = diagnosis("hairpin-service", |s| with(s, &[table])).findings;
        let text = &findings[0].found;
        assert!(
            text.contains(", and nothing translates their source: ") && text.contains("10.96.0.1 tcp/80"),
            "{text}"
        );
    }

    #[test]
    fn a_port_of_the_node_is_only_told_and_docker_leaves_its_own_bridge_out() {
        only(&["hairpin-service"], |s| with(s, &[&published("")]));
        let findings = diagnosis("hairpin-service", |s| with(s, &[&published("")])).findings;
        assert_eq!(findings[0].severity, super::Severity::Notice);
        assert!(findings[0].found.contains("by 192.0.2.10 udp/53"), "{}", findings[0].found);
        only(&[], |s| with(s, &[&published("cni0")]));
        // All ports of another address.
        let whole = r#"{"family": "ip", "name": "nat", "maker": "nft", "chains": [{"name": "pre",
            "base": {"hook": "prerouting", "priority": -100, "kind": "nat"}, "rules": [{"text": "dnat", "matches": [
            {"is": {"field": "destination-address", "values": [{"net": "192.0.2.50/32"}]}}],
            "actions": [{"destination-nat": {"addresses": ["10.244.0.2", "10.244.0.2"]}}]}]}]}"#;
        only(&["hairpin-service"], |s| with(s, &[whole]));
    }
}
