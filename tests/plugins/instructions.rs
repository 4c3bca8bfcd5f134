//! What the shipped plugin executes, counted by valgrind: unlike time it is the same on every machine of a kind, so that a regression
//! shows without a test that measures time.

use podplumb_tests::{World, require, run};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// Instructions of an ADD and a DEL of bridge, host-local and ipMasq. Who makes them more on purpose changes them here, and says why in
/// the commit.
const ADD: u64 = 271_000;
const DEL: u64 = 134_000;
/// Compilers differ a little.
const TOLERANCE_PERCENT: u64 = 10;

/// The instructions of one call. A DEL leaves a child behind that waits in its place; that has a count of its own, and is the larger.
fn count(world: &World, config: &Value, command: &str, id: &str) -> u64 {
    let directory = world.shipped_dir();
    let mut child = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(directory.join("bridge"))
        .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", id), ("CNI_IFNAME", "eth0")])
        .env("CNI_NETNS", format!("/run/netns/{id}"))
        .env("CNI_PATH", &directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("valgrind starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(config.to_string().as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let counts = log.lines().filter_map(|line| line.split("Collected : ").nth(1)?.trim().parse().ok());
    counts.min().unwrap_or_else(|| panic!("no count in {log}"))
}

#[test]
fn add_and_del_execute_no_more_than_they_did() {
    if !require(&["ip", "valgrind"]) || !cfg!(target_arch = "x86_64") {
        return;
    }
    let world = World::enter();
    let config = json!({
        "cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true,
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.66.0.0/16" }]] },
    });
    // The first ADD of a node makes bridge and tables. A DEL looks as often as the kernel takes long: the least of some.
    let ids = ["first", "a", "b", "c", "d", "e"];
    ids.iter().for_each(|id| drop(run("ip", &["netns", "add", id])));
    let least = |command: &str| {
        let counts: Vec<u64> = ids.iter().map(|id| count(&world, &config, command, id)).collect();
        *counts[1..].iter().min().expect("some")
    };
    for (command, expected) in [("ADD", ADD), ("DEL", DEL)] {
        let found = least(command);
        eprintln!("{command}: {found} instructions");
        let limit = expected + expected * TOLERANCE_PERCENT / 100;
        assert!(found <= limit, "{command} executes {found} instructions, {expected} were expected");
    }
}
