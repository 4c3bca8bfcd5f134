//! Container runtimes and what they list.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::attachment::PodName;
use crate::ids::ContainerId;
use crate::time::Timestamp;

/// A runtime that is configured on the node, or that left traces of being so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// Which.
    pub kind: RuntimeKind,
    /// Its socket, or the directory that shows that it works here.
    pub endpoint: PathBuf,
    /// Whether it answered.
    pub status: RuntimeStatus,
    /// Everything that it lists, in whatever state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<RuntimeObject>,
    /// A user's own, or one inside a container. What it lists is its own; that it does not list something says nothing, since the
    /// node's wiring is not made by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
}

/// Runtimes that podplumb asks, each by its own protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeKind {
    /// containerd: its CRI service and its own metadata, all of its namespaces.
    Containerd,
    /// CRI-O.
    CriO,
    /// Any other runtime with a CRI socket.
    Cri,
    /// Docker Engine.
    Docker,
    /// Podman: by its store on disk, and by its API, which is Docker's, where that is served.
    Podman,
    /// Something else that runs containers, which cannot be asked.
    Other,
}

impl std::fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            RuntimeKind::Containerd => "containerd",
            RuntimeKind::CriO => "CRI-O",
            RuntimeKind::Cri => "CRI",
            RuntimeKind::Docker => "Docker",
            RuntimeKind::Podman => "Podman",
            RuntimeKind::Other => "other",
        })
    }
}

/// Whether a runtime's silence about a container means anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum RuntimeStatus {
    /// It listed everything that it has.
    Answered {
        /// Its version, as it says it; empty where its list was read from disk.
        version: String,
    },
    /// It did not answer, or not completely: what it does not list may still be its own.
    Silent {
        /// Why.
        why: String,
    },
}

impl Runtime {
    /// Whether the list of objects is complete.
    pub fn answered(&self) -> bool {
        matches!(self.status, RuntimeStatus::Answered { .. })
    }

    /// Whether its list was read from disk: that shows what exists, not that a runtime runs.
    pub fn is_store(&self) -> bool {
        matches!(&self.status, RuntimeStatus::Answered { version } if version.is_empty())
    }
}

/// A sandbox or container that a runtime lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeObject {
    /// Full id.
    pub id: ContainerId,
    /// Sandbox or container.
    pub kind: RuntimeObjectKind,
    /// The runtime's own partition (`k8s.io`, `moby`, `default`), where it has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Name, as the runtime shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The pod that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
    /// For a container: the sandbox whose namespaces it shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<ContainerId>,
    /// State in the runtime's words: `Ready`, `NotReady`, `running`, `exited`, …
    pub state: String,
    /// First process, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Where the runtime pinned its network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// Addresses that the runtime believes it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// When it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// What the kernel says against the runtime's word about it: a process that is not there, or not its own. A pid that is
    /// somebody else's is not in `pid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

/// What a runtime's id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeObjectKind {
    /// A pod's sandbox: the thing that owns the network namespace.
    Sandbox,
    /// A container.
    Container,
}
