//! Who keeps a network namespace, or the host's end of a veth, alive.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::ContainerId;
use crate::namespace::Task;
use crate::time::Timestamp;

/// A process that has something open, which only a close look finds out about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeper {
    /// The process.
    pub task: Task,
    /// The container that its cgroup names, whether or not a runtime lists that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerId>,
}

/// One thing that keeps a namespace or a veth alive, or seems to: each of the ways that Linux has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Holder {
    /// A process lives in it.
    Process {
        /// The process.
        task: Task,
    },
    /// A process lives in it that waits in the kernel and cannot be killed now (state D).
    Uninterruptible {
        /// The process.
        task: Task,
    },
    /// One thread called `setns()`; its process lives elsewhere. `ip netns pids` and lsns do not see it.
    Thread {
        /// The thread.
        task: Task,
    },
    /// A thread lives in it whose process seems to be a zombie: the main thread ended, this one did not.
    LastThread {
        /// The thread.
        task: Task,
    },
    /// A zombie. It holds nothing, though it is still listed.
    Zombie {
        /// The process.
        task: Task,
    },
    /// An open descriptor of the namespace.
    NamespaceFd {
        /// Who has it.
        keeper: Keeper,
        /// Its number there.
        fd: u32,
    },
    /// The same, opened with `O_PATH`: it cannot be used to enter, but holds as well.
    PathFd {
        /// Who has it.
        keeper: Keeper,
        /// Its number there.
        fd: u32,
    },
    /// A mount that is attached nowhere: made by `open_tree()`, or unmounted while somebody had it open.
    DetachedMount {
        /// Who has it.
        keeper: Keeper,
        /// Its number there.
        fd: u32,
    },
    /// A socket that was made inside, in the hands of a process that lives elsewhere.
    SocketFd {
        /// Who has it.
        keeper: Keeper,
        /// Its number there.
        fd: u32,
        /// Its family and type: `TCP`, `UDP over IPv6`, `netlink`.
        what: String,
    },
    /// A tun or tap device's descriptor, opened inside.
    TunFd {
        /// Who has it.
        keeper: Keeper,
        /// Its number there.
        fd: u32,
    },
    /// An open file of `/proc/PID/net`. It holds though the process of that number is long gone.
    ProcFile {
        /// Who has it.
        keeper: Keeper,
        /// Its number there.
        fd: u32,
        /// The file, by the name that it was opened by.
        path: PathBuf,
    },
    /// A descriptor registered with io_uring; its number may be closed.
    IoUring {
        /// Who has the ring.
        keeper: Keeper,
        /// The ring's number there.
        fd: u32,
        /// The registered file, as the kernel tells it.
        file: String,
    },
    /// A descriptor in a message that nobody has received yet (`SCM_RIGHTS`).
    Message {
        /// Who has the socket in whose queue it is.
        keeper: Keeper,
        /// The socket's number there.
        fd: u32,
        /// What the message carries, as far as it can be seen.
        carries: String,
    },
    /// A mount in the observer's mount namespace.
    Pin {
        /// Mount point.
        path: PathBuf,
        /// Since when.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
    },
    /// A mount in another mount namespace.
    PinElsewhere {
        /// Mount point there.
        path: PathBuf,
        /// A process that lives there.
        seen_by: Task,
    },
    /// A mount in a mount namespace in which nobody lives, and which only a descriptor holds.
    PinInFd {
        /// Mount point there.
        path: PathBuf,
        /// Who has the mount namespace open.
        keeper: Keeper,
        /// Its number there.
        fd: u32,
    },
    /// A TCP connection whose process is gone; the kernel still tries to end it in an orderly way.
    TcpOrphan {
        /// The connection.
        connection: TcpConnection,
    },
    /// Sockets that were closed, but whose packets still wait to be sent.
    Packets {
        /// The interface, inside, in whose queue they are.
        link: String,
        /// How many wait.
        packets: u32,
    },
    /// Nobody: both ends of the veth are on the host, so no namespace takes it along.
    HostPair {
        /// One end.
        link: String,
        /// The other.
        peer: String,
    },
    /// The other end was moved to a namespace that is not its container's.
    PeerElsewhere {
        /// The host's end.
        link: String,
        /// The namespace that the other end is in.
        found: String,
        /// The one in which it was made.
        made: String,
    },
    /// A plain file where pins are: it pins nothing.
    StaleFile {
        /// The file.
        path: PathBuf,
    },
    /// Something that could not be seen.
    Unseen {
        /// What is known about it.
        why: String,
    },
}

