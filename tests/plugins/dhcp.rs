//! dhcp: leases from real servers, dnsmasq and udhcpd, and from one that misbehaves.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use podplumb_tests::{Answer, Daemon, Plugin, Plugins, World, binaries, require, run, wait_until};
use serde_json::{Value, json};

use crate::inside;

const LEASES: &str = "/run/cni/dhcp-leases";

fn can_run() -> bool {
    require(&["ip", "ping", "nsenter", "dnsmasq", "busybox"])
}

/// A network: a bridge, a namespace for a server on it, and the plugin.
struct Lan {
    world: World,
    plugin: Plugin,
}

impl Lan {
    fn new() -> Self {
        let world = World::enter();
        run("ip", &["link", "add", "br0", "type", "bridge"]);
        run("ip", &["link", "set", "br0", "up"]);
        join("server");
        inside("server", &["ip", "addr", "add", "10.77.0.1/24", "dev", "eth0"]);
        inside("server", &["ip", "link", "set", "eth0", "up"]);
        // For broadcasts of servers that are not bound to an interface.
        inside("server", &["ip", "route", "add", "default", "dev", "eth0"]);
        let mut plugin = Plugin::bridge(&world, Plugins::Podplumb).named("dhcp");
        std::os::unix::fs::symlink(binaries().join("podplumb-cni"), program(&world)).unwrap();
        plugin.config =
            json!({ "cniVersion": "1.1.0", "name": "lan", "type": "bridge", "ipam": { "type": "dhcp" } });
        Self { world, plugin }
    }

    fn path(&self, name: &str) -> String {
        self.world.path().join(name).display().to_string()
    }

    fn daemon(&self, arguments: &[&str]) -> Daemon {
        let arguments = [&["daemon"], arguments].concat();
        let program = program(&self.world).display().to_string();
        let daemon = Daemon::start(&program, &arguments, &self.world.path().join("daemon.log"));
        wait_until("the daemon listens", || self.status().ok);
        daemon
    }

    fn status(&self) -> Answer {
        self.plugin.call(&[("CNI_COMMAND", "STATUS")], self.plugin.config.to_string().as_bytes())
    }

    /// dnsmasq with a range and these arguments. It gives no lease for less than two minutes.
    fn dnsmasq(&self, range: &str, more: &[&str]) -> Daemon {
        let range = format!("--dhcp-range={range},255.255.255.0,2m");
        let leases = format!("--dhcp-leasefile={}", self.path("dnsmasq.leases"));
        let own = [
            "--net=/run/netns/server",
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--pid-file=",
            "--port=0",
            "--interface=eth0",
            "--bind-interfaces",
            "--dhcp-authoritative",
            "--no-ping",
            "--log-dhcp",
            "--log-facility=-",
            &range,
            &leases,
        ];
        let server =
            Daemon::start("nsenter", &[&own[..], more].concat(), &self.world.path().join("server.log"));
        wait_until("dnsmasq serves", || server.log().contains("DHCP, IP range"));
        server
    }

    /// udhcpd with the addresses 10.77.0.100 to this one, leased for some seconds.
    fn udhcpd(&self, last: u8, seconds: u32) -> Daemon {
        let (leases, conf) = (self.path("udhcpd.leases"), self.path("udhcpd.conf"));
        let config = format!(
            "start 10.77.0.100\nend 10.77.0.{last}\ninterface eth0\nlease_file {leases}\npidfile {leases}.pid\n\
            option subnet 255.255.255.0\noption router 10.77.0.1\noption lease {seconds}\n"
        );
        std::fs::write(&leases, "").unwrap();
        std::fs::write(&conf, config).unwrap();
        let arguments = ["--net=/run/netns/server", "busybox", "udhcpd", "-f", "-a", "100", &conf];
        let server = Daemon::start("nsenter", &arguments, &self.world.path().join("server.log"));
        wait_until("udhcpd serves", || server.log().contains("started"));
        server
    }

    fn server_leases(&self) -> String {
        std::fs::read_to_string(self.path("dnsmasq.leases")).unwrap_or_default()
    }

    /// ADD in a new pod; the address is put on its interface, as an interface plugin does.
    fn add(&self, id: &str) -> Answer {
        join(id);
        let answer = self.plugin.on("ADD", id);
        assert!(answer.ok, "ADD {id}: {:#}", answer.json);
        let address = answer.json["ips"][0]["address"].as_str().unwrap();
        inside(id, &["ip", "addr", "add", address, "dev", "eth0"]);
        answer
    }

