//! Numbers that were given again.

use std::time::{Duration, Instant};

use model::{NsId, NsInode};
use podplumb_tests::{Podplumb, World, require, wait_until};
use sys::NetNs;

use crate::cage::Cage;

/// Others make namespaces on this machine at the same time, and may take the inode first.
const ATTEMPTS: usize = 4;
/// How long the kernel may need to take a namespace down, after all that ended before, and how many are made meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(25);
/// The kernel takes down a thousand namespaces in a second.
const SETTLING: Duration = Duration::from_secs(2);

/// The identity of a dead namespace, and one that has its inode now: the kernel gives the lowest that is free, so whoever keeps
/// what he gets comes to it in the end.
fn reused() -> Option<(NsId, NsInode, NetNs)> {
    (0..ATTEMPTS).find_map(|_| {
        let dead = NetNs::create().expect("a namespace");
        let (id, inode) = (dead.id().expect("an id"), dead.inode().expect("an inode"));
        drop(dead);
        wait_until("it is gone", || NetNs::by_id(id, inode).is_err());
        let (start, mut others) = (Instant::now(), Vec::new());
        while start.elapsed() < PATIENCE {
            let next = NetNs::create().expect("a namespace");
            if next.inode().ok() == Some(inode) {
                return Some((id, inode, next));
            }
            others.push(next);
            std::thread::sleep(PAUSE);
        }
        // The next one has to come where this one was, not behind all that were made since, which have lower numbers when they are gone.
        drop(others);
        std::thread::sleep(SETTLING);
        None
    })
}

#[test]
fn a_namespace_that_took_over_an_inode_is_not_taken_for_the_dead_one() {
    if !require(&["ip"]) {
        return;
    }
    let _numbers = crate::NUMBERS.lock();
    let world = World::enter();
    world.hide_others();
    if NetNs::current().unwrap().id().is_none() {
        return eprintln!("SKIPPED: this kernel has no NS_GET_ID (Linux 6.18)");
    }
    let Some((id, inode, reused)) = reused() else {
        assert!(std::env::var_os("CI").is_none(), "somebody else took the inode each time");
        return eprintln!("SKIPPED: somebody else took the inode each time");
    };
    let cage = Cage::of_dead(0, id, inode);
    assert_ne!(reused.id(), Some(id));
    assert!(NetNs::by_id(id, inode).is_err());
    let socket = reused.run(|| std::net::UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    // The dead pod's record names the inode that somebody else has now.
    let dead = podplumb.finding_of(&cage.finding(), "0s");
    // What other tests take down while it is looked at could have been its namespace.
    let expected = [("orphan", "namespace-gone"), ("unknown", "unread")];
    assert!(expected.contains(&(dead.verdict(), dead.because())), "{dead:#?}");
    assert!(!dead.kinds().contains(&"namespace".to_owned()), "{dead:#?}");
    let living = podplumb.findings("0s").into_iter().find(|finding| finding.0["ns_inode"] == inode.0);
    let living = living.expect("a finding of its own");
    assert_eq!((living.verdict(), living.because()), ("in-use", "socket"), "{living:#?}");
    drop((socket, reused));
}
