//! Runtimes that are stopped: they left state, and will come back to it.

use std::path::{Path, PathBuf};

use model::{Runtime, RuntimeKind};

/// Directories that a runtime fills as soon as it runs containers, and the socket on which the runtime that fills them listens.
const TRACES: [(RuntimeKind, &str, &str); 9] = [
    (RuntimeKind::Containerd, "/var/lib/containerd/io.containerd.metadata.v1.bolt", CONTAINERD),
    (RuntimeKind::Containerd, "/run/containerd/io.containerd.runtime.v2.task", CONTAINERD),
    (RuntimeKind::Containerd, "/var/lib/rancher/k3s/agent/containerd/io.containerd.metadata.v1.bolt", K3S),
    (RuntimeKind::Docker, "/var/lib/docker/containers", DOCKER),
    (RuntimeKind::Docker, "/run/docker/runtime-runc", DOCKER),
    (RuntimeKind::CriO, "/var/lib/crio", CRIO),
    (RuntimeKind::CriO, "/run/crio", CRIO),
    (RuntimeKind::Cri, "/var/lib/cri-dockerd", CRI_DOCKERD),
    (RuntimeKind::Podman, LIBPOD, "/run/podman/podman.sock"),
];

const LIBPOD: &str = "/run/libpod";
const CONTAINERD: &str = "/run/containerd/containerd.sock";
const K3S: &str = "/run/k3s/containerd/containerd.sock";
const DOCKER: &str = "/run/docker.sock";
const CRI_DOCKERD: &str = "/run/cri-dockerd.sock";
const CRIO: &str = "/run/crio/crio.sock";

/// Adds a silent runtime for each that left traces and on whose socket no daemon listens. Podman has no daemon, so its store on disk is
/// as good as an answer; CRI-O's entries in it are not, since it also wires what is not in there yet.
pub(super) fn add_silent(runtimes: &mut Vec<Runtime>, stores: &[Runtime]) {
    let moved = docker_data();
    let moved = moved.iter().map(|directory| (RuntimeKind::Docker, directory.as_str(), DOCKER));
    for (kind, directory, socket) in TRACES.into_iter().chain(moved) {
        let is_asked = |runtime: &Runtime| stands_for(runtime.kind, &runtime.endpoint, kind, socket);
        let in_store = |store: &Runtime| kind == RuntimeKind::Podman && store.kind == kind && !store.foreign;
        let is_known = runtimes.iter().any(is_asked) || stores.iter().any(in_store);
        if !is_known && has_entries(Path::new(directory)) {
            let why = "it left state here, but nobody listens for it".to_owned();
            runtimes.push(super::silent(kind, directory.into(), why));
        }
    }
}

/// Where Docker's configuration says that its containers are.
fn docker_data() -> Option<String> {
    let text = std::fs::read("/etc/docker/daemon.json").ok()?;
    let configuration: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let root = configuration.get("data-root").or_else(|| configuration.get("graph"))?;
    Some(format!("{}/containers", root.as_str()?))
}

/// Whether Podman worked here since the node started.
pub(super) fn of_podman() -> bool {
    has_entries(Path::new(LIBPOD))
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
