//! Whether a lab does what its file expects of it.
//!
//! Each sentence is tried until it holds or its time is over; what must not work has to fail for a second, or somebody has to say no. Sentences
//! are tried side by side, except captures and measurements, which others' packets would disturb: they come last, one by one.

mod attempt;
mod bench;
mod report;

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sys::NetNs;

pub use report::{Report, Status, Verified};

use crate::expect::{self, Check, Expectation};
use crate::wiring::Wiring;
use attempt::{Leg, Seen, legs};
use bench::Bench;

/// How to verify.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a sentence may take until it holds, unless it says so itself.
    pub within: Duration,
    /// How long what must not work has to fail, unless the sentence says so itself.
    pub refuse_for: Duration,
    /// How many sentences are tried at once.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { within: Duration::from_secs(5), refuse_for: Duration::from_secs(1), threads: 16 }
    }
}

/// How long one attempt may take; a packet that was lost is not waited for longer.
const ATTEMPT: Duration = Duration::from_secs(1);
/// The same where nothing is to come: the more attempts, the less does a packet that was lost by chance prove.
const REFUSED_ATTEMPT: Duration = Duration::from_millis(300);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Checks the sentences of a wiring in the namespaces that `open` gives for its machines.
pub fn verify(
    wiring: &Wiring,
    open: &(dyn Fn(&str) -> io::Result<NetNs> + Sync),
    options: &Options,
) -> Report {
    let start = Instant::now();
    let bench = Bench::new(wiring, open);
    let read: Vec<_> = wiring.expect.iter().map(|text| expect::parse(text, wiring)).collect();
    let verified: Vec<Mutex<Option<Verified>>> = read.iter().map(|_| Mutex::default()).collect();
    let try_one = |place: usize| {
        let begin = Instant::now();
        let (status, seen) = match &read[place] {
            Ok(expectation) => judge(&bench, expectation, options),
            Err(error) => {
                let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
                (Status::Unclear, format!("{error}{hint}"))
            }
        };
        let text = wiring.expect[place].clone();
        let result = Verified { text, status, seen, took: begin.elapsed() };
        *verified[place].lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(result);
    };
    let (alone, together): (Vec<usize>, Vec<usize>) =
        (0..read.len()).partition(|place| read[*place].as_ref().is_ok_and(|e| wants_silence(&e.check)));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1).min(together.len()) {
            scope.spawn(|| {
                while let Some(place) = together.get(next.fetch_add(1, Ordering::Relaxed)) {
                    try_one(*place);
                }
            });
        }
    });
    alone.into_iter().for_each(try_one);
    let results = verified.into_iter().filter_map(|one| one.into_inner().ok().flatten()).collect();
    Report { lab: wiring.lab.clone(), results, took: start.elapsed() }
}

impl crate::Lab {
    /// Checks the sentences of its topology.
    pub fn verify(&self, options: &Options) -> Report {
        let open = |machine: &str| match self.netns(machine) {
            Ok(netns) => netns.try_clone(),
            Err(error) => Err(io::Error::new(io::ErrorKind::NotFound, error.to_string())),
        };
        verify(self.wiring(), &open, options)
    }
}

/// Whether the packets of others would change what it sees.
fn wants_silence(check: &Check) -> bool {
    matches!(check, Check::Captured { .. } | Check::Throughput { .. })
}

/// Whether a sentence holds, and what was seen.
fn judge(bench: &Bench<'_>, expectation: &Expectation, options: &Options) -> (Status, String) {
    let legs = match legs(bench, &expectation.check) {
        Ok(legs) => legs,
        Err(why) => return (Status::Unclear, why),
    };
    let several = legs.len() > 1;
    let limit = expectation.within;
    let mut all = Vec::new();
    for leg in legs {
        let (status, seen) = match expectation.negated {
            false => works(bench, leg, limit.unwrap_or(options.within + bench.delays)),
            true => fails(bench, leg, limit.unwrap_or(options.refuse_for + bench.delays)),
        };
        let seen = if several { format!("{}: {seen}", leg.to) } else { seen };
        if status != Status::Passed {
            return (status, seen);
        }
        all.push(seen);
    }
    (Status::Passed, all.join("; "))
}

/// Tries until it works.
fn works(bench: &Bench<'_>, leg: Leg<'_>, limit: Duration) -> (Status, String) {
    let start = Instant::now();
    // The last thing that said more than silence does; a clear answer counts for more than one that was cut short.
    let mut last: Option<(bool, Status, String)> = None;
    loop {
        let left = limit.saturating_sub(start.elapsed());
        // A search for the path MTU takes many packets.
        let patience =
            if matches!(leg.check, Check::Mtu { .. }) { left } else { left.min(ATTEMPT + bench.delays) };
        let now = match leg.attempt(bench, patience) {
            Seen::Works(what) => return (Status::Passed, what),
            Seen::Silence => None,
            Seen::Fails { what, definite } => Some((definite, Status::Failed, what)),
            Seen::Unknown(why) => Some((false, Status::Unclear, why)),
        };
        last = match (last, now) {
            (Some(clear @ (true, ..)), Some((false, ..)) | None) => Some(clear),
            (before, now) => now.or(before),
        };
        if start.elapsed() + PAUSE >= limit {
            let silence = || (Status::Failed, format!("no answer in {}", seconds(limit)));
            return last.map_or_else(silence, |(_, status, what)| (status, what));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Tries whether it works nevertheless.
fn fails(bench: &Bench<'_>, leg: Leg<'_>, limit: Duration) -> (Status, String) {
    let start = Instant::now();
    loop {
        let left = limit.saturating_sub(start.elapsed());
        let now = match leg.attempt(bench, left.min(REFUSED_ATTEMPT + bench.delays)) {
            Seen::Works(what) => return (Status::Failed, format!("it does: {what}")),
            Seen::Fails { what, definite: true } => return (Status::Passed, what),
            Seen::Fails { what, definite: false } => (Status::Passed, what),
            Seen::Silence => (Status::Passed, format!("no answer in {}", seconds(limit))),
            // An address that is not usable yet, for one.
            Seen::Unknown(why) => (Status::Unclear, why),
        };
        if start.elapsed() + PAUSE >= limit {
            return now;
        }
        std::thread::sleep(PAUSE);
    }
}

/// `5 s`, `1.5 s`, `300 ms`.
fn seconds(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
    }
}
