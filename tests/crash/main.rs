//! Plugins that are killed, or have a system call refused, at every single one: what that leaves is found and removed by the
//! next DEL or GC.
//!
//! They are the binary that is shipped: a debug build makes other system calls.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod chain;
mod lab;
mod reclaim;
mod takeover;
mod trial;

use podplumb_tests::{Fault, World, require};
use rustix::io::Errno;

use crate::chain::Chain;
use crate::trial::{Trials, Undo};

/// What a full disk, a broken one, a limit, short memory and a signal answer.
const REFUSALS: [Errno; 5] = [Errno::NOSPC, Errno::IO, Errno::MFILE, Errno::NOMEM, Errno::INTR];

/// Runs `trials` with each chain and each of the faults, each in a world of its own and all at once: they mostly wait for the kernel.
fn each_chain(faults: &[Fault], trials: impl Fn(&mut Trials<'_>, Fault) + Sync) {
    if !require(&[]) {
        return;
    }
    let chains = Chain::all();
    let one = |chain: &Chain, fault: Fault| {
        let world = World::enter();
        let directory = world.shipped_dir();
        let mut own = Trials::new(chain, &directory);
        trials(&mut own, fault);
        eprintln!("{}, {fault:?}: {} trials", chain.name, own.count);
        own.found
    };
    let found: Vec<String> = std::thread::scope(|scope| {
        let (one, each) = (&one, |chain| faults.iter().map(move |fault| (chain, *fault)));
        let started: Vec<_> = chains
            .iter()
            .flat_map(each)
            .map(|(chain, fault)| scope.spawn(move || one(chain, fault)))
            .collect();
        started
            .into_iter()
            .flat_map(|trials| trials.join().unwrap_or_else(|_| vec!["a panic".into()]))
            .collect()
    });
    assert!(found.is_empty(), "{} trials went wrong:\n{}", found.len(), found.join("\n"));
}

const KILL: [Fault; 1] = [Fault::Kill];

#[test]
fn what_a_killed_add_leaves_is_removed_by_one_del() {
    each_chain(&KILL, |trials, fault| trials.add(fault, Undo::Del));
}

#[test]
fn what_a_killed_add_leaves_is_removed_by_gc() {
    each_chain(&KILL, |trials, fault| trials.add(fault, Undo::Gc));
}

#[test]
fn what_the_killed_first_add_of_a_node_leaves_is_removed_by_one_del() {
    each_chain(&KILL, |trials, fault| {
        trials.on_a_new_node = true;
        trials.add(fault, Undo::Del);
    });
}

#[test]
fn what_a_killed_del_leaves_is_removed_by_another() {
    each_chain(&KILL, |trials, fault| trials.del(fault, Undo::Del));
}

#[test]
fn what_a_killed_del_leaves_is_removed_by_gc() {
    each_chain(&KILL, |trials, fault| trials.del(fault, Undo::Gc));
}

#[test]
fn an_add_with_a_refused_system_call_succeeds_or_says_why() {
    each_chain(&REFUSALS.map(Fault::Refuse), |trials, fault| trials.add(fault, Undo::Del));
}

#[test]
fn a_del_with_a_refused_system_call_succeeds_or_says_why() {
    each_chain(&REFUSALS.map(Fault::Refuse), |trials, fault| trials.del(fault, Undo::Del));
}
