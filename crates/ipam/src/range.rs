//! Ranges of addresses: what is valid, and in which order addresses are tried.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

/// A range as a configuration has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RangeSpec {
    /// Subnet, without host bits.
    pub subnet: IpNet,
    /// First address; the subnet's first unless given.
    #[serde(default)]
    pub range_start: Option<IpAddr>,
    /// Last address; the subnet's last usable unless given.
    #[serde(default)]
    pub range_end: Option<IpAddr>,
    /// Gateway, never given to a container; the subnet's first unless given.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
}

/// A range that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Subnet.
    pub subnet: IpNet,
    /// Gateway.
    pub gateway: IpAddr,
    /// First address, inclusive.
    pub start: IpAddr,
    /// Last address, inclusive.
    pub end: IpAddr,
}

/// Why a range is refused. The texts name the range and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Fewer than two host bits.
    #[error("subnet {0} is too small to allocate from: it needs at least two host bits")]
    TooSmall(IpNet),
    /// The subnet's address is not the network's.
    #[error("subnet {0} has host bits set: the network is {1}")]
    HostBits(IpNet, IpNet),
    /// An address that belongs to the range lies outside of its subnet.
    #[error("{what} {address} is not in subnet {subnet}")]
    Outside {
        /// rangeStart, rangeEnd or gateway.
        what: &'static str,
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: IpNet,
    },
    /// The range ends before it starts.
    #[error("rangeStart {0} is after rangeEnd {1}")]
    Reversed(IpAddr, IpAddr),
    /// IPv4 and IPv6 in one set.
    #[error("{0} and {1} are of different families and cannot be in one range set")]
    Mixed(IpNet, IpNet),
    /// Two ranges share addresses.
    #[error("ranges {0}-{1} and {2}-{3} overlap")]
    Overlap(IpAddr, IpAddr, IpAddr, IpAddr),
    /// No range at all, or an empty set.
    #[error("there is no range to allocate from")]
    Empty,
}

