//! Taking over leases that an earlier boot left, when nothing else is free.
//!
//! A restart ends all containers without a DEL. Their leases stay, and would keep new containers from getting an address until
//! somebody collects them. What is certainly such a lease may be given to somebody else: one at a time, under the lock, noted
//! before it is done.

use std::io;
use std::net::IpAddr;

use model::{ContainerId, Timestamp};

use crate::range::{Range, RangeSet};
use crate::store::{LeaseFile, Store, content};

/// What is known about earlier boots.
pub trait Past {
    /// A moment before which nothing of this boot was written; `None` when it is not known.
    fn earliest(&self) -> Option<Timestamp>;
    /// Whether nothing of the container can be left but its leases. A doubt is a no.
    fn is_gone(&mut self, container: &ContainerId) -> bool;
}

/// What allows takeovers, and where they are noted.
pub trait Takeover {
    /// What is known about earlier boots.
    fn past(&mut self) -> &mut dyn Past;
    /// Notes on disk that this lease is about to be replaced.
    fn begin(&mut self, store: &Store, lease: &LeaseFile) -> io::Result<()>;
    /// Notes what came of it. It is done by now, so nobody fails for that.
    fn end(&mut self, error: Option<String>);
}

/// The first lease of the set, in the order in which addresses are given, that may be taken over.
pub fn available<'a>(
    store: &Store,
    set: &'a RangeSet,
    last: Option<IpAddr>,
    past: &mut dyn Past,
) -> Option<(LeaseFile, &'a Range)> {
    let earliest = past.earliest()?;
    set.candidates(last).find_map(|(address, range)| {
        // What cannot be read is not known to be old.
        let lease = store.lease(address).ok()??;
        let is_old = lease.changed < earliest && owner(&lease).is_some_and(|owner| past.is_gone(&owner));
        is_old.then_some((lease, range))
    })
}

/// The owner of a lease that is exactly as plugins write it. What people or older plugins left may mean anything: an address that is
/// reserved for good, for one.
fn owner(lease: &LeaseFile) -> Option<ContainerId> {
    let (container, ifname) = lease.owner()?;
    (lease.content == content(&container, &ifname?)).then_some(container)
}
