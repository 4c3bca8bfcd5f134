//! Numbers that were given again.

use std::os::fd::AsFd;

use podplumb_tests::{Podplumb, World, require, run};
use sys::NetNs;

use crate::cage::Cage;

/// The kernel gives the lowest free inode: of a few new namespaces one has that of the dead one.
#[test]
fn a_namespace_that_took_over_an_inode_is_not_taken_for_the_dead_one() {
    if !require(&["ip"]) {
        return;
    }
    let _world = World::enter();
    let mut cage = Cage::new(0);
    let (id, inode) = cage.identity();
    run("ip", &["link", "del", &cage.veth()]);
    cage.open();
    cage.expect_gone("a dead pod", std::time::Duration::from_secs(20));
    let mut others = Vec::new();
    let reused = loop {
        let next = NetNs::create().expect("a namespace");
        if next.inode().unwrap() == inode {
            break next;
        }
        others.push(next);
        if others.len() > 400 {
            return eprintln!("skipped: inode {inode} was given to somebody else");
        }
    };
    assert_ne!(reused.id(), id);
    assert!(id.is_none_or(|id| NetNs::by_id(id, inode).is_err()));
    let socket = reused.run(|| std::net::UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    // The dead pod's record names the inode that somebody else has now.
    let dead = podplumb.finding_of(&cage.finding(), "0s");
    assert_eq!((dead.verdict(), dead.because()), ("orphan", "namespace-gone"));
    assert!(!dead.kinds().contains(&"namespace".to_owned()), "{dead:#?}");
    let living = podplumb.findings("0s").into_iter().find(|finding| finding.0["ns_inode"] == inode.0);
    let living = living.expect("a finding of its own");
    assert_eq!((living.verdict(), living.because()), ("in-use", "socket"), "{living:#?}");
    drop(socket);
    assert!(reused.as_fd().try_clone_to_owned().is_ok());
}