    fn check(&self, id: &str, added: &Answer) -> Answer {
        let mut plugin = self.plugin.clone();
        plugin.config["prevResult"] = added.json.clone();
        plugin.on("CHECK", id)
    }
}

/// Moves T1 of a lease to now and T2 to so many seconds from now, while no daemon runs: the next one begins with the renewal.
/// Leases of seconds would do as well, but not on a machine that is busy for as long.
fn make_due(id: &str, rebind_s: u64) {
    let path = Path::new(LEASES).join(format!("lan:{id}:eth0"));
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let times = &mut record["phase"]["bound"]["times"];
    assert!(times["renew"]["secs"].is_u64(), "{times}");
    times["renew"]["secs"] = 0.into();
    times["rebind"]["secs"] = (sys::since_boot().as_secs() + rebind_s).into();
    std::fs::write(&path, record.to_string()).unwrap();
}

fn program(world: &World) -> PathBuf {
    world.plugin_dir(Plugins::Podplumb).join("dhcp")
}

/// A namespace with an eth0 whose other end is in the bridge.
fn join(id: &str) {
    run("ip", &["netns", "add", id]);
    let port = format!("v-{id}");
    run("ip", &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", id]);
    run("ip", &["link", "set", &port, "master", "br0", "up"]);
}

fn recorded() -> Vec<String> {
    let entries = std::fs::read_dir(LEASES).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.')).collect()
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[test]
fn a_lease_becomes_a_result_and_goes_back_to_the_server() {
    if !can_run() {
        return;
    }
    let mut lan = Lan::new();
    let options = [
        "--dhcp-option=option:router,10.77.0.1",
        "--dhcp-option=option:dns-server,10.77.0.3,10.77.0.4",
        "--dhcp-option=option:domain-name,example.org",
        "--dhcp-option=option:domain-search,eng.example.org,example.org",
        "--dhcp-option=option:classless-static-route,192.0.2.0/24,10.77.0.9,0.0.0.0/0,10.77.0.1",
        "--dhcp-option=option:static-route,198.51.100.0,10.77.0.8",
    ];
    let server = lan.dnsmasq("10.77.0.100,10.77.0.110", &options);
    let _daemon = lan.daemon(&[]);
    lan.plugin.config["ipam"]["provide"] = json!([{ "option": "host-name", "fromArg": "K8S_POD_NAME" }]);
    lan.plugin.config["ipam"]["priority"] = 50.into();
    lan.plugin.args = "IgnoreUnknown=1;K8S_POD_NAME=web-0".into();
    let answer = lan.add("a");
    assert!(answer.ip().starts_with("10.77.0.1"), "{:#}", answer.json);
    assert_eq!(answer.json["ips"][0]["gateway"], "10.77.0.1");
    let routes = json!([
        { "dst": "192.0.2.0/24", "gw": "10.77.0.9", "priority": 50 },
        { "dst": "0.0.0.0/0", "gw": "10.77.0.1", "priority": 50 },
    ]);
    assert_eq!(answer.json["routes"], routes);
    let dns = json!({
        "nameservers": ["10.77.0.3", "10.77.0.4"],
        "domain": "example.org",
        "search": ["eng.example.org", "example.org"],
    });
    assert_eq!(answer.json["dns"], dns);
    // The client identifier a/lan/eth0 of type 0, and the name that was provided.
    let line = lan.server_leases();
    assert!(line.contains("00:61:2f:6c:61:6e:2f:65:74:68:30") && line.contains(" web-0 "), "{line}");
    assert_eq!(recorded(), ["lan:a:eth0"]);

    let again = lan.plugin.on("ADD", "a");
    assert_eq!(again.json, answer.json, "a second ADD has the same lease");
    assert_eq!(count(&server.log(), "DHCPDISCOVER"), 1);
    let checked = lan.check("a", &answer);
    assert!(checked.ok, "{:#}", checked.json);
    let mut other = answer.clone();
    other.json["ips"][0]["address"] = "10.77.0.77/24".into();
    assert_eq!(lan.check("a", &other).code(), 101);

    lan.plugin.del("a");
    wait_until("the server has the address back", || !lan.server_leases().contains(&answer.ip()));
    assert!(server.log().contains("DHCPRELEASE"));
    assert_eq!(recorded(), [""; 0]);
    assert_eq!(lan.check("a", &answer).code(), 101);
    lan.plugin.del("a");
    lan.plugin.del("never-added");
}

#[test]
fn the_router_is_the_default_route_unless_it_is_suppressed() {
    if !can_run() {
        return;
    }
    let mut lan = Lan::new();
    let _server =
        lan.dnsmasq("10.77.0.100,10.77.0.110", &["--dhcp-option=option:static-route,198.51.100.0,10.77.0.8"]);
    let _daemon = lan.daemon(&[]);
    let of = |answer: &Answer| (answer.json["ips"][0]["gateway"].clone(), answer.json["routes"].clone());
    let routes = json!([
        { "dst": "198.51.100.0/24", "gw": "10.77.0.8" },
        { "dst": "0.0.0.0/0", "gw": "10.77.0.1" },
    ]);
    assert_eq!(of(&lan.add("a")), (json!("10.77.0.1"), routes));
    lan.plugin.config["ipam"]["suppress"] = json!(["gateway"]);
    assert_eq!(of(&lan.add("b")), (Value::Null, json!([{ "dst": "198.51.100.0/24", "gw": "10.77.0.8" }])));
    // Nothing but the mask is asked for: dnsmasq then leaves out the rest.
    lan.plugin.config["ipam"] =
        json!({ "type": "dhcp", "request": [{ "skipDefault": true, "option": "subnet-mask" }] });
    assert_eq!(of(&lan.add("c")), (Value::Null, Value::Null));
}

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

fn links() -> String {
    run("ip", &["-o", "link", "show"])
}

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
fn gc_gives_back_what_is_not_valid_and_nothing_else() {
    if !can_run() {
        return;
    }
    let mut lan = Lan::new();
    let _server = lan.dnsmasq("10.77.0.100,10.77.0.110", &[]);
    let _daemon = lan.daemon(&[]);
    let (kept, dead) = (lan.add("kept"), lan.add("dead"));
    lan.plugin.config["name"] = "other".into();
    let other = lan.add("elsewhere");
    lan.plugin.config["name"] = "lan".into();
    let mut config = lan.plugin.config.clone();
    let gc = |config: &Value| lan.plugin.call(&[("CNI_COMMAND", "GC")], config.to_string().as_bytes());
    assert_eq!(gc(&config).code(), 7, "no list of valid attachments, no GC");
    config["cni.dev/valid-attachments"] = json!([{ "containerID": "kept", "ifname": "eth0" }]);
    assert!(gc(&config).ok);
    wait_until("the server has one address back", || !lan.server_leases().contains(&dead.ip()));
    assert!(lan.server_leases().contains(&kept.ip()) && lan.server_leases().contains(&other.ip()));
    let mut left = recorded();
    left.sort();
    assert_eq!(left, ["lan:kept:eth0", "other:elsewhere:eth0"]);
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

#[test]
fn a_container_that_comes_again_in_another_namespace_gets_a_lease_for_that_one() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let server = lan.dnsmasq("10.77.0.100,10.77.0.110", &[]);
    let _daemon = lan.daemon(&[]);
    lan.add("a");
    run("ip", &["netns", "del", "a"]);
    wait_until("the namespace is gone", || !links().contains("v-a"));
    lan.add("a");
    assert_eq!(count(&server.log(), "DHCPDISCOVER"), 2, "{}", server.log());
    lan.plugin.del("a");
}

#[test]
fn without_a_server_an_add_fails_in_time_and_leaves_nothing() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let _daemon = lan.daemon(&["-timeout", "2s"]);
    join("a");
    let answer = lan.plugin.on("ADD", "a");
    assert_eq!(answer.code(), 11, "{:#}", answer.json);
    assert_eq!(recorded(), [""; 0]);
    assert!(lan.status().ok);
    run("ip", &["netns", "add", "bare"]);
    let bare = lan.plugin.on("ADD", "bare");
    assert!(!bare.ok && bare.json["msg"].as_str().unwrap().contains("eth0"), "{:#}", bare.json);
    assert_eq!(recorded(), [""; 0]);
}

#[test]
fn hostile_configurations_are_refused() {
    if !can_run() {
        return;
    }
    let mut lan = Lan::new();
    join("a");
    for ipam in [
        json!({ "type": "host-local" }),
        json!({ "type": "dhcp", "daemonSocketPath": "../dhcp.sock" }),
        json!({ "type": "dhcp", "daemonSocketPath": "/run/".repeat(50) }),
        json!({ "type": "dhcp", "provide": [{ "option": "53", "value": "x" }] }),
        json!({ "type": "dhcp", "provide": [{ "option": "no-such", "value": "x" }] }),
        json!({ "type": "dhcp", "provide": [{ "option": "12", "value": "x".repeat(256) }] }),
        json!({ "type": "dhcp", "request": [{ "option": "300" }] }),
        json!({ "type": "dhcp", "request": "all" }),
        json!({ "type": "dhcp", "priority": -1 }),
    ] {
        lan.plugin.config["ipam"] = ipam.clone();
        assert_eq!(lan.plugin.on("ADD", "a").code(), 7, "{ipam}");
    }
}

/// A reply to a client's message.
fn reply(request: &[u8], kind: u8, yours: [u8; 4], options: &[&[u8]]) -> Vec<u8> {
    let mut bytes = request[..240].to_vec();
    bytes[0] = 2;
    bytes[16..20].copy_from_slice(&yours);
    bytes.extend_from_slice(&[53, 1, kind]);
    bytes.extend_from_slice(&options.concat());
    bytes.push(255);
    bytes
}

/// The kind of a client's message; it comes first.
fn kind(request: &[u8]) -> Option<u8> {
    request.get(240..243).filter(|option| option[..2] == [53, 1]).map(|option| option[2])
}

const SERVER: &[u8] = &[54, 4, 10, 77, 0, 1];
const MASK: &[u8] = &[1, 4, 255, 255, 255, 0];
const MINUTE: &[u8] = &[51, 4, 0, 0, 0, 60];

/// A server of the test's own: `answers` makes messages of each one that comes. Ends with the value that is returned.
struct OwnServer {
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl OwnServer {
    fn start(mut answers: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        let netns = sys::NetNs::open("/run/netns/server").unwrap();
        let socket = netns.run(|| UdpSocket::bind("0.0.0.0:67")).unwrap().unwrap();
        socket.set_broadcast(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !ended.load(Ordering::Relaxed) {
                let Ok((length, _)) = socket.recv_from(&mut buffer) else { continue };
                for answer in answers(&buffer[..length]) {
                    let _ = socket.send_to(&answer, "255.255.255.255:68");
                }
            }
        });
        Self { end, thread: Some(thread) }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

#[test]
fn malformed_and_foreign_answers_are_ignored() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let daemon = lan.daemon(&[]);
    let _server = OwnServer::start(|request| {
        let (answer, yours): (u8, [u8; 4]) = match kind(request) {
            Some(1) => (2, [10, 77, 0, 50]),
            Some(3) => (5, [10, 77, 0, 50]),
            _ => return Vec::new(),
        };
        let good = reply(request, answer, yours, &[SERVER, MASK, MINUTE]);
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        let mut answers: Vec<Vec<u8>> =
            (0..good.len()).step_by(3).map(|length| good[..length].to_vec()).collect();
        answers.extend([
            changed(0, 1),
            changed(1, 7),
            changed(4, request[4].wrapping_add(1)),
            changed(28, request[28] ^ 2),
            changed(236, 0),
            // The first option's length leads out of the message.
            changed(241, 255),
            reply(request, answer, [127, 0, 0, 1], &[SERVER, MASK, MINUTE]),
            reply(request, answer, [10, 77, 0, 66], &[]),
            vec![0xff; 1400],
        ]);
        answers.push(good);
        answers
    });
    let answer = lan.add("a");
    assert_eq!(answer.ip(), "10.77.0.50", "{}", daemon.log());
    assert_eq!(count(&daemon.log(), "leased"), 1);
}

#[test]
fn a_server_that_never_stops_refusing_is_not_asked_for_ever() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let _daemon = lan.daemon(&["-timeout", "4s"]);
    let discovers = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&discovers);
    let _server = OwnServer::start(move |request| match kind(request) {
        Some(1) => {
            counted.fetch_add(1, Ordering::Relaxed);
            vec![reply(request, 2, [10, 77, 0, 50], &[SERVER, MASK, MINUTE])]
        }
        Some(3) => vec![reply(request, 6, [0; 4], &[SERVER])],
        _ => Vec::new(),
    });
    join("a");
    let answer = lan.plugin.on("ADD", "a");
    assert_eq!(answer.code(), 100, "{:#}", answer.json);
    // It began anew, but with the pauses of a client that hears nothing.
    let discovers = discovers.load(Ordering::Relaxed);
    assert!((2..=5).contains(&discovers), "{discovers} DISCOVERs");
    assert_eq!(recorded(), [""; 0]);
}

