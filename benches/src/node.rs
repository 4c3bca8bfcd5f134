//! Looking at a node: `snapshot` and `leaks` against lsns, and against entering each namespace with nsenter and ip.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use podplumb_tests::{Plugin, Plugins, World, binaries};

use crate::world::{Times, peak_rss_mb, pinned};

const ROUNDS: usize = 5;

/// Leases on the largest nodes: each pod has some more than its own.
const LEASES: usize = 5_000;
/// Ports that a bridge may have (`BR_MAX_PORTS`), less the room that is left for nobody.
const PORTS: usize = 1_000;
/// Processes beside the pods, with this many descriptors each.
const BYSTANDERS: (usize, usize) = (1_200, 100);

pub(crate) fn run(world: &World) {
    println!("\nlooking at a node, pods wired and alive, median of {ROUNDS}, milliseconds");
    println!(
        "{:<22} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>7} {:>6}",
        "pods", "snapshot", "leaks", "lsns", "each", "vs lsns", "vs each", "kernel", "RSS MB"
    );
    let mut pods: Vec<Pod> = Vec::new();
    let mut bridge = Plugin::bridge(world, Plugins::Podplumb);
    for count in [10, 200, 1_000, 2_000] {
        while pods.len() < count {
            let number = pods.len() / PORTS;
            bridge.config["bridge"] = format!("cni{number}").into();
            bridge.config["ipam"]["ranges"][0][0]["subnet"] = format!("10.{}.0.0/16", 66 + number).into();
            pods.push(Pod::start(&bridge, pods.len()));
        }
        if count == PORTS {
            more_leases(count);
        }
        line(&count.to_string(), &pods);
        if count == PORTS {
            let mut bystanders: Vec<Child> = (0..BYSTANDERS.0).map(|_| bystander()).collect();
            line(&format!("{PORTS} + {} processes", BYSTANDERS.0), &pods);
            for process in &mut bystanders {
                process.kill().expect("it runs");
                process.wait().expect("it ends");
            }
        }
    }
}

fn line(what: &str, pods: &[Pod]) {
    let (mut snapshot, mut leaks, mut lsns, mut each) =
        (Times::default(), Times::default(), Times::default(), Times::default());
    // Once over all namespaces takes seconds: it need not be repeated to be told from a tenth of one.
    each.measure(|| pods.iter().for_each(Pod::enter));
    let mut kernel = Vec::new();
    for _ in 0..ROUNDS {
        snapshot.measure(|| podplumb(&["snapshot"]));
        let before = children_system_ms();
        leaks.measure(|| podplumb(&["leaks"]));
        kernel.push(children_system_ms() - before);
        lsns.measure(|| quiet(Command::new("lsns").args(["-t", "net"])));
    }
    kernel.sort_by(f64::total_cmp);
    let rss = peak_rss_mb(Command::new(binaries().join("podplumb")).args(["leaks", "--runtime", "none"]));
    let (s, l, n, e) = (snapshot.median_ms(), leaks.median_ms(), lsns.median_ms(), each.median_ms());
    println!(
        "{what:<22} {s:>9.1} {l:>9.1} {n:>9.1} {e:>9.0} {:>7.1}x {:>7.1}x {:>7.1} {rss:>6.1}",
        n / l,
        e / l,
        kernel[kernel.len() / 2],
    );
}

/// What the kernel worked for processes that this one waited for, in milliseconds.
fn children_system_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("procfs");
    // Fields after the name in parentheses; cutime is the 16th of all, cstime the 17th.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: f64 = fields.get(14).and_then(|ticks| ticks.parse().ok()).expect("cstime");
    ticks * 1_000.0 / rustix::param::clock_ticks_per_second() as f64
}

/// Leases that live containers have besides their own.
fn more_leases(pods: usize) {
    for n in pods..LEASES {
        let address = std::net::Ipv4Addr::from(0x0a63_0000 + n as u32);
        let path = Path::new("/var/lib/cni/networks/pods").join(address.to_string());
        std::fs::write(path, format!("pod-{}\r\neth0", n % pods)).expect("a lease");
    }
}

/// A process of the host that has many files open.
fn bystander() -> Child {
    let own = std::env::current_exe().expect("a path");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(own).args(["hold", &BYSTANDERS.1.to_string()]);
    command.stdin(Stdio::null()).spawn().expect("setpriv")
}

/// What a bystander does.
pub(crate) fn hold(files: usize) {
    let _files: Vec<_> = (0..files).map(|_| std::fs::File::open("/dev/null").expect("a file")).collect();
    loop {
        std::thread::park();
    }
}

/// A pod with a process.
pub(crate) struct Pod {
    process: Child,
}

impl Pod {
    pub(crate) fn start(bridge: &Plugin, n: usize) -> Self {
        let id = format!("pod-{n}");
        let netns = pinned(&id);
        let answer = bridge.on("ADD", &id);
        assert!(answer.ok, "{:#}", answer.json);
        // Ended with this thread, also when that is by a panic, which aborts in release builds.
        let _entered = netns.enter().expect("it can be entered");
        let sleep = ["--pdeathsig", "KILL", "sleep", "3600"];
        Self { process: Command::new("setpriv").args(sleep).stdin(Stdio::null()).spawn().expect("setpriv") }
    }

    /// Of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn enter(&self) {
        let pid = self.process.id().to_string();
        quiet(Command::new("nsenter").args(["-t", &pid, "-n", "ip", "-j", "link"]));
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn podplumb(arguments: &[&str]) {
    let program: &Path = &binaries().join("podplumb");
    quiet(Command::new(program).args(arguments).args(["--runtime", "none"]));
}

fn quiet(command: &mut Command) {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let output = output.expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
