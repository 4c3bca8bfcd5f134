//! podplumb as a user runs it.

use std::process::Output;

use serde_json::Value;

use crate::process::output;
use crate::world::binaries;

/// The program, with options that every call gets.
#[derive(Debug, Default, Clone)]
pub struct Podplumb {
    before: Vec<String>,
    options: Vec<String>,
}

/// A finding of `leaks`.
#[derive(Debug, Clone)]
pub struct Finding(pub Value);

impl Finding {
    /// orphan, unknown or in-use.
    pub fn verdict(&self) -> &str {
        self.0["verdict"].as_str().unwrap_or_default()
    }

    /// The code of the fact that decided.
    pub fn because(&self) -> &str {
        self.0["because"]["code"].as_str().unwrap_or_default()
    }

    /// The kinds of its pieces, in order, each once.
    pub fn kinds(&self) -> Vec<String> {
        let mut kinds: Vec<String> = Vec::new();
        for piece in self.0["pieces"].as_array().into_iter().flatten() {
            let kind = piece["kind"].as_str().unwrap_or_default().to_owned();
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }
}

impl Podplumb {
    /// With these options at the end of each call.
    pub fn with(options: &[&str]) -> Self {
        Self::within(&[], options)
    }

    /// The same, with a command of podplumb that runs a podplumb before each.
    pub fn within(command: &[&str], options: &[&str]) -> Self {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self { before: owned(command), options: owned(options) }
    }

    /// Runs a command.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let (before, options) = (self.before.iter(), self.options.iter());
        let arguments = arguments.iter().copied();
        let all: Vec<&str> =
            before.map(String::as_str).chain(arguments).chain(options.map(String::as_str)).collect();
        output(binaries().join("podplumb"), &all)
    }

    /// Runs a command that has to end with this code, and returns its stdout.
    pub fn expect(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "podplumb {}:\n{stdout}\n{stderr}", arguments.join(" "));
        stdout.into_owned()
    }

    /// All findings, those in use included.
    pub fn findings(&self, grace: &str) -> Vec<Finding> {
        let output = self.run(&["leaks", "--all", "--output", "json", "--grace", grace]);
        let leaks: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        let findings = leaks["findings"].as_array().cloned().unwrap_or_default();
        let orphans = findings.iter().filter(|finding| finding["verdict"] == "orphan").count();
        assert_eq!(
            output.status.code(),
            Some(if orphans > 0 { 3 } else { 0 }),
            "the exit code tells of orphans"
        );
        findings.into_iter().map(Finding).collect()
    }

    /// The finding about a container.
    pub fn finding_of(&self, container: &str, grace: &str) -> Finding {
        let findings = self.findings(grace);
        let own = findings.iter().find(|finding| finding.0["container"] == container);
        own.cloned().unwrap_or_else(|| panic!("no finding about {container}: {findings:#?}"))
    }

    /// The labels of all orphans.
    pub fn orphans(&self, grace: &str) -> Vec<Finding> {
        self.findings(grace).into_iter().filter(|finding| finding.verdict() == "orphan").collect()
    }
}
