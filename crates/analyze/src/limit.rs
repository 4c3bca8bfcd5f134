//! How much one run of reclaim may remove.
//!
//! A mistake of ours, or of a runtime that suddenly lists nothing, shows first as a number: nearly everything seems to be
//! an orphan at once. Above the limit nothing at all is done, and a person looks.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::leaks::{Finding, Leaks, PieceKind};

/// So many objects of a kind may always go: on a small node everything but one pod may have crashed.
pub const USUAL: usize = 50;
/// On a large node, this part of what exists of a kind.
pub const PART: usize = 3;

/// A kind of which more would be removed than may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Excess {
    /// The kind.
    pub kind: PieceKind,
    /// How many would be removed.
    pub removed: usize,
    /// How many there are on the node.
    pub existing: usize,
    /// How many may be removed.
    pub limit: usize,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Excess { kind, removed, existing, limit } = self;
        write!(f, "{removed} of {existing} {} (limit {limit})", kind.many())
    }
}

/// The kinds of which `removed` has more than may go in one run. `max` is what the user said, for each kind; without it, it is
/// [`USUAL`] or a third of what exists, whichever is more.
pub fn excess<'a>(
    removed: impl Iterator<Item = &'a Finding>,
    all: &Leaks,
    max: Option<usize>,
) -> Vec<Excess> {
    let existing = count(all.findings.iter());
    let over = count(removed).into_iter().filter_map(|(kind, removed)| {
        let existing = existing.get(&kind).copied().unwrap_or(0);
        let limit = max.unwrap_or_else(|| USUAL.max(existing / PART));
        (removed > limit).then_some(Excess { kind, removed, existing, limit })
    });
    over.collect()
}

fn count<'a>(findings: impl Iterator<Item = &'a Finding>) -> BTreeMap<PieceKind, usize> {
    let mut counts = BTreeMap::new();
    for piece in findings.flat_map(|finding| &finding.pieces) {
        *counts.entry(piece.kind).or_default() += 1;
    }
    counts
}
