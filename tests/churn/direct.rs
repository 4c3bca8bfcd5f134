//! Pods that a worker wires itself, by the runner, as a small runtime would.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use podplumb_tests::{Plugins, Pod, World, binaries, output};
use serde_json::json;

use crate::{Tally, count};

/// The node's second network, and how it is called.
pub(crate) struct Node {
    plugins: String,
    /// What reclaim said last.
    said: Mutex<String>,
    pub(crate) tally: Tally,
}

/// A pod with a process.
pub(crate) struct Direct {
    name: String,
    pin: PathBuf,
    process: Child,
    address: IpAddr,
}

impl Direct {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }
}

impl Node {
    pub(crate) fn new(world: &World) -> Self {
        // Few enough that addresses are given many times.
        let ipam = json!({ "type": "host-local", "ranges": [[{ "subnet": "10.77.0.0/23" }]] });
        let bridge = json!({ "type": "bridge", "bridge": "cni7", "isDefaultGateway": true, "ipMasq": true, "ipam": ipam });
        let chain =
            json!({ "cniVersion": "1.0.0", "name": "direct", "plugins": [bridge, { "type": "firewall" }] });
        std::fs::write("/etc/cni/net.d/77-direct.conflist", chain.to_string()).expect("a configuration");
        Self {
            plugins: world.plugin_dir(Plugins::Podplumb).display().to_string(),
            said: Mutex::default(),
            tally: Tally::default(),
        }
    }

    /// Makes a namespace with a process in it and wires it. `None`: the call was killed, and the process with it.
    pub(crate) fn start(&self, name: &str, doom: Option<Duration>) -> Option<Direct> {
        let pod = Pod::new(name);
        let sleep = || {
            let mut command = Command::new("busybox");
            command
                .args(["sleep", "600"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .expect("a process")
        };
        let mut process = pod.netns.run(sleep).expect("the pod's namespace");
        // From now on nobody but the process and the pin hold it.
        let pin = pod.leave();
        count(&self.tally.adds);
        let answer = self.call("add", name, Some(&pin), doom);
        let Some(result) = answer else {
            process.kill().expect("it is ours");
            process.wait().expect("it ends");
            count(&self.tally.killed);
            return None;
        };
        let result: serde_json::Value = serde_json::from_str(&result).expect("a result");
        let address = result["ips"][0]["address"].as_str().expect("an address");
        let address = address.split('/').next().unwrap_or_default().parse().expect("an address");
        Some(Direct { name: name.to_owned(), pin, process, address })
    }

    /// DEL and the end of the pod. Killed in the middle, nobody tries again.
    pub(crate) fn end(&self, mut pod: Direct, doom: Option<Duration>) {
        pod.process.kill().expect("it is ours");
        pod.process.wait().expect("it ends");
        count(&self.tally.dels);
        match self.call("del", &pod.name, None, doom) {
            Some(_) => unpin(&pod.pin),
            None => count(&self.tally.killed),
        }
    }

    /// The pod's end, of which nobody hears.
    pub(crate) fn crash(&self, mut pod: Direct) {
        pod.process.kill().expect("it is ours");
        pod.process.wait().expect("it ends");
        count(&self.tally.crashed);
    }

    pub(crate) fn reclaim(&self) {
        let arguments =
            ["reclaim", "--apply", "--grace", "0s", "--max", "10000", "--cni-bin-dir", &self.plugins];
        let output = output(binaries().join("podplumb"), &arguments);
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {text}", output.status);
        *self.said.lock().expect("no panic") = text;
    }

    /// What the runner answered, or `None` when it was killed.
    fn call(&self, command: &str, name: &str, pin: Option<&Path>, doom: Option<Duration>) -> Option<String> {
        let mut runner = Command::new(binaries().join("podplumb"));
        runner.args(["cni", command, "direct", name]).args(pin);
        let mut runner = runner
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("podplumb");
        if let Some(moment) = doom {
            std::thread::sleep(moment);
            runner.kill().expect("it is ours");
        }
        let output = runner.wait_with_output().expect("it ends");
        if doom.is_some() && output.status.code().is_none() {
            return None;
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said = self.said.lock().expect("no panic").clone();
        assert!(
            output.status.success(),
            "{command} of {name}: {}: {stderr}\n{:?}\n{said}",
            output.status,
            self.tally
        );
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Unless reclaim was faster.
fn unpin(pin: &Path) {
    let _ = rustix::mount::unmount(pin, rustix::mount::UnmountFlags::DETACH);
    let _ = std::fs::remove_file(pin);
}
