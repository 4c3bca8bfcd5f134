//! Versions of runtimes and plugins that are known to leak, or not to go together, each with where that is told.
//!
//! A line goes here with a source that names the versions. Where a source leaves open whether a branch has the fix, the branch is
//! not listed: a warning that is wrong costs trust.

use model::{RuntimeKind, RuntimeStatus, Snapshot};
use serde::Serialize;

/// From a version, inclusive, to another, exclusive.
type Range = ([u32; 3], [u32; 3]);

/// Something about versions that is known to go wrong.
#[derive(Debug)]
struct Known {
    /// A runtime of one of these versions.
    runtime: Option<(RuntimeKind, &'static [Range])>,
    /// A plugin, by its type, of one of these versions. With a runtime: both together.
    plugin: Option<(&'static str, &'static [Range])>,
    what: &'static str,
    source: &'static str,
}

const FIRST: [u32; 3] = [0, 0, 0];

const KNOWN: [Known; 8] = [
    Known {
        runtime: Some((RuntimeKind::Containerd, &[(FIRST, [1, 4, 7]), ([1, 5, 0], [1, 5, 3])])),
        plugin: None,
        what: "when making a pod takes too long, its network is not torn down, and its address leaks",
        source: "https://github.com/containerd/containerd/pull/5569",
    },
    Known {
        runtime: Some((RuntimeKind::Containerd, &[(FIRST, [1, 5, 0]), ([1, 6, 0], [1, 6, 9])])),
        plugin: None,
        what: "a pod that fails to start, and whose DEL fails too, is forgotten with its network",
        source: "https://github.com/containerd/containerd/issues/5768",
    },
    Known {
        runtime: Some((RuntimeKind::Containerd, &[([1, 6, 9], [1, 6, 15])])),
        plugin: None,
        what: "after its restart it does not know its pods' addresses, and kubelet makes all pods again",
        source: "https://github.com/containerd/containerd/pull/7848",
    },
    Known {
        runtime: Some((RuntimeKind::Containerd, &[([1, 6, 3], [1, 6, 4])])),
        plugin: Some(("loopback", &[(FIRST, [1, 0, 0])])),
        what: "it calls loopback with CNI 1.0.0, which this loopback refuses: no pod starts",
        source: "https://github.com/containerd/containerd/issues/6876",
    },
    Known {
        runtime: Some((RuntimeKind::CriO, &[([1, 14, 11], [1, 16, 7])])),
        plugin: None,
        what: "the network namespaces of removed pods stay mounted",
        source: "https://github.com/cri-o/cri-o/issues/3736",
    },
    Known {
        runtime: Some((RuntimeKind::CriO, &[(FIRST, [1, 33, 0])])),
        plugin: None,
        what: "when a pod's namespace is gone, as after a reboot, DEL is not called, and its address leaks",
        source: "https://github.com/cri-o/cri-o/pull/9372",
    },
    Known {
        runtime: None,
        plugin: Some(("host-device", &[(FIRST, [1, 9, 2])])),
        what: "when a pod's namespace is gone, as after a reboot, its DEL does not release the address",
        source: "https://github.com/containernetworking/plugins/issues/1196",
    },
    Known {
        runtime: None,
        plugin: Some(("aws-cni", &[([1, 10, 2], [1, 10, 3])])),
        what: "its DEL does nothing when the namespace is gone, and the address leaks",
        source: "https://github.com/aws/amazon-vpc-cni-k8s/issues/1939",
    },
];

/// What a version on this node is known for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Runtime and plugin, with their versions.
    pub subject: String,
    /// What goes wrong.
    pub what: String,
    /// Where that is told.
    pub source: String,
}

/// What is known, and whose versions are not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// Known to go wrong.
    pub warnings: Vec<Warning>,
    /// Runtimes and plugins that there are warnings about, of which nobody says the version.
    pub unknown: Vec<String>,
}

/// A runtime or plugin of which something is known.
struct Candidate {
    subject: String,
    version: Option<([u32; 3], bool)>,
}

impl Candidate {
    fn is_in(&self, ranges: &[Range]) -> bool {
        self.version
            .is_some_and(|(version, _)| ranges.iter().any(|(from, to)| (*from..*to).contains(&version)))
    }
}

