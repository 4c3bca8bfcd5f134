//! The table of verdicts, row by row, on small hand-written nodes.

mod fixtures;

use std::time::Duration;

use model::attachment::RecordSeen;
use model::{
    AttachmentRecord, CacheEntry, Descriptor, Gap, IfIndex, Lease, Link, MacAddr, Namespace, Neighbour, Node,
    NsId, NsInode, Nsid, Peer, Pin, Runtime, RuntimeKind, RuntimeObject, RuntimeObjectKind, RuntimeStatus,
    Snapshot, Sockets, Source, Task, Timestamp,
};
use podplumb_analyze::{Finding, Operation, Plan, Verdict, leaks};

use fixtures::POD;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const LONG_AGO: Timestamp = Timestamp(1_799_999_000_000);
const GRACE: Duration = Duration::from_secs(60);
const PIN: &str = "/run/netns/cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e01";

fn veth(index: u32, name: &str, peer: u32, nsid: Option<i32>) -> Link {
    Link {
        index: IfIndex(index),
        name: name.into(),
        kind: "veth".into(),
        mac: Some(MacAddr([2, 0, 0, 0, 0, index as u8])),
        mtu_bytes: 1500,
        up: true,
        carrier: true,
        peer: Some(Peer { index: IfIndex(peer), nsid: nsid.map(Nsid) }),
        ..Link::default()
    }
}

fn lease() -> Lease {
    fixtures::lease(LONG_AGO)
}

fn cache() -> CacheEntry {
    CacheEntry {
        path: format!("/var/lib/cni/results/pods-{POD}-eth0").into(),
        key: model::AttachmentKey::from_file_name(&format!("pods:{POD}:eth0")),
        netns: Some(PIN.into()),
        pod: None,
        addresses: vec!["10.0.0.2".parse().unwrap()],
        host_interfaces: Vec::new(),
        container_interfaces: Vec::new(),
        plugins: vec!["bridge".into()],
        ipam: vec!["host-local".into()],
        data_dirs: Vec::new(),
        problem: None,
        digest: 1,
        since: LONG_AGO,
    }
}

fn record() -> AttachmentRecord {
    AttachmentRecord {
        version: AttachmentRecord::VERSION,
        key: model::AttachmentKey::from_file_name(&format!("pods:{POD}:eth0")).unwrap(),
        plugin: "bridge".into(),
        chained: false,
        boot_id: "boot".parse().unwrap(),
        netns: PIN.into(),
        ns_id: Some(NsId(42)),
        ns_inode: Some(NsInode(4026532290)),
        host_interface: Some("veth1".parse().unwrap()),
        host_mac: None,
        kind: Some("veth".into()),
        mac: None,
        bridge: None,
        lease_dir: None,
        addresses: Some(vec!["10.0.0.2".parse().unwrap()]),
        rules: Vec::new(),
        before: None,
        pod: None,
        created: LONG_AGO,
        seen: Some(RecordSeen {
            path: format!("/run/podplumb/attachments/pods:{POD}:eth0").into(),
            locked: false,
        }),
    }
}

fn runtime(objects: Vec<RuntimeObject>) -> Runtime {
    Runtime {
        kind: RuntimeKind::Containerd,
        endpoint: "/run/containerd/containerd.sock".into(),
        status: RuntimeStatus::Answered { version: "1.6.20".into() },
        objects,
        foreign: false,
    }
}

fn object(id: &str) -> RuntimeObject {
    RuntimeObject {
        id: id.parse().unwrap(),
        kind: RuntimeObjectKind::Sandbox,
        partition: None,
        name: None,
        pod: None,
        sandbox: None,
        state: "NotReady".into(),
        pid: None,
        netns: None,
        addresses: Vec::new(),
        created: None,
        doubt: None,
    }
}

