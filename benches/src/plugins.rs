//! ADD and DEL of bridge + host-local against the reference plugins, and against the kernel alone.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use model::{IfName, MacAddr};
use netlink::link::{self, Change, Veth};
use netlink::route::{self, NewRoute};
use netlink::{Socket, addr, device};
use podplumb_tests::{Plugins, World};
use serde_json::{Value, json};
use sys::NetNs;

use crate::world::{Times, peak_rss_mb, pinned};

const PODS: usize = 200;

struct Subject {
    name: &'static str,
    program: PathBuf,
    directory: PathBuf,
    config: Value,
    add: Times,
    del: Times,
}

impl Subject {
    fn new(world: &World, plugins: Plugins, name: &'static str, subnet: u8) -> Self {
        let directory = world.plugin_dir(plugins);
        let config = json!({
            "cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": name, "isDefaultGateway": true,
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": format!("10.{subnet}.0.0/16") }]] },
        });
        let (add, del) = (Times::default(), Times::default());
        Self { name, program: directory.join("bridge"), directory, config, add, del }
    }

    fn call(&self, command: &str, id: &str) {
        let mut child = Command::new(&self.program)
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", id)
            .env("CNI_NETNS", format!("/run/netns/{id}"))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the plugin starts");
        child.stdin.take().expect("piped").write_all(self.config.to_string().as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stdout));
    }

    /// Leases of other containers.
    fn lease(&self, count: usize, subnet: u8) {
        let directory = format!("/var/lib/cni/networks/{}", self.name);
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("a directory");
        // From the top, so that they are not in the way.
        for n in 0..count {
            let address = format!("10.{subnet}.{}.{}", 255 - n / 250, n % 250 + 1);
            std::fs::write(format!("{directory}/{address}"), format!("other-{n}\r\neth0")).expect("a lease");
        }
    }
}

pub(crate) fn run(world: &World) {
    let binary = podplumb_tests::binaries().join("podplumb-cni");
    let size = std::fs::metadata(&binary).map_or(0, |stat| stat.len());
    println!("plugin binary: {:.2} MB", size as f64 / 1e6);
    let mut idle = Command::new(&binary);
    println!("plugin peak RSS (started and ended): {:.1} MB", peak_rss_mb(&mut idle));
    println!("\nADD and DEL, bridge + host-local, median of {PODS} pods each, milliseconds");
    println!(
        "{:>8} {:>16} {:>10} {:>10} {:>8} {:>10}",
        "leases", "", "reference", "podplumb", "ratio", "kernel"
    );
    for existing in [0, 1_000, 10_000] {
        let mut reference = Subject::new(world, Plugins::Reference, "ref", 66);
        let mut ours = Subject::new(world, Plugins::Podplumb, "ours", 67);
        reference.lease(existing, 66);
        ours.lease(existing, 67);
        let mut floor = Floor::new(existing);
        let name = |subject: &str, n: usize| format!("{subject}-{existing}-{n}");
        for n in 0..PODS {
            for subject in [&mut reference, &mut ours] {
                let id = name(subject.name, n);
                drop(pinned(&id));
                let mut add = std::mem::take(&mut subject.add);
                add.measure(|| subject.call("ADD", &id));
                subject.add = add;
            }
            floor.add(n);
        }
        for n in 0..PODS {
            for subject in [&mut reference, &mut ours] {
                let id = name(subject.name, n);
                let mut del = std::mem::take(&mut subject.del);
                del.measure(|| subject.call("DEL", &id));
                subject.del = del;
                let path = format!("/run/netns/{id}");
                let _ = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH);
                let _ = std::fs::remove_file(path);
            }
        }
        let row = |leases: &str, what: &str, reference: &Times, ours: &Times, floor: f64| {
            let (reference, ours) = (reference.median_ms(), ours.median_ms());
            let floor = if floor.is_nan() { String::new() } else { format!("{floor:.2}") };
            let ratio = reference / ours;
            println!("{leases:>8} {what:>16} {reference:>10.2} {ours:>10.2} {ratio:>7.1}x {floor:>10}");
        };
        row(&existing.to_string(), "ADD", &reference.add, &ours.add, floor.times.median_ms());
        row("", "DEL", &reference.del, &ours.del, f64::NAN);
        floor.end();
        for subject in [&reference, &ours] {
            let _ = std::fs::remove_dir_all(format!("/var/lib/cni/networks/{}", subject.name));
        }
    }
}

/// The kernel's share of an ADD: the same messages, sent by this process.
struct Floor {
    socket: Socket,
    bridge: IfName,
    round: usize,
    times: Times,
    pods: Vec<NetNs>,
}

impl Floor {
    fn new(round: usize) -> Self {
        let mut socket = Socket::route().expect("a socket");
        let bridge: IfName = "floor".parse().expect("a name");
        socket
            .ack(device::create_bridge(&bridge, Some(MacAddr([2, 0, 0, 0, 0, 1])), None))
            .expect("a bridge");
        Self { socket, bridge, round, times: Times::default(), pods: Vec::new() }
    }

    fn add(&mut self, n: usize) {
        let netns = NetNs::create().expect("a namespace");
        // The kernel takes the veths of an earlier round down in its own time.
        let name: IfName = format!("f{}-{n}", self.round).parse().expect("a name");
        let Self { socket, bridge, times, pods, .. } = self;
        times.measure(|| {
            let bridge = link::by_name(socket, bridge.as_str()).expect("the bridge");
            let veth = Veth {
                name: &name,
                mac: Some(MacAddr([2, 1, 0, 0, (n >> 8) as u8, n as u8])),
                master: Some(bridge.index),
                mtu_bytes: None,
                peer_name: &"eth0".parse().expect("a name"),
                peer_mac: Some(MacAddr([2, 2, 0, 0, (n >> 8) as u8, n as u8])),
                peer_netns: Some(netns.as_fd()),
            };
            let stamp = Change { alias: Some("podplumb:bench:floor:eth0"), ..Change::default() };
            let made = socket.batch(vec![link::create_veth(&veth), link::change_by_name(&name, &stamp)]);
            made.expect("an answer").all().expect("a veth");
            let _entered = netns.enter().expect("it can be entered");
            let mut inside = Socket::route().expect("a socket");
            let eth0 = link::by_name(&mut inside, "eth0").expect("eth0").index;
            let default =
                NewRoute::new("0.0.0.0/0".parse().expect("a net"), Some([10, 68, 0, 1].into()), eth0);
            let address = format!("10.68.{}.{}/16", n / 250, n % 250 + 2).parse().expect("a net");
            let requests = vec![
                link::change(eth0, &Change { up: Some(true), ..Change::default() }),
                addr::add(eth0, address, addr::Flags::default()),
                route::add(&default),
            ];
            inside.batch(requests).expect("an answer").all().expect("wired");
        });
        pods.push(netns);
    }

    fn end(mut self) {
        let bridge = link::by_name(&mut self.socket, self.bridge.as_str()).expect("the bridge");
        self.socket.ack(link::delete(bridge.index)).expect("it goes");
    }
}
