//! Rules that the reference plugins made in iptables: removed as a whole, and put back from the journal.

use model::PluginRules;
use nft::traces::{self, Removed, Restored};

use crate::journal::Outcome;
use crate::undo::Reversal;

/// Removes a container's chain with what leads there, or an address's rules, if they are exactly those of the plan.
pub fn remove(rules: &PluginRules) -> Outcome {
    match traces::remove(rules) {
        Ok(Removed::Done) => Outcome::Done,
        Ok(Removed::Gone) => Outcome::AlreadyGone,
        Ok(Removed::Changed) => Outcome::Changed { why: format!("{rules} has other rules by now") },
        Err(error) => Outcome::Failed { why: error.to_string() },
    }
}

/// Makes them again, each at the end of its chain.
pub fn restore(rules: &PluginRules) -> Reversal {
    let impossible = |why: String| Reversal::Impossible { why };
    match traces::restore(rules) {
        Ok(Restored::Done) => Reversal::Restored,
        Ok(Restored::Same) => Reversal::NothingToDo { why: "the same rules are there".to_owned() },
        Ok(Restored::Taken) => impossible("there are other ones by now".to_owned()),
        Err(error) => impossible(error.to_string()),
    }
}
