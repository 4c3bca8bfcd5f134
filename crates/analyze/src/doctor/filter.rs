//! What the packet filter does with what pods send: each pod's first packet to the world, and the answer, are led through the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::filter::{AddressType, Field, Hook, Maker, Match, Value};
use model::{IfIndex, Link, Ruleset, RuntimeKind};

use super::addresses::count;
use super::ground::{global, listed};
use super::lookup::Way;
use super::{Check, Findings, Ground, Pod, Severity, Wire};
use crate::filter::{
    Layer, Masqueraded, Outcome, Packet, RuleRef, State, makers, masquerades, pass, translations,
};

const TCP: u8 = 6;
const HTTPS: u16 = 443;
/// Somebody beyond every network of the node's; nothing is sent.
const WORLD: (IpAddr, IpAddr) = (
    IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111)),
);

const BRIDGE: &str = "https://www.cni.dev/plugins/current/main/bridge/";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "forward-drop",
        title: "no chain drops what pods send by its policy",
        severity: Severity::Error,
        why: "A chain at the forward hook has the policy to drop, and no rule accepts what pods send, or what comes back. Docker sets this policy in iptables' FORWARD, and ufw and firewalld have it, too; a CNI is expected to add its own accepts. Each table is asked: that one accepts does not help where another one drops. nftables and both iptables are looked at.",
        see: "iptables -S FORWARD; iptables-legacy -S FORWARD; nft list ruleset; podplumb trace POD 1.1.1.1",
        fix: "let the CNI add its accepts (chain the firewall plugin), or add one for the pods' range: iptables -I FORWARD -s RANGE -j ACCEPT, and -d RANGE",
        source: "https://docs.docker.com/engine/network/packet-filtering-firewalls/",
        run: forward_drop,
    },
    Check {
        id: "rule-in-the-way",
        title: "no rule drops what pods send to the world",
        severity: Severity::Notice,
        why: "A rule drops or refuses a pod's TCP connection to port 443 of an address in the world. That may well be wanted (a network policy); the rule is named, so that it need not be looked for.",
        see: "podplumb trace POD ADDRESS --port tcp/443",
        fix: "if it is not wanted, remove the rule where it comes from: a network policy, ufw, firewalld, a script",
        source: "https://kubernetes.io/docs/concepts/services-networking/network-policies/",
        run: rule_in_the_way,
    },
    Check {
        id: "masquerade-missing",
        title: "pods that should be masqueraded are",
        severity: Severity::Error,
        why: "A pod's private address leaves the node as it is, and no answer comes back, since nobody beyond has a route to it. A network configuration says ipMasq for the pod's range, or Docker or Podman made its network, or others on the same bridge are masqueraded. Somebody flushed the rules (a firewall that was reloaded), or they are for another range.",
        see: "iptables -t nat -S POSTROUTING; nft list ruleset; podplumb trace POD 1.1.1.1",
        fix: "restart the pod, or the runtime's daemon, which makes the rules anew; look for what flushes rules (firewalld and nftables.service on reload)",
        source: BRIDGE,
        run: masquerade_missing,
    },
    Check {
        id: "masquerade-twice",
        title: "one rule masquerades each pod",
        severity: Severity::Notice,
        why: "Two rules would translate the source of a pod's connections. The kernel takes the first one only, so nothing is lost; but one of them is left over, or two programs think that the pods are theirs, and a change of one has no effect.",
        see: "iptables -t nat -S POSTROUTING; iptables-legacy -t nat -S; nft list ruleset",
        fix: "find out which program makes which, and switch one off (ipMasq of the bridge plugin, --ip-masq of flannel or its ip-masq-agent)",
        source: BRIDGE,
        run: masquerade_twice,
    },
    Check {
        id: "two-iptables",
        title: "one flavour of iptables is in use",
        severity: Severity::Warning,
        why: "There are rules of iptables-legacy and of iptables-nft. Both are asked for each packet, and neither tool shows the other's: a drop in one is not seen by whoever looks with the other, and a program in a container may write to the flavour that the node does not use.",
        see: "iptables-legacy-save; iptables-nft-save; podplumb map",
        fix: "update-alternatives --config iptables; restart what made the rules of the other flavour, and flush those once",
        source: "https://github.com/kubernetes/kubernetes/issues/71305",
        run: two_iptables,
    },
    Check {
        id: "bridge-netfilter",
        title: "bridged packets are shown to the rules of services",
        severity: Severity::Warning,
        why: "kube-proxy translates the addresses of services where packets are routed. When a pod's service is answered by a pod on the same bridge, the answer is bridged, and without net.bridge.bridge-nf-call-iptables=1 nobody translates it back: the pod gets an answer from an address that it never asked, and drops it.",
        see: "sysctl net.bridge.bridge-nf-call-iptables (it is not there while the module br_netfilter is not loaded)",
        fix: "modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1; and both in /etc/modules-load.d and /etc/sysctl.d",
        source: "https://kubernetes.io/docs/setup/production-environment/container-runtimes/",
        run: bridge_netfilter,
    },
    Check {
        id: "service-overlap",
        title: "no service has an address of the pods' subnets",
        severity: Severity::Error,
        why: "kube-proxy's rules lead connections to a service's address to its pods. An address that is also of the node's pod subnet can be given to a pod, which nobody reaches then: its connections end in the service. The service range and the pods' range must not overlap.",
        see: "iptables-save -t nat | grep KUBE-SERVICES; nft list map ip kube-proxy service-ips; ip addr show dev BRIDGE",
        fix: "give services (--service-cluster-ip-range) and pods (--cluster-cidr) ranges that do not overlap",
        source: "https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/",
        run: service_overlap,
    },
];

