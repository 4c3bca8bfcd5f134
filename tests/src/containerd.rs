//! A containerd of the test's own, driven through CRI as kubelet drives it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use observe::runtimes::grpc::Client;

use crate::image;
use crate::process::{Daemon, kill, output, parent, run, wait_until};
use crate::world::{Plugins, World};

/// Where the rig's containerd listens: the usual place, in the world's own /run.
const SOCKET: &str = "/run/containerd/containerd.sock";

/// A running containerd.
#[derive(Debug)]
pub struct Containerd {
    daemon: Daemon,
    config: PathBuf,
    log: PathBuf,
    books: Mutex<Books>,
}

/// What the test made.
#[derive(Debug, Default)]
struct Books {
    sandboxes: Vec<Sandbox>,
    /// Ids of all sandboxes that there ever were.
    made: Vec<String>,
}

/// A sandbox that the test made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Id.
    pub id: String,
    /// Pid of its process.
    pub pid: u32,
    /// Its shim's.
    pub shim: u32,
    /// Its address.
    pub ip: String,
    /// Where its namespace is pinned.
    pub netns: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RunPodSandbox {
    #[prost(message, optional, tag = "1")]
    config: Option<PodConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodMetadata>,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(message, optional, tag = "8")]
    linux: Option<Linux>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Linux {}

