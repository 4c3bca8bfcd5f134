//! Giving an attachment one address of each range set.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{ContainerId, IfName};

use crate::range::RangeSets;
use crate::store::{Store, StoreError};

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
}

/// Leases one address of each set: a requested one where one of them fits, else the next free one. A failure releases what
/// was leased before it.
pub fn allocate(
    store: &Store,
    sets: &RangeSets,
    container: &ContainerId,
    ifname: &IfName,
    requested: &[IpAddr],
) -> Result<Vec<Allocation>, AllocateError> {
    let mut given: Vec<Allocation> = Vec::new();
    let result = allocate_each(store, sets, container, ifname, requested, &mut given);
    match result {
        Ok(()) => Ok(given),
        Err(error) => {
            for allocation in &given {
                // The first failure is what the user has to hear of; a lease that stays is found by its content.
                let _ = store.release(allocation.address.addr(), container, ifname);
            }
            Err(error)
        }
    }
}

fn allocate_each(
    store: &Store,
    sets: &RangeSets,
    container: &ContainerId,
    ifname: &IfName,
    requested: &[IpAddr],
    given: &mut Vec<Allocation>,
) -> Result<(), AllocateError> {
    let mut requested: Vec<IpAddr> = requested.to_vec();
    for (at, set) in sets.iter().enumerate() {
        let wish = requested.iter().position(|address| set.range_of(*address).is_some());
        let allocation = match wish.map(|place| requested.remove(place)) {
            Some(wish) => {
                let range = set.range_of(wish).filter(|range| range.gateway != wish);
                let range = range.ok_or(AllocateError::Gateway(wish))?;
                let claimed = store.claim(container, ifname, std::iter::once((wish, range)))?;
                claimed.ok_or(AllocateError::Taken(wish))?
            }
            None => {
                let candidates = set.candidates(store.last_reserved(at));
                let exhausted = AllocateError::Exhausted { set: at, capacity: set.capacity() };
                store.claim(container, ifname, candidates)?.ok_or(exhausted)?
            }
        };
        let (address, range) = allocation;
        store.set_last_reserved(at, address);
        given.push(Allocation {
            // A range's prefix length fits its family: both were read from one network.
            address: IpNet::new(address, range.subnet.prefix_len()).unwrap_or_else(|_| address.into()),
            gateway: range.gateway,
        });
    }
    requested.first().map_or(Ok(()), |left| Err(AllocateError::NotServed(*left)))
}

/// How many addresses each set has left.
pub fn free(store: &Store, sets: &RangeSets) -> Result<Vec<u128>, StoreError> {
    let used = store.addresses()?;
    Ok(sets
        .iter()
        .map(|set| {
            let taken = used
                .iter()
                .filter(|address| set.range_of(**address).is_some_and(|range| range.gateway != **address));
            set.capacity().saturating_sub(taken.count() as u128)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::range::RangeSpec;

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
        let given = allocate(store, sets, &id.parse().unwrap(), &"eth0".parse().unwrap(), &wish)?;
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
        assert_eq!(free(&store, &sets).unwrap(), [252, 0]);
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

    proptest! {
        /// Against a plain model: a map from address to owner and a cursor.
        #[test]
        fn allocation_agrees_with_a_plain_model(steps in proptest::collection::vec((0u8..12, any::<bool>()), 1..60)) {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::create(dir.path(), &"net".parse().unwrap()).unwrap();
            let sets = sets(&[("10.0.0.0/29", None)]);
            let pool: Vec<IpAddr> = (2..=6).map(|n| IpAddr::from([10, 0, 0, n])).collect();
            let mut model: BTreeMap<IpAddr, u8> = BTreeMap::new();
            let mut cursor: Option<usize> = None;
            let eth0: IfName = "eth0".parse().unwrap();
            for (who, is_add) in steps {
                let id: ContainerId = format!("c{who}").parse().unwrap();
                if is_add {
                    let from = cursor.map_or(0, |at| at + 1);
                    let next = (from..from + pool.len()).map(|n| n % pool.len()).find(|n| !model.contains_key(&pool[*n]));
                    match (allocate(&store, &sets, &id, &eth0, &[]), next) {
                        (Ok(given), Some(next)) => {
                            prop_assert_eq!(given[0].address.addr(), pool[next]);
                            model.insert(pool[next], who);
                            cursor = Some(next);
                        }
                        (Err(AllocateError::Exhausted { .. }), None) => {}
                        (got, wanted) => prop_assert!(false, "{got:?} {wanted:?}"),
                    }
                } else {
                    let released = store.release_all(&id, &eth0).unwrap();
                    let before = model.len();
                    model.retain(|_, owner| *owner != who);
                    prop_assert_eq!(released, before - model.len());
                }
                let mut left = store.addresses().unwrap();
                left.sort();
                prop_assert_eq!(left, model.keys().copied().collect::<Vec<_>>());
            }
        }
    }
}
