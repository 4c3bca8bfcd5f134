//! Why a probe got no answer, and who says so.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use rustix::io::Errno;
use serde::Serialize;

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Failure {
    /// Nothing came back.
    Silence {
        /// How long it was waited for.
        #[serde(serialize_with = "milliseconds", rename = "waited_ms")]
        waited: Duration,
    },
    /// Somebody on the way, or the destination, said that it goes no further (ICMP).
    Told {
        /// Who. The sender itself where its own neighbour does not answer.
        by: IpAddr,
        /// What.
        notice: Notice,
    },
    /// The destination refused the connection: nobody listens, or a firewall answers in its name.
    Refused,
    /// The connection was there and was broken off.
    Broken {
        /// Errno.
        errno: i32,
    },
    /// The sender's own kernel did not let it out: no route, a route that forbids, a firewall of its own, an interface that is down.
    Own {
        /// Errno.
        errno: i32,
    },
    /// It is larger than the sender's interface can send in one piece.
    TooLarge,
    /// Something answered, but not what was asked for.
    Nonsense {
        /// In which way.
        what: &'static str,
    },
    /// The probe itself could not be made, which says nothing about the network.
    Setup {
        /// What failed.
        what: &'static str,
        /// Errno.
        errno: i32,
    },
}

impl Failure {
    /// From a failed preparation.
    pub fn setup(what: &'static str) -> impl FnOnce(io::Error) -> Failure {
        move |error| Failure::Setup { what, errno: error.raw_os_error().unwrap_or(0) }
    }

    /// Whether something or somebody said no, so that waiting longer would say nothing more about now.
    pub fn is_definite(&self) -> bool {
        match self {
            Failure::Told { .. } | Failure::Refused | Failure::TooLarge => true,
            Failure::Own { errno } => matches!(
                Errno::from_raw_os_error(*errno),
                // A blackhole route is EINVAL, a prohibiting one EACCES, a firewall on the way out EPERM.
                Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::PERM | Errno::INVAL
            ),
            Failure::Silence { .. }
            | Failure::Broken { .. }
            | Failure::Nonsense { .. }
            | Failure::Setup { .. } => false,
        }
    }
}

impl Failure {
    /// In words, with names for the sender and for whoever said something.
    pub fn tell(&self, sender: &str, name: impl Fn(IpAddr) -> String) -> String {
        match self {
            Failure::Silence { waited } => format!("no answer in {}", short(*waited)),
            Failure::Told { by, notice } => format!("{} says: {notice}", name(*by)),
            Failure::Refused => "connection refused".to_owned(),
            Failure::Broken { errno } => format!("connection broken: {}", text(*errno)),
            Failure::Own { errno } => match Errno::from_raw_os_error(*errno) {
                Errno::NETUNREACH => format!("{sender} has no route there"),
                Errno::HOSTUNREACH => format!("{sender} has an unreachable route there"),
                Errno::INVAL => format!("{sender} has a blackhole route there"),
                Errno::ACCESS => format!("{sender} has a prohibiting route there"),
                Errno::PERM => format!("{sender}'s own firewall drops it"),
                _ => format!("{sender}'s own kernel says: {}", text(*errno)),
            },
            Failure::TooLarge => format!("larger than the MTU of {sender}'s interface"),
            Failure::Nonsense { what } => (*what).to_owned(),
            Failure::Setup { what, errno } => format!("cannot {what}: {}", text(*errno)),
        }
    }
}

fn text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tell("the sender", |by| by.to_string()))
    }
}

impl std::error::Error for Failure {}

/// What an ICMP or ICMPv6 error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "says", rename_all = "kebab-case")]
pub enum Notice {
    /// No route to the network.
    NetworkUnreachable,
    /// The host does not answer (ARP, neighbour discovery), or there is a route that says so.
    HostUnreachable,
    /// The host does not speak the protocol.
    ProtocolUnreachable,
    /// Nobody listens there, or a firewall says so.
    PortUnreachable,
    /// It is forbidden.
    Prohibited,
    /// The next link takes only packets up to this size; ICMP's "fragmentation needed", ICMPv6's "packet too big".
    TooBig {
        /// In bytes; 0: a router from before RFC 1191 that does not say.
        mtu_bytes: u32,
    },
    /// It went through too many routers: most likely a loop.
    TimeExceeded,
    /// Anything else.
    Other {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::NetworkUnreachable => write!(f, "network unreachable"),
            Notice::HostUnreachable => write!(f, "host unreachable"),
            Notice::ProtocolUnreachable => write!(f, "protocol unreachable"),
            Notice::PortUnreachable => write!(f, "port unreachable"),
            Notice::Prohibited => write!(f, "prohibited"),
            Notice::TooBig { mtu_bytes: 0 } => write!(f, "too big"),
            Notice::TooBig { mtu_bytes } => write!(f, "too big, {mtu_bytes} bytes at most"),
            Notice::TimeExceeded => write!(f, "time to live exceeded"),
            Notice::Other { kind, code } => write!(f, "ICMP type {kind}, code {code}"),
        }
    }
}

/// `5 s`, `300 ms`.
pub(crate) fn short(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
    }
}

fn milliseconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
