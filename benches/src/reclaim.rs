//! Reclaiming many leaked pods: `podplumb reclaim --apply` against removing them one by one, as a script does, with no look at
//! whether anybody uses them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use netlink::{Socket, link};
use podplumb_tests::{Plugins, World, binaries};
use rustix::mount::UnmountFlags;

use crate::world::{Times, pinned};

const PODS: usize = 200;
const ROUNDS: usize = 3;
const LEASES: &str = "/var/lib/cni/networks/pods";

pub(crate) fn run(world: &World) {
    println!(
        "\nreclaiming {PODS} leaked pods (namespace, veth, lease, record), median of {ROUNDS}, milliseconds"
    );
    world.network("10.66.0.0/16");
    let bin_dir = world.plugin_dir(Plugins::Podplumb).display().to_string();
    let (mut looks, mut plain, mut cached, mut one_by_one) =
        (Times::default(), Times::default(), Times::default(), Times::default());
    for _ in 0..ROUNDS {
        leak(&bin_dir, false);
        one_by_one.measure(one_at_a_time);
        scrub();
        leak(&bin_dir, false);
        looks.measure(|| podplumb(&["leaks", "--grace", "0s"], 3));
        plain.measure(|| reclaim(&bin_dir));
        rest(&bin_dir);
        leak(&bin_dir, true);
        cached.measure(|| reclaim(&bin_dir));
        rest(&bin_dir);
    }
    let row = |what: &str, ms: f64| println!("{what:<52} {ms:>9.0} {:>8.2} a pod", ms / PODS as f64);
    row("one by one: RTM_DELLINK, umount, unlink", one_by_one.median_ms());
    row("podplumb reclaim --apply", plain.median_ms());
    row("  of which its two looks take", looks.median_ms() * 2.0);
    row("podplumb reclaim --apply, calling DEL of each pod", cached.median_ms());
    println!("{:.1} times as fast as one by one", one_by_one.median_ms() / plain.median_ms());
}

fn name(n: usize) -> String {
    format!("cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3f{n:04x}")
}

/// Makes the pods, with or without entries in libcni's cache.
fn leak(bin_dir: &str, keep_cache: bool) {
    for n in 0..PODS {
        let netns = pinned(&name(n));
        // What a new namespace sends of itself would say that somebody is there.
        for which in ["all", "default"] {
            let setting = format!("net/ipv6/conf/{which}/disable_ipv6");
            netns.run(|| sys::write_sysctl(&setting, "1")).expect("it can be entered").expect("a setting");
        }
        drop(netns);
        podplumb_without_options(&[
            "cni",
            "add",
            "pods",
            &format!("pod-{n}"),
            &name(n),
            "--bin-dir",
            bin_dir,
        ]);
    }
    if !keep_cache {
        let _ = std::fs::remove_dir_all(cni_cache());
    }
}

fn cni_cache() -> &'static Path {
    Path::new("/var/lib/cni/results")
}

fn one_at_a_time() {
    let mut socket = Socket::route().expect("rtnetlink");
    let links = link::list(&mut socket, None).expect("links");
    for veth in links.iter().filter(|link| link.kind == "veth") {
        socket.ack(link::delete(veth.index)).expect("it goes");
    }
    for n in 0..PODS {
        let path = PathBuf::from("/run/netns").join(name(n));
        rustix::mount::unmount(&path, UnmountFlags::DETACH).expect("a pin");
        std::fs::remove_file(&path).expect("a file");
    }
    for lease in std::fs::read_dir(LEASES).expect("leases").flatten() {
        std::fs::remove_file(lease.path()).expect("a lease");
    }
}

/// The records that it left.
fn scrub() {
    let _ = std::fs::remove_dir_all("/run/podplumb/attachments");
}

fn reclaim(bin_dir: &str) {
    let options = ["reclaim", "--apply", "--grace", "0s", "--max", "1000", "--cni-bin-dir", bin_dir];
    podplumb(&options, 0);
    if left() > 0 {
        println!("(something else had {} of {PODS} open at the moment)", left());
    }
}

/// What another program had open at the moment, on a machine that does something else as well.
fn rest(bin_dir: &str) {
    for _ in 0..10 {
        if left() > 0 {
            reclaim(bin_dir);
        }
    }
    assert_eq!(left(), 0, "everything is gone");
}

fn left() -> usize {
    std::fs::read_dir("/run/netns").expect("pins").count()
}

fn podplumb(arguments: &[&str], code: i32) {
    let mut command = Command::new(binaries().join("podplumb"));
    let output = command.args(arguments).args(["--runtime", "none"]).stdin(Stdio::null()).output();
    let output = output.expect("podplumb");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed: Vec<&str> = stdout.lines().filter(|line| line.contains("failed: ")).take(5).collect();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{}{stderr}", failed.join("\n"));
}

fn podplumb_without_options(arguments: &[&str]) {
    let output = Command::new(binaries().join("podplumb")).args(arguments).output().expect("podplumb");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
