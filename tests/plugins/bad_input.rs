//! Everything that can be wrong with what a runtime passes: an error with the specification's code, and nothing half done.

use std::path::Path;

use podplumb_tests::{Plugin, Plugins, World, run};
use serde_json::{Value, json};

use crate::{Traces, can_run, traces};

/// The code of a failed ADD with this configuration.
fn code_of(bridge: &Plugin, config: &[u8]) -> i64 {
    let environment = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "a"),
        ("CNI_NETNS", "/run/netns/a"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", &bridge.args),
    ];
    let answer = bridge.call(&environment, config);
    assert!(!answer.ok, "{}", String::from_utf8_lossy(config));
    let message = answer.json["msg"].as_str().unwrap_or_default();
    assert!(!message.is_empty() && answer.json["cniVersion"].is_string(), "{:#}", answer.json);
    answer.code()
}

#[test]
fn configurations_that_cannot_work_are_refused_with_their_code() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    run("ip", &["netns", "add", "a"]);
    let bridge = Plugin::bridge(&world, Plugins::Podplumb);
    for text in ["", "   ", "{", "[]", "null", "\"x\"", "{\"cniVersion\":\"1.0.0\""] {
        assert_eq!(code_of(&bridge, text.as_bytes()), 6, "{text:?}");
    }
    let with = |change: &dyn Fn(&mut Value)| {
        let mut config = bridge.config.clone();
        change(&mut config);
        code_of(&bridge, config.to_string().as_bytes())
    };
    type Change = fn(&mut Value);
    let table: [(&str, i64, Change); 22] = [
        ("unknown version", 1, |c| c["cniVersion"] = "9.9.9".into()),
        ("version that is no string", 7, |c| c["cniVersion"] = 1.into()),
        ("no name", 7, |c| c["name"] = Value::Null),
        ("name that leaves its directory", 7, |c| c["name"] = "../x".into()),
        ("bridge name of 16 bytes", 7, |c| c["bridge"] = "sixteen_bytes_xx".into()),
        ("bridge name with NUL", 7, |c| c["bridge"] = "a\0b".into()),
        ("bridge name with a slash", 7, |c| c["bridge"] = "a/b".into()),
        ("bridge of another type", 7, |c| c["isGateway"] = "yes".into()),
        ("VLAN out of range", 7, |c| c["vlan"] = 4095.into()),
        ("trunk without ids", 7, |c| c["vlanTrunk"] = json!([{}])),
        ("trunk backwards", 7, |c| c["vlanTrunk"] = json!([{ "minID": 20, "maxID": 10 }])),
        ("hairpin and promiscuous", 7, |c| {
            c["hairpinMode"] = true.into();
            c["promiscMode"] = true.into();
        }),
        ("unknown backend", 7, |c| c["ipMasqBackend"] = "pf".into()),
        ("mtu out of range", 7, |c| c["mtu"] = 40.into()),
        ("MAC that is none", 7, |c| c["runtimeConfig"] = json!({ "mac": "zz" })),
        ("multicast MAC", 7, |c| c["runtimeConfig"] = json!({ "mac": "01:00:5e:00:00:01" })),
        ("subnet too small", 7, |c| c["ipam"]["ranges"] = json!([[{ "subnet": "10.66.0.0/31" }]])),
        ("subnet with host bits", 7, |c| c["ipam"]["ranges"] = json!([[{ "subnet": "10.66.0.7/24" }]])),
        ("subnet that is none", 7, |c| c["ipam"] = json!({ "type": "host-local", "subnet": "10.66.0.0" })),
        ("no range", 7, |c| c["ipam"] = json!({ "type": "host-local" })),
        ("requested address that is none", 7, |c| c["runtimeConfig"] = json!({ "ips": ["x"] })),
        ("requested address of another subnet", 100, |c| {
            c["runtimeConfig"] = json!({ "ips": ["192.0.2.9"] })
        }),
    ];
    for (what, code, change) in table {
        assert_eq!(with(&change), code, "{what}");
    }
    assert_eq!(with(&|c| c["ipam"]["type"] = "../../bin/sh".into()), 7, "an IPAM plugin outside of CNI_PATH");
    assert_eq!(with(&|c| c["ipam"]["type"] = "no-such-ipam".into()), 7);
    assert_eq!(traces(), Traces::default());
}

#[test]
fn environments_that_cannot_work_are_refused_with_their_code() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    run("ip", &["netns", "add", "a"]);
    let bridge = Plugin::bridge(&world, Plugins::Podplumb);
    let config = bridge.config.to_string();
    let base = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "a"),
        ("CNI_NETNS", "/run/netns/a"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", ""),
    ];
    let table = [
        ("CNI_COMMAND", "", 4),
        ("CNI_COMMAND", "FLY", 4),
        ("CNI_CONTAINERID", "", 4),
        ("CNI_CONTAINERID", "../x", 4),
        ("CNI_IFNAME", "", 4),
        ("CNI_IFNAME", "sixteen_bytes_xx", 4),
        ("CNI_IFNAME", "a/b", 4),
        ("CNI_IFNAME", "..", 4),
        ("CNI_NETNS", "", 4),
        ("CNI_NETNS", "/run/netns/none", 8),
        ("CNI_NETNS", "/etc/passwd", 8),
        ("CNI_NETNS", "/proc/self/ns/mnt", 8),
        ("CNI_NETNS", "/proc/self/ns/net", 8),
        ("CNI_ARGS", "novalue", 4),
        ("CNI_ARGS", "UNKNOWN=1", 4),
        ("CNI_ARGS", "MAC=zz", 4),
        ("CNI_ARGS", "IP=zz", 4),
    ];
    for (name, value, code) in table {
        let changed: Vec<(&str, &str)> =
            base.iter().map(|(key, old)| (*key, if *key == name { value } else { old })).collect();
        let answer = bridge.call(&changed, config.as_bytes());
        assert_eq!((answer.ok, answer.code()), (false, code), "{name}={value}: {:#}", answer.json);
    }
    assert_eq!(traces(), Traces::default());
}

