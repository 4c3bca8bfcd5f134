//! `podplumb report`: what is in the archive, and what is not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use podplumb_tests::{Podplumb, World, output, require, run};
use serde_json::json;

const NEEDS: [&str; 2] = ["tar", "mount"];

/// What nobody outside is to know.
const SECRETS: [&str; 13] = [
    "db7.example",
    "payroll",
    "salaries",
    "ledger",
    "wages",
    "accounts",
    "bonuses",
    "audits",
    "10.244.",
    "203.0.113.",
    "2001:db8:",
    "0a:58:0a:f4",
    "a4:bb:6d",
];

fn snapshot() -> String {
    let pod =
        json!({"namespace": "payroll", "name": "salaries-0", "uid": "11112222-3333-4444-5555-666677778888"});
    json!({
        "version": 1, "taken_at": 1_000_000,
        "node": {"hostname": "db7.example.com", "kernel": "6.18.0", "boot_id": "b", "booted_at": 0},
        "namespaces": [
            {"host": true, "inode": 1, "readable": true, "links": [
                {"index": 2, "name": "eth0", "mtu_bytes": 1500, "up": true, "carrier": true, "mac": "a4:bb:6d:00:00:01",
                 "addresses": ["203.0.113.7/24", "2001:db8:5::7/64"]},
                {"index": 3, "name": "veth3", "kind": "veth", "mtu_bytes": 1500, "up": true, "carrier": true,
                 "mac": "0a:58:0a:f4:01:ff", "peer": {"index": 2, "nsid": 0}}]},
            {"inode": 2, "ns_id": 2, "nsid": 0, "readable": true, "tasks": [{"pid": 9, "command": "postgres"}], "links": [
                {"index": 2, "name": "eth0", "kind": "veth", "mtu_bytes": 1500, "up": true, "carrier": true,
                 "mac": "0a:58:0a:f4:01:02", "peer": {"index": 3, "nsid": 1}, "addresses": ["10.244.1.2/24"]}]}],
        "runtimes": [{"kind": "containerd", "endpoint": "/run/containerd/containerd.sock",
            "status": {"state": "answered", "version": "1.7.0"},
            "objects": [
                {"id": "7d0c1e5b9a3f4d22", "kind": "sandbox", "state": "Ready", "pid": 9, "pod": pod, "addresses": ["10.244.1.2"]},
                {"id": "7d0c1e5b9a3f4d23", "kind": "container", "state": "running", "name": "ledger", "pod": pod,
                 "sandbox": "7d0c1e5b9a3f4d22"}]}],
        "leases": [{"path": "/var/lib/cni/networks/pods/10.244.1.3", "network": "pods", "address": "10.244.1.3",
            "container": "b52f08c96e1d0000", "ifname": "eth0", "content": "b52f08c96e1d0000", "since": 0}],
        "routes": [{"destination": "10.244.0.0/16", "gateway": "203.0.113.1", "device": 2, "table": 254}],
        "neighbours": [{"address": "203.0.113.1", "mac": "a4:bb:6d:00:00:fe", "device": 2, "state": 2}],
        "heard": {"b52f08c96e1d0000": {"path": "/var/log/syslog",
            "line": "teardown of payroll/salaries-1 (ledger) 10.244.1.3 at db7.example.com failed \
                     for &PodSandboxMetadata{Name:wages-9,Uid:1234,Namespace:accounts,Attempt:0,} accounts_wages-8_77"}},
        "log": {"unread": ["/var/log/messages on db7.example.com: Permission denied"], "lines": [
            {"at": 999_000, "path": "/var/log/containerd.log", "containers": ["b52f08c96e1d0000"],
             "line": "StopPodSandbox for K8S_POD_NAMESPACE=audits;K8S_POD_NAME=bonuses-3 at 10.244.1.3"},
            {"path": "/var/log/syslog", "line": "plugin type=bridge failed for audits/bonuses-3: no route to 203.0.113.9"}]},
        "coverage": [{"source": "namespace", "object": "/var/run/netns/x", "why": "dial tcp 203.0.113.9:443: refused"}],
    })
    .to_string()
}

/// The archive's files, one after the other, each with its name.
fn unpacked(archive: &Path) -> String {
    let archive = archive.to_str().unwrap();
    let names = output("tar", &["tzf", archive]);
    assert!(
        String::from_utf8_lossy(&names.stdout).starts_with("podplumb-report/CONTENTS.txt\n"),
        "{names:?}"
    );
    let text = output("tar", &["xzOf", archive]);
    assert!(text.status.success(), "{text:?}");
    String::from_utf8(text.stdout).unwrap()
}

#[test]
fn a_redacted_report_has_everything_but_addresses_and_names() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let (from, plain, redacted) = (
        world.path().join("node.json"),
        world.path().join("plain.tar.gz"),
        world.path().join("redacted.tar.gz"),
    );
    std::fs::write(&from, snapshot()).unwrap();
    let report = |options: &[&str]| {
        let all: Vec<&str> =
            ["report", "--from", from.to_str().unwrap()].into_iter().chain(options.iter().copied()).collect();
        Podplumb::default().run(&all)
    };
    let listed = report(&["--list", plain.to_str().unwrap()]);
    assert!(listed.status.success() && !plain.exists());
    let list = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(list.contains("snapshot.json") && list.contains("as they are"), "{list}");
    let logs = list.lines().find(|line| line.contains("logs.txt")).unwrap();
    assert!(logs.ends_with("   10      1  what logs say of these, and of CNI's errors"), "{list}");
    assert!(list.lines().all(|line| line.chars().count() <= 80), "{list}");

    assert!(report(&[plain.to_str().unwrap()]).status.success());
    let text = unpacked(&plain);
    for secret in SECRETS {
        assert!(text.contains(secret), "the test is about what is there: {secret} in {text}");
    }
    assert_eq!(plain.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    assert!(report(&["--redact", redacted.to_str().unwrap()]).status.success());
    let text = unpacked(&redacted);
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    for kept in ["7d0c1e5b9a3f4d22", "postgres", "ns-3/pod-2", "node-1", "veth3", "containerd"] {
        assert!(text.contains(kept), "{kept} in {text}");
    }
    // What is in it is a snapshot that podplumb reads.
    run("tar", &["xzf", redacted.to_str().unwrap(), "-C", world.path().to_str().unwrap()]);
    let inside = world.path().join("podplumb-report/snapshot.json");
    let map = Podplumb::default().expect(0, &["map", "--from", inside.to_str().unwrap()]);
    assert!(map.contains("ns-3/pod-2"), "{map}");
}

#[test]
fn a_report_replaces_no_file_and_leaves_no_half_of_one() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let from = world.path().join("node.json");
    std::fs::write(&from, snapshot()).unwrap();
    let report = |file: &Path| {
        Podplumb::default().run(&["report", "--from", from.to_str().unwrap(), file.to_str().unwrap()])
    };
    let taken = world.path().join("taken.tar.gz");
    std::fs::write(&taken, "mine").unwrap();
    let refused = report(&taken);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("hint: give another name"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&taken).unwrap(), "mine");

    let small = world.path().join("small");
    std::fs::create_dir(&small).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=4k,nr_inodes=8", "none", small.to_str().unwrap()]);
    std::fs::write(small.join("fill"), [0; 4096]).unwrap();
    let full = report(&small.join("report.tar.gz"));
    assert_eq!(full.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&full.stderr).contains("No space left"), "{full:?}");
    assert!(!small.join("report.tar.gz").exists());
}
