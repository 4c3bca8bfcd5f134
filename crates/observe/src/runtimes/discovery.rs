//! Runtimes that listen elsewhere than in the usual places, found by their processes.
//!
//! A runtime that is not asked cannot save its containers: one whose socket was moved would otherwise be overlooked on a node where
//! another one answers. Only processes of our own mount namespace count. A runtime in another one is another node's
//! (kind, Docker in Docker), and its sockets are not at the same paths here.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use model::{Runtime, RuntimeKind};

/// Daemons by their `comm`, and how the socket that matters ends. They listen on others too (shims, metrics, ttrpc).
const DAEMONS: [(&str, RuntimeKind, &str); 4] = [
    ("containerd", RuntimeKind::Containerd, "containerd.sock"),
    ("crio", RuntimeKind::CriO, "crio.sock"),
    ("cri-dockerd", RuntimeKind::Cri, "cri-dockerd.sock"),
    ("dockerd", RuntimeKind::Docker, "docker.sock"),
];

/// Others that wire containers by CNI, and that podplumb cannot ask yet.
const UNASKED: [&str; 2] = ["buildkitd", "nomad"];

/// Those of [`UNASKED`] that run here: what no runtime lists may be theirs.
pub(super) fn unasked() -> Vec<Runtime> {
    let running = processes().into_iter().filter(|(_, comm)| UNASKED.contains(&comm.as_str()));
    let silent = |(pid, comm): (u32, String)| {
        let why = format!("{comm} runs here, and podplumb cannot ask it yet");
        super::silent(RuntimeKind::Other, format!("/proc/{pid}").into(), why)
    };
    running.map(silent).collect()
}

/// The sockets on which daemons listen.
pub(super) fn sockets() -> Vec<(RuntimeKind, PathBuf)> {
    let mut found = Vec::new();
    for (pid, comm) in processes() {
        let Some((_, kind, ending)) = DAEMONS.iter().find(|(name, ..)| *name == comm) else { continue };
        let listening = listening(pid).into_iter().filter(|path| path.to_string_lossy().ends_with(ending));
        found.extend(listening.map(|path| (*kind, path)));
    }
    found
}

/// Processes of our own mount namespace that matter, with their `comm`.
fn processes() -> Vec<(u32, String)> {
    let Ok(own) = std::fs::metadata("/proc/self/ns/mnt").map(|stat| stat.ino()) else { return Vec::new() };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let matters = |comm: &str| UNASKED.contains(&comm) || DAEMONS.iter().any(|(name, ..)| *name == comm);
    let is_ours =
        |pid: u32| std::fs::metadata(format!("/proc/{pid}/ns/mnt")).is_ok_and(|stat| stat.ino() == own);
    pids.filter_map(|pid| {
        Some((pid, std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned()))
    })
    .filter(|(pid, comm)| matters(comm) && is_ours(*pid))
    .collect()
}

/// The paths of the unix sockets on which a process listens.
fn listening(pid: u32) -> Vec<PathBuf> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    let by_inode: HashMap<&str, &str> = table.lines().filter_map(listener).collect();
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let paths = links.filter_map(|link| {
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
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
