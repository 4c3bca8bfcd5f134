//! What is not computed, programs and filters of traffic control and IPVS: it is named, and not said that a packet arrives.

use podplumb_tests::{ATTACH, require};

use crate::ways::{ROUTER, TUNNEL, with_site};

const NEEDS: [&str; 2] = ["tc", "python3"];

/// Attaches something to interfaces, and compares what real probes do with what is said to be unknown.
#[track_caller]
fn perhaps(changes: &[&str], expect: &str, says: &str) {
    perhaps_in(ROUTER, ["alice", "bob"], changes, expect, says);
}

#[track_caller]
fn perhaps_in(yaml: &str, question: [&str; 2], changes: &[&str], expect: &str, says: &str) {
    with_site(yaml, changes, expect, |site| {
        let trace = site.trace(3, &question);
        assert_eq!(trace["there"]["verdict"], "perhaps", "{trace:#}");
        let doubts = trace["there"]["doubts"].to_string();
        assert!(doubts.contains(says), "{says:?} is not in {doubts}");
    });
}

fn attach(machine: &str, rest: &str) -> String {
    format!("{machine}: python3 {ATTACH} {rest}")
}

fn kernel() -> (u32, u32) {
    let release = sys::kernel_release();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[test]
fn programs_are_named_and_not_computed() {
    if !require(&NEEDS) {
        return;
    }
    const XDP_DROP: &str = "1";
    let drops = attach("router", &format!("xdp eth0 {XDP_DROP}"));
    perhaps(&[&drops], "no ping alice -> bob", "does with what comes in by eth0 of router");
    if kernel() < (6, 6) {
        eprintln!("SKIPPED: tcx is in Linux 6.6");
        return;
    }
    const NEXT: &str = "-1";
    const DROP: &str = "2";
    let passes = attach("router", &format!("egress eth1 {NEXT}"));
    perhaps(&[&passes], "ping alice -> bob", "does with what leaves by eth1 of router");
    let drops = attach("bob", &format!("ingress eth0 {DROP}"));
    perhaps(&[&drops], "no ping alice -> bob", "what tcx program");
    let drops = attach("node1", &format!("ingress vxlan1 {DROP}"));
    let pods = ["node2-pod1", "node1-pod1"];
    perhaps_in(TUNNEL, pods, &[&drops], "no ping node2-pod1 -> node1-pod1", "comes in by vxlan1 of node1");
    let drops = attach("node1", &format!("ingress cni0 {DROP}"));
    let pods = ["node1-pod1", "node2-pod1"];
    perhaps_in(TUNNEL, pods, &[&drops], "no ping node1-pod1 -> node2-pod1", "comes in by cni0 of node1");
}

#[test]
fn filters_of_traffic_control_are_named_and_not_computed() {
    if !require(&NEEDS) {
        return;
    }
    let classifier = [
        "router: tc qdisc add dev eth0 clsact",
        concat!(
            "router: tc filter add dev eth0 ingress bpf bytecode-file ",
            env!("CARGO_MANIFEST_DIR"),
            "/trace/everything.bpf"
        ),
    ];
    perhaps(&classifier, "ping alice -> bob", "what tc filter bpf");
    let away = [
        "router: ip link add away type bridge",
        "router: ip link set away up",
        "router: tc qdisc add dev eth0 ingress",
        "router: tc filter add dev eth0 parent ffff: u32 match ip dst 10.0.1.2 action mirred egress redirect dev away",
    ];
    perhaps(&away, "no ping alice -> bob", "what tc filter u32 does with what comes in by eth0 of router");
}

#[test]
fn a_detour_by_which_a_pod_is_limited_changes_nothing() {
    if !require(&NEEDS) {
        return;
    }
    let detour = [
        "router: ip link add limiter type ifb",
        "router: ip link set limiter up",
        "router: tc qdisc add dev limiter root tbf rate 100mbit burst 100k latency 50ms",
        "router: tc qdisc add dev eth0 ingress",
        "router: tc filter add dev eth0 parent ffff: u32 match u32 0 0 action mirred egress redirect dev limiter",
    ];
    with_site(ROUTER, &detour, "ping alice -> bob", |site| drop(site.trace(0, &["alice", "bob"])));
}

/// Needs a kernel with IPVS (`make vm`).
#[test]
fn what_a_service_of_ipvs_takes_does_not_end_there() {
    let has_ipvs = || std::path::Path::new("/proc/net/ip_vs").exists();
    if std::env::var_os("PODPLUMB_WHOLE_KERNEL").is_none() && !has_ipvs() {
        eprintln!("SKIPPED: this kernel has no IPVS");
        return;
    }
    if !require(&["ipvsadm"]) {
        return;
    }
    let service = [
        "router: ip address add 10.96.0.10/32 dev lo",
        "router: ipvsadm --add-service --tcp-service 10.96.0.10:80 --scheduler rr",
        "router: ipvsadm --add-server --tcp-service 10.96.0.10:80 --real-server 10.0.1.2:8080 --masquerading",
    ];
    with_site(ROUTER, &service, "ping alice -> bob", |site| {
        let other = site.trace(0, &["alice", "10.96.0.10", "--port", "tcp/81"]);
        assert_eq!(other["there"]["verdict"], "arrives", "{other:#}");
        let trace = site.trace(3, &["alice", "10.96.0.10", "--port", "tcp/80"]);
        let doubts = trace["there"]["doubts"].to_string();
        assert!(doubts.contains("IPVS of router leads it on, to one of 10.0.1.2:8080"), "{doubts}");
    });
}
