//! A path, an address or a process may be somebody else's by the time a DEL comes, late or for the second time.

use podplumb_tests::{Plugin, Plugins, World, run};
use serde_json::json;

use crate::{Traces, can_run, inside, traces};

#[test]
fn a_late_del_leaves_alone_who_has_its_path_and_its_address_now() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    bridge.config["ipMasq"] = true.into();
    // One address only, so that whoever comes next has the same.
    bridge.config["ipam"]["ranges"][0][0]["rangeEnd"] = "10.66.0.2".into();
    let first = bridge.add("a");
    bridge.config["prevResult"] = first.json.clone();
    let record = "/run/podplumb/attachments/pods:a:eth0";
    let saved = std::fs::read(record).unwrap();
    bridge.del("a");
    run("ip", &["netns", "del", "a"]);

    // Container b, in a new namespace at the path of a's.
    let mut second = bridge.clone();
    second.config.as_object_mut().unwrap().remove("prevResult");
    run("ip", &["netns", "add", "a"]);
    let environment = |command: &'static str, id: &'static str| {
        [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", "/run/netns/a"),
            ("CNI_IFNAME", "eth0"),
        ]
    };
    let added = second.call(&environment("ADD", "b"), second.config.to_string().as_bytes());
    assert!(added.ok && added.ip() == first.ip(), "{:#}", added.json);
    let before = traces();

    // As a crash of the runtime before it noted the DEL would have it: once without a's record, once with it.
    for put_back in [false, true] {
        if put_back {
            std::fs::write(record, &saved).unwrap();
        }
        let answer = bridge.call(&environment("DEL", "a"), bridge.config.to_string().as_bytes());
        assert!(answer.ok, "{:#}", answer.json);
        assert_eq!(traces(), before, "the record of a was there: {put_back}");
        inside("a", &["ping", "-c", "1", "-W", "2", "10.66.0.1"]);
    }
    assert!(second.call(&environment("DEL", "b"), second.config.to_string().as_bytes()).ok);
    assert_eq!(traces(), Traces::default());
}

#[test]
fn whoever_has_an_address_now_is_reached_at_once() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    // Two of each family: one for who comes and goes, one for a pod that talks to it.
    bridge.config["ipam"]["ranges"] = json!([
        [{ "subnet": "10.66.0.0/24", "rangeEnd": "10.66.0.3" }],
        [{ "subnet": "fd66::/64", "rangeEnd": "fd66::3" }],
    ]);
    assert_eq!(bridge.add("witness").ip(), "10.66.0.2");
    let reach = |address: &str| {
        let once = ["-c", "1", "-W", "2", address];
        run("ping", &once);
        inside("witness", &[&["ping"][..], &once].concat());
    };
    for round in 0..3 {
        let id = format!("pod{round}");
        let answer = bridge.add(&id);
        let addresses: Vec<&str> =
            answer.json["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap()).collect();
        assert_eq!(addresses, ["10.66.0.3/24", "fd66::3/64"]);
        reach("10.66.0.3");
        reach("fd66::3");
        bridge.del(&id);
        run("ip", &["netns", "del", &id]);
    }
}

#[test]
fn a_fifo_in_place_of_the_lock_does_not_stop_anybody() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let bridge = Plugin::bridge(&world, Plugins::Podplumb);
    std::fs::create_dir_all("/var/lib/cni/networks/pods").unwrap();
    run("mkfifo", &["/var/lib/cni/networks/pods/lock"]);
    run("mkfifo", &["/var/lib/cni/networks/pods/10.66.0.2"]);
    assert_eq!(bridge.add("a").ip(), "10.66.0.3");
    bridge.del("a");
}

#[test]
fn a_plugin_that_leaves_a_child_with_its_stdout_is_not_waited_for() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    let ipam = world.plugin_dir(Plugins::Podplumb).join("lingering");
    let script = "#!/bin/sh\n\
        [ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.66.0.9/24\"}]}'\n\
        sleep 120 &\n";
    std::fs::write(&ipam, script).unwrap();
    run("chmod", &["755", &ipam.display().to_string()]);
    bridge.config["ipam"] = json!({ "type": "lingering" });
    run("ip", &["netns", "add", "a"]);
    let start = std::time::Instant::now();
    let answer = bridge.on("ADD", "a");
    // Half of what the child sleeps: this is about waiting for ever, not about speed.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    assert!(!answer.ok || answer.ip() == "10.66.0.9", "{:#}", answer.json);
    bridge.del("a");
    assert_eq!(traces(), Traces::default());
}
