//! ADD and DEL against Debian's reference plugins, case by case.

use std::path::{Path, PathBuf};
use std::process::Command;

use podplumb_tests::{Plugins, World, binaries};
use serde_json::{Value, json};

use crate::call::{Call, unpin};
use crate::floor::Floor;
use crate::parts;
use crate::world::{Times, peak_rss_mb, pinned};

/// One side of a comparison: a chain of plugins, and how it is called.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) directory: PathBuf,
    plugins: Vec<Value>,
    /// By `podplumb cni` instead of one process a plugin.
    by_runner: bool,
    pub(crate) add: Times,
    pub(crate) del: Times,
}

/// What the networks of a case have in common.
#[derive(Clone, Copy, Default)]
struct Options {
    masquerade: bool,
    dual_stack: bool,
    /// portmap and firewall are chained.
    chained: bool,
}

impl Subject {
    fn new(world: &World, plugins: Plugins, options: Options) -> Self {
        let (name, subnet) = match plugins {
            Plugins::Reference => ("ref", 66),
            Plugins::Podplumb => ("ours", 67),
        };
        let mut ranges = vec![json!([{ "subnet": format!("10.{subnet}.0.0/16") }])];
        if options.dual_stack {
            ranges.push(json!([{ "subnet": format!("fd{subnet}::/64") }]));
        }
        let mut chain = vec![json!({
            "type": "bridge", "bridge": name, "isDefaultGateway": true, "ipMasq": options.masquerade,
            "ipam": { "type": "host-local", "ranges": ranges },
        })];
        if options.chained {
            chain.push(json!({ "type": "portmap", "capabilities": { "portMappings": true } }));
            chain.push(json!({ "type": "firewall" }));
        }
        let by_runner = options.chained && plugins == Plugins::Podplumb;
        let list = json!({ "cniVersion": "1.0.0", "name": name, "plugins": chain });
        std::fs::write(format!("/etc/cni/net.d/{name}.conflist"), list.to_string()).expect("a file");
        let directory = world.plugin_dir(plugins);
        Self { name, directory, plugins: chain, by_runner, add: Times::default(), del: Times::default() }
    }

    pub(crate) fn id(&self, round: &str, n: usize) -> String {
        format!("{}-{round}-{n}", self.name)
    }

