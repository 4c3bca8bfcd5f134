//! Tables of the kernel that may be full.

use model::Neighbour;

use super::{Check, Findings, Ground, Severity};

/// Such entries do not count, or go as soon as their place is needed (neigh_forced_gc), like those of multicast groups, which a snapshot
/// does not have.
const NUD_PERMANENT: u16 = 0x80;
const NUD_FAILED: u16 = 0x20;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "neighbour-table",
        title: "the table of neighbours has room",
        severity: Severity::Warning,
        why: "All namespaces of a machine share one table for ARP and one for ND. Above gc_thresh2 entries are thrown out early, above gc_thresh3 (1,024 unless changed) none is made: packets to new neighbours are dropped (`neighbour: arp_cache: neighbor table overflow!`). Entries that are permanent do not count, and those of multicast groups and of neighbours that did not answer go when their place is needed.",
        see: "for each family: ip -s -4 neigh | wc -l in all namespaces; ip ntable; dmesg",
        fix: "sysctl -w net.ipv4.neigh.default.gc_thresh3=8192 (and gc_thresh2, gc_thresh1 to match; net.ipv6 likewise)",
        source: "https://docs.kernel.org/networking/ip-sysctl.html",
        run: neighbour_table,
    },
    Check {
        id: "conntrack-table",
        title: "the table of connections has room",
        severity: Severity::Warning,
        why: "Each connection through masquerading, services or a stateful firewall has an entry in the connection tracking table. When nf_conntrack_max is reached, the kernel drops packets of new connections (`nf_conntrack: table full, dropping packet`).",
        see: "sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max; conntrack -S",
        fix: "sysctl -w net.netfilter.nf_conntrack_max=N, and look for who opens so many: conntrack -L | awk '{print $5}' | sort | uniq -c | sort -n",
        source: "https://docs.kernel.org/networking/nf_conntrack-sysctl.html",
        run: conntrack_table,
    },
    Check {
        id: "conntrack-drops",
        title: "connection tracking has dropped nothing",
        severity: Severity::Notice,
        why: "Since boot, packets were dropped since the table was full, or since two packets of one connection raced for their entry (insert_failed). The latter hits DNS most, which asks for A and AAAA from one port at once, and costs 5 seconds each. Numbers since boot tell nothing about now: look whether they grow.",
        see: "conntrack -S",
        fix: "for a full table see conntrack-table; for races: NodeLocal DNSCache, or `options single-request-reopen` in the pods' resolv.conf",
        source: "https://github.com/kubernetes/kubernetes/issues/56903",
        run: conntrack_drops,
    },
];

fn neighbour_table(ground: &Ground<'_>, findings: &mut Findings) {
    if ground.snapshot.neighbour_tables.is_empty() {
        findings.blind("the snapshot does not have the tables of neighbours");
    }
    for table in &ground.snapshot.neighbour_tables {
        let v6 = table.name.contains("ndisc");
        let counts = |entry: &&Neighbour| {
            entry.state & (NUD_PERMANENT | NUD_FAILED) == 0 && entry.address.is_ipv6() == v6
        };
        let (mut used, mut unread) = (0_u64, 0_usize);
        for namespace in &ground.snapshot.namespaces {
            match ground.snapshot.stack_of(namespace) {
                Some(stack) => used += stack.neighbours.iter().filter(counts).count() as u64,
                None => unread += 1,
            }
        }
        let limit = u64::from(table.gc_thresh3);
        let severity = match used * 100 {
            n if n >= limit * 95 => Severity::Error,
            n if n >= limit * 80 => Severity::Warning,
            _ => {
                if unread > 0 && u64::from(table.entries) * 100 >= limit * 80 {
                    let entries = table.entries;
                    findings.blind(format!(
                        "{} has {entries} entries, and {unread} namespaces were not entered to tell which of them can go",
                        table.name
                    ));
                }
                continue;
            }
        };
        let overflows = match table.overflows {
            0 => String::new(),
            n => format!("; {n} found no place since boot"),
        };
        let family = if v6 { "ipv6" } else { "ipv4" };
        findings.add_as(
            severity,
            table.name.clone(),
            format!("{used} neighbours are in use, and no more than {limit} (gc_thresh3) can be{overflows}"),
            format!("sysctl -w net.{family}.neigh.default.gc_thresh3={}", (limit * 4).max(4096)),
        );
    }
}

