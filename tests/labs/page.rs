//! docs/labs.md: what stands below a command is what the command prints, and every key of a topology is explained.

use std::process::Command;

use podplumb_tests::{World, binaries, require};

use crate::examples::root;

const NEEDS: [&str; 5] = ["ip", "bridge", "nft", "ping", "sh"];
const PAGE: &str = "docs/labs.md";

/// So many times, when a look into a lab shows something else.
const ASKED_AGAIN: usize = 30;

/// A line of a block that a reader would type.
const PROMPT: &str = "    $ ";

fn page() -> String {
    std::fs::read_to_string(root().join(PAGE)).expect("the page")
}

/// What a command prints, as a reader's terminal shows it.
fn printed(command: &str) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", binaries().display()))
        .env("LC_ALL", "C")
        .current_dir(root())
        .output()
        .expect("a shell");
    String::from_utf8_lossy(&output.stdout).replace('\t', "    ")
}

const PUNCTUATION: [char; 7] = ['(', ')', ',', ';', ':', '[', ']'];

/// A line without what is otherwise each time: Ethernet addresses, times, and what follows from them.
fn lasting(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_mac = |word: &str| word.len() == 17 && word.parse::<model::MacAddr>().is_ok();
    let is_number = |word: &str| word.parse::<f64>().is_ok();
    let lasting = words.iter().enumerate().map(|(place, word)| {
        let bare = word.trim_matches(PUNCTUATION);
        let next = words.get(place + 1).map_or("", |next| next.trim_matches(PUNCTUATION));
        let before = place.checked_sub(1).map_or("", |before| words[before].trim_matches(PUNCTUATION));
        if before == "since" {
            "AGE".to_owned()
        } else if is_mac(bare) {
            "MAC".to_owned()
        } else if bare.starts_with("fe80::") {
            "LINK-LOCAL".to_owned()
        } else if *word == "UNKNOWN" {
            // Of a bridge that has just got its first port: the kernel takes its time to say so.
            "UP".to_owned()
        } else if matches!(bare, "ms" | "s") && is_number(before) {
            word.replace("ms", "s")
        } else if is_number(bare) && matches!(next, "ms" | "s") || word.starts_with("time=") {
            "TIME".to_owned()
        } else {
            (*word).to_owned()
        }
    });
    lasting.collect::<Vec<_>>().join(" ")
}

/// The page with what its commands print today, where that is something else.
fn rewritten(page: &str) -> String {
    let mut lines = page.lines().peekable();
    let mut out = String::new();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        let Some(command) = line.strip_prefix(PROMPT) else { continue };
        let mut documented = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("    ") && !line.starts_with(PROMPT)) {
            documented.push(line);
        }
        let shown = || -> Vec<String> {
            let printed = printed(command);
            let lines = printed.lines().filter(|line| !line.trim().is_empty());
            lines.map(|line| format!("    {line}").trim_end().to_owned()).collect()
        };
        let is_documented = |today: &[String]| {
            documented.len() == today.len()
                && documented.iter().zip(today).all(|(old, new)| lasting(old) == lasting(new))
        };
        let mut today = shown();
        for _ in 0..ASKED_AGAIN {
            if is_documented(&today) || !command.contains(" lab exec ") {
                break;
            }
            // On a busy machine the kernel takes its time to say that a bridge has a carrier.
            std::thread::sleep(std::time::Duration::from_secs(1));
            today = shown();
        }
        let is_same = is_documented(&today);
        let kept: Vec<&str> = if is_same { documented } else { today.iter().map(String::as_str).collect() };
        for line in kept {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[test]
fn what_stands_below_a_command_is_what_it_prints() {
    if !require(&NEEDS) {
        return;
    }
    let _quiet = crate::quiet();
    let _world = World::enter();
    let page = page();
    let today = rewritten(&page);
    if std::env::var_os("PODPLUMB_WRITE_DOCS").is_some() {
        std::fs::write(root().join(PAGE), today).expect("the page is written");
        return;
    }
    for (number, (old, new)) in page.lines().zip(today.lines()).enumerate() {
        assert_eq!(lasting(old), lasting(new), "{PAGE}:{} (PODPLUMB_WRITE_DOCS=1 writes it)", number + 1);
    }
    assert_eq!(page.lines().count(), today.lines().count());
}

#[test]
fn lines_that_differ_by_address_or_time_are_the_same() {
    let same = |a: &str, b: &str| lasting(a) == lasting(b);
    assert!(
        same("up (4 steps, 15 ms)", "up (4 steps, 7.5 ms)") && same("all hold (12 ms)", "all hold (1.0 s)")
    );
    assert!(same("node-a  since 0s ago", "node-a  since 2s ago"));
    assert!(same("link/ether 02:00:00:00:00:01 brd", "link/ether 02:00:00:00:00:02 brd"));
    assert!(!same("mtu 1500", "mtu 1450") && !same("(4 steps, 1 ms)", "(5 steps, 1 ms)"));
}

/// Every key that the schema has, wherever it stands.
fn keys(schema: &serde_json::Value, keys: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(object) => {
            for (name, inner) in object {
                if let ("properties", Some(properties)) = (name.as_str(), inner.as_object()) {
                    keys.extend(properties.keys().cloned());
                }
                self::keys(inner, keys);
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|inner| self::keys(inner, keys)),
        _ => {}
    }
}

#[test]
fn every_key_of_a_topology_is_explained() {
    let schema = printed("podplumb lab schema");
    let file = root().join("docs/lab.schema.json");
    if std::env::var_os("PODPLUMB_WRITE_DOCS").is_some() {
        std::fs::write(&file, &schema).expect("the schema is written");
    }
    let shipped = std::fs::read_to_string(&file).expect("the schema");
    assert_eq!(shipped, schema, "docs/lab.schema.json (PODPLUMB_WRITE_DOCS=1 writes it)");
    let mut all = Vec::new();
    keys(&serde_json::from_str(&schema).expect("JSON"), &mut all);
    assert!(all.len() > 40, "{all:?}");
    let page = page();
    let reference = page.split_once("## Reference").expect("a reference").1;
    let missing: Vec<&String> = all.iter().filter(|key| !reference.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "{PAGE} does not explain {missing:?}");
}
