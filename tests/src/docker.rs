//! A dockerd of the test's own.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::image;
use crate::process::{Daemon, kill, output, parent, run, wait_until};
use crate::world::World;

/// A running dockerd.
#[derive(Debug)]
pub struct Docker {
    daemon: Daemon,
    root: PathBuf,
    log: PathBuf,
    pids: Vec<(u32, String)>,
}

/// A container that the test made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Id.
    pub id: String,
    /// Pid of its first process.
    pub pid: u32,
    /// Where its namespace is pinned.
    pub netns: String,
    /// Its address.
    pub ip: String,
}

impl Docker {
    /// Starts dockerd with a bridge of its own, and imports the image.
    pub fn start(world: &World) -> Self {
        let (root, log) = (world.path().join("docker"), world.path().join("dockerd.log"));
        let rig = Self { daemon: Self::daemon(&root, &log), root, log, pids: Vec::new() };
        let layer = image::root(&world.path().join("image"));
        rig.docker(&["import", &layer.display().to_string(), "busybox:1"]);
        rig
    }

    fn daemon(root: &Path, log: &Path) -> Daemon {
        let root = root.display().to_string();
        let arguments = [
            "--data-root",
            &root,
            "--exec-root",
            "/run/docker",
            "--pidfile",
            "/run/docker.pid",
            "--host",
            "unix:///run/docker.sock",
            "--bip",
            "10.77.0.1/24",
            "--storage-driver",
            "vfs",
        ];
        let daemon = Daemon::start("dockerd", &arguments, log);
        wait_until("dockerd answers", || output("docker", &["version"]).status.success());
        daemon
    }

    /// Runs the docker command.
    pub fn docker(&self, arguments: &[&str]) -> String {
        run("docker", arguments).trim().to_owned()
    }

    /// Starts a container.
    pub fn run_container(&mut self, name: &str) -> Container {
        let id = self.docker(&["run", "--detach", "--name", name, "busybox:1", "/bin/sleep", "100000"]);
        let inspected: Value = serde_json::from_str(&self.docker(&["inspect", &id])).expect("JSON");
        let settings = &inspected[0]["NetworkSettings"];
        let container = Container {
            pid: u32::try_from(inspected[0]["State"]["Pid"].as_u64().expect("a pid")).expect("a pid"),
            netns: settings["SandboxKey"].as_str().expect("a key").replace("/var/run", "/run"),
            ip: settings["IPAddress"].as_str().expect("an address").to_owned(),
            id,
        };
        self.pids.push((container.pid, container.id.clone()));
        self.pids.push((parent(container.pid), container.id.clone()));
        container
    }

    /// Kills dockerd, its containerd and a container, as a node that runs out of memory does.
    pub fn crash_with(&mut self, container: &Container) {
        let shim = parent(container.pid);
        let containerd = std::fs::read_to_string("/run/docker/containerd/containerd.pid").unwrap_or_default();
        self.daemon.crash();
        let containerd = containerd.trim().parse().unwrap_or(0);
        kill(containerd);
        kill(shim);
        kill(container.pid);
        wait_until("the container is gone", || {
            !Path::new(&format!("/proc/{}/ns/net", container.pid)).exists()
        });
    }

    /// Removes what dockerd knows of a container: its own directory, and libnetwork's store of sandboxes, from which it
    /// would clean up on its next start.
    pub fn forget(&self, container: &Container) {
        std::fs::remove_dir_all(self.root.join("containers").join(&container.id)).expect("its directory");
        std::fs::remove_file(self.root.join("network/files/local-kv.db")).expect("the network store");
    }

    /// Starts dockerd again.
    pub fn start_again(&mut self) {
        // The files would make it wait for the processes that were killed.
        for left in [
            "/run/docker.pid",
            "/run/docker/containerd/containerd.pid",
            "/run/docker/containerd/containerd.sock",
        ] {
            let _ = std::fs::remove_file(left);
        }
        self.daemon = Self::daemon(&self.root, &self.log);
    }

    /// Stops dockerd as a service manager does.
    pub fn stop(&mut self) {
        self.daemon.stop();
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let containerd = std::fs::read_to_string("/run/docker/containerd/containerd.pid").unwrap_or_default();
        for (pid, _) in &self.pids {
            kill(*pid);
        }
        self.daemon.stop();
        containerd.trim().parse().into_iter().for_each(kill);
        let ids: Vec<String> = self.pids.iter().map(|(_, id)| id.clone()).collect();
        crate::process::remove_cgroups("docker", &ids);
    }
}
