//! Namespaces that people made by hand, and pods that look unlike pods.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use podplumb_tests::{Pod, Podplumb, World, require, run};

const NEEDS: [&str; 3] = ["ip", "ping", "nsenter"];

/// A process that lives in a namespace until the test ends.
struct Inhabitant(Child);

impl Inhabitant {
    fn of(netns: &str) -> Self {
        let netns = format!("--net=/run/netns/{netns}");
        Self(
            Command::new("nsenter")
                .args([&netns, "sleep", "600"])
                .stdin(Stdio::null())
                .spawn()
                .expect("nsenter"),
        )
    }
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const POD: &str = "cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e01";

#[test]
fn a_router_namespace_made_by_hand_is_unknown_and_survives_everything() {
    if !require(&NEEDS) {
        return;
    }
    let _world = World::enter();
    let topology = "{hosts: [left, right], routers: [router], links: [left -- router, right -- router]}";
    let lab = lab::Lab::from_yaml(topology).expect("a lab");
    for machine in ["left", "right", "router"] {
        Pod::of(lab.run(machine, sys::NetNs::current).unwrap().unwrap(), machine).leave();
    }
    drop(lab);
    let ping = || run("ip", &["netns", "exec", "left", "ping", "-c", "1", "-W", "2", "10.0.1.2"]);
    ping();

    let podplumb = Podplumb::with(&["--runtime", "none"]);
    let findings = podplumb.findings("0s");
    let router =
        findings.iter().find(|finding| finding.0["label"] == "/run/netns/router").expect("a finding");
    assert_eq!((router.verdict(), router.because()), ("unknown", "untied"));
    assert_eq!(podplumb.expect(0, &["reclaim", "--apply", "--grace", "1s"]), "nothing to reclaim\n");
    ping();
}

#[test]
fn a_routed_pod_and_one_whose_link_is_down_are_in_use_while_their_process_lives() {
    if !require(&NEEDS) {
        return;
    }
    let _world = World::enter();
    run("ip", &["netns", "add", POD]);
    run("ip", &["link", "add", "cali12345", "type", "veth", "peer", "name", "eth0", "netns", POD]);
    run("ip", &["link", "set", "cali12345", "up"]);
    let inhabitant = Inhabitant::of(POD);
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    let verdict = || {
        let findings = podplumb.findings("0s");
        let own = findings.iter().find(|finding| finding.0["pieces"].to_string().contains("cali12345"));
        let own = own.unwrap_or_else(|| panic!("{findings:#?}"));
        (own.verdict().to_owned(), own.because().to_owned())
    };
    let in_use = ("in-use".to_owned(), "task".to_owned());
    podplumb_tests::wait_until("the process is in its namespace", || verdict() == in_use);
    run("ip", &["link", "set", "cali12345", "down"]);
    assert_eq!(verdict(), in_use, "no master and DOWN prove nothing");
    drop(inhabitant);
    assert_eq!(verdict(), ("orphan".to_owned(), "pinned-only".to_owned()));
}

#[test]
fn a_socket_alone_keeps_a_namespace_in_use() {
    if !require(&NEEDS) {
        return;
    }
    let _world = World::enter();
    run("ip", &["netns", "add", POD]);
    let netns = sys::NetNs::open(format!("/run/netns/{POD}")).unwrap();
    let socket = netns.run(|| std::net::UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    drop(netns);
    let because = || {
        let findings = podplumb.findings("0s");
        let own =
            findings.iter().find(|finding| finding.0["label"].to_string().contains(POD)).expect("a finding");
        (own.verdict().to_owned(), own.because().to_owned())
    };
    assert_eq!(because(), ("in-use".to_owned(), "socket".to_owned()));
    drop(socket);
    // The kernel frees a UDP socket after an RCU grace period.
    podplumb_tests::wait_until("the socket is gone", || because() == ("orphan".into(), "pinned-only".into()));
}

#[test]
fn what_reclaim_unpins_it_also_removes_from_the_directory_and_stale_files_go_too() {
    if !require(&NEEDS) {
        return;
    }
    let _world = World::enter();
    run("ip", &["netns", "add", POD]);
    let stale = "/run/netns/cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4eff";
    let (foreign, full) = ("/run/netns/mine", "/run/netns/cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4efe");
    std::fs::write(stale, "").unwrap();
    std::fs::write(foreign, "").unwrap();
    std::fs::write(full, "content").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    podplumb.expect(0, &["reclaim", "--apply", "--grace", "1s"]);
    assert!(!Path::new(stale).exists() && !Path::new(&format!("/run/netns/{POD}")).exists());
    assert!(Path::new(foreign).exists() && Path::new(full).exists(), "what no runtime made stays");
}

#[test]
fn many_links_go_together_and_those_of_others_stay() {
    if !require(&NEEDS) {
        return;
    }
    let _world = World::enter();
    run("ip", &["link", "add", "cni0", "type", "bridge"]);
    for n in 0..20 {
        let (pod, port) = (format!("cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e{n:02}"), format!("veth{n}"));
        run("ip", &["netns", "add", &pod]);
        run(
            "ip",
            &["link", "add", &port, "master", "cni0", "type", "veth", "peer", "name", "eth0", "netns", &pod],
        );
        run("ip", &["link", "set", &port, "up", "group", "7"]);
    }
    run("ip", &["netns", "add", "router"]);
    run("ip", &["link", "add", "mine", "type", "veth", "peer", "name", "eth0", "netns", "router"]);
    run("ip", &["link", "set", "mine", "group", "7"]);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    podplumb.expect(0, &["reclaim", "--apply", "--grace", "1s"]);
    let links = run("ip", &["-o", "link", "show", "type", "veth"]);
    assert_eq!(links.lines().count(), 1, "{links}");
    assert!(links.contains("mine@") && links.contains("group 7"), "{links}");
    assert!(podplumb.orphans("1s").is_empty());
}
