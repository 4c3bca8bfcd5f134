//! What the kernel's own list of namespaces says, and what that means for those that seem to be gone.

use std::time::Duration;

use model::{Holder, Keeper, Namespace, NsId, NsInode, Snapshot, Sockets, Source, Task, TcpConnection};
use podplumb_analyze::{Verdict, leaks};

const GRACE: Duration = Duration::from_secs(60);
const CONTAINER: &str = "0123456789abcdef";

/// A lease and the record of an attachment, whose namespace is gone.
fn gone() -> Snapshot {
    let record = format!(
        r#"{{"version": 2, "network": "pods", "container": "{CONTAINER}", "ifname": "eth0",
            "plugin": "bridge", "boot_id": "boot", "netns": "/run/netns/x", "ns_id": 42, "ns_inode": 4026532290,
            "created": 1}}"#
    );
    let text = format!(
        r#"{{"version": 1, "taken_at": 1800000000000, "runtime_none": true,
            "namespaces": [{{"host": true, "inode": 4026531840, "readable": true}}],
            "node": {{"hostname": "n", "kernel": "6.18", "boot_id": "boot", "booted_at": 0}},
            "records": [{record}]}}"#
    );
    Snapshot::from_json(text.as_bytes()).expect("a snapshot")
}

/// Its namespace, which only the list knew of.
fn listed(snapshot: &mut Snapshot) -> &mut Namespace {
    snapshot.namespaces.push(Namespace {
        inode: Some(NsInode(4026532290)),
        ns_id: Some(NsId(42)),
        sockets: Some(Sockets { total: 0, tcp_orphans: 0 }),
        readable: true,
        ..Namespace::default()
    });
    snapshot.namespaces.last_mut().expect("just added")
}

fn verdict(change: impl FnOnce(&mut Snapshot)) -> (Verdict, &'static str) {
    let mut snapshot = gone();
    change(&mut snapshot);
    let findings = leaks(&snapshot, None, GRACE).findings;
    let is_its = |finding: &&podplumb_analyze::Finding| {
        finding.container.as_ref().is_some_and(|id| id.as_str() == CONTAINER)
    };
    let finding = findings.iter().find(is_its).expect("a finding");
    (finding.ruling.verdict, finding.ruling.because.code)
}

#[test]
fn a_namespace_that_only_the_list_has_is_never_an_orphans() {
    assert_eq!(verdict(|_| ()), (Verdict::Orphan, "namespace-gone"));
    assert_eq!(verdict(|s| drop(listed(s).clone())), (Verdict::Unknown, "unread"));
    let socket = Sockets { total: 1, tcp_orphans: 0 };
    assert_eq!(verdict(|s| listed(s).sockets = Some(socket)), (Verdict::InUse, "socket"));
    assert_eq!(verdict(|s| listed(s).readable = false), (Verdict::Unknown, "unread"));
    let task = Task { pid: 9, tid: None, command: "agent".into() };
    let keeper = Keeper { task, container: None };
    let message = Holder::Message { keeper, fd: 5, carries: "its descriptor".into() };
    assert_eq!(verdict(|s| listed(s).holders = vec![message]), (Verdict::Unknown, "holder"));
}

/// It was opened after sockets were counted.
#[test]
fn a_connection_that_nobody_has_does_not_explain_a_namespace_without_sockets() {
    let connection: TcpConnection = serde_json::from_str(
        r#"{"local": "10.0.0.2:1", "remote": "10.0.0.1:2", "state": "fin-wait1", "timer": "off", "expires_ms": 0,
            "retransmits": 0, "rto_ms": 0, "queued_bytes": 0, "cookie": 1}"#,
    )
    .expect("a connection");
    let orphan = Holder::TcpOrphan { connection };
    assert_eq!(verdict(|s| listed(s).holders = vec![orphan]), (Verdict::Unknown, "unread"));
}

#[test]
fn where_some_on_the_list_could_not_be_opened_nothing_is_gone() {
    let gap = |source| {
        move |s: &mut Snapshot| {
            s.coverage = vec![model::Gap { source, object: "list".into(), why: "2 live".into() }];
        }
    };
    assert_eq!(verdict(gap(Source::Enumeration)), (Verdict::Unknown, "unread"));
    assert_eq!(verdict(gap(Source::Configs)), (Verdict::Orphan, "namespace-gone"));
    let not_walked = model::Enumeration::NotWalked { why: "no BTF".into() };
    assert_eq!(verdict(|s| s.enumeration = Some(not_walked)), (Verdict::Orphan, "namespace-gone"));
}
