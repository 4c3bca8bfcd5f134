//! What counts as an earlier boot's, and when nothing does.

mod fixtures;

use model::attachment::RecordSeen;
use model::{Namespace, NsInode, Snapshot, StaleFile, Task, Timestamp};
use podplumb_analyze::{Boot, boot};

use fixtures::{POD, lease};

const EARLIEST: Timestamp = Timestamp(1_800_000_000_000);
const BEFORE: Timestamp = Timestamp(1_799_999_999_999);

/// A node with a lease, a cache entry, a record and a stale file of an earlier boot.
fn node() -> Snapshot {
    let text = format!(
        r#"{{"version": 1, "taken_at": {now},
        "node": {{"hostname": "n", "kernel": "6.18", "boot_id": "now", "booted_at": {now}}},
        "namespaces": [{{"host": true, "inode": 1, "readable": true}}],
        "cache": [{{"path": "/var/lib/cni/results/pods-{POD}-eth0", "digest": 7, "since": {before},
            "key": {{"network": "pods", "container": "{POD}", "ifname": "eth0"}},
            "plugins": ["bridge"], "ipam": ["host-local"]}}],
        "records": [{{"version": 2, "network": "pods", "container": "{POD}", "ifname": "eth0", "plugin": "bridge",
            "boot_id": "earlier", "netns": "/run/netns/x", "created": {before}}}]}}"#,
        now = EARLIEST.0 + 1000,
        before = BEFORE.0,
    );
    let mut snapshot = Snapshot::from_json(text.as_bytes()).unwrap();
    snapshot.records[0].seen = Some(RecordSeen { path: "/run/podplumb/attachments/x".into(), locked: false });
    snapshot.leases.push(lease(BEFORE));
    let path = "/run/netns/cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e01".into();
    snapshot.stale_files.push(StaleFile { path, since: BEFORE, size_bytes: 0, inode: 5 });
    snapshot
}

fn after(change: impl FnOnce(&mut Snapshot)) -> (Vec<String>, usize) {
    let mut snapshot = node();
    change(&mut snapshot);
    let Boot { plan, left } = boot(&snapshot, EARLIEST);
    (plan.steps.iter().map(|step| step.operation.to_string()).collect(), left.len())
}

#[test]
fn everything_of_an_earlier_boot_is_copied_first_and_then_removed() {
    let (steps, left) = after(|_| {});
    let begins = [
        "copy cache",
        "copy lease",
        "copy record",
        "remove cache",
        "release lease",
        "remove record",
        "remove empty",
    ];
    assert_eq!((steps.len(), left), (begins.len(), 0), "{steps:#?}");
    for (step, begin) in steps.iter().zip(begins) {
        assert!(step.starts_with(begin), "{step} {begin}");
    }
}

#[test]
fn what_may_be_of_this_boot_or_somebody_elses_stays() {
    let about = |what: &str, change: fn(&mut Snapshot)| {
        let (steps, left) = after(change);
        (steps.iter().filter(|step| step.contains(what)).count(), left)
    };
    assert_eq!(about("lease", |s| s.leases[0].since = EARLIEST), (0, 0), "of this boot");
    assert_eq!(about("lease", |s| s.leases[0].locked = true), (0, 1));
    assert_eq!(
        about("lease", |s| s.leases[0].content = format!("{POD}\r\neth0\n")),
        (0, 1),
        "edited by hand"
    );
    let reserved = |s: &mut Snapshot| {
        (s.leases[0].container, s.leases[0].ifname) = (Some("router".parse().unwrap()), None);
        s.leases[0].content = "router".into();
    };
    assert_eq!(about("lease", reserved), (0, 1));
    let empty = |s: &mut Snapshot| {
        (s.leases[0].container, s.leases[0].ifname) = (None, None);
        s.leases[0].content = String::new();
    };
    assert_eq!(about("lease", empty), (2, 0));
    let used = |s: &mut Snapshot| {
        let mut link = model::Link { name: "tap0".into(), ..model::Link::default() };
        link.addresses.push("10.0.0.2/24".parse().unwrap());
        s.namespaces[0].links.push(link);
    };
    assert_eq!(about("lease", used), (0, 1), "a virtual machine may have it");
    assert_eq!(about("cache", |s| s.cache[0].since = EARLIEST), (0, 1), "and its container's lease with it");
    assert_eq!(about("cache", |s| s.cache[0].ipam = vec!["whereabouts".into()]), (0, 2));
    assert_eq!(about("record", |s| s.records[0].boot_id = "now".parse().unwrap()), (0, 0));
    assert_eq!(about("empty", |s| s.stale_files[0].size_bytes = 1), (0, 1));
    assert_eq!(about("empty", |s| s.stale_files[0].since = EARLIEST), (0, 0));
}

#[test]
fn nothing_is_of_an_earlier_boot_once_containers_run() {
    let objects = |change: fn(&mut Snapshot)| {
        let mut snapshot = node();
        change(&mut snapshot);
        !boot::objections(&snapshot).is_empty()
    };
    use podplumb_analyze::boot;
    assert!(!objects(|_| {}));
    let task = |command: &str| Task { pid: 7, tid: None, command: command.into() };
    assert!(!objects(|s| s.namespaces[0].tasks.push(Task { pid: 7, tid: None, command: "systemd".into() })));
    for command in ["containerd", "containerd-shim", "dockerd", "crio", "conmon", "podman"] {
        let mut snapshot = node();
        snapshot.namespaces[0].tasks.push(task(command));
        assert!(!boot::objections(&snapshot).is_empty(), "{command}");
    }
    assert!(objects(|s| s.namespaces.push(Namespace {
        inode: Some(NsInode(2)),
        pins: vec![model::Pin {
            path: "/run/netns/cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e02".into(),
            seen_by: None,
            since: None
        }],
        readable: true,
        ..Namespace::default()
    })));
    assert!(objects(|s| s.coverage.push(model::Gap {
        source: model::Source::Processes,
        object: "/proc/7".into(),
        why: "no".into()
    })));
}
