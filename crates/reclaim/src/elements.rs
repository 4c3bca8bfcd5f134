//! Elements of podplumb's nftables sets and maps: those of many owners go in one transaction, since the kernel waits for grace periods
//! after each (17 ms).

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use analyze::plan::{Operation, Step};

use crate::journal::Outcome;

/// How many elements go in one transaction: it is one message to the kernel, and a socket takes 208 KiB (800 elements were too many).
const MOST_ELEMENTS: usize = 200;

/// What came of removals, by owner.
#[derive(Default)]
pub(crate) struct Elements(HashMap<String, Outcome>);

impl Elements {
    /// Removes the elements of all owners that the steps name.
    pub(crate) fn remove(steps: &[&Step]) -> Self {
        let mut done = Self::default();
        let (mut owners, mut count) = (HashSet::new(), 0);
        for step in steps {
            let Operation::RemoveElements { owner, elements } = &step.operation else { continue };
            if count + elements.len() > MOST_ELEMENTS {
                done.remove_of(&std::mem::take(&mut owners));
                count = 0;
            }
            owners.insert(owner.as_str());
            count += elements.len();
        }
        done.remove_of(&owners);
        done
    }

    fn remove_of(&mut self, owners: &HashSet<&str>) {
        if owners.is_empty() {
            return;
        }
        let found: RefCell<HashSet<String>> = RefCell::default();
        let removed = netlink::Socket::netfilter().and_then(|mut socket| {
            nft::remove_where(&mut socket, |owner| {
                let is_meant = owners.contains(owner);
                if is_meant {
                    found.borrow_mut().insert(owner.to_owned());
                }
                is_meant
            })
        });
        let found = found.into_inner();
        self.0.extend(owners.iter().map(|owner| {
            let outcome = match &removed {
                Err(error) => Outcome::Failed { why: error.to_string() },
                Ok(_) if found.contains(*owner) => Outcome::Done,
                Ok(_) => Outcome::AlreadyGone,
            };
            ((*owner).to_owned(), outcome)
        }));
    }

    /// What came of those of one owner.
    pub(crate) fn outcome(&self, owner: &str) -> Outcome {
        self.0.get(owner).cloned().unwrap_or(Outcome::AlreadyGone)
    }
}
