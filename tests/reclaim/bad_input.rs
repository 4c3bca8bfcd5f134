//! Disks that are full or read-only, links in the place of files, names that steer a terminal.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;

use podplumb_tests::{require, run, wait_until};
use serde_json::json;

use crate::leak::{journal, netns_name, podplumb};

const NEEDS: [&str; 2] = ["ip", "mount"];
const LEASES: &str = "/var/lib/cni/networks/pods";
const STATE: &str = "/var/lib/podplumb";
const CONTAINER: &str = "ba40c1e5b9a3f4d2200000000000000000000000000000000000000000000bad";

/// A pod that leaked with namespace, lease and cache entry, whose plugins are not installed any more.
struct Pod {
    netns: PathBuf,
    lease: PathBuf,
    cache: PathBuf,
}

impl Pod {
    fn leaked(own: usize, name: &str) -> Self {
        let netns = netns_name(0x4000 | own);
        run("ip", &["netns", "add", &netns]);
        std::fs::create_dir_all(LEASES).unwrap();
        let lease = Path::new(LEASES).join(format!("10.215.{own}.2"));
        std::fs::write(&lease, format!("{CONTAINER}\r\neth0")).unwrap();
        let netns = Path::new("/run/netns").join(netns);
        let entry = cni::cache::Entry {
            key: model::AttachmentKey::from_file_name(&format!("pods:{CONTAINER}:eth0")).unwrap(),
            netns: Some(netns.clone()),
            args: vec![("K8S_POD_NAMESPACE".into(), "shop".into()), ("K8S_POD_NAME".into(), name.into())],
            capability_args: json!({}),
            config: json!({ "cniVersion": "1.0.0", "name": "pods",
                "plugins": [{ "type": "bridge", "ipam": { "type": "host-local" } }] }),
            result: json!({ "cniVersion": "1.0.0" }),
        };
        cni::cache::Cache::at(cni::cache::DIRECTORY).write(&entry).unwrap();
        let cache = Path::new(cni::cache::DIRECTORY).join(format!("pods-{CONTAINER}-eth0"));
        Self { netns, lease, cache }
    }

    fn is_whole(&self) -> bool {
        self.netns.exists() && self.lease.exists() && self.cache.exists()
    }

    /// The next run finishes. While a namespace of another test cannot be read, the pod might live in there.
    fn finish(&self) {
        wait_until("the next run finishes", || {
            self.is_gone() || (reclaim().status.success() && self.is_gone())
        });
    }

    fn is_gone(&self) -> bool {
        !self.netns.exists() && !self.lease.exists() && !self.cache.exists()
    }
}

fn reclaim() -> Output {
    podplumb().run(&["reclaim", "--apply", "--grace", "0s", "--cni-bin-dir", "/nowhere"])
}

fn tmpfs(path: &str, options: &str) {
    std::fs::create_dir_all(path).unwrap();
    run("mount", &["-t", "tmpfs", "-o", options, "podplumb-test", path]);
}

/// Fills a file system but for so many bytes.
fn fill(path: &str, but: usize) {
    let file = format!("{path}/filler");
    let mut content = vec![0u8; 16 << 20];
    let room = rustix::fs::statvfs(path).unwrap();
    content.truncate((room.f_bavail * room.f_frsize) as usize - but);
    std::fs::write(file, content).unwrap();
}