/// A crashed pod: pinned namespace without task or socket, veth UP in a bridge, lease, cache; its runtime answers and does not
/// know it. By the table's seventh row an orphan: each test changes one thing.
fn crashed() -> Snapshot {
    let mut port = veth(3, "veth1", 2, Some(0));
    port.master = Some(IfIndex(2));
    let bridge =
        Link { index: IfIndex(2), name: "cni0".into(), kind: "bridge".into(), up: true, ..Link::default() };
    let mut eth0 = veth(2, "eth0", 3, Some(1));
    eth0.addresses = vec!["10.0.0.2/24".parse().unwrap()];
    let host = Namespace {
        host: true,
        inode: Some(NsInode(4026531840)),
        links: vec![bridge, port],
        readable: true,
        ..Namespace::default()
    };
    let pod = Namespace {
        inode: Some(NsInode(4026532290)),
        ns_id: Some(NsId(42)),
        nsid: Some(Nsid(0)),
        pins: vec![Pin { path: PIN.into(), seen_by: None, since: Some(LONG_AGO) }],
        sockets: Some(Sockets { total: 0, tcp_orphans: 0 }),
        housekeeping_packets: Some(3),
        links: vec![eth0],
        readable: true,
        ..Namespace::default()
    };
    Snapshot {
        version: Snapshot::VERSION,
        taken_at: NOW,
        node: Node {
            hostname: "node".into(),
            kernel: "6.18".into(),
            boot_id: "boot".parse().unwrap(),
            booted_at: Timestamp(0),
        },
        namespaces: vec![host, pod],
        enumeration: None,
        unplaced: Vec::new(),
        runtimes: vec![runtime(vec![object("somebody-else")])],
        runtime_none: false,
        leases: vec![lease()],
        cache: vec![cache()],
        plugins: vec![],
        configs: Vec::new(),
        records: Vec::new(),
        stale_files: Vec::new(),
        elements: Vec::new(),
        plugin_rules: Vec::new(),
        nft_tables: Vec::new(),
        kernel_options: Default::default(),
        stack: model::Stack::default(),
        neighbour_tables: Vec::new(),
        flows: Vec::new(),
        conntrack: None,
        podman_leases: Vec::new(),
        dhcp_leases: Vec::new(),
        heard: Default::default(),
        log: None,
        kubelet_pods: None,
        coverage: Vec::new(),
    }
}

/// The finding about the pod, compared with an earlier look if there is one.
fn judged(now: &Snapshot, earlier: Option<&Snapshot>) -> Finding {
    let mut findings = leaks(now, earlier, GRACE).findings;
    let about_pod = |finding: &Finding| {
        finding.container.as_ref().is_some_and(|id| id.as_str() == POD)
            || finding.ns_inode == Some(NsInode(4026532290))
    };
    let at = findings.iter().position(about_pod).expect("the pod has a finding");
    findings.swap_remove(at)
}

fn verdict(change: impl FnOnce(&mut Snapshot)) -> (Verdict, &'static str) {
    let mut snapshot = crashed();
    change(&mut snapshot);
    let finding = judged(&snapshot, None);
    assert_eq!(
        finding.steps.is_empty(),
        finding.ruling.verdict != Verdict::Orphan,
        "only orphans are touched"
    );
    (finding.ruling.verdict, finding.ruling.because.code)
}

fn pod(snapshot: &mut Snapshot) -> &mut Namespace {
    &mut snapshot.namespaces[1]
}

#[test]
fn a_namespace_that_lives_only_by_a_pin_and_is_disowned_is_an_orphan() {
    assert_eq!(verdict(|_| {}), (Verdict::Orphan, "pinned-only"));
}

#[test]
fn what_is_left_of_a_namespace_that_is_gone_is_an_orphan() {
    let gone = |snapshot: &mut Snapshot| {
        snapshot.namespaces.truncate(1);
        snapshot.namespaces[0].links.truncate(1);
    };
    assert_eq!(verdict(gone), (Verdict::Orphan, "namespace-gone"));
}

#[test]
fn what_some_runtime_lists_in_whatever_state_is_in_use() {
    assert_eq!(verdict(|s| s.runtimes[0].objects = vec![object(POD)]), (Verdict::InUse, "runtime-lists"));
    let by_path = |s: &mut Snapshot| {
        s.leases.clear();
        s.cache.clear();
        s.runtimes[0].objects[0].netns = Some(PIN.replacen("/run", "/var/run", 1).into());
    };
    assert_eq!(verdict(by_path), (Verdict::InUse, "runtime-lists"));
    // nerdctl gives CNI its containerd namespace and the id in one.
    let by_prefixed_id = |s: &mut Snapshot| {
        let (namespace, id) = ("default", "somebody-else");
        s.runtimes[0].objects[0].partition = Some(namespace.into());
        s.leases[0].container = Some(format!("{namespace}-{id}").parse().unwrap());
        s.cache.clear();
        s.namespaces.truncate(1);
        s.namespaces[0].links.truncate(1);
    };
    let mut snapshot = crashed();
    by_prefixed_id(&mut snapshot);
    assert!(
        leaks(&snapshot, None, GRACE).findings.iter().all(|finding| finding.ruling.verdict == Verdict::InUse)
    );
}

#[test]
fn what_is_younger_than_the_grace_period_is_in_flight() {
    let young = Timestamp(NOW.0 - 59_000);
    assert_eq!(verdict(|s| s.leases[0].since = young), (Verdict::InUse, "young"));
    assert_eq!(verdict(|s| s.cache[0].since = young), (Verdict::InUse, "young"));
    assert_eq!(verdict(|s| pod(s).pins[0].since = Some(young)), (Verdict::InUse, "young"));
    let clock_set_back = Timestamp(NOW.0 + 3_600_000);
    assert_eq!(verdict(|s| s.leases[0].since = clock_set_back), (Verdict::InUse, "young"));
}

