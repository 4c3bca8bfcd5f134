//! Counts, for node_exporter's textfile collector.
//!
//! The text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>. One series that stands there twice makes
//! node_exporter throw the whole file away, so values are collected by their labels first.

use std::collections::BTreeMap;
use std::time::Duration;

use model::Snapshot;

use super::text::printable;
use crate::leaks::{Leaks, PieceKind};
use crate::verdict::Verdict;

const VERDICTS: [(Verdict, &str); 3] =
    [(Verdict::Orphan, "orphan"), (Verdict::Unknown, "unknown"), (Verdict::InUse, "in-use")];

/// Series of one name, by their labels.
type Series = BTreeMap<String, f64>;

/// The file: what was found, and how complete the look was that took `duration`.
pub fn metrics(snapshot: &Snapshot, leaks: &Leaks, duration: Duration) -> String {
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, series: &Series| {
        if !series.is_empty() {
            out.push_str(&format!("# HELP podplumb_{name} {help}\n# TYPE podplumb_{name} gauge\n"));
        }
        for (labels, value) in series {
            out.push_str(&format!("podplumb_{name}{labels} {value}\n"));
        }
    };
    gauge("wirings", "What belongs to one container each, by verdict.", &wirings(leaks));
    gauge("pieces", "Interfaces, leases and so on, by kind and verdict of their wiring.", &pieces(leaks));
    gauge("leases_used", "host-local's leases, by network and family.", &used(snapshot));
    gauge("leases_free", "Addresses that are not leased, where ranges are known.", &free(snapshot));
    gauge("runtime_answered", "Whether the runtime answered.", &runtimes(snapshot));
    gauge(
        "coverage_gaps",
        "What could not be read; see podplumb leaks.",
        &alone(snapshot.coverage.len() as f64),
    );
    let complete = snapshot.coverage.is_empty() && snapshot.runtimes.iter().all(model::Runtime::answered);
    let help = "1: everything could be read, and every runtime answered.";
    gauge("coverage_complete", help, &alone(f64::from(u8::from(complete))));
    let warnings = crate::versions::versions(snapshot).warnings.len() as f64;
    gauge("version_warnings", "Versions that are known to leak; see podplumb leaks.", &alone(warnings));
    gauge("duration_seconds", "How long looking and judging took.", &alone(duration.as_secs_f64()));
    let taken = leaks.taken_at.0 as f64 / 1000.0;
    gauge("last_run_timestamp_seconds", "When the node was looked at.", &alone(taken));
    out
}

fn wirings(leaks: &Leaks) -> Series {
    VERDICTS
        .iter()
        .map(|(verdict, name)| (labels(&[("verdict", name)]), leaks.count(*verdict) as f64))
        .collect()
}

/// Every kind is there, also with 0: a series that comes and goes cannot be alerted on.
fn pieces(leaks: &Leaks) -> Series {
    let mut series = Series::new();
    for (verdict, name) in VERDICTS {
        let found = leaks.with(verdict).flat_map(|finding| &finding.pieces).map(|piece| (piece.kind, 1.0));
        for (kind, count) in PieceKind::ALL.iter().map(|kind| (*kind, 0.0)).chain(found) {
            *series.entry(labels(&[("kind", &kind.to_string()), ("verdict", name)])).or_default() += count;
        }
    }
    series
}

fn used(snapshot: &Snapshot) -> Series {
    let mut series = Series::new();
    // A network of which nothing is leased uses 0 addresses, where its configuration says that it leases at all.
    for (network, family, _) in capacities(snapshot) {
        series.insert(labels(&[("network", network), ("family", family)]), 0.0);
    }
    for lease in &snapshot.leases {
        let family = if lease.address.is_ipv4() { "ipv4" } else { "ipv6" };
        *series.entry(labels(&[("network", lease.network.as_str()), ("family", family)])).or_default() += 1.0;
    }
    series
}

fn free(snapshot: &Snapshot) -> Series {
    let used = used(snapshot);
    let mut series = Series::new();
    for (network, family, capacity) in capacities(snapshot) {
        let labels = labels(&[("network", network), ("family", family)]);
        let free = (capacity as f64 - used.get(&labels).copied().unwrap_or(0.0)).max(0.0);
        // Two files may describe one network, with one directory of leases.
        let entry = series.entry(labels).or_insert(free);
        *entry = entry.max(free);
    }
    series
}

fn capacities(snapshot: &Snapshot) -> impl Iterator<Item = (&str, &'static str, u64)> {
    let known =
        snapshot.configs.iter().filter_map(|config| Some((config.network.as_ref()?, config.capacity?)));
    let both = known.flat_map(|(network, capacity)| {
        [(network.as_str(), "ipv4", capacity.ipv4), (network.as_str(), "ipv6", capacity.ipv6)]
    });
    both.filter(|(.., capacity)| *capacity > 0)
}

fn runtimes(snapshot: &Snapshot) -> Series {
    let runtime = |runtime: &model::Runtime| {
        let endpoint = runtime.endpoint.display().to_string();
        let labels = labels(&[("runtime", &runtime.kind.to_string()), ("endpoint", &endpoint)]);
        (labels, f64::from(u8::from(runtime.answered())))
    };
    snapshot.runtimes.iter().map(runtime).collect()
}

fn alone(value: f64) -> Series {
    Series::from([(String::new(), value)])
}

fn labels(labels: &[(&str, &str)]) -> String {
    let quoted = |value: &str| printable(value).replace('\\', "\\\\").replace('"', "\\\"");
    let pairs: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", quoted(value))).collect();
    format!("{{{}}}", pairs.join(","))
}
