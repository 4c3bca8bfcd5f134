//! Rules, sets and tables as a kernel lists them, and what is said of packets that pass them. Each message is after a letter and its
//! length; `nft::fuzz::record` writes such files of the namespace that it is called in.
#![no_main]

use analyze::filter::{self, Packet};
use libfuzzer_sys::fuzz_target;
use model::Ruleset;
use model::filter::Hook;

const HOOKS: [Hook; 7] = [
    Hook::Ingress,
    Hook::Prerouting,
    Hook::Input,
    Hook::Forward,
    Hook::Output,
    Hook::Postrouting,
    Hook::Egress,
];

fuzz_target!(|data: &[u8]| {
    let rules = nft::fuzz::rules(data);
    for rule in rules.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules) {
        assert!(!rule.text.contains('\0') && !rule.comment.contains('\0'));
    }
    let text = serde_json::to_string(&rules).expect("a ruleset has string keys only");
    let back: Ruleset = serde_json::from_str(&text).expect("what was written reads back");
    assert_eq!(back, rules);
    for (source, destination) in [("10.244.0.2", "10.96.0.10"), ("fd00::2", "fd00::3")] {
        let [source, destination] = [source, destination].map(|ip| ip.parse().expect("an address"));
        let packet = Packet::connection(6, source, destination, 53);
        for hook in HOOKS {
            let passage = filter::pass(&rules, hook, &packet);
            // Without a rule or a policy nothing is dropped.
            assert!(!rules.tables.is_empty() || passage.outcome == filter::Outcome::Passed);
            let _ = filter::translations(&rules, hook, &packet);
        }
    }
});
