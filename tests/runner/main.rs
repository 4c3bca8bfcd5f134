//! `podplumb cni` and the SDK, with plugins of ours, of others, and with such as nobody would want.
#![allow(clippy::disallowed_methods, reason = "tests run programs")]

mod attach;
mod bad_input;
mod bad_plugins;
mod gc;
mod install;
mod interchange;
mod list;
mod sdk;
mod syscalls;

use std::path::{Path, PathBuf};

use podplumb_tests::{Podplumb, World, run};
use serde_json::{Value, json};

const NEEDS: [&str; 4] = ["ip", "ping", "nsenter", "strace"];

fn can_run() -> bool {
    podplumb_tests::require(&NEEDS)
}

/// A world with a directory for scripted plugins, and podplumb, which looks there.
struct Rig {
    world: World,
    podplumb: Podplumb,
}

/// What a scripted plugin was called with.
#[derive(Debug)]
struct Recorded {
    plugin: String,
    environment: String,
    config: Value,
}

impl Recorded {
    fn command(&self) -> &str {
        self.variable("CNI_COMMAND")
    }

    fn variable(&self, name: &str) -> &str {
        let lines = self.environment.lines();
        lines.filter_map(|line| line.split_once('=')).find(|(key, _)| *key == name).expect("it is set").1
    }
}

/// The bridge of all tests.
fn bridge() -> Value {
    json!({
        "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true,
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.66.0.0/24" }]] },
    })
}

impl Rig {
    fn new() -> Self {
        let world = World::enter();
        let scripts = world.path().join("scripts");
        std::fs::create_dir_all(scripts.join("calls")).unwrap();
        let podplumb = Podplumb::with(&["--bin-dir", &scripts.display().to_string()]);
        Self { world, podplumb }
    }

    fn scripts(&self) -> PathBuf {
        self.world.path().join("scripts")
    }

    /// A plugin that is a shell script. It is written by another process: while a child of this one, which tests fork all the time,
    /// has it open for writing, it cannot be executed.
    fn script(&self, name: &str, text: &str) {
        let source = self.world.path().join("source");
        std::fs::write(&source, format!("#!/bin/sh\n{text}\n")).unwrap();
        let target = self.scripts().join(name);
        run("install", &["-m", "755", &source.display().to_string(), &target.display().to_string()]);
    }

    /// A plugin that writes down how it is called, and then runs `then`.
    fn recorder(&self, name: &str, then: &str) {
        let calls = self.scripts().join("calls");
        let calls = calls.display();
        self.script(
            name,
            &format!(
                "n=$(ls {calls} | wc -l); file={calls}/$(printf %04d $n)-{name}\n\
                 (env | grep ^CNI_; echo; cat) > $file\n{then}"
            ),
        );
    }

    /// The calls of recorders since this was asked last.
    fn calls(&self) -> Vec<Recorded> {
        let files = std::fs::read_dir(self.scripts().join("calls")).unwrap().flatten();
        let mut files: Vec<PathBuf> = files.map(|file| file.path()).collect();
        files.sort();
        let read = |file: &PathBuf| {
            let text = std::fs::read_to_string(file).unwrap();
            std::fs::remove_file(file).unwrap();
            let (environment, config) = text.split_once("\n\n").expect("both");
            let name = file.file_name().unwrap().to_string_lossy();
            Recorded {
                plugin: name.split_once('-').unwrap().1.to_owned(),
                environment: environment.to_owned(),
                config: serde_json::from_str(config).expect("a configuration"),
            }
        };
        files.iter().map(read).collect()
    }

    /// Writes the network `pods`.
    fn network(&self, version: &str, plugins: &[Value]) {
        let list = json!({ "cniVersion": version, "name": "pods", "plugins": plugins });
        std::fs::write("/etc/cni/net.d/10-pods.conflist", list.to_string()).unwrap();
    }

    /// Runs `podplumb cni …`, which has to end with this code; returns stdout and stderr.
    fn cni(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = self.podplumb.run(&[&["cni"], arguments].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "cni {}:\n{stdout}\n{stderr}", arguments.join(" "));
        (stdout, stderr)
    }

    /// ADD in a new namespace of the container's name; returns the result.
    fn add(&self, container: &str) -> Value {
        run("ip", &["netns", "add", container]);
        let (stdout, _) = self.cni(0, &["add", "pods", container, container]);
        serde_json::from_str(&stdout).expect("a result")
    }
}

fn cache(container: &str) -> PathBuf {
    PathBuf::from(format!("/var/lib/cni/results/pods-{container}-eth0"))
}

fn names(dir: impl AsRef<Path>) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Everything that attachments leave on a node.
fn traces() -> Vec<String> {
    let links = run("ip", &["-o", "link", "show", "type", "veth"]);
    let is_lease = |name: &String| name != "lock" && !name.starts_with("last_reserved_ip");
    let mut traces: Vec<String> = links.lines().map(str::to_owned).collect();
    traces.extend(names("/var/lib/cni/networks/pods").into_iter().filter(is_lease));
    traces.extend(names("/run/podplumb/attachments"));
    traces.extend(names("/var/lib/cni/results"));
    traces
}

fn nothing() -> Vec<String> {
    Vec::new()
}
