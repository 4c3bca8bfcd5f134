//! Networks of namespaces: `podplumb lab` beside Mininet (Debian's package, Linux bridges), the equivalent `ip -batch`, and the floor,
//! which is the same messages with nothing around them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use model::{IfIndex, IfName, NsId, NsInode};
use netlink::link::{self, Change, Veth};
use netlink::{Request, Socket, addr, device};
use podplumb_tests::{World, binaries};
use sys::NetNs;

use crate::world::Times;

/// Of everything but Mininet, which takes half a minute for the largest.
const ROUNDS: usize = 3;
const BATCH: usize = 128;
/// A network lives for a moment before it is removed: what the kernel still has to do of making it belongs to neither.
const REST: Duration = Duration::from_millis(300);

#[derive(Clone, Copy)]
enum Shape {
    Star(usize),
    Line(usize),
}

pub(crate) fn run(world: &World) {
    println!(
        "\nlabs, up and down, median of {ROUNDS}, milliseconds; of ip -batch also until its namespaces are gone"
    );
    println!(
        "{:<12} {:>16} {:>16} {:>20} {:>16}  {:>13} {:>13}",
        "", "podplumb", "floor", "ip -batch", "Mininet", "Mininet/ours", "ours/floor"
    );
    let shapes = [2, 100, 500, 1_000].map(Shape::Star).into_iter().chain([Shape::Line(200)]);
    for shape in shapes {
        measure(world, shape);
    }
}

fn measure(world: &World, shape: Shape) {
    let file = world.path().join("lab.yaml");
    std::fs::write(&file, shape.topology()).expect("a file");
    let file = file.display().to_string();
    let mut times: BTreeMap<&str, [Times; 2]> = BTreeMap::new();
    let mut batch_gone = Times::default();
    for round in 0..ROUNDS {
        let [up, down] = times.entry("ours").or_default();
        up.measure(|| podplumb(&["lab", "up", &file]));
        std::thread::sleep(REST);
        down.measure(|| podplumb(&["lab", "down", "bench"]));
        settle();
        let [up, down] = times.entry("floor").or_default();
        let rooms = up.measure(|| floor(shape));
        std::thread::sleep(REST);
        down.measure(|| remove(rooms));
        settle();
        let batches = batches(world, shape);
        let [up, down] = times.entry("ip").or_default();
        up.measure(|| batches.iter().for_each(|arguments| succeed(Command::new("ip").args(arguments))));
        std::thread::sleep(REST);
        let pinned = (0..shape.machines()).map(|machine| format!("/run/netns/m{machine}"));
        let pinned = identities(pinned.map(|path| NetNs::open(path).expect("pinned")));
        let gone = world.path().join("down");
        batch_gone.measure(|| {
            down.measure(|| succeed(Command::new("ip").arg("-batch").arg(&gone)));
            wait_for_end(pinned);
        });
        settle();
        // It takes so long that once is enough to see what it takes.
        let measured = (round == 0).then(|| mininet(world, shape)).flatten();
        if let Some([took_up, took_down]) = measured {
            let [up, down] = times.entry("mininet").or_default();
            up.add(took_up);
            down.add(took_down);
        }
    }
    let of = |name: &str| times.get(name).map_or([f64::NAN; 2], |both| both.each_ref().map(Times::median_ms));
    let [ours, floor, ip, mininet] = ["ours", "floor", "ip", "mininet"].map(of);
    let cell = |[up, down]: [f64; 2]| format!("{up:.0} / {down:.0}");
    let ratio = |a: [f64; 2], b: [f64; 2]| format!("{:.1} / {:.1}", a[0] / b[0], a[1] / b[1]);
    println!(
        "{:<12} {:>16} {:>16} {:>20} {:>16}  {:>13} {:>13}",
        shape.name(),
        cell(ours),
        cell(floor),
        format!("{} / {:.0}", cell(ip), batch_gone.median_ms()),
        cell(mininet),
        ratio(mininet, ours),
        ratio(ours, floor),
    );
}