/// The rules; says so where they are not known.
pub(super) fn ruleset<'a>(ground: &Ground<'a>, findings: &mut Findings) -> Option<&'a Ruleset> {
    let ruleset = ground.stack(findings)?.ruleset.as_ref();
    if ruleset.is_none() {
        findings.blind("the snapshot does not have the rules of the packet filter");
    }
    for gap in ruleset.iter().flat_map(|ruleset| &ruleset.gaps) {
        findings.blind(format!("rules could not be read: {}: {}", gap.object, gap.why));
    }
    ruleset
}

/// The rules, for what they decide: says so where they are not alone in that.
pub(super) fn deciding<'a>(ground: &Ground<'a>, findings: &mut Findings) -> Option<&'a Ruleset> {
    for program in &ground.programs {
        findings.blind(program.as_str());
    }
    ruleset(ground, findings)
}

/// A pod's way to the world.
pub(super) struct Journey<'g, 'a> {
    pub(super) pod: &'g Pod<'a>,
    wire: Wire<'a>,
    pub(super) source: IpAddr,
    destination: IpAddr,
    pub(super) entrance: &'a Link,
    pub(super) exit: &'a Link,
    /// br_netfilter says by which port of the bridge it came.
    has_port: bool,
}

impl Journey<'_, '_> {
    pub(super) fn there(&self) -> Packet {
        Packet {
            input: Some(self.entrance.name.clone()),
            output: Some(self.exit.name.clone()),
            input_port: self.has_port.then(|| self.wire.outside.name.clone()),
            source_type: Some(AddressType::Unicast),
            destination_type: Some(AddressType::Unicast),
            ..Packet::connection(TCP, self.source, self.destination, HTTPS)
        }
    }

    pub(super) fn back(&self) -> Packet {
        let there = self.there();
        Packet {
            source: there.destination,
            destination: there.source,
            source_port: there.destination_port,
            destination_port: None,
            input: there.output,
            output: there.input,
            input_port: None,
            state: State::Established,
            connection_mark: None,
            source_translated: None,
            ..there
        }
    }
}

