//! Namespaces, kept open while the node is looked at.
//!
//! An inode is given to another namespace as soon as its own is gone; and then what was read before and what is read after would
//! seem to be about one. So the first that is seen of a namespace opens it, and from then on its inode means it alone.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use model::NsInode;
use sys::NetNs;

/// Every namespace that was seen, open.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    by_inode: HashMap<NsInode, NetNs>,
}

impl Opened {
    /// Keeps this one, and says which it is.
    pub(crate) fn keep(&mut self, netns: NetNs) -> io::Result<NsInode> {
        let inode = netns.inode()?;
        self.by_inode.entry(inode).or_insert(netns);
        Ok(inode)
    }

    /// The namespace behind `path`, which was said to have this inode a moment ago.
    pub(crate) fn at(&mut self, inode: NsInode, path: &Path) -> io::Result<NsInode> {
        if self.by_inode.contains_key(&inode) {
            return Ok(inode);
        }
        self.keep(NetNs::open(path)?)
    }

    /// The namespace that has the inode.
    pub(crate) fn get(&self, inode: NsInode) -> Option<&NetNs> {
        self.by_inode.get(&inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_not_given_away_while_its_namespace_is_kept() {
        let first = NetNs::create().unwrap();
        let mut opened = Opened::default();
        let inode = opened.keep(first).unwrap();
        let later: Vec<NetNs> = (0..8).map(|_| NetNs::create().unwrap()).collect();
        assert!(later.iter().all(|netns| netns.inode().unwrap() != inode));
        let path = "/proc/thread-self/ns/net";
        assert_eq!(opened.at(inode, Path::new(path)).unwrap(), inode, "known: not opened again");
        let here = NetNs::current().unwrap().inode().unwrap();
        let stale = NsInode(1);
        assert_eq!(opened.at(stale, Path::new(path)).unwrap(), here, "what is there now counts");
    }
}