fn conntrack_table(ground: &Ground<'_>, findings: &mut Findings) {
    // Without connection tracking there is nothing to fill.
    let Some(table) = ground.snapshot.conntrack.filter(|table| table.max > 0) else { return };
    let severity = match table.count.saturating_mul(100) {
        n if n >= table.max.saturating_mul(95) => Severity::Error,
        n if n >= table.max.saturating_mul(80) => Severity::Warning,
        _ => return,
    };
    findings.add_as(
        severity,
        "nf_conntrack",
        format!("{} of {} entries are used", table.count, table.max),
        format!("sysctl -w net.netfilter.nf_conntrack_max={}", table.max.saturating_mul(2)),
    );
}

fn conntrack_drops(ground: &Ground<'_>, findings: &mut Findings) {
    let Some(table) = ground.snapshot.conntrack else { return };
    if table.dropped > 0 {
        findings.add(
            "nf_conntrack",
            format!("{} packets were dropped since boot, since the table was full", table.dropped),
            "conntrack -S tells whether the number grows; then raise nf_conntrack_max",
        );
    }
    if table.insert_failed > 0 {
        findings.add(
            "nf_conntrack",
            format!(
                "{} packets were dropped since boot, since two of one connection raced",
                table.insert_failed
            ),
            "conntrack -S tells whether the number grows; then NodeLocal DNSCache",
        );
    }
}

#[cfg(test)]
mod tests {
    use model::{Conntrack, NeighbourTable, Snapshot};

    use super::super::testing::*;
    use super::Severity;

    fn table(s: &mut Snapshot, entries: u32, state: u16) {
        s.neighbour_tables = vec![NeighbourTable {
            name: "arp_cache".into(),
            entries,
            gc_thresh1: 128,
            gc_thresh2: 512,
            gc_thresh3: 1024,
            overflows: 3,
        }];
        for n in 0..entries {
            let address = std::net::Ipv4Addr::from(0x0a09_0000 + n).to_string();
            s.stack.neighbours.push(model::Neighbour { state, ..neighbour(&address, 9, 2) });
        }
    }

    #[test]
    fn neighbours_in_use_fill_the_table_and_others_do_not() {
        const REACHABLE: u16 = 2;
        assert_eq!(found("neighbour-table", |s| table(s, 700, REACHABLE)), [""; 0]);
        assert_eq!(
            diagnosis("neighbour-table", |s| table(s, 900, REACHABLE)).findings[0].severity,
            Severity::Warning
        );
        assert_eq!(
            diagnosis("neighbour-table", |s| table(s, 1024, REACHABLE)).findings[0].severity,
            Severity::Error
        );
        for state in [super::NUD_PERMANENT, super::NUD_FAILED] {
            assert_eq!(found("neighbour-table", |s| table(s, 900, state)), [""; 0]);
        }
        assert!(is_blind("neighbour-table", |s| s.neighbour_tables.clear()));
        let unread = |s: &mut Snapshot| {
            table(s, 900, REACHABLE);
            s.stack.neighbours.clear();
            pods(s, RED).stack = None;
        };
        assert!(is_blind("neighbour-table", unread));
    }

    #[test]
    fn connections_fill_the_table() {
        let use_of = |count| {
            move |s: &mut Snapshot| {
                s.conntrack = Some(Conntrack { count, max: 1000, insert_failed: 0, dropped: 0 });
            }
        };
        assert_eq!(found("conntrack-table", use_of(700)), [""; 0]);
        assert_eq!(diagnosis("conntrack-table", use_of(850)).findings[0].severity, Severity::Warning);
        only(&["conntrack-table"], use_of(990));
        let drops = |s: &mut Snapshot| {
            s.conntrack = Some(Conntrack { count: 1, max: 9, insert_failed: 2, dropped: 3 })
        };
        assert_eq!(found("conntrack-drops", drops).len(), 2);
        assert!(!diagnosis("conntrack-drops", drops).is_ill());
    }
}
