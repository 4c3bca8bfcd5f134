//! ADD, DEL, CHECK, GC, STATUS, VERSION.

use std::os::fd::AsRawFd;

use podplumb_tests::{Plugin, Plugins, World, run};
use serde_json::json;

use crate::{Traces, can_run, inside, traces};

fn every_version_adds_and_deletes(plugins: Plugins) {
    let world = World::enter();
    let mut bridge = Plugin::bridge(&world, plugins);
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        bridge.config["cniVersion"] = version.into();
        if plugins == Plugins::Reference && version == "1.1.0" {
            // Debian 12's are of before 1.1.0.
            continue;
        }
        let id = format!("v{}", version.replace('.', ""));
        let answer = bridge.add(&id);
        assert_eq!(answer.json["cniVersion"], version);
        inside(&id, &["ping", "-c", "1", "-W", "2", "10.66.0.1"]);
        assert!(inside(&id, &["ip", "-4", "addr", "show", "eth0"]).contains(&answer.ip()));
        bridge.del(&id);
        bridge.del(&id);
    }
    assert_eq!(traces(), Traces::default());
}

#[test]
fn every_version_adds_and_deletes_with_the_reference_plugins() {
    if can_run() {
        every_version_adds_and_deletes(Plugins::Reference);
    }
}

#[test]
fn every_version_adds_and_deletes_with_ours() {
    if can_run() {
        every_version_adds_and_deletes(Plugins::Podplumb);
    }
}

fn check_notices_what_is_missing(plugins: Plugins) {
    let world = World::enter();
    let mut bridge = Plugin::bridge(&world, plugins);
    let answer = bridge.add("a");
    bridge.config["prevResult"] = answer.json.clone();
    assert!(bridge.on("CHECK", "a").ok);
    inside("a", &["ip", "addr", "flush", "dev", "eth0"]);
    assert!(!bridge.on("CHECK", "a").ok, "an address is missing");
    bridge.del("a");
    assert_eq!(traces(), Traces::default());
}

#[test]
fn check_notices_what_is_missing_with_the_reference_plugins() {
    if can_run() {
        check_notices_what_is_missing(Plugins::Reference);
    }
}

#[test]
fn check_notices_what_is_missing_with_ours() {
    if can_run() {
        check_notices_what_is_missing(Plugins::Podplumb);
    }
}

#[test]
fn version_lists_all_versions() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let answer = Plugin::bridge(&world, Plugins::Podplumb).call(&[("CNI_COMMAND", "VERSION")], b"{}");
    assert_eq!(
        answer.json["supportedVersions"],
        json!(["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
    );
}

#[test]
fn gc_collects_what_is_not_valid_and_nothing_else() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    bridge.config["cniVersion"] = "1.1.0".into();
    bridge.config["ipMasq"] = true.into();
    let (kept, dead) = (bridge.add("kept"), bridge.add("dead"));
    // A lease without a record, as the reference plugin would have left it.
    std::fs::write("/var/lib/cni/networks/pods/10.66.0.99", "long-gone\r\neth0").unwrap();
    std::fs::write("/var/lib/cni/networks/pods/10.66.0.98", "").unwrap();
    let gc =
        |config: &serde_json::Value| bridge.call(&[("CNI_COMMAND", "GC")], config.to_string().as_bytes());
    let without_list = gc(&bridge.config);
    assert_eq!((without_list.ok, without_list.code()), (false, 7), "no list of valid attachments, no GC");
    let mut config = bridge.config.clone();
    config["cni.dev/valid-attachments"] = json!([{ "containerID": "kept", "ifname": "eth0" }]);
    let answer = gc(&config);
    assert!(answer.ok, "{:#}", answer.json);
    let left = traces();
    assert_eq!((left.veths.len(), left.records.as_slice()), (1, ["pods:kept:eth0".to_owned()].as_slice()));
    let mut leases = left.leases.clone();
    leases.sort();
    assert_eq!(leases, [kept.ip(), "10.66.0.98".to_owned()], "a lease that does not say whose it is stays");
    assert!(left.masqueraded.iter().all(|line| line.contains(&kept.ip()) && !line.contains(&dead.ip())));
    inside("kept", &["ping", "-c", "1", "-W", "2", "10.66.0.1"]);
}

#[test]
fn status_says_50_when_no_address_is_left() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    bridge.config["cniVersion"] = "1.1.0".into();
    bridge.config["ipam"]["ranges"][0][0]["rangeEnd"] = "10.66.0.3".into();
    let status = || bridge.call(&[("CNI_COMMAND", "STATUS")], bridge.config.to_string().as_bytes());
    assert!(status().ok, "before anything was leased");
    bridge.add("a");
    assert!(status().ok, "one address is left");
    bridge.add("b");
    assert_eq!((status().ok, status().code()), (false, 50));
    bridge.del("a");
    assert!(status().ok);
}

#[test]
fn commands_that_a_version_does_not_have_are_refused() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    for (version, command) in [("0.3.1", "CHECK"), ("1.0.0", "GC"), ("1.0.0", "STATUS")] {
        bridge.config["cniVersion"] = version.into();
        assert_eq!(bridge.on(command, "a").code(), 1, "{command} in {version}");
    }
}

#[test]
fn del_needs_no_namespace_no_interface_and_no_previous_result() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    bridge.config["ipMasq"] = true.into();
    bridge.add("gone");
    run("ip", &["netns", "del", "gone"]);
    bridge.del("gone");
    bridge.add("bare");
    inside("bare", &["ip", "link", "del", "eth0"]);
    bridge.del("bare");
    bridge.add("pathless");
    let pathless = [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "pathless"), ("CNI_IFNAME", "eth0")];
    assert!(bridge.call(&pathless, bridge.config.to_string().as_bytes()).ok);
    bridge.add("closed");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let by_now = format!("/proc/{}/fd/{}", std::process::id(), socket.as_raw_fd());
    let closed = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", "closed"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", &by_now),
    ];
    assert!(bridge.call(&closed, bridge.config.to_string().as_bytes()).ok);
    bridge.del("never-added");
    assert_eq!(traces(), Traces::default());
}

#[test]
fn thirty_at_once_get_thirty_addresses() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let bridge = Plugin::bridge(&world, Plugins::Podplumb);
    let ids: Vec<String> = (0..30).map(|n| format!("c{n}")).collect();
    for id in &ids {
        run("ip", &["netns", "add", id]);
    }
    // Threads of this one inherit its namespaces.
    let at_once = |command: &'static str| -> Vec<podplumb_tests::Answer> {
        std::thread::scope(|scope| {
            let calls: Vec<_> = ids.iter().map(|id| scope.spawn(|| bridge.on(command, id))).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        })
    };
    let answers = at_once("ADD");
    assert!(answers.iter().all(|answer| answer.ok), "{answers:?}");
    let addresses: std::collections::BTreeSet<String> =
        answers.iter().map(podplumb_tests::Answer::ip).collect();
    assert_eq!(addresses.len(), 30);
    assert!(at_once("DEL").iter().all(|answer| answer.ok));
    assert_eq!(traces(), Traces::default());
}
