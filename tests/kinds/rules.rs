//! iptables rules of dead pods, in both flavours, and elements of our own ruleset.

use podplumb_tests::{Plugins, require};
use serde_json::{Value, json};

use crate::node::{Node, Process, netns};

const NEEDS: [&str; 4] = ["ip", "iptables", "nsenter", "nft"];
const DEAD: &str = "0dead0000001";
const TWIN: &str = "0live0000001";

fn chain() -> Value {
    json!([
        Node::bridge(),
        { "type": "portmap", "capabilities": { "portMappings": true } },
        { "type": "firewall", "backend": "iptables" },
    ])
}

fn port(host: u16) -> Value {
    json!({ "portMappings": [
        { "hostPort": host, "containerPort": 80, "protocol": "tcp" },
        { "hostPort": host, "containerPort": 80, "protocol": "udp" },
    ] })
}

/// All rules, by table, without counters.
fn rules(node: &Node) -> Vec<String> {
    let tables = ["nat", "filter"].map(|table| (table, node.run(&["iptables", "-t", table, "-S"])));
    let lines =
        tables.iter().flat_map(|(table, text)| text.lines().map(move |line| format!("{table} {line}")));
    lines.collect()
}

/// Rules that are only in the first list.
fn only_in(these: &[String], others: &[String]) -> Vec<String> {
    these.iter().filter(|rule| !others.contains(rule)).cloned().collect()
}

/// A node with a live pod, and a second one of which only rules are left: its namespace was removed, and somebody tidied up
/// /var/lib/cni with `rm`, as many a recipe says. Returns the rules before it came, and with what it left.
fn with_a_dead_pods_rules(node: &Node) -> (Process, Vec<String>, Vec<String>) {
    node.add(TWIN, 1, &port(8081));
    let twin = node.inhabit(&netns(1));
    let before = rules(node);
    let address = node.add(DEAD, 2, &port(8082));
    let with_dead = rules(node);
    node.run(&["ip", "netns", "del", &netns(2)]);
    std::fs::remove_file(format!("/var/lib/cni/networks/pods/{address}")).unwrap();
    std::fs::remove_file(format!("/var/lib/cni/results/pods-{DEAD}-eth0")).unwrap();
    assert_eq!(rules(node), with_dead, "the rules outlive their pod");
    (twin, before, with_dead)
}

#[test]
fn a_dead_pods_chains_of_ipmasq_and_portmap_go_and_come_back() {
    if !require(&NEEDS) {
        return;
    }
    let node = Node::new(chain());
    let (_twin, before, with_dead) = with_a_dead_pods_rules(&node);
    let made = only_in(&with_dead, &before);
    assert!(made.iter().any(|rule| rule.contains("DNAT")) && made.iter().any(|r| r.contains("MASQUERADE")));

    let finding = node.finding(DEAD);
    assert_eq!((finding.verdict(), finding.because()), ("orphan", "namespace-gone"), "{finding:#?}");
    assert_eq!(finding.kinds(), ["rules"]);
    assert_eq!(node.finding(TWIN).because(), "task");

    let reclaimed = node.reclaim();
    let left = only_in(&rules(&node), &before);
    // Nothing says whose an address's rule of the firewall plugin is once lease and cache entry are gone.
    assert!(left.iter().all(|rule| rule.contains("CNI-FORWARD")), "{reclaimed}\n{left:#?}");
    assert_eq!(only_in(&before, &rules(&node)), Vec::<String>::new(), "of the twin's rules none is missing");
    let packets = node.run(&["iptables", "-t", "nat", "-S", "CNI-HOSTPORT-DNAT"]);
    assert!(packets.contains("8081") && !packets.contains("8082"), "{packets}");

    let (code, undone) = node.undo(&reclaimed);
    assert_eq!(code, 0, "{undone}");
    let sorted = |mut rules: Vec<String>| -> Vec<String> {
        rules.sort();
        rules
    };
    assert_eq!(sorted(rules(&node)), sorted(with_dead), "undo puts every rule back:\n{undone}");
    assert_eq!(node.finding(DEAD).verdict(), "orphan");
}

