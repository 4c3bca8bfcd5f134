//! A lease as time goes by: renewed, refused, expired.

use std::path::Path;
use std::time::Duration;

use podplumb_tests::{run, wait_until};

use super::lan::{LEASES, Lan, can_run, count, links, make_due, recorded};
use crate::inside;

#[test]
fn leases_of_seconds_are_renewed_and_hold_nothing_of_the_container() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let server = lan.udhcpd(110, 12);
    let daemon = lan.daemon(&["-broadcast"]);
    let answer = lan.add("a");
    let renewed = || count(&daemon.log(), "renewed");
    wait_until("the lease outlives itself", || renewed() >= 3);
    assert_eq!(count(&server.log(), "sending OFFER"), 1, "{}", server.log());
    assert!(count(&server.log(), "sending ACK") >= 4, "{}", server.log());
    assert!(lan.check("a", &answer).ok);

    run("ip", &["netns", "del", "a"]);
    wait_until("the daemon does not keep the namespace", || {
        !Path::new("/sys/class/net/v-a").exists() && !links().contains("v-a")
    });
    wait_until("the daemon forgets the lease", || recorded().is_empty());
    assert_eq!(lan.check("a", &answer).code(), 101);
    lan.plugin.del("a");
}

#[test]
fn a_refused_renewal_ends_the_use_of_the_address() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let mut server = lan.dnsmasq("10.77.0.100,10.77.0.110", &[]);
    let mut daemon = lan.daemon(&["-timeout", "3s"]);
    let answer = lan.add("a");
    daemon.crash();
    server.stop();
    drop(server);
    make_due("a", 60);
    std::fs::remove_file(lan.path("dnsmasq.leases")).unwrap();
    // A server that has other addresses refuses this one (NAK), and offers another, which the container cannot have.
    let server = lan.dnsmasq("10.77.0.200,10.77.0.210", &[]);
    let daemon = lan.daemon(&["-timeout", "3s"]);
    wait_until("the lease is lost", || daemon.log().contains("lost 10.77.0.1"));
    assert!(server.log().contains("DHCPNAK"), "{}", server.log());
    wait_until("the loss is noted", || lan.check("a", &answer).code() == 101);
    let eth0 = inside("a", &["ip", "link", "show", "eth0"]);
    assert!(eth0.contains("state DOWN"), "{eth0}");
    assert_eq!(recorded(), ["lan:a:eth0"], "DEL finds it");
    let again = lan.plugin.on("ADD", "a");
    assert!(again.ok && again.ip().starts_with("10.77.0.2"), "ADD begins anew: {:#}", again.json);
    lan.plugin.del("a");
    assert_eq!(recorded(), [""; 0]);
}

#[test]
fn a_server_that_is_not_where_it_was_is_found_again_by_broadcast() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let server = lan.udhcpd(110, 600);
    let mut daemon = lan.daemon(&[]);
    let answer = lan.add("a");
    daemon.crash();
    make_due("a", 6);
    // What is for the old address is not the server's any more.
    inside("server", &["ip", "link", "set", "eth0", "address", "02:00:00:00:00:77"]);
    let daemon = lan.daemon(&[]);
    wait_until("any server was asked", || daemon.log().contains("renewed"));
    assert!(daemon.log().contains("no answer from its server"), "{}", daemon.log());
    assert_eq!((count(&server.log(), "sending OFFER"), count(&server.log(), "sending ACK")), (1, 2));
    assert!(lan.check("a", &answer).ok);
    let record = std::fs::read_to_string(Path::new(LEASES).join("lan:a:eth0")).unwrap();
    assert!(record.contains("02:00:00:00:00:77"), "{record}");
}

#[test]
fn an_address_whose_lease_expired_is_not_used_any_more() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let mut server = lan.udhcpd(110, 6);
    let daemon = lan.daemon(&["-timeout", "2s"]);
    let answer = lan.add("a");
    assert!(inside("a", &["ip", "link", "show", "eth0"]).contains("state UP"));
    server.crash();
    wait_until("the lease is lost", || daemon.log().contains("lost 10.77.0.1"));
    wait_until("the loss is noted", || lan.check("a", &answer).code() == 101);
    assert!(inside("a", &["ip", "link", "show", "eth0"]).contains("state DOWN"));
    lan.plugin.del("a");
    assert_eq!(recorded(), [""; 0]);
}

#[test]
fn a_lease_that_expired_while_no_daemon_ran_is_asked_for_again() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let server = lan.udhcpd(110, 3);
    let mut daemon = lan.daemon(&[]);
    let answer = lan.add("a");
    daemon.crash();
    std::thread::sleep(Duration::from_secs(4));
    let daemon = lan.daemon(&[]);
    wait_until("the lease is renewed", || daemon.log().contains("renewed"));
    assert!(daemon.log().contains("expired meanwhile"), "{}", daemon.log());
    assert_eq!(count(&server.log(), "sending OFFER"), 2);
    assert!(lan.check("a", &answer).ok);
    assert!(inside("a", &["ip", "link", "show", "eth0"]).contains("state UP"));
}