/// The ways to the world of pods whose default route leads to the node.
pub(super) fn journeys<'g, 'a>(ground: &'g Ground<'a>, findings: &mut Findings) -> Vec<Journey<'g, 'a>> {
    let mut journeys = Vec::new();
    for v6 in [false, true] {
        let entrances = super::forwarding::entrances(ground, v6);
        let world = if v6 { WORLD.1 } else { WORLD.0 };
        let exit: Option<IfIndex> = match ground.way(world) {
            Way::Unsure => {
                findings.blind("routing rules decide that say more than a snapshot does");
                None
            }
            way => way.devices().first().copied(),
        };
        // Without a way to the world, those on the uplink's subnet are as far as it goes.
        let neighbour = || {
            let uplinks = ground.uplinks().into_iter().filter(|link| !entrances.contains(&link.index));
            let mut subnets = uplinks.flat_map(|link| global(link).map(move |net| (link, net)));
            let (link, net) = subnets.find(|(_, net)| net.addr().is_ipv6() == v6)?;
            Some((link, net.hosts().find(|host| *host != net.addr())?))
        };
        let Some((exit, destination)) =
            exit.and_then(|exit| Some((ground.link(exit)?, world))).or_else(neighbour)
        else {
            continue;
        };
        for (pod, wire) in ground.wires() {
            let entrance = wire.bridge.unwrap_or(wire.outside);
            if !entrances.contains(&entrance.index) || entrance.index == exit.index {
                continue;
            }
            let own = global(wire.inside).map(|net| net.addr()).find(|address| address.is_ipv6() == v6);
            if let Some(source) = own {
                let has_port = wire.bridge.is_some_and(|bridge| shows_bridged(ground, bridge));
                journeys.push(Journey { pod, wire, source, destination, entrance, exit, has_port });
            }
        }
    }
    journeys
}

/// A rule, by where it is.
fn named(rule: &RuleRef) -> String {
    format!("{} {} {}, chain {}: {}", rule.maker, rule.family.as_str(), rule.table, rule.chain, rule.text)
}

/// A rule's place, as the object of a finding.
pub(super) fn place(rule: &RuleRef) -> String {
    format!("{} {} {} {}", rule.maker, rule.family.as_str(), rule.table, rule.chain)
}

/// What stops a packet at these hooks, with the hook's rule; where that is not certain, it is told.
fn stopped(ruleset: &Ruleset, hooks: &[Hook], packet: Packet, findings: &mut Findings) -> Option<RuleRef> {
    let mut packet = packet;
    for hook in hooks {
        // A packet has no output before it is routed, and no input after.
        let seen = match hook {
            Hook::Prerouting => Packet { output: None, ..packet.clone() },
            Hook::Postrouting => Packet { input: None, ..packet.clone() },
            _ => packet.clone(),
        };
        let passage = pass(ruleset, *hook, &seen);
        match passage.outcome {
            Outcome::Passed => {}
            Outcome::Dropped(by) | Outcome::Rejected(by) => return Some(by),
            Outcome::Perhaps { why, .. } => {
                findings.blind(format!("what the rules do with packets of pods depends on {why}"));
                return None;
            }
        }
        packet.mark = passage.packet.mark;
        packet.unknown_mark = passage.packet.unknown_mark;
    }
    None
}

/// What stops pods' packets, with those that it stops: by a chain's policy, or else by a rule.
fn stops(ground: &Ground<'_>, findings: &mut Findings, by_policy: bool) {
    ground.tell_unreadable(findings);
    let Some(ruleset) = deciding(ground, findings) else { return };
    let mut stops: BTreeMap<(String, String, String), Vec<String>> = BTreeMap::new();
    let mut add = |rule: &RuleRef, what: String, label: &str| {
        let pods = stops.entry((place(rule), rule.text.clone(), what)).or_default();
        if !pods.iter().any(|pod| pod == label) {
            pods.push(label.to_owned());
        }
    };
    for journey in journeys(ground, findings) {
        let way = format!("from {} to {}", journey.entrance.name, journey.exit.name);
        let hooks = [Hook::Prerouting, Hook::Forward, Hook::Postrouting];
        let there = stopped(ruleset, &hooks, journey.there(), findings);
        let (rule, what) = match there {
            Some(rule) => (Some(rule), format!("what goes {way}")),
            None => {
                let back = format!("answers from {} to {}", journey.exit.name, journey.entrance.name);
                (stopped(ruleset, &[Hook::Forward], journey.back(), findings), back)
            }
        };
        if let Some(rule) = rule.filter(|rule| rule.index.is_none() == by_policy) {
            add(&rule, what, &journey.pod.label);
        }
    }
    for (rule, what, pod) in bridged(ground, ruleset, findings) {
        if rule.index.is_none() == by_policy {
            add(&rule, what, &pod);
        }
    }
    for ((place, text, what), pods) in stops {
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        let number = count(pods.len(), "pod", "pods");
        let fix = if by_policy {
            "a rule that accepts the pods' range there, in both directions"
        } else {
            "if it is not wanted, remove it where it comes from"
        };
        findings.add(place, format!("`{text}` stops {what} of {number}: {}", listed(&pods)), fix);
    }
}

