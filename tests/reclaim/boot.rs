//! `reclaim --boot`, on a node that has just been restarted.

use std::path::Path;

use podplumb_tests::{Plugins, World, output, require, run};

use crate::leak::{id, journal, netns_name, podplumb};

const NEEDS: [&str; 1] = ["ip"];
const LEASES: &str = "/var/lib/cni/networks/pods";
const RECORDS: &str = "/run/podplumb/attachments";

/// Two pods, an empty lease, one that somebody reserved, one of a foreign IPAM's container; then the node is restarted, and a runtime that
/// keeps records on disk puts them back.
fn restarted(world: &World, own: usize) {
    // Addresses and names that no other test on this machine has at the moment.
    world.network(&format!("10.213.{own}.0/24"));
    let names = [own << 8, own << 8 | 1];
    let bin = world.plugin_dir(Plugins::Podplumb).display().to_string();
    for n in names {
        run("ip", &["netns", "add", &netns_name(n)]);
        podplumb_tests::Podplumb::default()
            .expect(0, &["cni", "add", "pods", &id(n), &netns_name(n), "--bin-dir", &bin]);
    }
    std::fs::write(format!("{LEASES}/10.213.{own}.77"), "").unwrap();
    std::fs::write(format!("{LEASES}/10.213.{own}.78"), "router").unwrap();
    let kept = world.path().join("records");
    run("cp", &["-r", RECORDS, &kept.display().to_string()]);
    // A restart ends them.
    for n in names {
        run("ip", &["netns", "del", &netns_name(n)]);
    }
    world.restart();
    std::fs::create_dir_all("/run/podplumb").unwrap();
    run("cp", &["-r", &kept.display().to_string(), RECORDS]);
}

fn names(directory: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "lock" && !name.starts_with("last_reserved"))
        .collect();
    names.sort();
    names
}

#[test]
fn what_an_earlier_boot_left_is_quarantined_and_can_be_put_back() {
    if !require(&NEEDS) {
        return;
    }
    let world = crate::leak::alone();
    restarted(&world, 1);
    // What this boot made stays, whatever it looks like.
    std::fs::write(format!("{LEASES}/10.213.1.99"), format!("{}\r\neth0", id(0x1ff))).unwrap();
    let before = (names(LEASES), names("/var/lib/cni/results"), names(RECORDS));
    assert_eq!((before.0.len(), before.1.len(), before.2.len()), (5, 2, 2), "{before:?}");

    let podplumb = podplumb();
    // Runtimes of other tests are started containers as well.
    world.hide_others();
    let plan = podplumb.expect(3, &["reclaim", "--boot"]);
    assert!(plan.contains("release lease") && journal().is_empty(), "{plan}");
    podplumb.expect(0, &["reclaim", "--boot", "--apply"]);
    assert_eq!(names(LEASES), ["10.213.1.78", "10.213.1.99"], "a person's, and one of this boot");
    assert!(names("/var/lib/cni/results").is_empty() && names(RECORDS).is_empty());

    let run_id = journal()[0]["id"].as_str().unwrap().split('.').next().unwrap().to_owned();
    podplumb_tests::Podplumb::default().expect(0, &["undo", &run_id]);
    assert_eq!((names(LEASES), names("/var/lib/cni/results"), names(RECORDS)), before);
}

#[test]
fn once_a_container_or_a_runtime_runs_boot_refuses() {
    if !require(&NEEDS) {
        return;
    }
    let world = crate::leak::alone();
    restarted(&world, 2);
    let refuses = |why: &str, options: &[&str]| {
        world.hide_others();
        let refused = podplumb_tests::Podplumb::with(options).run(&["reclaim", "--boot", "--apply"]);
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(why) && stderr.contains("hint: "), "{why}: {stderr}");
        assert!(journal().is_empty() && names(LEASES).len() == 4);
    };
    // A pod that a runtime has just made, although none can be asked.
    run("ip", &["netns", "add", &netns_name(0x2ff)]);
    refuses(&netns_name(0x2ff), &["--runtime", "none"]);
    run("ip", &["netns", "del", &netns_name(0x2ff)]);
    // A socket on which nobody answers yet.
    std::fs::create_dir_all("/run/containerd").unwrap();
    let socket = "/run/containerd/containerd.sock";
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    drop(listener);
    refuses("containerd has been started", &[]);
    std::fs::remove_file(socket).unwrap();
    // Without them, the same command works, and what a stopped runtime left on disk is no reason.
    std::fs::create_dir_all("/var/lib/docker/containers/7d0c1e5b9a3f4d22").unwrap();
    world.hide_others();
    let done = output(podplumb_tests::binaries().join("podplumb"), &["reclaim", "--boot", "--apply"]);
    assert!(done.status.success(), "{done:?}");
    assert!(Path::new(LEASES).join("10.213.2.78").exists() && names(LEASES).len() == 1);
}
