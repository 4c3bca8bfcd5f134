//! host-local, ours and the reference's, in the same directory: the same history gives the same addresses, whoever works.

use std::path::Path;

use podplumb_tests::{Plugin, Plugins, World};
use serde_json::{Value, json};

use crate::can_run;

/// What happens in a history. Sets have addresses of both families, of several ranges.
#[derive(Debug, Clone)]
enum Step {
    Add { owner: usize, ips: Vec<String> },
    Del { owner: usize },
    Cursor { set: usize, text: Option<&'static str> },
}

fn ranges() -> Value {
    json!([
        [
            { "subnet": "10.66.0.0/29", "rangeEnd": "10.66.0.4" },
            { "subnet": "10.67.0.0/29", "rangeStart": "10.67.0.2", "rangeEnd": "10.67.0.5", "gateway": "10.67.0.3" },
        ],
        [{ "subnet": "fd66::/125", "gateway": "fd66::7" }],
    ])
}

/// A history that is the same for everybody, with names for eight attachments.
fn history() -> Vec<Step> {
    // A generator of Park and Miller: every run is the same, and so is every failure.
    let mut state = 20_061_121u64;
    let mut below = |end: u64| {
        state = state * 48_271 % 0x7fff_ffff;
        usize::try_from(state % end).expect("small")
    };
    let wishes =
        ["10.66.0.3", "10.66.0.1", "10.67.0.5", "10.67.0.3", "fd66::4", "fd66::7", "192.0.2.1", "10.66.0.2"];
    let cursors = [
        None,
        Some(""),
        Some("garbage"),
        Some("192.0.2.9"),
        Some("10.67.0.4"),
        Some("fd66::5"),
        Some("10.66.0.4"),
    ];
    let mut steps = Vec::new();
    for _ in 0..250 {
        let owner = below(8);
        steps.push(match below(10) {
            0..=4 => Step::Add { owner, ips: Vec::new() },
            5 => Step::Add { owner, ips: vec![wishes[below(8)].to_owned()] },
            6 => Step::Cursor { set: below(2), text: cursors[below(7)] },
            _ => Step::Del { owner },
        });
    }
    steps
}

/// What a step gave, and all files after it.
type Told = (Option<Vec<String>>, Vec<(String, String)>);

/// Lives through a history; `which` tells whose plugin takes each step.
fn live(which: impl Fn(usize) -> Plugins) -> Vec<Told> {
    let world = World::enter();
    let directory = Path::new("/var/lib/cni/networks/pods");
    let mut alive = [false; 8];
    let mut told = Vec::new();
    for (at, step) in history().into_iter().enumerate() {
        let mut plugin = Plugin::bridge(&world, which(at)).named("host-local");
        plugin.config = json!({
            "cniVersion": "1.0.0", "name": "pods", "type": "x", "ipam": { "type": "host-local", "ranges": ranges() },
        });
        let mut given = None;
        match step {
            // The reference refuses an attachment that has addresses; of ours, the bridge does, by its record.
            Step::Add { owner, .. } if alive[owner] => {}
            Step::Add { owner, ips } => {
                plugin.args = if ips.is_empty() { String::new() } else { format!("IP={}", ips.join(",")) };
                let answer = plugin.on("ADD", &format!("pod{owner}"));
                alive[owner] = answer.ok;
                let addresses = answer.json["ips"].as_array().into_iter().flatten();
                let text = |ip: &Value| format!("{} {}", ip["address"], ip["gateway"]);
                given = answer.ok.then(|| addresses.map(text).collect());
            }
            Step::Del { owner } => {
                plugin.del(&format!("pod{owner}"));
                alive[owner] = false;
            }
            Step::Cursor { set, text } => {
                let path = directory.join(format!("last_reserved_ip.{set}"));
                match text {
                    Some(text) if directory.exists() => std::fs::write(path, text).expect("a cursor"),
                    _ => drop(std::fs::remove_file(path)),
                }
            }
        }
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let read = entries.map(|entry| {
            let content = std::fs::read_to_string(entry.path()).expect("a file");
            (entry.file_name().to_string_lossy().into_owned(), content)
        });
        let mut files: Vec<_> = read.collect();
        files.sort();
        told.push((given, files));
    }
    told
}

#[test]
fn the_same_history_gives_the_same_addresses_and_files_whoever_works() {
    if !can_run() {
        return;
    }
    let reference = live(|_| Plugins::Reference);
    let given = reference.iter().filter(|(given, _)| given.is_some()).count();
    assert!(given > 40, "{given}");
    let by_turns = |at| if at % 2 == 0 { Plugins::Podplumb } else { Plugins::Reference };
    let alike: [(&str, &dyn Fn(usize) -> Plugins); 2] =
        [("ours", &|_| Plugins::Podplumb), ("by turns", &by_turns)];
    for (who, which) in alike {
        let ours = live(which);
        for (at, (ours, theirs)) in ours.iter().zip(&reference).enumerate() {
            assert_eq!(ours, theirs, "{who}, step {at}: {:?}", history()[at]);
        }
    }
}