/// Whether what a bridge forwards is shown to iptables.
pub(super) fn shows_bridged(ground: &Ground<'_>, bridge: &Link) -> bool {
    let stack = &ground.snapshot.stack;
    bridge.bridge.is_some_and(|bridge| bridge.call_iptables)
        || stack.number("net.bridge.bridge-nf-call-iptables") == Some(1)
}

/// What stops pods on one bridge from reaching each other.
fn bridged(
    ground: &Ground<'_>,
    ruleset: &Ruleset,
    findings: &mut Findings,
) -> Vec<(RuleRef, String, String)> {
    let mut stopped_pods = Vec::new();
    for bridge in ground.pod_bridges().into_iter().filter(|bridge| shows_bridged(ground, bridge)) {
        let on_bridge =
            ground.wires().filter(|(_, wire)| wire.bridge.is_some_and(|own| own.index == bridge.index));
        let with_address: Vec<_> = on_bridge
            .filter_map(|(pod, wire)| {
                let address = global(wire.inside).map(|net| net.addr()).find(IpAddr::is_ipv4)?;
                Some((pod, wire, address))
            })
            .collect();
        // Each to the next one: rules may be for single addresses.
        for pair in with_address.windows(2) {
            let [(pod, from, source), (_, to, destination)] = pair else { continue };
            let packet = Packet {
                input: Some(bridge.name.clone()),
                output: Some(bridge.name.clone()),
                input_port: Some(from.outside.name.clone()),
                output_port: Some(to.outside.name.clone()),
                layer: Layer::BridgeNetfilter,
                source_type: Some(AddressType::Unicast),
                destination_type: Some(AddressType::Unicast),
                ..Packet::connection(TCP, *source, *destination, HTTPS)
            };
            if let Some(rule) = stopped(ruleset, &[Hook::Forward], packet, findings) {
                stopped_pods.push((rule, format!("what {} itself forwards", bridge.name), pod.label.clone()));
            }
        }
    }
    stopped_pods
}

fn forward_drop(ground: &Ground<'_>, findings: &mut Findings) {
    stops(ground, findings, true);
}

fn rule_in_the_way(ground: &Ground<'_>, findings: &mut Findings) {
    stops(ground, findings, false);
}

/// Whether an address is of a range that nobody beyond has a route to.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_private() || address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64
        }
        IpAddr::V6(address) => address.segments()[0] & 0xfe00 == 0xfc00,
    }
}

/// Who wants the pod's packets to be masqueraded, in words.
fn wants_masquerade(
    ground: &Ground<'_>,
    journey: &Journey<'_, '_>,
    others: &[IfIndex],
) -> Option<(Severity, String)> {
    let configs = ground.snapshot.configs.iter().filter(|config| config.masquerade);
    let mut of_range =
        configs.filter(|config| config.subnets.iter().any(|net| net.contains(&journey.source)));
    if let Some(config) = of_range.next() {
        return Some((Severity::Error, format!("{} says ipMasq", config.path.display())));
    }
    if others.contains(&journey.entrance.index) {
        return Some((Severity::Error, format!("others on {} are masqueraded", journey.entrance.name)));
    }
    // Unless it was told not to (--ip-masq=false), which is not known; a network of a user's may be made without.
    let has_docker = ground.snapshot.runtimes.iter().any(|runtime| runtime.kind == RuntimeKind::Docker);
    (has_docker && journey.entrance.name == "docker0" && journey.source.is_ipv4())
        .then(|| (Severity::Warning, "Docker masquerades docker0, unless told not to".to_owned()))
}

