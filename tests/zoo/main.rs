//! A zoo of all that keeps a namespace alive: each made for real, found, named, and ended by its remedy.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod cage;
mod creatures;
mod documented;
mod fugitives;
mod listed;
mod orphans;
mod reuse;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use podplumb_tests::{Podplumb, World, require};
use serde_json::Value;

use crate::cage::{Cage, Ending};
use crate::creatures::CREATURES;

const NEEDS: [&str; 5] = ["ip", "nsenter", "tc", "umount", "unshare"];

/// For tests that go by numbers which the kernel gives again: another one's namespaces would take them.
static NUMBERS: Mutex<()> = Mutex::new(());

/// Of how many the holder has to be named; the others may be called unknown.
const NAMED_AT_LEAST: usize = 20;

#[test]
fn each_of_the_21_is_named_with_a_remedy_that_ends_it_and_no_live_one_is_an_orphan() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    world.hide_processes();
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    let mut cages: Vec<(Cage, Ending)> = Vec::new();
    for (at, creature) in CREATURES.iter().enumerate() {
        let mut cage = Cage::new(at);
        let ending = (creature.make)(&mut cage);
        cages.push((cage, ending));
    }

    // All of them live at once; one look sees each.
    let verdicts: HashMap<String, (String, String)> = podplumb
        .findings("0s")
        .into_iter()
        .map(|finding| {
            let name = finding.0["container"].as_str().or(finding.0["label"].as_str()).unwrap_or_default();
            (name.to_owned(), (finding.verdict().to_owned(), finding.because().to_owned()))
        })
        .collect();
    let file = world.path().join("close.json");
    std::fs::write(&file, podplumb.expect(0, &["snapshot", "--close"])).unwrap();
    let from = Podplumb::with(&["--from", &file.display().to_string()]);

    let mut wrong = Vec::new();
    let mut named = 0;
    for (creature, (cage, ending)) in CREATURES.iter().zip(&cages) {
        let (verdict, because) = verdicts.get(&cage.finding()).cloned().unwrap_or_default();
        let answer = from.expect(0, &["holders", &cage.question(), "--output", "json"]);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let held = held(&answer);
        let own = held.iter().find(|held| held["kind"] == creature.kind);
        let is_named = own.is_some_and(|own| ending.pid.is_none() || pid(own) == ending.pid);
        let has_remedy = own.is_some_and(|own| own["remedy"].as_str().is_some_and(|text| !text.is_empty()));
        named += usize::from(is_named);
        let seen: Vec<&str> = held.iter().filter_map(|held| held["kind"].as_str()).collect();
        let line = format!(
            "{:<16} {verdict:<8} {because:<16} named {is_named:<5} {}",
            creature.kind,
            seen.join(" ")
        );
        println!("{line}");
        // What other tests on this machine take down while it is looked at could have been a dead one's namespace.
        let expected = verdict == creature.verdict || creature.verdict == "orphan" && because == "unread";
        if !expected || !(is_named && has_remedy || verdict == "unknown") {
            wrong.push(format!("{line}\n{answer:#}"));
        }
        let text = from.expect(0, &["holders", &cage.question()]);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(named >= NAMED_AT_LEAST, "{named} of {} were named", CREATURES.len());

    for (creature, (cage, ending)) in CREATURES.iter().zip(cages) {
        (ending.remedy)(&podplumb);
        cage.expect_gone(creature.kind, Duration::from_secs(90));
    }
}

/// The holders of an answer.
fn held(answer: &Value) -> Vec<Value> {
    of_all(answer, "holders")
}

/// A list of each subject of an answer.
fn of_all(answer: &Value, list: &str) -> Vec<Value> {
    let subjects = answer["subjects"].as_array().into_iter().flatten();
    subjects.flat_map(|subject| subject[list].as_array().cloned().unwrap_or_default()).collect()
}

/// The process that a holder names.
fn pid(held: &Value) -> Option<u32> {
    let places = ["/task/pid", "/keeper/task/pid", "/seen_by/pid"];
    let pid = places.iter().find_map(|place| held.pointer(place)?.as_u64())?;
    u32::try_from(pid).ok()
}
