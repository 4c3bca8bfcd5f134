//! Giving an attachment one address of each range set.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{ContainerId, IfName};

use crate::range::{Range, RangeSet, RangeSets};
use crate::store::{Store, StoreError};
use crate::takeover::{self, Past, Takeover};

/// An address that was leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    /// Address with the subnet's prefix length.
    pub address: IpNet,
    /// The range's gateway.
    pub gateway: IpAddr,
}

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub enum AllocateError {
    /// The lease directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Every address of a range set is leased.
    #[error("no address is left in range set {set} ({capacity} addresses)")]
    Exhausted {
        /// Which set, from 0.
        set: usize,
        /// How many addresses it has.
        capacity: u128,
    },
    /// A requested address is leased to someone else.
    #[error("requested address {0} is leased to another attachment")]
    Taken(IpAddr),
    /// A requested address is the gateway's.
    #[error("requested address {0} is the gateway's")]
    Gateway(IpAddr),
    /// A requested address is in no range, or two were requested of one set.
    #[error("requested address {0} cannot be served by any range set")]
    NotServed(IpAddr),
    /// A lease of an earlier boot could be taken over, but not noted.
    #[error("cannot note that the lease of {address}, of an earlier boot, is taken over: {error}")]
    Note {
        /// The lease's address.
        address: IpAddr,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Who gets the addresses, and how.
pub struct Request<'a> {
    /// The attachment's container.
    pub container: &'a ContainerId,
    /// Its interface.
    pub ifname: &'a IfName,
    /// Addresses that it has to get.
    pub requested: &'a [IpAddr],
    /// What allows to take over a lease of an earlier boot where nothing else is left.
    pub takeover: Option<&'a mut dyn Takeover>,
}

/// Leases one address of each set: a requested one where one of them fits, else the next free one, else that of a container that
/// ended with an earlier boot. A failure releases what was leased before it.
pub fn allocate(
    store: &Store,
    sets: &RangeSets,
    mut request: Request<'_>,
) -> Result<Vec<Allocation>, AllocateError> {
    let mut given: Vec<Allocation> = Vec::new();
    let result = allocate_each(store, sets, &mut request, &mut given);
    match result {
        Ok(()) => Ok(given),
        Err(error) => {
            for allocation in &given {
                // The first failure is what the user has to hear of; a lease that stays is found by its content.
                let _ = store.release(allocation.address.addr(), request.container, request.ifname);
            }
            Err(error)
        }
    }
}

fn allocate_each(
    store: &Store,
    sets: &RangeSets,
    request: &mut Request<'_>,
    given: &mut Vec<Allocation>,
) -> Result<(), AllocateError> {
    let mut requested: Vec<IpAddr> = request.requested.to_vec();
    let Request { container, ifname, .. } = *request;
    for (at, set) in sets.iter().enumerate() {
        let wish = requested.iter().position(|address| set.range_of(*address).is_some());
        let (address, range) = match wish.map(|place| requested.remove(place)) {
            Some(wish) => {
                let range = set.range_of(wish).filter(|range| range.gateway != wish);
                let range = range.ok_or(AllocateError::Gateway(wish))?;
                let claimed = store.claim(container, ifname, std::iter::once((wish, range)))?;
                claimed.ok_or(AllocateError::Taken(wish))?
            }
            None => {
                let last = store.last_reserved(at);
                match store.claim(container, ifname, set.candidates(last))? {
                    Some(claimed) => claimed,
                    None => {
                        let taken_over = take_over(store, set, last, request)?;
                        taken_over.ok_or(AllocateError::Exhausted { set: at, capacity: set.capacity() })?
                    }
                }
            }
        };
        store.set_last_reserved(at, address);
        given.push(Allocation {
            // A range's prefix length fits its family: both were read from one network.
            address: IpNet::new(address, range.subnet.prefix_len()).unwrap_or_else(|_| address.into()),
            gateway: range.gateway,
        });
    }
    requested.first().map_or(Ok(()), |left| Err(AllocateError::NotServed(*left)))
}

/// Takes over a lease of an earlier boot, if there is one.
fn take_over<'a>(
    store: &Store,
    set: &'a RangeSet,
    last: Option<IpAddr>,
    request: &mut Request<'_>,
) -> Result<Option<(IpAddr, &'a Range)>, AllocateError> {
    let Some(takeover) = request.takeover.as_deref_mut() else { return Ok(None) };
    let Some((lease, range)) = takeover::available(store, set, last, takeover.past()) else {
        return Ok(None);
    };
    let address = lease.address;
    takeover.begin(store, &lease).map_err(|error| AllocateError::Note { address, error })?;
    let replaced = store.replace(&lease, request.container, request.ifname);
    takeover.end(match &replaced {
        Ok(true) => None,
        Ok(false) => Some("it is another lease by now".to_owned()),
        Err(error) => Some(error.to_string()),
    });
    Ok(replaced?.then_some((address, range)))
}

