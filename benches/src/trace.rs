//! `podplumb trace` on a snapshot of a node with 1,000 pods; and what `--live` takes more than computing, beside `ping`'s round trip.

use podplumb_tests::{Plugin, Plugins, Podplumb, World, run as ran};
use serde_json::Value;

use crate::node::Pod;
use crate::world::Times;

const PODS: usize = 1_000;
const ROUNDS: usize = 11;
/// The first pod's address, and another's.
const WAY: [&str; 2] = ["10.66.0.2", "10.66.2.200"];
/// Pods on the node on which packets are sent: what they take does not depend on how many are looked at.
const FEW: usize = 10;
const LIMIT_MS: f64 = 250.0;

pub(crate) fn run(world: &World) {
    let mut bridge = Plugin::bridge(world, Plugins::Podplumb);
    bridge.config["ipam"]["ranges"][0][0]["subnet"] = "10.66.0.0/16".into();
    let pods: Vec<Pod> = (0..PODS).map(|number| Pod::start(&bridge, number)).collect();
    let podplumb = Podplumb::default();
    let file = world.path().join("node.json").display().to_string();
    std::fs::write(&file, podplumb.expect(0, &["snapshot"])).expect("a file");
    let [from, to] = WAY;
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        times.measure(|| drop(podplumb.expect(0, &["trace", from, to, "--from", &file])));
    }
    let mut live = Times::default();
    for _ in 0..ROUNDS {
        live.measure(|| drop(podplumb.expect(0, &["trace", from, to])));
    }
    println!("\ntrace among {} pods, median of {ROUNDS}, milliseconds", pods.len());
    println!("{:<22} {:>9.1}", "of a snapshot", times.median_ms());
    println!("{:<22} {:>9.1}", "of this node", live.median_ms());
}

/// What sending and watching take: the probe's own round trip, and the time limit where it is lost.
pub(crate) fn live(world: &World) {
    let mut bridge = Plugin::bridge(world, Plugins::Podplumb);
    bridge.config["bridge"] = "cni7".into();
    bridge.config["ipam"]["ranges"][0][0]["subnet"] = "10.67.0.0/16".into();
    let pods: Vec<Pod> = (0..FEW).map(|number| Pod::start(&bridge, number)).collect();
    let (from, to) = ("10.67.0.2", "10.67.0.5");
    let podplumb = Podplumb::default();
    let limit = format!("{LIMIT_MS}ms");
    let (mut computed, mut answered, mut lost) = (Times::default(), Times::default(), Times::default());
    let (mut watched, mut pinged) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        computed.measure(|| drop(podplumb.expect(0, &["trace", from, to])));
        answered.measure(|| drop(podplumb.expect(0, &["trace", from, to, "--live"])));
        let answer = podplumb.expect(0, &["trace", from, to, "--live", "-o", "json"]);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let probes = answer["seen"].as_array().expect("probes");
        watched.extend(probes.iter().map(|probe| probe["answered_ns"].as_f64().expect("an answer") / 1e3));
        let net = format!("--net=/proc/{}/ns/net", pods[0].pid());
        let said = ran("nsenter", &[&net, "ping", "-n", "-c", "3", "-i", "0.002", to]);
        let times =
            said.lines().filter_map(|line| line.split_once("time=")?.1.split_once(' ')?.0.parse().ok());
        pinged.extend(times.map(|ms: f64| ms * 1e3));
        let echo = |is_ignored: u8| {
            let net = format!("--net=/proc/{}/ns/net", pods[3].pid());
            ran("nsenter", &[&net, "sysctl", "-qw", &format!("net.ipv4.icmp_echo_ignore_all={is_ignored}")]);
        };
        echo(1);
        lost.measure(|| drop(podplumb.run(&["trace", from, to, "--live", "--timeout", &limit])));
        echo(0);
    }
    let base = computed.median_ms();
    println!("\ntrace --live, median of {ROUNDS}");
    println!("{:<44} {:>9.0} us", "the probe's round trip, watched", median(watched));
    println!("{:<44} {:>9.0} us", "ping's", median(pinged));
    println!("{:<44} {:>9.1} ms", "two probes, answered: more than computing", answered.median_ms() - base);
    let over = lost.median_ms() - base - LIMIT_MS;
    println!("{:<44} {:>9.1} ms", format!("never answered: more than that and {LIMIT_MS} ms"), over);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
