//! Pods that CNI plugins wire, as a runtime on their node would have it done.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::cache::Cache;
use cni::{Attachment, AttachmentKey, Command, Network, Runner};
use model::{ContainerId, IfName};
use rustix::mount::MountFlags;
use sys::MountNs;

use super::{Room, Site, pin};
use crate::error::{Error, Result};
use crate::plan::{Part, Piece};

/// Where distributions put plugins of others.
const PLUGINS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];
/// How long one of them may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Directories in which plugins, podplumb's and others', keep their state. A lab's node has its own.
const STATE: [&str; 2] = ["/var/lib/cni", plugins::record::DIRECTORY];

impl Site {
    /// Calls the plugins of a pod's network, in its node.
    pub(super) fn attach(&mut self, piece: &Piece, command: Command) -> Result<()> {
        let Part::Cni { node, conflist } = &piece.part else { return Ok(()) };
        let failed = |failures: String| Error::Cni { piece: piece.to_string(), failures };
        let network = Network::parse(conflist.as_bytes()).map_err(|error| failed(error.to_string()))?;
        let container = ContainerId::new(piece.machine.clone()).map_err(|error| failed(error.to_string()))?;
        let ifname = IfName::new("eth0").expect("a name");
        let key = AttachmentKey { network: network.name.clone(), container, ifname };
        let state = self.state().map_err(Error::io(piece.to_string()))?.join(node);
        let (Some(host), Some(pod)) = (self.rooms.get(node), self.rooms.get(&piece.machine)) else {
            return Ok(());
        };
        let attachment =
            Attachment { key, netns: Some(self.path_of(piece, pod)), args: None, capability_args: None };
        let runner = Runner {
            path: PLUGINS.map(PathBuf::from).to_vec(),
            cache: Cache::at("/var/lib/cni/results"),
            lock_dir: "/var/lib/cni/locks".into(),
            own: plugins::select,
            limit: LIMIT,
            netns_override: false,
        };
        let work = || match command {
            Command::Add => runner.add(&network, &attachment).map(drop),
            _ => runner.del(Some(&network), &attachment),
        };
        let called = in_node(&host.netns, &state, work).map_err(Error::io(piece.to_string()))?;
        called.map_err(|failures| {
            let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
            failed(failures.join("; "))
        })
    }

    /// Where nodes keep their state.
    fn state(&mut self) -> std::io::Result<PathBuf> {
        if let Some(directory) = &self.directory {
            return Ok(directory.join("node"));
        }
        if self.state.is_none() {
            self.state = Some(tempfile::Builder::new().prefix("podplumb-lab-").tempdir()?);
        }
        Ok(self.state.as_ref().map(|state| state.path().to_owned()).unwrap_or_default())
    }

    fn path_of(&self, piece: &Piece, pod: &Room) -> PathBuf {
        match &self.directory {
            Some(directory) => pin(directory, &piece.machine),
            None => format!("/proc/{}/fd/{}", std::process::id(), pod.netns.as_fd().as_raw_fd()).into(),
        }
    }
}

/// Runs `work` in a node: in its namespace, and with its own state in place of the machine's.
fn in_node<T: Send>(netns: &sys::NetNs, state: &Path, work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    MountNs::run_in_new(|| {
        for path in STATE.map(Path::new) {
            let own = state.join(path.file_name().unwrap_or_default());
            std::fs::create_dir_all(&own)?;
            make_mount_point(path)?;
            rustix::mount::mount_bind(&own, path)?;
        }
        let inside = netns.enter()?;
        let done = work();
        drop(inside);
        Ok(done)
    })
}

/// A directory at this path. Where the machine has none, it is made in a tmpfs over its parent, which only this thread sees.
fn make_mount_point(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if path.starts_with("/run/podplumb") {
        // podplumb's own, and gone with the boot. The pods' namespaces are pinned beside it and have to be seen.
        return std::fs::create_dir_all(path);
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    if !parent.is_dir() {
        make_mount_point(parent)?;
    }
    mount_tmpfs(parent)?;
    std::fs::create_dir(path)
}

fn mount_tmpfs(path: &Path) -> std::io::Result<()> {
    Ok(rustix::mount::mount("podplumb-lab", path, "tmpfs", MountFlags::empty(), Some(c"mode=0755"))?)
}
