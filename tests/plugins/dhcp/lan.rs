//! What the tests of dhcp have in common: a network, servers on it, and the daemon.

use std::path::{Path, PathBuf};

use podplumb_tests::{Answer, Daemon, Plugin, Plugins, World, require, run, wait_until};
use serde_json::{Value, json};

use crate::inside;

pub(super) const LEASES: &str = "/run/cni/dhcp-leases";

pub(super) fn can_run() -> bool {
    require(&["ip", "ping", "nsenter", "dnsmasq", "busybox"])
}

/// A network: a bridge, a namespace for a server on it, and the plugin.
pub(super) struct Lan {
    pub(super) world: World,
    /// The plugin, with a configuration that is to be changed at will.
    pub(super) plugin: Plugin,
}

impl Lan {
    pub(super) fn new() -> Self {
        let world = World::enter();
        run("ip", &["link", "add", "br0", "type", "bridge"]);
        run("ip", &["link", "set", "br0", "up"]);
        join("server");
        inside("server", &["ip", "addr", "add", "10.77.0.1/24", "dev", "eth0"]);
        inside("server", &["ip", "link", "set", "eth0", "up"]);
        // For broadcasts of servers that are not bound to an interface.
        inside("server", &["ip", "route", "add", "default", "dev", "eth0"]);
        let mut plugin = Plugin::bridge(&world, Plugins::Podplumb).named("dhcp");
        plugin.config =
            json!({ "cniVersion": "1.1.0", "name": "lan", "type": "bridge", "ipam": { "type": "dhcp" } });
        Self { world, plugin }
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.world.path().join(name).display().to_string()
    }

    pub(super) fn daemon(&self, arguments: &[&str]) -> Daemon {
        let arguments = [&["daemon"], arguments].concat();
        let program = program(&self.world).display().to_string();
        let daemon = Daemon::start(&program, &arguments, &self.world.path().join("daemon.log"));
        wait_until("the daemon listens", || self.status().ok);
        daemon
    }

    pub(super) fn status(&self) -> Answer {
        self.plugin.call(&[("CNI_COMMAND", "STATUS")], self.plugin.config.to_string().as_bytes())
    }

    /// dnsmasq with a range and these arguments. It gives no lease for less than two minutes.
    pub(super) fn dnsmasq(&self, range: &str, more: &[&str]) -> Daemon {
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
    pub(super) fn udhcpd(&self, last: u8, seconds: u32) -> Daemon {
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

    pub(super) fn server_leases(&self) -> String {
        std::fs::read_to_string(self.path("dnsmasq.leases")).unwrap_or_default()
    }

    /// ADD in a new pod; the address is put on its interface, as an interface plugin does.
    pub(super) fn add(&self, id: &str) -> Answer {
        join(id);
        let answer = self.plugin.on("ADD", id);
        assert!(answer.ok, "ADD {id}: {:#}", answer.json);
        let address = answer.json["ips"][0]["address"].as_str().unwrap();
        inside(id, &["ip", "addr", "add", address, "dev", "eth0"]);
        answer
    }

    pub(super) fn check(&self, id: &str, added: &Answer) -> Answer {
        let mut plugin = self.plugin.clone();
        plugin.config["prevResult"] = added.json.clone();
        plugin.on("CHECK", id)
    }
}

/// Moves T1 of a lease to now and T2 to so many seconds from now, while no daemon runs: the next one begins with the renewal.
/// Leases of seconds would do as well, but not on a machine that is busy for as long.
pub(super) fn make_due(id: &str, rebind_s: u64) {
    let path = Path::new(LEASES).join(format!("lan:{id}:eth0"));
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let times = &mut record["phase"]["bound"]["times"];
    assert!(times["renew"]["secs"].is_u64(), "{times}");
    times["renew"]["secs"] = 0.into();
    times["rebind"]["secs"] = (sys::since_boot().as_secs() + rebind_s).into();
    std::fs::write(&path, record.to_string()).unwrap();
}

pub(super) fn program(world: &World) -> PathBuf {
    world.plugin_dir(Plugins::Podplumb).join("dhcp")
}

/// A namespace with an eth0 whose other end is in the bridge.
pub(super) fn join(id: &str) {
    run("ip", &["netns", "add", id]);
    let port = format!("v-{id}");
    run("ip", &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", id]);
    run("ip", &["link", "set", &port, "master", "br0", "up"]);
}

pub(super) fn recorded() -> Vec<String> {
    let entries = std::fs::read_dir(LEASES).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.')).collect()
}

pub(super) fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

pub(super) fn links() -> String {
    run("ip", &["-o", "link", "show"])
}
