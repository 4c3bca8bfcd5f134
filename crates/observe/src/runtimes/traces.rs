//! Runtimes that are stopped: they left state, and will come back to it.

use std::path::Path;

use model::{Runtime, RuntimeKind};

/// Directories that a runtime fills as soon as it runs containers. An installed package alone makes none of them, or leaves
/// them empty.
const TRACES: [(RuntimeKind, &str); 8] = [
    (RuntimeKind::Containerd, "/var/lib/containerd/io.containerd.metadata.v1.bolt"),
    (RuntimeKind::Containerd, "/run/containerd/io.containerd.runtime.v2.task"),
    (RuntimeKind::Containerd, "/var/lib/rancher/k3s/agent/containerd/io.containerd.metadata.v1.bolt"),
    (RuntimeKind::Docker, "/var/lib/docker/containers"),
    (RuntimeKind::Docker, "/run/docker/runtime-runc"),
    (RuntimeKind::CriO, "/var/lib/crio"),
    (RuntimeKind::CriO, "/run/crio"),
    (RuntimeKind::Podman, "/run/libpod"),
];

/// Adds a silent runtime for each kind that left traces and of which no socket was found.
pub(super) fn add_silent(runtimes: &mut Vec<Runtime>) {
    for (kind, directory) in TRACES {
        // A moved socket that the user named stands for its kind; `--cri` may name any of them.
        let is_asked = |runtime: &Runtime| runtime.kind == kind || runtime.kind == RuntimeKind::Cri;
        if !runtimes.iter().any(is_asked) && has_entries(Path::new(directory)) {
            let why = "it left state here, but no socket of it was found".to_owned();
            runtimes.push(super::silent(kind, directory.into(), why));
        }
    }
}

fn has_entries(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}