#[test]
fn what_an_add_or_del_holds_the_lock_of_is_in_flight() {
    assert_eq!(verdict(|s| s.leases[0].locked = true), (Verdict::InUse, "in-flight"));
    let held = |s: &mut Snapshot| {
        let mut record = record();
        record.seen.as_mut().unwrap().locked = true;
        s.records = vec![record];
    };
    assert_eq!(verdict(held), (Verdict::InUse, "in-flight"));
}

#[test]
fn a_task_a_thread_a_socket_or_a_tun_holder_make_it_in_use() {
    let task = |tid| Task { pid: 7, tid, command: "sleep".into() };
    assert_eq!(verdict(|s| pod(s).tasks = vec![task(None)]), (Verdict::InUse, "task"));
    assert_eq!(verdict(|s| pod(s).tasks = vec![task(Some(8))]), (Verdict::InUse, "task"));
    let sockets =
        |total, tcp_orphans| move |s: &mut Snapshot| pod(s).sockets = Some(Sockets { total, tcp_orphans });
    assert_eq!(verdict(sockets(1, 0)), (Verdict::InUse, "socket"));
    assert_eq!(verdict(sockets(2, 2)), (Verdict::Orphan, "pinned-only"), "nobody has a TCP orphan");
    let tun = |carrier| {
        move |s: &mut Snapshot| {
            pod(s).links.push(Link { index: IfIndex(9), kind: "tun".into(), carrier, ..Link::default() });
        }
    };
    assert_eq!(verdict(tun(true)), (Verdict::InUse, "tun"));
    assert_eq!(verdict(tun(false)), (Verdict::Unknown, "tap"), "a holder shows only while it is up");
}

#[test]
fn a_namespace_that_sends_between_the_two_looks_is_in_use_unless_it_only_solicits_routers() {
    let before = crashed();
    let mut after = crashed();
    after.namespaces[1].links[0].tx_packets = 2;
    assert_eq!(judged(&after, Some(&before)).ruling.because.code, "counters");
    after.namespaces[1].housekeeping_packets = Some(5);
    assert_eq!(judged(&after, Some(&before)).ruling.verdict, Verdict::Orphan);
    after.namespaces[1].links[0].tx_packets = 3;
    assert_eq!(judged(&after, Some(&before)).ruling.because.code, "counters");
}

#[test]
fn while_a_runtime_is_silent_nothing_is_an_orphan() {
    let silent = |s: &mut Snapshot| s.runtimes[0].status = RuntimeStatus::Silent { why: "refused".into() };
    assert_eq!(verdict(silent), (Verdict::Unknown, "runtime-silent"));
    let second = |s: &mut Snapshot| {
        s.runtimes.push(runtime(Vec::new()));
        silent(s);
    };
    assert_eq!(
        verdict(second),
        (Verdict::Unknown, "runtime-silent"),
        "one answer does not speak for the other"
    );
}

#[test]
fn what_could_hide_a_holder_and_was_not_read_makes_it_unknown() {
    let gap = |source| {
        move |s: &mut Snapshot| s.coverage = vec![Gap { source, object: "x".into(), why: "denied".into() }]
    };
    for source in [Source::Processes, Source::Mounts, Source::Links] {
        assert_eq!(verdict(gap(source)), (Verdict::Unknown, "unread"), "{source}");
    }
    assert_eq!(verdict(gap(Source::Configs)), (Verdict::Orphan, "pinned-only"));
    assert_eq!(verdict(|s| pod(s).readable = false), (Verdict::Unknown, "unread"));
    assert_eq!(verdict(|s| pod(s).sockets = None), (Verdict::Unknown, "unread"), "held by something unseen");
    let descriptor = Descriptor { task: Task { pid: 9, tid: None, command: "agent".into() }, fd: 5 };
    assert_eq!(verdict(|s| pod(s).descriptors = vec![descriptor]), (Verdict::Unknown, "descriptor"));
    let elsewhere = |s: &mut Snapshot| {
        pod(s).links.clear();
        pod(s).pins.clear();
        pod(s).readable = false;
        s.namespaces[0].links.truncate(1);
    };
    assert_eq!(
        verdict(elsewhere),
        (Verdict::Unknown, "unread"),
        "it could live in a namespace that was not read"
    );
}

