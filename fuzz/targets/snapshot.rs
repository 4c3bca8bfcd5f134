//! Snapshots of other machines, and all that is made of them.
#![no_main]

use std::path::Path;
use std::time::Duration;

use analyze::doctor::doctor;
use analyze::render::{self, Detail, Paint};
use analyze::trace::{Protocol, Question, trace};
use analyze::{Map, Plan, Verdict, holders, leaks, who};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use model::Snapshot;

const GRACE: Duration = Duration::from_secs(60);
/// What a user may ask, besides what the snapshot itself has.
const QUESTIONS: [&str; 9] =
    ["", "eth0", "2", "10.0.0.2", "02:00:00:00:00:01", "/run/netns/a", "pid:1", "ip:::1", "fe80::1%eth0"];

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    podplumb_fuzz::mutate(data, size, max_size, seed)
});

fuzz_target!(|data: &[u8]| {
    let Ok(snapshot) = Snapshot::from_json(data) else { return };
    let again = Snapshot::from_json(snapshot.to_json().as_bytes()).expect("what was written can be read");
    assert_eq!(again, snapshot);
    let ills = doctor(&snapshot, |_| true);
    let map = Map::of(&snapshot, None, &leaks(&snapshot, None, GRACE), &ills);
    show(&render::map(&map, Detail::Wide, Paint::PLAIN));
    show(&render::coverage(&snapshot.coverage));
    let chains = who::chains(&snapshot);
    show(&render::pods(&chains, true));
    let own = chains.iter().take(8).map(|chain| chain.label.as_str());
    for question in own.chain(QUESTIONS) {
        show(&render::who(&who::who(&snapshot, question), Paint::PLAIN));
        show(&render::holders(&holders(&snapshot, question), Paint::PLAIN));
    }
    show(&render::doctor(&doctor(&snapshot, |_| true), Duration::ZERO, Paint::PLAIN));
    plans(&snapshot);
    ways(&snapshot);
    imported(&snapshot);
});

/// The ways of packets between what the snapshot has.
fn ways(snapshot: &Snapshot) {
    let chains = who::chains(snapshot);
    let own = chains.iter().take(4).map(|chain| chain.label.as_str());
    let ends: Vec<&str> = own.chain(["host", "10.0.0.2", "fe80::1%eth0"]).collect();
    for (from, to) in ends.iter().flat_map(|from| ends.iter().map(move |to| (*from, *to))) {
        let question =
            Question { from: from.into(), to: to.into(), protocol: Protocol::Tcp, port: Some(80), v6: None };
        if let Ok(found) = trace(std::slice::from_ref(snapshot), &question) {
            show(&render::trace(&found, true, Paint::PLAIN));
        }
    }
}

/// The topology that would rebuild its wiring.
fn imported(snapshot: &Snapshot) {
    let imported = lab::import(snapshot);
    imported.notes.iter().for_each(|note| assert!(!note.contains(char::is_control), "{note:?}"));
    let yaml = lab::topology::to_yaml(&imported.topology);
    let read = lab::topology::from_yaml(&yaml, Path::new("node.yaml"));
    assert_eq!(read.expect("what was written can be read"), imported.topology);
    // Addresses that contradict each other are refused, with words.
    let _ = lab::resolve(&imported.topology, "node", &|_| Err(std::io::ErrorKind::NotFound.into()));
}

/// Leaks, and what would be done about them.
fn plans(snapshot: &Snapshot) {
    let first = leaks(snapshot, None, GRACE);
    let second = leaks(snapshot, Some(snapshot), GRACE);
    show(&render::leaks(&first, true, Paint::PLAIN));
    show(&render::logs(snapshot, &first));
    for finding in &first.findings {
        let is_orphan = finding.ruling.verdict == Verdict::Orphan;
        assert!(is_orphan || finding.steps.is_empty(), "{} would be touched", finding.label);
    }
    let plan = Plan::new(snapshot, &first);
    let steps: usize = first.with(Verdict::Orphan).map(|finding| finding.steps.len()).sum();
    assert_eq!(plan.steps.len(), steps);
    show(&render::plan(&plan, Paint::PLAIN));
    let text = serde_json::to_string(&plan).expect("a plan has string keys only");
    assert_eq!(serde_json::from_str::<Plan>(&text).expect("it was written so"), plan);
    let confirmed = Plan::confirmed((snapshot, &first), (snapshot, &second));
    let is_planned = |step| plan.steps.contains(step);
    assert!(confirmed.plan.steps.iter().all(is_planned), "a second look added something");
    serde_json::to_string(&first).expect("findings have string keys only");
}

/// Names are other people's: nothing in a text may steer a terminal.
fn show(text: &str) {
    let steers = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(steers), "control characters: {text:?}");
    assert!(text.is_empty() || text.ends_with('\n'), "an unfinished line: {text:?}");
}
