//! What is not in the topology, or not as it was.

use analyze::render::printable;
use model::{RuleElement, Snapshot};

/// A kind of thing that a topology cannot say: the words for one, and for several.
pub(super) type Kind = (&'static str, &'static str);

pub(super) const UNUSED: Kind = ("unused interface left out", "unused interfaces left out");
pub(super) const STAND_IN: Kind =
    ("interface became a veth to a host of its own", "interfaces became veths to hosts of their own");
pub(super) const RENAMED: Kind = ("interface got another name", "interfaces got other names");
pub(super) const NO_KIND: Kind = (
    "interface of a kind that labs do not have left out",
    "interfaces of kinds that labs do not have left out",
);
pub(super) const GUESSED_MODE: Kind =
    ("macvlan whose mode is not known: bridge", "macvlans whose mode is not known: bridge");
pub(super) const OTHER_MODE: Kind =
    ("macvlan of a mode that labs do not have: bridge", "macvlans of modes that labs do not have: bridge");
pub(super) const UNKNOWN_BRIDGE: Kind = (
    "bridge of which the snapshot does not say whether it has a spanning tree or VLANs: neither",
    "bridges of which the snapshot does not say whether they have a spanning tree or VLANs: neither",
);
pub(super) const UNKNOWN_VLANS: Kind = (
    "bridge of whose ports the snapshot does not say in which VLANs they are: all in one",
    "bridges of whose ports the snapshot does not say in which VLANs they are: all in one",
);
pub(super) const ALONE: Kind = (
    "namespace that is not connected to the node left out",
    "namespaces that are not connected to the node left out",
);
pub(super) const ADDRESS_TWICE: Kind =
    ("address left out that somebody else has too", "addresses left out that somebody else has too");
pub(super) const SMALLER_MTU: Kind = ("MTU made smaller, to fit", "MTUs made smaller, to fit");
pub(super) const NO_ROUTE: Kind = ("route left out", "routes left out");
pub(super) const NO_PORT: Kind = ("port mapping left out", "port mappings left out");
pub(super) const OTHER_NODE: Kind =
    ("other node of the overlay is not in it", "other nodes of the overlay are not in it");
const TABLE: Kind = ("table of nftables left out", "tables of nftables left out");
const FILTER: Kind = ("filter rule left out", "filter rules left out");

/// Things of one kind are counted, and the first of them named.
#[derive(Debug, Default)]
pub(super) struct Notes {
    things: Vec<(Kind, Vec<String>)>,
    gaps: usize,
}

/// So many are named.
const NAMED: usize = 4;

impl Notes {
    /// One more of a kind.
    pub(super) fn add(&mut self, kind: Kind, name: impl Into<String>) {
        match self.things.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, names)) => names.push(name.into()),
            None => self.things.push((kind, vec![name.into()])),
        }
    }

    /// What the snapshot has, and an import does not look at.
    pub(super) fn about(&mut self, snapshot: &Snapshot) {
        for table in snapshot.nft_tables.iter().filter(|table| !table.ends_with(" podplumb")) {
            self.add(TABLE, table);
        }
        let rules = snapshot.records.iter().flat_map(|record| &record.rules);
        for rule in rules {
            use RuleElement::{Admit, Isolate, Restrict, Source};
            if matches!(rule, Admit { .. } | Isolate { .. } | Restrict { .. } | Source { .. }) {
                self.add(FILTER, rule.to_string());
            }
        }
        self.gaps = snapshot.coverage.len();
    }

    /// A sentence for each kind.
    pub(super) fn sentences(self) -> Vec<String> {
        let seen = (self.gaps > 0).then(|| {
            format!("{} thing{} could not be seen", self.gaps, if self.gaps == 1 { "" } else { "s" })
        });
        let counted = self.things.into_iter().map(|((one, several), names)| {
            let words = if names.len() == 1 { one } else { several };
            let more = if names.len() > NAMED { ", …" } else { "" };
            let named = names.iter().take(NAMED).map(|name| printable(name)).collect::<Vec<_>>().join(", ");
            format!("{} {words} ({named}{more})", names.len())
        });
        counted.chain(seen).collect()
    }
}
