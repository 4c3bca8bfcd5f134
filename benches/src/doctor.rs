//! Finding what is wrong: `podplumb doctor` on a node, and its checks on a snapshot of one.

use std::process::{Command, Stdio};

use analyze::doctor::doctor;
use model::Snapshot;
use podplumb_tests::{Plugin, Plugins, World, binaries};

use crate::node::Pod;
use crate::world::Times;

const ROUNDS: usize = 9;
const PODS: [usize; 3] = [10, 250, 1_000];

pub(crate) fn run(world: &World) {
    println!("\npodplumb doctor, pods wired and alive, median of {ROUNDS}, milliseconds");
    println!("{:<6} {:>14} {:>10} {:>10} {:>10}", "pods", "whole command", "snapshot", "leaks", "checks");
    let mut bridge = Plugin::bridge(world, Plugins::Podplumb);
    bridge.config["ipam"]["ranges"][0][0]["subnet"] = "10.66.0.0/16".into();
    let mut pods: Vec<Pod> = Vec::new();
    for count in PODS {
        while pods.len() < count {
            pods.push(Pod::start(&bridge, pods.len()));
        }
        let (mut whole, mut look, mut leaks, mut checks) =
            (Times::default(), Times::default(), Times::default(), Times::default());
        for _ in 0..ROUNDS {
            whole.measure(|| podplumb("doctor"));
            let text = look.measure(|| podplumb("snapshot"));
            leaks.measure(|| podplumb("leaks"));
            let snapshot = Snapshot::from_json(&text).expect("a snapshot");
            checks.measure(|| doctor(&snapshot, |_| true));
        }
        println!(
            "{count:<6} {:>14.1} {:>10.1} {:>10.1} {:>10.1}",
            whole.median_ms(),
            look.median_ms(),
            leaks.median_ms(),
            checks.median_ms()
        );
    }
}

/// Runs a command; what it finds on a machine that does something else as well does not matter.
fn podplumb(command: &str) -> Vec<u8> {
    let mut program = Command::new(binaries().join("podplumb"));
    let output =
        program.args([command, "--runtime", "none"]).stdin(Stdio::null()).output().expect("podplumb");
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