    /// All plugins of the chain, in order for ADD and backwards for DEL.
    pub(crate) fn call(&self, command: &str, id: &str, n: usize) {
        let mappings = json!([{ "hostPort": 10_000 + n, "containerPort": 80, "protocol": "tcp" }]);
        if self.by_runner {
            let args = json!({ "portMappings": mappings }).to_string();
            let mut runner = Command::new(binaries().join("podplumb"));
            runner.args(["cni", &command.to_lowercase(), self.name, id, id, "--capability-args", &args]);
            let output = runner.output().expect("it starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        let mut order: Vec<&Value> = self.plugins.iter().collect();
        if command == "DEL" {
            order.reverse();
        }
        let mut previous = Value::Null;
        for plugin in order {
            let mut config = plugin.clone();
            config["cniVersion"] = "1.0.0".into();
            config["name"] = self.name.into();
            if !previous.is_null() {
                config["prevResult"] = previous.clone();
            }
            if config["type"] == "portmap" {
                config["runtimeConfig"] = json!({ "portMappings": mappings });
            }
            let call = Call { directory: &self.directory, command, id, config: &config };
            previous = call.run();
        }
    }

    /// Leases of other containers.
    fn lease(&self, count: usize) {
        let directory = format!("/var/lib/cni/networks/{}", self.name);
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("a directory");
        let subnet = if self.name == "ref" { 66 } else { 67 };
        // From the top, so that they are not in the way.
        for n in 0..count {
            let address = format!("10.{subnet}.{}.{}", 255 - n / 250, n % 250 + 1);
            std::fs::write(format!("{directory}/{address}"), format!("other-{n}\r\neth0")).expect("a lease");
        }
    }
}

/// Both sides of a case.
struct Case {
    sides: [Subject; 2],
    label: String,
}

impl Case {
    fn new(world: &World, label: &str, options: Options, leases: usize) -> Self {
        let sides = [Plugins::Reference, Plugins::Podplumb].map(|side| Subject::new(world, side, options));
        sides.iter().for_each(|side| side.lease(leases));
        Self { sides, label: label.to_owned() }
    }

    /// ADD of so many pods, then DEL of all of them, the two sides in turn.
    fn one_by_one(mut self, pods: usize, mut floor: Option<Floor>) -> Self {
        for n in 0..pods {
            for side in &mut self.sides {
                let id = side.id(&self.label, n);
                drop(pinned(&id));
                let mut add = std::mem::take(&mut side.add);
                add.measure(|| side.call("ADD", &id, n));
                side.add = add;
            }
            floor.iter_mut().for_each(|floor| floor.add(n));
        }
        for n in 0..pods {
            for side in &mut self.sides {
                let id = side.id(&self.label, n);
                let mut del = std::mem::take(&mut side.del);
                del.measure(|| side.call("DEL", &id, n));
                side.del = del;
                unpin(&id);
            }
        }
        let kernel = floor.as_ref().map(|floor| floor.times.median_ms());
        self.print(kernel);
        floor.into_iter().for_each(Floor::end);
        self
    }

    /// So many ADDs at once, then so many DELs at once: the time until the last is done.
    fn at_once(mut self, pods: usize, rounds: usize) {
        for round in 0..rounds {
            for side in &mut self.sides {
                let ids: Vec<String> =
                    (0..pods).map(|n| side.id(&format!("{}{round}", self.label), n)).collect();
                ids.iter().for_each(|id| drop(pinned(id)));
                let (mut add, mut del) = (std::mem::take(&mut side.add), std::mem::take(&mut side.del));
                for (command, times) in [("ADD", &mut add), ("DEL", &mut del)] {
                    times.measure(|| {
                        std::thread::scope(|scope| {
                            for (n, id) in ids.iter().enumerate() {
                                let side = &*side;
                                scope.spawn(move || side.call(command, id, n));
                            }
                        });
                    });
                }
                (side.add, side.del) = (add, del);
                ids.iter().for_each(|id| unpin(id));
            }
        }
        self.print(None);
    }

    fn print(&self, kernel: Option<f64>) {
        let [reference, ours] = &self.sides;
        let row = |what: &str, reference: &Times, ours: &Times, kernel: Option<f64>| {
            let (reference, ours) = (reference.median_ms(), ours.median_ms());
            let kernel = kernel.map(|ms| format!("{ms:.2}")).unwrap_or_default();
            let label = if what == "ADD" { self.label.as_str() } else { "" };
            let ratio = reference / ours;
            println!("{label:<22} {what} {reference:>11.2} {ours:>10.2} {ratio:>8.1}x {kernel:>8}");
        };
        row("ADD", &reference.add, &ours.add, kernel);
        row("DEL", &reference.del, &ours.del, None);
    }
}

pub(crate) fn run(world: &World) {
    let binary = binaries().join("podplumb-cni");
    let size = std::fs::metadata(&binary).map_or(0, |stat| stat.len());
    println!("plugin binary: {:.2} MB", size as f64 / 1e6);
    println!("plugin peak RSS (started and ended): {:.1} MB", peak_rss_mb(&mut Command::new(&binary)));
    println!("\none plugin, milliseconds, medians: 200 pods each, 100 with ipMasq, 30 in dual stack");
    heading();
    let plain = Options::default();
    let mut floors = 0;
    let mut floor = || {
        floors += 1;
        Some(Floor::new(floors))
    };
    let first = Case::new(world, "bridge", plain, 0).one_by_one(200, floor());
    let add_ms = first.sides[1].add.median_ms();
    for leases in [1_000, 10_000] {
        Case::new(world, &format!("{leases}-leases"), plain, leases).one_by_one(200, floor());
    }
    for side in ["ref", "ours"] {
        let _ = std::fs::remove_dir_all(Path::new("/var/lib/cni/networks").join(side));
    }
    let masquerade = Options { masquerade: true, ..plain };
    Case::new(world, "ipMasq", masquerade, 0).one_by_one(100, None);
    let dual_stack = Options { dual_stack: true, ..plain };
    Case::new(world, "dual-stack", dual_stack, 0).one_by_one(30, None);
    parts::run(world, add_ms);
    crowd(world);
}

/// bridge with ipMasq, portmap and firewall: ours by the runner, the reference's one process after the other, as libcni starts them.
pub(crate) fn chains(world: &World) {
    println!(
        "\nbridge with ipMasq, portmap, firewall; milliseconds, medians: 30 pods each, 3 rounds of 50 at once"
    );
    heading();
    let chained = Options { masquerade: true, chained: true, ..Options::default() };
    Case::new(world, "chain", chained, 0).one_by_one(30, None);
    Case::new(world, "50-chains-at-once", chained, 0).at_once(50, 3);
}

fn heading() {
    println!("{:<22}     {:>11} {:>10} {:>9} {:>8}", "", "reference", "podplumb", "ratio", "kernel");
}

/// ADD with so many ports on the bridge already, against the same messages of this process.
fn crowd(world: &World) {
    const PORTS: usize = 1_000;
    let ours = Subject::new(world, Plugins::Podplumb, Options::default());
    let mut floor = Floor::new(99);
    for n in 0..PORTS {
        let id = ours.id("crowd", n);
        drop(pinned(&id));
        ours.call("ADD", &id, n);
        floor.add(n);
    }
    let (mut add, mut del) = (Times::default(), Times::default());
    floor.times = Times::default();
    for n in PORTS..PORTS + 20 {
        let id = ours.id("crowd", n);
        drop(pinned(&id));
        add.measure(|| ours.call("ADD", &id, n));
        floor.add(n);
    }
    for n in PORTS..PORTS + 20 {
        let id = ours.id("crowd", n);
        del.measure(|| ours.call("DEL", &id, n));
    }
    let (add, del, kernel) = (add.median_ms(), del.median_ms(), floor.times.median_ms());
    println!(
        "\nwith {PORTS} ports on the bridge: ADD {add:.2} ms, DEL {del:.2} ms; the kernel's share of ADD {kernel:.2} ms ({:.1}x)",
        add / kernel
    );
    floor.end();
    for n in 0..PORTS {
        let id = ours.id("crowd", n);
        ours.call("DEL", &id, n);
        unpin(&id);
    }
}
