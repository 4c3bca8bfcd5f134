//! How many addresses a network configuration can give away.

use ipam::range::{RangeSets, RangeSpec};
use ipnet::IpNet;
use model::Capacity;
use serde::Deserialize;
use serde_json::Value;

/// A list of sets, or, as older configurations have it, of ranges.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ranges {
    Sets(Vec<Vec<RangeSpec>>),
    Flat(Vec<RangeSpec>),
}

/// What the plugins of a configuration that lease from host-local can give away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) capacity: Capacity,
    /// The subnets of its ranges.
    pub(crate) subnets: Vec<IpNet>,
}

/// Of all plugins that lease from host-local; `None` when none does, or its ranges come at run time, or are not valid.
pub(crate) fn of(config: &Value) -> Option<Pool> {
    let plugins = cni::cache::plugins(config);
    let ipam = plugins.iter().filter_map(|plugin| plugin.get("ipam"));
    let mut local =
        ipam.filter(|ipam| ipam.get("type").and_then(Value::as_str) == Some("host-local")).peekable();
    local.peek()?;
    let mut pool = Pool { capacity: Capacity::default(), subnets: Vec::new() };
    for ipam in local {
        add(ipam, &mut pool)?;
    }
    Some(pool)
}

fn add(ipam: &Value, pool: &mut Pool) -> Option<()> {
    let mut sets = Vec::new();
    if ipam.get("subnet").is_some() {
        sets.push(vec![RangeSpec::deserialize(ipam).ok()?]);
    }
    match ipam.get("ranges").map(Ranges::deserialize) {
        Some(Ok(Ranges::Sets(more))) => sets.extend(more),
        Some(Ok(Ranges::Flat(more))) => sets.extend(more.into_iter().map(|range| vec![range])),
        Some(Err(_)) => return None,
        None => {}
    }
    for set in RangeSets::new(&sets).ok()?.iter() {
        let addresses = u64::try_from(set.capacity()).unwrap_or(u64::MAX);
        // A set is of one family: its first candidate tells which.
        let is_ipv4 = set.candidates(None).next()?.0.is_ipv4();
        let family = if is_ipv4 { &mut pool.capacity.ipv4 } else { &mut pool.capacity.ipv6 };
        *family = family.saturating_add(addresses);
    }
    pool.subnets.extend(sets.iter().flatten().map(|range| range.subnet));
    Some(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn gateways_are_not_given_away_and_families_are_told_apart() {
        let pool = |ipam: Value| of(&json!({"name": "n", "plugins": [{"type": "bridge", "ipam": ipam}]}));
        let ipam = |ipam: Value| pool(ipam).map(|pool| pool.capacity);
        let both =
            json!({"type": "host-local", "ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]]});
        assert_eq!(
            pool(both.clone()).unwrap().subnets,
            ["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()]
        );
        let both = ipam(both).unwrap();
        assert_eq!(both.ipv4, 253, "254 hosts but the gateway");
        assert!(both.ipv6 > 1 << 63);
        let flat = json!({"type": "host-local", "subnet": "10.0.0.0/24", "rangeStart": "10.0.0.10", "rangeEnd": "10.0.0.19"});
        assert_eq!(ipam(flat), Some(Capacity { ipv4: 10, ipv6: 0 }));
        for none in [
            json!({"type": "dhcp"}),
            json!({"type": "host-local"}),
            json!({"type": "host-local", "subnet": "x"}),
        ] {
            assert_eq!(ipam(none.clone()), None, "{none}");
        }
    }
}
