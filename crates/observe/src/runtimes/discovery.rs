//! Runtimes that listen elsewhere than in the usual places, found by their processes.
//!
//! A runtime that is not asked cannot save its containers: one whose socket was moved would otherwise be overlooked on a node where
//! another one answers. Only processes of our own mount namespace count. A runtime in another one is another node's
//! (kind, Docker in Docker), and its sockets are not at the same paths here.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use model::{Runtime, RuntimeKind};

use crate::processes;

/// Daemons by their `comm`, and how the socket that matters ends. They listen on others too (shims, metrics, ttrpc).
const DAEMONS: [(&str, RuntimeKind, &str); 5] = [
    ("containerd", RuntimeKind::Containerd, "containerd.sock"),
    ("crio", RuntimeKind::CriO, "crio.sock"),
    ("cri-dockerd", RuntimeKind::Cri, "cri-dockerd.sock"),
    ("dockerd", RuntimeKind::Docker, "docker.sock"),
    ("podman", RuntimeKind::Podman, "podman.sock"),
];

/// Those that listen in place of a daemon that does not run, and start it for whoever connects (systemd.socket(5)); the second is
/// systemd-socket-activate, cut to the kernel's 15 bytes.
const ACTIVATORS: [&str; 2] = ["systemd", "systemd-socket-"];

/// Others that wire containers by CNI, and that podplumb cannot ask yet.
const UNASKED: [&str; 2] = ["buildkitd", "nomad"];

/// A process that belongs to some runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) comm: String,
    /// It is in our own mount namespace.
    pub(super) here: bool,
}

/// All processes that matter, in one walk.
pub(super) fn scan() -> Vec<Process> {
    let own = std::fs::metadata("/proc/self/ns/mnt").map(|stat| stat.ino()).ok();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let matters = |comm: &str| {
        comm == super::store::KEEPER
            || ACTIVATORS.contains(&comm)
            || UNASKED.contains(&comm)
            || DAEMONS.iter().any(|(name, ..)| *name == comm)
    };
    pids.filter_map(|pid| {
        let comm = processes::comm(format!("/proc/{pid}")).filter(|comm| matters(comm))?;
        let mount_namespace = std::fs::metadata(format!("/proc/{pid}/ns/mnt")).ok().map(|stat| stat.ino());
        Some(Process { pid, comm, here: own.is_some() && mount_namespace == own })
    })
    .collect()
}

/// Those of [`UNASKED`] that run here: what no runtime lists may be theirs.
pub(super) fn unasked(processes: &[Process]) -> Vec<Runtime> {
    let running = processes.iter().filter(|process| process.here && UNASKED.contains(&process.comm.as_str()));
    let silent = |process: &Process| {
        let why = format!("{} runs here, and podplumb cannot ask it yet", process.comm);
        super::silent(RuntimeKind::Other, format!("/proc/{}", process.pid).into(), why)
    };
    running.map(silent).collect()
}

/// The sockets on which daemons listen.
pub(super) fn sockets(processes: &[Process]) -> Vec<(RuntimeKind, PathBuf)> {
    let mut found = Vec::new();
    for process in processes.iter().filter(|process| process.here) {
        let Some((_, kind, ending)) = DAEMONS.iter().find(|(name, ..)| *name == process.comm) else {
            continue;
        };
        let listening = listening(process.pid).into_iter();
        let listening = listening.filter(|path| path.to_string_lossy().ends_with(ending));
        found.extend(listening.map(|path| (*kind, path)));
    }
    found
}

/// Whether nobody but systemd listens on a socket: to connect would start a daemon that somebody stopped, or that never ran.
pub(super) fn is_dormant(socket: &Path, processes: &[Process]) -> bool {
    let table = std::fs::read_to_string("/proc/thread-self/net/unix").unwrap_or_default();
    let real = resolved(socket);
    // Directories may be links (/var/run is /run), the file itself is what was bound.
    let is_named_alike = |path: &Path| path.file_name() == real.file_name();
    let same = |path: &str| {
        let path = Path::new(path);
        path == socket || is_named_alike(path) && resolved(path) == real
    };
    let listeners = table.lines().filter_map(listener).filter(|(_, path)| same(path));
    let inodes: HashSet<String> = listeners.map(|(inode, _)| format!("socket:[{inode}]")).collect();
    let (activators, daemons): (Vec<&Process>, Vec<&Process>) = processes
        .iter()
        .filter(|process| process.comm != super::store::KEEPER)
        .partition(|process| ACTIVATORS.contains(&process.comm.as_str()));
    let has = |process: &&Process| descriptors(process.pid).any(|link| inodes.contains(&link));
    // In this order: a daemon has few descriptors beside systemd, and its own socket among the first.
    !inodes.is_empty() && !daemons.iter().any(has) && activators.iter().any(has)
}

/// A path without links (/var/run is /run).
fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn descriptors(pid: u32) -> impl Iterator<Item = String> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()?.into_os_string().into_string().ok())
}

/// The paths of the unix sockets on which a process listens.
fn listening(pid: u32) -> Vec<PathBuf> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    let by_inode: HashMap<&str, &str> = table.lines().filter_map(listener).collect();
    let paths = descriptors(pid).filter_map(|link| {
        let inode = link.strip_prefix("socket:[")?.strip_suffix(']')?;
        by_inode.get(inode).map(PathBuf::from)
    });
    paths.collect()
}

/// Inode and path of a line of /proc/net/unix that is a listening socket with a path: `Num RefCount Protocol Flags Type St Inode
/// Path`, where flag 0x10000 (`__SO_ACCEPTCON`) says that it listens.
fn listener(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.split_ascii_whitespace();
    let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    let inode = fields.nth(2)?;
    let path = fields.next().filter(|path| path.starts_with('/'))?;
    (flags & 0x1_0000 != 0).then_some((inode, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_with_a_path_count() {
        let listens =
            "0000000000000000: 00000002 00000000 00010000 0001 01 23456 /run/containerd/containerd.sock";
        assert_eq!(listener(listens), Some(("23456", "/run/containerd/containerd.sock")));
        for other in [
            "Num       RefCount Protocol Flags    Type St Inode Path",
            "0000000000000000: 00000003 00000000 00000000 0001 03 23457 /run/containerd/containerd.sock",
            "0000000000000000: 00000002 00000000 00010000 0001 01 23458 @abstract",
            "0000000000000000: 00000002 00000000 00010000 0001 01 23459",
        ] {
            assert_eq!(listener(other), None, "{other}");
        }
    }
}
