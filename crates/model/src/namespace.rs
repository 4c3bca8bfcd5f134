//! Network namespaces and what keeps them alive.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::holder::Holder;
use crate::ids::{IfIndex, NsId, NsInode, Nsid};
use crate::link::Link;
use crate::stack::Stack;
use crate::time::Timestamp;

/// One network namespace, with everything seen in it and everyone seen to hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Namespace {
    /// The namespace that the observer ran in: the node's own.
    #[serde(default)]
    pub host: bool,
    /// nsfs inode; `None` when only its nsid is known (nobody visible holds it by name or process).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<NsInode>,
    /// Identity that survives reuse; `None` on kernels without `NS_GET_ID` and for unreachable namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ns_id: Option<NsId>,
    /// Its number as seen from the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nsid: Option<Nsid>,
    /// Mounts that pin it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<Pin>,
    /// Processes (and threads that left their process's namespace) in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<Task>,
    /// Open descriptors that refer to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub descriptors: Vec<Descriptor>,
    /// Others that hold it: what descriptors other than its own lead to, and what a close look found inside and around it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
    /// Sockets in it; `None` where nobody had to look, or nobody could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sockets: Option<Sockets>,
    /// Packets that its kernel sent on its own account (IPv6 router solicitations and multicast listener reports), which
    /// even an abandoned namespace does. `None` where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub housekeeping_packets: Option<u64>,
    /// Interfaces, with addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// For veths that lead neither to the host nor to this namespace itself: the namespace of the other end, where somebody looked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<IfIndex, NsInode>,
    /// What its network stack does with packets; `None` for the host's (that is [`Snapshot::stack`](crate::Snapshot::stack)), where nobody
    /// looked, or nobody could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<Box<Stack>>,
    /// Whether `links` could be read.
    pub readable: bool,
}

impl Namespace {
    /// Whether a task is in it.
    pub fn has_tasks(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// A path that leads to it: a pin in the observer's mount namespace, or a process's `/proc/PID/ns/net`.
    pub fn path(&self) -> Option<PathBuf> {
        let pin = self.own_pins().next().map(|pin| pin.path.clone());
        pin.or_else(|| self.tasks.first().map(Task::netns_path))
    }

    /// Pins in the observer's own mount namespace.
    pub fn own_pins(&self) -> impl Iterator<Item = &Pin> {
        self.pins.iter().filter(|pin| pin.seen_by.is_none())
    }

    /// The link that has this name.
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// Whether `path` is one of its pins.
    pub fn is_pinned_at(&self, path: &Path) -> bool {
        self.pins.iter().any(|pin| run_path(&pin.path) == run_path(path))
    }

    /// What to call it where there is room for one name only. A pin in another mount namespace is a path of that, not of here.
    pub fn label(&self) -> String {
        if self.host {
            return "host".into();
        }
        match (self.own_pins().next(), self.inode, self.nsid) {
            (Some(pin), _, _) => pin.path.display().to_string(),
            (None, Some(inode), _) => format!("net:[{inode}]"),
            (None, None, Some(nsid)) => format!("nsid {nsid}"),
            (None, None, None) => "unnamed namespace".into(),
        }
    }
}

/// The path with `/var/run` written as `/run`, which it is wherever CNI runs.
pub fn run_path(path: &Path) -> PathBuf {
    match path.strip_prefix("/var/run") {
        Ok(rest) => Path::new("/run").join(rest),
        Err(_) => path.to_owned(),
    }
}

/// A bind mount that keeps a namespace alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Mount point, as seen inside its mount namespace.
    pub path: PathBuf,
    /// A process of another mount namespace that has it; `None`: the mount is in the observer's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_by: Option<Task>,
    /// When it was pinned (nsfs ctime).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// A process, or one thread of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Process id in the observer's pid namespace.
    pub pid: u32,
    /// Thread id where only this thread is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// `comm`.
    pub command: String,
}

impl Task {
    /// Where procfs links the task's network namespace.
    pub fn netns_path(&self) -> PathBuf {
        match self.tid {
            Some(tid) => format!("/proc/{}/task/{tid}/ns/net", self.pid).into(),
            None => format!("/proc/{}/ns/net", self.pid).into(),
        }
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.tid {
            Some(tid) => write!(f, "{} (pid {}, thread {tid})", self.command, self.pid),
            None => write!(f, "{} (pid {})", self.command, self.pid),
        }
    }
}

/// An open descriptor that refers to a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Who has it.
    pub task: Task,
    /// Its number there.
    pub fd: u32,
}

/// Sockets that live in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sockets {
    /// All that hold a reference on the namespace (`sockets: used` of /proc/net/sockstat).
    pub total: u32,
    /// Of these, TCP connections that no process has any more (they end by themselves within minutes).
    pub tcp_orphans: u32,
}

impl Sockets {
    /// Sockets that some process, message or mount still has.
    pub fn held(self) -> u32 {
        self.total.saturating_sub(self.tcp_orphans)
    }
}

/// Whether all network namespaces of the machine were found, by the kernel's own list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Enumeration {
    /// The list was read.
    Walked {
        /// How many are on it that somebody holds.
        listed: u64,
        /// How many of these nothing else had led to.
        only_listed: u64,
    },
    /// It could not be read: there may be namespaces that nothing leads to.
    NotWalked {
        /// Why.
        why: String,
    },
}

/// A file where runtimes pin namespaces that pins nothing: left when a pin was unmounted but not removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaleFile {
    /// The file.
    pub path: PathBuf,
    /// When it was last changed.
    pub since: Timestamp,
    /// Its size in bytes: runtimes leave empty files, so one with content is somebody else's.
    pub size_bytes: u64,
    /// Inode, compared again before it is removed.
    pub inode: u64,
}