/// Compares the versions on a node with those that are known to go wrong.
pub fn versions(snapshot: &Snapshot) -> Versions {
    let mut found = Versions::default();
    for known in &KNOWN {
        let runtimes = known.runtime.map(|(kind, _)| runtimes(snapshot, kind));
        let plugins = known.plugin.map(|(kind, _)| plugins(snapshot, kind));
        for candidate in
            runtimes.iter().chain(&plugins).flatten().filter(|candidate| candidate.version.is_none())
        {
            if !found.unknown.contains(&candidate.subject) {
                found.unknown.push(candidate.subject.clone());
            }
        }
        let bad = |candidates: Option<Vec<Candidate>>, ranges: Option<&[Range]>| match (candidates, ranges) {
            (Some(candidates), Some(ranges)) => {
                candidates.into_iter().filter(|candidate| candidate.is_in(ranges)).map(Some).collect()
            }
            // There is no condition on it.
            _ => vec![None],
        };
        let bad_plugins = bad(plugins, known.plugin.map(|(_, ranges)| ranges));
        for runtime in bad(runtimes, known.runtime.map(|(_, ranges)| ranges)) {
            for plugin in &bad_plugins {
                let both: Vec<&Candidate> = runtime.iter().chain(plugin).collect();
                let subject: Vec<&str> = both.iter().map(|candidate| candidate.subject.as_str()).collect();
                let patched =
                    both.iter().any(|candidate| candidate.version.is_some_and(|(_, suffix)| suffix));
                let unless = if patched { " (unless the distribution has mended it)" } else { "" };
                found.warnings.push(Warning {
                    subject: subject.join(" with "),
                    what: format!("{}{unless}", known.what),
                    source: known.source.to_owned(),
                });
            }
        }
    }
    found
}

fn runtimes(snapshot: &Snapshot, kind: RuntimeKind) -> Vec<Candidate> {
    let own = snapshot.runtimes.iter().filter(|runtime| runtime.kind == kind);
    let answered = own.filter_map(|runtime| match &runtime.status {
        // One that is silent is told of as silent.
        RuntimeStatus::Silent { .. } => None,
        RuntimeStatus::Answered { version } => Some((runtime, version)),
    });
    let candidate = |(runtime, version): (&model::Runtime, &String)| Candidate {
        subject: format!("{} {version} at {}", runtime.kind, runtime.endpoint.display()),
        version: parse(version),
    };
    answered.map(candidate).collect()
}

fn plugins(snapshot: &Snapshot, kind: &str) -> Vec<Candidate> {
    // podplumb's own has the reference's names, and none of its history: it is no Go program.
    let own = snapshot.plugins.iter().filter(|plugin| plugin.kind == kind && plugin.package.is_some());
    let candidate = |plugin: &model::PluginBinary| {
        let version = plugin.version.as_deref().unwrap_or("of an unknown version");
        Candidate {
            subject: format!("{kind} {version} at {}", plugin.path.display()),
            version: plugin.version.as_deref().and_then(parse),
        }
    };
    own.map(candidate).collect()
}

/// Three numbers, and whether something follows them (`~ds1-1`, `-k3s1`): a distribution's own, which may be mended.
fn parse(version: &str) -> Option<([u32; 3], bool)> {
    // CRI's answer begins with the runtime's name: `containerd 1.6.20~ds1`.
    let version = version.split_whitespace().next_back()?.trim_start_matches('v');
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    let mut numbers = version[..end].trim_end_matches('.').split('.').map(|number| number.parse().ok());
    let mut next = || numbers.next().unwrap_or(Some(0));
    let parsed = [next()?, next()?, next()?];
    Some((parsed, end < version.len())).filter(|_| end > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_runtimes_and_packages_write_them() {
        let table = [
            ("1.6.20~ds1", Some(([1, 6, 20], true))),
            ("containerd 1.6.20~ds1", Some(([1, 6, 20], true))),
            ("v1.6.14-k3s1", Some(([1, 6, 14], true))),
            ("1.1.1+ds1-3+b5", Some(([1, 1, 1], true))),
            ("v2.0.0", Some(([2, 0, 0], false))),
            ("1.34", Some(([1, 34, 0], false))),
            ("", None),
            ("unknown", None),
            ("1..2", None),
            ("99999999999.0.0", None),
        ];
        for (text, parsed) in table {
            assert_eq!(parse(text), parsed, "{text:?}");
        }
    }

    #[test]
    fn each_line_has_ranges_a_condition_and_a_source() {
        for known in &KNOWN {
            assert!(known.runtime.is_some() || known.plugin.is_some());
            let ranges =
                known.runtime.iter().map(|(_, ranges)| ranges).chain(known.plugin.iter().map(|(_, r)| r));
            assert!(ranges.into_iter().all(|ranges| ranges.iter().all(|(from, to)| from < to)), "{known:?}");
            assert!(known.source.starts_with("https://github.com/"), "{known:?}");
        }
    }
}