#[derive(Clone, PartialEq, prost::Message)]
struct PodMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodId {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodStatusRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bool, tag = "2")]
    verbose: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<PodStatus>,
    #[prost(map = "string, string", tag = "2")]
    info: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodStatus {
    #[prost(message, optional, tag = "5")]
    network: Option<PodNetwork>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodNetwork {
    #[prost(string, tag = "1")]
    ip: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<RuntimeStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RuntimeStatus {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<RuntimeCondition>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RuntimeCondition {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bool, tag = "2")]
    holds: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageStatusRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

/// Of a question an image's name, of an answer its id.
#[derive(Clone, PartialEq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageStatusResponse {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

/// The uid that a test's pod of this name has.
pub fn pod_uid(name: &str) -> String {
    let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("0a6e12c4-55d1-4c0b-9a53-{digits:0>12.12}")
}

impl Containerd {
    /// Starts containerd with the given plugins and a network of `subnet`, and imports the image.
    pub fn start(world: &World, plugins: Plugins, subnet: &str) -> Self {
        world.network(subnet);
        let (config, log) = (world.path().join("containerd.toml"), world.path().join("containerd.log"));
        std::fs::write(&config, configuration(world, &world.plugin_dir(plugins))).expect("a configuration");
        let daemon = Self::daemon(&config, &log);
        let rig = Self { daemon, config, log, books: Mutex::default() };
        let archive = image::archive(&world.path().join("image"));
        rig.ctr(&["images", "import", "--no-unpack", &archive.display().to_string()]);
        rig.wait_for_cri();
        rig
    }

    fn daemon(config: &Path, log: &Path) -> Daemon {
        let daemon = Daemon::start("containerd", &["--config", &config.display().to_string()], log);
        wait_until("containerd answers", || output("ctr", &["version"]).status.success());
        daemon
    }

    fn wait_for_cri(&self) {
        // The network configuration is loaded by a watcher of its own.
        wait_until("CRI has loaded the network", || {
            let said = call::<_, StatusResponse>("/runtime.v1.RuntimeService/Status", Empty {});
            let conditions = said.ok().and_then(|answer| answer.status).unwrap_or_default().conditions;
            conditions.iter().any(|condition| condition.name == "NetworkReady" && condition.holds)
        });
        // It learns of an image by an event of its own, some time after it is in containerd's own list.
        wait_until("CRI knows the image", || {
            let wanted = ImageStatusRequest { image: Some(ImageSpec { image: image::NAME.into() }) };
            let known = call::<_, ImageStatusResponse>("/runtime.v1.ImageService/ImageStatus", wanted);
            known.is_ok_and(|answer| answer.image.is_some())
        });
    }

    /// Runs ctr in CRI's namespace.
    pub fn ctr(&self, arguments: &[&str]) -> String {
        run("ctr", &[&["--namespace", "k8s.io"], arguments].concat())
    }

    /// RunPodSandbox, which has to succeed.
    pub fn run_sandbox(&mut self, name: &str) -> Sandbox {
        self.try_run_sandbox(name).unwrap_or_else(|error| panic!("RunPodSandbox {name}: {error}"))
    }

    /// RunPodSandbox.
    pub fn try_run_sandbox(&self, name: &str) -> Result<Sandbox, String> {
        let metadata = PodMetadata { name: name.into(), uid: pod_uid(name), namespace: "shop".into() };
        let config =
            PodConfig { metadata: Some(metadata), log_directory: String::new(), linux: Some(Linux {}) };
        let made: PodId =
            call("/runtime.v1.RuntimeService/RunPodSandbox", RunPodSandbox { config: Some(config) })?;
        let question = PodStatusRequest { id: made.id.clone(), verbose: true };
        let status: PodStatusResponse =
            call("/runtime.v1.RuntimeService/PodSandboxStatus", question).expect("a status");
        let info: serde_json::Value = serde_json::from_str(&status.info["info"]).expect("JSON");
        let pid = u32::try_from(info["pid"].as_u64().expect("a pid")).expect("a pid");
        let namespaces = info["runtimeSpec"]["linux"]["namespaces"].as_array().cloned().unwrap_or_default();
        let network =
            namespaces.iter().find(|namespace| namespace["type"] == "network").expect("a namespace");
        let sandbox = Sandbox {
            id: made.id,
            pid,
            shim: parent(pid),
            ip: status.status.and_then(|status| status.network).expect("a network").ip,
            netns: network["path"].as_str().expect("a path").replacen("/var/run", "/run", 1),
        };
        let mut books = self.books.lock().expect("no panic");
        books.made.push(sandbox.id.clone());
        books.sandboxes.push(sandbox.clone());
        Ok(sandbox)
    }

    /// StopPodSandbox and RemovePodSandbox.
    pub fn remove_sandbox(&self, sandbox: &Sandbox) {
        let id = || PodId { id: sandbox.id.clone() };
        let _: Empty = call("/runtime.v1.RuntimeService/StopPodSandbox", id()).expect("StopPodSandbox");
        let _: Empty = call("/runtime.v1.RuntimeService/RemovePodSandbox", id()).expect("RemovePodSandbox");
        self.books.lock().expect("no panic").sandboxes.retain(|other| other != sandbox);
    }

    /// Kills a sandbox's shim and process, as a node that runs out of memory does. Nobody calls DEL.
    pub fn crash_sandbox(&self, sandbox: &Sandbox) {
        kill(sandbox.shim);
        kill(sandbox.pid);
        let gone = |pid: u32| !Path::new(&format!("/proc/{pid}/ns/net")).exists();
        wait_until("shim and sandbox are gone", || gone(sandbox.shim) && gone(sandbox.pid));
    }

    /// Removes what containerd knows of a sandbox, and makes CRI, which keeps a list in memory, read it again.
    pub fn forget_sandbox(&mut self, sandbox: &Sandbox) {
        self.forget(sandbox);
        self.restart();
    }

    /// Removes what containerd knows of a sandbox; CRI forgets it at its next start.
    pub fn forget(&self, sandbox: &Sandbox) {
        wait_until("the sandbox's metadata can be removed", || {
            let _ = output("ctr", &["--namespace", "k8s.io", "tasks", "rm", "--force", &sandbox.id]);
            output("ctr", &["--namespace", "k8s.io", "containers", "rm", &sandbox.id]).status.success()
        });
    }

    /// Stops containerd; its shims and sandboxes live on.
    pub fn stop(&mut self) {
        self.daemon.stop();
    }

    /// Stops and starts containerd.
    pub fn restart(&mut self) {
        self.daemon.stop();
        self.daemon = Self::daemon(&self.config, &self.log);
        self.wait_for_cri();
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.daemon.stop();
        let Books { sandboxes, made } = self.books.get_mut().unwrap_or_else(PoisonError::into_inner);
        for sandbox in sandboxes.iter() {
            kill(sandbox.shim);
            kill(sandbox.pid);
        }
        crate::process::remove_cgroups("k8s.io", made);
    }
}

fn configuration(world: &World, plugins: &Path) -> String {
    let root = world.path().join("containerd-root");
    format!(
        r#"version = 2
root = "{root}"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "runc"
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "/etc/cni/net.d"
"#,
        root = root.display(),
        image = image::NAME,
        plugins = plugins.display(),
    )
}

/// Calls containerd once. The reactor runs on this thread, so that it is in the test's world.
fn call<Q, A>(method: &'static str, question: Q) -> Result<A, String>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a reactor");
    reactor.block_on(async {
        let client = Client::connect(Path::new(SOCKET)).await?;
        client.call(method, question, None).await.map_err(|failed| failed.to_string())
    })
}
