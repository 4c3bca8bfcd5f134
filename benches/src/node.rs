//! Looking at a node: `snapshot` and `leaks` against lsns, and against entering each namespace with nsenter and ip.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use podplumb_tests::{Plugin, Plugins, World, binaries};

use crate::world::{Times, peak_rss_mb, pinned};

const ROUNDS: usize = 5;

pub(crate) fn run(world: &World) {
    println!("\nlooking at a node, pods wired and alive, median of {ROUNDS}, milliseconds");
    println!(
        "{:>6} {:>10} {:>10} {:>10} {:>12} {:>9} {:>9} {:>8}",
        "pods", "snapshot", "leaks", "lsns", "nsenter each", "vs lsns", "vs each", "RSS MB"
    );
    let mut pods: Vec<Pod> = Vec::new();
    let mut bridge = Plugin::bridge(world, Plugins::Podplumb);
    bridge.config["ipam"]["ranges"][0][0]["subnet"] = "10.66.0.0/16".into();
    for count in [10, 200, 1_000] {
        while pods.len() < count {
            pods.push(Pod::start(&bridge, pods.len()));
        }
        let (mut snapshot, mut leaks, mut lsns, mut each) =
            (Times::default(), Times::default(), Times::default(), Times::default());
        // Once over all namespaces takes seconds: it need not be repeated to be told from a tenth of one.
        each.measure(|| pods.iter().for_each(Pod::enter));
        for _ in 0..ROUNDS {
            snapshot.measure(|| podplumb(&["snapshot"]));
            leaks.measure(|| podplumb(&["leaks"]));
            lsns.measure(|| quiet(Command::new("lsns").args(["-t", "net"])));
        }
        let rss = peak_rss_mb(Command::new(binaries().join("podplumb")).args(["leaks", "--runtime", "none"]));
        let (s, l, n, e) = (snapshot.median_ms(), leaks.median_ms(), lsns.median_ms(), each.median_ms());
        println!(
            "{count:>6} {s:>10.1} {l:>10.1} {n:>10.1} {e:>12.0} {:>8.1}x {:>8.1}x {rss:>8.1}",
            n / l,
            e / l
        );
    }
}

/// A pod with a process.
struct Pod {
    process: Child,
}

impl Pod {
    fn start(bridge: &Plugin, n: usize) -> Self {
        let id = format!("pod-{n}");
        let netns = pinned(&id);
        let answer = bridge.on("ADD", &id);
        assert!(answer.ok, "{:#}", answer.json);
        // Ended with this thread, also when that is by a panic, which aborts in release builds.
        let _entered = netns.enter().expect("it can be entered");
        let sleep = ["--pdeathsig", "KILL", "sleep", "3600"];
        Self { process: Command::new("setpriv").args(sleep).stdin(Stdio::null()).spawn().expect("setpriv") }
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
