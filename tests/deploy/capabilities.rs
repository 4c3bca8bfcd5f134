//! The capabilities that units and manifests give are enough, and none of them is too many.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use podplumb_tests::{Podplumb, World, binaries, output, require, run, wait_until};

use crate::files::{manifest, unit};

const NEEDS: [&str; 5] = ["setpriv", "ip", "unshare", "nsenter", "python3"];

/// A process of another user, in a network namespace of its own.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "sleep", "600"];
        let child = Command::new("unshare").arg("--net").args(nobody).stdin(Stdio::null()).spawn();
        let stranger = Self(child.expect("unshare"));
        let comm = format!("/proc/{}/comm", stranger.0.id());
        wait_until("it sleeps", || std::fs::read_to_string(&comm).is_ok_and(|comm| comm == "sleep\n"));
        stranger
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pod that was attached by the reference plugins, and of which only a pin is left.
struct Leak {
    pin: String,
    lease: String,
}

impl Leak {
    fn new(world: &World, number: u8) -> Self {
        Self::within(world, "10.214.0.0/24", number)
    }

    fn within(world: &World, subnet: &str, number: u8) -> Self {
        world.network(subnet);
        let name = format!("cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e{number:02}");
        run("ip", &["netns", "add", &name]);
        let (id, pin) = (format!("{number:02}").repeat(32), format!("/run/netns/{name}"));
        let call = Podplumb::with(&["--exec", "--bin-dir", "/usr/lib/cni"]);
        let result = call.expect(0, &["cni", "add", "pods", &id, &pin]);
        let result: serde_json::Value = serde_json::from_str(&result).expect("a result");
        let address =
            result["ips"][0]["address"].as_str().and_then(|net| net.split('/').next()).expect("an address");
        let lease = format!("/var/lib/cni/networks/pods/{address}");
        let leak = Self { pin, lease };
        assert!(leak.is_there());
        // Older than the grace period of `RECLAIM`.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        leak
    }

    /// Pin and lease; the veth goes with the last of its namespace.
    fn is_there(&self) -> bool {
        let is_pinned = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap().contains(&self.pin);
        assert_eq!(Path::new(&self.lease).exists(), is_pinned, "all of it, or nothing");
        is_pinned
    }

    /// Has runs at it until it is gone, as a timer does: podplumb spares what another podplumb, such as another test's, looks at
    /// in that moment.
    fn is_reclaimed_by(&self, run: impl Fn() -> Output) -> Result<(), String> {
        let mut said_last = String::new();
        for _ in 0..5 {
            said_last = said(&run());
            if !self.is_there() {
                return Ok(());
            }
        }
        Err(said_last)
    }

    /// Whether a run left it, or said that it failed.
    fn is_refused(&self, done: &Output) -> bool {
        self.is_there() || done.status.code() == Some(1) && said(done).contains("not permitted")
    }
}

const RECLAIM: [&str; 6] = ["reclaim", "--apply", "--grace", "1s", "--runtime", "none"];

/// Root with only these capabilities, as a service manager or a container runtime makes it.
fn limited(capabilities: &[String], command: &[&str]) -> Output {
    let set = capabilities.iter().fold("-all".to_owned(), |set, name| format!("{set},+{name}"));
    let flags = ["--no-new-privs", "--bounding-set", &set, "--inh-caps", "-all"];
    output("setpriv", &[&flags, command].concat())
}