impl Holder {
    /// The kind's name, as in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Holder::Process { .. } => "process",
            Holder::Uninterruptible { .. } => "uninterruptible",
            Holder::Thread { .. } => "thread",
            Holder::LastThread { .. } => "last-thread",
            Holder::Zombie { .. } => "zombie",
            Holder::NamespaceFd { .. } => "namespace-fd",
            Holder::PathFd { .. } => "path-fd",
            Holder::DetachedMount { .. } => "detached-mount",
            Holder::SocketFd { .. } => "socket-fd",
            Holder::TunFd { .. } => "tun-fd",
            Holder::ProcFile { .. } => "proc-file",
            Holder::IoUring { .. } => "io-uring",
            Holder::Message { .. } => "message",
            Holder::Pin { .. } => "pin",
            Holder::PinElsewhere { .. } => "pin-elsewhere",
            Holder::PinInFd { .. } => "pin-in-fd",
            Holder::TcpOrphan { .. } => "tcp-orphan",
            Holder::Packets { .. } => "packets",
            Holder::HostPair { .. } => "host-pair",
            Holder::PeerElsewhere { .. } => "peer-elsewhere",
            Holder::StaleFile { .. } => "stale-file",
            Holder::Unseen { .. } => "unseen",
        }
    }

    /// The process that has it open, and under which number.
    pub fn descriptor(&self) -> Option<(&Keeper, u32)> {
        match self {
            Holder::NamespaceFd { keeper, fd }
            | Holder::PathFd { keeper, fd }
            | Holder::DetachedMount { keeper, fd }
            | Holder::SocketFd { keeper, fd, .. }
            | Holder::TunFd { keeper, fd }
            | Holder::ProcFile { keeper, fd, .. }
            | Holder::IoUring { keeper, fd, .. }
            | Holder::Message { keeper, fd, .. }
            | Holder::PinInFd { keeper, fd, .. } => Some((keeper, *fd)),
            _ => None,
        }
    }

    /// The task that it is, or that has it.
    pub fn task(&self) -> Option<&Task> {
        match self {
            Holder::Process { task }
            | Holder::Uninterruptible { task }
            | Holder::Thread { task }
            | Holder::LastThread { task }
            | Holder::Zombie { task } => Some(task),
            Holder::PinElsewhere { seen_by, .. } => Some(seen_by),
            _ => self.descriptor().map(|(keeper, _)| &keeper.task),
        }
    }
}

/// A TCP connection, as sock_diag tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpConnection {
    /// Its own end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// State.
    pub state: TcpState,
    /// What the kernel waits for with it.
    pub timer: TcpTimer,
    /// In how many milliseconds that ends.
    pub expires_ms: u32,
    /// How often the kernel has already repeated itself.
    pub retransmits: u8,
    /// The present wait between two attempts, in milliseconds.
    pub rto_ms: u32,
    /// Bytes that are not acknowledged yet.
    pub queued_bytes: u32,
    /// The kernel's number for the socket, never reused within a boot.
    pub cookie: u64,
}

/// States of a connection that nobody has any more (include/net/tcp_states.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcpState {
    /// Its own FIN is not acknowledged.
    FinWait1,
    /// The other end has not closed.
    FinWait2,
    /// Both closed at once.
    Closing,
    /// The last acknowledgement is missing.
    LastAck,
    /// Another state, by the kernel's number.
    Other(u8),
}

impl TcpState {
    /// From the kernel's number.
    pub fn from_number(number: u8) -> Self {
        match number {
            4 => TcpState::FinWait1,
            5 => TcpState::FinWait2,
            9 => TcpState::LastAck,
            11 => TcpState::Closing,
            other => TcpState::Other(other),
        }
    }
}

impl std::fmt::Display for TcpState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TcpState::FinWait1 => f.pad("FIN-WAIT-1"),
            TcpState::FinWait2 => f.pad("FIN-WAIT-2"),
            TcpState::Closing => f.pad("CLOSING"),
            TcpState::LastAck => f.pad("LAST-ACK"),
            TcpState::Other(number) => f.pad(&format!("TCP state {number}")),
        }
    }
}

/// A connection's timer (`idiag_timer`, net/ipv4/inet_diag.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcpTimer {
    /// None runs.
    Off,
    /// What was sent is sent again.
    Retransmit,
    /// The connection ends.
    Ending,
    /// The other end's window is full: it is asked whether there is room.
    WindowProbe,
}

impl TcpTimer {
    /// From the kernel's number.
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => TcpTimer::Retransmit,
            2 | 3 => TcpTimer::Ending,
            4 => TcpTimer::WindowProbe,
            _ => TcpTimer::Off,
        }
    }
}
