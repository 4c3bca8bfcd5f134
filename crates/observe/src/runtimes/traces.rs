//! Runtimes that are stopped: they left state, and will come back to it.

use std::path::{Path, PathBuf};

use model::{Runtime, RuntimeKind};

/// Directories that a runtime fills as soon as it runs containers, and the socket on which the runtime that fills them listens.
const TRACES: [(RuntimeKind, &str, &str); 8] = [
    (RuntimeKind::Containerd, "/var/lib/containerd/io.containerd.metadata.v1.bolt", CONTAINERD),
    (RuntimeKind::Containerd, "/run/containerd/io.containerd.runtime.v2.task", CONTAINERD),
    (RuntimeKind::Containerd, "/var/lib/rancher/k3s/agent/containerd/io.containerd.metadata.v1.bolt", K3S),
    (RuntimeKind::Docker, "/var/lib/docker/containers", DOCKER),
    (RuntimeKind::Docker, "/run/docker/runtime-runc", DOCKER),
    (RuntimeKind::CriO, "/var/lib/crio", CRIO),
    (RuntimeKind::CriO, "/run/crio", CRIO),
    (RuntimeKind::Podman, "/run/libpod", "/run/podman/podman.sock"),
];

const CONTAINERD: &str = "/run/containerd/containerd.sock";
const K3S: &str = "/run/k3s/containerd/containerd.sock";
const DOCKER: &str = "/run/docker.sock";
const CRIO: &str = "/run/crio/crio.sock";

/// Adds a silent runtime for each that left traces and of which no socket was found.
pub(super) fn add_silent(runtimes: &mut Vec<Runtime>) {
    for (kind, directory, socket) in TRACES {
        let is_asked = |runtime: &Runtime| stands_for(runtime.kind, &runtime.endpoint, kind, socket);
        if !runtimes.iter().any(is_asked) && has_entries(Path::new(directory)) {
            let why = "it left state here, but no socket of it was found".to_owned();
            runtimes.push(super::silent(kind, directory.into(), why));
        }
    }
}

/// Whether the runtime at `endpoint` is the one that left the traces. At another one's usual place it is not, even if it is of the
/// same kind: a node whose containerd is stopped may have Docker's, or k3s's, which knows nothing of the first one's pods. At a place
/// of an administrator's choosing it is, if it speaks the same protocol.
fn stands_for(asked: RuntimeKind, endpoint: &Path, kind: RuntimeKind, socket: &str) -> bool {
    let endpoint = resolved(endpoint);
    if endpoint == resolved(Path::new(socket)) {
        return true;
    }
    let is_another = super::PLACES.iter().any(|(_, place)| resolved(Path::new(place)) == endpoint);
    let speaks_cri = matches!(kind, RuntimeKind::Containerd | RuntimeKind::CriO);
    !is_another && (asked == kind || asked == RuntimeKind::Cri && speaks_cri)
}

/// A path without links (/var/run is /run; podman-docker makes docker.sock a link to Podman's).
fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn has_entries(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use RuntimeKind::{Containerd, Cri, Docker};

    #[test]
    fn another_installation_that_answers_does_not_stand_for_a_stopped_one() {
        for (asked, endpoint, kind, socket, stands) in [
            (Containerd, CONTAINERD, Containerd, CONTAINERD, true),
            (Containerd, "/run/docker/containerd/containerd.sock", Containerd, CONTAINERD, false),
            (Containerd, K3S, Containerd, CONTAINERD, false),
            (Cri, "/run/cri-dockerd.sock", Containerd, CONTAINERD, false),
            (Containerd, "/nowhere/containerd.sock", Containerd, CONTAINERD, true),
            (Cri, "/nowhere/cri.sock", Containerd, CONTAINERD, true),
            (Cri, "/nowhere/cri.sock", Docker, DOCKER, false),
        ] {
            assert_eq!(
                stands_for(asked, Path::new(endpoint), kind, socket),
                stands,
                "{endpoint} for {socket}"
            );
        }
    }
}
