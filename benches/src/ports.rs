//! The first packet of a connection to a mapped port, when many ports are mapped.

use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use podplumb_tests::{Plugins, World, run as start};
use serde_json::{Value, json};
use sys::NetNs;

use crate::call::{Call, unpin};
use crate::world::{Times, pinned};

const MAPPINGS: usize = 5_000;
/// Mappings of one pod.
const EACH: usize = 100;
const ROUNDS: usize = 200;

/// The pod, and a client on the other side of the node.
struct Ends {
    pod: UdpSocket,
    client: NetNs,
}

/// `client 192.0.2.2 -- 192.0.2.1 node 10.70.0.1 -- 10.70.0.2 pod`
fn ends() -> Ends {
    let (pod, client) = (pinned("ports-pod"), pinned("ports-client"));
    for (end, name, own, other) in [
        ("bench-pod", "ports-pod", "10.70.0.1/24", "10.70.0.2/24"),
        ("bench-client", "ports-client", "192.0.2.1/24", "192.0.2.2/24"),
    ] {
        start("ip", &["link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", name]);
        start("ip", &["addr", "add", own, "dev", end]);
        start("ip", &["link", "set", end, "up"]);
        start("ip", &["-n", name, "addr", "add", other, "dev", "eth0"]);
        start("ip", &["-n", name, "link", "set", "eth0", "up"]);
        let gateway = own.split('/').next().expect("an address");
        start("ip", &["-n", name, "route", "add", "default", "via", gateway]);
    }
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding");
    let pod = pod.run(|| UdpSocket::bind("10.70.0.2:80").expect("a port")).expect("the pod");
    Ends { pod, client }
}

impl Ends {
    /// From a client's first packet to the pod's answer. Each has a source port of its own, so each is a new connection.
    fn first_packet(&self, port: u16, times: &mut Times) {
        let client = self.client.run(|| UdpSocket::bind("192.0.2.2:0").expect("a port")).expect("the client");
        client.set_read_timeout(Some(Duration::from_secs(2))).expect("a limit");
        let mut buffer = [0; 16];
        times.measure(|| {
            client.send_to(b"ping", ("192.0.2.1", port)).expect("it is sent");
            let (_, from) = self.pod.recv_from(&mut buffer).expect("it arrives");
            self.pod.send_to(b"pong", from).expect("it is answered");
            client.recv_from(&mut buffer).expect("it comes back");
        });
    }
}

fn portmap(directory: &Path, command: &str, batch: usize) {
    let mappings: Vec<Value> = (0..EACH)
        .map(|n| json!({ "hostPort": 20_000 + batch * EACH + n, "containerPort": 80, "protocol": "udp" }))
        .collect();
    let config = json!({
        "cniVersion": "1.0.0", "name": "ports", "type": "portmap", "runtimeConfig": { "portMappings": mappings },
        "prevResult": {
            "cniVersion": "1.0.0", "dns": {},
            "interfaces": [{ "name": "eth0", "sandbox": "/run/netns/ports-pod" }],
            "ips": [{ "address": "10.70.0.2/24", "interface": 0 }],
        },
    });
    let id = format!("ports-{batch}");
    pinned(&id);
    Call { directory, command, id: &id, config: &config }.run();
    unpin(&id);
}

/// Gives the reference's rules for the first batch to as many more: it starts iptables three times a mapping, which for all of them takes
/// minutes.
fn multiply_rules(batches: usize) {
    let save = start("iptables-save", &["-t", "nat"]);
    let own: Vec<&str> = save.lines().filter(|line| line.contains("CNI-DN-")).collect();
    let chain = own.iter().find_map(|line| line.strip_prefix(':')?.split(' ').next()).expect("a chain");
    let mut text = String::from("*nat\n");
    for batch in 1..batches {
        let other = format!("{}{batch:04}", &chain[..chain.len() - 4]);
        for line in &own {
            let mut is_port = false;
            let words = line.split(' ').map(|word| {
                let ports = std::mem::replace(&mut is_port, matches!(word, "--dport" | "--dports"));
                let add = |port: &str| (port.parse::<usize>().expect("a port") + batch * EACH).to_string();
                if ports {
                    word.split(',').map(add).collect::<Vec<_>>().join(",")
                } else {
                    word.replace(chain, &other)
                }
            });
            text.push_str(&(words.collect::<Vec<_>>().join(" ") + "\n"));
        }
    }
    text.push_str("COMMIT\n");
    let file = "/run/bench-rules";
    std::fs::write(file, text).expect("a file");
    start("iptables-restore", &["--noflush", file]);
}

pub(crate) fn run(world: &World) {
    let ends = ends();
    println!(
        "\nfirst packet of a UDP connection to a mapped port and back, microseconds, median of {ROUNDS}"
    );
    println!("{:>10} {:>12} {:>12}", "mappings", "reference", "podplumb");
    let sides = [Plugins::Reference, Plugins::Podplumb];
    let mut table = [[0.0; 2]; 2];
    for (column, side) in sides.into_iter().enumerate() {
        let directory = world.plugin_dir(side);
        for (row, batches) in [1, MAPPINGS / EACH].into_iter().enumerate() {
            match (row, side) {
                (0, _) => portmap(&directory, "ADD", 0),
                (_, Plugins::Reference) => multiply_rules(batches),
                (_, Plugins::Podplumb) => (1..batches).for_each(|batch| portmap(&directory, "ADD", batch)),
            }
            let mut times = Times::default();
            let last = 20_000 + batches * EACH - 1;
            for _ in 0..ROUNDS {
                ends.first_packet(last as u16, &mut times);
            }
            table[row][column] = times.median_ms() * 1000.0;
        }
        match side {
            Plugins::Reference => drop(start("iptables", &["-t", "nat", "-F"])),
            Plugins::Podplumb => (0..MAPPINGS / EACH).for_each(|batch| portmap(&directory, "DEL", batch)),
        }
    }
    for (count, [reference, ours]) in [EACH, MAPPINGS].into_iter().zip(table) {
        println!("{count:>10} {reference:>12.0} {ours:>12.0}");
    }
    for name in ["ports-pod", "ports-client"] {
        unpin(name);
    }
}
