//! Sockets of a network namespace, with who has them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::holder::Keeper;
use crate::ids::IfIndex;

/// A socket, as sock_diag tells it (include/uapi/linux/{inet_diag,packet_diag}.h).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// What it speaks.
    pub protocol: SocketProtocol,
    /// What it is doing.
    pub state: SocketState,
    /// Its own end; a raw socket has no port. `None` for packet and unix sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// The other end, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<SocketAddr>,
    /// An IPv6 socket that takes no IPv4 (`IPV6_V6ONLY`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub v6_only: bool,
    /// The interface that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<IfIndex>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    /// The IP protocol of a raw socket, the Ethernet type of a packet socket (3: all).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u16>,
    /// For a unix socket: what it is called, and with whom it is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unix: Option<UnixSocket>,
    /// Bytes that nobody has read yet; for a listening socket, connections that nobody has accepted yet.
    pub receive_queue: u32,
    /// Bytes that are not acknowledged yet; for a listening socket, how many connections may wait.
    pub send_queue: u32,
    /// The user who made it.
    pub uid: u32,
    /// Its inode, by which descriptors name it; 0: no process has it any more, or not yet.
    pub inode: u64,
    /// The kernel's number for the socket, never reused within a boot.
    pub cookie: u64,
    /// Processes of the namespace that have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Keeper>,
}

impl Socket {
    /// Whether it waits for whoever comes.
    pub fn is_listening(&self) -> bool {
        match self.protocol {
            SocketProtocol::Packet => true,
            SocketProtocol::Raw | SocketProtocol::Udp => self.state == SocketState::Unconnected,
            SocketProtocol::Tcp => self.state == SocketState::Listen,
            // One that takes datagrams does not listen; who wants to send it some needs its name.
            SocketProtocol::Unix => {
                let is_named = self.unix.as_ref().is_some_and(|unix| unix.name.is_some());
                self.state == SocketState::Listen || self.state == SocketState::Unconnected && is_named
            }
        }
    }

    /// Why no process of the namespace has it; `None` where one has.
    pub fn unowned(&self) -> Option<Unowned> {
        match (self.owners.is_empty(), self.inode, self.state) {
            (false, ..) => None,
            (true, _, SocketState::TimeWait | SocketState::NewSynReceived) => Some(Unowned::Kernel),
            // Accepted by nobody yet: it is the listening socket's.
            (true, 0, SocketState::Established | SocketState::SynReceived | SocketState::CloseWait) => {
                Some(Unowned::Kernel)
            }
            (true, 0, _) => Some(Unowned::Orphan),
            (true, ..) => Some(Unowned::Elsewhere),
        }
    }
}

/// What only unix sockets have (unix(7)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixSocket {
    /// What it carries.
    pub kind: UnixKind,
    /// What it is bound to; one that was accepted has the name of the one that listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<UnixName>,
    /// The socket that it is connected with, which may be of another namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<UnixPeer>,
}

/// What a unix socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum UnixKind {
    Stream,
    Datagram,
    SeqPacket,
}

/// What a unix socket is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnixName {
    /// A file, as the one who bound it named it: in that one's mount namespace.
    Path(String),
    /// A name in the network namespace, of any bytes.
    Abstract(String),
}

/// The other end of a unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixPeer {
    /// Its inode.
    pub inode: u64,
    /// What it is bound to, if it is of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<UnixName>,
    /// Processes of the namespace that have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Keeper>,
}

/// Why no process has a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unowned {
    /// The kernel keeps it for itself, or for whoever accepts it.
    Kernel,
    /// Whoever had it closed it, or died; the kernel still sends what is left.
    Orphan,
    /// Somebody outside of the namespace, or a message, has it.
    Elsewhere,
}

/// What a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum SocketProtocol {
    Tcp,
    Udp,
    Raw,
    Packet,
    Unix,
}

impl std::fmt::Display for SocketProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            SocketProtocol::Tcp => "tcp",
            SocketProtocol::Udp => "udp",
            SocketProtocol::Raw => "raw",
            SocketProtocol::Packet => "packet",
            SocketProtocol::Unix => "unix",
        })
    }
}

/// States of sockets (include/net/tcp_states.h), in the words of `ss`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "they are RFC 9293's")]
pub enum SocketState {
    Established,
    SynSent,
    SynReceived,
    FinWait1,
    FinWait2,
    TimeWait,
    /// Not connected: a UDP or raw socket that takes from everybody, a TCP socket that is bound and no more.
    Unconnected,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    /// A handshake that has not come to its end.
    NewSynReceived,
    /// Another, by the kernel's number.
    Other(u8),
}

impl SocketState {
    /// From the kernel's number.
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Unconnected,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            12 => Self::NewSynReceived,
            other => Self::Other(other),
        }
    }
}

impl std::fmt::Display for SocketState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Established => "ESTAB",
            Self::SynSent => "SYN-SENT",
            Self::SynReceived | Self::NewSynReceived => "SYN-RECV",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::TimeWait => "TIME-WAIT",
            Self::Unconnected => "UNCONN",
            Self::CloseWait => "CLOSE-WAIT",
            Self::LastAck => "LAST-ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
            Self::Other(_) => "OTHER",
        })
    }
}
