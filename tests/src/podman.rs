//! Podman in a test's world: its state is where it always is, its network backend is the test's choice.

use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;
use serde_json::Value;

use crate::image;
use crate::process::{kill, output, run, wait_until};
use crate::world::World;

/// Who wires Podman's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Podman's own program.
    Netavark,
    /// The reference CNI plugins.
    Cni,
}

/// Podman with one store.
#[derive(Debug)]
pub struct Podman {
    options: Vec<String>,
    rootfs: PathBuf,
    containers: Vec<PodmanContainer>,
    /// Ids of all containers that there ever were: one that crashed leaves its cgroup.
    made: Vec<String>,
}

/// A container that the test made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodmanContainer {
    /// Id.
    pub id: String,
    /// Pid of its first process.
    pub pid: u32,
    /// Its conmon's.
    pub conmon: u32,
    /// Where its namespace is pinned.
    pub netns: String,
    /// Its address.
    pub ip: String,
}

impl Podman {
    /// Podman with its store in the usual place.
    pub fn new(world: &World, backend: Backend) -> Self {
        Self::with(world, backend, &[])
    }

    /// Podman with its store in a directory that only its command line names.
    pub fn elsewhere(world: &World, backend: Backend) -> Self {
        let at = |name: &str| world.path().join("podman").join(name).display().to_string();
        Self::with(
            world,
            backend,
            &["--root", &at("root"), "--runroot", &at("runroot"), "--tmpdir", &at("tmp")],
        )
    }

    fn with(world: &World, backend: Backend, more: &[&str]) -> Self {
        // Podman's locks are shared memory, and would be the machine's.
        rustix::mount::mount("shm", "/dev/shm", "tmpfs", MountFlags::empty(), None::<&std::ffi::CStr>)
            .expect("a private /dev/shm");
        let (backend, config) = match backend {
            Backend::Netavark => ("netavark", world.path().join("networks")),
            Backend::Cni => ("cni", "/etc/cni/net.d".into()),
        };
        let config = config.display().to_string();
        let options = [
            "--storage-driver",
            "vfs",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "file",
            "--runtime",
            "runc",
            "--network-backend",
            backend,
            "--network-config-dir",
            &config,
        ];
        let options = more.iter().chain(&options).map(|option| (*option).to_owned()).collect();
        image::root(&world.path().join("image"));
        Self { options, rootfs: world.path().join("image/root"), containers: Vec::new(), made: Vec::new() }
    }

    /// Runs the podman command.
    pub fn podman(&self, arguments: &[&str]) -> String {
        run("podman", &self.with_options(arguments)).trim().to_owned()
    }

    fn with_options<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        self.options.iter().map(String::as_str).chain(arguments.iter().copied()).collect()
    }

    /// Starts a container.
    pub fn run_container(&mut self, name: &str) -> PodmanContainer {
        let rootfs = self.rootfs.display().to_string();
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
        let run = ["run", "--detach", "--name", name];
        let what = ["--rootfs", &rootfs, "/bin/sleep", "100000"];
        let id = self.podman(&[&run[..], &limits, &what].concat());
        let inspected: Value = serde_json::from_str(&self.podman(&["inspect", &id])).expect("JSON");
        let (state, settings) = (&inspected[0]["State"], &inspected[0]["NetworkSettings"]);
        let pid = |name: &str| u32::try_from(state[name].as_u64().expect("a pid")).expect("a pid");
        let networks = settings["Networks"].as_object().expect("networks");
        let container = PodmanContainer {
            pid: pid("Pid"),
            conmon: pid("ConmonPid"),
            netns: settings["SandboxKey"].as_str().expect("a key").to_owned(),
            ip: networks.values().next().expect("a network")["IPAddress"]
                .as_str()
                .expect("an address")
                .into(),
            id,
        };
        self.made.push(container.id.clone());
        self.containers.push(container.clone());
        container
    }

    /// Kills a container and its conmon, as a node that runs out of memory does. Nobody cleans up.
    pub fn crash(&self, container: &PodmanContainer) {
        kill(container.conmon);
        kill(container.pid);
        let gone = |pid: u32| !Path::new(&format!("/proc/{pid}/ns/net")).exists();
        wait_until("conmon and container are gone", || gone(container.conmon) && gone(container.pid));
    }

    /// Throws the store away, as people do whose disk is full. Nothing of its containers may run any more.
    pub fn lose_store(&mut self) {
        let table = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("procfs");
        let below = |point: &&str| point.starts_with("/var/lib/containers/");
        let points: Vec<&str> =
            table.lines().filter_map(|line| line.split(' ').nth(4)).filter(below).collect();
        for point in points.iter().rev() {
            let _ = rustix::mount::unmount(*point, rustix::mount::UnmountFlags::DETACH);
        }
        for path in ["/var/lib/containers/storage", "/run/containers/storage", "/run/libpod"] {
            std::fs::remove_dir_all(path).expect("Podman's state");
        }
        self.containers.clear();
    }

    /// What podman says to a command that it refuses.
    pub fn refuses(&self, arguments: &[&str]) -> String {
        let output = output("podman", &self.with_options(arguments));
        assert!(!output.status.success(), "podman {arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Removes a container as a user does.
    pub fn remove(&mut self, container: &PodmanContainer) {
        // Of a container that crashed, the first may fail: it wants to stop it, and is told that it does not run.
        wait_until("podman removes the container", || {
            let remove = self.with_options(&["rm", "--force", "--time", "0", &container.id]);
            output("podman", &remove).status.success()
        });
        self.containers.retain(|other| other != container);
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        for container in &self.containers {
            kill(container.conmon);
            kill(container.pid);
        }
        let ids = self.made.iter().map(|id| format!("libpod-{id}"));
        let groups: Vec<String> = ids.chain(["conmon".to_owned()]).collect();
        crate::process::remove_cgroups("libpod_parent", &groups);
    }
}