fn masquerade_missing(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    let Some(ruleset) = deciding(ground, findings) else { return };
    let journeys = journeys(ground, findings);
    let is_masqueraded = |journey: &Journey<'_, '_>| {
        masquerades(ruleset, journey.source, journey.destination, &journey.exit.name)
    };
    let (mut done, mut bare) = (Vec::new(), Vec::new());
    for journey in journeys.iter().filter(|journey| is_private(journey.source) && journey.wire.inside.up) {
        match is_masqueraded(journey) {
            Masqueraded::Yes(_) => done.push(journey.entrance.index),
            Masqueraded::No => bare.push(journey),
            Masqueraded::Perhaps(_) => {
                findings.blind("whether pods are masqueraded depends on what is not known")
            }
        }
    }
    let mut by_why: BTreeMap<(String, (Severity, String)), Vec<&str>> = BTreeMap::new();
    for journey in bare {
        if let Some(why) = wants_masquerade(ground, journey, &done) {
            by_why.entry((journey.exit.name.clone(), why)).or_default().push(&journey.pod.label);
        }
    }
    for ((exit, (severity, why)), pods) in by_why {
        findings.add_as(
            severity,
            exit,
            format!(
                "{} leave by it with private addresses as they are, and {why}: {}",
                count(pods.len(), "pod's packets", "pods' packets"),
                listed(&pods)
            ),
            "restart the pods, or the runtime's daemon: that makes the rules anew",
        );
    }
}

fn masquerade_twice(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    let Some(ruleset) = deciding(ground, findings) else { return };
    let mut twice: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    let journeys = journeys(ground, findings);
    for journey in &journeys {
        let packet = Packet { input: None, input_port: None, ..journey.there() };
        let found = translations(ruleset, Hook::Postrouting, &packet);
        let certain: Vec<&RuleRef> =
            found.iter().filter(|(_, certain)| *certain).map(|(rule, _)| rule).collect();
        if let [first, .., last] = certain.as_slice() {
            twice.entry((named(first), named(last))).or_default().push(&journey.pod.label);
        }
    }
    for ((first, last), pods) in twice {
        findings.add(
            first,
            format!(
                "translates {}, and so would {last}: {}",
                count(pods.len(), "pod", "pods"),
                listed(&pods)
            ),
            "find out which program makes which, and switch one off",
        );
    }
}

fn two_iptables(ground: &Ground<'_>, findings: &mut Findings) {
    let Some(ruleset) = ruleset(ground, findings) else { return };
    // Where no pod is, it is nobody's business here.
    let makers = makers(ruleset);
    let rules = |maker: Maker| makers.iter().find(|(own, _)| *own == maker).map(|(_, rules)| *rules);
    if let (Some(nft), Some(legacy), false) =
        (rules(Maker::IptablesNft), rules(Maker::IptablesLegacy), ground.pods.is_empty())
    {
        findings.add(
            "iptables",
            format!(
                "{} of iptables-nft and {} of iptables-legacy: a packet passes both, and neither tool shows the other's",
                count(nft, "rule", "rules"),
                legacy
            ),
            "update-alternatives --config iptables; then restart what made the others, and flush them once",
        );
    }
}

fn service_overlap(ground: &Ground<'_>, findings: &mut Findings) {
    let Some(ruleset) = ruleset(ground, findings) else { return };
    let bridges = ground.pod_bridges();
    for service in services(ruleset) {
        let net = bridges.iter().flat_map(|bridge| global(bridge)).find(|net| net.contains(&service));
        let Some(net) = net.filter(|net| net.addr() != service) else { continue };
        findings.add(
            service.to_string(),
            format!("a service has this address, and pods get theirs from {}", net.trunc()),
            "give services and pods ranges that do not overlap",
        );
    }
}

