//! What fuzz/ calls: the reading of bytes as of a kernel's answer, and what is made of conditions, without a kernel.

use crate::language::Table;
use crate::{Conditions, element, foreign, language, ruleset, traces};

/// Reads the payload of a message as a list of elements of each set, and as a rule of others; says how much was understood.
pub fn payload(bytes: &[u8]) -> usize {
    let mut understood = 0;
    for found in element::found(bytes) {
        understood += 1;
        assert!(!found.owner.contains('\0'), "an owner's name goes on after its end");
        for table in ruleset::tables() {
            for set in &table.sets {
                let shown = element::describe(&table, set, &found);
                assert_eq!(shown.owner, found.owner);
                let most = set.key.len() + set.data.len();
                assert!(shown.addresses.len() <= most, "more addresses than fields: {shown:?}");
            }
        }
    }
    if let Some((_, Some(rule))) = language::read_rule(bytes) {
        understood += 1;
        assert!(!rule.text().contains('\0'));
    }
    if let Some(rule) = foreign::parse(bytes, "FORWARD") {
        understood += 1;
        assert!(!rule.comment.contains('\0'));
    }
    for v6 in [false, true] {
        if let Some(rule) = traces::parse(bytes, v6) {
            understood += 1;
            assert!(!rule.comment.contains('\0'));
            assert!(rule.content.len() <= 2 * bytes.len() + 1, "more content than bytes");
        }
    }
    understood
}

/// What a ruleset with these conditions is, for the kernel and for people. A message's attributes have 16 bits for their length.
pub fn ruleset(conditions: &Conditions) -> String {
    let table: Table = ruleset::conditional(conditions);
    for message in table.messages() {
        let bytes = message.as_bytes();
        assert!(
            bytes.len() <= usize::from(u16::MAX),
            "a rule of {} bytes does not fit a message",
            bytes.len()
        );
    }
    for chain in &table.chains {
        for rule in &chain.rules {
            let message = rule.message(&table, &chain.name);
            let read = language::read_rule(message.as_bytes().get(16..).unwrap_or_default());
            let read = read.and_then(|(_, rule)| rule).map(|rule| rule.text());
            assert_eq!(read.as_deref(), Some(rule.text().as_str()), "a rule does not read back");
        }
    }
    table.text(|_| Vec::new())
}

/// Listed messages as a ruleset, as `rules` in fuzz/ has them.
pub fn rules(bytes: &[u8]) -> model::Ruleset {
    crate::filter::fuzz(bytes)
}

/// The rules of the calling thread's namespace, for [`rules`].
pub fn record() -> netlink::Result<Vec<u8>> {
    crate::filter::record()
}
