//! A lab in a world of its own, with what is broken in it.

use std::path::PathBuf;

use podplumb_tests::{Podplumb, World};
use serde_json::Value;

pub(crate) const NEEDS: [&str; 4] = ["ip", "ping", "nft", "iptables-nft"];

/// A lab that is up.
pub(crate) struct Site {
    pub(crate) podplumb: Podplumb,
    file: PathBuf,
    pub(crate) world: World,
}

impl Site {
    /// Makes the lab; `expect` is what real probes have to show.
    pub(crate) fn up(yaml: &str, expect: &[&str]) -> Self {
        let world = World::enter();
        world.hide_others();
        let file = world.path().join("site.yaml");
        let expectations: String = expect.iter().map(|line| format!("  - {line}\n")).collect();
        let whole = format!("name: site\n{yaml}\nexpect:\n{expectations}");
        std::fs::write(&file, whole).expect("a file");
        let site = Site { podplumb: Podplumb::default(), file, world };
        site.podplumb.expect(0, &["lab", "up", &site.path()]);
        site
    }

    fn path(&self) -> String {
        self.file.display().to_string()
    }

    /// Runs a command in a machine, split at spaces.
    pub(crate) fn run(&self, machine: &str, command: &str) -> String {
        let words: Vec<&str> = command.split(' ').collect();
        let file = self.path();
        self.podplumb.expect(0, &[&["lab", "exec", &file, machine, "--"], words.as_slice()].concat())
    }

    /// Whether real probes show what the lab expects.
    pub(crate) fn verify(&self) {
        self.podplumb.expect(0, &["lab", "verify", &self.path(), "--within", "60s"]);
    }

    /// Traces, as JSON.
    pub(crate) fn trace(&self, code: i32, arguments: &[&str]) -> Value {
        let all = [&["trace"], arguments, &["--runtime", "none", "-o", "json"]].concat();
        let text = self.podplumb.expect(code, &all);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Traces, as text.
    pub(crate) fn text(&self, code: i32, arguments: &[&str]) -> String {
        self.podplumb.expect(code, &[&["trace"], arguments, &["--runtime", "none"]].concat())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.podplumb.run(&["lab", "down", "site"]);
    }
}

/// Why a way ended, of a trace in JSON.
pub(crate) fn why(trace: &Value) -> String {
    let ways = ["back", "there"].iter().map(|way| &trace[way]["outcome"]);
    let mut ends = ways.filter(|outcome| outcome["end"] == "ends");
    ends.next().and_then(|outcome| outcome["why"].as_str()).unwrap_or_default().to_owned()
}
