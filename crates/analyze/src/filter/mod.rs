//! What the packet filter does with a packet.
//!
//! [`pass`] leads a packet through everything that is called at one hook, whoever wrote it: a packet that one table accepts may be
//! dropped by the next. Rules that are not understood, and facts that nobody gave, fork its way; only what all ways have in common is
//! said for certain. So `Passed` and `Dropped` hold whatever is not known, and the rest is [`Outcome::Perhaps`].

mod field;
mod packet;
mod translate;
mod walk;

use std::net::IpAddr;

use model::Ruleset;
use model::filter::{Hook, Maker, Policy};

pub use packet::{Alternative, Change, Layer, Outcome, Packet, Passage, RuleRef, State};

/// Leads a packet through all chains of a hook, in order of their priorities.
///
/// What it finds out about the packet (`packet`, `changes`) is for the next hook. After a change of the destination, the caller says
/// anew by which interface it leaves and what kind of address that is.
pub fn pass(ruleset: &Ruleset, hook: Hook, packet: &Packet) -> Passage {
    walk::Walk::new(ruleset, hook).pass(packet)
}

/// The rules that would give a packet of a new connection another source, or at [`Hook::Prerouting`] and [`Hook::Output`] another
/// destination, if none before them did, in the order in which they are asked: more than one is one too many. With whether that is certain.
pub fn translations(ruleset: &Ruleset, hook: Hook, packet: &Packet) -> Vec<(RuleRef, bool)> {
    walk::Walk::new(ruleset, hook).translations(packet)
}

/// Whether connections that leave by an interface get this node's address there; by which rule, or why that is not certain.
pub fn masquerades(ruleset: &Ruleset, source: IpAddr, destination: IpAddr, output: &str) -> Masqueraded {
    let packet =
        Packet { output: Some(output.to_owned()), ..Packet::connection(6, source, destination, 443) };
    let found = translations(ruleset, Hook::Postrouting, &packet);
    match found.iter().find(|(_, certain)| *certain) {
        Some((by, _)) => Masqueraded::Yes(by.clone()),
        None => match found.into_iter().next() {
            Some((by, _)) => Masqueraded::Perhaps(Some(by)),
            None if !ruleset.gaps.is_empty() => Masqueraded::Perhaps(None),
            None => Masqueraded::No,
        },
    }
}

/// Whether a source becomes this node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Masqueraded {
    /// By this rule.
    Yes(RuleRef),
    /// No rule does.
    No,
    /// By this rule, if what is not known is so; `None` where not all rules could be read.
    Perhaps(Option<RuleRef>),
}

/// Who has tables that do something (a rule, or a policy to drop), and how many rules.
pub fn makers(ruleset: &Ruleset) -> Vec<(Maker, usize)> {
    let each = [Maker::Nft, Maker::IptablesNft, Maker::IptablesLegacy].into_iter().map(|maker| {
        let chains = ruleset.tables.iter().filter(|t| t.maker == maker && !t.dormant).flat_map(|t| &t.chains);
        let drops = |base: &model::filter::Base| base.policy == Policy::Drop;
        let (mut rules, mut is_used) = (0, false);
        for chain in chains {
            rules += chain.rules.len();
            is_used |= !chain.rules.is_empty() || chain.base.as_ref().is_some_and(drops);
        }
        (maker, rules, is_used)
    });
    each.filter(|(.., is_used)| *is_used).map(|(maker, rules, _)| (maker, rules)).collect()
}