#[test]
fn an_add_that_died_with_its_daemon_is_given_back_by_the_next_one() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let mut daemon = lan.daemon(&[]);
    let released = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&released);
    // It gives the address, but its ACK is lost.
    let _server = OwnServer::start(move |request| match kind(request) {
        Some(1) => vec![reply(request, 2, [10, 77, 0, 50], &[SERVER, MASK, MINUTE])],
        Some(7) if request[12..16] == [10, 77, 0, 50] => {
            seen.store(true, Ordering::Relaxed);
            Vec::new()
        }
        _ => Vec::new(),
    });
    join("a");
    std::thread::scope(|scope| {
        let add = scope.spawn(|| lan.plugin.on("ADD", "a"));
        let record = Path::new(LEASES).join("lan:a:eth0");
        let asked = || std::fs::read_to_string(&record).is_ok_and(|text| text.contains("requesting"));
        wait_until("the address is asked for", asked);
        daemon.crash();
        assert_eq!(add.join().unwrap().code(), 11);
    });
    assert_eq!(recorded(), ["lan:a:eth0"]);
    assert!(!released.load(Ordering::Relaxed));
    // The server is no part of that network any more for a renewal, but the release needs only the MAC that was noted.
    let _daemon = lan.daemon(&[]);
    wait_until("the address is given back", || released.load(Ordering::Relaxed) && recorded().is_empty());
    lan.plugin.del("a");
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
fn twenty_at_once_get_twenty_addresses() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let _server = lan.dnsmasq("10.77.0.100,10.77.0.200", &[]);
    let _daemon = lan.daemon(&[]);
    let ids: Vec<String> = (0..20).map(|n| format!("c{n}")).collect();
    ids.iter().for_each(|id| join(id));
    let at_once = |command: &'static str| -> Vec<Answer> {
        std::thread::scope(|scope| {
            let calls: Vec<_> = ids.iter().map(|id| scope.spawn(|| lan.plugin.on(command, id))).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        })
    };
    let answers = at_once("ADD");
    assert!(answers.iter().all(|answer| answer.ok), "{answers:?}");
    let addresses: std::collections::BTreeSet<String> = answers.iter().map(Answer::ip).collect();
    assert_eq!(addresses.len(), 20);
    assert!(at_once("DEL").iter().all(|answer| answer.ok));
    wait_until("the server has all addresses back", || !lan.server_leases().contains("10.77.0."));
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
    let unit = include_str!("../../deploy/podplumb-dhcp.service");
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
fn the_reference_bridge_gives_a_pod_the_leased_address() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let _server = lan.dnsmasq("10.77.0.100,10.77.0.110", &[]);
    let _daemon = lan.daemon(&[]);
    let mut bridge = Plugin::bridge(&lan.world, Plugins::Reference);
    bridge.config = json!({ "cniVersion": "1.0.0", "name": "lan", "type": "bridge", "bridge": "br0", "ipam": { "type": "dhcp" } });
    let path = lan.world.plugin_dir(Plugins::Podplumb).display().to_string();
    let call = |command: &str| {
        let environment = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", "a"),
            ("CNI_NETNS", "/run/netns/a"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", &path),
        ];
        bridge.call(&environment, bridge.config.to_string().as_bytes())
    };
    run("ip", &["netns", "add", "a"]);
    let answer = call("ADD");
    assert!(answer.ok, "{:#}", answer.json);
    assert!(inside("a", &["ip", "-4", "addr", "show", "eth0"]).contains(&answer.ip()));
    assert!(inside("a", &["ip", "route"]).contains("default via 10.77.0.1"));
    inside("a", &["ping", "-c", "1", "-W", "2", "10.77.0.1"]);
    assert!(call("DEL").ok);
    // The reference bridge deletes the interface first: nothing is left through which the server could be told.
    assert_eq!(recorded(), [""; 0]);
}