/// The kernel removes namespaces in its own time; the next measurement is not to wait for them.
fn settle() {
    let start = Instant::now();
    let probe = || {
        let start = Instant::now();
        let _netns = NetNs::create().expect("a namespace");
        start.elapsed()
    };
    std::thread::sleep(Duration::from_millis(200));
    while probe() > Duration::from_millis(3) && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Shape {
    fn name(self) -> String {
        match self {
            Shape::Star(hosts) => format!("star {hosts}"),
            Shape::Line(hosts) => format!("line {hosts}"),
        }
    }

    fn topology(self) -> String {
        match self {
            Shape::Star(hosts) => {
                format!("name: bench\nswitches: [sw]\nhosts: {{h: {{count: {hosts}}}}}\nlinks: [h -- sw]\n")
            }
            // Mininet's line has switches in it that nobody routes through; here too nobody routes.
            Shape::Line(hosts) => {
                format!("name: bench\nrouting: none\nrouters: {{r: {{count: {hosts}}}}}\nlinks: [line r]\n")
            }
        }
    }

    /// Links as (machine, interface, address) of both ends; machine 0 is the switch of a star.
    fn links(self) -> Vec<[(usize, String, Option<String>); 2]> {
        match self {
            Shape::Star(hosts) => (1..=hosts)
                .map(|n| {
                    let address = format!("10.0.{}.{}/22", n / 250, n % 250 + 1);
                    [(0, format!("port{n}"), None), (n, "eth0".into(), Some(address))]
                })
                .collect(),
            Shape::Line(hosts) => (0..hosts - 1)
                .map(|n| {
                    let address = |host: usize| Some(format!("10.{}.{}.{host}/24", n / 250, n % 250));
                    let left = if n == 0 { "eth0" } else { "eth1" };
                    [(n, left.into(), address(1)), (n + 1, "eth0".into(), address(2))]
                })
                .collect(),
        }
    }

    fn machines(self) -> usize {
        match self {
            Shape::Star(hosts) => hosts + 1,
            Shape::Line(hosts) => hosts,
        }
    }
}

fn podplumb(arguments: &[&str]) {
    succeed(Command::new(binaries().join("podplumb")).args(arguments));
}

fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The same network with nothing around it: no file, no names to look up, no pins, no record, no stamps.
fn floor(shape: Shape) -> Vec<(NetNs, Socket)> {
    sys::raise_file_limit();
    let (machines, threads) = (shape.machines(), std::thread::available_parallelism().map_or(1, usize::from));
    let make = |count: usize| -> Vec<(NetNs, Socket)> {
        let one = |_| (NetNs::move_into_new().expect("a namespace"), Socket::route().expect("a socket"));
        (0..count).map(one).collect()
    };
    let mut rooms: Vec<(NetNs, Socket)> = std::thread::scope(|scope| {
        let share = machines.div_ceil(threads);
        let counts = (0..threads).map(|thread| share.min(machines.saturating_sub(thread * share)));
        let workers: Vec<_> = counts.map(|count| scope.spawn(move || make(count))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("namespaces")).collect()
    });
    let bridge = IfIndex(2);
    if let Shape::Star(_) = shape {
        let create = device::create(&device::Device {
            name: &"br0".parse().expect("a name"),
            kind: device::Kind::Bridge { vlans: false, stp: false },
            mac: None,
            mtu_bytes: None,
            netns: None,
            up: false,
            index: Some(bridge),
        });
        rooms[0].1.ack(create).expect("a bridge");
    }
    let mut next: Vec<u32> = vec![3; machines];
    let mut inside: Vec<Vec<Request>> = (0..machines).map(|_| up(IfIndex(1))).collect();
    let mut creations: BTreeMap<usize, Vec<Request>> = BTreeMap::new();
    for [(left, name, left_address), (right, peer, right_address)] in shape.links() {
        let (name, peer): (IfName, IfName) = (name.parse().expect("a name"), peer.parse().expect("a name"));
        let mut index = |machine: usize| {
            next[machine] += 1;
            IfIndex(next[machine])
        };
        let indices = (index(left), index(right));
        let veth = Veth {
            name: &name,
            mac: None,
            master: matches!(shape, Shape::Star(_)).then_some(bridge),
            mtu_bytes: None,
            peer_name: &peer,
            peer_mac: None,
            peer_netns: Some(rooms[right].0.as_fd()),
            indices: Some(indices),
        };
        creations.entry(left).or_default().push(link::create_veth(&veth));
        inside[right].extend(up(indices.1));
        for (machine, index, address) in [(left, indices.0, left_address), (right, indices.1, right_address)]
        {
            let add =
                |text: String| addr::add(index, text.parse().expect("an address"), addr::Flags::default());
            inside[machine].extend(address.map(add));
        }
    }
    for (machine, requests) in creations.into_iter().chain(inside.into_iter().enumerate()) {
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let some = requests.by_ref().take(BATCH).collect();
            rooms[machine].1.batch(some).expect("answers").all().expect("made");
        }
    }
    if let Shape::Star(_) = shape {
        rooms[0].1.batch(up(bridge)).expect("answers").all().expect("the bridge is up");
    }
    rooms
}

