//! Pods that a real containerd has made.

use podplumb_tests::{Containerd, Plugins, Podplumb, World, require, run};

const NEEDS: [&str; 7] = ["containerd", "ctr", "runc", "busybox", "ip", "nft", "ping"];

fn pods_reach_each_other_and_the_world_masqueraded(plugins: Plugins, subnet: &str) {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    world.connect_uplink(1500);
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    let mut containerd = Containerd::start(&world, plugins, subnet);
    let pods = ["web", "cart"].map(|name| containerd.run_sandbox(name));
    let podplumb = Podplumb::default();
    let text = podplumb.expect(0, &["trace", "web", "cart"]);
    assert!(text.contains("bridged") && text.contains("cni0"), "{text}");
    // The router beyond has no way back to pods: answers come by masquerading alone.
    let ping = |to: &str| {
        let netns = format!("--net={}", pods[0].netns);
        podplumb_tests::output("nsenter", &[&netns, "ping", "-c", "1", "-W", "2", to]).status.success()
    };
    assert!(ping(&pods[1].ip) && ping("192.0.2.1"));
    let text = podplumb.expect(0, &["trace", "web", "192.0.2.1"]);
    assert!(text.contains("snat       from 192.0.2.10"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    // Real packets go the same way, and a service's port on the node leads to its pod.
    podplumb.expect(0, &["trace", "web", "cart", "--live"]);
    podplumb.expect(0, &["trace", "shop/web", "192.0.2.1", "--live"]);
    for rule in [
        &["add", "table", "ip", "hostport"][..],
        &["add", "chain", "ip", "hostport", "pre", "{ type nat hook prerouting priority -100 ; }"],
        &[
            "add",
            "rule",
            "ip",
            "hostport",
            "pre",
            "tcp",
            "dport",
            "8080",
            "dnat",
            "to",
            &format!("{}:80", pods[1].ip),
        ],
    ] {
        run("nft", rule);
    }
    let text = podplumb.expect(0, &["trace", "gw", "192.0.2.10", "--port", "tcp/8080", "--live"]);
    assert!(text.contains(&format!("dnat       to {}:80", pods[1].ip)), "{text}");
    assert!(text.contains("as computed"), "{text}");
    // Once the pod is gone, nothing goes by its name.
    containerd.remove_sandbox(&pods[0]);
    let gone = podplumb.run(&["trace", "web", "cart"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("nothing goes by \"web\""));
}

#[test]
fn pods_wired_by_podplumb() {
    pods_reach_each_other_and_the_world_masqueraded(Plugins::Podplumb, "10.66.31.0/24");
}

#[test]
fn pods_wired_by_the_reference_plugins() {
    pods_reach_each_other_and_the_world_masqueraded(Plugins::Reference, "10.66.32.0/24");
}
