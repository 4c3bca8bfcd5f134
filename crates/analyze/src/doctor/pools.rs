//! Addresses that networks give away.

use std::collections::{BTreeMap, HashSet};

use super::addresses::{count, of_hazards};
use super::{Check, Findings, Ground, Severity};
use crate::leaks::PieceKind;
use crate::verdict::Verdict;

/// Clocks are set by fractions of a second; a lease that is written while the node is looked at is this much younger.
const LATER_MS: i64 = 60_000;

const HOST_LOCAL: &str = "https://www.cni.dev/plugins/current/ipam/host-local/";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "pool-full",
        title: "networks have addresses left",
        severity: Severity::Warning,
        why: "host-local gives each pod an address of the network's range. When none is left, pods hang in ContainerCreating with `no IP addresses available in range set`. Leases that leaked fill a range as well as pods do.",
        see: "ls /var/lib/cni/networks/NETWORK | wc -l",
        fix: "podplumb reclaim gives back what leaked; else a larger range, or fewer pods on the node (kubelet's maxPods)",
        source: HOST_LOCAL,
        run: pool_full,
    },
    Check {
        id: "address-without-lease",
        title: "each address that host-local gave has its lease",
        severity: Severity::Error,
        why: "A container has an address that it got from host-local, and no lease says so: the next ADD gives the same address to another pod. A script that cleaned /var/lib/cni/networks, or a GC that did not know all runtimes, is the usual reason.",
        see: "ls /var/lib/cni/networks/NETWORK; podplumb who ADDRESS",
        fix: "write the lease again, or restart the pod before others are started",
        source: HOST_LOCAL,
        run: address_without_lease,
    },
    Check {
        id: "lease-without-address",
        title: "containers that live have the addresses that they lease",
        severity: Severity::Error,
        why: "A container lives, a lease says that it has an address, and none of its interfaces has it: nobody reaches the pod by the address that Kubernetes tells.",
        see: "podplumb who CONTAINER",
        fix: "restart the pod",
        source: HOST_LOCAL,
        run: lease_without_address,
    },
    Check {
        id: "lease-clock",
        title: "no lease is from the future",
        severity: Severity::Warning,
        why: "A lease was written later than it is now: the clock was set back since. What decides by a lease's age (podplumb's grace period, and that a lease is older than the boot) waits until the clock is there again.",
        see: "date; ls -lc --time-sort /var/lib/cni/networks/NETWORK",
        fix: "mend the clock (timedatectl, chronyc tracking); the leases are right by themselves once it is later than they are",
        source: "https://man7.org/linux/man-pages/man7/time.7.html",
        run: lease_clock,
    },
];

fn tell_unread(ground: &Ground<'_>, findings: &mut Findings) {
    let leases = ground.snapshot.coverage.iter().filter(|gap| gap.source == model::Source::Leases);
    for gap in leases {
        findings.blind(format!("{} could not be read: {}", gap.object, gap.why));
    }
}

fn pool_full(ground: &Ground<'_>, findings: &mut Findings) {
    tell_unread(ground, findings);
    let orphans = ground.leaks.with(Verdict::Orphan).flat_map(|leak| &leak.pieces);
    let leaked: HashSet<&str> =
        orphans.filter(|piece| piece.kind == PieceKind::Lease).map(|piece| piece.object.as_str()).collect();
    let mut used: BTreeMap<(&str, bool), (u64, usize)> = BTreeMap::new();
    for lease in &ground.snapshot.leases {
        let entry = used.entry((lease.network.as_str(), lease.address.is_ipv6())).or_default();
        entry.0 += 1;
        entry.1 += usize::from(leaked.contains(lease.address.to_string().as_str()));
    }
    for ((network, v6), (used, leaked)) in used {
        let mut configs = ground.snapshot.configs.iter();
        let config =
            configs.find(|config| config.network.as_ref().is_some_and(|name| name.as_str() == network));
        // What nobody configures any more gives nothing away.
        let Some(config) = config else { continue };
        let Some(capacity) = config.capacity else {
            findings.blind(format!("how many addresses network {network} has is not in its configuration"));
            continue;
        };
        let all = if v6 { capacity.ipv6 } else { capacity.ipv4 };
        let left = all.saturating_sub(used);
        if all == 0 || left > all / 10 {
            continue;
        }
        let family = if v6 { "IPv6" } else { "IPv4" };
        let of_leaks = match leaked {
            0 => "; none of these leaked".to_owned(),
            n => format!("; {} of these leaked", count(n, "address", "addresses")),
        };
        let severity = if left == 0 { Severity::Error } else { Severity::Warning };
        let fix = if leaked > 0 {
            "podplumb reclaim gives back what leaked"
        } else {
            "a larger range, or fewer pods on this node"
        };
        findings.add_as(
            severity,
            format!("network {network}"),
            format!("{used} of {all} {family} addresses are leased, {left} left{of_leaks}"),
            fix,
        );
    }
}

fn address_without_lease(ground: &Ground<'_>, findings: &mut Findings) {
    tell_unread(ground, findings);
    of_hazards(ground, findings, "address-without-lease");
}