#[test]
fn what_nothing_ties_to_a_container_is_unknown_for_ever() {
    let by_hand = |s: &mut Snapshot| {
        s.leases.clear();
        s.cache.clear();
        pod(s).pins[0].path = "/run/netns/router".into();
    };
    assert_eq!(verdict(by_hand), (Verdict::Unknown, "untied"));
    // In a mount namespace of its own: the work of a runtime in there, which we cannot ask.
    let nested = |s: &mut Snapshot| {
        s.leases.clear();
        s.cache.clear();
        pod(s).pins[0].seen_by = Some(Task { pid: 9, tid: None, command: "kind".into() });
    };
    assert_eq!(verdict(nested), (Verdict::Unknown, "pinned-elsewhere"));
    let known_but_nested = |s: &mut Snapshot| {
        pod(s).pins[0].seen_by = Some(Task { pid: 9, tid: None, command: "containerd".into() });
    };
    assert_eq!(
        verdict(known_but_nested),
        (Verdict::Unknown, "pinned-elsewhere"),
        "not gone, though not pinned here"
    );
    let stamped = |s: &mut Snapshot| {
        by_hand(s);
        s.namespaces[0].links[1].alias = Some(format!("podplumb:pods:{POD}:eth0"));
    };
    assert_eq!(verdict(stamped), (Verdict::Orphan, "pinned-only"), "a stamp ties");
}

#[test]
fn a_router_made_by_hand_does_not_become_a_containers_by_its_address_or_its_path() {
    let by_hand = |s: &mut Snapshot| pod(s).pins[0].path = "/run/netns/router".into();
    // A stale lease names its address.
    let by_address = |s: &mut Snapshot| {
        by_hand(s);
        s.cache.clear();
    };
    assert_eq!(verdict(by_address), (Verdict::Unknown, "untied"));
    // An old cache entry names its path; the namespace there was made after it.
    let mut snapshot = crashed();
    by_hand(&mut snapshot);
    snapshot.leases.clear();
    snapshot.cache[0].netns = Some("/run/netns/router".into());
    pod(&mut snapshot).pins[0].since = Some(Timestamp(LONG_AGO.0 + 1));
    let findings = leaks(&snapshot, None, GRACE).findings;
    let router = findings.iter().find(|finding| finding.ns_inode == Some(NsInode(4026532290))).unwrap();
    assert_eq!((router.ruling.verdict, router.ruling.because.code), (Verdict::Unknown, "untied"));
    let entry = findings.iter().find(|finding| finding.container.is_some()).unwrap();
    assert_eq!(entry.ruling.verdict, Verdict::Orphan);
    assert!(
        !entry
            .steps
            .iter()
            .any(|step| matches!(step.operation, Operation::Unpin { .. } | Operation::RemoveLink(_)))
    );
}

#[test]
fn a_leased_address_that_somebody_has_is_in_use_whatever_he_is_called() {
    let other_name = |s: &mut Snapshot| {
        s.cache.clear();
        s.leases[0].ifname = Some("net1".parse().unwrap());
    };
    let mut snapshot = crashed();
    other_name(&mut snapshot);
    let findings = leaks(&snapshot, None, GRACE).findings;
    let lease = findings.iter().find(|finding| finding.container.is_some()).unwrap();
    assert_eq!((lease.ruling.verdict, lease.ruling.because.code), (Verdict::InUse, "address-in-use"));
}

#[test]
fn a_stale_file_that_pins_a_namespace_elsewhere_is_in_use() {
    let mut snapshot = crashed();
    pod(&mut snapshot).pins[0].seen_by = Some(Task { pid: 9, tid: None, command: "containerd".into() });
    snapshot.stale_files =
        vec![model::StaleFile { path: PIN.into(), since: LONG_AGO, size_bytes: 0, inode: 5 }];
    let findings = leaks(&snapshot, None, GRACE).findings;
    let file = findings.iter().find(|finding| finding.label == PIN).unwrap();
    assert_eq!((file.ruling.verdict, file.ruling.because.code), (Verdict::InUse, "pinned-elsewhere"));
}

#[test]
fn an_element_of_an_address_that_is_somebody_elses_by_now_is_not_removed() {
    let removed = |owner: String| {
        let mut snapshot = crashed();
        snapshot.elements = vec![model::OwnedElement {
            text: "inet podplumb pods4 { 10.0.0.2 }".into(),
            owner,
            addresses: vec!["10.0.0.2".parse().unwrap()],
        }];
        let steps = judged(&snapshot, None).steps;
        steps.iter().any(|step| matches!(step.operation, Operation::RemoveElements { .. }))
    };
    assert!(removed(format!("pods:{POD}:eth0")));
    assert!(!removed("pods:somebody-else:eth0".into()));
}

