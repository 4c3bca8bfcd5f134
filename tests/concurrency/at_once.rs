//! As many ADDs at once as a node has pods, then as many DELs: all succeed.

use std::sync::Barrier;

use podplumb_tests::{Pod, World, require};
use serde_json::Value;

use crate::MANY;
use crate::node::{Attachment, Holders, Network, Usual};

/// Runs `work` for all attachments at the same time, and returns what each returned.
fn at_once<T: Send>(work: impl Fn(Attachment) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(MANY);
    std::thread::scope(|scope| {
        let one = |number| {
            barrier.wait();
            work(Attachment(number))
        };
        let threads: Vec<_> = (0..MANY).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

fn pods() -> Vec<Pod> {
    (0..MANY).map(|number| Pod::new(&Attachment(number).id())).collect()
}

fn all<T>(results: Vec<Result<T, String>>) -> Vec<T> {
    let failed: Vec<&String> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {MANY} fail: {failed:#?}", failed.len());
    results.into_iter().flatten().collect()
}

/// 200 ADDs, then 200 DELs, by the network that each attachment is of.
fn come_and_go<'a>(network: impl Fn(Attachment) -> &'a Network + Sync, per_pod: usize, usual: &mut Usual) {
    let (pods, holders) = (pods(), Holders::default());
    let results: Vec<Value> = all(at_once(|attachment| {
        let result = network(attachment).add(attachment)?;
        holders.give(attachment, &result);
        Ok(result)
    }));
    assert_eq!(holders.count(), MANY * per_pod);
    all(at_once(|attachment| network(attachment).del(attachment, &results[attachment.0])));
    usual.nothing_else(&pods);
    // And as a runtime does that is not sure: again.
    all(at_once(|attachment| network(attachment).del(attachment, &Value::Null)));
    usual.nothing_else(&pods);
}

#[test]
fn two_hundred_adds_and_dels_at_once_succeed() {
    if !require(&[]) {
        return;
    }
    let world = World::enter();
    let network = Network::plain(&world, MANY);
    come_and_go(|_| &network, 2, &mut Usual::after([&network]));
}

#[test]
fn two_hundred_adds_and_dels_of_a_chain_at_once_succeed() {
    if !require(&[]) {
        return;
    }
    let world = World::enter();
    let network = Network::chain(&world, MANY);
    come_and_go(|_| &network, 2, &mut Usual::after([&network]));
}

#[test]
fn the_reference_plugins_at_work_in_the_same_directory_disturb_nobody() {
    if !require(&[]) {
        return;
    }
    let world = World::enter();
    let networks = Network::shared(&world, MANY).map(|(network, _)| network);
    come_and_go(|attachment| &networks[attachment.0 % 3], 1, &mut Usual::after(&networks));
}