#[test]
fn without_its_journal_line_nothing_is_removed_however_full_the_disk_is() {
    if !require(&NEEDS) {
        return;
    }
    let _world = crate::leak::alone();
    tmpfs(STATE, "size=256k");
    let pages = [0, 1, 2, 3, 4, 8];
    let mut refused = 0;
    for left in pages {
        let pod = Pod::leaked(1, "web");
        fill(STATE, left * 4096);
        let output = reclaim();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let begun: String =
            journal().iter().filter(|line| line["event"] == "begun").map(|l| l.to_string()).collect();
        for path in [&pod.netns, &pod.lease, &pod.cache].into_iter().filter(|path| !path.exists()) {
            assert!(begun.contains(&path.display().to_string()), "{left}: {path:?} is gone: {stderr}");
        }
        if !pod.is_gone() {
            refused += 1;
            assert_eq!(output.status.code(), Some(1), "{left}: {stderr}");
        }
        std::fs::remove_file(format!("{STATE}/filler")).unwrap();
        pod.finish();
        std::fs::remove_dir_all(format!("{STATE}/quarantine")).unwrap();
        std::fs::remove_file(format!("{STATE}/journal")).unwrap();
    }
    assert!((2..pages.len()).contains(&refused), "{refused} runs found no room");
}

#[test]
fn a_read_only_journal_or_lease_directory_stops_what_needs_it() {
    if !require(&NEEDS) {
        return;
    }
    let _world = crate::leak::alone();
    let pod = Pod::leaked(2, "web");
    tmpfs(STATE, "size=64k,ro");
    let output = reclaim();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("Read-only file system") && stderr.contains("hint: "), "{stderr}");
    assert!(pod.is_whole());
    run("umount", &[STATE]);
    run("mount", &["--bind", LEASES, LEASES]);
    run("mount", &["-o", "remount,bind,ro", LEASES]);
    let output = reclaim();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(pod.lease.exists() && stdout.contains("Read-only file system"), "{stdout}");
    run("umount", &[LEASES]);
    pod.finish();
}

#[test]
fn on_a_full_disk_leases_are_released_nevertheless() {
    if !require(&NEEDS) {
        return;
    }
    let _world = crate::leak::alone();
    tmpfs("/var/lib/cni/networks", "size=64k");
    let pod = Pod::leaked(3, "web");
    fill("/var/lib/cni/networks", 0);
    let output = reclaim();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(pod.is_gone());
}

#[test]
fn planted_links_lead_nowhere() {
    if !require(&NEEDS) {
        return;
    }
    let world = crate::leak::alone();
    let pod = Pod::leaked(4, "web");
    let precious = world.path().join("precious");
    std::fs::create_dir(&precious).unwrap();
    let lease = precious.join("10.215.4.9");
    std::fs::write(&lease, format!("{CONTAINER}\r\neth0")).unwrap();
    let empty = precious.join("empty");
    std::fs::write(&empty, "").unwrap();
    let links = [
        (Path::new("/var/lib/cni/networks/evil").to_owned(), &precious),
        (Path::new(LEASES).join("10.215.4.9"), &lease),
        (Path::new("/run/netns").join(netns_name(0x4004 | 0x100)), &empty),
        (Path::new(cni::cache::DIRECTORY).join(format!("pods-{CONTAINER}-eth1")), &lease),
    ];
    for (link, target) in &links {
        symlink(target, link).unwrap();
    }
    let output = reclaim();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(pod.is_gone() && lease.exists() && empty.exists(), "{output:?}");
    assert!(links.iter().all(|(link, _)| link.is_symlink()), "what we did not make stays");
}

#[test]
fn names_do_not_steer_the_terminal() {
    if !require(&NEEDS) {
        return;
    }
    let _world = crate::leak::alone();
    let pod = Pod::leaked(5, "\u{1b}[2J\u{1b}]0;owned\u{7}web\r\n");
    let dry = podplumb().run(&["reclaim", "--grace", "0s"]);
    let refused = podplumb().run(&["reclaim", "--apply", "--grace", "1h"]);
    let applied = reclaim();
    assert!(pod.is_gone());
    let told = podplumb_tests::Podplumb::default();
    let run_id = journal()[0]["id"].as_str().unwrap().split('.').next().unwrap().to_owned();
    let (journal, undone) = (told.run(&["journal"]), told.run(&["undo", &run_id]));
    for output in [dry, refused, applied, journal, undone] {
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(text);
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        }
    }
}