/// The addresses of services, of kube-proxy's mode for iptables and of that for nftables.
fn services(ruleset: &Ruleset) -> BTreeSet<IpAddr> {
    let whole = |value: &Value| match value {
        Value::Net(net) if net.prefix_len() == net.max_prefix_len() => Some(net.addr()),
        _ => None,
    };
    let mut all = BTreeSet::new();
    for table in &ruleset.tables {
        let chains = table.chains.iter().filter(|chain| chain.name == "KUBE-SERVICES");
        for found in chains.flat_map(|chain| &chain.rules).flat_map(|rule| &rule.matches) {
            if let Match::Is { field: Field::DestinationAddress, mask: None, not: false, values } = found {
                all.extend(values.iter().filter_map(whole));
            }
        }
        let maps = table.sets.iter().filter(|set| table.name == "kube-proxy" && set.name == "service-ips");
        all.extend(maps.flat_map(|map| &map.elements).filter_map(|element| whole(element.key.first()?)));
    }
    all
}

/// Whether kube-proxy's rules are there.
fn has_services(ruleset: &Ruleset) -> bool {
    let is_kube_proxy = |table: &model::filter::Table| {
        table.name == "kube-proxy"
            || table.chains.iter().any(|chain| chain.name == "KUBE-SERVICES" && !chain.rules.is_empty())
    };
    ruleset.tables.iter().any(is_kube_proxy)
}

fn bridge_netfilter(ground: &Ground<'_>, findings: &mut Findings) {
    ground.tell_unreadable(findings);
    let Some(ruleset) = deciding(ground, findings) else { return };
    if !has_services(ruleset) {
        return;
    }
    for bridge in ground.pod_bridges().into_iter().filter(|bridge| !shows_bridged(ground, bridge)) {
        findings.add(
            bridge.name.clone(),
            "has pods, kube-proxy works here, and what the bridge forwards is not shown to iptables: a service that is answered on the same bridge does not work",
            "modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1",
        );
    }
}

#[cfg(test)]
mod tests {
    use model::Snapshot;

    use super::super::testing::*;