/// An address as a number, for arithmetic.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address `number` of the same family as `like`.
fn address(number: u128, like: IpAddr) -> IpAddr {
    match like {
        // Ranges were checked, so an IPv4 number fits.
        IpAddr::V4(_) => IpAddr::V4((number as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(number.into()),
    }
}

impl Range {
    /// Checks a range and fills in the defaults.
    pub fn new(spec: &RangeSpec) -> Result<Self, RangeError> {
        let subnet = spec.subnet;
        if subnet.prefix_len() > subnet.max_prefix_len() - 2 {
            return Err(RangeError::TooSmall(subnet));
        }
        if subnet.addr() != subnet.network() {
            return Err(RangeError::HostBits(subnet, subnet.trunc()));
        }
        let network = subnet.network();
        let first = address(number(network) + 1, network);
        let last = match subnet {
            IpNet::V4(v4) => address(number(v4.broadcast().into()) - 1, network),
            IpNet::V6(_) => subnet.broadcast(),
        };
        let range = Self {
            subnet,
            gateway: spec.gateway.unwrap_or(first),
            start: spec.range_start.unwrap_or(first),
            end: spec.range_end.unwrap_or(last),
        };
        for (what, address) in [("rangeStart", range.start), ("rangeEnd", range.end)] {
            if !subnet.contains(&address) {
                return Err(RangeError::Outside { what, address, subnet });
            }
        }
        if number(range.start) > number(range.end) {
            return Err(RangeError::Reversed(range.start, range.end));
        }
        Ok(range)
    }

    /// Whether the range has the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.start.is_ipv4()
            && (number(self.start)..=number(self.end)).contains(&number(address))
    }

    /// How many addresses it can give away.
    pub fn capacity(&self) -> u128 {
        let all = (number(self.end) - number(self.start)).saturating_add(1);
        all - u128::from(self.contains(self.gateway))
    }
}

/// Ranges of one family, of which an attachment gets one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSet(Vec<Range>);

/// All range sets of a network: an attachment gets one address of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSets(Vec<RangeSet>);

impl RangeSets {
    /// Checks sets of ranges.
    pub fn new(specs: &[Vec<RangeSpec>]) -> Result<Self, RangeError> {
        let sets = specs.iter().map(|set| RangeSet::new(set)).collect::<Result<Vec<_>, _>>()?;
        if sets.is_empty() {
            return Err(RangeError::Empty);
        }
        let all: Vec<&Range> = sets.iter().flat_map(|set| &set.0).collect();
        for (at, a) in all.iter().enumerate() {
            for b in &all[at + 1..] {
                if a.contains(b.start) || b.contains(a.start) {
                    return Err(RangeError::Overlap(a.start, a.end, b.start, b.end));
                }
            }
        }
        Ok(Self(sets))
    }

    /// The sets, in order.
    pub fn iter(&self) -> impl Iterator<Item = &RangeSet> {
        self.0.iter()
    }
}

impl RangeSet {
    fn new(specs: &[RangeSpec]) -> Result<Self, RangeError> {
        let ranges = specs.iter().map(Range::new).collect::<Result<Vec<_>, _>>()?;
        let first = ranges.first().ok_or(RangeError::Empty)?;
        if let Some(other) = ranges.iter().find(|range| range.start.is_ipv4() != first.start.is_ipv4()) {
            return Err(RangeError::Mixed(first.subnet, other.subnet));
        }
        Ok(Self(ranges))
    }

    /// The range that has the address.
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    /// How many addresses it can give away.
    pub fn capacity(&self) -> u128 {
        self.0.iter().fold(0, |sum, range| sum.saturating_add(range.capacity()))
    }

    /// Every address once, in host-local's order: from the one after `last` (or from the start, if no range has that)
    /// through all ranges and around to where it began, without the gateways.
    pub fn candidates(&self, last: Option<IpAddr>) -> impl Iterator<Item = (IpAddr, &Range)> {
        let begin = last.and_then(|last| {
            let at = self.0.iter().position(|range| range.contains(last))?;
            Some((at, number(last)))
        });
        let (first, from) = begin.unwrap_or((0, 0));
        let ranges = self.0.len();
        // The first range in two halves: what comes after `last`, and at the very end what comes before, and itself.
        // After the last address of all, `ffff:…:ffff`, there is none.
        let head = begin.and_then(|_| Some((first, from.checked_add(1)?, number(self.0[first].end))));
        let middle = (1..ranges).map(move |step| (first + step) % ranges);
        let middle = middle.map(|at| (at, number(self.0[at].start), number(self.0[at].end)));
        let tail = match begin {
            Some(_) => (first, number(self.0[first].start), from),
            None => (0, number(self.0[0].start), number(self.0[0].end)),
        };
        let (front, back) = if begin.is_some() { (head, Some(tail)) } else { (Some(tail), None) };
        front
            .into_iter()
            .chain(middle)
            .chain(back)
            .flat_map(move |(at, from, to)| {
                (from..=to).map(move |n| (address(n, self.0[at].start), &self.0[at]))
            })
            .filter(|(address, range)| *address != range.gateway)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(subnet: &str) -> RangeSpec {
        RangeSpec { subnet: subnet.parse().unwrap(), range_start: None, range_end: None, gateway: None }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn defaults_are_host_locals() {
        let v4 = Range::new(&spec("10.0.0.0/24")).unwrap();
        assert_eq!((v4.gateway, v4.start, v4.end), (ip("10.0.0.1"), ip("10.0.0.1"), ip("10.0.0.254")));
        assert_eq!(v4.capacity(), 253);
        let v6 = Range::new(&spec("fd00::/64")).unwrap();
        assert_eq!((v6.start, v6.end), (ip("fd00::1"), ip("fd00::ffff:ffff:ffff:ffff")));
        assert_eq!(Range::new(&spec("::/0")).unwrap().capacity(), u128::MAX - 1);
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        let range = |subnet: &str, start: Option<&str>, end: Option<&str>| {
            Range::new(&RangeSpec { range_start: start.map(ip), range_end: end.map(ip), ..spec(subnet) })
        };
        let table = [
            (range("10.0.0.0/31", None, None), "subnet 10.0.0.0/31 is too small"),
            (range("fd00::/127", None, None), "too small"),
            (
                range("10.0.0.5/24", None, None),
                "subnet 10.0.0.5/24 has host bits set: the network is 10.0.0.0/24",
            ),
            (range("10.0.0.0/24", Some("10.0.1.1"), None), "rangeStart 10.0.1.1 is not in subnet"),
            (range("10.0.0.0/24", None, Some("fd00::1")), "rangeEnd fd00::1 is not in subnet"),
            (range("10.0.0.0/24", Some("10.0.0.9"), Some("10.0.0.8")), "rangeStart 10.0.0.9 is after"),
        ];
        for (result, text) in table {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        let mixed = RangeSets::new(&[vec![spec("10.0.0.0/24"), spec("fd00::/64")]]).unwrap_err();
        assert!(mixed.to_string().contains("different families"));
        let overlap = RangeSets::new(&[vec![spec("10.0.0.0/24")], vec![spec("10.0.0.0/16")]]).unwrap_err();
        assert!(overlap.to_string().contains("overlap"));
        assert_eq!(RangeSets::new(&[]).unwrap_err(), RangeError::Empty);
        assert_eq!(RangeSets::new(&[vec![]]).unwrap_err(), RangeError::Empty);
    }

    #[test]
    fn candidates_go_round_once_and_skip_the_gateway() {
        let set = RangeSet::new(&[
            RangeSpec { range_end: Some(ip("10.0.0.4")), ..spec("10.0.0.0/24") },
            RangeSpec {
                range_start: Some(ip("10.1.0.8")),
                range_end: Some(ip("10.1.0.9")),
                ..spec("10.1.0.0/24")
            },
        ])
        .unwrap();
        let order = |last: Option<&str>| -> Vec<String> {
            set.candidates(last.map(ip)).map(|(address, _)| address.to_string()).collect()
        };
        assert_eq!(order(None), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.1.0.8", "10.1.0.9"]);
        assert_eq!(order(Some("10.0.0.3")), ["10.0.0.4", "10.1.0.8", "10.1.0.9", "10.0.0.2", "10.0.0.3"]);
        assert_eq!(order(Some("10.1.0.9")), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.1.0.8", "10.1.0.9"]);
        assert_eq!(order(Some("192.0.2.1")), order(None));
        let last = ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        let before = ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe");
        let end = RangeSet::new(&[RangeSpec { range_start: Some(before), ..spec("ffff::/16") }]).unwrap();
        assert_eq!(
            end.candidates(Some(last)).map(|(address, _)| address).collect::<Vec<_>>(),
            [before, last]
        );
    }
}
