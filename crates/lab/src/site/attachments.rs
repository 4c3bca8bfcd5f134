//! Pods that CNI plugins wire, as a runtime on their node would have it done.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::cache::Cache;
use cni::{Attachment, AttachmentKey, Command, Network, Runner};
use model::{ContainerId, IfName};
use rustix::mount::{MountFlags, UnmountFlags};
use sys::MountNs;

use super::{Site, pin};
use crate::error::{Error, Result};
use crate::plan::{Part, Piece};

/// Where distributions put plugins of others.
const PLUGINS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];
/// How long one of them may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Directories in which plugins, podplumb's and others', keep their state, and reclaim what it removed. A lab's node has its own.
const STATE: [&str; 3] = ["/var/lib/cni", plugins::record::DIRECTORY, "/var/lib/podplumb"];
/// Where runtimes pin namespaces.
const PINS: &str = "/run/netns";

impl Site {
    /// Calls the plugins of a pod's network, in its node.
    ///
    /// A pod that ended may have no namespace any more, which DEL does without.
    pub(super) fn attach(&mut self, piece: &Piece, command: Command) -> Result<()> {
        let (Part::Cni { node, conflist } | Part::Remains { node, conflist, .. }) = &piece.part else {
            return Ok(());
        };
        let failed = |failures: String| Error::Cni { piece: piece.to_string(), failures };
        let network = Network::parse(conflist.as_bytes()).map_err(|error| failed(error.to_string()))?;
        let container = ContainerId::new(piece.machine.clone()).map_err(|error| failed(error.to_string()))?;
        let ifname = IfName::new("eth0").expect("a name");
        let key = AttachmentKey { network: network.name.clone(), container, ifname };
        let state = self.state_of(node).map_err(Error::io(piece.to_string()))?;
        let netns = self.path_of(&piece.machine).map_err(Error::io(piece.to_string()))?;
        let Some(host) = self.rooms.get(node) else { return Ok(()) };
        let attachment = Attachment { key, netns, args: None, capability_args: None };
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

    /// Where a node keeps its state.
    pub(super) fn state_of(&mut self, node: &str) -> std::io::Result<PathBuf> {
        Ok(self.home()?.join("node").join(node))
    }

    /// The lab's directory, or one that lives as long as this.
    fn home(&mut self) -> std::io::Result<PathBuf> {
        if let Some(directory) = &self.directory {
            return Ok(directory.clone());
        }
        if self.temporary.is_none() {
            self.temporary = Some(tempfile::Builder::new().prefix("podplumb-lab-").tempdir()?);
        }
        Ok(self.temporary.as_ref().map(|home| home.path().to_owned()).unwrap_or_default())
    }

    /// Where plugins find a pod's namespace. They remember it, so it leads there as long as the pod lives and nowhere afterwards: the
    /// number of a descriptor would soon be another's.
    fn path_of(&mut self, machine: &str) -> std::io::Result<Option<PathBuf>> {
        let Some(pod) = self.rooms.get(machine) else { return Ok(None) };
        let descriptor = format!("/proc/{}/fd/{}", std::process::id(), pod.netns.as_fd().as_raw_fd());
        let path = pin(&self.home()?, machine);
        if self.directory.is_none() {
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            match std::os::unix::fs::symlink(descriptor, &path) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(Some(path))
    }

    /// Takes a machine's namespace from where others find it.
    pub(super) fn unpin(&mut self, machine: &str) -> std::io::Result<()> {
        let path = match (&self.directory, &self.temporary) {
            (Some(directory), _) => pin(directory, machine),
            (None, Some(home)) => pin(home.path(), machine),
            (None, None) => return Ok(()),
        };
        // Of a pod that ended nothing is there; what stays mounted cannot be removed.
        let _ = rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Runs `work` in a node: in its namespace, and with its own state in place of the machine's.
pub(super) fn in_node<T: Send>(
    netns: &sys::NetNs,
    state: &Path,
    work: impl FnOnce() -> T + Send,
) -> std::io::Result<T> {
    MountNs::run_in_new(|| {
        put_in_place(state)?;
        let inside = netns.enter()?;
        let done = work();
        drop(inside);
        Ok(done)
    })
}

/// Moves the calling thread to where it sees a node's own state, for good.
pub(crate) fn move_into(state: &Path) -> std::io::Result<()> {
    // As the first `ip netns add` of a boot does. Who may not make it goes without.
    let _ = std::fs::create_dir(PINS);
    MountNs::move_into_new()?;
    put_in_place(state)
}

/// Has the calling thread, which is alone in its mount namespace, see a node's own state.
fn put_in_place(state: &Path) -> std::io::Result<()> {
    let pins = Path::new(PINS).is_dir().then_some(PINS);
    let paths = STATE.into_iter().chain(pins).map(Path::new);
    paths.clone().try_for_each(make_mount_point)?;
    for path in paths {
        let own = state.join(path.file_name().unwrap_or_default());
        std::fs::create_dir_all(&own)?;
        // Those that were there may be below a tmpfs by now.
        std::fs::create_dir_all(path)?;
        rustix::mount::mount_bind(&own, path)?;
    }
    Ok(())
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
