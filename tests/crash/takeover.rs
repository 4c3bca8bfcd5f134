//! Leases of an earlier boot, for the plugin as it is shipped: the world's /proc/stat says that this boot began after they were written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use podplumb_tests::{Fault, Traced, World, binaries, output, require, run, run_traced};
use serde_json::{Value, json};
use sys::trace::End;

use crate::REFUSALS;

const DATA_DIR: &str = "/var/lib/cni/networks";
const JOURNAL: &str = "/var/lib/podplumb/takeovers";
/// Longer than the margin that the plugin leaves for clocks that are set.
const BEFORE_THE_BOOT: Duration = Duration::from_secs(11);

/// A node that was restarted.
struct Node {
    directory: PathBuf,
}

impl Node {
    /// Writes leases, as `network/address` with their content, and lets a boot pass.
    fn restarted<'a>(world: &World, leases: impl Iterator<Item = (String, &'a str)>) -> Self {
        for (path, content) in leases {
            let path = Path::new(DATA_DIR).join(path);
            std::fs::create_dir_all(path.parent().expect("a network")).expect("a directory");
            std::fs::write(path, content).expect("a lease");
        }
        std::thread::sleep(BEFORE_THE_BOOT);
        run("mount", &["-t", "tmpfs", "podplumb-test", "/run"]);
        std::fs::create_dir_all("/run/netns").expect("a directory");
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let stat = world.path().join("stat");
        std::fs::write(&stat, format!("cpu  0 0 0\nbtime {seconds}\nprocesses 1\n")).expect("a file");
        rustix::mount::mount_bind(&stat, "/proc/stat").expect("another begin of this boot");
        Self { directory: world.shipped_dir() }
    }

    /// Calls host-local about `id`. Two addresses are in a network.
    fn call(&self, command: &str, network: &str, id: &str, fault: Option<(usize, Fault)>) -> Traced {
        let config = json!({
            "cniVersion": "1.1.0", "name": network, "type": "host-local",
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.66.0.0/29", "rangeEnd": "10.66.0.3" }]] },
        });
        let mut program = Command::new(self.directory.join("host-local"));
        program.env_clear().env("CNI_COMMAND", command).env("CNI_PATH", &self.directory);
        program.env("CNI_CONTAINERID", id).env("CNI_NETNS", "/run/netns/x").env("CNI_IFNAME", "eth0");
        run_traced(&mut program, config.to_string().as_bytes(), fault)
    }
}

/// All files of a network but the lock and the cursor, with their content.
fn files(network: &str) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(Path::new(DATA_DIR).join(network)).expect("a network").flatten();
    let read = entries.map(|entry| {
        let content = std::fs::read_to_string(entry.path()).expect("a file");
        (entry.file_name().to_string_lossy().into_owned(), content)
    });
    read.filter(|(name, _)| name != "lock" && !name.starts_with("last_reserved_ip")).collect()
}

