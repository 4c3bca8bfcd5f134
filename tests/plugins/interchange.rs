//! The reference plugins and ours on the same live node, in either direction.

use podplumb_tests::{Plugin, Plugins, World};

use crate::{Traces, can_run, inside, traces};

fn added_by_one_deleted_by_the_other(adder: Plugins, deleter: Plugins) {
    let world = World::enter();
    let (adder, deleter) = (Plugin::bridge(&world, adder), Plugin::bridge(&world, deleter));
    let first = adder.add("a");
    // The other one sees the lease and takes the next address on the same bridge.
    let second = deleter.add("b");
    assert_eq!((first.ip(), second.ip()), ("10.66.0.2".to_owned(), "10.66.0.3".to_owned()));
    inside("a", &["ping", "-c", "1", "-W", "2", &second.ip()]);
    let mut del = deleter.clone();
    del.config["prevResult"] = first.json;
    del.del("a");
    adder.del("b");
    assert_eq!(traces().leases, Traces::default().leases);
    assert_eq!(traces().veths, Traces::default().veths);
    // Round robin goes on where the other left off.
    assert_eq!(adder.add("c").ip(), "10.66.0.4");
}

#[test]
fn what_the_reference_plugin_added_ours_deletes() {
    if can_run() {
        added_by_one_deleted_by_the_other(Plugins::Reference, Plugins::Podplumb);
    }
}

#[test]
fn what_ours_added_the_reference_plugin_deletes() {
    if can_run() {
        added_by_one_deleted_by_the_other(Plugins::Podplumb, Plugins::Reference);
    }
}

#[test]
fn what_the_reference_tuning_changed_ours_restores() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let shown = || inside("a", &["ip", "-d", "link", "show", "eth0"]);
    let files = || std::fs::read_dir("/run/cni/tuning").map_or(0, Iterator::count);
    let bridge = Plugin::bridge(&world, Plugins::Reference).add("a").json;
    let before = shown();
    let config = serde_json::json!({
        "cniVersion": "1.0.0", "name": "pods", "type": "tuning", "prevResult": bridge,
        "mac": "0a:58:0a:42:00:09", "mtu": 1400, "promisc": true, "allmulti": true,
    });
    let with = |plugins| Plugin::of(&world.plugin_dir(plugins), config.clone());
    let [theirs, ours] = [Plugins::Reference, Plugins::Podplumb].map(with);
    let add = || {
        assert!(theirs.on("ADD", "a").ok);
        assert!(shown().contains("mtu 1400"), "{}", shown());
        assert_eq!(files(), 1);
    };
    add();
    ours.del("a");
    assert_eq!(shown(), before);
    assert_eq!(files(), 0);
    ours.del("a");

    // A crash of the reference plugin leaves an empty file: nothing can be restored, and nothing has to wait for it.
    std::fs::write("/run/cni/tuning/a_eth0.json", "").unwrap();
    ours.del("a");
    assert_eq!((shown(), files()), (before, 0));

    add();
    podplumb_tests::run("ip", &["netns", "del", "a"]);
    ours.del("a");
    assert_eq!(files(), 0, "the namespace is gone, and what was in it");
}

#[test]
fn our_bridge_calls_an_ipam_plugin_of_somebody_else() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    let directory = world.plugin_dir(Plugins::Podplumb);
    std::os::unix::fs::symlink("/usr/lib/cni/static", directory.join("somebody-elses")).unwrap();
    bridge.config["ipam"] = serde_json::json!({
        "type": "somebody-elses", "addresses": [{ "address": "10.66.0.77/24", "gateway": "10.66.0.1" }],
    });
    assert_eq!(bridge.add("a").ip(), "10.66.0.77");
    bridge.del("a");
    assert_eq!(traces(), Traces::default());
}

#[test]
fn their_bridge_uses_our_host_local() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let bridge = Plugin::bridge(&world, Plugins::Reference);
    let ours = world.plugin_dir(Plugins::Podplumb);
    run_with_path(&bridge, &ours.display().to_string());
}

/// ADD and DEL by one plugin with IPAM plugins from elsewhere.
fn run_with_path(bridge: &Plugin, path: &str) {
    podplumb_tests::run("ip", &["netns", "add", "a"]);
    for command in ["ADD", "DEL"] {
        let environment = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", "a"),
            ("CNI_NETNS", "/run/netns/a"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", path),
        ];
        let answer = bridge.call(&environment, bridge.config.to_string().as_bytes());
        assert!(answer.ok, "{command}: {:#}", answer.json);
        assert_eq!(traces().leases.len(), usize::from(command == "ADD"));
    }
}