fn without(capabilities: &[String], dropped: &str) -> Vec<String> {
    let fewer: Vec<String> = capabilities.iter().filter(|name| *name != dropped).cloned().collect();
    assert!(fewer.len() < capabilities.len(), "{dropped} is one of them");
    fewer
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_timers_service_reclaims_with_its_capabilities_and_not_with_fewer() {
    if !require(&NEEDS) {
        return;
    }
    let given = unit("podplumb-reclaim.service").capabilities();
    let world = World::enter();
    world.hide_others();
    let stranger = Stranger::new();
    let program = binaries().join("podplumb").display().to_string();
    let reclaim = [&[program.as_str()][..], &RECLAIM].concat();
    for (number, dropped) in ["sys_admin", "net_admin", "sys_ptrace"].into_iter().enumerate() {
        let leak = Leak::new(&world, 20 + number as u8);
        let done = limited(&without(&given, dropped), &reclaim);
        assert!(leak.is_refused(&done), "without {dropped}: {}", said(&done));
    }
    // What this one costs is an answer that is complete.
    let fds = format!("/proc/{}/fd:", stranger.0.id());
    let leaks = [program.as_str(), "leaks", "--runtime", "none", "--output", "json"];
    let gap = |capabilities: &[String]| {
        let found = limited(capabilities, &leaks);
        let json: serde_json::Value = serde_json::from_slice(&found.stdout).expect("JSON");
        let coverage = json["coverage"].as_array().cloned().unwrap_or_default();
        coverage
            .iter()
            .any(|gap| fds.starts_with(&format!("{}:", gap["object"].as_str().unwrap_or_default())))
    };
    assert!(gap(&without(&given, "dac_read_search")), "descriptors of others cannot be read");
    assert!(!gap(&given));

    let leak = Leak::new(&world, 29);
    leak.is_reclaimed_by(|| limited(&given, &reclaim)).expect("it goes");
}

#[test]
fn the_daemon_set_reclaims_from_a_container_and_not_with_fewer_capabilities() {
    if !require(&NEEDS) {
        return;
    }
    let daemon_set = manifest("daemonset.yaml");
    let given = daemon_set.capabilities("reclaim");
    assert_eq!(given, manifest("cronjob.yaml").capabilities("reclaim"));
    assert_eq!(without(&given, "sys_chroot"), unit("podplumb-reclaim.service").capabilities());
    let world = World::enter();
    world.hide_others();
    let _stranger = Stranger::new();
    // The world is the node: what the manifest calls process 1 is the thread that entered it.
    let node = std::fs::read_link("/proc/thread-self").unwrap();
    let node = format!("--mount=/proc/{}/ns/mnt", node.display());
    let program = binaries().join("podplumb").display().to_string();
    let inside = ["nsenter", &node, "--", &program];
    // A container has a mount namespace of its own, from which nothing propagates.
    let container = |capabilities: &[String], command: &[&str]| {
        let set = capabilities.iter().fold("-all".to_owned(), |set, name| format!("{set},+{name}"));
        let flags = ["--mount", "--propagation", "private", "setpriv", "--no-new-privs"];
        let limits = ["--bounding-set", &set, "--inh-caps", "-all"];
        output("unshare", &[&flags[..], &limits, &inside, command].concat())
    };
    for (number, dropped) in ["sys_chroot", "sys_admin", "net_admin", "sys_ptrace"].into_iter().enumerate() {
        let leak = Leak::new(&world, 30 + number as u8);
        let done = container(&without(&given, dropped), &RECLAIM);
        assert!(leak.is_refused(&done), "without {dropped}: {}", said(&done));
    }
    let leak = Leak::new(&world, 39);
    leak.is_reclaimed_by(|| container(&given, &RECLAIM)).expect("it goes");
}

#[test]
fn the_boot_service_quarantines_with_its_capabilities_and_sees_a_container_that_is_early() {
    if !require(&NEEDS) {
        return;
    }
    let given = unit("podplumb-boot.service").capabilities();
    assert_eq!(given, ["sys_admin", "sys_ptrace"]);
    let world = World::enter();
    // Addresses and names that no other test on this machine has at the moment: they would be taken for this one's.
    let leak = Leak::within(&world, "10.214.1.0/24", 49);
    run("ip", &["netns", "del", leak.pin.rsplit('/').next().expect("a name")]);
    world.restart();
    world.hide_others();
    let _stranger = Stranger::new();
    let program = binaries().join("podplumb").display().to_string();
    let boot = [program.as_str(), "reclaim", "--boot", "--apply"];
    let lease = Path::new(&leak.lease);
    let done = limited(&without(&given, "sys_ptrace"), &boot);
    assert!(done.status.code() == Some(1) && lease.exists(), "without sys_ptrace: {}", said(&done));

    // That somebody has a leased address is only seen from inside of his namespace.
    run("ip", &["netns", "add", "early"]);
    run("ip", &["link", "add", "early", "type", "veth", "peer", "name", "eth0", "netns", "early"]);
    let address = leak.lease.rsplit('/').next().expect("an address");
    run("ip", &["-n", "early", "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
    // Runtimes of other tests are a reason to refuse as well.
    world.hide_others();
    let done = limited(&given, &boot);
    assert!(done.status.code() == Some(1) && lease.exists(), "{}", said(&done));
    assert!(said(&done).contains("/run/netns/early"), "{}", said(&done));

    run("ip", &["netns", "del", "early"]);
    world.hide_others();
    let done = limited(&given, &boot);
    assert!(done.status.success() && !lease.exists(), "{}", said(&done));
}

#[test]
fn watching_in_the_daemon_set_needs_what_it_has() {
    if !require(&NEEDS) {
        return;
    }
    let given = manifest("daemonset.yaml").capabilities("watch");
    let _world = World::enter();
    let program = binaries().join("podplumb").display().to_string();
    let node = std::fs::read_link("/proc/thread-self").unwrap();
    let node = format!("--mount=/proc/{}/ns/mnt", node.display());
    // It ends by itself, since nobody reads: the pipe to `head` is closed after the first line.
    let line = |capabilities: &[String]| {
        let set = capabilities.iter().fold("-all".to_owned(), |set, name| format!("{set},+{name}"));
        let limits = format!("setpriv --no-new-privs --bounding-set {set} --inh-caps -all");
        let script = format!("{limits} nsenter {node} -- {program} leaks --watch | head -n 1");
        said(&output("unshare", &["--mount", "--propagation", "private", "sh", "-c", &script]))
    };
    assert!(line(&given).contains("\"event\":\"began\""), "{}", line(&given));
    for dropped in ["sys_admin", "sys_chroot"] {
        let text = line(&without(&given, dropped));
        assert!(!text.contains("began"), "without {dropped}: {text}");
    }
}
