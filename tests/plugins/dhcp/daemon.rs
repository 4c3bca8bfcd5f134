//! The daemon: its death, its start, its socket.

use std::path::Path;
use std::time::Duration;

use podplumb_tests::{Daemon, require, run, wait_until};
use serde_json::{Value, json};

use super::lan::{LEASES, Lan, can_run, count, join, make_due, program, recorded};
use crate::inside;

#[test]
fn a_killed_daemon_leaves_its_leases_to_the_next_one() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    // One address only: who comes next gets it if it was given back.
    let server = lan.udhcpd(100, 600);
    let mut daemon = lan.daemon(&[]);
    let answer = lan.add("a");
    daemon.crash();
    assert_eq!(lan.status().code(), 50, "{:#}", lan.status().json);
    assert_eq!(lan.plugin.on("ADD", "a").code(), 11);
    assert_eq!(lan.plugin.on("DEL", "a").code(), 11, "what is recorded has to be given back");
    lan.plugin.del("never-added");
    let gc = |valid: Value| {
        let mut config = lan.plugin.config.clone();
        config["cni.dev/valid-attachments"] = valid;
        lan.plugin.call(&[("CNI_COMMAND", "GC")], config.to_string().as_bytes())
    };
    assert!(gc(json!([{ "containerID": "a", "ifname": "eth0" }])).ok, "nothing to give back");
    assert_eq!(gc(json!([])).code(), 11);

    assert_eq!(count(&server.log(), "sending ACK"), 1);
    make_due("a", 300);
    let daemon = lan.daemon(&["-timeout", "3s"]);
    wait_until("the next daemon renews", || daemon.log().contains("renewed"));
    assert_eq!(count(&server.log(), "sending OFFER"), 1);
    assert_eq!(count(&server.log(), "sending ACK"), 2);
    assert!(lan.check("a", &answer).ok);
    join("b");
    assert_eq!(lan.plugin.on("ADD", "b").code(), 11, "no address is left");
    lan.plugin.del("a");
    inside("a", &["ip", "addr", "flush", "dev", "eth0"]);
    assert_eq!(lan.plugin.on("ADD", "b").ip(), answer.ip());
}

#[test]
fn whenever_a_daemon_dies_del_finds_what_the_server_gave() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let _server = lan.dnsmasq("10.77.0.100,10.77.0.200", &[]);
    let (mut given, mut not_given) = (0, 0);
    // From before the first packet to after the answer; an ADD takes a few milliseconds.
    for step in 0..40 {
        let id = format!("a{step}");
        join(&id);
        let mut daemon = lan.daemon(&[]);
        std::thread::scope(|scope| {
            scope.spawn(|| lan.plugin.on("ADD", &id));
            std::thread::sleep(Duration::from_micros(step * 400));
            daemon.crash();
        });
        // What was sent before the end may still be on its way.
        std::thread::sleep(Duration::from_millis(50));
        // The server's table has the client identifier in hexadecimal.
        let client: String = format!("{id}/lan/eth0").bytes().map(|byte| format!(":{byte:02x}")).collect();
        let has_lease = || lan.server_leases().contains(&format!(" 00{client}"));
        match has_lease() {
            true => given += 1,
            false => not_given += 1,
        }
        assert!(!has_lease() || recorded() == [format!("lan:{id}:eth0")], "step {step}: {:?}", recorded());
        let _next = lan.daemon(&[]);
        lan.plugin.del(&id);
        wait_until("the server has the address back", || !has_lease());
        assert_eq!(recorded(), [""; 0], "step {step}");
    }
    assert!(given > 0 && not_given > 0, "the moments are well chosen: {given} and {not_given}");
}

#[test]
fn a_lease_whose_namespace_went_with_the_daemon_is_forgotten() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let _server = lan.dnsmasq("10.77.0.100,10.77.0.110", &[]);
    let mut daemon = lan.daemon(&[]);
    lan.add("gone");
    lan.add("replaced");
    lan.add("kept");
    daemon.crash();
    for id in ["gone", "replaced"] {
        run("ip", &["netns", "del", id]);
    }
    run("ip", &["netns", "add", "replaced"]);
    // Not readable, as no daemon writes it.
    std::fs::write(Path::new(LEASES).join("lan:damaged:eth0"), "{").unwrap();
    let _daemon = lan.daemon(&[]);
    wait_until("only one is left", || recorded() == ["lan:kept:eth0"]);
    for id in ["gone", "replaced", "kept", "damaged"] {
        lan.plugin.del(id);
    }
    assert_eq!(recorded(), [""; 0]);
}

