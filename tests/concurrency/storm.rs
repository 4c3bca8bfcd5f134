//! ADDs and DELs mixed, a third of them killed at random moments, with a GC beside them all the time.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use podplumb_tests::{Pod, Random, World, require, seed};
use serde_json::Value;

use crate::MANY;
use crate::call::Answer;
use crate::node::{Attachment, Holders, Network, Usual};

/// Who works at the same time. More would wait for the processor, not for each other.
const WORKERS: usize = 40;
/// How often each attachment comes and goes.
const ROUNDS: usize = 3;
/// Attachments whose containers end without a DEL before the storm: only GC removes them.
const GHOSTS: std::ops::Range<usize> = 1_000..1_005;
/// One for everybody who may be alive, so that each address is given again and again, and none may be lost for long.
const ADDRESSES: usize = WORKERS + (GHOSTS.end - GHOSTS.start);

struct Storm<'a> {
    holders: Holders,
    /// Attachments that are gone for good: not valid any more.
    finished: Mutex<HashSet<usize>>,
    killed: AtomicUsize,
    network: &'a (dyn Fn(Attachment) -> &'a (Network, bool) + Sync),
}

/// When one of the calls of a chain is killed, and which.
type Doom = Option<(usize, Duration)>;

impl Storm<'_> {
    /// A third of the ADDs and DELs.
    fn doom(&self, attachment: Attachment, random: &mut Random) -> Doom {
        let (network, can_be_killed) = (self.network)(attachment);
        let (at, moment) = (random.below(network.length()), random.moment());
        (random.below(3) == 0 && *can_be_killed).then_some((at, moment))
    }

    /// `None` when it was killed. Nothing else keeps an ADD from success: there are addresses for all.
    fn add(&self, attachment: Attachment, doom: Doom) -> Option<Value> {
        let (network, _) = (self.network)(attachment);
        let mut result = Value::Null;
        for at in 0..network.length() {
            result = self.one(attachment, "ADD", at, &result, doom)?;
        }
        Some(result)
    }

    fn del(&self, attachment: Attachment, result: &Value, doom: Doom) -> Option<()> {
        let (network, _) = (self.network)(attachment);
        (0..network.length()).rev().try_for_each(|at| self.one(attachment, "DEL", at, result, doom).map(drop))
    }

    fn one(
        &self,
        attachment: Attachment,
        command: &str,
        at: usize,
        previous: &Value,
        doom: Doom,
    ) -> Option<Value> {
        let (network, _) = (self.network)(attachment);
        let moment = doom.filter(|(doomed, _)| *doomed == at).map(|(_, moment)| moment);
        match network.call(attachment, command, at, previous, moment) {
            Answer::Success(result) => Some(result),
            Answer::Killed => {
                self.killed.fetch_add(1, Ordering::Relaxed);
                None
            }
            refused => panic!("{command} {at} of {}: {refused:?}", attachment.id()),
        }
    }

    /// An attachment comes and goes, as a runtime does it that is told of failures and knows the results of successful ADDs.
    fn live(&self, attachment: Attachment, random: &mut Random) {
        for _ in 0..ROUNDS {
            let doom = self.doom(attachment, random);
            let result = self.add(attachment, doom);
            if let Some(result) = &result {
                self.holders.give(attachment, result);
                // The pod lives, some of them until all other addresses were given.
                std::thread::sleep(Duration::from_millis(random.below(400) as u64));
                self.holders.take(result);
            }
            // One in four runtimes lost its cache.
            let result = result.filter(|_| random.below(4) > 0).unwrap_or_default();
            loop {
                let doom = self.doom(attachment, random);
                if self.del(attachment, &result, doom).is_some() {
                    break;
                }
            }
        }
        self.finished.lock().expect("no panic").insert(attachment.0);
    }

    /// All that may be alive, now or soon. Of every second one that is finished nobody tells GC: so nothing but its DEL removes what
    /// it has.
    fn valid(&self) -> Vec<Attachment> {
        let finished = self.finished.lock().expect("no panic");
        let is_valid = |number: &usize| number.is_multiple_of(2) || !finished.contains(number);
        (0..MANY).filter(is_valid).map(Attachment).collect()
    }
}

/// Sets a flag when the storm is over, however it ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn storm<'a>(
    network: &'a (dyn Fn(Attachment) -> &'a (Network, bool) + Sync),
    collector: &Network,
    usual: &mut Usual,
) {
    let seed = seed();
    let everybody = (0..MANY).chain(GHOSTS);
    let pods: Vec<Pod> = everybody.map(|number| Pod::new(&Attachment(number).id())).collect();
    let storm = Storm {
        holders: Holders::default(),
        finished: Mutex::default(),
        killed: AtomicUsize::new(0),
        network,
    };
    let mut random = Random::new(seed, MANY);
    for ghost in GHOSTS.map(Attachment).filter(|ghost| network(*ghost).1) {
        let doom = storm.doom(ghost, &mut random);
        storm.add(ghost, doom);
    }
    let (next, over, collections) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= MANY {
                    return;
                }
                storm.live(Attachment(number), &mut Random::new(seed, number));
            }
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(random.moment());
                collector.gc(storm.valid().into_iter());
                collections.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _over = Over(&over);
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let (killed, collections) = (storm.killed.load(Ordering::Relaxed), collections.into_inner());
    eprintln!("{killed} plugins killed, {collections} collections beside");
    assert!(killed > MANY / 2 / 3 && collections > 1, "this was no storm");
    assert_eq!(storm.holders.count(), 0);
    // Ghosts are gone even if the storm was over before a GC was.
    collector.gc(storm.valid().into_iter());
    usual.nothing_else(&pods);
}

#[test]
fn a_storm_leaves_nothing_and_gives_no_address_twice() {
    if !require(&[]) {
        return;
    }
    let world = World::enter();
    let network = (Network::plain(&world, ADDRESSES), true);
    storm(&|_| &network, &network.0, &mut Usual::after([&network.0]));
}

#[test]
fn a_storm_of_chains_leaves_nothing_and_gives_no_address_twice() {
    if !require(&[]) {
        return;
    }
    let world = World::enter();
    let network = (Network::chain(&world, ADDRESSES), true);
    storm(&|_| &network, &network.0, &mut Usual::after([&network.0]));
}

#[test]
fn a_storm_beside_the_reference_plugins_leaves_nothing_and_gives_no_address_twice() {
    if !require(&[]) {
        return;
    }
    let world = World::enter();
    let networks = Network::shared(&world, ADDRESSES);
    let mut usual = Usual::after(networks.iter().map(|(network, _)| network));
    storm(&|attachment| &networks[attachment.0 % 3], &networks[0].0, &mut usual);
}
