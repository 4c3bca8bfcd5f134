//! Elements of podplumb's nftables sets and maps: those of many owners go in one transaction, since the kernel waits for grace periods
//! after each (17 ms).

use std::cell::RefCell;
use std::collections::HashSet;

use analyze::plan::{Operation, Step};

use crate::journal::Outcome;

/// What came of a removal.
pub(crate) struct Elements {
    /// Owners that had some.
    found: HashSet<String>,
    error: Option<String>,
}

impl Elements {
    /// Removes the elements of all owners that the steps name.
    pub(crate) fn remove(steps: &[&Step]) -> Self {
        let owners: HashSet<&str> = steps
            .iter()
            .filter_map(|step| match &step.operation {
                Operation::RemoveElements { owner, .. } => Some(owner.as_str()),
                _ => None,
            })
            .collect();
        let found = RefCell::new(HashSet::new());
        if owners.is_empty() {
            return Self { found: found.into_inner(), error: None };
        }
        let removed = netlink::Socket::netfilter().and_then(|mut socket| {
            nft::remove_where(&mut socket, |owner| {
                let is_meant = owners.contains(owner);
                if is_meant {
                    found.borrow_mut().insert(owner.to_owned());
                }
                is_meant
            })
        });
        Self { found: found.into_inner(), error: removed.err().map(|error| error.to_string()) }
    }

    /// What came of those of one owner.
    pub(crate) fn outcome(&self, owner: &str) -> Outcome {
        match &self.error {
            Some(why) => Outcome::Failed { why: why.clone() },
            None if self.found.contains(owner) => Outcome::Done,
            None => Outcome::AlreadyGone,
        }
    }
}