#[test]
fn rules_that_somebody_changed_between_the_looks_stay() {
    if !require(&NEEDS) {
        return;
    }
    let node = Node::new(chain());
    let (_twin, _, with_dead) = with_a_dead_pods_rules(&node);
    let leads = with_dead.iter().find(|rule| rule.contains("8082") && rule.contains("-A CNI-HOSTPORT-DNAT"));
    let own = leads.and_then(|rule| rule.split(" -j ").nth(1)).expect("a chain").to_owned();
    let steps = node.finding(DEAD).0["steps"].take();
    node.run(&["iptables", "-t", "nat", "-A", &own, "-d", "192.0.2.1", "-j", "RETURN"]);
    let changed = rules(&node);
    // The steps were made of what is not there any more: as if the change had come right after the second look.
    let steps: Vec<analyze::Step> = serde_json::from_value(steps).unwrap();
    let rules_of = |step: &analyze::Step| match &step.operation {
        analyze::Operation::RemoveRules { rules } if rules.chain.as_deref() == Some(&own) => {
            Some(rules.clone())
        }
        _ => None,
    };
    let group = steps.iter().find_map(rules_of).expect("the chain is in the plan");
    let outcome = reclaim::rules::remove(&group);
    assert!(matches!(&outcome, reclaim::Outcome::Changed { .. }), "{outcome:?}");
    assert_eq!(rules(&node), changed);
}

#[test]
fn the_firewalls_rules_go_with_the_lease_that_says_whose_their_address_is() {
    if !require(&NEEDS) {
        return;
    }
    let node = Node::new(chain());
    node.add(TWIN, 1, &port(8081));
    let _twin = node.inhabit(&netns(1));
    let before = rules(&node);
    node.add(DEAD, 2, &port(8082));
    node.run(&["ip", "netns", "del", &netns(2)]);
    std::fs::remove_file(format!("/var/lib/cni/results/pods-{DEAD}-eth0")).unwrap();
    let finding = node.finding(DEAD);
    assert_eq!(
        (finding.verdict(), finding.kinds()),
        ("orphan", vec!["lease".to_owned(), "rules".to_owned()])
    );
    let reclaimed = node.reclaim();
    assert_eq!(rules(&node), before, "{reclaimed}");
    let (_, undone) = node.undo(&reclaimed);
    assert_eq!(undone.matches("restored").count(), 4, "a lease, two chains, an address's rules:\n{undone}");
    assert_eq!(node.finding(TWIN).because(), "task");
}

#[test]
fn rules_of_the_legacy_iptables_are_seen_and_reported() {
    if !require(&NEEDS) || !require(&["xtables-legacy-multi"]) {
        return;
    }
    let node = Node::new(chain());
    node.run(&["mount", "--bind", "/usr/sbin/xtables-legacy-multi", "/usr/sbin/xtables-nft-multi"]);
    assert!(node.run(&["iptables", "--version"]).contains("legacy"));
    let (_twin, _, with_dead) = with_a_dead_pods_rules(&node);
    let finding = node.finding(DEAD);
    assert_eq!((finding.verdict(), finding.because()), ("unknown", "legacy-rules"), "{finding:#?}");
    assert!(finding.0.to_string().contains("iptables-legacy"));
    assert_eq!(node.finding(TWIN).because(), "task");
    assert!(node.finding(TWIN).kinds().contains(&"rules".to_owned()));
    node.reclaim_nothing();
    assert_eq!(rules(&node), with_dead);
}

#[test]
fn elements_of_our_ruleset_whose_owner_left_nothing_else_go() {
    if !require(&NEEDS) {
        return;
    }
    let node = Node::with(
        Plugins::Podplumb,
        json!([Node::bridge(), { "type": "portmap", "capabilities": { "portMappings": true } }]),
    );
    node.add(TWIN, 1, &port(8081));
    let _twin = node.inhabit(&netns(1));
    let ruleset = || node.run(&["nft", "list", "ruleset"]);
    let before = ruleset();
    let address = node.add(DEAD, 2, &port(8082));
    node.run(&["ip", "netns", "del", &netns(2)]);
    std::fs::remove_file(format!("/var/lib/cni/networks/pods/{address}")).unwrap();
    std::fs::remove_file(format!("/var/lib/cni/results/pods-{DEAD}-eth0")).unwrap();
    for entry in std::fs::read_dir("/run/podplumb/attachments").unwrap().flatten() {
        if entry.file_name().to_string_lossy().contains(DEAD) {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    assert!(ruleset().contains(DEAD));
    let finding = node.finding(DEAD);
    assert_eq!((finding.verdict(), finding.kinds()), ("orphan", vec!["element".to_owned()]), "{finding:#?}");
    node.reclaim();
    assert_eq!(ruleset(), before);
}
