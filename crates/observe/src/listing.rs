//! What the kernel's own list of namespaces has, and nothing else led to.

use std::collections::{BTreeMap, HashSet};

use model::{Enumeration, Gap, Namespace, NsInode, Source};
use sys::NetNs;

use crate::namespaces::is_unexplained;
use crate::opened::Opened;
use crate::walk::{Listed, walk};

/// The list, compared with what was found otherwise.
#[derive(Debug)]
pub(crate) struct Listing {
    /// How many are on it.
    listed: Result<usize, String>,
    /// Those that only it has, opened by their ids.
    opened: HashSet<Listed>,
    /// Those that could not be opened: gone by now, or on a kernel that does not do that (before 6.18). Since Linux 6.19 it neither
    /// does where a namespace has no task, descriptor or mount, but a socket (`ns_get_unless_inactive()`, kernel/nscommon.c).
    closed: HashSet<Listed>,
}

impl Listing {
    /// Adds namespaces that nothing else led to.
    pub(crate) fn add(
        listed: Result<Vec<Listed>, String>,
        merged: &mut BTreeMap<NsInode, Namespace>,
        opened: &mut Opened,
    ) -> Self {
        let mut listing = Self {
            listed: listed.as_ref().map(Vec::len).map_err(String::clone),
            opened: HashSet::new(),
            closed: HashSet::new(),
        };
        for (inode, id) in listed.unwrap_or_default() {
            if merged.contains_key(&inode) {
                continue;
            }
            match NetNs::by_id(id, inode).and_then(|netns| opened.keep(netns)) {
                Ok(inode) => {
                    merged.insert(inode, Namespace { inode: Some(inode), ..Namespace::default() });
                    listing.opened.insert((inode, id));
                }
                Err(_) => {
                    listing.closed.insert((inode, id));
                }
            }
        }
        listing
    }

    /// Looks at the list again, when we hold nothing any more, and takes away what was only passing: a namespace of which the last holder
    /// went away before he was looked at. Returns how many live that could not be opened.
    pub(crate) fn compare(&self, namespaces: &mut Vec<Namespace>) -> usize {
        let listed = |namespace: &Namespace| {
            namespace.inode.zip(namespace.ns_id).filter(|listed| self.opened.contains(listed))
        };
        let passed: HashSet<Listed> = namespaces
            .iter()
            .filter(|namespace| is_unexplained(namespace))
            .filter_map(listed)
            .filter(|(inode, id)| NetNs::by_id(*id, *inode).is_err())
            .collect();
        if passed.is_empty() && self.closed.is_empty() {
            return 0;
        }
        // Where it cannot be read any more, nothing went away.
        let Ok(again) = walk() else { return self.closed.len() };
        let again: HashSet<Listed> = again.into_iter().collect();
        namespaces.retain(|namespace| {
            listed(namespace).is_none_or(|listed| !passed.contains(&listed) || again.contains(&listed))
        });
        self.closed.intersection(&again).count()
    }

    /// What to say of it, when so many could not be opened, and so many were found by a number that the host gives them, which does not
    /// tell which of those they are.
    pub(crate) fn tell(
        self,
        closed: usize,
        numbered: usize,
        namespaces: &[Namespace],
        gaps: &mut Vec<Gap>,
    ) -> Enumeration {
        let listed = match self.listed {
            Ok(listed) => listed as u64,
            Err(why) => return Enumeration::NotWalked { why },
        };
        if let hidden @ 1.. = closed.saturating_sub(numbered) {
            let why = format!("{hidden} of them live that nothing seen holds, and could not be opened");
            let object = "the kernel's list of network namespaces".into();
            gaps.push(Gap { source: Source::Enumeration, object, why });
        }
        let inodes: HashSet<NsInode> = self.opened.iter().map(|(inode, _)| *inode).collect();
        let read = namespaces.iter().filter(|namespace| namespace.inode.is_some_and(|i| inodes.contains(&i)));
        Enumeration::Walked { listed, only_listed: (read.count() + closed) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn bare(netns: &NetNs) -> Namespace {
        Namespace { inode: netns.inode().ok(), ns_id: netns.id(), ..Namespace::default() }
    }

    #[test]
    fn what_was_only_passing_is_taken_away_and_what_cannot_be_opened_is_a_gap() {
        if !sys::is_root() || NetNs::current().unwrap().id().is_none() {
            return eprintln!("skipped: needs root, and a kernel that opens namespaces by their ids");
        }
        let (stays, passes) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        let listed = |netns: &NetNs| (netns.inode().unwrap(), netns.id().unwrap());
        let all = vec![listed(&stays), listed(&passes)];
        let (mut merged, mut opened) = (BTreeMap::new(), Opened::default());
        let listing = Listing::add(Ok(all.clone()), &mut merged, &mut opened);
        assert_eq!(merged.len(), 2);
        let mut namespaces = vec![bare(&stays), bare(&passes)];
        drop((opened, passes));
        let start = Instant::now();
        while NetNs::by_id(all[1].1, all[1].0).is_ok() && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(listing.compare(&mut namespaces), 0);
        assert_eq!(namespaces, [bare(&stays)]);
        let mut gaps = Vec::new();
        let told = listing.tell(0, 0, &namespaces, &mut gaps);
        assert_eq!(told, Enumeration::Walked { listed: 2, only_listed: 1 });
        assert_eq!(gaps, []);

        // As on a kernel without handles.
        let closed = HashSet::from([all[0], all[1]]);
        let listing = Listing { listed: Ok(2), opened: HashSet::new(), closed };
        assert_eq!(listing.compare(&mut namespaces), 1, "one is gone, one lives");
        listing.tell(1, 1, &namespaces, &mut gaps);
        assert_eq!(gaps, [], "that is the one which a number leads to");
        let closed = HashSet::from([all[0]]);
        Listing { listed: Ok(2), opened: HashSet::new(), closed }.tell(1, 0, &namespaces, &mut gaps);
        assert!(gaps.len() == 1 && gaps[0].why.starts_with("1 of them live"), "{gaps:?}");
    }

    #[test]
    fn a_list_that_could_not_be_read_is_no_gap() {
        let mut gaps = Vec::new();
        let listing = Listing::add(Err("no".into()), &mut BTreeMap::new(), &mut Opened::default());
        assert_eq!(listing.compare(&mut Vec::new()), 0);
        let told = listing.tell(0, 3, &[], &mut gaps);
        assert_eq!((told, gaps), (Enumeration::NotWalked { why: "no".into() }, Vec::new()));
    }
}