#[test]
fn elements_that_are_listed_in_another_order_are_the_same() {
    let with = |addresses: &[&str]| {
        let mut snapshot = crashed();
        let element = |address: &&str| model::OwnedElement {
            text: format!("inet podplumb masquerade4 {{ {address} }}"),
            owner: format!("pods:{POD}:eth0"),
            addresses: Vec::new(),
        };
        snapshot.elements = addresses.iter().map(element).collect();
        judged(&snapshot, None).steps
    };
    assert_eq!(with(&["10.0.0.2", "10.0.0.3"]), with(&["10.0.0.3", "10.0.0.2", "10.0.0.3"]));
    assert_ne!(with(&["10.0.0.2"]), with(&["10.0.0.3"]));
}

#[test]
fn an_empty_lease_is_an_orphan_once_nobody_can_have_its_address() {
    let mut snapshot = crashed();
    snapshot.leases[0].container = None;
    snapshot.leases[0].content.clear();
    snapshot.cache.clear();
    let ruling = |snapshot: &Snapshot| {
        let findings = leaks(snapshot, None, GRACE).findings;
        let lease = findings.into_iter().find(|finding| finding.label == "lease 10.0.0.2");
        let ruling = lease.expect("a finding of its own").ruling;
        (ruling.verdict, ruling.because.code)
    };
    assert_eq!(ruling(&snapshot), (Verdict::InUse, "address-in-use"));
    pod(&mut snapshot).links[0].addresses.clear();
    assert_eq!(ruling(&snapshot), (Verdict::Orphan, "never-given"));
    let with = |change: &dyn Fn(&mut Snapshot)| {
        let mut other = snapshot.clone();
        change(&mut other);
        ruling(&other)
    };
    let address = "10.0.0.2".parse().unwrap();
    let answered = |s: &mut Snapshot| {
        let mac = Some(MacAddr([2, 0, 0, 0, 0, 9]));
        s.stack.neighbours = vec![Neighbour { address, mac, device: IfIndex(2), state: 0x04 }];
    };
    assert_eq!(with(&answered), (Verdict::Unknown, "neighbour"));
    let said = |s: &mut Snapshot| s.runtimes[0].objects[0].addresses = vec![address];
    assert_eq!(with(&said), (Verdict::Unknown, "runtime-lists"));
    let unread = |s: &mut Snapshot| {
        let (object, why) = ("/var/lib/cni/results/x".into(), "permission denied".into());
        s.coverage = vec![Gap { source: Source::Cache, object, why }];
    };
    assert_eq!(with(&unread), (Verdict::Unknown, "unread"));
    assert_eq!(with(&|s| s.leases[0].locked = true), (Verdict::InUse, "in-flight"));
    assert_eq!(with(&|s| s.leases[0].since = NOW), (Verdict::InUse, "young"));
    assert_eq!(with(&|s| s.leases[0].content = "mine".into()), (Verdict::Unknown, "untied"));
}

#[test]
fn an_empty_lease_belongs_to_whom_a_cached_result_gives_its_address() {
    let empty = |s: &mut Snapshot| {
        s.leases[0].container = None;
        s.leases[0].content.clear();
    };
    let mut snapshot = crashed();
    empty(&mut snapshot);
    let finding = judged(&snapshot, None);
    assert_eq!(finding.ruling.verdict, Verdict::Orphan);
    assert!(finding.pieces.iter().any(|piece| piece.kind == podplumb_analyze::leaks::PieceKind::Lease));
    snapshot.runtimes[0].objects.push(object(POD));
    assert_eq!(judged(&snapshot, None).ruling.because.code, "runtime-lists");
}

#[test]
fn what_came_back_from_a_container_and_is_used_on_the_host_is_unknown() {
    let both_here = |s: &mut Snapshot| {
        s.namespaces.truncate(1);
        s.leases.clear();
        let host = &mut s.namespaces[0].links;
        host[1].peer = Some(Peer { index: IfIndex(4), nsid: None });
        host.push(veth(4, "eth0", 3, None));
        s.cache[0].host_interfaces = vec![("veth1".into(), host[1].mac)];
    };
    assert_eq!(verdict(both_here), (Verdict::Orphan, "namespace-gone"));
    let port = |s: &mut Snapshot| {
        both_here(s);
        s.namespaces[0].links[2].master = Some(IfIndex(2));
    };
    assert_eq!(verdict(port), (Verdict::Unknown, "used-here"));
    let addressed = |s: &mut Snapshot| {
        both_here(s);
        s.namespaces[0].links[2].addresses = vec!["192.0.2.1/24".parse().unwrap()];
    };
    assert_eq!(verdict(addressed), (Verdict::Unknown, "used-here"));
}

