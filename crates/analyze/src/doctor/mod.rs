//! What is wrong with a node's container network, and what to do about it.
//!
//! A check is a line of [`CHECKS`]: what it is about, why that matters, and a function of the [`Ground`], which is
//! the snapshot and what was joined from it once. What a check cannot know it says ([`Findings::blind`]): it was then not made, or not
//! completely, which is never the same as fine. A check is only about what is configured on this node: forwarding that is off is no
//! error where nobody has to be forwarded.

mod addresses;
mod bridges;
mod cni;
mod filter;
mod forwarding;
mod ground;
mod hairpin;
mod kernel;
mod lookup;
mod mtu;
mod pmtu;
mod pools;
mod routing;
mod runtimes;
mod station_twice;
mod tables;
#[cfg(test)]
mod testing;
mod udp_port;
mod vxlan;

use std::collections::BTreeSet;

use model::{Snapshot, Timestamp};
use serde::Serialize;

pub use ground::{Ground, Pod, Wire};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Packets are lost, or pods cannot start.
    Error,
    /// It goes wrong for some packets, or will soon.
    Warning,
    /// Worth knowing; nothing has to be done.
    Notice,
}

impl Severity {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Notice => "notice",
        }
    }
}

/// One thing that can be wrong.
#[derive(Debug)]
pub struct Check {
    /// A stable name.
    pub id: &'static str,
    /// What is fine when it finds nothing.
    pub title: &'static str,
    /// How bad it is, as a rule.
    pub severity: Severity,
    /// What it looks at, and why that matters.
    pub why: &'static str,
    /// How to see it by hand.
    pub see: &'static str,
    /// How to mend it.
    pub fix: &'static str,
    /// Where that is told.
    pub source: &'static str,
    run: fn(&Ground<'_>, &mut Findings),
}

/// All checks, in the order in which they are made.
pub static CHECKS: &[&[Check]] = &[
    forwarding::CHECKS,
    addresses::CHECKS,
    routing::CHECKS,
    filter::CHECKS,
    mtu::CHECKS,
    pmtu::CHECKS,
    bridges::CHECKS,
    hairpin::CHECKS,
    vxlan::CHECKS,
    udp_port::CHECKS,
    station_twice::CHECKS,
    pools::CHECKS,
    tables::CHECKS,
    cni::CHECKS,
    runtimes::CHECKS,
    kernel::CHECKS,
];

/// All checks.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    CHECKS.iter().flat_map(|theme| theme.iter())
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// With what: an interface, a pod, a file.
    pub object: String,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub fix: String,
}

/// What became of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Made {
    /// The check.
    pub check: &'static str,
    /// What it could not look at, and why; empty when it saw everything that it needs.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub not_checked: BTreeSet<String>,
    /// How many findings it has.
    pub findings: usize,
}

/// What all checks found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// When the node was looked at.
    pub taken_at: Timestamp,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
    /// The checks that were made.
    pub checks: Vec<Made>,
}

impl Diagnosis {
    /// How many findings are as bad as this.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Whether something has to be done.
    pub fn is_ill(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity < Severity::Notice)
    }
}

/// Where a check puts what it finds.
#[derive(Debug)]
pub struct Findings {
    check: &'static Check,
    found: Vec<Finding>,
    blind: BTreeSet<String>,
}

impl Findings {
    /// Something is wrong, as bad as the check says.
    fn add(&mut self, object: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) {
        self.add_as(self.check.severity, object, found, fix);
    }

    /// Something is wrong, and worse or less bad than the check says.
    fn add_as(
        &mut self,
        severity: Severity,
        object: impl Into<String>,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.found.push(Finding {
            check: self.check.id,
            severity,
            object: object.into(),
            found: found.into(),
            fix: fix.into(),
        });
    }

    /// Something could not be looked at.
    fn blind(&mut self, why: impl Into<String>) {
        self.blind.insert(why.into());
    }
}

/// Makes the checks that are wanted.
pub fn doctor(snapshot: &Snapshot, is_wanted: impl Fn(&Check) -> bool) -> Diagnosis {
    let ground = Ground::new(snapshot);
    let mut diagnosis = Diagnosis { taken_at: snapshot.taken_at, findings: Vec::new(), checks: Vec::new() };
    for check in checks().filter(|check| is_wanted(check)) {
        let mut findings = Findings { check, found: Vec::new(), blind: BTreeSet::new() };
        if ground.host.is_some() {
            (check.run)(&ground, &mut findings);
        } else {
            findings.blind("the snapshot does not have the host's network namespace");
        }
        let Findings { found, blind, .. } = findings;
        diagnosis.checks.push(Made { check: check.id, not_checked: blind, findings: found.len() });
        diagnosis.findings.extend(found);
    }
    // Stable: within a severity, checks stay in their order.
    diagnosis.findings.sort_by_key(|finding| finding.severity);
    diagnosis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_has_a_name_of_its_own_and_an_explanation() {
        let mut ids = BTreeSet::new();
        for check in checks() {
            assert!(ids.insert(check.id), "{} twice", check.id);
            assert!(check.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            for text in [check.title, check.why, check.see, check.fix] {
                assert!(
                    text.len() > 8 && !text.contains('\n') && !text.contains("  "),
                    "{}: {text}",
                    check.id
                );
            }
            assert!(check.source.starts_with("https://"), "{}", check.id);
        }
        assert!(ids.len() > 30);
    }

    #[test]
    fn a_snapshot_without_a_host_is_not_fine() {
        let mut snapshot = testing::node();
        snapshot.namespaces.clear();
        let diagnosis = doctor(&snapshot, |_| true);
        assert!(diagnosis.checks.iter().all(|made| !made.not_checked.is_empty()));
    }

    #[test]
    fn a_healthy_node_has_nothing_and_all_was_looked_at() {
        let diagnosis = doctor(&testing::node(), |_| true);
        assert_eq!(diagnosis.findings, []);
        let blind: Vec<_> = diagnosis.checks.iter().filter(|made| !made.not_checked.is_empty()).collect();
        assert!(blind.is_empty(), "{blind:#?}");
    }
}
