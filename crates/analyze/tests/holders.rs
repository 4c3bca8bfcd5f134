//! Holders joined with whose they are, on small hand-written nodes.

use std::time::Duration;

use model::{
    Holder, IfIndex, Keeper, Link, Namespace, Node, NsId, NsInode, Nsid, Peer, Pin, PodName, Runtime,
    RuntimeKind, RuntimeObject, RuntimeObjectKind, RuntimeStatus, Snapshot, Sockets, Task, TcpConnection,
    TcpState, TcpTimer, Timestamp,
};
use podplumb_analyze::holders::left;
use podplumb_analyze::{Subject, Verdict, holders, leaks};

const AGENT: &str = "7d0c1e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f4d227d0c1e5b9a3f4d22";
const STAMP: &str = "podplumb:pods:4d227d0c1e5b9a3f:eth0";

fn task(pid: u32) -> Task {
    Task { pid, tid: None, command: "agent".into() }
}

fn keeper(pid: u32) -> Keeper {
    Keeper { task: task(pid), container: None }
}

/// A veth into a namespace that nothing is known to hold; each test adds something.
fn node(change: impl FnOnce(&mut Snapshot)) -> Snapshot {
    let veth = Link {
        index: IfIndex(3),
        name: "veth1".into(),
        kind: "veth".into(),
        alias: Some(STAMP.into()),
        peer: Some(Peer { index: IfIndex(2), nsid: Some(Nsid(0)) }),
        ..Link::default()
    };
    let host = Namespace {
        host: true,
        links: vec![veth],
        tasks: vec![task(1)],
        readable: true,
        ..Namespace::default()
    };
    let eth0 = Link {
        index: IfIndex(2),
        name: "eth0".into(),
        kind: "veth".into(),
        peer: Some(Peer { index: IfIndex(3), nsid: Some(Nsid(0)) }),
        ..Link::default()
    };
    let pod = Namespace {
        inode: Some(NsInode(4026532290)),
        ns_id: Some(NsId(42)),
        nsid: Some(Nsid(0)),
        sockets: Some(Sockets { total: 0, tcp_orphans: 0 }),
        links: vec![eth0],
        readable: true,
        ..Namespace::default()
    };
    let mut snapshot = Snapshot {
        version: Snapshot::VERSION,
        taken_at: Timestamp(1_800_000_000_000),
        node: Node {
            hostname: "node".into(),
            kernel: "6.18".into(),
            boot_id: "boot".parse().unwrap(),
            booted_at: Timestamp(0),
        },
        ..serde_json::from_str(
            r#"{"version": 1, "taken_at": 0, "namespaces": [], "runtime_none": true,
                "node": {"hostname": "", "kernel": "", "boot_id": "b", "booted_at": 0}}"#,
        )
        .unwrap()
    };
    snapshot.namespaces = vec![host, pod];
    change(&mut snapshot);
    snapshot
}

fn asked(snapshot: &Snapshot, question: &str) -> Subject {
    let mut subjects = holders(snapshot, question);
    assert_eq!(subjects.len(), 1, "{subjects:#?}");
    subjects.remove(0)
}

fn kinds(subject: &Subject) -> Vec<&'static str> {
    subject.holders.iter().map(|held| held.holder.kind()).collect()
}

fn agent(pid: Option<u32>) -> Runtime {
    let object = RuntimeObject {
        id: AGENT.parse().unwrap(),
        kind: RuntimeObjectKind::Container,
        partition: None,
        name: Some("agent".into()),
        pod: Some(PodName { namespace: "kube-system".into(), name: "agent-x".into(), uid: None }),
        sandbox: None,
        state: "running".into(),
        doubt: None,
        pid,
        netns: None,
        addresses: Vec::new(),
        created: None,
    };
    Runtime {
        kind: RuntimeKind::Containerd,
        endpoint: "/run/containerd/containerd.sock".into(),
        status: RuntimeStatus::Answered { version: "2".into() },
        foreign: false,
        objects: vec![object],
    }
}

#[test]
fn a_holder_is_named_with_its_own_container_and_pod() {
    let by_cgroup = Keeper { container: Some(AGENT.parse().unwrap()), ..keeper(812) };
    for (keeper, pid) in [(by_cgroup, None), (keeper(812), Some(812))] {
        let snapshot = node(|s| {
            s.runtimes = vec![agent(pid)];
            s.namespaces[1].holders = vec![Holder::SocketFd { keeper, fd: 5, what: "UDP".into() }];
            s.namespaces[1].sockets = Some(Sockets { total: 1, tcp_orphans: 0 });
        });
        for question in ["veth1", "4026532290"] {
            let subject = asked(&snapshot, question);
            assert_eq!(kinds(&subject), ["socket-fd"]);
            let held = &subject.holders[0];
            assert_eq!(held.of_container.as_deref(), Some(AGENT));
            assert_eq!(held.of_pod.as_ref().unwrap().to_string(), "kube-system/agent-x");
            assert_eq!(held.text, "agent (pid 812) has a socket of it open as fd 5 (UDP)");
            assert_eq!(held.remedy, "have agent close fd 5: restart it if it cannot be told to");
        }
    }
}

#[test]
fn a_container_that_no_runtime_lists_is_named_by_its_cgroup() {
    let snapshot = node(|s| {
        let keeper = Keeper { container: Some(AGENT.parse().unwrap()), ..keeper(812) };
        s.namespaces[1].holders = vec![Holder::NamespaceFd { keeper, fd: 5 }];
    });
    let held = &asked(&snapshot, "veth1").holders[0];
    assert_eq!((held.of_container.as_deref(), held.of_pod.as_ref()), (Some(AGENT), None));
}