#[test]
fn hardware_that_came_back_with_its_stamp_is_not_a_leak() {
    let mut snapshot = crashed();
    let alias = Some(format!("podplumb:pods:{POD}:eth0"));
    let nic = Link { index: IfIndex(9), name: "ens5".into(), alias, ..Link::default() };
    snapshot.namespaces[0].links.push(nic);
    let steps = judged(&snapshot, None).steps;
    let is_nic = |step: &podplumb_analyze::Step| step.operation.object() == "ens5";
    assert!(!steps.is_empty() && !steps.iter().any(is_nic));
}

#[test]
fn without_any_runtime_nothing_is_an_orphan_unless_the_user_says_so() {
    assert_eq!(verdict(|s| s.runtimes.clear()), (Verdict::Unknown, "no-runtime"));
    let none = |s: &mut Snapshot| {
        s.runtimes.clear();
        s.runtime_none = true;
    };
    assert_eq!(verdict(none), (Verdict::Orphan, "pinned-only"));
}

#[test]
fn operstate_master_and_name_prove_nothing() {
    let down = |s: &mut Snapshot| {
        s.namespaces[0].links[1].up = false;
        s.namespaces[0].links[1].master = None;
        pod(s).tasks = vec![Task { pid: 7, tid: None, command: "sleep".into() }];
    };
    assert_eq!(verdict(down), (Verdict::InUse, "task"));
}

#[test]
fn a_lease_of_a_virtual_machine_that_answers_is_in_use() {
    let lone = |state| {
        move |s: &mut Snapshot| {
            s.cache.clear();
            s.namespaces.truncate(1);
            s.namespaces[0].links.truncate(1);
            s.stack.neighbours = vec![Neighbour {
                address: "10.0.0.2".parse().unwrap(),
                mac: None,
                device: IfIndex(2),
                state,
            }];
        }
    };
    assert_eq!(verdict(lone(0x02)), (Verdict::InUse, "neighbour"));
    assert_eq!(verdict(lone(0x04)), (Verdict::Orphan, "namespace-gone"), "STALE is from before");
}

#[test]
fn a_namespace_that_took_the_path_of_a_dead_one_is_not_it() {
    // The record says namespace 42; at its path there is 43 now, which a new pod lives in.
    let reused = |s: &mut Snapshot| {
        s.records = vec![record()];
        pod(s).ns_id = Some(NsId(43));
        pod(s).links[0].addresses.clear();
        pod(s).tasks = vec![Task { pid: 7, tid: None, command: "new".into() }];
    };
    let mut snapshot = crashed();
    reused(&mut snapshot);
    let findings = leaks(&snapshot, None, GRACE).findings;
    let old = findings.iter().find(|finding| finding.container.is_some()).unwrap();
    assert_eq!((old.ruling.verdict, old.ruling.because.code), (Verdict::Orphan, "namespace-gone"));
    assert!(
        !old.steps
            .iter()
            .any(|step| matches!(step.operation, Operation::Unpin { .. } | Operation::RemoveLink(_)))
    );
    let new = findings.iter().find(|finding| finding.ns_id == Some(NsId(43))).unwrap();
    assert_eq!(new.ruling.verdict, Verdict::InUse);
}

#[test]
fn a_plan_keeps_only_what_two_looks_agree_on() {
    let confirm = |change: fn(&mut Snapshot)| {
        let (before, mut after) = (crashed(), crashed());
        change(&mut after);
        let (first, second) = (leaks(&before, None, GRACE), leaks(&after, Some(&before), GRACE));
        Plan::confirmed((&before, &first), (&after, &second))
    };
    let same = confirm(|_| {});
    assert_eq!((same.plan.steps.len(), same.dropped.len()), (7, 0));
    let kinds: Vec<String> = same.plan.steps.iter().map(|step| step.operation.to_string()).collect();
    let at = |word: &str| kinds.iter().position(|kind| kind.starts_with(word)).unwrap();
    assert!(at("copy lease") < at("call CNI DEL") && at("call CNI DEL") < at("delete veth1"));
    assert!(at("delete veth1") < at("unmount") && at("release lease") < at("remove cache"));
    for change in [
        (|s: &mut Snapshot| pod(s).ns_id = Some(NsId(43))) as fn(&mut Snapshot),
        |s| s.leases[0].content = "other\r\neth0".into(),
        |s| s.namespaces[0].links[1].mac = Some(MacAddr([9; 6])),
        |s| s.namespaces[0].links[1].index = IfIndex(77),
        |s| s.cache[0].digest = 2,
        |s| s.node.boot_id = "another".parse().unwrap(),
        |s| s.runtimes[0].objects = vec![object(POD)],
        |s| pod(s).links[0].tx_packets = 1,
    ] {
        let changed = confirm(change);
        assert!(changed.plan.is_empty() && changed.dropped.len() == 1, "{changed:?}");
    }
}

