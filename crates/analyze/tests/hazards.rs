//! What is only told, on nodes written by hand.

use std::time::Duration;

use model::Snapshot;
use podplumb_analyze::leaks;

const POD: &str = "7d0c1e5b9a3f4d22";

/// Podman has leased 10.88.0.2 to a container; its store answered, and has another one.
fn node() -> Snapshot {
    let text = format!(
        r#"{{"version": 1, "taken_at": 1800000000000,
        "node": {{"hostname": "n", "kernel": "6.18", "boot_id": "now", "booted_at": 1700000000000}},
        "namespaces": [{{"host": true, "inode": 1, "readable": true}}],
        "runtimes": [{{"kind": "podman", "endpoint": "/var/lib/containers/storage",
            "status": {{"state": "answered", "version": ""}},
            "objects": [{{"id": "ffff", "kind": "container", "state": "in the store"}}]}}],
        "podman_leases": [{{"network": "podman", "address": "10.88.0.2", "container": "{POD}"}},
            {{"network": "podman", "address": "10.88.0.3", "container": "ffff"}}]}}"#
    );
    Snapshot::from_json(text.as_bytes()).unwrap()
}

fn told(change: impl FnOnce(&mut Snapshot)) -> Vec<String> {
    let mut snapshot = node();
    change(&mut snapshot);
    let found = leaks(&snapshot, None, Duration::ZERO);
    assert!(found.findings.is_empty(), "what only Podman's database names is no finding: {found:?}");
    found.hazards.iter().map(|hazard| format!("{} {}", hazard.code, hazard.object)).collect()
}

#[test]
fn a_lease_that_podman_forgot_is_told_if_all_that_could_have_it_was_seen() {
    assert_eq!(told(|_| {}), ["forgotten-podman-lease 10.88.0.2"]);
    assert_eq!(told(|snapshot| snapshot.podman_leases[0].container = "ffff".parse().unwrap()), [""; 0]);
    let silent = model::RuntimeStatus::Silent { why: "half a list".into() };
    assert_eq!(told(|snapshot| snapshot.runtimes[0].status = silent), [""; 0]);
    assert_eq!(told(|snapshot| snapshot.namespaces[0].readable = false), [""; 0]);
    for source in [model::Source::Processes, model::Source::Mounts, model::Source::Links] {
        let gap = model::Gap { source, object: "/proc".into(), why: "permission denied".into() };
        assert_eq!(told(|snapshot| snapshot.coverage.push(gap)), [""; 0]);
    }
}

#[test]
fn a_lease_of_dhcp_is_told_if_its_namespace_is_gone_and_nothing_else_names_its_container() {
    let with = |change: &dyn Fn(&mut Snapshot)| {
        told(|snapshot| {
            snapshot.podman_leases.clear();
            snapshot.namespaces[0].ns_id = Some(model::NsId(1));
            snapshot.dhcp_leases.push(model::DhcpLease {
                path: format!("/run/cni/dhcp-leases/lan:{POD}:eth0").into(),
                key: model::AttachmentKey::from_file_name(&format!("lan:{POD}:eth0")).unwrap(),
                address: Some("192.0.2.7".parse().unwrap()),
                netns: "/run/netns/x".into(),
                ns_id: Some(model::NsId(77)),
                // The namespace at this inode has another id.
                ns_inode: model::NsInode(1),
            });
            change(snapshot);
        })
    };
    assert_eq!(with(&|_| {}), ["forgotten-dhcp-lease 192.0.2.7"]);
    assert_eq!(with(&|snapshot| snapshot.dhcp_leases[0].ns_id = Some(model::NsId(1))), [""; 0]);
    // On a kernel without ids, inodes have to do.
    assert_eq!(with(&|snapshot| snapshot.namespaces[0].ns_id = None), [""; 0]);
    assert_eq!(with(&|snapshot| snapshot.runtimes[0].objects[0].id = POD.parse().unwrap()), [""; 0]);
    assert_eq!(with(&|snapshot| snapshot.namespaces[0].readable = false), [""; 0]);
}