#[test]
fn a_daemon_serves_the_socket_that_a_service_manager_opened() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let _server = lan.dnsmasq("10.77.0.100,10.77.0.110", &[]);
    std::fs::create_dir_all("/run/cni").unwrap();
    let listener = std::os::unix::net::UnixListener::bind("/run/cni/dhcp.sock").unwrap();
    let script =
        "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" daemon -pidfile /run/dhcp.pid";
    let mut daemon = std::process::Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(program(&lan.world))
        .stdin(std::os::fd::OwnedFd::from(listener))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // The socket was there before the daemon: nothing has to be waited for.
    let answer = lan.add("a");
    lan.plugin.del("a");
    let pid = std::fs::read_to_string("/run/dhcp.pid").unwrap();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(answer.ip().starts_with("10.77.0."));
    assert_eq!(pid, daemon.id().to_string());
}

#[test]
fn the_capabilities_of_the_unit_suffice() {
    if !can_run() || !require(&["setpriv"]) {
        return;
    }
    let lan = Lan::new();
    let server = lan.dnsmasq("10.77.0.100,10.77.0.110", &[]);
    let unit = include_str!("../../../deploy/podplumb-dhcp.service");
    let set = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let set: String = set.split(' ').map(|name| name.replace("CAP_", ",+").to_lowercase()).collect();
    let arguments = [
        &format!("--bounding-set=-all{set}"),
        "--no-new-privs",
        &program(&lan.world).display().to_string(),
        "daemon",
    ];
    let daemon = Daemon::start("setpriv", &arguments, &lan.world.path().join("daemon.log"));
    wait_until("the daemon listens", || lan.status().ok);
    let bounding = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    assert!(!bounding.contains("CapEff:\t000001ffffffffff"), "{bounding}");
    let answer = lan.add("a");
    assert!(lan.check("a", &answer).ok);
    lan.plugin.del("a");
    wait_until("the server has the address back", || server.log().contains("DHCPRELEASE"));
}

#[test]
fn a_daemon_in_a_container_finds_the_host_by_its_prefix() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let _server = lan.dnsmasq("10.77.0.100,10.77.0.110", &[]);
    let host = lan.path("host");
    std::fs::create_dir(&host).unwrap();
    std::os::unix::fs::symlink("/run", Path::new(&host).join("run")).unwrap();
    let _daemon = lan.daemon(&["-hostprefix", &host]);
    lan.add("a");
    lan.plugin.del("a");
    // Without a prefix it would look at another place.
    std::fs::remove_file(Path::new(&host).join("run")).unwrap();
    join("b");
    assert_eq!(lan.plugin.on("ADD", "b").code(), 8);
}

#[test]
fn a_second_daemon_does_not_take_the_leases_of_the_first() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let _first = lan.daemon(&[]);
    let second = podplumb_tests::output(program(&lan.world), &["daemon"]);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(lan.status().ok, "the first still listens");
    let wrong = podplumb_tests::output(program(&lan.world), &["daemon", "-no-such-flag"]);
    assert_eq!(wrong.status.code(), Some(2));
    let mode = std::fs::metadata("/run/cni/dhcp.sock").unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
}

#[test]
fn a_del_ends_an_add_that_is_under_way() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let daemon = lan.daemon(&["-timeout", "1h"]);
    join("a");
    std::thread::scope(|scope| {
        let add = scope.spawn(|| lan.plugin.on("ADD", "a"));
        wait_until("the ADD is under way", || !recorded().is_empty());
        lan.plugin.del("a");
        let answer = add.join().unwrap();
        assert_eq!(answer.code(), 11, "{:#}", answer.json);
    });
    assert_eq!(recorded(), [""; 0], "{}", daemon.log());
}
