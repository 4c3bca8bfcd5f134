//! Versions on a node, and what `leaks` says about them.

use podplumb_tests::{Podplumb, World, require, run};
use serde_json::{Value, json};

#[test]
fn plugins_are_told_with_the_version_that_their_package_has() {
    if !require(&["ip", "dpkg-query"]) {
        return;
    }
    let world = World::enter();
    world.network("10.66.0.0/24");
    let snapshot: Value = serde_json::from_str(&Podplumb::default().expect(0, &["snapshot"])).unwrap();
    let plugins = snapshot["plugins"].as_array().expect("plugins");
    let kinds: Vec<&str> = plugins.iter().map(|plugin| plugin["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["bridge", "host-local", "loopback"],
        "those that are configured, their IPAM, and loopback"
    );
    let version = run("dpkg-query", &["--show", "--showformat=${Version}", "containernetworking-plugins"]);
    for plugin in
        plugins.iter().filter(|plugin| plugin["path"].as_str().unwrap().starts_with("/usr/lib/cni/"))
    {
        assert_eq!(plugin["version"], version.as_str(), "{plugin}");
    }
}

#[test]
fn a_version_that_is_known_to_leak_is_told_with_its_source() {
    if !require(&["ip"]) {
        return;
    }
    let world = World::enter();
    let node = json!({"hostname": "n", "kernel": "6", "boot_id": "b", "booted_at": 0});
    let status = json!({"state": "answered", "version": "1.6.8\u{1b}[2J"});
    let runtime =
        json!({"kind": "containerd", "endpoint": "/run/containerd/containerd.sock", "status": status});
    let snapshot =
        json!({"version": 1, "taken_at": 0, "namespaces": [], "node": node, "runtimes": [runtime]});
    let file = world.path().join("node.json");
    std::fs::write(&file, snapshot.to_string()).unwrap();
    let path = file.display().to_string();
    let podplumb = Podplumb::with(&["--from", &path]);
    let output = podplumb.run(&["leaks"]);
    assert_eq!(output.status.code(), Some(0), "a version is no leak");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("\n    https://github.com/containerd/containerd/issues/5768\n"), "{stderr}");
    assert!(stderr.lines().all(|line| line.chars().count() <= 80) && !stderr.contains('\u{1b}'), "{stderr}");
    let found: Value = serde_json::from_str(&podplumb.expect(0, &["leaks", "--output", "json"])).unwrap();
    assert_eq!(found["versions"]["warnings"].as_array().unwrap().len(), 1, "{found}");
}