#[test]
fn a_pinned_namespace_may_be_that_of_a_container_about_whose_process_its_runtime_is_wrong() {
    let doubt = |snapshot: &mut Snapshot| {
        snapshot.runtimes[0].objects[0].doubt = Some("its process 812 is not there".into());
    };
    let nameless = verdict(|snapshot| {
        snapshot.leases.clear();
        snapshot.cache.clear();
        doubt(snapshot);
    });
    assert_eq!(nameless, (Verdict::Unknown, "runtime-doubted"));
    assert_eq!(verdict(doubt), (Verdict::Orphan, "pinned-only"), "this one is somebody else's by its id");
}

/// A node with this many leases of dead containers, and this many of live ones.
fn node_with_leases(dead: usize, alive: usize) -> Snapshot {
    let mut snapshot = crashed();
    snapshot.namespaces.truncate(1);
    snapshot.namespaces[0].links.clear();
    snapshot.leases.clear();
    snapshot.cache.clear();
    let leases = (0..dead + alive).map(|n| {
        let container = format!("{}{n:015x}", if n < dead { "d" } else { "a" });
        let address = std::net::IpAddr::from([10, 1, (n / 250) as u8, (n % 250 + 2) as u8]);
        Lease {
            path: format!("/var/lib/cni/networks/pods/{address}").into(),
            address,
            content: format!("{container}\r\neth0"),
            container: Some(container.parse().unwrap()),
            ..lease()
        }
    });
    snapshot.leases = leases.collect();
    let listed = snapshot.leases.iter().filter_map(|lease| lease.container.as_ref());
    let listed = listed.filter(|id| id.as_str().starts_with('a')).map(|id| object(id.as_str()));
    snapshot.runtimes = vec![runtime(listed.collect())];
    snapshot
}

