//! Finding a namespace by its inode alone.

use model::NsInode;
use sys::NetNs;

/// The kernel gives ids in runs of so many to each CPU (`COOKIE_LOCAL_BATCH`, include/linux/cookie.h).
const RUN: u64 = 4096;
/// Each id costs 0.6 µs to ask for: 2 s at most.
const MOST_IDS: u64 = 3_000_000;

/// The namespace that has this inode now: every id that the kernel has given is tried with it, the latest first (nsfs file handles,
/// Linux 6.18). `None` when there is none, or the kernel cannot do that.
pub(crate) fn by_inode(inode: NsInode) -> Option<NetNs> {
    let latest = NetNs::create().ok()?.id()?.0;
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    // Other CPUs may be in later runs than ours.
    let end = latest.next_multiple_of(RUN) + RUN * cpus;
    let ids = (end.saturating_sub(MOST_IDS)..=end).rev();
    ids.map(model::NsId).find_map(|id| NetNs::by_id(id, inode).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_found_by_its_inode_among_all_that_ever_were() {
        let netns = NetNs::create().unwrap();
        if netns.id().is_none() {
            return eprintln!("skipped: this kernel has no NS_GET_ID");
        }
        assert_eq!(by_inode(netns.inode().unwrap()).and_then(|found| found.id()), netns.id());
        assert!(by_inode(NsInode(1)).is_none());
    }
}