#[test]
fn a_live_container_is_left_to_its_runtime() {
    let snapshot = node(|s| {
        s.runtimes = vec![agent(Some(900))];
        s.namespaces[1].tasks = vec![task(900)];
        s.namespaces[1].pins = vec![Pin { path: "/run/netns/cni-x".into(), seen_by: None, since: None }];
    });
    let subject = asked(&snapshot, "agent-x");
    assert_eq!(kinds(&subject), ["process", "pin"]);
    let said: Vec<&str> = subject.holders.iter().map(|held| held.remedy.as_str()).collect();
    assert_eq!(said, ["it is in use: containerd stops it", "it is in use: containerd unmounts it"]);
}

#[test]
fn what_is_not_seen_is_said_with_those_who_might_be_it() {
    let message = || Holder::Message { keeper: keeper(7), fd: 3, carries: "2 descriptors".into() };
    let snapshot = node(|s| s.unplaced = vec![message(), Holder::Zombie { task: task(9) }]);
    let subject = asked(&snapshot, "veth1");
    assert_eq!(kinds(&subject), ["unseen"]);
    assert_eq!(subject.may_be.iter().map(|held| &held.holder).collect::<Vec<_>>(), [&message()]);
    let zombie = asked(&snapshot, "pid:9");
    assert_eq!(kinds(&zombie), ["zombie"]);

    // Of two sockets one is accounted for.
    let snapshot = node(|s| {
        s.namespaces[1].sockets = Some(Sockets { total: 2, tcp_orphans: 0 });
        s.namespaces[1].holders = vec![Holder::TunFd { keeper: keeper(7), fd: 3 }];
    });
    let subject = asked(&snapshot, "veth1");
    assert_eq!(kinds(&subject), ["tun-fd", "unseen"]);
    assert!(subject.holders[1].text.starts_with("a socket in it that nobody seen has"), "{subject:#?}");
}

#[test]
fn both_ends_on_the_host_are_held_by_nobody() {
    let snapshot = node(|s| {
        s.namespaces.truncate(1);
        let links = &mut s.namespaces[0].links;
        links[0].peer = Some(Peer { index: IfIndex(4), nsid: None });
        let peer = Some(Peer { index: IfIndex(3), nsid: None });
        links.push(Link {
            index: IfIndex(4),
            name: "eth0tmp".into(),
            kind: "veth".into(),
            peer,
            ..Link::default()
        });
    });
    for question in ["veth1", "eth0tmp"] {
        let subject = asked(&snapshot, question);
        assert_eq!(kinds(&subject), ["host-pair"]);
        assert_eq!(subject.holders[0].text, "nobody: veth1 and its other end eth0tmp are both on the host");
    }
}

#[test]
fn a_namespace_that_lives_and_that_nobody_seen_holds_is_unknown() {
    let verdict = |change: fn(&mut Snapshot)| {
        let snapshot = node(change);
        let mut findings = leaks(&snapshot, None, Duration::ZERO).findings;
        findings.retain(|finding| finding.ns_id == Some(NsId(42)));
        (findings[0].ruling.verdict, findings[0].ruling.because.code)
    };
    assert_eq!(verdict(|_| {}), (Verdict::Unknown, "unread"));
    let orphans = |s: &mut Snapshot| s.namespaces[1].sockets = Some(Sockets { total: 2, tcp_orphans: 2 });
    assert_eq!(verdict(orphans), (Verdict::Unknown, "tcp-orphan"));
    let pinned = |s: &mut Snapshot| {
        s.namespaces[1].pins =
            vec![Pin { path: "/run/netns/x".into(), seen_by: None, since: Some(Timestamp(0)) }];
    };
    assert_eq!(verdict(pinned), (Verdict::Orphan, "pinned-only"), "the pin explains why it lives");
    let also_held = |s: &mut Snapshot| {
        s.namespaces[1].pins =
            vec![Pin { path: "/run/netns/x".into(), seen_by: None, since: Some(Timestamp(0)) }];
        s.namespaces[1].holders = vec![Holder::IoUring { keeper: keeper(7), fd: 3, file: "net:[1]".into() }];
    };
    assert_eq!(verdict(also_held), (Verdict::Unknown, "holder"));
}

#[test]
fn the_kernels_patience_is_told_at_most() {
    let connection = |timer, expires_ms, retransmits, rto_ms| TcpConnection {
        local: "10.0.0.2:80".parse().unwrap(),
        remote: "10.0.0.1:4711".parse().unwrap(),
        state: TcpState::FinWait1,
        timer,
        expires_ms,
        retransmits,
        rto_ms,
        queued_bytes: 1,
        cookie: 1,
    };
    let seconds = |c: TcpConnection| left(&c).map(|left| left.as_secs());
    // Measured: 107 s when nothing answers, 343 s with a window that stays shut.
    assert_eq!(seconds(connection(TcpTimer::Retransmit, 200, 0, 200)), Some(102));
    assert_eq!(seconds(connection(TcpTimer::Retransmit, 51_200, 8, 51_200)), Some(51));
    assert_eq!(seconds(connection(TcpTimer::WindowProbe, 200, 0, 210)), Some(334));
    assert_eq!(seconds(connection(TcpTimer::Ending, 59_000, 0, 200)), Some(59));
    assert_eq!(seconds(connection(TcpTimer::Off, 0, 0, 200)), None);
    let huge = connection(TcpTimer::Retransmit, u32::MAX, 255, u32::MAX);
    assert!(left(&huge).is_some(), "no overflow");
}
