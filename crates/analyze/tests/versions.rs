//! Versions that are known to go wrong.

use model::Snapshot;
use podplumb_analyze::versions::{Versions, versions};

fn node(runtimes: &[(&str, &str)], plugins: &[(&str, Option<&str>)]) -> Versions {
    let runtimes: Vec<_> = runtimes
        .iter()
        .map(|(kind, version)| {
            let status = serde_json::json!({"state": "answered", "version": version});
            serde_json::json!({"kind": kind, "endpoint": "/run/r.sock", "status": status})
        })
        .collect();
    let plugins: Vec<_> = plugins
        .iter()
        .map(|(kind, version)| {
            let path = format!("/opt/cni/bin/{kind}");
            serde_json::json!({"kind": kind, "path": path, "package": "github.com/x", "version": version})
        })
        .collect();
    let snapshot = serde_json::json!({"version": 1, "taken_at": 0, "namespaces": [], "runtimes": runtimes, "plugins": plugins,
        "node": {"hostname": "n", "kernel": "6", "boot_id": "b", "booted_at": 0}});
    versions(&Snapshot::from_json(snapshot.to_string().as_bytes()).unwrap())
}

fn sources(found: &Versions) -> Vec<&str> {
    found.warnings.iter().map(|warning| warning.source.rsplit('/').next().unwrap()).collect()
}

#[test]
fn bounds_are_inclusive_below_and_exclusive_above() {
    for (version, wanted) in [
        ("1.4.6", &["5569", "5768"][..]),
        ("1.4.7", &["5768"]),
        ("1.5.2", &["5569"]),
        ("1.5.3", &[]),
        ("1.6.8", &["5768"]),
        ("1.6.9", &["7848"]),
        ("1.6.14", &["7848"]),
        ("1.6.15", &[]),
        ("v2.1.4", &[]),
    ] {
        assert_eq!(sources(&node(&[("containerd", version)], &[])), wanted, "{version}");
    }
    assert_eq!(sources(&node(&[("cri-o", "1.16.6")], &[])), ["3736", "9372"]);
    assert!(sources(&node(&[("docker", "1.16.6")], &[])).is_empty(), "another runtime's number");
}

#[test]
fn a_pair_needs_both() {
    let pair =
        |runtime: &str, loopback: Option<&str>| node(&[("containerd", runtime)], &[("loopback", loopback)]);
    let found = pair("1.6.3", Some("v0.9.1"));
    assert_eq!(sources(&found), ["5768", "6876"]);
    let subject = &found.warnings[1].subject;
    assert_eq!(subject, "containerd 1.6.3 at /run/r.sock with loopback v0.9.1 at /opt/cni/bin/loopback");
    assert_eq!(sources(&pair("1.6.3", Some("v1.0.0"))), ["5768"]);
    assert_eq!(sources(&pair("1.6.4", Some("v0.9.1"))), ["5768"]);
    let unknown = pair("1.6.3", None);
    assert_eq!(sources(&unknown), ["5768"]);
    assert_eq!(unknown.unknown, ["loopback of an unknown version at /opt/cni/bin/loopback"]);
}

#[test]
fn a_distributions_version_may_be_mended() {
    let found = node(&[("containerd", "1.6.14-k3s1")], &[]);
    assert!(found.warnings[0].what.ends_with("(unless the distribution has mended it)"));
    let found = node(&[("containerd", "1.6.14")], &[("host-device", Some("v1.7.1"))]);
    assert_eq!(sources(&found), ["7848", "1196"]);
    assert!(found.warnings.iter().all(|warning| !warning.what.contains("unless")));
    assert!(node(&[], &[]).unknown.is_empty());
}