#[test]
fn of_a_kind_fifty_or_a_third_may_go_at_once_whichever_is_more() {
    let excess = |dead, alive, max| {
        let snapshot = node_with_leases(dead, alive);
        let leaks = leaks(&snapshot, None, GRACE);
        assert_eq!(leaks.count(Verdict::Orphan), dead);
        let excess = podplumb_analyze::excess(leaks.with(Verdict::Orphan), &leaks, max);
        excess.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(excess(50, 0, None), [""; 0], "all of a small node");
    assert_eq!(excess(51, 10, None), ["51 of 61 leases (limit 50)"]);
    assert_eq!(excess(60, 120, None), [""; 0], "a third");
    assert_eq!(excess(61, 119, None), ["61 of 180 leases (limit 60)"]);
    assert_eq!(excess(61, 119, Some(61)), [""; 0]);
    assert_eq!(excess(2, 100, Some(1)), ["2 of 102 leases (limit 1)"]);
}

#[test]
fn a_clock_that_is_set_makes_nothing_older_than_the_time_between_the_looks() {
    let at = |taken_at: i64, since: i64| {
        let mut snapshot = crashed();
        snapshot.taken_at = Timestamp(taken_at);
        snapshot.leases[0].since = Timestamp(since);
        snapshot
    };
    let confirmed = |first: &Snapshot, second: &Snapshot| {
        let (before, now) = (leaks(first, None, GRACE), leaks(second, Some(first), GRACE));
        Plan::confirmed((first, &before), (second, &now)).plan.steps.len()
    };
    let (now, hour) = (NOW.0, 3_600_000);
    // Set back after the lease was written: it seems to come from the future.
    assert_eq!(judged(&at(now - hour, now), None).ruling.because.code, "young");
    // Set back between the looks.
    assert_eq!(confirmed(&at(now, now - 120_000), &at(now - hour, now - 120_000)), 0);
    // Set forward right after the lease was written: it seems to be old at once, but only what was there at both looks goes, and
    // between them lies the grace period, by a clock that nobody sets.
    let (mut before, after) = (at(now + hour, now), at(now + hour + 60_000, now));
    assert!(confirmed(&before, &after) > 0);
    before.leases.clear();
    before.cache.clear();
    before.namespaces.truncate(1);
    assert_eq!(confirmed(&before, &after), 0);
}

#[test]
fn a_namespace_that_podman_made_is_unknown_even_where_no_store_lists_it() {
    let podmans = |snapshot: &mut Snapshot| {
        let pin = "/run/netns/netns-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e01";
        pod(snapshot).pins[0].path = pin.into();
        snapshot.cache[0].netns = Some(pin.into());
    };
    assert_eq!(verdict(podmans), (Verdict::Unknown, "store-unknown"));
}

#[test]
fn a_users_own_runtime_saves_what_it_lists_and_disowns_nothing() {
    let foreign = |snapshot: &mut Snapshot| snapshot.runtimes[0].foreign = true;
    assert_eq!(verdict(foreign), (Verdict::Unknown, "no-runtime"));
    let lists = |snapshot: &mut Snapshot| {
        let own = Runtime { foreign: true, ..runtime(vec![object(POD)]) };
        snapshot.runtimes.push(own);
    };
    assert_eq!(verdict(lists), (Verdict::InUse, "runtime-lists"));
}

#[test]
fn a_silent_runtime_makes_unknown_what_could_be_its_own_and_nothing_else() {
    let silent = |kind: RuntimeKind, pin: &str| {
        verdict(|snapshot| {
            pod(snapshot).pins[0].path = pin.into();
            snapshot.cache[0].netns = Some(pin.into());
            let status = RuntimeStatus::Silent { why: "no such file".into() };
            snapshot.runtimes.push(Runtime { kind, status, ..runtime(Vec::new()) });
        })
    };
    const DOCKER_PIN: &str = "/var/run/docker/netns/0a6e12c455d1";
    let (orphan, unknown) = ((Verdict::Orphan, "pinned-only"), (Verdict::Unknown, "runtime-silent"));
    assert_eq!(silent(RuntimeKind::Docker, PIN), orphan, "Docker pins elsewhere");
    assert_eq!(silent(RuntimeKind::Docker, DOCKER_PIN), unknown);
    for kind in [RuntimeKind::Containerd, RuntimeKind::CriO, RuntimeKind::Podman] {
        assert_eq!(silent(kind, PIN), unknown, "{kind}");
        assert_eq!(silent(kind, DOCKER_PIN), orphan, "{kind} does not pin where Docker does");
    }
    let alone = verdict(|snapshot| {
        let status = RuntimeStatus::Silent { why: "no such file".into() };
        snapshot.runtimes = vec![Runtime { kind: RuntimeKind::Docker, status, ..runtime(Vec::new()) }];
    });
    assert_eq!(alone, unknown, "nobody disowns it");
    let both = verdict(|snapshot| {
        snapshot.cache[0].netns = Some(DOCKER_PIN.into());
        let status = RuntimeStatus::Silent { why: "no such file".into() };
        snapshot.runtimes.push(Runtime { kind: RuntimeKind::Docker, status, ..runtime(Vec::new()) });
    });
    assert_eq!(both, unknown, "one of two paths is enough");
    for kind in [RuntimeKind::Cri, RuntimeKind::Other] {
        assert_eq!((silent(kind, PIN), silent(kind, DOCKER_PIN)), (unknown, unknown), "{kind}");
    }
    let leased = verdict(|snapshot| {
        snapshot.namespaces.pop();
        snapshot.cache.clear();
        let status = RuntimeStatus::Silent { why: "no such file".into() };
        let docker = Runtime { kind: RuntimeKind::Docker, status, ..runtime(Vec::new()) };
        snapshot.runtimes.push(docker);
    });
    assert_eq!(leased.0, Verdict::Unknown, "a lease alone may be that of a pod of cri-dockerd's");
}

#[test]
fn what_logs_and_kubelet_say_is_told_and_decides_nothing() {
    let mut snapshot = crashed();
    let uid =
        |uid: &str| model::PodName { namespace: "shop".into(), name: "web".into(), uid: Some(uid.into()) };
    snapshot.cache[0].pod = Some(uid("u1"));
    let line = format!("StopPodSandbox for {POD} failed: \u{1b}[2Jno network");
    let heard = model::Heard { path: "/var/log/syslog".into(), line, at: None, pod: None };
    snapshot.heard.insert(POD.into(), heard);
    let codes = |snapshot: &Snapshot| -> Vec<&str> {
        let finding = judged(snapshot, None);
        assert_eq!(finding.ruling.verdict, Verdict::Orphan);
        finding.ruling.evidence_for.iter().map(|evidence| evidence.code).collect()
    };
    assert!(!codes(&snapshot).contains(&"kubelet-forgot"), "there is no kubelet");
    snapshot.kubelet_pods = Some(["u1".to_owned()].into());
    assert!(!codes(&snapshot).contains(&"kubelet-forgot"), "it may have another sandbox by now");
    snapshot.kubelet_pods = Some(["u2".to_owned()].into());
    assert!(codes(&snapshot).contains(&"kubelet-forgot"));
    let found = leaks(&snapshot, None, GRACE);
    let text = podplumb_analyze::render::leaks(&found, false, podplumb_analyze::render::Paint::PLAIN);
    assert!(text.contains("heard   StopPodSandbox for") && !text.contains('\u{1b}'), "{text}");
}
