//! A node with the reference plugins and without a runtime: what a process lives in is alive, the rest is dead.

use std::process::{Child, Command, Stdio};

use podplumb_tests::{Finding, Plugins, Podplumb, World, run};
use serde_json::{Value, json};

/// A name that only runtimes give to a namespace, and that no other test gives: a pin counts wherever it is.
pub(crate) fn netns(n: u32) -> String {
    let test = format!("{} {:?}", std::process::id(), std::thread::current().id());
    let digest = model::attachment::digest(test.as_bytes());
    format!("cni-{:08x}-55d1-4c0b-9a53-7f1b2c3d4e{n:02}", digest as u32)
}

/// A process that is ended when the test is.
pub(crate) struct Process(Child);

impl Process {
    fn start(program: &[&str]) -> Self {
        let mut command = Command::new(program[0]);
        let command = command.args(&program[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{program:?}: {error}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // nsenter and unshare wait for a child, which ends with its pid namespace.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first three bytes of a subnet that no other test has: an address that somebody has, in whatever namespace, is in use.
fn free_subnet() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (process, test) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    format!("100.{}.{}", 64 + process % 64, (process / 64 + test) % 256)
}

/// A node that has one network.
pub(crate) struct Node {
    pub(crate) podplumb: Podplumb,
    subnet: String,
    plugins: Plugins,
    /// A process in its network namespace.
    anchor: Process,
    pub(crate) world: World,
}

impl Node {
    /// With the reference plugins and this chain, called `pods`; `SUBNET` in it is the first three bytes of the node's own.
    pub(crate) fn new(plugins: Value) -> Self {
        Self::with(Plugins::Reference, plugins)
    }

    pub(crate) fn with(kind: Plugins, plugins: Value) -> Self {
        let world = World::enter();
        let subnet = free_subnet();
        let conflist = json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": plugins });
        let conflist = conflist.to_string().replace("SUBNET", &subnet);
        std::fs::write("/etc/cni/net.d/10-pods.conflist", conflist).expect("a configuration");
        let anchor = Process::start(&["sleep", "600"]);
        Self { podplumb: Podplumb::with(&["--runtime", "none"]), subnet, plugins: kind, anchor, world }
    }

    /// An address of the node's subnet.
    pub(crate) fn address(&self, last: u8) -> String {
        format!("{}.{last}", self.subnet)
    }

    /// Runs a program on the node; it has to succeed. Returns its stdout.
    #[expect(clippy::unused_self, reason = "a node has to be there")]
    pub(crate) fn run(&self, program: &[&str]) -> String {
        run(program[0], &program[1..])
    }

    /// Starts a process that lives in a namespace until the test ends.
    pub(crate) fn inhabit(&self, netns: &str) -> Process {
        let net = format!("--net=/run/netns/{netns}");
        let process = Process::start(&["nsenter", &net, "sleep", "600"]);
        podplumb_tests::wait_until("a process is in the namespace", || {
            !self.run(&["ip", "netns", "pids", netns]).is_empty()
        });
        process
    }

    /// Takes a container's interface out of its namespace to the host.
    pub(crate) fn take_back(&self, netns: &str) {
        let host = self.anchor.0.id().to_string();
        self.run(&["ip", "-n", netns, "link", "set", "eth0", "netns", &host]);
    }

    /// The ipam section of host-local with the node's subnet.
    pub(crate) fn ipam() -> Value {
        json!({ "type": "host-local", "ranges": [[{ "subnet": "SUBNET.0/24" }]] })
    }

    /// The bridge plugin as it is usually configured.
    pub(crate) fn bridge() -> Value {
        json!({ "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": Self::ipam() })
    }

    /// Attaches a container in a new namespace, as a runtime does; returns its address.
    pub(crate) fn add(&self, id: &str, n: u32, capabilities: &Value) -> String {
        let (name, directory) = (netns(n), self.world.plugin_dir(self.plugins));
        self.run(&["ip", "netns", "add", &name]);
        let directory = directory.display().to_string();
        let capabilities = capabilities.to_string();
        let mut arguments = vec!["cni", "add", "pods", id, &name, "--bin-dir", &directory];
        if self.plugins == Plugins::Reference {
            arguments.push("--exec");
        }
        arguments.extend(["--capability-args", &capabilities]);
        let result: Value =
            serde_json::from_str(&Podplumb::default().expect(0, &arguments)).expect("a result");
        let address = result["ips"][0]["address"].as_str().expect("an address");
        address.split('/').next().unwrap_or_default().to_owned()
    }

    /// `reclaim --apply`, with the plugins at hand; returns what it printed. What other tests do at the same moment may keep a look from
    /// being complete, and then nothing is an orphan: so until something was.
    pub(crate) fn reclaim(&self) -> String {
        for _ in 0..30 {
            let text = self.reclaim_once();
            if text.contains("podplumb undo") {
                return text;
            }
        }
        panic!("nothing was reclaimed: {:#?}", self.podplumb.findings("0s"));
    }

    /// `reclaim --apply`, where nothing is to be done.
    pub(crate) fn reclaim_nothing(&self) {
        assert_eq!(self.reclaim_once(), "nothing to reclaim\n");
    }

    fn reclaim_once(&self) -> String {
        // What was made less than a grace period ago is in flight.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let directory = self.world.plugin_dir(self.plugins).display().to_string();
        self.podplumb.expect(0, &["reclaim", "--apply", "--grace", "1s", "--cni-bin-dir", &directory])
    }

    /// `undo` of everything that a run did, by what `reclaim` printed; returns its exit code and output.
    pub(crate) fn undo(&self, reclaimed: &str) -> (i32, String) {
        let run = reclaimed.rsplit("podplumb undo ").next().unwrap_or_default().trim();
        let output = Podplumb::default().run(&["undo", run]);
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The finding about a container, whatever is younger than a grace period included.
    pub(crate) fn finding(&self, id: &str) -> Finding {
        self.finding_where(&|finding| finding.0["container"] == id)
            .unwrap_or_else(|| panic!("none about {id}"))
    }

    /// The finding with this label.
    pub(crate) fn labelled(&self, label: &str) -> Option<Finding> {
        self.finding_where(&|finding| finding.0["label"] == label)
    }

    /// The first such finding of a look at which nothing that it needs came or went.
    fn finding_where(&self, is_meant: &dyn Fn(&Finding) -> bool) -> Option<Finding> {
        let mut found = None;
        for _ in 0..100 {
            found = self.podplumb.findings("0s").into_iter().find(is_meant);
            let passing = ["unread", "descriptor"];
            if found.as_ref().is_none_or(|finding| !passing.contains(&finding.because())) {
                break;
            }
        }
        found
    }
}
