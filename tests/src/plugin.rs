//! Calling a CNI plugin as a runtime does.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use serde_json::{Value, json};

use crate::process::run;
use crate::world::{Plugins, World};

/// A call that takes longer hangs; with what it started it is ended. The reference's dhcp tries for about a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// A plugin of a set, with a configuration.
#[derive(Debug, Clone)]
pub struct Plugin {
    program: PathBuf,
    directory: PathBuf,
    /// The configuration, to be changed at will.
    pub config: Value,
    /// `CNI_ARGS`.
    pub args: String,
}

/// What a plugin answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Whether it succeeded.
    pub ok: bool,
    /// What it printed, as JSON; null when it printed nothing.
    pub json: Value,
}

impl Answer {
    /// The error code.
    pub fn code(&self) -> i64 {
        self.json["code"].as_i64().unwrap_or(0)
    }

    /// The first address, without its prefix length.
    pub fn ip(&self) -> String {
        let address = self.json["ips"][0]["address"].as_str().or(self.json["ip4"]["ip"].as_str());
        let address = address.unwrap_or_else(|| panic!("an address in {:#}", self.json));
        address.split('/').next().unwrap_or_default().to_owned()
    }
}

impl Plugin {
    /// The plugin in a directory that a configuration is for.
    pub fn of(directory: &Path, config: Value) -> Self {
        let kind = config["type"].as_str().expect("a configuration has a type");
        Self { program: directory.join(kind), directory: directory.to_owned(), config, args: String::new() }
    }

    /// The bridge plugin with a gateway and a small subnet.
    pub fn bridge(world: &World, plugins: Plugins) -> Self {
        let directory = world.plugin_dir(plugins);
        let config = json!({
            "cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "cni0", "isDefaultGateway": true,
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.66.0.0/24" }]] },
        });
        Self { program: directory.join("bridge"), directory, config, args: String::new() }
    }

    /// Another plugin of the same set, with the same configuration.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self { program: self.directory.join(name), ..self.clone() }
    }

    /// Calls a command with exactly this environment and input.
    pub fn call(&self, environment: &[(&str, &str)], input: &[u8]) -> Answer {
        let mut child = Command::new(&self.program)
            .env_clear()
            .env("CNI_PATH", &self.directory)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        // A plugin that refuses its environment need not read.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input));
        let group = Pid::from_child(&child);
        let (ended, wait_for_end) = mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            if wait_for_end.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
        });
        let output = child.wait_with_output().expect("it ends");
        drop(ended);
        watch.join().expect("it watches");
        assert!(output.status.code().is_some(), "{} ended by a signal", self.program.display());
        Answer {
            ok: output.status.success(),
            json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        }
    }

    /// Calls a command about the attachment of container `id`, in the namespace of that name.
    pub fn on(&self, command: &str, id: &str) -> Answer {
        let netns = format!("/run/netns/{id}");
        let environment = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", &netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", &self.args),
        ];
        self.call(&environment, self.config.to_string().as_bytes())
    }

    /// ADD in a new namespace; has to succeed.
    pub fn add(&self, id: &str) -> Answer {
        run("ip", &["netns", "add", id]);
        let answer = self.on("ADD", id);
        assert!(answer.ok, "ADD {id}: {:#}", answer.json);
        answer
    }

    /// DEL; has to succeed.
    pub fn del(&self, id: &str) {
        let answer = self.on("DEL", id);
        assert!(answer.ok, "DEL {id}: {:#}", answer.json);
    }
}
