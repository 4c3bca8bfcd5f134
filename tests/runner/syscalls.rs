//! What a call of the runner costs, counted.

use podplumb_tests::{binaries, run};
use serde_json::json;

use crate::{Rig, bridge, can_run, nothing, traces};

/// Runs `podplumb cni …` and returns what strace saw of it and its children: a process's id and a call a line.
fn traced(rig: &Rig, arguments: &[&str]) -> Vec<String> {
    let (log, binary) = (rig.world.path().join("strace"), binaries().join("podplumb"));
    let (log, binary) = (log.display().to_string(), binary.display().to_string());
    // cargo has the linker look for libraries in directories of its own first.
    let strace = ["-f", "-qq", "-E", "LD_LIBRARY_PATH", "-o", &log, &binary, "cni"];
    run("strace", &[&strace, arguments].concat());
    let log = std::fs::read_to_string(&log).unwrap();
    // Rust's debug builds ask before each close whether the descriptor is one.
    log.lines().filter(|call| !call.contains("F_GETFD")).map(str::to_owned).collect()
}

/// How many calls the first process makes, which is what its caller waits for: its children announce addresses and wait for the kernel
/// when the answer has been given.
fn awaited(calls: &[String]) -> usize {
    let id = |call: &String| call.split(' ').next().map(str::to_owned);
    calls.iter().filter(|call| id(call) == id(&calls[0])).count()
}

#[test]
fn a_chain_of_ours_takes_few_system_calls_and_no_exec() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    let plugins = vec![bridge(), portmap, json!({ "type": "firewall" })];
    rig.network("1.0.0", &plugins);
    let mappings = r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#;
    let capabilities = ["--capability-args", mappings];
    // The first ADD of a node makes bridge and tables.
    for (container, limit) in [("a", None), ("b", Some(320))] {
        run("ip", &["netns", "add", container]);
        let calls = traced(&rig, &[&["add", "pods", container, container][..], &capabilities].concat());
        assert_eq!(calls.iter().filter(|call| call.contains("execve(")).count(), 1, "{calls:#?}");
        assert!(
            !calls.iter().any(|call| call.contains("CLONE_THREAD")),
            "a thread keeps plugins from forking"
        );
        assert!(limit.is_none_or(|limit| awaited(&calls) <= limit), "{} system calls", awaited(&calls));
        rig.cni(0, &["del", "pods", container]);
    }
    assert_eq!(traces(), nothing());
}