/// The whole lines of the journal.
fn journal() -> Vec<Value> {
    let text = std::fs::read(JOURNAL).unwrap_or_default();
    let lines = sys::whole_lines(&text).split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

/// What a takeover left, whatever happened to it at a system call.
fn judge(node: &Node, network: &str, before: &BTreeMap<String, String>, call: &Traced) -> Result<(), String> {
    let new = "new\r\neth0";
    let after = files(network);
    let mut taken = Vec::new();
    for (name, old) in before {
        match after.get(name) {
            Some(content) if content == old => {}
            Some(content) if content == new => taken.push(name.as_str()),
            other => return Err(format!("{name} of {old:?} is {other:?}")),
        }
    }
    let succeeded = call.end == End::Exited(0);
    if taken.len() > 1 || (succeeded && taken.len() != 1) {
        return Err(format!("{taken:?} are taken over"));
    }
    for name in &taken {
        let is_it = |line: &&Value| {
            line["event"] == "takeover-begun"
                && line["lease_dir"] == format!("{DATA_DIR}/{network}")
                && line["address"] == *name
                && line["content"] == before[*name]
                && line["by"]["container"] == "new"
        };
        if journal().iter().filter(is_it).count() != 1 {
            return Err(format!("the journal has lost the old lease of {name}"));
        }
    }
    // As after a failed ADD: without a result.
    let del = node.call("DEL", network, "new", None);
    if del.end != End::Exited(0) {
        return Err(format!("DEL fails: {}", del.stdout));
    }
    let left = files(network);
    let kept: BTreeMap<String, String> =
        before.clone().into_iter().filter(|(name, _)| !taken.contains(&name.as_str())).collect();
    if left == kept { Ok(()) } else { Err(format!("after DEL there is {left:?}")) }
}

#[test]
fn a_takeover_at_whose_every_system_call_something_happens_loses_no_lease_and_makes_no_second() {
    if !require(&["mount"]) {
        return;
    }
    let world = World::enter();
    let faults: Vec<Fault> = std::iter::once(Fault::Kill).chain(REFUSALS.map(Fault::Refuse)).collect();
    // A network for each trial: a lease can be made only once in an earlier boot.
    let networks: Vec<String> = (0..2_000).map(|number| format!("net{number}")).collect();
    let leases = networks.iter().flat_map(|network| {
        [(format!("{network}/10.66.0.2"), "old2\r\neth0"), (format!("{network}/10.66.0.3"), "old3\r\neth0")]
    });
    let node = Node::restarted(&world, leases);
    let mut networks = networks.iter();
    let mut found = Vec::new();
    let mut takeovers = 0;
    for fault in faults {
        for number in 0.. {
            let network = networks.next().expect("there are enough");
            let before = files(network);
            let call = node.call("ADD", network, "new", Some((number, fault)));
            takeovers += usize::from(call.end == End::Exited(0));
            if let Err(error) = judge(&node, network, &before, &call) {
                found.push(format!("{fault:?} at {number}, {:?}: {error}", call.at));
            }
            if call.at.is_none() {
                break;
            }
        }
    }
    assert!(found.is_empty(), "{} trials went wrong:\n{}", found.len(), found.join("\n"));
    assert!(takeovers > 5, "at the end of each fault one is left alone");
}

#[test]
fn whose_container_may_live_keeps_its_lease_and_the_others_are_taken_over_and_told() {
    if !require(&["mount"]) {
        return;
    }
    let world = World::enter();
    let owners = ["recorded", "pinned", "torn", "dead", "forgotten"];
    let leases = owners.iter().enumerate().map(|(at, owner)| (format!("pods/10.66.0.{}", at + 2), *owner));
    let leases: Vec<(String, String)> =
        leases.map(|(path, owner)| (path, format!("{owner}\r\neth0"))).collect();
    let node = Node::restarted(&world, leases.iter().map(|(path, content)| (path.clone(), content.as_str())));
    let cache = Path::new("/var/lib/cni/results");
    std::fs::create_dir_all(cache).expect("a cache");
    std::fs::create_dir_all("/run/podplumb/attachments").expect("records");
    std::fs::write("/run/podplumb/attachments/pods:recorded:eth0", "").expect("a record");
    std::fs::write("/run/netns/pinned", "").expect("a pin");
    for owner in ["pinned", "dead"] {
        let entry = json!({
            "kind": "cniCacheV1", "containerId": owner, "config": "e30=", "ifName": "eth0", "networkName": "pods",
            "netns": format!("/run/netns/{owner}"), "result": {},
        });
        std::fs::write(cache.join(format!("pods-{owner}-eth0")), entry.to_string()).expect("an entry");
    }
    std::fs::write(cache.join("pods-torn-eth0"), "").expect("an entry");

    let bridge = |command: &str, id: &str| {
        let config = json!({
            "cniVersion": "1.1.0", "name": "pods", "type": "bridge", "bridge": "cni0", "isDefaultGateway": true,
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.66.0.0/29" }]] },
        });
        let mut program = Command::new(node.directory.join("bridge"));
        program.env_clear().env("CNI_COMMAND", command).env("CNI_PATH", &node.directory);
        if !id.is_empty() {
            program
                .env("CNI_CONTAINERID", id)
                .env("CNI_NETNS", format!("/run/netns/{id}"))
                .env("CNI_IFNAME", "eth0");
        }
        let call = run_traced(&mut program, config.to_string().as_bytes(), None);
        let answer: Value = serde_json::from_str(&call.stdout).unwrap_or_default();
        (call.end, answer)
    };
    let add = |id: &'static str| {
        let _pod = podplumb_tests::Pod::new(id);
        let (end, answer) = bridge("ADD", id);
        (end, answer["ips"][0]["address"].as_str().map(str::to_owned), answer["code"].as_u64())
    };
    let status = || bridge("STATUS", "").0;
    assert_eq!(status(), End::Exited(0), "a pod would get an address");
    assert_eq!(add("a"), (End::Exited(0), Some("10.66.0.5/29".into()), None));
    assert_eq!(add("b"), (End::Exited(0), Some("10.66.0.6/29".into()), None));
    assert_eq!(add("c"), (End::Exited(1), None, Some(100)));
    assert_eq!(status(), End::Exited(1), "and now none would");
    let names = ["10.66.0.2", "10.66.0.3", "10.66.0.4", "10.66.0.5", "10.66.0.6"];
    let holders = ["recorded", "pinned", "torn", "a", "b"].map(|owner| format!("{owner}\r\neth0"));
    assert_eq!(files("pods"), names.map(str::to_owned).into_iter().zip(holders).collect());
    assert_eq!(bridge("DEL", "a").0, End::Exited(0));
    assert!(!files("pods").contains_key("10.66.0.5"));

    let told = run(binaries().join("podplumb"), &["journal"]);
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    for (by, address, owner) in [("a", "10.66.0.5", "dead"), ("b", "10.66.0.6", "forgotten")] {
        let line = format!(
            "ADD of pods {by} eth0 1 take over lease {DATA_DIR}/pods/{address} of {owner} eth0, written "
        );
        assert!(told.contains(&line), "{line}\n{told}");
    }
    assert_eq!(told.matches(": done").count(), 2, "{told}");
    let lines: Value =
        serde_json::from_str(&run(binaries().join("podplumb"), &["journal", "--output", "json"])).unwrap();
    assert_eq!(lines[0]["content"], "dead\r\neth0");
    assert_eq!(lines.as_array().map(Vec::len), Some(4));

    // The address of the first is free again, that of the second is not.
    let undo = |at: usize| output(binaries().join("podplumb"), &["undo", lines[at]["id"].as_str().unwrap()]);
    assert!(undo(0).status.success());
    assert_eq!(files("pods")["10.66.0.5"], "dead\r\neth0");
    assert!(!undo(2).status.success());
    assert_eq!(files("pods")["10.66.0.6"], "b\r\neth0");
}
