//! A lab of which one machine is looked at as a node.

use lab::Lab;
use podplumb_tests::{Podplumb, binaries, output};
use serde_json::Value;

/// What doctor said.
#[derive(Debug)]
pub(crate) struct Said {
    /// Exit code.
    pub(crate) code: Option<i32>,
    /// Its JSON.
    pub(crate) json: Value,
}

impl Said {
    /// The checks that found something, with the object, each once.
    pub(crate) fn found(&self) -> Vec<(String, String)> {
        let findings = self.json["findings"].as_array().into_iter().flatten();
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        findings.map(|one| (word(&one["check"]), word(&one["object"]))).collect()
    }

    /// The checks that found something, each once.
    pub(crate) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.found().into_iter().map(|(id, _)| id).collect();
        ids.dedup();
        ids
    }

    /// The checks that could not be made, or not completely.
    pub(crate) fn blind(&self) -> Vec<String> {
        let made = self.json["checks"].as_array().into_iter().flatten();
        let blind = made.filter(|made| made.get("not_checked").is_some());
        blind.map(|made| made["check"].to_string() + ": " + &made["not_checked"].to_string()).collect()
    }
}

/// Runs doctor with options, in the namespace of the calling thread.
pub(crate) fn doctor(options: &[&str]) -> Said {
    let output = Podplumb::default().run(&[&["doctor", "-o", "json"], options].concat());
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    Said { code: output.status.code(), json }
}

/// Runs doctor in a machine of a lab, which has no runtime.
pub(crate) fn examine(lab: &Lab, machine: &str) -> Said {
    lab.run(machine, || doctor(&["--runtime", "none"])).expect("the machine")
}

/// Runs a shell's commands in a machine of a lab. They may not fail.
pub(crate) fn shell(lab: &Lab, machine: &str, commands: &str) {
    let commands = commands.replace("$PODPLUMB", &binaries().join("podplumb").display().to_string());
    let commands = commands.as_str();
    let done = lab.run(machine, || output("/bin/sh", &["-ec", commands])).expect("the machine");
    assert!(
        done.status.success(),
        "{machine}: {commands}\n{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}