/// How many addresses each set has left; those that may be taken over count as one where there are no others.
pub fn free(store: &Store, sets: &RangeSets, past: &mut dyn Past) -> Result<Vec<u128>, StoreError> {
    let used = store.addresses()?;
    Ok(sets
        .iter()
        .map(|set| {
            let taken = used
                .iter()
                .filter(|address| set.range_of(**address).is_some_and(|range| range.gateway != **address));
            match set.capacity().saturating_sub(taken.count() as u128) {
                0 => u128::from(takeover::available(store, set, None, past).is_some()),
                left => left,
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::RangeSpec;

    /// Of earlier boots, nothing is known.
    struct Nothing;

    impl Past for Nothing {
        fn earliest(&self) -> Option<model::Timestamp> {
            None
        }

        fn is_gone(&mut self, _: &ContainerId) -> bool {
            true
        }
    }

    fn sets(specs: &[(&str, Option<&str>)]) -> RangeSets {
        let spec = |(subnet, end): &(&str, Option<&str>)| {
            vec![RangeSpec {
                subnet: subnet.parse().unwrap(),
                range_start: None,
                range_end: end.map(|end| end.parse().unwrap()),
                gateway: None,
            }]
        };
        RangeSets::new(&specs.iter().map(spec).collect::<Vec<_>>()).unwrap()
    }

    fn add(store: &Store, sets: &RangeSets, id: &str, wish: &[&str]) -> Result<Vec<String>, AllocateError> {
        let wish: Vec<IpAddr> = wish.iter().map(|text| text.parse().unwrap()).collect();
        let (container, ifname) = (id.parse().unwrap(), "eth0".parse().unwrap());
        let request = Request { container: &container, ifname: &ifname, requested: &wish, takeover: None };
        let given = allocate(store, sets, request)?;
        Ok(given.iter().map(|allocation| allocation.address.to_string()).collect())
    }

    #[test]
    fn an_exhausted_second_set_gives_the_first_ones_address_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path(), &"net".parse().unwrap()).unwrap();
        let sets = sets(&[("10.0.0.0/24", None), ("fd00::/64", Some("fd00::2"))]);
        assert_eq!(add(&store, &sets, "a", &[]).unwrap(), ["10.0.0.2/24", "fd00::2/64"]);
        let error = add(&store, &sets, "b", &[]).unwrap_err().to_string();
        assert_eq!(error, "no address is left in range set 1 (1 addresses)");
        assert_eq!(store.addresses().unwrap().len(), 2);
        assert_eq!(free(&store, &sets, &mut Nothing).unwrap(), [252, 0]);
    }

    #[test]
    fn requested_addresses_are_given_or_refused_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path(), &"net".parse().unwrap()).unwrap();
        let sets = sets(&[("10.0.0.0/24", None)]);
        assert_eq!(add(&store, &sets, "a", &["10.0.0.9"]).unwrap(), ["10.0.0.9/24"]);
        assert!(matches!(add(&store, &sets, "b", &["10.0.0.9"]), Err(AllocateError::Taken(_))));
        assert!(matches!(add(&store, &sets, "b", &["10.0.0.1"]), Err(AllocateError::Gateway(_))));
        assert!(matches!(add(&store, &sets, "b", &["192.0.2.1"]), Err(AllocateError::NotServed(_))));
        assert_eq!(store.addresses().unwrap().len(), 1, "refusals leave nothing");
    }
}
