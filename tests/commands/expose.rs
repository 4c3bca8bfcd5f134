//! `podplumb expose`: a pod's network by name for `ip netns`, which keeps nothing alive.

use std::path::Path;

use podplumb_tests::{Containerd, Plugins, Pod, Podplumb, World, kill, output, require, run, wait_until};
use serde_json::Value;

use crate::guest::Guest;

fn names() -> Vec<String> {
    let text = run("ip", &["netns", "list"]);
    text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

fn inside(name: &str) -> String {
    run("ip", &["netns", "exec", name, "readlink", "/proc/self/ns/net"]).trim_end().to_owned()
}

/// The keeper of a name, by the link.
fn keeper(name: &str) -> u32 {
    let link = std::fs::read_link(Path::new("/run/netns").join(name)).expect("a link");
    link.iter().nth(2).and_then(|pid| pid.to_str()?.parse().ok()).expect("a keeper")
}

fn is_there(pid: u32) -> bool {
    sys::ProcessStat::read(pid).is_ok_and(|stat| !stat.has_ended())
}

/// A veth into a guest's namespace, whose host end goes when that does.
fn wire(guest: &Guest, veth: &str) {
    let pid = guest.pid.to_string();
    run("ip", &["link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
}

/// Ends the last process of a namespace, whose veth goes with it.
fn end(guest: Guest, veth: &str) {
    let exists = || output("ip", &["link", "show", veth]).status.success();
    assert!(exists(), "{veth}");
    drop(guest);
    wait_until(&format!("{veth} is gone"), || !exists());
}

#[test]
fn a_name_leads_into_the_namespace_keeps_nothing_alive_and_goes_with_it() {
    if !require(&["ip", "unshare", "sleep"]) {
        return;
    }
    let _world = World::enter();
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    let (plain, guest) = (Guest::start(&["--net"]), Guest::start(&["--net"]));
    wire(&plain, "plain0");
    wire(&guest, "named0");
    let target = format!("pid:{}", guest.pid);
    assert_eq!(podplumb.expect(0, &["expose", &target, "web"]), "web\n");
    assert_eq!(names(), ["web"]);
    assert_eq!(inside("web"), guest.namespace("net"));
    assert!(run("ip", &["netns", "pids", "web"]).lines().any(|pid| pid == guest.pid.to_string()));
    // Once more is no error, and for anybody else it is.
    podplumb.expect(0, &["expose", &target, "web"]);
    let other = podplumb.run(&["expose", &format!("pid:{}", plain.pid), "web"]);
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(other.status.code() == Some(1) && said.contains("/run/netns/web is something else"), "{said}");
    assert_eq!(inside("web"), guest.namespace("net"));
    // Nobody takes it for a holder, a pin or a file that was left.
    let holders: Value =
        serde_json::from_str(&podplumb.expect(0, &["holders", &target, "-o", "json"])).expect("JSON");
    let text = holders.to_string();
    assert!(!text.contains("podplumb-expose") && !text.contains("/run/netns/web"), "{holders:#}");
    let findings = podplumb.findings("0s");
    assert!(
        findings.iter().all(|finding| !finding.0.to_string().contains("/run/netns/web")),
        "{findings:#?}"
    );
    let snapshot: Value = serde_json::from_str(&podplumb.expect(0, &["snapshot"])).expect("JSON");
    assert!(snapshot.get("stale_files").is_none_or(|files| files.as_array().is_none_or(Vec::is_empty)));
    let keeper = keeper("web");
    assert!(is_there(keeper));
    end(plain, "plain0");
    end(guest, "named0");
    wait_until("the name is gone", || names().is_empty());
    wait_until("so is its keeper", || !is_there(keeper));
}

#[test]
fn a_name_never_leads_to_whoever_comes_later() {
    if !require(&["ip", "unshare", "sleep"]) {
        return;
    }
    let _world = World::enter();
    let podplumb = Podplumb::default();
    let guest = Guest::start(&["--net"]);
    podplumb.expect(0, &["expose", &format!("pid:{}", guest.pid), "web"]);
    let keeper = keeper("web");
    let signal = |signal| {
        let pid = rustix::process::Pid::from_raw(i32::try_from(keeper).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).expect("it lives");
    };
    // It cannot tidy up while it is stopped; and the number is given to somebody else.
    signal(rustix::process::Signal::STOP);
    let pid = guest.pid;
    drop(guest);
    wait_until("the number is free", || !Path::new("/proc").join(pid.to_string()).exists());
    let later = again(pid);
    assert!(!output("ip", &["netns", "exec", "web", "true"]).status.success(), "it leads to somebody else");
    let listed = podplumb.expect(0, &["expose", "--list"]);
    assert!(listed.contains("web") && listed.contains(" -\n"), "{listed}");
    signal(rustix::process::Signal::CONT);
    wait_until("it tidies up", || names().is_empty());
    if let Some(mut later) = later {
        let _ = later.kill();
        let _ = later.wait();
    }
    // A keeper that is killed leaves a link that leads nowhere, which the next call removes.
    let guest = Guest::start(&["--net"]);
    let target = format!("pid:{}", guest.pid);
    podplumb.expect(0, &["expose", &target, "web"]);
    kill(self::keeper("web"));
    wait_until("it leads nowhere", || !output("ip", &["netns", "exec", "web", "true"]).status.success());
    assert!(podplumb.expect(0, &["expose", "--list"]).contains("its keeper was killed"));
    podplumb.expect(0, &["expose", &target, "other"]);
    assert_eq!(names(), ["other"]);
    // `ip netns del` is as good as --remove: the keeper sees it.
    let keeper = self::keeper("other");
    run("ip", &["netns", "del", "other"]);
    wait_until("the keeper ends", || !is_there(keeper));
}

/// A process that has this number, as the kernel can be told to give it (CONFIG_CHECKPOINT_RESTORE).
fn again(pid: u32) -> Option<std::process::Child> {
    for _ in 0..200 {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        if child.id() == pid {
            return Some(child);
        }
        let _ = child.kill();
        let _ = child.wait();
    }
    eprintln!("the number could not be given again: this was not tried");
    None
}

#[test]
fn a_pin_gets_another_name_for_as_long_as_it_is_there() {
    if !require(&["ip"]) {
        return;
    }
    let _world = World::enter();
    let podplumb = Podplumb::default();
    let pod = Pod::new("cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4c01");
    let inode = pod.netns.inode().unwrap();
    let path = "/run/netns/cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4c01";
    podplumb.expect(0, &["expose", path, "web"]);
    assert_eq!(inside("web"), format!("net:[{inode}]"));
    let listed: Value =
        serde_json::from_str(&podplumb.expect(0, &["expose", "--list", "-o", "json"])).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["source"]), (&"web".into(), &path.into()));
    assert_eq!(listed[0]["inode"], inode.0);
    let keeper = keeper("web");
    drop(pod);
    wait_until("the name is gone", || names().is_empty());
    wait_until("so is its keeper", || !is_there(keeper));
    // What has a name for `ip netns` already needs none; what is in its place is not touched.
    let _plain = Pod::new("plain");
    assert_eq!(podplumb.expect(0, &["expose", "/run/netns/plain"]), "plain\n");
    assert!(!Path::new("/run/netns/plain").is_symlink());
    for (arguments, code) in [
        (&["expose", "/run/netns/plain", "../x"][..], 2),
        (&["expose", "/run/netns/plain", "-x"], 2),
        (&["expose", "/run/netns/plain", "a\u{1b}[2J"], 2),
        (&["expose"], 2),
        (&["expose", "nothing"], 1),
        (&["expose", "--remove", "plain"], 1),
    ] {
        let output = podplumb.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(!output.stderr.contains(&0x1b));
    }
    assert_eq!(names(), ["plain"]);
    // A link that somebody else made is his, wherever it leads.
    std::os::unix::fs::symlink("/proc/1/ns/net", "/run/netns/mine").unwrap();
    podplumb.expect(0, &["expose", "/run/netns/plain", "web"]);
    podplumb.expect(0, &["expose", "--remove", "/run/netns/plain"]);
    assert_eq!(podplumb.run(&["expose", "--remove", "mine"]).status.code(), Some(1));
    assert!(Path::new("/run/netns/mine").is_symlink() && !Path::new("/run/netns/web").is_symlink());
}

#[test]
fn a_pod_of_containerds_is_exposed_by_its_name_until_it_is_removed() {
    if !require(&["containerd", "runc", "ctr", "ip"]) {
        return;
    }
    let world = World::enter();
    let mut containerd = Containerd::start(&world, Plugins::Podplumb, "10.173.0.0/24");
    let (pod, dead) = (containerd.run_sandbox("web"), containerd.run_sandbox("dead"));
    let podplumb = Podplumb::default();
    assert_eq!(podplumb.expect(0, &["expose", "shop/web"]), "web\n");
    assert_eq!(podplumb.expect(0, &["expose", "dead"]), "dead\n");
    assert!(run("ip", &["netns", "exec", "web", "ip", "address"]).contains(&pod.ip));
    assert!(run("ip", &["-n", "dead", "address"]).contains(&dead.ip));
    containerd.remove_sandbox(&pod);
    wait_until("the name is gone", || !Path::new("/run/netns/web").is_symlink());
    let links = || run("ip", &["-o", "link"]).matches("veth").count();
    wait_until("so is its veth", || links() == 1);
    // One that crashes leaves its pin, as always, and no name.
    containerd.crash_sandbox(&dead);
    wait_until("the name is gone", || !Path::new("/run/netns/dead").is_symlink());
    containerd.forget_sandbox(&dead);
    let findings = podplumb.findings("0s");
    let own = findings.iter().find(|finding| finding.0["container"] == dead.id.as_str()).expect("a finding");
    assert_eq!(own.verdict(), "orphan", "{own:#?}");
}