/// Closes all, and waits until the kernel does not know them any more.
fn remove(rooms: Vec<(NetNs, Socket)>) {
    let (namespaces, sockets): (Vec<NetNs>, Vec<Socket>) = rooms.into_iter().unzip();
    drop(sockets);
    wait_for_end(identities(namespaces.into_iter()));
}

/// What namespaces are known by once they are closed, which they are by then.
fn identities(namespaces: impl Iterator<Item = NetNs>) -> Vec<(NsId, NsInode)> {
    namespaces.filter_map(|netns| Some((netns.id()?, netns.inode().ok()?))).collect()
}

fn wait_for_end(mut alive: Vec<(NsId, NsInode)>) {
    while !alive.is_empty() {
        alive.retain(|(id, inode)| NetNs::by_id(*id, *inode).is_ok());
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn up(index: IfIndex) -> Vec<Request> {
    vec![link::change(index, &Change { up: Some(true), ..Change::default() })]
}

/// The arguments of each `ip` that makes the network; the files are in the world's directory.
fn batches(world: &World, shape: Shape) -> Vec<Vec<String>> {
    let file = |name: &str, text: String| {
        let path = world.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let name = |machine: usize| format!("m{machine}");
    let (mut made, mut gone) = (String::new(), String::new());
    for machine in 0..shape.machines() {
        let _ = writeln!(made, "netns add {}", name(machine));
        let _ = writeln!(gone, "netns del {}", name(machine));
    }
    file("down", gone);
    let mut inside: BTreeMap<usize, String> = BTreeMap::new();
    let is_star = matches!(shape, Shape::Star(_));
    if is_star {
        inside.insert(0, "link add br0 type bridge\nlink set br0 up\n".to_owned());
    }
    let mut later: BTreeMap<usize, String> = BTreeMap::new();
    for [(left, device, left_address), (right, peer, right_address)] in shape.links() {
        let text = inside.entry(left).or_default();
        let _ = writeln!(text, "link add {device} type veth peer name {peer} netns {}", name(right));
        let master = if is_star { " master br0" } else { "" };
        let _ = writeln!(text, "link set {device}{master} up");
        for (machine, device, address) in [(left, &device, left_address), (right, &peer, right_address)] {
            let text = later.entry(machine).or_default();
            if let Some(address) = address {
                let _ = writeln!(text, "addr add {address} dev {device}");
            }
            let _ = writeln!(text, "link set {device} up");
        }
    }
    let mut all = vec![vec!["-batch".to_owned(), file("made", made)]];
    for (stage, texts) in [("a", inside), ("b", later)] {
        for (machine, text) in texts {
            let path = file(&format!("{stage}{machine}"), text);
            all.push(vec!["-n".to_owned(), name(machine), "-batch".to_owned(), path]);
        }
    }
    all
}

/// Mininet, measured by itself: build and start, and stop.
fn mininet(world: &World, shape: Shape) -> Option<[Duration; 2]> {
    if !Path::new("/usr/bin/mnexec").exists() {
        return None;
    }
    let topology = match shape {
        Shape::Star(hosts) => format!("SingleSwitchTopo(k={hosts})"),
        Shape::Line(hosts) => format!("LinearTopo(k={hosts}, n=1)"),
    };
    let script = format!(
        "import time\n\
         from mininet.net import Mininet\n\
         from mininet.nodelib import LinuxBridge\n\
         from mininet.topo import SingleSwitchTopo, LinearTopo\n\
         a = time.monotonic()\n\
         net = Mininet({topology}, switch=LinuxBridge, controller=None, ipBase='10.0.0.0/16')\n\
         net.start()\n\
         b = time.monotonic()\n\
         time.sleep({})\n\
         c = time.monotonic()\n\
         net.stop()\n\
         d = time.monotonic()\n\
         print(b - a, d - c)\n",
        REST.as_secs_f64()
    );
    let path = world.path().join("bench.py");
    std::fs::write(&path, script).expect("a file");
    let output = Command::new("/usr/bin/python3").arg(&path).stdin(Stdio::null()).output().expect("python");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let times: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match times.as_slice() {
        [up, down] => Some([*up, *down].map(Duration::from_secs_f64)),
        _ => {
            eprintln!("Mininet failed: {}", String::from_utf8_lossy(&output.stderr));
            None
        }
    }
}
