//! Namespaces that nothing leads to: no process, mount, descriptor or veth. The kernel's own list has them.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use model::{Enumeration, NsInode, Snapshot, Source};
use podplumb_tests::{Podplumb, World, binaries, output, require, wait_until};
use serde_json::Value;
use sys::NetNs;

use crate::creatures::send;
use crate::{held, of_all};

fn snapshot(podplumb: &Podplumb) -> Snapshot {
    Snapshot::from_json(podplumb.expect(0, &["snapshot"]).as_bytes()).expect("a snapshot")
}

/// What is said of those that could not be opened.
fn gap(snapshot: &Snapshot) -> Option<&str> {
    let gap = snapshot.coverage.iter().find(|gap| gap.source == Source::Enumeration);
    gap.map(|gap| gap.why.as_str())
}

fn is_found(podplumb: &Podplumb, inode: NsInode) -> bool {
    snapshot(podplumb).namespace_by_inode(inode).is_some()
}

#[test]
fn a_namespace_that_only_a_message_behind_another_holds_is_found_by_the_kernels_list_alone() {
    if !require(&[]) {
        return;
    }
    let _numbers = crate::NUMBERS.lock();
    let world = World::enter();
    world.hide_processes();
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    let seen = snapshot(&podplumb);
    if !matches!(seen.enumeration, Some(Enumeration::Walked { .. })) {
        assert!(std::env::var_os("CI").is_none(), "{:?}", seen.enumeration);
        return eprintln!("SKIPPED: {:?}", seen.enumeration);
    }
    let (sender, receiver) = UnixStream::pair().unwrap();
    let (first, second) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    let inodes = [first.inode().unwrap(), second.inode().unwrap()];
    let ids = [first.id(), second.id()];
    send(&sender, first.as_fd());
    send(&sender, second.as_fd());
    drop((first, second));

    let seen = snapshot(&podplumb);
    if ids.contains(&None) {
        // Before Linux 6.18 it goes through the list, and can open nothing.
        assert!(gap(&seen).is_some_and(|why| why.contains("could not be opened")), "{:?}", seen.coverage);
        drop((sender, receiver));
        return wait_until("nothing is hidden any more", || gap(&snapshot(&podplumb)).is_none());
    }
    for (inode, id) in inodes.iter().zip(&ids) {
        let found = seen.namespace_by_inode(*inode).unwrap_or_else(|| panic!("{:?}", seen.enumeration));
        assert!(found.readable && found.ns_id == *id && found.link_named("lo").is_some(), "{found:?}");
        assert!(found.sockets.is_some_and(|sockets| sockets.total == 0), "{found:?}");
    }
    let Some(Enumeration::Walked { listed, only_listed }) = seen.enumeration else { panic!() };
    // Others on this machine may come and go, and the host's is listed, too.
    assert!(only_listed >= 2 && listed >= 3, "{listed} {only_listed}");
    for finding in podplumb.findings("0s") {
        let is_ours = inodes.iter().any(|inode| finding.0["ns_inode"] == inode.0);
        assert!(!is_ours || finding.verdict() == "unknown", "{finding:#?}");
    }

    let holders = |inode: NsInode| -> Value {
        let answer = podplumb.expect(0, &["holders", &inode.to_string(), "--output", "json"]);
        serde_json::from_str(&answer).expect("JSON")
    };
    let kinds = |held: &[Value]| -> Vec<String> {
        held.iter().map(|held| held["kind"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(kinds(&held(&holders(inodes[0]))), ["message"]);
    let behind = holders(inodes[1]);
    assert_eq!(kinds(&held(&behind)), ["unseen"]);
    let suspects = of_all(&behind, "may_be");
    let is_ours = |held: &&Value| crate::pid(held) == Some(std::process::id());
    assert_eq!(suspects.iter().filter(is_ours).count(), 1, "{behind:#}");

    // Without the list it is as if it were not there, and that there may be such is said.
    world.hide_list();
    let blind = snapshot(&podplumb);
    assert!(inodes.iter().all(|inode| blind.namespace_by_inode(*inode).is_none()));
    let Some(Enumeration::NotWalked { why }) = blind.enumeration else { panic!() };
    assert!(why.contains("CONFIG_DEBUG_INFO_BTF"), "{why}");
    rustix::mount::unmount("/sys/kernel/btf", rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(is_found(&podplumb, inodes[1]));

    // podplumb held them while it looked, and does not any more.
    drop((sender, receiver));
    wait_until("they are gone", || !inodes.iter().any(|inode| is_found(&podplumb, *inode)));
}

#[test]
fn the_list_is_walked_with_few_capabilities_and_what_cannot_be_opened_is_said() {
    if !require(&["setpriv"]) {
        return;
    }
    let _numbers = crate::NUMBERS.lock();
    let world = World::enter();
    world.hide_processes();
    let program = binaries().join("podplumb").display().to_string();
    // Root with only these capabilities.
    let limited = |capabilities: &str| {
        let limits = ["--no-new-privs", "--bounding-set", capabilities, "--inh-caps", "-all"];
        let call = [&limits[..], &[&program, "snapshot", "--runtime", "none"]].concat();
        Snapshot::from_json(&output("setpriv", &call).stdout).expect("a snapshot")
    };
    let (sender, _receiver) = UnixStream::pair().unwrap();
    let netns = NetNs::create().unwrap();
    let (inode, id) = (netns.inode().unwrap(), netns.id());
    send(&sender, netns.as_fd());
    drop(netns);

    let seen = limited("-all,+sys_admin");
    if !matches!(seen.enumeration, Some(Enumeration::Walked { .. })) {
        assert!(std::env::var_os("CI").is_none(), "{:?}", seen.enumeration);
        return eprintln!("SKIPPED: {:?}", seen.enumeration);
    }
    let is_opened = seen.namespace_by_inode(inode).is_some();
    assert_eq!(is_opened, id.is_some(), "neither CAP_BPF nor CAP_PERFMON is needed");

    // It may go through the list, and open nothing.
    let seen = limited("-all,+bpf,+perfmon");
    assert!(matches!(seen.enumeration, Some(Enumeration::Walked { .. })), "{:?}", seen.enumeration);
    assert!(gap(&seen).is_some_and(|why| why.contains("could not be opened")), "{:?}", seen.coverage);

    // It may not: as if there were no list.
    let seen = limited("-all,+net_admin");
    let Some(Enumeration::NotWalked { why }) = &seen.enumeration else { panic!("{:?}", seen.enumeration) };
    assert!(why.contains("CAP_BPF") && gap(&seen).is_none(), "{why} {:?}", seen.coverage);
}
