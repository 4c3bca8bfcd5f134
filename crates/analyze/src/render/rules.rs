//! The packet filter, whoever wrote it, on one page.

use model::filter::{Base, Chain, Policy, Ruleset, Table};

use super::text::printable;
use super::{count, coverage};

/// All tables of a namespace: their chains with their rules, and how much is in their sets.
pub fn rules(ruleset: &Ruleset) -> String {
    let mut out = String::new();
    for table in &ruleset.tables {
        if !out.is_empty() {
            out.push('\n');
        }
        write_table(&mut out, table);
    }
    if out.is_empty() {
        out.push_str("no tables\n");
    }
    out.push_str(&coverage(&ruleset.gaps));
    out
}

fn write_table(out: &mut String, table: &Table) {
    let dormant = if table.dormant { ", switched off" } else { "" };
    let name = printable(&table.name);
    out.push_str(&format!("table {} {name}  ({}{dormant})\n", table.family.as_str(), table.maker));
    for chain in &table.chains {
        write_chain(out, chain);
    }
    for set in table.sets.iter().filter(|set| !set.name.starts_with("__")) {
        let cut = set.cut.as_ref().map(|why| format!(", not all: {}", printable(why))).unwrap_or_default();
        let elements = count(set.elements.len(), "element");
        out.push_str(&format!("  set {}: {elements}{cut}\n", printable(&set.name)));
    }
}

fn write_chain(out: &mut String, chain: &Chain) {
    let base = chain.base.as_ref().map(told).unwrap_or_default();
    out.push_str(&format!("  chain {}{base}\n", printable(&chain.name)));
    for rule in &chain.rules {
        let used = rule.counter.map(|counter| format!("  # {}", count(counter.packets as usize, "packet")));
        out.push_str(&format!("    {}{}\n", printable(&rule.text), used.unwrap_or_default()));
    }
}

fn told(base: &Base) -> String {
    let policy = match base.policy {
        Policy::Accept => "accept",
        Policy::Drop => "drop",
    };
    let devices = base.devices.iter().map(|device| format!(" {}", printable(device))).collect::<String>();
    format!("  hook {}{devices}, priority {}, policy {policy}", base.hook.as_str(), base.priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_all_makers_look_alike() {
        let ruleset: Ruleset = serde_json::from_value(serde_json::json!({"tables": [
            {"family": "ip", "name": "filter", "maker": "iptables-nft", "chains": [
                {"name": "FORWARD", "base": {"hook": "forward", "priority": 0, "kind": "filter", "policy": "drop"},
                 "rules": [{"text": "-s 10.0.0.0/8 -j ACCEPT", "counter": {"packets": 1, "bytes": 60}}]},
                {"name": "CNI-ADMIN"}]},
            {"family": "inet", "name": "x\u{1b}[2J", "maker": "nft", "dormant": true,
             "sets": [{"name": "pods", "elements": [{"key": [{"number": 1}]}], "cut": "too many"}, {"name": "__set0"}]},
        ]}))
        .unwrap();
        let wanted = "\
table ip filter  (iptables-nft)
  chain FORWARD  hook forward, priority 0, policy drop
    -s 10.0.0.0/8 -j ACCEPT  # 1 packet
  chain CNI-ADMIN

table inet x\u{fffd}[2J  (nft, switched off)
  set pods: 1 element, not all: too many
";
        assert_eq!(rules(&ruleset), wanted);
        assert_eq!(rules(&Ruleset::default()), "no tables\n");
    }
}
