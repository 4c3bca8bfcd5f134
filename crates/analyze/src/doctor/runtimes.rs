//! Runtimes: whether they answer, and what their versions are known for.

use model::RuntimeStatus;

use super::{Check, Findings, Ground, Severity};
use crate::versions::versions;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "runtime-silent",
        title: "every container runtime of the node answers",
        severity: Severity::Warning,
        why: "A runtime that is configured, or that left its state here, does not answer: nobody starts or ends its containers, and whether something is still used cannot be told (podplumb leaks then calls it unknown).",
        see: "systemctl status containerd docker crio; crictl info",
        fix: "start it, or look why it hangs (its log; a full disk; a socket that another process has); if it is not used any more, remove what it left",
        source: "https://kubernetes.io/docs/tasks/debug/debug-cluster/crictl/",
        run: runtime_silent,
    },
    Check {
        id: "known-version",
        title: "no version is known to leak or not to go together",
        severity: Severity::Notice,
        why: "A runtime or plugin of this node is of a version that is known to leave wiring behind, or not to work with another one's. podplumb's table has where each is told.",
        see: "podplumb leaks tells the same on stderr",
        fix: "a newer version",
        source: "https://github.com/containerd/containerd/releases",
        run: known_version,
    },
];

fn runtime_silent(ground: &Ground<'_>, findings: &mut Findings) {
    for runtime in ground.snapshot.runtimes.iter().filter(|runtime| !runtime.foreign) {
        if let RuntimeStatus::Silent { why } = &runtime.status {
            findings.add(
                format!("{} at {}", runtime.kind, runtime.endpoint.display()),
                format!("does not answer: {why}"),
                "start it, or look in its log",
            );
        }
    }
}

fn known_version(ground: &Ground<'_>, findings: &mut Findings) {
    let known = versions(ground.snapshot);
    for warning in known.warnings {
        findings.add(warning.subject, warning.what, format!("a newer version; see {}", warning.source));
    }
    for subject in known.unknown {
        findings.blind(format!("nobody says the version of {subject}"));
    }
}

#[cfg(test)]
mod tests {
    use model::{Runtime, RuntimeKind, RuntimeStatus, Snapshot};

    use super::super::testing::*;

    fn runtime(status: RuntimeStatus) -> impl FnOnce(&mut Snapshot) {
        move |s| {
            s.runtimes.push(Runtime {
                kind: RuntimeKind::Containerd,
                endpoint: "/run/containerd/containerd.sock".into(),
                status,
                objects: Vec::new(),
                foreign: false,
            });
        }
    }

    #[test]
    fn a_runtime_that_does_not_answer_is_found() {
        only(&["runtime-silent"], runtime(RuntimeStatus::Silent { why: "connection refused".into() }));
        assert_eq!(
            found("runtime-silent", runtime(RuntimeStatus::Answered { version: "2.1.0".into() })),
            [""; 0]
        );
    }

    #[test]
    fn a_version_that_is_known_is_told() {
        only(&["known-version"], runtime(RuntimeStatus::Answered { version: "1.6.10".into() }));
        assert!(is_blind("known-version", runtime(RuntimeStatus::Answered { version: "unknown".into() })));
    }
}