    /// A table of the host's.
    fn table(s: &mut Snapshot, maker: &str, name: &str, chains: &str) {
        let text =
            format!(r#"{{"family": "ip", "name": "{name}", "maker": "{maker}", "chains": [{chains}]}}"#);
        let table = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        s.stack.ruleset.as_mut().unwrap().tables.push(table);
    }

    fn forward(policy: &str, rules: &str) -> String {
        format!(
            r#"{{"name": "FORWARD", "base": {{"hook": "forward", "priority": 0, "kind": "filter", "policy": "{policy}"}}, "rules": [{rules}]}}"#
        )
    }

    fn from(net: &str, field: &str, action: &str) -> String {
        format!(
            r#"{{"text": "{field} {net} {action}", "matches": [{{"is": {{"field": "{field}", "values": [{{"net": "{net}"}}]}}}}], "actions": ["{action}"]}}"#
        )
    }

    fn masquerade(net: &str) -> String {
        let rule = from(net, "source-address", "accept").replace(r#"["accept"]"#, r#"[{"masquerade": {}}]"#);
        format!(
            r#"{{"name": "POSTROUTING", "base": {{"hook": "postrouting", "priority": 100, "kind": "nat"}}, "rules": [{rule}]}}"#
        )
    }

    #[test]
    fn a_policy_that_drops_is_found_unless_a_rule_accepts() {
        let drops = |s: &mut Snapshot| table(s, "iptables-nft", "filter", &forward("drop", ""));
        only(&["forward-drop"], drops);
        let text = diagnosis("forward-drop", drops).findings[0].found.clone();
        assert!(
            text.starts_with("`policy drop` stops what goes from ") && text.contains(" to eth0 of "),
            "{text}"
        );
        let accepts = |s: &mut Snapshot| {
            let rules = [
                from("10.244.0.0/15", "source-address", "accept"),
                from("10.244.0.0/15", "destination-address", "accept"),
            ];
            table(s, "iptables-nft", "filter", &forward("drop", &rules.join(",")));
        };
        only(&[], accepts);
        let one_way = |s: &mut Snapshot| {
            let rule = from("10.244.0.0/15", "source-address", "accept");
            table(s, "iptables-nft", "filter", &forward("drop", &rule));
        };
        let text = diagnosis("forward-drop", one_way).findings[0].found.clone();
        assert!(text.contains("answers from eth0 to "), "{text}");
        assert!(is_blind("forward-drop", |s| s.stack.ruleset = None));
        let gap = |s: &mut Snapshot| {
            let gap =
                model::Gap { source: model::Source::Rules, object: "nftables".into(), why: "denied".into() };
            s.stack.ruleset.as_mut().unwrap().gaps.push(gap);
        };
        assert!(is_blind("forward-drop", gap));
    }

    #[test]
    fn pods_on_one_bridge_are_cut_off_where_bridged_packets_are_shown() {
        let shown = |s: &mut Snapshot| {
            s.stack.sysctls.insert("net.bridge.bridge-nf-call-iptables".into(), "1".into());
            let rules = [
                from("1.1.1.1/32", "destination-address", "accept"),
                from("1.1.1.1/32", "source-address", "accept"),
            ];
            table(s, "iptables-legacy", "filter", &forward("drop", &rules.join(",")));
        };
        let text = diagnosis("forward-drop", shown).findings[0].found.clone();
        assert!(text.starts_with("`policy drop` stops what cni0 itself forwards of 1 pod: "), "{text}");
    }

    #[test]
    fn a_rule_that_drops_is_told_by_its_text() {
        let rule = |s: &mut Snapshot| {
            table(s, "nft", "filter", &forward("accept", &from("10.244.0.2/32", "source-address", "drop")));
        };
        only(&["rule-in-the-way"], rule);
        let text = diagnosis("rule-in-the-way", rule).findings[0].found.clone();
        assert!(
            text.starts_with(
                "`source-address 10.244.0.2/32 drop` stops what goes from cni0 to eth0 of 1 pod"
            ),
            "{text}"
        );
        assert!(is_blind("rule-in-the-way", |s| s.stack.ruleset = None));
    }

    #[test]
    fn masquerading_is_missed_where_somebody_wants_it_and_told_where_it_is_twice() {
        let all = |s: &mut Snapshot| table(s, "nft", "nat", &masquerade("10.244.0.0/15"));
        only(&[], all);
        // Red is, blue on the same bridge is not, and nobody says that green should be.
        let one = |s: &mut Snapshot| table(s, "nft", "nat", &masquerade("10.244.0.2/32"));
        only(&["masquerade-missing"], one);
        let config = |s: &mut Snapshot| {
            s.configs.push(model::NetworkConfig {
                path: "/etc/cni/net.d/10-pods.conflist".into(),
                masquerade: true,
                subnets: vec!["10.245.0.0/16".parse().unwrap()],
                ..Default::default()
            });
        };
        let text = diagnosis("masquerade-missing", config).findings[0].found.clone();
        assert!(text.contains("1 pod's packets") && text.contains("10-pods.conflist says ipMasq"), "{text}");
        let twice = |s: &mut Snapshot| {
            all(s);
            table(s, "iptables-nft", "nat", &masquerade("10.0.0.0/8"));
        };
        only(&["masquerade-twice"], twice);
        for check in ["masquerade-missing", "masquerade-twice"] {
            assert!(is_blind(check, |s| s.stack.ruleset = None));
        }
    }

    #[test]
    fn two_flavours_of_iptables_are_found() {
        let both = |s: &mut Snapshot| {
            let rule = from("10.0.0.0/8", "source-address", "accept");
            table(s, "iptables-nft", "filter", &forward("accept", &rule));
            table(s, "iptables-legacy", "filter", &forward("accept", &rule));
        };
        only(&["two-iptables"], both);
        assert!(is_blind("two-iptables", |s| s.stack.ruleset = None));
    }

    #[test]
    fn services_need_bridged_packets() {
        let services = |s: &mut Snapshot| {
            s.stack.sysctls.insert("net.bridge.bridge-nf-call-iptables".into(), "0".into());
            table(s, "nft", "kube-proxy", r#"{"name": "services"}"#);
        };
        only(&["bridge-netfilter"], services);
        let on = |s: &mut Snapshot| {
            services(s);
            s.stack.sysctls.insert("net.bridge.bridge-nf-call-iptables".into(), "1".into());
        };
        assert_eq!(found("bridge-netfilter", on), [""; 0]);
        assert!(is_blind("bridge-netfilter", |s| s.stack.ruleset = None));
    }
}