#[test]
fn an_exhausted_pool_leaves_nothing_behind() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    bridge.config["ipam"]["ranges"][0][0]["rangeEnd"] = "10.66.0.2".into();
    bridge.config["ipMasq"] = true.into();
    bridge.add("a");
    let before = traces();
    run("ip", &["netns", "add", "b"]);
    let answer = bridge.on("ADD", "b");
    assert_eq!((answer.ok, answer.code()), (false, 100));
    assert!(answer.json["details"].as_str().unwrap().contains("podplumb leaks"), "{:#}", answer.json);
    assert_eq!(traces(), before);
    assert!(!run("nsenter", &["--net=/run/netns/b", "ip", "link"]).contains("eth0"));
}

#[test]
fn an_interface_that_exists_already_makes_add_fail_and_changes_nothing() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let bridge = Plugin::bridge(&world, Plugins::Podplumb);
    bridge.add("a");
    let before = traces();
    assert!(!bridge.on("ADD", "a").ok, "a second ADD");
    run("ip", &["netns", "add", "b"]);
    run("nsenter", &["--net=/run/netns/b", "ip", "link", "add", "eth0", "type", "bridge"]);
    assert!(!bridge.on("ADD", "b").ok, "somebody else's eth0");
    assert_eq!(traces(), before);
    assert!(run("nsenter", &["--net=/run/netns/b", "ip", "link"]).contains("eth0"));
    bridge.del("b");
    assert!(
        run("nsenter", &["--net=/run/netns/b", "ip", "link"]).contains("eth0"),
        "DEL leaves it alone too"
    );
}

#[test]
fn foreign_files_among_the_leases_survive_and_symlinks_are_not_followed() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let bridge = Plugin::bridge(&world, Plugins::Podplumb);
    let network = Path::new("/var/lib/cni/networks/pods");
    std::fs::create_dir_all(network).unwrap();
    let precious = world.path().join("precious");
    std::fs::write(&precious, "a\r\neth0").unwrap();
    std::os::unix::fs::symlink(&precious, network.join("10.66.0.2")).unwrap();
    std::fs::write(network.join("10.66.0.3"), "").unwrap();
    std::fs::write(network.join("10.66.0.4"), b"\xff\xfe").unwrap();
    std::fs::write(network.join("notes.txt"), "mine").unwrap();
    std::fs::create_dir(network.join("10.66.0.5")).unwrap();
    let answer = bridge.add("a");
    assert_eq!(answer.ip(), "10.66.0.6", "what is there is taken, whatever it is");
    bridge.del("a");
    assert!(precious.exists() && network.join("10.66.0.2").is_symlink());
    for name in ["10.66.0.3", "10.66.0.4", "10.66.0.5", "notes.txt"] {
        assert!(network.join(name).exists(), "{name}");
    }

    let elsewhere = world.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, "/var/lib/cni/networks/linked").unwrap();
    let mut linked = bridge.clone();
    linked.config["name"] = "linked".into();
    run("ip", &["netns", "add", "b"]);
    assert_eq!(linked.on("ADD", "b").code(), 5);
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn a_damaged_record_does_not_keep_del_from_removing_what_there_is() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    let bridge = Plugin::bridge(&world, Plugins::Podplumb);
    bridge.add("a");
    std::fs::write("/run/podplumb/attachments/pods:a:eth0", "{\"version\":").unwrap();
    bridge.del("a");
    assert_eq!(traces(), Traces::default());
}

#[test]
fn host_local_and_loopback_refuse_what_is_not_theirs() {
    if !can_run() {
        return;
    }
    let world = World::enter();
    run("ip", &["netns", "add", "a"]);
    let mut bridge = Plugin::bridge(&world, Plugins::Podplumb);
    bridge.config["ipam"] = json!({ "type": "static" });
    assert_eq!(bridge.named("host-local").on("ADD", "a").code(), 7);
    bridge.config = json!({ "cniVersion": "1.0.0", "name": "lo", "type": "loopback" });
    let loopback = bridge.named("loopback");
    assert!(loopback.on("ADD", "a").ok);
    assert!(run("nsenter", &["--net=/run/netns/a", "ip", "link", "show", "lo"]).contains("UP"));
    loopback.del("a");
    assert_eq!(loopback.on("ADD", "none").code(), 8);
    loopback.del("none");
}