fn lease_without_address(ground: &Ground<'_>, findings: &mut Findings) {
    tell_unread(ground, findings);
    ground.tell_unreadable(findings);
    // A pod that has none at all is told of by that.
    let bare: HashSet<&str> = ground
        .pods
        .iter()
        .filter(|pod| pod.addresses().next().is_none())
        .map(|pod| pod.label.as_str())
        .collect();
    let is_bare = |text: &str| bare.iter().any(|label| text.contains(label));
    for hazard in ground
        .leaks
        .hazards
        .iter()
        .filter(|hazard| hazard.code == "lease-without-address" && !is_bare(&hazard.text))
    {
        findings.add(&hazard.object, &hazard.text, hazard.hint);
    }
}

fn lease_clock(ground: &Ground<'_>, findings: &mut Findings) {
    tell_unread(ground, findings);
    let now = ground.snapshot.taken_at.0;
    let mut late: BTreeMap<&str, (usize, i64)> = BTreeMap::new();
    for lease in ground.snapshot.leases.iter().filter(|lease| lease.since.0.saturating_sub(now) > LATER_MS) {
        let entry = late.entry(lease.network.as_str()).or_default();
        entry.0 += 1;
        entry.1 = entry.1.max(lease.since.0.saturating_sub(now));
    }
    for (network, (leases, ahead)) in late {
        let ahead = model::time::short(std::time::Duration::from_millis(ahead.unsigned_abs()));
        findings.add(
            format!("network {network}"),
            format!(
                "{} from the future, by up to {ahead}: the clock was set back",
                count(leases, "lease is", "leases are")
            ),
            "mend the clock",
        );
    }
}

#[cfg(test)]
mod tests {
    use model::{Capacity, Lease, NetworkConfig, Snapshot, Timestamp};

    use super::super::testing::*;

    fn leases(snapshot: &mut Snapshot, number: u8) {
        for n in 0..number {
            snapshot.leases.push(Lease {
                path: format!("/var/lib/cni/networks/pods/10.9.0.{n}").into(),
                network: "pods".parse().unwrap(),
                address: ip(&format!("10.9.0.{n}")),
                container: Some("7d0c1e5b9a3f4d22".parse().unwrap()),
                ifname: None,
                content: String::new(),
                since: Timestamp(1_700_000_000_000),
                locked: false,
            });
        }
        snapshot.configs.push(NetworkConfig {
            path: "/etc/cni/net.d/10-pods.conflist".into(),
            network: Some("pods".parse().unwrap()),
            capacity: Some(Capacity { ipv4: 20, ipv6: 0 }),
            ..NetworkConfig::default()
        });
    }

    #[test]
    fn a_range_that_is_nearly_full_is_found_with_what_leaked_of_it() {
        assert_eq!(found("pool-full", |s| leases(s, 17)), [""; 0]);
        let warning = diagnosis("pool-full", |s| leases(s, 19));
        assert_eq!(
            warning.findings[0].found,
            "19 of 20 IPv4 addresses are leased, 1 left; none of these leaked"
        );
        assert_eq!(warning.findings[0].severity, super::Severity::Warning);
        let full = diagnosis("pool-full", |s| {
            leases(s, 20);
            s.runtime_none = true;
        });
        assert_eq!(
            full.findings[0].found,
            "20 of 20 IPv4 addresses are leased, 0 left; 20 addresses of these leaked"
        );
        assert_eq!(full.findings[0].severity, super::Severity::Error);
        assert!(is_blind("pool-full", |s| {
            leases(s, 20);
            s.configs[0].capacity = None;
        }));
    }

    #[test]
    fn a_lease_of_tomorrow_is_found() {
        let later = |s: &mut Snapshot| {
            leases(s, 1);
            s.leases[0].since = Timestamp(s.taken_at.0 + 86_400_000);
        };
        only(&["lease-clock"], later);
        assert_eq!(found("lease-clock", |s| leases(s, 3)), [""; 0]);
    }

    #[test]
    fn what_leases_and_addresses_say_of_each_other() {
        let gap = |s: &mut Snapshot| {
            let source = model::Source::Leases;
            s.coverage.push(model::Gap {
                source,
                object: "/var/lib/cni/networks".into(),
                why: "denied".into(),
            });
        };
        for check in ["pool-full", "address-without-lease", "lease-without-address", "lease-clock"] {
            assert!(is_blind(check, gap), "{check}");
        }
        let lost = |s: &mut Snapshot| {
            leases(s, 1);
            s.leases[0].address = ip("10.244.0.77");
            // The lease's container is red, by what a runtime says.
            let text = r#"[{"kind": "containerd", "endpoint": "/run/c.sock", "status": {"state": "answered", "version": "2.0"},
                "objects": [{"id": "7d0c1e5b9a3f4d22", "kind": "sandbox", "state": "Ready", "pid": 77}]}]"#;
            s.runtimes = serde_json::from_str(text).unwrap();
            pods(s, RED).tasks = vec![model::Task { pid: 77, tid: None, command: "pause".into() }];
        };
        assert_eq!(found("lease-without-address", lost), ["10.244.0.77"]);
        let unleased = |s: &mut Snapshot| {
            lost(s);
            s.leases.clear();
            let text = r#"[{"path": "/c/pods-7d0c1e5b9a3f4d22-eth0", "key": {"network": "pods", "container": "7d0c1e5b9a3f4d22",
                "ifname": "eth0"}, "addresses": ["10.244.0.2"], "ipam": ["host-local"], "digest": 0, "since": 0}]"#;
            s.cache = serde_json::from_str(text).unwrap();
        };
        assert_eq!(found("address-without-lease", unleased), ["10.244.0.2"]);
    }
}
