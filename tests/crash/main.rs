//! Plugins that are killed, or have a system call refused, at every single one: what that leaves is found and removed by the
//! next DEL or GC.
//!
//! They are the binary that is shipped: a debug build makes other system calls.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod chain;
mod takeover;
mod trial;

use podplumb_tests::{Fault, World, require};
use rustix::io::Errno;

use crate::chain::Chain;
use crate::trial::{Trials, Undo};

/// What a full disk, a broken one, a limit, short memory and a signal answer.
const REFUSALS: [Errno; 5] = [Errno::NOSPC, Errno::IO, Errno::MFILE, Errno::NOMEM, Errno::INTR];

/// Runs `trials` with each chain whose plugins are there, in one world.
fn each_chain(trials: impl Fn(&mut Trials<'_>)) {
    if !require(&[]) {
        return;
    }
    let world = World::enter();
    let directory = world.shipped_dir();
    let mut found = Vec::new();
    for chain in Chain::all() {
        if let Some(missing) = chain.missing(&directory) {
            eprintln!("{}: {missing} is not there", chain.name);
            continue;
        }
        let mut own = Trials::new(&chain, &directory);
        trials(&mut own);
        eprintln!("{}: {} trials", chain.name, own.count);
        found.append(&mut own.found);
    }
    assert!(found.is_empty(), "{} trials went wrong:\n{}", found.len(), found.join("\n"));
}

#[test]
fn what_a_killed_add_leaves_is_removed_by_one_del() {
    each_chain(|trials| trials.add(Fault::Kill, Undo::Del));
}

#[test]
fn what_a_killed_add_leaves_is_removed_by_gc() {
    each_chain(|trials| trials.add(Fault::Kill, Undo::Gc));
}

#[test]
fn what_the_killed_first_add_of_a_node_leaves_is_removed_by_one_del() {
    each_chain(|trials| {
        trials.on_a_new_node = true;
        trials.add(Fault::Kill, Undo::Del);
    });
}

#[test]
fn what_a_killed_del_leaves_is_removed_by_another() {
    each_chain(|trials| trials.del(Fault::Kill, Undo::Del));
}

#[test]
fn what_a_killed_del_leaves_is_removed_by_gc() {
    each_chain(|trials| trials.del(Fault::Kill, Undo::Gc));
}

#[test]
fn an_add_with_a_refused_system_call_succeeds_or_says_why() {
    each_chain(|trials| {
        for errno in REFUSALS {
            trials.add(Fault::Refuse(errno), Undo::Del);
        }
    });
}

#[test]
fn a_del_with_a_refused_system_call_succeeds_or_says_why() {
    each_chain(|trials| {
        for errno in REFUSALS {
            trials.del(Fault::Refuse(errno), Undo::Del);
        }
    });
}
